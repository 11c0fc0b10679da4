/* SPDX-License-Identifier: MIT */
/* Several queues of one disk: their keys, data on all of them at once, what a front end may get
 * wrong, the bound on requests in flight, and saving. */
#include "blk_front.h"

enum { DISK_SIZE = 4 << 20 };

static struct blk_front *front_new(void)
{
    struct blk_front *f = g_new(struct blk_front, 1);

    report_set_quiet(true); /* warnings about the guest are expected */
    front_init(f, fake_disk_new(DISK_SIZE, 512));
    for (unsigned i = 0; i < DISK_SIZE; i++) {
        f->disk->data[i] = (uint8_t)(i * 31 + i / 512);
    }
    return f;
}

static void front_end(struct blk_front *f)
{
    front_fini(f);
    g_free(f);
}

static void connect_queues(struct blk_front *f, unsigned count, unsigned order)
{
    front_prepare_queues(f, count, order, BLK_PROTOCOL_X86_64);
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateConnected);
    g_assert_cmpuint(f->b->nr_queues, ==, count);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, count << order);
}

static void start_over(struct blk_front *f)
{
    front_set_state(f, XenbusStateClosed);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    front_set_state(f, XenbusStateInitialising);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    g_mutex_lock(&f->fb->board.lock);
    evtchn_reset(f->d);
    g_mutex_unlock(&f->fb->board.lock);
}

static void remove_key(struct blk_front *f, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/%s", f->b->xb.front_path, key);

    g_mutex_lock(&f->fb->board.lock);
    xs_rm(f->d->xenstore, path);
    g_mutex_unlock(&f->fb->board.lock);
}

static void test_nodes(void)
{
    struct blk_front *f = front_new();

    g_assert_cmpuint(front_back_uint(f, "multi-queue-max-queues"), ==, FRONT_VCPUS);
    front_end(f);
}

/* Each queue reads its own page from its own place; all are with the disk before any answer. */
static void check_all_queues(struct blk_front *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct front_request r = {.op = BLKIF_OP_READ, .nr = 1, .id = 100 + i};

        front_use(f, i);
        r.sector = 64 + i * 24;
        r.seg[0] = (struct blk_segment){front_ref(FRONT_DATA_GFN + i), 0, 7, 0};
        memset(front_page(f, FRONT_DATA_GFN + i), 0xcc, 4096);
        front_queue(f, &r);
        front_kick(f);
        g_assert_cmpuint(f->disk->queued, ==, i + 1);
    }
    while (f->disk->queued > 0) {
        fake_disk_step(f->disk, f->disk->queued - 1); /* the last first */
    }
    for (unsigned i = 0; i < count; i++) {
        struct front_response answer;

        front_use(f, i);
        g_assert_cmpuint(front_responses(f), ==, 1);
        answer = front_take(f);
        g_assert_cmpuint(answer.id, ==, 100 + i);
        g_assert_cmpint(answer.status, ==, BLKIF_RSP_OKAY);
        g_assert_cmpmem(front_page(f, FRONT_DATA_GFN + i), 4096,
                        f->disk->data + (64 + i * 24) * 512, 4096);
    }
    front_use(f, 0);
}

static void test_data(void)
{
    struct blk_front *f = front_new();

    for (unsigned order = 0; order <= 4; order += 2) {
        for (unsigned count = 1; count <= FRONT_VCPUS; count++) {
            remove_key(f, "ring-page-order");
            connect_queues(f, count, order);
            for (unsigned n = 0; n < 40; n++) { /* around the smallest ring */
                check_all_queues(f, count);
            }
            start_over(f);
        }
    }
    front_end(f);
}

/* A front end that knows nothing of queues, after one that did: what that left is not read. */
static void test_unaware(void)
{
    struct blk_front *f = front_new();

    connect_queues(f, 3, 0);
    start_over(f);
    front_prepare(f, 0, BLK_PROTOCOL_X86_64);
    remove_key(f, "multi-queue-num-queues");
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpuint(f->b->nr_queues, ==, 1);
    check_all_queues(f, 1);
    front_end(f);
}

static void expect_refused(struct blk_front *f, const char *why)
{
    g_test_message("%s", why);
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
    g_assert_false(f->b->running);
    for (unsigned i = 0; i < XENBUS_MAX_QUEUES; i++) {
        g_assert_cmpuint(f->b->queue[i].evtchn.port, ==, 0);
    }
    start_over(f);
}

static void test_bad_keys(void)
{
    static const struct {
        const char *key, *value; /* NULL: missing */
    } bad[] = {
        {"multi-queue-num-queues", "0"},
        {"multi-queue-num-queues", "5"},
        {"multi-queue-num-queues", "16"},
        {"multi-queue-num-queues", "4294967297"},
        {"multi-queue-num-queues", "-1"},
        {"multi-queue-num-queues", ""},
        {"multi-queue-num-queues", "2 "},
        {"queue-0/ring-ref", NULL},
        {"queue-3/ring-ref", NULL},
        {"queue-3", NULL},
        {"queue-2/event-channel", NULL},
        {"queue-1/ring-ref", "x"},
        {"queue-2/ring-ref", "4294967295"},
        {"queue-3/event-channel", "0"},
        {"queue-3/event-channel", "4095"},
    };
    struct blk_front *f = front_new();
    g_autofree char *port = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        front_prepare_queues(f, 4, 0, BLK_PROTOCOL_X86_64);
        if (bad[i].value == NULL) {
            remove_key(f, bad[i].key);
        } else {
            g_mutex_lock(&f->fb->board.lock);
            front_write_key(f, bad[i].key, bad[i].value);
            g_mutex_unlock(&f->fb->board.lock);
        }
        expect_refused(f, bad[i].key);
    }

    /* Two queues cannot share a channel. */
    front_prepare_queues(f, 4, 0, BLK_PROTOCOL_X86_64);
    port = g_strdup_printf("%u", f->others[1].port);
    g_mutex_lock(&f->fb->board.lock);
    front_write_key(f, "queue-3/event-channel", port);
    g_mutex_unlock(&f->fb->board.lock);
    expect_refused(f, "a channel twice");

    connect_queues(f, 4, 0);
    check_all_queues(f, 4);
    front_end(f);
}

/* Two rings of 512, full: no more are with the disk than the largest ring has, and all get
 * their answers. */
static void test_in_flight(void)
{
    struct blk_front *f = front_new();
    struct front_request r = front_request(BLKIF_OP_WRITE, 0, 1);

    connect_queues(f, 2, 4);
    for (unsigned i = 0; i < 2; i++) {
        front_use(f, i);
        for (unsigned n = 0; n < 512; n++) {
            r.id = n;
            front_queue(f, &r);
        }
        front_kick(f);
        g_assert_cmpuint(f->disk->queued, ==, BLK_MAX_IN_FLIGHT);
    }
    for (unsigned n = 0; n < 1024; n++) {
        fake_disk_step(f->disk, 0);
        front_settle(f);
        g_assert_cmpuint(f->b->in_flight, ==, MIN(512, 1023 - n));
    }
    for (unsigned i = 0; i < 2; i++) {
        front_use(f, i);
        g_assert_cmpuint(front_responses(f), ==, 512);
    }
    front_use(f, 0);
    front_end(f);
}

static void test_close_in_flight(void)
{
    struct blk_front *f = front_new();
    struct front_request r = front_request(BLKIF_OP_READ, 0, 2);

    connect_queues(f, 4, 1);
    for (unsigned i = 0; i < 4; i++) {
        front_use(f, i);
        front_queue(f, &r);
        front_kick(f);
    }
    front_set_state(f, XenbusStateClosed);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 4 * 2 + 4 * 2);
    fake_disk_run(f->disk);
    front_settle(f);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateClosed);
    for (unsigned i = 0; i < 4; i++) {
        front_use(f, i);
        g_assert_cmpuint(front_responses(f), ==, 0);
    }
    front_use(f, 0);
    start_over(f);
    connect_queues(f, 2, 1);
    check_all_queues(f, 2);
    front_end(f);
}

/* An impossible index on one queue closes the device, and the others' requests wait in vain. */
static void test_break(void)
{
    struct blk_front *f = front_new();
    struct front_request r = front_request(BLKIF_OP_READ, 0, 1);

    connect_queues(f, 4, 0);
    front_use(f, 3);
    front_queue(f, &r);
    __atomic_store_n((uint32_t *)(void *)f->ring, f->req_prod, __ATOMIC_SEQ_CST);
    front_use(f, 1);
    f->req_prod += 33;
    front_kick(f);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
    g_assert_cmpuint(f->disk->queued, ==, 0);
    front_use(f, 0);
    start_over(f);
    connect_queues(f, 4, 0);
    check_all_queues(f, 4);
    front_end(f);
}

static void state_all(struct blk_front *f, struct state *s)
{
    g_mutex_lock(&f->fb->board.lock);
    pv_domain_state(f->d, s);
    blkback_state(f->b, s);
    g_mutex_unlock(&f->fb->board.lock);
}

/* Saved with a request waiting on each ring, the rings at different places. */
static void test_state(void)
{
    struct blk_front *f = front_new();
    struct front_request r = front_request(BLKIF_OP_READ, 40, 1);
    struct state *save = state_new_save(), *load;
    const void *bytes;
    size_t len;

    connect_queues(f, 3, 1);
    for (unsigned i = 0; i < 3; i++) {
        front_use(f, i);
        for (unsigned n = 0; n < i * 5; n++) {
            g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        front_use(f, i);
        r.id = 1000 + i;
        front_queue(f, &r);
        __atomic_store_n((uint32_t *)(void *)f->ring, f->req_prod, __ATOMIC_SEQ_CST);
    }
    state_all(f, save);
    bytes = state_data(save, &len);
    load = state_new_load(bytes, len);
    state_all(f, load);
    g_assert_cmpstr(state_error(load), ==, NULL);
    front_settle(f);
    g_assert_cmpuint(f->b->nr_queues, ==, 3);
    g_assert_cmpuint(f->disk->queued, ==, 3);
    fake_disk_run(f->disk);
    for (unsigned i = 0; i < 3; i++) {
        front_use(f, i);
        g_assert_cmpuint(front_responses(f), ==, 1);
        g_assert_cmpuint(front_take(f).id, ==, 1000 + i);
    }
    check_all_queues(f, 3);
    state_free(load);
    state_free(save);
    front_end(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/blk-queues/nodes", test_nodes);
    g_test_add_func("/pv/blk-queues/data", test_data);
    g_test_add_func("/pv/blk-queues/unaware", test_unaware);
    g_test_add_func("/pv/blk-queues/bad-keys", test_bad_keys);
    g_test_add_func("/pv/blk-queues/in-flight", test_in_flight);
    g_test_add_func("/pv/blk-queues/close-in-flight", test_close_in_flight);
    g_test_add_func("/pv/blk-queues/break", test_break);
    g_test_add_func("/pv/blk-queues/state", test_state);
    return g_test_run();
}
