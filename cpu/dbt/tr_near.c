/* SPDX-License-Identifier: MIT */
/*
 * Cheaper checks for memory accesses that are likely to meet the page they met last: it is in a
 * slot of interp.near, which the accesses of a block by the same registers share; or it is the
 * cached page of the stack, for arrays there. Whatever takes tags away empties the slots, as it
 * does with the stack's page (interp_stack_forget()), and every access looks for itself, so
 * nothing that happens in between matters. near.c sees to those that miss too often.
 */
#include "translate.h"

static bool near_segment(const struct tr_operand *op)
{
    return op->seg == CPU_FS || op->seg == CPU_GS;
}

static bool near_displaced(const struct tr_operand *op)
{
    return op->base == INSN_REG_RIP || op->base == INSN_NO_REG || tr_displaced(op->base) ||
           (op->index != INSN_NO_REG && tr_displaced(op->index)) || near_segment(op);
}

/* r11: address of the first byte, of the stack on the host. */
static void near_address(struct tr *t, const struct tr_operand *op)
{
    struct emit_mem m = {.base = op->base, .index = op->index, .scale = op->scale,
                         .disp = (int32_t)op->disp};

    if (op->base == CPU_RSP) {
        m.base = HOST_STACK;
    } else if (op->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(page));
        m.base = HOST_R11;
    } else if (op->base == INSN_NO_REG) {
        m.base = EMIT_NO_REG;
    } else if (tr_displaced(op->base)) {
        tr_get(t, HOST_R11, op->base);
        m.base = HOST_R11;
    }
    if (op->index == INSN_NO_REG) {
        m.index = EMIT_NO_REG;
        m.scale = 1;
    } else if (tr_displaced(op->index)) {
        tr_get(t, HOST_R10, op->index);
        m.index = HOST_R10;
    }
    emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &m);
    if (near_segment(op)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11,
                   TR_GS(seg_base) + (op->seg == CPU_GS ? 8 : 0));
    }
}

/* reg: offset of the first byte from a page. Not all of it is inside: elsewhere. */
static void near_compare(struct tr *t, unsigned reg, const struct tr_operand *op,
                         enum fix_kind kind, uint64_t to)
{
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, (uint8_t)(0xf8 | (reg & 7))}, 3);
    emit_u32(&t->c, MEM_PAGE_SIZE - op->size); /* cmp $..,%reg */
    tr_fixup(t, emit_jcc(&t->c, 7), kind, to);
}

static void near_stack(struct tr *t, const struct tr_operand *op)
{
    struct tr_other *o = &t->other[t->nr_others];

    near_address(t, op);
    emit_mov(&t->c, HOST_R10, HOST_R11);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R10, TR_GS(interp.stack.base));
    near_compare(t, HOST_R10, op, FIX_OTHER, t->nr_others++);
    *o = (struct tr_other){.op = *op, .back = emit_offset(&t->c)};
}

static unsigned near_slot(struct tr *t, const struct tr_operand *op)
{
    struct tr_slot *s;
    unsigned i;

    for (i = 0; i < t->nr_slots; i++) {
        s = &t->slot[i];
        if (s->base == op->base && s->index == op->index) {
            return s->slot;
        }
    }
    t->slot[i] = (struct tr_slot){
        .base = op->base, .index = op->index,
        .slot = (uint16_t)(t->d->near_next++ % NEAR_SLOTS)};
    t->nr_slots++;
    return t->slot[i].slot;
}

static void near_data(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    unsigned slot = near_slot(t, op) + (op->write ? NEAR_SLOTS : 0);
    size_t at = TR_GS(interp.near) + slot * sizeof(struct interp_near);
    size_t host = at + offsetof(struct interp_near, host);
    size_t addend = at + offsetof(struct interp_near, addend);
    uint32_t retry = emit_offset(&t->c);
    struct tr_near *n;

    G_STATIC_ASSERT(offsetof(struct interp_near, page) == 0);
    near_address(t, op);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R11, at);
    n = &t->near[t->nr_nears];
    *n = (struct tr_near){.retry = retry, .slot = (uint32_t)at, .write = op->write};
    near_compare(t, HOST_R11, op, FIX_NEAR, t->nr_nears++);
    *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = 0};
    if (near_displaced(op)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, host);
        return;
    }
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, addend); /* does not wait for the address */
    m->index = op->base;
    m->disp = (int32_t)op->disp;
    if (op->index != INSN_NO_REG) {
        emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, op->base);
        m->index = op->index;
        m->scale = op->scale;
    }
}

bool tr_check_near(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    bool stack = op->base == CPU_RSP && !near_segment(op);

    if (op->locked || op->bits || op->size > 64 ||
        !dbt_near_good(t->d, t->b->frame, t->ip)) {
        return false;
    }
    if (stack) {
        near_stack(t, op);
        *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = 0};
        return true;
    }
    if (op->base == CPU_RSP || t->index != TLB_USER) {
        return false;
    }
    near_data(t, op, m);
    return true;
}

void tr_near_stub(struct tr *t, unsigned number)
{
    const struct tr_near *n = &t->near[number];

    emit_store32_gs(&t->c, TR_GS(rec), t->rec | (n->write ? DBT_REC_WRITE : 0));
    emit_mov_imm32(&t->c, HOST_R10, n->slot);
    emit_call_to(&t->c, t->d->common_near[n->write]);
    emit_jmp_to(&t->c, n->retry);
}

void tr_other_stub(struct tr *t, unsigned number)
{
    const struct tr_other *o = &t->other[number];
    struct emit_mem m;

    emit_bytes(&t->c, (const uint8_t[]){0x65, 0xff, 0x04, 0x25}, 4); /* incl gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(other_misses));
    emit_bytes(&t->c, (const uint8_t[]){0x75, 20}, 2); /* jnz over the three that follow */
    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x31, 0xd2}, 3); /* xor %r10d,%r10d */
    emit_call_to(&t->c, t->d->common_often);
    tr_check_tlb(t, &o->op, &m);
    emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &m);
    emit_jmp_to(&t->c, o->back);
}
