/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL SYSRET SYSENTER SYSEXIT as the profile's vendor has them, and hypercalls.
 *
 * AMD: SYSCALL also from legacy and compatibility mode (CSTAR), SYSRET leaves SS's hidden part
 * alone and does not check RCX, SYSENTER and SYSEXIT are #UD in long mode. Intel: SYSCALL and
 * SYSRET in 64-bit mode only, SYSRET refuses a non-canonical RCX at CPL 0.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

enum {
    ATTR_CODE64 = 0xa09b, ATTR_CODE32 = 0xc09b, ATTR_DATA = 0xc093,
    ATTR_DPL3 = 3 << CPU_SEG_DPL_SHIFT,
};
#define SYSRET_FLAGS 0x3c7fd7ull

static struct cpu_segment call_flat(uint64_t selector, unsigned attr)
{
    return (struct cpu_segment){
        .selector = (uint16_t)selector, .attr = (uint16_t)attr, .limit = UINT32_MAX,
    };
}

bool x86_sys_syscall(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    bool long_mode = cpu_is_long_mode(cpu);
    bool code64 = cpu_is_code64(cpu);
    uint64_t selector = (cpu->star >> 32) & 0xfffc;
    struct cpu_segment cs = call_flat(selector, long_mode ? ATTR_CODE64 : ATTR_CODE32);

    if ((cpu->efer & CPU_EFER_SCE) == 0 || (!code64 && !cpu_model_of(s->v)->amd)) {
        return x86_fault_ud(s->fault);
    }
    s->jumped = true;
    cpu->gpr[CPU_RCX] = s->next_rip;
    if (long_mode) {
        cpu->gpr[CPU_R11] = cpu->rflags & ~(uint64_t)CPU_RF;
        cpu->rflags = (cpu->rflags & ~(cpu->fmask | CPU_RF)) | 2;
    } else {
        cpu->rflags &= ~(uint64_t)(CPU_IF | CPU_VM | CPU_RF);
    }
    cpu->seg[CPU_SS] = call_flat(selector + 8, ATTR_DATA);
    x86_set_cs(cpu, &cs, cs.selector, 0,
               code64      ? cpu->lstar
               : long_mode ? cpu->cstar
                           : (uint32_t)cpu->star);
    return true;
}

static void call_sysret_ss(struct x86_system *s, uint64_t selector)
{
    struct cpu_segment *ss = &s->cpu->seg[CPU_SS];

    if (cpu_model_of(s->v)->amd) {
        ss->selector = (uint16_t)selector;
        ss->attr |= ATTR_DPL3;
    } else {
        *ss = call_flat(selector, ATTR_DATA | ATTR_DPL3);
    }
}

bool x86_sys_sysret(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    bool amd = cpu_model_of(s->v)->amd;
    bool to64 = s->in->opsize == 8;
    uint64_t base = cpu->star >> 48;
    struct cpu_segment cs;
    uint64_t rip = to64 ? cpu->gpr[CPU_RCX] : (uint32_t)cpu->gpr[CPU_RCX];

    if ((cpu->efer & CPU_EFER_SCE) == 0 || (!cpu_is_code64(cpu) && !amd)) {
        return x86_fault_ud(s->fault);
    }
    if (cpu->cpl != 0 || (!amd && to64 && !x86_is_canonical(rip))) {
        return x86_fault_gp(s->fault, 0);
    }
    s->jumped = true;
    cs = to64 ? call_flat((base + 16) | 3, ATTR_CODE64 | ATTR_DPL3)
              : call_flat(base | 3, ATTR_CODE32 | ATTR_DPL3);
    call_sysret_ss(s, (base + 8) | 3);
    if (cpu_is_long_mode(cpu)) {
        cpu->rflags = (cpu->gpr[CPU_R11] & SYSRET_FLAGS) | 2;
    } else {
        cpu->rflags |= CPU_IF;
    }
    x86_set_cs(cpu, &cs, cs.selector, 3, rip);
    return true;
}

bool x86_sys_sysenter(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    bool long_mode = cpu_is_long_mode(cpu);
    uint64_t selector = cpu->sysenter_cs & 0xfffc;
    struct cpu_segment cs = call_flat(selector, long_mode ? ATTR_CODE64 : ATTR_CODE32);

    if (long_mode && cpu_model_of(s->v)->amd) {
        return x86_fault_ud(s->fault);
    }
    if ((cpu->cr0 & CPU_CR0_PE) == 0 || selector == 0) {
        return x86_fault_gp(s->fault, 0);
    }
    s->jumped = true;
    cpu->rflags &= ~(uint64_t)(CPU_VM | CPU_IF | CPU_RF);
    cpu->seg[CPU_SS] = call_flat(selector + 8, ATTR_DATA);
    cpu->gpr[CPU_RSP] = long_mode ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    x86_set_cs(cpu, &cs, cs.selector, 0,
               long_mode ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip);
    return true;
}

bool x86_sys_sysexit(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    bool to64 = s->in->opsize == 8;
    uint64_t base = cpu->sysenter_cs & 0xfffc;
    uint64_t rip = to64 ? cpu->gpr[CPU_RDX] : (uint32_t)cpu->gpr[CPU_RDX];
    uint64_t rsp = to64 ? cpu->gpr[CPU_RCX] : (uint32_t)cpu->gpr[CPU_RCX];
    struct cpu_segment cs;

    if (cpu_is_long_mode(cpu) && cpu_model_of(s->v)->amd) {
        return x86_fault_ud(s->fault);
    }
    if ((cpu->cr0 & CPU_CR0_PE) == 0 || base == 0 || cpu->cpl != 0 ||
        (to64 && (!x86_is_canonical(rip) || !x86_is_canonical(rsp)))) {
        return x86_fault_gp(s->fault, 0);
    }
    s->jumped = true;
    cs = call_flat((base + (to64 ? 32 : 16)) | 3,
                   (to64 ? ATTR_CODE64 : ATTR_CODE32) | ATTR_DPL3);
    cpu->seg[CPU_SS] = call_flat((base + (to64 ? 40 : 24)) | 3, ATTR_DATA | ATTR_DPL3);
    cpu->gpr[CPU_RSP] = rsp;
    x86_set_cs(cpu, &cs, cs.selector, 3, rip);
    return true;
}

/* Both vendors' instructions work, whatever the profile: guests of Xen pick one by CPUID or by
 * patching, and the board checks who may call. */
bool x86_sys_hypercall(struct x86_system *s)
{
    if (s->v->board_ops == NULL || s->v->board_ops->hypercall == NULL) {
        return x86_fault_ud(s->fault);
    }
    s->jumped = true;
    s->cpu->rip = s->next_rip;
    s->v->board_ops->hypercall(s->v);
    return true;
}
