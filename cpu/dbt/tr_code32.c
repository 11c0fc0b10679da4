/* SPDX-License-Identifier: MIT */
/*
 * What differs in 32-bit code (MODE_32 | MODE_FLAT): programs of 32 bits on a 64-bit kernel, and
 * 32-bit kernels. Registers and most encodings are the same. What is not:
 *
 * Addresses wrap at 4 GiB, and what is in the upper halves of registers is nobody's: addresses are
 * computed by instructions of 32 bits. User data go by slots as in 64-bit code (tr_near.c), with the
 * host's address for groups; what is not in a slot, and all of a kernel's, looks into the TLB, but for the
 * checked part of the stack.
 *
 * RSP as R9 has it is always below 4 GiB, too. Where it moves without further ado the checked part
 * of the stack is close by and neither in the first page nor in the last one (TR_STACK32_NEAR);
 * everywhere else it moves by an instruction of 32 bits.
 *
 * Segments are flat but for FS and GS, which are looked at where they are used: they have a base, so
 * what wraps in them is beyond their limit. Who uses CS for data is the interpreter's.
 */
#include "translate.h"

#include <string.h>

/* ---- instructions ---- */

/* INC and DEC by one byte, which are prefixes in 64-bit code, and MOV of the accumulator and an
 * absolute address, which has 64 bits there: the same in other words, of the same length. */
static void code32_other_words(struct insn *in)
{
    const uint8_t inc = in->opcode < 0x48 ? 0xc0 : 0xc8;
    uint8_t bytes[INSN_MAX_LEN + 1] = {0};
    const unsigned at = in->opcode_off, len = in->len;
    struct insn out;

    if (in->encoding != INSN_ENC_LEGACY || in->map != INSN_MAP_1 || at + 6u > INSN_MAX_LEN) {
        return;
    }
    memcpy(bytes, in->bytes, at);
    if ((in->opcode & 0xf0) == 0x40 && (in->id == INSN_INC || in->id == INSN_DEC)) {
        bytes[at] = 0xff;
        bytes[at + 1] = inc | (in->opcode & 7);
    } else if ((in->opcode & 0xfc) == 0xa0 && in->id == INSN_MOV && in->addrsize == 4) {
        bytes[at] = 0x88 | ((in->opcode ^ 2) & 3);
        bytes[at + 1] = 0x05;
        memcpy(bytes + at + 2, in->bytes + in->disp_off, 4);
    } else {
        return;
    }
    if (insn_decode(&out, INSN_MODE_32, bytes, INSN_MAX_LEN) == INSN_OK && out.id == in->id) {
        *in = out;
        in->len = (uint8_t)len;
    }
}

bool tr_fetch(const struct tr *t, struct insn *in, const uint8_t *bytes, unsigned avail)
{
    if (!tr_is32(t)) {
        return interp_decode(&t->d->interp, in, bytes, avail) == INSN_OK;
    }
    if (insn_decode(in, INSN_MODE_32, bytes, avail) != INSN_OK) {
        return false;
    }
    code32_other_words(in);
    return true;
}

/* ---- words ---- */

void tr_load_word(struct tr *t, unsigned reg, const struct emit_mem *m)
{
    if (tr_is32(t)) {
        emit_op32_mem(&t->c, EMIT_LOAD, reg, m);
    } else {
        emit_op_mem(&t->c, EMIT_LOAD, reg, m);
    }
}

void tr_store_word(struct tr *t, unsigned reg, const struct emit_mem *m)
{
    if (tr_is32(t)) {
        emit_op32_mem(&t->c, EMIT_STORE, reg, m);
    } else {
        emit_op_mem(&t->c, EMIT_STORE, reg, m);
    }
}

void tr_get_word(struct tr *t, unsigned to, unsigned gpr)
{
    if (tr_is32(t) && !tr_displaced(gpr)) {
        emit_op32_reg(&t->c, EMIT_LOAD, to, gpr);
    } else {
        tr_get(t, to, gpr);
    }
}

void tr_lea_word(struct tr *t, unsigned to, unsigned base, int32_t disp)
{
    if (tr_is32(t)) {
        const struct emit_mem m = {
            .base = (uint8_t)base, .index = EMIT_NO_REG, .scale = 1, .disp = disp};

        emit_op32_mem(&t->c, EMIT_LEA, to, &m);
    } else {
        emit_lea(&t->c, to, base, disp);
    }
}

/* ---- the stack ---- */

bool tr_stack_exact(const struct tr *t)
{
    return !tr_is32(t) || (!t->plain && t->low != t->high);
}

void tr_stack_wrap(struct tr *t, unsigned base, int32_t delta)
{
    struct emit_mem to = {.base = (uint8_t)base, .index = EMIT_NO_REG, .scale = 1, .disp = delta};
    const struct emit_mem sum = {.base = HOST_STACK, .index = HOST_R11, .scale = 1};

    if (base == CPU_RSP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(interp.stack.minus));
        to.base = HOST_STACK;
        to.index = HOST_R11;
    }
    emit_op32_mem(&t->c, EMIT_LEA, HOST_R11, &to);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_STACK, TR_GS(interp.stack.addend));
    emit_op_mem(&t->c, EMIT_LEA, HOST_STACK, &sum);
}

/* ---- memory ---- */

bool tr_within32(const struct tr_operand *op)
{
    return !tr_based(op) || op->base != INSN_NO_REG || op->index != INSN_NO_REG ||
           (uint32_t)op->disp <= (uint32_t)-op->size;
}

/* The offset of the first byte in its segment. No flags change. */
static void code32_offset(struct tr *t, unsigned to, const struct tr_operand *op, int64_t disp)
{
    struct emit_mem m = {.base = op->base == INSN_NO_REG ? EMIT_NO_REG : op->base,
                         .index = op->index == INSN_NO_REG ? EMIT_NO_REG : op->index,
                         .scale = op->scale == 0 ? 1 : op->scale, .disp = (int32_t)disp};

    if (op->base == CPU_RSP) {
        tr_get(t, to, CPU_RSP);
        m.base = (uint8_t)to;
    }
    if (m.base == EMIT_NO_REG && m.index == EMIT_NO_REG) {
        emit_mov_imm32(&t->c, to, (uint32_t)m.disp);
    } else {
        emit_op32_mem(&t->c, EMIT_LEA, to, &m);
    }
}

/* From there to the linear address. */
static void code32_base(struct tr *t, unsigned to, const struct tr_operand *op)
{
    if (tr_based(op)) {
        emit_op32_gs(&t->c, EMIT_ADD_LOAD, to, TR_GS(seg_base[op->seg == CPU_GS]));
    }
}

void tr_address32(struct tr *t, unsigned to, const struct tr_operand *op, int64_t disp, unsigned size)
{
    bool constant = op->base == INSN_NO_REG && op->index == INSN_NO_REG;

    if (tr_based(op)) {
        emit_imm_gs(&t->c, EMIT_CMP, 1, TR_GS(seg_odd[op->seg == CPU_GS]), 0);
        tr_slow_if(t, JNE);
    }
    code32_offset(t, to, op, disp);
    if (tr_based(op) && !constant && size > 1) { /* not beyond the limit, 4 GiB */
        emit_bytes(&t->c, (const uint8_t[]){0x41, 0x81, 0xf8 | (to & 7)}, 3); /* cmp $-size,%r32 */
        emit_u32(&t->c, -size);
        tr_slow_if(t, JA);
    }
    code32_base(t, to, op);
}

void tr_check32(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    uint32_t retry = emit_offset(&t->c);

    tr_address32(t, HOST_R10, op, op->disp, op->size);
    emit_lea(&t->c, HOST_R11, HOST_R10, (int32_t)op->size - 1);
    if (op->locked && op->size > 1) {
        emit_bytes(&t->c, (const uint8_t[]){0x41, 0xf6, 0xc2}, 3); /* test $.., %r10b */
        emit_byte(&t->c, op->size - 1);
        tr_slow_if(t, JNE);
    }
    tr_lookup(t, retry, op->write, HOST_R11);
    code32_offset(t, HOST_R10, op, op->disp);
    code32_base(t, HOST_R10, op);
    *m = (struct emit_mem){.base = HOST_R11, .index = HOST_R10, .scale = 1};
    if (op->base == CPU_RSP) { /* who pushes wants r10 */
        emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, HOST_R10);
        m->index = EMIT_NO_REG;
    }
}
