/* SPDX-License-Identifier: MIT */
/* See fake_modules.h. */
#include "fake_modules.h"

#include <elf.h>
#include <glib/gstdio.h>
#include <string.h>

GByteArray *fake_module(const char *depends, const char *softdep)
{
    static const char names[] = "\0.shstrtab\0.modinfo";
    GByteArray *a = g_byte_array_new();
    GString *info = g_string_new(NULL);
    Elf64_Ehdr eh = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_REL,
        .e_machine = EM_X86_64,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = 3,
        .e_shstrndx = 1,
        .e_shoff = sizeof(eh),
    };
    Elf64_Shdr s[3] = {0};

    g_string_append_len(info, "license=MIT", 12);
    g_string_append_printf(info, "depends=%s", depends != NULL ? depends : "");
    g_string_append_c(info, '\0');
    if (softdep != NULL) {
        g_string_append_printf(info, "softdep=%s", softdep);
        g_string_append_c(info, '\0');
    }
    s[1] = (Elf64_Shdr){.sh_name = 1,
                        .sh_type = SHT_STRTAB,
                        .sh_offset = sizeof(eh) + sizeof(s),
                        .sh_size = sizeof(names)};
    s[2] = (Elf64_Shdr){.sh_name = 11,
                        .sh_type = SHT_PROGBITS,
                        .sh_offset = s[1].sh_offset + sizeof(names),
                        .sh_size = info->len};
    g_byte_array_append(a, (uint8_t *)&eh, sizeof(eh));
    g_byte_array_append(a, (uint8_t *)s, sizeof(s));
    g_byte_array_append(a, (const uint8_t *)names, sizeof(names));
    g_byte_array_append(a, (uint8_t *)info->str, (guint)info->len);
    g_string_free(info, TRUE);
    return a;
}

void fake_file(const char *root, const char *path, GByteArray *contents)
{
    g_autofree char *full = g_build_filename(root, path, NULL);
    g_autofree char *dir = g_path_get_dirname(full);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    g_assert_true(g_file_set_contents(full, (char *)contents->data, contents->len, NULL));
    g_byte_array_free(contents, TRUE);
}

void fake_text(const char *root, const char *path, const char *text)
{
    GByteArray *a = g_byte_array_new();

    g_byte_array_append(a, (const uint8_t *)text, (guint)strlen(text));
    fake_file(root, path, a);
}

void fake_remove(const char *root)
{
    GDir *dir = g_dir_open(root, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *full = g_build_filename(root, name, NULL);

        if (g_file_test(full, G_FILE_TEST_IS_DIR) &&
            !g_file_test(full, G_FILE_TEST_IS_SYMLINK)) {
            fake_remove(full);
        } else {
            g_unlink(full);
        }
    }
    if (dir != NULL) {
        g_dir_close(dir);
    }
    g_rmdir(root);
}

static unsigned long hex8(const char *at)
{
    char digits[9] = {0};

    memcpy(digits, at, 8);
    return strtoul(digits, NULL, 16);
}

char *fake_cpio_list(GBytes *archive)
{
    GString *out = g_string_new(NULL);
    size_t len, at = 0;
    const char *b = g_bytes_get_data(archive, &len);

    while (at < len) {
        unsigned long size, name_len;

        g_assert_cmpuint(len - at, >=, 110);
        g_assert_cmpint(memcmp(b + at, "070701", 6), ==, 0);
        size = hex8(b + at + 54);
        name_len = hex8(b + at + 94);
        g_assert_cmpuint(b[at + 110 + name_len - 1], ==, 0);
        if (strcmp(b + at + 110, "TRAILER!!!") != 0) {
            g_string_append_printf(out, "%s%s", out->len > 0 ? " " : "", b + at + 110);
        }
        at = (at + 110 + name_len + 3) & ~3ul;
        at = (at + size + 3) & ~3ul;
    }
    g_assert_cmpuint(at, ==, len);
    return g_string_free(out, FALSE);
}
