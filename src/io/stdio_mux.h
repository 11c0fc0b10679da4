/* SPDX-License-Identifier: MIT */
/*
 * stdin and stdout as a character device: the guest's console, with the Ctrl-A menu when stdin
 * is a terminal. Piped input is passed through byte for byte; its end leaves the guest running.
 * Also copies the output to a log file.
 */
#ifndef PVEMU_IO_STDIO_MUX_H
#define PVEMU_IO_STDIO_MUX_H

#include <glib.h>
#include <stdbool.h>

#include "core/chardev.h"
#include "io/console_menu.h"

struct stdio_mux_options {
    GMainContext *context;
    bool menu;             /* Ctrl-A is the menu key (stdin is a terminal) */
    const char *log_path;  /* NULL: no log */
    void (*key)(void *opaque, enum console_key key); /* main loop, lock not held */
    void *opaque;
};

struct chardev *stdio_mux_new(const struct stdio_mux_options *options, GError **err);
/* The board lock, taken around handler calls; borrowed. Before stdio_mux_start. */
void stdio_mux_set_lock(struct chardev *chr, GMutex *lock);
/* Starts to read stdin. Before it, input stays in the kernel. */
void stdio_mux_start(struct chardev *chr);
/* The terminal may have another size: what SIGWINCH does by itself. Lock not held. */
void stdio_mux_check_size(struct chardev *chr);
/* The run is over: from now on output waits for stdout (a pipe whose reader is slow), as long
 * as something moves, so that the last words are not lost. */
void stdio_mux_finish(struct chardev *chr);
/* stdout and stderr are the same file or terminal, and the guest's last line has no end: words
 * for the person need a line end first. */
bool stdio_mux_mid_line(struct chardev *chr);

#endif
