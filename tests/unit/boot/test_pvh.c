/* SPDX-License-Identifier: MIT */
/* Placement in guest memory, the start info, and what does not fit. */
#include <stdint.h>
#include <string.h>
#include <xen/arch-x86/hvm/start_info.h>

#include "boot/pvh.h"
#include "fake_kernel.h"

static const uint64_t MIB = 1 << 20;

struct fixture {
    struct boot_image *img;
    struct mem *mem;
    struct pvh_layout layout;
    struct pvh_params params;
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
    f->params.acpi = (struct acpi_params){.nr_vcpus = 1, .ioapic = true, .uart = true};
    g_byte_array_free(elf, TRUE);
}

static void tear_down(struct fixture *f)
{
    boot_image_free(f->img);
    mem_free(f->mem);
}

static void expect_error(struct fixture *f, const char *message)
{
    GError *err = NULL;

    g_assert_false(pvh_build(f->img, f->mem, &f->params, &f->layout, &err));
    g_assert_cmpstr(err->message, ==, message);
    g_error_free(err);
}

static void peek(struct fixture *f, uint64_t gpa, void *buf, size_t len)
{
    g_assert_true(mem_read(f->mem, gpa, buf, len));
}

static void test_layout(void)
{
    static const uint8_t initrd[5000] = {0xaa, 0xbb};
    struct hvm_memmap_table_entry map[8];
    struct hvm_modlist_entry mod;
    struct hvm_start_info info;
    struct fixture f;
    GError *err = NULL;
    char text[32];
    uint8_t b[2];

    set_up(&f, 64 * MIB);
    b[0] = 0xff; /* a dirty page where bss goes: a reboot finds its own leavings */
    g_assert_true(mem_write(f.mem, FAKE_DATA_GPA + FAKE_DATA_SIZE, b, 1));
    f.params.cmdline = "console=hvc0 quiet";
    f.params.initrd = initrd;
    f.params.initrd_len = sizeof(initrd);
    g_assert_true(pvh_build(f.img, f.mem, &f.params, &f.layout, &err));
    g_assert_no_error(err);

    peek(&f, FAKE_TEXT_GPA + 8, b, 2);
    g_assert_cmphex(b[0], ==, 0xe8);
    g_assert_cmphex(b[1], ==, 1);
    peek(&f, FAKE_DATA_GPA + FAKE_DATA_SIZE, b, 1);
    g_assert_cmphex(b[0], ==, 0);
    g_assert_cmphex(f.layout.initrd, ==, 64 * MIB - 8192);
    peek(&f, f.layout.initrd, b, 2);
    g_assert_cmphex(b[1], ==, 0xbb);

    g_assert_cmphex(f.layout.start_info, >=, FAKE_DATA_GPA + FAKE_DATA_MEM);
    peek(&f, f.layout.start_info, &info, sizeof(info));
    g_assert_cmphex(info.magic, ==, 0x336ec578);
    g_assert_cmpuint(info.version, ==, 1);
    g_assert_cmpuint(info.nr_modules, ==, 1);
    g_assert_cmphex(info.rsdp_paddr, ==, 0xe0000);
    peek(&f, info.modlist_paddr, &mod, sizeof(mod));
    g_assert_cmphex(mod.paddr, ==, f.layout.initrd);
    g_assert_cmpuint(mod.size, ==, sizeof(initrd));
    peek(&f, info.cmdline_paddr, text, 19);
    g_assert_cmpstr(text, ==, "console=hvc0 quiet");
    g_assert_cmpuint(info.memmap_entries, ==, 3);
    peek(&f, info.memmap_paddr, map, 3 * sizeof(map[0]));
    g_assert_cmphex(map[1].addr, ==, 0xa0000);
    g_assert_cmpuint(map[1].type, ==, E820_RESERVED);
    g_assert_cmphex(map[2].addr + map[2].size, ==, 64 * MIB);
    peek(&f, info.rsdp_paddr, text, 8);
    g_assert_cmpint(memcmp(text, "RSD PTR ", 8), ==, 0);
    tear_down(&f);
}

static void test_no_initrd_no_cmdline(void)
{
    struct hvm_start_info info;
    struct fixture f;

    set_up(&f, 32 * MIB);
    g_assert_true(pvh_build(f.img, f.mem, &f.params, &f.layout, NULL));
    peek(&f, f.layout.start_info, &info, sizeof(info));
    g_assert_cmpuint(info.nr_modules, ==, 0);
    g_assert_cmphex(info.cmdline_paddr, ==, 0);
    g_assert_cmphex(info.modlist_paddr, ==, 0);
    tear_down(&f);
}

static void test_taken(void)
{
    static const uint8_t initrd[4096] = {1};
    struct e820_entry taken[] = {
        {64 * MIB - 4096, 4096, E820_RESERVED},
        {0xfec00000, 4096, E820_RESERVED},
        {FAKE_DATA_GPA + FAKE_DATA_MEM, 4096, E820_RESERVED},
    };
    struct fixture f;

    set_up(&f, 64 * MIB);
    f.params.initrd = initrd;
    f.params.initrd_len = sizeof(initrd);
    f.params.taken = taken;
    f.params.nr_taken = 3;
    g_assert_true(pvh_build(f.img, f.mem, &f.params, &f.layout, NULL));
    g_assert_cmphex(f.layout.initrd, ==, 64 * MIB - 8192);
    g_assert_cmphex(f.layout.start_info, >=, FAKE_DATA_GPA + FAKE_DATA_MEM + 4096);
    g_assert_cmpuint(f.layout.e820.count, ==, 7);
    for (unsigned i = 1; i < f.layout.e820.count; i++) {
        const struct e820_entry *e = &f.layout.e820.entries[i];

        g_assert_cmphex(e[-1].addr + e[-1].size, <=, e->addr);
    }
    g_assert_cmphex(f.layout.e820.entries[6].addr, ==, 0xfec00000);
    tear_down(&f);
}

static void test_high_memory(void)
{
    struct fixture f;
    const struct e820_entry *last;

    set_up(&f, 4096 * MIB); /* a memfd: nothing is used until it is touched */
    g_assert_true(pvh_build(f.img, f.mem, &f.params, &f.layout, NULL));
    last = &f.layout.e820.entries[f.layout.e820.count - 1];
    g_assert_cmphex(last->addr, ==, 0x100000000);
    g_assert_cmphex(last->size, ==, 1024 * MIB);
    tear_down(&f);
}

static void test_errors(void)
{
    g_autofree char *longest = g_strnfill(2048, 'x');
    g_autofree uint8_t *initrd = g_malloc0(24 * MIB);
    struct fixture f;

    set_up(&f, 16 * MIB);
    expect_error(&f, "'vmlinuz' does not fit: kernel and initrd need 17 MiB, -m gives 16 MiB\n"
                     "hint: -m 64M");
    tear_down(&f);
    set_up(&f, 32 * MIB);
    f.params.initrd = initrd;
    f.params.initrd_len = 24 * MIB;
    expect_error(&f, "'vmlinuz' does not fit: kernel and initrd need 41 MiB, -m gives 32 MiB\n"
                     "hint: -m 64M");
    f.params.initrd = NULL;
    f.params.initrd_len = 0;
    f.params.cmdline = longest;
    expect_error(&f, "the kernel command line has 2048 characters; Linux takes at most 2047");
    f.params.cmdline = NULL;
    f.params.acpi.nr_vcpus = 128;
    expect_error(&f, "-smp 128: a PVH guest has 1 to 127 CPUs");
    f.params.acpi.nr_vcpus = 1;
    f.img->segments[0].gpa = 0x9f000;
    expect_error(&f, "'vmlinuz' wants to be loaded at 0x9f000, where a PC has no memory");
    f.img->phys_end = 0xc0001000;
    expect_error(&f, "'vmlinuz' wants to be loaded above 3 GiB (up to 0xc0001000)");
    tear_down(&f);
}

static void test_vcpu(void)
{
    struct pvh_layout layout = {.entry = 0x1000850, .start_info = 0x2000};
    struct cpu_x86 cpu = {0};

    pvh_vcpu_init(&cpu, &layout);
    g_assert_cmphex(cpu.rip, ==, 0x1000850);
    g_assert_cmphex(cpu.gpr[CPU_RBX], ==, 0x2000);
    g_assert_cmphex(cpu.cr0, ==, CPU_CR0_PE | CPU_CR0_ET);
    g_assert_cmphex(cpu.rflags, ==, 2);
    g_assert_cmphex(cpu.seg[CPU_CS].attr, ==, 0xc09b);
    g_assert_cmphex(cpu.seg[CPU_SS].attr, ==, 0xc093);
    g_assert_cmphex(cpu.seg[CPU_GS].limit, ==, 0xffffffff);
    g_assert_cmphex(cpu.tr.attr, ==, 0x8b);
    g_assert_cmphex(cpu.tr.limit, ==, 0x67);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/pvh/layout", test_layout);
    g_test_add_func("/boot/pvh/no-initrd-no-cmdline", test_no_initrd_no_cmdline);
    g_test_add_func("/boot/pvh/taken-ranges", test_taken);
    g_test_add_func("/boot/pvh/memory-above-4g", test_high_memory);
    g_test_add_func("/boot/pvh/errors", test_errors);
    g_test_add_func("/boot/pvh/vcpu-entry-state", test_vcpu);
    return g_test_run();
}
