/* SPDX-License-Identifier: MIT */
/*
 * An open image file or block device, and the system calls on it made whole: short transfers
 * are continued, EINTR is repeated, every result is 0 or -errno. All of it blocks, so it is
 * called on I/O threads only.
 *
 * The system calls go through a table, so that tests can make one of them fail.
 */
#ifndef PVEMU_IO_BLOCK_FILE_H
#define PVEMU_IO_BLOCK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Each as the system call: -1 and errno when it fails. */
struct block_host_ops {
    ssize_t (*preadv)(int fd, const struct iovec *iov, int count, off_t offset);
    ssize_t (*pwritev)(int fd, const struct iovec *iov, int count, off_t offset);
    int (*fdatasync)(int fd);
    int (*punch_hole)(int fd, off_t offset, off_t len);    /* a file's range reads zero */
    int (*discard)(int fd, uint64_t offset, uint64_t len); /* BLKDISCARD */
};

extern const struct block_host_ops block_host_syscalls;

struct block_file {
    int fd;
    bool is_device;
    const struct block_host_ops *host;
};

/* A place in an array of buffers, moved on by every transfer. */
struct iov_cursor {
    const struct iovec *iov;
    unsigned count; /* buffers left, the current one included */
    size_t used;    /* bytes of the current one that are done */
};

static inline struct iov_cursor iov_cursor_start(const struct iovec *iov, unsigned count)
{
    return (struct iov_cursor){.iov = iov, .count = count};
}

/* Moves the cursor over len bytes; there are that many. */
void iov_cursor_skip(struct iov_cursor *cursor, size_t len);
/* Copies len bytes from the buffers to buf; there are that many. */
void iov_cursor_copy_out(struct iov_cursor *cursor, void *buf, size_t len);

/* Transfers exactly len bytes at offset. The end of the file within it is -EIO. */
int block_file_read(const struct block_file *file, struct iov_cursor *to, uint64_t offset,
                    uint64_t len);
int block_file_write(const struct block_file *file, struct iov_cursor *from, uint64_t offset,
                     uint64_t len);
int block_file_sync(const struct block_file *file);
/* -EOPNOTSUPP when the file system or device cannot. */
int block_file_discard(const struct block_file *file, uint64_t offset, uint64_t len);
void block_file_close(struct block_file *file);

#endif
