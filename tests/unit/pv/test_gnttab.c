/* SPDX-License-Identifier: MIT */
/* Grants: pinning rules, copies, operations and their errors, and a guest that fights over
 * entries. */
#include <errno.h>
#include <string.h>

#include "pv/gnttab.h"
#include "pv/pv_guest.h"
#include "xen_guest.h"

#define GT_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_grant_table_op, cmd, arg)

/* The table where a guest puts it: gfn 0x100000. */
static grant_entry_v1_t *table_new(struct xen_guest *g)
{
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .gpfn = 0x100000};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    return xg_at(g, 0x100000000ull);
}

static void entry_set(grant_entry_v1_t *e, uint16_t flags, uint16_t domid, uint32_t frame)
{
    e->frame = frame;
    e->domid = domid;
    __atomic_store_n(&e->flags, flags, __ATOMIC_SEQ_CST);
}

static void test_map(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    grant_entry_v1_t *t = table_new(g);
    struct gnttab_mapping a = {0};
    struct gnttab_mapping b = {0};

    g_assert_cmpuint(t[GNTTAB_RESERVED_XENSTORE].frame, ==, PV_STORE_GFN);
    g_assert_cmpuint(t[GNTTAB_RESERVED_CONSOLE].flags, ==, GTF_permit_access);
    entry_set(&t[8], GTF_permit_access, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &a), ==, GNTST_okay);
    g_assert_true(a.hva == xg_at(g, 0x300000));
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access | GTF_reading | GTF_writing);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &b), ==, GNTST_okay);
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 2);
    gnttab_unmap(g->d, &a);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access | GTF_reading);
    gnttab_unmap(g->d, &b);
    gnttab_unmap(g->d, &b);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access);
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 0);
    xen_guest_free(g);
}

static void test_refused(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    grant_entry_v1_t *t = table_new(g);
    struct gnttab_mapping m = {0};

    g_assert_cmpint(gnttab_map(g->d, 9, false, &m), ==, GNTST_bad_gntref);
    g_assert_cmpint(gnttab_map(g->d, 512, false, &m), ==, GNTST_bad_gntref);
    g_assert_cmpint(gnttab_map(g->d, UINT32_MAX, false, &m), ==, GNTST_bad_gntref);
    entry_set(&t[8], GTF_permit_access, 5, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_bad_gntref);
    entry_set(&t[8], GTF_accept_transfer, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_bad_gntref);
    entry_set(&t[8], GTF_transitive, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_bad_gntref);
    entry_set(&t[8], GTF_permit_access | GTF_readonly, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &m), ==, GNTST_permission_denied);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_okay);
    gnttab_unmap(g->d, &m);
    entry_set(&t[8], GTF_permit_access, 0, 0x3000000);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &m), ==, GNTST_bad_page);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access); /* no bits left behind */
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 0);
    xen_guest_free(g);
}

static void test_host_copy(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    grant_entry_v1_t *t = table_new(g);
    char buf[16] = {0};

    entry_set(&t[8], GTF_permit_access, 0, 0x300);
    g_assert_cmpint(gnttab_copy_to(g->d, 8, 4090, "abcdef", 6), ==, GNTST_okay);
    g_assert_cmpmem(xg_at(g, 0x300000 + 4090), 6, "abcdef", 6);
    g_assert_cmpint(gnttab_copy_from(g->d, 8, 4090, buf, 6), ==, GNTST_okay);
    g_assert_cmpmem(buf, 6, "abcdef", 6);
    g_assert_cmpint(gnttab_copy_to(g->d, 8, 4091, "abcdef", 6), ==, GNTST_bad_copy_arg);
    g_assert_cmpint(gnttab_copy_to(g->d, 8, UINT32_MAX, "abcdef", 6), ==, GNTST_bad_copy_arg);
    g_assert_cmpint(gnttab_copy_from(g->d, 8, 1, buf, SIZE_MAX), ==, GNTST_bad_copy_arg);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access);
    xen_guest_free(g);
}

/* --- Types of a PV guest's frames --- */

enum { PLAIN = 0x300, TABLE = 0x310, OTHER = 0x320 };

static grant_entry_v1_t *pv_table(struct xen_guest *g)
{
    return mem_frame_hva(g->d->mem, gnttab_frame(g->d, 0));
}

static uint32_t pv_count(struct xen_guest *g, uint32_t frame)
{
    return g->d->guest->pages[frame].count;
}

/* The M2P, a table: not to be written to. A table may be read, the M2P is not the guest's. */
static void test_pv_refused(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    grant_entry_v1_t *t = pv_table(g);
    struct gnttab_mapping m = {0};
    char buf[8] = "abcdefg";

    g_assert_cmpint(pv_page_pin(g->d, TABLE, PV_PAGE_L1), ==, 0);
    entry_set(&t[8], GTF_permit_access, 0, TABLE);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &m), ==, GNTST_general_error);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access);
    g_assert_cmpint(gnttab_copy_to(g->d, 8, 0, buf, sizeof(buf)), ==, GNTST_general_error);
    g_assert_cmphex(*(uint64_t *)xg_at(g, (uint64_t)TABLE << 12), ==, 0);
    g_assert_cmpint(gnttab_copy_from(g->d, 8, 0, buf, sizeof(buf)), ==, GNTST_okay);
    g_assert_cmpint(buf[0], ==, 0);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_okay);
    g_assert_cmpint(pv_page_unpin(g->d, TABLE), ==, 0); /* to be read it is not held */
    g_assert_cmpint(pv_page_pin(g->d, TABLE, PV_PAGE_L4), ==, 0);
    gnttab_unmap(g->d, &m);
    g_assert_cmpuint(pv_count(g, TABLE), ==, 1);
    entry_set(&t[8], GTF_permit_access, 0, (uint32_t)g->d->guest->m2p_root);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &m), ==, GNTST_bad_page);
    g_assert_cmpint(gnttab_map(g->d, 8, false, &m), ==, GNTST_bad_page);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access);
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 0);
    xen_guest_free(g);
}

static void test_pv_held(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    grant_entry_v1_t *t = pv_table(g);
    struct gnttab_mapping a = {0}, b = {0};

    entry_set(&t[8], GTF_permit_access, 0, PLAIN);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &a), ==, GNTST_okay);
    g_assert_cmpint(pv_page_pin(g->d, PLAIN, PV_PAGE_L1), ==, -EINVAL);
    entry_set(&t[8], GTF_permit_access | GTF_reading | GTF_writing, 0, OTHER); /* a liar */
    g_assert_cmpint(gnttab_map(g->d, 8, true, &b), ==, GNTST_okay);
    g_assert_cmpuint(pv_count(g, PLAIN), ==, 1);
    g_assert_cmpuint(pv_count(g, OTHER), ==, 1);
    gnttab_unmap(g->d, &a);
    gnttab_unmap(g->d, &a); /* once is enough */
    g_assert_cmpuint(pv_count(g, PLAIN), ==, 0);
    g_assert_cmpuint(pv_count(g, OTHER), ==, 1);
    g_assert_cmpint(pv_page_pin(g->d, PLAIN, PV_PAGE_L1), ==, 0);
    g_assert_cmpint(pv_page_pin(g->d, OTHER, PV_PAGE_L1), ==, -EINVAL);
    gnttab_unmap(g->d, &b);
    g_assert_cmpint(pv_page_pin(g->d, OTHER, PV_PAGE_L1), ==, 0);
    g_assert_cmpint(gnttab_copy_to(g->d, 8, 0, "x", 1), ==, GNTST_general_error);
    xen_guest_free(g);
}

/* A mapping from before a reset has nothing to let go of. */
static void test_pv_reset(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    struct gnttab_mapping m = {0};

    entry_set(&pv_table(g)[8], GTF_permit_access, 0, PLAIN);
    g_assert_cmpint(gnttab_map(g->d, 8, true, &m), ==, GNTST_okay);
    g_mutex_lock(&g->fb->board.lock);
    pv_domain_reset(g->d);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_cmpuint(pv_count(g, PLAIN), ==, 0);
    g_assert_cmpint(pv_page_get(g->d, PLAIN, PV_PAGE_WRITABLE), ==, 0);
    gnttab_unmap(g->d, &m);
    g_assert_cmpuint(pv_count(g, PLAIN), ==, 1);
    xen_guest_free(g);
}

/* --- Operations --- */

static void test_ops(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct gnttab_query_size size = {.dom = 0};
    struct gnttab_set_version set = {.version = 2};
    struct gnttab_get_version get = {.dom = DOMID_SELF};
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = PV_MAX_GRANT_FRAMES + 1};
    struct gnttab_map_grant_ref map = {.dom = DOMID_SELF, .ref = 8};
    struct gnttab_unmap_grant_ref unmap = {.handle = 1};
    uint8_t zero[64] = {0};

    g_assert_cmpint(GT_OP(g, GNTTABOP_query_size, &size), ==, 0);
    g_assert_cmpint(size.status, ==, GNTST_permission_denied);
    size.dom = 9;
    g_assert_cmpint(GT_OP(g, GNTTABOP_query_size, &size), ==, 0);
    g_assert_cmpint(size.status, ==, GNTST_bad_domain);
    g_assert_cmpint(GT_OP(g, GNTTABOP_set_version, &set), ==, -ENOSYS);
    g_assert_cmpuint(set.version, ==, 1);
    set.version = 3;
    g_assert_cmpint(GT_OP(g, GNTTABOP_set_version, &set), ==, -EINVAL);
    g_assert_cmpint(GT_OP(g, GNTTABOP_get_version, &get), ==, 0);
    g_assert_cmpuint(get.version, ==, 1);
    g_assert_cmpint(GT_OP(g, GNTTABOP_setup_table, &setup), ==, 0);
    g_assert_cmpint(setup.status, ==, GNTST_general_error);
    g_assert_cmpint(GT_OP(g, GNTTABOP_map_grant_ref, &map), ==, 0);
    g_assert_cmpint(map.status, ==, GNTST_general_error);
    g_assert_cmpint(GT_OP(g, GNTTABOP_unmap_grant_ref, &unmap), ==, 0);
    g_assert_cmpint(unmap.status, ==, GNTST_bad_handle);
    g_assert_cmpint(GT_OP(g, GNTTABOP_transfer, &zero), ==, -ENOSYS);
    g_assert_cmpint(GT_OP(g, GNTTABOP_get_status_frames, &zero), ==, -ENOSYS);
    g_assert_cmpint(GT_OP(g, GNTTABOP_swap_grant_ref, &zero), ==, -ENOSYS);
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_grant_table_op, GNTTABOP_copy, XG_ARGS, 0x80000000),
                    ==, -EINVAL);
    xen_guest_free(g);
}

static void test_grow(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_grant_table};
    struct gnttab_query_size size = {.dom = DOMID_SELF};
    struct gnttab_mapping m = {0};

    add.idx = 3;
    add.gpfn = 0x100003;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, 0);
    g_assert_cmpint(GT_OP(g, GNTTABOP_query_size, &size), ==, 0);
    g_assert_cmpuint(size.nr_frames, ==, 4);
    entry_set(xg_at(g, 0x100003008ull), GTF_permit_access, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 3 * 512 + 1, false, &m), ==, GNTST_okay);
    gnttab_unmap(g->d, &m);
    add.idx = PV_MAX_GRANT_FRAMES;
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, -EINVAL);
    add.idx = 1u << 31; /* status frames */
    g_assert_cmpint(XG_OP(g, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add), ==, -EINVAL);
    /* A mapping from before a reset does not disturb the new table. */
    entry_set(xg_at(g, 0x100003008ull), GTF_permit_access, 0, 0x300);
    g_assert_cmpint(gnttab_map(g->d, 3 * 512 + 1, true, &m), ==, GNTST_okay);
    gnttab_reset(g->d);
    gnttab_unmap(g->d, &m);
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 0);
    xen_guest_free(g);
}

static void test_guest_copy(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    grant_entry_v1_t *t = table_new(g);
    struct gnttab_copy op = {.source = {.u.ref = 8, .domid = DOMID_SELF, .offset = 16},
                             .dest = {.u.gmfn = 0x301, .domid = DOMID_SELF, .offset = 32},
                             .len = 5,
                             .flags = GNTCOPY_source_gref};

    entry_set(&t[8], GTF_permit_access | GTF_readonly, PV_DOMID, 0x300);
    memcpy(xg_at(g, 0x300010), "12345", 5);
    g_assert_cmpint(GT_OP(g, GNTTABOP_copy, &op), ==, 0);
    g_assert_cmpint(op.status, ==, GNTST_okay);
    g_assert_cmpmem(xg_at(g, 0x301020), 5, "12345", 5);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access | GTF_readonly);
    /* Writing through a read-only grant. */
    op.dest = (struct gnttab_copy_ptr){.u.ref = 8, .domid = DOMID_SELF};
    op.flags = GNTCOPY_source_gref | GNTCOPY_dest_gref;
    g_assert_cmpint(GT_OP(g, GNTTABOP_copy, &op), ==, 0);
    g_assert_cmpint(op.status, ==, GNTST_permission_denied);
    g_assert_cmphex(t[8].flags, ==, GTF_permit_access | GTF_readonly);
    op.flags = 0;
    op.source.offset = 4096;
    g_assert_cmpint(GT_OP(g, GNTTABOP_copy, &op), ==, 0);
    g_assert_cmpint(op.status, ==, GNTST_bad_copy_arg);
    op.source = (struct gnttab_copy_ptr){.u.gmfn = UINT64_MAX, .domid = DOMID_SELF};
    g_assert_cmpint(GT_OP(g, GNTTABOP_copy, &op), ==, 0);
    g_assert_cmpint(op.status, ==, GNTST_bad_page);
    op.source.domid = 0;
    g_assert_cmpint(GT_OP(g, GNTTABOP_copy, &op), ==, 0);
    g_assert_cmpint(op.status, ==, GNTST_permission_denied);
    xen_guest_free(g);
}

/* --- A guest that frees and reuses entries while they are being mapped and copied -------- */

enum { RACE_ROUNDS = 50000, RACE_MAX_ROUNDS = 100 * RACE_ROUNDS, RACE_FREED = 5000 };

struct racer {
    grant_entry_v1_t *entry;
    _Atomic bool stop;
    _Atomic unsigned freed;
    unsigned busy;
};

/* What a front end does to take a grant back: clear flags by compare-and-swap unless in use,
 * then reuse the entry for something else. */
static gpointer racer_run(gpointer data)
{
    struct racer *r = data;
    const uint16_t flags[] = {GTF_permit_access, GTF_permit_access | GTF_readonly,
                              GTF_accept_transfer};
    unsigned round = 0;

    while (!atomic_load(&r->stop)) {
        uint16_t seen = __atomic_load_n(&r->entry->flags, __ATOMIC_SEQ_CST);

        if ((seen & (GTF_reading | GTF_writing)) != 0) {
            r->busy++;
            continue;
        }
        if (seen == 0) {
            continue; /* the other one is filling it in */
        }
        if (__atomic_compare_exchange_n(&r->entry->flags, &seen, 0, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            r->freed++;
            __atomic_store_n(&r->entry->frame, 0x300 + round % 4, __ATOMIC_SEQ_CST);
            __atomic_store_n(&r->entry->domid, round % 8 == 7 ? 5 : 0, __ATOMIC_SEQ_CST);
            __atomic_store_n(&r->entry->flags, flags[round % 3], __ATOMIC_SEQ_CST);
            round++;
            for (volatile unsigned i = 0; i < 500; i++) { /* a grant lives for a while */
            }
        }
    }
    return NULL;
}

static void test_races(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    grant_entry_v1_t *t = table_new(g);
    struct racer r[2] = {{.entry = &t[8]}, {.entry = &t[8]}};
    GThread *thread[2];
    unsigned count[14] = {0};

    entry_set(&t[8], GTF_permit_access, 0, 0x300);
    for (unsigned i = 0; i < 2; i++) {
        thread[i] = g_thread_new("racer", racer_run, &r[i]);
    }
    /* Until both had their share, on however few CPUs. */
    for (unsigned i = 0;
         i < RACE_ROUNDS || (i < RACE_MAX_ROUNDS && (r[0].freed + r[1].freed < RACE_FREED ||
                                                     count[-GNTST_okay] == 0));
         i++) {
        struct gnttab_mapping m = {0};
        bool write = i % 2 != 0;
        char buf[8];
        int status;

        g_mutex_lock(&g->fb->board.lock);
        if (i % 3 == 0) {
            status = gnttab_copy_from(g->d, 8, 0, buf, sizeof(buf));
        } else {
            status = gnttab_map(g->d, 8, write, &m);
            if (status == GNTST_okay) {
                /* While it is mapped the guest leaves the entry alone: the bits are seen. */
                uint16_t bits = __atomic_load_n(&t[8].flags, __ATOMIC_SEQ_CST);

                g_assert_true((bits & GTF_reading) != 0);
                g_assert_true(!write || (bits & GTF_writing) != 0);
                g_assert_true(m.hva >= xg_at(g, 0x300000) && m.hva <= xg_at(g, 0x303000));
                gnttab_unmap(g->d, &m);
            }
        }
        g_mutex_unlock(&g->fb->board.lock);
        g_assert_true(status <= 0 && status >= GNTST_no_space);
        count[-status]++;
        if (i % 1000 == 0) {
            g_thread_yield();
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&r[i].stop, true);
        g_thread_join(thread[i]);
    }
    g_assert_cmpuint(gnttab_mapped(g->d), ==, 0);
    g_assert_cmphex(t[8].flags & (GTF_reading | GTF_writing), ==, 0);
    g_test_message("%u mapped, %u denied, %u bad, %u unstable, %u freed, %u busy",
                   count[-GNTST_okay], count[-GNTST_permission_denied],
                   count[-GNTST_bad_gntref], count[-GNTST_general_error],
                   r[0].freed + r[1].freed, r[0].busy + r[1].busy);
    g_assert_cmpuint(count[-GNTST_okay], >, 0);
    g_assert_cmpuint(r[0].freed + r[1].freed, >=, RACE_FREED);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/gnttab/map", test_map);
    g_test_add_func("/pv/gnttab/refused", test_refused);
    g_test_add_func("/pv/gnttab/host-copy", test_host_copy);
    g_test_add_func("/pv/gnttab/operations", test_ops);
    g_test_add_func("/pv/gnttab/grow", test_grow);
    g_test_add_func("/pv/gnttab/guest-copy", test_guest_copy);
    g_test_add_func("/pv/gnttab/races", test_races);
    g_test_add_func("/pv/gnttab/pv-refused", test_pv_refused);
    g_test_add_func("/pv/gnttab/pv-held", test_pv_held);
    g_test_add_func("/pv/gnttab/pv-reset", test_pv_reset);
    return g_test_run();
}
