/* SPDX-License-Identifier: MIT */
/* What the files of the image reader share. Not for other rooms. */
#ifndef PVEMU_BOOT_IMAGE_PARTS_H
#define PVEMU_BOOT_IMAGE_PARTS_H

#include "boot/boot_image.h"

/* Bytes inside a file, for readers that must not run off its end. */
struct image_span {
    const uint8_t *bytes;
    size_t len;
};

static inline uint16_t image_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t image_le32(const uint8_t *p)
{
    return (uint32_t)image_le16(p) | (uint32_t)image_le16(p + 2) << 16;
}

static inline uint64_t image_le64(const uint8_t *p)
{
    return (uint64_t)image_le32(p) | (uint64_t)image_le32(p + 4) << 32;
}

/* A copy of at most `max` bytes up to the first NUL, with everything but printable ASCII
 * replaced by '?' (it is shown on terminals). The caller frees. */
char *image_text(const uint8_t *bytes, size_t len, size_t max);

/* bzimage.c: whether it is a Linux x86 boot image. */
bool bzimage_is(const uint8_t *file, size_t len);
/* Finds the payload and the version string (in img->version). */
bool bzimage_payload(struct boot_image *img, const uint8_t *file, size_t len,
                     struct image_span *payload, GError **err);

/* elf.c. The header fields used, and a section header, of either class. */
struct elf_header {
    bool is64;
    unsigned type, machine;
    uint64_t entry, phoff, shoff;
    unsigned phnum, phentsize, shnum, shentsize, shstrndx;
};
struct elf_shdr {
    uint32_t name, type, link, info;
    uint64_t flags, addr, offset, size, align, entsize;
};
/* false: they are not in these bytes. */
bool elf_header_read(const uint8_t *b, size_t len, struct elf_header *h);
bool elf_shdr_read(const uint8_t *b, size_t len, const struct elf_header *h, unsigned i,
                   struct elf_shdr *s);
bool elf_is(const uint8_t *bytes, size_t len);
/* How many bytes of the file are needed for loading (segments, notes and program headers), or
 * UINT64_MAX when that cannot be told from the first `len` bytes. */
uint64_t elf_load_bytes(const uint8_t *bytes, size_t len);
/* Describes img->elf in *img. `whole` is the size of the whole file. */
bool elf_describe(struct boot_image *img, uint64_t whole, GError **err);
/* Calls fn for every section whose contents are in the file. */
typedef void (*elf_section_fn)(void *opaque, const char *name, uint32_t type,
                               struct image_span contents);
void elf_each_section(const struct boot_image *img, elf_section_fn fn, void *opaque);

/* symtab.c: appends the kernel's symbols as a segment, for a kernel whose notes ask for it. */
bool symtab_add(struct boot_image *img, GError **err);

/* image_check.c: fills in has_pv and has_pvh by the notes. */
void boot_image_judge(struct boot_image *img);

/* notes.c: parses one block of ELF notes, or the text of a __xen_guest section. */
void notes_parse(struct boot_notes *notes, struct image_span block, unsigned align);
void notes_parse_legacy(struct boot_notes *notes, struct image_span text);
void notes_clear(struct boot_notes *notes);
/* The name of a XENFEAT_* that a kernel can require. */
const char *notes_feature_name(unsigned bit);

/* image_guess.c: words for what a file that is no kernel looks like ("a qcow2 disk image"), and
 * a hint or NULL. */
const char *image_guess(const uint8_t *bytes, size_t len, const char **hint);
/* Words for another architecture's ELF machine number ("a 64-bit ARM"), NULL for x86 or
 * unknown. */
const char *image_machine(unsigned machine, bool is64);

#endif
