/* SPDX-License-Identifier: MIT */
/*
 * Parsing and checking vbd requests (public/io/blkif.h). A 32-bit guest packs 64-bit fields at
 * 4-byte boundaries, which moves everything after the id.
 */
#include "pv/blkback_request.h"

#include <string.h>

#include "base/checked.h"
#include "pv/xen_abi.h"

/* Byte offsets in a slot. */
struct blk_layout {
    unsigned slot, id, sector, body, indirect_grefs;
};

static const struct blk_layout blk_layouts[] = {
    [BLK_PROTOCOL_X86_64] = {BLK_SLOT_X86_64, 8, 16, 24, 28},
    [BLK_PROTOCOL_X86_32] = {BLK_SLOT_X86_32, 4, 12, 20, 24},
};

_Static_assert(sizeof(struct blkif_request) == BLK_SLOT_X86_64, "slot");
_Static_assert(offsetof(struct blkif_request, id) == 8, "id");
_Static_assert(offsetof(struct blkif_request, sector_number) == 16, "sector");
_Static_assert(offsetof(struct blkif_request, seg) == 24, "segments");
_Static_assert(offsetof(struct blkif_request_discard, nr_sectors) == 24, "discard");
_Static_assert(offsetof(struct blkif_request_indirect, indirect_grefs) == 28, "indirect");
_Static_assert(sizeof(struct blkif_request_segment) == sizeof(struct blk_segment), "segment");
_Static_assert(offsetof(struct blkif_request_segment, last_sect) == 5, "segment");

unsigned blk_slot_size(enum blk_protocol protocol)
{
    return blk_layouts[protocol].slot;
}

static uint16_t blk_get16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint32_t blk_get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t blk_get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

void blk_request_parse(enum blk_protocol protocol, const uint8_t *raw, struct blk_request *r)
{
    const struct blk_layout *at = &blk_layouts[protocol];

    r->op = raw[0];
    r->indirect = r->op == BLKIF_OP_INDIRECT;
    r->flag = 0;
    r->nr_segments = 0;
    r->nr_sectors = 0;
    r->indirect_gref = 0;
    r->id = blk_get64(raw + at->id);
    r->sector = blk_get64(raw + at->sector);
    if (r->indirect) {
        r->op = raw[1];
        r->nr_segments = blk_get16(raw + 2);
        r->indirect_gref = blk_get32(raw + at->indirect_grefs);
    } else if (r->op == BLKIF_OP_DISCARD) {
        r->flag = raw[1];
        r->nr_sectors = blk_get64(raw + at->body);
    } else {
        r->nr_segments = raw[1];
        memcpy(r->seg, raw + at->body,
               BLKIF_MAX_SEGMENTS_PER_REQUEST * sizeof(struct blk_segment));
    }
}

static int blk_check_discard(const struct blk_request *r, const struct block *blk)
{
    if (blk->read_only) {
        return BLKIF_RSP_ERROR;
    }
    if (!blk->can_discard || (r->flag & BLKIF_DISCARD_SECURE) != 0) {
        return BLKIF_RSP_EOPNOTSUPP;
    }
    return BLKIF_RSP_OKAY;
}

/* A flush and a barrier may carry nothing; everything else moves data. */
static int blk_check_transfer(const struct blk_request *r, const struct block *blk)
{
    bool may_be_empty = r->op == BLKIF_OP_WRITE_BARRIER || r->op == BLKIF_OP_FLUSH_DISKCACHE;
    unsigned max = r->indirect ? BLK_MAX_INDIRECT : BLKIF_MAX_SEGMENTS_PER_REQUEST;

    if (r->nr_segments > max || (r->nr_segments == 0 && !may_be_empty)) {
        return BLKIF_RSP_ERROR;
    }
    if (blk->read_only && r->op != BLKIF_OP_READ && r->nr_segments > 0) {
        return BLKIF_RSP_ERROR;
    }
    return BLKIF_RSP_OKAY;
}

int blk_request_check_op(const struct blk_request *r, const struct block *blk)
{
    if (r->indirect && r->op != BLKIF_OP_READ && r->op != BLKIF_OP_WRITE) {
        return BLKIF_RSP_ERROR;
    }
    switch (r->op) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
    case BLKIF_OP_WRITE_BARRIER:
    case BLKIF_OP_FLUSH_DISKCACHE:
        return blk_check_transfer(r, blk);
    case BLKIF_OP_DISCARD:
        return blk_check_discard(r, blk);
    default:
        return BLKIF_RSP_EOPNOTSUPP;
    }
}

int blk_request_check_range(struct blk_request *r, const struct block *blk)
{
    unsigned per_sector = blk->sector_size / BLK_SECTOR; /* 1 or 8 */

    if (r->op != BLKIF_OP_DISCARD) {
        r->nr_sectors = 0;
        for (unsigned i = 0; i < r->nr_segments; i++) {
            const struct blk_segment *seg = &r->seg[i];

            if (seg->first > seg->last || seg->last >= BLK_SECTORS_PER_PAGE ||
                seg->first % per_sector != 0 || (seg->last + 1u) % per_sector != 0) {
                return BLKIF_RSP_ERROR;
            }
            r->nr_sectors += seg->last - seg->first + 1u;
        }
        if (r->nr_segments == 0) {
            return BLKIF_RSP_OKAY; /* nothing but a flush: the sector number has no meaning */
        }
    }
    if (!checked_range(r->sector, r->nr_sectors, blk->size / BLK_SECTOR) ||
        r->sector % per_sector != 0 || r->nr_sectors % per_sector != 0) {
        return BLKIF_RSP_ERROR;
    }
    return BLKIF_RSP_OKAY;
}
