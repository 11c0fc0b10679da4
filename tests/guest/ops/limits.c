/* SPDX-License-Identifier: MIT */
/*
 * Where sub-ops end: tables that are full, lists that take several rounds or stop in the
 * middle, calls that sleep, numbers that are too great. The other kernels have the plain cases.
 */
#include "ops.h"

enum {
    PORTS = 4096,
    LONG_LIST = 3000,
    ENDLESS = 33000, /* copies; more than 64 budgets are enough for */
    SITE_MAX = 128,
};

static struct shared_info *si;
static uint16_t mine[PORTS];
static unsigned nr_mine;

static uint64_t now(void)
{
    const volatile struct vcpu_time_info *t = &si->vcpu_info[0].time;
    uint64_t delta = __builtin_ia32_rdtsc() - t->tsc_timestamp;

    delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
    return t->system_time + (delta >> 32) * t->tsc_to_system_mul +
           ((delta & UINT32_MAX) * t->tsc_to_system_mul >> 32);
}

/* --- Event channels --- */

static long bind_ipi(uint32_t *port)
{
    struct evtchn_bind_ipi op = {.vcpu = 0};
    long rc = EVTCHN(bind_ipi, &op);

    *port = op.port;
    return rc;
}

/* Nothing can be made when every port is taken, and again when one is not. */
static void check_ports(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain pair = {.remote_dom = DOMID_SELF};
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER};
    struct evtchn_close close;
    uint32_t port, highest = 0;
    long rc;

    while ((rc = EVTCHN(alloc_unbound, &alloc)) == 0 && nr_mine < PORTS) {
        mine[nr_mine++] = (uint16_t)alloc.port;
        highest = alloc.port > highest ? alloc.port : highest;
    }
    CHECK(rc, -ENOSPC_);
    CHECK(highest, sizeof(xen_ulong_t) == 4 ? 1023 : 4095);
    pair.remote_port = mine[0];
    CHECK(EVTCHN(bind_interdomain, &pair), -ENOSPC_);
    CHECK(EVTCHN(bind_virq, &virq), -ENOSPC_);
    CHECK(bind_ipi(&port), -ENOSPC_);
    close.port = mine[nr_mine / 2];
    CHECK(EVTCHN(close, &close), 0);
    CHECK(bind_ipi(&port), 0);
    CHECK(port, mine[nr_mine / 2]);
    CHECK(bind_ipi(&port), -ENOSPC_);
    for (unsigned i = 0; i < nr_mine; i++) {
        close.port = mine[i];
        rc |= EVTCHN(close, &close);
    }
    CHECK(rc, -ENOSPC_); /* as before: all of them could be closed */
}

/* Domains by their number, and ports that are another's. */
static void check_names(void)
{
    struct evtchn_alloc_unbound alloc = {.dom = 1, .remote_dom = 0};
    struct evtchn_bind_interdomain pair = {.remote_dom = 1};
    struct evtchn_close close;

    CHECK(EVTCHN(alloc_unbound, &alloc), 0);
    pair.remote_port = alloc.port;
    CHECK(EVTCHN(bind_interdomain, &pair), -EINVAL_); /* for domain 0 */
    close.port = alloc.port;
    CHECK(EVTCHN(close, &close), 0);
    alloc.remote_dom = 1;
    CHECK(EVTCHN(alloc_unbound, &alloc), 0);
    pair.remote_port = alloc.port;
    CHECK(EVTCHN(bind_interdomain, &pair), 0);
    close.port = pair.local_port;
    CHECK(EVTCHN(close, &close), 0);
    close.port = alloc.port;
    CHECK(EVTCHN(close, &close), 0);
}

/* The FIFO's array: as many pages as there can be ports. */
static void check_array(void)
{
    struct evtchn_init_control init = {.control_gfn = va_mfn(page_alloc())};
    struct evtchn_expand_array expand = {.array_gfn = va_mfn(page_alloc())};
    struct evtchn_reset reset = {.dom = DOMID_SELF};
    unsigned pages = 0;
    long rc;

    init.offset = 4096 - 64; /* a control block is 72 bytes */
    CHECK(EVTCHN(init_control, &init), -EINVAL_);
    init.offset = 4096 - 72;
    CHECK(EVTCHN(init_control, &init), 0);
    while ((rc = EVTCHN(expand_array, &expand)) == 0 && pages < PORTS) {
        pages++;
    }
    CHECK(rc, -ENOSPC_);
    CHECK(pages, 128);
    CHECK(EVTCHN(reset, &reset), 0);
}

/* --- Grants --- */

static struct gnttab_copy list[LONG_LIST];

static int16_t copy(struct gnttab_copy *op)
{
    op->status = 99;
    CHECK(HC3(grant_table_op, GNTTABOP_copy, op, 1), 0);
    return op->status;
}

static void check_grants(void)
{
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
    xen_pfn_t frame = 0;
    uint32_t *from = page_alloc(), *to = page_alloc();
    struct grant_entry_v1 *grants;
    struct gnttab_map_grant_ref map = {.dom = 0, .ref = 20, .flags = GNTMAP_host_map};
    struct gnttab_copy op = {.flags = GNTCOPY_dest_gref, .len = 4};

    set_xen_guest_handle(setup.frame_list, &frame);
    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &setup, 1), 0);
    grants = map_grants(frame);
    op.source.domid = op.dest.domid = 1;
    op.source.u.gmfn = va_mfn(from);
    op.dest.u.ref = 20;
    *from = 0x1234;
    grants[20] = (struct grant_entry_v1){.domid = 1, .frame = (uint32_t)va_mfn(to)};
    CHECK(copy(&op), GNTST_bad_gntref); /* nothing granted */
    grants[20].flags = GTF_accept_transfer;
    CHECK(copy(&op), GNTST_bad_gntref);
    grants[20].flags = GTF_permit_access;
    CHECK(copy(&op), GNTST_okay);
    CHECK(*to, 0x1234);
    CHECK(grants[20].flags, GTF_permit_access); /* not held */
    grants[20].domid = 0;
    CHECK(copy(&op), GNTST_bad_gntref); /* to another */
    op.dest.domid = 0;
    CHECK(copy(&op), GNTST_bad_gntref); /* that has granted nothing */
    op.dest.domid = 1;
    grants[20].domid = 1;
    grants[20].frame = 0xfffffff;
    CHECK(copy(&op), GNTST_bad_page);
    op.dest.u.ref = 511; /* the last of a page */
    CHECK(copy(&op), GNTST_bad_gntref);
    op.len = 4097;
    CHECK(copy(&op), GNTST_bad_copy_arg);
    op.len = 100;
    op.source.offset = 3997;
    CHECK(copy(&op), GNTST_bad_copy_arg);
    CHECK(HC3(grant_table_op, GNTTABOP_map_grant_ref, &map, 1), 0);
    CHECK(map.status, GNTST_general_error);
    op = (struct gnttab_copy){.len = 4, .status = 99};
    op.source.domid = op.dest.domid = DOMID_SELF;
    op.source.u.gmfn = va_mfn(from);
    op.dest.u.gmfn = va_mfn(to);
    for (unsigned i = 0; i < LONG_LIST; i++) {
        list[i] = op;
    }
    list[LONG_LIST - 2].source.u.gmfn = NO_FRAME;
}

/* More than one call may do: it goes on by itself, alone and from a list of calls. */
static void check_long_lists(void)
{
    struct multicall_entry calls[3] = {
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_version}},
        {.op = __HYPERVISOR_grant_table_op,
         .args = {GNTTABOP_copy, (unsigned long)list, LONG_LIST}},
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}},
    };
    unsigned done = 0;

    CHECK(HC3(grant_table_op, GNTTABOP_copy, list, LONG_LIST), 0);
    for (unsigned i = 0; i < LONG_LIST; i++) {
        done += list[i].status == (i == LONG_LIST - 2 ? GNTST_bad_page : GNTST_okay);
        list[i].status = 99;
    }
    CHECK(done, LONG_LIST);
    CHECK(HC2(multicall, calls, 3), 0);
    for (unsigned i = 0; i < LONG_LIST; i++) {
        done -= list[i].status == (i == LONG_LIST - 2 ? GNTST_bad_page : GNTST_okay);
    }
    CHECK(done, 0);
    CHECK(calls[0].result, 4 << 16 | 17);
    CHECK(calls[1].result, 0);
    CHECK(calls[2].result, 4096);
}

static bool is_call(const volatile uint8_t *insn)
{
    return (insn[0] == 0x0f && (insn[1] == 0x01 || (!IS_PVH && insn[1] == 0x05))) ||
           (insn[0] == 0xe6 && insn[1] == 0x7e); /* as an engine may have patched it */
}

/* A call that overwrites its own instruction cannot be executed again: much of the list is done,
 * but not all. */
static void check_no_way_back(void)
{
    static struct gnttab_copy endless[ENDLESS];
#ifdef BY_PAGE
    volatile uint8_t *site = hypercall_page + __HYPERVISOR_grant_table_op * 32;
    const unsigned len = 32;
#else
    volatile uint8_t *site = (volatile uint8_t *)hypercall_inline;
    const unsigned len = SITE_MAX;
#endif
    volatile uint8_t *without = page_alloc(), *with = without + 2048;
    unsigned calls = 0, nr = 0, other = 0;

    for (unsigned i = 0; i < len; i++) {
        without[i] = with[i] = site[i];
    }
    for (unsigned i = 0; i + 2 < len; i++) {
        if (is_call(with + i)) {
            without[i] = without[i + 1] = 0x90; /* NOP */
            without[i + 2] = with[i + 1] == 0x01 ? 0x90 : without[i + 2];
            calls++;
        }
    }
    CHECK_TRUE(calls > 0);
    for (unsigned at = 0, size; at < len; at += size, nr++) { /* by pages */
        const unsigned offset = (uintptr_t)(site + at) % 4096;

        size = len - at < 4096 - offset ? len - at : 4096 - offset;
        endless[nr].source.domid = endless[nr].dest.domid = DOMID_SELF;
        endless[nr].source.u.gmfn = va_mfn((void *)without);
        endless[nr].source.offset = (uintptr_t)(without + at) % 4096;
        endless[nr].dest.u.gmfn = va_mfn((void *)(site + at));
        endless[nr].dest.offset = offset;
        endless[nr].len = size;
    }
    endless[0].status = 99;
    CHECK(HC3(grant_table_op, GNTTABOP_copy, endless, ENDLESS), -EBUSY_);
    for (unsigned i = 0; i < len; i++) {
        other += site[i] != without[i];
        site[i] = with[i];
    }
    CHECK(other, 0);
    CHECK(endless[0].status, GNTST_okay);
    CHECK_TRUE(endless[ENDLESS / 2].status != 0);
    CHECK(endless[ENDLESS - 1].status, 0); /* not looked at */
    CHECK(HC2(xen_version, XENVER_pagesize, 0), 4096);
}

/* --- Sleep and timers --- */

static void check_sleep(void)
{
    struct sched_poll op = {.nr_ports = 0, .timeout = now() + 3000000};
    struct multicall_entry calls[2] = {
        {.op = __HYPERVISOR_sched_op, .args = {SCHEDOP_poll, (unsigned long)&op}},
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}},
    };

    CHECK(HC2(sched_op, SCHEDOP_poll, &op), 0);
    CHECK_TRUE(now() >= op.timeout);
    op.timeout = now() + 3000000;
    CHECK(HC2(multicall, calls, 2), 0); /* the rest is done when it wakes up */
    CHECK_TRUE(now() >= op.timeout);
    CHECK(calls[0].result, 0);
    CHECK(calls[1].result, 4096);
}

static void check_numbers(void)
{
    struct vcpu_set_periodic_timer periodic = {.period_ns = 1ull << 63};
    struct vcpu_set_singleshot_timer single = {.timeout_abs_ns = now() + 1000000000000ull,
                                               .flags = VCPU_SSHOTTMR_future};
    struct vcpu_runstate_info state = {.state = 99};
    struct vcpu_time_info clock = {0};
    struct vcpu_register_runstate_memory_area run = {0};
    struct vcpu_register_time_memory_area time = {0};
    struct sched_remote_shutdown remote = {.domain_id = 1};
    struct multicall_entry entry = {.op = ~0ul};

    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &periodic), -EINVAL_);
    CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &single), 0); /* not yet */
    CHECK(HC3(vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0), 0);
    run.addr.v = &state; /* of the other CPU, which is down */
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 1, &run), 0);
    CHECK(state.state, RUNSTATE_offline);
    run.addr.v = NULL;
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 1, &run), 0);
    if (!IS_PVH) { /* not the guest's, as far as it is known now */
        time.addr.p = 1ull << 60;
        CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 1, &time), -EFAULT_);
        time.addr.p = HV;
        CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 1, &time), -EFAULT_);
    }
    time.addr.v = &clock;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 1, &time), 0);
    CHECK(HC2(sched_op, SCHEDOP_remote_shutdown, &remote), -EPERM_);
    CHECK(HC2(multicall, &entry, 1), 0);
    CHECK((long)entry.result, -ENOSYS_);
}

void test(void)
{
    si = map_shared_info();
    mask_all(si);
    check_ports();
    check_names();
    check_grants();
    check_long_lists();
    check_no_way_back();
    check_sleep();
    check_numbers();
    check_array();
}
