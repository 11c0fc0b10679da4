/* SPDX-License-Identifier: MIT */
/*
 * A channel of Ethernet frames between two processes: one end of a SOCK_SEQPACKET pair, one
 * message per frame, each with its offload header. Never blocks; what the socket does not take
 * waits in a queue of bounded size, and beyond that frames are dropped.
 */
#ifndef PVEMU_IO_NET_CHAN_H
#define PVEMU_IO_NET_CHAN_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/net.h"

enum { NET_CHAN_MAX_BATCH = 32 };

struct net_chan_header {
    uint8_t flags; /* 1 needs_csum, 2 csum_valid */
    uint8_t gso;
    uint16_t gso_size;
};

struct net_chan {
    int fd;             /* owned */
    GQueue queue;       /* GBytes: header and frame */
    size_t queued;      /* bytes in queue */
    size_t max_queued;
    uint64_t dropped;   /* frames that found the queue full */
    /* The last batch received. */
    size_t max_frame;
    unsigned batch, filled, next;
    uint8_t *buffer;    /* batch * max_frame */
    struct net_chan_header headers[NET_CHAN_MAX_BATCH];
    size_t lengths[NET_CHAN_MAX_BATCH];
};

/* Takes fd, which is made non-blocking. batch: how many frames one receive may bring. */
void net_chan_init(struct net_chan *c, int fd, size_t max_queued, size_t max_frame,
                   unsigned batch);
void net_chan_fini(struct net_chan *c);
/* Forgets what is queued or received but not taken. */
void net_chan_clear(struct net_chan *c);

/* false: dropped. */
bool net_chan_send(struct net_chan *c, const uint8_t *frame, size_t len,
                   const struct net_offload *off);
/* Sends what waits, when the socket is writable (poll for that while `queued` > 0). */
void net_chan_flush(struct net_chan *c);

/* Receives a batch once the last one is used up. false: the peer is gone. */
bool net_chan_receive(struct net_chan *c);
/* The next frame of the batch, or NULL; stays next until net_chan_pop. The bytes may be
 * changed. */
uint8_t *net_chan_peek(struct net_chan *c, size_t *len, struct net_offload *off);
void net_chan_pop(struct net_chan *c);

#endif
