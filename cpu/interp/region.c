/* SPDX-License-Identifier: MIT */
/*
 * Regions: long ranges of a kernel's address space that are one range of the host's memory, such
 * as its map of all memory and its image. They are learned from global large pages of supervisors,
 * as the TLB meets them, and allow loads only: a store needs its page's own tag.
 *
 * A region is what a TLB entry of its size would be. So it goes where such an entry would have to:
 * with all global entries, with INVLPG of any address in it, and with a change of the guest's
 * layout, which asks for the former. MOV to CR3 and INVPCID of one space leave it (SDM vol. 3
 * 4.10.4.1). A is set in each page that it was made of, before it has that page.
 */
#include "engine.h"

enum { LEAVES = 1024, FRAMES_MAX = 1 << 18 }; /* looked at for one miss */

/* Is [gpa, gpa + size) plain RAM at hva? */
static bool region_ram(const struct mem *mem, uint64_t gpa, uint64_t size, const uint8_t *hva)
{
    for (uint64_t at = 0; at < size; at += MEM_PAGE_SIZE) {
        if (mem_ram_page(mem, (gpa + at) >> MEM_PAGE_SHIFT) != hva + at) {
            return false;
        }
    }
    return true;
}

/* The large page around va: may it be in a region with this addend? Its size; 0: no. */
static uint64_t region_leaf(struct interp *e, uint64_t va, uint64_t addend)
{
    struct x86_mapping map;
    uint64_t base;

    if (!x86_walk(e->v, &e->walk, interp_walk_space(e), va, X86_READ, &map) ||
        !map.global || map.user || map.page_size > (uint64_t)FRAMES_MAX << 12) {
        return 0;
    }
    base = va & ~(map.page_size - 1);
    return region_ram(e->v->mem, map.gpa - (va - base), map.page_size,
                      (const uint8_t *)(uintptr_t)(base + addend))
               ? map.page_size
               : 0;
}

static void region_set(struct interp_region *r, uint64_t start, uint64_t len)
{
    r->start = start;
    r->len = len;
    r->limit = len - (INTERP_REGION_SPAN - 1);
}

/* Towards va, which is a kernel's as all of it is; a few pages at a time. */
static void region_grow(struct interp *e, struct interp_region *r, uint64_t va)
{
    for (unsigned i = 0; i < LEAVES && va - r->start >= r->len; i++) {
        bool up = va > r->start;
        uint64_t size = region_leaf(e, up ? r->start + r->len : r->start - 1, r->addend);

        if (size == 0) {
            r->wall[up] = true;
            return;
        }
        region_set(r, up ? r->start : r->start - size, r->len + size);
    }
}

/* The one with this addend, or an empty one; NULL: all are others. */
static struct interp_region *region_for(struct interp *e, uint64_t addend)
{
    struct interp_region *empty = NULL;

    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        struct interp_region *r = &e->region[i];

        if (r->len != 0 && r->addend == addend) {
            return r;
        }
        if (r->len == 0 && empty == NULL) {
            empty = r;
        }
    }
    return empty;
}

void interp_region_met(struct interp *e, uint64_t va, uint64_t addend)
{
    struct interp_region *r = region_for(e, addend);
    uint64_t size;

    if (r == NULL || e->v->pv != NULL || e->stress.tlb_entries != 0 || va >> 63 == 0) {
        return;
    }
    if (r->len == 0) {
        size = region_leaf(e, va, addend);
        if (size != 0) {
            *r = (struct interp_region){.addend = addend};
            region_set(r, va & ~(size - 1), size);
        }
    } else if (va - r->start >= r->len && !r->wall[va > r->start]) {
        region_grow(e, r, va);
    }
}

void interp_regions_forget(struct interp *e)
{
    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        e->region[i] = (struct interp_region){0};
    }
}

void interp_region_forget(struct interp *e, uint64_t va)
{
    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        if (va - e->region[i].start < e->region[i].len) {
            e->region[i] = (struct interp_region){0};
        }
    }
}
