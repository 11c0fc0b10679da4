/* SPDX-License-Identifier: MIT */
/* The processor of a PV kernel: what is emulated at CPL 3, what faults, and with which values. */
#include "pv.h"

static uint64_t value, index_;

#define CODE(name, ...)                                                                        \
    static void name(uint64_t argument)                                                        \
    {                                                                                          \
        (void)argument;                                                                        \
        __asm__ volatile(__VA_ARGS__);                                                         \
    }

CODE(read_cr0, "movq %%cr0, %0" : "=r"(value))
CODE(read_cr2, "movq %%cr2, %0" : "=r"(value))
CODE(read_cr3, "movq %%cr3, %0" : "=r"(value))
CODE(read_cr4, "movq %%cr4, %0" : "=r"(value))
CODE(read_cr8, "movq %%cr8, %0" : "=r"(value))
CODE(write_cr0, "movq %0, %%cr0" : : "r"(argument))
CODE(write_cr2, "movq %0, %%cr2" : : "r"(argument))
CODE(write_cr3, "movq %0, %%cr3" : : "r"(argument))
CODE(write_cr4, "movq %0, %%cr4" : : "r"(argument))
CODE(read_dr7, "movq %%dr7, %0" : "=r"(value))
CODE(write_dr0, "movq %0, %%dr0" : : "r"(argument))
CODE(write_dr7, "movq %0, %%dr7" : : "r"(argument))
CODE(do_clts, "clts")
CODE(do_wbinvd, "wbinvd")
CODE(do_invd, "invd")
CODE(do_hlt, "hlt")
CODE(do_swapgs, "swapgs")
CODE(do_sysret, "sysretq")
CODE(do_lgdt, "lgdt value(%%rip)" : : : "memory")
CODE(do_lidt, "lidt value(%%rip)" : : : "memory")
CODE(do_ltr, "ltr %w0" : : "r"(argument))
CODE(do_invlpg, "invlpg (%0)" : : "r"(argument))
CODE(do_vmcall, ".byte 0x0f, 0x01, 0xc1")
CODE(do_vmmcall, ".byte 0x0f, 0x01, 0xd9")
CODE(do_ud2, "ud2")
CODE(do_cli, "cli")
CODE(do_sti, "sti")
CODE(do_in, "inb %w1, %%al\n\tmovzbq %%al, %0" : "=a"(value) : "d"(argument))
CODE(do_out, "outb %%al, %w0" : : "d"(argument), "a"(0))
CODE(do_fpu, "fnop")
CODE(do_sse, ".byte 0x0f, 0x28, 0xc0") /* movaps %xmm0, %xmm0 */
CODE(do_rdtsc, "rdtsc" : : : "rax", "rdx")
CODE(do_xsetbv, "xsetbv" : : "a"(argument), "d"(0), "c"(0))
CODE(do_rdpmc, "rdpmc" : : "c"(0) : "rax", "rdx")

static void read_msr(uint64_t nr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(nr));
    value = (uint64_t)high << 32 | low;
}

static void write_msr(uint64_t nr)
{
    __asm__ volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(nr));
}

#define OK(code, argument) CHECK(try_call((void *)(code), argument), 0)
#define GP(code, argument)                                                                     \
    do {                                                                                       \
        CHECK(try_call((void *)(code), argument), 14);                                         \
        CHECK(last.error, 0);                                                                  \
    } while (0)
#define UD(code) CHECK(try_call((void *)(code), 0), 7)

static void check_control(void)
{
    uint64_t cr0, cr4;

    OK(read_cr0, 0);
    cr0 = value;
    CHECK(cr0 & 0x80000009, 0x80000001); /* PG PE, TS clear */
    OK(write_cr0, cr0 | 8);
    CHECK(try_call((void *)do_fpu, 0), 8); /* #NM */
    CHECK(try_call((void *)do_sse, 0), 8);
    OK(do_clts, 0);
    OK(do_fpu, 0);
    CHECK(HC1(fpu_taskswitch, 1), 0);
    CHECK(try_call((void *)do_fpu, 0), 8);
    CHECK(HC1(fpu_taskswitch, 0), 0);
    OK(do_sse, 0);
    GP(write_cr0, cr0 & ~0x80000000ull);
    GP(write_cr0, cr0 ^ 0x10000);
    OK(write_cr2, 0x1234);
    OK(read_cr2, 0);
    CHECK(value, 0x1234);
    OK(read_cr3, 0);
    CHECK(value, va_mfn((void *)start_info->pt_base) << 12);
    OK(write_cr3, value);
    GP(write_cr3, va_mfn(page_alloc()) << 12);
    OK(read_cr4, 0);
    cr4 = value;
    CHECK(cr4 & 0x6a0, 0x620); /* PAE OSFXSR OSXMMEXCPT, no PGE */
    OK(write_cr4, cr4 | 0x80); /* PGE: ignored */
    OK(read_cr4, 0);
    CHECK(value, cr4);
    OK(write_cr4, cr4 | 4); /* TSD: the kernel may all the same */
    OK(do_rdtsc, 0);
    OK(write_cr4, cr4);
    GP(read_cr8, 0);
    OK(read_dr7, 0);
    CHECK(value, 0x400);
    OK(write_dr0, KV);
    GP(write_dr0, HV);
    GP(write_dr7, 1 << 13);
    GP(write_dr7, 1ull << 32);
}

static void check_privileged(void)
{
    OK(do_wbinvd, 0);
    GP(do_invd, 0);
    GP(do_hlt, 0);
    CHECK(last.rip, (uint64_t)do_hlt);
    GP(do_swapgs, 0);
    GP(do_sysret, 0);
    GP(do_lgdt, 0);
    GP(do_lidt, 0);
    GP(do_ltr, 0);
    GP(do_invlpg, KV);
    GP(do_rdpmc, 0);
    UD(do_vmcall);
    UD(do_vmmcall);
    OK(do_xsetbv, 3);
    OK(do_xsetbv, 1);
    GP(do_xsetbv, 2);
}

static void check_io(void)
{
    static uint8_t bitmap[8192];
    struct physdev_set_iopl iopl = {.iopl = 1};
    struct physdev_set_iobitmap op = {.nr_ports = 0x81};

    GP(do_in, 0x80);
    GP(do_out, 0x80);
    GP(do_cli, 0);
    GP(do_sti, 0);
    set_xen_guest_handle(op.bitmap, bitmap);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &op), 0);
    OK(do_in, 0x80);
    CHECK(value, 0xff);
    GP(do_in, 0x81);
    bitmap[0x10] = 1;
    GP(do_in, 0x80);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl), 0);
    OK(do_in, 0xcf8);
    CHECK(value, 0xff);
    OK(do_out, 0x80);
    OK(do_out, 0x7e); /* a hypercall on other boards */
    OK(do_cli, 0);
    OK(do_sti, 0);
}

/* Both again, by the first interface. */
static void check_io_compat(void)
{
    static uint8_t bitmap[8192];
    struct physdev_op op = {.cmd = PHYSDEVOP_set_iopl};

    OK(do_cli, 0);
    CHECK(HC1(physdev_op_compat, &op), 0);
    GP(do_cli, 0);
    GP(do_in, 0x80);
    op.cmd = PHYSDEVOP_set_iobitmap;
    op.u.set_iobitmap.nr_ports = 0x82;
    set_xen_guest_handle(op.u.set_iobitmap.bitmap, bitmap);
    CHECK(HC1(physdev_op_compat, &op), 0);
    OK(do_in, 0x81);
    GP(do_in, 0x82);
    bitmap[0x10] = 2;
    OK(do_in, 0x80);
    GP(do_in, 0x81);
    op.cmd = PHYSDEVOP_set_iopl;
    op.u.set_iopl.iopl = 1;
    CHECK(HC1(physdev_op_compat, &op), 0);
    OK(do_in, 0x81);
    OK(do_cli, 0);
}

static uint64_t new_iopl;

static bool change_iopl(struct frame *f)
{
    f->flags = (f->flags & ~0x3000ull) | new_iopl << 12;
    f->rip += 2;
    return true;
}

/* RFLAGS.IOPL of frames is 0 and means nothing, until the kernel asks to have it. */
static void check_iopl_in_frames(void)
{
    struct physdev_set_iopl iopl = {.iopl = 1};

    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl), 0);
    hook = change_iopl;
    new_iopl = 0;
    __asm__ volatile("ud2");
    CHECK(last.flags & 0x3000, 0);
    OK(do_cli, 0); /* still 1 */
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl), 0);
    __asm__ volatile("ud2");
    CHECK(last.flags & 0x3000, 0x1000);
    hook = NULL;
    GP(do_cli, 0);
    CHECK(last.flags & 0x3000, 0); /* as iret said */
    hook = change_iopl;
    new_iopl = 3;
    __asm__ volatile("ud2");
    hook = NULL;
    OK(do_cli, 0);
    CHECK(try_call((void *)do_ud2, 0), 7);
    CHECK(last.flags & 0x3000, 0x3000);
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_architectural_iopl), 0);
    CHECK(try_call((void *)do_ud2, 0), 7);
    CHECK(last.flags & 0x3000, 0);
    OK(do_cli, 0);
    iopl.iopl = 0;
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl), 0);
    GP(do_cli, 0);
}

static void check_msrs(void)
{
    uint64_t efer;

    OK(read_msr, 0xc0000080);
    efer = value;
    CHECK(efer & 0x501, 0x501);
    OK(write_msr, 0xc0000080);
    value = efer ^ 1;
    GP(write_msr, 0xc0000080);
    value = (uint64_t)&index_;
    OK(write_msr, 0xc0000100);
    OK(read_msr, 0xc0000100);
    CHECK(value, (uint64_t)&index_);
    value = 1ull << 60;
    GP(write_msr, 0xc0000101);
    OK(read_msr, 0x277);
    CHECK(value, 0x0000050100070406ull);
    OK(read_msr, 0x1b);
    CHECK(value, 0xfee00900);
    OK(read_msr, 0x10);
    CHECK_TRUE(value != 0);
    GP(read_msr, 0x12345678);
    GP(write_msr, 0x12345678);
    CHECK(HC1(set_trap_table, 0), 0); /* nobody could handle #GP: nothing happens */
    read_msr(0x12345678);
    CHECK(value, 0);
    write_msr(0x12345678);
    traps_init();
}

static void check_cpuid(void)
{
    uint32_t a = 0x40000000, b, c = 0, d, a2 = 0x40000000, b2, c2 = 0, d2;

    __asm__ volatile("ud2\n\t.ascii \"xen\"\n\tcpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    __asm__ volatile("cpuid" : "+a"(a2), "=b"(b2), "+c"(c2), "=d"(d2));
    CHECK(a, 0x40000005);
    CHECK(b, 0x566e6558);
    CHECK(a2 == a && b2 == b && c2 == c && d2 == d, 1);
    a = 1;
    c = 0;
    __asm__ volatile("ud2\n\t.ascii \"xen\"\n\tcpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK(c & (1u << 31 | 1u << 27 | 1u << 21 | 1u << 3), 1u << 31 | 1u << 27);
    CHECK(d & (1u << 3 | 1u << 13 | 1u << 6), 1u << 6); /* no PSE, no PGE, PAE */
    a = 7, c = 0;
    __asm__ volatile("ud2\n\t.ascii \"xen\"\n\tcpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK(b & 0x482, 0); /* TSC_ADJUST, SMEP, INVPCID: what the kernel could not use */
}

void test(void)
{
    traps_init();
    check_control();
    check_privileged();
    check_io();
    check_io_compat();
    check_iopl_in_frames();
    check_msrs();
    check_cpuid();
}
