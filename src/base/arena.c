/* SPDX-License-Identifier: MIT */
/*
 * Shared anonymous mappings. To the host they are files without a name: a page that is only read
 * costs memory as well, other than private ones', and large pages are /sys/kernel/mm's shmem_enabled.
 */
#include "base/arena.h"

#include <sys/mman.h>

void *arena_map(void *at, size_t bytes)
{
    int fixed = at != NULL ? MAP_FIXED_NOREPLACE : 0;
    void *p = mmap(at, bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void arena_unmap(void *p, size_t bytes)
{
    if (p != NULL) {
        munmap(p, bytes);
    }
}
