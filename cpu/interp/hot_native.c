/* SPDX-License-Identifier: MIT */
/*
 * Fast handlers: native instructions without general registers (most of x87, SSE and AVX).
 * Their simple thunks (thunk.c) change eax and vector state only, so the handler stays a leaf
 * that jumps on.
 */
#include "hot.h"

/* First use since the state went home. */
__attribute__((noinline)) static struct block *
hot_native_load_state(struct vcpu *v, struct op *op, struct interp *e)
{
    interp_fpu_load(e);
    return op->fn(v, op, e);
}

__attribute__((noinline)) static struct block *hot_native_fault(struct vcpu *v, struct op *op,
                                                                struct interp *e, int vector)
{
    v->cpu.rip = interp_page_rip(e) + op->ip;
    v->insn_count += op->number - 1u;
    e->fault_pending = true;
    interp_native_fault(e, vector);
    return NULL;
}

#define NATIVE_CHECK                                                                           \
    if (unlikely((op->need & (e->native_missing >> NATIVE_CLASS_SHIFT)) != 0)) {               \
        HOT_BAIL;                                                                              \
    }                                                                                          \
    if (unlikely(!e->fpu_resident)) {                                                          \
        return hot_native_load_state(v, op, e);                                                \
    }
#define NATIVE_CALL(p)                                                                         \
    int vector = interp_native_call((const void *)(uintptr_t)op->imm, p);                      \
                                                                                               \
    if (unlikely(vector != 0)) {                                                               \
        return hot_native_fault(v, op, e, vector);                                             \
    }                                                                                          \
    HOT_NEXT

/* op->src: bytes of the operand. */
#define NATIVE_MEMORY(name, tag, address)                                                      \
    HOT_FN(hot_native_##name)                                                                  \
    {                                                                                          \
        uint64_t va = address;                                                                 \
        const struct tlb_entry *en = hot_entry(e, va);                                         \
                                                                                               \
        NATIVE_CHECK                                                                           \
        if (unlikely(en->tag != PAGE_BASE(va + op->src - 1) || (va & op->align) != 0)) {       \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        NATIVE_CALL((void *)(uintptr_t)(va + en->addend));                                     \
    }

NATIVE_MEMORY(load_a, read, hot_address_a(v, op))
NATIVE_MEMORY(load_b, read, hot_address_b(v, op, e))
NATIVE_MEMORY(store_a, write, hot_address_a(v, op))
NATIVE_MEMORY(store_b, write, hot_address_b(v, op, e))

HOT_FN(hot_native_plain)
{
    NATIVE_CHECK
    NATIVE_CALL(NULL);
}

op_fn hot_native_handler(struct interp *e, struct op *op, const struct insn *in, bool plain)
{
    static const op_fn handlers[2][2] = {{hot_native_load_a, hot_native_load_b},
                                         {hot_native_store_a, hot_native_store_b}};
    const struct insn_operand *mem = insn_mem_operand(in);
    const void *code = interp_native_simple(e, in);

    if (code == NULL || (in->flags & NATIVE_CLASSES) == 0) {
        return NULL;
    }
    op->imm = (uint64_t)(uintptr_t)code;
    op->need = (uint8_t)((in->flags & NATIVE_CLASSES) >> NATIVE_CLASS_SHIFT);
    if (mem == NULL) {
        return hot_native_plain;
    }
    if (mem->size == 0 || mem->size > 32) {
        return NULL;
    }
    op->src = (uint8_t)mem->size;
    op->align = (in->flags & INSN_F_ALIGNED) != 0 && in->feature != INSN_FEAT_SHA
                    ? (uint8_t)(mem->size - 1)
                    : 0;
    return handlers[(mem->access & OPA_WRITE) != 0][!plain];
}
