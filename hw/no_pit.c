/* SPDX-License-Identifier: MIT */
/*
 * There is no 8254, and its port reads as zeros instead of ones: Linux, before it believes Xen's
 * TSC frequency, reads channel 2 for as long as its upper byte is 0xff, 100,000 times where
 * nothing answers (quick_pit_calibrate()). On KVM each of them is an exit; all together they
 * were 19 of 20 in a boot. With zeros it gives up after the second read.
 *
 * Lockless: it has no state.
 */
#include "hw/no_pit.h"

static uint64_t no_pit_read(struct device *dev, uint64_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0;
}

const struct device_ops no_pit_ops = {
    .name = "no-pit", .size = sizeof(struct device), .lockless = true, .read = no_pit_read,
};
