/* SPDX-License-Identifier: MIT */
/*
 * The head of a loop's fast body (tr_loop.c): it looks up the pages of all accesses, leaves
 * what is added to their addresses where the body finds it, and computes the limits of the
 * registers that move. What it cannot do is a jump to the ordinary translation.
 *
 * Where the ordinary translation looks into slots for pages or runs of them (tr_near.c), the
 * head does so, too: the TLB need not have their tags. Where these are for pages, and one
 * register moves, the head is shorter. Slots that the address chooses are too many for it.
 */
#include "loop.h"

enum { LOOP_LOCKSTEP = 4 }; /* iterations */

/* ---- its parts ---- */

void loop_fail(struct tr_loop *l, unsigned cond)
{
    g_assert(l->nr_fails < LOOP_FAILS);
    l->fails[l->nr_fails++] = emit_jcc(&l->t->c, cond);
}

/* Additions that the sum takes. */
static unsigned head_parts(const struct loop_form *f)
{
    unsigned parts = 0;

    for (unsigned r = 0; r < CPU_NR_GPR; r++) {
        parts += f->coef[r] / 8 + (unsigned)__builtin_popcount(f->coef[r] % 8u);
    }
    return parts;
}

/* r10: the sum, and so much more. Changes r11 if registers are displaced. */
static void head_sum(struct tr *t, const struct loop_form *f, int64_t disp)
{
    struct emit_mem m = {.base = EMIT_NO_REG, .index = EMIT_NO_REG, .scale = 1};
    unsigned parts = head_parts(f);

    if (f->rip) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
        m.base = HOST_R10;
    }
    for (unsigned r = 0; r < CPU_NR_GPR; r++) {
        unsigned from = r;

        if (f->coef[r] != 0 && tr_displaced(r)) {
            tr_get(t, HOST_R11, r);
            from = HOST_R11;
        }
        for (unsigned left = f->coef[r], part; left != 0; left -= part) {
            part = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            parts--;
            if (part == 1 && m.base == EMIT_NO_REG && from == r) {
                m.base = (uint8_t)from;
                continue;
            }
            m.index = (uint8_t)from;
            m.scale = (uint8_t)part;
            m.disp = parts == 0 ? (int32_t)disp : 0;
            emit_op_mem(&t->c, EMIT_LEA, HOST_R10, &m);
            m.base = HOST_R10;
        }
    }
    if (m.index == EMIT_NO_REG) {
        m.disp = (int32_t)disp;
        emit_op_mem(&t->c, EMIT_LEA, HOST_R10, &m);
    }
}

size_t loop_addend(unsigned group)
{
    return TR_GS(loop_addend) + group * sizeof(uint64_t);
}

/* Adds a guest register; changes r11, if it is not the target. */
static void head_add(struct tr *t, unsigned to, unsigned gpr)
{
    if (gpr == CPU_RSP) {
        unsigned other = to == HOST_R10 ? HOST_R11 : HOST_R10;

        tr_get(t, other, gpr);
        emit_op_reg(&t->c, EMIT_ADD_LOAD, to, other);
    } else if (tr_displaced(gpr)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, to, TR_GS(slot[0]) + 8 * (gpr - CPU_R9));
    } else {
        emit_op_reg(&t->c, EMIT_ADD_LOAD, to, gpr);
    }
}

/* The part of the addresses that stays is added to r11. */
static void head_fold(struct tr_loop *l, const struct loop_group *g)
{
    struct tr *t = l->t;

    if (!g->fold) {
        return;
    }
    if (g->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(page));
    } else {
        head_add(t, HOST_R11, g->base);
    }
}

static void head_bytes(struct tr *t, unsigned a, unsigned b, unsigned c)
{
    emit_bytes(&t->c, (const uint8_t[]){(uint8_t)a, (uint8_t)b, (uint8_t)c}, 3);
}

/* r10 - less is how far from its page's end the group is (or from the start): the limit, if it
 * is nearer than another group's. */
static void head_limit(struct tr_loop *l, const struct loop_group *g, int32_t less)
{
    enum { MARGIN = 2 * LOOP_STEP }; /* no overflow before the limit is met */
    struct tr *t = l->t;
    struct loop_limit *limit = &l->limits[g->limit];
    const struct loop_reg *reg = &l->reg[limit->reg];
    int32_t margin = limit->down ? -MARGIN : MARGIN;
    size_t slot = TR_GS(loop_limit) + (unsigned)g->limit * sizeof(uint64_t);

    if (less != 0 && (g->shift != 0 || t->d->lockstep != NULL || limit->down)) {
        emit_lea(&t->c, HOST_R10, HOST_R10, -less);
        less = 0;
    }
    if (g->shift != 0) {
        head_bytes(t, 0x49, 0xc1, 0xea); /* shr $..,%r10 */
        emit_byte(&t->c, g->shift);
    }
    if (t->d->lockstep != NULL) { /* only some iterations */
        uint64_t by = (uint64_t)(reg->by < 0 ? -reg->by : reg->by);

        emit_mov_imm32(&t->c, HOST_R11, (uint32_t)by * LOOP_LOCKSTEP);
        if (reg->class == LOOP_BY_REG) {
            tr_get(t, HOST_R11, reg->reg);
            head_bytes(t, 0x49, 0xc1, 0xe3); /* shl $2,%r11 */
            emit_byte(&t->c, 2);
        }
        emit_op_reg(&t->c, EMIT_CMP_LOAD, HOST_R10, HOST_R11);
        emit_bytes(&t->c, (const uint8_t[]){0x4d, 0x0f, 0x47, 0xd3}, 4); /* cmova r11,r10 */
    }
    if (limit->down) {
        head_bytes(t, 0x49, 0xf7, 0xda); /* neg %r10 */
    }
    emit_lea(&t->c, HOST_R10, HOST_R10, margin - less);
    head_add(t, HOST_R10, limit->reg);
    loop_fail(l, JO);
    emit_lea(&t->c, HOST_R10, HOST_R10, -margin);
    if (limit->set) { /* which is nearer is hard to guess for a processor */
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, slot);
        emit_op_reg(&t->c, EMIT_CMP_LOAD, HOST_R10, HOST_R11);
        emit_bytes(&t->c, (const uint8_t[]){0x4d, 0x0f}, 2); /* cmovl or cmovg r11,r10 */
        emit_bytes(&t->c, (const uint8_t[]){limit->down ? 0x4c : 0x4f, 0xd3}, 2);
    }
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, slot);
    limit->set = true;
}

/* The page, or run of pages, that is in a slot already. The TLB need not have tags for it. */
static void head_slot(struct tr_loop *l, unsigned number)
{
    enum { MOST = 32 << 10 }; /* bytes until the next poll */
    struct tr *t = l->t;
    const struct loop_group *g = &l->groups[number];
    unsigned size = (unsigned)(g->high - g->low);
    bool down = g->limit >= 0 && l->limits[g->limit].down;

    head_sum(t, &g->form, g->low);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R10, g->slot + offsetof(struct interp_near, start));
    if (g->run) {
        emit_op_gs(&t->c, EMIT_CMP_LOAD, HOST_R10, g->slot + tr_near_limit(size));
    } else {
        head_bytes(t, 0x49, 0x81, 0xfa); /* cmp $..,%r10 */
        emit_u32(&t->c, MEM_PAGE_SIZE - size);
    }
    loop_fail(l, g->run ? JAE : JA);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, g->slot + offsetof(struct interp_near, addend));
    head_fold(l, g);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, loop_addend(number));
    if (g->limit < 0) {
        return;
    }
    if (!down) {
        head_bytes(t, 0x49, 0xf7, g->run ? 0xd2 : 0xda); /* not %r10, neg %r10 */
        if (g->run) {
            emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R10, g->slot + tr_near_limit(size));
        } else {
            emit_lea(&t->c, HOST_R10, HOST_R10, MEM_PAGE_SIZE - (int32_t)size);
        }
    }
    if (g->run) {
        emit_mov_imm32(&t->c, HOST_R11, MOST);
        emit_op_reg(&t->c, EMIT_CMP_LOAD, HOST_R10, HOST_R11);
        emit_bytes(&t->c, (const uint8_t[]){0x4d, 0x0f, 0x47, 0xd3}, 4); /* cmova r11,r10 */
    }
    head_limit(l, g, 0);
}

static void head_lookup(struct tr_loop *l, unsigned number)
{
    struct tr *t = l->t;
    const struct loop_group *g = &l->groups[number];
    int32_t size = (int32_t)(g->high - g->low);

    head_sum(t, &g->form, g->low);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(loop_at));
    emit_lea(&t->c, HOST_R11, HOST_R10, size - 1);
    l->fails[l->nr_fails++] = tr_lookup_or(t, g->write, HOST_R11);
    head_fold(l, g);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, loop_addend(number));
    if (g->limit < 0) {
        return;
    }
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(loop_at));
    if (l->limits[g->limit].down) {
        head_bytes(t, 0x41, 0x81, 0xe2); /* and $..,%r10d */
        emit_u32(&t->c, MEM_PAGE_SIZE - 1);
    } else {
        head_bytes(t, 0x49, 0x81, 0xca); /* or $..,%r10 */
        emit_u32(&t->c, (uint32_t)-MEM_PAGE_SIZE);
        head_bytes(t, 0x49, 0xf7, 0xda); /* neg %r10 */
    }
    head_limit(l, g, l->limits[g->limit].down ? 0 : size);
}

static void head_group(struct tr_loop *l, unsigned number)
{
    if (l->groups[number].slot != 0) {
        head_slot(l, number);
    } else {
        head_lookup(l, number);
    }
}

/* A step that is in a register: small, and forward. */
static void head_steps(struct tr_loop *l)
{
    struct tr *t = l->t;

    for (unsigned i = 0; i < l->nr_limits; i++) {
        const struct loop_reg *reg = &l->reg[l->limits[i].reg];

        if (reg->class == LOOP_BY_REG) {
            tr_get(t, HOST_R10, reg->reg);
            emit_lea(&t->c, HOST_R10, HOST_R10, -1);
            head_bytes(t, 0x49, 0x81, 0xfa); /* cmp $..,%r10 */
            emit_u32(&t->c, LOOP_STEP - 1);
            loop_fail(l, JA);
        }
    }
}

/* ---- a short head ---- */

static bool quick_form(const struct loop_form *f)
{
    return (f->coef[CPU_RSP] | f->coef[CPU_R9] | f->coef[CPU_R10] | f->coef[CPU_R11]) == 0;
}

/* Which slots has the ordinary translation just looked into? */
static void loop_slots(struct tr_loop *l)
{
    for (unsigned i = 0; i < l->nr_groups; i++) {
        struct loop_group *g = &l->groups[i];

        g->slot = g->regs[0] == CPU_RSP ? 0 /* head_fold() changes r10 for it */
                                        : tr_near_slot(l->t, g->regs[0], g->regs[1], g->write,
                                                       &g->run);
    }
}

/* Is all of it found in slots for pages or in the TLB, and all moves of one kind? */
static bool quick_fits(const struct tr_loop *l, uint8_t *shift)
{
    bool found = false;

    for (unsigned i = 0; i < l->nr_groups; i++) {
        const struct loop_group *g = &l->groups[i];

        if (g->run || (g->slot != 0 && !quick_form(&g->form)) ||
            (found && g->limit >= 0 && g->shift != *shift)) {
            return false;
        }
        *shift = g->limit >= 0 ? g->shift : *shift;
        found |= g->limit >= 0;
    }
    return l->nr_limits == 1 && !l->limits[0].down && !tr_displaced(l->limits[0].reg) &&
           l->reg[l->limits[0].reg].class == LOOP_BY;
}

static int32_t quick_left(const struct loop_group *g)
{
    return MEM_PAGE_SIZE - (int32_t)(g->high - g->low);
}

/* Is it in the page that is in its slot? r10: how far from the page's end, negative. */
static void quick_slot(struct tr_loop *l, const struct loop_group *g)
{
    struct tr *t = l->t;

    head_sum(t, &g->form, g->low);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R10, g->slot + offsetof(struct interp_near, start));
    head_bytes(t, 0x49, 0x81, 0xfa); /* cmp $..,%r10 */
    emit_u32(&t->c, (uint32_t)quick_left(g));
    loop_fail(l, JA);
    if (g->limit >= 0) {
        emit_lea(&t->c, HOST_R10, HOST_R10, -quick_left(g));
    }
}

/* The same by the TLB. Changes r11, and leaves what is added where head_pins() finds it. */
static void quick_lookup(struct tr_loop *l, unsigned number)
{
    struct tr *t = l->t;
    const struct loop_group *g = &l->groups[number];

    head_sum(t, &g->form, g->low);
    emit_lea(&t->c, HOST_R11, HOST_R10, (int32_t)(g->high - g->low) - 1);
    l->fails[l->nr_fails++] = tr_lookup_or(t, g->write, HOST_R11);
    head_fold(l, g);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, loop_addend(number));
    if (g->limit >= 0) {
        head_sum(t, &g->form, g->low);
        head_bytes(t, 0x41, 0x81, 0xe2); /* and $..,%r10d */
        emit_u32(&t->c, MEM_PAGE_SIZE - 1);
        emit_lea(&t->c, HOST_R10, HOST_R10, -quick_left(g));
    }
}

/* r10 to r11: minus how far the nearest of the pages' ends is, so far. */
static void quick_nearest(struct tr *t, bool *first)
{
    if (*first) {
        emit_mov(&t->c, HOST_R11, HOST_R10);
    } else {
        emit_op_reg(&t->c, EMIT_CMP_LOAD, HOST_R10, HOST_R11);
        emit_bytes(&t->c, (const uint8_t[]){0x4d, 0x0f, 0x4f, 0xda}, 4); /* cmovg r10,r11 */
    }
    *first = false;
}

/* Those of the TLB come first: they need r11. */
static void quick_groups(struct tr_loop *l)
{
    struct tr *t = l->t;
    bool first = true;

    for (unsigned i = 0; i < l->nr_groups; i++) {
        if (l->groups[i].slot != 0) {
            continue;
        }
        if (!first) {
            emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(loop_at));
        }
        quick_lookup(l, i);
        if (!first) {
            emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(loop_at));
        }
        if (l->groups[i].limit >= 0) {
            quick_nearest(t, &first);
        }
    }
    for (unsigned i = 0; i < l->nr_groups; i++) {
        if (l->groups[i].slot != 0) {
            quick_slot(l, &l->groups[i]);
            if (l->groups[i].limit >= 0) {
                quick_nearest(t, &first);
            }
        }
    }
}

static void quick_limit(struct tr_loop *l, uint8_t shift)
{
    enum { MARGIN = 2 * LOOP_STEP };
    struct tr *t = l->t;
    unsigned iv = l->limits[0].reg;

    head_bytes(t, 0x49, 0xf7, 0xdb); /* neg %r11 */
    if (shift != 0) {
        head_bytes(t, 0x49, 0xc1, 0xeb); /* shr $..,%r11 */
        emit_byte(&t->c, shift);
    }
    if (t->d->lockstep != NULL) {
        emit_mov_imm32(&t->c, HOST_R10, (uint32_t)l->reg[iv].by * LOOP_LOCKSTEP);
        emit_op_reg(&t->c, EMIT_CMP_LOAD, HOST_R11, HOST_R10);
        emit_bytes(&t->c, (const uint8_t[]){0x4d, 0x0f, 0x47, 0xda}, 4); /* cmova r10,r11 */
    }
    emit_lea(&t->c, HOST_R11, HOST_R11, MARGIN);
    emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, iv);
    loop_fail(l, JO);
    emit_lea(&t->c, HOST_R11, HOST_R11, -MARGIN);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(loop_limit));
}

/* What is added to the group's addresses, to its register, or to where the body finds it; what
 * stays is left for the turn, too. */
static void quick_addend(struct tr_loop *l, unsigned number, bool pinned)
{
    struct tr *t = l->t;
    const struct loop_group *g = &l->groups[number];
    unsigned host = pinned ? g->host & 15u : HOST_R11;

    if (pinned != ((g->host & LOOP_PINNED) != 0) || (g->slot == 0 && !pinned)) {
        return;
    }
    if (g->slot == 0) {
        emit_op_gs(&t->c, EMIT_LOAD, host, loop_addend(number));
        return;
    }
    emit_op_gs(&t->c, EMIT_LOAD, host, g->slot + offsetof(struct interp_near, addend));
    if (g->fold && g->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, host, TR_GS(page));
    } else if (g->fold) {
        head_add(t, host, g->base);
    }
    if (!pinned || g->limit < 0) {
        emit_op_gs(&t->c, EMIT_STORE, host, loop_addend(number));
    }
}

static void quick_head(struct tr_loop *l, uint8_t shift)
{
    quick_groups(l);
    quick_limit(l, shift);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < l->nr_groups; i++) {
            quick_addend(l, i, pass == 1);
        }
    }
}

/* ---- the head ---- */

static void head_pins(struct tr_loop *l)
{
    for (unsigned i = 0; i < l->nr_groups; i++) {
        if ((l->groups[i].host & LOOP_PINNED) != 0) {
            emit_op_gs(&l->t->c, EMIT_LOAD, l->groups[i].host & 15u, loop_addend(i));
        }
    }
}

static void long_head(struct tr_loop *l)
{
    head_steps(l);
    for (unsigned i = 0; i < l->nr_groups; i++) {
        head_group(l, i);
    }
    head_pins(l);
}

/* Of the tags that a short head looks for, one at most is not in a slot. */
static bool loop_short(const struct tr_loop *l)
{
    unsigned lookups = 0;

    for (unsigned i = 0; i < l->nr_groups; i++) {
        lookups += l->groups[i].slot == 0;
    }
    return lookups <= 1;
}

bool loop_head(struct tr_loop *l)
{
    uint8_t shift = 0;

    loop_slots(l);
    if (!quick_fits(l, &shift)) {
        long_head(l);
        return false;
    }
    quick_head(l, shift);
    return loop_short(l);
}

void loop_head_turn(struct tr_loop *l)
{
    for (unsigned i = 0; i < l->nr_groups; i++) {
        if (l->groups[i].limit >= 0) {
            head_lookup(l, i);
        }
    }
    head_pins(l);
}
