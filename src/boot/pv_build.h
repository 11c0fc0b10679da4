/* SPDX-License-Identifier: MIT */
/*
 * The domain builder: loads a kernel for its Xen PV entry, 64-bit (xen-abi 1.4). Pages are
 * handed out by pseudo-physical number from 0, as Xen's toolstack does:
 *
 *     the kernel where its segments say; the initrd and the list of frames, for kernels that
 *     want them mapped; start info, xenstore ring, console ring, page tables, a boot stack; up
 *     to the next 4 MiB all of it is mapped at VIRT_BASE. Behind that the initrd and the list
 *     of frames with page tables of its own, for kernels that take them there.
 */
#ifndef PVEMU_BOOT_PV_BUILD_H
#define PVEMU_BOOT_PV_BUILD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "boot/boot_image.h"
#include "core/memory.h"

enum { PV_CMDLINE_MAX = 1023 };

struct pv_params {
    const char *cmdline; /* NULL: none */
    const void *initrd;  /* NULL: none; borrowed */
    size_t initrd_len;
    uint64_t nr_pages;    /* that it begins with: the first ones */
    uint64_t shared_info; /* machine address */
    uint32_t store_port, console_port;
};

struct pv_layout {
    uint64_t entry, stack, start_info; /* rip, rsp, rsi: virtual */
    uint64_t root_mfn;                 /* L4 */
    uint64_t store_mfn, console_mfn;
    bool has_hypercall_page;
    uint64_t hypercall_page; /* machine address */
};

/* Fills guest memory and *out. *err says what does not fit or is missing. */
bool pv_build(const struct boot_image *img, struct mem *mem, const struct pv_params *params,
              struct pv_layout *out, GError **err);

#endif
