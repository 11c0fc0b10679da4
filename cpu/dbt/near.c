/* SPDX-License-Identifier: MIT */
/*
 * Which accesses look into interp.near first (tr_near.c). One that hardly ever finds its page
 * there pays for two checks and a mispredicted branch; so misses are counted by site, and one
 * that has many in a short time is translated anew with the check of the TLB only.
 */
#include "engine.h"

enum { NEAR_MISSES = 4096, NEAR_CYCLES = 600 }; /* of the TSC for each miss, or they are too many */

static unsigned near_bit(uint32_t frame, unsigned at)
{
    return ((frame << 12 | at) * 0x9e3779b1u) >> 17;
}

bool dbt_near_good(const struct dbt *d, uint32_t frame, unsigned at)
{
    unsigned bit = near_bit(frame, at);

    G_STATIC_ASSERT(DBT_NEAR_BITS == 1 << 15);
    return (d->near_never[bit / 64] >> (bit % 64) & 1) == 0;
}

void dbt_near_init(struct dbt *d)
{
    for (unsigned i = 0; i < 2 * NEAR_SLOTS; i++) {
        d->interp.near.slot[i] = (struct interp_near){
            .page = NEAR_NONE, .host = NEAR_NONE, .misses = -NEAR_MISSES};
    }
    d->other_misses = -NEAR_MISSES;
}

/* The counter at a place, and a number for it. */
static uint32_t *near_counter(struct dbt *d, uint32_t place, unsigned *number)
{
    size_t at = (place - offsetof(struct dbt, interp.near)) / sizeof(struct interp_near);

    *number = at < 2 * NEAR_SLOTS ? (unsigned)at + 1 : 0;
    return *number != 0 ? &d->interp.near.slot[at].misses : &d->other_misses;
}

bool dbt_near_often(struct dbt *d, uint64_t unused, uint32_t place)
{
    const struct rec *rec = &d->recs[d->rec & ~(uint32_t)DBT_REC_WRITE];
    unsigned number;
    uint32_t *misses = near_counter(d, place, &number);
    uint64_t now = __builtin_ia32_rdtsc(), since = d->near_since[number];

    (void)unused;
    d->near_since[number] = now;
    *misses = -NEAR_MISSES;
    if (now - since < (uint64_t)NEAR_MISSES * NEAR_CYCLES) {
        unsigned bit = near_bit(rec->tb->block->frame, rec->ip);

        d->counts.n[COUNT_NEAR_NEVER]++;
        d->near_never[bit / 64] |= 1ull << (bit % 64);
        if (!rec->tb->dead) {
            dbt_tb_kill(d, rec->tb);
        }
        rec->tb->ops = NULL; /* never to be revived */
    }
    return true;
}
