/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(suspend): what is left after 1 and after 0. suspend.py resumes it. */
#include "pv.h"

#include <xen/grant_table.h>

enum { REF = 20 };

static uint8_t grants[4096] __attribute__((aligned(4096)));
static struct vcpu_runstate_info runstate;
static uint8_t own_page[4096] __attribute__((aligned(4096)));
#define own_info (*(volatile struct vcpu_info *)own_page)
static uint8_t control[4096] __attribute__((aligned(4096)));
static uint8_t array[4096] __attribute__((aligned(4096)));
static struct shared_info *si;
static uint32_t timer_port;
static unsigned ticks;

static long suspend(uint64_t mfn)
{
    struct sched_shutdown op = {.reason = SHUTDOWN_suspend};

    return HC3(sched_op, SCHEDOP_shutdown, &op, mfn);
}

static uint32_t status_of(uint32_t port)
{
    struct evtchn_status op = {.dom = DOMID_SELF, .port = port};

    CHECK(HC2(event_channel_op, EVTCHNOP_status, &op), 0);
    return op.status;
}

static void bind_timer(void)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER, .vcpu = 0};

    CHECK(HC2(event_channel_op, EVTCHNOP_bind_virq, &op), 0);
    timer_port = op.port;
}

static long register_info(void)
{
    struct vcpu_register_vcpu_info op = {.mfn = va_mfn(own_page)};

    return HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &op);
}

static void clear(uint8_t *page)
{
    for (unsigned i = 0; i < 4096; i++) {
        page[i] = 0;
    }
}

/* Whether a page can be made a page table: what the hypervisor writes to cannot. */
static void check_pin(uint8_t *page, long want)
{
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0), -EINVAL_); /* mapped writable */
    CHECK(make_ro(page), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0), want);
    if (want == 0) {
        CHECK(mmuext1(MMUEXT_UNPIN_TABLE, va_mfn(page), 0), 0);
    }
    CHECK(make_rw(page), 0);
}

static void use_fifo(void)
{
    struct evtchn_init_control init = {.control_gfn = va_mfn(control)};
    struct evtchn_expand_array expand = {.array_gfn = va_mfn(array)};

    CHECK(HC2(event_channel_op, EVTCHNOP_init_control, &init), 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_expand_array, &expand), 0);
    clear(array); /* its words: an event was waiting */
}

static void check_pins(long want)
{
    check_pin(own_page, want);
    check_pin(control, want);
    check_pin(array, want);
}

static void map_grants(void)
{
    xen_pfn_t frame = 0;
    struct gnttab_setup_table op = {.dom = DOMID_SELF, .nr_frames = 1};

    op.frame_list.p = &frame;
    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &op, 1), 0);
    CHECK(op.status, GNTST_okay);
    CHECK(update_va(grants, frame << 12 | P | RW, UVMF_INVLPG), 0);
}

static grant_entry_v1_t *grant(unsigned ref)
{
    return (grant_entry_v1_t *)grants + ref;
}

/* Takes events off, so that the callback is not called for ever. */
static bool take_events(struct frame *f)
{
    if (f->vector != V_EVENT) {
        return false;
    }
    own_info.evtchn_upcall_pending = 0;
    own_info.evtchn_pending_sel = 0;
    for (unsigned i = 0; i < 64; i++) {
        ticks += i == timer_port / 64 && (si->evtchn_pending[i] >> (timer_port % 64) & 1) != 0;
        si->evtchn_pending[i] = 0;
    }
    return true;
}

/* The 100 Hz timer that a new domain has comes through the event callback that was kept. */
static void wait_for_tick(void)
{
    ticks = 0;
    si->evtchn_mask[timer_port / 64] &= ~(1ull << (timer_port % 64));
    while (ticks == 0) {
        CHECK(HC2(sched_op, SCHEDOP_block, 0), 0);
    }
    own_info.evtchn_upcall_mask = 1;
}

static long breakpoint(uint64_t unused)
{
    __asm__ volatile("int3");
    return 0;
}

static void check_cancelled(void)
{
    CHECK(suspend(va_mfn(start_info)), 1);
    say("cancelled\n");
    CHECK(status_of(timer_port), EVTCHNSTAT_virq);
    CHECK(register_info(), -EINVAL_);
    check_pin(own_page, -EINVAL_);
    CHECK(grant(REF)->frame, 0x1234);
    CHECK(status_of(start_info->store_evtchn), EVTCHNSTAT_interdomain);
}

static void check_new_domain(uint8_t *table)
{
    struct vcpu_register_runstate_memory_area area = {.addr.v = &runstate};
    const uint64_t before = own_info.time.system_time, store = start_info->store_mfn;

    start_info->store_mfn = start_info->console.domU.mfn = 0;
    start_info->store_evtchn = start_info->console.domU.evtchn = 0;
    start_info->shared_info = 0;
    CHECK(suspend(va_mfn(start_info)), 0);
    say("in a new domain\n");
    CHECK(start_info->store_mfn, store);
    CHECK_TRUE(start_info->console.domU.mfn != 0);
    CHECK(start_info->nr_pages, 32 << 8);
    CHECK(status_of(start_info->store_evtchn), EVTCHNSTAT_interdomain);
    CHECK(status_of(start_info->console.domU.evtchn), EVTCHNSTAT_interdomain);
    for (uint32_t n = 1; n < 16; n++) {
        if (n != start_info->store_evtchn && n != start_info->console.domU.evtchn) {
            CHECK(status_of(n), EVTCHNSTAT_closed);
        }
    }
    clear(own_page);
    check_pins(0); /* nothing is registered */
    si = map_shared_info();
    CHECK(si->vcpu_info[0].evtchn_upcall_mask, 1);
    CHECK(si->evtchn_mask[5], UINT64_MAX);
    CHECK(si->evtchn_pending[0], 0);
    CHECK(register_info(), 0);
    CHECK_TRUE(own_info.time.system_time >= before);
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &area), 0);
    CHECK(runstate.state, RUNSTATE_running);
    /* Grants: those of the toolstack. */
    map_grants();
    CHECK(grant(REF)->flags, 0);
    CHECK(grant(GNTTAB_RESERVED_XENSTORE)->frame, store);
    /* Tables with their types, gates, callbacks. */
    CHECK(make_rw(table), -EBUSY_);
    CHECK(try_call(breakpoint, 0), 4);
    bind_timer();
    wait_for_tick();
}

/* A domain that used them goes on without. */
static void check_fifo(void)
{
    use_fifo();
    check_pins(-EINVAL_);
    CHECK(suspend(va_mfn(start_info)), 1);
    say("cancelled\n");
    check_pins(-EINVAL_);
    CHECK(suspend(va_mfn(start_info)), 0);
    say("in a new domain\n");
    clear(own_page);
    clear(control);
    clear(array);
    check_pins(0);
}

/* --- a second CPU, up and down again before it has run, most likely --- */

static struct vcpu_guest_context context;
static uint8_t stack[4096] __attribute__((aligned(16)));
static volatile unsigned long runs;

static void second(void)
{
    for (;;) {
        runs++;
        __asm__ volatile("pause");
    }
}

static long vcpu(unsigned cmd, void *arg)
{
    return HC3(vcpu_op, cmd, 1, arg);
}

/* What was down is to be initialised again, and does not run because it once was to. */
static void check_second(void)
{
    unsigned long seen;

    kernel_context(&context, second, stack + sizeof(stack));
    CHECK(vcpu(VCPUOP_initialise, &context), 0);
    CHECK(vcpu(VCPUOP_up, NULL), 0);
    CHECK(vcpu(VCPUOP_down, NULL), 0);
    CHECK(suspend(va_mfn(start_info)), 0);
    say("in a new domain\n");
    seen = runs;
    CHECK(vcpu(VCPUOP_is_up, NULL), 0);
    CHECK(vcpu(VCPUOP_up, NULL), -EINVAL_);
    for (unsigned i = 0; i < 2000; i++) {
        CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    }
    CHECK(runs, seen);
    CHECK(vcpu(VCPUOP_initialise, &context), 0);
    CHECK(vcpu(VCPUOP_up, NULL), 0);
    while (runs == seen) {
        CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    }
    CHECK(vcpu(VCPUOP_down, NULL), 0);
}

void test(void)
{
    uint8_t *table = page_alloc();

    traps_init();
    hook = take_events;
    si = map_shared_info();
    CHECK(register_info(), 0);
    map_grants();
    CHECK(make_ro(table), 0);
    CHECK(mmuext1(MMUEXT_PIN_L1_TABLE, va_mfn(table), 0), 0);
    bind_timer();
    for (unsigned i = 0; i < 2; i++) {
        *grant(REF) = (grant_entry_v1_t){.flags = GTF_permit_access, .frame = 0x1234};
        check_cancelled();
        check_new_domain(table);
    }
    /* No start info: it can only go on as it was. */
    *grant(REF) = (grant_entry_v1_t){.flags = GTF_permit_access, .frame = 0x1234};
    CHECK(suspend(va_mfn(table)), 1);
    say("a table is no start info\n");
    CHECK(suspend(UINT64_MAX >> 12), 1);
    say("nothing is none\n");
    CHECK(status_of(timer_port), EVTCHNSTAT_virq);
    check_fifo();
    check_second();
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, va_mfn(table), 0), 0);
    CHECK(make_rw(table), 0);
}
