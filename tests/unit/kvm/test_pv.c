/* SPDX-License-Identifier: MIT */
/*
 * PV guests against a fake /dev/kvm: what each entry into the shim means, what fails on the way in
 * and out, and kicks at any place. tests/unit/kvm/test_pv_shim.c runs the shim's own code.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv_test.h"

enum { KERNEL_RFLAGS = CPU_IF | 2 };

static const struct kvm_pv_frame kernel_frame = {
    .error = 0x11, .rip = 0x5123, .cs = KVM_PV_CS64, .rflags = KERNEL_RFLAGS | CPU_ZF,
    .rsp = 0x8ff0, .ss = KVM_PV_DS,
};

/* --- getting there --- */

/* A call fails, or does less than it was told to. */
static void test_load_fails(void)
{
    static const struct {
        unsigned long request;
        int error; /* 0: it sets no MSR */
        const char *text;
    } rows[] = {
        {KVM_SET_CPUID2, EINVAL, "does not take"},
        {KVM_SET_USER_MEMORY_REGION, ENOMEM, "does not take the guest's state: Cannot allocate"},
        {KVM_SET_SREGS, EINVAL, "does not take"},
        {KVM_SET_XSAVE, EINVAL, "does not take"},
        {KVM_SET_XCRS, EINVAL, "does not take"},
        {KVM_SET_MSRS, EIO, "does not take"},
        {KVM_SET_MSRS, 0, "does not take"},
        {KVM_SET_DEBUGREGS, EINVAL, "does not take"},
        {KVM_SET_VCPU_EVENTS, EINVAL, "does not take"},
        {KVM_SET_DEVICE_ATTR, EINVAL, "does not take"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        pvt_setup_new();
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = rows[i].error;
        fake_kvm.count_request = KVM_RUN;
        kt_run_to_end(EXIT_ERROR, rows[i].text);
        g_assert_cmpuint(fake_kvm.count, ==, 0);
        fake_kvm.fail_request = 0;
        pvt_teardown();
    }
}

static void test_too_many(void)
{
    pvt_setup_new();
    v->id = 128; /* vCPUs that the shim has no pages for */
    kt_run_to_end(EXIT_ERROR, "too long");
    v->id = 0;
    pvt_teardown();
}

/* What changed between two runs is loaded, and may be refused. */
static void test_change_fails(void)
{
    static const unsigned long requests[] = {KVM_SET_DEVICE_ATTR, KVM_SET_XCRS, KVM_SET_MSRS,
                                             KVM_SET_DEBUGREGS};

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        pvt_setup();
        v->cpu.tsc_offset += i == 0;
        v->cpu.xcr0 = i == 1 ? 7 : v->cpu.xcr0;
        v->cpu.tsc_aux += i == 2;
        v->cpu.dr[0] += i == 3;
        fake_kvm.fail_request = requests[i];
        fake_kvm.fail_error = EIO;
        kt_run_to_end(EXIT_ERROR, "does not take the guest's state: Input/output");
        pvt_teardown();
    }
}

static void test_change(void)
{
    pvt_setup();
    v->cpu.dr[0] = 0x77;
    v->cpu.xcr0 = 7;
    v->cpu.seg[CPU_DS].selector = 0x33;
    v->cpu.cr4 |= CPU_CR4_TSD;
    pvt_run_to_kick();
    g_assert_cmphex(fake_kvm.debugregs.db[0], ==, 0x77);
    g_assert_cmphex(fake_kvm.xcr0, ==, 7);
    g_assert_cmphex(fake_kvm.sregs.ds.selector, ==, 0x33);
    g_assert_cmphex(fake_kvm.sregs.cr4 & CPU_CR4_TSD, ==, CPU_CR4_TSD);
    pvt_teardown();
}

/* --- exits that end a run --- */

static void test_bad_exits(void)
{
    static const struct {
        uint32_t reason;
        int ret;
        enum exit_kind kind;
        const char *text;
    } rows[] = {
        {KVM_EXIT_SHUTDOWN, 0, EXIT_SHUTDOWN, "triple fault"},
        {KVM_EXIT_INTERNAL_ERROR, 0, EXIT_ERROR, "internal error"},
        {KVM_EXIT_FAIL_ENTRY, 0, EXIT_ERROR, "refused the guest's state"},
        {KVM_EXIT_IO, 0, EXIT_ERROR, "does not know"}, /* its IN and OUT are #GP */
        {0, -EFAULT, EXIT_ERROR, "cannot run the guest"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        pvt_setup();
        kt_add(rows[i].reason, NULL)->ret = rows[i].ret;
        kt_run_to_end(rows[i].kind, rows[i].text);
        pvt_teardown();
    }
}

static void fill_nowhere(struct kvm_run *run)
{
    pvt_at_shim(kvm_pv_shim_end);
}

/* A HLT where the shim has none. */
static void test_lost(void)
{
    pvt_setup();
    kt_add(KVM_EXIT_HLT, fill_nowhere);
    kt_run_to_end(EXIT_ERROR, "went wrong");
    pvt_teardown();
}

static void test_layout_fails(void)
{
    pvt_setup();
    kvm_vm_failed(pvt_k->vm, "the guest's memory cannot be laid out", ENOSPC);
    kt_run_to_end(EXIT_ERROR, "laid out: No space");
    pvt_teardown();
}

/* The way out: vector registers that KVM does not give. */
static void test_fetch_fails(void)
{
    static const unsigned long requests[] = {KVM_GET_XSAVE, KVM_GET_XCRS, KVM_GET_VCPU_EVENTS};

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        pvt_setup();
        fake_kvm.fail_request = requests[i];
        fake_kvm.fail_error = EIO;
        kt_add(0, pvt_fill_stop)->ret = -EINTR;
        kt_run_to_end(EXIT_ERROR, "does not give the guest's state");
        pvt_teardown();
    }
}

/* --- exceptions --- */

static unsigned vector_now;
static struct kvm_pv_frame frame_now;

static void fill_vector(struct kvm_run *run)
{
    fake_kvm.regs.rbx = 0xbbbb;
    fake_kvm.sregs.cr2 = 0xc0c0;
    fake_kvm.debugregs.dr6 = 0x4001;
    pvt_vector(vector_now, &frame_now);
}

static void test_vectors(void)
{
    static const struct {
        uint8_t vector;
        bool has_error;
        uint64_t cr2, dr6;
    } rows[] = {
        {CPU_DE, false, 0, 0}, {CPU_DB, false, 0, 0x4000}, {CPU_NMI, false, 0, 0},
        {CPU_UD, false, 0, 0}, {CPU_DOUBLE_FAULT, true, 0, 0}, {CPU_NP, true, 0, 0},
        {CPU_PAGE_FAULT, true, 0xc0c0, 0}, {CPU_ALIGN, true, 0, 0}, {CPU_MC, false, 0, 0},
        {CPU_GP, true, 0, 0}, {0x80, false, 0, 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        const struct pvt_call *call = &pvt_calls[0];

        pvt_setup();
        vector_now = rows[i].vector;
        frame_now = kernel_frame;
        kt_add(KVM_EXIT_HLT, fill_vector);
        pvt_run_to_kick();
        g_assert_cmpuint(pvt_nr_calls, ==, 1);
        g_assert_cmpint(call->what, ==, 't');
        g_assert_cmpuint(call->trap.vector, ==, rows[i].vector);
        g_assert_cmpint(call->trap.has_error, ==, rows[i].has_error);
        g_assert_cmphex(call->trap.error, ==, rows[i].has_error ? 0x11 : 0);
        g_assert_cmphex(call->trap.cr2, ==, rows[i].cr2);
        g_assert_cmphex(call->trap.dr6, ==, rows[i].dr6);
        g_assert_cmphex(call->cpu.rip, ==, kernel_frame.rip);
        g_assert_cmphex(call->cpu.rflags, ==, kernel_frame.rflags);
        g_assert_cmphex(call->cpu.gpr[CPU_RSP], ==, kernel_frame.rsp);
        g_assert_cmphex(call->cpu.gpr[CPU_RBX], ==, 0xbbbb);
        g_assert_cmphex(v->cpu.rip, ==, PVT_HANDLER);
        pvt_teardown();
    }
}

static uint64_t dr6_now;

static void fill_debug(struct kvm_run *run)
{
    fake_kvm.debugregs.dr6 = dr6_now;
    pvt_vector(CPU_DB, &kernel_frame);
}

/* Breakpoints that are enabled are told; one on the instruction sets RF. */
static void test_debug_points(void)
{
    static const struct {
        uint64_t dr7, address, dr6, told;
        bool resumes;
    } rows[] = {
        {0x400, 0x5123, 0xffff0ff4, 0, false},        /* none is enabled */
        {0x420, 0x5123, 0xffff0ff7, 4, true},         /* G2, on the instruction */
        {0x410, 0x5123, 0xffff4ff4, 0x4004, true},    /* L2, and a step */
        {0x420, 0x5124, 0xffff0ff4, 4, false},        /* it was another place */
        {0x420, 0x5123, 0xffff4ff0, 0x4000, false},   /* it will hit next */
        {0xd000420, 0x5123, 0xffff0ff4, 4, false},    /* a write */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        pvt_setup();
        v->cpu.dr[2] = rows[i].address;
        v->cpu.dr[7] = rows[i].dr7;
        dr6_now = rows[i].dr6;
        kt_add(KVM_EXIT_HLT, fill_debug);
        pvt_run_to_kick();
        g_assert_cmpuint(pvt_nr_calls, ==, 1);
        g_assert_cmphex(pvt_calls[0].trap.dr6, ==, rows[i].told);
        g_assert_cmphex(pvt_calls[0].cpu.rflags, ==,
                        kernel_frame.rflags | (rows[i].resumes ? CPU_RF : 0));
        pvt_teardown();
    }
}

/* #DB whose bits KVM does not tell: it comes without them. */
static void test_debug_bits_fail(void)
{
    pvt_setup();
    vector_now = CPU_DB;
    frame_now = kernel_frame;
    kt_add(KVM_EXIT_HLT, fill_vector);
    fake_kvm.fail_request = KVM_GET_DEBUGREGS;
    fake_kvm.fail_error = EIO;
    pvt_run_to_kick();
    g_assert_cmphex(pvt_calls[0].trap.dr6, ==, 0);
    pvt_teardown();
}

static uint64_t at_now;

/* The shim's IRET has failed; at_now: where RIP was put for it. */
static void fill_iret_fails(struct kvm_run *run)
{
    at_now = fake_kvm.regs.rip;
    frame_now.cs = KVM_PV_CS0;
    frame_now.rip = kvm_pv_code(pvt_k->pv, kvm_pv_shim_iret);
    pvt_vector(CPU_GP, &frame_now);
}

/* It was entered without the shim. */
static void fill_direct(struct kvm_run *run)
{
    g_assert_cmphex(fake_kvm.regs.rip, ==, v->cpu.rip);
    g_assert_cmphex(fake_kvm.regs.rsp, ==, v->cpu.gpr[CPU_RSP]);
    g_assert_cmphex(fake_kvm.sregs.cs.selector, ==, KVM_PV_CS64);
    g_assert_cmphex(fake_kvm.sregs.cr3, ==, v->cpu.cr3);
    frame_now = kernel_frame;
    pvt_vector(CPU_GP, &frame_now);
}

static void test_iret_fails(void)
{
    pvt_setup();
    kt_add(KVM_EXIT_HLT, fill_iret_fails);
    kt_add(KVM_EXIT_HLT, fill_direct);
    pvt_run_to_kick();
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    g_assert_false(pvt_k->pv->direct); /* by the shim again */
    g_assert_cmphex(pvt_calls[0].cpu.rip, ==, kernel_frame.rip);
    pvt_teardown();

    pvt_setup(); /* and then it must not fail there a second time */
    kt_add(KVM_EXIT_HLT, fill_iret_fails);
    kt_add(KVM_EXIT_HLT, fill_iret_fails);
    kt_run_to_end(EXIT_ERROR, "went wrong");
    pvt_teardown();
}

/* #DB held back by MOV SS, at the first instruction of the entry for SYSCALL; or nowhere. */
static void fill_late_debug(struct kvm_run *run)
{
    frame_now = kernel_frame;
    frame_now.cs = KVM_PV_CS0;
    frame_now.rip = at_now;
    frame_now.rsp = 0x7777;
    fake_kvm.regs.rcx = 0x5002;
    fake_kvm.regs.r11 = KERNEL_RFLAGS;
    pvt_vector(CPU_DB, &frame_now);
}

static void test_late_debug(void)
{
    pvt_setup();
    at_now = kvm_pv_code(pvt_k->pv, kvm_pv_shim_syscall);
    kt_add(KVM_EXIT_HLT, fill_late_debug);
    pvt_run_to_kick();
    g_assert_cmpint(pvt_calls[0].what, ==, 's');
    g_assert_cmphex(pvt_calls[0].cpu.rip, ==, 0x5002);
    g_assert_cmphex(pvt_calls[0].cpu.gpr[CPU_RSP], ==, 0x7777);
    pvt_teardown();

    pvt_setup();
    at_now = kvm_pv_code(pvt_k->pv, kvm_pv_shim);
    kt_add(KVM_EXIT_HLT, fill_late_debug);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_ERROR);
    pvt_teardown();
}

/* --- system calls --- */

static const uint8_t *entry_now;

static void fill_entry(struct kvm_run *run)
{
    fake_kvm.regs.rcx = 0x5002;
    fake_kvm.regs.r11 = KERNEL_RFLAGS;
    pvt_at_shim(entry_now + 1);
}

static void test_calls(void)
{
    const struct {
        const uint8_t *entry;
        char what;
        uint16_t cs;
        uint8_t vector; /* when refused */
        uint64_t rip;   /* then */
    } rows[] = {
        {kvm_pv_shim_syscall32, 's', KVM_PV_CS32, CPU_UD, 0x5000},
        {kvm_pv_shim_sysenter, 'S', KVM_PV_CS32, CPU_GP, 0}, /* whence is not known */
    };

    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(rows); i++) {
        const bool refuse = i >= G_N_ELEMENTS(rows);
        const unsigned row = i % G_N_ELEMENTS(rows);

        pvt_setup();
        pvt_refuse = refuse;
        entry_now = rows[row].entry;
        kt_add(KVM_EXIT_HLT, fill_entry);
        pvt_run_to_kick();
        g_assert_cmpint(pvt_calls[0].what, ==, rows[row].what);
        g_assert_cmphex(pvt_calls[0].cpu.seg[CPU_CS].selector, ==, rows[row].cs);
        g_assert_cmpuint(pvt_nr_calls, ==, refuse ? 2 : 1);
        if (refuse) {
            g_assert_cmpuint(pvt_calls[1].trap.vector, ==, rows[row].vector);
            g_assert_cmphex(pvt_calls[1].cpu.rip, ==, rows[row].rip);
        }
        pvt_teardown();
    }
}

/* The vCPU sleeps in a hypercall. */
static void test_sleeps(void)
{
    pvt_setup();
    hypercall_sleeps = true;
    entry_now = kvm_pv_shim_syscall32;
    kt_add(KVM_EXIT_HLT, fill_entry);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    kvm_run_guest(v, &last); /* still */
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_cmpuint(fake_kvm.next_exit, ==, 1);
    pvt_teardown();
}

/* --- interrupted --- */

static struct kvm_vcpu_events events_now;

static void fill_guest_event(struct kvm_run *run)
{
    fake_kvm.events = events_now;
    fake_kvm.regs.rdx = 0xdddd;
    fake_kvm.sregs.cr2 = 0xc0c0;
    fake_kvm.debugregs.dr6 = 0x4000;
    pvt_at_guest(0x5200);
}

static void fill_shim_event(struct kvm_run *run)
{
    fake_kvm.events = events_now;
    pvt_at_shim(kvm_pv_shim_iret);
}

/* Stopped in the guest with an exception on its way: delivered here, not again by KVM. */
static void test_pending(void)
{
    static const uint8_t vectors[] = {CPU_PAGE_FAULT, CPU_DB, CPU_GP};

    for (unsigned i = 0; i < G_N_ELEMENTS(vectors); i++) {
        pvt_setup();
        events_now = (struct kvm_vcpu_events){.exception = {
            .injected = i == 0, .pending = i != 0, .nr = vectors[i], .has_error_code = 1,
            .error_code = 6}};
        kt_add(0, fill_guest_event)->ret = -EINTR;
        pvt_run_to_kick();
        g_assert_cmpuint(pvt_nr_calls, ==, 1);
        g_assert_cmpuint(pvt_calls[0].trap.vector, ==, vectors[i]);
        g_assert_cmphex(pvt_calls[0].trap.error, ==, 6);
        g_assert_cmphex(pvt_calls[0].trap.dr6, ==, vectors[i] == CPU_DB ? 0x4000 : 0);
        g_assert_cmphex(pvt_calls[0].cpu.rip, ==, 0x5200);
        g_assert_cmphex(pvt_calls[0].cpu.gpr[CPU_RDX], ==, 0xdddd);
        g_assert_cmpuint(fake_kvm.events.exception.injected, ==, 0);
        g_assert_cmpuint(fake_kvm.events.exception.pending, ==, 0);
        pvt_teardown();
    }
    pvt_setup(); /* of the shim's IRET */
    kt_add(0, fill_shim_event)->ret = -EINTR;
    kt_add(KVM_EXIT_HLT, fill_direct);
    pvt_run_to_kick();
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    pvt_teardown();
}

static void test_pending_fails(void)
{
    pvt_setup();
    events_now = (struct kvm_vcpu_events){.exception = {.injected = 1, .nr = CPU_UD}};
    kt_add(0, fill_guest_event)->ret = -EINTR;
    fake_kvm.fail_request = KVM_SET_VCPU_EVENTS;
    fake_kvm.fail_error = EIO;
    kt_run_to_end(EXIT_ERROR, "does not take");
    g_assert_cmpuint(pvt_nr_calls, ==, 0);
    pvt_teardown();
}

/* Nothing but a signal: the guest goes on where it was, without the shim. */
static void fill_goes_on(struct kvm_run *run)
{
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x5200);
    g_assert_cmphex(fake_kvm.regs.rdx, ==, 0xdddd);
}

static void test_signal(void)
{
    pvt_setup();
    events_now = (struct kvm_vcpu_events){.flags = 0};
    kt_add(0, fill_guest_event)->ret = -EINTR;
    kt_add(KVM_EXIT_INTR, fill_goes_on);
    kt_add(0, fill_guest_event)->ret = -EAGAIN;
    pvt_run_to_kick();
    g_assert_cmpuint(pvt_nr_calls, ==, 0);
    g_assert_cmphex(v->cpu.rip, ==, 0x5200);
    pvt_teardown();
}

/* --- requests --- */

static void fill_flushed(struct kvm_run *run)
{
    g_assert_cmphex(fake_kvm.regs.rip, ==, kvm_pv_code(pvt_k->pv, kvm_pv_shim_resume));
    fill_shim_event(run);
}

static void test_requests(void)
{
    pvt_setup();
    events_now = (struct kvm_vcpu_events){.flags = 0};
    atomic_store(&v->request, VCPU_REQ_TLB_FLUSH | VCPU_REQ_PV_FLUSH | VCPU_REQ_NMI | VCPU_REQ_IRQ);
    kt_add(KVM_EXIT_INTR, fill_flushed);
    pvt_run_to_kick();
    g_assert_cmphex(atomic_load(&v->request), ==, VCPU_REQ_STOP);
    g_assert_cmpuint(pvt_nr_calls, ==, 2);
    g_assert_cmpuint(pvt_calls[0].trap.vector, ==, CPU_NMI);
    g_assert_cmpint(pvt_calls[1].what, ==, 'e');
    g_assert_false(v->cpu.nmi_pending);
    pvt_teardown();

    pvt_setup();
    kvm_accel_ops.tlb_flush(v, VCPU_FLUSH_ALL, 0);
    kt_add(KVM_EXIT_INTR, fill_flushed);
    pvt_run_to_kick();
    pvt_teardown();
}

static void fill_read_then_stop(struct kvm_run *run)
{
    pvt_at_guest(0x5300);
    run->mmio.phys_addr = 0xfed00000;
    run->mmio.len = 4;
    vcpu_request(v, VCPU_REQ_STOP);
}

/* A read that KVM has to finish before anything else happens. */
static void test_unfinished(void)
{
    pvt_setup();
    kt_add(KVM_EXIT_MMIO, fill_read_then_stop);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_true(fake_kvm.immediate_exit);
    kt_assert_call(0, 'r', 0xfed00000, 4, 0);
    g_assert_cmphex(v->cpu.rip, ==, 0x5300);
    pvt_teardown();
}

static void test_barrier(void)
{
    bool seen = false;

    pvt_setup();
    kvm_accel_ops.branch_barrier(v);
    for (unsigned i = 0; i < fake_kvm.nr_msrs; i++) {
        seen = seen || (fake_kvm.msr_index[i] == 0x49 && fake_kvm.msrs[i] == 1);
    }
    g_assert_true(seen);
    fake_kvm.fail_request = KVM_SET_MSRS; /* no such MSR */
    kvm_accel_ops.branch_barrier(v);
    fake_kvm.fail_request = 0;
    pvt_run_to_kick();
    pvt_teardown();
}

/* VMCALL that comes out (KVM_CAP_XEN_HVM): as on a processor that runs no virtual machine. */
static void fill_vmcall(struct kvm_run *run)
{
    pvt_at_guest(0x5400);
    run->xen.type = KVM_EXIT_XEN_HCALL;
}

static void test_vmcall(void)
{
    pvt_setup();
    kt_add(KVM_EXIT_XEN, fill_vmcall);
    pvt_run_to_kick();
    g_assert_cmpuint(pvt_nr_calls, ==, 1);
    g_assert_cmpint(pvt_calls[0].what, ==, 't');
    g_assert_cmpuint(pvt_calls[0].trap.vector, ==, CPU_UD);
    g_assert_cmphex(pvt_calls[0].cpu.rip, ==, 0x5400);
    pvt_teardown();
}

int main(int argc, char **argv)
{
    int ret;

    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);
    model = cpu_model_new_host(NULL);
    g_test_add_func("/kvm/pv/load-fails", test_load_fails);
    g_test_add_func("/kvm/pv/too-many", test_too_many);
    g_test_add_func("/kvm/pv/change-fails", test_change_fails);
    g_test_add_func("/kvm/pv/change", test_change);
    g_test_add_func("/kvm/pv/bad-exits", test_bad_exits);
    g_test_add_func("/kvm/pv/lost", test_lost);
    g_test_add_func("/kvm/pv/layout-fails", test_layout_fails);
    g_test_add_func("/kvm/pv/fetch-fails", test_fetch_fails);
    g_test_add_func("/kvm/pv/vectors", test_vectors);
    g_test_add_func("/kvm/pv/debug-points", test_debug_points);
    g_test_add_func("/kvm/pv/debug-bits-fail", test_debug_bits_fail);
    g_test_add_func("/kvm/pv/iret-fails", test_iret_fails);
    g_test_add_func("/kvm/pv/late-debug", test_late_debug);
    g_test_add_func("/kvm/pv/calls", test_calls);
    g_test_add_func("/kvm/pv/sleeps", test_sleeps);
    g_test_add_func("/kvm/pv/pending", test_pending);
    g_test_add_func("/kvm/pv/pending-fails", test_pending_fails);
    g_test_add_func("/kvm/pv/signal", test_signal);
    g_test_add_func("/kvm/pv/requests", test_requests);
    g_test_add_func("/kvm/pv/unfinished", test_unfinished);
    g_test_add_func("/kvm/pv/barrier", test_barrier);
    g_test_add_func("/kvm/pv/vmcall", test_vmcall);
    ret = g_test_run();
    cpu_model_free(model);
    return ret;
}
