/* SPDX-License-Identifier: MIT */
/*
 * What several CPUs are for, and what they cost each other: two threads, each on a CPU of its
 * own, that have nothing to do with each other, that fight for one cache line or lock, that wake
 * each other, or one of which makes the other's TLB go stale. An iteration is one turn of each
 * thread. Not part of `all`: `smp` asks for them, on a machine with two CPUs.
 */
#include "bench.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, LOOP = 2000, SHARED_LINE = 64 };

/* What two threads share; each hot word has a cache line. */
struct smp {
    alignas(SHARED_LINE) _Atomic uint32_t word;
    alignas(SHARED_LINE) _Atomic uint64_t counter;
    alignas(SHARED_LINE) _Atomic bool stop;
    alignas(SHARED_LINE) pthread_mutex_t lock;
    uint64_t guarded; /* by lock */
    uint64_t iters;
    uint8_t *pages;
};

typedef uint64_t (*smp_fn)(struct smp *s, unsigned self);

struct smp_thread {
    pthread_t id;
    struct smp *s;
    smp_fn fn;
    unsigned self;
    uint64_t value;
};

static void *smp_main(void *argument)
{
    struct smp_thread *t = argument;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(t->self, &set);
    sched_setaffinity(0, sizeof(set), &set);
    t->value = t->fn(t->s, t->self);
    return NULL;
}

/* Thread n on CPU n; their values, mixed. */
static uint64_t smp_run(struct smp *s, unsigned threads, smp_fn fn)
{
    struct smp_thread t[2];
    uint64_t hash = 0;

    for (unsigned i = 0; i < threads; i++) {
        t[i] = (struct smp_thread){.s = s, .fn = fn, .self = i};
        if (pthread_create(&t[i].id, NULL, smp_main, &t[i]) != 0) {
            _exit(1);
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(t[i].id, NULL);
        hash = bench_mix(hash, t[i].value);
    }
    return hash;
}

static bool smp_setup(struct bench *b)
{
    cpu_set_t set;

    (void)b;
    return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_ISSET(0, &set) &&
           CPU_ISSET(1, &set);
}

/* --- two loops that have nothing to do with each other; and one, to compare with --- */

/*
 * In registers, and each step waits for the one before. What is asked is whether the CPUs of a
 * guest run side by side; where the host's are two threads of one core, loops that keep a core
 * busy get in each other's way, and translated ones more than native ones.
 */
static uint64_t compute(struct smp *s, unsigned self)
{
    uint64_t hash = self + 1;

    for (uint64_t i = 0; i < s->iters; i++) {
        for (unsigned k = 0; k < LOOP; k++) {
            hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu + k;
        }
    }
    return hash;
}

static uint64_t compute1_run(struct bench *b, uint64_t iters)
{
    (void)b;
    return smp_run(&(struct smp){.iters = iters}, 1, compute);
}

static uint64_t compute2_run(struct bench *b, uint64_t iters)
{
    (void)b;
    return smp_run(&(struct smp){.iters = iters}, 2, compute);
}

/* --- one word, added to by both --- */

static uint64_t add(struct smp *s, unsigned self)
{
    for (uint64_t i = 0; i < s->iters; i++) {
        atomic_fetch_add(&s->counter, self + 1);
    }
    return 0;
}

static uint64_t add2_run(struct bench *b, uint64_t iters)
{
    struct smp s = {.iters = iters};

    (void)b;
    smp_run(&s, 2, add);
    return s.counter;
}

/* --- one lock for both, that sleeps when it has to --- */

static uint64_t guarded(struct smp *s, unsigned self)
{
    for (uint64_t i = 0; i < s->iters; i++) {
        pthread_mutex_lock(&s->lock);
        s->guarded += self + 1;
        pthread_mutex_unlock(&s->lock);
    }
    return 0;
}

static uint64_t lock2_run(struct bench *b, uint64_t iters)
{
    struct smp s = {.iters = iters};

    (void)b;
    pthread_mutex_init(&s.lock, NULL);
    smp_run(&s, 2, guarded);
    return s.guarded;
}

/* --- turns, handed over through memory alone --- */

static uint64_t spin(struct smp *s, unsigned self)
{
    for (uint64_t i = 0; i < s->iters; i++) {
        while (atomic_load_explicit(&s->word, memory_order_acquire) % 2 != self) {
            __builtin_ia32_pause();
        }
        atomic_fetch_add_explicit(&s->word, 1, memory_order_release);
    }
    return 0;
}

static uint64_t spin2_run(struct bench *b, uint64_t iters)
{
    struct smp s = {.iters = iters};

    (void)b;
    smp_run(&s, 2, spin);
    return s.word;
}

/* --- turns, each with a sleep and a wake-up on the other CPU --- */

static uint64_t turn(struct smp *s, unsigned self)
{
    for (uint64_t i = 0; i < s->iters; i++) {
        uint32_t now = atomic_load(&s->word);

        while (now % 2 != self) {
            syscall(SYS_futex, &s->word, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
            now = atomic_load(&s->word);
        }
        atomic_store(&s->word, now + 1);
        syscall(SYS_futex, &s->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return 0;
}

static uint64_t wake2_run(struct bench *b, uint64_t iters)
{
    struct smp s = {.iters = iters};

    (void)b;
    smp_run(&s, 2, turn);
    return s.word;
}

/* --- one changes a page's rights while the other runs in the same tables --- */

static uint64_t shoot(struct smp *s, unsigned self)
{
    uint64_t sum = 0;

    if (self == 1) {
        while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
            __builtin_ia32_pause();
        }
        return 0;
    }
    for (uint64_t i = 0; i < s->iters; i++) {
        s->pages[0] = (uint8_t)i;
        sum += mprotect(s->pages, PAGE, PROT_READ) == 0;
        sum += mprotect(s->pages, PAGE, PROT_READ | PROT_WRITE) == 0;
    }
    atomic_store(&s->stop, true);
    return sum;
}

static uint64_t shoot2_run(struct bench *b, uint64_t iters)
{
    (void)b;
    return smp_run(&(struct smp){.iters = iters, .pages = b->a}, 2, shoot);
}

static bool shoot2_setup(struct bench *b)
{
    return smp_setup(b) && bench_buffers(b, PAGE, false);
}

const struct workload bench_smp[] = {
    {"compute1", "smp", 60000, smp_setup, compute1_run, NULL, NULL},
    {"compute2", "smp", 60000, smp_setup, compute2_run, NULL, NULL},
    {"add2", "smp", 1000000, smp_setup, add2_run, NULL, NULL},
    {"lock2", "smp", 500000, smp_setup, lock2_run, NULL, NULL},
    {"spin2", "smp", 300000, smp_setup, spin2_run, NULL, NULL},
    {"wake2", "smp", 10000, smp_setup, wake2_run, NULL, NULL},
    {"shoot2", "smp", 20000, shoot2_setup, shoot2_run, NULL, bench_free},
    {0},
};
