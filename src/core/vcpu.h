/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU as the rest of the house sees it: its state, the engine that runs it, and the
 * table of callbacks by which an engine asks the board for everything that is not CPU.
 *
 * Threads: struct vcpu belongs to its vCPU thread while run() is active; other threads may only
 * set bits in `request` (through vcpu_request). When the vCPU is stopped (run() has returned
 * and the thread waits) the holder of the board lock may read and write the state.
 */
#ifndef PVEMU_CORE_VCPU_H
#define PVEMU_CORE_VCPU_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/cpu.h"

struct bus;
struct mem;
struct vcpu;
struct cpu_model; /* cpu/x86/cpuid.h: the CPUID profile */

/* Bits of vcpu.request. An engine looks at the word at least at every backward or indirect
 * branch and whenever IF becomes 1. */
enum vcpu_request {
    VCPU_REQ_STOP = 1 << 0, /* return EXIT_KICK as soon as an instruction boundary is reached */
    VCPU_REQ_IRQ = 1 << 1,  /* ask irq_ack() when interrupts are enabled; the engine clears the
                               bit before asking */
    VCPU_REQ_NMI = 1 << 2,  /* set cpu.nmi_pending; cleared by the engine */
    VCPU_REQ_TLB_FLUSH = 1 << 3, /* guest-physical layout changed: drop every cached
                                    translation; cleared by the engine */
    VCPU_REQ_PV_FLUSH = 1 << 4,  /* a paravirtual guest's tables changed: pv->flush(), or drop
                                    every translation; cleared by the engine before that */
};

/* OUT imm8, AL to this port at CPL 0 is a hypercall on every engine, for those that cannot catch
 * VMCALL: a kernel patched for one of them can go on with another. */
enum { VCPU_HYPERCALL_PORT = 0x7e };

enum exit_kind {
    EXIT_KICK, /* VCPU_REQ_STOP was seen (the board clears it) */
    EXIT_HALT, /* HLT; rip is after it, cpu.halted is set; RFLAGS.IF tells whether it can ever
                  end */
    EXIT_SHUTDOWN, /* triple fault */
    EXIT_DEBUG,    /* breakpoint or single step asked by set_debug */
    EXIT_ERROR,    /* the engine cannot go on; exit.message says why */
};

/* Why EXIT_DEBUG: bits. */
enum vcpu_stop {
    VCPU_STOP_STEP = 1 << 0,  /* one instruction has been executed */
    VCPU_STOP_INT3 = 1 << 1,  /* rip is at an INT3 */
    VCPU_STOP_POINT = 1 << 2, /* bit n + 2: points[n] was met */
};

/* Port, memory-mapped and hypercall accesses are not exits: they happen in the middle of an
 * instruction, and an engine calls the board for them (vcpu_board_ops) with the state at home.
 */
struct exit {
    enum exit_kind kind;
    unsigned stop;     /* EXIT_DEBUG: enum vcpu_stop */
    char message[160]; /* EXIT_ERROR and EXIT_SHUTDOWN: one line of evidence */
};

/*
 * What an engine asks of the board. All run on the vCPU's thread, the board lock NOT held by
 * the caller (the callee takes it). cpu state is at home before hypercall(), rdmsr() and
 * wrmsr() (but need not be for the MSRs of the local APIC); rip is already after the instruction
 * for hypercall().
 */
struct vcpu_board_ops {
    uint64_t (*pio_read)(struct vcpu *v, uint16_t port, unsigned size);
    void (*pio_write)(struct vcpu *v, uint16_t port, unsigned size, uint64_t value);
    /* gpa is not RAM; size is 1, 2, 4 or 8 and the access does not cross a page. */
    uint64_t (*mmio_read)(struct vcpu *v, uint64_t gpa, unsigned size);
    void (*mmio_write)(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value);
    /* VMCALL/VMMCALL (or SYSCALL from a PV kernel). Arguments in the registers by the Xen
     * convention of the current mode; result goes to RAX. CPL is checked by the callee. It may
     * move rip back to the instruction (a long call goes on later) and may set cpu.halted (the
     * vCPU sleeps in the call: return EXIT_HALT). The engine looks at rip, cpu.halted and
     * `request` as soon as it returns. */
    void (*hypercall)(struct vcpu *v);
    /* The vector of the interrupt to deliver now, or -1. Acknowledges it. */
    int (*irq_ack)(struct vcpu *v);
    /* MSRs the CPU itself does not own (0x1b, x2APIC 0x800.., Xen 0x40000000, ...). false: #GP.
     */
    bool (*rdmsr)(struct vcpu *v, uint32_t index, uint64_t *value);
    bool (*wrmsr)(struct vcpu *v, uint32_t index, uint64_t value);
    /* CR8 is the local APIC's task priority. */
    uint64_t (*read_cr8)(struct vcpu *v);
    void (*write_cr8)(struct vcpu *v, uint64_t value);
    /* Of engines with local APICs (accel_ops.apic). What irq_ack() has given cannot be taken now:
     * VCPU_REQ_IRQ is to come again some time. */
    void (*irq_later)(struct vcpu *v);
    /* The end of a level-triggered interrupt. */
    void (*apic_eoi)(struct vcpu *v, uint8_t vector);
};

/*
 * Translation for pv/, which knows no CPU code: hypercall arguments are linear addresses. The
 * machine wires it to cpu/x86. On the vCPU's own thread or on a stopped vCPU; the board lock
 * may be held.
 */
struct vcpu_mmu_ops {
    /* gva (canonical) by the current tables with supervisor rights; `write` wants R/W and sets
     * D. false: a fault, which is not raised. No MMIO is touched: the caller checks that gpa is
     * RAM. */
    bool (*translate)(struct vcpu *v, uint64_t gva, bool write, uint64_t *gpa);
};

/*
 * A paravirtual guest: its kernel runs at CPL 3 like its user programs (cpu.pv_kernel tells
 * which), on tables with U set everywhere, and what would raise CPL on a real machine goes to
 * the hypervisor. cpu/x86 calls these instead of using the IDT, the GDT, the TSS and the MSRs of
 * the machine. State is at home, the board lock not held; each may change any register. An
 * engine looks at cpu.halted and `request` afterwards as after any system instruction.
 */
struct vcpu_trap {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* page faults */
    uint64_t dr6; /* #DB: bits to merge */
};

/* What an engine needs to do a SYSCALL to the guest's kernel and a plain iret from it itself. */
struct vcpu_pv_entry {
    uint64_t kernel_root, user_root; /* for CR3; user_root 0: none */
    uint64_t stack;                  /* where the kernel's begins for a program's call */
    uint64_t syscall;                /* its 64-bit callback; 0: not by the engine */
    bool syscall_masks;              /* events */
    bool plain_iret;                 /* iret to a program changes registers and the mask alone */
    uint32_t info_frame;             /* of struct vcpu_info, and where in it */
    uint16_t info_offset;
};

enum { VCPU_PV_GDT_FRAMES = 14 }; /* the hypervisor's own descriptors follow */

enum vcpu_pv_write { VCPU_PV_WRITE_DONE, VCPU_PV_WRITE_CHANGED, VCPU_PV_WRITE_REFUSED };

struct vcpu_pv_ops {
    /* An exception at cpu.rip (INT1, INT3, INTO: rip is after it). */
    void (*trap)(struct vcpu *v, const struct vcpu_trap *trap);
    /* INT n. false: its gate says no, #GP(n * 8 + 2). */
    bool (*software_int)(struct vcpu *v, uint8_t vector, uint64_t next_rip);
    /* SYSCALL; rip is after it. false: #UD. */
    bool (*syscall)(struct vcpu *v);
    /* SYSENTER. false: #GP(0). */
    bool (*sysenter)(struct vcpu *v);
    /* VCPU_REQ_IRQ was seen (the engine has cleared it): delivers what waits and may come. */
    void (*event)(struct vcpu *v);
    /* VCPU_REQ_PV_FLUSH was seen: asks the engine back (tlb_flush) for what has to be dropped. */
    void (*flush)(struct vcpu *v);
    /* The 8 bytes of a descriptor that may be loaded, harmless to the hypervisor. false: none. */
    bool (*descriptor)(struct vcpu *v, uint16_t selector, uint64_t *raw);
    /* For an engine that has the processor use the guest's GDT: its first frames, 512 descriptors
     * each, in mfns[VCPU_PV_GDT_FRAMES]; the others are 0. On the vCPU's own thread. */
    void (*gdt)(struct vcpu *v, uint64_t *mfns);
    /* As it is until the vCPU calls again. On its own thread. */
    void (*entry)(struct vcpu *v, struct vcpu_pv_entry *entry);
    /* Whether IN and OUT, or CLI and STI (size 0), do not fault now. */
    bool (*io_allowed)(struct vcpu *v, uint16_t port, unsigned size);
    /* Privileged registers, from the kernel. false: #GP(0). */
    bool (*read_cr)(struct vcpu *v, unsigned nr, uint64_t *value);
    bool (*write_cr)(struct vcpu *v, unsigned nr, uint64_t value);
    bool (*read_dr)(struct vcpu *v, unsigned nr, uint64_t *value);
    bool (*write_dr)(struct vcpu *v, unsigned nr, uint64_t value);
    bool (*rdmsr)(struct vcpu *v, uint32_t index, uint64_t *value);
    bool (*wrmsr)(struct vcpu *v, uint32_t index, uint64_t value);
    /* A write by the kernel to gva met a read-only mapping: whether it is of a page table whose
     * writes are emulated, and where. */
    bool (*table_page)(struct vcpu *v, uint64_t gva, uint64_t *gpa);
    /* Writes size bytes at gpa (within 8 aligned bytes) of such a page if they are still *old;
     * CHANGED: they are not, *old is what they are now. */
    enum vcpu_pv_write (*table_write)(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t *old,
                                      uint64_t value);
};

/*
 * What a vCPU's own instructions made doubtful. Without CR4.PCIDE there is one PCID, 0. "PCID
 * gva & 0xfff" is not always the current one.
 */
enum vcpu_flush {
    VCPU_FLUSH_ALL,       /* CR0.PG, CR0.WP, CR4.PAE/PSE/PGE/PCIDE/SMEP/SMAP, EFER.NXE changes,
                             INVPCID 2: all PCIDs, global entries too */
    VCPU_FLUSH_NONGLOBAL, /* MOV CR3: the PCID that is in CR3 now, but its global entries */
    VCPU_FLUSH_NOTHING,   /* MOV CR3 with bit 63: CR3 changed, and that is all */
    VCPU_FLUSH_PAGE,      /* INVLPG gva: global too */
    VCPU_FLUSH_PCID_PAGE, /* INVPCID 0: gva's page in PCID gva & 0xfff, not global */
    VCPU_FLUSH_PCID,      /* INVPCID 1: PCID gva & 0xfff, not global */
    VCPU_FLUSH_PCIDS,     /* INVPCID 3: all PCIDs, not global */
    VCPU_FLUSH_FRAME,     /* a paravirtual kernel's mappings of the frame gva may have less rights, or
                             be gone if they were not of code */
    VCPU_FLUSH_SPACE,     /* a paravirtual guest's page-table bases: gva is the number of the
                             address space, for which nothing changed since it had it before;
                             those of one place are likely to be alike */
};
#define VCPU_SPACE_PLACE(number) ((number) & 0xff)

/* Of a paravirtual kernel (not of its programs): what leaf entries with this bit map at and above
 * this address is the same in all its spaces, until VCPU_FLUSH_ALL, _PAGE or _FRAME. */
#define VCPU_PV_PTE_KERNEL   (1ull << 52)
#define VCPU_PV_KERNEL_START 0xffff880000000000ull

/*
 * What a debugger stops the guest at. The guest sees nothing of it: its own TF, DR0 to DR7 and #DB
 * are as without. Interrupts are taken as usual, so that the instruction a step executes may be
 * their handler's first. KVM's processor steps by the guest's TF: an exception that it delivers has TF
 * in its frame, and is one step until the handler comes back; with accel_ops.apic PUSHF shows it,
 * too, and SYSCALL, IRET and interrupts are the same. On KVM data points do not stop at accesses that are
 * carried out outside the processor; while there are points the guest's own rest.
 */
enum vcpu_point_kind { VCPU_POINT_EXEC, VCPU_POINT_WRITE, VCPU_POINT_ACCESS };
enum { VCPU_POINTS = 4 };

struct vcpu_point {
    enum vcpu_point_kind kind;
    uint8_t len;  /* of data: 1, 2, 4 or 8 */
    uint64_t gva; /* linear, a multiple of len */
};

struct vcpu_debug {
    bool step;
    bool int3; /* an INT3 stops the guest before it and raises no #BP */
    unsigned nr_points;
    /* EXEC: before the instruction there is executed, every time: to go on, the debugger takes the
     * point away and steps. Data: after the access. */
    struct vcpu_point points[VCPU_POINTS];
};

/* What a log of written pages is to do. */
enum vcpu_dirty { VCPU_DIRTY_START, VCPU_DIRTY_READ, VCPU_DIRTY_STOP };

/* What a vCPU does, for engines with local APICs. */
enum vcpu_rest {
    VCPU_RUNS,
    VCPU_HALTS, /* HLT, or a sleep in a hypercall that an interrupt ends */
    VCPU_DEAD,  /* HLT with interrupts off; the engine says so, the board never does */
    VCPU_KEPT,  /* by the board, whatever interrupts come; INIT ends it */
    VCPU_OFF,   /* after INIT: waits for a start-up message */
};

/* A local APIC: registers as in its page (SDM vol. 3 chapter 11), that at offset 16 * n is n. */
enum { VCPU_APIC_REGS = 64 };

struct vcpu_apic {
    uint64_t base, deadline; /* IA32_APIC_BASE, IA32_TSC_DEADLINE */
    uint32_t reg[VCPU_APIC_REGS];
};

/*
 * For an engine that has local APICs of its own: it carries out HLT, INIT, start-up messages, NMIs
 * and IPIs unseen, and the sleep of a hypercall (v->rest) inside run(), which returns EXIT_KICK when
 * VCPU_REQ_IRQ is set during such a rest. After run() all is in the engine, but for v->rest and what
 * a hypercall that sleeps has changed. The board takes everything out of all vCPUs, and puts it back
 * into all, when none of them runs. Any thread.
 */
struct accel_apic_ops {
    /* v->cpu, v->rest and *apic go to the engine. Lock held. false: *exit says why. */
    bool (*load)(struct vcpu *v, const struct vcpu_apic *apic, struct exit *exit);
    /* v->cpu and v->rest come home; what was about to be delivered is. Lock not held. false: *exit
     * says why. */
    bool (*settle)(struct vcpu *v, struct exit *exit);
    /* Behind that: the APIC. Lock held. The same. */
    bool (*fetch)(struct vcpu *v, struct vcpu_apic *apic, struct exit *exit);
    /* v->rest as it is now, everything else stays. */
    void (*look)(struct vcpu *v);
    /* A message as a device writes it. At any time. false: no APIC has taken it. v: any. */
    bool (*message)(struct vcpu *v, uint32_t address, uint32_t data);
    /* How often v has come out of the engine: it changes when it does. At any time. */
    uint64_t (*entries)(struct vcpu *v);
};

/* The contract of an engine (cpu/interp, cpu/dbt, cpu/kvm). */
struct accel_ops {
    const char *name; /* the word of -accel */
    /* VMCALL and VMMCALL do not reach the board: kernels are patched to use the port. */
    bool needs_hypercall_port;
    /* Each EOI leaves the guest: Xen's upcalls go without one where the guest lets them. */
    bool slow_eoi;
    /* NULL: local APICs are the board's. */
    const struct accel_apic_ops *apic;
    /* Whether this host can run it; *err says why not. */
    bool (*probe)(GError **err);
    /* Takes features away from the profile that this engine cannot give here. Before any vCPU
     * is made. May be NULL. */
    bool (*limit_model)(struct cpu_model *model, GError **err);
    /* Allocates v->engine. Called before the vCPU's thread starts. */
    bool (*vcpu_init)(struct vcpu *v, GError **err);
    void (*vcpu_fini)(struct vcpu *v);
    /* Runs guest code on this thread until an exit. All state is at home afterwards, but for what
     * sync() brings. */
    void (*run)(struct vcpu *v, struct exit *exit);
    /* Brings vector registers, MSRs and debug registers home after an EXIT_HALT. On the vCPU's
     * thread, before it parks or anybody else touches the state. May be NULL. */
    void (*sync)(struct vcpu *v);
    /* Makes a run() on another thread notice v->request soon. Async-signal-safe. May be NULL
     * when polling `request` is enough. */
    void (*kick)(struct vcpu *v);
    /* The state was changed from outside (reset, load, debugger): forget everything cached. */
    void (*state_changed)(struct vcpu *v);
    /* The vCPU's own instructions changed translations; called by cpu/x86 and pv/ on the
     * vCPU's thread. gva matters where enum vcpu_flush names it. May be NULL. */
    void (*tlb_flush)(struct vcpu *v, enum vcpu_flush kind, uint64_t gva);
    /* IBPB by the kernel of a PV guest: nothing learnt from branches before it steers what runs
     * behind it. On the vCPU's thread, from cpu/x86. NULL: nothing to do. */
    void (*branch_barrier)(struct vcpu *v);
    /* From the next run() on: stops with EXIT_DEBUG at what *debug says; NULL: at nothing. On the
     * vCPU's thread, between runs; with accel_ops.apic when it is settled. false: this engine or
     * this host cannot, *err says what, and nothing has changed. NULL: it never can. */
    bool (*set_debug)(struct vcpu *v, const struct vcpu_debug *debug, GError **err);
    /* For engines whose guests write to memory unseen: between START and STOP, READ sets MEM_DIRTY
     * in all frames that the guest has written to since the last READ (or more of them). For all
     * vCPUs of the machine by any of them; any thread, board lock. NULL: the engine sets MEM_DIRTY
     * with each write. */
    bool (*dirty_log)(struct vcpu *v, enum vcpu_dirty what, GError **err);
    /* Counters, a line "name value" each; the caller frees them. Any thread, while the vCPU
     * runs. NULL: it counts nothing. */
    char *(*stats)(struct vcpu *v);
};

struct vcpu {
    struct cpu_x86 cpu;
    unsigned id;
    _Atomic uint32_t request;
    const struct accel_ops *accel;
    void *engine;             /* the engine's own, one per vCPU */
    uint64_t engine_words[4]; /* the engine's own too, at a fixed distance from the registers */
    const struct cpu_model *model;
    struct mem *mem;
    const struct vcpu_board_ops *board_ops;
    const struct vcpu_mmu_ops *mmu; /* set by the machine; NULL: nothing can be translated */
    const struct vcpu_pv_ops *pv;     /* set by the machine; NULL: not a paravirtual guest */
    void *board;
    enum vcpu_rest rest; /* with accel_ops.apic: the board's before run(), the engine's after it */
    bool rest_same;      /* after run(): the sleep of VCPU_HALTS that the board told, no other */
    uint64_t insn_count; /* instructions retired, as far as the engine counts them */
};

/* Sets request bits and kicks the engine. Any thread. Does not wake a halted vCPU's thread: the
 * board does (machine/run.c), through its own wrapper. */
static inline void vcpu_request(struct vcpu *v, uint32_t bits)
{
    atomic_fetch_or_explicit(&v->request, bits, memory_order_release);
    if (v->accel != NULL && v->accel->kick != NULL) {
        v->accel->kick(v);
    }
}

/* accel_ops.tlb_flush, where the vCPU's engine has it. */
static inline void vcpu_tlb_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    if (v->accel != NULL && v->accel->tlb_flush != NULL) {
        v->accel->tlb_flush(v, kind, gva);
    }
}

#endif
