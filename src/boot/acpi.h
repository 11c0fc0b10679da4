/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables of a PVH guest (ACPI 6.1): RSDP, XSDT, FADT, MADT and a DSDT with power-off and a
 * serial port. Hardware-reduced: no PIC, PIT, RTC, SCI or PM registers; power-off and reset are
 * single-byte I/O ports that the board implements:
 *
 *     ACPI_PORT_SLEEP_CONTROL  write ACPI_SLEEP_OFF: power off (read 0)
 *     ACPI_PORT_SLEEP_STATUS   read 0; writes clear bits and are ignored
 *     ACPI_PORT_RESET          write ACPI_RESET_VALUE: reboot
 */
#ifndef PVEMU_BOOT_ACPI_H
#define PVEMU_BOOT_ACPI_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    ACPI_PORT_SLEEP_CONTROL = 0x600,
    ACPI_PORT_SLEEP_STATUS = 0x601,
    ACPI_PORT_RESET = 0x602,
    ACPI_S5_TYPE = 5,                            /* SLP_TYP of \_S5 */
    ACPI_SLEEP_OFF = ACPI_S5_TYPE << 2 | 1 << 5, /* SLP_TYP and SLP_EN */
    ACPI_RESET_VALUE = 1,

    ACPI_TABLES_GPA = 0xe0000, /* where pvh_build puts them */
    ACPI_TABLES_MAX = 0x20000,
    ACPI_MAX_VCPUS = 127, /* APIC ids are 2 * vcpu and must stay below 255 */
};

struct acpi_params {
    unsigned nr_vcpus;  /* online at start, at least 1 */
    unsigned max_vcpus; /* entries in the MADT; 0: nr_vcpus */
    bool ioapic;        /* an IOAPIC at 0xfec00000, GSI base 0 */
    uint8_t ioapic_id;
    bool uart; /* COM1 at 0x3f8, GSI 4 (needs ioapic) */
};

/* The APIC id of a vCPU: Xen's rule. Its ACPI processor id is the vCPU's number. */
static inline uint32_t acpi_apic_id(unsigned vcpu)
{
    return 2 * vcpu;
}

/* Appends all tables to an empty `out`, to be placed at guest address `gpa` (16-byte aligned).
 * The RSDP is at `gpa` itself. max_vcpus must be within ACPI_MAX_VCPUS. */
void acpi_build(const struct acpi_params *params, uint64_t gpa, GByteArray *out);

#endif
