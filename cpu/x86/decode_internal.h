/* SPDX-License-Identifier: MIT */
/*
 * Between decode.c (prefixes, opcode, table lookup) and decode_operand.c (sizes, addresses,
 * operands).
 */
#ifndef PVEMU_CPU_X86_DECODE_INTERNAL_H
#define PVEMU_CPU_X86_DECODE_INTERNAL_H

#include "cpu/x86/decode_tables.h"

/* Work in progress on one instruction. */
struct dec {
    struct insn *in;
    const uint8_t *bytes;
    unsigned pos, avail;
    enum insn_decode_result res; /* why reading bytes failed */
    uint32_t key;
    uint32_t flags;                 /* of the descriptor, with attributes */
    unsigned vec_x, vec_reg, vec_v; /* EVEX: fifth bits of index, reg and vvvv */
    bool p66, is_mem, bad;
    bool uses_vvvv, has_vvvv; /* an operand takes it; it is not 1111b */
    uint64_t imm8;            /* last byte of an is4 operand */
};

/* True when n more bytes are there. */
static inline bool dec_need(struct dec *d, unsigned n)
{
    if (d->pos + n <= d->avail) {
        return true;
    }
    d->res = d->pos + n > INSN_MAX_LEN ? INSN_TOO_LONG : INSN_MORE;
    return false;
}

/* Opcodes with a ModRM byte, in the one-byte map and in the 0F map; all others always have one.
 */
extern const uint32_t dec_modrm_bits[2][8];

static inline bool dec_bit(const uint32_t map[8], uint8_t n)
{
    return (map[n >> 5] >> (n & 31)) & 1;
}

static inline bool dec_has_modrm(enum insn_map map, uint8_t opcode)
{
    return map > INSN_MAP_0F || dec_bit(dec_modrm_bits[map], opcode);
}

/* Fills in->opsize from the mode, the prefixes and the descriptor's attributes. */
void dec_opsize(struct dec *d);

/* Reads the rest of a memory operand's address. These two return false when bytes run out. */
bool dec_address(struct dec *d);

/* Fills in->op from the descriptor's operand codes and reads immediates. */
bool dec_operands(struct dec *d, const struct insn_desc *desc);

#endif
