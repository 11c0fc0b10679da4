/* SPDX-License-Identifier: MIT */
/*
 * A 32-bit PVH kernel that suspends itself four times and looks at what is left: suspend.py
 * resumes it by turns as cancelled and as in a new domain.
 */
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

enum { EINVAL_ = 22, SHARED = 0x300000, INFO = 0x301000, VECTOR = 0xf3 };

__asm__(".section .note.Xen, \"a\", @note\n\t.align 4\n\t.long 4, 4, 18\n\t.asciz \"Xen\"\n\t"
        ".long start\n\t.long 4, 4, 14\n\t.asciz \"Xen\"\n\t.long 1\n\t" /* SUSPEND_CANCEL */
        ".text\n\t.globl start\nstart:\n\tmovl $stack + 8192, %esp\n\tcall run\n"
        "1:\thlt\n\tjmp 1b\n\t"
        /* Where and how Linux has them: an engine that cannot catch them looks for the pair. */
        ".balign 16\nby_amd:\n\t.byte 0x0f, 0x01, 0xd9\n\tret\n\t"
        ".balign 16\nby_intel:\n\t.byte 0x0f, 0x01, 0xc1\n\tret\n");
uint8_t stack[8192] __attribute__((aligned(16), used));

static void say(const char *text)
{
    for (; *text != '\0'; text++) {
        __asm__ volatile("outb %0, $0xe9" : : "a"(*text));
    }
}

static void __attribute__((noreturn)) leave(uint8_t code)
{
    for (;;) {
        __asm__ volatile("outb %0, $0x5c\n\thlt" : : "a"(code));
    }
}

static int32_t call(uint32_t nr, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t vendor, eax = 0, ecx, edx;
    int32_t result = (int32_t)nr;

    __asm__ volatile("cpuid" : "+a"(eax), "=b"(vendor), "=c"(ecx), "=d"(edx));
    if (vendor == 0x68747541) { /* "Auth" */
        __asm__ volatile("call by_amd" : "+a"(result) : "b"(a), "c"(b), "d"(c) : "memory");
    } else {
        __asm__ volatile("call by_intel" : "+a"(result) : "b"(a), "c"(b), "d"(c) : "memory");
    }
    return result;
}

#define OP(family, cmd, op) call(__HYPERVISOR_##family, cmd, (uint32_t)(op), 0)
#define CHECK(expression, want)                                                                \
    do {                                                                                       \
        if ((uint32_t)(expression) != (uint32_t)(want)) {                                      \
            say("FAILED: " #expression " == " #want "\n");                                     \
            leave(1);                                                                          \
        }                                                                                      \
    } while (0)

static uint32_t status_of(uint32_t port)
{
    struct evtchn_status op = {.dom = DOMID_SELF, .port = port};

    CHECK(OP(event_channel_op, EVTCHNOP_status, &op), 0);
    return op.status;
}

static uint32_t param(uint32_t index)
{
    struct xen_hvm_param op = {.domid = DOMID_SELF, .index = index};

    CHECK(OP(hvm_op, HVMOP_get_param, &op), 0);
    return (uint32_t)op.value;
}

static int32_t register_info(void)
{
    struct vcpu_register_vcpu_info op = {.mfn = INFO >> 12, .offset = 64};

    return call(__HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, (uint32_t)&op);
}

static uint64_t now(void)
{
    const struct vcpu_info *info = (const struct vcpu_info *)(INFO + 64);

    return info->time.system_time;
}

/* In the layout of 32-bit guests. */
static uint32_t wall_clock(void)
{
    return ((volatile struct shared_info *)SHARED)->wc_sec;
}

/* As a kernel does while it boots; the number of an IPI's port. */
static uint32_t set_up(void)
{
    struct xen_add_to_physmap map = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = SHARED >> 12};
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct xen_hvm_evtchn_upcall_vector upcall = {.vcpu = 0, .vector = VECTOR};

    CHECK(OP(memory_op, XENMEM_add_to_physmap, &map), 0);
    CHECK(wall_clock() != 0, 1);
    CHECK(register_info(), 0);
    CHECK(OP(event_channel_op, EVTCHNOP_bind_ipi, &ipi), 0);
    CHECK(OP(hvm_op, HVMOP_set_evtchn_upcall_vector, &upcall), 0);
    return ipi.port;
}

void run(void);

void run(void)
{
    struct sched_shutdown op = {.reason = SHUTDOWN_suspend};
    uint32_t port = set_up();
    uint64_t before;
    uint32_t value;

    for (unsigned i = 0; i < 2; i++) {
        CHECK(OP(sched_op, SCHEDOP_shutdown, &op), 1);
        say("cancelled\n");
        CHECK(status_of(port), EVTCHNSTAT_ipi);
        CHECK(register_info(), -EINVAL_);
        CHECK(wall_clock() != 0, 1);
        before = now();
        CHECK(OP(sched_op, SCHEDOP_shutdown, &op), 0);
        say("in a new domain\n");
        value = *(volatile uint32_t *)SHARED; /* nothing is there: ones, or zeros with KVM */
        CHECK(value == 0 || value == UINT32_MAX, 1);
        CHECK(status_of(param(HVM_PARAM_STORE_EVTCHN)), EVTCHNSTAT_interdomain);
        CHECK(status_of(param(HVM_PARAM_CONSOLE_EVTCHN)), EVTCHNSTAT_interdomain);
        for (uint32_t n = 1; n < 16; n++) {
            if (n != param(HVM_PARAM_STORE_EVTCHN) && n != param(HVM_PARAM_CONSOLE_EVTCHN)) {
                CHECK(status_of(n), EVTCHNSTAT_closed);
            }
        }
        port = set_up();
        CHECK(now() >= before, 1);
    }
    say("all of it\n");
    leave(0);
}
