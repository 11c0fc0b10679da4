/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder: prefixes, opcode map, table lookup, address, operands (SDM vol. 2
 * chapter 2). What an opcode is stands in the decode_map*.c, decode_x87.c and decode_vex.c tables.
 *
 * Choices where parts differ: near branches in 64-bit mode ignore 66, as Intel does (AMD truncates
 * RIP to 16 bits; no compiler emits it). LOCK MOV CR0 as an alias of CR8 (AMD) is #UD. EVEX and XOP
 * are decoded only for length and addressing, since no guest is shown AVX-512 or XOP.
 */
#include "cpu/x86/decode.h"

#include <string.h>

#include "core/cpu.h"
#include "cpu/x86/decode_tables.h"

/* Work in progress on one instruction. */
struct dec {
    struct insn *in;
    const uint8_t *bytes;
    unsigned pos, avail;
    enum insn_decode_result res; /* why reading bytes failed */
    uint32_t key;
    uint32_t flags;              /* of the descriptor, with attributes */
    unsigned vec_x, vec_reg, vec_v; /* EVEX: fifth bits of index, reg and vvvv */
    bool p66, is_mem, uses_vvvv, bad;
    uint64_t imm8;               /* last byte of an is4 operand */
};

enum { OP_SEG_ES = 0x26, OP_SEG_CS = 0x2e, OP_SEG_SS = 0x36, OP_SEG_DS = 0x3e };

/* Prefix bytes, one bit each; 40..4F count in 64-bit mode. */
static const uint32_t prefix_bits[8] = {
    0, 1u << 6 | 1u << 14 | 1u << 22 | 1u << 30, 0, 0xf0u, 0, 0, 0, 1u << 16 | 3u << 18,
};
/* Opcodes with a ModRM byte, in the one-byte map and in the 0F map; all others always have one. */
static const uint32_t modrm_bits_1[8] = {
    0x0f0f0f0f, 0x0f0f0f0f, 0, 0x00000a0c, 0x0000ffff, 0, 0xff0f00f3, 0xc0c00000,
};
static const uint32_t modrm_bits_0f[8] = {
    0xff00a00f, 0x0000ff0f, 0xffffffff, 0xff7fffff, 0xffff0000, 0xfbfff838, 0xffff00ff, 0xffffffff,
};

static inline bool dec_bit(const uint32_t map[8], uint8_t n)
{
    return (map[n >> 5] >> (n & 31)) & 1;
}

/* True when n more bytes are there. */
static inline bool dec_need(struct dec *d, unsigned n)
{
    if (d->pos + n <= d->avail) {
        return true;
    }
    d->res = d->pos + n > INSN_MAX_LEN ? INSN_TOO_LONG : INSN_MORE;
    return false;
}

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

/* One legacy prefix; false when the byte is not one. A REX only counts directly before the opcode. */
static void dec_prefix(struct dec *d, uint8_t b)
{
    struct insn *in = d->in;

    switch (b) {
    case OP_SEG_ES:
    case OP_SEG_CS:
    case OP_SEG_SS:
    case OP_SEG_DS:
        if (in->mode != INSN_MODE_64) {
            in->seg = (b >> 3) & 3;
            in->prefixes |= INSN_P_SEG;
        }
        break;
    case 0x64:
    case 0x65:
        in->seg = b == 0x64 ? CPU_FS : CPU_GS;
        in->prefixes |= INSN_P_SEG;
        break;
    case 0x66:
        in->prefixes |= INSN_P_66;
        break;
    case 0x67:
        in->prefixes |= INSN_P_67;
        break;
    case 0xf0:
        in->prefixes |= INSN_P_LOCK;
        break;
    case 0xf2:
        in->prefixes = (in->prefixes & ~INSN_P_REP) | INSN_P_REPNE;
        break;
    default:
        in->prefixes = (in->prefixes & ~INSN_P_REPNE) | INSN_P_REP;
        break;
    }
}

static bool dec_prefixes(struct dec *d)
{
    struct insn *in = d->in;
    uint8_t b;

    in->seg = CPU_DS;
    for (;;) {
        if (!dec_need(d, 1)) {
            return false;
        }
        b = d->bytes[d->pos];
        if (dec_bit(prefix_bits, b)) {
            in->rex = 0;
            in->prefixes &= ~INSN_P_REX;
            dec_prefix(d, b);
        } else if (in->mode == INSN_MODE_64 && (b & 0xf0) == 0x40) {
            in->rex = b & 15;
            in->prefixes |= INSN_P_REX;
        } else {
            break;
        }
        d->pos++;
    }
    return true;
}

/* 62, C4, C5 and 8F start VEX, EVEX or XOP: always in 64-bit mode, else by what follows. */
static bool dec_is_vector(const struct dec *d, uint8_t opcode, uint8_t next)
{
    if (opcode == 0x8f) {
        return (next & 0x1f) >= 8;
    }
    return d->in->mode == INSN_MODE_64 || (next & 0xc0) == 0xc0;
}

/* W vvvv L pp of VEX and XOP, and W vvvv 1 pp of EVEX. */
static void dec_vector_byte(struct dec *d, uint8_t b, uint8_t w)
{
    static const uint32_t pp_key[4] = {0, INSN_KEY_66, INSN_KEY_F3, INSN_KEY_F2};
    struct insn *in = d->in;

    in->rex |= w ? INSN_REX_W : 0;
    in->vvvv = (~b >> 3) & 15;
    in->vlen = b & 4 ? 32 : 16;
    d->key |= pp_key[b & 3] | (b & 4 ? INSN_KEY_L : 0);
}

static bool dec_vex(struct dec *d, uint8_t opcode)
{
    struct insn *in = d->in;
    unsigned n = opcode == 0xc5 ? 2 : 3; /* bytes after the escape, with the opcode */
    uint8_t b1, b2;

    if (!dec_need(d, n)) {
        return false;
    }
    b1 = d->bytes[d->pos];
    in->encoding = opcode == 0x8f ? INSN_ENC_XOP : INSN_ENC_VEX;
    in->rex = b1 & 0x80 ? 0 : INSN_REX_R;
    if (opcode == 0xc5) {
        in->map = INSN_MAP_0F;
        dec_vector_byte(d, b1, 0);
    } else {
        b2 = d->bytes[d->pos + 1];
        in->rex |= (~b1 >> 5) & 3; /* X and B */
        in->map = opcode == 0x8f ? INSN_MAP_XOP : b1 & 0x1f;
        d->bad |= opcode == 0x8f ? (b1 & 0x1f) > 10 : in->map == 0 || in->map > INSN_MAP_0F3A;
        d->imm8 = b1 & 0x1f;       /* XOP: the map decides the immediate */
        dec_vector_byte(d, b2, b2 & 0x80);
    }
    if (in->mode != INSN_MODE_64) {
        in->rex &= INSN_REX_W;
        in->vvvv &= 7;
    }
    d->pos += n - 1;
    return true;
}

static bool dec_evex(struct dec *d)
{
    struct insn *in = d->in;
    uint8_t b1, b2, b3;

    if (!dec_need(d, 4)) {
        return false;
    }
    b1 = d->bytes[d->pos];
    b2 = d->bytes[d->pos + 1];
    b3 = d->bytes[d->pos + 2];
    in->encoding = INSN_ENC_EVEX;
    in->map = b1 & 7;
    d->bad |= in->map == 0 || in->map == 4 || in->map == 7 || (b1 & 8) || !(b2 & 4);
    in->rex = (~b1 >> 5) & 7;
    dec_vector_byte(d, b2 & ~4, b2 & 0x80);
    in->vlen = (b3 & 0x60) == 0 ? 16 : (b3 & 0x60) == 0x20 ? 32 : 64;
    d->vec_reg = b1 & 0x10 ? 0 : 16;
    d->vec_v = b3 & 8 ? 0 : 16;
    d->vec_x = d->vec_v;
    if (in->mode != INSN_MODE_64) {
        in->rex &= INSN_REX_W;
        in->vvvv &= 7;
        d->vec_reg = d->vec_v = d->vec_x = 0;
    }
    d->pos += 3;
    return true;
}

/* The opcode and its map; pos is left behind the opcode. */
static bool dec_opcode(struct dec *d)
{
    struct insn *in = d->in;
    uint8_t b = d->bytes[d->pos++];
    const unsigned no_vex = INSN_P_LOCK | INSN_P_66 | INSN_P_REP | INSN_P_REPNE | INSN_P_REX;

    in->map = INSN_MAP_1;
    if (b == 0x0f) {
        if (!dec_need(d, 1)) {
            return false;
        }
        in->map = INSN_MAP_0F;
        b = d->bytes[d->pos++];
        if (b == 0x38 || b == 0x3a) {
            if (!dec_need(d, 1)) {
                return false;
            }
            in->map = b == 0x38 ? INSN_MAP_0F38 : INSN_MAP_0F3A;
            b = d->bytes[d->pos++];
        }
    } else if (b == 0xc4 || b == 0xc5 || b == 0x62 || b == 0x8f) {
        if (!dec_need(d, 1)) {
            return false;
        }
        if (dec_is_vector(d, b, d->bytes[d->pos])) {
            d->bad = (in->prefixes & no_vex) != 0;
            if (!(b == 0x62 ? dec_evex(d) : dec_vex(d, b))) {
                return false;
            }
            b = d->bytes[d->pos++];
        }
    }
    in->opcode = b;
    in->opcode_off = (uint8_t)(d->pos - 1);
    return true;
}

/* EVEX and XOP have no tables: these stand for every opcode. */
static const struct insn_desc *dec_generic(const struct dec *d)
{
    enum { AVX512 = INSN_F_AVX512 | INSN_F_MASKED_MEM | INSN_F_NO_REAL, XOP = INSN_F_AVX | INSN_F_NO_REAL };
    static const struct insn_desc evex[2] = {
        {0, AVX512, INSN_NATIVE, INSN_FEAT_AVX512,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0)}},
        {0, AVX512, INSN_NATIVE, INSN_FEAT_AVX512,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0), INSN_OPC(X_IB, S_B)}},
    };
    static const struct insn_desc xop[3] = {
        {0, XOP, INSN_NATIVE, INSN_FEAT_XOP,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0), INSN_OPC(X_IB, S_B)}},
        {0, XOP, INSN_NATIVE, INSN_FEAT_XOP,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0)}},
        {0, INSN_F_NO_REAL, INSN_NATIVE, INSN_FEAT_TBM,
         {INSN_OPC(X_G, S_Y) | OPA_WRITE << 12, INSN_OPC(X_E, S_Y), INSN_OPC(X_ID, S_D)}},
    };
    uint8_t op = d->in->opcode;
    bool imm;

    if (d->in->encoding == INSN_ENC_XOP) {
        return d->imm8 <= 10 ? &xop[d->imm8 - 8] : NULL;
    }
    imm = d->in->map == INSN_MAP_0F3A ||
          (d->in->map == INSN_MAP_0F &&
           ((op >= 0x70 && op <= 0x73) || op == 0xc2 || (op >= 0xc4 && op <= 0xc6)));
    return &evex[imm];
}

/* The list of descriptors for the opcode, or NULL. */
static const struct insn_desc *dec_list(const struct dec *d)
{
    const struct insn *in = d->in;
    const struct insn_desc *list;
    uint8_t op = in->opcode;

    if (in->encoding >= INSN_ENC_EVEX) {
        return dec_generic(d);
    }
    if (in->encoding == INSN_ENC_VEX) {
        return in->map == INSN_MAP_0F     ? insn_vex_0f[op]
               : in->map == INSN_MAP_0F38 ? insn_vex_0f38[op]
                                          : insn_vex_0f3a[op];
    }
    switch (in->map) {
    case INSN_MAP_1:
        return (op & 0xf8) == 0xd8 ? insn_x87[op & 7] : insn_map_1[op];
    case INSN_MAP_0F:
        list = insn_map_0f[op];
        return list ? list : insn_map_0f_sse[op];
    case INSN_MAP_0F38:
        return insn_map_0f38[op];
    default:
        return insn_map_0f3a[op];
    }
}

static inline bool dec_has_modrm(const struct insn *in)
{
    return in->map == INSN_MAP_1    ? dec_bit(modrm_bits_1, in->opcode)
           : in->map == INSN_MAP_0F ? dec_bit(modrm_bits_0f, in->opcode)
                                    : true;
}

/* Operand size, and the widths that follow from it. */
static void dec_opsize(struct dec *d)
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

static bool dec_address(struct dec *d)
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

static bool dec_operands(struct dec *d, const struct insn_desc *desc)
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

/* A gather's destination, index and mask must be three registers. */
static bool dec_gather_clash(const struct insn *in)
{
    return in->op[0].reg == in->index || in->op[2].reg == in->index || in->op[0].reg == in->op[2].reg;
}

/* The rules that need the whole instruction; and the public flags. */
static void dec_finish(struct dec *d, const struct insn_desc *desc)
{
    struct insn *in = d->in;
    const struct insn_operand *mem = insn_mem_operand(in);

    in->flags |= d->flags & ~(uint32_t)INSN_A_MASK;
    in->feature = desc->feature;
    if (in->id >= INSN_SYSTEM_FIRST) {
        in->flags |= INSN_F_SYSTEM;
    }
    if (!d->is_mem) {
        in->flags &= ~(uint32_t)INSN_F_LOCKABLE;
    }
    if ((in->prefixes & INSN_P_LOCK) && !(in->flags & INSN_F_LOCKABLE)) {
        d->bad = true;
    }
    if (in->encoding == INSN_ENC_LEGACY) {
        if ((in->flags & INSN_F_SSE) && mem && mem->size == 16 && !(d->flags & INSN_A_UNALIGNED)) {
            in->flags |= INSN_F_ALIGNED;
        }
    } else {
        if (in->encoding == INSN_ENC_VEX && !d->uses_vvvv && in->vvvv != 0) {
            d->bad = true;
        }
        if ((d->flags & INSN_A_INT256) && in->vlen == 32) {
            in->feature = INSN_FEAT_AVX2;
        }
        if ((in->flags & INSN_F_VSIB) && dec_gather_clash(in)) {
            d->bad = true;
        }
    }
    if (d->flags & INSN_A_BYTE ||
        (in->nr_operands && in->op[0].size == 1 && in->op[0].kind != OPK_IMM && in->id != INSN_NATIVE)) {
        in->opsize = 1;
    }
    in->cond = in->opcode & 15;
}

/* Not an instruction: the engine raises #UD. */
static void dec_invalid(struct dec *d)
{
    struct insn *in = d->in;

    in->id = INSN_INVALID;
    in->flags &= INSN_F_MODRM;
    in->nr_operands = 0;
    in->feature = INSN_FEAT_BASE;
    memset(in->op, 0, sizeof(in->op));
}

static bool dec_modrm(struct dec *d)
{
    struct insn *in = d->in;

    if (!dec_need(d, 1)) {
        return false;
    }
    in->modrm_off = (uint8_t)d->pos;
    in->modrm = d->bytes[d->pos++];
    in->flags = INSN_F_MODRM;
    d->key |= in->modrm | (in->modrm >= 0xc0 ? INSN_KEY_REG : 0);
    return true;
}

/* Everything behind the opcode. */
static bool dec_body(struct dec *d)
{
    struct insn *in = d->in;
    const struct insn_desc *desc = dec_list(d);

    if (desc && dec_has_modrm(in) && !dec_modrm(d)) {
        return false;
    }
    if (in->rex & INSN_REX_W) {
        d->key |= INSN_KEY_W | (in->mode == INSN_MODE_64 ? INSN_KEY_W64 : 0);
    }
    d->key |= in->rex & INSN_REX_B ? INSN_KEY_B : 0;
    while (desc && ((d->key ^ (uint32_t)desc->cond) & (uint32_t)(desc->cond >> 32))) {
        desc++;
    }
    if (!desc || desc->id == INSN_INVALID) {
        d->bad = true;
        return true;
    }
    in->id = desc->id;
    d->flags = desc->flags;
    dec_opsize(d);
    d->is_mem = (in->flags & INSN_F_MODRM) && in->modrm < 0xc0 && !(d->flags & INSN_A_REGFORM);
    if (d->is_mem && !dec_address(d)) {
        return false;
    }
    if (!dec_operands(d, desc)) {
        return false;
    }
    if (in->map == INSN_MAP_0F && in->opcode == 0x0f && in->encoding == INSN_ENC_LEGACY) {
        in->map = INSN_MAP_3DNOW;
        in->opcode = (uint8_t)in->imm;
    }
    dec_finish(d, desc);
    return true;
}

/* Legacy prefixes as the mandatory-prefix part of the key, and the address size. */
static void dec_legacy_key(struct dec *d)
{
    struct insn *in = d->in;
    bool a67 = (in->prefixes & INSN_P_67) != 0;

    d->p66 = (in->prefixes & INSN_P_66) != 0;
    d->key = (d->p66 ? INSN_KEY_66 : 0) | (in->prefixes & INSN_P_REP ? INSN_KEY_F3 : 0) |
             (in->prefixes & INSN_P_REPNE ? INSN_KEY_F2 : 0);
    in->addrsize = in->mode == INSN_MODE_64 ? (a67 ? 4 : 8)
                                            : ((in->mode == INSN_MODE_32) != a67 ? 4 : 2);
}

enum insn_decode_result insn_decode(struct insn *in, enum insn_mode mode, const uint8_t *bytes,
                                    size_t avail)
{
    struct dec d = {
        .in = in,
        .bytes = bytes,
        .avail = avail < INSN_MAX_LEN ? (unsigned)avail : INSN_MAX_LEN,
    };

    memset(in, 0, sizeof(*in));
    in->mode = (uint8_t)mode;
    in->base = in->index = INSN_NO_REG;
    in->scale = 1;
    if (!dec_prefixes(&d)) {
        return d.res;
    }
    dec_legacy_key(&d);
    if (!dec_opcode(&d)) {
        return d.res;
    }
    d.key |= mode == INSN_MODE_64 ? INSN_KEY_64 : 0;
    if (!dec_body(&d)) {
        return d.res;
    }
    if (d.bad) {
        dec_invalid(&d);
    }
    in->len = (uint8_t)d.pos;
    memcpy(in->bytes, bytes, d.pos);
    return INSN_OK;
}

const struct insn_operand *insn_mem_operand(const struct insn *in)
{
    unsigned i;

    for (i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_MEM) {
            return &in->op[i];
        }
    }
    return NULL;
}
