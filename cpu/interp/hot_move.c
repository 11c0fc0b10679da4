/* SPDX-License-Identifier: MIT */
/* Fast handlers: MOV, MOVZX, MOVSX, MOVSXD, LEA, CMOVcc. */
#include "hot.h"

#define MOV_SIZE(n, type)                                                                      \
    HOT_FN(hot_mov##n##_rr)                                                                    \
    {                                                                                          \
        HOT_SET(type, op->dst, HOT_REG(op->src, type));                                        \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_mov##n##_ri)                                                                    \
    {                                                                                          \
        HOT_SET(type, op->dst, (type)op->imm);                                                 \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    MOV_LOAD(mov##n##_rma, type, type, type, hot_address_a(v, op))                             \
    MOV_LOAD(mov##n##_rmb, type, type, type, hot_address_b(v, op, e))                          \
    MOV_STORE(mov##n##_mra, type, hot_address_a(v, op), HOT_REG(op->src, type))                \
    MOV_STORE(mov##n##_mrb, type, hot_address_b(v, op, e), HOT_REG(op->src, type))             \
    MOV_STORE(mov##n##_mia, type, hot_address_a(v, op), (type)op->imm)                         \
    MOV_STORE(mov##n##_mib, type, hot_address_b(v, op, e), (type)op->imm)
/* Loads a `type`, through `as` (sign) to a register of type `to`. */
#define MOV_LOAD(name, type, as, to, address)                                                  \
    HOT_FN(hot_##name)                                                                         \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_READ(p, va, type);                                                                 \
                                                                                               \
        HOT_SET(to, op->dst, (to)(as)HOT_LOAD(p));                                             \
        HOT_NEXT;                                                                              \
    }
#define MOV_STORE(name, type, address, value)                                                  \
    HOT_FN(hot_##name)                                                                         \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        HOT_STORE(p, value);                                                                   \
        HOT_NEXT;                                                                              \
    }

MOV_SIZE(8, uint8_t)
MOV_SIZE(16, uint16_t)
MOV_SIZE(32, uint32_t)
MOV_SIZE(64, uint64_t)

#define MOV_ROW(n)                                                                             \
    {                                                                                          \
        hot_mov##n##_rr, hot_mov##n##_ri, hot_mov##n##_rma, hot_mov##n##_rmb,                  \
            hot_mov##n##_mra, hot_mov##n##_mrb, hot_mov##n##_mia, hot_mov##n##_mib             \
    }

static const op_fn hot_mov_table[4][HOT_FORMS] = {MOV_ROW(8), MOV_ROW(16), MOV_ROW(32),
                                                  MOV_ROW(64)};

/* Extensions: register and the two memory forms. */
#define EXTEND(name, type, as, to)                                                             \
    HOT_FN(hot_##name##_rr)                                                                    \
    {                                                                                          \
        HOT_SET(to, op->dst, (to)(as)HOT_REG(op->src, type));                                  \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    MOV_LOAD(name##_rma, type, as, to, hot_address_a(v, op))                                   \
    MOV_LOAD(name##_rmb, type, as, to, hot_address_b(v, op, e))

EXTEND(zx8, uint8_t, uint8_t, uint64_t)
EXTEND(zx16, uint16_t, uint16_t, uint64_t)
EXTEND(sx8_32, uint8_t, int8_t, uint32_t)
EXTEND(sx8_64, uint8_t, int8_t, uint64_t)
EXTEND(sx16_32, uint16_t, int16_t, uint32_t)
EXTEND(sx16_64, uint16_t, int16_t, uint64_t)
EXTEND(sx32_64, uint32_t, int32_t, uint64_t)

#define EXTEND_ROW(name)                                                                       \
    {                                                                                          \
        [HOT_RR] = hot_##name##_rr, [HOT_RMA] = hot_##name##_rma, [HOT_RMB] = hot_##name##_rmb \
    }

static const op_fn hot_zx_table[2][HOT_FORMS] = {EXTEND_ROW(zx8), EXTEND_ROW(zx16)};
static const op_fn hot_sx_table[3][2][HOT_FORMS] = {
    {EXTEND_ROW(sx8_32), EXTEND_ROW(sx8_64)},
    {EXTEND_ROW(sx16_32), EXTEND_ROW(sx16_64)},
    {{NULL}, EXTEND_ROW(sx32_64)},
};

HOT_FN(hot_lea64_a)
{
    HOT_REG(op->dst, uint64_t) = hot_address_a(v, op);
    HOT_NEXT;
}

HOT_FN(hot_lea64_b)
{
    HOT_REG(op->dst, uint64_t) = hot_offset_b(v, op, e);
    HOT_NEXT;
}

HOT_FN(hot_lea32_a)
{
    HOT_REG(op->dst, uint64_t) = (uint32_t)hot_address_a(v, op);
    HOT_NEXT;
}

HOT_FN(hot_lea32_b)
{
    HOT_REG(op->dst, uint64_t) = (uint32_t)hot_offset_b(v, op, e);
    HOT_NEXT;
}

/* CMOVcc: op->cond; a memory operand is read whatever the condition says. */
#define CMOV(n, type)                                                                          \
    HOT_FN(hot_cmov##n##_rr)                                                                   \
    {                                                                                          \
        type a = HOT_REG(op->dst, type), b = HOT_REG(op->src, type);                           \
                                                                                               \
        HOT_SET(type, op->dst, alu_cond(e->fl, op->cond) ? b : a);                             \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    CMOV_LOAD(cmov##n##_rma, type, hot_address_a(v, op))                                       \
    CMOV_LOAD(cmov##n##_rmb, type, hot_address_b(v, op, e))
#define CMOV_LOAD(name, type, address)                                                         \
    HOT_FN(hot_##name)                                                                         \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        HOT_READ(p, va, type);                                                                 \
        type a = HOT_REG(op->dst, type), b = HOT_LOAD(p);                                      \
                                                                                               \
        HOT_SET(type, op->dst, alu_cond(e->fl, op->cond) ? b : a);                             \
        HOT_NEXT;                                                                              \
    }

CMOV(32, uint32_t)
CMOV(64, uint64_t)

static const op_fn hot_cmov_table[2][HOT_FORMS] = {EXTEND_ROW(cmov32), EXTEND_ROW(cmov64)};

op_fn hot_move_handler(const struct insn *in, unsigned size_log, enum hot_form form)
{
    unsigned from = (unsigned)__builtin_ctz(in->op[1].size | 16);

    switch (in->id) {
    case INSN_MOV:
    case INSN_MOVNTI:
        return hot_mov_table[size_log][form];
    case INSN_MOVZX:
        return size_log >= 2 && from <= 1 ? hot_zx_table[from][form] : NULL;
    case INSN_MOVSX:
    case INSN_MOVSXD:
        return size_log >= 2 && from <= 2 ? hot_sx_table[from][size_log - 2][form] : NULL;
    case INSN_LEA:
        if (size_log < 2) {
            return NULL;
        }
        if (form == HOT_RMA) {
            return size_log == 3 ? hot_lea64_a : hot_lea32_a;
        }
        return size_log == 3 ? hot_lea64_b : hot_lea32_b;
    case INSN_CMOVCC:
        return size_log >= 2 ? hot_cmov_table[size_log - 2][form] : NULL;
    default:
        return NULL;
    }
}
