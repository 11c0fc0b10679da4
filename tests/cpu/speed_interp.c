/* SPDX-License-Identifier: MIT */
/*
 * speed_interp [-json]: small kernels of ordinary compiled code, once natively and once on the
 * interpreter, at CPL 3 with paging; results must be equal. Prints millions of guest
 * instructions per second and how many times slower than native. Not a test of speed in CI,
 * only of equal results.
 */
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "oracle.h"
#include "speed_kernels.h"

enum { ROUNDS = 3 };

static double seconds(void)
{
    return (double)g_get_monotonic_time() / 1e6;
}

static void speed_one(const struct speed_kernel *k)
{
    double native = 1e9, engine = 1e9;
    uint64_t expect = 0, got = 0, insns = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        double t = seconds();

        memset((void *)(uintptr_t)ORACLE_DATA, 0, ORACLE_RW_SIZE);
        expect = k->fn((uint64_t *)(uintptr_t)ORACLE_DATA, k->n);
        native = MIN(native, seconds() - t);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        double t = seconds();

        got = oracle_guest_call(
            (const uint8_t *)speed_text_start, (size_t)(speed_text_end - speed_text_start),
            (size_t)((const char *)(uintptr_t)k->fn - speed_text_start), k->n, &insns);
        engine = MIN(engine, seconds() - t);
    }
    printf("%-12s %8.1f M insn/s  %6.1f x native  %s\n", k->name, (double)insns / engine / 1e6,
           engine / native, got == expect ? "" : "WRONG RESULT");
    g_assert_cmphex(got, ==, expect);
}

int main(int argc, char **argv)
{
    struct cpu_model *model;

    if (!interp_accel_ops.probe(NULL)) {
        return 77;
    }
    model = cpu_model_new_host(NULL);
    oracle_host_reserve();
    oracle_guest_init(argc > 1 ? &dbt_accel_ops : &interp_accel_ops, model);
    oracle_host_init();
    for (unsigned i = 0; i < speed_nr_kernels; i++) {
        speed_one(&speed_kernels[i]);
    }
    oracle_guest_fini();
    cpu_model_free(model);
    return 0;
}
