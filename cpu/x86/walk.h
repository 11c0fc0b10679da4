/* SPDX-License-Identifier: MIT */
/* The page walk of a TLB miss with its paging-structure cache; an engine has one a vCPU. */
#ifndef PVEMU_CPU_X86_WALK_H
#define PVEMU_CPU_X86_WALK_H

#include "cpu/x86/x86.h"

enum { X86_WALK_TABLES = 128, X86_WALK_DIRECTORIES = 16 };

struct x86_walk_entry {
    uint64_t space; /* 0: empty */
    uint64_t prefix; /* of the addresses */
    uint64_t rights;
    const uint8_t *table; /* in the host */
};

struct x86_walk_cache {
    struct x86_walk_entry tables[X86_WALK_TABLES];
    struct x86_walk_entry directories[X86_WALK_DIRECTORIES];
};

/*
 * As x86_translate(), but false says only that it has to be asked: nothing has changed then. What
 * is cached for `space` (not 0) is taken as still good; a change of the guest's memory layout, of
 * EFER.NXE or of paging makes all of it bad.
 */
bool x86_walk(struct vcpu *v, struct x86_walk_cache *c, uint64_t space, uint64_t gva,
              unsigned access, struct x86_mapping *map);

#endif
