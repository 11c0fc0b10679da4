/* SPDX-License-Identifier: MIT */
/* A guest of a few hundred bytes: enough ARP, DHCP and TCP to talk through a user network. */
#ifndef PVEMU_TESTS_SLIRP_GUEST_H
#define PVEMU_TESTS_SLIRP_GUEST_H

#include <glib.h>

#include "core/net.h"
#include "core/net_packet.h"

enum { GUEST_IP = 0x0a00020f, GUEST_GATEWAY = 0x0a000202, GUEST_TIMEOUT_MS = 20000 };

struct guest {
    struct net *net;
    GMainContext *context;
    bool link_up;
    unsigned downs;
    bool refuse;         /* rx() answers "no room" */
    unsigned refused;
    uint32_t leased;     /* address of the last DHCP ACK */
    uint32_t offered;
    /* One TCP connection. */
    uint16_t port, peer_port;
    uint32_t seq, ack, peer;
    bool established, accept; /* accept: answer SYNs to `port` */
    GByteArray *received;
    uint32_t acked;      /* highest sequence number the peer confirmed */
    uint16_t udp_port;   /* payload of datagrams to it goes to `received` */
    bool timed_out;
};

void guest_init(struct guest *g, struct net *net, GMainContext *context);
void guest_fini(struct guest *g);
/* Iterates the context until *flag or cond(g) is true; fails the test after
 * GUEST_TIMEOUT_MS. */
void guest_wait(struct guest *g, bool (*cond)(struct guest *g));
/* DISCOVER, OFFER, REQUEST, ACK. */
void guest_dhcp(struct guest *g);
void guest_connect(struct guest *g, uint32_t ip, uint16_t port);
/* One frame, checksum left blank; larger than the MTU: with segmentation asked for. */
void guest_send(struct guest *g, const uint8_t *data, size_t len);

#endif
