/* SPDX-License-Identifier: MIT */
/*
 * Host ports that lead into the guest: the words of -p, and finding out whether a port is free.
 */
#ifndef PVEMU_IO_NET_FORWARD_H
#define PVEMU_IO_NET_FORWARD_H

#include <glib.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { NET_FORWARD_MAX = 64 };

struct net_forward {
    bool udp;
    bool ip6;               /* host address is address6; the guest is reached over IPv6 too */
    struct in_addr address; /* 127.0.0.1 unless the user named one */
    struct in6_addr address6;
    uint16_t host_port;     /* 0: pick one; net_slirp_open puts the number here */
    uint16_t guest_port;
};

/* "[ADDR:]HOST:GUEST[/tcp|/udp]"; an IPv6 ADDR stands in brackets. */
bool net_forward_parse(const char *text, struct net_forward *f, GError **err);
/* The same form, with the host port as it is now: "2222:22"; the address only when it is not
 * 127.0.0.1. Caller frees. */
char *net_forward_text(const struct net_forward *f);
/* Where the host listens, as a socket address; returns its length. */
socklen_t net_forward_sockaddr(const struct net_forward *f, struct sockaddr_storage *ss);

/*
 * Binds every port for a moment, and replaces each host_port 0 by a free one. false: *err names
 * the first that cannot be had, and who has it.
 */
bool net_forward_probe(struct net_forward *f, unsigned count, GError **err);
/* The error for a port that could not be bound. Returns false. */
bool net_forward_error(const struct net_forward *f, int error, GError **err);

#endif
