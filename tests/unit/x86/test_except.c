/* SPDX-License-Identifier: MIT */
/* Delivery of events and IRET: frames, stacks, privilege, nested faults, in every mode. */
#include "x86_guest.h"

enum { H = 0x31000 }; /* where handlers are */

static uint64_t frame(struct guest *g, unsigned n, unsigned size)
{
    return guest_get(g, g->cpu->gpr[CPU_RSP] + n * size, size);
}

static bool raise_in(struct guest *g, uint8_t vector, uint32_t error)
{
    struct x86_fault f = {.vector = vector, .has_error = vector != CPU_UD && vector != CPU_DB,
                          .error = error, .cr2 = 0xdead000};

    return x86_raise(g->v, &f);
}

static void test_long_user_fault(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    guest_gate(g, CPU_PAGE_FAULT, SEL_CODE64, 0xffff800000001000ull, DESC_SYS_INT, 0, 0);
    guest_to_user(g);
    g->cpu->gpr[CPU_RSP] = G_STACK3 - 8;
    g->cpu->rflags = 2 | CPU_IF | CPU_TF | CPU_AC | CPU_CF | CPU_NT;
    g->cpu->irq_shadow = true;
    g_assert_true(raise_in(g, CPU_PAGE_FAULT, 7));
    g_assert_cmphex(g->cpu->rip, ==, 0xffff800000001000ull);
    g_assert_cmphex(g->cpu->seg[CPU_CS].selector, ==, SEL_CODE64);
    g_assert_cmphex(g->cpu->seg[CPU_CS].attr, ==, 0xa09b);
    g_assert_cmpuint(g->cpu->cpl, ==, 0);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, 0);
    g_assert_true(g->cpu->seg[CPU_SS].unusable);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 48);
    g_assert_cmphex(frame(g, 0, 8), ==, 7);
    g_assert_cmphex(frame(g, 1, 8), ==, G_CODE);
    g_assert_cmphex(frame(g, 2, 8), ==, SEL_UCODE64 | 3);
    g_assert_cmphex(frame(g, 3, 8), ==,
                    2 | CPU_IF | CPU_TF | CPU_AC | CPU_CF | CPU_NT | CPU_RF);
    g_assert_cmphex(frame(g, 4, 8), ==, G_STACK3 - 8);
    g_assert_cmphex(frame(g, 5, 8), ==, SEL_UDATA | 3);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_AC | CPU_CF);
    g_assert_cmphex(g->cpu->cr2, ==, 0xdead000);
    g_assert_false(g->cpu->irq_shadow);
    guest_free(g);
}

static void test_long_same_level(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    guest_gate(g, 0x40, SEL_CODE64, H, DESC_SYS_TRAP, 0, 0);
    g->cpu->gpr[CPU_RSP] = G_STACK0 - 5;
    g->cpu->rflags = 2 | CPU_IF;
    g->cpu->halted = true;
    g_assert_true(x86_interrupt(g->v, 0x40));
    /* Aligned to 16, no error code, SS and RSP saved all the same; a trap gate keeps IF. */
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 16 - 40);
    g_assert_cmphex(frame(g, 0, 8), ==, G_CODE);
    g_assert_cmphex(frame(g, 2, 8), ==, 2 | CPU_IF);
    g_assert_cmphex(frame(g, 3, 8), ==, G_STACK0 - 5);
    g_assert_cmphex(frame(g, 4, 8), ==, SEL_DATA);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, SEL_DATA);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IF);
    g_assert_false(g->cpu->halted);
    guest_free(g);
}

static void test_long_ist_nmi(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    guest_gate(g, CPU_NMI, SEL_CODE64, H, DESC_SYS_INT, 0, 1);
    g_assert_true(x86_nmi(g->v));
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_IST1 - 40);
    g_assert_true(g->cpu->nmi_blocked);
    g_assert_true(guest_run(g, 0x48, 0xcf)); /* IRETQ */
    g_assert_false(g->cpu->nmi_blocked);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0);
    guest_free(g);
}

/* A fault while delivering: which vector arrives in the end, with which error code. */
static void expect_nested(struct guest *g, uint8_t vector, uint64_t error)
{
    guest_gate(g, vector, SEL_CODE64, H + vector * 16u, DESC_SYS_INT, 0, 0);
    g_assert_true(x86_interrupt(g->v, 0x50));
    g_assert_cmphex(g->cpu->rip, ==, H + vector * 16u);
    g_assert_cmphex(frame(g, 0, 8), ==, error);
    g_assert_cmphex(frame(g, 1, 8), ==, G_CODE);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK0;
}

static void test_gate_checks(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    expect_nested(g, CPU_GP, 0x50 * 8 + 3); /* type 0: not a gate; IDT and EXT */
    guest_gate(g, 0x50, SEL_CODE64, H, DESC_SYS_TASK, 0, 0);
    expect_nested(g, CPU_GP, 0x50 * 8 + 3);
    guest_gate(g, 0x50, SEL_CODE64, H, DESC_SYS_INT, 0, 0);
    guest_put(g, G_IDT + 0x50 * 16 + 5, 0x0e, 1); /* not present */
    expect_nested(g, CPU_NP, 0x50 * 8 + 3);
    guest_gate(g, 0x50, 0, H, DESC_SYS_INT, 0, 0);
    expect_nested(g, CPU_GP, 1);
    guest_gate(g, 0x50, SEL_CODE32, H, DESC_SYS_INT, 0, 0); /* not 64-bit */
    expect_nested(g, CPU_GP, SEL_CODE32 | 1);
    guest_gate(g, 0x50, SEL_DATA, H, DESC_SYS_INT, 0, 0);
    expect_nested(g, CPU_GP, SEL_DATA | 1);
    guest_gate(g, 0x50, SEL_UCODE64, H, DESC_SYS_INT, 0, 0); /* DPL 3 > CPL 0 */
    expect_nested(g, CPU_GP, SEL_UCODE64 | 1);
    guest_gate(g, 0x50, 0x1000, H, DESC_SYS_INT, 0, 0); /* beyond the GDT */
    expect_nested(g, CPU_GP, 0x1001);
    guest_gate(g, 0x50, SEL_CODE64, 0x8000000000000000ull, DESC_SYS_INT, 0, 0);
    expect_nested(g, CPU_GP, 1);
    guest_free(g);
}

static void test_double_and_triple(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    guest_gate(g, CPU_DOUBLE_FAULT, SEL_CODE64, H, DESC_SYS_INT, 0, 1);
    g_assert_true(raise_in(g, CPU_GP, 0x10)); /* #GP gate empty: contributory twice */
    g_assert_cmphex(g->cpu->rip, ==, H);
    g_assert_cmphex(frame(g, 0, 8), ==, 0);
    g_assert_cmphex(frame(g, 1, 8), ==, G_CODE);
    g_assert_cmphex(frame(g, 3, 8) & CPU_RF, ==, 0);
    guest_free(g);

    g = guest_new(GUEST_LONG); /* #UD is benign: #GP follows, then #DF */
    guest_gate(g, CPU_GP, SEL_CODE64, H, DESC_SYS_INT, 0, 0);
    g_assert_true(raise_in(g, CPU_UD, 0));
    g_assert_cmphex(frame(g, 0, 8), ==, CPU_UD * 8 + 3);
    guest_free(g);

    g = guest_new(GUEST_LONG); /* a page fault while delivering one: #DF, CR2 of the second */
    guest_gate(g, CPU_DOUBLE_FAULT, SEL_CODE64, H, DESC_SYS_INT, 0, 1);
    guest_gate(g, CPU_PAGE_FAULT, SEL_CODE64, H, DESC_SYS_INT, 0, 0);
    g->cpu->gpr[CPU_RSP] = 0x7f0000000000;
    g_assert_true(raise_in(g, CPU_PAGE_FAULT, 2));
    g_assert_cmphex(g->cpu->rip, ==, H);
    g_assert_cmphex(g->cpu->cr2, ==, 0x7f0000000000 - 48);
    guest_free(g);

    g = guest_new(GUEST_LONG);
    g->cpu->idtr.limit = 0;
    g_assert_false(raise_in(g, CPU_PAGE_FAULT, 0));
    g_assert_cmphex(g->cpu->rip, ==, G_CODE); /* evidence stays */
    guest_free(g);
}

static void test_debug_exception(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct x86_fault f = {.vector = CPU_DB, .dr6 = 1 << 14};

    guest_gate(g, CPU_DB, SEL_CODE64, H, DESC_SYS_INT, 0, 0);
    g->cpu->dr[7] = 0x2400;
    g->cpu->rflags |= CPU_TF;
    g_assert_true(x86_raise(g->v, &f));
    g_assert_cmphex(g->cpu->dr[6], ==, 0xffff0ff0 | 1 << 14);
    g_assert_cmphex(g->cpu->dr[7], ==, 0x400); /* GD is off */
    g_assert_cmphex(frame(g, 2, 8), ==, 2 | CPU_TF); /* a trap: RF is not set */
    guest_free(g);
}

static void test_soft_int(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    guest_gate(g, 0x80, SEL_CODE64, H, DESC_SYS_INT, 3, 0);
    guest_gate(g, 0x81, SEL_CODE64, H, DESC_SYS_INT, 0, 0);
    guest_gate(g, CPU_BP, SEL_CODE64, H + 16, DESC_SYS_INT, 3, 0);
    guest_gate(g, CPU_DB, SEL_CODE64, H + 32, DESC_SYS_INT, 0, 0);
    guest_to_user(g);
    g_assert_false(guest_run(g, 0xcd, 0x81)); /* DPL 0 gate from CPL 3, no EXT */
    g_assert_fault(g, CPU_GP, 0x81 * 8 + 2);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK3);
    g_assert_true(guest_run(g, 0xcd, 0x80));
    g_assert_cmphex(g->cpu->rip, ==, H);
    g_assert_cmphex(frame(g, 0, 8), ==, G_CODE + 2);
    g_assert_cmphex(frame(g, 2, 8), ==, 2);
    g->cpu->rip = G_CODE;
    guest_to_user(g);
    g_assert_true(guest_run(g, 0xcc));
    g_assert_cmphex(g->cpu->rip, ==, H + 16);
    g_assert_cmphex(frame(g, 0, 8), ==, G_CODE + 1);
    g->cpu->rip = G_CODE;
    guest_to_user(g);
    g_assert_true(guest_run(g, 0xf1)); /* INT1 ignores the gate's DPL */
    g_assert_cmphex(g->cpu->rip, ==, H + 32);
    guest_free(g);
}

static void test_prot_inner(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    guest_gate(g, CPU_GP, SEL_CODE32, H, DESC_SYS_INT, 0, 0);
    guest_to_user(g);
    g->cpu->rflags |= CPU_IF;
    g_assert_true(raise_in(g, CPU_GP, 0x18));
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 24);
    g_assert_cmphex(frame(g, 0, 4), ==, 0x18);
    g_assert_cmphex(frame(g, 1, 4), ==, G_CODE);
    g_assert_cmphex(frame(g, 2, 4), ==, SEL_UCODE32 | 3);
    g_assert_cmphex(frame(g, 3, 4), ==, 2 | CPU_IF | CPU_RF);
    g_assert_cmphex(frame(g, 4, 4), ==, G_STACK3);
    g_assert_cmphex(frame(g, 5, 4), ==, SEL_UDATA | 3);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, SEL_DATA);
    g_assert_cmphex(g->cpu->rflags, ==, 2);
    /* And back: the error code is dropped first. */
    g->cpu->gpr[CPU_RSP] += 4;
    g_assert_true(guest_run(g, 0xcf));
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK3);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, SEL_UDATA | 3);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IF | CPU_RF);
    guest_free(g);
}

static void test_prot_bad_tss_stack(void)
{
    struct guest *g = guest_new(GUEST_PROT);
    struct x86_fault event = {.vector = 0x30}, fault;

    guest_gate(g, 0x30, SEL_CODE32, H, DESC_SYS_INT, 0, 0);
    guest_to_user(g);
    guest_put(g, G_TSS + 8, 0, 2);
    g_assert_false(x86_deliver(g->v, X86_EVENT_EXTERNAL, &event, g->cpu->rip, &g->fault));
    g_assert_fault(g, CPU_TS, 1);
    guest_put(g, G_TSS + 8, SEL_UDATA | 3, 2);
    g_assert_false(x86_deliver(g->v, X86_EVENT_EXTERNAL, &event, g->cpu->rip, &g->fault));
    g_assert_fault(g, CPU_TS, SEL_UDATA | 1);
    guest_put(g, G_TSS + 8, SEL_ABSENT, 2);
    guest_set_desc(g, SEL_ABSENT, guest_desc(0, UINT32_MAX, 0xc012));
    g_assert_false(x86_deliver(g->v, X86_EVENT_SOFTWARE, &event, g->cpu->rip, &fault));
    g_assert_cmpuint(fault.vector, ==, CPU_GP); /* the gate's DPL first */
    g_assert_false(x86_deliver(g->v, X86_EVENT_EXTERNAL, &event, g->cpu->rip, &g->fault));
    g_assert_fault(g, CPU_STACK_FAULT, SEL_ABSENT | 1);
    g->cpu->tr.limit = 3;
    g_assert_false(x86_deliver(g->v, X86_EVENT_EXTERNAL, &event, g->cpu->rip, &g->fault));
    g_assert_fault(g, CPU_TS, SEL_TSS | 1);
    guest_free(g);
}

static void test_real(void)
{
    struct guest *g = guest_new(GUEST_REAL);

    guest_put(g, 0x21 * 4, 0x20001234, 4);
    g->cpu->gpr[CPU_RSP] = 0xabcd0000;
    g->cpu->rflags = 2 | CPU_IF | CPU_TF | CPU_ZF;
    g->cpu->rip = 0x500;
    g_assert_true(guest_run(g, 0xcd, 0x21));
    g_assert_cmphex(g->cpu->rip, ==, 0x1234);
    g_assert_cmphex(g->cpu->seg[CPU_CS].base, ==, 0x20000);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, 0xabcdfffa); /* SP wraps, the rest stays */
    g_assert_cmphex(guest_get(g, 0xfffa, 2), ==, 0x502);
    g_assert_cmphex(guest_get(g, 0xfffc, 2), ==, 0x1000);
    g_assert_cmphex(guest_get(g, 0xfffe, 2), ==, 2 | CPU_IF | CPU_TF | CPU_ZF);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_ZF);
    g_assert_true(guest_run(g, 0xcf));
    g_assert_cmphex(g->cpu->rip, ==, 0x502);
    g_assert_cmphex(g->cpu->seg[CPU_CS].base, ==, 0x10000);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, 0xabcd0000);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IF | CPU_TF | CPU_ZF);
    guest_free(g);
}

static void test_v86(void)
{
    struct guest *g = guest_new(GUEST_V86);

    guest_gate(g, CPU_GP, SEL_CODE32, H, DESC_SYS_INT, 0, 0);
    g->cpu->seg[CPU_GS].selector = 0x77;
    g_assert_false(guest_run(g, 0xcd, 0x21)); /* IOPL 0 */
    g_assert_fault(g, CPU_GP, 0);
    g_assert_true(x86_raise(g->v, &g->fault));
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 40);
    g_assert_cmphex(frame(g, 1, 4), ==, 0);
    g_assert_cmphex(frame(g, 2, 4), ==, 0x1000);
    g_assert_cmphex(frame(g, 3, 4), ==, 2 | CPU_VM | CPU_RF);
    g_assert_cmphex(frame(g, 4, 4), ==, 0x8000);
    g_assert_cmphex(frame(g, 5, 4), ==, 0x1000);
    g_assert_cmphex(frame(g, 9, 4), ==, 0x77);
    g_assert_true(g->cpu->seg[CPU_DS].unusable && g->cpu->seg[CPU_GS].unusable);
    g_assert_cmphex(g->cpu->rflags & CPU_VM, ==, 0);
    g->cpu->gpr[CPU_RSP] += 4;
    g_assert_true(guest_run(g, 0xcf));
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_VM | CPU_RF);
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, 0x8000);
    g_assert_cmphex(g->cpu->seg[CPU_GS].base, ==, 0x770);
    g_assert_cmphex(g->cpu->seg[CPU_CS].base, ==, 0x10000);
    /* A handler that is not at DPL 0 cannot be reached from V86. */
    guest_gate(g, CPU_BP, SEL_CODE2, H, DESC_SYS_INT, 3, 0);
    g_assert_false(guest_run(g, 0xcc));
    g_assert_fault(g, CPU_GP, SEL_CODE2);
    guest_free(g);
}

static void iret_frame(struct guest *g, uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp,
                       uint64_t ss)
{
    const uint64_t values[5] = {rip, cs, flags, rsp, ss};

    g->cpu->gpr[CPU_RSP] = G_STACK0 - 40;
    for (unsigned i = 0; i < 5; i++) {
        guest_put(g, G_STACK0 - 40 + i * 8, values[i], 8);
    }
}

static bool iretq(struct guest *g, uint64_t rip, uint64_t cs, uint64_t ss)
{
    iret_frame(g, rip, cs, 0x202, G_STACK3, ss);
    return guest_run(g, 0x48, 0xcf);
}

static void test_iret_long(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    const uint64_t user = SEL_UCODE64 | 3, data = SEL_UDATA | 3;

    g_assert_false(iretq(g, G_CODE, 0, data));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(iretq(g, G_CODE, SEL_UCODE64, data)); /* RPL 0, DPL 3 */
    g_assert_fault(g, CPU_GP, SEL_UCODE64);
    g_assert_false(iretq(g, G_CODE, SEL_BADLD, SEL_DATA)); /* L and D */
    g_assert_fault(g, CPU_GP, SEL_BADLD);
    g_assert_false(iretq(g, G_CODE, user, 0)); /* null SS at CPL 3 */
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(iretq(g, G_CODE, user, SEL_DATA | 3)); /* DPL 0 */
    g_assert_fault(g, CPU_GP, SEL_DATA);
    g_assert_false(iretq(g, G_CODE, user, SEL_UDATA));
    g_assert_fault(g, CPU_GP, SEL_UDATA);
    g_assert_false(iretq(g, 0x800000000000ull, user, data));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_cmpuint(g->cpu->cpl, ==, 0);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    g->cpu->rflags |= CPU_NT;
    g_assert_false(iretq(g, G_CODE, user, data));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->rflags &= ~(uint64_t)CPU_NT;

    g_assert_true(iretq(g, 0x5000, SEL_CODE64, 0)); /* same level, null SS */
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK3);
    g_assert_true(g->cpu->seg[CPU_SS].unusable);
    g_assert_true(iretq(g, 0x5000, user, data));
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_cmphex(g->cpu->rip, ==, 0x5000);
    g_assert_cmphex(g->cpu->seg[CPU_SS].attr, ==, 0xc0f3);
    g_assert_true(g->cpu->seg[CPU_DS].unusable); /* was DPL 0 */
    g_assert_cmphex(g->cpu->rflags, ==, 0x202);
    /* At CPL 3 neither IF nor IOPL can be changed. */
    iret_frame(g, 0x6000, user, 0x3002, G_STACK3, data);
    g_assert_true(guest_run(g, 0x48, 0xcf));
    g_assert_cmphex(g->cpu->rflags, ==, 0x202);
    guest_free(g);
}

static void test_iret_to_compat16(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g_assert_true(iretq(g, 0x5000, SEL_UCODE32 | 3, SEL_UDATA | 3));
    g_assert_cmpint(x86_insn_mode(g->cpu), ==, INSN_MODE_32);
    guest_free(g);
    g = guest_new(GUEST_LONG); /* a 16-bit stack: only SP is loaded */
    guest_set_desc(g, SEL_DATA16, guest_desc(0, 0xffff, 0x00f2));
    iret_frame(g, 0x5000, SEL_UCODE32 | 3, 0x202, 0x12345678, SEL_DATA16 | 3);
    g_assert_true(guest_run(g, 0x48, 0xcf));
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, (G_STACK0 & 0xffff0000) | 0x5678);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/except/long-user-fault", test_long_user_fault);
    g_test_add_func("/x86/except/long-same-level", test_long_same_level);
    g_test_add_func("/x86/except/ist-and-nmi", test_long_ist_nmi);
    g_test_add_func("/x86/except/gate-checks", test_gate_checks);
    g_test_add_func("/x86/except/double-and-triple", test_double_and_triple);
    g_test_add_func("/x86/except/debug", test_debug_exception);
    g_test_add_func("/x86/except/software-int", test_soft_int);
    g_test_add_func("/x86/except/protected-inner", test_prot_inner);
    g_test_add_func("/x86/except/bad-tss-stack", test_prot_bad_tss_stack);
    g_test_add_func("/x86/except/real", test_real);
    g_test_add_func("/x86/except/v86", test_v86);
    g_test_add_func("/x86/iret/long", test_iret_long);
    g_test_add_func("/x86/iret/compat-16-bit-stack", test_iret_to_compat16);
    return g_test_run();
}
