/* SPDX-License-Identifier: MIT */
/*
 * Where a Linux kernel makes its hypercalls inline: two functions next to each other, one that is
 * VMMCALL and one that is VMCALL (arch/x86/xen/xen-head.S since XSA-466). Kernels with a
 * hypercall page have none: that page is the hypervisor's text.
 */
#ifndef PVEMU_BOOT_CALL_SITES_H
#define PVEMU_BOOT_CALL_SITES_H

#include <stdbool.h>
#include <stdint.h>

struct boot_image;

enum {
    CALL_SITE_BEFORE = 4, /* bytes before the instruction that are looked at: ENDBR64 */
    CALL_SITE_APART = 64, /* the farthest the two are from each other */
    CALL_SITE_WINDOW = CALL_SITE_BEFORE + CALL_SITE_APART + 8,
};

/* window: CALL_SITE_WINDOW bytes, from CALL_SITE_BEFORE before `gpa` on. Is the first instruction
 * of the pair at gpa? How many bytes on the second one is; 0: it is not. */
unsigned call_site_apart(const uint8_t *window, uint64_t gpa);
/* Is it a Linux that makes hypercalls, but neither by a page (its notes tell) nor by a pair that
 * call_site_apart() knows? */
bool call_sites_unknown(const struct boot_image *img);

#endif
