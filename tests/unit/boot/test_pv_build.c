/* SPDX-License-Identifier: MIT */
/* The PV domain builder: what lies where, what is mapped how, and what is refused. */
#include <stdint.h>
#include <string.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <xen/elfnote.h>
#include <xen/xen.h>
#pragma GCC diagnostic pop

#include "boot/pv_build.h"
#include "fake_kernel.h"

#define BASE 0xffffffff80000000ull
static const uint64_t MIB = 1 << 20;

enum { P = 1, RW = 2, US = 4 };

struct fixture {
    struct boot_image *img;
    struct mem *mem;
    struct pv_params params;
    struct pv_layout out;
    struct start_info si;
};

static void set_up(struct fixture *f, uint64_t ram)
{
    GByteArray *elf = fake_kernel_elf(0);
    GError *err = NULL;

    memset(f, 0, sizeof(*f));
    f->img = boot_image_from_memory("vmlinuz", elf->data, elf->len, &err);
    g_assert_no_error(err);
    f->mem = mem_new(ram, 0, &err);
    g_assert_no_error(err);
    f->params = (struct pv_params){
        .cmdline = "console=hvc0", .nr_pages = ram >> 12, .shared_info = 0x123000,
        .store_port = 1, .console_port = 2};
    g_byte_array_free(elf, TRUE);
}

static void tear_down(struct fixture *f)
{
    boot_image_free(f->img);
    mem_free(f->mem);
}

static uint64_t peek(struct fixture *f, uint64_t gpa)
{
    uint64_t value;

    g_assert_true(mem_read(f->mem, gpa, &value, sizeof(value)));
    return value;
}

/* The entry that maps gva; 0: none. */
static uint64_t walk(struct fixture *f, uint64_t gva)
{
    uint64_t entry = f->out.root_mfn << 12 | P;

    for (unsigned shift = 39; shift >= 12 && (entry & P) != 0; shift -= 9) {
        entry = peek(f, (entry & 0xffffffffff000) + (gva >> shift & 511) * 8);
    }
    return (entry & P) != 0 ? entry : 0;
}

static void build(struct fixture *f)
{
    GError *err = NULL;
    uint64_t si;

    g_assert_true(pv_build(f->img, f->mem, &f->params, &f->out, &err));
    g_assert_no_error(err);
    si = walk(f, f->out.start_info);
    g_assert_true(mem_read(f->mem, si & 0xffffffffff000, &f->si, sizeof(f->si)));
}

static void expect_error(struct fixture *f, const char *message)
{
    GError *err = NULL;

    g_assert_false(pv_build(f->img, f->mem, &f->params, &f->out, &err));
    g_assert_cmpstr(err->message, ==, message);
    g_error_free(err);
}

/* From VIRT_BASE on the kernel's pages follow each other; tables, and only they, are read-only. */
static void check_mapping(struct fixture *f)
{
    const uint64_t first = f->si.pt_base, end = first + f->si.nr_pt_frames * 4096;
    uint64_t va = BASE;

    for (; va >= BASE && walk(f, va) != 0; va += 4096) {
        uint64_t entry = walk(f, va);

        g_assert_cmphex((entry & 0xffffffffff000) >> 12, ==, (va - BASE) >> 12);
        g_assert_cmphex(entry & (P | RW | US), ==, va >= first && va < end ? P : P | RW);
    }
    g_assert_cmphex(va % (4 << 20), ==, 0);
    g_assert_cmphex(va, >=, f->out.stack + (512 << 10));
}

static void test_linux(void)
{
    static const uint8_t initrd[5000] = {0xaa, 0xbb};
    uint8_t bytes[2];
    struct fixture f;

    set_up(&f, 64 * MIB);
    f.params.initrd = initrd;
    f.params.initrd_len = sizeof(initrd);
    build(&f);
    g_assert_cmphex(f.out.entry, ==, 0xffffffff81001000);
    g_assert_false(f.out.has_hypercall_page);
    g_assert_cmphex(peek(&f, FAKE_DATA_GPA) & 0xff, ==, 0x40);
    g_assert_cmpstr(f.si.magic, ==, "xen-3.0-x86_64");
    g_assert_cmpuint(f.si.nr_pages, ==, 64 << 8);
    g_assert_cmphex(f.si.shared_info, ==, 0x123000);
    g_assert_cmpuint(f.si.store_evtchn, ==, 1);
    g_assert_cmpuint(f.si.console.domU.evtchn, ==, 2);
    g_assert_cmpstr((const char *)f.si.cmd_line, ==, "console=hvc0");
    g_assert_cmphex(f.si.flags, ==, SIF_MOD_START_PFN);
    g_assert_true(mem_read(f.mem, f.si.mod_start << 12, bytes, 2));
    g_assert_cmphex(bytes[0], ==, 0xaa);
    g_assert_cmpuint(f.si.mod_len, ==, sizeof(initrd));
    g_assert_cmphex(f.si.mfn_list, ==, 0x8000000000);
    check_mapping(&f);
    for (uint64_t pfn = 0; pfn < f.si.nr_pages; pfn += 511) {
        uint64_t va = f.si.mfn_list + pfn * 8;

        g_assert_cmphex(peek(&f, (walk(&f, va) & 0xffffffffff000) + va % 4096), ==, pfn);
    }
    /* 16384 entries are 32 pages; L3, L2 and L1 behind them. */
    g_assert_cmpuint(f.si.nr_p2m_frames, ==, 32 + 3);
    g_assert_cmpuint(f.si.first_p2m_pfn, >, f.si.mod_start);
    tear_down(&f);
}

/* A kernel that knows neither note: everything is in the one mapping. */
static void test_mapped(void)
{
    static const uint8_t initrd[9000] = {0xcc};
    struct fixture f;

    set_up(&f, 64 * MIB);
    f.img->notes.present &= ~(1u << XEN_ELFNOTE_INIT_P2M | 1u << XEN_ELFNOTE_MOD_START_PFN);
    f.img->notes.present |= 1u << XEN_ELFNOTE_HYPERCALL_PAGE;
    f.img->notes.hypercall_page = 0xffffffff81002000;
    f.params.initrd = initrd;
    f.params.initrd_len = sizeof(initrd);
    build(&f);
    g_assert_cmphex(f.si.flags, ==, 0);
    g_assert_cmphex(f.si.mod_start, ==, BASE + 0x1013000);
    g_assert_cmphex(f.si.mfn_list, ==, f.si.mod_start + 3 * 4096);
    g_assert_cmpuint(f.si.first_p2m_pfn, ==, (f.si.mfn_list - BASE) >> 12);
    g_assert_cmpuint(f.si.nr_p2m_frames, ==, 32);
    g_assert_cmphex(f.out.start_info, ==, f.si.mfn_list + 32 * 4096);
    g_assert_cmpuint(f.out.store_mfn, ==, ((f.out.start_info - BASE) >> 12) + 1);
    g_assert_cmpuint(f.out.console_mfn, ==, f.out.store_mfn + 1);
    g_assert_cmphex(f.si.pt_base, ==, f.out.start_info + 3 * 4096);
    g_assert_cmphex(f.out.stack, ==, f.si.pt_base + (f.si.nr_pt_frames + 1) * 4096);
    g_assert_true(f.out.has_hypercall_page);
    g_assert_cmphex(f.out.hypercall_page, ==, 0x1002000);
    check_mapping(&f);
    tear_down(&f);
}

/* Frames above 4 GiB have other numbers than pages. */
static void test_hole(void)
{
    struct fixture f;
    uint64_t va, pfn = MEM_LOW_END >> 12;

    set_up(&f, 5ull << 30);
    build(&f);
    for (unsigned i = 0; i < 2; i++) {
        va = f.si.mfn_list + (pfn - 1 + i) * 8;
        g_assert_cmphex(peek(&f, (walk(&f, va) & 0xffffffffff000) + va % 4096), ==,
                        i == 0 ? pfn - 1 : MEM_HIGH_START >> 12);
    }
    tear_down(&f);
}

/* -m SIZE,max=: what the guest does not begin with is in no list and no table. */
static void test_begins_small(void)
{
    struct fixture f;

    set_up(&f, 256 * MIB);
    f.params.nr_pages = 64 << 8;
    build(&f);
    g_assert_cmpuint(f.si.nr_pages, ==, 64 << 8);
    g_assert_cmpuint(f.si.nr_p2m_frames, ==, 32 + 3);
    g_assert_cmphex(walk(&f, f.si.mfn_list + 31 * 4096), !=, 0);
    g_assert_cmphex(walk(&f, f.si.mfn_list + 32 * 4096), ==, 0);
    f.params.nr_pages = 17 << 8;
    expect_error(&f, "'vmlinuz' does not fit: kernel, initrd and their tables need 21 MiB, -m gives "
                     "17 MiB\nhint: -m 64M");
    tear_down(&f);
}

static void test_errors(void)
{
    g_autofree char *longest = g_strnfill(PV_CMDLINE_MAX + 1, 'x');
    struct fixture f;

    set_up(&f, 17 * MIB);
    expect_error(&f, "'vmlinuz' does not fit: kernel, initrd and their tables need 21 MiB, -m gives "
                     "17 MiB\nhint: -m 64M");
    tear_down(&f);
    set_up(&f, 64 * MIB);
    f.params.cmdline = longest;
    expect_error(&f, "the kernel command line has 1024 characters; a PV guest takes 1023");
    f.params.cmdline = NULL;
    f.img->notes.entry = 0x1000;
    expect_error(&f, "'vmlinuz' is damaged: its PV entry is 0x1000");
    f.img->notes.entry = 0xffffffff81001000;
    f.img->notes.init_p2m = BASE - 4096;
    expect_error(&f, "'vmlinuz' is damaged: its INIT_P2M is 0xffffffff7ffff000");
    f.img->notes.init_p2m = 0x8000000001;
    expect_error(&f, "'vmlinuz' is damaged: its INIT_P2M is 0x8000000001");
    f.img->notes.init_p2m = 0x8000000000;
    f.img->notes.virt_base = BASE + 1;
    expect_error(&f, "'vmlinuz' is damaged: its VIRT_BASE is 0xffffffff80000001");
    f.img->notes.virt_base = BASE;
    f.img->notes.paddr_offset = UINT64_MAX;
    expect_error(&f, "'vmlinuz' is damaged: its PADDR_OFFSET is 0xffffffffffffffff");
    f.img->notes.paddr_offset = 0;
    f.img->notes.present |= 1u << XEN_ELFNOTE_HYPERCALL_PAGE;
    f.img->notes.hypercall_page = 0xffffffff81002010;
    expect_error(&f, "'vmlinuz' is damaged: its hypercall page is 0xffffffff81002010");
    f.img->elf_class = 32;
    expect_error(&f, "'vmlinuz' is a 32-bit Xen PV kernel; pvemu runs 64-bit ones, and this one by "
                     "-machine pvh");
    tear_down(&f);
}

/* Whatever the notes say, nothing is written outside of memory and nothing loops. */
static void test_hostile(void)
{
    GRand *r = g_rand_new_with_seed(7);

    for (unsigned i = 0; i < 300; i++) {
        struct fixture f;
        GError *err = NULL;

        set_up(&f, 64 * MIB);
        f.img->notes.present = g_rand_int(r) | 1u << XEN_ELFNOTE_VIRT_BASE;
        f.img->notes.virt_base = ((uint64_t)g_rand_int(r) << 32 | g_rand_int(r)) & ~0xfffull;
        f.img->notes.virt_base |= g_rand_boolean(r) ? 0xfffffffff0000000 : 0;
        f.img->notes.init_p2m = ((uint64_t)g_rand_int(r) << 32 | g_rand_int(r)) & ~0xfffull;
        f.img->notes.entry = f.img->notes.virt_base + 0x1000000;
        f.img->notes.hypercall_page = f.img->notes.virt_base + 0x1001000;
        if (!pv_build(f.img, f.mem, &f.params, &f.out, &err)) {
            g_assert_nonnull(err);
        }
        g_clear_error(&err);
        tear_down(&f);
    }
    g_rand_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/pv/linux", test_linux);
    g_test_add_func("/boot/pv/mapped", test_mapped);
    g_test_add_func("/boot/pv/hole", test_hole);
    g_test_add_func("/boot/pv/begins_small", test_begins_small);
    g_test_add_func("/boot/pv/errors", test_errors);
    g_test_add_func("/boot/pv/hostile", test_hostile);
    return g_test_run();
}
