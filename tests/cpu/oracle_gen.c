/* SPDX-License-Identifier: MIT */
/*
 * Random instructions, and states in which they do something: memory operands mostly meet the
 * data area, divisions mostly do not overflow, stack pointers mostly point at a stack.
 *
 * Left out: system instructions (they have tests of their own), FS overrides (the host's thread
 * pointer; not in 32-bit code with segments), and RDRAND and RDSEED, whose result no two runs share.
 */
#include "oracle.h"

#include <string.h>

#include "core/cpu.h"

static uint64_t gen_value(struct oracle_rng *r)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     UINT64_MAX};
    uint64_t v = oracle_rand(r);

    switch (oracle_below(r, 6)) {
    case 0:
        return edges[v % 15];
    case 1:
        return v >> (oracle_rand(r) & 63);
    case 2:
        return (uint64_t)((int64_t)v >> (oracle_rand(r) & 63));
    default:
        return v;
    }
}

/* An address in the data area; often near the end of a page. */
static uint64_t gen_data_address(struct oracle_rng *r)
{
    uint64_t at = ORACLE_DATA;

    switch (oracle_below(r, 8)) {
    case 0:
        return at + oracle_below(r, ORACLE_DATA_SIZE);
    case 1:
        return at + oracle_below(r, 4) * 4096 - oracle_below(r, 64);
    case 2:
        return at + 4096 - oracle_below(r, 64);
    case 3:
        return (at + oracle_below(r, ORACLE_RW_SIZE - 64)) & ~7ull;
    default:
        return (at + oracle_below(r, ORACLE_RW_SIZE - 64)) & ~31ull;
    }
}

/* Never into the instruction itself: it would run for ever, or run its own middle. */
static uint64_t gen_code_address(struct oracle_rng *r, const struct oracle_case *c)
{
    uint64_t to = ORACLE_CODE + oracle_below(r, ORACLE_CODE_SIZE);

    return to - c->rip < c->len ? ORACLE_CODE : to;
}

static void gen_float(struct oracle_rng *r, uint8_t *p, unsigned size)
{
    uint64_t v = oracle_rand(r);

    switch (oracle_below(r, 6)) {
    case 0:
        v = gen_value(r);
        break;
    case 1: /* small integers as doubles */
    {
        double d = (double)(int)(v % 2001) - 1000;
        memcpy(&v, &d, 8);
    } break;
    case 2: /* floats */
    {
        float f[2] = {(float)(int)(v % 2001) - 1000, (float)(int)(v >> 40) / 3};
        memcpy(&v, f, 8);
    } break;
    case 3: /* special: infinities, NaNs, denormals */
        v = (v & 0x800fffffffffffff) | (oracle_below(r, 2) != 0 ? 0x7ff0000000000000 : 0);
        break;
    default:
        break;
    }
    memcpy(p, &v, size < 8 ? size : 8);
}

static void gen_x87(struct oracle_rng *r, uint8_t *x)
{
    uint16_t fcw = 0x37f, fsw = 0;

    if (oracle_below(r, 4) == 0) {
        fcw = (uint16_t)((oracle_rand(r) & 0xf3f) | 0x40);
    }
    if (oracle_below(r, 2) == 0) {
        fsw = (uint16_t)(oracle_rand(r) & 0x7f7f);
        if ((fsw & ~fcw & 0x3f) != 0) {
            fsw |= 0x8080;
        }
        if (oracle_below(r, 8) != 0 && (fsw & 0x80) != 0) {
            fsw &= (uint16_t)~0x80ff; /* a pending exception only now and then */
        }
    }
    memcpy(x, &fcw, 2);
    memcpy(x + 2, &fsw, 2);
    x[4] = oracle_below(r, 3) != 0 ? 0xff : (uint8_t)oracle_rand(r);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t m = oracle_rand(r);
        uint16_t e = (uint16_t)oracle_rand(r);

        if (oracle_below(r, 4) != 0) {
            e = (uint16_t)((e & 0x8000) | (0x3ff8 + oracle_below(r, 80)));
            m |= 1ull << 63;
        }
        memcpy(x + 32 + 16 * i, &m, 8);
        memcpy(x + 40 + 16 * i, &e, 2);
    }
}

/* Bits of MXCSR that this machine has: AMD's have MM. */
static uint32_t gen_mxcsr_mask(void)
{
    static uint32_t mask;
    _Alignas(16) uint8_t area[512] = {0};

    if (mask == 0) {
        __asm__ volatile("fxsave64 %0" : "=m"(area));
        memcpy(&mask, area + 28, 4);
        mask |= 0xffff;
    }
    return mask;
}

static void gen_vectors(struct oracle_rng *r, struct oracle_state *s)
{
    static const uint64_t header = 7;
    uint32_t mxcsr = 0x1f80;

    memset(s->xsave, 0, sizeof(s->xsave));
    gen_x87(r, s->xsave);
    if (oracle_below(r, 4) == 0) {
        mxcsr = (uint32_t)oracle_rand(r) & gen_mxcsr_mask();
        mxcsr |= oracle_below(r, 2) != 0 ? 0x1f80 : 0;
    }
    memcpy(s->xsave + 24, &mxcsr, 4);
    memcpy(s->xsave + 512, &header, 8);
    for (unsigned i = 0; i < 16; i++) {
        bool floats = oracle_below(r, 2) != 0;

        for (unsigned k = 0; k < 2; k++) {
            if (floats) {
                gen_float(r, s->xsave + 160 + 16 * i + 8 * k, 8);
                gen_float(r, s->xsave + 576 + 16 * i + 8 * k, 8);
            } else {
                uint64_t a = gen_value(r), b = gen_value(r);

                memcpy(s->xsave + 160 + 16 * i + 8 * k, &a, 8);
                memcpy(s->xsave + 576 + 16 * i + 8 * k, &b, 8);
            }
        }
    }
}

/* Indices of a gather: small, so that base + index * scale stays near the data area. */
static void gen_gather_index(struct oracle_rng *r, struct oracle_case *c)
{
    const struct insn *in = &c->in;
    unsigned isize = (in->opcode & 1) != 0 ? 8 : 4;

    for (unsigned i = 0; i < 32 / isize; i++) {
        int64_t v = (int)oracle_below(r, 512);
        unsigned byte = i * isize;
        uint8_t *p = byte < 16 ? c->start.xsave + 160 + 16 * in->index + byte
                               : c->start.xsave + 576 + 16 * in->index + byte - 16;

        if (oracle_below(r, 64) == 0) {
            v = (int64_t)gen_value(r);
        }
        memcpy(p, &v, isize);
    }
}

/* Sets registers (or the displacement in the bytes) so that the memory operand is at `to`. */
static void gen_aim(struct oracle_rng *r, struct oracle_case *c, uint64_t to)
{
    const struct insn *in = &c->in;
    uint64_t *gpr = c->start.gpr;
    uint64_t rest;

    if (in->seg == CPU_GS) {
        to -= ORACLE_GS_BASE;
    }
    if (in->base == INSN_REG_RIP || in->base == INSN_NO_REG) {
        int64_t disp = (int64_t)(to - (in->base == INSN_REG_RIP ? c->rip + c->len : 0));

        if (in->disp_len == 4) {
            int32_t d = (int32_t)disp;

            if (in->index != INSN_NO_REG && (in->flags & INSN_F_VSIB) == 0) {
                gpr[in->index] = oracle_below(r, 64);
                d -= (int32_t)(gpr[in->index] * in->scale);
            }
            memcpy(c->bytes + in->disp_off, &d, 4);
        } else if (in->disp_len == 8) {
            memcpy(c->bytes + in->disp_off, &disp, 8);
        }
        return;
    }
    rest = to - (uint64_t)in->disp;
    if (in->index != INSN_NO_REG && (in->flags & INSN_F_VSIB) == 0) {
        if (in->index == in->base) {
            gpr[in->base] = rest / (in->scale + 1u);
            return;
        }
        if (oracle_below(r, 2) != 0) {
            gpr[in->index] = (uint64_t)((int64_t)oracle_rand(r) >> 40);
        }
        rest -= gpr[in->index] * in->scale;
    }
    gpr[in->base] = rest;
}

static void gen_flow(struct oracle_rng *r, struct oracle_case *c, uint8_t *data)
{
    uint64_t *gpr = c->start.gpr;
    const struct insn *in = &c->in;

    switch (in->id) {
    case INSN_PUSH:
    case INSN_POP:
    case INSN_PUSHA:
    case INSN_POPA:
    case INSN_CALL:
    case INSN_RET:
    case INSN_ENTER:
    case INSN_LEAVE:
        if (oracle_below(r, 16) != 0) {
            gpr[CPU_RSP] = gen_data_address(r);
        }
        if (oracle_below(r, 4) != 0) {
            gpr[CPU_RBP] = gen_data_address(r);
        }
        if (in->id == INSN_RET && oracle_below(r, 2) != 0 &&
            gpr[CPU_RSP] - ORACLE_DATA < ORACLE_DATA_SIZE - 8) {
            uint64_t to = gen_code_address(r, c);

            memcpy(data + (gpr[CPU_RSP] - ORACLE_DATA), &to, 8);
        }
        break;
    case INSN_LOOP:
    case INSN_LOOPE:
    case INSN_LOOPNE:
    case INSN_JCXZ:
        if (oracle_below(r, 2) != 0) {
            gpr[CPU_RCX] = oracle_below(r, 3);
        }
        break;
    default:
        break;
    }
    if ((in->id == INSN_JMP || in->id == INSN_CALL) && in->op[0].kind == OPK_GPR &&
        oracle_below(r, 4) != 0) {
        gpr[in->op[0].reg] = gen_code_address(r, c);
    }
}

static void gen_string(struct oracle_rng *r, struct oracle_case *c)
{
    uint64_t *gpr = c->start.gpr;

    gpr[CPU_RSI] = gen_data_address(r);
    gpr[CPU_RDI] =
        oracle_below(r, 3) == 0 ? gpr[CPU_RSI] + oracle_below(r, 32) - 16 : gen_data_address(r);
    if (oracle_below(r, 32) != 0) {
        gpr[CPU_RCX] = oracle_below(r, 4) == 0 ? oracle_below(r, 8000) : oracle_below(r, 20);
    }
}

/* How instructions want their registers. */
static void gen_registers(struct oracle_rng *r, struct oracle_case *c, uint8_t *data)
{
    const struct insn *in = &c->in;
    uint64_t *gpr = c->start.gpr;
    bool mem = insn_mem_operand(in) != NULL;

    switch (in->id) {
    case INSN_DIV:
    case INSN_IDIV:
        if (oracle_below(r, 4) != 0) {
            gpr[CPU_RDX] = oracle_below(r, 2) != 0 ? oracle_below(r, 100)
                                                   : (uint64_t) - (int64_t)oracle_below(r, 3);
            if (in->op[0].size == 1) {
                gpr[CPU_RAX] = oracle_below(r, 0x800);
            }
        }
        break;
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        if (in->op[1].kind == OPK_GPR && oracle_below(r, 8) != 0) {
            gpr[in->op[1].reg & 15] = (uint64_t)((int64_t)oracle_rand(r) >> 50);
        }
        break;
    case INSN_CMPXCHG:
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B:
        if (in->op[0].kind == OPK_GPR && oracle_below(r, 2) != 0) {
            gpr[CPU_RAX] = gpr[in->op[0].reg & 15];
        }
        break;
    case INSN_MOVS:
    case INSN_CMPS:
    case INSN_STOS:
    case INSN_LODS:
    case INSN_SCAS:
        gen_string(r, c);
        break;
    case INSN_XLAT:
        gpr[CPU_RBX] = gen_data_address(r);
        break;
    default:
        break;
    }
    if ((in->flags & INSN_F_MEM_IMPLICIT) != 0) {
        gpr[CPU_RDI] = gen_data_address(r);
    }
    if ((in->flags & INSN_F_VSIB) != 0) {
        gen_gather_index(r, c);
    }
    gen_flow(r, c, data);
    if (mem && oracle_below(r, 32) != 0) {
        gen_aim(r, c, gen_data_address(r));
    }
}

/* What the accumulator is compared with should be equal now and then. */
static void gen_operand_values(struct oracle_rng *r, struct oracle_case *c, uint8_t *data)
{
    uint64_t off = x86_effective_address(&(struct cpu_x86){0}, &c->in, 0);
    uint64_t *gpr = c->start.gpr;

    (void)off;
    if (c->in.id == INSN_CMPXCHG8B || c->in.id == INSN_CMPXCHG16B) {
        unsigned half = c->in.id == INSN_CMPXCHG8B ? 4 : 8;
        unsigned at = oracle_below(r, ORACLE_RW_SIZE - 64) & ~15u;

        if (oracle_below(r, 2) != 0) {
            memcpy(&gpr[CPU_RAX], data + at, half);
            memcpy(&gpr[CPU_RDX], data + at + half, half);
            if (c->in.base != CPU_RAX && c->in.base != CPU_RDX && c->in.index != CPU_RAX &&
                c->in.index != CPU_RDX) {
                gen_aim(r, c, ORACLE_DATA + at);
            }
        }
    }
}

static void gen_state(struct oracle_rng *r, struct oracle_case *c, uint8_t *data)
{
    for (unsigned i = 0; i < 16; i++) {
        c->start.gpr[i] = gen_value(r);
    }
    c->start.rflags = (oracle_rand(r) & CPU_STATUS_FLAGS) | 2 | CPU_IF;
    if (oracle_below(r, 8) == 0) {
        c->start.rflags |= CPU_DF;
    }
    gen_vectors(r, &c->start);
    for (unsigned i = 0; i < 4; i++) {
        gen_float(r, data + (oracle_below(r, ORACLE_DATA_SIZE - 8)), 8);
    }
    gen_registers(r, c, data);
    gen_operand_values(r, c, data);
    for (unsigned i = 0; c->mode == INSN_MODE_32 && i < 16; i++) {
        c->start.gpr[i] = i < 8 ? (uint32_t)c->start.gpr[i] : 0;
    }
}

static void gen_rip(struct oracle_rng *r, struct oracle_case *c)
{
    unsigned at = 64 + oracle_below(r, 3900);

    if (oracle_below(r, 16) == 0) {
        at = 4096 - oracle_below(r, 16);
    }
    c->rip = ORACLE_CODE + at;
}

/* Of 32-bit code with segments. */
static unsigned gen_prefixes32(struct oracle_rng *r, uint8_t *b, bool vex)
{
    static const uint8_t legacy[] = {0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf3, 0x67, 0xf0,
                                     0x65, 0x64, 0x64, 0x2e, 0x36, 0x3e, 0x26};
    unsigned n = 0;

    while (oracle_below(r, 5) < 2 && n < 4) {
        uint8_t p = legacy[oracle_below(r, sizeof(legacy))];

        if (!vex || (p != 0x66 && p < 0xf0)) {
            b[n++] = p;
        }
    }
    return n;
}

static unsigned gen_prefixes(struct oracle_rng *r, uint8_t *b, bool vex, bool rex)
{
    static const uint8_t legacy[] = {0x66, 0x66, 0xf2, 0xf3, 0xf3,
                                     0x65, 0x2e, 0x67, 0xf0, 0x36};
    unsigned n = 0;

    while (oracle_below(r, 5) < 2 && n < 4) {
        uint8_t p = legacy[oracle_below(r, sizeof(legacy))];

        if (vex && p != 0x65 && p != 0x67) {
            continue;
        }
        b[n++] = p;
    }
    if (rex && !vex && oracle_below(r, 2) != 0) {
        b[n++] = 0x40 | (uint8_t)(oracle_rand(r) & 15);
    }
    return n;
}

static unsigned gen_opcode(struct oracle_rng *r, const struct oracle_case *c, uint8_t *b)
{
    unsigned n = 0, map = oracle_below(r, 12);
    bool rex = c->mode == INSN_MODE_64;

    if (map >= 8) { /* VEX */
        n = c->segments ? gen_prefixes32(r, b, true) : gen_prefixes(r, b, true, rex);
        if (oracle_below(r, 4) == 0) {
            b[n++] = 0xc5;
            b[n++] = (uint8_t)oracle_rand(r);
        } else {
            b[n++] = 0xc4;
            b[n++] = (uint8_t)((oracle_rand(r) & 0xe0) | (1 + oracle_below(r, 3)));
            b[n++] = (uint8_t)oracle_rand(r);
        }
        if (oracle_below(r, 3) == 0) {
            b[n - 1] |= 0x78; /* no vvvv */
        }
    } else {
        n = c->segments ? gen_prefixes32(r, b, false) : gen_prefixes(r, b, false, rex);
        if (map >= 4) {
            b[n++] = 0x0f;
        }
        if (map == 6) {
            b[n++] = 0x38;
        } else if (map == 7) {
            b[n++] = 0x3a;
        }
    }
    b[n++] = (uint8_t)oracle_rand(r);
    return n;
}

static bool gen_wanted(const struct cpu_model *model, const struct insn *in, bool segments)
{
    if (in->id == INSN_INVALID || in->id >= INSN_SYSTEM_FIRST ||
        (in->seg == CPU_FS && !segments)) {
        return false;
    }
    if (in->feature == INSN_FEAT_RDRAND || in->feature == INSN_FEAT_RDSEED) {
        return false;
    }
    if (in->feature != INSN_FEAT_BASE && !cpu_model_has(model, in->feature)) {
        return false;
    }
    if (in->mode != INSN_MODE_64) {
        return in->seg != CPU_GS || segments; /* else null on the host */
    }
    /* Near branches with 66 differ by vendor and the decoder follows Intel. */
    return (in->flags & INSN_F_BRANCH) == 0 || (in->prefixes & INSN_P_66) == 0;
}

bool oracle_prepare(struct oracle_rng *r, struct oracle_case *c, const uint8_t *bytes,
                    unsigned len, uint8_t *data)
{
    memcpy(c->bytes, bytes, len);
    if (insn_decode(&c->in, c->mode, bytes, len) != INSN_OK) {
        return false;
    }
    c->len = c->in.len;
    gen_rip(r, c);
    if (c->in.op[0].kind == OPK_REL && (uint64_t)(c->in.imm + c->len) < c->len) {
        return false;
    }
    gen_state(r, c, data);
    return insn_decode(&c->in, c->mode, c->bytes, c->len) == INSN_OK;
}

bool oracle_generate(struct oracle_rng *r, const struct cpu_model *model, struct oracle_case *c,
                     uint8_t *data)
{
    uint8_t b[32];
    unsigned n = gen_opcode(r, c, b);

    for (unsigned i = n; i < sizeof(b); i++) {
        b[i] = (uint8_t)oracle_rand(r);
    }
    if (oracle_below(r, 3) == 0) {
        b[n] |= 0xc0; /* registers */
    }
    if (insn_decode(&c->in, c->mode, b, 15) != INSN_OK || !gen_wanted(model, &c->in, c->segments)) {
        return false;
    }
    return oracle_prepare(r, c, b, c->in.len, data);
}

bool oracle_half_operand(const struct insn *in, const struct oracle_state *fault)
{
    enum { MXCSR_MM = 1 << 17 };
    uint32_t mxcsr;

    memcpy(&mxcsr, fault->xsave + 24, sizeof(mxcsr));
    if (fault->vector != CPU_PAGE_FAULT || (fault->cr2 & 4095) != 0 || (mxcsr & MXCSR_MM) == 0 ||
        (in->flags & INSN_F_ALIGNED) == 0 || in->map != INSN_MAP_0F) {
        return false;
    }
    switch (in->opcode) {
    case 0x14:
    case 0x60:
    case 0x61:
    case 0x62:
    case 0x6c:
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xe1:
    case 0xe2:
    case 0xf1:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return false;
    }
}
