/* SPDX-License-Identifier: MIT */
/*
 * Code that is written anew again and again, by a small compiler or as a patched immediate. A
 * block that has changed and works on registers only is translated at once and in one pass:
 * instructions are copied as they are, since guest registers are the host's. Where the
 * translation before was such a one, this one takes its place: only the body is written. The
 * interpreter's operations are not made until somebody wants them.
 *
 * There is nothing in a body that a link leads from, that returns are predicted to, or that can
 * fault; so it may be overwritten whenever it is not running, and it never runs while C does.
 * Flags are in EFLAGS throughout, all of them alive at its ends.
 */
#include "base/log.h"
#include "engine.h"

#include "insn.h"

enum { BYTES = 128, INSNS = 48, BODY = 512, BODY_SPARE = 64, BRANCHES = 8 };

#define GS(field)   ((uint32_t)offsetof(struct dbt, field))
#define LE32(value) (uint8_t)(value), (uint8_t)((value) >> 8), (uint8_t)((value) >> 16), (uint8_t)((value) >> 24)

struct branch {
    uint16_t patch; /* of its displacement, in the body */
    int32_t to;     /* offset in the block */
};

struct rewrite {
    struct dbt *d;
    const struct block *b;
    unsigned avail, len;   /* of bytes: there; used */
    unsigned nr, nr_branches, nr_recs, size;
    uint8_t pending, live; /* flags not overwritten so far; that matter before the first */
    bool ret;              /* reads [RSP] */
    struct branch branch[BRANCHES];
    struct rec rec[DBT_BODY_RECS]; /* start and end in the body */
    uint8_t at[INSNS];
    uint16_t host[INSNS];
    uint16_t jump[BRANCHES]; /* places of displacements to common_go */
    unsigned nr_jumps;
    uint8_t bytes[BYTES + 16];
    uint8_t body[BODY + BODY_SPARE];
};

static uint32_t rewrite_load32(const uint8_t *p)
{
    return *(const interp_uint32_t *)(const void *)p;
}

static void rewrite_store32(uint8_t *p, uint32_t val)
{
    *(interp_uint32_t *)(void *)p = val;
}

/* Multiples of 16 bytes. */
static inline void rewrite_copy(uint8_t *to, const uint8_t *from, unsigned len)
{
    for (unsigned i = 0; i < len; i += 16) {
        uint64_t a = *(const interp_uint64_t *)(const void *)(from + i);
        uint64_t b = *(const interp_uint64_t *)(const void *)(from + i + 8);

        *(interp_uint64_t *)(void *)(to + i) = a;
        *(interp_uint64_t *)(void *)(to + i + 8) = b;
    }
}

/* ---- one instruction ---- */

/* What is known about the instruction at p. */
static const struct dbt_form *rewrite_form(struct dbt *d, const uint8_t *p)
{
    unsigned rex = (p[0] & 0xf0) == 0x40;
    unsigned n = p[rex] == 0x0f ? d->head_0f[p[rex + 1]] : d->head[p[rex]];
    uint32_t head = rewrite_load32(p) & (uint32_t)((1ull << (8 * (n + rex))) - 1);
    struct dbt_form *f = &d->forms[head * 0x9e3779b1u >> (32 - DBT_FORM_BITS)];

    if (unlikely(n == 0)) {
        return NULL;
    }
    if (unlikely(f->head != head)) {
        interp_fpu_home(&d->interp);
        dbt_form_learn(f, head, p);
    }
    return f;
}

static void rewrite_emit(struct rewrite *w, const uint8_t *p, unsigned len)
{
    rewrite_copy(w->body + w->size, p, 32);
    w->size += len;
}

/* A place in the body for an offset in the block; -1: no instruction begins there. */
static int rewrite_place(const struct rewrite *w, int32_t to)
{
    for (unsigned i = w->nr; i-- > 0;) {
        if (w->at[i] == to) {
            return w->host[i];
        }
    }
    return -1;
}

/* The next of the body's records. Its number. */
static uint32_t rewrite_rec(struct rewrite *w, unsigned at, unsigned start)
{
    w->rec[w->nr_recs] = (struct rec){
        .start = start, .ip = (uint16_t)(w->b->offset + at), .poll_flags = true};
    return w->nr_recs++;
}

static bool rewrite_branch(struct rewrite *w, const struct dbt_form *f, unsigned at)
{
    static const uint8_t poll[32] = {0x65, 0x4c, 0x8b, 0x14, 0x25, LE32(GS(interp.poll)),
                                     0x45, 0x8b, 0x12}; /* as tr_poll() */
    const uint8_t *end = w->bytes + at + f->len;
    int32_t to = (int32_t)(at + f->len) +
                 (f->wide ? (int32_t)rewrite_load32(end - 4) : (int8_t)end[-1]);
    bool back = to <= (int32_t)at && rewrite_place(w, to) >= 0;
    struct branch *b = &w->branch[w->nr_branches++];
    uint32_t rec = 0;

    if (w->nr_branches == BRANCHES || (back && w->nr_recs == DBT_BODY_RECS - 1)) {
        return false;
    }
    if (back && w->d->lockstep != NULL) {
        return false; /* which has to see every turn */
    }
    if (back) {
        rec = rewrite_rec(w, at, w->size);
        rewrite_emit(w, poll, 12);
    }
    if (f->kind == DBT_FORM_JCC) {
        w->body[w->size++] = 0x0f;
        w->body[w->size++] = f->cond | 0x80;
    } else {
        w->body[w->size++] = 0xe9;
    }
    *b = (struct branch){(uint16_t)w->size, to};
    w->size += 4;
    if (back) {
        w->rec[rec].end = w->size;
    }
    return true;
}

/* As flow_ret(): the stack is checked. The number of the record is filled in later. */
static void rewrite_ret(struct rewrite *w, unsigned at)
{
    static const uint8_t ret[32] = {0x4d, 0x8b, 0x11,       /* mov (%r9),%r10 */
                                    0x4d, 0x8d, 0x49, 0x08, /* lea 8(%r9),%r9 */
                                    0x65, 0xc7, 0x04, 0x25, LE32(GS(rec)), 0, 0, 0, 0, 0xc3};
    uint32_t rec = rewrite_rec(w, at, w->size);

    rewrite_emit(w, ret, 20);
    w->rec[rec].end = w->size;
    w->ret = true;
}

/* ---- the block ---- */

/* Branches to where no instruction of the block is: by the table of jumps. */
static bool rewrite_exit(struct rewrite *w, int32_t to)
{
    static const uint8_t exit[32] = {0x65, 0x4c, 0x8b, 0x14, 0x25, LE32(GS(page)), /* mov */
                                     0x4d, 0x8d, 0x92, 0, 0, 0, 0, /* lea ..(%r10),%r10 */
                                     0xe9, 0, 0, 0, 0};            /* jmp */
    int32_t offset = to + w->b->offset;

    if (offset < 0 || offset >= MEM_PAGE_SIZE || w->size > BODY - 32) {
        return false;
    }
    rewrite_emit(w, exit, 21);
    rewrite_store32(w->body + w->size - 9, (uint32_t)offset);
    w->jump[w->nr_jumps++] = (uint16_t)(w->size - 4);
    return true;
}

static bool rewrite_branches(struct rewrite *w)
{
    for (unsigned i = 0; i < w->nr_branches; i++) {
        const struct branch *b = &w->branch[i];
        int place = rewrite_place(w, b->to);

        if (place < 0) {
            place = (int)w->size;
            if (!rewrite_exit(w, b->to)) {
                return false;
            }
        }
        rewrite_store32(w->body + b->patch, (uint32_t)(place - (b->patch + 4)));
    }
    return true;
}

/* From bytes to body. false: not of this kind. */
static bool rewrite_scan(struct rewrite *w)
{
    unsigned most = w->d->interp.stress.block_insns != 0 ? w->d->interp.stress.block_insns : INSNS;

    for (unsigned at = 0; at < w->avail && w->nr < MIN(most, INSNS) && w->size <= BODY - 32;) {
        const struct dbt_form *f = rewrite_form(w->d, w->bytes + at);

        if (f == NULL || f->kind == DBT_FORM_OTHER || at + f->len > w->avail) {
            return false;
        }
        w->at[w->nr] = (uint8_t)at;
        w->host[w->nr++] = (uint16_t)w->size;
        w->len = at + f->len;
        if (likely(f->kind == DBT_FORM_COPY)) {
            w->live |= f->reads & w->pending;
            w->pending &= (uint8_t)~f->kills;
            rewrite_copy(w->body + w->size, w->bytes + at, 16);
            w->size += f->len;
        } else {
            w->live |= w->pending;
            w->pending = 0;
            if (f->kind == DBT_FORM_RET) {
                rewrite_ret(w, at);
            } else if (!rewrite_branch(w, f, at)) {
                return false;
            }
            if (f->kind != DBT_FORM_JCC) {
                return rewrite_branches(w);
            }
        }
        at = w->len;
    }
    return false; /* no end of it */
}

static void rewrite_begin(struct rewrite *w, struct dbt *d, const struct block *b)
{
    const uint8_t *page = mem_frame_hva(d->interp.v->mem, b->frame);

    w->d = d;
    w->b = b;
    w->nr = w->nr_branches = w->nr_recs = w->nr_jumps = w->size = w->len = 0;
    w->pending = FLAG_ALL;
    w->live = 0;
    w->ret = false;
    w->avail = MIN(BYTES, MEM_PAGE_SIZE - b->offset);
    if (likely(b->offset <= MEM_PAGE_SIZE - sizeof(w->bytes))) {
        rewrite_copy(w->bytes, page + b->offset, sizeof(w->bytes));
        return;
    }
    for (unsigned i = 0; i < sizeof(w->bytes); i++) {
        w->bytes[i] = i < w->avail ? page[b->offset + i] : 0;
    }
}

/* Can t's place be taken? */
static bool rewrite_fits(const struct rewrite *w, const struct tb *t, unsigned index)
{
    const struct tb_code *code;

    if (t == NULL || t->room < w->size || (w->live != 0 && !t->all_flags) ||
        (log_mask & (LOG_IN_ASM | LOG_OUT_ASM)) != 0) {
        return false;
    }
    code = &t->code[index];
    return code->far != 0 && code->plain == 0 && (!w->ret || code->high != code->low);
}

static void rewrite_put(struct rewrite *w, struct tb *t, unsigned index)
{
    struct dbt *d = w->d;

    for (unsigned i = 0; i < MAX(w->nr_recs, t->nr_body_recs); i++) {
        struct rec *rec = &d->recs[t->body_recs + i];

        *rec = i < w->nr_recs ? w->rec[i] : (struct rec){.start = t->room, .end = t->room};
        rec->tb = t;
        rec->start += t->body;
        rec->end += t->body;
    }
    t->nr_body_recs = (uint8_t)w->nr_recs;
    if (w->ret) {
        rewrite_store32(w->body + w->rec[w->nr_recs - 1].end - 5, t->body_recs + w->nr_recs - 1);
    }
    for (unsigned i = 0; i < w->nr_jumps; i++) {
        rewrite_store32(w->body + w->jump[i], d->common_go - (t->body + w->jump[i] + 4));
    }
    for (unsigned i = 0; i < w->size; i += DBT_BODY_UNIT) {
        rewrite_copy(d->rw + t->body + i, w->body + i, DBT_BODY_UNIT);
    }
    dbt_jump_back(d, &t->code[index]);
}

bool dbt_rewrite(struct interp *e, struct block *b)
{
    struct dbt *d = dbt_of(e);
    unsigned index = (unsigned)(e->tlb - e->tlbs), bytes = b->bytes;
    struct tb *t = b->translation;
    uint32_t start = d->used;
    struct rewrite w;

    rewrite_begin(&w, d, b);
    if (t != NULL) { /* about to be written, if there is one */
        __builtin_prefetch(d->rw + t->body, 1);
        __builtin_prefetch(d->rw + t->code[index].far, 1);
        __builtin_prefetch(&d->recs[t->body_recs], 1);
    }
    if (!rewrite_scan(&w) || !interp_block_room(b, w.len) || (w.ret && d->no_returns)) {
        return false;
    }
    if (!rewrite_fits(&w, t, index)) {
        struct dbt_body body = {.size = w.size, .all_flags = w.live != 0, .stack = w.ret};

        if (!dbt_cache_room(d)) {
            interp_attend(e, ATTENTION_DROP, true);
            return false;
        }
        interp_fpu_home(e);
        t = dbt_rewrite_make(d, b, index, &body);
    } else if (!t->dead) {
        dbt_tb_kill(d, t);
    }
    b->bytes = (uint16_t)w.len;
    interp_block_mark(e, b);
    if (!interp_block_same(e, b, w.bytes)) {
        b->bytes = (uint16_t)bytes;
        b->generation--;
        return false;
    }
    if (b->translation != NULL && b->translation != t && !((struct tb *)b->translation)->dead) {
        dbt_tb_kill(d, b->translation);
    }
    interp_block_defer(e, b, w.bytes);
    rewrite_put(&w, t, index);
    d->counts.n[COUNT_REWRITES]++;
    b->translation = t;
    t->edition = b->edition;
    t->generation = b->generation;
    t->dead = false;
    dbt_tb_add(d, t);
    if (d->used != start) { /* a new one: its place has a name from now on */
        dbt_trace_translation(d, t, start, w.nr, w.len);
    }
    if (t->generation != atomic_load(b->generation_now)) { /* before it was known by its frame */
        dbt_tb_kill(d, t);
    }
    return true;
}
