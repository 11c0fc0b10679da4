/* SPDX-License-Identifier: MIT */
/*
 * A front end for tests of the vbd back end: a domain on a fake board, whose "guest" is the
 * test. It writes ring pages and grant entries as a kernel would.
 */
#ifndef PVEMU_TESTS_BLK_FRONT_H
#define PVEMU_TESTS_BLK_FRONT_H

#include <stdio.h>

#include "fake_board.h"
#include "fake_disk.h"
#include "pv/blkback_priv.h"
#include "pv/xen_abi.h"
#include "pv/xenstore.h"

enum {
    FRONT_RAM_PAGES = 1024,
    FRONT_RING_GFN = 16, /* .. +15 */
    FRONT_DATA_GFN = 64, /* pages for data */
    FRONT_DATA_PAGES = 512,
    FRONT_QUEUE_GFN = 640, /* rings of queues 1 and up, 16 pages each */
    FRONT_VCPUS = 4,       /* and as many queues */
    FRONT_REF0 = 8, /* the grant of gfn g is FRONT_REF0 + g */
};

/* What belongs to one queue. */
struct front_ring {
    uint8_t *ring; /* the ring's pages are neighbours */
    uint32_t req_prod, rsp_cons;
    uint32_t port;
};

struct blk_front {
    struct fake_board *fb;
    struct pv_domain *d;
    struct fake_disk *disk;
    struct blkback *b;
    enum blk_protocol protocol;
    unsigned entries;
    /* The queue in use; front_use changes it. */
    unsigned queue;
    uint8_t *ring;
    uint32_t req_prod, rsp_cons;
    uint32_t port;
    struct front_ring others[FRONT_VCPUS];
};

struct front_response {
    uint64_t id;
    uint8_t op;
    int16_t status;
};

/* From here on the functions below mean queue number i. */
static inline void front_use(struct blk_front *f, unsigned i)
{
    struct front_ring *r = &f->others[f->queue];

    *r = (struct front_ring){f->ring, f->req_prod, f->rsp_cons, f->port};
    r = &f->others[i];
    f->queue = i;
    f->ring = r->ring;
    f->req_prod = r->req_prod;
    f->rsp_cons = r->rsp_cons;
    f->port = r->port;
}

static inline uint8_t *front_page(struct blk_front *f, uint64_t gfn)
{
    return mem_page(f->d->mem, gfn);
}

static inline uint32_t front_ref(uint64_t gfn)
{
    return (uint32_t)(FRONT_REF0 + gfn);
}

static inline grant_entry_v1_t *front_grant_entry(struct blk_front *f, uint32_t ref)
{
    uint32_t frame = gnttab_frame(f->d, ref / (MEM_PAGE_SIZE / sizeof(grant_entry_v1_t)));

    return (grant_entry_v1_t *)mem_frame_hva(f->d->mem, frame) +
           ref % (MEM_PAGE_SIZE / sizeof(grant_entry_v1_t));
}

static inline uint32_t front_grant(struct blk_front *f, uint64_t gfn, bool read_only)
{
    grant_entry_v1_t *e = front_grant_entry(f, front_ref(gfn));

    e->frame = (uint32_t)gfn;
    e->domid = 0;
    e->flags = GTF_permit_access | (read_only ? GTF_readonly : 0);
    return front_ref(gfn);
}

static inline void front_write_key(struct blk_front *f, const char *key, const char *value)
{
    g_autofree char *path = g_strdup_printf("%s/%s", f->b->xb.front_path, key);

    xs_write(f->d->xenstore, path, "%s", value);
}

static inline void front_write_uint(struct blk_front *f, const char *key, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    front_write_key(f, key, text);
}

/* Lets the main loop run. */
static inline void front_settle(struct blk_front *f)
{
    fake_board_run(f->fb);
}

static inline void front_set_state(struct blk_front *f, int state)
{
    g_mutex_lock(&f->fb->board.lock);
    front_write_uint(f, "state", (unsigned)state);
    g_mutex_unlock(&f->fb->board.lock);
    front_settle(f);
}

static inline uint64_t front_back_uint(struct blk_front *f, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/%s", f->b->xb.back_path, key);
    uint64_t value = UINT64_MAX;

    g_mutex_lock(&f->fb->board.lock);
    xs_read_uint(f->d->xenstore, path, UINT64_MAX - 1, &value);
    g_mutex_unlock(&f->fb->board.lock);
    return value;
}

static inline int front_back_state(struct blk_front *f)
{
    return (int)front_back_uint(f, "state");
}

static inline void front_prepare_queue(struct blk_front *f, unsigned count, unsigned order)
{
    uint64_t gfn = f->queue == 0 ? FRONT_RING_GFN : FRONT_QUEUE_GFN + (f->queue - 1u) * 16;
    g_autofree char *channel = xenbus_queue_key(count, f->queue, "event-channel");

    f->ring = front_page(f, gfn);
    memset(f->ring, 0, 4096u << order);
    ((uint32_t *)(void *)f->ring)[1] = 1; /* req_event */
    ((uint32_t *)(void *)f->ring)[3] = 1; /* rsp_event */
    f->req_prod = f->rsp_cons = 0;
    for (unsigned i = 0; i < 1u << order; i++) {
        g_autofree char *name =
            order > 0 ? g_strdup_printf("ring-ref%u", i) : g_strdup("ring-ref");
        g_autofree char *key = xenbus_queue_key(count, f->queue, name);

        front_write_uint(f, key, front_grant(f, gfn + i, false));
    }
    f->port = evtchn_alloc_for_host(f->d);
    g_assert_cmpuint(f->port, !=, 0);
    front_write_uint(f, channel, f->port);
}

/* Writes the keys of a front end, with `count` fresh rings, but not its state. */
static inline void front_prepare_queues(struct blk_front *f, unsigned count, unsigned order,
                                        enum blk_protocol protocol)
{
    unsigned slot = protocol == BLK_PROTOCOL_X86_64 ? BLK_SLOT_X86_64 : BLK_SLOT_X86_32;
    unsigned fit = ((4096u << order) - 64) / slot;

    g_mutex_lock(&f->fb->board.lock);
    f->protocol = protocol;
    for (f->entries = 1; f->entries * 2 <= fit; f->entries *= 2) {
    }
    for (unsigned i = count; i-- > 0;) {
        front_use(f, i);
        front_prepare_queue(f, count, order);
    }
    if (order > 0) {
        front_write_uint(f, "ring-page-order", order);
    }
    front_write_uint(f, "multi-queue-num-queues", count);
    front_write_key(f, "protocol",
                    protocol == BLK_PROTOCOL_X86_64 ? XEN_IO_PROTO_ABI_X86_64
                                                    : XEN_IO_PROTO_ABI_X86_32);
    g_mutex_unlock(&f->fb->board.lock);
}

static inline void front_prepare(struct blk_front *f, unsigned order,
                                 enum blk_protocol protocol)
{
    front_prepare_queues(f, 1, order, protocol);
}

static inline void front_connect(struct blk_front *f, unsigned order,
                                 enum blk_protocol protocol)
{
    front_prepare(f, order, protocol);
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateConnected);
    front_set_state(f, XenbusStateConnected);
}

static inline void front_init(struct blk_front *f, struct fake_disk *disk)
{
    static const struct pv_memory_range map = {0, FRONT_RAM_PAGES * 4096ull, 1};
    struct pv_domain_config config = {
        .kind = PV_KIND_PVH,
        .name = "test",
        .nr_vcpus = 1,
        .max_vcpus = FRONT_VCPUS,
        .tsc_hz = 1000000000,
        .map = &map,
        .map_len = 1,
    };
    g_autoptr(GError) err = NULL;

    memset(f, 0, sizeof(*f));
    f->disk = disk;
    f->fb = fake_board_new(FRONT_VCPUS, FRONT_RAM_PAGES * 4096ull, PV_EXTRA_FRAMES);
    g_mutex_lock(&f->fb->board.lock);
    f->d = pv_domain_new(&f->fb->board, &config, &err);
    g_assert_no_error(err);
    f->b = blkback_new(f->d, &disk->blk, 0, &err);
    g_assert_no_error(err);
    for (unsigned i = 0; i < FRONT_DATA_PAGES; i++) {
        front_grant(f, FRONT_DATA_GFN + i, false);
    }
    g_mutex_unlock(&f->fb->board.lock);
    front_settle(f);
}

static inline void front_fini(struct blk_front *f)
{
    fake_disk_run(f->disk);
    blkback_free(f->b);
    front_settle(f);
    g_mutex_lock(&f->fb->board.lock);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    pv_domain_free(f->d);
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_free(f->fb);
    fake_disk_close(&f->disk->blk);
}

/* --- Requests --- */

static inline uint8_t *front_slot(struct blk_front *f, uint32_t index)
{
    return f->ring + 64 + (index & (f->entries - 1)) * blk_slot_size(f->protocol);
}

static inline void front_put(uint8_t *slot, unsigned at, uint64_t value, unsigned size)
{
    memcpy(slot + at, &value, size);
}

struct front_request {
    uint8_t op;
    uint8_t flag; /* discard; indirect: the inner operation */
    unsigned nr;  /* segments; may be a lie */
    uint64_t id, sector;
    uint64_t nr_sectors; /* discard */
    uint32_t indirect_ref;
    struct blk_segment seg[11];
};

/* Writes a request into the next slot; front_kick shows it. */
static inline void front_queue(struct blk_front *f, const struct front_request *r)
{
    uint8_t *slot = front_slot(f, f->req_prod++);
    bool x64 = f->protocol == BLK_PROTOCOL_X86_64;
    unsigned body = x64 ? 24 : 20;

    memset(slot, 0xa5, blk_slot_size(f->protocol));
    slot[0] = r->op;
    slot[1] = (uint8_t)r->nr;
    front_put(slot, x64 ? 8 : 4, r->id, 8);
    front_put(slot, x64 ? 16 : 12, r->sector, 8);
    if (r->op == BLKIF_OP_DISCARD) {
        slot[1] = r->flag;
        front_put(slot, body, r->nr_sectors, 8);
    } else if (r->op == BLKIF_OP_INDIRECT) {
        slot[1] = r->flag;
        front_put(slot, 2, r->nr, 2);
        front_put(slot, x64 ? 28 : 24, r->indirect_ref, 4);
    } else {
        memcpy(slot + body, r->seg, sizeof(r->seg));
    }
}

/* Shows the requests and sends the event. */
static inline void front_kick(struct blk_front *f)
{
    __atomic_store_n((uint32_t *)(void *)f->ring, f->req_prod, __ATOMIC_SEQ_CST);
    g_mutex_lock(&f->fb->board.lock);
    if (f->b->queue[f->queue].evtchn.port != 0) {
        f->b->queue[f->queue].evtchn.notified(f->b->queue[f->queue].evtchn.opaque);
    }
    g_mutex_unlock(&f->fb->board.lock);
    front_settle(f);
}

static inline unsigned front_responses(const struct blk_front *f)
{
    return __atomic_load_n((const uint32_t *)(const void *)f->ring + 2, __ATOMIC_SEQ_CST) -
           f->rsp_cons;
}

/* Takes the next response and checks that nothing else is in its slot (XSA-216). */
static inline struct front_response front_take(struct blk_front *f)
{
    const uint8_t *slot = front_slot(f, f->rsp_cons);
    struct front_response r;

    g_assert_cmpuint(front_responses(f), >, 0);
    f->rsp_cons++;
    memcpy(&r.id, slot, 8);
    r.op = slot[8];
    memcpy(&r.status, slot + 10, 2);
    g_assert_cmpint(slot[9], ==, 0);
    for (unsigned i = 12; i < blk_slot_size(f->protocol); i++) {
        g_assert_cmpint(slot[i], ==, 0);
    }
    return r;
}

/* One request from end to end; checks id and op of the answer. */
static inline int front_do(struct blk_front *f, struct front_request r)
{
    struct front_response answer;

    r.id = 0x1122334455667788 + f->req_prod;
    front_queue(f, &r);
    front_kick(f);
    fake_disk_run(f->disk);
    g_assert_cmpuint(front_responses(f), ==, 1);
    answer = front_take(f);
    g_assert_cmpuint(answer.id, ==, r.id);
    g_assert_cmpint(answer.op, ==, r.op == BLKIF_OP_INDIRECT ? r.flag : r.op);
    return answer.status;
}

/* A request for the first `nr` data pages, all of each. */
static inline struct front_request front_request(uint8_t op, uint64_t sector, unsigned nr)
{
    struct front_request r = {.op = op, .sector = sector, .nr = nr};

    for (unsigned i = 0; i < nr && i < 11; i++) {
        r.seg[i] = (struct blk_segment){front_ref(FRONT_DATA_GFN + i), 0, 7, 0};
    }
    return r;
}

#endif
