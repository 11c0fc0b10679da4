/* SPDX-License-Identifier: MIT */
/*
 * t_fsync_eio: no acknowledged flush is ever a lie. The kernel reports a page it could not
 * write once and then forgets it, so after one failed fdatasync no flush and no FUA write may
 * succeed. Also what a flush covers, and that flushes never run beside each other.
 */
#include <errno.h>

#include "disk_helpers.h"

enum { SIZE = 1 << 20 };

static struct {
    GMutex lock;
    GCond cond;
    unsigned syncs;      /* calls of fdatasync */
    unsigned in_sync;    /* that run now */
    unsigned fail_sync;  /* this one (from 1) fails */
    bool hold_writes;    /* pwritev waits, */
    unsigned let_writes; /* but for so many */
    unsigned landed;     /* writes that are done */
    bool hold_syncs;     /* fdatasync waits */
    GString *order;      /* 'w' a write landed, 's' a sync began */
} host;

static ssize_t host_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    ssize_t n;

    g_mutex_lock(&host.lock);
    while (host.hold_writes && host.let_writes == 0) {
        g_cond_wait(&host.cond, &host.lock);
    }
    host.let_writes -= host.let_writes > 0;
    g_mutex_unlock(&host.lock);
    n = pwritev(fd, iov, count, offset);
    g_mutex_lock(&host.lock);
    g_string_append_c(host.order, 'w');
    host.landed++;
    g_cond_broadcast(&host.cond);
    g_mutex_unlock(&host.lock);
    return n;
}

static int host_fdatasync(int fd)
{
    unsigned mine;

    (void)fd;
    g_mutex_lock(&host.lock);
    mine = ++host.syncs;
    host.in_sync++;
    g_assert_cmpuint(host.in_sync, ==, 1);
    g_string_append_c(host.order, 's');
    g_cond_broadcast(&host.cond);
    while (host.hold_syncs) {
        g_cond_wait(&host.cond, &host.lock);
    }
    host.in_sync--;
    g_mutex_unlock(&host.lock);
    if (mine == host.fail_sync) {
        errno = EIO;
        return -1;
    }
    return 0;
}

static void host_release(void)
{
    g_mutex_lock(&host.lock);
    host.hold_writes = false;
    host.hold_syncs = false;
    g_cond_broadcast(&host.cond);
    g_mutex_unlock(&host.lock);
}

enum { WRONG_US = 20000 };

/* Gives a sync that must not begin yet the time to do so. */
static void host_tempt_sync(void)
{
    gint64 end = g_get_monotonic_time() + WRONG_US;

    g_mutex_lock(&host.lock);
    while (host.syncs == 0 && g_cond_wait_until(&host.cond, &host.lock, end)) {
    }
    g_assert_cmpuint(host.syncs, ==, 0);
    g_mutex_unlock(&host.lock);
}

/* Lets one held write go, and waits until it has landed. */
static void host_let_write(unsigned landed)
{
    g_mutex_lock(&host.lock);
    host.let_writes = 1;
    g_cond_broadcast(&host.cond);
    while (host.landed < landed) {
        g_cond_wait(&host.cond, &host.lock);
    }
    g_mutex_unlock(&host.lock);
}

struct fixture {
    struct io_pool *pool;
    char *path;
    struct block_host_ops ops;
    struct block *blk;
    uint8_t buf[512];
};

static void setup(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.host = &f->ops};

    (void)data;
    memset(&host, 0, sizeof(host));
    host.order = g_string_new(NULL);
    f->ops = block_host_syscalls;
    f->ops.pwritev = host_pwritev;
    f->ops.fdatasync = host_fdatasync;
    f->pool = io_pool_new(4, NULL, NULL, NULL);
    f->path = disk_temp(SIZE);
    o.path = f->path;
    f->blk = disk_open(&o, f->pool);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    (void)data;
    block_close(f->blk);
    io_pool_free(f->pool);
    disk_temp_free(f->path);
    g_string_free(host.order, TRUE);
}

static int write_fua(struct fixture *f)
{
    struct disk_wait w;

    disk_start(&w, f->blk, BLOCK_WRITE, 0, f->buf, sizeof(f->buf), true);
    return disk_finish(&w);
}

static void test_sticky(struct fixture *f, gconstpointer data)
{
    (void)data;
    host.fail_sync = 2;
    g_assert_cmpint(disk_do(f->blk, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpint(disk_do(f->blk, BLOCK_WRITE, 0, f->buf, 512), ==, 0);
    g_assert_cmpint(disk_do(f->blk, BLOCK_FLUSH, 0, NULL, 0), ==, -EIO);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_cmpint(disk_do(f->blk, BLOCK_FLUSH, 0, NULL, 0), ==, -EIO);
        g_assert_cmpint(write_fua(f), ==, -EIO);
    }
    g_assert_cmpuint(host.syncs, ==, 2); /* it was not even asked again */
    g_assert_cmpint(disk_do(f->blk, BLOCK_WRITE, 0, f->buf, 512), ==, 0);
    g_assert_cmpint(disk_do(f->blk, BLOCK_READ, 0, f->buf, 512), ==, 0);
}

static void test_fua_fails_first(struct fixture *f, gconstpointer data)
{
    (void)data;
    host.fail_sync = 1;
    g_assert_cmpint(write_fua(f), ==, -EIO);
    g_assert_cmpint(write_fua(f), ==, -EIO);
    g_assert_cmpint(disk_do(f->blk, BLOCK_FLUSH, 0, NULL, 0), ==, -EIO);
}

/* Two flushes at once: the host tells only one of two fdatasyncs, so there must not be two. */
static void test_together(struct fixture *f, gconstpointer data)
{
    struct disk_wait w[20];

    (void)data;
    host.fail_sync = 1;
    host.hold_syncs = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        bool fua = i % 2 == 1;

        disk_start(&w[i], f->blk, fua ? BLOCK_WRITE : BLOCK_FLUSH, fua ? i * 512 : 0,
                   fua ? f->buf : NULL, fua ? 512 : 0, fua);
    }
    host_release();
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        g_assert_cmpint(disk_finish(&w[i]), ==, -EIO);
    }
}

/* A flush that comes while another runs is not covered by it: it gets one of its own. */
static void test_not_shared_with_running(struct fixture *f, gconstpointer data)
{
    struct disk_wait first, second;

    (void)data;
    host.hold_syncs = true;
    disk_start(&first, f->blk, BLOCK_FLUSH, 0, NULL, 0, false);
    g_mutex_lock(&host.lock);
    while (host.in_sync == 0) {
        g_cond_wait(&host.cond, &host.lock);
    }
    g_mutex_unlock(&host.lock);
    g_assert_cmpint(disk_do(f->blk, BLOCK_WRITE, 0, f->buf, 512), ==, 0);
    disk_start(&second, f->blk, BLOCK_FLUSH, 0, NULL, 0, false);
    host_release();
    g_assert_cmpint(disk_finish(&first), ==, 0);
    g_assert_cmpint(disk_finish(&second), ==, 0);
    g_assert_cmpstr(host.order->str, ==, "sws");
}

static void test_covers_submitted(struct fixture *f, gconstpointer data)
{
    struct disk_wait w[3], flush, later;

    (void)data;
    host.hold_writes = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        disk_start(&w[i], f->blk, BLOCK_WRITE, i * 512, f->buf, 512, false);
    }
    disk_start(&flush, f->blk, BLOCK_FLUSH, 0, NULL, 0, false);
    host_tempt_sync();
    host_let_write(1);
    host_tempt_sync();
    host_release();
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        g_assert_cmpint(disk_finish(&w[i]), ==, 0);
    }
    g_assert_cmpint(disk_finish(&flush), ==, 0);
    g_assert_cmpstr(host.order->str, ==, "wwws");
    disk_start(&later, f->blk, BLOCK_WRITE, 0, f->buf, 512, true);
    g_assert_cmpint(disk_finish(&later), ==, 0);
    g_assert_cmpstr(host.order->str, ==, "wwwsws");
}

static void test_drain(struct fixture *f, gconstpointer data)
{
    struct disk_wait w[50];

    (void)data;
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        disk_start(&w[i], f->blk, i % 3 == 0 ? BLOCK_FLUSH : BLOCK_WRITE, 0,
                   i % 3 == 0 ? NULL : f->buf, i % 3 == 0 ? 0 : 512, i % 2 == 0);
    }
    f->blk->ops->drain(f->blk);
    for (unsigned i = 0; i < G_N_ELEMENTS(w); i++) {
        g_assert_true(w[i].done);
        g_assert_cmpint(disk_finish(&w[i]), ==, 0);
    }
}

#define TEST(path, fn) g_test_add(path, struct fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/io/fsync/sticky", test_sticky);
    TEST("/io/fsync/fua-fails-first", test_fua_fails_first);
    TEST("/io/fsync/together", test_together);
    TEST("/io/fsync/not-shared-with-running", test_not_shared_with_running);
    TEST("/io/fsync/covers-submitted", test_covers_submitted);
    TEST("/io/fsync/drain", test_drain);
    return g_test_run();
}
