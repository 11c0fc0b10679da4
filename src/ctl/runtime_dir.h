/* SPDX-License-Identifier: MIT */
/*
 * The folder of control sockets, and who is alive in it. A socket lives as long as its guest;
 * one that nobody listens on is left over from a crash and removed by whoever meets it. The
 * folder is locked meanwhile, so that nobody removes the socket of a guest that just starts.
 */
#ifndef PVEMU_CTL_RUNTIME_DIR_H
#define PVEMU_CTL_RUNTIME_DIR_H

#include <glib.h>
#include <stdbool.h>

/* $XDG_RUNTIME_DIR/pvemu, else pvemu-UID in the temporary folder. Caller frees. */
char *runtime_dir(void);
/* Makes it, for its owner only; refuses one that somebody else owns or can enter. */
bool runtime_dir_make(const char *path, GError **err);
/* NAME.sock in it. Caller frees. */
char *runtime_socket_path(const char *name);
/* Connects to a guest's socket, with a limit of 5 s on sending and receiving; -1 and errno. */
int runtime_connect(const char *path);
/* A listening socket, non-blocking; -1 and errno, EADDRINUSE when a living guest has it. */
int runtime_listen(const char *path, int backlog);
/* The names of running guests, sorted; NULL-terminated. */
char **runtime_names(void);

#endif
