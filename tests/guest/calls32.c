/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls of a 32-bit PVH kernel, with the structures as a 32-bit compiler lays them out
 * from Xen's headers. Each CHECK that fails is a line; the exit code is how many did.
 */
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/elfnote.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>

enum { ENOENT_ = 2, EFAULT_ = 14, EINVAL_ = 22, ENOSPC_ = 28, ENOSYS_ = 38, EOPNOTSUPP_ = 95 };
enum { PAGE = 4096, VIRQ_PORTS = 1024 };
#define NO_MEMORY ((void *)0x80000000) /* far above the 32 MiB there are */

__asm__(".section .note.Xen, \"a\", @note\n"
        "    .align 4\n"
        "    .long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
        "    .asciz \"Xen\"\n"
        "    .long start\n"
        "    .text\n"
        "    .globl start\n"
        "start:\n"
        "    mov $stack + 16384, %esp\n"
        "    call test\n"
        "1:  hlt\n"
        "    jmp 1b\n"
        /* Where and how Linux has them: an engine that cannot catch them looks for the pair. */
        "    .balign 16\n"
        "by_amd: .byte 0x0f, 0x01, 0xd9\n"
        "    ret\n"
        "    .balign 16\n"
        "by_intel: .byte 0x0f, 0x01, 0xc1\n"
        "    ret\n");

static uint8_t stack[16384] __attribute__((aligned(16), used));
static uint8_t page[8][PAGE] __attribute__((aligned(PAGE)));
static unsigned failed;

static void out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void say(const char *text)
{
    while (*text != '\0') {
        out(0xe9, (uint8_t)*text++);
    }
}

static void check(int ok, const char *text)
{
    if (!ok) {
        failed++;
        say("failed: ");
        say(text);
        say("\n");
    }
}
#define CHECK(x) check(x, #x)

static uint32_t amd;

static long hypercall(uint32_t nr, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    long ret;

    if (amd) {
        __asm__ volatile("call by_amd"
                         : "=a"(ret) : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    } else {
        __asm__ volatile("call by_intel"
                         : "=a"(ret) : "0"(nr), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    }
    return ret;
}
#define HC(nr, a, b, c) \
    hypercall(__HYPERVISOR_##nr, (uint32_t)(a), (uint32_t)(b), (uint32_t)(c), 0)

/* A call through the hypercall page. */
static long by_page(const void *stub, uint32_t a, uint32_t b)
{
    long ret;

    __asm__ volatile("call *%1" : "=a"(ret) : "r"(stub), "b"(a), "c"(b) : "memory", "edx");
    return ret;
}

static volatile struct shared_info *shared(void)
{
    return (volatile struct shared_info *)page[0];
}

static unsigned test_bit(const volatile xen_ulong_t *words, unsigned bit)
{
    return words[bit / 32] >> bit % 32 & 1;
}

static void test_version(void)
{
    struct xen_feature_info features = {0};
    xen_platform_parameters_t platform = {0x5555};

    CHECK(HC(xen_version, XENVER_version, 0, 0) == 0x40011);
    CHECK(HC(xen_version, XENVER_get_features, &features, 0) == 0);
    CHECK(features.submap & 1u << XENFEAT_auto_translated_physmap);
    CHECK(HC(xen_version, XENVER_platform_parameters, &platform, 0) == 0);
    CHECK(platform.virt_start == 0);
    CHECK(HC(xen_version, XENVER_get_features, NO_MEMORY, 0) == -EFAULT_);
    CHECK(hypercall(60, 0, 0, 0, 0) == -ENOSYS_);
}

static void test_page(void)
{
    uint32_t base, eax = 0x40000002, ecx = 12; /* ECX has no meaning there */

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(base), "+c"(ecx) : : "edx");
    CHECK(eax == 1);
    __asm__ volatile("wrmsr" : : "c"(base), "a"(page[1]), "d"(0));
    CHECK(by_page(page[1] + __HYPERVISOR_xen_version * 32, XENVER_version, 0) == 0x40011);
    CHECK(by_page(page[1] + __HYPERVISOR_domctl * 32, 0, 0) == -1);
}

/* What was mapped is laid out for 32-bit code: clock, masks, selectors. */
static void test_shared_info(void)
{
    struct xen_add_to_physmap add = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = (uint32_t)page[0] / PAGE};

    CHECK(HC(memory_op, XENMEM_add_to_physmap, &add, 0) == 0);
    CHECK(shared()->wc_version % 2 == 0 && shared()->wc_sec > 1600000000);
    CHECK(shared()->wc_nsec < 1000000000 && shared()->arch.wc_sec_hi == 0);
    CHECK(shared()->vcpu_info[0].time.tsc_to_system_mul != 0);
    add.domid = 0;
    CHECK(HC(memory_op, XENMEM_add_to_physmap, &add, 0) < 0);
}

static void test_events(void)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_send send;
    struct evtchn_unmask unmask;
    struct evtchn_close close;
    struct evtchn_status status = {.dom = DOMID_SELF};
    unsigned made = 0;

    CHECK(HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi, 0) == 0);
    send.port = ipi.port;
    CHECK(HC(event_channel_op, EVTCHNOP_send, &send, 0) == 0);
    CHECK(test_bit(shared()->evtchn_pending, send.port));
    CHECK(shared()->vcpu_info[0].evtchn_pending_sel == 1u << send.port / 32);
    CHECK(shared()->vcpu_info[0].evtchn_upcall_pending == 1);
    shared()->vcpu_info[0].evtchn_pending_sel = 0;
    shared()->vcpu_info[0].evtchn_upcall_pending = 0;
    /* Up to 1023, where a 64-bit guest would have 4095. */
    while (HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi, 0) == 0 && made < 5000) {
        made++;
    }
    CHECK(ipi.port == VIRQ_PORTS - 1);
    CHECK(HC(event_channel_op, EVTCHNOP_bind_ipi, &ipi, 0) == -ENOSPC_);
    send.port = unmask.port = status.port = VIRQ_PORTS - 1;
    shared()->evtchn_mask[31] = 1u << 31;
    CHECK(HC(event_channel_op, EVTCHNOP_send, &send, 0) == 0);
    CHECK(shared()->evtchn_pending[31] == 1u << 31);
    CHECK(shared()->vcpu_info[0].evtchn_pending_sel == 0);
    CHECK(HC(event_channel_op, EVTCHNOP_unmask, &unmask, 0) == 0);
    CHECK(shared()->evtchn_mask[31] == 0);
    CHECK(shared()->vcpu_info[0].evtchn_pending_sel == 1u << 31);
    CHECK(HC(event_channel_op, EVTCHNOP_status, &status, 0) == 0);
    CHECK(status.status == EVTCHNSTAT_ipi);
    for (close.port = 100; close.port < VIRQ_PORTS; close.port++) {
        CHECK(HC(event_channel_op, EVTCHNOP_close, &close, 0) == 0);
    }
    shared()->vcpu_info[0].evtchn_pending_sel = 0;
    shared()->vcpu_info[0].evtchn_upcall_pending = 0;
}

static void test_vcpu(void)
{
    static struct vcpu_runstate_info state[2];
    static struct vcpu_time_info time;
    struct vcpu_register_runstate_memory_area area = {.addr.v = &state[0]};
    struct vcpu_register_time_memory_area at = {.addr.v = &time};
    struct vcpu_register_vcpu_info info = {.mfn = (uint32_t)page[2] / PAGE, .offset = 64};
    struct vcpu_set_singleshot_timer shot = {.timeout_abs_ns = 1};
    struct vcpu_set_periodic_timer period = {.period_ns = 999999};
    volatile struct vcpu_info *vi = (volatile struct vcpu_info *)(page[2] + 64);

    state[0].time[3] = state[1].time[3] = 1;
    state[1].state = 77;
    CHECK(HC(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &area) == 0);
    CHECK(state[0].state == RUNSTATE_running && state[0].time[3] == 0 && state[1].state == 77);
    CHECK(HC(vcpu_op, VCPUOP_get_runstate_info, 0, &state[1]) == 0);
    CHECK(state[1].state == RUNSTATE_running && state[1].time[3] == 0);
    CHECK(state[1].state_entry_time == state[0].state_entry_time);
    CHECK(HC(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &at) == 0);
    CHECK(time.tsc_to_system_mul == shared()->vcpu_info[0].time.tsc_to_system_mul);
    CHECK(HC(vcpu_op, VCPUOP_register_vcpu_info, 0, &info) == 0);
    CHECK(vi->evtchn_pending_sel == 0xffffffff && vi->evtchn_upcall_pending == 1);
    CHECK(vi->arch.cr2 == 0 && vi->time.tsc_to_system_mul == time.tsc_to_system_mul);
    CHECK(HC(vcpu_op, VCPUOP_set_periodic_timer, 0, &period) == -EINVAL_);
    CHECK(HC(vcpu_op, VCPUOP_set_singleshot_timer, 0, &shot) == 0);
    CHECK(HC(vcpu_op, VCPUOP_is_up, 99, 0) == -ENOENT_);
}

/* Sleeps until the timer's port is pending: the deadline comes in two registers. */
static void test_timer(void)
{
    static struct vcpu_runstate_info state;
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER, .vcpu = 0};
    evtchn_port_t port;
    struct sched_poll poll = {.nr_ports = 1};
    uint64_t deadline;

    CHECK(HC(event_channel_op, EVTCHNOP_bind_virq, &virq, 0) == 0);
    port = virq.port;
    set_xen_guest_handle(poll.ports, &port);
    CHECK(HC(vcpu_op, VCPUOP_get_runstate_info, 0, &state) == 0);
    deadline = state.state_entry_time + state.time[RUNSTATE_running] + 1000000;
    CHECK(HC(set_timer_op, (uint32_t)deadline, deadline >> 32, 0) == 0);
    ((volatile struct vcpu_info *)(page[2] + 64))->evtchn_upcall_pending = 0;
    CHECK(HC(sched_op, SCHEDOP_poll, &poll, 0) == 0);
    CHECK(test_bit(shared()->evtchn_pending, port));
    poll.nr_ports = 129;
    CHECK(HC(sched_op, SCHEDOP_poll, &poll, 0) == -EINVAL_);
}

static void test_memory(void)
{
    xen_pfn_t gfns[2] = {(uint32_t)page[3] / PAGE, (uint32_t)page[4] / PAGE};
    xen_ulong_t idxs[2] = {0, 1000};
    int errs[2] = {99, 99};
    struct xen_memory_reservation res = {.nr_extents = 2, .domid = DOMID_SELF};
    struct xen_add_to_physmap_batch batch = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .size = 2};
    struct xen_remove_from_physmap gone = {.domid = DOMID_SELF, .gpfn = 0x90000};
    struct xen_memory_map map = {.nr_entries = 10};
    domid_t self = DOMID_SELF;
    long before = HC(memory_op, XENMEM_current_reservation, &self, 0);

    set_xen_guest_handle(res.extent_start, gfns);
    page[4][5] = 0x5a;
    CHECK(HC(memory_op, XENMEM_decrease_reservation, &res, 0) == 2);
    CHECK(HC(memory_op, XENMEM_current_reservation, &self, 0) == before - 2);
    CHECK(HC(memory_op, XENMEM_populate_physmap, &res, 0) == 2);
    CHECK(HC(memory_op, XENMEM_current_reservation, &self, 0) == before && page[4][5] == 0);
    set_xen_guest_handle(batch.idxs, idxs);
    set_xen_guest_handle(batch.gpfns, gfns);
    set_xen_guest_handle(batch.errs, errs);
    CHECK(HC(memory_op, XENMEM_add_to_physmap_batch, &batch, 0) == 0);
    CHECK(errs[0] == 0 && errs[1] == -EINVAL_);
    CHECK(HC(memory_op, XENMEM_remove_from_physmap, &gone, 0) == -ENOENT_);
    set_xen_guest_handle(map.buffer, page[5]);
    CHECK(HC(memory_op, XENMEM_memory_map, &map, 0) == 0 && map.nr_entries >= 2);
}

static void test_grants(void)
{
    xen_pfn_t frames[2] = {1, 1};
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};
    struct gnttab_query_size size = {.dom = DOMID_SELF};
    struct gnttab_copy copy[2] = {{.source.u.gmfn = (uint32_t)page[6] / PAGE,
                                   .source.domid = DOMID_SELF,
                                   .dest.u.gmfn = (uint32_t)page[7] / PAGE,
                                   .dest.domid = DOMID_SELF,
                                   .dest.offset = 8,
                                   .len = 4}};

    set_xen_guest_handle(setup.frame_list, frames);
    CHECK(HC(grant_table_op, GNTTABOP_setup_table, &setup, 1) == 0);
    CHECK(setup.status == GNTST_okay);
    CHECK(frames[0] == (uint32_t)page[3] / PAGE && frames[1] == 1); /* where test_memory put it */
    CHECK(HC(grant_table_op, GNTTABOP_query_size, &size, 1) == 0 && size.max_nr_frames == 64);
    copy[1] = copy[0];
    copy[1].flags = GNTCOPY_source_gref;
    copy[1].source.u.ref = 100000;
    page[6][0] = 0x77;
    CHECK(HC(grant_table_op, GNTTABOP_copy, copy, 2) == 0);
    CHECK(copy[0].status == GNTST_okay && copy[1].status == GNTST_bad_gntref);
    CHECK(page[7][8] == 0x77);
}

static void test_multicall(void)
{
    struct multicall_entry list[2] = {
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_version}},
        {.op = __HYPERVISOR_hvm_op, .args = {99}},
    };

    CHECK(HC(multicall, list, 2, 0) == 0);
    CHECK(list[0].result == 0x40011 && (long)list[1].result == -ENOSYS_);
}

static void test_hvm(void)
{
    struct xen_hvm_param via = {
        .domid = DOMID_SELF, .index = HVM_PARAM_CALLBACK_IRQ, .value = 2ull << 56 | 0xf3};

    CHECK(HC(hvm_op, HVMOP_set_param, &via, 0) == 0);
    via.value = 0;
    CHECK(HC(hvm_op, HVMOP_get_param, &via, 0) == 0 && via.value == (2ull << 56 | 0xf3));
    CHECK(HC(mmuext_op, 0, 0, 0) == 0);
    CHECK(HC(mmuext_op, page[5], 1, 0) == -EOPNOTSUPP_);
}

void test(void)
{
    uint32_t eax = 0, ebx, ecx, edx;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
    amd = ebx == 0x68747541; /* "Auth" */
    test_version();
    test_shared_info();
    test_page();
    test_events();
    test_vcpu();
    test_timer();
    test_memory();
    test_grants();
    test_multicall();
    test_hvm();
    say(failed == 0 ? "all passed\n" : "some failed\n");
    out(0x5c, failed < 111 ? (uint8_t)failed : 111);
}
