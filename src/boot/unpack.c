/* SPDX-License-Identifier: MIT */
/*
 * Decompressors behind one door. Each codec reads u->in from u->in_pos and appends to u->out.
 * The streaming ones share one loop; lz4's legacy frame (Documentation: lz4_Block_format.md and
 * the frame's "legacy" chapter) is walked here because liblz4 has no decoder for it.
 * What follows the end of a stream is ignored: Linux appends the unpacked size to its payload.
 */
#include "boot/unpack.h"

#include <bzlib.h>
#include <lz4.h>
#include <lz4frame.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum {
    CHUNK = 256 * 1024, /* least growth of the output */
    LZ4_MAGIC = 4,
    LZ4_LEGACY_BLOCK = 8 << 20, /* largest block of the legacy frame, unpacked */
};
static const uint64_t LZMA_MEMORY = 256ull
                                    << 20; /* dictionary limit: Linux uses up to 128 MiB */

static const uint8_t LZ4_FRAME_MAGIC[] = {0x04, 0x22, 0x4d, 0x18};

static const struct {
    enum unpack_format format;
    uint8_t len;
    uint8_t magic[9];
} MAGICS[] = {
    {UNPACK_GZIP, 3, {0x1f, 0x8b, 8}},
    {UNPACK_BZIP2, 3, {'B', 'Z', 'h'}},
    {UNPACK_LZMA, 3, {0x5d, 0, 0}},
    {UNPACK_XZ, 6, {0xfd, '7', 'z', 'X', 'Z', 0}},
    {UNPACK_LZO, 9, {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}},
    {UNPACK_LZ4, 4, {0x02, 0x21, 0x4c, 0x18}},
    {UNPACK_LZ4, 4, {0x04, 0x22, 0x4d, 0x18}},
    {UNPACK_ZSTD, 4, {0x28, 0xb5, 0x2f, 0xfd}},
};

enum unpack_format unpack_detect(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < G_N_ELEMENTS(MAGICS); i++) {
        if (len > MAGICS[i].len && memcmp(bytes, MAGICS[i].magic, MAGICS[i].len) == 0) {
            return MAGICS[i].format;
        }
    }
    return UNPACK_NONE;
}

const char *unpack_name(enum unpack_format format)
{
    static const char *const names[] = {"none", "gzip", "bzip2", "lzma",
                                        "xz",   "lzo",  "lz4",   "zstd"};

    return names[format];
}

enum unpack_result unpack_reserve(struct unpack *u, size_t more)
{
    uint64_t want = (uint64_t)u->out_len + more;
    uint64_t cap = u->out_cap;
    uint8_t *grown;

    if (want <= cap) {
        return UNPACK_OK;
    }
    if (want > u->max) {
        u->why = "it unpacks to more than is allowed";
        return UNPACK_TOO_BIG;
    }
    cap = MIN(MAX(want, cap + cap / 2), u->max);
    grown = g_try_realloc(u->out, cap);
    if (grown == NULL) {
        u->why = "no memory for the unpacked bytes";
        return UNPACK_NO_MEMORY;
    }
    u->out = grown;
    u->out_cap = cap;
    return UNPACK_OK;
}

/* Room for a streaming codec: as much as is left, at least one byte, in big steps. */
static enum unpack_result unpack_room(struct unpack *u)
{
    uint64_t left = u->max - u->out_len;

    if (u->out_len < u->out_cap) {
        return UNPACK_OK;
    }
    return unpack_reserve(u, left == 0 ? 1 : (size_t)MIN(left, CHUNK));
}

static enum unpack_result unpack_fail(struct unpack *u, enum unpack_result result,
                                      const char *why)
{
    u->why = why;
    return result;
}

static enum unpack_result unpack_gzip(struct unpack *u)
{
    z_stream z = {0};
    enum unpack_result result = UNPACK_OK;
    int ret = Z_OK;

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        return unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
    }
    while (ret == Z_OK && result == UNPACK_OK) {
        uInt in_now = (uInt)MIN(u->in_len - u->in_pos, 1u << 30);
        uInt out_now;

        result = unpack_room(u);
        if (result != UNPACK_OK) {
            break;
        }
        out_now = (uInt)MIN(u->out_cap - u->out_len, 1u << 30);
        z.next_in = (Bytef *)(uintptr_t)(u->in + u->in_pos);
        z.avail_in = in_now;
        z.next_out = u->out + u->out_len;
        z.avail_out = out_now;
        ret = inflate(&z, Z_NO_FLUSH);
        u->in_pos += in_now - z.avail_in;
        u->out_len += out_now - z.avail_out;
        if (ret == Z_BUF_ERROR || (ret == Z_OK && u->in_pos == u->in_len && z.avail_out > 0)) {
            result = unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        } else if (ret != Z_OK && ret != Z_STREAM_END) {
            result = unpack_fail(
                u, ret == Z_MEM_ERROR ? UNPACK_NO_MEMORY : UNPACK_DAMAGED,
                z.msg != NULL && strstr(z.msg, "check") != NULL ? "checksum" : "invalid data");
        }
    }
    inflateEnd(&z);
    return result;
}

static enum unpack_result unpack_bzip2(struct unpack *u)
{
    bz_stream z = {0};
    enum unpack_result result = UNPACK_OK;
    int ret = BZ_OK;

    if (BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK) {
        return unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
    }
    while (ret == BZ_OK && result == UNPACK_OK) {
        unsigned in_now = (unsigned)MIN(u->in_len - u->in_pos, 1u << 30);
        unsigned out_now;

        result = unpack_room(u);
        if (result != UNPACK_OK) {
            break;
        }
        out_now = (unsigned)MIN(u->out_cap - u->out_len, 1u << 30);
        z.next_in = (char *)(uintptr_t)(u->in + u->in_pos);
        z.avail_in = in_now;
        z.next_out = (char *)u->out + u->out_len;
        z.avail_out = out_now;
        ret = BZ2_bzDecompress(&z);
        u->in_pos += in_now - z.avail_in;
        u->out_len += out_now - z.avail_out;
        if (ret == BZ_OK && u->in_pos == u->in_len && z.avail_out > 0) {
            result = unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        } else if (ret == BZ_MEM_ERROR) {
            result = unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
        } else if (ret != BZ_OK && ret != BZ_STREAM_END) {
            result = unpack_fail(u, UNPACK_DAMAGED,
                                 ret == BZ_DATA_ERROR ? "checksum" : "invalid data");
        }
    }
    BZ2_bzDecompressEnd(&z);
    return result;
}

static enum unpack_result unpack_lzma(struct unpack *u, bool alone)
{
    lzma_stream z = LZMA_STREAM_INIT;
    enum unpack_result result = UNPACK_OK;
    lzma_ret ret;

    ret = alone ? lzma_alone_decoder(&z, LZMA_MEMORY) : lzma_stream_decoder(&z, LZMA_MEMORY, 0);
    if (ret != LZMA_OK) {
        return unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
    }
    while (ret == LZMA_OK && result == UNPACK_OK) {
        result = unpack_room(u);
        if (result != UNPACK_OK) {
            break;
        }
        z.next_in = u->in + u->in_pos;
        z.avail_in = u->in_len - u->in_pos;
        z.next_out = u->out + u->out_len;
        z.avail_out = u->out_cap - u->out_len;
        ret = lzma_code(&z, LZMA_RUN);
        u->out_len = u->out_cap - z.avail_out;
        u->in_pos = u->in_len - z.avail_in;
        if (ret == LZMA_BUF_ERROR || (ret == LZMA_OK && z.avail_in == 0 && z.avail_out > 0)) {
            result = unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        } else if (ret == LZMA_MEM_ERROR || ret == LZMA_MEMLIMIT_ERROR) {
            result = unpack_fail(u, UNPACK_NO_MEMORY, "the dictionary is too large");
        } else if (ret == LZMA_OPTIONS_ERROR) {
            result = unpack_fail(u, UNPACK_DAMAGED, "unknown filter or option");
        } else if (ret != LZMA_OK && ret != LZMA_STREAM_END) {
            result = unpack_fail(u, UNPACK_DAMAGED, "checksum or invalid data");
        }
    }
    lzma_end(&z);
    return result;
}

static enum unpack_result unpack_zstd(struct unpack *u)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    enum unpack_result result = UNPACK_OK;
    size_t ret = 1;

    if (z == NULL) {
        return unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
    }
    while (ret != 0 && result == UNPACK_OK) {
        ZSTD_inBuffer in = {u->in, u->in_len, u->in_pos};
        ZSTD_outBuffer out;

        result = unpack_room(u);
        if (result != UNPACK_OK) {
            break;
        }
        out = (ZSTD_outBuffer){u->out, u->out_cap, u->out_len};
        ret = ZSTD_decompressStream(z, &out, &in);
        u->in_pos = in.pos;
        u->out_len = out.pos;
        if (ZSTD_isError(ret)) {
            const char *name = ZSTD_getErrorName(ret);

            result = unpack_fail(u, UNPACK_DAMAGED,
                                 strstr(name, "checksum") != NULL ? "checksum"
                                 : strstr(name, "memory") != NULL ? "the window is too large"
                                                                  : "invalid data");
        } else if (ret != 0 && in.pos == u->in_len && out.pos < u->out_cap) {
            result = unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        }
    }
    ZSTD_freeDStream(z);
    return result;
}

/* Blocks of {u32 packed size, bytes} to the end of the input. A size word that cannot be a
 * block and is the last word is the unpacked size that Linux appends. */
static enum unpack_result unpack_lz4_legacy(struct unpack *u)
{
    u->in_pos = LZ4_MAGIC;
    while (u->in_len - u->in_pos > 4) {
        enum unpack_result result;
        uint32_t packed;
        size_t room;
        int got;

        memcpy(&packed, u->in + u->in_pos, 4);
        packed = GUINT32_FROM_LE(packed);
        if (packed == 0x184c2102) { /* a further frame */
            u->in_pos += 4;
            continue;
        }
        if (packed == 0 || packed > (uint32_t)LZ4_compressBound(LZ4_LEGACY_BLOCK)) {
            return unpack_fail(u, UNPACK_DAMAGED, "impossible block size");
        }
        if (packed > u->in_len - u->in_pos - 4) {
            return unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        }
        room = (size_t)MIN(u->max - u->out_len, LZ4_LEGACY_BLOCK);
        result = unpack_reserve(u, MAX(room, 1));
        if (result != UNPACK_OK) {
            return result;
        }
        got = LZ4_decompress_safe((const char *)u->in + u->in_pos + 4,
                                  (char *)u->out + u->out_len, (int)packed, (int)room);
        if (got < 0) {
            return room < LZ4_LEGACY_BLOCK
                       ? unpack_fail(u, UNPACK_TOO_BIG, "it unpacks to more than is allowed")
                       : unpack_fail(u, UNPACK_DAMAGED, "invalid data");
        }
        u->out_len += (size_t)got;
        u->in_pos += 4 + (size_t)packed;
    }
    return UNPACK_OK;
}

static enum unpack_result unpack_lz4(struct unpack *u)
{
    LZ4F_dctx *z = NULL;
    enum unpack_result result = UNPACK_OK;
    size_t ret = 1;

    if (memcmp(u->in, LZ4_FRAME_MAGIC, sizeof(LZ4_FRAME_MAGIC)) != 0) {
        return unpack_lz4_legacy(u);
    }
    if (LZ4F_isError(LZ4F_createDecompressionContext(&z, LZ4F_VERSION))) {
        return unpack_fail(u, UNPACK_NO_MEMORY, "no memory for the decoder");
    }
    while (ret != 0 && result == UNPACK_OK) {
        size_t in_now = u->in_len - u->in_pos;
        size_t out_now;

        result = unpack_room(u);
        if (result != UNPACK_OK) {
            break;
        }
        out_now = u->out_cap - u->out_len;
        ret =
            LZ4F_decompress(z, u->out + u->out_len, &out_now, u->in + u->in_pos, &in_now, NULL);
        if (LZ4F_isError(ret)) {
            result = unpack_fail(u, UNPACK_DAMAGED, "checksum or invalid data");
            break;
        }
        u->in_pos += in_now;
        u->out_len += out_now;
        if (ret != 0 && in_now == 0 && out_now == 0) {
            result = unpack_fail(u, UNPACK_TRUNCATED, "the data ends too early");
        }
    }
    LZ4F_freeDecompressionContext(z);
    return result;
}

static enum unpack_result unpack_dispatch(enum unpack_format format, struct unpack *u)
{
    switch (format) {
    case UNPACK_GZIP:
        return unpack_gzip(u);
    case UNPACK_BZIP2:
        return unpack_bzip2(u);
    case UNPACK_LZMA:
        return unpack_lzma(u, true);
    case UNPACK_XZ:
        return unpack_lzma(u, false);
    case UNPACK_LZO:
        return unpack_lzo(u);
    case UNPACK_LZ4:
        return unpack_lz4(u);
    case UNPACK_ZSTD:
        return unpack_zstd(u);
    case UNPACK_NONE:
        break;
    }
    return unpack_fail(u, UNPACK_DAMAGED, "unknown format");
}

enum unpack_result unpack_run(enum unpack_format format, struct unpack *u)
{
    enum unpack_result result = UNPACK_OK;
    uint8_t *shrunk;

    u->out = NULL;
    u->out_len = u->out_cap = u->in_pos = 0;
    u->why = NULL;
    if (u->size_hint > u->max) {
        result = unpack_fail(u, UNPACK_TOO_BIG, "it unpacks to more than is allowed");
    } else if (u->size_hint > 0 && u->size_hint / 2048 <= u->in_len) {
        result =
            unpack_reserve(u, (size_t)u->size_hint); /* believable: no codec packs tighter */
    }
    if (result == UNPACK_OK) {
        result = unpack_dispatch(format, u);
    }
    if (result != UNPACK_OK) {
        g_free(u->out);
        u->out = NULL;
        u->out_len = 0;
        return result;
    }
    shrunk = g_try_realloc(u->out, MAX(u->out_len, 1));
    u->out = shrunk != NULL ? shrunk : u->out;
    return UNPACK_OK;
}
