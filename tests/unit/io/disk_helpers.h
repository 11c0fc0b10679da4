/* SPDX-License-Identifier: MIT */
/* Disks for unit tests: temporary images, and requests that the test waits for. */
#ifndef PVEMU_TESTS_DISK_HELPERS_H
#define PVEMU_TESTS_DISK_HELPERS_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "io/block_open.h"

/* A new file of `size` zero bytes; the caller unlinks and frees its path. */
static inline char *disk_temp(uint64_t size)
{
    char *path = NULL;
    int fd = g_file_open_tmp("pvemu-test-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    close(fd);
    return path;
}

static inline void disk_temp_free(char *path)
{
    unlink(path);
    g_free(path);
}

static inline struct block *disk_open(const struct block_open_options *o, struct io_pool *pool)
{
    g_autoptr(GError) err = NULL;
    struct block *blk = block_open(o, pool, &err);

    g_assert_no_error(err);
    g_assert_nonnull(blk);
    return blk;
}

/* Checks that it does not open, with these words in the message and the hint (NULL: no hint).
 */
static inline void disk_open_fails(const struct block_open_options *o, struct io_pool *pool,
                                   enum pvemu_error_code code, const char *words,
                                   const char *hint)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *got_hint = NULL;
    g_autofree char *message = NULL;

    g_assert_null(block_open(o, pool, &err));
    g_assert_error(err, PVEMU_ERROR, (gint)code);
    message = error_split_hint(err, &got_hint);
    g_test_message("%s | %s", message, got_hint);
    g_assert_nonnull(strstr(message, words));
    if (hint != NULL) {
        g_assert_nonnull(got_hint);
        g_assert_nonnull(strstr(got_hint, hint));
    } else {
        g_assert_null(got_hint);
    }
}

/* A request that can be waited for. */
struct disk_wait {
    struct block_request req;
    struct iovec iov;
    GMutex lock;
    GCond cond;
    bool done;
    int ret;
};

static inline void disk_wait_complete(struct block_request *req, int ret)
{
    struct disk_wait *w = req->opaque;

    g_mutex_lock(&w->lock);
    g_assert_false(w->done);
    w->done = true;
    w->ret = ret;
    g_cond_signal(&w->cond);
    g_mutex_unlock(&w->lock);
}

static inline void disk_start_iov(struct disk_wait *w, struct block *blk, enum block_op op,
                                  uint64_t offset, struct iovec *iov, unsigned count,
                                  uint64_t len, bool fua)
{
    w->done = false;
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    w->req = (struct block_request){
        .op = op,
        .fua = fua,
        .offset = offset,
        .len = len,
        .complete = disk_wait_complete,
        .iov = iov,
        .iov_count = count,
        .opaque = w,
    };
    blk->ops->submit(blk, &w->req);
}

static inline void disk_start(struct disk_wait *w, struct block *blk, enum block_op op,
                              uint64_t offset, void *buf, uint64_t len, bool fua)
{
    w->iov = (struct iovec){.iov_base = buf, .iov_len = len};
    disk_start_iov(w, blk, op, offset, &w->iov, buf != NULL ? 1 : 0, len, fua);
}

static inline int disk_finish(struct disk_wait *w)
{
    g_mutex_lock(&w->lock);
    while (!w->done) {
        g_cond_wait(&w->cond, &w->lock);
    }
    g_mutex_unlock(&w->lock);
    g_cond_clear(&w->cond);
    g_mutex_clear(&w->lock);
    return w->ret;
}

static inline int disk_do(struct block *blk, enum block_op op, uint64_t offset, void *buf,
                          uint64_t len)
{
    struct disk_wait w;

    disk_start(&w, blk, op, offset, buf, len, false);
    return disk_finish(&w);
}

#endif
