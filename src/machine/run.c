/* SPDX-License-Identifier: MIT */
/*
 * vCPU threads: one per vCPU, running its engine and handling what it returns with.
 *
 * A halted vCPU sleeps in a futex on its own request word, so a wake-up needs no lock: set a
 * bit, and if the sleeper announced itself, wake it. To park a vCPU, VCPU_REQ_STOP is set and
 * the thread waits on `resume` until `hold` is gone.
 *
 * When local APICs are the engine's (apics.c), it does all that inside its run().
 *
 * INIT, start-up messages and VCPUOP_up are noted in struct vcpu_thread and carried out by the
 * vCPU's own thread on its way to the next run, so nobody else touches a running vCPU's state.
 */
#include "machine/machine_private.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
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
    return v->pv == NULL && (v->cpu.rflags & CPU_IF) != 0 &&
           (lapic_pending(m->apic.lapic[v->id]) || pv_pending_vector(m->pv, v->id) >= 0);
}

/* Whether a halted vCPU (HLT, or asleep in a hypercall) goes on; clears cpu.halted if so. Lock
 * held. */
static bool vcpu_awake(struct machine *m, struct vcpu_thread *vt)
{
    struct vcpu *v = &vt->vcpu;
    bool in_hypercall;

    if (vt->off || m->pv->vcpu[v->id].held) {
        return false;
    }
    in_hypercall = pv_vcpu_sleeping(m->pv, v);
    if (in_hypercall && vcpu_interrupted(m, v)) {
        pv_vcpu_wake(m->pv, v->id);
        in_hypercall = pv_vcpu_sleeping(m->pv, v);
    }
    if (vt->dead && m->pv->vcpu[v->id].up) { /* VCPUOP_up, since: behind its HLT */
        v->cpu.halted = false;
    }
    if (!in_hypercall && v->cpu.halted &&
        (vcpu_interrupted(m, v) || (v->cpu.nmi_pending && !v->cpu.nmi_blocked))) {
        v->cpu.halted = false;
    }
    return !v->cpu.halted;
}

/* One look at what may end the sleep, with the request word as it was in *seen. */
static bool run_look(struct machine *m, struct vcpu_thread *vt, uint32_t *seen)
{
    struct vcpu *v = &vt->vcpu;
    const uint32_t events = VCPU_REQ_IRQ | VCPU_REQ_NMI;
    bool awake;

    g_mutex_lock(&m->board.lock);
    /* Cleared before looking: a later event sets it again and ends the futex wait. */
    *seen = atomic_fetch_and(&v->request, ~events);
    if ((*seen & VCPU_REQ_NMI) != 0 && !vt->off) {
        v->cpu.nmi_pending = true;
    }
    *seen &= ~events;
    awake = vcpu_awake(m, vt);
    if (awake) {
        vt->dead = false;
        pv_vcpu_running(m->pv, v->id);
        atomic_fetch_or(&v->request, VCPU_REQ_IRQ); /* what was cleared */
    }
    g_mutex_unlock(&m->board.lock);
    return awake;
}

/* Sleeps until the halted vCPU may go on or somebody wants it to stop. */
static void run_sleep(struct machine *m, struct vcpu_thread *vt)
{
    struct vcpu *v = &vt->vcpu;
    uint32_t seen;

    g_mutex_lock(&m->board.lock);
    pv_vcpu_blocked(m->pv, v->id);
    g_mutex_unlock(&m->board.lock);
    atomic_store(&vt->sleeping, true);
    while (!run_look(m, vt, &seen) && (seen & VCPU_REQ_STOP) == 0) {
        futex_wait(&v->request, seen);
    }
    atomic_store(&vt->sleeping, false);
}

/* --- INIT, SIPI, start ------------------------------------------------------------------ */

bool run_all_dead(const struct machine *m)
{
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        const struct vcpu_thread *vt = m->vcpus[i];
        const struct pv_vcpu *pv = &m->pv->vcpu[i];
        const bool waits = vt->off || vt->dead || pv->held || pv->sleep == PV_SLEEP_DOWN;

        if (!waits || vt->init || vt->sipi >= 0 || vt->start ||
            (vt->dead && (atomic_load(&vt->vcpu.request) & VCPU_REQ_NMI) != 0)) {
            return false;
        }
    }
    return true;
}

void run_reset_vcpu(struct vcpu_thread *vt, bool off)
{
    cpu_reset(&vt->vcpu.cpu);
    atomic_store(&vt->vcpu.request, 0);
    vt->vcpu.cpu.halted = off;
    vt->off = off;
    vt->dead = vt->init = vt->start = false;
    vt->sipi = -1;
}

void run_forget_down(struct machine *m)
{
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];

        if (!m->pv->vcpu[i].up) {
            vt->off = true;
            vt->dead = vt->start = false;
            vt->vcpu.cpu.halted = true;
        }
    }
}

/* What INIT leaves alone: the clocks. */
static void run_init(struct vcpu_thread *vt)
{
    struct cpu_x86 *cpu = &vt->vcpu.cpu;
    const int64_t tsc_offset = cpu->tsc_offset, tsc_adjust = cpu->tsc_adjust;
    const uint64_t apic_base = cpu->apic_base;

    cpu_reset(cpu);
    cpu->tsc_offset = tsc_offset;
    cpu->tsc_adjust = tsc_adjust;
    cpu->apic_base = apic_base;
    cpu->halted = true;
    vt->off = true;
    vt->dead = false;
    pv_vcpu_init(vt->machine->pv, vt->vcpu.id);
}

static void run_go(struct vcpu_thread *vt)
{
    vt->off = false;
    vt->vcpu.cpu.halted = false;
    pv_vcpu_running(vt->machine->pv, vt->vcpu.id);
    if (vt->vcpu.accel->state_changed != NULL) {
        vt->vcpu.accel->state_changed(&vt->vcpu);
    }
}

/* Carries out what was noted. On the vCPU's thread, lock held. */
static void run_power(struct vcpu_thread *vt)
{
    struct cpu_x86 *cpu = &vt->vcpu.cpu;

    if (vt->init) {
        vt->init = false;
        run_init(vt);
    }
    if (vt->sipi >= 0 && vt->off) {
        cpu->seg[CPU_CS].selector = (uint16_t)(vt->sipi << 8);
        cpu->seg[CPU_CS].base = (uint64_t)vt->sipi << 12;
        cpu->rip = 0;
        run_go(vt);
    }
    if (vt->start && vt->off) {
        run_go(vt);
    }
    vt->sipi = -1; /* one that comes to a running CPU is lost */
    vt->start = false;
    if (vt->off && !vt->machine->apics.away && run_all_dead(vt->machine)) {
        lifecycle_stop(&vt->machine->board, STOP_POWEROFF, 0);
    }
}

void run_init_sipi(void *opaque, unsigned vcpu, bool sipi, uint8_t vector)
{
    struct machine *m = opaque;
    struct vcpu_thread *vt = m->vcpus[vcpu];

    log_debug(LOG_MACHINE, "vCPU %u: %s 0x%x", vcpu, sipi ? "SIPI" : "INIT", vector);
    if (!sipi) {
        vt->init = true;
        vt->sipi = -1;
    } else if (vt->init || vt->off) {
        vt->sipi = vector;
    } else {
        return;
    }
    vcpu_request(&vt->vcpu, VCPU_REQ_STOP);
    run_wake(vt);
}

void run_vcpu_start(struct board *b, unsigned vcpu)
{
    struct machine *m = machine_of(b);
    struct vcpu_thread *vt = m->vcpus[vcpu];

    vt->start = true;
    vcpu_request(&vt->vcpu, VCPU_REQ_STOP);
    run_wake(vt);
}

/* --- exits ------------------------------------------------------------------------------ */

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
    vt->dead = !pv_vcpu_sleeping(m->pv, v) && v->cpu.halted;
    if (vt->dead) {
        pv_vcpu_dead(m->pv, v->id);
    }
    off = vt->dead && run_all_dead(m);
    g_mutex_unlock(&m->board.lock);
    if (off) { /* HLT that nothing can end is how a PVH guest powers off (docs/xen.md) */
        log_debug(LOG_MACHINE, "vCPU %u: HLT with interrupts off", v->id);
        lifecycle_stop(&m->board, STOP_POWEROFF, 0);
    }
}

static void exit_shutdown(struct vcpu_thread *vt, const struct exit *exit)
{
    vt->vcpu.cpu.halted = true;
    lifecycle_stop_message(vt->machine, STOP_TRIPLE_FAULT, 0, exit->message);
}

static void exit_debug(struct vcpu_thread *vt, const struct exit *exit)
{
    (void)vt, (void)exit; /* no debugger can be attached yet */
}

static void exit_error(struct vcpu_thread *vt, const struct exit *exit)
{
    vt->vcpu.cpu.halted = true;
    lifecycle_stop_message(vt->machine, STOP_ENGINE_ERROR, 0, exit->message);
}

static void (*const exit_handlers[])(struct vcpu_thread *vt, const struct exit *exit) = {
    [EXIT_KICK] = exit_kick,   [EXIT_HALT] = exit_halt,   [EXIT_SHUTDOWN] = exit_shutdown,
    [EXIT_DEBUG] = exit_debug, [EXIT_ERROR] = exit_error,
};

/* Waits while the machine is held. Returns false when the thread shall end; *asleep: there is
 * nothing to run. */
static bool run_may_go(struct vcpu_thread *vt, bool *asleep)
{
    struct machine *m = vt->machine;
    bool go;

    g_mutex_lock(&m->board.lock);
    if (vt->vcpu.accel->sync != NULL &&
        (m->hold || (atomic_load(&vt->vcpu.request) & VCPU_REQ_STOP) != 0)) {
        vt->vcpu.accel->sync(&vt->vcpu); /* others may look at the state or change it now */
    }
    atomic_fetch_and(&vt->vcpu.request, ~(uint32_t)VCPU_REQ_STOP);
    while ((m->hold || atomic_load(&m->stop_posted)) && !m->quit) {
        vt->stopped = true;
        g_cond_broadcast(&m->parked);
        g_cond_wait(&m->resume, &m->board.lock);
        atomic_fetch_and(&vt->vcpu.request, ~(uint32_t)VCPU_REQ_STOP);
    }
    go = !m->quit;
    vt->stopped = !go;
    if (go) {
        run_power(vt);
    }
    if (m->apics.away) {
        apics_tell(vt);
    }
    *asleep = !m->apics.away &&
              (vt->off || vt->vcpu.cpu.halted || m->pv->vcpu[vt->vcpu.id].held);
    g_mutex_unlock(&m->board.lock);
    return go;
}

static gpointer run_thread(gpointer data)
{
    struct vcpu_thread *vt = data;
    struct machine *m = vt->machine;
    struct vcpu *v = &vt->vcpu;
    struct exit exit;
    bool confined = false, asleep;

    while (run_may_go(vt, &asleep)) {
        if (!confined) {
            confine_vcpu(m);
            confined = true;
        }
        if (asleep) {
            run_sleep(m, vt);
            continue;
        }
        memset(&exit, 0, sizeof(exit));
        v->accel->run(v, &exit);
        if (v->accel->apic != NULL) {
            g_mutex_lock(&m->board.lock);
            apics_hear(vt);
            g_mutex_unlock(&m->board.lock);
        }
        exit_handlers[exit.kind](vt, &exit);
    }
    return NULL;
}

/* Threads inherit the mask. Signals for the process are the main thread's business: in
 * translated code the stack is none for their handlers. */
static void run_mask_signals(sigset_t *before)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT,
                                  SIGWINCH, SIGCHLD, SIGALRM, SIGTTIN, SIGTTOU};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaddset(&set, signals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, before);
}

bool run_start(struct machine *m, GError **err)
{
    sigset_t before;
    bool ok = true;

    run_mask_signals(&before);
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        g_autofree char *name = g_strdup_printf("pvemu-vcpu%u", i);

        m->vcpus[i]->thread = g_thread_try_new(name, run_thread, m->vcpus[i], err);
        if (m->vcpus[i]->thread == NULL) {
            ok = false;
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

static bool run_asked_to_stop(struct machine *m)
{
    bool running = false;

    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu_thread *vt = m->vcpus[i];

        if (vt->thread != NULL && !vt->stopped) {
            vcpu_request(&vt->vcpu, VCPU_REQ_STOP);
            run_wake(vt);
            running = true;
        }
    }
    return running;
}

/* All are asked before any is waited for: a vCPU may be in another one's way. */
void run_stop(struct machine *m)
{
    m->hold = true;
    while (run_asked_to_stop(m)) {
        g_cond_wait(&m->parked, &m->board.lock);
    }
}

void run_release(struct machine *m)
{
    m->hold = false;
    g_cond_broadcast(&m->resume);
}

void run_park(struct machine *m)
{
    run_stop(m);
    apics_take(m);
}

void run_unpark(struct machine *m)
{
    apics_give(m);
    run_release(m);
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
