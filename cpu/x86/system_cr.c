/* SPDX-License-Identifier: MIT */
/*
 * Control, debug and extended control registers (Intel SDM vol. 3 chapter 2, 17.2 and 4.10.4
 * for what each change invalidates).
 *
 * I/O breakpoints are accepted and never hit.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

#define CR0_DEFINED                                                                            \
    (CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS | CPU_CR0_ET | CPU_CR0_NE |             \
     CPU_CR0_WP | CPU_CR0_AM | CPU_CR0_NW | CPU_CR0_CD | CPU_CR0_PG)
#define CR3_NO_FLUSH (1ull << 63)
#define DR6_FIXED 0xffff0ff0ull
#define DR6_WRITABLE 0x0000e00full
#define DR7_FIXED 0x400ull
#define DR7_WRITABLE 0xffff2bffull
#define DR7_GD (1ull << 13)
#define DR6_BD (1ull << 13)

static unsigned cr_operand_size(const struct x86_system *s)
{
    return s->in->mode == INSN_MODE_64 ? 8 : 4;
}

bool x86_sys_mov_from_cr(struct x86_system *s)
{
    const struct cpu_x86 *cpu = s->cpu;
    uint64_t value;

    switch (x86_modrm_reg(s->in)) {
    case 0:
        value = cpu->cr0;
        break;
    case 2:
        value = cpu->cr2;
        break;
    case 3:
        value = cpu->cr3;
        break;
    case 4:
        value = cpu->cr4;
        break;
    case 8:
        value = s->v->board_ops != NULL && s->v->board_ops->read_cr8 != NULL
                    ? s->v->board_ops->read_cr8(s->v)
                    : cpu->cr8;
        break;
    default:
        return x86_fault_ud(s->fault);
    }
    x86_gpr_write(s->cpu, x86_modrm_rm(s->in), cr_operand_size(s), value);
    return true;
}

/* Turning paging on or off with EFER.LME set switches long mode. */
static bool cr_check_paging(struct x86_system *s, uint64_t value)
{
    const struct cpu_x86 *cpu = s->cpu;
    bool was = (cpu->cr0 & CPU_CR0_PG) != 0;
    bool now = (value & CPU_CR0_PG) != 0;

    if (now && !was) {
        if ((cpu->efer & CPU_EFER_LME) != 0) {
            return (cpu->cr4 & CPU_CR4_PAE) != 0 && (cpu->seg[CPU_CS].attr & CPU_SEG_L) == 0;
        }
        return (cpu->cr4 & CPU_CR4_PAE) == 0 || x86_pdptes_valid(s->v, cpu->cr3);
    }
    if (was && !now) {
        return (cpu->cr4 & CPU_CR4_PCIDE) == 0 && !cpu_is_code64(cpu);
    }
    return true;
}

static bool cr_write_cr0(struct x86_system *s, uint64_t value)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t changed;

    if ((value >> 32) != 0 || ((value & CPU_CR0_PG) != 0 && (value & CPU_CR0_PE) == 0) ||
        ((value & CPU_CR0_NW) != 0 && (value & CPU_CR0_CD) == 0)) {
        return x86_fault_gp(s->fault, 0);
    }
    value = (value & CR0_DEFINED) | CPU_CR0_ET;
    if (!cr_check_paging(s, value)) {
        return x86_fault_gp(s->fault, 0);
    }
    changed = cpu->cr0 ^ value;
    cpu->cr0 = value;
    if ((value & CPU_CR0_PG) != 0 && (cpu->efer & CPU_EFER_LME) != 0) {
        cpu->efer |= CPU_EFER_LMA;
    } else {
        cpu->efer &= ~(uint64_t)CPU_EFER_LMA;
    }
    if ((changed & (CPU_CR0_PG | CPU_CR0_WP | CPU_CR0_PE)) != 0) {
        vcpu_tlb_flush(s->v, VCPU_FLUSH_ALL, 0);
    }
    return true;
}

static bool cr_write_cr3(struct x86_system *s, uint64_t value)
{
    struct cpu_x86 *cpu = s->cpu;
    bool keep = false;

    if (cpu_is_long_mode(cpu)) {
        if ((cpu->cr4 & CPU_CR4_PCIDE) != 0) {
            keep = (value & CR3_NO_FLUSH) != 0;
            value &= ~CR3_NO_FLUSH;
        }
        if ((value >> cpu_model_of(s->v)->phys_bits) != 0) {
            return x86_fault_gp(s->fault, 0);
        }
    } else {
        value = (uint32_t)value;
        if ((cpu->cr0 & CPU_CR0_PG) != 0 && (cpu->cr4 & CPU_CR4_PAE) != 0 &&
            !x86_pdptes_valid(s->v, value)) {
            return x86_fault_gp(s->fault, 0);
        }
    }
    cpu->cr3 = value;
    vcpu_tlb_flush(s->v, keep ? VCPU_FLUSH_NOTHING : VCPU_FLUSH_NONGLOBAL, 0);
    return true;
}

static bool cr_write_cr4(struct x86_system *s, uint64_t value)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t changed = cpu->cr4 ^ value;
    bool pcide_on = (changed & value & CPU_CR4_PCIDE) != 0;

    if ((value & ~cpu_model_of(s->v)->cr4_mask) != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    if (cpu_is_long_mode(cpu)) {
        if ((value & CPU_CR4_PAE) == 0 || (pcide_on && (cpu->cr3 & 0xfff) != 0)) {
            return x86_fault_gp(s->fault, 0);
        }
    } else if (pcide_on) {
        return x86_fault_gp(s->fault, 0);
    } else if ((cpu->cr0 & CPU_CR0_PG) != 0 && (value & CPU_CR4_PAE) != 0 &&
               (changed & (CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_PSE | CPU_CR4_SMEP)) != 0 &&
               !x86_pdptes_valid(s->v, cpu->cr3)) {
        return x86_fault_gp(s->fault, 0);
    }
    cpu->cr4 = value;
    if ((changed & (CPU_CR4_PAE | CPU_CR4_PSE | CPU_CR4_PGE | CPU_CR4_SMEP | CPU_CR4_SMAP |
                    CPU_CR4_PCIDE)) != 0) {
        vcpu_tlb_flush(s->v, VCPU_FLUSH_ALL, 0);
    }
    return true;
}

static bool cr_write_cr8(struct x86_system *s, uint64_t value)
{
    if ((value & ~15ull) != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    s->cpu->cr8 = value;
    if (s->v->board_ops != NULL && s->v->board_ops->write_cr8 != NULL) {
        s->v->board_ops->write_cr8(s->v, value);
    }
    return true;
}

bool x86_sys_mov_to_cr(struct x86_system *s)
{
    uint64_t value = x86_gpr_read(s->cpu, x86_modrm_rm(s->in), cr_operand_size(s));

    switch (x86_modrm_reg(s->in)) {
    case 0:
        return cr_write_cr0(s, value);
    case 2:
        s->cpu->cr2 = value;
        return true;
    case 3:
        return cr_write_cr3(s, value);
    case 4:
        return cr_write_cr4(s, value);
    case 8:
        return cr_write_cr8(s, value);
    default:
        return x86_fault_ud(s->fault);
    }
}

/* The debug register meant, or -1 after setting *fault. */
static int cr_debug_register(struct x86_system *s)
{
    unsigned n = x86_modrm_reg(s->in);

    if (n > 7 || ((n == 4 || n == 5) && (s->cpu->cr4 & CPU_CR4_DE) != 0)) {
        x86_fault_ud(s->fault);
        return -1;
    }
    if ((s->cpu->dr[7] & DR7_GD) != 0) {
        x86_fault_plain(s->fault, CPU_DB);
        s->fault->dr6 = DR6_BD;
        return -1;
    }
    return n == 4 || n == 5 ? (int)n + 2 : (int)n;
}

bool x86_sys_mov_from_dr(struct x86_system *s)
{
    int n = cr_debug_register(s);

    if (n < 0) {
        return false;
    }
    x86_gpr_write(s->cpu, x86_modrm_rm(s->in), cr_operand_size(s),
                  n == 6   ? s->cpu->dr[6] | DR6_FIXED
                  : n == 7 ? s->cpu->dr[7] | DR7_FIXED
                           : s->cpu->dr[n]);
    return true;
}

bool x86_sys_mov_to_dr(struct x86_system *s)
{
    uint64_t value = x86_gpr_read(s->cpu, x86_modrm_rm(s->in), cr_operand_size(s));
    int n = cr_debug_register(s);

    if (n < 0) {
        return false;
    }
    if (n >= 6) {
        if ((value >> 32) != 0) {
            return x86_fault_gp(s->fault, 0);
        }
        value = n == 6 ? (value & DR6_WRITABLE) | DR6_FIXED
                       : (value & DR7_WRITABLE) | DR7_FIXED;
    }
    s->cpu->dr[n] = value;
    return true;
}

static bool cr_umip(const struct x86_system *s)
{
    return (s->cpu->cr4 & CPU_CR4_UMIP) != 0 && s->cpu->cpl != 0;
}

bool x86_sys_smsw(struct x86_system *s)
{
    if (cr_umip(s)) {
        return x86_fault_gp(s->fault, 0);
    }
    return x86_insn_write_rm(s->v, s->in, s->in->opsize, 2, s->cpu->cr0, s->fault);
}

bool x86_sys_lmsw(struct x86_system *s)
{
    uint64_t value;

    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault)) {
        return false;
    }
    value &= CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS;
    value |= s->cpu->cr0 & ~(uint64_t)(CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS); /* PE only sets */
    return cr_write_cr0(s, value);
}

bool x86_sys_clts(struct x86_system *s)
{
    s->cpu->cr0 &= ~(uint64_t)CPU_CR0_TS;
    return true;
}

bool x86_sys_invlpg(struct x86_system *s)
{
    const struct insn *in = s->in;
    uint64_t gva = x86_effective_address(s->cpu, in, s->next_rip);

    if (s->in->modrm >= 0xc0) {
        return x86_fault_ud(s->fault);
    }
    if (!cpu_is_code64(s->cpu)) {
        gva = (uint32_t)(gva + s->cpu->seg[in->seg].base);
    } else if (in->seg == CPU_FS || in->seg == CPU_GS) {
        gva += s->cpu->seg[in->seg].base;
    }
    if (x86_is_canonical(gva)) { /* a non-canonical address is a no-operation */
        vcpu_tlb_flush(s->v, VCPU_FLUSH_PAGE, gva);
    }
    return true;
}

bool x86_sys_invpcid(struct x86_system *s)
{
    uint64_t type = x86_gpr_read(s->cpu, x86_modrm_reg(s->in),
                                 s->in->mode == INSN_MODE_64 ? 8 : 4);
    uint64_t desc[2];

    if (!x86_insn_read_mem(s->v, s->in, 0, desc, 16, s->fault)) {
        return false;
    }
    if (type > 3 || (type < 2 && (desc[0] >> 12) != 0)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (type < 2 && (s->cpu->cr4 & CPU_CR4_PCIDE) == 0 && desc[0] != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    switch (type) {
    case 0:
        if (!x86_is_canonical(desc[1])) {
            return x86_fault_gp(s->fault, 0);
        }
        vcpu_tlb_flush(s->v, VCPU_FLUSH_PCID_PAGE, (desc[1] & ~0xfffull) | desc[0]);
        break;
    case 1:
        vcpu_tlb_flush(s->v, VCPU_FLUSH_PCID, desc[0]);
        break;
    default:
        vcpu_tlb_flush(s->v, type == 2 ? VCPU_FLUSH_ALL : VCPU_FLUSH_PCIDS, 0);
        break;
    }
    return true;
}

bool x86_sys_xgetbv(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint32_t index = (uint32_t)cpu->gpr[CPU_RCX];
    uint64_t value = cpu->xcr0;

    if ((cpu->cr4 & CPU_CR4_OSXSAVE) == 0) {
        return x86_fault_ud(s->fault);
    }
    if (index == 1 && cpu_model_has(s->v->model, INSN_FEAT_XSAVEC)) {
        memcpy(&value, cpu->xsave + 512, sizeof(value)); /* XINUSE */
        value &= cpu->xcr0;
    } else if (index != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    cpu->gpr[CPU_RAX] = (uint32_t)value;
    cpu->gpr[CPU_RDX] = value >> 32;
    return true;
}

bool x86_sys_xsetbv(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t value = (cpu->gpr[CPU_RDX] << 32) | (uint32_t)cpu->gpr[CPU_RAX];

    if ((cpu->cr4 & CPU_CR4_OSXSAVE) == 0) {
        return x86_fault_ud(s->fault);
    }
    if (cpu->cpl != 0 || (uint32_t)cpu->gpr[CPU_RCX] != 0 || (value & 1) == 0 ||
        (value & ~cpu_model_of(s->v)->xcr0_mask) != 0 || (value & 6) == 4) {
        return x86_fault_gp(s->fault, 0);
    }
    cpu->xcr0 = value;
    return true;
}
