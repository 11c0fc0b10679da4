/* SPDX-License-Identifier: MIT */
/*
 * Cheaper checks for memory accesses that are likely to go where they went last: into a run of
 * pages that is in a slot of interp.near, which the accesses of a block by the same registers
 * share; or into the cached page of the stack, for arrays there. near.c says why what is in a
 * slot is good, and sees to those that miss too often; tr_group.c spares checks.
 */
#include "translate.h"

static bool near_displaced(const struct tr_operand *op)
{
    return op->base == INSN_REG_RIP || op->base == INSN_NO_REG || tr_displaced(op->base) ||
           (op->index != INSN_NO_REG && tr_displaced(op->index)) || tr_based(op);
}

void tr_near_address(struct tr *t, const struct tr_operand *op, int64_t disp, bool host)
{
    struct emit_mem m = {
        .base = op->base, .index = op->index, .scale = op->scale, .disp = (int32_t)disp};

    if (op->base == CPU_RSP && host) {
        m.base = HOST_STACK;
    } else if (op->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(page));
        m.base = HOST_R11;
    } else if (op->base == INSN_NO_REG) {
        m.base = EMIT_NO_REG;
    } else if (tr_displaced(op->base)) {
        tr_get(t, HOST_R11, op->base);
        m.base = HOST_R11;
    }
    if (op->index == INSN_NO_REG) {
        m.index = EMIT_NO_REG;
        m.scale = 1;
    } else if (tr_displaced(op->index)) {
        t->uses_r10 = true;
        tr_get(t, HOST_R10, op->index);
        m.index = HOST_R10;
    }
    if (m.index == EMIT_NO_REG && m.disp == 0 && m.base != EMIT_NO_REG) {
        emit_mov(&t->c, HOST_R11, m.base); /* takes no time */
    } else {
        emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &m);
    }
    if (tr_based(op)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11,
                   TR_GS(seg_base) + (op->seg == CPU_GS ? 8 : 0));
    }
}

static void near_stack(struct tr *t, const struct tr_operand *op)
{
    struct tr_other *o = &t->other[t->nr_others];

    t->uses_r10 = true;
    tr_near_address(t, op, op->disp, true);
    emit_mov(&t->c, HOST_R10, HOST_R11);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R10, TR_GS(interp.stack.base));
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xfa}, 3); /* cmp $..,%r10 */
    emit_u32(&t->c, MEM_PAGE_SIZE - op->size);
    tr_fixup(t, emit_jcc(&t->c, 7), FIX_OTHER, t->nr_others++);
    *o = (struct tr_other){.op = *op, .back = emit_offset(&t->c)};
}

/* Shared by those with the same registers; `own`: by nobody. */
static unsigned near_slot(struct tr *t, const struct tr_operand *op, enum dbt_near_how how,
                          bool own)
{
    static const struct {
        uint16_t first, nr;
    } slots[] = {
        [NEAR_PAGE] = {0, NEAR_PAGES},
        [NEAR_RUN] = {NEAR_PAGES, NEAR_VIEWS - NEAR_PAGES},
        [NEAR_VIEW] = {NEAR_VIEWS, NEAR_LARGES - NEAR_VIEWS},
    };
    struct dbt *d = t->d;
    unsigned i;

    for (i = 0; i < t->nr_slots; i++) {
        const struct tr_slot *s = &t->slot[i];

        if (!own && !s->own && s->how == how && s->base == op->base && s->index == op->index) {
            return s->slot;
        }
    }
    t->slot[i] = (struct tr_slot){
        .base = op->base,
        .index = op->index,
        .own = own,
        .how = how,
        .slot = (uint16_t)(slots[how].first + d->near_next++ % slots[how].nr)};
    t->nr_slots++;
    return t->slot[i].slot;
}

size_t tr_near_slot(const struct tr *t, unsigned base, unsigned index, bool write, bool *run)
{
    const struct tr_slot *found = NULL;

    for (unsigned i = 0; i < t->nr_slots; i++) {
        const struct tr_slot *s = &t->slot[i];

        if (s->base == base && s->index == index && (found == NULL || found->own)) {
            found = s;
        }
    }
    *run = found != NULL && found->how != NEAR_PAGE;
    return found == NULL ? 0
                         : TR_GS(interp.near) + (found->slot + (write ? NEAR_SLOTS : 0u)) *
                                                    sizeof(struct interp_near);
}

static unsigned near_class(unsigned size)
{
    unsigned i = 0;

    while (near_size(i) < size) {
        i++;
    }
    return i;
}

size_t tr_near_limit(unsigned size)
{
    return offsetof(struct interp_near, limit) + sizeof(uint64_t) * near_class(size);
}

/* A field of the slot, which is at `slot`, or where r10 says from there. */
static void near_op(struct tr *t, unsigned op, size_t slot, size_t field, enum dbt_near_how how)
{
    if (how == NEAR_LARGE) {
        emit_op_gs_index(&t->c, op, HOST_R11, HOST_R10, slot + field);
    } else {
        emit_op_gs(&t->c, op, HOST_R11, slot + field);
    }
}

/* r10: from the first one to that for the address in r11. */
static void near_choose(struct tr *t)
{
    enum { SIZE_SHIFT = 7 };

    G_STATIC_ASSERT(sizeof(struct interp_near) == 1 << SIZE_SHIFT);
    t->uses_r10 = true;
    emit_mov(&t->c, HOST_R10, HOST_R11);
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0xc1, 0xea, NEAR_LARGE_SHIFT - SIZE_SHIFT}, 4);
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x81, 0xe2}, 3); /* shr; and $..,%r10d */
    emit_u32(&t->c, (NEAR_SLOTS - NEAR_LARGES - 1) << SIZE_SHIFT);
}

/* r11: offset of what is to be in the slot from its start. */
static void near_compare(struct tr *t, const struct tr_group *g, size_t slot,
                         enum dbt_near_how how)
{
    struct tr_near *n = &t->near[t->nr_nears];
    unsigned size = (unsigned)(g->high - g->low), i = near_class(size);
    bool run = how != NEAR_PAGE;

    *n = (struct tr_near){.retry = emit_offset(&t->c),
                          .large = how == NEAR_LARGE,
                          .common = how == NEAR_LARGE ? t->d->common_near_c
                                    : run             ? t->d->common_near_run
                                                      : t->d->common_near[g->write],
                          .what = {.place = (uint32_t)slot,
                                   .size = (uint16_t)(run ? near_size(i) : size),
                                   .at = (uint16_t)(g->first.disp - g->low),
                                   .load = !g->first.write}};
    if (tr_is32(t)) {
        tr_address32(t, HOST_R11, &g->first, g->low, size);
    } else {
        tr_near_address(t, &g->first, g->low, false);
    }
    if (how == NEAR_LARGE) {
        near_choose(t);
    }
    near_op(t, EMIT_SUB_LOAD, slot, offsetof(struct interp_near, start), how);
    if (run) {
        near_op(t, EMIT_CMP_LOAD, slot, offsetof(struct interp_near, limit) + 8 * i, how);
        tr_fixup(t, emit_jcc(&t->c, JAE), FIX_NEAR, t->nr_nears++);
    } else {
        emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xfb}, 3); /* cmp $..,%r11 */
        emit_u32(&t->c, MEM_PAGE_SIZE - size);
        tr_fixup(t, emit_jcc(&t->c, JA), FIX_NEAR, t->nr_nears++);
    }
    n->lent = t->uses_r10 ? INSN_NO_REG : t->lent;
}

/* Behind the comparison: where the access is on the host. */
static void near_host(struct tr *t, const struct tr_operand *op, int64_t low, size_t slot,
                      enum dbt_near_how how, struct emit_mem *m)
{
    *m = (struct emit_mem){
        .base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = (int32_t)(op->disp - low)};
    if (near_displaced(op) || tr_is32(t)) {
        near_op(t, EMIT_ADD_LOAD, slot, offsetof(struct interp_near, host), how);
        return;
    }
    /* does not wait for the address */
    near_op(t, EMIT_LOAD, slot, offsetof(struct interp_near, addend), how);
    m->index = op->base;
    m->disp = (int32_t)op->disp;
    if (op->index != INSN_NO_REG) {
        emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, op->base);
        m->index = op->index;
        m->scale = op->scale;
    }
}

static void near_data(struct tr *t, const struct tr_operand *op, enum dbt_near_how how,
                      struct emit_mem *m)
{
    struct tr_group g;
    unsigned most = how == NEAR_PAGE ? GROUP_PAGE : GROUP_RUN;
    bool group = how != NEAR_LARGE && tr_group_scan(t, op, most, &g);
    unsigned number;
    size_t slot;

    if (!group) {
        g = (struct tr_group){
            .first = *op, .low = op->disp, .high = op->disp + op->size, .write = op->write};
    }
    number = (how == NEAR_LARGE ? (unsigned)NEAR_LARGES : near_slot(t, op, how, group)) +
             (g.write ? NEAR_SLOTS : 0);
    if (how != NEAR_LARGE) {
        dbt_near_given(t->d, t->b->frame, t->ip, number);
    }
    slot = TR_GS(interp.near) + number * sizeof(struct interp_near);
    g.addend = slot + offsetof(struct interp_near, addend);
    near_compare(t, &g, slot, how);
    near_host(t, op, g.low, slot, how, m);
    if (group && tr_is32(t)) { /* the address on the host says all: the registers' upper halves do not */
        g.brief = false;
        tr_group_host(t, op, &g, m);
    } else if (group) {
        g.brief = false;
        tr_group_add(t, &g);
        tr_group_hold(t, op, m);
    }
}

bool tr_check_near(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    bool stack = op->base == CPU_RSP && !tr_based(op) && !tr_is32(t);
    enum dbt_near_how how = dbt_near_how(t->d, t->b->frame, t->ip);

    if (op->locked || op->bits || op->size > 64 || how == NEAR_NEVER) {
        return false;
    }
    if (stack && how == NEAR_PAGE) {
        near_stack(t, op);
        *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = 0};
        return true;
    }
    if (t->index != TLB_USER || (op->base == CPU_RSP && (how == NEAR_PAGE || tr_is32(t)))) {
        return false;
    }
    near_data(t, op, how, m);
    return true;
}

void tr_near_stub(struct tr *t, unsigned number)
{
    const struct tr_near *n = &t->near[number];

    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    if (n->large) { /* the address again */
        emit_op_gs_index(&t->c, EMIT_ADD_LOAD, HOST_R11, HOST_R10,
                         n->what.place + offsetof(struct interp_near, start));
    }
    emit_mov_imm64(&t->c, HOST_R10, dbt_near_word(&n->what));
    emit_call_to(&t->c, n->common);
    if (n->lent != INSN_NO_REG) {
        tr_get(t, HOST_R10, n->lent);
    }
    emit_jmp_to(&t->c, n->retry);
}

void tr_other_stub(struct tr *t, unsigned number)
{
    const struct tr_other *o = &t->other[number];
    struct emit_mem m;
    uint32_t known;

    emit_bytes(&t->c, (const uint8_t[]){0x65, 0xff, 0x04, 0x25}, 4); /* incl gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(other_misses));
    known = emit_short(&t->c, 5);
    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x31, 0xd2}, 3); /* xor %r10d,%r10d */
    emit_call_to(&t->c, t->d->common_often);
    emit_short_here(&t->c, known);
    tr_check_tlb(t, &o->op, &m);
    emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &m);
    emit_jmp_to(&t->c, o->back);
}
