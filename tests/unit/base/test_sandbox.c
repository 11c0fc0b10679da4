/* SPDX-License-Identifier: MIT */
/*
 * The compiled filters, read back instruction by instruction: what they allow is what counts, not
 * what the table says. Nothing is loaded here; tests/cli/sandbox_drill.c does that.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <glib.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

enum { MAX_NR = 600, KILLABLE = 4711 };
enum { SEEN_ALLOW = 1, SEEN_LOG = 2, SEEN_ERRNO = 4, SEEN_KILL = 8 };

/* One walk through a filter. Arguments may be unknown: both ways of a jump are then taken. */
struct walk {
    const struct sock_fprog *program;
    struct seccomp_data data;
    bool know_args;
    unsigned seen;
};

static unsigned action_bit(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW: return SEEN_ALLOW;
    case SECCOMP_RET_LOG: return SEEN_LOG;
    case SECCOMP_RET_ERRNO: return SEEN_ERRNO;
    default: return SEEN_KILL;
    }
}

static bool jump_taken(const struct sock_filter *f, uint32_t a)
{
    switch (BPF_OP(f->code)) {
    case BPF_JEQ: return a == f->k;
    case BPF_JGT: return a > f->k;
    case BPF_JGE: return a >= f->k;
    case BPF_JSET: return (a & f->k) != 0;
    default: g_assert_not_reached();
    }
}

static void walk_from(struct walk *w, unsigned pc, uint32_t a, bool known)
{
    for (;; pc++) {
        const struct sock_filter *f = &w->program->filter[pc];

        g_assert_cmpuint(pc, <, w->program->len);
        switch (BPF_CLASS(f->code)) {
        case BPF_LD:
            g_assert_cmpuint(f->code, ==, BPF_LD | BPF_W | BPF_ABS);
            a = *(const uint32_t *)(const void *)((const char *)&w->data + f->k);
            known = w->know_args || f->k < offsetof(struct seccomp_data, instruction_pointer);
            break;
        case BPF_ALU:
            g_assert_cmpuint(BPF_OP(f->code), ==, BPF_AND);
            a &= f->k;
            break;
        case BPF_JMP:
            if (BPF_OP(f->code) == BPF_JA) {
                pc += f->k;
            } else if (known) {
                pc += jump_taken(f, a) ? f->jt : f->jf;
            } else {
                walk_from(w, pc + 1 + f->jt, a, false);
                pc += f->jf;
            }
            break;
        case BPF_RET:
            w->seen |= action_bit(f->k);
            return;
        default:
            g_assert_not_reached();
        }
    }
}

/* Every outcome of a system call, whatever its arguments. */
static unsigned outcomes(const struct sock_fprog *program, unsigned nr)
{
    struct walk w = {.program = program,
                     .data = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64}};

    walk_from(&w, 0, 0, true);
    return w.seen;
}

static unsigned outcome(const struct sock_fprog *program, unsigned nr, uint64_t a0, uint64_t a1,
                        uint64_t a2)
{
    struct walk w = {.program = program, .know_args = true,
                     .data = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64, .args = {a0, a1, a2}}};

    walk_from(&w, 0, 0, true);
    return w.seen;
}

struct fixture {
    struct sandbox *sandbox;
    const struct sock_fprog *program[SANDBOX_NR_CLASSES + 1];
};

static bool fixture_init(struct fixture *f, enum config_sandbox mode)
{
    struct sandbox_options options = {.mode = mode, .unlink_dir = "/tmp",
                                      .killable = KILLABLE};

    f->sandbox = sandbox_new(&options);
    if (f->sandbox == NULL) {
        g_test_skip("a build with sanitizers or coverage has no sandbox");
        return false;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        f->program[cls] = sandbox_program(f->sandbox, cls);
        g_assert_nonnull(f->program[cls]);
    }
    return true;
}

static void test_budget(void)
{
    static const unsigned budget[SANDBOX_NR_CLASSES + 1] = {
        [SANDBOX_CLASS_MAIN] = 60, [SANDBOX_CLASS_VCPU] = 19, [SANDBOX_CLASS_IO] = 30,
        [SANDBOX_CLASS_NET] = 40, [SANDBOX_CLASS_NET_SUPERVISOR] = 66,
        [SANDBOX_CLASS_GUARDIAN] = 8, [SANDBOX_PROCESS] = 66,
    };
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        unsigned allowed = 0;

        for (unsigned nr = 0; nr < MAX_NR; nr++) {
            allowed += (outcomes(f.program[cls], nr) & SEEN_ALLOW) != 0;
        }
        g_test_message("%s: %u system calls, %u instructions", sandbox_class_name(cls), allowed,
                       f.program[cls]->len);
        g_assert_cmpuint(allowed, >=, 5);
        g_assert_cmpuint(allowed, <=, budget[cls]);
    }
    sandbox_free(f.sandbox);
}

/* A thread's own filter comes on top of the process's: that one must let through what it allows. */
static void test_union(void)
{
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    for (unsigned nr = 0; nr < MAX_NR; nr++) {
        for (unsigned cls = SANDBOX_CLASS_MAIN; cls <= SANDBOX_CLASS_IO; cls++) {
            if ((outcomes(f.program[cls], nr) & SEEN_ALLOW) != 0) {
                g_assert_cmphex(outcomes(f.program[SANDBOX_PROCESS], nr) & SEEN_ALLOW, !=, 0);
            }
        }
    }
    g_assert_cmphex(outcomes(f.program[SANDBOX_PROCESS], SYS_seccomp), ==, SEEN_ALLOW);
    g_assert_cmphex(outcomes(f.program[SANDBOX_CLASS_MAIN], SYS_seccomp), ==, SEEN_KILL);
    sandbox_free(f.sandbox);
}

static void test_never(void)
{
    static const unsigned never[] = {
        SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_ptrace, SYS_process_vm_readv,
        SYS_process_vm_writev, SYS_pkey_mprotect, SYS_personality, SYS_mount, SYS_bpf,
        SYS_io_uring_setup, SYS_userfaultfd, SYS_perf_event_open, SYS_setuid, SYS_unshare,
        SYS_setns, SYS_keyctl, SYS_init_module, SYS_reboot, SYS_rename, SYS_chmod, SYS_truncate,
        SYS_open, SYS_creat, SYS_shmat, SYS_dup2, SYS_pidfd_getfd, SYS_modify_ldt, SYS_iopl,
    };
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(never); i++) {
            g_assert_cmphex(outcomes(f.program[cls], never[i]) & (SEEN_ALLOW | SEEN_LOG), ==, 0);
        }
    }
    sandbox_free(f.sandbox);
}

static void test_no_code(void)
{
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        for (unsigned prot = PROT_EXEC; prot <= (PROT_READ | PROT_WRITE | PROT_EXEC); prot++) {
            const struct sock_fprog *p = f.program[cls];

            g_assert_cmphex(outcome(p, SYS_mmap, 0, 4096, prot) & SEEN_ALLOW, ==, 0);
            g_assert_cmphex(outcome(p, SYS_mprotect, 0, 4096, prot) & SEEN_ALLOW, ==, 0);
            g_assert_cmphex(outcome(p, SYS_mprotect, 0, 4096, prot | UINT64_C(1) << 40) &
                                SEEN_ALLOW, ==, 0);
        }
    }
    g_assert_cmphex(outcome(f.program[SANDBOX_CLASS_VCPU], SYS_mmap, 0, 4096,
                            PROT_READ | PROT_WRITE), ==, SEEN_ALLOW);
    sandbox_free(f.sandbox);
}

static void test_arguments(void)
{
    const struct sock_fprog *main_class, *net, *io;
    uint64_t self = (uint64_t)getpid();
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    main_class = f.program[SANDBOX_CLASS_MAIN];
    net = f.program[SANDBOX_CLASS_NET];
    io = f.program[SANDBOX_CLASS_IO];
    g_assert_cmphex(outcome(main_class, SYS_kill, KILLABLE, SIGKILL, 0), ==, SEEN_ALLOW);
    g_assert_cmphex(outcome(main_class, SYS_kill, KILLABLE, SIGSTOP, 0), ==, SEEN_KILL);
    g_assert_cmphex(outcome(main_class, SYS_kill, 1, SIGKILL, 0), ==, SEEN_KILL);
    g_assert_cmphex(outcome(io, SYS_tgkill, self, 1, SIGABRT), ==, SEEN_ALLOW);
    g_assert_cmphex(outcome(io, SYS_tgkill, self + 1, 1, SIGABRT), ==, SEEN_KILL);
    g_assert_cmphex(outcome(io, SYS_tgkill, self, 1, SIGTERM), ==, SEEN_KILL);
    g_assert_cmphex(outcome(net, SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ==,
                    SEEN_ALLOW);
    g_assert_cmphex(outcome(net, SYS_socket, AF_INET, SOCK_RAW, 1), ==, SEEN_ERRNO);
    g_assert_cmphex(outcome(net, SYS_socket, AF_UNIX, SOCK_STREAM, 0), ==, SEEN_ERRNO);
    g_assert_cmphex(outcome(net, SYS_socket, AF_NETLINK, SOCK_RAW, 0) & SEEN_ALLOW, ==, 0);
    g_assert_cmphex(outcome(main_class, SYS_socket, AF_INET, SOCK_STREAM, 0), ==, SEEN_KILL);
    g_assert_cmphex(outcome(main_class, SYS_ioctl, 0, 0x5412, 0), ==, SEEN_KILL); /* TIOCSTI */
    g_assert_cmphex(outcome(main_class, SYS_ioctl, 0, 0x5413, 0), ==, SEEN_ALLOW);
    g_assert_cmphex(outcome(io, SYS_fallocate, 3, 0, 0), ==, SEEN_KILL);
    g_assert_cmphex(outcome(io, SYS_fallocate, 3, 3, 0), ==, SEEN_ALLOW);
    sandbox_free(f.sandbox);
}

/* What runs a guest with KVM is allowed when that is the engine, and nothing that makes a VM. */
static void test_kvm(void)
{
    static const unsigned long never[] = {KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_CREATE_DEVICE,
                                          KVM_X86_SET_MSR_FILTER, KVM_IRQFD, KVM_IOEVENTFD};
    const uint64_t self = (uint64_t)getpid();

    for (int kvm = 0; kvm < 2; kvm++) {
        struct sandbox_options options = {.mode = SANDBOX_ON, .kvm = kvm != 0};
        struct sandbox *s = sandbox_new(&options);
        const unsigned want = kvm ? SEEN_ALLOW : SEEN_KILL;
        const struct sock_fprog *vcpu, *io;

        if (s == NULL) {
            g_test_skip("a build with sanitizers or coverage has no sandbox");
            return;
        }
        vcpu = sandbox_program(s, SANDBOX_CLASS_VCPU);
        io = sandbox_program(s, SANDBOX_CLASS_IO);
        g_assert_cmphex(outcome(vcpu, SYS_ioctl, 9, KVM_RUN, 0), ==, want);
        if (kvm) { /* KVM_RUN is found at once */
            const struct sock_fprog *process = sandbox_program(s, SANDBOX_PROCESS);
            const struct sock_fprog first = {.len = 7, .filter = process->filter};

            g_assert_cmphex(outcome(&first, SYS_ioctl, 9, KVM_RUN, 0), ==, SEEN_ALLOW);
        }
        g_assert_cmphex(outcome(sandbox_program(s, SANDBOX_PROCESS), SYS_ioctl, 9, KVM_RUN, 0),
                        ==, want);
        g_assert_cmphex(outcome(vcpu, SYS_read, 9, KVM_RUN, 0), ==, SEEN_KILL);
        g_assert_cmphex(outcome(vcpu, SYS_ioctl, 9, KVM_SET_XSAVE, 0), ==, want);
        g_assert_cmphex(outcome(io, SYS_ioctl, 9, KVM_RUN, 0), ==, SEEN_KILL);
        g_assert_cmphex(outcome(io, SYS_tgkill, self, 1, SANDBOX_KICK_SIGNAL), ==, want);
        g_assert_cmphex(outcome(io, SYS_tgkill, self + 1, 1, SANDBOX_KICK_SIGNAL), ==,
                        SEEN_KILL);
        for (unsigned i = 0; i < G_N_ELEMENTS(never); i++) {
            g_assert_cmphex(outcome(vcpu, SYS_ioctl, 9, never[i], 0), ==, SEEN_KILL);
            g_assert_cmphex(outcome(sandbox_program(s, SANDBOX_PROCESS), SYS_ioctl, 9, never[i],
                                    0), ==, SEEN_KILL);
        }
        sandbox_free(s);
    }
}

/* With local APICs in KVM everybody sends messages, and the main thread moves the state. */
static void test_kvm_apics(void)
{
    static const unsigned long moves[] = {KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_SET_REGS,
                                          KVM_SET_XSAVE, KVM_SET_MP_STATE, KVM_SET_CPUID2};
    static const unsigned long never[] = {KVM_RUN, KVM_CREATE_VM, KVM_ENABLE_CAP, KVM_IRQFD};

    for (int apics = 0; apics < 2; apics++) {
        struct sandbox_options options = {.mode = SANDBOX_ON, .kvm = true,
                                          .kvm_apics = apics != 0};
        struct sandbox *s = sandbox_new(&options);
        const unsigned want = apics ? SEEN_ALLOW : SEEN_KILL;
        const struct sock_fprog *main_class, *io;

        if (s == NULL) {
            g_test_skip("a build with sanitizers or coverage has no sandbox");
            return;
        }
        main_class = sandbox_program(s, SANDBOX_CLASS_MAIN);
        io = sandbox_program(s, SANDBOX_CLASS_IO);
        for (unsigned i = 0; i < G_N_ELEMENTS(moves); i++) {
            g_assert_cmphex(outcome(main_class, SYS_ioctl, 9, moves[i], 0), ==, want);
            g_assert_cmphex(outcome(io, SYS_ioctl, 9, moves[i], 0), ==, SEEN_KILL);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(never); i++) {
            g_assert_cmphex(outcome(main_class, SYS_ioctl, 9, never[i], 0), ==, SEEN_KILL);
        }
        g_assert_cmphex(outcome(main_class, SYS_ioctl, 9, KVM_SIGNAL_MSI, 0), ==, want);
        g_assert_cmphex(outcome(io, SYS_ioctl, 9, KVM_SIGNAL_MSI, 0), ==, want);
        sandbox_free(s);
    }
}

/* System calls of other ABIs have other numbers: none may pass. */
static void test_other_abis(void)
{
    struct fixture f;

    if (!fixture_init(&f, SANDBOX_ON)) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        struct walk i386 = {.program = f.program[cls], .data = {.arch = AUDIT_ARCH_I386}};

        for (i386.data.nr = 0; i386.data.nr < MAX_NR; i386.data.nr++) {
            walk_from(&i386, 0, 0, true);
            g_assert_cmphex(outcomes(f.program[cls], 0x40000000u + (unsigned)i386.data.nr), ==,
                            SEEN_KILL);
        }
        g_assert_cmphex(i386.seen, ==, SEEN_KILL);
    }
    sandbox_free(f.sandbox);
}

static void test_modes(void)
{
    struct sandbox_options off = {.mode = SANDBOX_OFF};
    struct fixture f;

    g_assert_null(sandbox_new(&off));
    sandbox_restrict(NULL, SANDBOX_CLASS_MAIN);
    sandbox_filter_process(NULL);
    sandbox_filter_thread(NULL, SANDBOX_CLASS_MAIN);
    g_assert_null(sandbox_missing(NULL));
    if (!fixture_init(&f, SANDBOX_LOG)) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        for (unsigned nr = 0; nr < MAX_NR; nr++) {
            g_assert_cmphex(outcomes(f.program[cls], nr) & (SEEN_KILL | SEEN_ERRNO), ==, 0);
        }
        g_assert_cmphex(outcomes(f.program[cls], SYS_execve), ==, SEEN_LOG);
    }
    sandbox_free(f.sandbox);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/sandbox/budget", test_budget);
    g_test_add_func("/base/sandbox/process-filter-is-the-union", test_union);
    g_test_add_func("/base/sandbox/never", test_never);
    g_test_add_func("/base/sandbox/no-new-code", test_no_code);
    g_test_add_func("/base/sandbox/arguments", test_arguments);
    g_test_add_func("/base/sandbox/kvm", test_kvm);
    g_test_add_func("/base/sandbox/kvm-apics", test_kvm_apics);
    g_test_add_func("/base/sandbox/other-abis", test_other_abis);
    g_test_add_func("/base/sandbox/modes", test_modes);
    return g_test_run();
}
