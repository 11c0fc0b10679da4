/* SPDX-License-Identifier: MIT */
/*
 * Xenstore watches. The guest's events go to its output queue, domain 0's to a list of paths
 * per watch that the main loop hands to the callback. Both are merged when identical, and
 * bounded: when there is no room, one event with the watch's own path stands for all lost ones.
 *
 * An event is only shown to the guest when it may read the node or its parent (XSA-115).
 */
#include "pv/xenstore_priv.h"

#include <errno.h>
#include <string.h>

#include "pv/domain.h"

/* ---- the guest's ---- */

static bool guest_watch_has(struct xenstore *xs, const struct xs_guest_watch *w,
                            const char *shown)
{
    const struct xs_out *out = xs->conn.out;

    if (w->queued == 0) {
        return false;
    }
    if (out != NULL && xs->conn.out_sent > 0) {
        out = out->next; /* on its way already: what happens now is news */
    }
    for (; out != NULL; out = out->next) {
        if (out->watch == w && strcmp(out->path, shown) == 0) {
            return true;
        }
    }
    return false;
}

/* Queues one event; false when there is no room. */
static bool guest_watch_queue(struct xenstore *xs, struct xs_guest_watch *w, const char *path)
{
    const char *shown = path + w->shown;
    size_t path_len = strlen(shown) + 1, token_len = strlen(w->token) + 1;
    struct xsd_sockmsg header = { .type = XS_WATCH_EVENT };
    g_autofree char *payload = NULL;
    struct xs_out *out;

    if (path_len + token_len > XENSTORE_PAYLOAD_MAX || w->queued >= XS_WATCH_QUEUE ||
        xs->conn.out_bytes >= XS_OUT_EVENTS) {
        return false;
    }
    header.len = (uint32_t)(path_len + token_len);
    payload = g_malloc(header.len);
    memcpy(payload, shown, path_len);
    memcpy(payload + path_len, w->token, token_len);
    out = xs_out_append(xs);
    xs_out_set(xs, out, &header, payload);
    out->watch = w;
    out->path = (const char *)out->data + sizeof(header);
    w->queued++;
    return true;
}

static void guest_watch_fire(struct xenstore *xs, struct xs_guest_watch *w, const char *path)
{
    if (w->lost || guest_watch_has(xs, w, path + w->shown)) {
        return;
    }
    if (!guest_watch_queue(xs, w, path)) {
        w->lost = true;
        xs->conn.any_lost = true;
    }
    xs_conn_kick(xs);
}

void xs_guest_watch_retry(struct xenstore *xs)
{
    if (!xs->conn.any_lost || xs->conn.out_bytes >= XS_OUT_BACKLOG) {
        return;
    }
    xs->conn.any_lost = false;
    for (struct xs_guest_watch *w = xs->conn.watches; w != NULL; w = w->next) {
        if (w->lost) {
            w->lost = !guest_watch_has(xs, w, w->path + w->shown) &&
                      !guest_watch_queue(xs, w, w->path);
            xs->conn.any_lost |= w->lost;
        }
    }
}

static size_t guest_watch_bytes(const struct xs_guest_watch *w)
{
    return sizeof(*w) + strlen(w->path) + strlen(w->token) + 48;
}

static struct xs_guest_watch **guest_watch_find(struct xenstore *xs, const char *path,
                                                const char *token)
{
    struct xs_guest_watch **p = &xs->conn.watches;

    while (*p != NULL && (strcmp((*p)->path + (*p)->shown, path) != 0 ||
                          strcmp((*p)->token, token) != 0)) {
        p = &(*p)->next;
    }
    return p;
}

/* 0 and a new watch, or errno. */
static int guest_watch_new(struct xenstore *xs, const char *path, const char *token,
                           struct xs_guest_watch **watch)
{
    bool special = path[0] == '@';
    bool relative = path[0] != '/' && !special;
    struct xs_guest_watch **p, *w;

    if (special ? strcmp(path, "@introduceDomain") != 0 && strcmp(path, "@releaseDomain") != 0
                : !xs_path_valid(path, true)) {
        return EINVAL;
    }
    if (strlen(path) + strlen(token) + 2 > XENSTORE_PAYLOAD_MAX) {
        return EINVAL;
    }
    p = guest_watch_find(xs, path, token);
    if (*p != NULL) {
        return EEXIST;
    }
    if (xs->conn.nr_watches >= XS_MAX_WATCHES) {
        return E2BIG;
    }
    if (xs->ledger.bytes + strlen(path) + strlen(token) > XS_MAX_LIVE_BYTES) {
        return ENOSPC;
    }
    w = g_new0(struct xs_guest_watch, 1);
    w->path = relative ? g_strconcat(xs->home, "/", path, NULL) : g_strdup(path);
    w->shown = relative ? strlen(xs->home) + 1 : 0;
    w->token = g_strdup(token);
    *p = w;
    xs->conn.nr_watches++;
    xs->ledger.bytes += guest_watch_bytes(w);
    *watch = w;
    return 0;
}

int xs_guest_watch_add(struct xenstore *xs, const char *path, const char *token)
{
    struct xs_guest_watch *w;
    int err = guest_watch_new(xs, path, token, &w);

    if (err == 0) {
        guest_watch_fire(xs, w, w->path); /* every watch starts with one event */
    }
    return err;
}

bool xs_guest_watch_restore(struct xenstore *xs, const char *path, const char *token, bool lost)
{
    struct xs_guest_watch *w;

    if (guest_watch_new(xs, path, token, &w) != 0) {
        return false;
    }
    w->lost = lost;
    xs->conn.any_lost |= lost;
    return true;
}

static void guest_watch_free(struct xenstore *xs, struct xs_guest_watch **p)
{
    struct xs_guest_watch *w = *p;

    *p = w->next;
    xs_out_drop_watch(xs, w);
    xs->conn.nr_watches--;
    xs->ledger.bytes -= guest_watch_bytes(w);
    g_free(w->path);
    g_free(w->token);
    g_free(w);
}

int xs_guest_watch_remove(struct xenstore *xs, const char *path, const char *token)
{
    struct xs_guest_watch **p = guest_watch_find(xs, path, token);

    if (path[0] != '@' && !xs_path_valid(path, true)) {
        return EINVAL;
    }
    if (*p == NULL) {
        return ENOENT;
    }
    guest_watch_free(xs, p);
    return 0;
}

bool xs_guest_watches(const struct xenstore *xs, const char *path)
{
    for (const struct xs_guest_watch *w = xs->conn.watches; w != NULL; w = w->next) {
        if (xs_path_under(path, w->path)) {
            return true;
        }
    }
    return false;
}

void xs_guest_watch_clear(struct xenstore *xs)
{
    while (xs->conn.watches != NULL) {
        guest_watch_free(xs, &xs->conn.watches);
    }
    xs->conn.any_lost = false;
}

/* ---- domain 0's ---- */

static void watch_unref(struct xs_watch *w)
{
    if (--w->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < w->nr_pending; i++) {
        g_free(w->pending[i]);
    }
    g_free(w->path);
    g_free(w);
}

static void watch_fire(struct xenstore *xs, struct xs_watch *w, const char *path)
{
    struct board *board = xs->domain->board;

    if (w->nr_pending == XS_DOM0_QUEUE) {
        return; /* the last entry is the watch's own path: it stands for all the others */
    }
    for (unsigned i = 0; i < w->nr_pending; i++) {
        if (strcmp(w->pending[i], path) == 0) {
            return;
        }
    }
    if (w->nr_pending == XS_DOM0_QUEUE - 1) {
        path = w->path;
    }
    w->pending[w->nr_pending++] = g_strdup(path);
    if (!w->queued) {
        w->queued = true;
        w->refs++;
        g_queue_push_tail(&xs->ready, w);
    }
    board->ops->post(board, &xs->watch_work);
}

struct xs_watch *xs_watch_add(struct xenstore *xs, const char *path, xs_watch_fn fn,
                              void *opaque)
{
    struct xs_watch *w = g_new0(struct xs_watch, 1), **p = &xs->watches;

    w->refs = 1;
    w->path = g_strdup(path);
    w->fn = fn;
    w->opaque = opaque;
    while (*p != NULL) {
        p = &(*p)->next;
    }
    *p = w;
    return w;
}

void xs_watch_remove(struct xenstore *xs, struct xs_watch *w)
{
    struct xs_watch **p = &xs->watches;

    if (w == NULL) {
        return;
    }
    while (*p != w) {
        g_assert(*p != NULL);
        p = &(*p)->next;
    }
    *p = w->next;
    w->dead = true;
    watch_unref(w);
}

/* Calls back for everything that one ready watch has waiting; returns how many. */
static unsigned watch_run(struct xenstore *xs)
{
    struct xs_watch *w = g_queue_pop_head(&xs->ready);
    char *paths[XS_DOM0_QUEUE];
    unsigned n = w->nr_pending;

    memcpy(paths, w->pending, sizeof(paths));
    w->nr_pending = 0;
    w->queued = false;
    for (unsigned i = 0; i < n; i++) {
        if (!w->dead) {
            w->fn(w->opaque, paths[i]);
        }
        g_free(paths[i]);
    }
    watch_unref(w);
    return n;
}

void xs_run_watches(struct xenstore *xs)
{
    unsigned ran = 0;

    while (ran < XS_RUN_CALLBACKS && !g_queue_is_empty(&xs->ready)) {
        ran += watch_run(xs);
    }
    if (!g_queue_is_empty(&xs->ready)) {
        xs->domain->board->ops->post(xs->domain->board, &xs->watch_work);
    }
}

void xs_watch_fire_all(struct xenstore *xs)
{
    for (struct xs_watch *w = xs->watches; w != NULL; w = w->next) {
        watch_fire(xs, w, w->path);
    }
}

void xs_watch_free_all(struct xenstore *xs)
{
    struct xs_watch *w;

    while ((w = g_queue_pop_head(&xs->ready)) != NULL) {
        watch_unref(w);
    }
    while (xs->watches != NULL) {
        xs_watch_remove(xs, xs->watches);
    }
}

/* ---- both ---- */

void xs_fire(struct xenstore *xs, const struct xs_tree *tree, const char *path, bool shown)
{
    if (xs->conn.watches != NULL && (shown || xs_tree_visible(tree, PV_DOMID, path))) {
        for (struct xs_guest_watch *w = xs->conn.watches; w != NULL; w = w->next) {
            if (xs_path_under(path, w->path)) {
                guest_watch_fire(xs, w, path);
            }
        }
    }
    for (struct xs_watch *w = xs->watches; w != NULL; w = w->next) {
        if (xs_path_under(path, w->path)) {
            watch_fire(xs, w, path);
        }
    }
}

void xs_fire_removed(struct xenstore *xs, const struct xs_tree *before, const char *path)
{
    xs_fire(xs, before, path, false);
    for (struct xs_guest_watch *w = xs->conn.watches; w != NULL; w = w->next) {
        if (!xs_path_under(path, w->path) && xs_path_under(w->path, path) &&
            xs_tree_visible(before, PV_DOMID, w->path)) {
            guest_watch_fire(xs, w, w->path);
        }
    }
    for (struct xs_watch *w = xs->watches; w != NULL; w = w->next) {
        if (!xs_path_under(path, w->path) && xs_path_under(w->path, path) &&
            xs_tree_find(before, w->path) != NULL) {
            watch_fire(xs, w, w->path);
        }
    }
}
