/* SPDX-License-Identifier: MIT */
/* Traps into the kernel: frames, error codes, masks, software interrupts, events, iret. */
#include "pv.h"

static uint64_t target;
static struct shared_info *si;

static void do_ud2(void)
{
    __asm__ volatile("ud2");
}

static void do_read(uint64_t address)
{
    (void)*(volatile uint64_t *)address;
}

static void do_write(uint64_t address)
{
    *(volatile uint64_t *)address = 1;
}

static void do_divide(uint64_t by)
{
    __asm__ volatile("divb %b0" : : "q"(by) : "rax", "cc");
}

#define INT(n)                                                                                 \
    static void do_int_##n(void)                                                               \
    {                                                                                          \
        __asm__ volatile("int $" #n);                                                          \
    }
INT(0x20)
INT(0x80)
INT(0x81)
INT(3)

static void check_exceptions(void)
{
    uint8_t *page = page_alloc();

    CHECK(try_call((void *)do_ud2, 0), 7);
    CHECK(last.rip, (uint64_t)do_ud2);
    CHECK(last.cs & 0xffff, 0xe030); /* RPL 0: from the kernel */
    CHECK(last.cs >> 32 & 0xff, 1);  /* events were masked */
    CHECK(last.ss, 0xe02b);
    CHECK(last.flags & 0x200, 0);    /* which IF shows */
    CHECK(try_call((void *)do_divide, 0), 1);
    CHECK(try_call((void *)do_read, 1ull << 60), 14); /* not canonical: #GP(0) */
    CHECK(last.error, 0);
    CHECK(try_call((void *)do_read, BAD_POINTER + 8), 15);
    CHECK(last.error, 0);
    CHECK(si->vcpu_info[0].arch.cr2, BAD_POINTER + 8);
    CHECK(try_call((void *)do_write, BAD_POINTER), 15);
    CHECK(last.error, 2);
    CHECK(make_ro(page), 0);
    CHECK(try_call((void *)do_write, (uint64_t)page), 15);
    CHECK(last.error, 3);
    CHECK(try_call((void *)do_read, 0xffff810000000000ull), 15); /* the hypervisor's range */
}

static void check_nx(void)
{
    uint8_t *page = page_alloc();

    page[0] = 0xc3;
    CHECK(try_call(page, 0), 0);
    CHECK(update_va(page, va_mfn(page) << 12 | P | RW | US | NX, UVMF_INVLPG), 0);
    CHECK(try_call(page, 0), 15);
    CHECK(last.error & ~4ull, 0x11);
    CHECK(last.rip, (uint64_t)page);
}

static void check_software_ints(void)
{
    CHECK(try_call((void *)do_int_0x20, 0), 14); /* DPL 0: not even for the kernel */
    CHECK(last.error, 0x20 * 8 + 2);
    CHECK(last.rip, (uint64_t)do_int_0x20);
    CHECK(try_call((void *)do_int_0x81, 0), 0x82);
    CHECK(last.rip, (uint64_t)do_int_0x81 + 2);
    CHECK(try_call((void *)do_int_0x80, 0), 0x81);
    CHECK(try_call((void *)do_int_3, 0), 4);
    CHECK(last.rip, (uint64_t)do_int_3 + 1);
}

/* A gate with bit 2 masks events on the way in; the others leave the mask alone. */
static bool see_mask(struct frame *f)
{
    target = si->vcpu_info[0].evtchn_upcall_mask;
    (void)f;
    return false;
}

static void check_masks(void)
{
    hook = see_mask;
    si->vcpu_info[0].evtchn_upcall_mask = 0;
    CHECK(try_call((void *)do_ud2, 0), 7);
    CHECK(target, 0);
    CHECK(last.cs >> 32 & 0xff, 0);
    CHECK(last.flags & 0x200, 0x200);
    set_gate(6, 4, (uint64_t)trap_stubs + 6 * 16);
    CHECK(try_call((void *)do_ud2, 0), 7);
    CHECK(target, 1);
    CHECK(si->vcpu_info[0].evtchn_upcall_mask, 0); /* iret put it back */
    set_gate(6, 0, (uint64_t)trap_stubs + 6 * 16);
    si->vcpu_info[0].evtchn_upcall_mask = 1;
    hook = NULL;
}

/* --- events --- */

static uint32_t port;

static bool take_event(struct frame *f)
{
    if (f->vector != V_EVENT) {
        return false;
    }
    CHECK(si->vcpu_info[0].evtchn_upcall_mask, 1);
    si->vcpu_info[0].evtchn_upcall_pending = 0;
    si->vcpu_info[0].evtchn_pending_sel = 0;
    si->evtchn_pending[0] = 0;
    return true;
}

static void send(void)
{
    struct evtchn_send op = {.port = port};

    CHECK(HC2(event_channel_op, EVTCHNOP_send, &op), 0);
}

static void make_loop(void)
{
    struct evtchn_bind_ipi op = {.vcpu = 0};

    CHECK(HC2(event_channel_op, EVTCHNOP_bind_ipi, &op), 0);
    port = op.port;
}

static void check_events(void)
{
    struct {
        uint32_t cmd;
        struct evtchn_send send;
    } old = {.cmd = EVTCHNOP_send};

    HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0);
    hook = take_event;
    make_loop();
    nr_events = 0;
    send();
    CHECK(nr_events, 0); /* masked */
    CHECK(si->vcpu_info[0].evtchn_upcall_pending, 1);
    si->vcpu_info[0].evtchn_upcall_mask = 0;
    CHECK(HC2(xen_version, 0, 0), 4 << 16 | 17);
    CHECK(nr_events, 1); /* before the call returned */
    CHECK(si->vcpu_info[0].evtchn_upcall_mask, 0);
    send();
    CHECK(nr_events, 2);
    old.send.port = port;
    CHECK(HC1(event_channel_op_compat, &old), 0);
    CHECK(nr_events, 3);
    si->vcpu_info[0].evtchn_upcall_mask = 1;
    send();
    CHECK(HC2(sched_op, SCHEDOP_block, 0), 0); /* clears the mask, does not sleep */
    CHECK(nr_events, 4);
    si->vcpu_info[0].evtchn_upcall_mask = 1;
    send();
    CHECK(HC2(sched_op_compat, SCHEDOP_block, 0), 0);
    CHECK(nr_events, 5);
}

/* Sleeps until the timer comes. Only then is one set that nobody hears: it is past, and comes
 * whenever the host likes. */
static void check_timer(void)
{
    struct evtchn_close unbind;
    struct evtchn_bind_virq op = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct vcpu_set_singleshot_timer timer = {.timeout_abs_ns = 1};

    CHECK(HC2(event_channel_op, EVTCHNOP_bind_virq, &op), 0);
    nr_events = 0;
    for (unsigned i = 1; i < 4; i++) {
        si->vcpu_info[0].evtchn_upcall_mask = 1;
        CHECK(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &timer), 0);
        CHECK(HC2(sched_op, SCHEDOP_block, 0), 0);
        CHECK(nr_events, i);
    }
    unbind.port = op.port;
    CHECK(HC2(event_channel_op, EVTCHNOP_close, &unbind), 0);
    CHECK(HC1(set_timer_op, 1), 0);
    CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    CHECK(nr_events, 3);
    si->vcpu_info[0].evtchn_upcall_mask = 1;
    hook = NULL;
}

/* --- single step and NMI --- */

static unsigned steps;

static bool count_steps(struct frame *f)
{
    if (f->vector != 1) {
        return false;
    }
    steps++;
    if (steps == 5) {
        f->flags &= ~0x100ull;
    }
    return true;
}

static void check_step(void)
{
    hook = count_steps;
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\t"
                     "nop\n\tnop" : : : "cc", "memory");
    CHECK(steps, 5);
    CHECK(HC1(get_debugreg, 6) & 0x4000, 0x4000);
    hook = NULL;
    CHECK(HC2(set_debugreg, 6, 0xffff0ff0), 0);
}

static bool take_nmi(struct frame *f)
{
    target = f->vector;
    return f->vector == 2;
}

static void send_nmi(void)
{
    target = 99;
    CHECK(HC3(vcpu_op, VCPUOP_send_nmi, 0, 0), 0);
    for (unsigned i = 0; i < 100000 && *(volatile uint64_t *)&target == 99; i++) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
}

static void check_nmi(void)
{
    struct xennmi_callback nmi = {.handler_address = (uint64_t)trap_stubs + 2 * 16};
    struct callback_register reg = {.type = CALLBACKTYPE_nmi, .address = nmi.handler_address};

    hook = take_nmi;
    CHECK(HC2(nmi_op, XENNMI_register_callback, &nmi), 0);
    send_nmi();
    CHECK(target, 2);
    CHECK(HC2(nmi_op, XENNMI_unregister_callback, 0), 0);
    target = 99;
    CHECK(HC3(vcpu_op, VCPUOP_send_nmi, 0, 0), 0); /* nobody wants it */
    CHECK(HC2(sched_op, SCHEDOP_yield, 0), 0);
    CHECK(target, 99);
    CHECK(HC2(callback_op, CALLBACKOP_register, &reg), 0);
    send_nmi();
    CHECK(target, 2);
    hook = NULL;
}

/* iret: RAX, and RCX and R11 but with VGCF_in_syscall. */
static void check_iret(void)
{
    uint64_t rcx, r11;

    iret_flags = 0;
    __asm__ volatile("movq $11, %%r11\n\tmovq $12, %%rcx\n\tint3\n\tmovq %%rcx, %0\n\t"
                     "movq %%r11, %1" : "=r"(rcx), "=r"(r11) : : "rcx", "r11", "memory");
    CHECK(rcx, 12);
    CHECK(r11, 11);
    iret_flags = 1 << 8;
    __asm__ volatile("movq $11, %%r11\n\tmovq $12, %%rcx\n\tint3\n1:\tmovq %%rcx, %0\n\t"
                     "subq $1b, %0\n\tmovq %%r11, %1"
                     : "=r"(rcx), "=r"(r11) : : "rcx", "r11", "memory");
    CHECK(rcx, 0);
    CHECK(r11 & 0x3200, 0x200);
    iret_flags = 0;
}

static bool pass_int3(struct frame *f)
{
    return f->vector == 3;
}

void test(void)
{
    si = map_shared_info();
    traps_init();
    check_exceptions();
    check_nx();
    check_software_ints();
    check_masks();
    check_events();
    check_timer();
    check_step();
    check_nmi();
    hook = pass_int3;
    check_iret();
}
