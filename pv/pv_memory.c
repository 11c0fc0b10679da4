/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_memory_op as a paravirtual guest has it (xen-abi 2.4, 7.3): frames have machine
 * numbers of which the guest keeps its own map, so giving back takes them and populating hands
 * them out. A page that comes back is the one whose number fits, or any other that was given
 * back. XENMEM_exchange is for the two directions of one order only, since nothing here needs
 * memory that is contiguous for a device.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/xen_abi.h"

enum { PV_MEMORY_CMD_BITS = 6 };

/* --- One frame -------------------------------------------------------------------------- */

/* Takes a frame from the guest. false: it is not its own, or in use as more than memory. */
static bool memory_take(struct pv_domain *d, uint64_t mfn)
{
    uint32_t frame = pv_page_own(d, mfn);

    if (frame == MEM_HOLE || frame >= d->ram_pages || d->guest->pages[frame].count > 0) {
        return false;
    }
    pv_m2p_set(d, mfn, UINT64_MAX);
    pv_memory_give_back(d, mfn);
    return true;
}

/* A frame for pseudo-physical page pfn; PV_MFN_NONE: none is left. */
static uint64_t memory_hand_out(struct pv_domain *d, uint64_t pfn)
{
    uint64_t mfn = pfn < d->ram_pages ? pv_pfn_to_mfn(d, pfn) : PV_MFN_NONE;

    if (mfn == PV_MFN_NONE || mem_gfn_frame(d->mem, mfn) != MEM_HOLE) {
        mfn = pv_memory_find_hole(d);
    }
    if (mfn != PV_MFN_NONE) {
        pv_memory_take_back(d, mfn);
        pv_m2p_set(d, mfn, pfn);
    }
    return mfn;
}

/* --- Reservations ----------------------------------------------------------------------- */

static bool memory_reserve_one(struct hypercall *h, uint32_t cmd, uint64_t list, uint64_t i)
{
    const uint64_t slot = list + i * sizeof(uint64_t);
    uint64_t number;

    if (cmd == XENMEM_increase_reservation && list == 0) { /* the numbers are not wanted */
        return memory_hand_out(h->d, UINT64_MAX) != PV_MFN_NONE;
    }
    if (!guest_read(h->v, slot, &number, sizeof(number))) {
        return false;
    }
    if (cmd == XENMEM_decrease_reservation) {
        return memory_take(h->d, number);
    }
    number = memory_hand_out(h->d, cmd == XENMEM_populate_physmap ? number : UINT64_MAX);
    return number != PV_MFN_NONE && guest_write(h->v, slot, &number, sizeof(number));
}

static int64_t memory_reservation(struct hypercall *h, uint32_t cmd, uint64_t start)
{
    struct xen_memory_reservation op;
    uint64_t list, i = start;
    int64_t error;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op)) ||
        !hypercall_domid_self(h->d, op.domid, &error) || op.extent_order != 0 ||
        start > op.nr_extents || op.nr_extents > INT64_MAX >> (PV_MEMORY_CMD_BITS + 3)) {
        return (int64_t)start;
    }
    list = (uint64_t)(uintptr_t)op.extent_start.p;
    for (; i < op.nr_extents; i++) {
        if (!hypercall_spend(h, 4)) {
            h->arg[0] = cmd | i << PV_MEMORY_CMD_BITS;
            h->again = true;
            break;
        }
        if (!memory_reserve_one(h, cmd, list, i)) {
            break;
        }
    }
    h->d->guest->flush |= i > start;
    return (int64_t)i;
}

/* --- Questions -------------------------------------------------------------------------- */

static int64_t memory_machphys_mapping(struct hypercall *h)
{
    struct xen_machphys_mapping map = {
        .v_start = pv_m2p_start(h->d),
        .v_end = PV_HV_START + (1ull << 38),
        .max_mfn = (1ull << 35) - 1,
    };

    return guest_write(h->v, h->arg[1], &map, sizeof(map)) ? 0 : -EFAULT;
}

/* One number for each 2 MiB of the table: all of it, as far as there is room. */
static int64_t memory_machphys_list(struct hypercall *h)
{
    struct xen_machphys_mfn_list list;

    if (!guest_read(h->v, h->arg[1], &list, sizeof(list))) {
        return -EFAULT;
    }
    list.nr_extents = 0; /* ours is not made of such pieces */
    return guest_write(h->v, h->arg[1], &list, sizeof(list)) ? 0 : -EFAULT;
}

static int64_t memory_exchange(struct hypercall *h)
{
    struct xen_memory_exchange op;
    int64_t error;
    uint64_t in, out;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.in.domid, &error)) {
        return error;
    }
    if (op.in.domid != op.out.domid || op.nr_exchanged > op.in.nr_extents ||
        op.in.extent_order >= 64 || op.out.extent_order >= 64 ||
        op.in.nr_extents > UINT64_MAX >> 20) {
        return -EINVAL;
    }
    if (op.in.extent_order != 0 || op.out.extent_order != 0) {
        return -EPERM; /* contiguous memory is for those with devices */
    }
    if (op.in.nr_extents != op.out.nr_extents) {
        return -EINVAL;
    }
    in = (uint64_t)(uintptr_t)op.in.extent_start.p;
    out = (uint64_t)(uintptr_t)op.out.extent_start.p;
    for (; op.nr_exchanged < op.in.nr_extents; op.nr_exchanged++) {
        uint64_t mfn, pfn;

        if (!hypercall_spend(h, 8)) {
            h->again = true;
            break;
        }
        if (!guest_read(h->v, in + op.nr_exchanged * 8, &mfn, 8) ||
            !guest_read(h->v, out + op.nr_exchanged * 8, &pfn, 8)) {
            error = -EFAULT;
            break;
        }
        error = memory_take(h->d, mfn) ? 0 : -EINVAL;
        if (error != 0) {
            break;
        }
        h->d->guest->flush = true;
        mfn = memory_hand_out(h->d, pfn);
        if (!guest_write(h->v, out + op.nr_exchanged * 8, &mfn, 8)) {
            op.nr_exchanged++;
            error = -EFAULT;
            break;
        }
        error = 0;
    }
    if (op.in.nr_extents == 0) {
        error = 0;
    }
    return guest_write(h->v, h->arg[1], &op, sizeof(op)) ? (h->again ? 0 : error) : -EFAULT;
}

/* What is for guests whose frame numbers the hypervisor translates. All begin with a domain. */
static int64_t memory_not_translated(struct hypercall *h, size_t size)
{
    union {
        domid_t domid;
        struct xen_add_to_physmap add;
        struct xen_add_to_physmap_batch batch;
        struct xen_remove_from_physmap remove;
    } op;
    int64_t error;

    if (!guest_read(h->v, h->arg[1], &op, size)) {
        return -EFAULT;
    }
    return hypercall_domid_self(h->d, op.domid, &error) ? -EACCES : error;
}

int64_t pv_op_memory(struct hypercall *h, bool *done)
{
    const uint32_t cmd = h->arg[0] & ((1u << PV_MEMORY_CMD_BITS) - 1);
    const uint64_t start = h->arg[0] >> PV_MEMORY_CMD_BITS;

    *done = true;
    switch (cmd) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap:
        return memory_reservation(h, cmd, start);
    case XENMEM_exchange:
        return memory_exchange(h);
    case XENMEM_machphys_mapping:
        return memory_machphys_mapping(h);
    case XENMEM_machphys_mfn_list:
    case XENMEM_machphys_compat_mfn_list:
        return memory_machphys_list(h);
    case XENMEM_machine_memory_map:
        return -EPERM;
    case XENMEM_add_to_physmap:
        return memory_not_translated(h, sizeof(struct xen_add_to_physmap));
    case XENMEM_add_to_physmap_batch:
        return memory_not_translated(h, sizeof(struct xen_add_to_physmap_batch));
    case XENMEM_remove_from_physmap:
        return memory_not_translated(h, sizeof(struct xen_remove_from_physmap));
    default:
        *done = false;
        return 0;
    }
}
