/* SPDX-License-Identifier: MIT */
/* Memory: latency in and out of the caches, copies by the C library, by `rep` and by bytes. */
#include "bench.h"

#include <string.h>

enum {
    LINE = 64,
    CHASE_LARGE = 64 << 20,
    CHASE_SMALL = 256 << 10,
    COPY_LARGE = 8 << 20,
    PAGE = 4096,
    REP_LARGE = 1 << 20,
};

/* --- pointer chase: every cache line of the buffer once, in random order, in one ring --- */

static bool chase_setup(struct bench *b, size_t size)
{
    size_t count = size / LINE;
    uint64_t state = 5;

    if (!bench_buffers(b, size, false)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(b->a + i * LINE, &i, sizeof(i));
    }
    for (size_t i = count - 1; i > 0; i--) { /* Sattolo: a permutation with one cycle */
        size_t k = (size_t)bench_random(&state) % i, x, y;

        memcpy(&x, b->a + i * LINE, sizeof(x));
        memcpy(&y, b->a + k * LINE, sizeof(y));
        memcpy(b->a + i * LINE, &y, sizeof(y));
        memcpy(b->a + k * LINE, &x, sizeof(x));
    }
    return true;
}

static bool chase_large_setup(struct bench *b)
{
    return chase_setup(b, CHASE_LARGE);
}

static bool chase_small_setup(struct bench *b)
{
    return chase_setup(b, CHASE_SMALL);
}

static uint64_t chase_run(struct bench *b, uint64_t iters)
{
    size_t at = 0;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        memcpy(&at, b->a + at * LINE, sizeof(at));
        sum += at;
    }
    return sum;
}

/* --- copies: one byte of the source is new in each, and is looked for in the target --- */

static bool copy_large_setup(struct bench *b)
{
    return bench_buffers(b, COPY_LARGE, true);
}

static bool copy_page_setup(struct bench *b)
{
    return bench_buffers(b, 16 * PAGE, true);
}

static bool rep_large_setup(struct bench *b)
{
    return bench_buffers(b, REP_LARGE, true);
}

static uint64_t copy_verify(struct bench *b)
{
    return bench_hash(b->b, b->size);
}

static uint64_t memcpy_large_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t at = i * 4099 % b->size;

        b->a[at] = (uint8_t)(i * 13);
        memcpy(b->b, b->a, b->size);
        sum += b->b[at];
    }
    return sum;
}

static uint64_t memcpy_page_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t page = i % 16 * PAGE, at = page + i * 61 % PAGE, size = PAGE;

        b->a[at] = (uint8_t)(i * 13);
        BENCH_HIDE(size); /* a call, as for any size that is not known */
        memcpy(b->b + page, b->a + page, size);
        sum += b->b[at];
    }
    return sum;
}

static void rep_movsb(void *to, const void *from, size_t count)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static uint64_t rep_large_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t at = i * 4099 % b->size;

        b->a[at] = (uint8_t)(i * 13);
        rep_movsb(b->b, b->a, b->size);
        sum += b->b[at];
    }
    return sum;
}

/* 1 to 64 bytes at places of no alignment, as kernels and string functions do. The source
 * stays as it is: the copies overlap, and each repetition has to leave the same. */
static uint64_t rep_short_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t count = 1 + i * 29 % 64, at = i * 97 % (15 * PAGE), to = at + i % 64;

        rep_movsb(b->b + to, b->a + at, count);
        sum += b->b[to + count - 1];
    }
    return sum;
}

/* A page of words, as a kernel clears it. */
static uint64_t stos_page_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t page = i % 16 * PAGE, count = PAGE / sizeof(count);
        void *to = b->b + page;

#ifdef __x86_64__
        __asm__ volatile("rep stosq"
                         : "+D"(to), "+c"(count)
                         : "a"(i * 0x0101010101)
                         : "memory");
#else
        __asm__ volatile("rep stosl"
                         : "+D"(to), "+c"(count)
                         : "a"((uint32_t)i * 0x01010101)
                         : "memory");
#endif
        sum += b->b[page + i * 61 % PAGE];
    }
    return sum;
}

static uint64_t byte_copy_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < iters; i++) {
        size_t page = i % 16 * PAGE, at = page + i * 61 % PAGE;
        const uint8_t *from = b->a + page;
        uint8_t *to = b->b + page;

        b->a[at] = (uint8_t)(i * 13);
        for (size_t k = 0; k < PAGE; k++) {
            uint8_t byte = from[k];

            BENCH_HIDE(byte); /* or it becomes a call of memcpy */
            to[k] = byte;
        }
        sum += b->b[at];
    }
    return sum;
}

const struct workload bench_memory[] = {
    {"chase_64m", "memory", 300000, chase_large_setup, chase_run, NULL, bench_free},
    {"chase_256k", "memory", 10000000, chase_small_setup, chase_run, NULL, bench_free},
    {"memcpy_8m", "memory", 50, copy_large_setup, memcpy_large_run, copy_verify, bench_free},
    {"memcpy_4k", "memory", 500000, copy_page_setup, memcpy_page_run, copy_verify, bench_free},
    {"byte_copy", "memory", 30000, copy_page_setup, byte_copy_run, copy_verify, bench_free},
    {"movsb_1m", "string", 500, rep_large_setup, rep_large_run, copy_verify, bench_free},
    {"movsb_short", "string", 1500000, copy_page_setup, rep_short_run, copy_verify, bench_free},
    {"stosq_4k", "string", 500000, copy_page_setup, stos_page_run, copy_verify, bench_free},
    {0},
};
