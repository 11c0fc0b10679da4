/* SPDX-License-Identifier: MIT */
/*
 * The translator in place of the interpreter: the tests of this room are built a second time
 * with interp_accel_ops being this table. Blocks are translated at their first run. Some are
 * built once more, with GUEST_LOOKUPS, GUEST_RUNS, GUEST_VIEWS, GUEST_LARGES, GUEST_LOOPS or GUEST_HOT set.
 */
#include "cpu/dbt/dbt.h"

#ifndef GUEST_RUNS
#define GUEST_RUNS false
#endif
#ifndef GUEST_LOOKUPS
#define GUEST_LOOKUPS false
#endif
#ifndef GUEST_VIEWS
#define GUEST_VIEWS false
#endif
#ifndef GUEST_LARGES
#define GUEST_LARGES false
#endif
#ifndef GUEST_LOOPS
#define GUEST_LOOPS false
#endif
#ifndef GUEST_HOT
#define GUEST_HOT 1
#endif

extern const struct accel_ops guest_bt_ops;

static bool bt_probe(GError **err)
{
    return dbt_accel_ops.probe(err);
}

static bool bt_vcpu_init(struct vcpu *v, GError **err)
{
    static const struct dbt_options options = {.hot = GUEST_HOT,
                                               .runs = GUEST_RUNS,
                                               .lookups = GUEST_LOOKUPS,
                                               .views = GUEST_VIEWS,
                                               .larges = GUEST_LARGES,
                                               .loops = GUEST_LOOPS};

    if (!dbt_accel_ops.vcpu_init(v, err)) {
        return false;
    }
    dbt_configure(v, &options);
    return true;
}

static void bt_vcpu_fini(struct vcpu *v)
{
    dbt_accel_ops.vcpu_fini(v);
}

static void bt_run(struct vcpu *v, struct exit *exit)
{
    dbt_accel_ops.run(v, exit);
}

static void bt_kick(struct vcpu *v)
{
    dbt_accel_ops.kick(v);
}

static void bt_state_changed(struct vcpu *v)
{
    dbt_accel_ops.state_changed(v);
}

bool interp_set_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err);
void interp_accel_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva);

const struct accel_ops guest_bt_ops = {
    .name = "bt",
    .probe = bt_probe,
    .vcpu_init = bt_vcpu_init,
    .vcpu_fini = bt_vcpu_fini,
    .run = bt_run,
    .kick = bt_kick,
    .state_changed = bt_state_changed,
    .tlb_flush = interp_accel_flush,
    .set_debug = interp_set_debug,
};
