/* SPDX-License-Identifier: MIT */
/*
 * The host's KVM as an engine (docs/kvm.md). The guest's interrupt controllers, timers and devices
 * stay pvemu's: KVM runs instructions and nothing else. In the split engine local APICs are KVM's.
 */
#ifndef PVEMU_CPU_KVM_KVM_H
#define PVEMU_CPU_KVM_KVM_H

#include "core/vcpu.h"

extern const struct accel_ops kvm_accel_ops;
extern const struct accel_ops kvm_split_accel_ops; /* PVH guests only */

/* What each L4 table of a PV guest has in its slot 257: the engine's own pages, outside guest
 * memory and for CPL 0 only. */
#define KVM_PV_SHIM_GPA  0xfd000000ull
#define KVM_PV_L4_ENTRY  (KVM_PV_SHIM_GPA | 0x23) /* present, writable, accessed */

#endif
