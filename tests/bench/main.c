/* SPDX-License-Identifier: MIT */
/*
 * bench: runs workloads and prints one line for each, for tests/bench/report.py to read.
 *
 *   bench [-scale X] [-reps N] [-limit SECONDS] all | smp | NAME...
 *   bench -list | -tsc
 *
 * -scale multiplies the iterations, -reps says how often each is run (the fastest counts),
 * -limit stops repeating one that is slow. -list prints names and groups, -tsc the kHz of the
 * TSC. As process 1 of a guest it mounts what it needs, does the same with the arguments after
 * `--` of the kernel command line, waits for a line of input so that the host can look at the
 * emulator's memory, and powers off.
 */
#include "bench.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum {
    WAIT_MS = 60000,
    TSC_MS = 250,
    GAP = 37 * 4096, /* or two buffers share every slot of a direct-mapped soft TLB */
};

struct options {
    double scale, limit;
    unsigned reps;
    char **names; /* NULL-terminated */
};

static const struct workload *const all[] = {bench_integer, bench_calls,  bench_floats,
                                             bench_memory,  bench_system, bench_code,
                                             bench_smp};
enum { NR_ALL = sizeof(all) / sizeof(all[0]) };

/* --- what workloads share --- */

uint64_t bench_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

uint64_t bench_hash(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t hash = size, word;

    for (size_t i = 0; i + sizeof(word) <= size; i += sizeof(word)) {
        memcpy(&word, p + i, sizeof(word));
        hash = bench_mix(hash, word);
    }
    return hash;
}

uint32_t bench_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static uint8_t *buffer_new(size_t size, uint64_t state)
{
    uint64_t *p =
        mmap(NULL, size + GAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        return NULL;
    }
    for (size_t i = 0; i < size / sizeof(*p); i++) {
        p[i] = (uint64_t)bench_random(&state) * 0x100000001u;
    }
    return (uint8_t *)p;
}

bool bench_buffers(struct bench *b, size_t size, bool both)
{
    b->size = size;
    b->a = buffer_new(size, 1);
    b->b = both ? buffer_new(size, 2) : NULL;
    return b->a != NULL && (b->b != NULL || !both);
}

void bench_free(struct bench *b)
{
    if (b->a != NULL) {
        munmap(b->a, b->size + GAP);
    }
    if (b->b != NULL) {
        munmap(b->b, b->size + GAP);
    }
}

/* --- one workload --- */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool run_one(const struct workload *w, const struct options *o)
{
    struct bench b = {0};
    double scaled = (double)w->iters * o->scale;
    uint64_t iters = scaled < 1 ? 1 : (uint64_t)scaled;
    uint64_t best = UINT64_MAX, spent = 0, check = 0;
    bool same = true;
    unsigned rep = 0;

    if (w->setup != NULL && !w->setup(&b)) {
        printf("@skip %s %s\n", w->name, w->group);
        return true;
    }
    while (rep < o->reps && (rep == 0 || (double)spent < o->limit * 1e9)) {
        uint64_t start = now_ns(), value = w->run(&b, iters), took = now_ns() - start;

        if (w->verify != NULL) {
            value = bench_mix(value, w->verify(&b));
        }
        same = same && (rep == 0 || value == check);
        check = value;
        best = took < best ? took : best;
        spent += took;
        rep++;
    }
    if (w->teardown != NULL) {
        w->teardown(&b);
    }
    printf("@run %s %s iters=%llu ns=%llu check=%016llx reps=%u%s\n", w->name, w->group,
           (unsigned long long)iters, (unsigned long long)best, (unsigned long long)check, rep,
           same ? "" : " unstable");
    return same;
}

static const struct workload *workload_find(const char *name)
{
    for (unsigned i = 0; i < NR_ALL; i++) {
        for (const struct workload *w = all[i]; w->name != NULL; w++) {
            if (strcmp(w->name, name) == 0) {
                return w;
            }
        }
    }
    return NULL;
}

/* Those for several CPUs, or all the others. */
static bool run_all(const struct options *o, bool smp)
{
    bool good = true;

    for (unsigned i = 0; i < NR_ALL; i++) {
        for (const struct workload *w = all[i]; w->name != NULL && smp == (all[i] == bench_smp);
             w++) {
            good = run_one(w, o) && good;
        }
    }
    return good;
}

static bool run_named(const struct options *o)
{
    uint64_t start = now_ns();
    bool good = true;

    printf("@start\n");
    for (char **name = o->names; *name != NULL; name++) {
        const struct workload *w = workload_find(*name);

        if (strcmp(*name, "all") == 0 || strcmp(*name, "smp") == 0) {
            good = run_all(o, **name == 's') && good;
        } else if (w == NULL) {
            printf("@unknown %s\n", *name);
            good = false;
        } else {
            good = run_one(w, o) && good;
        }
    }
    printf("@done ns=%llu\n", (unsigned long long)(now_ns() - start));
    return good;
}

/* --- the program --- */

static bool parse(struct options *o, char **argv)
{
    for (argv++; *argv != NULL && **argv == '-'; argv += 2) {
        if (argv[1] == NULL) {
            return false;
        } else if (strcmp(*argv, "-scale") == 0) {
            o->scale = strtod(argv[1], NULL);
        } else if (strcmp(*argv, "-limit") == 0) {
            o->limit = strtod(argv[1], NULL);
        } else if (strcmp(*argv, "-reps") == 0) {
            o->reps = (unsigned)strtoul(argv[1], NULL, 10);
        } else {
            return false;
        }
    }
    o->names = argv;
    return o->scale > 0 && o->reps > 0;
}

static int list(void)
{
    for (unsigned i = 0; i < NR_ALL; i++) {
        for (const struct workload *w = all[i]; w->name != NULL; w++) {
            printf("%s %s\n", w->name, w->group);
        }
    }
    return 0;
}

/* For a guest without a timer that tells it: QEMU's TSC under TCG is the host's. */
static int tsc(void)
{
    uint64_t start = now_ns(), from = __rdtsc(), took = 0;

    while (took < TSC_MS * 1000000u) {
        took = now_ns() - start;
    }
    printf("%llu\n", (unsigned long long)((__rdtsc() - from) * 1000000u / took));
    return 0;
}

static bool wants_smp(const struct options *o)
{
    const struct workload *w = workload_find(o->names[0]);

    return strcmp(w != NULL ? w->group : o->names[0], "smp") == 0;
}

/* A guest has one CPU: two processes that take turns shall do so on one here, too. */
static void pin(const struct options *o)
{
    cpu_set_t set;
    int cpu = sched_getcpu();

    if (cpu >= 0 && !wants_smp(o)) {
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        sched_setaffinity(0, sizeof(set), &set);
    }
}

static int guest_main(struct options *o, char **argv)
{
    struct pollfd console = {.fd = 0, .events = POLLIN};
    struct utsname name = {0};

    uname(&name);
    printf("@init %s\n", name.release);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    if (!parse(o, argv)) {
        printf("@usage\n");
    } else {
        run_named(o);
        poll(&console, 1, WAIT_MS);
    }
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}

int main(int argc, char **argv)
{
    struct options o = {.scale = 1, .limit = 10, .reps = 3};

    if (argc == 3 && strcmp(argv[1], BENCH_TRUE) == 0) {
        return atoi(argv[2]);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getpid() == 1) {
        return guest_main(&o, argv);
    }
    if (argc == 2 && strcmp(argv[1], "-list") == 0) {
        return list();
    }
    if (argc == 2 && strcmp(argv[1], "-tsc") == 0) {
        return tsc();
    }
    if (!parse(&o, argv) || o.names[0] == NULL) {
        fprintf(
            stderr,
            "usage: bench [-scale X] [-reps N] [-limit SECONDS] all|smp|NAME... | -list | -tsc\n");
        return 2;
    }
    pin(&o);
    return run_named(&o) ? 0 : 1;
}
