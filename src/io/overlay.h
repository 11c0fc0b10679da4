/* SPDX-License-Identifier: MIT */
/*
 * A snapshot disk: the image is only read, what the guest writes goes to a nameless sparse
 * file that is gone when the disk is closed.
 */
#ifndef PVEMU_IO_OVERLAY_H
#define PVEMU_IO_OVERLAY_H

#include "core/block.h"
#include "io/block_file.h"
#include "io/io_pool.h"

/*
 * As raw_new; *base is open for reading and is taken. The temporary file is made in `dir`, or
 * when that is NULL in $TMPDIR, else /var/tmp, else /tmp. It holds at most the size of the
 * disk. NULL (nothing taken) when it cannot be made.
 */
struct block *overlay_new(const struct block *geometry, const struct block_file *base,
                          const char *dir, struct io_pool *pool, GError **err);

#endif
