/* SPDX-License-Identifier: MIT */
/*
 * An address space of devices: I/O ports or memory-mapped registers. Ranges never overlap.
 * Reads of nothing give all ones, writes to nothing are dropped. bus_read/bus_write take the
 * board lock unless the device is `lockless`.
 */
#ifndef PVEMU_CORE_BUS_H
#define PVEMU_CORE_BUS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct device;

struct bus;

struct bus *bus_new(GMutex *lock);
void bus_free(struct bus *bus);
/* The device answers [base, base+len); its callbacks get offsets from base, plus `offset0`. */
void bus_add(struct bus *bus, uint64_t base, uint64_t len, struct device *dev,
             uint64_t offset0);
uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size);
void bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value);

#endif
