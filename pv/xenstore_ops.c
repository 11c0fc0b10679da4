/* SPDX-License-Identifier: MIT */
/*
 * What each xenstore message does (docs/misc/xenstore.txt). The payload is a private copy; its
 * shape is checked before anything is looked up. Messages that only a toolstack may send are
 * refused.
 */
#include "pv/xenstore_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "pv/domain.h"

static const char *const type_names[XS_TYPE_COUNT] = {
    [XS_CONTROL] = "CONTROL", [XS_DIRECTORY] = "DIRECTORY", [XS_READ] = "READ",
    [XS_GET_PERMS] = "GET_PERMS", [XS_WATCH] = "WATCH", [XS_UNWATCH] = "UNWATCH",
    [XS_TRANSACTION_START] = "TRANSACTION_START", [XS_TRANSACTION_END] = "TRANSACTION_END",
    [XS_INTRODUCE] = "INTRODUCE", [XS_RELEASE] = "RELEASE",
    [XS_GET_DOMAIN_PATH] = "GET_DOMAIN_PATH", [XS_WRITE] = "WRITE", [XS_MKDIR] = "MKDIR",
    [XS_RM] = "RM", [XS_SET_PERMS] = "SET_PERMS", [XS_WATCH_EVENT] = "WATCH_EVENT",
    [XS_ERROR] = "ERROR", [XS_IS_DOMAIN_INTRODUCED] = "IS_DOMAIN_INTRODUCED",
    [XS_RESUME] = "RESUME", [XS_SET_TARGET] = "SET_TARGET",
    [XS_RESET_WATCHES] = "RESET_WATCHES", [XS_DIRECTORY_PART] = "DIRECTORY_PART",
};

const char *xs_type_name(uint32_t type)
{
    return type < XS_TYPE_COUNT && type_names[type] != NULL ? type_names[type] : "?";
}

static const char *error_name(int err)
{
    for (size_t i = 0; i < G_N_ELEMENTS(xsd_errors); i++) {
        if (xsd_errors[i].errnum == err) {
            return xsd_errors[i].errstring;
        }
    }
    return "EINVAL";
}

/* ---- arguments and replies ---- */

/* Splits the payload into exactly n NUL-terminated strings. */
static bool args_split(const struct xs_request *rq, const char **args, unsigned n)
{
    const char *p = rq->payload, *end = p + rq->header.len;

    for (unsigned i = 0; i < n; i++) {
        const char *nul = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;

        if (nul == NULL) {
            return false;
        }
        args[i] = p;
        p = nul + 1;
    }
    return p == end;
}

/* The absolute form of a path that the guest wrote; NULL when it is not a path. */
static char *path_canonical(const struct xenstore *xs, const char *path)
{
    if (!xs_path_valid(path, true)) {
        return NULL;
    }
    return path[0] == '/' ? g_strdup(path) : g_strconcat(xs->home, "/", path, NULL);
}

static int reply_set(struct xs_request *rq, const void *data, size_t len)
{
    if (len > sizeof(rq->reply)) {
        return E2BIG;
    }
    if (len > 0) {
        memcpy(rq->reply, data, len);
    }
    rq->reply_len = len;
    return 0;
}

static int reply_text(struct xs_request *rq, const char *text)
{
    return reply_set(rq, text, strlen(text) + 1);
}

/* What most handlers need: one path, and the tree of the transaction. */
struct op {
    struct xenstore *xs;
    struct xs_request *rq;
    struct xs_tx *tx;
    struct xs_tree *tree;
    char *path; /* absolute */
};

/* Reads a node in the transaction, which then depends on it. */
static int op_get(const struct op *op, uint8_t need, const struct xs_node **n)
{
    int err = op->tx != NULL ? xs_tx_touch(op->xs, op->tx, op->path) : 0;

    return err != 0 ? err : xs_tree_get(op->tree, PV_DOMID, op->path, need, n);
}

/* After a change: fires now, or when the transaction ends. */
static int op_changed(const struct op *op, enum xs_tx_op kind, bool shown)
{
    if (op->tx != NULL) {
        return xs_tx_change(op->xs, op->tx, kind, op->path);
    }
    xs_fire(op->xs, op->tree, op->path, shown);
    return 0;
}

/* ---- nodes ---- */

static int op_read(const struct op *op)
{
    const struct xs_node *n;
    int err = op_get(op, XS_MAY_READ, &n);

    return err != 0 ? err : reply_set(op->rq, n->value, n->value_len);
}

static GString *children_list(const struct xs_node *n)
{
    GString *list = g_string_new(NULL);

    for (unsigned i = 0; i < n->nr_children; i++) {
        g_string_append_len(list, n->children[i]->name,
                            (gssize)strlen(n->children[i]->name) + 1);
    }
    return list;
}

static int op_directory(const struct op *op)
{
    const struct xs_node *n;
    GString *list;
    int err = op_get(op, XS_MAY_READ, &n);

    if (err != 0) {
        return err;
    }
    list = children_list(n);
    err = reply_set(op->rq, list->str, list->len);
    g_string_free(list, TRUE);
    return err;
}

/* "generation\0" and whole names from the offset on; one empty name after the last. */
static int op_directory_part(const struct op *op)
{
    const char *args[2];
    const struct xs_node *n;
    char part[XENSTORE_PAYLOAD_MAX];
    guint64 offset;
    size_t len;
    GString *list;
    int err;

    if (!args_split(op->rq, args, 2) ||
        !g_ascii_string_to_unsigned(args[1], 10, 0, UINT32_MAX, &offset, NULL)) {
        return EINVAL;
    }
    err = op_get(op, XS_MAY_READ, &n);
    if (err != 0) {
        return err;
    }
    len = (size_t)snprintf(part, sizeof(part), "%" G_GUINT64_FORMAT, n->generation) + 1;
    list = children_list(n);
    while (offset < list->len) {
        size_t name = strlen(list->str + offset) + 1;

        if (len + name + 1 > sizeof(part)) {
            break;
        }
        memcpy(part + len, list->str + offset, name);
        len += name;
        offset += name;
    }
    if (offset >= list->len) {
        part[len++] = '\0';
    }
    g_string_free(list, TRUE);
    return reply_set(op->rq, part, len);
}

static int op_write(const struct op *op)
{
    size_t skip = strlen(op->rq->payload) + 1;
    int err;

    if (skip > op->rq->header.len) {
        return EINVAL;
    }
    err = op->tx != NULL ? xs_tx_touch(op->xs, op->tx, op->path) : 0;
    if (err == 0) {
        err = xs_tree_write(op->tree, PV_DOMID, op->path, op->rq->payload + skip,
                            op->rq->header.len - skip);
    }
    return err != 0 ? err : op_changed(op, XS_TX_WRITE, false);
}

static int op_mkdir(const struct op *op)
{
    const struct xs_node *n;
    int err = op_get(op, XS_MAY_WRITE, &n);

    if (err != ENOENT) {
        return err;
    }
    err = xs_tree_mkdir(op->tree, PV_DOMID, op->path);
    return err != 0 ? err : op_changed(op, XS_TX_MKDIR, false);
}

static int op_rm(const struct op *op)
{
    const struct xs_node *n;
    int err = op_get(op, XS_MAY_WRITE, &n);
    bool exists = err == 0 && strcmp(op->path, "/") != 0;

    if (err != 0 && err != ENOENT) {
        return err;
    }
    if (exists && op->tx == NULL) {
        xs_fire_removed(op->xs, op->tree, op->path); /* while it says who may know */
    }
    err = xs_tree_rm(op->tree, PV_DOMID, op->path); /* decides whether ENOENT is an error */
    return err == 0 && exists && op->tx != NULL
               ? xs_tx_change(op->xs, op->tx, XS_TX_RM, op->path) : err;
}

static int op_get_perms(const struct op *op)
{
    const struct xs_node *n;
    size_t len = 0;
    int err = op_get(op, XS_MAY_READ, &n);

    if (err != 0) {
        return err;
    }
    for (unsigned i = 0; i < n->nr_perms; i++) {
        char text[8];

        xs_perm_format(&n->perms[i], text);
        memcpy(op->rq->reply + len, text, strlen(text) + 1);
        len += strlen(text) + 1;
    }
    op->rq->reply_len = len;
    return 0;
}

static int op_set_perms(const struct op *op)
{
    const char *p = op->rq->payload, *end = p + op->rq->header.len;
    struct xs_perm perms[XS_MAX_PERMS];
    bool shown = xs_tree_visible(op->tree, PV_DOMID, op->path);
    unsigned n = 0;
    int err;

    if (op->rq->header.len == 0 || end[-1] != '\0') {
        return EINVAL;
    }
    for (p += strlen(p) + 1; p < end; p += strlen(p) + 1) {
        if (n == XS_MAX_PERMS) {
            return ENOSPC;
        }
        if (!xs_perm_parse(p, &perms[n++])) {
            return EINVAL;
        }
    }
    err = op->tx != NULL ? xs_tx_touch(op->xs, op->tx, op->path) : 0;
    if (err == 0) {
        err = xs_tree_set_perms(op->tree, PV_DOMID, op->path, perms, n);
    }
    return err != 0 ? err : op_changed(op, XS_TX_PERMS, shown);
}

/* ---- the rest ---- */

static int op_watch(const struct op *op)
{
    const char *args[2];

    return args_split(op->rq, args, 2) ? xs_guest_watch_add(op->xs, args[0], args[1]) : EINVAL;
}

static int op_unwatch(const struct op *op)
{
    const char *args[2];

    return args_split(op->rq, args, 2) ? xs_guest_watch_remove(op->xs, args[0], args[1])
                                       : EINVAL;
}

static int op_reset_watches(const struct op *op)
{
    xs_guest_watch_clear(op->xs);
    return 0;
}

static int op_transaction_start(const struct op *op)
{
    struct xs_tx *tx;
    char text[16];
    int err = op->tx != NULL ? EBUSY : xs_tx_start(op->xs, &tx);

    if (err != 0) {
        return err;
    }
    snprintf(text, sizeof(text), "%u", tx->id);
    return reply_text(op->rq, text);
}

static int op_transaction_end(const struct op *op)
{
    const char *args[1];
    int err = 0;

    if (!args_split(op->rq, args, 1) ||
        (strcmp(args[0], "T") != 0 && strcmp(args[0], "F") != 0)) {
        return EINVAL;
    }
    if (op->tx == NULL) {
        return ENOENT;
    }
    if (args[0][0] == 'T') {
        err = xs_tx_commit(op->xs, op->tx);
    }
    xs_tx_free(op->xs, op->tx);
    return err;
}

static int op_get_domain_path(const struct op *op)
{
    const char *args[1];
    guint64 domid;
    char text[32];

    if (!args_split(op->rq, args, 1) ||
        !g_ascii_string_to_unsigned(args[0], 10, 0, UINT16_MAX, &domid, NULL)) {
        return EINVAL;
    }
    snprintf(text, sizeof(text), "/local/domain/%u", (unsigned)domid);
    return reply_text(op->rq, text);
}

static int op_is_introduced(const struct op *op)
{
    const char *args[1];
    guint64 domid;

    if (!args_split(op->rq, args, 1) ||
        !g_ascii_string_to_unsigned(args[0], 10, 0, UINT16_MAX, &domid, NULL)) {
        return EINVAL;
    }
    return reply_text(op->rq, domid == 0 || domid == PV_DOMID || domid == 0x7ff0 ? "T" : "F");
}

static int op_refused(const struct op *op)
{
    return EACCES;
}

enum { ARG_PATH = 1, ARG_ONLY = 2, ARG_TX = 4 };

static const struct {
    int (*fn)(const struct op *op);
    unsigned flags; /* first argument is a path; nothing follows it; works in a transaction */
} op_table[XS_TYPE_COUNT] = {
    [XS_CONTROL] = { op_refused, 0 },
    [XS_DIRECTORY] = { op_directory, ARG_PATH | ARG_ONLY | ARG_TX },
    [XS_READ] = { op_read, ARG_PATH | ARG_ONLY | ARG_TX },
    [XS_GET_PERMS] = { op_get_perms, ARG_PATH | ARG_ONLY | ARG_TX },
    [XS_WATCH] = { op_watch, 0 },
    [XS_UNWATCH] = { op_unwatch, 0 },
    [XS_TRANSACTION_START] = { op_transaction_start, ARG_TX },
    [XS_TRANSACTION_END] = { op_transaction_end, ARG_TX },
    [XS_INTRODUCE] = { op_refused, 0 },
    [XS_RELEASE] = { op_refused, 0 },
    [XS_GET_DOMAIN_PATH] = { op_get_domain_path, 0 },
    [XS_WRITE] = { op_write, ARG_PATH | ARG_TX },
    [XS_MKDIR] = { op_mkdir, ARG_PATH | ARG_ONLY | ARG_TX },
    [XS_RM] = { op_rm, ARG_PATH | ARG_ONLY | ARG_TX },
    [XS_SET_PERMS] = { op_set_perms, ARG_PATH | ARG_TX },
    [XS_IS_DOMAIN_INTRODUCED] = { op_is_introduced, 0 },
    [XS_RESUME] = { op_refused, 0 },
    [XS_SET_TARGET] = { op_refused, 0 },
    [XS_RESET_WATCHES] = { op_reset_watches, 0 },
    [XS_DIRECTORY_PART] = { op_directory_part, ARG_PATH | ARG_TX },
};

static int request_do(struct xenstore *xs, struct xs_request *rq)
{
    uint32_t type = rq->header.type;
    struct op op = { .xs = xs, .rq = rq, .tree = &xs->tree };
    g_autofree char *path = NULL;
    unsigned flags;

    if (type >= XS_TYPE_COUNT || op_table[type].fn == NULL) {
        return ENOSYS;
    }
    flags = op_table[type].flags;
    if ((flags & ARG_TX) && rq->header.tx_id != 0) {
        op.tx = xs_tx_find(xs, rq->header.tx_id);
        if (op.tx == NULL) {
            return ENOENT;
        }
        op.tree = &op.tx->tree;
    }
    if (flags & ARG_PATH) {
        const char *args[1];

        if ((flags & ARG_ONLY) && !args_split(rq, args, 1)) {
            return EINVAL;
        }
        path = path_canonical(xs, rq->payload);
        if (path == NULL || strlen(rq->payload) >= rq->header.len) {
            return EINVAL;
        }
        op.path = path;
    }
    return op_table[type].fn(&op);
}

void xs_request_handle(struct xenstore *xs, struct xs_request *rq)
{
    int err;

    reply_text(rq, "OK");
    err = request_do(xs, rq);
    log_debug(LOG_XENSTORE, "xenstore: %s %.128s tx %u: %s", xs_type_name(rq->header.type),
              rq->payload, rq->header.tx_id, err != 0 ? error_name(err) : "ok");
    if (err != 0) {
        rq->header.type = XS_ERROR;
        reply_text(rq, error_name(err));
    }
}
