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

/* Both classes; the numbers of a 32-bit file fit where they came from. */
struct symtab {
    const struct boot_image *img;
    bool is64;
    uint64_t shoff;
    unsigned shnum, shentsize;
    Elf64_Shdr symbols, strings;
};

static void symtab_header(struct symtab *t)
{
    if (t->is64) {
        Elf64_Ehdr h;

        memcpy(&h, t->img->elf, sizeof(h));
        t->shoff = h.e_shoff, t->shnum = h.e_shnum, t->shentsize = h.e_shentsize;
    } else {
        Elf32_Ehdr h;

        memcpy(&h, t->img->elf, sizeof(h));
        t->shoff = h.e_shoff, t->shnum = h.e_shnum, t->shentsize = h.e_shentsize;
    }
}

/* Section header i, if it is in the file. */
static bool symtab_section(const struct symtab *t, unsigned i, Elf64_Shdr *s)
{
    const size_t size = t->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    Elf32_Shdr n;
    uint64_t at;

    if (t->shentsize < size || !checked_add(t->shoff, (uint64_t)i * t->shentsize, &at) ||
        !checked_range(at, size, t->img->elf_len)) {
        return false;
    }
    if (t->is64) {
        memcpy(s, t->img->elf + at, sizeof(*s));
        return true;
    }
    memcpy(&n, t->img->elf + at, sizeof(n));
    *s = (Elf64_Shdr){.sh_name = n.sh_name, .sh_type = n.sh_type, .sh_flags = n.sh_flags,
                      .sh_addr = n.sh_addr, .sh_offset = n.sh_offset, .sh_size = n.sh_size,
                      .sh_link = n.sh_link, .sh_info = n.sh_info,
                      .sh_addralign = n.sh_addralign, .sh_entsize = n.sh_entsize};
    return true;
}

static bool symtab_in_file(const struct symtab *t, const Elf64_Shdr *s)
{
    return checked_range(s->sh_offset, s->sh_size, t->img->elf_len);
}

/* The first symbol table and its strings. */
static bool symtab_find(struct symtab *t)
{
    for (unsigned i = 1; i < t->shnum; i++) {
        if (!symtab_section(t, i, &t->symbols)) {
            return false;
        }
        if (t->symbols.sh_type == SHT_SYMTAB) {
            return t->symbols.sh_link != SHN_UNDEF && t->symbols.sh_link < t->shnum &&
                   symtab_section(t, t->symbols.sh_link, &t->strings) &&
                   t->strings.sh_type == SHT_STRTAB && symtab_in_file(t, &t->symbols) &&
                   symtab_in_file(t, &t->strings);
        }
    }
    return false;
}

static void symtab_put_section(const struct symtab *t, uint8_t *to, unsigned i,
                               const Elf64_Shdr *s)
{
    if (t->is64) {
        memcpy(to + i * sizeof(*s), s, sizeof(*s));
    } else {
        const Elf32_Shdr n = {
            s->sh_name, s->sh_type, (Elf32_Word)s->sh_flags, (Elf32_Addr)s->sh_addr,
            (Elf32_Off)s->sh_offset, (Elf32_Word)s->sh_size, s->sh_link, s->sh_info,
            (Elf32_Word)s->sh_addralign, (Elf32_Word)s->sh_entsize};

        memcpy(to + i * sizeof(n), &n, sizeof(n));
    }
}

static void symtab_put_header(const struct symtab *t, uint8_t *to)
{
    if (t->is64) {
        Elf64_Ehdr h;

        memcpy(&h, t->img->elf, sizeof(h));
        h.e_version = EV_CURRENT;
        h.e_ehsize = sizeof(h), h.e_shentsize = sizeof(Elf64_Shdr);
        h.e_shoff = sizeof(Elf64_Ehdr), h.e_shnum = SYMTAB_SECTIONS;
        h.e_phoff = 0, h.e_phentsize = 0, h.e_phnum = 0, h.e_shstrndx = 0;
        memcpy(to, &h, sizeof(h));
    } else {
        Elf32_Ehdr h;

        memcpy(&h, t->img->elf, sizeof(h));
        h.e_version = EV_CURRENT;
        h.e_ehsize = sizeof(h), h.e_shentsize = sizeof(Elf32_Shdr);
        h.e_shoff = sizeof(Elf64_Ehdr), h.e_shnum = SYMTAB_SECTIONS; /* the larger one's room */
        h.e_phoff = 0, h.e_phentsize = 0, h.e_phnum = 0, h.e_shstrndx = 0;
        memcpy(to, &h, sizeof(h));
    }
}

/* blob: zeros, large enough. */
static void symtab_fill(struct symtab *t, uint8_t *blob, uint64_t symbols_at,
                        uint64_t strings_at)
{
    const uint32_t used = (uint32_t)(strings_at + t->strings.sh_size - SYMTAB_WORD);
    uint8_t *sections = blob + SYMTAB_WORD + sizeof(Elf64_Ehdr);

    memcpy(blob, &used, sizeof(used));
    memcpy(blob + symbols_at, t->img->elf + t->symbols.sh_offset, t->symbols.sh_size);
    memcpy(blob + strings_at, t->img->elf + t->strings.sh_offset, t->strings.sh_size);
    t->symbols.sh_offset = symbols_at - SYMTAB_WORD;
    t->strings.sh_offset = strings_at - SYMTAB_WORD;
    t->symbols.sh_link = 2;
    symtab_put_header(t, blob + SYMTAB_WORD);
    symtab_put_section(t, sections, 1, &t->symbols);
    symtab_put_section(t, sections, 2, &t->strings);
}

bool symtab_add(struct boot_image *img, GError **err)
{
    struct symtab t = {.img = img, .is64 = img->elf_class == 64};
    const uint64_t word = t.is64 ? 8 : 4;
    uint64_t start, symbols_at, strings_at, len, end;

    symtab_header(&t);
    if (!symtab_find(&t)) {
        return true;
    }
    /* None can overflow: both sections lie in the file. */
    symbols_at = (SYMTAB_HEADERS + word - 1) & -word;
    strings_at = (symbols_at + t.symbols.sh_size + word - 1) & -word;
    len = (strings_at + t.strings.sh_size + word - 1) & -word;
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
