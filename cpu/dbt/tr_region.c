/* SPDX-License-Identifier: MIT */
/*
 * Loads of the kernel from where its addresses are one range of the host's memory (region.c in
 * cpu/interp): two comparisons of numbers that do not wait for each other, and an addend that does
 * not wait for the address, instead of a look into the TLB.
 *
 * Which region a load is likely to be in, if in any, is seen from where it is about to go: when a
 * block is translated it is about to run, so what registers are then is known, and much of what
 * the block makes of them, pointers that it loads included. What is beside the region after all
 * looks into the TLB.
 */
#include "translate.h"

#include <string.h>

void tr_region_begin(struct tr *t)
{
    t->known = 0;
    if (t->index != TLB_USER && !tr_is32(t)) {
        memcpy(t->value, t->d->interp.v->cpu.gpr, sizeof(t->value));
        t->known = (1u << CPU_NR_GPR) - 1;
    }
}

static bool region_knows(const struct tr *t, unsigned reg)
{
    return (t->known >> reg & 1) != 0;
}

/* The guest's linear address, if it can be told. */
static bool region_address(const struct tr *t, const struct tr_operand *op, uint64_t *va)
{
    const struct cpu_x86 *cpu = &t->d->interp.v->cpu;

    *va = (uint64_t)op->disp;
    if (op->base == INSN_REG_RIP) {
        *va += PAGE_BASE(cpu->rip);
    } else if (op->base != INSN_NO_REG) {
        if (!region_knows(t, op->base)) {
            return false;
        }
        *va += t->value[op->base];
    }
    if (op->index != INSN_NO_REG) {
        if (!region_knows(t, op->index)) {
            return false;
        }
        *va += t->value[op->index] * op->scale;
    }
    if (tr_based(op)) {
        *va += cpu->seg[op->seg].base;
    }
    return true;
}

/* The region it is in; INTERP_REGIONS: none. */
static unsigned region_of(const struct tr *t, uint64_t va)
{
    const struct interp_region *region = t->d->interp.region;
    unsigned i = 0;

    while (i < INTERP_REGIONS && va - region[i].start >= region[i].limit) {
        i++;
    }
    return i;
}

/* ---- what registers will be ---- */

static bool region_load(const struct tr *t, const struct insn *in, uint64_t *val)
{
    struct tr_operand op;
    uint64_t va;
    unsigned i;

    if (!tr_operand_of(t, in, &op) || op.bits || op.size > sizeof(*val) ||
        !region_address(t, &op, &va)) {
        return false;
    }
    i = region_of(t, va);
    if (i == INTERP_REGIONS) {
        return false;
    }
    *val = 0;
    memcpy(val, (const void *)(uintptr_t)(va + t->d->interp.region[i].addend), op.size);
    return true;
}

/* Of the operand that is only read. */
static bool region_source(const struct tr *t, const struct insn *in, uint64_t *val)
{
    const struct insn_operand *op = &in->op[1];

    switch (op->kind) {
    case OPK_IMM:
        *val = in->imm;
        return true;
    case OPK_GPR:
        *val = op->reg < CPU_NR_GPR ? t->value[op->reg] : 0;
        return op->reg < CPU_NR_GPR && region_knows(t, op->reg);
    case OPK_MEM:
        return region_load(t, in, val);
    default:
        return false;
    }
}

/* What the first operand, a register, becomes. */
static bool region_result(const struct tr *t, const struct insn *in, uint64_t *val)
{
    const struct insn_operand *op = &in->op[0];
    struct tr_operand address;
    uint64_t source;

    if (op->kind != OPK_GPR || op->reg >= CPU_NR_GPR || op->size < 4) {
        return false;
    }
    if (in->id == INSN_LEA) {
        if (!tr_operand_of(t, in, &address)) {
            return false;
        }
        address.seg = CPU_DS;
        return region_address(t, &address, val);
    }
    if (in->nr_operands < 2 || !region_source(t, in, &source)) {
        return false;
    }
    if (in->id == INSN_MOV) {
        *val = source;
        return true;
    }
    *val = t->value[op->reg];
    switch (in->id) {
    case INSN_ADD:
        *val += source;
        break;
    case INSN_SUB:
        *val -= source;
        break;
    case INSN_AND:
        *val &= source;
        break;
    default:
        return false;
    }
    return region_knows(t, op->reg);
}

void tr_region_after(struct tr *t, const struct insn *in)
{
    uint64_t val = 0;
    bool told;

    if (t->known == 0) {
        return;
    }
    told = region_result(t, in, &val);
    t->known &= ~tr_writes(in);
    if (told) {
        t->known |= 1u << in->op[0].reg;
        t->value[in->op[0].reg] = in->op[0].size == 8 ? val : (uint32_t)val;
    }
}

/* ---- loads ---- */

bool tr_region(struct tr *t, const struct tr_operand *op, unsigned span)
{
    size_t place = TR_GS(interp.region);
    uint64_t va;
    unsigned i;

    if (t->index == TLB_USER || op->write || op->locked || op->bits || span > INTERP_REGION_SPAN ||
        !region_address(t, op, &va)) {
        return false;
    }
    i = region_of(t, va);
    if (i == INTERP_REGIONS) {
        return false;
    }
    place += i * sizeof(struct interp_region);
    tr_near_address(t, op, op->disp, false);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R11, place + offsetof(struct interp_region, start));
    emit_op_gs(&t->c, EMIT_CMP_LOAD, HOST_R11, place + offsetof(struct interp_region, limit));
    tr_fixup(t, emit_jcc(&t->c, JAE), FIX_REGION, 0);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, place + offsetof(struct interp_region, addend));
    t->fix[t->nr_fix - 1].to =
        emit_offset(&t->c) | (uint64_t)(span - 1) << 32 | (uint64_t)i << 40;
    return true;
}

void tr_region_stub(struct tr *t, uint64_t to)
{
    unsigned number = (unsigned)(to >> 40);

    emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(interp.region[number].start));
    emit_mov_imm32(&t->c, HOST_R10, to >> 32 & 0xff);
    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    emit_call_to(&t->c, t->d->common_region[t->index]);
    emit_jmp_to(&t->c, (uint32_t)to);
}
