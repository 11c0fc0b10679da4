/* SPDX-License-Identifier: MIT */
/*
 * The nodes of xenstore: a tree of reference-counted nodes that are shared between versions. A
 * snapshot costs one reference; a change copies only those nodes on its path that others see.
 * Transactions, replay at commit and conflict checks are built on that. Permissions and quotas
 * are checked here, for every caller alike; domain 0 passes both.
 *
 * Errors are positive errno values, the ones that the wire names.
 */
#ifndef PVEMU_PV_XENSTORE_TREE_H
#define PVEMU_PV_XENSTORE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    XS_MAX_NODES = 1000,             /* owned by the guest */
    XS_MAX_VALUE = 2048,             /* bytes of one value that the guest writes */
    XS_MAX_PERMS = 8,                /* permission entries of one node */
    XS_MAX_GUEST_BYTES = 1024 * 1024, /* nodes owned by the guest, one version */
    XS_MAX_LIVE_BYTES = 2048 * 1024, /* everything alive, when the guest asks for more */
};

enum { XS_MAY_READ = 1, XS_MAY_WRITE = 2, XS_MAY_OWN = 4 };

struct xs_perm {
    uint16_t domid;
    uint8_t may; /* in entry 0: what everybody else may do */
};

struct xs_node {
    unsigned refs;
    unsigned nr_children;
    unsigned nr_perms;
    uint32_t value_len;
    uint64_t generation;       /* of value, permissions and the set of children */
    struct xs_perm *perms;
    uint8_t *value;            /* one NUL byte more than value_len */
    struct xs_node **children; /* by length, then bytes: numbers come in order */
    char name[];
};

/* What is shared by all versions: memory in use and the source of generations. */
struct xs_ledger {
    size_t bytes;
    uint64_t generation;
};

struct xs_tree {
    struct xs_ledger *ledger;
    struct xs_node *root;
    unsigned guest_nodes; /* owned by another domain than 0 */
    size_t guest_bytes;
};

/* An empty tree: "/" of domain 0, readable by domain 0 only. */
void xs_tree_init(struct xs_tree *t, struct xs_ledger *ledger);
void xs_tree_snapshot(struct xs_tree *t, const struct xs_tree *of);
void xs_tree_fini(struct xs_tree *t);

/* The path must be valid (xs_path_valid). NULL when there is no such node. */
const struct xs_node *xs_tree_find(const struct xs_tree *t, const char *path);
/* The generation of a node, 0 when there is none. */
uint64_t xs_tree_generation(const struct xs_tree *t, const char *path);
uint8_t xs_node_may(const struct xs_node *n, unsigned domid);
/* True when an event about path may be shown to the domain: it reads the node or its parent. */
bool xs_tree_visible(const struct xs_tree *t, unsigned domid, const char *path);

/* ENOENT only if the nearest existing ancestor grants `need`, else EACCES. node may be NULL. */
int xs_tree_get(const struct xs_tree *t, unsigned domid, const char *path, uint8_t need,
                const struct xs_node **node);
int xs_tree_write(struct xs_tree *t, unsigned domid, const char *path, const void *value,
                  size_t len);
/* Nothing happens when the node exists. */
int xs_tree_mkdir(struct xs_tree *t, unsigned domid, const char *path);
/* With all children. */
int xs_tree_rm(struct xs_tree *t, unsigned domid, const char *path);
/* Every node that belongs to the domain, with its children. */
void xs_tree_rm_owned(struct xs_tree *t, unsigned domid);
int xs_tree_set_perms(struct xs_tree *t, unsigned domid, const char *path,
                      const struct xs_perm *perms, unsigned count);

/* An absolute path, or with `home` also a relative one: characters, slashes, length. */
bool xs_path_valid(const char *path, bool relative);
/* True when path is base or lies below it. */
bool xs_path_under(const char *path, const char *base);
/* "n1", "r0", ...; false when malformed. */
bool xs_perm_parse(const char *text, struct xs_perm *perm);
/* Writes at most 8 bytes including the NUL. */
void xs_perm_format(const struct xs_perm *perm, char *text);

#endif
