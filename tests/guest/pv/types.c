/* SPDX-License-Identifier: MIT */
/*
 * What the hypervisor writes to for the guest is no page table, no descriptor table and not the
 * hypervisor's own, and does not become one while it is registered: vcpu_info, the pages of the
 * FIFO ABI, copies by grant, the rings that the builder made.
 */
#include "pv.h"

#include <xen/grant_table.h>

enum { REF = 20 };

static uint64_t *table, *gdt; /* in use as such */
static uint64_t m2p;          /* a frame of the machine-to-physical table: its L3 */
static uint8_t grants[4096] __attribute__((aligned(4096)));

static uint64_t mfn_of(const void *va)
{
    return va_mfn(va);
}

/* No table can be made of a page. It is all zero, so nothing else is in the way. */
static void check_held(const void *page)
{
    uint64_t mfn = mfn_of(page);

    CHECK(make_ro(page), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn, 0), -EINVAL_);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, mfn, 0), -EINVAL_);
    CHECK(HC2(set_gdt, &mfn, 1), -EINVAL_);
    CHECK(make_rw(page), 0);
}

static void check_free(const void *page)
{
    CHECK(make_ro(page), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), 0);
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, mfn_of(page), 0), 0);
    CHECK(make_rw(page), 0);
}

static void clear(uint64_t *page)
{
    for (unsigned i = 0; i < 512; i++) {
        page[i] = 0;
    }
}

static void check_untouched(void)
{
    for (unsigned i = 0; i < 512; i++) {
        if (table[i] != 0 || gdt[i] != 0) {
            CHECK(table[i], 0);
            CHECK(gdt[i], 0);
        }
    }
}

/* --- vcpu_info --- */

static long register_info(unsigned vcpu, uint64_t mfn)
{
    struct vcpu_register_vcpu_info op = {.mfn = mfn, .offset = 512};

    return HC3(vcpu_op, VCPUOP_register_vcpu_info, vcpu, &op);
}

static void check_vcpu_info(void)
{
    uint64_t *page = page_alloc(), *other = page_alloc();

    for (unsigned vcpu = 0; vcpu < 2; vcpu++) {
        CHECK(register_info(vcpu, mfn_of(table)), -EINVAL_);
        CHECK(register_info(vcpu, mfn_of(gdt)), -EINVAL_);
        CHECK(register_info(vcpu, mfn_of((void *)start_info->pt_base)), -EINVAL_);
        CHECK(register_info(vcpu, m2p), -EINVAL_);
        CHECK(register_info(vcpu, 1ull << 40), -EINVAL_);
    }
    CHECK(register_info(0, mfn_of(page)), 0);
    CHECK(register_info(0, mfn_of(page)), -EINVAL_); /* once */
    CHECK(register_info(1, mfn_of(other)), 0);
    clear(page);
    clear(other);
    check_held(page);
    check_held(other);
    /* Not even to be had back is it. */
    CHECK(update_va(other, 0, UVMF_INVLPG), 0);
    {
        xen_pfn_t mfn = mfn_of(other);
        struct xen_memory_reservation op = {.nr_extents = 1, .domid = DOMID_SELF,
                                            .extent_start.p = &mfn};

        CHECK(HC2(memory_op, XENMEM_decrease_reservation, &op), 0);
    }
    CHECK(make_rw(other), 0);
    check_untouched();
}

/* --- by virtual address --- */

/* Written through the guest's tables, which have no write to a table. */
static void check_areas(void)
{
    struct vcpu_register_runstate_memory_area run = {.addr.v = (void *)table};
    struct vcpu_register_time_memory_area time = {.addr.v = (void *)table};
    void *m2p_va = (void *)HV;

    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, table), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, gdt), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, m2p_va), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &time), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), 0); /* in vain */
    check_untouched();
    CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    run.addr.v = m2p_va; /* the hypervisor's address */
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), -EFAULT_);
    run.addr.v = (void *)(1ull << 60);
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), -EFAULT_);
    run.addr.v = NULL;
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), 0);
    check_untouched();
}

/* --- FIFO events --- */

static long init_control(uint64_t mfn)
{
    struct evtchn_init_control op = {.control_gfn = mfn};

    return HC2(event_channel_op, EVTCHNOP_init_control, &op);
}

static long expand_array(uint64_t mfn)
{
    struct evtchn_expand_array op = {.array_gfn = mfn};

    return HC2(event_channel_op, EVTCHNOP_expand_array, &op);
}

static void check_fifo(void)
{
    uint64_t *control = page_alloc(), *array[2] = {page_alloc(), page_alloc()};
    struct evtchn_reset reset = {.dom = DOMID_SELF};

    CHECK(init_control(mfn_of(table)), -EINVAL_);
    CHECK(init_control(mfn_of(gdt)), -EINVAL_);
    CHECK(init_control(m2p), -EINVAL_);
    CHECK(init_control(mfn_of(control)), 0);
    CHECK(init_control(mfn_of(array[0])), -EINVAL_); /* once; and that takes no reference */
    check_free(array[0]);
    CHECK(expand_array(mfn_of(table)), -EINVAL_);
    CHECK(expand_array(mfn_of(gdt)), -EINVAL_);
    CHECK(expand_array(m2p), -EINVAL_);
    CHECK(expand_array(mfn_of(array[0])), 0);
    CHECK(expand_array(mfn_of(array[1])), 0);
    clear(array[0]);
    check_held(control);
    check_held(array[0]);
    check_held(array[1]);
    CHECK(HC2(event_channel_op, EVTCHNOP_reset, &reset), 0);
    clear(control);
    clear(array[0]);
    check_free(control);
    check_free(array[0]);
    check_free(array[1]);
    check_untouched();
}

/* --- GNTTABOP_copy --- */

static int copy(uint64_t from, uint64_t to)
{
    struct gnttab_copy op = {.len = 64, .status = 99};

    op.source.domid = op.dest.domid = DOMID_SELF;
    op.source.u.gmfn = from;
    op.dest.u.gmfn = to;
    CHECK(HC3(grant_table_op, GNTTABOP_copy, &op, 1), 0);
    return op.status;
}

/* By a grant that it made to itself. */
static int copy_granted(uint64_t from, uint64_t to, bool by_source)
{
    volatile grant_entry_v1_t *e = (grant_entry_v1_t *)grants + REF;
    struct gnttab_copy op = {.len = 64, .status = 99};

    e->domid = 1;
    e->frame = (uint32_t)(by_source ? from : to);
    e->flags = GTF_permit_access;
    op.source.domid = op.dest.domid = DOMID_SELF;
    op.source.u.gmfn = from;
    op.dest.u.gmfn = to;
    if (by_source) {
        op.flags = GNTCOPY_source_gref;
        op.source.u.ref = REF;
    } else {
        op.flags = GNTCOPY_dest_gref;
        op.dest.u.ref = REF;
    }
    CHECK(HC3(grant_table_op, GNTTABOP_copy, &op, 1), 0);
    CHECK(e->flags, GTF_permit_access); /* nothing is held */
    return op.status;
}

static void check_copy(void)
{
    xen_pfn_t frame = 0;
    struct gnttab_setup_table op = {.dom = DOMID_SELF, .nr_frames = 1, .frame_list.p = &frame};
    const uint64_t root = mfn_of((void *)start_info->pt_base);
    uint64_t *from = page_alloc(), *to = page_alloc();

    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &op, 1), 0);
    CHECK(update_va(grants, frame << 12 | P | RW, UVMF_INVLPG), 0);
    from[0] = 1ull << 40 | P | RW | US; /* what must not get into a table */
    CHECK(copy(mfn_of(from), mfn_of(to)), GNTST_okay);
    CHECK(to[0], from[0]);
    CHECK(copy(mfn_of(from), mfn_of(table)), GNTST_general_error);
    CHECK(copy(mfn_of(from), root), GNTST_general_error);
    CHECK(copy(mfn_of(from), mfn_of(gdt)), GNTST_general_error);
    CHECK(copy(mfn_of(from), m2p), GNTST_bad_page);
    CHECK(copy(m2p, mfn_of(to)), GNTST_bad_page);
    CHECK(copy(mfn_of(table), mfn_of(to)), GNTST_okay); /* tables are no secret */
    CHECK(to[0], 0);
    CHECK(copy(start_info->shared_info >> 12, mfn_of(to)), GNTST_okay);
    CHECK(copy_granted(mfn_of(from), mfn_of(to), false), GNTST_okay);
    CHECK(to[0], from[0]);
    CHECK(copy_granted(mfn_of(from), mfn_of(table), false), GNTST_general_error);
    CHECK(copy_granted(mfn_of(from), mfn_of(gdt), false), GNTST_general_error);
    CHECK(copy_granted(mfn_of(from), m2p, false), GNTST_bad_page);
    CHECK(copy_granted(m2p, mfn_of(to), true), GNTST_bad_page);
    CHECK(copy_granted(mfn_of(table), mfn_of(to), true), GNTST_okay);
    CHECK(to[0], 0);
    check_untouched();
    check_free(to); /* held only while it was copied to */
}

/* --- rings --- */

/* Whoever serves them has them mapped. The console's is empty so far: all zero. */
static void check_rings(void)
{
    const uint64_t *pfn = (const uint64_t *)HV;
    void *console = (void *)(KV + (pfn[start_info->console.domU.mfn] << 12));

    check_held(console);
}

void test(void)
{
    uint64_t mfn;

    traps_init();
    check_rings();
    m2p = FRAME(((uint64_t *)start_info->pt_base)[256]);
    table = page_alloc();
    gdt = page_alloc();
    mfn = mfn_of(gdt);
    CHECK(make_ro(table), 0);
    CHECK(make_ro(gdt), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), 0);
    CHECK(HC2(set_gdt, &mfn, 512), 0);
    check_vcpu_info();
    check_areas();
    check_fifo();
    check_copy();
}
