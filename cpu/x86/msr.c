/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers that the CPU itself owns (Intel SDM vol. 4, AMD APM vol. 2 appendix
 * A).
 *
 * Three groups: registers with a home in struct cpu_x86; registers that read as a constant and
 * swallow harmless writes, because kernels touch them by family and model without asking CPUID;
 * and everything else, which the board knows (local APIC, Xen) or which is #GP.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

enum msr_index {
    MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_EBL_CR_POWERON = 0x2a,
    MSR_FEATURE_CONTROL = 0x3a, MSR_TSC_ADJUST = 0x3b, MSR_UCODE_WRITE = 0x79,
    MSR_PLATFORM_INFO = 0xce, MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a, MSR_FLUSH_CMD = 0x10b, MSR_MISC_FEATURES = 0x140,
    MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a, MSR_MCG_CTL = 0x17b, MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9, MSR_PAT = 0x277, MSR_MTRR_DEF_TYPE = 0x2ff, MSR_XSS = 0xda0,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_FMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_AMD_FIRST 0xc0010000u
#define MSR_AMD_LAST 0xc001ffffu
#define MSR_AMD_HWCR 0xc0010015u
#define MSR_AMD_VM_CR 0xc0010114u
#define MSR_AMD_DE_CFG 0xc0011029u
#define DE_CFG_LFENCE_SERIALIZE 2ull
#define HWCR_TSC_FREQ_SEL (1ull << 24)
#define VM_CR_SVM_DISABLED 0x10ull
#define EFER_WRITE_IGNORED ((uint64_t)CPU_EFER_LMA)
#define MISC_ENABLE_WRITABLE 0x0000000000c51889ull

/* RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO IF_PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO
 * PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO */
#define ARCH_CAPABILITIES                                                                      \
    (1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 |       \
     1ull << 13 | 1ull << 14 | 1ull << 15 | 1ull << 20 | 1ull << 24 | 1ull << 26 |             \
     1ull << 27 | 1ull << 62)

/* The home of a register that holds any 64-bit (canonical: addresses) value; NULL: none. */
static uint64_t *msr_home(struct cpu_x86 *cpu, uint32_t index, bool *address)
{
    *address = false;
    switch (index) {
    case MSR_STAR:
        return &cpu->star;
    case MSR_FMASK:
        return &cpu->fmask;
    case MSR_SYSENTER_CS:
        return &cpu->sysenter_cs;
    default:
        break;
    }
    *address = true;
    switch (index) {
    case MSR_LSTAR:
        return &cpu->lstar;
    case MSR_CSTAR:
        return &cpu->cstar;
    case MSR_FS_BASE:
        return &cpu->seg[CPU_FS].base;
    case MSR_GS_BASE:
        return &cpu->seg[CPU_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    case MSR_SYSENTER_ESP:
        return &cpu->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &cpu->sysenter_eip;
    default:
        return NULL;
    }
}

static bool msr_is_amd_quirk(const struct vcpu *v, uint32_t index)
{
    return cpu_model_of(v)->amd && index >= MSR_AMD_FIRST && index <= MSR_AMD_LAST;
}

static uint64_t msr_read_amd(uint32_t index)
{
    switch (index) {
    case MSR_AMD_HWCR:
        return HWCR_TSC_FREQ_SEL;
    case MSR_AMD_VM_CR:
        return VM_CR_SVM_DISABLED;
    case MSR_AMD_DE_CFG:
        return DE_CFG_LFENCE_SERIALIZE;
    default:
        return 0;
    }
}

static bool msr_read_constant(struct vcpu *v, uint32_t index, uint64_t *value)
{
    bool amd = cpu_model_of(v)->amd;

    *value = 0;
    switch (index) {
    case MSR_UCODE_REV:
        *value = amd ? 0x01000065 : 0xffffffffull << 32;
        return true;
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_MTRR_CAP:
    case MSR_DEBUGCTL:
        return true;
    case MSR_FEATURE_CONTROL:
        *value = 1; /* locked, everything off */
        return !amd;
    case MSR_ARCH_CAPABILITIES:
        *value = ARCH_CAPABILITIES;
        return !amd;
    case MSR_PLATFORM_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_PLATFORM_INFO:
    case MSR_MISC_FEATURES:
        return !amd;
    default:
        return false;
    }
}

bool x86_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    struct cpu_x86 *cpu = &v->cpu;
    bool address;
    uint64_t *home = msr_home(cpu, index, &address);

    if (home != NULL) {
        *value = *home;
        return true;
    }
    switch (index) {
    case MSR_TSC:
        *value = x86_tsc(v);
        return true;
    case MSR_TSC_ADJUST:
        *value = (uint64_t)cpu->tsc_adjust;
        return true;
    case MSR_TSC_AUX:
        *value = cpu->tsc_aux;
        return cpu_model_has(v->model, INSN_FEAT_RDTSCP) ||
               cpu_model_has(v->model, INSN_FEAT_RDPID);
    case MSR_EFER:
        *value = cpu->efer;
        return true;
    case MSR_PAT:
        *value = cpu->pat;
        return true;
    case MSR_MTRR_DEF_TYPE:
        *value = cpu->mtrr_def_type;
        return true;
    case MSR_MISC_ENABLE:
        *value = cpu->misc_enable;
        return !cpu_model_of(v)->amd;
    case MSR_SPEC_CTRL:
        *value = cpu->spec_ctrl;
        return !cpu_model_of(v)->amd;
    case MSR_XSS:
        *value = cpu->xss;
        return cpu_model_of(v)->xsaves;
    default:
        break;
    }
    if (msr_read_constant(v, index, value)) {
        return true;
    }
    if (msr_is_amd_quirk(v, index)) {
        *value = msr_read_amd(index);
        return true;
    }
    return v->board_ops != NULL && v->board_ops->rdmsr != NULL &&
           v->board_ops->rdmsr(v, index, value);
}

static bool msr_write_efer(struct vcpu *v, uint64_t value)
{
    struct cpu_x86 *cpu = &v->cpu;
    uint64_t changed;

    if ((value & ~cpu_model_of(v)->efer_mask) != 0) {
        return false;
    }
    value = (value & ~EFER_WRITE_IGNORED) | (cpu->efer & EFER_WRITE_IGNORED);
    changed = cpu->efer ^ value;
    if ((changed & CPU_EFER_LME) != 0 && (cpu->cr0 & CPU_CR0_PG) != 0) {
        return false;
    }
    cpu->efer = value;
    if ((changed & CPU_EFER_NXE) != 0) {
        vcpu_tlb_flush(v, VCPU_FLUSH_ALL, 0);
    }
    return true;
}

static bool msr_pat_valid(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = (value >> (i * 8)) & 0xff;

        if (type > 7 || type == 2 || type == 3) {
            return false;
        }
    }
    return true;
}

static void msr_write_tsc(struct cpu_x86 *cpu, uint64_t delta)
{
    cpu->tsc_offset = (int64_t)((uint64_t)cpu->tsc_offset + delta);
    cpu->tsc_adjust = (int64_t)((uint64_t)cpu->tsc_adjust + delta);
}

/* Registers whose writes are accepted and forgotten. */
static bool msr_write_ignored(const struct vcpu *v, uint32_t index, uint64_t value)
{
    bool amd = cpu_model_of(v)->amd;

    switch (index) {
    case MSR_UCODE_REV:
    case MSR_UCODE_WRITE:
    case MSR_MCG_STATUS:
        return true;
    case MSR_DEBUGCTL:
        return value <= 3; /* LBR, BTF: not implemented, not an error */
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD:
        return !amd && value <= 1;
    case MSR_EBL_CR_POWERON:
    case MSR_MISC_FEATURES:
        return !amd && value == 0;
    default:
        return msr_is_amd_quirk(v, index);
    }
}

bool x86_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    struct cpu_x86 *cpu = &v->cpu;
    bool address;
    uint64_t *home = msr_home(cpu, index, &address);

    if (home != NULL) {
        if (address && !x86_is_canonical(value)) {
            return false;
        }
        *home = index == MSR_FMASK ? (uint32_t)value : value;
        return true;
    }
    switch (index) {
    case MSR_TSC:
        msr_write_tsc(cpu, value - x86_tsc(v));
        return true;
    case MSR_TSC_ADJUST:
        msr_write_tsc(cpu, value - (uint64_t)cpu->tsc_adjust);
        return true;
    case MSR_TSC_AUX:
        if ((value >> 32) != 0) {
            return false;
        }
        cpu->tsc_aux = value;
        return true;
    case MSR_EFER:
        return msr_write_efer(v, value);
    case MSR_PAT:
        if (!msr_pat_valid(value)) {
            return false;
        }
        cpu->pat = value;
        return true;
    case MSR_MTRR_DEF_TYPE:
        if ((value & ~0xcffull) != 0) {
            return false;
        }
        cpu->mtrr_def_type = value;
        return true;
    case MSR_MISC_ENABLE:
        cpu->misc_enable = value & MISC_ENABLE_WRITABLE;
        return !cpu_model_of(v)->amd;
    case MSR_SPEC_CTRL:
        if (cpu_model_of(v)->amd || (value & ~7ull) != 0) {
            return false;
        }
        cpu->spec_ctrl = value;
        return true;
    case MSR_XSS:
        return cpu_model_of(v)->xsaves && value == 0;
    default:
        break;
    }
    if (msr_write_ignored(v, index, value)) {
        return true;
    }
    return v->board_ops != NULL && v->board_ops->wrmsr != NULL &&
           v->board_ops->wrmsr(v, index, value);
}
