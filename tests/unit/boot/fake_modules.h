/* SPDX-License-Identifier: MIT */
/* Made-up kernel modules and a walk over cpio archives, for the tests of the initramfs. */
#ifndef PVEMU_TESTS_FAKE_MODULES_H
#define PVEMU_TESTS_FAKE_MODULES_H

#include <glib.h>

/* A relocatable ELF with nothing but .modinfo. depends, softdep: NULL for none. */
GByteArray *fake_module(const char *depends, const char *softdep);
/* Writes a file below root, making its folders. Takes contents. */
void fake_file(const char *root, const char *path, GByteArray *contents);
void fake_text(const char *root, const char *path, const char *text);
/* Removes a folder and all in it. */
void fake_remove(const char *root);
/* "name(size) name(size) ..." of all archives in a row; asserts that they are well formed. */
char *fake_cpio_list(GBytes *archive);

#endif
