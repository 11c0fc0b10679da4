/* SPDX-License-Identifier: MIT */
/*
 * A second level of the TLB for user code: what the first one (cpu/interp/tlb.c) has given tags
 * and may have lost to other pages since. A miss there costs a tenth of a walk of the guest's
 * tables here, in programs that go over more memory than the first level covers (8 MiB).
 *
 * An entry is good as long as no tag was taken away, of whatever page: interp.near.forgotten
 * counts that, and is part of the entry. So nothing is ever cleared here, and what near.c says
 * about slots holds for entries as well.
 */
#include "engine.h"

static struct stlb_entry *stlb_entry(const struct dbt *d, uint64_t page)
{
    return &d->stlb[page >> MEM_PAGE_SHIFT & (DBT_STLB - 1)];
}

static bool stlb_used(const struct dbt *d)
{
    return d->interp.tlb == &d->interp.tlbs[TLB_USER] && d->interp.stress.tlb_entries == 0;
}

bool dbt_stlb_find(struct dbt *d, uint64_t page, bool write)
{
    const struct stlb_entry *s = stlb_entry(d, page);
    struct tlb_entry en = {.read = page,
                           .write = s->write ? page : TLB_NONE,
                           .exec = TLB_NONE,
                           .addend = s->addend};

    if (s->page != page || s->forgotten != d->interp.near.forgotten || (write && !s->write) ||
        !stlb_used(d)) {
        return false;
    }
    interp_tlb_put(d->interp.tlb, interp_tlb_slot(page), &en, s->shift, s->global);
    d->counts.n[COUNT_STLB_HITS]++;
    return true;
}

void dbt_stlb_add(struct dbt *d, uint64_t page)
{
    const struct tlb *t = d->interp.tlb;
    unsigned slot = interp_tlb_slot(page);
    const struct tlb_entry *en = &t->entry[slot];

    if (stlb_used(d) && en->read == page && !t->held[slot]) {
        *stlb_entry(d, page) = (struct stlb_entry){.page = page,
                                                   .forgotten = d->interp.near.forgotten,
                                                   .addend = en->addend,
                                                   .shift = t->shift[slot],
                                                   .global = t->global[slot],
                                                   .write = en->write == page};
    }
}
