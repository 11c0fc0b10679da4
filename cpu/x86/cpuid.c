/* SPDX-License-Identifier: MIT */
/*
 * The CPUID profile as a table of leaves, and what CPUID returns on one vCPU: the table plus
 * the fields that depend on the vCPU and its control registers (APIC id, topology, OSXSAVE,
 * XSAVE size).
 *
 * Topology: one package, one thread per core, APIC id 2 * vCPU as Xen numbers them (so the SMT
 * field is one bit wide and its odd values stay empty). Leaves that are not in the table are
 * zero.
 */
#include "cpu/x86/x86.h"

#include "core/board.h"
#include "cpu/x86/internal.h"

enum { FXSAVE_SIZE = 512, XSAVE_HEADER_SIZE = 64, AVX_OFFSET = 576, AVX_SIZE = 256 };
#define LEAF_XEN 0x40000000u
#define XEN_SIGNATURE_EBX 0x566e6558u /* "XenV" */
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_EDX_HTT (1u << 28)

const struct cpu_model cpu_model_default = {
    .phys_bits = 40,
    .cr4_mask = CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_MCE |
                CPU_CR4_PGE | CPU_CR4_PCE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_UMIP |
                CPU_CR4_FSGSBASE | CPU_CR4_PCIDE | CPU_CR4_OSXSAVE | CPU_CR4_SMEP |
                CPU_CR4_SMAP,
    .efer_mask = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE,
    .xcr0_mask = CPU_XCR0_MASK,
    .mxcsr_mask = 0xffff,
    .tsc_hz = 1000000000,
    .pages_1g = true,
    .xsaves = true,
};

void cpu_model_free(struct cpu_model *m)
{
    if (m != NULL) {
        g_array_unref(m->leaves);
        g_free(m);
    }
}

static struct cpuid_leaf *cpuid_find(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < m->leaves->len; i++) {
        struct cpuid_leaf *l = &g_array_index(m->leaves, struct cpuid_leaf, i);

        if (l->leaf == leaf && l->subleaf == subleaf) {
            return l;
        }
    }
    return NULL;
}

void cpu_model_set(struct cpu_model *m, const struct cpuid_leaf *leaf)
{
    struct cpuid_leaf *old = cpuid_find(m, leaf->leaf, leaf->subleaf);

    if (old != NULL) {
        *old = *leaf;
    } else {
        g_array_append_val(m->leaves, *leaf);
    }
}

const struct cpuid_leaf *cpu_model_get(const struct cpu_model *m, uint32_t leaf,
                                       uint32_t subleaf)
{
    return cpuid_find(m, leaf, subleaf);
}

bool cpu_model_has(const struct cpu_model *m, enum insn_feature feature)
{
    return m == NULL || feature == INSN_FEAT_BASE || m->features[feature];
}

bool cpu_model_is_amd(const struct cpu_model *m)
{
    return m->amd;
}

uint64_t cpu_model_tsc_hz(const struct cpu_model *m)
{
    return m->tsc_hz;
}

static uint32_t cpuid_apic_id(const struct vcpu *v)
{
    return v->id * 2;
}

static unsigned cpuid_nr_vcpus(const struct vcpu *v)
{
    struct board *b = v->board;

    return b != NULL && b->ops != NULL && b->ops->nr_vcpus != NULL ? MAX(b->ops->nr_vcpus(b), 1)
                                                                   : 1;
}

/* Bits of an APIC id below the package: one for the empty SMT field, the rest for cores. */
static unsigned cpuid_package_shift(unsigned nr)
{
    unsigned bits = 1;

    while ((1u << bits) < nr * 2) {
        bits++;
    }
    return bits;
}

static uint32_t cpuid_xsave_size(uint64_t components)
{
    return (components & 4) != 0 ? AVX_OFFSET + AVX_SIZE : FXSAVE_SIZE + XSAVE_HEADER_SIZE;
}

static void cpuid_dynamic_leaf1(const struct vcpu *v, unsigned nr, uint32_t out[4])
{
    out[1] = (out[1] & 0xff00) | (cpuid_apic_id(v) & 0xff) << 24 |
             MIN(1u << cpuid_package_shift(nr), 255u) << 16 | (out[1] & 0xff);
    out[2] &= ~LEAF1_ECX_OSXSAVE;
    if ((v->cpu.cr4 & CPU_CR4_OSXSAVE) != 0) {
        out[2] |= LEAF1_ECX_OSXSAVE;
    }
    out[3] = nr > 1 ? out[3] | LEAF1_EDX_HTT : out[3] & ~LEAF1_EDX_HTT;
}

static void cpuid_dynamic_topology(const struct vcpu *v, unsigned nr, uint32_t subleaf,
                                   uint32_t out[4])
{
    out[0] = subleaf == 0 ? 1 : subleaf == 1 ? cpuid_package_shift(nr) : 0;
    out[1] = subleaf == 0 ? 1 : subleaf == 1 ? nr : 0;
    out[2] = subleaf | (subleaf < 2 ? (subleaf + 1) << 8 : 0);
    out[3] = cpuid_apic_id(v);
}

/* Which processors share a cache: leaf 4 (Intel) and 0x8000001d (AMD) EAX[25:14]. */
static void cpuid_dynamic_cache(unsigned nr, bool intel, uint32_t out[4])
{
    unsigned level = (out[0] >> 5) & 7;
    uint32_t sharing = level >= 3 ? (1u << cpuid_package_shift(nr)) - 1 : 1;

    if ((out[0] & 0x1f) == 0) {
        return;
    }
    out[0] = (out[0] & 0x3fff) | sharing << 14;
    if (intel) {
        out[0] |= MIN((1u << (cpuid_package_shift(nr) - 1)) - 1, 63u) << 26;
    }
}

static void cpuid_dynamic_xsave(const struct vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    if (subleaf == 0 && out[0] != 0) {
        out[1] = cpuid_xsave_size(v->cpu.xcr0);
    } else if (subleaf == 1 && (out[0] & 2) != 0) {
        out[1] = cpuid_xsave_size(v->cpu.xcr0 | v->cpu.xss);
    }
}

/* Leaves without a meaning for ECX are stored under subleaf 0. */
static bool cpuid_has_subleaves(uint32_t leaf)
{
    return leaf == 2 || leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd ||
           leaf == 0x8000001d || leaf == LEAF_XEN + 3;
}

/* Of these only subleaf 0 is there; the hypervisor's others ignore ECX (xen/arch-x86/cpuid.h). */
static bool cpuid_has_one_subleaf(uint32_t leaf)
{
    return leaf == LEAF_XEN + 4 || leaf == LEAF_XEN + 5;
}

void x86_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct cpu_model *m = v->model;
    const struct cpuid_leaf *l = NULL;
    unsigned nr = cpuid_nr_vcpus(v);

    if (m != NULL && !(cpuid_has_one_subleaf(leaf) && subleaf != 0)) {
        l = cpuid_find(m, leaf, cpuid_has_subleaves(leaf) ? subleaf : 0);
    }
    out[0] = l != NULL ? l->eax : 0;
    out[1] = l != NULL ? l->ebx : 0;
    out[2] = l != NULL ? l->ecx : 0;
    out[3] = l != NULL ? l->edx : 0;
    if (m == NULL) {
        return;
    }
    switch (leaf) {
    case 1:
        cpuid_dynamic_leaf1(v, nr, out);
        break;
    case 4:
        cpuid_dynamic_cache(nr, true, out);
        break;
    case 0xb:
        cpuid_dynamic_topology(v, nr, subleaf, out);
        break;
    case 0xd:
        cpuid_dynamic_xsave(v, subleaf, out);
        break;
    case LEAF_XEN + 4:
        l = cpuid_find(m, LEAF_XEN, 0);
        if (l != NULL && l->ebx == XEN_SIGNATURE_EBX && subleaf == 0) {
            out[1] = v->id;
        }
        break;
    case 0x80000008:
        if (m->amd) {
            out[2] = cpuid_package_shift(nr) << 12 | (nr - 1);
        }
        break;
    case 0x8000001d:
        cpuid_dynamic_cache(nr, false, out);
        break;
    case 0x8000001e:
        out[0] = cpuid_apic_id(v);
        out[1] = v->id & 0xff;
        break;
    default:
        break;
    }
}
