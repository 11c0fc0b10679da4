/* SPDX-License-Identifier: MIT */
/*
 * The cached page of the stack, one for each TLB the vCPU runs with: its host address is in
 * interp.stack.base as long as it has a write tag. Translations check once that what they use
 * of the stack is in it; where it is not, another page is cached, or, where the stack just lies
 * over the end of a page or is not plain memory, a translation runs that checks every access.
 */
#include "engine.h"

void dbt_stack_switch(struct dbt *d, unsigned index)
{
    struct interp *e = &d->interp;

    e->stacks[d->index] = e->stack;
    e->stack = e->stacks[index];
    d->sps[d->index] = d->sp;
    d->sp = d->sps[index];
    d->jump_at = index * sizeof(d->jumps[0]);
    d->index = index;
}

void dbt_stack_mode(struct dbt *d)
{
    d->mode[d->index] = d->interp.mode;
    dbt_returns_reset(d, d->index);
    interp_stack_forget(&d->interp);
}

/* Not the first or the last page that 32-bit code has, whose RSP might wrap (translate.h). */
static bool stack_allowed(const struct dbt *d, uint64_t va)
{
    return d->interp.mode == MODE_64 || (va / MEM_PAGE_SIZE > 0 && va / MEM_PAGE_SIZE < DBT_LAST_PAGE32);
}

/* A page that may be written, and was: D is not for this to set. */
static bool stack_cache(struct dbt *d, uint64_t va)
{
    struct interp *e = &d->interp;
    const struct tlb_entry *en = &e->tlb->entry[interp_tlb_slot(va)];

    if (!stack_allowed(d, va)) {
        return false;
    }
    if (en->write != PAGE_BASE(va) &&
        (!interp_canonical(va) || !dbt_fill(d, va, false) || en->write != PAGE_BASE(va))) {
        return false;
    }
    e->stack = (struct interp_stack){
        .base = PAGE_BASE(va) + en->addend, .addend = en->addend, .minus = -en->addend};
    d->stack_base = e->stack.base;
    return true;
}

static uint32_t stack_plain(struct dbt *d, struct tb *t, unsigned index)
{
    if (t->code[index].plain == 0) {
        if (!dbt_cache_room(d)) {
            interp_attend(&d->interp, ATTENTION_DROP, true);
            return 0;
        }
        interp_fpu_home(&d->interp);
        dbt_translate_plain(d, t, index);
        if (dbt_tb_outdated(d, t)) {
            return 0;
        }
    }
    return t->code[index].plain;
}

const void *dbt_stack(struct dbt *d, uint32_t number)
{
    struct tb *t = &d->tbs[number / TLB_NR];
    const struct tb_code *code = &t->code[number % TLB_NR];
    struct vcpu *v = d->interp.v;
    uint64_t first = v->cpu.gpr[CPU_RSP] + (uint64_t)(int64_t)code->low;
    uint64_t last = v->cpu.gpr[CPU_RSP] + (uint64_t)(int64_t)code->high - 1;
    uint32_t to = code->mem[2];

    d->counts.n[COUNT_STACK]++;
    d->why = "stack page";
    d->link = 0;
    d->interp.current = t->block;
    v->engine_words[1] = d->page;
    v->cpu.rip = d->page + t->block->offset;
    if (PAGE_BASE(first) != PAGE_BASE(last) || !stack_cache(d, first)) {
        to = stack_plain(d, t, number % TLB_NR);
    }
    return to == 0 ? NULL : dbt_resume(d, t, to);
}
