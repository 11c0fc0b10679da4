/* SPDX-License-Identifier: MIT */
/*
 * Kernels that test hypercalls which PV and PVH guests share. Each is built for PV and for PVH
 * (PVH), there in 64-bit and in 32-bit code, with the instruction inline and through the page
 * (BY_PAGE).
 */
#ifndef PVEMU_TESTS_GUEST_OPS_H
#define PVEMU_TESTS_GUEST_OPS_H

#include "../pv/pv.h"
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

enum { ENOSPC_ = 28, ENODATA_ = 61, ETIME_ = 62 };

#ifdef PVH
#include <xen/hvm/hvm_vcpu.h>
enum { IS_PVH = 1 };
typedef struct vcpu_hvm_context context_type;
/* What a vCPU needs to begin in flat 32-bit code. */
void flat_context(context_type *context, void *code, void *stack_pointer);
#else
enum { IS_PVH = 0 };
typedef struct vcpu_guest_context context_type;
#endif
/* What a second vCPU needs to run code of the kernel's, on a stack that ends there. */
void second_context(context_type *context, void *code, void *stack_end);

/* Where no guest has memory; ports in a word of the 2-level ABI. */
#define NO_FRAME  ((xen_pfn_t)1 << (8 * sizeof(xen_pfn_t) - 14))
#define WORD_BITS (8 * sizeof(xen_ulong_t))

/* The first frame of the grant table; `frame` is what setup_table said. */
struct grant_entry_v1 *map_grants(uint64_t frame);
/* -cmdline, or "". */
const char *command_line(void);

static inline void mask_all(struct shared_info *si)
{
    for (unsigned i = 0; i < sizeof(si->evtchn_mask) / sizeof(si->evtchn_mask[0]); i++) {
        __atomic_store_n(&si->evtchn_mask[i], ~0ul, __ATOMIC_SEQ_CST);
    }
}

#ifndef COMPAT
#define EVTCHN_OP(cmd, op, size) HC2(event_channel_op, cmd, op)
#else
/* The same by the first interface, which has the command in front of the structure. */
static inline long evtchn_op_compat(uint32_t cmd, void *op, size_t size)
{
    struct evtchn_op whole = {.cmd = cmd};
    long rc;

    if (op == (void *)BAD_POINTER) {
        return HC1(event_channel_op_compat, op);
    }
    __builtin_memcpy(&whole.u, op, size);
    rc = HC1(event_channel_op_compat, &whole);
    __builtin_memcpy(op, &whole.u, size);
    return rc;
}
#define EVTCHN_OP(cmd, op, size) evtchn_op_compat(cmd, (void *)(op), size)
#endif
#define EVTCHN(cmd, op) EVTCHN_OP(EVTCHNOP_##cmd, op, sizeof(struct evtchn_##cmd))

#endif
