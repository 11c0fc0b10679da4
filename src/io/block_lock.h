/* SPDX-License-Identifier: MIT */
/* One writer or several readers per image, across processes and within one. */
#ifndef PVEMU_IO_BLOCK_LOCK_H
#define PVEMU_IO_BLOCK_LOCK_H

#include <glib.h>
#include <stdbool.h>

/*
 * Takes an advisory lock that lives as long as the open file: exclusive or shared. Works on
 * descriptors that may write (exclusive) or read (shared). A file system without locks is let
 * pass with a warning. On a conflict *err names who holds it.
 */
bool block_lock(int fd, const char *name, bool exclusive, GError **err);

#endif
