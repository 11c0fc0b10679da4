/* SPDX-License-Identifier: MIT */
/*
 * Second CPUs by vcpu_op: what initialise refuses, up and down by the others and by themselves,
 * NMIs (PV kernels: pv/traps.c). CPU 1 runs second(); CPU 2 of a PVH kernel runs 32-bit code.
 */
#include "ops.h"

static context_type context, good;
static uint8_t stack[4096] __attribute__((aligned(16)));
static volatile unsigned long ticks, question, answer;
static volatile bool leave, halt;
static volatile long left = 1; /* what its own down returned, once it is back */

/* A CPU that is started has no tables of descriptors. */
static void use_idt(void);

/* What CPU 1 does: counts, answers, and switches itself off when told to. */
static void second(void)
{
    use_idt();
    for (;;) {
        ticks++;
        answer = question;
        if (leave) {
            leave = false;
            left = HC3(vcpu_op, VCPUOP_down, 1, 0);
        }
#ifdef PVH
        if (halt) {
            halt = false;
            __asm__ volatile("cli; hlt");
        }
#endif
        __asm__ volatile("pause");
        if (ticks % 64 == 0) { /* hosts may have one processor for all of us, and PAUSE may be dear */
            HC2(sched_op, SCHEDOP_yield, 0);
        }
    }
}

static long initialise(unsigned vcpu)
{
    return HC3(vcpu_op, VCPUOP_initialise, vcpu, &context);
}

/* --- contexts --- */

/* A context with one change is refused. */
#define REFUSED(vcpu, change) REFUSED_AS(vcpu, change, -EINVAL_)
#define REFUSED_AS(vcpu, change, error)                                                        \
    do {                                                                                       \
        good = context;                                                                        \
        change;                                                                                \
        CHECK(initialise(vcpu), error);                                                        \
        context = good;                                                                        \
    } while (0)

#ifdef PVH

static void check_flat_refusals(unsigned vcpu)
{
    struct vcpu_hvm_x86_32 *r = &context.cpu_regs.x86_32;

    REFUSED(vcpu, context.mode = 2);
    REFUSED(vcpu, r->cr0 = 0x10);         /* no PE */
    REFUSED(vcpu, r->cr0 |= 1u << 28);    /* no such bit */
    REFUSED(vcpu, r->cr4 = 1u << 30);
    REFUSED(vcpu, r->efer = 2);
    REFUSED(vcpu, r->eflags = 1u << 17);  /* VM */
    REFUSED(vcpu, r->cs_ar = 0xc93);      /* data */
    REFUSED(vcpu, r->cs_ar = 0xe9b);      /* L */
    REFUSED(vcpu, r->cs_ar = 0xcfb);      /* DPL 3 */
    REFUSED(vcpu, r->ds_ar = 0xc9b);      /* code */
    REFUSED(vcpu, r->ss_ar = 0xc13);      /* not present */
    REFUSED(vcpu, r->es_ar |= 0x1000);    /* bits that must be 0 */
    REFUSED(vcpu, r->tr_ar |= 0x8000);
}

#ifdef __x86_64__

static void check_refusals(void)
{
    struct vcpu_hvm_x86_64 *r = &context.cpu_regs.x86_64;

    REFUSED(1, context.mode = 99);
    REFUSED(1, r->cr0 &= ~1ull);
    REFUSED(1, r->cr0 &= ~(1ull << 31));
    REFUSED(1, r->cr0 |= 1ull << 40);
    REFUSED(1, r->cr4 &= ~0x20ull); /* no PAE */
    REFUSED(1, r->cr4 |= 1ull << 31);
    REFUSED(1, r->efer = 0x100); /* LME without LMA */
    REFUSED(1, r->efer |= 2);
    REFUSED(1, r->rflags = 1 << 17);
    REFUSED(1, r->rip = 1ull << 60);
}

#else

static void check_refusals(void)
{
    check_flat_refusals(1);
}

#endif

/* --- NMIs --- */

#ifdef __x86_64__
#define IRET       "iretq"
#define FAR_RETURN "pushq $8\n\tpushq $1f\n\tlretq"
#else
#define IRET       "iret"
#define FAR_RETURN "ljmp $8, $1f"
#endif
enum { GATE_WORDS = sizeof(long) / 2, NMI = 2 };

static uint32_t idt[(NMI + 1) * GATE_WORDS] __attribute__((aligned(16)));
static volatile uint32_t nmis;
extern uint8_t nmi_entry[];
__asm__(".text\nnmi_entry: lock incl nmis\n" IRET "\n");

static void use_idt(void)
{
    const uint64_t at = (uintptr_t)nmi_entry;
    struct {
        uint16_t limit;
        unsigned long base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (unsigned long)idt};
    uint32_t *gate = &idt[NMI * GATE_WORDS];

    gate[0] = 8u << 16 | (at & 0xffff);
    gate[1] = (at & 0xffff0000) | 0x8e00;
    __asm__ volatile("lgdt gdt_pointer\n\t" FAR_RETURN "\n1:\tlidt %0"
                     : : "m"(pointer) : "memory");
}

static void check_nmis(void)
{
    use_idt();
    for (unsigned vcpu = 0; vcpu < 2; vcpu++) {
        nmis = 0;
        CHECK(HC3(vcpu_op, VCPUOP_send_nmi, vcpu, 0), 0);
        while (nmis == 0) {
            HC2(sched_op, SCHEDOP_yield, 0);
        }
        CHECK(nmis, 1);
    }
}

/* --- a CPU that begins in the other mode --- */

static volatile uint32_t third_runs;
extern uint8_t third[];
/* One encoding in both modes but for the address, which is absolute in 32-bit code. */
__asm__(".text\n.code32\nthird: incl third_runs\n1: pause\njmp 1b\n"
#ifdef __x86_64__
        ".code64\n"
#endif
);

static void check_third(void)
{
    flat_context(&context, third, 0);
    check_flat_refusals(2);
    CHECK(initialise(2), 0);
    CHECK(initialise(2), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 2, 0), 0);
    while (third_runs == 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK(HC3(vcpu_op, VCPUOP_down, 2, 0), 0);
}

#else

static void use_idt(void)
{
}

static void check_refusals(void)
{
    REFUSED(1, context.flags = 0); /* to user mode */
    REFUSED(1, context.user_regs.rip = 1ull << 60);
    REFUSED(1, context.event_callback_eip = 1ull << 60);
    REFUSED(1, context.failsafe_callback_eip = 1ull << 60);
    REFUSED(1, context.syscall_callback_eip = 1ull << 60);
    REFUSED(1, context.trap_ctxt[6].address = 1ull << 60);
    REFUSED(1, context.fs_base = 1ull << 60);
    REFUSED(1, context.gs_base_kernel = 1ull << 60);
    REFUSED(1, context.gs_base_user = 1ull << 60);
    REFUSED(1, context.user_regs.rsp = 1ull << 60);
    REFUSED(1, context.kernel_sp = 1ull << 60);
    for (unsigned i = 0; i < 4; i++) {
        REFUSED(1, context.debugreg[i] = 1ull << 60);
        REFUSED(1, context.debugreg[i] = HV);
    }
    REFUSED(1, context.debugreg[6] = 1ull << 32);
    REFUSED(1, context.debugreg[7] = 1ull << 32);
    REFUSED(1, context.gdt_ents = 7169);
    REFUSED(1, context.ldt_ents = 8193);
    REFUSED(1, context.ldt_base = KV + 8);
    REFUSED(1, (context.ldt_base = HV, context.ldt_ents = 4));
    REFUSED(1, (context.ldt_base = 1ull << 60, context.ldt_ents = 4));
    REFUSED(1, context.ctrlreg[3] = va_mfn(stack) << 12); /* no table */
    REFUSED(1, context.ctrlreg[3] = 1ull << 50);
}

/* What is refused late holds nothing any more. */
static void check_references(void)
{
    uint64_t *l4 = page_alloc();

    CHECK(make_ro(l4), 0);
    CHECK(mmuext1(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0), 0);
    REFUSED(1, (context.ctrlreg[3] = va_mfn(l4) << 12, context.gdt_ents = 16,
                context.gdt_frames[0] = 1ull << 40));
    REFUSED(1, (context.ctrlreg[3] = va_mfn(l4) << 12, context.ctrlreg[1] = 1ull << 50));
    CHECK(mmuext1(MMUEXT_UNPIN_TABLE, va_mfn(l4), 0), 0);
    CHECK(make_rw(l4), 0);
}

static void check_nmis(void)
{
}

static volatile uint64_t third_dr0, third_dr7, third_cr4;
static volatile uint32_t third_mxcsr;
static volatile uint16_t third_fcw;
static uint8_t third_stack[4096] __attribute__((aligned(16)));
static volatile unsigned third_runs;

static void third(void)
{
    uint64_t cr4;
    uint32_t mxcsr;
    uint16_t fcw;

    __asm__ volatile("fnstcw %0\n\tstmxcsr %1\n\tmovq %%cr4, %2" : "=m"(fcw), "=m"(mxcsr), "=r"(cr4));
    third_fcw = fcw;
    third_mxcsr = mxcsr;
    third_cr4 = cr4;
    third_dr0 = HC1(get_debugreg, 0);
    third_dr7 = HC1(get_debugreg, 7);
    for (;;) {
        third_runs++;
        __asm__ volatile("pause");
    }
}

/* It is up without being brought up; a bad context with the flag leaves it down. */
static void check_third(void)
{
    second_context(&context, second, stack + sizeof(stack));
    context.user_regs.rip = (uint64_t)third;
    context.user_regs.rsp = (uint64_t)(third_stack + sizeof(third_stack) - 8);
    context.kernel_sp = context.user_regs.rsp;
    context.flags |= VGCF_online | VGCF_I387_VALID;
    *(uint16_t *)&context.fpu_ctxt = 0x27f;
    *(uint32_t *)((uint8_t *)&context.fpu_ctxt + 24) = 0xf0001fbf; /* some bits are not there */
    context.debugreg[0] = KV;
    context.debugreg[7] = 1;
    context.ctrlreg[4] = 8; /* DE */
    REFUSED(2, context.gdt_ents = 7169);
    REFUSED_AS(2, context.debugreg[7] = 1 << 13, -EPERM_); /* GD */
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 2, 0), 0);
    CHECK(initialise(2), 0);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 2, 0), 1);
    CHECK(initialise(2), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 2, 0), 0);
    while (third_runs == 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK(third_fcw, 0x27f);
    CHECK(third_mxcsr, 0x1fbf);
    CHECK(third_dr0, KV);
    CHECK(third_dr7, 0x401);
    CHECK(third_cr4 & 8, 8);
    CHECK(HC3(vcpu_op, VCPUOP_down, 2, 0), 0);
}

#endif

/* --- up and down --- */

static int state_of(unsigned vcpu)
{
    struct vcpu_runstate_info info = {.state = 99};

    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, vcpu, &info), 0);
    return info.state;
}

static void wait_until_it_answers(void)
{
    question++;
    while (answer != question) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), 1);
}

/* It is down at once, and stands soon. */
static void wait_until_it_stands(void)
{
    unsigned long seen;

    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), 0);
    while (state_of(1) != RUNSTATE_offline) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    seen = ticks;
    question++;
    for (unsigned i = 0; i < 1000; i++) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK(answer, question - 1);
    CHECK(ticks, seen);
}

/* One that is up may be using the place it has: only when it is down, or by itself. */
static void check_register(void)
{
    uint8_t *page = page_alloc();
    struct vcpu_register_vcpu_info op = {.mfn = va_mfn(page), .offset = 128};

    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), 1);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &op), -EINVAL_);
    CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &op), 0);
    CHECK(((struct vcpu_info *)(page + 128))->evtchn_upcall_pending, 1);
    ((struct vcpu_info *)(page + 128))->evtchn_upcall_mask = 1; /* nobody takes them here */
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    wait_until_it_answers();
}

static void check_up_and_down(void)
{
    CHECK(state_of(0), RUNSTATE_running);
    CHECK(state_of(1), RUNSTATE_offline);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), -EINVAL_); /* nothing refused was kept */
    CHECK(initialise(1), 0);
    CHECK(initialise(1), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_is_up, 1, 0), 0);
    CHECK(ticks, 0);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0); /* before it has run, most likely */
    wait_until_it_stands();
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    wait_until_it_answers();
    CHECK_TRUE(state_of(1) != RUNSTATE_offline);
    CHECK(initialise(1), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0); /* it is */
    check_nmis();
    CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0);
    wait_until_it_stands();
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    wait_until_it_answers();
    leave = true;
    while (HC3(vcpu_op, VCPUOP_is_up, 1, 0) != 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    wait_until_it_stands();
    CHECK(left, 1);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    wait_until_it_answers();
    CHECK(left, 0);
    check_register();
}

/* HLT with interrupts off is down, too; an NMI ends it as well. */
static void check_halt(void)
{
#ifdef PVH
    for (unsigned way = 0; way < 2; way++) {
        halt = true;
        while (HC3(vcpu_op, VCPUOP_is_up, 1, 0) != 0) {
            HC2(sched_op, SCHEDOP_yield, 0);
        }
        wait_until_it_stands();
        CHECK(initialise(1), -EEXIST_);
        CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, BAD_POINTER), -EFAULT_);
        CHECK(HC3(vcpu_op, way == 0 ? VCPUOP_up : VCPUOP_send_nmi, 1, 0), 0);
        wait_until_it_answers();
    }
    for (unsigned i = 0; i < 300; i++) { /* it may halt before it stops */
        halt = true;
        CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0);
        while (state_of(1) != RUNSTATE_offline) {
            HC2(sched_op, SCHEDOP_yield, 0);
        }
        CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
        while (halt) { /* not come to it yet: it goes on, and halts */
            HC2(sched_op, SCHEDOP_yield, 0);
        }
        question++;
        while (answer != question) {
            HC3(vcpu_op, VCPUOP_up, 1, 0);
        }
    }
#endif
}

void test(void)
{
    map_shared_info()->vcpu_info[1].evtchn_upcall_mask = 1;
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 9, &context), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 9, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_down, 9, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_send_nmi, 9, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_get_runstate_info, 9, 0), -ENOENT_);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, BAD_POINTER), -EFAULT_);
    second_context(&context, second, stack + sizeof(stack));
    check_refusals();
    CHECK(HC3(vcpu_op, VCPUOP_send_nmi, 0, &context), -EINVAL_);
#ifndef PVH
    check_references();
#endif
    check_up_and_down();
    check_halt();
    check_third();
}
