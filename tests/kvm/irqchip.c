/* SPDX-License-Identifier: MIT */
/*
 * What KVM takes for an event, with its local APIC (KVM_CAP_SPLIT_IRQCHIP, KVM_SIGNAL_MSI) and
 * without (KVM_INTERRUPT), and what a VMM no longer learns when the APIC is KVM's. A bare loop of
 * KVM_RUN, as bare.c: pvemu's own share is not in it. Prints the TSC ticks of each, the best of 20
 * times a hundred, above those of an exit without an event. With an argument: what one vCPU's start
 * by another one tells, and nothing else. Runs on any host with /dev/kvm.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <x86intrin.h>

enum {
    ROUNDS = 100, TIMES = 20, SIZE = 0x10000, CODE = 0x1000, HANDLER = 0x2000, STACK = 0x4000,
    VECTOR = 0x40, CALL = 0x7e, /* behind an OUT to this port RIP is the next instruction's */
    LEAVES = 128, WAIT_US = 20000, START = 0x5000, FILTER_MSRS = 0x600,
};
#define APIC_BASE_X2APIC 0x400u
#define MSI_ADDRESS      0xfee00000u

/* Real mode. WRMSR of a register of the x2APIC. */
#define APIC_WRITE(reg, low, high) \
    0x66, 0xb9, reg, 0x08, 0x00, 0x00, 0x66, 0xb8, low, high, 0x00, 0x00, 0x66, 0x31, 0xd2, \
        0x0f, 0x30
/* The same of the command register, to vCPU 1: EDX is one more. */
#define APIC_SEND(low, high) \
    0x66, 0xb9, 0x30, 0x08, 0x00, 0x00, 0x66, 0xb8, low, high, 0x00, 0x00, 0x66, 0x31, 0xd2, \
        0x66, 0x42, 0x0f, 0x30
#define APIC_ON APIC_WRITE(0x0f, 0xff, 0x01)
#define LOOP_OPEN   0xfb, 0xe6, CALL, 0xeb, 0xfc             /* STI; l: OUT; JMP l */
#define LOOP_CLOSED 0xfa, 0xe6, CALL, 0xfb, 0x90, 0xeb, 0xf9 /* l: CLI; OUT; STI; NOP; JMP l */

static const unsigned char open_loop[] = {LOOP_OPEN}, closed_loop[] = {LOOP_CLOSED};
static const unsigned char open_apic[] = {APIC_ON, LOOP_OPEN};
static const unsigned char closed_apic[] = {APIC_ON, LOOP_CLOSED};
static const unsigned char dead[] = {APIC_ON, 0xfa, 0xf4}; /* CLI; HLT */
/* LVT0 masked; STI; JMP to itself. */
static const unsigned char deaf[] = {APIC_ON, APIC_WRITE(0x35, 0x00, 0x00) /* patched below */,
                                     0xfb, 0xeb, 0xfe};
enum { DEAF_LVT_HIGH = 17 + 10 }; /* bits 16 to 23 of what it writes: masked is bit 16 */
static const unsigned char spin[] = {0xfb, 0xeb, 0xfe}; /* STI; JMP to itself */
/* INIT, a start-up message for START, OUT. */
static const unsigned char restart[] = {APIC_ON, APIC_SEND(0x00, 0x45),
                                        APIC_SEND(START >> 12, 0x46), 0xe6, CALL};
static const unsigned char handler[] = {0xcf}; /* IRET */
static const unsigned char handler_eoi[] = {APIC_WRITE(0x0b, 0x00, 0x00), 0xcf};
static const unsigned char handler_tells[] = {0xe6, CALL, 0xcf};

struct machine {
    int dev, vm, vcpu;
    struct kvm_run *run;
    unsigned char *memory;
    size_t run_size;
    bool split;
};

/* One event, from one OUT of the guest to the next. */
typedef void turn_fn(struct machine *m);

static int must(int ret, const char *what)
{
    if (ret < 0) {
        perror(what);
        exit(1);
    }
    return ret;
}

static void machine_cpuid(const struct machine *m)
{
    struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + LEAVES * sizeof(list->entries[0]));

    must(list != NULL ? 0 : -1, "memory");
    list->nent = LEAVES;
    must(ioctl(m->dev, KVM_GET_SUPPORTED_CPUID, list), "KVM_GET_SUPPORTED_CPUID");
    must(ioctl(m->vcpu, KVM_SET_CPUID2, list), "KVM_SET_CPUID2");
    free(list);
}

static void machine_add_vcpu(struct machine *m, unsigned long id)
{
    m->vcpu = must(ioctl(m->vm, KVM_CREATE_VCPU, id), "KVM_CREATE_VCPU");
    m->run_size =
        (size_t)must(ioctl(m->dev, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
    must(m->run != MAP_FAILED ? 0 : -1, "the vCPU's page");
    machine_cpuid(m);
}

static struct machine machine_new(bool split)
{
    struct machine m = {.split = split};
    struct kvm_userspace_memory_region slot = {.memory_size = SIZE};
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};

    m.dev = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    m.vm = must(ioctl(m.dev, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    if (split) {
        must(ioctl(m.vm, KVM_ENABLE_CAP, &cap), "KVM_CAP_SPLIT_IRQCHIP");
    }
    m.memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(m.memory != MAP_FAILED ? 0 : -1, "memory");
    slot.userspace_addr = (unsigned long)m.memory;
    must(ioctl(m.vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory");
    machine_add_vcpu(&m, 0);
    return m;
}

static void machine_free(struct machine *m)
{
    munmap(m->run, m->run_size);
    munmap(m->memory, SIZE);
    close(m->vcpu);
    close(m->vm);
    close(m->dev);
}

static void machine_program(struct machine *m, const void *code, size_t len, const void *irq,
                            size_t irq_len)
{
    const unsigned short entry[2] = {HANDLER, 0};
    struct kvm_regs regs = {.rip = CODE, .rsp = STACK, .rflags = 2};
    struct kvm_sregs sregs;

    memcpy(m->memory + CODE, code, len);
    memcpy(m->memory + HANDLER, irq, irq_len);
    memcpy(m->memory + VECTOR * sizeof(entry), entry, sizeof(entry));
    must(ioctl(m->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    sregs.apic_base |= m->split ? APIC_BASE_X2APIC : 0;
    must(ioctl(m->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    must(ioctl(m->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void run_to(struct machine *m, unsigned reason)
{
    must(ioctl(m->vcpu, KVM_RUN, 0), "KVM_RUN");
    if (m->run->exit_reason != reason) {
        fprintf(stderr, "exit %u, not %u\n", m->run->exit_reason, reason);
        exit(1);
    }
}

/* --- an event --- */

static void turn_none(struct machine *m)
{
    run_to(m, KVM_EXIT_IO);
}

static void turn_interrupt(struct machine *m)
{
    struct kvm_interrupt irq = {.irq = VECTOR};

    must(ioctl(m->vcpu, KVM_INTERRUPT, &irq), "KVM_INTERRUPT");
    run_to(m, KVM_EXIT_IO);
}

/* RFLAGS.IF is clear. */
static void turn_window(struct machine *m)
{
    m->run->request_interrupt_window = 1;
    run_to(m, KVM_EXIT_IRQ_WINDOW_OPEN);
    m->run->request_interrupt_window = 0;
    turn_interrupt(m);
}

static int send_message(struct machine *m)
{
    struct kvm_msi msi = {.address_lo = MSI_ADDRESS, .data = VECTOR};

    return must(ioctl(m->vm, KVM_SIGNAL_MSI, &msi), "KVM_SIGNAL_MSI");
}

static void turn_message(struct machine *m)
{
    if (send_message(m) == 0) {
        fprintf(stderr, "the message was dropped\n");
        exit(1);
    }
    run_to(m, KVM_EXIT_IO);
}

/* What a kick costs the thread that is kicked, and the kicker: a signal, and KVM_RUN that ends. */
static void turn_kick(struct machine *m)
{
    syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGUSR1);
    m->run->immediate_exit = 1;
    if (ioctl(m->vcpu, KVM_RUN, 0) >= 0) {
        fprintf(stderr, "a kick did not end KVM_RUN\n");
        exit(1);
    }
    m->run->immediate_exit = 0;
    turn_interrupt(m);
}

static long best_of(struct machine *m, turn_fn *turn)
{
    unsigned long long best = ~0ull;

    for (int time = 0; time < TIMES; time++) {
        unsigned long long start = __rdtsc(), ticks;

        for (int i = 0; i < ROUNDS; i++) {
            turn(m);
        }
        ticks = (__rdtsc() - start) / ROUNDS;
        best = ticks < best ? ticks : best;
    }
    return (long)best;
}

static void measure(const char *name, bool split, bool open, turn_fn *turn)
{
    struct machine m = machine_new(split);
    long none;

    if (split) {
        machine_program(&m, open ? open_apic : closed_apic,
                        open ? sizeof(open_apic) : sizeof(closed_apic), handler_eoi,
                        sizeof(handler_eoi));
    } else {
        machine_program(&m, open ? open_loop : closed_loop,
                        open ? sizeof(open_loop) : sizeof(closed_loop), handler,
                        sizeof(handler));
    }
    run_to(&m, KVM_EXIT_IO);
    none = best_of(&m, turn_none);
    printf("%s %ld\n", name, best_of(&m, turn) - none);
    machine_free(&m);
}

/* --- what is not told --- */

static void on_signal(int number)
{
    (void)number; /* it ends KVM_RUN */
}

/* Whether the guest comes out by itself before the signal does. */
static bool comes_out(struct machine *m)
{
    const struct itimerval soon = {.it_value = {.tv_usec = WAIT_US}};

    must(setitimer(ITIMER_REAL, &soon, NULL), "setitimer");
    return ioctl(m->vcpu, KVM_RUN, 0) >= 0;
}

static void facts(void)
{
    struct kvm_interrupt irq = {.irq = VECTOR};
    struct kvm_mp_state state;
    struct machine m = machine_new(true);
    bool out;

    machine_program(&m, dead, sizeof(dead), handler_tells, sizeof(handler_tells));
    printf("message to an APIC that is off: %s\n", send_message(&m) > 0 ? "taken" : "dropped");
    out = comes_out(&m);
    must(ioctl(m.vcpu, KVM_GET_MP_STATE, &state), "KVM_GET_MP_STATE");
    printf("HLT with interrupts off: %s, state %u\n", out ? "told" : "not told", state.mp_state);
    machine_free(&m);

    m = machine_new(true);
    machine_program(&m, deaf, sizeof(deaf), handler_tells, sizeof(handler_tells));
    m.memory[CODE + DEAF_LVT_HIGH] = 1;
    comes_out(&m); /* it has masked LVT0 and spins with interrupts on */
    must(ioctl(m.vcpu, KVM_INTERRUPT, &irq), "KVM_INTERRUPT");
    m.run->request_interrupt_window = 1;
    printf("KVM_INTERRUPT with LVT0 masked: %s\n", comes_out(&m) ? "delivered" : "kept");
    machine_free(&m);
}

/* Writes of all the x2APIC's registers are to come out. */
static void filter_apic(const struct machine *m)
{
    static unsigned char none[FILTER_MSRS / 8];
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};
    struct kvm_msr_filter filter = {
        .ranges = {{.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = 0x800,
                    .nmsrs = FILTER_MSRS, .bitmap = none}},
    };

    must(ioctl(m->vm, KVM_ENABLE_CAP, &cap), "KVM_CAP_X86_USER_SPACE_MSR");
    must(ioctl(m->vm, KVM_X86_SET_MSR_FILTER, &filter), "KVM_X86_SET_MSR_FILTER");
}

/* One vCPU starts another one anew. */
static void fact_restart(void)
{
    struct kvm_mp_state runs = {.mp_state = KVM_MP_STATE_RUNNABLE};
    struct machine m = machine_new(true), other = m;
    struct kvm_sregs sregs;
    bool out;

    filter_apic(&m);
    machine_add_vcpu(&other, 1);
    must(ioctl(other.vcpu, KVM_SET_MP_STATE, &runs), "KVM_SET_MP_STATE");
    machine_program(&other, spin, sizeof(spin), handler, sizeof(handler));
    if (comes_out(&other)) {
        fprintf(stderr, "exit %u of a loop\n", other.run->exit_reason);
        exit(1);
    }
    machine_program(&m, restart, sizeof(restart), handler, sizeof(handler));
    memcpy(m.memory + START, open_loop + 1, sizeof(open_loop) - 1);
    out = comes_out(&m);
    printf("INIT of another vCPU, x2APIC filtered: %s\n",
           !out ? "never done" : m.run->exit_reason == KVM_EXIT_IO ? "not told" : "told");
    out = comes_out(&other);
    must(ioctl(other.vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    printf("INIT and start of a vCPU: %s\n",
           !out || sregs.cs.base != START               ? "never done"
           : other.run->exit_reason == KVM_EXIT_IO ? "not told"
                                                   : "told");
    munmap(other.run, other.run_size);
    close(other.vcpu);
    machine_free(&m);
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_signal};

    (void)argv;
    setvbuf(stdout, NULL, _IOLBF, 0);
    must(sigaction(SIGUSR1, &sa, NULL), "sigaction");
    must(sigaction(SIGALRM, &sa, NULL), "sigaction");
    if (argc > 1) {
        fact_restart();
        return 0;
    }
    measure("interrupt", false, true, turn_interrupt);
    measure("interrupt-window", false, false, turn_window);
    measure("interrupt-kick", false, true, turn_kick);
    measure("message", true, true, turn_message);
    measure("message-closed", true, false, turn_message);
    facts();
    return 0;
}
