/* SPDX-License-Identifier: MIT */
/*
 * Event channels, the 2-level ABI (xen/event_channel.h). The guest's end is driven by
 * hypercalls and by bits in shared info; the other end of a port made for domain 0 is a back
 * end in this process.
 */
#ifndef PVEMU_PV_EVTCHN_H
#define PVEMU_PV_EVTCHN_H

#include <stdbool.h>
#include <stdint.h>

struct pv_domain;
struct vcpu;
struct state;

/* A back end's end of a channel. Embedded in the back end. */
struct evtchn_host {
    /* The guest sent an event. On the vCPU's thread, lock held: must be quick
     * (board_ops->post). */
    void (*notified)(void *opaque);
    void *opaque;
    struct pv_domain *domain;
    uint32_t port; /* 0: not bound */
};

struct evtchn_table *evtchn_new(struct pv_domain *d);
void evtchn_free(struct evtchn_table *t);
void evtchn_reset(struct pv_domain *d);
void evtchn_state(struct pv_domain *d, struct state *s);

/* Toolstack side: a port of the guest, unbound, for domain 0. 0 when there is none left. */
uint32_t evtchn_alloc_for_host(struct pv_domain *d);
/* Binds the host end to a guest port that was allocated unbound for domain 0. -EINVAL otherwise
 * (wrong port, bound already). Events sent before are lost: look at the ring after binding. The
 * guest may close the port at any time: h->port becomes 0 and notify is then a no-op. After
 * state was loaded the port is unbound again: each owner of a host end binds it anew. */
int evtchn_host_bind(struct pv_domain *d, struct evtchn_host *h, uint32_t port);
void evtchn_host_unbind(struct evtchn_host *h);
/* Sends an event to the guest. */
void evtchn_host_notify(struct evtchn_host *h);

/* Raises a VIRQ on a vCPU if the guest bound it. */
void evtchn_virq(struct pv_domain *d, unsigned vcpu, unsigned virq);

/* True when the vCPU's upcall is pending. For PVH: used at (re)enabling of the upcall vector.
 */
bool evtchn_upcall_pending(struct pv_domain *d, unsigned vcpu);

/* Delivers the upcall of a vCPU again if it is pending (after a vector or vcpu_info was set).
 */
void evtchn_inject(struct pv_domain *d, unsigned vcpu);
/* Marks the upcall pending and every selector bit, so that nothing is lost when vcpu_info
 * moves. */
void evtchn_mark_all(struct pv_domain *d, unsigned vcpu);
/* SCHEDOP_poll: whether the port's pending bit is set; ports from 1 to EVTCHN_MAX_PORTS - 1. */
enum { EVTCHN_MAX_PORTS = 4096 };
bool evtchn_is_pending(struct pv_domain *d, uint32_t port);

/* HYPERVISOR_event_channel_op(cmd, arg) */
int64_t evtchn_op(struct pv_domain *d, struct vcpu *v, uint32_t cmd, uint64_t arg_gva);

/* A PV guest's types were made anew: the pages of the FIFO ABI take their references. false:
 * one of them has another type. */
bool evtchn_fifo_hold(struct pv_domain *d);

#endif
