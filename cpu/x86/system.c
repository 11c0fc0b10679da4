/* SPDX-License-Identifier: MIT */
/*
 * System instructions: the dispatch table, the checks every one of them shares, and access to
 * their operands. Privilege is decided here and nowhere else from the decoder's flags
 * (INSN_F_PRIV0, INSN_F_NO_REAL, the feature); handlers add what depends on more than CPL and
 * mode: IOPL, UMIP, CR4.TSD, the I/O bitmap, 64-bit-only instructions.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

typedef bool (*system_handler)(struct x86_system *s);

static const system_handler system_handlers[INSN_NR] = {
    [INSN_MOV_FROM_CR] = x86_sys_mov_from_cr,
    [INSN_MOV_TO_CR] = x86_sys_mov_to_cr,
    [INSN_MOV_FROM_DR] = x86_sys_mov_from_dr,
    [INSN_MOV_TO_DR] = x86_sys_mov_to_dr,
    [INSN_MOV_FROM_SEG] = x86_sys_mov_from_seg,
    [INSN_MOV_TO_SEG] = x86_sys_mov_to_seg,
    [INSN_PUSH_SEG] = x86_sys_push_seg,
    [INSN_POP_SEG] = x86_sys_pop_seg,
    [INSN_LES] = x86_sys_load_far,
    [INSN_LDS] = x86_sys_load_far,
    [INSN_LSS] = x86_sys_load_far,
    [INSN_LFS] = x86_sys_load_far,
    [INSN_LGS] = x86_sys_load_far,
    [INSN_PUSHF] = x86_sys_pushf,
    [INSN_POPF] = x86_sys_popf,
    [INSN_CLI] = x86_sys_cli,
    [INSN_STI] = x86_sys_sti,
    [INSN_INT] = x86_sys_int,
    [INSN_INT3] = x86_sys_int,
    [INSN_INTO] = x86_sys_int,
    [INSN_INT1] = x86_sys_int,
    [INSN_IRET] = x86_sys_iret,
    [INSN_CALL_FAR] = x86_sys_call_jmp_far,
    [INSN_JMP_FAR] = x86_sys_call_jmp_far,
    [INSN_RET_FAR] = x86_sys_ret_far,
    [INSN_SYSCALL] = x86_sys_syscall,
    [INSN_SYSRET] = x86_sys_sysret,
    [INSN_SYSENTER] = x86_sys_sysenter,
    [INSN_SYSEXIT] = x86_sys_sysexit,
    [INSN_SGDT] = x86_sys_sgdt_sidt,
    [INSN_SIDT] = x86_sys_sgdt_sidt,
    [INSN_LGDT] = x86_sys_lgdt_lidt,
    [INSN_LIDT] = x86_sys_lgdt_lidt,
    [INSN_SLDT] = x86_sys_sldt_str,
    [INSN_STR] = x86_sys_sldt_str,
    [INSN_LLDT] = x86_sys_lldt,
    [INSN_LTR] = x86_sys_ltr,
    [INSN_VERR] = x86_sys_verr_verw,
    [INSN_VERW] = x86_sys_verr_verw,
    [INSN_LAR] = x86_sys_lar_lsl,
    [INSN_LSL] = x86_sys_lar_lsl,
    [INSN_ARPL] = x86_sys_arpl,
    [INSN_SMSW] = x86_sys_smsw,
    [INSN_LMSW] = x86_sys_lmsw,
    [INSN_CLTS] = x86_sys_clts,
    [INSN_INVLPG] = x86_sys_invlpg,
    [INSN_INVPCID] = x86_sys_invpcid,
    [INSN_INVD] = x86_sys_nothing,
    [INSN_WBINVD] = x86_sys_nothing,
    [INSN_WBNOINVD] = x86_sys_nothing,
    [INSN_HLT] = x86_sys_hlt,
    [INSN_MONITOR] = x86_sys_ud,
    [INSN_MWAIT] = x86_sys_ud,
    [INSN_RDMSR] = x86_sys_rdmsr,
    [INSN_WRMSR] = x86_sys_wrmsr,
    [INSN_RDTSC] = x86_sys_rdtsc,
    [INSN_RDTSCP] = x86_sys_rdtsc,
    [INSN_RDPMC] = x86_sys_rdpmc,
    [INSN_RDPID] = x86_sys_rdpid,
    [INSN_CPUID] = x86_sys_cpuid,
    [INSN_IN] = x86_sys_in_out,
    [INSN_OUT] = x86_sys_in_out,
    [INSN_INS] = x86_sys_ins_outs,
    [INSN_OUTS] = x86_sys_ins_outs,
    [INSN_SWAPGS] = x86_sys_swapgs,
    [INSN_RDFSBASE] = x86_sys_fsgsbase,
    [INSN_RDGSBASE] = x86_sys_fsgsbase,
    [INSN_WRFSBASE] = x86_sys_fsgsbase,
    [INSN_WRGSBASE] = x86_sys_fsgsbase,
    [INSN_XGETBV] = x86_sys_xgetbv,
    [INSN_XSETBV] = x86_sys_xsetbv,
    [INSN_CLAC] = x86_sys_clac_stac,
    [INSN_STAC] = x86_sys_clac_stac,
    [INSN_VMCALL] = x86_sys_hypercall,
    [INSN_VMMCALL] = x86_sys_hypercall,
    [INSN_FXSAVE] = x86_sys_fxsave,
    [INSN_FXRSTOR] = x86_sys_fxrstor,
    [INSN_XSAVE] = x86_sys_xsave,
    [INSN_XSAVEOPT] = x86_sys_xsave,
    [INSN_XSAVEC] = x86_sys_xsave,
    [INSN_XSAVES] = x86_sys_xsave,
    [INSN_XRSTOR] = x86_sys_xrstor,
    [INSN_XRSTORS] = x86_sys_xrstor,
    [INSN_RSM] = x86_sys_ud,
    [INSN_GETSEC] = x86_sys_ud,
    [INSN_VMX] = x86_sys_ud,
    [INSN_SVM] = x86_sys_ud,
};

/* The one place where CPL, mode and feature decide. */
static bool system_may_run(const struct vcpu *v, const struct insn *in, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool real_style = x86_is_real_style(cpu);

    if ((in->flags & INSN_F_NO_REAL) != 0 && real_style) {
        return x86_fault_ud(fault);
    }
    if (!cpu_model_has(v->model, in->feature)) {
        return x86_fault_ud(fault);
    }
    if ((in->flags & INSN_F_PRIV0) != 0 && cpu->cpl != 0) {
        return x86_fault_gp(fault, 0);
    }
    return true;
}

bool x86_system_insn(struct vcpu *v, const struct insn *in, struct x86_fault *fault)
{
    struct x86_system s = {
        .v = v, .cpu = &v->cpu, .in = in, .fault = fault,
        .next_rip = x86_next_rip(&v->cpu, in),
    };
    system_handler handler = in->id < INSN_NR ? system_handlers[in->id] : NULL;
    bool shadow = v->cpu.irq_shadow;

    if (handler == NULL) {
        return x86_fault_ud(fault);
    }
    if (v->pv != NULL) {
        enum x86_pv_result result = x86_pv_system_insn(&s);

        if (result != X86_PV_NATIVE) {
            v->cpu.rip = result == X86_PV_DONE && !s.jumped ? s.next_rip : v->cpu.rip;
            return result == X86_PV_DONE;
        }
    }
    if (!system_may_run(v, in, fault)) {
        return false;
    }
    v->cpu.irq_shadow = false;
    if (!handler(&s)) {
        v->cpu.irq_shadow = shadow;
        return false;
    }
    if (!s.jumped) {
        v->cpu.rip = s.next_rip;
    }
    return true;
}

bool x86_native_allowed(struct vcpu *v, const struct insn *in, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool em = (cpu->cr0 & CPU_CR0_EM) != 0;
    bool ts = (cpu->cr0 & CPU_CR0_TS) != 0;
    bool vector = (in->flags & (INSN_F_SSE | INSN_F_AVX | INSN_F_AVX512)) != 0;

    if (!cpu_model_has(v->model, in->feature) || (in->flags & INSN_F_AVX512) != 0 ||
        ((in->flags & INSN_F_NO_REAL) != 0 && x86_is_real_style(cpu))) {
        return x86_fault_ud(fault);
    }
    if ((in->flags & INSN_F_AVX) != 0) {
        if ((cpu->cr4 & CPU_CR4_OSXSAVE) == 0 || (cpu->xcr0 & 6) != 6) {
            return x86_fault_ud(fault);
        }
    } else if ((in->flags & INSN_F_SSE) != 0) {
        if (em || (cpu->cr4 & CPU_CR4_OSFXSR) == 0) {
            return x86_fault_ud(fault);
        }
    }
    if ((in->flags & INSN_F_MMX) != 0 && em) {
        return x86_fault_ud(fault);
    }
    if ((in->flags & INSN_F_X87) != 0) {
        /* WAIT heeds TS only with MP, and never EM. */
        bool wait = in->map == INSN_MAP_1 && in->opcode == 0x9b;

        if (wait ? ts && (cpu->cr0 & CPU_CR0_MP) != 0 : ts || em) {
            return x86_fault_plain(fault, CPU_NM);
        }
    }
    if (ts && (vector || (in->flags & INSN_F_MMX) != 0)) {
        return x86_fault_plain(fault, CPU_NM);
    }
    return true;
}

/* ---- operands ---- */

const struct insn_operand *x86_insn_operand(const struct insn *in, enum insn_operand_kind kind)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == kind) {
            return &in->op[i];
        }
    }
    return NULL;
}

unsigned x86_modrm_reg(const struct insn *in)
{
    return ((in->modrm >> 3) & 7u) | ((in->rex & INSN_REX_R) != 0 ? 8u : 0u);
}

unsigned x86_modrm_rm(const struct insn *in)
{
    return (in->modrm & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
}

static bool system_rm_is_mem(const struct insn *in)
{
    return (in->flags & INSN_F_MODRM) != 0 && in->modrm < 0xc0;
}

uint64_t x86_gpr_read(const struct cpu_x86 *cpu, unsigned reg, unsigned size)
{
    uint64_t value;

    if ((reg & INSN_HIGH_BYTE) != 0) {
        return (cpu->gpr[reg & 3] >> 8) & 0xff;
    }
    value = cpu->gpr[reg & 15];
    return size == 8 ? value : value & ((1ull << (size * 8)) - 1);
}

void x86_gpr_write(struct cpu_x86 *cpu, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *gpr = &cpu->gpr[reg & 15];

    if ((reg & INSN_HIGH_BYTE) != 0) {
        gpr = &cpu->gpr[reg & 3];
        *gpr = (*gpr & ~0xff00ull) | (value & 0xff) << 8;
    } else if (size >= 4) {
        *gpr = size == 8 ? value : (uint32_t)value;
    } else {
        uint64_t mask = (1ull << (size * 8)) - 1;

        *gpr = (*gpr & ~mask) | (value & mask);
    }
}

uint64_t x86_next_rip(const struct cpu_x86 *cpu, const struct insn *in)
{
    uint64_t rip = cpu->rip + in->len;

    if (in->mode == INSN_MODE_64) {
        return rip;
    }
    return in->mode == INSN_MODE_32 ? (uint32_t)rip : (uint16_t)rip;
}

static uint64_t system_addr_mask(const struct insn *in)
{
    return in->addrsize == 2 ? UINT16_MAX : in->addrsize == 4 ? UINT32_MAX : UINT64_MAX;
}

bool x86_insn_linear(struct vcpu *v, const struct insn *in, uint64_t plus, size_t len,
                     unsigned access, uint64_t *gva, struct x86_fault *fault)
{
    uint64_t ea = x86_effective_address(&v->cpu, in, x86_next_rip(&v->cpu, in));

    return x86_linear(v, (enum cpu_segreg)in->seg, (ea + plus) & system_addr_mask(in), len,
                      access, gva, fault);
}

bool x86_aligned(const struct vcpu *v, uint64_t gva, size_t size, unsigned access,
                 struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;

    if ((size != 2 && size != 4 && size != 8) || (gva & (size - 1)) == 0 ||
        (access & X86_USER) == 0 || (cpu->rflags & CPU_AC) == 0 ||
        (cpu->cr0 & CPU_CR0_AM) == 0) {
        return true;
    }
    return x86_fault_code(fault, CPU_ALIGN, 0);
}

/* What an operand is to be aligned to: far pointers to their offset (SDM vol. 3, interrupt 17). */
static size_t system_alignment(const struct insn *in, size_t len)
{
    bool far = (in->id >= INSN_LES && in->id <= INSN_LGS) || in->id == INSN_CALL_FAR ||
               in->id == INSN_JMP_FAR;

    return far ? in->opsize : len;
}

bool x86_insn_read_mem(struct vcpu *v, const struct insn *in, uint64_t plus, void *buf,
                       size_t len, struct x86_fault *fault)
{
    uint64_t gva;

    return x86_insn_linear(v, in, plus, len, X86_READ, &gva, fault) &&
           x86_aligned(v, gva, system_alignment(in, len), x86_cpl_access(v), fault) &&
           x86_read_linear(v, gva, buf, len, X86_READ | x86_cpl_access(v), fault);
}

bool x86_insn_write_mem(struct vcpu *v, const struct insn *in, uint64_t plus, const void *buf,
                        size_t len, struct x86_fault *fault)
{
    uint64_t gva;

    return x86_insn_linear(v, in, plus, len, X86_WRITE, &gva, fault) &&
           x86_aligned(v, gva, len, x86_cpl_access(v), fault) &&
           x86_write_linear(v, gva, buf, len, X86_WRITE | x86_cpl_access(v), fault);
}

bool x86_insn_read_rm(struct vcpu *v, const struct insn *in, unsigned size, uint64_t *value,
                      struct x86_fault *fault)
{
    *value = 0;
    if (system_rm_is_mem(in)) {
        return x86_insn_read_mem(v, in, 0, value, size, fault);
    }
    *value = x86_gpr_read(&v->cpu, x86_modrm_rm(in), size);
    return true;
}

bool x86_insn_write_rm(struct vcpu *v, const struct insn *in, unsigned reg_size,
                       unsigned mem_size, uint64_t value, struct x86_fault *fault)
{
    if (system_rm_is_mem(in)) {
        return x86_insn_write_mem(v, in, 0, &value, mem_size, fault);
    }
    x86_gpr_write(&v->cpu, x86_modrm_rm(in), reg_size, value);
    return true;
}
