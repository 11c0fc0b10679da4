/* SPDX-License-Identifier: MIT */
/*
 * A disk in memory for tests of the back end: requests wait until the test says so, and fail
 * when it says so. Checks that the back end keeps to the contract of core/block.h.
 */
#ifndef PVEMU_TESTS_FAKE_DISK_H
#define PVEMU_TESTS_FAKE_DISK_H

#include <string.h>

#include "core/block.h"

enum { FAKE_DISK_QUEUE = 1024 };

struct fake_disk {
    struct block blk; /* first */
    uint8_t *data;
    struct block_request *queue[FAKE_DISK_QUEUE];
    unsigned queued;
    int fail;       /* every request ends with this */
    int fail_flush; /* every flush and FUA write ends with this */
    GString *log;   /* "r w W(fua) f d" in order of execution */
};

static inline void fake_disk_submit(struct block *blk, struct block_request *req)
{
    struct fake_disk *disk = (struct fake_disk *)blk;
    uint64_t sum = 0;

    g_assert_cmpuint(disk->queued, <, FAKE_DISK_QUEUE);
    g_assert_true(req->offset <= blk->size && req->len <= blk->size - req->offset);
    g_assert_true(req->op == BLOCK_READ || !blk->read_only);
    for (unsigned i = 0; i < req->iov_count; i++) {
        sum += req->iov[i].iov_len;
    }
    if (req->op == BLOCK_READ || req->op == BLOCK_WRITE) {
        g_assert_cmpuint(sum, ==, req->len);
        g_assert_cmpuint(req->offset % blk->sector_size, ==, 0);
        g_assert_cmpuint(req->len % blk->sector_size, ==, 0);
        g_assert_cmpuint(req->len, >, 0);
    }
    disk->queue[disk->queued++] = req;
}

static inline int fake_disk_execute(struct fake_disk *disk, struct block_request *req)
{
    uint8_t *at = disk->data + req->offset;

    g_string_append_c(disk->log, req->op == BLOCK_WRITE && req->fua ? 'W' : "rwfd"[req->op]);
    if (disk->fail != 0) {
        return disk->fail;
    }
    if (disk->fail_flush != 0 && (req->op == BLOCK_FLUSH || req->fua)) {
        return disk->fail_flush;
    }
    for (unsigned i = 0; i < req->iov_count; i++) {
        if (req->op == BLOCK_READ) {
            memcpy(req->iov[i].iov_base, at, req->iov[i].iov_len);
        } else if (req->op == BLOCK_WRITE) {
            memcpy(at, req->iov[i].iov_base, req->iov[i].iov_len);
        }
        at += req->iov[i].iov_len;
    }
    if (req->op == BLOCK_DISCARD) {
        memset(at, 0, req->len);
    }
    return 0;
}

/* Does the i-th waiting request and tells its owner. Board lock not held. */
static inline void fake_disk_step(struct fake_disk *disk, unsigned i)
{
    struct block_request *req = disk->queue[i];
    int ret = fake_disk_execute(disk, req);

    g_assert_cmpuint(i, <, disk->queued);
    memmove(&disk->queue[i], &disk->queue[i + 1], (--disk->queued - i) * sizeof(req));
    req->complete(req, ret);
}

static inline void fake_disk_run(struct fake_disk *disk)
{
    while (disk->queued > 0) {
        fake_disk_step(disk, 0);
    }
}

static inline void fake_disk_drain(struct block *blk)
{
    fake_disk_run((struct fake_disk *)blk);
}

static inline void fake_disk_close(struct block *blk)
{
    struct fake_disk *disk = (struct fake_disk *)blk;

    g_assert_cmpuint(disk->queued, ==, 0);
    g_string_free(disk->log, TRUE);
    g_free(disk->data);
    g_free(disk);
}

static const struct block_ops fake_disk_ops = {
    .name = "fake",
    .submit = fake_disk_submit,
    .drain = fake_disk_drain,
    .close = fake_disk_close,
};

static inline struct fake_disk *fake_disk_new(uint64_t size, uint32_t sector_size)
{
    struct fake_disk *disk = g_new0(struct fake_disk, 1);

    disk->data = g_malloc0(size);
    disk->log = g_string_new(NULL);
    disk->blk = (struct block){
        .ops = &fake_disk_ops,
        .name = (char *)"test.img",
        .size = size,
        .sector_size = sector_size,
        .physical_sector_size = 4096,
        .can_discard = true,
        .discard_granularity = 4096,
    };
    return disk;
}

#endif
