/* SPDX-License-Identifier: MIT */
/* The I/O threads: every job runs once, in order of submission, and none is lost at the end. */
#include <pthread.h>
#include <signal.h>

#include "io/io_pool.h"

struct counted {
    struct io_job job; /* first */
    gint *ran;
    gint *order;
    gint mine;
};

static void counted_run(struct io_job *job)
{
    struct counted *c = (struct counted *)job;

    if (c->order != NULL) {
        g_assert_cmpint(*c->order, ==, c->mine);
        (*c->order)++;
    }
    g_atomic_int_inc(c->ran);
    g_free(c);
}

static void test_all_run(void)
{
    struct io_pool *pool = io_pool_new(4, NULL, NULL, NULL);
    gint ran = 0;

    for (int i = 0; i < 10000; i++) {
        struct counted *c = g_new0(struct counted, 1);

        c->job.run = counted_run;
        c->ran = &ran;
        io_pool_submit(pool, &c->job);
    }
    io_pool_free(pool);
    g_assert_cmpint(ran, ==, 10000);
}

static void test_order(void)
{
    struct io_pool *pool = io_pool_new(1, NULL, NULL, NULL);
    gint ran = 0, order = 0;

    for (int i = 0; i < 1000; i++) {
        struct counted *c = g_new0(struct counted, 1);

        c->job.run = counted_run;
        c->ran = &ran;
        c->order = &order;
        c->mine = i;
        io_pool_submit(pool, &c->job);
    }
    io_pool_free(pool);
    g_assert_cmpint(order, ==, 1000);
}

static void start_counts(void *opaque)
{
    char name[16] = "";
    sigset_t set;

    pthread_getname_np(pthread_self(), name, sizeof(name));
    g_assert_cmpstr(name, ==, "pvemu-io");
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    g_assert_true(sigismember(&set, SIGTERM));
    g_atomic_int_inc((gint *)opaque);
}

static void test_thread_start(void)
{
    gint started = 0;
    struct io_pool *pool = io_pool_new(3, start_counts, &started, NULL);
    sigset_t set;

    g_assert_cmpuint(io_pool_threads(pool), ==, 3);
    io_pool_free(pool);
    g_assert_cmpint(started, ==, 3);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    g_assert_false(sigismember(&set, SIGTERM));
}

static void test_default_size(void)
{
    struct io_pool *pool = io_pool_new(0, NULL, NULL, NULL);

    g_assert_cmpuint(io_pool_threads(pool), >=, 2);
    g_assert_cmpuint(io_pool_threads(pool), <=, 4);
    io_pool_free(pool);
    io_pool_free(NULL);
}

static void note_thread(void *opaque)
{
    GHashTable *seen = opaque;
    static GMutex lock;

    g_mutex_lock(&lock);
    g_assert_true(g_hash_table_add(seen, g_thread_self()));
    g_mutex_unlock(&lock);
}

static void test_each(void)
{
    struct io_pool *pool = io_pool_new(4, NULL, NULL, NULL);

    for (int i = 0; i < 100; i++) {
        g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

        io_pool_each(pool, note_thread, seen);
        g_assert_cmpuint(g_hash_table_size(seen), ==, io_pool_threads(pool));
    }
    io_pool_free(pool);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/io/pool/all-run", test_all_run);
    g_test_add_func("/io/pool/order", test_order);
    g_test_add_func("/io/pool/thread-start", test_thread_start);
    g_test_add_func("/io/pool/default-size", test_default_size);
    g_test_add_func("/io/pool/each-thread-once", test_each);
    return g_test_run();
}
