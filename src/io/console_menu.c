/* SPDX-License-Identifier: MIT */
/* The Ctrl-A menu. */
#include "io/console_menu.h"

enum { MENU_KEY = 1 /* Ctrl-A */, CTRL_C = 3, CTRL_C_HINT_COUNT = 3, CTRL_C_US = 1000000 };

/* The key after Ctrl-A. true: it is for the guest. */
static bool menu_key(struct console_menu *menu, uint8_t byte)
{
    menu->pending = false;
    if (byte == 'x' || byte == 'X') {
        menu->key(menu->opaque, CONSOLE_KEY_QUIT);
    } else if (byte == 'h' || byte == 'H' || byte == '?') {
        menu->key(menu->opaque, CONSOLE_KEY_HELP);
    }
    return byte == MENU_KEY;
}

/* It goes to the guest; who hits it again and again may not know that. */
static void menu_ctrl_c(struct console_menu *menu, int64_t now_us)
{
    if (menu->ctrl_c_count == 0 || now_us - menu->ctrl_c_us > CTRL_C_US) {
        menu->ctrl_c_count = 0;
        menu->ctrl_c_us = now_us;
    }
    if (++menu->ctrl_c_count == CTRL_C_HINT_COUNT) {
        menu->key(menu->opaque, CONSOLE_KEY_CTRL_C_HINT);
    }
}

size_t console_menu_filter(struct console_menu *menu, uint8_t *buf, size_t len, int64_t now_us)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        bool for_guest = true;

        if (menu->pending) {
            for_guest = menu_key(menu, buf[i]);
        } else if (buf[i] == MENU_KEY) {
            menu->pending = true;
            for_guest = false;
        } else if (buf[i] == CTRL_C) {
            menu_ctrl_c(menu, now_us);
        } else {
            menu->ctrl_c_count = 0;
        }
        if (for_guest) {
            buf[out++] = buf[i];
        }
    }
    return out;
}
