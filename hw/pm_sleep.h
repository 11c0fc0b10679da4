/* SPDX-License-Identifier: MIT */
/*
 * Sleep and reset registers of a hardware-reduced ACPI board: sleep control, sleep status and
 * reset, a byte each, at the ports that the FADT names (src/boot/acpi.h).
 */
#ifndef PVEMU_HW_PM_SLEEP_H
#define PVEMU_HW_PM_SLEEP_H

#include "core/device.h"

enum { PM_SLEEP_CONTROL = 0, PM_SLEEP_STATUS = 1, PM_RESET = 2, PM_SLEEP_PORTS = 3 };

extern const struct device_ops pm_sleep_ops;

#endif
