/* SPDX-License-Identifier: MIT */
/*
 * Loads a kernel for its PVH entry: Xen's "x86/HVM direct boot"
 * (xen/arch-x86/hvm/start_info.h).
 *
 * Where things go:
 *     kernel         where its segments say (p_paddr)
 *     right after it command line, module list, memory map, start info (FreeBSD expects them
 * there) below the top  initrd, at the end of RAM below 4 GiB, page aligned 0xe0000        ACPI
 * tables, in the classic BIOS area that no e820 map calls RAM
 */
#ifndef PVEMU_BOOT_PVH_H
#define PVEMU_BOOT_PVH_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "boot/acpi.h"
#include "boot/boot_image.h"
#include "core/cpu.h"
#include "core/memory.h"

enum e820_type {
    E820_RAM = 1,
    E820_RESERVED = 2,
    E820_ACPI = 3,
    E820_NVS = 4,
    E820_UNUSABLE = 5,
};
enum { E820_MAX = 64, PVH_CMDLINE_MAX = 2047 };

struct e820_entry {
    uint64_t addr, size;
    uint32_t type;
};

struct e820_map {
    struct e820_entry entries[E820_MAX];
    unsigned count;
};

struct pvh_params {
    const char *cmdline; /* NULL: none */
    const void *initrd;  /* NULL: none; borrowed */
    size_t initrd_len;
    struct acpi_params acpi;
    const struct e820_entry
        *taken; /* ranges inside RAM that are not the guest's RAM; may be NULL */
    unsigned nr_taken;
    uint32_t flags; /* SIF_* for the start info; 0 for an ordinary domU */
};

struct pvh_layout {
    uint32_t entry;      /* EIP */
    uint32_t start_info; /* EBX: gpa of hvm_start_info */
    uint64_t kernel_start, kernel_end;
    uint64_t tables_end; /* one after the small structures behind the kernel */
    uint64_t initrd, initrd_len;
    uint64_t rsdp;
    struct e820_map e820; /* what the guest was told; XENMEM_memory_map answers the same */
};

/* The memory map of a PVH guest: RAM of `mem`, the legacy hole, `taken` ranges cut out. false
 * when it does not fit E820_MAX entries. */
bool e820_build(const struct mem *mem, const struct e820_entry *taken, unsigned nr_taken,
                struct e820_map *map);

/* Fills guest memory and *out. *err says what does not fit or is missing. */
bool pvh_build(const struct boot_image *img, struct mem *mem, const struct pvh_params *params,
               struct pvh_layout *out, GError **err);

/* Entry state of vCPU 0 (xen-abi 1.2). *cpu must be fresh from cpu_reset(). */
void pvh_vcpu_init(struct cpu_x86 *cpu, const struct pvh_layout *layout);

#endif
