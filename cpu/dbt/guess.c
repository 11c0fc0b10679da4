/* SPDX-License-Identifier: MIT */
/*
 * Calls and jumps from one page to another, those through registers and memory, and the step
 * over the end of a page: the site compares the tag (dbt_jump_tag()) of where it leads with that
 * of the last translation it led to, and goes there: not to its entry `far`, but to the one
 * behind what has been checked, and without saving flags that are not looked at there. Where
 * they differ it goes by the table of jumps. Direct branches compare the tags of the pages they
 * are in. A tag is good as long as an entry of the table is: what clears the table undoes guesses,
 * and the key of an address space that was flushed is never met again.
 *
 * A guess is made after some misses, so that processes that share code and take turns are not
 * busy with each other's. Where a site leads to several translations, or to one that dies again
 * and again, its block is translated anew, and it goes by the table; or where flags are looked at
 * that it can have again: it saves them then.
 */
#include "engine.h"

enum { GUESS_SOON = 8, GUESS_AGAIN = 256, GUESS_OTHERS = 2 };
enum { GUESS_JMP = 0xe9, GUESS_CMP = 0x3b4c, GUESS_CMP_LEN = 7 };

static void guess_wait(struct dbt *d, const struct link *l, uint32_t misses)
{
    d->guess_left[(l - d->links) % DBT_GUESS_COUNTS] = misses;
}

static void guess_u32(struct dbt *d, uint32_t at, uint32_t val)
{
    *(interp_uint32_t *)(void *)(d->rw + at) = val;
}

static void guess_u64(struct dbt *d, uint32_t at, uint64_t val)
{
    guess_u32(d, at, (uint32_t)val);
    guess_u32(d, at + 4, (uint32_t)(val >> 32));
}

void dbt_guess_undo(struct dbt *d, struct link *l)
{
    d->rw[l->site] = GUESS_JMP;
    guess_u32(d, l->site + 1, l->stub - (l->site + 5));
    l->linked = false;
    guess_wait(d, l, GUESS_SOON);
}

void dbt_guess_gone(struct dbt *d, struct link *l, bool died)
{
    dbt_guess_undo(d, l);
    l->target = 0;
    l->others += died && l->others <= GUESS_OTHERS;
}

void dbt_guesses_undo(struct dbt *d, unsigned index)
{
    for (uint32_t at = d->guesses[index]; at != 0; at = d->links[at].next_guess) {
        struct link *l = &d->links[at];

        if (l->linked) {
            dbt_guess_undo(d, l);
        }
        l->listed = false;
    }
    d->guesses[index] = 0;
}

/* In the list of a translation, so that it is undone when that dies. */
static void guess_join(struct dbt *d, struct link *l, struct tb *t)
{
    uint32_t number = (uint32_t)(l - d->links), to = (uint32_t)(t - d->tbs);

    if (l->target == to) {
        return;
    }
    if (l->target != 0) {
        dbt_link_leave(d, l);
        l->others += l->others <= GUESS_OTHERS;
    }
    l->target = to;
    l->next = t->code[l->index].in;
    t->code[l->index].in = number;
}

static void guess_list(struct dbt *d, struct link *l)
{
    if (!l->listed) {
        l->listed = true;
        l->next_guess = d->guesses[l->index];
        d->guesses[l->index] = (uint32_t)(l - d->links);
    }
}

static void guess_make(struct dbt *d, struct link *l, uint32_t to, uint64_t rip)
{
    guess_u64(d, l->tag, dbt_jump_tag(d, l->index, rip - (uint64_t)(int64_t)l->by));
    guess_u32(d, l->site + 3, l->tag - (l->site + GUESS_CMP_LEN));
    guess_u32(d, l->site, GUESS_CMP | (uint32_t)l->compare << 16 |
                              (l->tag - (l->site + GUESS_CMP_LEN)) << 24);
    if (l->page != 0) {
        guess_u64(d, l->page, PAGE_BASE(rip));
    }
    guess_u32(d, l->patch, to - (l->patch + 4));
    l->linked = true;
    d->counts.n[COUNT_LINKS]++;
    if (!interp_keyed(l->index)) {
        guess_list(d, l);
    }
}

/* The site is done in another way from now on: its block is translated anew. */
static void guess_change(struct dbt *d, struct link *l, uint64_t *set)
{
    unsigned bit = dbt_site_bit(l->tb->block->frame, l->to);

    d->counts.n[COUNT_GUESS_NEVER]++;
    set[bit / 64] |= 1ull << (bit % 64);
    if (l->linked) {
        dbt_guess_undo(d, l);
    }
    dbt_tb_renew(d, l->tb);
}

bool dbt_guess(struct dbt *d, uint64_t rip)
{
    struct link *l = &d->links[d->guess];
    struct tb *t = dbt_find(d, l->index, rip);
    const struct tb_code *code;
    unsigned checked;

    guess_wait(d, l, GUESS_AGAIN);
    if (t == NULL || l->tb->dead || !dbt_free(d, t) || !dbt_free(d, l->tb)) {
        return true;
    }
    code = &t->code[l->index];
    checked = dbt_link_entry(l, t, code);
    if (l->flagless && code->host[checked] != code->mem[checked]) {
        if (++l->others > GUESS_OTHERS) {
            guess_change(d, l, d->guess_flags);
        }
        return true;
    }
    guess_join(d, l, t);
    if (l->others > GUESS_OTHERS) {
        guess_change(d, l, d->guess_never);
    } else {
        guess_make(d, l, code->mem[checked], rip);
    }
    return true;
}
