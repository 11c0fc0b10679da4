/* SPDX-License-Identifier: MIT */
/*
 * The architecture, engine-neutral: translation, memory access by linear address, segments,
 * event delivery, system instructions, CPUID and MSRs. Everything works on v->cpu, on the
 * vCPU's own thread (or on a stopped vCPU), and changes nothing when it reports a fault.
 */
#ifndef PVEMU_CPU_X86_X86_H
#define PVEMU_CPU_X86_X86_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/vcpu.h"
#include "cpu/x86/decode.h"

/* An exception to be raised. */
struct x86_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2; /* page faults */
    uint64_t dr6; /* #DB: bits to merge */
};

enum x86_access {
    X86_READ = 1,
    X86_WRITE = 2,
    X86_EXEC = 4,
    X86_USER = 8, /* made at CPL 3 */
    X86_IMPLICIT =
        16, /* implicit supervisor access (descriptor tables, TSS): SMAP whatever AC says */
};

/* The result of a page walk. */
struct x86_mapping {
    uint64_t gpa;       /* of the address asked for */
    uint64_t page_size; /* 4 KiB, 2 MiB, 4 MiB or 1 GiB (what the guest's tables say) */
    bool user, global, executable;
    bool writable; /* by the tables (all levels R/W) */
    bool dirty;    /* D is set, so writes need no further walk */
};

/*
 * paging.c. Walks the current tables (or none), sets A, and D for X86_WRITE, by cmpxchg. false:
 * *fault is a #PF (or #GP for a reserved state). Canonical checks are the caller's.
 */
bool x86_translate(struct vcpu *v, uint64_t gva, unsigned access, struct x86_mapping *map,
                   struct x86_fault *fault);
/* For debuggers, pv/ and dumps: no A/D, no permission checks. false when not mapped. */
bool x86_probe(struct vcpu *v, uint64_t gva, uint64_t *gpa);

/*
 * linear.c. Access by linear address, RAM or MMIO, across pages (both pages are checked before
 * anything is written). access: X86_READ or X86_WRITE, with X86_USER and X86_IMPLICIT.
 */
bool x86_read_linear(struct vcpu *v, uint64_t gva, void *buf, size_t len, unsigned access,
                     struct x86_fault *fault);
bool x86_write_linear(struct vcpu *v, uint64_t gva, const void *buf, size_t len,
                      unsigned access, struct x86_fault *fault);
/* X86_USER when CPL is 3, else 0. */
unsigned x86_cpl_access(const struct vcpu *v);

/*
 * segment.c. Logical to linear with limit, type and canonical checks for an access of len bytes
 * (#GP(0) or #SS(0)).
 */
bool x86_linear(struct vcpu *v, enum cpu_segreg seg, uint64_t offset, size_t len,
                unsigned access, uint64_t *gva, struct x86_fault *fault);
/* Address of the memory operand of *in, before segmentation. next_rip is for RIP-relative. */
uint64_t x86_effective_address(const struct cpu_x86 *cpu, const struct insn *in,
                               uint64_t next_rip);
/* Loads a data segment register or SS with every check of MOV to segment register. */
bool x86_load_segment(struct vcpu *v, enum cpu_segreg seg, uint16_t selector,
                      struct x86_fault *fault);

/*
 * except.c. Delivers a fault found while executing the instruction at cpu.rip: saves the frame,
 * loads the handler; nested faults become #DF; returns false for a triple fault
 * (EXIT_SHUTDOWN).
 */
bool x86_raise(struct vcpu *v, const struct x86_fault *fault);
/* An external interrupt or NMI at an instruction boundary. */
bool x86_interrupt(struct vcpu *v, uint8_t vector);
bool x86_nmi(struct vcpu *v);

/*
 * system.c. Executes an instruction with INSN_F_SYSTEM completely: privilege and mode checks,
 * memory operands, effects, and cpu.rip (to the next instruction or the target). false: *fault
 * is to be raised, nothing has changed (REP INS/OUTS: registers show the iterations done, rip
 * is still at it). HLT sets cpu.halted. Sets cpu.irq_shadow for STI, MOV SS, POP SS.
 * Single-step traps are the engine's. The FPU state is at home (v->cpu.xsave) when called.
 */
bool x86_system_insn(struct vcpu *v, const struct insn *in, struct x86_fault *fault);

/* pv_native.c. A paravirtual guest's instruction at cpu.rip ran by itself and raised *fault, a
 * #GP: the hypervisor carries it out, or an exception is delivered. Vector registers need not be
 * home. */
void x86_pv_protection(struct vcpu *v, const struct x86_fault *fault);

/* Checks that an instruction of class INSN_NATIVE may run now: CR0.EM/TS/MP,
 * CR4.OSFXSR/OSXSAVE, XCR0, and the profile's features: #UD or #NM. Also used for integer
 * instructions with a feature bit. */
bool x86_native_allowed(struct vcpu *v, const struct insn *in, struct x86_fault *fault);

/*
 * fpu.c. Makes two images of XSAVE in standard format (832 bytes) comparable: components in their
 * initial state get its bytes; FOP, FIP, FDP, MXCSR_MASK, what is reserved and the header,
 * XSTATE_BV with it, become 0. So once only for each image.
 */
void x86_xsave_normalise(uint8_t *image);

/* The decoder mode of the current CS. */
enum insn_mode x86_insn_mode(const struct cpu_x86 *cpu);

/*
 * cpuid.c. The CPUID profile: fixed when the guest starts, the same on every engine.
 */
struct cpuid_leaf {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};
struct cpu_model;
/* The host clipped to what every engine runs natively. features that need the OS (OSXSAVE) are
 * dynamic. */
struct cpu_model *cpu_model_new_host(GError **err);
void cpu_model_free(struct cpu_model *m);
/* Takes away what an engine cannot give: `have` are the n leaves of what it can. Before the guest
 * starts. */
void cpu_model_clip(struct cpu_model *m, const struct cpuid_leaf *have, unsigned n);
/* Nothing would have to be taken away. */
bool cpu_model_fits(const struct cpu_model *m, const struct cpuid_leaf *have, unsigned n);
/* Adds or replaces a leaf (Xen leaves 0x40000000..). */
void cpu_model_set(struct cpu_model *m, const struct cpuid_leaf *leaf);
const struct cpuid_leaf *cpu_model_get(const struct cpu_model *m, uint32_t leaf,
                                       uint32_t subleaf);
bool cpu_model_has(const struct cpu_model *m, enum insn_feature feature);
bool cpu_model_is_amd(const struct cpu_model *m); /* AMD or Hygon: VMMCALL, CSTAR, ... */
uint64_t cpu_model_tsc_hz(const struct cpu_model *m);
/* What CPUID returns now on this vCPU: dynamic bits (APIC id, OSXSAVE, XCR0 size) filled in,
 * vCPU id in leaves 1, 0xb, 0x8000001e and Xen leaf 4. */
void x86_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* msr.c. false: #GP(0). Unknown ones go to board_ops->rdmsr/wrmsr. */
bool x86_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value);
bool x86_wrmsr(struct vcpu *v, uint32_t index, uint64_t value);

/* Guest TSC now. */
uint64_t x86_tsc(const struct vcpu *v);

#endif
