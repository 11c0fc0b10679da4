/* SPDX-License-Identifier: MIT */
/* See vif_front.h. Slots are written as bytes, at the offsets of xen-abi 6.5, not with our own
 * ring code. */
#include "vif_front.h"

#include <string.h>

enum { RING_HEADER = 64, TX_SLOT = 12, RX_SLOT = 8, RING_REQ_PROD = 0, RING_RSP_PROD = 8 };

static bool vif_net_send(struct net *net, const uint8_t *frame, size_t len,
                         const struct net_offload *off)
{
    struct vif_net *n = (struct vif_net *)net;

    if (n->refuse) {
        return false;
    }
    g_assert_cmpuint(len, <=, sizeof(n->last));
    memcpy(n->last, frame, len);
    n->last_len = len;
    n->last_off = *off;
    n->sent++;
    return true;
}

static void vif_net_set_rx(struct net *net, net_rx_fn rx, net_link_fn link, void *opaque)
{
    struct vif_net *n = (struct vif_net *)net;

    n->rx = rx;
    n->link = link;
    n->opaque = opaque;
}

static void vif_net_rx_ready(struct net *net)
{
    struct vif_net *n = (struct vif_net *)net;

    n->ready++;
    if (n->held != NULL &&
        (n->rx == NULL || n->rx(n->opaque, n->held, n->held_len, &n->held_off))) {
        n->held = NULL;
    }
}

static const struct net_ops vif_net_ops = {
    .name = "test", .send = vif_net_send, .set_rx = vif_net_set_rx,
    .rx_ready = vif_net_rx_ready,
};

void vif_grant(struct vif_front *f, uint32_t ref, uint16_t flags, uint32_t gfn)
{
    grant_entry_v1_t *table = mem_frame_hva(f->d->mem,
                                            mem_extra_frame(f->d->mem, PV_FRAME_GRANT0));

    g_assert_cmpuint(ref, <, MEM_PAGE_SIZE / sizeof(*table));
    table[ref] = (grant_entry_v1_t){.flags = flags, .domid = 0, .frame = gfn};
}

uint8_t *vif_page(struct vif_front *f, uint32_t gfn)
{
    return mem_page(f->d->mem, gfn);
}

void vif_front_init(struct vif_front *f)
{
    static const struct pv_memory_range map = {.start = 0, .len = VIF_RAM, .type = 1};
    const struct pv_domain_config config = {
        .kind = PV_KIND_PVH, .name = "vif", .nr_vcpus = 1, .max_vcpus = VIF_QUEUES,
        .tsc_hz = 1000000000, .map = &map, .map_len = 1,
    };

    memset(f, 0, sizeof(*f));
    f->fb = fake_board_new(VIF_QUEUES, VIF_RAM, PV_EXTRA_FRAMES);
    g_mutex_lock(&f->fb->board.lock);
    f->d = pv_domain_new(&f->fb->board, &config, NULL);
    g_assert_nonnull(f->d);
    for (uint32_t ref = VIF_TX_PAGE; ref < VIF_READONLY_PAGE; ref++) {
        vif_grant(f, ref, ref == VIF_BAD_REF ? 0 : GTF_permit_access, ref);
    }
    for (uint32_t i = 0; i < VIF_QUEUES; i++) {
        struct vif_queue *q = &f->queue[i];

        q->tx_page = i == 0 ? VIF_TX_PAGE : VIF_QUEUE_PAGE + i * 2;
        q->rx_page = i == 0 ? VIF_RX_PAGE : VIF_QUEUE_PAGE + i * 2 + 1;
        vif_grant(f, q->tx_page, GTF_permit_access, q->tx_page);
        vif_grant(f, q->rx_page, GTF_permit_access, q->rx_page);
    }
    f->q = &f->queue[0];
    vif_grant(f, VIF_READONLY_PAGE, GTF_permit_access | GTF_readonly, VIF_READONLY_PAGE);
    f->net.net = (struct net){.ops = &vif_net_ops, .mtu = 1500, .tx_csum = true, .tx_gso = true,
                              .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56}};
    f->nb = netback_new(f->d, &f->net.net, 0, NULL);
    g_assert_nonnull(f->nb);
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_run(f->fb);
}

void vif_front_fini(struct vif_front *f)
{
    fake_board_run(f->fb);
    g_mutex_lock(&f->fb->board.lock);
    netback_free(f->nb);
    g_assert_cmpuint(gnttab_mapped(f->d), ==, 0);
    pv_domain_free(f->d);
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_free(f->fb);
}

void vif_write(struct vif_front *f, const char *key, const char *fmt, ...)
{
    g_autofree char *path = g_strdup_printf("/local/domain/1/device/vif/0/%s", key);
    g_autofree char *value = NULL;
    va_list ap;

    va_start(ap, fmt);
    value = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_mutex_lock(&f->fb->board.lock);
    xs_write(f->d->xenstore, path, "%s", value);
    g_mutex_unlock(&f->fb->board.lock);
}

int vif_back_state(struct vif_front *f)
{
    uint64_t state = 0;

    g_mutex_lock(&f->fb->board.lock);
    g_assert_true(xs_read_uint(f->d->xenstore, "/local/domain/0/backend/vif/1/0/state", 8,
                               &state));
    g_mutex_unlock(&f->fb->board.lock);
    return (int)state;
}

void vif_set_state(struct vif_front *f, int state)
{
    vif_write(f, "state", "%d", state);
    fake_board_run(f->fb);
}

void vif_start_over(struct vif_front *f)
{
    vif_set_state(f, XenbusStateClosed);
    vif_set_state(f, XenbusStateInitialising);
}

static void vif_write_queue(struct vif_front *f, unsigned count, unsigned i, const char *name,
                            uint32_t value)
{
    g_autofree char *key = count > 1 ? g_strdup_printf("queue-%u/%s", i, name) : g_strdup(name);

    vif_write(f, key, "%u", value);
}

static void vif_prepare_queue(struct vif_front *f, unsigned count, unsigned i, bool split)
{
    struct vif_queue *q = &f->queue[i];

    memset(vif_page(f, q->tx_page), 0, MEM_PAGE_SIZE);
    memset(vif_page(f, q->rx_page), 0, MEM_PAGE_SIZE);
    *(uint32_t *)(void *)(vif_page(f, q->tx_page) + 12) = 1; /* rsp_event */
    *(uint32_t *)(void *)(vif_page(f, q->rx_page) + 12) = 1;
    q->tx_prod = q->rx_prod = 0;
    g_mutex_lock(&f->fb->board.lock);
    if (q->tx_port == 0) {
        q->tx_port = evtchn_alloc_for_host(f->d);
        q->rx_port = evtchn_alloc_for_host(f->d);
    }
    g_mutex_unlock(&f->fb->board.lock);
    vif_write_queue(f, count, i, "tx-ring-ref", q->tx_page);
    vif_write_queue(f, count, i, "rx-ring-ref", q->rx_page);
    if (split) {
        vif_write_queue(f, count, i, "event-channel-tx", q->tx_port);
        vif_write_queue(f, count, i, "event-channel-rx", q->rx_port);
    } else {
        vif_write_queue(f, count, i, "event-channel", q->tx_port);
    }
}

void vif_prepare(struct vif_front *f, unsigned count, bool split)
{
    for (unsigned i = 0; i < count; i++) {
        vif_prepare_queue(f, count, i, split);
    }
    f->q = &f->queue[0];
    vif_write(f, "multi-queue-num-queues", "%u", count);
    vif_write(f, "request-rx-copy", "1");
    vif_write(f, "feature-rx-notify", "1");
}

void vif_connect(struct vif_front *f, bool split, bool sg, bool gso, bool no_csum)
{
    if (vif_back_state(f) != XenbusStateInitWait) {
        vif_start_over(f);
    }
    vif_prepare(f, 1, split);
    vif_write(f, "feature-sg", "%d", sg);
    vif_write(f, "feature-gso-tcpv4", "%d", gso);
    vif_write(f, "feature-gso-tcpv6", "%d", gso);
    vif_write(f, "feature-no-csum-offload", "%d", no_csum);
    vif_set_state(f, XenbusStateConnected);
}

static void vif_put(struct vif_front *f, uint32_t page, unsigned slot_size, uint32_t index,
                    const void *slot, size_t size)
{
    memcpy(vif_page(f, page) + RING_HEADER + (index % NETBACK_RING_ENTRIES) * slot_size, slot,
           size);
}

void vif_tx_put(struct vif_front *f, const void *slot, size_t size)
{
    vif_put(f, f->q->tx_page, TX_SLOT, f->q->tx_prod++, slot, size);
}

void vif_rx_put(struct vif_front *f, uint16_t id, uint32_t ref)
{
    struct netif_rx_request req = {.id = id, .gref = ref};

    vif_put(f, f->q->rx_page, RX_SLOT, f->q->rx_prod++, &req, sizeof(req));
}

static void vif_publish(struct vif_front *f, uint32_t page, uint32_t prod)
{
    *(uint32_t *)(void *)(vif_page(f, page) + RING_REQ_PROD) = prod;
}

void vif_tx_kick(struct vif_front *f)
{
    struct evtchn_host *chan = &f->nb->queue[f->q - f->queue].tx_chan;

    vif_publish(f, f->q->tx_page, f->q->tx_prod);
    g_mutex_lock(&f->fb->board.lock);
    chan->notified(chan->opaque);
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_run(f->fb);
}

void vif_rx_kick(struct vif_front *f)
{
    struct evtchn_host *chan = &f->nb->queue[f->q - f->queue].rx_chan;

    vif_publish(f, f->q->rx_page, f->q->rx_prod);
    g_mutex_lock(&f->fb->board.lock);
    chan->notified(chan->opaque);
    g_mutex_unlock(&f->fb->board.lock);
    fake_board_run(f->fb);
}

uint32_t vif_rsp_prod(struct vif_front *f, uint32_t page)
{
    return *(uint32_t *)(void *)(vif_page(f, page) + RING_RSP_PROD);
}

struct netif_tx_response vif_tx_response(struct vif_front *f, unsigned index)
{
    struct netif_tx_response rsp;

    memcpy(&rsp, vif_page(f, f->q->tx_page) + RING_HEADER +
           (index % NETBACK_RING_ENTRIES) * TX_SLOT, sizeof(rsp));
    return rsp;
}

struct netif_rx_response vif_rx_response(struct vif_front *f, unsigned index)
{
    struct netif_rx_response rsp;

    memcpy(&rsp, vif_page(f, f->q->rx_page) + RING_HEADER +
           (index % NETBACK_RING_ENTRIES) * RX_SLOT, sizeof(rsp));
    return rsp;
}

bool vif_deliver(struct vif_front *f, const uint8_t *frame, size_t len, struct net_offload off)
{
    bool taken;

    g_mutex_lock(&f->fb->board.lock);
    taken = f->net.rx(f->net.opaque, frame, len, &off);
    if (!taken) {
        f->net.held = frame;
        f->net.held_len = len;
        f->net.held_off = off;
    }
    g_mutex_unlock(&f->fb->board.lock);
    return taken;
}
