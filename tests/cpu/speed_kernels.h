/* SPDX-License-Identifier: MIT */
/* Self-contained functions in a section of their own, for running as a guest. */
#ifndef PVEMU_TESTS_SPEED_KERNELS_H
#define PVEMU_TESTS_SPEED_KERNELS_H

#include <stdint.h>

struct speed_kernel {
    const char *name;
    uint64_t (*fn)(uint64_t *data, uint64_t n); /* data: 8 KiB */
    uint64_t n;
};

extern const struct speed_kernel speed_kernels[];
extern const unsigned speed_nr_kernels;
/* By the linker: the section's bounds. */
extern const char __start_speed_text[], __stop_speed_text[];
#define speed_text_start __start_speed_text
#define speed_text_end   __stop_speed_text

#endif
