/* SPDX-License-Identifier: MIT */
/*
 * One terminal for two guest consoles and early text.
 *
 * A console's bytes that the terminal does not take stay with the guest. Early text has nowhere
 * to stay: a bounded queue keeps it, consoles wait behind it so that the order holds, and what
 * does not fit is left out with a warning.
 */
#include "machine/console_split.h"

#include <glib.h>
#include <string.h>

#include "base/report.h"

enum { TEXT_BYTES = 64 << 10 };

struct split_port {
    struct chardev chr; /* first */
    struct console_split *split;
    const struct chardev_handlers *handlers;
    void *opaque;
};

struct console_split {
    struct chardev *back;
    struct split_port port[CONSOLE_NR_PORTS];
    struct split_port *active; /* where input goes: who printed last; NULL before anybody has */
    struct report_gate text_gate;
    size_t text_first, text_len; /* of text, a ring: early text that is still to be written */
    uint8_t text[TEXT_BYTES];
};

static struct split_port *port_of(struct chardev *chr)
{
    return (struct split_port *)chr;
}

static size_t split_write(struct chardev *chr, const uint8_t *buf, size_t len)
{
    struct split_port *p = port_of(chr);
    struct chardev *back = p->split->back;
    bool first = p->split->active == NULL;

    p->split->active = p;
    if (first && back != NULL) {
        back->ops->rx_ready(back); /* input that came before anybody could take it */
    }
    if (p->split->text_len > 0) {
        return 0; /* tx_ready comes when it is gone */
    }
    return back == NULL ? len : back->ops->write(back, buf, len);
}

static void split_set_handlers(struct chardev *chr, const struct chardev_handlers *handlers,
                               void *opaque)
{
    port_of(chr)->handlers = handlers;
    port_of(chr)->opaque = opaque;
}

static void split_rx_ready(struct chardev *chr)
{
    struct console_split *c = port_of(chr)->split;

    if (c->back != NULL && c->active == port_of(chr)) {
        c->back->ops->rx_ready(c->back);
    }
}

static bool split_get_size(struct chardev *chr, unsigned *columns, unsigned *rows)
{
    struct chardev *back = port_of(chr)->split->back;

    return back != NULL && back->ops->get_size(back, columns, rows);
}

static void split_port_close(struct chardev *chr)
{
    split_set_handlers(chr, NULL, NULL);
}

static const struct chardev_ops split_ops = {
    .name = "console",
    .write = split_write,
    .set_handlers = split_set_handlers,
    .rx_ready = split_rx_ready,
    .get_size = split_get_size,
    .close = split_port_close,
};

/* Writes what waits; false: there is more. */
static bool split_drain_text(struct console_split *c)
{
    while (c->text_len > 0) {
        size_t len = MIN(c->text_len, TEXT_BYTES - c->text_first);
        size_t n = c->back->ops->write(c->back, c->text + c->text_first, len);

        c->text_first = (c->text_first + n) % TEXT_BYTES;
        c->text_len -= n;
        if (n < len) {
            return false;
        }
    }
    return true;
}

static void split_keep_text(struct console_split *c, const uint8_t *buf, size_t len)
{
    const size_t end = (c->text_first + c->text_len) % TEXT_BYTES;
    const size_t take = MIN(len, TEXT_BYTES - c->text_len);
    const size_t piece = MIN(take, TEXT_BYTES - end);

    memcpy(c->text + end, buf, piece);
    memcpy(c->text, buf + piece, take - piece);
    c->text_len += take;
    if (take < len) {
        report_warn_limited(&c->text_gate,
                            "the guest's early text is incomplete: nobody reads it as fast");
    }
}

void console_split_text(struct console_split *c, const uint8_t *buf, size_t len)
{
    size_t n = 0;

    if (c->back == NULL) {
        return;
    }
    if (c->text_len == 0) {
        n = c->back->ops->write(c->back, buf, len);
    }
    if (n < len) {
        split_keep_text(c, buf + n, len - n);
    }
}

size_t console_split_input(struct console_split *c, const uint8_t *buf, size_t len)
{
    const struct split_port *p = c->active;

    return p == NULL || p->handlers == NULL ? 0 : p->handlers->rx(p->opaque, buf, len);
}

static size_t split_rx(void *opaque, const uint8_t *buf, size_t len)
{
    return console_split_input(opaque, buf, len);
}

static void split_tx_ready(void *opaque)
{
    struct console_split *c = opaque;
    struct split_port *active = c->active; /* writing makes a port active: keep the choice */

    if (!split_drain_text(c)) {
        return;
    }
    for (unsigned i = 0; i < CONSOLE_NR_PORTS; i++) {
        const struct split_port *p = &c->port[i];

        if (p->handlers != NULL && p->handlers->tx_ready != NULL) {
            p->handlers->tx_ready(p->opaque);
        }
    }
    c->active = active;
}

static void split_resize(void *opaque, unsigned columns, unsigned rows)
{
    const struct console_split *c = opaque;

    for (unsigned i = 0; i < CONSOLE_NR_PORTS; i++) {
        const struct split_port *p = &c->port[i];

        if (p->handlers != NULL && p->handlers->resize != NULL) {
            p->handlers->resize(p->opaque, columns, rows);
        }
    }
}

static const struct chardev_handlers split_handlers = {
    .rx = split_rx, .tx_ready = split_tx_ready, .resize = split_resize};

struct console_split *console_split_new(struct chardev *chr)
{
    struct console_split *c = g_new0(struct console_split, 1);

    c->back = chr;
    for (unsigned i = 0; i < CONSOLE_NR_PORTS; i++) {
        c->port[i].chr.ops = &split_ops;
        c->port[i].split = c;
    }
    if (chr != NULL) {
        chr->ops->set_handlers(chr, &split_handlers, c);
    }
    return c;
}

void console_split_free(struct console_split *c)
{
    if (c == NULL) {
        return;
    }
    if (c->back != NULL) {
        c->back->ops->set_handlers(c->back, NULL, NULL);
    }
    g_free(c);
}

struct chardev *console_split_port(struct console_split *c, enum console_port port)
{
    return &c->port[port].chr;
}
