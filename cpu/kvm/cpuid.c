/* SPDX-License-Identifier: MIT */
/*
 * The CPUID profile in KVM: what KVM cannot give is taken out of it before the guest starts, and
 * each vCPU gets the leaves as x86_cpuid() answers them. KVM itself keeps the parts that follow
 * CR4 and XCR0.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cpu/x86/x86.h"
#include "engine.h"

enum { CPUID_MAX = 256 };

struct cpuid_list {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[CPUID_MAX];
};

static int cpuid_supported(const struct kvm_sys *sys, int dev, struct cpuid_list *list)
{
    memset(list, 0, sizeof(*list));
    list->head.nent = CPUID_MAX;
    return kvm_ioctl(sys, dev, KVM_GET_SUPPORTED_CPUID, list);
}

/* KVM's leaves in the form cpu/x86 knows. */
static unsigned cpuid_convert(const struct cpuid_list *list, struct cpuid_leaf *leaves)
{
    unsigned n = MIN(list->head.nent, (unsigned)CPUID_MAX);

    for (unsigned i = 0; i < n; i++) {
        const struct kvm_cpuid_entry2 *e = &list->entries[i];

        leaves[i] = (struct cpuid_leaf){e->function, e->index, e->eax, e->ebx, e->ecx, e->edx};
    }
    return n;
}

static bool cpuid_failed(int ret, GError **err)
{
    return error_set(err, PVEMU_ERROR_HOST, "%s does not tell its CPUID: %s", KVM_DEVICE,
                     g_strerror(-ret));
}

bool kvm_limit_model(struct cpu_model *model, const struct kvm_sys *sys, GError **err)
{
    g_autofree struct cpuid_list *list = g_new(struct cpuid_list, 1);
    g_autofree struct cpuid_leaf *leaves = g_new(struct cpuid_leaf, CPUID_MAX);
    int dev = sys->open(KVM_DEVICE), ret;

    if (dev < 0) {
        return cpuid_failed(dev, err);
    }
    ret = cpuid_supported(sys, dev, list);
    sys->close(dev);
    if (ret < 0) {
        return cpuid_failed(ret, err);
    }
    cpu_model_clip(model, leaves, cpuid_convert(list, leaves));
    return true;
}

bool kvm_check_model(struct kvm_vm *vm, const struct cpu_model *model, GError **err)
{
    g_autofree struct cpuid_list *list = g_new(struct cpuid_list, 1);
    g_autofree struct cpuid_leaf *leaves = g_new(struct cpuid_leaf, CPUID_MAX);
    int ret = cpuid_supported(vm->sys, vm->dev, list);

    if (ret < 0) {
        return cpuid_failed(ret, err);
    }
    if (!cpu_model_fits(model, leaves, cpuid_convert(list, leaves))) {
        error_set(err, PVEMU_ERROR_HOST,
                  "the guest has been shown processor features that KVM cannot give here");
        error_hint(err, "start it with -accel kvm, or let it stay on its engine");
        return false;
    }
    return true;
}

/* --- to a vCPU --- */

static void cpuid_add(struct kvm_engine *k, struct cpuid_list *list, uint32_t leaf,
                      uint32_t subleaf, bool indexed)
{
    uint32_t out[4];

    if (list->head.nent >= CPUID_MAX) {
        return;
    }
    x86_cpuid(k->v, leaf, subleaf, out);
    list->entries[list->head.nent++] = (struct kvm_cpuid_entry2){
        .function = leaf, .index = subleaf,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = out[0], .ebx = out[1], .ecx = out[2], .edx = out[3],
    };
}

static unsigned cpuid_subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 4:
        return 8;
    case 7:
        return 1;
    case 0xb:
        return 3;
    case 0xd:
        return 3;
    case 0x8000001d:
        return 4;
    case 0x40000003: /* Xen's */
        return 3;
    case 0x40000004:
    case 0x40000005:
        return 1;
    default:
        return 0;
    }
}

/* Leaves base .. what x86_cpuid() says is the last. */
static void cpuid_add_range(struct kvm_engine *k, struct cpuid_list *list, uint32_t base)
{
    uint32_t out[4];

    x86_cpuid(k->v, base, 0, out);
    if (out[0] < base || out[0] > base + 0xff) {
        return;
    }
    for (uint32_t leaf = base; leaf <= out[0]; leaf++) {
        unsigned n = cpuid_subleaves(leaf);

        for (unsigned i = 0; i < MAX(n, 1); i++) {
            cpuid_add(k, list, leaf, i, n > 0);
        }
    }
}

bool kvm_set_cpuid(struct kvm_engine *k, GError **err)
{
    g_autofree struct cpuid_list *list = g_new0(struct cpuid_list, 1);
    int ret;

    cpuid_add_range(k, list, 0);
    cpuid_add_range(k, list, 0x40000000u);
    cpuid_add_range(k, list, 0x80000000u);
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_CPUID2, list);
    return ret >= 0 || error_set(err, PVEMU_ERROR_HOST,
                                 "KVM does not take the guest's CPUID: %s", g_strerror(-ret));
}
