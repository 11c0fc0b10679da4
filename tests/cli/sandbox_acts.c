/* SPDX-License-Identifier: MIT */
/*
 * The acts of the drill. Arguments are chosen so that an act that gets through does no harm: it
 * fails in the kernel with another error than EPERM or EACCES (and then counts as not denied),
 * or it succeeds in a process that is about to end.
 */
#include "sandbox_acts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include "base/sandbox.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif

struct act_targets targets;

enum {
    NET = 1 << SANDBOX_CLASS_NET, SUP = 1 << SANDBOX_CLASS_NET_SUPERVISOR,
};

static uint32_t word;
static uint64_t blank[32];
static char name_passwd[] = "/etc/passwd", name_root[] = "/", name_null[] = "/dev/null";
static char name_true[] = "/bin/true";
static char *argv_true[] = {name_true, NULL};

#define P(pointer) ((long)(intptr_t)(pointer))

static long run_kill(int sig)
{
    return syscall(SYS_kill, targets.victim, sig);
}

static long act_kill_term(void)
{
    return run_kill(SIGTERM);
}

static long act_kill_kill(void)
{
    return run_kill(SIGKILL);
}

static long act_kill_abort(void)
{
    return syscall(SYS_tgkill, targets.victim, targets.victim, SIGABRT);
}

static long act_queue_signal(void)
{
    siginfo_t info = {.si_signo = SIGCONT, .si_code = SI_QUEUE};

    return syscall(SYS_rt_sigqueueinfo, targets.victim, SIGCONT, &info);
}

static long act_pidfd_signal(void)
{
    return syscall(SYS_pidfd_send_signal, targets.memfd, SIGCONT, NULL, 0);
}

static long act_pidfd_open(void)
{
    return syscall(SYS_pidfd_open, targets.victim, 0);
}

static long act_vm_read(void)
{
    struct iovec local = {targets.stack, 8}, remote = {targets.page, 8};

    return syscall(SYS_process_vm_readv, targets.victim, &local, 1, &remote, 1, 0);
}

static long act_vm_write(void)
{
    struct iovec local = {targets.stack, 8}, remote = {targets.page, 8};

    return syscall(SYS_process_vm_writev, targets.victim, &local, 1, &remote, 1, 0);
}

static long act_ptrace(void)
{
    return syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, targets.victim, NULL, NULL);
}

static long act_prlimit(void)
{
    return syscall(SYS_prlimit64, targets.victim, 4 /* RLIMIT_CORE */, NULL, blank);
}

static long act_fork(void)
{
    long pid = syscall(SYS_fork);

    if (pid == 0) {
        _exit(0);
    }
    return pid;
}

static long act_map_wx(void)
{
    return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long act_map_x(void)
{
    return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, targets.memfd, 0);
}

static long act_protect_x(void)
{
    return syscall(SYS_mprotect, targets.page, 4096, PROT_READ | PROT_EXEC);
}

static long act_protect_wx(void)
{
    return syscall(SYS_mprotect, targets.page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static long act_pkey_protect_x(void)
{
    return syscall(SYS_pkey_mprotect, targets.page, 4096, PROT_READ | PROT_EXEC, -1);
}

static long on_fd(long nr, int fd, long a, long b, long c)
{
    return syscall(nr, fd, a, b, c);
}

static long act_write_read_only(void)
{
    struct iovec iov = {targets.stack, 8};

    return on_fd(SYS_pwritev, targets.disk_fd, P(&iov), 1, 0);
}

static long act_truncate_fd(void)
{
    return on_fd(SYS_ftruncate, targets.data_fd, 0, 0, 0);
}

static long act_grow_file(void)
{
    return syscall(SYS_fallocate, targets.data_fd, 0, 0L, 1L << 20);
}

static long act_chmod_fd(void)
{
    return on_fd(SYS_fchmod, targets.data_fd, 0777, 0, 0);
}

static long act_chown_fd(void)
{
    return on_fd(SYS_fchown, targets.data_fd, -1, -1, 0);
}

static long act_dup(void)
{
    return on_fd(SYS_dup, targets.data_fd, 0, 0, 0);
}

static long act_owner_of_signals(void)
{
    return on_fd(SYS_fcntl, targets.inet_fd, F_SETOWN, targets.victim, 0);
}

static long act_lock(void)
{
    struct flock lock = {.l_type = F_RDLCK};

    return on_fd(SYS_fcntl, targets.data_fd, F_SETLK, P(&lock), 0);
}

static long act_seal(void)
{
    return on_fd(SYS_fcntl, targets.memfd, 1033 /* F_ADD_SEALS */, 1, 0);
}

static long act_push_input(void)
{
    return on_fd(SYS_ioctl, targets.pty_fd, TIOCSTI, P("x"), 0);
}

static long act_line_discipline(void)
{
    return on_fd(SYS_ioctl, targets.pty_fd, TIOCSETD, P(&word), 0);
}

static long act_terminal_selection(void)
{
    return on_fd(SYS_ioctl, targets.pty_fd, TIOCLINUX, P(&word), 0);
}

static long act_take_terminal(void)
{
    return on_fd(SYS_ioctl, targets.pty_fd, TIOCSCTTY, 0, 0);
}

static long act_lift_limits(void)
{
    return on_fd(SYS_ioctl, targets.data_fd, 0x40086602 /* FS_IOC_SETFLAGS */, P(&word), 0);
}

static long act_connect(void)
{
    struct sockaddr address = {.sa_family = AF_INET, .sa_data = {0, 9, 127, 0, 0, 1}};

    return on_fd(SYS_connect, targets.inet_fd, P(&address), sizeof(address), 0);
}

static long act_bind(void)
{
    struct sockaddr address = {.sa_family = AF_INET};

    return on_fd(SYS_bind, targets.inet_fd, P(&address), sizeof(address), 0);
}

static long act_socket_filter(void)
{
    return syscall(SYS_setsockopt, targets.inet_fd, SOL_SOCKET, SO_MARK, &word, sizeof(word));
}

static long act_mem_of_other(void)
{
    return syscall(SYS_process_madvise, targets.memfd, blank, 1, MADV_COLD, 0);
}

/* The 32-bit entry has other numbers: 20 is getpid there. */
static long act_int80(void)
{
    long ret;

    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    return ret;
}

static long act_x32(void)
{
    return syscall(0x40000000 | SYS_getpid);
}

#define CALL(name, nr, ...) {(name), (nr), {__VA_ARGS__}, NULL, 0, 0, false}
#define CONTROL(name, nr, ...) {(name), (nr), {__VA_ARGS__}, NULL, 0, 0, true}
#define UNLESS(classes, name, nr, ...) {(name), (nr), {__VA_ARGS__}, NULL, (classes), 0, false}
#define FUNCTION(name, run) {(name), -1, {0}, (run), 0, 0, false}
#define FUNCTION_UNLESS(classes, name, run) {(name), -1, {0}, (run), (classes), 0, false}

const struct act acts[] = {
    /* files */
    UNLESS(SUP, "open /etc/passwd", SYS_openat, AT_FDCWD, P(name_passwd), O_RDONLY),
    CONTROL("open a program", SYS_openat, AT_FDCWD, P(name_true), O_RDONLY),
    CONTROL("open /etc/passwd the old way", SYS_open, P(name_passwd), O_RDONLY),
    CONTROL("open the root folder", SYS_openat, AT_FDCWD, P(name_root), O_RDONLY | O_DIRECTORY),
    CONTROL("open a device", SYS_openat, AT_FDCWD, P(name_null), O_RDWR),
    CONTROL("open the disk for writing", SYS_openat, AT_FDCWD, P(targets.disk), O_RDWR),
    CONTROL("open the disk for reading", SYS_openat, AT_FDCWD, P(targets.disk), O_RDONLY),
    CONTROL("make a file", SYS_openat, AT_FDCWD, P(targets.other), O_WRONLY | O_CREAT, 0600),
    CALL("openat2", SYS_openat2, AT_FDCWD, P(name_passwd), P(blank), 24),
    CONTROL("creat", SYS_creat, P(targets.other), 0600),
    CALL("unlink a disk", SYS_unlink, P(targets.disk)),
    CALL("unlinkat a disk", SYS_unlinkat, AT_FDCWD, P(targets.disk), 0),
    CALL("rename a disk", SYS_rename, P(targets.disk), P(targets.other)),
    CALL("renameat2 a disk", SYS_renameat2, AT_FDCWD, P(targets.disk), AT_FDCWD,
         P(targets.other), 0),
    CONTROL("make a symbolic link", SYS_symlink, P(name_passwd), P(targets.other)),
    CONTROL("make a hard link", SYS_link, P(targets.disk), P(targets.other)),
    CONTROL("make a folder", SYS_mkdir, P(targets.other), 0700),
    CALL("remove a folder", SYS_rmdir, P(targets.run_dir)),
    CALL("make a pipe file", SYS_mknod, P(targets.other), 0010600, 0),
    CONTROL("chmod", SYS_chmod, P(targets.disk), 0666),
    CALL("fchmodat", SYS_fchmodat, AT_FDCWD, P(targets.disk), 0666),
    CALL("chown", SYS_chown, P(targets.disk), -1, -1),
    CALL("truncate", SYS_truncate, P(targets.disk), 0),
    FUNCTION("ftruncate", act_truncate_fd),
    FUNCTION("grow a file", act_grow_file),
    FUNCTION("fchmod", act_chmod_fd),
    FUNCTION("fchown", act_chown_fd),
    {"write to a read-only disk", -1, {0}, act_write_read_only, 0, EBADF, false},
    CALL("set times", SYS_utimensat, AT_FDCWD, P(targets.disk), 0, 0),
    CALL("set an attribute", SYS_setxattr, P(targets.disk), P("user.x"), P("x"), 1, 0),
    CALL("chdir", SYS_chdir, P(name_root)),
    CALL("watch files", SYS_inotify_init1, 0),
    CALL("watch all files", SYS_fanotify_init, 0, 0),
    CALL("name_to_handle_at", SYS_name_to_handle_at, AT_FDCWD, P(name_root), P(blank),
         P(&word), 0),
    CALL("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, P(blank), 0),
    CALL("statfs", SYS_statfs, P(name_root), P(blank)),
    CALL("quotactl", SYS_quotactl, 0x80000000 + 1, 0, 0, 0),
    FUNCTION("dup", act_dup),
    FUNCTION("set the owner of a socket's signals", act_owner_of_signals),
    FUNCTION("lock a file", act_lock),
    FUNCTION("seal a memory file", act_seal),
    FUNCTION("set a file's flags", act_lift_limits),
    CALL("splice", SYS_splice, -1, 0, -1, 0, 1, 0),
    CALL("sendfile", SYS_sendfile, -1, -1, 0, 1),
    CALL("pipe", SYS_pipe2, P(blank), 0),
    CALL("epoll_create1", SYS_epoll_create1, 0),
    CALL("eventfd2", SYS_eventfd2, 0, 0),
    CALL("signalfd4", SYS_signalfd4, -1, P(blank), 8, 0),
    UNLESS(SUP, "memfd_create", SYS_memfd_create, P("x"), 0),
    CALL("memfd_secret", 447, 0),
    /* programs and processes */
    CALL("execve", SYS_execve, P(name_true), P(argv_true), 0),
    CALL("execveat", SYS_execveat, AT_FDCWD, P(name_true), P(argv_true), 0, 0),
    FUNCTION("fork", act_fork),
    CALL("clone a thread", SYS_clone, CLONE_VM | CLONE_THREAD, 0, 0, 0, 0),
    CALL("clone in new namespaces", SYS_clone, CLONE_NEWUSER | CLONE_VM | CLONE_THREAD, 0, 0),
    {"clone3", SYS_clone3, {P(blank), 0}, NULL, 0, ENOSYS, false},
    FUNCTION("kill a process with SIGTERM", act_kill_term),
    FUNCTION("kill a process with SIGKILL", act_kill_kill),
    FUNCTION("kill a process with SIGABRT", act_kill_abort),
    FUNCTION("queue a signal", act_queue_signal),
    FUNCTION("signal through a pidfd", act_pidfd_signal),
    FUNCTION_UNLESS(SUP, "pidfd_open", act_pidfd_open),
    CALL("pidfd_getfd", SYS_pidfd_getfd, -1, 0, 0),
    FUNCTION("read another process", act_vm_read),
    FUNCTION("write another process", act_vm_write),
    FUNCTION("ptrace", act_ptrace),
    FUNCTION("set another process's limits", act_prlimit),
    FUNCTION("madvise another process", act_mem_of_other),
    CALL("kcmp", SYS_kcmp, 0, 0, 0, 0, 0),
    CALL("setsid", SYS_setsid, 0),
    CALL("setpgid", SYS_setpgid, 0, 0),
    CALL("setpriority", SYS_setpriority, 0, 0, -5),
    CALL("sched_setscheduler", SYS_sched_setscheduler, 0, 1, P(blank)),
    /* memory */
    FUNCTION("map writable code", act_map_wx),
    FUNCTION("map code from a file", act_map_x),
    FUNCTION("make data executable", act_protect_x),
    FUNCTION("make data writable code", act_protect_wx),
    FUNCTION("make data executable with a key", act_pkey_protect_x),
    CALL("READ_IMPLIES_EXEC", SYS_personality, 0x400000),
    CALL("remap_file_pages", SYS_remap_file_pages, 0, 0, 0, 0, 0),
    CALL("shmget", SYS_shmget, 0, 4096, 01700),
    CALL("mlockall", SYS_mlockall, 1),
    CALL("userfaultfd", SYS_userfaultfd, 1),
    CALL("move_pages", SYS_move_pages, 0, 0, 0, 0, 0, 0),
    CALL("futex with priority inheritance", SYS_futex, P(&word), FUTEX_LOCK_PI, 0, 0, 0, 0),
    /* network */
    UNLESS(NET | SUP, "TCP socket", SYS_socket, AF_INET, SOCK_STREAM, 0),
    UNLESS(NET | SUP, "UDP socket", SYS_socket, AF_INET6, SOCK_DGRAM, 0),
    CALL("unix socket", SYS_socket, AF_UNIX, SOCK_STREAM, 0),
    CALL("netlink socket", SYS_socket, AF_NETLINK, SOCK_RAW, 0),
    CALL("packet socket", SYS_socket, AF_PACKET, SOCK_RAW, 0),
    CALL("raw socket", SYS_socket, AF_INET, SOCK_RAW, 1),
    CALL("vsock socket", SYS_socket, 40, SOCK_STREAM, 0),
    CALL("socket pair", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, P(blank)),
    FUNCTION_UNLESS(NET | SUP, "connect", act_connect),
    FUNCTION_UNLESS(NET | SUP, "bind", act_bind),
    FUNCTION("odd socket option", act_socket_filter),
    /* terminal */
    FUNCTION("push terminal input", act_push_input),
    FUNCTION("set a line discipline", act_line_discipline),
    FUNCTION("TIOCLINUX", act_terminal_selection),
    FUNCTION("take the terminal", act_take_terminal),
    /* the system */
    CALL("mount", SYS_mount, 0, P("/nonexistent"), 0, 0, 0),
    CALL("umount2", SYS_umount2, P("/nonexistent"), 0),
    CALL("fsopen", SYS_fsopen, P("nonexistent"), 0),
    CALL("open_tree", SYS_open_tree, AT_FDCWD, P(name_root), 1),
    CALL("pivot_root", SYS_pivot_root, P("/nonexistent"), P("/nonexistent")),
    CALL("chroot", SYS_chroot, P("/nonexistent")),
    CALL("unshare", SYS_unshare, CLONE_FS),
    CALL("unshare the user", SYS_unshare, CLONE_NEWUSER),
    CALL("setns", SYS_setns, -1, 0),
    CALL("bpf", SYS_bpf, 0, P(blank), 16),
    CALL("perf_event_open", SYS_perf_event_open, P(blank), 0, -1, -1, 0),
    CALL("io_uring_setup", SYS_io_uring_setup, 1, P(blank)),
    CALL("io_setup", SYS_io_setup, 1, P(blank)),
    CALL("add_key", SYS_add_key, P("user"), P("x"), P("x"), 1, KEY_SPEC_PROCESS_KEYRING),
    CALL("keyctl", SYS_keyctl, 0, KEY_SPEC_PROCESS_KEYRING, 1),
    CALL("init_module", SYS_init_module, 0, 0, 0),
    CALL("finit_module", SYS_finit_module, -1, 0, 0),
    CALL("delete_module", SYS_delete_module, P("nonexistent"), O_NONBLOCK),
    CALL("kexec_load", SYS_kexec_load, 0, 17, 0, 0xf0000000),
    CALL("reboot", SYS_reboot, 1, 2, 3, 0),
    CALL("swapon", SYS_swapon, P("/nonexistent"), 0),
    CALL("acct", SYS_acct, P("/nonexistent")),
    CALL("sethostname", SYS_sethostname, P("x"), 1000),
    CALL("settimeofday", SYS_settimeofday, P(blank), 1),
    CALL("clock_settime", SYS_clock_settime, 999, P(blank)),
    CALL("syslog", SYS_syslog, 10, 0, 0),
    CALL("iopl", SYS_iopl, 4),
    CALL("ioperm", SYS_ioperm, 0x80, 1, 0),
    CALL("modify_ldt", SYS_modify_ldt, 2, P(blank), 8),
    /* who we are */
    CALL("setuid", SYS_setuid, 0),
    CALL("setgid", SYS_setgid, 0),
    CALL("setresuid", SYS_setresuid, 0, 0, 0),
    CALL("setgroups", SYS_setgroups, 0, 0),
    CALL("setfsuid", SYS_setfsuid, 0),
    CALL("prctl PR_SET_DUMPABLE", SYS_prctl, PR_SET_DUMPABLE, 1),
    CALL("prctl PR_SET_MM", SYS_prctl, PR_SET_MM, 1, 0, 0, 0),
    CALL("prctl PR_SET_PTRACER", SYS_prctl, PR_SET_PTRACER, -1, 0, 0, 0),
    UNLESS(SUP, "another filter", SYS_seccomp, 1, 0, 0),
    UNLESS(SUP, "another Landlock domain", SYS_landlock_create_ruleset, 0, 0, 1),
    /* around the filter */
    FUNCTION("system call by int 0x80", act_int80),
    FUNCTION("system call of the x32 ABI", act_x32),
};
const unsigned nr_acts = sizeof(acts) / sizeof(acts[0]);
