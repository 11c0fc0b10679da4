/* SPDX-License-Identifier: MIT */
/*
 * vif back end: nodes, connection and state; netback_queue.c has the rings, netback_tx.c and
 * netback_rx.c move the frames. xen/io/netif.h and docs/xen.md name the keys. Everything the front end writes is checked here
 * once, when it connects.
 */
#include "pv/netback.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "pv/netback_priv.h"

static struct netback *netback_of(struct xenbus_device *dev)
{
    return (struct netback *)dev;
}

static void netback_publish(struct xenbus_device *dev)
{
    struct netback *nb = netback_of(dev);
    const uint8_t *m = nb->net->mac;
    g_autofree char *mac = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2],
                                           m[3], m[4], m[5]);
    unsigned gso = nb->net->tx_gso, csum = nb->net->tx_csum;

    xenbus_front_write(dev, "mac", "%s", mac);
    xenbus_front_write(dev, "handle", "%u", dev->id);
    xenbus_front_write(dev, "mtu", "%u", nb->net->mtu);
    xenbus_back_write(dev, "mac", "%s", mac);
    xenbus_back_write(dev, "handle", "%u", dev->id);
    xenbus_back_write(dev, "type", "vif");
    xenbus_back_write(dev, "script", "%s", "");
    xenbus_back_write(dev, "feature-rx-copy", "1");
    xenbus_back_write(dev, "feature-rx-flip", "0");
    xenbus_back_write(dev, "feature-rx-notify", "1");
    xenbus_back_write(dev, "feature-sg", "1");
    xenbus_back_write(dev, "feature-gso-tcpv4", "%u", gso);
    xenbus_back_write(dev, "feature-gso-tcpv6", "%u", gso);
    xenbus_back_write(dev, "feature-ipv6-csum-offload", "%u", csum);
    xenbus_back_write(dev, "feature-split-event-channels", "1");
    xenbus_back_write(dev, "feature-multicast-control", "0");
    xenbus_publish_queues(dev);
}

/* A 0/1 key; absent is 0. */
static bool netback_front_flag(struct xenbus_device *dev, const char *key)
{
    uint64_t value;

    return xenbus_front_uint(dev, key, 1, &value) && value == 1;
}

static bool netback_attach(struct netback *nb, GError **err)
{
    struct xenbus_device *dev = &nb->dev;

    if (!netback_front_flag(dev, "request-rx-copy")) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "the front end does not ask for request-rx-copy, and page flipping "
                         "is not offered");
    }
    nb->front_sg = netback_front_flag(dev, "feature-sg");
    nb->front_gso4 = netback_front_flag(dev, "feature-gso-tcpv4");
    nb->front_gso6 = netback_front_flag(dev, "feature-gso-tcpv6");
    nb->front_no_csum = netback_front_flag(dev, "feature-no-csum-offload");
    nb->attached = netback_queues_open(nb, err);
    return nb->attached;
}

static bool netback_connect(struct xenbus_device *dev, GError **err)
{
    struct netback *nb = netback_of(dev);

    if (!netback_attach(nb, err)) {
        return false;
    }
    xenbus_back_write(dev, "hotplug-status", "connected");
    netback_queues_start(nb);
    log_debug(LOG_PV, "vif %u: connected, %u queue%s, %s event channels%s%s", dev->id,
              nb->nr_queues, nb->nr_queues > 1 ? "s" : "", nb->queue[0].split ? "two" : "one",
              nb->front_sg ? ", sg" : "", nb->front_gso4 ? ", gso" : "");
    return true;
}

static bool netback_disconnect(struct xenbus_device *dev)
{
    struct netback *nb = netback_of(dev);

    nb->attached = false;
    netback_queues_close(nb);
    nb->net->ops->rx_ready(nb->net); /* what was held back is dropped now */
    return true;
}

/* Rings and channels are found again through the front end's keys; requests that were taken but
 * not answered are still in their slots. */
static void netback_dev_state(struct xenbus_device *dev, struct state *s)
{
    struct netback *nb = netback_of(dev);
    bool attached = nb->attached;

    state_bool(s, "attached", &attached);
    if (!state_loading(s) || !state_ok(s)) {
        return;
    }
    if (attached != dev->connected) {
        state_fail(s, "vif: attached and connected disagree");
        return;
    }
    if (!attached) {
        return;
    }
    if (!netback_attach(nb, NULL)) {
        state_fail(s, "vif: the front end's rings or channels are not there");
        return;
    }
    for (unsigned i = 0; i < nb->nr_queues; i++) {
        ring_attach(&nb->queue[i].tx);
        ring_attach(&nb->queue[i].rx);
    }
    netback_queues_start(nb);
}

static void netback_unplugged(struct xenbus_device *dev)
{
    struct board *b = dev->domain->board;

    b->ops->post(b, &netback_of(dev)->unplug_work);
}

static void netback_unplug_run(void *opaque)
{
    struct netback *nb = opaque;

    xenbus_device_withdraw(&nb->dev);
}

static const struct xenbus_type netback_type = {
    .name = "vif",
    .publish = netback_publish,
    .connect = netback_connect,
    .disconnect = netback_disconnect,
    .state = netback_dev_state,
    .unplugged = netback_unplugged,
};

static void netback_link(void *opaque, bool up)
{
    struct netback *nb = opaque;

    nb->link_up = up;
    log_debug(LOG_PV, "vif %u: link %s", nb->dev.id, up ? "up" : "down");
    if (!up && nb->net->gone && !nb->dev.unplugging) {
        xenbus_device_unplug(&nb->dev);
    }
}

struct netback *netback_new(struct pv_domain *d, struct net *net, unsigned index, GError **err)
{
    struct netback *nb;

    if (index >= NETBACK_MAX_CARDS) {
        error_set(err, PVEMU_ERROR_LIMIT, "more than %d network cards", NETBACK_MAX_CARDS);
        return NULL;
    }
    nb = g_new0(struct netback, 1);
    nb->net = net;
    nb->link_up = true;
    nb->unplug_work.fn = netback_unplug_run;
    nb->unplug_work.opaque = nb;
    netback_queues_init(nb);
    xenbus_device_init(&nb->dev, &netback_type, d, index);
    net->ops->set_rx(net, netback_rx, netback_link, nb);
    return nb;
}

void netback_free(struct netback *nb)
{
    if (nb == NULL) {
        return;
    }
    nb->net->ops->set_rx(nb->net, NULL, NULL, NULL);
    xenbus_device_fini(&nb->dev);
    g_free(nb);
}

void netback_reset(struct netback *nb)
{
    if (nb->net->gone) {
        xenbus_device_withdraw(&nb->dev);
    } else {
        xenbus_device_reset(&nb->dev);
    }
}

void netback_state(struct netback *nb, struct state *s)
{
    xenbus_device_state(&nb->dev, s);
}

void netback_get_stats(const struct netback *nb, struct netback_stats *stats)
{
    *stats = nb->stats;
}
