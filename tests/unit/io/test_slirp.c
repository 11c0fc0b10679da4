/* SPDX-License-Identifier: MIT */
/*
 * The user network with its real processes, over loopback only: leases, connections both ways,
 * port forwards, and what happens when the network process dies.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "io/net_slirp.h"
#include "slirp_guest.h"

/* A socket on 127.0.0.1 that listens; its port in *port. */
static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&sin, &len), ==, 0);
    *port = ntohs(sin.sin_port);
    return fd;
}

static struct net *open_net(struct net_forward *forwards, unsigned count, GMainContext *context)
{
    g_autoptr(GError) err = NULL;
    const struct net_slirp_options o = {
        .name = "test", .forwards = forwards, .nr_forwards = count, .context = context,
    };
    struct net *net = net_slirp_open(&o, &err);

    g_assert_no_error(err);
    g_assert_nonnull(net);
    return net;
}

static void assert_parse(const char *text, const char *back)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *got = NULL;
    struct net_forward f;

    g_assert_true(net_forward_parse(text, &f, &err));
    g_assert_no_error(err);
    got = net_forward_text(&f);
    g_assert_cmpstr(got, ==, back);
}

static void test_parse(void)
{
    static const char *const bad[] = {
        "", "22", ":", "a:b", "1:", ":1", "65536:1", "1:0", "1:65536", "-1:2", "1:2/icmp",
        "1:2/", "1.2.3:1:2", "::1:1:2", "[::1:1:2", "[x]:1:2", "1:2:3:4", " 1:2", "1:2 ",
        "[]:1:2", "+1:2",
    };

    assert_parse("2222:22", "2222:22");
    assert_parse("2222:22/tcp", "2222:22");
    assert_parse("0:53/udp", "0:53/udp");
    assert_parse("127.0.0.1:80:8080", "80:8080");
    assert_parse("localhost:80:8080", "80:8080");
    assert_parse("0.0.0.0:80:8080", "0.0.0.0:80:8080");
    assert_parse("*:80:8080", "0.0.0.0:80:8080");
    assert_parse("[::1]:80:8080/udp", "[::1]:80:8080/udp");
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) err = NULL;
        struct net_forward f;

        g_assert_false(net_forward_parse(bad[i], &f, &err));
        g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_USAGE);
    }
}

static void test_busy_port(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *hint = NULL, *text = NULL, *message = NULL, *who = NULL;
    struct net_forward f;
    uint16_t port;
    auto_fd fd = listen_on_loopback(&port);

    (void)fd;
    text = g_strdup_printf("%u:22", port);
    g_assert_true(net_forward_parse(text, &f, NULL));
    g_assert_false(net_forward_probe(&f, 1, &err));
    g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_HOST);
    message = error_split_hint(err, &hint);
    g_assert_true(g_str_has_prefix(message, "-p "));
    who = g_strdup_printf("port %u is in use by process %d (", port, (int)getpid());
    g_assert_nonnull(strstr(message, who));
    g_assert_cmpstr(hint, ==, "-p 0:22 picks a free port");
}

static void test_mac(void)
{
    uint8_t a[6], b[6], c[6];

    net_derive_mac("web", 0, a);
    net_derive_mac("web", 0, b);
    net_derive_mac("web", 1, c);
    g_assert_cmpmem(a, 6, b, 6);
    g_assert_cmpint(memcmp(a, c, 6), !=, 0);
    g_assert_cmpmem(a, 3, "\x52\x54\x00", 3);
}

static void test_dhcp(void)
{
    GMainContext *context = g_main_context_new();
    struct net *net = open_net(NULL, 0, context);
    struct guest g;

    guest_init(&g, net, context);
    guest_dhcp(&g);
    g_assert_cmphex(g.offered, ==, GUEST_IP);
    g_assert_cmphex(g.leased, ==, GUEST_IP);
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

/* Answers one connection with its own bytes, until it ends. */
static gpointer echo_thread(gpointer data)
{
    auto_fd fd = accept(GPOINTER_TO_INT(data), NULL, NULL);
    char buf[4096];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        for (ssize_t at = 0; at < n;) {
            ssize_t w = write(fd, buf + at, (size_t)(n - at));

            if (w <= 0) {
                return NULL;
            }
            at += w;
        }
    }
    return NULL;
}

enum { ECHO_BYTES = 60000 };

static bool echo_complete(struct guest *g)
{
    return g->received->len >= ECHO_BYTES;
}

/* The guest sends one 60000-byte segment with a blank checksum and gets it back in small
 * ones. */
static void test_tcp_echo(void)
{
    GMainContext *context = g_main_context_new();
    struct net *net = open_net(NULL, 0, context);
    g_autofree uint8_t *data = g_malloc(ECHO_BYTES);
    struct guest g;
    GThread *echo;
    uint16_t port;
    auto_fd fd = listen_on_loopback(&port);

    for (unsigned i = 0; i < ECHO_BYTES; i++) {
        data[i] = (uint8_t)(i * 7 + i / 251);
    }
    echo = g_thread_new("echo", echo_thread, GINT_TO_POINTER(fd));
    guest_init(&g, net, context);
    guest_dhcp(&g);
    guest_connect(&g, GUEST_GATEWAY, port);
    guest_send(&g, data, ECHO_BYTES);
    guest_wait(&g, echo_complete);
    g_assert_cmpmem(g.received->data, g.received->len, data, ECHO_BYTES);
    guest_fini(&g);
    net->ops->close(net); /* the helper dies, and the connection with it */
    g_thread_join(echo);
    g_main_context_unref(context);
}

static bool guest_refused_one(struct guest *g)
{
    return g->refused > 0;
}

/* A card without room gets the same frame again, once it says so. */
static void test_no_room(void)
{
    GMainContext *context = g_main_context_new();
    struct net *net = open_net(NULL, 0, context);
    GThread *echo;
    uint16_t port;
    auto_fd fd = listen_on_loopback(&port);
    struct guest g;

    echo = g_thread_new("echo", echo_thread, GINT_TO_POINTER(fd));
    guest_init(&g, net, context);
    guest_dhcp(&g);
    guest_connect(&g, GUEST_GATEWAY, port);
    g.refuse = true;
    guest_send(&g, (const uint8_t *)"again", 5);
    guest_wait(&g, guest_refused_one);
    g_assert_cmpuint(g.refused, ==, 1);
    g_assert_false(g_main_context_pending(context)); /* nobody spins meanwhile */
    net->ops->rx_ready(net);
    g_assert_cmpuint(g.refused, ==, 2);
    g.refuse = false;
    net->ops->rx_ready(net);
    while (g.received->len < 5) {
        g_main_context_iteration(context, TRUE);
    }
    g_assert_cmpmem(g.received->data, g.received->len, "again", 5);
    guest_fini(&g);
    net->ops->close(net);
    g_thread_join(echo);
    g_main_context_unref(context);
}

static bool guest_got_ping(struct guest *g)
{
    return g->received->len >= 4;
}

static bool guest_pong_acked(struct guest *g)
{
    return g->acked == g->seq;
}

/* The host connects to the forwarded port, says "ping", hears "pong". */
static void forward_exchange(struct guest *g, uint16_t port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    auto_fd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char buf[5] = "";

    g->accept = true;
    g->established = false;
    g->port = 7;
    g->seq = 5000;
    g_byte_array_set_size(g->received, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), ==, 0);
    g_assert_cmpint(write(fd, "ping", 4), ==, 4);
    guest_wait(g, guest_got_ping);
    g_assert_cmpmem(g->received->data, g->received->len, "ping", 4);
    guest_send(g, (const uint8_t *)"pong", 4);
    guest_wait(g, guest_pong_acked);
    g_assert_cmpint(recv(fd, buf, 4, MSG_WAITALL), ==, 4);
    g_assert_cmpstr(buf, ==, "pong");
}

static void test_forward_picks_port(void)
{
    GMainContext *context = g_main_context_new();
    struct net_forward f[2];
    struct net *net;
    struct guest g;

    g_assert_true(net_forward_parse("0:7", &f[0], NULL));
    g_assert_true(net_forward_parse("0:8", &f[1], NULL));
    net = open_net(f, 2, context);
    g_assert_cmpuint(f[0].host_port, !=, 0);
    g_assert_cmpuint(f[1].host_port, !=, 0);
    g_assert_cmpuint(f[0].host_port, !=, f[1].host_port);
    guest_init(&g, net, context);
    guest_dhcp(&g);
    forward_exchange(&g, f[0].host_port);
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

static void test_forward_udp(void)
{
    GMainContext *context = g_main_context_new();
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    auto_fd fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct net_forward f;
    struct net *net;
    struct guest g;

    g_assert_true(net_forward_parse("0:9/udp", &f, NULL));
    net = open_net(&f, 1, context);
    guest_init(&g, net, context);
    guest_dhcp(&g);
    g.udp_port = 9;
    sin.sin_port = htons(f.host_port);
    g_assert_cmpint(sendto(fd, "knock", 5, 0, (struct sockaddr *)&sin, sizeof(sin)), ==, 5);
    guest_wait(&g, guest_got_ping);
    g_assert_cmpmem(g.received->data, g.received->len, "knock", 5);
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

/* The host's end of an IPv6 forward listens; the guest's needs more of IPv6 than our guest
 * has. */
static void test_forward_ip6(void)
{
    GMainContext *context = g_main_context_new();
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    auto_fd fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autoptr(GError) err = NULL;
    struct net_forward f;
    struct net *net;

    g_assert_true(net_forward_parse("[::1]:0:7", &f, NULL));
    if (fd < 0 || !net_forward_probe(&f, 1, &err)) {
        g_main_context_unref(context);
        g_test_skip("no IPv6 loopback");
        return;
    }
    net = open_net(&f, 1, context);
    sin6.sin6_port = htons(f.host_port);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&sin6, sizeof(sin6)), ==, 0);
    net->ops->close(net);
    g_main_context_unref(context);
}

static bool guest_link_down(struct guest *g)
{
    return g->downs > 0;
}

static bool guest_link_up(struct guest *g)
{
    return g->link_up;
}

static void test_helper_killed(void)
{
    GMainContext *context = g_main_context_new();
    const struct net_offload none = {0};
    uint8_t frame[60] = {0};
    struct net_forward f;
    struct net *net;
    struct guest g;
    pid_t first;

    g_assert_true(net_forward_parse("0:7", &f, NULL));
    net = open_net(&f, 1, context);
    guest_init(&g, net, context);
    guest_dhcp(&g);
    first = net_slirp_pid(net);
    g_assert_cmpint(first, >, 0);
    g_assert_cmpint(kill(first, SIGKILL), ==, 0);
    guest_wait(&g, guest_link_down);
    g_assert_false(net->ops->send(net, frame, sizeof(frame), &none));
    g_assert_cmpint(net_slirp_pid(net), ==, 0);
    guest_wait(&g, guest_link_up);
    g_assert_cmpint(net_slirp_pid(net), !=, first);
    guest_dhcp(&g);
    forward_exchange(&g, f.host_port);
    g_assert_cmpuint(g.downs, ==, 1);
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

static bool guest_down_twice(struct guest *g)
{
    return g->downs == 2;
}

static void test_gives_up(void)
{
    GMainContext *context = g_main_context_new();
    const struct net_slirp_options o = {.context = context, .max_restarts = 1};
    struct net *net = net_slirp_open(&o, NULL);
    struct guest g;

    g_assert_nonnull(net);
    guest_init(&g, net, context);
    g_assert_cmpint(kill(net_slirp_pid(net), SIGKILL), ==, 0);
    guest_wait(&g, guest_link_down);
    guest_wait(&g, guest_link_up);
    g_assert_false(net->gone);
    g_assert_cmpint(kill(net_slirp_pid(net), SIGSEGV), ==, 0);
    guest_wait(&g, guest_down_twice);
    g_assert_true(net->gone);
    while (g_main_context_iteration(context, FALSE)) {
    }
    g_assert_false(g.link_up);
    g_assert_cmpint(net_slirp_pid(net), ==, 0);
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

/* Without its supervisor the network process goes too, and pvemu only notes it. */
static void test_supervisor_killed(void)
{
    GMainContext *context = g_main_context_new();
    struct net *net = open_net(NULL, 0, context);
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)net_slirp_pid(net));
    g_autofree char *stat = NULL;
    struct guest g;
    int parent = 0;

    guest_init(&g, net, context);
    g_assert_true(g_file_get_contents(path, &stat, NULL, NULL));
    g_assert_cmpint(sscanf(strrchr(stat, ')'), ") %*c %d", &parent), ==, 1);
    g_assert_cmpint(parent, !=, getpid());
    g_assert_cmpint(kill(parent, SIGKILL), ==, 0);
    guest_wait(&g, guest_link_down);
    g_assert_true(net->gone);
    g_assert_false(g_main_context_pending(context));
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

/* Nothing of ours is left in the helper: it has stdio, the channel, and slirp's own sockets. */
static void test_descriptors(void)
{
    GMainContext *context = g_main_context_new();
    uint16_t port;
    auto_fd secret = listen_on_loopback(&port);
    struct net *net = open_net(NULL, 0, context);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)net_slirp_pid(net));
    g_autoptr(GDir) dir = NULL;
    const char *name;
    unsigned count = 0;
    struct guest g;

    guest_init(&g, net, context);
    guest_dhcp(&g); /* it is past its start */
    dir = g_dir_open(path, 0, NULL);
    if (dir == NULL) {
        g_test_skip("/proc does not show descriptors");
    }
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_assert_cmpint(atoi(name), <, 16);
        g_assert_cmpint(atoi(name), !=, 4); /* the control socket is closed after the start */
        count++;
    }
    g_assert_true(dir == NULL || count == 4);
    (void)secret;
    guest_fini(&g);
    net->ops->close(net);
    g_main_context_unref(context);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/io/slirp/forward-parse", test_parse);
    g_test_add_func("/io/slirp/busy-port-names-owner", test_busy_port);
    g_test_add_func("/io/slirp/mac", test_mac);
    g_test_add_func("/io/slirp/dhcp", test_dhcp);
    g_test_add_func("/io/slirp/tcp-echo", test_tcp_echo);
    g_test_add_func("/io/slirp/no-room", test_no_room);
    g_test_add_func("/io/slirp/forward-picks-port", test_forward_picks_port);
    g_test_add_func("/io/slirp/forward-udp", test_forward_udp);
    g_test_add_func("/io/slirp/forward-ip6", test_forward_ip6);
    g_test_add_func("/io/slirp/gives-up", test_gives_up);
    g_test_add_func("/io/slirp/supervisor-killed", test_supervisor_killed);
    g_test_add_func("/io/slirp/helper-killed", test_helper_killed);
    g_test_add_func("/io/slirp/descriptors", test_descriptors);
    return g_test_run();
}
