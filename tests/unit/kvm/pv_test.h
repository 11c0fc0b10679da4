/* SPDX-License-Identifier: MIT */
/* A PV guest's vCPU on the fake /dev/kvm, with a hypervisor that notes what it is asked. */
#ifndef PVEMU_TESTS_KVM_PV_TEST_H
#define PVEMU_TESTS_KVM_PV_TEST_H

#include "cpu/kvm/pv.h"
#include "vcpu_test.h"

enum { PVT_CALLS = 8 };
#define PVT_HANDLER 0x6000 /* where every trap goes on */
#define PVT_RIP     0x5000

struct pvt_call {
    char what; /* t: trap, s: SYSCALL, S: SYSENTER, e: event */
    struct vcpu_trap trap;
    struct cpu_x86 cpu; /* as it was */
};

extern struct pvt_call pvt_calls[PVT_CALLS];
extern unsigned pvt_nr_calls;
extern bool pvt_refuse;             /* SYSCALL and SYSENTER are */
extern struct vcpu_pv_entry pvt_entry;
extern struct kvm_engine *pvt_k;

/* In its kernel, not run yet; and once it has run, so that the shim is there. */
void pvt_setup_new(void);
void pvt_setup(void);
void pvt_teardown(void);
/* Ends the script with a kick in the shim's way back, and runs. */
void pvt_run_to_kick(void);
/* For an exit's fill(): the vCPU is in the shim, at its byte `at`; in the guest; an exception
 * with a frame as the processor pushes it. */
void pvt_at_shim(const uint8_t *at);
void pvt_at_guest(uint64_t rip);
void pvt_vector(unsigned vector, const struct kvm_pv_frame *frame);
void pvt_fill_stop(struct kvm_run *run);

#endif
