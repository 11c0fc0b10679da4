/* SPDX-License-Identifier: MIT */
/*
 * Linux's x86 boot image, as described in the kernel's Documentation/arch/x86/boot.rst: a setup
 * header at 0x1f1, real-mode code, then a wrapper that carries the compressed vmlinux. Only the
 * payload and the version string are taken; the wrapper never runs, because Xen guests are
 * entered in the vmlinux itself. Protocol 2.08 (Linux 2.6.26) introduced the payload's address.
 */
#include "boot/image_parts.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"

enum {
    BZ_SETUP_SECTS = 0x1f1,
    BZ_BOOT_FLAG = 0x1fe,
    BZ_MAGIC = 0x202,
    BZ_VERSION = 0x206,
    BZ_KERNEL_VERSION = 0x20e,
    BZ_PAYLOAD_OFFSET = 0x248,
    BZ_PAYLOAD_LENGTH = 0x24c,
    BZ_HEADER_END = 0x250,
    BZ_PROTOCOL_PAYLOAD = 0x208,
    BZ_VERSION_MAX = 256,
};

bool bzimage_is(const uint8_t *file, size_t len)
{
    return len >= BZ_MAGIC + 4 && image_le16(file + BZ_BOOT_FLAG) == 0xaa55 &&
           memcmp(file + BZ_MAGIC, "HdrS", 4) == 0;
}

static bool bzimage_cut(const struct boot_image *img, GError **err, uint64_t needs, size_t len)
{
    error_set(err, PVEMU_ERROR_IMAGE,
              "'%s' is cut short: the bzImage needs %" G_GUINT64_FORMAT
              " bytes, the file has %zu",
              img->name, needs, len);
    error_hint(err, "copy or download it again");
    return false;
}

bool bzimage_payload(struct boot_image *img, const uint8_t *file, size_t len,
                     struct image_span *payload, GError **err)
{
    uint64_t setup_bytes, at, size;
    unsigned protocol, version_at;

    if (len < BZ_HEADER_END) {
        return bzimage_cut(img, err, BZ_HEADER_END, len);
    }
    protocol = image_le16(file + BZ_VERSION);
    if (protocol < BZ_PROTOCOL_PAYLOAD) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' uses boot protocol %u.%02u; pvemu needs 2.08 (Linux 2.6.26) or "
                         "newer",
                         img->name, protocol >> 8, protocol & 0xff);
    }
    version_at = image_le16(file + BZ_KERNEL_VERSION);
    if (version_at != 0 && version_at + 0x200u < len) {
        version_at += 0x200;
        g_free(img->version); /* of an earlier look at the same file */
        img->version = image_text(file + version_at, len - version_at, BZ_VERSION_MAX);
    }
    setup_bytes = (file[BZ_SETUP_SECTS] == 0 ? 4u : file[BZ_SETUP_SECTS]) * 512u + 512u;
    at = setup_bytes + image_le32(file + BZ_PAYLOAD_OFFSET);
    size = image_le32(file + BZ_PAYLOAD_LENGTH);
    if (!checked_range(at, size, len)) {
        return bzimage_cut(img, err, at + size, len);
    }
    if (size < 16) {
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is a bzImage without a payload",
                         img->name);
    }
    *payload = (struct image_span){file + at, (size_t)size};
    return true;
}
