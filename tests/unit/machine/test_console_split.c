/* SPDX-License-Identifier: MIT */
/* Two consoles and early text on a terminal that does not take everything at once. */
#include <glib.h>
#include <string.h>

#include "fake_sink.h"
#include "machine/console_split.h"

enum { KEPT = 64 << 10 };

struct reader {
    unsigned ready;
    GString *typed;
};

static void sink_go_on(struct fake_sink *s, size_t room)
{
    s->room += room;
    s->handlers->tx_ready(s->opaque);
}

static size_t reader_rx(void *opaque, const uint8_t *buf, size_t len)
{
    g_string_append_len(((struct reader *)opaque)->typed, (const char *)buf, (gssize)len);
    return len;
}

static void reader_tx_ready(void *opaque)
{
    ((struct reader *)opaque)->ready++;
}

static const struct chardev_handlers reader_handlers = {
    .rx = reader_rx,
    .tx_ready = reader_tx_ready,
};

static size_t print(struct console_split *c, enum console_port port, const char *text)
{
    struct chardev *chr = console_split_port(c, port);

    return chr->ops->write(chr, (const uint8_t *)text, strlen(text));
}

static void say(struct console_split *c, const char *text)
{
    console_split_text(c, (const uint8_t *)text, strlen(text));
}

static void test_text_is_kept(void)
{
    struct fake_sink *s = fake_sink_new(3);
    struct console_split *c = console_split_new(&s->chr);

    say(c, "hello ");
    say(c, "world\n");
    g_assert_cmpstr(s->text->str, ==, "hel");
    sink_go_on(s, 4);
    g_assert_cmpstr(s->text->str, ==, "hello w");
    sink_go_on(s, 100);
    g_assert_cmpstr(s->text->str, ==, "hello world\n");
    say(c, "at once");
    g_assert_cmpstr(s->text->str, ==, "hello world\nat once");
    console_split_free(c);
    fake_sink_free(s);
}

static void test_consoles_wait_behind_it(void)
{
    struct fake_sink *s = fake_sink_new(2);
    struct console_split *c = console_split_new(&s->chr);
    struct chardev *hvc = console_split_port(c, CONSOLE_HVC);
    struct reader reader = {.typed = g_string_new(NULL)};

    hvc->ops->set_handlers(hvc, &reader_handlers, &reader);
    say(c, "early");
    s->room = 1;
    g_assert_cmpuint(print(c, CONSOLE_HVC, "late"), ==, 0);
    sink_go_on(s, 1);
    g_assert_cmpuint(reader.ready, ==, 0);
    sink_go_on(s, 100);
    g_assert_cmpuint(reader.ready, ==, 1);
    g_assert_cmpuint(print(c, CONSOLE_HVC, "late"), ==, 4);
    g_assert_cmpstr(s->text->str, ==, "earlylate");
    g_string_free(reader.typed, TRUE);
    console_split_free(c);
    fake_sink_free(s);
}

/* All lengths around the end of the ring come out as they went in. */
static void test_ring(void)
{
    struct fake_sink *s = fake_sink_new(0);
    struct console_split *c = console_split_new(&s->chr);
    g_autoptr(GString) said = g_string_new(NULL);

    for (unsigned i = 0; i < 3000; i++) {
        g_autofree char *line = g_strdup_printf("%u:%0*u\n", i, (int)(i % 97 + 1), i);

        say(c, line);
        g_string_append(said, line);
        if (said->len - s->text->len > KEPT - 200) {
            sink_go_on(s, 1021);
        }
    }
    sink_go_on(s, SIZE_MAX - s->room);
    g_assert_cmpstr(s->text->str, ==, said->str);
    console_split_free(c);
    fake_sink_free(s);
}

static void test_bounded(void)
{
    struct fake_sink *s = fake_sink_new(0);
    struct console_split *c = console_split_new(&s->chr);
    g_autofree char *much = g_strnfill(KEPT + 10, 'x');

    if (g_test_subprocess()) {
        say(c, much);
        say(c, "not this");
        sink_go_on(s, KEPT + 100);
        g_assert_cmpuint(s->text->len, ==, KEPT);
        say(c, "but this");
        g_assert_cmpstr(s->text->str + KEPT, ==, "but this");
    } else {
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_passed();
        g_test_trap_assert_stderr("*early text is incomplete*");
    }
    console_split_free(c);
    fake_sink_free(s);
}

static void test_input_is_the_consoles(void)
{
    struct fake_sink *s = fake_sink_new(100);
    struct console_split *c = console_split_new(&s->chr);
    struct chardev *serial = console_split_port(c, CONSOLE_SERIAL);
    struct reader reader = {.typed = g_string_new(NULL)};

    serial->ops->set_handlers(serial, &reader_handlers, &reader);
    say(c, "early");
    g_assert_cmpuint(console_split_input(c, (const uint8_t *)"a", 1), ==, 0);
    print(c, CONSOLE_SERIAL, "login: ");
    say(c, "early");
    g_assert_cmpuint(console_split_input(c, (const uint8_t *)"b", 1), ==, 1);
    g_assert_cmpstr(reader.typed->str, ==, "b");
    g_string_free(reader.typed, TRUE);
    console_split_free(c);
    fake_sink_free(s);
}

static void test_no_terminal(void)
{
    struct console_split *c = console_split_new(NULL);

    say(c, "nobody hears this");
    g_assert_cmpuint(print(c, CONSOLE_HVC, "nor this"), ==, 8);
    console_split_free(c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine/console-split/text-is-kept", test_text_is_kept);
    g_test_add_func("/machine/console-split/consoles-wait-behind-it",
                    test_consoles_wait_behind_it);
    g_test_add_func("/machine/console-split/ring", test_ring);
    g_test_add_func("/machine/console-split/bounded", test_bounded);
    g_test_add_func("/machine/console-split/input-is-the-consoles", test_input_is_the_consoles);
    g_test_add_func("/machine/console-split/no-terminal", test_no_terminal);
    return g_test_run();
}
