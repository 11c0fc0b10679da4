/* SPDX-License-Identifier: MIT */
/*
 * Whether this host's KVM can carry a guest, judged by behaviour: a throw-away guest goes through
 * what every 64-bit system does. Some hosts offer a /dev/kvm made in software that opens well and
 * then delivers SYSCALL or INT n wrongly, or never comes back.
 */
#ifndef PVEMU_CPU_KVM_PROBE_H
#define PVEMU_CPU_KVM_PROBE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/kvm/sys.h"

enum kvm_probe_result {
    KVM_PROBE_OK,
    KVM_PROBE_NO_DEVICE,     /* error: of open(); but for ENOENT there is a node without KVM */
    KVM_PROBE_NO_PERMISSION,
    KVM_PROBE_BUSY,          /* somebody else has the processor's virtualisation */
    KVM_PROBE_OLD,           /* detail: number of the capability that is missing */
    KVM_PROBE_FAILED,        /* a call failed with `error`; detail: its request number, 0: open() */
    KVM_PROBE_UNFAITHFUL,    /* stage: where the guest saw something else than the manual says */
    KVM_PROBE_SLOW,          /* ns: what 1000 supervisor instructions take */
    KVM_PROBE_HANG,          /* it did not come back: the watchdog ended it */
    KVM_PROBE_DIED,          /* the probe's own process ended; error: it could not start */
};

/* What the guest was at. */
enum kvm_probe_stage {
    KVM_STAGE_ENTRY,
    KVM_STAGE_STUB,
    KVM_STAGE_USER,
    KVM_STAGE_SYSCALL,
    KVM_STAGE_SYSRET,
    KVM_STAGE_INT,
    KVM_STAGE_IRET,
    KVM_STAGE_SYSCALL_AGAIN,
    KVM_STAGE_SPEED,
    KVM_STAGE_HALT,
};

struct kvm_probe {
    enum kvm_probe_result result;
    enum kvm_probe_stage stage;
    int error;
    unsigned long detail;
    uint64_t ns;
};

/* Runs the probe in a process of its own and ends it after `deadline_ms`. Takes about 10 ms, next
 * to nothing when there is no device. */
void kvm_probe_run(const struct kvm_sys *sys, int deadline_ms, struct kvm_probe *probe);
/* The same in this process, without a watchdog (tests). */
void kvm_probe_here(const struct kvm_sys *sys, struct kvm_probe *probe);
/* true: usable. Otherwise *err says why not, always with the device's name, with a hint what to do
 * when there is something. */
bool kvm_probe_judge(const struct kvm_probe *probe, GError **err);
/* The hint for one who may not open the device. may: by its mode this user may, so something else
 * is in the way. group: that may open it, or NULL. */
void kvm_probe_permission_hint(bool may, const char *group, GError **err);
/* kvm_probe_run() and kvm_probe_judge() with the host's device: accel_ops.probe. */
bool kvm_probe_host(GError **err);

/* probe_vm.c: the guest. dev is the open device. */
void kvm_probe_guest_run(const struct kvm_sys *sys, int dev, struct kvm_probe *probe);

#endif
