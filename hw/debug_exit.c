/* SPDX-License-Identifier: MIT */
/*
 * debug-exit: a guest ends its own run by writing a byte to one I/O port.
 *
 * The byte is the exit status, unchanged, so a test kernel can return 0. Codes above
 * DEBUG_EXIT_CODE_MAX belong to pvemu itself and are clamped, so that a wild write can never be
 * read as "timeout" or "host problem".
 */
#include "hw/debug_exit.h"

struct debug_exit {
    struct device dev; /* first: device_ops.size is cast to this */
    bool fired;        /* the guest may spin on the port; stop once */
};

static void debug_exit_reset(struct device *dev)
{
    ((struct debug_exit *)dev)->fired = false;
}

static void debug_exit_write(struct device *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *de = (struct debug_exit *)dev;

    (void)offset, (void)size;
    if (de->fired) {
        return;
    }
    de->fired = true;
    dev->board->ops->stop(dev->board, STOP_EXIT_CODE,
                          (int)MIN(value & 0xff, DEBUG_EXIT_CODE_MAX));
}

static void debug_exit_state(struct device *dev, struct state *s)
{
    state_bool(s, "debug_exit.fired", &((struct debug_exit *)dev)->fired);
}

const struct device_ops debug_exit_ops = {
    .name = "debug-exit",
    .size = sizeof(struct debug_exit),
    .reset = debug_exit_reset,
    .write = debug_exit_write,
    .state = debug_exit_state,
};
