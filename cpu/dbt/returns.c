/* SPDX-License-Identifier: MIT */
/*
 * Returns, predicted by the host. A guest's CALL pushes its return address also on a stack of
 * translated code's own and does a host CALL; a guest's RET does a host RET, to behind that
 * CALL, where the address it really leads to is compared (flow.c). Where they differ, or nothing is
 * left, it goes through the table of jumps. A full stack runs into the page below it and
 * starts anew (accel.c).
 *
 * What is pushed belongs to one address space and privilege: each TLB has a stack, which is
 * emptied when page tables change, like the tables of jumps. It survives its translation: what
 * is behind the CALL leads on by a link, which is taken back when code changes.
 */
#include "engine.h"

#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"

enum { RETURNS_EACH = MEM_PAGE_SIZE + DBT_RETURNS };

/* A shadow stack of the host's would not forgive. */
static bool returns_shadowed(void)
{
    uint64_t ssp = 0;

    __asm__ volatile("rdsspq %0" : "+r"(ssp)); /* a NOP where there is none */
    return ssp != 0;
}

/* It is with AMD; Intel's takes 5 cycles or more. */
static bool returns_quick_loop(void)
{
    uint32_t a, name[3];

    return __get_cpuid(0, &a, &name[0], &name[2], &name[1]) != 0 &&
           (memcmp(name, "AuthenticAMD", sizeof(name)) == 0 ||
            memcmp(name, "HygonGenuine", sizeof(name)) == 0);
}

uint64_t dbt_returns_top(const struct dbt *d, unsigned index)
{
    return (uint64_t)(uintptr_t)(d->returns + (index + 1) * RETURNS_EACH) - 16;
}

bool dbt_returns_init(struct dbt *d)
{
    d->returns = arena_map(NULL, TLB_NR * RETURNS_EACH);
    if (d->returns == NULL) {
        return false;
    }
    d->no_returns = returns_shadowed();
    d->quick_loop = returns_quick_loop();
    for (unsigned i = 0; i < TLB_NR; i++) {
        if (mprotect(d->returns + i * RETURNS_EACH, MEM_PAGE_SIZE, PROT_NONE) != 0) {
            return false;
        }
    }
    return true;
}

void dbt_returns_fini(struct dbt *d)
{
    arena_unmap(d->returns, TLB_NR * RETURNS_EACH);
    d->returns = NULL;
}

void dbt_returns_reset(struct dbt *d, unsigned index)
{
    uint64_t top = dbt_returns_top(d, index);

    *(uint64_t *)(uintptr_t)top =
        (uint64_t)(uintptr_t)(d->rx + d->common_bottom[d->mode[index] != MODE_64]);
    if (index == d->index) {
        d->sp = top;
    } else {
        d->sps[index] = top;
    }
}

void dbt_returns_reset_all(struct dbt *d)
{
    for (unsigned i = 0; i < TLB_NR; i++) {
        dbt_returns_reset(d, i);
    }
}

bool dbt_returns_full(const struct dbt *d, uint64_t address)
{
    return address - (uint64_t)(uintptr_t)(d->returns + d->index * RETURNS_EACH) <
           MEM_PAGE_SIZE;
}

const void *dbt_return(struct dbt *d, uint32_t number)
{
    struct interp *e = &d->interp;
    struct cpu_x86 *cpu = &e->v->cpu;
    const struct insn *in;

    d->counts.n[COUNT_RETURNS]++;
    d->why = "return";
    d->link = 0;
    if (likely(interp_canonical(d->keep))) {
        cpu->rip = d->keep;
        return dbt_go(d);
    }
    /* The RET itself faults: once more, by the interpreter. */
    dbt_home(d, number);
    in = dbt_insn(d, number);
    cpu->gpr[CPU_RSP] -= 8;
    if (in->nr_operands > 0 && in->op[0].kind == OPK_IMM) {
        cpu->gpr[CPU_RSP] -= in->imm;
    }
    return interp_generic(e, in) ? NULL : dbt_fault(d);
}
