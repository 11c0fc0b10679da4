/* SPDX-License-Identifier: MIT */
/*
 * The AML encoder. Package lengths are always written in the two-byte form (up to 4095 bytes):
 * legal for any length, and their place is known before the contents are.
 */
#include "boot/aml.h"

#include <string.h>

enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_EXT = 0x5b,
    AML_EXT_DEVICE = 0x82,
    AML_LENGTH_MAX = 0xfff,
};

static void aml_byte(GByteArray *out, uint8_t byte)
{
    g_byte_array_append(out, &byte, 1);
}

static void aml_le(GByteArray *out, uint64_t value, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        aml_byte(out, (uint8_t)(value >> (8 * i)));
    }
}

static void aml_nameseg(GByteArray *out, const char *name)
{
    if (*name == '\\') {
        aml_byte(out, '\\');
        name++;
    }
    g_assert(strlen(name) == 4);
    g_byte_array_append(out, (const uint8_t *)name, 4);
}

static size_t aml_open(GByteArray *out)
{
    aml_le(out, 0, 2);
    return out->len - 2;
}

size_t aml_open_scope(GByteArray *out, const char *path)
{
    size_t mark;

    aml_byte(out, AML_SCOPE);
    mark = aml_open(out);
    aml_nameseg(out, path);
    return mark;
}

size_t aml_open_device(GByteArray *out, const char *name)
{
    size_t mark;

    aml_byte(out, AML_EXT);
    aml_byte(out, AML_EXT_DEVICE);
    mark = aml_open(out);
    aml_nameseg(out, name);
    return mark;
}

void aml_close(GByteArray *out, size_t mark)
{
    size_t len = out->len - mark; /* counts its own two bytes */

    g_assert(len <= AML_LENGTH_MAX);
    out->data[mark] = (uint8_t)(0x40 | (len & 0xf));
    out->data[mark + 1] = (uint8_t)(len >> 4);
}

void aml_int(GByteArray *out, uint64_t value)
{
    unsigned len = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= UINT32_MAX ? 4 : 8;

    if (value <= 1) {
        aml_byte(out, value == 0 ? AML_ZERO : AML_ONE);
        return;
    }
    aml_byte(out, len == 1 ? AML_BYTE : len == 2 ? AML_WORD : len == 4 ? AML_DWORD : AML_QWORD);
    aml_le(out, value, len);
}

void aml_name_int(GByteArray *out, const char *name, uint64_t value)
{
    aml_byte(out, AML_NAME);
    aml_nameseg(out, name);
    aml_int(out, value);
}

void aml_name_eisaid(GByteArray *out, const char *name, const char *id)
{
    /* Three letters of five bits, four hex digits, big-endian (ACPI 19.3.4). */
    uint32_t value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                     (uint32_t)(id[2] - '@') << 16;

    for (unsigned i = 0; i < 4; i++) {
        value |= (uint32_t)g_ascii_xdigit_value(id[3 + i]) << (12 - 4 * i);
    }
    aml_byte(out, AML_NAME);
    aml_nameseg(out, name);
    aml_byte(out, AML_DWORD);
    aml_le(out, GUINT32_SWAP_LE_BE(value), 4);
}

void aml_name_package(GByteArray *out, const char *name, const uint8_t *values, unsigned count)
{
    size_t mark;

    aml_byte(out, AML_NAME);
    aml_nameseg(out, name);
    aml_byte(out, AML_PACKAGE);
    mark = aml_open(out);
    aml_byte(out, (uint8_t)count);
    for (unsigned i = 0; i < count; i++) {
        aml_int(out, values[i]);
    }
    aml_close(out, mark);
}

void aml_name_resources(GByteArray *out, const char *name, const GByteArray *descriptors)
{
    static const uint8_t end_tag[] = {0x79, 0x00}; /* checksum 0: not checked */
    size_t mark;

    aml_byte(out, AML_NAME);
    aml_nameseg(out, name);
    aml_byte(out, AML_BUFFER);
    mark = aml_open(out);
    aml_int(out, descriptors->len + sizeof(end_tag));
    g_byte_array_append(out, descriptors->data, descriptors->len);
    g_byte_array_append(out, end_tag, sizeof(end_tag));
    aml_close(out, mark);
}

void aml_resource_io(GByteArray *out, uint16_t base, uint8_t len)
{
    aml_byte(out, 0x47); /* small, type 8: I/O port */
    aml_byte(out, 1);    /* decodes 16 bits */
    aml_le(out, base, 2);
    aml_le(out, base, 2);
    aml_byte(out, 1);
    aml_byte(out, len);
}

void aml_resource_irq_edge(GByteArray *out, uint32_t gsi)
{
    aml_byte(out, 0x89); /* large, type 9: extended interrupt */
    aml_le(out, 6, 2);
    aml_byte(out, 0x03); /* consumer, edge, active high, exclusive */
    aml_byte(out, 1);
    aml_le(out, gsi, 4);
}
