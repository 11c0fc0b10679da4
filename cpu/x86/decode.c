/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder: prefixes, opcode map, table lookup and the rules that need the
 * whole instruction (SDM vol. 2 chapter 2). decode_operand.c does addresses and operands; what an
 * opcode is stands in the tables decode_map*.c, decode_x87.c and decode_vex.c.
 *
 * Choices where parts differ: near branches in 64-bit mode ignore 66, as Intel does (AMD
 * truncates RIP to 16 bits; no compiler emits it). LOCK MOV CR0 as an alias of CR8 (AMD) is
 * #UD. EVEX and XOP are decoded only for length and addressing, since no guest is shown AVX-512
 * or XOP.
 */
#include "cpu/x86/decode.h"

#include <string.h>

#include "core/cpu.h"
#include "cpu/x86/decode_internal.h"

enum { OP_SEG_ES = 0x26, OP_SEG_CS = 0x2e, OP_SEG_SS = 0x36, OP_SEG_DS = 0x3e };

/* Prefix bytes, one bit each; 40..4F count in 64-bit mode. */
static const uint32_t prefix_bits[8] = {
    0, 1u << 6 | 1u << 14 | 1u << 22 | 1u << 30, 0, 0xf0u, 0, 0, 0, 1u << 16 | 3u << 18,
};
const uint32_t dec_modrm_bits[2][8] = {
    {0x0f0f0f0f, 0x0f0f0f0f, 0, 0x00000a0c, 0x0000ffff, 0, 0xff0f00f3, 0xc0c00000},
    {0xffffa00f, 0x0000ff0f, 0xffffffff, 0xff7fffff, 0xffff0000, 0xfffff838, 0xffff00ff,
     0xffffffff},
};

/* One legacy prefix; false when the byte is not one. A REX only counts directly before the
 * opcode. */
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
    d->has_vvvv =
        in->vvvv != 0; /* all four bits count in 32-bit mode too (tried on hardware) */
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
        d->imm8 = b1 & 0x1f; /* XOP: the map decides the immediate */
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
    enum {
        AVX512 = INSN_F_AVX512 | INSN_F_MASKED_MEM | INSN_F_NO_REAL,
        XOP = INSN_F_AVX | INSN_F_NO_REAL
    };
    static const struct insn_desc evex[2] = {
        {0,
         AVX512,
         INSN_NATIVE,
         INSN_FEAT_AVX512,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0)}},
        {0,
         AVX512,
         INSN_NATIVE,
         INSN_FEAT_AVX512,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0),
          INSN_OPC(X_IB, S_B)}},
    };
    static const struct insn_desc xop[3] = {
        {0,
         XOP,
         INSN_NATIVE,
         INSN_FEAT_XOP,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0),
          INSN_OPC(X_IB, S_B)}},
        {0,
         XOP,
         INSN_NATIVE,
         INSN_FEAT_XOP,
         {INSN_OPC(X_V, S_X) | OPA_WRITE << 12, INSN_OPC(X_H, S_X), INSN_OPC(X_W, S_0)}},
        {0,
         INSN_F_NO_REAL,
         INSN_NATIVE,
         INSN_FEAT_TBM,
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

/* A gather's destination, index and mask must be three registers. */
static bool dec_gather_clash(const struct insn *in)
{
    return in->op[0].reg == in->index || in->op[2].reg == in->index ||
           in->op[0].reg == in->op[2].reg;
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
        in->flags &= ~(uint32_t)(INSN_F_LOCKABLE | INSN_F_ALIGNED);
    }
    if ((in->prefixes & INSN_P_LOCK) && !(in->flags & INSN_F_LOCKABLE)) {
        d->bad = true;
    }
    if (in->encoding == INSN_ENC_LEGACY) {
        if ((in->flags & INSN_F_SSE) && mem && mem->size == 16 &&
            !(d->flags & INSN_A_UNALIGNED)) {
            in->flags |= INSN_F_ALIGNED;
        }
    } else {
        if (in->encoding == INSN_ENC_VEX && !d->uses_vvvv && d->has_vvvv) {
            d->bad = true;
        }
        if ((d->flags & INSN_A_INT256) && in->vlen == 32) {
            in->feature = INSN_FEAT_AVX2;
        }
        if ((in->flags & INSN_F_VSIB) && dec_gather_clash(in)) {
            d->bad = true;
        }
    }
    if (d->flags & INSN_A_BYTE || (in->nr_operands && in->op[0].size == 1 &&
                                   in->op[0].kind != OPK_IMM && in->id != INSN_NATIVE)) {
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

    if (desc && dec_has_modrm(in->map, in->opcode) && !dec_modrm(d)) {
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
    in->addrsize =
        in->mode == INSN_MODE_64 ? (a67 ? 4 : 8) : ((in->mode == INSN_MODE_32) != a67 ? 4 : 2);
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
