/* SPDX-License-Identifier: MIT */
/* Host instructions, byte by byte. */
#ifndef PVEMU_CPU_DBT_EMIT_H
#define PVEMU_CPU_DBT_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct emit {
    uint8_t *start, *p; /* start: of the cache */
    uint32_t low;       /* where GS points, if that can be said in 31 bits; else 0 */
};

enum { EMIT_NO_REG = 0xff };

/* [base + index * scale + disp]; base may be EMIT_NO_REG, or index. */
struct emit_mem {
    uint8_t base, index, scale;
    int32_t disp;
};

/* Opcodes with register in ModRM.reg, 64-bit unless said otherwise. */
enum emit_op {
    EMIT_ADD_LOAD = 0x03, /* add reg, r/m */
    EMIT_OR_STORE = 0x09, /* or r/m, reg */
    EMIT_OR_LOAD = 0x0b,
    EMIT_AND_LOAD = 0x23,
    EMIT_SUB_LOAD = 0x2b,
    EMIT_XOR_LOAD = 0x33,
    EMIT_CMP_LOAD = 0x3b,
    EMIT_TEST = 0x85,
    EMIT_STORE = 0x89, /* mov r/m, reg */
    EMIT_LOAD = 0x8b,  /* mov reg, r/m */
    EMIT_LEA = 0x8d,
};

/* Operations with an immediate operand. */
enum emit_imm { EMIT_ADD, EMIT_OR, EMIT_AND = 4, EMIT_CMP = 7, EMIT_SET };
enum emit_shift { EMIT_SHL = 4, EMIT_SHR = 5, EMIT_SAR = 7 };

void emit_byte(struct emit *c, unsigned byte);
void emit_bytes(struct emit *c, const void *p, size_t len);
void emit_u32(struct emit *c, uint32_t val);
void emit_u64(struct emit *c, uint64_t val);
static inline uint32_t emit_offset(const struct emit *c)
{
    return (uint32_t)(c->p - c->start);
}

/* ModRM, SIB and displacement of a memory operand. */
void emit_modrm_mem(struct emit *c, unsigned reg, const struct emit_mem *m);
/* The R, X and B bits that go with it. */
unsigned emit_rex_mem(unsigned reg, const struct emit_mem *m);
void emit_op_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m);
void emit_op32_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m);
/* cmp $imm, m with an operand of 1, 2 or 4 bytes. */
void emit_cmp_mem_imm(struct emit *c, const struct emit_mem *m, unsigned size, const uint8_t *imm);
void emit_op_reg(struct emit *c, unsigned op, unsigned reg, unsigned rm);
void emit_op32_reg(struct emit *c, unsigned op, unsigned reg, unsigned rm);
/* gs:[offset], gs:[index + offset], without the prefix where that can be spared: it costs a cycle
 * of latency; 64 and 32 bits wide */
void emit_op_gs(struct emit *c, unsigned op, unsigned reg, size_t offset);
void emit_op32_gs(struct emit *c, unsigned op, unsigned reg, size_t offset);
void emit_op_gs_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m);
void emit_op_gs_index(struct emit *c, unsigned op, unsigned reg, unsigned index, size_t offset);
/* insn $imm, m with an operand of 1, 2, 4 or 8 bytes; of 8 it is sign-extended. _gs: in what GS
 * points at; _reg: with 64 bits of a register. */
void emit_imm_mem(struct emit *c, enum emit_imm op, unsigned size, const struct emit_mem *m,
                  uint32_t imm);
void emit_imm_gs(struct emit *c, enum emit_imm op, unsigned size, size_t offset, uint32_t imm);
void emit_imm_reg(struct emit *c, enum emit_imm op, unsigned reg, uint32_t imm);
void emit_test_reg(struct emit *c, unsigned reg, uint32_t imm); /* 32 bits */
void emit_movzx16(struct emit *c, unsigned reg, const struct emit_mem *m);
void emit_not(struct emit *c, unsigned reg);
void emit_shift(struct emit *c, enum emit_shift op, unsigned reg, unsigned by); /* 64 bits */
void emit_store32_gs(struct emit *c, size_t offset, uint32_t val); /* movl $val, gs:[offset] */
void emit_mov(struct emit *c, unsigned to, unsigned from);
void emit_mov_imm32(struct emit *c, unsigned reg, uint32_t val); /* zero-extended */
void emit_mov_imm64(struct emit *c, unsigned reg, uint64_t val);
void emit_lea(struct emit *c, unsigned to, unsigned base, int32_t disp);
uint32_t emit_call(struct emit *c);
void emit_call_gs(struct emit *c, size_t offset);
void emit_jmp_gs_mem(struct emit *c, const struct emit_mem *m);
void emit_jmp_gs(struct emit *c, size_t offset);
void emit_call_to(struct emit *c, uint32_t offset);
void emit_jmp_to(struct emit *c, uint32_t offset);
/* A jump with a displacement to be filled in by emit_patch(); the place of it. */
uint32_t emit_jmp(struct emit *c);
uint32_t emit_jcc(struct emit *c, unsigned cond);
/* The same for a short one, which emit_short_here() makes lead to where it is called. */
uint32_t emit_short(struct emit *c, unsigned cond);
void emit_short_here(struct emit *c, uint32_t at);
void emit_patch(uint8_t *start, uint32_t at, uint32_t to);

#endif
