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

/* --- second CPUs --- */

void flat_context(context_type *context, void *code, void *stack_pointer)
{
    struct vcpu_hvm_x86_32 *r = &context->cpu_regs.x86_32;

    *context = (context_type){.mode = VCPU_HVM_MODE_32B};
    r->eip = (uint32_t)(uintptr_t)code;
    r->esp = (uint32_t)(uintptr_t)stack_pointer;
    r->cr0 = 0x11;
    r->cs_limit = r->ds_limit = r->ss_limit = r->es_limit = 0xfffff;
    r->cs_ar = 0xc9b;
    r->ds_ar = r->ss_ar = r->es_ar = 0xc93;
    r->tr_limit = 0x67;
    r->tr_ar = 0x8b;
}

#ifdef __x86_64__

void second_context(context_type *context, void *code, void *stack_end)
{
    struct vcpu_hvm_x86_64 *r = &context->cpu_regs.x86_64;

    *context = (context_type){.mode = VCPU_HVM_MODE_64B};
    r->rip = (uint64_t)code;
    r->rsp = (uint64_t)stack_end - 8;
    r->rflags = 2;
    __asm__ volatile("movq %%cr0, %0\n\tmovq %%cr3, %1\n\tmovq %%cr4, %2"
                     : "=r"(r->cr0), "=r"(r->cr3), "=r"(r->cr4));
    r->efer = 0x500;
}

#else

void second_context(context_type *context, void *code, void *stack_end)
{
    flat_context(context, code, (uint8_t *)stack_end - 4);
}

#endif
