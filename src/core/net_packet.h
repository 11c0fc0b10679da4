/* SPDX-License-Identifier: MIT */
/*
 * What everybody on the way of an Ethernet frame needs to know about it: where its headers lie,
 * its checksums (RFC 1071), and how to cut a large TCP frame into segments. Frames come from a
 * guest or the network and may hold anything.
 */
#ifndef PVEMU_CORE_NET_PACKET_H
#define PVEMU_CORE_NET_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NET_ETH_HEADER = 14,
    NET_ETHERTYPE_IP4 = 0x0800,
    NET_ETHERTYPE_ARP = 0x0806,
    NET_ETHERTYPE_IP6 = 0x86dd,
    NET_PROTO_ICMP = 1,
    NET_PROTO_TCP = 6,
    NET_PROTO_UDP = 17,
    NET_PROTO_ICMP6 = 58,
};

struct net_packet {
    uint16_t ethertype;
    uint8_t proto; /* IPv4 protocol, IPv6 next header of the fixed header */
    unsigned l3;   /* offset of the IP header; 0 when this is not IP */
    unsigned l4;   /* offset of what follows the IP header */
    unsigned data; /* offset of TCP or UDP payload; 0: no whole such header */
    unsigned end;  /* end of the IP packet; the frame may be longer (padding) */
    bool fragment; /* IPv4 with MF or an offset */
    bool more_fragments;
    unsigned fragment_offset; /* bytes */
};

static inline uint16_t net_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t net_get32(const uint8_t *p)
{
    return (uint32_t)net_get16(p) << 16 | net_get16(p + 2);
}

static inline void net_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void net_put32(uint8_t *p, uint32_t v)
{
    net_put16(p, (uint16_t)(v >> 16));
    net_put16(p + 2, (uint16_t)v);
}

/* Finds the headers. false: too short for what it says it is, or lengths contradict each other.
 * Anything that is neither IPv4 nor IPv6 is fine (l3 = 0). Header contents are not judged. */
bool net_packet_parse(const uint8_t *frame, size_t len, struct net_packet *p);

/* A number that is the same for all frames of a flow: the addresses, and the ports of TCP and
 * UDP unless the packet is a fragment. Spreads flows over queues; whoever makes the frames can
 * make it collide. 0 for what is not IP. */
uint32_t net_packet_flow(const uint8_t *frame, size_t len);

/* Ones' complement sum of len bytes, added to `sum`; not yet folded or inverted. */
uint64_t net_csum_add(uint64_t sum, const void *data, size_t len);
/* Folds and inverts: the value to store with net_put16. */
uint16_t net_csum_fold(uint64_t sum);

/* The IPv4 header checksum is computed anew. */
void net_packet_set_ip_csum(uint8_t *frame, const struct net_packet *p);
/* The TCP, UDP or ICMPv6 checksum is computed anew from the whole packet. false: not such a
 * packet, or a fragment. */
bool net_packet_set_l4_csum(uint8_t *frame, const struct net_packet *p);

/*
 * Writes the index-th segment of a large TCP frame, with all checksums valid, to out (room for
 * p->data + gso_size bytes). Returns its length; 0 when there is no such segment or the frame
 * is not TCP.
 */
size_t net_packet_segment(const uint8_t *frame, const struct net_packet *p, uint16_t gso_size,
                          unsigned index, uint8_t *out);

#endif
