/* SPDX-License-Identifier: MIT */
/*
 * The gate between a hostile guest and libslirp, whose record is in URG handling, reassembly
 * and TFTP. Only ARP, IPv4 without options and IPv6 without extension headers pass; headers
 * must be whole and lengths consistent; fragments must come in order, without overlap, and
 * never carry TCP; the urgent pointer is always 0. A frame that is refused vanishes, as on a
 * real wire.
 */
#include "io/net_filter.h"

#include <string.h>

#include "core/net_packet.h"

enum {
    TCP_URG = 0x20, TCP_OPT_END = 0, TCP_OPT_NOP = 1,
    ARP_SIZE = 28, IP4_HEADER = 20, PORT_TFTP = 69,
};

/* RFC 768 and 9293 have their checksums elsewhere, but both add up the same way: one 16-bit
 * word of the packet changed from `was` to `now` (RFC 1624, equation 3). */
static void filter_fix_csum(uint8_t *csum, uint16_t was, uint16_t now)
{
    uint32_t sum = (uint16_t)~net_get16(csum) + (uint32_t)(uint16_t)~was + now;

    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    net_put16(csum, (uint16_t)~sum);
}

static bool filter_arp(const uint8_t *frame, size_t len)
{
    const uint8_t *arp = frame + NET_ETH_HEADER;

    return len >= NET_ETH_HEADER + ARP_SIZE && net_get16(arp) == 1 &&
           net_get16(arp + 2) == NET_ETHERTYPE_IP4 && arp[4] == 6 && arp[5] == 4;
}

static bool filter_tcp_options(const uint8_t *opt, unsigned len)
{
    while (len > 0 && *opt != TCP_OPT_END) {
        unsigned n = 1;

        if (*opt != TCP_OPT_NOP) {
            if (len < 2 || opt[1] < 2 || opt[1] > len) {
                return false;
            }
            n = opt[1];
        }
        opt += n;
        len -= n;
    }
    return true;
}

static bool filter_tcp(struct net_filter *f, uint8_t *frame, const struct net_packet *p)
{
    uint8_t *tcp = frame + p->l4;
    uint16_t flags = net_get16(tcp + 12);
    uint16_t urgent = net_get16(tcp + 18);

    if (!filter_tcp_options(tcp + 20, p->data - p->l4 - 20)) {
        return false;
    }
    if ((flags & TCP_URG) == 0 && urgent == 0) {
        return true;
    }
    f->urgent++;
    net_put16(tcp + 12, flags & (uint16_t)~TCP_URG);
    net_put16(tcp + 18, 0);
    filter_fix_csum(tcp + 16, flags, flags & (uint16_t)~TCP_URG);
    filter_fix_csum(tcp + 16, urgent, 0);
    return true;
}

/* slirp serves TFTP on its own addresses. None is configured; it shall not even parse
 * requests. */
static bool filter_to_gateway(const uint8_t *ip, const struct net_packet *p)
{
    if (p->ethertype == NET_ETHERTYPE_IP4) {
        uint32_t to = net_get32(ip + 16);

        return (to & 0xffffff00) == 0x0a000200 || to == UINT32_MAX;
    }
    return ip[24] >= 0xfe; /* site-local, link-local, multicast */
}

static bool filter_udp(const uint8_t *frame, const struct net_packet *p)
{
    const uint8_t *udp = frame + p->l4;
    unsigned len = net_get16(udp + 4);

    if (len < 8 || (!p->fragment && len > p->end - p->l4)) {
        return false;
    }
    return net_get16(udp + 2) != PORT_TFTP || !filter_to_gateway(frame + p->l3, p);
}

/* In-order fragments only: reassembly then has nothing to decide. Linux and the BSDs send them
 * so. */
static bool filter_fragment(struct net_filter *f, const uint8_t *frame,
                            const struct net_packet *p)
{
    const uint8_t *ip = frame + p->l3;
    struct net_filter_fragment key = {
        .used = true, .proto = p->proto, .id = net_get16(ip + 4),
        .source = net_get32(ip + 12), .destination = net_get32(ip + 16),
    };
    struct net_filter_fragment *e = NULL;
    unsigned len = p->end - p->l4;

    if (p->proto == NET_PROTO_TCP || len == 0 || (p->more_fragments && len % 8 != 0) ||
        p->fragment_offset + len > 65535 - IP4_HEADER) {
        return false;
    }
    for (unsigned i = 0; i < NET_FILTER_FRAGMENTS; i++) {
        struct net_filter_fragment *c = &f->fragments[i];

        if (c->used && c->proto == key.proto && c->id == key.id && c->source == key.source &&
            c->destination == key.destination) {
            e = c;
        }
    }
    if (p->fragment_offset == 0) {
        if (e != NULL) {
            return false; /* a second start would overlap the first */
        }
        e = &f->fragments[f->victim];
        f->victim = (f->victim + 1) % NET_FILTER_FRAGMENTS;
        *e = key;
    } else if (e == NULL || e->next != p->fragment_offset) {
        return false;
    }
    e->next = p->fragment_offset + len;
    e->used = p->more_fragments;
    return true;
}

static bool filter_ip(struct net_filter *f, uint8_t *frame, const struct net_packet *p)
{
    if (p->ethertype == NET_ETHERTYPE_IP4 && p->l4 - p->l3 != IP4_HEADER) {
        return false;
    }
    if (p->fragment && !filter_fragment(f, frame, p)) {
        return false;
    }
    if (p->fragment_offset != 0) {
        return p->proto == NET_PROTO_UDP || p->proto == NET_PROTO_ICMP;
    }
    switch (p->proto) {
    case NET_PROTO_TCP:
        return filter_tcp(f, frame, p);
    case NET_PROTO_UDP:
        return filter_udp(frame, p);
    case NET_PROTO_ICMP:
        return p->ethertype == NET_ETHERTYPE_IP4 && p->end - p->l4 >= 8;
    case NET_PROTO_ICMP6:
        return p->ethertype == NET_ETHERTYPE_IP6 && p->end - p->l4 >= 8;
    default:
        return false;
    }
}

static bool filter_frame(struct net_filter *f, uint8_t *frame, size_t *len,
                         const struct net_offload *off)
{
    struct net_packet p;

    if (!net_packet_parse(frame, *len, &p)) {
        return false;
    }
    if (p.ethertype == NET_ETHERTYPE_ARP) {
        return filter_arp(frame, *len);
    }
    if (p.l3 == 0 || (off->gso != NET_GSO_NONE && (p.proto != NET_PROTO_TCP || p.fragment))) {
        return false;
    }
    *len = p.end;
    if (!filter_ip(f, frame, &p)) {
        return false;
    }
    if (off->needs_csum || off->gso != NET_GSO_NONE) {
        /* slirp takes a large segment whole: it ends the connection, so nobody counts
         * segments. */
        net_packet_set_ip_csum(frame, &p);
        return net_packet_set_l4_csum(frame, &p);
    }
    return true;
}

bool net_filter_input(struct net_filter *f, uint8_t *frame, size_t *len,
                      const struct net_offload *off)
{
    if (filter_frame(f, frame, len, off)) {
        return true;
    }
    f->dropped++;
    return false;
}
