/* SPDX-License-Identifier: MIT */
/* bit_tree against a plain array. */
#include <glib.h>

#include "base/bit_tree.h"

static void check(uint64_t limit, unsigned steps)
{
    struct bit_tree *t = bit_tree_new(limit);
    g_autofree bool *in = g_new0(bool, limit);
    GRand *r = g_rand_new_with_seed((guint32)g_test_rand_int());

    g_assert_cmpuint(bit_tree_first(t), ==, BIT_TREE_NONE);
    for (unsigned step = 0; step < steps; step++) {
        const uint64_t n = (uint64_t)g_rand_int_range(r, 0, (gint32)limit);
        const bool put = g_rand_int_range(r, 0, (step / 256) % 2 == 0 ? 2 : 16) == 0;
        uint64_t first = 0;

        bit_tree_put(t, n, put);
        in[n] = put;
        g_assert_true(bit_tree_has(t, n) == put);
        while (first < limit && !in[first]) {
            first++;
        }
        g_assert_cmpuint(bit_tree_first(t), ==, first < limit ? first : BIT_TREE_NONE);
    }
    g_rand_free(r);
    bit_tree_free(t);
}

static void test_random(void)
{
    static const uint64_t limits[] = {1, 2, 63, 64, 65, 4095, 4096, 4097, 300000};

    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        check(limits[i], limits[i] > 10000 ? 2000 : 20000);
    }
    bit_tree_free(NULL);
}

static void test_ends(void)
{
    struct bit_tree *t = bit_tree_new(1ull << 28);

    bit_tree_put(t, (1ull << 28) - 1, true);
    g_assert_cmpuint(bit_tree_first(t), ==, (1ull << 28) - 1);
    bit_tree_put(t, 0, true);
    g_assert_cmpuint(bit_tree_first(t), ==, 0);
    bit_tree_put(t, 0, false);
    g_assert_cmpuint(bit_tree_first(t), ==, (1ull << 28) - 1);
    bit_tree_put(t, (1ull << 28) - 1, false);
    g_assert_cmpuint(bit_tree_first(t), ==, BIT_TREE_NONE);
    bit_tree_free(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/bit-tree/random", test_random);
    g_test_add_func("/base/bit-tree/ends", test_ends);
    return g_test_run();
}
