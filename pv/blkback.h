/* SPDX-License-Identifier: MIT */
/*
 * Disks of a Xen guest: the back end of the vbd protocol (public/io/blkif.h, xen-abi 6.4).
 * Requests come from a ring in guest memory, go to a struct block, and are answered when that
 * is done with them.
 */
#ifndef PVEMU_PV_BLKBACK_H
#define PVEMU_PV_BLKBACK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/block.h"
#include "core/state.h"

struct pv_domain;
struct blkback;

enum { BLKBACK_MAX_DISKS = 256 };

struct blkback_stats {
    uint64_t reads, writes, flushes, discards; /* requests that reached the disk */
    uint64_t read_bytes, write_bytes;
    uint64_t host_errors;  /* requests the host could not do */
    uint64_t bad_requests; /* requests that made no sense */
};

/*
 * Disk number `index` (0 is xvda) of the domain; its nodes are in xenstore afterwards. Borrows
 * blk, which outlives it. Board lock held.
 */
struct blkback *blkback_new(struct pv_domain *d, struct block *blk, unsigned index,
                            GError **err);
/* Offers persistent grants (off otherwise: Linux then copies every page). Before the guest
 * runs. Board lock held. */
void blkback_offer_persistent(struct blkback *b);

/*
 * These three wait for requests on their way to the host and so are called with the board lock
 * NOT held, with the vCPUs stopped.
 *
 * drain: nothing is in flight afterwards (pause, save). reset: guest reboot; no transfer
 * touches guest memory afterwards, the nodes are new; before pv_domain_reset. free: NULL is
 * fine.
 */
void blkback_drain(struct blkback *b);
void blkback_reset(struct blkback *b);
void blkback_free(struct blkback *b);

/* Drained, board lock held. When loading: after grants, event channels and xenstore. */
void blkback_state(struct blkback *b, struct state *s);

/* For messages and `info`; board lock held. */
const char *blkback_dev_name(const struct blkback *b); /* "xvda" */
void blkback_get_stats(const struct blkback *b, struct blkback_stats *stats);

#endif
