/* SPDX-License-Identifier: MIT */
/* Local APICs in KVM against a fake /dev/kvm: state there and back, rests, interrupts, messages, errors. */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "vcpu_test.h"

enum { TPR = 8, ID = 2, DEADLINE = 0x6e0 };
#define X2APIC 0xfee00c00u

static struct vcpu_apic apic;

static const struct accel_apic_ops *ops(void)
{
    return v->accel->apic;
}

static void load(enum vcpu_rest rest)
{
    struct exit exit = {0};

    v->rest = rest;
    g_assert_true(ops()->load(v, &apic, &exit));
    g_assert_cmpstr(exit.message, ==, "");
}

/* A vCPU whose state is in KVM. */
static void setup(enum vcpu_rest rest)
{
    kt_setup_kind(true);
    memset(&apic, 0, sizeof(apic));
    apic.base = X2APIC;
    apic.reg[TPR] = 0x50;
    apic.reg[ID] = 4u << 24;
    v->cpu.rip = 0x1000;
    v->cpu.rflags = CPU_IF | 2;
    fake_kvm.msi_answer = 1;
    load(rest);
}

/* KVM_RUN ends with a signal, which is somebody's request. */
static void fill_stop(struct kvm_run *run)
{
    (void)run;
    vcpu_request(v, VCPU_REQ_STOP);
}

static void run_to_kick(void)
{
    kt_add(0, fill_stop)->ret = -EINTR;
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    atomic_store(&v->request, 0);
}

/* --- making it --- */

static void test_make(void)
{
    static const uint32_t open[] = {0x1b, 0x6e0};

    setup(VCPU_RUNS);
    g_assert_cmpuint(fake_kvm.vcpu_id, ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(open); i++) { /* its MSRs are KVM's */
        bool found = false;

        for (unsigned n = 0; n < KVM_MSR_FILTER_MAX_RANGES; n++) {
            found |= fake_kvm.filter.ranges[n].nmsrs == 1 &&
                     fake_kvm.filter.ranges[n].base == open[i];
        }
        g_assert_true(found);
    }
    kt_teardown();
    kt_setup();
    for (unsigned n = 0; n < KVM_MSR_FILTER_MAX_RANGES; n++) {
        g_assert_cmphex(fake_kvm.filter.ranges[n].base, !=, 0x1b);
    }
    kt_teardown();
}

/* APIC ids are those of CPUID and ACPI. */
static void test_ids(void)
{
    kt_setup_board();
    v = fb->vcpus[1];
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, true, NULL));
    g_assert_cmpuint(fake_kvm.vcpu_id, ==, 2);
    kvm_split_accel_ops.vcpu_fini(v);
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, false, NULL));
    g_assert_cmpuint(fake_kvm.vcpu_id, ==, 1);
    kt_teardown();
}

static void test_make_fails(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *hint = NULL, *text = NULL;

    kt_setup_board();
    fake_kvm.fail_cap = KVM_CAP_SPLIT_IRQCHIP;
    g_assert_false(kvm_vcpu_init(v, &fake_kvm_sys, true, &err));
    g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_HOST);
    text = error_split_hint(err, &hint);
    g_assert_cmpstr(text, ==, "-accel kvm,irqchip=split: KVM has no local APICs for it: "
                              "Invalid argument");
    g_assert_nonnull(strstr(hint, "leave irqchip=split away"));
    kt_teardown();
}

/* --- there and back --- */

static void test_load(void)
{
    uint32_t tpr;

    kt_setup_kind(true);
    apic.base = X2APIC;
    apic.reg[TPR] = 0x50;
    apic.deadline = 0x123456;
    v->cpu.rip = 0x1234;
    v->cpu.gpr[CPU_RAX] = 77;
    load(VCPU_HALTS);
    memcpy(&tpr, fake_kvm.lapic.regs + 0x80, sizeof(tpr));
    g_assert_cmphex(tpr, ==, 0x50);
    g_assert_cmphex(fake_kvm.sregs.cr8, ==, 5);
    g_assert_cmphex(fake_kvm.sregs.apic_base, ==, X2APIC);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x1234);
    g_assert_cmphex(fake_kvm.regs.rax, ==, 77);
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_HALTED);
    g_assert_cmphex(fake_kvm.msr_index[fake_kvm.nr_msrs - 1], ==, DEADLINE);
    g_assert_cmphex(fake_kvm.msrs[fake_kvm.nr_msrs - 1], ==, 0x123456);
    g_assert_cmpuint(fake_kvm.nr_cpuid, >, 8); /* before the APIC: its timer needs it */
    kt_teardown();
}

static void test_fetch(void)
{
    const uint32_t isr = 0x80;
    struct vcpu_apic home;
    struct exit exit = {0};

    setup(VCPU_RUNS);
    run_to_kick();
    fake_kvm.regs.rip = 0x2000; /* an INIT, or whatever came since */
    fake_kvm.regs.rbx = 5;
    fake_kvm.mp_state = KVM_MP_STATE_INIT_RECEIVED;
    memcpy(fake_kvm.lapic.regs + 0x110, &isr, sizeof(isr));
    g_assert_true(ops()->settle(v, &exit));
    g_assert_cmpint(v->rest, ==, VCPU_OFF);
    g_assert_cmphex(v->cpu.rip, ==, 0x2000);
    g_assert_cmphex(v->cpu.gpr[CPU_RBX], ==, 5);
    g_assert_true(ops()->fetch(v, &home, &exit));
    g_assert_cmphex(home.base, ==, X2APIC);
    g_assert_cmphex(home.reg[0x11], ==, isr);
    g_assert_cmphex(home.reg[TPR], ==, 0x50);
    /* It counts now: another look does not take KVM's. */
    v->cpu.rip = 0x3000;
    g_assert_true(ops()->settle(v, &exit));
    g_assert_cmphex(v->cpu.rip, ==, 0x3000);
    kt_teardown();
}

/* What the board says of a vCPU is KVM's state, and the other way round. */
static void test_rests(void)
{
    static const struct {
        enum vcpu_rest rest;
        uint32_t state;
    } rows[] = {
        {VCPU_RUNS, KVM_MP_STATE_RUNNABLE}, {VCPU_HALTS, KVM_MP_STATE_HALTED},
        {VCPU_KEPT, KVM_MP_STATE_UNINITIALIZED}, {VCPU_OFF, KVM_MP_STATE_INIT_RECEIVED},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        setup(VCPU_RUNS);
        v->rest = rows[i].rest;
        run_to_kick();
        g_assert_cmpuint(fake_kvm.mp_state, ==, rows[i].state);
        g_assert_cmpint(v->rest, ==, rows[i].rest);
        g_assert_cmphex(fake_kvm.regs.rip, ==, 0x1000);
        kt_teardown();
    }
}

/* HLT: the sleep that the board told or another one; with interrupts off it is the end. */
static void test_halts(void)
{
    uint64_t rip;

    setup(VCPU_HALTS);
    run_to_kick();
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    g_assert_true(v->rest_same);
    rip = fake_kvm.regs.rip;
    fake_kvm.regs.rip = 0x5000; /* it went on and halted there */
    ops()->look(v);
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    g_assert_false(v->rest_same);
    fake_kvm.regs.rflags = 2;
    ops()->look(v);
    g_assert_cmpint(v->rest, ==, VCPU_DEAD);
    fake_kvm.events.nmi.pending = 1;
    ops()->look(v);
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    fake_kvm.events.nmi.pending = 0;
    fake_kvm.mp_state = KVM_MP_STATE_RUNNABLE;
    ops()->look(v);
    g_assert_cmpint(v->rest, ==, VCPU_RUNS);
    fake_kvm.mp_state = KVM_MP_STATE_HALTED; /* the same place, but it has run */
    fake_kvm.regs.rip = rip;
    ops()->look(v);
    g_assert_cmpint(v->rest, ==, VCPU_DEAD);
    g_assert_false(v->rest_same);
    kt_teardown();
}

static void fill_hypercall(struct kvm_run *run)
{
    kt_io_data(run, KVM_EXIT_IO_OUT, 0x7e, 1, 1);
    fake_kvm.regs.rip = 0x4002;
}

/* The sleep of a hypercall is one in KVM, behind the call and with its result; a request ends it. */
static void test_hypercall_sleeps(void)
{
    setup(VCPU_RUNS);
    hypercall_sleeps = true;
    kt_add(KVM_EXIT_IO, fill_hypercall);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    g_assert_true(v->rest_same);
    g_assert_cmphex(fake_kvm.regs.rax, ==, 0x4242);
    ops()->look(v); /* before it is entered again, for a pause */
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    g_assert_true(v->rest_same);
    v->rest = VCPU_HALTS;
    run_to_kick();
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_HALTED);
    g_assert_true(v->rest_same);
    vcpu_request(v, VCPU_REQ_IRQ); /* the board is asked whether it is over */
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_cmphex(atomic_load(&v->request), ==, 0);
    v->rest = VCPU_RUNS;
    run_to_kick();
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_RUNNABLE);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x4002);
    kt_teardown();
}

/* VCPUOP_up: a vCPU that is off is filled in from outside. */
static void test_start(void)
{
    setup(VCPU_OFF);
    run_to_kick();
    v->cpu.rip = 0x7000;
    v->accel->state_changed(v);
    v->rest = VCPU_RUNS;
    run_to_kick();
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x7000);
    g_assert_cmphex(fake_kvm.sregs.apic_base, ==, X2APIC);
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_RUNNABLE);
    kt_teardown();
}

/* What KVM was about to deliver is delivered on the way home, once. */
static void test_in_flight(void)
{
    struct exit exit = {0};

    setup(VCPU_RUNS);
    run_to_kick();
    fake_kvm.regs.rsp = 0x8000;
    fake_kvm.regs.rip = 0x1000;
    fake_kvm.sregs.cr0 = 0x10; /* real mode: the entry is 0:0 of the empty memory */
    fake_kvm.sregs.idt.limit = 0x3ff;
    fake_kvm.events.interrupt.injected = 1;
    fake_kvm.events.interrupt.nr = 0x40;
    g_assert_true(ops()->settle(v, &exit));
    g_assert_cmphex(v->cpu.rip, ==, 0);
    g_assert_cmphex(v->cpu.gpr[CPU_RSP] & 0xffff, ==, 0x7ffa);
    load(VCPU_RUNS);
    g_assert_cmpuint(fake_kvm.events.interrupt.injected, ==, 0);
    kt_teardown();
    setup(VCPU_RUNS); /* there is no entry for it, nor for what that leads to */
    run_to_kick();
    fake_kvm.sregs.cr0 = 0x10;
    fake_kvm.sregs.idt.limit = 0;
    fake_kvm.events.interrupt.injected = 1;
    fake_kvm.events.interrupt.nr = 0x40;
    g_assert_false(ops()->settle(v, &exit));
    g_assert_cmpint(exit.kind, ==, EXIT_SHUTDOWN);
    g_assert_cmpstr(exit.message, ==, "triple fault");
    kt_teardown();
}

/* --- interrupts that no APIC knows --- */

static void offer(uint8_t vector)
{
    irq_vector = vector;
    vcpu_request(v, VCPU_REQ_IRQ);
    run_to_kick();
}

static void test_vector(void)
{
    setup(VCPU_RUNS);
    fake_kvm.run->if_flag = 1;
    offer(0x51);
    g_assert_cmpuint(fake_kvm.events.interrupt.injected, ==, 1);
    g_assert_cmphex(fake_kvm.events.interrupt.nr, ==, 0x51);
    g_assert_cmpuint(nr_calls, ==, 0);
    kt_teardown();
    setup(VCPU_RUNS); /* HLT of its own: the vector ends it */
    fake_kvm.mp_state = KVM_MP_STATE_HALTED;
    offer(0x51);
    g_assert_cmphex(fake_kvm.events.interrupt.nr, ==, 0x51);
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_RUNNABLE);
    kt_teardown();
}

static void not_now_if(void)
{
    fake_kvm.run->if_flag = 0;
}

static void not_now_shadow(void)
{
    fake_kvm.events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
}

static void not_now_exception(void)
{
    fake_kvm.events.exception.injected = 1;
    fake_kvm.events.exception.nr = 14;
}

static void not_now_off(void)
{
    fake_kvm.mp_state = KVM_MP_STATE_INIT_RECEIVED;
}

/* It is asked for again some time. */
static void test_vector_later(void)
{
    static void (*const rows[])(void) = {not_now_if, not_now_shadow, not_now_exception,
                                         not_now_off};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        setup(VCPU_RUNS);
        rows[i]();
        offer(0x51);
        g_assert_cmpuint(fake_kvm.events.interrupt.injected, ==, 0);
        kt_assert_call(0, 'l', 0, 0, 0);
        kt_teardown();
    }
}

static void fill_in_and_vector(struct kvm_run *run)
{
    memset(kt_io_data(run, KVM_EXIT_IO_IN, 0x3fd, 1, 1), 0, 4);
    irq_vector = 0x51;
    vcpu_request(v, VCPU_REQ_IRQ);
}

/* Not between the halves of an IN: KVM finishes that first. */
static void test_vector_unfinished(void)
{
    setup(VCPU_RUNS);
    fake_kvm.run->if_flag = 1;
    kt_add(KVM_EXIT_IO, fill_in_and_vector);
    run_to_kick();
    g_assert_cmpuint(fake_kvm.events.interrupt.injected, ==, 1);
    g_assert_cmphex(fake_kvm.events.interrupt.nr, ==, 0x51);
    g_assert_cmpint(irq_vector, ==, -1);
    kt_teardown();
}

static void fill_eoi(struct kvm_run *run)
{
    run->eoi.vector = 0x33;
}

static void test_eoi(void)
{
    setup(VCPU_RUNS);
    kt_add(KVM_EXIT_IOAPIC_EOI, fill_eoi);
    run_to_kick();
    kt_assert_call(0, 'e', 0x33, 1, 0);
    kt_teardown();
}

/* --- messages --- */

static void test_messages(void)
{
    g_autofree char *text = NULL;

    setup(VCPU_RUNS);
    g_assert_true(ops()->message(v, 0xfee02000, 0x41));
    g_assert_cmphex(fake_kvm.msi.address_lo, ==, 0xfee02000);
    g_assert_cmphex(fake_kvm.msi.data, ==, 0x41);
    g_assert_cmpuint(fake_kvm.nr_routes, ==, 0);
    fake_kvm.msi_answer = 0; /* the APIC is off */
    g_assert_false(ops()->message(v, 0xfee02000, 0x41));
    fake_kvm.msi_answer = -EPERM; /* nobody has this id */
    g_assert_false(ops()->message(v, 0xfeeff000, 0x41));
    text = v->accel->stats(v);
    g_assert_nonnull(strstr(text, "messages 3\ndropped 2\n"));
    kt_teardown();
}

/* The end of a level-triggered one is told by KVM: it has to be a route, once. */
static void test_routes(void)
{
    setup(VCPU_RUNS);
    fake_kvm.count_request = KVM_SET_GSI_ROUTING;
    for (unsigned i = 0; i < 3; i++) {
        ops()->message(v, 0xfee00000, 0xc000 + 0x30 + i % 2);
    }
    g_assert_cmpuint(fake_kvm.count, ==, 2);
    g_assert_cmpuint(fake_kvm.nr_routes, ==, 2);
    g_assert_cmpuint(fake_kvm.routes[1].type, ==, KVM_IRQ_ROUTING_MSI);
    g_assert_cmphex(fake_kvm.routes[1].u.msi.data, ==, 0xc031);
    for (unsigned i = 0; i < 40; i++) { /* the table does not grow for ever */
        ops()->message(v, 0xfee00000, 0xc040 + i);
    }
    g_assert_cmpuint(fake_kvm.nr_routes, ==, KVM_ROUTES);
    fake_kvm.fail_request = KVM_SET_GSI_ROUTING;
    fake_kvm.fail_error = EIO;
    ops()->message(v, 0xfee00000, 0xc099);
    kt_run_to_end(EXIT_ERROR, "no more interrupts of devices: Input/output");
    kt_teardown();
}

/* --- calls that fail --- */

static void test_load_fails(void)
{
    static const unsigned long rows[] = {KVM_SET_CPUID2, KVM_SET_SREGS, KVM_SET_LAPIC,
                                         KVM_SET_MSRS, KVM_SET_REGS, KVM_SET_MP_STATE};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct exit exit = {0};

        kt_setup_kind(true);
        apic.deadline = 1;
        fake_kvm.fail_request = rows[i];
        fake_kvm.fail_error = EIO;
        g_assert_false(ops()->load(v, &apic, &exit));
        g_assert_cmpint(exit.kind, ==, EXIT_ERROR);
        g_assert_nonnull(strstr(exit.message, "KVM: it does not take the guest's"));
        kt_teardown();
    }
}

static void test_fetch_fails(void)
{
    static const unsigned long rows[] = {KVM_GET_MP_STATE, KVM_GET_REGS, KVM_GET_SREGS,
                                         KVM_GET_VCPU_EVENTS, KVM_GET_LAPIC, KVM_GET_MSRS};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct exit exit = {0};
        struct vcpu_apic home;

        setup(VCPU_HALTS);
        run_to_kick();
        fake_kvm.fail_request = rows[i];
        fake_kvm.fail_error = EIO;
        g_assert_false(ops()->settle(v, &exit) && ops()->fetch(v, &home, &exit));
        g_assert_cmpint(exit.kind, ==, EXIT_ERROR);
        g_assert_nonnull(strstr(exit.message, "it does not give the guest's state"));
        ops()->look(v); /* says nothing by itself */
        kt_teardown();
    }
}

static void test_run_fails(void)
{
    static const struct {
        unsigned long request;
        const char *text;
        bool irq;
    } rows[] = {
        {KVM_SET_MP_STATE, "does not take the guest's state", false},
        {KVM_GET_MP_STATE, "does not give the guest's state", false},
        {KVM_GET_MP_STATE, "cannot give an interrupt", true},
        {KVM_SET_VCPU_EVENTS, "cannot give an interrupt", true},
        {KVM_GET_VCPU_EVENTS, "cannot give an interrupt", true},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        setup(VCPU_RUNS);
        fake_kvm.run->if_flag = 1;
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = EIO;
        if (rows[i].irq) {
            irq_vector = 0x51;
            vcpu_request(v, VCPU_REQ_IRQ);
        } else {
            v->rest = VCPU_KEPT;
            kt_add(0, fill_stop)->ret = -EINTR;
        }
        kt_run_to_end(EXIT_ERROR, rows[i].text);
        kt_teardown();
    }
}

/* --- a debugger --- */

static void fill_step(struct kvm_run *run)
{
    run->debug.arch.exception = CPU_DB;
    run->debug.arch.dr6 = 0x4000;
    fake_kvm.regs.rip = 0x1005;
}

static void fill_runnable(struct kvm_run *run)
{
    (void)run;
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_RUNNABLE);
}

static void debug_settled(enum vcpu_rest rest, const struct vcpu_debug *debug)
{
    struct exit exit = {0};

    setup(rest);
    g_assert_true(ops()->settle(v, &exit));
    v->cpu.seg[CPU_CS].base = v->cpu.seg[CPU_CS].selector = 0;
    g_assert_true(v->accel->set_debug(v, debug, NULL));
}

static void test_step(void)
{
    const struct vcpu_debug step = {.step = true};
    struct exit exit = {0};

    debug_settled(VCPU_RUNS, &step);
    kt_add(KVM_EXIT_DEBUG, fill_step);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmphex(last.stop, ==, VCPU_STOP_STEP);
    g_assert_cmpint(v->rest, ==, VCPU_RUNS);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x1005);
    fake_kvm.count_request = KVM_SET_GUEST_DEBUG; /* the state is KVM's, and it steps from there */
    kt_add(KVM_EXIT_DEBUG, fill_step);
    kvm_run_guest(v, &last);
    g_assert_cmpuint(fake_kvm.count, ==, 1);
    g_assert_true(ops()->settle(v, &exit));
    g_assert_cmphex(v->cpu.rip, ==, 0x1005);
    kt_teardown();
}

/* KVM would lose the call; what KVM delivers comes first. */
static void test_step_hypercall(void)
{
    const struct vcpu_debug step = {.step = true};

    debug_settled(VCPU_RUNS, &step);
    g_assert_true(mem_write(v->mem, 0x1000, "\xe6\x7e\xe6\x7e", 4));
    v->cpu.gpr[CPU_RAX] = 17;
    kvm_run_guest(v, &last); /* without KVM */
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    kt_assert_call(0, 'h', 17, 0, 0x1002);
    g_assert_cmphex(fake_kvm.regs.rip, ==, 0x1002);
    fake_kvm.events.interrupt.injected = 1;
    kt_add(KVM_EXIT_DEBUG, NULL);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_DEBUG);
    g_assert_cmpuint(nr_calls, ==, 1);
    fake_kvm.events.interrupt.injected = 0;
    hypercall_sleeps = true;
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_cmpint(v->rest, ==, VCPU_HALTS);
    kt_teardown();
}

/* Tried on a vCPU that sleeps, which would not come out. */
static void test_points(void)
{
    const struct vcpu_debug int3 = {.int3 = true};

    setup(VCPU_HALTS);
    kt_add(KVM_EXIT_IO, fill_runnable);
    kt_add(KVM_EXIT_IO, fill_runnable);
    g_assert_true(ops()->settle(v, &last));
    g_assert_false(v->accel->set_debug(v, &int3, NULL));
    g_assert_cmpuint(fake_kvm.next_exit, ==, 2);
    run_to_kick();
    g_assert_cmpuint(fake_kvm.mp_state, ==, KVM_MP_STATE_HALTED); /* again */
    kt_teardown();
}

int main(int argc, char **argv)
{
    kt_begin(&argc, &argv);
    g_test_add_func("/kvm/irqchip/make", test_make);
    g_test_add_func("/kvm/irqchip/ids", test_ids);
    g_test_add_func("/kvm/irqchip/make-fails", test_make_fails);
    g_test_add_func("/kvm/irqchip/load", test_load);
    g_test_add_func("/kvm/irqchip/fetch", test_fetch);
    g_test_add_func("/kvm/irqchip/rests", test_rests);
    g_test_add_func("/kvm/irqchip/halts", test_halts);
    g_test_add_func("/kvm/irqchip/hypercall-sleeps", test_hypercall_sleeps);
    g_test_add_func("/kvm/irqchip/start", test_start);
    g_test_add_func("/kvm/irqchip/in-flight", test_in_flight);
    g_test_add_func("/kvm/irqchip/vector", test_vector);
    g_test_add_func("/kvm/irqchip/vector-later", test_vector_later);
    g_test_add_func("/kvm/irqchip/vector-unfinished", test_vector_unfinished);
    g_test_add_func("/kvm/irqchip/eoi", test_eoi);
    g_test_add_func("/kvm/irqchip/messages", test_messages);
    g_test_add_func("/kvm/irqchip/routes", test_routes);
    g_test_add_func("/kvm/irqchip/load-fails", test_load_fails);
    g_test_add_func("/kvm/irqchip/fetch-fails", test_fetch_fails);
    g_test_add_func("/kvm/irqchip/run-fails", test_run_fails);
    g_test_add_func("/kvm/irqchip/step", test_step);
    g_test_add_func("/kvm/irqchip/step-hypercall", test_step_hypercall);
    g_test_add_func("/kvm/irqchip/points", test_points);
    return kt_end();
}
