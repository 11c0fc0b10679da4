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

enum stdio_command { STDIO_QUIT, STDIO_HELP };

struct stdio_mux_options {
    GMainContext *context;
    GMutex *lock;          /* the board lock, taken around handler calls; NULL until stdio_mux_set_lock */
    bool menu;             /* Ctrl-A is the menu key (stdin is a terminal) */
    const char *log_path;  /* NULL: no log */
    void (*command)(void *opaque, enum stdio_command command); /* main loop, lock not held */
    void *opaque;
};

struct chardev *stdio_mux_new(const struct stdio_mux_options *options, GError **err);
void stdio_mux_set_lock(struct chardev *chr, GMutex *lock);
/* Starts to read stdin. Before it, input stays in the kernel. */
void stdio_mux_start(struct chardev *chr);

#endif
