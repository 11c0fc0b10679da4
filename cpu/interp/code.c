/* SPDX-License-Identifier: MIT */
/*
 * Code that changes: which lines of a frame are code, whether a block's bytes are still those
 * it was made from, and what stores to such frames do.
 *
 * A frame with code gives nobody write tags, so each store to it is looked at. When many come
 * from elsewhere it is opened: it becomes plain data, whatever was made of it is to be compared
 * before it is used again, and the first use closes it. Just-in-time compilers do that all the
 * time; so while only one vCPU has had write tags of an open frame (`writer`), closing it is
 * that vCPU's own business, and usually one tag.
 */
#include "engine.h"

/* ---- marking ---- */

static struct opened *code_opened(struct interp *e, uint32_t frame)
{
    return &e->opened[frame % OPENED];
}

/* The tags this vCPU has given itself since it opened the frame. */
static void code_close(struct interp *e, uint32_t frame)
{
    const struct opened *o = code_opened(e, frame);
    uint64_t hva = (uint64_t)(uintptr_t)mem_frame_hva(e->v->mem, frame);
    struct tlb_entry *en;

    if (o->frame != frame || o->tags > 1) {
        interp_tlb_protect(e, frame);
        return;
    }
    e->protects++;
    interp_stack_forget_page(e, hva);
    if (o->tags == 1) {
        en = &e->tlbs[o->table].entry[o->slot];
        if (en->write != TLB_NONE && en->write + en->addend == hva) {
            en->write = TLB_NONE;
            e->tlbs[o->table].held[o->slot] = true; /* the next store opens it again */
        }
    }
}

/* The frame is marked as code, by this vCPU: takes all write tags that there may be. */
static void code_protect(struct interp *e, struct mem_frame_info *info, uint32_t frame)
{
    if (atomic_load(&info->writer) == e->v->id + 1u) {
        code_close(e, frame);
    } else {
        interp_tlb_protect(e, frame);
        interp_smp_protect(e);
    }
    atomic_fetch_and(&info->flags, (uint8_t)~MEM_SETTLING);
}

uint32_t interp_code_mark(struct interp *e, uint32_t frame, unsigned at, unsigned len)
{
    const uint8_t code = MEM_CODE;
    struct mem_frame_info *info = mem_frame_info(e->v->mem, frame);
    uint64_t lines = mem_lines(at, len);
    uint32_t generation;

    do {
        if ((atomic_load(&info->code_lines) & lines) != lines) {
            atomic_fetch_or(&info->code_lines, lines);
        }
        /* Only who sets MEM_SETTLING may take it away: others may still have tags. */
        if ((atomic_load(&info->flags) & (MEM_CODE | MEM_SETTLING)) != code) {
            if ((atomic_fetch_or(&info->flags, MEM_CODE | MEM_SETTLING) & MEM_SETTLING) == 0) {
                code_protect(e, info, frame);
            } else {
                interp_smp_settle(e, info);
            }
        }
        generation = atomic_load(&info->code_generation);
    } while ((atomic_load(&info->flags) & (MEM_CODE | MEM_SETTLING | MEM_CHANGING)) != code ||
             (atomic_load(&info->code_lines) & lines) != lines);
    e->code_misses[frame % PAGE_HASH_SIZE] = 0;
    return generation;
}

/* ---- comparing ---- */

bool interp_code_equal(const uint8_t *a, const uint8_t *b, unsigned len)
{
    for (; len >= 8; a += 8, b += 8, len -= 8) {
        if (*(const interp_uint64_t *)a != *(const interp_uint64_t *)b) {
            return false;
        }
    }
    for (; len > 0 && *a == *b; a++, b++) {
        len--;
    }
    return len == 0;
}

void interp_block_mark(struct interp *e, struct block *b)
{
    unsigned first = MIN(b->bytes, MEM_PAGE_SIZE - b->offset);

    b->generation = interp_code_mark(e, b->frame, b->offset, first);
    if (b->crosses) {
        b->generation2 = interp_code_mark(e, b->frame2, 0, INSN_MAX_LEN);
    }
}

bool interp_block_same(const struct interp *e, const struct block *b, const uint8_t *source)
{
    const uint8_t *page = mem_frame_hva(e->v->mem, b->frame);
    unsigned first = MIN(b->bytes, MEM_PAGE_SIZE - b->offset);

    if (!interp_code_equal(source, page + b->offset, first)) {
        return false;
    }
    return !b->crosses || interp_code_equal(source + first, mem_frame_hva(e->v->mem, b->frame2),
                                            b->bytes - first);
}

bool interp_block_check(struct interp *e, struct block *b)
{
    interp_block_mark(e, b);
    return interp_block_same(e, b, b->source);
}

bool interp_block_renew(struct interp *e, struct block *b)
{
    interp_block_prefetch(b); /* a while ago */
    if (likely(interp_block_check(e, b))) {
        return true;
    }
    interp_fpu_home(e);
    return !b->crosses && interp_block_redo(e, b);
}

enum { DEFERRED_OPS = 2 };

bool interp_block_room(const struct block *b, unsigned bytes)
{
    return b->room >= DEFERRED_OPS * sizeof(struct op) + ((bytes + 7) & ~7u);
}

void interp_block_defer(struct interp *e, struct block *b, const uint8_t *source)
{
    e->link_slot = NULL; /* which may be in there */
    b->edition++;
    b->nr_ops = 1;
    b->ops[0] = (struct op){.fn = e->entry};
    b->ops[1] = (struct op){.fn = interp_op_late};
    b->source = (uint8_t *)(b->ops + DEFERRED_OPS);
    for (unsigned i = 0; i < b->bytes; i += 8) { /* as interp_block_room() knows */
        *(interp_uint64_t *)(b->source + i) = *(const interp_uint64_t *)(source + i);
    }
}

/* ---- stores ---- */

/* As many slow stores as opening the frame costs: what was made of it has to be compared. */
static unsigned code_patience(struct interp *e, uint32_t frame)
{
    enum { OPEN = 1, EACH = 2 };

    return OPEN + EACH * (e->code_live != NULL ? e->code_live(e, frame) : 0);
}

/*
 * A store was made, or is about to be, to a frame with code. Stores from the frame itself do
 * not count, since it would be closed again at once. true: it is no longer marked as code.
 */
static bool code_weigh(struct interp *e, uint32_t frame, unsigned weight)
{
    uint64_t *slot = &e->code_misses[frame % PAGE_HASH_SIZE];

    if (e->current != NULL && e->current->frame == frame) {
        return false;
    }
    if (*slot >> 8 != frame) {
        *slot = (uint64_t)frame << 8;
    }
    *slot += MIN(weight, 0xff - (*slot & 0xff));
    if ((*slot & 0xff) < 0xff && (*slot & 0xff) < code_patience(e, frame)) {
        return false;
    }
    if (!mem_code_open(e->v->mem, frame, e->v->id < UINT16_MAX ? (uint16_t)(e->v->id + 1) : 0,
                       e)) {
        return false; /* next time */
    }
    *slot = (uint64_t)frame << 8;
    *code_opened(e, frame) = (struct opened){.frame = frame};
    return true;
}

/* The generation has moved on. */
static void code_changed(struct interp *e, uint32_t frame)
{
    if (e->code_written != NULL) {
        e->code_written(e, frame);
    }
    if (e->current != NULL && (e->current->frame == frame || e->current->crosses)) {
        e->break_block = true;
    }
}

bool interp_code_open(struct interp *e, const uint8_t *hva)
{
    uint32_t frame = mem_hva_frame(e->v->mem, hva);

    if (!code_weigh(e, frame, 1)) {
        return false;
    }
    code_changed(e, frame);
    return true;
}

/* What is made of the running block's frame is to be compared. */
static bool code_outdated(const struct interp *e)
{
    const struct block *b = e->current;

    return b != NULL && (b->crosses || atomic_load(b->generation_now) != b->generation);
}

void interp_code_written(struct interp *e, const uint8_t *hva, unsigned len)
{
    enum { WEIGHT_HIT = 8, WEIGHT_PAGE = 255 };
    const struct mem_frame_info *info = mem_ram_info(e->v->mem, hva);
    unsigned at = (unsigned)(uintptr_t)hva & (MEM_PAGE_SIZE - 1);
    uint32_t frame = mem_hva_frame(e->v->mem, hva);
    bool hit;

    atomic_thread_fence(memory_order_seq_cst); /* the bytes first, as in mem_written_at() */
    hit = (atomic_load(&info->code_lines) & mem_lines(at, len)) != 0;
    if (!code_weigh(e, frame, len > MEM_PAGE_SIZE / 2 ? WEIGHT_PAGE
                             : hit                   ? WEIGHT_HIT
                                                     : 0)) {
        if (!hit) {
            e->break_block |= code_outdated(e); /* perhaps its line is gone: memory.c */
            return;
        }
        mem_code_changed(e->v->mem, frame, e);
    }
    code_changed(e, frame);
}

bool interp_code_tag(struct interp *e, struct mem_frame_info *info, const uint8_t *hva,
                     unsigned table, unsigned slot)
{
    unsigned self = e->v->id + 1;
    uint32_t frame = mem_hva_frame(e->v->mem, hva);
    struct opened *o = code_opened(e, frame);

    if (atomic_load(&info->writer) == self) {
        if (o->frame != frame || (o->tags == 1 && (o->table != table || o->slot != slot))) {
            o->tags = o->frame == frame ? 2 : o->tags;
        } else {
            *o = (struct opened){
                .frame = frame, .tags = 1, .table = (uint8_t)table, .slot = (uint16_t)slot};
        }
        return true;
    }
    /* Who opened it must know when it closes it; so this comes first, and then the look. */
    do {
        atomic_store(&info->writer, 0);
        if ((atomic_load(&info->flags) & MEM_CODE) != 0) {
            return false;
        }
    } while (atomic_load(&info->writer) != 0);
    return true;
}
