/* SPDX-License-Identifier: MIT */
/* A bus: an array of ranges, sorted by address. A guest's every exit looks here. */
#include "core/bus.h"

#include "core/device.h"

struct bus_range {
    uint64_t base, len, offset0;
    struct device *dev;
};

struct bus {
    GMutex *lock;
    struct bus_range *ranges;
    unsigned nr_ranges;
};

struct bus *bus_new(GMutex *lock)
{
    struct bus *bus = g_new0(struct bus, 1);

    bus->lock = lock;
    return bus;
}

void bus_free(struct bus *bus)
{
    if (bus != NULL) {
        g_free(bus->ranges);
        g_free(bus);
    }
}

void bus_add(struct bus *bus, uint64_t base, uint64_t len, struct device *dev, uint64_t offset0)
{
    unsigned at;

    g_assert(len > 0);
    for (unsigned i = 0; i < bus->nr_ranges; i++) {
        const struct bus_range *r = &bus->ranges[i];

        g_assert(base + len <= r->base || r->base + r->len <= base);
    }
    bus->ranges = g_renew(struct bus_range, bus->ranges, bus->nr_ranges + 1);
    for (at = bus->nr_ranges++; at > 0 && bus->ranges[at - 1].base > base; at--) {
        bus->ranges[at] = bus->ranges[at - 1];
    }
    bus->ranges[at] = (struct bus_range){base, len, offset0, dev};
}

static inline const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned size)
{
    unsigned first = 0, last = bus->nr_ranges; /* the ranges that may begin at or below it */
    const struct bus_range *r;

    while (first < last) {
        unsigned middle = (first + last) / 2;

        if (bus->ranges[middle].base <= addr) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    r = first > 0 ? &bus->ranges[first - 1] : NULL;
    return r != NULL && addr - r->base + size <= r->len ? r : NULL;
}

static uint64_t bus_all_ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size)
{
    const struct bus_range *r = bus_find(bus, addr, size);
    uint64_t value;

    if (r == NULL || r->dev->ops->read == NULL) {
        return bus_all_ones(size);
    }
    if (r->dev->ops->lockless) {
        return r->dev->ops->read(r->dev, addr - r->base + r->offset0, size) &
               bus_all_ones(size);
    }
    g_mutex_lock(bus->lock);
    value = r->dev->ops->read(r->dev, addr - r->base + r->offset0, size);
    g_mutex_unlock(bus->lock);
    return value & bus_all_ones(size);
}

/* Apart, so that a write that nobody wants is short. */
static G_GNUC_NO_INLINE void bus_give(struct bus *bus, const struct bus_range *r, uint64_t addr,
                                      unsigned size, uint64_t value)
{
    value &= bus_all_ones(size);
    if (r->dev->ops->lockless) {
        r->dev->ops->write(r->dev, addr - r->base + r->offset0, size, value);
        return;
    }
    g_mutex_lock(bus->lock);
    r->dev->ops->write(r->dev, addr - r->base + r->offset0, size, value);
    g_mutex_unlock(bus->lock);
}

void bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
    const struct bus_range *r = bus_find(bus, addr, size);

    if (r != NULL && r->dev->ops->write != NULL) {
        bus_give(bus, r, addr, size, value);
    }
}
