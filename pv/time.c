/* SPDX-License-Identifier: MIT */
/*
 * Guest time, pvclock pages, wall clock, runstate and timers (xen/xen.h vcpu_time_info,
 * xen/vcpu.h; xen-abi 4.5).
 *
 * guest_ns = ns0 + scale(host TSC - tsc0); guest TSC = host TSC + the vCPU's tsc_offset, so
 * every vCPU computes the same time from its own page. Nothing is corrected later: a clock that
 * follows the host's NTP would run apart from the guest's arithmetic, and timers would fire
 * early. Instead deadlines are converted at arming and looked at again when the board timer
 * fires.
 */
#include "pv/time.h"

#include <errno.h>
#include <glib.h>
#include <x86intrin.h>

#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/shared.h"
#include "pv/xen_abi.h"

enum {
    TIME_PAUSE_NS = 1000000, /* guest time ahead of board time by more: there was a pause */
    TIME_PERIODIC_PV_NS = 10000000, /* PV guests start with a 100 Hz timer */
};
#define TIME_MAX_AHEAD_NS (1ull << 56) /* two years: timers beyond are as good as never */
#define TIME_NS_PER_S     1000000000ull

__extension__ typedef unsigned __int128 u128;

/* struct vcpu_runstate_info as 32-bit code has it. */
struct time_runstate_32 {
    int32_t state;
    uint64_t state_entry_time, time[4];
} __attribute__((packed));

struct pv_time {
    struct pv_time_scale scale;
    uint64_t tsc0, ns0;
    uint64_t board_ns, guest_ns; /* one instant, as seen by both clocks */
    bool loaded;                 /* ns0 is the time at which a loaded guest goes on */
};

/* --- Arithmetic ------------------------------------------------------------------------- */

struct pv_time_scale pv_time_scale_of(uint64_t hz)
{
    struct pv_time_scale scale = {0, 0};
    u128 mul = ((u128)TIME_NS_PER_S << 32) / MAX(hz, 1u);

    while (mul > UINT32_MAX) { /* slower than 1 GHz */
        mul >>= 1;
        scale.shift++;
    }
    if (scale.shift == 0) {
        /* Faster than 1 GHz: shift ticks down and keep 32 significant bits of mul. */
        unsigned down = 0;

        while (down < 31 && (((u128)TIME_NS_PER_S << (33 + down)) / hz) <= UINT32_MAX) {
            down++;
        }
        mul = ((u128)TIME_NS_PER_S << (32 + down)) / hz;
        scale.shift = (int8_t) - (int)down;
    } else {
        mul = ((u128)TIME_NS_PER_S << 32) / ((u128)MAX(hz, 1u) << scale.shift);
    }
    scale.mul = (uint32_t)mul;
    return scale;
}

uint64_t pv_time_ticks_to_ns(struct pv_time_scale scale, uint64_t ticks)
{
    ticks = scale.shift < 0 ? ticks >> -scale.shift : ticks << scale.shift;
    return (uint64_t)(((u128)ticks * scale.mul) >> 32);
}

static uint64_t pv_time_host_tsc(struct pv_domain *d)
{
    return d->board->ops->host_tsc != NULL ? d->board->ops->host_tsc(d->board) : __rdtsc();
}

static uint64_t pv_time_at(const struct pv_time *t, uint64_t host_tsc)
{
    uint64_t delta = host_tsc - t->tsc0;

    /* The TSC of another core may be a little behind where they are not in step. */
    return (int64_t)delta < 0 ? t->ns0 : t->ns0 + pv_time_ticks_to_ns(t->scale, delta);
}

uint64_t pv_time_now(struct pv_domain *d)
{
    return d->time->loaded ? d->time->ns0 : pv_time_at(d->time, pv_time_host_tsc(d));
}

/* Guest time now with pauses taken out, by the board's clock. */
static uint64_t pv_time_unpaused(struct pv_domain *d, uint64_t host_tsc)
{
    struct pv_time *t = d->time;
    uint64_t by_tsc = pv_time_at(t, host_tsc);
    uint64_t by_board = t->guest_ns + (board_now_ns(d->board) - t->board_ns);

    if (t->loaded) {
        return t->ns0;
    }
    return by_tsc > by_board && by_tsc - by_board > TIME_PAUSE_NS ? by_board : by_tsc;
}

/* --- Pages ------------------------------------------------------------------------------ */

static void pv_time_fill(struct pv_domain *d, unsigned vcpu, struct vcpu_time_info *info)
{
    const struct pv_time *t = d->time;
    struct vcpu *v = pv_vcpu_cpu(d, vcpu);

    info->pad0 = 0;
    info->tsc_timestamp = t->tsc0 + (v != NULL ? (uint64_t)v->cpu.tsc_offset : 0);
    info->system_time = t->ns0;
    info->tsc_to_system_mul = t->scale.mul;
    info->tsc_shift = t->scale.shift;
    info->flags = d->tsc_stable ? XEN_PVCLOCK_TSC_STABLE_BIT : 0;
    info->pad1[0] = info->pad1[1] = 0;
}

void pv_time_write_vcpu(struct pv_domain *d, unsigned vcpu)
{
    uint32_t *shared = (uint32_t *)(void *)&pv_vcpu_info_32(d, vcpu)->time;
    uint32_t version = __atomic_load_n(shared, __ATOMIC_RELAXED) | 1;
    union {
        struct vcpu_time_info info;
        uint32_t word[sizeof(struct vcpu_time_info) / sizeof(uint32_t)];
    } time;

    G_STATIC_ASSERT(offsetof(struct vcpu_time_info, version) == 0);
    pv_time_fill(d, vcpu, &time.info);
    /* Odd while the fields change: readers try again (xen/xen.h). */
    __atomic_store_n(shared, version, __ATOMIC_SEQ_CST);
    for (unsigned i = offsetof(struct vcpu_time_info, tsc_timestamp) / sizeof(uint32_t);
         i < G_N_ELEMENTS(time.word); i++) {
        __atomic_store_n(&shared[i], time.word[i], __ATOMIC_RELAXED);
    }
    __atomic_store_n(shared, version + 1, __ATOMIC_SEQ_CST);
    pv_vcpu_info_written(d, vcpu);
}

/* To an area that the kernel registered, wherever the vCPU runs: a PV guest's programs have
 * tables of their own, without it. */
static bool time_put(struct pv_domain *d, struct vcpu *v, uint64_t gva, const void *buf,
                     size_t len)
{
    return d->guest != NULL ? pv_kernel_copy(d, v, gva, (void *)(uintptr_t)buf, len, true)
                            : guest_write(v, gva, buf, len);
}

static bool time_get(struct pv_domain *d, struct vcpu *v, uint64_t gva, void *buf, size_t len)
{
    return d->guest != NULL ? pv_kernel_copy(d, v, gva, buf, len, false)
                            : guest_read(v, gva, buf, len);
}

bool pv_time_write_area(struct pv_domain *d, unsigned vcpu)
{
    uint64_t gva = d->vcpu[vcpu].time_gva;
    struct vcpu *v = pv_vcpu_cpu(d, vcpu);
    struct vcpu_time_info info;
    uint32_t version = 0;
    uint32_t odd;

    if (gva == 0 || v == NULL) {
        return true;
    }
    if (!time_get(d, v, gva, &version, sizeof(version))) {
        return false;
    }
    odd = version | 1;
    pv_time_fill(d, vcpu, &info);
    info.version = odd;
    version = odd + 1;
    return time_put(d, v, gva, &odd, sizeof(odd)) && time_put(d, v, gva, &info, sizeof(info)) &&
           time_put(d, v, gva, &version, sizeof(version));
}

void pv_time_write_wallclock(struct pv_domain *d)
{
    const struct pv_wallclock wc = pv_shared_wallclock(d);
    uint64_t epoch_ns = (uint64_t)g_get_real_time() * 1000 - d->time->ns0;
    uint64_t sec = epoch_ns / TIME_NS_PER_S;
    uint32_t version = __atomic_load_n(wc.version, __ATOMIC_RELAXED) | 1;

    __atomic_store_n(wc.version, version, __ATOMIC_SEQ_CST);
    __atomic_store_n(wc.sec, (uint32_t)sec, __ATOMIC_RELAXED);
    __atomic_store_n(wc.sec_hi, (uint32_t)(sec >> 32), __ATOMIC_RELAXED);
    __atomic_store_n(wc.nsec, (uint32_t)(epoch_ns % TIME_NS_PER_S), __ATOMIC_RELAXED);
    __atomic_store_n(wc.version, version + 1, __ATOMIC_SEQ_CST);
}

/* --- Timers ----------------------------------------------------------------------------- */

void pv_time_arm(struct pv_domain *d, struct timer *t, uint64_t guest_ns)
{
    struct pv_time *time = d->time;
    uint64_t ahead;

    time->board_ns = board_now_ns(d->board);
    time->guest_ns = pv_time_now(d);
    ahead = guest_ns > time->guest_ns ? guest_ns - time->guest_ns : 0;
    d->board->ops->timer_arm(d->board, t, time->board_ns + MIN(ahead, TIME_MAX_AHEAD_NS));
}

static void pv_time_singleshot_fired(void *opaque)
{
    struct pv_vcpu *pv = opaque;
    struct pv_domain *d = pv->domain;

    if (pv->singleshot_ns == 0) {
        return;
    }
    if (pv_time_now(d) < pv->singleshot_ns) {
        pv_time_arm(d, &pv->singleshot, pv->singleshot_ns);
        return;
    }
    pv->singleshot_ns = 0;
    evtchn_virq(d, pv->id, VIRQ_TIMER);
}

static void pv_time_periodic_fired(void *opaque)
{
    struct pv_vcpu *pv = opaque;
    struct pv_domain *d = pv->domain;
    uint64_t now = pv_time_now(d);

    if (pv->periodic_ns == 0) {
        return;
    }
    if (now >= pv->periodic_next_ns) {
        evtchn_virq(d, pv->id, VIRQ_TIMER);
        pv->periodic_next_ns += pv->periodic_ns;
        if (pv->periodic_next_ns <= now) {
            pv->periodic_next_ns = now + pv->periodic_ns; /* missed ticks are not made up for */
        }
    }
    pv_time_arm(d, &pv->periodic, pv->periodic_next_ns);
}

void pv_time_set_singleshot(struct pv_domain *d, unsigned vcpu, uint64_t deadline_ns)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    pv->singleshot_ns = deadline_ns;
    if (deadline_ns == 0) {
        d->board->ops->timer_cancel(d->board, &pv->singleshot);
    } else {
        pv_time_arm(d, &pv->singleshot, deadline_ns);
    }
}

void pv_time_set_periodic(struct pv_domain *d, unsigned vcpu, uint64_t period_ns)
{
    struct pv_vcpu *pv = &d->vcpu[vcpu];

    pv->periodic_ns = period_ns;
    if (period_ns == 0) {
        d->board->ops->timer_cancel(d->board, &pv->periodic);
    } else {
        pv->periodic_next_ns = pv_time_now(d) + period_ns;
        pv_time_arm(d, &pv->periodic, pv->periodic_next_ns);
    }
}

int64_t set_timer_op(struct hypercall *h)
{
    struct pv_domain *d = h->d;
    /* 32-bit callers pass the two halves. */
    uint64_t timeout = h->compat ? (h->arg[0] & UINT32_MAX) | h->arg[1] << 32 : h->arg[0];
    uint64_t now = pv_time_now(d);

    if (timeout == 0) {
        pv_time_set_singleshot(d, h->v->id, 0);
        return 0;
    }
    /* Old Linux sets absurd deadlines now and then and means "soon" (xen-abi 2.4). */
    if ((int64_t)timeout < 0 || (timeout > now && (timeout - now) >> 50 != 0)) {
        timeout = now + 100000000;
    }
    pv_time_set_singleshot(d, h->v->id, timeout);
    return 0;
}

/* --- Runstate --------------------------------------------------------------------------- */

void pv_time_runstate(struct pv_domain *d, unsigned vcpu, uint32_t state)
{
    struct pv_runstate *r = &d->vcpu[vcpu].runstate;
    uint64_t now = pv_time_now(d);

    if (r->state == state) {
        return;
    }
    if (now > r->entry_ns) {
        r->time_ns[r->state] += now - r->entry_ns;
        r->entry_ns = now;
    }
    r->state = state;
    d->time->board_ns = board_now_ns(d->board);
    d->time->guest_ns = now;
    pv_time_write_runstate(d, vcpu);
}

void pv_time_get_runstate(struct pv_domain *d, unsigned vcpu, struct vcpu_runstate_info *info)
{
    const struct pv_runstate *r = &d->vcpu[vcpu].runstate;
    uint64_t now = pv_time_now(d);

    *info =
        (struct vcpu_runstate_info){.state = (int)r->state, .state_entry_time = r->entry_ns};
    for (unsigned i = 0; i < 4; i++) {
        info->time[i] = r->time_ns[i];
    }
    if (now > r->entry_ns) {
        info->time[r->state] += now - r->entry_ns;
    }
}

bool pv_time_put_runstate(struct pv_domain *d, struct vcpu *v, uint64_t gva, bool is_32bit,
                          const struct vcpu_runstate_info *info)
{
    struct time_runstate_32 info32 = {.state = info->state,
                                      .state_entry_time = info->state_entry_time};

    if (!is_32bit) {
        return time_put(d, v, gva, info, sizeof(*info));
    }
    for (unsigned i = 0; i < 4; i++) {
        info32.time[i] = info->time[i];
    }
    return time_put(d, v, gva, &info32, sizeof(info32));
}

void pv_time_write_runstate(struct pv_domain *d, unsigned vcpu)
{
    const struct pv_vcpu *pv = &d->vcpu[vcpu];
    struct vcpu *v = pv_vcpu_cpu(d, vcpu);
    struct vcpu_runstate_info info = {
        .state = (int)pv->runstate.state,
        .state_entry_time = pv->runstate.entry_ns,
    };
    const uint64_t at =
        pv->runstate_gva + (pv->runstate_32bit
                                ? offsetof(struct time_runstate_32, state_entry_time)
                                : offsetof(struct vcpu_runstate_info, state_entry_time));

    if (pv->runstate_gva == 0 || v == NULL) {
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        info.time[i] = pv->runstate.time_ns[i];
    }
    /* Failures are the guest's own: the area is simply not updated (xen-abi 4.5). */
    if ((d->vm_assist & 1u << VMASST_TYPE_runstate_update_flag) == 0) {
        pv_time_put_runstate(d, v, pv->runstate_gva, pv->runstate_32bit, &info);
        return;
    }
    info.state_entry_time |= XEN_RUNSTATE_UPDATE;
    if (time_put(d, v, at, &info.state_entry_time, sizeof(uint64_t)) &&
        pv_time_put_runstate(d, v, pv->runstate_gva, pv->runstate_32bit, &info)) {
        info.state_entry_time &= ~XEN_RUNSTATE_UPDATE;
        time_put(d, v, at, &info.state_entry_time, sizeof(uint64_t));
    }
}

/* --- Life ------------------------------------------------------------------------------- */

struct pv_time *pv_time_new(struct pv_domain *d)
{
    struct pv_time *t = g_new0(struct pv_time, 1);

    t->scale = pv_time_scale_of(d->tsc_hz);
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        d->vcpu[i].singleshot =
            (struct timer){.fn = pv_time_singleshot_fired, .opaque = &d->vcpu[i]};
        d->vcpu[i].periodic =
            (struct timer){.fn = pv_time_periodic_fired, .opaque = &d->vcpu[i]};
    }
    return t;
}

void pv_time_free(struct pv_time *t)
{
    g_free(t);
}

static void pv_time_stop_timers(struct pv_domain *d)
{
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        d->board->ops->timer_cancel(d->board, &d->vcpu[i].singleshot);
        d->board->ops->timer_cancel(d->board, &d->vcpu[i].periodic);
        d->vcpu[i].singleshot_ns = d->vcpu[i].periodic_ns = 0;
    }
}

/* Starts guest time anew at guest_ns, now. */
static void pv_time_start(struct pv_domain *d, uint64_t host_tsc, uint64_t guest_ns)
{
    struct pv_time *t = d->time;

    t->tsc0 = host_tsc;
    t->ns0 = guest_ns;
    t->board_ns = board_now_ns(d->board);
    t->guest_ns = guest_ns;
    t->loaded = false;
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        pv_time_write_vcpu(d, i);
        pv_time_write_area(d, i);
    }
    pv_time_write_wallclock(d);
}

void pv_time_reset(struct pv_domain *d)
{
    pv_time_stop_timers(d);
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        uint32_t state = i < d->nr_vcpus ? RUNSTATE_running : RUNSTATE_offline;

        d->vcpu[i].runstate = (struct pv_runstate){.state = state};
    }
    pv_time_start(d, pv_time_host_tsc(d), 0);
    for (unsigned i = 0; d->kind == PV_KIND_PV && i < d->nr_vcpus; i++) {
        pv_time_set_periodic(d, i, TIME_PERIODIC_PV_NS);
    }
}

void pv_time_renew(struct pv_domain *d)
{
    const uint64_t host_tsc = pv_time_host_tsc(d);
    const uint64_t now = pv_time_unpaused(d, host_tsc);

    pv_time_stop_timers(d);
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        uint32_t state = d->vcpu[i].up ? RUNSTATE_running : RUNSTATE_offline;

        d->vcpu[i].runstate = (struct pv_runstate){.state = state, .entry_ns = now};
    }
    pv_time_start(d, host_tsc, now);
    for (unsigned i = 0; d->kind == PV_KIND_PV && i < d->max_vcpus; i++) {
        if (d->vcpu[i].up) {
            pv_time_set_periodic(d, i, TIME_PERIODIC_PV_NS);
        }
    }
}

void pv_time_update(struct pv_domain *d)
{
    uint64_t host_tsc = pv_time_host_tsc(d);

    pv_time_start(d, host_tsc, pv_time_unpaused(d, host_tsc));
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct pv_vcpu *pv = &d->vcpu[i];

        if (pv->singleshot_ns != 0) {
            pv_time_arm(d, &pv->singleshot, pv->singleshot_ns);
        }
        if (pv->periodic_ns != 0) {
            pv_time_arm(d, &pv->periodic, pv->periodic_next_ns);
        }
        if (pv->sleep == PV_SLEEP_POLL && pv->poll_ns != 0) {
            pv_time_arm(d, &pv->poll_timer, pv->poll_ns);
        }
    }
    for (unsigned i = 0; i < PV_WATCHDOGS; i++) {
        if (d->watchdog[i].used) {
            pv_time_arm(d, &d->watchdog[i].timer, d->watchdog[i].deadline_ns);
        }
    }
}

void pv_time_state(struct pv_domain *d, struct state *s)
{
    uint64_t now = pv_time_unpaused(d, pv_time_host_tsc(d));

    state_u64(s, "guest-ns", &now);
    if (state_loading(s) && state_ok(s)) {
        d->time->ns0 = now;
        d->time->loaded = true; /* goes on from here at pv_time_update */
    }
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct pv_vcpu *pv = &d->vcpu[i];

        state_u64(s, "singleshot-ns", &pv->singleshot_ns);
        state_u64(s, "periodic-ns", &pv->periodic_ns);
        state_u64(s, "periodic-next-ns", &pv->periodic_next_ns);
        state_u32(s, "runstate", &pv->runstate.state);
        state_u64(s, "runstate-entry-ns", &pv->runstate.entry_ns);
        for (unsigned k = 0; k < 4; k++) {
            state_u64(s, "runstate-time-ns", &pv->runstate.time_ns[k]);
        }
        if (pv->periodic_ns != 0 && pv->periodic_ns < 1000000) {
            pv->periodic_ns = 0;
            state_fail(s, "periodic timer faster than 1 ms");
        }
        if (pv->runstate.state > RUNSTATE_offline) {
            pv->runstate.state = RUNSTATE_running;
            state_fail(s, "runstate out of range");
        }
    }
}
