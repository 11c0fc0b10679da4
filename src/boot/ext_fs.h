/* SPDX-License-Identifier: MIT */
/* Reading files out of an ext2/3/4 file system inside a disk image, without mounting it. */
#ifndef PVEMU_BOOT_EXT_FS_H
#define PVEMU_BOOT_EXT_FS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "boot/disk.h"

struct ext_fs;

/* Opens the volume; `disk` must outlive it. NULL (with *err) when it is damaged or too new. */
struct ext_fs *ext_fs_open(const struct disk_reader *disk, uint64_t offset, uint64_t size,
                           GError **err);
void ext_fs_close(struct ext_fs *fs);
/* Whether a path exists; symbolic links are followed inside the file system. */
bool ext_fs_exists(struct ext_fs *fs, const char *path);
/* The contents of a regular file of at most `max` bytes; NULL when there is no such file. */
GBytes *ext_fs_read(struct ext_fs *fs, const char *path, size_t max);
/* Calls fn for each name in a directory (but . and ..); is_dir is what the entry says. Bounded.
 */
typedef void (*ext_fs_entry_fn)(void *opaque, const char *name, bool is_dir);
void ext_fs_list(struct ext_fs *fs, const char *path, ext_fs_entry_fn fn, void *opaque);

#endif
