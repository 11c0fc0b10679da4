/* SPDX-License-Identifier: MIT */
/*
 * One vbd request, out of a private copy of its ring slot: the layouts of 64-bit and 32-bit
 * guests, and the checks that need nothing but the request and the disk's shape.
 */
#ifndef PVEMU_PV_BLKBACK_REQUEST_H
#define PVEMU_PV_BLKBACK_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/block.h"

enum blk_protocol { BLK_PROTOCOL_X86_64, BLK_PROTOCOL_X86_32 };

enum {
    BLK_SLOT_X86_64 = 112,
    BLK_SLOT_X86_32 = 108,
    BLK_SLOT_MAX = BLK_SLOT_X86_64,
    BLK_MAX_INDIRECT = 256, /* segments of an indirect request */
    BLK_SECTOR = 512,       /* the unit of sector numbers, whatever the disk's sectors are */
    BLK_SECTORS_PER_PAGE = 8,
};

/* As in the ring and in indirect pages, both layouts. */
struct blk_segment {
    uint32_t gref;
    uint8_t first, last; /* sectors of the page, inclusive */
    uint16_t pad;
};

struct blk_request {
    uint8_t op; /* of an indirect request the inner one: responses carry that */
    bool indirect;
    uint8_t flag;         /* discard */
    unsigned nr_segments; /* 0 for discard */
    uint64_t id;
    uint64_t sector;
    uint64_t nr_sectors; /* discard: as asked; others: set by blk_request_check */
    uint32_t indirect_gref;
    struct blk_segment seg[BLK_MAX_INDIRECT]; /* indirect: to be filled in by the caller */
};

unsigned blk_slot_size(enum blk_protocol protocol);
/* raw holds blk_slot_size() bytes. */
void blk_request_parse(enum blk_protocol protocol, const uint8_t *raw, struct blk_request *r);

/*
 * What stands against the request: BLKIF_RSP_OKAY (nothing), BLKIF_RSP_ERROR or
 * BLKIF_RSP_EOPNOTSUPP. The first looks at op and counts, so that an indirect request's
 * segments can be fetched after it; the second at segments and the range on the disk.
 */
int blk_request_check_op(const struct blk_request *r, const struct block *blk);
int blk_request_check_range(struct blk_request *r, const struct block *blk);

#endif
