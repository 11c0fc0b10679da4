/* SPDX-License-Identifier: MIT */
/*
 * Xenstore: the tree, its permissions, transactions, watches and quotas, and the guest's ring
 * (docs/misc/xenstore.txt, public/io/xs_wire.h). Back ends and the toolstack in this process
 * use the functions below as domain 0; the guest uses the wire. Both fire the same watches.
 */
#ifndef PVEMU_PV_XENSTORE_H
#define PVEMU_PV_XENSTORE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pv_domain;
struct state;
struct xenstore;

struct xenstore *xenstore_new(struct pv_domain *d);
void xenstore_free(struct xenstore *xs);
/* Guest reboot: drops the guest's watches, transactions and ring state, and every node that the
 * guest owns; domain 0's nodes stay (the owners rewrite them). No watch fires. */
void xenstore_reset(struct xenstore *xs);
void xenstore_state(struct xenstore *xs, struct state *s);
/* Starts serving the ring page (PV_FRAME_STORE) through the event channel d->store_port. */
void xenstore_connect(struct xenstore *xs);

/* Domain 0's own access; paths are absolute. */
void xs_write(struct xenstore *xs, const char *path, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* The value as a NUL-terminated string (caller frees), or NULL. */
char *xs_read(struct xenstore *xs, const char *path);
/* Reads an unsigned decimal number; false when absent or malformed or > max. */
bool xs_read_uint(struct xenstore *xs, const char *path, uint64_t max, uint64_t *value);
bool xs_exists(struct xenstore *xs, const char *path);
void xs_mkdir(struct xenstore *xs, const char *path);
void xs_rm(struct xenstore *xs, const char *path);
/* NULL-terminated list of child names (caller frees with g_strfreev). */
char **xs_directory(struct xenstore *xs, const char *path);
/* perms as on the wire, e.g. "n1", "r0": owner first. Applies to the node only; children made
 * later inherit. */
void xs_set_perms(struct xenstore *xs, const char *path, const char *const *perms,
                  unsigned count);

/* A watch of domain 0 on path and everything below. fn runs later from the main loop (posted),
 * lock held. Identical events are merged; after too many different ones a single call with the
 * watch's own path stands for all. There is no event at registration. */
typedef void (*xs_watch_fn)(void *opaque, const char *path);
struct xs_watch *xs_watch_add(struct xenstore *xs, const char *path, xs_watch_fn fn,
                              void *opaque);
void xs_watch_remove(struct xenstore *xs, struct xs_watch *w);

/* Whether the guest watches path or what is above it. */
bool xs_guest_watches(const struct xenstore *xs, const char *path);

/* Memory held by nodes, watches, transactions and unread output. */
size_t xenstore_bytes(const struct xenstore *xs);

/* Runs posted watch callbacks now (unit tests with a fake board, machine shutdown). */
void xs_run_watches(struct xenstore *xs);

#endif
