/* SPDX-License-Identifier: MIT */
/*
 * Shared rings from the back end's side (public/io/ring.h). The only file of pv/ that looks
 * into a ring page: the guest may change any byte at any time, so indices are read once with
 * ordering and requests are copied out before anybody looks at them (XSA-155). A producer index
 * that cannot be makes the ring unusable instead of making us loop (XSA-39).
 */
#include "pv/ring.h"

#include <glib.h>
#include <string.h>

enum { PAGE = 4096, HEADER = 64 };
enum { REQ_PROD = 0, REQ_EVENT = 4, RSP_PROD = 8, RSP_EVENT = 12 };

static uint32_t *ring_word(const struct ring *r, unsigned offset)
{
    return (uint32_t *)(void *)(r->page[0] + offset);
}

static uint32_t ring_load(const struct ring *r, unsigned offset)
{
    return __atomic_load_n(ring_word(r, offset), __ATOMIC_ACQUIRE);
}

static void ring_store(struct ring *r, unsigned offset, uint32_t value)
{
    __atomic_store_n(ring_word(r, offset), value, __ATOMIC_RELEASE);
}

/* Copies between a slot and private memory; a slot may cross from one page to another. */
static void ring_copy(const struct ring *r, uint32_t index, uint8_t *buf, size_t size,
                      bool to_ring)
{
    size_t at = HEADER + (size_t)(index & (r->entries - 1)) * r->entry_size;

    while (size > 0) {
        uint8_t *slot = r->page[at / PAGE] + at % PAGE;
        size_t n = MIN(size, PAGE - at % PAGE);

        if (to_ring) {
            memcpy(slot, buf, n);
        } else {
            memcpy(buf, slot, n);
        }
        at += n;
        buf += n;
        size -= n;
    }
    __asm__ volatile("" ::: "memory"); /* the copy is made here and never again */
}

void ring_init(struct ring *r, void *const *pages, unsigned nr_pages, unsigned entry_size)
{
    size_t fit;

    g_assert(nr_pages > 0 && nr_pages <= RING_MAX_PAGES);
    g_assert(entry_size > 0 && entry_size <= PAGE - HEADER);
    memset(r, 0, sizeof(*r));
    for (unsigned i = 0; i < nr_pages; i++) {
        r->page[i] = pages[i];
    }
    r->nr_pages = nr_pages;
    r->entry_size = entry_size;
    fit = ((size_t)nr_pages * PAGE - HEADER) / entry_size;
    for (r->entries = 1; (size_t)r->entries * 2 <= fit; r->entries *= 2) {
    }
}

void ring_attach(struct ring *r)
{
    r->rsp_prod = r->rsp_pushed = r->req_cons = ring_load(r, RSP_PROD);
}

int ring_pending(const struct ring *r)
{
    uint32_t prod = ring_load(r, REQ_PROD);
    uint32_t waiting = prod - r->req_cons;

    if (waiting > r->entries || prod - r->rsp_prod > r->entries) {
        return -1;
    }
    return (int)waiting;
}

void ring_get(struct ring *r, void *req, size_t size)
{
    g_assert(size <= r->entry_size);
    ring_copy(r, r->req_cons, req, size, false);
    r->req_cons++;
}

void ring_put(struct ring *r, const void *rsp, size_t size)
{
    uint8_t slot[PAGE];

    g_assert(size <= r->entry_size);
    g_assert(r->rsp_prod != r->req_cons); /* one response per request */
    memset(slot, 0, r->entry_size);
    memcpy(slot, rsp, size);
    ring_copy(r, r->rsp_prod, slot, r->entry_size, true);
    r->rsp_prod++;
}

bool ring_push(struct ring *r)
{
    uint32_t old = r->rsp_pushed;

    if (r->rsp_prod == old) {
        return false;
    }
    ring_store(r, RSP_PROD, r->rsp_prod);
    r->rsp_pushed = r->rsp_prod;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the front end arms its event, then looks */
    return r->rsp_prod - ring_load(r, RSP_EVENT) < r->rsp_prod - old;
}

bool ring_final_check(struct ring *r)
{
    if (ring_pending(r) != 0) {
        return true;
    }
    ring_store(r, REQ_EVENT, r->req_cons + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return ring_pending(r) != 0;
}
