/* SPDX-License-Identifier: MIT */
/*
 * What a guest's frame must look like before libslirp may see it. Runs in the helper process.
 */
#ifndef PVEMU_IO_NET_FILTER_H
#define PVEMU_IO_NET_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/net.h"

enum { NET_FILTER_FRAGMENTS = 16 };

/* All zero is a good start. */
struct net_filter {
    /* IPv4 packets that come in fragments: only strictly in order ones pass. */
    struct net_filter_fragment {
        bool used;
        uint8_t proto;
        uint16_t id;
        uint32_t source, destination;
        unsigned next; /* the byte that the next fragment must start with */
    } fragments[NET_FILTER_FRAGMENTS];
    unsigned victim;   /* slot to reuse next */
    uint64_t dropped;  /* frames refused */
    uint64_t urgent;   /* segments that had URG or an urgent pointer */
};

/*
 * Judges one frame and makes it safe in place: completes checksums that were left to us, clears
 * TCP urgent data, cuts trailing padding (*len shrinks). false: drop it.
 */
bool net_filter_input(struct net_filter *f, uint8_t *frame, size_t *len,
                      const struct net_offload *off);

#endif
