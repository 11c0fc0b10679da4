/* SPDX-License-Identifier: MIT */
/* Raw disks: data, bounds, short and interrupted transfers, opening, and locks between
 * processes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "disk_helpers.h"

enum { MIB = 1 << 20, BLOCK = 4096 };

struct fixture {
    struct io_pool *pool;
    char *path;
};

static void setup(struct fixture *f, gconstpointer size)
{
    f->pool = io_pool_new(3, NULL, NULL, NULL);
    f->path = disk_temp(size != NULL ? GPOINTER_TO_SIZE(size) : MIB);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    (void)data;
    io_pool_free(f->pool);
    disk_temp_free(f->path);
}

static void put_bytes(const char *path, uint64_t at, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);

    g_assert_cmpint(pwrite(fd, bytes, len, (off_t)at), ==, (ssize_t)len);
    close(fd);
}

static void test_write_read(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk = disk_open(&o, f->pool);
    uint8_t out[3 * BLOCK], in[3 * BLOCK];

    (void)data;
    g_assert_cmpuint(blk->size, ==, MIB);
    g_assert_cmpuint(blk->sector_size, ==, 512);
    g_assert_cmpstr(blk->name, ==, f->path);
    memset(out, 0x5a, sizeof(out));
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, 512, out, sizeof(out)), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 512, in, sizeof(in)), ==, 0);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, in, 512), ==, 0);
    g_assert_cmpint(in[511], ==, 0);
    block_close(blk);
}

static void test_many_buffers(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk = disk_open(&o, f->pool);
    uint8_t bytes[200 * 512], back[200 * 512];
    struct iovec iov[201];
    struct disk_wait w;

    (void)data;
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 512);
    }
    for (unsigned i = 0; i < 200; i++) {
        iov[i] = (struct iovec){.iov_base = bytes + i * 512, .iov_len = 512};
    }
    iov[200] = (struct iovec){.iov_base = bytes, .iov_len = 0};
    disk_start_iov(&w, blk, BLOCK_WRITE, 0, iov, 201, sizeof(bytes), false);
    g_assert_cmpint(disk_finish(&w), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(back, sizeof(back), bytes, sizeof(bytes));
    block_close(blk);
}

static void test_bounds(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk = disk_open(&o, f->pool);
    uint8_t buf[1024] = {1};
    struct stat st;

    (void)data;
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, MIB - 512, buf, 1024), ==, -EINVAL);
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, UINT64_MAX - 511, buf, 512), ==, -EINVAL);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, MIB, buf, 512), ==, -EINVAL);
    g_assert_cmpint(disk_do(blk, BLOCK_DISCARD, 0, NULL, 2 * MIB), ==, -EINVAL);
    g_assert_cmpint(stat(f->path, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, MIB);
    block_close(blk);
}

static void test_read_only(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path, .read_only = true};
    struct block *blk = disk_open(&o, f->pool);
    uint8_t buf[512] = {1};

    (void)data;
    g_assert_true(blk->read_only);
    g_assert_false(blk->can_discard);
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, 0, buf, 512), ==, -EROFS);
    g_assert_cmpint(disk_do(blk, BLOCK_DISCARD, 0, NULL, 512), ==, -EROFS);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, buf, 512), ==, 0);
    g_assert_cmpint(buf[0], ==, 0);
    block_close(blk);
}

static void test_discard(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk = disk_open(&o, f->pool);
    g_autofree uint8_t *buf = g_malloc(64 * BLOCK);

    (void)data;
    if (!blk->can_discard) {
        g_test_skip("this file system cannot punch holes");
        block_close(blk);
        return;
    }
    memset(buf, 0xee, 64 * BLOCK);
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, 0, buf, 64 * BLOCK), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_DISCARD, 4 * BLOCK, NULL, 8 * BLOCK), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, buf, 64 * BLOCK), ==, 0);
    g_assert_cmpint(buf[4 * BLOCK - 1], ==, 0xee);
    g_assert_cmpint(buf[4 * BLOCK], ==, 0);
    g_assert_cmpint(buf[12 * BLOCK - 1], ==, 0);
    g_assert_cmpint(buf[12 * BLOCK], ==, 0xee);
    block_close(blk);
}

/* --- A host that transfers a little at a time --- */

static gint stingy_calls;

static ssize_t stingy_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)count;
    if (g_atomic_int_add(&stingy_calls, 1) % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return pread(fd, iov->iov_base, MIN(iov->iov_len, 100), offset);
}

static ssize_t stingy_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)count;
    if (g_atomic_int_add(&stingy_calls, 1) % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return pwrite(fd, iov->iov_base, MIN(iov->iov_len, 100), offset);
}

static void test_short_transfers(struct fixture *f, gconstpointer data)
{
    struct block_host_ops stingy = block_host_syscalls;
    struct block_open_options o = {.path = f->path, .host = &stingy};
    uint8_t out[BLOCK], in[BLOCK];
    struct block *blk;

    (void)data;
    stingy.preadv = stingy_preadv;
    stingy.pwritev = stingy_pwritev;
    blk = disk_open(&o, f->pool);
    for (unsigned i = 0; i < sizeof(out); i++) {
        out[i] = (uint8_t)(i ^ i >> 8);
    }
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, 1024, out, sizeof(out)), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 1024, in, sizeof(in)), ==, 0);
    g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
    block_close(blk);
}

static ssize_t full_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    (void)fd, (void)iov, (void)count, (void)offset;
    errno = ENOSPC;
    return -1;
}

static void test_host_full(struct fixture *f, gconstpointer data)
{
    struct block_host_ops full = block_host_syscalls;
    struct block_open_options o = {.path = f->path, .host = &full};
    uint8_t buf[512] = {0};
    struct block *blk;

    (void)data;
    full.pwritev = full_pwritev;
    blk = disk_open(&o, f->pool);
    g_assert_cmpint(disk_do(blk, BLOCK_WRITE, 0, buf, 512), ==, -ENOSPC);
    g_assert_cmpint(disk_do(blk, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    block_close(blk);
}

static void test_truncated_below(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk = disk_open(&o, f->pool);
    uint8_t buf[1024];

    (void)data;
    g_assert_cmpint(truncate(f->path, 512), ==, 0);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, buf, 1024), ==, -EIO);
    g_assert_cmpint(disk_do(blk, BLOCK_READ, 0, buf, 512), ==, 0);
    block_close(blk);
}

/* --- Opening --- */

static void test_open_errors(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = "/nonexistent/root.img"};
    g_autofree char *empty = disk_temp(0);

    (void)data;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST,
                    "cannot open disk '/nonexistent/root.img': no such file", NULL);
    o.path = "/";
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "disk '/' is a folder, not an image", NULL);
    o.read_only = true;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "disk '/' is a folder, not an image", NULL);
    o.path = "/dev/null";
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "neither a file nor a block device", NULL);
    o.path = empty;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_IMAGE, "is empty", "truncate -s 1G");
    o.path = f->path;
    o.format = "qcow2";
    disk_open_fails(&o, f->pool, PVEMU_ERROR_USAGE, "format 'qcow2' is not known",
                    "qemu-img convert -O raw");
    o.format = NULL;
    o.sector_size = 1000;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_USAGE, "512 or 4096 bytes, not 1000", NULL);
    unlink(empty);
}

static void test_other_formats(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};

    (void)data;
    put_bytes(f->path, 0, "QFI\xfb\0\0\0\3", 8);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_IMAGE, "is a qcow2 image",
                    "qemu-img convert -O raw");
    o.format = "raw";
    block_close(disk_open(&o, f->pool));
    o.format = NULL;
    put_bytes(f->path, 0, "vhdxfile", 8);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_IMAGE, "is a VHDX image", "qemu-img");
    put_bytes(f->path, 0, "\x1f\x8b\x08", 3);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_IMAGE, "compressed with gzip", "gzip -dk");
}

static void test_odd_size(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *blk;

    (void)data;
    g_assert_cmpint(truncate(f->path, 4096 + 700), ==, 0);
    blk = disk_open(&o, f->pool);
    g_assert_cmpuint(blk->size, ==, 4096 + 512);
    block_close(blk);
    o.sector_size = 4096;
    blk = disk_open(&o, f->pool);
    g_assert_cmpuint(blk->size, ==, 4096);
    g_assert_cmpuint(blk->sector_size, ==, 4096);
    block_close(blk);
}

static void test_not_writable(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};

    (void)data;
    if (geteuid() == 0) {
        g_test_skip("root may write everything");
        return;
    }
    g_assert_cmpint(chmod(f->path, 0400), ==, 0);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "for writing", ",snapshot");
    o.snapshot = true;
    block_close(disk_open(&o, f->pool));
}

/* --- Locks --- */

/* A child that opens the disk, says so, and keeps it until told to end. */
struct holder {
    pid_t pid;
    int to_child, from_child;
};

static void holder_start(struct holder *h, const char *path, bool read_only)
{
    int down[2], up[2];
    char byte;

    g_assert_cmpint(pipe(down), ==, 0);
    g_assert_cmpint(pipe(up), ==, 0);
    h->pid = fork();
    if (h->pid == 0) {
        struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(path, read_only ? O_RDONLY : O_RDWR);

        byte = fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 'y' : 'n';
        close(down[1]);
        if (write(up[1], &byte, 1) != 1 || read(down[0], &byte, 1) < 0) {
            _exit(1);
        }
        _exit(0);
    }
    close(down[0]);
    close(up[1]);
    h->to_child = down[1];
    h->from_child = up[0];
    g_assert_cmpint(read(h->from_child, &byte, 1), ==, 1);
    g_assert_cmpint(byte, ==, 'y');
}

static void holder_end(struct holder *h)
{
    int status;

    close(h->to_child);
    g_assert_cmpint(waitpid(h->pid, &status, 0), ==, h->pid);
    g_assert_cmpint(status, ==, 0);
    close(h->from_child);
}

static void test_lock_other_writes(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    g_autofree char *words = NULL;
    struct holder h;

    (void)data;
    holder_start(&h, f->path, false);
    words = g_strdup_printf("is open for writing in process %d (", (int)h.pid);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, words, ",snapshot or ,ro");
    o.snapshot = true;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, words, "there too");
    holder_end(&h);
    o.snapshot = false;
    block_close(disk_open(&o, f->pool));
}

static void test_lock_other_reads(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct holder h;

    (void)data;
    holder_start(&h, f->path, true);
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "is open for reading in process",
                    ",snapshot or ,ro");
    o.snapshot = true;
    block_close(disk_open(&o, f->pool));
    o.snapshot = false;
    o.read_only = true;
    block_close(disk_open(&o, f->pool));
    holder_end(&h);
}

static void test_lock_same_process(struct fixture *f, gconstpointer data)
{
    struct block_open_options o = {.path = f->path};
    struct block *first = disk_open(&o, f->pool);

    (void)data;
    disk_open_fails(&o, f->pool, PVEMU_ERROR_HOST, "in this pvemu", ",snapshot or ,ro");
    block_close(first);
    o.read_only = true;
    first = disk_open(&o, f->pool);
    block_close(disk_open(&o, f->pool));
    block_close(first);
}

#define TEST(path, fn) g_test_add(path, struct fixture, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/io/raw/write-read", test_write_read);
    TEST("/io/raw/many-buffers", test_many_buffers);
    TEST("/io/raw/bounds", test_bounds);
    TEST("/io/raw/read-only", test_read_only);
    TEST("/io/raw/discard", test_discard);
    TEST("/io/raw/short-transfers", test_short_transfers);
    TEST("/io/raw/host-full", test_host_full);
    TEST("/io/raw/truncated-below", test_truncated_below);
    TEST("/io/raw/open-errors", test_open_errors);
    TEST("/io/raw/other-formats", test_other_formats);
    TEST("/io/raw/odd-size", test_odd_size);
    TEST("/io/raw/not-writable", test_not_writable);
    TEST("/io/raw/lock-other-writes", test_lock_other_writes);
    TEST("/io/raw/lock-other-reads", test_lock_other_reads);
    TEST("/io/raw/lock-same-process", test_lock_same_process);
    return g_test_run();
}
