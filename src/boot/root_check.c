/* SPDX-License-Identifier: MIT */
/*
 * A driver or file system that is built in leaves its name in the kernel's data: a driver in
 * front of its parameters ("xen_blkfront."), a file system as the string that mount takes. Not
 * finding it is proof that it is not built in; finding it may mean little, and counts for the
 * kernel. modules.builtin, where the folder has one, decides what is left.
 */
#include "boot/root_check.h"

#include <string.h>

#include "base/error.h"

enum { BLANK_BYTES = 0x10400 }; /* as far as a superblock can be */

static const char BLOCK_DRIVER[] = "xen_blkfront";

const char *root_check_wrapping(const struct disk_layout *layout)
{
    static const char *const wrapped[][2] = {
        {"LVM2", "an LVM volume group"},
        {"LUKS", "an encrypted volume (LUKS)"},
        {"RAID", "a RAID member"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(wrapped); i++) {
        for (unsigned v = 0; v < layout->count; v++) {
            if (g_strcmp0(layout->volumes[v].type, wrapped[i][0]) == 0) {
                return wrapped[i][1];
            }
        }
    }
    return NULL;
}

static bool disk_is_blank(const struct disk_reader *disk)
{
    g_autofree uint8_t *bytes = g_malloc0(BLANK_BYTES);

    if (!disk_read(disk, bytes, (size_t)MIN(BLANK_BYTES, disk->size), 0)) {
        return false;
    }
    for (size_t i = 0; i < BLANK_BYTES; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* "GPT partitions: vfat, swap" */
static char *layout_words(const struct disk_layout *layout)
{
    GString *s = g_string_new(NULL);

    if (layout->table != NULL) {
        g_string_append_printf(s, "%s partitions%s", layout->table,
                               layout->count > 0 ? ": " : "");
    }
    for (unsigned i = 0; i < layout->count; i++) {
        const char *type = layout->volumes[i].type;

        g_string_append_printf(s, "%s%s", i > 0 ? ", " : "", type != NULL ? type : "unknown");
    }
    return g_string_free(s, FALSE);
}

bool root_check_layout(const struct root_check *check, GError **err)
{
    const struct disk_layout *layout = check->layout;
    const char *wrapping = root_check_wrapping(layout);
    g_autofree char *words = layout_words(layout);

    if (wrapping != NULL) {
        error_set(err, PVEMU_ERROR_IMAGE,
                  "the root on '%s' is inside %s, which needs the guest's own initramfs",
                  check->disk_name, wrapping);
        error_hint(err, "give it with -initrd (in the image: /boot/initrd.img-<version>)");
        return false;
    }
    if (layout->table != NULL || layout->volumes[0].type != NULL) {
        error_set(err, PVEMU_ERROR_IMAGE, "'%s' has no Linux file system for a root (%s)",
                  check->disk_name, words);
    } else if (disk_is_blank(check->disk)) {
        error_set(err, PVEMU_ERROR_IMAGE,
                  "'%s' is blank: no partition table, no file system, so no root to mount",
                  check->disk_name);
    } else {
        return true;
    }
    error_hint(err, "give an image of a root file system, an initramfs with -initrd, or "
                    "-append root=... when the root is elsewhere");
    return false;
}

bool root_check_on_disk(const char *root)
{
    static const char *const forms[] = {"/dev/xvd",  "LABEL=",     "UUID=",
                                        "PARTUUID=", "PARTLABEL=", "202:"};

    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        if (g_str_has_prefix(root, forms[i])) {
            return true;
        }
    }
    return false;
}

static bool image_has(const struct boot_image *image, const char *text, size_t len)
{
    return memmem(image->elf, image->elf_len, text, len) != NULL;
}

static bool image_has_driver(const struct boot_image *image, const char *name)
{
    g_autofree char *mark = g_strdup_printf("%s.", name);

    return image_has(image, mark, strlen(mark));
}

/* One driver is for three types. */
static bool image_has_fs(const struct boot_image *image, const char *type)
{
    static const char *const exts[] = {"ext2", "ext3", "ext4"};

    if (!g_str_has_prefix(type, "ext")) {
        return image_has(image, type, strlen(type) + 1);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(exts); i++) {
        if (image_has(image, exts[i], strlen(exts[i]) + 1)) {
            return true;
        }
    }
    return false;
}

static bool is_missing(const struct module_set *set, const char *name)
{
    for (guint i = 0; set->folder_found && i < set->missing->len; i++) {
        if (strcmp(g_ptr_array_index(set->missing, i), name) == 0) {
            return true;
        }
    }
    return !set->folder_found;
}

/* "no modules for Linux 6.1.0 in 'root.img' or on this host (why they may be hidden)" */
static char *nowhere_words(const struct root_check *check)
{
    const struct disk_volume *v = check->root;
    bool foreign = v != NULL && v->type != NULL && !g_str_has_prefix(v->type, "ext");

    return g_strdup_printf(
        "no modules for Linux %s in '%s'%s%s%s or on this host%s", check->release,
        check->disk_name, foreign ? " (they are not read from " : "", foreign ? v->type : "",
        foreign ? ")" : "",
        v != NULL && v->needs_recovery
            ? " (the image was not cleanly unmounted; it may hide them)"
            : "");
}

/* "in 'root.img'" or "on this host" */
static char *place_words(const struct root_check *check)
{
    return strcmp(check->source, check->disk_name) == 0
               ? g_strdup_printf("in '%s'", check->source)
               : g_strdup_printf("on %s", check->source);
}

static void hint_modules(GError **err)
{
    error_hint(err, "install the kernel's package in the image, or give an initramfs with "
                    "-initrd; with -cmdline it starts all the same");
}

static bool check_driver(const struct root_check *check, GError **err)
{
    if (!is_missing(check->set, BLOCK_DRIVER) || image_has_driver(check->image, BLOCK_DRIVER)) {
        return true;
    }
    if (check->set->folder_found) {
        g_autofree char *place = place_words(check);

        error_set(err, PVEMU_ERROR_IMAGE,
                  "no module %s for Linux %s %s, and it is not built in: the root %s cannot be "
                  "mounted",
                  BLOCK_DRIVER, check->release, place, check->root_path);
    } else {
        g_autofree char *nowhere = nowhere_words(check);

        error_set(err, PVEMU_ERROR_IMAGE,
                  "%s, and %s is not built in: the root %s cannot be mounted", nowhere,
                  BLOCK_DRIVER, check->root_path);
    }
    hint_modules(err);
    return false;
}

static bool check_fs(const struct root_check *check, GError **err)
{
    const char *type = check->root != NULL ? check->root->type : NULL;

    if (check->other_root || type == NULL || check->fs_module == NULL ||
        !is_missing(check->set, check->fs_module)) {
        return true;
    }
    /* ext2 and ext3 may have drivers of their own built in. */
    if (image_has_fs(check->image, type) &&
        (!check->set->builtin_known || strcmp(check->fs_module, type) != 0)) {
        return true;
    }
    if (check->set->folder_found) {
        g_autofree char *place = place_words(check);

        error_set(err, PVEMU_ERROR_IMAGE,
                  "the root %s is %s: no module %s for Linux %s %s, and it is not built in",
                  check->root_path, type, check->fs_module, check->release, place);
    } else {
        g_autofree char *nowhere = nowhere_words(check);

        error_set(err, PVEMU_ERROR_IMAGE, "the root %s is %s: %s, and %s is not built in",
                  check->root_path, type, nowhere, type);
    }
    hint_modules(err);
    return false;
}

bool root_check_modules(const struct root_check *check, GError **err)
{
    return check_driver(check, err) && check_fs(check, err);
}
