/* SPDX-License-Identifier: MIT */
/*
 * The Xen public headers (libxen-dev), included in one place and with one interface version.
 * XEN_GUEST_HANDLE fields are plain pointers of host width in here: they hold guest-linear
 * addresses and are never dereferenced (guest_access.h copies through them).
 */
#ifndef PVEMU_PV_XEN_ABI_H
#define PVEMU_PV_XEN_ABI_H

#include <stddef.h>
#include <stdint.h>

/* Package 4.17 knows 0x00040e00 as the latest; the ABI claimed to guests is 4.17 too. */
#define __XEN_INTERFACE_VERSION__ 0x00040e00

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/foreign/x86_32.h>
#pragma GCC diagnostic pop

/* Later than the package: defined here so that they can be refused by name. */
#ifndef VCPUOP_register_runstate_phys_area
#define VCPUOP_register_runstate_phys_area  14
#define VCPUOP_register_vcpu_time_phys_area 15
#endif

#endif
