/* SPDX-License-Identifier: MIT */
/*
 * Reads the console's text as a person would: by lines, without escape sequences. Knows kernel
 * panics, and the patterns of -expect, -fail and -send. A line that has no end yet (a prompt)
 * counts as far as it goes. Not thread-safe: callers hold the board lock.
 */
#ifndef PVEMU_CTL_WATCH_H
#define PVEMU_CTL_WATCH_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watch;

enum watch_event { WATCH_PANIC, WATCH_FAIL, WATCH_EXPECT, WATCH_SEND };

struct watch_handlers {
    /* text: the line that matched (panic: from "Kernel panic" on); for WATCH_SEND the bytes to
     * type, len long. On the thread that called watch_feed(). */
    void (*event)(void *opaque, enum watch_event event, const char *text, size_t len);
};

/* expect, fail: regular expressions or NULL; sends: the arguments of -send in order. */
struct watch *watch_new(const char *expect, const char *fail, const GPtrArray *sends,
                        const struct watch_handlers *handlers, void *opaque, GError **err);
void watch_free(struct watch *w);
void watch_feed(struct watch *w, const uint8_t *buf, size_t len);
/* The guest boots again: the line that has no end is dropped, and a new panic counts. */
void watch_reset(struct watch *w);
/* Bytes seen so far. */
uint64_t watch_bytes(const struct watch *w);

#endif
