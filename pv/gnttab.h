/* SPDX-License-Identifier: MIT */
/*
 * Grant tables, version 1 only (xen/grant_table.h). One function maps a grant for every back
 * end: bounds, domain, permission, the type of a PV guest's page, and the reading/writing bits
 * while it is in use.
 */
#ifndef PVEMU_PV_GNTTAB_H
#define PVEMU_PV_GNTTAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pv_domain;
struct vcpu;
struct state;

struct gnttab *gnttab_new(struct pv_domain *d);
void gnttab_free(struct gnttab *g);
void gnttab_reset(struct pv_domain *d);
void gnttab_state(struct pv_domain *d, struct state *s);

/* A granted page in use by a back end. */
struct gnttab_mapping {
    void *hva; /* the page; guest-writable while mapped: read fields once */
    uint32_t ref;
    bool write;
    uint32_t frame; /* memory frame, for accounting */
    uint32_t epoch; /* of the table: a mapping may outlive a reset */
};

/* Maps one granted page. 0, or a negative GNTST_* code (GNTST_bad_gntref,
 * GNTST_permission_denied, GNTST_general_error for a PV guest's page table that is to be
 * written, ...). The grant's GTF_reading/GTF_writing are set until
 * gnttab_unmap. Takes no lock of its own: board lock held. */
int gnttab_map(struct pv_domain *d, uint32_t ref, bool write, struct gnttab_mapping *map);
/* Marks the page written when mapped for write; clears the bits after the last mapping.
 * Harmless on a mapping that is not there (hva NULL) or was made before gnttab_reset. */
void gnttab_unmap(struct pv_domain *d, struct gnttab_mapping *map);
/* One-shot copies to or from a granted page at offset (offset + len <= 4096). 0 or GNTST_*. */
int gnttab_copy_from(struct pv_domain *d, uint32_t ref, unsigned offset, void *buf, size_t len);
int gnttab_copy_to(struct pv_domain *d, uint32_t ref, unsigned offset, const void *buf,
                   size_t len);
/* How many mappings are held (tests, leak checks). */
unsigned gnttab_mapped(struct pv_domain *d);

/* XENMEM_add_to_physmap space grant_table: the memory frame of the idx-th table frame, grown
 * when idx is beyond; MEM_HOLE when it cannot. */
uint32_t gnttab_frame(struct pv_domain *d, uint64_t idx);

/* Toolstack: fills a reserved entry (GNTTAB_RESERVED_CONSOLE, _XENSTORE). */
void gnttab_set_reserved(struct pv_domain *d, uint32_t ref, uint64_t gfn);

/* HYPERVISOR_grant_table_op(cmd, arg, count) */
struct hypercall;
int64_t gnttab_op(struct hypercall *h);

#endif
