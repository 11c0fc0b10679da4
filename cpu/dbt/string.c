/* SPDX-License-Identifier: MIT */
/*
 * MOVS, STOS and LODS in translated code: as long as what they touch lies in one page of each
 * operand and DF is clear, the host's own instruction does it, on host addresses. The rest
 * (more pages, backward, 67h, segment bases, code pages, MMIO, faults) is the interpreter's,
 * which goes on page-run-wise (cpu/interp/strings.c); CMPS and SCAS are, too.
 */
#include "translate.h"

struct string_form {
    unsigned size;
    bool rep, src, dst;
    unsigned opcode;
};

static bool string_known(const struct insn *in, struct string_form *f)
{
    *f = (struct string_form){
        .size = in->opsize,
        .rep = (in->prefixes & (INSN_P_REP | INSN_P_REPNE)) != 0,
        .src = in->id != INSN_STOS,
        .dst = in->id != INSN_LODS,
        .opcode = (in->id == INSN_MOVS ? 0xa4 : in->id == INSN_STOS ? 0xaa : 0xac) |
                  (in->opsize > 1),
    };
    return (in->id == INSN_MOVS || in->id == INSN_STOS || (in->id == INSN_LODS && !f->rep)) &&
           in->addrsize == insn_word(in) &&
           (!f->src || (in->seg != CPU_FS && in->seg != CPU_GS &&
                        (in->seg != CPU_CS || in->mode == INSN_MODE_64)));
}

/* A register of 32-bit code to 64 bits, for the host's instruction and behind it. */
static void string_narrow(struct tr *t, unsigned reg)
{
    if (tr_is32(t)) {
        emit_op32_reg(&t->c, EMIT_LOAD, reg, reg);
    }
}

/* DF set, or more than a page can hold: not here. */
static void string_check_form(struct tr *t, const struct string_form *f)
{
    struct emit *c = &t->c;

    emit_op_gs(c, EMIT_LOAD, HOST_R11, TR_GS(interp.v));
    emit_bytes(c, (const uint8_t[]){0x41, 0xf6, 0x83}, 3); /* testb $4, rflags + 1(%r11) */
    emit_u32(c, (uint32_t)offsetof(struct vcpu, cpu.rflags) + 1);
    emit_byte(c, CPU_DF >> 8);
    tr_slow_if(t, 5);
    if (f->rep) {
        emit_bytes(c, (const uint8_t[]){0x48, 0x81, 0xf9}, 3); /* cmp $.., %rcx */
        emit_u32(c, MEM_PAGE_SIZE / f->size);
        tr_slow_if(t, 7);
    }
}

/* The addend of the page of an operand to r10; on a miss the TLB is filled and asked again. */
static void string_check_page(struct tr *t, const struct string_form *f, unsigned reg,
                              bool write)
{
    struct emit_mem last = {.base = (uint8_t)reg, .index = f->rep ? CPU_RCX : EMIT_NO_REG,
                            .scale = (uint8_t)f->size};
    struct emit *c = &t->c;
    uint32_t retry = emit_offset(c);

    last.disp = f->rep ? -1 : (int32_t)f->size - 1;
    if (!f->rep) {
        last.scale = 1;
    }
    emit_mov(c, HOST_R10, reg);
    emit_op_mem(c, EMIT_LEA, HOST_R11, &last);
    tr_lookup(t, retry, write, HOST_R10);
}

static void string_insn(struct emit *c, const struct string_form *f)
{
    if (f->size == 2) {
        emit_byte(c, 0x66);
    }
    if (f->rep) {
        emit_byte(c, 0xf3);
    }
    if (f->size == 8) {
        emit_byte(c, 0x48);
    }
    emit_byte(c, f->opcode);
}

static void string_sub(struct tr *t, unsigned reg)
{
    emit_op_reg(&t->c, EMIT_SUB_LOAD, reg, HOST_R10);
    string_narrow(t, reg);
}

bool tr_string(struct tr *t, const struct insn *in)
{
    struct emit *c = &t->c;
    struct string_form f;
    uint32_t none = 0;

    if (!string_known(in, &f)) {
        return false;
    }
    tr_clobber(t);
    if (f.rep) {
        if (!tr_is32(t)) {
            emit_byte(c, 0x48);
        }
        emit_bytes(c, (const uint8_t[]){0x85, 0xc9}, 2); /* test %rcx,%rcx */
        none = emit_jcc(c, 4);
        string_narrow(t, CPU_RCX);
    }
    if (f.dst) {
        string_narrow(t, CPU_RDI);
    }
    if (f.src) {
        string_narrow(t, CPU_RSI);
    }
    string_check_form(t, &f);
    if (f.dst) {
        string_check_page(t, &f, CPU_RDI, true);
    }
    if (f.dst && f.src) {
        emit_op_gs(c, EMIT_STORE, HOST_R10, TR_GS(tmp));
    }
    if (f.src) {
        string_check_page(t, &f, CPU_RSI, false);
        emit_op_reg(c, EMIT_ADD_LOAD, CPU_RSI, HOST_R10);
    }
    if (f.dst && f.src) {
        emit_op_gs(c, EMIT_ADD_LOAD, CPU_RDI, TR_GS(tmp));
    } else if (f.dst) {
        emit_op_reg(c, EMIT_ADD_LOAD, CPU_RDI, HOST_R10);
    }
    string_insn(c, &f);
    if (f.src) {
        string_sub(t, CPU_RSI);
    }
    if (f.dst && f.src) {
        emit_op_gs(c, EMIT_LOAD, HOST_R10, TR_GS(tmp));
    }
    if (f.dst) {
        string_sub(t, CPU_RDI);
    }
    if (f.rep) {
        emit_patch(c->start, none, emit_offset(c));
    }
    return true;
}
