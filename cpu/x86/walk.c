/* SPDX-License-Identifier: MIT */
/*
 * The page walk of a TLB miss, for the common case only: 4-level tables in RAM, access allowed.
 * Compiled with -mgeneral-regs-only, so an engine may call it while the guest's vector state is
 * in the host's registers. Whatever is not plain is left to x86_translate().
 *
 * A paging-structure cache (SDM vol. 3 4.10.3) remembers which page table, or page directory, an
 * upper part of an address leads to and what the levels above allow. It is filled only from
 * entries whose A is set. Its owner gives each address space a number (`space`) and takes a new
 * one where the architecture says that entries go.
 */
#include "cpu/x86/walk.h"

#include "core/memory.h"
#include "cpu/x86/internal.h"

/* What all levels so far allow: RW and US are ANDed, NX is ORed. */
#define WALK_RIGHTS (PTE_RW | PTE_US)

struct walk_state {
    struct vcpu *v;
    const struct cpu_model *model;
    uint64_t reserved, gva;
};

static struct x86_walk_entry *walk_slot(struct x86_walk_cache *c, uint64_t gva, unsigned level)
{
    unsigned shift = 12 + 9 * level;

    return level == 1 ? &c->tables[gva >> shift & (X86_WALK_TABLES - 1)]
                      : &c->directories[gva >> shift & (X86_WALK_DIRECTORIES - 1)];
}

/* The cached table of this level, whose entries map 4 KiB (1) or 2 MiB (2). */
static struct x86_walk_entry *walk_cached(struct x86_walk_cache *c, uint64_t space, uint64_t gva,
                                          unsigned level)
{
    struct x86_walk_entry *w = walk_slot(c, gva, level);

    return w->space == space && w->prefix == gva >> (12 + 9 * level) ? w : NULL;
}

static uint64_t *walk_entry(const struct walk_state *s, const uint8_t *table, unsigned level)
{
    unsigned index = s->gva >> (3 + 9 * level) & 0x1ff;

    return (uint64_t *)(uintptr_t)(table + index * 8);
}

/* Any bit here: not plain. Bits that are reserved at one level and leave the walk unharmed at
 * another are reserved here everywhere. */
static bool walk_reserved(const struct walk_state *s, unsigned level, uint64_t pte)
{
    uint64_t reserved = s->reserved;

    if (level == 4) {
        reserved |= PTE_PS | (s->model->amd ? PTE_G : 0);
    } else if (level == 3) {
        reserved |= (pte & PTE_PS) == 0     ? (s->model->amd ? PTE_G : 0)
                    : s->model->pages_1g ? 0x3fffe000
                                         : PTE_PS;
    } else if (level == 2 && (pte & PTE_PS) != 0) {
        reserved |= 0x1fe000;
    }
    return (pte & reserved) != 0;
}

static bool walk_allowed(const struct cpu_x86 *cpu, uint64_t rights, unsigned access)
{
    bool write = (access & X86_WRITE) != 0;

    if ((access & X86_EXEC) != 0 && (rights & PTE_NX) != 0) {
        return false;
    }
    if ((access & X86_USER) != 0) {
        return (rights & PTE_US) != 0 && (!write || (rights & PTE_RW) != 0);
    }
    if (write && (rights & PTE_RW) == 0 && (cpu->cr0 & CPU_CR0_WP) != 0) {
        return false;
    }
    if ((rights & PTE_US) == 0) {
        return true;
    }
    if ((access & X86_EXEC) != 0) {
        return (cpu->cr4 & CPU_CR4_SMEP) == 0;
    }
    return (cpu->cr4 & CPU_CR4_SMAP) == 0 ||
           ((access & X86_IMPLICIT) == 0 && (cpu->rflags & CPU_AC) != 0);
}

/* Sets A and D in a table entry. false: it changed, or the table holds code. */
static bool walk_set_bits(struct vcpu *v, uint64_t *entry, uint64_t *pte, uint64_t bits)
{
    struct mem_frame_info *info = mem_ram_info(v->mem, entry);
    uint64_t old = *pte;

    if ((old & bits) == bits) {
        return true;
    }
    if ((atomic_load(&info->flags) & MEM_CODE) != 0 ||
        !__atomic_compare_exchange_n(entry, &old, old | bits, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_RELAXED)) {
        return false;
    }
    *pte = old | bits;
    if ((atomic_load_explicit(&info->flags, memory_order_relaxed) & MEM_DIRTY) == 0) {
        atomic_fetch_or_explicit(&info->flags, MEM_DIRTY, memory_order_relaxed);
    }
    return true;
}

static uint64_t walk_combine(uint64_t rights, uint64_t pte)
{
    return (rights & pte & WALK_RIGHTS) | ((rights | pte) & PTE_NX);
}

/* From the deepest table that is known. */
static const uint8_t *walk_start(const struct walk_state *s, struct x86_walk_cache *c,
                                 uint64_t space, uint64_t *rights, unsigned *level)
{
    for (*level = 1; *level <= 2; (*level)++) {
        const struct x86_walk_entry *w = walk_cached(c, space, s->gva, *level);

        if (w != NULL) {
            *rights = w->rights;
            return w->table;
        }
    }
    *level = 4;
    *rights = WALK_RIGHTS;
    return mem_ram_page(s->v->mem, (s->v->cpu.cr3 & PTE_ADDR) >> MEM_PAGE_SHIFT);
}

static bool walk_leaf(const struct walk_state *s, uint64_t *entry, uint64_t pte, unsigned level,
                      uint64_t rights, unsigned access, struct x86_mapping *map)
{
    const struct cpu_x86 *cpu = &s->v->cpu;
    uint64_t size = 1ull << (3 + 9 * level);

    if (!walk_allowed(cpu, rights, access) ||
        !walk_set_bits(s->v, entry, &pte, PTE_A | ((access & X86_WRITE) != 0 ? PTE_D : 0))) {
        return false;
    }
    *map = (struct x86_mapping){
        .gpa = (pte & PTE_ADDR & ~(size - 1)) | (s->gva & (size - 1)),
        .page_size = size,
        .user = (rights & PTE_US) != 0,
        .executable = (rights & PTE_NX) == 0,
        .writable = (rights & PTE_RW) != 0,
        .global = x86_global_page(s->v, s->gva, pte),
        .dirty = (pte & PTE_D) != 0,
    };
    return true;
}

bool x86_walk(struct vcpu *v, struct x86_walk_cache *c, uint64_t space, uint64_t gva,
              unsigned access, struct x86_mapping *map)
{
    const struct cpu_x86 *cpu = &v->cpu;
    struct walk_state s = {.v = v, .model = cpu_model_of(v), .gva = gva};
    const uint8_t *table;
    uint64_t rights;
    unsigned level;

    if ((cpu->cr0 & CPU_CR0_PG) == 0 || !cpu_is_long_mode(cpu)) {
        return false;
    }
    s.reserved = (~((1ull << s.model->phys_bits) - 1) & PTE_ADDR) |
                 ((cpu->efer & CPU_EFER_NXE) != 0 ? 0 : PTE_NX);
    table = walk_start(&s, c, space, &rights, &level);
    for (; table != NULL; level--) {
        uint64_t *entry = walk_entry(&s, table, level);
        uint64_t pte = __atomic_load_n(entry, __ATOMIC_RELAXED);

        if ((pte & PTE_P) == 0 || walk_reserved(&s, level, pte)) {
            return false;
        }
        rights = walk_combine(rights, pte);
        if (level == 1 || (pte & PTE_PS) != 0) {
            return walk_leaf(&s, entry, pte, level, rights, access, map);
        }
        if ((pte & PTE_A) == 0) {
            return false; /* set only when the whole walk is good */
        }
        table = mem_ram_page(v->mem, (pte & PTE_ADDR) >> MEM_PAGE_SHIFT);
        if (level <= 3 && table != NULL) {
            *walk_slot(c, gva, level - 1) = (struct x86_walk_entry){
                .space = space,
                .prefix = gva >> (3 + 9 * level),
                .rights = rights,
                .table = table,
            };
        }
    }
    return false;
}
