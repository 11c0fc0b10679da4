/* SPDX-License-Identifier: MIT */
/*
 * Kernel modules from a folder /lib/modules/<release>, wherever it lies: those asked for and
 * all they need, unpacked and in loading order.
 */
#ifndef PVEMU_BOOT_MODULES_H
#define PVEMU_BOOT_MODULES_H

#include <glib.h>
#include <stdbool.h>

/* How to read the folder. Paths are absolute. */
struct module_tree {
    GBytes *(*read)(void *opaque, const char *path, size_t max); /* NULL: no such file */
    void (*list)(void *opaque, const char *path,
                 void (*fn)(void *fn_opaque, const char *name, bool is_dir), void *fn_opaque);
    void *opaque;
};

struct module {
    char *name; /* with '_', without .ko */
    GBytes *ko; /* unpacked */
};

struct module_set {
    GPtrArray *modules; /* struct module *, in loading order */
    GPtrArray *missing; /* char *: wanted, but neither there nor built in */
    bool folder_found;  /* the folder exists: `missing` means something */
    bool builtin_known; /* and says what is built in: what is missing is so for certain */
};

/* The host's own file system as a tree. */
extern const struct module_tree module_tree_host;

/* Fills *set. `wanted` ends with NULL; names with '-' or '_'. A name that starts with '?' is
 * taken when it is there and not missed otherwise. */
void modules_collect(const struct module_tree *tree, const char *dir, const char *const *wanted,
                     struct module_set *set);
void module_set_clear(struct module_set *set);

#endif
