/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "store_guest.h"

#include <string.h>

#include "core/memory.h"

/* ---- event channels that only count ---- */

static struct store_guest *guest_of(struct pv_domain *d)
{
    return (struct store_guest *)(void *)((char *)d - offsetof(struct store_guest, d));
}

int evtchn_host_bind(struct pv_domain *d, struct evtchn_host *h, uint32_t port)
{
    if (port == 0 || port >= NR_PORTS || guest_of(d)->host[port] != NULL) {
        return -EINVAL;
    }
    h->domain = d;
    h->port = port;
    guest_of(d)->host[port] = h;
    return 0;
}

void evtchn_host_unbind(struct evtchn_host *h)
{
    if (h->port != 0) {
        guest_of(h->domain)->host[h->port] = NULL;
        h->port = 0;
    }
}

void evtchn_host_notify(struct evtchn_host *h)
{
    if (h->port != 0) {
        guest_of(h->domain)->notified[h->port]++;
    }
}

/* ---- the domain ---- */

static void make_node(struct store_guest *g, const char *path, const char *owner,
                      const char *other)
{
    xs_mkdir(g->xs, path);
    xs_set_perms(g->xs, path, (const char *const[]){ owner, other }, 2);
}

struct store_guest *store_guest_new(void)
{
    struct store_guest *g = g_new0(struct store_guest, 1);

    g->fb = fake_board_new(1, 16 * MEM_PAGE_SIZE, PV_EXTRA_FRAMES);
    g->d.board = &g->fb->board;
    g->d.mem = g->fb->board.mem;
    g->d.domid = PV_DOMID;
    g->d.store_port = STORE_PORT;
    g->d.console_port = CONSOLE_PORT;
    g_queue_init(&g->events);
    g->d.xenstore = g->xs = xenstore_new(&g->d);
    make_node(g, "/local/domain/0", "n0", "r1");
    make_node(g, HOME, "n0", "r1");
    make_node(g, HOME "/data", "n1", "r0");
    make_node(g, HOME "/error", "n1", "r0");
    make_node(g, HOME "/secret", "n0", "n0");
    g->page = mem_frame_hva(g->d.mem, mem_extra_frame(g->d.mem, PV_FRAME_STORE));
    xenstore_connect(g->xs);
    fake_board_run(g->fb);
    return g;
}

void store_guest_free(struct store_guest *g)
{
    fake_board_run(g->fb);
    xenstore_free(g->xs);
    g_queue_clear_full(&g->events, g_free);
    fake_board_free(g->fb);
    g_free(g);
}

void store_guest_kick(struct store_guest *g, uint32_t port)
{
    if (g->host[port] != NULL) {
        g_mutex_lock(&g->fb->board.lock);
        g->host[port]->notified(g->host[port]->opaque);
        g_mutex_unlock(&g->fb->board.lock);
    }
    fake_board_run(g->fb);
}

/* ---- the ring ---- */

size_t store_guest_put(struct store_guest *g, const void *buf, size_t len)
{
    uint32_t room = XENSTORE_RING_SIZE - (g->page->req_prod - g->page->req_cons);
    size_t n = MIN(len, room);

    for (size_t i = 0; i < n; i++) {
        g->page->req[MASK_XENSTORE_IDX(g->page->req_prod + i)] = ((const char *)buf)[i];
    }
    g->page->req_prod += (uint32_t)n;
    return n;
}

size_t store_guest_get(struct store_guest *g, void *buf, size_t len)
{
    uint32_t avail = g->page->rsp_prod - g->page->rsp_cons;
    size_t n = MIN(len, avail);

    g_assert_cmpuint(avail, <=, XENSTORE_RING_SIZE);
    for (size_t i = 0; i < n; i++) {
        ((char *)buf)[i] = g->page->rsp[MASK_XENSTORE_IDX(g->page->rsp_cons + i)];
    }
    g->page->rsp_cons += (uint32_t)n;
    return n;
}

static bool read_all(struct store_guest *g, void *buf, size_t len)
{
    size_t got = 0;

    while (got < len) {
        size_t n = store_guest_get(g, (char *)buf + got, len - got);

        got += n;
        if (n == 0) {
            store_guest_kick(g, STORE_PORT);
            if (g->page->rsp_prod == g->page->rsp_cons) {
                g_assert_cmpuint(got, ==, 0); /* messages are never left half done */
                return false;
            }
        }
    }
    return true;
}

bool store_guest_read(struct store_guest *g)
{
    if (!read_all(g, &g->header, sizeof(g->header))) {
        return false;
    }
    g_assert_cmpuint(g->header.len, <=, XENSTORE_PAYLOAD_MAX);
    g_assert_true(read_all(g, g->payload, g->header.len) || g->header.len == 0);
    g->payload[g->header.len] = '\0';
    if (g->header.type == XS_WATCH_EVENT) {
        g_assert_cmpuint(g->header.req_id, ==, 0);
        g_assert_cmpuint(g->header.tx_id, ==, 0);
        g_queue_push_tail(&g->events, g_strdup_printf("%s %s", g->payload,
                                                      g->payload + strlen(g->payload) + 1));
    }
    return true;
}

static int reply_errno(const struct store_guest *g, uint32_t type)
{
    if (g->header.type != XS_ERROR) {
        g_assert_cmpuint(g->header.type, ==, type);
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(xsd_errors); i++) {
        if (strcmp(g->payload, xsd_errors[i].errstring) == 0) {
            g_assert_cmpuint(g->header.len, ==, strlen(g->payload) + 1);
            return xsd_errors[i].errnum;
        }
    }
    g_assert_not_reached();
}

int store_guest_call(struct store_guest *g, uint32_t type, const void *payload, size_t len)
{
    struct xsd_sockmsg header = { .type = type, .req_id = ++g->next_req, .tx_id = g->tx,
                                  .len = (uint32_t)len };
    g_autofree char *message = g_malloc(sizeof(header) + len);
    size_t sent = 0, total = sizeof(header) + len;

    memcpy(message, &header, sizeof(header));
    memcpy(message + sizeof(header), payload, len);
    while (sent < total) {
        size_t n = store_guest_put(g, message + sent, total - sent);

        sent += n;
        store_guest_kick(g, STORE_PORT);
        if (n == 0) {
            g_assert_true(store_guest_read(g)); /* it waits for us to read */
            g_assert_cmpuint(g->header.type, ==, XS_WATCH_EVENT);
        }
    }
    do {
        g_assert_true(store_guest_read(g));
    } while (g->header.type == XS_WATCH_EVENT);
    g_assert_cmpuint(g->header.req_id, ==, header.req_id);
    g_assert_cmpuint(g->header.tx_id, ==, header.tx_id);
    return reply_errno(g, type);
}

int store_guest_call1(struct store_guest *g, uint32_t type, const char *a)
{
    return store_guest_call(g, type, a, strlen(a) + 1);
}

int store_guest_call2(struct store_guest *g, uint32_t type, const char *a, const char *b)
{
    size_t a_len = strlen(a) + 1, b_len = strlen(b) + 1;
    g_autofree char *both = g_malloc(a_len + b_len);

    memcpy(both, a, a_len);
    memcpy(both + a_len, b, b_len);
    return store_guest_call(g, type, both, a_len + b_len);
}

int store_guest_write(struct store_guest *g, const char *path, const char *value)
{
    g_autofree char *both = g_strconcat(path, "=", value, NULL);

    both[strlen(path)] = '\0';
    return store_guest_call(g, XS_WRITE, both, strlen(path) + 1 + strlen(value));
}

char *store_guest_event(struct store_guest *g)
{
    while (g_queue_is_empty(&g->events) && store_guest_read(g)) {
        g_assert_cmpuint(g->header.type, ==, XS_WATCH_EVENT);
    }
    return g_queue_pop_head(&g->events);
}

void store_guest_expect(struct store_guest *g, const char *event)
{
    g_autofree char *got = store_guest_event(g);

    g_assert_cmpstr(got, ==, event);
}

void store_guest_start(struct store_guest *g)
{
    g_assert_cmpint(store_guest_call1(g, XS_TRANSACTION_START, ""), ==, 0);
    g->tx = (uint32_t)g_ascii_strtoull(g->payload, NULL, 10);
    g_assert_cmpuint(g->tx, !=, 0);
}

int store_guest_end(struct store_guest *g, bool commit)
{
    int err = store_guest_call1(g, XS_TRANSACTION_END, commit ? "T" : "F");

    g->tx = 0;
    return err;
}
