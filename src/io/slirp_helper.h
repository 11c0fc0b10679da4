/* SPDX-License-Identifier: MIT */
/*
 * The two processes behind a user network (see net_slirp.h): a supervisor forked from pvemu,
 * which forks the process that runs libslirp, and forks it again when it dies.
 *
 * Both are sandboxed (base/sandbox.h): the supervisor from its first moment, the network
 * process once its ports are open. What they may call is in base/sandbox_policy.c. pvemu
 * itself, in net_ops.close, uses poll, wait4, and kill in need.
 */
#ifndef PVEMU_IO_SLIRP_HELPER_H
#define PVEMU_IO_SLIRP_HELPER_H

#include <glib.h>
#include <stdint.h>

#include "base/config.h"
#include "io/net_forward.h"

struct slirp_setup {
    uint8_t mac[6];    /* the guest's: its IPv6 address follows from it */
    uint16_t mtu;
    unsigned max_restarts;
    unsigned nr_forwards;
    struct net_forward forwards[NET_FORWARD_MAX]; /* host ports are known */
    enum config_sandbox sandbox;
};

/* The network process ends with it when the list of name servers was replaced by a file that
 * its sandbox does not let it open: the next one may. */
enum { SLIRP_EXIT_RESOLVER = 3 };

/* What the processes tell pvemu, one message each on the control socket. */
enum slirp_event {
    SLIRP_EVENT_UP = 1,     /* libslirp runs; pid is its process */
    SLIRP_EVENT_FAILED,     /* it could not start: forward `index` (or -1), errno in value */
    SLIRP_EVENT_DOWN,       /* it died: wait status in value; another one is coming */
    SLIRP_EVENT_GAVE_UP,    /* it died too often */
};

struct slirp_message {
    int32_t event, pid, value, index;
};

/* The supervisor's whole life, in the forked process; ends when `control` is closed at the
 * other end. */
G_NORETURN void slirp_supervise(const struct slirp_setup *setup, int data_fd, int control_fd);
/* The network process's whole life; ends when `data` is closed at the other end. */
G_NORETURN void slirp_run(const struct slirp_setup *setup, int data_fd, int control_fd);

/* The address the guest gives itself in the fec0::/64 of slirp (RFC 4291 appendix A). */
struct in6_addr slirp_guest_address6(const uint8_t mac[6]);

#endif
