/* SPDX-License-Identifier: MIT */
/* Arenas: zeroes, at an address that was asked for, in common with forked processes. */
#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"

enum { SIZE = 3 << 20, AT = 2 << 20 };

static void test_zeroes(void)
{
    uint8_t *p = arena_map(NULL, SIZE);

    g_assert_nonnull(p);
    g_assert_cmpuint((uintptr_t)p % 4096, ==, 0);
    g_assert_cmpuint(p[0], ==, 0);
    g_assert_true(memcmp(p, p + 1, SIZE - 1) == 0);
    arena_unmap(p, SIZE);
    arena_unmap(NULL, SIZE);
}

static void test_place(void)
{
    uint8_t *p = arena_map(NULL, SIZE);

    p[AT] = 1;
    g_assert_null(arena_map(p + AT, 4096)); /* taken, and left as it is */
    g_assert_cmpint(errno, ==, EEXIST);
    g_assert_cmpuint(p[AT], ==, 1);
    arena_unmap(p + AT, 4096);
    g_assert_true(arena_map(p + AT, 4096) == p + AT);
    g_assert_cmpuint(p[AT], ==, 0);
    arena_unmap(p, SIZE);
}

static void test_fork(void)
{
    uint8_t *p = arena_map(NULL, SIZE);
    pid_t child;
    int status;

    p[0] = 1; /* one page that is there already, and one that is not */
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        p[AT] = p[0] + 1;
        p[0] = 3;
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpuint(p[0], ==, 3);
    g_assert_cmpuint(p[AT], ==, 2);
    arena_unmap(p, SIZE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/arena/zeroes", test_zeroes);
    g_test_add_func("/base/arena/place", test_place);
    g_test_add_func("/base/arena/fork", test_fork);
    return g_test_run();
}
