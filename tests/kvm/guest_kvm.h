/* SPDX-License-Identifier: MIT */
/* KVM as the engine of tests/unit/interp/guest.h. */
#ifndef PVEMU_TESTS_KVM_GUEST_KVM_H
#define PVEMU_TESTS_KVM_GUEST_KVM_H

#include "core/vcpu.h"

extern const struct accel_ops guest_kvm_ops;

#endif
