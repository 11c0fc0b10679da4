/* SPDX-License-Identifier: MIT */
/* Small made-up kernels for the tests of src/boot: an ELF with Xen notes, packed in any way. */
#ifndef PVEMU_TESTS_FAKE_KERNEL_H
#define PVEMU_TESTS_FAKE_KERNEL_H

#include <glib.h>
#include <stdint.h>

#include "boot/unpack.h"

enum fake_kernel_flags {
    FAKE_NO_PVH = 1 << 0,   /* leave out PHYS32_ENTRY */
    FAKE_NO_NOTES = 1 << 1, /* no PT_NOTE at all */
    FAKE_LEGACY = 1 << 2,   /* a __xen_guest section instead of notes */
    FAKE_UNKNOWN_FEATURE = 1 << 3,
    FAKE_ENTRY_OUTSIDE = 1 << 4,
    FAKE_SYMBOLS = 1 << 5, /* BSD_SYMTAB, and two symbols: see FAKE_STRINGS */
};

/* Where things are in the fake kernel. */
#define FAKE_TEXT_GPA  0x1000000ull
#define FAKE_TEXT_SIZE 0x9000u /* in the file */
#define FAKE_TEXT_MEM  0xa000u
#define FAKE_DATA_GPA  0x1010000ull
#define FAKE_DATA_SIZE 0x40u
#define FAKE_DATA_MEM  0x3000u
#define FAKE_ENTRY     0x1000850u
#define FAKE_STRINGS   "\0first\0second" /* .strtab; the values are 0x1111 and 0x2222 */
#define FAKE_VERSION   "6.1.0-99-fake (someone@somewhere) #1 SMP"

GByteArray *fake_kernel_elf(unsigned flags);
GByteArray *fake_kernel_pack(enum unpack_format format, const GByteArray *bytes);
/* A boot image around `packed` with the size word appended where the format needs one. */
GByteArray *fake_kernel_bzimage(enum unpack_format format, const GByteArray *elf);

#endif
