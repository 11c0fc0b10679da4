/* SPDX-License-Identifier: MIT */
/* The console watch: lines, prompts, escape sequences, which pattern wins. */
#include <glib.h>
#include <string.h>

#include "ctl/watch.h"

/* What was seen, as "panic(text) fail(text) ...". */
static void seen_event(void *opaque, enum watch_event event, const char *text, size_t len)
{
    static const char *const names[] = {"panic", "fail", "expect", "send"};

    g_string_append_printf(opaque, "%s(", names[event]);
    g_string_append_len(opaque, text, (gssize)len);
    g_string_append_c(opaque, ')');
}

struct fixture {
    GString *seen;
    GPtrArray *sends;
    struct watch *watch;
};

static void setup(struct fixture *f, const char *expect, const char *fail, const char *sends)
{
    static const struct watch_handlers handlers = {.event = seen_event};
    g_auto(GStrv) words = g_strsplit(sends, "|", -1);

    f->seen = g_string_new(NULL);
    f->sends = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; words[i] != NULL; i++) {
        g_ptr_array_add(f->sends, g_strdup(words[i]));
    }
    f->watch = watch_new(expect, fail, f->sends, &handlers, f->seen, NULL);
    g_assert_nonnull(f->watch);
}

static void teardown(struct fixture *f)
{
    watch_free(f->watch);
    g_ptr_array_unref(f->sends);
    g_string_free(f->seen, TRUE);
}

static void feed(struct fixture *f, const char *text)
{
    watch_feed(f->watch, (const uint8_t *)text, strlen(text));
}

/* Feeds text in one piece and byte by byte, and compares what is seen. */
static void check(const char *expect, const char *fail, const char *text, const char *want)
{
    struct fixture f;

    setup(&f, expect, fail, "");
    feed(&f, text);
    g_assert_cmpstr(f.seen->str, ==, want);
    g_assert_cmpuint(watch_bytes(f.watch), ==, strlen(text));
    teardown(&f);
    setup(&f, expect, fail, "");
    for (size_t i = 0; text[i] != '\0'; i++) {
        watch_feed(f.watch, (const uint8_t *)text + i, 1);
    }
    g_assert_cmpstr(f.seen->str, ==, want);
    teardown(&f);
}

static void test_lines(void)
{
    check("^ab$", NULL, "a\nb\nab\nab\n", "expect(ab)");
    check("ab", NULL, "a\nb\n", "");
    check("^done$", NULL, "done\r\n", "expect(done)");
    check("^done$", NULL, "done\r\r\n", "expect(done)");
    check("login: $", NULL, "boot\r\nhost login: ", "expect(host login: )");
    check("^$", NULL, "\n", "expect()");
    check("\\xff", NULL, "a\xff\n", "expect(a\xff)");
}

static void test_escapes(void)
{
    check("^green$", NULL, "\033[1;32mgreen\033[0m\n", "expect(green)");
    check("^text$", NULL, "te\033[?25lxt\n", "expect(text)");
    check("^text$", NULL, "\033]0;a title\007text\n", "expect(text)");
    check("^text$", NULL, "\033]0;a title\033\\text\n", "expect(text)");
    check("^text$", NULL, "\033P+q544e\033\\text\n", "expect(text)");
    check("^text$", NULL, "\033(B\033[mtext\033)0\n", "expect(text)");
    check("^text$", NULL, "\0337te\0338xt\033=\n", "expect(text)");
    check("^text$", NULL, "\033[1\033[0mtext\n", "expect(text)");
    /* Half a sequence hides no more than the rest of its line. */
    check("^text$", NULL, "\033]0;never ends\ntext\n", "expect(text)");
    check("^text$", NULL, "\033[1;\ntext\n", "expect(text)");
}

static void test_long_lines(void)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct fixture f;

    for (int i = 0; i < 100000; i++) {
        g_string_append_c(text, 'x');
    }
    g_string_append(text, " end\nnext\n");
    setup(&f, "^next$", "nothing", "");
    feed(&f, text->str);
    g_assert_cmpstr(f.seen->str, ==, "expect(next)");
    teardown(&f);
}

static void test_fail_wins(void)
{
    check("ok", "BAD", "ok\nBAD\n", "expect(ok)");
    check("ok", "BAD", "BAD\nok\n", "fail(BAD)");
    check(NULL, "BAD", "BAD\nBAD\n", "fail(BAD)");
}

/* The rest of a line may come later, and -fail still wins on it; not on the next. */
static void test_fail_on_the_line_of_expect(void)
{
    struct fixture f;

    setup(&f, "ok", "BAD", "");
    feed(&f, "ok and BAD\n");
    g_assert_cmpstr(f.seen->str, ==, "fail(ok and BAD)");
    teardown(&f);
    setup(&f, "ok", "BAD", "");
    feed(&f, "ok ");
    feed(&f, "and BAD");
    g_assert_cmpstr(f.seen->str, ==, "expect(ok )fail(ok and BAD)");
    teardown(&f);
    setup(&f, "ok", "BAD", "");
    feed(&f, "ok ");
    feed(&f, "then\nBAD\n");
    g_assert_cmpstr(f.seen->str, ==, "expect(ok )");
    teardown(&f);
}

static void test_panic(void)
{
    check(NULL, NULL, "Kernel panic - not syncing: x\n",
          "panic(Kernel panic - not syncing: x)");
    check(NULL, NULL, "[    1.2] Kernel panic - not syncing: x\r\n",
          "panic(Kernel panic - not syncing: x)");
    check(NULL, NULL, "<0>[ 1.2][   T1] Kernel panic - not syncing\n",
          "panic(Kernel panic - not syncing)");
    check(NULL, NULL, "host login: [    1.2] Kernel panic - not syncing: x\n",
          "panic(Kernel panic - not syncing: x)");
    check(NULL, NULL, "\033[0;31mKernel panic - not syncing: x\033[0m\n",
          "panic(Kernel panic - not syncing: x)");
    check(NULL, NULL, "---[ end Kernel panic - not syncing: x ]---\n", "");
    check(NULL, NULL, "echo 'Kernel panic - not syncing: x'\n", "");
    check(NULL, NULL, "Kernel panic - not syncing: x", ""); /* the line is not complete */
    check(NULL, NULL, "Kernel panic - not syncing: x\nKernel panic - not syncing: y\n",
          "panic(Kernel panic - not syncing: x)");
    /* pvemu's own init has said why, and in better words */
    check(NULL, NULL, "pvemu-init: no root\npvemu-init: y\nKernel panic - not syncing: x\n",
          "panic(Kernel panic - not syncing: no root)");
}

static void test_reset(void)
{
    struct fixture f;

    setup(&f, "^second$", NULL, "");
    feed(&f, "Kernel panic - not syncing: x\nhalf a li\033[1");
    watch_reset(f.watch);
    feed(&f, "second\nKernel panic - not syncing: y\n");
    g_assert_cmpstr(f.seen->str, ==, "panic(Kernel panic - not syncing: x)expect(second)"
                                     "panic(Kernel panic - not syncing: y)");
    teardown(&f);
}

static void test_send(void)
{
    struct fixture f;

    setup(&f, NULL, NULL, "now|login: $=>root\\n|\\$ $=>ls\\x41\\t\\e\\\\\\r|\\$ $=>off");
    g_assert_cmpstr(f.seen->str, ==, "");
    feed(&f, "boot");
    g_assert_cmpstr(f.seen->str, ==, "send(now)");
    feed(&f, "\nlogin: ");
    g_assert_cmpstr(f.seen->str, ==, "send(now)send(root\n)");
    g_string_truncate(f.seen, 0);
    feed(&f, "root\r\n$ ");
    g_assert_cmpstr(f.seen->str, ==, "send(lsA\t\033\\\r)");
    g_string_truncate(f.seen, 0);
    feed(&f, "\033[0m");
    feed(&f, "ls $ "); /* the echo: the same line */
    g_assert_cmpstr(f.seen->str, ==, "");
    feed(&f, "\nfile\n$ ");
    g_assert_cmpstr(f.seen->str, ==, "send(off)");
    teardown(&f);
}

static void test_bad_patterns(void)
{
    static const struct watch_handlers handlers = {.event = seen_event};
    g_autoptr(GPtrArray) sends = g_ptr_array_new();
    g_autoptr(GError) err = NULL;

    g_assert_null(watch_new("(", NULL, NULL, &handlers, NULL, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(watch_new(NULL, "(", NULL, &handlers, NULL, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_ptr_array_add(sends, (gpointer) "(=>x");
    g_assert_null(watch_new(NULL, NULL, sends, &handlers, NULL, &err));
    g_assert_nonnull(err);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ctl/watch/lines", test_lines);
    g_test_add_func("/ctl/watch/escapes", test_escapes);
    g_test_add_func("/ctl/watch/long-lines", test_long_lines);
    g_test_add_func("/ctl/watch/fail-wins", test_fail_wins);
    g_test_add_func("/ctl/watch/fail-on-the-line-of-expect", test_fail_on_the_line_of_expect);
    g_test_add_func("/ctl/watch/panic", test_panic);
    g_test_add_func("/ctl/watch/reset", test_reset);
    g_test_add_func("/ctl/watch/send", test_send);
    g_test_add_func("/ctl/watch/bad-patterns", test_bad_patterns);
    return g_test_run();
}
