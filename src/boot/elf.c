/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels, 64- and 32-bit, little-endian x86. Loadable segments become boot_segments by
 * p_paddr; Xen's notes come from PT_NOTE, else from the sections .note*, else from the section
 * __xen_guest. Symbols are symtab.c's; relocations are not read.
 */
#include <elf.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "boot/image_parts.h"

enum { ELF_MAX_SECTIONS = 4096, ELF_VERSION_MAX = 256 };

struct elf_phdr {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

bool elf_is(const uint8_t *bytes, size_t len)
{
    return len >= EI_NIDENT && memcmp(bytes, ELFMAG, SELFMAG) == 0;
}

bool elf_header_read(const uint8_t *b, size_t len, struct elf_header *h)
{
    if (!elf_is(b, len) || b[EI_DATA] != ELFDATA2LSB) {
        return false;
    }
    h->is64 = b[EI_CLASS] == ELFCLASS64;
    if (len < (h->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)) ||
        (!h->is64 && b[EI_CLASS] != ELFCLASS32)) {
        return false;
    }
    h->type = image_le16(b + 16);
    h->machine = image_le16(b + 18);
    h->entry = h->is64 ? image_le64(b + 24) : image_le32(b + 24);
    h->phoff = h->is64 ? image_le64(b + 32) : image_le32(b + 28);
    h->shoff = h->is64 ? image_le64(b + 40) : image_le32(b + 32);
    b += h->is64 ? 54 : 42;
    h->phentsize = image_le16(b);
    h->phnum = image_le16(b + 2);
    h->shentsize = image_le16(b + 4);
    h->shnum = image_le16(b + 6);
    h->shstrndx = image_le16(b + 8);
    return true;
}

static bool elf_phdr_read(const uint8_t *b, size_t len, const struct elf_header *h, unsigned i,
                          struct elf_phdr *p)
{
    size_t size = h->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    uint64_t at;

    if (h->phentsize < size || !checked_add(h->phoff, (uint64_t)i * h->phentsize, &at) ||
        !checked_range(at, size, len)) {
        return false;
    }
    b += at;
    p->type = image_le32(b);
    if (h->is64) {
        p->flags = image_le32(b + 4);
        p->offset = image_le64(b + 8);
        p->vaddr = image_le64(b + 16);
        p->paddr = image_le64(b + 24);
        p->filesz = image_le64(b + 32);
        p->memsz = image_le64(b + 40);
        p->align = image_le64(b + 48);
    } else {
        p->offset = image_le32(b + 4);
        p->vaddr = image_le32(b + 8);
        p->paddr = image_le32(b + 12);
        p->filesz = image_le32(b + 16);
        p->memsz = image_le32(b + 20);
        p->flags = image_le32(b + 24);
        p->align = image_le32(b + 28);
    }
    return true;
}

bool elf_shdr_read(const uint8_t *b, size_t len, const struct elf_header *h, unsigned i,
                   struct elf_shdr *s)
{
    size_t size = h->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    uint64_t at;

    if (h->shentsize < size || !checked_add(h->shoff, (uint64_t)i * h->shentsize, &at) ||
        !checked_range(at, size, len)) {
        return false;
    }
    b += at;
    s->name = image_le32(b);
    s->type = image_le32(b + 4);
    if (h->is64) {
        s->flags = image_le64(b + 8);
        s->addr = image_le64(b + 16);
        s->offset = image_le64(b + 24);
        s->size = image_le64(b + 32);
        s->link = image_le32(b + 40);
        s->info = image_le32(b + 44);
        s->align = image_le64(b + 48);
        s->entsize = image_le64(b + 56);
    } else {
        s->flags = image_le32(b + 8);
        s->addr = image_le32(b + 12);
        s->offset = image_le32(b + 16);
        s->size = image_le32(b + 20);
        s->link = image_le32(b + 24);
        s->info = image_le32(b + 28);
        s->align = image_le32(b + 32);
        s->entsize = image_le32(b + 36);
    }
    return true;
}

uint64_t elf_load_bytes(const uint8_t *bytes, size_t len)
{
    struct elf_header h;
    uint64_t need;

    if (!elf_header_read(bytes, len, &h)) {
        return UINT64_MAX;
    }
    need = sizeof(Elf64_Ehdr);
    for (unsigned i = 0; i < h.phnum; i++) {
        struct elf_phdr p;
        uint64_t end;

        if (!elf_phdr_read(bytes, len, &h, i, &p) || !checked_add(p.offset, p.filesz, &end)) {
            return UINT64_MAX;
        }
        if (p.type == PT_LOAD || p.type == PT_NOTE) {
            need = MAX(need, end);
        }
        need = MAX(need, h.phoff + (i + 1ull) * h.phentsize);
    }
    return need;
}

void elf_each_section(const struct boot_image *img, elf_section_fn fn, void *opaque)
{
    struct elf_header h;
    struct elf_shdr names, s;

    if (!elf_header_read(img->elf, img->elf_len, &h) || h.shnum > ELF_MAX_SECTIONS ||
        !elf_shdr_read(img->elf, img->elf_len, &h, h.shstrndx, &names) ||
        !checked_range(names.offset, names.size, img->elf_len)) {
        return;
    }
    for (unsigned i = 1; i < h.shnum; i++) {
        g_autofree char *name = NULL;

        if (!elf_shdr_read(img->elf, img->elf_len, &h, i, &s) || s.type == SHT_NOBITS ||
            s.name >= names.size || !checked_range(s.offset, s.size, img->elf_len)) {
            continue;
        }
        name = image_text(img->elf + names.offset + s.name, (size_t)(names.size - s.name), 64);
        fn(opaque, name, s.type, (struct image_span){img->elf + s.offset, (size_t)s.size});
    }
}

static void elf_section_notes(void *opaque, const char *name, uint32_t type,
                              struct image_span contents)
{
    struct boot_image *img = opaque;

    if (type == SHT_NOTE || g_str_has_prefix(name, ".note")) {
        notes_parse(&img->notes, contents, 4);
    }
}

static void elf_section_legacy(void *opaque, const char *name, uint32_t type,
                               struct image_span contents)
{
    struct boot_image *img = opaque;

    if (strcmp(name, "__xen_guest") == 0) {
        notes_parse_legacy(&img->notes, contents);
    }
}

/* Says what an ELF file is that cannot be an x86 kernel. */
static bool elf_check_kind(const struct boot_image *img, const struct elf_header *h,
                           GError **err)
{
    const char *what = NULL;

    if (h->machine != EM_X86_64 && h->machine != EM_386) {
        what = image_machine(h->machine, h->is64);
        if (what == NULL) {
            return error_set(err, PVEMU_ERROR_IMAGE,
                             "'%s' is a kernel for machine type %u; pvemu runs x86 guests",
                             img->name, h->machine);
        }
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is %s kernel; pvemu runs x86 guests",
                         img->name, what);
    }
    if (h->machine == EM_X86_64 && !h->is64) {
        what = "an x32 program";
    } else if (h->type == ET_REL) {
        what = "an object file or a kernel module";
    } else if (h->type == ET_CORE) {
        what = "a core dump";
    } else if (h->type != ET_EXEC && h->type != ET_DYN) {
        what = "an ELF file of an unknown kind";
    }
    if (what != NULL) {
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is not a kernel: it is %s", img->name,
                         what);
    }
    return true;
}

/* A foreign or broken header: big-endian, unknown class, or a file of a few bytes. */
static bool elf_check_ident(const struct boot_image *img, GError **err)
{
    const uint8_t *b = img->elf;
    const char *what;

    if (img->elf_len >= 20 && b[EI_DATA] == ELFDATA2MSB) {
        what = image_machine((unsigned)b[18] << 8 | b[19], b[EI_CLASS] == ELFCLASS64);
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is %s kernel; pvemu runs x86 guests",
                         img->name, what != NULL ? what : "a big-endian");
    }
    return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is an ELF file with a damaged header",
                     img->name);
}

static bool elf_take_load(struct boot_image *img, const struct elf_phdr *p, uint64_t whole,
                          GError **err)
{
    struct boot_segment *seg = &img->segments[img->nr_segments];
    uint64_t end;

    if (p->memsz == 0) {
        return true;
    }
    if (img->nr_segments == BOOT_MAX_SEGMENTS) {
        return error_set(err, PVEMU_ERROR_LIMIT, "'%s' has more than %d segments to load",
                         img->name, BOOT_MAX_SEGMENTS);
    }
    if (p->filesz > p->memsz || !checked_add(p->paddr, p->memsz, &end)) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' is damaged: segment %u has impossible sizes", img->name,
                         img->nr_segments);
    }
    if (!checked_range(p->offset, p->filesz, img->elf_len)) {
        error_set(err, PVEMU_ERROR_IMAGE,
                  "'%s' is cut short: segment %u needs %" G_GUINT64_FORMAT
                  " bytes at %" G_GUINT64_FORMAT ", the file has %" G_GUINT64_FORMAT,
                  img->name, img->nr_segments, p->filesz, p->offset, whole);
        error_hint(err, "copy or download it again");
        return false;
    }
    *seg = (struct boot_segment){.gpa = p->paddr,
                                 .gva = p->vaddr,
                                 .bytes = img->elf + p->offset,
                                 .file_size = p->filesz,
                                 .mem_size = p->memsz,
                                 .flags = p->flags};
    img->phys_start = MIN(img->phys_start, p->paddr);
    img->phys_end = MAX(img->phys_end, end);
    img->nr_segments++;
    return true;
}

static bool elf_take_phdrs(struct boot_image *img, const struct elf_header *h, uint64_t whole,
                           GError **err)
{
    img->nr_segments = 0;
    img->phys_start = UINT64_MAX;
    img->phys_end = 0;
    for (unsigned i = 0; i < h->phnum; i++) {
        struct elf_phdr p;

        if (!elf_phdr_read(img->elf, img->elf_len, h, i, &p)) {
            return error_set(err, PVEMU_ERROR_IMAGE,
                             "'%s' is damaged: program header %u lies outside the file",
                             img->name, i);
        }
        if (p.type == PT_INTERP) {
            return error_set(err, PVEMU_ERROR_IMAGE,
                             "'%s' is not a kernel: it is a program for an operating system",
                             img->name);
        }
        if (p.type == PT_LOAD && !elf_take_load(img, &p, whole, err)) {
            return false;
        }
        if (p.type == PT_NOTE && checked_range(p.offset, p.filesz, img->elf_len)) {
            notes_parse(&img->notes, (struct image_span){img->elf + p.offset, (size_t)p.filesz},
                        p.align == 8 ? 8 : 4);
        }
    }
    if (img->nr_segments == 0) {
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' is an ELF file with nothing to load",
                         img->name);
    }
    return true;
}

/* Its first words. The PVH image has no other sign, not even a note with a name. */
static const char GRUB_MARK[] = "Welcome to GRUB!";

/* Linux's banner in the read-only data: "Linux version 6.1.0 (builder) ...\n". */
static char *elf_find_version(const struct boot_image *img)
{
    static const char mark[] = "Linux version ";
    const size_t mark_len = sizeof(mark) - 1;
    const uint8_t *at = img->elf;
    size_t left = img->elf_len;

    while ((at = memmem(at, left, mark, mark_len)) != NULL) {
        at += mark_len;
        left = img->elf_len - (size_t)(at - img->elf);
        if (left > 0 && g_ascii_isdigit(*at)) {
            const uint8_t *end = memchr(at, '\n', MIN(left, ELF_VERSION_MAX));

            return image_text(at, end != NULL ? (size_t)(end - at) : left, ELF_VERSION_MAX);
        }
    }
    return NULL;
}

bool elf_describe(struct boot_image *img, uint64_t whole, GError **err)
{
    struct elf_header h = {0};

    notes_clear(&img->notes);
    g_clear_pointer(&img->symbols, g_free);
    if (!elf_header_read(img->elf, img->elf_len, &h)) {
        return elf_check_ident(img, err);
    }
    img->elf_class = h.is64 ? 64 : 32;
    img->elf_entry = h.entry;
    if (!elf_check_kind(img, &h, err) || !elf_take_phdrs(img, &h, whole, err)) {
        return false;
    }
    if (img->notes.present == 0) {
        elf_each_section(img, elf_section_notes, img);
    }
    if (img->notes.present == 0) {
        elf_each_section(img, elf_section_legacy, img);
    }
    if (img->version == NULL) {
        img->version = elf_find_version(img);
    }
    if (img->version == NULL && memmem(img->elf, img->elf_len, GRUB_MARK, strlen(GRUB_MARK))) {
        img->boot_loader = "GRUB";
    }
    return !img->notes.bsd_symtab || symtab_add(img, err);
}
