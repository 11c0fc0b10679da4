/* SPDX-License-Identifier: MIT */
/* The page walker and linear access: permissions as a matrix, sizes, reserved bits, A/D. */
#include <string.h>

#include "core/memory.h"
#include "x86_guest.h"

enum { VA = 0x100000 + 0x123 }; /* in the first 2 MiB: PT entry 256 */
enum { PT_SLOT = G_PT + 256 * 8, PD_SLOT = G_PD };
#define NX (1ull << 63)

/* What SDM vol. 3 4.6 says, written as the tables there. */
static bool matrix_allowed(const struct cpu_x86 *cpu, bool user_page, bool rw, bool nx,
                           unsigned access)
{
    bool user = (access & X86_USER) != 0;

    if ((access & X86_EXEC) != 0) {
        if (user) {
            return user_page && !nx;
        }
        if (user_page && (cpu->cr4 & CPU_CR4_SMEP) != 0) {
            return false;
        }
        return !nx;
    }
    if (user) {
        return user_page && (rw || (access & X86_WRITE) == 0);
    }
    if (user_page && (cpu->cr4 & CPU_CR4_SMAP) != 0 &&
        ((cpu->rflags & CPU_AC) == 0 || (access & X86_IMPLICIT) != 0)) {
        return false;
    }
    return (access & X86_WRITE) == 0 || rw || (cpu->cr0 & CPU_CR0_WP) == 0;
}

static void matrix_one(struct guest *g, unsigned pd, unsigned pt, bool nx_pd, bool nx_pt,
                       unsigned access)
{
    bool us = (pd & pt & 4) != 0, rw = (pd & pt & 2) != 0, nx = nx_pd || nx_pt;
    struct x86_mapping map;
    struct x86_fault fault;
    bool want, got;

    guest_put(g, PD_SLOT, G_PT | pd | (nx_pd ? NX : 0), 8);
    guest_put(g, PT_SLOT, (VA & ~0xfffu) | pt | (nx_pt ? NX : 0), 8);
    want = matrix_allowed(g->cpu, us, rw, nx, access);
    got = x86_translate(g->v, VA, access, &map, &fault);
    g_assert_cmpint(got, ==, want);
    if (got) {
        g_assert_cmphex(map.gpa, ==, VA);
        g_assert_cmpint(map.user, ==, us);
        g_assert_cmpint(map.writable, ==, rw);
        g_assert_cmpint(map.executable, ==, !nx);
        g_assert_cmpint(map.dirty, ==, (access & X86_WRITE) != 0);
        g_assert_cmphex(guest_get(g, PT_SLOT, 8) & 0x60, ==, map.dirty ? 0x60 : 0x20);
        g_assert_cmphex(guest_get(g, PD_SLOT, 8) & 0x60, ==, 0x20);
    } else {
        uint32_t error = 1 | ((access & X86_WRITE) != 0 ? 2 : 0) |
                         ((access & X86_USER) != 0 ? 4 : 0) |
                         ((access & X86_EXEC) != 0 ? 16 : 0);

        g_assert_cmpuint(fault.vector, ==, CPU_PAGE_FAULT);
        g_assert_cmphex(fault.error, ==, error);
        g_assert_cmphex(fault.cr2, ==, VA);
        g_assert_cmphex(guest_get(g, PT_SLOT, 8) & 0x60, ==, 0);
    }
}

static void test_matrix(gconstpointer data)
{
    struct guest *g = guest_new(GPOINTER_TO_INT(data));
    static const unsigned accesses[] = {
        X86_READ, X86_WRITE, X86_EXEC, X86_READ | X86_USER, X86_WRITE | X86_USER,
        X86_EXEC | X86_USER, X86_READ | X86_IMPLICIT, X86_WRITE | X86_IMPLICIT,
    };

    g->cpu->efer |= CPU_EFER_NXE;
    for (unsigned i = 0; i < (1u << 10) * G_N_ELEMENTS(accesses); i++) {
        unsigned bits = i / G_N_ELEMENTS(accesses);

        g->cpu->cr0 = (g->cpu->cr0 & ~(uint64_t)CPU_CR0_WP) | ((bits & 1) ? CPU_CR0_WP : 0);
        g->cpu->cr4 = (g->cpu->cr4 & ~(uint64_t)(CPU_CR4_SMEP | CPU_CR4_SMAP)) |
                      ((bits & 2) ? CPU_CR4_SMEP : 0) | ((bits & 4) ? CPU_CR4_SMAP : 0);
        g->cpu->rflags = 2 | ((bits & 8) ? CPU_AC : 0);
        matrix_one(g, 1 | ((bits >> 4) & 3) << 1, 1 | ((bits >> 6) & 3) << 1, (bits & 256) != 0,
                   (bits & 512) != 0, accesses[i % G_N_ELEMENTS(accesses)]);
    }
    guest_free(g);
}

static void test_matrix_32(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    for (unsigned bits = 0; bits < 128; bits++) {
        unsigned pd = 1 | (bits & 3) << 1, pt = 1 | ((bits >> 2) & 3) << 1;
        unsigned access = ((bits & 16) ? X86_WRITE : X86_READ) | ((bits & 32) ? X86_USER : 0);
        struct x86_mapping map;
        struct x86_fault fault;

        g->cpu->cr0 = (g->cpu->cr0 & ~(uint64_t)CPU_CR0_WP) | ((bits & 64) ? CPU_CR0_WP : 0);
        guest_put(g, G_PD, G_PT | pd, 4);
        guest_put(g, G_PT + 256 * 4, (VA & ~0xfffu) | pt, 4);
        g_assert_cmpint(x86_translate(g->v, VA, access, &map, &fault), ==,
                        matrix_allowed(g->cpu, (pd & pt & 4) != 0, (pd & pt & 2) != 0, false,
                                       access));
    }
    guest_free(g);
}

static void expect_fault(struct guest *g, uint64_t gva, unsigned access, uint32_t error)
{
    struct x86_mapping map;

    g_assert_false(x86_translate(g->v, gva, access, &map, &g->fault));
    g_assert_fault(g, CPU_PAGE_FAULT, error);
    g_assert_cmphex(g->fault.cr2, ==, gva);
}

static struct x86_mapping expect_map(struct guest *g, uint64_t gva, unsigned access)
{
    struct x86_mapping map;
    uint64_t gpa;

    g_assert_true(x86_translate(g->v, gva, access, &map, &g->fault));
    g_assert_true(x86_probe(g->v, gva, &gpa));
    g_assert_cmphex(gpa, ==, map.gpa);
    return map;
}

static void test_not_present(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t gpa;

    guest_put(g, PT_SLOT, 0, 8);
    expect_fault(g, VA, X86_READ, 0);
    expect_fault(g, VA, X86_WRITE | X86_USER, 6);
    expect_fault(g, VA, X86_EXEC, 16);
    g_assert_false(x86_probe(g->v, VA, &gpa));
    g->cpu->efer &= ~(uint64_t)CPU_EFER_NXE;
    expect_fault(g, VA, X86_EXEC, 0); /* I only with NXE or SMEP */
    g->cpu->cr4 |= CPU_CR4_SMEP;
    expect_fault(g, VA, X86_EXEC, 16);
    /* A table outside RAM is not present; nothing crashes. */
    guest_put(g, PD_SLOT, 0x00f0000000ull | 7, 8);
    expect_fault(g, VA, X86_READ, 0);
    g->cpu->cr3 = 0xf000000000ull;
    expect_fault(g, VA, X86_READ, 0);
    guest_free(g);
}

static void test_reserved_long(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    const uint64_t beyond = 1ull << 40; /* 40 physical bits */

    guest_put(g, PT_SLOT, VA | 7 | beyond, 8);
    expect_fault(g, VA, X86_READ, 9);
    guest_put(g, PT_SLOT, VA | 7 | 1ull << 52, 8); /* bits 52..62 are free */
    expect_map(g, VA, X86_READ);
    guest_put(g, PT_SLOT, VA | 7 | NX, 8);
    g->cpu->efer &= ~(uint64_t)CPU_EFER_NXE;
    expect_fault(g, VA, X86_WRITE | X86_USER, 15);
    g->cpu->efer |= CPU_EFER_NXE;
    guest_put(g, PD_SLOT, 0x2000 | 0x87, 8); /* a 2 MiB page must be aligned */
    expect_fault(g, VA, X86_READ, 9);
    guest_put(g, G_PDPT, 0x40002000 | 0x87, 8); /* and a 1 GiB page */
    expect_fault(g, VA, X86_READ, 9);
    guest_put(g, G_PML4, G_PDPT | 0x87, 8);
    expect_fault(g, VA, X86_READ, 9);
    guest_free(g);
}

static void test_reserved_pae(void)
{
    struct guest *g = guest_new(GUEST_PAE);

    expect_map(g, VA, X86_READ);
    guest_put(g, PT_SLOT, (VA & ~0xfffu) | 7 | 1ull << 52, 8);
    expect_fault(g, VA, X86_READ, 9);
    guest_put(g, PT_SLOT, (VA & ~0xfffu) | 7, 8);
    g_assert_true(x86_pdptes_valid(g->v, G_PDPT));
    guest_put(g, G_PDPT, G_PD | 7, 8); /* R/W and U/S are reserved in a PDPTE */
    expect_fault(g, VA, X86_READ, 9);
    g_assert_false(x86_pdptes_valid(g->v, G_PDPT));
    guest_put(g, G_PDPT, 0, 8);
    expect_fault(g, VA, X86_READ, 0);
    g_assert_true(x86_pdptes_valid(g->v, G_PDPT));
    guest_free(g);
}

static void test_large_pages(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct x86_mapping map = expect_map(g, 0x612345, X86_WRITE);

    g_assert_cmphex(map.gpa, ==, 0x612345);
    g_assert_cmphex(map.page_size, ==, 2 << 20);
    g_assert_true(map.dirty);
    g_assert_cmphex(guest_get(g, G_PD + 3 * 8, 8) & 0x60, ==, 0x60);
    g_assert_false(map.global);
    guest_put(g, G_PD + 3 * 8, 0x600187, 8);
    g_assert_true(expect_map(g, 0x612345, X86_READ).global);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_PGE;
    g_assert_false(expect_map(g, 0x612345, X86_READ).global);
    guest_put(g, G_PDPT, 0x87, 8);
    map = expect_map(g, 0x712345, X86_READ);
    g_assert_cmphex(map.gpa, ==, 0x712345);
    g_assert_cmphex(map.page_size, ==, 1 << 30);
    guest_free(g);

    g = guest_new(GUEST_PROT);
    map = expect_map(g, 0x812345, X86_READ);
    g_assert_cmphex(map.gpa, ==, 0x812345);
    g_assert_cmphex(map.page_size, ==, 4 << 20);
    guest_put(g, G_PD + 2 * 4, 0x800087 | 3 << 13, 4); /* PSE-36: bits 39:32 */
    g_assert_cmphex(expect_map(g, 0x812345, X86_READ).gpa, ==, 0x300812345ull);
    guest_put(g, G_PD + 2 * 4, 0x800087 | 1 << 21, 4);
    expect_fault(g, 0x812345, X86_READ, 9);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_PSE; /* PS is ignored then: 0xa00000 is a table */
    expect_fault(g, 0x812345, X86_READ, 0);
    guest_free(g);
}

static void test_no_paging(void)
{
    struct guest *g = guest_new(GUEST_REAL);
    struct x86_mapping map = expect_map(g, 0xabcde, X86_WRITE);

    g_assert_cmphex(map.gpa, ==, 0xabcde);
    g_assert_true(map.user && map.writable && map.executable && map.dirty);
    guest_free(g);
}

static void test_written_tables(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct mem_frame_info *info = mem_frame_info(g->v->mem, G_PT >> 12);
    uint32_t before;

    atomic_fetch_or(&info->flags, MEM_CODE);
    atomic_store(&info->code_lines, UINT64_MAX);
    before = atomic_load(&info->code_generation);
    expect_map(g, VA, X86_WRITE); /* sets A and D in a page that is also code */
    g_assert_cmpuint(atomic_load(&info->code_generation), >, before);
    before = atomic_load(&info->code_generation);
    expect_map(g, VA, X86_WRITE);
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before);
    guest_free(g);
}

static void test_linear_cross(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    const uint64_t va = 0x101ffc;
    uint64_t value = 0x1122334455667788, back = 0;

    /* The two pages are not neighbours in memory. */
    guest_put(g, G_PT + 0x102 * 8, 0x30000 | 7, 8);
    g_assert_true(x86_write_linear(g->v, va, &value, 8, X86_WRITE, &g->fault));
    g_assert_cmphex(guest_get(g, va, 4), ==, 0x55667788);
    g_assert_cmphex(guest_get(g, 0x30000, 4), ==, 0x11223344);
    g_assert_true(x86_read_linear(g->v, va, &back, 8, X86_READ, &g->fault));
    g_assert_cmphex(back, ==, value);
    /* The second page is missing: nothing is written to the first. */
    guest_put(g, G_PT + 0x102 * 8, 0, 8);
    value = 0;
    g_assert_false(x86_write_linear(g->v, va, &value, 8, X86_WRITE, &g->fault));
    g_assert_fault(g, CPU_PAGE_FAULT, 2);
    g_assert_cmphex(g->fault.cr2, ==, 0x102000);
    g_assert_cmphex(guest_get(g, va, 4), ==, 0x55667788);
    guest_free(g);
}

static void test_linear_mmio(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct guest_log *log = guest_log(g);
    uint8_t buf[12] = {1, 2, 3};
    uint32_t value = 0;

    guest_put(g, G_PT + 0x102 * 8, 0xfee00000 | 7, 8);
    log->mmio_value = 0xcafe;
    g_assert_true(x86_read_linear(g->v, 0x102020, &value, 4, X86_READ, &g->fault));
    g_assert_cmphex(value, ==, 0xcafe);
    g_assert_cmphex(log->mmio_gpa, ==, 0xfee00020);
    g_assert_cmpuint(log->mmio_size, ==, 4);
    g_assert_true(x86_write_linear(g->v, 0x102080, buf, 12, X86_WRITE, &g->fault));
    g_assert_cmpuint(log->mmio_writes, ==, 2); /* 8 + 4 */
    g_assert_cmphex(log->mmio_gpa, ==, 0xfee00088);
    guest_free(g);
}

static void test_linear_code_page(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct mem_frame_info *info = mem_frame_info(g->v->mem, 0x101);
    uint32_t before = atomic_load(&info->code_generation);
    uint8_t byte = 0x90;

    atomic_fetch_or(&info->flags, MEM_CODE);
    atomic_store(&info->code_lines, 1ull << 63 | 1);
    g_assert_true(x86_write_linear(g->v, 0x101040, &byte, 1, X86_WRITE, &g->fault));
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before); /* no such line */
    g_assert_true(x86_write_linear(g->v, 0x101005, &byte, 1, X86_WRITE, &g->fault));
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before + 1);
    g_assert_true(x86_read_linear(g->v, 0x101005, &byte, 1, X86_READ, &g->fault));
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before + 1);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/x86/paging/matrix-long", GINT_TO_POINTER(GUEST_LONG), test_matrix);
    g_test_add_data_func("/x86/paging/matrix-pae", GINT_TO_POINTER(GUEST_PAE), test_matrix);
    g_test_add_func("/x86/paging/matrix-32", test_matrix_32);
    g_test_add_func("/x86/paging/not-present", test_not_present);
    g_test_add_func("/x86/paging/reserved-long", test_reserved_long);
    g_test_add_func("/x86/paging/reserved-pae", test_reserved_pae);
    g_test_add_func("/x86/paging/large-pages", test_large_pages);
    g_test_add_func("/x86/paging/off", test_no_paging);
    g_test_add_func("/x86/paging/written-tables", test_written_tables);
    g_test_add_func("/x86/linear/two-pages", test_linear_cross);
    g_test_add_func("/x86/linear/mmio", test_linear_mmio);
    g_test_add_func("/x86/linear/code-page", test_linear_code_page);
    return g_test_run();
}
