/* SPDX-License-Identifier: MIT */
/*
 * Raw disks: guest sector n is at byte n * 512 of the file. Transfers go straight between guest
 * memory and the host's page cache; a flush is fdatasync. Discard punches a hole in a file and
 * is passed on to a device.
 */
#include "io/raw.h"

#include <errno.h>

#include "io/block_queue.h"

struct raw {
    struct block_queue queue; /* first */
    struct block_file file;
};

static struct raw *raw_of(struct block_queue *q)
{
    return (struct raw *)q;
}

static int raw_read(struct block_queue *q, const struct block_request *req)
{
    struct iov_cursor to = iov_cursor_start(req->iov, req->iov_count);

    return block_file_read(&raw_of(q)->file, &to, req->offset, req->len);
}

static int raw_write(struct block_queue *q, const struct block_request *req)
{
    struct iov_cursor from = iov_cursor_start(req->iov, req->iov_count);

    return block_file_write(&raw_of(q)->file, &from, req->offset, req->len);
}

static int raw_discard(struct block_queue *q, const struct block_request *req)
{
    if (!q->blk.can_discard) {
        return -EOPNOTSUPP;
    }
    if (req->len == 0) {
        return 0;
    }
    return block_file_discard(&raw_of(q)->file, req->offset, req->len);
}

static int raw_flush(struct block_queue *q)
{
    return block_file_sync(&raw_of(q)->file);
}

static void raw_free(struct block_queue *q)
{
    struct raw *raw = raw_of(q);

    block_file_close(&raw->file);
    block_queue_fini(q);
    g_free(raw);
}

static const struct block_queue_ops raw_ops = {
    .name = "raw",
    .read = raw_read,
    .write = raw_write,
    .discard = raw_discard,
    .flush = raw_flush,
    .free = raw_free,
};

struct block *raw_new(const struct block *geometry, const struct block_file *file,
                      struct io_pool *pool)
{
    struct raw *raw = g_new0(struct raw, 1);

    raw->queue.blk = *geometry;
    raw->file = *file;
    block_queue_init(&raw->queue, &raw_ops, pool);
    return &raw->queue.blk;
}
