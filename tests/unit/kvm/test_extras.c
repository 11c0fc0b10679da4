/* SPDX-License-Identifier: MIT */
/*
 * The engine against a fake /dev/kvm: calls that fail in the middle, events, registers that stay
 * with KVM, VMCALL as an exit, and what the guest must not see of KVM. Debugging is in
 * test_extras_debug.c, memory and the log of written pages in test_extras_memory.c.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

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
        {KVM_GET_REGS, 0, KVM_EXIT_XEN, kt_fill_vmcall, "does not give"},
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
    kt_add(KVM_EXIT_XEN, kt_fill_vmcall);
    kt_run_to_halt();
    kt_assert_call(0, 'h', 29, 0, 0x5003);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x5003);
    g_assert_cmphex(fake_kvm.regs.rax, ==, 0x4242);
    g_assert_cmpuint(fake_kvm.immediate_exit, ==, 0); /* KVM saw that RIP is elsewhere */
    kt_teardown();

    kt_setup(); /* asleep in it: KVM is made to finish before it is left */
    hypercall_sleeps = true;
    kt_add(KVM_EXIT_XEN, kt_fill_vmcall);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_true(fake_kvm.immediate_exit);
    g_assert_cmphex(v->cpu.rip, ==, 0x5003);
    g_assert_false(((struct kvm_engine *)v->engine)->xen_pending);
    kt_teardown();
}

static void fill_vmcall_again(struct kvm_run *run)
{
    kt_fill_vmcall(run);
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
    kt_begin(&argc, &argv);
    g_test_add_func("/kvm/extras/run-fails", test_run_fails);
    g_test_add_func("/kvm/extras/msrs-fail", test_msrs_fail);
    g_test_add_func("/kvm/extras/events", test_events);
    g_test_add_func("/kvm/extras/kick", test_kick);
    g_test_add_func("/kvm/extras/tpr", test_tpr);
    g_test_add_func("/kvm/extras/tsc", test_tsc);
    g_test_add_func("/kvm/extras/no-irq", test_no_irq);
    g_test_add_func("/kvm/extras/registers-stay", test_registers_stay);
    g_test_add_func("/kvm/extras/sync-fails", test_sync_fails);
    g_test_add_func("/kvm/extras/vmcall", test_vmcall);
    g_test_add_func("/kvm/extras/vmcall-again", test_vmcall_again);
    g_test_add_func("/kvm/extras/vmcall-absent", test_vmcall_absent);
    g_test_add_func("/kvm/extras/no-kvm", test_no_kvm);
    g_test_add_func("/kvm/extras/stats", test_stats);
    return kt_end();
}
