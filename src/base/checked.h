/* SPDX-License-Identifier: MIT */
/* Arithmetic on sizes and offsets that came from a guest or an image: never wraps silently. */
#ifndef PVEMU_BASE_CHECKED_H
#define PVEMU_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* *sum = a + b; false when the sum does not fit. */
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/* *product = a * b; false when the product does not fit. */
static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* true when [offset, offset + len) lies inside [0, size). */
static inline bool checked_range(uint64_t offset, uint64_t len, uint64_t size)
{
    return offset <= size && len <= size - offset;
}

#endif
