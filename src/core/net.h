/* SPDX-License-Identifier: MIT */
/*
 * The contract of a network card's host side (src/io). Packets are whole Ethernet frames; a
 * frame may be larger than the MTU when the offload fields say how to segment it. All calls and
 * callbacks on the main loop with the board lock held.
 */
#ifndef PVEMU_CORE_NET_H
#define PVEMU_CORE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum net_gso { NET_GSO_NONE, NET_GSO_TCP4, NET_GSO_TCP6 };
enum { NET_MAX_FRAME = 65535 + 14 + 4 };

struct net_offload {
    bool needs_csum; /* the transport checksum holds only the pseudo header sum */
    bool csum_valid; /* the checksum was verified */
    enum net_gso gso;
    uint16_t gso_size; /* payload bytes per segment */
};

struct net;

/* Returns false when the card cannot take it now: the back end keeps it (bounded) or drops it
 * and calls again after net_ops.rx_ready. */
typedef bool (*net_rx_fn)(void *opaque, const uint8_t *frame, size_t len,
                          const struct net_offload *off);
/* The link's state; also called when a link that is down will never come up again. */
typedef void (*net_link_fn)(void *opaque, bool up);

struct net_ops {
    const char *name;
    /* Takes a copy. false: dropped (queue full or link down). */
    bool (*send)(struct net *net, const uint8_t *frame, size_t len,
                 const struct net_offload *off);
    void (*set_rx)(struct net *net, net_rx_fn rx, net_link_fn link,
                   void *opaque);      /* rx NULL: disconnect */
    void (*rx_ready)(struct net *net); /* the card has buffers again */
    void (*close)(struct net *net);
};

struct net {
    const struct net_ops *ops;
    uint8_t mac[6];
    uint16_t mtu;
    bool tx_csum; /* send() accepts needs_csum */
    bool tx_gso;  /* send() accepts gso frames */
    bool gone;    /* the link is down for good; set before net_link_fn says that it is down */
};

#endif
