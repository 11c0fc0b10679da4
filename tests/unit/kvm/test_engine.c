/* SPDX-License-Identifier: MIT */
/* The engine against a fake /dev/kvm: exits, interrupts, kicks, state there and back, errors. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "vcpu_test.h"

/* --- exits --- */
static void fill_outs(struct kvm_run *run)
{
    memcpy(kt_io_data(run, KVM_EXIT_IO_OUT, 0x3f8, 2, 2), "\x01\x02\x03\x04", 4);
}

static void fill_in(struct kvm_run *run)
{
    memset(kt_io_data(run, KVM_EXIT_IO_IN, 0x3fd, 1, 1), 0, 4);
}

static void fill_out32(struct kvm_run *run)
{
    memcpy(kt_io_data(run, KVM_EXIT_IO_OUT, 0x604, 4, 1), "\x01\x02\x03\x04", 4);
}

static void test_ports(void)
{
    kt_setup();
    kt_add(KVM_EXIT_IO, fill_outs);
    kt_add(KVM_EXIT_IO, fill_in);
    kt_run_to_halt();
    g_assert_cmpuint(nr_calls, ==, 3);
    kt_assert_call(0, 'o', 0x3f8, 2, 0x0201);
    kt_assert_call(1, 'o', 0x3f8, 2, 0x0403);
    kt_assert_call(2, 'i', 0x3fd, 1, 0);
    g_assert_cmpuint(((uint8_t *)((struct kvm_engine *)v->engine)->run)[PAGE], ==, 0x88);
    g_assert_cmpuint(((uint8_t *)((struct kvm_engine *)v->engine)->run)[PAGE + 1], ==, 0);
    v->cpu.halted = false;
    kt_add(KVM_EXIT_IO, fill_out32);
    kt_run_to_halt();
    kt_assert_call(3, 'o', 0x604, 4, 0x04030201);
    kt_teardown();
}

static void fill_write7(struct kvm_run *run)
{
    run->mmio.phys_addr = 0xfec00000;
    run->mmio.len = 7;
    run->mmio.is_write = 1;
    memcpy(run->mmio.data, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void fill_read4(struct kvm_run *run)
{
    run->mmio.phys_addr = 0xfee00020;
    run->mmio.len = 4;
    run->mmio.is_write = 0;
}

static void test_mmio(void)
{
    kt_setup();
    kt_add(KVM_EXIT_MMIO, fill_write7);
    kt_add(KVM_EXIT_MMIO, fill_read4);
    kt_run_to_halt();
    g_assert_cmpuint(nr_calls, ==, 4);
    kt_assert_call(0, 'w', 0xfec00000, 4, 0x04030201);
    kt_assert_call(1, 'w', 0xfec00004, 2, 0x0605);
    kt_assert_call(2, 'w', 0xfec00006, 1, 0x07);
    kt_assert_call(3, 'r', 0xfee00020, 4, 0);
    kt_teardown();
}

static void fill_hypercall(struct kvm_run *run)
{
    kt_io_data(run, KVM_EXIT_IO_OUT, 0x7e, 1, 1);
    fake_kvm.regs.rax = 29;
    fake_kvm.regs.rip = 0x1002;
}

static void test_hypercall(void)
{
    kt_setup();
    kt_add(KVM_EXIT_IO, fill_hypercall);
    kt_run_to_halt();
    kt_assert_call(0, 'h', 29, 0, 0x1002);
    g_assert_cmphex(fake_kvm.regs.rax, ==, 0x4242); /* KVM has got the answer */
    g_assert_cmphex(v->cpu.gpr[CPU_RAX], ==, 0x4242);
    kt_teardown();
}

/* The vCPU sleeps in the call: the answer is at home and goes to KVM at the next run. */
static void test_hypercall_sleeps(void)
{
    kt_setup();
    hypercall_sleeps = true;
    kt_add(KVM_EXIT_IO, fill_hypercall);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_cmphex(v->cpu.gpr[CPU_RAX], ==, 0x4242);
    v->cpu.halted = false;
    v->cpu.gpr[CPU_RAX] = 0x99; /* what woke it has another one */
    kt_run_to_halt();
    g_assert_cmphex(fake_kvm.regs.rax, ==, 0x99);
    kt_teardown();
}

static void fill_rdmsr(struct kvm_run *run)
{
    run->msr.index = 0x802;
}

static void fill_wrmsr(struct kvm_run *run)
{
    run->msr.index = 0x80b;
    run->msr.data = 7;
}

static void fill_wrmsr_bad(struct kvm_run *run)
{
    struct kvm_engine *k = v->engine;

    g_assert_cmpuint(k->run->msr.error, ==, 0); /* of the one before */
    run->msr.index = 0x8ff;
    run->msr.data = 1;
}

static void test_msrs(void)
{
    struct kvm_engine *k;

    kt_setup();
    k = v->engine;
    kt_add(KVM_EXIT_X86_RDMSR, fill_rdmsr);
    kt_add(KVM_EXIT_X86_WRMSR, fill_wrmsr);
    kt_add(KVM_EXIT_X86_WRMSR, fill_wrmsr_bad);
    kt_run_to_halt();
    kt_assert_call(0, 'R', 0x802, 8, 0);
    kt_assert_call(1, 'W', 0x80b, 8, 7);
    g_assert_cmpuint(k->run->msr.error, ==, 1); /* #GP */
    kt_teardown();
}

static void fill_cr8(struct kvm_run *run)
{
    run->cr8 = 0;
}

static void test_cr8(void)
{
    kt_setup();
    kt_add(KVM_EXIT_SET_TPR, fill_cr8);
    kt_run_to_halt();
    kt_assert_call(0, '8', 0, 8, 0);
    g_assert_cmpuint(nr_calls, ==, 1);
    kt_teardown();
}

/* --- interrupts and kicks --- */

static void fill_window_open(struct kvm_run *run)
{
    g_assert_true(fake_kvm.window);
    g_assert_cmpuint(fake_kvm.interrupt, ==, 0);
    run->ready_for_interrupt_injection = 1;
}

static void test_irq_window(void)
{
    kt_setup(); /* RFLAGS.IF is clear */
    irq_vector = 0x31;
    vcpu_request(v, VCPU_REQ_IRQ);
    kt_add(KVM_EXIT_IRQ_WINDOW_OPEN, fill_window_open);
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.interrupt, ==, 0x31);
    g_assert_false(fake_kvm.window);
    g_assert_cmphex(atomic_load(&v->request), ==, 0);
    kt_teardown();
}

static void test_irq_at_once(void)
{
    kt_setup();
    v->cpu.rflags |= CPU_IF;
    irq_vector = 0x40;
    vcpu_request(v, VCPU_REQ_IRQ);
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.interrupt, ==, 0x40);
    kt_teardown();
}

static void test_nmi(void)
{
    kt_setup();
    vcpu_request(v, VCPU_REQ_NMI | VCPU_REQ_TLB_FLUSH);
    kt_run_to_halt();
    g_assert_cmpuint(fake_kvm.nmis, ==, 1);
    g_assert_cmphex(atomic_load(&v->request), ==, 0);
    kt_teardown();
}

static void fill_in_then_stop(struct kvm_run *run)
{
    fill_in(run);
    vcpu_request(v, VCPU_REQ_STOP);
}

/* A half-done IN is finished by KVM before the vCPU stops. */
static void test_stop(void)
{
    kt_setup();
    kt_add(KVM_EXIT_IO, fill_in_then_stop);
    kt_add(KVM_EXIT_HLT, NULL);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_true(fake_kvm.immediate_exit);
    g_assert_cmpuint(fake_kvm.next_exit, ==, 1);
    g_assert_false(((struct kvm_engine *)v->engine)->deep_away);
    kvm_run_guest(v, &last); /* nothing unfinished: not entered at all */
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_cmpuint(fake_kvm.next_exit, ==, 1);
    kt_teardown();
}

/* --- state --- */

static void fill_state(struct cpu_x86 *cpu)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        cpu->gpr[i] = 0x1111 * (i + 1);
    }
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){.selector = (uint16_t)(8 * i + 8), .attr = 0xa09b,
                                           .limit = 0xfffff, .base = 0x1000 * i};
    }
    cpu->seg[CPU_FS].unusable = true;
    cpu->rip = 0xffffffff81000000;
    cpu->rflags = 0x246;
    cpu->cr0 = 0x80050033, cpu->cr2 = 0x1234, cpu->cr3 = 0x5000, cpu->cr4 = 0x6b0;
    cpu->efer = 0xd01;
    cpu->gdtr = (struct cpu_table){0xfffffe0000001000, 0x7f};
    cpu->idtr = (struct cpu_table){0xfffffe0000000000, 0xfff};
    cpu->star = 0x23001000000000, cpu->lstar = 0xffffffff81a00000, cpu->fmask = 0x47700;
    cpu->kernel_gs_base = 0xffff888000000000;
    cpu->sysenter_cs = 0x10, cpu->pat = 0x7040600070406, cpu->tsc_aux = 5;
    cpu->dr[0] = 0x77, cpu->dr[7] = 0x401;
    cpu->xcr0 = 7;
    cpu->nmi_blocked = true;
    cpu->tsc_offset = -12345;
    for (unsigned i = 0; i < 512; i++) {
        cpu->xsave[i] = (uint8_t)i;
    }
    cpu->xsave[512] = 7;
}

static void assert_segment(const struct cpu_segment *a, const struct cpu_segment *b)
{
    g_assert_cmphex(a->selector, ==, b->selector);
    g_assert_cmphex(a->attr, ==, b->attr);
    g_assert_cmphex(a->limit, ==, b->limit);
    g_assert_cmphex(a->base, ==, b->base);
    g_assert_cmpint(a->unusable, ==, b->unusable);
}

static void assert_same(const struct cpu_x86 *a, const struct cpu_x86 *b)
{
    const size_t from = offsetof(struct cpu_x86, cr0), to = offsetof(struct cpu_x86, irq_shadow);

    g_assert_cmpmem(a->gpr, sizeof(a->gpr), b->gpr, sizeof(b->gpr));
    g_assert_cmphex(a->rip, ==, b->rip);
    g_assert_cmphex(a->rflags, ==, b->rflags);
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        assert_segment(&a->seg[i], &b->seg[i]);
    }
    assert_segment(&a->ldtr, &b->ldtr);
    assert_segment(&a->tr, &b->tr);
    g_assert_cmphex(a->gdtr.base, ==, b->gdtr.base);
    g_assert_cmphex(a->idtr.limit, ==, b->idtr.limit);
    /* Control registers to TSC: words without gaps. */
    g_assert_cmpmem((const uint8_t *)a + from, to - from, (const uint8_t *)b + from, to - from);
    g_assert_cmpint(a->nmi_blocked, ==, b->nmi_blocked);
    g_assert_cmpint(a->irq_shadow, ==, b->irq_shadow);
    g_assert_cmpint(a->cpl, ==, b->cpl);
    g_assert_cmpmem(a->xsave, sizeof(a->xsave), b->xsave, sizeof(b->xsave));
}

static void test_round_trip(void)
{
    struct cpu_x86 before;

    kt_setup();
    fill_state(&v->cpu);
    before = v->cpu;
    kt_run_to_halt();
    g_assert_cmphex(fake_kvm.sregs.cs.base, ==, 0x1000);
    g_assert_cmphex(fake_kvm.sregs.cr8, ==, 3);
    g_assert_cmpuint(fake_kvm.sregs.fs.unusable, ==, 1);
    g_assert_cmphex(fake_kvm.xcr0, ==, 7);
    memset(v->cpu.xsave, 0, sizeof(v->cpu.xsave)); /* KVM's counts now */
    v->cpu.lstar = v->cpu.kernel_gs_base = v->cpu.dr[0] = v->cpu.xcr0 = 0;
    v->cpu.nmi_blocked = false;
    kvm_sync(v);
    v->cpu.halted = false;
    assert_same(&v->cpu, &before);
    kt_teardown();
}

/* A change from outside is loaded, and nothing of KVM's comes back over it. */
static void test_state_changed(void)
{
    kt_setup();
    kt_run_to_halt();
    cpu_reset(&v->cpu);
    v->cpu.lstar = 0x55;
    kvm_accel_ops.state_changed(v);
    kvm_sync(v);
    g_assert_cmphex(v->cpu.lstar, ==, 0x55);
    kt_run_to_halt();
    kvm_sync(v);
    g_assert_cmphex(v->cpu.lstar, ==, 0x55);
    kt_teardown();
}

/* Real mode: an interrupt that KVM had accepted is on the guest's stack when the state is home. */
static void test_event_in_flight(void)
{
    const uint32_t vector_at = 0x20 * 4, handler = 0x0100u << 16 | 0x0040;
    uint16_t frame[3];

    kt_setup();
    mem_write(v->mem, vector_at, &handler, sizeof(handler));
    cpu_reset(&v->cpu);
    v->cpu.seg[CPU_CS].base = v->cpu.seg[CPU_CS].selector = 0;
    v->cpu.rip = 0x2000;
    v->cpu.gpr[CPU_RSP] = 0x8000;
    v->cpu.rflags = 2 | CPU_IF;
    kt_run_to_halt();
    fake_kvm.events.interrupt.injected = 1;
    fake_kvm.events.interrupt.nr = 0x20;
    kvm_sync(v);
    g_assert_cmphex(v->cpu.seg[CPU_CS].selector, ==, 0x100);
    g_assert_cmphex(v->cpu.rip, ==, 0x40);
    g_assert_cmphex(v->cpu.gpr[CPU_RSP], ==, 0x8000 - 6);
    g_assert_true(mem_read(v->mem, 0x8000 - 6, frame, sizeof(frame)));
    g_assert_cmphex(frame[0], ==, 0x2000);
    g_assert_cmphex(frame[2] & CPU_IF, ==, CPU_IF);
    v->cpu.halted = false;
    kt_run_to_halt(); /* KVM must not deliver it again */
    g_assert_cmpuint(fake_kvm.events.interrupt.injected, ==, 0);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x40);
    kt_teardown();
}

/* --- memory --- */

static void test_layout(void)
{
    struct mem *mem;

    kt_setup();
    mem = v->mem;
    g_assert_cmpuint(fake_kvm.slots, ==, 1);
    memcpy(mem_page(mem, 5), "five", 4);
    g_assert_cmpmem(fake_kvm.memory + 5 * PAGE, 4, "five", 4);
    memcpy(mem_frame_hva(mem, mem_extra_frame(mem, 0)), "info", 4);
    g_assert_true(mem_set_gfn(mem, 5, mem_extra_frame(mem, 0))); /* shared info over RAM */
    g_assert_cmpmem(fake_kvm.memory + 5 * PAGE, 4, "info", 4);
    g_assert_true(mem_set_gfn(mem, 6, MEM_HOLE));
    g_assert_cmpuint(fake_kvm.memory[6 * PAGE], ==, 0);
    memcpy(mem_page(mem, 8), "rest", 4);
    memcpy(mem_page(mem, 11), "rest", 4);
    mem_set_holes(mem, 7, 4); /* whoever gives up a page empties its frame */
    g_assert_cmpint(madvise(mem_frame_hva(mem, 8), PAGE, MADV_REMOVE), ==, 0);
    g_assert_null(mem_page(mem, 7));
    g_assert_null(mem_page(mem, 10));
    g_assert_cmpuint(fake_kvm.memory[8 * PAGE], ==, 0);
    g_assert_cmpmem(fake_kvm.memory + 11 * PAGE, 4, "rest", 4);
    g_assert_true(mem_set_gfn(mem, 0xfe700, mem_extra_frame(mem, 1))); /* outside RAM: a slot */
    g_assert_true(mem_set_gfn(mem, 0xfe701, mem_extra_frame(mem, 2)));
    g_assert_cmpuint(fake_kvm.slots, ==, 3);
    g_assert_true(mem_set_gfn(mem, 0xfe700, MEM_HOLE));
    g_assert_cmpuint(fake_kvm.slots, ==, 2);
    mem_clear(mem);
    g_assert_cmpuint(fake_kvm.slots, ==, 1);
    memcpy(mem_page(mem, 5), "anew", 4);
    g_assert_cmpmem(fake_kvm.memory + 5 * PAGE, 4, "anew", 4);
    kt_teardown();
}

static void test_layout_fails(void)
{
    kt_setup();
    fake_kvm.fail_request = KVM_SET_USER_MEMORY_REGION;
    fake_kvm.fail_error = EINVAL;
    mem_set_gfn(v->mem, 0xfe700, mem_extra_frame(v->mem, 1));
    kt_run_to_end(EXIT_ERROR, "laid out");
    kt_teardown();
}

/* --- errors --- */

static void fill_internal(struct kvm_run *run)
{
    run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
}

static void test_bad_exits(void)
{
    static const struct {
        uint32_t reason;
        int ret;
        enum exit_kind kind;
        const char *text;
    } rows[] = {
        {KVM_EXIT_SHUTDOWN, 0, EXIT_SHUTDOWN, "triple fault"},
        {KVM_EXIT_INTERNAL_ERROR, 0, EXIT_ERROR, "cannot emulate"},
        {KVM_EXIT_FAIL_ENTRY, 0, EXIT_ERROR, "refused the guest's state"},
        {KVM_EXIT_HYPERV, 0, EXIT_ERROR, "does not know"},
        {0, -EFAULT, EXIT_ERROR, "cannot run the guest"},
        {0, -ENOMEM, EXIT_ERROR, "cannot run the guest"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        kt_setup();
        kt_add(0, NULL)->ret = -EINTR; /* a signal alone changes nothing */
        kt_add(0, NULL)->ret = -EAGAIN;
        kt_add(rows[i].reason, fill_internal)->ret = rows[i].ret;
        kt_run_to_end(rows[i].kind, rows[i].text);
        kt_teardown();
    }
}

static void test_state_refused(void)
{
    static const unsigned long requests[] = {
        KVM_SET_CPUID2, KVM_SET_SREGS, KVM_SET_XSAVE, KVM_SET_XCRS, KVM_SET_MSRS,
        KVM_SET_DEBUGREGS, KVM_SET_VCPU_EVENTS, KVM_SET_DEVICE_ATTR,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        kt_setup();
        fake_kvm.fail_request = requests[i];
        fake_kvm.fail_error = EINVAL;
        kt_run_to_end(EXIT_ERROR, "does not take");
        kt_teardown();
    }
}

/* --- making it --- */

/* Every call on the way to a vCPU may fail: it is said, and nothing is left open. */
static void test_make_fails(void)
{
    static const struct {
        unsigned long request;
        int error;
        const char *text;
    } rows[] = {
        {KVM_CREATE_VM, ENOMEM, "cannot make a virtual machine"},
        {KVM_SET_TSS_ADDR, EEXIST, "cannot make a virtual machine"},
        {KVM_SET_IDENTITY_MAP_ADDR, EINVAL, "cannot make a virtual machine"},
        {KVM_ENABLE_CAP, EINVAL, "cannot make a virtual machine"},
        {KVM_X86_SET_MSR_FILTER, EINVAL, "cannot make a virtual machine"},
        {KVM_GET_VCPU_MMAP_SIZE, EINVAL, "cannot make a virtual machine"},
        {KVM_GET_VCPU_MMAP_SIZE, -PAGE / 2, "cannot make a virtual machine"},
        {KVM_SET_USER_MEMORY_REGION, ENOMEM, "cannot make a virtual machine"},
        {KVM_GET_SUPPORTED_CPUID, E2BIG, "does not tell its CPUID"},
        {KVM_CREATE_VCPU, ENOMEM, "cannot make CPU 0"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) err = NULL;

        kt_setup_board();
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = rows[i].error;
        g_assert_false(kvm_vcpu_init(v, &fake_kvm_sys, false, &err));
        g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_HOST);
        g_assert_nonnull(strstr(err->message, rows[i].text));
        kt_teardown();
    }
}

static void test_make_fails_otherwise(void)
{
    g_autoptr(GError) err = NULL, err2 = NULL, err3 = NULL;

    kt_setup_board();
    fake_kvm.open_error = EACCES;
    g_assert_false(kvm_vcpu_init(v, &fake_kvm_sys, false, &err));
    g_assert_nonnull(strstr(err->message, "Permission denied"));
    kt_teardown();
    kt_setup_board();
    fake_kvm.no_mmap = true;
    g_assert_false(kvm_vcpu_init(v, &fake_kvm_sys, false, &err2));
    g_assert_nonnull(strstr(err2->message, "cannot map CPU 0"));
    kt_teardown();
    kt_setup_board();
    fake_kvm.poor_cpuid = true;
    g_assert_false(kvm_vcpu_init(v, &fake_kvm_sys, false, &err3));
    g_assert_nonnull(strstr(err3->message, "processor features"));
    kt_teardown();
}

/* Two vCPUs are in one VM, whose CPUID is asked for once. */
static void test_two(void)
{
    struct vcpu *second;
    struct kvm_engine *a, *b;

    kt_setup_board();
    second = fb->vcpus[1];
    fake_kvm.count_request = KVM_GET_SUPPORTED_CPUID;
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, false, NULL));
    a = v->engine;
    g_assert_true(kvm_vcpu_init(second, &fake_kvm_sys, false, NULL));
    b = second->engine;
    g_assert_true(a->vm == b->vm);
    g_assert_cmpuint(fake_kvm.count, ==, 1);
    kvm_accel_ops.vcpu_fini(second);
    kt_teardown();
}

static void test_limit_model(void)
{
    struct cpu_model *m = cpu_model_new_host(NULL);
    g_autoptr(GError) err = NULL, err2 = NULL;

    fake_kvm_reset();
    g_assert_true(kvm_limit_model(m, &fake_kvm_sys, NULL));
    g_assert_true(cpu_model_has(m, INSN_FEAT_SSE3));
    fake_kvm.poor_cpuid = true;
    g_assert_true(kvm_limit_model(m, &fake_kvm_sys, NULL));
    g_assert_false(cpu_model_has(m, INSN_FEAT_SSE3));
    fake_kvm.fail_request = KVM_GET_SUPPORTED_CPUID;
    fake_kvm.fail_error = E2BIG;
    g_assert_false(kvm_limit_model(m, &fake_kvm_sys, &err));
    g_assert_nonnull(strstr(err->message, "does not tell its CPUID"));
    fake_kvm.open_error = EBUSY;
    g_assert_false(kvm_limit_model(m, &fake_kvm_sys, &err2));
    g_assert_cmpuint(fake_kvm.open_fds, ==, 0);
    cpu_model_free(m);
}

int main(int argc, char **argv)
{
    kt_begin(&argc, &argv);
    g_test_add_func("/kvm/engine/make-fails", test_make_fails);
    g_test_add_func("/kvm/engine/make-fails-otherwise", test_make_fails_otherwise);
    g_test_add_func("/kvm/engine/two-cpus", test_two);
    g_test_add_func("/kvm/engine/limit-model", test_limit_model);
    g_test_add_func("/kvm/engine/ports", test_ports);
    g_test_add_func("/kvm/engine/mmio", test_mmio);
    g_test_add_func("/kvm/engine/hypercall", test_hypercall);
    g_test_add_func("/kvm/engine/hypercall-sleeps", test_hypercall_sleeps);
    g_test_add_func("/kvm/engine/msrs", test_msrs);
    g_test_add_func("/kvm/engine/cr8", test_cr8);
    g_test_add_func("/kvm/engine/irq-window", test_irq_window);
    g_test_add_func("/kvm/engine/irq-at-once", test_irq_at_once);
    g_test_add_func("/kvm/engine/nmi", test_nmi);
    g_test_add_func("/kvm/engine/stop", test_stop);
    g_test_add_func("/kvm/engine/round-trip", test_round_trip);
    g_test_add_func("/kvm/engine/state-changed", test_state_changed);
    g_test_add_func("/kvm/engine/event-in-flight", test_event_in_flight);
    g_test_add_func("/kvm/engine/layout", test_layout);
    g_test_add_func("/kvm/engine/layout-fails", test_layout_fails);
    g_test_add_func("/kvm/engine/bad-exits", test_bad_exits);
    g_test_add_func("/kvm/engine/state-refused", test_state_refused);
    return kt_end();
}
