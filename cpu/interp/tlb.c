/* SPDX-License-Identifier: MIT */
/*
 * The soft TLB: per vCPU, direct mapped, one table for each of user, supervisor, and supervisor
 * with EFLAGS.AC under SMAP (SDM vol. 3 4.6). A write tag is given only when D is set already
 * and the frame holds no decoded code, so a hit needs nothing more.
 */
#include "engine.h"

static unsigned tlb_slot(uint64_t va)
{
    return (unsigned)(va >> 12) & (TLB_SIZE - 1);
}

static void tlb_clear(struct tlb *t, unsigned slot)
{
    struct tlb_entry *en = &t->entry[slot];

    en->read = en->write = en->exec = TLB_NONE;
    t->used[slot / 64] &= ~(1ull << (slot % 64));
}

static void tlb_clear_all(struct tlb *t, bool keep_global)
{
    for (unsigned w = 0; w < TLB_SIZE / 64; w++) {
        uint64_t bits = t->used[w];

        while (bits != 0) {
            unsigned slot = w * 64 + (unsigned)__builtin_ctzll(bits);

            bits &= bits - 1;
            if (!keep_global || !t->global[slot]) {
                tlb_clear(t, slot);
            }
        }
    }
}

/* A filter of regions that large pages were cached for. */
static unsigned tlb_region_bit(uint64_t va, unsigned shift)
{
    return (unsigned)(((va >> shift) + shift) * 0x9e3779b97f4a7c15ull >> 51);
}

static bool tlb_large_seen(const struct interp *e, uint64_t va)
{
    for (uint64_t shifts = e->large_shifts; shifts != 0; shifts &= shifts - 1) {
        unsigned bit = tlb_region_bit(va, (unsigned)__builtin_ctzll(shifts));

        if ((e->large_regions[bit / 64] >> (bit % 64) & 1) != 0) {
            return true;
        }
    }
    return false;
}

static void tlb_flush_page(struct interp *e, uint64_t va)
{
    bool large = tlb_large_seen(e, va);

    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        tlb_clear(t, tlb_slot(va));
        for (unsigned slot = 0; large && slot < TLB_SIZE; slot++) {
            const struct tlb_entry *en = &t->entry[slot];
            uint64_t page = en->read != TLB_NONE ? en->read : en->exec;

            if (t->shift[slot] > 12 && page != TLB_NONE &&
                page >> t->shift[slot] == va >> t->shift[slot]) {
                tlb_clear(t, slot);
            }
        }
    }
}

/* Any two keys differ in a way no guest can guess, so that rip ^ key is as good as both. */
static uint64_t tlb_mix(uint64_t z, uint64_t secret)
{
    z = (z + secret) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void interp_jump_keys(struct interp *e)
{
    uint64_t mode = e->mode | (e->v->cpu.cpl == 3 && !e->v->cpu.pv_kernel ? 0x80 : 0);
    unsigned i = mode == MODE_64 ? 0 : mode == (MODE_64 | 0x80) ? 1 : 2;

    if (unlikely(e->jump_keys[i].local != e->epoch_local ||
                 e->jump_keys[i].global != e->epoch_global || e->jump_keys[i].mode != mode)) {
        e->jump_keys[i].mode = mode;
        e->jump_keys[i].local = e->epoch_local;
        e->jump_keys[i].global = e->epoch_global;
        e->jump_keys[i].key = tlb_mix(e->epoch_local << 8 | mode, e->jump_secret);
        e->jump_keys[i].key_global = tlb_mix(e->epoch_global << 8 | mode, e->jump_secret);
    }
    e->jump_key = e->jump_keys[i].key;
    e->jump_key_global = e->jump_keys[i].key_global;
}

void interp_jumps_drop(struct interp *e, bool keep_global)
{
    e->epoch_local = ++e->epoch;
    if (!keep_global) {
        e->epoch_global = ++e->epoch;
        for (unsigned i = 0; i < 64; i++) {
            e->jump_pages[i] = 0;
        }
    }
    interp_jump_keys(e);
}

/* May a jump lead into this page (or a large one around it)? */
static bool tlb_jumped_to(const struct interp *e, uint64_t gva)
{
    unsigned bit = interp_jump_page_bit(gva);

    return (e->jump_pages[bit / 64] >> (bit % 64) & 1) != 0 || tlb_large_seen(e, gva);
}

void interp_tlb_flush(struct interp *e, enum vcpu_flush kind, uint64_t gva)
{
    if (kind == VCPU_FLUSH_PAGE) {
        tlb_flush_page(e, gva);
    } else {
        for (unsigned i = 0; i < TLB_NR; i++) {
            tlb_clear_all(&e->tlbs[i], kind == VCPU_FLUSH_NONGLOBAL);
        }
        if (kind == VCPU_FLUSH_ALL) {
            for (unsigned i = 0; i < G_N_ELEMENTS(e->large_regions); i++) {
                e->large_regions[i] = 0;
            }
            e->large_shifts = 0;
        }
    }
    if (kind != VCPU_FLUSH_PAGE) {
        interp_jumps_drop(e, kind == VCPU_FLUSH_NONGLOBAL);
    } else if (tlb_jumped_to(e, gva)) {
        interp_jumps_drop(e, false);
    }
    e->break_block = true;
}

void interp_tlb_protect(struct interp *e, uint32_t frame)
{
    uint64_t hva = (uint64_t)(uintptr_t)mem_frame_hva(e->v->mem, frame);

    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        for (unsigned slot = 0; slot < TLB_SIZE; slot++) {
            struct tlb_entry *en = &t->entry[slot];

            if (en->write != TLB_NONE && en->write + en->addend == hva) {
                en->write = TLB_NONE;
            }
        }
    }
}

void interp_tlb_protect_all(struct interp *e)
{
    for (unsigned i = 0; i < TLB_NR; i++) {
        for (unsigned slot = 0; slot < TLB_SIZE; slot++) {
            e->tlbs[i].entry[slot].write = TLB_NONE;
        }
    }
}

static unsigned tlb_page_shift(uint64_t size)
{
    return (unsigned)__builtin_ctzll(size);
}

/* May this kind of access be written, going by the walk that was made? */
static bool tlb_may_write(const struct interp *e, const struct x86_mapping *map,
                          unsigned access)
{
    if ((access & X86_WRITE) != 0) {
        return true;
    }
    return (access & X86_READ) != 0 && map->writable && map->dirty;
}

void interp_tlb_fill(struct interp *e, uint64_t va, unsigned access,
                     const struct x86_mapping *map, uint8_t *hva)
{
    uint64_t page = PAGE_BASE(va);
    unsigned slot = tlb_slot(va);
    struct tlb_entry *en = &e->tlb->entry[slot];
    uint64_t addend = (uint64_t)(uintptr_t)hva - va;
    struct mem_frame_info *info;

    if ((en->read != page && en->exec != page) || en->addend != addend) {
        en->read = en->write = en->exec = TLB_NONE;
    }
    en->addend = addend;
    e->tlb->used[slot / 64] |= 1ull << (slot % 64);
    e->tlb->global[slot] = map->global;
    e->tlb->shift[slot] = (uint8_t)tlb_page_shift(map->page_size);
    if (map->page_size > MEM_PAGE_SIZE) {
        unsigned bit = tlb_region_bit(va, tlb_page_shift(map->page_size));

        e->large_shifts |= map->page_size; /* a size is a power of two */
        e->large_regions[bit / 64] |= 1ull << (bit % 64);
    }
    if ((access & X86_EXEC) != 0) {
        en->exec = page;
        return;
    }
    en->read = page;
    if (tlb_may_write(e, map, access)) {
        info = mem_frame_info(e->v->mem, mem_hva_frame(e->v->mem, hva));
        if ((atomic_load(&info->flags) & MEM_CODE) == 0) {
            atomic_fetch_or_explicit(&info->flags, MEM_DIRTY, memory_order_relaxed);
            en->write = page;
        }
    }
}
