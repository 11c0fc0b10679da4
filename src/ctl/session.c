/* SPDX-License-Identifier: MIT */
/*
 * From start to verdict.
 *
 * What ends a run: the guest (power-off, reboot, crash, exit port), a pattern, the time limit, a
 * signal, the user. The first that ends it decides the verdict, with two exceptions: a panic
 * known by its text waits PANIC_WAIT_MS for the guest's own crash notice, so that the backtrace is complete; and -fail on the
 * line of -expect wins.
 */
#include "ctl/session.h"

#include <glib-unix.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/exit_status.h"
#include "base/report.h"
#include "ctl/control.h"
#include "ctl/runtime_dir.h"
#include "ctl/watch.h"

enum {
    PANIC_WAIT_MS = 2000,
    EXPECT_WAIT_MS = 200, /* for the rest of the line, when there is a -fail that it could match */
    EVIDENCE_MAX = 160,
};

struct session {
    const struct config *config;
    GMainContext *context;
    GMainLoop *loop;
    struct machine *machine;
    struct watch *watch;
    struct control *control;
    struct chardev *console;
    bool ended;
    int status;
    char *verdict;
    char *panic;           /* text of the panic line */
    char *expected;        /* words for -expect, once it matched */
    GSource *panic_timer, *timeout_timer, *expect_timer;
    GSource *signals[3];
    int term_signal;       /* SIGTERM was taken: power-off was asked for */
    GString *pending_input; /* -send text the guest has not taken yet */
    GSource *input_timer;
};

static double session_seconds(struct session *s)
{
    return (double)machine_uptime_ns(s->machine) / 1e9;
}

/* Ends the run with a status and the words for it; the first one stays. */
static void session_end(struct session *s, int status, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

static void session_end(struct session *s, int status, const char *fmt, ...)
{
    g_autofree char *words = NULL;
    va_list ap;

    if (s->ended) {
        return;
    }
    s->ended = true;
    s->status = status;
    va_start(ap, fmt);
    words = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    s->verdict = g_strdup_printf("%s: %s (status %d)", status == 0 ? "PASS" : "FAIL", words, status);
    g_main_loop_quit(s->loop);
}

static char *session_clip(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    return g_strdup_printf("%.*s", EVIDENCE_MAX, valid);
}

/* --- the guest's end --- */

static enum config_action session_action(const struct session *s, enum config_action asked,
                                         enum config_action unattended, enum config_action attended)
{
    if (asked != ACTION_DEFAULT) {
        return asked;
    }
    return s->config->unattended ? unattended : attended;
}

static void session_panicked(struct session *s)
{
    g_autofree char *text = session_clip(s->panic != NULL ? s->panic : "the guest said that it crashed");
    const char *colon = g_str_has_prefix(text, "Kernel panic - not syncing: ") ? text + 28 : text;

    session_end(s, EXIT_STATUS_PANIC, "kernel panic after %.1f s: \"%s\"", session_seconds(s), colon);
}

static enum config_action session_panic_action(struct session *s)
{
    enum config_action action = session_action(s, s->config->on_panic, ACTION_EXIT, ACTION_PAUSE);

    if (action == ACTION_EXIT) {
        session_panicked(s);
    } else if (action == ACTION_PAUSE) {
        report_info("kernel panic: the guest is held as it is (Ctrl-A X quits)");
    }
    return action;
}

static enum config_action session_rebooted(struct session *s, const char *what)
{
    enum config_action action = session_action(s, s->config->on_reboot, ACTION_EXIT, ACTION_RESET);

    if (s->panic != NULL && s->config->on_panic != ACTION_RESET) {
        return session_panic_action(s); /* panic=-1: the reboot is the panic's */
    }
    if (action == ACTION_EXIT) {
        session_end(s, s->config->expect != NULL ? EXIT_STATUS_NOT_EXPECTED : EXIT_STATUS_REBOOT,
                    "the guest %s after %.1f s%s", what, session_seconds(s),
                    s->config->expect != NULL ? ", before -expect was met" : "");
    } else if (action == ACTION_RESET) {
        g_clear_pointer(&s->panic, g_free);
        report_info("the guest %s: booting it again", what);
    }
    return action;
}

static enum config_action session_powered_off(struct session *s)
{
    enum config_action action = session_action(s, s->config->on_poweroff, ACTION_EXIT, ACTION_EXIT);

    if (action != ACTION_EXIT) {
        return action;
    }
    if (s->term_signal != 0) {
        session_end(s, EXIT_STATUS_SIGNAL + s->term_signal, "powered off on request after %.1f s",
                    session_seconds(s));
    } else if (s->panic != NULL) {
        session_panicked(s);
    } else if (s->config->expect != NULL) {
        session_end(s, EXIT_STATUS_NOT_EXPECTED, "the guest powered off after %.1f s, before -expect was met",
                    session_seconds(s));
    } else {
        session_end(s, EXIT_STATUS_OK, "the guest powered off after %.1f s", session_seconds(s));
    }
    return ACTION_EXIT;
}

static enum config_action session_stopped(void *opaque, const struct machine_end *end)
{
    struct session *s = opaque;

    switch (end->reason) {
    case STOP_POWEROFF:
        return session_powered_off(s);
    case STOP_CRASH:
    case STOP_WATCHDOG:
        return session_panic_action(s);
    case STOP_REBOOT:
    case STOP_SOFT_RESET:
        return session_rebooted(s, "rebooted");
    case STOP_TRIPLE_FAULT:
        report_note("triple fault: %s", end->message);
        return session_rebooted(s, "triple-faulted");
    case STOP_SUSPEND:
        session_end(s, EXIT_STATUS_SUSPEND, "the guest suspended itself after %.1f s", session_seconds(s));
        return ACTION_EXIT;
    case STOP_EXIT_CODE:
        session_end(s, end->code, "the guest ended with code %d after %.1f s", end->code, session_seconds(s));
        return ACTION_EXIT;
    case STOP_ENGINE_ERROR:
    default:
        session_end(s, EXIT_STATUS_CANNOT_RUN, "the guest cannot go on: %s", end->message);
        return ACTION_EXIT;
    }
}

/* --- the console's text --- */

static gboolean session_panic_timeout(gpointer data)
{
    struct session *s = data;

    g_clear_pointer(&s->panic_timer, g_source_unref);
    if (session_action(s, s->config->on_panic, ACTION_EXIT, ACTION_PAUSE) == ACTION_EXIT) {
        session_panicked(s);
    }
    return G_SOURCE_REMOVE;
}

static GSource *session_timer(struct session *s, guint ms, GSourceFunc fn)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, fn, s, NULL);
    g_source_attach(source, s->context);
    return source;
}

/* Types what -send asked for, as fast as the guest takes it. Called with and without the board lock, so it only ever
 * runs from its own timer. */
static gboolean session_type(gpointer data)
{
    struct session *s = data;
    size_t taken = machine_input(s->machine, (const uint8_t *)s->pending_input->str, s->pending_input->len);

    g_string_erase(s->pending_input, 0, (gssize)taken);
    if (s->pending_input->len > 0) {
        return G_SOURCE_CONTINUE;
    }
    g_clear_pointer(&s->input_timer, g_source_unref);
    return G_SOURCE_REMOVE;
}

static gboolean session_met(gpointer data)
{
    struct session *s = data;

    session_end(s, EXIT_STATUS_OK, "%s", s->expected);
    return G_SOURCE_CONTINUE;
}

static void session_watch_event(void *opaque, enum watch_event event, const char *text, size_t len)
{
    struct session *s = opaque;
    g_autofree char *line = event == WATCH_SEND ? NULL : session_clip(text);

    switch (event) {
    case WATCH_PANIC:
        g_free(s->panic);
        s->panic = g_steal_pointer(&line);
        if (s->panic_timer == NULL) {
            s->panic_timer = session_timer(s, PANIC_WAIT_MS, session_panic_timeout);
        }
        break;
    case WATCH_FAIL:
        session_end(s, EXIT_STATUS_FAIL_SEEN, "-fail matched after %.1f s: \"%s\"", session_seconds(s), line);
        break;
    case WATCH_EXPECT:
        if (s->panic != NULL) {
            break;
        }
        s->expected = g_strdup_printf("-expect matched after %.1f s: \"%s\"", session_seconds(s), line);
        if (s->config->fail == NULL) {
            session_met(s);
        } else {
            s->expect_timer = session_timer(s, EXPECT_WAIT_MS, session_met);
        }
        break;
    case WATCH_SEND:
        g_string_append_len(s->pending_input, text, (gssize)len);
        if (s->input_timer == NULL) {
            s->input_timer = session_timer(s, 10, session_type);
        }
        break;
    }
}

static void session_output(void *opaque, const uint8_t *buf, size_t len)
{
    struct session *s = opaque;

    watch_feed(s->watch, buf, len);
}

static void session_state_changed(void *opaque, enum machine_run_state state)
{
    struct session *s = opaque;

    control_state_changed(s->control, state);
}

/* --- limits and signals --- */

static gboolean session_timeout(gpointer data)
{
    struct session *s = data;

    session_end(s, EXIT_STATUS_TIMEOUT, "-timeout reached after %.1f s%s", session_seconds(s),
                watch_bytes(s->watch) == 0 ? ", without a byte of console output" : "");
    return G_SOURCE_CONTINUE;
}

static gboolean session_sigterm(gpointer data)
{
    struct session *s = data;

    if (s->term_signal != 0 || machine_state(s->machine) != MACHINE_RUNNING) {
        session_end(s, EXIT_STATUS_SIGNAL + SIGTERM, "ended by SIGTERM after %.1f s", session_seconds(s));
        return G_SOURCE_CONTINUE;
    }
    s->term_signal = SIGTERM;
    machine_request_shutdown(s->machine, "poweroff");
    report_note("SIGTERM: asked the guest to power off; a second one ends it at once");
    return G_SOURCE_CONTINUE;
}

static gboolean session_sigint(gpointer data)
{
    session_end(data, EXIT_STATUS_SIGNAL + SIGINT, "ended by SIGINT");
    return G_SOURCE_CONTINUE;
}

static gboolean session_sighup(gpointer data)
{
    session_end(data, EXIT_STATUS_SIGNAL + SIGHUP, "ended by SIGHUP");
    return G_SOURCE_CONTINUE;
}

static void session_catch_signals(struct session *s)
{
    static const struct {
        int signal;
        GSourceFunc fn;
    } table[] = {{SIGTERM, session_sigterm}, {SIGINT, session_sigint}, {SIGHUP, session_sighup}};

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        s->signals[i] = g_unix_signal_source_new(table[i].signal);
        g_source_set_callback(s->signals[i], table[i].fn, s, NULL);
        g_source_attach(s->signals[i], s->context);
    }
}

static void session_uncatch(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = NULL;
    }
}

/* --- life --- */

static const struct watch_handlers session_watch_handlers = {.event = session_watch_event};
static const struct machine_events session_machine_events = {
    .stopped = session_stopped, .output = session_output, .state_changed = session_state_changed,
};

struct session *session_new(const struct config *config, GMainContext *context,
                            struct chardev *console, GError **err)
{
    struct session *s = g_new0(struct session, 1);

    s->config = config;
    s->context = context;
    s->console = console;
    s->loop = g_main_loop_new(context, FALSE);
    s->pending_input = g_string_new(NULL);
    s->watch = watch_new(config->expect, config->fail, config->sends, &session_watch_handlers, s, err);
    if (s->watch != NULL) {
        s->machine = machine_new(config, context, console, &session_machine_events, s, err);
    }
    if (s->machine != NULL && !config->dry_run) {
        s->control = control_new(s, config, context, err);
    }
    if (s->machine == NULL || (s->control == NULL && !config->dry_run)) {
        session_free(s);
        return NULL;
    }
    return s;
}

void session_free(struct session *s)
{
    if (s == NULL) {
        return;
    }
    control_free(s->control);
    machine_free(s->machine);
    watch_free(s->watch);
    session_uncatch(&s->panic_timer);
    session_uncatch(&s->timeout_timer);
    session_uncatch(&s->expect_timer);
    session_uncatch(&s->input_timer);
    for (size_t i = 0; i < G_N_ELEMENTS(s->signals); i++) {
        session_uncatch(&s->signals[i]);
    }
    g_string_free(s->pending_input, TRUE);
    g_main_loop_unref(s->loop);
    g_free(s->panic);
    g_free(s->expected);
    g_free(s->verdict);
    g_free(s);
}

struct machine *session_machine(struct session *s)
{
    return s->machine;
}

GMutex *session_board_lock(struct session *s)
{
    return machine_lock(s->machine);
}

void session_quit(struct session *s)
{
    session_end(s, EXIT_STATUS_OK, "ended by the user after %.1f s", session_seconds(s));
}

void session_confine(struct session *s)
{
    g_autofree char *dir = runtime_dir();

    machine_confine(s->machine, dir);
}

int session_run(struct session *s, GError **err)
{
    session_catch_signals(s);
    if (s->config->timeout_ns > 0) {
        guint64 ms = MAX(s->config->timeout_ns / 1000000, 1);

        s->timeout_timer = session_timer(s, (guint)MIN(ms, G_MAXUINT), session_timeout);
    }
    if (!machine_start(s->machine, err)) {
        return EXIT_STATUS_CANNOT_RUN;
    }
    if (!s->ended) {
        g_main_loop_run(s->loop);
    }
    machine_pause(s->machine);
    return s->status;
}

const char *session_verdict(const struct session *s)
{
    return s->verdict;
}
