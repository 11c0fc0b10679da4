/* SPDX-License-Identifier: MIT */
/*
 * The lzop container with liblzo2, for kernels built with CONFIG_KERNEL_LZO. Picked by meson
 * with -Dlzo=enabled. Checksums in the container are skipped, not checked: liblzo2 checks the
 * stream.
 */
#include "boot/unpack.h"

#include <lzo/lzo1x.h>
#include <string.h>

enum {
    LZOP_MAGIC = 9,
    LZOP_ADLER_D = 1 << 0,
    LZOP_ADLER_C = 1 << 1,
    LZOP_CRC_D = 1 << 8,
    LZOP_CRC_C = 1 << 9,
    LZOP_FILTER = 1 << 11,
    LZOP_BLOCK_MAX = 64 << 20,
};

static bool lzo_take(struct unpack *u, size_t len, const uint8_t **bytes)
{
    if (len > u->in_len - u->in_pos) {
        u->why = "the data ends too early";
        return false;
    }
    *bytes = u->in + u->in_pos;
    u->in_pos += len;
    return true;
}

static bool lzo_be(struct unpack *u, unsigned len, uint32_t *value)
{
    const uint8_t *b;

    if (!lzo_take(u, len, &b)) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < len; i++) {
        *value = *value << 8 | b[i];
    }
    return true;
}

/* Version, method, flags, file name ...: only the flags matter. */
static bool lzo_header(struct unpack *u, uint32_t *flags)
{
    uint32_t version, skip, name_len;
    const uint8_t *bytes;

    u->in_pos = LZOP_MAGIC;
    if (!lzo_be(u, 2, &version) || !lzo_be(u, 2, &skip) ||
        (version >= 0x0940 && !lzo_be(u, 2, &skip)) || !lzo_be(u, 1, &skip) ||
        (version >= 0x0940 && !lzo_be(u, 1, &skip)) || !lzo_be(u, 4, flags)) {
        return false;
    }
    if ((*flags & LZOP_FILTER) != 0 && !lzo_be(u, 4, &skip)) {
        return false;
    }
    return lzo_take(u, version >= 0x0940 ? 12 : 8, &bytes) && lzo_be(u, 1, &name_len) &&
           lzo_take(u, name_len, &bytes) && lzo_take(u, 4, &bytes);
}

static enum unpack_result lzo_block(struct unpack *u, const uint8_t *packed,
                                    uint32_t packed_len, uint32_t len)
{
    enum unpack_result result = unpack_reserve(u, len);
    lzo_uint got = len;

    if (result != UNPACK_OK) {
        return result;
    }
    if (packed_len == len) {
        memcpy(u->out + u->out_len, packed, len);
    } else if (lzo1x_decompress_safe(packed, packed_len, u->out + u->out_len, &got, NULL) !=
                   LZO_E_OK ||
               got != len) {
        u->why = "invalid data";
        return UNPACK_DAMAGED;
    }
    u->out_len += len;
    return UNPACK_OK;
}

enum unpack_result unpack_lzo(struct unpack *u)
{
    uint32_t flags, len, packed_len;
    const uint8_t *bytes;

    if (lzo_init() != LZO_E_OK) {
        u->why = "the lzo library does not start";
        return UNPACK_NO_MEMORY;
    }
    if (!lzo_header(u, &flags)) {
        return UNPACK_TRUNCATED;
    }
    while (lzo_be(u, 4, &len)) {
        enum unpack_result result;
        size_t sums;

        if (len == 0) {
            return UNPACK_OK;
        }
        if (!lzo_be(u, 4, &packed_len)) {
            break;
        }
        if (len > LZOP_BLOCK_MAX || packed_len == 0 || packed_len > len) {
            u->why = "impossible block size";
            return UNPACK_DAMAGED;
        }
        sums = ((flags & LZOP_ADLER_D) != 0 ? 4u : 0u) + ((flags & LZOP_CRC_D) != 0 ? 4u : 0u);
        if (packed_len < len) {
            sums +=
                ((flags & LZOP_ADLER_C) != 0 ? 4u : 0u) + ((flags & LZOP_CRC_C) != 0 ? 4u : 0u);
        }
        if (!lzo_take(u, sums, &bytes) || !lzo_take(u, packed_len, &bytes)) {
            break;
        }
        result = lzo_block(u, bytes, packed_len, len);
        if (result != UNPACK_OK) {
            return result;
        }
    }
    return UNPACK_TRUNCATED;
}
