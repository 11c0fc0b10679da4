/* SPDX-License-Identifier: MIT */
/*
 * What goes through the guest's kernel: system calls, context switches, page faults, changes
 * of protection, signals, new processes. A call that fails shows in the check value.
 */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, FAULT_PAGES = 64 };

static uint64_t getpid_run(struct bench *b, uint64_t iters)
{
    long self = getpid();
    uint64_t good = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        good += syscall(SYS_getpid) == self;
    }
    return good;
}

/* --- two processes hand a number to and fro through two pipes --- */

static void pong(int from, int to)
{
    uint64_t value;

    while (read(from, &value, sizeof(value)) == sizeof(value)) {
        value = bench_mix(value, 3);
        if (write(to, &value, sizeof(value)) != sizeof(value)) {
            break;
        }
    }
    _exit(0);
}

static bool pingpong_setup(struct bench *b)
{
    int there[2], back[2];

    if (pipe(there) < 0 || pipe(back) < 0) {
        return false;
    }
    b->child = fork();
    if (b->child == 0) {
        close(there[1]);
        close(back[0]);
        pong(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    b->to_child = there[1];
    b->from_child = back[0];
    return b->child > 0;
}

static uint64_t pingpong_run(struct bench *b, uint64_t iters)
{
    uint64_t value = 1;

    for (uint64_t i = 0; i < iters; i++) {
        if (write(b->to_child, &value, sizeof(value)) != sizeof(value) ||
            read(b->from_child, &value, sizeof(value)) != sizeof(value)) {
            return i;
        }
    }
    return value;
}

static void pingpong_teardown(struct bench *b)
{
    close(b->to_child);
    close(b->from_child);
    waitpid(b->child, NULL, 0);
}

/* --- memory management --- */

static uint64_t fault_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        uint8_t *p = mmap(NULL, FAULT_PAGES * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED) {
            return i;
        }
        for (size_t k = 0; k < FAULT_PAGES; k++) {
            p[k * PAGE + i % PAGE] = (uint8_t)(i + k);
        }
        for (size_t k = 0; k < FAULT_PAGES; k++) {
            sum += p[k * PAGE + i % PAGE] + p[k * PAGE + (i + 1) % PAGE];
        }
        munmap(p, FAULT_PAGES * PAGE);
    }
    return sum;
}

static bool page_setup(struct bench *b)
{
    return bench_buffers(b, FAULT_PAGES * PAGE, false);
}

static uint64_t mprotect_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        uint8_t *p = b->a + i % FAULT_PAGES * PAGE;

        if (mprotect(p, PAGE, PROT_READ) < 0) {
            return i;
        }
        sum += p[64];
        if (mprotect(p, PAGE, PROT_READ | PROT_WRITE) < 0) {
            return i;
        }
        p[64] = (uint8_t)i;
        sum += p[64];
    }
    for (size_t k = 0; k < FAULT_PAGES; k++) {
        b->a[k * PAGE + 64] = (uint8_t)k; /* as each repetition finds it */
    }
    return sum;
}

static bool mprotect_setup(struct bench *b)
{
    bool good = page_setup(b);

    for (size_t k = 0; good && k < FAULT_PAGES; k++) {
        b->a[k * PAGE + 64] = (uint8_t)k;
    }
    return good;
}

/* --- signals; a handler has nowhere else to put what it counts --- */

static volatile sig_atomic_t signals_seen;

static void signal_handler(int number)
{
    signals_seen += number == SIGUSR1;
}

static uint64_t signal_run(struct bench *b, uint64_t iters)
{
    struct sigaction action, before;
    long self = syscall(SYS_gettid);

    (void)b;
    memset(&action, 0, sizeof(action));
    action.sa_handler = signal_handler;
    signals_seen = 0;
    if (sigaction(SIGUSR1, &action, &before) < 0) {
        return 0;
    }
    for (uint64_t i = 0; i < iters; i++) {
        syscall(SYS_tgkill, (long)getpid(), self, (long)SIGUSR1);
    }
    sigaction(SIGUSR1, &before, NULL);
    return (uint64_t)signals_seen;
}

/* --- processes --- */

static uint64_t fork_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        pid_t child = fork();
        int status = 0;

        if (child == 0) {
            _exit((int)(i * 7 % 100));
        }
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
            return i;
        }
        sum = bench_mix(sum, (uint64_t)WEXITSTATUS(status));
    }
    return sum;
}

static uint64_t forkexec_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        pid_t child = fork();
        int status = 0;

        if (child == 0) {
            char number[16];

            snprintf(number, sizeof(number), "%u", (unsigned)(i * 7 % 100));
            execl("/proc/self/exe", "bench", BENCH_TRUE, number, (char *)NULL);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
            return i;
        }
        sum = bench_mix(sum, (uint64_t)WEXITSTATUS(status));
    }
    return sum;
}

const struct workload bench_system[] = {
    {"getpid", "system", 500000, NULL, getpid_run, NULL, NULL},
    {"pingpong", "system", 20000, pingpong_setup, pingpong_run, NULL, pingpong_teardown},
    {"fault", "system", 1000, NULL, fault_run, NULL, NULL},
    {"mprotect", "system", 15000, mprotect_setup, mprotect_run, NULL, bench_free},
    {"signal", "system", 50000, NULL, signal_run, NULL, NULL},
    {"fork", "process", 300, NULL, fork_run, NULL, NULL},
    {"forkexec", "process", 100, NULL, forkexec_run, NULL, NULL},
    {0},
};
