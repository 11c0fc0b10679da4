/* SPDX-License-Identifier: MIT */
/* What passes the gate to libslirp, what does not, and what is changed on the way. */
#include <glib.h>
#include <string.h>

#include "core/net_packet.h"
#include "io/net_filter.h"

enum { ETH = NET_ETH_HEADER, IP = 20, TCP = 20, UDP = 8, ROOM = 70000 };

static uint8_t frame[ROOM];
static const struct net_offload plain;

static size_t make_ip4(uint8_t proto, unsigned payload, uint32_t to)
{
    uint8_t *ip = frame + ETH;
    struct net_packet p;

    memset(frame, 0, sizeof(frame));
    net_put16(frame + 12, NET_ETHERTYPE_IP4);
    ip[0] = 0x45;
    net_put16(ip + 2, (uint16_t)(IP + payload));
    ip[8] = 64;
    ip[9] = proto;
    net_put32(ip + 12, 0x0a00020f);
    net_put32(ip + 16, to);
    if (proto == NET_PROTO_TCP && payload >= TCP) {
        ip[IP + 12] = TCP / 4 << 4;
    } else if (proto == NET_PROTO_UDP && payload >= UDP) {
        net_put16(ip + IP + 4, (uint16_t)payload);
    }
    for (unsigned i = UDP; i + TCP < payload; i++) {
        ip[IP + TCP + i] = (uint8_t)(i * 31);
    }
    if (net_packet_parse(frame, ETH + IP + payload, &p)) {
        net_packet_set_ip_csum(frame, &p);
        net_packet_set_l4_csum(frame, &p);
    }
    return ETH + IP + payload;
}

static bool passes(size_t len)
{
    struct net_filter f = {0};

    return net_filter_input(&f, frame, &len, &plain);
}

/* The checksum in the frame is right: summing over it all gives zero. */
static void assert_l4_csum(size_t len)
{
    g_autofree uint8_t *copy = g_memdup2(frame, len);
    struct net_packet p;

    g_assert_true(net_packet_parse(copy, len, &p));
    g_assert_true(net_packet_set_l4_csum(copy, &p));
    g_assert_cmpmem(copy, len, frame, len);
}

static void test_csum_known(void)
{
    /* The example of RFC 1071, section 3: the sum is ddf2. */
    static const uint8_t words[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

    g_assert_cmphex(net_csum_fold(net_csum_add(0, words, sizeof(words))), ==, 0x220d);
}

static void test_urgent(void)
{
    struct net_filter f = {0};

    for (unsigned urgent = 0; urgent < 65536; urgent += 257) {
        size_t len = make_ip4(NET_PROTO_TCP, TCP + 11, 0x0a000202);
        struct net_packet p;

        frame[ETH + IP + 13] = 0x20 | 0x10;
        net_put16(frame + ETH + IP + 18, (uint16_t)urgent);
        net_packet_parse(frame, len, &p);
        net_packet_set_l4_csum(frame, &p);
        g_assert_true(net_filter_input(&f, frame, &len, &plain));
        g_assert_cmphex(frame[ETH + IP + 13], ==, 0x10);
        g_assert_cmphex(net_get16(frame + ETH + IP + 18), ==, 0);
        assert_l4_csum(len);
    }
    g_assert_cmpuint(f.urgent, ==, 256);
}

static void test_wrong_csum_stays_wrong(void)
{
    size_t len = make_ip4(NET_PROTO_TCP, TCP + 4, 0x0a000202);
    struct net_filter f = {0};
    g_autofree uint8_t *copy = NULL;
    struct net_packet p;

    frame[ETH + IP + 13] = 0x20;
    net_put16(frame + ETH + IP + 16, 0x1234);
    g_assert_true(net_filter_input(&f, frame, &len, &plain));
    copy = g_memdup2(frame, len);
    net_packet_parse(copy, len, &p);
    net_packet_set_l4_csum(copy, &p);
    g_assert_cmpint(memcmp(copy, frame, len), !=, 0);
}

static void test_blank_csum(void)
{
    const struct net_offload blank = {.needs_csum = true};
    const struct net_offload gso = {.gso = NET_GSO_TCP4, .gso_size = 1460};
    struct net_filter f = {0};
    size_t len = make_ip4(NET_PROTO_TCP, TCP + 1001, 0x0a000202);

    net_put16(frame + ETH + IP + 16, 0x5555);
    g_assert_true(net_filter_input(&f, frame, &len, &blank));
    assert_l4_csum(len);

    len = make_ip4(NET_PROTO_TCP, 65535 - IP, 0x0a000202);
    net_put16(frame + ETH + IP + 16, 0x5555);
    g_assert_true(net_filter_input(&f, frame, &len, &gso));
    assert_l4_csum(len);

    len = make_ip4(NET_PROTO_UDP, UDP + 3, 0x0a000203);
    g_assert_true(net_filter_input(&f, frame, &len, &blank));
    assert_l4_csum(len);
    len = make_ip4(NET_PROTO_UDP, UDP + 3, 0x0a000203);
    g_assert_false(net_filter_input(&f, frame, &len, &gso)); /* not TCP */
}

static void test_malformed(void)
{
    size_t len = make_ip4(NET_PROTO_TCP, TCP + 8, 0x0a000202);

    g_assert_true(passes(len));
    for (size_t n = 0; n < len; n++) {
        g_assert_false(passes(n)); /* cut anywhere */
    }
    frame[ETH] = 0x44;
    g_assert_false(passes(len));
    frame[ETH] = 0x46; /* IP options */
    g_assert_false(passes(len));
    frame[ETH] = 0x65;
    g_assert_false(passes(len));
    frame[ETH] = 0x45;
    frame[ETH + IP + 12] = 0x40; /* header shorter than a header */
    g_assert_false(passes(len));
    frame[ETH + IP + 12] = 0xf0; /* and longer than the packet */
    g_assert_false(passes(len));
    frame[ETH + IP + 12] = 0x70;
    memcpy(frame + ETH + IP + TCP, "\x02\x09\x00\x00\x01\x01\x01\x00", 8); /* option too long */
    g_assert_false(passes(len));
    memcpy(frame + ETH + IP + TCP, "\x02\x00\x00\x00\x01\x01\x01\x00", 8); /* no length */
    g_assert_false(passes(len));
    memcpy(frame + ETH + IP + TCP, "\x02\x04\x05\xb4\x01\x01\x01\x00", 8);
    g_assert_true(passes(len));

    len = make_ip4(NET_PROTO_UDP, UDP + 4, 0x0a000203);
    g_assert_true(passes(len));
    net_put16(frame + ETH + IP + 4, UDP + 5);
    g_assert_false(passes(len));
    net_put16(frame + ETH + IP + 4, UDP - 1);
    g_assert_false(passes(len));
    g_assert_false(passes(make_ip4(50, 100, 0x0a000202))); /* ESP */
    net_put16(frame + 12, 0x8100);                         /* VLAN */
    g_assert_false(passes(120));
}

static void test_padding_is_cut(void)
{
    struct net_filter f = {0};
    size_t len = make_ip4(NET_PROTO_UDP, UDP + 1, 0x0a000203) + 17;

    g_assert_true(net_filter_input(&f, frame, &len, &plain));
    g_assert_cmpuint(len, ==, ETH + IP + UDP + 1);
}

static void test_tftp(void)
{
    size_t len = make_ip4(NET_PROTO_UDP, UDP + 20, 0x0a000202);

    net_put16(frame + ETH + IP + 2, 69);
    g_assert_false(passes(len));
    net_put32(frame + ETH + 16, UINT32_MAX);
    g_assert_false(passes(len));
    net_put32(frame + ETH + 16, 0x08080808); /* somebody else's server */
    g_assert_true(passes(len));
}

static void test_arp(void)
{
    memset(frame, 0, 60);
    net_put16(frame + 12, NET_ETHERTYPE_ARP);
    memcpy(frame + ETH, "\x00\x01\x08\x00\x06\x04\x00\x01", 8);
    g_assert_true(passes(60));
    g_assert_true(passes(42));
    g_assert_false(passes(41));
    frame[ETH + 4] = 7;
    g_assert_false(passes(60));
}

static void test_ip6(void)
{
    memset(frame, 0, 200);
    net_put16(frame + 12, NET_ETHERTYPE_IP6);
    frame[ETH] = 0x60;
    net_put16(frame + ETH + 4, 32);
    frame[ETH + 6] = NET_PROTO_ICMP6;
    g_assert_true(passes(ETH + 40 + 32));
    g_assert_false(passes(ETH + 40 + 31));
    frame[ETH + 6] = 0; /* hop-by-hop */
    g_assert_false(passes(ETH + 40 + 32));
    frame[ETH + 6] = 44; /* fragment */
    g_assert_false(passes(ETH + 40 + 32));
    frame[ETH + 6] = NET_PROTO_ICMP; /* of the other family */
    g_assert_false(passes(ETH + 40 + 32));
}

static bool fragment(struct net_filter *f, uint8_t proto, unsigned offset, unsigned len,
                     bool more)
{
    size_t size = make_ip4(proto, len, 0x0a000202);

    net_put16(frame + ETH + 6, (uint16_t)(offset / 8 | (more ? 0x2000 : 0)));
    net_put16(frame + ETH + IP + 4, 4000); /* a UDP length of the whole */
    return net_filter_input(f, frame, &size, &plain);
}

static void test_fragments(void)
{
    struct net_filter f = {0};

    g_assert_true(fragment(&f, NET_PROTO_UDP, 0, 1480, true));
    g_assert_true(fragment(&f, NET_PROTO_UDP, 1480, 1480, true));
    g_assert_false(fragment(&f, NET_PROTO_UDP, 1480, 1480, true)); /* twice */
    g_assert_false(fragment(&f, NET_PROTO_UDP, 1472, 1480, true)); /* overlap */
    g_assert_false(fragment(&f, NET_PROTO_UDP, 4000, 8, true));    /* gap */
    g_assert_false(fragment(&f, NET_PROTO_UDP, 0, 1480, true));    /* starts over */
    g_assert_false(fragment(&f, NET_PROTO_UDP, 2960, 1001, true)); /* not a multiple of 8 */
    g_assert_true(fragment(&f, NET_PROTO_UDP, 2960, 1001, false));
    g_assert_false(fragment(&f, NET_PROTO_UDP, 3968, 8, false)); /* after the end */
    g_assert_true(fragment(&f, NET_PROTO_UDP, 0, 1480, true));   /* a new packet of this id */

    g_assert_false(fragment(&f, NET_PROTO_TCP, 0, 1480, true));
    g_assert_false(fragment(&f, NET_PROTO_TCP, 1480, 8, false));
    g_assert_false(fragment(&f, NET_PROTO_ICMP, 8, 1480, true));      /* no start */
    g_assert_false(fragment(&f, NET_PROTO_ICMP, 65528, 1480, false)); /* past the end of IP */
    for (unsigned i = 0; i < 1000; i++) {
        g_assert_true(fragment(&f, NET_PROTO_ICMP, 0, 16, true));
        g_assert_true(fragment(&f, NET_PROTO_ICMP, 16, 16, false));
    }
}

static void test_segment(void)
{
    static uint8_t big[ROOM], out[ROOM];
    size_t len = make_ip4(NET_PROTO_TCP, TCP + 3001, 0x0a000202), n;
    struct net_packet p;
    unsigned total = 0, i;

    frame[ETH + IP + 13] = 0x80 | 0x10 | 0x08 | 0x01; /* CWR ACK PSH FIN */
    net_put32(frame + ETH + IP + 4, 0xfffffff0);
    g_assert_true(net_packet_parse(frame, len, &p));
    memcpy(big, frame, len);
    for (i = 0; (n = net_packet_segment(big, &p, 1460, i, out)) != 0; i++) {
        memcpy(frame, out, n);
        assert_l4_csum(n);
        g_assert_cmpuint(n, <=, ETH + IP + TCP + 1460);
        g_assert_cmphex(net_get32(out + ETH + IP + 4), ==, 0xfffffff0 + total);
        g_assert_cmphex(out[ETH + IP + 13], ==, i == 0 ? 0x90 : i == 1 ? 0x10 : 0x19);
        g_assert_cmpmem(out + ETH + IP + TCP, n - ETH - IP - TCP, big + ETH + IP + TCP + total,
                        n - ETH - IP - TCP);
        total += (unsigned)n - ETH - IP - TCP;
    }
    g_assert_cmpuint(i, ==, 3);
    g_assert_cmpuint(total, ==, 3001);
    g_assert_cmpuint(net_packet_segment(big, &p, 0, 0, out), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/io/net-filter/csum-of-rfc1071", test_csum_known);
    g_test_add_func("/io/net-filter/urgent-is-cleared", test_urgent);
    g_test_add_func("/io/net-filter/wrong-csum-stays-wrong", test_wrong_csum_stays_wrong);
    g_test_add_func("/io/net-filter/blank-csum", test_blank_csum);
    g_test_add_func("/io/net-filter/malformed", test_malformed);
    g_test_add_func("/io/net-filter/padding", test_padding_is_cut);
    g_test_add_func("/io/net-filter/tftp", test_tftp);
    g_test_add_func("/io/net-filter/arp", test_arp);
    g_test_add_func("/io/net-filter/ip6", test_ip6);
    g_test_add_func("/io/net-filter/fragments", test_fragments);
    g_test_add_func("/io/net-filter/segment", test_segment);
    return g_test_run();
}
