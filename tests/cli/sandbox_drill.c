/* SPDX-License-Identifier: MIT */
/*
 * sandbox_drill CLASS: confines a process just as pvemu does and then tries every act of
 * sandbox_acts.c from a thread of that class, each in a process of its own. Every one must end
 * in SIGSYS, EPERM or EACCES. TAP. A few things that the class needs must still work.
 *
 * sandbox_drill control: without a sandbox the harmless acts must succeed, or the drill proves
 * nothing. sandbox_drill without CALL[,CALL] -- PROGRAM...: runs a program on a kernel that
 * lacks system calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "base/sandbox_landlock.h"
#include "sandbox_acts.h"

enum { ACT_SECONDS = 20 };
/* How a process of the drill ends. */
enum outcome {
    OUT_ALLOWED = 40, OUT_DENIED, OUT_OTHER_ERROR, OUT_KILLED, OUT_ABORTED, OUT_BROKEN
};

struct attempt {
    struct sandbox *sandbox;
    const struct act *act; /* NULL: what is allowed */
    enum sandbox_class cls;
    pthread_barrier_t ready, go;
    int outcome;
};

static int judge(const struct act *act, long ret, int error)
{
    if (ret >= 0) {
        return OUT_ALLOWED;
    }
    if (error == EPERM || error == EACCES || (act->also != 0 && error == act->also)) {
        return OUT_DENIED;
    }
    return OUT_OTHER_ERROR;
}

/* A failed assertion must still be seen as one. */
static long act_abort(void)
{
    abort();
}

static const struct act abort_act = {.name = "abort", .nr = -1, .run = act_abort};

/* A few calls that this class lives on. */
static int try_allowed(enum sandbox_class cls)
{
    char *heap = malloc(1 << 20);
    bool ok = write(targets.data_fd, "x", 1) == 1 && heap != NULL;

    if (heap != NULL) {
        heap[0] = 1;
        ok &= heap[0] == 1;
        free(heap);
    }
    if (cls == SANDBOX_CLASS_IO) {
        struct iovec iov = {targets.stack, 8};

        ok &= pwritev(targets.data_fd, &iov, 1, 0) == 8 && fdatasync(targets.data_fd) == 0;
    } else if (cls == SANDBOX_CLASS_MAIN) {
        ok &= unlink(targets.run_file) == 0;
    } else if (cls == SANDBOX_CLASS_NET) {
        int fd = open("/etc/resolv.conf", O_RDONLY);

        ok &= (fd >= 0 || access("/etc/resolv.conf", R_OK) != 0) &&
              socket(AF_INET, SOCK_DGRAM, 0) >= 0;
    }
    return ok ? OUT_ALLOWED : OUT_BROKEN;
}

static int try_act(const struct attempt *a)
{
    const struct act *act = a->act;
    const long *arg;
    long ret;

    if (act == NULL) {
        return try_allowed(a->cls);
    }
    arg = act->args;
    errno = 0;
    ret = act->run != NULL ? act->run()
                           : syscall(act->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
    return judge(act, ret, errno);
}

static int how_it_ended(int status)
{
    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGSYS    ? OUT_KILLED
               : WTERMSIG(status) == SIGABRT ? OUT_ABORTED
                                             : OUT_BROKEN;
    }
    return WEXITSTATUS(status);
}

/* --- confinement, as src/machine/confine.c and src/io do it --- */

static void *thread_run(void *opaque)
{
    struct attempt *a = opaque;

    if (a->cls == SANDBOX_CLASS_IO) {
        sandbox_restrict(a->sandbox, SANDBOX_CLASS_IO);
    }
    pthread_barrier_wait(&a->ready);
    pthread_barrier_wait(&a->go);
    sandbox_filter_thread(a->sandbox, a->cls);
    a->outcome = try_act(a);
    return NULL;
}

/* The VMM process: a thread of the class beside the main thread. */
static int confine_vmm(struct attempt *a)
{
    struct sandbox_options options = {.mode = SANDBOX_ON, .unlink_dir = targets.run_dir};
    pthread_t thread;

    a->sandbox = sandbox_new(&options);
    pthread_barrier_init(&a->ready, NULL, 2);
    pthread_barrier_init(&a->go, NULL, 2);
    if (a->cls == SANDBOX_CLASS_IO && pthread_create(&thread, NULL, thread_run, a) != 0) {
        return OUT_BROKEN;
    }
    sandbox_restrict(a->sandbox, SANDBOX_CLASS_MAIN);
    if (a->cls == SANDBOX_CLASS_VCPU && pthread_create(&thread, NULL, thread_run, a) != 0) {
        return OUT_BROKEN;
    }
    if (a->cls != SANDBOX_CLASS_MAIN) {
        pthread_barrier_wait(&a->ready);
    }
    sandbox_filter_process(a->sandbox);
    sandbox_filter_thread(a->sandbox, SANDBOX_CLASS_MAIN);
    if (sandbox_missing(a->sandbox) != NULL) {
        return OUT_BROKEN;
    }
    if (a->cls == SANDBOX_CLASS_MAIN) {
        return try_act(a);
    }
    pthread_barrier_wait(&a->go);
    pthread_join(thread, NULL);
    return a->outcome;
}

/* The network process is a child of its supervisor. */
static int confine_net(struct attempt *a)
{
    int status;
    pid_t pid;

    sandbox_enter(SANDBOX_ON, SANDBOX_CLASS_NET_SUPERVISOR);
    pid = fork();
    if (pid == 0) {
        sandbox_enter(SANDBOX_ON, SANDBOX_CLASS_NET);
        _exit(try_act(a));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return OUT_BROKEN;
    }
    return how_it_ended(status);
}

static int confine_and_try(struct attempt *a, bool confined)
{
    if (!confined) {
        return try_act(a);
    }
    switch (a->cls) {
    case SANDBOX_CLASS_MAIN:
    case SANDBOX_CLASS_VCPU:
    case SANDBOX_CLASS_IO:
        return confine_vmm(a);
    case SANDBOX_CLASS_NET:
        return confine_net(a);
    default:
        sandbox_enter(SANDBOX_ON, a->cls);
        return try_act(a);
    }
}

/* --- the targets --- */

static bool targets_make(void)
{
    g_strlcpy(targets.dir, "/tmp/pvemu-drill-XXXXXX", sizeof(targets.dir));
    if (mkdtemp(targets.dir) == NULL) {
        return false;
    }
    g_snprintf(targets.disk, sizeof(targets.disk), "%s/disk", targets.dir);
    g_snprintf(targets.other, sizeof(targets.other), "%s/other", targets.dir);
    g_snprintf(targets.run_dir, sizeof(targets.run_dir), "%s/run", targets.dir);
    g_snprintf(targets.run_file, sizeof(targets.run_file), "%s/run/socket", targets.dir);
    targets.data_fd = open(targets.disk, O_RDWR | O_CREAT, 0600);
    targets.disk_fd = open(targets.disk, O_RDONLY);
    targets.memfd = memfd_create("drill", MFD_ALLOW_SEALING);
    targets.inet_fd = socket(AF_INET, SOCK_STREAM, 0);
    targets.pty_fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    targets.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    targets.victim = fork();
    if (targets.victim == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            pause();
        }
    }
    return mkdir(targets.run_dir, 0700) == 0 && targets.data_fd >= 0 && targets.memfd >= 0 &&
           targets.page != MAP_FAILED && targets.victim > 0 &&
           ftruncate(targets.memfd, 4096) == 0;
}

/* Every attempt finds the same things. */
static void targets_refresh(void)
{
    int fd = open(targets.run_file, O_WRONLY | O_CREAT, 0600);

    if (fd >= 0) {
        close(fd);
    }
    if (unlink(targets.other) != 0) {
        rmdir(targets.other);
    }
}

static void targets_remove(void)
{
    targets_refresh();
    unlink(targets.run_file);
    rmdir(targets.run_dir);
    unlink(targets.disk);
    rmdir(targets.dir);
    kill(targets.victim, SIGKILL);
    waitpid(targets.victim, NULL, 0);
}

/* --- the drill --- */

static int attempt(enum sandbox_class cls, const struct act *act, bool confined)
{
    int status;
    pid_t pid;

    targets_refresh();
    pid = fork();
    if (pid == 0) {
        struct attempt a = {.cls = cls, .act = act};

        alarm(ACT_SECONDS);
        signal(SIGCONT, SIG_IGN);
        _exit(confine_and_try(&a, confined));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return OUT_BROKEN;
    }
    return how_it_ended(status);
}

static bool drill_needs(enum sandbox_class cls, const struct act *act, int wanted, unsigned n)
{
    int outcome = attempt(cls, act, true);

    printf("%s %u %s: %s (outcome %d)\n", outcome == wanted ? "ok" : "not ok", n,
           sandbox_class_name(cls), act != NULL ? act->name : "what it needs works", outcome);
    return outcome == wanted;
}

/* The supervisor has to be able to end its child; that it ends no other is up to Landlock 6. */
static bool needs_scopes(enum sandbox_class cls, const struct act *act)
{
    return cls == SANDBOX_CLASS_NET_SUPERVISOR && sandbox_landlock_abi() < 6 &&
           (strcmp(act->name, "kill a process with SIGKILL") == 0 ||
            strcmp(act->name, "kill a process with SIGABRT") == 0);
}

static int drill(enum sandbox_class cls)
{
    unsigned n = 0, bad = 0;

    for (unsigned i = 0; i < nr_acts; i++) {
        int outcome;

        if ((acts[i].not_for >> cls & 1) != 0 || needs_scopes(cls, &acts[i])) {
            continue;
        }
        outcome = attempt(cls, &acts[i], true);
        n++;
        if (outcome == OUT_KILLED || outcome == OUT_DENIED) {
            printf("ok %u %s: %s (%s)\n", n, sandbox_class_name(cls), acts[i].name,
                   outcome == OUT_KILLED ? "killed" : "refused");
        } else {
            printf("not ok %u %s: %s (outcome %d)\n", n, sandbox_class_name(cls), acts[i].name,
                   outcome);
            bad++;
        }
    }
    if (cls != SANDBOX_CLASS_GUARDIAN) {
        bad += !drill_needs(cls, NULL, OUT_ALLOWED, ++n);
        bad += !drill_needs(cls, &abort_act, OUT_ABORTED, ++n);
    }
    if (kill(targets.victim, 0) != 0 || waitpid(targets.victim, NULL, WNOHANG) != 0) {
        printf("Bail out! the other process died\n");
        bad++;
    }
    printf("1..%u\n", n);
    return bad == 0 ? 0 : 1;
}

static int drill_control(void)
{
    unsigned n = 0, bad = 0;

    for (unsigned i = 0; i < nr_acts; i++) {
        if (acts[i].control) {
            bool ok = attempt(SANDBOX_CLASS_MAIN, &acts[i], false) == OUT_ALLOWED;

            printf("%s %u without a sandbox: %s\n", ok ? "ok" : "not ok", ++n, acts[i].name);
            bad += !ok;
        }
    }
    printf("1..%u\n", n);
    return bad == 0 ? 0 : 1;
}

/* --- a kernel that lacks something --- */

static int run_without(char **argv)
{
    g_auto(GStrv) names = g_strsplit(argv[0], ",", -1);
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

    for (unsigned i = 0; names[i] != NULL; i++) {
        int nr = seccomp_syscall_resolve_name(names[i]);

        if (nr == __NR_SCMP_ERROR ||
            seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), nr, 0) != 0) {
            fprintf(stderr, "cannot take away '%s'\n", names[i]);
            return 2;
        }
    }
    if (seccomp_load(ctx) != 0) {
        return 2;
    }
    execvp(argv[2], argv + 2);
    return 127;
}

int main(int argc, char **argv)
{
    int status = 2;

    if (argc > 4 && strcmp(argv[1], "without") == 0 && strcmp(argv[3], "--") == 0) {
        return run_without(argv + 2);
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc != 2 || !targets_make()) {
        fprintf(stderr, "usage: sandbox_drill CLASS|control, or no room in /tmp\n");
        return 2;
    }
    if (strcmp(argv[1], "control") == 0) {
        status = drill_control();
    }
    for (unsigned cls = 0; cls < SANDBOX_NR_CLASSES; cls++) {
        if (strcmp(argv[1], sandbox_class_name(cls)) == 0) {
            status = drill(cls);
        }
    }
    targets_remove();
    return status;
}
