/* SPDX-License-Identifier: MIT */
/* What a Xen toolstack does for a guest: its xenstore nodes, its CPUID leaves, shutdown
 * requests. */
#ifndef PVEMU_PV_TOOLSTACK_H
#define PVEMU_PV_TOOLSTACK_H

struct pv_domain;

/* Writes the guest's standard nodes (xen-abi 6.2), at creation and again after a reset. */
void toolstack_publish(struct pv_domain *d);
/* Where the rings lie, again, after d->store_gfn and d->console_gfn changed. */
void toolstack_publish_rings(struct pv_domain *d);
/* The new ports of a domain that was suspended. No shutdown is asked for any more. */
void toolstack_publish_resumed(struct pv_domain *d);

#endif
