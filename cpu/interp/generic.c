/* SPDX-License-Identifier: MIT */
/*
 * Integer instructions, any operand form, any mode (SDM vol. 2). Each function opens its operands (all
 * checks), then reads, computes and writes, so a fault leaves nothing half done.
 * Control flow, the stack and strings are in flow.c and strings.c.
 */
#include "engine.h"

#include "alu.h"

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

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
    case OPK_MEM: return interp_mref_load(e, &e->m);
    case OPK_GPR: return interp_gpr(e, op->reg, op->size);
    default: return in->imm & interp_mask(in->op[0].size);
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

/*
 * LOCKed instructions use the host's lock prefix, but not across cache lines: a host with split-lock detection
 * punishes those. They exclude each other by this flag, for all machines of the process, which
 * is enough for a thing no sane guest does.
 */
static atomic_flag gen_split_lock = ATOMIC_FLAG_INIT;

/* The memory operand is RAM and within one cache line. If not, the split lock is held until the end. */
static bool gen_atomic(struct interp *e)
{
    const struct mref *m = &e->m;

    if (m->part[0] == NULL || (m->len1 != m->len && m->part[1] == NULL)) {
        return false;
    }
    if ((m->va & 63) + m->len <= 64) {
        return true;
    }
    while (atomic_flag_test_and_set_explicit(&gen_split_lock, memory_order_acquire)) {
        __builtin_ia32_pause();
    }
    e->split_locked = true;
    return false;
}

static bool gen_locked(struct interp *e, const struct insn *in)
{
    return (in->prefixes & INSN_P_LOCK) != 0 && gen_atomic(e);
}

static void gen_locked_done(struct interp *e)
{
    if (unlikely(e->m.code[0])) {
        interp_code_written(e, mem_hva_frame(e->v->mem, e->m.part[0]));
    }
}

#define GEN_LOCK_ONE(insn, type)                                                                  \
    __asm__ volatile(ALU_LOAD "lock; " insn " %2, %1" ALU_SAVE                                    \
                     : "+&a"(f), "+m"(*(interp_##type *)p) : "r"((type)b) : "cc", "memory")
#define GEN_LOCK_OP(insn)                                                                         \
    switch (size) {                                                                               \
    case 1: GEN_LOCK_ONE(insn "b", uint8_t); break;                                               \
    case 2: GEN_LOCK_ONE(insn "w", uint16_t); break;                                              \
    case 4: GEN_LOCK_ONE(insn "l", uint32_t); break;                                              \
    default: GEN_LOCK_ONE(insn "q", uint64_t); break;                                             \
    }                                                                                             \
    break

static void gen_alu_locked(struct interp *e, unsigned id, void *p, unsigned size, uint64_t b)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_ADD: GEN_LOCK_OP("add");
    case INSN_OR: GEN_LOCK_OP("or");
    case INSN_ADC: GEN_LOCK_OP("adc");
    case INSN_SBB: GEN_LOCK_OP("sbb");
    case INSN_AND: GEN_LOCK_OP("and");
    case INSN_SUB: GEN_LOCK_OP("sub");
    default: GEN_LOCK_OP("xor");
    }
    e->fl = f;
}

static uint64_t gen_alu2(uint32_t *fl, unsigned id, unsigned size, uint64_t a, uint64_t b)
{
    switch (id) {
    case INSN_ADD: return ALU_BY_SIZE(add, size, fl, a, b);
    case INSN_OR: return ALU_BY_SIZE(or, size, fl, a, b);
    case INSN_ADC: return ALU_BY_SIZE(adc, size, fl, a, b);
    case INSN_SBB: return ALU_BY_SIZE(sbb, size, fl, a, b);
    case INSN_AND: return ALU_BY_SIZE(and, size, fl, a, b);
    case INSN_SUB: return ALU_BY_SIZE(sub, size, fl, a, b);
    default: return ALU_BY_SIZE(xor, size, fl, a, b);
    }
}

static bool gen_alu(struct interp *e, const struct insn *in)
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

static bool gen_cmp(struct interp *e, const struct insn *in)
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

#define GEN_LOCK_UNARY(insn, type)                                                                \
    __asm__ volatile(ALU_LOAD "lock; " insn " %1" ALU_SAVE                                        \
                     : "+&a"(f), "+m"(*(interp_##type *)p) : : "cc", "memory")
#define GEN_LOCK_UNARY_OP(insn)                                                                   \
    switch (size) {                                                                               \
    case 1: GEN_LOCK_UNARY(insn "b", uint8_t); break;                                             \
    case 2: GEN_LOCK_UNARY(insn "w", uint16_t); break;                                            \
    case 4: GEN_LOCK_UNARY(insn "l", uint32_t); break;                                            \
    default: GEN_LOCK_UNARY(insn "q", uint64_t); break;                                           \
    }                                                                                             \
    break

static void gen_unary_locked(struct interp *e, unsigned id, void *p, unsigned size)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_NOT: GEN_LOCK_UNARY_OP("not");
    case INSN_NEG: GEN_LOCK_UNARY_OP("neg");
    case INSN_INC: GEN_LOCK_UNARY_OP("inc");
    default: GEN_LOCK_UNARY_OP("dec");
    }
    e->fl = f;
}

static bool gen_unary(struct interp *e, const struct insn *in)
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
    case INSN_NOT: a = ~a; break;
    case INSN_NEG: a = ALU_BY_SIZE(neg, size, &e->fl, a); break;
    case INSN_INC: a = ALU_BY_SIZE(inc, size, &e->fl, a); break;
    default: a = ALU_BY_SIZE(dec, size, &e->fl, a); break;
    }
    interp_set(e, in, 0, a);
    return true;
}

static bool gen_shift(struct interp *e, const struct insn *in)
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
    case INSN_ROL: a = ALU_BY_SIZE(rol, size, &e->fl, a, n); break;
    case INSN_ROR: a = ALU_BY_SIZE(ror, size, &e->fl, a, n); break;
    case INSN_RCL: a = ALU_BY_SIZE(rcl, size, &e->fl, a, n); break;
    case INSN_RCR: a = ALU_BY_SIZE(rcr, size, &e->fl, a, n); break;
    case INSN_SHL: a = ALU_BY_SIZE(shl, size, &e->fl, a, n); break;
    case INSN_SHR: a = ALU_BY_SIZE(shr, size, &e->fl, a, n); break;
    default: a = ALU_BY_SIZE(sar, size, &e->fl, a, n); break;
    }
    interp_set(e, in, 0, a);
    return true;
}

#define GEN_SHXD(insn, type)                                                                      \
    do {                                                                                          \
        type ta = (type)a, tb = (type)b;                                                          \
        __asm__(ALU_LOAD insn " %%cl, %2, %0" ALU_SAVE                                            \
                : "+&r"(ta), "+&a"(f) : "r"(tb), "c"(n) : "cc");                                  \
        a = ta;                                                                                   \
    } while (0)

static bool gen_shxd(struct interp *e, const struct insn *in)
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
    case 4: GEN_SHXD("shrdw", uint16_t); break;
    case 5: GEN_SHXD("shldw", uint16_t); break;
    case 8: GEN_SHXD("shrdl", uint32_t); break;
    case 9: GEN_SHXD("shldl", uint32_t); break;
    case 16: GEN_SHXD("shrdq", uint64_t); break;
    default: GEN_SHXD("shldq", uint64_t); break;
    }
    e->fl = f;
    interp_set(e, in, 0, a);
    return true;
}

/* Opens the word that holds the bit; the offset of a register reaches beyond the operand. */
static bool gen_bit_open(struct interp *e, const struct insn *in, unsigned access, uint64_t *bit)
{
    unsigned size = in->op[0].size;
    uint64_t off, va;

    *bit = interp_get(e, in, 1);
    if (in->op[0].kind != OPK_MEM) {
        return true;
    }
    off = interp_offset(e, in);
    if (in->op[1].kind == OPK_GPR) {
        int64_t n = size == 2   ? (int16_t)*bit
                    : size == 4 ? (int32_t)*bit
                                : (int64_t)*bit;

        off += (uint64_t)((n >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * (int64_t)size);
        off &= interp_mask(in->addrsize);
    }
    *bit &= size * 8 - 1;
    return interp_linear(e, in->seg, off, size, access, &va) &&
           interp_mref(e, va, size, access, &e->m);
}

#define GEN_BT(insn, type)                                                                        \
    do {                                                                                          \
        type ta = (type)a, tb = (type)bit;                                                        \
        __asm__(ALU_LOAD insn " %2, %0" ALU_SAVE : "+&r"(ta), "+&a"(f) : "r"(tb) : "cc");         \
        a = ta;                                                                                   \
    } while (0)
#define GEN_BT_SIZES(insn)                                                                        \
    switch (size) {                                                                               \
    case 2: GEN_BT(insn "w", uint16_t); break;                                                    \
    case 4: GEN_BT(insn "l", uint32_t); break;                                                    \
    default: GEN_BT(insn "q", uint64_t); break;                                                   \
    }                                                                                             \
    break
#define GEN_LOCK_BT(insn, type)                                                                   \
    __asm__ volatile(ALU_LOAD "lock; " insn " %2, %1" ALU_SAVE                                    \
                     : "+&a"(f), "+m"(*(interp_##type *)p) : "r"((type)bit) : "cc", "memory")
#define GEN_LOCK_BT_SIZES(insn)                                                                   \
    switch (size) {                                                                               \
    case 2: GEN_LOCK_BT(insn "w", uint16_t); break;                                               \
    case 4: GEN_LOCK_BT(insn "l", uint32_t); break;                                               \
    default: GEN_LOCK_BT(insn "q", uint64_t); break;                                              \
    }                                                                                             \
    break

static void gen_bit_locked(struct interp *e, unsigned id, void *p, unsigned size, uint64_t bit)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_BTS: GEN_LOCK_BT_SIZES("bts");
    case INSN_BTR: GEN_LOCK_BT_SIZES("btr");
    default: GEN_LOCK_BT_SIZES("btc");
    }
    e->fl = f;
    gen_locked_done(e);
}

static bool gen_bit(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint32_t f = e->fl;
    uint64_t bit, a;

    if (!gen_bit_open(e, in, in->id == INSN_BT ? X86_READ : X86_WRITE, &bit)) {
        return false;
    }
    if (in->op[0].kind == OPK_MEM && gen_locked(e, in)) {
        gen_bit_locked(e, in->id, e->m.part[0], size, bit);
        return true;
    }
    a = interp_get(e, in, 0);
    switch (in->id) {
    case INSN_BT: GEN_BT_SIZES("bt");
    case INSN_BTS: GEN_BT_SIZES("bts");
    case INSN_BTR: GEN_BT_SIZES("btr");
    default: GEN_BT_SIZES("btc");
    }
    e->fl = f;
    if (in->id != INSN_BT) {
        interp_set(e, in, 0, a);
    }
    return true;
}

/* The register keeps its old bits as the host decides (zero source, 16 and 32 bits). */
static bool gen_bitscan(struct interp *e, const struct insn *in)
{
    uint64_t *dst = &e->v->cpu.gpr[in->op[0].reg];
    uint64_t a = *dst, b;
    uint32_t f = e->fl;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 1);
#define GEN_SCAN(insn, mod)                                                                       \
    __asm__(ALU_LOAD insn " %" mod "2, %" mod "0" ALU_SAVE : "+&r"(a), "+&a"(f) : "r"(b) : "cc")
    switch (in->op[0].size * 2 + (in->id == INSN_BSR)) {
    case 4: GEN_SCAN("bsfw", "w"); break;
    case 5: GEN_SCAN("bsrw", "w"); break;
    case 8: GEN_SCAN("bsfl", "k"); break;
    case 9: GEN_SCAN("bsrl", "k"); break;
    case 16: GEN_SCAN("bsfq", "q"); break;
    default: GEN_SCAN("bsrq", "q"); break;
    }
    e->fl = f;
    *dst = a;
    return true;
}

static bool gen_bswap(struct interp *e, const struct insn *in)
{
    uint64_t *reg = &e->v->cpu.gpr[in->op[0].reg];

    switch (in->op[0].size) {
    case 8: *reg = __builtin_bswap64(*reg); break;
    case 4: *reg = __builtin_bswap32((uint32_t)*reg); break;
    default: {
        uint64_t a = *reg;

        /* Undefined by the SDM: whatever the host does. */
        __asm__(".byte 0x66, 0x0f, 0xc8" : "+a"(a));
        *reg = a;
        break;
    }
    }
    return true;
}

static bool gen_mul(struct interp *e, const struct insn *in)
{
    uint64_t *rax = &e->v->cpu.gpr[CPU_RAX], *rdx = &e->v->cpu.gpr[CPU_RDX];
    unsigned size = in->op[0].size;
    uint64_t a = *rax, d = *rdx, lo, b;
    uint32_t f = e->fl;

    if (!interp_operand(e, in, 0, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 0);
#define GEN_MUL(insn, mod)                                                                        \
    __asm__("movq %%rax, %0\n\tmovl %1, %%eax\n\taddb $0x7f, %%al\n\tsahf\n\tmovq %0, %%rax\n\t"   \
            insn " %" mod "4\n\tmovq %%rax, %0" ALU_SAVE "\n\tmovl %%eax, %1\n\t"                 \
            : "=&r"(lo), "+&r"(f), "+&d"(d), "+&a"(a) : "r"(b) : "cc")
    switch (size * 2 + (in->id == INSN_IMUL1)) {
    case 2: GEN_MUL("mulb", "b"); break;
    case 3: GEN_MUL("imulb", "b"); break;
    case 4: GEN_MUL("mulw", "w"); break;
    case 5: GEN_MUL("imulw", "w"); break;
    case 8: GEN_MUL("mull", "k"); break;
    case 9: GEN_MUL("imull", "k"); break;
    case 16: GEN_MUL("mulq", "q"); break;
    default: GEN_MUL("imulq", "q"); break;
    }
    e->fl = f;
    *rax = lo;
    *rdx = d;
    return true;
}

static bool gen_imul(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint32_t f = e->fl;
    uint64_t a, b;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 1);
    a = in->id == INSN_IMUL3 ? in->imm : interp_get(e, in, 0);
#define GEN_IMUL(insn, mod)                                                                       \
    __asm__(ALU_LOAD insn " %" mod "2, %" mod "0" ALU_SAVE : "+&r"(a), "+&a"(f) : "r"(b) : "cc")
    switch (size) {
    case 2: GEN_IMUL("imulw", "w"); break;
    case 4: GEN_IMUL("imull", "k"); break;
    default: GEN_IMUL("imulq", "q"); break;
    }
    e->fl = f;
    interp_set(e, in, 0, a);
    return true;
}

/* Whether the quotient fits; all values as unsigned magnitudes. */
static bool gen_idiv_fits(u128 dividend, bool neg, uint64_t divisor, bool dneg,
                          unsigned size)
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

static bool gen_div(struct interp *e, const struct insn *in)
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
    case 2: GEN_MUL("divb", "b"); break;
    case 3: GEN_MUL("idivb", "b"); break;
    case 4: GEN_MUL("divw", "w"); break;
    case 5: GEN_MUL("idivw", "w"); break;
    case 8: GEN_MUL("divl", "k"); break;
    case 9: GEN_MUL("idivl", "k"); break;
    case 16: GEN_MUL("divq", "q"); break;
    default: GEN_MUL("idivq", "q"); break;
    }
    e->fl = f;
    *rax = lo;
    *rdx = d;
    return true;
}

static bool gen_xadd(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a, b, sum;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, 1);
    if (in->op[0].kind == OPK_MEM && gen_locked(e, in)) {
        void *p = e->m.part[0];

        switch (size) {
        case 1: a = __atomic_fetch_add((uint8_t *)p, (uint8_t)b, __ATOMIC_SEQ_CST); break;
        case 2: a = __atomic_fetch_add((interp_uint16_t *)p, (uint16_t)b, __ATOMIC_SEQ_CST); break;
        case 4: a = __atomic_fetch_add((interp_uint32_t *)p, (uint32_t)b, __ATOMIC_SEQ_CST); break;
        default: a = __atomic_fetch_add((interp_uint64_t *)p, b, __ATOMIC_SEQ_CST); break;
        }
        (void)ALU_BY_SIZE(add, size, &e->fl, a, b);
        interp_set(e, in, 1, a);
        gen_locked_done(e);
        return true;
    }
    a = interp_get(e, in, 0);
    sum = ALU_BY_SIZE(add, size, &e->fl, a, b);
    interp_set(e, in, 1, a);
    interp_set(e, in, 0, sum);
    return true;
}

static bool gen_xchg(struct interp *e, const struct insn *in)
{
    unsigned mem = in->op[1].kind == OPK_MEM ? 1 : 0, reg = 1 - mem;
    uint64_t a, b;

    if (!interp_operand(e, in, mem, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, reg);
    if (in->op[mem].kind == OPK_MEM && gen_atomic(e)) {
        void *p = e->m.part[0];

        switch (in->op[mem].size) {
        case 1: a = __atomic_exchange_n((uint8_t *)p, (uint8_t)b, __ATOMIC_SEQ_CST); break;
        case 2: a = __atomic_exchange_n((interp_uint16_t *)p, (uint16_t)b, __ATOMIC_SEQ_CST); break;
        case 4: a = __atomic_exchange_n((interp_uint32_t *)p, (uint32_t)b, __ATOMIC_SEQ_CST); break;
        default: a = __atomic_exchange_n((interp_uint64_t *)p, b, __ATOMIC_SEQ_CST); break;
        }
        gen_locked_done(e);
    } else {
        a = interp_get(e, in, mem);
        interp_set(e, in, mem, b);
    }
    interp_set(e, in, reg, a);
    return true;
}

/* cmpxchg on a host word, by the host: rax comes back as it leaves it. */
#define GEN_CMPXCHG(insn, mod, dst)                                                               \
    __asm__ volatile(insn " %" mod "4, %" mod "2\n\tmovq %%rax, %0" ALU_SAVE "\n\tmovl %%eax, %1" \
                     : "=&r"(acc), "=&r"(f), dst, "+&a"(a) : "r"(b) : "cc", "memory")

static void gen_cmpxchg_mem(struct interp *e, unsigned size, void *p, uint64_t b)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX], acc;
    uint32_t f;

    switch (size) {
    case 1: GEN_CMPXCHG("lock; cmpxchgb", "b", "+m"(*(uint8_t *)p)); break;
    case 2: GEN_CMPXCHG("lock; cmpxchgw", "w", "+m"(*(interp_uint16_t *)p)); break;
    case 4: GEN_CMPXCHG("lock; cmpxchgl", "k", "+m"(*(interp_uint32_t *)p)); break;
    default: GEN_CMPXCHG("lock; cmpxchgq", "q", "+m"(*(interp_uint64_t *)p)); break;
    }
    e->v->cpu.gpr[CPU_RAX] = acc;
    e->fl = f;
}

static void gen_cmpxchg_reg(struct interp *e, const struct insn *in, uint64_t b)
{
    uint64_t a = e->v->cpu.gpr[CPU_RAX], acc, d;
    uint32_t f;

    if (in->op[0].size == 1) {
        uint8_t low = (uint8_t)interp_get(e, in, 0);

        GEN_CMPXCHG("cmpxchgb", "b", "+&r"(low));
        e->v->cpu.gpr[CPU_RAX] = acc;
        interp_set(e, in, 0, low);
        e->fl = f;
        return;
    }
    if (in->op[0].reg == CPU_RAX) {
        /* The accumulator is the destination: always equal, so it becomes the source. */
        (void)ALU_BY_SIZE(sub, in->op[0].size, &e->fl, a, a);
        interp_set(e, in, 0, b);
        return;
    }
    d = e->v->cpu.gpr[in->op[0].reg];
    switch (in->op[0].size) {
    case 2: GEN_CMPXCHG("cmpxchgw", "w", "+&r"(d)); break;
    case 4: GEN_CMPXCHG("cmpxchgl", "k", "+&r"(d)); break;
    default: GEN_CMPXCHG("cmpxchgq", "q", "+&r"(d)); break;
    }
    e->v->cpu.gpr[CPU_RAX] = acc;
    e->v->cpu.gpr[in->op[0].reg] = d;
    e->fl = f;
}

static bool gen_cmpxchg(struct interp *e, const struct insn *in)
{
    unsigned size = in->op[0].size;
    uint64_t a, b;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    b = interp_get(e, in, 1);
    if (in->op[0].kind != OPK_MEM) {
        gen_cmpxchg_reg(e, in, b);
    } else if (gen_atomic(e)) {
        gen_cmpxchg_mem(e, size, e->m.part[0], b);
        gen_locked_done(e);
    } else {
        a = interp_get(e, in, 0);
        gen_cmpxchg_mem(e, size, &a, b);
        interp_set(e, in, 0, a);
    }
    return true;
}

static bool gen_cmpxchg8b(struct interp *e, const struct insn *in)
{
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t want = (uint32_t)gpr[CPU_RAX] | gpr[CPU_RDX] << 32, old;
    uint64_t put = (uint32_t)gpr[CPU_RBX] | gpr[CPU_RCX] << 32;
    bool equal;

    if (!interp_operand(e, in, 0, X86_WRITE)) {
        return false;
    }
    old = want;
    if (gen_atomic(e)) {
        equal = __atomic_compare_exchange_n((interp_uint64_t *)(void *)e->m.part[0], &old, put, false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        gen_locked_done(e);
    } else {
        old = interp_get(e, in, 0);
        equal = old == want;
        interp_set(e, in, 0, equal ? put : old);
    }
    e->fl &= ~0x4000u;
    if (equal) {
        e->fl |= 0x4000;
    } else {
        gpr[CPU_RAX] = (uint32_t)old;
        gpr[CPU_RDX] = old >> 32;
    }
    return true;
}

static bool gen_cmpxchg16b(struct interp *e, const struct insn *in)
{
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t a = gpr[CPU_RAX], d = gpr[CPU_RDX];
    bool equal;
    uint64_t va;

    if (!interp_linear(e, in->seg, interp_offset(e, in), 16, X86_WRITE, &va)) {
        return false;
    }
    if ((va & 15) != 0) {
        return interp_fault_code(e, CPU_GP, 0);
    }
    if (!interp_mref(e, va, 16, X86_WRITE, &e->m)) {
        return false;
    }
    if (e->m.part[0] != NULL) {
        __asm__ volatile("lock; cmpxchg16b %1"
                         : "=@ccz"(equal), "+m"(*(u128 *)(void *)e->m.part[0]),
                           "+a"(a), "+d"(d)
                         : "b"(gpr[CPU_RBX]), "c"(gpr[CPU_RCX]) : "memory");
        gen_locked_done(e);
    } else {
        uint64_t old[2], put[2] = {gpr[CPU_RBX], gpr[CPU_RCX]};

        interp_mref_read(e, &e->m, old);
        equal = old[0] == a && old[1] == d;
        interp_mref_write(e, &e->m, equal ? put : old);
        a = old[0], d = old[1];
    }
    e->fl = (e->fl & ~0x4000u) | (equal ? 0x4000 : 0);
    if (!equal) {
        gpr[CPU_RAX] = a;
        gpr[CPU_RDX] = d;
    }
    return true;
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
    case 2: interp_set_gpr(e, CPU_RAX, 2, (uint64_t)(int8_t)a); break;
    case 4: interp_set_gpr(e, CPU_RAX, 4, (uint64_t)(int16_t)a); break;
    default: interp_set_gpr(e, CPU_RAX, 8, (uint64_t)(int32_t)a); break;
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
    case INSN_CLC: e->fl &= ~0x100u; break;
    case INSN_STC: e->fl |= 0x100; break;
    case INSN_CMC: e->fl ^= 0x100; break;
    case INSN_CLD: cpu->rflags &= ~(uint64_t)CPU_DF; break;
    case INSN_STD: cpu->rflags |= CPU_DF; break;
    case INSN_LAHF: interp_set_gpr(e, INSN_HIGH_BYTE, 1, (e->fl >> 8 & 0xd5) | 2); break;
    case INSN_SAHF: e->fl = (e->fl & 0xff) | (uint32_t)(cpu->gpr[CPU_RAX] & 0xd500) | 0x200; break;
    default: interp_set_gpr(e, CPU_RAX, 1, (e->fl & 0x100) != 0 ? 0xff : 0); break; /* SALC */
    }
    return true;
}

static void gen_set_szp(struct interp *e, uint8_t al, bool cf, bool af)
{
    (void)alu_or8(&e->fl, al, al);
    e->fl = (e->fl & 0xff) | (e->fl & 0xee00) | (cf ? 0x100 : 0) | (af ? 0x1000 : 0);
}

static bool gen_bcd_packed(struct interp *e, const struct insn *in)
{
    uint8_t al = (uint8_t)e->v->cpu.gpr[CPU_RAX], old = al;
    bool cf = (e->fl & 0x100) != 0, af = (e->fl & 0x1000) != 0, old_cf = cf;
    int sign = in->id == INSN_DAA ? 1 : -1;

    cf = false;
    if ((al & 0xf) > 9 || af) {
        cf = old_cf || (sign > 0 ? old > 0xff - 6 : old < 6);
        al = (uint8_t)(al + sign * 6);
        af = true;
    }
    if (old > 0x99 || old_cf) {
        al = (uint8_t)(al + sign * 0x60);
        cf = true;
    }
    interp_set_gpr(e, CPU_RAX, 1, al);
    gen_set_szp(e, al, cf, af);
    return true;
}

static bool gen_bcd_ascii(struct interp *e, const struct insn *in)
{
    uint16_t ax = (uint16_t)e->v->cpu.gpr[CPU_RAX];
    bool adjust = (ax & 0xf) > 9 || (e->fl & 0x1000) != 0;

    if (adjust) {
        ax = (uint16_t)(in->id == INSN_AAA ? ax + 0x106 : ax - 0x106);
    }
    ax &= 0xff0f;
    interp_set_gpr(e, CPU_RAX, 2, ax);
    gen_set_szp(e, (uint8_t)ax, adjust, adjust);
    return true;
}

static bool gen_aam_aad(struct interp *e, const struct insn *in)
{
    uint16_t ax = (uint16_t)e->v->cpu.gpr[CPU_RAX];
    uint8_t base = (uint8_t)in->imm, al = (uint8_t)ax, ah = (uint8_t)(ax >> 8);

    if (in->id == INSN_AAM) {
        if (base == 0) {
            return interp_fault(e, CPU_DE);
        }
        ah = al / base;
        al = al % base;
    } else {
        al = (uint8_t)(al + ah * base);
        ah = 0;
    }
    interp_set_gpr(e, CPU_RAX, 2, (uint64_t)(ah << 8 | al));
    gen_set_szp(e, al, false, false);
    return true;
}

static bool gen_nop(struct interp *e, const struct insn *in)
{
    (void)e, (void)in;
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
    [INSN_INVALID] = gen_undefined, [INSN_UD] = gen_undefined, [INSN_NATIVE] = interp_native,
    [INSN_ADD] = gen_alu, [INSN_OR] = gen_alu, [INSN_ADC] = gen_alu, [INSN_SBB] = gen_alu,
    [INSN_AND] = gen_alu, [INSN_SUB] = gen_alu, [INSN_XOR] = gen_alu,
    [INSN_CMP] = gen_cmp, [INSN_TEST] = gen_cmp,
    [INSN_NOT] = gen_unary, [INSN_NEG] = gen_unary, [INSN_INC] = gen_unary, [INSN_DEC] = gen_unary,
    [INSN_MUL] = gen_mul, [INSN_IMUL1] = gen_mul, [INSN_IMUL2] = gen_imul, [INSN_IMUL3] = gen_imul,
    [INSN_DIV] = gen_div, [INSN_IDIV] = gen_div,
    [INSN_ROL] = gen_shift, [INSN_ROR] = gen_shift, [INSN_RCL] = gen_shift, [INSN_RCR] = gen_shift,
    [INSN_SHL] = gen_shift, [INSN_SHR] = gen_shift, [INSN_SAR] = gen_shift,
    [INSN_SHLD] = gen_shxd, [INSN_SHRD] = gen_shxd,
    [INSN_BT] = gen_bit, [INSN_BTS] = gen_bit, [INSN_BTR] = gen_bit, [INSN_BTC] = gen_bit,
    [INSN_BSF] = gen_bitscan, [INSN_BSR] = gen_bitscan, [INSN_BSWAP] = gen_bswap,
    [INSN_XADD] = gen_xadd, [INSN_CMPXCHG] = gen_cmpxchg, [INSN_CMPXCHG8B] = gen_cmpxchg8b,
    [INSN_CMPXCHG16B] = gen_cmpxchg16b, [INSN_XCHG] = gen_xchg,
    [INSN_DAA] = gen_bcd_packed, [INSN_DAS] = gen_bcd_packed,
    [INSN_AAA] = gen_bcd_ascii, [INSN_AAS] = gen_bcd_ascii,
    [INSN_AAM] = gen_aam_aad, [INSN_AAD] = gen_aam_aad,
    [INSN_CBW] = gen_cbw, [INSN_CWD] = gen_cwd,
    [INSN_CLC] = gen_flag, [INSN_STC] = gen_flag, [INSN_CMC] = gen_flag, [INSN_CLD] = gen_flag,
    [INSN_STD] = gen_flag, [INSN_LAHF] = gen_flag, [INSN_SAHF] = gen_flag, [INSN_SALC] = gen_flag,
    [INSN_MOV] = gen_mov, [INSN_MOVNTI] = gen_mov, [INSN_MOVZX] = gen_extend,
    [INSN_MOVSX] = gen_extend, [INSN_MOVSXD] = gen_extend, [INSN_LEA] = gen_lea,
    [INSN_CMOVCC] = gen_cmov, [INSN_SETCC] = gen_setcc, [INSN_XLAT] = gen_xlat,
    [INSN_MOVBE] = gen_movbe,
    [INSN_MOVS] = interp_string, [INSN_CMPS] = interp_string, [INSN_STOS] = interp_string,
    [INSN_LODS] = interp_string, [INSN_SCAS] = interp_string,
    [INSN_NOP] = gen_nop, [INSN_PAUSE] = gen_nop, [INSN_FENCE] = gen_fence,
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
    if (unlikely(e->split_locked)) {
        e->split_locked = false;
        atomic_flag_clear_explicit(&gen_split_lock, memory_order_release);
    }
    if (ok) {
        gen_advance(e, in);
    }
    return ok;
}
