/* SPDX-License-Identifier: MIT */
/*
 * The translator's own state and the seams between its files.
 *
 * While translated code runs, GS points at struct dbt and the guest's registers are in the
 * host's: each in the one of its own number, except that R9 holds RSP + interp.stack.addend
 * (where that page of the stack is on the host), and guest R9, R10 and R11 are in slot[]; R10
 * and R11 are scratch and RSP is the host's stack. The status flags
 * are in EFLAGS, in e->fl, or nowhere (dead), as the translator knows for every place.
 */
#ifndef PVEMU_CPU_DBT_ENGINE_H
#define PVEMU_CPU_DBT_ENGINE_H

#include "cpu/interp/engine.h"

#include "count.h"
#include "dbt.h"

enum { HOST_R9 = 9, HOST_R10 = 10, HOST_R11 = 11, HOST_STACK = HOST_R9 };
enum { TLB_ENTRY_SHIFT = 5 };
G_STATIC_ASSERT(sizeof(struct tlb_entry) == 1 << TLB_ENTRY_SHIFT);
enum { DBT_NEAR_BITS = 1 << 15, DBT_GROUPS = 16 };
enum { DBT_JUMPS = 1 << 16, DBT_FRAMES = 1 << 12 };
enum { DBT_GUESS_COUNTS = 1 << 12 };
enum { DBT_LOOPS = 1 << 14, DBT_LOOP_GROUPS = 6, DBT_LOOP_LIMITS = 2 };

enum { DBT_LAST_PAGE32 = 0xfffff }; /* of 4 GiB */
enum { DBT_GATE = 16 }; /* bytes of a gate in the guest's IDT */
enum { DBT_JUMP_NONE = DBT_JUMPS, DBT_JUMP_MANY };

/* Where to go on for a rip: entries `far`. Zeroes are empty (dbt_jump_nowhere()): pages that are not
 * used need no memory. */
struct dbt_jumps {
    uint64_t tag[DBT_JUMPS]; /* dbt_jump_tag() */
    uint64_t code[DBT_JUMPS];
};

/*
 * Translations of one block, one for each TLB it may run with. Entries, as offsets, 0: none:
 *     far   r10: rip; flags in e->fl      from tables; looks whether somebody wants something
 *     mem   gs:[page] is right; flags in e->fl
 *     host  the same; flags in EFLAGS
 * mem and host are the same where no flags are alive. [1] of them may be used by whom runs with
 * the vector state resident already, [2] by whom has checked the stack too.
 */
struct tb_code {
    uint32_t far, mem[3], host[3];
    uint32_t straddle;    /* the jump for a stack that lies over the end of a page */
    uint32_t plain;       /* the same without use of the cached stack page; 0: not made yet */
    int32_t low, high;    /* what is used of the stack, from RSP; the same: nothing */
    uint32_t in;          /* first of the links that lead here */
    uint32_t stale;       /* where `far` leads to while the translation is dead */
    uint8_t far_bytes[5]; /* what is there otherwise */
    uint32_t jump;        /* where in the table `far` is; DBT_JUMP_ .. */
    uint16_t loop;        /* in d->loops; 0: it has none */
};

struct tb {
    struct block *block;
    uint32_t edition; /* of the block when it was translated */
    uint32_t generation; /* of the frame, as long as it is not dead */
    uint32_t need;       /* classes of native instructions inside */
    uint32_t next;       /* in d->frames */
    uint32_t links;      /* the first of those that lead from it */
    bool dead;           /* nothing leads here until the code was compared again */
    uint8_t nr_peeks;    /* other code of the page that it was made from, too: */
    bool follows;        /* the first of these is part of it (tr_follow.c), */
    uint32_t peek;       /* in d->peeks */
    uint64_t peek_hash;
    /* Where its body may be written anew (rewrite.c); room 0: nowhere. */
    uint32_t body, body_recs; /* at an offset; its DBT_BODY_RECS in d->recs */
    uint16_t room;            /* bytes */
    uint8_t nr_body_recs;     /* of those in use */
    bool all_flags;           /* its entries bring the flags to EFLAGS */
    struct tb_code code[TLB_NR];
};

/* Sites that are to be looked at anew (near_again.c). */
enum { DBT_AGAIN = 64 };
struct dbt_again {
    uint64_t last; /* TSC of the last look for one */
    unsigned next, entries;
    struct dbt_again_site {
        struct block *block;
        uint16_t at; /* in its page */
        bool waits;
        uint64_t cycles, due; /* of the TSC: from when it was given up, and until */
    } site[DBT_AGAIN];
};

/* An instruction by the bytes that stand before displacement and immediate, as rewrite.c sees it. */
enum dbt_form_kind { DBT_FORM_OTHER, DBT_FORM_COPY, DBT_FORM_JCC, DBT_FORM_JMP, DBT_FORM_RET };
enum { DBT_FORM_BITS = 10, DBT_BODY_RECS = 4, DBT_BODY_UNIT = 64 };
struct dbt_form {
    uint32_t head;
    uint8_t kind, len, cond;
    uint8_t reads, kills; /* status flags */
    bool wide;            /* branches: a displacement of 32 bits */
};

struct peek {
    uint16_t at, len; /* in the page */
};

/* A guest instruction in translated code, or what is at its start before any instruction. */
struct rec {
    struct tb *tb;
    uint32_t start, end; /* its code, without stubs */
    uint32_t resume; /* the code behind it; 0: leave instead */
    uint32_t insn;   /* decoded, since it went slow: index into insns; 0: not yet */
    uint16_t ip;     /* offset in its page */
    bool host_flags; /* a fault finds the flags in EFLAGS */
    bool poll_flags; /* a poll does */
    bool group;      /* its check stands for later accesses */
};

/* stlb.c */
enum { DBT_STLB = 1 << 14 };
struct stlb_entry {
    uint64_t page, forgotten, addend; /* forgotten: interp.near.forgotten then */
    uint8_t shift;
    bool global, write;
};

/* view.c: regions of programs, mapped once more in the guest's order. */
enum { DBT_VIEWS = 16, DBT_VIEW_SHIFT = 25, DBT_VIEW_PAGES = 1 << (DBT_VIEW_SHIFT - 12) };
struct dbt_view {
    uint64_t space, region;         /* of what; the guest's addresses >> DBT_VIEW_SHIFT */
    uint64_t used, emptied;         /* when last: dbt_views.clock, 0: never; interp.near.emptied */
    uint32_t mapped;                /* pages */
    uint32_t frame[DBT_VIEW_PAGES]; /* + 1; 0: nothing is mapped there */
};
struct dbt_views {
    uint8_t *base; /* on the host, all behind each other; NULL: none yet */
    bool refused;  /* by the host */
    uint32_t credit;
    uint64_t clock;
    struct dbt_view view[DBT_VIEWS];
};

/* A loop at the start of a translation (tr_loop.c), and what its first iterations were like. */
struct dbt_loop {
    uint32_t entry; /* for the branch back to the start */
    int16_t by;     /* reg changes by that, or by by_reg */
    uint8_t reg, by_reg;
    uint8_t seen, runs; /* branches back, and how many of these came first */
    bool quick;         /* its head is short */
    bool open;          /* others may lead to the head, too */
    bool known, good;   /* good: it is worth its head, or once was */
    uint64_t next;      /* reg, if the next branch belongs to the same run */
};

/* A direct branch within its page. */
struct link {
    struct tb *tb;
    uint32_t patch;  /* of the 32-bit displacement, */
    uint32_t stub;   /* which leads here while the target has no code */
    uint32_t sibling; /* from the same translation; 0: no more */
    uint32_t target;  /* the translation that has it in its list; 0: none */
    uint32_t next;    /* in that */
    uint16_t to;     /* offset in the page */
    uint8_t index;   /* enum tlb_index */
    bool host;       /* flags are in EFLAGS */
    bool loop;       /* back to the start of its translation */
    bool linked;
    uint32_t vector; /* classes that are allowed and resident there */
    int32_t low, high; /* what of the stack is in the cached page, from RSP there */
    /* A guess (guess.c): a branch (at `to`) to anywhere, while r10 is the tag of one rip. */
    uint32_t site;   /* its code, */
    uint32_t tag;    /* that tag */
    uint32_t page;   /* and the page of that rip; 0: a direct branch, for which the tag is that */
    int32_t by;      /* of its own page, which is so far before that rip */
    uint8_t compare; /* the operands of its CMP */
    bool listed;     /* in d->guesses */
    bool flagless;   /* nobody has the flags there */
    uint8_t others;  /* translations that it led to before */
    uint32_t next_guess;
};

/* A fault or interrupt that is to be delivered by emitted code (transit_emit.c). */
struct dbt_event {
    uint64_t gate, known; /* where its gate is: in the IDT, in interp.known.gate */
    uint64_t bytes;       /* of its frame */
    uint64_t error, cr2;  /* cr2: what it is then */
    uint64_t raises;      /* flags that are set in the frame */
    const void *refused;  /* who does it if that code does not, as for tr_call_c() */
};

struct dbt {
    struct interp interp; /* first: v->engine */
    /* Addressed by translated code. */
    uint64_t slot[3]; /* guest R9, R10, R11 */
    uint64_t page;    /* guest address of the page that runs */
    uint64_t seg_base[2]; /* FS, GS */
    uint64_t tmp, target, keep;
    uint64_t region_at, region_span; /* what is looked up while common_region runs */
    uint64_t redo_keep[2]; /* r10 and r11 of a stub that makes flags anew */
    uint64_t redo_operand; /* what a shift has overwritten, whose flags may be wanted (tr_flags.c) */
    uint64_t sp, c_sp; /* the stack of returns (returns.c), and C's, while RSP is the other */
    uint64_t jump_at;  /* of this TLB in jumps */
    struct dbt *self;
    uint32_t low; /* where this is, as in struct emit */
    uint32_t link, rec, guess;
    uint32_t guess_left[DBT_GUESS_COUNTS]; /* misses until it is looked at, by number of link */
    uint64_t near_keep, near_what, near_first;
    uint64_t transit_rax, transit_rcx, transit_rdx, transit_next; /* transit_emit.c */
    struct dbt_event event;
    bool delivered; /* an interrupt */
    uint64_t addends[DBT_GROUPS]; /* of checks that stand for several accesses (tr_group.c) */
    uint64_t loop_addend[DBT_LOOP_GROUPS], loop_limit[DBT_LOOP_LIMITS], loop_at;
    uint32_t other_misses; /* as interp_near.misses, of accesses beside the page of the stack */
    const void *helper; /* tr_call_c() */
    struct dbt_jumps jumps[TLB_NR];

    uint16_t jump_used[TLB_NR][DBT_JUMPS];
    uint32_t nr_jump_used[TLB_NR];
    bool jump_local[TLB_NR]; /* has entries that are good in one address space only */
    uint64_t jump_epoch[TLB_NR], jump_epoch_global[TLB_NR];

    unsigned index;      /* enum tlb_index of interp.stack and sp */
    uint8_t mode[TLB_NR]; /* of who used its stack of returns and page of the stack last */
    uint64_t sps[TLB_NR]; /* with the other TLBs */
    uint8_t *returns;     /* the stacks of returns */
    bool no_returns;      /* they cannot be used */
    bool quick_loop;      /* the host's LOOP is as quick as other branches */
    bool seg_odd[2];      /* FS, GS: not a flat one with a base, for 32-bit code */
    uint64_t stack_base; /* interp.stack.base as translated code has checked it */

    unsigned near_next;                      /* slot to be given out */
    uint64_t near_since[2 * NEAR_SLOTS + 1]; /* TSC when misses was started, */
    uint16_t near_count[2 * NEAR_SLOTS + 1]; /* and how many they are to be */
    uint64_t near_never[DBT_NEAR_BITS / 64]; /* sites that miss too often */
    uint64_t near_runs[DBT_NEAR_BITS / 64];  /* that do so in runs of pages */
    uint64_t near_larges[DBT_NEAR_BITS / 64]; /* that do so in large pages */
    uint64_t near_views[DBT_NEAR_BITS / 64]; /* that do so in scattered pages */
    uint64_t near_narrow[DBT_NEAR_BITS / 64]; /* that are to stand for what is close by only */
    uint64_t near_apart[DBT_NEAR_BITS / 64];  /* that are to stand for no others */
    uint64_t near_again[DBT_NEAR_BITS / 64];  /* that were looked at anew */
    struct dbt_again again;
    bool large_pages; /* some were met by user code */
    struct interp_run near_alone; /* one page that is in no run */
    struct dbt_views views;
    struct stlb_entry *stlb; /* DBT_STLB of them */
    uint64_t apart_since;
    unsigned aparts;
    uint64_t forgotten; /* interp.near.forgotten before a C function that may change it */

    struct dbt_options options;
    struct lockstep *lockstep; /* NULL: off */
    bool comparing;            /* the run that is on: it must come back soon */
    uint32_t *trap;   /* a page that is not mapped: interp.poll_stop */
    uint32_t go;      /* interp.poll_go */
    uint64_t shake_state;
    struct dbt_counts counts;
    const char *why; /* translated code was left, for -d exits; NULL: see dbt_trace_exit() */
    int perf;        /* the map for perf; -1: none */
    uint8_t *rw, *rx; /* the cache, writable here and executable there */
    uint32_t used, common_end;
    uint32_t common_go, common_again, common_enter, common_exit, common_slow, common_fpu, common_miss, common_c, common_jump,
        common_stack, common_guess, common_often;
    uint32_t common_return[2], common_bottom[2]; /* [1]: for 32-bit code */
    uint32_t common_page[TLB_NR][2], common_far[TLB_NR][2][2], common_near[2], common_near_run, common_region[TLB_NR],
        common_near_c, common_arrive, common_syscall, common_sysret,
        common_iret, common_deliver[TLB_NR]; /* by who is interrupted; 0: by C */
    struct rec *recs;
    uint32_t nr_recs;
    struct link *links;
    uint32_t nr_links; /* link 0 is none */
    uint32_t guesses[TLB_NR]; /* the first of those to be taken back with the table of jumps */
    uint64_t guess_never[DBT_NEAR_BITS / 64]; /* sites that lead to several */
    uint64_t guess_flags[DBT_NEAR_BITS / 64]; /* that lead to where flags are looked at */
    struct insn *insns;
    uint32_t nr_insns; /* insn 0 is for when they are used up */
    struct tb *tbs;
    uint32_t nr_tbs; /* tb 0 is none */
    struct peek *peeks;
    uint32_t nr_peeks;
    struct dbt_loop loops[DBT_LOOPS];
    unsigned nr_loops; /* loop 0 is none */
    uint64_t loops_good[DBT_NEAR_BITS / 64]; /* by site: was once */
    struct dbt_form forms[1 << DBT_FORM_BITS];
    uint8_t head[256], head_0f[256]; /* bytes of the form, but for REX, by the opcode; 0: unknown */
    uint32_t frames[DBT_FRAMES]; /* translations by frame */
    _Atomic uint64_t changed[DBT_FRAMES / 64]; /* others wrote to one of these */
};

enum {
    DBT_CACHE = 64 << 20,
    DBT_HOT = 12,
    DBT_ROOM = 128 << 10, /* of one translation, at most */
    DBT_RETURNS = 32 << 10, /* stack of returns, besides a page below */
    DBT_MAX_RECS = 3 << 20,
    DBT_MAX_LINKS = 1 << 20,
    DBT_MAX_TBS = 1 << 19,
    DBT_MAX_INSNS = 1 << 19,
    DBT_MAX_PEEKS = 1 << 20,
    DBT_PEEKS = 16, /* of one translation */
    DBT_TB_PEEKS = 2 * TLB_NR * DBT_PEEKS, /* of all of a block's */
    DBT_REC_WRITE = 1 << 30, /* in d->rec of a TLB miss: for a tag that allows stores */
    DBT_REC_LOAD = 1 << 29, /* the same, by a load: if there is one without asking for it */
    DBT_REC_NUMBER = DBT_REC_LOAD - 1,
};

static inline struct dbt *dbt_of(struct interp *e)
{
    return (struct dbt *)(void *)e;
}

/* What stands for a rip in a table; translated code computes it by itself (tr_jump_salt()).
 * User programs at the same addresses neither meet each other's entries nor stand in their way,
 * and those of an address space that is come back to are good again. */
static inline uint64_t dbt_jump_tag(const struct dbt *d, unsigned index, uint64_t rip)
{
    const struct interp *e = &d->interp;

    return e->mode == MODE_64 ? rip ^ e->key64[index] : (uint32_t)rip ^ e->key32[index];
}

/* Functions are aligned to 16 as a rule: those that are neighbours share cache lines, in both
 * arrays, and none are in each other's way within 1 MiB. */
enum { DBT_JUMP_HASH = 0x10001000 };
static inline unsigned dbt_jump_slot(uint64_t tag)
{
    G_STATIC_ASSERT(DBT_JUMPS == 1 << 16);
    return (uint32_t)tag * (uint32_t)DBT_JUMP_HASH >> 16;
}

static inline unsigned dbt_frame_slot(uint32_t frame)
{
    return (frame ^ frame >> 12) & (DBT_FRAMES - 1);
}

/* Of an instruction, for bit sets of DBT_NEAR_BITS. */
static inline unsigned dbt_site_bit(uint32_t frame, unsigned at)
{
    return ((frame << 12 | at) * 0x9e3779b1u) >> 17;
}

/* A rip that belongs elsewhere, so that none matches. */
static inline uint64_t dbt_jump_nowhere(unsigned slot)
{
    return slot == 0 ? MEM_PAGE_SIZE : 0;
}

static inline void dbt_jump_clear(struct dbt *d, unsigned index, unsigned slot)
{
    d->jumps[index].tag[slot] = dbt_jump_nowhere(slot);
    d->jumps[index].code[slot] = 0;
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
/* dbt_jump_slot() of r10 to r11. */
struct emit;
void dbt_jump_slot_emit(struct emit *c);
/* A register: a rip to dbt_jump_tag() of it, and back. Changes flags. */
void dbt_jump_salt_emit(struct emit *c, unsigned index, unsigned reg, bool code32);
/* transit_emit.c: the part of that for changes of privilege. */
void dbt_transit_emit(struct dbt *d, struct emit *c);

/* lockstep.c: around a run of a translation. */
void dbt_lockstep_init(struct dbt *d);
void dbt_lockstep_fini(struct dbt *d);
/* Is this run to be compared (d->comparing)? Then other vCPUs stand still until _after() or _leave(). */
void dbt_lockstep_choose(struct dbt *d, const struct tb *t);
void dbt_lockstep_leave(struct dbt *d);
void dbt_lockstep_before(struct dbt *d, const struct tb *t);
void dbt_lockstep_after(struct dbt *d, const struct tb *t);
/* A system instruction that lockstep can do twice? */
bool dbt_lockstep_knows(const struct insn *in);
/* May translated code go there, and from there, without C? */
bool dbt_lockstep_free(const struct dbt *d, const struct tb *t);
static inline bool dbt_free(const struct dbt *d, const struct tb *t)
{
    return !d->options.no_jumps && (d->lockstep == NULL || dbt_lockstep_free(d, t));
}

/* stress.c: before a block is entered, with options.shake or options.relink. */
void dbt_stress(struct dbt *d, struct block *b);

/* trace.c: a translation from `start` to d->used was made; one was left. */
void dbt_trace_translation(struct dbt *d, const struct tb *t, uint32_t start, unsigned insns,
                           unsigned bytes);
void dbt_trace_exit(struct dbt *d, const struct tb *t);
char *dbt_stats(struct vcpu *v);
void dbt_trace_init(struct dbt *d);
void dbt_trace_perf(struct dbt *d);
void dbt_trace_fini(struct dbt *d);

/* translate.c: fills b's translation for the current TLB. false: cannot be done. */
bool dbt_translate(struct dbt *d, struct tb *t, unsigned index);
/* Fills in `plain` of one that is there. */
void dbt_translate_plain(struct dbt *d, struct tb *t, unsigned index);

/* rewrite.c: for struct interp. */
bool dbt_rewrite(struct interp *e, struct block *b);
/* rewrite_make.c: what is at `bytes` (15 of them), which have that head. */
void dbt_form_learn(struct dbt_form *f, uint32_t head, const uint8_t *bytes);
void dbt_forms_init(struct dbt *d);
/* A translation, dead so far, without its body. There is room in the cache. */
struct dbt_body {
    unsigned size;
    bool all_flags, stack; /* flags matter before it; it uses [RSP] */
};
struct tb *dbt_rewrite_make(struct dbt *d, struct block *b, unsigned index,
                            const struct dbt_body *body);

/* guess.c */
/* Called by translated code at link d->guess, which led elsewhere than to rip. Always true. */
bool dbt_guess(struct dbt *d, uint64_t rip);
/* It leads nowhere for now. */
void dbt_guess_undo(struct dbt *d, struct link *l);
/* The same, since its target is gone; died: not because it is translated in another way. */
void dbt_guess_gone(struct dbt *d, struct link *l, bool died);
/* All of this TLB do so. */
void dbt_guesses_undo(struct dbt *d, unsigned index);

/* links.c: of the code that a translation peeked at. */
uint64_t dbt_peek_hash(const struct dbt *d, const struct tb *t);

/* links.c: from one translation to the next. */
/* The branch that led out of translated code goes to this one from now on. */
void dbt_link(struct dbt *d, struct tb *t, unsigned index);
/* Which of its entries (struct tb_code) a link may use: what it has checked need not be again. */
unsigned dbt_link_entry(const struct link *l, const struct tb *t, const struct tb_code *code);
/* It is in the list of l->target no more. */
void dbt_link_leave(struct dbt *d, struct link *l);
/* For a stress: all links, guesses, returns and entries of tables that lead to a living translation
 * or from it are undone. */
void dbt_relink(struct dbt *d, struct tb *t);
/* A living translation is known by its frame. */
void dbt_tb_add(struct dbt *d, struct tb *t);
void dbt_tb_kill(struct dbt *d, struct tb *t);
/* Has its page changed while it was being translated? Then bytes may have been looked at that were
 * written to before the frame was watched, and it is not to be used. */
bool dbt_tb_outdated(struct dbt *d, struct tb *t);
/* It is translated in another way from now on. It may be dead. */
void dbt_tb_renew(struct dbt *d, struct tb *t);
/* Dead, but its block was found unchanged. false: it cannot be used any more. */
bool dbt_tb_revive(struct dbt *d, struct tb *t);
/* The entry `far` is as it was made. */
void dbt_jump_back(struct dbt *d, const struct tb_code *code);
/* The hooks of struct interp and of core/memory. */
void dbt_code_written(struct interp *e, uint32_t frame);
void dbt_code_changed(struct interp *e);
unsigned dbt_code_live(const struct interp *e, uint32_t frame);
void dbt_code_watch(void *opaque, uint32_t frame);
/* The tables of jumps: after changes of page tables; all of one; by rip. */
void dbt_jumps_check(struct dbt *d, unsigned index);
void dbt_jumps_clear(struct dbt *d, unsigned index);
void dbt_jump_add(struct dbt *d, unsigned index, uint64_t rip, struct tb_code *code);
/* The translation at a rip for this TLB, which is the current one, or NULL. */
struct tb *dbt_find(struct dbt *d, unsigned index, uint64_t rip);

/* run.c: called by translated code. Where to go on, or NULL: leave. */
const void *dbt_slow(struct dbt *d, uint32_t rec);
const void *dbt_fpu(struct dbt *d, uint32_t rec);
/* returns.c */
bool dbt_returns_init(struct dbt *d);
void dbt_returns_fini(struct dbt *d);
/* None of the returns of this TLB, or of all, is good any more. */
void dbt_returns_reset(struct dbt *d, unsigned index);
void dbt_returns_reset_all(struct dbt *d);
/* Where the stack of this TLB is when nothing is on it but common_bottom. */
uint64_t dbt_returns_top(const struct dbt *d, unsigned index);
/* A fault at this host address comes from a full stack. */
bool dbt_returns_full(const struct dbt *d, uint64_t address);
/* Called by translated code: the RET of rec led to d->keep. */
const void *dbt_return(struct dbt *d, uint32_t rec);
/* stack.c: what translation number * TLB_NR + index uses is not in the cached page. */
const void *dbt_stack(struct dbt *d, uint32_t number);
/* The vCPU runs with this TLB now. */
void dbt_stack_switch(struct dbt *d, unsigned index);
/* And with code of another mode than it did there: neither returns nor the page are for that. */
void dbt_stack_mode(struct dbt *d);
/* Translated code needs a tag for `page`, for the access of d->rec. true: now it is there. */
bool dbt_ask(struct dbt *d, uint64_t page, bool write);
/* stlb.c: puts an entry for the page into the current TLB if it can; true: there is one. And takes
 * over what is there. */
bool dbt_stlb_find(struct dbt *d, uint64_t page, bool write);
void dbt_stlb_add(struct dbt *d, uint64_t page);
/* No TLB tag for `page`: slot, as an offset into the entries, is the one that was looked at.
 * true: now it is there. */
bool dbt_miss(struct dbt *d, uint64_t page, uint32_t slot);
/* near.c: accesses that look into interp.near. How is the one at an offset in a frame to? */
enum dbt_near_how { NEAR_NEVER, NEAR_PAGE, NEAR_RUN, NEAR_VIEW, NEAR_LARGE };
enum dbt_near_how dbt_near_how(const struct dbt *d, uint32_t frame, unsigned at);
/* How many bytes may its check stand for, of `most` that make sense? */
unsigned dbt_near_whole(const struct dbt *d, uint32_t frame, unsigned at, unsigned most);
void dbt_near_init(struct dbt *d);
/* A slot, of 2 * NEAR_SLOTS, is given to a site of a translation in the making. */
void dbt_near_given(struct dbt *d, uint32_t frame, unsigned at, unsigned slot);
/* Nothing is known of the site any more. */
void dbt_near_unlearn(struct dbt *d, uint32_t frame, unsigned at);
/* near_again.c: a site of the block looks in one of the slow ways from now on. */
void dbt_near_given_up(struct dbt *d, struct block *b, unsigned at);
/* Is it time to look at one of those anew? No translated code is running. */
void dbt_near_again(struct dbt *d);
/* The interpreter does what such an access was to do, d->rec. */
void dbt_near_apart(struct dbt *d);
/* A check, in one word: `size` bytes are to be in the slot; the access itself begins at that of
 * them which is number `at`. */
struct dbt_near_what {
    uint32_t place; /* of the slot in struct dbt; the first one where the address chooses it */
    uint16_t size, at;
    bool load;  /* the access itself writes nothing, whatever the slot is for */
};
static inline uint64_t dbt_near_word(const struct dbt_near_what *w)
{
    return w->place | (uint64_t)w->size << 32 | (uint64_t)w->at << 48 |
           (uint64_t)w->load << 63;
}
static inline struct dbt_near_what dbt_near_split(uint64_t word)
{
    return (struct dbt_near_what){.place = (uint32_t)word, .size = (uint16_t)(word >> 32),
                                  .at = (uint16_t)(word >> 48 & 0x7fff), .load = word >> 63 != 0};
}
/* Called by translated code for the access of d->rec: the bytes from `first` on are not in the
 * slot. true: now they are. false: the interpreter does it. */
bool dbt_near(struct dbt *d, uint64_t first, uint64_t what);
/* Called by translated code when the counter at a place in *d has run out, or other_misses, by
 * the access of d->rec. Always true. */
bool dbt_near_often(struct dbt *d, uint64_t unused, uint32_t place);
/* view.c: one more miss; mappings are paid with them. */
void dbt_view_miss(struct dbt *d);
/* A site is looked at anew: some mappings are paid. */
void dbt_view_credit(struct dbt *d);
/* Does the current program's view show the page at guest address gva, which is at hva on the
 * host, or can it be made to? gva + *addend is where. Takes no slot or run away. */
bool dbt_view_show(struct dbt *d, uint64_t gva, const void *hva, uint64_t *addend);
void dbt_view_fini(struct dbt *d);
/* Called at the entry `far` of a translation that is dead, of rip. true: d->target is its code. */
bool dbt_again(struct dbt *d, uint64_t rip);
/* No entry in the table for rip. true: now there is. */
bool dbt_jump(struct dbt *d, uint64_t rip);
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
/* What translated code has copies of (the page of the stack, segment bases) may have changed. */
void dbt_refresh(struct dbt *d);
/* calls.c: for tr_call_c(), a system instruction. */
const void *dbt_system(struct dbt *d, uint32_t rec);
/* Called by translated code, which is at guest address d->keep. */
const void *dbt_arrive(struct dbt *d, uint32_t unused);
/* e->fault of the instruction at cpu.rip is delivered, if that is easy. Where to go on. */
const void *dbt_fault(struct dbt *d);
/* At code of t, whose state may have been brought home. NULL: leave. */
const void *dbt_resume(struct dbt *d, const struct tb *t, uint32_t code);
/* calls.c: for struct interp, an interrupt. */
bool dbt_take(struct interp *e, uint8_t vector);
bool dbt_deliver(struct interp *e);
/* run.c: from C, at cpu.rip, to code at an offset in the cache. */
void dbt_enter(struct dbt *d, uint32_t code);
struct block *dbt_entry(struct vcpu *v, struct op *op, struct interp *e);

#endif
