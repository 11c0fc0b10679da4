/* SPDX-License-Identifier: MIT */
/*
 * The debug console port of Bochs and Xen: a byte written is a byte of text, a read gives 0xe9
 * so that a guest can tell that it is there.
 */
#include "hw/debug_port.h"

struct debug_port {
    struct device dev;
    debug_port_fn fn;
    void *opaque;
};

static uint64_t debug_port_read(struct device *dev, uint64_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return DEBUG_PORT;
}

static void debug_port_write(struct device *dev, uint64_t offset, unsigned size, uint64_t value)
{
    const struct debug_port *dp = (struct debug_port *)dev;
    char byte = (char)value;

    (void)offset, (void)size;
    if (dp->fn != NULL) {
        dp->fn(dp->opaque, &byte, 1);
    }
}

void debug_port_connect(struct device *dev, debug_port_fn fn, void *opaque)
{
    struct debug_port *dp = (struct debug_port *)dev;

    dp->fn = fn;
    dp->opaque = opaque;
}

const struct device_ops debug_port_ops = {
    .name = "debug-port",
    .size = sizeof(struct debug_port),
    .read = debug_port_read,
    .write = debug_port_write,
};
