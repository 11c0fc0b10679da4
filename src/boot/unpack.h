/* SPDX-License-Identifier: MIT */
/*
 * Decompression of what kernels, kernel modules and initramfs archives are packed with. Formats
 * are told apart by their first bytes, never by a name. Input is hostile: output is bounded by
 * the caller, and every failure says where in the input it happened.
 */
#ifndef PVEMU_BOOT_UNPACK_H
#define PVEMU_BOOT_UNPACK_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum unpack_format {
    UNPACK_NONE, /* not one of the formats below */
    UNPACK_GZIP,
    UNPACK_BZIP2,
    UNPACK_LZMA, /* the old .lzma container */
    UNPACK_XZ,
    UNPACK_LZO, /* lzop container; needs the build option `lzo` */
    UNPACK_LZ4, /* the legacy frame that Linux uses, and the standard frame */
    UNPACK_ZSTD,
};

enum unpack_result {
    UNPACK_OK,
    UNPACK_TRUNCATED, /* the input ends too early */
    UNPACK_DAMAGED,
    UNPACK_TOO_BIG, /* the output would exceed `max` */
    UNPACK_NO_MEMORY,
    UNPACK_NOT_BUILT, /* this pvemu was built without the format */
};

/* One decompression. The caller fills the first block; unpack_run() fills the second. */
struct unpack {
    const uint8_t *in;
    size_t in_len;
    uint64_t max;       /* most output bytes allowed */
    uint64_t size_hint; /* expected output size, 0 when unknown */

    uint8_t *out; /* g_malloc'ed, the caller's; NULL unless UNPACK_OK */
    size_t out_len;
    size_t in_pos;   /* input bytes used, or where it failed */
    const char *why; /* static words for the failure, never NULL after one */
    size_t out_cap;  /* unpack's own */
};

enum unpack_format unpack_detect(const uint8_t *bytes, size_t len);
const char *unpack_name(enum unpack_format format); /* "gzip", "xz", ... */
enum unpack_result unpack_run(enum unpack_format format, struct unpack *u);

/* For the codecs: makes room for at least `more` (> 0) output bytes. UNPACK_OK, UNPACK_TOO_BIG
 * or UNPACK_NO_MEMORY. Afterwards out_cap - out_len >= more. */
enum unpack_result unpack_reserve(struct unpack *u, size_t more);
enum unpack_result unpack_lzo(struct unpack *u);

#endif
