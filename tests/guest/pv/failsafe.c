/* SPDX-License-Identifier: MIT */
/* A second CPU whose first selectors are bad: it begins at its failsafe callback. */
#include "pv.h"

static uint8_t ap_stack[4096] __attribute__((aligned(16)));
static struct vcpu_guest_context context;
static struct shared_info *si;
static uint64_t *volatile ap_frame;
static volatile bool ap_ran;

extern uint8_t ap_failsafe[], ap_start[];
__asm__(".text\n"
        "ap_failsafe: movq %rsp, ap_frame(%rip)\n"
        "1: pause; jmp 1b\n"
        "ap_start: movb $1, ap_ran(%rip)\n"
        "2: pause; jmp 2b\n");

static void fill_in(void)
{
    context.flags = VGCF_in_kernel | VGCF_failsafe_disables_events;
    context.user_regs.rip = (uint64_t)ap_start;
    context.user_regs.cs = 0xe033;
    context.user_regs.ss = 0xe02b;
    context.user_regs.rsp = (uint64_t)(ap_stack + sizeof(ap_stack));
    context.user_regs.rcx = 0x1111;
    context.user_regs.r11 = 0x2222;
    context.user_regs.ds = 0x7773; /* not in the table */
    context.user_regs.es = 0xe02b;
    context.user_regs.gs = 0;
    context.kernel_ss = 0xe02b;
    context.kernel_sp = context.user_regs.rsp;
    context.failsafe_callback_eip = (uint64_t)ap_failsafe;
    context.ctrlreg[3] = va_mfn((void *)start_info->pt_base) << 12;
}

void test(void)
{
    si = map_shared_info();
    fill_in();
    si->vcpu_info[1].evtchn_upcall_mask = 0;
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &context), 0);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &context), -EEXIST_);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
    while (ap_frame == NULL && !ap_ran) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK_TRUE(!ap_ran);
    CHECK(ap_frame[0], 0x1111);
    CHECK(ap_frame[1], 0x2222);
    CHECK(ap_frame[2], 0x7773);
    CHECK(ap_frame[3], 0xe02b);
    CHECK(ap_frame[4], 0);
    CHECK(ap_frame[5], 0);
    CHECK(ap_frame[6], (uint64_t)ap_start);
    CHECK(ap_frame[7] & 0xffff, 0xe030); /* from the kernel */
    CHECK(ap_frame[8] & 0x200, 0x200);
    CHECK(ap_frame[9], context.user_regs.rsp);
    CHECK(ap_frame[10], 0xe02b);
    CHECK(si->vcpu_info[1].evtchn_upcall_mask, 1);
}
