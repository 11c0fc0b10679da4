/* SPDX-License-Identifier: MIT */
/*
 * Xenstore's nodes, see xenstore_tree.h. Permission rules follow docs/misc/xenstore.txt: only
 * the node's own list counts (not its ancestors'), a new node inherits its parent's list, and
 * what an unprivileged domain makes belongs to that domain. A node that was never there and one
 * that may not be seen are told apart only when the nearest ancestor allows it.
 *
 * Depth is bounded by the length of a path and the number of nodes, so recursion is too.
 */
#include "pv/xenstore_tree.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/xs_wire.h>

/* ---- paths ---- */

static bool path_char(char c)
{
    return g_ascii_isalnum(c) || c == '-' || c == '/' || c == '_' || c == '@';
}

bool xs_path_valid(const char *path, bool relative)
{
    size_t len = strlen(path);
    size_t max = path[0] == '/' ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX;

    if (len == 0 || len > max || path[0] == '@' || (path[0] != '/' && !relative)) {
        return false;
    }
    if (len > 1 && path[len - 1] == '/') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!path_char(path[i]) || (path[i] == '/' && path[i + 1] == '/')) {
            return false;
        }
    }
    return true;
}

bool xs_path_under(const char *path, const char *base)
{
    size_t len = strlen(base);

    if (strcmp(base, "/") == 0) {
        return path[0] == '/';
    }
    return strncmp(path, base, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* The next component of *path (which is moved past it); NULL at the end. */
static const char *path_next(const char **path, size_t *len)
{
    const char *start = *path;

    while (*start == '/') {
        start++;
    }
    *len = strcspn(start, "/");
    *path = start + *len;
    return *len > 0 ? start : NULL;
}

/* ---- permissions ---- */

bool xs_perm_parse(const char *text, struct xs_perm *perm)
{
    static const char letters[] = "nrwb"; /* index = XS_MAY_READ | XS_MAY_WRITE */
    const char *letter = text[0] != '\0' ? strchr(letters, text[0]) : NULL;
    guint64 domid;

    if (letter == NULL ||
        !g_ascii_string_to_unsigned(text + 1, 10, 0, UINT16_MAX, &domid, NULL)) {
        return false;
    }
    perm->domid = (uint16_t)domid;
    perm->may = (uint8_t)(letter - letters);
    return true;
}

void xs_perm_format(const struct xs_perm *perm, char *text)
{
    snprintf(text, 8, "%c%u", "nrwb"[perm->may & 3], perm->domid);
}

uint8_t xs_node_may(const struct xs_node *n, unsigned domid)
{
    if (domid == 0 || n->perms[0].domid == domid) {
        return XS_MAY_READ | XS_MAY_WRITE | XS_MAY_OWN;
    }
    for (unsigned i = 1; i < n->nr_perms; i++) {
        if (n->perms[i].domid == domid) {
            return n->perms[i].may;
        }
    }
    return n->perms[0].may;
}

/* ---- nodes ---- */

static size_t node_bytes(size_t name_len, size_t value_len, size_t nr_perms)
{
    /* The slot in the parent and two allocations' overhead are charged to the node. */
    return sizeof(struct xs_node) + name_len + value_len + 2 +
           nr_perms * sizeof(struct xs_perm) + 2 * sizeof(struct xs_node *) + 48;
}

static size_t node_size(const struct xs_node *n)
{
    return node_bytes(strlen(n->name), n->value_len, n->nr_perms);
}

static struct xs_node *node_new(struct xs_ledger *ledger, const char *name, size_t name_len,
                                const struct xs_perm *perms, unsigned nr_perms)
{
    struct xs_node *n = g_malloc0(sizeof(*n) + name_len + 1);

    memcpy(n->name, name, name_len);
    n->refs = 1;
    n->perms = g_memdup2(perms, nr_perms * sizeof(*perms));
    n->nr_perms = nr_perms;
    n->value = g_malloc0(1);
    n->generation = ++ledger->generation;
    ledger->bytes += node_size(n);
    return n;
}

static void node_unref(struct xs_ledger *ledger, struct xs_node *n)
{
    if (--n->refs > 0) {
        return;
    }
    ledger->bytes -= node_size(n);
    for (unsigned i = 0; i < n->nr_children; i++) {
        node_unref(ledger, n->children[i]);
    }
    g_free(n->children);
    g_free(n->perms);
    g_free(n->value);
    g_free(n);
}

/* Makes *slot a node that only this tree sees. */
static struct xs_node *node_own(struct xs_ledger *ledger, struct xs_node **slot)
{
    struct xs_node *old = *slot, *n;
    size_t name_len = strlen(old->name);

    if (old->refs == 1) {
        return old;
    }
    n = g_malloc(sizeof(*n) + name_len + 1);
    memcpy(n, old, sizeof(*n) + name_len + 1);
    n->refs = 1;
    n->perms = g_memdup2(old->perms, old->nr_perms * sizeof(*old->perms));
    n->value = g_memdup2(old->value, (size_t)old->value_len + 1);
    n->children = g_new(struct xs_node *, MAX(1, n->nr_children));
    for (unsigned i = 0; i < n->nr_children; i++) {
        n->children[i] = old->children[i];
        n->children[i]->refs++;
    }
    ledger->bytes += node_size(n);
    old->refs--;
    *slot = n;
    return n;
}

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len != b_len ? (a_len < b_len ? -1 : 1) : memcmp(a, b, a_len);
}

/* The index of the child, or of the place where it would go; *found says which. */
static unsigned node_index(const struct xs_node *n, const char *name, size_t len, bool *found)
{
    unsigned low = 0, high = n->nr_children;

    *found = false;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        const char *other = n->children[mid]->name;
        int order = name_compare(other, strlen(other), name, len);

        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static void node_insert(struct xs_node *parent, unsigned at, struct xs_node *child)
{
    parent->children = g_renew(struct xs_node *, parent->children, parent->nr_children + 1);
    memmove(parent->children + at + 1, parent->children + at,
            (parent->nr_children - at) * sizeof(child));
    parent->children[at] = child;
    parent->nr_children++;
}

/* ---- the tree ---- */

void xs_tree_init(struct xs_tree *t, struct xs_ledger *ledger)
{
    struct xs_perm root = { 0, 0 };

    *t = (struct xs_tree){ .ledger = ledger };
    t->root = node_new(ledger, "", 0, &root, 1);
}

void xs_tree_snapshot(struct xs_tree *t, const struct xs_tree *of)
{
    *t = *of;
    t->root->refs++;
}

void xs_tree_fini(struct xs_tree *t)
{
    if (t->root != NULL) {
        node_unref(t->ledger, t->root);
        t->root = NULL;
    }
}

/* Walks as far as there are nodes: the last one, and in *rest what is left of the path. */
static const struct xs_node *tree_nearest(const struct xs_tree *t, const char *path,
                                          const char **rest)
{
    const struct xs_node *n = t->root;
    const char *name;
    size_t len;

    for (*rest = path; (name = path_next(&path, &len)) != NULL; *rest = path) {
        bool found;
        unsigned i = node_index(n, name, len, &found);

        if (!found) {
            break;
        }
        n = n->children[i];
    }
    return n;
}

const struct xs_node *xs_tree_find(const struct xs_tree *t, const char *path)
{
    const char *rest;
    const struct xs_node *n = tree_nearest(t, path, &rest);

    return *rest == '\0' || strcmp(rest, "/") == 0 ? n : NULL;
}

uint64_t xs_tree_generation(const struct xs_tree *t, const char *path)
{
    const struct xs_node *n = xs_tree_find(t, path);

    return n != NULL ? n->generation : 0;
}

int xs_tree_get(const struct xs_tree *t, unsigned domid, const char *path, uint8_t need,
                const struct xs_node **node)
{
    const char *rest;
    const struct xs_node *n = tree_nearest(t, path, &rest);

    if ((xs_node_may(n, domid) & need) != need) {
        return EACCES;
    }
    if (*rest != '\0' && strcmp(rest, "/") != 0) {
        return ENOENT;
    }
    if (node != NULL) {
        *node = n;
    }
    return 0;
}

bool xs_tree_visible(const struct xs_tree *t, unsigned domid, const char *path)
{
    const struct xs_node *n = t->root, *parent = t->root;
    const char *name;
    size_t len;

    while ((name = path_next(&path, &len)) != NULL) {
        bool found;
        unsigned i = node_index(n, name, len, &found);

        if (!found) {
            return false;
        }
        parent = n;
        n = n->children[i];
    }
    return ((xs_node_may(n, domid) | xs_node_may(parent, domid)) & XS_MAY_READ) != 0;
}

/* Makes the first `len` bytes of the path (existing nodes) private to this tree. */
static struct xs_node *tree_own(struct xs_tree *t, const char *path, size_t path_len)
{
    const char *end = path + path_len, *name;
    struct xs_node *n = node_own(t->ledger, &t->root);
    size_t len;

    while (path < end && (name = path_next(&path, &len)) != NULL) {
        bool found;
        unsigned i = node_index(n, name, len, &found);

        g_assert(found);
        n = node_own(t->ledger, &n->children[i]);
    }
    return n;
}

/* What tree_own() of the path would allocate. */
static size_t tree_own_cost(const struct xs_tree *t, const char *path)
{
    const struct xs_node *n = t->root;
    bool shared = n->refs > 1;
    size_t cost = shared ? node_size(n) : 0, len;
    const char *name;

    while ((name = path_next(&path, &len)) != NULL) {
        bool found;
        unsigned i = node_index(n, name, len, &found);

        if (!found) {
            break;
        }
        n = n->children[i];
        shared = shared || n->refs > 1;
        cost += shared ? node_size(n) : 0;
    }
    return cost;
}

/* May the domain add so many nodes and bytes of its own, changing this path? */
static int tree_quota(const struct xs_tree *t, unsigned domid, const char *path, unsigned nodes,
                      size_t bytes)
{
    size_t cost;

    if (domid == 0) {
        return 0;
    }
    cost = bytes + tree_own_cost(t, path);
    if ((nodes > 0 && t->guest_nodes + nodes > XS_MAX_NODES) ||
        (bytes > 0 && t->guest_bytes + bytes > XS_MAX_GUEST_BYTES) ||
        (cost > 0 && t->ledger->bytes + cost > XS_MAX_LIVE_BYTES)) {
        return ENOSPC;
    }
    return 0;
}

static void tree_charge(struct xs_tree *t, const struct xs_node *n)
{
    if (n->perms[0].domid != 0) {
        t->guest_nodes++;
        t->guest_bytes += node_size(n);
    }
}

static void tree_uncharge(struct xs_tree *t, const struct xs_node *n)
{
    if (n->perms[0].domid != 0) {
        t->guest_nodes--;
        t->guest_bytes -= node_size(n);
    }
}

/* Makes the missing nodes of the path; the last one is returned. */
static int tree_create(struct xs_tree *t, unsigned domid, const char *path, size_t value_len,
                       struct xs_node **node)
{
    const char *rest, *scan, *name;
    const struct xs_node *near = tree_nearest(t, path, &rest);
    struct xs_perm perms[XS_MAX_PERMS];
    unsigned missing = 0, nr_perms = near->nr_perms;
    size_t bytes = value_len, len;
    struct xs_node *n;
    int err;

    for (scan = rest; (name = path_next(&scan, &len)) != NULL; missing++) {
        bytes += node_bytes(len, 0, nr_perms);
    }
    err = tree_quota(t, domid, path, missing, bytes);
    if (err != 0) {
        return err;
    }
    memcpy(perms, near->perms, nr_perms * sizeof(perms[0]));
    if (domid != 0) {
        perms[0].domid = (uint16_t)domid;
    }
    n = tree_own(t, path, (size_t)(rest - path));
    while ((name = path_next(&rest, &len)) != NULL) {
        struct xs_node *child = node_new(t->ledger, name, len, perms, nr_perms);
        bool found;

        node_insert(n, node_index(n, name, len, &found), child);
        n->generation = ++t->ledger->generation;
        tree_charge(t, child);
        n = child;
    }
    *node = n;
    return 0;
}

int xs_tree_write(struct xs_tree *t, unsigned domid, const char *path, const void *value,
                  size_t len)
{
    const struct xs_node *old = NULL;
    struct xs_node *n;
    int err = xs_tree_get(t, domid, path, XS_MAY_WRITE, &old);

    if (err != 0 && err != ENOENT) {
        return err;
    }
    if (len > UINT32_MAX / 2 || (domid != 0 && len > XS_MAX_VALUE)) {
        return ENOSPC;
    }
    if (err == ENOENT) {
        err = tree_create(t, domid, path, len, &n);
    } else {
        err = tree_quota(t, domid, path, 0, len > old->value_len ? len - old->value_len : 0);
        n = err == 0 ? tree_own(t, path, strlen(path)) : NULL;
    }
    if (err != 0) {
        return err;
    }
    tree_uncharge(t, n);
    t->ledger->bytes -= node_size(n);
    g_free(n->value);
    n->value = g_malloc(len + 1);
    if (len > 0) {
        memcpy(n->value, value, len);
    }
    n->value[len] = 0;
    n->value_len = (uint32_t)len;
    n->generation = ++t->ledger->generation;
    t->ledger->bytes += node_size(n);
    tree_charge(t, n);
    return 0;
}

int xs_tree_mkdir(struct xs_tree *t, unsigned domid, const char *path)
{
    struct xs_node *n;
    int err = xs_tree_get(t, domid, path, XS_MAY_WRITE, NULL);

    return err == ENOENT ? tree_create(t, domid, path, 0, &n) : err;
}

static void tree_uncharge_all(struct xs_tree *t, const struct xs_node *n)
{
    tree_uncharge(t, n);
    for (unsigned i = 0; i < n->nr_children; i++) {
        tree_uncharge_all(t, n->children[i]);
    }
}

int xs_tree_rm(struct xs_tree *t, unsigned domid, const char *path)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *parent_path = NULL;
    struct xs_node *parent;
    unsigned i;
    bool found;
    int err;

    if (strcmp(path, "/") == 0) {
        return EINVAL;
    }
    parent_path = slash == path ? g_strdup("/") : g_strndup(path, (gsize)(slash - path));
    err = xs_tree_get(t, domid, path, XS_MAY_WRITE, NULL);
    if (err == ENOENT) {
        return xs_tree_find(t, parent_path) != NULL ? 0 : ENOENT;
    }
    if (err == 0) {
        err = tree_quota(t, domid, parent_path, 0, 0);
    }
    if (err != 0) {
        return err;
    }
    parent = tree_own(t, parent_path, strlen(parent_path));
    i = node_index(parent, slash + 1, strlen(slash + 1), &found);
    g_assert(found);
    tree_uncharge_all(t, parent->children[i]);
    node_unref(t->ledger, parent->children[i]);
    parent->nr_children--;
    memmove(parent->children + i, parent->children + i + 1,
            (parent->nr_children - i) * sizeof(parent));
    parent->generation = ++t->ledger->generation;
    return 0;
}

static void node_rm_owned(struct xs_tree *t, struct xs_node *n, unsigned domid)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n->nr_children; i++) {
        struct xs_node *child = n->children[i];

        if (child->perms[0].domid == domid) {
            tree_uncharge_all(t, child);
            node_unref(t->ledger, child);
            n->generation = ++t->ledger->generation;
        } else {
            n->children[kept++] = node_own(t->ledger, &n->children[i]);
            node_rm_owned(t, n->children[kept - 1], domid);
        }
    }
    n->nr_children = kept;
}

void xs_tree_rm_owned(struct xs_tree *t, unsigned domid)
{
    node_rm_owned(t, node_own(t->ledger, &t->root), domid);
}

int xs_tree_set_perms(struct xs_tree *t, unsigned domid, const char *path,
                      const struct xs_perm *perms, unsigned count)
{
    const struct xs_node *old = NULL;
    struct xs_node *n;
    int err = xs_tree_get(t, domid, path, XS_MAY_OWN, &old);

    if (err != 0) {
        return err;
    }
    if (count == 0) {
        return EINVAL;
    }
    if (count > XS_MAX_PERMS) {
        return ENOSPC;
    }
    if (domid != 0 && perms[0].domid != domid) {
        return EPERM;
    }
    err = tree_quota(t, domid, path, 0, count * sizeof(*perms));
    if (err != 0) {
        return err;
    }
    n = tree_own(t, path, strlen(path));
    tree_uncharge(t, n);
    t->ledger->bytes -= node_size(n);
    g_free(n->perms);
    n->perms = g_memdup2(perms, count * sizeof(*perms));
    n->nr_perms = count;
    n->generation = ++t->ledger->generation;
    t->ledger->bytes += node_size(n);
    tree_charge(t, n);
    return 0;
}
