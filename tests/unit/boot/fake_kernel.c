/* SPDX-License-Identifier: MIT */
/* Builds the fake kernels byte by byte; the packers are the libraries' own encoders. */
#include "fake_kernel.h"

#include <bzlib.h>
#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <xen/elfnote.h>
#include <zlib.h>
#include <zstd.h>

enum { TEXT_AT = 0x1000, DATA_AT = TEXT_AT + FAKE_TEXT_SIZE, NOTES_AT = 0x400 };

static void put(GByteArray *a, const void *bytes, size_t len)
{
    g_byte_array_append(a, bytes, (guint)len);
}

static void pad_to(GByteArray *a, size_t len)
{
    static const uint8_t zeros[4096];

    while (a->len < len) {
        put(a, zeros, MIN(len - a->len, sizeof(zeros)));
    }
}

static void note(GByteArray *a, uint32_t type, const void *desc, uint32_t len)
{
    uint32_t head[3] = {4, len, type};

    put(a, head, sizeof(head));
    put(a, "Xen", 4);
    put(a, desc, len);
    pad_to(a, (a->len + 3) & ~3u);
}

static void note_number(GByteArray *a, uint32_t type, uint64_t value)
{
    note(a, type, &value, 8);
}

static void note_text(GByteArray *a, uint32_t type, const char *text)
{
    note(a, type, text, (uint32_t)strlen(text) + 1);
}

static GByteArray *fake_notes(unsigned flags)
{
    GByteArray *a = g_byte_array_new();
    uint64_t l1[2] = {1, 1};

    note_number(a, XEN_ELFNOTE_ENTRY, 0xffffffff81001000);
    note_number(a, XEN_ELFNOTE_VIRT_BASE, 0xffffffff80000000);
    note_number(a, XEN_ELFNOTE_PADDR_OFFSET, 0);
    note_text(a, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    note_text(a, XEN_ELFNOTE_GUEST_OS, "linux");
    note_text(a, XEN_ELFNOTE_GUEST_VERSION, "2.6");
    note_text(a, XEN_ELFNOTE_LOADER, "generic");
    note_text(a, XEN_ELFNOTE_PAE_MODE, "yes");
    note_text(a, XEN_ELFNOTE_FEATURES,
              (flags & FAKE_UNKNOWN_FEATURE) != 0
                  ? "!time_travel"
                  : "!writable_page_tables|pae_pgdir_above_4gb");
    if ((flags & FAKE_SYMBOLS) != 0) {
        note_text(a, XEN_ELFNOTE_BSD_SYMTAB, "yes");
    }
    note(a, XEN_ELFNOTE_L1_MFN_VALID, l1, sizeof(l1));
    note_number(a, XEN_ELFNOTE_SUSPEND_CANCEL, 1);
    note_number(a, XEN_ELFNOTE_INIT_P2M, 0x8000000000);
    note_number(a, XEN_ELFNOTE_MOD_START_PFN, 1);
    note_number(a, XEN_ELFNOTE_SUPPORTED_FEATURES, 0x8801);
    if ((flags & FAKE_NO_PVH) == 0) {
        note_number(a, XEN_ELFNOTE_PHYS32_ENTRY,
                    (flags & FAKE_ENTRY_OUTSIDE) != 0 ? 0x5000000 : FAKE_ENTRY);
    }
    return a;
}

static void fake_sections(GByteArray *a)
{
    static const char guest[] = "GUEST_OS=netbsd,XEN_VER=xen-3.0,LOADER=generic,"
                                "VIRT_BASE=0xc0000000,HYPERCALL_PAGE=0x2,BSD_SYMTAB=yes";
    static const char names[] = "\0.shstrtab\0__xen_guest";
    Elf64_Shdr s[3] = {0};
    Elf64_Ehdr *eh;
    uint64_t shoff;

    s[1] = (Elf64_Shdr){
        .sh_name = 1, .sh_type = SHT_STRTAB, .sh_offset = a->len, .sh_size = sizeof(names)};
    put(a, names, sizeof(names));
    s[2] = (Elf64_Shdr){
        .sh_name = 11, .sh_type = SHT_PROGBITS, .sh_offset = a->len, .sh_size = sizeof(guest)};
    put(a, guest, sizeof(guest));
    shoff = a->len;
    put(a, s, sizeof(s));
    eh = (Elf64_Ehdr *)(void *)a->data;
    eh->e_shoff = shoff;
    eh->e_shnum = 3;
    eh->e_shstrndx = 1;
}

static void fake_symbols(GByteArray *a)
{
    static const char strings[] = FAKE_STRINGS;
    const Elf64_Sym symbols[3] = {{0}, {.st_name = 1, .st_value = 0x1111},
                                  {.st_name = 7, .st_value = 0x2222}};
    Elf64_Shdr s[4] = {0};
    Elf64_Ehdr *eh;
    uint64_t shoff;

    s[1] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = a->len, .sh_size = sizeof(strings)};
    put(a, strings, sizeof(strings));
    s[3] = (Elf64_Shdr){.sh_type = SHT_SYMTAB, .sh_offset = a->len, .sh_size = sizeof(symbols),
                        .sh_link = 1, .sh_entsize = sizeof(symbols[0])};
    put(a, symbols, sizeof(symbols));
    shoff = a->len;
    put(a, s, sizeof(s));
    eh = (Elf64_Ehdr *)(void *)a->data;
    eh->e_shoff = shoff;
    eh->e_shnum = 4;
    eh->e_shstrndx = 1;
}

GByteArray *fake_kernel_elf(unsigned flags)
{
    static const char banner[] = "Linux version " FAKE_VERSION "\n";
    bool with_notes = (flags & (FAKE_NO_NOTES | FAKE_LEGACY)) == 0;
    GByteArray *a = g_byte_array_new();
    GByteArray *notes = fake_notes(flags);
    Elf64_Ehdr eh = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = 1,
        .e_entry = FAKE_TEXT_GPA,
        .e_phoff = sizeof(eh),
        .e_ehsize = sizeof(eh),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = with_notes ? 3 : 2,
        .e_shentsize = sizeof(Elf64_Shdr),
    };
    Elf64_Phdr ph[3] = {
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_X,
         .p_offset = TEXT_AT,
         .p_vaddr = 0xffffffff81000000,
         .p_paddr = FAKE_TEXT_GPA,
         .p_filesz = FAKE_TEXT_SIZE,
         .p_memsz = FAKE_TEXT_MEM},
        /* like Linux's per-CPU segment: virtual address 0 */
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_W,
         .p_offset = DATA_AT,
         .p_vaddr = 0,
         .p_paddr = FAKE_DATA_GPA,
         .p_filesz = FAKE_DATA_SIZE,
         .p_memsz = FAKE_DATA_MEM},
        {.p_type = PT_NOTE, .p_offset = NOTES_AT, .p_filesz = notes->len, .p_align = 4},
    };

    put(a, &eh, sizeof(eh));
    put(a, ph, sizeof(ph));
    pad_to(a, NOTES_AT);
    put(a, notes->data, notes->len);
    pad_to(a, TEXT_AT);
    for (uint32_t i = 0; i < FAKE_TEXT_SIZE / 8;
         i++) { /* call instructions: the BCJ filter acts */
        uint8_t code[8] = {0xe8, (uint8_t)i, (uint8_t)(i >> 8), 0, 0, 0x90, 0x90, 0xc3};

        put(a, code, sizeof(code));
    }
    memcpy(a->data + TEXT_AT + 0x4000, banner, sizeof(banner));
    for (uint32_t i = 0; i < FAKE_DATA_SIZE; i++) {
        uint8_t b = (uint8_t)(0x40 + i);

        put(a, &b, 1);
    }
    if ((flags & FAKE_LEGACY) != 0) {
        fake_sections(a);
    }
    if ((flags & FAKE_SYMBOLS) != 0) {
        fake_symbols(a);
    }
    g_byte_array_free(notes, TRUE);
    return a;
}

static size_t pack_gzip(const GByteArray *in, uint8_t *out, size_t cap)
{
    z_stream z = {0};
    size_t len;

    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), ==, Z_OK);
    z.next_in = in->data;
    z.avail_in = in->len;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    len = z.total_out;
    deflateEnd(&z);
    return len;
}

static size_t pack_lzma(const GByteArray *in, uint8_t *out, size_t cap, bool alone)
{
    lzma_options_lzma options;
    lzma_filter filters[3] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    lzma_stream z = LZMA_STREAM_INIT;

    lzma_lzma_preset(&options, 6);
    g_assert_cmpint(alone ? lzma_alone_encoder(&z, &options)
                          : lzma_stream_encoder(&z, filters, LZMA_CHECK_CRC32),
                    ==, LZMA_OK);
    z.next_in = in->data;
    z.avail_in = in->len;
    z.next_out = out;
    z.avail_out = cap;
    g_assert_cmpint(lzma_code(&z, LZMA_FINISH), ==, LZMA_STREAM_END);
    cap = z.total_out;
    lzma_end(&z);
    return cap;
}

/* Linux's legacy frame, in two blocks to exercise the walk. */
static size_t pack_lz4(const GByteArray *in, uint8_t *out, size_t cap)
{
    uint32_t half = in->len / 2;
    size_t at = 4;

    memcpy(out, "\x02\x21\x4c\x18", 4);
    for (unsigned i = 0; i < 2; i++) {
        int len = (int)(i == 0 ? half : in->len - half);
        int got = LZ4_compress_default((const char *)in->data + i * half, (char *)out + at + 4,
                                       len, (int)(cap - at - 4));

        g_assert_cmpint(got, >, 0);
        memcpy(out + at, &got, 4);
        at += 4 + (size_t)got;
    }
    return at;
}

GByteArray *fake_kernel_pack(enum unpack_format format, const GByteArray *in)
{
    GByteArray *a = g_byte_array_new();
    size_t cap = in->len * 2 + 4096, len = 0;
    unsigned bz_len = (unsigned)cap;

    g_byte_array_set_size(a, (guint)cap);
    switch (format) {
    case UNPACK_GZIP:
        len = pack_gzip(in, a->data, cap);
        break;
    case UNPACK_BZIP2:
        g_assert_cmpint(BZ2_bzBuffToBuffCompress((char *)a->data, &bz_len, (char *)in->data,
                                                 in->len, 9, 0, 0),
                        ==, BZ_OK);
        len = bz_len;
        break;
    case UNPACK_LZMA:
    case UNPACK_XZ:
        len = pack_lzma(in, a->data, cap, format == UNPACK_LZMA);
        break;
    case UNPACK_LZ4:
        len = pack_lz4(in, a->data, cap);
        break;
    case UNPACK_ZSTD:
        len = ZSTD_compress(a->data, cap, in->data, in->len, 3);
        g_assert_false(ZSTD_isError(len));
        break;
    case UNPACK_NONE:
        memcpy(a->data, in->data, in->len);
        len = in->len;
        break;
    case UNPACK_LZO: /* a header only: there is no encoder in this build */
        memcpy(a->data, "\x89LZO\0\r\n\x1a\n", 9);
        memset(a->data + 9, 0, 64);
        len = 73;
        break;
    }
    g_byte_array_set_size(a, (guint)len);
    return a;
}

GByteArray *fake_kernel_bzimage(enum unpack_format format, const GByteArray *elf)
{
    GByteArray *a = g_byte_array_new();
    GByteArray *packed = fake_kernel_pack(format, elf);
    uint32_t size = elf->len, payload_at = 0x300, length;
    uint16_t version_at = 0x300;

    if (format != UNPACK_GZIP && format != UNPACK_NONE) {
        put(packed, &size, 4);
    }
    length = packed->len;
    pad_to(a, 2 * 512);
    a->data[0x1f1] = 1; /* one setup sector after the boot sector */
    memcpy(a->data + 0x1fe, "\x55\xaa", 2);
    memcpy(a->data + 0x202, "HdrS", 4);
    memcpy(a->data + 0x206, "\x0f\x02", 2);
    version_at -= 0x200;
    memcpy(a->data + 0x20e, &version_at, 2);
    memcpy(a->data + 0x248, &payload_at, 4);
    memcpy(a->data + 0x24c, &length, 4);
    memcpy(a->data + 0x300, FAKE_VERSION, sizeof(FAKE_VERSION));
    pad_to(a, 2 * 512 + payload_at);
    put(a, packed->data, packed->len);
    pad_to(a, a->len + 64); /* the real one goes on after the payload */
    g_byte_array_free(packed, TRUE);
    return a;
}
