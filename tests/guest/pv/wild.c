/* SPDX-License-Identifier: MIT */
/* Kernels that do what no domain may do: each is ended, which is all that is asked for. WILD
 * picks one. */
#include "pv.h"

static struct shared_info *si;

static void no_handler(void)
{
    CHECK(HC1(set_trap_table, 0), 0);
    __asm__ volatile("ud2");
}

static void no_stack(void)
{
    __asm__ volatile("movq $0x1000, %rsp\n\tud2");
}

static void stack_in_hypervisor(void)
{
    __asm__ volatile("movq $0xffff800000001000, %rsp\n\tud2");
}

static void no_user_tables(void)
{
    user_enter(0x1000, 0x2000, 0x202);
}

/* The page's code pushes the first three words itself: they have a place, the rest has none. */
static void iret_without_frame(void)
{
#ifdef BY_PAGE
    uint8_t *below = page_alloc(), *nowhere = page_alloc();

    CHECK(nowhere - below, 4096);
    CHECK(update_va(nowhere, 0, UVMF_INVLPG), 0);
    __asm__ volatile("movq %0, %%rsp\n\tjmp hypercall_page + 23 * 32" : : "r"(nowhere));
#else
    __asm__ volatile("movq $0x1000, %rsp\n\tmovl $23, %eax\n\tsyscall");
#endif
}

static void no_event_callback(void)
{
    struct evtchn_bind_ipi op = {.vcpu = 0};
    struct evtchn_send send;

    CHECK(HC3(set_callbacks, 0, 0, 0), 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_ipi, &op), 0);
    send.port = op.port;
    si->vcpu_info[0].evtchn_upcall_mask = 0;
    HC2(event_channel_op, EVTCHNOP_send, &send);
}

/* A second CPU with a selector of nothing, and nowhere to say so. */
static void no_failsafe(void)
{
    static struct vcpu_guest_context context;
    static uint8_t stack[256] __attribute__((aligned(16)));

    context.flags = VGCF_in_kernel;
    context.user_regs.rip = KV;
    context.user_regs.cs = 0xe033;
    context.user_regs.ss = 0xe02b;
    context.user_regs.rsp = (uint64_t)(stack + sizeof(stack));
    context.user_regs.ds = 0x7773;
    context.ctrlreg[3] = va_mfn((void *)start_info->pt_base) << 12;
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &context), 0);
    HC3(vcpu_op, VCPUOP_up, 1, 0);
    for (unsigned i = 0; i < 1000000; i++) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
}

/* Its own tables, scribbled over by no rule: every type it can think of, on every page. */
static void storm(void)
{
    uint64_t seed = 88172645463325252ull;

    for (unsigned i = 0; i < 400000; i++) {
        struct mmu_update req;
        struct mmuext_op op;

        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        req.ptr = seed % (start_info->nr_pages * 4096 + 1000000);
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        req.val = seed & (seed >> 40 & 1 ? 0x1fffffful : ~0ul);
        HC4(mmu_update, &req, 1, 0, DOMID_SELF);
        op.cmd = seed >> 8 & 31;
        op.arg1.mfn = (seed >> 13) % (start_info->nr_pages + 200);
        op.arg2.src_mfn = (seed >> 30) % (start_info->nr_pages + 200);
        if (i % 4 == 0 && op.cmd != MMUEXT_CLEAR_PAGE && op.cmd != MMUEXT_COPY_PAGE) {
            HC4(mmuext_op, &op, 1, 0, DOMID_SELF);
        }
    }
    __asm__ volatile("ud2");
}

/* Random hypercalls with random arguments. */
static void calls(void)
{
    uint64_t seed = 362436069, arg[5];

    for (unsigned i = 0; i < 200000; i++) {
        for (unsigned k = 0; k < 5; k++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            arg[k] = (seed & 7) == 0   ? seed
                     : (seed & 7) < 4 ? KV + (2u << 20) + (seed >> 3 & 0xfffff)
                                      : seed >> 3 & 63;
        }
        if (arg[0] % 64 != __HYPERVISOR_sched_op && arg[0] % 64 != __HYPERVISOR_iret &&
            arg[0] % 64 != __HYPERVISOR_sched_op_compat &&
            arg[0] % 64 != __HYPERVISOR_console_io && arg[0] % 64 != __HYPERVISOR_vcpu_op) {
            hypercall_inline((long)(arg[0] % 64), arg[1], arg[2], arg[3], arg[4]);
        }
    }
    __asm__ volatile("ud2");
}

void test(void)
{
    si = map_shared_info();
    traps_init();
    WILD();
    say("still here\n");
}
