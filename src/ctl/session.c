/* SPDX-License-Identifier: MIT */
/*
 * From start to verdict: verdict.c decides, this file carries out.
 *
 * The console is watched on whatever thread the guest's output comes from, with the board lock
 * held; what was seen is queued and handled on the main loop. When the guest stops, the queue
 * is emptied first, so that what it said before counts before.
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
#include "ctl/verdict.h"
#include "ctl/watch.h"

enum {
    PANIC_WAIT_MS = 2000, /* for the crash notice behind a panic's text: the backtrace */
    EXPECT_WAIT_MS = 200, /* for the rest of the line, when there is a -fail it could match */
    TYPE_MS = 10,         /* between two tries to type what -send says */
    SUSPEND_WAIT_MS = 60000, /* for the guest, which has to stop all its processes */
    SUSPEND_HEAR_MS = 10000, /* for its driver: after a resume it sets its watches up again */
    SUSPEND_POLL_MS = 50,
};

/* Something seen on the console. */
struct session_event {
    enum watch_event event;
    double seconds;
    size_t len;
    char *text;
};

struct session {
    const struct config *config;
    GMainContext *context;
    GMainLoop *loop;
    struct machine *machine;
    struct watch *watch; /* board lock */
    struct control *control;
    struct verdict verdict;
    const char *held;    /* stopped for good but kept: QMP's word for why; NULL: no */
    bool suspected;      /* paused for the text of a panic: may be a mistake, so it may go on */
    bool suspend_asked; /* by the user: the guest's answer is no end of the run */
    bool suspended;
    bool has_run;
    gint64 started_us;

    GMutex queue_lock;
    GQueue queue;           /* struct session_event *; queue_lock */
    GSource *queue_source;
    GSource *panic_timer, *timeout_timer, *expect_timer, *type_timer, *suspend_timer;
    gint64 suspend_until_us; /* g_get_monotonic_time(): so long it may be deaf to a request */
    GSource *signals[3];
    GString *typing;        /* -send text the guest has not taken yet */
};

static double session_seconds(struct session *s)
{
    return (double)machine_uptime_ns(s->machine) / 1e9;
}

/* After anything that may have ended the run. */
static void session_check(struct session *s)
{
    if (s->verdict.ended) {
        g_main_loop_quit(s->loop);
    }
}

static void session_drop_source(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

static GSource *session_timer(struct session *s, guint ms, GSourceFunc fn)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, fn, s, NULL);
    g_source_attach(source, s->context);
    return source;
}

/* --- the guest's end --- */

static const char *stop_words(enum stop_reason reason)
{
    switch (reason) {
    case STOP_WATCHDOG: return "the guest's watchdog fired";
    case STOP_POWEROFF: return "the guest powered off";
    case STOP_TRIPLE_FAULT: return "the guest triple-faulted";
    default: return "the guest rebooted";
    }
}

static const char *session_words(const struct session *s, bool panicked,
                                 enum stop_reason reason)
{
    return panicked && !s->verdict.watchdog ? "kernel panic" : stop_words(reason);
}

static void session_hold(struct session *s, bool panicked, enum stop_reason reason)
{
    s->held = panicked ? "guest-panicked" : "shutdown";
    report_info("%s: the guest is held as it is (end it with Ctrl-A X or `pvemu destroy`)",
                session_words(s, panicked, reason));
}

/* Everything that belongs to the boot that is over. */
static void session_forget_boot(struct session *s)
{
    session_drop_source(&s->panic_timer);
    session_drop_source(&s->suspend_timer);
    s->suspend_asked = false;
    verdict_reset(&s->verdict);
    g_mutex_lock(session_board_lock(s));
    watch_reset(s->watch);
    g_mutex_unlock(session_board_lock(s));
}

static void session_again(struct session *s, bool panicked, enum stop_reason reason)
{
    const char *words = session_words(s, panicked, reason);

    session_forget_boot(s);
    control_event(s->control, "RESET",
                  panicked ? "{\"guest\":true,\"reason\":\"guest-panic\"}"
                           : "{\"guest\":true,\"reason\":\"guest-reset\"}");
    report_info("%s: booting it again", words);
}

static void session_tell_panic(struct session *s, enum config_action action)
{
    control_event(s->control, "GUEST_PANICKED",
                  action == ACTION_EXIT    ? "{\"action\":\"poweroff\"}"
                  : action == ACTION_PAUSE ? "{\"action\":\"pause\"}"
                                           : "{\"action\":\"run\"}");
}

static void session_take_events(struct session *s);

static void session_suspended(struct session *s)
{
    session_drop_source(&s->suspend_timer);
    s->suspend_asked = false;
    s->suspended = true;
    report_info("the guest is suspended (`pvemu resume` lets it go on)");
    control_event(s->control, "SUSPEND", NULL);
}

/* The guest may still do it later, if it has heard: then it counts as asked for. */
static gboolean session_suspend_timeout(gpointer data)
{
    struct session *s = data;
    const bool heard = !machine_withdraw_suspend(s->machine);

    session_drop_source(&s->suspend_timer);
    s->suspend_asked = heard;
    control_event(s->control, "SUSPEND_FAILED",
                  heard ? "{\"reason\":\"it took the request and has not suspended within a "
                          "minute; its kernel's messages may say what it could not stop\"}"
                        : "{\"reason\":\"it did not take the request (control/shutdown in "
                          "xenstore) within a minute\"}");
    return G_SOURCE_REMOVE;
}

static void session_suspend_sent(struct session *s)
{
    s->suspend_asked = true;
    s->suspend_timer = session_timer(s, SUSPEND_WAIT_MS, session_suspend_timeout);
}

/* While the guest is deaf to the request. */
static gboolean session_suspend_again(gpointer data)
{
    struct session *s = data;
    const char *why = machine_suspend(s->machine);

    if (why != NULL && machine_state(s->machine) == MACHINE_RUNNING &&
        g_get_monotonic_time() < s->suspend_until_us) {
        return G_SOURCE_CONTINUE;
    }
    session_drop_source(&s->suspend_timer);
    if (why == NULL) {
        session_suspend_sent(s);
    } else {
        g_autofree char *reason = g_strdup_printf("{\"reason\":\"%s\"}", why);

        control_event(s->control, "SUSPEND_FAILED", reason);
    }
    return G_SOURCE_REMOVE;
}

static enum config_action session_stopped(void *opaque, const struct machine_end *end)
{
    struct session *s = opaque;
    enum config_action action;
    bool panicked;

    session_take_events(s);
    if (end->reason == STOP_SUSPEND && !s->verdict.ended &&
        (s->suspend_asked || s->config->on_suspend == ACTION_PAUSE)) {
        session_suspended(s);
        return ACTION_PAUSE;
    }
    if (end->reason == STOP_TRIPLE_FAULT && !s->verdict.ended) {
        report_note("triple fault: %s", end->message);
    }
    panicked = s->verdict.panic != NULL || end->reason == STOP_CRASH ||
               end->reason == STOP_WATCHDOG;
    action = verdict_stopped(&s->verdict, end, session_seconds(s));
    session_drop_source(&s->panic_timer);
    if (panicked) {
        session_tell_panic(s, action);
    }
    if (action == ACTION_PAUSE) {
        session_hold(s, panicked, end->reason);
    } else if (action == ACTION_RESET) {
        session_again(s, panicked, end->reason);
    }
    session_check(s);
    return action;
}

/* Nobody asked for anything to be done: it is kept for inspection, but not for good. */
static void session_suspect(struct session *s)
{
    s->suspected = true;
    machine_pause(s->machine);
    report_info("kernel panic, by its text: the guest is paused (`pvemu unpause` lets it go "
                "on, Ctrl-A X quits)");
}

/* No crash notice came after the panic's text: the guest spins, or is none that sends one. */
static gboolean session_panic_timeout(gpointer data)
{
    struct session *s = data;
    enum config_action action = verdict_panic_settled(&s->verdict);
    g_autoptr(GError) err = NULL;

    session_drop_source(&s->panic_timer);
    session_tell_panic(s, action == ACTION_DEFAULT ? ACTION_PAUSE : action);
    if (action == ACTION_DEFAULT) {
        session_suspect(s);
    } else if (action == ACTION_PAUSE) {
        machine_pause(s->machine);
        session_hold(s, true, STOP_CRASH);
    } else if (action == ACTION_RESET) {
        session_again(s, true, STOP_CRASH);
        if (!machine_reset(s->machine, &err)) {
            verdict_cannot_go_on(&s->verdict, err->message);
        }
    }
    session_check(s);
    return G_SOURCE_REMOVE;
}

/* --- the console's text --- */

/* Types what -send asked for, as fast as the guest takes it. */
static gboolean session_type(gpointer data)
{
    struct session *s = data;
    size_t taken = machine_input(s->machine, (const uint8_t *)s->typing->str, s->typing->len);

    g_string_erase(s->typing, 0, (gssize)taken);
    if (s->typing->len > 0) {
        return G_SOURCE_CONTINUE;
    }
    session_drop_source(&s->type_timer);
    return G_SOURCE_REMOVE;
}

static gboolean session_expect_timeout(gpointer data)
{
    struct session *s = data;

    verdict_expect_settled(&s->verdict);
    session_check(s);
    return G_SOURCE_CONTINUE;
}

static void session_expected(struct session *s, const struct session_event *e)
{
    verdict_expect_text(&s->verdict, e->text, e->seconds);
    if (s->verdict.expected == NULL) {
        return; /* after a panic it does not count */
    }
    if (s->config->fail == NULL) {
        verdict_expect_settled(&s->verdict);
    } else if (s->expect_timer == NULL) {
        s->expect_timer = session_timer(s, EXPECT_WAIT_MS, session_expect_timeout);
    }
}

static void session_handle(struct session *s, const struct session_event *e)
{
    switch (e->event) {
    case WATCH_PANIC:
        verdict_panic_text(&s->verdict, e->text, e->seconds);
        if (s->panic_timer == NULL) {
            s->panic_timer = session_timer(s, PANIC_WAIT_MS, session_panic_timeout);
        }
        break;
    case WATCH_FAIL:
        verdict_fail_text(&s->verdict, e->text, e->seconds);
        break;
    case WATCH_EXPECT:
        session_expected(s, e);
        break;
    case WATCH_SEND:
        g_string_append_len(s->typing, e->text, (gssize)e->len);
        if (s->type_timer == NULL) {
            s->type_timer = session_timer(s, TYPE_MS, session_type);
        }
        break;
    }
}

static void session_event_free(gpointer data)
{
    struct session_event *e = data;

    g_free(e->text);
    g_free(e);
}

static void session_take_events(struct session *s)
{
    struct session_event *e;

    do {
        g_mutex_lock(&s->queue_lock);
        e = g_queue_pop_head(&s->queue);
        g_mutex_unlock(&s->queue_lock);
        if (e != NULL) {
            session_handle(s, e);
            session_event_free(e);
        }
    } while (e != NULL);
    session_check(s);
}

static gboolean session_queue_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback;
    g_source_set_ready_time(source, -1);
    session_take_events(data);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs session_queue_funcs = {.dispatch = session_queue_dispatch};

/* Any thread, board lock held. At most one event per pattern and boot: the queue is short. */
static void session_watch_event(void *opaque, enum watch_event event, const char *text,
                                size_t len)
{
    struct session *s = opaque;
    struct session_event *e = g_new0(struct session_event, 1);

    e->event = event;
    e->seconds = session_seconds(s);
    e->text = g_malloc0(len + 1);
    memcpy(e->text, text, len);
    e->len = len;
    g_mutex_lock(&s->queue_lock);
    g_queue_push_tail(&s->queue, e);
    g_mutex_unlock(&s->queue_lock);
    g_source_set_ready_time(s->queue_source, 0);
}

static void session_output(void *opaque, const uint8_t *buf, size_t len)
{
    struct session *s = opaque;

    watch_feed(s->watch, buf, len);
}

static void session_state_changed(void *opaque, enum machine_run_state state)
{
    struct session *s = opaque;

    s->has_run |= state == MACHINE_RUNNING;
    control_state_changed(s->control, state);
}

/* --- limits and signals --- */

static gboolean session_timeout(gpointer data)
{
    struct session *s = data;
    double seconds = (double)(g_get_monotonic_time() - s->started_us) / 1e6;
    bool silent;

    session_take_events(s);
    g_mutex_lock(session_board_lock(s));
    silent = watch_bytes(s->watch) == 0;
    g_mutex_unlock(session_board_lock(s));
    verdict_timeout(&s->verdict, seconds, silent);
    session_check(s);
    return G_SOURCE_CONTINUE;
}

/* Asks first. A second one, and one that the guest cannot hear, ends the run. */
static gboolean session_sigterm(gpointer data)
{
    struct session *s = data;

    if (s->verdict.term_signal != 0 || session_power_down(s) != NULL) {
        verdict_signal(&s->verdict, SIGTERM, session_seconds(s));
        session_check(s);
        return G_SOURCE_CONTINUE;
    }
    s->verdict.term_signal = SIGTERM;
    report_note("SIGTERM: asked the guest to power off; a second one ends it at once");
    return G_SOURCE_CONTINUE;
}

static gboolean session_sigint(gpointer data)
{
    struct session *s = data;

    verdict_signal(&s->verdict, SIGINT, session_seconds(s));
    session_check(s);
    return G_SOURCE_CONTINUE;
}

static gboolean session_sighup(gpointer data)
{
    struct session *s = data;

    verdict_signal(&s->verdict, SIGHUP, session_seconds(s));
    session_check(s);
    return G_SOURCE_CONTINUE;
}

/* Not those that are ignored: nohup(1), and the background jobs of a script. */
static void session_catch_signals(struct session *s)
{
    static const struct {
        int signal;
        GSourceFunc fn;
    } table[] = {
        {SIGTERM, session_sigterm}, {SIGINT, session_sigint}, {SIGHUP, session_sighup},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        struct sigaction old;

        if (sigaction(table[i].signal, NULL, &old) == 0 && old.sa_handler == SIG_IGN) {
            continue;
        }
        s->signals[i] = g_unix_signal_source_new(table[i].signal);
        g_source_set_callback(s->signals[i], table[i].fn, s, NULL);
        g_source_attach(s->signals[i], s->context);
    }
}

static void session_set_timeout(struct session *s)
{
    if (s->config->timeout_ns > 0) {
        s->timeout_timer = session_timer(s, G_MAXUINT, session_timeout);
        g_source_set_ready_time(s->timeout_timer,
                                s->started_us + (gint64)(s->config->timeout_ns / 1000));
    }
}

/* --- requests --- */

void session_quit(struct session *s)
{
    session_take_events(s);
    verdict_quit(&s->verdict, session_seconds(s));
    session_check(s);
}

const char *session_status(const struct session *s)
{
    if (s->held != NULL) {
        return s->held;
    }
    if (s->suspended) {
        return "suspended";
    }
    switch (machine_state(s->machine)) {
    case MACHINE_RUNNING: return "running";
    case MACHINE_ENDED: return "shutdown";
    default: return s->has_run ? "paused" : "prelaunch";
    }
}

const char *session_resume(struct session *s)
{
    if (s->held != NULL) {
        return "the guest has ended and is held as it is: it cannot go on";
    }
    if (s->suspended) {
        return "the guest is suspended: `pvemu resume` lets it go on";
    }
    if (s->suspected) {
        s->suspected = false;
        session_forget_boot(s);
    }
    machine_resume(s->machine);
    return NULL;
}

const char *session_suspend(struct session *s)
{
    const char *why;

    if (s->suspended) {
        return "it is suspended already";
    }
    if (s->suspend_timer != NULL) {
        return "it was asked to already, and has not answered yet";
    }
    why = machine_suspend(s->machine);
    if (why == NULL) {
        session_suspend_sent(s);
    } else if (machine_state(s->machine) == MACHINE_RUNNING) {
        s->suspend_until_us = g_get_monotonic_time() + SUSPEND_HEAR_MS * 1000ll;
        s->suspend_timer = session_timer(s, SUSPEND_POLL_MS, session_suspend_again);
        why = NULL;
    }
    return why;
}

bool session_wake(struct session *s, bool cancelled, GError **err)
{
    if (!s->suspended) {
        return error_set(err, PVEMU_ERROR_USAGE, "it is not suspended");
    }
    s->suspended = false; /* events that follow show it as it will be */
    if (!machine_resume_suspended(s->machine, cancelled, err)) {
        s->suspended = true;
        return false;
    }
    control_event(s->control, "WAKEUP", NULL);
    return true;
}

const char *session_power_down(struct session *s)
{
    if (machine_state(s->machine) != MACHINE_RUNNING) {
        return "the guest does not run: it cannot hear";
    }
    /* Not every guest listens, and one that boots may listen later. */
    machine_request_shutdown(s->machine, "poweroff");
    control_event(s->control, "POWERDOWN", NULL);
    return NULL;
}

/* --- life --- */

static const struct watch_handlers session_watch_handlers = {.event = session_watch_event};
static const struct machine_events session_machine_events = {
    .stopped = session_stopped, .output = session_output,
    .state_changed = session_state_changed,
};

struct session *session_new(const struct config *config, GMainContext *context,
                            struct chardev *console, GError **err)
{
    struct session *s = g_new0(struct session, 1);

    s->config = config;
    s->context = context;
    verdict_init(&s->verdict, config);
    s->loop = g_main_loop_new(context, FALSE);
    s->typing = g_string_new(NULL);
    g_mutex_init(&s->queue_lock);
    g_queue_init(&s->queue);
    s->queue_source = g_source_new(&session_queue_funcs, sizeof(GSource));
    g_source_set_callback(s->queue_source, NULL, s, NULL);
    g_source_attach(s->queue_source, context);
    s->watch = watch_new(config->expect, config->fail, config->sends, &session_watch_handlers,
                         s, err);
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
    GSource **const sources[] = {
        &s->queue_source, &s->panic_timer, &s->timeout_timer, &s->expect_timer, &s->type_timer,
        &s->suspend_timer,
        &s->signals[0], &s->signals[1], &s->signals[2],
    };

    control_free(s->control);
    machine_free(s->machine);
    watch_free(s->watch);
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        session_drop_source(sources[i]);
    }
    g_queue_clear_full(&s->queue, session_event_free);
    g_mutex_clear(&s->queue_lock);
    g_string_free(s->typing, TRUE);
    g_main_loop_unref(s->loop);
    verdict_clear(&s->verdict);
    g_free(s);
}

struct machine *session_machine(struct session *s)
{
    return s->machine;
}

const struct config *session_config(const struct session *s)
{
    return s->config;
}

GMutex *session_board_lock(struct session *s)
{
    return machine_lock(s->machine);
}

void session_confine(struct session *s)
{
    g_autofree char *dir = runtime_dir();

    machine_confine(s->machine, dir);
}

int session_run(struct session *s, GError **err)
{
    s->started_us = g_get_monotonic_time();
    session_catch_signals(s);
    session_set_timeout(s);
    if (!machine_start(s->machine, err)) {
        return EXIT_STATUS_CANNOT_RUN;
    }
    if (!s->verdict.ended) {
        g_main_loop_run(s->loop);
    }
    machine_pause(s->machine);
    control_event(s->control, "SHUTDOWN",
                  machine_state(s->machine) == MACHINE_ENDED
                      ? "{\"guest\":true,\"reason\":\"guest-shutdown\"}"
                      : "{\"guest\":false,\"reason\":\"host-qmp-quit\"}");
    return s->verdict.status;
}

const char *session_verdict(const struct session *s)
{
    return s->verdict.line;
}
