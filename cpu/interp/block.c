/* SPDX-License-Identifier: MIT */
/*
 * The cache of decoded blocks. A block is keyed by frame, offset and mode, never by virtual
 * address, so it survives every change of page tables; per-vCPU `jumps` maps rip to block
 * between such changes.
 *
 * A block keeps a copy of its source bytes. When the generation of its frame moved on, the copy
 * is compared with memory: equal blocks live on, others are decoded anew in place, so pointers
 * to a struct block stay good until the whole cache is dropped, which happens when the arena is
 * full.
 */
#include "engine.h"

#include <string.h>

#include "base/arena.h"
#include "hot.h"

enum { ARENA_SIZE = 64 << 20, ARENA_RESERVE = 64 << 10 };
/* Bytes that are looked at for one block: most have fewer, and where they end it does. */
enum { WINDOW = 320 };

bool interp_blocks_init(struct interp *e, GError **err)
{
    size_t jumps = sizeof(struct jump) * JUMP_SIZE;
    size_t hash = sizeof(struct block *) * BLOCK_HASH_SIZE;

    e->arena_size = ARENA_SIZE;
    e->arena = arena_map(NULL, e->arena_size + jumps + hash);
    if (e->arena == NULL) {
        g_set_error(err, G_FILE_ERROR, G_FILE_ERROR_NOMEM,
                    "no memory for the interpreter's cache");
        return false;
    }
    e->jumps = (struct jump *)(void *)(e->arena + e->arena_size);
    e->hash = (struct block **)(void *)(e->arena + e->arena_size + jumps);
    return true;
}

void interp_blocks_fini(struct interp *e)
{
    arena_unmap(e->arena, e->arena_size + sizeof(struct jump) * JUMP_SIZE +
                              sizeof(struct block *) * BLOCK_HASH_SIZE);
}

void interp_blocks_drop(struct interp *e)
{
    memset(e->jumps, 0, sizeof(struct jump) * JUMP_SIZE);
    memset(e->hash, 0, sizeof(struct block *) * BLOCK_HASH_SIZE);
    e->arena_used = 0;
    e->link_slot = NULL;
    e->current = NULL;
    if (e->dropped != NULL) {
        e->dropped(e);
    }
}

static void *block_alloc(struct interp *e, size_t size)
{
    void *p = e->arena + e->arena_used;

    e->arena_used += (size + 15) & ~(size_t)15;
    return p;
}

/* Source bytes of one decoding: the page's, then the next page's when it was asked for. */
struct window {
    uint8_t bytes[INSN_MAX_LEN * 2 + WINDOW];
    unsigned avail;
    bool second;
};

/* A block while it is decoded: in the arena the instructions stand behind the records. */
struct draft {
    struct op ops[BLOCK_MAX_OPS + 3];
    struct insn insns[BLOCK_MAX_OPS];
    uint8_t owner[BLOCK_MAX_OPS]; /* the record of each */
    unsigned nr_ops, nr_insns;
    struct window w;
};

/* Whether cpu.rip + len - 1 is inside the code segment; 64-bit code has no limit. */
static bool block_fetch_ok(struct interp *e, unsigned len)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    if (interp_is64(e)) {
        return true;
    }
    return cpu->rip + len - 1 <= cpu->seg[CPU_CS].limit;
}

static uint64_t block_linear(const struct interp *e, uint64_t rip)
{
    if (interp_is64(e)) {
        return rip;
    }
    return (uint32_t)(e->v->cpu.seg[CPU_CS].base + rip);
}

/* Where the code at a linear address lies. false: e->fault. MMIO is not executed: #GP would
 * hide a bug in the guest, so it reads as zeros, like open bus does nothing good either. */
static bool block_frame(struct interp *e, uint64_t va, uint32_t *frame)
{
    uint64_t gpa;
    uint8_t *hva;

    if (!interp_resolve(e, va, X86_EXEC, &hva, &gpa)) {
        return false;
    }
    if (hva == NULL) {
        return interp_fault_code(e, CPU_GP, 0);
    }
    *frame = mem_hva_frame(e->v->mem, hva);
    return true;
}

static unsigned block_hash(uint32_t frame, unsigned offset, unsigned mode)
{
    uint64_t key = ((uint64_t)frame << 12 | offset) * 16 + mode;

    return (unsigned)(key * 0x9e3779b97f4a7c15ull >> (64 - BLOCK_HASH_BITS));
}

/* One decoded instruction to its record. */
static void block_emit(struct interp *e, struct draft *d, const struct insn *in, unsigned ip)
{
    struct op *op = &d->ops[d->nr_ops];

    *op = (struct op){.ip = (uint16_t)ip, .len = in->len};
    if ((e->mode & MODE_SLOW) == 0 && hot_select(e, op, in)) {
        return;
    }
    op->in = &d->insns[d->nr_insns];
    d->owner[d->nr_insns++] = (uint8_t)d->nr_ops;
    *op->in = *in;
    if ((in->flags & INSN_F_SYSTEM) != 0) {
        op->fn = interp_op_system;
    } else if (in->id == INSN_NATIVE && interp_native_prepare(e, op)) {
        op->fn = interp_op_native;
    } else {
        op->fn = interp_op_generic;
    }
}

/* From the draft to the arena: records, instructions, source lie together, where those of an
 * edition before did if there is room. */
static void block_settle(struct interp *e, struct block *b, const struct draft *d)
{
    size_t ops = (d->nr_ops + 1) * sizeof(struct op), insns = d->nr_insns * sizeof(struct insn);
    struct insn *in;

    if (b->room < ops + insns + b->bytes) {
        b->room = (uint32_t)((ops + insns + b->bytes + 15) & ~(size_t)15);
        b->ops = block_alloc(e, b->room);
    } else {
        e->link_slot = NULL; /* which may be in there */
    }
    b->edition++;
    b->nr_ops = (uint16_t)d->nr_ops;
    in = (struct insn *)(void *)((uint8_t *)b->ops + ops);
    b->source = (uint8_t *)in + insns;
    memcpy(b->ops, d->ops, ops);
    memcpy(in, d->insns, insns);
    for (unsigned i = 0; i < d->nr_insns; i++) {
        b->ops[d->owner[i]].in = &in[i];
    }
    memcpy(b->source, d->w.bytes, b->bytes);
}

/* System instructions may change anything; unknown ones fault. */
static bool block_ends(const struct interp *e, const struct insn *in)
{
    if ((in->flags & INSN_F_SYSTEM) != 0 || in->id == INSN_INVALID || in->id == INSN_UD) {
        return true;
    }
    return (in->flags & INSN_F_BRANCH) != 0 &&
           ((in->flags & INSN_F_COND) == 0 || (e->mode & MODE_CODE) != MODE_64);
}

enum block_step { STEP_OK, STEP_STOP, STEP_FAULT };

/* Decodes the instruction at `at` (offset from the block's start). */
static enum block_step block_decode_one(struct interp *e, struct window *w, unsigned at,
                                        struct block *b, struct insn *in)
{
    unsigned avail = MIN(w->avail - at, INSN_MAX_LEN);
    enum insn_decode_result r =
        interp_is64(e) ? interp_decode(e, in, w->bytes + at, avail)
                       : insn_decode(in, (enum insn_mode)(e->mode & MODE_CODE), w->bytes + at,
                                     avail);

    if (r == INSN_MORE && at == 0 && !w->second) {
        uint64_t next = PAGE_BASE(block_linear(e, e->v->cpu.rip)) + MEM_PAGE_SIZE;
        const uint8_t *page;

        if (!interp_is64(e)) {
            next &= UINT32_MAX;
        }
        if (!block_frame(e, next, &b->frame2)) {
            return STEP_FAULT;
        }
        b->crosses = w->second = true;
        b->generation2 = interp_code_mark(e, b->frame2, 0, INSN_MAX_LEN);
        page = mem_frame_hva(e->v->mem, b->frame2);
        memcpy(w->bytes + w->avail, page, INSN_MAX_LEN);
        w->avail += INSN_MAX_LEN;
        return block_decode_one(e, w, at, b, in);
    }
    if (r == INSN_MORE) {
        return STEP_STOP; /* crosses the page: a block of its own, when it is reached */
    }
    if (r == INSN_TOO_LONG || !block_fetch_ok(e, at + in->len)) {
        if (at != 0) {
            return STEP_STOP;
        }
        interp_fault_code(e, CPU_GP, 0);
        return STEP_FAULT;
    }
    return STEP_OK;
}

/* VPEXTRQ and VPINSRQ exist in 64-bit mode only (seen on Zen 4; SDM: "I"). */
bool interp_mode_has(const struct insn *in)
{
    return in->mode == INSN_MODE_64 || in->encoding != INSN_ENC_VEX ||
           in->map != INSN_MAP_0F3A || (in->opcode != 0x16 && in->opcode != 0x22) ||
           (in->rex & INSN_REX_W) == 0;
}

static bool block_feature_ok(const struct interp *e, const struct insn *in)
{
    return interp_mode_has(in) && (in->feature == INSN_FEAT_BASE || e->v->model == NULL ||
                                 cpu_model_has(e->v->model, in->feature));
}

/* Returns how many bytes were decoded; 0: e->fault. */
static unsigned block_decode_ops(struct interp *e, struct block *b, struct draft *d)
{
    unsigned at = 0, insns = 0;

    while (insns < BLOCK_MAX_OPS && at < d->w.avail) {
        struct insn in;

        if (block_decode_one(e, &d->w, at, b, &in) != STEP_OK) {
            break;
        }
        if ((in.flags & INSN_F_SYSTEM) == 0 && !block_feature_ok(e, &in)) {
            in.id = INSN_UD;
            in.flags &= ~(uint32_t)INSN_F_BRANCH;
        }
        if (at == 0 && interp_entered(e)) {
            d->ops[d->nr_ops++] = (struct op){.fn = e->entry};
        }
        if (b->crosses) {
            d->ops[d->nr_ops++] = (struct op){.fn = interp_op_check_second};
        }
        insns++;
        at += in.len;
        if (in.id == INSN_NOP && (e->mode & MODE_SLOW) == 0 && !b->crosses) {
            continue; /* counted with what follows */
        }
        block_emit(e, d, &in, b->offset + at - in.len);
        d->ops[d->nr_ops++].number = (uint8_t)insns;
        if (block_ends(e, &in) || b->crosses || (e->mode & MODE_SLOW) != 0 ||
            insns == e->stress.block_insns) {
            break;
        }
    }
    d->ops[d->nr_ops] = (struct op){
        .fn = interp_op_end, .ip = (uint16_t)(b->offset + at), .number = (uint8_t)insns};
    return at;
}

/*
 * b begins in the middle of the block that ran just now, as the body of a loop does: the rest of
 * that one, copied. Code that runs once or twice is not decoded twice then.
 */
static bool block_tail(struct interp *e, struct block *b)
{
    const struct block *from = e->current;
    unsigned k = 0, skip;
    struct draft d;

    if (from == NULL || from == b || from->frame != b->frame || from->mode != b->mode ||
        from->crosses || (b->mode & MODE_SLOW) != 0 || b->offset <= from->offset ||
        b->offset >= from->offset + from->bytes ||
        from->generation != atomic_load(from->generation_now)) {
        return false;
    }
    while (k < from->nr_ops && from->ops[k].ip != b->offset) {
        k++;
    }
    if (k == from->nr_ops) {
        return false;
    }
    d.nr_ops = d.nr_insns = 0;
    if (interp_entered(e)) {
        d.ops[d.nr_ops++] = (struct op){.fn = e->entry};
    }
    skip = from->ops[k].number - 1u;
    for (; k <= from->nr_ops; k++) {
        struct op *op = &d.ops[d.nr_ops++];

        *op = from->ops[k];
        op->number = (uint8_t)(op->number - skip);
        if (op->fn == interp_op_generic || op->fn == interp_op_system ||
            op->fn == interp_op_native) {
            d.insns[d.nr_insns] = *op->in;
            d.owner[d.nr_insns++] = (uint8_t)(d.nr_ops - 1);
        }
    }
    d.nr_ops--; /* the end is not counted */
    b->crosses = false;
    b->generation = from->generation;
    b->bytes = (uint16_t)(from->offset + from->bytes - b->offset);
    memcpy(d.w.bytes, from->source + (b->offset - from->offset), b->bytes);
    block_settle(e, b, &d);
    return true;
}

/*
 * Decodes what is at cpu.rip into *b (frame, offset and mode are set), from a copy: which lines
 * it is made of is known behind that only. When they changed meanwhile, once more; if that goes
 * on, the block is as good as any, and checked before it is used again.
 */
static bool block_fill(struct interp *e, struct block *b)
{
    enum { TRIES = 8 };
    struct draft d;
    const uint8_t *page = mem_frame_hva(e->v->mem, b->frame);
    struct block before;

    b->generation_now = &mem_frame_info(e->v->mem, b->frame)->code_generation;
    if (block_tail(e, b)) {
        return true;
    }
    before = *b;
    for (unsigned tries = 0; tries < TRIES; tries++) {
        d.nr_ops = d.nr_insns = 0;
        b->crosses = false;
        d.w.second = false;
        d.w.avail = MIN(MEM_PAGE_SIZE - b->offset, WINDOW);
        memcpy(d.w.bytes, page + b->offset, d.w.avail);
        b->bytes = (uint16_t)block_decode_ops(e, b, &d);
        if (b->bytes == 0) {
            *b = before; /* what it was, and to be compared */
            b->generation--;
            return false; /* e->fault */
        }
        interp_block_mark(e, b);
        if (interp_block_same(e, b, d.w.bytes)) {
            break;
        }
        b->generation--;
    }
    block_settle(e, b, &d);
    return true;
}

bool interp_block_second_same(struct interp *e, const struct block *b)
{
    uint64_t next = PAGE_BASE(block_linear(e, e->v->cpu.rip)) + MEM_PAGE_SIZE;
    uint32_t frame;

    if (!interp_is64(e)) {
        next &= UINT32_MAX;
    }
    return block_frame(e, next, &frame) && frame == b->frame2;
}

static struct block *block_lookup(struct interp *e, uint32_t frame, unsigned offset,
                                  unsigned mode)
{
    struct block *b = e->hash[block_hash(frame, offset, mode)];

    while (b != NULL && (b->frame != frame || b->offset != offset || b->mode != mode)) {
        b = b->hash_next;
    }
    return b;
}

static struct block *block_make(struct interp *e, uint32_t frame, unsigned offset)
{
    struct block *b, **slot;

    if (e->arena_size - e->arena_used < ARENA_RESERVE) {
        interp_blocks_drop(e);
    }
    slot = &e->hash[block_hash(frame, offset, e->mode)];
    b = block_alloc(e, sizeof(*b));
    memset(b, 0, sizeof(*b));
    b->frame = frame;
    b->offset = (uint16_t)offset;
    b->mode = e->mode;
    if (!block_fill(e, b)) {
        return NULL;
    }
    b->hash_next = *slot;
    *slot = b;
    return b;
}

bool interp_block_redo(struct interp *e, struct block *b)
{
    if (e->rewrite != NULL && b->mode == MODE_64 && !b->crosses && e->rewrite(e, b)) {
        return true;
    }
    return interp_block_decode(e, b);
}

bool interp_block_decode(struct interp *e, struct block *b)
{
    if (e->arena_size - e->arena_used < ARENA_RESERVE) {
        interp_blocks_drop(e);
        return false;
    }
    return block_fill(e, b);
}

/* Finds or makes the block for frame:offset; crossing ones are checked against the current
 * tables. */
static struct block *block_at(struct interp *e, uint32_t frame, unsigned offset)
{
    struct block *b = block_lookup(e, frame, offset, e->mode);

    if (b == NULL) {
        return block_make(e, frame, offset);
    }
    if (b->crosses && !interp_block_second_same(e, b)) {
        return interp_block_redo(e, b) ? b : NULL;
    }
    if (*b->generation_now != b->generation || b->crosses) {
        if (!interp_block_check(e, b) && !interp_block_redo(e, b)) {
            return NULL;
        }
    }
    return b;
}

struct block *interp_block_find(struct interp *e)
{
    uint64_t rip = e->v->cpu.rip, va = block_linear(e, rip);
    struct jump *jump = interp_jump_at(e, rip);
    struct block *b;
    uint32_t frame;

    interp_fpu_home(e);
    if (!block_fetch_ok(e, 1)) {
        e->fault_pending = true;
        interp_fault_code(e, CPU_GP, 0);
        return NULL;
    }
    if (!block_frame(e, va, &frame)) {
        e->fault_pending = true;
        return NULL;
    }
    e->fault.vector = 0xff;
    b = block_at(e, frame, (unsigned)(va & (MEM_PAGE_SIZE - 1)));
    if (b == NULL) {
        e->fault_pending = e->fault.vector != 0xff; /* else the cache was dropped: once more */
        return NULL;
    }
    if (interp_flat(e)) {
        unsigned slot = interp_tlb_slot(va), bit = interp_jump_page_bit(va);
        bool global =
            e->tlb->entry[slot].exec == PAGE_BASE(va) && e->tlb->global[slot] && !b->crosses;
        uint64_t *pages = global ? e->jump_pages : e->space->jump_pages;

        jump->tag = rip ^ (global ? e->jump_key_global : e->jump_key);
        jump->block = b;
        pages[bit / 64] |= 1ull << (bit % 64);
        if (b->crosses) {
            bit = interp_jump_page_bit(va + MEM_PAGE_SIZE);
            pages[bit / 64] |= 1ull << (bit % 64);
        }
    }
    return b;
}
