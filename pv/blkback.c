/* SPDX-License-Identifier: MIT */
/*
 * The life of a vbd back end: its nodes, the connection to a front end, and the ends of it
 * (reconnect, kexec, reboot, misbehaviour, save and load). Follows xen-abi 6.2 and 6.4.
 *
 * A connection is only taken down when no request is in flight, because each holds pages of the
 * guest; until then the device is `draining` and takes no requests. Left out: secure discard,
 * CD-ROM commands.
 */
#include "pv/blkback.h"

#include "base/error.h"
#include "base/log.h"
#include "pv/blkback_priv.h"
#include "pv/xen_abi.h"

enum {
    BLK_XVD_MAJOR = 202,
    BLK_XVD_PARTITIONS = 16, /* xvda .. xvdp: minors of 16 each */
    BLK_EXT_SHIFT = 28,      /* from xvdq on: 256 minors each, in a space of their own */
};

static struct blkback *blkback_of(struct xenbus_device *dev)
{
    return (struct blkback *)dev;
}

static unsigned blkback_vdev(unsigned index)
{
    if (index < BLK_XVD_PARTITIONS) {
        return BLK_XVD_MAJOR << 8 | index << 4;
    }
    return 1u << BLK_EXT_SHIFT | index << 8;
}

/* xvda .. xvdz, xvdaa ..: as Linux counts. */
static char *blkback_make_dev_name(unsigned index)
{
    if (index < 26) {
        return g_strdup_printf("xvd%c", 'a' + index);
    }
    return g_strdup_printf("xvd%c%c", 'a' + index / 26 - 1, 'a' + index % 26);
}

/* --- Nodes --- */

static void blkback_publish_features(struct blkback *b)
{
    struct xenbus_device *dev = &b->xb;
    bool discard = b->blk->can_discard && !b->blk->read_only;

    xenbus_back_write(dev, "feature-flush-cache", "1");
    xenbus_back_write(dev, "feature-barrier", "1");
    xenbus_back_write(dev, "feature-persistent", "%d", b->offer_persistent);
    xenbus_back_write(dev, "feature-max-indirect-segments", "%d", BLK_MAX_INDIRECT);
    xenbus_back_write(dev, "max-ring-page-order", "%d", BLK_MAX_RING_ORDER);
    xenbus_publish_queues(dev);
    xenbus_back_write(dev, "feature-discard", "%d", discard);
    if (discard) {
        xenbus_back_write(dev, "discard-enable", "1");
        xenbus_back_write(dev, "discard-granularity", "%u", b->blk->discard_granularity);
        xenbus_back_write(dev, "discard-alignment", "0");
        xenbus_back_write(dev, "discard-secure", "0");
    }
}

/* What Linux gathers at state 4, all or nothing; it is there from the start. */
static void blkback_publish_shape(struct blkback *b)
{
    struct xenbus_device *dev = &b->xb;

    xenbus_back_write(dev, "sectors", "%" G_GUINT64_FORMAT, b->blk->size / BLK_SECTOR);
    xenbus_back_write(dev, "sector-size", "%u", b->blk->sector_size);
    xenbus_back_write(dev, "physical-sector-size", "%u", b->blk->physical_sector_size);
    xenbus_back_write(dev, "info", "%u", b->blk->read_only ? VDISK_READONLY : 0);
    xenbus_back_write(dev, "mode", "%s", b->blk->read_only ? "r" : "w");
    xenbus_back_write(dev, "dev", "%s", b->dev_name);
    xenbus_back_write(dev, "device-type", "disk");
    xenbus_back_write(dev, "removable", "0");
    xenbus_back_write(dev, "bootable", "1");
    xenbus_back_write(dev, "hotplug-status", "connected");
}

static void blkback_publish(struct xenbus_device *dev)
{
    struct blkback *b = blkback_of(dev);

    xenbus_front_write(dev, "virtual-device", "%u", b->vdev);
    xenbus_front_write(dev, "device-type", "disk");
    blkback_publish_features(b);
    blkback_publish_shape(b);
}

/* --- Connecting --- */

static bool blkback_connect(struct xenbus_device *dev, GError **err)
{
    struct blkback *b = blkback_of(dev);
    uint64_t persistent = 0;

    g_assert(!b->running && b->in_flight == 0);
    if (!blkback_queues_open(b, err)) {
        return false;
    }
    b->persistent = b->offer_persistent &&
                    xenbus_front_uint(dev, "feature-persistent", 1, &persistent) &&
                    persistent == 1;
    b->draining = false;
    b->running = true;
    log_debug(LOG_PV, "%s: connected, %u queue%s of %u page%s", b->dev_name, b->nr_queues,
              b->nr_queues > 1 ? "s" : "", b->queue[0].nr_pages,
              b->queue[0].nr_pages > 1 ? "s" : "");
    blkback_post(b); /* requests may wait already */
    return true;
}

/* --- Disconnecting --- */

static void blkback_take_down(struct blkback *b)
{
    b->draining = false;
    blkback_io_release(b);
    blkback_queues_unmap(b);
}

static bool blkback_disconnect(struct xenbus_device *dev)
{
    struct blkback *b = blkback_of(dev);

    b->running = b->stalled = false;
    blkback_queues_unbind(b);
    if (b->in_flight > 0) {
        b->draining = true;
        return false;
    }
    blkback_take_down(b);
    return true;
}

void blkback_drained(struct blkback *b)
{
    blkback_take_down(b);
    xenbus_disconnected(&b->xb);
}

/* --- State --- */

static void blkback_xenbus_state(struct xenbus_device *dev, struct state *s)
{
    struct blkback *b = blkback_of(dev);
    bool running = b->running, persistent = b->persistent;
    uint8_t protocol = (uint8_t)b->protocol;
    uint64_t sectors = b->blk->size / BLK_SECTOR;

    g_assert(b->in_flight == 0);
    state_u64(s, "sectors", &sectors);
    state_bool(s, "running", &running);
    state_bool(s, "persistent", &persistent);
    state_u8(s, "protocol", &protocol);
    if (state_loading(s) && state_ok(s)) {
        if (sectors != b->blk->size / BLK_SECTOR) {
            state_fail(s, "the size of a disk has changed");
        } else if (running != dev->connected || protocol > BLK_PROTOCOL_X86_32) {
            state_fail(s, "a disk's connection is not valid");
        } else {
            b->protocol = (enum blk_protocol)protocol;
            b->persistent = persistent && b->offer_persistent;
        }
    }
    blkback_queues_state(b, s, running);
    if (state_loading(s) && state_ok(s) && running) {
        b->running = true;
        blkback_post(b);
    }
}

static const struct xenbus_type blkback_type = {
    .name = "vbd",
    .publish = blkback_publish,
    .connect = blkback_connect,
    .disconnect = blkback_disconnect,
    .state = blkback_xenbus_state,
};

void blkback_state(struct blkback *b, struct state *s)
{
    xenbus_device_state(&b->xb, s);
}

/* --- Making and ending --- */

static void blkback_kicked(void *opaque)
{
    struct blk_kick *kick = opaque;

    if (kick->b == NULL) {
        g_free(kick); /* the device went first */
        return;
    }
    blkback_process(kick->b);
}

static void blkback_notified(void *opaque)
{
    blkback_post(opaque);
}

struct blkback *blkback_new(struct pv_domain *d, struct block *blk, unsigned index,
                            GError **err)
{
    struct blkback *b;

    if (index >= BLKBACK_MAX_DISKS) {
        error_set(err, PVEMU_ERROR_LIMIT, "disk '%s': a guest has at most %d disks", blk->name,
                  BLKBACK_MAX_DISKS);
        return NULL;
    }
    b = g_new0(struct blkback, 1);
    b->domain = d;
    b->blk = blk;
    b->dev_name = blkback_make_dev_name(index);
    b->vdev = blkback_vdev(index);
    b->persistent_grants = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (unsigned i = 0; i < XENBUS_MAX_QUEUES; i++) {
        b->queue[i].b = b;
        b->queue[i].evtchn.notified = blkback_notified;
        b->queue[i].evtchn.opaque = b;
    }
    b->kick = g_new0(struct blk_kick, 1);
    b->kick->work.fn = blkback_kicked;
    b->kick->work.opaque = b->kick;
    b->kick->b = b;
    g_cond_init(&b->idle);
    xenbus_device_init(&b->xb, &blkback_type, d, b->vdev);
    return b;
}

void blkback_offer_persistent(struct blkback *b)
{
    b->offer_persistent = true;
    xenbus_back_write(&b->xb, "feature-persistent", "1");
}

/* I/O threads need the lock to finish: the wait gives it up. */
static void blkback_wait_idle(struct blkback *b)
{
    while (b->in_flight > 0) {
        g_cond_wait(&b->idle, &b->domain->board->lock);
    }
}

void blkback_drain(struct blkback *b)
{
    g_mutex_lock(&b->domain->board->lock);
    blkback_wait_idle(b);
    g_mutex_unlock(&b->domain->board->lock);
}

void blkback_reset(struct blkback *b)
{
    g_mutex_lock(&b->domain->board->lock);
    b->paused = true;
    blkback_wait_idle(b);
    xenbus_device_reset(&b->xb);
    b->paused = false;
    g_mutex_unlock(&b->domain->board->lock);
}

void blkback_free(struct blkback *b)
{
    GMutex *lock;

    if (b == NULL) {
        return;
    }
    lock = &b->domain->board->lock;
    g_mutex_lock(lock);
    b->paused = true;
    blkback_wait_idle(b);
    xenbus_device_fini(&b->xb);
    blkback_io_release(b);
    if (b->kick->work.posted) {
        b->kick->b = NULL;
    } else {
        g_free(b->kick);
    }
    g_mutex_unlock(lock);
    g_hash_table_destroy(b->persistent_grants);
    g_cond_clear(&b->idle);
    g_free(b->dev_name);
    g_free(b);
}

const char *blkback_dev_name(const struct blkback *b)
{
    return b->dev_name;
}

void blkback_get_stats(const struct blkback *b, struct blkback_stats *stats)
{
    *stats = b->stats;
}
