/* SPDX-License-Identifier: MIT */
/*
 * Sites that look for what they access in the slowest ways (near.c) are looked at anew from time to
 * time: a function that went at random through more than fits may be called for less next. The
 * site is translated as one of which nothing is known, and is judged by fewer misses from then on.
 * Each time in vain doubles the time to the next, and no two sites follow each other closely, so
 * that it costs little where nothing changes: some hundred misses, and mappings of a view.
 */
#include "engine.h"

/* Cycles of the TSC between any two, and from one to the next of the same site. */
#define AGAIN_APART (1ull << 27)
#define AGAIN_LEAST (1ull << 27)
#define AGAIN_MOST  (1ull << 34)

void dbt_near_given_up(struct dbt *d, struct block *b, unsigned at)
{
    struct dbt_again_site *s = &d->again.site[dbt_site_bit(b->frame, at) % DBT_AGAIN];
    bool known = s->block == b && s->at == at;

    s->cycles = known ? MIN(2 * s->cycles, AGAIN_MOST) : AGAIN_LEAST;
    s->due = __builtin_ia32_rdtsc() + s->cycles;
    s->block = b;
    s->at = (uint16_t)at;
    s->waits = true;
}

void dbt_near_again(struct dbt *d)
{
    uint64_t now = __builtin_ia32_rdtsc();

    if (now - d->again.last < AGAIN_APART) {
        return;
    }
    d->again.last = now;
    for (unsigned i = 0; i < DBT_AGAIN; i++) {
        struct dbt_again_site *s = &d->again.site[d->again.next++ % DBT_AGAIN];

        if (s->waits && now >= s->due) {
            struct tb *t = s->block->translation;

            s->waits = false;
            d->counts.n[COUNT_NEAR_AGAIN]++;
            dbt_near_unlearn(d, s->block->frame, s->at);
            dbt_view_credit(d);
            if (t != NULL && t->room == 0) {
                dbt_tb_renew(d, t); /* dead or not: it may be revived */
            }
            return;
        }
    }
}
