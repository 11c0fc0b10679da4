/* SPDX-License-Identifier: MIT */
/*
 * The soft TLB: per vCPU, direct mapped, one table for each of user, supervisor, and supervisor
 * with EFLAGS.AC under SMAP (SDM vol. 3 4.6). A write tag is given only when D is set already
 * and the frame holds no decoded code, so a hit needs nothing more.
 */
#include "engine.h"

void interp_near_forget(struct interp *e)
{
    for (unsigned i = 0; i < e->near.nr_used; i++) {
        struct interp_near *near = (struct interp_near *)(void *)((char *)e + e->near.used[i]);

        near->start = near->host = NEAR_NONE;
        near->used = 0;
    }
    e->near.nr_used = 0;
    e->near.kept = false;
    e->near.emptied++;
    for (unsigned i = 0; i < G_N_ELEMENTS(e->near.run) * NEAR_RUNS; i++) {
        e->near.run[i / NEAR_RUNS][i % NEAR_RUNS].len = 0;
    }
}

/* Is the page in such a range of host addresses? In views it may be anywhere. */
static bool near_touches(const struct interp *e, uint64_t host, uint64_t len, uint64_t hva)
{
    return hva - host < len || host - e->near.views < e->near.views_len;
}

void interp_near_forget_page(struct interp *e, uint64_t hva)
{
    e->near.forgotten++;
    for (unsigned i = 0; i < e->near.nr_used; i++) {
        struct interp_near *near = (struct interp_near *)(void *)((char *)e + e->near.used[i]);

        if (near >= &e->near.slot[NEAR_SLOTS] && near_touches(e, near->host, near->len, hva)) {
            near->start = near->host = NEAR_NONE; /* still in the list */
        }
    }
    for (unsigned i = 0; i < 2 * NEAR_RUNS; i++) {
        unsigned kind = NEAR_WRITE | (i < NEAR_RUNS ? 0 : NEAR_VIEW_RUN);
        struct interp_run *run = &e->near.run[kind][i % NEAR_RUNS];

        if (near_touches(e, run->host, run->len, hva)) {
            run->len = 0;
        }
    }
}

void interp_tlb_put(struct tlb *t, unsigned slot, const struct tlb_entry *en, unsigned shift,
                    bool global)
{
    uint64_t bit = 1ull << (slot % 64);
    unsigned word = slot / 64;

    t->entry[slot] = *en;
    t->shift[slot] = (uint8_t)shift;
    t->global[slot] = global;
    t->held[slot] = false;
    t->used[word] |= bit;
    t->used_words |= 1u << word;
    if (global) {
        t->local[word] &= ~bit;
    } else {
        t->local[word] |= bit;
        t->local_words |= 1u << word;
    }
}

static void tlb_clear_words(struct tlb *t, const uint64_t *set, uint32_t words)
{
    for (; words != 0; words &= words - 1) {
        unsigned word = (unsigned)__builtin_ctz(words);

        for (uint64_t bits = set[word]; bits != 0; bits &= bits - 1) {
            interp_tlb_clear(t, word * 64 + (unsigned)__builtin_ctzll(bits));
        }
    }
}

/* Of the current space, or of all and global ones too. */
void interp_tlb_forget(struct interp *e, bool keep_global)
{
    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        if (keep_global) {
            tlb_clear_words(t, t->local, t->local_words);
        } else {
            tlb_clear_words(t, t->used, t->used_words);
            t->used_words = 0;
        }
        t->local_words = 0;
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

/* The first slot in use from this one on; TLB_SIZE: none. */
static unsigned tlb_next(const struct tlb *t, unsigned slot)
{
    while (slot < TLB_SIZE) {
        const uint64_t bits = t->used[slot / 64] >> (slot % 64);
        const uint64_t words = (uint64_t)t->used_words >> (slot / 64) >> 1;

        if (bits != 0) {
            return slot + (unsigned)__builtin_ctzll(bits);
        }
        if (words == 0) {
            break;
        }
        slot = (slot / 64 + 1 + (unsigned)__builtin_ctzll(words)) * 64;
    }
    return TLB_SIZE;
}

static uint64_t tlb_page(const struct tlb_entry *en)
{
    return en->read != TLB_NONE ? en->read : en->exec;
}

static bool tlb_entry_maps(const struct tlb *t, unsigned slot, uint64_t va)
{
    uint64_t page = tlb_page(&t->entry[slot]);

    return page != TLB_NONE && page >> t->shift[slot] == va >> t->shift[slot];
}

/* Entries that map va; of a large page there may be many. */
static void tlb_flush_page(struct interp *e, uint64_t va, bool keep_global)
{
    bool large = tlb_large_seen(e, va);

    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];
        unsigned slot = interp_tlb_slot(va);

        if (tlb_entry_maps(t, slot, va) && !(keep_global && t->global[slot])) {
            interp_tlb_clear(t, slot);
        }
        for (slot = large ? tlb_next(t, 0) : TLB_SIZE; slot < TLB_SIZE;
             slot = tlb_next(t, slot + 1)) {
            if (t->shift[slot] > 12 && tlb_entry_maps(t, slot, va) &&
                !(keep_global && t->global[slot])) {
                interp_tlb_clear(t, slot);
            }
        }
    }
}

static uint64_t tlb_mix(uint64_t z, uint64_t secret)
{
    z = (z + secret) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

enum { KEY_USER = 16 }; /* index of key_modes: this and enum interp_mode */

void interp_jump_keys(struct interp *e)
{
    bool user = interp_user_mode(&e->v->cpu);
    uint64_t mode = e->key_modes[(e->mode & 15u) | (user ? KEY_USER : 0)];

    e->jump_key = e->key_local ^ mode;
    e->jump_key_global = e->key_global ^ mode;
    e->jump_salt = interp_keyed(interp_tlb_index(&e->v->cpu)) ? (uint32_t)e->key_local : 0;
}

/* Low bits of a key choose the slots of jumps. */
static uint64_t tlb_key_at(uint64_t key, uint64_t slot)
{
    return (key & ~(uint64_t)UINT16_MAX) | (slot & UINT16_MAX);
}

void interp_jump_epochs(struct interp *e)
{
    e->epoch_local = e->space->epoch;
    e->key_local = tlb_mix(e->epoch_local, e->jump_secret);
    e->key_global = tlb_mix(e->epoch_global, e->jump_secret);
    if (e->pv_space != 0) {
        /* Spaces are often new ones of the same tables: into the same slots, which are warm. */
        e->key_local = tlb_key_at(e->key_local,
                                  tlb_mix(VCPU_SPACE_PLACE(e->pv_space), e->jump_secret));
        e->key_global = tlb_key_at(e->key_global, 0);
    }
    e->key64[TLB_USER] = e->key_local ^ e->key_global ^ e->key_modes[MODE_64 | KEY_USER];
    for (unsigned i = 0; i < TLB_NR; i++) {
        e->key32[i] = e->key64[i] ^ e->key_modes[MODE_32 | MODE_FLAT];
    }
    interp_jump_keys(e);
}

void interp_jumps_drop(struct interp *e, bool keep_global)
{
    e->space->epoch = ++e->epoch;
    for (unsigned i = 0; i < 64; i++) {
        e->space->jump_pages[i] = 0;
    }
    if (!keep_global) {
        e->epoch_global = ++e->epoch;
        for (unsigned i = 0; i < 64; i++) {
            e->jump_pages[i] = 0;
        }
    }
    interp_jump_epochs(e);
}

void interp_tlb_init(struct interp *e)
{
    for (unsigned i = 0; i < TLB_NR; i++) {
        for (unsigned slot = 0; slot < TLB_SIZE; slot++) {
            interp_tlb_clear(&e->tlbs[i], slot);
        }
    }
    for (unsigned i = 0; i < 32; i++) {
        e->key_modes[i] = tlb_mix(~(uint64_t)i, e->jump_secret);
    }
    interp_space_init(e);
    interp_jumps_drop(e, false);
}

/* May a jump counted in this filter lead into this page (or a large one around it)? */
static bool tlb_jumped_to(const struct interp *e, const uint64_t *pages, uint64_t gva)
{
    unsigned bit = interp_jump_page_bit(gva);

    return (pages[bit / 64] >> (bit % 64) & 1) != 0 || tlb_large_seen(e, gva);
}

static void tlb_invlpg(struct interp *e, uint64_t gva, bool keep_global)
{
    tlb_flush_page(e, gva, keep_global);
    if (keep_global) {
        e->space->walk = ++e->epoch;
    } else {
        interp_region_forget(e, gva);
        interp_space_walks(e);
    }
    if (!keep_global && tlb_jumped_to(e, e->jump_pages, gva)) {
        interp_jumps_drop(e, false);
    } else if (tlb_jumped_to(e, e->space->jump_pages, gva)) {
        interp_jumps_drop(e, true);
    }
}

/* Entries that map this page of host memory. */
static void tlb_flush_frame(struct interp *e, uint64_t hva)
{
    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        for (unsigned slot = tlb_next(t, 0); slot < TLB_SIZE; slot = tlb_next(t, slot + 1)) {
            uint64_t page = tlb_page(&t->entry[slot]);

            if (page != TLB_NONE && page + t->entry[slot].addend == hva) {
                interp_tlb_clear(t, slot);
            }
        }
    }
}

/* Everything of the current address space. */
static void tlb_flush_current(struct interp *e, bool keep_global)
{
    interp_tlb_forget(e, keep_global);
    e->space->walk = ++e->epoch;
    interp_jumps_drop(e, keep_global);
}

static void tlb_flush_all(struct interp *e)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(e->large_regions); i++) {
        e->large_regions[i] = 0;
    }
    e->large_shifts = 0;
    interp_regions_forget(e);
    interp_space_forget_others(e);
    tlb_flush_current(e, false);
    interp_space_switch(e, false); /* CR4.PCIDE may have changed, and with it the number */
}

void interp_tlb_flush(struct interp *e, enum vcpu_flush kind, uint64_t gva)
{
    unsigned pcid = gva & 0xfff;

    e->flushes[kind]++;
    interp_stack_forget(e);
    switch (kind) {
    case VCPU_FLUSH_ALL:
        tlb_flush_all(e);
        break;
    case VCPU_FLUSH_NONGLOBAL:
        interp_space_switch(e, true);
        break;
    case VCPU_FLUSH_NOTHING:
        interp_space_switch(e, false);
        break;
    case VCPU_FLUSH_PAGE:
        tlb_invlpg(e, gva, false);
        break;
    case VCPU_FLUSH_PCID_PAGE:
        if (pcid == e->space->number) {
            tlb_invlpg(e, gva, true);
        } else {
            interp_space_forget(e, pcid);
        }
        break;
    case VCPU_FLUSH_PCID:
        if (pcid == e->space->number) {
            tlb_flush_current(e, true);
        } else {
            interp_space_forget(e, pcid);
        }
        break;
    case VCPU_FLUSH_FRAME:
        interp_regions_forget(e);
        tlb_flush_frame(e, (uint64_t)(uintptr_t)mem_frame_hva(e->v->mem, (uint32_t)gva));
        break;
    case VCPU_FLUSH_SPACE:
        e->pv_space = gva;
        interp_space_switch(e, false);
        break;
    case VCPU_FLUSH_PCIDS:
        interp_space_forget_others(e);
        tlb_flush_current(e, true);
        break;
    }
    e->break_block = true;
}

void interp_tlb_protect(struct interp *e, uint32_t frame)
{
    uint64_t hva = (uint64_t)(uintptr_t)mem_frame_hva(e->v->mem, frame);

    e->protects++;
    interp_stack_forget(e);
    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        for (unsigned slot = tlb_next(t, 0); slot < TLB_SIZE; slot = tlb_next(t, slot + 1)) {
            struct tlb_entry *en = &t->entry[slot];

            if (en->write != TLB_NONE && en->write + en->addend == hva) {
                en->write = TLB_NONE;
            }
        }
    }
}

void interp_tlb_protect_all(struct interp *e)
{
    e->protects++;
    interp_stack_forget(e);
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

/* One comes, the oldest goes. */
static void tlb_stress(struct interp *e, unsigned slot)
{
    unsigned at = e->stress.tlb_next++ % e->stress.tlb_entries;
    struct tlb *old = e->stress.tlb_ring[at].tlb;

    if (old != NULL && (old != e->tlb || e->stress.tlb_ring[at].slot != slot)) {
        interp_tlb_clear(old, e->stress.tlb_ring[at].slot);
    }
    e->stress.tlb_ring[at].tlb = e->tlb;
    e->stress.tlb_ring[at].slot = slot;
}

/*
 * Another vCPU has opened the page that runs, or one whose translations have not been taken back
 * yet: who stores to it unseen has to leave behind that instruction.
 */
static bool tlb_opened(const struct interp *e, const uint8_t *hva)
{
    return e->current != NULL &&
           (mem_hva_frame(e->v->mem, hva) == e->current->frame ||
            (atomic_load(&e->attention) & ATTENTION_CODE) != 0);
}

/* The frame's flags first, then its writer: code.c depends on it. */
static void tlb_give_write(struct interp *e, uint64_t va, struct mem_frame_info *info)
{
    unsigned slot = interp_tlb_slot(va);
    struct tlb_entry *en = &e->tlb->entry[slot];
    const uint8_t *hva = (uint8_t *)(uintptr_t)(va + en->addend);
    uint8_t flags = atomic_load(&info->flags);

    e->tlb->held[slot] = (flags & MEM_CODE) != 0;
    if ((flags & MEM_CODE) != 0 ||
        (atomic_load(&info->writer) != 0 &&
         !interp_code_tag(e, info, hva, (unsigned)(e->tlb - e->tlbs), slot))) {
        return;
    }
    if ((flags & MEM_DIRTY) == 0) {
        atomic_fetch_or_explicit(&info->flags, MEM_DIRTY, memory_order_relaxed);
    }
    en->write = PAGE_BASE(va);
    if (unlikely(tlb_opened(e, hva))) {
        e->break_block = true;
    }
}

void interp_tlb_fill(struct interp *e, uint64_t va, unsigned access,
                     const struct x86_mapping *map, uint8_t *hva)
{
    uint64_t page = PAGE_BASE(va);
    unsigned slot = interp_tlb_slot(va);
    struct tlb_entry *en = &e->tlb->entry[slot], now;
    uint64_t addend = (uint64_t)(uintptr_t)hva - va;
    struct mem_frame_info *info;

    now = *en;
    if ((now.read != page && now.exec != page) || now.addend != addend ||
        e->tlb->global[slot] != map->global ||
        e->tlb->shift[slot] != tlb_page_shift(map->page_size)) {
        now = (struct tlb_entry){TLB_NONE, TLB_NONE, TLB_NONE, addend};
    }
    if (unlikely(e->stress.tlb_entries != 0)) {
        tlb_stress(e, slot);
    }
    interp_tlb_put(e->tlb, slot, &now, tlb_page_shift(map->page_size), map->global);
    if (map->page_size > MEM_PAGE_SIZE) {
        unsigned bit = tlb_region_bit(va, tlb_page_shift(map->page_size));

        e->large_shifts |= map->page_size; /* a size is a power of two */
        e->large_regions[bit / 64] |= 1ull << (bit % 64);
        if (map->global && !map->user && (access & X86_READ) != 0) {
            interp_region_met(e, va, addend);
        }
    }
    if ((access & X86_EXEC) != 0) {
        en->exec = page;
        return;
    }
    en->read = page;
    if (tlb_may_write(e, map, access)) {
        info = mem_ram_info(e->v->mem, hva);
        if ((access & X86_WRITE) != 0 || likely(!tlb_opened(e, hva))) {
            tlb_give_write(e, va, info);
        }
    }
}

void interp_tlb_allow(struct interp *e, uint64_t va)
{
    const struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];

    tlb_give_write(e, va, mem_ram_info(e->v->mem, (void *)(uintptr_t)(va + en->addend)));
}
