/* SPDX-License-Identifier: MIT */
/*
 * KVM in place of the interpreter: tests of tests/unit/interp are built once more with
 * interp_accel_ops being this table, for a machine with a true /dev/kvm (suite.py). With
 * GUEST_KVM_SPLIT the local APICs are KVM's; then the test has the board's part in a HLT.
 */
#include "cpu/kvm/kvm.h"
#include "cpu/x86/x86.h"
#include "guest_kvm.h"

#ifdef GUEST_KVM_SPLIT
#define KVM_OPS kvm_split_accel_ops
#else
#define KVM_OPS kvm_accel_ops
#endif

static struct vcpu_board_ops kvm_board_ops;

static uint64_t kvm_read_cr8(struct vcpu *v)
{
    return v->cpu.cr8;
}

static void kvm_write_cr8(struct vcpu *v, uint64_t value)
{
    v->cpu.cr8 = value;
}

static bool guest_kvm_probe(GError **err)
{
    return KVM_OPS.probe(err);
}

static bool guest_kvm_init(struct vcpu *v, GError **err)
{
    struct cpu_model *model = cpu_model_new_host(err);

    if (model == NULL || !KVM_OPS.limit_model(model, err)) {
        g_error("no profile for KVM");
    }
    v->model = model;
    if (!cpu_model_has(model, INSN_FEAT_XSAVE)) { /* Bochs */
        v->cpu.cr4 &= ~(uint64_t)CPU_CR4_OSXSAVE;
        v->cpu.xcr0 = 1;
    }
    kvm_board_ops = *v->board_ops;
    kvm_board_ops.read_cr8 = kvm_read_cr8;
    kvm_board_ops.write_cr8 = kvm_write_cr8;
    v->board_ops = &kvm_board_ops;
    return KVM_OPS.vcpu_init(v, err);
}

static void guest_kvm_fini(struct vcpu *v)
{
    KVM_OPS.vcpu_fini(v);
    cpu_model_free((struct cpu_model *)v->model);
    v->model = NULL;
}

#ifdef GUEST_KVM_SPLIT
enum { KICK_US = 5000 };
static _Atomic bool kicking;

static gpointer kvm_kicker(gpointer data)
{
    while (kicking) {
        g_usleep(KICK_US);
        vcpu_request(data, VCPU_REQ_STOP);
    }
    return NULL;
}

/* Everything at home after each exit: the tests look. KVM does not tell of a HLT: v->rest
 * does, when a kick has brought the vCPU out. */
static void guest_kvm_run(struct vcpu *v, struct exit *exit)
{
    GThread *kicker;

    kicking = true;
    kicker = g_thread_new("kicker", kvm_kicker, v);
    v->rest = VCPU_RUNS;
    do {
        atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_STOP);
        KVM_OPS.run(v, exit);
        if (!KVM_OPS.apic->settle(v, exit)) {
            g_error("%s", exit->message);
        }
    } while (exit->kind == EXIT_KICK && v->rest == VCPU_RUNS);
    kicking = false;
    g_thread_join(kicker);
    atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_STOP);
    if (v->rest != VCPU_RUNS) { /* a step over HLT comes out by itself */
        exit->kind = EXIT_HALT;
        v->cpu.halted = true;
    }
}
#else
/* Everything at home after each exit: the tests look. */
static void guest_kvm_run(struct vcpu *v, struct exit *exit)
{
    KVM_OPS.run(v, exit);
    KVM_OPS.sync(v);
}
#endif

static void guest_kvm_kick(struct vcpu *v)
{
    KVM_OPS.kick(v);
}

static void guest_kvm_changed(struct vcpu *v)
{
    KVM_OPS.state_changed(v);
}

static void guest_kvm_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    (void)kind, (void)gva;
    KVM_OPS.state_changed(v); /* loading CR3 flushes */
}

static bool guest_kvm_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err)
{
    return KVM_OPS.set_debug(v, debug, err);
}

static bool guest_kvm_dirty(struct vcpu *v, enum vcpu_dirty what, GError **err)
{
    return KVM_OPS.dirty_log(v, what, err);
}

const struct accel_ops guest_kvm_ops = {
#ifdef GUEST_KVM_SPLIT
    .name = "kvm-split",
#else
    .name = "kvm",
#endif
    .probe = guest_kvm_probe,
    .vcpu_init = guest_kvm_init,
    .vcpu_fini = guest_kvm_fini,
    .run = guest_kvm_run,
    .kick = guest_kvm_kick,
    .state_changed = guest_kvm_changed,
    .tlb_flush = guest_kvm_flush,
    .set_debug = guest_kvm_debug,
    .dirty_log = guest_kvm_dirty,
};
