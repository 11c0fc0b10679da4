/* SPDX-License-Identifier: MIT */
/*
 * A PVH kernel that suspends itself four times and looks at what is left: suspend.py resumes it
 * by turns as cancelled and as in a new domain. (PV: pv/suspend.c.)
 */
#include "ops.h"

enum { VECTOR = 0xf3, REF = 20 };

/* That it may be cancelled is said in a note. */
__asm__(".pushsection .note.Xen, \"a\", @note\n\t.align 4\n\t.long 4, 4, 14\n\t"
        ".asciz \"Xen\"\n\t.long 1\n\t.popsection");

static uint8_t info_page[4096] __attribute__((aligned(4096)));
static struct vcpu_runstate_info runstate;
static struct shared_info *si;
static struct grant_entry_v1 *grants;
static uint32_t ipi_port, timer_port;

static const volatile struct vcpu_info *info(void)
{
    return (const struct vcpu_info *)(info_page + 64);
}

static uint32_t status_of(uint32_t port)
{
    struct evtchn_status op = {.dom = DOMID_SELF, .port = port};

    CHECK(EVTCHN(status, &op), 0);
    return op.status;
}

static uint32_t param(uint32_t index)
{
    struct xen_hvm_param op = {.domid = DOMID_SELF, .index = index};

    CHECK(HC2(hvm_op, HVMOP_get_param, &op), 0);
    return (uint32_t)op.value;
}

static long register_info(void)
{
    struct vcpu_register_vcpu_info op = {.mfn = va_mfn(info_page), .offset = 64};

    return HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &op);
}

static uint32_t nr_grant_frames(void)
{
    struct gnttab_query_size op = {.dom = DOMID_SELF};

    CHECK(HC3(grant_table_op, GNTTABOP_query_size, &op, 1), 0);
    return op.nr_frames;
}

/* As a kernel does while it boots. */
static void set_up(void)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_bind_virq timer = {.virq = VIRQ_TIMER};
    struct xen_hvm_evtchn_upcall_vector upcall = {.vcpu = 0, .vector = VECTOR};
    struct vcpu_register_runstate_memory_area area = {.addr.v = &runstate};
    xen_pfn_t frames[3];
    struct gnttab_setup_table table = {.dom = DOMID_SELF, .nr_frames = 3};

    si = map_shared_info();
    CHECK_TRUE(((volatile struct shared_info *)si)->wc_sec != 0);
    CHECK(register_info(), 0);
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &area), 0);
    CHECK(EVTCHN(bind_ipi, &ipi), 0);
    CHECK(EVTCHN(bind_virq, &timer), 0);
    ipi_port = ipi.port;
    timer_port = timer.port;
    CHECK(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &upcall), 0);
    grants = map_grants(0);
    CHECK(grants[REF].flags, 0);
    CHECK(grants[GNTTAB_RESERVED_XENSTORE].frame, param(HVM_PARAM_STORE_PFN));
    grants[REF] = (struct grant_entry_v1){.flags = GTF_permit_access, .frame = 0x1234};
    set_xen_guest_handle(table.frame_list, frames);
    CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &table, 1), 0);
    CHECK(nr_grant_frames(), 3);
}

static long suspend(void)
{
    struct sched_shutdown op = {.reason = SHUTDOWN_suspend};

    return HC2(sched_op, SCHEDOP_shutdown, &op);
}

/* As if nothing had been. */
static void check_cancelled(void)
{
    CHECK(suspend(), 1);
    say("cancelled\n");
    CHECK(status_of(ipi_port), EVTCHNSTAT_ipi);
    CHECK(status_of(timer_port), EVTCHNSTAT_virq);
    CHECK(register_info(), -EINVAL_);
    CHECK_TRUE(((volatile struct shared_info *)si)->wc_sec != 0);
    CHECK(nr_grant_frames(), 3);
    CHECK(((volatile struct grant_entry_v1 *)grants)[REF].frame, 0x1234);
}

/* No memory is there: it reads as ones, or as zeros with KVM. */
static bool is_nothing(const volatile void *page)
{
    struct xen_hvm_get_mem_type op = {.domid = DOMID_SELF, .pfn = va_mfn((void *)page)};
    const uint32_t word = *(const volatile uint32_t *)page;

    CHECK(HC2(hvm_op, HVMOP_get_mem_type, &op), 0);
    return op.mem_type == HVMMEM_mmio_dm && (word == 0 || word == UINT32_MAX);
}

/* Nothing is there of what was asked for; memory and time are. */
static void check_new_domain(void)
{
    const uint32_t store_pfn = param(HVM_PARAM_STORE_PFN);
    const uint64_t before = info()->time.system_time;
    uint32_t store, console;

    runstate.state = 99;
    CHECK(suspend(), 0);
    say("in a new domain\n");
    CHECK_TRUE(is_nothing(si));
    CHECK_TRUE(is_nothing(grants));
    CHECK(nr_grant_frames(), 1);
    CHECK(runstate.state, 99); /* nobody writes there */
    CHECK(param(HVM_PARAM_STORE_PFN), store_pfn);
    store = param(HVM_PARAM_STORE_EVTCHN);
    console = param(HVM_PARAM_CONSOLE_EVTCHN);
    CHECK(status_of(store), EVTCHNSTAT_interdomain);
    CHECK(status_of(console), EVTCHNSTAT_interdomain);
    for (uint32_t port = 1; port < 16; port++) {
        if (port != store && port != console) {
            CHECK(status_of(port), EVTCHNSTAT_closed);
        }
    }
    set_up();
    CHECK_TRUE(info()->time.system_time >= before);
    CHECK(runstate.state, RUNSTATE_running);
}

void test(void)
{
    set_up();
    for (unsigned i = 0; i < 2; i++) {
        check_cancelled();
        check_new_domain();
    }
}
