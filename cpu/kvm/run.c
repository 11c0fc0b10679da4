/* SPDX-License-Identifier: MIT */
/*
 * Running: what has to happen before KVM is entered, and what its exits ask for.
 *
 * Kicks: a kicker sets the request bit, then immediate_exit, then looks whether the vCPU may be
 * inside and sends a signal if so. The vCPU clears immediate_exit and says it is inside before it
 * looks at the requests. So either it sees the request or its KVM_RUN ends at once.
 *
 * Interrupts: without a controller in KVM an interrupt is given by KVM_INTERRUPT when KVM has said
 * that it can take one; otherwise KVM is asked to come out as soon as it can. With KVM's local
 * APICs irqchip.c does it.
 */
#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "cpu/x86/x86.h"

enum { LAPIC_TPR_OFFSET = 0x80, VMCALL_SIZE = 3 };
#define RUN_LAPIC_PAGE  0xfee00u
#define RUN_X2APIC_TPR  0x808u
#define RUN_X2APIC_LAST 0x8ffu
#define RUN_X2APIC      0x800u
#define RUN_TSC_DEADLINE 0x6e0u

bool kvm_run_failed(struct exit *exit, const char *what, int error)
{
    exit->kind = EXIT_ERROR;
    g_snprintf(exit->message, sizeof(exit->message), "KVM: %s: %s", what, g_strerror(error));
    return false;
}

/* --- kicks --- */

static void run_signal(int number)
{
    (void)number; /* it has ended the system call: that is all */
}

void kvm_install_signal(void)
{
    struct sigaction sa = {.sa_handler = run_signal};

    sigemptyset(&sa.sa_mask);
    sigaction(SANDBOX_KICK_SIGNAL, &sa, NULL);
}

static void run_know_thread(struct kvm_engine *k)
{
    uintptr_t self = (uintptr_t)pthread_self();

    if (!k->thread_known || k->thread != self) {
        k->tid = (int)syscall(SYS_gettid);
        k->thread = self;
        k->thread_known = true;
    }
}

void kvm_kick(struct vcpu *v)
{
    struct kvm_engine *k = v->engine;

    if (k == NULL) {
        return;
    }
    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    /* On its own thread it looks at the requests before it enters again. */
    if (atomic_load(&k->inside) && k->thread != (uintptr_t)pthread_self()) {
        syscall(SYS_tgkill, getpid(), k->tid, SANDBOX_KICK_SIGNAL);
    }
}

/* --- before entering --- */

/* kvm_chip.offer: gives the interrupt or asks for the moment when it can be given. */
static bool run_offer_irq(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    struct kvm_interrupt irq;
    int vector, ret;

    if (!k->irq_ready || k->unfinished) {
        k->run->request_interrupt_window = 1;
        return true;
    }
    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ);
    vector = v->board_ops->irq_ack(v);
    if (vector < 0) {
        return true;
    }
    irq.irq = (uint32_t)vector;
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_INTERRUPT, &irq);
    if (ret < 0) {
        return kvm_run_failed(exit, "cannot give an interrupt", -ret);
    }
    k->irq_ready = false; /* the board asks again if there is another one */
    return true;
}

static bool run_give_nmi(struct kvm_engine *k, struct exit *exit)
{
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_NMI, NULL);

    k->v->cpu.nmi_pending = false;
    return ret >= 0 || kvm_run_failed(exit, "cannot give an NMI", -ret);
}

/* Requests of others, or something else that is seldom. false: leave. */
static bool run_requests(struct kvm_engine *k, uint32_t request, struct exit *exit)
{
    struct vcpu *v = k->v;
    int error = atomic_load(&k->vm->failed);

    if (error != 0) {
        return kvm_run_failed(exit, atomic_load(&k->vm->failed_what), error);
    }
    if ((request & VCPU_REQ_TLB_FLUSH) != 0) { /* KVM has followed the layout by itself */
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_TLB_FLUSH);
    }
    if ((request & VCPU_REQ_NMI) != 0) {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_NMI);
        v->cpu.nmi_pending = true;
    }
    if ((request & VCPU_REQ_STOP) != 0) {
        if (!k->unfinished) {
            return false; /* exit->kind is EXIT_KICK */
        }
        /* KVM finishes the instruction and comes back. */
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        return true;
    }
    if (kvm_debug_holds(k)) {
        return true;
    }
    if (v->cpu.nmi_pending && !run_give_nmi(k, exit)) {
        return false;
    }
    return (request & VCPU_REQ_IRQ) == 0 || k->vm->chip->offer(k, exit);
}

/* --- exits: false = leave --- */

static bool run_hypercall(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    int ret = kvm_fetch_for_call(k);

    if (ret < 0) {
        return kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
    }
    k->regs_dirty = true;
    k->unfinished = false; /* nothing of it is left in KVM */
    k->hypercalls++;
    v->board_ops->hypercall(v);
    if (v->cpu.halted) {
        exit->kind = EXIT_HALT;
        return false;
    }
    return true;
}

/*
 * VMCALL or VMMCALL, where KVM hands it out. Unlike OUT it is KVM's to finish: when entered with RIP
 * at the instruction it sets RAX and goes behind. Here RIP is behind already. When the call is to be
 * made again, or KVM is left, it is entered once for nothing else.
 */
static void run_xen_finish(struct kvm_engine *k)
{
    k->xen_pending = false;
    kvm_put_regs(k);
    k->run->s.regs.regs.rip = k->xen_next;
    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    k->vm->sys->ioctl(k->fd, KVM_RUN, 0);
    k->regs_dirty = true;
}

static bool run_xen(struct kvm_engine *k, struct exit *exit)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    int ret;

    if (k->run->xen.type != KVM_EXIT_XEN_HCALL) {
        return kvm_run_ended(k, exit);
    }
    ret = kvm_fetch_regs(k);
    if (ret < 0) {
        return kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
    }
    cpu->rip += VMCALL_SIZE;
    k->xen_next = cpu->rip;
    k->xen_pending = true;
    if (!run_hypercall(k, exit)) {
        return false;
    }
    if (cpu->rip != k->xen_next) {
        run_xen_finish(k);
    }
    return !kvm_debug_stepped(k, exit); /* KVM would step from where the call was */
}

/* Ports' values, without a call of memcpy(). */
static uint64_t run_io_get(const uint8_t *data, unsigned size)
{
    uint32_t low = 0;
    uint16_t half;

    if (size == 1) {
        return *data;
    }
    if (size == 2) {
        memcpy(&half, data, sizeof(half));
        return half;
    }
    memcpy(&low, data, sizeof(low));
    return low;
}

/* Several at once, and IN. */
static void run_io_string(struct kvm_engine *k)
{
    struct kvm_run *run = k->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    struct vcpu *v = k->v;
    unsigned size = run->io.size;

    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            v->board_ops->pio_write(v, run->io.port, size, run_io_get(data, size));
        } else {
            uint64_t value = v->board_ops->pio_read(v, run->io.port, size);

            memcpy(data, &value, size);
        }
    }
}

static bool run_io(struct kvm_engine *k, struct exit *exit)
{
    const struct kvm_run *run = k->run;
    struct vcpu *v = k->v;
    unsigned size = run->io.size;

    k->unfinished = true;
    if (run->io.direction != KVM_EXIT_IO_OUT || run->io.count != 1) {
        run_io_string(k);
        return true;
    }
    if (run->io.port == VCPU_HYPERCALL_PORT && size == 1) {
        return run_hypercall(k, exit);
    }
    v->board_ops->pio_write(v, run->io.port, size,
                            run_io_get((const uint8_t *)run + run->io.data_offset, size));
    return true;
}

bool kvm_run_mmio(struct kvm_engine *k, struct exit *exit)
{
    struct kvm_run *run = k->run;
    struct vcpu *v = k->v;
    uint64_t gpa = run->mmio.phys_addr;
    uint8_t *data = run->mmio.data;
    unsigned left = MIN(run->mmio.len, sizeof(run->mmio.data));

    (void)exit;
    k->apic += gpa >> 12 == RUN_LAPIC_PAGE;
    while (left > 0) {
        unsigned size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        uint64_t value = 0;

        if (run->mmio.is_write) {
            memcpy(&value, data, size);
            v->board_ops->mmio_write(v, gpa, size, value);
        } else {
            value = v->board_ops->mmio_read(v, gpa, size);
            memcpy(data, &value, size);
        }
        data += size, gpa += size, left -= size;
    }
    if (run->mmio.is_write &&
        run->mmio.phys_addr == ((uint64_t)RUN_LAPIC_PAGE << 12 | LAPIC_TPR_OFFSET)) {
        k->cr8 = v->board_ops->read_cr8(v);
    }
    return true;
}

/* MSRs of the local APIC need no state of the CPU. */
static int run_fetch_for_msr(struct kvm_engine *k, uint32_t index)
{
    bool apic = (index >= RUN_X2APIC && index <= RUN_X2APIC_LAST) || index == RUN_TSC_DEADLINE;

    k->apic += apic;
    return apic ? 0 : kvm_fetch_for_call(k);
}

static bool run_rdmsr(struct kvm_engine *k, struct exit *exit)
{
    struct kvm_run *run = k->run;
    uint64_t value = 0;
    int ret = run_fetch_for_msr(k, run->msr.index);

    if (ret < 0) {
        return kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
    }
    run->msr.error = !x86_rdmsr(k->v, run->msr.index, &value);
    run->msr.data = value;
    return true;
}

static bool run_wrmsr(struct kvm_engine *k, struct exit *exit)
{
    struct kvm_run *run = k->run;
    struct vcpu *v = k->v;
    int ret = run_fetch_for_msr(k, run->msr.index);

    if (ret < 0) {
        return kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
    }
    run->msr.error = !x86_wrmsr(v, run->msr.index, run->msr.data);
    if (run->msr.index == RUN_X2APIC_TPR) {
        k->cr8 = v->board_ops->read_cr8(v);
    }
    if (v->cpu.tsc_offset != k->tsc_offset) {
        ret = kvm_load_tsc(k);
    }
    return ret >= 0 || kvm_run_failed(exit, "cannot set the TSC", -ret);
}

static bool run_error(struct kvm_engine *k, struct exit *exit)
{
    const struct kvm_run *run = k->run;
    uint64_t rip = kvm_fetch_regs(k) >= 0 ? k->v->cpu.rip : 0;

    exit->kind = EXIT_ERROR;
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY) {
        g_snprintf(exit->message, sizeof(exit->message),
                   "KVM: the processor refused the guest's state (reason 0x%" PRIx64
                   ") at rip 0x%" PRIx64,
                   (uint64_t)run->fail_entry.hardware_entry_failure_reason, rip);
    } else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
        g_snprintf(exit->message, sizeof(exit->message),
                   "KVM: internal error %u at rip 0x%" PRIx64 "%s", run->internal.suberror, rip,
                   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                       ? ": an instruction it cannot emulate"
                       : "");
    } else {
        g_snprintf(exit->message, sizeof(exit->message),
                   "KVM: exit %u, which pvemu does not know, at rip 0x%" PRIx64,
                   run->exit_reason, rip);
    }
    return false;
}

bool kvm_run_triple(struct exit *exit)
{
    exit->kind = EXIT_SHUTDOWN;
    g_strlcpy(exit->message, "triple fault", sizeof(exit->message));
    return false;
}

bool kvm_run_ended(struct kvm_engine *k, struct exit *exit)
{
    return k->run->exit_reason == KVM_EXIT_SHUTDOWN ? kvm_run_triple(exit) : run_error(k, exit);
}

/* What KVM came back with, but ports. */
static bool run_exit(struct kvm_engine *k, struct exit *exit)
{
    switch (k->run->exit_reason) {
    case KVM_EXIT_MMIO:
        k->unfinished = true;
        return kvm_run_mmio(k, exit);
    case KVM_EXIT_X86_RDMSR:
        k->unfinished = true;
        return run_rdmsr(k, exit);
    case KVM_EXIT_X86_WRMSR:
        k->unfinished = true;
        return run_wrmsr(k, exit);
    case KVM_EXIT_XEN:
        return run_xen(k, exit);
    case KVM_EXIT_IOAPIC_EOI:
        k->v->board_ops->apic_eoi(k->v, k->run->eoi.vector);
        return true;
    case KVM_EXIT_DEBUG:
        return kvm_debug_exit(k, exit);
    case KVM_EXIT_HLT:
        k->v->cpu.halted = true;
        exit->kind = EXIT_HALT;
        return false;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
    case KVM_EXIT_SET_TPR:
        return true;
    default:
        return kvm_run_ended(k, exit);
    }
}

/* --- the loop --- */

/* What it has to be told before it is entered. */
static void run_prepare(struct kvm_engine *k)
{
    struct kvm_run *run = k->run;

    if (k->regs_dirty) {
        kvm_put_regs(k);
    }
    run->cr8 = k->cr8;
    run->kvm_valid_regs = 0;
    if (k->near > 0) {
        run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
        k->near--;
    }
    k->unfinished = k->xen_pending = false;
    k->regs_away = k->sregs_away = k->deep_away = true;
}

static bool run_not_run(struct kvm_engine *k, struct exit *exit, int ret)
{
    if (ret == -EINTR || ret == -EAGAIN) {
        k->signals++;
        return true;
    }
    return kvm_run_failed(exit, "cannot run the guest", -ret);
}

/* Short: every exit goes this way (docs/kvm.md, Costs). */
static bool run_enter(struct kvm_engine *k, struct exit *exit)
{
    struct kvm_run *run = k->run;
    int ret;

    run_prepare(k);
    ret = k->vm->sys->ioctl(k->fd, KVM_RUN, 0);
    atomic_store_explicit(&k->inside, false, memory_order_release);
    k->irq_ready = run->ready_for_interrupt_injection != 0;
    if (G_UNLIKELY(run->cr8 != k->cr8)) {
        k->cr8 = run->cr8;
        k->v->board_ops->write_cr8(k->v, k->cr8);
    }
    k->entries++;
    if (G_UNLIKELY(ret < 0)) {
        return run_not_run(k, exit, ret);
    }
    k->exits[MIN(run->exit_reason, KVM_EXITS - 1)]++;
    return run->exit_reason == KVM_EXIT_IO ? run_io(k, exit) : run_exit(k, exit);
}

static bool run_once(struct kvm_engine *k, struct exit *exit)
{
    struct vcpu *v = k->v;
    uint32_t request;

    __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_RELAXED);
    atomic_store(&k->inside, true); /* and whoever kicks sees the other store too */
    request = atomic_load(&v->request);
    k->run->request_interrupt_window = 0;
    if (G_UNLIKELY(request != 0 || v->cpu.nmi_pending ||
                   atomic_load_explicit(&k->vm->failed, memory_order_relaxed) != 0) &&
        !run_requests(k, request, exit)) {
        atomic_store(&k->inside, false);
        return false;
    }
    return run_enter(k, exit);
}

bool kvm_run_cpuid(struct kvm_engine *k, struct exit *exit)
{
    if (!k->cpuid_set) { /* not sooner: the board adds Xen's leaves */
        g_autoptr(GError) err = NULL;

        k->cpuid_set = kvm_set_cpuid(k, &err);
        if (!k->cpuid_set) {
            return kvm_run_failed(exit, "it does not take the guest's CPUID", EINVAL);
        }
    }
    return true;
}

bool kvm_run_begin(struct kvm_engine *k, struct exit *exit)
{
    run_know_thread(k);
    return kvm_run_cpuid(k, exit);
}

static int run_begin_user(struct kvm_engine *k)
{
    const struct cpu_x86 *cpu = &k->v->cpu;
    int ret;

    if (k->load_all) {
        k->unfinished = false;
        k->irq_ready = (cpu->rflags & CPU_IF) != 0 && !cpu->irq_shadow;
        k->cr8 = k->v->board_ops->read_cr8(k->v);
        ret = kvm_load_all(k);
    } else {
        ret = kvm_load_changed(k);
    }
    k->regs_dirty = true;
    return ret >= 0 ? kvm_debug_enter(k) : ret;
}

static int run_leave_user(struct kvm_engine *k, const struct exit *exit)
{
    struct vcpu *v = k->v;
    int ret;

    if (exit->kind != EXIT_HALT) {
        return kvm_fetch_all(k);
    }
    ret = kvm_fetch_for_call(k); /* the board writes to addresses by CR3 while it sleeps */
    v->cpu.irq_shadow = false;
    k->irq_ready = (v->cpu.rflags & CPU_IF) != 0;
    return ret;
}

const struct kvm_chip kvm_chip_user = {
    .begin = run_begin_user, .offer = run_offer_irq, .leave = run_leave_user,
};

void kvm_run_guest(struct vcpu *v, struct exit *exit)
{
    struct kvm_engine *k = v->engine;
    int ret;

    exit->kind = EXIT_KICK;
    exit->message[0] = '\0';
    if (v->pv != NULL) {
        kvm_pv_run(k, exit);
        return;
    }
    if (k->triple) { /* found when the state was brought home between runs */
        kvm_run_triple(exit);
        return;
    }
    if (!kvm_run_begin(k, exit) || kvm_debug_home(k, exit)) {
        return;
    }
    ret = k->vm->chip->begin(k);
    if (ret < 0) {
        kvm_run_failed(exit, KVM_NOT_TAKEN, -ret);
        return;
    }
    if (!kvm_debug_hypercall(k, exit)) {
        while (run_once(k, exit)) {
        }
    }
    if (k->xen_pending) {
        run_xen_finish(k);
    }
    ret = k->vm->chip->leave(k, exit);
    if (ret < 0 && exit->kind != EXIT_ERROR) {
        kvm_run_failed(exit, KVM_NOT_GIVEN, -ret);
    } else if (k->triple && exit->kind != EXIT_ERROR) {
        kvm_run_triple(exit);
    } else if (kvm_debug_holds(k)) {
        kvm_debug_left(k, exit);
    }
}

void kvm_sync(struct vcpu *v)
{
    struct kvm_engine *k = v->engine;
    int ret;

    ret = v->pv != NULL ? kvm_pv_sync(k) : k->load_all ? 0 : kvm_fetch_all(k);
    if (ret < 0) { /* nothing better is to be had: the next run ends the guest */
        k->regs_away = k->sregs_away = k->deep_away = false;
        kvm_vm_failed(k->vm, KVM_NOT_GIVEN, -ret);
    }
}
