/* SPDX-License-Identifier: MIT */
/*
 * User networking: a private network behind NAT, made by libslirp in a process of its own
 * (docs/reliability.md: it has no guest memory and no disks, and may crash). pvemu's end is an
 * ordinary struct net.
 *
 * When the process dies the link goes down (net_link_fn), the process is started again with the
 * same port forwards, and the link comes up; connections through it are lost.
 */
#ifndef PVEMU_IO_NET_SLIRP_H
#define PVEMU_IO_NET_SLIRP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "core/net.h"
#include "io/net_forward.h"

struct net_slirp_options {
    uint8_t mac[6];           /* all zero: made from `name` and `index` */
    const char *name;         /* the guest's name; may be NULL */
    unsigned index;           /* of the card in the guest */
    uint16_t mtu;             /* 0: 1500 */
    struct net_forward *forwards; /* borrowed; host_port 0 is replaced by the port picked */
    unsigned nr_forwards;
    unsigned max_restarts;    /* quick deaths in a row before giving up; 0: 8 */
    GMainContext *context;    /* where callbacks run; NULL: the default */
    GMutex *lock;             /* the board lock, taken around callbacks; may be NULL (tests) */
    enum config_sandbox sandbox; /* of the network's processes */
};

/*
 * Call it on the main thread, before guest memory and disks exist and before other threads
 * start: the helper processes are forked from here and keep what they inherit. Returns when the
 * ports listen.
 */
struct net *net_slirp_open(const struct net_slirp_options *o, GError **err);

/* The network process now, 0 while there is none (tests, `pvemu info`). */
pid_t net_slirp_pid(const struct net *net);
/* The process that starts it again, a child of this one; 0: the card is of another kind. */
pid_t net_slirp_supervisor(const struct net *net);
/* "libslirp 4.7.0", for -version. */
const char *net_slirp_version(void);

/* 52:54:00 and three bytes from the name and the card's number, so that a guest keeps its
 * address. */
void net_derive_mac(const char *name, unsigned index, uint8_t mac[6]);

/* A card whose cable leads nowhere: takes every frame, brings none. */
struct net *net_null_open(const uint8_t mac[6]);

#endif
