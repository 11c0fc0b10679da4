/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's own state and the seams between its files.
 *
 * General registers live in v->cpu.gpr and rip in v->cpu.rip (exact only at block ends and in
 * slow paths). The six status flags live packed in e->fl, the other flags in v->cpu.rflags. The
 * vector and x87 state may be resident in the host's registers (e->fpu_resident): every file
 * but the cold ones is compiled with -mgeneral-regs-only, and interp_fpu_home() is called
 * before anything else may run.
 */
#ifndef PVEMU_CPU_INTERP_ENGINE_H
#define PVEMU_CPU_INTERP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>

#include "core/memory.h"
#include "core/vcpu.h"
#include "cpu/x86/walk.h"
#include "cpu/x86/x86.h"

#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
#define PAGE_BASE(va) ((va) & ~0xfffull)

enum { TLB_BITS = 11, TLB_SIZE = 1 << TLB_BITS };
enum tlb_index { TLB_USER, TLB_SUPERVISOR, TLB_SUPERVISOR_AC, TLB_NR };
#define TLB_NONE UINT64_MAX /* never equal to a page address */

/* Guest operands lie anywhere. */
typedef uint8_t interp_uint8_t;
typedef uint16_t interp_uint16_t __attribute__((aligned(1), may_alias));
typedef uint32_t interp_uint32_t __attribute__((aligned(1), may_alias));
typedef uint64_t interp_uint64_t __attribute__((aligned(1), may_alias));

/* One page: tag == page address means that kind of access may go to va + addend. */
struct tlb_entry {
    uint64_t read, write, exec;
    uint64_t addend;
};

struct tlb {
    struct tlb_entry entry[TLB_SIZE];
    /* Bit sets over the entries, each with a summary of its words: */
    uint64_t used[TLB_SIZE / 64];  /* may be valid */
    uint64_t local[TLB_SIZE / 64]; /* used, and of one address space only */
    uint32_t used_words, local_words;
    uint8_t global[TLB_SIZE];
    uint8_t shift[TLB_SIZE]; /* log2 of the guest's page size */
    bool held[TLB_SIZE]; /* stores are allowed, but for the code in the frame */
};
G_STATIC_ASSERT(TLB_SIZE / 64 <= 32);
/* Where an entry for this address may be. */
static inline unsigned interp_tlb_slot(uint64_t va)
{
    return (unsigned)(va >> 12) & (TLB_SIZE - 1);
}

/*
 * An address space that the guest may come back to (space.c): a PCID. While it is not the
 * current one its TLB entries are kept here.
 */
enum { SPACES = 8, SPACE_SAVED = 256 };

struct tlb_saved {
    struct tlb_entry entry;
    uint16_t slot;
    uint8_t table, shift;
};

struct space {
    uint64_t last_used; /* 0: holds nothing */
    uint64_t epoch;     /* of its jumps */
    uint64_t walk;      /* its number for x86_walk() */
    uint64_t protects;  /* interp.protects when its entries were put away */
    uint64_t jump_pages[64]; /* filter of pages that its jumps lead to, since epoch */
    uint64_t number;    /* PCID, or a paravirtual guest's number */
    uint16_t nr_saved;
    struct tlb_saved saved[SPACE_SAVED];
};

/* For an engine on top: the page of the guest's stack, as long as there is a write tag for it,
 * by its host address; STACK_NONE: another one is to be found. */
struct interp_stack {
    uint64_t base, addend, minus; /* minus: -addend */
};
#define STACK_NONE (1ull << 63) /* not canonical */

/* Frames with code that this vCPU has opened for stores (code.c), and the write tag it has given
 * itself since; tags: 2: several. */
enum { OPENED = 64 };
struct opened {
    uint32_t frame;
    uint16_t slot;
    uint8_t table, tags;
};

/*
 * For the translator: where accesses of user code went last. A slot is a page with a tag of its
 * kind in TLB_USER; or, from NEAR_PAGES on, a run of such pages that follow each other in the
 * guest and in the host; or, from NEAR_VIEWS on, of pages that the host has been made to show in
 * that order (`views`). start and host are NEAR_NONE otherwise. Runs are kept for slots to come.
 * From NEAR_LARGES on they are a TLB for large pages: the address chooses the slot, by the bits
 * from 21 on.
 */
enum {
    NEAR_PAGES = 1024,
    NEAR_VIEWS = NEAR_PAGES + 256,
    NEAR_LARGES = NEAR_VIEWS + 256,
    NEAR_SLOTS = NEAR_LARGES + 64,
    NEAR_RUNS = 8,
    NEAR_SIZES = 10
};
struct interp_near {
    _Alignas(64) uint64_t start; /* guest address */
    uint64_t host, addend;       /* host: where its lowest byte is */
    uint32_t misses;             /* up to 0 */
    uint32_t used;               /* since NEAR_NONE */
    uint64_t len;
    uint64_t limit[NEAR_SIZES]; /* [i]: how many bytes something of near_size(i) may begin at */
};
enum near_kind { NEAR_WRITE = 1, NEAR_VIEW_RUN = 2 }; /* bits */
struct interp_run {
    uint64_t start, len, addend, host; /* len 0: none */
};
struct interp_nears {
    struct interp_near slot[2 * NEAR_SLOTS]; /* the second half: that may be written */
    struct interp_run run[4][NEAR_RUNS];     /* by enum near_kind */
    uint32_t used[2 * NEAR_SLOTS]; /* that are not NEAR_NONE: their places in struct dbt */
    uint32_t nr_used, next_run;
    bool kept; /* there are runs, or slots */
    uint64_t forgotten; /* counts how often slots were emptied, */
    uint64_t emptied;   /* all of them, and runs, if there were any */
    uint64_t views, views_len; /* where on the host guest memory is mapped once more */
};
enum { NEAR_LARGE_SHIFT = 21 }; /* of the address, to the number of such a slot */
static inline unsigned near_size(unsigned i)
{
    return 1u << (i < 8 ? i : i == 8 ? 10 : 13);
}
#define NEAR_NONE (1ull << 63) /* not canonical, nor is it with an addend */

/*
 * region.c: [start, start + len) of a kernel's addresses is at start + addend on the host, for
 * loads. limit: how many bytes something of up to INTERP_REGION_SPAN bytes may begin at; 0: there is
 * none. wall: below it, above it, there is nothing that belongs to it.
 */
enum { INTERP_REGIONS = 4, INTERP_REGION_SPAN = 128 };
struct interp_region {
    uint64_t start, limit, addend, len;
    bool wall[2];
};

/* What distinguishes two decodings of the same bytes. */
enum interp_mode {
    MODE_16 = INSN_MODE_16,
    MODE_32 = INSN_MODE_32,
    MODE_64 = INSN_MODE_64,
    MODE_CODE = 3,
    MODE_FLAT = 1 << 2, /* 32-bit: CS DS ES SS are base 0, limit 4 GiB, and SS.B is set */
    MODE_SLOW = 1 << 3, /* one instruction a block, generic handlers: traps, breakpoints, #AC */
};

enum interp_attention {
    ATTENTION_SPECIAL = 1 << 0, /* TF, RF, breakpoints: one instruction at a time */
    ATTENTION_DROP = 1 << 1,    /* the thunk cache was reset: no block may run any more */
    ATTENTION_PROTECT = 1 << 2, /* another vCPU asks to forget all write tags (smp.c) */
    ATTENTION_CPU = 1 << 3,     /* cpu.halted, irq_shadow or nmi_pending */
    ATTENTION_KICK = 1 << 4,    /* an engine above this one: look at v->request */
    ATTENTION_CODE = 1 << 5,    /* and this: others wrote to frames with code */
};

struct op;
struct block;
struct interp;

/* Runs an instruction and those after it; returns the next block, or NULL: look at cpu.rip. */
typedef struct block *(*op_fn)(struct vcpu *v, struct op *op, struct interp *e);

/* 32 bytes: two to a cache line. */
struct op {
    op_fn fn;
    uint8_t base, index, seg; /* what an address adds up: words of struct vcpu */
    uint8_t shift;            /* scale of the index */
    uint8_t dst, src;         /* offsets of register operands in struct vcpu */
    uint16_t ip;              /* offset of the instruction in its page */
    int32_t disp;             /* displacement; branches: target, as an offset from the page */
    uint8_t len;
    uint8_t number; /* instructions in the block up to and including this one */
    union {
        uint8_t cond; /* condition of SETcc and CMOVcc */
        uint8_t need; /* native: classes that must be allowed, as in e->native_missing */
    };
    uint8_t align; /* native: low address bits that must be 0 */
    union {
        uint64_t imm;
        struct insn *in;    /* generic handlers */
        struct block *link; /* direct branches within a page */
    };
};

/* A straight run of instructions in one page (the last may reach into the next page). */
struct block {
    struct op *ops;
    _Atomic uint32_t *generation_now;
    uint32_t generation;
    uint32_t edition; /* counts decodings: ops is other code, if at the same place */
    uint32_t frame;
    uint16_t offset;
    uint8_t mode;
    bool crosses;   /* one instruction that goes on in frame2 */
    uint16_t bytes; /* how many source bytes */
    uint16_t nr_ops;
    uint32_t frame2, generation2;
    void *translation; /* the upper engine's (interp.entry); of one edition */
    struct block *hash_next;
    uint8_t *source;
    uint32_t room; /* bytes at ops */
};

enum { JUMP_BITS = 14, JUMP_SIZE = 1 << JUMP_BITS };
struct jump {
    uint64_t tag; /* rip ^ e->jump_key or jump_key_global of the time it was filled */
    struct block *block;
};

/* A guest memory operand, checked and ready: nothing can fail any more. */
struct mref {
    uint64_t va;
    unsigned len, len1; /* in all; in the first page */
    uint8_t *part[2];   /* host addresses, NULL for MMIO */
    uint64_t gpa[2];
    bool code[2]; /* a write must be reported (MEM_CODE) */
};

/* Instructions by form (forms.c). */
enum { FORM_BITS = 9 };
struct form {
    uint64_t head; /* 0: none */
    uint64_t met;  /* that was not here last */
    struct insn_form form;
};

/* Limits for tests; 0: none. */
enum { STRESS_TLB_MAX = 64 };
struct interp_stress {
    unsigned block_insns; /* instructions in a block */
    unsigned tlb_entries; /* valid ones at a time; at most STRESS_TLB_MAX */
    unsigned tlb_next;
    struct {
        struct tlb *tlb;
        unsigned slot;
    } tlb_ring[STRESS_TLB_MAX];
};

/*
 * Descriptors and gates that transit.c has found good, each kind's last one: as long as memory
 * holds the same bytes where the guest's tables are, they mean the same, and an engine above need
 * not look at them again (cpu/dbt/transit_emit.c).
 */
enum interp_role { ROLE_KERNEL_CODE, ROLE_USER_CODE, ROLE_KERNEL_STACK, ROLE_USER_STACK, ROLE_NR };
struct interp_descriptor {
    uint32_t selector; /* more than 16 bits: none yet */
    uint64_t raw;
    struct cpu_segment seg;
};
struct interp_gate {
    uint64_t raw[2], offset;
    uint64_t keeps; /* flags that are what they were behind it */
};
struct interp_known {
    struct interp_descriptor role[ROLE_NR];
    struct interp_gate gate[256];
};

enum { BLOCK_HASH_BITS = 18, BLOCK_HASH_SIZE = 1 << BLOCK_HASH_BITS, BLOCK_MAX_OPS = 64 };
enum { PAGE_HASH_SIZE = 1024 };

struct interp {
    struct vcpu *v;
    struct tlb *tlb; /* of the current privilege */
    uint32_t fl;     /* status flags: AH:AL after lahf; seto %al */
    bool fpu_resident;
    bool break_block; /* leave the block after this instruction */
    bool fault_pending;
    bool step_once;             /* an interrupt waits behind an STI or MOV SS shadow */
    bool alone;                 /* the other vCPUs stand still for this instruction (smp.c) */
    _Atomic uint32_t attention; /* enum interp_attention: leave the chain of blocks */
    _Atomic bool running;       /* guest code may use the TLB: others wait (smp.c) */
    unsigned pauses;            /* PAUSE executed, for interp_smp_relax() */
    bool amd;                   /* quirks that differ by vendor follow the profile shown */
    bool align_check;           /* CR0.AM, EFLAGS.AC and CPL 3 */
    uint8_t mode;               /* enum interp_mode of the next block */
    uint32_t request_mask;      /* bits of v->request that matter now */
    /*
     * Which jumps are good: those filled under the same epoch, privilege and mode. Keys stand
     * for all three; any two differ in a way no guest can guess, so that rip ^ key is as good
     * as both. Epochs and numbers of spaces come from one counter.
     */
    uint64_t jump_key, jump_key_global;
    uint64_t epoch, epoch_local, epoch_global, jump_secret;
    uint64_t key_local, key_global, key_modes[32];
    uint64_t key64[TLB_NR]; /* for an engine above: of 64-bit code where interp_keyed(), else 0 */
    uint32_t jump_salt; /* keeps jumps of different spaces out of each other's way */
    uint64_t jump_pages[64]; /* filter of pages that global jumps lead to, since epoch_global */
    uint64_t address_mask;   /* of 64 or 32 bits: what an address wraps at */
    /* Behind an STI that set IF: while rip is here, no interrupt is taken (run.c). */
    uint64_t sti_rip;
    struct block *current;
    struct op *link_slot;    /* a branch of `current` that wants to know its target block, */
    uint64_t link_rip;       /* which is here */
    uint32_t native_missing; /* INSN_F_X87.. classes that are not allowed now */
    uint64_t fpu_thread_rsp; /* trampoline: where a fault in a thunk returns to */
    struct x86_fault fault;
    struct mref m;    /* memory operand of the current instruction */
    uint64_t dr6_hit; /* data breakpoints met by the current instruction */
    struct vcpu_debug debug; /* debug.c */
    bool debugging;
    unsigned debug_hit;      /* enum vcpu_stop: points of data met by the current instruction */

    /*
     * For an engine on top of this one (cpu/dbt): what blocks that interp_entered() names start with, and a
     * call when all blocks are dropped. NULL: none.
     */
    op_fn entry;
    void (*dropped)(struct interp *e);
    /* Lockstep: where an access to RAM goes instead (*hva NULL: MMIO). NULL: no lockstep. */
    bool (*shadow)(struct interp *e, unsigned access, uint8_t **hva);
    unsigned shadow_len; /* of the access */
    /* This vCPU wrote to a frame with code; others did (ATTENTION_CODE). */
    void (*code_written)(struct interp *e, uint32_t frame);
    void (*code_changed)(struct interp *e);
    /*
     * An interrupt that was acknowledged is about to be delivered. take: may the engine above try?
     * Then `deliver` comes before anything else, and goes on there; false: it has not, nothing has
     * changed. NULL: it never does.
     */
    bool (*take)(struct interp *e, uint8_t vector);
    bool (*deliver)(struct interp *e);
    bool taken;
    uint8_t taken_vector;
    /* The block's bytes have changed. true: what is there now is taken care of, by
     * interp_block_defer(), the block's mark and its translation. */
    bool (*rewrite)(struct interp *e, struct block *b);
    /* How much would be lost if this frame's code changed; more than a few do not count. */
    unsigned (*code_live)(const struct interp *e, uint32_t frame);
    /* Where translated code reads a word, for its effect only: a page that is not mapped while
     * there is attention. */
    const uint32_t *_Atomic poll;
    const uint32_t *poll_go, *poll_stop;
    struct interp_stack stack, stacks[TLB_NR]; /* now; with the other TLBs */
    struct interp_nears near;
    struct interp_region region[INTERP_REGIONS];
    uint64_t region_never; /* where a page is that is not memory all over; 0: none was met */
    struct interp_stress stress;
    uint64_t flushes[VCPU_FLUSH_SPACE + 1]; /* of the TLB, by kind */

    struct jump *jumps;
    struct block **hash;
    uint8_t *arena;
    size_t arena_used, arena_size;
    /* frame << 8 | weight of the writes since code was last made of it, or checked */
    uint64_t code_misses[PAGE_HASH_SIZE];
    struct opened opened[OPENED];
    uint64_t large_regions[128];          /* filter of regions cached from large pages */
    uint64_t large_shifts;                /* the sizes of those, as bits */

    struct interp_known known;
    void (*free)(struct interp *e); /* NULL: it lies in an arena of its own */
    struct space *space; /* the current one */
    uint64_t pv_space;   /* the number of a paravirtual guest's; 0: none */
    uint64_t space_clock, protects;
    struct x86_walk_cache walk;
    struct space spaces[SPACES];

    struct native *native;
    uint8_t *alt_stack;
    stack_t previous_alt;
    uint32_t host_mxcsr, mxcsr_mask, host_xcr0;
    struct tlb tlbs[TLB_NR];
    struct form forms[1 << FORM_BITS];
    /* As key64, of flat 32-bit code. How they differ is a secret, since a rip that is looked up may be any number. */
    uint64_t key32[TLB_NR];
};

/* debug.c */
/* accel_ops.set_debug */
bool interp_set_debug(struct vcpu *v, const struct vcpu_debug *debug, GError **err);
/* Whether the guest stops before the instruction at rip, or behind the one that was there. */
bool interp_debug_before(struct interp *e, struct exit *exit);
bool interp_debug_after(struct interp *e, struct exit *exit);
/* An access that may meet a point. */
void interp_debug_access(struct interp *e, uint64_t va, unsigned len, unsigned access);

/* access.c */
/* A page's host address, or NULL and *gpa for MMIO. false: e->fault. */
bool interp_resolve(struct interp *e, uint64_t va, unsigned access, uint8_t **hva,
                    uint64_t *gpa);
/* Checks an access of len bytes at a linear address and fills *m. */
bool interp_mref(struct interp *e, uint64_t va, unsigned len, unsigned access, struct mref *m);
void interp_mref_read(struct interp *e, const struct mref *m, void *buf);
void interp_mref_write(struct interp *e, const struct mref *m, const void *buf);
uint64_t interp_mref_load(struct interp *e, const struct mref *m);
void interp_mref_store(struct interp *e, const struct mref *m, uint64_t val);
/* Segmentation and canonical checks: logical to linear. */
bool interp_linear(struct interp *e, enum cpu_segreg seg, uint64_t offset, unsigned len,
                   unsigned access, uint64_t *va);
/* The offset of the memory operand; rip-relative ones need cpu.rip at the instruction. */
uint64_t interp_offset(const struct interp *e, const struct insn *in);
bool interp_fault(struct interp *e, uint8_t vector); /* no error code; returns false */
bool interp_fault_code(struct interp *e, uint8_t vector, uint32_t error);

/* code.c */
/* Bytes [at, at + len) of a frame are about to be read as code. Returns its generation. */
uint32_t interp_code_mark(struct interp *e, uint32_t frame, unsigned at, unsigned len);
/* A store of len bytes, in one page, went to a frame that may hold code. */
void interp_code_written(struct interp *e, const uint8_t *hva, unsigned len);
/* One is about to go to a frame with code. true: it is plain data from now on. */
bool interp_code_open(struct interp *e, const uint8_t *hva);
/* A write tag for the page at hva, whose frame had no MEM_CODE just now and may have a writer, is
 * about to be given in this place. false: not now. */
bool interp_code_tag(struct interp *e, struct mem_frame_info *info, const uint8_t *hva,
                     unsigned table, unsigned slot);
/* Marks a block's bytes and takes note of the generations. */
void interp_block_mark(struct interp *e, struct block *b);
/* Does memory hold these bytes where the block lies? */
bool interp_block_same(const struct interp *e, const struct block *b, const uint8_t *source);
/* By general registers only. */
bool interp_code_equal(const uint8_t *a, const uint8_t *b, unsigned len);
/* Both, for the bytes it was made from. */
bool interp_block_check(struct interp *e, struct block *b);
/* The block becomes these b->bytes bytes, whose operations are made when they are wanted.
 * interp_block_room(): if there is room for so many. */
void interp_block_defer(struct interp *e, struct block *b, const uint8_t *source);
bool interp_block_room(const struct block *b, unsigned bytes);
/* The generation moved on: the same block, checked or decoded anew. false: look it up again. */
bool interp_block_renew(struct interp *e, struct block *b);

/* tlb.c */
/* The entry for va, which has been held back because of code, gets its write tag. */
void interp_tlb_allow(struct interp *e, uint64_t va);
void interp_tlb_init(struct interp *e);
void interp_tlb_flush(struct interp *e, enum vcpu_flush kind, uint64_t gva);
void interp_tlb_forget(struct interp *e, bool keep_global);
void interp_tlb_put(struct tlb *t, unsigned slot, const struct tlb_entry *en, unsigned shift,
                    bool global);
static inline void interp_tlb_clear(struct tlb *t, unsigned slot)
{
    struct tlb_entry *en = &t->entry[slot];

    en->read = en->write = en->exec = TLB_NONE;
    t->used[slot / 64] &= ~(1ull << (slot % 64));
    t->local[slot / 64] &= ~(1ull << (slot % 64));
}
/* Nobody may write to this frame unseen any more. */
void interp_tlb_protect(struct interp *e, uint32_t frame);
void interp_tlb_protect_all(struct interp *e);
void interp_tlb_fill(struct interp *e, uint64_t va, unsigned access,
                     const struct x86_mapping *map, uint8_t *hva);

/* space.c */
void interp_space_init(struct interp *e);
/* CR3 was written; flush: nothing is known about the space it leads to. */
void interp_space_switch(struct interp *e, bool flush);
/* Forgets a space that is not the current one. */
void interp_space_forget(struct interp *e, unsigned pcid);
void interp_space_forget_others(struct interp *e);
void interp_space_walks(struct interp *e); /* the paging-structure caches of all */

/* generic.c: one instruction that is neither system nor native, at cpu.rip; moves rip. false:
 * e->fault. */
bool interp_generic(struct interp *e, const struct insn *in);
typedef bool (*interp_insn_fn)(struct interp *e, const struct insn *in);
/* Opens operand i (memory: into e->m), reads and writes it. */
bool interp_operand(struct interp *e, const struct insn *in, unsigned i, unsigned access);
uint64_t interp_get(struct interp *e, const struct insn *in, unsigned i);
void interp_set(struct interp *e, const struct insn *in, unsigned i, uint64_t val);
/* flow.c, strings.c */
extern const interp_insn_fn interp_flow_table[INSN_SYSTEM_FIRST];
bool interp_string(struct interp *e, const struct insn *in);
bool interp_push(struct interp *e, uint64_t val, unsigned size);

/*
 * transit.c: the usual cases of system instructions, and of faults and interrupts, in 64-bit
 * code, with flags and vector state where they are. false: nothing has changed, take the
 * general way. interp_fast_system() moves rip.
 */
bool interp_fast_system(struct interp *e, const struct insn *in);
bool interp_fast_fault(struct interp *e, const struct x86_fault *fault);
bool interp_fast_interrupt(struct interp *e, uint8_t vector);
/* Does interp_fast_fault() know it? */
bool interp_fast_vector(uint8_t vector);
void interp_known_init(struct interp *e);

/* native.c */
enum { NATIVE_CLASS_SHIFT = 7 }; /* INSN_F_X87.. as bits of op.need */
#define NATIVE_CLASSES                                                                         \
    ((uint32_t)(INSN_F_X87 | INSN_F_MMX | INSN_F_SSE | INSN_F_AVX | INSN_F_AVX512))
struct native;
bool interp_native_init(struct interp *e, GError **err);
void interp_native_fini(struct interp *e);
bool interp_native(struct interp *e, const struct insn *in);
void interp_fpu_home(struct interp *e);
void interp_fpu_load(struct interp *e);
/* Finds the thunk of op->in once and for all; false: interp_native() looks each time. */
bool interp_native_prepare(struct interp *e, struct op *op);
/* The code of a simple thunk (thunk.c) for *in, or NULL. */
const void *interp_native_simple(struct interp *e, const struct insn *in);
bool interp_native_fault(struct interp *e, int vector);

/* Calls a simple thunk: it changes eax only. Needs -mno-red-zone. */
static inline int interp_native_call(const void *code, void *mem)
{
    int vector;

    __asm__ volatile("call *%1" : "=&a"(vector) : "r"(code), "c"(mem) : "memory", "cc");
    return vector;
}

bool interp_native_op(struct interp *e, const struct op *op);
void interp_native_enter_thread(struct interp *e);
void interp_native_leave_thread(struct interp *e);
/* VZEROUPPER or VZEROALL outside 64-bit mode: the host's would clear sixteen registers. */
bool interp_native_zero8(const struct insn *in);

/* forms.c: as insn_decode() of 64-bit code. */
enum insn_decode_result interp_decode(struct interp *e, struct insn *in, const uint8_t *bytes,
                                      unsigned avail);

/* block.c */
/* Does the processor have the instruction in the mode it was decoded for, if at all? */
bool interp_mode_has(const struct insn *in);
bool interp_blocks_init(struct interp *e, GError **err);
void interp_blocks_fini(struct interp *e);
/* The block at cpu.rip for e->mode; NULL: e->fault. */
struct block *interp_block_find(struct interp *e);
void interp_blocks_drop(struct interp *e);
/* The second half of a page-crossing block lies where it was decoded from? At its start. */
bool interp_block_second_same(struct interp *e, const struct block *b);
/* Decodes again in place. false: the arena was full and everything is gone. */
bool interp_block_redo(struct interp *e, struct block *b);
/* The same, with operations. */
bool interp_block_decode(struct interp *e, struct block *b);

/* host.c: what the host must have, and the MXCSR bits it knows. */
bool interp_host_probe(GError **err);
uint32_t interp_host_mxcsr_mask(void);
uint32_t interp_host_xcr0(void);
uint64_t interp_host_secret(void);

/*
 * smp.c. A frame that becomes code must not be written unseen by any vCPU: interp_smp_protect()
 * returns when no other vCPU holds a write tag for it. The guest does not run (its TLB is not
 * used) between _pause and _resume.
 */
void interp_smp_protect(struct interp *e);
/* Returns when another vCPU, which is doing that for this frame, has done it. */
void interp_smp_settle(struct interp *e, const struct mem_frame_info *info);
void interp_smp_resume(struct interp *e);
void interp_smp_pause(struct interp *e);
void interp_smp_serve(struct interp *e);
/* PAUSE: who spins may be in the way of the one it waits for. */
void interp_smp_relax(struct interp *e);
/*
 * Returns when no other vCPU runs guest code, nor will before _together(); false: there is none, or they
 * stand still for this one already, and no need for that. What was found out about memory before may be code now: others went on meanwhile.
 * Where `running` is not set they go on: system instructions, and what C does for a vCPU.
 */
bool interp_smp_alone(struct interp *e);
void interp_smp_together(struct interp *e);

/* Makes all jumps of the current address space invalid, or those to pages that are not global.
 */
void interp_jumps_drop(struct interp *e, bool keep_global);
/* Sets the keys by mode and CPL; before that, the epochs were changed. */
void interp_jump_keys(struct interp *e);
void interp_jump_epochs(struct interp *e);

/* run.c */
/* *e (zeroed) becomes the engine of v, which vcpu_fini() frees with e->free(). */
/* The tlb_flush of every accel that has a struct interp as its engine. */
void interp_accel_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva);
bool interp_engine_init(struct interp *e, struct vcpu *v, GError **err);
void interp_mode_changed(struct interp *e);
void interp_flags_home(struct interp *e);
void interp_flags_fetch(struct interp *e);
struct block *interp_op_generic(struct vcpu *v, struct op *op, struct interp *e);
/* A system instruction at cpu.rip; moves rip. false: e->fault. */
bool interp_system(struct interp *e, const struct insn *in);
struct block *interp_op_system(struct vcpu *v, struct op *op, struct interp *e);
struct block *interp_op_bail(struct vcpu *v, struct op *op, struct interp *e);
struct block *interp_op_native(struct vcpu *v, struct op *op, struct interp *e);
struct block *interp_op_check_second(struct vcpu *v, struct op *op, struct interp *e);
/* Instead of operations that have not been made yet. */
struct block *interp_op_late(struct vcpu *v, struct op *op, struct interp *e);
struct block *interp_op_end(struct vcpu *v, struct op *op, struct interp *e);

/* v->engine_words: [0] is always 0, [1] the guest address of offset 0 of the current page. */
static inline uint64_t interp_page_rip(const struct interp *e)
{
    return e->v->engine_words[1];
}

static inline bool interp_is64(const struct interp *e)
{
    return (e->mode & MODE_CODE) == MODE_64;
}

/* No segment matters: blocks may be chained and remembered by rip. */
static inline bool interp_flat(const struct interp *e)
{
    return interp_is64(e) || (e->mode & MODE_FLAT) != 0;
}

/* Is this the code that engines above translate, and whose blocks they are asked about first? */
static inline bool interp_entered(const struct interp *e)
{
    return e->entry != NULL && (e->mode == MODE_64 || e->mode == (MODE_32 | MODE_FLAT));
}

static inline bool interp_canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static inline unsigned interp_jump_page_bit(uint64_t va)
{
    return (unsigned)((va >> 12) * 0x9e3779b1u >> 13) & 4095;
}

static inline struct jump *interp_jump_at(const struct interp *e, uint64_t rip)
{
    return &e->jumps[(rip ^ rip >> JUMP_BITS ^ e->jump_salt) & (JUMP_SIZE - 1)];
}

/* The block is going to be compared, and its operations run. */
static inline void interp_block_prefetch(const struct block *b)
{
    __builtin_prefetch(b->source);
    __builtin_prefetch(b->ops, 1);
}

static inline struct block *interp_jump(const struct interp *e, uint64_t rip)
{
    const struct jump *jump = interp_jump_at(e, rip);

    return likely((jump->tag ^ rip) == e->jump_key || (jump->tag ^ rip) == e->jump_key_global)
               ? jump->block
               : NULL;
}

static inline bool interp_special(const struct interp *e)
{
    return (atomic_load_explicit(&e->attention, memory_order_relaxed) & ATTENTION_SPECIAL) != 0;
}

/* region.c: the TLB of a supervisor is given a global large page with va, which is at va + addend.
 * Global entries go; those that map va. */
void interp_region_met(struct interp *e, uint64_t va, uint64_t addend);
void interp_regions_forget(struct interp *e);
void interp_region_forget(struct interp *e, uint64_t va);

/* Tags are going: so does what the translator derived from them. */
void interp_near_forget(struct interp *e);
void interp_near_forget_page(struct interp *e, uint64_t hva); /* write tags of this page only */
static inline void interp_stack_forget(struct interp *e)
{
    e->near.forgotten++;
    e->stack.base = STACK_NONE;
    for (unsigned i = 0; i < TLB_NR; i++) {
        e->stacks[i].base = STACK_NONE;
    }
    if (e->near.kept) {
        interp_near_forget(e);
    }
}

/* Write tags of the page at this host address are. */
static inline void interp_stack_forget_page(struct interp *e, uint64_t hva)
{
    interp_near_forget_page(e, hva);
    if (e->stack.base == hva || e->stacks[TLB_USER].base == hva ||
        e->stacks[TLB_SUPERVISOR].base == hva || e->stacks[TLB_SUPERVISOR_AC].base == hva) {
        interp_stack_forget(e);
    }
}

/* Nobody wants anything: translated code may run on. A thread that asks for attention just now
 * sets `poll` last, or is seen here; so it may be set without need, but not the other way. */
static inline void interp_poll_arm(struct interp *e)
{
    if (atomic_load(&e->attention) == 0) {
        atomic_store(&e->poll, e->poll_go);
        if (atomic_load(&e->attention) != 0) {
            atomic_store(&e->poll, e->poll_stop);
        }
    }
}

static inline void interp_attend(struct interp *e, uint32_t bits, bool on)
{
    if (on) {
        atomic_fetch_or(&e->attention, bits);
        atomic_store(&e->poll, e->poll_stop);
    } else {
        atomic_fetch_and(&e->attention, ~bits);
        interp_poll_arm(e);
    }
}

static inline uint64_t interp_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

static inline uint64_t interp_gpr(const struct interp *e, unsigned reg, unsigned size)
{
    if ((reg & INSN_HIGH_BYTE) != 0) {
        return (e->v->cpu.gpr[reg & 3] >> 8) & 0xff;
    }
    return e->v->cpu.gpr[reg] & interp_mask(size);
}

static inline void interp_set_gpr(struct interp *e, unsigned reg, unsigned size, uint64_t val)
{
    uint64_t *gpr = &e->v->cpu.gpr[reg & 15];

    if ((reg & INSN_HIGH_BYTE) != 0) {
        ((uint8_t *)&e->v->cpu.gpr[reg & 3])[1] = (uint8_t)val;
    } else if (size == 1) {
        *(uint8_t *)gpr = (uint8_t)val;
    } else if (size == 2) {
        *(uint16_t *)gpr = (uint16_t)val;
    } else {
        *gpr = size == 4 ? (uint32_t)val : val;
    }
}

/* User or supervisor, for x86_translate(). */
static inline unsigned interp_user(const struct interp *e)
{
    return e->v->cpu.cpl == 3 ? X86_USER : 0;
}

/* The address space for x86_walk(): a paravirtual kernel and its user have tables of their own
 * and change between them without a flush. */
static inline uint64_t interp_walk_space(const struct interp *e)
{
    return e->space->walk ^ (uint64_t)e->v->cpu.pv_kernel << 63;
}

/* User mode as programs know it: not that of a paravirtual kernel. */
static inline bool interp_user_mode(const struct cpu_x86 *cpu)
{
    return cpu->cpl == 3 && !cpu->pv_kernel;
}

/* Are jumps of this TLB told apart by address space? Others are dropped at a change. */
static inline bool interp_keyed(unsigned index)
{
    return index == TLB_USER;
}

/* The TLB of the current privilege. */
static inline enum tlb_index interp_tlb_index(const struct cpu_x86 *cpu)
{
    if (cpu->cpl == 3) {
        return cpu->pv_kernel ? TLB_SUPERVISOR : TLB_USER;
    }
    return (cpu->cr4 & CPU_CR4_SMAP) != 0 && (cpu->rflags & CPU_AC) != 0 ? TLB_SUPERVISOR_AC
                                                                         : TLB_SUPERVISOR;
}

#endif
