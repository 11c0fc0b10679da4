/* SPDX-License-Identifier: MIT */
/*
 * The host's KVM as an engine (docs/kvm.md). The guest's interrupt controllers, timers and devices
 * stay pvemu's: KVM runs instructions and nothing else.
 */
#ifndef PVEMU_CPU_KVM_KVM_H
#define PVEMU_CPU_KVM_KVM_H

#include "core/vcpu.h"

extern const struct accel_ops kvm_accel_ops;

#endif
