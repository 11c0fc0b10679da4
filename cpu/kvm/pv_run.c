/* SPDX-License-Identifier: MIT */
/*
 * Running a PV guest: its exits are the shim's HLTs, and where RIP is then says what happened.
 * v->cpu is complete between two entries, and cpu/x86 and pv/ work on it as with every engine.
 *
 * A kick can also stop the vCPU within the shim. At an entry that is as good as its HLT; on the
 * way back to the guest nothing of the guest has run, so v->cpu still holds and the way is taken
 * again. The same is true when the shim's IRET faults: then v->cpu is put into KVM as it is.
 */
#include "pv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cpu/x86/x86.h"

enum { VECTORS_WITH_ERROR = 0x60227d00 }; /* 8, 10 to 14, 17, 21, 29, 30 */
#define RUN_DR6_BITS 0xe00full

/* A fault of the guest's. false: leave. */
static bool run_deliver(struct kvm_engine *k, struct x86_fault *fault, struct exit *exit)
{
    struct vcpu *v = k->v;

    k->pv->direct = false;
    if (G_UNLIKELY(k->debug.control != 0) && kvm_pv_debug_fault(k, fault, exit)) {
        return false;
    }
    if (fault->vector == CPU_GP) {
        x86_pv_protection(v, fault);
        return true;
    }
    return x86_raise(v, fault);
}

/* --- the shim's entries: false = leave --- */

static bool run_lost(struct kvm_engine *k, struct exit *exit)
{
    exit->kind = EXIT_ERROR;
    g_snprintf(exit->message, sizeof(exit->message),
               "KVM: the way into the hypervisor went wrong at rip 0x%" PRIx64,
               (uint64_t)k->run->s.regs.regs.rip);
    return false;
}

static void run_syscall(struct kvm_engine *k, bool code64)
{
    struct vcpu *v = k->v;
    struct cpu_x86 *cpu = &v->cpu;

    k->pv->direct = false;
    cpu->rip = cpu->gpr[CPU_RCX];
    cpu->gpr[CPU_R11] = kvm_pv_debug_home(k, cpu->gpr[CPU_R11]);
    cpu->rflags = cpu->gpr[CPU_R11] | 2;
    kvm_pv_fetch_code(k, code64 ? KVM_PV_CS64 : KVM_PV_CS32, KVM_PV_DS);
    if (!v->pv->syscall(v)) {
        cpu->rip -= 2;
        x86_raise(v, &(struct x86_fault){.vector = CPU_UD});
    }
}

static void run_sysenter(struct kvm_engine *k)
{
    struct vcpu *v = k->v;

    k->pv->direct = false;
    v->cpu.rip = 0; /* SYSENTER keeps none; Xen shows 0 too */
    v->cpu.rflags = kvm_pv_debug_home(k, v->cpu.rflags);
    kvm_pv_fetch_code(k, KVM_PV_CS32, KVM_PV_DS);
    if (!v->pv->sysenter(v)) {
        x86_raise(v, &(struct x86_fault){.vector = CPU_GP, .has_error = true});
    }
}

/* Whether rip is at the HLT or behind it. */
static bool run_is_at(const struct kvm_engine *k, uint64_t rip, const uint8_t *entry)
{
    return rip - kvm_pv_code(k->pv, entry) <= 1;
}

/* SYSCALL and SYSENTER. false: rip is not there. */
static bool run_call(struct kvm_engine *k, uint64_t rip)
{
    const enum kvm_pv_fast fast = kvm_pv_fast_stopped(k, rip);

    if (fast == KVM_PV_AT_ENTRY) {
        run_syscall(k, true);
    } else if (fast == KVM_PV_DONE) {
        k->pv->direct = false;
    } else if (run_is_at(k, rip, kvm_pv_shim_syscall32)) {
        run_syscall(k, false);
    } else if (run_is_at(k, rip, kvm_pv_shim_sysenter)) {
        run_sysenter(k);
    } else {
        return false;
    }
    return true;
}

static bool run_in_return(const struct kvm_engine *k, uint64_t rip)
{
    return rip >= kvm_pv_code(k->pv, kvm_pv_shim_resume) &&
           rip <= kvm_pv_code(k->pv, kvm_pv_shim_iret);
}

static void run_read_frame(const struct kvm_engine *k, unsigned vector,
                           struct kvm_pv_frame *frame)
{
    const struct kvm_pv_cpu *pv = k->pv;
    const uint8_t *top = vector == CPU_DB ? pv->stack2 + 2048
                         : vector == CPU_NMI || vector == CPU_DOUBLE_FAULT || vector == CPU_MC
                             ? pv->stack2 + 4096
                             : pv->stack + 4096;

    memcpy(frame, top - sizeof(*frame), sizeof(*frame));
}

static bool run_is_point(const struct cpu_x86 *cpu, unsigned i)
{
    return (cpu->dr[7] >> (16 + 4 * i) & 15) == 0 &&
           cpu->dr[i] == cpu->rip + (cpu_is_code64(cpu) ? 0 : cpu->seg[CPU_CS].base);
}

/* #DB: which, and KVM's DR6 is as new. As with every engine, whatever the processor does, of
 * breakpoints only those that are enabled are told, and one on an instruction sets RF in the
 * frame: without, as AMD's and Bochs' leave it, it would hit again. */
static void run_debug_bits(struct kvm_engine *k, struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_debugregs d;

    if (kvm_ioctl(k->vm->sys, k->fd, KVM_GET_DEBUGREGS, &d) < 0) {
        return;
    }
    k->pv->dr[6] = d.dr6; /* differs now from what the guest is going to have */
    fault->dr6 = d.dr6 & RUN_DR6_BITS;
    if ((k->debug.control & KVM_GUESTDBG_USE_HW_BP) != 0) {
        return; /* they are the debugger's */
    }
    for (unsigned i = 0; i < 4; i++) {
        if ((cpu->dr[7] >> (2 * i) & 3) == 0) {
            fault->dr6 &= ~(1ull << i);
        } else if ((fault->dr6 >> i & 1) != 0 && run_is_point(cpu, i)) {
            cpu->rflags |= CPU_RF;
        }
    }
}

/* An exception at CPL 0: the shim's own way back failed, or #DB came late (MOV SS before a
 * system call). */
static bool run_nested(struct kvm_engine *k, const struct kvm_pv_frame *frame,
                       struct exit *exit)
{
    if (run_in_return(k, frame->rip)) {
        if (k->pv->direct) {
            return run_lost(k, exit);
        }
        k->pv->direct = true;
        return true;
    }
    kvm_pv_fetch_data(k);
    k->v->cpu.gpr[CPU_RSP] = frame->rsp;
    k->pv->flush = false;
    return run_call(k, frame->rip) || run_lost(k, exit);
}

static bool run_vector(struct kvm_engine *k, unsigned vector, struct exit *exit)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_pv_frame frame;
    struct x86_fault fault = {.vector = (uint8_t)vector};

    run_read_frame(k, vector, &frame);
    if ((frame.cs & 3) == 0) {
        return run_nested(k, &frame, exit);
    }
    k->pv->flush = false;
    kvm_pv_fetch_data(k);
    cpu->rip = frame.rip;
    cpu->rflags = kvm_pv_debug_home(k, frame.rflags) | 2;
    cpu->gpr[CPU_RSP] = frame.rsp;
    kvm_pv_fetch_code(k, (uint16_t)frame.cs, (uint16_t)frame.ss);
    if (vector < 32 && (VECTORS_WITH_ERROR >> vector & 1) != 0) {
        fault.has_error = true;
        fault.error = (uint32_t)frame.error;
    }
    if (vector == CPU_PAGE_FAULT) {
        fault.cr2 = k->run->s.regs.sregs.cr2;
    } else if (vector == CPU_DB) {
        run_debug_bits(k, &fault);
    }
    return run_deliver(k, &fault, exit);
}

/* KVM stopped at CPL 0. */
static bool run_shim(struct kvm_engine *k, struct exit *exit)
{
    const uint64_t rip = k->run->s.regs.regs.rip;
    const uint64_t offset = rip - kvm_pv_code(k->pv, kvm_pv_shim);

    k->pv->at_shim = true;
    if (run_in_return(k, rip)) {
        return true; /* v->cpu holds */
    }
    if (offset < KVM_PV_VECTORS * KVM_PV_VECTOR_BYTES) {
        return run_vector(k, (unsigned)offset / KVM_PV_VECTOR_BYTES, exit);
    }
    k->pv->flush = false;
    kvm_pv_fetch_data(k);
    return run_call(k, rip) || run_lost(k, exit);
}

/* --- interrupted --- */

/* An exception that KVM was about to deliver, once its state is home. */
static bool run_pending(struct kvm_engine *k, struct exit *exit, bool guest)
{
    struct kvm_vcpu_events e, none = {.flags = 0};
    struct x86_fault fault;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, &e);

    if (ret < 0) {
        return kvm_run_failed(exit, "it does not give the guest's state", -ret);
    }
    if (e.exception.injected == 0 && e.exception.pending == 0) {
        return true;
    }
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_VCPU_EVENTS, &none);
    if (ret < 0) {
        return kvm_run_failed(exit, "it does not take the guest's state", -ret);
    }
    if (!guest) {
        k->pv->direct = true; /* of the shim's IRET */
        return true;
    }
    fault = (struct x86_fault){
        .vector = e.exception.nr, .has_error = e.exception.has_error_code != 0,
        .error = e.exception.error_code, .cr2 = k->run->s.regs.sregs.cr2,
    };
    if (fault.vector == CPU_DB) {
        run_debug_bits(k, &fault);
    }
    return run_deliver(k, &fault, exit);
}

/* Stopped anywhere. */
static bool run_interrupted(struct kvm_engine *k, struct exit *exit)
{
    if (k->run->s.regs.sregs.ss.dpl != 0 || (k->run->s.regs.sregs.cs.selector & 3) != 0) {
        k->pv->at_shim = k->pv->direct = k->pv->flush = false;
        kvm_pv_fetch(k);
        return run_pending(k, exit, true);
    }
    return run_pending(k, exit, false) && run_shim(k, exit);
}

/* VMCALL or VMMCALL, where KVM hands it out: a PV guest's processor runs no virtual machine. KVM
 * sees that RIP is elsewhere when it is entered again, and leaves it. */
static bool run_vmcall(struct kvm_engine *k, struct exit *exit)
{
    k->pv->at_shim = k->pv->direct = k->pv->flush = false;
    kvm_pv_fetch(k);
    return run_deliver(k, &(struct x86_fault){.vector = CPU_UD}, exit);
}

/* --- the loop --- */

static bool run_exit(struct kvm_engine *k, struct exit *exit)
{
    switch (k->run->exit_reason) {
    case KVM_EXIT_HLT:
        return run_shim(k, exit);
    case KVM_EXIT_MMIO:
        k->unfinished = true;
        return kvm_run_mmio(k, exit);
    case KVM_EXIT_INTR:
        return run_interrupted(k, exit);
    case KVM_EXIT_XEN:
        return run_vmcall(k, exit);
    default:
        return kvm_run_ended(k, exit);
    }
}

/* Requests of others. false: leave. */
static bool run_requests(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    uint32_t request = atomic_load(&v->request);
    int error = atomic_load(&k->vm->failed);

    if (error != 0) {
        return kvm_run_failed(exit, atomic_load(&k->vm->failed_what), error);
    }
    if ((request & (VCPU_REQ_TLB_FLUSH | VCPU_REQ_PV_FLUSH)) != 0) {
        k->pv->flush = true;
        atomic_fetch_and(&v->request, ~(uint32_t)(VCPU_REQ_TLB_FLUSH | VCPU_REQ_PV_FLUSH));
    }
    if ((request & VCPU_REQ_NMI) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_NMI);
        v->cpu.nmi_pending = true;
    }
    if (k->unfinished) { /* KVM finishes the instruction and comes back */
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    if ((request & VCPU_REQ_STOP) != 0) {
        return false; /* exit->kind is EXIT_KICK */
    }
    if (v->cpu.nmi_pending && !v->cpu.nmi_blocked) {
        v->cpu.nmi_pending = false;
        x86_nmi(v);
    }
    if ((request & VCPU_REQ_IRQ) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
        v->pv->event(v);
    }
    return true;
}

static bool run_enter(struct kvm_engine *k, struct exit *exit)
{
    struct kvm_run *run = k->run;
    int ret = k->unfinished ? 0 : kvm_pv_load(k);

    if (ret < 0) {
        return kvm_run_failed(exit, "it does not take the guest's state", -ret);
    }
    k->unfinished = false;
    k->deep_away = true;
    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    ret = k->vm->sys->ioctl(k->fd, KVM_RUN, 0);
    atomic_store(&k->inside, false);
    k->entries++;
    if (ret == -EINTR || ret == -EAGAIN) {
        k->signals++;
        return run_interrupted(k, exit);
    }
    k->exits[MIN(run->exit_reason, KVM_EXITS - 1)]++;
    return ret < 0 ? kvm_run_failed(exit, "cannot run the guest", -ret) : run_exit(k, exit);
}

static bool run_once(struct kvm_engine *k, struct exit *exit)
{
    if (k->v->cpu.halted) {
        exit->kind = EXIT_HALT;
        return false;
    }
    __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    atomic_store(&k->inside, true);
    if (!run_requests(k, exit) || k->v->cpu.halted) {
        exit->kind = k->v->cpu.halted && exit->kind == EXIT_KICK ? EXIT_HALT : exit->kind;
        atomic_store(&k->inside, false);
        return false;
    }
    return run_enter(k, exit);
}

static bool run_begin(struct kvm_engine *k, struct exit *exit)
{
    int ret = 0;

    if (!kvm_run_begin(k, exit)) {
        return false;
    }
    if (k->pv == NULL) {
        ret = kvm_pv_prepare(k);
    }
    if (ret >= 0 && k->load_all) {
        k->unfinished = false;
        ret = kvm_pv_load_all(k);
    }
    return ret >= 0 || kvm_run_failed(exit, "it does not take the guest's state", -ret);
}

void kvm_pv_run(struct kvm_engine *k, struct exit *exit)
{
    if (!run_begin(k, exit)) {
        return;
    }
    while (run_once(k, exit) && !kvm_pv_debug_done(k, exit)) {
    }
    if (exit->kind == EXIT_KICK || exit->kind == EXIT_DEBUG) {
        int ret = kvm_pv_sync(k);

        if (ret < 0) {
            kvm_run_failed(exit, "it does not give the guest's state", -ret);
        }
    }
}

/* Vector registers; the guest cannot change anything else that is not home. */
int kvm_pv_sync(struct kvm_engine *k)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    const uint64_t xcr0 = cpu->xcr0;
    int ret = 0;

    if (k->deep_away && !k->load_all) {
        ret = kvm_fetch_xsave(k);
        cpu->xcr0 = xcr0;
        k->deep_away = false;
    }
    return ret;
}

void kvm_pv_flush(struct kvm_engine *k)
{
    if (k->pv != NULL) {
        k->pv->flush = true;
    }
}
