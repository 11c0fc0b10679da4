/* SPDX-License-Identifier: MIT */
/* What evtchn.c (ports, operations, the 2-level ABI) and evtchn_fifo.c share. */
#ifndef PVEMU_PV_EVTCHN_PRIV_H
#define PVEMU_PV_EVTCHN_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/xen_abi.h"

enum evtchn_kind {
    EVTCHN_CLOSED,
    EVTCHN_UNBOUND, /* remote_dom may bind */
    EVTCHN_HOST,    /* to domain 0: host, or NULL between load and binding */
    EVTCHN_LOCAL,   /* to remote_port of the same guest */
    EVTCHN_VIRQ,
    EVTCHN_IPI,
    EVTCHN_NR_KINDS
};

struct evtchn_port {
    uint8_t kind;
    uint8_t vcpu; /* who is told */
    uint8_t virq;
    /* FIFO: */
    uint8_t priority;
    uint8_t queue_vcpu, queue_priority; /* the queue it was linked to last */
    bool early;                         /* pending, but its event word does not exist yet */
    uint16_t remote_dom;
    uint32_t remote_port;
    struct evtchn_host *host;
};

struct evtchn_fifo;

struct evtchn_table {
    struct pv_domain *domain;
    struct evtchn_port port[EVTCHN_MAX_PORTS];  /* 0 is never used */
    uint16_t virq_port[PV_MAX_VCPUS][NR_VIRQS]; /* 0: not bound */
    struct evtchn_fifo *fifo;                   /* NULL: the 2-level ABI */
};

/* evtchn.c */
/* Sets upcall_pending and tells the vCPU if it was clear. */
void evtchn_mark_upcall(struct pv_domain *d, unsigned vcpu);

/*
 * evtchn_fifo.c. Only init_control and free may be called without d->evtchn->fifo.
 */
int64_t evtchn_fifo_init_control(struct pv_domain *d, struct evtchn_init_control *op);
int64_t evtchn_fifo_expand_array(struct pv_domain *d, const struct evtchn_expand_array *op);
/* Back to the 2-level ABI; its pages are let go. */
void evtchn_fifo_free(struct evtchn_table *t);
/* Sets PENDING and links the event if it is not masked. false: it was pending already. */
bool evtchn_fifo_set_pending(struct pv_domain *d, uint32_t port);
void evtchn_fifo_clear_pending(struct pv_domain *d, uint32_t port);
bool evtchn_fifo_is_pending(struct pv_domain *d, uint32_t port);
/* Linked still: the number must not be given away. */
bool evtchn_fifo_is_busy(struct pv_domain *d, uint32_t port);
void evtchn_fifo_unmask(struct pv_domain *d, uint32_t port);
void evtchn_fifo_state(struct evtchn_table *t, struct state *s);

#endif
