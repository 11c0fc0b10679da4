/* SPDX-License-Identifier: MIT */
/* Sleep in hypercalls as the board's halt loop sees it, shutdown, watchdogs, vCPUs up and down.
 */
#include <errno.h>
#include <string.h>

#include "pv/evtchn.h"
#include "pv/time.h"
#include "xen_guest.h"

#define SCHED_OP(g, cmd, arg) XG_OP(g, __HYPERVISOR_sched_op, cmd, arg)

enum { PORTS = 0x20000 };

/* One look of the board's halt loop: true when the vCPU goes on. */
static bool awake(struct xen_guest *g, unsigned vcpu)
{
    struct vcpu *v = g->fb->vcpus[vcpu];

    pv_vcpu_sleeping(g->d, v);
    return !v->cpu.halted;
}

static uint32_t ipi_new(struct xen_guest *g, unsigned vcpu)
{
    struct evtchn_bind_ipi op = {.vcpu = vcpu};

    g_assert_cmpint(XG_OP(g, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, &op), ==, 0);
    return op.port;
}

/* From vCPU 1, as the others do. */
static void send(struct xen_guest *g, uint32_t port)
{
    struct evtchn_send op = {.port = port};

    g_assert_cmpint(xg_op(g, 1, __HYPERVISOR_event_channel_op, EVTCHNOP_send, &op, sizeof(op)),
                    ==, 0);
}

static int64_t poll(struct xen_guest *g, unsigned count, uint64_t timeout)
{
    struct sched_poll op = {.nr_ports = count, .timeout = timeout};

    op.ports.p = (evtchn_port_t *)(uintptr_t)PORTS;
    return SCHED_OP(g, SCHEDOP_poll, &op);
}

static void test_block(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint32_t port = ipi_new(g, 0);

    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_sched_op, SCHEDOP_yield), ==, 0);
    g_assert_true(awake(g, 0));
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_sched_op, SCHEDOP_block), ==, 0);
    g_assert_true(g->fb->vcpus[0]->cpu.halted);
    g_assert_false(awake(g, 0));
    g->fb->requested[0] = 0;
    send(g, port);
    g_assert_true((g->fb->requested[0] & VCPU_REQ_IRQ) != 0);
    g_assert_true(awake(g, 0));
    /* Pending: does not sleep. */
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_sched_op, SCHEDOP_block), ==, 0);
    g_assert_false(g->fb->vcpus[0]->cpu.halted);
    xen_guest_free(g);
}

static void test_hlt_is_not_sleep(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);

    g->fb->vcpus[0]->cpu.halted = true; /* HLT */
    g_assert_false(pv_vcpu_sleeping(g->d, g->fb->vcpus[0]));
    g_assert_true(g->fb->vcpus[0]->cpu.halted);
    pv_vcpu_wake(g->d, 0);
    g_assert_false(pv_vcpu_sleeping(g->d, g->fb->vcpus[0]));
    g_assert_true(g->fb->vcpus[0]->cpu.halted);
    xen_guest_free(g);
}

static void test_poll(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint32_t *ports = xg_at(g, PORTS);
    uint32_t port = ipi_new(g, 0);
    uint32_t other = ipi_new(g, 0);
    struct shared_info *si = pv_shared_info(g->d);

    /* As a spinning kernel polls: interrupts off, the port masked. */
    g->fb->vcpus[0]->cpu.rflags &= ~(uint64_t)CPU_IF;
    si->evtchn_mask[port / 64] |= 1ull << (port % 64);
    ports[0] = port;
    g_assert_cmpint(poll(g, 1, 0), ==, 0);
    g_assert_false(awake(g, 0));
    send(g, port);
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==,
                    0); /* masked: no upcall, yet awake */
    g_assert_true(awake(g, 0));
    /* Pending at entry. */
    g_assert_cmpint(poll(g, 1, 0), ==, 0);
    g_assert_true(awake(g, 0));
    /* One of several. */
    si->evtchn_pending[port / 64] = 0;
    ports[1] = other;
    g_assert_cmpint(poll(g, 2, 0), ==, 0);
    g_assert_false(awake(g, 0));
    send(g, other);
    g_assert_true(awake(g, 0));
    /* An upcall that cannot be delivered does not keep it from sleeping; with IF it does. */
    g_assert_cmpint(si->vcpu_info[0].evtchn_upcall_pending, ==, 1);
    g_assert_cmpint(poll(g, 1, 0), ==, 0);
    g_assert_false(awake(g, 0));
    pv_vcpu_wake(g->d, 0); /* the board: an interrupt came in */
    g_assert_true(awake(g, 0));
    g->fb->vcpus[0]->cpu.rflags |= CPU_IF;
    g_assert_cmpint(poll(g, 1, 0), ==, 0);
    g_assert_true(awake(g, 0));
    xen_guest_free(g);
}

static void test_poll_timeout(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    uint32_t *ports = xg_at(g, PORTS);

    ports[0] = ipi_new(g, 0);
    g_assert_cmpint(poll(g, 1, pv_time_now(g->d) + 1000), ==, 0);
    g_assert_false(awake(g, 0));
    xg_advance(g, 900);
    g_assert_false(awake(g, 0));
    xg_advance(g, 200);
    g_assert_true(awake(g, 0));
    g_assert_cmpint(poll(g, 1, 1), ==, 0); /* in the past */
    g_assert_true(awake(g, 0));
    /* Ended early: the timeout is gone, too. */
    g_assert_cmpint(poll(g, 1, pv_time_now(g->d) + 1000), ==, 0);
    send(g, ports[0]);
    g_assert_true(awake(g, 0));
    g_assert_null(g->fb->timers);
    g_assert_cmpint(poll(g, 129, 0), ==, -EINVAL);
    ports[0] = 4096;
    g_assert_cmpint(poll(g, 1, 0), ==, -EINVAL);
    g->limit = PORTS;
    g_assert_cmpint(poll(g, 1, 0), ==, -EFAULT);
    xen_guest_free(g);
}

static void test_shutdown(void)
{
    static const enum stop_reason want[] = {STOP_POWEROFF, STOP_REBOOT,   STOP_SUSPEND,
                                            STOP_CRASH,    STOP_WATCHDOG, STOP_SOFT_RESET};

    for (unsigned reason = 0; reason < G_N_ELEMENTS(want); reason++) {
        struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
        struct sched_shutdown op = {.reason = 6};

        g_assert_cmpint(SCHED_OP(g, SCHEDOP_shutdown, &op), ==, -EINVAL);
        g_assert_false(g->fb->stopped);
        op.reason = reason;
        SCHED_OP(g, SCHEDOP_shutdown, &op);
        g_assert_true(g->fb->stopped);
        g_assert_cmpint((int)g->fb->stop_reason, ==, (int)want[reason]);
        g_assert_false(awake(g, 0)); /* not one instruction more */
        pv_vcpu_wake(g->d, 0);
        g_assert_false(awake(g, 0));
        g_assert_true(pv_domain_resume(g->d, true, NULL) == (reason == SHUTDOWN_suspend));
        g_assert_true(awake(g, 0) == (reason == SHUTDOWN_suspend));
        if (reason == SHUTDOWN_suspend) {
            g_assert_cmpuint(g->fb->vcpus[0]->cpu.gpr[CPU_RAX], ==, 1);
        }
        g->fb->vcpus[0]->cpu.halted = false; /* as the machine's reset does */
        pv_domain_reset(g->d);
        g_assert_true(awake(g, 0));
        g_assert_cmpint(g->d->shutdown_code, ==, -1);
        xen_guest_free(g);
    }
}

static void test_watchdog(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct sched_watchdog op = {0};
    const uint64_t s = 1000000000;

    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, -EINVAL);
    op.id = 3;
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, -EINVAL);
    op = (struct sched_watchdog){.id = 1, .timeout = 1};
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, -EINVAL); /* not in use */
    op.id = 0;
    op.timeout = 10;
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, 1);
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, 2);
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, -ENOSPC);
    op = (struct sched_watchdog){.id = 2, .timeout = 0};
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, 0);
    xg_advance(g, 9 * s);
    op = (struct sched_watchdog){.id = 1, .timeout = 10};
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_watchdog, &op), ==, 0); /* petted */
    xg_advance(g, 9 * s);
    g_assert_false(g->fb->stopped);
    xg_advance(g, 2 * s);
    g_assert_true(g->fb->stopped);
    g_assert_cmpint((int)g->fb->stop_reason, ==, (int)STOP_WATCHDOG);
    xen_guest_free(g);
}

/* HLT with interrupts off is down: the last vCPU that goes down ends the domain. */
static void test_dead(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);

    pv_vcpu_running(g->d, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 1);
    pv_vcpu_dead(g->d, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 0, NULL, 0), ==, 0);
    g_assert_true(g->fb->stopped);
    g_assert_cmpint((int)g->fb->stop_reason, ==, (int)STOP_POWEROFF);
    xen_guest_free(g);
}

static void test_others(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 1);
    struct sched_remote_shutdown remote = {.domain_id = 0};
    struct sched_shutdown code = {.reason = SHUTDOWN_crash};

    g_assert_cmpint(SCHED_OP(g, SCHEDOP_remote_shutdown, &remote), ==, -EPERM);
    remote.domain_id = 44;
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_remote_shutdown, &remote), ==, -ESRCH);
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_shutdown_code, &code), ==, 0);
    g_assert_false(g->fb->stopped);
    g_assert_cmpint(SCHED_OP(g, SCHEDOP_pin_override, &code), ==, -EPERM);
    g_assert_cmpint(SCHED_OP(g, 8, &code), ==, -ENOSYS);
    xen_guest_free(g);
}

static void test_vcpu_up(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct vcpu_hvm_context ctx = {.mode = VCPU_HVM_MODE_64B};
    struct cpu_x86 *cpu = &g->fb->vcpus[1]->cpu;

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 0, NULL, 0), ==, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 2, NULL, 0), ==, -ENOENT);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, -EINVAL);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_initialise, 1, &ctx, sizeof(ctx)), ==, -EINVAL);
    ctx.cpu_regs.x86_64.cr0 = 0x80000001;
    ctx.cpu_regs.x86_64.cr4 = 0x20;
    ctx.cpu_regs.x86_64.cr3 = 0x7000;
    ctx.cpu_regs.x86_64.efer = CPU_EFER_LME | CPU_EFER_LMA;
    ctx.cpu_regs.x86_64.rip = 0xffffffff81000000ull;
    ctx.cpu_regs.x86_64.rsi = 42;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_initialise, 1, &ctx, sizeof(ctx)), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_initialise, 1, &ctx, sizeof(ctx)), ==, -EEXIST);
    g_assert_true(cpu_is_code64(cpu));
    g_assert_cmphex(cpu->rip, ==, 0xffffffff81000000ull);
    g_assert_cmpuint(cpu->gpr[CPU_RSI], ==, 42);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_cmpuint(g->started[1], ==, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 1);
    /* It goes down by itself, and comes back behind the call. */
    g_assert_cmpint(xg_vcpu_op(g, 1, VCPUOP_down, 1, NULL, 0), ==, 0);
    g_assert_false(awake(g, 1));
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_up, 1, NULL, 0), ==, 0);
    g_assert_true(awake(g, 1));
    g_assert_cmpuint(cpu->gpr[CPU_RAX], ==, 0);
    /* The last one: power-off. */
    g_assert_cmpint(xg_vcpu_op(g, 1, VCPUOP_down, 1, NULL, 0), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_down, 0, NULL, 0), ==, 0);
    g_assert_true(g->fb->stopped);
    g_assert_cmpint((int)g->fb->stop_reason, ==, (int)STOP_POWEROFF);
    xen_guest_free(g);
}

/* INIT of a vCPU that sleeps in a hypercall; and yield is the board's to carry out. */
static void test_init(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct vcpu_hvm_context ctx = {.mode = VCPU_HVM_MODE_64B};
    uint64_t area = 0x200000;

    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_sched_op, SCHEDOP_yield), ==, 0);
    g_assert_true(g->d->vcpu[0].yield);
    g_assert_false(g->d->vcpu[1].yield);
    g_assert_cmpint(xg_vcpu_op(g, 1, VCPUOP_register_runstate_memory_area, 1, &area, 8), ==, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 1);
    g_assert_cmpint(xg_call(g, 1, __HYPERVISOR_sched_op, (const uint64_t[6]){SCHEDOP_block}, NULL),
                    ==, 0);
    g_assert_false(awake(g, 1));
    memset(xg_at(g, area), 0x5a, 48);
    g_mutex_lock(&g->fb->board.lock);
    pv_vcpu_init(g->d, 1);
    pv_vcpu_blocked(g->d, 1);
    g_mutex_unlock(&g->fb->board.lock);
    g_assert_cmphex(*(uint64_t *)xg_at(g, area), ==, 0x5a5a5a5a5a5a5a5aull);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_is_up, 1, NULL, 0), ==, 0);
    g_assert_cmpint((int)g->d->vcpu[1].sleep, ==, (int)PV_SLEEP_NONE);
    /* It can be given a state again, and stays halted until it is told to go. */
    ctx.cpu_regs.x86_64.cr0 = 0x80000001;
    ctx.cpu_regs.x86_64.cr4 = 0x20;
    ctx.cpu_regs.x86_64.efer = CPU_EFER_LME | CPU_EFER_LMA;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_initialise, 1, &ctx, sizeof(ctx)), ==, 0);
    g_assert_true(g->fb->vcpus[1]->cpu.halted);
    xen_guest_free(g);
}

static void test_register_info(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PVH, 2);
    struct vcpu_register_vcpu_info op = {.mfn = 0x300, .offset = 4096 - 32};
    struct vcpu_info *info = xg_at(g, 0x300000 + 128);

    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==,
                    -EINVAL);
    op.offset = 4;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==,
                    -EINVAL);
    op = (struct vcpu_register_vcpu_info){.mfn = 1ull << 60, .offset = 128};
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==,
                    -EINVAL);
    op.mfn = 0x300;
    g->d->vcpu[1].up = true; /* it may be using the one it has */
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==,
                    -EINVAL);
    g->d->vcpu[1].up = false;
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==, 0);
    g_assert_cmphex(info->evtchn_pending_sel, ==, UINT64_MAX);
    g_assert_cmpint(info->evtchn_upcall_pending, ==, 1);
    g_assert_cmpuint(info->time.tsc_to_system_mul, !=, 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_info, 1, &op, sizeof(op)), ==,
                    -EINVAL);
    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    send(g, ipi_new(g, 1));
    g_assert_cmpint(info->evtchn_upcall_pending, ==, 1);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_send_nmi, 1, NULL, 0), ==, -EINVAL); /* an argument */
    g_assert_cmpint(XG_CALL(g, __HYPERVISOR_vcpu_op, VCPUOP_send_nmi, 1), ==, 0);
    g_assert_true((g->fb->requested[1] & VCPU_REQ_NMI) != 0);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_register_vcpu_time_phys_area, 0, &op, sizeof(op)),
                    ==, -ENOSYS);
    g_assert_cmpint(xg_vcpu_op(g, 0, VCPUOP_get_physid, 0, &op, sizeof(op)), ==, -EINVAL);
    xen_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/sched/block", test_block);
    g_test_add_func("/pv/sched/hlt-is-not-sleep", test_hlt_is_not_sleep);
    g_test_add_func("/pv/sched/poll", test_poll);
    g_test_add_func("/pv/sched/poll-timeout", test_poll_timeout);
    g_test_add_func("/pv/sched/shutdown", test_shutdown);
    g_test_add_func("/pv/sched/watchdog", test_watchdog);
    g_test_add_func("/pv/sched/others", test_others);
    g_test_add_func("/pv/sched/dead", test_dead);
    g_test_add_func("/pv/sched/vcpu-up-down", test_vcpu_up);
    g_test_add_func("/pv/sched/init", test_init);
    g_test_add_func("/pv/sched/register-vcpu-info", test_register_info);
    return g_test_run();
}
