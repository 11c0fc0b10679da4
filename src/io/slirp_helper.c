/* SPDX-License-Identifier: MIT */
/*
 * The network process: libslirp between the frame channel and the host's sockets. It owns no
 * guest memory and no disk, only the channel; every frame from the guest passes net_filter
 * first. The network is 10.0.2.0/24 and fec0::/64, gateway .2 (also the host's loopback), DNS
 * .3, guest .15. TFTP, boot files and SMB are never configured. After set-up it needs: poll,
 * socket calls, clocks, memory, and reading /etc/resolv.conf (libslirp looks at it again when
 * it changes).
 */
#include "io/slirp_helper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <slirp/libslirp.h>

#include "base/sandbox.h"
#include "io/net_chan.h"
#include "io/net_filter.h"

enum {
    HELPER_QUEUE_BYTES = 1 << 20,
    HELPER_CONGESTED_BYTES = HELPER_QUEUE_BYTES / 2, /* host sockets wait above this */
    HELPER_BATCH = 16,
    HELPER_BATCHES_PER_TURN = 4,
    HELPER_MAX_POLLFDS = 4096,
    HELPER_RESOLVER_MS = 2000,
};

struct helper_timer {
    SlirpTimerId id;
    void *opaque;
    int64_t expire_ms; /* -1: not armed */
    struct helper_timer *next;
};

struct helper {
    const struct slirp_setup *setup;
    Slirp *slirp;
    struct net_chan chan;
    struct net_filter filter;
    struct helper_timer *timers;
    bool sees_resolver;  /* at the start */
    int64_t resolver_ms; /* when it was looked at */
    GArray *fds; /* struct pollfd; the first is the channel */
};

static int64_t helper_now_ns(void *opaque)
{
    (void)opaque;
    return g_get_monotonic_time() * 1000;
}

static ssize_t helper_send_packet(const void *buf, size_t len, void *opaque)
{
    struct helper *h = opaque;
    /* The sums were just made by slirp, and the way to the guest is memory. */
    const struct net_offload off = {.csum_valid = true};

    net_chan_send(&h->chan, buf, len, &off);
    return (ssize_t)len;
}

static void helper_guest_error(const char *msg, void *opaque)
{
    (void)msg, (void)opaque; /* a guest must not write to our log */
}

static void *helper_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    struct helper *h = opaque;
    struct helper_timer *t = g_new0(struct helper_timer, 1);

    t->id = id;
    t->opaque = cb_opaque;
    t->expire_ms = -1;
    t->next = h->timers;
    h->timers = t;
    return t;
}

static void helper_timer_free(void *timer, void *opaque)
{
    struct helper *h = opaque;

    for (struct helper_timer **p = &h->timers; *p != NULL; p = &(*p)->next) {
        if (*p == timer) {
            *p = (*p)->next;
            g_free(timer);
            return;
        }
    }
}

static void helper_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)opaque;
    ((struct helper_timer *)timer)->expire_ms = expire_ms;
}

static void helper_poll_fd(int fd, void *opaque)
{
    (void)fd, (void)opaque; /* the set is made anew every turn */
}

static void helper_notify(void *opaque)
{
    (void)opaque; /* one thread: nobody sleeps while slirp runs */
}

static void helper_init_completed(Slirp *slirp, void *opaque)
{
    (void)slirp, (void)opaque;
}

static const SlirpCb helper_callbacks = {
    .send_packet = helper_send_packet,
    .guest_error = helper_guest_error,
    .clock_get_ns = helper_now_ns,
    .timer_free = helper_timer_free,
    .timer_mod = helper_timer_mod,
    .register_poll_fd = helper_poll_fd,
    .unregister_poll_fd = helper_poll_fd,
    .notify = helper_notify,
    .init_completed = helper_init_completed,
    .timer_new_opaque = helper_timer_new,
};

static int helper_add_poll(int fd, int events, void *opaque)
{
    struct helper *h = opaque;
    struct pollfd p = {.fd = fd};

    if (h->fds->len >= HELPER_MAX_POLLFDS) {
        return -1;
    }
    p.events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
                       (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                       (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    if (h->chan.queued > HELPER_CONGESTED_BYTES) {
        p.fd = -1; /* the guest is behind: leave the data in the host's sockets */
    }
    g_array_append_val(h->fds, p);
    return (int)h->fds->len - 1;
}

static int helper_get_revents(int idx, void *opaque)
{
    struct helper *h = opaque;
    int revents;

    if (idx < 0 || (unsigned)idx >= h->fds->len) {
        return 0;
    }
    revents = g_array_index(h->fds, struct pollfd, idx).revents;
    return (revents & POLLIN ? SLIRP_POLL_IN : 0) | (revents & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (revents & POLLPRI ? SLIRP_POLL_PRI : 0) | (revents & POLLERR ? SLIRP_POLL_ERR : 0) |
           (revents & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Lets due timers fire; returns how long the next may wait, at most `ms`. */
static int helper_run_timers(struct helper *h, uint32_t ms)
{
    int64_t now = helper_now_ns(NULL) / 1000000;
    int64_t wait = MIN(ms, (uint32_t)G_MAXINT);

    for (struct helper_timer *t = h->timers, *next; t != NULL; t = next) {
        next = t->next;
        if (t->expire_ms >= 0 && t->expire_ms <= now) {
            t->expire_ms = -1;
            slirp_handle_timer(h->slirp, t->id, t->opaque);
        }
    }
    for (struct helper_timer *t = h->timers; t != NULL; t = t->next) {
        if (t->expire_ms >= 0) {
            wait = MIN(wait, MAX(t->expire_ms - now, 0));
        }
    }
    return (int)wait;
}

static void helper_input(struct helper *h)
{
    struct net_offload off;
    uint8_t *frame;
    size_t len;

    for (unsigned i = 0; i < HELPER_BATCHES_PER_TURN; i++) {
        if (!net_chan_receive(&h->chan)) {
            _exit(0); /* pvemu closed its end */
        }
        if (h->chan.filled == 0) {
            return;
        }
        while ((frame = net_chan_peek(&h->chan, &len, &off)) != NULL) {
            if (net_filter_input(&h->filter, frame, &len, &off)) {
                slirp_input(h->slirp, frame, (int)len);
            }
            net_chan_pop(&h->chan);
        }
    }
}

/* Whether the list of name servers can be read, or is not there at all. */
static bool helper_sees_resolver(void)
{
    int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0 || errno != EACCES;
}

/* libslirp would answer no name any more: see SLIRP_EXIT_RESOLVER. */
static void helper_check_resolver(struct helper *h)
{
    int64_t now = helper_now_ns(NULL) / 1000000;

    if (now - h->resolver_ms >= HELPER_RESOLVER_MS) {
        h->resolver_ms = now;
        if (!helper_sees_resolver()) {
            _exit(SLIRP_EXIT_RESOLVER);
        }
    }
}

static void helper_turn(struct helper *h)
{
    struct pollfd channel = {.fd = h->chan.fd, .events = POLLIN};
    uint32_t ms = UINT32_MAX;
    int wait, n;

    if (h->chan.queued > 0) {
        channel.events |= POLLOUT;
    }
    g_array_set_size(h->fds, 0);
    g_array_append_val(h->fds, channel);
    slirp_pollfds_fill(h->slirp, &ms, helper_add_poll, h);
    wait = helper_run_timers(h, ms);
    n = poll((struct pollfd *)(void *)h->fds->data, h->fds->len,
             ms == UINT32_MAX && wait == G_MAXINT ? -1 : wait);
    if (n < 0 && errno != EINTR) {
        _exit(1);
    }
    slirp_pollfds_poll(h->slirp, n < 0, helper_get_revents, h);
    if (n <= 0) {
        return;
    }
    if (h->sees_resolver) {
        helper_check_resolver(h);
    }
    channel = g_array_index(h->fds, struct pollfd, 0);
    if (channel.revents & POLLOUT) {
        net_chan_flush(&h->chan);
    }
    if (channel.revents & (POLLIN | POLLHUP | POLLERR)) {
        helper_input(h);
    }
}

struct in6_addr slirp_guest_address6(const uint8_t mac[6])
{
    struct in6_addr a = {.s6_addr = {0xfe, 0xc0}};

    a.s6_addr[8] = mac[0] ^ 2;
    a.s6_addr[9] = mac[1];
    a.s6_addr[10] = mac[2];
    a.s6_addr[11] = 0xff;
    a.s6_addr[12] = 0xfe;
    memcpy(&a.s6_addr[13], mac + 3, 3);
    return a;
}

static Slirp *helper_slirp_new(struct helper *h)
{
    SlirpConfig cfg = {
        .version = 4, .in_enabled = true, .in6_enabled = true, .vprefix_len = 64,
        .if_mtu = h->setup->mtu, .if_mru = h->setup->mtu,
    };

    cfg.vnetwork.s_addr = htonl(0x0a000200);
    cfg.vnetmask.s_addr = htonl(0xffffff00);
    cfg.vhost.s_addr = htonl(0x0a000202);
    cfg.vdhcp_start.s_addr = htonl(0x0a00020f);
    cfg.vnameserver.s_addr = htonl(0x0a000203);
    inet_pton(AF_INET6, "fec0::", &cfg.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &cfg.vhost6);
    inet_pton(AF_INET6, "fec0::3", &cfg.vnameserver6);
    return slirp_new(&cfg, &helper_callbacks, h);
}

static bool helper_forward(struct helper *h, const struct net_forward *f)
{
    struct sockaddr_storage host, guest;
    socklen_t host_len = net_forward_sockaddr(f, &host), guest_len;
    struct net_forward inner = {.ip6 = f->ip6, .host_port = f->guest_port};
    int flags = f->udp ? SLIRP_HOSTFWD_UDP : 0;

    if (f->ip6) {
        flags |= SLIRP_HOSTFWD_V6ONLY;
        inner.address6 = slirp_guest_address6(h->setup->mac);
    } else {
        inner.address.s_addr = htonl(0x0a00020f);
    }
    guest_len = net_forward_sockaddr(&inner, &guest);
    return slirp_add_hostxfwd(h->slirp, (struct sockaddr *)&host, host_len,
                              (struct sockaddr *)&guest, guest_len, flags) == 0;
}

static void helper_log(const char *domain, GLogLevelFlags level, const char *msg, void *opaque)
{
    (void)domain, (void)level, (void)msg, (void)opaque; /* reachable by a guest: silent */
}

void slirp_run(const struct slirp_setup *setup, int data_fd, int control_fd)
{
    struct helper h = {.setup = setup};
    struct slirp_message m = {.event = SLIRP_EVENT_UP, .pid = (int32_t)getpid(), .index = -1};

    prctl(PR_SET_NAME, "pvemu-net");
    g_log_set_default_handler(helper_log, NULL);
    net_chan_init(&h.chan, data_fd, HELPER_QUEUE_BYTES, NET_MAX_FRAME, HELPER_BATCH);
    h.fds = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
    h.slirp = helper_slirp_new(&h);
    if (h.slirp == NULL) {
        m.event = SLIRP_EVENT_FAILED;
        m.value = EINVAL;
    }
    for (unsigned i = 0; i < setup->nr_forwards && m.event == SLIRP_EVENT_UP; i++) {
        errno = 0;
        if (!helper_forward(&h, &setup->forwards[i])) {
            m.event = SLIRP_EVENT_FAILED;
            m.value = errno != 0 ? errno : EADDRINUSE;
            m.index = (int32_t)i;
        }
    }
    if (m.event == SLIRP_EVENT_UP) {
        sandbox_enter(setup->sandbox, SANDBOX_CLASS_NET);
        h.sees_resolver = helper_sees_resolver();
    }
    send(control_fd, &m, sizeof(m), MSG_NOSIGNAL);
    close(control_fd);
    if (m.event != SLIRP_EVENT_UP) {
        _exit(1);
    }
    for (;;) {
        helper_turn(&h);
    }
}
