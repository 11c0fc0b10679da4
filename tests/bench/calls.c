/* SPDX-License-Identifier: MIT */
/*
 * Control flow: calls and returns, a byte-code interpreter by calls through a table and by
 * computed goto, and much code of which each part runs seldom.
 */
#include "bench.h"

#include <stddef.h>

/* --- calls and returns --- */

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    uint64_t one, two;

    if (n < 2) {
        return n;
    }
    one = fib(n - 1);
    BENCH_HIDE(one); /* or the compiler unrolls the recursion */
    two = fib(n - 2);
    return one + two;
}

static uint64_t fib_run(struct bench *b, uint64_t iters)
{
    uint64_t sum = 0;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        sum += fib(20 + i % 3);
    }
    return sum;
}

/* --- one byte-code machine, two ways to run it --- */

enum op { OP_ADD, OP_XOR, OP_MUL, OP_ROL, OP_LOAD, OP_STORE, OP_SKIP_ODD, OP_NEXT, NR_OPS };

/* What the body of the loop does; OP_NEXT goes back to the first. */
static const uint8_t program[] = {
    OP_ADD, OP_XOR,  OP_LOAD, OP_SKIP_ODD, OP_MUL, OP_ADD,   OP_STORE, OP_ROL,
    OP_XOR, OP_LOAD, OP_ADD,  OP_SKIP_ODD, OP_ROL, OP_STORE, OP_XOR,   OP_NEXT,
};

struct vm {
    uint64_t acc, left;
    uint64_t memory[64];
    const uint8_t *pc;
};

static void op_add(struct vm *vm)
{
    vm->acc += vm->left;
}

static void op_xor(struct vm *vm)
{
    vm->acc ^= 0x5bd1e995;
}

static void op_mul(struct vm *vm)
{
    vm->acc *= 0x9e3779b97f4a7c15u;
}

static void op_rol(struct vm *vm)
{
    vm->acc = vm->acc << 13 | vm->acc >> 51;
}

static void op_load(struct vm *vm)
{
    vm->acc += vm->memory[vm->acc % 64];
}

static void op_store(struct vm *vm)
{
    vm->memory[vm->left % 64] = vm->acc;
}

static void op_skip_odd(struct vm *vm)
{
    vm->pc += vm->acc & 1;
}

static void op_next(struct vm *vm)
{
    vm->left--;
    vm->pc = program;
}

static void vm_start(struct vm *vm, uint64_t iters)
{
    vm->acc = 1;
    vm->left = iters;
    vm->pc = program;
    for (unsigned i = 0; i < 64; i++) {
        vm->memory[i] = i * i;
    }
}

static uint64_t interp_call_run(struct bench *b, uint64_t iters)
{
    static void (*const table[NR_OPS])(struct vm *) = {op_add,  op_xor,   op_mul,      op_rol,
                                                       op_load, op_store, op_skip_odd, op_next};
    struct vm vm;

    (void)b;
    vm_start(&vm, iters);
    while (vm.left > 0) {
        table[*vm.pc++](&vm);
    }
    return bench_mix(vm.acc, vm.memory[7]);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* addresses of labels are what is measured */
static uint64_t interp_goto_run(struct bench *b, uint64_t iters)
{
    static const void *const table[NR_OPS] = {&&add,  &&xor,   &&mul,      &&rol,
                                              &&load, &&store, &&skip_odd, &&next};
    struct vm vm;

    (void)b;
    vm_start(&vm, iters);
    if (iters == 0) {
        return 0;
    }
    goto *table[*vm.pc++];
add:
    op_add(&vm);
    goto *table[*vm.pc++];
xor:
    op_xor(&vm);
    goto *table[*vm.pc++];
mul:
    op_mul(&vm);
    goto *table[*vm.pc++];
rol:
    op_rol(&vm);
    goto *table[*vm.pc++];
load:
    op_load(&vm);
    goto *table[*vm.pc++];
store:
    op_store(&vm);
    goto *table[*vm.pc++];
skip_odd:
    op_skip_odd(&vm);
    goto *table[*vm.pc++];
next:
    op_next(&vm);
    if (vm.left > 0) {
        goto *table[*vm.pc++];
    }
    return bench_mix(vm.acc, vm.memory[7]);
}
#pragma GCC diagnostic pop

/* --- 1024 functions of about 60 bytes each, called in an order that no loop predicts --- */

#define WIDE_FUNCTION(n)                                                                       \
    static __attribute__((noinline)) uint32_t wide_##n(uint32_t x)                             \
    {                                                                                          \
        x ^= 0x##n##u * 0x9e3779b1u;                                                           \
        x = x << (0x##n % 31 + 1) | x >> (31 - 0x##n % 31);                                    \
        if ((x & (0x##n | 1)) != 0) {                                                          \
            x += 0x##n##u * 77 + 1;                                                            \
        }                                                                                      \
        return x * (0x##n * 8 + 5) ^ x >> 15;                                                  \
    }
#define WIDE_NAME(n) wide_##n,

#define WIDE_16(each, n)                                                                       \
    each(n##0) each(n##1) each(n##2) each(n##3) each(n##4) each(n##5) each(n##6) each(n##7)    \
        each(n##8) each(n##9) each(n##a) each(n##b) each(n##c) each(n##d) each(n##e) each(n##f)
#define WIDE_256(each, n)                                                                      \
    WIDE_16(each, n##0) WIDE_16(each, n##1) WIDE_16(each, n##2) WIDE_16(each, n##3)            \
    WIDE_16(each, n##4) WIDE_16(each, n##5) WIDE_16(each, n##6) WIDE_16(each, n##7)            \
    WIDE_16(each, n##8) WIDE_16(each, n##9) WIDE_16(each, n##a) WIDE_16(each, n##b)            \
    WIDE_16(each, n##c) WIDE_16(each, n##d) WIDE_16(each, n##e) WIDE_16(each, n##f)
#define WIDE_1024(each) WIDE_256(each, 1) WIDE_256(each, 2) WIDE_256(each, 3) WIDE_256(each, 4)

WIDE_1024(WIDE_FUNCTION)

static uint64_t wide_run(struct bench *b, uint64_t iters)
{
    static uint32_t (*const table[])(uint32_t) = {WIDE_1024(WIDE_NAME)};
    enum { COUNT = sizeof(table) / sizeof(table[0]) };
    uint32_t x = 1;

    (void)b;
    for (uint64_t i = 0; i < iters; i++) {
        for (unsigned k = 0; k < COUNT; k++) { /* an odd step meets every function once */
            x = table[(k * 389 + i * 7) % COUNT](x);
        }
    }
    return x;
}

const struct workload bench_calls[] = {
    {"fib", "calls", 700, NULL, fib_run, NULL, NULL},
    {"interp_call", "calls", 700000, NULL, interp_call_run, NULL, NULL},
    {"interp_goto", "calls", 2000000, NULL, interp_goto_run, NULL, NULL},
    {"code_wide", "calls", 4000, NULL, wide_run, NULL, NULL},
    {0},
};
