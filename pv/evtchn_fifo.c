/* SPDX-License-Identifier: MIT */
/*
 * Event channels, FIFO ABI (xen/event_channel.h; xen-abi 4.2): a word for each port in pages of
 * the guest, and 16 queues for each vCPU that are linked through these words.
 *
 * The tail of each queue is kept here; links and heads are in guest memory and only written. A
 * guest that writes nonsense there loses its own events: nothing read from it is used as an
 * index, and no loop depends on it.
 */
#include <errno.h>
#include <glib.h>

#include "pv/evtchn_priv.h"
#include "pv/pv_guest.h"

enum {
    FIFO_PAGE_PORTS = MEM_PAGE_SIZE / sizeof(event_word_t),
    FIFO_MAX_PAGES = EVTCHN_FIFO_NR_CHANNELS / FIFO_PAGE_PORTS,
    FIFO_LINK_TRIES = 64, /* against a guest that changes the tail's word all the time */
};
#define FIFO_BIT(name) (1u << EVTCHN_FIFO_##name)

struct fifo_vcpu {
    uint32_t frame; /* of the control block; MEM_HOLE: none */
    uint16_t offset;
    uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];
};

struct evtchn_fifo {
    struct fifo_vcpu vcpu[PV_MAX_VCPUS];
    uint32_t page[FIFO_MAX_PAGES]; /* frames */
    uint32_t nr_pages;
    bool held; /* the frames are pv_frame_get()'s; not so between loading and being held */
};

static event_word_t *fifo_word(struct pv_domain *d, uint32_t port)
{
    const struct evtchn_fifo *f = d->evtchn->fifo;

    if (port / FIFO_PAGE_PORTS >= f->nr_pages) {
        return NULL;
    }
    return (event_word_t *)mem_frame_hva(d->mem, f->page[port / FIFO_PAGE_PORTS]) +
           port % FIFO_PAGE_PORTS;
}

static void fifo_word_written(struct pv_domain *d, uint32_t port)
{
    mem_written(d->mem, d->evtchn->fifo->page[port / FIFO_PAGE_PORTS]);
}

static struct evtchn_fifo_control_block *fifo_control(struct pv_domain *d, unsigned vcpu)
{
    const struct fifo_vcpu *fv = &d->evtchn->fifo->vcpu[vcpu];

    return (struct evtchn_fifo_control_block *)((uint8_t *)mem_frame_hva(d->mem, fv->frame) +
                                                fv->offset);
}

/* --- Raising ---------------------------------------------------------------------------- */

/* Has the tail's word point at `port`, if the tail is still linked. */
static bool fifo_link_tail(struct pv_domain *d, uint32_t tail, uint32_t port)
{
    event_word_t *word = fifo_word(d, tail);
    event_word_t old, now;

    if (word == NULL) {
        return false;
    }
    old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    for (unsigned tries = 0; tries < FIFO_LINK_TRIES; tries++) {
        if ((old & FIFO_BIT(LINKED)) == 0) {
            return false;
        }
        now = (old & ~(FIFO_BIT(BUSY) | (event_word_t)EVTCHN_FIFO_LINK_MASK)) | port;
        if (__atomic_compare_exchange_n(word, &old, now, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            fifo_word_written(d, tail);
            return true;
        }
    }
    return false;
}

/* Puts a pending event into its queue. */
static void fifo_enqueue(struct pv_domain *d, uint32_t port)
{
    struct evtchn_fifo *f = d->evtchn->fifo;
    struct evtchn_port *p = &d->evtchn->port[port];
    struct fifo_vcpu *fv = &f->vcpu[p->vcpu];
    uint32_t *old_tail = &f->vcpu[p->queue_vcpu].tail[p->queue_priority];
    uint32_t *tail = &fv->tail[p->priority];
    event_word_t *word = fifo_word(d, port);
    struct evtchn_fifo_control_block *control;
    bool linked = false;

    if (fv->frame == MEM_HOLE) {
        return; /* the guest may not unmask before there is a control block */
    }
    if ((__atomic_fetch_or(word, FIFO_BIT(LINKED), __ATOMIC_SEQ_CST) & FIFO_BIT(LINKED)) != 0) {
        return;
    }
    /* A tail that was not linked ended an empty queue; nobody may be linked behind it now. */
    if (*old_tail == port) {
        *old_tail = 0;
    }
    p->queue_vcpu = p->vcpu;
    p->queue_priority = p->priority;
    control = fifo_control(d, p->vcpu);
    if (*tail != 0) {
        linked = fifo_link_tail(d, *tail, port);
    }
    if (!linked) {
        __atomic_store_n(&control->head[p->priority], port, __ATOMIC_SEQ_CST);
    }
    *tail = port;
    if (!linked) {
        const uint32_t bit = 1u << p->priority;

        if ((__atomic_fetch_or(&control->ready, bit, __ATOMIC_SEQ_CST) & bit) == 0) {
            evtchn_mark_upcall(d, p->vcpu);
        }
        mem_written(d->mem, fv->frame);
    }
}

bool evtchn_fifo_set_pending(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = fifo_word(d, port);
    event_word_t old;

    if (word == NULL) {
        d->evtchn->port[port].early = true;
        return true;
    }
    old = __atomic_fetch_or(word, FIFO_BIT(PENDING), __ATOMIC_SEQ_CST);
    if ((old & (FIFO_BIT(MASKED) | FIFO_BIT(LINKED))) == 0) {
        fifo_enqueue(d, port);
    }
    fifo_word_written(d, port);
    return (old & FIFO_BIT(PENDING)) == 0;
}

void evtchn_fifo_clear_pending(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = fifo_word(d, port);

    d->evtchn->port[port].early = false;
    if (word != NULL) { /* a linked word the guest takes out, and sees that nothing is pending */
        __atomic_fetch_and(word, ~FIFO_BIT(PENDING), __ATOMIC_SEQ_CST);
        fifo_word_written(d, port);
    }
}

static bool fifo_word_has(struct pv_domain *d, uint32_t port, event_word_t bit)
{
    const event_word_t *word = fifo_word(d, port);

    return word != NULL && (__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit) != 0;
}

bool evtchn_fifo_is_pending(struct pv_domain *d, uint32_t port)
{
    return d->evtchn->port[port].early || fifo_word_has(d, port, FIFO_BIT(PENDING));
}

bool evtchn_fifo_is_busy(struct pv_domain *d, uint32_t port)
{
    return fifo_word_has(d, port, FIFO_BIT(LINKED));
}

void evtchn_fifo_unmask(struct pv_domain *d, uint32_t port)
{
    event_word_t *word = fifo_word(d, port);

    if (word == NULL) {
        return;
    }
    __atomic_fetch_and(word, ~FIFO_BIT(MASKED), __ATOMIC_SEQ_CST);
    fifo_word_written(d, port);
    if (d->evtchn->port[port].kind != EVTCHN_CLOSED && fifo_word_has(d, port, FIFO_BIT(PENDING))) {
        evtchn_fifo_set_pending(d, port);
    }
}

/* --- Operations ------------------------------------------------------------------------- */

static struct evtchn_fifo *fifo_new(void)
{
    struct evtchn_fifo *f = g_new0(struct evtchn_fifo, 1);

    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        f->vcpu[i].frame = MEM_HOLE;
    }
    return f;
}

/* From the 2-level ABI: what is pending stays so. */
static void fifo_take_over(struct evtchn_table *t)
{
    const struct shared_info *si = pv_shared_info(t->domain);

    t->fifo = fifo_new();
    for (uint32_t port = 1; port < EVTCHN_MAX_PORTS; port++) {
        struct evtchn_port *p = &t->port[port];
        const uint64_t *word = (const uint64_t *)&si->evtchn_pending[port / 64];

        p->early = p->kind != EVTCHN_CLOSED &&
                   (__atomic_load_n(word, __ATOMIC_SEQ_CST) >> (port % 64) & 1) != 0;
        p->priority = p->queue_priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        p->queue_vcpu = 0;
    }
}

int64_t evtchn_fifo_init_control(struct pv_domain *d, struct evtchn_init_control *op)
{
    struct evtchn_table *t = d->evtchn;
    uint32_t frame;

    op->link_bits = EVTCHN_FIFO_LINK_BITS;
    if (op->vcpu >= d->max_vcpus) {
        return -ENOENT;
    }
    if (op->offset > MEM_PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) ||
        op->offset % sizeof(uint64_t) != 0) {
        return -EINVAL;
    }
    if ((t->fifo != NULL && t->fifo->vcpu[op->vcpu].frame != MEM_HOLE) ||
        pv_frame_get(d, op->control_gfn, true, &frame) != 0) {
        return -EINVAL;
    }
    if (t->fifo == NULL) {
        fifo_take_over(t);
        t->fifo->held = true;
    }
    t->fifo->vcpu[op->vcpu].frame = frame;
    t->fifo->vcpu[op->vcpu].offset = (uint16_t)op->offset;
    return 0;
}

int64_t evtchn_fifo_expand_array(struct pv_domain *d, const struct evtchn_expand_array *op)
{
    struct evtchn_fifo *f = d->evtchn->fifo;
    uint32_t first, frame;

    if (f->nr_pages >= FIFO_MAX_PAGES) {
        return -ENOSPC;
    }
    if (pv_frame_get(d, op->array_gfn, true, &frame) != 0) {
        return -EINVAL;
    }
    first = f->nr_pages * FIFO_PAGE_PORTS;
    f->page[f->nr_pages++] = frame;
    for (uint32_t port = first; port < first + FIFO_PAGE_PORTS && port < EVTCHN_MAX_PORTS;
         port++) {
        if (d->evtchn->port[port].early) {
            d->evtchn->port[port].early = false;
            evtchn_fifo_set_pending(d, port);
        }
    }
    return 0;
}

static void fifo_release(struct pv_domain *d, const struct evtchn_fifo *f)
{
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        pv_frame_put(d, f->vcpu[i].frame, true);
    }
    for (uint32_t i = 0; i < f->nr_pages; i++) {
        pv_frame_put(d, f->page[i], true);
    }
}

bool evtchn_fifo_hold(struct pv_domain *d)
{
    struct evtchn_fifo *f = d->evtchn->fifo;

    if (f == NULL) {
        return true;
    }
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        if (f->vcpu[i].frame != MEM_HOLE && !pv_frame_hold(d, f->vcpu[i].frame)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < f->nr_pages; i++) {
        if (!pv_frame_hold(d, f->page[i])) {
            return false;
        }
    }
    f->held = true;
    return true;
}

void evtchn_fifo_free(struct evtchn_table *t)
{
    if (t->fifo != NULL && t->fifo->held) {
        fifo_release(t->domain, t->fifo);
    }
    g_free(t->fifo);
    t->fifo = NULL;
    for (uint32_t port = 1; port < EVTCHN_MAX_PORTS; port++) {
        t->port[port].early = false;
    }
}

/* --- State ------------------------------------------------------------------------------ */

static bool fifo_frame_ok(const struct pv_domain *d, uint32_t frame)
{
    return frame < d->ram_pages + PV_EXTRA_FRAMES;
}

static void fifo_state_vcpu(const struct pv_domain *d, struct fifo_vcpu *fv, struct state *s)
{
    state_u32(s, "fifo-control-frame", &fv->frame);
    state_u16(s, "fifo-control-offset", &fv->offset);
    if ((fv->frame != MEM_HOLE && !fifo_frame_ok(d, fv->frame)) ||
        fv->offset > MEM_PAGE_SIZE - sizeof(struct evtchn_fifo_control_block) ||
        fv->offset % sizeof(uint64_t) != 0) {
        state_fail(s, "event channel: control block outside of memory");
    }
    for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++) {
        state_u32(s, "fifo-tail", &fv->tail[i]);
        if (fv->tail[i] >= EVTCHN_MAX_PORTS) {
            state_fail(s, "event channel: tail out of range");
        }
    }
}

void evtchn_fifo_state(struct evtchn_table *t, struct state *s)
{
    bool used = t->fifo != NULL;

    state_bool(s, "fifo", &used);
    if (state_loading(s)) {
        g_free(t->fifo);
        t->fifo = used && state_ok(s) ? fifo_new() : NULL;
    }
    if (t->fifo == NULL) {
        return;
    }
    for (unsigned i = 0; i < t->domain->max_vcpus; i++) {
        fifo_state_vcpu(t->domain, &t->fifo->vcpu[i], s);
    }
    state_u32(s, "fifo-pages", &t->fifo->nr_pages);
    if (t->fifo->nr_pages > FIFO_MAX_PAGES) {
        t->fifo->nr_pages = 0;
        state_fail(s, "event channel: too many array pages");
    }
    for (uint32_t i = 0; i < t->fifo->nr_pages; i++) {
        state_u32(s, "fifo-page", &t->fifo->page[i]);
        if (!fifo_frame_ok(t->domain, t->fifo->page[i])) {
            state_fail(s, "event channel: array page outside of memory");
        }
    }
    if (!state_ok(s) && state_loading(s)) {
        g_free(t->fifo);
        t->fifo = NULL;
    }
}
