/* SPDX-License-Identifier: MIT */
/* Port 0xe9: early text of a kernel, a byte at a time. */
#ifndef PVEMU_HW_DEBUG_PORT_H
#define PVEMU_HW_DEBUG_PORT_H

#include "core/device.h"

enum { DEBUG_PORT = 0xe9 };

extern const struct device_ops debug_port_ops;

typedef void (*debug_port_fn)(void *opaque, const char *buf, size_t len);
void debug_port_connect(struct device *dev, debug_port_fn fn, void *opaque);

#endif
