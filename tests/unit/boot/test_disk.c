/* SPDX-License-Identifier: MIT */
/* Partition tables and superblocks on made-up disks. */
#include <glib.h>
#include <string.h>

#include "boot/disk.h"

enum { DISK_BYTES = 4 << 20, SECTOR = 512 };

static bool memory_read(void *opaque, void *buf, size_t len, uint64_t offset)
{
    memcpy(buf, (uint8_t *)opaque + offset, len);
    return true;
}

struct fixture {
    uint8_t *bytes;
    struct disk_reader disk;
    struct disk_layout layout;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->bytes = g_malloc0(DISK_BYTES);
    f->disk = (struct disk_reader){memory_read, f->bytes, DISK_BYTES};
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    g_free(f->bytes);
}

static void put_le(uint8_t *at, uint64_t value, unsigned len)
{
    memcpy(at, &value, len);
}

static void put_ext(uint8_t *at, uint32_t incompat, const char *label)
{
    put_le(at + 0x438, 0xef53, 2);
    put_le(at + 0x45c, 4, 4);
    put_le(at + 0x460, incompat, 4);
    memset(at + 0x468, 0xab, 16);
    memcpy(at + 0x478, label, strlen(label));
}

static void put_mbr_entry(uint8_t *sector, unsigned slot, uint8_t type, uint32_t start,
                          uint32_t count)
{
    uint8_t *e = sector + 446 + 16 * slot;

    e[4] = type;
    put_le(e + 8, start, 4);
    put_le(e + 12, count, 4);
    put_le(sector + 510, 0xaa55, 2);
}

static void put_gpt(uint8_t *disk, unsigned sector, uint32_t entry_size)
{
    uint8_t *h = disk + sector;

    memcpy(h, "EFI PART", 8);
    put_le(h + 72, 2, 8);
    put_le(h + 80, 128, 4);
    put_le(h + 84, entry_size, 4);
}

static void put_gpt_entry(uint8_t *disk, unsigned sector, unsigned slot, uint64_t first,
                          uint64_t last, const char *type)
{
    uint8_t *e = disk + 2 * sector + 128 * slot;

    memcpy(e, type, 16);
    put_le(e + 32, first, 8);
    put_le(e + 40, last, 8);
}

static void test_whole_ext(struct fixture *f, gconstpointer data)
{
    put_ext(f->bytes, 0x42 | 4, "my\x1broot");
    put_le(f->bytes + 510, 0xaa55, 2); /* a boot sector does not make it partitioned */
    disk_probe(&f->disk, &f->layout);
    g_assert_cmpuint(f->layout.count, ==, 1);
    g_assert_null(f->layout.table);
    g_assert_cmpstr(f->layout.volumes[0].type, ==, "ext4");
    g_assert_true(f->layout.volumes[0].needs_recovery);
    g_assert_cmpstr(f->layout.volumes[0].label, ==, "my?root");
    g_assert_cmpstr(f->layout.volumes[0].uuid, ==, "abababab-abab-abab-abab-abababababab");
}

static void test_magics(struct fixture *f, gconstpointer data)
{
    static const struct {
        size_t at, len;
        const char *magic, *type;
        bool linux_fs;
    } cases[] = {
        {0, 4, "XFSB", "xfs", true},           {0x10040, 8, "_BHRfS_M", "btrfs", true},
        {0, 6, "LUKS\xba\xbe", "LUKS", false}, {4086, 10, "SWAPSPACE2", "swap", false},
        {0, 4, "hsqs", "squashfs", true},      {0x8001, 5, "CD001", "iso9660", false},
        {0x52, 8, "FAT32   ", "vfat", false},  {1024, 4, "\x10\x20\xf5\xf2", "f2fs", true},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        memset(f->bytes, 0, 0x11000);
        memcpy(f->bytes + cases[i].at, cases[i].magic, cases[i].len);
        disk_probe(&f->disk, &f->layout);
        g_assert_cmpstr(f->layout.volumes[0].type, ==, cases[i].type);
        g_assert_true(disk_is_linux_fs(&f->layout.volumes[0]) == cases[i].linux_fs);
    }
    memset(f->bytes, 0, 0x11000);
    memcpy(f->bytes + 512, "LABELONE", 8);
    memcpy(f->bytes + 512 + 24, "LVM2 001", 8);
    disk_probe(&f->disk, &f->layout);
    g_assert_cmpstr(f->layout.volumes[0].type, ==, "LVM2");
}

static void test_gpt(struct fixture *f, gconstpointer data)
{
    static const char root_type[] =
        "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09";
    unsigned sector = (unsigned)GPOINTER_TO_INT(data);

    put_mbr_entry(f->bytes, 0, 0xee, 1, 100);
    put_gpt(f->bytes, sector, 128);
    put_gpt_entry(f->bytes, sector, 0, 40, 59, "type of a boot p");
    put_gpt_entry(f->bytes, sector, 4, 60, 199, root_type);
    put_gpt_entry(f->bytes, sector, 5, 1, UINT64_MAX, "wraps around 16b");
    put_gpt_entry(f->bytes, sector, 6, 100000, 100001, "beyond the end 1");
    put_ext(f->bytes + 60 * sector, 0, "");
    disk_probe(&f->disk, &f->layout);
    g_assert_cmpstr(f->layout.table, ==, "GPT");
    g_assert_cmpuint(f->layout.count, ==, 2);
    g_assert_cmpuint(f->layout.volumes[1].partition, ==, 5);
    g_assert_cmpuint(f->layout.volumes[1].offset, ==, 60 * sector);
    g_assert_cmpuint(f->layout.volumes[1].size, ==, 140 * sector);
    g_assert_cmpstr(f->layout.volumes[1].type, ==, "ext3");
    g_assert_true(f->layout.volumes[1].root_type);
    g_assert_null(f->layout.volumes[0].type);
}

static void test_mbr(struct fixture *f, gconstpointer data)
{
    put_mbr_entry(f->bytes, 0, 0x83, 64, 128);
    put_mbr_entry(f->bytes, 1, 0x05, 1000, 3000);
    put_mbr_entry(f->bytes + 1000 * SECTOR, 0, 0x83, 8, 100);
    put_mbr_entry(f->bytes + 1000 * SECTOR, 1, 0x05, 500, 400);
    put_mbr_entry(f->bytes + 1500 * SECTOR, 0, 0x82, 8, 64);
    put_mbr_entry(f->bytes + 1500 * SECTOR, 1, 0x05, 500, 400); /* points to itself */
    memcpy(f->bytes + 1508 * SECTOR + 4086, "SWAPSPACE2", 10);
    disk_probe(&f->disk, &f->layout);
    g_assert_cmpstr(f->layout.table, ==, "MBR");
    g_assert_cmpuint(f->layout.count, >=, 3);
    g_assert_cmpuint(f->layout.count, <, DISK_MAX_VOLUMES);
    g_assert_cmpuint(f->layout.volumes[1].partition, ==, 5);
    g_assert_cmpuint(f->layout.volumes[1].offset, ==, 1008 * SECTOR);
    g_assert_cmpuint(f->layout.volumes[2].partition, ==, 6);
    g_assert_cmpstr(f->layout.volumes[2].type, ==, "swap");
}

static void test_tiny(struct fixture *f, gconstpointer data)
{
    for (uint64_t size = 0; size < 8192; size += 256) {
        f->disk.size = size;
        disk_probe(&f->disk, &f->layout);
        g_assert_cmpuint(f->layout.count, ==, 1);
        g_assert_null(f->layout.volumes[0].type);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, fn) g_test_add(name, struct fixture, data, set_up, fn, tear_down)
    ADD("/boot/disk/whole-ext", NULL, test_whole_ext);
    ADD("/boot/disk/magics", NULL, test_magics);
    ADD("/boot/disk/gpt-512", GINT_TO_POINTER(512), test_gpt);
    ADD("/boot/disk/gpt-4096", GINT_TO_POINTER(4096), test_gpt);
    ADD("/boot/disk/mbr-and-logical", NULL, test_mbr);
    ADD("/boot/disk/tiny", NULL, test_tiny);
    return g_test_run();
}
