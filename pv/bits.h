/* SPDX-License-Identifier: MIT */
/*
 * Atomic accesses to words in pages shared with the guest. All are full barriers, as the LOCKed
 * instructions that both sides use: the order of the steps is the protocol (xen-abi 4.1). Words of
 * 32 bits, which make the same bitmaps as the 64-bit ones of a 64-bit guest.
 */
#ifndef PVEMU_PV_BITS_H
#define PVEMU_PV_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool bits_test(const uint32_t *words, unsigned bit)
{
    return (__atomic_load_n(&words[bit / 32], __ATOMIC_SEQ_CST) >> (bit % 32) & 1) != 0;
}

static inline bool bits_test_and_set(uint32_t *words, unsigned bit)
{
    uint32_t mask = 1u << (bit % 32);

    return (__atomic_fetch_or(&words[bit / 32], mask, __ATOMIC_SEQ_CST) & mask) != 0;
}

static inline bool bits_test_and_clear(uint32_t *words, unsigned bit)
{
    uint32_t mask = 1u << (bit % 32);

    return (__atomic_fetch_and(&words[bit / 32], ~mask, __ATOMIC_SEQ_CST) & mask) != 0;
}

#endif
