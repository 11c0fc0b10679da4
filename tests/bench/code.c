/* SPDX-License-Identifier: MIT */
/* Code that changes while it runs (patched immediates, a tiny compiler), and locked access. */
#include "bench.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum { ARENA = 1 << 16, JIT_OPS = 8, JIT_MAX = 96 };

typedef uint32_t (*made_fn)(uint32_t x);

static made_fn as_function(uint8_t *code)
{
    made_fn f;

    BENCH_HIDE(code);
    memcpy(&f, &code, sizeof(f)); /* ISO C has no conversion for this */
    return f;
}

/* A host that forbids writable code (SELinux execmem) leaves these out. */
static bool arena_setup(struct bench *b)
{
    void *p = mmap(NULL, ARENA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);

    if (p == MAP_FAILED) {
        return false;
    }
    b->a = p;
    b->size = ARENA;
    memset(b->a, 0xcc, ARENA);
    return true;
}

/* mov eax, IMM; add eax, edi; ret: IMM is another number at each call. */
static uint64_t smc_run(struct bench *b, uint64_t iters)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0x01, 0xf8, 0xc3};
    made_fn f = as_function(b->a);
    uint64_t sum = 0;

    memcpy(b->a, code, sizeof(code));
    for (uint64_t i = 0; i < iters; i++) {
        uint32_t value = (uint32_t)(i * 2654435761u);

        memcpy(b->a + 1, &value, sizeof(value));
        sum += f((uint32_t)i);
    }
    return sum;
}

static uint8_t *emit(uint8_t *to, const void *bytes, size_t size, uint32_t value, size_t tail)
{
    memcpy(to, bytes, size);
    memcpy(to + size, &value, tail);
    return to + size + tail;
}

/* A function of its own for each number: eight operations, eight times round. */
static void jit_make(uint8_t *to, uint32_t seed)
{
    uint8_t *loop;
    uint64_t state = seed;

#ifdef __x86_64__
    to = emit(to, "\x89\xf8\xb9", 3, 8, 4); /* mov eax, edi; mov ecx, 8 */
#else
    to = emit(to, "\x8b\x44\x24\x04\xb9", 5, 8, 4); /* mov eax, [esp + 4]; mov ecx, 8 */
#endif
    loop = to;
    for (unsigned i = 0; i < JIT_OPS; i++) {
        uint32_t r = bench_random(&state);

        switch (r % 4) {
        case 0:
            to = emit(to, "\x05", 1, r, 4); /* add eax, r */
            break;
        case 1:
            to = emit(to, "\x35", 1, r, 4); /* xor eax, r */
            break;
        case 2:
            to = emit(to, "\x69\xc0", 2, r | 1, 4); /* imul eax, eax, r */
            break;
        default:
            to = emit(to, "\xc1\xc0", 2, r >> 8 & 31, 1); /* rol eax, r */
            break;
        }
    }
    to = emit(to, "\xff\xc9\x75", 3, (uint32_t)(loop - (to + 4)), 1); /* dec ecx; jnz loop */
    *to = 0xc3;
}

static uint64_t jit_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;
    size_t at = 0;

    for (uint64_t i = 0; i < iters; i++) {
        jit_make(b->a + at, (uint32_t)i);
        sum = bench_mix(sum, as_function(b->a + at)((uint32_t)i));
        at = (at + JIT_MAX) % (ARENA - JIT_MAX);
    }
    return sum;
}

static void arena_teardown(struct bench *b)
{
    munmap(b->a, b->size);
}

/* --- locked access by one thread: no waiting, only the instructions --- */

static uint64_t mutex_run(struct bench *b, uint64_t iters)
{
    atomic_int lock = 0;
    uint64_t value = 1;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        int free = 0;

        if (!atomic_compare_exchange_strong(&lock, &free, 1)) {
            return i;
        }
        value = value * 3 + i;
        BENCH_HIDE(value);
        if (atomic_exchange(&lock, 0) != 1) {
            return i;
        }
    }
    return value;
}

static uint64_t atomic_run(struct bench *b, uint64_t iters)
{
    _Atomic uint64_t sum = 0, bits = 0;
    uint64_t check = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        check ^= atomic_fetch_add(&sum, i);
        atomic_fetch_or(&bits, i << (i & 31));
    }
    return bench_mix(check, sum ^ bits);
}

const struct workload bench_code[] = {
    {"smc_patch", "code", 300000, arena_setup, smc_run, NULL, arena_teardown},
    {"jit", "code", 60000, arena_setup, jit_run, NULL, arena_teardown},
    {"mutex", "atomic", 4000000, NULL, mutex_run, NULL, NULL},
    {"atomic", "atomic", 4000000, NULL, atomic_run, NULL, NULL},
    {0},
};
