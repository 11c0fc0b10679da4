/* SPDX-License-Identifier: MIT */
/*
 * The translator's own state and the seams between its files.
 *
 * While translated code runs, GS points at struct dbt and the guest's registers are in the
 * host's: each in the one of its own number, except that guest RSP is in R9, and guest R9, R10
 * and R11 are in slot[]; R10 and R11 are scratch and RSP is the host's stack. The status flags
 * are in EFLAGS, in e->fl, or nowhere (dead), as the translator knows for every place.
 */
#ifndef PVEMU_CPU_DBT_ENGINE_H
#define PVEMU_CPU_DBT_ENGINE_H

#include "cpu/interp/engine.h"

#include "dbt.h"

enum { HOST_R9 = 9, HOST_R10 = 10, HOST_R11 = 11, HOST_RSP_HOME = HOST_R9 };
enum { DBT_JUMPS = 1 << 14 };

/* Where to go on for a rip of the current address space. */
struct dbt_jump {
    uint64_t rip, code;
};

/* Translations of one block, one for each TLB it may run with: offsets, 0: none. */
struct tb_code {
    uint32_t host, mem;  /* entries: with the flags in EFLAGS, in e->fl */
    uint32_t generation; /* where the code has the generation of the frame */
};

struct tb {
    const struct op *ops; /* of the block when it was translated */
    struct block *block;
    uint32_t generation;
    uint32_t need; /* classes of native instructions inside */
    struct tb_code code[TLB_NR];
};

/* A guest instruction in translated code. */
struct rec {
    struct tb *tb;
    uint32_t start, end; /* its code, without stubs */
    uint32_t resume; /* the code behind it; 0: leave instead */
    uint32_t insn;   /* decoded, since it went slow: index into insns; 0: not yet */
    uint16_t ip;     /* offset in its page */
    bool host_flags; /* a fault finds the flags in EFLAGS */
};

/* A direct branch within its page that has not met its target yet. */
struct link {
    struct tb *tb;
    uint32_t patch; /* of the 32-bit displacement */
    uint16_t to;    /* offset in the page */
    uint8_t index;  /* enum tlb_index */
    bool host;      /* flags are in EFLAGS */
};

struct dbt {
    struct interp interp; /* first: v->engine */
    /* Addressed by translated code. */
    uint64_t slot[3]; /* guest R9, R10, R11 */
    uint64_t page;    /* guest address of the page that runs */
    uint64_t seg_base[2]; /* FS, GS */
    uint64_t tmp, target;
    struct dbt *self;
    uint32_t link, rec;
    const void *helper; /* tr_call_c() */
    struct dbt_jump jumps[TLB_NR][DBT_JUMPS];

    uint16_t jump_used[TLB_NR][DBT_JUMPS];
    uint32_t nr_jump_used[TLB_NR];
    bool jump_local[TLB_NR]; /* has entries that are good in one address space only */
    uint64_t jump_epoch[TLB_NR], jump_epoch_global[TLB_NR];

    struct dbt_options options;
    struct lockstep *lockstep; /* NULL: off */
    uint8_t *rw, *rx; /* the cache, writable here and executable there */
    uint32_t used, common_end;
    uint32_t common_enter, common_exit, common_slow, common_fpu, common_miss, common_c;
    struct rec *recs;
    uint32_t nr_recs;
    struct link *links;
    uint32_t nr_links; /* link 0 is none */
    struct insn *insns;
    uint32_t nr_insns; /* insn 0 is for when they are used up */
    struct tb *tbs;
    uint32_t nr_tbs;
};

enum {
    DBT_CACHE = 64 << 20,
    DBT_HOT = 12,
    DBT_ROOM = 128 << 10, /* of one translation, at most */
    DBT_MAX_RECS = 3 << 20,
    DBT_MAX_LINKS = 1 << 20,
    DBT_MAX_TBS = 1 << 19,
    DBT_MAX_INSNS = 1 << 18,
    DBT_REC_WRITE = 1 << 30, /* in d->rec of a TLB miss */
};

static inline struct dbt *dbt_of(struct interp *e)
{
    return (struct dbt *)(void *)e;
}

static inline unsigned dbt_jump_slot(uint64_t rip)
{
    return (unsigned)(rip ^ rip >> 12) & (DBT_JUMPS - 1);
}

/* With a rip that belongs elsewhere, so that none matches. */
static inline void dbt_jump_clear(struct dbt *d, unsigned index, unsigned slot)
{
    d->jumps[index][slot] = (struct dbt_jump){slot ^ DBT_JUMPS / 2, 0};
}

/* cache.c */
bool dbt_cache_init(struct dbt *d, GError **err);
void dbt_cache_fini(struct dbt *d);
void dbt_cache_drop(struct dbt *d);
/* Room for one more translation? */
bool dbt_cache_room(const struct dbt *d);
/* The instruction whose code is at this offset, or NULL. */
const struct rec *dbt_cache_rec(const struct dbt *d, uint32_t offset);

/* common.c: code that all translations share, at the start of the cache. */
void dbt_common_emit(struct dbt *d);

/* lockstep.c: around a run of a translation. */
void dbt_lockstep_init(struct dbt *d);
void dbt_lockstep_fini(struct dbt *d);
void dbt_lockstep_before(struct dbt *d, const struct tb *t);
void dbt_lockstep_after(struct dbt *d, const struct tb *t);

/* translate.c: fills b's translation for the current TLB. false: cannot be done. */
bool dbt_translate(struct dbt *d, struct block *b, struct tb *t, unsigned index);

/* run.c: called by translated code. Where to go on, or NULL: leave. */
const void *dbt_slow(struct dbt *d, uint32_t rec);
const void *dbt_fpu(struct dbt *d, uint32_t rec);
/* No TLB tag for `page`: slot, as an offset into the entries, is the one that was looked at.
 * true: now it is there. */
bool dbt_miss(struct dbt *d, uint64_t page, uint32_t slot);
/* Fills the current TLB for a data access to the page at va, without side effects other than A
 * and D. false: it got no tag (a fault, MMIO, code): the interpreter sorts it out. */
bool dbt_fill(struct dbt *d, uint64_t va, bool write);

/*
 * For C functions called by tr_call_c() (translate.h). dbt_home() comes first: from then on
 * cpu.rip is that of the instruction and e->current its block. They end with one of
 *     return dbt_next(d, rec);  the next instruction; cpu.rip does not matter
 *     return dbt_go(d);         at cpu.rip, whatever has changed
 *     return NULL;              leave: the interpreter goes on at cpu.rip (e->fault_pending
 *                               and e->fault: a fault of this instruction)
 */
struct interp *dbt_home(struct dbt *d, uint32_t rec);
const struct insn *dbt_insn(struct dbt *d, uint32_t rec);
const void *dbt_next(struct dbt *d, uint32_t rec);
const void *dbt_go(struct dbt *d);
struct block *dbt_entry(struct vcpu *v, struct op *op, struct interp *e);

#endif
