/* SPDX-License-Identifier: MIT */
/*
 * Opening a disk. A disk is raw unless the user says otherwise: what a guest can write never
 * decides how its disk is read (a guest could otherwise put a header there that names any file
 * of the host). A file that starts like another format is therefore refused, with a way out.
 */
#include "io/block_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/report.h"
#include "io/block_lock.h"
#include "io/overlay.h"
#include "io/raw.h"

enum { BLOCK_SECTOR = 512, BLOCK_PAGE = 4096, BLOCK_MAX_GRANULARITY = 1 << 20 };

/* How other formats begin. */
static const struct block_magic {
    const char *bytes;
    unsigned len, offset;
    const char *what;
    const char *remedy; /* a command to put before the path; NULL: qemu-img */
} block_magics[] = {
    {"QFI\xfb", 4, 0, "a qcow2 image", NULL},
    {"KDMV", 4, 0, "a VMDK image", NULL},
    {"COWD", 4, 0, "a VMDK image", NULL},
    {"# Disk DescriptorFile", 21, 0, "a VMDK description", NULL},
    {"vhdxfile", 8, 0, "a VHDX image", NULL},
    {"conectix", 8, 0, "a VHD image", NULL},
    {"\x7f\x10\xda\xbe", 4, 0x40, "a VDI image", NULL},
    {"QED\0", 4, 0, "a QED image", NULL},
    {"\x1f\x8b\x08", 3, 0, "compressed with gzip", "gzip -dk"},
    {"\xfd"
     "7zXZ\0",
     6, 0, "compressed with xz", "xz -dk"},
    {"\x28\xb5\x2f\xfd", 4, 0, "compressed with zstd", "zstd -d"},
    {"BZh", 3, 0, "compressed with bzip2", "bzip2 -dk"},
};

/* "cannot open disk 'x': no such file" and what helps. */
static bool block_open_failed(const struct block_open_options *o, int error, bool writing,
                              GError **err)
{
    if (error == ENOENT) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot open disk '%s': no such file", o->path);
    }
    if (error == EBUSY) {
        error_set(err, PVEMU_ERROR_HOST,
                  "cannot open disk '%s': the device is mounted or in use on this host",
                  o->path);
        error_hint(err, "unmount it first, or add ,ro");
        return false;
    }
    error_set(err, PVEMU_ERROR_HOST, "cannot open disk '%s'%s: %s", o->path,
              writing ? " for writing" : "", g_strerror(error));
    if (writing && (error == EACCES || error == EPERM || error == EROFS) &&
        access(o->path, R_OK) == 0) {
        error_hint(err, "you may read it: add ,snapshot (writes are thrown away) or ,ro");
    }
    return false;
}

/* The file itself. O_NONBLOCK: opening a pipe must not hang; it has no effect on disks. */
static bool block_open_fd(const struct block_open_options *o, bool writing, int *fd,
                          struct stat *st, GError **err)
{
    int flags = (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

    /* Exclusive, a device that is mounted cannot be opened; for a file O_EXCL has no meaning.
     */
    if (writing && stat(o->path, st) == 0 && S_ISBLK(st->st_mode)) {
        flags |= O_EXCL;
    }
    *fd = open(o->path, flags);
    if (*fd < 0 && errno == EISDIR) {
        errno = 0;
    } else if (*fd < 0 || fstat(*fd, st) < 0) {
        return block_open_failed(o, errno, writing, err);
    }
    if (*fd < 0 || S_ISDIR(st->st_mode)) {
        error_set(err, PVEMU_ERROR_HOST, "disk '%s' is a folder, not an image", o->path);
        return false;
    }
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode)) {
        return error_set(err, PVEMU_ERROR_HOST,
                         "disk '%s' is neither a file nor a block device", o->path);
    }
    return true;
}

/* A path as a shell takes it, in quotes only where it has to be. */
static char *block_shell_word(const char *path)
{
    for (const char *c = path; *c != '\0'; c++) {
        if (!g_ascii_isalnum(*c) && strchr("/._-+:,@", *c) == NULL) {
            return g_shell_quote(path);
        }
    }
    return g_strdup(path);
}

static bool block_check_format(const struct block_open_options *o, int fd, GError **err)
{
    char head[128] = {0};
    g_autofree char *from = NULL, *to = NULL, *path_raw = NULL;

    if (o->format != NULL) {
        if (strcmp(o->format, "raw") == 0) {
            return true;
        }
        error_set(err, PVEMU_ERROR_USAGE, "disk '%s': format '%s' is not known; it can be raw",
                  o->path, o->format);
        error_hint(err, "convert it: qemu-img convert -O raw IMAGE IMAGE.raw");
        return false;
    }
    if (pread(fd, head, sizeof(head), 0) < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot read disk '%s': %s", o->path,
                         g_strerror(errno));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(block_magics); i++) {
        const struct block_magic *m = &block_magics[i];

        if (memcmp(head + m->offset, m->bytes, m->len) != 0) {
            continue;
        }
        path_raw = g_strconcat(o->path, ".raw", NULL);
        from = block_shell_word(o->path);
        to = block_shell_word(path_raw);
        error_set(err, PVEMU_ERROR_IMAGE, "disk '%s' is %s; pvemu reads raw images", o->path,
                  m->what);
        if (m->remedy != NULL) {
            error_hint(err, "unpack it: %s %s; or add ,format=raw if it is meant as it is",
                       m->remedy, from);
        } else {
            error_hint(err,
                       "convert it: qemu-img convert -O raw %s %s; or add "
                       ",format=raw if it is meant as it is",
                       from, to);
        }
        return false;
    }
    return true;
}

/* A number from the device's folder in sysfs (a partition's is one higher); 0 when there is
 * none. */
static uint64_t block_device_limit(const struct stat *st, const char *name)
{
    static const char *const places[] = {"queue", "../queue"};

    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path =
            g_strdup_printf("/sys/dev/block/%u:%u/%s/%s", major(st->st_rdev),
                            minor(st->st_rdev), places[i], name);
        g_autofree char *text = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL)) {
            return g_ascii_strtoull(text, NULL, 10);
        }
    }
    return 0;
}

static bool block_measure_device(const struct block_open_options *o, int fd,
                                 const struct stat *st, struct block *geo, GError **err)
{
    unsigned physical = 0;
    int logical = 0;

    if (ioctl(fd, BLKGETSIZE64, &geo->size) < 0 || ioctl(fd, BLKSSZGET, &logical) < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot get the size of disk '%s': %s", o->path,
                         g_strerror(errno));
    }
    if (ioctl(fd, BLKPBSZGET, &physical) < 0) {
        physical = (unsigned)logical;
    }
    geo->sector_size = logical == BLOCK_PAGE ? BLOCK_PAGE : BLOCK_SECTOR;
    geo->physical_sector_size = CLAMP(physical, geo->sector_size, BLOCK_MAX_GRANULARITY);
    geo->can_discard = block_device_limit(st, "discard_max_bytes") > 0;
    geo->discard_granularity = (uint32_t)CLAMP(block_device_limit(st, "discard_granularity"),
                                               geo->sector_size, BLOCK_MAX_GRANULARITY);
    return true;
}

static void block_measure_file(int fd, const struct stat *st, const struct block_host_ops *host,
                               bool writing, struct block *geo)
{
    uint64_t size = (uint64_t)st->st_size;
    off_t beyond = (off_t)((size + BLOCK_PAGE - 1) & ~(uint64_t)(BLOCK_PAGE - 1));

    geo->size = size;
    geo->sector_size = BLOCK_SECTOR;
    geo->physical_sector_size = BLOCK_PAGE;
    /* Asks without harm: nothing is there. */
    geo->can_discard = writing && host->punch_hole(fd, beyond, BLOCK_PAGE) == 0;
    geo->discard_granularity = (uint32_t)CLAMP(st->st_blksize, BLOCK_PAGE, 1 << 16);
}

static bool block_measure(const struct block_open_options *o, int fd, const struct stat *st,
                          bool writing, struct block *geo, GError **err)
{
    const struct block_host_ops *host = o->host != NULL ? o->host : &block_host_syscalls;

    if (!S_ISBLK(st->st_mode)) {
        block_measure_file(fd, st, host, writing, geo);
    } else if (!block_measure_device(o, fd, st, geo, err)) {
        return false;
    }
    if (o->sector_size != 0 && o->sector_size != geo->sector_size) {
        if (o->sector_size != BLOCK_SECTOR && o->sector_size != BLOCK_PAGE) {
            return error_set(err, PVEMU_ERROR_USAGE,
                             "disk '%s': a sector has 512 or 4096 bytes, not %u", o->path,
                             o->sector_size);
        }
        geo->sector_size = o->sector_size;
        geo->physical_sector_size = MAX(geo->physical_sector_size, o->sector_size);
    }
    if (geo->size < geo->sector_size) {
        g_autofree char *word = block_shell_word(o->path);

        error_set(err, PVEMU_ERROR_IMAGE, "disk '%s' is empty", o->path);
        error_hint(err, "give it a size first: truncate -s 1G %s", word);
        return false;
    }
    return true;
}

/* A disk has whole sectors; a tail that makes none is out of the guest's reach. */
static void block_round_size(const struct block_open_options *o, struct block *geo)
{
    uint64_t tail = geo->size % geo->sector_size;

    if (tail != 0) {
        report_warn("disk '%s': its size is not a multiple of %u; the last %u bytes are not "
                    "visible to the guest",
                    o->path, geo->sector_size, (unsigned)tail);
        geo->size -= tail;
    }
}

struct block *block_open(const struct block_open_options *o, struct io_pool *pool, GError **err)
{
    bool writing = !o->read_only && !o->snapshot;
    struct block geo = {0};
    struct block_file file = {0};
    struct block *blk;
    struct stat st;
    auto_fd fd = -1;

    if (!block_open_fd(o, writing, &fd, &st, err) || !block_check_format(o, fd, err) ||
        (!o->no_lock && !block_lock(fd, o->path, writing, err)) ||
        !block_measure(o, fd, &st, writing, &geo, err)) {
        return NULL;
    }
    block_round_size(o, &geo);
    file.host = o->host != NULL ? o->host : &block_host_syscalls;
    file.is_device = S_ISBLK(st.st_mode);
    file.fd = fd;
    geo.read_only = o->read_only;
    geo.name = g_strdup(o->path);
    if (o->snapshot && !o->read_only) {
        geo.can_discard = !o->no_discard;
        geo.discard_granularity = BLOCK_PAGE;
        blk = overlay_new(&geo, &file, o->snapshot_dir, pool, err);
    } else {
        geo.can_discard = geo.can_discard && writing && !o->no_discard;
        blk = raw_new(&geo, &file, pool);
    }
    if (blk == NULL) {
        g_free(geo.name);
        return NULL;
    }
    auto_fd_steal(&fd);
    return blk;
}
