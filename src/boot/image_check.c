/* SPDX-License-Identifier: MIT */
/*
 * How a kernel can be entered, by its Xen notes (xen/elfnote.h, xen/features.h), and exact words
 * for what is missing where it cannot. Nothing is loaded here.
 */
#include <string.h>
#include <xen/elfnote.h>
#include <xen/features.h>

#include "base/error.h"
#include "boot/boot_image.h"
#include "boot/image_parts.h"

#define FEATURE(name) (1u << XENFEAT_##name)

/* What a required feature may be. Writes to page tables of a PV guest are emulated, and a 64-bit
 * base pointer reaches everywhere; the other names are things that PV is not. A PVH guest has
 * the processor's own modes, tables and physical addresses. */
static const uint32_t PV_FEATURES =
    FEATURE(writable_page_tables) | FEATURE(pae_pgdir_above_4gb);
static const uint32_t PVH_FEATURES =
    FEATURE(writable_page_tables) | FEATURE(writable_descriptor_tables) |
    FEATURE(auto_translated_physmap) | FEATURE(supervisor_mode_kernel) |
    FEATURE(pae_pgdir_above_4gb);

static bool check_has(const struct boot_image *img, unsigned note)
{
    return (img->notes.present >> note & 1) != 0;
}

/* A note that must say something, and does not: words, or NULL. `key` is its name in the older
 * section. */
static char *check_text(const struct boot_image *img, const char *note, const char *key,
                        const char *value, const char *want)
{
    const char *where = img->notes.legacy ? "__xen_guest entry" : "ELF note";
    const char *name = img->notes.legacy ? key : note;

    if (value == NULL) {
        return g_strdup_printf("no %s %s, which should say \"%s\"", where, name, want);
    }
    if (!g_str_has_prefix(value, want)) {
        return g_strdup_printf("%s %s says \"%s\", not \"%s\"", where, name, value, want);
    }
    return NULL;
}

/* Why it is no PV kernel: a phrase the caller frees; NULL: it is one. */
static char *check_pv_lacks(const struct boot_image *img)
{
    const struct boot_notes *n = &img->notes;
    const bool linux_os =
        n->guest_os != NULL && g_ascii_strncasecmp(n->guest_os, "linux", 5) == 0;
    char *words;

    if (n->xen_version == NULL && n->loader == NULL) {
        return g_strdup("no ELF notes XEN_VERSION \"xen-3.0\" and LOADER \"generic\"");
    }
    words = check_text(img, "XEN_VERSION", "XEN_VER", n->xen_version, "xen-3.0");
    if (words == NULL && !linux_os) { /* Linux may leave it out, as with Xen */
        words = check_text(img, "LOADER", "LOADER", n->loader, "generic");
    }
    if (words == NULL && linux_os && !n->legacy && !check_has(img, XEN_ELFNOTE_ENTRY)) {
        /* It has the other notes for PVH, and its e_entry is for machines. */
        words = g_strdup("no ELF note ENTRY: this Linux was built without CONFIG_XEN_PV");
    }
    return words;
}

/* The default of VIRT_BASE is 0, which fits few kernels. */
static bool check_pv_base(const struct boot_image *img, GError **err)
{
    const bool legacy = img->notes.legacy;
    const uint64_t entry =
        check_has(img, XEN_ELFNOTE_ENTRY) ? img->notes.entry : img->elf_entry;

    if (check_has(img, XEN_ELFNOTE_VIRT_BASE) ||
        entry < img->phys_end - MIN(img->phys_end, img->notes.paddr_offset)) {
        return true;
    }
    error_set(err, PVEMU_ERROR_IMAGE,
              "'%s' has no %s VIRT_BASE, and without one its PV entry 0x%" G_GINT64_MODIFIER
              "x lies outside the kernel",
              img->name, legacy ? "__xen_guest entry" : "ELF note", entry);
    error_hint(err, img->has_pvh ? "it has a PVH entry: use -machine pvh"
                                 : "the note is the virtual address of the guest's page 0; "
                                   "Linux has it with CONFIG_XEN_PV=y");
    return false;
}

void boot_image_judge(struct boot_image *img)
{
    g_autofree char *lacks = check_pv_lacks(img);

    img->has_pvh = check_has(img, XEN_ELFNOTE_PHYS32_ENTRY);
    img->has_pv = lacks == NULL;
}

static bool check_features(const struct boot_image *img, uint32_t given, const char *kind,
                           GError **err)
{
    const uint32_t missing = img->notes.features_required & ~given;

    if (img->notes.unknown_required != NULL) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' requires the Xen feature '%s', which pvemu does not know",
                         img->name, img->notes.unknown_required);
    }
    if (missing != 0) {
        const unsigned bit = (unsigned)__builtin_ctz(missing);

        error_set(err, PVEMU_ERROR_IMAGE,
                  "'%s' requires the Xen feature '%s' (ELF note FEATURES), which a %s guest "
                  "does not have",
                  img->name, notes_feature_name(bit), kind);
        if (given == PV_FEATURES && img->has_pvh && (missing & ~PVH_FEATURES) == 0) {
            error_hint(err, "it has a PVH entry: use -machine pvh");
        }
        return false;
    }
    return true;
}

bool boot_image_check_pvh(const struct boot_image *img, GError **err)
{
    if (!img->has_pvh) {
        error_set(err, PVEMU_ERROR_IMAGE,
                  "'%s' has no PVH entry (the Xen ELF note PHYS32_ENTRY is missing)",
                  img->name);
        error_hint(err,
                   img->has_pv
                       ? "it is a Xen PV kernel: use -machine pv"
                       : "build the kernel with CONFIG_PVH=y (and CONFIG_XEN_PVH=y)");
        return false;
    }
    if (img->notes.phys32_entry < img->phys_start || img->notes.phys32_entry >= img->phys_end) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' is damaged: its PVH entry 0x%x lies outside the kernel",
                         img->name, img->notes.phys32_entry);
    }
    return check_features(img, PVH_FEATURES, "PVH", err);
}

bool boot_image_check_pv(const struct boot_image *img, GError **err)
{
    g_autofree char *lacks = check_pv_lacks(img);

    if (lacks != NULL) {
        error_set(err, PVEMU_ERROR_IMAGE, "'%s' is not a %sXen PV kernel (%s)", img->name,
                  img->elf_class == 64 ? "" : "64-bit ", lacks);
        error_hint(err, img->has_pvh ? "it has a PVH entry: use -machine pvh"
                                     : "build the kernel with CONFIG_XEN_PV=y");
        return false;
    }
    if (img->elf_class != 64) {
        return error_set(err, PVEMU_ERROR_IMAGE,
                         "'%s' is a 32-bit Xen PV kernel; pvemu runs 64-bit ones%s", img->name,
                         img->has_pvh ? ", and this one by -machine pvh" : "");
    }
    return check_pv_base(img, err) && check_features(img, PV_FEATURES, "PV", err);
}

bool boot_image_check_any(const struct boot_image *img, GError **err)
{
    g_autofree char *lacks = check_pv_lacks(img);

    error_set(err, PVEMU_ERROR_IMAGE,
              "'%s' can be started neither by PVH (no ELF note PHYS32_ENTRY) nor by Xen PV (%s)",
              img->name, lacks);
    error_hint(err, "build the kernel with CONFIG_XEN_PVH=y or CONFIG_XEN_PV=y");
    return false;
}
