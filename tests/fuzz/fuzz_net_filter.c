/* SPDX-License-Identifier: MIT */
/*
 * Frames from a guest, through the filter, into libslirp. What passes must keep what the filter
 * promises. slirp runs `restricted`: it opens no socket, whatever the frames ask.
 * Input: any number of {u16 length, u8 flags, u16 gso_size, frame}.
 */
#include <arpa/inet.h>
#include <glib.h>
#include <string.h>

#include <slirp/libslirp.h>

#include "core/net_packet.h"
#include "fuzz.h"
#include "io/net_filter.h"

static ssize_t sink_send(const void *buf, size_t len, void *opaque)
{
    struct net_packet p;

    (void)opaque;
    net_packet_parse(buf, len, &p);
    return (ssize_t)len;
}

static void sink_error(const char *msg, void *opaque)
{
    (void)msg, (void)opaque;
}

static int64_t sink_clock(void *opaque)
{
    (void)opaque;
    return 1000000000;
}

static void *sink_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    (void)id, (void)cb_opaque;
    return opaque;
}

static void sink_timer_free(void *timer, void *opaque)
{
    (void)timer, (void)opaque;
}

static void sink_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)timer, (void)expire_ms, (void)opaque;
}

static void sink_fd(int fd, void *opaque)
{
    (void)fd, (void)opaque;
}

static void sink_notify(void *opaque)
{
    (void)opaque;
}

static void sink_completed(Slirp *slirp, void *opaque)
{
    (void)slirp, (void)opaque;
}

static const SlirpCb sink = {
    .send_packet = sink_send,
    .guest_error = sink_error,
    .clock_get_ns = sink_clock,
    .timer_free = sink_timer_free,
    .timer_mod = sink_timer_mod,
    .register_poll_fd = sink_fd,
    .unregister_poll_fd = sink_fd,
    .notify = sink_notify,
    .init_completed = sink_completed,
    .timer_new_opaque = sink_timer_new,
};

static void check(const uint8_t *frame, size_t len)
{
    struct net_packet p;

    g_assert_true(net_packet_parse(frame, len, &p));
    g_assert_true(p.l3 == 0 || p.end == len);
    if (p.l3 != 0 && p.proto == NET_PROTO_TCP) {
        g_assert_false(p.fragment);
        g_assert_cmpuint(frame[p.l4 + 13] & 0x20, ==, 0);
        g_assert_cmpuint(net_get16(frame + p.l4 + 18), ==, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SlirpConfig cfg = {.version = 4,
                       .restricted = 1,
                       .in_enabled = true,
                       .in6_enabled = true,
                       .vprefix_len = 64};
    struct net_filter f = {0};
    static char timer;
    Slirp *slirp;

    g_log_set_always_fatal(G_LOG_LEVEL_ERROR);
    cfg.vnetwork.s_addr = htonl(0x0a000200);
    cfg.vnetmask.s_addr = htonl(0xffffff00);
    cfg.vhost.s_addr = htonl(0x0a000202);
    cfg.vdhcp_start.s_addr = htonl(0x0a00020f);
    cfg.vnameserver.s_addr = htonl(0x0a000203);
    inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
    inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
    slirp = slirp_new(&cfg, &sink, &timer);
    g_assert_nonnull(slirp);
    while (size >= 5) {
        size_t len = MIN((size_t)net_get16(data), size - 5);
        struct net_offload off = {.needs_csum = data[2] & 1,
                                  .gso = (data[2] >> 1) % 3,
                                  .gso_size = net_get16(data + 3)};
        uint8_t *frame = g_memdup2(data + 5, len);

        if (net_filter_input(&f, frame, &len, &off)) {
            check(frame, len);
            slirp_input(slirp, frame, (int)len);
        }
        g_free(frame);
        len = MIN((size_t)net_get16(data), size - 5);
        data += 5 + len;
        size -= 5 + len;
    }
    slirp_cleanup(slirp);
    return 0;
}
