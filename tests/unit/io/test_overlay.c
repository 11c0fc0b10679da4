/* SPDX-License-Identifier: MIT */
/* Snapshot disks against a model: a plain array. The image itself never changes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "disk_helpers.h"

enum {
    CLUSTER = 4096,
    SECTOR = 512,
    SIZE = 64 * CLUSTER + 3 * SECTOR, /* the last cluster is short */
    SECTORS = SIZE / SECTOR,
    WRITERS = 4,
    ROUNDS = 400,
};

struct fixture {
    struct io_pool *pool;
    char *path;
    struct block *blk;
    uint8_t *image; /* what the file holds */
    uint8_t *model; /* what the guest must see */
};

static void setup(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.snapshot = true};

    (void)data;
    f->pool = io_pool_new(4, NULL, NULL, NULL);
    f->path = disk_temp(0);
    f->image = g_malloc(SIZE);
    for (unsigned i = 0; i < SIZE; i++) {
        f->image[i] = (uint8_t)g_test_rand_int();
    }
    memcpy(f->image, "eb", 2); /* no format's magic by chance */
    g_assert_true(g_file_set_contents(f->path, (char *)f->image, SIZE, NULL));
    f->model = g_memdup2(f->image, SIZE);
    o.path = f->path;
    f->blk = disk_open(&o, f->pool);
    g_assert_cmpuint(f->blk->size, ==, SIZE);
    g_assert_false(f->blk->read_only);
}

static void check_all(struct fixture *f)
{
    g_autofree uint8_t *seen = g_malloc(SIZE);

    g_assert_cmpint(disk_do(f->blk, BLOCK_READ, 0, seen, SIZE), ==, 0);
    for (unsigned s = 0; s < SECTORS; s++) {
        if (memcmp(seen + s * SECTOR, f->model + s * SECTOR, SECTOR) != 0) {
            g_error("sector %u differs from the model", s);
        }
    }
}

static void teardown(struct fixture *f, gconstpointer data)
{
    g_autofree char *now = NULL;
    gsize len;

    (void)data;
    check_all(f);
    block_close(f->blk);
    g_assert_true(g_file_get_contents(f->path, &now, &len, NULL));
    g_assert_cmpmem(now, len, f->image, SIZE);
    io_pool_free(f->pool);
    disk_temp_free(f->path);
    g_free(f->image);
    g_free(f->model);
}

static void write_both(struct fixture *f, unsigned sector, unsigned count, uint8_t value)
{
    memset(f->model + sector * SECTOR, value, count * SECTOR);
    g_assert_cmpint(disk_do(f->blk, BLOCK_WRITE, (uint64_t)sector * SECTOR,
                            f->model + sector * SECTOR, count * SECTOR),
                    ==, 0);
}

static void test_untouched(struct fixture *f, gconstpointer data)
{
    (void)data;
    check_all(f);
}

static void test_part_of_cluster(struct fixture *f, gconstpointer data)
{
    (void)data;
    write_both(f, 9, 2, 0x11);
    check_all(f);
    write_both(f, 12, 1, 0x22); /* the cluster is there already */
    check_all(f);
}

static void test_across_clusters(struct fixture *f, gconstpointer data)
{
    (void)data;
    write_both(f, 5, 30, 0x33); /* tail, three whole, head */
    check_all(f);
}

static void test_last_cluster(struct fixture *f, gconstpointer data)
{
    (void)data;
    write_both(f, SECTORS - 1, 1, 0x44);
    check_all(f);
    write_both(f, SECTORS - 3, 3, 0x55);
    check_all(f);
    write_both(f, SECTORS - 11, 11, 0x66);
}

static void discard_both(struct fixture *f, unsigned sector, unsigned count)
{
    unsigned start = (sector * SECTOR + CLUSTER - 1) / CLUSTER * CLUSTER;
    unsigned end = (sector + count) * SECTOR;

    end = end == SIZE ? end : end / CLUSTER * CLUSTER;
    if (start < end) {
        memset(f->model + start, 0, end - start);
    }
    g_assert_cmpint(disk_do(f->blk, BLOCK_DISCARD, (uint64_t)sector * SECTOR, NULL,
                            (uint64_t)count * SECTOR),
                    ==, 0);
}

static void test_discard(struct fixture *f, gconstpointer data)
{
    (void)data;
    discard_both(f, 3, 2); /* part of a cluster: stays */
    check_all(f);
    discard_both(f, 3, 20); /* one whole one within */
    check_all(f);
    write_both(f, 9, 1, 0x77);
    discard_both(f, SECTORS - 11, 11);
    check_all(f);
}

static void test_random(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (unsigned i = 0; i < 2000; i++) {
        unsigned sector = (unsigned)g_test_rand_int_range(0, SECTORS);
        unsigned max = MIN(SECTORS - sector, 40u);
        unsigned count = (unsigned)g_test_rand_int_range(1, (gint)max + 1);

        switch (g_test_rand_int_range(0, 8)) {
        case 0:
            discard_both(f, sector, count);
            break;
        case 1:
            check_all(f);
            break;
        default:
            write_both(f, sector, count, (uint8_t)i);
            break;
        }
    }
}

/* --- Several writers with neighbouring sectors: no copy-up may undo another's write --- */

struct writer {
    struct fixture *f;
    unsigned mine; /* sectors that are `mine` modulo WRITERS are this one's */
    guint32 seed;
};

static gpointer writer_run(gpointer data)
{
    struct writer *w = data;
    struct fixture *f = w->f;
    g_autoptr(GRand) rand = g_rand_new_with_seed(w->seed);
    uint8_t buf[SECTOR];

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned sector =
            (unsigned)g_rand_int_range(rand, 0, SECTORS / WRITERS) * WRITERS + w->mine;

        memset(buf, (int)(i * WRITERS + w->mine), sizeof(buf));
        memcpy(f->model + sector * SECTOR, buf, sizeof(buf));
        g_assert_cmpint(
            disk_do(f->blk, BLOCK_WRITE, (uint64_t)sector * SECTOR, buf, sizeof(buf)), ==, 0);
        g_assert_cmpint(
            disk_do(f->blk, BLOCK_READ, (uint64_t)sector * SECTOR, buf, sizeof(buf)), ==, 0);
        g_assert_cmpmem(buf, SECTOR, f->model + sector * SECTOR, SECTOR);
    }
    return NULL;
}

static void test_threads(struct fixture *f, gconstpointer data)
{
    GThread *threads[WRITERS];
    struct writer writers[WRITERS];

    (void)data;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.f = f, .mine = i, .seed = (guint32)g_test_rand_int()};
        threads[i] = g_thread_new("writer", writer_run, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        g_thread_join(threads[i]);
    }
}

/*
 * Two requests in flight at once on one clear cluster, again and again with every cluster: a
 * part and its neighbour part. Both must be there in the end.
 */
static void test_copy_up_race(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (unsigned c = 0; c < 64; c++) {
        uint64_t start = (uint64_t)c * CLUSTER;
        struct disk_wait w[8];

        memset(f->model + start, (int)c + 1, CLUSTER);
        for (unsigned s = 0; s < 8; s++) {
            disk_start(&w[s], f->blk, BLOCK_WRITE, start + s * SECTOR,
                       f->model + start + s * SECTOR, SECTOR, s % 2 == 0);
        }
        for (unsigned s = 0; s < 8; s++) {
            g_assert_cmpint(disk_finish(&w[s]), ==, 0);
        }
    }
}

/*
 * The same, forced: a copy-up is held between reading the image and writing the cluster, until
 * the other request is through. With correct locking it cannot be, so the wait is short.
 */
static struct {
    GMutex lock;
    GCond cond;
    bool armed, held, other_done;
} gate;

enum { GATE_US = 20000 };

static ssize_t gate_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    ssize_t n = preadv(fd, iov, count, offset);
    gint64 end = g_get_monotonic_time() + GATE_US;

    g_mutex_lock(&gate.lock);
    if (gate.armed) {
        gate.armed = false;
        gate.held = true;
        g_cond_broadcast(&gate.cond);
        while (!gate.other_done && g_cond_wait_until(&gate.cond, &gate.lock, end)) {
        }
    }
    g_mutex_unlock(&gate.lock);
    return n;
}

static void gate_complete(struct block_request *req, int ret)
{
    g_mutex_lock(&gate.lock);
    gate.other_done = true;
    g_cond_broadcast(&gate.cond);
    g_mutex_unlock(&gate.lock);
    disk_wait_complete(req, ret);
}

/* Sector 0 of a clear cluster is written and held; `count` sectors from `sector` on beside it.
 */
static void race_with(struct fixture *f, unsigned cluster, unsigned sector, unsigned count)
{
    uint64_t start = (uint64_t)cluster * CLUSTER;
    uint8_t *model = f->model + start;
    struct disk_wait first, other;

    gate.armed = true;
    gate.held = gate.other_done = false;
    memset(model, 0x10, SECTOR);
    disk_start(&first, f->blk, BLOCK_WRITE, start, model, SECTOR, false);
    g_mutex_lock(&gate.lock);
    while (!gate.held) {
        g_cond_wait(&gate.cond, &gate.lock);
    }
    g_mutex_unlock(&gate.lock);
    memset(model + sector * SECTOR, 0x20, count * SECTOR);
    other.iov = (struct iovec){.iov_base = model + sector * SECTOR, .iov_len = count * SECTOR};
    g_mutex_init(&other.lock);
    g_cond_init(&other.cond);
    other.done = false;
    other.req = (struct block_request){
        .op = BLOCK_WRITE,
        .offset = start + sector * SECTOR,
        .len = count * SECTOR,
        .iov = &other.iov,
        .iov_count = 1,
        .complete = gate_complete,
        .opaque = &other,
    };
    f->blk->ops->submit(f->blk, &other.req);
    g_assert_cmpint(disk_finish(&first), ==, 0);
    g_assert_cmpint(disk_finish(&other), ==, 0);
    if (sector == 0) { /* both wrote it: either may have been last */
        g_assert_cmpint(disk_do(f->blk, BLOCK_READ, start, model, SECTOR), ==, 0);
        g_assert_true(model[0] == 0x10 || model[0] == 0x20);
    }
}

static void test_forced_race(struct fixture *f, gconstpointer data)
{
    struct block_host_ops host = block_host_syscalls;
    struct block_open_options o = {.path = f->path, .snapshot = true, .host = &host};

    (void)data;
    host.preadv = gate_preadv;
    block_close(f->blk);
    f->blk = disk_open(&o, f->pool);
    race_with(f, 3, 1, 1);   /* another part of the cluster */
    race_with(f, 7, 0, 8);   /* all of it */
    race_with(f, 11, 0, 24); /* it and more */
    race_with(f, 20, 4, 10); /* its end and the start of the next */
    check_all(f);
    block_close(f->blk);
    f->blk =
        disk_open(&(struct block_open_options){.path = f->path, .snapshot = true}, f->pool);
    memcpy(f->model, f->image, SIZE);
}

static void test_flush(struct fixture *f, gconstpointer data)
{
    (void)data;
    write_both(f, 0, 1, 0x99);
    g_assert_cmpint(disk_do(f->blk, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
}

/* --- A host that fails the Nth transfer, N swept: nothing but the failing request suffers ---
 */

static gint host_countdown;

static bool host_fails(void)
{
    return g_atomic_int_dec_and_test(&host_countdown);
}

/* Torn between sectors: the first half is done. */
static ssize_t host_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (host_fails()) {
        if (pwrite(fd, iov->iov_base, iov->iov_len / 2 / SECTOR * SECTOR, offset) < 0) {
            return -1;
        }
        errno = EIO;
        return -1;
    }
    return pwritev(fd, iov, count, offset);
}

static ssize_t host_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (host_fails()) {
        errno = EIO;
        return -1;
    }
    return preadv(fd, iov, count, offset);
}

/* After a failed write a sector is the old or the new one; the model takes what is there. */
static void settle_failed(struct fixture *f, unsigned sector, unsigned count,
                          const uint8_t *old)
{
    uint8_t now[SECTOR];

    for (unsigned s = sector; s < sector + count; s++) {
        g_assert_cmpint(disk_do(f->blk, BLOCK_READ, (uint64_t)s * SECTOR, now, SECTOR), ==, 0);
        g_assert_true(memcmp(now, f->model + s * SECTOR, SECTOR) == 0 ||
                      memcmp(now, old + (s - sector) * SECTOR, SECTOR) == 0);
        memcpy(f->model + s * SECTOR, now, SECTOR);
    }
}

static void write_with_failure(struct fixture *f, unsigned nth, uint8_t value)
{
    unsigned sector = (unsigned)g_test_rand_int_range(0, SECTORS - 40);
    unsigned count = (unsigned)g_test_rand_int_range(1, 41);
    g_autofree uint8_t *old = g_memdup2(f->model + sector * SECTOR, count * SECTOR);
    int ret;

    memset(f->model + sector * SECTOR, value, count * SECTOR);
    g_atomic_int_set(&host_countdown, (gint)nth);
    ret = disk_do(f->blk, BLOCK_WRITE, (uint64_t)sector * SECTOR, f->model + sector * SECTOR,
                  count * SECTOR);
    g_atomic_int_set(&host_countdown, 0);
    if (ret != 0) {
        g_assert_cmpint(ret, ==, -EIO);
        settle_failed(f, sector, count, old);
    }
}

static void test_failures(struct fixture *f, gconstpointer data)
{
    struct block_host_ops host = block_host_syscalls;
    struct block_open_options o = {.path = f->path, .snapshot = true, .host = &host};

    (void)data;
    host.preadv = host_preadv;
    host.pwritev = host_pwritev;
    for (unsigned round = 0; round < 10; round++) {
        block_close(f->blk);
        f->blk = disk_open(&o, f->pool);
        memcpy(f->model, f->image, SIZE);
        for (unsigned i = 0; i < 50; i++) {
            write_with_failure(f, 1 + i % 6, (uint8_t)(round * 50 + i));
        }
        check_all(f);
    }
    block_close(f->blk);
    f->blk =
        disk_open(&(struct block_open_options){.path = f->path, .snapshot = true}, f->pool);
    memcpy(f->model, f->image, SIZE);
}

static void test_no_folder(void)
{
    struct io_pool *pool = io_pool_new(1, NULL, NULL, NULL);
    char *path = disk_temp(CLUSTER);
    struct block_open_options o = {
        .path = path, .snapshot = true, .snapshot_dir = "/nonexistent"};

    disk_open_fails(&o, pool, PVEMU_ERROR_HOST, "cannot make a snapshot file in /nonexistent",
                    "TMPDIR");
    disk_temp_free(path);
    io_pool_free(pool);
}

#define TEST(path, fn) g_test_add(path, struct fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/io/overlay/untouched", test_untouched);
    TEST("/io/overlay/part-of-cluster", test_part_of_cluster);
    TEST("/io/overlay/across-clusters", test_across_clusters);
    TEST("/io/overlay/last-cluster", test_last_cluster);
    TEST("/io/overlay/discard", test_discard);
    TEST("/io/overlay/random", test_random);
    TEST("/io/overlay/threads", test_threads);
    TEST("/io/overlay/copy-up-race", test_copy_up_race);
    TEST("/io/overlay/forced-race", test_forced_race);
    TEST("/io/overlay/flush", test_flush);
    TEST("/io/overlay/failures", test_failures);
    g_test_add_func("/io/overlay/no-folder", test_no_folder);
    return g_test_run();
}
