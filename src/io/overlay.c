/* SPDX-License-Identifier: MIT */
/*
 * Snapshot disks. The disk is divided into clusters of 4 KiB with one bit each: set means that
 * the cluster lives in the temporary file (at the same offset), clear that it is still the
 * image's. Bits are only ever set. The bits take 1/32768 of the disk, and only the touched
 * part of them takes memory.
 *
 * A write that covers a clear cluster only in part first has to bring the rest of it over
 * (copy-up). Two copy-ups of one cluster, or a copy-up beside a whole write of it, would
 * overwrite what the other acknowledged; so a copy-up runs alone, and whole writes beside each
 * other. Writes to set clusters and all reads need no lock: a read that overlaps a write under
 * way may see either, as on a real disk.
 */
#include "io/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "io/block_queue.h"

enum { OVERLAY_SHIFT = 12, OVERLAY_CLUSTER = 1 << OVERLAY_SHIFT };

struct overlay {
    struct block_queue queue; /* first */
    struct block_file base;
    struct block_file top;
    GRWLock copy_up; /* writer: a copy-up; readers: whole writes to clear clusters */
    _Atomic uint64_t *bits;
    size_t bits_bytes;
};

static struct overlay *overlay_of(struct block_queue *q)
{
    return (struct overlay *)q;
}

static bool overlay_has(const struct overlay *o, uint64_t cluster)
{
    uint64_t word = atomic_load_explicit(&o->bits[cluster / 64], memory_order_acquire);

    return (word >> (cluster % 64) & 1) != 0;
}

static void overlay_set(struct overlay *o, uint64_t first, uint64_t end)
{
    for (uint64_t c = first; c < end; c++) {
        atomic_fetch_or_explicit(&o->bits[c / 64], UINT64_C(1) << (c % 64),
                                 memory_order_release);
    }
}

/* Bytes from offset to the end of its cluster, of the disk or of len, whichever comes first. */
static uint64_t overlay_in_cluster(uint64_t offset, uint64_t len)
{
    return MIN(len, OVERLAY_CLUSTER - (offset & (OVERLAY_CLUSTER - 1)));
}

/* The part of [offset, offset + len) from offset on whose clusters are all set or all clear. */
static uint64_t overlay_run(const struct overlay *o, uint64_t offset, uint64_t len, bool *set)
{
    uint64_t run = overlay_in_cluster(offset, len);

    *set = overlay_has(o, offset >> OVERLAY_SHIFT);
    while (run < len && overlay_has(o, (offset + run) >> OVERLAY_SHIFT) == *set) {
        run += overlay_in_cluster(offset + run, len - run);
    }
    return run;
}

static int overlay_read(struct block_queue *q, const struct block_request *req)
{
    struct overlay *o = overlay_of(q);
    struct iov_cursor to = iov_cursor_start(req->iov, req->iov_count);
    uint64_t offset = req->offset, left = req->len;
    int ret = 0;

    while (ret == 0 && left > 0) {
        bool set;
        uint64_t run = overlay_run(o, offset, left, &set);

        ret = block_file_read(set ? &o->top : &o->base, &to, offset, run);
        offset += run;
        left -= run;
    }
    return ret;
}

/* Bytes of the cluster at offset: the last one of a disk may be short. */
static uint64_t overlay_cluster_len(const struct overlay *o, uint64_t start)
{
    return MIN((uint64_t)OVERLAY_CLUSTER, o->queue.blk.size - start);
}

/* Writes a part of one clear cluster: the image's bytes around it come along. */
static int overlay_copy_up(struct overlay *o, struct iov_cursor *from, uint64_t offset,
                           uint64_t len)
{
    uint64_t start = offset & ~(uint64_t)(OVERLAY_CLUSTER - 1);
    uint64_t cluster_len = overlay_cluster_len(o, start);
    uint8_t buf[OVERLAY_CLUSTER];
    struct iovec iov = {.iov_base = buf, .iov_len = cluster_len};
    struct iov_cursor all = iov_cursor_start(&iov, 1);
    int ret;

    ret = block_file_read(&o->base, &all, start, cluster_len);
    if (ret < 0) {
        return ret;
    }
    iov_cursor_copy_out(from, buf + (offset - start), len);
    all = iov_cursor_start(&iov, 1);
    ret = block_file_write(&o->top, &all, start, cluster_len);
    if (ret == 0) {
        overlay_set(o, start >> OVERLAY_SHIFT, (start >> OVERLAY_SHIFT) + 1);
    }
    return ret;
}

/* Part of one cluster. */
static int overlay_write_part(struct overlay *o, struct iov_cursor *from, uint64_t offset,
                              uint64_t len)
{
    int ret;

    if (overlay_has(o, offset >> OVERLAY_SHIFT)) {
        return block_file_write(&o->top, from, offset, len);
    }
    g_rw_lock_writer_lock(&o->copy_up);
    if (overlay_has(o, offset >> OVERLAY_SHIFT)) { /* while we waited */
        ret = block_file_write(&o->top, from, offset, len);
    } else {
        ret = overlay_copy_up(o, from, offset, len);
    }
    g_rw_lock_writer_unlock(&o->copy_up);
    return ret;
}

/* Whole clusters (the disk's last one may be short). */
static int overlay_write_whole(struct overlay *o, struct iov_cursor *from, uint64_t offset,
                               uint64_t len)
{
    uint64_t first = offset >> OVERLAY_SHIFT;
    uint64_t end = (offset + len + OVERLAY_CLUSTER - 1) >> OVERLAY_SHIFT;
    int ret;

    g_rw_lock_reader_lock(&o->copy_up);
    ret = block_file_write(&o->top, from, offset, len);
    if (ret == 0) {
        overlay_set(o, first, end);
    }
    g_rw_lock_reader_unlock(&o->copy_up);
    return ret;
}

/* The whole clusters at the start of [offset, offset + len), in bytes; 0 when it starts or is
 * within one. */
static uint64_t overlay_whole(const struct overlay *o, uint64_t offset, uint64_t len)
{
    if ((offset & (OVERLAY_CLUSTER - 1)) != 0) {
        return 0;
    }
    if (offset + len == o->queue.blk.size) {
        return len;
    }
    return len & ~(uint64_t)(OVERLAY_CLUSTER - 1);
}

static int overlay_write(struct block_queue *q, const struct block_request *req)
{
    struct overlay *o = overlay_of(q);
    struct iov_cursor from = iov_cursor_start(req->iov, req->iov_count);
    uint64_t offset = req->offset, left = req->len;
    int ret = 0;

    while (ret == 0 && left > 0) {
        uint64_t n = overlay_whole(o, offset, left);

        if (n > 0) {
            ret = overlay_write_whole(o, &from, offset, n);
        } else {
            n = overlay_in_cluster(offset, left);
            ret = overlay_write_part(o, &from, offset, n);
        }
        offset += n;
        left -= n;
    }
    return ret;
}

/* Whole clusters read zero afterwards and free what they took; parts of clusters stay. */
static int overlay_discard(struct block_queue *q, const struct block_request *req)
{
    struct overlay *o = overlay_of(q);
    uint64_t start = (req->offset + OVERLAY_CLUSTER - 1) & ~(uint64_t)(OVERLAY_CLUSTER - 1);
    uint64_t end = req->offset + req->len;
    int ret;

    if (end != o->queue.blk.size) {
        end &= ~(uint64_t)(OVERLAY_CLUSTER - 1);
    }
    if (start >= end) {
        return 0;
    }
    g_rw_lock_reader_lock(&o->copy_up);
    ret = block_file_discard(&o->top, start, end - start);
    if (ret == 0) {
        overlay_set(o, start >> OVERLAY_SHIFT, (end + OVERLAY_CLUSTER - 1) >> OVERLAY_SHIFT);
    }
    g_rw_lock_reader_unlock(&o->copy_up);
    return ret;
}

static void overlay_free(struct block_queue *q)
{
    struct overlay *o = overlay_of(q);

    block_file_close(&o->base);
    block_file_close(&o->top);
    munmap((void *)o->bits, o->bits_bytes);
    g_rw_lock_clear(&o->copy_up);
    block_queue_fini(q);
    g_free(o);
}

static const struct block_queue_ops overlay_ops = {
    .name = "snapshot",
    .read = overlay_read,
    .write = overlay_write,
    .discard = overlay_discard,
    .free = overlay_free,
};

/* A file without a name; -1 and errno. */
static int overlay_temp_in(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        g_autofree char *path = g_build_filename(dir, "pvemu-snapshot-XXXXXX", NULL);

        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0) {
            unlink(path);
        }
    }
    return fd;
}

static int overlay_temp(const char *dir, const char **used)
{
    const char *tmpdir = getenv("TMPDIR");
    const char *places[] = {"/var/tmp", "/tmp"};
    int fd = -1;

    if (dir != NULL || (tmpdir != NULL && tmpdir[0] == '/')) {
        *used = dir != NULL ? dir : tmpdir;
        return overlay_temp_in(*used);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(places) && fd < 0; i++) {
        *used = places[i];
        fd = overlay_temp_in(*used);
    }
    return fd;
}

struct block *overlay_new(const struct block *geometry, const struct block_file *base,
                          const char *dir, struct io_pool *pool, GError **err)
{
    uint64_t clusters = (geometry->size + OVERLAY_CLUSTER - 1) >> OVERLAY_SHIFT;
    size_t bits_bytes = (clusters + 63) / 64 * sizeof(uint64_t);
    const char *used = "";
    struct overlay *o;
    void *bits;
    int fd = overlay_temp(dir, &used);

    /* At its full length from the start, so that reads of holes are never short. */
    if (fd < 0 || ftruncate(fd, (off_t)geometry->size) < 0) {
        error_set(err, PVEMU_ERROR_HOST, "disk '%s': cannot make a snapshot file in %s: %s",
                  geometry->name, used, g_strerror(errno));
        error_hint(err, "set TMPDIR to a folder with room for what the guest will write");
        goto out_fd;
    }
    bits = mmap(NULL, bits_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bits == MAP_FAILED) {
        error_set(err, PVEMU_ERROR_HOST, "disk '%s': no memory for a snapshot's map: %s",
                  geometry->name, g_strerror(errno));
        goto out_fd;
    }
    o = g_new0(struct overlay, 1);
    o->queue.blk = *geometry;
    o->base = *base;
    o->top = (struct block_file){.fd = fd, .host = base->host};
    o->bits = bits;
    o->bits_bytes = bits_bytes;
    g_rw_lock_init(&o->copy_up);
    block_queue_init(&o->queue, &overlay_ops, pool);
    return &o->queue.blk;

out_fd:
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}
