/* SPDX-License-Identifier: MIT */
/*
 * From one translation to the next: direct links within a page, and the tables of jumps for
 * everything else. Neither is checked at the entry of a translation. So when the code of a
 * frame changes, whatever leads to the translations made from it is taken back (they are dead)
 * until the interpreter has met the block again and compared its bytes.
 *
 * Translated code of a vCPU is run and changed by its own thread only. Others leave a note in
 * d->changed and ask for attention.
 */
#include "engine.h"

enum { LINK_JMP = 0xe9 }; /* which no entry `far` begins with */

/* ---- links ---- */

static void link_patch(struct dbt *d, const struct link *l, uint32_t to)
{
    *(interp_uint32_t *)(void *)(d->rw + l->patch) = to - (l->patch + 4);
}

unsigned dbt_link_entry(const struct link *l, const struct tb *t,
                        const struct tb_code *code)
{
    if ((t->need & ~l->vector) != 0) {
        return 0;
    }
    return code->low == code->high || (code->low >= l->low && code->high <= l->high) ? 2 : 1;
}

/* It leads to where C looks what is to be linked. */
static void link_stub(struct dbt *d, struct link *l)
{
    link_patch(d, l, l->stub);
    l->linked = false;
}

/* Whatever leads here is linked anew. died: those who guess that they lead here are told. */
static void links_in_undo(struct dbt *d, struct tb_code *code, bool died)
{
    for (uint32_t in = code->in; in != 0; in = d->links[in].next) {
        struct link *l = &d->links[in];

        if (l->site != 0) {
            dbt_guess_gone(d, l, died);
        } else {
            link_stub(d, l);
            l->target = 0;
        }
    }
    code->in = 0;
}

void dbt_link_leave(struct dbt *d, struct link *l)
{
    uint32_t number = (uint32_t)(l - d->links);
    uint32_t *at = &d->tbs[l->target].code[l->index].in;

    while (*at != number) {
        at = &d->links[*at].next;
    }
    *at = l->next;
    l->target = 0;
}

/* Are its runs long enough for the head to pay? Its first iterations come by here. */
static void link_sample(struct dbt *d, struct tb_code *code, unsigned bit)
{
    enum { SAMPLES = 128, LONG = 8, QUICK = 3 };
    struct dbt_loop *loop = &d->loops[code->loop];
    const uint64_t *gpr = d->interp.v->cpu.gpr;
    uint64_t at = gpr[loop->reg], *good = &d->loops_good[bit / 64];
    bool always = d->options.loops || d->lockstep != NULL || (*good >> (bit % 64) & 1) != 0;

    loop->runs += loop->seen == 0 || at != loop->next;
    loop->next = at + (uint64_t)loop->by + (loop->by_reg < CPU_NR_GPR ? gpr[loop->by_reg] : 0);
    loop->known = ++loop->seen == SAMPLES || always;
    loop->good = always || loop->runs * (loop->quick ? QUICK : LONG) <= loop->seen;
    if (loop->known && loop->good) {
        *good |= 1ull << (bit % 64);
        d->counts.n[COUNT_LOOPS]++;
        links_in_undo(d, code, false);
    }
}

/* Where the link is to lead to; 0: nowhere yet. */
static uint32_t link_target(struct dbt *d, const struct link *l, const struct tb *t,
                            struct tb_code *code)
{
    unsigned checked = dbt_link_entry(l, t, code);
    const struct dbt_loop *loop = &d->loops[code->loop];

    if (code->loop != 0 && l->loop && l->tb == t && checked == 2) {
        if (!loop->known) {
            link_sample(d, code, dbt_site_bit(t->block->frame, t->block->offset));
        }
        if (!loop->known || loop->good) {
            return loop->known ? loop->entry : 0;
        }
    } else if (code->loop != 0 && loop->good && loop->open && checked == 2) {
        return loop->entry;
    }
    return l->host ? code->host[checked] : code->mem[checked];
}

void dbt_link(struct dbt *d, struct tb *t, unsigned index)
{
    struct link *l = &d->links[d->link];
    struct tb_code *code = &t->code[index];
    uint32_t to;

    if (!dbt_free(d, t) || !dbt_free(d, l->tb)) {
        return;
    }
    if (l->linked || l->tb->dead || l->tb->block->frame != t->block->frame ||
        l->tb->block->mode != t->block->mode ||
        l->to != t->block->offset || l->index != index) {
        return;
    }
    to = link_target(d, l, t, code);
    if (to == 0) {
        return;
    }
    link_patch(d, l, to);
    d->counts.n[COUNT_LINKS]++;
    l->linked = true;
    l->target = (uint32_t)(t - d->tbs);
    l->next = code->in;
    code->in = d->link;
}

/* ---- tables of jumps ---- */

void dbt_jumps_clear(struct dbt *d, unsigned index)
{
    for (unsigned i = 0; i < d->nr_jump_used[index]; i++) {
        dbt_jump_clear(d, index, d->jump_used[index][i]);
    }
    d->nr_jump_used[index] = 0;
    d->jump_local[index] = false;
    dbt_guesses_undo(d, index);
}

void dbt_jumps_check(struct dbt *d, unsigned index)
{
    const struct interp *e = &d->interp;

    if (!interp_keyed(index) &&
        (d->jump_epoch_global[index] != e->epoch_global ||
         (d->jump_local[index] && d->jump_epoch[index] != e->epoch_local))) {
        dbt_jumps_clear(d, index);
    }
    if (d->jump_epoch_global[index] != e->epoch_global ||
        d->jump_epoch[index] != e->epoch_local) {
        dbt_returns_reset(d, index);
    }
    d->jump_epoch[index] = e->epoch_local;
    d->jump_epoch_global[index] = e->epoch_global;
}

/* Certainly in a global page? */
static bool links_global(const struct interp *e, uint64_t rip)
{
    const struct jump *jump = interp_jump_at(e, rip);
    unsigned slot = interp_tlb_slot(rip);

    return (jump->tag ^ rip) == e->jump_key_global ||
           (e->tlb->entry[slot].exec == PAGE_BASE(rip) && e->tlb->global[slot]);
}

void dbt_jump_add(struct dbt *d, unsigned index, uint64_t rip, struct tb_code *code)
{
    uint64_t tag = dbt_jump_tag(d, index, rip);
    unsigned at = dbt_jump_slot(tag);
    struct dbt_jumps *jumps = &d->jumps[index];

    if (jumps->code[at] == 0) {
        d->jump_used[index][d->nr_jump_used[index]++] = (uint16_t)at;
    }
    jumps->tag[at] = tag;
    jumps->code[at] = (uint64_t)(uintptr_t)(d->rx + code->far);
    code->jump = code->jump == DBT_JUMP_NONE || code->jump == at ? at : DBT_JUMP_MANY;
    d->jump_local[index] |= !links_global(&d->interp, rip);
}

struct tb *dbt_find(struct dbt *d, unsigned index, uint64_t rip)
{
    const struct block *b = interp_jump(&d->interp, rip);
    struct tb *t = b != NULL ? b->translation : NULL;

    if (t == NULL && b != NULL) { /* the interpreter comes here next */
        interp_block_prefetch(b);
    }
    if (t == NULL || t->dead || t->edition != b->edition || t->code[index].far == 0 ||
        t->generation != b->generation || b->generation != atomic_load(b->generation_now)) {
        return NULL;
    }
    return t;
}

/* Code that may have changed: compared, and written anew if that is easy. `running` is not
 * touched. NULL: not now. */
static struct tb *links_renew(struct dbt *d, unsigned index, uint64_t rip,
                              const struct block *running)
{
    struct interp *e = &d->interp;
    struct block *b = interp_jump(e, rip);
    struct tb *t = b != NULL ? b->translation : NULL;
    bool resident = e->fpu_resident, good;

    if (t == NULL || b == running || b->crosses || t->edition != b->edition ||
        b->generation == atomic_load(b->generation_now) || atomic_load(&e->attention) != 0 ||
        d->comparing) { /* marking code may wait for those who stand still (lockstep.c) */
        return NULL;
    }
    if (interp_block_check(e, b)) {
        good = !t->dead || dbt_tb_revive(d, t);
    } else {
        e->v->engine_words[1] = PAGE_BASE(rip);
        good = b->mode == MODE_64 && dbt_rewrite(e, b);
        b->generation -= !good;
    }
    if (resident && !e->fpu_resident) {
        interp_fpu_load(e);
    }
    return good ? dbt_find(d, index, rip) : NULL;
}

bool dbt_again(struct dbt *d, uint64_t rip)
{
    unsigned index = (unsigned)(d->interp.tlb - d->interp.tlbs);
    struct tb *t;

    if (d->options.no_jumps) {
        return false;
    }
    t = links_renew(d, index, rip, NULL);
    if (t == NULL || !dbt_free(d, t)) {
        return false;
    }
    dbt_jump_add(d, index, rip, &t->code[index]);
    d->target = (uint64_t)(uintptr_t)(d->rx + t->code[index].far);
    d->stack_base = d->interp.stack.base; /* nothing of it has been checked yet */
    return true;
}

bool dbt_jump(struct dbt *d, uint64_t rip)
{
    unsigned index = (unsigned)(d->interp.tlb - d->interp.tlbs);
    struct tb *t = dbt_find(d, index, rip);

    d->counts.n[COUNT_JUMP_MISSES]++;
    if (t == NULL) { /* the instruction has done nothing so far */
        t = links_renew(d, index, rip, d->recs[d->rec].tb->block);
        if (d->interp.stack.base != d->stack_base) {
            return false;
        }
    }
    if (t == NULL || !dbt_free(d, t)) {
        d->counts.n[COUNT_JUMP_NOWHERE]++;
        return false;
    }
    dbt_jump_add(d, index, rip, &t->code[index]);
    return true;
}

/* ---- stress ---- */

static unsigned links_nr_in(const struct dbt *d, const struct tb_code *code)
{
    unsigned n = 0;

    for (uint32_t in = code->in; in != 0; in = d->links[in].next) {
        n += d->links[in].linked;
    }
    return n;
}

static unsigned links_out_undo(struct dbt *d, const struct tb *t)
{
    unsigned n = 0;

    for (uint32_t at = t->links; at != 0; at = d->links[at].sibling) {
        struct link *l = &d->links[at];

        if (l->target == 0) {
            continue;
        }
        n += l->linked;
        dbt_link_leave(d, l);
        if (l->site == 0) {
            link_stub(d, l);
        } else if (l->linked) {
            dbt_guess_undo(d, l);
        }
    }
    return n;
}

/* The table of jumps, in all places. */
static unsigned links_table_undo(struct dbt *d, struct tb_code *code, unsigned index)
{
    struct dbt_jumps *jumps = &d->jumps[index];
    uint64_t far = (uint64_t)(uintptr_t)(d->rx + code->far);
    unsigned n = 0;

    for (unsigned i = 0; code->jump != DBT_JUMP_NONE && i < d->nr_jump_used[index]; i++) {
        unsigned slot = d->jump_used[index][i];

        if (jumps->code[slot] == far && jumps->tag[slot] != dbt_jump_nowhere(slot)) {
            jumps->tag[slot] = dbt_jump_nowhere(slot);
            n++;
        }
    }
    code->jump = DBT_JUMP_NONE;
    return n;
}

void dbt_relink(struct dbt *d, struct tb *t)
{
    unsigned n = links_out_undo(d, t);

    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tb_code *code = &t->code[i];

        n += links_nr_in(d, code);
        links_in_undo(d, code, false);
        if (code->far != 0) {
            n += links_table_undo(d, code, i);
        }
    }
    dbt_returns_reset_all(d);
    d->counts.n[COUNT_RELINKS] += n;
}

/* ---- code that changes ---- */

uint64_t dbt_peek_hash(const struct dbt *d, const struct tb *t)
{
    const uint8_t *page = mem_frame_hva(d->interp.v->mem, t->block->frame);
    uint64_t hash = 0;

    for (unsigned i = 0; i < t->nr_peeks; i++) {
        const struct peek *p = &d->peeks[t->peek + i];

        for (unsigned k = 0; k < p->len; k++) {
            hash = (hash ^ page[p->at + k]) * 0x9e3779b97f4a7c15ull;
            hash ^= hash >> 29;
        }
    }
    return hash;
}

void dbt_tb_add(struct dbt *d, struct tb *t)
{
    uint32_t *first = &d->frames[dbt_frame_slot(t->block->frame)];

    t->next = *first;
    *first = (uint32_t)(t - d->tbs);
}

/* The table of jumps does not lead to the translation any more. Code that ran just now is better
 * left as it is: processors are slow to see that it has changed. */
static void links_jump_away(struct dbt *d, struct tb_code *code, unsigned index)
{
    uint8_t *far = d->rw + code->far;

    if (code->jump == DBT_JUMP_MANY) {
        far[0] = LINK_JMP;
        *(interp_uint32_t *)(void *)(far + 1) = code->stale - (code->far + 5);
    } else if (code->jump != DBT_JUMP_NONE) {
        struct dbt_jumps *jumps = &d->jumps[index];

        if (jumps->code[code->jump] == (uint64_t)(uintptr_t)(d->rx + code->far)) {
            jumps->tag[code->jump] = dbt_jump_nowhere(code->jump);
        }
    }
}

void dbt_jump_back(struct dbt *d, const struct tb_code *code)
{
    uint8_t *far = d->rw + code->far;

    if (far[0] == LINK_JMP) {
        for (unsigned k = 0; k < sizeof(code->far_bytes); k++) {
            far[k] = code->far_bytes[k];
        }
    }
}

static void tb_take_out(struct dbt *d, struct tb *t, bool died)
{
    uint32_t *at = &d->frames[dbt_frame_slot(t->block->frame)];

    while (*at != (uint32_t)(t - d->tbs)) {
        at = &d->tbs[*at].next;
    }
    *at = t->next;
    d->counts.n[COUNT_KILLS]++;
    t->dead = true;
    for (unsigned i = 0; i < TLB_NR; i++) {
        struct tb_code *code = &t->code[i];

        links_in_undo(d, code, died);
        if (code->far != 0) {
            links_jump_away(d, code, i);
        }
    }
}

void dbt_tb_kill(struct dbt *d, struct tb *t)
{
    tb_take_out(d, t, true);
}

void dbt_tb_renew(struct dbt *d, struct tb *t)
{
    if (!t->dead) {
        tb_take_out(d, t, false);
    }
    t->edition--; /* as if its block had been decoded anew: never to be revived */
}

bool dbt_tb_outdated(struct dbt *d, struct tb *t)
{
    if (t->generation == atomic_load(t->block->generation_now)) {
        return false;
    }
    dbt_tb_renew(d, t);
    return true;
}

bool dbt_tb_revive(struct dbt *d, struct tb *t)
{
    for (unsigned i = 0; i < t->nr_peeks; i++) {
        const struct peek *p = &d->peeks[t->peek + i];

        if (p->len != 0) {
            (void)interp_code_mark(&d->interp, t->block->frame, p->at, p->len);
        }
    }
    if (t->edition != t->block->edition || dbt_peek_hash(d, t) != t->peek_hash) {
        return false;
    }
    d->counts.n[COUNT_REVIVALS]++;
    t->dead = false;
    t->generation = t->block->generation;
    dbt_tb_add(d, t);
    for (unsigned i = 0; i < TLB_NR; i++) {
        const struct tb_code *code = &t->code[i];

        if (code->far != 0) {
            dbt_jump_back(d, code);
        }
    }
    return true;
}

static void links_check(struct dbt *d, unsigned slot)
{
    for (uint32_t at = d->frames[slot], next; at != 0; at = next) {
        struct tb *t = &d->tbs[at];

        next = t->next;
        if (!t->dead && t->generation != atomic_load(t->block->generation_now)) {
            dbt_tb_kill(d, t);
        }
    }
}

void dbt_code_written(struct interp *e, uint32_t frame)
{
    dbt_of(e)->counts.n[COUNT_STORES_TO_CODE]++;
    links_check(dbt_of(e), dbt_frame_slot(frame));
}

unsigned dbt_code_live(const struct interp *e, uint32_t frame)
{
    enum { ENOUGH = 16, EACH = 4, CHEAP = 1 };
    const struct dbt *d = (const struct dbt *)(const void *)e;
    unsigned n = 0;

    for (uint32_t at = d->frames[dbt_frame_slot(frame)]; at != 0 && n < ENOUGH * EACH;
         at = d->tbs[at].next) {
        n += d->tbs[at].room != 0 ? CHEAP : EACH;
    }
    return n / EACH;
}

void dbt_code_watch(void *opaque, uint32_t frame)
{
    struct dbt *d = opaque;
    unsigned slot = dbt_frame_slot(frame);

    atomic_fetch_or(&d->changed[slot / 64], 1ull << (slot % 64));
    interp_attend(&d->interp, ATTENTION_CODE, true);
}

void dbt_code_changed(struct interp *e)
{
    struct dbt *d = dbt_of(e);

    for (unsigned i = 0; i < DBT_FRAMES / 64; i++) {
        uint64_t bits = atomic_load_explicit(&d->changed[i], memory_order_relaxed);

        if (bits != 0) {
            bits = atomic_exchange(&d->changed[i], 0);
        }
        for (; bits != 0; bits &= bits - 1) {
            links_check(d, i * 64 + (unsigned)__builtin_ctzll(bits));
        }
    }
}
