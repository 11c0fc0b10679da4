/* SPDX-License-Identifier: MIT */
/*
 * What the files of the KVM engine share.
 *
 * Where the state is: between runs and in board callbacks the registers, segments and control
 * registers are in v->cpu and the rest ("deep": vector registers, MSRs, debug registers, events)
 * may still be KVM's. kvm_sync() brings that home too; state_changed() makes the next run load
 * everything from v->cpu.
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
};

/* One VM for all vCPUs of a board. */
struct kvm_vm {
    const struct kvm_sys *sys;
    int dev, fd;
    unsigned users; /* vCPUs */
    size_t run_size;
    struct mem *mem;
    uint8_t *view;        /* RAM as the guest has it now: KVM's slots 0 and 1 */
    size_t view_size;
    unsigned nr_slots;    /* that KVM has */
    GHashTable *outside;  /* gfn -> slot, for pages outside RAM */
    GArray *free_slots;   /* uint32_t */
    unsigned next_slot;
    _Atomic int failed;   /* errno of a change of the layout that could not be made */
    bool has_xcrs, has_tsc_offset;
    uint32_t msrs[KVM_MSRS_MAX]; /* those that KVM holds for v->cpu */
    unsigned nr_msrs;
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
    bool ran;             /* KVM has been entered in this run */
    bool load_all;        /* v->cpu is what counts, all of it */
    bool deep_away;       /* the deep state is KVM's */
    bool regs_dirty;      /* v->cpu's registers are newer than KVM's */
    bool unfinished;      /* an exit that KVM completes when it is entered again */
    bool irq_ready;       /* an interrupt can be given to KVM now */
    int64_t tsc_offset;   /* that KVM has */
    uint64_t cr8;         /* as the board sees it */
    struct kvm_sregs sregs; /* that KVM has, when v->cpu's were last compared */
};

/* --- accel.c --- */

/* accel_ops.vcpu_init. After a failure v->engine may be there, for vcpu_fini. */
bool kvm_vcpu_init(struct vcpu *v, const struct kvm_sys *sys, GError **err);

/* --- vm.c --- */

/* The VM of the memory that v has: the first vCPU makes it, unless KVM cannot give what v->model
 * shows. */
struct kvm_vm *kvm_vm_get(struct vcpu *v, const struct kvm_sys *sys, GError **err);
void kvm_vm_put(struct kvm_vm *vm);

/* --- cpuid.c --- */

/* accel_ops.limit_model */
bool kvm_limit_model(struct cpu_model *model, const struct kvm_sys *sys, GError **err);
/* Gives KVM the profile. */
bool kvm_set_cpuid(struct kvm_engine *k, GError **err);
/* Features the profile shows and KVM cannot give are an error. */
bool kvm_check_model(struct kvm_vm *vm, const struct cpu_model *model, GError **err);

/* --- state.c: 0 or a negated errno --- */

/* All of v->cpu to KVM. */
int kvm_load_all(struct kvm_engine *k);
/* What may have changed in v->cpu since the last run. */
int kvm_load_changed(struct kvm_engine *k);
/* The TSC offset alone. */
int kvm_load_tsc(struct kvm_engine *k);
/* From the exit's own copy: what board callbacks look at. */
void kvm_fetch_for_call(struct kvm_engine *k);
/* From the exit's own copy: registers and all segments. */
void kvm_fetch_regs(struct kvm_engine *k);
/* The rest; an event that KVM was about to deliver is delivered in v->cpu. */
int kvm_fetch_deep(struct kvm_engine *k);
/* General registers to the place where KVM_RUN finds them. */
void kvm_put_regs(struct kvm_engine *k);

/* --- run.c --- */

/* accel_ops.run, .kick and .sync */
void kvm_run_guest(struct vcpu *v, struct exit *exit);
void kvm_kick(struct vcpu *v);
void kvm_sync(struct vcpu *v);
/* The signal of kicks gets its handler. */
void kvm_install_signal(void);

#endif
