/* SPDX-License-Identifier: MIT */
/*
 * What a run's end means: the exit status and the words for it, and what is to be done when the
 * guest stops. Pure decisions; session.c carries them out. The first thing that ends a run
 * decides, with these exceptions:
 *   - once -expect has matched, only -fail on the same line can still win;
 *   - a panic known by its text is the verdict of whatever ends the run after it.
 */
#ifndef PVEMU_CTL_VERDICT_H
#define PVEMU_CTL_VERDICT_H

#include <stdbool.h>

#include "base/config.h"
#include "machine/machine.h"

struct verdict {
    const struct config *config; /* borrowed */
    bool ended;
    int status;             /* once ended */
    char *line;             /* once ended: "PASS: ... (status 0)" */
    char *panic;            /* the panic's line, once known by its text */
    double panic_seconds;
    bool watchdog;          /* the panic is SHUTDOWN_watchdog, and nothing was said before */
    char *expected;         /* the words for -expect, once it matched */
    int term_signal;        /* the guest was asked to power off by this signal; 0: not */
};

void verdict_init(struct verdict *v, const struct config *config);
void verdict_clear(struct verdict *v);
/* The guest boots again: an earlier panic is history. */
void verdict_reset(struct verdict *v);

/* The console says so. text is the line; seconds is the guest's age in all of these. */
void verdict_panic_text(struct verdict *v, const char *text, double seconds);
void verdict_expect_text(struct verdict *v, const char *text, double seconds);
void verdict_fail_text(struct verdict *v, const char *text, double seconds); /* ends */

/* The guest stopped. Returns what to do; ACTION_EXIT has ended the run. */
enum config_action verdict_stopped(struct verdict *v, const struct machine_end *end,
                                   double seconds);
/* Time is over for a crash notice after a panic's text. ACTION_DEFAULT: a person watches and
 * asked for nothing. */
enum config_action verdict_panic_settled(struct verdict *v);
/* Nothing came that -fail could match on the line of -expect. Ends. */
void verdict_expect_settled(struct verdict *v);

/* These end the run. */
void verdict_timeout(struct verdict *v, double seconds, bool silent);
void verdict_signal(struct verdict *v, int signal, double seconds);
void verdict_quit(struct verdict *v, double seconds);
void verdict_cannot_go_on(struct verdict *v, const char *why);

#endif
