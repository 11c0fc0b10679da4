/* SPDX-License-Identifier: MIT */
/*
 * Event channels and their 2-level ABI (xen/event_channel.h; xen-abi 4.1, 4.3); the FIFO ABI is
 * in evtchn_fifo.c. The ports are a plain table under the board lock: close and
 * reset cannot race with anything. Pending, mask and selector bits live in guest memory and are
 * only touched by atomics; a guest that scribbles on them loses its own events.
 *
 * The far end of a port is a back end in this process (domain 0), another port of the same
 * guest, a virtual IRQ, or another vCPU.
 */
#include "pv/evtchn.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv/bits.h"
#include "pv/domain.h"
#include "pv/evtchn_priv.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/shared.h"
#include "pv/xen_abi.h"

struct evtchn_table *evtchn_new(struct pv_domain *d)
{
    struct evtchn_table *t = g_new0(struct evtchn_table, 1);

    t->domain = d;
    return t;
}

void evtchn_free(struct evtchn_table *t)
{
    if (t == NULL) {
        return;
    }
    for (unsigned i = 1; i < EVTCHN_MAX_PORTS; i++) {
        if (t->port[i].host != NULL) {
            t->port[i].host->port = 0;
        }
    }
    evtchn_fifo_free(t);
    g_free(t);
}

/* The port's entry, or NULL for a number that is not a port in use. */
static struct evtchn_port *evtchn_lookup(struct pv_domain *d, uint32_t port)
{
    if (port == 0 || port >= EVTCHN_MAX_PORTS || d->evtchn->port[port].kind == EVTCHN_CLOSED) {
        return NULL;
    }
    return &d->evtchn->port[port];
}

/* Ports there can be: a 32-bit guest has 1024 with the 2-level ABI. */
static uint32_t evtchn_ports(const struct pv_domain *d)
{
    const unsigned bits = pv_shared_word_bits(d);

    return d->evtchn->fifo != NULL ? EVTCHN_MAX_PORTS : MIN(bits * bits, EVTCHN_MAX_PORTS);
}

/* --- Raising ---------------------------------------------------------------------------- */

bool evtchn_upcall_pending(struct pv_domain *d, unsigned vcpu)
{
    return __atomic_load_n(&pv_vcpu_info_32(d, vcpu)->evtchn_upcall_pending,
                           __ATOMIC_SEQ_CST) != 0;
}

void evtchn_inject(struct pv_domain *d, unsigned vcpu)
{
    if (!evtchn_upcall_pending(d, vcpu)) {
        return;
    }
    pv_vcpu_wake(d, vcpu);
    if (d->vcpu[vcpu].upcall_vector != 0) {
        d->board->ops->apic_irq(d->board, vcpu, d->vcpu[vcpu].upcall_vector);
    } else {
        d->board->ops->vcpu_request(d->board, vcpu, VCPU_REQ_IRQ);
    }
}

void evtchn_mark_upcall(struct pv_domain *d, unsigned vcpu)
{
    uint8_t *pending = &pv_vcpu_info_32(d, vcpu)->evtchn_upcall_pending;

    if (__atomic_exchange_n(pending, 1, __ATOMIC_SEQ_CST) == 0) {
        pv_vcpu_info_written(d, vcpu);
        evtchn_inject(d, vcpu);
    }
}

void evtchn_mark_all(struct pv_domain *d, unsigned vcpu)
{
    struct vcpu_info_x86_32 *info = pv_vcpu_info_32(d, vcpu);

    for (unsigned i = 0; i < pv_shared_word_bits(d) / 32; i++) {
        __atomic_store_n(&pv_shared_selector(d, vcpu)[i], UINT32_MAX, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&info->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST);
    pv_vcpu_info_written(d, vcpu);
    evtchn_inject(d, vcpu);
}

/* The port became pending and is not masked. */
static void evtchn_mark_selector(struct pv_domain *d, uint32_t port, unsigned vcpu)
{
    if (!bits_test_and_set(pv_shared_selector(d, vcpu), port / pv_shared_word_bits(d))) {
        evtchn_mark_upcall(d, vcpu);
    }
}

/* Wakes vCPUs that poll for this port. */
static void evtchn_wake_pollers(struct pv_domain *d, uint32_t port)
{
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        const struct pv_vcpu *pv = &d->vcpu[i];

        if (pv->sleep == PV_SLEEP_POLL && (pv->poll_port == 0 || pv->poll_port == port)) {
            pv_vcpu_wake(d, i);
        }
    }
}

static void evtchn_set_pending(struct pv_domain *d, uint32_t port)
{
    unsigned vcpu = d->evtchn->port[port].vcpu;

    if (d->evtchn->fifo != NULL) {
        if (evtchn_fifo_set_pending(d, port)) {
            evtchn_wake_pollers(d, port);
        }
        return;
    }
    if (port >= evtchn_ports(d) || bits_test_and_set(pv_shared_pending(d), port)) {
        return;
    }
    if (!bits_test(pv_shared_mask(d), port)) {
        evtchn_mark_selector(d, port, vcpu);
    }
    evtchn_wake_pollers(d, port);
}

bool evtchn_is_pending(struct pv_domain *d, uint32_t port)
{
    if (d->evtchn->fifo != NULL) {
        return evtchn_fifo_is_pending(d, port);
    }
    return port < evtchn_ports(d) && bits_test(pv_shared_pending(d), port);
}

void evtchn_virq(struct pv_domain *d, unsigned vcpu, unsigned virq)
{
    if (vcpu < PV_MAX_VCPUS && virq < NR_VIRQS && d->evtchn->virq_port[vcpu][virq] != 0) {
        evtchn_set_pending(d, d->evtchn->virq_port[vcpu][virq]);
    }
}

/* --- Making and closing ----------------------------------------------------------------- */

/* The number of a free port, or 0. */
static uint32_t evtchn_find_free(const struct evtchn_table *t)
{
    for (uint32_t i = 1; i < evtchn_ports(t->domain); i++) {
        if (t->port[i].kind == EVTCHN_CLOSED &&
            (t->fifo == NULL || !evtchn_fifo_is_busy(t->domain, i))) {
            return i;
        }
    }
    return 0;
}

static void evtchn_make(struct pv_domain *d, uint32_t port, enum evtchn_kind kind,
                        unsigned vcpu)
{
    struct evtchn_port *p = &d->evtchn->port[port];

    *p = (struct evtchn_port){
        .kind = (uint8_t)kind,
        .vcpu = (uint8_t)vcpu,
        .priority = EVTCHN_FIFO_PRIORITY_DEFAULT,
        .queue_vcpu = p->queue_vcpu, /* its word may still be the tail there */
        .queue_priority = p->queue_priority,
    };
}

static void evtchn_close_port(struct pv_domain *d, uint32_t port)
{
    struct evtchn_port *p = &d->evtchn->port[port];

    if (p->kind == EVTCHN_HOST && p->host != NULL) {
        p->host->port = 0;
    } else if (p->kind == EVTCHN_LOCAL) {
        struct evtchn_port *peer = &d->evtchn->port[p->remote_port];

        peer->kind = EVTCHN_UNBOUND;
        peer->remote_dom = (uint16_t)d->domid;
        peer->remote_port = 0;
    } else if (p->kind == EVTCHN_VIRQ) {
        d->evtchn->virq_port[p->vcpu][p->virq] = 0;
    }
    evtchn_make(d, port, EVTCHN_CLOSED, 0);
    /* A new owner of the number must not inherit an event. */
    if (d->evtchn->fifo != NULL) {
        evtchn_fifo_clear_pending(d, port);
    } else if (port < evtchn_ports(d)) {
        bits_test_and_clear(pv_shared_pending(d), port);
    }
}

static void evtchn_close_all(struct pv_domain *d)
{
    for (uint32_t i = 1; i < EVTCHN_MAX_PORTS; i++) {
        if (d->evtchn->port[i].kind != EVTCHN_CLOSED) {
            evtchn_close_port(d, i);
        }
    }
    evtchn_fifo_free(d->evtchn);
}

void evtchn_reset(struct pv_domain *d)
{
    evtchn_close_all(d);
}

uint32_t evtchn_alloc_for_host(struct pv_domain *d)
{
    uint32_t port = evtchn_find_free(d->evtchn);

    if (port != 0) {
        evtchn_make(d, port, EVTCHN_UNBOUND, 0);
        d->evtchn->port[port].remote_dom = 0;
    }
    return port;
}

int evtchn_host_bind(struct pv_domain *d, struct evtchn_host *h, uint32_t port)
{
    struct evtchn_port *p = evtchn_lookup(d, port);

    if (p == NULL || h->port != 0 || p->remote_dom != 0 ||
        !(p->kind == EVTCHN_UNBOUND || (p->kind == EVTCHN_HOST && p->host == NULL))) {
        return -EINVAL;
    }
    p->kind = EVTCHN_HOST;
    p->host = h;
    p->remote_port = port;
    h->domain = d;
    h->port = port;
    return 0;
}

void evtchn_host_unbind(struct evtchn_host *h)
{
    if (h->port != 0) {
        struct evtchn_port *p = &h->domain->evtchn->port[h->port];

        p->kind = EVTCHN_UNBOUND;
        p->host = NULL;
        p->remote_port = 0;
        h->port = 0;
    }
}

void evtchn_host_notify(struct evtchn_host *h)
{
    if (h->port != 0) {
        evtchn_set_pending(h->domain, h->port);
    }
}

/* --- Hypercalls ------------------------------------------------------------------------- */

static bool evtchn_virq_per_vcpu(unsigned virq)
{
    return virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF ||
           virq == VIRQ_XENPMU;
}

static int64_t evtchn_alloc_unbound(struct pv_domain *d, struct evtchn_alloc_unbound *op)
{
    int64_t error;
    uint32_t port;

    if (!hypercall_domid_self(d, op->dom, &error)) {
        return error;
    }
    port = evtchn_find_free(d->evtchn);
    if (port == 0) {
        return -ENOSPC;
    }
    evtchn_make(d, port, EVTCHN_UNBOUND, 0);
    d->evtchn->port[port].remote_dom =
        op->remote_dom == DOMID_SELF ? (uint16_t)d->domid : op->remote_dom;
    op->port = port;
    return 0;
}

static int64_t evtchn_bind_interdomain(struct pv_domain *d, struct evtchn_bind_interdomain *op)
{
    struct evtchn_port *remote;
    uint32_t port;

    /* Domain 0 offers no unbound ports; nobody else is there. */
    if (op->remote_dom != DOMID_SELF && op->remote_dom != d->domid) {
        return op->remote_dom == 0 ? -EINVAL : -ESRCH;
    }
    port = evtchn_find_free(d->evtchn);
    if (port == 0) {
        return -ENOSPC;
    }
    remote = evtchn_lookup(d, op->remote_port);
    if (remote == NULL || remote->kind != EVTCHN_UNBOUND || remote->remote_dom != d->domid) {
        return -EINVAL;
    }
    evtchn_make(d, port, EVTCHN_LOCAL, 0);
    d->evtchn->port[port].remote_port = op->remote_port;
    d->evtchn->port[port].remote_dom = (uint16_t)d->domid;
    remote->kind = EVTCHN_LOCAL;
    remote->remote_port = port;
    op->local_port = port;
    evtchn_set_pending(d, port); /* what was sent while it was unbound is lost: have it look */
    return 0;
}

static int64_t evtchn_bind_virq(struct pv_domain *d, struct evtchn_bind_virq *op)
{
    uint32_t port;

    if (op->virq >= NR_VIRQS) {
        return -EINVAL;
    }
    if (!evtchn_virq_per_vcpu(op->virq)) {
        return op->vcpu != 0 ? -EINVAL : -EBUSY; /* global ones: another domain has them */
    }
    if (op->vcpu >= d->max_vcpus) {
        return -ENOENT;
    }
    if (d->evtchn->virq_port[op->vcpu][op->virq] != 0) {
        return -EEXIST;
    }
    port = evtchn_find_free(d->evtchn);
    if (port == 0) {
        return -ENOSPC;
    }
    evtchn_make(d, port, EVTCHN_VIRQ, op->vcpu);
    d->evtchn->port[port].virq = (uint8_t)op->virq;
    d->evtchn->virq_port[op->vcpu][op->virq] = (uint16_t)port;
    op->port = port;
    return 0;
}

static int64_t evtchn_bind_ipi(struct pv_domain *d, struct evtchn_bind_ipi *op)
{
    uint32_t port;

    if (op->vcpu >= d->max_vcpus) {
        return -ENOENT;
    }
    port = evtchn_find_free(d->evtchn);
    if (port == 0) {
        return -ENOSPC;
    }
    evtchn_make(d, port, EVTCHN_IPI, op->vcpu);
    op->port = port;
    return 0;
}

static int64_t evtchn_close(struct pv_domain *d, uint32_t port)
{
    if (evtchn_lookup(d, port) == NULL) {
        return -EINVAL;
    }
    evtchn_close_port(d, port);
    return 0;
}

static int64_t evtchn_send(struct pv_domain *d, uint32_t port)
{
    const struct evtchn_port *p = evtchn_lookup(d, port);

    if (p == NULL) {
        return -EINVAL;
    }
    switch (p->kind) {
    case EVTCHN_UNBOUND:
        return 0;
    case EVTCHN_HOST:
        if (p->host != NULL) {
            p->host->notified(p->host->opaque);
        }
        return 0;
    case EVTCHN_LOCAL:
        evtchn_set_pending(d, p->remote_port);
        return 0;
    case EVTCHN_IPI:
        evtchn_set_pending(d, port);
        return 0;
    default:
        return -EINVAL;
    }
}

static int64_t evtchn_status(struct pv_domain *d, struct evtchn_status *op)
{
    static const uint8_t status[EVTCHN_NR_KINDS] = {
        [EVTCHN_CLOSED] = EVTCHNSTAT_closed,    [EVTCHN_UNBOUND] = EVTCHNSTAT_unbound,
        [EVTCHN_HOST] = EVTCHNSTAT_interdomain, [EVTCHN_LOCAL] = EVTCHNSTAT_interdomain,
        [EVTCHN_VIRQ] = EVTCHNSTAT_virq,        [EVTCHN_IPI] = EVTCHNSTAT_ipi,
    };
    const struct evtchn_port *p;
    int64_t error;

    if (!hypercall_domid_self(d, op->dom, &error)) {
        return error;
    }
    if (op->port >= EVTCHN_MAX_PORTS) {
        return -EINVAL;
    }
    p = &d->evtchn->port[op->port];
    op->status = status[p->kind];
    op->vcpu = p->vcpu;
    memset(&op->u, 0, sizeof(op->u));
    if (p->kind == EVTCHN_UNBOUND) {
        op->u.unbound.dom = p->remote_dom;
    } else if (p->kind == EVTCHN_HOST || p->kind == EVTCHN_LOCAL) {
        op->u.interdomain.dom = p->remote_dom;
        op->u.interdomain.port = p->remote_port;
    } else if (p->kind == EVTCHN_VIRQ) {
        op->u.virq = p->virq;
    }
    return 0;
}

static int64_t evtchn_bind_vcpu(struct pv_domain *d, const struct evtchn_bind_vcpu *op)
{
    struct evtchn_port *p;

    if (op->vcpu >= d->max_vcpus) {
        return -ENOENT;
    }
    p = evtchn_lookup(d, op->port);
    if (p == NULL || p->kind == EVTCHN_IPI ||
        (p->kind == EVTCHN_VIRQ && evtchn_virq_per_vcpu(p->virq))) {
        return -EINVAL;
    }
    p->vcpu = (uint8_t)op->vcpu;
    return 0;
}

static int64_t evtchn_unmask(struct pv_domain *d, uint32_t port)
{
    if (port == 0 || port >= evtchn_ports(d)) {
        return -EINVAL;
    }
    if (d->evtchn->fifo != NULL) {
        evtchn_fifo_unmask(d, port);
        return 0;
    }
    if (bits_test_and_clear(pv_shared_mask(d), port) && bits_test(pv_shared_pending(d), port)) {
        evtchn_mark_selector(d, port, d->evtchn->port[port].vcpu);
    }
    return 0;
}

static int64_t evtchn_reset_op(struct pv_domain *d, const struct evtchn_reset *op)
{
    int64_t error;

    if (!hypercall_domid_self(d, op->dom, &error)) {
        return error;
    }
    evtchn_close_all(d);
    return 0;
}

static int64_t evtchn_set_priority(struct pv_domain *d, const struct evtchn_set_priority *op)
{
    struct evtchn_port *p = evtchn_lookup(d, op->port);

    if (p == NULL) {
        return -EINVAL;
    }
    if (d->evtchn->fifo == NULL) {
        return -ENOSYS;
    }
    if (op->priority > EVTCHN_FIFO_PRIORITY_MIN) {
        return -EINVAL;
    }
    p->priority = (uint8_t)op->priority; /* from the next time it is linked */
    return 0;
}

union evtchn_arg {
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_interdomain bind_interdomain;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_bind_pirq bind_pirq;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
    struct evtchn_init_control init_control;
    struct evtchn_expand_array expand_array;
    struct evtchn_set_priority set_priority;
};

static int64_t evtchn_dispatch(struct pv_domain *d, uint32_t cmd, union evtchn_arg *arg)
{
    switch (cmd) {
    case EVTCHNOP_bind_interdomain:
        return evtchn_bind_interdomain(d, &arg->bind_interdomain);
    case EVTCHNOP_bind_virq:
        return evtchn_bind_virq(d, &arg->bind_virq);
    case EVTCHNOP_bind_pirq:
        return -EPERM; /* no physical interrupts */
    case EVTCHNOP_close:
        return evtchn_close(d, arg->close.port);
    case EVTCHNOP_send:
        return evtchn_send(d, arg->send.port);
    case EVTCHNOP_status:
        return evtchn_status(d, &arg->status);
    case EVTCHNOP_alloc_unbound:
        return evtchn_alloc_unbound(d, &arg->alloc_unbound);
    case EVTCHNOP_bind_ipi:
        return evtchn_bind_ipi(d, &arg->bind_ipi);
    case EVTCHNOP_bind_vcpu:
        return evtchn_bind_vcpu(d, &arg->bind_vcpu);
    case EVTCHNOP_unmask:
        return evtchn_unmask(d, arg->unmask.port);
    case EVTCHNOP_reset:
        return evtchn_reset_op(d, &arg->reset);
    case EVTCHNOP_init_control:
        return evtchn_fifo_init_control(d, &arg->init_control);
    case EVTCHNOP_expand_array:
        return d->evtchn->fifo != NULL ? evtchn_fifo_expand_array(d, &arg->expand_array)
                                       : -EOPNOTSUPP;
    case EVTCHNOP_set_priority:
        return evtchn_set_priority(d, &arg->set_priority);
    default:
        return -ENOSYS;
    }
}

int64_t evtchn_op(struct pv_domain *d, struct vcpu *v, uint32_t cmd, uint64_t arg_gva)
{
    static const struct {
        uint8_t size;
        bool out;
    } ops[] = {
        [EVTCHNOP_bind_interdomain] = {sizeof(struct evtchn_bind_interdomain), true},
        [EVTCHNOP_bind_virq] = {sizeof(struct evtchn_bind_virq), true},
        [EVTCHNOP_bind_pirq] = {sizeof(struct evtchn_bind_pirq), true},
        [EVTCHNOP_close] = {sizeof(struct evtchn_close), false},
        [EVTCHNOP_send] = {sizeof(struct evtchn_send), false},
        [EVTCHNOP_status] = {sizeof(struct evtchn_status), true},
        [EVTCHNOP_alloc_unbound] = {sizeof(struct evtchn_alloc_unbound), true},
        [EVTCHNOP_bind_ipi] = {sizeof(struct evtchn_bind_ipi), true},
        [EVTCHNOP_bind_vcpu] = {sizeof(struct evtchn_bind_vcpu), false},
        [EVTCHNOP_unmask] = {sizeof(struct evtchn_unmask), false},
        [EVTCHNOP_reset] = {sizeof(struct evtchn_reset), false},
        [EVTCHNOP_init_control] = {sizeof(struct evtchn_init_control), true},
        [EVTCHNOP_expand_array] = {sizeof(struct evtchn_expand_array), false},
        [EVTCHNOP_set_priority] = {sizeof(struct evtchn_set_priority), false},
    };
    union evtchn_arg arg;
    int64_t rc;

    memset(&arg, 0, sizeof(arg));
    if (cmd >= G_N_ELEMENTS(ops)) {
        return -ENOSYS;
    }
    if (!guest_read(v, arg_gva, &arg, ops[cmd].size)) {
        return -EFAULT;
    }
    rc = evtchn_dispatch(d, cmd, &arg);
    if (rc == 0 && ops[cmd].out && !guest_write(v, arg_gva, &arg, ops[cmd].size)) {
        rc =
            -EFAULT; /* as in Xen, a port that was made stays: the guest broke its own memory */
    }
    return rc;
}

/* --- State ------------------------------------------------------------------------------ */

static void evtchn_state_port(struct evtchn_table *t, struct evtchn_port *p, struct state *s)
{
    state_u8(s, "kind", &p->kind);
    state_u8(s, "vcpu", &p->vcpu);
    state_u8(s, "virq", &p->virq);
    state_u8(s, "priority", &p->priority);
    state_u8(s, "queue-vcpu", &p->queue_vcpu);
    state_u8(s, "queue-priority", &p->queue_priority);
    state_bool(s, "early", &p->early);
    state_u16(s, "remote-dom", &p->remote_dom);
    state_u32(s, "remote-port", &p->remote_port);
    if (p->kind <= EVTCHN_CLOSED || p->kind >= EVTCHN_NR_KINDS ||
        p->vcpu >= t->domain->max_vcpus || p->virq >= NR_VIRQS ||
        p->remote_port >= EVTCHN_MAX_PORTS || p->queue_vcpu >= t->domain->max_vcpus ||
        p->priority > EVTCHN_FIFO_PRIORITY_MIN || p->queue_priority > EVTCHN_FIFO_PRIORITY_MIN ||
        (p->kind == EVTCHN_VIRQ && !evtchn_virq_per_vcpu(p->virq))) {
        state_fail(s, "event channel: impossible port");
    }
}

/* Peers must point at each other, and a VIRQ may be bound once. */
static void evtchn_state_check(struct evtchn_table *t, struct state *s)
{
    memset(t->virq_port, 0, sizeof(t->virq_port));
    for (uint32_t i = 1; i < EVTCHN_MAX_PORTS; i++) {
        const struct evtchn_port *p = &t->port[i];

        if (p->kind == EVTCHN_LOCAL && (t->port[p->remote_port].kind != EVTCHN_LOCAL ||
                                        t->port[p->remote_port].remote_port != i)) {
            state_fail(s, "event channel: peers do not match");
        }
        if (p->kind == EVTCHN_VIRQ) {
            if (t->virq_port[p->vcpu][p->virq] != 0) {
                state_fail(s, "event channel: VIRQ bound twice");
            }
            t->virq_port[p->vcpu][p->virq] = (uint16_t)i;
        }
    }
}

void evtchn_state(struct pv_domain *d, struct state *s)
{
    struct evtchn_table *t = d->evtchn;
    uint32_t count = 0;
    uint32_t index = 0;

    if (state_loading(s)) {
        for (uint32_t i = 1; i < EVTCHN_MAX_PORTS; i++) {
            if (t->port[i].host != NULL) {
                t->port[i].host->port = 0;
            }
        }
        memset(t->port, 0, sizeof(t->port));
    }
    for (uint32_t i = 1; i < EVTCHN_MAX_PORTS; i++) {
        count += t->port[i].kind != EVTCHN_CLOSED;
    }
    state_u32(s, "evtchn-ports", &count);
    for (uint32_t n = 0; n < count && state_ok(s); n++) {
        if (!state_loading(s)) {
            do {
                index++;
            } while (t->port[index].kind == EVTCHN_CLOSED);
        }
        state_u32(s, "evtchn-port", &index);
        if (index == 0 || index >= EVTCHN_MAX_PORTS) {
            state_fail(s, "event channel: port number out of range");
            break;
        }
        evtchn_state_port(t, &t->port[index], s);
    }
    evtchn_fifo_state(t, s);
    if (state_loading(s)) {
        if (state_ok(s)) {
            evtchn_state_check(t, s);
        }
        if (!state_ok(s)) {
            memset(t->port, 0, sizeof(t->port));
            memset(t->virq_port, 0, sizeof(t->virq_port));
            evtchn_fifo_free(t);
        }
    }
}
