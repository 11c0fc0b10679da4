/* SPDX-License-Identifier: MIT */
/*
 * Forms: what is left of an instruction without the values of its displacement and immediate.
 * Who decodes much keeps what it has decoded by the form (decode.h), and then has those values
 * to read only. That is for the integer instructions of 64-bit code with at most 66 and REX
 * before the opcode, where nothing else depends on those values.
 */
#include "cpu/x86/decode.h"

#include <string.h>

#include "cpu/x86/decode_internal.h"

enum { FORM_MODRM_REG = 0xc0, FORM_SIB = 4 };

/* Other prefixes, escapes to other maps and REX, one bit each. */
static const uint32_t form_other[8] = {
    0,       1u << 6 | 1u << 14 | 1u << 22 | 1u << 30, 0xffff, 0xf4,
    1u << 15, 0,                                       0x30,   1u << 16 | 3u << 18,
};

uint64_t insn_form_head(const uint8_t *bytes)
{
    unsigned n = 0;
    bool modrm;
    uint64_t head;

    n += bytes[n] == 0x66;
    n += (bytes[n] & 0xf0) == 0x40;
    if (dec_bit(form_other, bytes[n])) {
        return 0;
    }
    if (bytes[n] == 0x0f) {
        n++;
        if (bytes[n] == 0x0f || bytes[n] == 0x38 || bytes[n] == 0x3a) {
            return 0;
        }
        modrm = dec_has_modrm(INSN_MAP_0F, bytes[n]);
    } else {
        modrm = dec_has_modrm(INSN_MAP_1, bytes[n]);
    }
    n++;
    if (modrm) {
        n += bytes[n] < FORM_MODRM_REG && (bytes[n] & 7) == FORM_SIB;
        n++;
    }
    memcpy(&head, bytes, sizeof(head)); /* the host is little-endian */
    return (head & ((1ull << (8 * n)) - 1)) | (uint64_t)n << 56;
}

static inline uint64_t form_load(const uint8_t *p, unsigned len)
{
    uint64_t val = 0;

    switch (len) {
    case 1:
        return *p;
    case 2:
        memcpy(&val, p, 2);
        return val;
    case 4:
        memcpy(&val, p, 4);
        return val;
    default:
        memcpy(&val, p, 8);
        return val;
    }
}

static int64_t form_sign(uint64_t val, unsigned len)
{
    unsigned shift = 64 - 8 * len;

    return (int64_t)(val << shift) >> shift;
}

void insn_form_fill(const struct insn_form *form, struct insn *in, const uint8_t *bytes)
{
    *in = form->insn;
    memcpy(in->bytes, bytes, in->len);
    if (in->disp_len != 0) {
        in->disp = form_sign(form_load(bytes + in->disp_off, in->disp_len), in->disp_len);
    }
    if (in->imm_len != 0) {
        in->imm = form_load(bytes + in->imm_off, in->imm_len);
        if (form->sign) {
            in->imm = (uint64_t)form_sign(in->imm, in->imm_len) & form->mask;
        }
    }
}

/* The operand that the immediate is. */
static const struct insn_operand *form_immediate(const struct insn *in)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_IMM || in->op[i].kind == OPK_REL) {
            return &in->op[i];
        }
    }
    return NULL;
}

bool insn_form_make(struct insn_form *form, const struct insn *in)
{
    const struct insn_operand *imm = form_immediate(in);
    uint8_t ones[INSN_MAX_LEN];
    struct insn probe, filled;
    unsigned head = in->len - in->disp_len - in->imm_len;

    if (in->id <= INSN_NATIVE || in->id >= INSN_SYSTEM_FIRST || in->id == INSN_UD ||
        in->id == INSN_ENTER || in->encoding != INSN_ENC_LEGACY || in->disp_len > 4 ||
        (in->imm_len != 0 && (imm == NULL || (in->imm_len & (in->imm_len - 1)) != 0))) {
        return false;
    }
    form->insn = *in;
    form->mask = UINT64_MAX;
    form->sign = false;
    memset(ones, 0xff, sizeof(ones));
    memcpy(ones, in->bytes, head);
    if (insn_decode(&probe, INSN_MODE_64, ones, in->len) != INSN_OK) {
        return false;
    }
    if (in->imm_len != 0 && in->imm_len < 8) { /* extended how? */
        form->sign = probe.imm >> (8 * in->imm_len) != 0;
        form->mask = probe.imm;
    }
    insn_form_fill(form, &filled, ones);
    return memcmp(&filled, &probe, sizeof(probe)) == 0;
}
