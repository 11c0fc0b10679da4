/* SPDX-License-Identifier: MIT */
/* What the files of the vif back end share. */
#ifndef PVEMU_PV_NETBACK_PRIV_H
#define PVEMU_PV_NETBACK_PRIV_H

#include "core/board.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/netback.h"
#include "pv/ring.h"
#include "pv/xen_abi.h"
#include "pv/xenbus.h"

enum {
    NETBACK_RING_ENTRIES = 256,
    /* More data slots than this in one packet end the connection, as in Xen. Linux sends at
     * most XEN_NETIF_NR_SLOTS_MIN (18), Windows' drivers one more. */
    NETBACK_MAX_SLOTS = 24,
    NETBACK_MAX_EXTRAS = XEN_NETIF_EXTRA_TYPE_MAX - 1,
    NETBACK_PACKETS_PER_TURN = 64,
    NETBACK_MAX_PACKET = 65535, /* sizes in the ring have 16 bits */
};

/* A ring each way. */
struct netback_queue {
    struct netback *nb;
    struct ring tx, rx;
    struct gnttab_mapping tx_map, rx_map;
    struct evtchn_host tx_chan, rx_chan; /* rx_chan unbound: tx_chan carries both */
    bool split;
    /* Buffers the guest offered, taken off the ring; the first is the next to fill. */
    struct netif_rx_request rx_buffers[NETBACK_RING_ENTRIES];
    unsigned rx_first, rx_count;
    bool rx_waiting; /* the network holds a frame back until there are more */
    struct work tx_work, rx_work;
};

struct netback {
    struct xenbus_device dev; /* first */
    struct net *net;
    bool link_up;
    struct netback_stats stats;

    /* Connected: */
    bool attached; /* rings are mapped */
    unsigned nr_queues;
    struct netback_queue queue[XENBUS_MAX_QUEUES];
    bool front_sg, front_gso4, front_gso6, front_no_csum;

    struct work unplug_work;
    uint8_t packet[NETBACK_MAX_PACKET + 1];  /* being assembled from the guest */
    uint8_t segment[NETBACK_MAX_PACKET + 1]; /* being cut for the guest */
};

/* Whether the rings may be touched. */
static inline bool netback_live(const struct netback *nb)
{
    return nb->attached && !nb->dev.broken;
}

/* The same for work that was posted: the queue may be gone since. */
static inline bool netback_queue_live(const struct netback_queue *q)
{
    return netback_live(q->nb) && q < q->nb->queue + q->nb->nr_queues;
}

/* netback_queue.c: reads the front end's keys, maps the rings and binds the channels; all of
 * them or nothing. */
bool netback_queues_open(struct netback *nb, GError **err);
void netback_queues_close(struct netback *nb);
/* Requests that were made before the channels were bound are found. */
void netback_queues_start(struct netback *nb);
void netback_queues_init(struct netback *nb);
/* The one that the frame's flow is received on. Connected. */
struct netback_queue *netback_queue_of(struct netback *nb, const uint8_t *frame, size_t len);

/* Guest to network: one turn of work of a queue, and again later when there is more. */
void netback_tx_run(void *opaque);
/* Network to guest (net_rx_fn), and what happens when the guest offers buffers on a queue. */
bool netback_rx(void *opaque, const uint8_t *frame, size_t len, const struct net_offload *off);
void netback_rx_run(void *opaque);

#endif
