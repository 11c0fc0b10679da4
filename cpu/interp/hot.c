/* SPDX-License-Identifier: MIT */
/* Which instruction gets which fast handler, and what its record holds. */
#include "hot.h"

static bool hot_mode(const struct interp *e)
{
    return (e->mode & ~MODE_CODE) == 0 ? (e->mode & MODE_CODE) == MODE_64
                                       : e->mode == (MODE_32 | MODE_FLAT);
}

/* engine_words[i] as a word of struct vcpu. */
static uint8_t hot_word(unsigned i)
{
    _Static_assert(offsetof(struct vcpu, engine_words) / 8 + 3 <= UINT8_MAX, "a byte holds it");
    return (uint8_t)(offsetof(struct vcpu, engine_words) / 8 + i);
}

static uint8_t hot_reg(unsigned reg)
{
    return (uint8_t)((reg & INSN_HIGH_BYTE) != 0 ? (reg & 3) * 8 + 1 : reg * 8);
}

/* Only FS and GS count in 64-bit mode; in flat 32-bit code those two are left to the generic
 * way. */
static bool hot_segment(const struct interp *e, struct op *op, const struct insn *in)
{
    op->seg = hot_word(0);
    if ((e->mode & MODE_CODE) != MODE_64) {
        return in->seg == CPU_DS || in->seg == CPU_ES || in->seg == CPU_SS;
    }
    if (in->seg == CPU_FS || in->seg == CPU_GS) {
        op->seg = (uint8_t)(offsetof(struct vcpu, cpu.seg[in->seg].base) / 8);
    }
    return true;
}

/* The memory operand into *op. *plain: base and displacement do. */
static bool hot_memory(const struct interp *e, struct op *op, const struct insn *in,
                       bool *plain)
{
    bool is64 = (e->mode & MODE_CODE) == MODE_64;
    int64_t disp = in->disp;

    if (in->addrsize != (is64 ? 8 : 4)) {
        return false;
    }
    op->base = op->index = hot_word(0);
    op->shift = 0;
    if (in->base == INSN_REG_RIP) {
        op->base = hot_word(1);
        disp += op->ip + in->len;
    } else if (in->base != INSN_NO_REG) {
        op->base = in->base;
    }
    if (in->index != INSN_NO_REG) {
        op->index = in->index;
        op->shift = (uint8_t)__builtin_ctz(in->scale);
    }
    if (disp != (int32_t)disp) {
        return false;
    }
    op->disp = (int32_t)disp;
    if (!hot_segment(e, op, in) && in->id != INSN_LEA) {
        return false;
    }
    if (in->id == INSN_LEA) {
        op->seg = hot_word(0);
    }
    *plain = is64 && in->index == INSN_NO_REG && op->seg == hot_word(0);
    return true;
}

/* How the first two operands lie. */
static bool hot_operands(const struct interp *e, struct op *op, const struct insn *in,
                         enum hot_form *form)
{
    const struct insn_operand *a = &in->op[0], *b = &in->op[1];
    bool plain = false;

    *form = HOT_RR;
    if (insn_mem_operand(in) != NULL && in->id != INSN_NOP && !hot_memory(e, op, in, &plain)) {
        return false;
    }
    if (a->kind == OPK_GPR) {
        op->dst = hot_reg(a->reg);
    }
    if (b->kind == OPK_GPR) {
        op->src = hot_reg(b->reg);
    }
    if (a->kind == OPK_MEM) {
        *form = b->kind == OPK_GPR ? (plain ? HOT_MRA : HOT_MRB) : (plain ? HOT_MIA : HOT_MIB);
    } else if (b->kind == OPK_MEM) {
        *form = plain ? HOT_RMA : HOT_RMB;
    } else if (b->kind == OPK_IMM) {
        *form = HOT_RI;
    }
    return true;
}

static op_fn hot_find(struct interp *e, struct op *op, const struct insn *in,
                      enum hot_form form)
{
    unsigned size_log = (unsigned)__builtin_ctz(in->op[0].size | 16);

    if (in->id >= INSN_JMP && in->id <= INSN_RET) {
        return hot_flow_handler(e, op, in);
    }
    switch (in->id) {
    case INSN_PUSH:
    case INSN_POP:
    case INSN_LEAVE:
        return hot_flow_handler(e, op, in);
    default:
        break;
    }
    op->imm = in->imm;
    if (size_log > 3 && in->nr_operands > 0 && in->id != INSN_NOP) {
        return NULL;
    }
    if (in->id >= INSN_ADD && in->id <= INSN_TEST) {
        return hot_alu_handler(in->id, size_log, form);
    }
    op->cond = in->cond;
    if (in->id >= INSN_MOV && in->id <= INSN_MOVNTI && in->id != INSN_SETCC) {
        return hot_move_handler(in, size_log, form);
    }
    return hot_misc_handler(in, size_log, form);
}

bool hot_select(struct interp *e, struct op *op, const struct insn *in)
{
    enum hot_form form;

    if (in->id == INSN_NATIVE) {
        bool plain = true;

        if (!hot_mode(e) || (insn_mem_operand(in) != NULL && !hot_memory(e, op, in, &plain))) {
            return false;
        }
        op->fn = hot_native_handler(e, op, in, plain);
        return op->fn != NULL;
    }
    if (!hot_mode(e) || (in->flags & INSN_F_SYSTEM) != 0 || in->id == INSN_INVALID ||
        (in->prefixes & INSN_P_LOCK) != 0 || !hot_operands(e, op, in, &form)) {
        return false;
    }
    /* CALL, JMP and PUSH name one operand: it is the source. */
    if (in->id == INSN_CALL || in->id == INSN_JMP || in->id == INSN_PUSH) {
        op->src = op->dst;
    }
    op->fn = hot_find(e, op, in, form);
    return op->fn != NULL;
}
