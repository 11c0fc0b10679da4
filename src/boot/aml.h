/* SPDX-License-Identifier: MIT */
/*
 * A small AML encoder (ACPI 6.1 chapter 20), enough for a DSDT made at run time. Terms are
 * appended to a byte array; packages with a length are opened and closed:
 *
 *     size_t dev = aml_open_device(out, "COM1");
 *     aml_name_int(out, "_UID", 1);
 *     aml_close(out, dev);
 */
#ifndef PVEMU_BOOT_AML_H
#define PVEMU_BOOT_AML_H

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

/* Opens a term whose length is filled in by aml_close(); names have four letters. */
size_t aml_open_scope(GByteArray *out, const char *path); /* "\\_SB_" or a name */
size_t aml_open_device(GByteArray *out, const char *name);
void aml_close(GByteArray *out, size_t mark);

void aml_int(GByteArray *out, uint64_t value);
void aml_name_int(GByteArray *out, const char *name, uint64_t value);
void aml_name_eisaid(GByteArray *out, const char *name, const char *id); /* "PNP0501" */
/* Name (name, Package () { values... }) */
void aml_name_package(GByteArray *out, const char *name, const uint8_t *values, unsigned count);
/* Name (name, ResourceTemplate () { raw descriptors }); adds the end tag. */
void aml_name_resources(GByteArray *out, const char *name, const GByteArray *descriptors);

/* Resource descriptors (chapter 6.4) for aml_name_resources. */
void aml_resource_io(GByteArray *out, uint16_t base, uint8_t len);
void aml_resource_irq_edge(GByteArray *out, uint32_t gsi); /* edge, active high, exclusive */

#endif
