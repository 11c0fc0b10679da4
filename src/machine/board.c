/* SPDX-License-Identifier: MIT */
/*
 * The board's services for devices, pv/ and engines: clock, timers, posted work, interrupts.
 *
 * One GSource on the main loop watches a timerfd and an eventfd. Both can be armed from any
 * thread; callbacks run on the main loop with the board lock held.
 */
#include "machine/machine_private.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/error.h"
#include "pv/evtchn.h"

enum {
    WORK_BUDGET = 256, /* pieces of work per turn of the main loop */
    PAUSE_MS = 2,      /* a shorter one is time that passes; pv/time.c takes none below 1 ms out */
};

__extension__ typedef unsigned __int128 uint128;

/* --- clock --- */

static uint64_t clock_ticks(const struct board_clock *c)
{
    uint64_t now = atomic_load(&c->frozen) ? c->frozen_tsc : __rdtsc();

    return now - atomic_load(&c->tsc_base);
}

static uint64_t board_now(struct board *b)
{
    const struct board_clock *c = &machine_of(b)->clock;

    return (uint64_t)((uint128)clock_ticks(c) * 1000000000 / c->tsc_hz);
}

static void clock_set_offsets(struct machine *m)
{
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        m->vcpus[i]->vcpu.cpu.tsc_offset = -(int64_t)atomic_load(&m->clock.tsc_base);
    }
}

void board_clock_start(struct machine *m)
{
    atomic_store(&m->clock.tsc_base, __rdtsc());
    m->clock.frozen_tsc = atomic_load(&m->clock.tsc_base);
    atomic_store(&m->clock.frozen, true);
    clock_set_offsets(m);
}

void board_clock_freeze(struct machine *m)
{
    if (!atomic_load(&m->clock.frozen)) {
        m->clock.frozen_tsc = __rdtsc();
        atomic_store(&m->clock.frozen, true);
    }
}

static void timers_program(struct machine *m);

void board_clock_thaw(struct machine *m)
{
    if (atomic_load(&m->clock.frozen)) {
        const uint64_t away = __rdtsc() - m->clock.frozen_tsc;

        if (away > m->clock.tsc_hz / 1000 * PAUSE_MS) {
            atomic_fetch_add(&m->clock.tsc_base, away);
        }
        atomic_store(&m->clock.frozen, false);
        clock_set_offsets(m);
        m->timer_programmed = UINT64_MAX;
        timers_program(m);
    }
}

/* --- timers --- */

/* Sets the timerfd for the first timer when it is earlier than what the timerfd is set for. */
static void timers_program(struct machine *m)
{
    struct itimerspec when = {0};
    uint64_t now, delta;

    if (m->timers == NULL || m->timers->deadline_ns >= m->timer_programmed ||
        atomic_load(&m->clock.frozen)) {
        return;
    }
    m->timer_programmed = m->timers->deadline_ns;
    now = board_now(&m->board);
    delta = m->timers->deadline_ns > now ? m->timers->deadline_ns - now : 1;
    delta = MIN(delta, 1ull << 60);
    when.it_value.tv_sec = (time_t)(delta / 1000000000);
    when.it_value.tv_nsec = (long)(delta % 1000000000);
    timerfd_settime(m->timer_fd, 0, &when, NULL);
}

static void board_timer_cancel(struct board *b, struct timer *t)
{
    struct machine *m = machine_of(b);

    if (!t->armed) {
        return;
    }
    for (struct timer **p = &m->timers; *p != NULL; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->armed = false;
}

static void board_timer_arm(struct board *b, struct timer *t, uint64_t deadline_ns)
{
    struct machine *m = machine_of(b);
    struct timer **p = &m->timers;

    board_timer_cancel(b, t);
    t->deadline_ns = deadline_ns;
    t->armed = true;
    while (*p != NULL && (*p)->deadline_ns <= deadline_ns) {
        p = &(*p)->next;
    }
    t->next = *p;
    *p = t;
    timers_program(m);
}

static void timers_run(struct machine *m)
{
    uint64_t now = board_now(&m->board);

    if (atomic_load(&m->clock.frozen)) {
        return;
    }
    m->timer_programmed = UINT64_MAX;
    for (unsigned i = 0; i < WORK_BUDGET && m->timers != NULL; i++) {
        struct timer *t = m->timers;

        if (t->deadline_ns > now) {
            break;
        }
        m->timers = t->next;
        t->armed = false;
        t->fn(t->opaque);
    }
    timers_program(m);
}

/* --- work --- */

static void work_signal(struct machine *m)
{
    uint64_t one = 1;

    while (write(m->work_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

static void board_post(struct board *b, struct work *w)
{
    struct machine *m = machine_of(b);
    bool first = false;

    g_mutex_lock(&m->work_lock);
    if (!w->posted) {
        first = m->works == NULL;
        w->posted = true;
        w->next = NULL;
        *m->works_tail = w;
        m->works_tail = &w->next;
    }
    g_mutex_unlock(&m->work_lock);
    if (first) {
        work_signal(m);
    }
}

static struct work *work_take(struct machine *m)
{
    struct work *w;

    g_mutex_lock(&m->work_lock);
    w = m->works;
    if (w != NULL) {
        m->works = w->next;
        if (m->works == NULL) {
            m->works_tail = &m->works;
        }
        w->posted = false;
    }
    g_mutex_unlock(&m->work_lock);
    return w;
}

static void works_run(struct machine *m)
{
    struct work *w = NULL;

    for (unsigned i = 0; i < WORK_BUDGET; i++) {
        w = work_take(m);
        if (w == NULL) {
            return;
        }
        w->fn(w->opaque);
    }
    work_signal(m); /* there may be more: let the rest of the main loop have a turn first */
}

/* --- the source on the main loop --- */

struct board_source {
    GSource source; /* first */
    struct machine *machine;
    gpointer timer_tag, work_tag;
};

static void drain_counter(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
}

static gboolean board_source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    struct board_source *bs = (struct board_source *)source;
    struct machine *m = bs->machine;

    (void)callback, (void)data;
    g_mutex_lock(&m->board.lock);
    if (g_source_query_unix_fd(source, bs->timer_tag) != 0) {
        drain_counter(m->timer_fd);
        timers_run(m);
    }
    if (g_source_query_unix_fd(source, bs->work_tag) != 0) {
        drain_counter(m->work_fd);
        works_run(m);
    }
    g_mutex_unlock(&m->board.lock);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs board_source_funcs = {.dispatch = board_source_dispatch};

/* --- the contract with devices --- */

static void board_set_irq(struct board *b, unsigned gsi, bool level)
{
    struct machine *m = machine_of(b);

    if (m->apic.ioapic != NULL) {
        ioapic_set_pin(m->apic.ioapic, gsi, level);
    }
}

static void board_apic_irq(struct board *b, unsigned vcpu, uint8_t vector)
{
    struct machine *m = machine_of(b);

    if (vcpu < m->apic.nr && !apics_irq(m, vcpu, vector)) {
        lapic_accept(m->apic.lapic[vcpu], vector, false);
    }
}

static void board_vcpu_request(struct board *b, unsigned vcpu, uint32_t bits)
{
    struct machine *m = machine_of(b);

    if (vcpu < m->nr_vcpus) {
        if (m->apics.away && (bits & VCPU_REQ_NMI) != 0) {
            bits |= VCPU_REQ_STOP; /* what it ends is to be known */
        }
        vcpu_request(&m->vcpus[vcpu]->vcpu, bits);
        run_wake(m->vcpus[vcpu]);
    }
}

static void board_vcpu_look(struct board *b, unsigned vcpu)
{
    struct machine *m = machine_of(b);

    if (vcpu < m->nr_vcpus) {
        apics_ask(m, vcpu);
    }
}

static struct vcpu *board_vcpu(struct board *b, unsigned id)
{
    struct machine *m = machine_of(b);

    return id < m->nr_vcpus ? &m->vcpus[id]->vcpu : NULL;
}

static unsigned board_nr_vcpus(struct board *b)
{
    return machine_of(b)->nr_vcpus;
}

static const struct board_ops machine_board_ops = {
    .now_ns = board_now,
    .timer_arm = board_timer_arm,
    .timer_cancel = board_timer_cancel,
    .post = board_post,
    .set_irq = board_set_irq,
    .apic_irq = board_apic_irq,
    .vcpu_request = board_vcpu_request,
    .vcpu = board_vcpu,
    .nr_vcpus = board_nr_vcpus,
    .stop = lifecycle_stop,
    .vcpu_start = run_vcpu_start,
    .vcpu_look = board_vcpu_look,
};

bool board_init(struct machine *m, GError **err)
{
    struct board_source *bs;

    m->board.ops = &machine_board_ops;
    g_mutex_init(&m->board.lock);
    g_mutex_init(&m->work_lock);
    m->works_tail = &m->works;
    m->timer_programmed = UINT64_MAX;
    m->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    m->work_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (m->timer_fd < 0 || m->work_fd < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot make the board's timer: %s",
                         g_strerror(errno));
    }
    m->source = g_source_new(&board_source_funcs, sizeof(struct board_source));
    bs = (struct board_source *)m->source;
    bs->machine = m;
    bs->timer_tag = g_source_add_unix_fd(m->source, m->timer_fd, G_IO_IN);
    bs->work_tag = g_source_add_unix_fd(m->source, m->work_fd, G_IO_IN);
    g_source_attach(m->source, m->context);
    return true;
}

void board_fini(struct machine *m)
{
    if (m->source != NULL) {
        g_source_destroy(m->source);
        g_source_unref(m->source);
    }
    close(m->timer_fd);
    close(m->work_fd);
    g_mutex_clear(&m->work_lock);
    g_mutex_clear(&m->board.lock);
}

/* --- the contract with engines --- */

static struct machine *machine_of_vcpu(const struct vcpu *v)
{
    return ((const struct vcpu_thread *)v)->machine;
}

static uint64_t vcpu_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    return bus_read(machine_of_vcpu(v)->pio, port, size);
}

static void vcpu_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    bus_write(machine_of_vcpu(v)->pio, port, size, value);
}

static bool is_lapic_page(const struct machine *m, uint64_t gpa)
{
    return m->apic.nr > 0 && !m->apics.away && gpa >> MEM_PAGE_SHIFT == LAPIC_GPA >> MEM_PAGE_SHIFT;
}

/*
 * An upcall that came while the local APIC was off was dropped by it, and the event code raises
 * the vector only when evtchn_upcall_pending goes from 0 to 1: so it is raised again when the
 * APIC goes on. Lock held.
 */
static void lapic_switched_on(struct machine *m, const struct vcpu *v)
{
    if (m->pv->vcpu[v->id].upcall_vector != 0 && evtchn_upcall_pending(m->pv, v->id)) {
        lapic_accept(m->apic.lapic[v->id], m->pv->vcpu[v->id].upcall_vector, false);
    }
}

static uint64_t vcpu_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    struct machine *m = machine_of_vcpu(v);
    uint64_t value;

    if (!is_lapic_page(m, gpa)) {
        return bus_read(m->mmio, gpa, size);
    }
    g_mutex_lock(&m->board.lock);
    value = lapic_read(m->apic.lapic[v->id], (uint32_t)gpa & 0xfff);
    g_mutex_unlock(&m->board.lock);
    return value;
}

static void vcpu_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    struct machine *m = machine_of_vcpu(v);
    bool was_on;

    if (!is_lapic_page(m, gpa)) {
        bus_write(m->mmio, gpa, size, value);
        return;
    }
    g_mutex_lock(&m->board.lock);
    was_on = lapic_enabled(m->apic.lapic[v->id]);
    lapic_write(m->apic.lapic[v->id], (uint32_t)gpa & 0xfff, (uint32_t)value);
    if (!was_on && lapic_enabled(m->apic.lapic[v->id])) {
        lapic_switched_on(m, v);
    }
    g_mutex_unlock(&m->board.lock);
}

static void vcpu_hypercall(struct vcpu *v)
{
    struct machine *m = machine_of_vcpu(v);
    bool yield;

    g_mutex_lock(&m->board.lock);
    if (G_UNLIKELY(v->rest != VCPU_RUNS)) {
        apics_runs((struct vcpu_thread *)v);
    }
    pv_hypercall(m->pv, v);
    yield = m->pv->vcpu[v->id].yield;
    m->pv->vcpu[v->id].yield = false;
    g_mutex_unlock(&m->board.lock);
    if (yield) {
        sched_yield();
    }
}

static int vcpu_irq_ack(struct vcpu *v)
{
    struct machine *m = machine_of_vcpu(v);
    int vector;

    g_mutex_lock(&m->board.lock);
    if (m->apics.away) {
        apics_again(m, v);
    }
    vector = pv_pending_vector(m->pv, v->id);
    if (vector < 0) {
        vector = lapic_ack(m->apic.lapic[v->id]);
    }
    if (lapic_pending(m->apic.lapic[v->id])) {
        vcpu_request(v, VCPU_REQ_IRQ);
    }
    g_mutex_unlock(&m->board.lock);
    return vector;
}

enum { MSR_XEN_HYPERCALL_PAGE = 0x40000000 };

static bool vcpu_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    struct machine *m = machine_of_vcpu(v);
    bool ok;

    if (index == MSR_XEN_HYPERCALL_PAGE) {
        *value = 0;
        return true;
    }
    g_mutex_lock(&m->board.lock);
    ok = lapic_rdmsr(m->apic.lapic[v->id], index, value);
    g_mutex_unlock(&m->board.lock);
    return ok;
}

static bool vcpu_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    struct machine *m = machine_of_vcpu(v);
    bool ok, was_on;

    g_mutex_lock(&m->board.lock);
    if (index == MSR_XEN_HYPERCALL_PAGE) {
        ok = pv_write_hypercall_msr(m->pv, v, value);
    } else {
        was_on = lapic_enabled(m->apic.lapic[v->id]);
        ok = lapic_wrmsr(m->apic.lapic[v->id], index, value);
        if (!was_on && lapic_enabled(m->apic.lapic[v->id])) {
            lapic_switched_on(m, v);
        }
    }
    g_mutex_unlock(&m->board.lock);
    return ok;
}

static uint64_t vcpu_read_cr8(struct vcpu *v)
{
    struct machine *m = machine_of_vcpu(v);
    uint64_t value;

    g_mutex_lock(&m->board.lock);
    value = lapic_read_cr8(m->apic.lapic[v->id]);
    g_mutex_unlock(&m->board.lock);
    return value;
}

static void vcpu_write_cr8(struct vcpu *v, uint64_t value)
{
    struct machine *m = machine_of_vcpu(v);

    g_mutex_lock(&m->board.lock);
    lapic_write_cr8(m->apic.lapic[v->id], value);
    g_mutex_unlock(&m->board.lock);
}

static void vcpu_irq_later(struct vcpu *v)
{
    struct machine *m = machine_of_vcpu(v);

    g_mutex_lock(&m->board.lock);
    apics_later(m, v);
    g_mutex_unlock(&m->board.lock);
}

static void vcpu_apic_eoi(struct vcpu *v, uint8_t vector)
{
    struct machine *m = machine_of_vcpu(v);

    g_mutex_lock(&m->board.lock);
    ioapic_eoi(m->apic.ioapic, vector);
    g_mutex_unlock(&m->board.lock);
}

const struct vcpu_board_ops machine_vcpu_ops = {
    .pio_read = vcpu_pio_read,
    .pio_write = vcpu_pio_write,
    .mmio_read = vcpu_mmio_read,
    .mmio_write = vcpu_mmio_write,
    .hypercall = vcpu_hypercall,
    .irq_ack = vcpu_irq_ack,
    .rdmsr = vcpu_rdmsr,
    .wrmsr = vcpu_wrmsr,
    .read_cr8 = vcpu_read_cr8,
    .write_cr8 = vcpu_write_cr8,
    .irq_later = vcpu_irq_later,
    .apic_eoi = vcpu_apic_eoi,
};
