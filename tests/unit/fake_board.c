/* SPDX-License-Identifier: MIT */
/* A board for unit tests: everything happens when the test says so. */
#include "fake_board.h"

#include "core/memory.h"

static struct fake_board *fb_of(struct board *b)
{
    return (struct fake_board *)b;
}

static uint64_t fake_now_ns(struct board *b)
{
    return fb_of(b)->now_ns;
}

static void fake_timer_cancel(struct board *b, struct timer *t)
{
    for (struct timer **p = &fb_of(b)->timers; *p != NULL; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->armed = false;
}

static void fake_timer_arm(struct board *b, struct timer *t, uint64_t deadline_ns)
{
    struct timer **p = &fb_of(b)->timers;

    fake_timer_cancel(b, t);
    t->deadline_ns = deadline_ns;
    t->armed = true;
    while (*p != NULL && (*p)->deadline_ns <= deadline_ns) {
        p = &(*p)->next;
    }
    t->next = *p;
    *p = t;
}

static void fake_post(struct board *b, struct work *w)
{
    struct work **p = &fb_of(b)->works;

    if (w->posted) {
        return;
    }
    w->posted = true;
    w->next = NULL;
    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = w;
}

static void fake_set_irq(struct board *b, unsigned gsi, bool level)
{
    struct fake_board *fb = fb_of(b);

    g_assert_cmpuint(gsi, <, FAKE_MAX_GSI);
    if (level && !fb->irq_level[gsi]) {
        fb->irq_raised[gsi]++;
    }
    fb->irq_level[gsi] = level;
}

static void fake_apic_irq(struct board *b, unsigned vcpu, uint8_t vector)
{
    struct fake_board *fb = fb_of(b);

    g_assert_cmpuint(vcpu, <, fb->nr_vcpus);
    fb->apic_irqs[vcpu]++;
    fb->last_apic_vector[vcpu] = vector;
}

static void fake_vcpu_request(struct board *b, unsigned vcpu, uint32_t bits)
{
    struct fake_board *fb = fb_of(b);

    g_assert_cmpuint(vcpu, <, fb->nr_vcpus);
    fb->requested[vcpu] |= bits;
    atomic_fetch_or(&fb->vcpus[vcpu]->request, bits);
}

static struct vcpu *fake_vcpu(struct board *b, unsigned id)
{
    return id < fb_of(b)->nr_vcpus ? fb_of(b)->vcpus[id] : NULL;
}

static unsigned fake_nr_vcpus(struct board *b)
{
    return fb_of(b)->nr_vcpus;
}

static void fake_stop(struct board *b, enum stop_reason reason, int code)
{
    struct fake_board *fb = fb_of(b);

    if (!fb->stopped) {
        fb->stopped = true;
        fb->stop_reason = reason;
        fb->stop_code = code;
    }
}

static const struct board_ops fake_board_ops = {
    .now_ns = fake_now_ns, .timer_arm = fake_timer_arm, .timer_cancel = fake_timer_cancel,
    .post = fake_post, .set_irq = fake_set_irq, .apic_irq = fake_apic_irq,
    .vcpu_request = fake_vcpu_request, .vcpu = fake_vcpu, .nr_vcpus = fake_nr_vcpus,
    .stop = fake_stop,
};

struct fake_board *fake_board_new(unsigned nr_vcpus, uint64_t ram_bytes, uint32_t extra)
{
    struct fake_board *fb = g_new0(struct fake_board, 1);

    g_assert_cmpuint(nr_vcpus, <=, FAKE_MAX_VCPUS);
    fb->board.ops = &fake_board_ops;
    g_mutex_init(&fb->board.lock);
    if (ram_bytes > 0) {
        fb->board.mem = mem_new(ram_bytes, extra, NULL);
        g_assert_nonnull(fb->board.mem);
    }
    fb->nr_vcpus = nr_vcpus;
    for (unsigned i = 0; i < nr_vcpus; i++) {
        fb->vcpus[i] = g_aligned_alloc0(1, sizeof(struct vcpu), 64);
        fb->vcpus[i]->id = i;
        fb->vcpus[i]->mem = fb->board.mem;
        fb->vcpus[i]->board = &fb->board;
        cpu_reset(&fb->vcpus[i]->cpu);
    }
    return fb;
}

void fake_board_free(struct fake_board *fb)
{
    for (unsigned i = 0; i < fb->nr_vcpus; i++) {
        g_aligned_free(fb->vcpus[i]);
    }
    mem_free(fb->board.mem);
    g_mutex_clear(&fb->board.lock);
    g_free(fb);
}

void fake_board_advance(struct fake_board *fb, uint64_t ns)
{
    uint64_t end = fb->now_ns + ns;

    g_mutex_lock(&fb->board.lock);
    while (fb->timers != NULL && fb->timers->deadline_ns <= end) {
        struct timer *t = fb->timers;

        fb->timers = t->next;
        t->armed = false;
        fb->now_ns = MAX(fb->now_ns, t->deadline_ns);
        t->fn(t->opaque);
    }
    fb->now_ns = end;
    g_mutex_unlock(&fb->board.lock);
}

unsigned fake_board_run(struct fake_board *fb)
{
    unsigned ran = 0;

    g_mutex_lock(&fb->board.lock);
    while (fb->works != NULL) {
        struct work *w = fb->works;

        fb->works = w->next;
        w->posted = false;
        w->fn(w->opaque);
        ran++;
        g_assert_cmpuint(ran, <, 100000);
    }
    g_mutex_unlock(&fb->board.lock);
    return ran;
}
