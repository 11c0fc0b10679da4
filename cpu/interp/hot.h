/* SPDX-License-Identifier: MIT */
/*
 * Fast handlers for the common forms of instructions in flat code (64-bit, or 32-bit with flat
 * segments).
 *
 * A hot handler does nothing but the plain case: registers, and memory that the soft TLB
 * answers. Whatever else it meets (TLB miss, MMIO, page-crossing, a code page, a fault) it
 * leaves, having changed nothing, to interp_op_bail(), which executes the instruction the
 * generic way. Handlers end in a call of the next one, which the compiler turns into a jump.
 */
#ifndef PVEMU_CPU_INTERP_HOT_H
#define PVEMU_CPU_INTERP_HOT_H

#include "engine.h"

#include "alu.h"

/* Fills *op for *in when there is a fast handler for it in e->mode (ip and len are set). */
bool hot_select(struct interp *e, struct op *op, const struct insn *in);

/* Operand forms; MA addresses are base + disp, MB ones anything. */
enum hot_form {
    HOT_RR,
    HOT_RI,
    HOT_RMA,
    HOT_RMB,
    HOT_MRA,
    HOT_MRB,
    HOT_MIA,
    HOT_MIB,
    HOT_FORMS
};

/* Per group of instructions: the handler, or NULL. size_log: 0..3. */
op_fn hot_alu_handler(unsigned id, unsigned size_log, enum hot_form form);
op_fn hot_move_handler(const struct insn *in, unsigned size_log, enum hot_form form);
op_fn hot_misc_handler(const struct insn *in, unsigned size_log, enum hot_form form);
op_fn hot_native_handler(struct interp *e, struct op *op, const struct insn *in, bool plain);
op_fn hot_flow_handler(struct interp *e, struct op *op, const struct insn *in);

#define HOT_ARGS           struct vcpu *v, struct op *op, struct interp *e
#define HOT_FN(name)       static struct block *name(HOT_ARGS)
#define HOT_NEXT           return op[1].fn(v, op + 1, e)
#define HOT_BAIL           return interp_op_bail(v, op, e)
#define HOT_REG(off, type) (*(type *)(void *)((uint8_t *)v + (off)))
#define HOT_WORD(i)        (((const uint64_t *)(const void *)v)[i])

static inline uint64_t hot_address_a(struct vcpu *v, const struct op *op)
{
    return HOT_WORD(op->base) + (uint64_t)(int64_t)op->disp;
}

/* Without the segment base. */
static inline uint64_t hot_offset_b(struct vcpu *v, const struct op *op, const struct interp *e)
{
    return (HOT_WORD(op->base) + (HOT_WORD(op->index) << op->shift) +
            (uint64_t)(int64_t)op->disp) &
           e->address_mask;
}

static inline uint64_t hot_address_b(struct vcpu *v, const struct op *op,
                                     const struct interp *e)
{
    return hot_offset_b(v, op, e) + HOT_WORD(op->seg);
}

static inline struct tlb_entry *hot_entry(struct interp *e, uint64_t va)
{
    return &e->tlb->entry[interp_tlb_slot(va)];
}

/* Host address of a readable (writable) operand within one page, or leave. */
#define HOT_READ(p, va, type)                                                                  \
    const struct tlb_entry *p##_en = hot_entry(e, va);                                         \
    if (unlikely(p##_en->read != PAGE_BASE((va) + sizeof(type) - 1))) {                        \
        HOT_BAIL;                                                                              \
    }                                                                                          \
    interp_##type *p = (interp_##type *)(uintptr_t)((va) + p##_en->addend)
#define HOT_WRITE(p, va, type)                                                                 \
    const struct tlb_entry *p##_en = hot_entry(e, va);                                         \
    if (unlikely(p##_en->write != PAGE_BASE((va) + sizeof(type) - 1))) {                       \
        HOT_BAIL;                                                                              \
    }                                                                                          \
    interp_##type *p = (interp_##type *)(uintptr_t)((va) + p##_en->addend)

/* Other threads use the same memory: exactly one access, never widened or repeated. */
#define HOT_LOAD(p)       (*(volatile __typeof__(*(p)) *)(p))
#define HOT_STORE(p, val) (*(volatile __typeof__(*(p)) *)(p) = (val))

/* 32-bit results zero the upper half. */
#define HOT_SET_uint8_t(off, val)  (HOT_REG(off, uint8_t) = (uint8_t)(val))
#define HOT_SET_uint16_t(off, val) (HOT_REG(off, uint16_t) = (uint16_t)(val))
#define HOT_SET_uint32_t(off, val) (HOT_REG(off, uint64_t) = (uint32_t)(val))
#define HOT_SET_uint64_t(off, val) (HOT_REG(off, uint64_t) = (val))
#define HOT_SET(type, off, val)    HOT_SET_##type(off, val)

#endif
