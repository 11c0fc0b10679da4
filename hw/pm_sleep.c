/* SPDX-License-Identifier: MIT */
/*
 * PM1a event and control registers (ACPI 6.4, 4.8.3): status and enable bits that never fire,
 * SCI_EN always set, and SLP_EN, which turns the guest off whatever the sleep type, since the
 * DSDT offers \_S5 alone.
 */
#include "hw/pm_sleep.h"

enum { PM1_SCI_EN = 1 << 0, PM1_SLP_EN = 1 << 13 };

struct pm_sleep {
    struct device dev;
    uint16_t enable;
    uint16_t control;
};

static void pm_sleep_reset(struct device *dev)
{
    struct pm_sleep *pm = (struct pm_sleep *)dev;

    pm->enable = 0;
    pm->control = PM1_SCI_EN;
}

static uint64_t pm_sleep_read(struct device *dev, uint64_t offset, unsigned size)
{
    const struct pm_sleep *pm = (const struct pm_sleep *)dev;
    uint64_t all = ((uint64_t)pm->control << 32) | ((uint64_t)pm->enable << 16);

    (void)size; /* the bus cuts the value down */
    return all >> (offset * 8);
}

static void pm_sleep_write(struct device *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm_sleep *pm = (struct pm_sleep *)dev;

    if (offset == 2 && size == 2) {
        pm->enable = (uint16_t)value;
    } else if (offset == PM_SLEEP_CONTROL && size >= 2) {
        pm->control = (uint16_t)((value & ~(uint64_t)PM1_SLP_EN) | PM1_SCI_EN);
        if ((value & PM1_SLP_EN) != 0) {
            dev->board->ops->stop(dev->board, STOP_POWEROFF, 0);
        }
    }
}

static void pm_sleep_state(struct device *dev, struct state *s)
{
    struct pm_sleep *pm = (struct pm_sleep *)dev;

    state_u16(s, "pm.enable", &pm->enable);
    state_u16(s, "pm.control", &pm->control);
}

const struct device_ops pm_sleep_ops = {
    .name = "pm-sleep",       .size = sizeof(struct pm_sleep), .reset = pm_sleep_reset,
    .read = pm_sleep_read,    .write = pm_sleep_write,         .state = pm_sleep_state,
};
