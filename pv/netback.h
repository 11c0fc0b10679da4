/* SPDX-License-Identifier: MIT */
/*
 * Network cards of a Xen guest: the back end of the vif protocol (public/io/netif.h, xen-abi
 * 6.5). Several queues, guest copies (feature-rx-copy); no control ring, no multicast filter. A
 * link that goes down for a while is not announced (the protocol cannot): frames are lost
 * meanwhile, as with a pulled cable somewhere behind the bridge. For a network that is gone for
 * good the card is unplugged, as a toolstack would.
 */
#ifndef PVEMU_PV_NETBACK_H
#define PVEMU_PV_NETBACK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/net.h"
#include "core/state.h"

struct pv_domain;
struct netback;

enum { NETBACK_MAX_CARDS = 64 };

struct netback_stats {
    uint64_t tx_frames, tx_bytes; /* given to the network */
    uint64_t tx_dropped;          /* refused by the network, or link down */
    uint64_t tx_bad;              /* malformed: answered with an error */
    uint64_t rx_frames, rx_bytes; /* put into the guest's buffers */
    uint64_t rx_dropped;          /* no front end, too large, bad grant */
};

/*
 * Card number `index` of the domain (device/vif/INDEX); its nodes are in xenstore afterwards.
 * Borrows net, which outlives it. All functions here: board lock held, main loop thread.
 */
struct netback *netback_new(struct pv_domain *d, struct net *net, unsigned index, GError **err);
/* The main loop no longer runs work that was posted before. NULL is fine. */
void netback_free(struct netback *nb);
/* Guest reboot; before pv_domain_reset (rings are unmapped from the old guest). */
void netback_reset(struct netback *nb);
/* When loading: after grants, event channels and xenstore. A frame on its way may be lost. */
void netback_state(struct netback *nb, struct state *s);
void netback_get_stats(const struct netback *nb, struct netback_stats *stats);

#endif
