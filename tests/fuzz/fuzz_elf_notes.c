/* SPDX-License-Identifier: MIT */
/* Xen's ELF notes. First byte: 0 notes aligned to 4, 1 aligned to 8, 2 the old text section. */
#include <glib.h>

#include "boot/image_parts.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct boot_notes notes = {0};
    struct image_span block;
    uint8_t *copy;

    if (size == 0) {
        return 0;
    }
    copy = g_memdup2(data + 1, size - 1); /* of its own, so that running off it is seen */
    block = (struct image_span){copy, size - 1};
    if (data[0] == 2) {
        notes_parse_legacy(&notes, block);
    } else {
        notes_parse(&notes, block, data[0] == 1 ? 8 : 4);
        notes_parse(&notes, block, 4); /* a second block replaces, and leaks nothing */
    }
    g_assert_cmpuint(notes.nr_l1_mfn_valid, <=, BOOT_MAX_L1_MFN_VALID);
    notes_clear(&notes);
    g_free(copy);
    return 0;
}
