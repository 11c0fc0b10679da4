/* SPDX-License-Identifier: MIT */
/* Sleep and shutdown of vCPUs and the domain, for the other hypercall families. See
 * pv_vcpu_sleeping. */
#ifndef PVEMU_PV_SCHED_H
#define PVEMU_PV_SCHED_H

#include "pv/domain.h"

/* The calling vCPU will not run until the sleep is ended; on its thread. */
void pv_sched_sleep(struct pv_domain *d, struct vcpu *v, enum pv_sleep why);
/* VCPUOP_up of a vCPU that sleeps in VCPUOP_down. */
void pv_sched_up(struct pv_domain *d, unsigned vcpu);
/* The domain shuts down with a SHUTDOWN_* code; v (or NULL) is the vCPU that asked, and stops
 * here. */
void pv_sched_shutdown(struct pv_domain *d, struct vcpu *v, unsigned reason);
/* Just before it: what a PV guest gives along with SHUTDOWN_suspend, its start info. */
void pv_sched_set_start_info(struct pv_domain *d, uint64_t mfn);
/* Those who asked go on, with this result. */
void pv_sched_resume(struct pv_domain *d, uint64_t result);
void pv_sched_stop_watchdogs(struct pv_domain *d);

/* INIT: whatever the vCPU waited for is forgotten. */
void pv_sched_init_vcpu(struct pv_domain *d, unsigned vcpu);

void pv_sched_init(struct pv_domain *d);
void pv_sched_reset(struct pv_domain *d);
void pv_sched_state(struct pv_domain *d, struct state *s);

#endif
