/* SPDX-License-Identifier: MIT */
/*
 * ACPI 6.1, 4.8.3.7: SLP_EN in the sleep control register turns the guest off whatever the
 * sleep type, since the DSDT offers \_S5 alone. Nothing ever wakes, so the status register is
 * zero.
 */
#include "hw/pm_sleep.h"

enum { SLP_EN = 1 << 5, RESET_VALUE = 1 };

struct pm_sleep {
    struct device dev;
};

static uint64_t pm_sleep_read(struct device *dev, uint64_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0;
}

static void pm_sleep_write(struct device *dev, uint64_t offset, unsigned size, uint64_t value)
{
    (void)size;
    if (offset == PM_SLEEP_CONTROL && (value & SLP_EN) != 0) {
        dev->board->ops->stop(dev->board, STOP_POWEROFF, 0);
    } else if (offset == PM_RESET && (value & 0xff) == RESET_VALUE) {
        dev->board->ops->stop(dev->board, STOP_REBOOT, 0);
    }
}

const struct device_ops pm_sleep_ops = {
    .name = "pm-sleep",
    .size = sizeof(struct pm_sleep),
    .read = pm_sleep_read,
    .write = pm_sleep_write,
};
