/* SPDX-License-Identifier: MIT */
/* See speed_kernels.h. Compiled -O2 without anything that would need another section (tables,
 * libc). */
#include "speed_kernels.h"

#define KERNEL      __attribute__((section("speed_text"), noinline))
#define KERNEL_SIMD __attribute__((section("speed_text"), noinline, target("avx2")))

uint64_t speed_fib(uint64_t *data, uint64_t n);
uint64_t speed_sieve(uint64_t *data, uint64_t n);
uint64_t speed_hash(uint64_t *data, uint64_t n);
uint64_t speed_list(uint64_t *data, uint64_t n);
uint64_t speed_copy(uint64_t *data, uint64_t n);
uint64_t speed_sort(uint64_t *data, uint64_t n);
uint64_t speed_double(uint64_t *data, uint64_t n);
uint64_t speed_simd(uint64_t *data, uint64_t n);

KERNEL uint64_t speed_fib(uint64_t *data, uint64_t n)
{
    return n < 2 ? n : speed_fib(data, n - 1) + speed_fib(data, n - 2);
}

KERNEL uint64_t speed_sieve(uint64_t *data, uint64_t n)
{
    uint8_t *p = (uint8_t *)data;
    uint64_t found = 0;

    for (uint64_t round = 0; round < n; round++) {
        for (unsigned i = 2; i < 4000; i++) {
            p[i] = 0;
        }
        for (unsigned i = 2; i < 4000; i++) {
            if (p[i] == 0) {
                found++;
                for (unsigned k = 2 * i; k < 4000; k += i) {
                    p[k] = 1;
                }
            }
        }
    }
    return found;
}

KERNEL uint64_t speed_hash(uint64_t *data, uint64_t n)
{
    uint32_t a = 0x6a09e667, b = 0xbb67ae85, c = 0x3c6ef372, d = (uint32_t)data[0];

    for (uint64_t i = 0; i < n; i++) {
        uint32_t t = a + ((b & c) | (~b & d)) + (uint32_t)i;

        a = d;
        d = c;
        c = b;
        b += t << 7 | t >> 25;
    }
    return a ^ (uint64_t)b << 32 ^ c ^ (uint64_t)d << 16;
}

KERNEL uint64_t speed_list(uint64_t *data, uint64_t n)
{
    uint64_t at = 0, sum = 0;

    for (unsigned i = 0; i < 512; i++) {
        data[i] = (i * 5 + 1) % 512;
    }
    for (uint64_t i = 0; i < n; i++) {
        at = data[at];
        sum += at;
    }
    return sum;
}

KERNEL uint64_t speed_copy(uint64_t *data, uint64_t n)
{
    uint8_t *p = (uint8_t *)data;
    uint64_t sum = 0;

    for (uint64_t round = 0; round < n; round++) {
        void *to = p + 2048;
        const void *from = p;
        uint64_t count = 1500;

        p[round & 1023] = (uint8_t)round;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
        sum += p[2048 + (round & 1023)];
    }
    return sum;
}

KERNEL uint64_t speed_sort(uint64_t *data, uint64_t n)
{
    uint64_t x = 12345, sum = 0;

    for (uint64_t round = 0; round < n; round++) {
        for (unsigned i = 0; i < 64; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            data[i] = x >> 33;
        }
        for (unsigned i = 1; i < 64; i++) {
            uint64_t v = data[i];
            unsigned k = i;

            for (; k > 0 && data[k - 1] > v; k--) {
                data[k] = data[k - 1];
            }
            data[k] = v;
        }
        sum += data[0] + data[63];
    }
    return sum;
}

KERNEL uint64_t speed_double(uint64_t *data, uint64_t n)
{
    double a = (double)n, b = 1, c = a * b;

    for (uint64_t i = 0; i < n; i++) {
        b = b * a - c;
        c = c / a + b;
        a += (double)(i & 7);
    }
    data[0] = (uint64_t)(c != c);
    return data[0];
}

KERNEL_SIMD uint64_t speed_simd(uint64_t *data, uint64_t n)
{
    typedef uint32_t v8 __attribute__((vector_size(32), aligned(4)));
    v8 *v = (v8 *)data;
    uint64_t sum = 0;

    for (uint64_t round = 0; round < n; round++) {
        for (unsigned i = 0; i < 100; i++) {
            v[i] = v[i] + v[i] + (v[i] ^ v[i + 1]) + (uint32_t)round;
        }
        sum += v[round & 63][0];
    }
    return sum;
}

const struct speed_kernel speed_kernels[] = {
    {"fib", speed_fib, 27},
    {"sieve", speed_sieve, 300},
    {"hash", speed_hash, 3000000},
    {"list", speed_list, 5000000},
    {"rep movsb", speed_copy, 200000},
    {"sort", speed_sort, 2000},
    {"double", speed_double, 2000000},
    {"avx2", speed_simd, 10000},
};
const unsigned speed_nr_kernels = sizeof(speed_kernels) / sizeof(speed_kernels[0]);
