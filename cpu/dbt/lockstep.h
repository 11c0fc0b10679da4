/* SPDX-License-Identifier: MIT */
/*
 * Lockstep: what a translation is about to do is done by the interpreter first, one decoded
 * instruction after the other, with everything it stores kept in copies of the pages (shadows).
 * Then the translation runs for real, and registers, flags, vector state, fault and the stored
 * bytes are compared. docs/translator.md 3.10, docs/testing.md.
 */
#ifndef PVEMU_CPU_DBT_LOCKSTEP_H
#define PVEMU_CPU_DBT_LOCKSTEP_H

#include "engine.h"

enum {
    LOCKSTEP_PAGES = 160,   /* that one run may store to */
    LOCKSTEP_READS = 256,   /* inputs remembered */
    LOCKSTEP_INSNS = 4096,  /* in one run */
    LOCKSTEP_AHEAD = 3000,  /* in a guess, over several blocks */
    LOCKSTEP_TURNS = 8,     /* backward branches or changes of page in a guess */
    LOCKSTEP_TRIES = 3,     /* comparisons again, for what may be a race */
    LOCKSTEP_ALWAYS = 24,   /* runs of a block that are compared anyway */
    LOCKSTEP_CACHE = 1 << 14,
    LOCKSTEP_TRAIL = 64,    /* instructions shown */
    LOCKSTEP_REPORTS = 20,
    LOCKSTEP_SHARED = 64, /* pages that devices were seen to write to */
    LOCKSTEP_XSAVE = 832,
};

/* Everything that one side ends in. */
struct lockstep_side {
    uint64_t gpr[CPU_NR_GPR];
    uint64_t rip, rflags, gs_base, kernel_gs_base;
    uint32_t fl, request_mask;
    bool fault_pending;
    struct x86_fault fault;
    _Alignas(64) uint8_t xsave[LOCKSTEP_XSAVE];
};

struct lockstep_page {
    uint8_t *real, *now, *before;
    uint64_t written[MEM_PAGE_SIZE / 64]; /* bytes that were stored to */
};

struct lockstep_read {
    const uint8_t *at;
    uint64_t val;
};

struct lockstep_insn {
    const uint8_t *at;
    uint8_t bytes[16];
    bool foreign; /* not to be executed twice */
    struct insn in;
};

enum lockstep_stop {
    LOCKSTEP_END,     /* the guess: the end of the block, or well behind it */
    LOCKSTEP_MATCH,   /* where the translation is */
    LOCKSTEP_FAULT,
    LOCKSTEP_FOREIGN, /* a system instruction: only ever executed once */
    LOCKSTEP_ABORT,   /* MMIO, random numbers, too many pages */
    LOCKSTEP_FAR,     /* LOCKSTEP_INSNS */
};

struct lockstep {
    struct dbt *d;
    bool chain;   /* the translation may go on from block to block, up to the next poll */
    bool near;    /* stop where rip is the translation's, whatever the registers */
    uint64_t idle_rip; /* of the last run that did nothing; 0: it did something */
    bool locked;  /* a LOCKed instruction stored */
    bool alone;   /* other vCPUs stand still */
    bool aborted;
    unsigned nr_pages, nr_reads, nr_insns;
    unsigned nr_guessed; /* pages stored to before the translation ran */
    struct lockstep_page pages[LOCKSTEP_PAGES];
    struct lockstep_read reads[LOCKSTEP_READS];
    struct lockstep_insn *cache;
    struct lockstep_insn across; /* an instruction over a page boundary */
    uint64_t trail[LOCKSTEP_TRAIL];
    enum lockstep_stop stop;
    struct lockstep_side start, ref, bt;
    /* Status flags that the translation did not keep: nobody may look at them. */
    uint32_t lost, lost_used;
    uint64_t lost_rip, lost_at, lost_count;
    const uint8_t *shared[LOCKSTEP_SHARED];
    unsigned nr_shared;
    /* Differences another thread may be the reason of. */
    struct {
        uint64_t rip;
        uint32_t hits, runs;
    } suspects[1024];
    struct lockstep_runs {
        const struct block *block;
        uint32_t edition;
        uint32_t n;
    } *runs; /* of each struct tb */
    uint64_t compared, insns, skipped, unchecked, idle, races, differences;
};

/* lockstep_run.c: executes from the state in v->cpu on, until the block's end (*to NULL) or
 * until everything is as in *to. */
enum lockstep_stop lockstep_run(struct lockstep *l, const struct block *b,
                                const struct lockstep_side *to);
/* The shadows as they were before the first store. */
void lockstep_rewind(struct lockstep *l);
/* Is it code of the block, or of where its translation follows a jump (tr_follow.c)? */
bool lockstep_inside(const struct lockstep *l, const struct block *b, uint64_t rip);

static inline bool lockstep_written(const struct lockstep_page *p, unsigned byte)
{
    return (p->written[byte / 64] >> (byte % 64) & 1) != 0;
}

#endif
