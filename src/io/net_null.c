/* SPDX-License-Identifier: MIT */
/*
 * A card without a network: the cable leads nowhere. Also here: the address a card gets when
 * the user names none.
 */
#include "io/net_slirp.h"

#include <string.h>

struct null_net {
    struct net net; /* first */
};

static bool null_send(struct net *net, const uint8_t *frame, size_t len,
                      const struct net_offload *off)
{
    (void)net, (void)frame, (void)len, (void)off;
    return true;
}

static void null_set_rx(struct net *net, net_rx_fn rx, net_link_fn link, void *opaque)
{
    (void)net, (void)rx, (void)link, (void)opaque;
}

static void null_rx_ready(struct net *net)
{
    (void)net;
}

static void null_close(struct net *net)
{
    g_free(net);
}

static const struct net_ops null_ops = {
    .name = "none",
    .send = null_send,
    .set_rx = null_set_rx,
    .rx_ready = null_rx_ready,
    .close = null_close,
};

struct net *net_null_open(const uint8_t mac[6])
{
    struct null_net *n = g_new0(struct null_net, 1);

    n->net.ops = &null_ops;
    n->net.mtu = 1500;
    n->net.tx_csum = n->net.tx_gso = true;
    memcpy(n->net.mac, mac, sizeof(n->net.mac));
    return &n->net;
}

void net_derive_mac(const char *name, unsigned index, uint8_t mac[6])
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (const char *p = name != NULL ? name : "pvemu"; *p != '\0'; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    hash ^= hash >> 24;
    hash += index;
    mac[0] = 0x52;
    mac[1] = 0x54;
    mac[2] = 0x00;
    mac[3] = (uint8_t)(hash >> 16);
    mac[4] = (uint8_t)(hash >> 8);
    mac[5] = (uint8_t)hash;
}
