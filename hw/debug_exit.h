/* SPDX-License-Identifier: MIT */
/* Port 0x5c: a test kernel ends its own run. */
#ifndef PVEMU_HW_DEBUG_EXIT_H
#define PVEMU_HW_DEBUG_EXIT_H

#include "core/device.h"

enum { DEBUG_EXIT_PORT = 0x5c, DEBUG_EXIT_CODE_MAX = 111 };

extern const struct device_ops debug_exit_ops;

#endif
