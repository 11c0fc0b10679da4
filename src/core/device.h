/* SPDX-License-Identifier: MIT */
/* The contract of a device model with registers (hw/). */
#ifndef PVEMU_CORE_DEVICE_H
#define PVEMU_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "core/state.h"

struct device;

struct device_ops {
    const char *name;
    size_t size;   /* of the struct that starts with struct device */
    bool lockless; /* register accesses do not need the board lock; the head comment says why */
    bool (*init)(struct device *dev, GError **err); /* may be NULL */
    void (*reset)(struct device *dev);
    uint64_t (*read)(struct device *dev, uint64_t offset, unsigned size);
    void (*write)(struct device *dev, uint64_t offset, unsigned size, uint64_t value);
    void (*state)(struct device *dev, struct state *s); /* saves and loads */
    void (*fini)(struct device *dev);                   /* may be NULL */
};

struct device {
    const struct device_ops *ops;
    struct board *board;
};

/* Allocates ops->size zeroed bytes, sets ops and board, runs init and reset. */
struct device *device_new(const struct device_ops *ops, struct board *board, GError **err);
void device_free(struct device *dev);

#endif
