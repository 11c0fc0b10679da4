/* SPDX-License-Identifier: MIT */
/*
 * memory_op of translated guests, its lists: longer than one call may do, and all that they are
 * refused for.
 */
#include "ops.h"

enum { PAGES = 2000 };
#define UNUSED 0x1000ul      /* RAM in the middle of nowhere */
#define HOLE   0xf0000ul     /* a frame behind the RAM */
#define AT(cmd, index) ((cmd) | (unsigned long)(index) << 6)

static xen_pfn_t gfns[PAGES];
static xen_ulong_t idxs[PAGES];
static int errs[PAGES];
static domid_t self = DOMID_SELF;

static void check_add(void)
{
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info};
    struct xen_remove_from_physmap remove = {.domid = 0, .gpfn = UNUSED};
    long before = HC2(memory_op, XENMEM_current_reservation, &self);

#ifdef __x86_64__ /* 32 bits name no frame that cannot be */
    add.gpfn = ~(xen_pfn_t)0;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EINVAL_);
    add.gpfn >>= 12;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EINVAL_);
    add.space = XENMAPSPACE_grant_table;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EINVAL_);
#endif
    add.domid = 0;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add), -EPERM_);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -EPERM_);
    remove.domid = 77;
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -ESRCH_);
    remove.domid = 1;
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), 0); /* RAM, too */
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - 1);
    CHECK(HC2(memory_op, XENMEM_remove_from_physmap, &remove), -ENOENT_);
}

static void check_batch(void)
{
    struct xen_add_to_physmap_batch op = {.domid = 0, .size = 1,
                                          .space = XENMAPSPACE_grant_table};
    unsigned refused = 0;

    set_xen_guest_handle(op.idxs, idxs);
    set_xen_guest_handle(op.gpfns, gfns);
    set_xen_guest_handle(op.errs, errs);
    gfns[0] = HOLE;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), -EPERM_);
    op.domid = 77;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), -ESRCH_);
    op.domid = DOMID_SELF;
    CHECK(HC2(memory_op, AT(XENMEM_add_to_physmap_batch, 2), &op), -84); /* EILSEQ: behind it */
    CHECK(HC2(memory_op, AT(XENMEM_add_to_physmap_batch, 1), &op), 0);   /* at its end */
    set_xen_guest_handle(op.idxs, (xen_ulong_t *)BAD_POINTER);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), -EFAULT_);
    set_xen_guest_handle(op.idxs, idxs);
    set_xen_guest_handle(op.gpfns, (xen_pfn_t *)BAD_POINTER);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), -EFAULT_);
    set_xen_guest_handle(op.gpfns, gfns);
    set_xen_guest_handle(op.errs, (int *)BAD_POINTER);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), -EFAULT_);
    set_xen_guest_handle(op.errs, errs);
    op.size = PAGES; /* more than one call may do */
    for (unsigned i = 0; i < PAGES; i++) {
        gfns[i] = HOLE;
        idxs[i] = i % 2 == 0 ? 0 : 1000;
        errs[i] = 99;
    }
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), 0);
    for (unsigned i = 0; i < PAGES; i++) {
        refused += errs[i] == -EINVAL_;
    }
    CHECK(refused, PAGES / 2);
    CHECK(errs[0], 0);
#ifdef __x86_64__
    op.size = 1;
    gfns[0] = ~(xen_pfn_t)0;
    CHECK(HC2(memory_op, XENMEM_add_to_physmap_batch, &op), 0);
    CHECK(errs[0], -EINVAL_);
#endif
}

/* A list that is refused does nothing, and says where it stands. */
static void check_refused(struct xen_memory_reservation op)
{
    CHECK(HC2(memory_op, AT(XENMEM_populate_physmap, PAGES), &op), PAGES);     /* its end */
    CHECK(HC2(memory_op, AT(XENMEM_populate_physmap, PAGES + 5), &op), PAGES + 5);
    CHECK(HC2(memory_op, XENMEM_increase_reservation, &op), 0);
    op.domid = 77;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.domid = 0;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.domid = DOMID_SELF;
    op.extent_order = 10;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.extent_order = 0;
    op.nr_extents = ~(xen_ulong_t)0;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.nr_extents = 1;
    set_xen_guest_handle(op.extent_start, (xen_pfn_t *)BAD_POINTER);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 0);
    CHECK(HC2(memory_op, XENMEM_populate_physmap, BAD_POINTER), 0);
}

static void check_reservation(void)
{
    struct xen_memory_reservation op = {.nr_extents = PAGES, .domid = DOMID_SELF};
    volatile uint32_t *last = (uint32_t *)((UNUSED + PAGES - 1) << 12);
    xen_pfn_t wrong = HOLE - 1;
    long before = HC2(memory_op, XENMEM_current_reservation, &self);

    for (unsigned i = 0; i < PAGES; i++) {
        gfns[i] = UNUSED + 1 + i;
    }
    set_xen_guest_handle(op.extent_start, gfns);
    check_refused(op);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before);
    *last = 1;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), PAGES);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - PAGES);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    gfns[PAGES - 1] = HOLE - 1; /* where there is no RAM to have */
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), PAGES - 1);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self), before - 1);
    gfns[0] = UNUSED + PAGES;
    op.nr_extents = 1;
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &op), 1);
    CHECK(*last, 0);
    set_xen_guest_handle(op.extent_start, &wrong);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    wrong = ~(xen_pfn_t)0;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    op.extent_order = 9; /* over the end of all numbers */
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
}

static void check_questions(void)
{
    domid_t other = 77;
    struct xen_memory_map map = {.nr_entries = 32};

    CHECK(HC2(memory_op, XENMEM_current_reservation, &other), -ESRCH_);
    other = 0;
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, &other), -EPERM_);
    CHECK(HC2(memory_op, XENMEM_maximum_gpfn, BAD_POINTER), -EFAULT_);
    set_xen_guest_handle(map.buffer, (void *)BAD_POINTER);
    CHECK(HC2(memory_op, XENMEM_memory_map, &map), -EFAULT_);
}

void test(void)
{
    check_add();
    check_batch();
    check_reservation();
    check_questions();
}
