/* SPDX-License-Identifier: MIT */
/*
 * The guest's xenstore ring (public/io/xs_wire.h, docs/misc/xenstore-ring.txt). Our own indices
 * are private and the guest's are read once per look. An impossible index or length sets the
 * error field and ends the service; a kernel started by kexec asks for a new connection and
 * starts over.
 *
 * Requests wait while more than XS_OUT_BACKLOG bytes of output are unread, so the guest's own
 * reading bounds what is kept for it.
 *
 * Linux (xs_comms in 6.1, xb_write and xb_read) looks at our index right behind moving its own,
 * with no barrier between: the processor may do the load first, and an event that we wait for
 * is not sent. So whatever was moved, the ring is looked at once more a little later.
 */
#include "pv/xenstore_priv.h"

#include <string.h>

#include "base/log.h"
#include "core/memory.h"
#include "pv/domain.h"

enum {
    HEADER = sizeof(struct xsd_sockmsg),
    LOOK_AGAIN_NS = 1000000, /* far more than a store can take to be seen */
};

/* ---- output queue ---- */

struct xs_out *xs_out_append(struct xenstore *xs)
{
    struct xs_out *out = g_new0(struct xs_out, 1);

    *xs->conn.out_tail = out;
    xs->conn.out_tail = &out->next;
    return out;
}

void xs_out_set(struct xenstore *xs, struct xs_out *out, const struct xsd_sockmsg *header,
                const void *payload)
{
    out->len = HEADER + header->len;
    out->data = g_malloc(out->len);
    memcpy(out->data, header, HEADER);
    if (header->len > 0) {
        memcpy(out->data + HEADER, payload, header->len);
    }
    xs->conn.out_bytes += out->len + sizeof(*out);
    xs->ledger.bytes += out->len + sizeof(*out);
}

/* Frees *p, which is linked at p. */
static void out_free(struct xenstore *xs, struct xs_out **p)
{
    struct xs_out *out = *p;

    *p = out->next;
    if (xs->conn.out_tail == &out->next) {
        xs->conn.out_tail = p;
    }
    if (out->data != NULL) {
        xs->conn.out_bytes -= out->len + sizeof(*out);
        xs->ledger.bytes -= out->len + sizeof(*out);
    }
    if (out->watch != NULL) {
        out->watch->queued--;
    }
    g_free(out->data);
    g_free(out);
}

void xs_out_drop_watch(struct xenstore *xs, struct xs_guest_watch *watch)
{
    struct xs_out **p = &xs->conn.out;

    if (*p != NULL && xs->conn.out_sent > 0) {
        if ((*p)->watch == watch) {
            (*p)->watch = NULL;
        }
        p = &(*p)->next;
    }
    while (*p != NULL) {
        if ((*p)->watch == watch) {
            out_free(xs, p);
        } else {
            p = &(*p)->next;
        }
    }
}

/* ---- the page ---- */

static uint32_t conn_frame(const struct xenstore *xs)
{
    return mem_extra_frame(xs->domain->mem, PV_FRAME_STORE);
}

static struct xenstore_domain_interface *conn_page(const struct xenstore *xs)
{
    return mem_frame_hva(xs->domain->mem, conn_frame(xs));
}

/* Sequentially consistent: a guest sends no event when it sees that we did not catch up yet. */
static uint32_t index_read(const uint32_t *index)
{
    return __atomic_load_n(index, __ATOMIC_SEQ_CST);
}

static void index_write(uint32_t *index, uint32_t value)
{
    __atomic_store_n(index, value, __ATOMIC_SEQ_CST);
}

static void conn_die(struct xenstore *xs, uint32_t error)
{
    static const char *const why[] = { "?", "communication", "bad ring index",
                                       "message too long" };

    xs->conn.dead = true;
    index_write(&conn_page(xs)->error, error);
    report_warn_limited(&xs->conn.gate, "guest broke the xenstore protocol (%s): "
                        "its connection is closed", why[error]);
}

/* Copies between the ring and a private buffer, wrapping at its end. */
static void ring_copy(char *ring, uint32_t index, uint8_t *buf, size_t len, bool to_ring)
{
    size_t at = MASK_XENSTORE_IDX(index);
    size_t first = MIN(len, XENSTORE_RING_SIZE - at);

    if (to_ring) {
        memcpy(ring + at, buf, first);
        memcpy(ring, buf + first, len - first);
    } else {
        memcpy(buf, ring + at, first);
        memcpy(buf + first, ring, len - first);
    }
}

/* Takes at most `want` bytes of requests; false when there was nothing. */
static bool conn_receive(struct xenstore *xs, size_t want)
{
    struct xenstore_domain_interface *page = conn_page(xs);
    struct xs_conn *conn = &xs->conn;
    uint32_t avail = index_read(&page->req_prod) - conn->req_cons;
    size_t n = MIN(want, avail);

    if (avail > XENSTORE_RING_SIZE) {
        conn_die(xs, XENSTORE_ERROR_RINGIDX);
        return false;
    }
    if (n == 0) {
        return false;
    }
    ring_copy(page->req, conn->req_cons, conn->in + conn->in_len, n, false);
    conn->in_len += n;
    conn->req_cons += (uint32_t)n;
    index_write(&page->req_cons, conn->req_cons);
    return true;
}

/* Moves queued output into the ring; false when nothing moved. */
static bool conn_send(struct xenstore *xs)
{
    struct xenstore_domain_interface *page = conn_page(xs);
    struct xs_conn *conn = &xs->conn;
    uint32_t used = conn->rsp_prod - index_read(&page->rsp_cons);
    uint32_t start = conn->rsp_prod;

    if (used > XENSTORE_RING_SIZE) {
        conn_die(xs, XENSTORE_ERROR_RINGIDX);
        return false;
    }
    while (conn->out != NULL && conn->out->data != NULL && used < XENSTORE_RING_SIZE) {
        struct xs_out *out = conn->out;
        size_t n = MIN(out->len - conn->out_sent, XENSTORE_RING_SIZE - used);

        ring_copy(page->rsp, conn->rsp_prod, out->data + conn->out_sent, n, true);
        conn->rsp_prod += (uint32_t)n;
        used += (uint32_t)n;
        conn->out_sent += n;
        if (conn->out_sent == out->len) {
            conn->out_sent = 0;
            out_free(xs, &conn->out);
        }
    }
    if (conn->rsp_prod == start) {
        return false;
    }
    index_write(&page->rsp_prod, conn->rsp_prod);
    return true;
}

/* ---- messages ---- */

static void conn_handle(struct xenstore *xs)
{
    struct xs_conn *conn = &xs->conn;
    struct xs_out *out = xs_out_append(xs); /* its place is before the events it causes */
    struct xs_request *rq = g_new(struct xs_request, 1);
    g_autofree char *payload = NULL;

    memcpy(&rq->header, conn->in, HEADER);
    payload = g_malloc(rq->header.len + 1u);
    memcpy(payload, conn->in + HEADER, rq->header.len);
    payload[rq->header.len] = '\0';
    rq->payload = payload;
    rq->reply_len = 0;
    conn->in_len = 0;
    xs_request_handle(xs, rq);
    rq->header.len = (uint32_t)rq->reply_len;
    xs_out_set(xs, out, &rq->header, rq->reply);
    g_free(rq);
}

/* Receives and does one request; false when there is no whole one. *moved: bytes were taken. */
static bool conn_step(struct xenstore *xs, bool *moved)
{
    struct xs_conn *conn = &xs->conn;
    struct xsd_sockmsg header;

    while (!conn->dead) {
        size_t want = HEADER;

        if (conn->in_len >= HEADER) {
            memcpy(&header, conn->in, HEADER);
            if (header.len > XENSTORE_PAYLOAD_MAX) {
                conn_die(xs, XENSTORE_ERROR_PROTO);
                return false;
            }
            want = HEADER + header.len;
            if (conn->in_len == want) {
                conn_handle(xs);
                return true;
            }
        }
        if (!conn_receive(xs, want - conn->in_len)) {
            return false;
        }
        *moved = true;
    }
    return false;
}

/* ---- the connection ---- */

void xs_conn_kick(struct xenstore *xs)
{
    if (xs->conn.up) {
        xs->domain->board->ops->post(xs->domain->board, &xs->ring_work);
    }
}

void xs_conn_drop(struct xenstore *xs)
{
    struct xs_conn *conn = &xs->conn;

    xs_guest_watch_clear(xs);
    while (conn->txs != NULL) {
        xs_tx_free(xs, conn->txs);
    }
    while (conn->out != NULL) {
        out_free(xs, &conn->out);
    }
    conn->out_sent = 0;
    conn->in_len = 0;
    conn->dead = false;
}

/* Fresh indices in the page and here. */
static void conn_page_init(struct xenstore *xs)
{
    struct xenstore_domain_interface *page = conn_page(xs);

    xs->conn.req_cons = xs->conn.rsp_prod = 0;
    index_write(&page->req_cons, 0);
    index_write(&page->req_prod, 0);
    index_write(&page->rsp_cons, 0);
    index_write(&page->rsp_prod, 0);
    index_write(&page->error, XENSTORE_ERROR_NONE);
    index_write(&page->server_features,
                XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR);
    index_write(&page->connection, XENSTORE_CONNECTED);
    mem_written(xs->domain->mem, conn_frame(xs));
}

/* One bounded turn: posted by the guest's events and by watches that fire. */
static void conn_run(void *opaque)
{
    struct xenstore *xs = opaque;
    struct xs_conn *conn = &xs->conn;
    unsigned done = 0;
    bool moved = false;

    if (!conn->up) {
        return;
    }
    if (index_read(&conn_page(xs)->connection) == XENSTORE_RECONNECT) {
        log_debug(LOG_XENSTORE, "xenstore: the guest reconnects");
        xs_conn_drop(xs);
        conn_page_init(xs);
        moved = true;
    }
    while (!conn->dead && done < XS_RUN_MESSAGES) {
        xs_guest_watch_retry(xs);
        moved |= conn_send(xs);
        if (conn->dead || conn->out_bytes >= XS_OUT_BACKLOG || !conn_step(xs, &moved)) {
            break;
        }
        done++;
    }
    if (!conn->dead) {
        moved |= conn_send(xs);
    }
    if (done == XS_RUN_MESSAGES) {
        xs_conn_kick(xs);
    }
    if (moved) {
        struct board *b = xs->domain->board;

        mem_written(xs->domain->mem, conn_frame(xs));
        evtchn_host_notify(&conn->host);
        b->ops->timer_arm(b, &xs->ring_timer, board_now_ns(b) + LOOK_AGAIN_NS);
    }
}

static void conn_notified(void *opaque)
{
    xs_conn_kick(opaque);
}

void xs_conn_init(struct xenstore *xs)
{
    xs->conn.out_tail = &xs->conn.out;
    xs->conn.host.notified = conn_notified;
    xs->conn.host.opaque = xs;
    xs->ring_work.fn = conn_run;
    xs->ring_work.opaque = xs;
    xs->ring_timer.fn = conn_run;
    xs->ring_timer.opaque = xs;
}

void xs_conn_down(struct xenstore *xs)
{
    xs_conn_drop(xs);
    evtchn_host_unbind(&xs->conn.host);
    xs->domain->board->ops->timer_cancel(xs->domain->board, &xs->ring_timer);
    xs->conn.up = false;
}

static void conn_bind(struct xenstore *xs)
{
    struct pv_domain *d = xs->domain;

    evtchn_host_unbind(&xs->conn.host);
    if (evtchn_host_bind(d, &xs->conn.host, d->store_port) != 0) {
        log_debug(LOG_XENSTORE, "xenstore: event channel %u cannot be bound", d->store_port);
    }
    xs->conn.up = true;
}

void xenstore_connect(struct xenstore *xs)
{
    xs_conn_drop(xs);
    conn_page_init(xs);
    conn_bind(xs);
}

void xs_conn_resume(struct xenstore *xs)
{
    conn_bind(xs);
    xs_conn_kick(xs);
}
