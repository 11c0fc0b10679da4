/* SPDX-License-Identifier: MIT */
/*
 * The back end's half of the xenbus handshake (public/io/xenbus.h). What to do depends only on
 * the front end's present state and on what is connected here, never on the order in which
 * states were seen: watch events are merged, and a hostile front end writes what it likes.
 *
 * A front end that closes gets its rings taken away at state 5 already: a kernel started by
 * kexec closes the devices of its predecessor, whose memory is no longer a ring.
 */
#include "pv/xenbus.h"

#include <string.h>
#include <xen/io/xenbus.h>

#include "base/error.h"
#include "base/log.h"
#include "pv/domain.h"
#include "pv/xenstore.h"

/* ---- nodes ---- */

static char *xenbus_node(const char *dir, const char *key)
{
    return g_strconcat(dir, "/", key, NULL);
}

static void xenbus_write_value(struct xenbus_device *dev, const char *dir, const char *key,
                               const char *fmt, va_list ap)
{
    g_autofree char *path = xenbus_node(dir, key);
    g_autofree char *value = g_strdup_vprintf(fmt, ap);

    xs_write(dev->domain->xenstore, path, "%s", value);
}

void xenbus_front_write(struct xenbus_device *dev, const char *key, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    xenbus_write_value(dev, dev->front_path, key, fmt, ap);
    va_end(ap);
}

void xenbus_back_write(struct xenbus_device *dev, const char *key, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    xenbus_write_value(dev, dev->back_path, key, fmt, ap);
    va_end(ap);
}

char *xenbus_front_read(struct xenbus_device *dev, const char *key)
{
    g_autofree char *path = xenbus_node(dev->front_path, key);

    return xs_read(dev->domain->xenstore, path);
}

bool xenbus_front_uint(struct xenbus_device *dev, const char *key, uint64_t max,
                       uint64_t *value)
{
    g_autofree char *path = xenbus_node(dev->front_path, key);

    return xs_read_uint(dev->domain->xenstore, path, max, value);
}

/* ---- queues ---- */

static unsigned xenbus_max_queues(const struct xenbus_device *dev)
{
    return MIN(dev->domain->max_vcpus, XENBUS_MAX_QUEUES);
}

void xenbus_publish_queues(struct xenbus_device *dev)
{
    xenbus_back_write(dev, "multi-queue-max-queues", "%u", xenbus_max_queues(dev));
}

bool xenbus_front_queues(struct xenbus_device *dev, unsigned *count, GError **err)
{
    g_autofree char *text = xenbus_front_read(dev, "multi-queue-num-queues");
    uint64_t value = 1;

    if (text != NULL && (!xenbus_front_uint(dev, "multi-queue-num-queues",
                                            xenbus_max_queues(dev), &value) || value == 0)) {
        return error_set(err, PVEMU_ERROR_GUEST,
                         "the front end's multi-queue-num-queues is not from 1 to %u",
                         xenbus_max_queues(dev));
    }
    *count = (unsigned)value;
    return true;
}

char *xenbus_queue_key(unsigned count, unsigned i, const char *key)
{
    return count > 1 ? g_strdup_printf("queue-%u/%s", i, key) : g_strdup(key);
}

/* ---- states ---- */

static void xenbus_set_state(struct xenbus_device *dev, int state)
{
    if (dev->back_state != state) {
        log_debug(LOG_PV, "xenbus: %s %u: front %d, back %d -> %d", dev->type->name, dev->id,
                  dev->front_state, dev->back_state, state);
        dev->back_state = state;
        xenbus_back_write(dev, "state", "%d", state);
    }
}

/* -1: not a number. A front end that is not there is in state 0. */
static int xenbus_front_state(struct xenbus_device *dev)
{
    g_autofree char *text = xenbus_front_read(dev, "state");
    guint64 state;

    if (text == NULL) {
        return XenbusStateUnknown;
    }
    return g_ascii_string_to_unsigned(text, 10, 0, XenbusStateReconfigured, &state, NULL)
               ? (int)state : -1;
}

/* ---- connecting ---- */

/* True when nothing is connected any more; otherwise xenbus_disconnected() will be called. */
static bool xenbus_disconnect(struct xenbus_device *dev)
{
    if (dev->connected) {
        dev->connected = false;
        dev->disconnecting = true;
        if (dev->type->disconnect(dev)) {
            dev->disconnecting = false;
        }
    }
    return !dev->disconnecting;
}

static void xenbus_fail(struct xenbus_device *dev, const char *why)
{
    report_warn_limited(&dev->gate, "%s %u: guest driver: %s; the device is closed",
                        dev->type->name, dev->id, why);
    dev->broken = true;
    xenbus_set_state(dev, XenbusStateClosing);
}

static void xenbus_connect(struct xenbus_device *dev)
{
    g_autoptr(GError) err = NULL;

    if (dev->connected || dev->broken || dev->unplugging ||
        dev->back_state != XenbusStateInitWait) {
        return;
    }
    if (!dev->type->connect(dev, &err)) {
        g_autofree char *hint = NULL;
        g_autofree char *text = err != NULL ? error_split_hint(err, &hint) : NULL;

        xenbus_fail(dev, text != NULL ? text : "cannot connect");
        return;
    }
    dev->connected = true;
    xenbus_set_state(dev, XenbusStateConnected);
}

static void xenbus_closed(struct xenbus_device *dev)
{
    bool was = dev->back_state == XenbusStateClosed;

    xenbus_set_state(dev, XenbusStateClosed);
    if (dev->unplugging && !was && dev->type->unplugged != NULL) {
        dev->type->unplugged(dev);
    }
}

static void xenbus_await(struct xenbus_device *dev, bool awaited)
{
    if (dev->awaited != awaited) {
        dev->awaited = awaited;
        dev->domain->nr_awaited += awaited ? 1 : -1u;
    }
}

static void xenbus_update(struct xenbus_device *dev)
{
    dev->front_state = xenbus_front_state(dev);
    if (dev->front_state < XenbusStateInitialising ||
        dev->front_state >= XenbusStateConnected) {
        xenbus_await(dev, false);
    }
    if (dev->disconnecting) {
        return; /* looked at again when the last request is done */
    }
    switch (dev->front_state) {
    case XenbusStateInitialising:
        if (xenbus_disconnect(dev) && !dev->unplugging) {
            dev->broken = false;
            xenbus_set_state(dev, XenbusStateInitWait);
        }
        break;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        xenbus_connect(dev);
        break;
    case XenbusStateClosing:
        xenbus_set_state(dev, XenbusStateClosing);
        xenbus_disconnect(dev);
        break;
    case XenbusStateUnknown:
    case XenbusStateClosed:
        if (xenbus_disconnect(dev)) {
            xenbus_closed(dev);
        }
        break;
    default:
        break; /* nothing is asked of us */
    }
}

void xenbus_disconnected(struct xenbus_device *dev)
{
    if (dev->disconnecting) {
        dev->disconnecting = false;
        xenbus_update(dev);
    }
}

void xenbus_break(struct xenbus_device *dev, const char *fmt, ...)
{
    g_autofree char *why = NULL;
    va_list ap;

    if (dev->broken) {
        return;
    }
    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    xenbus_fail(dev, why);
    xenbus_disconnect(dev);
}

/* ---- watches ---- */

static void xenbus_front_changed(void *opaque, const char *path)
{
    (void)path;
    xenbus_update(opaque);
}

/* Linux reports a failed probe in words; they are only shown, cleaned and cut. */
static void xenbus_error_changed(void *opaque, const char *path)
{
    struct xenbus_device *dev = opaque;
    g_autofree char *text = xs_read(dev->domain->xenstore, dev->error_path);

    (void)path;
    if (text == NULL || text[0] == '\0') {
        return;
    }
    for (char *p = text; *p != '\0'; p++) {
        *p = g_ascii_isprint(*p) ? *p : '?';
    }
    log_debug(LOG_PV, "xenbus: %s %u: error from the guest: %.200s", dev->type->name, dev->id,
              text);
    report_warn_limited(&dev->gate, "%s %u: the guest's driver says: %.200s", dev->type->name,
                        dev->id, text);
}

/* ---- life ---- */

static void xenbus_make_dir(struct xenbus_device *dev, const char *path,
                            const char *const perms[2])
{
    xs_rm(dev->domain->xenstore, path); /* what an earlier boot left there */
    xs_mkdir(dev->domain->xenstore, path);
    xs_set_perms(dev->domain->xenstore, path, perms, 2);
}

static void xenbus_make_nodes(struct xenbus_device *dev)
{
    g_autofree char *owner = g_strdup_printf("n%u", dev->domain->domid);
    g_autofree char *reader = g_strdup_printf("r%u", dev->domain->domid);

    xenbus_make_dir(dev, dev->back_path, (const char *const[]){ "n0", reader });
    xenbus_make_dir(dev, dev->front_path, (const char *const[]){ owner, "r0" });
    xenbus_back_write(dev, "frontend", "%s", dev->front_path);
    xenbus_back_write(dev, "frontend-id", "%u", dev->domain->domid);
    xenbus_back_write(dev, "online", "1");
    xenbus_front_write(dev, "backend", "%s", dev->back_path);
    xenbus_front_write(dev, "backend-id", "0");
    dev->front_state = XenbusStateInitialising;
    dev->back_state = XenbusStateUnknown;
    dev->connected = dev->broken = dev->disconnecting = dev->unplugging = false;
    xenbus_set_state(dev, XenbusStateInitialising);
    dev->type->publish(dev);
    xenbus_set_state(dev, XenbusStateInitWait);
    /* Last: with this the guest sees a device. */
    xenbus_front_write(dev, "state", "%d", XenbusStateInitialising);
}

void xenbus_device_init(struct xenbus_device *dev, const struct xenbus_type *type,
                        struct pv_domain *d, unsigned id)
{
    g_autofree char *state_path = NULL;

    dev->type = type;
    dev->domain = d;
    dev->id = id;
    dev->front_path = g_strdup_printf("/local/domain/%u/device/%s/%u", d->domid, type->name,
                                      id);
    dev->back_path = g_strdup_printf("/local/domain/0/backend/%s/%u/%u", type->name, d->domid,
                                     id);
    dev->error_path = g_strdup_printf("/local/domain/%u/error/device/%s/%u/error", d->domid,
                                      type->name, id);
    xenbus_make_nodes(dev);
    state_path = xenbus_node(dev->front_path, "state");
    dev->watch = xs_watch_add(d->xenstore, state_path, xenbus_front_changed, dev);
    dev->error_watch = xs_watch_add(d->xenstore, dev->error_path, xenbus_error_changed, dev);
}

/* The owner has made sure that no request is in flight. */
static void xenbus_disconnect_now(struct xenbus_device *dev)
{
    bool done = xenbus_disconnect(dev);

    g_assert(done);
}

void xenbus_device_fini(struct xenbus_device *dev)
{
    struct xenstore *xs = dev->domain->xenstore;

    xs_watch_remove(xs, g_steal_pointer(&dev->watch));
    xs_watch_remove(xs, g_steal_pointer(&dev->error_watch));
    xenbus_disconnect_now(dev);
    xenbus_await(dev, false);
    xs_rm(xs, dev->front_path);
    xs_rm(xs, dev->back_path);
    g_clear_pointer(&dev->front_path, g_free);
    g_clear_pointer(&dev->back_path, g_free);
    g_clear_pointer(&dev->error_path, g_free);
}

void xenbus_device_reset(struct xenbus_device *dev)
{
    const bool used = dev->connected && dev->front_state == XenbusStateConnected;

    xenbus_disconnect_now(dev);
    xenbus_make_nodes(dev);
    xenbus_await(dev, used);
}

void xenbus_device_unplug(struct xenbus_device *dev)
{
    dev->unplugging = true;
    xenbus_back_write(dev, "online", "0");
    if (dev->back_state != XenbusStateClosed) {
        xenbus_set_state(dev, XenbusStateClosing);
    } else if (dev->type->unplugged != NULL) {
        dev->type->unplugged(dev);
    }
}

void xenbus_device_withdraw(struct xenbus_device *dev)
{
    xenbus_disconnect_now(dev);
    xenbus_await(dev, false);
    dev->unplugging = true;
    dev->front_state = XenbusStateUnknown;
    dev->back_state = XenbusStateClosed;
    xs_rm(dev->domain->xenstore, dev->front_path);
    xs_rm(dev->domain->xenstore, dev->back_path);
}

void xenbus_device_state(struct xenbus_device *dev, struct state *s)
{
    uint8_t back = (uint8_t)dev->back_state;
    bool awaited = dev->awaited;

    if (!state_loading(s)) {
        g_assert(!dev->disconnecting); /* the owner drains before it saves */
    } else {
        xenbus_disconnect_now(dev);
    }
    state_u8(s, "back_state", &back);
    state_bool(s, "connected", &dev->connected);
    state_bool(s, "broken", &dev->broken);
    state_bool(s, "unplugging", &dev->unplugging);
    state_bool(s, "awaited", &awaited);
    if (state_loading(s)) {
        if (back > XenbusStateReconfigured) {
            state_fail(s, "xenbus state");
        }
        dev->connected = dev->connected && state_ok(s);
        dev->back_state = state_ok(s) ? back : XenbusStateClosed;
        dev->front_state = xenbus_front_state(dev);
        xenbus_await(dev, awaited && state_ok(s));
    }
    if (dev->type->state != NULL) {
        dev->type->state(dev, s);
    }
    if (!state_ok(s)) {
        dev->connected = false;
    }
}
