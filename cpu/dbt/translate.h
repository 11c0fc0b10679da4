/* SPDX-License-Identifier: MIT */
/* A translation in the making: translate.c, memory.c and flow.c. */
#ifndef PVEMU_CPU_DBT_TRANSLATE_H
#define PVEMU_CPU_DBT_TRANSLATE_H

#include "engine.h"

#include "emit.h"
#include "insn.h"

#define TR_GS(field) offsetof(struct dbt, field)

/* Where the guest's status flags are. REDO: nowhere, but in the registers they came from. */
enum loc { LOC_DEAD, LOC_MEM, LOC_HOST, LOC_REDO };

/* Jumps out of the straight line, whose code follows the block. */
enum fix_kind {
    FIX_SLOW,  /* the interpreter executes `rec` */
    FIX_MISS,  /* the TLB is filled for `rec` and the check (at `to`) is made again */
    FIX_JUMP,  /* so is the table of jumps */
    FIX_REGION, /* a load that is not in its region: to is tr_region()'s */
    FIX_GUESS, /* a branch that does not lead to where was guessed: guess[to] */
    FIX_STACK, /* another page of the stack is to be cached */
    FIX_NEAR,  /* another page is to be the one of near[to] */
    FIX_OTHER, /* an access is not in the page of the stack: other[to] */
    FIX_FPU,   /* the vector state is wanted, then `rec` */
    FIX_LINK,  /* to an offset in the page */
    FIX_BACK,  /* the same, behind a call that has returned */
    FIX_FAR,   /* to an offset from the page outside it */
    FIX_LEAVE, /* to an offset in the page, by the interpreter */
    FIX_EXIT,  /* the same, where r10 has the tag */
};

enum { TR_SP_UNKNOWN = INT32_MIN };

struct fixup {
    uint32_t at, rec;
    enum fix_kind kind;
    enum loc loc;
    uint8_t live; /* flags that matter there */
    int32_t sp;
    bool loop; /* a link back to where the translation begins, which is a loop */
    const struct insn *redo;
    uint64_t to;
};

/* Conditions, as in Jcc (SDM vol. 2 B.1.4.7). */
enum { JO = 0, JB = 2, JAE = 3, JNE = 5, JA = 7, JL = 12, JGE = 13, JLE = 14, JG = 15, JCC_NOT = 1 };

/* memory.c */
struct tr_operand {
    uint8_t base, index, scale, seg; /* as in struct insn */
    int64_t disp;
    unsigned size;
    bool write, locked;
    bool bits;    /* the operand is beyond that by a bit offset, which is */
    uint8_t bit;  /* in this register */
};

/* Is it in a segment with a base of its own? */
static inline bool tr_based(const struct tr_operand *op)
{
    return op->seg == CPU_FS || op->seg == CPU_GS;
}

/* tr_near.c: a slot of interp.near, and who uses it in a block. */
struct tr_slot {
    uint8_t base, index;
    bool own; /* of a group: not for others */
    enum dbt_near_how how;
    uint16_t slot;
};

/* An access by a slot. */
struct tr_near {
    uint32_t retry;  /* where its check is */
    bool large;      /* r10 says which slot, of those from there on */
    uint8_t lent;    /* as in struct tr: r10 is to have it again */
    uint32_t common; /* the code that finds what it wants */
    struct dbt_near_what what;
};

/* tr_group.c: accesses like the first are checked, from displacement low to high. */
struct tr_group {
    struct tr_operand first;
    int64_t low, high;
    bool write; /* some are stores */
    size_t addend; /* where that is, in struct dbt */
    bool host;     /* it is the host address of `low` */
    bool brief;    /* the next instruction is the last that uses it: only `at` says where */
    bool held;     /* and r11 is still what the last one used: displacement 0 is at `at` */
    struct emit_mem at;
};

/* An access that may be in the page of the stack; where it goes on with its host address. */
struct tr_other {
    struct tr_operand op;
    uint32_t back;
};

/* A branch whose target is guessed. */
struct tr_guess {
    uint32_t link;
    bool leave;            /* where no code is known: it is no instruction */
    bool direct;
    const struct insn *in; /* of a call; NULL: a jump */
    int64_t to, back;      /* offsets from the page; to: of a direct call */
    uint32_t landing;
};

struct tr {
    struct dbt *d;
    struct block *b;
    struct tb *t;
    unsigned index; /* enum tlb_index */
    unsigned word;  /* bytes of an address and of a place on the stack: 8; of 32-bit code 4 */
    struct emit c;
    unsigned nr, nr_fix;
    uint16_t bytes; /* of source that are translated */
    unsigned own;   /* instructions that are in them; others stand where a jump leads (tr_follow.c) */
    unsigned end;   /* offset in the page behind the last instruction */
    struct tr_loop *loop; /* at its start (tr_loop.c); NULL: none */
    unsigned loop_nr, loop_fix; /* instructions of it, and the fixup of the last one */
    bool in_loop;   /* its fast body is being written */
    bool foreign;   /* and then comes one that is the interpreter's */
    bool plain;     /* nothing is known about the stack */
    int32_t low, high; /* what is checked of it, from RSP at the start */
    uint32_t straddle; /* as in struct tb_code */
    /* The current instruction: */
    unsigned number; /* in insn */
    bool alone; /* where the interpreter does it, what is behind is not to be gone on with */
    uint32_t rec;
    uint16_t ip;
    int32_t sp; /* RSP, from that at the start */
    int32_t lag; /* the same, from R9 */
    bool lags;   /* the current instruction may leave R9 behind */
    enum loc loc;
    const struct insn *redo; /* its flags are the guest's and can be had again; NULL: none */
    bool may_redo; /* while the current instruction goes on */
    const struct insn *kept; /* a shift whose operand is in d->redo_operand; NULL: none */
    bool polled; /* on the way from the start to here */
    bool keeps_r11; /* the current instruction's code does */
    bool uses_r10;  /* so far it has */
    uint8_t lent;   /* the guest register that is in r10, too; INSN_NO_REG: none */
    bool fault_host; /* a fault of it finds the flags in EFLAGS */
    uint8_t live, live_after; /* flags that matter before it, behind it */
    struct insn_status status;
    struct insn insn[BLOCK_MAX_OPS];
    uint16_t at[BLOCK_MAX_OPS];     /* offsets in the page */
    int32_t sps[BLOCK_MAX_OPS + 1]; /* of each */
    uint8_t live_before[BLOCK_MAX_OPS + 1]; /* of the last: where it ends */
    uint8_t live_taken[BLOCK_MAX_OPS];      /* where its branch leads */
    uint8_t live_entry; /* before the first, whatever the stack turns out to be */
    struct peek peeks[DBT_PEEKS];
    unsigned nr_peeks;
    struct tr_slot slot[2 * BLOCK_MAX_OPS];
    struct tr_other other[2 * BLOCK_MAX_OPS];
    struct tr_near near[2 * BLOCK_MAX_OPS];
    struct tr_group group[DBT_GROUPS];
    uint64_t value[CPU_NR_GPR]; /* what registers are likely to be (tr_region.c), */
    uint32_t known;             /* those of these bits */
    unsigned nr_slots, nr_others, nr_nears, nr_groups, nr_addends;
    struct tr_guess guess[2 * BLOCK_MAX_OPS + 1]; /* the fast body of a loop has them, too */
    unsigned nr_guesses;
    struct fixup fix[8 * BLOCK_MAX_OPS];
};

/* translate.c: a translation from its entries to what stands behind it. */
void tr_begin(struct tr *t, struct dbt *d, struct tb *tb, unsigned index);
void tr_entry(struct tr *t, struct tb_code *code);
void tr_stubs(struct tr *t);
void tr_entry_stubs(struct tr *t, struct tb_code *code);
void tr_fixup(struct tr *t, uint32_t at, enum fix_kind kind, uint64_t to);
void tr_slow_if(struct tr *t, unsigned cond);
void tr_miss_if(struct tr *t, unsigned cond, uint32_t retry, uint32_t want);
/*
 * The current instruction is done by fn (engine.h: dbt_home() and so on), compiled with
 * -mgeneral-regs-only: the guest's vector state stays in its registers unless fn calls
 * interp_fpu_home(). Guest registers are in v->cpu.gpr, the status flags that matter in e->fl;
 * both may be changed. Where fn returns dbt_next(), the translation goes on behind this.
 */
typedef const void *(*tr_c_fn)(struct dbt *d, uint32_t rec);
void tr_call_c(struct tr *t, tr_c_fn fn);
/* The current instruction is done by shared code there (transit_emit.c), which goes on elsewhere, or
 * has dbt_system() do it. */
void tr_transit(struct tr *t, const struct insn *in, uint32_t common);
/* Where the code for the rip in r10 is, for tr_go(); r10 is not the rip any more, r11 helps. Goes
 * slow when it has none. Flags are saved or dead, and nothing is committed yet. */
void tr_jump_code(struct tr *t, struct emit_mem *code);
/* Goes to the rip in r10. `leave`: to the interpreter when it has no code; else that does the
 * instruction. */
void tr_jump(struct tr *t, bool leave);
/* r10: rip to what stands for it in the table, and back (dbt_jump_tag()). */
void tr_jump_salt(struct tr *t);
/* Where the tags or codes of the table are, by r11. */
struct emit_mem tr_jumps(const struct tr *t, size_t field);
/* Looks whether somebody wants something; before anything else in an instruction. Once in a block
 * is enough: no way leads back but through its start. */
void tr_poll(struct tr *t);
void tr_guest_address(struct tr *t, unsigned reg, int64_t offset);
void tr_go(struct tr *t, const struct emit_mem *code);
void tr_direct(struct tr *t, int64_t to);
void tr_interpret(struct tr *t);
/* Leaves for the interpreter at r10, by no link. Flags are saved or dead. */
void tr_exit(struct tr *t);

/* Where a relative branch of the translation leads, an offset from the page. */
static inline int64_t tr_target(const struct tr *t, unsigned i)
{
    return (int64_t)t->at[i] + t->insn[i].len + (int64_t)t->insn[i].imm;
}

/* The instruction that was decoded to t->insn[t->nr], from that offset in the page. false: it ends
 * the translation. */
bool tr_add(struct tr *t, unsigned at);
/* Has the interpreter to do it, at the head of a block of its own? */
bool tr_foreign(const struct dbt *d, const struct insn *in);
/* tr_follow.c: adds what stands where the block's last instruction jumps to, if that is to go on
 * there. */
void tr_follow(struct tr *t);

/*
 * peek.c: flags that have to be right where the instruction is, at an offset in the page, though
 * it does not look at them: code behind it may be changed by it, or by others before a poll is
 * passed, and with it what overwrites them.
 */
uint8_t tr_looks(const struct insn *in, unsigned ip);
/* Of the flags `pending`, those that matter to the code at an offset from the page. */
uint8_t tr_peek(struct tr *t, int64_t at, uint8_t pending);

/*
 * tr_flags.c. _before and _after: of each instruction.
 */
void tr_flags_before(struct tr *t, const struct insn *in);
void tr_flags_after(struct tr *t, const struct insn *in);
/* The instruction is to be emitted, its first operand in that register: what it overwrites is
 * kept where its flags are likely to be wanted again. */
void tr_flags_keep(struct tr *t, const struct insn *in, unsigned reg);
/* EFLAGS are about to be overwritten by the translation itself: flags that matter are saved, or
 * may be had again. */
void tr_clobber(struct tr *t);
/* The guest's flags that are alive have to be in EFLAGS. Changes r10. Within an instruction that
 * looks at them; LOC_REDO is not met there (tr_flags_before()). */
void tr_flags_host(struct tr *t);
/* From here on they are in a place; between instructions. Changes r10 and r11. */
void tr_flags_settle(struct tr *t);
/* EFLAGS to e->fl, whatever is known. Changes r10. */
void tr_flags_save(struct tr *t);
/* At the start of a stub for what is LOC_REDO: they are in e->fl then. */
void tr_flags_stub(struct tr *t);

/*
 * tr_code32.c. Is this 32-bit code? _fetch decodes an instruction of it, or of 64-bit code; false: it is
 * not all there. _word: of t->word bytes; the address to `to` wraps.
 */
static inline bool tr_is32(const struct tr *t)
{
    return t->word == 4;
}
bool tr_fetch(const struct tr *t, struct insn *in, const uint8_t *bytes, unsigned avail);
void tr_load_word(struct tr *t, unsigned reg, const struct emit_mem *m);
void tr_store_word(struct tr *t, unsigned reg, const struct emit_mem *m);
void tr_get_word(struct tr *t, unsigned to, unsigned gpr);
void tr_lea_word(struct tr *t, unsigned to, unsigned base, int32_t disp);
/* Does a constant offset in FS or GS not exceed 4 GiB? */
bool tr_within32(const struct tr_operand *op);
/* tr_check() of 32-bit code by the TLB; and the linear address, to r10 or r11, of `size` bytes at another
 * displacement. Changes flags. */
void tr_check32(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
void tr_address32(struct tr *t, unsigned to, const struct tr_operand *op, int64_t disp, unsigned size);
/*
 * Where a block of 32-bit code may have RSP: no instruction begins further than this from where RSP was at
 * the start, one moves it by no more, and what is used of the stack lies within twice of that from the
 * start. So as long as that was checked to be in one page, RSP stays within the pages around it; and as that
 * page is neither the first nor the last one (stack_allowed(), common_page()), RSP does not wrap. _exact: it moves
 * so. _wrap: in any way, from RSP or RBP. Changes r11, no flags.
 */
enum { TR_STACK32_NEAR = 1020 };
G_STATIC_ASSERT(4 * TR_STACK32_NEAR + 8 < MEM_PAGE_SIZE); /* 2 to the end, 1 for the last start, 1 for its move */
bool tr_stack_exact(const struct tr *t);
void tr_stack_wrap(struct tr *t, unsigned base, int32_t delta);

/* memory.c: checks the operand, all flags saved; *m is where it is on the host. */
bool tr_operand_of(const struct tr *t, const struct insn *in, struct tr_operand *op);
void tr_check(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
/* The same by the TLB, whatever else is known. */
void tr_check_tlb(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
/*
 * r10: guest address of the first byte, r11: of the last one. The addend of their page to `to`;
 * on a miss the TLB is filled and the check, which began at `retry`, made again.
 */
void tr_lookup(struct tr *t, uint32_t retry, bool write, unsigned to);
/* The same; the place of the jump for a miss, which is to be patched. */
uint32_t tr_lookup_or(struct tr *t, bool write, unsigned to);
/* Before an instruction that goes on in the next page: leaves unless that is where it was, and its
 * bytes there are what they were. Nobody needs to tell of changes there. */
void tr_across(struct tr *t);
/* Guest register to a host register, changing nothing else. */
void tr_get(struct tr *t, unsigned to, unsigned gpr);
void tr_set(struct tr *t, unsigned gpr, unsigned from);
static inline bool tr_displaced(unsigned gpr)
{
    return gpr == CPU_RSP || (gpr >= CPU_R9 && gpr <= CPU_R11);
}

/*
 * tr_stack.c: the stack. R9 follows RSP; where RSP's distance to what it was at the start is
 * known, a check at the start covers what is used.
 */
/* How many bytes from [RSP + disp] on the instruction's operand may lie in, by an index or without; 0:
 * none, or too many. */
unsigned tr_stack_span(const struct tr *t, unsigned number);
/* Finds low and high; the translation has to end behind an unknown change of RSP. */
void tr_stack_scan(struct tr *t);
/* Bytes [disp, disp + size) from RSP as it is now are in the cached page. */
bool tr_stack_covers(const struct tr *t, int64_t disp, unsigned size);
void tr_stack_check(struct tr *t);
void tr_stack_stub(struct tr *t, uint32_t check);
/*
 * R9 need not follow through pushes and pops of what was checked: t->lag. Does the current
 * instruction take that into account, without faults, stubs and C? R9 is right again; no flags
 * change. RSP moves on, behind its instruction.
 */
bool tr_stack_lags(const struct tr *t, const struct insn *in);
void tr_stack_settle(struct tr *t);
void tr_stack_move(struct tr *t, int32_t delta);
/* RSP behind the instruction, from where it is sp; TR_SP_UNKNOWN: the translation has to end there. */
int32_t tr_stack_after(const struct insn *in, int32_t sp);
/* Does the instruction change RSP by *delta? false: by something unknown. */
bool tr_stack_delta(const struct insn *in, int32_t *delta);

/*
 * tr_group.c. The current instruction's access may stand for later ones: _scan says for what,
 * within `most` bytes; a load may stand for stores. _add when a check of all that was emitted. What it found,
 * at g->addend, stays there while the block runs. _use: tr_check() of one that needs no check;
 * no flags change. false: it does, nothing was emitted. _after every instruction.
 */
enum { GROUP_TLB = 128, GROUP_PAGE = 1024, GROUP_RUN = 8192 };
bool tr_group_scan(struct tr *t, const struct tr_operand *first, unsigned most,
                   struct tr_group *g);
void tr_group_add(struct tr *t, const struct tr_group *g);
bool tr_group_use(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
void tr_group_after(struct tr *t, const struct insn *in);
/* _add with the host address of the access, *m, for the others; it is in r11 then. */
void tr_group_host(struct tr *t, const struct tr_operand *op, struct tr_group *g,
                   struct emit_mem *m);
/* The access of the last group goes to *m, with what r11 is now; r11 is about to change. */
void tr_group_hold(struct tr *t, const struct tr_operand *op, const struct emit_mem *m);
void tr_group_drop(struct tr *t);
/* tr_bound.c: is register `reg` at instruction `number` at most *most, whatever comes before the block? */
bool tr_bounded(const struct tr *t, unsigned number, unsigned reg, unsigned *most);
/* It has an operand in memory, and not only the address of one. */
static inline bool tr_accesses(const struct insn *in)
{
    return insn_mem_operand(in) != NULL && in->id != INSN_LEA && in->id != INSN_NOP;
}
/* Registers that the instruction may write, by their bits. */
#define TR_WRITES_ANY UINT32_MAX
uint32_t tr_writes(const struct insn *in);
/* Both registers are what they were behind this instruction; INSN_NO_REG: none. */
bool tr_keeps(const struct insn *in, unsigned a, unsigned b);

/* tr_near.c: tr_check() of accesses that are likely to meet the page they met last. false: not
 * this one, nothing was emitted. */
bool tr_check_near(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
void tr_near_stub(struct tr *t, unsigned number);
/* Where in struct dbt the slot is that such accesses of the block use; 0: none. *run: it is for a
 * run of pages. */
size_t tr_near_slot(const struct tr *t, unsigned base, unsigned index, bool write, bool *run);
/* The field that an offset in the slot of a run is compared with, for an access of that size. */
size_t tr_near_limit(unsigned size);
void tr_other_stub(struct tr *t, unsigned number);
/* r11: the operand's address at this displacement; `host`: of the stack on the host. */
void tr_near_address(struct tr *t, const struct tr_operand *op, int64_t disp, bool host);

/*
 * tr_region.c: the addend for a kernel's load of `span` bytes at op, to r11, where it is likely to
 * be in a region. false: it is not, nothing was emitted. Changes r10. _begin with a translation,
 * _after every instruction.
 */
void tr_region_begin(struct tr *t);
void tr_region_after(struct tr *t, const struct insn *in);
bool tr_region(struct tr *t, const struct tr_operand *op, unsigned span);
void tr_region_stub(struct tr *t, uint64_t to);

/*
 * tr_loop.c. _scan: before the body, does the block begin with a loop that can be done?
 * tr_loop(): behind the body, its head and fast body; false: it cannot, nothing was emitted.
 * _operand: in the fast body, where an access is on the host. _insn (translate.c): copies one
 * instruction of it; false: cannot be copied.
 */
void tr_loop_scan(struct tr *t);
bool tr_loop(struct tr *t, const struct tb_code *code, struct dbt_loop *loop);
void tr_loop_operand(struct tr *t, const struct tr_operand *op, struct emit_mem *m);
void tr_loop_free(struct tr *t);
bool tr_loop_insn(struct tr *t, unsigned i);

/* flow.c */
void tr_flow(struct tr *t, const struct insn *in);
/* Is the current branch one that has its target guessed? Then it polls. */
bool tr_guesses(const struct tr *t);
/* May the current branch, to an offset from the page, be the one that closes a loop, and is nobody else going to poll?
 * In 32-bit code, whose addresses wrap, loops may consist of jumps forward from page to page. */
bool tr_turns(const struct tr *t, int64_t to);
/* Where its flags can be had again: it does not save them. */
bool tr_guess_redo(const struct tr *t);
/* The same as tr_jump(), by a guess (guess.c). Flags may be had again, too. */
void tr_guess_jump(struct tr *t, bool leave);
/* The same to an offset from the page. */
void tr_guess_far(struct tr *t, int64_t to, bool leave);
void tr_guess_stub(struct tr *t, unsigned number, uint32_t stub);
/* system.c */
void tr_system(struct tr *t, const struct insn *in);
/* string.c: false: the interpreter does it. Nothing was emitted then. */
bool tr_string(struct tr *t, const struct insn *in);
/* copy.c: false: it cannot be copied. Nothing was emitted then. */
bool tr_copy(struct tr *t, const struct insn *in);
/* A comparison of registers, only for its flags. Changes r10 and r11. */
void tr_copy_again(struct tr *t, const struct insn *in);

#endif
