/* SPDX-License-Identifier: MIT */
/* Order of requests of one disk, and flushes that never lie; the rules are in block_queue.h. */
#include "io/block_queue.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/report.h"

/* One request on its way. */
struct block_job {
    struct io_job job; /* first */
    struct block_queue *q;
    struct block_request *req;
    uint64_t seq;
    GList all_link;
    GList order_link; /* in `writes`, then (flush, fua) in `waiting` or `ready` */
};

static struct block_queue *queue_of(struct block *blk)
{
    return (struct block_queue *)blk;
}

static bool block_job_is_write(const struct block_job *job)
{
    return job->req->op == BLOCK_WRITE || job->req->op == BLOCK_DISCARD;
}

/* Tells the owner; the job is gone afterwards. The request may be too. */
static void block_job_finish(struct block_job *job, int ret)
{
    struct block_queue *q = job->q;

    job->req->complete(job->req, ret);
    g_mutex_lock(&q->lock);
    g_queue_unlink(&q->all, &job->all_link);
    g_cond_broadcast(&q->done);
    g_mutex_unlock(&q->lock);
    g_free(job);
}

static void block_queue_start_sync_locked(struct block_queue *q)
{
    if (!q->syncing && q->ready.length > 0) {
        q->syncing = true;
        io_pool_submit(q->pool, &q->sync_job);
    }
}

/* A write's data has reached the host's cache (or failed): flushes behind it may go on. */
static void block_queue_write_landed_locked(struct block_queue *q, struct block_job *job)
{
    g_queue_unlink(&q->writes, &job->order_link);
    while (q->waiting.length > 0) {
        struct block_job *flush = q->waiting.head->data;

        if (q->writes.length > 0 &&
            ((struct block_job *)q->writes.head->data)->seq < flush->seq) {
            break;
        }
        g_queue_push_tail_link(&q->ready, g_queue_pop_head_link(&q->waiting));
    }
    block_queue_start_sync_locked(q);
}

/* The one fdatasync under way: serves every flush that was ready when it began. */
static void block_queue_sync(struct io_job *io)
{
    struct block_queue *q =
        (struct block_queue *)((char *)io - G_STRUCT_OFFSET(struct block_queue, sync_job));
    GQueue batch;
    GList *link;
    bool first_failure = false;
    int ret;

    g_mutex_lock(&q->lock);
    batch = q->ready;
    g_queue_init(&q->ready);
    ret = q->sync_error;
    g_mutex_unlock(&q->lock);

    if (ret == 0 && q->format->flush != NULL && !q->blk.read_only) {
        ret = q->format->flush(q);
        first_failure = ret < 0;
    }
    if (first_failure) {
        report_warn("disk '%s': the host could not write data out: %s; no flush will succeed "
                    "until it is opened again",
                    q->blk.name, g_strerror(-ret));
    }

    g_mutex_lock(&q->lock);
    q->sync_error = ret;
    q->syncing = false;
    block_queue_start_sync_locked(q);
    g_mutex_unlock(&q->lock);

    while ((link = g_queue_pop_head_link(&batch)) != NULL) {
        block_job_finish(link->data, ret);
    }
}

static int block_queue_transfer(struct block_queue *q, const struct block_request *req)
{
    switch (req->op) {
    case BLOCK_READ:
        return q->format->read(q, req);
    case BLOCK_WRITE:
        return q->format->write(q, req);
    case BLOCK_DISCARD:
        return q->format->discard != NULL ? q->format->discard(q, req) : -EOPNOTSUPP;
    case BLOCK_FLUSH:
        break;
    }
    return -EINVAL;
}

/* The caller checked already; this is the last door before the host's file. */
static int block_queue_check(const struct block_queue *q, const struct block_request *req)
{
    if (!checked_range(req->offset, req->len, q->blk.size)) {
        return -EINVAL;
    }
    if (req->op != BLOCK_READ && q->blk.read_only) {
        return -EROFS;
    }
    return 0;
}

static void block_queue_run(struct io_job *io)
{
    struct block_job *job = (struct block_job *)io;
    struct block_queue *q = job->q;
    bool fua = job->req->op == BLOCK_WRITE && job->req->fua;
    int ret = block_queue_check(q, job->req);

    if (ret == 0) {
        ret = block_queue_transfer(q, job->req);
    }
    if (block_job_is_write(job)) {
        g_mutex_lock(&q->lock);
        block_queue_write_landed_locked(q, job);
        if (fua && ret == 0) {
            g_queue_push_tail_link(&q->ready, &job->order_link);
            block_queue_start_sync_locked(q);
            g_mutex_unlock(&q->lock);
            return;
        }
        g_mutex_unlock(&q->lock);
    }
    block_job_finish(job, ret);
}

static void block_queue_submit(struct block *blk, struct block_request *req)
{
    struct block_queue *q = queue_of(blk);
    struct block_job *job = g_new0(struct block_job, 1);

    job->job.run = block_queue_run;
    job->q = q;
    job->req = req;
    job->all_link.data = job;
    job->order_link.data = job;
    g_mutex_lock(&q->lock);
    job->seq = q->next_seq++;
    g_queue_push_tail_link(&q->all, &job->all_link);
    if (req->op == BLOCK_FLUSH) {
        g_queue_push_tail_link(q->writes.length > 0 ? &q->waiting : &q->ready,
                               &job->order_link);
        block_queue_start_sync_locked(q);
    } else {
        if (block_job_is_write(job)) {
            g_queue_push_tail_link(&q->writes, &job->order_link);
        }
        io_pool_submit(q->pool, &job->job);
    }
    g_mutex_unlock(&q->lock);
}

static void block_queue_drain(struct block *blk)
{
    struct block_queue *q = queue_of(blk);
    uint64_t end;

    g_mutex_lock(&q->lock);
    end = q->next_seq;
    while (q->all.length > 0 && ((struct block_job *)q->all.head->data)->seq < end) {
        g_cond_wait(&q->done, &q->lock);
    }
    g_mutex_unlock(&q->lock);
}

/* A guest that is gone cannot flush any more: what it wrote is made durable, best effort. */
static void block_queue_close(struct block *blk)
{
    struct block_queue *q = queue_of(blk);

    block_queue_drain(blk);
    if (!blk->read_only && q->format->flush != NULL && q->sync_error == 0) {
        int ret = q->format->flush(q);

        if (ret < 0) {
            report_warn("disk '%s': the host could not write data out at the end: %s",
                        blk->name, g_strerror(-ret));
        }
    }
    q->format->free(q);
}

static const struct block_ops block_queue_block_ops = {
    .name = "queue",
    .submit = block_queue_submit,
    .drain = block_queue_drain,
    .close = block_queue_close,
};

void block_queue_init(struct block_queue *q, const struct block_queue_ops *format,
                      struct io_pool *pool)
{
    q->blk.ops = &block_queue_block_ops;
    q->format = format;
    q->pool = pool;
    q->sync_job.run = block_queue_sync;
    g_mutex_init(&q->lock);
    g_cond_init(&q->done);
}

void block_queue_fini(struct block_queue *q)
{
    g_assert(q->all.length == 0 && !q->syncing);
    g_free(q->blk.name);
    g_cond_clear(&q->done);
    g_mutex_clear(&q->lock);
}
