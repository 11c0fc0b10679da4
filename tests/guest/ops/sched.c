/* SPDX-License-Identifier: MIT */
/* sched_op, vcpu_op and timers: every sub-op that comes back, and what each refuses. */
#include "ops.h"

static struct shared_info *si;
static uint32_t timer_port;

static void forget(uint32_t port)
{
    xen_ulong_t *word = &si->evtchn_pending[port / WORD_BITS];

    __atomic_fetch_and(word, ~(1ul << port % WORD_BITS), __ATOMIC_SEQ_CST);
    si->vcpu_info[0].evtchn_pending_sel = 0;
    si->vcpu_info[0].evtchn_upcall_pending = 0;
}

#ifndef PVH
/* SCHEDOP_block lets events in: one is enough. */
static bool on_event(struct frame *f)
{
    forget(timer_port);
    f->flags &= ~0x200ull;
    return f->vector == V_EVENT;
}
#endif

static bool rang(void)
{
    return (si->evtchn_pending[timer_port / WORD_BITS] >> timer_port % WORD_BITS & 1) != 0;
}

/* Sleeps until the timer's port is pending; not for ever. */
static void wait_for_timer(void)
{
    struct sched_poll op = {.nr_ports = 1};

    set_xen_guest_handle(op.ports, &timer_port);
    CHECK(HC2(sched_op, SCHEDOP_poll, &op), 0);
    CHECK_TRUE(rang());
    forget(timer_port);
}

static void check_timers(void)
{
    struct vcpu_set_periodic_timer periodic = {.period_ns = 1000000};
    struct vcpu_set_singleshot_timer single = {.timeout_abs_ns = 1, .flags = VCPU_SSHOTTMR_future};

    CHECK(HC1(set_timer_op, 1), 0); /* long ago */
    wait_for_timer();
    CHECK(HC1(set_timer_op, 0), 0); /* none */
    CHECK(HC2(set_timer_op, ~0ul, ~0ul), 0); /* what is absurdly far away means soon */
    CHECK(HC2(set_timer_op, 0, 0), 0);
    CHECK_TRUE(!rang());
    CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &single), -ETIME_);
    single.flags = 0;
    CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &single), 0);
    wait_for_timer();
    CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, BAD_POINTER), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 1, &single), -EINVAL_); /* another's */
    CHECK(HC3(vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_stop_singleshot_timer, 1, 0), -EINVAL_);
    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &periodic), 0);
    wait_for_timer();
    wait_for_timer();
    CHECK(HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    forget(timer_port);
    periodic.period_ns = 1;
    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &periodic), -EINVAL_);
    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, BAD_POINTER), -EFAULT_);
}

static void check_poll(void)
{
    uint32_t ports[2] = {timer_port, 1 << 20};
    struct sched_poll op = {.nr_ports = 129, .timeout = 1};

    set_xen_guest_handle(op.ports, ports);
    CHECK(HC2(sched_op, SCHEDOP_poll, &op), -EINVAL_);
    op.nr_ports = 2;
    CHECK(HC2(sched_op, SCHEDOP_poll, &op), -EINVAL_); /* no such port */
    op.nr_ports = 1;
    CHECK(HC2(sched_op, SCHEDOP_poll, &op), 0); /* the time has passed */
    CHECK_TRUE(!rang());
    set_xen_guest_handle(op.ports, (uint32_t *)BAD_POINTER);
    CHECK(HC2(sched_op, SCHEDOP_poll, &op), -EFAULT_);
    CHECK(HC2(sched_op, SCHEDOP_poll, BAD_POINTER), -EFAULT_);
}

static void check_sched(void)
{
    struct sched_shutdown shutdown = {.reason = 99};
    struct sched_remote_shutdown remote = {.domain_id = 0};
    struct sched_watchdog dog = {.timeout = 1000};
    struct sched_pin_override pin = {0};

    CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    CHECK(HC1(set_timer_op, 1), 0);
    CHECK(HC2(sched_op, SCHEDOP_block, 0), 0); /* an event is there, or comes */
    forget(timer_port);
    CHECK(HC2(sched_op, SCHEDOP_shutdown, &shutdown), -EINVAL_);
    CHECK(HC2(sched_op, SCHEDOP_shutdown, BAD_POINTER), -EFAULT_);
    CHECK(HC2(sched_op, SCHEDOP_shutdown_code, &shutdown), -EINVAL_);
    shutdown.reason = SHUTDOWN_poweroff;
    CHECK(HC2(sched_op, SCHEDOP_shutdown_code, &shutdown), 0);
    CHECK(HC2(sched_op, SCHEDOP_shutdown_code, BAD_POINTER), -EFAULT_);
    CHECK(HC2(sched_op, SCHEDOP_remote_shutdown, &remote), -EPERM_);
    remote.domain_id = 77;
    CHECK(HC2(sched_op, SCHEDOP_remote_shutdown, &remote), -ESRCH_);
    CHECK(HC2(sched_op, SCHEDOP_remote_shutdown, BAD_POINTER), -EFAULT_);
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 1);
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 2);
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), -ENOSPC_);
    dog.id = 2;
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 0); /* fed */
    dog.timeout = 0;
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 0); /* gone */
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), -EINVAL_);
    dog.id = 1;
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 0);
    dog.id = 3;
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), -EINVAL_);
    dog.id = 0;
    CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), -EINVAL_);
    CHECK(HC2(sched_op, SCHEDOP_watchdog, BAD_POINTER), -EFAULT_);
    CHECK(HC2(sched_op, SCHEDOP_pin_override, &pin), -EPERM_);
    CHECK(HC2(sched_op, 99, 0), -ENOSYS_);
}

static void check_areas(void)
{
    uint8_t *page = page_alloc();
    struct vcpu_register_vcpu_info info = {.mfn = va_mfn(page), .offset = 4090};
    struct vcpu_register_runstate_memory_area run = {0};
    struct vcpu_register_time_memory_area time = {0};
    struct vcpu_runstate_info state = {.state = 99};
    struct vcpu_time_info clock = {0};
    struct vcpu_info *own;

    run.addr.v = &state;
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), 0);
    CHECK(state.state, RUNSTATE_running);
    state.state = 99;
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &state), 0);
    CHECK(state.state, RUNSTATE_running);
    CHECK_TRUE(state.time[RUNSTATE_running] != 0);
    run.addr.v = NULL;
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &run), 0);
    CHECK(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, BAD_POINTER), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, BAD_POINTER), -EFAULT_);
    time.addr.v = &clock;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &time), 0);
    CHECK_TRUE(clock.tsc_to_system_mul != 0);
    time.addr.v = (void *)BAD_POINTER;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &time), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, BAD_POINTER), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &info), -EINVAL_); /* over the end */
    info.offset = 64 + sizeof(xen_ulong_t) / 2; /* aligned to half of what the layout asks for */
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &info), -EINVAL_);
    info.offset = 64 + sizeof(xen_ulong_t);
    info.mfn = 1ull << 50;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &info), -EINVAL_);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, BAD_POINTER), -EFAULT_);
    info.mfn = va_mfn(page);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &info), 0);
    own = (struct vcpu_info *)(page + info.offset);
    CHECK_TRUE(own->time.tsc_to_system_mul != 0);
    CHECK(own->time.version & 1, 0);
    CHECK(own->evtchn_upcall_pending, 1);
    CHECK(own->evtchn_pending_sel, ~0ul);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 0, &info), -EINVAL_); /* once */
}

static void check_vcpus(void)
{
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 0, 0), 1);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 2, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 0, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), -EINVAL_); /* never initialised */
    CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 0, 0), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, BAD_POINTER), -EFAULT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_physid, 0, 0), -EINVAL_);
    CHECK(HC3(vcpu_op, 14, 0, 0), -ENOSYS_);
    CHECK(HC3(vcpu_op, 99, 0, 0), -ENOSYS_);
}

void test(void)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER};

    si = map_shared_info();
#ifndef PVH
    traps_init();
    hook = on_event;
#endif
    CHECK(EVTCHN(bind_virq, &op), 0);
    timer_port = op.port;
    mask_all(si);
    si->evtchn_mask[timer_port / WORD_BITS] &= ~(1ul << timer_port % WORD_BITS);
    forget(0);
    si->vcpu_info[0].evtchn_upcall_mask = !IS_PVH;
    check_timers();
    check_poll();
    check_sched();
    check_vcpus();
    check_areas();
}
