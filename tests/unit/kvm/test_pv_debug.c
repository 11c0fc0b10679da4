/* SPDX-License-Identifier: MIT */
/*
 * A debugger's stops in PV guests, and the log of what they write to, against a fake /dev/kvm: what
 * the vCPU is entered with, what each exit tells, what the guest sees of it. The contract as a
 * whole is in tests/unit/interp/test_debug_pv.c.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv_test.h"

enum { KERNEL_RFLAGS = CPU_IF | 2, FRAME_RFLAGS = 3 /* from the stack's end */ };
#define DR6_NONE 0xffff0ff0ull
#define DR6_STEP 0x4000ull

static const struct vcpu_debug step = {.step = true};
static const struct vcpu_debug points = {
    .nr_points = 2, .points = {{VCPU_POINT_EXEC, 0, 0x5123}, {VCPU_POINT_WRITE, 4, 0x2000}},
};

static uint64_t dr6_now, entry_flags;
static struct kvm_pv_frame frame_now = {
    .error = 0x1a, .rip = 0x5123, .cs = KVM_PV_CS64, .rflags = KERNEL_RFLAGS, .rsp = 0x8ff0,
    .ss = KVM_PV_DS,
};

/* RFLAGS that the shim's IRET was given. */
static void note_entry(void)
{
    const uint64_t *end = (const uint64_t *)(pvt_k->pv->stack + PAGE);

    entry_flags = end[-FRAME_RFLAGS];
}

static void fill_db(struct kvm_run *run)
{
    note_entry();
    fake_kvm.debugregs.dr6 = DR6_NONE | dr6_now;
    pvt_vector(CPU_DB, &frame_now);
}

static void fill_gp(struct kvm_run *run)
{
    note_entry();
    pvt_vector(CPU_GP, &frame_now);
}

static void fill_call(struct kvm_run *run)
{
    note_entry();
    fake_kvm.regs.rcx = 0x5002;
    fake_kvm.regs.r11 = KERNEL_RFLAGS | CPU_TF;
    pvt_at_shim(kvm_pv_shim_syscall32 + 1);
}

static void fill_try_point(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = 1;
}

/* --- arrange --- */

static void debug_setup(const struct vcpu_debug *debug)
{
    pvt_setup();
    v->cpu.dr[6] = DR6_NONE;
    v->cpu.dr[7] = 0x400;
    frame_now.rflags = KERNEL_RFLAGS;
    frame_now.rip = 0x5123;
    if (debug->nr_points > 0) { /* the host has them */
        kt_add(KVM_EXIT_DEBUG, fill_try_point);
        kt_add(KVM_EXIT_DEBUG, NULL);
    }
    g_assert_true(kvm_accel_ops.set_debug(v, debug, NULL));
    g_assert_cmphex(fake_kvm.debug.control, ==, 0); /* KVM's own has nothing to do */
}

/* The first 2 MiB are mapped: what pvemu reads of the guest's code is there. */
static void debug_tables(void)
{
    static const uint64_t table[] = {0x1000, 0x3007, 0x3000, 0x4007, 0x4000, 0x87};

    for (unsigned i = 0; i < G_N_ELEMENTS(table); i += 2) {
        g_assert_true(mem_write(v->mem, table[i], &table[i + 1], sizeof(table[i])));
    }
}

static void run_to_stop(unsigned stop, uint64_t rip)
{
    kvm_run_guest(v, &last);
    g_assert_cmpstr(last.message, ==, "");
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmphex(last.stop, ==, stop);
    g_assert_cmphex(v->cpu.rip, ==, rip);
    g_assert_cmpuint(fake_kvm.next_exit, ==, fake_kvm.nr_exits);
}

/* --- steps --- */

static void test_step(void)
{
    debug_setup(&step);
    dr6_now = DR6_STEP;
    frame_now.rflags |= CPU_TF | CPU_ZF;
    kt_add(0, NULL)->ret = -EINTR; /* a kick before anything has run: no step */
    kt_add(KVM_EXIT_HLT, fill_db);
    run_to_stop(VCPU_STOP_STEP, 0x5123);
    g_assert_cmphex(entry_flags, ==, KERNEL_RFLAGS | CPU_TF);
    g_assert_cmphex(v->cpu.rflags, ==, KERNEL_RFLAGS | CPU_ZF);
    g_assert_cmpuint(pvt_nr_calls, ==, 0); /* nothing for the guest */
    g_assert_cmpuint(pvt_k->pv->data->fast_call, ==, 0);
    g_assert_true(kvm_accel_ops.set_debug(v, NULL, NULL));
    kt_add(KVM_EXIT_HLT, fill_db); /* the guest's */
    pvt_run_to_kick();
    g_assert_cmphex(entry_flags & CPU_TF, ==, 0);
    g_assert_cmphex(fake_kvm.debugregs.dr6, ==, DR6_NONE); /* what the guest has not seen is gone */
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    g_assert_cmphex(pvt_calls[0].trap.dr6, ==, DR6_STEP);
    g_assert_cmpuint(pvt_k->pv->data->fast_call, !=, 0);
    pvt_teardown();
}

/* TF is the guest's own: it gets its #DB, and the step is told as well. */
static void test_own_step(void)
{
    debug_setup(&step);
    v->cpu.rflags |= CPU_TF;
    dr6_now = DR6_STEP;
    frame_now.rflags |= CPU_TF;
    kt_add(KVM_EXIT_HLT, fill_db);
    run_to_stop(VCPU_STOP_STEP, PVT_HANDLER);
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    g_assert_cmphex(pvt_calls[0].trap.dr6, ==, DR6_STEP);
    g_assert_cmphex(pvt_calls[0].cpu.rflags & CPU_TF, ==, CPU_TF);
    pvt_teardown();
}

/* POPF has its own word on TF; behind any other instruction it is as before. */
static void test_flags(void)
{
    static const struct {
        char code[3];
        bool loads;
    } rows[] = {{"\x9d", true}, {"\x66\x9d", true}, {"\x48\xcf", true}, {"\x2e\x9d", true},
                {"\x48\x90", false}};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        debug_setup(&step);
        debug_tables();
        g_assert_true(mem_write(v->mem, PVT_RIP, rows[i].code, 2));
        dr6_now = DR6_STEP;
        frame_now.rflags |= CPU_TF;
        kt_add(KVM_EXIT_HLT, fill_db);
        run_to_stop(VCPU_STOP_STEP, 0x5123);
        g_assert_cmpint((v->cpu.rflags & CPU_TF) != 0, ==, rows[i].loads);
        pvt_teardown();
    }
}

/* What pvemu does for the guest is a step: a call, a fault. */
static void test_step_exits(void)
{
    debug_setup(&step);
    kt_add(KVM_EXIT_HLT, fill_call);
    run_to_stop(VCPU_STOP_STEP, 0x5002);
    g_assert_cmpint(pvt_calls[0].what, ==, 's');
    g_assert_cmphex(pvt_calls[0].cpu.gpr[CPU_R11], ==, KERNEL_RFLAGS);
    g_assert_cmphex(pvt_calls[0].cpu.rflags, ==, KERNEL_RFLAGS);
    kt_add(KVM_EXIT_HLT, fill_gp);
    run_to_stop(VCPU_STOP_STEP, PVT_HANDLER);
    g_assert_cmpuint(pvt_calls[1].trap.vector, ==, CPU_GP);
    hypercall_sleeps = true;
    kt_add(KVM_EXIT_HLT, fill_call);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    pvt_teardown();
}

/* --- breakpoints --- */

static void test_int3(void)
{
    static const struct vcpu_debug int3 = {.int3 = true};

    debug_setup(&int3);
    debug_tables();
    g_assert_true(mem_write(v->mem, frame_now.rip, "\xcc", 1));
    kt_add(KVM_EXIT_HLT, fill_gp);
    run_to_stop(VCPU_STOP_INT3, 0x5123);
    g_assert_cmpuint(pvt_nr_calls, ==, 0);
    g_assert_true(mem_write(v->mem, frame_now.rip, "\x0f\x0b", 2)); /* not one */
    kt_add(KVM_EXIT_HLT, fill_gp);
    pvt_run_to_kick();
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    pvt_teardown();
}

static void test_points(void)
{
    debug_setup(&points);
    v->cpu.dr[0] = 0x7777; /* the guest's rest meanwhile */
    v->cpu.dr[6] |= DR6_STEP;
    v->cpu.rflags |= CPU_RF;
    dr6_now = 1 | 4; /* which is not enabled */
    kt_add(KVM_EXIT_HLT, fill_db);
    run_to_stop(VCPU_STOP_POINT, 0x5123);
    g_assert_cmphex(entry_flags & CPU_RF, ==, 0);
    g_assert_cmphex(v->cpu.rflags & CPU_RF, ==, 0);
    g_assert_cmphex(fake_kvm.debugregs.db[0], ==, 0x5123);
    g_assert_cmphex(fake_kvm.debugregs.dr7, ==, pvt_k->debug.arch.debugreg[7]);
    g_assert_cmphex(v->cpu.dr[0], ==, 0x7777);
    dr6_now = 2;
    kt_add(KVM_EXIT_HLT, fill_db);
    run_to_stop(VCPU_STOP_POINT << 1, 0x5123);
    g_assert_cmpuint(pvt_nr_calls, ==, 0);
    g_assert_true(kvm_accel_ops.set_debug(v, NULL, NULL));
    pvt_run_to_kick();
    g_assert_cmphex(fake_kvm.debugregs.db[0], ==, 0x7777); /* the guest's again */
    g_assert_cmphex(fake_kvm.debugregs.dr6, ==, DR6_NONE | DR6_STEP);
    g_assert_cmphex(fake_kvm.debugregs.dr7, ==, 0x400);
    pvt_teardown();
}

/* A host whose points do not come out; INT3 does everywhere. */
static void test_refused(void)
{
    g_autoptr(GError) err = NULL;

    pvt_setup();
    kt_add(KVM_EXIT_HLT, NULL);
    kt_add(KVM_EXIT_HLT, NULL);
    g_assert_false(kvm_accel_ops.set_debug(v, &points, &err));
    g_assert_nonnull(strstr(err->message, "breakpoints in debug registers"));
    g_assert_true(kvm_accel_ops.set_debug(v, &(struct vcpu_debug){.int3 = true}, NULL));
    pvt_run_to_kick(); /* as before the try */
    g_assert_cmphex(fake_kvm.sregs.gdt.base, ==, pvt_k->pv->linear);
    pvt_teardown();
}

/* --- written pages --- */

static bool was_dirty(uint32_t frame)
{
    return (atomic_fetch_and(&mem_frame_info(v->mem, frame)->flags, (uint8_t)~MEM_DIRTY) &
            MEM_DIRTY) != 0;
}

/* The shim's page is not in KVM's log. */
static void test_dirty(void)
{
    pvt_setup();
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    was_dirty(3);
    was_dirty(4);
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(was_dirty(3)); /* pvt_entry.info_frame */
    g_assert_false(was_dirty(4));
    pvt_entry.info_frame = 4; /* what it has written to since counts */
    pvt_run_to_kick();
    g_assert_true(was_dirty(3));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(was_dirty(4));
    g_assert_false(was_dirty(3));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    pvt_teardown();
}

/* Nor are the frames in the guest's window. */
static void test_dirty_window(void)
{
    pvt_setup_new();
    mem_set_window(v->mem, RAM / PAGE + 512, 1, 2);
    pvt_run_to_kick();
    g_assert_cmpuint(fake_kvm.slots, ==, 3); /* RAM, the shim, the window */
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    for (uint32_t i = 0; i < 4; i++) {
        was_dirty(mem_extra_frame(v->mem, i));
    }
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    for (uint32_t i = 0; i < 4; i++) {
        g_assert_cmpint(was_dirty(mem_extra_frame(v->mem, i)), ==, i == 1 || i == 2);
    }
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    pvt_teardown();
}

int main(int argc, char **argv)
{
    int ret;

    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);
    model = cpu_model_new_host(NULL);
    g_test_add_func("/kvm/pv-debug/step", test_step);
    g_test_add_func("/kvm/pv-debug/own-step", test_own_step);
    g_test_add_func("/kvm/pv-debug/flags", test_flags);
    g_test_add_func("/kvm/pv-debug/step-exits", test_step_exits);
    g_test_add_func("/kvm/pv-debug/int3", test_int3);
    g_test_add_func("/kvm/pv-debug/points", test_points);
    g_test_add_func("/kvm/pv-debug/refused", test_refused);
    g_test_add_func("/kvm/pv-debug/dirty", test_dirty);
    g_test_add_func("/kvm/pv-debug/dirty-window", test_dirty_window);
    ret = g_test_run();
    cpu_model_free(model);
    return ret;
}
