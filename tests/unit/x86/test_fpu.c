/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE and XSAVE in plain C against the host's own instructions: the home area is loaded into
 * the real registers, the real instruction writes its idea of the memory image, and ours must
 * be the same byte for byte.
 */
#include <cpuid.h>
#include <string.h>

#include "x86_guest.h"

enum { AREA = G_DATA, LEN = 832 };

struct image {
    _Alignas(64) uint8_t b[1088];
};

static bool host_has_xsavec(void)
{
    uint32_t a, b, c, d;

    __cpuid(1, a, b, c, d);
    if ((c & (1u << 27)) == 0 || (c & (1u << 28)) == 0) {
        return false;
    }
    __cpuid_count(0xd, 1, a, b, c, d);
    return (a & 3) == 3;
}

#define ALL_XMM                                                                                \
    "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",  \
        "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void host_restore(const struct image *home)
{
    __asm__ volatile("xrstor64 %0" : : "m"(*home), "a"(7), "d"(0) : ALL_XMM);
}

static void host_clean(void)
{
    static const struct image zero = {.b[24] = 0x80, .b[25] = 0x1f};

    host_restore(&zero);
}

static void fill_home(struct guest *g, GRand *rand, uint64_t in_use)
{
    uint8_t *x = g->cpu->xsave;

    for (unsigned i = 0; i < LEN; i++) {
        x[i] = (uint8_t)g_rand_int(rand);
    }
    memset(x + 416, 0, 576 - 416);
    for (unsigned i = 0; i < 8; i++) {
        memset(x + 32 + i * 16 + 10, 0, 6); /* beyond 80 bits */
        x[32 + i * 16 + 7] |= 0x80;         /* a normal number */
    }
    if (g_rand_boolean(rand)) {
        x[0] = 0x7e, x[1] = 0x02; /* FCW: #IE unmasked ... */
        x[2] = 0x81, x[3] = 0xb8; /* ... and pending: AMD saves the pointers only then */
        x[7] &= 7;
        memset(x + 12, 0, 4); /* FIP, FDP canonical */
        memset(x + 20, 0, 4);
    } else {
        x[0] = 0x7f, x[1] = 0x02;
        x[2] = 0, x[3] = 0x38;
        memset(x + 6, 0, 18);
    }
    x[5] = 0;
    x[24] = 0x80 | (g_rand_int(rand) & 0x3f), x[25] = 0x1f | (g_rand_int(rand) & 0x60);
    x[26] = x[27] = 0;
    memset(x + 28, 0, 4);
    memcpy(x + 512, &in_use, 8);
}

static void set_rfbm(struct guest *g, uint64_t rfbm)
{
    g->cpu->gpr[CPU_RAX] = rfbm;
    g->cpu->gpr[CPU_RDX] = 0;
    g->cpu->gpr[CPU_RBX] = AREA;
}

enum op { OP_FXSAVE, OP_FXSAVE64, OP_XSAVE, OP_XSAVE64, OP_XSAVEOPT64, OP_XSAVEC64, OP_NR };

static void host_save(enum op op, struct image *m, uint32_t rfbm)
{
    switch (op) {
    case OP_FXSAVE:
        __asm__ volatile("fxsave %0" : "+m"(*m));
        break;
    case OP_FXSAVE64:
        __asm__ volatile("fxsave64 %0" : "+m"(*m));
        break;
    case OP_XSAVE:
        __asm__ volatile("xsave %0" : "+m"(*m) : "a"(rfbm), "d"(0));
        break;
    case OP_XSAVE64:
        __asm__ volatile("xsave64 %0" : "+m"(*m) : "a"(rfbm), "d"(0));
        break;
    case OP_XSAVEOPT64:
        __asm__ volatile("xsaveopt64 %0" : "+m"(*m) : "a"(rfbm), "d"(0));
        break;
    default:
        __asm__ volatile("xsavec64 %0" : "+m"(*m) : "a"(rfbm), "d"(0));
        break;
    }
}

static bool guest_save(struct guest *g, enum op op)
{
    switch (op) {
    case OP_FXSAVE:
        return guest_run(g, 0x0f, 0xae, 0x03);
    case OP_FXSAVE64:
        return guest_run(g, 0x48, 0x0f, 0xae, 0x03);
    case OP_XSAVE:
        return guest_run(g, 0x0f, 0xae, 0x23);
    case OP_XSAVE64:
        return guest_run(g, 0x48, 0x0f, 0xae, 0x23);
    case OP_XSAVEOPT64:
        return guest_run(g, 0x48, 0x0f, 0xae, 0x33);
    default:
        return guest_run(g, 0x48, 0x0f, 0xc7, 0x23);
    }
}

/* The fields that our choices and the host's may differ in. */
static void normalise(struct image *m, enum op op, bool x87_saved)
{
    memset(m->b + 28, 0, 4); /* MXCSR_MASK */
    if (x87_saved && (op == OP_FXSAVE || op == OP_XSAVE)) {
        memset(m->b + 12, 0, 4); /* FCS, FDS */
        memset(m->b + 20, 0, 4);
    }
}

static void compare_save(struct guest *g, GRand *rand, enum op op, uint64_t in_use,
                         uint32_t rfbm)
{
    struct image before, want, got, home;
    uint64_t host_used;

    fill_home(g, rand, in_use);
    memcpy(&home, g->cpu->xsave, sizeof(home));
    for (unsigned i = 0; i < LEN; i++) {
        before.b[i] = (uint8_t)g_rand_int(rand);
    }
    memset(before.b + 512, 0, 64);
    before.b[512] = (uint8_t)(g_rand_int(rand) & 7);
    want = before;
    memcpy(g->ram + AREA, &before, LEN);
    host_restore(&home);
    host_save(op, &want, rfbm);
    __asm__ volatile("xgetbv" : "=a"(host_used) : "c"(1) : "rdx");
    host_clean();
    set_rfbm(g, rfbm);
    g_assert_true(guest_save(g, op));
    memcpy(&got, g->ram + AREA, LEN);
    if (((uint32_t)host_used & 7) != in_use && op > OP_XSAVE64) {
        return; /* the host tracks init states more coarsely: images differ legitimately */
    }
    if (((uint32_t)host_used & 7) != in_use) {
        memset(want.b + 512, 0, 8);
        memset(got.b + 512, 0, 8);
    }
    normalise(&want, op, true);
    normalise(&got, op, true);
    for (unsigned i = 0; i < LEN; i++) {
        if (want.b[i] != got.b[i]) {
            g_test_message("op %d in_use %u rfbm %u host_used %u byte %u: host 0x%02x, ours "
                           "0x%02x, before 0x%02x", op, (unsigned)in_use, rfbm,
                           (unsigned)host_used & 7, i, want.b[i], got.b[i], before.b[i]);
            g_test_fail();
            return;
        }
    }
}

static void test_save_like_host(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    GRand *rand = g_rand_new_with_seed(1);

    if (!host_has_xsavec()) {
        g_test_skip("the host has no AVX or XSAVEC");
    } else {
        for (int op = 0; op < OP_NR; op++) {
            for (uint64_t in_use = 0; in_use < 8; in_use++) {
                for (uint32_t rfbm = 0; rfbm < 8; rfbm++) {
                    compare_save(g, rand, (enum op)op, in_use, rfbm);
                }
            }
        }
    }
    g_rand_free(rand);
    guest_free(g);
}

enum restore { RS_FXRSTOR64, RS_XRSTOR, RS_XRSTOR64, RS_COMPACT, RS_NR };

static bool guest_restore(struct guest *g, enum restore op)
{
    switch (op) {
    case RS_FXRSTOR64:
        return guest_run(g, 0x48, 0x0f, 0xae, 0x0b);
    case RS_XRSTOR:
        return guest_run(g, 0x0f, 0xae, 0x2b);
    default:
        return guest_run(g, 0x48, 0x0f, 0xae, 0x2b);
    }
}

static void host_run_restore(enum restore op, const struct image *m, uint32_t rfbm)
{
    switch (op) {
    case RS_FXRSTOR64:
        __asm__ volatile("fxrstor64 %0" : : "m"(*m) : ALL_XMM);
        break;
    case RS_XRSTOR:
        __asm__ volatile("xrstor %0" : : "m"(*m), "a"(rfbm), "d"(0) : ALL_XMM);
        break;
    default:
        __asm__ volatile("xrstor64 %0" : : "m"(*m), "a"(rfbm), "d"(0) : ALL_XMM);
        break;
    }
}

/* Registers as FXSAVE64 plus the AVX halves see them, whatever XINUSE says. */
static void canonical_image(struct image *m)
{
    __asm__ volatile("xsave64 %0" : "+m"(*m) : "a"(7), "d"(0));
}

static void compare_restore(struct guest *g, GRand *rand, enum restore op, uint64_t bv,
                            uint32_t rfbm)
{
    struct image home, memory, want, got;

    fill_home(g, rand, bv); /* a valid area, to be used as memory */
    memcpy(&memory, g->cpu->xsave, sizeof(memory));
    if (op == RS_COMPACT) {
        uint64_t comp = 1ull << 63 | 7;

        memcpy(memory.b + 520, &comp, 8);
    }
    memcpy(g->ram + AREA, &memory, LEN);
    fill_home(g, rand, g_rand_int(rand) & 7);
    memcpy(&home, g->cpu->xsave, sizeof(home));
    memset(&want, 0, sizeof(want));
    memset(&got, 0, sizeof(got));
    host_restore(&home);
    host_run_restore(op, &memory, rfbm);
    canonical_image(&want);
    host_clean();
    set_rfbm(g, rfbm);
    g_assert_true(guest_restore(g, op));
    memcpy(&home, g->cpu->xsave, sizeof(home));
    host_restore(&home);
    canonical_image(&got);
    host_clean();
    memset(want.b + 512, 0, 64);
    memset(got.b + 512, 0, 64);
    for (unsigned i = 0; i < LEN; i++) {
        if (want.b[i] != got.b[i]) {
            g_test_message("op %d bv %u rfbm %u byte %u: host 0x%02x, ours 0x%02x", op,
                           (unsigned)bv, rfbm, i, want.b[i], got.b[i]);
            g_test_fail();
            return;
        }
    }
}

static void test_restore_like_host(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    GRand *rand = g_rand_new_with_seed(2);

    if (!host_has_xsavec()) {
        g_test_skip("the host has no AVX or XSAVEC");
    } else {
        for (int op = 0; op < RS_NR; op++) {
            for (uint64_t bv = 0; bv < 8; bv++) {
                for (uint32_t rfbm = 0; rfbm < 8; rfbm++) {
                    compare_restore(g, rand, (enum restore)op, bv, rfbm);
                }
            }
        }
    }
    g_rand_free(rand);
    guest_free(g);
}

static void expect_gp_restore(struct guest *g, unsigned at, uint64_t value)
{
    uint8_t saved[LEN];
    struct image home;

    memcpy(saved, g->ram + AREA, LEN);
    memcpy(&home, g->cpu->xsave, sizeof(home));
    guest_put(g, AREA + at, value, 8);
    g_assert_false(guest_restore(g, RS_XRSTOR64));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_cmpmem(&home, sizeof(home), g->cpu->xsave, sizeof(home));
    memcpy(g->ram + AREA, saved, LEN);
}

static void test_header_rules(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    GRand *rand = g_rand_new_with_seed(3);

    fill_home(g, rand, 7);
    set_rfbm(g, 7);
    g_assert_true(guest_save(g, OP_XSAVE64) || true);
    memset(g->ram + AREA + 512, 0, 64);
    g_assert_true(guest_save(g, OP_XSAVE64));
    g_assert_true(guest_restore(g, RS_XRSTOR64));
    expect_gp_restore(g, 512, 15);              /* a component that does not exist */
    expect_gp_restore(g, 520, 1);               /* XCOMP_BV in the standard format */
    expect_gp_restore(g, 528, 1);               /* bytes 16..23 of the header */
    expect_gp_restore(g, 520, 1ull << 63 | 3);  /* AVX is in XSTATE_BV but not in XCOMP_BV */
    expect_gp_restore(g, 520, 1ull << 63 | 15); /* not in XCR0 */
    expect_gp_restore(g, 24, 1ull << 18);       /* MXCSR reserved bit */
    guest_put(g, AREA + 520, 1ull << 63 | 7, 8);
    expect_gp_restore(g, 568, 1); /* compacted: the rest of the header must be zero */
    g_assert_true(guest_restore(g, RS_XRSTOR64));
    g_rand_free(rand);
    guest_free(g);
}

static void test_alignment_and_faults(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    GRand *rand = g_rand_new_with_seed(4);

    fill_home(g, rand, 7);
    set_rfbm(g, 7);
    g->cpu->gpr[CPU_RBX] = AREA + 16;
    g_assert_false(guest_save(g, OP_XSAVE64));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_true(guest_save(g, OP_FXSAVE64));
    g->cpu->gpr[CPU_RBX] = AREA + 8;
    g_assert_false(guest_save(g, OP_FXSAVE64));
    g_assert_fault(g, CPU_GP, 0);
    /* The last page is missing: not a byte is written. */
    guest_put(g, G_PT + 0x101 * 8, 0, 8);
    memset(g->ram + 0x100e00, 0xa5, 0x200);
    g->cpu->gpr[CPU_RBX] = 0x100e00;
    g_assert_false(guest_save(g, OP_XSAVE64));
    g_assert_fault(g, CPU_PAGE_FAULT, 2);
    g_assert_cmphex(g->fault.cr2, ==, 0x101000);
    g_assert_cmphex(guest_get(g, 0x100e00, 4), ==, 0xa5a5a5a5);
    set_rfbm(g, 7);
    g->cpu->cr0 |= CPU_CR0_TS;
    g_assert_false(guest_save(g, OP_XSAVE64));
    g_assert_fault_plain(g, CPU_NM);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_OSXSAVE;
    g_assert_false(guest_save(g, OP_XSAVE64));
    g_assert_fault_plain(g, CPU_UD);
    g_rand_free(rand);
    guest_free(g);
}

static void test_32_bit_keeps_high_registers(void)
{
    struct guest *g = guest_new(GUEST_PROT);
    GRand *rand = g_rand_new_with_seed(5);
    struct image home;

    fill_home(g, rand, 7);
    memcpy(&home, g->cpu->xsave, sizeof(home));
    set_rfbm(g, 7);
    memset(g->ram + AREA, 0, LEN);
    guest_put(g, AREA + 24, 0x1f80, 4);
    g_assert_true(guest_run(g, 0x0f, 0xae, 0x2b)); /* XRSTOR: everything initial */
    g_assert_cmpmem(g->cpu->xsave + 160 + 128, 128, home.b + 160 + 128, 128);
    g_assert_cmpmem(g->cpu->xsave + 576 + 128, 128, home.b + 576 + 128, 128);
    for (unsigned i = 0; i < 128; i++) {
        g_assert_cmpuint(g->cpu->xsave[160 + i] | g->cpu->xsave[576 + i], ==, 0);
    }
    memset(g->ram + AREA, 0xee, LEN);
    g_assert_true(guest_run(g, 0x0f, 0xae, 0x03)); /* FXSAVE: XMM0..7 only */
    g_assert_cmphex(guest_get(g, AREA + 160 + 127, 1), ==, 0);
    g_assert_cmphex(guest_get(g, AREA + 160 + 128, 1), ==, 0xee);
    g_rand_free(rand);
    guest_free(g);
}

static void test_native_allowed(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct insn x87 = {.id = INSN_NATIVE, .flags = INSN_F_X87};
    struct insn sse = {.id = INSN_NATIVE, .flags = INSN_F_SSE};
    struct insn avx = {.id = INSN_NATIVE, .flags = INSN_F_AVX | INSN_F_NO_REAL};
    struct insn wait = {.id = INSN_NATIVE, .flags = INSN_F_X87, .opcode = 0x9b};

    g_assert_true(x86_native_allowed(g->v, &x87, &g->fault));
    g_assert_true(x86_native_allowed(g->v, &sse, &g->fault));
    g_assert_true(x86_native_allowed(g->v, &avx, &g->fault));
    g->cpu->cr0 |= CPU_CR0_TS;
    g_assert_false(x86_native_allowed(g->v, &avx, &g->fault));
    g_assert_fault_plain(g, CPU_NM);
    g_assert_false(x86_native_allowed(g->v, &x87, &g->fault));
    g_assert_fault_plain(g, CPU_NM);
    g_assert_true(x86_native_allowed(g->v, &wait, &g->fault));
    g->cpu->cr0 |= CPU_CR0_MP;
    g_assert_false(x86_native_allowed(g->v, &wait, &g->fault));
    g->cpu->cr0 |= CPU_CR0_EM;
    g_assert_false(x86_native_allowed(g->v, &sse, &g->fault));
    g_assert_fault_plain(g, CPU_UD);
    g->cpu->cr0 &= ~(uint64_t)(CPU_CR0_EM | CPU_CR0_TS);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_OSFXSR;
    g_assert_false(x86_native_allowed(g->v, &sse, &g->fault));
    g_assert_fault_plain(g, CPU_UD);
    g->cpu->xcr0 = 3;
    g_assert_false(x86_native_allowed(g->v, &avx, &g->fault));
    g_assert_fault_plain(g, CPU_UD);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/fpu/save-like-host", test_save_like_host);
    g_test_add_func("/x86/fpu/restore-like-host", test_restore_like_host);
    g_test_add_func("/x86/fpu/header-rules", test_header_rules);
    g_test_add_func("/x86/fpu/alignment-and-faults", test_alignment_and_faults);
    g_test_add_func("/x86/fpu/32-bit", test_32_bit_keeps_high_registers);
    g_test_add_func("/x86/fpu/native-allowed", test_native_allowed);
    return g_test_run();
}
