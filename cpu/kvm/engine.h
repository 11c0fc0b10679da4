/* SPDX-License-Identifier: MIT */
/*
 * What the files of the KVM engine share.
 *
 * Where the state is: between runs general and control registers are in v->cpu; most segments and
 * the rest ("deep": vector registers, MSRs, debug registers, events) may still be KVM's. Board
 * callbacks have what they look at: nothing for ports and memory. kvm_sync() brings everything
 * home; state_changed() makes the next run load everything from v->cpu.
 */
#ifndef PVEMU_CPU_KVM_ENGINE_H
#define PVEMU_CPU_KVM_ENGINE_H

#include <linux/kvm.h>
#include <stdatomic.h>

#include "core/memory.h"
#include "core/vcpu.h"
#include "cpu/kvm/sys.h"

enum {
    KVM_MSRS_MAX = 16,
    KVM_NEAR = 4,
    KVM_EXITS = 64, /* reasons that are counted each by itself */
    KVM_PV_VCPUS = 128,
};

/* Memory slots. Pages outside RAM have one each. */
enum { KVM_SLOT_LOW, KVM_SLOT_HIGH, KVM_SLOT_WINDOW, KVM_SLOT_SHIM, KVM_SLOT_TEST,
       KVM_SLOT_FIRST_OUTSIDE };

struct insn;
struct kvm_engine;
struct kvm_pv_cpu;

/* Where the guest's interrupt controllers are: run.c has the one for pvemu's own, irqchip.c that
 * for KVM's local APICs. 0 or a negated errno, or as in accel_ops. */
struct kvm_chip {
    int (*begin)(struct kvm_engine *k); /* of a run: the state goes to KVM */
    /* VCPU_REQ_IRQ was seen. false: leave. */
    bool (*offer)(struct kvm_engine *k, struct exit *exit);
    int (*leave)(struct kvm_engine *k, const struct exit *exit);
};

enum { KVM_ROUTES = 24 };

/* One VM for all vCPUs of a board. */
struct kvm_vm {
    const struct kvm_sys *sys;
    int dev, fd;
    unsigned users; /* vCPUs */
    size_t run_size;
    struct mem *mem;
    uint8_t *view;        /* RAM as the guest has it now: KVM's slots 0 and 1 */
    size_t view_size;
    bool *other;          /* each of its pages: not the frame of its number is there */
    unsigned nr_slots;    /* that KVM has */
    GHashTable *outside;  /* gfn -> slot, for pages outside RAM */
    GArray *free_slots;   /* uint32_t */
    unsigned next_slot;
    _Atomic int failed;   /* errno of what could not be done outside a run: the next one says so */
    const char *_Atomic failed_what;
    bool has_xcrs, has_tsc_offset;
    const struct kvm_chip *chip;
    struct {              /* messages whose end KVM tells: irqchip.c */
        uint32_t address, data;
    } route[KVM_ROUTES];
    unsigned nr_routes, next_route;
    uint64_t messages, dropped; /* board lock */
    bool xen_calls;       /* VMCALL comes out: KVM_CAP_XEN_HVM */
    uint32_t *log_frames; /* while writes are logged: the frame at each page of the view */
    bool debug_tried, debug_points, debug_int3; /* debug.c: breakpoints that come out */
    uint32_t msrs[KVM_MSRS_MAX]; /* those that KVM holds for v->cpu */
    unsigned nr_msrs;
    GMutex pv_lock;
    uint8_t *pv_shim;     /* a PV guest's: KVM_SLOT_SHIM; NULL: not made yet */
    _Atomic uint32_t pv_info[KVM_PV_VCPUS]; /* frames that the shim writes to; MEM_HOLE: none */
};

struct kvm_engine {
    struct vcpu *v;
    struct kvm_vm *vm;
    int fd;
    struct kvm_run *run;
    _Atomic bool inside;  /* KVM_RUN may be under way: a kick has to be a signal */
    bool thread_known;
    uintptr_t thread;     /* pthread_self() of `tid` */
    int tid;
    bool cpuid_set;
    bool load_all;        /* v->cpu is what counts, all of it */
    bool triple;          /* what KVM was about to deliver could not be: a triple fault */
    /* Set by every entry, so next to each other. */
    bool regs_away;       /* general registers are KVM's; false between runs */
    bool sregs_away;      /* segments and control registers are KVM's */
    bool deep_away;       /* the deep state is KVM's */
    bool unfinished;      /* an exit that KVM completes when it is entered again */
    bool xen_pending;     /* the last exit was a VMCALL that KVM is going to finish */
    bool regs_dirty;      /* v->cpu's registers are newer than KVM's */
    unsigned near;        /* so many entries more, KVM gives registers with the exit: only when
                             an exit has needed them lately, since that costs 600 instructions */
    bool irq_ready;       /* an interrupt can be given to KVM now */
    int64_t tsc_offset;   /* that KVM has */
    uint64_t cr8;         /* as the board sees it */
    uint64_t apic_base;
    uint32_t mp_state;    /* with KVM's APICs, between runs */
    uint64_t rest_rip;    /* where a sleep that the board told began */
    struct kvm_guest_debug debug; /* what a debugger wants; control 0: nothing */
    uint64_t debug_rip, debug_dr6; /* of a step: where it began, what KVM came out with */
    bool debug_trap_flag;          /* the guest steps itself */
    uint64_t xen_next;    /* behind it */
    uint64_t exits[KVM_EXITS], hypercalls, apic, entries, signals; /* counters */
    struct kvm_sregs sregs; /* that KVM has, when v->cpu's were last compared */
    struct kvm_pv_cpu *pv;  /* of a PV guest, once it has run */
};

extern const struct kvm_chip kvm_chip_user; /* run.c */

/* --- accel.c --- */

/* accel_ops.vcpu_init. After a failure v->engine may be there, for vcpu_fini. split: the local
 * APICs are KVM's. */
bool kvm_vcpu_init(struct vcpu *v, const struct kvm_sys *sys, bool split, GError **err);

/* --- vm.c --- */

/* The VM of the memory that v has: the first vCPU makes it, unless KVM cannot give what v->model
 * shows. */
struct kvm_vm *kvm_vm_get(struct vcpu *v, const struct kvm_sys *sys, bool split, GError **err);
void kvm_vm_put(struct kvm_vm *vm);
/* 0 or a negated errno. */
int kvm_vm_set_slot(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t len, void *hva);

/* Something could not be done, and the guest cannot go on without it. Any thread. */
void kvm_vm_failed(struct kvm_vm *vm, const char *what, int error);
/* RAM's slots as they are to be now. */
int kvm_vm_set_ram(struct kvm_vm *vm);

/* --- dirty.c --- */

/* While writes are logged: another frame comes to a page of the view. */
void kvm_dirty_moved(struct kvm_vm *vm, uint64_t page, uint32_t frame);
/* The shim of a PV guest's vCPU writes to another frame from now on. */
void kvm_dirty_info(struct kvm_vm *vm, unsigned vcpu, uint32_t frame);
/* accel_ops.dirty_log */
bool kvm_dirty_log(struct vcpu *v, enum vcpu_dirty what, GError **err);

/* --- debug.c --- */

#define KVM_DR6_BS 0x4000ull /* a single step */

/* Breakpoints that DR7 enables, bit n for DRn. */
uint64_t kvm_debug_enabled(uint64_t dr7);
/* A byte of the instruction at rip, `at` behind its first; -1: there is no memory. The registers
 * that it takes are home. */
int kvm_debug_byte(struct vcpu *v, unsigned at);
/* That instruction; false: it cannot be decoded. */
bool kvm_debug_decode(struct vcpu *v, struct insn *in);

/* accel_ops.set_debug */
bool kvm_set_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err);
/* The state is loaded: registers and what stops the guest go to KVM. 0 or a negated errno. */
int kvm_debug_enter(struct kvm_engine *k);
/* An instruction was carried out besides KVM: true, and *exit tells, if that is a step. */
bool kvm_debug_stepped(struct kvm_engine *k, struct exit *exit);
/* KVM_EXIT_DEBUG; false. */
bool kvm_debug_exit(struct kvm_engine *k, struct exit *exit);
/* Before a run: with pvemu's own APICs, a step's interrupts are delivered, and its instruction is
 * carried out if KVM cannot step it. true: it was, and *exit tells. */
bool kvm_debug_home(struct kvm_engine *k, struct exit *exit);
/* With KVM's, behind kvm_chip.begin: whether it was a step over a hypercall, which has been made; *exit
 * tells. */
bool kvm_debug_hypercall(struct kvm_engine *k, struct exit *exit);
/* Behind a run, the state home: what a step has hidden from the guest is the guest's again. */
void kvm_debug_left(struct kvm_engine *k, struct exit *exit);
/* Whether interrupts wait for kvm_debug_home(). */
static inline bool kvm_debug_holds(const struct kvm_engine *k)
{
    return (k->debug.control & KVM_GUESTDBG_SINGLESTEP) != 0 && k->vm->chip == &kvm_chip_user;
}

/* --- stats.c --- */

/* accel_ops.stats */
char *kvm_stats(struct vcpu *v);

/* --- cpuid.c --- */

/* accel_ops.limit_model */
bool kvm_limit_model(struct cpu_model *model, const struct kvm_sys *sys, GError **err);
/* Gives KVM the profile. */
bool kvm_set_cpuid(struct kvm_engine *k, GError **err);
/* Features the profile shows and KVM cannot give are an error. */
bool kvm_check_model(struct kvm_vm *vm, const struct cpu_model *model, GError **err);

/* --- state.c: 0 or a negated errno --- */

/* All of v->cpu but general registers to KVM, and k->cr8. */
int kvm_load_all(struct kvm_engine *k);
/* What may have changed in v->cpu since the last run. */
int kvm_load_changed(struct kvm_engine *k);
/* The TSC offset alone. */
int kvm_load_tsc(struct kvm_engine *k);
/* General registers, if they are away. */
int kvm_fetch_regs(struct kvm_engine *k);
/* And of the others what board callbacks look at. */
int kvm_fetch_for_call(struct kvm_engine *k);
/* Everything; an event that KVM was about to deliver is delivered in v->cpu, or k->triple is set. */
int kvm_fetch_all(struct kvm_engine *k);
/* v->cpu's system registers in KVM's form. Every byte is set: two of them can be compared. */
void kvm_sregs_of(const struct kvm_engine *k, struct kvm_sregs *s);
struct kvm_segment kvm_segment_of(const struct cpu_segment *s);
struct cpu_segment kvm_segment_home(const struct kvm_segment *s);
/* Pieces of them. */
int kvm_load_xsave(struct kvm_engine *k);
int kvm_fetch_xsave(struct kvm_engine *k);
int kvm_put_debug(struct kvm_engine *k, const uint64_t *dr); /* dr[8] */
void kvm_fetch_gprs(struct kvm_engine *k);
struct kvm_regs kvm_regs_of(const struct cpu_x86 *cpu);
/* General registers to the place where KVM_RUN finds them. */
void kvm_put_regs(struct kvm_engine *k);

/* --- irqchip.c --- */

extern const struct kvm_chip kvm_chip_split;
extern const struct accel_apic_ops kvm_apic_ops;
/* The local APICs of a VM that has no vCPU yet are KVM's. false: it cannot. */
bool kvm_chip_make_split(struct kvm_vm *vm, GError **err);
/* KVM_SET_MP_STATE. 0 or a negated errno. */
int kvm_chip_set_mp(struct kvm_engine *k, uint32_t state);
/* APIC ids are as the board numbers them. */
unsigned long kvm_chip_vcpu_id(const struct kvm_vm *vm, unsigned vcpu);

/* --- run.c --- */

/* accel_ops.run, .kick and .sync (with pvemu's own APICs) */
void kvm_run_guest(struct vcpu *v, struct exit *exit);
void kvm_kick(struct vcpu *v);
void kvm_sync(struct vcpu *v);
/* The signal of kicks gets its handler. */
void kvm_install_signal(void);
#define KVM_NOT_GIVEN "it does not give the guest's state"
#define KVM_NOT_TAKEN "it does not take the guest's state"
/* An engine error; false. */
bool kvm_run_failed(struct exit *exit, const char *what, int error);
/* The exit's access, in pieces of 1, 2, 4 or 8 bytes; true. */
bool kvm_run_mmio(struct kvm_engine *k, struct exit *exit);
/* A triple fault; false. */
bool kvm_run_triple(struct exit *exit);
/* An exit that ends the run: a triple fault, or an error, whatever it is; false. */
bool kvm_run_ended(struct kvm_engine *k, struct exit *exit);
/* The CPUID, which KVM gets once, before the first run. false: an engine error. */
bool kvm_run_cpuid(struct kvm_engine *k, struct exit *exit);
/* That, and whose thread it is. */
bool kvm_run_begin(struct kvm_engine *k, struct exit *exit);

/* --- pv_memory.c, pv_state.c, pv_run.c: PV guests --- */

void kvm_pv_run(struct kvm_engine *k, struct exit *exit);
/* Vector registers home. 0 or a negated errno, and then they are lost. */
int kvm_pv_sync(struct kvm_engine *k);
void kvm_pv_flush(struct kvm_engine *k);
/* accel_ops.branch_barrier */
void kvm_pv_barrier(struct vcpu *v);
void kvm_pv_memory_free(struct kvm_vm *vm);

#endif
