/* SPDX-License-Identifier: MIT */
/*
 * Kernels that test hypercalls which PV and PVH guests share. Each is built four times: for
 * either kind of guest (PVH), with the instruction inline or through the page (BY_PAGE).
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
