/* SPDX-License-Identifier: MIT */
/*
 * What the translator counts, always: only where C is involved anyway, so that it costs
 * nothing. Other threads read the numbers as they are (`pvemu stats`).
 */
#ifndef PVEMU_CPU_DBT_COUNT_H
#define PVEMU_CPU_DBT_COUNT_H

#include <stdint.h>

enum dbt_count {
    COUNT_BLOCKS,
    COUNT_INSNS,
    COUNT_GUEST_BYTES,
    COUNT_HOST_BYTES,
    COUNT_LINKS,
    COUNT_RELINKS,
    COUNT_FOLLOWED,
    COUNT_GUESS_NEVER,
    COUNT_KILLS,
    COUNT_REVIVALS,
    COUNT_REWRITES,
    COUNT_DROPS,
    COUNT_ENTERED,
    COUNT_INTERPRETED,
    COUNT_JUMP_MISSES,
    COUNT_JUMP_NOWHERE,
    COUNT_TLB_MISSES,
    COUNT_TLB_FILLS,
    COUNT_STLB_HITS,
    COUNT_SLOW,
    COUNT_SYSTEM,
    COUNT_FAULTS,
    COUNT_STACK,
    COUNT_RETURNS,
    COUNT_STORES_TO_CODE,
    COUNT_NEAR_NEVER,
    COUNT_NEAR_RUNS,
    COUNT_NEAR_VIEWS,
    COUNT_VIEW_PAGES,
    COUNT_NEAR_LARGES,
    COUNT_NEAR_APART,
    COUNT_NEAR_AGAIN,
    COUNT_NEAR_MISSES,
    COUNT_REGION_MISSES,
    COUNT_LOOPS,
    COUNT_NR
};

/* Where instructions went to C most: rip and how often, approximately. */
enum { DBT_SITES = 1 << 10 };
struct dbt_site {
    uint64_t rip;
    uint32_t n;
};

struct dbt_counts {
    uint64_t n[COUNT_NR];
    struct dbt_site sites[DBT_SITES];
};

/* One more at this place; a frequent one keeps its slot. */
static inline void dbt_count_site(struct dbt_counts *c, uint64_t rip)
{
    struct dbt_site *site = &c->sites[(rip ^ rip >> 10) & (DBT_SITES - 1)];

    if (site->rip == rip) {
        site->n++;
    } else if (site->n == 0 || --site->n == 0) {
        *site = (struct dbt_site){rip, 1};
    }
}

#endif
