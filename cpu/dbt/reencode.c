/* SPDX-License-Identifier: MIT */
/*
 * Copies of instructions with other registers and another memory operand.
 *
 * The decoder's record does not say which of the encoding's register fields an operand came
 * from. So the fields that are to change are guessed, the copy is decoded again, and unless it
 * is what was wanted the next guess is tried.
 */
#include "insn.h"

#include "core/cpu.h"

enum { FIELD_REG = 1, FIELD_RM = 2, FIELD_VVVV = 4, FIELD_OPCODE = 8, FIELDS = 16 };

static bool copy_prefix(uint8_t b)
{
    return b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0;
}

static bool drop_prefix(uint8_t b)
{
    return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x64 || b == 0x65;
}

/* Legacy prefixes go out; returns where REX, VEX or the opcode's escapes start. */
static unsigned copy_prefixes(struct emit *c, const struct insn *in)
{
    unsigned at = 0;

    for (; at < in->opcode_off; at++) {
        uint8_t b = in->bytes[at];

        if (copy_prefix(b)) {
            emit_byte(c, b);
        } else if (!drop_prefix(b)) {
            break;
        }
    }
    return at;
}

static unsigned map_field(const struct copy_map *map, unsigned fields, unsigned field,
                          unsigned number)
{
    return (fields & field) != 0 ? map->gpr[number & 15] : number;
}

struct copy_fields {
    unsigned reg, rm, vvvv;
    bool has_modrm, has_mem;
};

static void copy_vex(struct emit *c, const struct insn *in, unsigned at,
                     const struct copy_fields *f, const struct copy_map *map)
{
    const uint8_t *b = in->bytes + at;
    unsigned map_bits = b[0] == 0xc5 ? 1 : b[1] & 0x1fu;
    unsigned last = b[0] == 0xc5 ? b[1] & 0x7fu : b[2];
    unsigned rxb = f->has_mem ? emit_rex_mem(f->reg, &map->mem)
                              : (f->reg >= 8 ? 4u : 0u) | (f->rm >= 8 ? 1u : 0u);

    emit_byte(c, 0xc4);
    emit_byte(c, (~rxb & 7) << 5 | map_bits);
    emit_byte(c, (last & ~0x78u) | (~f->vvvv & 15) << 3);
    emit_byte(c, in->opcode);
}

static void copy_legacy(struct emit *c, const struct insn *in, unsigned at,
                        const struct copy_fields *f, const struct copy_map *map,
                        unsigned fields)
{
    unsigned rex = in->rex & INSN_REX_W, opcode = in->opcode;

    if (at < in->opcode_off && (in->bytes[at] & 0xf0) == 0x40) {
        at++;
    }
    if (f->has_modrm) {
        rex |= f->has_mem ? emit_rex_mem(f->reg, &map->mem)
                          : (f->reg >= 8 ? 4u : 0u) | (f->rm >= 8 ? 1u : 0u);
    } else {
        unsigned low = (opcode & 7) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);

        if ((fields & FIELD_OPCODE) != 0) {
            low = map->gpr[low];
            opcode = (opcode & ~7u) | (low & 7);
        }
        rex |= low >= 8 && ((fields & FIELD_OPCODE) != 0 || (in->rex & INSN_REX_B) != 0) ? 1u
                                                                                         : 0u;
    }
    if (rex != 0 || (in->prefixes & INSN_P_REX) != 0) {
        emit_byte(c, 0x40 | rex);
    }
    emit_bytes(c, in->bytes + at, in->opcode_off - at);
    emit_byte(c, opcode);
}

static void copy_once(struct emit *c, const struct insn *in, const struct copy_map *map,
                      unsigned fields)
{
    struct copy_fields f = {.has_modrm = (in->flags & INSN_F_MODRM) != 0,
                            .has_mem = insn_mem_operand(in) != NULL};
    unsigned at = copy_prefixes(c, in);

    f.reg = (in->modrm >> 3 & 7u) | ((in->rex & INSN_REX_R) != 0 ? 8u : 0u);
    f.rm = (in->modrm & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
    f.reg = map_field(map, fields, FIELD_REG, f.reg);
    f.rm = map_field(map, fields, FIELD_RM, f.rm);
    f.vvvv = map_field(map, fields, FIELD_VVVV, in->vvvv);
    if (in->encoding == INSN_ENC_VEX) {
        copy_vex(c, in, at, &f, map);
    } else {
        copy_legacy(c, in, at, &f, map, fields);
    }
    if (f.has_modrm && f.has_mem) {
        emit_modrm_mem(c, f.reg, &map->mem);
    } else if (f.has_modrm) {
        emit_byte(c, 0xc0 | (f.reg & 7) << 3 | (f.rm & 7));
    }
    if (in->imm_len > 0) {
        emit_bytes(c, in->bytes + in->imm_off, in->len - in->imm_off);
    }
}

static bool copy_operand_same(const struct insn_operand *a, const struct insn_operand *b,
                              const struct copy_map *map)
{
    unsigned reg = a->reg;

    if (a->kind != b->kind || a->size != b->size || a->access != b->access) {
        return false;
    }
    if (a->kind == OPK_MEM) {
        return true;
    }
    if (a->kind == OPK_GPR && (reg & INSN_HIGH_BYTE) == 0) {
        reg = map->gpr[reg & 15];
    }
    return reg == b->reg;
}

static bool copy_memory_same(const struct insn *out, const struct emit_mem *m)
{
    bool base = out->base == (m->base == EMIT_NO_REG ? INSN_NO_REG : m->base);
    bool index = out->index == (m->index == EMIT_NO_REG ? INSN_NO_REG : m->index);

    return base && index && out->disp == m->disp && out->addrsize == 8 &&
           (m->index == EMIT_NO_REG || out->scale == m->scale);
}

/* Does the copy do what the original does? */
static bool copy_good(const struct insn *in, const uint8_t *bytes, unsigned len,
                      const struct copy_map *map)
{
    struct insn out;

    if (len > INSN_MAX_LEN || insn_decode(&out, INSN_MODE_64, bytes, len) != INSN_OK ||
        out.len != len || out.id != in->id || out.nr_operands != in->nr_operands ||
        out.opsize != in->opsize || out.encoding != in->encoding || out.map != in->map ||
        out.flags != in->flags || (out.prefixes & INSN_P_SEG) != 0 ||
        out.imm != in->imm || out.imm2 != in->imm2 || out.cond != in->cond ||
        out.vlen != in->vlen || out.feature != in->feature ||
        ((in->flags & INSN_F_MODRM) != 0 && out.opcode != in->opcode) ||
        ((out.prefixes ^ in->prefixes) & (INSN_P_LOCK | INSN_P_REP | INSN_P_REPNE)) != 0) {
        return false;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (!copy_operand_same(&in->op[i], &out.op[i], map)) {
            return false;
        }
    }
    return insn_mem_operand(in) == NULL || copy_memory_same(&out, &map->mem);
}

/* A register field that may hold a general register that has another place on the host. */
static bool copy_moves(const struct insn *in, const struct copy_map *map, unsigned number)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_GPR && in->op[i].reg == number) {
            return map->gpr[number] != number;
        }
    }
    return false;
}

/* Which fields might have to change. */
static unsigned copy_candidates(const struct insn *in, const struct copy_map *map)
{
    unsigned reg = (in->modrm >> 3 & 7u) | ((in->rex & INSN_REX_R) != 0 ? 8u : 0u);
    unsigned rm = (in->modrm & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
    unsigned low = (in->opcode & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
    unsigned fields = 0;

    if ((in->flags & INSN_F_MODRM) == 0) {
        return copy_moves(in, map, low) ? FIELD_OPCODE : 0;
    }
    /* BLSR and its group: that field is part of the opcode, and its fourth bit is ignored. */
    if (copy_moves(in, map, reg) && (in->map != INSN_MAP_0F38 || in->opcode != 0xf3)) {
        fields |= FIELD_REG;
    }
    if (copy_moves(in, map, rm) && insn_mem_operand(in) == NULL) {
        fields |= FIELD_RM;
    }
    if (in->encoding == INSN_ENC_VEX && copy_moves(in, map, in->vvvv)) {
        fields |= FIELD_VVVV;
    }
    return fields;
}

bool insn_copy(struct emit *c, const struct insn *in, const struct copy_map *map)
{
    unsigned candidates = copy_candidates(in, map);
    uint8_t *start = c->p;

    if (in->encoding != INSN_ENC_LEGACY && in->encoding != INSN_ENC_VEX) {
        return false;
    }
    for (unsigned fields = FIELDS; fields-- > 0;) {
        if ((fields & ~candidates) != 0) {
            continue;
        }
        copy_once(c, in, map, fields);
        if (copy_good(in, start, (unsigned)(c->p - start), map)) {
            return true;
        }
        c->p = start;
    }
    return false;
}
