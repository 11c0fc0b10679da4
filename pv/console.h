/* SPDX-License-Identifier: MIT */
/*
 * The primary Xen console (hvc0): the ring page of the domain on one side, a character stream
 * of the host on the other. All with the board lock held.
 */
#ifndef PVEMU_PV_CONSOLE_H
#define PVEMU_PV_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

struct chardev;
struct pv_console;
struct pv_domain;
struct state;

/* Sees every byte that the guest printed and the stream took, once and in order. */
typedef void (*pv_console_tap_fn)(void *opaque, const uint8_t *buf, size_t len);

/* chr is borrowed; NULL: output goes nowhere but the tap. */
struct pv_console *pv_console_new(struct pv_domain *d, struct chardev *chr);
void pv_console_free(struct pv_console *c);
/* Clears the ring page and serves it through d->console_port. After pv_domain_new; again after
 * pv_domain_reset. */
void pv_console_connect(struct pv_console *c);
/* The guest came out of a suspend: serves the ring as it is through the new d->console_port. */
void pv_console_rebind(struct pv_console *c);
void pv_console_set_tap(struct pv_console *c, pv_console_tap_fn fn, void *opaque);
/* Passes on what is in the ring, as far as the stream takes it: before a reset or the end. */
void pv_console_flush(struct pv_console *c);
/* Types for the guest; returns how many bytes had room. */
size_t pv_console_input(struct pv_console *c, const uint8_t *buf, size_t len);
void pv_console_state(struct pv_console *c, struct state *s);

#endif
