/* SPDX-License-Identifier: MIT */
/*
 * The reference interpreter: an engine that runs any mode the decoder knows, exactly and
 * without any help from the host's kernel. See docs/translator.md for its place.
 */
#ifndef PVEMU_CPU_INTERP_INTERP_H
#define PVEMU_CPU_INTERP_INTERP_H

#include "core/vcpu.h"

extern const struct accel_ops interp_accel_ops;

#endif
