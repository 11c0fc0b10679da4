/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables, after the ACPI specification 6.1 chapter 5.2. The choice of a
 * hardware-reduced platform follows from what the machine is: nothing with a legacy interrupt
 * line exists except the serial port behind the IOAPIC. The MADT follows Xen's numbering:
 * processor id = vCPU, APIC id = 2 * vCPU; vCPUs beyond the online ones have disabled entries.
 */
#include "boot/acpi.h"

#include <string.h>

#include "boot/aml.h"

enum {
    ACPI_HEADER = 36,
    FADT_LENGTH = 276,
    FADT_REVISION = 6,
    FADT_MINOR = 1,
    MADT_REVISION = 4,
    DSDT_REVISION = 2,
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    UART_PORT = 0x3f8,
    UART_PORTS = 8,
    UART_GSI = 4,
};

#define LAPIC_GPA  0xfee00000u
#define IOAPIC_GPA 0xfec00000u

/* FADT flags (table 5-35). */
#define FADT_WBINVD          (1u << 0)
#define FADT_C1              (1u << 2)
#define FADT_PWR_BUTTON      (1u << 4) /* no fixed power button */
#define FADT_SLP_BUTTON      (1u << 5)
#define FADT_RESET_SUPPORTED (1u << 10)
#define FADT_HEADLESS        (1u << 12)
#define FADT_APIC_PHYSICAL   (1u << 19)
#define FADT_HW_REDUCED      (1u << 20)
/* IAPC_BOOT_ARCH (table 5-36): no VGA, no CMOS RTC; neither 8042 nor legacy devices claimed. */
#define FADT_NO_VGA  (1u << 2)
#define FADT_NO_CMOS (1u << 5)

static void acpi_put(uint8_t *at, uint64_t value, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint8_t acpi_checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    return (uint8_t)-sum;
}

/* Pads to 16 bytes and opens a table; its offset in `out`. */
static size_t acpi_open(GByteArray *out, const char *signature, uint8_t revision)
{
    static const uint8_t zeros[16];
    uint8_t header[ACPI_HEADER] = {0};
    size_t at;

    g_byte_array_append(out, zeros, -out->len & 15);
    at = out->len;
    memcpy(header, signature, 4);
    header[8] = revision;
    memcpy(header + 10, "PVEMU ", 6);
    memcpy(header + 16, "PVEMUPVH", 8);
    acpi_put(header + 24, 1, 4);
    memcpy(header + 28, "PVEM", 4);
    acpi_put(header + 32, 1, 4);
    g_byte_array_append(out, header, sizeof(header));
    return at;
}

static void acpi_close(GByteArray *out, size_t at)
{
    size_t len = out->len - at;

    acpi_put(out->data + at + 4, len, 4);
    out->data[at + 9] = 0;
    out->data[at + 9] = acpi_checksum(out->data + at, len);
}

static size_t acpi_dsdt(const struct acpi_params *params, GByteArray *out)
{
    static const uint8_t s5[] = {ACPI_S5_TYPE, ACPI_S5_TYPE, 0, 0};
    size_t at = acpi_open(out, "DSDT", DSDT_REVISION);

    aml_name_package(out, "\\_S5_", s5, sizeof(s5));
    if (params->uart) {
        GByteArray *resources = g_byte_array_new();
        size_t scope = aml_open_scope(out, "\\_SB_");
        size_t dev = aml_open_device(out, "COM1");

        aml_resource_io(resources, UART_PORT, UART_PORTS);
        aml_resource_irq_edge(resources, UART_GSI);
        aml_name_eisaid(out, "_HID", "PNP0501");
        aml_name_int(out, "_UID", 1);
        aml_name_int(out, "_STA", 0xf);
        aml_name_resources(out, "_CRS", resources);
        aml_close(out, dev);
        aml_close(out, scope);
        g_byte_array_free(resources, TRUE);
    }
    acpi_close(out, at);
    return at;
}

static size_t acpi_madt(const struct acpi_params *params, GByteArray *out)
{
    unsigned max = MAX(params->max_vcpus, params->nr_vcpus);
    size_t at = acpi_open(out, "APIC", MADT_REVISION);
    uint8_t head[8] = {0};

    acpi_put(head, LAPIC_GPA, 4); /* flags 0: no 8259 */
    g_byte_array_append(out, head, sizeof(head));
    for (unsigned i = 0; i < max; i++) {
        uint8_t lapic[8] = {MADT_LAPIC, sizeof(lapic), (uint8_t)i, (uint8_t)acpi_apic_id(i)};

        acpi_put(lapic + 4, i < params->nr_vcpus, 4);
        g_byte_array_append(out, lapic, sizeof(lapic));
    }
    if (params->ioapic) {
        uint8_t ioapic[12] = {MADT_IOAPIC, sizeof(ioapic), params->ioapic_id, 0};

        acpi_put(ioapic + 4, IOAPIC_GPA, 4);
        g_byte_array_append(out, ioapic, sizeof(ioapic));
    }
    acpi_close(out, at);
    return at;
}

/* Generic address structure: one byte-wide I/O port. */
static void acpi_gas_port(uint8_t *at, uint16_t port)
{
    at[0] = 1; /* system I/O */
    at[1] = 8; /* bits */
    at[2] = 0;
    at[3] = 1; /* byte access */
    acpi_put(at + 4, port, 8);
}

static size_t acpi_fadt(uint64_t dsdt, GByteArray *out)
{
    size_t at = acpi_open(out, "FACP", FADT_REVISION);
    uint8_t *t;

    g_byte_array_set_size(out, (guint)(at + FADT_LENGTH));
    t = out->data + at;
    memset(t + ACPI_HEADER, 0, FADT_LENGTH - ACPI_HEADER);
    acpi_put(t + 40, dsdt, 4);
    acpi_put(t + 96, 0xffff, 2); /* P_LVL2_LAT: no C2 */
    acpi_put(t + 98, 0xffff, 2); /* P_LVL3_LAT: no C3 */
    acpi_put(t + 109, FADT_NO_VGA | FADT_NO_CMOS, 2);
    acpi_put(t + 112,
             FADT_WBINVD | FADT_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_SUPPORTED |
                 FADT_HEADLESS | FADT_APIC_PHYSICAL | FADT_HW_REDUCED,
             4);
    acpi_gas_port(t + 116, ACPI_PORT_RESET);
    t[128] = ACPI_RESET_VALUE;
    t[131] = FADT_MINOR;
    acpi_put(t + 140, dsdt, 8); /* X_DSDT */
    acpi_gas_port(t + 244, ACPI_PORT_SLEEP_CONTROL);
    acpi_gas_port(t + 256, ACPI_PORT_SLEEP_STATUS);
    memcpy(t + 268, "PVEMU\0\0\0", 8); /* hypervisor vendor */
    acpi_close(out, at);
    return at;
}

static size_t acpi_xsdt(uint64_t fadt, uint64_t madt, GByteArray *out)
{
    size_t at = acpi_open(out, "XSDT", 1);
    uint8_t entries[16];

    acpi_put(entries, fadt, 8);
    acpi_put(entries + 8, madt, 8);
    g_byte_array_append(out, entries, sizeof(entries));
    acpi_close(out, at);
    return at;
}

void acpi_build(const struct acpi_params *params, uint64_t gpa, GByteArray *out)
{
    uint8_t rsdp[36] = {0};
    uint64_t dsdt, fadt, madt;

    g_assert(params->nr_vcpus >= 1 &&
             MAX(params->max_vcpus, params->nr_vcpus) <= ACPI_MAX_VCPUS);
    g_byte_array_append(out, rsdp, sizeof(rsdp)); /* filled in last */
    dsdt = gpa + acpi_dsdt(params, out);
    fadt = gpa + acpi_fadt(dsdt, out);
    madt = gpa + acpi_madt(params, out);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "PVEMU ", 6);
    rsdp[15] = 2;
    acpi_put(rsdp + 20, sizeof(rsdp), 4);
    acpi_put(rsdp + 24, gpa + acpi_xsdt(fadt, madt, out), 8);
    rsdp[8] = acpi_checksum(rsdp, 20);
    rsdp[32] = acpi_checksum(rsdp, sizeof(rsdp));
    memcpy(out->data, rsdp, sizeof(rsdp));
}
