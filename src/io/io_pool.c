/* SPDX-License-Identifier: MIT */
/* The I/O threads: one list of jobs, one lock, one condition. See io_pool.h for the rules. */
#include "io/io_pool.h"

#include <pthread.h>
#include <signal.h>

#include "base/error.h"

enum { IO_POOL_MIN_THREADS = 2, IO_POOL_MAX_DEFAULT = 4, IO_POOL_MAX_THREADS = 16 };

struct io_pool {
    GMutex lock;
    GCond wake;
    struct io_job *head;
    struct io_job **tail;
    bool stop;
    void (*thread_start)(void *opaque);
    void *opaque;
    unsigned nr_threads;
    GThread *threads[IO_POOL_MAX_THREADS];
};

/* The next job in order of submission; NULL when the pool ends and there is none left. */
static struct io_job *io_pool_take(struct io_pool *pool)
{
    struct io_job *job;

    g_mutex_lock(&pool->lock);
    while (pool->head == NULL && !pool->stop) {
        g_cond_wait(&pool->wake, &pool->lock);
    }
    job = pool->head;
    if (job != NULL) {
        pool->head = job->next;
        if (pool->head == NULL) {
            pool->tail = &pool->head;
        }
    }
    g_mutex_unlock(&pool->lock);
    return job;
}

static gpointer io_pool_thread(gpointer data)
{
    struct io_pool *pool = data;
    struct io_job *job;

    if (pool->thread_start != NULL) {
        pool->thread_start(pool->opaque);
    }
    while ((job = io_pool_take(pool)) != NULL) {
        job->run(job);
    }
    return NULL;
}

/* Threads inherit the signal mask: signals are the main thread's business. */
static bool io_pool_start(struct io_pool *pool, unsigned wanted, GError **err)
{
    g_autoptr(GError) cause = NULL;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->nr_threads < wanted) {
        GThread *thread = g_thread_try_new("pvemu-io", io_pool_thread, pool, &cause);

        if (thread == NULL) {
            break;
        }
        pool->threads[pool->nr_threads++] = thread;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool->nr_threads == 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot start a thread for disk I/O: %s",
                         cause->message);
    }
    return true;
}

struct io_pool *io_pool_new(unsigned nr_threads, void (*thread_start)(void *opaque),
                            void *opaque, GError **err)
{
    struct io_pool *pool = g_new0(struct io_pool, 1);

    if (nr_threads == 0) {
        nr_threads = CLAMP(g_get_num_processors(), IO_POOL_MIN_THREADS, IO_POOL_MAX_DEFAULT);
    }
    g_mutex_init(&pool->lock);
    g_cond_init(&pool->wake);
    pool->tail = &pool->head;
    pool->thread_start = thread_start;
    pool->opaque = opaque;
    if (!io_pool_start(pool, MIN(nr_threads, IO_POOL_MAX_THREADS), err)) {
        io_pool_free(pool);
        return NULL;
    }
    return pool;
}

void io_pool_free(struct io_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    g_mutex_lock(&pool->lock);
    pool->stop = true;
    g_cond_broadcast(&pool->wake);
    g_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->nr_threads; i++) {
        g_thread_join(pool->threads[i]);
    }
    g_assert(pool->head == NULL);
    g_cond_clear(&pool->wake);
    g_mutex_clear(&pool->lock);
    g_free(pool);
}

void io_pool_submit(struct io_pool *pool, struct io_job *job)
{
    job->next = NULL;
    g_mutex_lock(&pool->lock);
    *pool->tail = job;
    pool->tail = &job->next;
    g_cond_signal(&pool->wake);
    g_mutex_unlock(&pool->lock);
}

/* One job per thread; each waits until all have begun, so that no thread gets two. */
struct io_each {
    struct io_job job; /* first */
    struct io_each_round *round;
};

struct io_each_round {
    GMutex lock;
    GCond change;
    unsigned begun, done, threads;
    void (*fn)(void *opaque);
    void *opaque;
};

static void io_each_run(struct io_job *job)
{
    struct io_each_round *round = ((struct io_each *)job)->round;

    g_mutex_lock(&round->lock);
    round->begun++;
    g_cond_broadcast(&round->change);
    while (round->begun < round->threads) {
        g_cond_wait(&round->change, &round->lock);
    }
    g_mutex_unlock(&round->lock);
    round->fn(round->opaque);
    g_mutex_lock(&round->lock);
    round->done++;
    g_cond_broadcast(&round->change);
    g_mutex_unlock(&round->lock);
}

void io_pool_each(struct io_pool *pool, void (*fn)(void *opaque), void *opaque)
{
    struct io_each_round round = {.threads = pool->nr_threads, .fn = fn, .opaque = opaque};
    struct io_each jobs[IO_POOL_MAX_THREADS];

    g_mutex_init(&round.lock);
    g_cond_init(&round.change);
    for (unsigned i = 0; i < round.threads; i++) {
        jobs[i] = (struct io_each){.job.run = io_each_run, .round = &round};
        io_pool_submit(pool, &jobs[i].job);
    }
    g_mutex_lock(&round.lock);
    while (round.done < round.threads) {
        g_cond_wait(&round.change, &round.lock);
    }
    g_mutex_unlock(&round.lock);
    g_cond_clear(&round.change);
    g_mutex_clear(&round.lock);
}

unsigned io_pool_threads(const struct io_pool *pool)
{
    return pool->nr_threads;
}
