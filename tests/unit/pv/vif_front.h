/* SPDX-License-Identifier: MIT */
/*
 * The front end of a vif, played by a test or a fuzzer: rings and pages in the memory of a fake
 * guest, and a network that records what it is given.
 */
#ifndef PVEMU_TESTS_VIF_FRONT_H
#define PVEMU_TESTS_VIF_FRONT_H

#include "fake_board.h"

#include "core/memory.h"
#include "pv/netback_priv.h"
#include "pv/xenstore.h"

/* Grant reference = gfn for all pages of the front end. */
enum {
    VIF_TX_PAGE = 16, VIF_RX_PAGE = 17, VIF_DATA_PAGE = 32, VIF_DATA_PAGES = 256,
    VIF_READONLY_PAGE = VIF_DATA_PAGE + VIF_DATA_PAGES, /* granted, but not for writing */
    VIF_BAD_REF = 20,                                   /* not granted */
    VIF_QUEUE_PAGE = VIF_READONLY_PAGE + 1,             /* two for each queue but the first */
    VIF_QUEUES = 4,
    VIF_RAM = 4 << 20,
};

struct vif_net {
    struct net net; /* first */
    net_rx_fn rx;
    net_link_fn link;
    void *opaque;
    bool refuse;
    unsigned sent, ready;
    uint8_t last[NETBACK_MAX_PACKET + 1]; /* the last frame sent */
    size_t last_len;
    struct net_offload last_off;
    /* Offered to the card again at every rx_ready, until it is taken. */
    const uint8_t *held;
    size_t held_len;
    struct net_offload held_off;
};

/* What belongs to one queue. */
struct vif_queue {
    uint32_t tx_page, rx_page;
    uint32_t tx_port, rx_port;
    uint32_t tx_prod, rx_prod; /* private, published by vif_kick_* */
};

struct vif_front {
    struct fake_board *fb;
    struct pv_domain *d;
    struct vif_net net;
    struct netback *nb;
    struct vif_queue queue[VIF_QUEUES];
    struct vif_queue *q; /* the one that the functions below mean */
};

void vif_front_init(struct vif_front *f);
void vif_front_fini(struct vif_front *f);
/* Writes a key under device/vif/0. */
void vif_write(struct vif_front *f, const char *key, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
int vif_back_state(struct vif_front *f);
void vif_set_state(struct vif_front *f, int state); /* and lets the back end react */
/* Fresh rings, all keys, state 4. */
void vif_connect(struct vif_front *f, bool split, bool sg, bool gso, bool no_csum);
/* The rings and keys of `count` queues alone, without a state; the first one is in use. */
void vif_prepare(struct vif_front *f, unsigned count, bool split);
/* Closed and in its first state again. */
void vif_start_over(struct vif_front *f);
void vif_grant(struct vif_front *f, uint32_t ref, uint16_t flags, uint32_t gfn);
uint8_t *vif_page(struct vif_front *f, uint32_t gfn);

void vif_tx_put(struct vif_front *f, const void *slot, size_t size);
void vif_rx_put(struct vif_front *f, uint16_t id, uint32_t ref);
/* Publishes the producer index, sends an event, runs the back end. */
void vif_tx_kick(struct vif_front *f);
void vif_rx_kick(struct vif_front *f);
uint32_t vif_rsp_prod(struct vif_front *f, uint32_t page);
struct netif_tx_response vif_tx_response(struct vif_front *f, unsigned index);
struct netif_rx_response vif_rx_response(struct vif_front *f, unsigned index);
bool vif_deliver(struct vif_front *f, const uint8_t *frame, size_t len, struct net_offload off);

#endif
