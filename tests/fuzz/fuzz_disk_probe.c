/* SPDX-License-Identifier: MIT */
/* Partition tables and superblocks. The input is the front of a disk of 16 MiB. */
#include <glib.h>
#include <string.h>

#include "boot/disk.h"
#include "fuzz.h"

enum { DISK_BYTES = 16 << 20 };

struct front {
    const uint8_t *data;
    size_t size;
};

static bool front_read(void *opaque, void *buf, size_t len, uint64_t offset)
{
    const struct front *f = opaque;

    g_assert_cmpuint(offset, <=, DISK_BYTES);
    g_assert_cmpuint(len, <=, DISK_BYTES - offset);
    memset(buf, 0, len);
    if (offset < f->size) {
        memcpy(buf, f->data + offset, MIN(len, f->size - offset));
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct front front = {data, size};
    struct disk_reader disk = {front_read, &front, DISK_BYTES};
    struct disk_layout *layout = g_new(struct disk_layout, 1);

    disk_probe(&disk, layout);
    g_assert_cmpuint(layout->count, <=, DISK_MAX_VOLUMES);
    for (unsigned i = 0; i < layout->count; i++) {
        g_assert_cmpuint(layout->volumes[i].offset, <=, DISK_BYTES);
        g_assert_cmpuint(layout->volumes[i].size, <=, DISK_BYTES - layout->volumes[i].offset);
        disk_is_linux_fs(&layout->volumes[i]);
    }
    g_free(layout);
    return 0;
}
