/* SPDX-License-Identifier: MIT */
/* Generic bit instructions: BT and relatives, scans, BSWAP (SDM vol. 2). */
#include "engine.h"

#include "alu.h"
#include "gen.h"

/* Opens the word that holds the bit; the offset of a register reaches beyond the operand. */
static bool gen_bit_open(struct interp *e, const struct insn *in, unsigned access,
                         uint64_t *bit)
{
    unsigned size = in->op[0].size;
    uint64_t off, va;

    *bit = interp_get(e, in, 1);
    if (in->op[0].kind != OPK_MEM) {
        return true;
    }
    off = interp_offset(e, in);
    if (in->op[1].kind == OPK_GPR) {
        int64_t n = size == 2 ? (int16_t)*bit : size == 4 ? (int32_t)*bit : (int64_t)*bit;

        off += (uint64_t)((n >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * (int64_t)size);
        off &= interp_mask(in->addrsize);
    }
    *bit &= size * 8 - 1;
    return interp_linear(e, in->seg, off, size, access, &va) &&
           interp_mref(e, va, size, access, &e->m);
}

#define GEN_BT(insn, type)                                                                     \
    do {                                                                                       \
        type ta = (type)a, tb = (type)bit;                                                     \
        __asm__(ALU_LOAD insn " %2, %0" ALU_SAVE : "+&r"(ta), "+&a"(f) : "r"(tb) : "cc");      \
        a = ta;                                                                                \
    } while (0)
#define GEN_BT_SIZES(insn)                                                                     \
    switch (size) {                                                                            \
    case 2:                                                                                    \
        GEN_BT(insn "w", uint16_t);                                                            \
        break;                                                                                 \
    case 4:                                                                                    \
        GEN_BT(insn "l", uint32_t);                                                            \
        break;                                                                                 \
    default:                                                                                   \
        GEN_BT(insn "q", uint64_t);                                                            \
        break;                                                                                 \
    }                                                                                          \
    break
#define GEN_LOCK_BT(insn, type)                                                                \
    __asm__ volatile(ALU_LOAD "lock; " insn " %2, %1" ALU_SAVE                                 \
                     : "+&a"(f), "+m"(*(interp_##type *)p)                                     \
                     : "r"((type)bit)                                                          \
                     : "cc", "memory")
#define GEN_LOCK_BT_SIZES(insn)                                                                \
    switch (size) {                                                                            \
    case 2:                                                                                    \
        GEN_LOCK_BT(insn "w", uint16_t);                                                       \
        break;                                                                                 \
    case 4:                                                                                    \
        GEN_LOCK_BT(insn "l", uint32_t);                                                       \
        break;                                                                                 \
    default:                                                                                   \
        GEN_LOCK_BT(insn "q", uint64_t);                                                       \
        break;                                                                                 \
    }                                                                                          \
    break

static void gen_bit_locked(struct interp *e, unsigned id, void *p, unsigned size, uint64_t bit)
{
    uint32_t f = e->fl;

    switch (id) {
    case INSN_BTS:
        GEN_LOCK_BT_SIZES("bts");
    case INSN_BTR:
        GEN_LOCK_BT_SIZES("btr");
    default:
        GEN_LOCK_BT_SIZES("btc");
    }
    e->fl = f;
    gen_locked_done(e);
}

bool gen_bit(struct interp *e, const struct insn *in)
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
    case INSN_BT:
        GEN_BT_SIZES("bt");
    case INSN_BTS:
        GEN_BT_SIZES("bts");
    case INSN_BTR:
        GEN_BT_SIZES("btr");
    default:
        GEN_BT_SIZES("btc");
    }
    e->fl = f;
    if (in->id != INSN_BT) {
        interp_set(e, in, 0, a);
    }
    return true;
}

/* The register keeps its old bits as the host decides (zero source, 16 and 32 bits). */
bool gen_bitscan(struct interp *e, const struct insn *in)
{
    uint64_t *dst = &e->v->cpu.gpr[in->op[0].reg];
    uint64_t a = *dst, b;
    uint32_t f = e->fl;

    if (!interp_operand(e, in, 1, X86_READ)) {
        return false;
    }
    b = interp_get(e, in, 1);
#define GEN_SCAN(insn, mod)                                                                    \
    __asm__(ALU_LOAD insn " %" mod "2, %" mod "0" ALU_SAVE                                     \
            : "+&r"(a), "+&a"(f)                                                               \
            : "r"(b)                                                                           \
            : "c"                                                                              \
              "c")
    switch (in->op[0].size * 2 + (in->id == INSN_BSR)) {
    case 4:
        GEN_SCAN("bsfw", "w");
        break;
    case 5:
        GEN_SCAN("bsrw", "w");
        break;
    case 8:
        GEN_SCAN("bsfl", "k");
        break;
    case 9:
        GEN_SCAN("bsrl", "k");
        break;
    case 16:
        GEN_SCAN("bsfq", "q");
        break;
    default:
        GEN_SCAN("bsrq", "q");
        break;
    }
    e->fl = f;
    *dst = a;
    return true;
}

bool gen_bswap(struct interp *e, const struct insn *in)
{
    uint64_t *reg = &e->v->cpu.gpr[in->op[0].reg];

    switch (in->op[0].size) {
    case 8:
        *reg = __builtin_bswap64(*reg);
        break;
    case 4:
        *reg = __builtin_bswap32((uint32_t)*reg);
        break;
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
