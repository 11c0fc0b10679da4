/* SPDX-License-Identifier: MIT */
/* Finding the root device among the guest's block devices, by name, label or id. */
#ifndef PVEMU_BOOT_INIT_ROOT_H
#define PVEMU_BOOT_INIT_ROOT_H

#include <stdbool.h>
#include <stddef.h>

/* Looks once for what root= names. true: *path (at least 64 bytes) is its node in /dev. */
bool root_find(const char *spec, char *path, size_t size);
/* The file system type by its superblock ("ext4"), NULL when it is not recognised. */
const char *root_probe(const char *path);
/* All block device names, separated by blanks. */
void root_list(char *buf, size_t size);

#endif
