/* SPDX-License-Identifier: MIT */
/*
 * The contract of a character stream's host side (src/io): a console's keyboard and screen. All
 * on the main loop with the board lock held.
 */
#ifndef PVEMU_CORE_CHARDEV_H
#define PVEMU_CORE_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;

struct chardev_handlers {
    /* Input for the guest; returns how many bytes were taken. The rest is offered again after
     * rx_ready(). */
    size_t (*rx)(void *opaque, const uint8_t *buf, size_t len);
    /* write() took less than offered earlier and can take more now. May be NULL. */
    void (*tx_ready)(void *opaque);
    /* The terminal has a new size. May be NULL. */
    void (*resize)(void *opaque, unsigned columns, unsigned rows);
};

struct chardev_ops {
    const char *name;
    /* Returns how many bytes were taken (0..len); never blocks. */
    size_t (*write)(struct chardev *chr, const uint8_t *buf, size_t len);
    void (*set_handlers)(struct chardev *chr, const struct chardev_handlers *handlers,
                         void *opaque); /* NULL: none */
    void (*rx_ready)(struct chardev *chr);
    bool (*get_size)(struct chardev *chr, unsigned *columns,
                     unsigned *rows); /* false: not a terminal; zeros: it does not know */
    void (*close)(struct chardev *chr);
};

struct chardev {
    const struct chardev_ops *ops;
};

#endif
