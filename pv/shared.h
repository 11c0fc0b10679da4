/* SPDX-License-Identifier: MIT */
/*
 * The two layouts of shared info (xen/xen.h; xen/foreign/x86_32.h for 32-bit guests). A vcpu_info
 * is 64 bytes in both and differs in the event selector only, so struct vcpu_info serves for the
 * rest; behind the 32 of them the bitmaps of the 2-level event channels have 32 or 64 words of
 * as many bits, and the wall clock follows.
 *
 * Which one is in force is sampled, as Xen does, from the mode of the vCPU at the moments when
 * drivers set themselves up: the hypercall page and HVM_PARAM_CALLBACK_IRQ; here also when shared
 * info is mapped, for kernels that read the wall clock before and use no hypercall page. It is
 * the 64-bit one at first. A PV guest here is always a 64-bit one.
 */
#ifndef PVEMU_PV_SHARED_H
#define PVEMU_PV_SHARED_H

#include <stdbool.h>
#include <stdint.h>

struct pv_domain;
struct vcpu;

/* Takes the layout of v's present mode. Words that mean something else in the new layout are
 * cleared; the wall clock is written anew. Board lock held. */
void pv_shared_latch(struct pv_domain *d, const struct vcpu *v);

/* The bitmaps by port, and the selector of a vCPU by word of them (bits.h). */
uint32_t *pv_shared_pending(struct pv_domain *d);
uint32_t *pv_shared_mask(struct pv_domain *d);
uint32_t *pv_shared_selector(struct pv_domain *d, unsigned vcpu);
/* Bits of a word of them, 32 or 64: a selector has as many, so ports below its square exist. */
unsigned pv_shared_word_bits(const struct pv_domain *d);

struct pv_wallclock {
    uint32_t *version, *sec, *nsec, *sec_hi;
};
struct pv_wallclock pv_shared_wallclock(struct pv_domain *d);

#endif
