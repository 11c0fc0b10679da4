/* SPDX-License-Identifier: MIT */
/*
 * Xenbus back ends: the state machine that every split driver shares (public/io/xenbus.h, and
 * xen-abi 6.2). A device type supplies the callbacks; this part makes the nodes of both ends,
 * watches the front end's state, connects, disconnects, survives reconnection, and breaks a
 * device that misbehaves.
 */
#ifndef PVEMU_PV_XENBUS_H
#define PVEMU_PV_XENBUS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/report.h"
#include "core/state.h"

struct pv_domain;
struct xenbus_device;

struct xenbus_type {
    const char *name; /* "vbd", "vif", "console" */
    /* Fill in the nodes the device needs: xenbus_front_write / xenbus_back_write. Called at
     * creation and after reset. */
    void (*publish)(struct xenbus_device *dev);
    /* The front end has state 3 (or 4): read its keys, map rings, bind the event channel.
     * false: *err says why; the device goes to Closing. */
    bool (*connect)(struct xenbus_device *dev, GError **err);
    /* Unmap, unbind. Called only after a successful connect. May finish later: then returns
     * false and the type calls xenbus_disconnected() when in-flight requests are done. */
    bool (*disconnect)(struct xenbus_device *dev);
    /* Loading: dev->connected is already as it was saved, and the store, grants and event
     * channels are loaded; the type maps its rings and binds its channel again here (connect()
     * is not called), or fails the stream. */
    void (*state)(struct xenbus_device *dev, struct state *s);
    /* After xenbus_device_unplug(): the front end let go; the owner frees the device later
     * (from posted work). May be NULL. */
    void (*unplugged)(struct xenbus_device *dev);
};

struct xenbus_device {
    const struct xenbus_type *type;
    struct pv_domain *domain;
    unsigned id; /* the number in the path: virtual-device or handle */
    int front_state, back_state;
    bool connected;
    bool broken; /* misbehaved: closed until the front end starts over */
    bool disconnecting;
    bool unplugging;  /* online=0: the front end was asked to let go */
    bool awaited;     /* was in use when it was reset, and has not come back: domain.nr_awaited */
    char *front_path; /* /local/domain/1/device/vbd/51712 */
    char *back_path;  /* /local/domain/0/backend/vbd/1/51712 */
    struct xs_watch *watch;
    char *error_path; /* where the front end's driver reports in words */
    struct xs_watch *error_watch;
    struct report_gate gate;
};

/* Makes the nodes and starts to listen. */
void xenbus_device_init(struct xenbus_device *dev, const struct xenbus_type *type,
                        struct pv_domain *d, unsigned id);
/* Disconnects (the type must be able to do it at once here) and removes the nodes. */
void xenbus_device_fini(struct xenbus_device *dev);
/* Guest reboot: disconnect and make the nodes anew. */
void xenbus_device_reset(struct xenbus_device *dev);
void xenbus_device_state(struct xenbus_device *dev, struct state *s);
void xenbus_disconnected(struct xenbus_device *dev);
/* Asks the front end to let go of the device (hot unplug); back_state is 6 when it has. */
void xenbus_device_unplug(struct xenbus_device *dev);
/* The end of an unplug: the nodes of both ends go, and with them what the guest has made of
 * them. Instead of a reset: the guest boots without it. Disconnects as that does. */
void xenbus_device_withdraw(struct xenbus_device *dev);

/* Front end broke the protocol: warns (limited), closes the device. Never anything else. */
void xenbus_break(struct xenbus_device *dev, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Nodes by key, under the front or back path. */
void xenbus_front_write(struct xenbus_device *dev, const char *key, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
void xenbus_back_write(struct xenbus_device *dev, const char *key, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
char *xenbus_front_read(struct xenbus_device *dev, const char *key);
bool xenbus_front_uint(struct xenbus_device *dev, const char *key, uint64_t max,
                       uint64_t *value);

/*
 * Several queues of one device (public/io/blkif.h and netif.h). publish: says how many may be
 * had, one for each vCPU that there can be. count: how many the front end asks for; one when it
 * says nothing. key: where a key of queue number i is: in queue-I/ when there are two or more.
 */
enum { XENBUS_MAX_QUEUES = 16 };
void xenbus_publish_queues(struct xenbus_device *dev);
bool xenbus_front_queues(struct xenbus_device *dev, unsigned *count, GError **err);
char *xenbus_queue_key(unsigned count, unsigned i, const char *key);

#endif
