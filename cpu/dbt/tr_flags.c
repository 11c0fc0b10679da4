/* SPDX-License-Identifier: MIT */
/*
 * Where the guest's status flags are while a block is translated. Checks of memory accesses
 * overwrite EFLAGS. Where flags matter behind one they are saved before; but most often they
 * matter only in case that the check fails (a store may change the code behind it, and with it
 * what overwrites them). Then nothing is saved as long as the registers that they came from are
 * what they were: stubs, and whoever wants them after all, do the same once more (LOC_REDO).
 * What a shift overwrites is kept for that: one store instead of seven instructions.
 */
#include "translate.h"

void tr_flags_save(struct tr *t)
{
    t->uses_r10 = true;
    emit_mov(&t->c, HOST_R10, CPU_RAX);
    emit_byte(&t->c, 0x9f);                                    /* lahf */
    emit_bytes(&t->c, (const uint8_t[]){0x0f, 0x90, 0xc0}, 3); /* seto %al */
    emit_op32_gs(&t->c, EMIT_STORE, CPU_RAX, TR_GS(interp.fl));
    emit_mov(&t->c, CPU_RAX, HOST_R10);
}

static void flags_load(struct tr *t)
{
    t->uses_r10 = true;
    emit_mov(&t->c, HOST_R10, CPU_RAX);
    emit_op32_gs(&t->c, EMIT_LOAD, CPU_RAX, TR_GS(interp.fl));
    emit_bytes(&t->c, (const uint8_t[]){0x04, 0x7f, 0x9e}, 3); /* add $0x7f,%al; sahf */
    emit_mov(&t->c, CPU_RAX, HOST_R10);
}

/* ---- the same once more ---- */

static unsigned redo_reg(const struct insn_operand *op)
{
    return op->kind != OPK_GPR               ? INSN_NO_REG
           : (op->reg & INSN_HIGH_BYTE) != 0 ? op->reg & 3u
                                             : op->reg;
}

static bool redo_shift(const struct insn *in)
{
    return (in->id == INSN_SHL || in->id == INSN_SHR || in->id == INSN_SAR) &&
           in->nr_operands == 2 && in->op[0].kind == OPK_GPR && in->op[0].size >= 4 &&
           in->op[1].kind == OPK_IMM && in->op[0].reg != CPU_RSP;
}

/* Are the flags of the current instruction alive at a check that comes before they are used? */
static bool redo_expected(const struct tr *t)
{
    for (unsigned i = t->number + 1; i < t->nr && t->live_before[i] != 0; i++) {
        const struct insn *in = &t->insn[i];
        struct insn_status s = insn_status_flags(in);

        if (tr_accesses(in) && (in->base != CPU_RSP || in->index != INSN_NO_REG)) {
            return true;
        }
        if (s.reads != 0 || s.writes || (in->flags & INSN_F_BRANCH) != 0) {
            break;
        }
    }
    return false;
}

void tr_flags_keep(struct tr *t, const struct insn *in, unsigned reg)
{
    if (redo_shift(in) && t->status.kills == FLAG_ALL) {
        t->kept = !t->in_loop && redo_expected(t) ? in : NULL;
        if (t->kept != NULL) {
            emit_op_gs(&t->c, EMIT_STORE, reg, TR_GS(redo_operand));
        }
    }
}

/* By the result alone. */
static bool redo_logic(const struct insn *in)
{
    return in->id == INSN_AND || in->id == INSN_OR || in->id == INSN_XOR;
}

/* What else its flags come from, besides its first operand. */
static unsigned redo_source(const struct insn *in)
{
    return in->nr_operands > 1 && !redo_logic(in) ? redo_reg(&in->op[1]) : INSN_NO_REG;
}

/* Can its flags be had again, from what it leaves in its registers? */
static bool redo_fits(const struct tr *t, const struct insn *in)
{
    const struct insn_operand *to = &in->op[0], *from = &in->op[1];
    unsigned a, b;

    if (in->nr_operands == 0 || to->kind != OPK_GPR) {
        return false;
    }
    a = redo_reg(to);
    b = redo_source(in);
    if (a == CPU_RSP || b == CPU_RSP) {
        return false;
    }
    if (in->id == INSN_NEG || redo_logic(in)) {
        return to->size >= 4;
    }
    if (in->nr_operands != 2 || (from->kind != OPK_GPR && from->kind != OPK_IMM)) {
        return false;
    }
    switch (in->id) {
    case INSN_CMP:
    case INSN_TEST:
        return true;
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
        return in == t->kept;
    case INSN_ADD:
    case INSN_SUB:
        return to->size >= 4 && a != b &&
               (from->kind != OPK_IMM || to->size == 4 || (int64_t)in->imm == (int32_t)in->imm);
    default:
        return false;
    }
}

static void redo_op(struct tr *t, unsigned op, unsigned reg, unsigned rm, unsigned size)
{
    emit_byte(&t->c,
              0x40u | (size == 8 ? 8u : 0u) | (reg >= 8 ? 4u : 0u) | (rm >= 8 ? 1u : 0u));
    emit_byte(&t->c, op);
    emit_byte(&t->c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ADD (0) or SUB (5) to r10. */
static void redo_add(struct tr *t, unsigned op, unsigned from, const struct insn *in)
{
    unsigned size = in->op[0].size;

    if (in->op[1].kind == OPK_IMM) {
        redo_op(t, 0x81, op, HOST_R10, size);
        emit_u32(&t->c, (uint32_t)in->imm);
    } else {
        redo_op(t, op << 3 | 3, HOST_R10, from, size);
    }
}

static unsigned redo_get(struct tr *t, unsigned to, unsigned gpr)
{
    if (gpr == INSN_NO_REG || !tr_displaced(gpr)) {
        return gpr;
    }
    tr_get(t, to, gpr);
    return to;
}

/* Changes r10 and r11. */
static void flags_redo(struct tr *t)
{
    const struct insn *in = t->redo;
    unsigned size = in->op[0].size, a = redo_reg(&in->op[0]), b;
    bool add = in->id == INSN_ADD;

    tr_group_drop(t);
    t->uses_r10 = true;
    t->lent = INSN_NO_REG;
    switch (in->id) {
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(redo_operand));
        redo_op(t, 0xc1, in->id == INSN_SHL ? 4 : in->id == INSN_SHR ? 5 : 7, HOST_R10, size);
        emit_byte(&t->c, (uint8_t)in->imm);
        break;
    case INSN_CMP:
    case INSN_TEST:
        tr_copy_again(t, in);
        break;
    case INSN_AND:
    case INSN_OR:
    case INSN_XOR:
        a = redo_get(t, HOST_R10, a);
        redo_op(t, 0x85, a, a, size); /* test */
        break;
    case INSN_NEG:
        tr_get(t, HOST_R10, a);
        redo_op(t, 0xf7, 3, HOST_R10, size);
        redo_op(t, 0xf7, 3, HOST_R10, size);
        break;
    default:
        b = redo_get(t, HOST_R11, redo_reg(&in->op[1]));
        tr_get(t, HOST_R10, a);
        redo_add(t, add ? 5 : 0, b, in);
        redo_add(t, add ? 0 : 5, b, in);
        break;
    }
}

/* Moves to and from vector registers that ask for no alignment. */
static bool redo_vector_move(const struct insn *in)
{
    const bool repeated = (in->prefixes & (INSN_P_REP | INSN_P_REPNE)) != 0;

    if (in->map != INSN_MAP_0F || in->encoding != INSN_ENC_LEGACY) {
        return false;
    }
    switch (in->opcode) {
    case 0x10: /* MOVUPS MOVUPD MOVSS MOVSD */
    case 0x11:
    case 0x6e: /* MOVD MOVQ */
    case 0x7e:
    case 0xd6:
        return true;
    case 0x6f: /* MOVDQU; MOVDQA is another matter */
    case 0x7f:
        return repeated;
    default:
        return false;
    }
}

/* Of those that tr_keeps() knows: it cannot fault but by an access that was checked. */
static bool redo_survives(const struct insn *in)
{
    return (in->prefixes & INSN_P_LOCK) == 0 && in->id != INSN_DIV && in->id != INSN_IDIV &&
           (in->id != INSN_NATIVE || redo_vector_move(in));
}

void tr_flags_settle(struct tr *t)
{
    if (t->loc == LOC_REDO && t->live != 0) {
        flags_redo(t);
    }
    t->loc = t->loc != LOC_REDO ? t->loc : t->live != 0 ? LOC_HOST : LOC_DEAD;
}

/* Are the registers that the flags came from still the same behind this? */
static bool redo_kept(const struct tr *t, const struct insn *in)
{
    const struct insn *redo = t->redo;

    if (redo == t->kept) {
        return tr_keeps(in, INSN_NO_REG, INSN_NO_REG);
    }
    return tr_keeps(in, redo_reg(&redo->op[0]), redo_source(redo));
}

void tr_flags_before(struct tr *t, const struct insn *in)
{
    uint8_t wants = t->status.reads | (t->status.writes ? (uint8_t)~t->status.kills : 0);

    t->may_redo =
        t->redo != NULL && redo_survives(in) && (wants & t->live) == 0 && redo_kept(t, in);
    if (!t->may_redo) {
        tr_flags_settle(t);
    }
}

void tr_flags_after(struct tr *t, const struct insn *in)
{
    if (t->status.writes) {
        t->redo =
            t->loc == LOC_HOST && t->status.kills == FLAG_ALL && redo_fits(t, in) ? in : NULL;
    } else if (t->redo != NULL && !redo_kept(t, in)) {
        t->redo = NULL;
    }
}

void tr_flags_stub(struct tr *t)
{
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(redo_keep[0]));
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(redo_keep[1]));
    flags_redo(t);
    tr_flags_save(t);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(redo_keep[0]));
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(redo_keep[1]));
    t->loc = LOC_MEM;
}

/* ---- elsewhere ---- */

void tr_clobber(struct tr *t)
{
    if (t->loc == LOC_REDO && !t->may_redo) {
        tr_flags_settle(t);
    }
    if (t->loc == LOC_HOST) {
        if (t->live == 0) {
            t->loc = LOC_DEAD;
        } else if (t->may_redo) {
            t->loc = LOC_REDO;
        } else {
            tr_flags_save(t);
            t->loc = LOC_MEM;
        }
        t->fault_host = false;
    }
}

void tr_flags_host(struct tr *t)
{
    if (t->loc == LOC_MEM && t->live != 0) {
        flags_load(t);
        t->loc = LOC_HOST;
    }
}
