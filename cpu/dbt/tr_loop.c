/* SPDX-License-Identifier: MIT */
/*
 * Loops whose checks are made once for many iterations. A block may begin with the body of a
 * loop: everything up to a branch back to its start. Then there is a second copy of that body
 * (the fast one), in which no memory access is checked, and a head before it (loop_head.c) that
 * looks all of them up in the TLB and says how far each register that moves (a pointer, an
 * index) may go before one of them leaves its page. The fast body compares those registers with
 * their limits, instead of polling, too. At a limit comes a poll, and the pages that follow are
 * looked up (the turn); where they, or those of the head, have no tag, the ordinary translation
 * does the next iteration, with a poll before it. So a fast body ends after at most as many
 * iterations as a page has bytes, and nothing can change its pages meanwhile: it calls no C.
 *
 * Registers are where they always are, so the ways out of the middle are ordinary links and a
 * fault is found as anywhere. Stores go by write tags only, so to no code: flags that would
 * matter only because code may change are not kept; for the ordinary translation they are made
 * anew from the registers of the comparison that led back (LOC_REDO).
 *
 * A register that is loaded anew in each iteration, from a place that stays, and is part of
 * addresses, is taken for constant: each iteration begins by comparing it with what is there,
 * which stands for the load.
 *
 * Whether the branch back is linked to the head is found out by sampling (links.c): heads cost
 * more than some iterations save.
 */
#include <string.h>

#include "loop.h"

/* ---- which ---- */

/* The first branch back to the start, of the block's own; 0: there is none. */
static unsigned loop_end(const struct tr *t)
{
    for (unsigned i = 0; i < t->own && i < LOOP_INSNS; i++) {
        if (t->insn[i].id == INSN_JCC && tr_target(t, i) == t->b->offset) {
            return i + 1;
        }
    }
    return 0;
}

void tr_loop_scan(struct tr *t)
{
    struct tr_loop *l;
    unsigned nr = loop_end(t);
    bool large = false;

    for (unsigned i = 0; i < nr && t->index == TLB_USER; i++) {
        large |= dbt_near_how(t->d, t->b->frame, t->at[i]) == NEAR_LARGE;
    }

    t->loop = NULL;
    if (nr == 0 || t->b->crosses || large || t->plain || tr_is32(t) || t->d->options.no_jumps || t->d->nr_loops == DBT_LOOPS) {
        return;
    }
    l = g_new0(struct tr_loop, 1);
    l->t = t;
    l->nr = nr;
    if (loop_scan(l)) {
        t->loop = l;
        t->loop_nr = nr;
    } else {
        g_free(l);
    }
}

void tr_loop_free(struct tr *t)
{
    g_free(t->loop);
    t->loop = NULL;
}

/* ---- the fast body ---- */

void tr_loop_operand(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    const struct tr_loop *l = t->loop;
    unsigned number = (unsigned)l->group[t->number];
    const struct loop_group *g = &l->groups[number];
    uint8_t base = g->fold ? INSN_NO_REG : g->base, index = g->index, scale = g->scale;
    uint8_t host = g->host & 15;

    t->uses_r10 |= host == HOST_R10;
    if ((g->host & LOOP_PINNED) == 0) {
        emit_op_gs(&t->c, EMIT_LOAD, host, loop_addend(number));
    }
    if (base != INSN_NO_REG && index != INSN_NO_REG) {
        struct emit_mem sum = {.base = host, .index = base, .scale = 1};

        if (tr_displaced(base)) {
            t->uses_r10 = true;
            tr_get(t, HOST_R10, base);
            sum.index = HOST_R10;
        }
        emit_op_mem(&t->c, EMIT_LEA, host, &sum);
    } else if (base != INSN_NO_REG) {
        index = base;
        scale = 1;
    }
    if (index != INSN_NO_REG && tr_displaced(index)) {
        t->uses_r10 = true;
        tr_get(t, HOST_R10, index);
        index = HOST_R10;
    }
    *m = (struct emit_mem){.base = host,
                           .index = index == INSN_NO_REG ? EMIT_NO_REG : index,
                           .scale = scale,
                           .disp = (int32_t)op->disp};
}

/* Comparisons of what was taken for constant with what is loaded. */
static void loop_compare_guesses(struct tr_loop *l)
{
    struct tr *t = l->t;

    for (unsigned i = 0; i < l->nr; i++) {
        const struct insn *in = &t->insn[i];
        struct emit_mem m = {.base = HOST_STACK, .index = EMIT_NO_REG, .scale = 1,
                             .disp = (int32_t)in->disp};
        struct tr_operand op;

        if (!l->guess[i]) {
            continue;
        }
        t->number = i;
        t->ip = t->at[i];
        if (l->group[i] >= 0 && tr_operand_of(t, in, &op)) {
            tr_loop_operand(t, &op, &m);
        }
        emit_op_mem(&t->c, EMIT_CMP_LOAD, in->op[0].reg, &m);
        loop_fail(l, JNE);
    }
}

/* Goes `again` unless there is a limit, which is what is behind this. */
static void loop_compare_limits(struct tr_loop *l, uint32_t again)
{
    struct tr *t = l->t;

    for (unsigned i = 0; i < l->nr_limits; i++) {
        unsigned reg = l->limits[i].reg;
        bool down = l->limits[i].down;

        if (tr_displaced(reg)) {
            tr_get(t, HOST_R10, reg);
            reg = HOST_R10;
        }
        emit_op_gs(&t->c, EMIT_CMP_LOAD, reg, TR_GS(loop_limit) + i * sizeof(uint64_t));
        if (i + 1 < l->nr_limits) {
            l->turns[i] = emit_jcc(&t->c, down ? JL : JG);
        } else {
            emit_patch(t->c.start, emit_jcc(&t->c, down ? JGE : JLE), again);
        }
    }
}

/* Flags that matter in the fast body; false: some do that the last iteration left. */
static bool loop_liveness(struct tr_loop *l)
{
    struct tr *t = l->t;
    uint8_t live = t->live_before[l->nr];

    t->live_taken[l->nr - 1] = 0;
    for (unsigned i = l->nr; i-- > 0;) {
        struct insn_status s = insn_status_flags(&t->insn[i]);

        if (t->insn[i].id == INSN_JCC) {
            live |= t->live_taken[i];
            s.kills = 0;
        }
        live = (uint8_t)((live & ~s.kills) | s.reads);
        t->live_before[i] = live;
    }
    return live == 0;
}

/* Without the branch back. false: something cannot be written. */
static bool loop_body(struct tr_loop *l)
{
    for (unsigned i = 0; i + 1 < l->nr; i++) {
        if (!l->guess[i] && !tr_loop_insn(l->t, i)) {
            return false;
        }
    }
    return true;
}

static void loop_align(struct tr *t)
{
    enum { ALIGN = 32, LONGEST = 9 };
    static const uint8_t nops[LONGEST][LONGEST] = {
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0},
        {0x0f, 0x1f, 0x44, 0, 0},
        {0x66, 0x0f, 0x1f, 0x44, 0, 0},
        {0x0f, 0x1f, 0x80, 0, 0, 0, 0},
        {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
        {0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0},
    };

    while (emit_offset(&t->c) % ALIGN != 0) {
        unsigned len = MIN(ALIGN - emit_offset(&t->c) % ALIGN, LONGEST);

        emit_bytes(&t->c, nops[len - 1], len);
    }
}

static void loop_patch(struct tr_loop *l)
{
    for (unsigned i = 0; i < l->nr_fails; i++) {
        emit_patch(l->t->c.start, l->fails[i], emit_offset(&l->t->c));
    }
}

/*
 * At a limit, with the flags that `redo` left: the pages that come next. Nothing else has changed
 * as long as the poll does not leave, so what stays is as the head found it.
 */
static void loop_turn(struct tr_loop *l, uint8_t live, const struct insn *redo, uint32_t again)
{
    struct tr *t = l->t;
    struct rec *rec = &t->d->recs[t->d->nr_recs];

    t->rec = t->d->nr_recs++;
    *rec = (struct rec){.tb = t->t,
                        .start = emit_offset(&t->c),
                        .ip = t->b->offset,
                        .poll_flags = live != 0};
    for (unsigned i = 0; i < l->nr_limits; i++) {
        if (i + 1 < l->nr_limits) {
            emit_patch(t->c.start, l->turns[i], emit_offset(&t->c));
        }
        l->limits[i].set = false;
    }
    t->redo = redo;
    t->may_redo = false;
    t->live = live;
    t->loc = live != 0 ? LOC_REDO : LOC_DEAD;
    tr_flags_settle(t);
    t->polled = false;
    tr_poll(t);
    rec->end = emit_offset(&t->c);
    loop_head_turn(l);
    emit_jmp_to(&t->c, again);
}

/* The ordinary translation goes on at the start of an iteration, whose flags are those that
 * `redo` left. */
static void loop_back(struct tr_loop *l, const struct tb_code *code, uint8_t live,
                      const struct insn *redo)
{
    struct tr *t = l->t;
    struct rec *rec = &t->d->recs[t->d->nr_recs];

    t->rec = t->d->nr_recs++;
    *rec = (struct rec){.tb = t->t, .start = emit_offset(&t->c), .ip = t->b->offset};
    loop_patch(l);
    t->redo = redo;
    t->may_redo = false;
    t->live = live;
    t->loc = live != 0 ? LOC_REDO : LOC_DEAD;
    tr_flags_settle(t);
    if (live != 0) {
        tr_flags_save(t);
    }
    t->polled = false;
    tr_poll(t);
    emit_jmp_to(&t->c, code->mem[2]);
    rec->end = emit_offset(&t->c);
}

static bool loop_emit(struct tr_loop *l, const struct tb_code *code, uint8_t live,
                      const struct insn *redo, bool *quick)
{
    struct tr *t = l->t;
    const struct insn *last = &t->insn[l->nr - 1];
    uint32_t again;

    *quick = loop_head(l);
    loop_align(t);
    again = emit_offset(&t->c);
    loop_compare_guesses(l);
    t->redo = NULL;
    t->lent = INSN_NO_REG;
    t->may_redo = false;
    t->loc = LOC_DEAD;
    t->sp = 0;
    if (!loop_body(l) || (live != 0 && (t->loc != LOC_HOST || t->redo != redo))) {
        return false;
    }
    t->live = t->live_before[l->nr];
    tr_fixup(t, emit_jcc(&t->c, last->cond ^ JCC_NOT), FIX_LINK,
             (uint64_t)(t->at[l->nr - 1] + last->len));
    loop_compare_limits(l, again);
    loop_turn(l, live, redo, again);
    loop_back(l, code, live, redo);
    return true;
}

bool tr_loop(struct tr *t, const struct tb_code *code, struct dbt_loop *loop)
{
    struct tr_loop *l = t->loop;
    const struct fixup *f = &t->fix[t->loop_fix];
    uint8_t live_before[LOOP_INSNS], taken = t->live_taken[l->nr - 1];
    uint8_t live = t->live_before[0];
    uint8_t *start = t->c.p;
    unsigned nr_fix = t->nr_fix;
    uint32_t nr_recs = t->d->nr_recs;
    const struct loop_reg *reg = &l->reg[l->limits[0].reg];
    bool ok;

    if (t->at[l->nr - 1] + t->insn[l->nr - 1].len >= MEM_PAGE_SIZE ||
        (live != 0 && (f->loc != LOC_HOST || f->redo == NULL))) {
        return false;
    }
    memcpy(live_before, t->live_before, l->nr);
    *loop = (struct dbt_loop){.entry = emit_offset(&t->c),
                              .open = live == 0 && !l->guesses,
                              .reg = l->limits[0].reg,
                              .by = (int16_t)reg->by,
                              .by_reg = reg->class == LOOP_BY_REG ? reg->reg : INSN_NO_REG};
    t->in_loop = true;
    t->polled = false; /* not on the way through here */
    ok = loop_liveness(l) && loop_emit(l, code, live, f->redo, &loop->quick);
    t->in_loop = false;
    memcpy(t->live_before, live_before, l->nr);
    t->live_taken[l->nr - 1] = taken;
    if (!ok) {
        t->c.p = start;
        t->nr_fix = nr_fix;
        t->d->nr_recs = nr_recs;
    }
    return ok;
}
