/* SPDX-License-Identifier: MIT */
/*
 * The profile made from the host's CPUID: vendor, family, model, stepping, brand and caches of
 * the host; features clipped to what every engine runs natively (x86-64-v3 with AES, SHA,
 * RDRAND, ADX ...); the rest hidden. Bits that only hint (ERMS, FSRM) or that our own code
 * implements (x2APIC, TSC deadline, SMEP, PCID ...) are shown on every host.
 *
 * "Not affected" bits keep the guest's kernel from spending time on speculation side channels
 * that it could not close from in here anyway: the host is where they are closed. Hidden on
 * purpose: AVX-512, AMX, PKU, LA57, SMAP, UMIP, VME, MONITOR, PMU, VMX, SVM, MTRR, CET,
 * TOPOEXT.
 */
#include "cpu/x86/x86.h"

#include <cpuid.h>
#include <string.h>

#include "base/error.h"
#include "cpu/x86/internal.h"

#define BIT(n) (1u << (n))

enum { GUEST_PHYS_BITS = 40, HOST_XSAVE_AVX = 6 };
#define EFER_AUTOIBRS (1u << 21)

struct regs {
    uint32_t eax, ebx, ecx, edx;
};

static struct regs host_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct regs r = {0};
    uint32_t max = __get_cpuid_max(leaf & 0x80000000u, NULL);

    if (leaf <= max) {
        __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
    }
    return r;
}

static uint64_t host_xcr0(void)
{
    uint32_t eax, edx;

    if ((host_cpuid(1, 0).ecx & BIT(27)) == 0) {
        return 1;
    }
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return (uint64_t)edx << 32 | eax;
}

static void model_add(struct cpu_model *m, uint32_t leaf, uint32_t subleaf, struct regs r)
{
    struct cpuid_leaf l = {leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx};

    cpu_model_set(m, &l);
}

/* ---- masks: what may be passed on, and what is always there ---- */

/* SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define LEAF1_ECX_PASS                                                                         \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) |    \
     BIT(25) | BIT(26) | BIT(28) | BIT(29) | BIT(30))
/* PCID x2APIC TSC-deadline hypervisor */
#define LEAF1_ECX_FORCE (BIT(17) | BIT(21) | BIT(24) | BIT(31))
/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
#define LEAF1_EDX_FORCE                                                                        \
    (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) |          \
     BIT(11) | BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) |  \
     BIT(25) | BIT(26))
/* BMI1 AVX2 FDP_EXCPTN_ONLY BMI2 no-FCS/FDS RDSEED ADX CLFLUSHOPT CLWB SHA */
#define LEAF7_EBX_PASS                                                                         \
    (BIT(3) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(18) | BIT(19) | BIT(23) | BIT(24) |     \
     BIT(29))
/* FSGSBASE TSC_ADJUST SMEP ERMS INVPCID */
#define LEAF7_EBX_FORCE (BIT(0) | BIT(1) | BIT(7) | BIT(9) | BIT(10))
#define LEAF7_ECX_PASS BIT(22)  /* RDPID */
#define LEAF7_EDX_FORCE BIT(4)  /* FSRM */
/* Intel: IBRS+IBPB STIBP ARCH_CAPABILITIES SSBD */
#define LEAF7_EDX_INTEL (BIT(26) | BIT(27) | BIT(29) | BIT(31))
#define LEAFD1_EAX_PASS (BIT(0) | BIT(1) | BIT(2) | BIT(3)) /* OPT C XGETBV1 S */
#define EXT1_ECX_PASS (BIT(0) | BIT(5) | BIT(8)) /* LAHF ABM 3DNOWPREFETCH */
#define EXT1_EDX_FORCE (BIT(11) | BIT(20) | BIT(29)) /* SYSCALL NX LM */
#define EXT1_EDX_PASS (BIT(26) | BIT(27)) /* PDPE1GB RDTSCP */
#define EXT1_EDX_AMD (LEAF1_EDX_FORCE & 0x0183f3ffu) /* AMD repeats leaf 1 */
/* AMD: XSaveErPtr from the host; SSB_NO, BTC_NO always */
#define EXT8_EBX_PASS BIT(2)
#define EXT8_EBX_FORCE (BIT(26) | BIT(29))
/* AMD: no nested data breakpoints, LFENCE serialises, null selector clears base, AutoIBRS,
 * SRSO_NO, SRSO user/kernel NO; ECX: TSA_SQ_NO TSA_L1_NO */
#define EXT21_EAX (BIT(0) | BIT(2) | BIT(6) | BIT(8) | BIT(29) | BIT(30))
#define EXT21_ECX (BIT(1) | BIT(2))

static void model_basic_leaves(struct cpu_model *m)
{
    struct regs r0 = host_cpuid(0, 0), r = host_cpuid(1, 0);
    bool avx = (r.ecx & BIT(28)) != 0 && (host_xcr0() & HOST_XSAVE_AVX) == HOST_XSAVE_AVX;
    uint32_t avx_bits = BIT(12) | BIT(28) | BIT(29); /* FMA AVX F16C */

    m->amd = (r0.ebx == 0x68747541 && r0.ecx == 0x444d4163) || /* AuthenticAMD */
             (r0.ebx == 0x6f677948 && r0.ecx == 0x656e6975);   /* HygonGenuine */
    m->xcr0_mask = avx ? 7 : 3;
    r0.eax = m->amd ? 0xd : 0x16;
    model_add(m, 0, 0, r0);
    r.ebx &= 0xff00;
    r.ecx = (r.ecx & LEAF1_ECX_PASS & ~(avx ? 0 : avx_bits)) | LEAF1_ECX_FORCE;
    r.edx = LEAF1_EDX_FORCE;
    model_add(m, 1, 0, r);
    if (!m->amd) {
        model_add(m, 2, 0, host_cpuid(2, 0));
        for (uint32_t i = 0; i < 8; i++) {
            struct regs c = host_cpuid(4, i);

            if ((c.eax & 0x1f) == 0) {
                break;
            }
            model_add(m, 4, i, c);
        }
    }
    model_add(m, 6, 0, (struct regs){.eax = BIT(2)}); /* ARAT */
    r = host_cpuid(7, 0);
    r.eax = 0;
    r.ebx = (r.ebx & LEAF7_EBX_PASS & ~(avx ? 0 : BIT(5))) | LEAF7_EBX_FORCE;
    r.ecx &= LEAF7_ECX_PASS;
    r.edx = LEAF7_EDX_FORCE | (m->amd ? 0 : LEAF7_EDX_INTEL);
    model_add(m, 7, 0, r);
}

static void model_xsave_leaves(struct cpu_model *m)
{
    struct regs r = host_cpuid(0xd, 1);

    if ((cpu_model_get(m, 1, 0)->ecx & BIT(26)) == 0) {
        return;
    }
    model_add(m, 0xd, 0,
              (struct regs){.eax = (uint32_t)m->xcr0_mask,
                            .ecx = m->xcr0_mask == 7 ? 832 : 576});
    r.eax &= LEAFD1_EAX_PASS;
    m->xsaves = (r.eax & BIT(3)) != 0;
    r.ebx = r.ecx = r.edx = 0;
    model_add(m, 0xd, 1, r);
    if (m->xcr0_mask == 7) {
        model_add(m, 0xd, 2, (struct regs){.eax = 256, .ebx = 576});
    }
}

/*
 * Intel: TSC = crystal * EBX / EAX with a crystal of 1 GHz, the LAPIC timer's clock. Linux
 * multiplies kHz in 32 bits, so the numerator stays below 4294: the best fraction that does.
 */
static void model_tsc_leaves(struct cpu_model *m)
{
    uint64_t a = m->tsc_hz, b = 1000000000;
    uint64_t n0 = 0, n1 = 1, d0 = 1, d1 = 0;

    if (m->amd) {
        return;
    }
    while (b != 0) {
        uint64_t q = a / b, rest = a % b, n2, d2;

        if (q * n1 + n0 > 4294) {
            break;
        }
        n2 = q * n1 + n0;
        d2 = q * d1 + d0;
        n0 = n1;
        n1 = n2;
        d0 = d1;
        d1 = d2;
        a = b;
        b = rest;
    }
    if (d1 != 0) {
        model_add(m, 0x15, 0,
                  (struct regs){.eax = (uint32_t)d1, .ebx = (uint32_t)n1, .ecx = 1000000000});
    }
    model_add(m, 0x16, 0,
              (struct regs){.eax = (uint32_t)(m->tsc_hz / 1000000),
                            .ebx = (uint32_t)(m->tsc_hz / 1000000), .ecx = 100});
}

static void model_extended_leaves(struct cpu_model *m)
{
    struct regs r = host_cpuid(0x80000000, 0);
    unsigned host_phys = host_cpuid(0x80000008, 0).eax & 0xff;

    r.eax = m->amd ? 0x80000021 : 0x80000008;
    model_add(m, 0x80000000, 0, r);
    r = host_cpuid(0x80000001, 0);
    r.ecx &= EXT1_ECX_PASS;
    r.edx = (r.edx & EXT1_EDX_PASS) | EXT1_EDX_FORCE | (m->amd ? EXT1_EDX_AMD | BIT(22) : 0);
    m->pages_1g = (r.edx & BIT(26)) != 0;
    model_add(m, 0x80000001, 0, r);
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++) {
        model_add(m, leaf, 0, host_cpuid(leaf, 0));
    }
    model_add(m, 0x80000007, 0, (struct regs){.edx = BIT(8)}); /* invariant TSC */
    m->phys_bits = host_phys >= 36 ? MIN(host_phys, GUEST_PHYS_BITS) : 36;
    r = (struct regs){.eax = m->phys_bits | 48 << 8};
    if (m->amd) {
        r.ebx = (host_cpuid(0x80000008, 0).ebx & EXT8_EBX_PASS) | EXT8_EBX_FORCE;
    }
    model_add(m, 0x80000008, 0, r);
    if (!m->amd) {
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        model_add(m, 0x8000001d, i, host_cpuid(0x8000001d, i));
    }
    model_add(m, 0x8000001a, 0, host_cpuid(0x8000001a, 0));
    model_add(m, 0x80000021, 0, (struct regs){.eax = EXT21_EAX, .ecx = EXT21_ECX});
}

/* ---- features of instructions ---- */

static const struct {
    uint32_t leaf, subleaf;
    char reg; /* 'a' .. 'd' */
    uint8_t bit;
    uint8_t feature;
} model_feature_bits[] = {
    {1, 0, 'c', 0, INSN_FEAT_SSE3}, {1, 0, 'c', 1, INSN_FEAT_PCLMUL},
    {1, 0, 'c', 9, INSN_FEAT_SSSE3}, {1, 0, 'c', 12, INSN_FEAT_FMA},
    {1, 0, 'c', 13, INSN_FEAT_CX16}, {1, 0, 'c', 19, INSN_FEAT_SSE41},
    {1, 0, 'c', 20, INSN_FEAT_SSE42}, {1, 0, 'c', 22, INSN_FEAT_MOVBE},
    {1, 0, 'c', 23, INSN_FEAT_POPCNT}, {1, 0, 'c', 25, INSN_FEAT_AES},
    {1, 0, 'c', 26, INSN_FEAT_XSAVE}, {1, 0, 'c', 28, INSN_FEAT_AVX},
    {1, 0, 'c', 29, INSN_FEAT_F16C}, {1, 0, 'c', 30, INSN_FEAT_RDRAND},
    {7, 0, 'b', 0, INSN_FEAT_FSGSBASE}, {7, 0, 'b', 3, INSN_FEAT_BMI1},
    {7, 0, 'b', 5, INSN_FEAT_AVX2}, {7, 0, 'b', 8, INSN_FEAT_BMI2},
    {7, 0, 'b', 10, INSN_FEAT_INVPCID}, {7, 0, 'b', 18, INSN_FEAT_RDSEED},
    {7, 0, 'b', 19, INSN_FEAT_ADX}, {7, 0, 'b', 20, INSN_FEAT_SMAP},
    {7, 0, 'b', 23, INSN_FEAT_CLFLUSHOPT}, {7, 0, 'b', 24, INSN_FEAT_CLWB},
    {7, 0, 'b', 29, INSN_FEAT_SHA}, {7, 0, 'c', 22, INSN_FEAT_RDPID},
    {0xd, 1, 'a', 0, INSN_FEAT_XSAVEOPT}, {0xd, 1, 'a', 1, INSN_FEAT_XSAVEC},
    {0xd, 1, 'a', 3, INSN_FEAT_XSAVES}, {0x80000001, 0, 'c', 5, INSN_FEAT_LZCNT},
    {0x80000001, 0, 'c', 8, INSN_FEAT_PREFETCHW}, {0x80000001, 0, 'd', 27, INSN_FEAT_RDTSCP},
};

static void model_features(struct cpu_model *m)
{
    m->features[INSN_FEAT_BASE] = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(model_feature_bits); i++) {
        const struct cpuid_leaf *l =
            cpu_model_get(m, model_feature_bits[i].leaf, model_feature_bits[i].subleaf);
        uint32_t value = 0;

        if (l != NULL) {
            const uint32_t regs[4] = {l->eax, l->ebx, l->ecx, l->edx};

            value = regs[model_feature_bits[i].reg - 'a'];
        }
        m->features[model_feature_bits[i].feature] =
            (value & BIT(model_feature_bits[i].bit)) != 0;
    }
    m->features[INSN_FEAT_PREFETCHW] = true; /* a no-operation everywhere */
}

/* What LDMXCSR takes when the host executes it: AMD's has MM, too. */
static uint32_t model_mxcsr_mask(void)
{
    enum { ALL_HAVE = 0xffff, MASK = 28 };
    _Alignas(16) uint8_t area[512] = {0};
    uint32_t mask;

    __asm__ volatile("fxsave64 %0" : "=m"(area));
    memcpy(&mask, area + MASK, sizeof(mask));
    return mask | ALL_HAVE;
}

static void model_registers(struct cpu_model *m)
{
    m->cr4_mask = CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_MCE |
                  CPU_CR4_PGE | CPU_CR4_PCE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    if (m->features[INSN_FEAT_FSGSBASE]) {
        m->cr4_mask |= CPU_CR4_FSGSBASE;
    }
    if ((cpu_model_get(m, 1, 0)->ecx & BIT(17)) != 0) {
        m->cr4_mask |= CPU_CR4_PCIDE;
    }
    if ((cpu_model_get(m, 7, 0)->ebx & BIT(7)) != 0) {
        m->cr4_mask |= CPU_CR4_SMEP;
    }
    if (m->features[INSN_FEAT_XSAVE]) {
        m->cr4_mask |= CPU_CR4_OSXSAVE;
    }
    m->efer_mask = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    if (m->amd) {
        m->efer_mask |= EFER_AUTOIBRS;
    }
    m->mxcsr_mask = model_mxcsr_mask();
}

/* ---- less than that: an engine that cannot give everything ---- */

static const struct {
    uint32_t leaf, subleaf;
    char reg; /* 'a' .. 'd' */
    uint32_t mask; /* the bits that need the engine; the others are hints or our own code */
} model_engine_bits[] = {
    {1, 0, 'c', LEAF1_ECX_PASS | BIT(17)},
    {7, 0, 'b', LEAF7_EBX_PASS | BIT(0) | BIT(7) | BIT(10)}, /* FSGSBASE SMEP INVPCID */
    {7, 0, 'c', LEAF7_ECX_PASS},
    {0xd, 0, 'a', CPU_XCR0_MASK},
    {0xd, 1, 'a', LEAFD1_EAX_PASS},
    {0x80000001, 0, 'c', EXT1_ECX_PASS},
    {0x80000001, 0, 'd', EXT1_EDX_PASS | EXT1_EDX_FORCE},
};

static uint32_t *leaf_register(struct cpuid_leaf *l, char reg)
{
    uint32_t *const regs[4] = {&l->eax, &l->ebx, &l->ecx, &l->edx};

    return regs[reg - 'a'];
}

/* Bits of row i that the profile shows and `have` has not. */
static uint32_t model_excess(const struct cpu_model *m, unsigned i,
                             const struct cpuid_leaf *have, unsigned n)
{
    const struct cpuid_leaf *shown =
        cpu_model_get(m, model_engine_bits[i].leaf, model_engine_bits[i].subleaf);
    struct cpuid_leaf l;
    uint32_t excess;

    if (shown == NULL) {
        return 0;
    }
    l = *shown;
    excess = *leaf_register(&l, model_engine_bits[i].reg) & model_engine_bits[i].mask;
    for (unsigned k = 0; k < n; k++) {
        if (have[k].leaf == l.leaf && have[k].subleaf == l.subleaf) {
            l = have[k];
            return excess & ~*leaf_register(&l, model_engine_bits[i].reg);
        }
    }
    return excess;
}

bool cpu_model_fits(const struct cpu_model *m, const struct cpuid_leaf *have, unsigned n)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(model_engine_bits); i++) {
        if (model_excess(m, i, have, n) != 0) {
            return false;
        }
    }
    return true;
}

void cpu_model_clip(struct cpu_model *m, const struct cpuid_leaf *have, unsigned n)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(model_engine_bits); i++) {
        uint32_t excess = model_excess(m, i, have, n);
        struct cpuid_leaf l;

        if (excess != 0) {
            l = *cpu_model_get(m, model_engine_bits[i].leaf, model_engine_bits[i].subleaf);
            *leaf_register(&l, model_engine_bits[i].reg) &= ~excess;
            cpu_model_set(m, &l);
        }
    }
    if (cpu_model_get(m, 0xd, 0) != NULL) {
        m->xcr0_mask &= cpu_model_get(m, 0xd, 0)->eax;
        m->xsaves = (cpu_model_get(m, 0xd, 1)->eax & BIT(3)) != 0;
    }
    m->pages_1g = (cpu_model_get(m, 0x80000001, 0)->edx & BIT(26)) != 0;
    model_features(m);
    model_registers(m);
}

struct cpu_model *cpu_model_new_host(GError **err)
{
    struct cpu_model *m;
    struct regs ext = host_cpuid(0x80000001, 0);

    if ((ext.edx & BIT(29)) == 0 || (host_cpuid(1, 0).edx & BIT(26)) == 0) {
        error_set(err, PVEMU_ERROR_HOST, "the host processor reports no 64-bit mode or SSE2");
        return NULL;
    }
    m = g_new0(struct cpu_model, 1);
    m->leaves = g_array_new(FALSE, TRUE, sizeof(struct cpuid_leaf));
    m->tsc_hz = x86_measure_tsc_hz();
    model_basic_leaves(m);
    model_xsave_leaves(m);
    model_tsc_leaves(m);
    model_extended_leaves(m);
    model_features(m);
    model_registers(m);
    return m;
}
