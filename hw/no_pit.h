/* SPDX-License-Identifier: MIT */
/* The place of channel 2 of a PC's timer on a board that has none. */
#ifndef PVEMU_HW_NO_PIT_H
#define PVEMU_HW_NO_PIT_H

#include "core/device.h"

enum { NO_PIT_PORT = 0x42, NO_PIT_PORTS = 1 };

extern const struct device_ops no_pit_ops;

#endif
