/* SPDX-License-Identifier: MIT */
/* See debug_test.h. */
#include "debug_test.h"

#include "base/error.h"

enum { BOCHS_STOPS = 16 };

bool debug_is_kvm(void)
{
    return g_str_has_prefix(interp_accel_ops.name, "kvm");
}

bool debug_is_bochs(const struct guest *g)
{
    return debug_is_kvm() && !cpu_model_has(g->v->model, INSN_FEAT_XSAVE);
}

bool debug_set(struct guest *g, const struct vcpu_debug *debug)
{
    g_autofree char *message = NULL, *hint = NULL;
    g_autoptr(GError) err = NULL;

    if (interp_accel_ops.set_debug(g->v, debug, &err)) {
        return true;
    }
    g_assert_true(debug_is_kvm());
    message = error_split_hint(err, &hint);
    g_assert_nonnull(strstr(message, debug->nr_points > 0 ? "does not stop a guest at breakpoints"
                                                          : "does not stop a guest at INT3"));
    g_assert_nonnull(hint);
    g_test_skip(message);
    return false;
}

void debug_run(struct guest *g, unsigned stop, uint64_t offset)
{
    guest_run(g, EXIT_DEBUG);
    g_assert_cmphex(g->exit.stop, ==, stop);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + offset);
}

void debug_step(struct guest *g, uint64_t offset)
{
    const struct cpu_x86 before = *g->cpu;
    bool nothing = true; /* has been executed */

    for (unsigned i = 0; nothing && i < (debug_is_bochs(g) ? BOCHS_STOPS : 1); i++) {
        guest_run(g, EXIT_DEBUG);
        nothing = g->cpu->rip == before.rip &&
                  memcmp(g->cpu->gpr, before.gpr, sizeof(before.gpr)) == 0;
    }
    g_assert_cmphex(g->exit.stop, ==, VCPU_STOP_STEP);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + offset);
}
