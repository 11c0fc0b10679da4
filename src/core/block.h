/* SPDX-License-Identifier: MIT */
/*
 * The contract of a disk's host side (src/io). Requests are asynchronous: submit() returns at
 * once and complete() is called later on an I/O thread, no lock held.
 */
#ifndef PVEMU_CORE_BLOCK_H
#define PVEMU_CORE_BLOCK_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD };

struct block_request {
    enum block_op op;
    bool fua;          /* write: on stable storage before it completes */
    uint64_t offset;   /* bytes, multiple of 512 */
    uint64_t len;      /* bytes; sum of iov for read and write */
    struct iovec *iov; /* guest memory or private; the owner keeps it valid until complete() */
    unsigned iov_count;
    /* ret: 0 or -errno. Called exactly once. The request may be freed inside. */
    void (*complete)(struct block_request *req, int ret);
    void *opaque;
};

struct block;

struct block_ops {
    const char *name;
    void (*submit)(struct block *blk, struct block_request *req);
    /* Waits until every request submitted so far has completed. Board lock NOT held. */
    void (*drain)(struct block *blk);
    void (*close)(struct block *blk); /* drains, flushes when writable, frees */
};

struct block {
    const struct block_ops *ops;
    char *name;           /* what the user called it, for messages */
    uint64_t size;        /* bytes, multiple of 512 */
    uint32_t sector_size; /* logical: 512 or 4096 */
    uint32_t physical_sector_size;
    bool read_only;
    bool can_discard;
    uint32_t discard_granularity; /* bytes */
};

#endif
