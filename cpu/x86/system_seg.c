/* SPDX-License-Identifier: MIT */
/*
 * Moves to and from segment registers, far pointer loads, SWAPGS and the FS/GS base
 * instructions.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

/* The segment register of the operand list, or of modrm; -1: #UD. */
static int seg_operand(const struct x86_system *s)
{
    const struct insn_operand *op = x86_insn_operand(s->in, OPK_SEG);
    unsigned reg = op != NULL ? op->reg : (s->in->modrm >> 3) & 7u;

    return reg < CPU_NR_SEG ? (int)reg : -1;
}

bool x86_sys_mov_from_seg(struct x86_system *s)
{
    int seg = seg_operand(s);

    if (seg < 0) {
        return x86_fault_ud(s->fault);
    }
    return x86_insn_write_rm(s->v, s->in, s->in->opsize, 2, s->cpu->seg[seg].selector,
                             s->fault);
}

bool x86_sys_mov_to_seg(struct x86_system *s)
{
    int seg = seg_operand(s);
    uint64_t value;

    if (seg < 0 || seg == CPU_CS) {
        return x86_fault_ud(s->fault);
    }
    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault) ||
        !x86_load_segment(s->v, (enum cpu_segreg)seg, (uint16_t)value, s->fault)) {
        return false;
    }
    s->cpu->irq_shadow = seg == CPU_SS;
    return true;
}

bool x86_sys_push_seg(struct x86_system *s)
{
    struct x86_stack st = x86_stack_current(s->v);
    int seg = seg_operand(s);

    if (seg < 0) {
        return x86_fault_ud(s->fault);
    }
    if (!x86_stack_push(s->v, &st, s->in->opsize, s->cpu->seg[seg].selector, s->fault)) {
        return false;
    }
    x86_stack_commit(s->cpu, &st);
    return true;
}

bool x86_sys_pop_seg(struct x86_system *s)
{
    struct x86_stack st = x86_stack_current(s->v);
    int seg = seg_operand(s);
    uint64_t value;

    if (seg < 0 || seg == CPU_CS) {
        return x86_fault_ud(s->fault);
    }
    if (!x86_stack_pop(s->v, &st, s->in->opsize, &value, s->fault) ||
        !x86_load_segment(s->v, (enum cpu_segreg)seg, (uint16_t)value, s->fault)) {
        return false;
    }
    x86_stack_commit(s->cpu, &st);
    s->cpu->irq_shadow = seg == CPU_SS;
    return true;
}

bool x86_sys_load_far(struct x86_system *s)
{
    static const uint8_t segs[] = {CPU_ES, CPU_DS, CPU_SS, CPU_FS, CPU_GS};
    unsigned size = s->in->opsize;
    uint8_t buf[10] = {0};
    uint64_t offset = 0;
    uint16_t selector;

    if (s->in->modrm >= 0xc0) {
        return x86_fault_ud(s->fault);
    }
    if (!x86_insn_read_mem(s->v, s->in, 0, buf, size + 2, s->fault)) {
        return false;
    }
    memcpy(&offset, buf, size);
    memcpy(&selector, buf + size, 2);
    if (!x86_load_segment(s->v, (enum cpu_segreg)segs[s->in->id - INSN_LES], selector,
                          s->fault)) {
        return false;
    }
    x86_gpr_write(s->cpu, x86_modrm_reg(s->in), size, offset);
    return true;
}

bool x86_sys_swapgs(struct x86_system *s)
{
    uint64_t base = s->cpu->seg[CPU_GS].base;

    if (!cpu_is_code64(s->cpu)) {
        return x86_fault_ud(s->fault);
    }
    s->cpu->seg[CPU_GS].base = s->cpu->kernel_gs_base;
    s->cpu->kernel_gs_base = base;
    return true;
}

bool x86_sys_fsgsbase(struct x86_system *s)
{
    bool write = s->in->id == INSN_WRFSBASE || s->in->id == INSN_WRGSBASE;
    bool fs = s->in->id == INSN_WRFSBASE || s->in->id == INSN_RDFSBASE;
    uint64_t *base = &s->cpu->seg[fs ? CPU_FS : CPU_GS].base;
    unsigned reg = x86_modrm_rm(s->in);

    if (!cpu_is_code64(s->cpu) || (s->cpu->cr4 & CPU_CR4_FSGSBASE) == 0) {
        return x86_fault_ud(s->fault);
    }
    if (write) {
        uint64_t value = x86_gpr_read(s->cpu, reg, s->in->opsize);

        if (!x86_is_canonical(value)) {
            return x86_fault_gp(s->fault, 0);
        }
        *base = value;
    } else {
        x86_gpr_write(s->cpu, reg, s->in->opsize, *base);
    }
    return true;
}
