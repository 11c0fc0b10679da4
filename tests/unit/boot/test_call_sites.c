/* SPDX-License-Identifier: MIT */
/* Finding the functions by which a kernel makes its hypercalls: as compilers have laid them out. */
#include "boot/call_sites.h"

#include <glib.h>
#include <string.h>

#include "boot/boot_image.h"
#include "fake_kernel.h"

#define ENDBR 0xf3, 0x0f, 0x1e, 0xfa
#define NOPS8 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90

enum { GPA = 0x1000100 };

struct layout {
    const char *name;
    unsigned at, apart; /* the first instruction, from GPA */
    uint8_t code[CALL_SITE_WINDOW];
};

static const struct layout layouts[] = {
    {"Linux 6.1, 64-bit: a thunk returns", 0, 16,
     {0x0f, 0x01, 0xd9, 0xe9, 0x38, 0xe1, 0x3f, 0x00, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0,
      0x0f, 0x01, 0xc1, 0xe9, 0x28, 0xe1, 0x3f, 0x00}},
    {"the same, which returns by itself", 0, 16,
     {0x0f, 0x01, 0xd9, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
      0x0f, 0x01, 0xc1, 0xc3}},
    {"Linux 6.1, 32-bit", 0, 4, {0x0f, 0x01, 0xd9, 0xc3, 0x0f, 0x01, 0xc1, 0xc3}},
    {"Linux 6.12: ENDBR64 and padding for calls", 4, 32,
     {ENDBR, 0x0f, 0x01, 0xd9, 0xe9, 0xd4, 0x51, 0x01, 0x00, 0x0f, 0x1f, 0x40, 0x00, NOPS8, NOPS8,
      ENDBR, 0x0f, 0x01, 0xc1, 0xe9, 0xb4, 0x51, 0x01, 0x00}},
    {"padding, but no ENDBR64", 0, 32,
     {0x0f, 0x01, 0xd9, 0xe9, 0xd4, 0x51, 0x01, 0x00, NOPS8, NOPS8, NOPS8,
      0x0f, 0x01, 0xc1, 0xe9, 0xb4, 0x51, 0x01, 0x00}},
};

/* One change each, and it is none any more: what else has these instructions in it. */
static const struct layout others[] = {
    {"they go to different places", 0, 0,
     {0x0f, 0x01, 0xd9, 0xe9, 0x38, 0xe1, 0x3f, 0x00, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0,
      0x0f, 0x01, 0xc1, 0xe9, 0x38, 0xe1, 0x3f, 0x00}},
    {"twice the same", 0, 0, {0x0f, 0x01, 0xd9, 0xc3, 0x0f, 0x01, 0xd9, 0xc3}},
    {"not where a function begins", 4, 0,
     {NOPS8, 0x0f, 0x01, 0xd9, 0xc3, NOPS8, 0x90, 0x90, 0x90, 0x90, 0x0f, 0x01, 0xc1, 0xc3}},
    {"something else behind it", 0, 0, {0x0f, 0x01, 0xd9, 0x90, 0x0f, 0x01, 0xc1, 0x90}},
    {"24 apart", 0, 0,
     {0x0f, 0x01, 0xd9, 0xc3, 0x90, 0x90, 0x90, 0x90, NOPS8, NOPS8, 0x0f, 0x01, 0xc1, 0xc3}},
    {"ENDBR64 before one only", 4, 0,
     {ENDBR, 0x0f, 0x01, 0xd9, 0xc3, NOPS8, NOPS8, NOPS8, 0x90, 0x90, 0x90, 0x90,
      0x0f, 0x01, 0xc1, 0xc3}},
};

static unsigned found(const struct layout *l, unsigned at)
{
    uint8_t window[CALL_SITE_BEFORE + 2 * CALL_SITE_WINDOW] = {0};

    memcpy(window + CALL_SITE_BEFORE, l->code, sizeof(l->code));
    return call_site_apart(window + at, GPA + at);
}

/* At the one place, whichever of the two comes first. */
static void test_layouts(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(layouts); i++) {
        struct layout turned = layouts[i];

        g_test_message("%s", layouts[i].name);
        for (unsigned at = 0; at < CALL_SITE_WINDOW; at++) {
            g_assert_cmpuint(found(&layouts[i], at), ==, at == layouts[i].at ? layouts[i].apart : 0);
        }
        turned.code[turned.at + 2] ^= 0xc1 ^ 0xd9;
        turned.code[turned.at + turned.apart + 2] ^= 0xc1 ^ 0xd9;
        g_assert_cmpuint(found(&turned, turned.at), ==, turned.apart);
    }
}

static void test_others(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_test_message("%s", others[i].name);
        for (unsigned at = 0; at < CALL_SITE_WINDOW; at++) {
            g_assert_cmpuint(found(&others[i], at), ==, 0);
        }
    }
}

/* A Linux without either way of calling that is known; what is no Linux is not judged. */
static void test_images(void)
{
    GByteArray *elf = fake_kernel_elf(0);
    struct boot_image *img = boot_image_from_memory("vmlinux", elf->data, elf->len, NULL);
    uint8_t *text = (uint8_t *)(uintptr_t)img->segments[0].bytes;
    char *version = img->version;

    g_assert_true(call_sites_unknown(img));
    img->version = NULL;
    g_assert_false(call_sites_unknown(img));
    img->version = version;
    img->notes.present |= 1u << 2; /* it has a hypercall page */
    g_assert_false(call_sites_unknown(img));
    img->notes.present &= ~(1u << 2);
    memcpy(text + 0x8000, layouts[3].code, sizeof(layouts[3].code));
    g_assert_false(call_sites_unknown(img));
    text[0x8000 + 4 + 32 + 2] = 0xd9;
    g_assert_true(call_sites_unknown(img));
    boot_image_free(img);
    g_byte_array_free(elf, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/call-sites/layouts", test_layouts);
    g_test_add_func("/boot/call-sites/others", test_others);
    g_test_add_func("/boot/call-sites/images", test_images);
    return g_test_run();
}
