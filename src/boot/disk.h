/* SPDX-License-Identifier: MIT */
/*
 * What is on a disk: partition table and the kinds of the volumes on it, from their
 * superblocks. Only reads, and only through disk_reader, so that the bytes may come from
 * anywhere. The disk is hostile.
 */
#ifndef PVEMU_BOOT_DISK_H
#define PVEMU_BOOT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_reader {
    /* Fills all of buf or returns false. */
    bool (*read)(void *opaque, void *buf, size_t len, uint64_t offset);
    void *opaque;
    uint64_t size; /* bytes */
};

/* A reader of a raw image; borrows fd. */
struct disk_reader disk_reader_fd(int fd, uint64_t size);
bool disk_read(const struct disk_reader *disk, void *buf, size_t len, uint64_t offset);

enum { DISK_MAX_VOLUMES = 64, DISK_LABEL_SIZE = 64, DISK_UUID_SIZE = 40 };

struct disk_volume {
    unsigned partition; /* as Linux numbers them; 0: the whole disk */
    uint64_t offset, size;
    bool root_type;              /* its GPT type says: root file system of an x86-64 Linux */
    const char *type;            /* "ext4", "xfs", "swap", "LVM2", "LUKS" ...; NULL: unknown */
    bool needs_recovery;         /* ext: the journal is not empty */
    char label[DISK_LABEL_SIZE]; /* printable ASCII */
    char uuid[DISK_UUID_SIZE];   /* "" when the type has none */
};

struct disk_layout {
    const char *table; /* "GPT", "MBR" or NULL: no partition table */
    struct disk_volume volumes[DISK_MAX_VOLUMES];
    unsigned count;
};

void disk_probe(const struct disk_reader *disk, struct disk_layout *layout);
/* Whether Linux can have its root on such a volume. */
bool disk_is_linux_fs(const struct disk_volume *volume);

#endif
