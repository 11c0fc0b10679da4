/* SPDX-License-Identifier: MIT */
/* Host instructions, byte by byte (SDM vol. 2 chapter 2). */
#include "emit.h"

#include <string.h>

enum { REX = 0x40, REX_W = 8, REX_R = 4, REX_X = 2, REX_B = 1 };
enum { PREFIX_GS = 0x65, SIB_NO_BASE = 0x25 };

void emit_byte(struct emit *c, unsigned byte)
{
    *c->p++ = (uint8_t)byte;
}

void emit_bytes(struct emit *c, const void *p, size_t len)
{
    memcpy(c->p, p, len);
    c->p += len;
}

void emit_u32(struct emit *c, uint32_t val)
{
    emit_bytes(c, &val, 4);
}

void emit_u64(struct emit *c, uint64_t val)
{
    emit_bytes(c, &val, 8);
}

unsigned emit_rex_mem(unsigned reg, const struct emit_mem *m)
{
    return (reg >= 8 ? REX_R : 0u) |
           (m->index != EMIT_NO_REG && m->index >= 8 ? REX_X : 0u) |
           (m->base != EMIT_NO_REG && m->base >= 8 ? REX_B : 0u);
}

void emit_modrm_mem(struct emit *c, unsigned reg, const struct emit_mem *m)
{
    bool small = m->disp == (int8_t)m->disp;
    unsigned mod;

    reg = (reg & 7) << 3;
    if (m->base == EMIT_NO_REG) {
        unsigned index = m->index == EMIT_NO_REG ? 4 : m->index & 7u;

        emit_byte(c, reg | 4);
        emit_byte(c, (unsigned)__builtin_ctz(m->scale) << 6 | index << 3 | 5);
        emit_u32(c, (uint32_t)m->disp);
        return;
    }
    mod = m->disp == 0 && (m->base & 7) != 5 ? 0 : small ? 0x40 : 0x80;
    if (m->index == EMIT_NO_REG && (m->base & 7) != 4) {
        emit_byte(c, mod | reg | (m->base & 7u));
    } else {
        unsigned index = m->index == EMIT_NO_REG ? 4 : m->index & 7u;

        emit_byte(c, mod | reg | 4);
        emit_byte(c, (unsigned)__builtin_ctz(m->scale) << 6 | index << 3 | (m->base & 7u));
    }
    if (mod == 0x40) {
        emit_byte(c, (uint8_t)m->disp);
    } else if (mod == 0x80) {
        emit_u32(c, (uint32_t)m->disp);
    }
}

void emit_op_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m)
{
    emit_byte(c, REX | REX_W | emit_rex_mem(reg, m));
    emit_byte(c, op);
    emit_modrm_mem(c, reg, m);
}

void emit_op32_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m)
{
    unsigned rex = emit_rex_mem(reg, m);

    if (rex != 0) {
        emit_byte(c, REX | rex);
    }
    emit_byte(c, op);
    emit_modrm_mem(c, reg, m);
}

void emit_cmp_mem_imm(struct emit *c, const struct emit_mem *m, unsigned size, const uint8_t *imm)
{
    if (size == 2) {
        emit_byte(c, 0x66);
    }
    emit_byte(c, REX | emit_rex_mem(0, m));
    emit_byte(c, size == 1 ? 0x80 : 0x81);
    emit_modrm_mem(c, 7, m);
    emit_bytes(c, imm, size);
}

void emit_op_reg(struct emit *c, unsigned op, unsigned reg, unsigned rm)
{
    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_R : 0u) | (rm >= 8 ? REX_B : 0u));
    emit_byte(c, op);
    emit_byte(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void emit_op32_reg(struct emit *c, unsigned op, unsigned reg, unsigned rm)
{
    unsigned rex = (reg >= 8 ? REX_R : 0u) | (rm >= 8 ? REX_B : 0u);

    if (rex != 0) {
        emit_byte(c, REX | rex);
    }
    emit_byte(c, op);
    emit_byte(c, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* What an offset in what GS points at is to be where the prefix is spared. */
static uint32_t emit_gs(struct emit *c, size_t offset)
{
    if (c->low == 0) {
        emit_byte(c, PREFIX_GS);
    }
    return c->low + (uint32_t)offset;
}

void emit_op_gs(struct emit *c, unsigned op, unsigned reg, size_t offset)
{
    uint32_t disp = emit_gs(c, offset);

    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_R : 0u));
    emit_byte(c, op);
    emit_byte(c, (reg & 7) << 3 | 4);
    emit_byte(c, SIB_NO_BASE);
    emit_u32(c, disp);
}

void emit_op32_gs(struct emit *c, unsigned op, unsigned reg, size_t offset)
{
    uint32_t disp = emit_gs(c, offset);

    if (reg >= 8) {
        emit_byte(c, REX | REX_R);
    }
    emit_byte(c, op);
    emit_byte(c, (reg & 7) << 3 | 4);
    emit_byte(c, SIB_NO_BASE);
    emit_u32(c, disp);
}

void emit_op_gs_mem(struct emit *c, unsigned op, unsigned reg, const struct emit_mem *m)
{
    struct emit_mem at = *m;

    at.disp = (int32_t)emit_gs(c, (size_t)m->disp);
    emit_op_mem(c, op, reg, &at);
}

void emit_op_gs_index(struct emit *c, unsigned op, unsigned reg, unsigned index, size_t offset)
{
    struct emit_mem m = {.base = (uint8_t)index, .index = EMIT_NO_REG, .scale = 1,
                         .disp = (int32_t)offset};

    emit_op_gs_mem(c, op, reg, &m);
}

/* What stands in ModRM.reg of an instruction with an immediate. */
static void emit_imm_opcode(struct emit *c, enum emit_imm op, unsigned size)
{
    emit_byte(c, (op == EMIT_SET ? 0xc6u : 0x80u) | (size != 1));
}

static void emit_imm_tail(struct emit *c, unsigned size, uint32_t imm)
{
    emit_bytes(c, &imm, size > 4 ? 4 : size);
}

void emit_imm_mem(struct emit *c, enum emit_imm op, unsigned size, const struct emit_mem *m,
                  uint32_t imm)
{
    if (size == 2) {
        emit_byte(c, 0x66);
    }
    emit_byte(c, REX | (size == 8 ? REX_W : 0u) | emit_rex_mem(0, m));
    emit_imm_opcode(c, op, size);
    emit_modrm_mem(c, op == EMIT_SET ? 0 : op, m);
    emit_imm_tail(c, size, imm);
}

void emit_imm_gs(struct emit *c, enum emit_imm op, unsigned size, size_t offset, uint32_t imm)
{
    struct emit_mem m = {.base = EMIT_NO_REG, .index = EMIT_NO_REG, .scale = 1};

    m.disp = (int32_t)emit_gs(c, offset);
    emit_imm_mem(c, op, size, &m, imm);
}

void emit_imm_reg(struct emit *c, enum emit_imm op, unsigned reg, uint32_t imm)
{
    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_B : 0u));
    emit_imm_opcode(c, op, 8);
    emit_byte(c, 0xc0 | (op == EMIT_SET ? 0u : (unsigned)op) << 3 | (reg & 7));
    emit_u32(c, imm);
}

void emit_test_reg(struct emit *c, unsigned reg, uint32_t imm)
{
    if (reg >= 8) {
        emit_byte(c, REX | REX_B);
    }
    emit_byte(c, 0xf7);
    emit_byte(c, 0xc0 | (reg & 7));
    emit_u32(c, imm);
}

void emit_movzx16(struct emit *c, unsigned reg, const struct emit_mem *m)
{
    emit_byte(c, REX | emit_rex_mem(reg, m));
    emit_byte(c, 0x0f);
    emit_byte(c, 0xb7);
    emit_modrm_mem(c, reg, m);
}

void emit_not(struct emit *c, unsigned reg)
{
    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_B : 0u));
    emit_byte(c, 0xf7);
    emit_byte(c, 0xd0 | (reg & 7));
}

void emit_shift(struct emit *c, enum emit_shift op, unsigned reg, unsigned by)
{
    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_B : 0u));
    emit_byte(c, 0xc1);
    emit_byte(c, 0xc0 | (unsigned)op << 3 | (reg & 7));
    emit_byte(c, by);
}

void emit_store32_gs(struct emit *c, size_t offset, uint32_t val)
{
    uint32_t disp = emit_gs(c, offset);

    emit_bytes(c, (const uint8_t[]){0xc7, 0x04, SIB_NO_BASE}, 3);
    emit_u32(c, disp);
    emit_u32(c, val);
}

void emit_mov(struct emit *c, unsigned to, unsigned from)
{
    if (to != from) {
        emit_op_reg(c, EMIT_STORE, from, to);
    }
}

void emit_mov_imm32(struct emit *c, unsigned reg, uint32_t val)
{
    if (reg >= 8) {
        emit_byte(c, REX | REX_B);
    }
    emit_byte(c, 0xb8 | (reg & 7));
    emit_u32(c, val);
}

void emit_mov_imm64(struct emit *c, unsigned reg, uint64_t val)
{
    emit_byte(c, REX | REX_W | (reg >= 8 ? REX_B : 0u));
    emit_byte(c, 0xb8 | (reg & 7));
    emit_u64(c, val);
}

void emit_lea(struct emit *c, unsigned to, unsigned base, int32_t disp)
{
    struct emit_mem m = {.base = (uint8_t)base, .index = EMIT_NO_REG, .scale = 1, .disp = disp};

    if (disp == 0) {
        emit_mov(c, to, base);
    } else {
        emit_op_mem(c, EMIT_LEA, to, &m);
    }
}

void emit_jmp_gs_mem(struct emit *c, const struct emit_mem *m)
{
    struct emit_mem at = *m;

    at.disp = (int32_t)emit_gs(c, (size_t)m->disp);
    if (emit_rex_mem(0, m) != 0) {
        emit_byte(c, REX | emit_rex_mem(0, m));
    }
    emit_byte(c, 0xff);
    emit_modrm_mem(c, 4, &at);
}

void emit_jmp_gs(struct emit *c, size_t offset)
{
    uint32_t disp = emit_gs(c, offset);

    emit_bytes(c, (const uint8_t[]){0xff, 0x24, SIB_NO_BASE}, 3);
    emit_u32(c, disp);
}

uint32_t emit_call(struct emit *c)
{
    emit_byte(c, 0xe8);
    emit_u32(c, 0);
    return emit_offset(c) - 4;
}

void emit_call_gs(struct emit *c, size_t offset)
{
    uint32_t disp = emit_gs(c, offset);

    emit_bytes(c, (const uint8_t[]){0xff, 0x14, SIB_NO_BASE}, 3);
    emit_u32(c, disp);
}

uint32_t emit_jmp(struct emit *c)
{
    emit_byte(c, 0xe9);
    emit_u32(c, 0);
    return emit_offset(c) - 4;
}

uint32_t emit_jcc(struct emit *c, unsigned cond)
{
    emit_byte(c, 0x0f);
    emit_byte(c, 0x80 | cond);
    emit_u32(c, 0);
    return emit_offset(c) - 4;
}

uint32_t emit_short(struct emit *c, unsigned cond)
{
    emit_byte(c, 0x70 | cond);
    emit_byte(c, 0);
    return emit_offset(c) - 1;
}

void emit_short_here(struct emit *c, uint32_t at)
{
    c->start[at] = (uint8_t)(emit_offset(c) - (at + 1));
}

void emit_patch(uint8_t *start, uint32_t at, uint32_t to)
{
    uint32_t rel = to - (at + 4);

    memcpy(start + at, &rel, 4);
}

void emit_jmp_to(struct emit *c, uint32_t offset)
{
    emit_patch(c->start, emit_jmp(c), offset);
}

void emit_call_to(struct emit *c, uint32_t offset)
{
    emit_patch(c->start, emit_call(c), offset);
}
