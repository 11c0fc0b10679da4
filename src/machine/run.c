/* SPDX-License-Identifier: MIT */
/*
 * vCPU threads: one per vCPU, running its engine and handling what it returns with.
 *
 * A halted vCPU sleeps in a futex on its own request word, so a wake-up needs no lock: set a
 * bit, and if the sleeper announced itself, wake it. To park a vCPU, VCPU_REQ_STOP is set and
 * the thread waits on `resume` until `hold` is gone.
 */
#include "machine/machine_private.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

static void futex_wait(const _Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(const _Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void run_wake(struct vcpu_thread *vt)
{
    if (atomic_load(&vt->sleeping)) {
        futex_wake(&vt->vcpu.request);
    }
}

/* An interrupt is waiting that RFLAGS.IF lets in. Board lock held. */
static bool vcpu_interrupted(struct machine *m, const struct vcpu *v)
{
    return (v->cpu.rflags & CPU_IF) != 0 &&
           (lapic_pending(m->apic.lapic[v->id]) || pv_pending_vector(m->pv, v->id) >= 0);
}

/* Whether a halted vCPU (HLT, or asleep in a hypercall) goes on; clears cpu.halted if so. Lock
 * held. */
static bool vcpu_awake(struct machine *m, struct vcpu *v)
{
    bool in_hypercall = pv_vcpu_sleeping(m->pv, v);

    if (in_hypercall && vcpu_interrupted(m, v)) {
        pv_vcpu_wake(m->pv, v->id);
        in_hypercall = pv_vcpu_sleeping(m->pv, v);
    }
    if (!in_hypercall && v->cpu.halted &&
        (vcpu_interrupted(m, v) || (v->cpu.nmi_pending && !v->cpu.nmi_blocked))) {
        v->cpu.halted = false;
    }
    return !v->cpu.halted;
}

/* Sleeps until the halted vCPU may go on or somebody wants it to stop. */
static void run_sleep(struct machine *m, struct vcpu_thread *vt)
{
    struct vcpu *v = &vt->vcpu;
    bool awake;

    g_mutex_lock(&m->board.lock);
    pv_vcpu_blocked(m->pv, v->id);
    g_mutex_unlock(&m->board.lock);
    for (;;) {
        uint32_t seen;

        atomic_store(&vt->sleeping, true);
        seen = atomic_load(&v->request);
        if ((seen & VCPU_REQ_STOP) != 0) {
            break;
        }
        if ((seen & VCPU_REQ_NMI) != 0) {
            atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_NMI);
            v->cpu.nmi_pending = true;
        }
        /* Clear before looking: a later event sets it again and ends the wait below. */
        seen = atomic_fetch_and(&v->request, ~(uint32_t)VCPU_REQ_IRQ) & ~(uint32_t)VCPU_REQ_IRQ;
        g_mutex_lock(&m->board.lock);
        awake = vcpu_awake(m, v);
        g_mutex_unlock(&m->board.lock);
        if (awake) {
            atomic_fetch_or(&v->request, VCPU_REQ_IRQ);
            break;
        }
        futex_wait(&v->request, seen);
    }
    atomic_store(&vt->sleeping, false);
    g_mutex_lock(&m->board.lock);
    pv_vcpu_running(m->pv, v->id);
    g_mutex_unlock(&m->board.lock);
}

static void exit_kick(struct vcpu_thread *vt, const struct exit *exit)
{
    (void)vt, (void)exit; /* the loop looks at `hold` anyway */
}

static void exit_halt(struct vcpu_thread *vt, const struct exit *exit)
{
    struct machine *m = vt->machine;
    struct vcpu *v = &vt->vcpu;
    bool off;

    (void)exit;
    if ((v->cpu.rflags & CPU_IF) != 0 || v->cpu.nmi_pending) {
        return;
    }
    g_mutex_lock(&m->board.lock);
    off = !pv_vcpu_sleeping(m->pv, v) && v->cpu.halted;
    g_mutex_unlock(&m->board.lock);
    if (off) { /* HLT that nothing can end is how a PVH guest powers off (docs/xen.md) */
        log_debug(LOG_MACHINE, "vCPU %u: HLT with interrupts off", v->id);
        lifecycle_stop(&m->board, STOP_POWEROFF, 0);
    }
}

static void exit_shutdown(struct vcpu_thread *vt, const struct exit *exit)
{
    vt->vcpu.cpu.halted = true;
    lifecycle_stop_message(vt->machine, STOP_TRIPLE_FAULT, exit->message);
}

static void exit_debug(struct vcpu_thread *vt, const struct exit *exit)
{
    (void)vt, (void)exit; /* no debugger can be attached yet */
}

static void exit_error(struct vcpu_thread *vt, const struct exit *exit)
{
    vt->vcpu.cpu.halted = true;
    lifecycle_stop_message(vt->machine, STOP_ENGINE_ERROR, exit->message);
}

static void (*const exit_handlers[])(struct vcpu_thread *vt, const struct exit *exit) = {
    [EXIT_KICK] = exit_kick,   [EXIT_HALT] = exit_halt,   [EXIT_SHUTDOWN] = exit_shutdown,
    [EXIT_DEBUG] = exit_debug, [EXIT_ERROR] = exit_error,
};

/* Waits while the machine is held. Returns false when the thread shall end. */
static bool run_may_go(struct vcpu_thread *vt)
{
    struct machine *m = vt->machine;
    bool go;

    g_mutex_lock(&m->board.lock);
    atomic_fetch_and(&vt->vcpu.request, ~(uint32_t)VCPU_REQ_STOP);
    while ((m->hold || atomic_load(&m->stop_posted)) && !m->quit) {
        vt->stopped = true;
        g_cond_broadcast(&m->parked);
        g_cond_wait(&m->resume, &m->board.lock);
        atomic_fetch_and(&vt->vcpu.request, ~(uint32_t)VCPU_REQ_STOP);
    }
    go = !m->quit;
    vt->stopped = !go;
    g_mutex_unlock(&m->board.lock);
    return go;
}

static gpointer run_thread(gpointer data)
{
    struct vcpu_thread *vt = data;
    struct machine *m = vt->machine;
    struct vcpu *v = &vt->vcpu;
    struct exit exit;
    bool confined = false;

    while (run_may_go(vt)) {
        if (!confined) {
            confine_vcpu(m);
            confined = true;
        }
        if (v->cpu.halted) {
            run_sleep(m, vt);
            continue;
        }
        memset(&exit, 0, sizeof(exit));
        v->accel->run(v, &exit);
        exit_handlers[exit.kind](vt, &exit);
    }
    return NULL;
}

bool run_start(struct machine *m, GError **err)
{
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        g_autofree char *name = g_strdup_printf("pvemu-vcpu%u", i);

        m->vcpus[i]->thread = g_thread_try_new(name, run_thread, m->vcpus[i], err);
        if (m->vcpus[i]->thread == NULL) {
            return false;
        }
    }
    return true;
}

void run_park(struct machine *m)
{
    m->hold = true;
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];

        while (vt->thread != NULL && !vt->stopped) {
            vcpu_request(&vt->vcpu, VCPU_REQ_STOP);
            run_wake(vt);
            g_cond_wait(&m->parked, &m->board.lock);
        }
    }
}

void run_unpark(struct machine *m)
{
    m->hold = false;
    g_cond_broadcast(&m->resume);
}

void run_join(struct machine *m)
{
    g_mutex_lock(&m->board.lock);
    m->quit = true;
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        vcpu_request(&m->vcpus[i]->vcpu, VCPU_REQ_STOP);
        run_wake(m->vcpus[i]);
    }
    g_cond_broadcast(&m->resume);
    g_mutex_unlock(&m->board.lock);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        if (m->vcpus[i]->thread != NULL) {
            g_thread_join(m->vcpus[i]->thread);
            m->vcpus[i]->thread = NULL;
        }
    }
}
