/* SPDX-License-Identifier: MIT */
/*
 * Requests of a vbd: off the ring, checked, their pages mapped, to the disk, and the answer
 * back.
 *
 * Data moves between the host's file and the guest's pages without a copy: the pages stay
 * granted to us until the disk is done, and a guest that changes them meanwhile only harms its
 * data. Everything that is checked is checked in a private copy (xen-abi 6.7).
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "pv/blkback_priv.h"
#include "pv/xen_abi.h"

void blkback_post(struct blkback *b)
{
    b->domain->board->ops->post(b->domain->board, &b->kick->work);
}

/* --- Requests in flight --- */

static struct blk_io *blkback_io_get(struct blk_queue *q)
{
    struct blkback *b = q->b;
    struct blk_io *io = b->free;

    if (io != NULL) {
        b->free = io->next_free;
    } else {
        io = g_try_new(struct blk_io, 1);
        if (io == NULL) {
            return NULL;
        }
    }
    io->q = q;
    memset(&io->req, 0, sizeof(io->req));
    io->req.iov = io->iov;
    io->then_write = false;
    io->nr_pages = 0;
    return io;
}

static void blkback_io_put(struct blkback *b, struct blk_io *io)
{
    io->next_free = b->free;
    b->free = io;
}

void blkback_io_release(struct blkback *b)
{
    GHashTableIter iter;
    gpointer mapping;

    g_assert(b->in_flight == 0);
    while (b->free != NULL) {
        struct blk_io *io = b->free;

        b->free = io->next_free;
        g_free(io);
    }
    g_hash_table_iter_init(&iter, b->persistent_grants);
    while (g_hash_table_iter_next(&iter, NULL, &mapping)) {
        gnttab_unmap(b->domain, mapping);
        g_hash_table_iter_remove(&iter);
    }
}

/* --- Guest pages --- */

/* A grant that stays mapped, for every use (reads and writes of one grant come in any order).
 */
static struct gnttab_mapping *blkback_persistent(struct blkback *b, uint32_t ref)
{
    struct gnttab_mapping *map =
        g_hash_table_lookup(b->persistent_grants, GUINT_TO_POINTER(ref));

    if (map != NULL || g_hash_table_size(b->persistent_grants) >= BLK_MAX_PERSISTENT) {
        return map;
    }
    map = g_new0(struct gnttab_mapping, 1);
    if (gnttab_map(b->domain, ref, true, map) != GNTST_okay) {
        g_free(map); /* read-only, perhaps: for this request alone, then */
        return NULL;
    }
    g_hash_table_insert(b->persistent_grants, GUINT_TO_POINTER(ref), map);
    return map;
}

static bool blkback_map_page(struct blkback *b, uint32_t ref, bool write, struct blk_page *page)
{
    struct gnttab_mapping *kept = b->persistent ? blkback_persistent(b, ref) : NULL;

    page->persistent = kept != NULL;
    if (kept != NULL) {
        page->map = *kept;
        return true;
    }
    return gnttab_map(b->domain, ref, write, &page->map) == GNTST_okay;
}

static void blkback_unmap_pages(struct blkback *b, struct blk_io *io)
{
    for (unsigned i = 0; i < io->nr_pages; i++) {
        struct blk_page *page = &io->page[i];

        if (!page->persistent) {
            gnttab_unmap(b->domain, &page->map);
        } else if (io->op == BLKIF_OP_READ) {
            mem_written(b->domain->mem, page->map.frame);
        }
    }
    io->nr_pages = 0;
}

/* Maps the pages and makes the list of buffers; neighbours in the host become one buffer. */
static bool blkback_map(struct blkback *b, struct blk_io *io, const struct blk_request *r)
{
    struct block_request *req = &io->req;

    for (unsigned i = 0; i < r->nr_segments; i++) {
        const struct blk_segment *seg = &r->seg[i];
        struct blk_page *page = &io->page[i];
        struct iovec *last = req->iov_count > 0 ? &io->iov[req->iov_count - 1] : NULL;
        size_t len = (seg->last - seg->first + 1u) * BLK_SECTOR;
        uint8_t *start;

        if (!blkback_map_page(b, seg->gref, r->op == BLKIF_OP_READ, page)) {
            return false;
        }
        io->nr_pages++;
        start = (uint8_t *)page->map.hva + seg->first * BLK_SECTOR;
        if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == start) {
            last->iov_len += len;
        } else {
            io->iov[req->iov_count++] = (struct iovec){.iov_base = start, .iov_len = len};
        }
        req->len += len;
    }
    return true;
}

/* --- Answers --- */

/* Puts an answer on the ring; blkback_push makes it visible. */
static void blkback_respond(struct blk_queue *q, uint64_t id, uint8_t op, int status)
{
    struct {
        uint64_t id;
        uint8_t op;
        uint8_t pad;
        int16_t status;
    } __attribute__((packed)) rsp = {.id = id, .op = op, .status = (int16_t)status};

    _Static_assert(sizeof(rsp) == 12, "the same for both layouts; ring_put zeroes the rest");
    ring_put(&q->ring, &rsp, sizeof(rsp));
}

static void blkback_push(struct blk_queue *q)
{
    if (ring_push(&q->ring)) {
        evtchn_host_notify(&q->evtchn);
    }
}

static void blkback_count(struct blkback *b, const struct blk_io *io)
{
    switch (io->req.op) {
    case BLOCK_READ:
        b->stats.reads++;
        b->stats.read_bytes += io->req.len;
        break;
    case BLOCK_WRITE:
        b->stats.writes++;
        b->stats.write_bytes += io->req.len;
        break;
    case BLOCK_FLUSH:
        b->stats.flushes++;
        break;
    case BLOCK_DISCARD:
        b->stats.discards++;
        break;
    }
}

static const char *blkback_op_name(enum block_op op)
{
    static const char *const names[] = {
        [BLOCK_READ] = "read",
        [BLOCK_WRITE] = "write",
        [BLOCK_FLUSH] = "flush",
        [BLOCK_DISCARD] = "discard",
    };

    return names[op];
}

static int blkback_status(struct blkback *b, const struct blk_io *io, int ret)
{
    if (ret == 0) {
        return BLKIF_RSP_OKAY;
    }
    if (ret == -EOPNOTSUPP) {
        return BLKIF_RSP_EOPNOTSUPP;
    }
    b->stats.host_errors++;
    report_warn_limited(&b->warn_host, "disk '%s' (%s): a %s failed on this host: %s",
                        b->blk->name, b->dev_name, blkback_op_name(io->req.op),
                        g_strerror(-ret));
    return BLKIF_RSP_ERROR;
}

/* The flush before the data is done: now the data. */
static void blkback_submit_write(struct blkback *b, struct blk_io *io)
{
    io->then_write = false;
    io->req.op = BLOCK_WRITE;
    io->req.fua = io->op == BLKIF_OP_WRITE_BARRIER;
    b->blk->ops->submit(b->blk, &io->req);
}

/* On an I/O thread, no lock held. */
static void blkback_complete(struct block_request *req, int ret)
{
    struct blk_io *io = req->opaque;
    struct blk_queue *q = io->q;
    struct blkback *b = q->b;
    GMutex *lock = &b->domain->board->lock;

    g_mutex_lock(lock);
    blkback_count(b, io);
    if (ret == 0 && io->then_write) {
        blkback_submit_write(b, io);
        g_mutex_unlock(lock);
        return;
    }
    blkback_unmap_pages(b, io);
    if (b->running) {
        blkback_respond(q, io->id, io->op, blkback_status(b, io, ret));
        blkback_push(q);
    }
    blkback_io_put(b, io);
    if (b->stalled) {
        b->stalled = false;
        blkback_post(b);
    }
    if (--b->in_flight == 0) {
        if (b->draining) {
            blkback_drained(b);
        }
        g_cond_broadcast(&b->idle);
    }
    g_mutex_unlock(lock);
}

/* --- Requests --- */

enum { BLK_SUBMIT = 1 }; /* beside BLKIF_RSP_*: the answer comes later */

/* The segments of an indirect request: the page is copied once, then only the copy is used. */
static bool blkback_fetch_indirect(struct blkback *b, struct blk_request *r)
{
    _Static_assert(BLK_MAX_INDIRECT * sizeof(struct blk_segment) <= MEM_PAGE_SIZE,
                   "one indirect page");

    return gnttab_copy_from(b->domain, r->indirect_gref, 0, r->seg,
                            r->nr_segments * sizeof(struct blk_segment)) == GNTST_okay;
}

static int blkback_prepare_transfer(struct blkback *b, struct blk_io *io,
                                    const struct blk_request *r)
{
    io->req.offset = r->sector * BLK_SECTOR;
    if (r->nr_segments == 0) { /* a flush, or a barrier without data */
        io->req.op = BLOCK_FLUSH;
        io->req.offset = 0;
        return b->blk->read_only ? BLKIF_RSP_OKAY : BLK_SUBMIT;
    }
    if (!blkback_map(b, io, r)) {
        return BLKIF_RSP_ERROR;
    }
    switch (r->op) {
    case BLKIF_OP_READ:
        io->req.op = BLOCK_READ;
        break;
    case BLKIF_OP_WRITE:
        io->req.op = BLOCK_WRITE;
        break;
    default: /* flush or barrier with data */
        io->req.op = BLOCK_FLUSH;
        io->then_write = true;
        break;
    }
    return BLK_SUBMIT;
}

/* Fills in io; BLK_SUBMIT, or the status to answer at once. */
static int blkback_prepare(struct blkback *b, struct blk_io *io, struct blk_request *r)
{
    int status = blk_request_check_op(r, b->blk);

    if (status != BLKIF_RSP_OKAY) {
        return status;
    }
    if (r->indirect && !blkback_fetch_indirect(b, r)) {
        return BLKIF_RSP_ERROR;
    }
    status = blk_request_check_range(r, b->blk);
    if (status != BLKIF_RSP_OKAY) {
        return status;
    }
    if (r->op != BLKIF_OP_DISCARD) {
        return blkback_prepare_transfer(b, io, r);
    }
    if (r->nr_sectors == 0) {
        return BLKIF_RSP_OKAY;
    }
    io->req.op = BLOCK_DISCARD;
    io->req.offset = r->sector * BLK_SECTOR;
    io->req.len = r->nr_sectors * BLK_SECTOR;
    return BLK_SUBMIT;
}

static void blkback_bad_request(struct blkback *b, const struct blk_request *r)
{
    b->stats.bad_requests++;
    report_warn_limited(
        &b->warn_guest,
        "disk '%s' (%s): the guest sent a request that makes no sense (operation "
        "%u, sector %" G_GUINT64_FORMAT ", %u segments)",
        b->blk->name, b->dev_name, r->op, r->sector, r->nr_segments);
}

/* One request; true when it was answered at once. */
static bool blkback_dispatch(struct blk_queue *q, const uint8_t *raw)
{
    struct blkback *b = q->b;
    struct blk_io *io = blkback_io_get(q);
    struct blk_request r;
    int status;

    blk_request_parse(b->protocol, raw, &r);
    log_debug(LOG_PV,
              "%s: queue %u request %u id 0x%" G_GINT64_MODIFIER "x sector %" G_GUINT64_FORMAT
              " segments %u",
              b->dev_name, (unsigned)(q - b->queue), r.op, r.id, r.sector, r.nr_segments);
    if (io == NULL) {
        blkback_respond(q, r.id, r.op, BLKIF_RSP_ERROR);
        return true;
    }
    io->id = r.id;
    io->op = r.op;
    status = blkback_prepare(b, io, &r);
    if (status == BLK_SUBMIT) {
        io->req.complete = blkback_complete;
        io->req.opaque = io;
        b->in_flight++;
        b->blk->ops->submit(b->blk, &io->req);
        return false;
    }
    blkback_unmap_pages(b, io);
    blkback_io_put(b, io);
    if (status == BLKIF_RSP_ERROR) {
        blkback_bad_request(b, &r);
    }
    blkback_respond(q, r.id, r.op, status);
    return true;
}

/* One turn of a queue; *more: it was cut short. false: the device is broken now. */
static bool blkback_process_queue(struct blk_queue *q, bool *more)
{
    struct blkback *b = q->b;
    unsigned budget = q->ring.entries;
    uint8_t raw[BLK_SLOT_MAX];
    bool answered = false;
    int pending = 0;

    while (budget > 0) {
        pending = ring_pending(&q->ring);
        if (pending < 0) {
            xenbus_break(&b->xb, "the request index of its ring is impossible");
            return false;
        }
        if (pending == 0 && !ring_final_check(&q->ring)) {
            break;
        }
        if (pending > 0) {
            if (b->in_flight >= BLK_MAX_IN_FLIGHT) {
                b->stalled = true; /* blkback_complete goes on */
                break;
            }
            ring_get(&q->ring, raw, blk_slot_size(b->protocol));
            answered |= blkback_dispatch(q, raw);
        }
        budget--;
    }
    if (answered) {
        blkback_push(q);
    }
    *more |= budget == 0;
    return true;
}

void blkback_process(struct blkback *b)
{
    bool more = false;

    if (!b->running || b->paused) {
        return;
    }
    for (unsigned i = 0; i < b->nr_queues; i++) {
        if (!blkback_process_queue(&b->queue[i], &more)) {
            return;
        }
    }
    if (more) {
        blkback_post(b); /* the others get their turn first */
    }
}
