/* SPDX-License-Identifier: MIT */
/* Generic arithmetic: two-operand, unary, shifts, multiplication and division, BCD (SDM vol.
 * 2). */
#include "engine.h"

#include "alu.h"
#include "gen.h"

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

#define GEN_LOCK_ONE(insn, type)                                                               \
    __asm__ volatile(ALU_LOAD "lock; " insn " %2, %1" ALU_SAVE                                 \
                     : "+&a"(f), "+m"(*(interp_##type *)p)                                     \
                     : "r"((type)b)                                                            \
                     : "cc", "memory")
#define GEN_LOCK_OP(insn)                                                                      \
    switch (size) {                                                                            \
    case 1:                                                                                    \
        GEN_LOCK_ONE(insn "b", uint8_t);                                                       \
        break;                                                                                 \
    case 2:                                                                                    \
        GEN_LOCK_ONE(insn "w", uint16_t);                                                      \
        break;                                                                                 \
    case 4:                                                                                    \
        GEN_LOCK_ONE(insn "l", uint32_t);                                                      \
        break;                                                                                 \
    default:                                                                                   \
        GEN_LOCK_ONE(insn "q", uint64_t);                                                      \
        break;                                                                                 \
    }                                                                                          \
    break

static void gen_alu_locked(struct interp *e, unsigned id, void *p, unsigned size, uint64_t b)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_ADD:
        GEN_LOCK_OP("add");
    case INSN_OR:
        GEN_LOCK_OP("or");
    case INSN_ADC:
        GEN_LOCK_OP("adc");
    case INSN_SBB:
        GEN_LOCK_OP("sbb");
    case INSN_AND:
        GEN_LOCK_OP("and");
    case INSN_SUB:
        GEN_LOCK_OP("sub");
    default:
        GEN_LOCK_OP("xor");
    }
    e->fl = f;
}

static uint64_t gen_alu2(uint32_t *fl, unsigned id, unsigned size, uint64_t a, uint64_t b)
{
    switch (id) {
    case INSN_ADD:
        return ALU_BY_SIZE(add, size, fl, a, b);
    case INSN_OR:
        return ALU_BY_SIZE(or, size, fl, a, b);
    case INSN_ADC:
        return ALU_BY_SIZE(adc, size, fl, a, b);
    case INSN_SBB:
        return ALU_BY_SIZE(sbb, size, fl, a, b);
    case INSN_AND:
        return ALU_BY_SIZE(and, size, fl, a, b);
    case INSN_SUB:
        return ALU_BY_SIZE(sub, size, fl, a, b);
    default:
        return ALU_BY_SIZE(xor, size, fl, a, b);
    }
}

bool gen_alu(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t b;

    if (!interp_operand(e, in, 0, X86_WRITE) || !interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 1);
    if (in->op[0].kind == OPK_MEM && gen_locked(e, in)) {
        gen_alu_locked(e, in->id, e->m.part[0], size, b);
        gen_locked_done(e);
        return true;
    }
    interp_set(e, in, 0, gen_alu2(&e->fl, in->id, size, interp_get(e, in, 0), b));
    return true;
}

bool gen_cmp(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a, b;

    if (!interp_operand(e, in, 0, X86_READ) || !interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    a = interp_get(e, in, 0);
    b = interp_get(e, in, 1);
    if (in->id == INSN_CMP) {
        (void)ALU_BY_SIZE(sub, size, &e->fl, a, b);
    } else {
        (void)ALU_BY_SIZE(and, size, &e->fl, a, b);
    }
    return true;
}

#define GEN_LOCK_UNARY(insn, type)                                                             \
    __asm__ volatile(ALU_LOAD "lock; " insn " %1" ALU_SAVE                                     \
                     : "+&a"(f), "+m"(*(interp_##type *)p)                                     \
                     :                                                                         \
                     : "cc", "memory")
#define GEN_LOCK_UNARY_OP(insn)                                                                \
    switch (size) {                                                                            \
    case 1:                                                                                    \
        GEN_LOCK_UNARY(insn "b", uint8_t);                                                     \
        break;                                                                                 \
    case 2:                                                                                    \
        GEN_LOCK_UNARY(insn "w", uint16_t);                                                    \
        break;                                                                                 \
    case 4:                                                                                    \
        GEN_LOCK_UNARY(insn "l", uint32_t);                                                    \
        break;                                                                                 \
    default:                                                                                   \
        GEN_LOCK_UNARY(insn "q", uint64_t);                                                    \
        break;                                                                                 \
    }                                                                                          \
    break

static void gen_unary_locked(struct interp *e, unsigned id, void *p, unsigned size)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_NOT:
        GEN_LOCK_UNARY_OP("not");
    case INSN_NEG:
        GEN_LOCK_UNARY_OP("neg");
    case INSN_INC:
        GEN_LOCK_UNARY_OP("inc");
    default:
        GEN_LOCK_UNARY_OP("dec");
    }
    e->fl = f;
}

bool gen_unary(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    if (in->op[0].kind == OPK_MEM && gen_locked(e, in)) {
        gen_unary_locked(e, in->id, e->m.part[0], size);
        gen_locked_done(e);
        return true;
    }
    a = interp_get(e, in, 0);
    switch (in->id) {
    case INSN_NOT:
        a = ~a;
        break;
    case INSN_NEG:
        a = ALU_BY_SIZE(neg, size, &e->fl, a);
        break;
    case INSN_INC:
        a = ALU_BY_SIZE(inc, size, &e->fl, a);
        break;
    default:
        a = ALU_BY_SIZE(dec, size, &e->fl, a);
        break;
    }
    interp_set(e, in, 0, a);
    return true;
}

bool gen_shift(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint8_t n;
    uint64_t a;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    n = in->op[1].kind == OPK_GPR ? (uint8_t)e->v->cpu.gpr[CPU_RCX] : (uint8_t)in->imm;
    a = interp_get(e, in, 0);
    switch (in->id) {
    case INSN_ROL:
        a = ALU_BY_SIZE(rol, size, &e->fl, a, n);
        break;
    case INSN_ROR:
        a = ALU_BY_SIZE(ror, size, &e->fl, a, n);
        break;
    case INSN_RCL:
        a = ALU_BY_SIZE(rcl, size, &e->fl, a, n);
        break;
    case INSN_RCR:
        a = ALU_BY_SIZE(rcr, size, &e->fl, a, n);
        break;
    case INSN_SHL:
        a = ALU_BY_SIZE(shl, size, &e->fl, a, n);
        break;
    case INSN_SHR:
        a = ALU_BY_SIZE(shr, size, &e->fl, a, n);
        break;
    default:
        a = ALU_BY_SIZE(sar, size, &e->fl, a, n);
        break;
    }
    interp_set(e, in, 0, a);
    return true;
}

#define GEN_SHXD(insn, type)                                                                   \
    do {                                                                                       \
        type ta = (type)a, tb = (type)b;                                                       \
        __asm__(ALU_LOAD insn " %%cl, %2, %0" ALU_SAVE                                         \
                : "+&r"(ta), "+&a"(f)                                                          \
                : "r"(tb), "c"(n)                                                              \
                : "cc");                                                                       \
        a = ta;                                                                                \
    } while (0)

bool gen_shxd(struct interp *e, const struct insn *in)
{
    bool left = in->id == INSN_SHLD;
    uint32_t f = e->fl;
    uint64_t a, b;
    uint8_t n;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    n = in->op[2].kind == OPK_GPR ? (uint8_t)e->v->cpu.gpr[CPU_RCX] : (uint8_t)in->imm;
    a = interp_get(e, in, 0);
    b = interp_get(e, in, 1);
    switch (in->op[0].size * 2 + left) {
    case 4:
        GEN_SHXD("shrdw", uint16_t);
        break;
    case 5:
        GEN_SHXD("shldw", uint16_t);
        break;
    case 8:
        GEN_SHXD("shrdl", uint32_t);
        break;
    case 9:
        GEN_SHXD("shldl", uint32_t);
        break;
    case 16:
        GEN_SHXD("shrdq", uint64_t);
        break;
    default:
        GEN_SHXD("shldq", uint64_t);
        break;
    }
    e->fl = f;
    interp_set(e, in, 0, a);
    return true;
}

bool gen_mul(struct interp *e, const struct insn *in)
{
    uint64_t *rax = &e->v->cpu.gpr[CPU_RAX], *rdx = &e->v->cpu.gpr[CPU_RDX];
    unsigned size = in->op[0].size;
    uint64_t a = *rax, d = *rdx, lo, b;
    uint32_t f = e->fl;

    if (!interp_operand(e, in, 0, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 0);
#define GEN_MUL(insn, mod)                                                                     \
    __asm__("movq %%rax, %0\n\tmovl %1, %%eax\n\taddb $0x7f, %%al\n\tsahf\n\tmovq %0, "        \
            "%%rax\n\t" insn " %" mod "4\n\tmovq %%rax, %0" ALU_SAVE "\n\tmovl %%eax, %1\n\t"  \
            : "=&r"(lo), "+&r"(f), "+&d"(d), "+&a"(a)                                          \
            : "r"(b)                                                                           \
            : "cc")
    switch (size * 2 + (in->id == INSN_IMUL1)) {
    case 2:
        GEN_MUL("mulb", "b");
        break;
    case 3:
        GEN_MUL("imulb", "b");
        break;
    case 4:
        GEN_MUL("mulw", "w");
        break;
    case 5:
        GEN_MUL("imulw", "w");
        break;
    case 8:
        GEN_MUL("mull", "k");
        break;
    case 9:
        GEN_MUL("imull", "k");
        break;
    case 16:
        GEN_MUL("mulq", "q");
        break;
    default:
        GEN_MUL("imulq", "q");
        break;
    }
    e->fl = f;
    *rax = lo;
    *rdx = d;
    return true;
}

bool gen_imul(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint32_t f = e->fl;
    uint64_t a, b;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 1);
    a = in->id == INSN_IMUL3 ? in->imm : interp_get(e, in, 0);
#define GEN_IMUL(insn, mod)                                                                    \
    __asm__(ALU_LOAD insn " %" mod "2, %" mod "0" ALU_SAVE                                     \
            : "+&r"(a), "+&a"(f)                                                               \
            : "r"(b)                                                                           \
            : "c"                                                                              \
              "c")
    switch (size) {
    case 2:
        GEN_IMUL("imulw", "w");
        break;
    case 4:
        GEN_IMUL("imull", "k");
        break;
    default:
        GEN_IMUL("imulq", "q");
        break;
    }
    e->fl = f;
    interp_set(e, in, 0, a);
    return true;
}

/* Whether the quotient fits; all values as unsigned magnitudes. */
static bool gen_idiv_fits(u128 dividend, bool neg, uint64_t divisor, bool dneg, unsigned size)
{
    u128 n = neg ? -dividend : dividend;
    uint64_t lo, hi;
    uint64_t d = dneg ? -divisor : divisor, limit = 1ull << (size * 8 - 1);

    if (d == 0 || (uint64_t)(n >> 64) >= d) {
        return false;
    }
    lo = (uint64_t)n;
    hi = (uint64_t)(n >> 64);
    __asm__("divq %2" : "+a"(lo), "+d"(hi) : "r"(d) : "cc");
    return neg != dneg ? lo <= limit : lo < limit;
}

static bool gen_div_fits(bool is_signed, unsigned size, uint64_t hi, uint64_t lo, uint64_t b)
{
    u128 n;
    unsigned shift = 128 - 16 * size;
    int64_t sb;

    if (!is_signed) {
        return b != 0 && hi < b;
    }
    n = (u128)hi << (size * 8) | lo;
    n = (u128)((s128)(n << shift) >> shift);
    sb = (int64_t)(b << (64 - size * 8)) >> (64 - size * 8);
    return gen_idiv_fits(n, (s128)n < 0, (uint64_t)sb, sb < 0, size);
}

bool gen_div(struct interp *e, const struct insn *in)
{
    uint64_t *rax = &e->v->cpu.gpr[CPU_RAX], *rdx = &e->v->cpu.gpr[CPU_RDX];
    unsigned size = in->op[0].size;
    uint64_t a = *rax, d = *rdx, hi, lo, b;
    uint32_t f = e->fl;

    if (!interp_operand(e, in, 0, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 0);
    hi = size == 1 ? (a >> 8) & 0xff : d & interp_mask(size);
    if (!gen_div_fits(in->id == INSN_IDIV, size, hi, a & interp_mask(size), b)) {
        return interp_fault(e, CPU_DE);
    }
    switch (size * 2 + (in->id == INSN_IDIV)) {
    case 2:
        GEN_MUL("divb", "b");
        break;
    case 3:
        GEN_MUL("idivb", "b");
        break;
    case 4:
        GEN_MUL("divw", "w");
        break;
    case 5:
        GEN_MUL("idivw", "w");
        break;
    case 8:
        GEN_MUL("divl", "k");
        break;
    case 9:
        GEN_MUL("idivl", "k");
        break;
    case 16:
        GEN_MUL("divq", "q");
        break;
    default:
        GEN_MUL("idivq", "q");
        break;
    }
    e->fl = f;
    *rax = lo;
    *rdx = d;
    return true;
}

/*
 * The decimal adjustments do not exist in 64-bit mode, so the host cannot run them here.
 * Undefined flags are as on Zen 4: those of the addition or subtraction that the adjustment is.
 */
static void gen_set_carries(struct interp *e, bool cf, bool af)
{
    e->fl = (e->fl & 0xffffeeff) | (cf ? 0x100 : 0) | (af ? 0x1000 : 0);
}

bool gen_bcd_packed(struct interp *e, const struct insn *in)
{
    uint8_t al = (uint8_t)e->v->cpu.gpr[CPU_RAX], by = 0;
    bool cf = (e->fl & 0x100) != 0, af = (e->fl & 0x1000) != 0;

    if ((al & 0xf) > 9 || af) {
        by = 6;
        af = true;
    }
    if (al > 0x99 || cf) {
        by += 0x60;
        cf = true;
    } else if (by != 0) {
        cf = in->id == INSN_DAA ? al > 0xff - 6 : al < 6;
    }
    al = in->id == INSN_DAA ? alu_add8(&e->fl, al, by) : alu_sub8(&e->fl, al, by);
    interp_set_gpr(e, CPU_RAX, 1, al);
    gen_set_carries(e, cf, af);
    return true;
}

bool gen_bcd_ascii(struct interp *e, const struct insn *in)
{
    uint16_t ax = (uint16_t)e->v->cpu.gpr[CPU_RAX];
    bool adjust = (ax & 0xf) > 9 || (e->fl & 0x1000) != 0;
    uint16_t by = adjust ? 0x106 : 0;

    ax = in->id == INSN_AAA ? alu_add16(&e->fl, ax, by) : alu_sub16(&e->fl, ax, by);
    interp_set_gpr(e, CPU_RAX, 2, ax & 0xff0f);
    gen_set_carries(e, adjust, adjust);
    return true;
}

bool gen_aam_aad(struct interp *e, const struct insn *in)
{
    uint16_t ax = (uint16_t)e->v->cpu.gpr[CPU_RAX];
    uint8_t base = (uint8_t)in->imm, al = (uint8_t)ax, ah = (uint8_t)(ax >> 8);

    if (in->id == INSN_AAM) {
        if (base == 0) {
            return interp_fault(e, CPU_DE);
        }
        ah = al / base;
        al = al % base;
        (void)alu_or8(&e->fl, al, al);
        gen_set_carries(e, false, false);
    } else {
        al = alu_add8(&e->fl, al, (uint8_t)(ah * base));
        ah = 0;
    }
    interp_set_gpr(e, CPU_RAX, 2, (uint64_t)(ah << 8 | al));
    return true;
}
