/* SPDX-License-Identifier: MIT */
/* Shared rings: indices, wrapping, pages, notification, and a front end that cheats. */
#include <glib.h>
#include <stdatomic.h>
#include <string.h>

#include "pv/ring.h"

enum { REQ_PROD = 0, REQ_EVENT = 1, RSP_PROD = 2, RSP_EVENT = 3 };

struct front {
    uint8_t *page[4]; /* deliberately not adjacent */
    unsigned nr_pages;
    struct ring ring;
};

static uint32_t *front_word(struct front *f, unsigned index)
{
    return (uint32_t *)(void *)f->page[0] + index;
}

static void front_init(struct front *f, unsigned nr_pages, unsigned entry_size)
{
    memset(f, 0, sizeof(*f));
    f->nr_pages = nr_pages;
    for (unsigned i = 0; i < nr_pages; i++) {
        f->page[i] = g_aligned_alloc0(1, 4096, 4096);
    }
    *front_word(f, REQ_EVENT) = *front_word(f, RSP_EVENT) = 1;
    ring_init(&f->ring, (void *const *)f->page, nr_pages, entry_size);
}

static void front_fini(struct front *f)
{
    for (unsigned i = 0; i < f->nr_pages; i++) {
        g_aligned_free(f->page[i]);
    }
}

static uint8_t *front_byte(struct front *f, uint32_t index, unsigned offset)
{
    size_t at = 64 + (size_t)(index % f->ring.entries) * f->ring.entry_size + offset;

    return f->page[at / 4096] + at % 4096;
}

static void front_put(struct front *f, uint8_t fill)
{
    uint32_t prod = *front_word(f, REQ_PROD);

    for (unsigned i = 0; i < f->ring.entry_size; i++) {
        *front_byte(f, prod, i) = (uint8_t)(fill + i);
    }
    *front_word(f, REQ_PROD) = prod + 1;
}

static void test_entries(void)
{
    static const struct { unsigned pages, size, entries; } rows[] = {
        { 1, 112, 32 }, { 1, 108, 32 }, { 2, 112, 64 }, { 4, 112, 128 }, { 16, 112, 512 },
        { 1, 12, 256 }, { 1, 8, 256 }, { 1, 4, 512 }, { 1, 4032, 1 },
    };
    uint8_t *page = g_malloc0(4096);
    void *pages[16];

    for (unsigned i = 0; i < 16; i++) {
        pages[i] = page;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct ring r;

        ring_init(&r, pages, rows[i].pages, rows[i].size);
        g_assert_cmpuint(r.entries, ==, rows[i].entries);
    }
    g_free(page);
}

/* Three rounds through rings whose slots cross pages. */
static void test_round(void)
{
    static const unsigned sizes[] = { 112, 108, 12, 8, 100 };

    for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++) {
        struct front f;
        uint8_t req[112], rsp[4] = { 1, 2, 3, 4 };

        front_init(&f, 3, sizes[s]);
        for (uint32_t n = 0; n < 3 * f.ring.entries; n++) {
            front_put(&f, (uint8_t)n);
            g_assert_cmpint(ring_pending(&f.ring), ==, 1);
            ring_get(&f.ring, req, sizes[s]);
            for (unsigned i = 0; i < sizes[s]; i++) {
                g_assert_cmpuint(req[i], ==, (uint8_t)(n + i));
            }
            rsp[0] = (uint8_t)n;
            ring_put(&f.ring, rsp, sizeof(rsp));
            g_assert_cmpuint(*front_word(&f, RSP_PROD), ==, n); /* not shown yet */
            ring_push(&f.ring);
            g_assert_cmpuint(*front_word(&f, RSP_PROD), ==, n + 1);
            g_assert_cmpuint(*front_byte(&f, n, 0), ==, (uint8_t)n);
            for (unsigned i = sizeof(rsp); i < sizes[s]; i++) { /* nothing leaks (XSA-216) */
                g_assert_cmpuint(*front_byte(&f, n, i), ==, 0);
            }
        }
        front_fini(&f);
    }
}

static void answer(struct front *f, unsigned count)
{
    uint8_t slot[112];

    while (count-- > 0) {
        ring_get(&f->ring, slot, sizeof(slot));
        ring_put(&f->ring, slot, 4);
    }
}

static void test_notify(void)
{
    struct front f;

    front_init(&f, 1, 112);
    for (int i = 0; i < 8; i++) {
        front_put(&f, 0);
    }
    g_assert_false(ring_push(&f.ring)); /* nothing new */
    answer(&f, 1);
    g_assert_true(ring_push(&f.ring)); /* rsp_event 1 */
    answer(&f, 1);
    g_assert_false(ring_push(&f.ring)); /* not armed again */
    *front_word(&f, RSP_EVENT) = 5;
    answer(&f, 2);
    g_assert_false(ring_push(&f.ring));
    answer(&f, 3);
    g_assert_true(ring_push(&f.ring)); /* 5 was passed on the way from 4 to 7 */
    g_assert_true(ring_final_check(&f.ring)); /* one waits */
    g_assert_cmpuint(*front_word(&f, REQ_EVENT), ==, 1);
    answer(&f, 1);
    g_assert_false(ring_final_check(&f.ring));
    g_assert_cmpuint(*front_word(&f, REQ_EVENT), ==, 9);
    front_fini(&f);
}

static void test_attach(void)
{
    struct front f;

    front_init(&f, 1, 112);
    *front_word(&f, REQ_PROD) = 0xfffffffeu + 3;
    *front_word(&f, RSP_PROD) = 0xfffffffeu;
    ring_attach(&f.ring);
    g_assert_cmpint(ring_pending(&f.ring), ==, 3); /* through the wrap of the index */
    answer(&f, 3);
    ring_push(&f.ring);
    g_assert_cmpuint(*front_word(&f, RSP_PROD), ==, 1);
    front_fini(&f);
}

/* Producer indices that cannot be: too far ahead, or back. */
static void test_prod(void)
{
    struct front f;

    front_init(&f, 1, 112);
    *front_word(&f, REQ_PROD) = 32;
    g_assert_cmpint(ring_pending(&f.ring), ==, 32);
    *front_word(&f, REQ_PROD) = 33;
    g_assert_cmpint(ring_pending(&f.ring), ==, -1);
    *front_word(&f, REQ_PROD) = 0x80000000u;
    g_assert_cmpint(ring_pending(&f.ring), ==, -1);
    *front_word(&f, REQ_PROD) = UINT32_MAX;
    g_assert_cmpint(ring_pending(&f.ring), ==, -1);
    g_assert_true(ring_final_check(&f.ring)); /* the caller looks, and sees -1 */
    *front_word(&f, REQ_PROD) = 8;
    for (int i = 0; i < 8; i++) {
        uint8_t slot[112];

        ring_get(&f.ring, slot, sizeof(slot)); /* in flight, not answered */
    }
    *front_word(&f, REQ_PROD) = 32;
    g_assert_cmpint(ring_pending(&f.ring), ==, 24);
    *front_word(&f, REQ_PROD) = 33; /* would overwrite what is not answered */
    g_assert_cmpint(ring_pending(&f.ring), ==, -1);
    *front_word(&f, REQ_PROD) = 7;  /* takes one back */
    g_assert_cmpint(ring_pending(&f.ring), ==, -1);
    front_fini(&f);
}

struct request {
    uint32_t count; /* a good front end keeps this at most 11 */
    uint32_t check; /* ~count */
};

enum { FLIP_ENTRIES = 256 }; /* 4032 / 8, a power of two */

struct flipper {
    struct front f;
    atomic_bool stop;
};

/* A front end that rewrites slots and index all the time: good, bad, good, bad. */
static void *flip(void *opaque)
{
    struct flipper *fl = opaque;
    uint32_t n = 0;

    while (!atomic_load(&fl->stop)) {
        uint32_t slot = n % FLIP_ENTRIES, value = n % 3 == 0 ? UINT32_MAX : n % 12;
        volatile uint32_t *p = (uint32_t *)(void *)(fl->f.page[0] + 64) + slot * 2;

        p[0] = value;
        p[1] = ~value;
        if (n % 64 == 0) {
            __atomic_store_n(front_word(&fl->f, REQ_PROD), n % 640 == 0 ? n * 77u : n / 64,
                             __ATOMIC_RELEASE);
        }
        n++;
    }
    return NULL;
}

/*
 * The consumer checks its private copy and uses it. Were a field read twice, a value that
 * passed the check would be another one when it is used, and the array would be overrun.
 */
static void test_flip(void)
{
    struct flipper fl = { .stop = false };
    unsigned good = 0, bad = 0, resets = 0, hits[12] = { 0 };
    GThread *thread;

    front_init(&fl.f, 1, sizeof(struct request));
    g_assert_cmpuint(fl.f.ring.entries, ==, FLIP_ENTRIES);
    thread = g_thread_new("flip", flip, &fl);
    for (unsigned i = 0; i < 20000000 && (good < 20000 || bad < 5000 || resets < 20); i++) {
        int pending = ring_pending(&fl.f.ring);
        struct request req, again;

        g_assert_cmpint(pending, <=, (int)fl.f.ring.entries);
        if (pending < 0) { /* the owner closes the device; a new front end comes */
            ring_init(&fl.f.ring, (void *const *)fl.f.page, 1, sizeof(struct request));
            ring_attach(&fl.f.ring);
            fl.f.ring.req_cons = fl.f.ring.rsp_prod = *front_word(&fl.f, REQ_PROD);
            resets++;
            continue;
        }
        if (pending == 0) {
            g_thread_yield();
            continue;
        }
        ring_get(&fl.f.ring, &req, sizeof(req));
        memcpy(&again, &req, sizeof(req));
        if (req.count > 11) {
            bad++;
        } else {
            hits[req.count]++;
            good++;
        }
        g_assert_cmpmem(&again, sizeof(again), &req, sizeof(req));
        ring_put(&fl.f.ring, &req, sizeof(req));
        ring_push(&fl.f.ring);
    }
    atomic_store(&fl.stop, true);
    g_thread_join(thread);
    g_test_message("%u good, %u bad, %u resets", good, bad, resets);
    g_assert_cmpuint(good + bad, >, 0);
    front_fini(&fl.f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/ring/entries", test_entries);
    g_test_add_func("/pv/ring/round", test_round);
    g_test_add_func("/pv/ring/notify", test_notify);
    g_test_add_func("/pv/ring/attach", test_attach);
    g_test_add_func("/pv/ring/t-ring-prod", test_prod);
    g_test_add_func("/pv/ring/t-ring-flip", test_flip);
    return g_test_run();
}
