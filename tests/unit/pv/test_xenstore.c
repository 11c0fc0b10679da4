/* SPDX-License-Identifier: MIT */
/* Xenstore through the guest's ring: every message, permissions, watches, transactions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/state.h"
#include "pv/xenstore_priv.h"
#include "store_guest.h"

/* Sanitizers hold freed memory back, so the size of the process means nothing with them. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int path_call(struct store_guest *g, uint32_t type, const char *path)
{
    return store_guest_call1(g, type, path);
}

static void expect_value(struct store_guest *g, const char *path, const char *value)
{
    g_assert_cmpint(path_call(g, XS_READ, path), ==, 0);
    g_assert_cmpstr(g->payload, ==, value);
    g_assert_cmpuint(g->header.len, ==, strlen(value));
}

static void test_read_write(void)
{
    struct store_guest *g = store_guest_new();
    char *value;

    g_assert_cmpuint(g->page->server_features, ==, 3);
    g_assert_cmpint(store_guest_write(g, "data/a/b", "hello"), ==, 0);
    g_assert_cmpstr(g->payload, ==, "OK");
    g_assert_cmpuint(g->header.len, ==, 3);
    expect_value(g, HOME "/data/a/b", "hello");
    expect_value(g, "data/a", "");
    value = xs_read(g->xs, HOME "/data/a/b");
    g_assert_cmpstr(value, ==, "hello");
    g_free(value);
    xs_write(g->xs, HOME "/name", "%s-%d", "guest", 7);
    expect_value(g, "name", "guest-7");
    g_assert_cmpint(path_call(g, XS_READ, "data/none"), ==, ENOENT);
    g_assert_cmpuint(g->notified[STORE_PORT], >, 0);
    store_guest_free(g);
}

static void test_directory(void)
{
    struct store_guest *g = store_guest_new();
    static const char expect[] = "1\0" "2\0" "10\0" "zz";

    store_guest_write(g, "data/10", "");
    store_guest_write(g, "data/zz", "");
    store_guest_write(g, "data/2", "");
    store_guest_write(g, "data/1", "");
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "data"), ==, 0);
    g_assert_cmpmem(g->payload, g->header.len, expect, sizeof(expect));
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "data/1"), ==, 0);
    g_assert_cmpuint(g->header.len, ==, 0);
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "/"), ==, EACCES);
    store_guest_free(g);
}

static void test_directory_part(void)
{
    struct store_guest *g = store_guest_new();
    g_autoptr(GString) list = g_string_new(NULL);
    char offset[16];
    size_t gen;
    unsigned calls = 0, names = 0;

    for (int i = 0; i < 300; i++) {
        xs_write(g->xs, HOME "/name", "x");
        g_snprintf(offset, sizeof(offset), "%d", i);
        {
            g_autofree char *path = g_strdup_printf("data/a-rather-long-name-%d", i);

            g_assert_cmpint(store_guest_write(g, path, ""), ==, 0);
        }
    }
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "data"), ==, E2BIG);
    do {
        g_snprintf(offset, sizeof(offset), "%zu", list->len);
        g_assert_cmpint(store_guest_call2(g, XS_DIRECTORY_PART, "data", offset), ==, 0);
        gen = strlen(g->payload) + 1;
        g_string_append_len(list, g->payload + gen, g->header.len - (gssize)gen);
        g_assert_cmpuint(calls++, <, 10);
    } while (list->len < 2 || list->str[list->len - 2] != '\0');
    for (size_t i = 0; i + 1 < list->len; i += strlen(list->str + i) + 1) {
        g_assert_true(g_str_has_prefix(list->str + i, "a-rather-long-name-"));
        names++;
    }
    g_assert_cmpuint(names, ==, 300);
    g_assert_cmpuint(calls, >, 1);
    g_assert_cmpint(store_guest_call2(g, XS_DIRECTORY_PART, "data/none", "0"), ==, ENOENT);
    g_assert_cmpint(store_guest_call2(g, XS_DIRECTORY_PART, "data", "x"), ==, EINVAL);
    store_guest_free(g);
}

static void test_mkdir_rm(void)
{
    struct store_guest *g = store_guest_new();

    g_assert_cmpint(path_call(g, XS_MKDIR, "data/d/e"), ==, 0);
    g_assert_cmpint(path_call(g, XS_MKDIR, "data/d/e"), ==, 0);
    expect_value(g, "data/d/e", "");
    g_assert_cmpint(path_call(g, XS_RM, "data/d"), ==, 0);
    g_assert_cmpint(path_call(g, XS_READ, "data/d/e"), ==, ENOENT);
    g_assert_cmpint(path_call(g, XS_RM, "data/d"), ==, 0); /* parent exists */
    g_assert_cmpint(path_call(g, XS_RM, "data/d/e"), ==, ENOENT);
    g_assert_cmpint(path_call(g, XS_RM, "/"), ==, EACCES);
    store_guest_free(g);
}

static void test_permissions(void)
{
    struct store_guest *g = store_guest_new();

    xs_write(g->xs, HOME "/secret/key", "42");
    xs_write(g->xs, HOME "/memory/target", "1024");
    expect_value(g, "memory/target", "1024"); /* inherited r1 */
    g_assert_cmpint(store_guest_write(g, "memory/target", "1"), ==, EACCES);
    g_assert_cmpint(store_guest_write(g, "memory/new", "1"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_MKDIR, "new"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_RM, "memory/target"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_READ, "secret/key"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_READ, "secret/none"), ==, EACCES); /* no telling apart */
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "secret"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_GET_PERMS, "secret"), ==, EACCES);
    g_assert_cmpint(path_call(g, XS_READ, "/local/domain/0/none"), ==, ENOENT);
    xs_set_perms(g->xs, HOME "/secret/key", (const char *const[]){ "n0", "b1" }, 2);
    expect_value(g, "secret/key", "42");
    g_assert_cmpint(store_guest_write(g, "secret/key", "43"), ==, 0);
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "secret/key", "n1"), ==, EACCES);
    xs_set_perms(g->xs, HOME "/secret/key", (const char *const[]){ "n0", "w1" }, 2);
    g_assert_cmpint(path_call(g, XS_READ, "secret/key"), ==, EACCES);
    g_assert_cmpint(store_guest_write(g, "secret/key", "44"), ==, 0);
    xs_mkdir(g->xs, HOME "/shared");
    xs_set_perms(g->xs, HOME "/shared", (const char *const[]){ "n0", "b1" }, 2);
    g_assert_cmpint(store_guest_write(g, "shared/mine", "1"), ==, 0); /* now the guest's */
    g_assert_cmpint(path_call(g, XS_GET_PERMS, "shared/mine"), ==, 0);
    g_assert_cmpmem(g->payload, g->header.len, "n1\0b1", 6);
    store_guest_free(g);
}

static void test_set_perms(void)
{
    struct store_guest *g = store_guest_new();
    static const char set[] = "data/p\0n1\0r5\0b7\0w9";
    static const char get[] = "n1\0r5\0b7\0w9";

    store_guest_write(g, "data/p", "v");
    g_assert_cmpint(path_call(g, XS_GET_PERMS, "data/p"), ==, 0);
    g_assert_cmpmem(g->payload, g->header.len, "n1\0r0", 6);
    g_assert_cmpint(store_guest_call(g, XS_SET_PERMS, set, sizeof(set)), ==, 0);
    g_assert_cmpint(path_call(g, XS_GET_PERMS, "data/p"), ==, 0);
    g_assert_cmpmem(g->payload, g->header.len, get, sizeof(get));
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "data/p", "n0"), ==, EPERM);
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "data/p", "x1"), ==, EINVAL);
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "data/p", "n"), ==, EINVAL);
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "data/p", ""), ==, EINVAL);
    g_assert_cmpint(store_guest_call2(g, XS_SET_PERMS, "data/p", "n99999"), ==, EINVAL);
    g_assert_cmpint(path_call(g, XS_SET_PERMS, "data/p"), ==, EINVAL);
    store_guest_free(g);
}

static void test_paths(void)
{
    static const char *const bad[] = { "", "/data/", "data//x", "data/x/", "data/\xc3\xa4",
                                       "data/a b", "data/.", "@releaseDomain", "//" };
    struct store_guest *g = store_guest_new();
    g_autofree char *long_path = g_strnfill(2049, 'a');
    g_autofree char *long_abs = g_strnfill(3073, 'a');

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(path_call(g, XS_READ, bad[i]), ==, EINVAL);
        g_assert_cmpint(store_guest_write(g, bad[i], "x"), ==, EINVAL);
    }
    long_abs[0] = '/';
    g_assert_cmpint(path_call(g, XS_READ, long_path), ==, EINVAL);
    g_assert_cmpint(path_call(g, XS_READ, long_abs), ==, EINVAL);
    long_abs[3072] = '\0';
    g_assert_cmpint(path_call(g, XS_READ, long_abs), ==, EACCES);
    g_assert_cmpint(store_guest_write(g, "data/A-z_0@9", "x"), ==, 0);
    store_guest_free(g);
}

static void test_bad_messages(void)
{
    static const uint32_t refused[] = { XS_CONTROL, XS_INTRODUCE, XS_RELEASE, XS_RESUME,
                                        XS_SET_TARGET };
    struct store_guest *g = store_guest_new();

    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_assert_cmpint(store_guest_call1(g, refused[i], "1"), ==, EACCES);
    }
    g_assert_cmpint(store_guest_call1(g, XS_WATCH_EVENT, "x"), ==, ENOSYS);
    g_assert_cmpint(store_guest_call1(g, XS_ERROR, "x"), ==, ENOSYS);
    g_assert_cmpint(store_guest_call1(g, 20, "x"), ==, ENOSYS);
    g_assert_cmpint(store_guest_call1(g, 0x80000000u, "x"), ==, ENOSYS);
    g_assert_cmpint(store_guest_call(g, XS_READ, "data", 4), ==, EINVAL); /* no NUL */
    g_assert_cmpint(store_guest_call(g, XS_READ, "data\0x", 7), ==, EINVAL);
    g_assert_cmpint(store_guest_call(g, XS_READ, "", 0), ==, EINVAL);
    g_assert_cmpint(store_guest_call(g, XS_WRITE, "data/x", 6), ==, EINVAL);
    g_assert_cmpint(store_guest_call(g, XS_WATCH, "data\0t", 6), ==, EINVAL);
    g_assert_cmpint(store_guest_call(g, XS_SET_PERMS, "data\0n1", 7), ==, EINVAL);
    g_assert_cmpint(store_guest_call1(g, XS_GET_DOMAIN_PATH, "5"), ==, 0);
    g_assert_cmpstr(g->payload, ==, "/local/domain/5");
    g_assert_cmpint(store_guest_call1(g, XS_IS_DOMAIN_INTRODUCED, "1"), ==, 0);
    g_assert_cmpstr(g->payload, ==, "T");
    store_guest_free(g);
}

static void test_watch(void)
{
    struct store_guest *g = store_guest_new();

    g_assert_cmpint(store_guest_call2(g, XS_WATCH, "data", "T1"), ==, 0);
    store_guest_expect(g, "data T1");
    g_assert_cmpint(store_guest_call2(g, XS_WATCH, "data", "T1"), ==, EEXIST);
    g_assert_cmpint(store_guest_call2(g, XS_WATCH, HOME "/data/x", "T2"), ==, 0);
    store_guest_expect(g, HOME "/data/x T2");
    store_guest_write(g, "data/x", "1");
    store_guest_expect(g, "data/x T1");
    store_guest_expect(g, HOME "/data/x T2");
    xs_write(g->xs, HOME "/data/x/y", "2"); /* domain 0 fires too, and children */
    store_guest_expect(g, "data/x/y T1");
    store_guest_expect(g, HOME "/data/x/y T2");
    xs_rm(g->xs, HOME "/data");
    store_guest_expect(g, "data T1");
    store_guest_expect(g, HOME "/data/x T2"); /* once, with its own path */
    store_guest_expect(g, NULL);
    g_assert_cmpint(store_guest_call2(g, XS_UNWATCH, "data", "T2"), ==, ENOENT);
    g_assert_cmpint(store_guest_call2(g, XS_UNWATCH, "data", "T1"), ==, 0);
    xs_write(g->xs, HOME "/data", "%s", "");
    store_guest_expect(g, NULL);
    g_assert_cmpint(store_guest_call1(g, XS_RESET_WATCHES, ""), ==, 0);
    g_assert_cmpint(store_guest_call2(g, XS_WATCH, "@releaseDomain", "R"), ==, 0);
    store_guest_expect(g, "@releaseDomain R");
    g_assert_cmpint(store_guest_call2(g, XS_WATCH, "@other", "R"), ==, EINVAL);
    store_guest_free(g);
}

/* The reply comes first, then the events that the request caused. */
static void test_watch_order(void)
{
    static const struct xsd_sockmsg header = { XS_WRITE, 77, 0, 8 };
    struct store_guest *g = store_guest_new();

    store_guest_call2(g, XS_WATCH, "data", "T");
    store_guest_expect(g, "data T");
    store_guest_put(g, &header, sizeof(header));
    store_guest_put(g, "data/x\0" "1", 8);
    store_guest_kick(g, STORE_PORT);
    g_assert_true(store_guest_read(g));
    g_assert_cmpuint(g->header.type, ==, XS_WRITE);
    g_assert_true(store_guest_read(g));
    g_assert_cmpuint(g->header.type, ==, XS_WATCH_EVENT);
    store_guest_free(g);
}

/* XSA-115: no events about what may not be read. */
static void test_watch_permission(void)
{
    struct store_guest *g = store_guest_new();

    store_guest_call2(g, XS_WATCH, "/", "all");
    store_guest_expect(g, "/ all");
    xs_write(g->xs, HOME "/secret/key", "1");
    xs_write(g->xs, HOME "/secret/key/sub", "1");
    xs_write(g->xs, "/tool/x", "1");
    store_guest_expect(g, NULL);
    xs_set_perms(g->xs, HOME "/secret/key", (const char *const[]){ "n0", "r1" }, 2);
    store_guest_expect(g, HOME "/secret/key all");
    xs_set_perms(g->xs, HOME "/secret/key", (const char *const[]){ "n0" }, 1);
    store_guest_expect(g, HOME "/secret/key all"); /* it could read it before */
    xs_rm(g->xs, HOME "/secret/key");
    store_guest_expect(g, NULL);
    xs_write(g->xs, HOME "/name", "1");
    store_guest_expect(g, HOME "/name all");
    store_guest_free(g);
}

static void test_watch_merge(void)
{
    struct store_guest *g = store_guest_new();

    store_guest_call2(g, XS_WATCH, "data", "T");
    store_guest_expect(g, "data T");
    for (int i = 0; i < 10000; i++) {
        xs_write(g->xs, HOME "/data/x", "%d", i);
    }
    store_guest_expect(g, "data/x T");
    /* the first may be on its way already when the next write comes */
    g_free(store_guest_event(g));
    store_guest_expect(g, NULL);
    for (int i = 0; i < 10000; i++) {
        g_autofree char *path = g_strdup_printf(HOME "/data/%d", i % 500);

        xs_write(g->xs, path, "%d", i);
    }
    g_assert_cmpuint(g->xs->conn.out_bytes, <, 80 * 1024);
    for (unsigned n = 0;; n++) {
        g_autofree char *event = store_guest_event(g);

        g_assert_cmpuint(n, <, 600);
        if (event == NULL) {
            g_assert_cmpuint(n, >, 0);
            break;
        }
        if (strcmp(event, "data T") == 0) { /* stands for the rest */
            store_guest_expect(g, NULL);
            break;
        }
    }
    store_guest_free(g);
}

static void test_transaction(void)
{
    struct store_guest *g = store_guest_new();

    store_guest_call2(g, XS_WATCH, "data", "T");
    store_guest_expect(g, "data T");
    store_guest_start(g);
    g_assert_cmpint(store_guest_call1(g, XS_TRANSACTION_START, ""), ==, EBUSY);
    store_guest_write(g, "data/a", "1");
    store_guest_write(g, "data/a", "2");
    store_guest_write(g, "data/b/c", "3");
    expect_value(g, "data/a", "2");
    g_assert_false(xs_exists(g->xs, HOME "/data/a"));
    store_guest_expect(g, NULL);
    g_assert_cmpint(store_guest_end(g, true), ==, 0);
    store_guest_expect(g, "data/a T");
    store_guest_expect(g, "data/b/c T");
    store_guest_expect(g, NULL);
    expect_value(g, "data/a", "2");
    expect_value(g, "data/b/c", "3");

    store_guest_start(g);
    path_call(g, XS_RM, "data/a");
    g_assert_cmpint(store_guest_end(g, false), ==, 0);
    expect_value(g, "data/a", "2");
    store_guest_start(g);
    path_call(g, XS_RM, "data/b");
    path_call(g, XS_MKDIR, "data/b");
    g_assert_cmpint(path_call(g, XS_READ, "data/b/c"), ==, ENOENT);
    g_assert_cmpint(store_guest_end(g, true), ==, 0);
    g_assert_cmpint(path_call(g, XS_READ, "data/b/c"), ==, ENOENT);
    expect_value(g, "data/b", "");
    g->tx = 4711;
    g_assert_cmpint(path_call(g, XS_READ, "data/b"), ==, ENOENT);
    g_assert_cmpint(store_guest_end(g, true), ==, ENOENT);
    store_guest_free(g);
}

static void test_transaction_conflict(void)
{
    struct store_guest *g = store_guest_new();
    uint32_t first, second;

    store_guest_write(g, "data/n", "0");
    store_guest_start(g);
    first = g->tx;
    g->tx = 0;
    store_guest_start(g);
    second = g->tx;
    expect_value(g, "data/n", "0");
    store_guest_write(g, "data/n", "2");
    g->tx = first;
    expect_value(g, "data/n", "0"); /* isolated */
    store_guest_write(g, "data/n", "1");
    g_assert_cmpint(store_guest_end(g, true), ==, 0); /* the first to commit wins */
    g->tx = second;
    g_assert_cmpint(store_guest_end(g, true), ==, EAGAIN);
    expect_value(g, "data/n", "1");

    store_guest_start(g); /* looked at, absent, then made by domain 0 */
    g_assert_cmpint(path_call(g, XS_READ, "data/new"), ==, ENOENT);
    xs_write(g->xs, HOME "/data/new", "1");
    g_assert_cmpint(store_guest_end(g, true), ==, EAGAIN);

    store_guest_start(g); /* a new child changes the list that was read */
    g_assert_cmpint(path_call(g, XS_DIRECTORY, "data"), ==, 0);
    xs_write(g->xs, HOME "/data/newer", "1");
    g_assert_cmpint(store_guest_end(g, true), ==, EAGAIN);

    store_guest_start(g); /* unrelated changes do not matter */
    store_guest_write(g, "data/mine", "1");
    xs_write(g->xs, HOME "/data/theirs", "1");
    g_assert_cmpint(store_guest_end(g, true), ==, 0);
    expect_value(g, "data/mine", "1");
    expect_value(g, "data/theirs", "1");
    store_guest_free(g);
}

static void test_quota(void)
{
    struct store_guest *g = store_guest_new();
    g_autofree char *big = g_strnfill(2049, 'v');
    int err = 0;
    unsigned n;

    g_assert_cmpint(store_guest_write(g, "data/big", big), ==, ENOSPC);
    big[2048] = '\0';
    g_assert_cmpint(store_guest_write(g, "data/big", big), ==, 0);
    for (n = 0; err == 0; n++) {
        g_autofree char *path = g_strdup_printf("data/%u", n);

        err = store_guest_write(g, path, "");
        g_assert_cmpuint(n, <, 1100);
    }
    g_assert_cmpint(err, ==, ENOSPC);
    g_assert_cmpuint(n, >, 900);
    xs_write(g->xs, HOME "/data/dom0", "1"); /* domain 0 has none */
    g_assert_cmpint(path_call(g, XS_RM, "data"), ==, 0);
    g_assert_cmpuint(g->xs->tree.guest_nodes, ==, 1);
    for (n = 0; n < 128; n++) {
        g_autofree char *token = g_strdup_printf("%u", n);

        g_assert_cmpint(store_guest_call2(g, XS_WATCH, "data", token), ==, 0);
    }
    g_assert_cmpint(store_guest_call2(g, XS_WATCH, "data", "more"), ==, E2BIG);
    for (n = 0; n < 10; n++) {
        store_guest_start(g);
        g->tx = 0;
    }
    g_assert_cmpint(store_guest_call1(g, XS_TRANSACTION_START, ""), ==, ENOSPC);
    store_guest_free(g);
}

/* A message in two parts, with an event for the first only, as Linux can do it. */
static void test_lost_event(void)
{
    struct store_guest *g = store_guest_new();
    const struct xsd_sockmsg header = {.type = XS_READ, .req_id = 9, .len = 5};

    fake_board_advance(g->fb, 10000000);
    store_guest_put(g, &header, sizeof(header));
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->req_cons, ==, sizeof(header));
    store_guest_put(g, "data", 5);
    fake_board_run(g->fb);
    g_assert_cmpuint(g->page->req_cons, ==, sizeof(header));
    fake_board_advance(g->fb, 10000000);
    fake_board_run(g->fb);
    g_assert_cmpuint(g->page->rsp_prod, >, 0);
    g_assert_true(store_guest_read(g));
    g_assert_cmpuint(g->header.req_id, ==, 9);
    fake_board_advance(g->fb, 10000000);
    fake_board_run(g->fb);
    g_assert_null(g->fb->timers); /* nothing moves: nobody looks */
    store_guest_free(g);
}

static void test_bad_index(void)
{
    struct store_guest *g = store_guest_new();

    g->page->req_prod = g->page->req_cons + 1025;
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->error, ==, XENSTORE_ERROR_RINGIDX);
    g->page->req_prod = g->page->req_cons;
    store_guest_put(g, &(struct xsd_sockmsg){ .type = XS_READ }, sizeof(struct xsd_sockmsg));
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->rsp_prod, ==, 0); /* dead */
    g->page->connection = XENSTORE_RECONNECT;
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->connection, ==, XENSTORE_CONNECTED);
    g_assert_cmpuint(g->page->error, ==, XENSTORE_ERROR_NONE);
    expect_value(g, "data", "");
    g->page->rsp_cons = g->page->rsp_prod + 1;
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->error, ==, XENSTORE_ERROR_RINGIDX);
    store_guest_free(g);
}

static void test_bad_length(void)
{
    struct store_guest *g = store_guest_new();

    store_guest_put(g, &(struct xsd_sockmsg){ .type = XS_READ, .len = 4097 },
                    sizeof(struct xsd_sockmsg));
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->error, ==, XENSTORE_ERROR_PROTO);
    store_guest_free(g);
}

/* A kernel started by kexec finds a half-sent message, watches and transactions of another. */
static void test_reconnect(void)
{
    struct store_guest *g = store_guest_new();

    store_guest_call2(g, XS_WATCH, "data", "old");
    store_guest_start(g);
    store_guest_put(g, "\x0b\0\0\0junk", 8);
    store_guest_kick(g, STORE_PORT);
    g->page->connection = XENSTORE_RECONNECT;
    store_guest_kick(g, STORE_PORT);
    g_assert_cmpuint(g->page->connection, ==, XENSTORE_CONNECTED);
    g_assert_cmpuint(g->page->req_prod | g->page->req_cons | g->page->rsp_prod |
                     g->page->rsp_cons, ==, 0);
    g_assert_cmpint(path_call(g, XS_READ, "data"), ==, ENOENT); /* unknown transaction */
    g->tx = 0;
    g_queue_clear_full(&g->events, g_free);
    store_guest_write(g, "data/x", "1");
    store_guest_expect(g, NULL);
    store_guest_free(g);
}

static void count_watch(void *opaque, const char *path)
{
    g_string_append_printf(opaque, "%s ", path);
}

static void test_dom0_watch(void)
{
    struct store_guest *g = store_guest_new();
    g_autoptr(GString) seen = g_string_new(NULL);
    struct xs_watch *w = xs_watch_add(g->xs, HOME "/data/state", count_watch, seen);

    fake_board_run(g->fb);
    g_assert_cmpstr(seen->str, ==, "");
    store_guest_write(g, "data/state", "1");
    store_guest_write(g, "data/other", "1");
    g_assert_cmpstr(seen->str, ==, HOME "/data/state ");
    g_string_truncate(seen, 0);
    xs_write(g->xs, HOME "/data/state", "2");
    xs_write(g->xs, HOME "/data/state", "3"); /* merged */
    fake_board_run(g->fb);
    g_assert_cmpstr(seen->str, ==, HOME "/data/state ");
    g_string_truncate(seen, 0);
    for (int i = 0; i < 1000; i++) {
        g_autofree char *path = g_strdup_printf(HOME "/data/state/%d", i);

        xs_write(g->xs, path, "x");
    }
    fake_board_run(g->fb);
    g_assert_cmpuint(seen->len, <, XS_DOM0_QUEUE * 40);
    g_assert_true(g_str_has_suffix(seen->str, HOME "/data/state "));
    g_string_truncate(seen, 0);
    xs_rm(g->xs, HOME "/data");
    xs_watch_remove(g->xs, w); /* with an event waiting */
    fake_board_run(g->fb);
    g_assert_cmpstr(seen->str, ==, "");
    store_guest_free(g);
}

static void test_state(void)
{
    struct store_guest *g = store_guest_new(), *h = store_guest_new();
    struct state *s = state_new_save();
    const void *data;
    size_t len;

    store_guest_write(g, "data/a", "1");
    store_guest_call2(g, XS_SET_PERMS, "data/a", "b1");
    store_guest_call2(g, XS_WATCH, "data", "T");
    store_guest_start(g);
    xs_write(g->xs, HOME "/data/b", "unread event");
    fake_board_run(g->fb);
    store_guest_put(g, &(struct xsd_sockmsg){ .type = XS_READ, .req_id = 5, .len = 7 }, 16);
    store_guest_kick(g, STORE_PORT); /* half a message */
    xenstore_state(g->xs, s);
    data = state_data(s, &len);
    memcpy(h->page, g->page, MEM_PAGE_SIZE);
    {
        struct state *l = state_new_load(data, len);

        xenstore_state(h->xs, l);
        g_assert_cmpstr(state_error(l), ==, NULL);
        state_free(l);
    }
    fake_board_run(h->fb);
    h->next_req = g->next_req;
    store_guest_put(h, "data/a", 7);
    store_guest_kick(h, STORE_PORT);
    do {
        g_assert_true(store_guest_read(h));
    } while (h->header.type == XS_WATCH_EVENT);
    g_assert_cmpstr(h->payload, ==, "1");
    store_guest_expect(h, "data/b T");
    store_guest_write(h, "data/c", "3");
    store_guest_expect(h, "data/c T");
    path_call(h, XS_GET_PERMS, "data/a");
    g_assert_cmpstr(h->payload, ==, "b1");
    h->tx = g->tx;
    expect_value(h, "data/a", "1");
    g_assert_cmpint(store_guest_end(h, true), ==, EAGAIN); /* Linux tries again */
    g_assert_cmpuint(h->xs->tree.guest_nodes, ==, g->xs->tree.guest_nodes + 1);
    for (size_t cut = 0; cut < len; cut += 7) { /* a cut stream changes nothing for the worse */
        struct state *l = state_new_load(data, cut);

        xenstore_state(h->xs, l);
        g_assert_false(state_ok(l));
        state_free(l);
    }
    state_free(s);
    store_guest_free(g);
    store_guest_free(h);
}

static size_t rss_bytes(void)
{
    g_autofree char *text = NULL;
    unsigned long size, resident;

    g_assert_true(g_file_get_contents("/proc/self/statm", &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%lu %lu", &size, &resident), ==, 2);
    return resident * 4096;
}

/* A path that is often the same, sometimes deep, sometimes long, sometimes wrong. */
static void hostile_path(GRand *rand, GString *path)
{
    int depth = g_rand_int_range(rand, 0, 40) == 0 ? 900 : g_rand_int_range(rand, 1, 5);

    g_string_assign(path, g_rand_int_range(rand, 0, 3) == 0 ? HOME "/data" : "data");
    if (g_rand_int_range(rand, 0, 50) == 0) {
        g_string_assign(path, "/");
        return;
    }
    for (int i = 0; i < depth && path->len < 1900; i++) {
        g_string_append_c(path, '/');
        if (g_rand_int_range(rand, 0, 50) == 0) {
            unsigned len = (unsigned)g_rand_int_range(rand, 1, 1500);

            for (unsigned n = 0; n < len; n++) {
                g_string_append_c(path, 'L');
            }
        } else {
            g_string_append_printf(path, "%d", g_rand_int_range(rand, 0, 40));
        }
    }
}

static void hostile_payload(GRand *rand, uint32_t type, GString *payload)
{
    hostile_path(rand, payload);
    g_string_append_c(payload, '\0');
    if (type == XS_WRITE || type == XS_WATCH || type == XS_UNWATCH) {
        int most = g_rand_int_range(rand, 0, 3) == 0 ? 16 : 2049;
        int len = g_rand_int_range(rand, 0, most);

        for (int i = 0; i < len; i++) {
            g_string_append_c(payload, (char)('a' + i % 3));
        }
        if (type != XS_WRITE) {
            g_string_append_c(payload, '\0');
        }
    } else if (type == XS_SET_PERMS) {
        for (int n = g_rand_int_range(rand, 1, 10); n > 0; n--) {
            g_string_append_len(payload, "n1", 3);
        }
    } else if (type == XS_TRANSACTION_END) {
        g_string_assign(payload, g_rand_boolean(rand) ? "T" : "F");
        g_string_append_c(payload, '\0');
    } else if (type == XS_DIRECTORY_PART) {
        g_string_append_len(payload, "0", 2);
    }
}

/*
 * t_xs_quota: a million messages from a guest that makes what it can, reads replies only now
 * and then, and never ends a transaction in time. What the store holds and what the process
 * holds stay bounded.
 */
static void test_xs_quota(void)
{
    static const uint32_t types[] = { XS_WRITE, XS_WRITE, XS_WRITE, XS_MKDIR, XS_WATCH,
                                      XS_WATCH, XS_RM, XS_SET_PERMS, XS_TRANSACTION_START,
                                      XS_READ, XS_TRANSACTION_END, XS_DIRECTORY,
                                      XS_DIRECTORY_PART, XS_UNWATCH, XS_GET_PERMS };
    struct store_guest *g = store_guest_new();
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    g_autoptr(GString) payload = g_string_sized_new(8192);
    size_t before = rss_bytes(), most = 0, most_rss = 0;
    unsigned sent = 0;
    char junk[1024];

    while (sent < (SANITIZED ? 100000 : 1000000)) {
        struct xsd_sockmsg header = { .req_id = sent };
        size_t done = 0;

        header.type = types[g_rand_int_range(rand, 0, (int)G_N_ELEMENTS(types))];
        if (header.type == XS_RM && g_rand_int_range(rand, 0, 20) != 0) {
            header.type = XS_WRITE; /* more is made than removed */
        }
        hostile_payload(rand, header.type, payload);
        if (g_rand_int_range(rand, 0, 3) == 0) {
            uint32_t last = g->xs->conn.next_tx;

            header.tx_id = last - MIN(last, (uint32_t)g_rand_int_range(rand, 0, 20));
        }
        header.len = (uint32_t)MIN(payload->len, XENSTORE_PAYLOAD_MAX);
        g_string_truncate(payload, header.len);
        g_string_prepend_len(payload, (const char *)&header, sizeof(header));
        while (done < payload->len) {
            size_t n = store_guest_put(g, payload->str + done, payload->len - done);

            done += n;
            store_guest_kick(g, STORE_PORT);
            g_assert_cmpuint(g->page->error, ==, 0);
            if (n == 0 || g_rand_int_range(rand, 0, 16) == 0) {
                store_guest_get(g, junk, sizeof(junk)); /* unwillingly */
            }
        }
        most = MAX(most, xenstore_bytes(g->xs));
        if (++sent % 10000 == 0) {
            most_rss = MAX(most_rss, rss_bytes());
        }
    }
    g_test_message("store %zu KiB at most, process grew by %zd KiB", most / 1024,
                   ((ssize_t)most_rss - (ssize_t)before) / 1024);
    g_assert_cmpuint(most, <, XS_MAX_LIVE_BYTES + 256 * 1024);
    g_assert_cmpuint(most, >, 256 * 1024); /* it did try */
    if (!SANITIZED) {
        g_assert_cmpuint(most_rss, <, before + 4 * 1024 * 1024);
    }
    store_guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/xenstore/read-write", test_read_write);
    g_test_add_func("/pv/xenstore/directory", test_directory);
    g_test_add_func("/pv/xenstore/directory-part", test_directory_part);
    g_test_add_func("/pv/xenstore/mkdir-rm", test_mkdir_rm);
    g_test_add_func("/pv/xenstore/permissions", test_permissions);
    g_test_add_func("/pv/xenstore/set-perms", test_set_perms);
    g_test_add_func("/pv/xenstore/paths", test_paths);
    g_test_add_func("/pv/xenstore/bad-messages", test_bad_messages);
    g_test_add_func("/pv/xenstore/watch", test_watch);
    g_test_add_func("/pv/xenstore/watch-order", test_watch_order);
    g_test_add_func("/pv/xenstore/watch-permission", test_watch_permission);
    g_test_add_func("/pv/xenstore/watch-merge", test_watch_merge);
    g_test_add_func("/pv/xenstore/transaction", test_transaction);
    g_test_add_func("/pv/xenstore/transaction-conflict", test_transaction_conflict);
    g_test_add_func("/pv/xenstore/quota", test_quota);
    g_test_add_func("/pv/xenstore/bad-index", test_bad_index);
    g_test_add_func("/pv/xenstore/lost-event", test_lost_event);
    g_test_add_func("/pv/xenstore/bad-length", test_bad_length);
    g_test_add_func("/pv/xenstore/reconnect", test_reconnect);
    g_test_add_func("/pv/xenstore/dom0-watch", test_dom0_watch);
    g_test_add_func("/pv/xenstore/state", test_state);
    g_test_add_func("/pv/xenstore/t-xs-quota", test_xs_quota);
    return g_test_run();
}
