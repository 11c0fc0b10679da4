/* SPDX-License-Identifier: MIT */
/*
 * The state stream: one function per device both saves and loads, so the two cannot disagree.
 *
 *     static void uart_state(struct device *dev, struct state *s)
 *     {
 *         struct uart *u = (struct uart *)dev;
 *         state_u8(s, "lcr", &u->lcr);
 *     }
 *
 * Saving appends tag, length, value; loading checks the tag and reads the value back. The first
 * mismatch makes the stream bad (sticky) and leaves values alone. A loaded stream is hostile:
 * range-check what was read, and call state_fail() when it cannot be.
 */
#ifndef PVEMU_CORE_STATE_H
#define PVEMU_CORE_STATE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state;

struct state *state_new_save(void);
struct state *state_new_load(const void *data, size_t len); /* copies */
void state_free(struct state *s);
bool state_loading(const struct state *s);
bool state_ok(const struct state *s);
const char *state_error(const struct state *s); /* NULL while ok */
void state_fail(struct state *s, const char *why);
/* The bytes saved so far; borrowed. */
const void *state_data(const struct state *s, size_t *len);

void state_bool(struct state *s, const char *tag, bool *v);
void state_u8(struct state *s, const char *tag, uint8_t *v);
void state_u16(struct state *s, const char *tag, uint16_t *v);
void state_u32(struct state *s, const char *tag, uint32_t *v);
void state_u64(struct state *s, const char *tag, uint64_t *v);
void state_bytes(struct state *s, const char *tag, void *buf, size_t len); /* fixed length */
/* Variable length, at most max; when loading *buf is newly allocated (caller frees). */
void state_blob(struct state *s, const char *tag, void **buf, size_t *len, size_t max);

#endif
