/* SPDX-License-Identifier: MIT */
/*
 * Guest to network. A packet is a chain of ring slots: the first request, extra slots right
 * after it, then one request per further piece; the first one's size is that of the whole
 * packet. Every slot is copied once, checked, and answered; the data is copied out of the
 * granted pages before the answer. What Xen's own back end treats as a broken front end (chains
 * that end early, pieces that cross a page) closes the device here too.
 */
#include "pv/netback_priv.h"

#include <string.h>

#include "core/net_packet.h"

struct tx_chain {
    struct netif_tx_request slot[NETBACK_MAX_SLOTS];
    unsigned count;
    unsigned extras;
    bool bad;          /* answer with an error */
    struct net_offload off;
};

/* Answers every slot of the chain, in ring order. */
static void tx_respond(struct netback_queue *q, const struct tx_chain *c, int16_t status)
{
    struct netif_tx_response rsp;

    for (unsigned i = 0; i < c->count; i++) {
        rsp = (struct netif_tx_response){.id = c->slot[i].id, .status = status};
        ring_put(&q->tx, &rsp, sizeof(rsp));
        for (unsigned e = 0; i == 0 && e < c->extras; e++) {
            rsp = (struct netif_tx_response){.status = NETIF_RSP_NULL};
            ring_put(&q->tx, &rsp, sizeof(rsp));
        }
    }
}

static bool tx_gso(struct netback *nb, struct tx_chain *c, const struct netif_extra_info *extra)
{
    if (extra->u.gso.size == 0 || (extra->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4 &&
                                   extra->u.gso.type != XEN_NETIF_GSO_TYPE_TCPV6)) {
        xenbus_break(&nb->dev, "segmentation of type %u into %u bytes", extra->u.gso.type,
                     extra->u.gso.size);
        return false;
    }
    c->off.gso = extra->u.gso.type == XEN_NETIF_GSO_TYPE_TCPV4 ? NET_GSO_TCP4 : NET_GSO_TCP6;
    c->off.gso_size = extra->u.gso.size;
    return true;
}

/* false: the device is broken now. */
static bool tx_get_extras(struct netback_queue *q, struct tx_chain *c, unsigned *waiting)
{
    struct netif_extra_info extra;
    uint8_t slot[sizeof(struct netif_tx_request)];

    do {
        if (*waiting == 0 || c->extras == NETBACK_MAX_EXTRAS) {
            xenbus_break(&q->nb->dev, "extra slots %s",
                         *waiting == 0 ? "missing" : "without end");
            return false;
        }
        ring_get(&q->tx, slot, sizeof(slot));
        (*waiting)--;
        c->extras++;
        memcpy(&extra, slot, sizeof(extra));
        if (extra.type == XEN_NETIF_EXTRA_TYPE_NONE || extra.type >= XEN_NETIF_EXTRA_TYPE_MAX) {
            xenbus_break(&q->nb->dev, "extra slot of type %u", extra.type);
            return false;
        }
        if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO && !tx_gso(q->nb, c, &extra)) {
            return false;
        }
        if (extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_ADD ||
            extra.type == XEN_NETIF_EXTRA_TYPE_MCAST_DEL) {
            c->bad = true; /* a request of its own, without data; not offered */
        }
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return true;
}

/* Takes one chain off the ring. false: the device is broken now. */
static bool tx_get_chain(struct netback_queue *q, struct tx_chain *c, unsigned *waiting)
{
    struct netif_tx_request *first = &c->slot[0], *last = first;

    c->count = 1;
    c->extras = 0;
    c->bad = false;
    c->off = (struct net_offload){0};
    ring_get(&q->tx, first, sizeof(*first));
    (*waiting)--;
    if ((first->flags & NETTXF_extra_info) && !tx_get_extras(q, c, waiting)) {
        return false;
    }
    while (last->flags & NETTXF_more_data) {
        if (*waiting == 0 || c->count == NETBACK_MAX_SLOTS) {
            xenbus_break(&q->nb->dev,
                         *waiting == 0 ? "packet ends after %u slots, more announced"
                                       : "packet of more than %u slots",
                         c->count);
            return false;
        }
        last = &c->slot[c->count++];
        ring_get(&q->tx, last, sizeof(*last));
        (*waiting)--;
        if (last->size > first->size) {
            c->bad = true; /* the pieces are more than the whole */
        } else {
            first->size -= last->size;
        }
    }
    for (unsigned i = 0; i < c->count && !c->bad; i++) {
        if ((uint32_t)c->slot[i].offset + c->slot[i].size > MEM_PAGE_SIZE) {
            xenbus_break(&q->nb->dev, "piece of %u bytes at %u crosses its page",
                         c->slot[i].size, c->slot[i].offset);
            return false;
        }
    }
    return true;
}

/* Copies the packet together. Empty pieces (XSA-448) are legal, and their grants are never
 * looked at. */
static bool tx_copy(struct netback *nb, const struct tx_chain *c, size_t *len)
{
    size_t at = 0;

    for (unsigned i = 0; i < c->count; i++) {
        const struct netif_tx_request *slot = &c->slot[i];

        if (slot->size > sizeof(nb->packet) - at) {
            return false;
        }
        if (slot->size > 0 && gnttab_copy_from(nb->dev.domain, slot->gref, slot->offset,
                                               nb->packet + at, slot->size) != 0) {
            return false;
        }
        at += slot->size;
    }
    *len = at;
    return at >= NET_ETH_HEADER;
}

/* Offloads must fit the packet, and what the network cannot do is done here. */
static bool tx_offload(struct netback *nb, struct tx_chain *c, size_t len)
{
    const struct net *net = nb->net;
    struct net_packet p;
    uint16_t type = net_get16(nb->packet + 12);

    c->off.needs_csum = (c->slot[0].flags & NETTXF_csum_blank) || c->off.gso != NET_GSO_NONE;
    c->off.csum_valid = !c->off.needs_csum && (c->slot[0].flags & NETTXF_data_validated);
    if (c->off.gso != NET_GSO_NONE) {
        return net->tx_gso &&
               type == (c->off.gso == NET_GSO_TCP4 ? NET_ETHERTYPE_IP4 : NET_ETHERTYPE_IP6);
    }
    if (c->off.needs_csum && !net->tx_csum) {
        c->off.needs_csum = false;
        return net_packet_parse(nb->packet, len, &p) && net_packet_set_l4_csum(nb->packet, &p);
    }
    return true;
}

/* One packet, from slots to network. false: the device is broken now. */
static bool tx_packet(struct netback_queue *q, unsigned *waiting)
{
    struct netback *nb = q->nb;
    struct tx_chain c;
    size_t len = 0;

    if (!tx_get_chain(q, &c, waiting)) {
        return false;
    }
    if (c.bad || !tx_copy(nb, &c, &len) || !tx_offload(nb, &c, len)) {
        nb->stats.tx_bad++;
        tx_respond(q, &c, NETIF_RSP_ERROR);
        return true;
    }
    if (nb->net->ops->send(nb->net, nb->packet, len, &c.off)) {
        nb->stats.tx_frames++;
        nb->stats.tx_bytes += len;
    } else {
        nb->stats.tx_dropped++;
    }
    tx_respond(q, &c, NETIF_RSP_OKAY);
    return true;
}

void netback_tx_run(void *opaque)
{
    struct netback_queue *q = opaque;
    struct netback *nb = q->nb;
    struct board *b = nb->dev.domain->board;
    unsigned packets = 0;
    bool more = false;

    if (!netback_queue_live(q)) {
        return;
    }
    do {
        int pending = ring_pending(&q->tx);
        unsigned waiting = pending > 0 ? (unsigned)pending : 0;

        if (pending < 0) {
            xenbus_break(&nb->dev, "the send ring's producer index is impossible");
            return;
        }
        while (waiting > 0 && packets < NETBACK_PACKETS_PER_TURN) {
            if (!tx_packet(q, &waiting)) {
                return;
            }
            packets++;
        }
        more = waiting > 0;
    } while (!more && packets < NETBACK_PACKETS_PER_TURN && ring_final_check(&q->tx));
    if (packets > 0 && ring_push(&q->tx)) {
        evtchn_host_notify(&q->tx_chan);
    }
    if (more || packets >= NETBACK_PACKETS_PER_TURN) {
        b->ops->post(b, &q->tx_work); /* others first */
    }
}
