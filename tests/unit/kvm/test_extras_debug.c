/* SPDX-License-Identifier: MIT */
/* The engine against a fake /dev/kvm: single steps and breakpoints of a debugger. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "vcpu_test.h"

/* --- exits --- */

static void fill_step(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = 0x4000;
    fake_kvm.regs.rip = 0x1005;
}

static void fill_int3(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_BP;
}

static void fill_point2(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = 1 << 2;
}

static void fill_point0(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = 1;
}

/* --- steps --- */

static void test_step(void)
{
    const struct vcpu_debug step = {.step = true};

    kt_setup();
    fake_kvm.count_request = KVM_RUN; /* nothing is tried for steps */
    g_assert_true(kvm_accel_ops.set_debug(v, &step, NULL));
    g_assert_cmpuint(fake_kvm.count, ==, 0);
    g_assert_cmphex(fake_kvm.debug.control, ==, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
    kt_add(KVM_EXIT_DEBUG, fill_step);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_STEP);
    g_assert_cmphex(v->cpu.rip, ==, 0x1005);
    g_assert_true(kvm_accel_ops.set_debug(v, NULL, NULL));
    g_assert_cmphex(fake_kvm.debug.control, ==, 0);
    kt_teardown();
}

static uint64_t dr6_now;

static void fill_db(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = dr6_now;
    fake_kvm.regs.rip = (dr6_now & 0x4000) != 0 ? 0x1005 : 0x1000;
}

/* What KVM gives to the debugger of the guest's own is the guest's: its breakpoints, its TF. */
static void test_step_own(void)
{
    static const struct {
        uint64_t trap_flag, dr6, told; /* 0: nothing */
        unsigned stop;
    } rows[] = {
        {0, 0x4000, 0, VCPU_STOP_STEP},           {0, 0x4004, 0x4, VCPU_STOP_STEP},
        {CPU_TF, 0x4000, 0x4000, VCPU_STOP_STEP}, {CPU_TF, 0x4004, 0x4004, VCPU_STOP_STEP},
        {0, 0x4002, 0, VCPU_STOP_STEP},           {0, 0x4, 0x4, VCPU_STOP_STEP},
    };
    const struct vcpu_debug step = {.step = true};
    const uint32_t handler = 0x1234;

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        kt_setup();
        v->cpu.seg[CPU_CS].base = v->cpu.seg[CPU_CS].selector = 0;
        v->cpu.rip = 0x1000;
        v->cpu.rflags |= rows[i].trap_flag;
        v->cpu.dr[6] = 0xffff0ff0;
        v->cpu.dr[7] = 0x420; /* the third is enabled */
        g_assert_true(mem_write(v->mem, 4 * CPU_DB, &handler, sizeof(handler)));
        g_assert_true(kvm_accel_ops.set_debug(v, &step, NULL));
        dr6_now = rows[i].dr6;
        kt_add(KVM_EXIT_DEBUG, fill_db);
        kvm_run_guest(v, &last);
        g_assert_cmphex(last.stop, ==, rows[i].stop);
        g_assert_cmphex(v->cpu.rip, ==, rows[i].told != 0 ? handler : 0x1005);
        g_assert_cmphex(v->cpu.dr[6] & 0x400f, ==, rows[i].told);
        kt_teardown();
    }
}

/* An interrupt's frame is written here: the processor's would have the step's TF. */
static void test_step_interrupt(void)
{
    const struct vcpu_debug step = {.step = true};
    const uint32_t handler = 0x1234;

    kt_setup();
    v->cpu.rflags |= CPU_IF;
    irq_vector = 0x31;
    vcpu_request(v, VCPU_REQ_IRQ);
    g_assert_true(mem_write(v->mem, 4 * 0x31, &handler, sizeof(handler)));
    g_assert_true(kvm_accel_ops.set_debug(v, &step, NULL));
    fake_kvm.count_request = KVM_INTERRUPT;
    kt_add(KVM_EXIT_DEBUG, fill_step);
    kvm_run_guest(v, &last);
    g_assert_cmpint(irq_vector, ==, -1);
    g_assert_cmpuint(fake_kvm.count, ==, 0);
    g_assert_cmphex(fake_kvm.sregs.cs.base, ==, 0); /* of the handler */
    g_assert_cmphex(v->cpu.rflags & CPU_IF, ==, 0);
    kt_teardown();
}

/* A VMCALL that KVM hands out: it would not step behind it. */
static void test_step_vmcall(void)
{
    const struct vcpu_debug step = {.step = true};

    kt_setup();
    g_assert_true(kvm_accel_ops.set_debug(v, &step, NULL));
    kt_add(KVM_EXIT_XEN, kt_fill_vmcall);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_STEP);
    g_assert_cmphex(v->cpu.rip, ==, 0x5003);
    kt_teardown();
}

/* KVM would lose it. */
static void test_step_hypercall(void)
{
    const struct vcpu_debug step = {.step = true};

    kt_setup();
    v->cpu.seg[CPU_CS].base = v->cpu.seg[CPU_CS].selector = 0;
    v->cpu.rip = 0x1000;
    v->cpu.gpr[CPU_RAX] = 17;
    g_assert_true(mem_write(v->mem, 0x1000, "\xe6\x7e", 2));
    g_assert_true(kvm_accel_ops.set_debug(v, &step, NULL));
    kvm_run_guest(v, &last); /* without KVM */
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_STEP);
    kt_assert_call(0, 'h', 17, 0, 0x1002);
    kt_add(KVM_EXIT_DEBUG, fill_step);
    kvm_run_guest(v, &last);
    g_assert_cmphex(fake_kvm.nr_exits, ==, fake_kvm.next_exit);
    kt_teardown();
}

/* --- breakpoints --- */

static const struct vcpu_debug points = {
    .int3 = true, .nr_points = 3,
    .points = {{VCPU_POINT_EXEC, 0, 0x1234}, {VCPU_POINT_WRITE, 4, 0x2000},
               {VCPU_POINT_ACCESS, 8, 0x3000}},
};

static void test_points(void)
{
    g_autoptr(GError) err = NULL, err2 = NULL;
    struct vcpu_debug bad = points;

    kt_setup();
    kt_run_to_halt();
    v->cpu.halted = false;
    kt_add(KVM_EXIT_DEBUG, fill_point0)->ret = 0;
    kt_add(0, NULL)->ret = -EINTR; /* a kick in the middle */
    kt_add(KVM_EXIT_DEBUG, fill_int3);
    g_assert_true(kvm_accel_ops.set_debug(v, &points, NULL));
    g_assert_cmpuint(fake_kvm.nr_exits, ==, fake_kvm.next_exit);
    g_assert_cmpuint(fake_kvm.slots, ==, 1);
    g_assert_cmphex(fake_kvm.debug.control, ==,
                    KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP);
    /* G0 G1 G2; R/W and LEN: 0, 1 and 4 bytes, 3 and 8 bytes */
    g_assert_cmphex(fake_kvm.debug.arch.debugreg[7], ==, 0x0bd0042a);
    g_assert_cmphex(fake_kvm.debug.arch.debugreg[2], ==, 0x3000);
    kt_add(KVM_EXIT_DEBUG, fill_point2);
    kvm_run_guest(v, &last);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_POINT << 2);
    g_assert_cmphex(fake_kvm.sregs.cs.base, ==, 0xffff0000); /* the guest's own again */
    kt_add(KVM_EXIT_DEBUG, fill_int3);
    kvm_run_guest(v, &last);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_INT3);
    bad.nr_points = VCPU_POINTS + 1;
    g_assert_false(kvm_accel_ops.set_debug(v, &bad, &err2));
    g_assert_nonnull(strstr(err2->message, "only 4"));
    bad = points;
    bad.points[1].gva = 0x2001;
    g_assert_false(kvm_accel_ops.set_debug(v, &bad, &err));
    g_assert_nonnull(strstr(err->message, "breakpoint 1"));
    kt_teardown();
}

/* A host whose breakpoints do not come out: said, and not tried again. */
static void test_no_points(void)
{
    struct vcpu_debug one = points;
    g_autoptr(GError) err = NULL, err2 = NULL, err3 = NULL;

    kt_setup();
    kt_add(KVM_EXIT_HLT, NULL);
    kt_add(KVM_EXIT_HLT, NULL);
    g_assert_false(kvm_accel_ops.set_debug(v, &points, &err));
    g_assert_nonnull(strstr(err->message, "breakpoints in debug registers"));
    one.nr_points = 0;
    g_assert_false(kvm_accel_ops.set_debug(v, &one, &err2));
    g_assert_nonnull(strstr(err2->message, "INT3"));
    g_assert_cmphex(fake_kvm.debug.control, ==, 0);
    fake_kvm.fail_request = KVM_SET_GUEST_DEBUG;
    fake_kvm.fail_error = EINVAL;
    one = (struct vcpu_debug){.step = true};
    g_assert_false(kvm_accel_ops.set_debug(v, &one, &err3));
    g_assert_nonnull(strstr(err3->message, "cannot debug guests"));
    kt_teardown();
}

/* What is needed to try them fails. */
static void test_points_fail(void)
{
    static const struct {
        unsigned long request;
        const char *text;
    } rows[] = {
        {KVM_SET_CPUID2, "does not take the guest's CPUID"},
        {KVM_SET_USER_MEMORY_REGION, "cannot be tried: Cannot allocate memory"},
        {KVM_SET_SREGS, "cannot be tried: Cannot allocate memory"},
        {KVM_SET_GUEST_DEBUG, "cannot be tried: Cannot allocate memory"},
        {KVM_RUN, "cannot be tried: Interrupted"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) err = NULL;

        kt_setup();
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = rows[i].request == KVM_RUN ? EINTR : ENOMEM; /* a storm of kicks */
        g_assert_false(kvm_accel_ops.set_debug(v, &points, &err));
        g_assert_nonnull(strstr(err->message, rows[i].text));
        fake_kvm.fail_request = 0;
        kt_add(KVM_EXIT_DEBUG, fill_point0); /* which is not remembered */
        kt_add(KVM_EXIT_DEBUG, fill_int3);
        g_assert_true(kvm_accel_ops.set_debug(v, &points, NULL));
        kt_teardown();
    }
}

int main(int argc, char **argv)
{
    kt_begin(&argc, &argv);
    g_test_add_func("/kvm/extras/points-fail", test_points_fail);
    g_test_add_func("/kvm/extras/step", test_step);
    g_test_add_func("/kvm/extras/step-hypercall", test_step_hypercall);
    g_test_add_func("/kvm/extras/step-own", test_step_own);
    g_test_add_func("/kvm/extras/step-interrupt", test_step_interrupt);
    g_test_add_func("/kvm/extras/step-vmcall", test_step_vmcall);
    g_test_add_func("/kvm/extras/points", test_points);
    g_test_add_func("/kvm/extras/no-points", test_no_points);
    return kt_end();
}
