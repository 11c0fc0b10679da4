/* SPDX-License-Identifier: MIT */
/*
 * Levels of words, the widest first; the last is one word.
 */
#include "base/bit_tree.h"

#include <glib.h>

enum { TREE_LEVELS = 11 /* 64 to this power is above UINT64_MAX */, WORD_SHIFT = 6 };

struct bit_tree {
    unsigned levels;
    uint64_t *word[TREE_LEVELS];
};

struct bit_tree *bit_tree_new(uint64_t limit)
{
    struct bit_tree *t = g_new0(struct bit_tree, 1);
    uint64_t bits = MAX(limit, 1), words;

    do {
        words = ((bits - 1) >> WORD_SHIFT) + 1;
        t->word[t->levels++] = g_new0(uint64_t, words);
        bits = words;
    } while (words > 1);
    return t;
}

void bit_tree_free(struct bit_tree *t)
{
    if (t == NULL) {
        return;
    }
    for (unsigned i = 0; i < t->levels; i++) {
        g_free(t->word[i]);
    }
    g_free(t);
}

void bit_tree_put(struct bit_tree *t, uint64_t n, bool in)
{
    for (unsigned i = 0; i < t->levels; i++) {
        uint64_t *word = &t->word[i][n >> WORD_SHIFT], before = *word;
        const uint64_t bit = 1ull << (n & 63);

        *word = in ? before | bit : before & ~bit;
        if ((*word != 0) == (before != 0)) {
            return; /* nothing above changes */
        }
        n >>= WORD_SHIFT;
    }
}

bool bit_tree_has(const struct bit_tree *t, uint64_t n)
{
    return (t->word[0][n >> WORD_SHIFT] >> (n & 63) & 1) != 0;
}

uint64_t bit_tree_first(const struct bit_tree *t)
{
    uint64_t n = 0;

    if (t->word[t->levels - 1][0] == 0) {
        return BIT_TREE_NONE;
    }
    for (unsigned i = t->levels; i-- > 0;) {
        n = n << WORD_SHIFT | (uint64_t)__builtin_ctzll(t->word[i][n]);
    }
    return n;
}
