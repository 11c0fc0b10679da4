/* SPDX-License-Identifier: MIT */
/* The newc format: Documentation/driver-api/early-userspace/buffer-format.rst of Linux. */
#include "boot/cpio.h"

#include <string.h>
#include <sys/stat.h>

struct cpio_entry {
    const char *name;
    uint32_t mode;
    const void *bytes;
    size_t len;
    unsigned major, minor;
};

static void cpio_pad(GByteArray *out)
{
    static const uint8_t zeros[4];

    g_byte_array_append(out, zeros, -out->len & 3);
}

static void cpio_add(GByteArray *out, const struct cpio_entry *e)
{
    guint name_len = (guint)strlen(e->name) + 1;
    uint32_t nlink = S_ISDIR(e->mode) ? 2 : 1;
    char header[111];

    /* magic ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize
     * check; ino 0 is good because nothing is hard-linked */
    g_snprintf(header, sizeof(header),
               "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0u, e->mode, 0u,
               0u, nlink, 0u, (unsigned)e->len, 0u, 0u, e->major, e->minor, name_len, 0u);
    g_byte_array_append(out, (const uint8_t *)header, 110);
    g_byte_array_append(out, (const uint8_t *)e->name, name_len);
    cpio_pad(out);
    if (e->len > 0) {
        g_byte_array_append(out, e->bytes, (guint)e->len);
        cpio_pad(out);
    }
}

void cpio_dir(GByteArray *out, const char *name)
{
    cpio_add(out, &(struct cpio_entry){.name = name, .mode = S_IFDIR | 0755});
}

void cpio_file(GByteArray *out, const char *name, uint32_t permissions, const void *bytes,
               size_t len)
{
    cpio_add(out, &(struct cpio_entry){
                      .name = name, .mode = S_IFREG | permissions, .bytes = bytes, .len = len});
}

void cpio_char_device(GByteArray *out, const char *name, unsigned major, unsigned minor)
{
    cpio_add(out, &(struct cpio_entry){
                      .name = name, .mode = S_IFCHR | 0600, .major = major, .minor = minor});
}

void cpio_end(GByteArray *out)
{
    cpio_add(out, &(struct cpio_entry){.name = "TRAILER!!!"});
}
