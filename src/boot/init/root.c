/* SPDX-License-Identifier: MIT */
/*
 * root= in all the forms that an initramfs must know: /dev/NAME, LABEL=, UUID=, PARTUUID=,
 * PARTLABEL= and MAJOR:MINOR. Superblocks of ext2/3/4, XFS, btrfs and squashfs, and the GPT and
 * MBR partition tables, are read directly; there is no udev here.
 */
#include "root.h"

#include <linux/fcntl.h>
#include <asm/unistd.h>

#include "sys.h"

enum { SB_BYTES = 0x10400, GPT_ENTRIES = 128, GPT_ENTRY_MIN = 128, NAME_SIZE = 64 };

struct dirent64 {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

static uint8_t sb[SB_BYTES];

/* Calls fn for every block device until it returns true. */
static bool each_device(bool (*fn)(const char *name, void *opaque), void *opaque)
{
    static _Alignas(8) char buf[4096];
    long fd = sys_open("/sys/class/block", O_RDONLY | O_DIRECTORY);
    bool found = false;
    long got;

    if (fd < 0) {
        return false;
    }
    while (!found && (got = sys_call(__NR_getdents64, fd, (long)buf, sizeof(buf), 0, 0)) > 0) {
        for (long at = 0; at < got && !found;) {
            struct dirent64 *d = (struct dirent64 *)(void *)(buf + at);

            at += d->reclen;
            found = d->name[0] != '.' && strlen(d->name) < NAME_SIZE - 8 && fn(d->name, opaque);
        }
    }
    sys_close((int)fd);
    return found;
}

static void dev_path(char *path, size_t size, const char *name)
{
    path[0] = '\0';
    str_add(path, size, "/dev/");
    str_add(path, size, name);
    for (char *p = path + 5; *p != '\0'; p++) {
        if (*p == '!') { /* sysfs writes '/' in names that way */
            *p = '/';
        }
    }
}

static size_t read_at(const char *path, void *buf, size_t len, uint64_t offset)
{
    long fd = sys_open(path, O_RDONLY);
    long got;

    if (fd < 0) {
        return 0;
    }
    got = sys_pread((int)fd, buf, len, offset);
    sys_close((int)fd);
    return got > 0 ? (size_t)got : 0;
}

static void hex_byte(char *out, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";

    out[0] = digits[byte >> 4];
    out[1] = digits[byte & 15];
}

/* 16 bytes as 8-4-4-4-12; `mixed`: the first three groups are little-endian (GPT). */
static void uuid_text(char *out, const uint8_t *id, bool mixed)
{
    static const uint8_t plain[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static const uint8_t guid[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *out++ = '-';
        }
        hex_byte(out, id[mixed ? guid[i] : plain[i]]);
        out += 2;
    }
    *out = '\0';
}

/* What a superblock says: type, label (at most label_len bytes) and 16 bytes of id. */
struct superblock {
    const char *type;
    const uint8_t *label;
    size_t label_len;
    const uint8_t *id;
};

static bool superblock_read(const char *path, struct superblock *s)
{
    size_t len = read_at(path, sb, sizeof(sb), 0);

    memset(s, 0, sizeof(*s));
    if (len >= 0x800 && sb[0x438] == 0x53 && sb[0x439] == 0xef) {
        bool journal = (sb[0x45c] & 4) != 0;
        bool newer = (sb[0x460] & 0xc0) != 0 || sb[0x461] != 0;

        *s = (struct superblock){newer     ? "ext4"
                                 : journal ? "ext3"
                                           : "ext2",
                                 sb + 0x478, 16, sb + 0x468};
    } else if (len >= 512 && memcmp(sb, "XFSB", 4) == 0) {
        *s = (struct superblock){"xfs", sb + 108, 12, sb + 32};
    } else if (len >= 0x10400 && memcmp(sb + 0x10040, "_BHRfS_M", 8) == 0) {
        *s = (struct superblock){"btrfs", sb + 0x1012b, 256, sb + 0x10020};
    } else if (len >= 512 && memcmp(sb, "hsqs", 4) == 0) {
        s->type = "squashfs";
    } else if (len >= 0x800 && memcmp(sb + 1024, "\xe2\xe1\xf5\xe0", 4) == 0) {
        s->type = "erofs";
    } else if (len >= 0x800 && memcmp(sb + 1024, "\x10\x20\xf5\xf2", 4) == 0) {
        s->type = "f2fs";
    }
    return s->type != NULL;
}

const char *root_probe(const char *path)
{
    struct superblock s;

    return superblock_read(path, &s) ? s.type : NULL;
}

struct search {
    const char *want;
    bool by_label;
    char *path;
    size_t size;
};

static bool match_superblock(const char *name, void *opaque)
{
    struct search *search = opaque;
    struct superblock s;
    char text[260];

    dev_path(search->path, search->size, name);
    if (!superblock_read(search->path, &s) || s.id == NULL) {
        return false;
    }
    if (!search->by_label) {
        uuid_text(text, s.id, false);
        return str_same(text, search->want);
    }
    memcpy(text, s.label, s.label_len);
    text[s.label_len] = '\0';
    return strcmp(text, search->want) == 0;
}

/* The node of partition `number` of a disk: xvda1, nvme0n1p1. */
static bool partition_path(const char *disk, unsigned number, char *path, size_t size)
{
    char last = disk[strlen(disk) - 1];

    dev_path(path, size, disk);
    if (last >= '0' && last <= '9') {
        str_add(path, size, "p");
    }
    str_add_number(path, size, number);
    return sys_exists(path) == 0;
}

static bool match_mbr(const char *disk, struct search *search)
{
    char text[16];

    for (unsigned i = 0; i < 4; i++) {
        hex_byte(text + 2 * i, sb[0x1b8 + 3 - i]);
    }
    text[8] = '-';
    for (unsigned n = 1; n < 64; n++) {
        hex_byte(text + 9, (uint8_t)n);
        text[11] = '\0';
        if (str_same(text, search->want)) {
            return partition_path(disk, n, search->path, search->size);
        }
    }
    return false;
}

static uint64_t le(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;

    while (len-- > 0) {
        v = v << 8 | p[len];
    }
    return v;
}

static bool gpt_entry_matches(const uint8_t *entry, const struct search *search)
{
    char text[40];

    if (!search->by_label) {
        uuid_text(text, entry + 16, true);
        return str_same(text, search->want);
    }
    for (unsigned i = 0; i < 36; i++) { /* UTF-16; ASCII is enough here */
        text[i] = entry[56 + 2 * i + 1] == 0 ? (char)entry[56 + 2 * i] : '?';
    }
    text[36] = '\0';
    return strcmp(text, search->want) == 0;
}

static bool match_gpt(const char *disk, const char *node, unsigned sector,
                      struct search *search)
{
    uint64_t entries_at = le(sb + sector + 72, 8);
    unsigned count = (unsigned)le(sb + sector + 80, 4);
    unsigned entry_size = (unsigned)le(sb + sector + 84, 4);

    if (entries_at > (1ull << 40) || count > GPT_ENTRIES || entry_size < GPT_ENTRY_MIN ||
        entry_size > 4096) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t entry[GPT_ENTRY_MIN];

        if (read_at(node, entry, sizeof(entry),
                    entries_at * sector + (uint64_t)i * entry_size) != sizeof(entry)) {
            return false;
        }
        if (le(entry, 8) != 0 && gpt_entry_matches(entry, search)) {
            return partition_path(disk, i + 1, search->path, search->size);
        }
    }
    return false;
}

static bool match_partition(const char *disk, void *opaque)
{
    struct search *search = opaque;
    char node[NAME_SIZE + 8];

    dev_path(node, sizeof(node), disk);
    if (read_at(node, sb, 0x2000, 0) < 0x1200) {
        return false;
    }
    for (unsigned sector = 512; sector <= 4096; sector *= 8) {
        if (memcmp(sb + sector, "EFI PART", 8) == 0) {
            return match_gpt(disk, node, sector, search);
        }
    }
    return !search->by_label && sb[0x1fe] == 0x55 && sb[0x1ff] == 0xaa &&
           match_mbr(disk, search);
}

static bool match_number(const char *name, void *opaque)
{
    struct search *search = opaque;
    char path[NAME_SIZE + 32] = "/sys/class/block/";
    char number[32];

    str_add(path, sizeof(path), name);
    str_add(path, sizeof(path), "/dev");
    if (file_read(path, number, sizeof(number)) <= 0) {
        return false;
    }
    number[strlen(number) - 1] = '\0'; /* the newline */
    dev_path(search->path, search->size, name);
    return strcmp(number, search->want) == 0;
}

bool root_find(const char *spec, char *path, size_t size)
{
    static const struct {
        const char *prefix;
        bool by_label;
        bool (*match)(const char *name, void *opaque);
    } forms[] = {
        {"LABEL=", true, match_superblock},
        {"UUID=", false, match_superblock},
        {"PARTLABEL=", true, match_partition},
        {"PARTUUID=", false, match_partition},
        {"", false, match_number},
    };

    if (str_starts(spec, "/dev/")) {
        path[0] = '\0';
        str_add(path, size, spec);
        return sys_exists(path) == 0;
    }
    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (str_starts(spec, forms[i].prefix)) {
            struct search search = {spec + strlen(forms[i].prefix), forms[i].by_label, path,
                                    size};

            return each_device(forms[i].match, &search);
        }
    }
    return false;
}

struct list {
    char *buf;
    size_t size;
};

static bool list_add(const char *name, void *opaque)
{
    struct list *list = opaque;

    str_add(list->buf, list->size, list->buf[0] != '\0' ? " " : "");
    str_add(list->buf, list->size, name);
    return false;
}

void root_list(char *buf, size_t size)
{
    struct list list = {buf, size};

    buf[0] = '\0';
    each_device(list_add, &list);
}
