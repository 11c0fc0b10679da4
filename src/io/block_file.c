/* SPDX-License-Identifier: MIT */
/* Whole reads and writes on an image; see block_file.h. Nothing here knows what a disk is. */
#include "io/block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BLOCK_FILE_IOV = 64 }; /* buffers per system call */

typedef ssize_t (*transfer_fn)(int fd, const struct iovec *iov, int count, off_t offset);

static int block_host_punch_hole(int fd, off_t offset, off_t len)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
}

static int block_host_discard(int fd, uint64_t offset, uint64_t len)
{
    uint64_t range[2] = {offset, len};

    return ioctl(fd, BLKDISCARD, range);
}

const struct block_host_ops block_host_syscalls = {
    .preadv = preadv,
    .pwritev = pwritev,
    .fdatasync = fdatasync,
    .punch_hole = block_host_punch_hole,
    .discard = block_host_discard,
};

/* Bytes left in the current buffer, after stepping over used-up and empty ones. */
static size_t iov_cursor_left(struct iov_cursor *cursor)
{
    for (;;) {
        g_assert(cursor->count > 0);
        if (cursor->used < cursor->iov->iov_len) {
            return cursor->iov->iov_len - cursor->used;
        }
        cursor->iov++;
        cursor->count--;
        cursor->used = 0;
    }
}

void iov_cursor_skip(struct iov_cursor *cursor, size_t len)
{
    while (len > 0) {
        size_t n = MIN(len, iov_cursor_left(cursor));

        cursor->used += n;
        len -= n;
    }
}

void iov_cursor_copy_out(struct iov_cursor *cursor, void *buf, size_t len)
{
    uint8_t *out = buf;

    while (len > 0) {
        size_t n = MIN(len, iov_cursor_left(cursor));

        memcpy(out, (const uint8_t *)cursor->iov->iov_base + cursor->used, n);
        cursor->used += n;
        out += n;
        len -= n;
    }
}

/* The next buffers of the cursor, at most len bytes of them. Returns how many. */
static int iov_cursor_peek(const struct iov_cursor *cursor, uint64_t len, struct iovec *out)
{
    size_t used = cursor->used;
    int n = 0;

    for (unsigned i = 0; i < cursor->count && len > 0 && n < BLOCK_FILE_IOV; i++) {
        size_t left = cursor->iov[i].iov_len - used;

        if (left > 0) {
            out[n].iov_base = (uint8_t *)cursor->iov[i].iov_base + used;
            out[n].iov_len = MIN(left, len);
            len -= out[n].iov_len;
            n++;
        }
        used = 0;
    }
    return n;
}

static int block_file_transfer(int fd, transfer_fn transfer, struct iov_cursor *cursor,
                               uint64_t offset, uint64_t len)
{
    struct iovec iov[BLOCK_FILE_IOV];

    while (len > 0) {
        int n = iov_cursor_peek(cursor, len, iov);
        ssize_t done;

        g_assert(n > 0);
        done = transfer(fd, iov, n, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return -errno;
        }
        if (done == 0) {
            return -EIO; /* somebody made the file shorter */
        }
        iov_cursor_skip(cursor, (size_t)done);
        offset += (uint64_t)done;
        len -= (uint64_t)done;
    }
    return 0;
}

int block_file_read(const struct block_file *file, struct iov_cursor *to, uint64_t offset,
                    uint64_t len)
{
    return block_file_transfer(file->fd, file->host->preadv, to, offset, len);
}

int block_file_write(const struct block_file *file, struct iov_cursor *from, uint64_t offset,
                     uint64_t len)
{
    return block_file_transfer(file->fd, file->host->pwritev, from, offset, len);
}

/* Not repeated after a real error: the kernel reports a lost page once, then calls it clean. */
int block_file_sync(const struct block_file *file)
{
    int ret;

    do {
        ret = file->host->fdatasync(file->fd);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : 0;
}

int block_file_discard(const struct block_file *file, uint64_t offset, uint64_t len)
{
    int ret;

    do {
        ret = file->is_device ? file->host->discard(file->fd, offset, len)
                              : file->host->punch_hole(file->fd, (off_t)offset, (off_t)len);
    } while (ret < 0 && errno == EINTR);
    if (ret < 0) {
        return errno == ENOTTY || errno == ENOSYS ? -EOPNOTSUPP : -errno;
    }
    return 0;
}

void block_file_close(struct block_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
}
