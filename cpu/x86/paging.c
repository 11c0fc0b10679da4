/* SPDX-License-Identifier: MIT */
/*
 * The page walker: no paging, 32-bit, PAE and 4-level tables (Intel SDM vol. 3 chapter 4).
 *
 * It is the TLB fill path of every engine, so it reads table entries straight from guest RAM.
 * Tables that lie outside RAM read as not present. A and D are set by compare-and-exchange;
 * when another processor changed the entry meanwhile the walk starts again. PAE PDPTEs are read
 * from memory at every walk, as AMD does under nested paging. Left out: 5-level paging,
 * protection keys, CET.
 */
#include "cpu/x86/x86.h"

#include "core/memory.h"
#include "cpu/x86/internal.h"

enum { WALK_MAX_RETRIES = 1000 };

enum walk_result { WALK_OK, WALK_NOT_PRESENT, WALK_RESERVED };

struct walk {
    void *entry[4];    /* host addresses of the entries that have A (and the leaf D) */
    uint64_t value[4];
    unsigned depth;
    bool narrow;       /* 4-byte entries */
    bool user, writable, nx;
    uint64_t page_size, gpa;
};

/* Host address of the table entry at gpa, NULL outside RAM. */
static void *paging_entry(struct vcpu *v, uint64_t gpa)
{
    uint8_t *page = mem_page(v->mem, gpa >> MEM_PAGE_SHIFT);

    return page != NULL ? page + (gpa & (MEM_PAGE_SIZE - 1)) : NULL;
}

static enum walk_result paging_walk_32(struct vcpu *v, uint32_t gva, struct walk *w)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint64_t table = cpu->cr3 & 0xfffff000;

    w->narrow = true;
    w->user = w->writable = true;
    for (unsigned level = 2; level > 0; level--) {
        unsigned shift = level == 2 ? 22 : 12;
        uint32_t *entry = paging_entry(v, table + ((gva >> shift) & 0x3ff) * 4);
        uint32_t e = entry != NULL ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

        if ((e & PTE_P) == 0) {
            return WALK_NOT_PRESENT;
        }
        w->entry[w->depth] = entry;
        w->value[w->depth++] = e;
        w->user = w->user && (e & PTE_US) != 0;
        w->writable = w->writable && (e & PTE_RW) != 0;
        if (level == 2 && (e & PTE_PS) != 0 && (cpu->cr4 & CPU_CR4_PSE) != 0) {
            uint64_t high = (e >> 13) & 0xff; /* PSE-36 */
            uint64_t base = (e & 0xffc00000) | high << 32;

            if ((e & (1u << 21)) != 0 || (base >> cpu_model_of(v)->phys_bits) != 0) {
                return WALK_RESERVED;
            }
            w->page_size = 4u << 20;
            w->gpa = base | (gva & 0x3fffff);
            return WALK_OK;
        }
        table = e & 0xfffff000;
    }
    w->page_size = MEM_PAGE_SIZE;
    w->gpa = table | (gva & 0xfff);
    return WALK_OK;
}

static uint64_t paging_phys_reserved(const struct vcpu *v)
{
    return ~((1ull << cpu_model_of(v)->phys_bits) - 1) & PTE_ADDR;
}

static uint64_t paging_pdpte_reserved(const struct vcpu *v)
{
    return paging_phys_reserved(v) | 0xfff0000000000000ull | 0x1e6;
}

/* Reserved bits of an 8-byte entry at `level`, beyond the address width. */
static uint64_t paging_level_reserved(const struct vcpu *v, unsigned level, uint64_t e)
{
    const struct cpu_model *model = cpu_model_of(v);
    bool leaf = level == 1 || (e & PTE_PS) != 0;

    switch (level) {
    case 4:
        return PTE_PS | (model->amd ? PTE_G : 0);
    case 3:
        if (!leaf) {
            return model->amd ? PTE_G : 0;
        }
        return model->pages_1g ? 0x3fffe000 : PTE_PS;
    case 2:
        return leaf ? 0x1fe000 : 0;
    default:
        return 0;
    }
}

static enum walk_result paging_walk_64(struct vcpu *v, uint64_t gva, struct walk *w)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool nxe = (cpu->efer & CPU_EFER_NXE) != 0;
    uint64_t reserved = paging_phys_reserved(v) | (nxe ? 0 : PTE_NX);
    uint64_t table = cpu->cr3 & PTE_ADDR;
    unsigned level = 4;

    if (!cpu_is_long_mode(cpu)) {
        uint64_t gpa = (cpu->cr3 & 0xffffffe0) + ((gva >> 30) & 3) * 8;
        const uint64_t *entry = paging_entry(v, gpa);
        uint64_t e = entry != NULL ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

        if ((e & PTE_P) == 0) {
            return WALK_NOT_PRESENT;
        }
        if ((e & paging_pdpte_reserved(v)) != 0) {
            return WALK_RESERVED;
        }
        table = e & PTE_ADDR;
        reserved |= 0x7ff0000000000000ull;
        level = 2;
    }
    w->user = w->writable = true;
    for (;; level--) {
        unsigned shift = 12 + (level - 1) * 9;
        uint64_t *entry = paging_entry(v, table + ((gva >> shift) & 0x1ff) * 8);
        uint64_t e = entry != NULL ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

        if ((e & PTE_P) == 0) {
            return WALK_NOT_PRESENT;
        }
        if ((e & (reserved | paging_level_reserved(v, level, e))) != 0) {
            return WALK_RESERVED;
        }
        w->entry[w->depth] = entry;
        w->value[w->depth++] = e;
        w->user = w->user && (e & PTE_US) != 0;
        w->writable = w->writable && (e & PTE_RW) != 0;
        w->nx = w->nx || (e & PTE_NX) != 0;
        if (level == 1 || (e & PTE_PS) != 0) {
            w->page_size = 1ull << shift;
            w->gpa = (e & PTE_ADDR & ~(w->page_size - 1)) | (gva & (w->page_size - 1));
            return WALK_OK;
        }
        table = e & PTE_ADDR;
    }
}

static enum walk_result paging_walk(struct vcpu *v, uint64_t gva, struct walk *w)
{
    w->depth = 0;
    w->nx = w->narrow = false;
    return (v->cpu.cr4 & CPU_CR4_PAE) != 0 ? paging_walk_64(v, gva, w)
                                            : paging_walk_32(v, (uint32_t)gva, w);
}

static bool paging_fault(const struct vcpu *v, uint64_t gva, unsigned access, uint32_t error,
                         struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool nx = (cpu->cr4 & CPU_CR4_PAE) != 0 && (cpu->efer & CPU_EFER_NXE) != 0;

    if ((access & X86_WRITE) != 0) {
        error |= CPU_PFEC_W;
    }
    if ((access & X86_USER) != 0) {
        error |= CPU_PFEC_U;
    }
    if ((access & X86_EXEC) != 0 && (nx || (cpu->cr4 & CPU_CR4_SMEP) != 0)) {
        error |= CPU_PFEC_I;
    }
    x86_fault_code(fault, CPU_PAGE_FAULT, error);
    fault->cr2 = gva;
    return false;
}

static bool paging_allowed(const struct cpu_x86 *cpu, const struct walk *w, unsigned access)
{
    bool write = (access & X86_WRITE) != 0;

    if ((access & X86_EXEC) != 0 && w->nx) {
        return false;
    }
    if ((access & X86_USER) != 0) {
        return w->user && (!write || w->writable);
    }
    if (write && !w->writable && (cpu->cr0 & CPU_CR0_WP) != 0) {
        return false;
    }
    if (!w->user) {
        return true;
    }
    if ((access & X86_EXEC) != 0) {
        return (cpu->cr4 & CPU_CR4_SMEP) == 0;
    }
    return (cpu->cr4 & CPU_CR4_SMAP) == 0 ||
           ((access & X86_IMPLICIT) == 0 && (cpu->rflags & CPU_AC) != 0);
}

/* Sets the bits in one entry; false when it changed under us. */
static bool paging_set_bits(struct vcpu *v, struct walk *w, unsigned i, uint64_t bits)
{
    bool ok;

    if ((w->value[i] & bits) == bits) {
        return true;
    }
    if (w->narrow) {
        uint32_t old = (uint32_t)w->value[i];

        ok = __atomic_compare_exchange_n((uint32_t *)w->entry[i], &old, old | (uint32_t)bits,
                                         false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
        uint64_t old = w->value[i];

        ok = __atomic_compare_exchange_n((uint64_t *)w->entry[i], &old, old | bits, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    if (ok) {
        w->value[i] |= bits;
        mem_written_at(v->mem, mem_hva_frame(v->mem, w->entry[i]),
                       (unsigned)(uintptr_t)w->entry[i] & (MEM_PAGE_SIZE - 1), w->narrow ? 4 : 8);
    }
    return ok;
}

static bool paging_set_accessed(struct vcpu *v, struct walk *w, bool write)
{
    for (unsigned i = 0; i < w->depth; i++) {
        bool leaf = i + 1 == w->depth;

        if (!paging_set_bits(v, w, i, PTE_A | (leaf && write ? PTE_D : 0))) {
            return false;
        }
    }
    return true;
}

bool x86_translate(struct vcpu *v, uint64_t gva, unsigned access, struct x86_mapping *map,
                   struct x86_fault *fault)
{
    struct walk w;

    if ((v->cpu.cr0 & CPU_CR0_PG) == 0) {
        *map = (struct x86_mapping){
            .gpa = (uint32_t)gva, .page_size = MEM_PAGE_SIZE,
            .user = true, .executable = true, .writable = true, .dirty = true,
        };
        return true;
    }
    for (unsigned tries = 0; tries < WALK_MAX_RETRIES; tries++) {
        enum walk_result result = paging_walk(v, gva, &w);

        if (result != WALK_OK) {
            uint32_t error = result == WALK_RESERVED ? CPU_PFEC_P | CPU_PFEC_RSVD : 0;

            return paging_fault(v, gva, access, error, fault);
        }
        if (!paging_allowed(&v->cpu, &w, access)) {
            return paging_fault(v, gva, access, CPU_PFEC_P, fault);
        }
        if (paging_set_accessed(v, &w, (access & X86_WRITE) != 0)) {
            *map = (struct x86_mapping){
                .gpa = w.gpa, .page_size = w.page_size,
                .user = w.user, .executable = !w.nx, .writable = w.writable,
                .global = x86_global_page(v, gva, w.value[w.depth - 1]),
                .dirty = (w.value[w.depth - 1] & PTE_D) != 0,
            };
            return true;
        }
    }
    /* Another processor never leaves the entry alone: a spurious fault, the guest retries. */
    return paging_fault(v, gva, access, 0, fault);
}

bool x86_probe(struct vcpu *v, uint64_t gva, uint64_t *gpa)
{
    struct walk w;

    if ((v->cpu.cr0 & CPU_CR0_PG) == 0) {
        *gpa = (uint32_t)gva;
        return true;
    }
    if (paging_walk(v, gva, &w) != WALK_OK) {
        return false;
    }
    *gpa = w.gpa;
    return true;
}

bool x86_pdptes_valid(struct vcpu *v, uint64_t cr3)
{
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t *entry = paging_entry(v, (cr3 & 0xffffffe0) + i * 8);
        uint64_t e = entry != NULL ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

        if ((e & PTE_P) != 0 && (e & paging_pdpte_reserved(v)) != 0) {
            return false;
        }
    }
    return true;
}
