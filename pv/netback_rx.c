/* SPDX-License-Identifier: MIT */
/*
 * Network to guest. The guest offers pages on the ring; a frame is copied into as many as it
 * needs, the offload description (segmentation) taking one slot after the first. Nothing is
 * queued here: when there are too few pages the network keeps the frame (net_rx_fn returns
 * false) and is called again when the guest offers more, so memory is bounded by what the
 * network may hold. Frames larger than the front end can take are cut into segments here.
 */
#include "pv/netback_priv.h"

#include <string.h>

#include "core/net_packet.h"

enum { RX_MAX_SEGMENTS = 128 };

static unsigned rx_ceil_div(size_t n, size_t by)
{
    return (unsigned)((n + by - 1) / by);
}

/* Takes offered pages off the ring. false: the device is broken now. */
static bool rx_refill(struct netback_queue *q)
{
    do {
        int pending = ring_pending(&q->rx);

        if (pending < 0 || q->rx_count + (unsigned)pending > NETBACK_RING_ENTRIES) {
            xenbus_break(&q->nb->dev, "the receive ring's producer index is impossible");
            return false;
        }
        for (; pending > 0; pending--) {
            unsigned at = (q->rx_first + q->rx_count) % NETBACK_RING_ENTRIES;

            ring_get(&q->rx, &q->rx_buffers[at], sizeof(q->rx_buffers[at]));
            q->rx_count++;
        }
    } while (ring_final_check(&q->rx));
    return true;
}

static struct netif_rx_request rx_take(struct netback_queue *q)
{
    struct netif_rx_request req = q->rx_buffers[q->rx_first];

    q->rx_first = (q->rx_first + 1) % NETBACK_RING_ENTRIES;
    q->rx_count--;
    return req;
}

static void rx_put_gso(struct netback_queue *q, const struct net_offload *off)
{
    struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO};

    extra.u.gso.size = off->gso_size;
    extra.u.gso.type = off->gso == NET_GSO_TCP4 ? XEN_NETIF_GSO_TYPE_TCPV4
                                                : XEN_NETIF_GSO_TYPE_TCPV6;
    rx_take(q); /* the slot stays the guest's, its page is not used */
    ring_put(&q->rx, &extra, sizeof(extra));
}

static uint16_t rx_flags(const struct net_offload *off)
{
    if (off->needs_csum || off->gso != NET_GSO_NONE) {
        return NETRXF_csum_blank | NETRXF_data_validated;
    }
    return off->csum_valid ? NETRXF_data_validated : 0;
}

/* Fills pages that rx_count is known to have. */
static void rx_fill(struct netback_queue *q, const uint8_t *frame, size_t len,
                    const struct net_offload *off)
{
    bool ok = true;

    for (size_t at = 0; at < len;) {
        size_t part = MIN(len - at, MEM_PAGE_SIZE);
        struct netif_rx_request req = rx_take(q);
        struct netif_rx_response rsp = {.id = req.id, .status = (int16_t)part};

        if (gnttab_copy_to(q->nb->dev.domain, req.gref, 0, frame + at, part) != 0) {
            rsp.status = NETIF_RSP_ERROR;
            ok = false;
        }
        if (at == 0) {
            rsp.flags = rx_flags(off);
            rsp.flags |= off->gso != NET_GSO_NONE ? NETRXF_extra_info : 0;
        }
        rsp.flags |= at + part < len ? NETRXF_more_data : 0;
        ring_put(&q->rx, &rsp, sizeof(rsp));
        if (at == 0 && off->gso != NET_GSO_NONE) {
            rx_put_gso(q, off);
        }
        at += part;
    }
    if (ok) {
        q->nb->stats.rx_frames++;
        q->nb->stats.rx_bytes += len;
    } else {
        q->nb->stats.rx_dropped++;
    }
}

/* Whether there are n pages; if not, the guest will tell when it offers some. */
static bool rx_have(struct netback_queue *q, unsigned n)
{
    if (q->rx_count < n && !rx_refill(q)) {
        return false;
    }
    if (q->rx_count < n) {
        q->rx_waiting = true;
        return false;
    }
    return true;
}

static void rx_publish(struct netback_queue *q)
{
    if (ring_push(&q->rx)) {
        evtchn_host_notify(q->split ? &q->rx_chan : &q->tx_chan);
    }
}

static bool rx_drop(struct netback *nb)
{
    nb->stats.rx_dropped++;
    return true;
}

/* Cuts a frame that the front end cannot take whole. */
static bool rx_segmented(struct netback_queue *q, const uint8_t *frame, size_t len,
                         const struct net_offload *off)
{
    const struct net_offload plain = {.csum_valid = true};
    struct netback *nb = q->nb;
    struct net_packet p;
    unsigned count;

    if (!net_packet_parse(frame, len, &p) || p.proto != NET_PROTO_TCP || p.data == 0 ||
        off->gso_size == 0 || p.data + off->gso_size > MEM_PAGE_SIZE) {
        return rx_drop(nb);
    }
    count = MAX(rx_ceil_div(p.end - p.data, off->gso_size), 1);
    if (count > RX_MAX_SEGMENTS) {
        return rx_drop(nb);
    }
    if (!rx_have(q, count)) {
        return !netback_live(nb);
    }
    for (unsigned i = 0; i < count; i++) {
        size_t n = net_packet_segment(frame, &p, off->gso_size, i, nb->segment);

        rx_fill(q, nb->segment, n, &plain);
    }
    rx_publish(q);
    return true;
}

/* For a front end that wants every checksum done. */
static const uint8_t *rx_checksummed(struct netback *nb, const uint8_t *frame, size_t len,
                                     struct net_offload *off)
{
    struct net_packet p;

    memcpy(nb->segment, frame, len);
    if (!net_packet_parse(nb->segment, len, &p) || !net_packet_set_l4_csum(nb->segment, &p)) {
        return NULL;
    }
    off->needs_csum = false;
    return nb->segment;
}

bool netback_rx(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *off)
{
    struct netback *nb = opaque;
    struct net_offload own = *off;
    struct netback_queue *q;
    unsigned slots;
    bool gso = off->gso != NET_GSO_NONE;
    bool whole = off->gso == NET_GSO_TCP4 ? nb->front_gso4 : nb->front_gso6;

    if (!netback_live(nb) || len < NET_ETH_HEADER || len > NETBACK_MAX_PACKET) {
        return rx_drop(nb);
    }
    q = netback_queue_of(nb, frame, len);
    if (gso && !(nb->front_sg && whole)) {
        return rx_segmented(q, frame, len, off);
    }
    slots = rx_ceil_div(len, MEM_PAGE_SIZE);
    if (slots > 1 && !nb->front_sg) {
        return rx_drop(nb);
    }
    if (!rx_have(q, slots + gso)) {
        return !netback_live(nb); /* broken just now: dropped */
    }
    if (own.needs_csum && !gso && nb->front_no_csum) {
        frame = rx_checksummed(nb, frame, len, &own);
        if (frame == NULL) {
            return rx_drop(nb);
        }
    }
    rx_fill(q, frame, len, &own);
    rx_publish(q);
    return true;
}

void netback_rx_run(void *opaque)
{
    struct netback_queue *q = opaque;
    struct netback *nb = q->nb;

    if (!netback_queue_live(q) || !rx_refill(q)) {
        return;
    }
    if (q->rx_waiting && q->rx_count > 0) {
        q->rx_waiting = false;
        nb->net->ops->rx_ready(nb->net);
    }
}
