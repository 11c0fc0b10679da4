/* SPDX-License-Identifier: MIT */
/* NS16550A at a base of eight I/O ports, with one interrupt line. */
#ifndef PVEMU_HW_UART16550_H
#define PVEMU_HW_UART16550_H

#include "core/chardev.h"
#include "core/device.h"

extern const struct device_ops uart16550_ops;

/* Called for every byte the guest sends, once and in order (log, -expect). */
typedef void (*uart16550_tap_fn)(void *opaque, const uint8_t *buf, size_t len);

/* Connects the line (borrowed; NULL disconnects) and the interrupt. */
void uart16550_connect(struct device *dev, struct chardev *chr, unsigned gsi);
void uart16550_set_tap(struct device *dev, uart16550_tap_fn tap, void *opaque);
/* Input from outside (the console mux); returns how many bytes fit. */
size_t uart16550_receive(struct device *dev, const uint8_t *buf, size_t len);

#endif
