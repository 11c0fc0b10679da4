/* SPDX-License-Identifier: MIT */
/*
 * Time as a Xen guest sees it. Guest time (ns since boot) is defined by the TSC with the
 * multiplier that the guest gets, so the guest's own arithmetic and every deadline agree to the
 * nanosecond; the board's clock only carries timers, and says how long a pause was.
 */
#ifndef PVEMU_PV_TIME_H
#define PVEMU_PV_TIME_H

#include <stdbool.h>
#include <stdint.h>

struct pv_domain;
struct state;
struct timer;

struct pv_time *pv_time_new(struct pv_domain *d);
void pv_time_free(struct pv_time *t);
void pv_time_reset(struct pv_domain *d);
/* The clock of a domain that comes out of a suspend: guest time goes on from where it stopped,
 * no timer is set, runstates count from 0. */
void pv_time_renew(struct pv_domain *d);
void pv_time_state(struct pv_domain *d, struct state *s);

/* ns = (ticks << shift, or >> -shift) * mul >> 32. mul has its top bit set. */
struct pv_time_scale {
    uint32_t mul;
    int8_t shift;
};
struct pv_time_scale pv_time_scale_of(uint64_t hz);
uint64_t pv_time_ticks_to_ns(struct pv_time_scale scale, uint64_t ticks);

/* Guest time now, ns. */
uint64_t pv_time_now(struct pv_domain *d);
/* Arms a board timer for a guest time. The owner checks pv_time_now() when it fires, and arms
 * it again if early. */
void pv_time_arm(struct pv_domain *d, struct timer *t, uint64_t guest_ns);

/* The vCPU's timers (VCPUOP_set_*, set_timer_op). deadline 0 and period 0 stop. */
void pv_time_set_singleshot(struct pv_domain *d, unsigned vcpu, uint64_t deadline_ns);
void pv_time_set_periodic(struct pv_domain *d, unsigned vcpu, uint64_t period_ns);

/* Writes the wall clock into shared info. */
void pv_time_write_wallclock(struct pv_domain *d);
/* Writes vcpu_time_info of a vCPU. */
void pv_time_write_vcpu(struct pv_domain *d, unsigned vcpu);
/* Writes the copy at vcpu.time_gva (VCPUOP_register_vcpu_time_memory_area), through the page
 * tables of that vCPU: on its thread, or it is stopped. */
bool pv_time_write_area(struct pv_domain *d, unsigned vcpu);

/* Runstate: charges the time since the last change, enters a state, writes the registered area.
 */
void pv_time_runstate(struct pv_domain *d, unsigned vcpu, uint32_t state);
/* The runstate now, as VCPUOP_get_runstate_info shows it. */
struct vcpu_runstate_info;
struct vcpu;
void pv_time_get_runstate(struct pv_domain *d, unsigned vcpu, struct vcpu_runstate_info *info);
void pv_time_write_runstate(struct pv_domain *d, unsigned vcpu);
/* Writes *info for the guest in the 64-bit or 32-bit layout, through the tables of v, of a PV
 * guest those of its kernel. */
bool pv_time_put_runstate(struct pv_domain *d, struct vcpu *v, uint64_t gva, bool is_32bit,
                          const struct vcpu_runstate_info *info);

#endif
