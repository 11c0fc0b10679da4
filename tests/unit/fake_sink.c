/* SPDX-License-Identifier: MIT */
#include "fake_sink.h"

static size_t sink_write(struct chardev *chr, const uint8_t *buf, size_t len)
{
    struct fake_sink *s = (struct fake_sink *)chr;
    size_t n = MIN(len, s->room);

    g_string_append_len(s->text, (const char *)buf, (gssize)n);
    s->room -= n;
    return n;
}

static void sink_set_handlers(struct chardev *chr, const struct chardev_handlers *handlers,
                              void *opaque)
{
    ((struct fake_sink *)chr)->handlers = handlers;
    ((struct fake_sink *)chr)->opaque = opaque;
}

static void sink_rx_ready(struct chardev *chr)
{
    ((struct fake_sink *)chr)->rx_ready++;
}

static bool sink_get_size(struct chardev *chr, unsigned *columns, unsigned *rows)
{
    const struct fake_sink *s = (struct fake_sink *)chr;

    *columns = s->columns;
    *rows = s->rows;
    return s->is_terminal;
}

static const struct chardev_ops sink_ops = {
    .name = "sink", .write = sink_write, .set_handlers = sink_set_handlers,
    .rx_ready = sink_rx_ready, .get_size = sink_get_size,
};

struct fake_sink *fake_sink_new(size_t room)
{
    struct fake_sink *s = g_new0(struct fake_sink, 1);

    s->chr.ops = &sink_ops;
    s->text = g_string_new(NULL);
    s->room = room;
    return s;
}

void fake_sink_free(struct fake_sink *s)
{
    g_string_free(s->text, TRUE);
    g_free(s);
}
