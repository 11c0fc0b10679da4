/* SPDX-License-Identifier: MIT */
/*
 * The small ones: HLT, RDMSR/WRMSR, RDTSC(P), RDPMC, RDPID, CPUID, cache instructions (nothing
 * to do: guest memory is coherent) and those that are always #UD here.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

bool x86_sys_hlt(struct x86_system *s)
{
    s->cpu->halted = true;
    return true;
}

bool x86_sys_nothing(struct x86_system *s)
{
    (void)s;
    return true;
}

bool x86_sys_ud(struct x86_system *s)
{
    return x86_fault_ud(s->fault);
}

static void misc_set_edx_eax(struct cpu_x86 *cpu, uint64_t value)
{
    cpu->gpr[CPU_RAX] = (uint32_t)value;
    cpu->gpr[CPU_RDX] = value >> 32;
}

bool x86_sys_rdmsr(struct x86_system *s)
{
    uint64_t value = 0;

    if (!x86_rdmsr(s->v, (uint32_t)s->cpu->gpr[CPU_RCX], &value)) {
        return x86_fault_gp(s->fault, 0);
    }
    misc_set_edx_eax(s->cpu, value);
    return true;
}

bool x86_sys_wrmsr(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t value = cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];

    if (!x86_wrmsr(s->v, (uint32_t)cpu->gpr[CPU_RCX], value)) {
        return x86_fault_gp(s->fault, 0);
    }
    return true;
}

bool x86_sys_rdtsc(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;

    if ((cpu->cr4 & CPU_CR4_TSD) != 0 && cpu->cpl != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    misc_set_edx_eax(cpu, x86_tsc(s->v));
    if (s->in->id == INSN_RDTSCP) {
        cpu->gpr[CPU_RCX] = (uint32_t)cpu->tsc_aux;
    }
    return true;
}

bool x86_sys_rdpmc(struct x86_system *s)
{
    return x86_fault_gp(s->fault, 0); /* no counter exists */
}

bool x86_sys_rdpid(struct x86_system *s)
{
    x86_gpr_write(s->cpu, x86_modrm_rm(s->in), s->in->mode == INSN_MODE_64 ? 8 : 4,
                  s->cpu->tsc_aux);
    return true;
}

bool x86_sys_cpuid(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint32_t out[4];

    x86_cpuid(s->v, (uint32_t)cpu->gpr[CPU_RAX], (uint32_t)cpu->gpr[CPU_RCX], out);
    cpu->gpr[CPU_RAX] = out[0];
    cpu->gpr[CPU_RBX] = out[1];
    cpu->gpr[CPU_RCX] = out[2];
    cpu->gpr[CPU_RDX] = out[3];
    return true;
}
