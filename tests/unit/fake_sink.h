/* SPDX-License-Identifier: MIT */
/* A terminal for unit tests that takes as much as it is told to, and keeps it. */
#ifndef PVEMU_TESTS_FAKE_SINK_H
#define PVEMU_TESTS_FAKE_SINK_H

#include <glib.h>

#include "core/chardev.h"

struct fake_sink {
    struct chardev chr; /* first */
    GString *text;
    size_t room; /* how much write() takes now */
    const struct chardev_handlers *handlers;
    void *opaque;
    unsigned rx_ready; /* calls of it */
    unsigned columns, rows;
    bool is_terminal;
};

struct fake_sink *fake_sink_new(size_t room);
void fake_sink_free(struct fake_sink *s);

#endif
