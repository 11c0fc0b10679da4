/* SPDX-License-Identifier: MIT */
/* From the words of -disk to a struct block: open, identify, measure, lock. */
#ifndef PVEMU_IO_BLOCK_OPEN_H
#define PVEMU_IO_BLOCK_OPEN_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/block.h"
#include "io/block_file.h"
#include "io/io_pool.h"

struct block_open_options {
    const char *path;
    const char
        *format; /* NULL: raw, unless the file looks like something else (an error); "raw" */
    bool read_only;
    bool snapshot;   /* writes go to a temporary file, the image is only read */
    bool no_discard; /* do not offer discard */
    bool no_lock;
    uint32_t sector_size;     /* 0: 512 for a file, its own for a device; 512 or 4096 */
    const char *snapshot_dir; /* NULL: $TMPDIR, /var/tmp or /tmp */
    const struct block_host_ops *host; /* NULL: system calls; tests inject errors here */
};

/*
 * All files are opened here and nothing is opened later, so the sandbox may close behind it.
 * The pool is borrowed. The disk's name in messages is its path. Its threads need: preadv,
 * pwritev, fdatasync, fallocate, ioctl(BLKDISCARD), futex, write (warnings), clock_gettime.
 */
struct block *block_open(const struct block_open_options *options, struct io_pool *pool,
                         GError **err);

static inline void block_close(struct block *blk)
{
    if (blk != NULL) {
        blk->ops->close(blk);
    }
}

#endif
