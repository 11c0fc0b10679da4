/* SPDX-License-Identifier: MIT */
/*
 * A debugger's stops (accel_ops.set_debug): steps, INT3, points. The same for every engine; on KVM
 * (tests/kvm) breakpoints may be refused, in words.
 */
#include "debug_test.h"

/* Its steps are KVM's own: TF is KVM's, what the guest's was is forgotten. */
static bool is_split(void)
{
    return strcmp(interp_accel_ops.name, "kvm-split") == 0;
}

/* --- steps --- */

GUEST_CODE(step_code, "movl $1, %eax\n"    /* 0 */
                      "addl $2, %eax\n"    /* 5 */
                      "movl %eax, 0x200000\n" /* 8 */
                      "outb %al, $0x80\n"  /* 15 */
                      "1: loop 1b\n"       /* 17 */
                      "outb %al, $0x7e\n"  /* 19: a hypercall */
                      "hlt");              /* 21 */
static void test_step(void)
{
    static const uint8_t at[] = {5, 8, 15, 17, 17, 17, 19, 21};
    const struct vcpu_debug step = {.step = true};
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RCX] = 3;
    GUEST_LOAD(g, step_code);
    g_assert_true(debug_set(g, &step));
    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        debug_step(g, at[i]);
    }
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1003);
    g_assert_cmpuint(guest_read64(g, G_DATA), ==, 3);
    g_assert_cmphex(g->cpu->rflags & CPU_TF, ==, 0);
    guest_run(g, EXIT_HALT);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RCX] = 1000;
    g_assert_true(debug_set(g, NULL));
    guest_run(g, EXIT_HALT); /* runs through */
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1003);
    guest_free(g);
}

GUEST_CODE(user_code, "syscall\nnop");
GUEST_CODE(user_handler, "sysretq");
/* Out of user mode and back. */
static void test_step_system(void)
{
    const struct vcpu_debug step = {.step = true};
    struct guest *g = guest_new();

    g_assert(mem_write(g->fb->board.mem, G_CODE + 0x100, user_handler, 3));
    g->cpu->lstar = G_CODE + 0x100;
    g->cpu->star = (uint64_t)G_SEL_CODE << 32 | 0x10ull << 48;
    g->cpu->fmask = CPU_IF | CPU_TF;
    GUEST_LOAD(g, user_code);
    g_assert_true(debug_set(g, &step));
    if (!is_split() || debug_is_bochs(g)) { /* that steps over what clears TF */
        debug_step(g, 0x100);
        g_assert_cmpuint(g->cpu->cpl, ==, 0);
        g_assert_cmphex(is_split() ? 0 : g->cpu->gpr[CPU_R11] & CPU_TF, ==, 0);
    }
    debug_step(g, 2);
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    guest_free(g);
}

GUEST_CODE(flag_code, "pushq $0x102\n" /* 0 */
                      "popfq\n"        /* 5 */
                      "nop\n"          /* 6 */
                      "nop\n"          /* 7 */
                      "hlt");          /* 8 */
/* The guest steps itself: it gets its own #DB, and sees none of the debugger's. */
static void test_own_step(void)
{
    const struct vcpu_debug step = {.step = true};
    const uint64_t handler = G_HANDLERS + CPU_DB * 16;
    struct guest *g = guest_new();

    if (is_split()) {
        g_test_skip("with KVM's local APICs the guest's own TF is lost");
        guest_free(g);
        return;
    }
    GUEST_LOAD(g, flag_code);
    g_assert_true(debug_set(g, &step));
    debug_step(g, 5);
    debug_step(g, 6);
    g_assert_cmphex(g->cpu->rflags & CPU_TF, ==, CPU_TF);
    debug_step(g, handler - G_CODE);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + 7);
    g_assert_cmphex(guest_frame(g, 2) & CPU_TF, ==, CPU_TF);
    g_assert_cmphex(g->cpu->dr[6] & 0x4000, ==, 0x4000);
    g_assert_cmphex(g->cpu->rflags & CPU_TF, ==, 0);
    g_assert_true(debug_set(g, NULL));
    g_assert_cmpint(guest_vector(g), ==, CPU_DB);
    g->cpu->rip = G_CODE; /* without a debugger the same */
    interp_accel_ops.state_changed(g->v);
    g_assert_cmpint(guest_vector(g), ==, CPU_DB);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + 7);
    guest_free(g);
}

GUEST_CODE(irq_code, "nop\n"              /* 0 */
                     "nop\n"              /* 1 */
                     "outb %al, $0x99\n"  /* 2: asks for an interrupt */
                     "nop\n"              /* 4 */
                     "hlt");              /* 5 */
GUEST_CODE(irq_handler, "nop\niretq");
/* Its frame is the guest's, without the step's TF. */
static void test_step_interrupt(void)
{
    const struct vcpu_debug step = {.step = true};
    const uint64_t handler = G_HANDLERS + 0x50 * 16;
    struct guest *g = guest_new();

    if (is_split()) {
        g_test_skip("the test's interrupt line is pvemu's");
        guest_free(g);
        return;
    }
    guest_irqs[0] = 0x50;
    g_assert(mem_write(g->fb->board.mem, handler, irq_handler, 3));
    GUEST_LOAD(g, irq_code);
    g->cpu->rflags |= CPU_IF;
    g_assert_true(debug_set(g, &step));
    debug_step(g, 1);
    debug_step(g, 2);
    do { /* it may be taken at the next step; Bochs may stop at the handler, too */
        guest_run(g, EXIT_DEBUG);
    } while (g->cpu->rip == G_CODE + 4 || (debug_is_bochs(g) && g->cpu->rip == handler));
    g_assert_cmphex(g->cpu->rip, ==, handler + 1);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + 4);
    g_assert_cmphex(guest_frame(g, 2) & CPU_TF, ==, 0);
    g_assert_true(debug_set(g, NULL));
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 6);
    guest_free(g);
}

/* --- breakpoints --- */

GUEST_CODE(int3_code, "nop\nint3\nnop\nhlt");
static void test_int3(void)
{
    const struct vcpu_debug int3 = {.int3 = true};
    struct guest *g = guest_new();

    GUEST_LOAD(g, int3_code);
    if (debug_set(g, &int3)) {
        debug_run(g, VCPU_STOP_INT3, 1);
        debug_run(g, VCPU_STOP_INT3, 1); /* as long as it is there */
        g->cpu->rip++;
        interp_accel_ops.state_changed(g->v);
        guest_run(g, EXIT_HALT);
        g_assert_true(debug_set(g, NULL));
        g->cpu->rip = G_CODE;
    }
    g_assert_cmpint(guest_vector(g), ==, CPU_BP); /* the guest's own again; and if refused */
    guest_free(g);
}

GUEST_CODE(point_code, "movl $5, %ecx\n"  /* 0 */
                       "1: incl %eax\n"   /* 5 */
                       "loop 1b\n"        /* 7 */
                       "hlt");            /* 9 */
static void test_exec_point(void)
{
    const struct vcpu_debug point = {.nr_points = 2,
                                     .points = {{VCPU_POINT_EXEC, 0, G_CODE + 7},
                                                {VCPU_POINT_EXEC, 0, G_CODE + 9}}};
    const struct vcpu_debug step = {.step = true};
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RAX] = 0;
    GUEST_LOAD(g, point_code);
    if (!debug_set(g, &point)) {
        guest_run(g, EXIT_HALT);
        guest_free(g);
        return;
    }
    for (unsigned i = 1; i <= 5; i++) {
        debug_run(g, VCPU_STOP_POINT, 7);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, i);
        g_assert_true(debug_set(g, &step)); /* over it */
        debug_step(g, i < 5 ? 5 : 9);
        g_assert_true(debug_set(g, &point));
    }
    debug_run(g, VCPU_STOP_POINT << 1, 9);
    g_assert_true(debug_set(g, NULL));
    guest_run(g, EXIT_HALT);
    guest_free(g);
}

GUEST_CODE(data_code, "movl 0x200000, %eax\n" /* 0 */
                      "movl %eax, 0x200010\n" /* 7 */
                      "movb %al, 0x200004\n"  /* 14 */
                      "movl %eax, 0x200008\n" /* 21 */
                      "hlt");                 /* 28 */
static void test_data_points(void)
{
    const struct vcpu_debug point = {.nr_points = 3,
                                     .points = {{VCPU_POINT_ACCESS, 4, G_DATA},
                                                {VCPU_POINT_WRITE, 2, G_DATA + 4},
                                                {VCPU_POINT_WRITE, 8, G_DATA + 8}}};
    struct guest *g = guest_new();

    GUEST_LOAD(g, data_code);
    if (debug_set(g, &point)) {
        debug_run(g, VCPU_STOP_POINT, 7);
        debug_run(g, VCPU_STOP_POINT << 1, 21);
        debug_run(g, VCPU_STOP_POINT << 2, 28);
    }
    guest_run(g, EXIT_HALT);
    guest_free(g);
}

static void test_refused(void)
{
    struct guest *g = guest_new();
    struct vcpu_debug bad = {.nr_points = VCPU_POINTS + 1};
    g_autoptr(GError) err = NULL, err2 = NULL;

    g_assert_false(interp_accel_ops.set_debug(g->v, &bad, &err));
    g_assert_nonnull(strstr(err->message, "only 4"));
    bad = (struct vcpu_debug){.nr_points = 1, .points = {{VCPU_POINT_WRITE, 4, 2}}};
    g_assert_false(interp_accel_ops.set_debug(g->v, &bad, &err2));
    g_assert_nonnull(strstr(err2->message, "multiple"));
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/debug/step", test_step);
    g_test_add_func("/debug/step-system", test_step_system);
    g_test_add_func("/debug/own-step", test_own_step);
    g_test_add_func("/debug/step-interrupt", test_step_interrupt);
    g_test_add_func("/debug/int3", test_int3);
    g_test_add_func("/debug/exec-point", test_exec_point);
    g_test_add_func("/debug/data-points", test_data_points);
    g_test_add_func("/debug/refused", test_refused);
    return g_test_run();
}
