/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of xenstore, xenbus and the console: a bare domain on a fake board whose
 * event channels only count, and the guest's end of the xenstore ring.
 */
#ifndef PVEMU_TESTS_STORE_GUEST_H
#define PVEMU_TESTS_STORE_GUEST_H

#include <errno.h> /* before xs_wire.h */
#include <glib.h>
#include <stdint.h>

#include <xen/io/xs_wire.h>

#include "fake_board.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/xenstore.h"

#define HOME "/local/domain/1"

enum { STORE_PORT = 1, CONSOLE_PORT = 2, NR_PORTS = 8 };

struct store_guest {
    struct fake_board *fb;
    struct pv_domain d;
    struct xenstore *xs;
    struct xenstore_domain_interface *page;
    uint32_t next_req;
    uint32_t tx;              /* put into the next requests */
    /* The last message that was read. */
    struct xsd_sockmsg header;
    char payload[XENSTORE_PAYLOAD_MAX + 1];
    GQueue events;            /* "path token", of the guest's watches */
    unsigned notified[NR_PORTS]; /* events sent to the guest */
    struct evtchn_host *host[NR_PORTS];
};

struct store_guest *store_guest_new(void);
void store_guest_free(struct store_guest *g);
/* The guest sends an event on the port; posted work then runs. */
void store_guest_kick(struct store_guest *g, uint32_t port);
/* Writes to the ring as far as there is room; returns how many bytes fitted. No event. */
size_t store_guest_put(struct store_guest *g, const void *buf, size_t len);
size_t store_guest_get(struct store_guest *g, void *buf, size_t len);
/* Reads one message, keeping watch events apart unless `events`; false when there is none. */
bool store_guest_read(struct store_guest *g);
/* One request and its reply: 0 or the reply's errno. The reply is in header and payload. */
int store_guest_call(struct store_guest *g, uint32_t type, const void *payload, size_t len);
/* Payloads of strings, each with its NUL. */
int store_guest_call1(struct store_guest *g, uint32_t type, const char *a);
int store_guest_call2(struct store_guest *g, uint32_t type, const char *a, const char *b);
int store_guest_write(struct store_guest *g, const char *path, const char *value);
/* The next event as "path token" (caller frees), NULL when there is none. */
char *store_guest_event(struct store_guest *g);
void store_guest_start(struct store_guest *g); /* begins a transaction: g->tx */
int store_guest_end(struct store_guest *g, bool commit);
/* Asserts the next event. */
void store_guest_expect(struct store_guest *g, const char *event);

#endif
