/* SPDX-License-Identifier: MIT */
/* The table of exit statuses (`pvemu help exit-codes`) as code. */
#include "ctl/verdict.h"

#include <glib.h>
#include <signal.h>
#include <string.h>

#include "base/exit_status.h"

enum { EVIDENCE_MAX = 160 };

static const char PANIC_PREFIX[] = "Kernel panic - not syncing: ";

void verdict_init(struct verdict *v, const struct config *config)
{
    memset(v, 0, sizeof(*v));
    v->config = config;
}

void verdict_clear(struct verdict *v)
{
    g_clear_pointer(&v->line, g_free);
    g_clear_pointer(&v->panic, g_free);
    g_clear_pointer(&v->expected, g_free);
}

void verdict_reset(struct verdict *v)
{
    g_clear_pointer(&v->panic, g_free);
    v->watchdog = false;
}

/* The guest's words as they may be shown: valid, without control characters, not too long. */
static char *verdict_evidence(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *shown = g_string_new(NULL);

    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (shown->len + 4 > EVIDENCE_MAX) {
            g_string_append(shown, "...");
            break;
        }
        g_string_append_unichar(shown, g_unichar_iscntrl(c) ? ' ' : c);
    }
    return g_string_free(shown, FALSE);
}

G_GNUC_PRINTF(3, 4)
static void verdict_end(struct verdict *v, int status, const char *fmt, ...)
{
    g_autofree char *words = NULL;
    va_list ap;

    if (v->ended) {
        return;
    }
    v->ended = true;
    v->status = status;
    va_start(ap, fmt);
    words = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    v->line = g_strdup_printf("%s: %s (status %d)", status == 0 ? "PASS" : "FAIL", words,
                              status);
}

/* --- the console --- */

void verdict_panic_text(struct verdict *v, const char *text, double seconds)
{
    g_free(v->panic);
    v->panic = verdict_evidence(g_str_has_prefix(text, PANIC_PREFIX)
                                    ? text + strlen(PANIC_PREFIX) : text);
    v->panic_seconds = seconds;
}

void verdict_expect_text(struct verdict *v, const char *text, double seconds)
{
    g_autofree char *shown = verdict_evidence(text);

    if (v->panic == NULL && v->expected == NULL) {
        v->expected = g_strdup_printf("-expect matched after %.1f s: \"%s\"", seconds, shown);
    }
}

void verdict_fail_text(struct verdict *v, const char *text, double seconds)
{
    g_autofree char *shown = verdict_evidence(text);

    verdict_end(v, EXIT_STATUS_FAIL_SEEN, "-fail matched after %.1f s: \"%s\"", seconds, shown);
}

void verdict_expect_settled(struct verdict *v)
{
    if (v->expected != NULL) {
        verdict_end(v, EXIT_STATUS_OK, "%s", v->expected);
    }
}

/* --- the guest --- */

static enum config_action verdict_action(const struct verdict *v, enum config_action asked,
                                         enum config_action attended)
{
    if (asked != ACTION_DEFAULT) {
        return asked;
    }
    return v->config->unattended ? ACTION_EXIT : attended;
}

static void verdict_panicked(struct verdict *v, double seconds)
{
    seconds = v->panic != NULL ? v->panic_seconds : seconds;
    if (v->watchdog) {
        verdict_end(v, EXIT_STATUS_PANIC, "the guest's watchdog fired after %.1f s", seconds);
        return;
    }
    verdict_end(v, EXIT_STATUS_PANIC, "kernel panic after %.1f s: \"%s\"", seconds,
                v->panic != NULL ? v->panic : "the guest said that it crashed");
}

/* What was known before decides, if anything was. Ends then. */
static bool verdict_known(struct verdict *v, double seconds)
{
    verdict_expect_settled(v);
    /* With -on panic=reset a panic is no end, nor is the moment before the reset. */
    if (!v->ended && v->panic != NULL && v->config->on_panic != ACTION_RESET) {
        verdict_panicked(v, seconds);
    }
    return v->ended;
}

static enum config_action verdict_crashed(struct verdict *v, double seconds)
{
    enum config_action action = verdict_action(v, v->config->on_panic, ACTION_PAUSE);

    if (v->term_signal != 0) {
        action = ACTION_EXIT; /* it was to end anyway */
    }
    if (action == ACTION_EXIT) {
        verdict_panicked(v, seconds);
    } else if (v->panic == NULL) {
        verdict_panic_text(v, "the guest said that it crashed", seconds);
    }
    return action;
}

enum config_action verdict_panic_settled(struct verdict *v)
{
    enum config_action action = verdict_action(v, v->config->on_panic, ACTION_DEFAULT);

    if (action == ACTION_EXIT) {
        verdict_panicked(v, v->panic_seconds);
    }
    return action;
}

/* what: "powered off", "rebooted", ...; status: without -expect. */
static enum config_action verdict_left(struct verdict *v, enum config_action action,
                                       const char *what, int status, double seconds)
{
    const bool expecting = v->config->expect != NULL;

    if (v->term_signal != 0) {
        verdict_end(v, EXIT_STATUS_SIGNAL + v->term_signal, "%s on request after %.1f s", what,
                    seconds);
        return ACTION_EXIT;
    }
    if (action == ACTION_EXIT) {
        verdict_end(v, expecting ? EXIT_STATUS_NOT_EXPECTED : status,
                    "the guest %s after %.1f s%s", what, seconds,
                    expecting ? ", before -expect was met" : "");
    }
    return action;
}

static enum config_action verdict_rebooted(struct verdict *v, const char *what, double seconds)
{
    return verdict_left(v, verdict_action(v, v->config->on_reboot, ACTION_RESET), what,
                        EXIT_STATUS_REBOOT, seconds);
}

enum config_action verdict_stopped(struct verdict *v, const struct machine_end *end,
                                   double seconds)
{
    verdict_expect_settled(v);
    if (v->ended) {
        return ACTION_EXIT;
    }
    if (v->panic == NULL && end->reason == STOP_CRASH && end->message[0] != '\0') {
        v->panic = verdict_evidence(end->message); /* the hypervisor ended it */
        v->panic_seconds = seconds;
    }
    v->watchdog = v->panic == NULL && end->reason == STOP_WATCHDOG;
    /* A reboot after a panic is the panic's: panic=-1. */
    if (v->panic != NULL || end->reason == STOP_CRASH || end->reason == STOP_WATCHDOG) {
        return verdict_crashed(v, seconds);
    }
    switch (end->reason) {
    case STOP_POWEROFF:
        return verdict_left(v, verdict_action(v, v->config->on_poweroff, ACTION_EXIT),
                            "powered off", EXIT_STATUS_OK, seconds);
    case STOP_REBOOT:
    case STOP_SOFT_RESET:
        return verdict_rebooted(v, "rebooted", seconds);
    case STOP_TRIPLE_FAULT:
        return verdict_rebooted(v, "triple-faulted", seconds);
    case STOP_SUSPEND:
        verdict_end(v, EXIT_STATUS_SUSPEND, "the guest suspended itself after %.1f s", seconds);
        return ACTION_EXIT;
    case STOP_EXIT_CODE:
        verdict_end(v, end->code, "the guest ended with code %d after %.1f s", end->code,
                    seconds);
        return ACTION_EXIT;
    default:
        verdict_cannot_go_on(v, end->message);
        return ACTION_EXIT;
    }
}

/* --- others --- */

void verdict_timeout(struct verdict *v, double seconds, bool silent)
{
    if (!verdict_known(v, seconds)) {
        verdict_end(v, EXIT_STATUS_TIMEOUT, "-timeout reached after %.1f s%s", seconds,
                    silent ? ", without a byte of console output" : "");
    }
}

void verdict_signal(struct verdict *v, int signal, double seconds)
{
    const char *name = signal == SIGTERM ? "SIGTERM" : signal == SIGINT ? "SIGINT" : "SIGHUP";

    verdict_end(v, EXIT_STATUS_SIGNAL + signal, "ended by %s after %.1f s", name, seconds);
}

void verdict_quit(struct verdict *v, double seconds)
{
    if (verdict_known(v, seconds)) {
        return;
    }
    if (v->config->expect != NULL) {
        verdict_end(v, EXIT_STATUS_NOT_EXPECTED,
                    "ended by the user after %.1f s, before -expect was met", seconds);
    } else {
        verdict_end(v, EXIT_STATUS_OK, "ended by the user after %.1f s", seconds);
    }
}

void verdict_cannot_go_on(struct verdict *v, const char *why)
{
    verdict_end(v, EXIT_STATUS_CANNOT_RUN, "the guest cannot go on: %s", why);
}
