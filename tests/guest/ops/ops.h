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

enum { ESRCH_ = 3, ENOSPC_ = 28, ENODATA_ = 61, ETIME_ = 62 };

#ifdef PVH
enum { IS_PVH = 1 };
#else
enum { IS_PVH = 0 };
#endif

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

#define EVTCHN(cmd, op) HC2(event_channel_op, EVTCHNOP_##cmd, op)

#endif
