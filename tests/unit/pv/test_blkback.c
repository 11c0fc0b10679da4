/* SPDX-License-Identifier: MIT */
/* The life of a disk's back end: nodes, connecting, data, closing under load, misbehaviour,
 * save. */
#include <errno.h>

#include "base/error.h"
#include "blk_front.h"

enum { DISK_SIZE = 4 << 20 };

struct fixture {
    struct blk_front f;
};

static void setup(struct fixture *x, gconstpointer data)
{
    (void)data;
    front_init(&x->f, fake_disk_new(DISK_SIZE, 512));
    for (unsigned i = 0; i < DISK_SIZE; i++) {
        x->f.disk->data[i] = (uint8_t)(i * 31 + i / 512);
    }
}

static void teardown(struct fixture *x, gconstpointer data)
{
    (void)data;
    front_fini(&x->f);
}

static uint8_t *data_page(struct blk_front *f, unsigned i)
{
    return front_page(f, FRONT_DATA_GFN + i);
}

/* --- Nodes --- */

static void test_nodes(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;

    (void)data;
    g_assert_cmpstr(f->b->xb.front_path, ==, "/local/domain/1/device/vbd/51712");
    g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    g_assert_cmpuint(front_back_uint(f, "sectors"), ==, DISK_SIZE / 512);
    g_assert_cmpuint(front_back_uint(f, "sector-size"), ==, 512);
    g_assert_cmpuint(front_back_uint(f, "physical-sector-size"), ==, 4096);
    g_assert_cmpuint(front_back_uint(f, "info"), ==, 0);
    g_assert_cmpuint(front_back_uint(f, "feature-flush-cache"), ==, 1);
    g_assert_cmpuint(front_back_uint(f, "feature-persistent"), ==, 0);
    g_assert_cmpuint(front_back_uint(f, "feature-discard"), ==, 1);
    g_assert_cmpuint(front_back_uint(f, "discard-granularity"), ==, 4096);
    g_assert_cmpuint(front_back_uint(f, "feature-max-indirect-segments"), ==, 256);
    g_assert_cmpuint(front_back_uint(f, "max-ring-page-order"), ==, 4);
    g_assert_cmpstr(blkback_dev_name(f->b), ==, "xvda");
}

static void test_read_only_nodes(void)
{
    struct fake_disk *disk = fake_disk_new(DISK_SIZE, 4096);
    struct blk_front f;

    disk->blk.read_only = true;
    front_init(&f, disk);
    g_assert_cmpuint(front_back_uint(&f, "info"), ==, VDISK_READONLY);
    g_assert_cmpuint(front_back_uint(&f, "feature-discard"), ==, 0);
    g_assert_cmpuint(front_back_uint(&f, "sectors"), ==, DISK_SIZE / 512);
    g_assert_cmpuint(front_back_uint(&f, "sector-size"), ==, 4096);
    front_fini(&f);
}

/* xvda.. are minors of 16 of major 202; from xvdq on the numbers are of another kind. */
static void test_numbers(struct fixture *x, gconstpointer data)
{
    static const struct {
        unsigned index, vdev;
        const char *name;
    } wanted[] = {
        {1, 51728, "xvdb"},
        {15, 51952, "xvdp"},
        {16, (1u << 28) | 16 << 8, "xvdq"},
        {25, (1u << 28) | 25 << 8, "xvdz"},
        {26, (1u << 28) | 26 << 8, "xvdaa"},
        {52, (1u << 28) | 52 << 8, "xvdba"},
        {255, (1u << 28) | 255 << 8, "xvdiv"},
    };
    struct blk_front *f = &x->f;
    g_autoptr(GError) err = NULL;

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(wanted); i++) {
        struct blkback *b;

        g_mutex_lock(&f->fb->board.lock);
        b = blkback_new(f->d, &f->disk->blk, wanted[i].index, NULL);
        g_assert_cmpuint(b->xb.id, ==, wanted[i].vdev);
        g_assert_cmpstr(blkback_dev_name(b), ==, wanted[i].name);
        g_mutex_unlock(&f->fb->board.lock);
        blkback_free(b);
    }
    g_mutex_lock(&f->fb->board.lock);
    g_assert_null(blkback_new(f->d, &f->disk->blk, 256, &err));
    g_mutex_unlock(&f->fb->board.lock);
    g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_LIMIT);
}

/* --- Data --- */

static void check_read_write(struct blk_front *f)
{
    struct front_request r = front_request(BLKIF_OP_READ, 16, 3);

    r.seg[1].first = 2; /* 6 sectors in the middle of the second page */
    r.seg[1].last = 5;
    memset(data_page(f, 0), 0xcc, 3 * 4096);
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    g_assert_cmpmem(data_page(f, 0), 4096, f->disk->data + 16 * 512, 4096);
    g_assert_cmpmem(data_page(f, 1) + 1024, 2048, f->disk->data + 24 * 512, 2048);
    g_assert_cmpint(data_page(f, 1)[1023], ==, 0xcc);
    g_assert_cmpint(data_page(f, 1)[1024 + 2048], ==, 0xcc);
    g_assert_cmpmem(data_page(f, 2), 4096, f->disk->data + 28 * 512, 4096);
    r.op = BLKIF_OP_WRITE;
    r.sector = 1000;
    for (unsigned i = 0; i < 3 * 4096; i++) {
        data_page(f, 0)[i] = (uint8_t)g_test_rand_int();
    }
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    g_assert_cmpmem(data_page(f, 0), 4096, f->disk->data + 1000 * 512, 4096);
    g_assert_cmpmem(data_page(f, 1) + 1024, 2048, f->disk->data + 1008 * 512, 2048);
    g_assert_cmpmem(data_page(f, 2), 4096, f->disk->data + 1012 * 512, 4096);
}

static void test_data(struct fixture *x, gconstpointer data)
{
    (void)data;
    front_connect(&x->f, 0, BLK_PROTOCOL_X86_64);
    check_read_write(&x->f);
}

static void test_data_32(struct fixture *x, gconstpointer data)
{
    (void)data;
    front_connect(&x->f, 0, BLK_PROTOCOL_X86_32);
    g_assert_cmpuint(x->f.b->queue[0].ring.entry_size, ==, 108);
    check_read_write(&x->f);
}

/* Scattered pages stay apart, neighbours become one buffer. */
static void test_merge(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_READ, 0, 4);

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    front_queue(f, &r);
    r.seg[2].gref = front_ref(FRONT_DATA_GFN + 9);
    front_queue(f, &r);
    front_kick(f);
    g_assert_cmpuint(f->disk->queued, ==, 2);
    g_assert_cmpuint(f->disk->queue[0]->iov_count, ==, 1);
    g_assert_cmpuint(f->disk->queue[1]->iov_count, ==, 3);
    fake_disk_run(f->disk);
}

static void test_indirect(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct blk_segment *seg = (struct blk_segment *)(void *)data_page(f, 511);
    struct front_request r = {.op = BLKIF_OP_INDIRECT,
                              .flag = BLKIF_OP_READ,
                              .nr = 256,
                              .sector = 8,
                              .indirect_ref = front_ref(FRONT_DATA_GFN + 511)};

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    for (unsigned i = 0; i < 256; i++) { /* backwards: nothing to merge */
        seg[i] = (struct blk_segment){front_ref(FRONT_DATA_GFN + 255 - i), 0, 7, 0};
    }
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    for (unsigned i = 0; i < 256; i++) {
        g_assert_cmpmem(data_page(f, 255 - i), 4096, f->disk->data + (8 + i * 8) * 512, 4096);
    }
}

/* A ring of 16 pages has 512 entries; all in flight at once, answered in another order, twice
 * around. */
static void test_big_ring(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_WRITE, 0, 1);
    g_autofree bool *seen = g_new0(bool, 1024);

    (void)data;
    front_connect(f, 4, BLK_PROTOCOL_X86_64);
    g_assert_cmpuint(f->entries, ==, 512);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 512; i++) {
            r.id = round * 512 + i;
            front_queue(f, &r);
        }
        front_kick(f);
        g_assert_cmpuint(f->disk->queued, ==, 512);
        while (f->disk->queued > 0) {
            fake_disk_step(f->disk, (unsigned)g_test_rand_int_range(0, (gint)f->disk->queued));
        }
        g_assert_cmpuint(front_responses(f), ==, 512);
        for (unsigned i = 0; i < 512; i++) {
            struct front_response a = front_take(f);

            g_assert_cmpuint(a.id / 512, ==, round);
            g_assert_false(seen[a.id]);
            seen[a.id] = true;
        }
    }
}

static void test_barrier(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_FLUSH_DISKCACHE, 0, 0)), ==, 0);
    g_assert_cmpstr(f->disk->log->str, ==, "f");
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_WRITE_BARRIER, 8, 1)), ==, 0);
    g_assert_cmpstr(f->disk->log->str, ==, "ffW");
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_FLUSH_DISKCACHE, 8, 2)), ==, 0);
    g_assert_cmpstr(f->disk->log->str, ==, "ffWfw");
    /* A write behind a flush that failed is not done. */
    f->disk->fail_flush = -EIO;
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_WRITE_BARRIER, 8, 1)), ==,
                    BLKIF_RSP_ERROR);
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_FLUSH_DISKCACHE, 0, 0)), ==,
                    BLKIF_RSP_ERROR);
    g_assert_cmpstr(f->disk->log->str, ==, "ffWfwff");
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1);
}

static void test_discard(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = {.op = BLKIF_OP_DISCARD, .sector = 8, .nr_sectors = 16};

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_32);
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    g_assert_cmpint(f->disk->data[8 * 512], ==, 0);
    g_assert_cmpint(f->disk->data[24 * 512 - 1], ==, 0);
    g_assert_cmpint(f->disk->data[24 * 512 + 1], !=, 0);
}

static void test_host_errors(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct blkback_stats stats;

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    f->disk->fail = -ENOSPC;
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_WRITE, 0, 1)), ==, BLKIF_RSP_ERROR);
    f->disk->fail = -EOPNOTSUPP;
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_WRITE, 0, 1)), ==, BLKIF_RSP_EOPNOTSUPP);
    f->disk->fail = 0;
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_READ, 0, 2)), ==, BLKIF_RSP_OKAY);
    g_assert_cmpint(front_do(f, front_request(BLKIF_OP_READ, 0, 12)), ==, BLKIF_RSP_ERROR);
    blkback_get_stats(f->b, &stats);
    g_assert_cmpuint(stats.reads, ==, 1);
    g_assert_cmpuint(stats.read_bytes, ==, 8192);
    g_assert_cmpuint(stats.writes, ==, 2);
    g_assert_cmpuint(stats.host_errors, ==, 1);
    g_assert_cmpuint(stats.bad_requests, ==, 1);
}

/* --- Connecting and closing --- */

static void expect_refused(struct blk_front *f)
{
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    g_assert_false(f->b->running);
    front_set_state(f, XenbusStateClosed);
    front_set_state(f, XenbusStateInitialising);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
}

static void test_bad_keys(struct fixture *x, gconstpointer data)
{
    static const struct {
        const char *key, *value;
        unsigned order;
    } bad[] = {
        {"event-channel", "", 0},      {"event-channel", "0", 0},
        {"event-channel", "4096", 0},  {"event-channel", "99999999999999999999", 0},
        {"event-channel", "-1", 0},    {"ring-ref", "", 0},
        {"ring-ref", "4294967295", 0}, {"ring-ref", "4294967296", 0},
        {"ring-ref", "7x", 0},         {"ring-page-order", "5", 2},
        {"ring-page-order", "64", 2},  {"ring-page-order", "none", 2},
        {"ring-ref3", "7", 2},         {"ring-ref0", "zero", 2},
        {"protocol", "arm-abi", 0},    {"protocol", "", 0},
    };
    struct blk_front *f = &x->f;

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *order_path =
            g_strconcat(f->b->xb.front_path, "/ring-page-order", NULL);

        g_mutex_lock(&f->fb->board.lock);
        xs_rm(f->d->xenstore, order_path);
        g_mutex_unlock(&f->fb->board.lock);
        front_prepare(f, bad[i].order, BLK_PROTOCOL_X86_64);
        g_mutex_lock(&f->fb->board.lock);
        front_write_key(f, bad[i].key, bad[i].value);
        g_mutex_unlock(&f->fb->board.lock);
        g_test_message("%s = '%s'", bad[i].key, bad[i].value);
        expect_refused(f);
    }
    g_mutex_lock(&f->fb->board.lock);
    g_autofree char *order_path = g_strconcat(f->b->xb.front_path, "/ring-page-order", NULL);
    xs_rm(f->d->xenstore, order_path);
    g_mutex_unlock(&f->fb->board.lock);
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    check_read_write(f);
}

static void test_reconnect(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;

    (void)data;
    for (unsigned i = 0; i < 3; i++) {
        front_connect(f, i % 2 == 0 ? 2 : 2,
                      i == 1 ? BLK_PROTOCOL_X86_32 : BLK_PROTOCOL_X86_64);
        check_read_write(f);
        front_set_state(f, XenbusStateClosing);
        front_set_state(f, XenbusStateClosed);
        g_assert_cmpint(front_back_state(f), ==, XenbusStateClosed);
        g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
        front_set_state(f, XenbusStateInitialising);
        g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    }
}

/* Requests that are there before the connection (the event was sent too early) are found. */
static void test_early_requests(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_READ, 0, 1);

    (void)data;
    front_prepare(f, 0, BLK_PROTOCOL_X86_64);
    front_queue(f, &r);
    front_kick(f);
    front_set_state(f, XenbusStateInitialised);
    g_assert_cmpuint(f->disk->queued, ==, 1);
    fake_disk_run(f->disk);
    g_assert_cmpuint(front_responses(f), ==, 1);
}

static void test_close_in_flight(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_READ, 0, 11);

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    for (unsigned i = 0; i < 32; i++) {
        front_queue(f, &r);
    }
    front_kick(f);
    front_set_state(f, XenbusStateClosing);
    front_set_state(f, XenbusStateClosed);
    front_set_state(f, XenbusStateInitialising); /* impatient */
    g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1 + 32 * 11);
    fake_disk_run(f->disk);
    front_settle(f);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    g_assert_cmpuint(front_responses(f), ==, 0);
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    check_read_write(f);
}

/* t_reconnect_storm: closed at every stage of every request, a thousand times. */
static void test_reconnect_storm(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;

    (void)data;
    for (unsigned i = 0; i < 1000; i++) {
        unsigned count = (unsigned)g_test_rand_int_range(0, 33);

        front_connect(f, 0, BLK_PROTOCOL_X86_64);
        for (unsigned n = 0; n < count; n++) {
            struct front_request r = front_request((uint8_t)g_test_rand_int_range(0, 6), n, 2);

            front_queue(f, &r);
        }
        front_kick(f);
        for (unsigned n = (unsigned)g_test_rand_int_range(0, 33); n > 0 && f->disk->queued > 0;
             n--) {
            fake_disk_step(f->disk, 0);
        }
        front_set_state(f, g_test_rand_bit() ? XenbusStateClosing : XenbusStateClosed);
        fake_disk_run(f->disk);
        front_settle(f);
        front_set_state(f, XenbusStateClosed);
        g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
        front_set_state(f, XenbusStateInitialising);
        g_mutex_lock(&f->fb->board.lock);
        evtchn_reset(f->d); /* the guest closes its ports */
        g_mutex_unlock(&f->fb->board.lock);
    }
}

/* --- Misbehaviour --- */

static void test_ring_prod(struct fixture *x, gconstpointer data)
{
    static const uint32_t lies[] = {33, 1000, 1u << 31, UINT32_MAX};
    struct blk_front *f = &x->f;
    struct front_request good = front_request(BLKIF_OP_READ, 0, 1);

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        front_connect(f, 0, BLK_PROTOCOL_X86_64);
        check_read_write(f);
        f->req_prod += lies[i];
        front_kick(f);
        g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
        g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
        f->req_prod -= lies[i]; /* too late, whatever it is: nobody listens any more */
        front_queue(f, &good);
        front_kick(f);
        g_mutex_lock(&f->fb->board.lock);
        blkback_post(f->b);
        g_mutex_unlock(&f->fb->board.lock);
        front_settle(f);
        g_assert_cmpuint(f->disk->queued, ==, 0);
        front_set_state(f, XenbusStateConnected);
        g_assert_cmpint(front_back_state(f), ==, XenbusStateClosing);
        front_set_state(f, XenbusStateClosed);
        front_set_state(f, XenbusStateInitialising);
        g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    }
}

/* The index goes wrong while requests are with the host. */
static void test_break_in_flight(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_WRITE, 0, 3);

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    front_queue(f, &r);
    front_queue(f, &r);
    front_kick(f);
    g_assert_cmpuint(f->disk->queued, ==, 2);
    f->req_prod += 500;
    front_kick(f);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 7);
    fake_disk_run(f->disk);
    g_assert_cmpuint(front_responses(f), ==, 0);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
}

static void test_port_closed(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_WRITE, 0, 3);

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    front_queue(f, &r);
    front_kick(f);
    g_mutex_lock(&f->fb->board.lock);
    evtchn_reset(f->d);
    g_mutex_unlock(&f->fb->board.lock);
    fake_disk_run(f->disk);
    g_assert_cmpuint(front_responses(f), ==, 1);
}

/* --- Persistent grants --- */

static void test_persistent(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_READ, 0, 4);

    (void)data;
    g_mutex_lock(&f->fb->board.lock);
    blkback_offer_persistent(f->b);
    g_mutex_unlock(&f->fb->board.lock);
    g_assert_cmpuint(front_back_uint(f, "feature-persistent"), ==, 1);
    front_prepare(f, 0, BLK_PROTOCOL_X86_64);
    g_mutex_lock(&f->fb->board.lock);
    front_write_key(f, "feature-persistent", "1");
    front_grant(f, FRONT_DATA_GFN + 3, true);
    g_mutex_unlock(&f->fb->board.lock);
    front_set_state(f, XenbusStateInitialised);
    check_read_write(f);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1 + 3);
    check_read_write(f);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1 + 3);
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_ERROR); /* the fourth page is read-only */
    r.op = BLKIF_OP_WRITE;
    g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1 + 3);
    front_set_state(f, XenbusStateClosed);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
}

/* More grants than are kept: the others are mapped for the request alone. */
static void test_persistent_bound(struct fixture *x, gconstpointer data)
{
    enum { FIRST = 2048, COUNT = 5 * 256 };
    struct blk_front *f = &x->f;
    struct blk_segment *seg = (struct blk_segment *)(void *)data_page(f, 511);
    struct front_request r = {.op = BLKIF_OP_INDIRECT,
                              .flag = BLKIF_OP_READ,
                              .nr = 256,
                              .indirect_ref = front_ref(FRONT_DATA_GFN + 511)};

    (void)data;
    g_mutex_lock(&f->fb->board.lock);
    blkback_offer_persistent(f->b);
    for (unsigned i = 0; i < COUNT; i++) {
        *front_grant_entry(f, FIRST + i) =
            (grant_entry_v1_t){.flags = GTF_permit_access, .frame = FRONT_DATA_GFN + i % 256};
    }
    g_mutex_unlock(&f->fb->board.lock);
    front_prepare(f, 0, BLK_PROTOCOL_X86_64);
    g_mutex_lock(&f->fb->board.lock);
    front_write_key(f, "feature-persistent", "1");
    g_mutex_unlock(&f->fb->board.lock);
    front_set_state(f, XenbusStateInitialised);
    for (unsigned n = 0; n < COUNT / 256; n++) {
        for (unsigned i = 0; i < 256; i++) {
            seg[i] = (struct blk_segment){FIRST + n * 256 + i, 0, 7, 0};
        }
        g_assert_cmpint(front_do(f, r), ==, BLKIF_RSP_OKAY);
    }
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 1 + BLK_MAX_PERSISTENT);
}

/* --- Reset, free, save --- */

static gpointer finish_later(gpointer data)
{
    fake_disk_run(data);
    return NULL;
}

static void queue_some(struct blk_front *f, unsigned count)
{
    struct front_request r = front_request(BLKIF_OP_READ, 0, 5);

    for (unsigned i = 0; i < count; i++) {
        front_queue(f, &r);
    }
    front_kick(f);
    g_assert_cmpuint(f->disk->queued, ==, count);
}

static void test_reset_in_flight(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    GThread *host;

    (void)data;
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    queue_some(f, 20);
    host = g_thread_new("host", finish_later, f->disk);
    blkback_reset(f->b);
    g_thread_join(host);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    front_settle(f);
    g_assert_cmpint(front_back_state(f), ==, XenbusStateInitWait);
    front_connect(f, 0, BLK_PROTOCOL_X86_64);
    check_read_write(f);
}

static void test_free_in_flight(void)
{
    struct blk_front f;
    GThread *host;

    front_init(&f, fake_disk_new(DISK_SIZE, 512));
    front_connect(&f, 0, BLK_PROTOCOL_X86_64);
    queue_some(&f, 20);
    g_mutex_lock(&f.fb->board.lock);
    blkback_post(f.b); /* and work that comes too late */
    g_mutex_unlock(&f.fb->board.lock);
    host = g_thread_new("host", finish_later, f.disk);
    blkback_free(f.b);
    g_thread_join(host);
    f.b = NULL;
    front_settle(&f);
    front_fini(&f);
}

static void state_all(struct blk_front *f, struct state *s)
{
    g_mutex_lock(&f->fb->board.lock);
    pv_domain_state(f->d, s);
    blkback_state(f->b, s);
    g_mutex_unlock(&f->fb->board.lock);
}

/* Saved with requests waiting on the ring, loaded, and going on where it was. */
static void test_state(struct fixture *x, gconstpointer data)
{
    struct blk_front *f = &x->f;
    struct front_request r = front_request(BLKIF_OP_READ, 40, 1);
    struct state *save = state_new_save(), *load;
    const void *bytes;
    size_t len;

    (void)data;
    front_connect(f, 1, BLK_PROTOCOL_X86_32);
    check_read_write(f);
    blkback_drain(f->b);
    front_queue(f, &r);
    __atomic_store_n((uint32_t *)(void *)f->ring, f->req_prod, __ATOMIC_SEQ_CST);
    state_all(f, save);
    bytes = state_data(save, &len);
    load = state_new_load(bytes, len);
    state_all(f, load);
    g_assert_cmpstr(state_error(load), ==, NULL);
    front_settle(f);
    g_assert_true(f->b->running);
    g_assert_cmpint(f->b->protocol, ==, BLK_PROTOCOL_X86_32);
    g_assert_cmpuint(f->disk->queued, ==, 1);
    fake_disk_run(f->disk);
    g_assert_cmpint(front_take(f).status, ==, BLKIF_RSP_OKAY);
    check_read_write(f);
    state_free(load);
    state_free(save);
}

#define TEST(path, fn) g_test_add(path, struct fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    report_set_quiet(true); /* warnings about the guest and the host are expected */
    TEST("/pv/blkback/nodes", test_nodes);
    g_test_add_func("/pv/blkback/read-only-nodes", test_read_only_nodes);
    TEST("/pv/blkback/numbers", test_numbers);
    TEST("/pv/blkback/data", test_data);
    TEST("/pv/blkback/data-32", test_data_32);
    TEST("/pv/blkback/merge", test_merge);
    TEST("/pv/blkback/indirect", test_indirect);
    TEST("/pv/blkback/big-ring", test_big_ring);
    TEST("/pv/blkback/barrier", test_barrier);
    TEST("/pv/blkback/discard", test_discard);
    TEST("/pv/blkback/host-errors", test_host_errors);
    TEST("/pv/blkback/bad-keys", test_bad_keys);
    TEST("/pv/blkback/reconnect", test_reconnect);
    TEST("/pv/blkback/early-requests", test_early_requests);
    TEST("/pv/blkback/close-in-flight", test_close_in_flight);
    TEST("/pv/blkback/reconnect-storm", test_reconnect_storm);
    TEST("/pv/blkback/ring-prod", test_ring_prod);
    TEST("/pv/blkback/break-in-flight", test_break_in_flight);
    TEST("/pv/blkback/port-closed", test_port_closed);
    TEST("/pv/blkback/persistent", test_persistent);
    TEST("/pv/blkback/persistent-bound", test_persistent_bound);
    TEST("/pv/blkback/reset-in-flight", test_reset_in_flight);
    g_test_add_func("/pv/blkback/free-in-flight", test_free_in_flight);
    TEST("/pv/blkback/state", test_state);
    return g_test_run();
}
