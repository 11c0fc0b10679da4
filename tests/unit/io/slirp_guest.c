/* SPDX-License-Identifier: MIT */
/*
 * Guest side of the slirp tests, written by hand from RFC 826, 2131 and 9293, and no cleverer
 * than they need. It confirms everything it gets and never sends anything twice.
 */
#include "slirp_guest.h"

#include <string.h>

enum {
    ETH = NET_ETH_HEADER, IP = 20, TCP = 20, UDP = 8, BOOTP = 300,
    FIN = 1, SYN = 2, PSH = 8, ACK = 16, MSS = 1460,
};

static void guest_ethernet(struct guest *g, uint8_t *f, uint16_t type)
{
    static const uint8_t gateway[6] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};

    memcpy(f, gateway, 6);
    memcpy(f + 6, g->net->mac, 6);
    net_put16(f + 12, type);
}

static void guest_ip(uint8_t *f, uint8_t proto, unsigned payload, uint32_t from, uint32_t to)
{
    uint8_t *ip = f + ETH;

    memset(ip, 0, IP);
    ip[0] = 0x45;
    net_put16(ip + 2, (uint16_t)(IP + payload));
    net_put16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = proto;
    net_put32(ip + 12, from);
    net_put32(ip + 16, to);
}

static void guest_out(struct guest *g, uint8_t *f, size_t len, struct net_offload off)
{
    struct net_packet p;

    g_assert_true(net_packet_parse(f, len, &p));
    if (p.l3 != 0) {
        net_packet_set_ip_csum(f, &p);
        if (!off.needs_csum) {
            net_packet_set_l4_csum(f, &p);
        }
    }
    g->net->ops->send(g->net, f, len, &off);
}

static void guest_tcp(struct guest *g, uint8_t flags, const uint8_t *data, size_t len)
{
    g_autofree uint8_t *f = g_malloc0(ETH + IP + TCP + len);
    uint8_t *tcp = f + ETH + IP;
    struct net_offload off = {.needs_csum = len > 0};

    guest_ethernet(g, f, NET_ETHERTYPE_IP4);
    guest_ip(f, NET_PROTO_TCP, (unsigned)(TCP + len), GUEST_IP, g->peer);
    net_put16(tcp, g->port);
    net_put16(tcp + 2, g->peer_port);
    net_put32(tcp + 4, g->seq);
    net_put32(tcp + 8, flags & ACK ? g->ack : 0);
    tcp[12] = TCP / 4 << 4;
    tcp[13] = flags;
    net_put16(tcp + 14, 0xffff);
    memcpy(tcp + TCP, data, len);
    if (len > MSS) {
        off.gso = NET_GSO_TCP4;
        off.gso_size = MSS;
    }
    g->seq += (uint32_t)len + ((flags & (SYN | FIN)) != 0);
    guest_out(g, f, ETH + IP + TCP + len, off);
}

static void guest_dhcp_send(struct guest *g, uint8_t kind)
{
    uint8_t f[ETH + IP + UDP + BOOTP] = {0};
    uint8_t *udp = f + ETH + IP, *dhcp = udp + UDP;
    static const uint8_t request[] = {99, 130, 83, 99, 53, 1, 0, 50, 4, 10, 0, 2, 15, 255};

    guest_ethernet(g, f, NET_ETHERTYPE_IP4);
    memset(f, 0xff, 6);
    guest_ip(f, NET_PROTO_UDP, UDP + BOOTP, 0, UINT32_MAX);
    net_put16(udp, 68);
    net_put16(udp + 2, 67);
    net_put16(udp + 4, UDP + BOOTP);
    dhcp[0] = 1;
    dhcp[1] = 1;
    dhcp[2] = 6;
    net_put32(dhcp + 4, 0x12345678);
    memcpy(dhcp + 28, g->net->mac, 6);
    memcpy(dhcp + 236, request, sizeof(request));
    dhcp[242] = kind;
    guest_out(g, f, sizeof(f), (struct net_offload){0});
}

static void guest_in_arp(struct guest *g, const uint8_t *f)
{
    uint8_t r[ETH + 28];

    if (net_get16(f + ETH + 6) != 1 || net_get32(f + ETH + 24) != GUEST_IP) {
        return;
    }
    memcpy(r, f, sizeof(r));
    memcpy(r, f + 6, 6);
    memcpy(r + 6, g->net->mac, 6);
    net_put16(r + ETH + 6, 2);
    memcpy(r + ETH + 8, g->net->mac, 6);
    net_put32(r + ETH + 14, GUEST_IP);
    memcpy(r + ETH + 18, f + ETH + 8, 10);
    guest_out(g, r, sizeof(r), (struct net_offload){0});
}

static void guest_in_dhcp(struct guest *g, const uint8_t *dhcp, size_t len)
{
    g_assert_cmpuint(len, >=, 243);
    g_assert_cmpuint(net_get32(dhcp + 4), ==, 0x12345678);
    g_assert_cmpuint(dhcp[240], ==, 53); /* the kind comes first */
    if (dhcp[242] == 2) {
        g->offered = net_get32(dhcp + 16);
    } else if (dhcp[242] == 5) {
        g->leased = net_get32(dhcp + 16);
    }
}

static void guest_in_tcp(struct guest *g, const uint8_t *f, const struct net_packet *p)
{
    const uint8_t *tcp = f + p->l4;
    uint8_t flags = tcp[13];
    uint32_t seq = net_get32(tcp + 4);

    if (net_get16(tcp + 2) != g->port) {
        return;
    }
    if ((flags & SYN) && g->accept) {
        g->peer = net_get32(f + p->l3 + 12);
        g->peer_port = net_get16(tcp);
        g->ack = seq + 1;
        guest_tcp(g, SYN | ACK, NULL, 0);
        g->established = true;
        return;
    }
    if (flags & SYN) {
        g->ack = seq + 1;
        g->established = true;
        guest_tcp(g, ACK, NULL, 0);
        return;
    }
    g->acked = net_get32(tcp + 8);
    if (seq == g->ack && p->end > p->data) {
        g_byte_array_append(g->received, f + p->data, p->end - p->data);
        g->ack += p->end - p->data;
        guest_tcp(g, ACK, NULL, 0);
    }
}

static bool guest_rx(void *opaque, const uint8_t *frame, size_t len,
                     const struct net_offload *off)
{
    struct guest *g = opaque;
    struct net_packet p;

    if (g->refuse) {
        g->refused++;
        return false;
    }
    g_assert_true(net_packet_parse(frame, len, &p));
    g_assert_cmpuint(len, <=, NET_ETH_HEADER + g->net->mtu);
    g_assert_false(off->needs_csum);
    if (p.ethertype == NET_ETHERTYPE_ARP) {
        guest_in_arp(g, frame);
    } else if (p.ethertype == NET_ETHERTYPE_IP4 && p.proto == NET_PROTO_TCP) {
        guest_in_tcp(g, frame, &p);
    } else if (p.ethertype == NET_ETHERTYPE_IP4 && p.proto == NET_PROTO_UDP &&
               net_get16(frame + p.l4 + 2) == 68) {
        guest_in_dhcp(g, frame + p.data, p.end - p.data);
    } else if (p.ethertype == NET_ETHERTYPE_IP4 && p.proto == NET_PROTO_UDP &&
               net_get16(frame + p.l4 + 2) == g->udp_port) {
        g_byte_array_append(g->received, frame + p.data, p.end - p.data);
    }
    return true;
}

static void guest_link(void *opaque, bool up)
{
    struct guest *g = opaque;

    g->link_up = up;
    g->downs += !up;
}

void guest_init(struct guest *g, struct net *net, GMainContext *context)
{
    memset(g, 0, sizeof(*g));
    g->net = net;
    g->context = context;
    g->link_up = true;
    g->received = g_byte_array_new();
    net->ops->set_rx(net, guest_rx, guest_link, g);
}

void guest_fini(struct guest *g)
{
    g->net->ops->set_rx(g->net, NULL, NULL, NULL);
    g_byte_array_unref(g->received);
}

static gboolean guest_timeout(gpointer data)
{
    ((struct guest *)data)->timed_out = true;
    return G_SOURCE_REMOVE;
}

void guest_wait(struct guest *g, bool (*cond)(struct guest *g))
{
    GSource *timeout = g_timeout_source_new(GUEST_TIMEOUT_MS);

    g_source_set_callback(timeout, guest_timeout, g, NULL);
    g_source_attach(timeout, g->context);
    while (!cond(g) && !g->timed_out) {
        g_main_context_iteration(g->context, TRUE);
    }
    g_source_destroy(timeout);
    g_source_unref(timeout);
    g_assert_false(g->timed_out);
}

static bool guest_has_offer(struct guest *g)
{
    return g->offered != 0;
}

static bool guest_has_lease(struct guest *g)
{
    return g->leased != 0;
}

static bool guest_is_established(struct guest *g)
{
    return g->established;
}

void guest_dhcp(struct guest *g)
{
    g->offered = g->leased = 0;
    guest_dhcp_send(g, 1);
    guest_wait(g, guest_has_offer);
    guest_dhcp_send(g, 3);
    guest_wait(g, guest_has_lease);
}

void guest_connect(struct guest *g, uint32_t ip, uint16_t port)
{
    g->established = false;
    g->port = 40000;
    g->peer = ip;
    g->peer_port = port;
    g->seq = 1000;
    guest_tcp(g, SYN, NULL, 0);
    guest_wait(g, guest_is_established);
}

void guest_send(struct guest *g, const uint8_t *data, size_t len)
{
    guest_tcp(g, ACK | PSH, data, len);
}
