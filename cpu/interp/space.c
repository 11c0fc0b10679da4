/* SPDX-License-Identifier: MIT */
/*
 * Address spaces that are kept while the guest is in another one. Translated code knows where
 * the TLBs are, so they do not move: at a switch the used entries of the old space are put away
 * and those of the new one put in their places. Jumps stay where they are under the key of the
 * space's epoch, and paging-structure caches under its number.
 *
 * A space is a PCID, or what a paravirtual guest's hypervisor tells apart (pv/pv_space.c; global
 * there is what such a kernel has for itself). What is kept of it is good until the guest says
 * otherwise (SDM vol. 3 4.10.4), whatever happens to CR3's other bits. Only global pages are
 * shared, and those never leave the TLBs here.
 */
#include "engine.h"

static uint64_t space_number(const struct interp *e)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    if (e->pv_space != 0) {
        return e->pv_space;
    }
    return (cpu->cr4 & CPU_CR4_PCIDE) != 0 ? cpu->cr3 & 0xfff : 0;
}

static void space_reset(struct interp *e, struct space *s, uint64_t number)
{
    s->number = number;
    s->nr_saved = 0;
    s->epoch = ++e->epoch;
    s->walk = ++e->epoch;
    for (unsigned i = 0; i < 64; i++) {
        s->jump_pages[i] = 0;
    }
}

void interp_space_init(struct interp *e)
{
    e->space = &e->spaces[0];
    space_reset(e, e->space, space_number(e));
    e->space->last_used = ++e->space_clock;
}

/* The space of this number, or an empty one in the place of the one that was left first. */
static struct space *space_find(struct interp *e, uint64_t number)
{
    struct space *oldest = NULL;

    for (unsigned i = 0; i < SPACES; i++) {
        struct space *s = &e->spaces[i];

        if (s->last_used != 0 && s->number == number) {
            return s;
        }
        if (s != e->space && (oldest == NULL || s->last_used < oldest->last_used)) {
            oldest = s;
        }
    }
    space_reset(e, oldest, number);
    return oldest;
}

static void space_put_away(struct interp *e, struct space *s)
{
    s->nr_saved = 0;
    s->protects = e->protects;
    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tlb *t = &e->tlbs[i];

        for (uint32_t words = t->local_words; words != 0; words &= words - 1) {
            unsigned word = (unsigned)__builtin_ctz(words);

            for (uint64_t bits = t->local[word]; bits != 0; bits &= bits - 1) {
                unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);

                if (s->nr_saved < SPACE_SAVED) {
                    s->saved[s->nr_saved++] = (struct tlb_saved){
                        .entry = t->entry[slot],
                        .slot = (uint16_t)slot,
                        .table = (uint8_t)i,
                        .shift = t->shift[slot],
                    };
                }
                t->entry[slot].read = t->entry[slot].write = t->entry[slot].exec = TLB_NONE;
            }
            t->used[word] &= ~t->local[word];
            t->local[word] = 0;
        }
        t->local_words = 0;
    }
}

/* The frame has become code since it was put away? If it is no longer, somebody may count on
 * being the only writer. */
static bool space_write_lost(const struct interp *e, const struct tlb_entry *en)
{
    const struct mem_frame_info *info =
        mem_ram_info(e->v->mem, (void *)(uintptr_t)(en->write + en->addend));

    return (atomic_load(&info->flags) & MEM_CODE) != 0 || atomic_load(&info->writer) != 0;
}

static void space_put_back(struct interp *e, struct space *s)
{
    for (unsigned i = 0; i < s->nr_saved; i++) {
        struct tlb_saved *saved = &s->saved[i];
        struct tlb *t = &e->tlbs[saved->table];

        if ((t->used[saved->slot / 64] >> (saved->slot % 64) & 1) != 0) {
            continue; /* a global page came */
        }
        if (s->protects != e->protects && saved->entry.write != TLB_NONE &&
            space_write_lost(e, &saved->entry)) {
            saved->entry.write = TLB_NONE;
        }
        interp_tlb_put(t, saved->slot, &saved->entry, saved->shift, false);
    }
}

void interp_space_switch(struct interp *e, bool flush)
{
    uint64_t number = space_number(e);

    if (number == e->space->number) {
        if (flush) {
            interp_tlb_forget(e, true);
            space_reset(e, e->space, number);
        }
    } else {
        space_put_away(e, e->space);
        e->space = space_find(e, number);
        if (flush) {
            space_reset(e, e->space, number);
        } else {
            space_put_back(e, e->space);
        }
        e->space->last_used = ++e->space_clock;
    }
    interp_jump_epochs(e);
}

void interp_space_forget(struct interp *e, unsigned pcid)
{
    for (unsigned i = 0; i < SPACES; i++) {
        if (&e->spaces[i] != e->space && e->spaces[i].number == pcid) {
            e->spaces[i].last_used = 0;
        }
    }
}

void interp_space_forget_others(struct interp *e)
{
    for (unsigned i = 0; i < SPACES; i++) {
        if (&e->spaces[i] != e->space) {
            e->spaces[i].last_used = 0;
        }
    }
}

void interp_space_walks(struct interp *e)
{
    for (unsigned i = 0; i < SPACES; i++) {
        e->spaces[i].walk = ++e->epoch;
    }
}
