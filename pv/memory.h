/* SPDX-License-Identifier: MIT */
/* The guest-physical layout under Xen: which frames lie where, pages given back, pages of the
 * hypervisor. */
#ifndef PVEMU_PV_MEMORY_H
#define PVEMU_PV_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct pv_domain;
struct state;

/* Puts an extra frame (index PV_FRAME_*) at gfn, PV_NO_GFN: nowhere. What was at gfn is gone,
 * and where the frame was is a hole. false: impossible gfn. Requests TLB flushes. */
bool pv_memory_place(struct pv_domain *d, unsigned extra, uint64_t gfn);
/* One page of RAM: the guest has it no more, has it again (zeroed). */
void pv_memory_give_back(struct pv_domain *d, uint64_t gfn);
void pv_memory_take_back(struct pv_domain *d, uint64_t gfn);
/* Of new memory the guest has only so many pages, by pseudo-physical number; the rest counts as
 * given back. */
void pv_memory_begin(struct pv_domain *d, uint64_t pages);
/* RAM by its number, given back or not. */
bool pv_memory_is_ram(const struct pv_domain *d, uint64_t gfn);
/* A page of RAM that was given back; PV_NO_GFN: none. */
uint64_t pv_memory_find_hole(const struct pv_domain *d);
/* Back to plain RAM everywhere and no extra frames (the caller places its own again). */
void pv_memory_reset(struct pv_domain *d);
void pv_memory_state(struct pv_domain *d, struct state *s);
/* Pages of RAM that the guest has now. */
uint64_t pv_memory_pages(const struct pv_domain *d);

#endif
