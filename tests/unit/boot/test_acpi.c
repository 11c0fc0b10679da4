/* SPDX-License-Identifier: MIT */
/* The ACPI tables: checksums and pointers, and what iasl (when installed) reads out of them. */
#include <glib/gstdio.h>
#include <string.h>

#include "boot/acpi.h"
#include "boot/aml.h"

static const uint64_t BASE = 0xe0000;

static uint64_t le(const uint8_t *at, unsigned len)
{
    uint64_t value = 0;

    memcpy(&value, at, len);
    return value;
}

static GByteArray *build(const struct acpi_params *params)
{
    GByteArray *out = g_byte_array_new();

    acpi_build(params, BASE, out);
    return out;
}

static uint8_t sum(const uint8_t *at, size_t len)
{
    uint8_t s = 0;

    while (len-- > 0) {
        s = (uint8_t)(s + *at++);
    }
    return s;
}

/* The table that lies at gpa; its signature and checksum are checked. */
static const uint8_t *table(const GByteArray *a, uint64_t gpa, const char *signature)
{
    const uint8_t *t = a->data + (gpa - BASE);

    g_assert_cmphex(gpa, >=, BASE);
    g_assert_cmphex(gpa + le(t + 4, 4), <=, BASE + a->len);
    g_assert_cmpint(memcmp(t, signature, 4), ==, 0);
    g_assert_cmpuint(sum(t, le(t + 4, 4)), ==, 0);
    return t;
}

static const uint8_t *find(const GByteArray *a, unsigned entry, const char *signature)
{
    const uint8_t *xsdt = table(a, le(a->data + 24, 8), "XSDT");

    return table(a, le(xsdt + 36 + 8 * entry, 8), signature);
}

static void test_pointers(void)
{
    struct acpi_params params = {
        .nr_vcpus = 2, .max_vcpus = 4, .ioapic = true, .ioapic_id = 9, .uart = true};
    GByteArray *a = build(&params);
    const uint8_t *fadt = find(a, 0, "FACP");
    const uint8_t *madt = find(a, 1, "APIC");

    g_assert_cmpuint(sum(a->data, 20), ==, 0);
    g_assert_cmpuint(sum(a->data, 36), ==, 0);
    g_assert_cmpuint(le(fadt + 4, 4), ==, 276);
    g_assert_cmphex(le(fadt + 112, 4) & 1u << 20, !=, 0);
    g_assert_cmphex(le(fadt + 109, 2), ==, 0x24);
    g_assert_cmphex(le(fadt + 248, 8), ==, ACPI_PORT_SLEEP_CONTROL);
    g_assert_cmphex(le(fadt + 260, 8), ==, ACPI_PORT_SLEEP_STATUS);
    table(a, le(fadt + 140, 8), "DSDT");
    g_assert_cmpuint(le(madt + 4, 4), ==, 44 + 4 * 8 + 12);
    g_assert_cmphex(madt[44 + 8 + 2], ==, 1);     /* second entry: processor 1 */
    g_assert_cmphex(madt[44 + 8 + 3], ==, 2);     /* APIC id 2 */
    g_assert_cmphex(madt[44 + 8 + 4], ==, 1);     /* enabled */
    g_assert_cmphex(madt[44 + 2 * 8 + 4], ==, 0); /* third: not */
    g_assert_cmphex(madt[44 + 4 * 8], ==, 1);     /* IOAPIC */
    g_assert_cmphex(madt[44 + 4 * 8 + 2], ==, 9);
    g_assert_cmphex(ACPI_SLEEP_OFF, ==, 0x34);
    g_byte_array_free(a, TRUE);
}

static void test_largest(void)
{
    struct acpi_params params = {.nr_vcpus = 1, .max_vcpus = ACPI_MAX_VCPUS, .ioapic = true};
    GByteArray *a = build(&params);

    g_assert_cmpuint(a->len, <=, ACPI_TABLES_MAX);
    g_assert_cmphex(find(a, 1, "APIC")[44 + 126 * 8 + 3], ==, 252);
    g_byte_array_free(a, TRUE);
}

static char *disassemble(const char *dir, const char *name, const uint8_t *t)
{
    g_autofree char *aml = g_strdup_printf("%s/%s.aml", dir, name);
    g_autofree char *dsl = g_strdup_printf("%s/%s.dsl", dir, name);
    const char *argv[] = {"iasl", "-d", aml, NULL};
    g_autofree char *out = NULL;
    g_autofree char *errors = NULL;
    char *text = NULL;
    int status = -1;

    g_assert_true(g_file_set_contents(aml, (const char *)t, (gssize)le(t + 4, 4), NULL));
    g_assert_true(g_spawn_sync(NULL, (char **)(uintptr_t)argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
                               NULL, &out, &errors, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_assert_true(g_file_get_contents(dsl, &text, NULL, NULL));
    g_unlink(aml);
    g_unlink(dsl);
    return text;
}

static void test_iasl(void)
{
    struct acpi_params params = {.nr_vcpus = 1, .ioapic = true, .uart = true};
    g_autofree char *iasl = g_find_program_in_path("iasl");
    g_autofree char *dir = NULL;
    g_autofree char *dsdt = NULL;
    g_autofree char *fadt = NULL;
    g_autofree char *madt = NULL;
    GByteArray *a;

    if (iasl == NULL) {
        g_test_skip("iasl is not installed (acpica-tools)");
        return;
    }
    a = build(&params);
    dir = g_dir_make_tmp("pvemu-acpi-XXXXXX", NULL);
    dsdt = disassemble(dir, "dsdt", table(a, le(find(a, 0, "FACP") + 140, 8), "DSDT"));
    fadt = disassemble(dir, "fadt", find(a, 0, "FACP"));
    madt = disassemble(dir, "madt", find(a, 1, "APIC"));
    g_rmdir(dir);
    g_assert_nonnull(strstr(dsdt, "Name (\\_S5, Package (0x04)"));
    g_assert_nonnull(strstr(dsdt, "Device (COM1)"));
    g_assert_nonnull(strstr(dsdt, "EisaId (\"PNP0501\")"));
    g_assert_nonnull(strstr(dsdt, "IO (Decode16,"));
    g_assert_nonnull(strstr(dsdt, "0x03F8,             // Range Minimum"));
    g_assert_nonnull(strstr(dsdt, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"));
    g_assert_null(strstr(dsdt, "Unknown"));
    g_assert_nonnull(strstr(fadt, "Hardware Reduced (V5) : 1"));
    g_assert_nonnull(strstr(fadt, "Sleep Control Register : [Generic Address Structure]"));
    g_assert_nonnull(strstr(madt, "I/O Apic"));
    g_byte_array_free(a, TRUE);
}

static void test_integers(void)
{
    static const uint8_t want[] = {0x00, 0x01, 0x0a, 0x02, 0x0b, 0x00, 0x01, 0x0c, 0, 0, 1,
                                   0,    0x0e, 0,    0,    0,    0,    1,    0,    0, 0};
    GByteArray *a = g_byte_array_new();

    aml_int(a, 0);
    aml_int(a, 1);
    aml_int(a, 2);
    aml_int(a, 0x100);
    aml_int(a, 0x10000);
    aml_int(a, 0x100000000);
    g_assert_cmpmem(a->data, a->len, want, sizeof(want));
    g_byte_array_free(a, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/acpi/pointers-and-checksums", test_pointers);
    g_test_add_func("/boot/acpi/most-vcpus", test_largest);
    g_test_add_func("/boot/acpi/iasl-reads-them", test_iasl);
    g_test_add_func("/boot/aml/integers", test_integers);
    return g_test_run();
}
