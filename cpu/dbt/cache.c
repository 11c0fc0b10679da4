/* SPDX-License-Identifier: MIT */
/*
 * The memory of translations: code in shared memory that is mapped twice, writable here and
 * executable there, and tables beside it. Everything is only ever added; when something is full
 * all of it goes, together with the interpreter's blocks.
 */
#include "engine.h"

#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"

/*
 * Not a memfd: perf looks for names in its map of a process only where a mapping is of no file,
 * and some hosts refuse to execute memfds (vm.memfd_noexec).
 */
static void cache_code(struct dbt *d)
{
    d->rx = MAP_FAILED;
    d->rw = mmap(NULL, DBT_CACHE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (d->rw != MAP_FAILED) {
        d->rx = mremap(d->rw, 0, DBT_CACHE, MREMAP_MAYMOVE); /* the same pages again */
    }
    if (d->rx != MAP_FAILED && mprotect(d->rx, DBT_CACHE, PROT_READ | PROT_EXEC) != 0) {
        munmap(d->rx, DBT_CACHE);
        d->rx = MAP_FAILED;
    }
}

bool dbt_cache_init(struct dbt *d, GError **err)
{
    cache_code(d);
    d->recs = arena_map(NULL, sizeof(struct rec) * DBT_MAX_RECS);
    d->links = arena_map(NULL, sizeof(struct link) * DBT_MAX_LINKS);
    d->tbs = arena_map(NULL, sizeof(struct tb) * DBT_MAX_TBS);
    d->insns = arena_map(NULL, sizeof(struct insn) * DBT_MAX_INSNS);
    d->peeks = arena_map(NULL, sizeof(struct peek) * DBT_MAX_PEEKS);
    d->stlb = arena_map(NULL, sizeof(struct stlb_entry) * DBT_STLB);
    d->trap = mmap(NULL, MEM_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d->rw == MAP_FAILED || d->rx == MAP_FAILED || d->recs == NULL || d->links == NULL ||
        !dbt_returns_init(d) || d->tbs == NULL || d->insns == NULL || d->peeks == NULL || d->stlb == NULL || d->trap == MAP_FAILED) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_ACCES,
                    "this host refuses executable memory (PROT_EXEC)");
        dbt_cache_fini(d);
        return false;
    }
    dbt_common_emit(d);
    dbt_cache_drop(d);
    d->counts.n[COUNT_DROPS] = 0; /* there was nothing to drop */
    return true;
}

static void cache_unmap(void *p, size_t bytes)
{
    if (p != NULL && p != MAP_FAILED) {
        munmap(p, bytes);
    }
}

void dbt_cache_fini(struct dbt *d)
{
    cache_unmap(d->rw, DBT_CACHE);
    cache_unmap(d->rx, DBT_CACHE);
    arena_unmap(d->recs, sizeof(struct rec) * DBT_MAX_RECS);
    arena_unmap(d->links, sizeof(struct link) * DBT_MAX_LINKS);
    arena_unmap(d->tbs, sizeof(struct tb) * DBT_MAX_TBS);
    arena_unmap(d->insns, sizeof(struct insn) * DBT_MAX_INSNS);
    arena_unmap(d->peeks, sizeof(struct peek) * DBT_MAX_PEEKS);
    arena_unmap(d->stlb, sizeof(struct stlb_entry) * DBT_STLB);
    cache_unmap(d->trap, MEM_PAGE_SIZE);
    dbt_returns_fini(d);
    d->rw = d->rx = NULL;
    d->recs = NULL;
    d->links = NULL;
    d->tbs = NULL;
    d->insns = NULL;
    d->peeks = NULL;
    d->stlb = NULL;
    d->trap = NULL;
}

void dbt_cache_drop(struct dbt *d)
{
    d->counts.n[COUNT_DROPS]++;
    d->used = d->common_end;
    dbt_returns_reset_all(d);
    d->nr_recs = 0;
    d->nr_links = 1;
    memset(d->guesses, 0, sizeof(d->guesses));
    memset(d->guess_left, 0, sizeof(d->guess_left));
    memset(d->guess_never, 0, sizeof(d->guess_never));
    memset(d->guess_flags, 0, sizeof(d->guess_flags));
    d->nr_insns = 1;
    d->nr_tbs = 1;
    d->nr_peeks = 0;
    d->nr_loops = 1;
    memset(d->loops_good, 0, sizeof(d->loops_good));
    d->link = 0;
    memset(d->near_never, 0, sizeof(d->near_never));
    memset(d->near_larges, 0, sizeof(d->near_larges));
    memset(d->near_again, 0, sizeof(d->near_again));
    memset(&d->again, 0, sizeof(d->again));
    memset(d->frames, 0, sizeof(d->frames));
    for (unsigned i = 0; i < TLB_NR; i++) {
        dbt_jump_clear(d, i, 0);
        dbt_jumps_clear(d, i);
    }
}

bool dbt_cache_room(const struct dbt *d)
{
    return d->used + DBT_ROOM < d->options.cache &&
           DBT_MAX_RECS - d->nr_recs > 4 * BLOCK_MAX_OPS &&
           DBT_MAX_LINKS - d->nr_links > 4 * BLOCK_MAX_OPS && d->nr_tbs < DBT_MAX_TBS &&
           DBT_MAX_INSNS - d->nr_insns > BLOCK_MAX_OPS &&
           DBT_MAX_PEEKS - d->nr_peeks > DBT_TB_PEEKS;
}

const struct rec *dbt_cache_rec(const struct dbt *d, uint32_t offset)
{
    uint32_t low = 0, high = d->nr_recs;

    while (low < high) { /* first that starts behind offset */
        uint32_t mid = low + (high - low) / 2;

        if (d->recs[mid].start <= offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low == 0 ? NULL : &d->recs[low - 1];
}
