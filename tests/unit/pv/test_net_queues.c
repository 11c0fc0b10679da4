/* SPDX-License-Identifier: MIT */
/* Several queues of one network card: their keys, sending on each, which one a flow is received
 * on, and what a front end may get wrong. */
#include <string.h>

#include "base/report.h"
#include "core/net_packet.h"
#include "vif_front.h"

enum { ETH = NET_ETH_HEADER, IP4 = 20, IP6 = 40, UDP = 8, PAYLOAD = 30 };

static void vif_key_remove(struct vif_front *f, const char *key)
{
    g_autofree char *path = g_strdup_printf("/local/domain/1/device/vif/0/%s", key);

    g_mutex_lock(&f->fb->board.lock);
    xs_rm(f->d->xenstore, path);
    g_mutex_unlock(&f->fb->board.lock);
}

static void connect_queues(struct vif_front *f, unsigned count, bool split)
{
    vif_prepare(f, count, split);
    vif_set_state(f, XenbusStateConnected);
    g_assert_cmpint(vif_back_state(f), ==, XenbusStateConnected);
    g_assert_cmpuint(f->nb->nr_queues, ==, count);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 2 * count);
}

/* UDP from a port; `part`: 0 a whole packet, 1 the first fragment of one, 2 a later one. */
static size_t make_udp4(uint8_t *frame, uint32_t from, uint16_t port, unsigned part)
{
    memset(frame, 0, ETH + IP4 + UDP + PAYLOAD);
    net_put16(frame + 12, NET_ETHERTYPE_IP4);
    frame[ETH] = 0x45;
    net_put16(frame + ETH + 2, IP4 + UDP + PAYLOAD);
    net_put16(frame + ETH + 6, part == 0 ? 0 : part == 1 ? 0x2000 : 0x0010);
    frame[ETH + 9] = NET_PROTO_UDP;
    net_put32(frame + ETH + 12, from);
    net_put32(frame + ETH + 16, 0x0a00020f);
    net_put16(frame + ETH + IP4, part == 2 ? 0xbeef : port);
    net_put16(frame + ETH + IP4 + 2, 7);
    net_put16(frame + ETH + IP4 + 4, UDP + PAYLOAD);
    return ETH + IP4 + UDP + PAYLOAD;
}

static size_t make_udp6(uint8_t *frame, uint16_t port)
{
    memset(frame, 0, ETH + IP6 + UDP + PAYLOAD);
    net_put16(frame + 12, NET_ETHERTYPE_IP6);
    frame[ETH] = 0x60;
    net_put16(frame + ETH + 4, UDP + PAYLOAD);
    frame[ETH + 6] = NET_PROTO_UDP;
    frame[ETH + 8] = 0xfe;
    frame[ETH + 24] = 0xfe;
    net_put16(frame + ETH + IP6, port);
    return ETH + IP6 + UDP + PAYLOAD;
}

/* Buffers on every queue. */
static void offer(struct vif_front *f, unsigned count, unsigned pages)
{
    for (unsigned i = 0; i < count; i++) {
        f->q = &f->queue[i];
        for (unsigned n = 0; n < pages; n++) {
            vif_rx_put(f, (uint16_t)n, VIF_DATA_PAGE + i * 8 + n);
        }
        vif_rx_kick(f);
    }
    f->q = &f->queue[0];
}

/* The queue that one frame came in on. */
static unsigned deliver(struct vif_front *f, unsigned count, const uint8_t *frame, size_t len)
{
    uint32_t before[VIF_QUEUES];
    unsigned found = count;

    for (unsigned i = 0; i < count; i++) {
        before[i] = vif_rsp_prod(f, f->queue[i].rx_page);
    }
    g_assert_true(vif_deliver(f, frame, len, (struct net_offload){0}));
    for (unsigned i = 0; i < count; i++) {
        if (vif_rsp_prod(f, f->queue[i].rx_page) != before[i]) {
            g_assert_cmpuint(found, ==, count);
            g_assert_cmpuint(vif_rsp_prod(f, f->queue[i].rx_page), ==, before[i] + 1);
            found = i;
        }
    }
    g_assert_cmpuint(found, <, count);
    return found;
}

static void test_send(void)
{
    struct vif_front f;

    vif_front_init(&f);
    for (unsigned split = 0; split < 2; split++) {
        for (unsigned count = 1; count <= VIF_QUEUES; count++) {
            unsigned sent = f.net.sent;

            vif_key_remove(&f, "event-channel");
            connect_queues(&f, count, split);
            for (unsigned n = 0; n < 3 * count; n++) {
                unsigned i = n % count;
                struct netif_tx_request req = {.gref = VIF_DATA_PAGE + i, .id = (uint16_t)n,
                                               .size = (uint16_t)(60 + n)};

                f.q = &f.queue[i];
                memset(vif_page(&f, VIF_DATA_PAGE + i), (int)(n + 1), 4096);
                vif_tx_put(&f, &req, sizeof(req));
                vif_tx_kick(&f);
                g_assert_cmpuint(f.net.sent, ==, ++sent);
                g_assert_cmpuint(f.net.last_len, ==, 60 + n);
                g_assert_cmpint(f.net.last[0], ==, (int)(n + 1));
                g_assert_cmpuint(vif_rsp_prod(&f, f.q->tx_page), ==, n / count + 1);
                g_assert_cmpuint(vif_tx_response(&f, n / count).id, ==, n);
                g_assert_cmpint(vif_tx_response(&f, n / count).status, ==, NETIF_RSP_OKAY);
            }
            vif_start_over(&f);
            g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
        }
    }
    vif_front_fini(&f);
}

/* Flows spread over all queues, and each stays where it is. */
static void test_flows(void)
{
    uint8_t frame[128];
    unsigned where[64], seen[VIF_QUEUES] = {0};
    struct vif_front f;
    size_t len;

    vif_front_init(&f);
    connect_queues(&f, 4, true);
    offer(&f, 4, 200);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned n = 0; n < 64; n++) {
            unsigned q;

            len = n < 32 ? make_udp4(frame, 0x0a000202 + n / 16, (uint16_t)(1000 + n), 0)
                         : make_udp6(frame, (uint16_t)(1000 + n));
            frame[len - 1] = (uint8_t)round; /* not of the flow */
            q = deliver(&f, 4, frame, len);
            if (round == 0) {
                where[n] = q;
                seen[q]++;
            } else {
                g_assert_cmpuint(q, ==, where[n]);
            }
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpuint(seen[i], >=, 4); /* 16, were they perfectly even */
    }
    vif_front_fini(&f);
}

/* All fragments of a packet together, though only the first has ports; and what is no IP. */
static void test_fragments(void)
{
    uint8_t frame[128];
    struct vif_front f;
    size_t len;

    vif_front_init(&f);
    connect_queues(&f, 4, true);
    offer(&f, 4, 100);
    for (unsigned n = 0; n < 16; n++) {
        unsigned first, rest;

        len = make_udp4(frame, 0x0a000202 + n, (uint16_t)(77 * n), 1);
        first = deliver(&f, 4, frame, len);
        len = make_udp4(frame, 0x0a000202 + n, (uint16_t)(77 * n), 2);
        rest = deliver(&f, 4, frame, len);
        g_assert_cmpuint(first, ==, rest);
    }
    net_put16(frame + 12, NET_ETHERTYPE_ARP);
    g_assert_cmpuint(deliver(&f, 4, frame, len), ==, 0);
    net_put16(frame + 12, NET_ETHERTYPE_IP4); /* damaged: shorter than it says */
    g_assert_cmpuint(deliver(&f, 4, frame, 30), ==, 0);
    vif_front_fini(&f);
}

/* A frame for a queue without buffers waits for that queue's, not for another's. */
static void test_waiting(void)
{
    uint8_t frame[128];
    struct vif_front f;
    unsigned port = 0, ready;
    size_t len;

    vif_front_init(&f);
    connect_queues(&f, 2, true);
    offer(&f, 1, 1); /* queue 0 alone */
    do {
        len = make_udp4(frame, 0x0a000202, (uint16_t)++port, 0);
    } while (netback_queue_of(f.nb, frame, len) != &f.nb->queue[1]);
    g_assert_false(vif_deliver(&f, frame, len, (struct net_offload){0}));
    ready = f.net.ready;
    offer(&f, 1, 1);
    g_assert_cmpuint(f.net.ready, ==, ready);
    g_assert_nonnull(f.net.held);
    f.q = &f.queue[1];
    vif_rx_put(&f, 5, VIF_DATA_PAGE);
    vif_rx_kick(&f);
    g_assert_null(f.net.held);
    g_assert_cmpuint(vif_rsp_prod(&f, f.q->rx_page), ==, 1);
    g_assert_cmpuint(vif_rx_response(&f, 0).id, ==, 5);
    g_assert_true(evtchn_is_pending(f.d, f.q->rx_port));
    g_assert_false(evtchn_is_pending(f.d, f.q->tx_port));
    g_assert_false(evtchn_is_pending(f.d, f.queue[0].rx_port));
    vif_front_fini(&f);
}

static void test_bad_keys(void)
{
    static const struct {
        const char *key, *value; /* NULL: missing */
    } bad[] = {
        {"multi-queue-num-queues", "0"},
        {"multi-queue-num-queues", "5"},
        {"multi-queue-num-queues", "4294967297"},
        {"multi-queue-num-queues", "three"},
        {"multi-queue-num-queues", ""},
        {"queue-0", NULL},
        {"queue-3", NULL},
        {"queue-1/tx-ring-ref", NULL},
        {"queue-2/rx-ring-ref", NULL},
        {"queue-2/rx-ring-ref", "288"}, /* granted for reading only */
        {"queue-3/tx-ring-ref", "20"},
        {"queue-1/event-channel-tx", NULL},
        {"queue-3/event-channel-rx", "0"},
        {"queue-3/event-channel", "4000"},
    };
    struct vif_front f;

    report_set_quiet(true); /* warnings about the guest are expected */
    vif_front_init(&f);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        vif_prepare(&f, 4, true);
        if (bad[i].value != NULL) {
            vif_write(&f, bad[i].key, "%s", bad[i].value);
        } else {
            vif_key_remove(&f, bad[i].key);
        }
        g_test_message("%s", bad[i].key);
        vif_set_state(&f, XenbusStateConnected);
        g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
        g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
        for (unsigned n = 0; n < XENBUS_MAX_QUEUES; n++) {
            g_assert_cmpuint(f.nb->queue[n].tx_chan.port, ==, 0);
            g_assert_cmpuint(f.nb->queue[n].rx_chan.port, ==, 0);
        }
        vif_key_remove(&f, "queue-3");
        vif_start_over(&f);
    }
    connect_queues(&f, 4, true);
    vif_front_fini(&f);
}

/* One queue's impossible index closes the card; work that was posted for the others is void. */
static void test_break(void)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60};
    struct vif_front f;

    report_set_quiet(true);
    vif_front_init(&f);
    connect_queues(&f, 4, true);
    f.q = &f.queue[3];
    vif_tx_put(&f, &req, sizeof(req));
    *(uint32_t *)(void *)vif_page(&f, f.q->tx_page) = 1;
    f.fb->board.ops->post(&f.fb->board, &f.nb->queue[2].tx_work);
    f.fb->board.ops->post(&f.fb->board, &f.nb->queue[3].tx_work);
    *(uint32_t *)(void *)vif_page(&f, f.queue[2].tx_page) = 5000;
    fake_board_run(f.fb);
    g_assert_cmpint(vif_back_state(&f), ==, XenbusStateClosing);
    g_assert_cmpuint(gnttab_mapped(f.d), ==, 0);
    g_assert_cmpuint(f.net.sent, ==, 0);
    vif_start_over(&f);
    connect_queues(&f, 2, true);
    vif_front_fini(&f);
}

static void test_state(void)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE, .size = 60};
    struct state *save = state_new_save(), *load;
    struct vif_front f;
    const void *bytes;
    size_t len;

    vif_front_init(&f);
    connect_queues(&f, 3, true);
    g_mutex_lock(&f.fb->board.lock);
    pv_domain_state(f.d, save);
    netback_state(f.nb, save);
    bytes = state_data(save, &len);
    load = state_new_load(bytes, len);
    pv_domain_state(f.d, load);
    netback_state(f.nb, load);
    g_mutex_unlock(&f.fb->board.lock);
    g_assert_cmpstr(state_error(load), ==, NULL);
    g_assert_cmpuint(f.nb->nr_queues, ==, 3);
    for (unsigned i = 0; i < 3; i++) {
        f.q = &f.queue[i];
        vif_tx_put(&f, &req, sizeof(req));
        vif_tx_kick(&f);
        g_assert_cmpuint(vif_rsp_prod(&f, f.q->tx_page), ==, 1);
    }
    g_assert_cmpuint(f.net.sent, ==, 3);
    state_free(load);
    state_free(save);
    vif_front_fini(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/net-queues/send", test_send);
    g_test_add_func("/pv/net-queues/flows", test_flows);
    g_test_add_func("/pv/net-queues/fragments", test_fragments);
    g_test_add_func("/pv/net-queues/waiting", test_waiting);
    g_test_add_func("/pv/net-queues/bad-keys", test_bad_keys);
    g_test_add_func("/pv/net-queues/break", test_break);
    g_test_add_func("/pv/net-queues/state", test_state);
    return g_test_run();
}
