/* SPDX-License-Identifier: MIT */
/*
 * A few threads that make the blocking system calls of disks (preadv, pwritev, fdatasync,
 * fallocate, BLKDISCARD), so that no vCPU and no main loop waits for a host disk.
 *
 * Jobs start in the order they were submitted and may finish in any order; what has to be
 * ordered is ordered above (block_queue.h). The queue is a list through the jobs themselves:
 * submitting never blocks and never allocates, and its length is bounded by who owns jobs (a
 * ring has a fixed number of entries).
 */
#ifndef PVEMU_IO_POOL_H
#define PVEMU_IO_POOL_H

#include <glib.h>

/* Embedded in its owner; may be freed or submitted again inside run(). */
struct io_job {
    void (*run)(struct io_job *job); /* on an I/O thread, no lock held */
    struct io_job *next;             /* kept by the pool */
};

struct io_pool;

/*
 * nr_threads 0 chooses (2 to 4). thread_start(opaque), when given, is the first thing each
 * thread does. All signals are blocked in the
 * threads, which are called "pvemu-io". NULL when the host gives no thread.
 */
struct io_pool *io_pool_new(unsigned nr_threads, void (*thread_start)(void *opaque),
                            void *opaque, GError **err);
/* Runs what was submitted to its end, then ends the threads. Every disk on it is closed
 * already. */
void io_pool_free(struct io_pool *pool);
/* Any thread, also from within a job. */
void io_pool_submit(struct io_pool *pool, struct io_job *job);
/* Runs fn once on every thread of the pool and returns when all have done it. Not from a
 * job. */
void io_pool_each(struct io_pool *pool, void (*fn)(void *opaque), void *opaque);
unsigned io_pool_threads(const struct io_pool *pool);

#endif
