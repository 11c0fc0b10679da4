/* SPDX-License-Identifier: MIT */
/* The physical layout: shared info on top of RAM, ballooning, queries, batches that take
 * several goes. */
#include <errno.h>
#include <string.h>

#include "pv/memory.h"
#include "xen_guest.h"

#define MEM_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_memory_op, cmd, arg)

enum { LIST = 0x20000 };

static int64_t place(struct xen_guest *g, unsigned space, uint64_t idx, uint64_t gfn)
{
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = space, .idx = idx, .gpfn = gfn};

    return MEM_OP(g, XENMEM_add_to_physmap, &add);
}

static void test_shared_info(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct mem *mem = g->fb->board.mem;
    const uint64_t pages = XG_RAM / MEM_PAGE_SIZE;

    memset(xg_at(g, 0x1000), 0x55, MEM_PAGE_SIZE);
    g->fb->requested[1] = 0;
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, 1), ==, 0);
    g_assert_true(xg_at(g, 0x1000) == (void *)pv_shared_info(g->d));
    g_assert_true((g->fb->requested[1] & VCPU_REQ_TLB_FLUSH) != 0);
    g_assert_cmpuint(pv_memory_pages(g->d), ==, pages - 1);
    /* Moving it leaves a hole, and what was under it is gone for good. */
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, 0x123456), ==, 0);
    g_assert_true(mem_page(mem, 1) == NULL);
    g_assert_true(xg_at(g, 0x123456000ull) == (void *)pv_shared_info(g->d));
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, 2), ==, 0);
    g_assert_true(mem_page(mem, 0x123456) == NULL);
    g_assert_cmpuint(pv_memory_pages(g->d), ==, pages - 2);
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 1, 3), ==, -EINVAL);
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, UINT64_MAX), ==, -EINVAL);
    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, 1ull << 50), ==, -EINVAL);
    /* Another page on the same gfn displaces it. */
    g_assert_cmpint(place(g, XENMAPSPACE_grant_table, 0, 2), ==, 0);
    g_assert_cmphex(g->d->extra_gfn[PV_FRAME_SHARED_INFO], ==, PV_NO_GFN);
    g_assert_true(xg_at(g, 0x2000) != (void *)pv_shared_info(g->d));
    xen_guest_free(g);
}

static void test_spaces(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_add_to_physmap add = {.domid = 0, .space = XENMAPSPACE_shared_info, .gpfn = 1};
    struct xen_remove_from_physmap rm = {.domid = DOMID_SELF, .gpfn = 0x5000};

    g_assert_cmpint(MEM_OP(g, XENMEM_add_to_physmap, &add), ==, -EPERM);
    add.domid = 9;
    g_assert_cmpint(MEM_OP(g, XENMEM_add_to_physmap, &add), ==, -ESRCH);
    g_assert_cmpint(place(g, XENMAPSPACE_gmfn, 0, 1), ==, -EOPNOTSUPP);
    g_assert_cmpint(place(g, XENMAPSPACE_gmfn_foreign, 0, 1), ==, -EPERM);
    g_assert_cmpint(place(g, 99, 0, 1), ==, -EINVAL);
    g_assert_cmpint(MEM_OP(g, XENMEM_remove_from_physmap, &rm), ==, -ENOENT);
    rm.gpfn = 5;
    g_assert_cmpint(MEM_OP(g, XENMEM_remove_from_physmap, &rm), ==, 0);
    g_assert_null(mem_page(g->fb->board.mem, 5));
    xen_guest_free(g);
}

static int64_t balloon(struct xen_guest *g, unsigned op, uint64_t first, unsigned count,
                       unsigned order, unsigned *again)
{
    struct xen_memory_reservation r = {
        .nr_extents = count, .extent_order = order, .domid = DOMID_SELF};
    uint64_t *list = xg_at(g, LIST);

    /* The list may be longer than a page; RAM is contiguous here. */
    for (unsigned i = 0; i < count; i++) {
        list[i] = first + ((uint64_t)i << order);
    }
    r.extent_start.p = (xen_pfn_t *)(uintptr_t)LIST;
    g_assert_true(mem_write(g->fb->board.mem, XG_ARGS, &r, sizeof(r)));
    return xg_call(g, 0, __HYPERVISOR_memory_op, (const uint64_t[6]){op, XG_ARGS}, again);
}

static void test_balloon(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct mem *mem = g->fb->board.mem;
    const uint64_t pages = XG_RAM / MEM_PAGE_SIZE;
    uint16_t self = DOMID_SELF;
    unsigned again;

    memset(xg_at(g, 0x500000), 0xaa, 2 * MEM_PAGE_SIZE);
    g_assert_cmpint(balloon(g, XENMEM_decrease_reservation, 0x500, 512, 0, &again), ==, 512);
    g_assert_cmpuint(again, ==, 2);
    g_assert_null(mem_page(mem, 0x500));
    g_assert_null(mem_page(mem, 0x6ff));
    g_assert_nonnull(mem_page(mem, 0x700));
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, pages - 512);
    g_assert_cmpint(MEM_OP(g, XENMEM_maximum_reservation, &self), ==, pages);
    /* Twice: nothing to take. Beyond RAM: nothing to give. */
    g_assert_cmpint(balloon(g, XENMEM_decrease_reservation, 0x4ff, 3, 0, NULL), ==, 1);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, pages, 3, 0, NULL), ==, 0);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x700, 3, 0, NULL), ==, 0);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x4ff, 513, 0, NULL), ==, 513);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, pages);
    g_assert_cmphex(*(uint64_t *)xg_at(g, 0x500000), ==, 0); /* comes back clean */
    /* Orders. */
    g_assert_cmpint(balloon(g, XENMEM_decrease_reservation, 0x400, 1, 9, NULL), ==, 1);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, pages - 512);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x400, 1, 10, NULL), ==, 0);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x400, 1, 63, NULL), ==, 0);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x400, 1, 9, NULL), ==, 1);
    g_assert_cmpint(balloon(g, XENMEM_increase_reservation, 0, 4, 0, NULL), ==, 0);
    xen_guest_free(g);
}

/* -m SIZE,max=: the rest of RAM is there to be had. */
static void test_begin(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct mem *mem = g->fb->board.mem;
    const uint64_t pages = XG_RAM / MEM_PAGE_SIZE;
    uint16_t self = DOMID_SELF;

    pv_memory_begin(g->d, 0x800);
    pv_memory_begin(g->d, 0x800); /* nothing changes */
    g_assert_nonnull(mem_page(mem, 0x7ff));
    g_assert_null(mem_page(mem, 0x800));
    g_assert_null(mem_page(mem, pages - 1));
    g_assert_cmpuint(pv_memory_find_hole(g->d), ==, 0x800);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, 0x800);
    g_assert_cmpint(MEM_OP(g, XENMEM_maximum_reservation, &self), ==, pages);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x900, 4, 0, NULL), ==, 4);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, 0x804);
    g_assert_nonnull(mem_page(mem, 0x903));
    pv_memory_reset(g->d);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, pages);
    g_assert_nonnull(mem_page(mem, pages - 1));
    pv_memory_begin(g->d, pages);
    g_assert_cmpint(MEM_OP(g, XENMEM_current_reservation, &self), ==, pages);
    xen_guest_free(g);
}

static void test_continuation(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    unsigned again;

    g_assert_cmpint(balloon(g, XENMEM_decrease_reservation, 0x400, 2500, 0, &again), ==, 2500);
    g_assert_cmpuint(again, ==, 12);
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap, 0x400, 2500, 0, &again), ==, 2500);
    g_assert_cmpuint(again, ==, 4);
    /* A start beyond the list, as nobody but a hostile guest makes it. */
    g_assert_cmpint(balloon(g, XENMEM_populate_physmap | 5000 << 6, 0x400, 16, 0, NULL), ==,
                    5000);
    xen_guest_free(g);
}

static void test_memory_map(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_memory_map op = {.nr_entries = 8};
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) e[2];

    op.buffer.p = (void *)(uintptr_t)LIST;
    g_assert_cmpint(MEM_OP(g, XENMEM_memory_map, &op), ==, 0);
    g_assert_cmpuint(op.nr_entries, ==, 2);
    memcpy(e, xg_at(g, LIST), sizeof(e));
    g_assert_cmphex(e[0].size, ==, 0xa0000);
    g_assert_cmphex(e[1].addr, ==, 0x100000);
    g_assert_cmpuint(e[1].type, ==, 1);
    op.nr_entries = 1;
    g_assert_cmpint(MEM_OP(g, XENMEM_memory_map, &op), ==, 0);
    g_assert_cmpuint(op.nr_entries, ==, 1);
    op.buffer.p = (void *)(uintptr_t)(1ull << 47);
    g_assert_cmpint(MEM_OP(g, XENMEM_memory_map, &op), ==, -EFAULT);
    xen_guest_free(g);
}

static void test_refused(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    static const struct {
        unsigned op;
        int64_t rc;
    } want[] = {
        {XENMEM_exchange, -ENOSYS},
        {XENMEM_machphys_mapping, -ENOSYS},
        {XENMEM_machine_memory_map, -ENOSYS},
        {XENMEM_machphys_mfn_list, -ENOSYS},
        {XENMEM_acquire_resource, -EPERM},
        {24, -EPERM},
        {20, -EPERM},
        {21, -EPERM},
        {22, -EPERM},
        {XENMEM_get_vnumainfo, -EOPNOTSUPP},
        {63, -ENOSYS},
    };
    uint8_t zero[128] = {0};
    uint16_t self = DOMID_SELF;

    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        g_assert_cmpint(MEM_OP(g, want[i].op, &zero), ==, want[i].rc);
    }
    g_assert_cmpint(MEM_OP(g, XENMEM_maximum_gpfn, &self), ==, PV_CONSOLE_GFN);
    xen_guest_free(g);
}

static void test_batch(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_add_to_physmap_batch op = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .size = 3};
    uint64_t *idxs = xg_at(g, LIST);
    uint64_t *gfns = xg_at(g, LIST + 0x1000);
    int *errs = xg_at(g, LIST + 0x2000);

    op.idxs.p = (void *)(uintptr_t)LIST;
    op.gpfns.p = (void *)(uintptr_t)(LIST + 0x1000);
    op.errs.p = (void *)(uintptr_t)(LIST + 0x2000);
    for (unsigned i = 0; i < 3; i++) {
        idxs[i] = i == 1 ? 1000 : i;
        gfns[i] = 0x100000 + i;
        errs[i] = 77;
    }
    g_assert_cmpint(MEM_OP(g, XENMEM_add_to_physmap_batch, &op), ==, 0);
    g_assert_cmpint(errs[0], ==, 0);
    g_assert_cmpint(errs[1], ==, -EINVAL);
    g_assert_cmpint(errs[2], ==, 0);
    g_assert_nonnull(xg_at(g, 0x100002000ull));
    xen_guest_free(g);
}

static void test_reset(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct mem *mem = g->fb->board.mem;

    g_assert_cmpint(place(g, XENMAPSPACE_shared_info, 0, 1), ==, 0);
    g_assert_cmpint(place(g, XENMAPSPACE_grant_table, 0, 0x100000), ==, 0);
    g_assert_cmpint(balloon(g, XENMEM_decrease_reservation, 0x500, 100, 0, NULL), ==, 100);
    pv_domain_reset(g->d);
    g_assert_cmpuint(pv_memory_pages(g->d), ==, XG_RAM / MEM_PAGE_SIZE);
    g_assert_null(mem_page(mem, 0x100000));
    for (uint64_t gfn = 0; gfn < XG_RAM / MEM_PAGE_SIZE; gfn++) {
        g_assert_cmpuint(mem_gfn_frame(mem, gfn), ==, gfn);
    }
    g_assert_nonnull(mem_page(mem, PV_STORE_GFN));
    g_assert_nonnull(mem_page(mem, PV_CONSOLE_GFN));
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/memory/shared-info", test_shared_info);
    g_test_add_func("/pv/memory/spaces", test_spaces);
    g_test_add_func("/pv/memory/balloon", test_balloon);
    g_test_add_func("/pv/memory/begin", test_begin);
    g_test_add_func("/pv/memory/continuation", test_continuation);
    g_test_add_func("/pv/memory/map", test_memory_map);
    g_test_add_func("/pv/memory/refused", test_refused);
    g_test_add_func("/pv/memory/batch", test_batch);
    g_test_add_func("/pv/memory/reset", test_reset);
    return g_test_run();
}
