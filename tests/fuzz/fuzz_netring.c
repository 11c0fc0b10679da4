/* SPDX-License-Identifier: MIT */
/*
 * A hostile vif front end of one to four queues: the input is a program for it, one byte per
 * operation and queue followed by what that needs. Nothing it does may crash the back end, make
 * it loop, or leave grants mapped.
 */
#include <string.h>

#include "base/report.h"
#include "fuzz.h"
#include "vif_front.h"

struct program {
    const uint8_t *data;
    size_t size;
};

/* The next n bytes of the program, zeros after its end. */
static void take(struct program *p, void *buf, size_t n)
{
    size_t got = MIN(n, p->size);

    memset(buf, 0, n);
    memcpy(buf, p->data, got);
    p->data += got;
    p->size -= got;
}

static uint8_t take8(struct program *p)
{
    uint8_t v;

    take(p, &v, sizeof(v));
    return v;
}

static uint32_t take32(struct program *p)
{
    uint32_t v;

    take(p, &v, sizeof(v));
    return v;
}

/* A data slot that is mostly right. */
static void op_tx_good(struct vif_front *f, struct program *p)
{
    struct netif_tx_request req = {.gref = VIF_DATA_PAGE + take8(p) % 8};

    req.flags = take8(p) & 0xf;
    req.size = (uint16_t)(take8(p) * 16);
    req.id = (uint16_t)f->q->tx_prod;
    vif_tx_put(f, &req, sizeof(req));
}

static void op_tx_gso(struct vif_front *f, struct program *p)
{
    struct netif_extra_info extra = {.type = take8(p) % 6, .flags = take8(p) % 2};

    extra.u.gso.size = (uint16_t)(take8(p) * 8);
    extra.u.gso.type = take8(p) % 4;
    vif_tx_put(f, &extra, sizeof(extra));
}

static void op_deliver(struct vif_front *f, struct program *p)
{
    static uint8_t frame[NET_MAX_FRAME];
    uint8_t kind = take8(p);
    size_t len = take32(p) % (sizeof(frame) + 1);
    struct net_offload off = {.needs_csum = kind & 1,
                              .csum_valid = kind & 2,
                              .gso = (kind >> 2) % 3,
                              .gso_size = (uint16_t)take32(p)};

    take(p, frame, 64);
    if (f->net.held == NULL) {
        vif_deliver(f, frame, len, off);
    }
}

static void op_state(struct vif_front *f)
{
    struct state *save = state_new_save(), *load;
    const void *data;
    size_t len;

    g_mutex_lock(&f->fb->board.lock);
    netback_state(f->nb, save);
    data = state_data(save, &len);
    load = state_new_load(data, len);
    netback_state(f->nb, load);
    g_mutex_unlock(&f->fb->board.lock);
    state_free(save);
    state_free(load);
}

static void op_run(struct vif_front *f, struct program *p)
{
    uint8_t slot[12];
    unsigned op = take8(p), n;

    f->q = &f->queue[op / 14 % VIF_QUEUES];
    switch (op % 14) {
    case 0:
        take(p, slot, sizeof(slot));
        vif_tx_put(f, slot, sizeof(slot));
        break;
    case 1:
    case 2:
        op_tx_good(f, p);
        break;
    case 3:
        op_tx_gso(f, p);
        break;
    case 4:
        for (n = take8(p); n > 0; n--) {
            vif_rx_put(f, (uint16_t)n, VIF_DATA_PAGE + n);
        }
        break;
    case 5:
        vif_rx_put(f, take8(p), take32(p));
        break;
    case 6:
        vif_tx_kick(f);
        break;
    case 7:
        vif_rx_kick(f);
        break;
    case 8:
        op_deliver(f, p);
        break;
    case 9:
        n = take8(p);
        f->q->tx_prod += n & 0xf0 ? n : take32(p);
        f->q->rx_prod += n & 0x0f ? n : take32(p);
        break;
    case 10:
        vif_page(f, VIF_TX_PAGE + take8(p) % 20)[take32(p) % MEM_PAGE_SIZE] = take8(p);
        break;
    case 11:
        vif_set_state(f, take8(p) % 10);
        break;
    case 12:
        n = take8(p);
        vif_connect(f, n & 1, n & 2, n & 4, n & 8);
        if (n >> 4) {
            vif_start_over(f);
            vif_prepare(f, 1 + (n >> 4) % VIF_QUEUES, n & 1);
            vif_set_state(f, XenbusStateConnected);
        }
        break;
    default:
        op_state(f);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vif_front front; /* kept from input to input: making a guest is slow */
    struct program p = {data, size};

    if (front.fb == NULL) {
        report_set_quiet(true);
        vif_front_init(&front);
    }
    for (uint32_t ref = VIF_TX_PAGE; ref < VIF_READONLY_PAGE; ref++) {
        vif_grant(&front, ref, ref == VIF_BAD_REF ? 0 : GTF_permit_access, ref);
    }
    vif_connect(&front, size & 1, true, size & 2, size & 4);
    while (p.size > 0) {
        op_run(&front, &p);
    }
    vif_set_state(&front, XenbusStateClosed);
    front.net.held = NULL;
    g_assert_cmpuint(gnttab_mapped(front.d), ==, 0);
    return 0;
}
