/* SPDX-License-Identifier: MIT */
/*
 * The guest's life: start, pause, resume, reset, end.
 *
 * A stop can come from any thread at any moment (a hypercall, a triple fault, the debug-exit
 * port). It is noted once, every vCPU parks at its next instruction boundary, and the main loop
 * decides.
 */
#include "machine/machine_private.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "boot/boot_image.h"
#include "pv/console.h"
#include "pv/pv_guest.h"

/* Less would only have the guest's kernel kill everything. */
#define MACHINE_MIN_MEMORY (16ull << 20)

static void machine_set_state(struct machine *m, enum machine_run_state state)
{
    if (m->state == state) {
        return;
    }
    m->state = state;
    if (m->events.state_changed != NULL) {
        m->events.state_changed(m->events_opaque, state);
    }
}

void lifecycle_stop_message(struct machine *m, enum stop_reason reason, int code,
                            const char *message)
{
    bool expected = false;

    if (!atomic_compare_exchange_strong(&m->stop_posted, &expected, true)) {
        return; /* the first reason wins */
    }
    m->end.reason = reason;
    m->end.code = code;
    g_strlcpy(m->end.message, message, sizeof(m->end.message));
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        vcpu_request(&m->vcpus[i]->vcpu, VCPU_REQ_STOP);
        run_wake(m->vcpus[i]);
    }
    m->board.ops->post(&m->board, &m->stop_work);
}

void lifecycle_stop(struct board *b, enum stop_reason reason, int code)
{
    struct machine *m = machine_of(b);
    const struct pv_guest *guest = m->pv != NULL ? m->pv->guest : NULL;

    /* What a PV guest did that no domain may do, with the lock that its hypervisor has. */
    lifecycle_stop_message(m, reason, code,
                           reason == STOP_CRASH && guest != NULL ? guest->crash : "");
}

/* Tells the owner and does what it says; board lock not held. Returns what was done. */
static enum config_action lifecycle_stopped(struct machine *m)
{
    enum config_action action = ACTION_EXIT;
    g_autoptr(GError) err = NULL;

    if (m->events.stopped != NULL) {
        action = m->events.stopped(m->events_opaque, &m->end);
    }
    if (action == ACTION_RESET && !machine_reset(m, &err)) {
        m->end.reason = STOP_ENGINE_ERROR;
        g_strlcpy(m->end.message, err->message, sizeof(m->end.message));
        action = ACTION_EXIT;
        if (m->events.stopped != NULL) {
            m->events.stopped(m->events_opaque, &m->end);
        }
    }
    return action;
}

/* On the main loop, lock held. */
static void lifecycle_stop_work(void *opaque)
{
    struct machine *m = opaque;
    enum config_action action;

    if (!atomic_load(&m->stop_posted)) {
        return; /* a reset came in between */
    }
    run_park(m);
    board_clock_freeze(m);
    pv_console_flush(m->pv_console); /* what it said before it stopped counts before */
    g_mutex_unlock(&m->board.lock);
    action = lifecycle_stopped(m);
    if (action == ACTION_EXIT) {
        machine_set_state(m, MACHINE_ENDED);
    } else if (action == ACTION_PAUSE) {
        machine_set_state(m, MACHINE_PAUSED);
    }
    g_mutex_lock(&m->board.lock);
}

void lifecycle_init(struct machine *m)
{
    m->stop_work.fn = lifecycle_stop_work;
    m->stop_work.opaque = m;
    m->hold = true;
    g_cond_init(&m->parked);
    g_cond_init(&m->resume);
}

bool machine_start(struct machine *m, GError **err)
{
    if (!run_start(m, err)) {
        return false;
    }
    confine_filter(m);
    machine_set_state(m, MACHINE_PAUSED);
    if (!m->config->paused) {
        machine_resume(m);
    }
    return true;
}

void machine_pause(struct machine *m)
{
    g_mutex_lock(&m->board.lock);
    run_park(m);
    board_clock_freeze(m);
    g_mutex_unlock(&m->board.lock);
    if (m->state == MACHINE_RUNNING) {
        machine_set_state(m, MACHINE_PAUSED);
    }
}

void machine_resume(struct machine *m)
{
    if (m->state != MACHINE_PAUSED || atomic_load(&m->stop_posted)) {
        return; /* ended, or held after its end: nothing that could run */
    }
    g_mutex_lock(&m->board.lock);
    board_clock_thaw(m);
    pv_time_update(m->pv);
    run_unpark(m);
    g_mutex_unlock(&m->board.lock);
    machine_set_state(m, MACHINE_RUNNING);
}

void machine_flush_console(struct machine *m)
{
    g_mutex_lock(&m->board.lock);
    pv_console_flush(m->pv_console);
    g_mutex_unlock(&m->board.lock);
}

enum machine_run_state machine_state(const struct machine *m)
{
    return m->state;
}

bool machine_reset(struct machine *m, GError **err)
{
    bool ok;

    if (!boot_image_restore_content(m->image, err)) {
        return false;
    }
    g_mutex_lock(&m->board.lock);
    run_park(m);
    g_mutex_unlock(&m->board.lock);
    devices_reset_back_ends(
        m); /* lets go of the old guest's memory; completions need the lock */
    g_mutex_lock(&m->board.lock);
    mem_clear(m->board.mem);
    pv_domain_reset(m->pv);
    devices_reset_chips(m);
    g_mutex_unlock(&m->board.lock);
    devices_reset_back_ends(m); /* the new xenstore has lost their nodes: makes them again */
    g_mutex_lock(&m->board.lock);
    ok = machine_load(m, err);
    atomic_store(&m->stop_posted, false);
    memset(&m->end, 0, sizeof(m->end));
    g_mutex_unlock(&m->board.lock);
    if (ok) {
        machine_set_state(m, MACHINE_PAUSED);
        machine_resume(m);
    }
    return ok;
}

bool machine_request_shutdown(struct machine *m, const char *word)
{
    bool heard;

    g_mutex_lock(&m->board.lock);
    heard = m->state == MACHINE_RUNNING && pv_domain_request_shutdown(m->pv, word);
    g_mutex_unlock(&m->board.lock);
    return heard;
}

const char *machine_suspend(struct machine *m)
{
    const char *why;

    if (m->state != MACHINE_RUNNING) {
        return "it does not run";
    }
    g_mutex_lock(&m->board.lock);
    why = pv_domain_deaf(m->pv, "suspend");
    if (why == NULL) {
        pv_domain_request_shutdown(m->pv, "suspend");
    }
    g_mutex_unlock(&m->board.lock);
    return why;
}

bool machine_withdraw_suspend(struct machine *m)
{
    bool ok;

    g_mutex_lock(&m->board.lock);
    ok = pv_domain_withdraw_shutdown(m->pv, "suspend");
    g_mutex_unlock(&m->board.lock);
    return ok;
}

static bool machine_suspended(struct machine *m)
{
    return m->state == MACHINE_PAUSED && atomic_load(&m->stop_posted) &&
           m->end.reason == STOP_SUSPEND;
}

bool machine_resume_suspended(struct machine *m, bool cancelled, GError **err)
{
    bool ok;

    if (!machine_suspended(m)) {
        return error_set(err, PVEMU_ERROR_GUEST, "the guest is not suspended");
    }
    /* What a boot loader has started is not known. */
    if (cancelled && m->image->boot_loader == NULL && !m->image->notes.suspend_cancel) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "its kernel does not know a suspend that is cancelled (no ELF note "
                         "SUSPEND_CANCEL); it can go on as in a new domain");
    }
    if (!cancelled) {
        devices_reset_back_ends(m); /* what is in flight ends in the old rings */
    }
    g_mutex_lock(&m->board.lock);
    ok = pv_domain_resume(m->pv, cancelled, err);
    if (ok && !cancelled) {
        run_forget_down(m);
        pv_console_rebind(m->pv_console);
    }
    for (unsigned i = 0; ok && i < m->nr_vcpus; i++) {
        struct vcpu *v = &m->vcpus[i]->vcpu;

        if (v->accel->state_changed != NULL) {
            v->accel->state_changed(v);
        }
    }
    if (ok) {
        memset(&m->end, 0, sizeof(m->end));
        atomic_store(&m->stop_posted, false);
    }
    g_mutex_unlock(&m->board.lock);
    if (ok) {
        machine_resume(m);
    }
    return ok;
}

unsigned machine_vcpus(struct machine *m)
{
    unsigned nr;

    g_mutex_lock(&m->board.lock);
    nr = m->pv->nr_vcpus;
    g_mutex_unlock(&m->board.lock);
    return nr;
}

const char *machine_set_vcpus(struct machine *m, unsigned nr)
{
    if (nr < 1 || nr > m->nr_vcpus) {
        g_autofree char *why =
            g_strdup_printf("it was started with -smp for 1 to %u", m->nr_vcpus);

        return g_intern_string(why); /* there are few of them */
    }
    if (m->state == MACHINE_ENDED) {
        return "the guest has ended";
    }
    if (machine_suspended(m)) { /* Linux looks at its new watch of all CPUs as at none */
        return "it is suspended and would not notice; resume it first";
    }
    g_mutex_lock(&m->board.lock);
    pv_domain_set_vcpus(m->pv, nr);
    g_mutex_unlock(&m->board.lock);
    return NULL;
}

void machine_memory(struct machine *m, uint64_t *target, uint64_t *actual)
{
    g_mutex_lock(&m->board.lock);
    *target = m->pv->target_kib * 1024;
    *actual = pv_domain_memory(m->pv);
    g_mutex_unlock(&m->board.lock);
}

const char *machine_set_memory(struct machine *m, uint64_t bytes)
{
    const uint64_t max = m->config->memory_max_bytes;

    if (bytes < MACHINE_MIN_MEMORY || bytes > max) {
        g_autofree char *why = g_strdup_printf(
            "it was started with -m for 16M to %" G_GUINT64_FORMAT "M", max >> 20);

        return g_intern_string(why);
    }
    if (m->state == MACHINE_ENDED) {
        return "the guest has ended";
    }
    g_mutex_lock(&m->board.lock);
    pv_domain_set_memory(m->pv, bytes & ~(uint64_t)(MEM_PAGE_SIZE - 1));
    g_mutex_unlock(&m->board.lock);
    return NULL;
}

uint64_t machine_uptime_ns(struct machine *m)
{
    return board_now_ns(&m->board);
}
