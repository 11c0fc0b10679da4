/* SPDX-License-Identifier: MIT */
/*
 * Can the loop at the start of a block have a fast body (tr_loop.c)? Every address has to be a
 * sum of registers and a constant, as they are at the start of an iteration, of which each stays
 * or moves by the same step every time.
 */
#include <string.h>

#include "loop.h"

/* ---- what the loop does ---- */

static bool loop_known(const struct insn *in)
{
    if ((in->prefixes & INSN_P_LOCK) != 0 ||
        (in->flags & (INSN_F_SYSTEM | INSN_F_BRANCH | INSN_F_VSIB | INSN_F_MEM_IMPLICIT |
                      INSN_F_X87)) != 0) {
        return false;
    }
    switch (in->id) {
    case INSN_XADD:
    case INSN_CMPXCHG:
    case INSN_XCHG:
        return false;
    case INSN_LEA:
    case INSN_NOP:
    case INSN_MOVBE:
        return true;
    case INSN_NATIVE: /* some of 0F 3A write registers that are not named */
        return in->map != INSN_MAP_0F3A;
    default:
        return insn_plain(in);
    }
}

static void form_add(struct loop_form *to, const struct loop_form *from, unsigned times)
{
    to->wild |= from->wild;
    to->rip |= from->rip;
    to->disp += from->disp * (int64_t)times;
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        unsigned sum = to->coef[i] + from->coef[i] * times;

        to->wild |= sum > LOOP_COEF;
        to->coef[i] = (uint8_t)sum;
    }
    to->wild |= to->disp != (int32_t)to->disp;
}

static struct loop_form form_address(const struct tr_loop *l, unsigned base, unsigned index,
                                unsigned scale, int64_t disp)
{
    struct loop_form f = {.disp = disp, .rip = base == INSN_REG_RIP};

    if (base < CPU_NR_GPR) {
        form_add(&f, &l->now[base], 1);
    }
    if (index < CPU_NR_GPR) {
        form_add(&f, &l->now[index], scale);
    }
    return f;
}

/* What op[0] becomes. */
static struct loop_form loop_value(const struct tr_loop *l, const struct insn *in)
{
    const struct insn_operand *to = &in->op[0], *from = &in->op[1];
    struct loop_form f = {.wild = true};
    bool reg = in->nr_operands > 1 && from->kind == OPK_GPR && from->size == 8;

    if (to->size != 8) {
        return f;
    }
    switch (in->id) {
    case INSN_INC:
    case INSN_DEC:
        f = l->now[to->reg];
        f.disp += in->id == INSN_INC ? 1 : -1;
        break;
    case INSN_ADD:
    case INSN_SUB:
        if (from->kind == OPK_IMM && (int64_t)in->imm == (int32_t)in->imm) {
            f = l->now[to->reg];
            f.disp += in->id == INSN_ADD ? (int64_t)in->imm : -(int64_t)in->imm;
        } else if (reg && in->id == INSN_ADD) {
            f = l->now[to->reg];
            form_add(&f, &l->now[from->reg], 1);
        }
        break;
    case INSN_MOV:
        if (reg) {
            f = l->now[from->reg];
        }
        break;
    case INSN_LEA:
        if (in->addrsize == 8 && in->base != INSN_REG_RIP) {
            f = form_address(l, in->base, in->index, in->scale, in->disp);
        }
        break;
    default:
        break;
    }
    f.wild |= f.disp != (int32_t)f.disp;
    return f;
}

static void loop_write(struct tr_loop *l, unsigned reg, const struct loop_form *f)
{
    l->now[reg] = *f;
    l->reg[reg].nr++;
}

static void loop_writes(struct tr_loop *l, unsigned at)
{
    static const struct loop_form wild = {.wild = true};
    const struct insn *in = &l->t->insn[at];
    struct loop_form f = {.wild = true};

    if (in->nr_operands > 0 && in->op[0].kind == OPK_GPR) {
        f = loop_value(l, in);
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];
        unsigned reg = (op->reg & INSN_HIGH_BYTE) != 0 ? op->reg & 3u : op->reg;

        if (op->kind != OPK_GPR || (op->access & OPA_WRITE) == 0) {
            continue;
        }
        if (in->id == INSN_MOV && op->size == 8 && tr_accesses(in) && !tr_displaced(reg) &&
            l->reg[reg].nr == 0) {
            l->reg[reg].load = (int8_t)at;
            l->reg[reg].nr = 1; /* taken for what it was */
            continue;
        }
        loop_write(l, reg, i == 0 ? &f : &wild);
    }
    if (in->id == INSN_MUL || in->id == INSN_IMUL1 || in->id == INSN_DIV ||
        in->id == INSN_IDIV || in->id == INSN_CBW || in->id == INSN_CWD) {
        loop_write(l, CPU_RAX, &wild);
        loop_write(l, CPU_RDX, &wild);
    }
}

static bool loop_stack(const struct tr *t, const struct insn *in)
{
    const struct insn_operand *mem = insn_mem_operand(in);

    return in->base == CPU_RSP && in->index == INSN_NO_REG && in->seg != CPU_FS &&
           in->seg != CPU_GS && in->id != INSN_BT && in->id != INSN_BTS &&
           in->id != INSN_BTR && in->id != INSN_BTC && tr_stack_covers(t, in->disp, mem->size);
}

static bool loop_same_form(const struct loop_form *a, const struct loop_form *b)
{
    return memcmp(a->coef, b->coef, sizeof(a->coef)) == 0 && a->rip == b->rip;
}

/* The access becomes part of a group. */
static bool loop_group_of(struct tr_loop *l, unsigned at)
{
    struct tr *t = l->t;
    struct tr_operand op;
    struct loop_group new = {.limit = -1, .host = HOST_R11}, *g;

    t->ip = t->at[at];
    if (!tr_operand_of(t, &t->insn[at], &op) || op.locked || op.bits || op.size == 0 ||
        op.size > 64 || tr_based(&op)) {
        return false;
    }
    new.base = op.base;
    new.index = op.index;
    new.scale = op.index == INSN_NO_REG ? 1 : op.scale;
    new.regs[0] = op.base;
    new.regs[1] = op.index;
    new.form = form_address(l, op.base, op.index, new.scale, op.disp);
    new.low = new.form.disp;
    new.high = new.low + op.size;
    new.write = op.write;
    if (new.form.wild) {
        return false;
    }
    for (unsigned i = 0; i < l->nr_groups; i++) {
        g = &l->groups[i];
        if (g->base == new.base && g->index == new.index && g->scale == new.scale &&
            loop_same_form(&g->form, &new.form) &&
            MAX(g->high, new.high) - MIN(g->low, new.low) <= LOOP_SPAN) {
            g->low = MIN(g->low, new.low);
            g->high = MAX(g->high, new.high);
            g->write |= new.write;
            l->group[at] = (int8_t)i;
            return true;
        }
    }
    if (l->nr_groups == DBT_LOOP_GROUPS) {
        return false;
    }
    l->group[at] = (int8_t)l->nr_groups;
    l->groups[l->nr_groups++] = new;
    return true;
}

static bool loop_insn(struct tr_loop *l, unsigned at)
{
    struct tr *t = l->t;
    const struct insn *in = &t->insn[at];

    l->group[at] = -1;
    if (t->sps[at] != 0) {
        return false;
    }
    if (in->id == INSN_JCC) {
        return true;
    }
    if (!loop_known(in)) {
        return false;
    }
    t->sp = 0;
    if (tr_accesses(in) && !loop_stack(t, in) && !loop_group_of(l, at)) {
        return false;
    }
    loop_writes(l, at);
    return l->reg[CPU_RSP].nr == 0;
}

/* ---- what its registers do ---- */

static enum loop_class loop_classify(struct tr_loop *l, unsigned r)
{
    struct loop_reg *reg = &l->reg[r];
    struct loop_form f = l->now[r];
    unsigned other = CPU_NR_GPR, sum = 0;

    if (reg->nr == 0) {
        return LOOP_SAME;
    }
    if (reg->load >= 0) {
        return reg->nr == 1 ? LOOP_GUESS : LOOP_WILD;
    }
    if (f.wild || f.rip || f.coef[r] != 1) {
        return LOOP_WILD;
    }
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        if (i != r && f.coef[i] != 0) {
            other = i;
            sum += f.coef[i];
        }
    }
    reg->by = f.disp;
    reg->reg = (uint8_t)other;
    if (sum == 0) {
        return f.disp >= -LOOP_STEP && f.disp <= LOOP_STEP ? LOOP_BY : LOOP_WILD;
    }
    return sum == 1 && f.disp == 0 && l->reg[other].nr == 0 && other != CPU_RSP ? LOOP_BY_REG
                                                                               : LOOP_WILD;
}

/* How much further the group is in the next iteration, in units of the register's steps: a
 * power of two. */
static bool loop_moves_with(const struct tr_loop *l, struct loop_group *g, unsigned r,
                            int64_t by, unsigned times)
{
    const struct loop_reg *reg = &l->reg[r];
    int64_t factor = 0;

    if (reg->class == LOOP_BY && times == 0 && reg->by != 0 && by % reg->by == 0) {
        factor = by / reg->by;
    } else if (reg->class == LOOP_BY_REG && by == 0) {
        factor = times;
    }
    if (factor <= 0 || (factor & (factor - 1)) != 0) {
        return false;
    }
    g->shift = (uint8_t)__builtin_ctzll((uint64_t)factor);
    return true;
}

static bool loop_limit(struct tr_loop *l, struct loop_group *g, unsigned r)
{
    bool down = l->reg[r].class == LOOP_BY && l->reg[r].by < 0;
    unsigned i = 0;

    while (i < l->nr_limits && l->limits[i].reg != r) {
        i++;
    }
    if (i == DBT_LOOP_LIMITS) {
        return false;
    }
    if (i == l->nr_limits) {
        l->limits[l->nr_limits++] = (struct loop_limit){.reg = (uint8_t)r, .down = down};
    }
    g->limit = (int8_t)i;
    return true;
}

static bool loop_moves(struct tr_loop *l, struct loop_group *g)
{
    int64_t by = 0;
    unsigned times = 0, with = CPU_NR_GPR, best = CPU_NR_GPR;

    for (unsigned r = 0; r < CPU_NR_GPR; r++) {
        const struct loop_reg *reg = &l->reg[r];

        if (g->form.coef[r] == 0) {
            continue;
        }
        if (reg->class == LOOP_WILD || (times != 0 && reg->class == LOOP_BY_REG)) {
            return false;
        }
        l->reg[r].used = true;
        by += reg->class == LOOP_BY ? reg->by * g->form.coef[r] : 0;
        times += reg->class == LOOP_BY_REG ? g->form.coef[r] : 0;
        if (reg->class == LOOP_BY || reg->class == LOOP_BY_REG) {
            with = r;
        }
    }
    if (by == 0 && times == 0) {
        return true;
    }
    if (by < -LOOP_MOST || by > LOOP_MOST) {
        return false; /* too few iterations in a page */
    }
    for (unsigned r = 0; r <= with; r++) {
        if (g->form.coef[r] != 0 && loop_moves_with(l, g, r, by, times)) {
            best = r;
        }
    }
    return best != CPU_NR_GPR && loop_moves_with(l, g, best, by, times) &&
           loop_limit(l, g, best);
}

static bool loop_same(const struct tr_loop *l, unsigned r)
{
    return r >= CPU_NR_GPR || l->reg[r].class == LOOP_SAME || l->reg[r].class == LOOP_GUESS;
}

static void loop_fold(struct tr_loop *l, struct loop_group *g)
{
    if (g->base < CPU_NR_GPR && g->index < CPU_NR_GPR && g->scale == 1 &&
        !loop_same(l, g->base) && loop_same(l, g->index)) {
        uint8_t base = g->base;

        g->base = g->index;
        g->index = base;
    }
    g->fold = g->base != INSN_NO_REG && loop_same(l, g->base);
}

/* Loads that stand for constants come before all other accesses, from where nothing moves. */
static bool loop_guesses(struct tr_loop *l)
{
    bool others = false;
    unsigned n = 0;

    for (unsigned i = 0; i < l->nr; i++) {
        const struct insn *in = &l->t->insn[i];

        if (in->id == INSN_JCC || !tr_accesses(in)) {
            continue;
        }
        for (unsigned r = 0; r < CPU_NR_GPR; r++) {
            l->guess[i] |= l->reg[r].load == (int)i && l->reg[r].used;
        }
        others |= !l->guess[i];
        n += l->guess[i];
        l->guesses |= l->guess[i];
        if (l->guess[i] &&
            (others || n > LOOP_GUESSES || (l->group[i] >= 0 && (l->groups[l->group[i]].limit >= 0 ||
                                             tr_displaced(l->groups[l->group[i]].index))))) {
            return false;
        }
    }
    return true;
}

/* Nobody in it wants R10 or R11. */
static bool loop_clean(const struct tr_loop *l)
{
    for (unsigned i = 0; i < l->nr; i++) {
        const struct insn *in = &l->t->insn[i];

        if (in->id == INSN_JCC) {
            if (i + 1 < l->nr && (int64_t)in->imm < 0) {
                return false; /* polls */
            }
            continue;
        }
        for (unsigned k = 0; k < in->nr_operands; k++) {
            bool high = (in->op[k].reg & INSN_HIGH_BYTE) != 0; /* as copy_high() has it */

            if (in->op[k].kind == OPK_GPR &&
                (high ? tr_accesses(in) : tr_displaced(in->op[k].reg))) {
                return false;
            }
        }
        if (in->id == INSN_LEA && (tr_displaced(in->base) || tr_displaced(in->index) ||
                                   in->base == INSN_REG_RIP)) {
            return false;
        }
    }
    for (unsigned i = 0; i < l->nr_groups; i++) {
        const struct loop_group *g = &l->groups[i];

        if ((!g->fold && g->base < CPU_NR_GPR &&
             (g->index < CPU_NR_GPR || tr_displaced(g->base))) ||
            (g->index < CPU_NR_GPR && tr_displaced(g->index))) {
            return false;
        }
    }
    for (unsigned i = 0; i < l->nr_limits; i++) {
        if (tr_displaced(l->limits[i].reg)) {
            return false;
        }
    }
    return true;
}

static void loop_pin(struct tr_loop *l)
{
    if (loop_clean(l)) {
        l->groups[0].host = HOST_R10;
        if (l->nr_groups == 2) {
            l->groups[1].host = HOST_R11 | LOOP_PINNED;
        }
        l->groups[0].host |= LOOP_PINNED;
    }
}

bool loop_scan(struct tr_loop *l)
{
    struct tr *t = l->t;

    for (unsigned r = 0; r < CPU_NR_GPR; r++) {
        l->now[r].coef[r] = 1;
        l->reg[r].load = -1;
    }
    for (unsigned i = 0; i < l->nr; i++) {
        if (!loop_insn(l, i)) {
            return false;
        }
    }
    for (unsigned r = 0; r < CPU_NR_GPR; r++) {
        l->reg[r].class = loop_classify(l, r);
    }
    for (unsigned i = 0; i < l->nr_groups; i++) {
        if (!loop_moves(l, &l->groups[i])) {
            return false;
        }
    }
    if (l->nr_limits == 0 || !loop_guesses(l) || t->sps[l->nr] != 0) {
        return false;
    }
    for (unsigned i = 0; i < l->nr_groups; i++) {
        loop_fold(l, &l->groups[i]);
    }
    loop_pin(l);
    return true;
}
