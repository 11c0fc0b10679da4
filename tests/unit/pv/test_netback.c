/* SPDX-License-Identifier: MIT */
/*
 * The vif back end against a front end played by hand: connecting, every shape of packet a
 * guest may send (t_net_frags), reception with and without offloads, and front ends that
 * misbehave.
 */
#include <string.h>

#include "core/net_packet.h"
#include "vif_front.h"

enum { ETH = NET_ETH_HEADER, IP = 20, TCP = 20, HEADERS = ETH + IP + TCP };

/* ---- connecting ---- */

static void assert_back(struct vif_front *f, const char *key, const char *value)
{
    g_autofree char *path = g_strdup_printf("/local/domain/0/backend/vif/1/0/%s", key);
    g_autofree char *got = NULL;

    g_mutex_lock(&f->fb->board.lock);
    got = xs_read(f->d->xenstore, path);
    g_mutex_unlock(&f->fb->board.lock);
    g_assert_cmpstr(got, ==, value);
}

static void test_publish(void)
{
    struct vif_front f;
    g_autofree char *mac = NULL;

    vif_front_init(&f);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateInitWait);
    assert_back(&f, "feature-rx-copy", "1");
    assert_back(&f, "feature-sg", "1");
    assert_back(&f, "feature-gso-tcpv4", "1");
    assert_back(&f, "feature-split-event-channels", "1");
    assert_back(&f, "multi-queue-max-queues", "4");
    assert_back(&f, "mac", "52:54:00:12:34:56");
    mac = xenbus_front_read(&f.nb->dev, "mac");
    g_assert_cmpstr(mac, ==, "52:54:00:12:34:56");
    vif_front_fini(&f);
}

static void test_connect(void)
{
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
    assert_back(&f, "hotplug-status", "connected");
    g_assert_true(f.nb->queue[0].split);
    vif_set_state(&f, XenbusStateClosing);
    vif_set_state(&f, XenbusStateClosed);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosed);
    g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
    vif_front_fini(&f);

    vif_front_init(&f);
    vif_connect(&f, false, true, true, false);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
    g_assert_false(f.nb->queue[0].split);
    vif_front_fini(&f);
}

static void test_connect_refused(void)
{
    static const struct { const char *key, *value; } bad[] = {
        {"tx-ring-ref", "x"}, {"tx-ring-ref", "20"}, {"tx-ring-ref", "99999999"},
        {"rx-ring-ref", "-1"}, {"rx-ring-ref", "288"}, {"request-rx-copy", "0"},
        {"event-channel-tx", "0"}, {"event-channel-rx", "4095"}, {"event-channel-rx", "70000"},
        {"event-channel", "77"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct vif_front f;

        vif_front_init(&f);
        vif_connect(&f, true, true, true, false);
        vif_set_state(&f, XenbusStateClosed);
        vif_set_state(&f, XenbusStateInitialising);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateInitWait);
        vif_write(&f, bad[i].key, "%s", bad[i].value);
        vif_set_state(&f, XenbusStateConnected);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
        g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
        vif_front_fini(&f);
    }
}

static void test_reconnect_storm(void)
{
    const struct net_offload none = {0};
    uint8_t frame[64] = {0};
    struct vif_front f;

    vif_front_init(&f);
    for (unsigned i = 0; i < 1000; i++) {
        struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60, .id = (uint16_t)i};

        vif_connect(&f, true, true, true, false);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
        for (unsigned n = 0; n < i % 5; n++) {
            vif_tx_put(&f, &req, sizeof(req));
            vif_rx_put(&f, (uint16_t)n, VIF_DATA_PAGE + n);
        }
        vif_tx_kick(&f);
        if (i % 2) {
            vif_rx_kick(&f);
        }
        vif_deliver(&f, frame, sizeof(frame), none); /* sometimes held over the end */
        vif_set_state(&f, i % 3 ? XenbusStateClosing : XenbusStateClosed);
        g_assert_null(f.net.held);
        g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
    }
    g_assert_cmpuint(f.net.sent, ==, 2000);
    vif_front_fini(&f);
}

/* ---- guest to network ---- */

#define FIRST(size_, flags_) {.kind = SLOT_DATA, .size = size_, .flags = flags_}
#define PIECE(size_, flags_) {.kind = SLOT_DATA, .size = size_, .flags = flags_}
#define AT(offset_, size_, flags_)                                                             \
    {.kind = SLOT_DATA, .offset = offset_, .size = size_, .flags = flags_}
#define BAD_GRANT(size_, flags_) {.kind = SLOT_BAD, .size = size_, .flags = flags_}
#define EXTRA(type_, flags_) {.kind = SLOT_EXTRA, .type = type_, .flags = flags_}
#define GSO(gso_type_, size_, flags_)                                                          \
    {.kind = SLOT_EXTRA, .type = XEN_NETIF_EXTRA_TYPE_GSO, .gso_type = gso_type_,              \
     .size = size_, .flags = flags_}

enum { MORE = NETTXF_more_data, WITH = NETTXF_extra_info, BLANK = NETTXF_csum_blank };
enum { GSO4 = XEN_NETIF_GSO_TYPE_TCPV4, GSO6 = XEN_NETIF_GSO_TYPE_TCPV6 };
enum expect { SENT = 1, ERROR, BROKEN };

struct frag_case {
    const char *name;
    enum expect expect;
    size_t len;          /* SENT: of the frame */
    unsigned data_slots; /* repeat the last slot until there are so many; no MORE at the end */
    struct {
        enum { SLOT_END, SLOT_DATA, SLOT_BAD, SLOT_EXTRA } kind;
        uint16_t offset, size, flags;
        uint8_t type, gso_type;
    } slot[8];
};

static const struct frag_case frag_cases[] = {
    {"one", SENT, 60, 0, {FIRST(60, 0)}},
    {"smallest", SENT, 14, 0, {FIRST(14, 0)}},
    {"too small", ERROR, 0, 0, {FIRST(13, 0)}},
    {"empty", ERROR, 0, 0, {FIRST(0, 0)}},
    {"whole page", SENT, 4096, 0, {FIRST(4096, 0)}},
    {"end of page", SENT, 96, 0, {AT(4000, 96, 0)}},
    {"past the page", BROKEN, 0, 0, {AT(4000, 97, 0)}},
    {"offset past the page", BROKEN, 0, 0, {AT(4097, 60, 0)}},
    {"offset wraps", BROKEN, 0, 0, {AT(65535, 60, 0)}},
    {"size over a page", BROKEN, 0, 0, {FIRST(4097, 0)}},
    {"largest size", BROKEN, 0, 0, {FIRST(65535, 0)}},
    {"bad grant", ERROR, 0, 0, {BAD_GRANT(60, 0)}},
    {"two", SENT, 200, 0, {FIRST(200, MORE), PIECE(100, 0)}},
    {"three", SENT, 9000, 0, {FIRST(9000, MORE), PIECE(4096, MORE), PIECE(4000, 0)}},
    {"empty piece", SENT, 200, 0, {FIRST(200, MORE), PIECE(0, MORE), PIECE(100, 0)}},
    {"empty piece, bad grant", SENT, 200, 0,
     {FIRST(200, MORE), BAD_GRANT(0, MORE), PIECE(50, 0)}},
    {"all in pieces", SENT, 200, 0, {FIRST(200, MORE), PIECE(200, 0)}},
    {"pieces too large", ERROR, 0, 0, {FIRST(200, MORE), PIECE(201, 0)}},
    {"pieces add up too large", ERROR, 0, 0,
     {FIRST(200, MORE), PIECE(100, MORE), PIECE(101, 0)}},
    {"piece past the page", BROKEN, 0, 0, {FIRST(300, MORE), AT(4090, 7, 0)}},
    {"bad grant in piece", ERROR, 0, 0, {FIRST(200, MORE), BAD_GRANT(100, 0)}},
    {"piece missing", BROKEN, 0, 0, {FIRST(200, MORE)}},
    {"second piece missing", BROKEN, 0, 0, {FIRST(200, MORE), PIECE(10, MORE)}},
    {"18 slots", SENT, 60000, 18, {FIRST(60000, MORE), PIECE(3500, MORE)}},
    {"24 slots", SENT, 60000, 24, {FIRST(60000, MORE), PIECE(2500, MORE)}},
    {"25 slots", BROKEN, 0, 25, {FIRST(60000, MORE), PIECE(2400, MORE)}},
    {"200 empty slots", BROKEN, 0, 200, {FIRST(60, MORE), PIECE(0, MORE)}},
    {"largest packet", SENT, 65535, 17, {FIRST(65535, MORE), PIECE(3900, MORE)}},
    {"gso4", SENT, 5000, 0, {FIRST(5000, WITH | MORE), GSO(GSO4, 1448, 0), PIECE(4000, 0)}},
    {"gso4, small", SENT, 100, 0, {FIRST(100, WITH | BLANK), GSO(GSO4, 1448, 0)}},
    {"gso6 on IPv4", ERROR, 0, 0,
     {FIRST(5000, WITH | MORE), GSO(GSO6, 1448, 0), PIECE(4000, 0)}},
    {"gso of nothing", BROKEN, 0, 0, {FIRST(100, WITH), GSO(GSO4, 0, 0)}},
    {"gso type 0", BROKEN, 0, 0, {FIRST(100, WITH), GSO(0, 1448, 0)}},
    {"gso type 3", BROKEN, 0, 0, {FIRST(100, WITH), GSO(3, 1448, 0)}},
    {"extra missing", BROKEN, 0, 0, {FIRST(100, WITH)}},
    {"second extra missing", BROKEN, 0, 0, {FIRST(100, WITH), GSO(GSO4, 1448, 1)}},
    {"extra type 0", BROKEN, 0, 0, {FIRST(100, WITH), EXTRA(0, 0)}},
    {"extra type 5", BROKEN, 0, 0, {FIRST(100, WITH), EXTRA(5, 0)}},
    {"hash", SENT, 100, 0, {FIRST(100, WITH), EXTRA(XEN_NETIF_EXTRA_TYPE_HASH, 0)}},
    {"hash and gso", SENT, 100, 0,
     {FIRST(100, WITH), EXTRA(XEN_NETIF_EXTRA_TYPE_HASH, 1), GSO(GSO4, 1448, 0)}},
    {"multicast", ERROR, 0, 0, {FIRST(100, WITH), EXTRA(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0)}},
    {"extras without end", BROKEN, 0, 0,
     {FIRST(100, WITH), EXTRA(4, 1), EXTRA(4, 1), EXTRA(4, 1), EXTRA(4, 1), EXTRA(4, 1)}},
    {"extra and piece", SENT, 200, 0, {FIRST(200, WITH | MORE), EXTRA(4, 0), PIECE(100, 0)}},
    {"blank checksum", SENT, 100, 0, {FIRST(100, BLANK)}},
};

static uint8_t frag_byte(unsigned page, unsigned offset)
{
    return (uint8_t)(page * 61 + offset * 7 + offset / 256);
}

/* Puts the case's slots on the ring; returns how many. expected: the frame that must come
 * out. */
static unsigned frag_put(struct vif_front *f, const struct frag_case *c, GByteArray *expected)
{
    unsigned count = 0, data = 0, s = 0;
    uint16_t rest = c->slot[0].size;

    for (unsigned i = 1; i < G_N_ELEMENTS(c->slot); i++) {
        bool counts = c->slot[i].kind == SLOT_DATA || c->slot[i].kind == SLOT_BAD;

        rest -= counts ? c->slot[i].size : 0;
    }
    for (unsigned i = 2; i < c->data_slots; i++) {
        rest -= c->slot[1].size;
    }
    while (c->slot[s].kind != SLOT_END && (c->data_slots == 0 || count < c->data_slots)) {
        uint32_t page = VIF_DATA_PAGE + data;

        if (c->slot[s].kind == SLOT_EXTRA) {
            struct netif_extra_info extra = {.type = c->slot[s].type,
                                             .flags = (uint8_t)c->slot[s].flags};

            extra.u.gso.size = c->slot[s].size;
            extra.u.gso.type = c->slot[s].gso_type;
            vif_tx_put(f, &extra, sizeof(extra));
        } else {
            struct netif_tx_request req = {
                .gref = c->slot[s].kind == SLOT_BAD ? VIF_BAD_REF : page,
                .offset = c->slot[s].offset, .flags = c->slot[s].flags,
                .id = (uint16_t)(100 + count), .size = c->slot[s].size,
            };
            uint16_t size = data == 0 ? rest : req.size;

            for (unsigned i = 0; i < MEM_PAGE_SIZE; i++) {
                vif_page(f, page)[i] = frag_byte(page, i);
            }
            if (data == 0 && req.offset < 4000) {
                net_put16(vif_page(f, page) + req.offset + 12, NET_ETHERTYPE_IP4);
            }
            if (count + 1 == c->data_slots) {
                req.flags &= (uint16_t)~MORE;
            }
            vif_tx_put(f, &req, sizeof(req));
            if (c->expect == SENT) {
                g_byte_array_append(expected, vif_page(f, page) + req.offset, size);
            }
            data++;
        }
        count++;
        s += c->data_slots == 0 || s == 0;
    }
    return count;
}

static void frag_run(const struct frag_case *c)
{
    g_autoptr(GByteArray) expected = g_byte_array_new();
    struct vif_front f;
    unsigned count, extras = 0;

    g_test_message("%s", c->name);
    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    count = frag_put(&f, c, expected);
    vif_tx_kick(&f);
    if (c->expect == BROKEN) {
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
        g_assert_cmpuint(f.net.sent, ==, 0);
        g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
        vif_tx_kick(&f); /* nothing happens any more */
        vif_connect(&f, false, true, true, false);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
        vif_front_fini(&f);
        return;
    }
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
    g_assert_cmpuint(f.net.sent, ==, c->expect == SENT);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_TX_PAGE), ==, count);
    for (unsigned i = 0; i < count; i++) {
        struct netif_tx_response rsp = vif_tx_response(&f, i);

        if (i > 0 && i < G_N_ELEMENTS(c->slot) && c->slot[i].kind == SLOT_EXTRA) {
            g_assert_cmpint(rsp.status, ==, NETIF_RSP_NULL);
            extras++;
        } else {
            g_assert_cmpint(rsp.status, ==, c->expect == SENT ? NETIF_RSP_OKAY
                                                              : NETIF_RSP_ERROR);
            g_assert_cmpuint(rsp.id, ==, 100 + i);
        }
    }
    if (c->expect == SENT) {
        bool gso = c->slot[0].flags & WITH && c->slot[extras].gso_type != 0;

        g_assert_cmpuint(f.net.last_len, ==, c->len);
        g_assert_cmpmem(f.net.last, f.net.last_len, expected->data, expected->len);
        g_assert_cmpint(f.net.last_off.gso, ==, gso ? NET_GSO_TCP4 : NET_GSO_NONE);
        g_assert_cmpuint(f.net.last_off.gso_size, ==, gso ? 1448 : 0);
        g_assert_true(f.net.last_off.needs_csum == (gso || (c->slot[0].flags & BLANK)));
    }
    vif_front_fini(&f);
}

static void test_frags(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(frag_cases); i++) {
        frag_run(&frag_cases[i]);
    }
}

static void test_tx_full_ring(void)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60};
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, false, true, true, false);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < NETBACK_RING_ENTRIES; i++) {
            req.id = (uint16_t)i;
            vif_tx_put(&f, &req, sizeof(req));
        }
        vif_tx_kick(&f);
        g_assert_cmpuint(vif_rsp_prod(&f, VIF_TX_PAGE), ==, (round + 1) * 256);
    }
    g_assert_cmpuint(f.net.sent, ==, 768);
    g_assert_true(evtchn_is_pending(f.d, f.q->tx_port));
    vif_front_fini(&f);
}

static void test_bad_producer(void)
{
    static const uint32_t prods[] = {257, 0x80000000, 0xffffffff};
    struct vif_front f;

    for (unsigned i = 0; i < G_N_ELEMENTS(prods); i++) {
        vif_front_init(&f);
        vif_connect(&f, true, true, true, false);
        f.q->tx_prod = prods[i];
        vif_tx_kick(&f);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
        vif_connect(&f, true, true, true, false);
        f.q->rx_prod = prods[i];
        vif_rx_kick(&f);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
        vif_front_fini(&f);
    }
}

static void test_link_down(void)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60, .id = 5};
    struct netback_stats stats;
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    f.net.link(f.net.opaque, false);
    f.net.refuse = true;
    vif_tx_put(&f, &req, sizeof(req));
    vif_tx_kick(&f);
    g_assert_cmpint(vif_tx_response(&f, 0).status, ==, NETIF_RSP_OKAY);
    netback_get_stats(f.nb, &stats);
    g_assert_cmpuint(stats.tx_dropped, ==, 1);
    vif_front_fini(&f);
}

/* ---- network to guest ---- */

static size_t make_tcp(uint8_t *frame, unsigned payload)
{
    struct net_packet p;

    memset(frame, 0, HEADERS);
    net_put16(frame + 12, NET_ETHERTYPE_IP4);
    frame[ETH] = 0x45;
    net_put16(frame + ETH + 2, (uint16_t)(IP + TCP + payload));
    frame[ETH + 9] = NET_PROTO_TCP;
    net_put32(frame + ETH + 12, 0x0a000202);
    net_put32(frame + ETH + 16, 0x0a00020f);
    frame[ETH + IP + 12] = TCP / 4 << 4;
    for (unsigned i = 0; i < payload; i++) {
        frame[HEADERS + i] = (uint8_t)(i * 13 + i / 256);
    }
    g_assert_true(net_packet_parse(frame, HEADERS + payload, &p));
    net_packet_set_ip_csum(frame, &p);
    return HEADERS + payload;
}

static void offer(struct vif_front *f, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++) {
        unsigned at = f->q->rx_prod % VIF_DATA_PAGES;

        vif_rx_put(f, (uint16_t)(200 + f->q->rx_prod), VIF_DATA_PAGE + at);
    }
    vif_rx_kick(f);
}

static void test_rx(void)
{
    uint8_t frame[1514];
    struct vif_front f;

    for (unsigned split = 0; split < 2; split++) {
        size_t len = make_tcp(frame, 1400);
        struct netif_rx_response rsp;

        vif_front_init(&f);
        g_assert_true(vif_deliver(&f, frame, len, (struct net_offload){0})); /* nobody there */
        vif_connect(&f, split, false, false, false);
        offer(&f, 4);
        g_assert_true(vif_deliver(&f, frame, len, (struct net_offload){.csum_valid = true}));
        g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 1);
        rsp = vif_rx_response(&f, 0);
        g_assert_cmpuint(rsp.id, ==, 200);
        g_assert_cmpint(rsp.status, ==, (int)len);
        g_assert_cmpuint(rsp.offset, ==, 0);
        g_assert_cmphex(rsp.flags, ==, NETRXF_data_validated);
        g_assert_cmpmem(vif_page(&f, VIF_DATA_PAGE), len, frame, len);
        g_assert_true(evtchn_is_pending(f.d, split ? f.q->rx_port : f.q->tx_port));
        g_assert_true(vif_deliver(&f, frame, len, (struct net_offload){0}));
        g_assert_cmphex(vif_rx_response(&f, 1).flags, ==, 0);
        g_assert_true(vif_deliver(&f, frame, len, (struct net_offload){.needs_csum = true}));
        g_assert_cmphex(vif_rx_response(&f, 2).flags, ==,
                        NETRXF_data_validated | NETRXF_csum_blank);
        vif_front_fini(&f);
    }
}

static void test_rx_no_buffers(void)
{
    static uint8_t frame[20000];
    size_t len = make_tcp(frame, 9000);
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    g_assert_false(vif_deliver(&f, frame, len, (struct net_offload){0}));
    g_assert_cmpuint(f.net.ready, ==, 0);
    offer(&f, 1);
    g_assert_cmpuint(f.net.ready, ==, 1);
    g_assert_nonnull(f.net.held);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 0);
    offer(&f, 1);
    g_assert_nonnull(f.net.held);
    offer(&f, 1);
    g_assert_null(f.net.held);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 3);
    g_assert_cmpint(vif_rx_response(&f, 0).status, ==, 4096);
    g_assert_cmphex(vif_rx_response(&f, 0).flags, ==, NETRXF_more_data);
    g_assert_cmphex(vif_rx_response(&f, 1).flags, ==, NETRXF_more_data);
    g_assert_cmpint(vif_rx_response(&f, 2).status, ==, (int)len - 8192);
    g_assert_cmphex(vif_rx_response(&f, 2).flags, ==, 0);
    vif_front_fini(&f);
}

static void test_rx_gso(void)
{
    static uint8_t frame[30000];
    const struct net_offload off = {.needs_csum = true, .gso = NET_GSO_TCP4, .gso_size = 1448};
    size_t len = make_tcp(frame, 10000);
    struct netif_extra_info extra;
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    offer(&f, 8);
    g_assert_true(vif_deliver(&f, frame, len, off));
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 4);
    g_assert_cmphex(vif_rx_response(&f, 0).flags, ==, NETRXF_data_validated |
                    NETRXF_csum_blank | NETRXF_more_data | NETRXF_extra_info);
    memcpy(&extra, vif_page(&f, VIF_RX_PAGE) + 64 + 8, sizeof(extra));
    g_assert_cmpuint(extra.type, ==, XEN_NETIF_EXTRA_TYPE_GSO);
    g_assert_cmpuint(extra.flags, ==, 0);
    g_assert_cmpuint(extra.u.gso.size, ==, 1448);
    g_assert_cmpuint(extra.u.gso.type, ==, XEN_NETIF_GSO_TYPE_TCPV4);
    g_assert_cmpuint(vif_rx_response(&f, 2).id, ==, 202); /* the extra took number 201 */
    g_assert_cmpint(vif_rx_response(&f, 3).status, ==, (int)len - 8192);
    vif_front_fini(&f);
}

/* The same frame for a front end that cannot: whole segments with whole checksums. */
static void test_rx_segmented(void)
{
    static uint8_t frame[30000];
    const struct net_offload off = {.needs_csum = true, .gso = NET_GSO_TCP4, .gso_size = 1448};
    size_t len = make_tcp(frame, 10000);
    unsigned total = 0;
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, false, false, false);
    offer(&f, 6);
    g_assert_false(vif_deliver(&f, frame, len, off)); /* needs 7 */
    offer(&f, 6);
    g_assert_null(f.net.held);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 7);
    for (unsigned i = 0; i < 7; i++) {
        unsigned size = (unsigned)vif_rx_response(&f, i).status - HEADERS;

        g_assert_cmphex(vif_rx_response(&f, i).flags, ==, NETRXF_data_validated);
        g_assert_cmpmem(vif_page(&f, VIF_DATA_PAGE + i) + HEADERS, size,
                        frame + HEADERS + total, size);
        total += size;
    }
    g_assert_cmpuint(total, ==, 10000);
    vif_front_fini(&f);
}

static void test_rx_no_csum(void)
{
    uint8_t frame[1514];
    size_t len = make_tcp(frame, 333);
    struct net_packet p;
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, false, true);
    offer(&f, 1);
    g_assert_true(vif_deliver(&f, frame, len, (struct net_offload){.needs_csum = true}));
    g_assert_cmphex(vif_rx_response(&f, 0).flags, ==, 0);
    net_packet_parse(frame, len, &p);
    net_packet_set_l4_csum(frame, &p);
    g_assert_cmpmem(vif_page(&f, VIF_DATA_PAGE), len, frame, len);
    vif_front_fini(&f);
}

static void test_rx_bad_grant(void)
{
    uint8_t frame[60] = {0};
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    vif_rx_put(&f, 1, VIF_BAD_REF);
    vif_rx_put(&f, 2, VIF_READONLY_PAGE);
    vif_rx_put(&f, 3, VIF_DATA_PAGE);
    vif_rx_kick(&f);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_true(vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0}));
    }
    g_assert_cmpint(vif_rx_response(&f, 0).status, ==, NETIF_RSP_ERROR);
    g_assert_cmpint(vif_rx_response(&f, 1).status, ==, NETIF_RSP_ERROR);
    g_assert_cmpint(vif_rx_response(&f, 2).status, ==, 60);
    vif_front_fini(&f);
}

static void test_rx_refused_sizes(void)
{
    static uint8_t frame[NET_MAX_FRAME];
    const struct net_offload tiny = {.gso = NET_GSO_TCP4, .gso_size = 1};
    struct netback_stats stats;
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, false, false, false);
    offer(&f, 255);
    g_assert_true(vif_deliver(&f, frame, 13, (struct net_offload){0}));
    g_assert_true(vif_deliver(&f, frame, 5000, (struct net_offload){0})); /* no sg */
    g_assert_true(vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0}));
    g_assert_true(vif_deliver(&f, frame, make_tcp(frame, 20000), tiny));
    netback_get_stats(f.nb, &stats);
    g_assert_cmpuint(stats.rx_dropped, ==, 4);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 0);
    vif_front_fini(&f);
}

/* ---- state ---- */

static void test_state(void)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60, .id = 9};
    uint8_t frame[60] = {0};
    struct vif_front f;
    struct state *save = state_new_save(), *load;
    const void *data;
    size_t len;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    offer(&f, 3);
    vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0});
    vif_tx_put(&f, &req, sizeof(req));
    vif_tx_kick(&f);

    g_mutex_lock(&f.fb->board.lock);
    netback_state(f.nb, save);
    g_assert_true(state_ok(save));
    data = state_data(save, &len);
    load = state_new_load(data, len);
    netback_state(f.nb, load);
    g_assert_true(state_ok(load));
    g_mutex_unlock(&f.fb->board.lock);
    g_assert_cmpuint(gnttab_mapped(f.d), ==, 2);
    fake_board_run(f.fb);

    /* The two buffers left are found again, and so is what is sent. */
    g_assert_true(vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0}));
    g_assert_true(vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0}));
    g_assert_false(vif_deliver(&f, frame, sizeof(frame), (struct net_offload){0}));
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_RX_PAGE), ==, 3);
    g_assert_cmpuint(vif_rx_response(&f, 2).id, ==, 202);
    vif_tx_put(&f, &req, sizeof(req));
    vif_tx_kick(&f);
    g_assert_cmpuint(f.net.sent, ==, 2);
    g_assert_cmpuint(vif_rsp_prod(&f, VIF_TX_PAGE), ==, 2);
    state_free(save);
    state_free(load);
    vif_front_fini(&f);
}

static void test_state_without_rings(void)
{
    struct vif_front f;
    struct state *save = state_new_save(), *load;
    const void *data;
    size_t len;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    g_mutex_lock(&f.fb->board.lock);
    netback_state(f.nb, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    xs_rm(f.d->xenstore, "/local/domain/1/device/vif/0/rx-ring-ref");
    netback_state(f.nb, load);
    g_mutex_unlock(&f.fb->board.lock);
    g_assert_false(state_ok(load));
    g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
    state_free(save);
    state_free(load);
    vif_front_fini(&f);
}

static void test_reset(void)
{
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    g_mutex_lock(&f.fb->board.lock);
    netback_reset(f.nb);
    g_mutex_unlock(&f.fb->board.lock);
    fake_board_run(f.fb);
    g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateInitWait);
    vif_connect(&f, false, true, true, false);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateConnected);
    vif_front_fini(&f);
}

static bool store_has(struct vif_front *f, const char *path)
{
    bool has;

    g_mutex_lock(&f->fb->board.lock);
    has = xs_exists(f->d->xenstore, path);
    g_mutex_unlock(&f->fb->board.lock);
    return has;
}

static void network_gone(struct vif_front *f)
{
    g_mutex_lock(&f->fb->board.lock);
    f->net.net.gone = true;
    f->net.link(f->net.opaque, false);
    f->net.link(f->net.opaque, false); /* saying it again does no harm */
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_run(f->fb);
}

static void assert_no_card(struct vif_front *f)
{
    g_assert_false(store_has(f, "/local/domain/1/device/vif/0"));
    g_assert_false(store_has(f, "/local/domain/0/backend/vif/1/0"));
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
}

/* A network that is gone for good is an unplugged card, and stays one after a reset. */
static void test_unplug(void)
{
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    network_gone(&f);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
    assert_back(&f, "online", "0");
    g_assert_true(store_has(&f, "/local/domain/1/device/vif/0"));
    vif_set_state(&f, XenbusStateClosing);
    vif_set_state(&f, XenbusStateClosed);
    assert_no_card(&f);
    for (int i = 0; i < 2; i++) {
        g_mutex_lock(&f.fb->board.lock);
        netback_reset(f.nb);
        g_mutex_unlock(&f.fb->board.lock);
        fake_board_run(f.fb);
        assert_no_card(&f);
    }
    vif_front_fini(&f);
}

/* The guest does not let go: it is reset. And a card that no driver has. */
static void test_unplug_unheard(void)
{
    struct vif_front f;

    vif_front_init(&f);
    vif_connect(&f, true, true, true, false);
    network_gone(&f);
    g_mutex_lock(&f.fb->board.lock);
    netback_reset(f.nb);
    g_mutex_unlock(&f.fb->board.lock);
    fake_board_run(f.fb);
    assert_no_card(&f);
    vif_front_fini(&f);

    vif_front_init(&f);
    vif_set_state(&f, XenbusStateClosed);
    network_gone(&f);
    assert_no_card(&f);
    vif_front_fini(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    report_set_quiet(true); /* broken front ends are reported */
    g_test_add_func("/pv/netback/publish", test_publish);
    g_test_add_func("/pv/netback/connect", test_connect);
    g_test_add_func("/pv/netback/connect-refused", test_connect_refused);
    g_test_add_func("/pv/netback/t_net_frags", test_frags);
    g_test_add_func("/pv/netback/tx-full-ring", test_tx_full_ring);
    g_test_add_func("/pv/netback/bad-producer", test_bad_producer);
    g_test_add_func("/pv/netback/link-down", test_link_down);
    g_test_add_func("/pv/netback/rx", test_rx);
    g_test_add_func("/pv/netback/rx-no-buffers", test_rx_no_buffers);
    g_test_add_func("/pv/netback/rx-gso", test_rx_gso);
    g_test_add_func("/pv/netback/rx-segmented", test_rx_segmented);
    g_test_add_func("/pv/netback/rx-no-csum", test_rx_no_csum);
    g_test_add_func("/pv/netback/rx-bad-grant", test_rx_bad_grant);
    g_test_add_func("/pv/netback/rx-refused-sizes", test_rx_refused_sizes);
    g_test_add_func("/pv/netback/state", test_state);
    g_test_add_func("/pv/netback/state-without-rings", test_state_without_rings);
    g_test_add_func("/pv/netback/reset", test_reset);
    g_test_add_func("/pv/netback/unplug", test_unplug);
    g_test_add_func("/pv/netback/unplug-unheard", test_unplug_unheard);
    g_test_add_func("/pv/netback/t_net_reconnect_storm", test_reconnect_storm);
    return g_test_run();
}
