/* SPDX-License-Identifier: MIT */
/*
 * The decoder's tricky corners, one behaviour per test. The broad comparison is
 * tests/cpu/decode_zydis.c.
 */
#include <glib.h>
#include <string.h>

#include "core/cpu.h"
#include "cpu/x86/decode.h"
#include "cpu/x86/decode_tables.h"

#define B(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static struct insn decode(enum insn_mode mode, const uint8_t *bytes, size_t n)
{
    struct insn in;

    g_assert_cmpint(insn_decode(&in, mode, bytes, n), ==, INSN_OK);
    return in;
}

/* A valid instruction of exactly n bytes. */
static struct insn decode_ok(enum insn_mode mode, const uint8_t *bytes, size_t n)
{
    struct insn in = decode(mode, bytes, n);

    g_assert_cmpint(in.id, !=, INSN_INVALID);
    g_assert_cmpint(in.len, ==, n);
    g_assert_cmpmem(in.bytes, in.len, bytes, n);
    return in;
}

static void expect_invalid(enum insn_mode mode, const uint8_t *bytes, size_t n)
{
    struct insn in = decode(mode, bytes, n);

    g_assert_cmpstr(insn_name(in.id), ==, "invalid");
    g_assert_cmpint(in.nr_operands, ==, 0);
    g_assert_cmpint(in.len, >=, 1);
}

static void expect_op(const struct insn *in, unsigned i, enum insn_operand_kind kind,
                      unsigned reg, unsigned size, unsigned access)
{
    g_assert_cmpint(in->nr_operands, >, i);
    g_assert_cmpint(in->op[i].kind, ==, kind);
    g_assert_cmpint(in->op[i].reg, ==, reg);
    g_assert_cmpint(in->op[i].size, ==, size);
    g_assert_cmpint(in->op[i].access, ==, access);
}

static unsigned mem_size(enum insn_mode mode, const uint8_t *bytes, size_t n)
{
    struct insn in = decode_ok(mode, bytes, n);

    g_assert_nonnull(insn_mem_operand(&in));
    return insn_mem_operand(&in)->size;
}

static void test_operand_size(void)
{
    g_assert_cmpint(decode_ok(INSN_MODE_16, B(0x01, 0xc8)).opsize, ==, 2);
    g_assert_cmpint(decode_ok(INSN_MODE_16, B(0x66, 0x01, 0xc8)).opsize, ==, 4);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x66, 0x01, 0xc8)).opsize, ==, 2);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x01, 0xc8)).opsize, ==, 4);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x66, 0x48, 0x01, 0xc8)).opsize, ==, 8);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x00, 0xc8)).opsize, ==, 1);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xee)).opsize, ==, 1);       /* OUT DX, AL */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0xef)).opsize, ==, 4); /* OUT DX, EAX */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x6d)).opsize, ==, 4); /* INSD */
}

static void test_default_64(void)
{
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x50)).opsize, ==, 8);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x66, 0x50)).opsize, ==, 2);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x66, 0x48, 0x50)).opsize, ==, 8);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xff, 0xd0)).opsize, ==, 8);       /* CALL RAX */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x66, 0xff, 0xd0)).opsize, ==, 8); /* as Intel */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xcf)).opsize, ==, 4);             /* IRETD */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0xcf)).opsize, ==, 8);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x66, 0xe8, 0, 0)).opsize, ==, 2);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x66, 0xe8, 0, 0, 0, 0)).len, ==, 6);
}

static void test_immediates(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0x48, 0x83, 0xc0, 0xff));

    g_assert_cmphex(in.imm, ==, UINT64_MAX);
    expect_op(&in, 1, OPK_IMM, 0, 8, OPA_READ);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0x83, 0xc0, 0xff)).imm, ==, 0xffffffff);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0x66, 0x83, 0xc0, 0xff)).imm, ==, 0xffff);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0x04, 0xff)).imm, ==, 0xff);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0x6a, 0x80)).imm, ==, 0xffffffffffffff80);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0xc1, 0xe0, 0xff)).imm, ==, 0xff);
    g_assert_cmphex(decode_ok(INSN_MODE_64, B(0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8)).imm, ==,
                    0x0807060504030201);
    in = decode_ok(INSN_MODE_64, B(0xd1, 0xe0)); /* SHL EAX, 1: nothing in the bytes */
    g_assert_cmphex(in.imm, ==, 1);
    g_assert_cmpint(in.imm_len, ==, 0);
    in = decode_ok(INSN_MODE_64, B(0xc8, 0x34, 0x12, 0x05)); /* ENTER */
    g_assert_cmphex(in.imm, ==, 0x1234);
    g_assert_cmphex(in.imm2, ==, 5);
    g_assert_cmpint(in.imm_len, ==, 3);
}

static void test_branches(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0x75, 0xfe));

    g_assert_cmpint(in.id, ==, INSN_JCC);
    g_assert_cmpint(in.cond, ==, 5);
    g_assert_cmphex(in.imm, ==, (uint64_t)-2);
    g_assert_cmpint(in.op[0].kind, ==, OPK_REL);
    g_assert_true(in.flags & INSN_F_BRANCH && in.flags & INSN_F_COND);
    g_assert_true(in.flags & INSN_F_READS_FLAGS);
    in = decode_ok(INSN_MODE_32, B(0x9a, 0x78, 0x56, 0x34, 0x12, 0x08, 0x00));
    g_assert_cmpint(in.op[0].kind, ==, OPK_FAR);
    g_assert_cmphex(in.imm, ==, 0x12345678);
    g_assert_cmphex(in.imm2, ==, 8);
    in = decode_ok(INSN_MODE_16, B(0xea, 0x34, 0x12, 0x00, 0xf0));
    g_assert_cmphex(in.imm, ==, 0x1234);
    g_assert_cmphex(in.imm2, ==, 0xf000);
    expect_invalid(INSN_MODE_64, B(0x9a, 0, 0, 0, 0, 0, 0));
    g_assert_cmpint(mem_size(INSN_MODE_64, B(0x48, 0xff, 0x28)), ==, 10); /* JMP m16:64 */
    expect_invalid(INSN_MODE_64, B(0xff, 0xe8));                          /* JMP FAR register */
}

static void test_high_byte(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0x88, 0xe0)); /* MOV AL, AH */

    expect_op(&in, 0, OPK_GPR, CPU_RAX, 1, OPA_WRITE);
    expect_op(&in, 1, OPK_GPR, INSN_HIGH_BYTE | 0, 1, OPA_READ);
    in = decode_ok(INSN_MODE_64, B(0x40, 0x88, 0xe0)); /* MOV AL, SPL */
    expect_op(&in, 1, OPK_GPR, CPU_RSP, 1, OPA_READ);
}

static void test_rex_position(void)
{
    /* Only a REX directly before the opcode counts. */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x66, 0x01, 0xc8)).opsize, ==, 2);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x41, 0x01, 0xc8)).rex, ==, INSN_REX_B);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x48)).id, ==, INSN_DEC);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x90)).id, ==, INSN_NOP);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x90)).id, ==, INSN_NOP);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x41, 0x90)).id, ==, INSN_XCHG);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xf3, 0x90)).id, ==, INSN_PAUSE);
}

static void test_prefix_order(void)
{
    /* The last of F2 and F3 wins, and then 66 is no mandatory prefix. */
    struct insn in = decode_ok(INSN_MODE_64, B(0xf2, 0xf3, 0x0f, 0x10, 0x00));

    g_assert_cmpint(insn_mem_operand(&in)->size, ==, 4); /* MOVSS */
    in = decode_ok(INSN_MODE_64, B(0xf3, 0xf2, 0x0f, 0x10, 0x00));
    g_assert_cmpint(insn_mem_operand(&in)->size, ==, 8); /* MOVSD */
    in = decode_ok(INSN_MODE_64, B(0x66, 0xf3, 0x0f, 0x6f, 0x00));
    g_assert_false(in.flags & INSN_F_ALIGNED); /* MOVDQU */
    in = decode_ok(INSN_MODE_64, B(0xf2, 0xf3, 0xa4));
    g_assert_cmpint(in.prefixes, ==, INSN_P_REP);
    in = decode_ok(INSN_MODE_64, B(0x66, 0xf2, 0x0f, 0x38, 0xf1, 0x00)); /* CRC32 r32, m16 */
    expect_op(&in, 1, OPK_MEM, 0, 2, OPA_READ);
    in = decode_ok(INSN_MODE_64, B(0x66, 0xf3, 0x0f, 0xb8, 0xc1)); /* POPCNT AX, CX */
    expect_op(&in, 0, OPK_GPR, CPU_RAX, 2, OPA_WRITE);
}

static void test_segments(void)
{
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x8b, 0x00)).seg, ==, CPU_DS);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x8b, 0x04, 0x24)).seg, ==, CPU_SS);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x8b, 0x45, 0x00)).seg, ==, CPU_SS);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x41, 0x8b, 0x45, 0x00)).seg, ==,
                    CPU_DS); /* R13 */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x64, 0x8b, 0x00)).seg, ==, CPU_FS);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x64, 0x2e, 0x8b, 0x00)).seg, ==, CPU_FS);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x2e, 0x8b, 0x00)).seg, ==, CPU_DS);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x2e, 0x8b, 0x45, 0x00)).seg, ==, CPU_CS);
    g_assert_cmpint(decode_ok(INSN_MODE_16, B(0x8b, 0x02)).seg, ==, CPU_SS); /* [BP+SI] */
    g_assert_cmpint(decode_ok(INSN_MODE_16, B(0x26, 0xa4)).seg, ==, CPU_ES); /* MOVSB ES:[SI] */
}

static void test_addresses(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0x48, 0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff));

    g_assert_cmpint(in.base, ==, INSN_REG_RIP);
    g_assert_cmpint(in.disp, ==, -16);
    g_assert_cmpint(in.disp_off, ==, 3);
    in = decode_ok(INSN_MODE_32, B(0x8b, 0x05, 0, 0x10, 0, 0));
    g_assert_cmpint(in.base, ==, INSN_NO_REG);
    g_assert_cmpint(in.disp, ==, 0x1000);
    in = decode_ok(INSN_MODE_64, B(0x8b, 0x44, 0xa5, 0x80)); /* [RBP-128], index 4 is none */
    g_assert_cmpint(in.base, ==, CPU_RBP);
    g_assert_cmpint(in.index, ==, INSN_NO_REG);
    g_assert_cmpint(in.disp, ==, -128);
    in = decode_ok(INSN_MODE_64, B(0x42, 0x8b, 0x04, 0xa0)); /* [RAX+R12*4] */
    g_assert_cmpint(in.index, ==, CPU_R12);
    g_assert_cmpint(in.scale, ==, 4);
    in = decode_ok(INSN_MODE_64,
                   B(0x67, 0x41, 0x8b, 0x04, 0x25, 1, 0, 0, 0)); /* no base at all */
    g_assert_cmpint(in.base, ==, INSN_NO_REG);
    g_assert_cmpint(in.addrsize, ==, 4);
    in = decode_ok(INSN_MODE_16, B(0x8b, 0x06, 0x34, 0x12));
    g_assert_cmpint(in.base, ==, INSN_NO_REG);
    g_assert_cmpint(in.disp, ==, 0x1234);
    in = decode_ok(INSN_MODE_64, B(0xa0, 1, 2, 3, 4, 5, 6, 7, 8)); /* moffs */
    expect_op(&in, 1, OPK_MEM, 0, 1, OPA_READ);
    g_assert_cmphex((uint64_t)in.disp, ==, 0x0807060504030201);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x67, 0xa1, 1, 2, 3, 4)).disp_len, ==, 4);
}

static void test_lock(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0xf0, 0x01, 0x08));

    g_assert_true(in.flags & INSN_F_LOCKABLE);
    g_assert_cmpint(in.prefixes, ==, INSN_P_LOCK);
    decode_ok(INSN_MODE_64, B(0xf0, 0x0f, 0xc7, 0x08));
    decode_ok(INSN_MODE_64, B(0xf0, 0x87, 0x08));
    expect_invalid(INSN_MODE_64, B(0xf0, 0x01, 0xc8));          /* register destination */
    expect_invalid(INSN_MODE_64, B(0xf0, 0x03, 0x08));          /* memory is the source */
    expect_invalid(INSN_MODE_64, B(0xf0, 0x39, 0x08));          /* CMP */
    expect_invalid(INSN_MODE_64, B(0xf0, 0x0f, 0xba, 0x20, 1)); /* BT */
    expect_invalid(INSN_MODE_64, B(0xf0, 0x90));
}

static void test_length_limit(void)
{
    uint8_t b[20];
    struct insn in;

    memset(b, 0x66, sizeof(b));
    b[14] = 0x90;
    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, b, sizeof(b)), ==, INSN_OK);
    g_assert_cmpint(in.len, ==, 15);
    b[14] = 0x66;
    b[15] = 0x90;
    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, b, sizeof(b)), ==, INSN_TOO_LONG);
    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, b, 14), ==, INSN_MORE);
    memset(b, 0x26, 10);
    memcpy(b + 10, (uint8_t[]){0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0}, 10);
    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, b, sizeof(b)), ==, INSN_TOO_LONG);
}

static void test_more(void)
{
    static const struct {
        uint8_t len, bytes[15];
    } list[] = {
        {1, {0x90}},
        {8, {0x48, 0x8b, 0x84, 0x24, 1, 2, 3, 4}},
        {6, {0x66, 0x48, 0x0f, 0x38, 0xf6, 0xc1}},
        {10, {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}},
        {9, {0xa0, 1, 2, 3, 4, 5, 6, 7, 8}},
        {4, {0xc8, 1, 2, 3}},
        {10, {0xc4, 0xe3, 0x79, 0x61, 0x84, 0x24, 1, 2, 3, 4}},
        {11, {0x62, 0xf1, 0x7c, 0x48, 0x58, 0x84, 0x24, 1, 2, 3, 4}},
    };
    struct insn in;
    unsigned i, n;

    for (i = 0; i < G_N_ELEMENTS(list); i++) {
        for (n = 0; n < list[i].len; n++) {
            g_assert_cmpint(insn_decode(&in, INSN_MODE_64, list[i].bytes, n), ==, INSN_MORE);
        }
    }
}

static void test_vex_or_les(void)
{
    struct insn in = decode_ok(INSN_MODE_32, B(0xc4, 0x08)); /* LES ECX, [EAX] */

    g_assert_cmpint(in.id, ==, INSN_LES);
    expect_op(&in, 1, OPK_MEM, 0, 6, OPA_READ);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x62, 0x08)).id, ==, INSN_BOUND);
    in = decode_ok(INSN_MODE_32, B(0xc5, 0xfc, 0x58, 0xc1)); /* VADDPS */
    g_assert_cmpint(in.encoding, ==, INSN_ENC_VEX);
    expect_op(&in, 0, OPK_VEC, 0, 32, OPA_WRITE);
    g_assert_true(in.flags & INSN_F_NO_REAL);
    g_assert_cmpint(decode_ok(INSN_MODE_32, B(0x8f, 0x00)).id, ==, INSN_POP);
    expect_invalid(INSN_MODE_64, B(0x8f, 0x60, 0x00));
}

static void test_vex_rules(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0xc4, 0xc1, 0x7a, 0x10, 0x01)); /* VMOVSS [R9] */

    g_assert_cmpint(in.base, ==, CPU_R9);
    expect_op(&in, 1, OPK_MEM, 0, 4, OPA_READ);
    expect_invalid(INSN_MODE_64, B(0xc4, 0xc1, 0x72, 0x10, 0x01)); /* vvvv must be 1111 */
    expect_invalid(INSN_MODE_64, B(0x66, 0xc5, 0xfc, 0x58, 0xc1));
    expect_invalid(INSN_MODE_64, B(0xf3, 0xc5, 0xfc, 0x58, 0xc1));
    expect_invalid(INSN_MODE_64, B(0xf0, 0xc5, 0xfc, 0x58, 0xc1));
    expect_invalid(INSN_MODE_64, B(0x40, 0xc5, 0xfc, 0x58, 0xc1));
    decode_ok(INSN_MODE_64, B(0x64, 0x67, 0xc5, 0xfc, 0x58, 0x00));
    expect_invalid(INSN_MODE_64, B(0xc5, 0xfc, 0x13, 0x00)); /* VMOVLPS has L0 only */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xc5, 0xfd, 0xfc, 0xc1)).feature, ==,
                    INSN_FEAT_AVX2);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xc5, 0xf9, 0xfc, 0xc1)).feature, ==,
                    INSN_FEAT_AVX);
}

static void test_gather(void)
{
    struct insn in = decode_ok(INSN_MODE_64, B(0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x48));

    g_assert_true(in.flags & INSN_F_VSIB);
    expect_op(&in, 0, OPK_VEC, 0, 32, OPA_RW);
    expect_op(&in, 1, OPK_MEM, 0, 4, OPA_READ);
    expect_op(&in, 2, OPK_VEC, 2, 32, OPA_RW);
    g_assert_cmpint(in.index, ==, 1);
    g_assert_cmpint(in.scale, ==, 2);
    in = decode_ok(INSN_MODE_64, B(0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x60)); /* index 4 is YMM4 */
    g_assert_cmpint(in.index, ==, 4);
    expect_invalid(INSN_MODE_64,
                   B(0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x40));         /* index = destination */
    expect_invalid(INSN_MODE_64, B(0xc4, 0xe2, 0x6d, 0x90, 0x00)); /* no SIB */
}

static void test_native_memory_sizes(void)
{
    static const struct {
        uint8_t size, len, bytes[8];
    } list[] = {
        {2, 2, {0xd9, 0x28}},  /* FLDCW */
        {10, 2, {0xdb, 0x28}}, /* FLD m80 */
        {28, 2, {0xd9, 0x30}}, /* FNSTENV */
        {14, 3, {0x66, 0xd9, 0x30}},
        {108, 2, {0xdd, 0x30}}, /* FNSAVE */
        {94, 3, {0x66, 0xdd, 0x30}},
        {2, 2, {0xdd, 0x38}},       /* FNSTSW */
        {10, 2, {0xdf, 0x20}},      /* FBLD */
        {4, 3, {0x0f, 0xae, 0x10}}, /* LDMXCSR */
        {4, 3, {0x0f, 0x60, 0x00}}, /* PUNPCKLBW mm */
        {16, 4, {0x66, 0x0f, 0x60, 0x00}},
        {2, 5, {0x66, 0x0f, 0x38, 0x22, 0x00}},    /* PMOVSXBQ */
        {4, 5, {0xc4, 0xe2, 0x7d, 0x22, 0x00}},    /* 256 bits */
        {4, 5, {0xc4, 0xe2, 0x7d, 0x18, 0x00}},    /* VBROADCASTSS */
        {16, 5, {0xc4, 0xe2, 0x7d, 0x1a, 0x00}},   /* VBROADCASTF128 */
        {1, 6, {0x66, 0x0f, 0x3a, 0x14, 0x00, 1}}, /* PEXTRB */
        {2, 5, {0x66, 0x0f, 0xc4, 0x00, 1}},       /* PINSRW */
        {8, 4, {0xf2, 0x0f, 0x5a, 0x00}},          /* CVTSD2SS */
        {32, 4, {0xc5, 0xfd, 0x5a, 0x00}},         /* VCVTPD2PS */
        {16, 4, {0xc5, 0xfe, 0xe6, 0x00}},         /* VCVTDQ2PD */
        {8, 4, {0xc5, 0xfb, 0x12, 0x00}},          /* VMOVDDUP 128 */
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(list); i++) {
        g_assert_cmpint(mem_size(INSN_MODE_64, list[i].bytes, list[i].len), ==, list[i].size);
    }
}

static void test_native_implicit(void)
{
    struct insn in =
        decode_ok(INSN_MODE_64, B(0x66, 0x0f, 0x3a, 0x61, 0xc1, 0x0c)); /* PCMPESTRI */

    g_assert_cmpint(in.id, ==, INSN_NATIVE);
    expect_op(&in, 3, OPK_GPR, CPU_RAX, 4, OPA_READ);
    expect_op(&in, 4, OPK_GPR, CPU_RDX, 4, OPA_READ);
    expect_op(&in, 5, OPK_GPR, CPU_RCX, 4, OPA_WRITE);
    g_assert_true(in.flags & INSN_F_WRITES_FLAGS);
    in = decode_ok(INSN_MODE_64, B(0xc4, 0xe2, 0xfb, 0xf6, 0xc1)); /* MULX */
    expect_op(&in, 3, OPK_GPR, CPU_RDX, 8, OPA_READ);
    g_assert_false(in.flags & INSN_F_AVX);
    in = decode_ok(INSN_MODE_64, B(0xdf, 0xe0)); /* FNSTSW AX */
    expect_op(&in, 0, OPK_GPR, CPU_RAX, 2, OPA_WRITE);
    in = decode_ok(INSN_MODE_64, B(0x66, 0x0f, 0xf7, 0xc1)); /* MASKMOVDQU */
    g_assert_true(in.flags & INSN_F_MEM_IMPLICIT);
    expect_op(&in, 2, OPK_GPR, CPU_RDI, 8, OPA_READ);
    g_assert_true(decode_ok(INSN_MODE_64, B(0x66, 0x0f, 0x2f, 0xc1)).flags &
                  INSN_F_WRITES_FLAGS);
    g_assert_true(decode_ok(INSN_MODE_64, B(0xda, 0xc1)).flags &
                  INSN_F_READS_FLAGS); /* FCMOVB */
}

static void test_alignment(void)
{
    g_assert_true(decode_ok(INSN_MODE_64, B(0x0f, 0x28, 0x00)).flags & INSN_F_ALIGNED);
    g_assert_true(decode_ok(INSN_MODE_64, B(0x0f, 0x58, 0x00)).flags & INSN_F_ALIGNED);
    g_assert_false(decode_ok(INSN_MODE_64, B(0x0f, 0x28, 0xc1)).flags & INSN_F_ALIGNED);
    g_assert_false(decode_ok(INSN_MODE_64, B(0x0f, 0x10, 0x00)).flags & INSN_F_ALIGNED);
    g_assert_false(decode_ok(INSN_MODE_64, B(0xf3, 0x0f, 0x58, 0x00)).flags & INSN_F_ALIGNED);
    g_assert_false(decode_ok(INSN_MODE_64, B(0xc5, 0xfc, 0x58, 0x00)).flags & INSN_F_ALIGNED);
    g_assert_true(decode_ok(INSN_MODE_64, B(0xc5, 0xfc, 0x28, 0x00)).flags & INSN_F_ALIGNED);
}

static void test_system(void)
{
    struct insn in =
        decode_ok(INSN_MODE_64, B(0x0f, 0x20, 0x04)); /* MOV RSP, CR0: mod is ignored */

    g_assert_cmpint(in.id, ==, INSN_MOV_FROM_CR);
    expect_op(&in, 0, OPK_GPR, CPU_RSP, 8, OPA_WRITE);
    expect_op(&in, 1, OPK_CR, 0, 8, OPA_READ);
    g_assert_true(in.flags & INSN_F_SYSTEM && in.flags & INSN_F_PRIV0);
    expect_op(&(struct insn[]){decode_ok(INSN_MODE_64, B(0x44, 0x0f, 0x22, 0xc0))}[0], 0,
              OPK_CR, 8, 8, OPA_WRITE);
    expect_invalid(INSN_MODE_64, B(0x0f, 0x20, 0xc8)); /* CR1 */
    expect_invalid(INSN_MODE_64, B(0x8e, 0xc8));       /* MOV CS */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x0f, 0x01, 0xc1)).id, ==, INSN_VMCALL);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x0f, 0x01, 0xd9)).id, ==, INSN_VMMCALL);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x0f, 0x01, 0xf8)).id, ==, INSN_SWAPGS);
    expect_invalid(INSN_MODE_32, B(0x0f, 0x01, 0xf8));
    g_assert_cmpint(mem_size(INSN_MODE_64, B(0x0f, 0x01, 0x10)), ==, 10);
    g_assert_cmpint(mem_size(INSN_MODE_32, B(0x0f, 0x01, 0x10)), ==, 6);
    g_assert_cmpint(mem_size(INSN_MODE_64, B(0x48, 0x0f, 0x01, 0x20)), ==, 2); /* SMSW */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x48, 0x0f, 0xc7, 0x08)).id, ==, INSN_CMPXCHG16B);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x0f, 0x0b)).id, ==, INSN_UD);
}

static void test_nop_space(void)
{
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xf3, 0x0f, 0x1e, 0xfa)).id, ==,
                    INSN_NOP); /* ENDBR64 */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xf3, 0x48, 0x0f, 0x1e, 0xc8)).id, ==, INSN_NOP);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xf3, 0x0f, 0x1a, 0x00)).id, ==,
                    INSN_NOP); /* BNDCL */
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x0f, 0x0d, 0x08)).id, ==, INSN_NOP);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0xf3, 0x0f, 0xae, 0xe8)).feature, ==,
                    INSN_FEAT_CET);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1)).feature, ==,
                    INSN_FEAT_AVX512);
    g_assert_cmpint(decode_ok(INSN_MODE_64, B(0x8f, 0xe9, 0x78, 0x01, 0xc9)).feature, ==,
                    INSN_FEAT_XOP);
}

/* Every descriptor of the tables with INSN_F_PRIV0 is one of these, and each of these is there.
 */
static void test_privileged(void)
{
    static const enum insn_id want[] = {
        INSN_HLT,      INSN_LLDT,        INSN_LTR,       INSN_LMSW,        INSN_LGDT,
        INSN_LIDT,     INSN_INVLPG,      INSN_XSETBV,    INSN_SWAPGS,      INSN_XRSTORS,
        INSN_XSAVES,   INSN_CLTS,        INSN_SYSRET,    INSN_INVD,        INSN_WBINVD,
        INSN_WBNOINVD, INSN_MOV_FROM_CR, INSN_MOV_TO_CR, INSN_MOV_FROM_DR, INSN_MOV_TO_DR,
        INSN_WRMSR,    INSN_RDMSR,       INSN_SYSEXIT,   INSN_INVPCID,
    };
    static const struct insn_desc *const *const maps[] = {
        insn_map_1, insn_map_0f, insn_map_0f_sse, insn_map_0f38, insn_map_0f3a};
    bool found[INSN_NR] = {false};
    const struct insn_desc *d;
    unsigned m, o, i;

    for (m = 0; m < G_N_ELEMENTS(maps); m++) {
        for (o = 0; o < 256; o++) {
            for (d = maps[m][o]; d && d->id != INSN_INVALID; d++) {
                found[d->id] |= (d->flags & INSN_F_PRIV0) != 0;
            }
        }
    }
    for (i = 0; i < G_N_ELEMENTS(want); i++) {
        g_assert_true(found[want[i]]);
        found[want[i]] = false;
    }
    for (i = 0; i < INSN_NR; i++) {
        g_assert_false(found[i]);
    }
}

static void test_names(void)
{
    unsigned i;

    for (i = 0; i < INSN_NR; i++) {
        g_assert_cmpstr(insn_name((enum insn_id)i), !=, "unknown");
    }
    g_assert_cmpstr(insn_name(INSN_NR), ==, "unknown");
    g_assert_cmpstr(insn_name(INSN_ADD), ==, "add");
}

/* Opcodes that tests of forms begin with, besides random bytes. */
static void form_bytes(uint8_t *bytes, size_t n)
{
    static const uint8_t prefixes[][3] = {{1, 0x66}, {1, 0x48},       {1, 0x41},      {1, 0x4c},
                                          {1, 0x0f}, {2, 0x66, 0x45}, {2, 0x48, 0x0f}};
    const uint8_t *p = prefixes[g_test_rand_int_range(0, G_N_ELEMENTS(prefixes))];

    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)g_test_rand_int();
    }
    if (g_test_rand_int_range(0, 3) != 0) {
        memcpy(bytes, p + 1, p[0]);
    }
}

/* What is taken from a form is what is decoded from the same bytes. */
static void test_forms(void)
{
    unsigned known = 0, kept = 0;

    for (unsigned i = 0; i < 300000; i++) {
        uint8_t bytes[16], other[16];
        struct insn in, want, got;
        struct insn_form form;
        uint64_t head;

        form_bytes(bytes, sizeof(bytes));
        form_bytes(other, sizeof(other));
        head = insn_form_head(bytes);
        if (head == 0) {
            continue;
        }
        g_assert_cmpuint(head >> 56, <, 8);
        memcpy(other, bytes, head >> 56);
        g_assert_cmphex(insn_form_head(other), ==, head);
        known++;
        if (insn_decode(&in, INSN_MODE_64, bytes, 15) != INSN_OK ||
            !insn_form_make(&form, &in)) {
            continue;
        }
        kept++;
        memset(&got, 0xaa, sizeof(got));
        insn_form_fill(&form, &got, other);
        g_assert_cmpint(insn_decode(&want, INSN_MODE_64, other, 15), ==, INSN_OK);
        g_assert_cmpmem(&got, sizeof(got), &want, sizeof(want));
    }
    g_assert_cmpuint(known, >, 100000);
    g_assert_cmpuint(kept, >, known / 4);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/decode/operand-size", test_operand_size);
    g_test_add_func("/x86/decode/default-64", test_default_64);
    g_test_add_func("/x86/decode/immediates", test_immediates);
    g_test_add_func("/x86/decode/branches", test_branches);
    g_test_add_func("/x86/decode/high-byte", test_high_byte);
    g_test_add_func("/x86/decode/rex-position", test_rex_position);
    g_test_add_func("/x86/decode/prefix-order", test_prefix_order);
    g_test_add_func("/x86/decode/segments", test_segments);
    g_test_add_func("/x86/decode/addresses", test_addresses);
    g_test_add_func("/x86/decode/lock", test_lock);
    g_test_add_func("/x86/decode/length-limit", test_length_limit);
    g_test_add_func("/x86/decode/more", test_more);
    g_test_add_func("/x86/decode/vex-or-les", test_vex_or_les);
    g_test_add_func("/x86/decode/vex-rules", test_vex_rules);
    g_test_add_func("/x86/decode/gather", test_gather);
    g_test_add_func("/x86/decode/native-memory-sizes", test_native_memory_sizes);
    g_test_add_func("/x86/decode/native-implicit", test_native_implicit);
    g_test_add_func("/x86/decode/alignment", test_alignment);
    g_test_add_func("/x86/decode/system", test_system);
    g_test_add_func("/x86/decode/nop-space", test_nop_space);
    g_test_add_func("/x86/decode/privileged", test_privileged);
    g_test_add_func("/x86/decode/names", test_names);
    g_test_add_func("/x86/decode/forms", test_forms);
    return g_test_run();
}
