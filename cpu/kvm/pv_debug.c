/* SPDX-License-Identifier: MIT */
/*
 * Stopping a PV guest for a debugger (accel_ops.set_debug). All exceptions of the guest come to the
 * shim, so KVM's own debugging is not needed: a step is the processor's TF, points are its debug
 * registers, INT3 comes as #GP like any INT n. What the guest sees of its flags is without that TF,
 * but in what PUSHF pushes; its own breakpoints rest while the debugger has points.
 *
 * A step ends at #DB, or at any other exit in which pvemu has done something for the guest.
 */
#include "pv.h"

#include <string.h>

#include "cpu/x86/x86.h"

#define DEBUG_POINTS    0xfull
#define DEBUG_DR6_CLEAN 0xffff0ff0ull
#define DEBUG_ERROR_IDT 2u /* of a #GP: of a gate. QEMU's processor gets its number wrong */
enum { OP_INT3 = 0xcc };

/* Whether TF behind the instruction at rip is its own doing. */
static bool debug_sets_flags(struct vcpu *v)
{
    struct insn in;

    return kvm_debug_decode(v, &in) && (in.id == INSN_POPF || in.id == INSN_IRET);
}

void kvm_pv_debug_begin(struct kvm_engine *k)
{
    struct kvm_pv_debug *d = &k->pv->debug;

    d->step = (k->debug.control & KVM_GUESTDBG_SINGLESTEP) != 0;
    if (d->step) {
        const struct cpu_x86 *cpu = &k->v->cpu;

        d->rip = cpu->rip;
        d->trap_flag = cpu->rflags & CPU_TF;
        d->kernel = cpu->pv_kernel;
        memcpy(d->gpr, cpu->gpr, sizeof(d->gpr));
        d->sets_flags = debug_sets_flags(k->v);
    }
}

uint64_t kvm_pv_debug_flags(const struct kvm_engine *k)
{
    uint64_t rflags = k->v->cpu.rflags;

    if (k->pv->debug.step) {
        rflags |= CPU_TF;
    }
    if ((k->debug.control & KVM_GUESTDBG_USE_HW_BP) != 0) {
        rflags &= ~(uint64_t)CPU_RF; /* a point hits every time */
    }
    return rflags;
}

uint64_t kvm_pv_debug_home(const struct kvm_engine *k, uint64_t rflags)
{
    const struct kvm_pv_debug *d = &k->pv->debug;

    if (!d->step || (d->sets_flags && k->v->cpu.rip != d->rip)) {
        return rflags;
    }
    return (rflags & ~(uint64_t)CPU_TF) | d->trap_flag;
}

const uint64_t *kvm_pv_debug_regs(const struct kvm_engine *k, uint64_t *dr)
{
    if (k->debug.control == 0) {
        return k->v->cpu.dr;
    }
    memcpy(dr, k->v->cpu.dr, sizeof(k->v->cpu.dr));
    dr[6] = DEBUG_DR6_CLEAN;
    if ((k->debug.control & KVM_GUESTDBG_USE_HW_BP) != 0) {
        memcpy(dr, k->debug.arch.debugreg, 4 * sizeof(*dr));
        dr[7] = k->debug.arch.debugreg[7];
    }
    return dr;
}

static bool debug_stop(struct exit *exit, unsigned stop)
{
    if (stop != 0) {
        exit->kind = EXIT_DEBUG;
        exit->stop = stop;
    }
    return stop != 0;
}

/* A #DB: what the debugger wanted is taken out. */
static unsigned debug_trap(const struct kvm_engine *k, struct x86_fault *fault)
{
    const struct kvm_pv_debug *d = &k->pv->debug;
    unsigned stop = 0;

    if (d->step && (fault->dr6 & KVM_DR6_BS) != 0) {
        stop = VCPU_STOP_STEP;
        if (d->trap_flag == 0) {
            fault->dr6 &= ~KVM_DR6_BS;
        }
    }
    if ((k->debug.control & KVM_GUESTDBG_USE_HW_BP) != 0) {
        stop |= (unsigned)(fault->dr6 & kvm_debug_enabled(k->debug.arch.debugreg[7])) *
                VCPU_STOP_POINT;
        fault->dr6 &= ~DEBUG_POINTS;
    }
    return stop;
}

bool kvm_pv_debug_fault(struct kvm_engine *k, struct x86_fault *fault, struct exit *exit)
{
    if (fault->vector == CPU_GP) {
        return (k->debug.control & KVM_GUESTDBG_USE_SW_BP) != 0 &&
               (fault->error & DEBUG_ERROR_IDT) != 0 && kvm_debug_byte(k->v, 0) == OP_INT3 &&
               debug_stop(exit, VCPU_STOP_INT3);
    }
    return fault->vector == CPU_DB && debug_stop(exit, debug_trap(k, fault)) && fault->dr6 == 0;
}

bool kvm_pv_debug_done(const struct kvm_engine *k, struct exit *exit)
{
    const struct kvm_pv_debug *d = &k->pv->debug;
    const struct cpu_x86 *cpu = &k->v->cpu;

    if (exit->kind == EXIT_DEBUG) { /* and something was left for the guest */
        return true;
    }
    return d->step && !k->unfinished && !cpu->halted &&
           (cpu->rip != d->rip || cpu->pv_kernel != d->kernel ||
            memcmp(cpu->gpr, d->gpr, sizeof(d->gpr)) != 0) &&
           debug_stop(exit, VCPU_STOP_STEP);
}
