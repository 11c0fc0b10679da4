/* SPDX-License-Identifier: MIT */
/*
 * Compares our record of an instruction with Zydis's: the visible operands one by one, then the
 * hidden general registers of native instructions, then the use of the status flags.
 */
#include "tests/cpu/decode_zydis.h"

#include "core/cpu.h"

#define STATUS (CPU_CF | CPU_PF | CPU_AF | CPU_ZF | CPU_SF | CPU_OF)

bool zhidden(const struct insn *in)
{
    switch (in->feature) {
    case INSN_FEAT_XOP:
    case INSN_FEAT_FMA4:
    case INSN_FEAT_TBM:
    case INSN_FEAT_LWP:
    case INSN_FEAT_AVX512:
    case INSN_FEAT_AMX:
    case INSN_FEAT_CET:
    case INSN_FEAT_PKU:
    case INSN_FEAT_3DNOW:
    case INSN_FEAT_OTHER:
        return true;
    default:
        return in->id == INSN_VMX || in->id == INSN_SVM || in->id == INSN_GETSEC;
    }
}

/* Number of a general register as ours: INSN_HIGH_BYTE for AH.., INSN_REG_RIP for RIP. */
static unsigned zgpr(ZydisRegister r)
{
    int id = ZydisRegisterGetId(r);

    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
        if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
            return INSN_HIGH_BYTE | (unsigned)(r - ZYDIS_REGISTER_AH);
        }
        /* SPL.. come after the high bytes in Zydis's numbering. */
        return r <= ZYDIS_REGISTER_BL ? (unsigned)(r - ZYDIS_REGISTER_AL)
                                      : (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
    case ZYDIS_REGCLASS_IP:
        return INSN_REG_RIP;
    case ZYDIS_REGCLASS_INVALID:
        return INSN_NO_REG;
    default:
        return (unsigned)id;
    }
}

static unsigned zkind(ZydisRegister r)
{
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return OPK_GPR;
    case ZYDIS_REGCLASS_X87:
        return OPK_X87;
    case ZYDIS_REGCLASS_MMX:
        return OPK_MMX;
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
    case ZYDIS_REGCLASS_ZMM:
        return OPK_VEC;
    case ZYDIS_REGCLASS_SEGMENT:
        return OPK_SEG;
    case ZYDIS_REGCLASS_CONTROL:
        return OPK_CR;
    case ZYDIS_REGCLASS_DEBUG:
        return OPK_DR;
    case ZYDIS_REGCLASS_MASK:
        return OPK_MASK;
    default:
        return OPK_NONE;
    }
}

static unsigned zaccess(const ZydisDecodedOperand *z)
{
    return ((z->actions & ZYDIS_OPERAND_ACTION_MASK_READ) ? OPA_READ : 0) |
           ((z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) ? OPA_WRITE : 0);
}

/* Only general registers and memory need exact accesses; of others engines keep the whole
 * state. */
static bool zaccess_ok(const struct insn_operand *op, const ZydisDecodedOperand *z)
{
    unsigned za = zaccess(z);

    if (op->kind == OPK_GPR || op->kind == OPK_MEM) {
        return op->access == za;
    }
    return (op->access & OPA_WRITE) == (za & OPA_WRITE);
}

static const char *zcompare_reg(const struct zcase *c, const struct insn_operand *op,
                                const ZydisDecodedOperand *z)
{
    unsigned width = ZydisRegisterGetWidth(c->z.machine_mode, z->reg.value) / 8;

    if (op->kind != zkind(z->reg.value)) {
        return "operand kind";
    }
    if (op->reg != zgpr(z->reg.value)) {
        return "register";
    }
    if ((op->kind == OPK_GPR || op->kind == OPK_VEC) && op->size != width) {
        return "register size";
    }
    return zaccess_ok(op, z) ? NULL : "register access";
}

static const char *zcompare_string(const struct zcase *c, const struct insn_operand *op,
                                   const ZydisDecodedOperand *z)
{
    if (op->reg != zgpr(z->mem.base)) {
        return "string register";
    }
    if (op->kind == OPK_STR_SRC && c->in.seg != (unsigned)ZydisRegisterGetId(z->mem.segment)) {
        return "string segment";
    }
    return op->size != z->size / 8    ? "string size"
           : op->access != zaccess(z) ? "string access"
                                      : NULL;
}

static const char *zcompare_mem(const struct zcase *c, const struct insn_operand *op,
                                const ZydisDecodedOperand *z)
{
    const struct insn *in = &c->in;
    uint64_t mask = in->addrsize == 8 ? UINT64_MAX : ((uint64_t)1 << (8 * in->addrsize)) - 1;

    if (op->kind == OPK_STR_SRC || op->kind == OPK_STR_DST) {
        return zcompare_string(c, op, z);
    }
    if (op->kind != OPK_MEM) {
        return "operand kind";
    }
    if (in->base != zgpr(z->mem.base) || in->index != zgpr(z->mem.index)) {
        return "address registers";
    }
    if (in->index != INSN_NO_REG && in->scale != (z->mem.scale ? z->mem.scale : 1)) {
        return "scale";
    }
    if (((uint64_t)in->disp & mask) != ((uint64_t)z->mem.disp.value & mask)) {
        return "displacement";
    }
    if (z->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
        in->seg != (unsigned)ZydisRegisterGetId(z->mem.segment)) {
        return "segment";
    }
    if (op->size != 0 && op->size != z->size / 8) {
        return "memory size";
    }
    if (op->size == 0 && !(in->flags & INSN_F_SYSTEM) && op->access != 0) {
        return "memory size missing";
    }
    return op->access == 0 || zaccess_ok(op, z) ? NULL : "memory access";
}

static uint64_t ztrim(uint64_t v, unsigned size)
{
    return size >= 8 || size == 0 ? v : v & (((uint64_t)1 << (8 * size)) - 1);
}

static const char *zcompare_imm(const struct zcase *c, unsigned i, unsigned nr_imm,
                                const ZydisDecodedOperand *z)
{
    const struct insn_operand *op = &c->in.op[i];
    uint64_t imm = nr_imm ? c->in.imm2 : c->in.imm;

    if (op->kind != (z->imm.is_relative ? OPK_REL : OPK_IMM)) {
        return "operand kind";
    }
    if (op->kind == OPK_REL) {
        return imm == z->imm.value.u ? NULL : "displacement of a branch";
    }
    if (imm != ztrim(imm, op->size)) {
        return "immediate has bits above its size";
    }
    return imm == ztrim(z->imm.value.u, op->size) ? NULL : "immediate";
}

static const char *zcompare_operand(const struct zcase *c, unsigned i, unsigned *nr_imm)
{
    const struct insn_operand *op = &c->in.op[i];
    const ZydisDecodedOperand *z = &c->zop[i];

    if (i >= c->in.nr_operands) {
        return "operand missing";
    }
    switch (z->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return zcompare_reg(c, op, z);
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return zcompare_mem(c, op, z);
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        return zcompare_imm(c, i, (*nr_imm)++, z);
    case ZYDIS_OPERAND_TYPE_POINTER:
        if (op->kind != OPK_FAR || c->in.imm != z->ptr.offset || c->in.imm2 != z->ptr.segment) {
            return "far pointer";
        }
        return NULL;
    default:
        return "operand kind";
    }
}

/* Native instructions must name every general register they touch. */
static const char *zcompare_hidden(const struct zcase *c)
{
    const ZydisDecodedOperand *z;
    const struct insn_operand *op;
    unsigned i, k;

    for (i = c->z.operand_count_visible; i < c->z.operand_count; i++) {
        z = &c->zop[i];
        if (z->type != ZYDIS_OPERAND_TYPE_REGISTER || zkind(z->reg.value) != OPK_GPR) {
            if (z->type == ZYDIS_OPERAND_TYPE_MEMORY && !(c->in.flags & INSN_F_MEM_IMPLICIT)) {
                return "hidden memory operand missing";
            }
            continue;
        }
        for (k = c->z.operand_count_visible; k < c->in.nr_operands; k++) {
            op = &c->in.op[k];
            if (op->kind == OPK_GPR && op->reg == zgpr(z->reg.value)) {
                break;
            }
        }
        if (k == c->in.nr_operands) {
            return "hidden register missing";
        }
        if (c->in.op[k].access != zaccess(z)) {
            return "hidden register access";
        }
        if (c->in.op[k].size != ZydisRegisterGetWidth(c->z.machine_mode, z->reg.value) / 8) {
            return "hidden register size";
        }
    }
    return NULL;
}

/* Of x87 instructions only memory and AX count: engines keep the whole register stack. */
static const char *zcompare_x87(const struct zcase *c)
{
    const struct insn_operand *op = NULL;
    unsigned i;

    for (i = 0; i < c->in.nr_operands; i++) {
        if (c->in.op[i].kind != OPK_X87) {
            op = &c->in.op[i];
        }
    }
    for (i = 0; i < c->z.operand_count; i++) {
        if (c->zop[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            return op ? zcompare_mem(c, op, &c->zop[i]) : "operand missing";
        }
        if (c->zop[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            zkind(c->zop[i].reg.value) == OPK_GPR) {
            return op ? zcompare_reg(c, op, &c->zop[i]) : "operand missing";
        }
    }
    return op ? "operand kind" : NULL;
}

static const char *zcompare_flags(const struct zcase *c)
{
    const ZydisAccessedFlags *f = c->z.cpu_flags;
    uint32_t writes = f ? f->modified | f->set_0 | f->set_1 | f->undefined : 0;
    uint32_t reads = f ? f->tested : 0;

    if (((writes & STATUS) != 0) != ((c->in.flags & INSN_F_WRITES_FLAGS) != 0)) {
        return writes & STATUS ? "flags written" : "flags not written";
    }
    if (((reads & STATUS) != 0) != ((c->in.flags & INSN_F_READS_FLAGS) != 0)) {
        return reads & STATUS ? "flags read" : "flags not read";
    }
    return NULL;
}

/* Where the parts lie in the bytes. */
static const char *zcompare_layout(const struct zcase *c)
{
    const struct insn *in = &c->in;

    if (((in->flags & INSN_F_MODRM) != 0) !=
            ((c->z.attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0) ||
        ((in->flags & INSN_F_MODRM) && in->modrm_off != c->z.raw.modrm.offset)) {
        return "ModRM";
    }
    if (in->disp_len != c->z.raw.disp.size / 8 ||
        (in->disp_len && in->disp_off != c->z.raw.disp.offset)) {
        return "displacement offset";
    }
    if (in->imm_len != (c->z.raw.imm[0].size + c->z.raw.imm[1].size) / 8 ||
        (in->imm_len && in->imm_off != c->z.raw.imm[0].offset)) {
        return "immediate offset";
    }
    return NULL;
}

const char *zcompare(const struct zcase *c)
{
    const char *what = NULL;
    unsigned i, nr_imm = 0;

    if (!c->ok || !c->zok) {
        if (c->ok && zhidden(&c->in)) {
            return NULL;
        }
        return c->ok ? "valid only for us" : c->zok ? "valid only for zydis" : NULL;
    }
    if (c->in.len != c->z.length) {
        return "length";
    }
    if (zhidden(&c->in)) {
        return NULL;
    }
    if (c->in.flags & INSN_F_X87) {
        what = zcompare_x87(c);
    } else {
        for (i = 0; i < c->z.operand_count_visible && !what; i++) {
            what = zcompare_operand(c, i, &nr_imm);
        }
        if (!what && c->in.id == INSN_NATIVE) {
            what = zcompare_hidden(c);
        }
    }
    what = what ? what : zcompare_flags(c);
    what = what ? what : zcompare_layout(c);
    return what ? what : zcompare_attributes(c);
}
