/* SPDX-License-Identifier: MIT */
/*
 * The two halves of a vbd back end: blkback.c is its life (nodes, connecting, reset, state),
 * blkback_io.c moves requests. All with the board lock held.
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
};

/* A granted page of a request. */
struct blk_page {
    struct gnttab_mapping map;
    bool persistent; /* stays mapped */
};

/* A request on its way. At most one per ring entry. */
struct blk_io {
    struct block_request req;
    struct blkback *b;
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
    struct ring ring;
    struct gnttab_mapping ring_page[RING_MAX_PAGES];
    unsigned nr_ring_pages;
    uint32_t port; /* as the front end said */
    struct evtchn_host evtchn;
    bool persistent;
    GHashTable *persistent_grants; /* ref -> struct gnttab_mapping */

    bool paused; /* reset or free under way: no new requests */
    unsigned in_flight;
    GCond idle;          /* in_flight became 0 */
    struct blk_io *free; /* for use again */
    struct blk_kick *kick;
    struct blkback_stats stats;
    struct report_gate warn_host, warn_guest;
};

/* Takes requests off the ring, at most a ring full; the rest on the next kick. */
void blkback_process(struct blkback *b);
/* Have blkback_process run soon. */
void blkback_post(struct blkback *b);
/* Gives back persistent grants and spare requests. Nothing is in flight. */
void blkback_io_release(struct blkback *b);
/* The last request of a draining device is done (blkback.c). */
void blkback_drained(struct blkback *b);

#endif
