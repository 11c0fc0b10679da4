/* SPDX-License-Identifier: MIT */
/* Counters of a vCPU: how often KVM was entered, and what it came out for. */
#include <inttypes.h>

#include "engine.h"

static const struct {
    uint32_t reason;
    const char *name;
} stats_exits[] = {
    {KVM_EXIT_IO, "port"},
    {KVM_EXIT_MMIO, "memory"},
    {KVM_EXIT_X86_RDMSR, "rdmsr"},
    {KVM_EXIT_X86_WRMSR, "wrmsr"},
    {KVM_EXIT_HLT, "halt"},
    {KVM_EXIT_IRQ_WINDOW_OPEN, "window"},
    {KVM_EXIT_DEBUG, "debug"},
    {KVM_EXIT_XEN, "vmcall"},
};

char *kvm_stats(struct vcpu *v)
{
    const struct kvm_engine *k = v->engine;
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "entries %" PRIu64 "\nsignals %" PRIu64 "\n", k->entries,
                           k->signals);
    for (unsigned i = 0; i < G_N_ELEMENTS(stats_exits); i++) {
        g_string_append_printf(text, "%s %" PRIu64 "\n", stats_exits[i].name,
                               k->exits[stats_exits[i].reason]);
    }
    g_string_append_printf(text, "hypercalls %" PRIu64 "\napic %" PRIu64 "\n", k->hypercalls,
                           k->apic);
    if (k->vm->chip == &kvm_chip_split && k->v->id == 0) { /* of all vCPUs */
        g_string_append_printf(text, "messages %" PRIu64 "\ndropped %" PRIu64 "\n",
                               k->vm->messages, k->vm->dropped);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
