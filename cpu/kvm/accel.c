/* SPDX-License-Identifier: MIT */
/* KVM as an engine: the contract's table. */
#include <errno.h>

#include "base/error.h"
#include "cpu/x86/x86.h"
#include "engine.h"
#include "kvm.h"
#include "probe.h"

enum { APIC_BASE_BSP = 0x100, APIC_BASE_ENABLED = 0x800 };
#define APIC_BASE 0xfee00000ull

static bool accel_make_vcpu(struct kvm_engine *k, GError **err)
{
    struct kvm_vm *vm = k->vm;
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};
    int ret = vm->sys->ioctl(vm->fd, KVM_CREATE_VCPU, kvm_chip_vcpu_id(vm, k->v->id));

    if (ret < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "KVM cannot make CPU %u: %s", k->v->id,
                         g_strerror(-ret));
    }
    k->fd = ret;
    k->run = vm->sys->mmap(k->fd, vm->run_size);
    if (k->run == NULL) {
        return error_set(err, PVEMU_ERROR_HOST, "KVM cannot map CPU %u", k->v->id);
    }
    vm->has_tsc_offset = kvm_ioctl(vm->sys, k->fd, KVM_HAS_DEVICE_ATTR, &attr) == 0;
    return true;
}

static void accel_vcpu_fini(struct vcpu *v)
{
    struct kvm_engine *k = v->engine;

    if (k == NULL) {
        return;
    }
    v->engine = NULL;
    if (k->run != NULL) {
        k->vm->sys->munmap(k->run, k->vm->run_size);
    }
    if (k->fd >= 0) {
        k->vm->sys->close(k->fd);
    }
    kvm_vm_put(k->vm);
    g_free(k->pv);
    g_free(k);
}

bool kvm_vcpu_init(struct vcpu *v, const struct kvm_sys *sys, bool split, GError **err)
{
    struct kvm_engine *k = g_new0(struct kvm_engine, 1);

    k->v = v;
    k->fd = -1;
    k->load_all = true;
    /* Without APICs KVM only has to know that CPUID shows one. */
    k->apic_base = APIC_BASE | APIC_BASE_ENABLED | (v->id == 0 ? APIC_BASE_BSP : 0);
    k->vm = kvm_vm_get(v, sys, split, err);
    if (k->vm == NULL) {
        g_free(k);
        return false;
    }
    v->engine = k;
    kvm_install_signal();
    return accel_make_vcpu(k, err);
}

static bool accel_vcpu_init(struct vcpu *v, GError **err)
{
    return kvm_vcpu_init(v, &kvm_sys_host, false, err);
}

static bool accel_vcpu_init_split(struct vcpu *v, GError **err)
{
    return kvm_vcpu_init(v, &kvm_sys_host, true, err);
}

static bool accel_limit_model(struct cpu_model *model, GError **err)
{
    return kvm_limit_model(model, &kvm_sys_host, err);
}

static void accel_state_changed(struct vcpu *v)
{
    struct kvm_engine *k = v->engine;

    k->load_all = true;
    k->triple = false;
    k->regs_away = k->sregs_away = k->deep_away = false;
}

/* Other guests' flushes are seen by the processor itself. */
static void accel_tlb_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    (void)kind, (void)gva;
    if (v->pv != NULL) {
        kvm_pv_flush(v->engine);
    }
}

const struct accel_ops kvm_accel_ops = {
    .name = "kvm",
    .needs_hypercall_port = true,
    .slow_eoi = true,
    .probe = kvm_probe_host,
    .limit_model = accel_limit_model,
    .vcpu_init = accel_vcpu_init,
    .vcpu_fini = accel_vcpu_fini,
    .run = kvm_run_guest,
    .kick = kvm_kick,
    .sync = kvm_sync,
    .state_changed = accel_state_changed,
    .tlb_flush = accel_tlb_flush,
    .branch_barrier = kvm_pv_barrier,
    .set_debug = kvm_set_debug,
    .dirty_log = kvm_dirty_log,
    .stats = kvm_stats,
};

const struct accel_ops kvm_split_accel_ops = {
    .name = "kvm",
    .needs_hypercall_port = true,
    .apic = &kvm_apic_ops,
    .probe = kvm_probe_host,
    .limit_model = accel_limit_model,
    .vcpu_init = accel_vcpu_init_split,
    .vcpu_fini = accel_vcpu_fini,
    .run = kvm_run_guest,
    .kick = kvm_kick,
    .state_changed = accel_state_changed,
    .set_debug = kvm_set_debug,
    .dirty_log = kvm_dirty_log,
    .stats = kvm_stats,
};
