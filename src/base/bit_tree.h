/* SPDX-License-Identifier: MIT */
/*
 * A set of numbers below a limit, of which the least is found in no time: a bitmap, above it a
 * bit for each of its words that has one set, and so on. It takes a bit and a sixty-third of
 * one for each number. No lock.
 */
#ifndef PVEMU_BASE_BIT_TREE_H
#define PVEMU_BASE_BIT_TREE_H

#include <stdbool.h>
#include <stdint.h>

#define BIT_TREE_NONE UINT64_MAX

struct bit_tree;

/* The empty set of numbers below limit. To be freed by bit_tree_free(). */
struct bit_tree *bit_tree_new(uint64_t limit);
void bit_tree_free(struct bit_tree *t); /* NULL: nothing happens */
/* n < limit. Is n in it from now on? */
void bit_tree_put(struct bit_tree *t, uint64_t n, bool in);
bool bit_tree_has(const struct bit_tree *t, uint64_t n);
/* The least of them, or BIT_TREE_NONE. */
uint64_t bit_tree_first(const struct bit_tree *t);

#endif
