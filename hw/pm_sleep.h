/* SPDX-License-Identifier: MIT */
/* ACPI power management: the registers by which a guest turns itself off. */
#ifndef PVEMU_HW_PM_SLEEP_H
#define PVEMU_HW_PM_SLEEP_H

#include "core/device.h"

/* Offsets from the device's first port, the layout that the FADT describes (src/boot/acpi.c). */
enum { PM_SLEEP_EVENT = 0, PM_SLEEP_CONTROL = 4, PM_SLEEP_PORTS = 8 };

extern const struct device_ops pm_sleep_ops;

#endif
