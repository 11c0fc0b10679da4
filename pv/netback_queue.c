/* SPDX-License-Identifier: MIT */
/*
 * The queues of a vif: a ring each way and one or two event channels (public/io/netif.h,
 * "Multiple transmit and receive queues"). They are opened together or not at all.
 *
 * The guest sends on whichever it likes. What it receives goes by flow, so that the packets of
 * one connection stay in order and with one vCPU. Frames come from the network one after the
 * other: a queue without buffers holds up the others until its vCPU offers some.
 */
#include <string.h>

#include "base/error.h"
#include "core/net_packet.h"
#include "pv/netback_priv.h"

static bool queue_read(struct netback_queue *q, const char *name, uint32_t *value, GError **err)
{
    struct netback *nb = q->nb;
    g_autofree char *key = xenbus_queue_key(nb->nr_queues, (unsigned)(q - nb->queue), name);
    uint64_t wide;

    if (!xenbus_front_uint(&nb->dev, key, UINT32_MAX, &wide)) {
        return error_set(err, PVEMU_ERROR_GUEST, "%s is missing or no number", key);
    }
    *value = (uint32_t)wide;
    return true;
}

static bool queue_map(struct netback_queue *q, const char *name, struct gnttab_mapping *map,
                      struct ring *ring, unsigned entry_size, GError **err)
{
    uint32_t ref;
    int rc;

    if (!queue_read(q, name, &ref, err)) {
        return false;
    }
    rc = gnttab_map(q->nb->dev.domain, ref, true, map);
    if (rc != 0) {
        return error_set(err, PVEMU_ERROR_GUEST, "%s of queue %u: grant %u cannot be mapped (%d)",
                         name, (unsigned)(q - q->nb->queue), ref, rc);
    }
    ring_init(ring, &map->hva, 1, entry_size);
    return true;
}

static bool queue_bind(struct netback_queue *q, const char *name, struct evtchn_host *chan,
                       GError **err)
{
    uint32_t port;

    if (!queue_read(q, name, &port, err)) {
        return false;
    }
    if (evtchn_host_bind(q->nb->dev.domain, chan, port) != 0) {
        return error_set(err, PVEMU_ERROR_GUEST, "%s of queue %u: port %u cannot be bound", name,
                         (unsigned)(q - q->nb->queue), port);
    }
    return true;
}

static bool queue_bind_channels(struct netback_queue *q, GError **err)
{
    struct netback *nb = q->nb;
    g_autofree char *key = xenbus_queue_key(nb->nr_queues, (unsigned)(q - nb->queue),
                                            "event-channel");
    g_autofree char *one = xenbus_front_read(&nb->dev, key);

    q->split = one == NULL;
    if (!q->split) {
        return queue_bind(q, "event-channel", &q->tx_chan, err);
    }
    return queue_bind(q, "event-channel-tx", &q->tx_chan, err) &&
           queue_bind(q, "event-channel-rx", &q->rx_chan, err);
}

static bool queue_open(struct netback_queue *q, GError **err)
{
    return queue_map(q, "tx-ring-ref", &q->tx_map, &q->tx, sizeof(struct netif_tx_request),
                     err) &&
           queue_map(q, "rx-ring-ref", &q->rx_map, &q->rx, sizeof(struct netif_rx_request),
                     err) &&
           queue_bind_channels(q, err);
}

static void queue_close(struct netback_queue *q)
{
    evtchn_host_unbind(&q->tx_chan);
    evtchn_host_unbind(&q->rx_chan);
    gnttab_unmap(q->nb->dev.domain, &q->tx_map);
    gnttab_unmap(q->nb->dev.domain, &q->rx_map);
    memset(&q->tx_map, 0, sizeof(q->tx_map));
    memset(&q->rx_map, 0, sizeof(q->rx_map));
    q->rx_first = q->rx_count = 0;
    q->rx_waiting = false;
}

bool netback_queues_open(struct netback *nb, GError **err)
{
    if (!xenbus_front_queues(&nb->dev, &nb->nr_queues, err)) {
        return false;
    }
    for (unsigned i = 0; i < nb->nr_queues; i++) {
        if (!queue_open(&nb->queue[i], err)) {
            netback_queues_close(nb);
            return false;
        }
    }
    return true;
}

void netback_queues_close(struct netback *nb)
{
    for (unsigned i = 0; i < nb->nr_queues; i++) {
        queue_close(&nb->queue[i]);
    }
    nb->nr_queues = 0;
}

struct netback_queue *netback_queue_of(struct netback *nb, const uint8_t *frame, size_t len)
{
    return &nb->queue[nb->nr_queues > 1 ? net_packet_flow(frame, len) % nb->nr_queues : 0];
}

static void queue_notified_rx(void *opaque)
{
    struct netback_queue *q = opaque;
    struct board *b = q->nb->dev.domain->board;

    b->ops->post(b, &q->rx_work);
}

static void queue_notified_tx(void *opaque)
{
    struct netback_queue *q = opaque;
    struct board *b = q->nb->dev.domain->board;

    b->ops->post(b, &q->tx_work);
    if (!q->split) {
        b->ops->post(b, &q->rx_work);
    }
}

void netback_queues_start(struct netback *nb)
{
    struct board *b = nb->dev.domain->board;

    for (unsigned i = 0; i < nb->nr_queues; i++) {
        b->ops->post(b, &nb->queue[i].tx_work);
        b->ops->post(b, &nb->queue[i].rx_work);
    }
}

void netback_queues_init(struct netback *nb)
{
    for (unsigned i = 0; i < XENBUS_MAX_QUEUES; i++) {
        struct netback_queue *q = &nb->queue[i];

        q->nb = nb;
        q->tx_work.fn = netback_tx_run;
        q->rx_work.fn = netback_rx_run;
        q->tx_work.opaque = q->rx_work.opaque = q;
        q->tx_chan.notified = queue_notified_tx;
        q->rx_chan.notified = queue_notified_rx;
        q->tx_chan.opaque = q->rx_chan.opaque = q;
    }
}
