/* SPDX-License-Identifier: MIT */
/*
 * Frames over a SOCK_SEQPACKET pair. The peer may be a process that a guest has taken over, so
 * a message is data to check: wrong lengths and flags are dropped here.
 */
#include "io/net_chan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHAN_NEEDS_CSUM = 1, CHAN_CSUM_VALID = 2, CHAN_FLUSH_BATCH = 16 };

void net_chan_init(struct net_chan *c, int fd, size_t max_queued, size_t max_frame,
                   unsigned batch)
{
    const int buffer_bytes = 1 << 20; /* the system clamps it to net.core.wmem_max */

    memset(c, 0, sizeof(*c));
    g_assert(batch >= 1 && batch <= NET_CHAN_MAX_BATCH);
    c->fd = fd;
    c->max_queued = max_queued;
    c->max_frame = max_frame;
    c->batch = batch;
    c->buffer = g_malloc(max_frame * batch);
    g_queue_init(&c->queue);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
}

void net_chan_clear(struct net_chan *c)
{
    g_queue_clear_full(&c->queue, (GDestroyNotify)g_bytes_unref);
    c->queued = 0;
    c->filled = c->next = 0;
}

void net_chan_fini(struct net_chan *c)
{
    net_chan_clear(c);
    g_free(c->buffer);
    c->buffer = NULL;
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

static bool chan_queue(struct net_chan *c, const struct net_chan_header *h,
                       const uint8_t *frame, size_t len)
{
    size_t size = sizeof(*h) + len;
    uint8_t *copy;

    if (c->queued + size > c->max_queued) {
        c->dropped++;
        return false;
    }
    copy = g_malloc(size);
    memcpy(copy, h, sizeof(*h));
    memcpy(copy + sizeof(*h), frame, len);
    g_queue_push_tail(&c->queue, g_bytes_new_take(copy, size));
    c->queued += size;
    return true;
}

bool net_chan_send(struct net_chan *c, const uint8_t *frame, size_t len,
                   const struct net_offload *off)
{
    struct net_chan_header h = {
        .flags = (uint8_t)((off->needs_csum ? CHAN_NEEDS_CSUM : 0) |
                           (off->csum_valid ? CHAN_CSUM_VALID : 0)),
        .gso = (uint8_t)off->gso, .gso_size = off->gso_size,
    };
    struct iovec iov[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)frame, len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (len == 0 || len > NET_MAX_FRAME) {
        return false;
    }
    if (!g_queue_is_empty(&c->queue)) {
        return chan_queue(c, &h, frame, len);
    }
    if (sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        return true;
    }
    if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        return false; /* the peer is gone; whoever receives will notice */
    }
    return chan_queue(c, &h, frame, len);
}

void net_chan_flush(struct net_chan *c)
{
    while (!g_queue_is_empty(&c->queue)) {
        struct mmsghdr msgs[CHAN_FLUSH_BATCH];
        struct iovec iov[CHAN_FLUSH_BATCH];
        unsigned count = 0;
        int sent;

        memset(msgs, 0, sizeof(msgs));
        for (GList *l = c->queue.head; l != NULL && count < CHAN_FLUSH_BATCH; l = l->next) {
            size_t size;

            iov[count].iov_base = (void *)(uintptr_t)g_bytes_get_data(l->data, &size);
            iov[count].iov_len = size;
            msgs[count].msg_hdr.msg_iov = &iov[count];
            msgs[count].msg_hdr.msg_iovlen = 1;
            count++;
        }
        sent = sendmmsg(c->fd, msgs, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
            sent = (int)count; /* nobody will ever read them */
        }
        for (int i = 0; i < sent; i++) {
            GBytes *bytes = g_queue_pop_head(&c->queue);

            c->queued -= g_bytes_get_size(bytes);
            g_bytes_unref(bytes);
        }
        if (sent < (int)count) {
            return;
        }
    }
}

bool net_chan_receive(struct net_chan *c)
{
    struct mmsghdr msgs[NET_CHAN_MAX_BATCH];
    struct iovec iov[NET_CHAN_MAX_BATCH][2];
    int got;

    if (c->next < c->filled) {
        return true;
    }
    c->next = c->filled = 0;
    memset(msgs, 0, sizeof(msgs));
    for (unsigned i = 0; i < c->batch; i++) {
        iov[i][0] = (struct iovec){&c->headers[i], sizeof(c->headers[i])};
        iov[i][1] = (struct iovec){c->buffer + i * c->max_frame, c->max_frame};
        msgs[i].msg_hdr.msg_iov = iov[i];
        msgs[i].msg_hdr.msg_iovlen = 2;
    }
    got = recvmmsg(c->fd, msgs, c->batch, MSG_DONTWAIT, NULL);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    for (int i = 0; i < got; i++) {
        size_t len = msgs[i].msg_len;

        if (len == 0) {
            return i > 0; /* end of stream; seen again by the next call */
        }
        c->lengths[i] = len <= sizeof(c->headers[i]) || (msgs[i].msg_hdr.msg_flags & MSG_TRUNC)
                            ? 0 : len - sizeof(c->headers[i]);
        c->filled++;
    }
    return got > 0;
}

uint8_t *net_chan_peek(struct net_chan *c, size_t *len, struct net_offload *off)
{
    for (; c->next < c->filled; c->next++) {
        const struct net_chan_header *h = &c->headers[c->next];

        if (c->lengths[c->next] == 0 || h->gso > NET_GSO_TCP6) {
            continue;
        }
        *len = c->lengths[c->next];
        *off = (struct net_offload){
            .needs_csum = (h->flags & CHAN_NEEDS_CSUM) != 0,
            .csum_valid = (h->flags & CHAN_CSUM_VALID) != 0,
            .gso = (enum net_gso)h->gso, .gso_size = h->gso_size,
        };
        return c->buffer + c->next * c->max_frame;
    }
    return NULL;
}

void net_chan_pop(struct net_chan *c)
{
    g_assert(c->next < c->filled);
    c->next++;
}
