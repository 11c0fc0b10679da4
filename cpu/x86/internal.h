/* SPDX-License-Identifier: MIT */
/*
 * What the files of cpu/x86 share among themselves: the CPU profile's struct, fault
 * constructors, descriptors, stacks and operands of system instructions. Nothing outside
 * cpu/x86 includes it, except its unit tests.
 */
#ifndef PVEMU_CPU_X86_INTERNAL_H
#define PVEMU_CPU_X86_INTERNAL_H

#include "cpu/x86/x86.h"

/* ---- cpuid.c ---- */

struct cpu_model {
    bool amd;             /* AMD or Hygon */
    unsigned phys_bits;
    uint64_t tsc_hz;
    uint64_t cr4_mask;    /* bits that may be set */
    uint64_t efer_mask;
    uint64_t xcr0_mask;
    uint32_t mxcsr_mask;
    bool pages_1g;
    bool xsaves;
    bool features[INSN_FEAT_NR];
    GArray *leaves;       /* struct cpuid_leaf */
};

/* Used by vCPUs without a profile (unit tests): everything allowed. */
extern const struct cpu_model cpu_model_default;

static inline const struct cpu_model *cpu_model_of(const struct vcpu *v)
{
    return v->model != NULL ? v->model : &cpu_model_default;
}

/* The guest TSC's rate on this host, by the best source there is. tsc.c */
uint64_t x86_measure_tsc_hz(void);

/* ---- faults: all return false, so that callers can write `return x86_fault_gp(f, 0)` ---- */

static inline bool x86_fault_plain(struct x86_fault *fault, uint8_t vector)
{
    *fault = (struct x86_fault){.vector = vector};
    return false;
}

static inline bool x86_fault_code(struct x86_fault *fault, uint8_t vector, uint32_t error)
{
    *fault = (struct x86_fault){.vector = vector, .has_error = true, .error = error};
    return false;
}

static inline bool x86_fault_ud(struct x86_fault *fault)
{
    return x86_fault_plain(fault, CPU_UD);
}

static inline bool x86_fault_gp(struct x86_fault *fault, uint32_t error)
{
    return x86_fault_code(fault, CPU_GP, error);
}

/* ---- modes ---- */

static inline bool x86_is_v86(const struct cpu_x86 *cpu)
{
    return (cpu->rflags & CPU_VM) != 0;
}

/* Real or V86 mode: selectors are paragraphs. */
static inline bool x86_is_real_style(const struct cpu_x86 *cpu)
{
    return (cpu->cr0 & CPU_CR0_PE) == 0 || x86_is_v86(cpu);
}

static inline unsigned x86_iopl(const struct cpu_x86 *cpu)
{
    return (unsigned)(cpu->rflags >> 12) & 3;
}

static inline bool x86_is_canonical(uint64_t addr)
{
    return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

/* MSRs of msr.c that other files name, too. */
enum { MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49, MSR_UCODE_REV = 0x8b };

/* ---- paging.c, walk.c ---- */

/* Bits of entries of page tables (SDM vol. 3 4.5). */
enum {
    PTE_P = 1 << 0, PTE_RW = 1 << 1, PTE_US = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
    PTE_PS = 1 << 7, PTE_G = 1 << 8,
};
#define PTE_NX   (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

/* Whether what a leaf entry maps at gva is the same in all address spaces. G means nothing in a
 * paravirtual guest: there it is set for user pages, and only its hypervisor flushes. */
static inline bool x86_global_page(const struct vcpu *v, uint64_t gva, uint64_t pte)
{
    if (v->pv != NULL) {
        return (pte & VCPU_PV_PTE_KERNEL) != 0 && gva >= VCPU_PV_KERNEL_START &&
               v->cpu.pv_kernel;
    }
    return (pte & PTE_G) != 0 && (v->cpu.cr4 & CPU_CR4_PGE) != 0;
}

/* ---- paging.c ---- */

/* Whether the four PAE PDPTEs at cr3 are valid (MOV CR3 and friends #GP when not). */
bool x86_pdptes_valid(struct vcpu *v, uint64_t cr3);

/* ---- linear.c ---- */

/* Checks (and sets A/D for) an access without making it. */
bool x86_check_linear(struct vcpu *v, uint64_t gva, size_t len, unsigned access,
                      struct x86_fault *fault);

/* ---- segment.c ---- */

enum {
    DESC_TYPE_CODE = 8, DESC_TYPE_CONFORMING = 4, DESC_TYPE_DOWN = 4, DESC_TYPE_RW = 2,
    DESC_TYPE_ACCESSED = 1,
};
enum {
    DESC_SYS_TSS16 = 1, DESC_SYS_LDT = 2, DESC_SYS_TSS16_BUSY = 3, DESC_SYS_CALL16 = 4,
    DESC_SYS_TASK = 5, DESC_SYS_INT16 = 6, DESC_SYS_TRAP16 = 7, DESC_SYS_TSS = 9,
    DESC_SYS_TSS_BUSY = 11, DESC_SYS_CALL = 12, DESC_SYS_INT = 14, DESC_SYS_TRAP = 15,
};

/* A descriptor as read from memory, unpacked: seg.attr holds its access rights. */
struct x86_desc {
    struct cpu_segment seg;
    uint64_t raw;
    uint64_t gva; /* where it was read */
};

static inline unsigned x86_desc_type(const struct cpu_segment *s)
{
    return s->attr & CPU_SEG_TYPE;
}

static inline unsigned x86_desc_dpl(const struct cpu_segment *s)
{
    return (s->attr >> CPU_SEG_DPL_SHIFT) & 3;
}

static inline bool x86_desc_is_code(const struct cpu_segment *s)
{
    return (s->attr & CPU_SEG_S) != 0 && (s->attr & DESC_TYPE_CODE) != 0;
}

static inline bool x86_desc_is_conforming(const struct cpu_segment *s)
{
    return x86_desc_is_code(s) && (s->attr & DESC_TYPE_CONFORMING) != 0;
}

static inline bool x86_desc_is_writable_data(const struct cpu_segment *s)
{
    return (s->attr & (CPU_SEG_S | DESC_TYPE_CODE | DESC_TYPE_RW)) ==
           (CPU_SEG_S | DESC_TYPE_RW);
}

static inline bool x86_desc_is_readable(const struct cpu_segment *s)
{
    return (s->attr & CPU_SEG_S) != 0 &&
           (s->attr & (DESC_TYPE_CODE | DESC_TYPE_RW)) != DESC_TYPE_CODE;
}

static inline bool x86_selector_is_null(uint16_t selector)
{
    return (selector & ~3u) == 0;
}

/* Reads the descriptor of a non-null selector. Outside its table: vector(selector) | ext. */
bool x86_desc_read(struct vcpu *v, uint16_t selector, uint8_t vector, unsigned ext,
                   struct x86_desc *desc, struct x86_fault *fault);
/* The same without a fault of its own: *found tells whether it lies in the table (LAR, VERR
 * ...). */
bool x86_desc_peek(struct vcpu *v, uint16_t selector, bool *found, struct x86_desc *desc,
                   struct x86_fault *fault);
/* Upper half of a 16-byte descriptor (base 63:32 of a TSS, LDT or gate). */
bool x86_desc_read_high(struct vcpu *v, uint16_t selector, const struct x86_desc *desc,
                        uint64_t *high, struct x86_fault *fault);
/* Sets the accessed bit of a code or data descriptor in memory and in *desc. */
bool x86_desc_set_accessed(struct vcpu *v, struct x86_desc *desc, struct x86_fault *fault);
/* Fills *s as a real-mode or V86 segment. */
void x86_segment_set_v86(struct cpu_segment *s, uint16_t selector);
void x86_segment_set_null(struct cpu_segment *s, uint16_t selector);
/* Checks a stack segment for privilege level cpl; absent: #SS, else `vector`(selector). */
bool x86_stack_segment(struct vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector,
                       unsigned ext, struct x86_desc *desc, struct x86_fault *fault);
/* Drops data segments that the new, outer CPL may not see. */
void x86_segments_outer(struct cpu_x86 *cpu, unsigned cpl);
/* Limit, type and canonical checks against any segment value. error: code for #GP / #SS. */
bool x86_segment_linear(const struct cpu_x86 *cpu, const struct cpu_segment *s, bool is_ss,
                        uint64_t offset, size_t len, unsigned access, uint32_t error,
                        uint64_t *gva, struct x86_fault *fault);

/* A stack being pushed to or popped from; sp is committed by the caller when all went well. */
struct x86_stack {
    const struct cpu_segment *ss;
    uint64_t sp;
    uint64_t mask;   /* of sp: 16, 32 or 64 bits */
    bool flat;       /* 64-bit: no segmentation */
    unsigned access; /* X86_USER or 0 */
    uint32_t error;  /* EXT for events */
    bool event;      /* no #AC: that of a handler of #AC would never end */
};

/* The stack the CPU uses now. */
struct x86_stack x86_stack_current(const struct vcpu *v);
bool x86_stack_push(struct vcpu *v, struct x86_stack *st, unsigned size, uint64_t value,
                    struct x86_fault *fault);
bool x86_stack_pop(struct vcpu *v, struct x86_stack *st, unsigned size, uint64_t *value,
                   struct x86_fault *fault);
/* Writes sp back: only the bits of the mask change, except that 32-bit writes clear the
 * upper half. */
void x86_stack_commit(struct cpu_x86 *cpu, const struct x86_stack *st);

/* ---- except.c ---- */

enum x86_event_kind {
    X86_EVENT_EXCEPTION, /* hardware exception */
    X86_EVENT_EXTERNAL,  /* interrupt or NMI */
    X86_EVENT_SOFTWARE,  /* INT n, INT3, INTO: gate DPL is checked */
    X86_EVENT_ICEBP,     /* INT1 */
};

/* Delivers one event, return address return_rip. On false nothing has changed. */
bool x86_deliver(struct vcpu *v, enum x86_event_kind kind, const struct x86_fault *event,
                 uint64_t return_rip, struct x86_fault *fault);
/* The stack pointer (and selector) for privilege level cpl from the TSS. */
bool x86_tss_stack(struct vcpu *v, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *sp,
                   struct x86_fault *fault);

/* ---- system.c: operands ---- */

const struct insn_operand *x86_insn_operand(const struct insn *in, enum insn_operand_kind kind);
uint64_t x86_gpr_read(const struct cpu_x86 *cpu, unsigned reg, unsigned size);
void x86_gpr_write(struct cpu_x86 *cpu, unsigned reg, unsigned size, uint64_t value);
uint64_t x86_next_rip(const struct cpu_x86 *cpu, const struct insn *in);
/* Linear address of the memory operand for an access of len bytes. */
bool x86_insn_linear(struct vcpu *v, const struct insn *in, uint64_t plus, size_t len,
                     unsigned access, uint64_t *gva, struct x86_fault *fault);
/* #AC of an access of 2, 4 or 8 bytes, as made for `access`. */
bool x86_aligned(const struct vcpu *v, uint64_t gva, size_t size, unsigned access,
                 struct x86_fault *fault);
bool x86_insn_read_mem(struct vcpu *v, const struct insn *in, uint64_t plus, void *buf,
                       size_t len, struct x86_fault *fault);
bool x86_insn_write_mem(struct vcpu *v, const struct insn *in, uint64_t plus, const void *buf,
                        size_t len, struct x86_fault *fault);
/* The r/m operand: register or memory, little-endian. */
bool x86_insn_read_rm(struct vcpu *v, const struct insn *in, unsigned size, uint64_t *value,
                      struct x86_fault *fault);
bool x86_insn_write_rm(struct vcpu *v, const struct insn *in, unsigned reg_size,
                       unsigned mem_size, uint64_t value, struct x86_fault *fault);
unsigned x86_modrm_reg(const struct insn *in); /* with REX.R */
unsigned x86_modrm_rm(const struct insn *in);  /* with REX.B */

/* ---- handlers of system instructions: false = *fault. They set rip themselves when it is not
 * simply the next instruction, and then return with *jumped true. ---- */

struct x86_system {
    struct vcpu *v;
    struct cpu_x86 *cpu;
    const struct insn *in;
    struct x86_fault *fault;
    uint64_t next_rip;
    bool jumped; /* rip was set by the handler */
};

/* system_cr.c */
bool x86_sys_mov_from_cr(struct x86_system *s);
bool x86_sys_mov_to_cr(struct x86_system *s);
bool x86_sys_mov_from_dr(struct x86_system *s);
bool x86_sys_mov_to_dr(struct x86_system *s);
bool x86_sys_smsw(struct x86_system *s);
bool x86_sys_lmsw(struct x86_system *s);
bool x86_sys_clts(struct x86_system *s);
bool x86_sys_invlpg(struct x86_system *s);
bool x86_sys_invpcid(struct x86_system *s);
bool x86_sys_xgetbv(struct x86_system *s);
bool x86_sys_xsetbv(struct x86_system *s);
/* system_table.c */
bool x86_sys_sgdt_sidt(struct x86_system *s);
bool x86_sys_lgdt_lidt(struct x86_system *s);
bool x86_sys_sldt_str(struct x86_system *s);
bool x86_sys_lldt(struct x86_system *s);
bool x86_sys_ltr(struct x86_system *s);
bool x86_sys_verr_verw(struct x86_system *s);
bool x86_sys_lar_lsl(struct x86_system *s);
bool x86_sys_arpl(struct x86_system *s);
/* system_seg.c */
bool x86_sys_mov_from_seg(struct x86_system *s);
bool x86_sys_mov_to_seg(struct x86_system *s);
bool x86_sys_push_seg(struct x86_system *s);
bool x86_sys_pop_seg(struct x86_system *s);
bool x86_sys_load_far(struct x86_system *s);
bool x86_sys_swapgs(struct x86_system *s);
bool x86_sys_fsgsbase(struct x86_system *s);
/* system_flags.c */
bool x86_sys_pushf(struct x86_system *s);
bool x86_sys_popf(struct x86_system *s);
bool x86_sys_cli(struct x86_system *s);
bool x86_sys_sti(struct x86_system *s);
bool x86_sys_clac_stac(struct x86_system *s);
/* system_int.c */
bool x86_sys_int(struct x86_system *s);
bool x86_sys_iret(struct x86_system *s);
/* system_far.c */
bool x86_sys_call_jmp_far(struct x86_system *s);
bool x86_sys_ret_far(struct x86_system *s);
/* system_call.c */
bool x86_sys_syscall(struct x86_system *s);
bool x86_sys_sysret(struct x86_system *s);
bool x86_sys_sysenter(struct x86_system *s);
bool x86_sys_sysexit(struct x86_system *s);
bool x86_sys_hypercall(struct x86_system *s);
/* system_io.c */
bool x86_sys_in_out(struct x86_system *s);
bool x86_sys_ins_outs(struct x86_system *s);
/* system_misc.c */
bool x86_sys_hlt(struct x86_system *s);
bool x86_sys_nothing(struct x86_system *s);
bool x86_sys_ud(struct x86_system *s);
bool x86_sys_rdmsr(struct x86_system *s);
bool x86_sys_wrmsr(struct x86_system *s);
bool x86_sys_rdtsc(struct x86_system *s);
bool x86_sys_rdpmc(struct x86_system *s);
bool x86_sys_rdpid(struct x86_system *s);
bool x86_sys_cpuid(struct x86_system *s);
/* pv.c: paravirtual guests (v->pv) */
enum x86_pv_result { X86_PV_NATIVE, X86_PV_DONE, X86_PV_FAULT };
/* A system instruction of a paravirtual guest. NATIVE: it does what it does at CPL 3. */
enum x86_pv_result x86_pv_system_insn(struct x86_system *s);
/* An exception: emulates what the hypervisor emulates, else enters the guest's kernel. */
void x86_pv_raise(struct vcpu *v, const struct x86_fault *fault);
/* An instruction that faulted has been carried out, with these RFLAGS before it: #DB behind it
 * when it is a single step. */
void x86_pv_stepped(struct vcpu *v, uint64_t rflags);
/* pv_write.c: the instruction at rip, which writes to the page table at gpa. false: it is none
 * that is emulated, or the write was refused; nothing has changed. */
bool x86_pv_table_write(struct vcpu *v, uint64_t gva, uint64_t gpa);
/* fpu.c */
bool x86_sys_fxsave(struct x86_system *s);
bool x86_sys_fxrstor(struct x86_system *s);
bool x86_sys_xsave(struct x86_system *s);
bool x86_sys_xrstor(struct x86_system *s);

/* Code segment checks shared by far transfers and IRET: for a return (outer or same level) or a
 * direct jump/call. *desc is the checked descriptor with its accessed bit set. */
bool x86_code_segment_return(struct vcpu *v, uint16_t selector, struct x86_desc *desc,
                             struct x86_fault *fault);
/* Sets CS, RIP and CPL together. */
void x86_set_cs(struct cpu_x86 *cpu, const struct cpu_segment *cs, uint16_t selector,
                unsigned cpl, uint64_t rip);
/* #GP(0) unless rip lies in the code segment (or is canonical for 64-bit code). */
bool x86_check_target(const struct cpu_x86 *cpu, const struct cpu_segment *cs, uint64_t rip,
                      struct x86_fault *fault);

#endif
