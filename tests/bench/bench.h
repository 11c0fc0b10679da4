/* SPDX-License-Identifier: MIT */
/*
 * The benchmark program: one small workload per thing an engine can be slow at. The same
 * static binary runs natively, on pvemu and on QEMU; each workload is deterministic, and its
 * check value must be equal everywhere (tests/bench/run.sh).
 */
#ifndef PVEMU_BENCH_H
#define PVEMU_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a workload keeps between setup and teardown. */
struct bench {
    uint8_t *a, *b; /* bench_buffers() */
    size_t size;    /* of each of them */
    int to_child, from_child;
    pid_t child;
};

struct workload {
    const char *name, *group;
    uint64_t iters;                                   /* at -scale 1: 10 to 100 ms natively */
    bool (*setup)(struct bench *b);                   /* untimed; false: cannot run here */
    uint64_t (*run)(struct bench *b, uint64_t iters); /* timed; the same value every time */
    uint64_t (*verify)(struct bench *b);              /* untimed, mixed into the check value */
    void (*teardown)(struct bench *b);
};

extern const struct workload bench_integer[], bench_calls[], bench_floats[], bench_memory[],
    bench_system[], bench_code[], bench_smp[];

/* The timed program started again as `bench true N`: exits with N. */
#define BENCH_TRUE "true"

uint64_t bench_mix(uint64_t hash, uint64_t value);
uint64_t bench_hash(const void *data, size_t size);
/* A small generator; *state may be anything. */
uint32_t bench_random(uint64_t *state);
/* a (and b, if both) of `size` bytes, touched and filled with the same bytes every time. */
bool bench_buffers(struct bench *b, size_t size, bool both);
void bench_free(struct bench *b);
/* Keeps the compiler from knowing a value, or from leaving out what made it. */
#define BENCH_HIDE(x) __asm__ volatile("" : "+r"(x) : : "memory")

#endif
