/* SPDX-License-Identifier: MIT */
/* Fast handlers: unary operations, shifts, multiplication, bit tests, SETcc and other small
 * ones. */
#include "hot.h"

#define UNARY(fn, type)                                                                        \
    HOT_FN(hot_##fn##_r)                                                                       \
    {                                                                                          \
        type a = alu_##fn(&e->fl, HOT_REG(op->dst, type));                                     \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    UNARY_MEMORY(fn, type, ma, hot_address_a(v, op))                                           \
    UNARY_MEMORY(fn, type, mb, hot_address_b(v, op, e))
#define UNARY_MEMORY(fn, type, form, address)                                                  \
    HOT_FN(hot_##fn##_##form)                                                                  \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_WRITE(p, va, type);                                                                \
        type a = alu_##fn(&e->fl, HOT_LOAD(p));                                                \
                                                                                               \
        HOT_STORE(p, a);                                                                       \
        HOT_NEXT;                                                                              \
    }

static inline uint32_t alu_not32(uint32_t *fl, uint32_t a)
{
    (void)fl;
    return ~a;
}

static inline uint64_t alu_not64(uint32_t *fl, uint64_t a)
{
    (void)fl;
    return ~a;
}

UNARY(inc32, uint32_t)
UNARY(inc64, uint64_t)
UNARY(dec32, uint32_t)
UNARY(dec64, uint64_t)
UNARY(neg32, uint32_t)
UNARY(neg64, uint64_t)
UNARY(not32, uint32_t)
UNARY(not64, uint64_t)

#define UNARY_ROW(fn)                                                                          \
    {                                                                                          \
        hot_##fn##_r, hot_##fn##_ma, hot_##fn##_mb                                             \
    }

static const op_fn hot_unary_table[4][2][3] = {
    {UNARY_ROW(inc32), UNARY_ROW(inc64)},
    {UNARY_ROW(dec32), UNARY_ROW(dec64)},
    {UNARY_ROW(neg32), UNARY_ROW(neg64)},
    {UNARY_ROW(not32), UNARY_ROW(not64)},
};

static op_fn hot_unary(unsigned id, unsigned size_log, enum hot_form form)
{
    unsigned row = id == INSN_INC ? 0 : id == INSN_DEC ? 1 : id == INSN_NEG ? 2 : 3;

    if (size_log < 2) {
        return NULL;
    }
    return hot_unary_table[row][size_log - 2][form == HOT_MIA ? 1 : form == HOT_MIB ? 2 : 0];
}

#define SHIFT(fn, type)                                                                        \
    HOT_FN(hot_##fn##_ri)                                                                      \
    {                                                                                          \
        type a = alu_##fn(&e->fl, HOT_REG(op->dst, type), (uint8_t)op->imm);                   \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_##fn##_rc)                                                                      \
    {                                                                                          \
        type a = alu_##fn(&e->fl, HOT_REG(op->dst, type), (uint8_t)v->cpu.gpr[CPU_RCX]);       \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }
#define SHIFTS(name)                                                                           \
    SHIFT(name##8, uint8_t)                                                                    \
    SHIFT(name##16, uint16_t) SHIFT(name##32, uint32_t) SHIFT(name##64, uint64_t)

SHIFTS(rol)
SHIFTS(ror)
SHIFTS(shl)
SHIFTS(shr)
SHIFTS(sar)

#define SHIFT_ROW(name, how)                                                                   \
    {                                                                                          \
        hot_##name##8_##how, hot_##name##16_##how, hot_##name##32_##how, hot_##name##64_##how  \
    }

static const op_fn hot_shift_table[7][2][4] = {
    {SHIFT_ROW(rol, ri), SHIFT_ROW(rol, rc)},
    {SHIFT_ROW(ror, ri), SHIFT_ROW(ror, rc)},
    {{NULL}, {NULL}},
    {{NULL}, {NULL}}, /* RCL, RCR */
    {SHIFT_ROW(shl, ri), SHIFT_ROW(shl, rc)},
    {SHIFT_ROW(shr, ri), SHIFT_ROW(shr, rc)},
    {SHIFT_ROW(sar, ri), SHIFT_ROW(sar, rc)},
};

/* IMUL with two or three operands. */
#define IMUL(n, type, mod)                                                                     \
    static inline type hot_do_imul##n(uint32_t *fl, type a, type b)                            \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
                                                                                               \
        __asm__(ALU_LOAD "imul" mod " %2, %0" ALU_SAVE : "+&r"(a), "+&a"(f) : "r"(b) : "cc");  \
        *fl = f;                                                                               \
        return a;                                                                              \
    }                                                                                          \
    HOT_FN(hot_imul##n##_rr)                                                                   \
    {                                                                                          \
        type a = HOT_REG(op->dst, type);                                                       \
                                                                                               \
        a = hot_do_imul##n(&e->fl, a, HOT_REG(op->src, type));                                 \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_imul##n##_rri)                                                                  \
    {                                                                                          \
        type a = hot_do_imul##n(&e->fl, (type)op->imm, HOT_REG(op->src, type));                \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    IMUL_LOAD(n, type, rma, hot_address_a(v, op))                                              \
    IMUL_LOAD(n, type, rmb, hot_address_b(v, op, e))
#define IMUL_LOAD(n, type, form, address)                                                      \
    HOT_FN(hot_imul##n##_##form)                                                               \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_READ(p, va, type);                                                                 \
        type a = HOT_REG(op->dst, type);                                                       \
                                                                                               \
        a = hot_do_imul##n(&e->fl, a, HOT_LOAD(p));                                            \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }

IMUL(32, uint32_t, "l")
IMUL(64, uint64_t, "q")

static const op_fn hot_imul_table[2][HOT_FORMS] = {
    {hot_imul32_rr, hot_imul32_rri, hot_imul32_rma, hot_imul32_rmb},
    {hot_imul64_rr, hot_imul64_rri, hot_imul64_rma, hot_imul64_rmb},
};

/* Bit tests on registers: the other flags stay as the host leaves them. */
#define BIT(name, type, mod)                                                                   \
    static inline type hot_do_##name(uint32_t *fl, type a, type b)                             \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
                                                                                               \
        __asm__(ALU_LOAD mod " %2, %0" ALU_SAVE : "+&r"(a), "+&a"(f) : "r"(b) : "cc");         \
        *fl = f;                                                                               \
        return a;                                                                              \
    }                                                                                          \
    HOT_FN(hot_##name##_rr)                                                                    \
    {                                                                                          \
        type a = hot_do_##name(&e->fl, HOT_REG(op->dst, type), HOT_REG(op->src, type));        \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_##name##_ri)                                                                    \
    {                                                                                          \
        type a = hot_do_##name(&e->fl, HOT_REG(op->dst, type), (type)op->imm);                 \
                                                                                               \
        HOT_SET(type, op->dst, a);                                                             \
        HOT_NEXT;                                                                              \
    }

BIT(bts32, uint32_t, "btsl")
BIT(bts64, uint64_t, "btsq")
BIT(btr32, uint32_t, "btrl")
BIT(btr64, uint64_t, "btrq")
BIT(btc32, uint32_t, "btcl")
BIT(btc64, uint64_t, "btcq")

/* BT writes nothing, so a 32-bit one must not zero an upper half. */
#define BT_PLAIN(n, type, mod)                                                                 \
    static inline void hot_do_bt##n(uint32_t *fl, type a, type b)                              \
    {                                                                                          \
        uint32_t f = *fl;                                                                      \
                                                                                               \
        __asm__(ALU_LOAD mod " %2, %1" ALU_SAVE : "+&a"(f) : "r"(a), "r"(b) : "cc");           \
        *fl = f;                                                                               \
    }                                                                                          \
    HOT_FN(hot_bt##n##_rr)                                                                     \
    {                                                                                          \
        hot_do_bt##n(&e->fl, HOT_REG(op->dst, type), HOT_REG(op->src, type));                  \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_bt##n##_ri)                                                                     \
    {                                                                                          \
        hot_do_bt##n(&e->fl, HOT_REG(op->dst, type), (type)op->imm);                           \
        HOT_NEXT;                                                                              \
    }
BT_PLAIN(32, uint32_t, "btl")
BT_PLAIN(64, uint64_t, "btq")

static const op_fn hot_bit_table[4][2][2] = {
    {{hot_bt32_rr, hot_bt32_ri}, {hot_bt64_rr, hot_bt64_ri}},
    {{hot_bts32_rr, hot_bts32_ri}, {hot_bts64_rr, hot_bts64_ri}},
    {{hot_btr32_rr, hot_btr32_ri}, {hot_btr64_rr, hot_btr64_ri}},
    {{hot_btc32_rr, hot_btc32_ri}, {hot_btc64_rr, hot_btc64_ri}},
};

HOT_FN(hot_setcc_r)
{
    HOT_REG(op->dst, uint8_t) = alu_cond(e->fl, op->cond);
    HOT_NEXT;
}

HOT_FN(hot_xchg32_rr)
{
    uint32_t a = HOT_REG(op->dst, uint32_t), b = HOT_REG(op->src, uint32_t);

    HOT_REG(op->src, uint64_t) = a;
    HOT_REG(op->dst, uint64_t) = b;
    HOT_NEXT;
}

HOT_FN(hot_xchg64_rr)
{
    uint64_t a = HOT_REG(op->dst, uint64_t);

    HOT_REG(op->dst, uint64_t) = HOT_REG(op->src, uint64_t);
    HOT_REG(op->src, uint64_t) = a;
    HOT_NEXT;
}

HOT_FN(hot_bswap32)
{
    HOT_REG(op->dst, uint64_t) = __builtin_bswap32(HOT_REG(op->dst, uint32_t));
    HOT_NEXT;
}

HOT_FN(hot_bswap64)
{
    HOT_REG(op->dst, uint64_t) = __builtin_bswap64(HOT_REG(op->dst, uint64_t));
    HOT_NEXT;
}

HOT_FN(hot_cwde)
{
    HOT_REG(0, uint64_t) = (uint32_t)(int16_t)HOT_REG(0, uint16_t);
    HOT_NEXT;
}

HOT_FN(hot_cdqe)
{
    HOT_REG(0, uint64_t) = (uint64_t)(int32_t)HOT_REG(0, uint32_t);
    HOT_NEXT;
}

HOT_FN(hot_cdq)
{
    v->cpu.gpr[CPU_RDX] = (uint32_t)((int32_t)v->cpu.gpr[CPU_RAX] >> 31);
    HOT_NEXT;
}

HOT_FN(hot_cqo)
{
    v->cpu.gpr[CPU_RDX] = (uint64_t)((int64_t)v->cpu.gpr[CPU_RAX] >> 63);
    HOT_NEXT;
}

HOT_FN(hot_nop)
{
    HOT_NEXT;
}

static op_fn hot_shift(const struct insn *in, unsigned size_log, enum hot_form form)
{
    if (form != HOT_RI && form != HOT_RR) {
        return NULL;
    }
    return hot_shift_table[in->id - INSN_ROL][form == HOT_RR][size_log];
}

static op_fn hot_bit(const struct insn *in, unsigned size_log, enum hot_form form)
{
    if (size_log < 2 || (form != HOT_RI && form != HOT_RR)) {
        return NULL;
    }
    return hot_bit_table[in->id - INSN_BT][size_log - 2][form == HOT_RI];
}

op_fn hot_misc_handler(const struct insn *in, unsigned size_log, enum hot_form form)
{
    switch (in->id) {
    case INSN_INC:
    case INSN_DEC:
    case INSN_NEG:
    case INSN_NOT:
        return hot_unary(in->id, size_log, form);
    case INSN_ROL:
    case INSN_ROR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
        return hot_shift(in, size_log, form);
    case INSN_IMUL2:
        return size_log >= 2 ? hot_imul_table[size_log - 2][form] : NULL;
    case INSN_IMUL3:
        return size_log >= 2 && form == HOT_RR ? hot_imul_table[size_log - 2][HOT_RI] : NULL;
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        return hot_bit(in, size_log, form);
    case INSN_SETCC:
        return in->op[0].kind == OPK_GPR ? hot_setcc_r : NULL;
    case INSN_XCHG:
        return form != HOT_RR || size_log < 2 ? NULL
               : size_log == 2                ? hot_xchg32_rr
                                              : hot_xchg64_rr;
    case INSN_BSWAP:
        return size_log < 2 ? NULL : size_log == 2 ? hot_bswap32 : hot_bswap64;
    case INSN_CBW:
        return in->opsize == 8 ? hot_cdqe : in->opsize == 4 ? hot_cwde : NULL;
    case INSN_CWD:
        return in->opsize == 8 ? hot_cqo : in->opsize == 4 ? hot_cdq : NULL;
    case INSN_NOP:
        return hot_nop;
    default:
        return NULL;
    }
}
