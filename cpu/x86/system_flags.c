/* SPDX-License-Identifier: MIT */
/*
 * PUSHF, POPF, CLI, STI, CLAC, STAC: the flags that CPL and IOPL guard (Intel SDM vol. 2).
 * Left out: VME and PVI, which the profile does not show, so VIF and VIP are ordinary zeros.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

static bool flags_v86_refused(const struct x86_system *s)
{
    return x86_is_v86(s->cpu) && x86_iopl(s->cpu) < 3;
}

bool x86_sys_pushf(struct x86_system *s)
{
    struct x86_stack st = x86_stack_current(s->v);
    uint64_t value = s->cpu->rflags & ~(uint64_t)(CPU_RF | CPU_VM);

    if (flags_v86_refused(s)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_stack_push(s->v, &st, s->in->opsize, value, s->fault)) {
        return false;
    }
    x86_stack_commit(s->cpu, &st);
    return true;
}

bool x86_sys_popf(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);
    uint64_t mask = CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT;
    uint64_t value;

    if (flags_v86_refused(s)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_stack_pop(s->v, &st, s->in->opsize, &value, s->fault)) {
        return false;
    }
    if (s->in->opsize > 2) {
        mask |= CPU_AC | CPU_ID;
    }
    if (cpu->cpl <= x86_iopl(cpu)) { /* V86 with IOPL 3 included; real mode is CPL 0 */
        mask |= CPU_IF;
    }
    if (cpu->cpl == 0) {
        mask |= CPU_IOPL;
    }
    cpu->rflags = (cpu->rflags & ~(mask | CPU_RF)) | (value & mask) | 2;
    x86_stack_commit(cpu, &st);
    return true;
}

bool x86_sys_cli(struct x86_system *s)
{
    if (s->cpu->cpl > x86_iopl(s->cpu)) {
        return x86_fault_gp(s->fault, 0);
    }
    s->cpu->rflags &= ~(uint64_t)CPU_IF;
    return true;
}

bool x86_sys_sti(struct x86_system *s)
{
    if (s->cpu->cpl > x86_iopl(s->cpu)) {
        return x86_fault_gp(s->fault, 0);
    }
    s->cpu->irq_shadow = (s->cpu->rflags & CPU_IF) == 0;
    s->cpu->rflags |= CPU_IF;
    return true;
}

bool x86_sys_clac_stac(struct x86_system *s)
{
    if (s->cpu->cpl != 0) {
        return x86_fault_ud(s->fault);
    }
    if (s->in->id == INSN_STAC) {
        s->cpu->rflags |= CPU_AC;
    } else {
        s->cpu->rflags &= ~(uint64_t)CPU_AC;
    }
    return true;
}
