/* SPDX-License-Identifier: MIT */
/*
 * Ethernet frames: finding headers (RFC 791, 8200, 9293, 768), checksums (RFC 1071) and cutting
 * large TCP frames. Extension headers of IPv6 are not walked: `proto` then names the first of
 * them.
 */
#include "core/net_packet.h"

#include <string.h>

enum {
    IP4_MIN_HEADER = 20,
    IP4_SOURCE = 12, /* and the destination after it */
    IP6_HEADER = 40,
    IP6_SOURCE = 8,
    TCP_MIN_HEADER = 20,
    UDP_HEADER = 8,
    TCP_FIN = 0x01,
    TCP_PSH = 0x08,
    TCP_CWR = 0x80,
};

static bool packet_parse_ip4(const uint8_t *frame, size_t len, struct net_packet *p)
{
    const uint8_t *ip = frame + NET_ETH_HEADER;
    unsigned header, total, frag;

    if (len < NET_ETH_HEADER + IP4_MIN_HEADER || ip[0] >> 4 != 4) {
        return false;
    }
    header = (ip[0] & 15u) * 4;
    total = net_get16(ip + 2);
    if (header < IP4_MIN_HEADER || total < header || total > len - NET_ETH_HEADER) {
        return false;
    }
    frag = net_get16(ip + 6);
    p->proto = ip[9];
    p->l4 = p->l3 + header;
    p->end = p->l3 + total;
    p->more_fragments = (frag & 0x2000) != 0;
    p->fragment_offset = (frag & 0x1fff) * 8;
    p->fragment = p->more_fragments || p->fragment_offset != 0;
    return true;
}

static bool packet_parse_ip6(const uint8_t *frame, size_t len, struct net_packet *p)
{
    const uint8_t *ip = frame + NET_ETH_HEADER;
    unsigned payload;

    if (len < NET_ETH_HEADER + IP6_HEADER || ip[0] >> 4 != 6) {
        return false;
    }
    payload = net_get16(ip + 4);
    if (payload > len - NET_ETH_HEADER - IP6_HEADER) {
        return false;
    }
    p->proto = ip[6];
    p->l4 = p->l3 + IP6_HEADER;
    p->end = p->l4 + payload;
    return true;
}

bool net_packet_parse(const uint8_t *frame, size_t len, struct net_packet *p)
{
    unsigned room, header;

    memset(p, 0, sizeof(*p));
    if (len < NET_ETH_HEADER || len > NET_ETH_HEADER + 65535 + 64) {
        return false;
    }
    p->ethertype = net_get16(frame + 12);
    p->end = (unsigned)len;
    if (p->ethertype != NET_ETHERTYPE_IP4 && p->ethertype != NET_ETHERTYPE_IP6) {
        return true;
    }
    p->l3 = NET_ETH_HEADER;
    if (p->ethertype == NET_ETHERTYPE_IP4 ? !packet_parse_ip4(frame, len, p)
                                          : !packet_parse_ip6(frame, len, p)) {
        return false;
    }
    if (p->fragment_offset != 0) {
        return true;
    }
    room = p->end - p->l4;
    if (p->proto == NET_PROTO_TCP) {
        header = room < TCP_MIN_HEADER ? 0 : (frame[p->l4 + 12] >> 4) * 4u;
        if (header < TCP_MIN_HEADER || header > room) {
            return false;
        }
        p->data = p->l4 + header;
    } else if (p->proto == NET_PROTO_UDP) {
        if (room < UDP_HEADER) {
            return false;
        }
        p->data = p->l4 + UDP_HEADER;
    }
    return true;
}

static uint32_t packet_mix(uint32_t hash, const uint8_t *data, unsigned words)
{
    for (unsigned i = 0; i < words; i++) {
        hash = (hash ^ net_get32(data + i * 4)) * UINT32_C(0x9e3779b1); /* 2^32 / golden ratio */
        hash ^= hash >> 15;
    }
    return hash;
}

uint32_t net_packet_flow(const uint8_t *frame, size_t len)
{
    struct net_packet p;
    uint32_t hash;

    if (!net_packet_parse(frame, len, &p) || p.l3 == 0) {
        return 0;
    }
    hash = p.ethertype == NET_ETHERTYPE_IP4
               ? packet_mix(p.proto, frame + p.l3 + IP4_SOURCE, 2)
               : packet_mix(p.proto, frame + p.l3 + IP6_SOURCE, 8);
    return p.data != 0 && !p.fragment ? packet_mix(hash, frame + p.l4, 1) : hash;
}

uint64_t net_csum_add(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t word;
    uint16_t half;

    /* Sums in host order; the swap of the result at the end is all that byte order needs. */
    for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        sum += word;
    }
    if (len >= sizeof(half)) {
        memcpy(&half, p, sizeof(half));
        sum += half;
        p += sizeof(half);
        len -= sizeof(half);
    }
    if (len > 0) {
        sum += *p;
    }
    return sum;
}

uint16_t net_csum_fold(uint64_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return __builtin_bswap16((uint16_t)~sum);
}

void net_packet_set_ip_csum(uint8_t *frame, const struct net_packet *p)
{
    uint8_t *ip = frame + p->l3;

    if (p->ethertype == NET_ETHERTYPE_IP4) {
        net_put16(ip + 10, 0);
        net_put16(ip + 10, net_csum_fold(net_csum_add(0, ip, p->l4 - p->l3)));
    }
}

bool net_packet_set_l4_csum(uint8_t *frame, const struct net_packet *p)
{
    uint8_t pseudo[8];
    unsigned where;
    uint16_t csum;
    uint64_t sum;

    if (p->l3 == 0 || p->fragment) {
        return false;
    }
    switch (p->proto) {
    case NET_PROTO_TCP:
        where = 16;
        break;
    case NET_PROTO_UDP:
        where = 6;
        break;
    case NET_PROTO_ICMP6:
        where = 2;
        break;
    default:
        return false;
    }
    if (p->end - p->l4 < where + 2) {
        return false;
    }
    net_put32(pseudo, p->end - p->l4);
    net_put32(pseudo + 4, p->proto);
    sum = net_csum_add(0, pseudo, sizeof(pseudo));
    sum = p->ethertype == NET_ETHERTYPE_IP4 ? net_csum_add(sum, frame + p->l3 + 12, 8)
                                            : net_csum_add(sum, frame + p->l3 + 8, 32);
    net_put16(frame + p->l4 + where, 0);
    csum = net_csum_fold(net_csum_add(sum, frame + p->l4, p->end - p->l4));
    /* For UDP zero means "no checksum" (RFC 768). */
    net_put16(frame + p->l4 + where, csum == 0 && p->proto == NET_PROTO_UDP ? 0xffff : csum);
    return true;
}

size_t net_packet_segment(const uint8_t *frame, const struct net_packet *p, uint16_t gso_size,
                          unsigned index, uint8_t *out)
{
    struct net_packet seg = *p;
    uint64_t from = (uint64_t)index * gso_size;
    unsigned total, len;
    uint8_t *ip = out + p->l3, *tcp = out + p->l4;

    if (p->l3 == 0 || p->proto != NET_PROTO_TCP || p->data == 0 || p->fragment ||
        gso_size == 0) {
        return 0;
    }
    total = p->end - p->data;
    if (from >= total && index > 0) {
        return 0;
    }
    len = total - (unsigned)from < gso_size ? total - (unsigned)from : gso_size;
    memcpy(out, frame, p->data);
    memcpy(out + p->data, frame + p->data + from, len);
    seg.end = p->data + len;
    if (p->ethertype == NET_ETHERTYPE_IP4) {
        net_put16(ip + 2, (uint16_t)(seg.end - seg.l3));
        net_put16(ip + 4, (uint16_t)(net_get16(ip + 4) + index));
        net_packet_set_ip_csum(out, &seg);
    } else {
        net_put16(ip + 4, (uint16_t)(seg.end - seg.l4));
    }
    net_put32(tcp + 4, net_get32(tcp + 4) + (uint32_t)from);
    if (from + len < total) {
        tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    }
    if (index > 0) {
        tcp[13] &= (uint8_t)~TCP_CWR;
    }
    net_packet_set_l4_csum(out, &seg);
    return seg.end;
}
