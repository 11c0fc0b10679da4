/* SPDX-License-Identifier: MIT */
/* A file descriptor that closes itself at the end of its scope (glib 2.74 has no g_autofd). */
#ifndef PVEMU_BASE_AUTO_FD_H
#define PVEMU_BASE_AUTO_FD_H

#include <unistd.h>

static inline void auto_fd_close(const int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}
#define auto_fd __attribute__((cleanup(auto_fd_close), unused)) int

/* Takes the descriptor out of the variable, so that it is not closed. */
static inline int auto_fd_steal(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#endif
