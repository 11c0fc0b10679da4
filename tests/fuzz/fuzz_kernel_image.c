/* SPDX-License-Identifier: MIT */
/*
 * A kernel file of any kind, through every wrapping. Whatever is accepted must describe itself
 * within its own bounds: segments inside the file, text that may be shown on a terminal.
 */
#include <glib.h>

#include "boot/boot_image.h"
#include "fuzz.h"

static void check_text(const char *text)
{
    for (; text != NULL && *text != '\0'; text++) {
        g_assert_true(g_ascii_isprint(*text));
    }
}

static void check(const struct boot_image *img)
{
    g_autofree char *words = boot_image_describe(img);
    g_autofree char *release = boot_image_release(img);

    g_assert_cmpuint(img->nr_segments, >=, 1);
    g_assert_cmpuint(img->nr_segments, <=, BOOT_MAX_SEGMENTS);
    for (unsigned i = 0; i < img->nr_segments; i++) {
        const struct boot_segment *s = &img->segments[i];

        g_assert_cmpuint(s->file_size, <=, s->mem_size);
        g_assert_true(s->bytes >= img->elf && s->bytes + s->file_size <= img->elf + img->elf_len);
        g_assert_cmpuint(s->gpa, <=, UINT64_MAX - s->mem_size);
        g_assert_true(s->gpa >= img->phys_start && s->gpa + s->mem_size <= img->phys_end);
    }
    check_text(img->version);
    check_text(img->notes.guest_os);
    check_text(img->notes.features);
    check_text(words);
    g_assert_true(release == NULL || g_utf8_strchr(release, -1, '/') == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    GError *err = NULL;
    struct boot_image *img = boot_image_from_memory("fuzz", data, size, &err);

    g_assert_true((img == NULL) == (err != NULL));
    if (img != NULL) {
        check(img);
        boot_image_check_pvh(img, NULL);
        boot_image_check_pv(img, NULL);
    }
    g_clear_error(&err);
    boot_image_free(img);
    return 0;
}
