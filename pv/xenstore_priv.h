/* SPDX-License-Identifier: MIT */
/*
 * What the files of xenstore share: the store itself, the guest's connection, its watches and
 * transactions. Only pv/xenstore_*.c and their tests include this.
 */
#ifndef PVEMU_PV_XENSTORE_PRIV_H
#define PVEMU_PV_XENSTORE_PRIV_H

#include <errno.h> /* xs_wire.h names the errors only after it */
#include <glib.h>
#include <stdint.h>

#include <xen/io/xs_wire.h>

#include "base/report.h"
#include "core/board.h"
#include "pv/evtchn.h"
#include "pv/xenstore.h"
#include "pv/xenstore_tree.h"

enum {
    XS_MAX_WATCHES = 128,       /* of the guest */
    XS_MAX_TRANSACTIONS = 10,
    XS_MAX_TX_PATHS = 1024,     /* touched or changed in one transaction */
    XS_OUT_BACKLOG = 16 * 1024, /* unread output at which requests wait */
    XS_OUT_EVENTS = 64 * 1024,  /* unread output at which watch events are merged */
    XS_WATCH_QUEUE = 64,        /* events of one watch in the queue */
    XS_DOM0_QUEUE = 16,         /* distinct paths waiting for one watch of domain 0 */
    XS_RUN_MESSAGES = 64,       /* requests per run of posted work */
    XS_RUN_CALLBACKS = 256,
};

/* A message for the guest, header included. */
struct xs_out {
    struct xs_out *next;
    struct xs_guest_watch *watch; /* an event of this watch */
    const char *path;             /* inside data, for events */
    uint8_t *data;
    size_t len;
};

struct xs_guest_watch {
    struct xs_guest_watch *next;
    char *path;        /* absolute */
    size_t shown;      /* events show the path from this offset (relative watches) */
    char *token;
    unsigned queued;   /* events in the output queue */
    bool lost;         /* there was no room: the watch's own path will be sent */
};

struct xs_watch {
    struct xs_watch *next;
    char *path;
    xs_watch_fn fn;
    void *opaque;
    char *pending[XS_DOM0_QUEUE];
    unsigned nr_pending;
    bool queued;
    bool dead;         /* removed while its callbacks run */
    unsigned refs;
};

enum xs_tx_op { XS_TX_WRITE, XS_TX_MKDIR, XS_TX_RM, XS_TX_PERMS };

struct xs_tx_change {
    enum xs_tx_op op;
    char *path;
};

struct xs_tx {
    struct xs_tx *next;
    uint32_t id;
    struct xs_tree base, tree;
    GHashTable *touched;   /* set of paths */
    GArray *changes;       /* struct xs_tx_change, in order */
    GHashTable *changed;   /* op and path of the changes since the last removal */
    size_t bytes;          /* charged to the ledger */
    bool doomed;           /* came out of a save file: it can only be tried again */
    bool failed;           /* a change could not be remembered: it cannot be committed */
};

struct xs_conn {
    struct evtchn_host host;
    bool up;               /* the ring page is served */
    bool dead;             /* the guest broke the protocol; only a reconnection helps */
    uint32_t req_cons, rsp_prod;
    uint8_t in[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    size_t in_len;
    struct xs_out *out, **out_tail;
    size_t out_sent;       /* bytes of the first message already in the ring */
    size_t out_bytes;
    bool any_lost;
    struct xs_guest_watch *watches;
    unsigned nr_watches;
    struct xs_tx *txs;
    unsigned nr_txs;
    uint32_t next_tx;
    struct report_gate gate;
};

struct xenstore {
    struct pv_domain *domain;
    struct xs_ledger ledger;
    struct xs_tree tree;
    struct xs_watch *watches;
    GQueue ready;          /* watches of domain 0 with pending paths */
    struct work watch_work, ring_work;
    struct timer ring_timer;
    struct xs_conn conn;
    char home[32];         /* "/local/domain/1" */
};

/* ---- xenstore_watch.c ---- */
/* Tells everybody who watches path. shown: the guest may see it even if `tree` says no. */
void xs_fire(struct xenstore *xs, const struct xs_tree *tree, const char *path, bool shown);
/* The same for a path that was in `before` and was removed with all its children. */
void xs_fire_removed(struct xenstore *xs, const struct xs_tree *before, const char *path);
/* 0 or errno: EEXIST, E2BIG, ENOSPC, EINVAL. `path` as the guest wrote it. */
int xs_guest_watch_add(struct xenstore *xs, const char *path, const char *token);
int xs_guest_watch_remove(struct xenstore *xs, const char *path, const char *token);
void xs_guest_watch_clear(struct xenstore *xs);
/* Out of a save file: no first event. */
bool xs_guest_watch_restore(struct xenstore *xs, const char *path, const char *token,
                            bool lost);
/* Queues the events that had no room, as far as there is room now. */
void xs_guest_watch_retry(struct xenstore *xs);
void xs_watch_fire_all(struct xenstore *xs);
void xs_watch_free_all(struct xenstore *xs);

/* ---- xenstore_tx.c ---- */
struct xs_tx *xs_tx_find(struct xenstore *xs, uint32_t id);
int xs_tx_start(struct xenstore *xs, struct xs_tx **tx);
void xs_tx_free(struct xenstore *xs, struct xs_tx *tx); /* takes it off the list too */
/* EAGAIN when another change got in between. The caller frees tx. */
int xs_tx_commit(struct xenstore *xs, struct xs_tx *tx);
/* Remember that the transaction looked at or changed path. ENOSPC when it did too much. */
int xs_tx_touch(struct xenstore *xs, struct xs_tx *tx, const char *path);
int xs_tx_change(struct xenstore *xs, struct xs_tx *tx, enum xs_tx_op op, const char *path);

/* ---- xenstore_wire.c ---- */
/* Appends an empty message; the caller fills data (g_malloc) and calls xs_out_filled. */
struct xs_out *xs_out_append(struct xenstore *xs);
void xs_out_set(struct xenstore *xs, struct xs_out *out, const struct xsd_sockmsg *header,
                const void *payload);
/* Removes the queued events of a watch; a half-sent one stays but forgets it. */
void xs_out_drop_watch(struct xenstore *xs, struct xs_guest_watch *watch);
/* Output may be waiting or requests: look soon. */
void xs_conn_kick(struct xenstore *xs);
void xs_conn_drop(struct xenstore *xs); /* watches, transactions, partial messages */
void xs_conn_init(struct xenstore *xs);
void xs_conn_down(struct xenstore *xs); /* the ring is served no more */
void xs_conn_resume(struct xenstore *xs); /* after loading: bind and go on */

/* ---- xenstore_ops.c ---- */
struct xs_request {
    struct xsd_sockmsg header; /* len is checked */
    const char *payload;       /* private copy; a NUL follows it */
    uint8_t reply[XENSTORE_PAYLOAD_MAX];
    size_t reply_len;
};
/* Does it and fills the reply; header.type becomes XS_ERROR when it failed. */
void xs_request_handle(struct xenstore *xs, struct xs_request *rq);
const char *xs_type_name(uint32_t type);

#endif
