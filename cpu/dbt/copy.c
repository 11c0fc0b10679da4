/* SPDX-License-Identifier: MIT */
/* Instructions other than branches: copied, or for the stack written anew. */
#include "translate.h"

static bool copy_known(const struct insn *in)
{
    switch (in->id) {
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B:
    case INSN_MOVBE:
    case INSN_MOVNTI:
    case INSN_FENCE:
        return true;
    case INSN_NATIVE:
        return (in->flags & (INSN_F_VSIB | INSN_F_MEM_IMPLICIT)) == 0 && !interp_native_zero8(in);
    default:
        return insn_plain(in);
    }
}

/* r10 is wanted for something else, before the access itself. */
static void copy_collapse(struct tr *t, struct emit_mem *m, bool loans)
{
    bool flags = (t->status.reads != 0 || t->status.writes) && t->loc == LOC_MEM && t->live != 0;

    if (m->index == HOST_R10 && (loans || flags)) {
        emit_op_mem(&t->c, EMIT_LEA, HOST_R11, m);
        t->keeps_r11 = false;
        *m = (struct emit_mem){
            .base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = 0};
    }
}

/* Host registers for the guest's displaced ones. false: too many of them. */
static bool copy_loans(const struct insn *in, bool has_mem, struct copy_map *map,
                       uint32_t *loaned)
{
    unsigned next = HOST_R10, last = has_mem ? HOST_R10 : HOST_R11;

    *loaned = 0;
    for (unsigned i = 0; i < 16; i++) {
        map->gpr[i] = (uint8_t)i;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (op->kind != OPK_GPR || (op->reg & INSN_HIGH_BYTE) != 0 || !tr_displaced(op->reg) ||
            (*loaned >> op->reg & 1) != 0) {
            continue;
        }
        if (next > last) {
            return false;
        }
        *loaned |= 1u << op->reg;
        map->gpr[op->reg] = (uint8_t)next++;
    }
    return true;
}

/* All of this register is overwritten, and nothing of it looked at. */
static bool copy_overwrites(const struct insn *in, unsigned reg)
{
    const struct insn_operand *to = &in->op[0], *from = &in->op[1];
    bool same = from->kind == OPK_GPR && (from->reg & INSN_HIGH_BYTE) == 0 && from->reg == reg;

    if (to->kind != OPK_GPR || to->reg != reg || to->size < 4 || in->nr_operands != 2) {
        return false;
    }
    switch (in->id) {
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
        return !same;
    case INSN_XOR:
        return same;
    default:
        return false;
    }
}

/* Displaced registers to where they are lent to. */
static void copy_lend(struct tr *t, const struct insn *in, const struct copy_map *map,
                      uint32_t loaned)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        bool there = map->gpr[i] == HOST_R10 && t->lent == i && !t->uses_r10;

        if ((loaned >> i & 1) != 0 && !there && !copy_overwrites(in, i)) {
            tr_get(t, map->gpr[i], i);
        }
    }
}

/* Which register is in r10 behind it? Not RSP, which moves by itself. Where the interpreter has done
 * it instead, what is behind is not gone on with. */
static void copy_lent(struct tr *t, const struct copy_map *map, uint32_t loaned)
{
    if (loaned != 0 || t->uses_r10) {
        t->lent = INSN_NO_REG;
    }
    for (unsigned i = 0; i < CPU_NR_GPR && !t->uses_r10; i++) {
        if ((loaned >> i & 1) != 0 && map->gpr[i] == HOST_R10 && i != CPU_RSP) {
            t->lent = (uint8_t)i;
        }
    }
}

/* Loans that may have changed go home. */
static void copy_return(struct tr *t, const struct insn *in, const struct copy_map *map,
                        uint32_t loaned)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        unsigned reg = in->op[i].reg;

        if (in->op[i].kind == OPK_GPR && (reg & INSN_HIGH_BYTE) == 0 &&
            (loaned >> reg & 1) != 0 && (in->op[i].access & OPA_WRITE) != 0) {
            tr_set(t, reg, map->gpr[reg]);
        }
    }
}

/*
 * AH, CH, DH or BH with a memory operand: the host's address needs a REX prefix, which rules them
 * out. The two low bytes of the register change places for that instruction; XCHG changes no flags.
 * An address that is not canonical may pass the check, and faults on the host: it is loaded from
 * before.
 */
static bool copy_high(struct tr *t, const struct insn *in, const struct copy_map *map)
{
    struct copy_map there = *map;
    struct insn low = *in;
    uint8_t xchg[] = {0x86, 0xc0}, *start = t->c.p;
    unsigned reg = INSN_NO_REG;

    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_GPR && (in->op[i].reg & INSN_HIGH_BYTE) != 0) {
            reg = low.op[i].reg = in->op[i].reg & 3u;
        }
    }
    if (reg == INSN_NO_REG || in->id == INSN_CMPXCHG || map->mem.base == reg || map->mem.index == reg) {
        return false;
    }
    low.modrm = (uint8_t)((in->modrm & ~0x38u) | reg << 3);
    xchg[1] |= (uint8_t)((reg | 4) << 3 | reg);
    emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &map->mem);
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x0f, 0xb6, 0x13}, 4); /* movzbl (%r11),%r10d */
    emit_bytes(&t->c, xchg, sizeof(xchg));
    there.mem = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1};
    if (!insn_copy(&t->c, &low, &there)) {
        t->c.p = start;
        return false;
    }
    t->keeps_r11 = false;
    t->uses_r10 = true;
    emit_bytes(&t->c, xchg, sizeof(xchg));
    return true;
}

static bool copy_general(struct tr *t, const struct insn *in)
{
    bool has_mem = insn_mem_operand(in) != NULL;
    struct tr_operand op;
    struct copy_map map;
    uint32_t loaned;

    if (!copy_known(in) || !copy_loans(in, has_mem, &map, &loaned)) {
        return false;
    }
    if (has_mem) {
        if (!tr_operand_of(t, in, &op) || op.size == 0 || op.size > 512) {
            return false;
        }
        tr_check(t, &op, &map.mem);
        copy_collapse(t, &map.mem, loaned != 0);
    } else {
        t->keeps_r11 = (loaned & (loaned - 1)) == 0; /* r10 is lent first */
    }
    if (t->status.reads != 0 || t->status.writes) {
        t->uses_r10 |= t->loc == LOC_MEM;
        tr_flags_host(t);
    }
    copy_lend(t, in, &map, loaned);
    t->fault_host = t->loc == LOC_HOST;
    tr_flags_keep(t, in, map.gpr[in->op[0].reg & 15]);
    if (!insn_copy(&t->c, in, &map) && !(has_mem && copy_high(t, in, &map))) {
        return false;
    }
    copy_return(t, in, &map, loaned);
    copy_lent(t, &map, loaned);
    if (t->status.writes) {
        t->loc = LOC_HOST;
    }
    return true;
}

void tr_copy_again(struct tr *t, const struct insn *in)
{
    struct copy_map map;
    uint32_t loaned;
    bool ok = copy_loans(in, false, &map, &loaned);

    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        if ((loaned >> i & 1) != 0) {
            tr_get(t, map.gpr[i], i);
        }
    }
    ok = ok && insn_copy(&t->c, in, &map);
    g_assert(ok); /* it was copied once */
}

/* An address is only computed. */
static bool copy_lea(struct tr *t, const struct insn *in)
{
    struct copy_map map;
    struct tr_operand op;
    uint32_t loaned;

    if (!tr_operand_of(t, in, &op) || !copy_loans(in, true, &map, &loaned)) {
        return false;
    }
    map.mem = (struct emit_mem){.base = EMIT_NO_REG, .index = EMIT_NO_REG, .scale = 1,
                                .disp = (int32_t)op.disp};
    if (op.base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(page));
        map.mem.base = HOST_R11;
    } else if (op.base != INSN_NO_REG) {
        map.mem.base = op.base;
        if (tr_displaced(op.base)) {
            tr_get(t, HOST_R11, op.base);
            map.mem.base = HOST_R11;
        }
    }
    if (op.index != INSN_NO_REG) {
        map.mem.scale = op.scale;
        map.mem.index = op.index;
        if (tr_displaced(op.index)) {
            t->uses_r10 = true;
            tr_get(t, HOST_R10, op.index);
            map.mem.index = HOST_R10;
        }
    }
    if (loaned != 0 && in->opsize == 2) {
        return false; /* keeps part of its destination, whose loan is the index's */
    }
    if (!insn_copy(&t->c, in, &map)) {
        return false;
    }
    copy_return(t, in, &map, loaned);
    copy_lent(t, &map, loaned);
    t->keeps_r11 = map.mem.base != HOST_R11;
    return true;
}

/* What is at this distance from RSP or RBP. */
static struct tr_operand copy_slot(const struct tr *t, unsigned base, int disp)
{
    return (struct tr_operand){.base = (uint8_t)base, .index = INSN_NO_REG, .scale = 1, .seg = CPU_SS,
                               .disp = disp, .size = t->word};
}

static bool copy_push(struct tr *t, const struct insn *in)
{
    const int word = (int)t->word;
    struct tr_operand slot = copy_slot(t, CPU_RSP, -word), op;
    struct emit_mem m;

    slot.write = true;
    if (in->opsize != word || (in->op[0].kind != OPK_MEM && in->op[0].kind != OPK_IMM &&
                            in->op[0].kind != OPK_GPR)) {
        return false;
    }
    if (in->op[0].kind == OPK_MEM) {
        if (!tr_operand_of(t, in, &op)) {
            return false;
        }
        tr_check(t, &op, &m);
        tr_load_word(t, HOST_R10, &m);
        emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(tmp));
    }
    tr_check(t, &slot, &m);
    if (in->op[0].kind == OPK_IMM) {
        emit_imm_mem(&t->c, EMIT_SET, t->word, &m, (uint32_t)in->imm);
    } else if (in->op[0].kind == OPK_MEM) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(tmp));
        tr_store_word(t, HOST_R10, &m);
    } else if (tr_displaced(in->op[0].reg)) {
        tr_get(t, HOST_R10, in->op[0].reg);
        tr_store_word(t, HOST_R10, &m);
    } else {
        tr_store_word(t, in->op[0].reg, &m);
    }
    tr_stack_move(t, -word);
    return true;
}

static bool copy_pop(struct tr *t, const struct insn *in)
{
    const struct tr_operand slot = copy_slot(t, CPU_RSP, 0);
    struct emit_mem m;

    if (in->opsize != t->word || in->op[0].kind != OPK_GPR) {
        return false;
    }
    tr_check(t, &slot, &m);
    if (!tr_displaced(in->op[0].reg)) {
        tr_load_word(t, in->op[0].reg, &m);
        tr_stack_move(t, (int)t->word);
        return true;
    }
    tr_load_word(t, HOST_R10, &m);
    tr_stack_move(t, (int)t->word);
    tr_set(t, in->op[0].reg, HOST_R10);
    return true;
}

static bool copy_leave(struct tr *t, const struct insn *in)
{
    const struct tr_operand slot = copy_slot(t, CPU_RBP, 0);
    struct emit_mem m, sp = {.base = HOST_R11, .index = CPU_RBP, .scale = 1, .disp = 8};

    if (in->opsize != t->word) {
        return false;
    }
    tr_check(t, &slot, &m);
    tr_load_word(t, HOST_R10, &m);
    if (tr_is32(t)) {
        tr_stack_wrap(t, CPU_RBP, 4);
    } else {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(interp.stack.addend));
        emit_op_mem(&t->c, EMIT_LEA, HOST_STACK, &sp);
    }
    emit_mov(&t->c, CPU_RBP, HOST_R10);
    return true;
}

/* RSP changes by a constant, and nobody looks at the flags. */
static bool copy_adjust(struct tr *t, const struct insn *in)
{
    int32_t delta;

    if (in->id == INSN_PUSH || in->id == INSN_POP || !tr_stack_delta(in, &delta) ||
        delta == 0 || (t->status.writes && t->live_after != 0)) {
        return false;
    }
    t->keeps_r11 = true;
    tr_stack_move(t, delta);
    t->loc = t->status.writes ? LOC_DEAD : t->loc;
    return true;
}

bool tr_copy(struct tr *t, const struct insn *in)
{
    uint8_t *start = t->c.p;
    unsigned nr_fix = t->nr_fix, nr_groups = t->nr_groups;
    enum loc loc = t->loc;
    bool ok;

    switch (in->id) {
    case INSN_LEA:
        ok = copy_adjust(t, in) || copy_lea(t, in);
        break;
    case INSN_PUSH:
        ok = copy_push(t, in);
        t->lent = INSN_NO_REG;
        break;
    case INSN_POP:
        ok = copy_pop(t, in);
        t->lent = INSN_NO_REG;
        break;
    case INSN_LEAVE:
        ok = copy_leave(t, in);
        t->lent = INSN_NO_REG;
        break;
    default:
        ok = copy_adjust(t, in) || copy_general(t, in);
        break;
    }
    if (!ok) {
        t->c.p = start;
        t->nr_fix = nr_fix;
        t->nr_groups = nr_groups;
        t->alone = false;
        t->keeps_r11 = false;
        t->lent = INSN_NO_REG;
        t->loc = loc;
    }
    return ok;
}
