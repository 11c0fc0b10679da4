/* SPDX-License-Identifier: MIT */
/*
 * Floating point in SSE registers and in the x87, and integer vectors. Only operations that
 * IEEE 754 defines to the last bit, so that the check value is one everywhere.
 */
#include "bench.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { MATRIX = 64, BODIES = 5, SIMD_BYTES = 16384 };

/* --- matmul --- */

static bool matmul_setup(struct bench *b)
{
    double *a, *c;

    if (!bench_buffers(b, 2 * MATRIX * MATRIX * sizeof(double), true)) {
        return false;
    }
    a = (double *)(void *)b->a;
    c = (double *)(void *)b->b;
    for (int i = 0; i < MATRIX * MATRIX; i++) {
        a[i] = 1.0 + (i % 17) / 16.0;
        c[i] = 1.0 - (i % 13) / 8.0;
    }
    return true;
}

static uint64_t matmul_run(struct bench *b, uint64_t iters)
{
    const double *x = (const double *)(void *)b->a, *y = (const double *)(void *)b->b;
    double *z = (double *)(void *)b->a + MATRIX * MATRIX;

    memset(z, 0, MATRIX * MATRIX * sizeof(double));
    for (uint64_t round = 0; round < iters; round++) {
        for (int i = 0; i < MATRIX; i++) {
            for (int j = 0; j < MATRIX; j++) {
                double sum = 0;

                for (int k = 0; k < MATRIX; k++) {
                    sum += x[i * MATRIX + k] * y[k * MATRIX + j];
                }
                z[i * MATRIX + j] = z[i * MATRIX + j] * 0.5 + sum;
            }
        }
    }
    return bench_hash(z, MATRIX * MATRIX * sizeof(double));
}

/* --- nbody: planets, leap-frog --- */

struct body {
    double at[3], speed[3], mass;
};

static void nbody_step(struct body *bodies)
{
    const double dt = 0.01;

    for (int i = 0; i < BODIES; i++) {
        for (int k = i + 1; k < BODIES; k++) {
            double d[3], square = 0.01, force;

            for (int n = 0; n < 3; n++) {
                d[n] = bodies[i].at[n] - bodies[k].at[n];
                square += d[n] * d[n];
            }
            force = dt / (square * sqrt(square));
            for (int n = 0; n < 3; n++) {
                bodies[i].speed[n] -= d[n] * bodies[k].mass * force;
                bodies[k].speed[n] += d[n] * bodies[i].mass * force;
            }
        }
    }
    for (int i = 0; i < BODIES; i++) {
        for (int n = 0; n < 3; n++) {
            bodies[i].at[n] += dt * bodies[i].speed[n];
        }
    }
}

static uint64_t nbody_run(struct bench *b, uint64_t iters)
{
    struct body bodies[BODIES];

    (void)b;
    for (int i = 0; i < BODIES; i++) {
        bodies[i] = (struct body){
            {i * 1.5, 4.0 - i, i % 2}, {0.25 * (i % 3), 0.125 * i, -0.1}, 1.0 + i};
    }
    for (uint64_t i = 0; i < iters; i++) {
        nbody_step(bodies);
    }
    return bench_hash(bodies, sizeof(bodies));
}

/* --- x87 --- */

static uint64_t x87_run(struct bench *b, uint64_t iters)
{
    long double x = 1.5L, y = 0.25L, z = 3.0L;
    uint8_t bytes[3][16] = {{0}};

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        long double n = (long double)(int64_t)(i & 1023);

        x = (x * 0.75L + n) / (y + 2.0L);
        y = sqrtl(x * x + 1.0L) - y * 0.5L;
        z = z * 0.99609375L + x - y;
    }
    memcpy(bytes[0], &x, 10);
    memcpy(bytes[1], &y, 10);
    memcpy(bytes[2], &z, 10);
    return bench_hash(bytes, sizeof(bytes));
}

/* --- integer vectors: the same steps with 128 and with 256 bits --- */

static bool simd_setup(struct bench *b)
{
    return bench_buffers(b, SIMD_BYTES, true);
}

static bool avx2_setup(struct bench *b)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && bench_buffers(b, SIMD_BYTES, true);
}

static uint64_t sse2_run(struct bench *b, uint64_t iters)
{
    __m128i *out = (__m128i *)(void *)b->b, sum = _mm_setzero_si128();

    for (uint64_t round = 0; round < iters; round++) {
        __m128i salt = _mm_set1_epi32((int)round);
        const __m128i *in = (const __m128i *)(void *)b->a;

        BENCH_HIDE(in);
        for (size_t i = 0; i < SIMD_BYTES / sizeof(*in); i++) {
            __m128i v = _mm_add_epi32(_mm_load_si128(in + i), salt);
            __m128i w = _mm_xor_si128(_mm_slli_epi32(v, 7), _mm_srli_epi32(v, 9));

            w = _mm_madd_epi16(w, _mm_shuffle_epi32(v, 0x1b));
            w = _mm_max_epi16(w, _mm_unpacklo_epi8(v, w));
            _mm_store_si128(out + i, w);
            sum = _mm_add_epi64(sum, _mm_sad_epu8(v, w));
        }
    }
    return bench_hash(&sum, sizeof(sum)) ^ bench_hash(b->b, SIMD_BYTES);
}

static __attribute__((target("avx2"))) uint64_t avx2_run(struct bench *b, uint64_t iters)
{
    __m256i *out = (__m256i *)(void *)b->b, sum = _mm256_setzero_si256();

    for (uint64_t round = 0; round < iters; round++) {
        __m256i salt = _mm256_set1_epi32((int)round);
        const __m256i *in = (const __m256i *)(void *)b->a;

        BENCH_HIDE(in);
        for (size_t i = 0; i < SIMD_BYTES / sizeof(*in); i++) {
            __m256i v = _mm256_add_epi32(_mm256_load_si256(in + i), salt);
            __m256i w = _mm256_xor_si256(_mm256_slli_epi32(v, 7), _mm256_srli_epi32(v, 9));

            w = _mm256_madd_epi16(w, _mm256_shuffle_epi32(v, 0x1b));
            w = _mm256_max_epi16(w, _mm256_unpacklo_epi8(v, w));
            w = _mm256_shuffle_epi8(w, v);
            _mm256_store_si256(out + i, _mm256_permute2x128_si256(w, v, 0x21));
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(v, w));
        }
    }
    return bench_hash(&sum, sizeof(sum)) ^ bench_hash(b->b, SIMD_BYTES);
}

const struct workload bench_floats[] = {
    {"matmul", "float", 250, matmul_setup, matmul_run, NULL, bench_free},
    {"nbody", "float", 200000, NULL, nbody_run, NULL, NULL},
    {"x87", "float", 1000000, NULL, x87_run, NULL, NULL},
    {"simd_sse2", "float", 20000, simd_setup, sse2_run, NULL, bench_free},
    {"simd_avx2", "float", 30000, avx2_setup, avx2_run, NULL, bench_free},
    {0},
};
