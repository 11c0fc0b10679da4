/* SPDX-License-Identifier: MIT */
/* Making and freeing device models. */
#include "core/device.h"

struct device *device_new(const struct device_ops *ops, struct board *board, GError **err)
{
    struct device *dev = g_malloc0(ops->size);

    dev->ops = ops;
    dev->board = board;
    if (ops->init != NULL && !ops->init(dev, err)) {
        g_free(dev);
        return NULL;
    }
    if (ops->reset != NULL) {
        ops->reset(dev);
    }
    return dev;
}

void device_free(struct device *dev)
{
    if (dev == NULL) {
        return;
    }
    if (dev->ops->fini != NULL) {
        dev->ops->fini(dev);
    }
    g_free(dev);
}
