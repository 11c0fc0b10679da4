/* SPDX-License-Identifier: MIT */
/* What the tests of a debugger's stops share, for every engine that interp_accel_ops may be. */
#ifndef PVEMU_TESTS_INTERP_DEBUG_TEST_H
#define PVEMU_TESTS_INTERP_DEBUG_TEST_H

#include "guest.h"

/* On KVM (tests/kvm): with either kind of local APIC. */
bool debug_is_kvm(void);
/* On the only host of KVM without XSAVE that this is run on. When the processor leaves the guest at an
 * instruction that is stepped (for a port, or memory that is not mapped yet), Bochs stops before
 * it, or the next one, too: once for each time. */
bool debug_is_bochs(const struct guest *g);
/* accel_ops.set_debug. false: this host cannot, and says so; the test is skipped. */
bool debug_set(struct guest *g, const struct vcpu_debug *debug);
/* Runs to such a stop, at an offset from G_CODE. */
void debug_run(struct guest *g, unsigned stop, uint64_t offset);
/* The same for one step. */
void debug_step(struct guest *g, uint64_t offset);

#endif
