/* SPDX-License-Identifier: MIT */
/*
 * In and out of translated code. Every block of 64-bit code starts with a record whose handler
 * is dbt_entry(): it counts, has the block translated when it is hot, and runs the translation,
 * which goes on from block to block by itself until something needs the interpreter.
 */
#include "engine.h"

enum { NEVER = INT32_MAX };

typedef void (*run_enter_fn)(struct dbt *d, const void *code);

/* ---- where to go on ---- */

static void run_jumps_clear(struct dbt *d, unsigned index)
{
    for (unsigned i = 0; i < d->nr_jump_used[index]; i++) {
        dbt_jump_clear(d, index, d->jump_used[index][i]);
    }
    d->nr_jump_used[index] = 0;
    d->jump_local[index] = false;
}

/* Forgets jumps that a change of page tables has made doubtful. */
static void run_jumps_check(struct dbt *d, unsigned index)
{
    const struct interp *e = &d->interp;

    if (d->jump_epoch_global[index] != e->epoch_global ||
        (d->jump_local[index] && d->jump_epoch[index] != e->epoch_local)) {
        run_jumps_clear(d, index);
    }
    d->jump_epoch[index] = e->epoch_local;
    d->jump_epoch_global[index] = e->epoch_global;
}

/* Certainly in a global page? */
static bool run_global(const struct interp *e, uint64_t rip)
{
    const struct jump *jump = &e->jumps[(rip ^ rip >> JUMP_BITS) & (JUMP_SIZE - 1)];
    unsigned slot = (unsigned)(rip >> 12) & (TLB_SIZE - 1);

    return (jump->tag ^ rip) == e->jump_key_global ||
           (e->tlb->entry[slot].exec == PAGE_BASE(rip) && e->tlb->global[slot]);
}

static void run_jump_add(struct dbt *d, unsigned index, uint64_t rip, uint32_t code)
{
    struct interp *e = &d->interp;
    unsigned at = dbt_jump_slot(rip);
    struct dbt_jump *jump = &d->jumps[index][at];

    if (jump->code == 0) {
        d->jump_used[index][d->nr_jump_used[index]++] = (uint16_t)at;
    }
    jump->rip = rip;
    jump->code = (uint64_t)(uintptr_t)(d->rx + code);
    d->jump_local[index] |= !run_global(e, rip);
}

/* ---- translations ---- */

/* The links to an old translation lead to the new one. */
static void run_replace(struct dbt *d, const struct tb *old, const struct tb *now,
                        unsigned index)
{
    struct {
        uint8_t op;
        uint32_t rel;
    } __attribute__((packed)) jmp = {.op = 0xe9};
    uint32_t from[2] = {old->code[index].host, old->code[index].mem};
    uint32_t to[2] = {now->code[index].host, now->code[index].mem};

    for (unsigned i = 0; i < 2 && from[0] != 0; i++) {
        if (from[i] != from[0] && from[1] - from[0] < sizeof(jmp)) {
            break;
        }
        jmp.rel = to[i] - (from[i] + (uint32_t)sizeof(jmp));
        __builtin_memcpy(d->rw + from[i], &jmp, sizeof(jmp));
    }
}

static struct tb *run_translate(struct dbt *d, struct block *b, unsigned index)
{
    struct tb *old = b->translation, *t = old;

    if (!dbt_cache_room(d)) {
        interp_attend(&d->interp, ATTENTION_DROP, true);
        return NULL;
    }
    if (t == NULL || t->ops != b->ops) {
        t = &d->tbs[d->nr_tbs];
        *t = (struct tb){.ops = b->ops, .block = b, .generation = b->generation};
    }
    interp_fpu_home(&d->interp);
    if (!dbt_translate(d, b, t, index)) {
        return NULL;
    }
    if (t != old) {
        d->nr_tbs++;
        b->translation = t;
        if (old != NULL) {
            run_replace(d, old, t, index);
        }
    }
    return t;
}

/* The block's bytes were found unchanged in a newer generation of the page. */
static void run_renew(struct dbt *d, struct tb *t, uint32_t generation)
{
    t->generation = generation;
    for (unsigned i = 0; i < TLB_NR; i++) {
        if (t->code[i].mem != 0) {
            *(interp_uint32_t *)(void *)(d->rw + t->code[i].generation) = generation;
        }
    }
}

/* The branch that led out of translated code goes to this block from now on. */
static void run_link(struct dbt *d, const struct tb *t, unsigned index)
{
    const struct link *l = &d->links[d->link];
    uint32_t rel;

    if (l->tb->block->frame == t->block->frame && l->to == t->block->offset &&
        l->index == index && l->tb->ops == l->tb->block->ops) {
        rel = (l->host ? t->code[index].host : t->code[index].mem) - (l->patch + 4);
        *(interp_uint32_t *)(void *)(d->rw + l->patch) = rel;
    }
}

static struct tb *run_find(struct dbt *d, struct op *op, unsigned index)
{
    struct block *b = d->interp.current;
    struct tb *t = b->translation;

    if (likely(t != NULL && t->ops == b->ops && t->code[index].mem != 0)) {
        return t;
    }
    if (op->disp == NEVER || (unsigned)++op->disp < d->options.hot) {
        return NULL;
    }
    t = run_translate(d, b, index);
    if (t == NULL) {
        op->disp = NEVER;
    }
    return t;
}

struct block *dbt_entry(struct vcpu *v, struct op *op, struct interp *e)
{
    struct dbt *d = dbt_of(e);
    unsigned index = (unsigned)(e->tlb - e->tlbs);
    struct tb *t = run_find(d, op, index);

    if (t == NULL || (t->need & e->native_missing) != 0) {
        d->link = 0;
        return op[1].fn(v, op + 1, e);
    }
    if (t->generation != t->block->generation) {
        run_renew(d, t, t->block->generation);
    }
    run_jumps_check(d, index);
    if (!d->options.no_jumps) {
        run_jump_add(d, index, v->cpu.rip, t->code[index].mem);
    }
    if (d->link != 0 && !d->options.no_jumps) {
        run_link(d, t, index);
    }
    d->link = 0;
    if (atomic_load(&e->attention) != 0) {
        return op[1].fn(v, op + 1, e); /* one block, and the main loop looks again */
    }
    d->page = v->engine_words[1];
    d->seg_base[0] = v->cpu.seg[CPU_FS].base;
    d->seg_base[1] = v->cpu.seg[CPU_GS].base;
    if (unlikely(d->lockstep != NULL)) {
        dbt_lockstep_before(d, t);
    }
    ((run_enter_fn)(uintptr_t)(d->rx + d->common_enter))(d, d->rx + t->code[index].mem);
    if (unlikely(d->lockstep != NULL)) {
        dbt_lockstep_after(d, t);
    }
    return NULL;
}

/* ---- calls from translated code ---- */

struct interp *dbt_home(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];
    struct interp *e = &d->interp;

    d->link = 0;
    e->current = rec->tb->block;
    e->break_block = false;
    e->v->engine_words[1] = d->page;
    e->v->cpu.rip = d->page + rec->ip;
    return e;
}

/* The instruction of a rec, decoded the first time from its block's own bytes. */
const struct insn *dbt_insn(struct dbt *d, uint32_t number)
{
    struct rec *rec = &d->recs[number];
    const struct block *b = rec->tb->block;
    unsigned at = (unsigned)(rec->ip - b->offset);

    if (likely(rec->insn != 0)) {
        return &d->insns[rec->insn];
    }
    interp_fpu_home(&d->interp);
    if (d->nr_insns < DBT_MAX_INSNS) {
        rec->insn = d->nr_insns++;
    }
    if (insn_decode(&d->insns[rec->insn], INSN_MODE_64, b->source + at, b->bytes - at) !=
        INSN_OK) {
        g_assert_not_reached();
    }
    return &d->insns[rec->insn];
}

/* The state may have been brought home; in translated code it has to be there again. */
static const void *run_resume(struct dbt *d, const struct tb *t, uint32_t code)
{
    if (t->need != 0 && !d->interp.fpu_resident) {
        interp_fpu_load(&d->interp);
    }
    return d->rx + code;
}

const void *dbt_next(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];

    if (rec->resume == 0 || d->interp.break_block) {
        d->interp.v->cpu.rip = d->page + rec->ip + dbt_insn(d, number)->len;
        return NULL;
    }
    return run_resume(d, rec->tb, rec->resume);
}

const void *dbt_go(struct dbt *d)
{
    struct interp *e = &d->interp;
    unsigned index = (unsigned)(e->tlb - e->tlbs);
    uint64_t rip = e->v->cpu.rip;
    const struct dbt_jump *jump = &d->jumps[index][dbt_jump_slot(rip)];

    run_jumps_check(d, index);
    if (jump->code == 0 || jump->rip != rip || e->mode != MODE_64 ||
        atomic_load(&e->attention) != 0) {
        return NULL;
    }
    d->page = PAGE_BASE(rip);
    d->seg_base[0] = e->v->cpu.seg[CPU_FS].base;
    d->seg_base[1] = e->v->cpu.seg[CPU_GS].base;
    return (const void *)(uintptr_t)jump->code;
}

const void *dbt_slow(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];
    struct interp *e = dbt_home(d, number);
    const struct insn *in = dbt_insn(d, number);
    uint64_t next = e->v->cpu.rip + in->len;

    if (!interp_generic(e, in)) {
        e->fault_pending = true;
        return NULL;
    }
    if (e->break_block || e->v->cpu.rip != next || rec->resume == 0) {
        return NULL;
    }
    return run_resume(d, rec->tb, rec->resume);
}

const void *dbt_fpu(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];

    d->link = 0;
    d->interp.v->cpu.rip = d->page + rec->ip;
    return run_resume(d, rec->tb, rec->start);
}

bool dbt_fill(struct dbt *d, uint64_t va, bool write)
{
    struct interp *e = &d->interp;
    const struct tlb_entry *en = &e->tlb->entry[(va >> 12) & (TLB_SIZE - 1)];
    uint64_t gpa;
    uint8_t *hva;

    return interp_resolve(e, va, write ? X86_WRITE : X86_READ, &hva, &gpa) &&
           (write ? en->write : en->read) == PAGE_BASE(va);
}

bool dbt_miss(struct dbt *d, uint64_t page, uint32_t slot)
{
    struct interp *e = &d->interp;
    bool resident = e->fpu_resident, ok;

    if ((page >> 12 & (TLB_SIZE - 1)) != slot / sizeof(struct tlb_entry) ||
        !interp_canonical(page)) {
        return false; /* over a page boundary */
    }
    ok = dbt_fill(d, page, (d->rec & DBT_REC_WRITE) != 0);
    if (resident && !e->fpu_resident) {
        interp_fpu_load(e);
    }
    return ok;
}
