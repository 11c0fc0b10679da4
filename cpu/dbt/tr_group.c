/* SPDX-License-Identifier: MIT */
/*
 * Accesses by the same registers as one before them in the block, a little way off: the fields
 * of a struct. The first one has all of them checked, in a slot of interp.near that nobody else
 * in the block changes (tr_near.c), or by the TLB (memory.c); the others only add what it
 * found, or use R11 as the one before them left it. They change no flags.
 *
 * That holds until one of the registers is written. Where the first one is the interpreter's,
 * as when the bytes lie in two pages, the rest of the block is not gone on with, and after some
 * times each is checked for itself; nor is it behind a C function that took tags away (near.c).
 * A load that stands for a store too looks for a page that may be written, but no tag is asked
 * for before a store itself needs it (DBT_REC_LOAD).
 */
#include "translate.h"

/* Instructions that write no registers but their operands say so, or RAX and RDX. */
static bool group_known(const struct insn *in)
{
    if ((in->id >= INSN_ADD && in->id <= INSN_SHRD) ||
        (in->id >= INSN_BT && in->id <= INSN_BTC)) {
        return true;
    }
    switch (in->id) {
    case INSN_BSF:
    case INSN_BSR:
    case INSN_BSWAP:
    case INSN_CBW:
    case INSN_CWD:
    case INSN_CMOVCC:
    case INSN_JCC:
    case INSN_LEA:
    case INSN_MOV:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_MOVZX:
    case INSN_NOP:
    case INSN_PUSH:
    case INSN_POP:
    case INSN_SETCC:
        return true;
    case INSN_NATIVE: /* PCMPESTRI and the like write RCX, FNSTSW writes AX */
        return in->map != INSN_MAP_0F3A && (in->flags & (INSN_F_X87 | INSN_F_VSIB |
                                                         INSN_F_MEM_IMPLICIT)) == 0;
    default:
        return false;
    }
}

static bool group_implicit(const struct insn *in)
{
    return in->id == INSN_MUL || in->id == INSN_IMUL1 || in->id == INSN_DIV ||
           in->id == INSN_IDIV || in->id == INSN_CBW || in->id == INSN_CWD;
}

uint32_t tr_writes(const struct insn *in)
{
    uint32_t set = 0;

    if (!group_known(in)) {
        return TR_WRITES_ANY;
    }
    if (in->id == INSN_PUSH || in->id == INSN_POP) {
        set |= 1u << CPU_RSP;
    }
    if (group_implicit(in)) {
        set |= 1u << CPU_RAX | 1u << CPU_RDX;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (op->kind == OPK_GPR && (op->access & OPA_WRITE) != 0) {
            set |= 1u << ((op->reg & INSN_HIGH_BYTE) != 0 ? op->reg & 3u : op->reg);
        }
    }
    return set;
}

bool tr_keeps(const struct insn *in, unsigned a, unsigned b)
{
    uint32_t set = tr_writes(in);

    return set != TR_WRITES_ANY && (a >= CPU_NR_GPR || (set >> a & 1) == 0) &&
           (b >= CPU_NR_GPR || (set >> b & 1) == 0);
}

static bool group_same(const struct tr_operand *a, const struct tr_operand *b)
{
    return a->base == b->base && a->index == b->index &&
           (a->index == INSN_NO_REG || a->scale == b->scale) && a->seg == b->seg;
}

static bool group_plain(const struct tr_operand *op)
{
    return !op->locked && !op->bits && op->size != 0 && op->size <= 64;
}

/* The access of instruction i, if it is by the same registers. */
static bool group_access(struct tr *t, unsigned i, const struct tr_operand *first,
                         struct tr_operand *op)
{
    const struct insn *in = &t->insn[i];
    uint16_t ip = t->ip;
    bool ok;

    if (!tr_accesses(in)) {
        return false;
    }
    t->ip = t->at[i]; /* for those by RIP */
    ok = tr_operand_of(t, in, op);
    t->ip = ip;
    return ok && group_plain(op) && group_same(op, first);
}

bool tr_group_scan(struct tr *t, const struct tr_operand *first, unsigned most,
                   struct tr_group *g)
{
    bool found = false;

    most = dbt_near_whole(t->d, t->b->frame, t->ip, most);
    if (most == 0 || t->nr_groups == DBT_GROUPS || t->nr_addends == DBT_GROUPS) {
        return false;
    }
    *g = (struct tr_group){.first = *first, .low = first->disp,
                           .high = first->disp + first->size, .write = first->write};
    for (unsigned i = t->number; i + 1 < t->nr; i++) {
        struct tr_operand op;
        int64_t low, high;

        if (!tr_keeps(&t->insn[i], first->base, first->index)) {
            break;
        }
        if (group_access(t, i + 1, first, &op)) {
            low = MIN(g->low, op.disp);
            high = MAX(g->high, op.disp + op.size);
            if (high - low <= most) {
                g->low = low;
                g->high = high;
                g->write = g->write || op.write;
                g->brief = i == t->number;
                found = true;
            }
        }
    }
    return found && g->low == (int32_t)g->low;
}

void tr_group_add(struct tr *t, const struct tr_group *g)
{
    t->group[t->nr_groups] = *g;
    t->group[t->nr_groups++].held = false;
    t->alone = true;
}

static void group_hold(struct tr_group *g, const struct tr_operand *op,
                       const struct emit_mem *m)
{
    int64_t disp = m->disp - op->disp;

    g->at = *m;
    g->at.disp = (int32_t)disp;
    g->held = m->base == HOST_R11 && m->index != HOST_R10 && disp == (int32_t)disp;
}

void tr_group_hold(struct tr *t, const struct tr_operand *op, const struct emit_mem *m)
{
    group_hold(&t->group[t->nr_groups - 1], op, m);
}

void tr_group_host(struct tr *t, const struct tr_operand *op, struct tr_group *g,
                   struct emit_mem *m)
{
    int32_t at = (int32_t)(op->disp - g->low);

    g->host = true;
    m->disp -= at;
    if (m->index != EMIT_NO_REG || m->disp != 0) {
        emit_op_mem(&t->c, EMIT_LEA, HOST_R11, m);
    }
    if (!g->brief) {
        g->addend = TR_GS(addends[t->nr_addends++]);
        emit_op_gs(&t->c, EMIT_STORE, HOST_R11, g->addend);
    }
    *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = at};
    tr_group_add(t, g);
    tr_group_hold(t, op, m);
}

void tr_group_drop(struct tr *t)
{
    for (unsigned i = 0; i < t->nr_groups; i++) {
        t->group[i].held = false;
    }
}

void tr_group_after(struct tr *t, const struct insn *in)
{
    unsigned n = 0;

    if (!t->keeps_r11) {
        tr_group_drop(t);
    }
    for (unsigned i = 0; i < t->nr_groups; i++) {
        if (tr_keeps(in, t->group[i].first.base, t->group[i].first.index)) {
            t->group[n++] = t->group[i];
        }
    }
    t->nr_groups = n;
}

static void group_plus(struct tr *t, unsigned reg)
{
    struct emit_mem sum = {.base = HOST_R11, .index = (uint8_t)reg, .scale = 1};

    emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &sum);
}

/* No flags change. */
static void group_address(struct tr *t, const struct tr_operand *op, const struct tr_group *g,
                          struct emit_mem *m)
{
    bool indexed = op->index != INSN_NO_REG;

    *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1,
                           .disp = (int32_t)op->disp};
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, g->addend);
    if (g->host) {
        m->disp = (int32_t)(op->disp - g->low);
        return;
    }
    t->uses_r10 = tr_based(op) || op->base == INSN_REG_RIP ||
                  (op->base != INSN_NO_REG && tr_displaced(op->base)) ||
                  (indexed && tr_displaced(op->index)) || t->uses_r10;
    if (tr_based(op)) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(seg_base) + (op->seg == CPU_GS ? 8 : 0));
        group_plus(t, HOST_R10);
    }
    if (op->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
        group_plus(t, HOST_R10);
    } else if (op->base != INSN_NO_REG && tr_displaced(op->base)) {
        tr_get(t, HOST_R10, op->base);
        group_plus(t, HOST_R10);
    } else if (op->base != INSN_NO_REG && indexed) {
        group_plus(t, op->base);
    } else if (op->base != INSN_NO_REG) {
        m->index = op->base;
    }
    if (indexed) {
        m->scale = op->scale;
        m->index = op->index;
        if (tr_displaced(op->index)) {
            tr_get(t, HOST_R10, op->index);
            m->index = HOST_R10;
        }
    }
}

bool tr_group_use(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    if (!group_plain(op)) {
        return false;
    }
    for (unsigned i = 0; i < t->nr_groups; i++) {
        struct tr_group *g = &t->group[i];

        if (!group_same(op, &g->first) || (op->write && !g->write) || op->disp < g->low ||
            op->disp + op->size > g->high || (g->brief && !g->held)) {
            continue;
        }
        if (g->held) {
            *m = g->at;
            m->disp += (int32_t)op->disp;
        } else {
            tr_group_drop(t);
            group_address(t, op, g, m);
            group_hold(g, op, m);
        }
        t->keeps_r11 = true;
        return true;
    }
    return false;
}
