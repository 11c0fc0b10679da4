/* SPDX-License-Identifier: MIT */
/*
 * What every disk format shares: turns the asynchronous contract of core/block.h into blocking
 * calls on I/O threads, and keeps the promises about order and about flushes.
 *
 * Order. Reads and writes may pass each other. A flush covers every write and discard that was
 * *submitted* before it, completed or not; that is more than a guest may count on (completed
 * ones), and costs nothing, as it waits in a list and not on a thread. A write with `fua` is
 * the write followed by such a flush of its own.
 *
 * Flushes of one disk never overlap: the host reports a lost page to one fdatasync() only, so
 * two at once could let the second say yes. Those that wait meanwhile share the next one.
 *
 * Failure. After the first failed flush no flush and no `fua` write succeeds until the disk is
 * opened again (the kernel drops the dirty pages and would say yes to the next fdatasync).
 */
#ifndef PVEMU_IO_BLOCK_QUEUE_H
#define PVEMU_IO_BLOCK_QUEUE_H

#include <glib.h>

#include "core/block.h"
#include "io/io_pool.h"

struct block_queue;

/* A format: blocking, on an I/O thread, several at a time; 0 or -errno. The range lies inside
 * the disk. */
struct block_queue_ops {
    const char *name;
    int (*read)(struct block_queue *q, const struct block_request *req);
    int (*write)(struct block_queue *q, const struct block_request *req);
    int (*discard)(struct block_queue *q, const struct block_request *req); /* NULL: cannot */
    int (*flush)(struct block_queue *q); /* NULL: nothing is kept, always good. One at a time */
    void (*free)(struct block_queue *q); /* closes and frees everything, q too */
};

/* First in the struct of a format. */
struct block_queue {
    struct block blk; /* first */
    const struct block_queue_ops *format;
    struct io_pool *pool;
    GMutex lock;
    GCond done;
    GQueue all;     /* struct block_job by `all_link`, in order of submission */
    GQueue writes;  /* those whose data is not in the host's cache yet, by `order_link` */
    GQueue waiting; /* flushes behind earlier writes, by `order_link` */
    GQueue ready;   /* flushes for the next fdatasync, by `order_link` */
    struct io_job sync_job;
    bool syncing;
    int sync_error; /* sticky */
    uint64_t next_seq;
};

/* The caller fills in blk (but not blk.ops) before or after. The pool is borrowed. */
void block_queue_init(struct block_queue *q, const struct block_queue_ops *format,
                      struct io_pool *pool);
/* Called by format->free. */
void block_queue_fini(struct block_queue *q);

#endif
