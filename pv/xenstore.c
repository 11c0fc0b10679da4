/* SPDX-License-Identifier: MIT */
/*
 * Xenstore as the rest of the process uses it: domain 0's reads and writes, which check no
 * permission and no quota, and the life of the store. The guest's side is in xenstore_wire.c
 * and xenstore_ops.c.
 */
#include "pv/xenstore_priv.h"

#include <stdio.h>
#include <string.h>

#include "pv/domain.h"

static void xenstore_run_watches_work(void *opaque)
{
    xs_run_watches(opaque);
}

struct xenstore *xenstore_new(struct pv_domain *d)
{
    struct xenstore *xs = g_new0(struct xenstore, 1);

    xs->domain = d;
    snprintf(xs->home, sizeof(xs->home), "/local/domain/%u", PV_DOMID);
    xs_tree_init(&xs->tree, &xs->ledger);
    g_queue_init(&xs->ready);
    xs->watch_work.fn = xenstore_run_watches_work;
    xs->watch_work.opaque = xs;
    xs_conn_init(xs);
    return xs;
}

void xenstore_free(struct xenstore *xs)
{
    if (xs == NULL) {
        return;
    }
    xs_conn_down(xs);
    xs_watch_free_all(xs);
    xs_tree_fini(&xs->tree);
    g_assert(xs->ledger.bytes == 0);
    g_free(xs);
}

void xenstore_reset(struct xenstore *xs)
{
    xs_conn_down(xs);
    xs_tree_rm_owned(&xs->tree, PV_DOMID);
}

size_t xenstore_bytes(const struct xenstore *xs)
{
    return xs->ledger.bytes;
}

/* ---- domain 0 ---- */

void xs_write(struct xenstore *xs, const char *path, const char *fmt, ...)
{
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_assert(xs_path_valid(path, false));
    xs_tree_write(&xs->tree, 0, path, value, strlen(value));
    xs_fire(xs, &xs->tree, path, false);
}

char *xs_read(struct xenstore *xs, const char *path)
{
    const struct xs_node *n = xs_path_valid(path, false) ? xs_tree_find(&xs->tree, path) : NULL;

    return n != NULL ? g_strndup((const char *)n->value, n->value_len) : NULL;
}

bool xs_read_uint(struct xenstore *xs, const char *path, uint64_t max, uint64_t *value)
{
    g_autofree char *text = xs_read(xs, path);
    guint64 number;

    if (text == NULL || !g_ascii_string_to_unsigned(text, 10, 0, max, &number, NULL)) {
        return false;
    }
    *value = number;
    return true;
}

bool xs_exists(struct xenstore *xs, const char *path)
{
    return xs_path_valid(path, false) && xs_tree_find(&xs->tree, path) != NULL;
}

void xs_mkdir(struct xenstore *xs, const char *path)
{
    if (!xs_exists(xs, path)) {
        xs_tree_mkdir(&xs->tree, 0, path);
        xs_fire(xs, &xs->tree, path, false);
    }
}

void xs_rm(struct xenstore *xs, const char *path)
{
    if (xs_exists(xs, path)) {
        xs_fire_removed(xs, &xs->tree, path);
        xs_tree_rm(&xs->tree, 0, path);
    }
}

char **xs_directory(struct xenstore *xs, const char *path)
{
    const struct xs_node *n = xs_path_valid(path, false) ? xs_tree_find(&xs->tree, path) : NULL;
    unsigned count = n != NULL ? n->nr_children : 0;
    char **names = g_new0(char *, count + 1);

    for (unsigned i = 0; i < count; i++) {
        names[i] = g_strdup(n->children[i]->name);
    }
    return names;
}

void xs_set_perms(struct xenstore *xs, const char *path, const char *const *perms,
                  unsigned count)
{
    struct xs_perm list[XS_MAX_PERMS];
    bool shown = xs_tree_visible(&xs->tree, PV_DOMID, path);

    g_assert(count > 0 && count <= XS_MAX_PERMS);
    for (unsigned i = 0; i < count; i++) {
        bool good = xs_perm_parse(perms[i], &list[i]);

        g_assert(good);
    }
    if (xs_tree_set_perms(&xs->tree, 0, path, list, count) == 0) {
        xs_fire(xs, &xs->tree, path, shown);
    }
}
