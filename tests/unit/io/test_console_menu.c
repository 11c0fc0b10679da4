/* SPDX-License-Identifier: MIT */
/* The Ctrl-A menu: what is pvemu's and what is the guest's. */
#include <glib.h>
#include <string.h>

#include "io/console_menu.h"

enum { SECOND = 1000000 };

static void key_seen(void *opaque, enum console_key key)
{
    g_string_append_c(opaque, "xhc"[key]);
}

static void type_at(struct console_menu *menu, const char *keys, int64_t now_us,
                    const char *guest, const char *mine)
{
    g_autofree char *buf = g_strdup(keys);
    size_t len = console_menu_filter(menu, (uint8_t *)buf, strlen(keys), now_us);
    GString *seen = menu->opaque;

    buf[len] = '\0';
    g_assert_cmpstr(buf, ==, guest);
    g_assert_cmpstr(seen->str, ==, mine);
    g_string_truncate(seen, 0);
}

static void test_keys(void)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct console_menu menu = {.key = key_seen, .opaque = seen};

    type_at(&menu, "text\r", 0, "text\r", "");
    type_at(&menu, "a\001xb", 0, "ab", "x");
    type_at(&menu, "\001X\001h\001H\001?", 0, "", "xhhh");
    type_at(&menu, "a\001\001b", 0, "a\001b", "");
    type_at(&menu, "\001\001x", 0, "\001x", "");
    type_at(&menu, "\001c\001qz", 0, "z", ""); /* reserved */
    type_at(&menu, "xh", 0, "xh", "");
    type_at(&menu, "", 0, "", "");
}

/* The two keys may come in two reads. */
static void test_halves(void)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct console_menu menu = {.key = key_seen, .opaque = seen};

    type_at(&menu, "a\001", 0, "a", "");
    type_at(&menu, "xb", 9 * SECOND, "b", "x");
    type_at(&menu, "\001", 9 * SECOND, "", "");
    type_at(&menu, "\001", 9 * SECOND, "\001", "");
    type_at(&menu, "x", 9 * SECOND, "x", "");
}

static void test_ctrl_c(void)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct console_menu menu = {.key = key_seen, .opaque = seen};

    type_at(&menu, "\003\003", 5 * SECOND, "\003\003", "");
    type_at(&menu, "\003", 5 * SECOND + SECOND / 2, "\003", "c");
    type_at(&menu, "\003", 5 * SECOND + SECOND / 2, "\003", ""); /* once is enough */
    type_at(&menu, "\003\003a\003", 20 * SECOND, "\003\003a\003", "");
    type_at(&menu, "\003", 30 * SECOND, "\003", "");
    type_at(&menu, "\003", 32 * SECOND, "\003", ""); /* too slow */
    type_at(&menu, "\003", 34 * SECOND, "\003", "");
    type_at(&menu, "\003\003", 34 * SECOND, "\003\003", "c");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/io/console_menu/keys", test_keys);
    g_test_add_func("/io/console_menu/halves", test_halves);
    g_test_add_func("/io/console_menu/ctrl-c", test_ctrl_c);
    return g_test_run();
}
