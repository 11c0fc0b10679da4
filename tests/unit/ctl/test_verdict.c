/* SPDX-License-Identifier: MIT */
/* The table of exit statuses, row by row, and what wins when two things happen. */
#include <glib.h>
#include <signal.h>

#include "ctl/verdict.h"

struct fixture {
    struct config *config;
    struct verdict v;
};

static void setup(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config = config_new();
    f->config->unattended = true;
    verdict_init(&f->v, f->config);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    (void)data;
    verdict_clear(&f->v);
    config_free(f->config);
}

static enum config_action stop(struct fixture *f, enum stop_reason reason)
{
    struct machine_end end = {.reason = reason, .code = 42, .message = "evidence"};

    if (reason == STOP_CRASH) { /* the guest's own: the board knows no reason */
        end.message[0] = '\0';
    }
    return verdict_stopped(&f->v, &end, 1.0);
}

static void check(const struct fixture *f, const char *line)
{
    g_assert_true(f->v.ended);
    g_assert_cmpstr(f->v.line, ==, line);
}

/* A PV guest that its hypervisor ended: what it did is the evidence. */
static void test_crash_evidence(struct fixture *f, gconstpointer data)
{
    struct machine_end end = {.reason = STOP_CRASH, .message = "no handler for vector 6"};

    (void)data;
    f->config->unattended = true;
    g_assert_cmpint(verdict_stopped(&f->v, &end, 1.0), ==, ACTION_EXIT);
    check(f, "FAIL: kernel panic after 1.0 s: \"no handler for vector 6\" (status 112)");
}

static void test_rows(struct fixture *f, gconstpointer data)
{
    static const struct {
        enum stop_reason reason;
        const char *line;
    } rows[] = {
        {STOP_POWEROFF, "PASS: the guest powered off after 1.0 s (status 0)"},
        {STOP_REBOOT, "FAIL: the guest rebooted after 1.0 s (status 115)"},
        {STOP_SOFT_RESET, "FAIL: the guest rebooted after 1.0 s (status 115)"},
        {STOP_TRIPLE_FAULT, "FAIL: the guest triple-faulted after 1.0 s (status 115)"},
        {STOP_SUSPEND, "FAIL: the guest suspended itself after 1.0 s (status 116)"},
        {STOP_EXIT_CODE, "FAIL: the guest ended with code 42 after 1.0 s (status 42)"},
        {STOP_CRASH, "FAIL: kernel panic after 1.0 s: \"the guest said that it crashed\" "
                     "(status 112)"},
        {STOP_WATCHDOG, "FAIL: the guest's watchdog fired after 1.0 s (status 112)"},
        {STOP_ENGINE_ERROR, "FAIL: the guest cannot go on: evidence (status 125)"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        teardown(f, data);
        setup(f, data);
        g_assert_cmpint(stop(f, rows[i].reason), ==, ACTION_EXIT);
        check(f, rows[i].line);
    }
}

static void test_panic_text(struct fixture *f, gconstpointer data)
{
    (void)data;
    verdict_panic_text(&f->v, "Kernel panic - not syncing: no \x1b[1m root \xff\xc2\x9b", 0.5);
    g_assert_false(f->v.ended);
    g_assert_cmpint(stop(f, STOP_REBOOT), ==, ACTION_EXIT); /* panic=-1 */
    check(f, "FAIL: kernel panic after 0.5 s: \"no  [1m root \xef\xbf\xbd \" (status 112)");
}

static void test_panic_settles(struct fixture *f, gconstpointer data)
{
    (void)data;
    verdict_panic_text(&f->v, "Kernel panic - not syncing: x", 0.5);
    g_assert_cmpint(verdict_panic_settled(&f->v), ==, ACTION_EXIT);
    check(f, "FAIL: kernel panic after 0.5 s: \"x\" (status 112)");
}

static void test_panic_before_the_end(struct fixture *f, gconstpointer data)
{
    void (*const ends[])(struct verdict *v, double seconds) = {verdict_quit};

    for (unsigned i = 0; i < 2; i++) {
        teardown(f, data);
        setup(f, data);
        f->config->on_panic = ACTION_PAUSE;
        verdict_panic_text(&f->v, "Kernel panic - not syncing: x", 0.5);
        g_assert_cmpint(verdict_panic_settled(&f->v), ==, ACTION_PAUSE);
        g_assert_false(f->v.ended);
        if (i == 0) {
            ends[0](&f->v, 9.0);
        } else {
            verdict_timeout(&f->v, 9.0, false);
        }
        check(f, "FAIL: kernel panic after 0.5 s: \"x\" (status 112)");
    }
}

/* Held after a crash without a word: the verdict is known when the user quits. */
static void test_held(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config->unattended = false;
    g_assert_cmpint(stop(f, STOP_CRASH), ==, ACTION_PAUSE);
    g_assert_false(f->v.ended);
    verdict_quit(&f->v, 9.0);
    check(f, "FAIL: kernel panic after 1.0 s: \"the guest said that it crashed\" (status 112)");
}

static void test_attended(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config->unattended = false;
    g_assert_cmpint(stop(f, STOP_REBOOT), ==, ACTION_RESET);
    verdict_reset(&f->v);
    g_assert_cmpint(stop(f, STOP_TRIPLE_FAULT), ==, ACTION_RESET);
    verdict_panic_text(&f->v, "Kernel panic - not syncing: x", 0.5);
    g_assert_cmpint(verdict_panic_settled(&f->v), ==, ACTION_DEFAULT);
    verdict_reset(&f->v);
    g_assert_cmpint(stop(f, STOP_POWEROFF), ==, ACTION_EXIT);
    check(f, "PASS: the guest powered off after 1.0 s (status 0)");
}

static void test_on(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config->on_panic = ACTION_RESET;
    f->config->on_reboot = ACTION_EXIT;
    f->config->on_poweroff = ACTION_PAUSE;
    verdict_panic_text(&f->v, "Kernel panic - not syncing: x", 0.5);
    g_assert_cmpint(stop(f, STOP_REBOOT), ==, ACTION_RESET); /* the panic's reboot */
    verdict_reset(&f->v);
    g_assert_cmpint(stop(f, STOP_POWEROFF), ==, ACTION_PAUSE);
    verdict_quit(&f->v, 9.0);
    check(f, "PASS: ended by the user after 9.0 s (status 0)");
}

static void test_expect(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config->expect = g_strdup("x");
    verdict_expect_text(&f->v, "x", 0.5);
    g_assert_false(f->v.ended);
    /* Waits for the rest of the line; whatever ends the run meanwhile comes too late. */
    g_assert_cmpint(stop(f, STOP_CRASH), ==, ACTION_EXIT);
    check(f, "PASS: -expect matched after 0.5 s: \"x\" (status 0)");
}

static void test_expect_not_met(struct fixture *f, gconstpointer data)
{
    static const struct {
        enum stop_reason reason;
        const char *line;
    } rows[] = {
        {STOP_POWEROFF, "FAIL: the guest powered off after 1.0 s, before -expect was met "
                        "(status 114)"},
        {STOP_REBOOT, "FAIL: the guest rebooted after 1.0 s, before -expect was met "
                      "(status 114)"},
        {STOP_EXIT_CODE, "FAIL: the guest ended with code 42 after 1.0 s (status 42)"},
        {STOP_CRASH, "FAIL: kernel panic after 1.0 s: \"the guest said that it crashed\" "
                     "(status 112)"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        teardown(f, data);
        setup(f, data);
        f->config->expect = g_strdup("x");
        stop(f, rows[i].reason);
        check(f, rows[i].line);
    }
    teardown(f, data);
    setup(f, data);
    f->config->expect = g_strdup("x");
    verdict_quit(&f->v, 2.0);
    check(f, "FAIL: ended by the user after 2.0 s, before -expect was met (status 114)");
}

static void test_expect_after_panic(struct fixture *f, gconstpointer data)
{
    (void)data;
    f->config->expect = g_strdup("x");
    verdict_panic_text(&f->v, "Kernel panic - not syncing: y", 0.5);
    verdict_expect_text(&f->v, "x", 0.6);
    verdict_expect_settled(&f->v);
    g_assert_false(f->v.ended);
    verdict_timeout(&f->v, 2.0, false);
    check(f, "FAIL: kernel panic after 0.5 s: \"y\" (status 112)");
}

static void test_fail(struct fixture *f, gconstpointer data)
{
    (void)data;
    verdict_expect_text(&f->v, "x BAD", 0.5);
    verdict_fail_text(&f->v, "x BAD", 0.5);
    verdict_expect_settled(&f->v);
    verdict_quit(&f->v, 9.0);
    check(f, "FAIL: -fail matched after 0.5 s: \"x BAD\" (status 113)");
}

static void test_timeout(struct fixture *f, gconstpointer data)
{
    verdict_timeout(&f->v, 2.0, true);
    check(f, "FAIL: -timeout reached after 2.0 s, without a byte of console output "
             "(status 124)");
    teardown(f, data);
    setup(f, data);
    verdict_timeout(&f->v, 2.0, false);
    check(f, "FAIL: -timeout reached after 2.0 s (status 124)");
    teardown(f, data);
    setup(f, data);
    f->config->on_panic = ACTION_RESET; /* between the panic's text and the reset it asks for */
    verdict_panic_text(&f->v, "Kernel panic - not syncing: y", 0.5);
    verdict_timeout(&f->v, 2.0, false);
    check(f, "FAIL: -timeout reached after 2.0 s (status 124)");
}

static void test_signals(struct fixture *f, gconstpointer data)
{
    f->v.term_signal = SIGTERM;
    f->config->on_poweroff = ACTION_RESET; /* not now */
    g_assert_cmpint(stop(f, STOP_POWEROFF), ==, ACTION_EXIT);
    check(f, "FAIL: powered off on request after 1.0 s (status 143)");
    teardown(f, data);
    setup(f, data);
    f->v.term_signal = SIGTERM;
    f->config->on_panic = ACTION_RESET;
    g_assert_cmpint(stop(f, STOP_CRASH), ==, ACTION_EXIT);
    g_assert_cmpint(f->v.status, ==, 112);
    teardown(f, data);
    setup(f, data);
    verdict_signal(&f->v, SIGHUP, 2.0);
    check(f, "FAIL: ended by SIGHUP after 2.0 s (status 129)");
}

static void test_evidence_is_short(struct fixture *f, gconstpointer data)
{
    g_autofree char *text = g_strnfill(5000, 'x');

    (void)data;
    verdict_fail_text(&f->v, text, 0.5);
    g_assert_cmpuint(strlen(f->v.line), <, 250);
    g_assert_true(g_str_has_suffix(f->v.line, "xx...\" (status 113)"));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(struct fixture *f, gconstpointer data);
    } tests[] = {
        {"/ctl/verdict/rows", test_rows},
        {"/ctl/verdict/panic-text", test_panic_text},
        {"/ctl/verdict/panic-settles", test_panic_settles},
        {"/ctl/verdict/panic-before-the-end", test_panic_before_the_end},
        {"/ctl/verdict/crash-evidence", test_crash_evidence},
        {"/ctl/verdict/held", test_held},
        {"/ctl/verdict/attended", test_attended},
        {"/ctl/verdict/on", test_on},
        {"/ctl/verdict/expect", test_expect},
        {"/ctl/verdict/expect-not-met", test_expect_not_met},
        {"/ctl/verdict/expect-after-panic", test_expect_after_panic},
        {"/ctl/verdict/fail", test_fail},
        {"/ctl/verdict/timeout", test_timeout},
        {"/ctl/verdict/signals", test_signals},
        {"/ctl/verdict/evidence-is-short", test_evidence_is_short},
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, struct fixture, NULL, setup, tests[i].fn, teardown);
    }
    return g_test_run();
}
