/* SPDX-License-Identifier: MIT */
/*
 * The user's terminal: raw while a guest has it, and put back after every way of ending.
 *
 * A guardian child holds the old settings and waits for this process to end; it puts them back
 * when nobody else can (SIGKILL, a crash). It is forked before there is guest memory or any
 * thread and holds nothing but the terminal and one pipe.
 */
#ifndef PVEMU_IO_TERMINAL_H
#define PVEMU_IO_TERMINAL_H

#include <glib.h>
#include <stdbool.h>

#include "base/config.h"

struct terminal;

/* NULL with *err unset when stdin is not a terminal. */
struct terminal *terminal_new(enum config_sandbox sandbox, GError **err);
/* Raw mode on; the guardian is told what to restore. */
void terminal_enter_raw(struct terminal *t);
/* What else a stop of this process means; main loop. */
struct terminal_job {
    void (*stop)(void *opaque);    /* SIGTSTP: before the terminal is put back */
    void (*go_on)(void *opaque);   /* SIGCONT: after it is raw again; also without a stop */
    void *opaque;
};
/* From now on SIGTSTP puts the terminal back before it stops this process, and SIGCONT makes it
 * raw again. terminal_new has blocked both signals, for all threads to come. */
void terminal_watch_job(struct terminal *t, GMainContext *context,
                        const struct terminal_job *job);
/* The old settings back, and what full-screen programs leave behind: cursor shown, wrap on,
 * colours off, alternate screen left. Idempotent. Async-signal-safe. */
void terminal_restore(struct terminal *t);
/* Restores, ends the guardian, frees. */
void terminal_free(struct terminal *t);
/* false: stdout is no terminal. Zeros: it does not know its size. */
bool terminal_size(unsigned *columns, unsigned *rows);

#endif
