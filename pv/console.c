/* SPDX-License-Identifier: MIT */
/*
 * hvc0 (public/io/console.h). Output stays in the guest's ring until the stream takes it, so a
 * slow terminal slows the guest's console and costs no memory here. Our own indices are
 * private; with an impossible one from the guest the ring rests until it is possible again.
 *
 * This protocol has no place for the size of the terminal: it is in xenstore, console/size below
 * the guest's home, as "ROWS COLUMNS" (what stty size prints; "0 0" when the terminal does not
 * know). No terminal, no node. It is for all consoles of the guest, and the guest sets it itself
 * (docs/console.md).
 */
#include "pv/console.h"

#include <glib.h>
#include <string.h>
#include <xen/io/console.h>

#include "base/report.h"
#include "core/board.h"
#include "core/chardev.h"
#include "core/memory.h"
#include "core/state.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/xenstore.h"

enum {
    IN_SIZE = sizeof(((struct xencons_interface *)NULL)->in),
    OUT_SIZE = sizeof(((struct xencons_interface *)NULL)->out),
    RUN_BYTES = 4 * OUT_SIZE, /* per run of posted work */
};

struct pv_console {
    struct pv_domain *domain;
    struct chardev *chr;
    struct evtchn_host host;
    struct work work;
    bool up;
    bool input_full;      /* the stream was refused bytes */
    uint32_t in_prod, out_cons;
    pv_console_tap_fn tap;
    void *tap_opaque;
    struct report_gate gate;
};

static uint32_t console_frame(const struct pv_console *c)
{
    return mem_extra_frame(c->domain->mem, PV_FRAME_CONSOLE);
}

static struct xencons_interface *console_page(const struct pv_console *c)
{
    return mem_frame_hva(c->domain->mem, console_frame(c));
}

static uint32_t index_read(const uint32_t *index)
{
    return __atomic_load_n(index, __ATOMIC_SEQ_CST);
}

static void index_write(uint32_t *index, uint32_t value)
{
    __atomic_store_n(index, value, __ATOMIC_SEQ_CST);
}

static bool console_bad_index(struct pv_console *c, const char *which)
{
    report_warn_limited(&c->gate, "guest console: impossible %s index", which);
    return false;
}

/* ---- output ---- */

/* How much the stream takes; everybody gets to see exactly that. */
static size_t console_pass_on(struct pv_console *c, const uint8_t *buf, size_t len)
{
    if (c->chr != NULL) {
        size_t n = c->chr->ops->write(c->chr, buf, len);

        len = MIN(len, n);
    }
    if (c->tap != NULL && len > 0) {
        c->tap(c->tap_opaque, buf, len);
    }
    return len;
}

/* Passes on one piece; *taken counts bytes. false: nothing there, or the stream is full. */
static bool console_drain_piece(struct pv_console *c, size_t *taken)
{
    struct xencons_interface *page = console_page(c);
    uint32_t waiting = index_read(&page->out_prod) - c->out_cons;
    size_t at = c->out_cons & (OUT_SIZE - 1);
    size_t len = MIN(waiting, OUT_SIZE - at), n;
    uint8_t buf[OUT_SIZE];

    if (waiting > OUT_SIZE) {
        return console_bad_index(c, "output");
    }
    if (len == 0) {
        return false;
    }
    memcpy(buf, page->out + at, len);
    n = console_pass_on(c, buf, len);
    c->out_cons += (uint32_t)n;
    *taken += n;
    index_write(&page->out_cons, c->out_cons);
    return n == len;
}

/* false: there may be more, but that is enough for now. */
static bool console_drain(struct pv_console *c)
{
    size_t taken = 0;

    while (taken < RUN_BYTES && console_drain_piece(c, &taken)) {
    }
    if (taken > 0) {
        mem_written(c->domain->mem, console_frame(c));
        evtchn_host_notify(&c->host);
    }
    return taken < RUN_BYTES;
}

/* ---- input ---- */

/* 0 when the guest's index is impossible. */
static uint32_t console_input_room(struct pv_console *c)
{
    uint32_t used = c->in_prod - index_read(&console_page(c)->in_cons);

    if (used > IN_SIZE) {
        console_bad_index(c, "input");
        return 0;
    }
    return IN_SIZE - used;
}

size_t pv_console_input(struct pv_console *c, const uint8_t *buf, size_t len)
{
    struct xencons_interface *page = console_page(c);
    size_t n = c->up ? MIN(len, console_input_room(c)) : 0;

    for (size_t i = 0; i < n; i++) {
        page->in[(c->in_prod + i) & (IN_SIZE - 1)] = (char)buf[i];
    }
    c->input_full = n < len;
    if (n > 0) {
        c->in_prod += (uint32_t)n;
        index_write(&page->in_prod, c->in_prod);
        mem_written(c->domain->mem, console_frame(c));
        evtchn_host_notify(&c->host);
    }
    return n;
}

static size_t console_rx(void *opaque, const uint8_t *buf, size_t len)
{
    return pv_console_input(opaque, buf, len);
}

/* ---- events ---- */

static void console_run(void *opaque)
{
    struct pv_console *c = opaque;

    if (!c->up) {
        return;
    }
    if (!console_drain(c)) {
        c->domain->board->ops->post(c->domain->board, &c->work);
    }
    if (c->input_full && console_input_room(c) > 0) {
        c->input_full = false;
        c->chr->ops->rx_ready(c->chr);
    }
}

static void console_post(void *opaque)
{
    struct pv_console *c = opaque;

    c->domain->board->ops->post(c->domain->board, &c->work);
}

/* ---- size ---- */

static void console_resize(void *opaque, unsigned columns, unsigned rows)
{
    const struct pv_console *c = opaque;
    g_autofree char *path =
        g_strdup_printf("/local/domain/%u/console/size", c->domain->domid);

    xs_write(c->domain->xenstore, path, "%u %u", rows, columns);
}

static void console_publish_size(struct pv_console *c)
{
    unsigned columns, rows;

    if (c->chr != NULL && c->chr->ops->get_size != NULL &&
        c->chr->ops->get_size(c->chr, &columns, &rows)) {
        console_resize(c, columns, rows);
    }
}

static const struct chardev_handlers console_handlers = {
    .rx = console_rx, .tx_ready = console_post, .resize = console_resize,
};

/* ---- life ---- */

struct pv_console *pv_console_new(struct pv_domain *d, struct chardev *chr)
{
    struct pv_console *c = g_new0(struct pv_console, 1);

    c->domain = d;
    c->chr = chr;
    c->work.fn = console_run;
    c->work.opaque = c;
    c->host.notified = console_post;
    c->host.opaque = c;
    if (chr != NULL) {
        chr->ops->set_handlers(chr, &console_handlers, c);
    }
    return c;
}

void pv_console_free(struct pv_console *c)
{
    if (c == NULL) {
        return;
    }
    if (c->chr != NULL) {
        c->chr->ops->set_handlers(c->chr, NULL, NULL);
    }
    evtchn_host_unbind(&c->host);
    g_free(c);
}

static void console_bind(struct pv_console *c)
{
    evtchn_host_unbind(&c->host);
    evtchn_host_bind(c->domain, &c->host, c->domain->console_port);
    c->up = true;
    console_publish_size(c);
    console_post(c);
}

void pv_console_connect(struct pv_console *c)
{
    memset(console_page(c), 0, sizeof(struct xencons_interface));
    mem_written(c->domain->mem, console_frame(c));
    c->in_prod = c->out_cons = 0;
    console_bind(c);
}

void pv_console_rebind(struct pv_console *c)
{
    console_bind(c);
}

void pv_console_set_tap(struct pv_console *c, pv_console_tap_fn fn, void *opaque)
{
    c->tap = fn;
    c->tap_opaque = opaque;
}

void pv_console_flush(struct pv_console *c)
{
    if (c->up) {
        console_drain(c);
    }
}

void pv_console_state(struct pv_console *c, struct state *s)
{
    state_bool(s, "up", &c->up);
    state_u32(s, "in_prod", &c->in_prod);
    state_u32(s, "out_cons", &c->out_cons);
    if (state_loading(s)) {
        c->input_full = false;
        if (state_ok(s) && c->up) {
            console_bind(c);
        }
    }
}
