/* SPDX-License-Identifier: MIT */
/*
 * The engine against a fake /dev/kvm: calls that fail in the middle, registers that stay with KVM,
 * debugging, the log of written pages, VMCALL as an exit, and what the guest must not see of KVM.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/resource.h>

#include "vcpu_test.h"

/* --- calls that fail while the guest runs --- */

static void fill_stop(struct kvm_run *run)
{
    vcpu_request(v, VCPU_REQ_STOP);
}

static void fill_apic(struct kvm_run *run)
{
    run->msr.index = 0x80b;
}

static void fill_efer(struct kvm_run *run)
{
    run->msr.index = 0xc0000080;
}

static void fill_tsc(struct kvm_run *run)
{
    run->msr.index = 0x10;
    run->msr.data = 77;
}

static void fill_hypercall(struct kvm_run *run)
{
    kt_io_data(run, KVM_EXIT_IO_OUT, 0x7e, 1, 1);
}

static void fill_vmcall(struct kvm_run *run)
{
    run->xen.type = KVM_EXIT_XEN_HCALL;
    fake_kvm.regs.rip = 0x5000;
    fake_kvm.regs.rax = 29;
}

static void test_run_fails(void)
{
    static const struct {
        unsigned long request;
        uint32_t request_bits, reason;
        void (*fill)(struct kvm_run *run);
        const char *text;
    } rows[] = {
        {KVM_INTERRUPT, VCPU_REQ_IRQ, 0, NULL, "cannot give an interrupt"},
        {KVM_NMI, VCPU_REQ_NMI, 0, NULL, "cannot give an NMI"},
        {KVM_GET_REGS, 0, KVM_EXIT_HLT, NULL, "does not give"},
        {KVM_GET_REGS, 0, KVM_EXIT_IO, fill_hypercall, "does not give"},
        {KVM_GET_SREGS, 0, KVM_EXIT_IO, fill_hypercall, "does not give"},
        {KVM_GET_REGS, 0, KVM_EXIT_X86_RDMSR, fill_efer, "does not give"},
        {KVM_GET_SREGS, 0, KVM_EXIT_X86_WRMSR, fill_efer, "does not give"},
        {KVM_GET_REGS, 0, KVM_EXIT_XEN, fill_vmcall, "does not give"},
        {KVM_GET_REGS, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
        {KVM_GET_SREGS, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
        {KVM_GET_XSAVE, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
        {KVM_GET_XCRS, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
        {KVM_GET_DEBUGREGS, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
        {KVM_GET_VCPU_EVENTS, 0, KVM_EXIT_IRQ_WINDOW_OPEN, fill_stop, "does not give"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        kt_setup();
        v->cpu.rflags |= CPU_IF;
        irq_vector = 0x31;
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = EIO;
        vcpu_request(v, rows[i].request_bits);
        if (rows[i].request_bits == 0) {
            struct fake_exit *e = kt_add(rows[i].reason, rows[i].fill);

            e->ret = rows[i].fill == fill_stop ? -EINTR : 0;
        }
        kt_run_to_end(EXIT_ERROR, rows[i].text);
        g_assert_nonnull(strstr(last.message, "Input/output error"));
        kt_teardown();
    }
}

/* MSRs: what KVM lost of them, and a TSC it does not take. */
static void test_msrs_fail(void)
{
    kt_setup();
    kt_run_to_halt();
    fake_kvm.fail_request = KVM_GET_MSRS;
    fake_kvm.fail_error = EIO;
    kvm_sync(v);
    g_assert_false(((struct kvm_engine *)v->engine)->deep_away);
    kt_teardown();

    kt_setup();
    kt_run_to_halt();
    fake_kvm.fail_request = KVM_SET_DEVICE_ATTR;
    fake_kvm.fail_error = EIO;
    kt_add(KVM_EXIT_X86_WRMSR, fill_tsc);
    kt_run_to_end(EXIT_ERROR, "cannot set the TSC");
    kt_teardown();
}

/* More pages outside RAM than KVM has slots. */
static void test_slots_end(void)
{
    kt_setup();
    ((struct kvm_engine *)v->engine)->vm->nr_slots = KVM_SLOT_FIRST_OUTSIDE + 1;
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 0)));
    g_assert_true(mem_set_gfn(v->mem, 0xfe701, mem_extra_frame(v->mem, 1)));
    kt_run_to_end(EXIT_ERROR, "No space left");
    kt_teardown();
}

static void test_slot_again(void)
{
    struct kvm_vm *vm;

    kt_setup();
    vm = ((struct kvm_engine *)v->engine)->vm;
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 0)));
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, MEM_HOLE));
    g_assert_true(mem_set_gfn(v->mem, 0xfe701, mem_extra_frame(v->mem, 1)));
    g_assert_cmpuint(vm->next_slot, ==, KVM_SLOT_FIRST_OUTSIDE + 1);
    g_assert_cmpuint(fake_kvm.slots, ==, 2);
    kt_teardown();
}

/* --- events that KVM had begun --- */

static struct kvm_vcpu_events in_flight;

static void fill_events(struct kvm_run *run)
{
    fake_kvm.events = in_flight;
    fake_kvm.regs.rip = 0x2000;
    vcpu_request(v, VCPU_REQ_STOP);
}

/* Real mode, handlers at 0100:vector * 16; the run ends with a kick. */
static void run_events(enum exit_kind kind, uint16_t idt_limit)
{
    kt_setup();
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t entry = 0x0100u << 16 | i * 16;

        mem_write(v->mem, i * 4, &entry, sizeof(entry));
    }
    v->cpu.seg[CPU_CS].base = v->cpu.seg[CPU_CS].selector = 0;
    v->cpu.gpr[CPU_RSP] = 0x8000;
    v->cpu.idtr.limit = idt_limit;
    kt_add(KVM_EXIT_IRQ_WINDOW_OPEN, fill_events);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, kind);
}

static void test_events(void)
{
    static const struct {
        struct kvm_vcpu_events events;
        uint64_t rip;
    } rows[] = {
        {{.exception = {.injected = 1, .nr = CPU_UD}}, CPU_UD * 16},
        {{.exception = {.pending = 1, .nr = CPU_DB}}, CPU_DB * 16},
        {{.exception = {.injected = 1, .nr = CPU_BP}}, 0x2000}, /* RIP is at the INT3 still */
        {{.nmi = {.injected = 1, .masked = 1}}, CPU_NMI * 16},
        {{.interrupt = {.injected = 1, .nr = 17}}, 17 * 16},
        {{.interrupt = {.injected = 1, .nr = 17, .soft = 1}}, 0x2000}, /* at the INT n */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        in_flight = rows[i].events;
        run_events(EXIT_KICK, 0x3ff);
        g_assert_cmphex(v->cpu.rip, ==, rows[i].rip);
        g_assert_true(((struct kvm_engine *)v->engine)->load_all);
        kt_teardown();
    }
    in_flight = (struct kvm_vcpu_events){.nmi = {.pending = 1}};
    run_events(EXIT_KICK, 0x3ff);
    g_assert_true(v->cpu.nmi_pending);
    kt_teardown();
    in_flight = rows[0].events; /* it cannot be delivered: no table */
    run_events(EXIT_SHUTDOWN, 0);
    g_assert_cmpstr(last.message, ==, "triple fault");
    kt_teardown();
    kt_setup(); /* the same of a vCPU that sleeps: its next run tells */
    kt_run_to_halt();
    fake_kvm.events = rows[0].events;
    fake_kvm.sregs.cr0 = 0x10;
    fake_kvm.sregs.idt.limit = 0;
    kvm_sync(v);
    v->cpu.halted = false;
    kt_run_to_end(EXIT_SHUTDOWN, "triple fault");
    kvm_accel_ops.state_changed(v); /* started anew */
    kt_run_to_halt();
    kt_teardown();
}

/* --- kicks, the TPR, the TSC --- */

static gpointer kick_thread(gpointer data)
{
    vcpu_request(data, VCPU_REQ_STOP);
    return NULL;
}

static void fill_kick(struct kvm_run *run)
{
    g_thread_join(g_thread_new("kick", kick_thread, v)); /* sends this thread a signal */
    g_assert_cmpuint(run->immediate_exit, ==, 1);
}

static void test_kick(void)
{
    kt_setup();
    kt_add(KVM_EXIT_INTR, fill_kick);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    kt_teardown();
    kt_setup_board(); /* no engine: nothing happens */
    kvm_kick(v);
    kt_teardown();
}

static void fill_tpr_page(struct kvm_run *run)
{
    run->mmio.phys_addr = 0xfee00080;
    run->mmio.len = 4;
    run->mmio.is_write = 1;
}

static void fill_tpr_msr(struct kvm_run *run)
{
    struct kvm_engine *k = v->engine;

    g_assert_cmpuint(k->cr8, ==, 3);
    k->cr8 = run->cr8 = 0;
    run->msr.index = 0x808;
}

static void test_tpr(void)
{
    kt_setup();
    ((struct kvm_engine *)v->engine)->cr8 = 0;
    kt_add(KVM_EXIT_MMIO, fill_tpr_page);
    kt_add(KVM_EXIT_X86_WRMSR, fill_tpr_msr);
    kt_run_to_halt();
    g_assert_cmpuint(((struct kvm_engine *)v->engine)->cr8, ==, 3); /* as the board says */
    kt_teardown();
}

/* A kernel that has no attribute for the TSC's offset: the TSC itself is set. */
static void test_tsc(void)
{
    bool seen = false;

    kt_setup_board();
    fake_kvm.fail_request = KVM_HAS_DEVICE_ATTR;
    fake_kvm.fail_error = ENXIO;
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, false, NULL));
    kt_run_to_halt();
    for (unsigned i = 0; i < fake_kvm.nr_msrs; i++) {
        seen = seen || (fake_kvm.msr_index[i] == 0x10 && fake_kvm.msrs[i] != 0);
    }
    g_assert_true(seen);
    v->cpu.tsc_offset += 5; /* changed while it slept, and refused */
    fake_kvm.fail_request = KVM_SET_MSRS;
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_ERROR);
    kt_teardown();
}

static void test_no_irq(void)
{
    kt_setup();
    v->cpu.rflags |= CPU_IF;
    vcpu_request(v, VCPU_REQ_IRQ); /* the board has none after all */
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.interrupt, ==, 0);
    kt_teardown();
}

/* --- registers come out when they are wanted --- */

static void fill_out(struct kvm_run *run)
{
    memset(kt_io_data(run, KVM_EXIT_IO_OUT, 0x80, 1, 1), 0, 1);
}

static void fill_tables(struct kvm_run *run)
{
    fake_kvm.sregs.cr3 = 0x7000;
}

static void test_registers_stay(void)
{
    kt_setup();
    fake_kvm.count_request = KVM_GET_SREGS;
    kt_add(KVM_EXIT_IO, fill_out);
    kt_add(KVM_EXIT_X86_WRMSR, fill_apic); /* the APIC's need no registers */
    kt_add(KVM_EXIT_IO, fill_hypercall);
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.count, ==, 1); /* the hypercall asked; from then on they come along */
    g_assert_cmphex(fake_kvm.valid_regs, ==, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS);
    for (unsigned i = 0; i < KVM_NEAR; i++) {
        kt_add(KVM_EXIT_IO, fill_out);
    }
    kt_add(KVM_EXIT_IO, fill_hypercall); /* forgotten: asked again */
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.count, ==, 2);
    kt_teardown();

    kt_setup(); /* a CPU that sleeps: the board follows its tables */
    kt_add(KVM_EXIT_IO, fill_out);
    kt_add(KVM_EXIT_HLT, fill_tables);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_cmphex(v->cpu.cr3, ==, 0x7000);
    kt_teardown();
}

/* --- a debugger --- */

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
    kt_add(KVM_EXIT_XEN, fill_vmcall);
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

enum { MANY_PAGES = 80 << 10 }; /* of which each other one is given back */

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

/* --- the log --- */

static bool is_dirty(uint32_t frame)
{
    return (atomic_load(&mem_frame_info(v->mem, frame)->flags) & MEM_DIRTY) != 0;
}

static void clean(void)
{
    for (uint32_t i = 0; i < RAM / PAGE + 4; i++) {
        atomic_fetch_and(&mem_frame_info(v->mem, i)->flags, (uint8_t)~MEM_DIRTY);
    }
}

static void test_dirty(void)
{
    const uint32_t extra = RAM / PAGE;
    g_autoptr(GError) err = NULL, err2 = NULL;

    kt_setup();
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, &err)); /* not started */
    g_assert_true(mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 1)));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    g_assert_true(fake_kvm.log);
    clean();
    fake_kvm.dirty = 1ull << 3 | 1ull << 63;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    for (uint32_t i = 0; i < RAM / PAGE; i++) {
        g_assert_cmpint(is_dirty(i), ==, i == 3 || i == 63);
    }
    g_assert_true(is_dirty(mem_extra_frame(v->mem, 1))); /* outside RAM: always */
    clean();
    g_assert_true(mem_set_gfn(v->mem, 7, extra)); /* what goes and what comes */
    g_assert_true(is_dirty(7));
    g_assert_true(is_dirty(extra));
    clean();
    fake_kvm.dirty = 1ull << 7;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(is_dirty(extra));
    g_assert_false(is_dirty(7));
    mem_clear(v->mem);
    g_assert_true(is_dirty(9));
    fake_kvm.fail_request = KVM_GET_DIRTY_LOG;
    fake_kvm.fail_error = ENOENT;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, &err2));
    g_assert_nonnull(strstr(err2->message, "does not log"));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    g_assert_false(fake_kvm.log);
    kt_teardown();
}

static void test_dirty_fails(void)
{
    g_autoptr(GError) err = NULL;

    kt_setup();
    fake_kvm.fail_request = KVM_SET_USER_MEMORY_REGION;
    fake_kvm.fail_error = ENOMEM;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, &err));
    g_assert_null(((struct kvm_engine *)v->engine)->vm->log_frames);
    fake_kvm.fail_request = 0;
    kt_teardown();
}

/* --- memory --- */

/* RAM above 4 GiB is a slot of its own: shown, given back, logged. */
static void test_high(void)
{
    const uint64_t gpa = MEM_HIGH_START + 5 * PAGE, low = MEM_LOW_END;
    const uint64_t value = 0x1234;
    g_autoptr(GError) err = NULL;
    const struct kvm_vm *vm;
    uint32_t frame;

    kt_ram = low + (64 << 20);
    kt_setup();
    vm = ((struct kvm_engine *)v->engine)->vm;
    g_assert_cmpuint(fake_kvm.slots, ==, 2);
    frame = mem_gfn_frame(v->mem, gpa / PAGE);
    fake_kvm.fail_slot = 1;
    g_assert_false(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, &err));
    g_assert_nonnull(strstr(err->message, "does not log written pages"));
    g_assert_null(vm->log_frames);
    fake_kvm.fail_slot = 0;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_START, NULL));
    atomic_fetch_and(&mem_frame_info(v->mem, frame)->flags, (uint8_t)~MEM_DIRTY);
    fake_kvm.dirty_high = 1ull << 5;
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_READ, NULL));
    g_assert_true(is_dirty(frame));
    g_assert_true(kvm_accel_ops.dirty_log(v, VCPU_DIRTY_STOP, NULL));
    g_assert_true(mem_write(v->mem, gpa, &value, sizeof(value)));
    g_assert_cmpmem(vm->view + low + 5 * PAGE, sizeof(value), &value, sizeof(value));
    mem_set_holes(v->mem, gpa / PAGE, 1);
    g_assert_true(mem_set_gfn(v->mem, gpa / PAGE, frame));
    g_assert_cmpmem(vm->view + low + 5 * PAGE, sizeof(value), &value, sizeof(value));
    kt_teardown();
    kt_ram = RAM;
}

/* A host that has not enough addresses left for a second view of RAM. */
static void test_no_view(void)
{
    g_autoptr(GError) err = NULL;
    struct rlimit old, few;
    g_autofree char *statm = NULL;
    bool made;

    kt_ram = 4ull << 30;
    kt_setup_board();
    g_assert_true(g_file_get_contents("/proc/self/statm", &statm, NULL, NULL));
    g_assert_cmpint(getrlimit(RLIMIT_AS, &old), ==, 0);
    few = old;
    few.rlim_cur = g_ascii_strtoull(statm, NULL, 10) * PAGE + (1ull << 30);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &few), ==, 0);
    made = kvm_vcpu_init(v, &fake_kvm_sys, false, &err);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &old), ==, 0);
    g_assert_false(made);
    g_assert_nonnull(strstr(err->message, "cannot make a virtual machine"));
    g_assert_nonnull(strstr(err->message, "Cannot allocate memory"));
    kt_teardown();
    kt_ram = RAM;
}

/* Every other page is given back, which no host could map one by one, and had again. */
static void test_many_holes(void)
{
    const uint64_t pages = MANY_PAGES;

    kt_ram = pages * PAGE;
    kt_setup();
    for (uint64_t gfn = 0; gfn < pages; gfn += 2) {
        mem_set_holes(v->mem, gfn, 1);
    }
    for (uint64_t gfn = 0; gfn < pages; gfn += 2) { /* had again */
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    for (uint64_t gfn = 0; gfn < pages; gfn += 512) {
        const struct kvm_vm *vm = ((struct kvm_engine *)v->engine)->vm;

        g_assert_true(mem_write(v->mem, gfn * PAGE, &gfn, sizeof(gfn)));
        g_assert_cmpmem(vm->view + gfn * PAGE, sizeof(gfn), &gfn, sizeof(gfn));
    }
    kt_run_to_halt();
    kt_teardown();
    kt_ram = RAM;
}

/* Mappings of the host that the view consists of. */
static unsigned view_pieces(void)
{
    const struct kvm_vm *vm = ((struct kvm_engine *)v->engine)->vm;
    const uintptr_t first = (uintptr_t)vm->view;
    g_autofree char *maps = NULL;
    unsigned count = 0;

    g_assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
    for (const char *line = maps; line != NULL && *line != '\0'; line++) {
        const uintptr_t at = (uintptr_t)g_ascii_strtoull(line, NULL, 16);

        count += at >= first && at < first + vm->view_size;
        line = strchr(line, '\n');
        if (line == NULL) {
            break;
        }
    }
    return count;
}

/* However a guest moves its pages, gives them up and has them again, the host keeps few pieces. */
static void assert_few_pieces(void)
{
    const uint64_t pages = MANY_PAGES, end = 4096;
    const uint32_t extra = mem_extra_frame(v->mem, 0);

    g_assert_cmpuint(view_pieces(), <=, 2);
    for (uint64_t gfn = 0; gfn < end; gfn += 2) { /* a frame that goes from page to page */
        g_assert_true(mem_set_gfn(v->mem, gfn, extra));
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    for (uint64_t gfn = 0; gfn < end; gfn += 2) { /* what was there is given up */
        g_assert_true(mem_set_gfn(v->mem, gfn, extra));
        g_assert_true(mem_set_gfn(v->mem, gfn, MEM_HOLE));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    mem_set_holes(v->mem, 0, pages); /* islands in a hole */
    for (uint64_t gfn = 0; gfn < end; gfn += 2) {
        g_assert_true(mem_set_gfn(v->mem, gfn, (uint32_t)gfn));
    }
    g_assert_cmpuint(view_pieces(), <=, 2);
    g_assert_true(mem_set_gfn(v->mem, 5, extra));
    g_assert_cmpuint(view_pieces(), <=, 4);
}

static void test_pieces(void)
{
    kt_ram = (uint64_t)MANY_PAGES * PAGE;
    kt_setup();
    assert_few_pieces();
    kt_run_to_halt();
    kt_teardown();
    kt_ram = RAM;
}

/* State of a sleeping vCPU that KVM does not give: nobody goes on with what was there before. */
static void test_sync_fails(void)
{
    kt_setup();
    kt_run_to_halt();
    fake_kvm.fail_request = KVM_GET_XSAVE;
    fake_kvm.fail_error = EIO;
    kvm_accel_ops.sync(v);
    fake_kvm.fail_request = 0;
    v->cpu.halted = false;
    kt_run_to_end(EXIT_ERROR, "does not give the guest's state: Input/output");
    kt_teardown();
}

/* --- VMCALL as an exit --- */

static void test_vmcall(void)
{
    kt_setup();
    g_assert_cmphex(fake_kvm.xen.flags, ==, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL);
    g_assert_cmphex(fake_kvm.xen.msr, ==, 0x40000000); /* without one KVM does not look at it */
    kt_add(KVM_EXIT_XEN, fill_vmcall);
    kt_run_to_halt();
    kt_assert_call(0, 'h', 29, 0, 0x5003);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x5003);
    g_assert_cmphex(fake_kvm.regs.rax, ==, 0x4242);
    g_assert_cmpuint(fake_kvm.immediate_exit, ==, 0); /* KVM saw that RIP is elsewhere */
    kt_teardown();

    kt_setup(); /* asleep in it: KVM is made to finish before it is left */
    hypercall_sleeps = true;
    kt_add(KVM_EXIT_XEN, fill_vmcall);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_true(fake_kvm.immediate_exit);
    g_assert_cmphex(v->cpu.rip, ==, 0x5003);
    g_assert_false(((struct kvm_engine *)v->engine)->xen_pending);
    kt_teardown();
}

static void fill_vmcall_again(struct kvm_run *run)
{
    fill_vmcall(run);
    hypercall_again = true;
}

static void fill_again_seen(struct kvm_run *run)
{
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x5000); /* at the instruction, its own RAX */
    g_assert_cmphex(fake_kvm.regs.rax, ==, 29);
}

/* A call that is made again: KVM must not take the instruction for finished. */
static void test_vmcall_again(void)
{
    kt_setup();
    kt_add(KVM_EXIT_XEN, fill_vmcall_again);
    kt_add(KVM_EXIT_IRQ_WINDOW_OPEN, fill_again_seen);
    fake_kvm.count_request = KVM_RUN;
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.count, ==, 4); /* one of them for nothing else */
    kt_teardown();
}

static void fill_xen_other(struct kvm_run *run)
{
    run->xen.type = KVM_EXIT_XEN_HCALL + 1;
}

static void test_vmcall_absent(void)
{
    kt_setup_board();
    fake_kvm.missing_cap = KVM_CAP_XEN_HVM;
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, false, NULL));
    g_assert_cmphex(fake_kvm.xen.flags, ==, 0);
    kt_add(KVM_EXIT_XEN, fill_xen_other);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_ERROR);
    kt_teardown();
}

/* --- what the guest must not see --- */

static bool is_direct(uint32_t msr)
{
    for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
        const struct kvm_msr_filter_range *r = &fake_kvm.filter.ranges[i];

        if (r->nmsrs != 0 && msr >= r->base && msr - r->base < r->nmsrs) {
            return true;
        }
    }
    return false;
}

/* KVM's clock, its other MSRs and its CPUID leaves: a Xen guest takes them for Xen's. */
static void test_no_kvm(void)
{
    kt_setup();
    g_assert_cmphex(fake_kvm.filter.flags, ==, KVM_MSR_FILTER_DEFAULT_DENY);
    g_assert_true(is_direct(0xc0000082));
    g_assert_false(is_direct(0x11)); /* the clock's old numbers */
    g_assert_false(is_direct(0x12));
    for (uint32_t msr = 0x4b564d00; msr < 0x4b564dff; msr++) {
        g_assert_false(is_direct(msr));
    }
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.nr_cpuid, >, 8);
    for (unsigned i = 0; i < fake_kvm.nr_cpuid; i++) {
        const struct kvm_cpuid_entry2 *e = &fake_kvm.cpuid[i];

        g_assert_false((e->function >> 24) == 0x40 && e->ebx == 0x4b4d564b); /* "KVMK" */
    }
    kt_teardown();
}

static void test_stats(void)
{
    g_autofree char *text = NULL;

    kt_setup();
    kt_add(KVM_EXIT_IO, fill_out);
    kt_add(KVM_EXIT_X86_WRMSR, fill_apic);
    kt_add(0, NULL)->ret = -EINTR;
    kt_run_to_halt();
    text = kvm_accel_ops.stats(v);
    g_assert_nonnull(strstr(text, "entries 4\nsignals 1\nport 1\n"));
    g_assert_nonnull(strstr(text, "halt 1\n"));
    g_assert_nonnull(strstr(text, "apic 1\n"));
    kt_teardown();
}

int main(int argc, char **argv)
{
    int ret;

    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);
    model = cpu_model_new_host(NULL);
    g_test_add_func("/kvm/extras/run-fails", test_run_fails);
    g_test_add_func("/kvm/extras/msrs-fail", test_msrs_fail);
    g_test_add_func("/kvm/extras/slots-end", test_slots_end);
    g_test_add_func("/kvm/extras/slot-again", test_slot_again);
    g_test_add_func("/kvm/extras/events", test_events);
    g_test_add_func("/kvm/extras/kick", test_kick);
    g_test_add_func("/kvm/extras/tpr", test_tpr);
    g_test_add_func("/kvm/extras/tsc", test_tsc);
    g_test_add_func("/kvm/extras/no-irq", test_no_irq);
    g_test_add_func("/kvm/extras/points-fail", test_points_fail);
    g_test_add_func("/kvm/extras/registers-stay", test_registers_stay);
    g_test_add_func("/kvm/extras/step", test_step);
    g_test_add_func("/kvm/extras/step-hypercall", test_step_hypercall);
    g_test_add_func("/kvm/extras/step-own", test_step_own);
    g_test_add_func("/kvm/extras/step-interrupt", test_step_interrupt);
    g_test_add_func("/kvm/extras/step-vmcall", test_step_vmcall);
    g_test_add_func("/kvm/extras/sync-fails", test_sync_fails);
    g_test_add_func("/kvm/extras/points", test_points);
    g_test_add_func("/kvm/extras/no-points", test_no_points);
    g_test_add_func("/kvm/extras/many-holes", test_many_holes);
    g_test_add_func("/kvm/extras/pieces", test_pieces);
    g_test_add_func("/kvm/extras/high", test_high);
    g_test_add_func("/kvm/extras/no-view", test_no_view);
    g_test_add_func("/kvm/extras/dirty", test_dirty);
    g_test_add_func("/kvm/extras/dirty-fails", test_dirty_fails);
    g_test_add_func("/kvm/extras/vmcall", test_vmcall);
    g_test_add_func("/kvm/extras/vmcall-again", test_vmcall_again);
    g_test_add_func("/kvm/extras/vmcall-absent", test_vmcall_absent);
    g_test_add_func("/kvm/extras/no-kvm", test_no_kvm);
    g_test_add_func("/kvm/extras/stats", test_stats);
    ret = g_test_run();
    cpu_model_free(model);
    return ret;
}
