/* SPDX-License-Identifier: MIT */
/* Event channels: every operation with its errors, the order of the bits, reset. */
#include <errno.h>
#include <string.h>

#include "pv/bits.h"
#include "pv/evtchn.h"
#include "xen_guest.h"

#define EV_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_event_channel_op, cmd, arg)

static struct xen_guest *guest_new(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_hvm_evtchn_upcall_vector vector = {.vcpu = 0, .vector = 0xf3};

    for (vector.vcpu = 0; vector.vcpu < 2; vector.vcpu++) {
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector),
                        ==, 0);
    }
    return g;
}

static uint32_t ipi_new(struct xen_guest *g, unsigned vcpu)
{
    struct evtchn_bind_ipi op = {.vcpu = vcpu};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_ipi, &op), ==, 0);
    return op.port;
}

static int64_t port_send(struct xen_guest *g, uint32_t port)
{
    struct evtchn_send op = {.port = port};

    return EV_OP(g, EVTCHNOP_send, &op);
}

static void test_send(void)
{
    struct xen_guest *g = guest_new();
    struct shared_info *si = pv_shared_info(g->d);
    uint32_t port = ipi_new(g, 1);

    g_assert_cmpint(port_send(g, port), ==, 0);
    g_assert_true(bits_test((uint32_t *)si->evtchn_pending, port));
    g_assert_cmphex(si->vcpu_info[1].evtchn_pending_sel, ==, 1ull << (port / 64));
    g_assert_cmpint(si->vcpu_info[1].evtchn_upcall_pending, ==, 1);
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==, 0);
    g_assert_cmpuint(g->fb->apic_irqs[1], ==, 1);
    g_assert_true((g->fb->requested[1] & VCPU_REQ_IRQ) == 0); /* that is the APIC's to do */
    /* Pending already: nothing more happens. */
    g_assert_cmpint(port_send(g, port), ==, 0);
    g_assert_cmpuint(g->fb->apic_irqs[1], ==, 1);
    /* Taken by the guest: the next one raises again. */
    si->vcpu_info[1].evtchn_upcall_pending = 0;
    si->vcpu_info[1].evtchn_pending_sel = 0;
    bits_test_and_clear((uint32_t *)si->evtchn_pending, port);
    g_assert_cmpint(port_send(g, port), ==, 0);
    g_assert_cmpuint(g->fb->apic_irqs[1], ==, 2);
    g_assert_cmpint(port_send(g, 0), ==, -EINVAL);
    g_assert_cmpint(port_send(g, 4095), ==, -EINVAL);
    g_assert_cmpint(port_send(g, 4096), ==, -EINVAL);
    g_assert_cmpint(port_send(g, UINT32_MAX), ==, -EINVAL);
    xen_guest_free(g);
}

static void test_mask(void)
{
    struct xen_guest *g = guest_new();
    struct shared_info *si = pv_shared_info(g->d);
    uint32_t port = ipi_new(g, 0);
    struct evtchn_unmask op = {.port = port};

    bits_test_and_set((uint32_t *)si->evtchn_mask, port);
    g_assert_cmpint(port_send(g, port), ==, 0);
    g_assert_true(bits_test((uint32_t *)si->evtchn_pending, port));
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==, 0);
    g_assert_cmphex(si->vcpu_info[0].evtchn_pending_sel, ==, 0);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_unmask, &op), ==, 0);
    g_assert_false(bits_test((uint32_t *)si->evtchn_mask, port));
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==, 1);
    g_assert_cmpuint(g->fb->apic_irqs[0], ==, 1);
    /* Not masked: unmask does nothing even if pending. */
    si->vcpu_info[0].evtchn_upcall_pending = 0;
    si->vcpu_info[0].evtchn_pending_sel = 0;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_unmask, &op), ==, 0);
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==, 0);
    op.port = 4096;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_unmask, &op), ==, -EINVAL);
    xen_guest_free(g);
}

static void host_notified(void *opaque)
{
    (*(unsigned *)opaque)++;
}

static void test_host(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_alloc_unbound op = {.dom = DOMID_SELF, .remote_dom = 0};
    struct evtchn_close close = {0};
    unsigned notified = 0;
    struct evtchn_host h = {.notified = host_notified, .opaque = &notified};
    struct evtchn_host other = {.notified = host_notified, .opaque = &notified};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &op), ==, 0);
    g_assert_cmpint(port_send(g, op.port), ==, 0); /* unbound: swallowed */
    g_assert_cmpint(evtchn_host_bind(g->d, &h, 0), ==, -EINVAL);
    g_assert_cmpint(evtchn_host_bind(g->d, &h, 4096), ==, -EINVAL);
    g_assert_cmpint(evtchn_host_bind(g->d, &h, ipi_new(g, 0)), ==, -EINVAL);
    g_assert_cmpint(evtchn_host_bind(g->d, &h, op.port), ==, 0);
    g_assert_cmpint(evtchn_host_bind(g->d, &other, op.port), ==, -EINVAL);
    g_assert_cmpint(port_send(g, op.port), ==, 0);
    g_assert_cmpuint(notified, ==, 1);
    evtchn_host_notify(&h);
    g_assert_true(evtchn_is_pending(g->d, op.port));
    /* The guest closes its end. */
    close.port = op.port;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_close, &close), ==, 0);
    g_assert_cmpuint(h.port, ==, 0);
    evtchn_host_notify(&h);
    g_assert_false(evtchn_is_pending(g->d, op.port));
    g_assert_cmpint(EV_OP(g, EVTCHNOP_close, &close), ==, -EINVAL);
    /* And the host its own. */
    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &op), ==, 0);
    g_assert_cmpint(evtchn_host_bind(g->d, &h, op.port), ==, 0);
    evtchn_host_unbind(&h);
    evtchn_host_unbind(&h);
    g_assert_cmpint(port_send(g, op.port), ==, 0);
    g_assert_cmpuint(notified, ==, 1);
    g_assert_cmpint(evtchn_host_bind(g->d, &h, op.port), ==, 0);
    xen_guest_free(g);
    g_assert_cmpuint(h.port, ==, 0);
}

static void test_local(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};
    struct evtchn_status status = {.dom = DOMID_SELF};
    struct evtchn_close close;

    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &a), ==, 0);
    b.remote_port = a.port;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_interdomain, &b), ==, 0);
    g_assert_true(evtchn_is_pending(g->d, b.local_port));
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_interdomain, &b), ==, -EINVAL);
    g_assert_cmpint(port_send(g, b.local_port), ==, 0);
    g_assert_true(evtchn_is_pending(g->d, a.port));
    status.port = a.port;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_status, &status), ==, 0);
    g_assert_cmpuint(status.status, ==, EVTCHNSTAT_interdomain);
    g_assert_cmpuint(status.u.interdomain.dom, ==, PV_DOMID);
    g_assert_cmpuint(status.u.interdomain.port, ==, b.local_port);
    close.port = b.local_port;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_close, &close), ==, 0);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_status, &status), ==, 0);
    g_assert_cmpuint(status.status, ==, EVTCHNSTAT_unbound);
    b.remote_dom = 0;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_interdomain, &b), ==, -EINVAL);
    b.remote_dom = 7;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_interdomain, &b), ==, -ESRCH);
    xen_guest_free(g);
}

static void test_virq(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER, .vcpu = 1};
    struct evtchn_bind_vcpu move = {.vcpu = 0};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, 0);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, -EEXIST);
    g_assert_cmpint(port_send(g, op.port), ==, -EINVAL);
    move.port = op.port;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_vcpu, &move), ==, -EINVAL);
    evtchn_virq(g->d, 0, VIRQ_TIMER);
    g_assert_false(evtchn_is_pending(g->d, op.port));
    evtchn_virq(g->d, 1, VIRQ_TIMER);
    g_assert_true(evtchn_is_pending(g->d, op.port));
    op.vcpu = 2;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, -ENOENT);
    op = (struct evtchn_bind_virq){.virq = NR_VIRQS};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, -EINVAL);
    op = (struct evtchn_bind_virq){.virq = VIRQ_CONSOLE, .vcpu = 1};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, -EINVAL);
    op.vcpu = 0;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &op), ==, -EBUSY);
    xen_guest_free(g);
}

static void test_errors(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_alloc_unbound a = {.dom = 0};
    struct evtchn_bind_vcpu move = {.port = 1, .vcpu = 9};
    struct evtchn_bind_pirq pirq = {0};
    struct evtchn_status status = {.dom = 5};
    struct evtchn_reset reset = {.dom = 0};
    uint8_t zero[64] = {0};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &a), ==, -EPERM);
    a.dom = 3;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &a), ==, -ESRCH);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_vcpu, &move), ==, -ENOENT);
    move = (struct evtchn_bind_vcpu){.port = 77, .vcpu = 1};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_vcpu, &move), ==, -EINVAL);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_pirq, &pirq), ==, -EPERM);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_status, &status), ==, -ESRCH);
    status = (struct evtchn_status){.dom = DOMID_SELF, .port = 4096};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_status, &status), ==, -EINVAL);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_reset, &reset), ==, -EPERM);
    for (unsigned cmd = 14; cmd < 20; cmd++) {
        g_assert_cmpint(EV_OP(g, cmd, &zero), ==, -ENOSYS);
    }
    g->limit = XG_ARGS; /* the argument is not mapped */
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_event_channel_op, EVTCHNOP_send, XG_ARGS), ==,
                    -EFAULT);
    xen_guest_free(g);
}

static void test_exhaustion(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_bind_ipi op = {.vcpu = 0};
    unsigned made = 0;
    int64_t rc;

    while ((rc = EV_OP(g, EVTCHNOP_bind_ipi, &op)) == 0) {
        made++;
        g_assert_cmpuint(made, <, 5000);
    }
    g_assert_cmpint(rc, ==, -ENOSPC);
    g_assert_cmpuint(made, ==, 4095 - 2); /* store and console have theirs */
    g_assert_cmpuint(evtchn_alloc_for_host(g->d), ==, 0);
    xen_guest_free(g);
}

static void test_reset(void)
{
    struct xen_guest *g = guest_new();
    struct evtchn_reset reset = {.dom = DOMID_SELF};
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER};
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF};
    struct evtchn_status status = {.dom = DOMID_SELF};
    unsigned notified = 0;
    struct evtchn_host h = {.notified = host_notified, .opaque = &notified};
    uint32_t ipi;

    for (unsigned round = 0; round < 100; round++) {
        g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_virq, &virq), ==, 0);
        g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &a), ==, 0);
        g_assert_cmpint(evtchn_host_bind(g->d, &h, a.port), ==, 0);
        ipi = ipi_new(g, round % 2);
        g_assert_cmpint(port_send(g, ipi), ==, 0);
        evtchn_virq(g->d, 0, VIRQ_TIMER);
        evtchn_host_notify(&h);
        g_assert_cmpint(EV_OP(g, EVTCHNOP_reset, &reset), ==, 0);
        /* Every port is closed, with nothing pending that a new owner could inherit. */
        for (uint32_t port = 1; port < EVTCHN_MAX_PORTS; port++) {
            g_assert_false(evtchn_is_pending(g->d, port));
        }
        for (uint32_t port = 0; port <= ipi; port++) {
            status.port = port;
            g_assert_cmpint(EV_OP(g, EVTCHNOP_status, &status), ==, 0);
            g_assert_cmpuint(status.status, ==, EVTCHNSTAT_closed);
        }
        g_assert_cmpuint(h.port, ==, 0);
        evtchn_host_notify(&h);
        evtchn_virq(g->d, 0, VIRQ_TIMER);
        g_assert_false(evtchn_is_pending(g->d, a.port));
        g_assert_cmpint(port_send(g, ipi), ==, -EINVAL);
    }
    g_assert_cmpuint(notified, ==, 0);
    xen_guest_free(g);
}

static void test_type2(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_hvm_param param = {
        .domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ, .value = 2ull << 56 | 0xf3};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_param, &param), ==, 0);
    g_assert_cmpint(pv_pending_vector(g->d, 0), ==, -1);
    g_assert_cmpint(port_send(g, ipi_new(g, 0)), ==, 0);
    g_assert_cmpint(pv_pending_vector(g->d, 0), ==, 0xf3);
    g_assert_cmpuint(g->fb->apic_irqs[0], ==, 0);
    g_assert_true((g->fb->requested[0] & VCPU_REQ_IRQ) != 0);
    pv_shared_info(g->d)->vcpu_info[0].evtchn_upcall_pending = 0;
    g_assert_cmpint(pv_pending_vector(g->d, 0), ==, -1);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/evtchn/send", test_send);
    g_test_add_func("/pv/evtchn/mask", test_mask);
    g_test_add_func("/pv/evtchn/host", test_host);
    g_test_add_func("/pv/evtchn/local", test_local);
    g_test_add_func("/pv/evtchn/virq", test_virq);
    g_test_add_func("/pv/evtchn/errors", test_errors);
    g_test_add_func("/pv/evtchn/exhaustion", test_exhaustion);
    g_test_add_func("/pv/evtchn/reset", test_reset);
    g_test_add_func("/pv/evtchn/type-2-vector", test_type2);
    return g_test_run();
}
