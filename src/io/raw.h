/* SPDX-License-Identifier: MIT */
/* A disk that is a file or a host block device, byte for byte. */
#ifndef PVEMU_IO_RAW_H
#define PVEMU_IO_RAW_H

#include "core/block.h"
#include "io/block_file.h"
#include "io/io_pool.h"

/* *geometry gives name, size, sectors, flags and is copied (takes geometry->name); takes the
 * descriptor. */
struct block *raw_new(const struct block *geometry, const struct block_file *file,
                      struct io_pool *pool);

#endif
