/* SPDX-License-Identifier: MIT */
/*
 * How large a register can be at most, by the instruction of the block that wrote it last: an
 * index that was masked, or that is a byte. Accesses to the stack by such an index stay close to
 * RSP, and need no check where all of that was checked (tr_stack.c, memory.c).
 */
#include "translate.h"

/* Nothing is known of what lies further away from the base. */
enum { BOUND_MOST = 4096 };

/* What `in`, which writes `reg`, leaves there at most. */
static uint64_t bound_of(const struct insn *in, unsigned reg)
{
    const struct insn_operand *to = &in->op[0], *from = &in->op[1];
    unsigned bits = to->size * 8;

    if (in->nr_operands != 2 || to->kind != OPK_GPR || to->reg != reg || to->size < 4) {
        return UINT64_MAX;
    }
    switch (in->id) {
    case INSN_AND:
        return from->kind == OPK_IMM && (int32_t)in->imm >= 0 ? (uint32_t)in->imm : UINT64_MAX;
    case INSN_MOVZX:
        return from->size == 1 ? UINT8_MAX : UINT64_MAX;
    case INSN_SHR:
        return from->kind == OPK_IMM ? UINT64_MAX >> (64 - bits) >> (in->imm & (bits - 1))
                                     : UINT64_MAX;
    default:
        return UINT64_MAX;
    }
}

bool tr_bounded(const struct tr *t, unsigned number, unsigned reg, unsigned *most)
{
    unsigned i = number;
    uint64_t bound;

    while (i-- > 0 && tr_keeps(&t->insn[i], reg, INSN_NO_REG)) {
    }
    bound = i < number ? bound_of(&t->insn[i], reg) : UINT64_MAX;
    *most = (unsigned)MIN(bound, (uint64_t)BOUND_MOST);
    return bound < BOUND_MOST;
}
