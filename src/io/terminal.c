/* SPDX-License-Identifier: MIT */
/* Raw mode and the guardian child that undoes it. */
#include "io/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <glib-unix.h>

#include "base/error.h"
#include "base/report.h"
#include "base/sandbox.h"

/*
 * What full-screen programs leave behind. Leaving the alternate screen and undoing the scroll
 * region move the cursor, so it is saved around both. Nothing is erased.
 */
static const char TERMINAL_SANE[] =
    "\0337\033[?1049l"               /* the normal screen */
    "\0337\033[r\0338"               /* it scrolls as a whole */
    "\017\033(B\033[0m\033[?7h"      /* letters, no colours, lines wrap */
    "\033[?25h\033[?1l\033>"         /* cursor shown, keys send the normal codes */
    "\033[?1000l\033[?1002l\033[?1003l\033[?1006l" /* no mouse */
    "\033[?1004l\033[?2004l\r\n";   /* no marks for focus and paste */

enum { GUARD_RAW = 'r', GUARD_RESTORED = 'n', GUARD_QUIT = 'q' };

struct terminal {
    struct termios saved;
    int screen; /* where TERMINAL_SANE goes: what shows the guest is a terminal; -1: nothing */
    bool raw;
    int pipe; /* to the guardian; its end of file is our end */
    pid_t guardian;
    int signal_fd; /* SIGTSTP and SIGCONT; -1: none */
    GSource *signal_source;
    struct terminal_job job;
};

static void terminal_put_back(const struct terminal *t)
{
    ssize_t ignored;

    tcsetattr(STDIN_FILENO, TCSADRAIN, &t->saved);
    if (t->screen >= 0) {
        ignored = write(t->screen, TERMINAL_SANE, sizeof(TERMINAL_SANE) - 1);
        (void)ignored;
    }
}

/* The guardian's whole life. It was forked before there was a second thread, with all signals
 * blocked, and its parent has put it into a process group of its own, so that a kill of pvemu's
 * group, or the hangup at the end of its session, leaves it to clean up however late it starts.
 */
static void guardian_run(int fd, const struct terminal *t, enum config_sandbox sandbox)
{
    sigset_t none;
    bool raw = false;
    char word;
    ssize_t n;

    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, "pvemu-guardian");
    sandbox_enter(sandbox, SANDBOX_CLASS_GUARDIAN);
    for (;;) {
        n = read(fd, &word, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0 || word == GUARD_QUIT) {
            break;
        }
        raw = word == GUARD_RAW;
    }
    if (raw) {
        terminal_put_back(t);
    }
    _exit(0);
}

/* fork(); see guardian_run(). */
static pid_t guardian_fork(void)
{
    sigset_t all, old;
    pid_t pid;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid != 0) {
        if (pid > 0) {
            setpgid(pid, pid);
        }
        sigprocmask(SIG_SETMASK, &old, NULL);
    }
    return pid;
}

/* Whoever ignores SIGTSTP (a shell without job control started us so) is not stopped by it. */
static sigset_t terminal_job_signals(void)
{
    struct sigaction old;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCONT);
    if (sigaction(SIGTSTP, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        sigaddset(&set, SIGTSTP);
    }
    return set;
}

static void terminal_open_signals(struct terminal *t)
{
    sigset_t set = terminal_job_signals();

    t->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (t->signal_fd >= 0) {
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    }
}

struct terminal *terminal_new(enum config_sandbox sandbox, GError **err)
{
    struct terminal *t;
    int fds[2];

    if (!isatty(STDIN_FILENO)) {
        return NULL;
    }
    t = g_new0(struct terminal, 1);
    if (tcgetattr(STDIN_FILENO, &t->saved) != 0 || pipe2(fds, O_CLOEXEC) != 0) {
        error_set(err, PVEMU_ERROR_HOST, "cannot prepare the terminal: %s", g_strerror(errno));
        g_free(t);
        return NULL;
    }
    t->screen = -1;
    if (isatty(STDOUT_FILENO) && g_strcmp0(g_getenv("TERM"), "dumb") != 0) {
        t->screen = STDOUT_FILENO;
    }
    t->guardian = guardian_fork();
    if (t->guardian == 0) {
        close(fds[1]);
        guardian_run(fds[0], t, sandbox);
    }
    close(fds[0]);
    t->pipe = fds[1];
    if (t->guardian < 0) {
        error_set(err, PVEMU_ERROR_HOST, "cannot start the terminal's guardian: %s",
                  g_strerror(errno));
        close(t->pipe);
        g_free(t);
        return NULL;
    }
    terminal_open_signals(t);
    return t;
}

static void terminal_tell(const struct terminal *t, char word)
{
    while (write(t->pipe, &word, 1) < 0 && errno == EINTR) {
    }
}

void terminal_enter_raw(struct terminal *t)
{
    struct termios raw = t->saved;

    cfmakeraw(&raw);
    terminal_tell(t, GUARD_RAW); /* first: a kill between the two must find it told */
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    t->raw = true;
    report_set_raw_tty(isatty(STDERR_FILENO));
}

void terminal_restore(struct terminal *t)
{
    if (t == NULL || !t->raw) {
        return;
    }
    t->raw = false;
    terminal_put_back(t);
    terminal_tell(t, GUARD_RESTORED);
    report_set_raw_tty(false);
}

/* Returns when somebody has let this process go on. Where nobody could (no shell above us), the
 * kernel does not stop it at all. */
static void terminal_stop_process(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    raise(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static gboolean terminal_signalled(gint fd, GIOCondition condition, gpointer data)
{
    struct terminal *t = data;
    struct signalfd_siginfo info;

    (void)condition;
    if (read(fd, &info, sizeof(info)) != sizeof(info) || !t->raw) {
        return G_SOURCE_CONTINUE;
    }
    if (info.ssi_signo == SIGTSTP) {
        t->job.stop(t->job.opaque);
        terminal_restore(t);
        terminal_stop_process();
    }
    terminal_enter_raw(t);
    t->job.go_on(t->job.opaque);
    return G_SOURCE_CONTINUE;
}

void terminal_watch_job(struct terminal *t, GMainContext *context,
                        const struct terminal_job *job)
{
    if (t->signal_fd < 0) {
        return;
    }
    t->job = *job;
    t->signal_source = g_unix_fd_source_new(t->signal_fd, G_IO_IN);
    g_source_set_callback(t->signal_source, G_SOURCE_FUNC(terminal_signalled), t, NULL);
    g_source_attach(t->signal_source, context);
}

void terminal_free(struct terminal *t)
{
    if (t == NULL) {
        return;
    }
    if (t->signal_source != NULL) {
        g_source_destroy(t->signal_source);
        g_source_unref(t->signal_source);
    }
    if (t->signal_fd >= 0) {
        close(t->signal_fd);
    }
    terminal_restore(t);
    terminal_tell(t, GUARD_QUIT);
    close(t->pipe);
    while (waitpid(t->guardian, NULL, 0) < 0 && errno == EINTR) {
    }
    g_free(t);
}

bool terminal_size(unsigned *columns, unsigned *rows)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) {
        return false;
    }
    *columns = size.ws_col;
    *rows = size.ws_row;
    return true;
}
