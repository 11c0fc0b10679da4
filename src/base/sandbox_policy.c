/* SPDX-License-Identifier: MIT */
/*
 * The system calls of each class of thread, one table. Three outcomes: a row with error 0
 * allows; a row with an error refuses with it, for what libraries try and can do without; all
 * else kills the process.
 *
 * Rules for the table: no call that names a file, process or address unless its arguments pin
 * it down (or Landlock does); no memory both writable and executable, or executable later; no
 * new threads or programs. Budgets (tests/unit/base/test_sandbox.c): vCPU 18, I/O 30, main 60,
 * network 40.
 */
#include "base/sandbox_policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    M = 1 << SANDBOX_CLASS_MAIN,
    V = 1 << SANDBOX_CLASS_VCPU,
    I = 1 << SANDBOX_CLASS_IO,
    N = 1 << SANDBOX_CLASS_NET,
    S = 1 << SANDBOX_CLASS_NET_SUPERVISOR,
    G = 1 << SANDBOX_CLASS_GUARDIAN,
    P = 1 << SANDBOX_PROCESS, /* rows for the filter of the whole process only */
    K = P << 1,               /* only when the engine is KVM */
    A = K << 1,               /* only when local APICs are KVM's */
    VMM = M | V | I,
    NET = N | S,
    MAX_ARGS = 2,
    SET_MDWE = 65, /* PR_SET_MDWE, Linux 6.3 */
};

/* Values only known when a filter is made. */
#define VALUE_SELF UINT64_C(0xf000000000000001)
#define VALUE_KILLABLE UINT64_C(0xf000000000000002)

struct rule {
    int nr;
    unsigned classes;
    unsigned error;
    unsigned nr_args;
    struct scmp_arg_cmp args[MAX_ARGS];
};

#define EQ(arg, value) {(arg), SCMP_CMP_EQ, (uint32_t)(value), 0}
#define VALUE(arg, value) {(arg), SCMP_CMP_EQ, (value), 0}
#define BITS(arg, mask, value) {(arg), SCMP_CMP_MASKED_EQ, (mask), (value)}
#define ALLOW(name, classes) {SCMP_SYS(name), (classes), 0, 0, {{0}}}
#define ALLOW1(name, classes, a) {SCMP_SYS(name), (classes), 0, 1, {a}}
#define ALLOW2(name, classes, a, b) {SCMP_SYS(name), (classes), 0, 2, {a, b}}
#define REFUSE(name, classes, error) {SCMP_SYS(name), (classes), (error), 0, {{0}}}
#define REFUSE1(name, classes, error, a) {SCMP_SYS(name), (classes), (error), 1, {a}}
#define FUTEX(op) ALLOW1(futex, VMM | NET, BITS(1, FUTEX_MASK, (op)))
#define IOCTL(classes, request) ALLOW1(ioctl, (classes), EQ(1, (request)))
#define FCNTL(cmd) ALLOW1(fcntl, M | NET, EQ(1, (cmd)))
#define PRCTL(op) ALLOW1(prctl, S, EQ(0, (op)))
#define OPTION(name, classes, level, option)                                                   \
    ALLOW2(name, (classes), EQ(1, (level)), EQ(2, (option)))
#define SOCKET(family, type)                                                                   \
    ALLOW2(socket, NET, EQ(0, (family)), BITS(1, SOCK_TYPE_MASK, (type)))

enum { FUTEX_MASK = 0x7f, SOCK_TYPE_MASK = 0xf };
enum { FORK_FLAGS = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD };
enum { OPEN_WRITES = O_ACCMODE | O_CREAT | O_TRUNC };
enum { PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };

static const struct rule rules[] = {
    /* --- waiting and waking; without priority inheritance --- */
    FUTEX(FUTEX_WAIT), FUTEX(FUTEX_WAKE), FUTEX(FUTEX_REQUEUE), FUTEX(FUTEX_CMP_REQUEUE),
    FUTEX(FUTEX_WAKE_OP), FUTEX(FUTEX_WAIT_BITSET), FUTEX(FUTEX_WAKE_BITSET),
    ALLOW(poll, M | V | NET),
    ALLOW(ppoll, M | S),
    ALLOW(timerfd_settime, VMM),
    ALLOW(restart_syscall, M | I | NET | G), /* after SIGSTOP and SIGCONT */
    ALLOW(sched_yield, VMM),
    ALLOW(clock_gettime, VMM | NET), /* where the vDSO cannot read the clock */
    ALLOW(gettimeofday, M),
    ALLOW(clock_nanosleep, M),

    /* --- open files --- */
    ALLOW(read, M | NET | G),
    ALLOW(write, VMM | NET | G),
    ALLOW(readv, M),
    ALLOW(writev, M),
    ALLOW(close, M | NET),
    ALLOW(lseek, M | S),
    ALLOW(fstat, M | S),
    ALLOW1(newfstatat, M, BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH)),
    FCNTL(F_GETFD), FCNTL(F_SETFD), FCNTL(F_GETFL), FCNTL(F_SETFL),

    /* --- disks --- */
    ALLOW(preadv, I),
    ALLOW(pwritev, I),
    ALLOW(preadv2, I),
    ALLOW(pwritev2, I),
    ALLOW(fdatasync, M | I), /* main: when it closes a disk */
    ALLOW1(fallocate, I, EQ(1, PUNCH_HOLE)),
    IOCTL(I, BLKDISCARD),

    /* --- KVM: running, state, memory; nothing that makes a VM or a device --- */
    IOCTL(V | K, KVM_RUN), IOCTL(V | K, KVM_INTERRUPT), IOCTL(V | K, KVM_NMI),
    IOCTL(V | K, KVM_GET_REGS), IOCTL(V | K, KVM_GET_SREGS), IOCTL(V | K, KVM_SET_SREGS),
    IOCTL(V | K, KVM_SET_CPUID2),
    IOCTL(V | K, KVM_GET_MSRS), IOCTL(V | K, KVM_SET_MSRS),
    IOCTL(V | K, KVM_GET_XSAVE), IOCTL(V | K, KVM_SET_XSAVE),
    IOCTL(V | K, KVM_GET_XCRS), IOCTL(V | K, KVM_SET_XCRS),
    IOCTL(V | K, KVM_GET_DEBUGREGS), IOCTL(V | K, KVM_SET_DEBUGREGS),
    IOCTL(V | K, KVM_GET_VCPU_EVENTS), IOCTL(V | K, KVM_SET_VCPU_EVENTS),
    IOCTL(V | K, KVM_SET_DEVICE_ATTR), /* the TSC's offset */
    IOCTL(V | K, KVM_SET_REGS), IOCTL(V | K, KVM_SET_GUEST_DEBUG),
    IOCTL(M | V | K, KVM_GET_DIRTY_LOG),
    IOCTL(M | V | K, KVM_SET_USER_MEMORY_REGION),
    /* With local APICs in KVM: messages; and the main thread takes all state out and puts it back. */
    IOCTL(VMM | A, KVM_SIGNAL_MSI), IOCTL(VMM | A, KVM_SET_GSI_ROUTING),
    IOCTL(M | V | A, KVM_GET_MP_STATE), IOCTL(M | V | A, KVM_SET_MP_STATE),
    IOCTL(M | A, KVM_GET_LAPIC), IOCTL(M | A, KVM_SET_LAPIC),
    IOCTL(M | V | A, KVM_GET_REGS), IOCTL(M | V | A, KVM_SET_REGS),
    IOCTL(M | A, KVM_GET_SREGS), IOCTL(M | A, KVM_SET_SREGS), IOCTL(M | A, KVM_SET_CPUID2),
    IOCTL(M | A, KVM_GET_MSRS), IOCTL(M | A, KVM_SET_MSRS),
    IOCTL(M | A, KVM_GET_XSAVE), IOCTL(M | A, KVM_SET_XSAVE),
    IOCTL(M | A, KVM_GET_XCRS), IOCTL(M | A, KVM_SET_XCRS),
    IOCTL(M | A, KVM_GET_DEBUGREGS), IOCTL(M | A, KVM_SET_DEBUGREGS),
    IOCTL(M | A, KVM_GET_VCPU_EVENTS), IOCTL(M | A, KVM_SET_VCPU_EVENTS),
    IOCTL(M | A, KVM_SET_DEVICE_ATTR),

    ALLOW2(tgkill, VMM | K, EQ(2, SANDBOX_KICK_SIGNAL), VALUE(0, VALUE_SELF)),

    /* --- the terminal; and the stop that SIGTSTP asked for --- */
    IOCTL(M | G, TCGETS), IOCTL(M | G, TCSETSW), IOCTL(M, TIOCGWINSZ),
    ALLOW2(tgkill, M, EQ(2, SIGTSTP), VALUE(0, VALUE_SELF)),

    /* --- sockets: control clients, the channel to the network process --- */
    ALLOW(accept4, M | NET),
    ALLOW(recvfrom, M | NET),
    ALLOW(sendto, M | NET),
    ALLOW(recvmsg, M | NET),
    ALLOW(sendmsg, M | V | NET), /* V: the guest's frames leave from its thread */
    ALLOW(recvmmsg, M | NET),
    ALLOW(sendmmsg, M | NET),
    OPTION(getsockopt, M, SOL_SOCKET, SO_PEERCRED),
    OPTION(getsockopt, M | NET, SOL_SOCKET, SO_ERROR),

    /* --- the network process: what libslirp does for the guest --- */
    SOCKET(AF_INET, SOCK_STREAM), SOCKET(AF_INET, SOCK_DGRAM),
    SOCKET(AF_INET6, SOCK_STREAM), SOCKET(AF_INET6, SOCK_DGRAM),
    REFUSE1(socket, NET, EACCES, EQ(0, AF_UNIX)), /* if_nametoindex() on fe80::1%eth0 */
    REFUSE1(socket, NET, EPERM, BITS(1, SOCK_TYPE_MASK, SOCK_RAW)),
    ALLOW(connect, NET),
    ALLOW(bind, NET),
    ALLOW(listen, NET),
    ALLOW(accept, NET),
    ALLOW(shutdown, NET),
    ALLOW(getsockname, NET),
    ALLOW(getpeername, NET),
    OPTION(setsockopt, NET, SOL_SOCKET, SO_REUSEADDR),
    OPTION(setsockopt, NET, SOL_SOCKET, SO_OOBINLINE),
    OPTION(setsockopt, NET, SOL_SOCKET, SO_KEEPALIVE),
    OPTION(setsockopt, S, SOL_SOCKET, SO_SNDBUF), /* of the channel to the guest */
    OPTION(setsockopt, NET, IPPROTO_TCP, TCP_NODELAY),
    OPTION(setsockopt, NET, IPPROTO_IP, IP_TTL),
    OPTION(setsockopt, NET, IPPROTO_IP, IP_TOS),
    OPTION(setsockopt, NET, IPPROTO_IP, IP_RECVERR),
    OPTION(setsockopt, NET, IPPROTO_IPV6, IPV6_UNICAST_HOPS),
    OPTION(setsockopt, NET, IPPROTO_IPV6, IPV6_RECVERR),
    OPTION(setsockopt, NET, IPPROTO_IPV6, IPV6_V6ONLY),
    IOCTL(NET, FIONREAD),
    ALLOW1(openat, NET, BITS(2, OPEN_WRITES, O_RDONLY)), /* Landlock: /etc/resolv.conf */
    ALLOW(newfstatat, NET),

    /* --- the supervisor starts the network process, which then confines itself further --- */
    ALLOW1(clone, S, EQ(0, FORK_FLAGS)),
    REFUSE(clone3, S, ENOSYS),
    ALLOW(pidfd_open, S),
    ALLOW1(kill, S, EQ(1, SIGKILL)),
    ALLOW(getppid, S),
    ALLOW(set_robust_list, S | P),
    ALLOW(rseq, S | P),
    ALLOW(capset, S),
    ALLOW(capget, S),
    ALLOW(memfd_create, S),
    ALLOW(rt_sigaction, S),
    ALLOW(getrandom, M | S),
    PRCTL(PR_SET_PDEATHSIG), PRCTL(PR_SET_NAME), PRCTL(PR_SET_NO_NEW_PRIVS),
    PRCTL(PR_CAPBSET_DROP), PRCTL(PR_CAP_AMBIENT), PRCTL(SET_MDWE), PRCTL(PR_GET_SECCOMP),
    ALLOW(landlock_create_ruleset, S),
    ALLOW(landlock_add_rule, S),
    ALLOW(landlock_restrict_self, S),
    ALLOW(seccomp, S | P),
    ALLOW1(prctl, P, EQ(0, PR_SET_NAME)), /* a library's thread that is just starting */

    /* --- memory: never executable; what was mapped so before stays as it is --- */
    ALLOW1(mmap, VMM | NET, BITS(2, PROT_EXEC, 0)),
    REFUSE1(mmap, VMM | NET, EACCES, BITS(2, PROT_EXEC, PROT_EXEC)),
    ALLOW1(mprotect, VMM | NET, BITS(2, PROT_EXEC, 0)),
    REFUSE1(mprotect, VMM | NET, EACCES, BITS(2, PROT_EXEC, PROT_EXEC)),
    ALLOW(munmap, VMM | NET),
    ALLOW(mremap, M | I | S),
    REFUSE(mremap, V | N, ENOSYS), /* realloc() then copies */
    ALLOW(brk, VMM | NET),
    ALLOW(madvise, VMM | NET),

    /* --- signals and the end --- */
    ALLOW(rt_sigprocmask, M | I | NET),
    REFUSE(rt_sigprocmask, V, EPERM), /* blocks signals while a thread ends; can do without */
    ALLOW(rt_sigreturn, VMM | S | G),
    ALLOW(rt_sigaction, M | V),
    ALLOW(sigaltstack, M | V),
    ALLOW(getpid, VMM | NET),
    ALLOW(gettid, VMM | NET), /* getpid(), gettid(), tgkill(): abort() */
    ALLOW(getuid, M),
    ALLOW1(tgkill, S, EQ(2, SIGABRT)), /* its child has another process id */
    ALLOW2(tgkill, VMM | N, EQ(2, SIGABRT), VALUE(0, VALUE_SELF)),
    ALLOW2(kill, M, EQ(1, SIGKILL), VALUE(0, VALUE_KILLABLE)),
    ALLOW(wait4, M | S),
    ALLOW(unlink, M), /* Landlock: in the folder of control sockets */
    ALLOW(exit, VMM | G),
    ALLOW(exit_group, M | NET | G),

    /* --- what libraries try and can do without --- */
    REFUSE(open, VMM | NET | G, EACCES),
    REFUSE(openat, VMM | G, EACCES),
    REFUSE1(openat, NET, EACCES, BITS(2, O_ACCMODE, O_RDWR)),
    REFUSE1(newfstatat, M, EACCES, BITS(3, AT_EMPTY_PATH, 0)),
    REFUSE(newfstatat, V | I, EACCES),
    REFUSE(access, VMM | NET, EACCES),
    ALLOW(readlink, S), /* realpath() */
    REFUSE(readlink, VMM | N, EACCES),
    REFUSE(sched_getaffinity, VMM | NET, EPERM), /* malloc() counts processors; it falls back */
    REFUSE1(ioctl, V | I | NET, ENOTTY, EQ(1, TCGETS)),
};

/* The values only this process knows; false when the row is not for it. */
static bool rule_resolve(const struct rule *from, const struct sandbox_options *options,
                         bool may_unlink, struct rule *rule)
{
    *rule = *from;
    if (rule->nr == SCMP_SYS(unlink) && !may_unlink) {
        rule->error = EACCES;
    }
    for (unsigned i = 0; i < rule->nr_args; i++) {
        if (rule->args[i].datum_a == VALUE_SELF) {
            rule->args[i].datum_a = (uint64_t)getpid();
        } else if (rule->args[i].datum_a == VALUE_KILLABLE) {
            if (options->killable <= 0) {
                return false;
            }
            rule->args[i].datum_a = (uint64_t)options->killable;
        }
    }
    return true;
}

/* Whether a row refuses what another row allows to one of these classes: allowing wins. */
static bool rule_overruled(const struct rule *rule, unsigned classes)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const struct rule *other = &rules[i];

        if (other->error == 0 && other->nr == rule->nr && (other->classes & classes) != 0 &&
            (rule->nr_args == 0 ||
             memcmp(&other->args[0], &rule->args[0], sizeof(rule->args[0])) == 0)) {
            return true;
        }
    }
    return false;
}

static int policy_add(scmp_filter_ctx ctx, const struct sandbox_options *options,
                      unsigned classes, bool may_unlink)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        struct rule rule;
        int ret;

        if ((rules[i].classes & classes) == 0 ||
            ((rules[i].classes & K) != 0 && !options->kvm) ||
            ((rules[i].classes & A) != 0 && !options->kvm_apics) ||
            !rule_resolve(&rules[i], options, may_unlink, &rule) ||
            (rules[i].error != 0 && rule_overruled(&rule, classes))) {
            continue;
        }
        if (rule.error != 0 && options->mode == SANDBOX_LOG) {
            continue; /* falls to the default: allowed and logged */
        }
        ret = seccomp_rule_add_exact_array(ctx, rule.error == 0 ? SCMP_ACT_ALLOW
                                                                : SCMP_ACT_ERRNO(rule.error),
                                           rule.nr, rule.nr_args, rule.args);
        if (ret < 0 && ret != -EEXIST) {
            return ret;
        }
    }
    return 0;
}

/* Linux before 4.14 can neither log nor kill a process; an unhandled trap ends it too. */
static uint32_t policy_default(enum config_sandbox mode)
{
    if (mode == SANDBOX_LOG) {
        return SCMP_ACT_LOG;
    }
    return seccomp_api_get() >= 3 ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_TRAP;
}

static int policy_build(scmp_filter_ctx ctx, const struct sandbox_options *options,
                        enum sandbox_class cls, bool may_unlink, int fd)
{
    unsigned classes = cls == SANDBOX_PROCESS ? (unsigned)(VMM | P) : 1u << cls;
    int ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, policy_default(options->mode));

    if (ret == 0) {
        ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    if (ret == 0) {
        ret = policy_add(ctx, options, classes, may_unlink);
    }
    return ret < 0 ? ret : seccomp_export_bpf(ctx, fd);
}

int sandbox_policy_compile(const struct sandbox_options *options, enum sandbox_class cls,
                           bool may_unlink)
{
    scmp_filter_ctx ctx = seccomp_init(policy_default(options->mode));
    int fd = memfd_create("pvemu-filter", MFD_CLOEXEC);
    int ret = ctx == NULL ? -ENOSYS : fd < 0 ? -errno : 0;

    if (ret == 0) {
        ret = policy_build(ctx, options, cls, may_unlink, fd);
    }
    if (ctx != NULL) {
        seccomp_release(ctx);
    }
    if (ret < 0) {
        if (fd >= 0) {
            close(fd);
        }
        errno = -ret;
        return -1;
    }
    return fd;
}
