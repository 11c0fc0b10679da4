/* SPDX-License-Identifier: MIT */
/* The CPUID profile, MSRs and the TSC's rate. */
#include <cpuid.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "x86_guest.h"

static struct cpu_model *host_model(void)
{
    GError *err = NULL;
    struct cpu_model *m = cpu_model_new_host(&err);

    g_assert_no_error(err);
    return m;
}

static void test_profile(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct cpu_model *m = host_model();
    uint32_t a, b, c, d, out[4];

    g->v->model = m;
    __cpuid(0, a, b, c, d);
    x86_cpuid(g->v, 0, 0, out);
    g_assert_cmphex(out[1], ==, b);
    g_assert_cmphex(out[2], ==, c);
    g_assert_cmphex(out[3], ==, d);
    __cpuid(1, a, b, c, d);
    x86_cpuid(g->v, 1, 0, out);
    g_assert_cmphex(out[0], ==, a);
    g_assert_cmphex(out[2] & ~c & ~(1u << 31 | 1u << 24 | 1u << 21 | 1u << 17), ==, 0);
    g_assert_true((out[2] & (1u << 31)) != 0);
    g_assert_true((out[2] & (1u << 27)) != 0); /* OSXSAVE follows CR4 */
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_OSXSAVE;
    x86_cpuid(g->v, 1, 0, out);
    g_assert_true((out[2] & (1u << 27)) == 0);
    g_assert_cmphex(out[2] & (1u << 3 | 1u << 5 | 1u << 15), ==, 0); /* MONITOR VMX PDCM */
    g_assert_cmphex(out[3] & (1u << 1 | 1u << 12), ==, 0);           /* VME MTRR */
    x86_cpuid(g->v, 7, 0, out);
    g_assert_cmphex(out[1] & (1u << 16 | 1u << 20 | 1u << 14), ==, 0); /* AVX512 SMAP MPX */
    g_assert_cmphex(out[2] & (1u << 2 | 1u << 3 | 1u << 16 | 1u << 7), ==, 0);
    x86_cpuid(g->v, 0xa, 0, out);
    g_assert_cmphex(out[0] | out[1] | out[2] | out[3], ==, 0);
    x86_cpuid(g->v, 0x80000008, 0, out);
    g_assert_cmpuint(out[0] & 0xff, ==, m->phys_bits);
    g_assert_cmpuint((out[0] >> 8) & 0xff, ==, 48);
    g_assert_false(cpu_model_has(m, INSN_FEAT_AVX512));
    g_assert_false(cpu_model_has(m, INSN_FEAT_OTHER));
    g_assert_true(cpu_model_has(m, INSN_FEAT_BASE));
    g_assert_true(cpu_model_has(m, INSN_FEAT_FSGSBASE));
    cpu_model_free(m);
    guest_free(g);
}

static void test_xsave_sizes(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct cpu_model *m = host_model();
    uint32_t out[4];

    g->v->model = m;
    if (m->xcr0_mask == 7) {
        x86_cpuid(g->v, 0xd, 0, out);
        g_assert_cmpuint(out[0], ==, 7);
        g_assert_cmpuint(out[1], ==, 832);
        g_assert_cmpuint(out[2], ==, 832);
        g->cpu->xcr0 = 3;
        x86_cpuid(g->v, 0xd, 0, out);
        g_assert_cmpuint(out[1], ==, 576);
        x86_cpuid(g->v, 0xd, 2, out);
        g_assert_cmpuint(out[0], ==, 256);
        g_assert_cmpuint(out[1], ==, 576);
        x86_cpuid(g->v, 0xd, 5, out);
        g_assert_cmpuint(out[0], ==, 0);
    }
    cpu_model_free(m);
    guest_free(g);
}

static void test_topology(void)
{
    struct fake_board *fb = fake_board_new(3, 0, 0);
    struct cpu_model *m = host_model();
    struct cpuid_leaf xen0 = {.leaf = 0x40000000, .ebx = 0x566e6558};
    struct cpuid_leaf xen4 = {.leaf = 0x40000004, .eax = 8};
    uint32_t out[4];

    cpu_model_set(m, &xen0);
    cpu_model_set(m, &xen4);
    xen4.edx = 0x77;
    cpu_model_set(m, &xen4); /* replaces */
    for (unsigned i = 0; i < 3; i++) {
        struct vcpu *v = fb->vcpus[i];

        v->model = m;
        x86_cpuid(v, 1, 0, out);
        g_assert_cmpuint(out[1] >> 24, ==, 2 * i);
        g_assert_cmpuint((out[1] >> 16) & 0xff, ==, 8);
        g_assert_true((out[3] & (1u << 28)) != 0);
        x86_cpuid(v, 0xb, 0, out);
        g_assert_cmpuint(out[0], ==, 1);
        g_assert_cmphex(out[2], ==, 0x100);
        g_assert_cmpuint(out[3], ==, 2 * i);
        x86_cpuid(v, 0xb, 1, out);
        g_assert_cmpuint(out[0], ==, 3); /* three bits of APIC id below the package */
        g_assert_cmpuint(out[1], ==, 3);
        g_assert_cmphex(out[2], ==, 0x201);
        x86_cpuid(v, 0xb, 2, out);
        g_assert_cmpuint(out[1], ==, 0);
        x86_cpuid(v, 0x40000004, 0, out);
        g_assert_cmpuint(out[1], ==, i);
        g_assert_cmphex(out[3], ==, 0x77);
        if (cpu_model_is_amd(m)) {
            x86_cpuid(v, 0x80000008, 0, out);
            g_assert_cmphex(out[2], ==, 3 << 12 | 2);
            x86_cpuid(v, 0x8000001e, 0, out);
            g_assert_cmpuint(out[0], ==, 2 * i);
        }
        v->model = NULL;
    }
    cpu_model_free(m);
    fake_board_free(fb);
}

/* ECX of a caller that has no subleaf in mind is what it happens to be. */
static void test_xen_subleaves(void)
{
    struct fake_board *fb = fake_board_new(1, 0, 0);
    struct cpu_model *m = host_model();
    struct vcpu *v = fb->vcpus[0];
    uint32_t out[4];

    for (uint32_t i = 0; i < 6; i++) {
        struct cpuid_leaf leaf = {.leaf = 0x40000000 + i, .eax = 0x100 + i};

        cpu_model_set(m, &leaf);
    }
    cpu_model_set(m, &(struct cpuid_leaf){.leaf = 0x40000003, .subleaf = 2, .eax = 0x132});
    v->model = m;
    for (uint32_t i = 0; i < 6; i++) {
        x86_cpuid(v, 0x40000000 + i, 0, out);
        g_assert_cmphex(out[0], ==, 0x100 + i);
        x86_cpuid(v, 0x40000000 + i, 2, out);
        g_assert_cmphex(out[0], ==, i < 3 ? 0x100 + i : i == 3 ? 0x132 : 0);
        x86_cpuid(v, 0x40000000 + i, 0xc, out);
        g_assert_cmphex(out[0], ==, i < 3 ? 0x100 + i : 0);
    }
    v->model = NULL;
    cpu_model_free(m);
    fake_board_free(fb);
}

static void test_tsc(void)
{
    struct cpu_model *m = host_model();
    struct timespec a, b;
    uint64_t t0, t1, ns = 0, hz = cpu_model_tsc_hz(m), measured, off;

    clock_gettime(CLOCK_MONOTONIC_RAW, &a);
    t0 = __rdtsc();
    do {
        clock_gettime(CLOCK_MONOTONIC_RAW, &b);
        t1 = __rdtsc();
        ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec -
             (uint64_t)a.tv_nsec;
    } while (ns < 10000000);
    measured = (t1 - t0) * 1000000u / (ns / 1000u);
    off = measured > hz ? measured - hz : hz - measured;
    g_test_message("profile %" G_GUINT64_FORMAT " Hz, measured %" G_GUINT64_FORMAT, hz,
                   measured);
    g_assert_cmpuint(off, <, hz / 100); /* a busy machine may stop between the two readings */
    cpu_model_free(m);
}

static bool get(struct guest *g, uint32_t index, uint64_t want)
{
    uint64_t value = 0;

    return x86_rdmsr(g->v, index, &value) && value == want;
}

static void test_msrs(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    static const uint32_t addresses[] = {0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101,
                                         0xc0000102, 0x175, 0x176};
    uint64_t value;

    for (unsigned i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_assert_true(x86_wrmsr(g->v, addresses[i], 0xffff888000000000ull + i));
        g_assert_false(x86_wrmsr(g->v, addresses[i], 0x800000000000ull));
        g_assert_true(get(g, addresses[i], 0xffff888000000000ull + i));
    }
    g_assert_cmphex(g->cpu->seg[CPU_GS].base, ==, 0xffff888000000003ull);
    g_assert_true(x86_wrmsr(g->v, 0x277, 0x0007010600070106ull)); /* PAT */
    g_assert_false(x86_wrmsr(g->v, 0x277, 2));
    g_assert_false(x86_wrmsr(g->v, 0x277, 8));
    g_assert_true(get(g, 0x277, 0x0007010600070106ull));
    g_assert_false(x86_wrmsr(g->v, 0xc0000103, 1ull << 32)); /* TSC_AUX */
    g_assert_true(x86_wrmsr(g->v, 0xc0000103, 7));
    g_assert_true(get(g, 0xc0000103, 7));
    /* EFER: unknown bits, LME while paging; LMA is not writable. */
    g_assert_false(x86_wrmsr(g->v, 0xc0000080, g->cpu->efer | 1 << 12));
    g_assert_false(x86_wrmsr(g->v, 0xc0000080, g->cpu->efer & ~(uint64_t)CPU_EFER_LME));
    g_assert_true(x86_wrmsr(g->v, 0xc0000080, CPU_EFER_LME));
    g_assert_cmphex(g->cpu->efer, ==, CPU_EFER_LME | CPU_EFER_LMA);
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 1); /* NXE changed */
    /* The board's, and nobody's. */
    g_assert_true(get(g, 0x1b, 0x5555));
    g_assert_true(x86_wrmsr(g->v, 0x80b, 0));
    g_assert_cmphex(guest_log(g)->msr, ==, 0x80b);
    g_assert_false(x86_rdmsr(g->v, 0x12345, &value));
    g_assert_false(x86_wrmsr(g->v, 0x12345, 0));
    g->cpu->gpr[CPU_RCX] = 0x12345;
    g_assert_false(guest_run(g, 0x0f, 0x32));
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_tsc_msrs(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t before, value;

    g_assert_true(x86_wrmsr(g->v, 0x10, 1000));
    g_assert_cmpuint(x86_tsc(g->v), <, 1000 + 10000000000ull);
    g_assert_true(x86_rdmsr(g->v, 0x3b, &value));
    g_assert_cmpint((int64_t)value, ==, g->cpu->tsc_offset); /* both moved alike from 0 */
    before = x86_tsc(g->v);
    g_assert_true(x86_wrmsr(g->v, 0x3b, value + (1ull << 40)));
    g_assert_cmpuint(x86_tsc(g->v) - before, >=, 1ull << 40);
    g_assert_true(get(g, 0x3b, value + (1ull << 40)));
    guest_free(g);
}

static void test_vendor_msrs(void)
{
    struct cpu_model model = cpu_model_default;
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t value;

    model.leaves = g_array_new(FALSE, TRUE, sizeof(struct cpuid_leaf));
    g->v->model = &model;
    model.amd = true;
    g_assert_true(get(g, 0xc0011029, 2)); /* DE_CFG: LFENCE serialises */
    g_assert_true(x86_wrmsr(g->v, 0xc0010015, 0));
    g_assert_false(x86_rdmsr(g->v, 0x10a, &value));
    model.amd = false;
    g_assert_false(x86_rdmsr(g->v, 0xc0011029, &value));
    g_assert_true(x86_rdmsr(g->v, 0x10a, &value));
    g_assert_cmphex(value & 3, ==, 3); /* RDCL_NO, IBRS_ALL */
    g_assert_true(x86_wrmsr(g->v, 0x48, 1));
    g_assert_true(get(g, 0x48, 1));
    g_array_unref(model.leaves);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/cpuid/profile", test_profile);
    g_test_add_func("/x86/cpuid/xsave-sizes", test_xsave_sizes);
    g_test_add_func("/x86/cpuid/topology", test_topology);
    g_test_add_func("/x86/cpuid/xen-subleaves", test_xen_subleaves);
    g_test_add_func("/x86/cpuid/tsc-rate", test_tsc);
    g_test_add_func("/x86/msr/homes", test_msrs);
    g_test_add_func("/x86/msr/tsc", test_tsc_msrs);
    g_test_add_func("/x86/msr/vendor", test_vendor_msrs);
    return g_test_run();
}
