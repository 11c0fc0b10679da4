/* SPDX-License-Identifier: MIT */
/* Fast handlers: ADD OR ADC SBB AND SUB XOR CMP TEST in every operand form and size. */
#include "hot.h"

/* One operation of one size: forms that write their first operand. */
#define ALU_WRITE(fn, type, kind)                                                              \
    HOT_FN(hot_##fn##_rr)                                                                      \
    {                                                                                          \
        type a = HOT_REG(op->dst, type);                                                       \
                                                                                               \
        a = alu_##fn(&e->fl, a, HOT_REG(op->src, type));                                       \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_##fn##_ri)                                                                      \
    {                                                                                          \
        type a = HOT_REG(op->dst, type);                                                       \
                                                                                               \
        a = alu_##fn(&e->fl, a, (type)op->imm);                                                \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    ALU_READ_FORM(fn, type, rma, hot_address_a(v, op))                                         \
    ALU_READ_FORM(fn, type, rmb, hot_address_b(v, op, e))                                      \
    ALU_WRITE_FORM(fn, type, mra, hot_address_a(v, op), HOT_REG(op->src, type))                \
    ALU_WRITE_FORM(fn, type, mrb, hot_address_b(v, op, e), HOT_REG(op->src, type))             \
    ALU_WRITE_FORM(fn, type, mia, hot_address_a(v, op), (type)op->imm)                         \
    ALU_WRITE_FORM(fn, type, mib, hot_address_b(v, op, e), (type)op->imm)
#define ALU_READ_FORM(fn, type, form, address)                                                 \
    HOT_FN(hot_##fn##_##form)                                                                  \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_READ(p, va, type);                                                                 \
        type a = HOT_REG(op->dst, type);                                                       \
                                                                                               \
        a = alu_##fn(&e->fl, a, HOT_LOAD(p));                                                  \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }
#define ALU_WRITE_FORM(fn, type, form, address, value)                                         \
    HOT_FN(hot_##fn##_##form)                                                                  \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_WRITE(p, va, type);                                                                \
        type a = alu_##fn(&e->fl, HOT_LOAD(p), value);                                         \
                                                                                               \
        HOT_STORE(p, a);                                                                       \
        HOT_NEXT;                                                                              \
    }

/* CMP and TEST. */
#define ALU_FLAGS(fn, type, kind)                                                              \
    HOT_FN(hot_##fn##_rr)                                                                      \
    {                                                                                          \
        alu_##fn(&e->fl, HOT_REG(op->dst, type), HOT_REG(op->src, type));                      \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_##fn##_ri)                                                                      \
    {                                                                                          \
        alu_##fn(&e->fl, HOT_REG(op->dst, type), (type)op->imm);                               \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    ALU_FLAGS_FORM(fn, type, rma, hot_address_a(v, op), HOT_REG(op->dst, type), HOT_LOAD(p))   \
    ALU_FLAGS_FORM(fn, type, rmb, hot_address_b(v, op, e), HOT_REG(op->dst, type),             \
                   HOT_LOAD(p))                                                                \
    ALU_FLAGS_FORM(fn, type, mra, hot_address_a(v, op), HOT_LOAD(p), HOT_REG(op->src, type))   \
    ALU_FLAGS_FORM(fn, type, mrb, hot_address_b(v, op, e), HOT_LOAD(p),                        \
                   HOT_REG(op->src, type))                                                     \
    ALU_FLAGS_FORM(fn, type, mia, hot_address_a(v, op), HOT_LOAD(p), (type)op->imm)            \
    ALU_FLAGS_FORM(fn, type, mib, hot_address_b(v, op, e), HOT_LOAD(p), (type)op->imm)
#define ALU_FLAGS_FORM(fn, type, form, address, x, y)                                          \
    HOT_FN(hot_##fn##_##form)                                                                  \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_READ(p, va, type);                                                                 \
                                                                                               \
        alu_##fn(&e->fl, x, y);                                                                \
        HOT_NEXT;                                                                              \
    }

#define ALU_SIZES(what, name)                                                                  \
    what(name##8, uint8_t, ) what(name##16, uint16_t, ) what(name##32, uint32_t, )             \
        what(name##64, uint64_t, )

ALU_SIZES(ALU_WRITE, add)
ALU_SIZES(ALU_WRITE, or)
ALU_SIZES(ALU_WRITE, adc)
ALU_SIZES(ALU_WRITE, sbb)
ALU_SIZES(ALU_WRITE, and)
ALU_SIZES(ALU_WRITE, sub)
ALU_SIZES(ALU_WRITE, xor)
ALU_SIZES(ALU_FLAGS, cmp)
ALU_SIZES(ALU_FLAGS, test)

#define ALU_ROW(fn)                                                                            \
    {                                                                                          \
        hot_##fn##_rr, hot_##fn##_ri, hot_##fn##_rma, hot_##fn##_rmb, hot_##fn##_mra,          \
            hot_##fn##_mrb, hot_##fn##_mia, hot_##fn##_mib                                     \
    }
#define ALU_ROWS(name)                                                                         \
    {                                                                                          \
        ALU_ROW(name##8), ALU_ROW(name##16), ALU_ROW(name##32), ALU_ROW(name##64)              \
    }

static const op_fn hot_alu_table[INSN_TEST - INSN_ADD + 1][4][HOT_FORMS] = {
    [INSN_ADD - INSN_ADD] = ALU_ROWS(add),   [INSN_OR - INSN_ADD] = ALU_ROWS(or),
    [INSN_ADC - INSN_ADD] = ALU_ROWS(adc),   [INSN_SBB - INSN_ADD] = ALU_ROWS(sbb),
    [INSN_AND - INSN_ADD] = ALU_ROWS(and),   [INSN_SUB - INSN_ADD] = ALU_ROWS(sub),
    [INSN_XOR - INSN_ADD] = ALU_ROWS(xor),   [INSN_CMP - INSN_ADD] = ALU_ROWS(cmp),
    [INSN_TEST - INSN_ADD] = ALU_ROWS(test),
};

op_fn hot_alu_handler(unsigned id, unsigned size_log, enum hot_form form)
{
    return hot_alu_table[id - INSN_ADD][size_log][form];
}
