/* SPDX-License-Identifier: MIT */
/*
 * Saving and loading of xenstore. Nodes are written parents first. A transaction cannot be
 * carried over: it comes back as one that answers EAGAIN at its end, which every guest must be
 * able to handle. Watches of domain 0 belong to whoever added them; all fire after loading.
 */
#include "pv/xenstore_priv.h"

#include <string.h>

#include "core/state.h"
#include "pv/domain.h"

enum { STATE_MAX_NODES = 16384, STATE_MAX_OUT = 4096, STATE_MAX_OUT_BYTES = 256 * 1024 };

/* A string of at most max bytes; NULL (and the stream is bad) when it holds a NUL byte. */
static char *state_string(struct state *s, const char *tag, const char *value, size_t max)
{
    void *buf = g_strdup(value);
    size_t len = value != NULL ? strlen(value) : 0;
    g_autofree char *text = NULL;

    state_blob(s, tag, &buf, &len, max);
    if (!state_loading(s)) {
        g_free(buf);
        return NULL;
    }
    if (!state_ok(s)) {
        return NULL;
    }
    text = g_strndup(buf != NULL ? buf : "", len);
    g_free(buf);
    if (strlen(text) != len) {
        state_fail(s, "NUL byte in a xenstore string");
        return NULL;
    }
    return g_steal_pointer(&text);
}

/* ---- nodes ---- */

static void perms_state(struct state *s, struct xs_perm *perms, uint8_t *count)
{
    state_u8(s, "perms", count);
    if (*count == 0 || *count > XS_MAX_PERMS) {
        state_fail(s, "number of permissions");
        return;
    }
    for (unsigned i = 0; i < *count; i++) {
        state_u16(s, "domid", &perms[i].domid);
        state_u8(s, "may", &perms[i].may);
        perms[i].may &= XS_MAY_READ | XS_MAY_WRITE;
    }
}

static unsigned node_count(const struct xs_node *n)
{
    unsigned count = 1;

    for (unsigned i = 0; i < n->nr_children; i++) {
        count += node_count(n->children[i]);
    }
    return count;
}

static void node_save(struct state *s, const struct xs_node *n, GString *path)
{
    struct xs_perm perms[XS_MAX_PERMS];
    uint8_t nr_perms = (uint8_t)n->nr_perms;
    void *value = n->value;
    size_t len = n->value_len, path_len = path->len;

    state_string(s, "path", path->len > 0 ? path->str : "/", XENSTORE_ABS_PATH_MAX);
    memcpy(perms, n->perms, n->nr_perms * sizeof(perms[0]));
    perms_state(s, perms, &nr_perms);
    state_blob(s, "value", &value, &len, SIZE_MAX);
    for (unsigned i = 0; i < n->nr_children; i++) {
        g_string_append_c(path, '/');
        g_string_append(path, n->children[i]->name);
        node_save(s, n->children[i], path);
        g_string_truncate(path, path_len);
    }
}

static void node_load(struct state *s, struct xs_tree *tree)
{
    g_autofree char *path = state_string(s, "path", NULL, XENSTORE_ABS_PATH_MAX);
    struct xs_perm perms[XS_MAX_PERMS] = { 0 };
    g_autofree void *value = NULL;
    uint8_t nr_perms = 0;
    size_t len = 0;

    perms_state(s, perms, &nr_perms);
    state_blob(s, "value", &value, &len, 1024 * 1024);
    if (!state_ok(s)) {
        return;
    }
    if (!xs_path_valid(path, false)) {
        state_fail(s, "xenstore path");
        return;
    }
    xs_tree_write(tree, 0, path, value, len);
    xs_tree_set_perms(tree, 0, path, perms, nr_perms);
}

static void tree_state(struct xenstore *xs, struct state *s)
{
    uint32_t count = node_count(xs->tree.root);
    struct xs_tree tree;

    state_u32(s, "nodes", &count);
    if (!state_loading(s)) {
        GString *path = g_string_new(NULL);

        node_save(s, xs->tree.root, path);
        g_string_free(path, TRUE);
        return;
    }
    if (count > STATE_MAX_NODES) {
        state_fail(s, "number of xenstore nodes");
        return;
    }
    xs_tree_init(&tree, &xs->ledger);
    for (uint32_t i = 0; i < count && state_ok(s); i++) {
        node_load(s, &tree);
    }
    if (state_ok(s)) {
        xs_tree_fini(&xs->tree);
        xs->tree = tree;
    } else {
        xs_tree_fini(&tree);
    }
}

/* ---- the connection ---- */

static void watches_state(struct xenstore *xs, struct state *s)
{
    uint32_t count = xs->conn.nr_watches;

    state_u32(s, "watches", &count);
    if (count > XS_MAX_WATCHES) {
        state_fail(s, "number of watches");
    }
    if (!state_loading(s)) {
        for (struct xs_guest_watch *w = xs->conn.watches; w != NULL; w = w->next) {
            state_string(s, "watch", w->path + w->shown, XENSTORE_PAYLOAD_MAX);
            state_string(s, "token", w->token, XENSTORE_PAYLOAD_MAX);
            state_bool(s, "lost", &w->lost);
        }
        return;
    }
    for (uint32_t i = 0; i < count && state_ok(s); i++) {
        g_autofree char *path = state_string(s, "watch", NULL, XENSTORE_PAYLOAD_MAX);
        g_autofree char *token = state_string(s, "token", NULL, XENSTORE_PAYLOAD_MAX);
        bool lost = false;

        state_bool(s, "lost", &lost);
        if (state_ok(s) && !xs_guest_watch_restore(xs, path, token, lost)) {
            state_fail(s, "xenstore watch");
        }
    }
}

static void out_load(struct xenstore *xs, struct state *s)
{
    g_autofree void *buf = NULL;
    struct xsd_sockmsg header;
    size_t len = 0;

    state_blob(s, "message", &buf, &len, sizeof(header) + XENSTORE_PAYLOAD_MAX);
    if (!state_ok(s)) {
        return;
    }
    if (len < sizeof(header) || xs->conn.out_bytes > STATE_MAX_OUT_BYTES) {
        state_fail(s, "xenstore message");
        return;
    }
    memcpy(&header, buf, sizeof(header));
    if (header.len != len - sizeof(header)) {
        state_fail(s, "xenstore message length");
        return;
    }
    xs_out_set(xs, xs_out_append(xs), &header, (uint8_t *)buf + sizeof(header));
}

static void out_state(struct xenstore *xs, struct state *s)
{
    uint32_t count = 0, sent = (uint32_t)xs->conn.out_sent;

    for (struct xs_out *out = xs->conn.out; out != NULL; out = out->next) {
        count++;
    }
    state_u32(s, "messages", &count);
    state_u32(s, "sent", &sent);
    if (count > STATE_MAX_OUT) {
        state_fail(s, "number of xenstore messages");
    }
    if (!state_loading(s)) {
        for (struct xs_out *out = xs->conn.out; out != NULL; out = out->next) {
            void *data = out->data;

            state_blob(s, "message", &data, &out->len, SIZE_MAX);
        }
        return;
    }
    for (uint32_t i = 0; i < count && state_ok(s); i++) {
        out_load(xs, s);
    }
    if (sent > 0 && (xs->conn.out == NULL || sent >= xs->conn.out->len)) {
        state_fail(s, "xenstore message position");
        return;
    }
    xs->conn.out_sent = sent;
}

static void transactions_state(struct xenstore *xs, struct state *s)
{
    uint32_t count = xs->conn.nr_txs;

    state_u32(s, "next_tx", &xs->conn.next_tx);
    state_u32(s, "transactions", &count);
    if (!state_loading(s)) {
        for (struct xs_tx *tx = xs->conn.txs; tx != NULL; tx = tx->next) {
            state_u32(s, "id", &tx->id);
        }
        return;
    }
    if (count > XS_MAX_TRANSACTIONS) {
        state_fail(s, "number of transactions");
    }
    for (uint32_t i = 0; i < count && state_ok(s); i++) {
        struct xs_tx *tx;
        uint32_t id = 0;

        state_u32(s, "id", &id);
        if (id == 0 || xs_tx_find(xs, id) != NULL || xs_tx_start(xs, &tx) != 0) {
            state_fail(s, "transaction");
            return;
        }
        tx->id = id;
        tx->doomed = true;
    }
}

static void conn_state(struct xenstore *xs, struct state *s)
{
    struct xs_conn *conn = &xs->conn;
    void *in = conn->in;
    size_t in_len = conn->in_len;

    if (state_loading(s)) {
        xs_conn_drop(xs);
    }
    state_bool(s, "up", &conn->up);
    state_bool(s, "dead", &conn->dead);
    state_u32(s, "req_cons", &conn->req_cons);
    state_u32(s, "rsp_prod", &conn->rsp_prod);
    state_blob(s, "in", &in, &in_len, sizeof(conn->in));
    if (state_loading(s) && state_ok(s)) {
        conn->in_len = in_len;
        if (in_len > 0) {
            memcpy(conn->in, in, in_len);
        }
        g_free(in);
    }
    watches_state(xs, s);
    out_state(xs, s);
    transactions_state(xs, s);
}

void xenstore_state(struct xenstore *xs, struct state *s)
{
    bool loading = state_loading(s);

    tree_state(xs, s);
    conn_state(xs, s);
    if (!loading) {
        return;
    }
    if (!state_ok(s)) {
        xs_conn_drop(xs);
        xs->conn.up = false;
        return;
    }
    if (xs->conn.up) {
        xs_conn_resume(xs);
    }
    xs_watch_fire_all(xs);
}
