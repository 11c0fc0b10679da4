/* SPDX-License-Identifier: MIT */
/* The automatic initramfs on ext4 images made by mke2fs (skipped when it is not installed). */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/initrd.h"
#include "fake_kernel.h"
#include "fake_modules.h"

#define HINT_MODULES                                                                           \
    "hint: install the kernel's package in the image, or give an initramfs with -initrd; "     \
    "with -cmdline it starts all the same"
#define HINT_ROOT                                                                              \
    "hint: give an image of a root file system, an initramfs with -initrd, or -append "        \
    "root=... when the root is elsewhere"

struct fixture {
    char *dir, *root, *image, *cache, *host;
    struct boot_image *kernel;
    struct disk_reader disk;
    int fd;
    struct initrd_request req;
    struct initrd out;
};

static bool make_ext(const char *image, const char *root)
{
    const char *argv[] = {
        "mke2fs", "-q", "-t",  "ext4", "-U", "01234567-89ab-cdef-0123-456789abcdef",
        "-d",     root, image, "8M",   NULL};
    int status = -1;

    return g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL,
                        G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                        NULL, &status, NULL) &&
           status == 0;
}

static void set_up(struct fixture *f, gconstpointer data)
{
    GByteArray *elf = fake_kernel_elf(0);

    memset(f, 0, sizeof(*f));
    f->dir = g_dir_make_tmp("pvemu-initrd-XXXXXX", NULL);
    f->root = g_build_filename(f->dir, "root", NULL);
    f->image = g_build_filename(f->dir, "root.img", NULL);
    f->cache = g_build_filename(f->dir, "cache", NULL);
    f->host = g_build_filename(f->dir, "host", NULL);
    f->fd = -1;
    f->kernel = boot_image_from_memory("vmlinuz", elf->data, elf->len, NULL);
    g_byte_array_free(elf, TRUE);
    fake_text(f->root, "sbin/init", "#!/bin/sh\n");
    fake_text(f->root, "lib/modules/6.1.0-99-fake/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    fake_file(f->root, "usr/lib/blk.ko", fake_module("xenbus-thing", NULL));
    fake_file(f->root, "lib/modules/6.1.0-99-fake/kernel/xen-netfront.ko",
              fake_module(NULL, NULL));
    fake_file(f->root, "lib/modules/6.1.0-99-fake/kernel/xenbus_thing.ko",
              fake_module(NULL, NULL));
}

/* Adds the block driver behind an absolute symbolic link, as merged-/usr systems have them. */
static void add_blkfront(struct fixture *f)
{
    g_autofree char *link =
        g_build_filename(f->root, "lib/modules/6.1.0-99-fake/kernel/xen-blkfront.ko", NULL);

    g_assert_cmpint(symlink("/usr/lib/blk.ko", link), ==, 0);
}

static bool open_disk(struct fixture *f)
{
    struct stat st;

    if (!make_ext(f->image, f->root)) {
        g_test_skip("mke2fs is not installed (e2fsprogs)");
        return false;
    }
    f->fd = open(f->image, O_RDONLY);
    g_assert_cmpint(fstat(f->fd, &st), ==, 0);
    f->disk = disk_reader_fd(f->fd, (uint64_t)st.st_size);
    f->req = (struct initrd_request){
        .image = f->kernel,
        .disk = &f->disk,
        .disk_name = "root.img",
        .device = "xvda",
        .modules = initrd_xen_modules,
        .cache_dir = f->cache,
        .host_modules = f->host,
    };
    return true;
}

static void make(struct fixture *f)
{
    GError *err = NULL;

    initrd_clear(&f->out);
    g_assert_true(initrd_make(&f->req, &f->out, &err));
    g_assert_no_error(err);
}

static void refuse(struct fixture *f, const char *message)
{
    GError *err = NULL;

    initrd_clear(&f->out);
    g_assert_false(initrd_make(&f->req, &f->out, &err));
    g_assert_cmpstr(err->message, ==, message);
    g_clear_error(&err);
}

/* The user sees to it: only a warning is left. */
static void warn_only(struct fixture *f, const char *warning)
{
    make(f);
    g_assert_cmpuint(f->out.warnings->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(f->out.warnings, 0), ==, warning);
}

/* Another kernel, with these strings in its data. */
static void give_kernel(struct fixture *f, const char *strings, size_t len)
{
    GByteArray *elf = fake_kernel_elf(0);

    boot_image_free(f->kernel);
    g_byte_array_append(elf, (const uint8_t *)strings, (guint)len);
    f->kernel = boot_image_from_memory("vmlinuz", elf->data, elf->len, NULL);
    f->req.image = f->kernel;
    g_byte_array_free(elf, TRUE);
}

#define GIVE_KERNEL(f, strings) give_kernel(f, strings, sizeof(strings))

/* A disk of 1 MiB with some bytes at an offset; instead of the one that is open. */
static void give_disk(struct fixture *f, size_t at, const char *magic)
{
    g_autofree char *bytes = g_malloc0(1 << 20);

    memcpy(bytes + at, magic, strlen(magic));
    if (f->fd >= 0) {
        close(f->fd);
    }
    g_assert_true(g_file_set_contents(f->image, bytes, 1 << 20, NULL));
    f->fd = open(f->image, O_RDONLY);
    f->disk = disk_reader_fd(f->fd, 1 << 20);
    f->req = (struct initrd_request){
        .image = f->kernel, .disk = &f->disk, .disk_name = "root.img", .device = "xvda",
        .modules = initrd_xen_modules, .host_modules = f->host,
    };
}

static void expect_archive(struct fixture *f, const char *want)
{
    g_autofree char *list = fake_cpio_list(f->out.bytes);

    g_assert_cmpstr(list, ==, want);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    initrd_clear(&f->out);
    boot_image_free(f->kernel);
    if (f->fd >= 0) {
        close(f->fd);
    }
    fake_remove(f->dir);
    g_free(f->dir);
    g_free(f->root);
    g_free(f->image);
    g_free(f->cache);
    g_free(f->host);
}

static void test_from_disk(struct fixture *f, gconstpointer data)
{
    add_blkfront(f);
    if (!open_disk(f)) {
        return;
    }
    make(f);
    g_assert_cmpstr(f->out.root, ==, "/dev/xvda");
    g_assert_cmpstr(f->out.root_type, ==, "ext4");
    g_assert_cmpstr(f->out.about, ==, "xenbus_thing xen_blkfront xen_netfront (from root.img)");
    g_assert_cmpuint(f->out.warnings->len, ==, 0);
    expect_archive(f, "dev dev/console init pvemu pvemu/xenbus_thing.ko pvemu/xen_blkfront.ko "
                      "pvemu/xen_netfront.ko pvemu/modules");
}

static void test_missing_driver(struct fixture *f, gconstpointer data)
{
    if (!open_disk(f)) {
        return;
    }
    refuse(f, "no module xen_blkfront for Linux 6.1.0-99-fake in 'root.img', and it is not built "
              "in: the root /dev/xvda cannot be mounted\n" HINT_MODULES);
    f->req.root = "LABEL=x";
    refuse(f, "no module xen_blkfront for Linux 6.1.0-99-fake in 'root.img', and it is not built "
              "in: the root LABEL=x cannot be mounted\n" HINT_MODULES);
    f->req.root = "/dev/nfs";
    warn_only(f, "no module xen_blkfront for Linux 6.1.0-99-fake in 'root.img', and it is not "
                 "built in: the root /dev/nfs cannot be mounted");
    f->req.root = NULL;
    f->req.lenient = true;
    warn_only(f, "no module xen_blkfront for Linux 6.1.0-99-fake in 'root.img', and it is not "
                 "built in: the root /dev/xvda cannot be mounted");
    f->req.lenient = false;
    GIVE_KERNEL(f, "xen_blkfront.max"); /* what is built in after all */
    warn_only(f, "root.img has no module xen_blkfront; without it the guest may not find its "
                 "root");
}

static void test_all_built_in(struct fixture *f, gconstpointer data)
{
    fake_text(f->root, "lib/modules/6.1.0-99-fake/modules.builtin",
              "kernel/fs/ext4/ext4.ko\nkernel/drivers/block/xen-blkfront.ko\n"
              "kernel/drivers/net/xen-netfront.ko\n");
    if (!open_disk(f)) {
        return;
    }
    make(f);
    g_assert_null(f->out.bytes);
    g_assert_cmpstr(f->out.root, ==, "/dev/xvda");
}

/* The second start finds a disk whose folder is gone: the set of the first is used. */
static void test_remembered(struct fixture *f, gconstpointer data)
{
    g_autofree char *modules = g_build_filename(f->root, "lib", NULL);

    add_blkfront(f);
    if (!open_disk(f)) {
        return;
    }
    make(f);
    close(f->fd);
    fake_remove(modules);
    g_unlink(f->image);
    g_assert_true(open_disk(f));
    make(f);
    g_assert_cmpstr(f->out.about, ==,
                    "modules for 6.1.0-99-fake as remembered from an earlier start");
    expect_archive(f, "dev dev/console init pvemu pvemu/xenbus_thing.ko pvemu/xen_blkfront.ko "
                      "pvemu/xen_netfront.ko pvemu/modules");
}

static void test_from_host(struct fixture *f, gconstpointer data)
{
    g_autofree char *modules = g_build_filename(f->root, "lib", NULL);

    fake_remove(modules);
    fake_file(f->host, "6.1.0-99-fake/xen-blkfront.ko", fake_module(NULL, NULL));
    fake_file(f->host, "6.1.0-99-fake/xen-netfront.ko", fake_module(NULL, NULL));
    fake_text(f->host, "6.1.0-99-fake/modules.builtin", "kernel/fs/ext4.ko\n");
    if (!open_disk(f)) {
        return;
    }
    make(f);
    g_assert_cmpstr(f->out.about, ==, "xen_blkfront xen_netfront (from this host)");
}

static void test_nowhere(struct fixture *f, gconstpointer data)
{
    g_autofree char *modules = g_build_filename(f->root, "lib", NULL);

    fake_remove(modules);
    if (!open_disk(f)) {
        return;
    }
    refuse(f, "no modules for Linux 6.1.0-99-fake in 'root.img' or on this host, and "
              "xen_blkfront is not built in: the root /dev/xvda cannot be mounted\n" HINT_MODULES);
    f->req.lenient = true;
    warn_only(f, "no modules for Linux 6.1.0-99-fake in 'root.img' or on this host, and "
                 "xen_blkfront is not built in: the root /dev/xvda cannot be mounted");
    g_assert_cmpstr(f->out.about, ==, "no modules");
    expect_archive(f, "dev dev/console init");
    f->req.lenient = false;
    GIVE_KERNEL(f, "xen_blkfront.max"); /* ext4 is missing then */
    refuse(f, "the root /dev/xvda is ext4: no modules for Linux 6.1.0-99-fake in 'root.img' or "
              "on this host, and ext4 is not built in\n" HINT_MODULES);
    GIVE_KERNEL(f, "xen_blkfront.max\0ext4");
    make(f);
    g_assert_cmpuint(f->out.warnings->len, ==, 0);
}

/* Modules are not read from the root, and the host has only some. */
static void test_foreign_fs(struct fixture *f, gconstpointer data)
{
    give_disk(f, 0x10040, "_BHRfS_M");
    refuse(f, "no modules for Linux 6.1.0-99-fake in 'root.img' (they are not read from btrfs) "
              "or on this host, and xen_blkfront is not built in: the root /dev/xvda cannot be "
              "mounted\n" HINT_MODULES);
    fake_file(f->host, "6.1.0-99-fake/xen-blkfront.ko", fake_module(NULL, NULL));
    fake_file(f->host, "6.1.0-99-fake/xen-netfront.ko", fake_module(NULL, NULL));
    refuse(f, "the root /dev/xvda is btrfs: no module btrfs for Linux 6.1.0-99-fake on this "
              "host, and it is not built in\n" HINT_MODULES);
    f->req.root = "/dev/xvdb"; /* another one than the one that was looked at */
    warn_only(f, "this host has no module btrfs; without it the guest may not find its root");
    give_disk(f, 0, "XFSB");
    GIVE_KERNEL(f, "selinuxfs"); /* ends like the name of a file system */
    warn_only(f, "this host has no module xfs; without it the guest may not find its root");
    fake_text(f->host, "6.1.0-99-fake/modules.builtin", "kernel/fs/ext4.ko\n");
    refuse(f, "the root /dev/xvda is xfs: no module xfs for Linux 6.1.0-99-fake on this host, "
              "and it is not built in\n" HINT_MODULES);
}

static void test_no_root(struct fixture *f, gconstpointer data)
{
    give_disk(f, 0, "");
    refuse(f, "'root.img' is blank: no partition table, no file system, so no root to mount"
              "\n" HINT_ROOT);
    give_disk(f, 4086, "SWAPSPACE2");
    refuse(f, "'root.img' has no Linux file system for a root (swap)\n" HINT_ROOT);
    f->req.root = "/dev/xvdb";
    initrd_clear(&f->out);
    refuse(f, "no modules for Linux 6.1.0-99-fake in 'root.img' or on this host, and "
              "xen_blkfront is not built in: the root /dev/xvdb cannot be mounted\n" HINT_MODULES);
    give_disk(f, 100, "something"); /* that Linux may know */
    GIVE_KERNEL(f, "xen_blkfront.max");
    warn_only(f, "'root.img' has no partition table and no file system that is known; the "
                 "guest will look for its root on /dev/xvda");
    g_assert_cmpstr(f->out.root, ==, "/dev/xvda");
}

/* A kernel that is no Linux has its own ideas of a disk. */
static void test_not_linux(struct fixture *f, gconstpointer data)
{
    GByteArray *elf = fake_kernel_elf(0);

    for (guint i = 0; i + 14 < elf->len; i++) {
        if (memcmp(elf->data + i, "Linux version ", 14) == 0) {
            elf->data[i] = 'X';
        }
    }
    boot_image_free(f->kernel);
    f->kernel = boot_image_from_memory("kernel", elf->data, elf->len, NULL);
    g_byte_array_free(elf, TRUE);
    give_disk(f, 0, "");
    make(f);
    g_assert_cmpuint(f->out.warnings->len, ==, 2);
}

static void test_lvm(struct fixture *f, gconstpointer data)
{
    g_autofree char *bytes = g_malloc0(1 << 20);
    GError *err = NULL;

    memcpy(bytes + 512, "LABELONE", 8);
    memcpy(bytes + 512 + 24, "LVM2 001", 8);
    if (!open_disk(f)) {
        return;
    }
    close(f->fd);
    g_assert_true(g_file_set_contents(f->image, bytes, 1 << 20, NULL));
    f->fd = open(f->image, O_RDONLY);
    f->disk = disk_reader_fd(f->fd, 1 << 20);
    g_assert_false(initrd_make(&f->req, &f->out, &err));
    g_assert_cmpstr(err->message, ==,
                    "the root on 'root.img' is inside an LVM volume group, which needs the "
                    "guest's own initramfs\nhint: give it with -initrd (in the image: "
                    "/boot/initrd.img-<version>)");
    g_error_free(err);
}

/* A partition that can be looked into and has no root, beside one that cannot. */
static void test_boot_and_lvm(struct fixture *f, gconstpointer data)
{
    static const uint8_t table[] = {0, 0, 0, 0, 0x83, 0, 0, 0, 0x00, 0x08, 0, 0, 0x00, 0x40, 0, 0,
                                    0, 0, 0, 0, 0x8e, 0, 0, 0, 0x00, 0x48, 0, 0, 0x00, 0x08, 0, 0};
    g_autofree char *init = g_build_filename(f->root, "sbin", NULL);
    g_autofree char *ext = NULL;
    g_autofree char *bytes = g_malloc0(10 << 20);
    GError *err = NULL;
    gsize len;

    fake_remove(init);
    if (!open_disk(f)) {
        return;
    }
    g_assert_true(g_file_get_contents(f->image, &ext, &len, NULL));
    g_assert_cmpuint(len, ==, 8 << 20);
    memcpy(bytes + 446, table, sizeof(table));
    memcpy(bytes + 510, "\x55\xaa", 2);
    memcpy(bytes + (1 << 20), ext, len);
    memcpy(bytes + (9 << 20) + 512, "LABELONE", 8);
    memcpy(bytes + (9 << 20) + 512 + 24, "LVM2 001", 8);
    close(f->fd);
    g_assert_true(g_file_set_contents(f->image, bytes, 10 << 20, NULL));
    f->fd = open(f->image, O_RDONLY);
    f->disk = disk_reader_fd(f->fd, 10 << 20);
    g_assert_false(initrd_make(&f->req, &f->out, &err));
    g_assert_true(g_str_has_prefix(err->message, "the root on 'root.img' is inside an LVM"));
    g_error_free(err);
}

/* Wherever a byte of the metadata is wrong, reading ends without harm. */
static void test_damaged_ext(struct fixture *f, gconstpointer data)
{
    g_autofree char *bytes = NULL;
    gsize len;

    add_blkfront(f);
    if (!open_disk(f)) {
        return;
    }
    g_assert_true(g_file_get_contents(f->image, &bytes, &len, NULL));
    close(f->fd);
    f->fd = open(f->image, O_RDWR);
    f->disk = disk_reader_fd(f->fd, len);
    f->req.cache_dir = NULL;
    for (unsigned at = 1024; at < 1024 + 512; at += 3) {
        char bad = (char)~bytes[at];

        g_assert_cmpint(pwrite(f->fd, &bad, 1, at), ==, 1);
        initrd_clear(&f->out);
        initrd_make(&f->req, &f->out, NULL);
        g_assert_cmpint(pwrite(f->fd, &bytes[at], 1, at), ==, 1);
    }
}

static void test_never_writes(struct fixture *f, gconstpointer data)
{
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    gsize before_len, after_len;

    add_blkfront(f);
    if (!open_disk(f)) {
        return;
    }
    close(f->fd);
    f->fd = open(f->image, O_RDWR);
    f->disk = disk_reader_fd(f->fd, f->disk.size);
    g_assert_true(g_file_get_contents(f->image, &before, &before_len, NULL));
    make(f);
    g_assert_true(g_file_get_contents(f->image, &after, &after_len, NULL));
    g_assert_cmpmem(before, before_len, after, after_len);
}

static void test_no_disk(struct fixture *f, gconstpointer data)
{
    f->req = (struct initrd_request){
        .image = f->kernel, .disk_name = "-", .device = "xvda", .modules = initrd_xen_modules};
    make(f);
    g_assert_null(f->out.root);
    g_assert_nonnull(f->out.about);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add(name, struct fixture, NULL, set_up, fn, tear_down)
    ADD("/boot/initrd/from-disk", test_from_disk);
    ADD("/boot/initrd/missing-driver", test_missing_driver);
    ADD("/boot/initrd/all-built-in", test_all_built_in);
    ADD("/boot/initrd/remembered", test_remembered);
    ADD("/boot/initrd/from-host", test_from_host);
    ADD("/boot/initrd/nowhere", test_nowhere);
    ADD("/boot/initrd/foreign-fs", test_foreign_fs);
    ADD("/boot/initrd/no-root", test_no_root);
    ADD("/boot/initrd/not-linux", test_not_linux);
    ADD("/boot/initrd/lvm", test_lvm);
    ADD("/boot/initrd/boot-and-lvm", test_boot_and_lvm);
    ADD("/boot/initrd/damaged-ext", test_damaged_ext);
    ADD("/boot/initrd/never-writes", test_never_writes);
    ADD("/boot/initrd/no-disk", test_no_disk);
    return g_test_run();
}
