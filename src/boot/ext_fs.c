/* SPDX-License-Identifier: MIT */
/*
 * libext2fs on top of a disk_reader. The I/O manager has no working write, so the image cannot
 * be changed whatever the library does. The library hands its manager nothing but a name, so
 * the name carries the address of the ext_fs.
 *
 * A journal that needs recovery is not replayed: what is read may be a little old. Kernel
 * modules do not change, so old is as good as new; the caller knows what to do when they are
 * not there.
 */
#include "boot/ext_fs.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"

enum { EXT_LIST_MAX = 16384 };

struct ext_fs {
    const struct disk_reader *disk;
    uint64_t offset, size;
    ext2_filsys fs;
};

static struct ext_fs *ext_io_self(io_channel channel)
{
    return channel->private_data;
}

static errcode_t ext_io_close(io_channel channel)
{
    if (--channel->refcount > 0) {
        return 0;
    }
    g_free(channel->name);
    g_free(channel);
    return 0;
}

static errcode_t ext_io_set_blksize(io_channel channel, int size)
{
    if (size < 512 || size > 65536) {
        return EINVAL;
    }
    channel->block_size = size;
    return 0;
}

/* count: blocks, or bytes when negative. What lies beyond the end reads as an error. */
static errcode_t ext_io_read64(io_channel channel, unsigned long long block, int count,
                               void *buf)
{
    struct ext_fs *self = ext_io_self(channel);
    uint64_t len = count < 0 ? (uint64_t) - (int64_t)count
                             : (uint64_t)count * (unsigned)channel->block_size;
    uint64_t at;

    if (!checked_mul(block, (unsigned)channel->block_size, &at) ||
        !checked_range(at, len, self->size) ||
        !disk_read(self->disk, buf, len, self->offset + at)) {
        return EXT2_ET_SHORT_READ;
    }
    return 0;
}

static errcode_t ext_io_read(io_channel channel, unsigned long block, int count, void *buf)
{
    return ext_io_read64(channel, block, count, buf);
}

static errcode_t ext_io_write64(io_channel channel, unsigned long long block, int count,
                                const void *buf)
{
    return EROFS;
}

static errcode_t ext_io_write(io_channel channel, unsigned long block, int count,
                              const void *buf)
{
    return EROFS;
}

static errcode_t ext_io_flush(io_channel channel)
{
    return 0;
}

static errcode_t ext_io_open(const char *name, int flags, io_channel *out);

static struct struct_io_manager ext_io = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "pvemu disk reader",
    .open = ext_io_open,
    .close = ext_io_close,
    .set_blksize = ext_io_set_blksize,
    .read_blk = ext_io_read,
    .write_blk = ext_io_write,
    .flush = ext_io_flush,
    .read_blk64 = ext_io_read64,
    .write_blk64 = ext_io_write64,
};

static errcode_t ext_io_open(const char *name, int flags, io_channel *out)
{
    io_channel channel = g_new0(struct struct_io_channel, 1);

    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->manager = &ext_io;
    channel->name = g_strdup(name);
    channel->block_size = 1024;
    channel->refcount = 1;
    channel->private_data = (void *)(uintptr_t)g_ascii_strtoull(name, NULL, 16);
    *out = channel;
    return 0;
}

struct ext_fs *ext_fs_open(const struct disk_reader *disk, uint64_t offset, uint64_t size,
                           GError **err)
{
    struct ext_fs *self = g_new0(struct ext_fs, 1);
    char name[32];
    errcode_t ret;

    *self = (struct ext_fs){.disk = disk, .offset = offset, .size = size};
    g_snprintf(name, sizeof(name), "%" G_GINT64_MODIFIER "x", (uint64_t)(uintptr_t)self);
    ret = ext2fs_open(name, EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0, &ext_io,
                      &self->fs);
    if (ret != 0) {
        error_set(err, PVEMU_ERROR_IMAGE, "cannot read its ext file system: %s",
                  error_message(ret));
        g_free(self);
        return NULL;
    }
    return self;
}

void ext_fs_close(struct ext_fs *fs)
{
    if (fs != NULL) {
        ext2fs_free(fs->fs);
        g_free(fs);
    }
}

static bool ext_fs_find(struct ext_fs *fs, const char *path, ext2_ino_t *ino)
{
    return ext2fs_namei_follow(fs->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino) == 0;
}

bool ext_fs_exists(struct ext_fs *fs, const char *path)
{
    ext2_ino_t ino;

    return ext_fs_find(fs, path, &ino);
}

static GBytes *ext_fs_read_all(ext2_file_t file, size_t max)
{
    g_autofree uint8_t *bytes = NULL;
    uint64_t size = 0;
    size_t len = 0;

    if (ext2fs_file_get_lsize(file, (__u64 *)&size) != 0 || size > max) {
        return NULL;
    }
    bytes = g_try_malloc(MAX(size, 1));
    while (bytes != NULL && len < size) {
        unsigned got = 0;

        if (ext2fs_file_read(file, bytes + len, (unsigned)MIN(size - len, 1 << 20), &got) !=
                0 ||
            got == 0) {
            return NULL;
        }
        len += got;
    }
    return bytes != NULL ? g_bytes_new_take(g_steal_pointer(&bytes), len) : NULL;
}

GBytes *ext_fs_read(struct ext_fs *fs, const char *path, size_t max)
{
    struct ext2_inode inode;
    ext2_file_t file;
    ext2_ino_t ino;
    GBytes *bytes;

    if (!ext_fs_find(fs, path, &ino) || ext2fs_read_inode(fs->fs, ino, &inode) != 0 ||
        !LINUX_S_ISREG(inode.i_mode) || ext2fs_file_open(fs->fs, ino, 0, &file) != 0) {
        return NULL;
    }
    bytes = ext_fs_read_all(file, max);
    ext2fs_file_close(file);
    return bytes;
}

struct ext_listing {
    ext_fs_entry_fn fn;
    void *opaque;
    unsigned count;
};

static int ext_fs_entry(ext2_ino_t dir, int entry, struct ext2_dir_entry *dirent, int offset,
                        int blocksize, char *buf, void *opaque)
{
    struct ext_listing *listing = opaque;
    g_autofree char *name = g_strndup(dirent->name, (size_t)ext2fs_dirent_name_len(dirent));

    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strchr(name, '/') == NULL) {
        listing->fn(listing->opaque, name, ext2fs_dirent_file_type(dirent) == EXT2_FT_DIR);
    }
    return ++listing->count >= EXT_LIST_MAX ? DIRENT_ABORT : 0;
}

void ext_fs_list(struct ext_fs *fs, const char *path, ext_fs_entry_fn fn, void *opaque)
{
    struct ext_listing listing = {fn, opaque, 0};
    ext2_ino_t ino;

    if (ext_fs_find(fs, path, &ino)) {
        ext2fs_dir_iterate2(fs->fs, ino, 0, NULL, ext_fs_entry, &listing);
    }
}
