/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_memory_op for translated guests (xen/memory.h; xen-abi 2.3, 2.4), and the layout
 * it changes.
 *
 * The layout is: every RAM gfn has its own frame or none; the hypervisor's extra frames lie
 * where the guest put them, each at one gfn at most. Nothing else can be made, so there is
 * nothing to count references of. A page that the guest gives back is discarded on the host and
 * comes back zeroed. Refused on purpose: exchange, increase_reservation (a translated guest
 * could not reach the pages), moves of one RAM page to another gfn, foreign mappings.
 */
#include "pv/memory.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bit_tree.h"
#include "pv/domain.h"
#include "pv/gnttab.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/shared.h"
#include "pv/xen_abi.h"

enum {
    MEMORY_CMD_BITS = 6,    /* the rest of cmd says where a continuation goes on */
    MEMORY_MAX_ORDER = 9,   /* as Xen allows a guest without devices */
    MEMORY_LIST_BATCH = 16, /* extents read from the guest at once */
};

/* Frames to discard that follow each other: one call to the host for all of them. */
struct memory_run {
    uint32_t first, count;
};

static void memory_change_extent(struct pv_domain *d, uint64_t gfn, unsigned order,
                                 bool populate, struct memory_run *run);

/* --- Layout ----------------------------------------------------------------------------- */

/* The frame that a RAM gfn has by itself; MEM_HOLE outside RAM. */
static uint32_t memory_natural_frame(const struct pv_domain *d, uint64_t gfn)
{
    const uint64_t low = mem_low_bytes(d->mem) >> MEM_PAGE_SHIFT;
    const uint64_t high = mem_high_bytes(d->mem) >> MEM_PAGE_SHIFT;
    const uint64_t high_start = MEM_HIGH_START >> MEM_PAGE_SHIFT;

    if (gfn < low) {
        return (uint32_t)gfn;
    }
    if (gfn >= high_start && gfn - high_start < high) {
        return (uint32_t)(low + (gfn - high_start));
    }
    return MEM_HOLE;
}

/* Gives the host its memory back; the pages read as zeroes afterwards. */
static void memory_discard(struct pv_domain *d, uint32_t frame, uint32_t count)
{
    void *hva = mem_frame_hva(d->mem, frame);
    const size_t len = (size_t)count * MEM_PAGE_SIZE;

    if (count == 0) {
        return;
    }
    if (madvise(hva, len, MADV_REMOVE) != 0) {
        memset(hva, 0, len);
    }
    for (uint32_t i = 0; i < count; i++) {
        mem_written(d->mem, frame + i);
    }
}

static void memory_discard_run(struct pv_domain *d, struct memory_run *run)
{
    memory_discard(d, run->first, run->count);
    run->count = 0;
}

/* Linux gives pages back singly, upwards or downwards. */
static void memory_discard_later(struct pv_domain *d, struct memory_run *run, uint32_t frame)
{
    if (run->count > 0 && frame + 1 == run->first) {
        run->first = frame;
    } else if (run->count == 0 || frame != run->first + run->count) {
        memory_discard_run(d, run);
        run->first = frame;
    }
    run->count++;
}

/* Changes what lies at gfn, keeping count of RAM pages and of where extra frames are. */
static bool memory_set(struct pv_domain *d, uint64_t gfn, uint32_t frame)
{
    const uint32_t natural = memory_natural_frame(d, gfn);
    const uint32_t old = mem_gfn_frame(d->mem, gfn);

    if (old == frame) {
        return true;
    }
    if (!mem_set_gfn(d->mem, gfn, frame)) {
        return false;
    }
    if (old != MEM_HOLE && old == natural) {
        d->ram_holes++;
    } else if (old != MEM_HOLE) {
        for (unsigned i = 0; i < PV_EXTRA_FRAMES; i++) {
            if (d->extra_gfn[i] == gfn) {
                d->extra_gfn[i] = PV_NO_GFN;
            }
        }
    }
    if (frame != MEM_HOLE && frame == natural) {
        d->ram_holes--;
    }
    if (natural != MEM_HOLE) {
        bit_tree_put(d->holes, natural, frame == MEM_HOLE);
    }
    return true;
}

bool pv_memory_place(struct pv_domain *d, unsigned extra, uint64_t gfn)
{
    const uint32_t frame = mem_extra_frame(d->mem, extra);
    const uint64_t from = d->extra_gfn[extra];
    uint32_t old = gfn == PV_NO_GFN ? MEM_HOLE : mem_gfn_frame(d->mem, gfn);

    if (from == gfn) {
        return true;
    }
    if (gfn != PV_NO_GFN) {
        if (!memory_set(d, gfn, frame)) {
            return false;
        }
        if (old != MEM_HOLE && old == memory_natural_frame(d, gfn)) {
            memory_discard(d, old, 1);
        }
    }
    if (from != PV_NO_GFN) {
        memory_set(d, from, MEM_HOLE);
    }
    d->extra_gfn[extra] = gfn;
    pv_request_all(d, VCPU_REQ_TLB_FLUSH);
    return true;
}

void pv_memory_reset(struct pv_domain *d)
{
    const uint64_t low = mem_low_bytes(d->mem) >> MEM_PAGE_SHIFT;
    const uint64_t high = mem_high_bytes(d->mem) >> MEM_PAGE_SHIFT;

    for (unsigned i = 0; i < PV_EXTRA_FRAMES; i++) {
        pv_memory_place(d, i, PV_NO_GFN);
    }
    for (uint64_t i = 0; d->ram_holes > 0 && i < low + high; i++) {
        uint64_t gfn = pv_pfn_to_mfn(d, i);

        memory_set(d, gfn, (uint32_t)i);
    }
    pv_request_all(d, VCPU_REQ_TLB_FLUSH);
}

void pv_memory_begin(struct pv_domain *d, uint64_t pages)
{
    const uint64_t low = mem_low_bytes(d->mem) >> MEM_PAGE_SHIFT;
    const uint64_t middle = MAX(pages, low);

    if (pages < low) {
        mem_set_holes(d->mem, pages, low - pages);
    }
    if (middle < d->ram_pages) {
        mem_set_holes(d->mem, pv_pfn_to_mfn(d, middle), d->ram_pages - middle);
    }
    for (uint64_t i = pages; i < d->ram_pages; i++) {
        d->ram_holes += !bit_tree_has(d->holes, i);
        bit_tree_put(d->holes, i, true);
    }
}

static void memory_change_page(struct pv_domain *d, uint64_t gfn, bool populate)
{
    struct memory_run run = {0};

    memory_change_extent(d, gfn, 0, populate, &run);
    memory_discard_run(d, &run);
}

void pv_memory_give_back(struct pv_domain *d, uint64_t gfn)
{
    memory_change_page(d, gfn, false);
}

void pv_memory_take_back(struct pv_domain *d, uint64_t gfn)
{
    memory_change_page(d, gfn, true);
}

bool pv_memory_is_ram(const struct pv_domain *d, uint64_t gfn)
{
    return memory_natural_frame(d, gfn) != MEM_HOLE;
}

uint64_t pv_memory_find_hole(const struct pv_domain *d)
{
    const uint64_t i = bit_tree_first(d->holes);

    return i == BIT_TREE_NONE ? PV_NO_GFN : pv_pfn_to_mfn(d, i);
}

uint64_t pv_memory_pages(const struct pv_domain *d)
{
    return d->ram_pages - d->ram_holes;
}

/* --- Reservations ----------------------------------------------------------------------- */

/* Whether one extent of 2^order pages can be given back or had: all of it, or nothing is done.
 */
static bool memory_extent_ok(struct pv_domain *d, uint64_t gfn, unsigned order, bool populate)
{
    const uint64_t pages = 1ull << order;

    if (gfn > UINT64_MAX - pages) {
        return false;
    }
    for (uint64_t i = 0; i < pages; i++) {
        uint32_t frame = mem_gfn_frame(d->mem, gfn + i);

        if (populate ? frame != MEM_HOLE || memory_natural_frame(d, gfn + i) == MEM_HOLE
                     : frame == MEM_HOLE) {
            return false;
        }
    }
    return true;
}

static void memory_change_extent(struct pv_domain *d, uint64_t gfn, unsigned order,
                                 bool populate, struct memory_run *run)
{
    for (uint64_t i = 0; i < 1ull << order; i++) {
        uint32_t natural = memory_natural_frame(d, gfn + i);
        bool own = mem_gfn_frame(d->mem, gfn + i) == natural;

        memory_set(d, gfn + i, populate ? natural : MEM_HOLE);
        /* At populate too: another vCPU may have written to the page before it flushed. */
        if (natural != MEM_HOLE && (populate || own)) {
            memory_discard_later(d, run, natural);
        }
    }
}

/* Work units (about a microsecond each) for an extent: the host's part is most of it. */
static unsigned memory_extent_cost(unsigned order, bool populate)
{
    return (1u << order) + (populate ? 1 : 4);
}

/* struct xen_memory_reservation as the caller's mode lays it out; *list is its extent_start. */
static bool memory_read_reservation(struct hypercall *h, struct xen_memory_reservation *op,
                                    uint64_t *list)
{
    struct {
        uint32_t extent_start, nr_extents, extent_order, mem_flags;
        uint16_t domid;
    } op32;

    if (!h->compat) {
        bool ok = guest_read(h->v, h->arg[1], op, sizeof(*op));

        *list = ok ? (uint64_t)(uintptr_t)op->extent_start.p : 0;
        return ok;
    }
    if (!guest_read(h->v, h->arg[1], &op32, sizeof(op32))) {
        return false;
    }
    *list = op32.extent_start;
    *op = (struct xen_memory_reservation){.nr_extents = op32.nr_extents,
                                          .extent_order = op32.extent_order,
                                          .mem_flags = op32.mem_flags,
                                          .domid = op32.domid};
    return true;
}

/* Extents that a list can have: each is counted in a result and in a continued cmd. */
static uint64_t memory_max_extents(const struct hypercall *h)
{
    return h->compat ? UINT32_MAX >> MEMORY_CMD_BITS
                     : INT64_MAX >> (MEMORY_CMD_BITS + 3);
}

/* Reads n xen_pfn_t or xen_ulong_t from index i of a list: 4 bytes each in 32-bit mode. */
static bool memory_read_list(struct hypercall *h, uint64_t list, uint64_t i, uint64_t *values,
                             size_t n)
{
    uint32_t values32[MEMORY_LIST_BATCH];

    if (!h->compat) {
        return guest_read(h->v, list + i * sizeof(*values), values, n * sizeof(*values));
    }
    if (!guest_read(h->v, list + i * sizeof(*values32), values32, n * sizeof(*values32))) {
        return false;
    }
    for (size_t k = 0; k < n; k++) {
        values[k] = values32[k];
    }
    return true;
}

/* populate_physmap, decrease_reservation. Returns the number of extents done in all. */
static int64_t memory_reservation(struct hypercall *h, uint32_t cmd, uint64_t start)
{
    struct pv_domain *d = h->d;
    struct xen_memory_reservation op;
    const bool populate = cmd == XENMEM_populate_physmap;
    struct memory_run run = {0};
    uint64_t list;
    uint64_t i = start;
    int64_t error;

    if (!memory_read_reservation(h, &op, &list)) {
        return (int64_t)start;
    }
    if (!hypercall_domid_self(d, op.domid, &error)) {
        return (int64_t)start;
    }
    /* As in Xen: a start beyond the list, or more extents than a result can count, is nothing
     * done. */
    if (op.extent_order > MEMORY_MAX_ORDER || start > op.nr_extents ||
        op.nr_extents > memory_max_extents(h)) {
        return (int64_t)start;
    }
    while (i < op.nr_extents) {
        uint64_t gfns[MEMORY_LIST_BATCH];
        uint64_t n = MIN(op.nr_extents - i, (uint64_t)MEMORY_LIST_BATCH);

        if (!memory_read_list(h, list, i, gfns, n)) {
            break;
        }
        for (uint64_t k = 0; k < n; k++, i++) {
            if (!hypercall_spend(h, memory_extent_cost(op.extent_order, populate))) {
                h->arg[0] = cmd | i << MEMORY_CMD_BITS;
                h->again = true;
                goto out;
            }
            if (!memory_extent_ok(d, gfns[k], op.extent_order, populate)) {
                goto out;
            }
            memory_change_extent(d, gfns[k], op.extent_order, populate, &run);
        }
    }
out:
    memory_discard_run(d, &run); /* before the guest can use what it has been given */
    if (i > start) {
        pv_request_all(d, VCPU_REQ_TLB_FLUSH);
    }
    return (int64_t)i;
}

/* --- The physical map ------------------------------------------------------------------- */

static int64_t memory_map_space(struct pv_domain *d, unsigned space, uint64_t idx, uint64_t gfn)
{
    uint32_t frame;

    switch (space) {
    case XENMAPSPACE_shared_info:
        if (idx != 0) {
            return -EINVAL;
        }
        return pv_memory_place(d, PV_FRAME_SHARED_INFO, gfn) ? 0 : -EINVAL;
    case XENMAPSPACE_grant_table:
        if (gfn == PV_NO_GFN) {
            return -EINVAL;
        }
        frame = gnttab_frame(d, idx);
        if (frame == MEM_HOLE) {
            return -EINVAL;
        }
        return pv_memory_place(d, PV_FRAME_GRANT0 + (unsigned)idx, gfn) ? 0 : -EINVAL;
    case XENMAPSPACE_gmfn:
    case XENMAPSPACE_gmfn_range:
        return -EOPNOTSUPP;
    case XENMAPSPACE_gmfn_foreign:
        return -EPERM;
    case XENMAPSPACE_dev_mmio:
        return -EACCES;
    default:
        return -EINVAL;
    }
}

static int64_t memory_add_to_physmap(struct hypercall *h)
{
    struct xen_add_to_physmap op;
    int64_t error;

    if (h->compat) {
        struct {
            uint16_t domid, size;
            uint32_t space, idx, gpfn;
        } op32;

        if (!guest_read(h->v, h->arg[1], &op32, sizeof(op32))) {
            return -EFAULT;
        }
        op = (struct xen_add_to_physmap){
            .domid = op32.domid, .space = op32.space, .idx = op32.idx, .gpfn = op32.gpfn};
    } else if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.domid, &error)) {
        return error;
    }
    if (op.gpfn == PV_NO_GFN) {
        return -EINVAL;
    }
    if (op.space == XENMAPSPACE_shared_info) {
        pv_shared_latch(h->d, h->v);
    }
    return memory_map_space(h->d, op.space, op.idx, op.gpfn);
}

/* struct xen_add_to_physmap_batch, its lists as addresses. */
struct memory_batch {
    uint16_t domid, space, size;
    uint64_t idxs, gfns, errs;
};

static bool memory_read_batch(struct hypercall *h, struct memory_batch *batch)
{
    struct xen_add_to_physmap_batch op;
    struct {
        uint16_t domid, space, size, foreign;
        uint32_t idxs, gfns, errs;
    } op32;

    if (h->compat) {
        if (!guest_read(h->v, h->arg[1], &op32, sizeof(op32))) {
            return false;
        }
        *batch = (struct memory_batch){op32.domid, op32.space, op32.size,
                                       op32.idxs,  op32.gfns,  op32.errs};
        return true;
    }
    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return false;
    }
    *batch = (struct memory_batch){
        op.domid, op.space, op.size, (uintptr_t)op.idxs.p, (uintptr_t)op.gpfns.p,
        (uintptr_t)op.errs.p};
    return true;
}

static int64_t memory_add_batch(struct hypercall *h, uint64_t start)
{
    struct memory_batch op;
    int64_t error;

    if (!memory_read_batch(h, &op)) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.domid, &error)) {
        return error;
    }
    if (start > op.size) {
        return -EILSEQ;
    }
    for (uint64_t i = start; i < op.size; i++) {
        uint64_t idx, gfn;
        int result;

        if (!hypercall_spend(h, 1)) {
            h->arg[0] = XENMEM_add_to_physmap_batch | i << MEMORY_CMD_BITS;
            h->again = true;
            return 0;
        }
        if (!memory_read_list(h, op.idxs, i, &idx, 1) ||
            !memory_read_list(h, op.gfns, i, &gfn, 1)) {
            return -EFAULT;
        }
        result = gfn == PV_NO_GFN ? -EINVAL : (int)memory_map_space(h->d, op.space, idx, gfn);
        if (!guest_write(h->v, op.errs + i * sizeof(result), &result, sizeof(result))) {
            return -EFAULT;
        }
    }
    return 0;
}

static int64_t memory_remove_from_physmap(struct hypercall *h)
{
    struct xen_remove_from_physmap op;
    struct {
        uint16_t domid;
        uint32_t gpfn;
    } op32;
    uint32_t frame;
    int64_t error;
    bool ok;

    if (h->compat) {
        ok = guest_read(h->v, h->arg[1], &op32, sizeof(op32));
        op.domid = op32.domid;
        op.gpfn = op32.gpfn;
    } else {
        ok = guest_read(h->v, h->arg[1], &op, sizeof(op));
    }
    if (!ok) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.domid, &error)) {
        return error;
    }
    frame = mem_gfn_frame(h->d->mem, op.gpfn);
    if (frame == MEM_HOLE) {
        return -ENOENT;
    }
    memory_set(h->d, op.gpfn, MEM_HOLE);
    if (frame == memory_natural_frame(h->d, op.gpfn)) {
        memory_discard(h->d, frame, 1);
    }
    pv_request_all(h->d, VCPU_REQ_TLB_FLUSH);
    return 0;
}

/* --- Questions -------------------------------------------------------------------------- */

static int64_t memory_map_op(struct hypercall *h)
{
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) entry; /* struct e820entry of the guest */
    struct xen_memory_map op = {0};
    uint32_t op32[2];
    uint64_t buffer;
    bool ok;

    if (h->compat) {
        ok = guest_read(h->v, h->arg[1], op32, sizeof(op32));
        op.nr_entries = op32[0];
        buffer = op32[1];
    } else {
        ok = guest_read(h->v, h->arg[1], &op, sizeof(op));
        buffer = (uint64_t)(uintptr_t)op.buffer.p;
    }
    if (!ok) {
        return -EFAULT;
    }
    if (h->d->map_len == 0) {
        return -ENOSYS;
    }
    op.nr_entries = MIN(op.nr_entries, h->d->map_len);
    for (unsigned i = 0; i < op.nr_entries; i++) {
        const struct pv_memory_range *r = &h->d->map[i];

        entry.addr = r->start;
        entry.size = r->len;
        entry.type = r->type;
        if (!guest_write(h->v, buffer + (uint64_t)i * sizeof(entry), &entry, sizeof(entry))) {
            return -EFAULT;
        }
    }
    /* nr_entries comes first in both layouts. */
    return guest_write(h->v, h->arg[1], &op.nr_entries, sizeof(op.nr_entries)) ? 0 : -EFAULT;
}

/* The highest gfn that is backed. */
static uint64_t memory_max_gfn(const struct pv_domain *d)
{
    const uint64_t low = mem_low_bytes(d->mem) >> MEM_PAGE_SHIFT;
    const uint64_t high = mem_high_bytes(d->mem) >> MEM_PAGE_SHIFT;
    uint64_t max = high > 0 ? (MEM_HIGH_START >> MEM_PAGE_SHIFT) + high - 1 : low - 1;

    for (unsigned i = 0; i < PV_EXTRA_FRAMES; i++) {
        if (d->extra_gfn[i] != PV_NO_GFN) {
            max = MAX(max, d->extra_gfn[i]);
        }
    }
    return max;
}

static int64_t memory_question(struct hypercall *h, uint32_t cmd)
{
    uint16_t domid;
    int64_t error;

    if (!guest_read(h->v, h->arg[1], &domid, sizeof(domid))) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, domid, &error)) {
        return error;
    }
    switch (cmd) {
    case XENMEM_current_reservation:
        return (int64_t)pv_memory_pages(h->d);
    case XENMEM_maximum_reservation:
        return (int64_t)h->d->ram_pages;
    default:
        return (int64_t)memory_max_gfn(h->d);
    }
}

int64_t memory_op(struct hypercall *h)
{
    const uint32_t cmd = h->arg[0] & ((1u << MEMORY_CMD_BITS) - 1);
    const uint64_t start = h->arg[0] >> MEMORY_CMD_BITS;

    if (h->d->guest != NULL) {
        bool done;
        int64_t rc = pv_op_memory(h, &done);

        if (done) {
            return rc;
        }
    }
    switch (cmd) {
    case XENMEM_add_to_physmap:
        return memory_add_to_physmap(h);
    case XENMEM_memory_map:
        return memory_map_op(h);
    case XENMEM_maximum_ram_page:
        return (int64_t)memory_max_gfn(h->d);
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
        return memory_question(h, cmd);
    case XENMEM_set_memory_map:
    case XENMEM_acquire_resource:
    case 20: /* paging_op, access_op, sharing_op, claim_pages: the toolstack's */
    case 21:
    case 22:
    case 24:
        return -EPERM;
    case XENMEM_get_vnumainfo:
        return -EOPNOTSUPP;
    case XENMEM_populate_physmap:
    case XENMEM_decrease_reservation:
        return memory_reservation(h, cmd, start);
    case XENMEM_increase_reservation:
        return (int64_t)start; /* none */
    case XENMEM_add_to_physmap_batch:
        return memory_add_batch(h, start);
    case XENMEM_remove_from_physmap:
        return memory_remove_from_physmap(h);
    default:
        return -ENOSYS; /* exchange, machphys and machine maps, and what nobody knows */
    }
}

/* --- State ------------------------------------------------------------------------------ */

/* RAM pages that are holes, as a bitmap over RAM. */
static void memory_state_holes(struct pv_domain *d, struct state *s)
{
    size_t len = (size_t)(d->ram_pages + 7) / 8;
    g_autofree uint8_t *bitmap = g_malloc0(len);
    void *blob = bitmap;

    for (uint64_t i = 0; !state_loading(s) && i < d->ram_pages; i++) {
        uint64_t gfn = pv_pfn_to_mfn(d, i);

        if (mem_gfn_frame(d->mem, gfn) != i) {
            bitmap[i / 8] |= (uint8_t)(1u << (i % 8));
        }
    }
    state_blob(s, "ram-holes", &blob, &len, len);
    if (state_loading(s)) {
        g_autofree uint8_t *loaded = blob == bitmap ? NULL : blob;

        if (!state_ok(s) || loaded == NULL || len != (size_t)(d->ram_pages + 7) / 8) {
            state_fail(s, "memory: the guest has another amount of RAM");
            return;
        }
        for (uint64_t i = 0; i < d->ram_pages; i++) {
            if ((loaded[i / 8] >> (i % 8) & 1) != 0) {
                uint64_t gfn = pv_pfn_to_mfn(d, i);

                memory_set(d, gfn, MEM_HOLE);
            }
        }
    }
}

void pv_memory_state(struct pv_domain *d, struct state *s)
{
    if (state_loading(s)) {
        pv_memory_reset(d);
    }
    memory_state_holes(d, s);
    for (unsigned i = 0; i < PV_EXTRA_FRAMES; i++) {
        uint64_t gfn = d->extra_gfn[i];

        state_u64(s, "extra-gfn", &gfn);
        if (state_loading(s) && state_ok(s) && gfn != PV_NO_GFN &&
            !pv_memory_place(d, i, gfn)) {
            state_fail(s, "memory: a page lies at an impossible address");
        }
    }
}
