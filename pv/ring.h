/* SPDX-License-Identifier: MIT */
/*
 * Shared rings seen from the back end (public/io/ring.h), for pages that a hostile guest writes
 * to at any time. The producer index and each request are read once, into private memory;
 * nothing in pv/ but ring.c dereferences a shared ring page.
 */
#ifndef PVEMU_PV_RING_H
#define PVEMU_PV_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RING_MAX_PAGES = 16 };

struct ring {
    uint8_t *page[RING_MAX_PAGES]; /* mapped by the owner; pages may be discontiguous */
    unsigned nr_pages;
    unsigned entries;    /* power of two */
    unsigned entry_size; /* bytes of a slot: max(request, response) */
    uint32_t req_cons;   /* private */
    uint32_t rsp_prod;   /* private: next response to write */
    uint32_t rsp_pushed; /* private: responses that the front end was shown */
};

/* entries = the largest power of two that fits nr_pages * 4096 - 64 bytes. */
void ring_init(struct ring *r, void *const *pages, unsigned nr_pages, unsigned entry_size);
/* Starts from the indices in the page instead of 0 (reconnect after save/restore). */
void ring_attach(struct ring *r);
/* How many requests wait; -1 when the producer index is impossible (more than `entries` ahead
 * of what was answered). */
int ring_pending(const struct ring *r);
/* Copies the next request (size bytes, <= entry_size) and advances. Call only when
 * ring_pending() > 0. */
void ring_get(struct ring *r, void *req, size_t size);
/* Writes a response (the rest of the slot is zeroed) into the next response slot; not visible
 * until ring_push. */
void ring_put(struct ring *r, const void *rsp, size_t size);
/* Publishes the responses; true when the front end wants an event. */
bool ring_push(struct ring *r);
/* Arms the request event and looks again: true when more requests came in, or the index became
 * impossible (keep going: ring_pending() tells). */
bool ring_final_check(struct ring *r);

#endif
