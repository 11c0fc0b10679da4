/* SPDX-License-Identifier: MIT */
/*
 * pvemu's end of a user network: net_ops over a frame channel to the network process. One
 * GSource watches the channel and the supervisor's control socket. When the card has no room,
 * reception stops; the socket and then the helper's queue fill, and the host's sockets feel it.
 * Sending never waits: beyond 512 KiB of backlog frames are dropped.
 */
#include "io/net_slirp.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib-unix.h>
#include <slirp/libslirp.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/log.h"
#include "base/report.h"
#include "io/net_chan.h"
#include "io/slirp_helper.h"

enum {
    SLIRP_QUEUE_BYTES = 512 * 1024,
    SLIRP_BATCHES_PER_TURN = 4,
    SLIRP_DEFAULT_RESTARTS = 8,
    SLIRP_START_MS = 10000,
    SLIRP_END_MS = 2000,
    SLIRP_MIN_MTU = 576,
    SLIRP_MAX_MTU = 9000,
};

struct slirp_net {
    struct net net; /* first */
    struct net_chan chan;
    int control_fd;
    pid_t supervisor, helper;
    int supervisor_fd; /* pidfd; -1: the kernel has none */
    bool up;
    bool blocked;   /* the card refused a frame: wait for rx_ready */
    net_rx_fn rx;
    net_link_fn link;
    void *opaque;
    GMutex *lock;
    struct slirp_source *source;
};

struct slirp_source {
    GSource source; /* first */
    struct slirp_net *owner;
    void *data_tag, *control_tag;
};

static void slirp_watch(struct slirp_net *s)
{
    if (s->source->data_tag == NULL) {
        return;
    }
    g_source_modify_unix_fd(&s->source->source, s->source->data_tag,
                            (s->blocked ? 0 : G_IO_IN) | (s->chan.queued > 0 ? G_IO_OUT : 0));
}

static bool slirp_send(struct net *net, const uint8_t *frame, size_t len,
                       const struct net_offload *off)
{
    struct slirp_net *s = (struct slirp_net *)net;
    bool waiting = s->chan.queued > 0, sent;

    if (!s->up) {
        return false;
    }
    sent = net_chan_send(&s->chan, frame, len, off);
    if (!waiting && s->chan.queued > 0) {
        slirp_watch(s);
    }
    return sent;
}

static void slirp_set_rx(struct net *net, net_rx_fn rx, net_link_fn link, void *opaque)
{
    struct slirp_net *s = (struct slirp_net *)net;

    s->rx = rx;
    s->link = link;
    s->opaque = opaque;
    s->blocked = false;
    slirp_watch(s);
}

/* Gives the card what was received; false when it refused a frame. */
static bool slirp_deliver(struct slirp_net *s)
{
    struct net_offload off;
    uint8_t *frame;
    size_t len;

    while ((frame = net_chan_peek(&s->chan, &len, &off)) != NULL) {
        if (s->rx != NULL && !s->rx(s->opaque, frame, len, &off)) {
            return false;
        }
        net_chan_pop(&s->chan);
    }
    return true;
}

static void slirp_set_link(struct slirp_net *s, bool up)
{
    if (s->up == up) {
        return;
    }
    s->up = up;
    if (!up) {
        s->helper = 0;
        net_chan_clear(&s->chan);
        s->blocked = false;
    }
    if (s->link != NULL) {
        s->link(s->opaque, up);
    }
}

/* Nothing will start it again. */
static void slirp_gone(struct slirp_net *s, const char *why)
{
    bool was_up = s->up;

    if (s->net.gone) {
        return;
    }
    report_warn("net: %s; the guest's card is taken away", why);
    s->net.gone = true;
    slirp_set_link(s, false);
    if (!was_up && s->link != NULL) {
        s->link(s->opaque, false);
    }
}

/* The supervisor itself died. */
static void slirp_lost(struct slirp_net *s)
{
    if (s->source->data_tag == NULL) {
        return;
    }
    g_source_remove_unix_fd(&s->source->source, s->source->data_tag);
    g_source_remove_unix_fd(&s->source->source, s->source->control_tag);
    s->source->data_tag = s->source->control_tag = NULL;
    slirp_gone(s, "the user network is gone");
}

static void slirp_receive(struct slirp_net *s)
{
    for (unsigned i = 0; i < SLIRP_BATCHES_PER_TURN && !s->blocked; i++) {
        if (!net_chan_receive(&s->chan)) {
            slirp_lost(s);
            return;
        }
        if (s->chan.filled == 0) {
            return;
        }
        s->blocked = !slirp_deliver(s);
    }
}

static void slirp_rx_ready(struct net *net)
{
    struct slirp_net *s = (struct slirp_net *)net;

    if (s->blocked) {
        s->blocked = !slirp_deliver(s);
        slirp_watch(s);
    }
}

static void slirp_handle_message(struct slirp_net *s, const struct slirp_message *m)
{
    switch (m->event) {
    case SLIRP_EVENT_UP:
        s->helper = m->pid;
        slirp_set_link(s, true);
        break;
    case SLIRP_EVENT_DOWN:
        if (s->up && WIFEXITED(m->value) && WEXITSTATUS(m->value) == SLIRP_EXIT_RESOLVER) {
            report_note("net: this host's list of name servers was replaced; the user network "
                        "starts again, its connections are lost");
        } else if (s->up) {
            report_warn("net: the user network's process %d ended (status 0x%x); it is started "
                        "again, its connections are lost", m->pid, (unsigned)m->value);
        }
        slirp_set_link(s, false);
        break;
    case SLIRP_EVENT_GAVE_UP:
        slirp_gone(s, "the user network's process ended too often");
        break;
    default:
        log_debug(LOG_IO, "net: helper event %d, errno %d, forward %d", m->event, m->value,
                  m->index);
        break;
    }
}

static void slirp_control(struct slirp_net *s)
{
    struct slirp_message m;
    ssize_t n = recv(s->control_fd, &m, sizeof(m), MSG_DONTWAIT);

    if (n == (ssize_t)sizeof(m)) {
        slirp_handle_message(s, &m);
    } else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        slirp_lost(s);
    }
}

static gboolean slirp_source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    struct slirp_source *src = (struct slirp_source *)source;
    struct slirp_net *s = src->owner;
    GIOCondition io, control;

    (void)callback, (void)data;
    if (src->data_tag == NULL) {
        return G_SOURCE_CONTINUE;
    }
    io = g_source_query_unix_fd(source, src->data_tag);
    control = g_source_query_unix_fd(source, src->control_tag);
    if (s->lock != NULL) {
        g_mutex_lock(s->lock);
    }
    if (io & G_IO_OUT) {
        net_chan_flush(&s->chan);
    }
    if (control != 0) {
        slirp_control(s);
    }
    if (io & (G_IO_IN | G_IO_HUP | G_IO_ERR)) {
        slirp_receive(s);
    }
    if (io != 0) {
        slirp_watch(s);
    }
    if (s->lock != NULL) {
        g_mutex_unlock(s->lock);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs slirp_source_funcs = {.dispatch = slirp_source_dispatch};

static void slirp_attach(struct slirp_net *s, GMainContext *context)
{
    GSource *source = g_source_new(&slirp_source_funcs, sizeof(struct slirp_source));

    s->source = (struct slirp_source *)source;
    s->source->owner = s;
    s->source->data_tag = g_source_add_unix_fd(source, s->chan.fd, G_IO_IN);
    s->source->control_tag = g_source_add_unix_fd(source, s->control_fd, G_IO_IN);
    g_source_set_name(source, "net-slirp");
    g_source_attach(source, context);
}

/* The supervisor ends by itself once its control socket is closed, and takes the network
 * process along; the signal is for one that hangs. */
static void slirp_reap(struct slirp_net *s)
{
    struct pollfd p = {.fd = s->supervisor_fd, .events = POLLIN};

    if (s->supervisor > 0) {
        if (s->supervisor_fd < 0 || poll(&p, 1, SLIRP_END_MS) <= 0) {
            kill(s->supervisor, SIGKILL);
        }
        while (waitpid(s->supervisor, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (s->supervisor_fd >= 0) {
        close(s->supervisor_fd);
    }
}

static void slirp_close(struct net *net)
{
    struct slirp_net *s = (struct slirp_net *)net;

    if (s->source != NULL) {
        g_source_destroy(&s->source->source);
        g_source_unref(&s->source->source);
    }
    if (s->control_fd >= 0) {
        close(s->control_fd);
    }
    net_chan_fini(&s->chan);
    slirp_reap(s);
    g_free(s);
}

static const struct net_ops slirp_ops = {
    .name = "user",
    .send = slirp_send,
    .set_rx = slirp_set_rx,
    .rx_ready = slirp_rx_ready,
    .close = slirp_close,
};

/* Waits for the first word from the network process. */
static bool slirp_await_start(struct slirp_net *s, const struct slirp_setup *setup,
                              GError **err)
{
    struct pollfd p = {.fd = s->control_fd, .events = POLLIN};
    struct slirp_message m = {0};
    ssize_t n;

    while (poll(&p, 1, SLIRP_START_MS) < 0 && errno == EINTR) {
    }
    n = recv(s->control_fd, &m, sizeof(m), MSG_DONTWAIT);
    if (n == (ssize_t)sizeof(m) && m.event == SLIRP_EVENT_UP) {
        s->helper = m.pid;
        s->up = true;
        return true;
    }
    if (n == (ssize_t)sizeof(m) && m.event == SLIRP_EVENT_FAILED && m.index >= 0 &&
        (unsigned)m.index < setup->nr_forwards) {
        return net_forward_error(&setup->forwards[m.index], m.value, err);
    }
    return error_set(err, PVEMU_ERROR_HOST, "cannot start the user network's process: %s",
                     n == (ssize_t)sizeof(m) ? "libslirp refused" : "it does not answer");
}

static bool slirp_start(struct slirp_net *s, const struct slirp_setup *setup, GError **err)
{
    int data[2] = {-1, -1}, control[2] = {-1, -1};
    sigset_t all, old;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, data) < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot make a socket pair: %s",
                         g_strerror(errno));
    }
    net_chan_init(&s->chan, data[0], SLIRP_QUEUE_BYTES, setup->mtu + 64u, NET_CHAN_MAX_BATCH);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) {
        close(data[1]);
        return error_set(err, PVEMU_ERROR_HOST, "cannot make a socket pair: %s",
                         g_strerror(errno));
    }
    s->control_fd = control[0];
    sigfillset(&all); /* no handler of ours may run in the child */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    s->supervisor = fork();
    if (s->supervisor == 0) {
        slirp_supervise(setup, data[1], control[1]);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(data[1]);
    close(control[1]);
    if (s->supervisor < 0) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot start the user network's process: %s",
                         g_strerror(errno));
    }
    s->supervisor_fd = (int)syscall(SYS_pidfd_open, s->supervisor, 0);
    return slirp_await_start(s, setup, err);
}

static bool slirp_check(const struct net_slirp_options *o, GError **err)
{
    if (o->nr_forwards > NET_FORWARD_MAX) {
        return error_set(err, PVEMU_ERROR_LIMIT, "-p: more than %d port forwards",
                         NET_FORWARD_MAX);
    }
    if (o->mtu != 0 && (o->mtu < SLIRP_MIN_MTU || o->mtu > SLIRP_MAX_MTU)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-net user: mtu %u is not from %d to %d",
                         o->mtu, SLIRP_MIN_MTU, SLIRP_MAX_MTU);
    }
    return net_forward_probe(o->forwards, o->nr_forwards, err);
}

struct net *net_slirp_open(const struct net_slirp_options *o, GError **err)
{
    static const uint8_t no_mac[6];
    struct slirp_net *s;
    g_autofree struct slirp_setup *setup = g_new0(struct slirp_setup, 1);

    if (!slirp_check(o, err)) {
        return NULL;
    }
    s = g_new0(struct slirp_net, 1);
    s->net.ops = &slirp_ops;
    s->net.mtu = o->mtu != 0 ? o->mtu : 1500;
    s->net.tx_csum = s->net.tx_gso = true;
    s->chan.fd = s->control_fd = s->supervisor_fd = -1;
    s->lock = o->lock;
    if (memcmp(o->mac, no_mac, sizeof(no_mac)) != 0) {
        memcpy(s->net.mac, o->mac, sizeof(s->net.mac));
    } else {
        net_derive_mac(o->name, o->index, s->net.mac);
    }
    memcpy(setup->mac, s->net.mac, sizeof(setup->mac));
    setup->mtu = s->net.mtu;
    setup->max_restarts = o->max_restarts != 0 ? o->max_restarts : SLIRP_DEFAULT_RESTARTS;
    setup->sandbox = o->sandbox;
    setup->nr_forwards = o->nr_forwards;
    for (unsigned i = 0; i < o->nr_forwards; i++) {
        setup->forwards[i] = o->forwards[i];
    }
    if (!slirp_start(s, setup, err)) {
        slirp_close(&s->net);
        return NULL;
    }
    slirp_attach(s, o->context);
    return &s->net;
}

pid_t net_slirp_pid(const struct net *net)
{
    return ((const struct slirp_net *)net)->helper;
}

pid_t net_slirp_supervisor(const struct net *net)
{
    return net->ops == &slirp_ops ? ((const struct slirp_net *)net)->supervisor : 0;
}

const char *net_slirp_version(void)
{
    return slirp_version_string();
}
