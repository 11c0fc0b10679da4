/* SPDX-License-Identifier: MIT */
/*
 * User mode: two sets of tables, system calls, faults, software interrupts and privileged
 * instructions from there; GS of either half; events while the user runs.
 */
#include "pv.h"

#define UV 0x10000000ull /* where the user's page lies, in its own tables only */

static struct shared_info *si;
static uint8_t *user_page;
static void *user_l4;
static uint64_t user_stack;
static uint64_t seen_rax;
static uint64_t counted;

/* User code, copied to UV; each is entered at its offset. */
extern uint8_t user_code[], user_code_end[], user_syscall[], user_int80[], user_int20[],
    user_fault[], user_hlt[], user_gs[], user_cpuid[], user_spin[], user_rdmsr[],
    user_sysenter[], user_ud2[], user_cli[], user_in[], user_peek[], user_ldt[], user_far[],
    user_compat[];
__asm__(".text\n"
        "user_code:\n"
        "user_syscall: movq $1234, %rax; movq $55, %rcx; syscall; ud2\n"
        "user_int80: movq $77, %rax; int $0x80; ud2\n"
        "user_int20: int $0x20; ud2\n"
        "user_fault: movq $0x123456000, %rbx; movq (%rbx), %rax; ud2\n"
        "user_hlt: hlt; ud2\n"
        "user_gs: movq %gs:8, %rax; int $0x80; ud2\n"
        "user_cpuid: movl $0x40000000, %eax; ud2; .ascii \"xen\"; cpuid; movl %ebx, %eax;"
        " int $0x80; ud2\n"
        "user_spin: incq 0x10000f00; jmp user_spin\n"
        "user_rdmsr: movl $0x10, %ecx; rdmsr; ud2\n"
        "user_sysenter: sysenter; ud2\n"
        "user_cli: cli; ud2\n"
        "user_in: inb $0x80, %al; ud2\n"
        "user_peek: movq 0x10000f08, %rbx; movq (%rbx), %rax; ud2\n"
        "user_ldt: movl $7, %ecx; movl %ecx, %fs; movl %fs:0xf20, %eax;"
        " int $0x80; ud2\n"
        "user_far: movl $88, %eax; int $0x80; ud2\n"
        "user_ud2: ud2\n"
        ".code32\n"
        "user_compat: movl $1235, %eax; movl $55, %ecx; syscall\n"
        "ud2\n"
        ".code64\n"
        "user_code_end:\n");

static uint64_t entry(const void *va, uint64_t flags)
{
    return va_mfn(va) << 12 | flags;
}

/* Tables of the user: its own page and nothing of the kernel's. */
static void make_user_tables(void)
{
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc();
    void *const tables[] = {l1, l2, l3, l4};

    user_page = page_alloc();
    for (unsigned i = 0; i < (size_t)(user_code_end - user_code); i++) {
        user_page[i] = user_code[i];
    }
    user_stack = UV + 4096;
    user_l4 = l4;
    l1[UV >> 12 & 511] = entry(user_page, P | RW | US);
    l2[UV >> 21 & 511] = entry(l1, P | RW | US);
    l3[0] = entry(l2, P | RW | US);
    l4[0] = entry(l3, P | RW | US);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(make_ro(tables[i]), 0);
    }
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(l4), 0), 0);
}

static bool come_back(struct frame *f)
{
    seen_rax = f->rax;
    user_return(f);
    return true;
}

static void run_user(const uint8_t *code)
{
    hook = come_back;
    user_enter(UV + (uint64_t)(code - user_code), user_stack, 0x202);
    hook = NULL;
}

static uint64_t user_rip(const uint8_t *code)
{
    return UV + (uint64_t)(code - user_code);
}

static void check_hit(const uint8_t *code, uint64_t at)
{
    run_user(code);
    CHECK(last.vector, 1);
    CHECK(last.cs & 0xffff, 0xe033);
    CHECK(last.rip, at);
    CHECK(HC1(get_debugreg, 6) & 15, 1);
    CHECK(HC2(set_debugreg, 6, 0xffff0ff0), 0);
}

/* Breakpoints in the debug registers hit in programs, too. */
static void check_breakpoints(void)
{
    CHECK(HC2(set_debugreg, 0, user_rip(user_int80)), 0);
    CHECK(HC2(set_debugreg, 7, 2), 0);
    check_hit(user_int80, user_rip(user_int80));
    CHECK(HC2(set_debugreg, 0, UV + 0xf00), 0);
    CHECK(HC2(set_debugreg, 7, 2 | 1 << 16 | 2 << 18), 0); /* writes of eight bytes */
    check_hit(user_spin, user_rip(user_spin) + 8);
    CHECK(HC2(set_debugreg, 7, 0), 0);
    run_user(user_int80);
    CHECK(last.vector, 0x80);
}

static void check_calls(void)
{
    run_user(user_syscall);
    CHECK(last.vector, V_SYSCALL);
    CHECK(seen_rax, 1234);
    CHECK(last.rcx, user_rip(user_int80) - 2);
    CHECK(last.rip, user_rip(user_int80) - 2);
    CHECK(last.r11 & 0x3200, 0x200);
    CHECK(last.cs & 0xffff, 0xe033);
    CHECK(last.ss, 0xe02b);
    CHECK(last.rsp, user_stack);
    run_user(user_int80);
    CHECK(last.vector, 0x80);
    CHECK(seen_rax, 77);
    CHECK(last.rip, user_rip(user_int20) - 2);
    run_user(user_int20);
    CHECK(last.vector, 13);
    CHECK(last.error, 0x20 * 8 + 2);
    CHECK(last.rip, user_rip(user_int20));
}

/* Its next step is 32-bit code. */
static bool to_compat(struct frame *f)
{
    f->cs = 0xe023;
    f->rip = user_rip(user_compat);
    hook = come_back;
    return true;
}

static void check_compat(void)
{
    hook = to_compat;
    user_enter(user_rip(user_ud2), user_stack, 0x202);
    hook = NULL;
    CHECK_TRUE(last.vector == V_SYSCALL32 || last.vector == 6); /* by vendor */
    CHECK(seen_rax, 1235);
    CHECK(last.cs & 0xffff, 0xe023);
    CHECK(last.rip, user_rip(user_code_end) - (last.vector == 6 ? 4 : 2));
}

/* Frames of system calls, which come a shorter way, show IOPL to a kernel that asked, too. */
static void check_iopl(void)
{
    hook = come_back;
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl), 0);
    user_enter(user_rip(user_syscall), user_stack, 0x3202);
    CHECK(last.vector, V_SYSCALL);
    CHECK(last.flags & 0x3200, 0x3200);
    user_enter(user_rip(user_cli), user_stack, 0x3202);
    CHECK(last.rip, user_rip(user_in) - 2); /* it may */
    user_enter(user_rip(user_syscall), user_stack, 0x202);
    CHECK(last.flags & 0x3200, 0x200);
    user_enter(user_rip(user_cli), user_stack, 0x202);
    CHECK(last.vector, 13);
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_architectural_iopl), 0);
    user_enter(user_rip(user_syscall), user_stack, 0x3202);
    CHECK(last.flags & 0x3200, 0x200);
    hook = NULL;
}

static void check_faults(void)
{
    run_user(user_fault);
    CHECK(last.vector, 14);
    CHECK(last.error, 4); /* user */
    CHECK(si->vcpu_info[0].arch.cr2, 0x123456000ull);
    CHECK(last.cs & 3, 3);
    run_user(user_hlt);
    CHECK(last.vector, 13);
    run_user(user_rdmsr);
    CHECK(last.vector, 13);
    run_user(user_cli);
    CHECK(last.vector, 13);
    run_user(user_in);
    CHECK(last.vector, 13);
    run_user(user_ud2);
    CHECK(last.vector, 6);
    CHECK(last.rip, user_rip(user_ud2));
    run_user(user_sysenter);
    CHECK_TRUE(last.vector == V_SYSENTER || last.vector == 6); /* by vendor */
    hook = come_back;
    user_enter(1ull << 60, user_stack, 0x202);
    CHECK(last.vector, 13); /* iret to where nobody can be */
    hook = NULL;
}

/* The user's tables do not have the kernel's memory, whatever its kernel has just used. */
static void check_kernel_memory(void)
{
    uint64_t *near = page_alloc(), *touched = page_alloc(), value;

    *near = *touched = 0x5ec4e7;
    ((uint64_t *)user_page)[0xf08 / 8] = (uint64_t)near;
    run_user(user_peek);
    CHECK(last.vector, 14);
    CHECK(si->vcpu_info[0].arch.cr2, near);
    __asm__ volatile("pushfq; popfq; jmp 1f\n1: movq (%1), %0"
                     : "=r"(value)
                     : "r"(touched)
                     : "memory", "cc");
    CHECK(value, 0x5ec4e7);
    ((uint64_t *)user_page)[0xf08 / 8] = (uint64_t)touched;
    run_user(user_peek);
    CHECK(last.vector, 14);
    CHECK(si->vcpu_info[0].arch.cr2, touched);
}

/* Whether a program can read the machine-to-physical table. */
static bool user_sees_m2p(void)
{
    ((uint64_t *)user_page)[0xf08 / 8] = HV;
    run_user(user_peek);
    return last.vector != 14;
}

/* The M2P is the kernel's. Tables that both use have it, unless the kernel asks for more. */
static void check_m2p(void)
{
    const uint64_t *kernel = (const uint64_t *)start_info->pt_base;
    uint64_t *l4 = page_alloc(), *strict = page_alloc();

    CHECK_TRUE(!user_sees_m2p());
    for (unsigned i = 0; i < 512; i++) {
        l4[i] = strict[i] = kernel[i];
    }
    l4[0] = strict[0] = ((uint64_t *)user_l4)[0];
    CHECK(make_ro(l4), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0), 0);
    CHECK(l4[256], 0);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0), 0);
    CHECK(l4[256], kernel[256]);
    CHECK(((const uint64_t *)HV)[va_mfn(l4)], ((uint64_t)l4 - KV) >> 12);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(kernel), 0), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(l4), 0), 0);
    CHECK_TRUE(user_sees_m2p());
    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_m2p_strict), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(l4), 0), 0);
    CHECK(l4[256], 0);
    CHECK_TRUE(!user_sees_m2p());
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0), 0); /* as a kernel's it stays without */
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(kernel), 0), 0);
    CHECK(l4[256], 0);
    CHECK_TRUE(!user_sees_m2p());
    CHECK(make_ro(strict), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(strict), 0), 0);
    CHECK(strict[256], kernel[256]);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(strict), 0), 0);
    CHECK(strict[256], 0);
    CHECK(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_m2p_strict), 0);
    CHECK(mmuext1(MMUEXT_NEW_USER_BASEPTR, va_mfn(user_l4), 0), 0);
}

static bool to_ldt_code(struct frame *f)
{
    f->cs = 1 << 3 | 7;
    f->rip = user_rip(user_far);
    hook = come_back;
    return true;
}

/* Whether FS can be loaded from the LDT. */
static bool ldt_loads(void)
{
    run_user(user_ldt);
    return last.vector == 0x80 && (uint32_t)seen_rax == 0x1234;
}

/* From its first use to SET_LDT, another base or the end of its mapping a page of the LDT is one
 * of descriptors. */
static void check_ldt_in_use(uint64_t *ldt)
{
    const uint64_t mfn = va_mfn(ldt), kernel = va_mfn((void *)start_info->pt_base);
    uint64_t *l4 = page_alloc();

    CHECK(make_rw(ldt), 0); /* not used yet */
    CHECK_TRUE(!ldt_loads()); /* it could be written to */
    CHECK(make_ro(ldt), 0);
    CHECK_TRUE(ldt_loads());
    CHECK(make_rw(ldt), -EBUSY_);
    CHECK(mmuext1(MMUEXT_CLEAR_PAGE, mfn, 0), -EINVAL_);
    CHECK(HC2(update_descriptor, mfn << 12, 0), 0);
    CHECK_TRUE(!ldt_loads());
    CHECK(HC2(update_descriptor, mfn << 12, 0x1000f2000000ffffull), 0);
    CHECK_TRUE(ldt_loads());
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)ldt, 2), 0); /* the same again */
    CHECK(make_rw(ldt), -EBUSY_);
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)ldt, 3), 0);
    CHECK(make_rw(ldt), 0);
    CHECK(make_ro(ldt), 0);
    CHECK_TRUE(ldt_loads());
    for (unsigned i = 0; i < 512; i++) {
        l4[i] = ((uint64_t *)start_info->pt_base)[i];
    }
    CHECK(make_ro(l4), 0);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0), 0);
    CHECK(make_rw(ldt), 0);
    CHECK(make_ro(ldt), 0);
    CHECK_TRUE(ldt_loads());
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0), 0); /* where it is */
    CHECK(make_rw(ldt), -EBUSY_);
    CHECK(mmuext1(MMUEXT_NEW_BASEPTR, kernel, 0), 0);
    CHECK(make_rw(ldt), 0);
    CHECK(make_ro(ldt), 0);
    CHECK_TRUE(ldt_loads());
    CHECK(update_va(ldt, 0, UVMF_INVLPG), 0);
    CHECK_TRUE(!ldt_loads()); /* looked for anew: it is not there */
    CHECK(make_rw(ldt), 0);
    CHECK(make_ro(ldt), 0);
}

/* An LDT and an I/O bitmap are looked for in the kernel's tables, which the user has not. */
static void check_kernel_tables(void)
{
    static uint8_t bitmap[8192];
    struct physdev_set_iobitmap op = {.nr_ports = 0x81};
    uint64_t *ldt = page_alloc();

    ldt[0] = 0x1000f2000000ffffull; /* data, from UV on */
    ldt[1] = 0x00affb000000ffffull; /* 64-bit code */
    ((uint64_t *)user_page)[0xf20 / 8] = 0x1234;
    CHECK(make_ro(ldt), 0);
    run_user(user_ldt);
    CHECK(last.vector, 13);
    CHECK(last.error, 4);
    CHECK(mmuext1(MMUEXT_SET_LDT, (uint64_t)ldt, 2), 0);
    check_ldt_in_use(ldt);
    CHECK_TRUE(ldt_loads());
    hook = to_ldt_code;
    user_enter(user_rip(user_ud2), user_stack, 0x202);
    hook = NULL;
    CHECK(last.vector, 0x80);
    CHECK(seen_rax, 88);
    CHECK(last.cs & 0xffff, 1 << 3 | 7);
    CHECK(mmuext1(MMUEXT_SET_LDT, 0, 0), 0);
    set_xen_guest_handle(op.bitmap, bitmap);
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &op), 0);
    run_user(user_in);
    CHECK(last.vector, 6); /* the next instruction */
    CHECK(seen_rax & 0xff, 0xff);
    bitmap[0x10] = 1;
    run_user(user_in);
    CHECK(last.vector, 13);
    op.nr_ports = 0;
    CHECK(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &op), 0);
}

static void check_cpuid(void)
{
    run_user(user_cpuid);
    CHECK(last.vector, 0x80);
    CHECK(seen_rax & 0xffffffff, 0x566e6558);
}

/* Each half has its own GS base. */
static void check_gs(void)
{
    static uint64_t kernel_gs[2] = {1, 2};
    uint64_t value;

    ((uint64_t *)user_page)[500] = 3;
    ((uint64_t *)user_page)[501] = 4;
    CHECK(HC2(set_segment_base, SEGBASE_GS_KERNEL, kernel_gs), 0);
    CHECK(HC2(set_segment_base, SEGBASE_GS_USER, UV + 4000), 0);
    run_user(user_gs);
    CHECK(seen_rax, 4);
    __asm__ volatile("movq %%gs:8, %0" : "=r"(value));
    CHECK(value, 2);
}

/* Events reach the kernel while its user runs, and only when they are not masked. */
static bool on_event(struct frame *f)
{
    if (f->vector != V_EVENT) {
        return false;
    }
    counted = ((volatile uint64_t *)user_page)[0xf00 / 8];
    CHECK(f->cs & 3, 3);
    CHECK(f->cs >> 32 & 0xff, 0);
    si->vcpu_info[0].evtchn_upcall_pending = 0;
    si->vcpu_info[0].evtchn_pending_sel = 0;
    si->evtchn_pending[0] = 0;
    user_return(f);
    f->flags &= ~0x200ull; /* masked again */
    return true;
}

static void check_events(void)
{
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct vcpu_set_periodic_timer timer = {.period_ns = 1000000};

    /* Until its user runs: a PV guest's timer ticks from its start, and nobody else takes events. */
    si->vcpu_info[0].evtchn_upcall_mask = 1;
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_virq, &op), 0);
    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &timer), 0);
    hook = on_event;
    for (unsigned i = 0; i < 20; i++) {
        user_enter(user_rip(user_spin), user_stack, 0x202);
    }
    CHECK_TRUE(counted > 0);
    CHECK(si->vcpu_info[0].evtchn_upcall_mask, 1);
    CHECK(HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0), 0);
    hook = NULL;
}

void test(void)
{
    si = map_shared_info();
    traps_init();
    CHECK(HC2(stack_switch, 0xe02b, boot_stack - 1024), 0);
    make_user_tables();
#ifdef BREAKPOINTS /* a kernel of its own, user_hit: not every processor has them */
    check_breakpoints();
    return;
#endif
    check_calls();
    check_compat();
    check_iopl();
    check_faults();
    check_kernel_memory();
    check_kernel_tables();
    check_m2p();
    check_cpuid();
    check_gs();
    check_events();
}
