/* SPDX-License-Identifier: MIT */
/*
 * In and out of translated code. Every block of 64-bit code, and of flat 32-bit code, starts with a record whose handler
 * is dbt_entry(): it counts, has the block translated when it is hot, and runs the translation,
 * which goes on from block to block by itself until something needs the interpreter.
 */
#include "base/log.h"
#include "engine.h"

#include "insn.h"

enum { NEVER = INT32_MAX };

typedef void (*run_enter_fn)(struct dbt *d, const void *code);

/* ---- translations ---- */

static struct tb *run_translate(struct dbt *d, struct block *b, unsigned index)
{
    struct tb *old = b->translation, *t = old;

    if (!dbt_cache_room(d)) {
        interp_attend(&d->interp, ATTENTION_DROP, true);
        return NULL;
    }
    interp_fpu_home(&d->interp); /* before all that may be done by memset() */
    if (t == NULL || t->dead || t->edition != b->edition) {
        t = &d->tbs[d->nr_tbs];
        *t = (struct tb){.edition = b->edition, .block = b, .generation = b->generation};
    }
    if (!dbt_translate(d, t, index)) {
        return NULL;
    }
    if (t != old) {
        d->nr_tbs++;
        b->translation = t;
        dbt_tb_add(d, t);
        if (old != NULL && !old->dead) {
            dbt_tb_kill(d, old);
        }
    }
    return dbt_tb_outdated(d, t) ? NULL : t;
}

static struct tb *run_find(struct dbt *d, struct op *op, unsigned index)
{
    struct block *b = d->interp.current;
    struct tb *t = b->translation;

    if (likely(t != NULL && t->edition == b->edition && t->code[index].far != 0) &&
        (likely(!t->dead) || dbt_tb_revive(d, t))) {
        return t;
    }
    if (op->disp == NEVER || (unsigned)++op->disp < d->options.hot) {
        return NULL;
    }
    t = run_translate(d, b, index);
    if (t == NULL && b->translation == NULL) {
        op->disp = NEVER;
    }
    return t;
}

/* Not 4 GiB of data that may be written (SDM vol. 3 3.4.5.1), from wherever? */
static bool run_segment_odd(const struct cpu_segment *s)
{
    return s->unusable || s->limit != UINT32_MAX || (s->attr & 0xe) != 2;
}

void dbt_refresh(struct dbt *d)
{
    const struct cpu_segment *seg = d->interp.v->cpu.seg;

    d->stack_base = d->interp.stack.base;
    d->seg_base[0] = seg[CPU_FS].base;
    d->seg_base[1] = seg[CPU_GS].base;
    if (d->interp.mode != MODE_64) {
        d->seg_odd[0] = run_segment_odd(&seg[CPU_FS]);
        d->seg_odd[1] = run_segment_odd(&seg[CPU_GS]);
    }
}

/* Translated code runs with this TLB in this page next. */
static void run_arrive(struct dbt *d, unsigned index, uint64_t page)
{
    if (index != d->index) {
        dbt_stack_switch(d, index);
    }
    if (unlikely(d->mode[index] != d->interp.mode)) {
        dbt_stack_mode(d);
    }
    d->interp.v->cpu.gpr[CPU_RSP] &= d->interp.address_mask; /* as all that follows takes it to be */
    d->page = page;
    dbt_refresh(d);
}

/* What tr_across() is about to look at is as it wants it: else the interpreter is to do the
 * instruction, which brings the other page. */
static bool run_across(const struct dbt *d, const struct block *b)
{
    const struct interp *e = &d->interp;
    const uint64_t next = PAGE_BASE(e->v->cpu.rip) + MEM_PAGE_SIZE;
    const bool wraps = (next & ~e->address_mask) != 0;
    const struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(next)];
    const unsigned first = MEM_PAGE_SIZE - b->offset;

    return !wraps && en->exec == next &&
           interp_code_equal(b->source + first,
                             (const uint8_t *)(uintptr_t)(next + en->addend), b->bytes - first);
}

/* From C to translated code in this page: all but going there. */
static void run_ready(struct dbt *d, uint64_t page)
{
    struct interp *e = &d->interp;

    if (unlikely(atomic_load_explicit(&e->poll, memory_order_relaxed) != e->poll_go)) {
        interp_poll_arm(e);
    }
    run_arrive(d, (unsigned)(e->tlb - e->tlbs), page);
}

static void run_code(struct dbt *d, uint32_t code)
{
    ((run_enter_fn)(uintptr_t)(d->rx + d->common_enter))(d, d->rx + code);
}

void dbt_enter(struct dbt *d, uint32_t code)
{
    run_ready(d, PAGE_BASE(d->interp.v->cpu.rip));
    run_code(d, code);
}

/* Looking at the time takes some. An interrupt leads here about twice. */
enum { AGAIN_ENTRIES = 4 };

struct block *dbt_entry(struct vcpu *v, struct op *op, struct interp *e)
{
    struct dbt *d = dbt_of(e);
    unsigned index = (unsigned)(e->tlb - e->tlbs);
    struct tb *t;

    if (unlikely((d->options.shake | d->options.relink) != 0)) {
        dbt_stress(d, e->current);
    }
    if (++d->again.entries % AGAIN_ENTRIES == 0) {
        dbt_near_again(d);
    }
    t = run_find(d, op, index);
    if (t == NULL || (t->need & e->native_missing) != 0 ||
        (e->current->crosses && !run_across(d, e->current))) {
        d->link = 0;
        d->counts.n[COUNT_INTERPRETED]++;
        return op[1].fn(v, op + 1, e);
    }
    d->counts.n[COUNT_ENTERED]++;
    dbt_jumps_check(d, index);
    if (dbt_free(d, t)) {
        dbt_jump_add(d, index, v->cpu.rip, &t->code[index]);
    }
    if (d->link != 0) {
        dbt_link(d, t, index);
    }
    d->link = 0;
    if (unlikely(d->lockstep != NULL)) {
        dbt_lockstep_choose(d, t);
    }
    if (atomic_load(&e->attention) != 0) {
        if (unlikely(d->lockstep != NULL)) {
            dbt_lockstep_leave(d);
        }
        return op[1].fn(v, op + 1, e); /* one block, and the main loop looks again */
    }
    run_ready(d, v->engine_words[1]);
    if (unlikely(d->lockstep != NULL)) {
        dbt_lockstep_before(d, t);
    }
    run_code(d, t->code[index].mem[0]);
    if (unlikely(d->lockstep != NULL)) {
        dbt_lockstep_after(d, t);
    }
    if (unlikely((log_mask & LOG_EXITS) != 0)) {
        interp_fpu_home(e);
        dbt_trace_exit(d, t);
        d->why = NULL;
    }
    return NULL;
}

/* ---- calls from translated code ---- */

struct interp *dbt_home(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];
    struct interp *e = &d->interp;

    d->link = 0;
    d->forgotten = e->near.forgotten;
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
    if (insn_decode(&d->insns[rec->insn], (enum insn_mode)(b->mode & MODE_CODE), b->source + at,
                    b->bytes - at) != INSN_OK) {
        g_assert_not_reached();
    }
    return &d->insns[rec->insn];
}

const void *dbt_resume(struct dbt *d, const struct tb *t, uint32_t code)
{
    if (d->interp.stack.base != d->stack_base) {
        return NULL; /* what was checked is no longer so */
    }
    if (t->need != 0 && !d->interp.fpu_resident) {
        interp_fpu_load(&d->interp);
    }
    return d->rx + code;
}

const void *dbt_next(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];

    if (rec->resume == 0 || d->interp.break_block ||
        d->interp.stack.base != d->stack_base) {
        d->interp.v->cpu.rip =
            (d->page + rec->ip + dbt_insn(d, number)->len) & d->interp.address_mask;
        return NULL;
    }
    return dbt_resume(d, rec->tb, rec->resume);
}

const void *dbt_go(struct dbt *d)
{
    struct interp *e = &d->interp;
    unsigned index = (unsigned)(e->tlb - e->tlbs);
    uint64_t rip = e->v->cpu.rip;
    struct tb *t = interp_entered(e) ? dbt_find(d, index, rip) : NULL;

    dbt_jumps_check(d, index);
    if (t == NULL || d->options.no_jumps || atomic_load(&e->attention) != 0 ||
        d->comparing || !dbt_free(d, t)) {
        return NULL;
    }
    dbt_jump_add(d, index, rip, &t->code[index]);
    run_arrive(d, index, PAGE_BASE(rip));
    return d->rx + t->code[index].mem[0];
}

const void *dbt_slow(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];
    struct interp *e = dbt_home(d, number);
    const struct insn *in = dbt_insn(d, number);
    uint64_t next = e->v->cpu.rip + in->len;

    if ((in->flags & INSN_F_SYSTEM) != 0) {
        return dbt_system(d, number);
    }
    d->counts.n[COUNT_SLOW]++;
    if (rec->group) {
        dbt_near_apart(d);
    }
    dbt_count_site(&d->counts, e->v->cpu.rip);
    d->why = "interpreted instruction";
    if (!interp_generic(e, in)) {
        return dbt_fault(d);
    }
    if (e->break_block || e->v->cpu.rip != next || rec->resume == 0 ||
        e->near.forgotten != d->forgotten ||
        (insn_stores(in) && (atomic_load(&e->attention) & ATTENTION_CODE) != 0)) {
        return NULL;
    }
    return dbt_resume(d, rec->tb, rec->resume);
}

const void *dbt_fpu(struct dbt *d, uint32_t number)
{
    const struct rec *rec = &d->recs[number];

    d->link = 0;
    d->interp.v->cpu.rip = d->page + rec->ip;
    return dbt_resume(d, rec->tb, rec->resume);
}

bool dbt_fill(struct dbt *d, uint64_t va, bool write)
{
    struct interp *e = &d->interp;
    struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];
    uint64_t gpa;
    uint8_t *hva;

    if (!interp_resolve(e, va, write ? X86_WRITE : X86_READ, &hva, &gpa)) {
        return false;
    }
    if (write && unlikely(e->break_block)) {
        en->write = TLB_NONE; /* the interpreter makes that store, and leaves */
    }
    return (write ? en->write : en->read) == PAGE_BASE(va);
}

bool dbt_ask(struct dbt *d, uint64_t page, bool write)
{
    struct interp *e = &d->interp;
    bool resident = e->fpu_resident, ok;

    d->counts.n[COUNT_TLB_MISSES]++;
    if (!interp_canonical(page)) {
        return false;
    }
    if (dbt_stlb_find(d, page, write)) {
        return true;
    }
    e->current = d->recs[d->rec & DBT_REC_NUMBER].tb->block;
    e->break_block = false;
    ok = dbt_fill(d, page, write);
    d->counts.n[COUNT_TLB_FILLS] += ok;
    if (ok) {
        dbt_stlb_add(d, page);
    }
    if (resident && !e->fpu_resident) {
        interp_fpu_load(e);
    }
    return ok;
}

bool dbt_miss(struct dbt *d, uint64_t page, uint32_t slot)
{
    if (interp_tlb_slot(page) != slot / sizeof(struct tlb_entry)) {
        d->counts.n[COUNT_TLB_MISSES]++;
        return false; /* over a page boundary */
    }
    if ((d->rec & DBT_REC_LOAD) != 0) { /* D is not for this to set */
        return dbt_ask(d, page, false) &&
               d->interp.tlb->entry[interp_tlb_slot(page)].write == page;
    }
    return dbt_ask(d, page, (d->rec & DBT_REC_WRITE) != 0);
}
