/* SPDX-License-Identifier: MIT */
/*
 * The keys of a console that belong to pvemu: Ctrl-A, then x quits, h helps, Ctrl-A is itself.
 * All other keys after Ctrl-A are reserved and go nowhere. Also notices the user who hits
 * Ctrl-C again and again to get out.
 */
#ifndef PVEMU_IO_CONSOLE_MENU_H
#define PVEMU_IO_CONSOLE_MENU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum console_key { CONSOLE_KEY_QUIT, CONSOLE_KEY_HELP, CONSOLE_KEY_CTRL_C_HINT };

struct console_menu {
    void (*key)(void *opaque, enum console_key key);
    void *opaque;
    bool pending;          /* Ctrl-A was the last byte */
    unsigned ctrl_c_count; /* in a row, within a second of the first */
    int64_t ctrl_c_us;     /* when the first came */
};

/* Takes menu keys out of what was typed, in place; returns how much is left for the guest. */
size_t console_menu_filter(struct console_menu *menu, uint8_t *buf, size_t len, int64_t now_us);

#endif
