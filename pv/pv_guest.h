/* SPDX-License-Identifier: MIT */
/*
 * Paravirtual guests, 64-bit (docs/pv.md): what the hypervisor keeps about a kernel that runs
 * at CPL 3. Frames have types that are counted as Xen counts them: a page table is never
 * writable by its guest, so what was checked once stays true.
 *
 * A machine frame number is the guest frame number of core/memory.h: RAM as it lies there, and
 * behind it a window (mem_set_window) with the hypervisor's own frames: shared info, grant
 * table, the machine-to-physical table and the page tables that map it.
 *
 * Types keep a guest that errs from going on, as under Xen; pvemu's own safety does not rest on
 * them. Every walk, by the processor or here, is confined to guest memory.
 */
#ifndef PVEMU_PV_PV_GUEST_H
#define PVEMU_PV_PV_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vcpu.h"
#include "pv/domain.h"

#define PV_HV_START   0xffff800000000000ull /* the hypervisor's addresses: L4 slots 256..271 */
#define PV_HV_END     VCPU_PV_KERNEL_START
#define PV_M2P_START  (PV_HV_START + (1ull << 30) + (4ull << 20)) /* pv_m2p.c */
#define PV_MFN_NONE   UINT64_MAX

enum {
    PV_L4_HV_FIRST = 256,
    PV_L4_HV_LAST = 271,
    PV_TABLE_ENTRIES = 512,
    PV_GDT_FRAMES = VCPU_PV_GDT_FRAMES, /* the guest's; Xen's descriptors follow */
    PV_GDT_ENTRIES = PV_GDT_FRAMES * 512,
    PV_LDT_ENTRIES = 8192,
    PV_LDT_PAGES = PV_LDT_ENTRIES / 512,
    PV_L4_KERNELS = PV_TABLE_ENTRIES - PV_L4_HV_LAST - 1, /* slots behind the hypervisor's */
    PV_SPACES = 8,
    PV_KERNEL_LOG = 64,
    PV_SEL_CS32 = 0xe023,
    PV_SEL_DS = 0xe02b,
    PV_SEL_CS64 = 0xe033,
};

enum pv_pte {
    PV_PTE_P = 1 << 0,
    PV_PTE_RW = 1 << 1,
    PV_PTE_U = 1 << 2,
    PV_PTE_A = 1 << 5,
    PV_PTE_D = 1 << 6,
    PV_PTE_PSE = 1 << 7, /* PAT in an L1 entry */
    PV_PTE_G = 1 << 8,
};
#define PV_PTE_ADDR   0x000ffffffffff000ull
#define PV_PTE_NX     (1ull << 63)
#define PV_PTE_KERNEL VCPU_PV_PTE_KERNEL /* ours: the guest wanted it for its kernel only */

enum pv_page_type {
    PV_PAGE_NONE,
    PV_PAGE_L1,
    PV_PAGE_L2,
    PV_PAGE_L3,
    PV_PAGE_L4,
    PV_PAGE_SEGDESC,
    PV_PAGE_WRITABLE,
};

/* A frame. count is of references of the type; without any the type is only what it was. */
struct pv_page {
    uint32_t count;
    uint32_t stamp; /* flush_clock when the last writable reference went */
    uint8_t type;
    bool pinned;
    bool validating; /* its entries are being looked at */
    bool kernel;     /* an L3 or L2 that has been in the kernel's half */
};

struct pv_gate {
    uint64_t address;
    uint16_t selector;
    uint8_t flags; /* DPL 0..1, bit 2: masks events */
};

struct pv_callback {
    uint64_t address;
    bool mask_events;
};

/* An address space that a vCPU was in (pv_space.c). */
struct pv_space {
    uint64_t kernel_root, user_root; /* as when it was entered */
    uint64_t number;                 /* for the engine; 0: none yet */
    uint64_t changes;                /* pv_guest.changes then */
    uint64_t half;                   /* pv_cpu.half then */
};

/* A vCPU's part. cpu.kernel_gs_base is the GS base of the mode that does not run. */
struct pv_cpu {
    struct pv_gate gate[256];
    struct pv_callback event, failsafe, syscall, syscall32, sysenter;
    uint64_t kernel_sp;
    uint16_t kernel_ss;
    uint64_t kernel_root, user_root; /* mfn of L4; PV_MFN_NONE: none */
    struct pv_space space[PV_SPACES];
    unsigned space_now, space_next; /* the one it is in, the one to give up */
    /* What its engine has of the kernel's half: as of this many pv_guest.kernel_changes, by an L4
     * table with these slots (UINT64_MAX in the first: unknown), the half-th such table. */
    uint64_t kernel_seen;
    uint64_t kernel_half[PV_L4_KERNELS];
    uint64_t half;
    uint64_t gdt_mfn[PV_GDT_FRAMES];
    unsigned gdt_entries;
    uint64_t ldt_gva;
    unsigned ldt_entries;
    unsigned ldt_held;                /* bit n: its page n counts as one of descriptors, in: */
    uint32_t ldt_frame[PV_LDT_PAGES];
    unsigned iopl;
    bool fresh; /* from VCPUOP_initialise: selector[] (DS, ES, FS, GS) is to be loaded */
    uint16_t selector[4];
    uint64_t io_bitmap_gva;
    unsigned io_bitmap_ports;
};

struct pv_guest {
    struct pv_page *pages; /* by frame */
    uint32_t nr_frames;
    uint64_t window_mfn; /* of the first extra frame */
    uint64_t m2p_root;   /* mfn of the L3 table in L4 slot 256 */
    uint64_t engine_entry; /* what an engine wants in L4 slot 257; 0: nothing */
    uint32_t m2p_frame;  /* first of the table's frames, in order of mfn */
    uint64_t m2p_mfns;   /* entries */
    uint64_t store_mfn, console_mfn;
    bool flush;          /* all vCPUs drop their translations before the guest goes on */
    uint32_t flush_clock; /* flushes of every vCPU so far */
    uint64_t changes;    /* of entries of tables that a TLB may have cached */
    uint64_t spaces;     /* numbers of address spaces given out */
    /* Changes of what a TLB may have cached of the kernel's half (pv_space.c), and of the last
     * of them the frame, or MEM_HOLE: anything may be different. */
    uint64_t kernel_changes;
    uint32_t kernel_log[PV_KERNEL_LOG];
    uint64_t flushed;    /* vCPUs asked to flush: who asked waits for them, without the lock */
    unsigned work;       /* units spent in page-table checks since it was set to 0 */
    uint64_t cr4_settable; /* by the guest; the machine knows the processor */
    char crash[160];     /* why the hypervisor ended the domain */
    struct pv_cpu cpu[PV_MAX_VCPUS];
};

/* Frames that a domain with this much RAM needs behind PV_EXTRA_FRAMES. */
uint32_t pv_guest_extra_frames(uint64_t ram_bytes);
struct pv_guest *pv_guest_new(struct pv_domain *d);
void pv_guest_free(struct pv_guest *g);
/* As after making: no types, no tables, M2P as at boot. Memory was cleared. */
void pv_guest_reset(struct pv_domain *d);
/* As before VCPUOP_initialise, without giving references back. */
void pv_cpu_clear(struct pv_cpu *pc);
/* A vCPU is as if it never was initialised; it does not run. */
void pv_guest_forget_vcpu(struct pv_domain *d, unsigned vcpu);
/* Saves and loads. When loading, guest memory and its layout are loaded already. */
void pv_guest_state(struct pv_domain *d, struct state *s);
/* Makes types and contexts anew by saving and loading them. false: the guest's tables are not
 * valid any more; nothing has changed. */
bool pv_guest_rebuild(struct pv_domain *d, GError **err);
/* A frame's place behind RAM. */
uint64_t pv_extra_mfn(const struct pv_domain *d, unsigned extra);
/* The frames of RAM, by pseudo-physical number: what the domain builder hands out. */
uint64_t pv_pfn_to_mfn(const struct pv_domain *d, uint64_t pfn);

/* Before the loader fills fresh memory: the guest begins with its first nr_pages pages and has the
 * rest by XENMEM_populate_physmap (-m SIZE,max=). */
void pv_guest_begin(struct pv_domain *d, uint64_t nr_pages);

/* What the loader built. */
struct pv_boot {
    uint64_t root_mfn;
    uint64_t store_mfn, console_mfn;
    uint64_t stack_gva;
};
/* Gives the pages their types, places the rings and lets vCPU 0 have its state of section 1.4
 * of the ABI but for registers that the loader sets. false: the tables are not valid. */
bool pv_guest_boot(struct pv_domain *d, const struct pv_boot *boot);
/* Fills a hypercall page (4 KiB) for a PV kernel. */
void pv_hypercall_page(uint8_t *page);

/* The domain has done what no domain may do: it ends. */
void pv_guest_crash(struct pv_domain *d, struct vcpu *v, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static inline struct pv_cpu *pv_cpu_of(struct pv_domain *d, const struct vcpu *v)
{
    return &d->guest->cpu[v->id];
}

static inline bool pv_canonical(uint64_t gva)
{
    return (uint64_t)((int64_t)(gva << 16) >> 16) == gva;
}

static inline bool pv_hv_address(uint64_t gva)
{
    return gva >= PV_HV_START && gva < PV_HV_END;
}

/* An address, and the guest's to use. */
static inline bool pv_guest_address(uint64_t gva)
{
    return pv_canonical(gva) && !pv_hv_address(gva);
}

/* --- pv_page.c: types. All return 0 or -errno. --- */

/* The frame at mfn if the guest owns it as RAM (its rings included); MEM_HOLE: not its own. */
uint32_t pv_page_own(const struct pv_domain *d, uint64_t mfn);
int pv_page_get(struct pv_domain *d, uint32_t frame, enum pv_page_type type);
void pv_page_put(struct pv_domain *d, uint32_t frame);
int pv_page_pin(struct pv_domain *d, uint32_t frame, enum pv_page_type type);
int pv_page_unpin(struct pv_domain *d, uint32_t frame);
/* Changes the entry at index of a page table. keep_ad: A and D stay as they are. expect (or
 * NULL): only from this value; -EAGAIN and *expect the present one if it is another. */
int pv_page_update(struct pv_domain *d, uint32_t frame, unsigned index, uint64_t entry,
                   bool keep_ad, uint64_t *expect);
/* The frame of the L1 table that maps gva under root, and the index in it; MEM_HOLE: none. */
uint32_t pv_page_l1(const struct pv_domain *d, uint64_t root_mfn, uint64_t gva,
                    unsigned *index);
bool pv_page_is_table(const struct pv_domain *d, uint32_t frame);
/* The L4 table at mfn was loaded as the base of a kernel, which shows the M2P from now on, or of
 * programs. With VMASST_TYPE_m2p_strict it is the other way: it has it until programs use it. */
void pv_page_show_m2p(struct pv_domain *d, uint64_t mfn, bool user);
/* As guest_read() and guest_write(), but by the vCPU's kernel_root, whichever of its tables it
 * runs on: for what its kernel registered and its programs need (an LDT, the I/O bitmap), which
 * Linux has in the kernel's tables only. Sets no A and D. */
bool pv_kernel_copy(struct pv_domain *d, struct vcpu *v, uint64_t gva, void *buf, size_t len,
                    bool write);
bool pv_kernel_translate(struct pv_domain *d, struct vcpu *v, uint64_t gva, bool write,
                         uint64_t *gpa);
/* The reference that pv_frame_get() took to write, by frame: for what was loaded or built anew.
 * false: the frame is not one that pv_frame_get() gives, or has another type. */
bool pv_frame_hold(struct pv_domain *d, uint32_t frame);

/* --- pv_m2p.c --- */

void pv_m2p_init(struct pv_domain *d);
void pv_m2p_tables(struct pv_domain *d); /* only the tables that map it */
uint64_t pv_m2p_window(uint64_t ram_bytes); /* where the window begins */
uint64_t pv_m2p_entries(uint64_t ram_bytes);
uint64_t pv_m2p_start(const struct pv_domain *d); /* gva of the table, as guests are told */
/* The table's entry for a frame of RAM. */
void pv_m2p_set(struct pv_domain *d, uint64_t mfn, uint64_t pfn);
uint64_t pv_m2p_get(const struct pv_domain *d, uint64_t mfn);

/* --- pv_trap.c --- */

/* To be called before the guest goes on after a hypercall: flushes, and the event upcall. */
void pv_guest_return(struct pv_domain *d, struct vcpu *v);
/* Asks a vCPU to drop every translation. */
void pv_guest_flush_other(struct pv_domain *d, unsigned vcpu);
void pv_guest_return_flush(struct pv_domain *d, struct vcpu *v); /* the first half */
/* Between kernel and user: GS base and page tables. */
void pv_toggle_mode(struct pv_domain *d, struct vcpu *v);
void pv_trap(struct pv_domain *d, struct vcpu *v, const struct vcpu_trap *trap);
bool pv_software_int(struct pv_domain *d, struct vcpu *v, uint8_t vector, uint64_t next_rip);
bool pv_syscall(struct pv_domain *d, struct vcpu *v);
bool pv_sysenter(struct pv_domain *d, struct vcpu *v);
/* A vCPU comes up: if VCPUOP_initialise has filled it in, its data segments are loaded; if one
 * of them cannot be, it begins at the failsafe callback. Board lock; the vCPU does not run. */
void pv_guest_up(struct pv_domain *d, struct vcpu *v);
void pv_entry(struct pv_domain *d, struct vcpu *v, struct vcpu_pv_entry *entry);
void pv_event(struct pv_domain *d, struct vcpu *v);

/* --- pv_desc.c --- */

bool pv_descriptor(struct pv_domain *d, struct vcpu *v, uint16_t selector, uint64_t *raw);
/* Loads the GDT of a vCPU: 0 or -EINVAL. */
int pv_set_gdt(struct pv_domain *d, struct pv_cpu *cpu, const uint64_t *mfns, unsigned entries);
/* The pages of its LDT that were used are any pages again (SET_LDT, another page-table base). */
void pv_ldt_drop(struct pv_domain *d, struct pv_cpu *cpu);
/* As SET_LDT does: another LDT. gva and entries were checked. */
void pv_set_ldt(struct pv_domain *d, struct pv_cpu *cpu, uint64_t gva, unsigned entries);
/* Whether a descriptor is harmless; *raw is changed to the form that is kept. */
bool pv_descriptor_check(uint64_t *raw);
/* Loads CS and SS as IRET does. false: one of them cannot be; *selector is which. */
bool pv_load_code(struct pv_domain *d, struct vcpu *v, uint16_t cs, uint16_t ss,
                  uint16_t *selector);
/* Loads DS, ES, FS or GS as MOV does, its base included. false: it is a null selector now. */
bool pv_load_data(struct pv_domain *d, struct vcpu *v, unsigned seg, uint16_t selector);
void pv_load_flat(struct cpu_x86 *cpu);

/* --- pv_cpu.c --- */

bool pv_io_allowed(struct pv_domain *d, struct vcpu *v, uint16_t port, unsigned size);
bool pv_read_cr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t *value);
bool pv_write_cr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t value);
bool pv_read_dr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t *value);
int pv_write_dr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t value);
bool pv_rdmsr(struct pv_domain *d, struct vcpu *v, uint32_t index, uint64_t *value);
bool pv_wrmsr(struct pv_domain *d, struct vcpu *v, uint32_t index, uint64_t value);
/* Registers of a vCPU that starts, but for general registers, rip and rsp. */
void pv_cpu_init(struct cpu_x86 *cpu, bool xsave);

/* --- pv_mmu.c --- */

int64_t pv_new_root(struct pv_domain *d, struct vcpu *v, uint64_t mfn, bool user);
bool pv_table_page(struct pv_domain *d, struct vcpu *v, uint64_t gva, uint64_t *gpa);
enum vcpu_pv_write pv_table_write(struct pv_domain *d, struct vcpu *v, uint64_t gpa,
                                  unsigned size, uint64_t *old, uint64_t value);

/* --- pv_space.c --- */

/* The vCPU's kernel_root was loaded: the engine goes to that address space. */
void pv_space_enter(struct pv_domain *d, struct vcpu *v);
/* User mode is about to be entered: by the user_root that its space was used with? */
void pv_space_user(struct pv_domain *d, struct vcpu *v);
/* Something that TLBs may have cached of the kernel's half changed: an entry that led to frame,
 * but not to code that can be executed there no longer; MEM_HOLE: anything. */
void pv_kernel_changed(struct pv_guest *g, uint32_t frame);
/* An L4 table has another entry there. */
void pv_kernel_half_changed(struct pv_guest *g);
/* A flush that the guest, or a change of types, asks of this vCPU. */
void pv_flush(struct pv_domain *d, struct vcpu *v, enum vcpu_flush kind, uint64_t gva);

/* --- hypercalls --- */

struct hypercall;
int64_t pv_op_mmu_update(struct hypercall *h);
int64_t pv_op_update_va_mapping(struct hypercall *h);
int64_t pv_op_update_va_mapping_otherdomain(struct hypercall *h);
int64_t pv_op_mmuext(struct hypercall *h);
int64_t pv_op_set_trap_table(struct hypercall *h);
int64_t pv_op_set_callbacks(struct hypercall *h);
int64_t pv_op_callback(struct hypercall *h);
int64_t pv_op_stack_switch(struct hypercall *h);
int64_t pv_op_iret(struct hypercall *h);
int64_t pv_op_nmi(struct hypercall *h);
int64_t pv_op_set_gdt(struct hypercall *h);
int64_t pv_op_update_descriptor(struct hypercall *h);
int64_t pv_op_set_segment_base(struct hypercall *h);
int64_t pv_op_fpu_taskswitch(struct hypercall *h);
int64_t pv_op_set_debugreg(struct hypercall *h);
int64_t pv_op_get_debugreg(struct hypercall *h);
int64_t pv_op_physdev(struct hypercall *h);
int64_t pv_op_physdev_compat(struct hypercall *h);
int64_t pv_op_sched_compat(struct hypercall *h);
int64_t pv_op_evtchn_compat(struct hypercall *h);
/* Has the guest execute SYSCALL again with the changed arguments. */
bool pv_rewind(struct hypercall *h);
/* memory_op as a PV guest has it; *done false: the common one. */
int64_t pv_op_memory(struct hypercall *h, bool *done);
/* VCPUOP_initialise. *online: the vCPU is to be brought up at once. */
int64_t pv_op_initialise(struct hypercall *h, unsigned id, bool *online);

#endif
