/* SPDX-License-Identifier: MIT */
/*
 * Xen's ELF notes: what a kernel says about how it wants to be loaded and entered. Numbers and
 * meanings are those of xen/elfnote.h; the older form is the text section __xen_guest with
 * KEY=VALUE pairs. A note that is malformed is ignored, as Xen does.
 */
#include "boot/image_parts.h"

#include <string.h>
#include <xen/elfnote.h>
#include <xen/features.h>

enum { NOTE_TEXT_MAX = 1024 };

static const struct {
    const char *name;
    unsigned bit;
} FEATURES[] = {
    {"writable_page_tables", XENFEAT_writable_page_tables},
    {"writable_descriptor_tables", XENFEAT_writable_descriptor_tables},
    {"auto_translated_physmap", XENFEAT_auto_translated_physmap},
    {"supervisor_mode_kernel", XENFEAT_supervisor_mode_kernel},
    {"pae_pgdir_above_4gb", XENFEAT_pae_pgdir_above_4gb},
    {"dom0", XENFEAT_dom0},
};

const char *notes_feature_name(unsigned bit)
{
    for (size_t i = 0; i < G_N_ELEMENTS(FEATURES); i++) {
        if (FEATURES[i].bit == bit) {
            return FEATURES[i].name;
        }
    }
    return "?";
}

char *image_text(const uint8_t *bytes, size_t len, size_t max)
{
    const uint8_t *end = memchr(bytes, 0, MIN(len, max));
    size_t n = end != NULL ? (size_t)(end - bytes) : MIN(len, max);
    char *text = g_malloc(n + 1);

    for (size_t i = 0; i < n; i++) {
        text[i] = (char)(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '?');
    }
    text[n] = '\0';
    return text;
}

static void notes_features(struct boot_notes *notes, const char *text)
{
    g_auto(GStrv) words = g_strsplit_set(text, "|, ", 64);

    for (char **word = words; *word != NULL; word++) {
        bool required = (*word)[0] == '!';
        const char *name = *word + (required ? 1 : 0);
        bool known = *name == '\0';

        for (size_t i = 0; i < G_N_ELEMENTS(FEATURES); i++) {
            if (strcmp(name, FEATURES[i].name) == 0) {
                notes->features_supported |= 1u << FEATURES[i].bit;
                notes->features_required |= required ? 1u << FEATURES[i].bit : 0;
                known = true;
            }
        }
        if (!known && required && notes->unknown_required == NULL) {
            notes->unknown_required = g_strdup(name);
        }
    }
}

static uint64_t notes_number(struct image_span d)
{
    return d.len >= 8 ? image_le64(d.bytes) : d.len >= 4 ? image_le32(d.bytes) : 0;
}

static void notes_string(char **slot, struct image_span d)
{
    g_free(*slot);
    *slot = image_text(d.bytes, d.len, NOTE_TEXT_MAX);
}

static bool notes_yes(struct image_span d)
{
    return d.len >= 3 && memcmp(d.bytes, "yes", 3) == 0;
}

static void notes_l1_mfn_valid(struct boot_notes *notes, struct image_span d)
{
    notes->nr_l1_mfn_valid = 0;
    for (size_t at = 0; d.len - at >= 16 && notes->nr_l1_mfn_valid < BOOT_MAX_L1_MFN_VALID;
         at += 16) {
        notes->l1_mfn_valid[notes->nr_l1_mfn_valid].mask = image_le64(d.bytes + at);
        notes->l1_mfn_valid[notes->nr_l1_mfn_valid].value = image_le64(d.bytes + at + 8);
        notes->nr_l1_mfn_valid++;
    }
}

static void notes_take_string(struct boot_notes *notes, uint32_t type, struct image_span d)
{
    switch (type) {
    case XEN_ELFNOTE_XEN_VERSION:
        notes_string(&notes->xen_version, d);
        break;
    case XEN_ELFNOTE_GUEST_OS:
        notes_string(&notes->guest_os, d);
        break;
    case XEN_ELFNOTE_GUEST_VERSION:
        notes_string(&notes->guest_version, d);
        break;
    case XEN_ELFNOTE_LOADER:
        notes_string(&notes->loader, d);
        break;
    case XEN_ELFNOTE_PAE_MODE:
        notes_string(&notes->pae_mode, d);
        break;
    case XEN_ELFNOTE_FEATURES:
        notes_string(&notes->features, d);
        notes_features(notes, notes->features);
        break;
    case XEN_ELFNOTE_BSD_SYMTAB:
        notes->bsd_symtab = notes_yes(d);
        break;
    default:
        break;
    }
}

/* Returns false when the note's contents are too short to mean anything. */
static bool notes_take_number(struct boot_notes *notes, uint32_t type, struct image_span d)
{
    uint64_t value = notes_number(d);

    switch (type) {
    case XEN_ELFNOTE_ENTRY:
        notes->entry = value;
        break;
    case XEN_ELFNOTE_HYPERCALL_PAGE:
        notes->hypercall_page = value;
        break;
    case XEN_ELFNOTE_VIRT_BASE:
        notes->virt_base = value;
        break;
    case XEN_ELFNOTE_PADDR_OFFSET:
        notes->paddr_offset = value;
        break;
    case XEN_ELFNOTE_HV_START_LOW:
        notes->hv_start_low = value;
        break;
    case XEN_ELFNOTE_L1_MFN_VALID:
        notes_l1_mfn_valid(notes, d);
        return d.len >= 16;
    case XEN_ELFNOTE_SUSPEND_CANCEL:
        notes->suspend_cancel = value != 0;
        break;
    case XEN_ELFNOTE_INIT_P2M:
        notes->init_p2m = value;
        break;
    case XEN_ELFNOTE_MOD_START_PFN:
        notes->mod_start_pfn = value != 0;
        break;
    case XEN_ELFNOTE_SUPPORTED_FEATURES:
        notes->features_supported |= (uint32_t)value;
        break;
    case XEN_ELFNOTE_PHYS32_ENTRY:
        notes->phys32_entry = (uint32_t)value;
        return d.len >= 4 && value <= UINT32_MAX;
    case 19: /* PHYS32_RELOC: newer than the headers of Xen 4.17 */
        if (d.len >= 12) {
            notes->reloc_align = image_le32(d.bytes);
            notes->reloc_min = image_le32(d.bytes + 4);
            notes->reloc_max = image_le32(d.bytes + 8);
        }
        return true;
    default:
        return true;
    }
    return d.len >= 4;
}

static bool notes_is_string(uint32_t type)
{
    return (type >= XEN_ELFNOTE_XEN_VERSION && type <= XEN_ELFNOTE_BSD_SYMTAB) ||
           type == XEN_ELFNOTE_INFO;
}

void notes_parse(struct boot_notes *notes, struct image_span block, unsigned align)
{
    size_t at = 0;

    while (block.len - at >= 12) {
        uint32_t name_len = image_le32(block.bytes + at);
        uint32_t desc_len = image_le32(block.bytes + at + 4);
        uint32_t type = image_le32(block.bytes + at + 8);
        uint64_t desc_at = at + 12 + (((uint64_t)name_len + 3) & ~3ull);
        uint64_t next;
        struct image_span desc;

        desc_at = (desc_at + align - 1) & ~((uint64_t)align - 1);
        next = (desc_at + desc_len + align - 1) & ~((uint64_t)align - 1);
        if (desc_at > block.len || desc_len > block.len - desc_at) {
            return;
        }
        desc = (struct image_span){block.bytes + desc_at, desc_len};
        if (name_len == 4 && memcmp(block.bytes + at + 12, "Xen", 4) == 0 &&
            type < BOOT_NOTES) {
            bool good = true;

            if (notes_is_string(type)) {
                notes_take_string(notes, type, desc);
            } else {
                good = notes_take_number(notes, type, desc);
            }
            notes->present |= good ? 1u << type : 0;
        }
        if (next >= block.len) {
            return;
        }
        at = (size_t)next;
    }
}

/* One KEY=VALUE of a __xen_guest section. */
static void notes_legacy_pair(struct boot_notes *notes, const char *key, const char *value)
{
    static const struct {
        const char *key;
        uint32_t type;
        bool number;
    } keys[] = {
        {"LOADER", XEN_ELFNOTE_LOADER, false},
        {"GUEST_OS", XEN_ELFNOTE_GUEST_OS, false},
        {"GUEST_VER", XEN_ELFNOTE_GUEST_VERSION, false},
        {"XEN_VER", XEN_ELFNOTE_XEN_VERSION, false},
        {"PAE", XEN_ELFNOTE_PAE_MODE, false},
        {"BSD_SYMTAB", XEN_ELFNOTE_BSD_SYMTAB, false},
        {"FEATURES", XEN_ELFNOTE_FEATURES, false},
        {"VIRT_BASE", XEN_ELFNOTE_VIRT_BASE, true},
        {"VIRT_ENTRY", XEN_ELFNOTE_ENTRY, true},
        {"ELF_PADDR_OFFSET", XEN_ELFNOTE_PADDR_OFFSET, true},
        {"HYPERCALL_PAGE", XEN_ELFNOTE_HYPERCALL_PAGE, true},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        struct image_span text = {(const uint8_t *)value, strlen(value)};

        if (strcmp(key, keys[i].key) != 0) {
            continue;
        }
        if (keys[i].number) {
            uint64_t number = GUINT64_TO_LE(g_ascii_strtoull(value, NULL, 0));
            struct image_span raw = {(const uint8_t *)&number, sizeof(number)};

            notes_take_number(notes, keys[i].type, raw);
        } else {
            notes_take_string(notes, keys[i].type, text);
        }
        notes->present |= 1u << keys[i].type;
        return;
    }
}

void notes_parse_legacy(struct boot_notes *notes, struct image_span text)
{
    g_autofree char *copy = image_text(text.bytes, text.len, NOTE_TEXT_MAX);
    g_auto(GStrv) pairs = g_strsplit(copy, ",", 64);

    notes->legacy = true;
    for (char **pair = pairs; *pair != NULL; pair++) {
        char *equals = strchr(*pair, '=');

        if (equals != NULL) {
            *equals = '\0';
            notes_legacy_pair(notes, *pair, equals + 1);
        }
    }
    /* Here the page is a frame number, and p_paddr counts from VIRT_BASE unless said otherwise.
     */
    if ((notes->present & 1u << XEN_ELFNOTE_HYPERCALL_PAGE) != 0) {
        notes->hypercall_page = notes->virt_base + (notes->hypercall_page << 12);
    }
    if ((notes->present & 1u << XEN_ELFNOTE_PADDR_OFFSET) == 0) {
        notes->paddr_offset = notes->virt_base;
    }
}

void notes_clear(struct boot_notes *notes)
{
    g_free(notes->xen_version);
    g_free(notes->guest_os);
    g_free(notes->guest_version);
    g_free(notes->loader);
    g_free(notes->pae_mode);
    g_free(notes->features);
    g_free(notes->unknown_required);
    memset(notes, 0, sizeof(*notes));
}
