/* SPDX-License-Identifier: MIT */
/* Reading kernel images: every wrapping, the notes, and each message word for word. */
#include <elf.h>
#include <glib/gstdio.h>
#include <string.h>
#include <xen/elfnote.h>
#include <xen/features.h>

#include "base/error.h"
#include "boot/boot_image.h"
#include "fake_kernel.h"

static struct boot_image *open_ok(GByteArray *file)
{
    GError *err = NULL;
    struct boot_image *img = boot_image_from_memory("vmlinuz", file->data, file->len, &err);

    g_assert_no_error(err);
    g_assert_nonnull(img);
    g_byte_array_free(file, TRUE);
    return img;
}

/* The message without hint; frees the file. */
static void expect_error(GByteArray *file, const char *name, const char *message,
                         const char *hint)
{
    GError *err = NULL;
    struct boot_image *img = boot_image_from_memory(name, file->data, file->len, &err);
    g_autofree char *got_hint = NULL;
    g_autofree char *got = NULL;

    g_assert_null(img);
    g_assert_nonnull(err);
    got = error_split_hint(err, &got_hint);
    g_assert_cmpstr(got, ==, message);
    g_assert_cmpstr(got_hint, ==, hint);
    g_error_free(err);
    g_byte_array_free(file, TRUE);
}

static GByteArray *bytes_of(const void *bytes, size_t len, size_t at, size_t whole)
{
    GByteArray *a = g_byte_array_new();

    g_byte_array_set_size(a, (guint)whole);
    memset(a->data, 0, whole);
    memcpy(a->data + at, bytes, len);
    return a;
}

static void check_fake(const struct boot_image *img)
{
    const struct boot_notes *n = &img->notes;

    g_assert_cmpuint(img->elf_class, ==, 64);
    g_assert_cmpuint(img->nr_segments, ==, 2);
    g_assert_cmphex(img->segments[0].gpa, ==, FAKE_TEXT_GPA);
    g_assert_cmphex(img->segments[0].bytes[0], ==, 0xe8);
    g_assert_cmphex(img->segments[0].bytes[9], ==, 1);
    g_assert_cmphex(img->segments[1].gpa, ==, FAKE_DATA_GPA);
    g_assert_cmphex(img->segments[1].bytes[1], ==, 0x41);
    g_assert_cmphex(img->phys_start, ==, FAKE_TEXT_GPA);
    g_assert_cmphex(img->phys_end, ==, FAKE_DATA_GPA + FAKE_DATA_MEM);
    g_assert_true(img->has_pvh);
    g_assert_true(img->has_pv);
    g_assert_cmphex(n->phys32_entry, ==, FAKE_ENTRY);
    g_assert_cmphex(n->entry, ==, 0xffffffff81001000);
    g_assert_cmphex(n->virt_base, ==, 0xffffffff80000000);
    g_assert_cmphex(n->init_p2m, ==, 0x8000000000);
    g_assert_cmpstr(n->guest_os, ==, "linux");
    g_assert_cmphex(n->features_supported, ==, 0x8801 | 1u << XENFEAT_pae_pgdir_above_4gb);
    g_assert_cmphex(n->features_required, ==, 1u << XENFEAT_writable_page_tables);
    g_assert_cmphex(n->present & 1u << 2, ==, 0);
    g_assert_cmpuint(n->nr_l1_mfn_valid, ==, 1);
    g_assert_true(n->mod_start_pfn);
    g_assert_cmpstr(img->version, ==, FAKE_VERSION);
}

/* What is not packed stays; the rest goes and comes, as often as one likes. */
static void check_dropped(struct boot_image *img, bool packed)
{
    for (unsigned i = 0; i < 2; i++) {
        GError *err = NULL;

        boot_image_drop_content(img);
        g_assert_true((img->elf == NULL) == packed);
        g_assert_true((img->segments[0].bytes == NULL) == packed);
        g_assert_true(boot_image_restore_content(img, &err));
        g_assert_no_error(err);
        check_fake(img);
    }
}

static void test_wrappings(void)
{
    static const struct {
        enum unpack_format format;
        const char *words;
    } cases[] = {
        {UNPACK_GZIP, "bzImage, gzip"}, {UNPACK_BZIP2, "bzImage, bzip2"},
        {UNPACK_LZMA, "bzImage, lzma"}, {UNPACK_XZ, "bzImage, xz"},
        {UNPACK_LZ4, "bzImage, lz4"},   {UNPACK_ZSTD, "bzImage, zstd"},
        {UNPACK_NONE, "bzImage"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GByteArray *elf = fake_kernel_elf(0);
        struct boot_image *img = open_ok(fake_kernel_bzimage(cases[i].format, elf));
        g_autofree char *words = boot_image_describe(img);
        g_autofree char *release = boot_image_release(img);

        g_assert_cmpstr(words, ==, cases[i].words);
        g_assert_cmpstr(release, ==, "6.1.0-99-fake");
        check_fake(img);
        check_dropped(img, true);
        boot_image_free(img);
        g_byte_array_free(elf, TRUE);
    }
}

static void test_plain_and_packed_elf(void)
{
    GByteArray *elf = fake_kernel_elf(0);
    struct boot_image *img = open_ok(fake_kernel_pack(UNPACK_ZSTD, elf));
    g_autofree char *words = boot_image_describe(img);

    g_assert_cmpstr(words, ==, "ELF, zstd");
    check_fake(img);
    check_dropped(img, true);
    boot_image_free(img);
    img = open_ok(elf);
    g_assert_null(img->compression);
    check_fake(img);
    check_dropped(img, false);
    boot_image_free(img);
}

/* GRUB is told by its greeting, and only where there is no Linux. */
static void test_boot_loader(void)
{
    static const char greeting[] = "Welcome to GRUB!";
    GByteArray *elf = fake_kernel_elf(0);
    uint8_t *text = memmem(elf->data, elf->len, "Linux version ", 14);
    struct boot_image *img;

    memcpy(text + 30, greeting, strlen(greeting)); /* inside Linux's banner */
    img = boot_image_from_memory("f", elf->data, elf->len, NULL);
    g_assert_nonnull(img);
    g_assert_nonnull(img->version);
    g_assert_null(img->boot_loader);
    boot_image_free(img);
    memcpy(text, "Minix", 5);
    img = open_ok(elf);
    g_assert_null(img->version);
    g_assert_cmpstr(img->boot_loader, ==, "GRUB");
    boot_image_free(img);
    img = open_ok(fake_kernel_elf(0));
    g_assert_null(img->boot_loader);
    boot_image_free(img);
}

static void test_legacy_section(void)
{
    struct boot_image *img = open_ok(fake_kernel_elf(FAKE_LEGACY));
    GError *err = NULL;

    g_assert_true(img->notes.legacy);
    g_assert_true(img->has_pv);
    g_assert_false(img->has_pvh);
    g_assert_cmphex(img->notes.paddr_offset, ==, 0xc0000000);
    g_assert_cmphex(img->notes.hypercall_page, ==, 0xc0002000);
    g_assert_true(img->notes.bsd_symtab);
    g_assert_false(boot_image_check_pvh(img, &err));
    g_assert_cmpstr(
        err->message, ==,
        "'vmlinuz' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)\n"
        "hint: it is a Xen PV kernel: use -machine pv");
    g_error_free(err);
    boot_image_free(img);
}

/* A vmlinux with debug information: the tail stays on disk unless it is needed. */
static void test_file_front(void)
{
    g_autofree char *path = NULL;
    GByteArray *elf = fake_kernel_elf(0);
    int fd = g_file_open_tmp("pvemu-boot-XXXXXX", &path, NULL);
    size_t load = elf->len, whole = 3 << 20;
    struct boot_image *img;
    GError *err = NULL;

    g_assert_cmpint(fd, >=, 0);
    g_byte_array_set_size(elf, (guint)whole);
    memset(elf->data + load, 0xee, whole - load);
    g_assert_true(g_file_set_contents(path, (char *)elf->data, (gssize)whole, NULL));
    img = boot_image_open(path, &err);
    g_assert_no_error(err);
    check_fake(img);
    g_assert_cmpuint(img->elf_len, <=, 1 << 20);
    g_assert_false(img->elf_complete);
    boot_image_free(img);
    g_byte_array_free(elf, TRUE);
    close(fd);
    g_unlink(path);
}

static void test_open_errors(void)
{
    g_autofree char *dir = g_dir_make_tmp("pvemu-boot-XXXXXX", NULL);
    g_autofree char *missing = g_build_filename(dir, "vmlinuz", NULL);
    g_autofree char *want_missing =
        g_strdup_printf("cannot open kernel '%s': no such file", missing);
    g_autofree char *want_dir = g_strdup_printf(
        "'%s' is a directory without a built kernel (arch/x86/boot/bzImage)", dir);
    GError *err = NULL;

    g_assert_null(boot_image_open(missing, &err));
    g_assert_cmpstr(err->message, ==, want_missing);
    g_assert_cmpint(err->code, ==, PVEMU_ERROR_HOST);
    g_clear_error(&err);
    g_assert_null(boot_image_open(dir, &err));
    g_assert_cmpstr(err->message, ==, want_dir);
    g_clear_error(&err);
    g_assert_null(boot_image_open("/dev/null", &err));
    g_assert_cmpstr(err->message, ==, "kernel '/dev/null' is not a regular file");
    g_clear_error(&err);
    g_rmdir(dir);
}

static void test_not_kernels(void)
{
    static const char disk_hint[] = "a disk goes to -disk; -kernel wants a Linux kernel";
    static const struct {
        const char *magic;
        size_t len, at, whole;
        const char *message, *hint;
    } cases[] = {
        {"", 0, 0, 0, "'f' is not a kernel: it is an empty file", NULL},
        {"QFI\xfb", 4, 0, 4096, "'f' is not a kernel: it is a qcow2 disk image", disk_hint},
        {"\x55\xaa", 2, 0x1fe, 4096,
         "'f' is not a kernel: it is a disk image with a boot sector", disk_hint},
        {"\x53\xef", 2, 0x438, 4096, "'f' is not a kernel: it is an ext2/3/4 file system image",
         disk_hint},
        {"CD001", 5, 0x8001, 0x9000, "'f' is not a kernel: it is an ISO 9660 (CD-ROM) image",
         disk_hint},
        {"070701", 6, 0, 512, "'f' is not a kernel: it is an initramfs (cpio archive)",
         "an initramfs goes to -initrd; -kernel wants a Linux kernel"},
        {"MZ", 2, 0, 512, "'f' is not a kernel: it is a Windows or EFI program", NULL},
        {"#!/bin/sh\n", 10, 0, 10, "'f' is not a kernel: it is a script", NULL},
        {"hello\n", 6, 0, 6, "'f' is not a kernel: it is a text file", NULL},
        {"", 0, 0, 4096, "'f' is not a kernel: it is a file of zeros", NULL},
        {"\x01\x02\x03", 3, 0, 64, "'f' is not a kernel: it is an unknown kind of file", NULL},
        {"ARM\x64", 4, 0x38, 512, "'f' is a 64-bit ARM kernel; pvemu runs x86 guests", NULL},
        {"\x7f"
         "ELF",
         4, 0, 16, "'f' is an ELF file with a damaged header", NULL},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        expect_error(
            bytes_of(cases[i].magic, cases[i].len, cases[i].at, MAX(cases[i].whole, 1)), "f",
            i == 0 ? "'f' is not a kernel: it is a file of zeros" : cases[i].message,
            cases[i].hint);
    }
    expect_error(g_byte_array_new(), "f", cases[0].message, NULL);
}

static GByteArray *elf_with(size_t at, uint16_t value)
{
    GByteArray *elf = fake_kernel_elf(0);

    memcpy(elf->data + at, &value, 2);
    return elf;
}

static void test_other_elfs(void)
{
    GByteArray *elf = fake_kernel_elf(0);
    GByteArray *arm = elf_with(18, EM_AARCH64);

    expect_error(fake_kernel_pack(UNPACK_GZIP, arm), "vmlinux.gz",
                 "'vmlinux.gz' is a 64-bit ARM kernel; pvemu runs x86 guests", NULL);
    expect_error(arm, "vmlinux", "'vmlinux' is a 64-bit ARM kernel; pvemu runs x86 guests",
                 NULL);
    expect_error(elf_with(18, 12345), "f",
                 "'f' is a kernel for machine type 12345; pvemu runs x86 guests", NULL);
    expect_error(elf_with(16, ET_REL), "ext4.ko",
                 "'ext4.ko' is not a kernel: it is an object file or a kernel module", NULL);
    expect_error(elf_with(16, ET_CORE), "f", "'f' is not a kernel: it is a core dump", NULL);
    expect_error(elf_with(64, PT_INTERP), "ls",
                 "'ls' is not a kernel: it is a program for an operating system", NULL);
    elf->data[EI_DATA] = ELFDATA2MSB;
    elf->data[18] = 0;
    elf->data[19] = EM_S390;
    expect_error(elf, "image", "'image' is an s390x kernel; pvemu runs x86 guests", NULL);
}

static void test_damage(void)
{
    GByteArray *elf = fake_kernel_elf(0);
    GByteArray *file = fake_kernel_bzimage(UNPACK_XZ, elf);
    GByteArray *text = bytes_of("hello world\n", 12, 0, 12);
    static const char again[] = "copy or download it again";
    uint32_t length;

    g_byte_array_set_size(file, 0x700);
    memcpy(&length, file->data + 0x24c, 4);
    {
        g_autofree char *want = g_strdup_printf(
            "'vmlinuz' is cut short: the bzImage needs %u bytes, the file has 1792",
            0x400 + 0x300 + length);

        expect_error(file, "vmlinuz", want, again);
    }
    file = fake_kernel_bzimage(UNPACK_GZIP, elf);
    length = file->len;
    file->data[length - 64 - 8] ^= 0xff; /* the CRC */
    {
        g_autofree char *want = g_strdup_printf(
            "'vmlinuz' holds a gzip payload that is damaged at offset %u (checksum)",
            length - 64 - 4);

        expect_error(file, "vmlinuz", want, NULL);
    }
    file = fake_kernel_bzimage(UNPACK_LZ4, elf);
    memset(file->data + 0x704, 0xff, 4);
    expect_error(file, "vmlinuz",
                 "'vmlinuz' holds an lz4 payload that is damaged at offset 1796 "
                 "(impossible block size)",
                 NULL);
    file = fake_kernel_pack(UNPACK_GZIP, elf);
    g_byte_array_set_size(file, 1000);
    expect_error(file, "vmlinux.gz",
                 "'vmlinux.gz' holds a gzip payload that is cut short at offset 1000", again);
    file = fake_kernel_bzimage(UNPACK_ZSTD, elf);
    length = file->len;
    file->data[length - 64 - 4] ^= 1; /* the size word */
    {
        g_autofree char *want = g_strdup_printf(
            "'vmlinuz' holds a zstd payload that is damaged at offset %u (wrong size)",
            length - 64 - 4);

        expect_error(file, "vmlinuz", want, NULL);
    }
    expect_error(fake_kernel_pack(UNPACK_XZ, text), "a.xz",
                 "'a.xz' is not a kernel: it is a text file, packed with xz", NULL);
    file = fake_kernel_bzimage(UNPACK_NONE, text);
    expect_error(file, "vmlinuz", "'vmlinuz' is a bzImage without a payload", NULL);
    file = fake_kernel_bzimage(UNPACK_GZIP, elf);
    file->data[0x206] = 6;
    expect_error(file, "old",
                 "'old' uses boot protocol 2.06; pvemu needs 2.08 (Linux 2.6.26) or "
                 "newer",
                 NULL);
    g_byte_array_set_size(elf, 0x2000);
    expect_error(elf, "vmlinux",
                 "'vmlinux' is cut short: segment 0 needs 36864 bytes at 4096, "
                 "the file has 8192",
                 again);
    g_byte_array_free(text, TRUE);
}

static void test_lzo(void)
{
    GByteArray *elf = fake_kernel_elf(0);
    GByteArray *file = fake_kernel_bzimage(UNPACK_LZO, elf);
    GError *err = NULL;

    g_assert_null(boot_image_from_memory("vmlinuz", file->data, file->len, &err));
    if (strstr(err->message, "built without") == NULL) {
        g_test_skip("built with lzo");
    } else {
        g_assert_cmpstr(
            err->message, ==,
            "'vmlinuz' holds an lzo payload, and this pvemu was built without lzo\n"
            "hint: build pvemu with -Dlzo=enabled, or use a kernel packed otherwise");
    }
    g_error_free(err);
    g_byte_array_free(file, TRUE);
    g_byte_array_free(elf, TRUE);
}

static void test_bomb(void)
{
    static const uint8_t zeros[1 << 20];
    GByteArray *in = bytes_of(zeros, sizeof(zeros), 0, sizeof(zeros));
    GByteArray *packed = fake_kernel_pack(UNPACK_GZIP, in);
    struct unpack u = {.in = packed->data, .in_len = packed->len, .max = 100000};

    g_assert_cmpint(unpack_run(UNPACK_GZIP, &u), ==, UNPACK_TOO_BIG);
    g_assert_null(u.out);
    u.max = sizeof(zeros);
    g_assert_cmpint(unpack_run(UNPACK_GZIP, &u), ==, UNPACK_OK);
    g_assert_cmpuint(u.out_len, ==, sizeof(zeros));
    g_free(u.out);
    g_byte_array_free(in, TRUE);
    g_byte_array_free(packed, TRUE);
}

static void test_checks(void)
{
    static const struct {
        unsigned flags;
        bool pv;
        const char *message;
    } cases[] = {
        {FAKE_NO_PVH, false,
         "'vmlinuz' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)\n"
         "hint: it is a Xen PV kernel: use -machine pv"},
        {FAKE_NO_NOTES, false,
         "'vmlinuz' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)\n"
         "hint: build the kernel with CONFIG_PVH=y (and CONFIG_XEN_PVH=y)"},
        {FAKE_NO_NOTES, true,
         "'vmlinuz' is not a Xen PV kernel (no ELF notes XEN_VERSION \"xen-3.0\" and LOADER "
         "\"generic\")\nhint: build the kernel with CONFIG_XEN_PV=y"},
        {FAKE_UNKNOWN_FEATURE, true,
         "'vmlinuz' requires the Xen feature 'time_travel', which pvemu does not know"},
        {FAKE_ENTRY_OUTSIDE, false,
         "'vmlinuz' is damaged: its PVH entry 0x5000000 lies outside the kernel"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct boot_image *img = open_ok(fake_kernel_elf(cases[i].flags));
        GError *err = NULL;
        bool ok =
            cases[i].pv ? boot_image_check_pv(img, &err) : boot_image_check_pvh(img, &err);

        g_assert_false(ok);
        g_assert_cmpstr(err->message, ==, cases[i].message);
        g_error_free(err);
        boot_image_free(img);
    }
}

/* Changes a note of a fake kernel: its text to `text`, or, with NULL, its name, so that it is none
 * of Xen's. */
static GByteArray *with_note(unsigned flags, uint32_t type, const char *text)
{
    GByteArray *elf = fake_kernel_elf(flags);
    uint8_t key[8] = {(uint8_t)type, 0, 0, 0, 'X', 'e', 'n', 0};
    uint8_t *at = memmem(elf->data, elf->len, key, sizeof(key));

    g_assert_nonnull(at);
    if (text == NULL) {
        at[4] = 'x';
    } else {
        g_assert_cmpuint(strlen(text) + 1, <=, *(uint32_t *)(void *)(at - 4));
        memcpy(at + 8, text, strlen(text) + 1);
    }
    return elf;
}

/* What is missing is named, and what says the wrong thing is quoted. */
static void test_pv_notes(void)
{
    static const struct {
        uint32_t type;
        const char *text;
        const char *message;
    } cases[] = {
        {XEN_ELFNOTE_XEN_VERSION, NULL,
         "'vmlinuz' is not a Xen PV kernel (no ELF note XEN_VERSION, which should say "
         "\"xen-3.0\")\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_XEN_VERSION, "xen-2.0",
         "'vmlinuz' is not a Xen PV kernel (ELF note XEN_VERSION says \"xen-2.0\", not "
         "\"xen-3.0\")\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_ENTRY, NULL,
         "'vmlinuz' is not a Xen PV kernel (no ELF note ENTRY: this Linux was built without "
         "CONFIG_XEN_PV)\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_VIRT_BASE, NULL,
         "'vmlinuz' has no ELF note VIRT_BASE, and without one its PV entry 0xffffffff81001000 "
         "lies outside the kernel\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_FEATURES, "!supervisor_mode_kernel",
         "'vmlinuz' requires the Xen feature 'supervisor_mode_kernel' (ELF note FEATURES), which "
         "a PV guest does not have\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_FEATURES, "!auto_translated_physmap",
         "'vmlinuz' requires the Xen feature 'auto_translated_physmap' (ELF note FEATURES), which "
         "a PV guest does not have\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_FEATURES, "!writable_descriptor_tables",
         "'vmlinuz' requires the Xen feature 'writable_descriptor_tables' (ELF note FEATURES), "
         "which a PV guest does not have\nhint: it has a PVH entry: use -machine pvh"},
        {XEN_ELFNOTE_FEATURES, "!dom0",
         "'vmlinuz' requires the Xen feature 'dom0' (ELF note FEATURES), which a PV guest does "
         "not have"},
        {XEN_ELFNOTE_FEATURES, "!pae_pgdir_above_4gb|dom0", NULL},
        {XEN_ELFNOTE_LOADER, NULL, NULL}, /* GUEST_OS is enough */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct boot_image *img = open_ok(with_note(0, cases[i].type, cases[i].text));
        GError *err = NULL;

        g_assert_true(boot_image_check_pv(img, &err) == (cases[i].message == NULL));
        g_assert_cmpstr(err != NULL ? err->message : NULL, ==, cases[i].message);
        g_clear_error(&err);
        boot_image_free(img);
    }
}

/* The same for a kernel that is not Linux and has no PVH entry; what PVH gives. */
static void test_other_notes(void)
{
    GByteArray *elf = with_note(FAKE_NO_PVH, XEN_ELFNOTE_GUEST_OS, "other");
    uint8_t *at = memmem(elf->data, elf->len, "generic", 7);
    struct boot_image *img;
    GError *err = NULL;

    memcpy(at, "special", 7);
    img = open_ok(elf);
    g_assert_false(boot_image_check_pv(img, &err));
    g_assert_cmpstr(err->message, ==,
                    "'vmlinuz' is not a Xen PV kernel (ELF note LOADER says \"special\", not "
                    "\"generic\")\nhint: build the kernel with CONFIG_XEN_PV=y");
    g_clear_error(&err);
    g_assert_false(boot_image_check_any(img, &err));
    g_assert_cmpstr(err->message, ==,
                    "'vmlinuz' can be started neither by PVH (no ELF note PHYS32_ENTRY) nor by "
                    "Xen PV (ELF note LOADER says \"special\", not \"generic\")\n"
                    "hint: build the kernel with CONFIG_XEN_PVH=y or CONFIG_XEN_PV=y");
    g_clear_error(&err);
    boot_image_free(img);
    img = open_ok(with_note(0, XEN_ELFNOTE_FEATURES, "!supervisor_mode_kernel"));
    g_assert_true(boot_image_check_pvh(img, &err));
    boot_image_free(img);
    img = open_ok(with_note(0, XEN_ELFNOTE_FEATURES, "!dom0"));
    g_assert_false(boot_image_check_pvh(img, &err));
    g_assert_cmpstr(err->message, ==,
                    "'vmlinuz' requires the Xen feature 'dom0' (ELF note FEATURES), which a PVH "
                    "guest does not have");
    g_clear_error(&err);
    boot_image_free(img);
}

/* BSD_SYMTAB: what lies behind the kernel (the layout is in symtab.c). */
static void test_symbols(void)
{
    static const char strings[] = FAKE_STRINGS;
    struct boot_image *img = open_ok(fake_kernel_elf(FAKE_SYMBOLS));
    const struct boot_segment *seg = &img->segments[2];
    uint32_t used;
    Elf64_Ehdr eh;
    Elf64_Shdr s[3];
    Elf64_Sym symbols[3];

    g_assert_cmpuint(img->nr_segments, ==, 3);
    g_assert_cmphex(seg->gpa, ==, FAKE_DATA_GPA + FAKE_DATA_MEM);
    g_assert_cmphex(img->phys_end, ==, seg->gpa + seg->mem_size);
    g_assert_cmpuint(seg->file_size, ==, 264 + sizeof(symbols) + 16); /* 14 bytes of strings */
    memcpy(&used, seg->bytes, 4);
    memcpy(&eh, seg->bytes + 4, sizeof(eh));
    memcpy(s, seg->bytes + 4 + eh.e_shoff, sizeof(s));
    g_assert_cmpuint(used, ==, 260 + sizeof(symbols) + sizeof(strings));
    g_assert_cmpint(memcmp(eh.e_ident, ELFMAG, SELFMAG), ==, 0);
    g_assert_cmpuint(eh.e_shnum, ==, 3);
    g_assert_cmpuint(eh.e_phnum + eh.e_phoff + eh.e_shstrndx, ==, 0);
    g_assert_cmpuint(s[0].sh_type, ==, SHT_NULL);
    g_assert_cmpuint(s[1].sh_type, ==, SHT_SYMTAB);
    g_assert_cmpuint(s[1].sh_link, ==, 2);
    g_assert_cmpuint(s[1].sh_offset, ==, 260);
    g_assert_cmpuint(s[2].sh_type, ==, SHT_STRTAB);
    g_assert_cmpuint(s[2].sh_size, ==, sizeof(strings));
    memcpy(symbols, seg->bytes + 4 + s[1].sh_offset, sizeof(symbols));
    g_assert_cmphex(symbols[2].st_value, ==, 0x2222);
    g_assert_cmpstr((const char *)seg->bytes + 4 + s[2].sh_offset + symbols[2].st_name, ==,
                    "second");
    boot_image_free(img);
    img = open_ok(fake_kernel_elf(FAKE_LEGACY)); /* asks, and was stripped */
    g_assert_cmpuint(img->nr_segments, ==, 2);
    boot_image_free(img);
}

/* Every wrong byte of the section headers. */
static void test_symbols_hostile(void)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    GByteArray *elf = fake_kernel_elf(FAKE_SYMBOLS);
    const size_t headers = 4 * sizeof(Elf64_Shdr);
    unsigned with = 0, without = 0;

    for (size_t at = elf->len - headers; at < elf->len; at++) {
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            GByteArray *bad = bytes_of(elf->data, elf->len, 0, elf->len);
            struct boot_image *img;

            bad->data[at] = values[i];
            img = open_ok(bad);
            with += img->nr_segments == 3;
            without += img->nr_segments == 2;
            boot_image_free(img);
        }
    }
    g_assert_cmpuint(with, >, 0);
    g_assert_cmpuint(without, >, 0);
    g_assert_cmpuint(with + without, ==, headers * G_N_ELEMENTS(values));
    g_byte_array_free(elf, TRUE);
}

/* No single wrong byte in the headers may do harm (run with a sanitizer to see all of it). */
static void test_flipped_bytes(void)
{
    GByteArray *elf = fake_kernel_elf(FAKE_LEGACY);
    GByteArray *noted = fake_kernel_elf(0);

    for (size_t at = 0; at < 0x600; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            GByteArray *const files[] = {elf, noted};

            for (unsigned i = 0; i < 2; i++) {
                files[i]->data[at] ^= (uint8_t)(1u << bit);
                boot_image_free(
                    boot_image_from_memory("f", files[i]->data, files[i]->len, NULL));
                files[i]->data[at] ^= (uint8_t)(1u << bit);
            }
        }
    }
    g_byte_array_free(elf, TRUE);
    g_byte_array_free(noted, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/image/every-wrapping", test_wrappings);
    g_test_add_func("/boot/image/plain-and-packed-elf", test_plain_and_packed_elf);
    g_test_add_func("/boot/image/boot-loader", test_boot_loader);
    g_test_add_func("/boot/image/legacy-section", test_legacy_section);
    g_test_add_func("/boot/image/reads-only-the-front", test_file_front);
    g_test_add_func("/boot/image/open-errors", test_open_errors);
    g_test_add_func("/boot/image/names-what-is-no-kernel", test_not_kernels);
    g_test_add_func("/boot/image/other-elf-files", test_other_elfs);
    g_test_add_func("/boot/image/damage", test_damage);
    g_test_add_func("/boot/image/lzo-not-built", test_lzo);
    g_test_add_func("/boot/unpack/bounded", test_bomb);
    g_test_add_func("/boot/image/entry-checks", test_checks);
    g_test_add_func("/boot/image/flipped-bytes", test_flipped_bytes);
    g_test_add_func("/boot/image/pv-notes", test_pv_notes);
    g_test_add_func("/boot/image/other-notes", test_other_notes);
    g_test_add_func("/boot/image/symbols", test_symbols);
    g_test_add_func("/boot/image/symbols-hostile", test_symbols_hostile);
    return g_test_run();
}
