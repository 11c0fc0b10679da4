/* SPDX-License-Identifier: MIT */
/*
 * A kernel's symbols for its own debugger, behind the kernel: what the note BSD_SYMTAB asks for
 * (NetBSD, FreeBSD). What Xen's builder puts there, and so what those kernels look for at the
 * end of their zeroed data, rounded up to a word of the ELF file's class:
 *
 *     4 bytes: how many of the following are used
 *     the ELF header, with nothing but three section headers, which follow 64 bytes after it
 *     section headers: none, symbols (its link is 2), strings; offsets from the ELF header
 *     symbols, strings; each at a word
 *
 * For 32-bit files too, the symbols begin where three 64-bit section headers would end. A kernel
 * that was stripped gets nothing. The file is hostile: sizes are checked against it.
 */
#include <elf.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "boot/image_parts.h"

enum {
    SYMTAB_WORD = 4, /* the size, in front of the ELF header */
    SYMTAB_SECTIONS = 3,
    SYMTAB_HEADERS =
        SYMTAB_WORD + sizeof(Elf64_Ehdr) + SYMTAB_SECTIONS * sizeof(Elf64_Shdr),
};

struct symtab {
    const struct boot_image *img;
    struct elf_header header;
    struct elf_shdr symbols, strings;
};

static bool symtab_section(const struct symtab *t, unsigned i, struct elf_shdr *s)
{
    return elf_shdr_read(t->img->elf, t->img->elf_len, &t->header, i, s);
}

static bool symtab_in_file(const struct symtab *t, const struct elf_shdr *s)
{
    return checked_range(s->offset, s->size, t->img->elf_len);
}

/* The first symbol table and its strings. */
static bool symtab_find(struct symtab *t)
{
    for (unsigned i = 1; i < t->header.shnum; i++) {
        if (!symtab_section(t, i, &t->symbols)) {
            return false;
        }
        if (t->symbols.type == SHT_SYMTAB) {
            return t->symbols.link != SHN_UNDEF && t->symbols.link < t->header.shnum &&
                   symtab_section(t, t->symbols.link, &t->strings) &&
                   t->strings.type == SHT_STRTAB && symtab_in_file(t, &t->symbols) &&
                   symtab_in_file(t, &t->strings);
        }
    }
    return false;
}

/* A 32-bit file's numbers fit where they came from. */
static void symtab_put_section(const struct symtab *t, uint8_t *to, unsigned i,
                               const struct elf_shdr *s)
{
    const Elf64_Shdr wide = {s->name, s->type, s->flags, s->addr, s->offset,
                             s->size, s->link, s->info,  s->align, s->entsize};
    const Elf32_Shdr narrow = {
        s->name, s->type, (Elf32_Word)s->flags, (Elf32_Addr)s->addr, (Elf32_Off)s->offset,
        (Elf32_Word)s->size, s->link, s->info, (Elf32_Word)s->align, (Elf32_Word)s->entsize};

    if (t->header.is64) {
        memcpy(to + i * sizeof(wide), &wide, sizeof(wide));
    } else {
        memcpy(to + i * sizeof(narrow), &narrow, sizeof(narrow));
    }
}

/* The file's header with nothing but the three sections, which are where a 64-bit header ends. */
#define SYMTAB_PUT_HEADER(to, elf, ehdr, shdr)                                                 \
    do {                                                                                       \
        ehdr h;                                                                                \
                                                                                               \
        memcpy(&h, elf, sizeof(h));                                                            \
        h.e_version = EV_CURRENT;                                                              \
        h.e_ehsize = sizeof(h);                                                                \
        h.e_shentsize = sizeof(shdr);                                                          \
        h.e_shoff = sizeof(Elf64_Ehdr);                                                        \
        h.e_shnum = SYMTAB_SECTIONS;                                                           \
        h.e_phoff = 0, h.e_phentsize = 0, h.e_phnum = 0, h.e_shstrndx = 0;                     \
        memcpy(to, &h, sizeof(h));                                                             \
    } while (0)

static void symtab_put_header(const struct symtab *t, uint8_t *to)
{
    if (t->header.is64) {
        SYMTAB_PUT_HEADER(to, t->img->elf, Elf64_Ehdr, Elf64_Shdr);
    } else {
        SYMTAB_PUT_HEADER(to, t->img->elf, Elf32_Ehdr, Elf32_Shdr);
    }
}

/* blob: zeros, large enough. */
static void symtab_fill(struct symtab *t, uint8_t *blob, uint64_t symbols_at,
                        uint64_t strings_at)
{
    const uint32_t used = (uint32_t)(strings_at + t->strings.size - SYMTAB_WORD);
    uint8_t *sections = blob + SYMTAB_WORD + sizeof(Elf64_Ehdr);

    memcpy(blob, &used, sizeof(used));
    memcpy(blob + symbols_at, t->img->elf + t->symbols.offset, t->symbols.size);
    memcpy(blob + strings_at, t->img->elf + t->strings.offset, t->strings.size);
    t->symbols.offset = symbols_at - SYMTAB_WORD;
    t->strings.offset = strings_at - SYMTAB_WORD;
    t->symbols.link = 2;
    symtab_put_header(t, blob + SYMTAB_WORD);
    symtab_put_section(t, sections, 1, &t->symbols);
    symtab_put_section(t, sections, 2, &t->strings);
}

bool symtab_add(struct boot_image *img, GError **err)
{
    struct symtab t = {.img = img};
    const uint64_t word = img->elf_class == 64 ? 8 : 4;
    uint64_t start, symbols_at, strings_at, len, end;

    if (!elf_header_read(img->elf, img->elf_len, &t.header) || !symtab_find(&t)) {
        return true;
    }
    /* None can overflow: both sections lie in the file. */
    symbols_at = (SYMTAB_HEADERS + word - 1) & -word;
    strings_at = (symbols_at + t.symbols.size + word - 1) & -word;
    len = (strings_at + t.strings.size + word - 1) & -word;
    if (len > BOOT_MAX_UNPACKED) {
        return error_set(err, PVEMU_ERROR_LIMIT, "'%s' has more than %u MiB of symbols",
                         img->name, (unsigned)(BOOT_MAX_UNPACKED >> 20));
    }
    if (!checked_add(img->phys_end, word - 1, &start) ||
        !checked_add(start & -word, len, &end)) {
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is damaged: it has no room for its "
                         "symbols", img->name);
    }
    img->symbols = g_try_malloc0(len);
    if (img->symbols == NULL) {
        return error_set(err, PVEMU_ERROR_HOST, "no memory for the symbols of '%s'", img->name);
    }
    symtab_fill(&t, img->symbols, symbols_at, strings_at);
    img->segments[img->nr_segments++] = (struct boot_segment){
        .gpa = start & -word, .bytes = img->symbols, .file_size = len, .mem_size = len,
        .flags = PF_R};
    img->phys_end = end;
    return true;
}
