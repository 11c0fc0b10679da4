/* SPDX-License-Identifier: MIT */
/* Event channels, FIFO ABI: queues as a guest sees them, priorities, moves, hostile words. */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "xen_guest.h"

enum { CONTROL_GFN = 0x300, ARRAY_GFN = 0x310, PAGE_PORTS = 1024 };
#define EV_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_event_channel_op, cmd, arg)
#define BIT(name)          (1u << EVTCHN_FIFO_##name)

static struct evtchn_fifo_control_block *control(struct xen_guest *g, unsigned vcpu)
{
    return xg_at(g, (CONTROL_GFN + vcpu) * MEM_PAGE_SIZE + 8);
}

static uint32_t *word(struct xen_guest *g, uint32_t port)
{
    return xg_at(g, (uint64_t)ARRAY_GFN * MEM_PAGE_SIZE + port * 4);
}

static int64_t init_control(struct xen_guest *g, unsigned vcpu)
{
    struct evtchn_init_control op = {
        .control_gfn = CONTROL_GFN + vcpu, .offset = 8, .vcpu = vcpu};

    return EV_OP(g, EVTCHNOP_init_control, &op);
}

static int64_t expand(struct xen_guest *g)
{
    struct evtchn_expand_array op = {.array_gfn = ARRAY_GFN};

    return EV_OP(g, EVTCHNOP_expand_array, &op);
}

static uint32_t ipi_new(struct xen_guest *g, unsigned vcpu)
{
    struct evtchn_bind_ipi op = {.vcpu = vcpu};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_ipi, &op), ==, 0);
    return op.port;
}

static void port_send(struct xen_guest *g, uint32_t port)
{
    struct evtchn_send op = {.port = port};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_send, &op), ==, 0);
}

static int64_t set_priority(struct xen_guest *g, uint32_t port, uint32_t priority)
{
    struct evtchn_set_priority op = {.port = port, .priority = priority};

    return EV_OP(g, EVTCHNOP_set_priority, &op);
}

static struct xen_guest *guest_new(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct xen_hvm_evtchn_upcall_vector vector = {.vector = 0xf3};

    for (vector.vcpu = 0; vector.vcpu < 2; vector.vcpu++) {
        g_assert_cmpint(XG_OP(g, __HYPERVISOR_hvm_op, HVMOP_set_evtchn_upcall_vector, &vector),
                        ==, 0);
    }
    return g;
}

static struct xen_guest *fifo_guest(void)
{
    struct xen_guest *g = guest_new();

    g_assert_cmpint(init_control(g, 0), ==, 0);
    g_assert_cmpint(init_control(g, 1), ==, 0);
    g_assert_cmpint(expand(g), ==, 0);
    return g;
}

/* What a guest's handler does for a vCPU: the ports that were pending, in order. */
struct consumer {
    uint32_t head[16];
    uint32_t ready;
};

static unsigned consume(struct xen_guest *g, unsigned vcpu, struct consumer *c, uint32_t *ports)
{
    struct evtchn_fifo_control_block *cb = control(g, vcpu);
    unsigned n = 0;

    pv_vcpu_info(g->d, vcpu)->evtchn_upcall_pending = 0;
    c->ready |= __atomic_exchange_n(&cb->ready, 0, __ATOMIC_SEQ_CST);
    while (c->ready != 0) {
        unsigned q = (unsigned)__builtin_ctz(c->ready);
        uint32_t port = c->head[q] != 0 ? c->head[q] : cb->head[q];
        uint32_t *w = word(g, port);

        g_assert_cmpuint(n, <, 16);
        c->head[q] = *w & EVTCHN_FIFO_LINK_MASK;
        *w &= ~(BIT(LINKED) | (uint32_t)EVTCHN_FIFO_LINK_MASK);
        if (c->head[q] == 0) {
            c->ready &= ~(1u << q);
        }
        if ((*w & BIT(PENDING)) != 0 && (*w & BIT(MASKED)) == 0) {
            *w &= ~BIT(PENDING);
            ports[n++] = port;
        }
        c->ready |= __atomic_exchange_n(&cb->ready, 0, __ATOMIC_SEQ_CST);
    }
    return n;
}

static void test_order(void)
{
    struct xen_guest *g = fifo_guest();
    struct consumer c = {0};
    uint32_t a = ipi_new(g, 1), b = ipi_new(g, 1), first = ipi_new(g, 1), got[16];

    g_assert_cmpint(set_priority(g, first, EVTCHN_FIFO_PRIORITY_MAX), ==, 0);
    for (unsigned round = 0; round < 3; round++) {
        unsigned irqs = g->fb->apic_irqs[1];

        port_send(g, b);
        port_send(g, a);
        port_send(g, b); /* pending already */
        port_send(g, first);
        g_assert_cmpuint(g->fb->apic_irqs[1], ==, irqs + 1);
        g_assert_cmpuint(g->fb->apic_irqs[0], ==, 0);
        g_assert_true(evtchn_is_pending(g->d, a));
        g_assert_cmpuint(consume(g, 1, &c, got), ==, 3);
        g_assert_cmpuint(got[0], ==, first);
        g_assert_cmpuint(got[1], ==, b);
        g_assert_cmpuint(got[2], ==, a);
        g_assert_false(evtchn_is_pending(g->d, a));
        g_assert_cmpuint(consume(g, 1, &c, got), ==, 0);
    }
    xen_guest_free(g);
}

static void test_mask(void)
{
    struct xen_guest *g = fifo_guest();
    struct consumer c = {0};
    uint32_t a = ipi_new(g, 0), got[16];
    struct evtchn_unmask op = {.port = a};

    *word(g, a) = BIT(MASKED);
    port_send(g, a);
    g_assert_cmphex(*word(g, a), ==, BIT(MASKED) | BIT(PENDING));
    g_assert_cmpuint(consume(g, 0, &c, got), ==, 0);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_unmask, &op), ==, 0);
    g_assert_cmphex(*word(g, a), ==, BIT(LINKED) | BIT(PENDING));
    g_assert_cmpuint(consume(g, 0, &c, got), ==, 1);
    g_assert_cmpuint(got[0], ==, a);
    xen_guest_free(g);
}

/* What was pending in the 2-level ABI, or came before the array had a word for it. */
static void test_take_over(void)
{
    struct xen_guest *g = guest_new();
    struct consumer c = {0};
    uint32_t a = ipi_new(g, 0), b = ipi_new(g, 0), got[16];
    struct evtchn_expand_array more = {.array_gfn = ARRAY_GFN + 1};

    g_assert_cmpint(expand(g), ==, -EOPNOTSUPP);
    g_assert_cmpint(set_priority(g, a, 3), ==, -ENOSYS);
    port_send(g, a);
    g_assert_cmpint(init_control(g, 0), ==, 0);
    g_assert_cmpint(init_control(g, 0), ==, -EINVAL);
    port_send(g, b);
    g_assert_true(evtchn_is_pending(g->d, a));
    g_assert_true(evtchn_is_pending(g->d, b));
    g_assert_cmpint(expand(g), ==, 0);
    g_assert_cmpuint(consume(g, 0, &c, got), ==, 2);
    g_assert_cmpuint(got[0], ==, a);
    g_assert_cmpuint(got[1], ==, b);
    for (unsigned i = 1; i < 128; i++) {
        g_assert_cmpint(EV_OP(g, EVTCHNOP_expand_array, &more), ==, 0);
    }
    g_assert_cmpint(EV_OP(g, EVTCHNOP_expand_array, &more), ==, -ENOSPC);
    xen_guest_free(g);
}

/* A port that changes its queue while its word is still the tail of the old one. */
static void test_move(void)
{
    struct xen_guest *g = fifo_guest();
    struct consumer c[2] = {{{0}, 0}, {{0}, 0}};
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain to;
    struct evtchn_bind_vcpu move;
    uint32_t fixed = ipi_new(g, 0), got[16];

    g_assert_cmpint(EV_OP(g, EVTCHNOP_alloc_unbound, &u), ==, 0);
    to = (struct evtchn_bind_interdomain){.remote_dom = DOMID_SELF, .remote_port = u.port};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_interdomain, &to), ==, 0);
    consume(g, 0, &c[0], got);
    port_send(g, to.local_port); /* arrives at u.port */
    g_assert_cmpuint(consume(g, 0, &c[0], got), ==, 1);
    g_assert_cmpuint(got[0], ==, u.port);
    for (unsigned i = 0; i < 6; i++) {
        unsigned vcpu = i & 1;

        move = (struct evtchn_bind_vcpu){.port = u.port, .vcpu = vcpu};
        g_assert_cmpint(EV_OP(g, EVTCHNOP_bind_vcpu, &move), ==, 0);
        g_assert_cmpint(set_priority(g, u.port, i), ==, 0);
        port_send(g, to.local_port);
        port_send(g, fixed);
        g_assert_cmpuint(consume(g, 0, &c[0], got), ==, vcpu == 0 ? 2 : 1);
        g_assert_cmpuint(got[vcpu == 0 ? 1 : 0], ==, fixed);
        g_assert_cmpuint(consume(g, 1, &c[1], got), ==, vcpu);
    }
    xen_guest_free(g);
}

/* A number that is still linked is not given away; nonsense in the words hurts nobody. */
static void test_hostile(void)
{
    struct xen_guest *g = fifo_guest();
    uint32_t a = ipi_new(g, 0), b = ipi_new(g, 0), again;
    struct evtchn_close op = {.port = a};
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    port_send(g, a);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_close, &op), ==, 0);
    g_assert_cmphex(*word(g, a), ==, BIT(LINKED));
    again = ipi_new(g, 0);
    g_assert_cmpuint(again, !=, a);
    *word(g, a) = 0;
    g_assert_cmpuint(ipi_new(g, 0), ==, a);
    memset(word(g, 0), 0xff, MEM_PAGE_SIZE);
    memset(control(g, 0), 0xff, sizeof(*control(g, 0)));
    for (unsigned i = 0; i < 100; i++) {
        port_send(g, b);
        port_send(g, again);
        *word(g, i & 1 ? b : again) = i * 0x01234567u;
    }
    g_assert_cmpint(EV_OP(g, EVTCHNOP_reset, &reset), ==, 0);
    g_assert_cmpint(expand(g), ==, -EOPNOTSUPP); /* 2-level again */
    xen_guest_free(g);
}

static void test_errors(void)
{
    struct xen_guest *g = fifo_guest();
    struct evtchn_init_control c = {.control_gfn = CONTROL_GFN, .vcpu = 2};
    struct evtchn_expand_array far = {.array_gfn = UINT64_MAX};

    g_assert_cmpint(EV_OP(g, EVTCHNOP_init_control, &c), ==, -ENOENT);
    c = (struct evtchn_init_control){.control_gfn = CONTROL_GFN, .offset = 4};
    g_assert_cmpint(EV_OP(g, EVTCHNOP_init_control, &c), ==, -EINVAL);
    c.offset = 4096 - 64;
    g_assert_cmpint(EV_OP(g, EVTCHNOP_init_control, &c), ==, -EINVAL);
    g_assert_cmpint(EV_OP(g, EVTCHNOP_expand_array, &far), ==, -EINVAL);
    g_assert_cmpint(set_priority(g, 4000, 1), ==, -EINVAL);
    g_assert_cmpint(set_priority(g, ipi_new(g, 0), 16), ==, -EINVAL);
    xen_guest_free(g);
}

static void test_state(void)
{
    struct xen_guest *g = fifo_guest(), *h = guest_new();
    struct consumer c = {0};
    uint32_t a = ipi_new(g, 1), b = ipi_new(g, 1), got[16];
    struct state *out = state_new_save(), *in;
    const void *data;
    size_t len;

    port_send(g, a);
    evtchn_state(g->d, out);
    data = state_data(out, &len);
    in = state_new_load(data, len);
    evtchn_state(h->d, in);
    g_assert_true(state_ok(in));
    state_free(in);
    state_free(out);
    memcpy(word(h, 0), word(g, 0), MEM_PAGE_SIZE);
    memcpy(control(h, 1), control(g, 1), sizeof(*control(g, 1)));
    port_send(h, b); /* behind a */
    g_assert_cmpuint(consume(h, 1, &c, got), ==, 2);
    g_assert_cmpuint(got[0], ==, a);
    g_assert_cmpuint(got[1], ==, b);
    xen_guest_free(g);
    xen_guest_free(h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/evtchn-fifo/order", test_order);
    g_test_add_func("/pv/evtchn-fifo/mask", test_mask);
    g_test_add_func("/pv/evtchn-fifo/take-over", test_take_over);
    g_test_add_func("/pv/evtchn-fifo/move", test_move);
    g_test_add_func("/pv/evtchn-fifo/hostile", test_hostile);
    g_test_add_func("/pv/evtchn-fifo/errors", test_errors);
    g_test_add_func("/pv/evtchn-fifo/state", test_state);
    return g_test_run();
}
