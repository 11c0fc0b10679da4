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

/* For one miss: pages that are walked to, and frames looked at but for the last of these. A large
 * page is of 1 GiB at most. */
enum { LEAVES = 1024, FRAMES = 1 << 16, LARGEST = 1 << 30 };

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
        !map.global || map.user || map.page_size > LARGEST) {
        return 0;
    }
    base = va & ~(map.page_size - 1);
    if (base == e->region_never) {
        return 0;
    }
    if (!region_ram(e->v->mem, map.gpa - (va - base), map.page_size,
                    (const uint8_t *)(uintptr_t)(base + addend))) {
        e->region_never = base;
        return 0;
    }
    return map.page_size;
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
    uint64_t frames = 0;

    for (unsigned i = 0; i < LEAVES && frames < FRAMES && va - r->start >= r->len; i++) {
        bool up = va > r->start;
        uint64_t size = region_leaf(e, up ? r->start + r->len : r->start - 1, r->addend);

        if (size == 0) {
            r->wall[up] = true;
            return;
        }
        frames += size >> MEM_PAGE_SHIFT;
        region_set(r, up ? r->start : r->start - size, r->len + size);
    }
}

/* The one that has this addend, or had it; or one that had none yet, or an empty one; NULL: all are
 * others. Translations know regions by number, so they are to come back where they were. */
static struct interp_region *region_for(struct interp *e, uint64_t addend)
{
    struct interp_region *empty = NULL;

    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        struct interp_region *r = &e->region[i];

        if (r->addend == addend) {
            return r;
        }
        if (r->len == 0 && (empty == NULL || (empty->addend != 0 && r->addend == 0))) {
            empty = r;
        }
    }
    return empty;
}

void interp_region_met(struct interp *e, uint64_t va, uint64_t addend)
{
    struct interp_region *r;
    uint64_t size;

    if (e->v->pv != NULL || e->stress.tlb_entries != 0 || va >> 63 == 0) {
        return;
    }
    r = region_for(e, addend);
    if (r == NULL) {
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
    e->region_never = 0;
    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        e->region[i] = (struct interp_region){.addend = e->region[i].addend};
    }
}

void interp_region_forget(struct interp *e, uint64_t va)
{
    e->region_never = 0;
    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        if (va - e->region[i].start < e->region[i].len) {
            e->region[i] = (struct interp_region){.addend = e->region[i].addend};
        }
    }
}
