/* SPDX-License-Identifier: MIT */
/* Guest time: the scale is exact enough, pages follow the version protocol, timers fire when
 * the guest's own clock says so. */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "pv/time.h"
#include "xen_guest.h"

/* What a guest computes from its page (xen/xen.h). */
static uint64_t guest_clock(struct xen_guest *g, unsigned vcpu)
{
    const struct vcpu_time_info *t = &pv_vcpu_info(g->d, vcpu)->time;
    uint64_t tsc = g->ops_tsc(&g->fb->board) + (uint64_t)g->fb->vcpus[vcpu]->cpu.tsc_offset;
    struct pv_time_scale scale = {t->tsc_to_system_mul, t->tsc_shift};

    g_assert_cmpuint(t->version % 2, ==, 0);
    return t->system_time + pv_time_ticks_to_ns(scale, tsc - t->tsc_timestamp);
}

static void test_scale(void)
{
    static const uint64_t hz[] = {1000000,       3579545,       999999999,
                                  1000000000,    1000000001,    2500000000ull,
                                  2112000000ull, 5123456789ull, 40000000000ull};

    for (unsigned i = 0; i < G_N_ELEMENTS(hz); i++) {
        struct pv_time_scale s = pv_time_scale_of(hz[i]);
        uint64_t day = pv_time_ticks_to_ns(s, hz[i] * 86400);
        int64_t off = (int64_t)(day - 86400 * 1000000000ull);

        g_assert_cmpuint(s.mul >> 31, ==, 1); /* all 32 bits are used */
        g_assert_cmpint(ABS(off), <, 50000);  /* 50 us a day */
    }
}

static void test_clock(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint64_t start = guest_clock(g, 0);

    g_assert_cmpuint(start, <, 10);
    xg_advance(g, 123456789);
    g_assert_cmpuint(guest_clock(g, 0), ==, pv_time_now(g->d));
    g_assert_cmpuint(guest_clock(g, 0) - start, >=, 123456788);
    g_assert_cmpuint(guest_clock(g, 0) - start, <=, 123456790);
    /* A vCPU whose TSC is elsewhere computes the same. */
    g->fb->vcpus[1]->cpu.tsc_offset = -987654321;
    pv_time_update(g->d);
    xg_advance(g, 1000);
    g_assert_cmpuint(guest_clock(g, 1), ==, guest_clock(g, 0));
    g_assert_cmpuint(pv_vcpu_info(g->d, 0)->time.flags, ==, XEN_PVCLOCK_TSC_STABLE_BIT);
    xen_guest_free(g);
}

static void test_pause(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    uint64_t before;

    xg_advance(g, 50000000);
    before = pv_time_now(g->d);
    g->tsc_ahead += 3000000000ull * 5; /* seconds during which the board's clock stood still */
    pv_time_update(g->d);
    g_assert_cmpuint(guest_clock(g, 0), >=, before);
    g_assert_cmpuint(guest_clock(g, 0), <, before + 1000);
    /* Without a pause an update changes nothing. */
    xg_advance(g, 1000000);
    before = pv_time_now(g->d);
    pv_time_update(g->d);
    g_assert_cmpuint(guest_clock(g, 0), ==, before);
    xen_guest_free(g);
}

/* What the guest makes of the wall clock and its own: the host's time, also after a pause. */
static void check_wallclock(struct xen_guest *g)
{
    const struct shared_info *si = pv_shared_info(g->d);
    uint64_t start = ((uint64_t)si->wc_sec_hi << 32 | si->wc_sec) * 1000000000 + si->wc_nsec;
    int64_t off = (int64_t)(start + pv_time_now(g->d)) - g_get_real_time() * 1000;

    g_assert_cmpint(ABS(off), <, 1000000000);
}

static void test_wallclock_after_pause(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);

    check_wallclock(g);
    xg_advance(g, 50000000000); /* the guest's clock went and the host's did not: a pause */
    pv_time_update(g->d);
    check_wallclock(g);
    xen_guest_free(g);
}

static uint32_t timer_port(struct xen_guest *g)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, &op), ==, 0);
    return op.port;
}

static bool take(struct xen_guest *g, uint32_t port)
{
    struct shared_info *si = pv_shared_info(g->d);
    bool pending = evtchn_is_pending(g->d, port);

    si->evtchn_pending[port / 64] &= ~(1ull << (port % 64));
    si->vcpu_info[0].evtchn_pending_sel = 0;
    si->vcpu_info[0].evtchn_upcall_pending = 0;
    return pending;
}

static void test_singleshot(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint32_t port = timer_port(g);
    struct vcpu_set_singleshot_timer shot = {.timeout_abs_ns = pv_time_now(g->d) + 1000000};

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    xg_advance(g, 999000);
    g_assert_false(take(g, port));
    xg_advance(g, 2000);
    g_assert_true(take(g, port));
    xg_advance(g, 10000000);
    g_assert_false(take(g, port)); /* once */
    /* In the past: at once. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    xg_advance(g, 1);
    g_assert_true(take(g, port));
    shot.flags = VCPU_SSHOTTMR_future;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    -ETIME);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 1, &shot, sizeof(shot)), ==,
                    -EINVAL);
    /* Stopped. */
    shot = (struct vcpu_set_singleshot_timer){.timeout_abs_ns = pv_time_now(g->d) + 1000};
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_stop_singleshot_timer, 0, NULL, 0), ==, 0);
    xg_advance(g, 100000);
    g_assert_false(take(g, port));
    shot.timeout_abs_ns = UINT64_MAX; /* never, without overflow */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    xg_advance(g, 100000);
    g_assert_false(take(g, port));
    xen_guest_free(g);
}

static void test_early_board(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    uint32_t port = timer_port(g);
    struct vcpu_set_singleshot_timer shot = {.timeout_abs_ns = pv_time_now(g->d) + 1000000};

    /* The board's clock gained 10 us on the TSC (NTP): the timer waits for the guest's own
     * clock. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &shot, sizeof(shot)), ==,
                    0);
    g->tsc_ahead -= 25000;
    xg_advance(g, 1001000);
    g_assert_false(take(g, port));
    xg_advance(g, 10000);
    g_assert_true(take(g, port));
    xen_guest_free(g);
}

static void test_set_timer_op(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    uint32_t port = timer_port(g);

    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, pv_time_now(g->d) + 500), ==, 0);
    xg_advance(g, 501);
    g_assert_true(take(g, port));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, pv_time_now(g->d) + 500), ==, 0);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, 0), ==, 0);
    xg_advance(g, 501);
    g_assert_false(take(g, port));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_set_timer_op, 1ull << 63), ==,
                    0); /* absurd: 100 ms */
    xg_advance(g, 99000000);
    g_assert_false(take(g, port));
    xg_advance(g, 2000000);
    g_assert_true(take(g, port));
    xen_guest_free(g);
}

static void test_periodic(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    uint32_t port = timer_port(g);
    struct vcpu_set_periodic_timer op = {.period_ns = 999999};

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_periodic_timer, 0, &op, sizeof(op)), ==,
                    -EINVAL);
    op.period_ns = 1ull << 63;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_periodic_timer, 0, &op, sizeof(op)), ==,
                    -EINVAL);
    op.period_ns = 1000000;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_periodic_timer, 0, &op, sizeof(op)), ==, 0);
    for (unsigned i = 0; i < 10; i++) {
        xg_advance(g, 1000010);
        g_assert_true(take(g, port));
    }
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_stop_periodic_timer, 0, NULL, 0), ==, 0);
    xg_advance(g, 5000000);
    g_assert_false(take(g, port));
    xen_guest_free(g);
}

static void test_areas(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    uint64_t gva = 0x300000;
    const struct vcpu_time_info *t = xg_at(g, gva);
    const struct vcpu_runstate_info *r = xg_at(g, gva + 0x100);
    struct vcpu_runstate_info now;

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_time_memory_area, 0, &gva, 8), ==, 0);
    g_assert_cmpuint(t->tsc_to_system_mul, ==, pv_vcpu_info(g->d, 0)->time.tsc_to_system_mul);
    g_assert_cmpuint(t->version % 2, ==, 0);
    gva += 0x100;
    xg_advance(g, 1000);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &gva, 8), ==, 0);
    g_assert_cmpint(r->state, ==, RUNSTATE_running);
    pv_vcpu_blocked(g->d, 0);
    g_assert_cmpint(r->state, ==, RUNSTATE_blocked);
    xg_advance(g, 7000);
    pv_vcpu_running(g->d, 0);
    g_assert_cmpuint(r->time[RUNSTATE_blocked], >=, 6999);
    g_assert_cmpuint(r->time[RUNSTATE_blocked], <=, 7001);
    g_assert_cmphex(r->state_entry_time >> 63, ==, 0);
    g_assert_cmpint(
        XG_CALL(g, __HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag),
        ==, 0);
    pv_vcpu_blocked(g->d, 0);
    g_assert_cmpint(r->state, ==, RUNSTATE_blocked);
    g_assert_cmphex(r->state_entry_time >> 63, ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_get_runstate_info, 0, &now, sizeof(now)), ==, 0);
    g_assert_cmpuint(now.time[0] + now.time[1] + now.time[2] + now.time[3], ==,
                     pv_time_now(g->d));
    /* An address that is not mapped: the time area says so, runstate never fails. */
    gva = 1ull << 46;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &gva, 8), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_time_memory_area, 0, &gva, 8), ==,
                    -EFAULT);
    gva = 0;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_time_memory_area, 0, &gva, 8), ==, 0);
    xen_guest_free(g);
}

static void test_wallclock(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    const struct shared_info *si = pv_shared_info(g->d);
    int64_t now = g_get_real_time() / G_USEC_PER_SEC;

    g_assert_cmpuint(si->wc_version % 2, ==, 0);
    g_assert_cmpint(ABS((int64_t)si->wc_sec - now), <, 100);
    g_assert_cmpuint(si->wc_nsec, <, 1000000000);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/time/scale", test_scale);
    g_test_add_func("/pv/time/clock", test_clock);
    g_test_add_func("/pv/time/pause", test_pause);
    g_test_add_func("/pv/time/wallclock-after-pause", test_wallclock_after_pause);
    g_test_add_func("/pv/time/singleshot", test_singleshot);
    g_test_add_func("/pv/time/early-board", test_early_board);
    g_test_add_func("/pv/time/set-timer-op", test_set_timer_op);
    g_test_add_func("/pv/time/periodic", test_periodic);
    g_test_add_func("/pv/time/areas", test_areas);
    g_test_add_func("/pv/time/wallclock", test_wallclock);
    return g_test_run();
}
