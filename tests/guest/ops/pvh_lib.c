/* SPDX-License-Identifier: MIT */
/* What ops.h promises, for PVH kernels. */
#include "ops.h"

#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>

bool amd;
uint32_t start_info_at; /* what the kernel found in EBX */
extern uint8_t hypercall_page[];
static uint8_t pool[16][4096] __attribute__((aligned(4096)));
static unsigned pool_used;
static uint8_t shared_page[4096] __attribute__((aligned(4096)));
static uint8_t grant_page[4096] __attribute__((aligned(4096)));

static void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b)
{
    uint32_t c = 0, d;

    *a = leaf;
    __asm__ volatile("cpuid" : "+a"(*a), "=b"(*b), "+c"(c), "=d"(d));
}

void hypercall_init(void);

/* The page lies at MSR 0x40000000 or where the leaf says; the instruction is the vendor's. */
void hypercall_init(void)
{
    uint32_t pages, msr, a, vendor;

    cpuid(0, &a, &vendor);
    amd = vendor == 0x68747541; /* "Auth" */
    cpuid(0x40000002, &pages, &msr);
    __asm__ volatile("wrmsr" ::"c"(msr), "a"(hypercall_page), "d"(0) : "memory");
}

void *page_alloc(void)
{
    return pool_used < 16 ? pool[pool_used++] : NULL;
}

uint64_t va_mfn(const void *va)
{
    return (uintptr_t)va >> 12;
}

static void add_to_physmap(unsigned space, const void *va)
{
    struct xen_add_to_physmap op = {.domid = DOMID_SELF, .space = space, .gpfn = va_mfn(va)};

    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &op), 0);
}

struct shared_info *map_shared_info(void)
{
    add_to_physmap(XENMAPSPACE_shared_info, shared_page);
    return (struct shared_info *)shared_page;
}

struct grant_entry_v1 *map_grants(uint64_t frame)
{
    add_to_physmap(XENMAPSPACE_grant_table, grant_page);
    return (struct grant_entry_v1 *)grant_page;
}

const char *command_line(void)
{
    const struct hvm_start_info *info = (const void *)(uintptr_t)start_info_at;

    return info->cmdline_paddr != 0 ? (const char *)(uintptr_t)info->cmdline_paddr : "";
}
