/* SPDX-License-Identifier: MIT */
/* The folder of control sockets, and who is alive in it. */
#ifndef PVEMU_CTL_RUNTIME_DIR_H
#define PVEMU_CTL_RUNTIME_DIR_H

#include <glib.h>
#include <stdbool.h>

/* $XDG_RUNTIME_DIR/pvemu, else pvemu-UID in the temporary folder. Caller frees. */
char *runtime_dir(void);
/* Makes it, for its owner only; refuses one that somebody else owns. */
bool runtime_dir_make(const char *path, GError **err);
/* NAME.sock in it. Caller frees. */
char *runtime_socket_path(const char *name);
/* Connects to a guest's socket; -1 and errno. A socket that nobody listens on is removed (ECONNREFUSED). */
int runtime_connect(const char *path);
/* The names of running guests, sorted; NULL-terminated. Dead sockets are removed. */
char **runtime_names(void);

#endif
