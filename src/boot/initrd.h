/* SPDX-License-Identifier: MIT */
/*
 * An initramfs made on the spot, for a kernel whose block driver or root file system is a
 * module (every distribution's) when the user gave none. It holds the small init of
 * src/boot/init and the modules, which come from the first of these that has them:
 *
 *     the disk image's own /lib/modules/<release>   (ext2/3/4, read without mounting)
 *     what was remembered from an earlier start of the same disk and kernel
 *     the host's /lib/modules/<release>
 *
 * It also finds out where the root file system is on the disk.
 */
#ifndef PVEMU_BOOT_INITRD_H
#define PVEMU_BOOT_INITRD_H

#include <glib.h>
#include <stdbool.h>

#include "boot/boot_image.h"
#include "boot/disk.h"

struct initrd_request {
    const struct boot_image *image;
    const struct disk_reader *disk; /* NULL: there is no disk to boot from */
    const char *disk_name;          /* for messages: "root.img" */
    const char *device;             /* the guest's name for the disk: "xvda" */
    const char *const *modules; /* drivers wanted, NULL-terminated; "?name": only if there */
    const char *cache_dir;      /* where sets are remembered; NULL: nowhere */
    const char *host_modules;   /* "/lib/modules"; NULL: do not look there */
    const char *root; /* the user's own root=; NULL: none */
    bool lenient;     /* the user has an answer to how it is mounted: trouble only warns */
};

struct initrd {
    GBytes *bytes;       /* the archive; NULL: none is needed */
    char *root;          /* "/dev/xvda1" for root=; NULL: none was found */
    char *root_type;     /* "ext4"; NULL: unknown */
    char *about;         /* one line of what was done, never NULL */
    GPtrArray *warnings; /* char *: what may go wrong, for report_warn */
};

/* The drivers every Xen guest wants. */
extern const char *const initrd_xen_modules[];

/* Fills *out. false only when there is no way that a Linux can mount a root on this disk (LVM,
 * LUKS, a blank disk, modules that are nowhere): *err says why and what to do. */
bool initrd_make(const struct initrd_request *req, struct initrd *out, GError **err);
void initrd_clear(struct initrd *initrd);

/* $XDG_CACHE_HOME/pvemu/modules; the caller frees. */
char *initrd_default_cache_dir(void);

#endif
