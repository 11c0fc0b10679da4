/* SPDX-License-Identifier: MIT */
/*
 * The one CPU state: everything architectural that a vCPU has, in one struct that every engine
 * reads and writes. An engine may keep parts elsewhere while it runs and brings them home
 * before run() returns or a board callback is made. Save files, the debugger, pv/ and the
 * differential tests see only this. Names follow the Intel SDM vol. 3 chapter 2.
 */
#ifndef PVEMU_CORE_CPU_H
#define PVEMU_CORE_CPU_H

#include <stdbool.h>
#include <stdint.h>

enum cpu_gpr {
    CPU_RAX,
    CPU_RCX,
    CPU_RDX,
    CPU_RBX,
    CPU_RSP,
    CPU_RBP,
    CPU_RSI,
    CPU_RDI,
    CPU_R8,
    CPU_R9,
    CPU_R10,
    CPU_R11,
    CPU_R12,
    CPU_R13,
    CPU_R14,
    CPU_R15,
    CPU_NR_GPR
};

enum cpu_segreg { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_NR_SEG };

/*
 * A segment register with its hidden part. attr holds descriptor bits 40..55 shifted down to 0:
 * type 0..3, S 4, DPL 5..6, P 7, AVL 12, L 13, D/B 14, G 15 (the VMX access-rights layout).
 * limit is in bytes, already scaled by G. unusable is set after loading a null selector.
 */
struct cpu_segment {
    uint16_t selector;
    uint16_t attr;
    bool unusable;
    uint32_t limit;
    uint64_t base;
};

enum {
    CPU_SEG_TYPE = 0xf,
    CPU_SEG_S = 1 << 4,
    CPU_SEG_DPL_SHIFT = 5,
    CPU_SEG_P = 1 << 7,
    CPU_SEG_AVL = 1 << 12,
    CPU_SEG_L = 1 << 13,
    CPU_SEG_DB = 1 << 14,
    CPU_SEG_G = 1 << 15,
};

struct cpu_table {
    uint64_t base;
    uint16_t limit;
};

enum cpu_rflags {
    CPU_CF = 1 << 0,
    CPU_PF = 1 << 2,
    CPU_AF = 1 << 4,
    CPU_ZF = 1 << 6,
    CPU_SF = 1 << 7,
    CPU_TF = 1 << 8,
    CPU_IF = 1 << 9,
    CPU_DF = 1 << 10,
    CPU_OF = 1 << 11,
    CPU_IOPL = 3 << 12,
    CPU_NT = 1 << 14,
    CPU_RF = 1 << 16,
    CPU_VM = 1 << 17,
    CPU_AC = 1 << 18,
    CPU_VIF = 1 << 19,
    CPU_VIP = 1 << 20,
    CPU_ID = 1 << 21,
};
#define CPU_STATUS_FLAGS (CPU_CF | CPU_PF | CPU_AF | CPU_ZF | CPU_SF | CPU_OF)

#define CPU_CR0_PE (1u << 0)
#define CPU_CR0_MP (1u << 1)
#define CPU_CR0_EM (1u << 2)
#define CPU_CR0_TS (1u << 3)
#define CPU_CR0_ET (1u << 4)
#define CPU_CR0_NE (1u << 5)
#define CPU_CR0_WP (1u << 16)
#define CPU_CR0_AM (1u << 18)
#define CPU_CR0_NW (1u << 29)
#define CPU_CR0_CD (1u << 30)
#define CPU_CR0_PG (1u << 31)

#define CPU_CR4_VME        (1u << 0)
#define CPU_CR4_PVI        (1u << 1)
#define CPU_CR4_TSD        (1u << 2)
#define CPU_CR4_DE         (1u << 3)
#define CPU_CR4_PSE        (1u << 4)
#define CPU_CR4_PAE        (1u << 5)
#define CPU_CR4_MCE        (1u << 6)
#define CPU_CR4_PGE        (1u << 7)
#define CPU_CR4_PCE        (1u << 8)
#define CPU_CR4_OSFXSR     (1u << 9)
#define CPU_CR4_OSXMMEXCPT (1u << 10)
#define CPU_CR4_UMIP       (1u << 11)
#define CPU_CR4_LA57       (1u << 12)
#define CPU_CR4_FSGSBASE   (1u << 16)
#define CPU_CR4_PCIDE      (1u << 17)
#define CPU_CR4_OSXSAVE    (1u << 18)
#define CPU_CR4_SMEP       (1u << 20)
#define CPU_CR4_SMAP       (1u << 21)
#define CPU_CR4_PKE        (1u << 22)

#define CPU_EFER_SCE (1u << 0)
#define CPU_EFER_LME (1u << 8)
#define CPU_EFER_LMA (1u << 10)
#define CPU_EFER_NXE (1u << 11)

enum cpu_vector {
    CPU_DE = 0,
    CPU_DB = 1,
    CPU_NMI = 2,
    CPU_BP = 3,
    CPU_OVERFLOW = 4,
    CPU_BR = 5,
    CPU_UD = 6,
    CPU_NM = 7,
    CPU_DOUBLE_FAULT = 8,
    CPU_TS = 10,
    CPU_NP = 11,
    CPU_STACK_FAULT = 12,
    CPU_GP = 13,
    CPU_PAGE_FAULT = 14,
    CPU_MF = 16,
    CPU_ALIGN = 17,
    CPU_MC = 18,
    CPU_XM = 19,
};

/* Page-fault error code bits (SDM vol. 3 4.7). */
enum { CPU_PFEC_P = 1, CPU_PFEC_W = 2, CPU_PFEC_U = 4, CPU_PFEC_RSVD = 8, CPU_PFEC_I = 16 };

/* XSAVE area in the standard (not compacted) format; large enough for x87, SSE, AVX (832
 * bytes). */
enum { CPU_XSAVE_SIZE = 1088, CPU_XCR0_MASK = 7 };

struct cpu_x86 {
    uint64_t gpr[CPU_NR_GPR];
    uint64_t rip;
    uint64_t rflags; /* bit 1 always set */

    struct cpu_segment seg[CPU_NR_SEG];
    struct cpu_segment ldtr, tr;
    struct cpu_table gdtr, idtr;

    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t dr[8]; /* dr4 and dr5 unused */
    uint64_t xcr0;

    /* MSRs with a home of their own. */
    uint64_t efer, star, lstar, cstar, fmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, misc_enable, spec_ctrl, xss, mtrr_def_type;
    uint64_t apic_base;
    int64_t tsc_offset; /* guest TSC = host TSC + tsc_offset */
    int64_t tsc_adjust;

    /* Between instructions. */
    bool irq_shadow;  /* STI or MOV/POP SS just executed: no interrupt before the next insn */
    bool nmi_blocked; /* until IRET */
    bool nmi_pending;
    bool halted; /* HLT executed; run() returned EXIT_HALT */
    uint8_t cpl; /* kept equal to SS.DPL (and CS.RPL in real mode 0, V86 mode 3) */
    bool pv_kernel; /* a paravirtual guest (vcpu.pv) is in its kernel, at CPL 3 like its user */

    _Alignas(64) uint8_t xsave[CPU_XSAVE_SIZE]; /* FXSAVE image first; XSTATE_BV kept valid */
};

static inline bool cpu_is_long_mode(const struct cpu_x86 *cpu)
{
    return (cpu->efer & CPU_EFER_LMA) != 0;
}

/* 64-bit code is running (not compatibility mode). */
static inline bool cpu_is_code64(const struct cpu_x86 *cpu)
{
    return cpu_is_long_mode(cpu) && (cpu->seg[CPU_CS].attr & CPU_SEG_L) != 0;
}

/* Puts *cpu into the state after INIT/power-on reset (SDM vol. 3 table 9-1). */
void cpu_reset(struct cpu_x86 *cpu);

#endif
