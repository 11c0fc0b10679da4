/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of a user network: forked from pvemu before there is guest memory, disks or
 * other threads, it keeps nothing but the two sockets and forks the libslirp process from its
 * small self. That is why a crash of libslirp can be repaired after pvemu has locked itself up:
 * pvemu needs no fork or exec. A process that lived for a minute is forgiven its death;
 * max_restarts quick deaths end the service.
 */
#include "io/slirp_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

enum {
    SUPERVISOR_DATA_FD = 3, SUPERVISOR_CONTROL_FD = 4, SUPERVISOR_FIRST_FREE_FD = 5,
    SUPERVISOR_FORGIVE_MS = 60000, SUPERVISOR_MAX_DELAY_MS = 5000, SUPERVISOR_DRAIN = 4096,
};

/* Leaves stderr, and the two sockets at known numbers; the terminal and everything else
 * goes. */
static void supervisor_keep_only(int data_fd, int control_fd)
{
    int null = open("/dev/null", O_RDWR);
    int data = fcntl(data_fd, F_DUPFD, 64), control = fcntl(control_fd, F_DUPFD, 64);

    if (null < 0 || data < 0 || control < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(null, STDOUT_FILENO) < 0 || dup2(data, SUPERVISOR_DATA_FD) < 0 ||
        dup2(control, SUPERVISOR_CONTROL_FD) < 0) {
        _exit(1);
    }
    if (syscall(SYS_close_range, SUPERVISOR_FIRST_FREE_FD, ~0u, 0) < 0) {
        long max = sysconf(_SC_OPEN_MAX), end = max > 0 && max < 65536 ? max : 65536;

        for (int fd = SUPERVISOR_FIRST_FREE_FD; fd < end; fd++) {
            close(fd);
        }
    }
}

static void supervisor_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++) {
        sigaction(sig, &action, NULL);
    }
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void supervisor_tell(enum slirp_event event, int pid, int value)
{
    struct slirp_message m = {.event = (int32_t)event, .pid = pid, .value = value, .index = -1};

    send(SUPERVISOR_CONTROL_FD, &m, sizeof(m), MSG_NOSIGNAL);
}

static int64_t supervisor_now_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

/* Sleeps up to ms (-1: for ever), or until fd (-1: none) is readable. When pvemu is gone this
 * is the end, for the network process `child` (0: none) too. */
static void supervisor_wait(pid_t child, int fd, int ms)
{
    int64_t end = supervisor_now_ms() + ms;

    for (;;) {
        struct pollfd fds[2] = {{.fd = SUPERVISOR_CONTROL_FD, .events = POLLIN},
                                {.fd = fd, .events = POLLIN}};
        int64_t left = ms < 0 ? -1 : MAX(end - supervisor_now_ms(), 0);
        int n = poll(fds, 2, (int)left);

        if (n > 0 && fds[0].revents != 0) {
            if (child > 0) { /* pvemu never writes: this is its end */
                kill(child, SIGKILL);
                while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
                }
            }
            _exit(0);
        }
        if (n >= 0 || errno != EINTR) {
            return;
        }
    }
}

static pid_t supervisor_fork(const struct slirp_setup *setup)
{
    pid_t self = getpid(), pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self) {
            _exit(1);
        }
        slirp_run(setup, SUPERVISOR_DATA_FD, SUPERVISOR_CONTROL_FD);
    }
    return pid;
}

/* Runs one network process to its end; returns its wait status. */
static int supervisor_watch(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int status = 0;

    if (fd >= 0) {
        supervisor_wait(pid, fd, -1);
        close(fd);
    } else {
        /* No pidfd (Linux before 5.3): look now and then. */
        while (waitpid(pid, &status, WNOHANG) == 0) {
            supervisor_wait(pid, -1, 100);
        }
        return status;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* Frames that waited for the dead process are stale, and one of them may be the next to
 * kill. */
static void supervisor_drain(void)
{
    char byte;

    for (unsigned i = 0; i < SUPERVISOR_DRAIN; i++) {
        if (recv(SUPERVISOR_DATA_FD, &byte, 1, MSG_DONTWAIT) <= 0) {
            break;
        }
    }
}

void slirp_supervise(const struct slirp_setup *setup, int data_fd, int control_fd)
{
    struct slirp_setup own = *setup;
    unsigned deaths = 0;

    supervisor_keep_only(data_fd, control_fd);
    supervisor_signals();
    setsid(); /* Ctrl-C on the terminal is not for us */
    prctl(PR_SET_NAME, "pvemu-net-sup");
    sandbox_enter(own.sandbox, SANDBOX_CLASS_NET_SUPERVISOR);
    for (;;) {
        int64_t started = supervisor_now_ms();
        pid_t pid = supervisor_fork(&own);
        int status = pid < 0 ? 0 : supervisor_watch(pid);

        if (supervisor_now_ms() - started > SUPERVISOR_FORGIVE_MS) {
            deaths = 0;
        }
        if (deaths++ >= own.max_restarts) {
            supervisor_tell(SLIRP_EVENT_GAVE_UP, pid, status);
            supervisor_wait(0, -1, -1);
            _exit(1);
        }
        supervisor_tell(SLIRP_EVENT_DOWN, pid, status);
        if (deaths > 1) {
            supervisor_wait(0, -1, MIN(100 << MIN(deaths, 8), SUPERVISOR_MAX_DELAY_MS));
        }
        supervisor_drain();
    }
}
