/* SPDX-License-Identifier: MIT */
/* See vcpu_test.h. */
#include "vcpu_test.h"

#include <string.h>

struct fake_board *fb;
struct vcpu *v;
struct cpu_model *model;
struct exit last;
uint64_t kt_ram = RAM;
struct kt_call calls[KT_CALLS];
unsigned nr_calls;
int irq_vector;
bool hypercall_sleeps, hypercall_again;

/* --- the board --- */

static void board_call(char what, uint64_t at, unsigned size, uint64_t value)
{
    g_assert_cmpuint(nr_calls, <, G_N_ELEMENTS(calls));
    calls[nr_calls++] = (struct kt_call){what, at, value, size};
}

static uint64_t board_in(struct vcpu *cpu, uint16_t port, unsigned size)
{
    board_call('i', port, size, 0);
    return 0x1122334455667788;
}

static void board_out(struct vcpu *cpu, uint16_t port, unsigned size, uint64_t value)
{
    board_call('o', port, size, value);
}

static uint64_t board_read(struct vcpu *cpu, uint64_t gpa, unsigned size)
{
    board_call('r', gpa, size, 0);
    return 0x8877665544332211;
}

static void board_write(struct vcpu *cpu, uint64_t gpa, unsigned size, uint64_t value)
{
    board_call('w', gpa, size, value);
}

static void board_hypercall(struct vcpu *cpu)
{
    board_call('h', cpu->cpu.gpr[CPU_RAX], cpu->cpu.cpl, cpu->cpu.rip);
    if (hypercall_again) {
        hypercall_again = false;
        cpu->cpu.rip -= 3;
        return;
    }
    cpu->cpu.gpr[CPU_RAX] = 0x4242;
    cpu->cpu.halted = hypercall_sleeps;
}

static int board_ack(struct vcpu *cpu)
{
    int vector = irq_vector;

    irq_vector = -1;
    return vector;
}

static bool board_rdmsr(struct vcpu *cpu, uint32_t index, uint64_t *value)
{
    board_call('R', index, 8, 0);
    *value = 0x5a5a;
    return index == 0x802;
}

static bool board_wrmsr(struct vcpu *cpu, uint32_t index, uint64_t value)
{
    board_call('W', index, 8, value);
    return index == 0x80b;
}

static uint64_t board_read_cr8(struct vcpu *cpu)
{
    return 3;
}

static void board_write_cr8(struct vcpu *cpu, uint64_t value)
{
    board_call('8', 0, 8, value);
}

static void board_later(struct vcpu *cpu)
{
    board_call('l', 0, 0, 0);
}

static void board_eoi(struct vcpu *cpu, uint8_t vector)
{
    board_call('e', vector, 1, 0);
}

static const struct vcpu_board_ops board_ops = {
    .pio_read = board_in, .pio_write = board_out, .mmio_read = board_read,
    .mmio_write = board_write, .hypercall = board_hypercall, .irq_ack = board_ack,
    .rdmsr = board_rdmsr, .wrmsr = board_wrmsr, .read_cr8 = board_read_cr8,
    .write_cr8 = board_write_cr8, .irq_later = board_later, .apic_eoi = board_eoi,
};

/* --- arrange --- */

void kt_setup_board(void)
{
    fake_kvm_reset();
    fb = fake_board_new(2, kt_ram, 4);
    for (unsigned i = 0; i < 2; i++) {
        v = fb->vcpus[1 - i];
        v->id = 1 - i;
        v->model = model;
        v->mem = fb->board.mem;
        v->board = &fb->board;
        v->board_ops = &board_ops;
        v->accel = &kvm_accel_ops;
        cpu_reset(&v->cpu);
    }
}

void kt_setup_kind(bool split)
{
    kt_setup_board();
    v->accel = split ? &kvm_split_accel_ops : &kvm_accel_ops;
    v->rest = VCPU_RUNS;
    g_assert_true(kvm_vcpu_init(v, &fake_kvm_sys, split, NULL));
    nr_calls = 0;
    irq_vector = -1;
    hypercall_sleeps = hypercall_again = false;
}

void kt_setup(void)
{
    kt_setup_kind(false);
}

void kt_teardown(void)
{
    kvm_accel_ops.vcpu_fini(v);
    g_assert_null(v->engine);
    g_assert_cmpuint(fake_kvm.open_fds, ==, 0);
    fake_board_free(fb);
}

struct fake_exit *kt_add(uint32_t reason, void (*fill)(struct kvm_run *run))
{
    struct fake_exit *e = &fake_kvm.exits[fake_kvm.nr_exits++];

    *e = (struct fake_exit){.reason = reason, .fill = fill};
    return e;
}

/* Runs until an exit; the script ends with HLT. */
void kt_run_to_halt(void)
{
    kt_add(KVM_EXIT_HLT, NULL);
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, EXIT_HALT);
    g_assert_true(v->cpu.halted);
    g_assert_cmpuint(fake_kvm.next_exit, ==, fake_kvm.nr_exits);
}

void kt_run_to_end(enum exit_kind kind, const char *text)
{
    kvm_run_guest(v, &last);
    g_assert_cmpint(last.kind, ==, kind);
    g_assert_nonnull(strstr(last.message, text));
}

void kt_assert_call(unsigned i, char what, uint64_t at, unsigned size, uint64_t value)
{
    g_assert_cmpuint(i, <, nr_calls);
    g_assert_cmpint(calls[i].what, ==, what);
    g_assert_cmphex(calls[i].at, ==, at);
    g_assert_cmpuint(calls[i].size, ==, size);
    g_assert_cmphex(calls[i].value, ==, value);
}

uint8_t *kt_io_data(struct kvm_run *run, uint8_t direction, uint16_t port, uint8_t size,
                        uint32_t count)
{
    run->io.direction = direction;
    run->io.port = port;
    run->io.size = size;
    run->io.count = count;
    run->io.data_offset = PAGE;
    return (uint8_t *)run + PAGE;
}

void kt_fill_vmcall(struct kvm_run *run)
{
    run->xen.type = KVM_EXIT_XEN_HCALL;
    fake_kvm.regs.rip = 0x5000;
    fake_kvm.regs.rax = 29;
}

void kt_begin(int *argc, char ***argv)
{
    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(argc, argv, NULL);
    model = cpu_model_new_host(NULL);
}

int kt_end(void)
{
    int ret = g_test_run();

    cpu_model_free(model);
    return ret;
}
