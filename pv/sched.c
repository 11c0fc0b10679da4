/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_sched_op (xen/sched.h; xen-abi 2.4): yield, block, poll, shutdown, watchdog; and
 * the sleep of a vCPU inside a hypercall.
 *
 * A sleeping hypercall does not wait here, where the board lock is held: it notes what it waits
 * for, sets cpu.halted and returns its (already known) result. The board's halt loop asks
 * pv_vcpu_sleeping().
 */
#include <errno.h>
#include <glib.h>

#include "pv/bits.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/sched.h"
#include "pv/time.h"
#include "pv/xen_abi.h"

enum {
    SCHED_MAX_POLL_PORTS = 128,
    SCHED_SHUTDOWN_MAX = SHUTDOWN_soft_reset,
};

/* --- Sleeping --------------------------------------------------------------------------- */

void pv_sched_sleep(struct pv_domain *d, struct vcpu *v, enum pv_sleep why)
{
    struct pv_vcpu *pv = &d->vcpu[v->id];

    pv->sleep = why;
    pv->sleep_over = false;
    v->cpu.halted = true;
}

/* Ends any sleep; the vCPU's thread sees to the rest. */
static void sched_end_sleep(struct pv_domain *d, unsigned vcpu)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    if (pv->sleep == PV_SLEEP_NONE || pv->sleep_over) {
        return;
    }
    pv->sleep_over = true;
    if (pv->sleep == PV_SLEEP_POLL && pv->poll_ns != 0) {
        pv->poll_ns = 0;
        d->board->ops->timer_cancel(d->board, &pv->poll_timer);
    }
    d->board->ops->vcpu_request(d->board, vcpu, VCPU_REQ_IRQ);
}

void pv_vcpu_wake(struct pv_domain *d, unsigned vcpu)
{
    if (d->vcpu[vcpu].sleep == PV_SLEEP_BLOCK || d->vcpu[vcpu].sleep == PV_SLEEP_POLL) {
        sched_end_sleep(d, vcpu);
    }
}

void pv_sched_up(struct pv_domain *d, unsigned vcpu)
{
    if (d->vcpu[vcpu].sleep == PV_SLEEP_DOWN) {
        sched_end_sleep(d, vcpu);
    }
}

bool pv_vcpu_sleeping(struct pv_domain *d, struct vcpu *v)
{
    struct pv_vcpu *pv = &d->vcpu[v->id];

    if (pv->sleep == PV_SLEEP_NONE) {
        return false;
    }
    if (!pv->sleep_over) {
        return true;
    }
    pv->sleep = PV_SLEEP_NONE;
    pv->sleep_over = false;
    v->cpu.halted = false;
    return false;
}

static void sched_poll_timeout(void *opaque)
{
    struct pv_vcpu *pv = opaque;
    struct pv_domain *d = pv->domain;

    if (pv->sleep != PV_SLEEP_POLL || pv->poll_ns == 0) {
        return;
    }
    if (pv_time_now(d) < pv->poll_ns) {
        pv_time_arm(d, &pv->poll_timer, pv->poll_ns);
        return;
    }
    pv_vcpu_wake(d, pv->id);
}

/* Whether the upcall would be delivered if the vCPU went on. */
static bool sched_upcall_deliverable(struct pv_domain *d, const struct vcpu *v)
{
    if (!evtchn_upcall_pending(d, v->id)) {
        return false;
    }
    if (d->kind == PV_KIND_PV) {
        return __atomic_load_n(&pv_vcpu_info(d, v->id)->evtchn_upcall_mask, __ATOMIC_SEQ_CST) ==
               0;
    }
    return (v->cpu.rflags & CPU_IF) != 0;
}

static int64_t sched_block(struct hypercall *h)
{
    struct vcpu_info_x86_32 *info = pv_vcpu_info_32(h->d, h->v->id);

    __atomic_store_n(&info->evtchn_upcall_mask, 0, __ATOMIC_SEQ_CST);
    /* With a pending upcall there is nothing to wait for, whatever RFLAGS.IF. */
    if (!evtchn_upcall_pending(h->d, h->v->id)) {
        pv_sched_sleep(h->d, h->v, PV_SLEEP_BLOCK);
    }
    return 0;
}

/* struct sched_poll as the caller's mode lays it out. */
static bool sched_read_poll(struct hypercall *h, struct sched_poll *op, uint64_t *ports)
{
    struct {
        uint32_t ports, nr_ports, timeout_lo, timeout_hi;
    } op32;

    if (!h->compat) {
        bool ok = guest_read(h->v, h->arg[1], op, sizeof(*op));

        *ports = ok ? (uint64_t)(uintptr_t)op->ports.p : 0;
        return ok;
    }
    if (!guest_read(h->v, h->arg[1], &op32, sizeof(op32))) {
        return false;
    }
    *ports = op32.ports;
    op->nr_ports = op32.nr_ports;
    op->timeout = (uint64_t)op32.timeout_hi << 32 | op32.timeout_lo;
    return true;
}

static int64_t sched_poll(struct hypercall *h)
{
    struct pv_domain *d = h->d;
    struct pv_vcpu *pv = &d->vcpu[h->v->id];
    struct sched_poll op;
    uint32_t ports[SCHED_MAX_POLL_PORTS];
    uint64_t list;

    if (!sched_read_poll(h, &op, &list)) {
        return -EFAULT;
    }
    if (op.nr_ports > SCHED_MAX_POLL_PORTS) {
        return -EINVAL;
    }
    if (!guest_read(h->v, list, ports, op.nr_ports * sizeof(ports[0]))) {
        return -EFAULT;
    }
    for (unsigned i = 0; i < op.nr_ports; i++) {
        if (ports[i] >= EVTCHN_MAX_PORTS) {
            return -EINVAL;
        }
        if (evtchn_is_pending(d, ports[i])) {
            return 0;
        }
    }
    /* The lock keeps new events out between the look above and the sleep below. */
    if (sched_upcall_deliverable(d, h->v) ||
        (op.timeout != 0 && op.timeout <= pv_time_now(d))) {
        return 0;
    }
    pv->poll_port = op.nr_ports == 1 ? ports[0] : 0;
    pv->poll_ns = op.timeout;
    pv_sched_sleep(d, h->v, PV_SLEEP_POLL);
    if (op.timeout != 0) {
        pv_time_arm(d, &pv->poll_timer, op.timeout);
    }
    return 0;
}

/* --- The end of the domain -------------------------------------------------------------- */

static const enum stop_reason sched_stop_reason[] = {
    [SHUTDOWN_poweroff] = STOP_POWEROFF, [SHUTDOWN_reboot] = STOP_REBOOT,
    [SHUTDOWN_suspend] = STOP_SUSPEND,   [SHUTDOWN_crash] = STOP_CRASH,
    [SHUTDOWN_watchdog] = STOP_WATCHDOG, [SHUTDOWN_soft_reset] = STOP_SOFT_RESET,
};

void pv_sched_shutdown(struct pv_domain *d, struct vcpu *v, unsigned reason)
{
    g_assert(reason <= SCHED_SHUTDOWN_MAX);
    if (d->shutdown_code < 0) {
        d->shutdown_code = (int)reason;
        d->board->ops->stop(d->board, sched_stop_reason[reason], 0);
    }
    if (v != NULL) {
        pv_sched_sleep(d, v, PV_SLEEP_SHUTDOWN);
    }
}

void pv_sched_set_start_info(struct pv_domain *d, uint64_t mfn)
{
    if (d->shutdown_code < 0) {
        d->suspend_mfn = mfn;
    }
}

void pv_sched_resume(struct pv_domain *d, uint64_t result)
{
    d->shutdown_code = -1;
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct vcpu *v = pv_vcpu_cpu(d, i);

        if (v != NULL && d->vcpu[i].sleep == PV_SLEEP_SHUTDOWN) {
            v->cpu.gpr[CPU_RAX] = result;
            sched_end_sleep(d, i);
        }
    }
}

static int64_t sched_shutdown(struct hypercall *h)
{
    struct sched_shutdown op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.reason > SCHED_SHUTDOWN_MAX) {
        return -EINVAL;
    }
    pv_sched_set_start_info(h->d, h->arg[2]);
    pv_sched_shutdown(h->d, h->v, op.reason);
    return 0;
}

static int64_t sched_shutdown_code(struct hypercall *h)
{
    struct sched_shutdown op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.reason > SCHED_SHUTDOWN_MAX) {
        return -EINVAL;
    }
    h->d->shutdown_hint = (int)op.reason;
    return 0;
}

static int64_t sched_remote_shutdown(struct hypercall *h)
{
    struct sched_remote_shutdown op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    return op.domain_id == 0 || op.domain_id == h->d->domid ? -EPERM : -ESRCH;
}

/* --- Watchdog --------------------------------------------------------------------------- */

static void sched_watchdog_fired(void *opaque)
{
    struct pv_watchdog *w = opaque;

    if (!w->used) {
        return;
    }
    if (pv_time_now(w->domain) < w->deadline_ns) {
        pv_time_arm(w->domain, &w->timer, w->deadline_ns);
        return;
    }
    w->used = false;
    pv_sched_shutdown(w->domain, NULL, SHUTDOWN_watchdog);
}

static void sched_watchdog_arm(struct pv_watchdog *w, uint32_t seconds)
{
    w->used = true;
    w->deadline_ns = pv_time_now(w->domain) + (uint64_t)seconds * 1000000000u;
    pv_time_arm(w->domain, &w->timer, w->deadline_ns);
}

static int64_t sched_watchdog(struct hypercall *h)
{
    struct pv_domain *d = h->d;
    struct sched_watchdog op;
    struct pv_watchdog *w;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.id > PV_WATCHDOGS || (op.id == 0 && op.timeout == 0)) {
        return -EINVAL;
    }
    if (op.id == 0) {
        for (unsigned i = 0; i < PV_WATCHDOGS; i++) {
            if (!d->watchdog[i].used) {
                sched_watchdog_arm(&d->watchdog[i], op.timeout);
                return i + 1;
            }
        }
        return -ENOSPC;
    }
    w = &d->watchdog[op.id - 1];
    if (!w->used) {
        return -EINVAL;
    }
    if (op.timeout == 0) {
        w->used = false;
        d->board->ops->timer_cancel(d->board, &w->timer);
    } else {
        sched_watchdog_arm(w, op.timeout);
    }
    return 0;
}

int64_t sched_op(struct hypercall *h)
{
    switch ((uint32_t)h->arg[0]) {
    case SCHEDOP_yield:
        h->d->vcpu[h->v->id].yield = true;
        return 0;
    case SCHEDOP_block:
        return sched_block(h);
    case SCHEDOP_shutdown:
        return sched_shutdown(h);
    case SCHEDOP_poll:
        return sched_poll(h);
    case SCHEDOP_remote_shutdown:
        return sched_remote_shutdown(h);
    case SCHEDOP_shutdown_code:
        return sched_shutdown_code(h);
    case SCHEDOP_watchdog:
        return sched_watchdog(h);
    case SCHEDOP_pin_override:
        return -EPERM;
    default:
        return -ENOSYS;
    }
}

/* --- Life ------------------------------------------------------------------------------- */

void pv_sched_init(struct pv_domain *d)
{
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        d->vcpu[i].poll_timer = (struct timer){.fn = sched_poll_timeout, .opaque = &d->vcpu[i]};
    }
    for (unsigned i = 0; i < PV_WATCHDOGS; i++) {
        d->watchdog[i].domain = d;
        d->watchdog[i].timer =
            (struct timer){.fn = sched_watchdog_fired, .opaque = &d->watchdog[i]};
    }
}

void pv_sched_init_vcpu(struct pv_domain *d, unsigned vcpu)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    d->board->ops->timer_cancel(d->board, &pv->poll_timer);
    pv->poll_ns = 0;
    pv->poll_port = 0;
    pv->sleep = PV_SLEEP_NONE;
    pv->sleep_over = false;
    pv->yield = false;
}

void pv_sched_stop_watchdogs(struct pv_domain *d)
{
    for (unsigned i = 0; i < PV_WATCHDOGS; i++) {
        d->board->ops->timer_cancel(d->board, &d->watchdog[i].timer);
        d->watchdog[i].used = false;
    }
}

void pv_sched_reset(struct pv_domain *d)
{
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        pv_sched_init_vcpu(d, i);
    }
    pv_sched_stop_watchdogs(d);
    d->shutdown_code = -1;
    d->shutdown_hint = -1;
    d->suspend_mfn = 0;
}

void pv_sched_state(struct pv_domain *d, struct state *s)
{
    uint32_t code = (uint32_t)d->shutdown_code;
    uint32_t hint = (uint32_t)d->shutdown_hint;

    state_u32(s, "shutdown-code", &code);
    state_u32(s, "shutdown-hint", &hint);
    state_u64(s, "suspend-mfn", &d->suspend_mfn);
    if ((code != UINT32_MAX && code > SCHED_SHUTDOWN_MAX) ||
        (hint != UINT32_MAX && hint > SCHED_SHUTDOWN_MAX)) {
        state_fail(s, "shutdown code out of range");
        return;
    }
    d->shutdown_code = (int)code;
    d->shutdown_hint = (int)hint;
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct pv_vcpu *pv = &d->vcpu[i];
        uint32_t sleep = pv->sleep;

        state_u32(s, "sleep", &sleep);
        state_bool(s, "sleep-over", &pv->sleep_over);
        state_u32(s, "poll-port", &pv->poll_port);
        state_u64(s, "poll-ns", &pv->poll_ns);
        if (sleep > PV_SLEEP_SHUTDOWN) {
            state_fail(s, "vCPU sleep out of range");
            return;
        }
        pv->sleep = (enum pv_sleep)sleep;
    }
    for (unsigned i = 0; i < PV_WATCHDOGS; i++) {
        state_bool(s, "watchdog-used", &d->watchdog[i].used);
        state_u64(s, "watchdog-ns", &d->watchdog[i].deadline_ns);
    }
}
