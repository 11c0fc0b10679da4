/* SPDX-License-Identifier: MIT */
/*
 * The decoder's second half: operand sizes, 16-, 32- and 64-bit addresses (SDM vol. 2 tables
 * 2-1 to 2-3) and the operand letters of the tables.
 */
#include "cpu/x86/decode_internal.h"

#include <string.h>

#include "core/cpu.h"

static uint64_t dec_read(struct dec *d, unsigned n)
{
    const uint8_t *p = d->bytes + d->pos;
    uint64_t v = 0;

    memcpy(&v, p, n); /* the host is little-endian x86 */
    d->pos += n;
    return v;
}

static inline int64_t dec_sign(uint64_t v, unsigned n)
{
    unsigned shift = 64 - 8 * n;

    return (int64_t)(v << shift) >> shift;
}

static inline uint64_t dec_trim(int64_t v, unsigned size)
{
    return size >= 8 ? (uint64_t)v : (uint64_t)v & (((uint64_t)1 << 8 * size) - 1);
}

void dec_opsize(struct dec *d)
{
    struct insn *in = d->in;

    if (in->mode == INSN_MODE_64) {
        if (d->flags & INSN_A_FORCE64) {
            in->opsize = 8;
        } else if (d->flags & INSN_A_DEF64) {
            in->opsize = d->p66 && !(in->rex & INSN_REX_W) ? 2 : 8;
        } else {
            in->opsize = in->rex & INSN_REX_W ? 8 : d->p66 ? 2 : 4;
        }
    } else {
        in->opsize = (in->mode == INSN_MODE_32) != d->p66 ? 4 : 2;
    }
    if ((d->flags & INSN_A_OPZ) && in->opsize > 4) {
        in->opsize = 4;
    }
}

/* Bytes of a size code. Where registers and memory differ, is_reg chooses. */
static unsigned dec_size(const struct dec *d, unsigned code, bool is_reg)
{
    static const uint8_t fixed[S_VARIABLE] = {0, 1, 2, 4, 8, 16, 32, 64, 10};
    const struct insn *in = d->in;
    unsigned v = in->opsize, x = in->vlen ? in->vlen : 16;

    if (code < S_VARIABLE) {
        return fixed[code];
    }
    switch (code) {
    case S_V:
        return v;
    case S_Z:
        return v < 4 ? v : 4;
    case S_Y:
        return d->key & INSN_KEY_W64 ? 8 : 4;
    case S_YM:
        return in->mode == INSN_MODE_64 ? 8 : 4;
    case S_X:
        return x;
    case S_XH:
        return x / 2;
    case S_XQ:
        return x / 4;
    case S_XE:
        return x / 8;
    case S_P:
        return v + 2;
    case S_A:
        return v * 2;
    case S_TBL:
        return in->mode == INSN_MODE_64 ? 10 : 6;
    case S_ENV:
        return v == 2 ? 14 : 28;
    case S_FSAVE:
        return v == 2 ? 94 : 108;
    case S_VW:
        return is_reg ? v : 2;
    case S_DB:
        return is_reg ? 4 : 1;
    default: /* S_DWM */
        return is_reg ? 4 : 2;
    }
}

static bool dec_disp(struct dec *d, unsigned n)
{
    if (n == 0) {
        return true;
    }
    if (!dec_need(d, n)) {
        return false;
    }
    d->in->disp_off = (uint8_t)d->pos;
    d->in->disp_len = (uint8_t)n;
    d->in->disp = dec_sign(dec_read(d, n), n);
    return true;
}

static bool dec_address16(struct dec *d)
{
    static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3};
    static const uint8_t index[4] = {6, 7, 6, 7};
    struct insn *in = d->in;
    unsigned mod = in->modrm >> 6, rm = in->modrm & 7;

    d->bad |= (d->flags & INSN_F_VSIB) != 0;
    if (mod == 0 && rm == 6) {
        return dec_disp(d, 2);
    }
    in->base = base[rm];
    if (rm < 4) {
        in->index = index[rm];
    }
    if (in->base == CPU_RBP && !(in->prefixes & INSN_P_SEG)) {
        in->seg = CPU_SS;
    }
    return dec_disp(d, mod);
}

static bool dec_sib(struct dec *d, unsigned *base)
{
    struct insn *in = d->in;
    unsigned index;
    uint8_t sib;

    if (!dec_need(d, 1)) {
        return false;
    }
    sib = d->bytes[d->pos++];
    index = ((sib >> 3) & 7) | (in->rex & INSN_REX_X ? 8 : 0);
    if (d->flags & INSN_F_VSIB) {
        in->index = (uint8_t)(index | d->vec_x);
    } else if (index != CPU_RSP) {
        in->index = (uint8_t)index;
    }
    if (in->index != INSN_NO_REG) {
        in->scale = (uint8_t)(1 << (sib >> 6));
    }
    *base = sib & 7;
    return true;
}

bool dec_address(struct dec *d)
{
    struct insn *in = d->in;
    unsigned mod = in->modrm >> 6, base = in->modrm & 7;
    bool has_sib = base == 4;

    if (in->addrsize == 2) {
        return dec_address16(d);
    }
    d->bad |= (d->flags & INSN_F_VSIB) && !has_sib;
    if (has_sib && !dec_sib(d, &base)) {
        return false;
    }
    if (mod == 0 && base == 5) {
        if (!has_sib && in->mode == INSN_MODE_64) {
            in->base = INSN_REG_RIP;
        }
        return dec_disp(d, 4);
    }
    in->base = (uint8_t)(base | (in->rex & INSN_REX_B ? 8 : 0));
    if ((in->base == CPU_RSP || in->base == CPU_RBP) && !(in->prefixes & INSN_P_SEG)) {
        in->seg = CPU_SS;
    }
    return dec_disp(d, mod == 2 ? 4 : mod);
}

/* An immediate of n bytes, extended to size bytes. */
static bool dec_imm(struct dec *d, struct insn_operand *op, unsigned n, bool sign)
{
    struct insn *in = d->in;
    uint64_t v;

    if (!dec_need(d, n)) {
        return false;
    }
    in->imm_off = in->imm_off ? in->imm_off : (uint8_t)d->pos;
    in->imm_len = (uint8_t)(in->imm_len + n);
    v = dec_read(d, n);
    in->imm = sign ? dec_trim(dec_sign(v, n), op->size) : v;
    op->kind = OPK_IMM;
    return true;
}

static bool dec_rel(struct dec *d, struct insn_operand *op, unsigned n)
{
    if (!dec_imm(d, op, n, false)) {
        return false;
    }
    d->in->imm = (uint64_t)dec_sign(d->in->imm, n);
    op->kind = OPK_REL;
    return true;
}

static bool dec_far(struct dec *d, struct insn_operand *op)
{
    struct insn *in = d->in;
    unsigned n = in->opsize;

    if (!dec_imm(d, op, n + 2, false)) {
        return false;
    }
    in->imm2 = in->imm >> (8 * n) & 0xffff;
    in->imm = dec_trim((int64_t)in->imm, n);
    op->kind = OPK_FAR;
    return true;
}

static bool dec_moffs(struct dec *d, struct insn_operand *op)
{
    struct insn *in = d->in;

    if (!dec_need(d, in->addrsize)) {
        return false;
    }
    in->disp_off = (uint8_t)d->pos;
    in->disp_len = in->addrsize;
    in->disp = (int64_t)dec_read(d, in->addrsize);
    op->kind = OPK_MEM;
    return true;
}

static void dec_gpr(const struct dec *d, struct insn_operand *op, unsigned code, unsigned reg)
{
    op->kind = OPK_GPR;
    op->reg = (uint8_t)reg;
    if (code == S_B && reg >= 4 && reg < 8 && !(d->in->prefixes & INSN_P_REX)) {
        op->reg = (uint8_t)(INSN_HIGH_BYTE | (reg - 4));
    }
}

static void dec_vec(struct insn_operand *op, unsigned reg)
{
    op->kind = OPK_VEC;
    op->reg = (uint8_t)reg;
    op->size = op->size > 16 ? op->size : 16;
}

static void dec_plain(struct insn_operand *op, enum insn_operand_kind kind, unsigned reg)
{
    op->kind = (uint8_t)kind;
    op->reg = (uint8_t)reg;
}

/* A register from is4: bits 4..7 of the immediate byte. */
static bool dec_is4(struct dec *d, struct insn_operand *op)
{
    struct insn_operand imm = {0};

    if (!dec_imm(d, &imm, 1, false)) {
        return false;
    }
    dec_vec(op, (d->in->imm >> 4) & (d->in->mode == INSN_MODE_64 ? 15 : 7));
    return true;
}

/* Fills one operand; false when bytes run out. */
static bool dec_operand(struct dec *d, struct insn_operand *op, unsigned src, unsigned code)
{
    struct insn *in = d->in;
    unsigned reg = ((in->modrm >> 3) & 7) | (in->rex & INSN_REX_R ? 8 : 0);
    unsigned rm = (in->modrm & 7) | (in->rex & INSN_REX_B ? 8 : 0);
    bool mem_ok = false;

    switch (src) {
    case X_E:
        mem_ok = true; /* fall through */
    case X_R:
        dec_gpr(d, op, code, rm);
        break;
    case X_M:
    case X_MV:
        d->bad |= !d->is_mem;
        mem_ok = true;
        break;
    case X_G:
        dec_gpr(d, op, code, reg);
        return true;
    case X_Z:
        dec_gpr(d, op, code, (in->opcode & 7) | (in->rex & INSN_REX_B ? 8 : 0));
        return true;
    case X_AX:
    case X_CX:
    case X_DX:
    case X_BX:
        dec_plain(op, OPK_GPR, CPU_RAX + src - X_AX);
        return true;
    case X_SI:
    case X_DI:
        dec_plain(op, OPK_GPR, CPU_RSI + src - X_SI);
        return true;
    case X_B:
        d->uses_vvvv = true;
        dec_plain(op, OPK_GPR, in->vvvv);
        return true;
    case X_IB:
        return dec_imm(d, op, 1, false);
    case X_IBS:
        return dec_imm(d, op, 1, true);
    case X_IW:
        return dec_imm(d, op, 2, false);
    case X_ID:
        return dec_imm(d, op, 4, false);
    case X_IZ:
        return dec_imm(d, op, in->opsize < 4 ? in->opsize : 4, true);
    case X_IV:
        return dec_imm(d, op, in->opsize, false);
    case X_I1:
        in->imm = 1;
        dec_plain(op, OPK_IMM, 0);
        return true;
    case X_IB2:
        in->imm2 = in->imm;
        if (!dec_imm(d, op, 1, false)) {
            return false;
        }
        rm = (unsigned)in->imm;
        in->imm = in->imm2;
        in->imm2 = rm;
        return true;
    case X_JB:
        return dec_rel(d, op, 1);
    case X_JZ:
        return dec_rel(d, op, in->opsize < 4 ? in->opsize : 4);
    case X_O:
        return dec_moffs(d, op);
    case X_AP:
        return dec_far(d, op);
    case X_S:
        reg &= 7;
        d->bad |= reg > CPU_GS || (reg == CPU_CS && (op->access & OPA_WRITE));
        dec_plain(op, OPK_SEG, reg);
        return true;
    case X_S0:
    case X_S1:
    case X_S2:
    case X_S3:
    case X_S4:
    case X_S5:
        dec_plain(op, OPK_SEG, src - X_S0);
        return true;
    case X_C:
        d->bad |= reg > 8;
        dec_plain(op, OPK_CR, reg);
        return true;
    case X_D:
        d->bad |= reg > 7;
        dec_plain(op, OPK_DR, reg);
        return true;
    case X_W:
        mem_ok = true; /* fall through */
    case X_U:
        dec_vec(op, in->encoding == INSN_ENC_EVEX && (in->rex & INSN_REX_X) ? rm | 16 : rm);
        break;
    case X_V:
        dec_vec(op, reg | d->vec_reg);
        return true;
    case X_H:
        d->uses_vvvv = true;
        dec_vec(op, in->vvvv | d->vec_v);
        return true;
    case X_L:
        return dec_is4(d, op);
    case X_XMM0:
        dec_vec(op, 0);
        return true;
    case X_Q:
        mem_ok = true; /* fall through */
    case X_N:
        dec_plain(op, OPK_MMX, in->modrm & 7);
        op->size = d->is_mem ? op->size : 8;
        break;
    case X_P:
        dec_plain(op, OPK_MMX, reg & 7);
        return true;
    case X_ST0:
        dec_plain(op, OPK_X87, 0);
        return true;
    case X_STI:
        dec_plain(op, OPK_X87, in->modrm & 7);
        return true;
    case X_KE:
        mem_ok = true; /* fall through */
    case X_KR:
        dec_plain(op, OPK_MASK, in->modrm & 7);
        break;
    case X_KG:
        d->bad |= reg > 7;
        dec_plain(op, OPK_MASK, reg & 7);
        return true;
    case X_KH:
        d->uses_vvvv = true;
        d->bad |= in->vvvv > 7;
        dec_plain(op, OPK_MASK, in->vvvv & 7);
        return true;
    case X_SRC:
        dec_plain(op, OPK_STR_SRC, CPU_RSI);
        return true;
    case X_DST:
        dec_plain(op, OPK_STR_DST, CPU_RDI);
        return true;
    default:
        d->bad = true;
        return true;
    }
    /* The operand of ModRM.rm: a register, unless ModRM says memory. */
    if (d->is_mem) {
        d->bad |= !mem_ok;
        dec_plain(op, OPK_MEM, 0);
        op->size = (uint16_t)dec_size(d, code, false);
    }
    return true;
}

bool dec_operands(struct dec *d, const struct insn_desc *desc)
{
    struct insn *in = d->in;
    struct insn_operand *op;
    unsigned code;
    unsigned i;

    for (i = 0; i < INSN_MAX_OPERANDS && desc->op[i]; i++) {
        code = desc->op[i];
        op = &in->op[i];
        op->access = (uint8_t)(code >> 12);
        op->size = (uint16_t)dec_size(d, code >> 6 & 63, true);
        if (!dec_operand(d, op, code & 63, code >> 6 & 63)) {
            return false;
        }
    }
    in->nr_operands = (uint8_t)i;
    return true;
}
