/* SPDX-License-Identifier: MIT */
/*
 * The parts of a vbd back end: blkback.c is its life (nodes, connecting, reset),
 * blkback_queue.c its rings and channels, blkback_io.c moves requests. All with the board lock
 * held.
 */
#ifndef PVEMU_PV_BLKBACK_PRIV_H
#define PVEMU_PV_BLKBACK_PRIV_H

#include <glib.h>

#include "base/report.h"
#include "pv/blkback.h"
#include "pv/blkback_request.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/ring.h"
#include "pv/xenbus.h"

enum {
    BLK_MAX_RING_ORDER = 4,
    BLK_MAX_PERSISTENT = 1056, /* persistent grants kept mapped: a full ring of 11, and more */
    BLK_MAX_IN_FLIGHT = 512,   /* of all queues: as many as the largest ring has */
};

/* A granted page of a request. */
struct blk_page {
    struct gnttab_mapping map;
    bool persistent; /* stays mapped */
};

/* A ring of the guest's and its event channel. */
struct blk_queue {
    struct blkback *b;
    struct ring ring;
    struct gnttab_mapping page[RING_MAX_PAGES];
    unsigned nr_pages;
    uint32_t port; /* as the front end said */
    struct evtchn_host evtchn;
};

/* A request on its way. At most BLK_MAX_IN_FLIGHT. */
struct blk_io {
    struct block_request req;
    struct blk_queue *q; /* that the answer goes to */
    struct blk_io *next_free;
    uint64_t id;
    uint8_t op;
    bool then_write; /* a flush that a write follows */
    unsigned nr_pages;
    struct blk_page page[BLK_MAX_INDIRECT];
    struct iovec iov[BLK_MAX_INDIRECT];
};

/* Posted to the main loop. Apart from struct blkback because posted work cannot be taken back:
 * when the device goes first, b becomes NULL and the kick frees itself. */
struct blk_kick {
    struct work work;
    struct blkback *b;
};

struct blkback {
    struct xenbus_device xb; /* first */
    struct pv_domain *domain;
    struct block *blk;
    char *dev_name;
    unsigned vdev;
    bool offer_persistent;

    /* While connected. */
    bool running;  /* takes requests */
    bool draining; /* disconnect waits for in_flight */
    enum blk_protocol protocol;
    struct blk_queue queue[XENBUS_MAX_QUEUES];
    unsigned nr_queues;
    bool persistent;
    GHashTable *persistent_grants; /* ref -> struct gnttab_mapping */

    bool paused; /* reset or free under way: no new requests */
    unsigned in_flight;
    bool stalled;        /* requests wait until fewer are in flight */
    GCond idle;          /* in_flight became 0 */
    struct blk_io *free; /* for use again */
    struct blk_kick *kick;
    struct blkback_stats stats;
    struct report_gate warn_host, warn_guest;
};

/* Reads the front end's keys, maps the rings and binds the channels; all of them or nothing. */
bool blkback_queues_open(struct blkback *b, GError **err);
/* The guest's events are not heard any more; requests may still be in flight. */
void blkback_queues_unbind(struct blkback *b);
void blkback_queues_unmap(struct blkback *b);
/* Loading: opens them again, where they were, if `running`. */
void blkback_queues_state(struct blkback *b, struct state *s, bool running);

/* Takes requests off the rings, at most a ring full each; the rest on the next kick. */
void blkback_process(struct blkback *b);
/* Have blkback_process run soon. */
void blkback_post(struct blkback *b);
/* Gives back persistent grants and spare requests. Nothing is in flight. */
void blkback_io_release(struct blkback *b);
/* The last request of a draining device is done (blkback.c). */
void blkback_drained(struct blkback *b);

#endif
