/* SPDX-License-Identifier: MIT */
/*
 * One run of a guest from start to verdict: joins the machine, the console's text, time limits
 * and signals, and says at the end how it went. Main loop's thread, board lock not held.
 */
#ifndef PVEMU_CTL_SESSION_H
#define PVEMU_CTL_SESSION_H

#include <glib.h>
#include <stdbool.h>

#include "base/config.h"
#include "core/chardev.h"
#include "machine/machine.h"

struct session;

/* Makes the machine. console is borrowed. */
struct session *session_new(const struct config *config, GMainContext *context,
                            struct chardev *console, GError **err);
void session_free(struct session *s);
struct machine *session_machine(struct session *s);
const struct config *session_config(const struct session *s);
/* The board lock, for the console's handlers; borrowed. */
GMutex *session_board_lock(struct session *s);
/* Puts the process into its sandbox: after session_new(), before any GLib signal source. */
void session_confine(struct session *s);
/* Starts the guest and runs the main loop to the end. Returns the exit status. */
int session_run(struct session *s, GError **err);
/* The verdict as one line without prefix, for the last line on stderr; borrowed. Valid after
 * session_run. */
const char *session_verdict(const struct session *s);

/* --- what the user and the control socket ask for --- */

/* Ctrl-A X and `quit`. */
void session_quit(struct session *s);
/* QMP's word for how the guest is: "running", "paused", "prelaunch", "guest-panicked", ... */
const char *session_status(const struct session *s);
/* Lets a paused guest go on. NULL, or why it cannot (a constant). */
const char *session_resume(struct session *s);
/*
 * Asks the guest to suspend. NULL, or why it cannot (a constant). When it has, the status is
 * "suspended" and the event SUSPEND is sent; SUSPEND_FAILED with a reason when it could not hear
 * for 10 s (its driver listens again some time after a resume), or has not a minute later.
 */
const char *session_suspend(struct session *s);
/* Lets a suspended guest go on: cancelled, as if nothing had been, else as in a new domain. */
bool session_wake(struct session *s, bool cancelled, GError **err);
/* Asks the guest to power off. NULL, or why it cannot hear (a constant). */
const char *session_power_down(struct session *s);

#endif
