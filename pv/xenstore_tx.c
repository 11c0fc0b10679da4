/* SPDX-License-Identifier: MIT */
/*
 * Xenstore transactions. Each works on a snapshot of its own and remembers which paths it
 * looked at and what it changed. At commit every path it touched must be as it was at the
 * start, or the answer is EAGAIN; then the changes are done again on the current tree. Nobody
 * ever waits: the first to commit wins, so among any set of transactions one always succeeds.
 */
#include "pv/xenstore_priv.h"

#include <errno.h>
#include <string.h>

#include "pv/domain.h"

enum { TX_ENTRY_BYTES = 64 }; /* a hash entry and its allocation */

struct xs_tx *xs_tx_find(struct xenstore *xs, uint32_t id)
{
    struct xs_tx *tx = xs->conn.txs;

    while (tx != NULL && tx->id != id) {
        tx = tx->next;
    }
    return tx;
}

static void tx_change_clear(void *p)
{
    g_free(((struct xs_tx_change *)p)->path);
}

int xs_tx_start(struct xenstore *xs, struct xs_tx **out)
{
    struct xs_conn *conn = &xs->conn;
    struct xs_tx *tx;

    if (conn->nr_txs >= XS_MAX_TRANSACTIONS || xs->ledger.bytes > XS_MAX_LIVE_BYTES) {
        return ENOSPC;
    }
    tx = g_new0(struct xs_tx, 1);
    do {
        tx->id = ++conn->next_tx;
    } while (tx->id == 0 || xs_tx_find(xs, tx->id) != NULL);
    xs_tree_snapshot(&tx->base, &xs->tree);
    xs_tree_snapshot(&tx->tree, &xs->tree);
    tx->touched = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    tx->changed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    tx->changes = g_array_new(FALSE, FALSE, sizeof(struct xs_tx_change));
    g_array_set_clear_func(tx->changes, tx_change_clear);
    tx->bytes = sizeof(*tx) + 512;
    xs->ledger.bytes += tx->bytes;
    tx->next = conn->txs;
    conn->txs = tx;
    conn->nr_txs++;
    *out = tx;
    return 0;
}

void xs_tx_free(struct xenstore *xs, struct xs_tx *tx)
{
    struct xs_tx **p = &xs->conn.txs;

    while (*p != tx) {
        p = &(*p)->next;
    }
    *p = tx->next;
    xs->conn.nr_txs--;
    xs->ledger.bytes -= tx->bytes;
    xs_tree_fini(&tx->base);
    xs_tree_fini(&tx->tree);
    g_hash_table_destroy(tx->touched);
    g_hash_table_destroy(tx->changed);
    g_array_free(tx->changes, TRUE);
    g_free(tx);
}

static int tx_charge(struct xenstore *xs, struct xs_tx *tx, unsigned entries, size_t bytes)
{
    if (entries >= XS_MAX_TX_PATHS || xs->ledger.bytes + bytes > XS_MAX_LIVE_BYTES) {
        return ENOSPC;
    }
    tx->bytes += bytes;
    xs->ledger.bytes += bytes;
    return 0;
}

int xs_tx_touch(struct xenstore *xs, struct xs_tx *tx, const char *path)
{
    if (g_hash_table_contains(tx->touched, path)) {
        return 0;
    }
    if (tx_charge(xs, tx, g_hash_table_size(tx->touched), strlen(path) + TX_ENTRY_BYTES) != 0) {
        return ENOSPC;
    }
    g_hash_table_add(tx->touched, g_strdup(path));
    return 0;
}

int xs_tx_change(struct xenstore *xs, struct xs_tx *tx, enum xs_tx_op op, const char *path)
{
    g_autofree char *key = g_strdup_printf("%d%s", op, path);
    struct xs_tx_change change = { .op = op };

    if (op != XS_TX_RM && g_hash_table_contains(tx->changed, key)) {
        return 0; /* the final value is looked up at commit */
    }
    if (tx_charge(xs, tx, tx->changes->len, 2 * (strlen(path) + TX_ENTRY_BYTES)) != 0) {
        tx->failed = true;
        return ENOSPC;
    }
    if (op == XS_TX_RM) {
        g_hash_table_remove_all(tx->changed);
    } else {
        g_hash_table_add(tx->changed, g_steal_pointer(&key));
    }
    change.path = g_strdup(path);
    g_array_append_val(tx->changes, change);
    return 0;
}

static bool tx_conflicts(struct xenstore *xs, struct xs_tx *tx)
{
    GHashTableIter iter;
    void *path;

    if (tx->doomed) {
        return true;
    }
    g_hash_table_iter_init(&iter, tx->touched);
    while (g_hash_table_iter_next(&iter, &path, NULL)) {
        if (xs_tree_generation(&tx->base, path) != xs_tree_generation(&xs->tree, path)) {
            return true;
        }
    }
    return false;
}

/* Does one change again, with the outcome that the transaction saw. */
static int tx_redo(const struct xs_tx *tx, const struct xs_tx_change *change,
                   struct xs_tree *tree)
{
    const struct xs_node *n = xs_tree_find(&tx->tree, change->path);
    int err;

    if (change->op == XS_TX_RM) {
        err = xs_tree_rm(tree, PV_DOMID, change->path);
        return err == ENOENT ? 0 : err;
    }
    if (n == NULL) {
        return 0; /* removed later in the transaction */
    }
    switch (change->op) {
    case XS_TX_WRITE:
        return xs_tree_write(tree, PV_DOMID, change->path, n->value, n->value_len);
    case XS_TX_MKDIR:
        return xs_tree_mkdir(tree, PV_DOMID, change->path);
    default:
        return xs_tree_set_perms(tree, PV_DOMID, change->path, n->perms, n->nr_perms);
    }
}

int xs_tx_commit(struct xenstore *xs, struct xs_tx *tx)
{
    struct xs_tree next, before;
    int err = 0;

    if (tx->failed) {
        return ENOSPC;
    }
    if (tx_conflicts(xs, tx)) {
        return EAGAIN;
    }
    xs_tree_snapshot(&next, &xs->tree);
    for (unsigned i = 0; i < tx->changes->len && err == 0; i++) {
        err = tx_redo(tx, &g_array_index(tx->changes, struct xs_tx_change, i), &next);
    }
    if (err != 0) {
        xs_tree_fini(&next);
        /* Somebody took a right or a parent away meanwhile: a conflict like any other. */
        return err == ENOSPC ? ENOSPC : EAGAIN;
    }
    before = xs->tree;
    xs->tree = next;
    for (unsigned i = 0; i < tx->changes->len; i++) {
        struct xs_tx_change *c = &g_array_index(tx->changes, struct xs_tx_change, i);

        if (c->op == XS_TX_RM) {
            if (xs_tree_find(&before, c->path) != NULL) {
                xs_fire_removed(xs, &before, c->path);
            }
        } else if (xs_tree_find(&xs->tree, c->path) != NULL) {
            xs_fire(xs, &xs->tree, c->path, xs_tree_visible(&before, PV_DOMID, c->path));
        }
    }
    xs_tree_fini(&before);
    return 0;
}
