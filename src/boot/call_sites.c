/* SPDX-License-Identifier: MIT */
#include "boot/call_sites.h"

#include <string.h>
#include <xen/elfnote.h>

#include "boot/boot_image.h"

enum { SITE_VMCALL = 0xc1, SITE_VMMCALL = 0xd9, SITE_STEP = 4, SITE_ALIGN = 16 };
enum { JMP_REL32 = 0xe9, JMP_REL8 = 0xeb, RET = 0xc3, INT3 = 0xcc };

static bool site_is(const uint8_t *at, uint8_t last)
{
    return at[0] == 0x0f && at[1] == 0x01 && at[2] == last &&
           (at[3] == JMP_REL32 || at[3] == JMP_REL8 || at[3] == RET || at[3] == INT3);
}

/* Both return, or go where the other one goes. */
static bool site_ends_alike(const uint8_t *a, const uint8_t *b, unsigned apart)
{
    int32_t to_a, to_b;

    if (a[3] != b[3]) {
        return false;
    }
    if (a[3] == JMP_REL8) {
        return (int8_t)a[4] == (int8_t)b[4] + (int)apart;
    }
    if (a[3] == JMP_REL32) {
        memcpy(&to_a, a + 4, sizeof(to_a));
        memcpy(&to_b, b + 4, sizeof(to_b));
        return (int64_t)to_a == (int64_t)to_b + (int64_t)apart;
    }
    return true;
}

/* Do functions that are `align` apart, or a multiple of it, begin there? With indirect branch
 * tracking they begin with ENDBR64. */
static bool site_begins(const uint8_t *at, uint64_t gpa, unsigned align)
{
    static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};

    return gpa % align == 0 ||
           ((gpa - sizeof(endbr)) % align == 0 && memcmp(at - sizeof(endbr), endbr, sizeof(endbr)) == 0);
}

unsigned call_site_apart(const uint8_t *window, uint64_t gpa)
{
    /* 32-bit; 64-bit; with CONFIG_CALL_PADDING (6.2), which depends on what else is configured */
    static const unsigned apart[] = {4, 16, 32, 48, 64};
    const uint8_t *at = window + CALL_SITE_BEFORE;
    const bool first = site_is(at, SITE_VMMCALL);

    G_STATIC_ASSERT(CALL_SITE_APART == 64);
    if (!first && !site_is(at, SITE_VMCALL)) {
        return 0;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(apart); i++) {
        const unsigned align = MIN(apart[i], SITE_ALIGN);
        const uint8_t *next = at + apart[i];

        if (site_is(next, first ? SITE_VMCALL : SITE_VMMCALL) &&
            site_ends_alike(at, next, apart[i]) && site_begins(at, gpa, align) &&
            site_begins(next, gpa + apart[i], align)) {
            return apart[i];
        }
    }
    return 0;
}

static bool sites_in(const struct boot_segment *s)
{
    const uint8_t *bytes = s->bytes;
    uint64_t first = -s->gpa & (SITE_STEP - 1);

    if (first < CALL_SITE_BEFORE) {
        first += SITE_STEP;
    }
    for (uint64_t at = first; at + CALL_SITE_WINDOW <= s->file_size; at += SITE_STEP) {
        if (bytes[at] == 0x0f && bytes[at + 1] == 0x01 &&
            call_site_apart(bytes + at - CALL_SITE_BEFORE, s->gpa + at) != 0) {
            return true;
        }
    }
    return false;
}

bool call_sites_unknown(const struct boot_image *img)
{
    if (img->version == NULL || (img->notes.present >> XEN_ELFNOTE_HYPERCALL_PAGE & 1) != 0) {
        return false;
    }
    for (unsigned i = 0; i < img->nr_segments; i++) {
        if (sites_in(&img->segments[i])) {
            return false;
        }
    }
    return true;
}
