/* SPDX-License-Identifier: MIT */
/*
 * Local APICs that are the engine's while the guest runs (accel_ops.apic): they go to it from
 * hw/lapic.c when the vCPUs are let go, and come back when all are parked, so that pause, reset,
 * suspend and another engine find everything at home.
 *
 * What is different meanwhile: messages go to the engine; an upcall that no APIC has taken is
 * tried again; and since HLT is carried out unseen, a clock looks after vCPUs that have not come
 * out for a while: one that halts with interrupts off is down, and when all are the guest has
 * powered itself off.
 */
#include "machine/machine_private.h"

#include "base/log.h"
#include "pv/evtchn.h"

#define RETRY_FIRST_NS 1000000ull    /* then twice as long each time, up to */
#define RETRY_LAST_NS  1000000000ull
#define WATCH_FIRST_NS 500000000ull  /* the same, while no vCPU comes out */
#define WATCH_LAST_NS  8000000000ull

static const struct accel_apic_ops *apics_ops(const struct machine *m)
{
    return m->accel->apic;
}

static void apics_failed(struct machine *m, const struct exit *exit)
{
    lifecycle_stop_message(m, exit->kind == EXIT_SHUTDOWN ? STOP_TRIPLE_FAULT : STOP_ENGINE_ERROR, 0,
                           exit->message);
}

/* --- what a vCPU does, for the engine and by it --- */

static bool apics_is_down(const struct vcpu_thread *vt)
{
    const struct pv_vcpu *pv = &vt->machine->pv->vcpu[vt->vcpu.id];

    return vt->dead || vt->off || pv->held || pv->sleep == PV_SLEEP_DOWN;
}

/* One more is down: when it was the last, apics_watch() is not to wait. */
static void apics_went_down(struct machine *m)
{
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        if (!apics_is_down(m->vcpus[i])) {
            return;
        }
    }
    if (m->apics.away) {
        m->board.ops->timer_arm(&m->board, &m->apics.watch, board_now_ns(&m->board));
    }
}

void apics_tell(struct vcpu_thread *vt)
{
    struct vcpu *v = &vt->vcpu;
    struct pv_vcpu *pv = &vt->machine->pv->vcpu[v->id];
    const bool sleeps = pv_vcpu_sleeping(vt->machine->pv, v); /* clears cpu.halted at its end */

    if (vt->dead && pv->up) { /* VCPUOP_up, since: behind its HLT */
        vt->dead = false;
        v->cpu.halted = false;
    }
    if (vt->off) {
        v->rest = VCPU_OFF;
    } else if (pv->held ||
               (sleeps && pv->sleep != PV_SLEEP_BLOCK && pv->sleep != PV_SLEEP_POLL)) {
        v->rest = VCPU_KEPT;
        pv_vcpu_blocked(vt->machine->pv, v->id);
    } else {
        v->rest = v->cpu.halted ? VCPU_HALTS : VCPU_RUNS;
        if (!vt->dead) { /* one that sleeps counts as running: how long it does is not told */
            pv_vcpu_running(vt->machine->pv, v->id);
        }
    }
}

/* A sleep in a hypercall has been ended by an interrupt. */
static void apics_end_sleep(struct vcpu_thread *vt)
{
    struct pv_domain *d = vt->machine->pv;

    pv_vcpu_wake(d, vt->vcpu.id);
    pv_vcpu_sleeping(d, &vt->vcpu);
}

void apics_hear(struct vcpu_thread *vt)
{
    struct pv_domain *d = vt->machine->pv;
    struct vcpu *v = &vt->vcpu;

    switch (v->rest) {
    case VCPU_KEPT:
        return;
    case VCPU_OFF:
        v->cpu.halted = true;
        vt->dead = false;
        if (!vt->off) {
            vt->off = true;
            pv_vcpu_init(d, v->id);
        }
        return;
    case VCPU_HALTS:
    case VCPU_DEAD:
        vt->off = false;
        /* Of a sleep that is over KVM need not know yet: it is no HLT. */
        if (v->rest_same && (d->vcpu[v->id].sleep != PV_SLEEP_NONE || !v->cpu.halted)) {
            pv_vcpu_sleeping(d, v);
            return;
        }
        apics_end_sleep(vt);
        v->cpu.halted = true;
        if (v->rest == VCPU_DEAD && !vt->dead) {
            log_debug(LOG_MACHINE, "vCPU %u: HLT with interrupts off", v->id);
            vt->dead = true;
            pv_vcpu_dead(d, v->id);
            pv_vcpu_blocked(d, v->id);
            apics_went_down(vt->machine);
        }
        vt->dead = v->rest == VCPU_DEAD;
        return;
    default:
        vt->off = vt->dead = false;
        apics_end_sleep(vt);
        v->cpu.halted = false;
        pv_vcpu_running(d, v->id);
        return;
    }
}

void apics_runs(struct vcpu_thread *vt)
{
    struct machine *m = vt->machine;
    struct vcpu *v = &vt->vcpu;

    v->rest = VCPU_RUNS;
    apics_hear(vt);
    if ((m->apics.again >> v->id & 1) != 0) {
        atomic_fetch_or(&v->request, VCPU_REQ_IRQ);
    }
}

/* --- messages --- */

/* apic_bus.away */
static void apics_message(void *opaque, uint32_t address, uint32_t data)
{
    struct machine *m = opaque;

    apics_ops(m)->message(&m->vcpus[0]->vcpu, address, data);
}

static bool apics_send(struct machine *m, unsigned vcpu, uint8_t vector)
{
    const uint32_t id = lapic_id(m->apic.lapic[vcpu]);

    return apics_ops(m)->message(&m->vcpus[vcpu]->vcpu, (uint32_t)LAPIC_GPA | id << 12, vector);
}

static bool apics_upcall_waits(const struct machine *m, unsigned vcpu)
{
    return m->pv->vcpu[vcpu].upcall_vector != 0 && evtchn_upcall_pending(m->pv, vcpu);
}

/* Whether there is nothing left to do about the upcall of a vCPU. */
static bool apics_upcall(struct machine *m, unsigned vcpu)
{
    return !apics_upcall_waits(m, vcpu) ||
           apics_send(m, vcpu, m->pv->vcpu[vcpu].upcall_vector);
}

static void apics_retry_in(struct machine *m, uint64_t ns)
{
    m->apics.retry_ns = ns;
    m->board.ops->timer_arm(&m->board, &m->apics.retry, board_now_ns(&m->board) + ns);
}

bool apics_irq(struct machine *m, unsigned vcpu, uint8_t vector)
{
    struct vcpu *v = &m->vcpus[vcpu]->vcpu;

    if (!m->apics.away) {
        return false;
    }
    if (!apics_send(m, vcpu, vector)) {
        m->apics.again |= 1ull << vcpu;
        atomic_fetch_or(&v->request, VCPU_REQ_IRQ); /* at its next exit, which need not be soon */
        apics_retry_in(m, RETRY_FIRST_NS);
    }
    return true;
}

void apics_again(struct machine *m, struct vcpu *v)
{
    const uint64_t bit = 1ull << v->id;

    if ((m->apics.again & bit) == 0) {
        return;
    }
    if (apics_upcall(m, v->id)) {
        m->apics.again &= ~bit;
    } else if (v->rest == VCPU_RUNS) {
        atomic_fetch_or(&v->request, VCPU_REQ_IRQ);
    }
}

void apics_later(struct machine *m, struct vcpu *v)
{
    const uint64_t bit = 1ull << v->id;

    if (v->rest == VCPU_RUNS) {
        atomic_fetch_or(&v->request, VCPU_REQ_IRQ); /* at each exit */
    }
    if ((m->apics.later & bit) == 0 || m->apics.retry_ns > RETRY_FIRST_NS) {
        m->apics.later |= bit;
        apics_retry_in(m, RETRY_FIRST_NS);
    }
}

/* Timer. */
static void apics_retry(void *opaque)
{
    struct machine *m = opaque;

    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        if ((m->apics.again >> i & 1) != 0 && apics_upcall(m, i)) {
            m->apics.again &= ~(1ull << i);
        }
        if ((m->apics.later >> i & 1) != 0) {
            if (pv_pending_vector(m->pv, i) < 0) {
                m->apics.later &= ~(1ull << i);
            } else {
                m->board.ops->vcpu_request(&m->board, i, VCPU_REQ_IRQ);
            }
        }
    }
    if ((m->apics.again | m->apics.later) != 0) {
        apics_retry_in(m, MIN(m->apics.retry_ns * 2, RETRY_LAST_NS));
    }
}

/* --- vCPUs that do not come out --- */

static void apics_watch_later(struct machine *m)
{
    m->board.ops->timer_arm(&m->board, &m->apics.watch,
                            board_now_ns(&m->board) + m->apics.watch_ns);
}

/* All seem to be down: whether they are, none running. */
static void apics_look_at_all(struct machine *m)
{
    run_stop(m);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        apics_ops(m)->look(&m->vcpus[i]->vcpu);
        apics_hear(m->vcpus[i]);
    }
    if (run_all_dead(m)) {
        lifecycle_stop(&m->board, STOP_POWEROFF, 0);
    }
    run_release(m);
}

void apics_ask(struct machine *m, unsigned vcpu)
{
    if (m->apics.away) {
        vcpu_request(&m->vcpus[vcpu]->vcpu, VCPU_REQ_STOP);
    }
}

/* Timer. Who has not come out since the last time is made to, and says what it does. */
static void apics_watch(void *opaque)
{
    struct machine *m = opaque;
    bool quiet = true, all = true;

    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];
        const uint64_t entries = apics_ops(m)->entries(&vt->vcpu);

        if (entries == vt->entries && !apics_is_down(vt)) {
            vcpu_request(&vt->vcpu, VCPU_REQ_STOP);
            vt->entries = entries + 1; /* by that */
        } else {
            quiet = quiet && entries == vt->entries;
            vt->entries = entries;
        }
        all = all && apics_is_down(vt);
    }
    if (all) {
        apics_look_at_all(m);
    }
    m->apics.watch_ns = quiet && !all ? MIN(m->apics.watch_ns * 2, WATCH_LAST_NS) : WATCH_FIRST_NS;
    apics_watch_later(m);
}

/* --- there and back --- */

void apics_give(struct machine *m)
{
    struct exit exit = {0};

    if (apics_ops(m) == NULL || m->apics.away) {
        return;
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];
        struct vcpu_apic apic;

        lapic_give(m->apic.lapic[i], &apic);
        apics_tell(vt);
        if (!apics_ops(m)->load(&vt->vcpu, &apic, &exit)) {
            apics_failed(m, &exit);
        }
    }
    m->apics.away = true;
    m->apic.away = apics_message;
    m->apics.retry.fn = apics_retry;
    m->apics.watch.fn = apics_watch;
    m->apics.retry.opaque = m->apics.watch.opaque = m;
    ioapic_resend(m->apic.ioapic);
    for (unsigned i = 0; i < m->nr_vcpus; i++) { /* not taken when it was off: once too often */
        atomic_fetch_or(&m->vcpus[i]->vcpu.request, VCPU_REQ_IRQ);
        if (apics_upcall_waits(m, i)) {
            m->apics.again |= 1ull << i;
            apics_retry_in(m, RETRY_FIRST_NS);
        }
    }
    m->apics.watch_ns = WATCH_FIRST_NS;
    apics_watch_later(m);
}

void apics_take(struct machine *m)
{
    const struct accel_apic_ops *ops = apics_ops(m);
    struct exit exit = {0};

    if (!m->apics.away) {
        return;
    }
    /* What KVM was about to deliver may touch devices, which take the lock. */
    g_mutex_unlock(&m->board.lock);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        if (!ops->settle(&m->vcpus[i]->vcpu, &exit)) {
            apics_failed(m, &exit);
        }
    }
    g_mutex_lock(&m->board.lock);
    m->apics.away = false;
    m->apic.away = NULL;
    m->board.ops->timer_cancel(&m->board, &m->apics.retry);
    m->board.ops->timer_cancel(&m->board, &m->apics.watch);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_apic apic;

        if (ops->fetch(&m->vcpus[i]->vcpu, &apic, &exit)) {
            lapic_take(m->apic.lapic[i], &apic);
        } else {
            apics_failed(m, &exit);
        }
        apics_hear(m->vcpus[i]);
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) { /* dropped before; or still, if it is off */
        if ((m->apics.again >> i & 1) != 0 && apics_upcall_waits(m, i)) {
            lapic_accept(m->apic.lapic[i], m->pv->vcpu[i].upcall_vector, false);
        }
    }
    m->apics.again = m->apics.later = 0;
}
