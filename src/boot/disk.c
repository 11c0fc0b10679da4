/* SPDX-License-Identifier: MIT */
/*
 * Superblock and partition table recognition by magic numbers. GPT after UEFI 2.10 chapter 5,
 * MBR with logical partitions numbered from 5 as Linux does. Counts are bounded, chains too.
 */
#include "boot/disk.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "boot/image_parts.h"

enum {
    PROBE_BYTES = 0x10400, /* as far as btrfs' superblock */
    GPT_MAX_ENTRIES = 256,
    MBR_MAX_LOGICAL = 32,
    SECTOR = 512,
};

static bool disk_fd_read(void *opaque, void *buf, size_t len, uint64_t offset)
{
    int fd = GPOINTER_TO_INT(opaque);
    uint8_t *to = buf;

    while (len > 0) {
        ssize_t got = pread(fd, to, len, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        to += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return true;
}

struct disk_reader disk_reader_fd(int fd, uint64_t size)
{
    return (struct disk_reader){disk_fd_read, GINT_TO_POINTER(fd), size};
}

bool disk_read(const struct disk_reader *disk, void *buf, size_t len, uint64_t offset)
{
    return checked_range(offset, len, disk->size) && disk->read(disk->opaque, buf, len, offset);
}

static void disk_uuid(struct disk_volume *v, const uint8_t *id)
{
    g_snprintf(v->uuid, sizeof(v->uuid),
               "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", id[0],
               id[1], id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11],
               id[12], id[13], id[14], id[15]);
}

static void disk_label(struct disk_volume *v, const uint8_t *label, size_t len)
{
    g_autofree char *text = image_text(label, len, DISK_LABEL_SIZE - 1);

    g_strlcpy(v->label, g_strchomp(text), sizeof(v->label));
}

static bool disk_probe_ext(struct disk_volume *v, const uint8_t *sb)
{
    uint32_t compat = image_le32(sb + 0x45c), incompat = image_le32(sb + 0x460);

    if (image_le16(sb + 0x438) != 0xef53) {
        return false;
    }
    v->type = (incompat & ~0x3fu) != 0 ? "ext4" : (compat & 4) != 0 ? "ext3" : "ext2";
    v->needs_recovery = (incompat & 4) != 0;
    disk_uuid(v, sb + 0x468);
    disk_label(v, sb + 0x478, 16);
    return true;
}

static bool disk_probe_lvm(const uint8_t *sb)
{
    for (unsigned sector = 0; sector < 4; sector++) {
        if (memcmp(sb + sector * SECTOR, "LABELONE", 8) == 0 &&
            memcmp(sb + sector * SECTOR + 24, "LVM2 001", 8) == 0) {
            return true;
        }
    }
    return false;
}

/* Types known by a magic number alone. */
static const char *disk_probe_magic(const uint8_t *sb)
{
    static const struct {
        const char *type;
        uint32_t at, len;
        const char *magic;
    } magics[] = {
        {"LUKS", 0, 6, "LUKS\xba\xbe"},
        {"squashfs", 0, 4, "hsqs"},
        {"erofs", 1024, 4, "\xe2\xe1\xf5\xe0"},
        {"f2fs", 1024, 4, "\x10\x20\xf5\xf2"},
        {"swap", 4086, 10, "SWAPSPACE2"},
        {"iso9660", 0x8001, 5, "CD001"},
        {"RAID", 4096, 4, "\xfc\x4e\x2b\xa9"},
        {"RAID", 0, 4, "\xfc\x4e\x2b\xa9"},
        {"NTFS", 3, 8, "NTFS    "},
        {"vfat", 0x52, 8, "FAT32   "},
        {"vfat", 0x36, 8, "FAT16   "},
        {"vfat", 0x36, 8, "FAT12   "},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(magics); i++) {
        if (memcmp(sb + magics[i].at, magics[i].magic, magics[i].len) == 0) {
            return magics[i].type;
        }
    }
    return disk_probe_lvm(sb) ? "LVM2" : NULL;
}

static void disk_probe_volume(const struct disk_reader *disk, struct disk_volume *v)
{
    g_autofree uint8_t *sb = g_malloc0(PROBE_BYTES);

    if (!disk_read(disk, sb, (size_t)MIN(PROBE_BYTES, v->size), v->offset)) {
        return;
    }
    if (memcmp(sb, "XFSB", 4) == 0) {
        v->type = "xfs";
        disk_uuid(v, sb + 32);
        disk_label(v, sb + 108, 12);
    } else if (memcmp(sb + 0x10040, "_BHRfS_M", 8) == 0) {
        v->type = "btrfs";
        disk_uuid(v, sb + 0x10020);
        disk_label(v, sb + 0x1012b, DISK_LABEL_SIZE - 1);
    } else if (!disk_probe_ext(v, sb)) {
        v->type = disk_probe_magic(sb);
    }
}

static void disk_add(const struct disk_reader *disk, struct disk_layout *layout,
                     const struct disk_volume *v)
{
    uint64_t end;

    if (layout->count == DISK_MAX_VOLUMES || v->size == 0 ||
        !checked_add(v->offset, v->size, &end) || end > disk->size) {
        return;
    }
    layout->volumes[layout->count] = *v;
    disk_probe_volume(disk, &layout->volumes[layout->count++]);
}

static bool disk_probe_gpt(const struct disk_reader *disk, struct disk_layout *layout,
                           uint64_t sector)
{
    /* 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 as it lies on disk */
    static const uint8_t root_type[16] = {0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d,
                                          0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09};
    static const uint8_t unused[16];
    uint8_t header[92], entry[128];
    uint64_t at;
    uint32_t count, size;

    if (!disk_read(disk, header, sizeof(header), sector) ||
        memcmp(header, "EFI PART", 8) != 0) {
        return false;
    }
    count = MIN(image_le32(header + 80), GPT_MAX_ENTRIES);
    size = image_le32(header + 84);
    if (size < sizeof(entry) || size > 4096 ||
        !checked_mul(image_le64(header + 72), sector, &at)) {
        return false;
    }
    layout->table = "GPT";
    for (uint32_t i = 0; i < count; i++, at += size) {
        struct disk_volume v = {.partition = i + 1};
        uint64_t end;

        if (!disk_read(disk, entry, sizeof(entry), at)) {
            break;
        }
        if (memcmp(entry, unused, 16) == 0 ||
            !checked_mul(image_le64(entry + 32), sector, &v.offset) ||
            !checked_mul(image_le64(entry + 40), sector, &end) || end < v.offset) {
            continue;
        }
        v.size = end - v.offset + sector;
        v.root_type = memcmp(entry, root_type, 16) == 0;
        disk_add(disk, layout, &v);
    }
    return true;
}

static bool mbr_is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

static void disk_probe_logical(const struct disk_reader *disk, struct disk_layout *layout,
                               uint64_t base)
{
    uint64_t at = base;

    for (unsigned i = 0; i < MBR_MAX_LOGICAL; i++) {
        struct disk_volume v = {.partition = 5 + i};
        uint8_t ebr[SECTOR];
        uint32_t next;

        if (!disk_read(disk, ebr, sizeof(ebr), at) || image_le16(ebr + 510) != 0xaa55) {
            return;
        }
        v.offset = at + (uint64_t)image_le32(ebr + 446 + 8) * SECTOR;
        v.size = (uint64_t)image_le32(ebr + 446 + 12) * SECTOR;
        disk_add(disk, layout, &v);
        next = image_le32(ebr + 462 + 8);
        if (!mbr_is_extended(ebr[462 + 4]) || next == 0) {
            return;
        }
        at = base + (uint64_t)next * SECTOR;
    }
}

static bool disk_probe_mbr(const struct disk_reader *disk, struct disk_layout *layout)
{
    uint8_t mbr[SECTOR];
    uint64_t extended = 0;

    if (!disk_read(disk, mbr, sizeof(mbr), 0) || image_le16(mbr + 510) != 0xaa55) {
        return false;
    }
    layout->table = "MBR";
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *e = mbr + 446 + 16 * i;
        struct disk_volume v = {.partition = i + 1,
                                .offset = (uint64_t)image_le32(e + 8) * SECTOR,
                                .size = (uint64_t)image_le32(e + 12) * SECTOR};

        if (mbr_is_extended(e[4])) {
            extended = v.offset;
        } else if (e[4] != 0) {
            disk_add(disk, layout, &v);
        }
    }
    if (extended != 0) {
        disk_probe_logical(disk, layout, extended);
    }
    return true;
}

void disk_probe(const struct disk_reader *disk, struct disk_layout *layout)
{
    struct disk_volume whole = {.size = disk->size};

    memset(layout, 0, sizeof(*layout));
    if (disk_probe_gpt(disk, layout, 512) || disk_probe_gpt(disk, layout, 4096)) {
        return;
    }
    disk_probe_volume(disk, &whole);
    /* A boot sector of FAT or an ISO hybrid looks like a partition table, and ext leaves room
     * for one: what the whole disk holds wins unless it is nothing. */
    if (whole.type == NULL && disk_probe_mbr(disk, layout) && layout->count > 0) {
        return;
    }
    layout->table = NULL;
    layout->count = 1;
    layout->volumes[0] = whole;
}

bool disk_is_linux_fs(const struct disk_volume *volume)
{
    static const char *const types[] = {"ext2",  "ext3",     "ext4",  "xfs",
                                        "btrfs", "squashfs", "erofs", "f2fs"};

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        if (volume->type != NULL && strcmp(volume->type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}
