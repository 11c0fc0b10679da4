/* SPDX-License-Identifier: MIT */
/*
 * Integer instructions, any operand form, any mode (SDM vol. 2): operands, moves and the table.
 * Each function opens its operands (all checks), then reads, computes and writes, so a fault
 * leaves nothing half done. The others are in gen_*.c, flow.c and strings.c.
 */
#include "engine.h"

#include "alu.h"
#include "gen.h"

bool interp_operand(struct interp *e, const struct insn *in, unsigned i, unsigned access)
{
    const struct insn_operand *op = &in->op[i];
    uint64_t va;

    if (op->kind != OPK_MEM) {
        return true;
    }
    return interp_linear(e, in->seg, interp_offset(e, in), op->size, access, &va) &&
           interp_mref(e, va, op->size, access, &e->m);
}

uint64_t interp_get(struct interp *e, const struct insn *in, unsigned i)
{
    const struct insn_operand *op = &in->op[i];

    switch (op->kind) {
    case OPK_MEM:
        return interp_mref_load(e, &e->m);
    case OPK_GPR:
        return interp_gpr(e, op->reg, op->size);
    default:
        return in->imm & interp_mask(in->op[0].size);
    }
}

void interp_set(struct interp *e, const struct insn *in, unsigned i, uint64_t val)
{
    const struct insn_operand *op = &in->op[i];

    if (op->kind == OPK_MEM) {
        interp_mref_store(e, &e->m, val);
    } else {
        interp_set_gpr(e, op->reg, op->size, val);
    }
}

static bool gen_mov(struct interp *e, const struct insn *in)
{
    unsigned mem = in->op[1].kind == OPK_MEM ? 1 : 0;

    if (!interp_operand(e, in, mem, mem == 1 ? X86_READ : X86_WRITE)) {
        return false;
    }
    interp_set(e, in, 0, interp_get(e, in, 1));
    return true;
}

static bool gen_extend(struct interp *e, const struct insn *in)
{
    uint64_t val;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    val = interp_get(e, in, 1);
    if (in->id != INSN_MOVZX) {
        unsigned shift = 64 - 8 * in->op[1].size;

        val = (uint64_t)((int64_t)(val << shift) >> shift);
    }
    interp_set(e, in, 0, val);
    return true;
}

static bool gen_movbe(struct interp *e, const struct insn *in)
{
    unsigned mem = in->op[1].kind == OPK_MEM ? 1 : 0, size = in->op[0].size;
    uint64_t val;

    if (!interp_operand(e, in, mem, mem == 1 ? X86_READ : X86_WRITE)) {
        return false;
    }
    val = __builtin_bswap64(interp_get(e, in, 1)) >> (64 - 8 * size);
    interp_set(e, in, 0, val);
    return true;
}

static bool gen_lea(struct interp *e, const struct insn *in)
{
    interp_set(e, in, 0, interp_offset(e, in));
    return true;
}

static bool gen_cmov(struct interp *e, const struct insn *in)
{
    uint64_t val;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    val = interp_get(e, in, 1);
    if (!alu_cond(e->fl, in->cond)) {
        val = interp_get(e, in, 0);
    }
    interp_set(e, in, 0, val);
    return true;
}

static bool gen_setcc(struct interp *e, const struct insn *in)
{
    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    interp_set(e, in, 0, alu_cond(e->fl, in->cond));
    return true;
}

static bool gen_xlat(struct interp *e, const struct insn *in)
{
    uint64_t off = e->v->cpu.gpr[CPU_RBX] + (uint8_t)e->v->cpu.gpr[CPU_RAX], va;

    if (!interp_linear(e, in->seg, off & interp_mask(in->addrsize), 1, X86_READ, &va) ||
        !interp_mref(e, va, 1, X86_READ, &e->m)) {
        return false;
    }
    interp_set_gpr(e, CPU_RAX, 1, interp_mref_load(e, &e->m));
    return true;
}

static bool gen_cbw(struct interp *e, const struct insn *in)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX];

    switch (in->opsize) {
    case 2:
        interp_set_gpr(e, CPU_RAX, 2, (uint64_t)(int8_t)a);
        break;
    case 4:
        interp_set_gpr(e, CPU_RAX, 4, (uint64_t)(int16_t)a);
        break;
    default:
        interp_set_gpr(e, CPU_RAX, 8, (uint64_t)(int32_t)a);
        break;
    }
    return true;
}

static bool gen_cwd(struct interp *e, const struct insn *in)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX] >> (in->opsize * 8 - 1) & 1;

    interp_set_gpr(e, CPU_RDX, in->opsize, a != 0 ? UINT64_MAX : 0);
    return true;
}

static bool gen_flag(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    switch (in->id) {
    case INSN_CLC:
        e->fl &= ~0x100u;
        break;
    case INSN_STC:
        e->fl |= 0x100;
        break;
    case INSN_CMC:
        e->fl ^= 0x100;
        break;
    case INSN_CLD:
        cpu->rflags &= ~(uint64_t)CPU_DF;
        break;
    case INSN_STD:
        cpu->rflags |= CPU_DF;
        break;
    case INSN_LAHF:
        interp_set_gpr(e, INSN_HIGH_BYTE, 1, (e->fl >> 8 & 0xd5) | 2);
        break;
    case INSN_SAHF:
        e->fl = (e->fl & 0xff) | (uint32_t)(cpu->gpr[CPU_RAX] & 0xd500) | 0x200;
        break;
    default:
        interp_set_gpr(e, CPU_RAX, 1, (e->fl & 0x100) != 0 ? 0xff : 0);
        break; /* SALC */
    }
    return true;
}

static bool gen_nop(struct interp *e, const struct insn *in)
{
    (void)e, (void)in;
    return true;
}

static bool gen_pause(struct interp *e, const struct insn *in)
{
    (void)in;
    interp_smp_relax(e);
    return true;
}

static bool gen_fence(struct interp *e, const struct insn *in)
{
    (void)e, (void)in;
    atomic_thread_fence(memory_order_seq_cst);
    return true;
}

static bool gen_clflush(struct interp *e, const struct insn *in)
{
    uint64_t va, gpa;
    uint8_t *hva;

    return interp_linear(e, in->seg, interp_offset(e, in), 1, X86_READ, &va) &&
           interp_resolve(e, va, X86_READ, &hva, &gpa);
}

static bool gen_undefined(struct interp *e, const struct insn *in)
{
    (void)in;
    return interp_fault(e, CPU_UD);
}

static const interp_insn_fn gen_table[INSN_SYSTEM_FIRST] = {
    [INSN_INVALID] = gen_undefined,
    [INSN_UD] = gen_undefined,
    [INSN_NATIVE] = interp_native,
    [INSN_ADD] = gen_alu,
    [INSN_OR] = gen_alu,
    [INSN_ADC] = gen_alu,
    [INSN_SBB] = gen_alu,
    [INSN_AND] = gen_alu,
    [INSN_SUB] = gen_alu,
    [INSN_XOR] = gen_alu,
    [INSN_CMP] = gen_cmp,
    [INSN_TEST] = gen_cmp,
    [INSN_NOT] = gen_unary,
    [INSN_NEG] = gen_unary,
    [INSN_INC] = gen_unary,
    [INSN_DEC] = gen_unary,
    [INSN_MUL] = gen_mul,
    [INSN_IMUL1] = gen_mul,
    [INSN_IMUL2] = gen_imul,
    [INSN_IMUL3] = gen_imul,
    [INSN_DIV] = gen_div,
    [INSN_IDIV] = gen_div,
    [INSN_ROL] = gen_shift,
    [INSN_ROR] = gen_shift,
    [INSN_RCL] = gen_shift,
    [INSN_RCR] = gen_shift,
    [INSN_SHL] = gen_shift,
    [INSN_SHR] = gen_shift,
    [INSN_SAR] = gen_shift,
    [INSN_SHLD] = gen_shxd,
    [INSN_SHRD] = gen_shxd,
    [INSN_BT] = gen_bit,
    [INSN_BTS] = gen_bit,
    [INSN_BTR] = gen_bit,
    [INSN_BTC] = gen_bit,
    [INSN_BSF] = gen_bitscan,
    [INSN_BSR] = gen_bitscan,
    [INSN_BSWAP] = gen_bswap,
    [INSN_XADD] = gen_xadd,
    [INSN_CMPXCHG] = gen_cmpxchg,
    [INSN_CMPXCHG8B] = gen_cmpxchg8b,
    [INSN_CMPXCHG16B] = gen_cmpxchg16b,
    [INSN_XCHG] = gen_xchg,
    [INSN_DAA] = gen_bcd_packed,
    [INSN_DAS] = gen_bcd_packed,
    [INSN_AAA] = gen_bcd_ascii,
    [INSN_AAS] = gen_bcd_ascii,
    [INSN_AAM] = gen_aam_aad,
    [INSN_AAD] = gen_aam_aad,
    [INSN_CBW] = gen_cbw,
    [INSN_CWD] = gen_cwd,
    [INSN_CLC] = gen_flag,
    [INSN_STC] = gen_flag,
    [INSN_CMC] = gen_flag,
    [INSN_CLD] = gen_flag,
    [INSN_STD] = gen_flag,
    [INSN_LAHF] = gen_flag,
    [INSN_SAHF] = gen_flag,
    [INSN_SALC] = gen_flag,
    [INSN_MOV] = gen_mov,
    [INSN_MOVNTI] = gen_mov,
    [INSN_MOVZX] = gen_extend,
    [INSN_MOVSX] = gen_extend,
    [INSN_MOVSXD] = gen_extend,
    [INSN_LEA] = gen_lea,
    [INSN_CMOVCC] = gen_cmov,
    [INSN_SETCC] = gen_setcc,
    [INSN_XLAT] = gen_xlat,
    [INSN_MOVBE] = gen_movbe,
    [INSN_MOVS] = interp_string,
    [INSN_CMPS] = interp_string,
    [INSN_STOS] = interp_string,
    [INSN_LODS] = interp_string,
    [INSN_SCAS] = interp_string,
    [INSN_NOP] = gen_nop,
    [INSN_PAUSE] = gen_pause,
    [INSN_FENCE] = gen_fence,
    [INSN_CLFLUSH] = gen_clflush,
};

static void gen_advance(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    cpu->rip += in->len;
    if (unlikely((e->mode & MODE_CODE) != MODE_64)) {
        cpu->rip &= (e->mode & MODE_CODE) == MODE_32 ? UINT32_MAX : 0xffff;
    }
}

bool interp_generic(struct interp *e, const struct insn *in)
{
    interp_insn_fn fn = interp_flow_table[in->id];
    bool ok;

    if (fn != NULL) {
        return fn(e, in); /* moves rip itself */
    }
    ok = gen_table[in->id](e, in);
    if (unlikely(e->alone)) {
        e->alone = false;
        interp_smp_together(e);
    }
    if (ok) {
        gen_advance(e, in);
    }
    return ok;
}
