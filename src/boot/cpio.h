/* SPDX-License-Identifier: MIT */
/* Writes cpio archives in the "newc" format, which Linux unpacks as its initramfs. */
#ifndef PVEMU_BOOT_CPIO_H
#define PVEMU_BOOT_CPIO_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

/* Names have no leading slash; folders come before what is in them. Owner is root, times are 0:
 * the same input gives the same bytes. */
void cpio_dir(GByteArray *out, const char *name);
void cpio_file(GByteArray *out, const char *name, uint32_t permissions, const void *bytes,
               size_t len);
void cpio_char_device(GByteArray *out, const char *name, unsigned major, unsigned minor);
/* The trailer, padded to 4 bytes: a further archive may follow. */
void cpio_end(GByteArray *out);

#endif
