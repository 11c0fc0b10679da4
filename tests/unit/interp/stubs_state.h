/* SPDX-License-Identifier: MIT */
/* The state that changes of privilege change, of the guest and of the engine (test_stubs.c). */
#ifndef PVEMU_TESTS_INTERP_STUBS_STATE_H
#define PVEMU_TESTS_INTERP_STUBS_STATE_H

#include "cpu/dbt/engine.h"

#include "guest.h"

enum { KEPT_START = G_IDT, KEPT_BYTES = 0x4000, STACK_BYTES = 0x2000 };

/* All that a transition may change. */
struct state {
    struct cpu_x86 cpu;
    struct x86_fault fault;
    struct interp_stack stack, stacks[TLB_NR];
    struct tlb *tlb;
    uint64_t sp, sps[TLB_NR], jump_at, stack_base, jump_epoch[TLB_NR], jump_epoch_global[TLB_NR];
    uint64_t jump_key, jump_key_global, seg_base[2];
    uint64_t top; /* of the stack of returns */
    uint32_t fl, request_mask, native_missing, jump_salt, request;
    unsigned index;
    uint8_t mode;
    bool fault_pending;
    uint8_t tables[KEPT_BYTES], stack_bytes[STACK_BYTES];
};

struct test {
    struct guest *g;
    struct dbt *d;
    struct interp *e;
    GRand *rand;
    struct cpu_model *model;
    struct state before, emitted, c;
    unsigned done, refused, found; /* found: the target was in the table of jumps */
    uint32_t first; /* its rec, where others follow */
    bool planted;
    bool on; /* it went there, and nobody else was asked */
};

void state_save(const struct test *t, struct state *s);
void state_restore(struct test *t, const struct state *s);
/* They are the same. */
void state_compare(const struct state *x, const struct state *y);

#endif
