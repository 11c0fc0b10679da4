/* SPDX-License-Identifier: MIT */
/*
 * Whether a kernel can mount the root on its disk at all, before it is started: what is certain
 * to end in "cannot mount root" is an error of ours then, not a guest's panic (`git bisect run`
 * skips the one and takes the other for a result). Nothing is said about what is not certain.
 */
#ifndef PVEMU_BOOT_ROOT_CHECK_H
#define PVEMU_BOOT_ROOT_CHECK_H

#include <glib.h>
#include <stdbool.h>

#include "boot/boot_image.h"
#include "boot/disk.h"
#include "boot/modules.h"

struct root_check {
    const struct boot_image *image;
    const char *release;             /* of the kernel */
    const struct disk_reader *disk;
    const char *disk_name;           /* "root.img" */
    const struct disk_layout *layout;
    const struct disk_volume *root;  /* NULL: none was found */
    const char *root_path;           /* "/dev/xvda1", or what root= says */
    bool other_root;                 /* root= says something else than `root` */
    const char *fs_module;           /* what its type takes; NULL: nothing that is known */
    const struct module_set *set;    /* folder_found false: there are no modules anywhere */
    const char *source;              /* where the set is from: "root.img", "this host" */
};

/* What the root is wrapped in ("an LVM volume group"), or NULL. */
const char *root_check_wrapping(const struct disk_layout *layout);
/* For a disk without a root: false when there can be none. */
bool root_check_layout(const struct root_check *check, GError **err);
/* Whether what root= says is on a disk of the guest (and not on the network, in memory ...). */
bool root_check_on_disk(const char *root);
/* For a root that was found: false when block driver or file system are nowhere. */
bool root_check_modules(const struct root_check *check, GError **err);

#endif
