/* SPDX-License-Identifier: MIT */
/*
 * Copies to and from guest linear memory, page by page: translate, then copy through mem_read
 * and mem_write, which check that the page is backed. Faults are answered, never injected
 * (xen-abi 2.1).
 */
#include "pv/guest_access.h"

#include <glib.h>

#include "core/cpu.h"
#include "core/memory.h"
#include "core/vcpu.h"

/* Whether [gva, gva + len) lies in the address space of the current mode without wrapping. */
static bool guest_range_ok(const struct vcpu *v, uint64_t gva, size_t len)
{
    uint64_t last = gva + (len - 1);

    if (last < gva) {
        return false;
    }
    if (!cpu_is_code64(&v->cpu)) {
        return last <= UINT32_MAX;
    }
    /* 48-bit canonical at both ends, on the same side of the hole. */
    return (uint64_t)((int64_t)(gva << 16) >> 16) == gva &&
           (uint64_t)((int64_t)(last << 16) >> 16) == last && (gva >> 63) == (last >> 63);
}

static bool guest_copy(struct vcpu *v, uint64_t gva, uint8_t *buf, size_t len, bool write)
{
    if (len == 0) {
        return true;
    }
    if (v->mmu == NULL || !guest_range_ok(v, gva, len)) {
        return false;
    }
    while (len > 0) {
        size_t chunk = MIN(len, (size_t)(MEM_PAGE_SIZE - (gva & (MEM_PAGE_SIZE - 1))));
        uint64_t gpa;

        if (!v->mmu->translate(v, gva, write, &gpa) ||
            !(write ? mem_write(v->mem, gpa, buf, chunk) : mem_read(v->mem, gpa, buf, chunk))) {
            return false;
        }
        buf += chunk, gva += chunk, len -= chunk;
    }
    return true;
}

bool guest_read(struct vcpu *v, uint64_t gva, void *buf, size_t len)
{
    return guest_copy(v, gva, buf, len, false);
}

bool guest_write(struct vcpu *v, uint64_t gva, const void *buf, size_t len)
{
    return guest_copy(v, gva, (uint8_t *)buf, len, true); /* only read from when writing */
}
