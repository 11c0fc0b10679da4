/* SPDX-License-Identifier: MIT */
/*
 * The queues of a vbd: rings of one or more pages in guest memory, each with an event channel
 * (public/io/blkif.h, "Multiple hardware queues/rings"). They are opened together or not at
 * all, and serve one disk: where a request came from matters for its answer only, so there is
 * nothing to lock but what blkback.c has anyway.
 */
#include <string.h>

#include "base/error.h"
#include "pv/blkback_priv.h"
#include "pv/xen_abi.h"

/* A queue as the front end describes it. */
struct queue_keys {
    uint32_t port;
    unsigned nr_pages;
    uint32_t ref[RING_MAX_PAGES];
};

/* --- What the front end wrote --- */

static bool queue_read_protocol(struct blkback *b, GError **err)
{
    g_autofree char *protocol = xenbus_front_read(&b->xb, "protocol");

    /* A front end that says nothing is of our own word size. */
    if (protocol == NULL || strcmp(protocol, XEN_IO_PROTO_ABI_X86_64) == 0) {
        b->protocol = BLK_PROTOCOL_X86_64;
    } else if (strcmp(protocol, XEN_IO_PROTO_ABI_X86_32) == 0) {
        b->protocol = BLK_PROTOCOL_X86_32;
    } else {
        return error_set(err, PVEMU_ERROR_GUEST, "the front end's protocol is not known");
    }
    return true;
}

/* One for all queues. *named: the pages are ring-ref0, 1, ... and not ring-ref. */
static bool queue_read_order(struct blkback *b, uint64_t *order, bool *named, GError **err)
{
    g_autofree char *text = xenbus_front_read(&b->xb, "ring-page-order");

    *order = 0;
    *named = text != NULL;
    if (*named && !xenbus_front_uint(&b->xb, "ring-page-order", BLK_MAX_RING_ORDER, order)) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "the front end's ring-page-order is not valid");
    }
    return true;
}

static bool queue_read_key(struct blkback *b, unsigned i, const char *name, uint32_t *value,
                           GError **err)
{
    g_autofree char *key = xenbus_queue_key(b->nr_queues, i, name);
    uint64_t wide;

    if (!xenbus_front_uint(&b->xb, key, UINT32_MAX, &wide)) {
        return error_set(err, PVEMU_ERROR_GUEST, "the front end's %s is not valid", key);
    }
    *value = (uint32_t)wide;
    return true;
}

static bool queue_read_keys(struct blkback *b, unsigned i, uint64_t order, bool named,
                            struct queue_keys *keys, GError **err)
{
    keys->nr_pages = 1u << order;
    for (unsigned n = 0; n < keys->nr_pages; n++) {
        g_autofree char *name = named ? g_strdup_printf("ring-ref%u", n) : g_strdup("ring-ref");

        if (!queue_read_key(b, i, name, &keys->ref[n], err)) {
            return false;
        }
    }
    return queue_read_key(b, i, "event-channel", &keys->port, err);
}

/* --- Opening and closing --- */

static void queue_unmap(struct blk_queue *q)
{
    for (unsigned i = 0; i < q->nr_pages; i++) {
        gnttab_unmap(q->b->domain, &q->page[i]);
    }
    q->nr_pages = 0;
    memset(&q->ring, 0, sizeof(q->ring));
}

static bool queue_map(struct blk_queue *q, const struct queue_keys *keys, GError **err)
{
    void *pages[RING_MAX_PAGES];

    for (unsigned i = 0; i < keys->nr_pages; i++) {
        int status = gnttab_map(q->b->domain, keys->ref[i], true, &q->page[i]);

        if (status != GNTST_okay) {
            return error_set(err, PVEMU_ERROR_GUEST,
                             "the front end's ring page %u cannot be mapped "
                             "(grant %u, status %d)",
                             i, keys->ref[i], status);
        }
        pages[i] = q->page[i].hva;
        q->nr_pages++;
    }
    ring_init(&q->ring, pages, keys->nr_pages, blk_slot_size(q->b->protocol));
    return true;
}

static bool queue_open(struct blk_queue *q, const struct queue_keys *keys, GError **err)
{
    if (!queue_map(q, keys, err)) {
        return false;
    }
    q->port = keys->port;
    if (evtchn_host_bind(q->b->domain, &q->evtchn, q->port) < 0) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "the front end's event channel %u cannot be bound", q->port);
    }
    return true;
}

void blkback_queues_unbind(struct blkback *b)
{
    for (unsigned i = 0; i < b->nr_queues; i++) {
        evtchn_host_unbind(&b->queue[i].evtchn);
    }
}

void blkback_queues_unmap(struct blkback *b)
{
    for (unsigned i = 0; i < b->nr_queues; i++) {
        queue_unmap(&b->queue[i]);
    }
    b->nr_queues = 0;
}

static void queues_close(struct blkback *b)
{
    blkback_queues_unbind(b);
    blkback_queues_unmap(b);
}

bool blkback_queues_open(struct blkback *b, GError **err)
{
    struct queue_keys keys;
    uint64_t order;
    bool named;

    if (!queue_read_protocol(b, err) || !queue_read_order(b, &order, &named, err) ||
        !xenbus_front_queues(&b->xb, &b->nr_queues, err)) {
        return false;
    }
    for (unsigned i = 0; i < b->nr_queues; i++) {
        if (!queue_read_keys(b, i, order, named, &keys, err) ||
            !queue_open(&b->queue[i], &keys, err)) {
            queues_close(b);
            return false;
        }
    }
    return true;
}

/* --- State --- */

/* A ring is found again by its grants, which were loaded before; it goes on where it was. */
static void queue_load(struct blk_queue *q, const struct queue_keys *keys, uint32_t req_cons,
                       uint32_t rsp_prod, struct state *s)
{
    g_autoptr(GError) err = NULL;

    if (keys->nr_pages == 0 || keys->nr_pages > 1u << BLK_MAX_RING_ORDER ||
        (keys->nr_pages & (keys->nr_pages - 1)) != 0) {
        state_fail(s, "a disk's ring is not valid");
    } else if (req_cons != rsp_prod) {
        state_fail(s, "a disk was saved with requests in flight");
    } else if (!queue_open(q, keys, &err)) {
        state_fail(s, err->message);
    } else {
        q->ring.req_cons = req_cons;
        q->ring.rsp_prod = q->ring.rsp_pushed = rsp_prod;
    }
}

static void queue_state(struct blk_queue *q, struct state *s)
{
    struct queue_keys keys = {.port = q->port, .nr_pages = q->nr_pages};
    uint32_t pages = q->nr_pages, req_cons = q->ring.req_cons, rsp_prod = q->ring.rsp_prod;

    for (unsigned i = 0; i < q->nr_pages; i++) {
        keys.ref[i] = q->page[i].ref;
    }
    state_u32(s, "port", &keys.port);
    state_u32(s, "ring-pages", &pages);
    state_bytes(s, "ring-refs", keys.ref, sizeof(keys.ref));
    state_u32(s, "req-cons", &req_cons);
    state_u32(s, "rsp-prod", &rsp_prod);
    if (state_loading(s) && state_ok(s)) {
        keys.nr_pages = pages;
        queue_load(q, &keys, req_cons, rsp_prod, s);
    }
}

void blkback_queues_state(struct blkback *b, struct state *s, bool running)
{
    uint32_t count = b->nr_queues;

    state_u32(s, "queues", &count);
    if (state_loading(s)) {
        if (running ? count == 0 || count > XENBUS_MAX_QUEUES : count != 0) {
            state_fail(s, "a disk's number of queues is not valid");
        }
        b->nr_queues = state_ok(s) ? count : 0;
    }
    for (unsigned i = 0; i < b->nr_queues && state_ok(s); i++) {
        queue_state(&b->queue[i], s);
    }
    if (state_loading(s) && !state_ok(s)) {
        queues_close(b);
    }
}
