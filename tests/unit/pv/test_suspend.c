/* SPDX-License-Identifier: MIT */
/* The way back from a suspend: what is as before, and what a new domain has not. */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/time.h"
#include "pv/xenstore.h"
#include "xen_guest.h"

#define EVTCHN_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_event_channel_op, cmd, arg)
#define HOME "/local/domain/1/"

enum { SHARED_GFN = 0x300, GRANT_GFN = 0x310, INFO_GFN = 0x320, AREA = 0x330000, REF = 20 };

static bool awake(struct xen_guest *g, unsigned vcpu)
{
    struct vcpu *v = g->fb->vcpus[vcpu];

    pv_vcpu_sleeping(g->d, v);
    return !v->cpu.halted;
}

static void suspend(struct xen_guest *g, uint64_t start_info)
{
    struct sched_shutdown op = {.reason = SHUTDOWN_suspend};

    memcpy(xg_at(g, XG_ARGS), &op, sizeof(op));
    XG_CALL(g, __HYPERVISOR_sched_op, SCHEDOP_shutdown, XG_ARGS, start_info);
    g_assert_true(g->fb->stopped);
    g_assert_cmpint((int)g->fb->stop_reason, ==, STOP_SUSPEND);
    g_assert_false(awake(g, 0));
    g->fb->stopped = false;
}

static bool resume(struct xen_guest *g, bool cancelled, GError **err)
{
    bool ok;

    g_mutex_lock(&g->fb->board.lock);
    ok = pv_domain_resume(g->d, cancelled, err);
    if (ok) {
        pv_time_update(g->d);
    }
    g_mutex_unlock(&g->fb->board.lock);
    fake_board_run(g->fb);
    return ok;
}

static uint32_t port_status(struct xen_guest *g, uint32_t port)
{
    struct evtchn_status op = {.dom = DOMID_SELF, .port = port};
    int64_t rc = EVTCHN_OP(g, EVTCHNOP_status, &op);

    return rc == 0 ? op.status : (uint32_t)rc;
}

static uint32_t bind_virq(struct xen_guest *g, unsigned vcpu)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER, .vcpu = vcpu};

    g_assert_cmpint(EVTCHN_OP(g, EVTCHNOP_bind_virq, &op), ==, 0);
    return op.port;
}

static int64_t place(struct xen_guest *g, unsigned space, uint64_t gfn)
{
    struct xen_add_to_physmap op = {.domid = DOMID_SELF, .space = space, .gpfn = gfn};

    return XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &op);
}

static int64_t register_info(struct xen_guest *g, unsigned vcpu)
{
    struct vcpu_register_vcpu_info op = {.mfn = INFO_GFN + vcpu};

    return xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, vcpu, &op, sizeof(op));
}

/* What a kernel asks for while it boots. */
static uint32_t set_up(struct xen_guest *g)
{
    struct vcpu_register_runstate_memory_area area = {.addr.p = AREA};
    struct vcpu_set_singleshot_timer timer = {.timeout_abs_ns = 1000000000};
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 0xf3};

    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, SHARED_GFN), ==, 0);
    g_assert_cmpint(place(g, XENMAPSPACE_grant_table, GRANT_GFN), ==, 0);
    g_assert_cmpint(register_info(g, 0), ==, 0);
    g_assert_cmpint(register_info(g, 1), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_runstate_memory_area, 0, &area,
                               sizeof(area)),
                    ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_set_singleshot_timer, 0, &timer, sizeof(timer)),
                    ==, 0);
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector), ==,
                    0);
    ((grant_entry_v1_t *)xg_at(g, GRANT_GFN << 12))[REF] =
        (grant_entry_v1_t){.flags = GTF_permit_access, .frame = INFO_GFN};
    return bind_virq(g, 0);
}

static void test_cancelled(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint32_t port = set_up(g), store = g->d->store_port;
    uint64_t before;

    xg_advance(g, 5000000);
    before = pv_time_now(g->d);
    suspend(g, 0);
    g->tsc_ahead += XG_TSC_HZ * 100; /* the pause: the board's clock stood still */
    g_assert_true(resume(g, true, NULL));
    g_assert_true(awake(g, 0));
    g_assert_cmpuint(g->fb->vcpus[0]->cpu.gpr[CPU_RAX], ==, 1);
    g_assert_cmpuint(pv_time_now(g->d) - before, <, 1000000);
    g_assert_cmpuint(port_status(g, port), ==, EVTCHNSTAT_virq);
    g_assert_cmpuint(g->d->store_port, ==, store);
    g_assert_cmpint(register_info(g, 0), ==, -EINVAL);
    g_assert_cmpuint(((grant_entry_v1_t *)xg_at(g, GRANT_GFN << 12))[REF].frame, ==, INFO_GFN);
    g_assert_cmpuint(g->d->vcpu[0].singleshot_ns, ==, 1000000000);
    g_assert_cmpuint(g->d->vcpu[0].upcall_vector, ==, 0xf3);
    g_assert_cmpuint(g->d->vcpu[0].runstate_gva, ==, AREA);
    /* Once is enough. */
    g_assert_false(resume(g, true, NULL));
    xen_guest_free(g);
}

static void test_new_domain(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_hvm_param param = {.domid = DOMID_SELF, .index = HVM_PARAM_STORE_EVTCHN};
    uint32_t port = set_up(g), pages = (uint32_t)pv_domain_memory(g->d);
    uint64_t before;
    grant_entry_v1_t *grants;

    xg_advance(g, 5000000);
    before = pv_time_now(g->d);
    xs_write(g->d->xenstore, HOME "control/feature-suspend", "1");
    xs_write(g->d->xenstore, HOME "control/shutdown", "suspend");
    suspend(g, 0);
    g->tsc_ahead += XG_TSC_HZ * 100;
    g_assert_true(resume(g, false, NULL));
    g_assert_true(awake(g, 0));
    g_assert_cmpuint(g->fb->vcpus[0]->cpu.gpr[CPU_RAX], ==, 0);
    /* Time goes on, and nothing is armed. */
    g_assert_cmpuint(pv_time_now(g->d), >=, before);
    g_assert_cmpuint(pv_time_now(g->d) - before, <, 1000000);
    g_assert_null(g->fb->timers);
    /* No port but the toolstack's. */
    g_assert_cmpuint(port_status(g, g->d->store_port), ==, EVTCHNSTAT_interdomain);
    g_assert_cmpuint(port_status(g, g->d->console_port), ==, EVTCHNSTAT_unbound);
    for (uint32_t i = 1; i < 64; i++) {
        if (i != g->d->store_port && i != g->d->console_port) {
            g_assert_cmpuint(port_status(g, i), ==, EVTCHNSTAT_closed);
        }
    }
    (void)port;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_get_param, &param), ==, 0);
    g_assert_cmpuint(param.value, ==, g->d->store_port);
    g_assert_cmpuint(g->d->vcpu[0].upcall_vector, ==, 0);
    g_assert_cmpuint(g->d->vcpu[0].runstate_gva, ==, 0);
    /* The hypervisor's pages lie nowhere; the guest's RAM under them is gone, as it was. */
    g_assert_cmpuint(mem_gfn_frame(g->d->mem, SHARED_GFN), ==, MEM_HOLE);
    g_assert_cmpuint(mem_gfn_frame(g->d->mem, GRANT_GFN), ==, MEM_HOLE);
    g_assert_cmpuint(pv_domain_memory(g->d), ==, pages);
    g_assert_cmpuint(mem_gfn_frame(g->d->mem, PV_STORE_GFN), ==,
                     mem_extra_frame(g->d->mem, PV_FRAME_STORE));
    /* It sets up everything again, as at boot. */
    (void)set_up(g);
    grants = xg_at(g, GRANT_GFN << 12);
    g_assert_cmpuint(grants[GNTTAB_RESERVED_XENSTORE].frame, ==, PV_STORE_GFN);
    g_assert_cmpuint(grants[GNTTAB_RESERVED_CONSOLE].frame, ==, PV_CONSOLE_GFN);
    g_assert_cmpuint(grants[REF - 1].flags, ==, 0);
    {
        g_autofree char *feature = xs_read(g->d->xenstore, HOME "control/feature-suspend");
        g_autofree char *request = xs_read(g->d->xenstore, HOME "control/shutdown");
        g_autofree char *text = xs_read(g->d->xenstore, HOME "store/port");

        g_assert_cmpstr(feature, ==, "1"); /* Linux says it once, at boot */
        g_assert_cmpstr(request, ==, "");
        g_assert_cmpuint(strtoul(text, NULL, 10), ==, g->d->store_port);
    }
    xen_guest_free(g);
}

/* Linux stops the others that way while it registers their areas. */
static void test_other_down(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);

    g->d->vcpu[1].up = g->d->vcpu[1].initialised = true;
    g->fb->requested[1] = 0;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 1, NULL, 0), ==, 0);
    g_assert_true(g->d->vcpu[1].held);
    g_assert_true((g->fb->requested[1] & VCPU_REQ_STOP) != 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 1, NULL, 0), ==, 0);
    g->fb->requested[1] = 0;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_false(g->d->vcpu[1].held);
    g_assert_true((g->fb->requested[1] & VCPU_REQ_IRQ) != 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 1);
    g_assert_cmpuint(g->started[1], ==, 0);
    /* Down before its thread has run at all: it stays so, and can be brought up again. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 1, NULL, 0), ==, 0);
    pv_vcpu_running(g->d, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    pv_vcpu_blocked(g->d, 1);
    g_assert_cmpuint(g->d->vcpu[1].runstate.state, ==, RUNSTATE_offline);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_false(g->d->vcpu[1].held);
    /* So does one that makes a hypercall before it stops. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 1, VCPUOP_is_up, 0, NULL, 0), ==, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_false(g->d->vcpu[1].held);
    /* One that is down at a resume has to be initialised again. */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 1, NULL, 0), ==, 0);
    suspend(g, 0);
    g_assert_true(resume(g, false, NULL));
    g_assert_false(g->d->vcpu[1].held);
    g_assert_false(g->d->vcpu[1].initialised);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, -EINVAL);
    xen_guest_free(g);
}

static void test_sleepers(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);

    g->d->vcpu[1].up = true;
    xg_call(g, 1, __HYPERVISOR_sched_op, (const uint64_t[6]){SCHEDOP_block}, NULL);
    g_assert_false(awake(g, 1));
    suspend(g, 0);
    g_assert_true(resume(g, true, NULL));
    g_assert_false(awake(g, 1)); /* nothing has happened */
    suspend(g, 0);
    g_assert_true(resume(g, false, NULL));
    g_assert_true(awake(g, 1)); /* its event would never come */
    xen_guest_free(g);
}

static void test_start_info(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct start_info *si = xg_at(g, 0x40000);
    g_autoptr(GError) err = NULL;

    /* What the builder and pv_guest_boot() do, as far as it matters here. */
    g_assert_true(pv_memory_place(g->d, PV_FRAME_STORE, 0x50));
    g_assert_true(pv_memory_place(g->d, PV_FRAME_CONSOLE, 0x51));
    g->d->guest->store_mfn = g->d->store_gfn = 0x50;
    g->d->guest->console_mfn = g->d->console_gfn = 0x51;
    memset(si, 0xaa, sizeof(*si));
    suspend(g, UINT64_MAX >> 12);
    g_assert_false(resume(g, false, &err));
    g_assert_nonnull(strstr(err->message, "not a page of its own"));
    g_assert_false(awake(g, 0));
    g_assert_true(resume(g, true, NULL)); /* nothing was changed */
    g_assert_true(awake(g, 0));
    suspend(g, 0x40);
    g_assert_true(resume(g, false, NULL));
    g_assert_cmpuint(si->store_evtchn, ==, g->d->store_port);
    g_assert_cmpuint(si->console.domU.evtchn, ==, g->d->console_port);
    g_assert_cmpuint(si->store_mfn, ==, 0x50);
    g_assert_cmpuint(si->console.domU.mfn, ==, 0x51);
    g_assert_cmpuint(si->nr_pages, ==, XG_RAM / 4096);
    g_assert_cmphex(si->flags, ==, 0xaaaaaaaa); /* not the domain's */
    g_assert_cmpuint(pv_shared_info(g->d)->vcpu_info[0].evtchn_upcall_mask, ==, 1);
    xen_guest_free(g);
}

static void test_deaf(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);

    g_assert_nonnull(strstr(pv_domain_deaf(g->d, "suspend"), "does not watch"));
    g_assert_false(pv_domain_withdraw_shutdown(g->d, "suspend"));
    pv_domain_request_shutdown(g->d, "suspend");
    g_assert_true(pv_domain_withdraw_shutdown(g->d, "suspend"));
    g_assert_false(pv_domain_withdraw_shutdown(g->d, "suspend"));
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/suspend/cancelled", test_cancelled);
    g_test_add_func("/pv/suspend/new-domain", test_new_domain);
    g_test_add_func("/pv/suspend/other-down", test_other_down);
    g_test_add_func("/pv/suspend/sleepers", test_sleepers);
    g_test_add_func("/pv/suspend/start-info", test_start_info);
    g_test_add_func("/pv/suspend/deaf", test_deaf);
    return g_test_run();
}
