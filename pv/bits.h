/* SPDX-License-Identifier: MIT */
/*
 * Atomic accesses to words in pages shared with the guest. All are full barriers, as the LOCKed
 * instructions that both sides use: the order of the steps is the protocol (xen-abi 4.1).
 */
#ifndef PVEMU_PV_BITS_H
#define PVEMU_PV_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline bool bits_test(const uint64_t *words, unsigned bit)
{
    return (__atomic_load_n(&words[bit / 64], __ATOMIC_SEQ_CST) >> (bit % 64) & 1) != 0;
}

static inline bool bits_test_and_set(uint64_t *words, unsigned bit)
{
    uint64_t mask = 1ull << (bit % 64);

    return (__atomic_fetch_or(&words[bit / 64], mask, __ATOMIC_SEQ_CST) & mask) != 0;
}

static inline bool bits_test_and_clear(uint64_t *words, unsigned bit)
{
    uint64_t mask = 1ull << (bit % 64);

    return (__atomic_fetch_and(&words[bit / 64], ~mask, __ATOMIC_SEQ_CST) & mask) != 0;
}

#endif
