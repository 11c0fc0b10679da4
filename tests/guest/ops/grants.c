/* SPDX-License-Identifier: MIT */
/* grant_table_op, version 1: every sub-op and what each refuses. */
#include "ops.h"

#define GRANT(cmd, op, count) HC3(grant_table_op, GNTTABOP_##cmd, op, count)
#define REF 20u
#define NOT_GRANTED 30u

static struct grant_entry_v1 *grants;

static xen_pfn_t check_table(void)
{
    struct gnttab_query_size query = {.dom = DOMID_SELF};
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
    xen_pfn_t frames[2] = {0};

    CHECK(GRANT(query_size, &query, 1), 0);
    CHECK(query.status, GNTST_okay);
    CHECK(query.max_nr_frames, 64);
    CHECK(GRANT(query_size, &query, 2), -EINVAL_);
    CHECK(GRANT(query_size, BAD_POINTER, 1), -EFAULT_);
    query.dom = 77;
    CHECK(GRANT(query_size, &query, 1), 0);
    CHECK(query.status, GNTST_bad_domain);
    query.dom = 0;
    CHECK(GRANT(query_size, &query, 1), 0);
    CHECK(query.status, GNTST_permission_denied);
    set_xen_guest_handle(setup.frame_list, frames);
    CHECK(GRANT(setup_table, &setup, 1), 0);
    CHECK(setup.status, GNTST_okay);
    CHECK(GRANT(setup_table, &setup, 2), -EINVAL_);
    CHECK(GRANT(setup_table, BAD_POINTER, 1), -EFAULT_);
    setup.nr_frames = 65;
    CHECK(GRANT(setup_table, &setup, 1), 0);
    CHECK(setup.status, GNTST_general_error);
    setup.nr_frames = 1;
    set_xen_guest_handle(setup.frame_list, (xen_pfn_t *)BAD_POINTER);
    CHECK(GRANT(setup_table, &setup, 1), 0);
    CHECK(setup.status, GNTST_bad_virt_addr);
    return frames[0];
}

static void check_version(void)
{
    struct gnttab_set_version set = {.version = 2};
    struct gnttab_get_version get = {.dom = DOMID_SELF};

    CHECK(GRANT(set_version, &set, 1), -ENOSYS_);
    CHECK(set.version, 1);
    set.version = 3;
    CHECK(GRANT(set_version, &set, 1), -EINVAL_);
    set.version = 1;
    CHECK(GRANT(set_version, &set, 1), 0);
    CHECK(GRANT(set_version, BAD_POINTER, 1), -EFAULT_);
    CHECK(GRANT(get_version, &get, 1), 0);
    CHECK(get.version, 1);
    get.dom = 77;
    CHECK(GRANT(get_version, &get, 1), -ESRCH_);
    CHECK(GRANT(get_version, BAD_POINTER, 1), -EFAULT_);
}

static int16_t copy(struct gnttab_copy *op)
{
    op->status = 99;
    CHECK(GRANT(copy, op, 1), 0);
    return op->status;
}

static void check_copy(void)
{
    uint8_t *from = page_alloc(), *to = page_alloc();
    struct gnttab_copy op = {.len = 100};

    op.source.domid = op.dest.domid = DOMID_SELF;
    op.source.u.gmfn = va_mfn(from);
    op.source.offset = 10;
    op.dest.u.gmfn = va_mfn(to);
    op.dest.offset = 3996;
    from[10] = 1;
    from[109] = 2;
    CHECK(copy(&op), GNTST_okay);
    CHECK(to[3996], 1);
    CHECK(to[4095], 2);
    op.dest.offset = 3997;
    CHECK(copy(&op), GNTST_bad_copy_arg);
    op.dest.offset = 0;
    op.flags = 1 << 5;
    CHECK(copy(&op), GNTST_bad_copy_arg);
    op.flags = 0;
    op.source.u.gmfn = NO_FRAME;
    CHECK(copy(&op), GNTST_bad_page);
    op.flags = GNTCOPY_source_gref;
    op.source.u.ref = NOT_GRANTED;
    CHECK_TRUE(copy(&op) < 0);
    grants[REF].domid = 1; /* to itself */
    grants[REF].frame = (uint32_t)va_mfn(from);
    grants[REF].flags = GTF_permit_access | GTF_readonly;
    op.source.u.ref = REF;
    CHECK(copy(&op), GNTST_okay);
    CHECK(to[0], 1);
    CHECK(grants[REF].flags & (GTF_reading | GTF_writing), 0); /* not held */
    op.flags = GNTCOPY_dest_gref;
    op.source.u.gmfn = va_mfn(to);
    op.dest.u.ref = REF;
    CHECK(copy(&op), GNTST_permission_denied); /* read-only */
    op.dest.u.ref = 1u << 30;
    CHECK(copy(&op), GNTST_bad_gntref);
    op.flags = 0;
    op.dest.u.gmfn = va_mfn(to);
    op.dest.domid = 77;
    CHECK(copy(&op), GNTST_bad_domain);
    op.dest.domid = 0;
    CHECK(copy(&op), GNTST_permission_denied);
    CHECK(GRANT(copy, BAD_POINTER, 1), -EFAULT_);
    CHECK(GRANT(copy, &op, 0), 0);
    CHECK(GRANT(copy, &op, 0x80000000u), -EINVAL_);
}

static void check_maps(void)
{
    struct gnttab_map_grant_ref map = {.dom = DOMID_SELF, .ref = REF, .flags = GNTMAP_host_map};
    struct gnttab_unmap_grant_ref unmap = {.handle = 1};

    CHECK(GRANT(map_grant_ref, &map, 1), 0);
    CHECK(map.status, GNTST_general_error);
    map.dom = 77;
    CHECK(GRANT(map_grant_ref, &map, 1), 0);
    CHECK(map.status, GNTST_bad_domain);
    CHECK(GRANT(map_grant_ref, BAD_POINTER, 1), -EFAULT_);
    CHECK(GRANT(unmap_grant_ref, &unmap, 1), 0);
    CHECK(unmap.status, GNTST_bad_handle);
    CHECK(GRANT(unmap_grant_ref, BAD_POINTER, 1), -EFAULT_);
    CHECK(GRANT(transfer, &unmap, 1), -ENOSYS_);
    CHECK(GRANT(swap_grant_ref, &unmap, 1), -ENOSYS_);
    CHECK(GRANT(get_status_frames, &unmap, 1), -ENOSYS_);
    CHECK(GRANT(cache_flush, &unmap, 1), -ENOSYS_);
    CHECK(HC3(grant_table_op, 99, &unmap, 1), -ENOSYS_);
    CHECK(HC3(grant_table_op, 1ul << 12 | GNTTABOP_query_size, &unmap, 1), -EINVAL_);
}

void test(void)
{
    grants = map_grants(check_table());
    check_version();
    check_copy();
    check_maps();
}
