/* SPDX-License-Identifier: MIT */
/* Debug lines per room, for `-d hw,boot`: one branch when off. */
#ifndef PVEMU_BASE_LOG_H
#define PVEMU_BASE_LOG_H

#include <glib.h>
#include <stdbool.h>

enum log_room {
    LOG_BOOT = 1 << 0,
    LOG_CPU = 1 << 1,
    LOG_HW = 1 << 2,
    LOG_PV = 1 << 3,
    LOG_IO = 1 << 4,
    LOG_MACHINE = 1 << 5,
    LOG_CTL = 1 << 6,
    LOG_XENSTORE = 1 << 7,
    LOG_HYPERCALL = 1 << 8,
    LOG_INT = 1 << 9,     /* interrupts and exceptions delivered */
    LOG_IN_ASM = 1 << 10, /* the translator: what it translates, to what, */
    LOG_OUT_ASM = 1 << 11,
    LOG_EXITS = 1 << 12,  /* why translated code was left, */
    LOG_STATS = 1 << 13,  /* counters at the end */
};

extern unsigned log_mask; /* set once at start-up, before any thread */

/* Parses "hw,boot"; false and a message naming the unknown word otherwise. */
bool log_set(const char *rooms, GError **err);
/* Lines go to this file from now on; it is overwritten. */
bool log_open(const char *path, GError **err);
void log_write(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

#define log_debug(room, ...)                                                                   \
    do {                                                                                       \
        if (G_UNLIKELY(log_mask & (room))) {                                                   \
            log_write(__VA_ARGS__);                                                            \
        }                                                                                      \
    } while (0)

#endif
