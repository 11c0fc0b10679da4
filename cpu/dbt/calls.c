/* SPDX-License-Identifier: MIT */
/*
 * C functions that translated code calls in the middle of a block: system instructions and faults
 * that emitted code (transit_emit.c) does not know or leaves to them. They save the way through the
 * interpreter's main loop; where something wants that (requests, traps, halts) they leave.
 */
#include "engine.h"

#include "base/log.h"

/* Something for the main loop? */
static bool calls_wanted(const struct interp *e)
{
    return (atomic_load_explicit(&e->v->request, memory_order_relaxed) & e->request_mask) !=
               0 ||
           atomic_load_explicit(&e->attention, memory_order_relaxed) != 0;
}

/* At cpu.rip, which may be anywhere. */
static const void *calls_go(struct dbt *d)
{
    return calls_wanted(&d->interp) ? NULL : dbt_go(d);
}

const void *dbt_arrive(struct dbt *d, uint32_t unused)
{
    (void)unused;
    d->link = 0;
    d->why = "system instruction";
    d->interp.v->cpu.rip = d->keep;
    return calls_go(d);
}

/* e->fault, by C. */
static const void *calls_fault(struct dbt *d, uint32_t unused)
{
    struct interp *e = &d->interp;

    (void)unused;
    if (d->lockstep == NULL && interp_fast_fault(e, &e->fault)) {
        return calls_go(d);
    }
    e->fault_pending = true;
    return NULL;
}

/* Is there emitted code that may deliver something to who runs? */
static bool calls_emitted(const struct dbt *d)
{
    const struct interp *e = &d->interp;

    return d->lockstep == NULL && e->v->pv == NULL && (log_mask & LOG_INT) == 0 &&
           d->common_deliver[e->tlb - e->tlbs] != 0;
}

enum { FRAME = 5 * sizeof(uint64_t) }; /* of an event without an error code */

const void *dbt_fault(struct dbt *d)
{
    const struct x86_fault *fault = &d->interp.fault;

    d->counts.n[COUNT_FAULTS]++;
    if (!calls_emitted(d) || !interp_fast_vector(fault->vector) ||
        d->interp.tlb != &d->interp.tlbs[d->index]) {
        return calls_fault(d, 0);
    }
    dbt_refresh(d);
    d->event = (struct dbt_event){
        .gate = fault->vector * DBT_GATE,
        .known = fault->vector * sizeof(struct interp_gate),
        .bytes = FRAME + (fault->has_error ? sizeof(uint64_t) : 0),
        .error = fault->error,
        .cr2 = fault->vector == CPU_PAGE_FAULT ? fault->cr2 : d->interp.v->cpu.cr2,
        .raises = CPU_RF,
        .refused = (const void *)(uintptr_t)calls_fault};
    return d->rx + d->common_deliver[d->index];
}

/* An interrupt is left to who asked for it. */
static const void *calls_interrupt(struct dbt *d, uint32_t unused)
{
    (void)unused;
    d->delivered = false;
    return NULL;
}

bool dbt_take(struct interp *e, uint8_t vector)
{
    enum { FIRST = 32 };
    struct dbt *d = dbt_of(e);

    if (vector < FIRST || e->mode != MODE_64 || !calls_emitted(d)) {
        return false;
    }
    d->event = (struct dbt_event){
        .gate = vector * DBT_GATE,
        .known = vector * sizeof(struct interp_gate),
        .bytes = FRAME,
        .cr2 = e->v->cpu.cr2,
        .refused = (const void *)(uintptr_t)calls_interrupt};
    return true;
}

bool dbt_deliver(struct interp *e)
{
    struct dbt *d = dbt_of(e);

    d->link = 0;
    d->delivered = true;
    dbt_enter(d, d->common_deliver[e->tlb - e->tlbs]);
    return d->delivered;
}

const void *dbt_system(struct dbt *d, uint32_t rec)
{
    struct interp *e = dbt_home(d, rec);
    const struct insn *in = dbt_insn(d, rec);
    uint64_t next = e->v->cpu.rip + in->len;
    const struct tlb *tlb = e->tlb;
    const unsigned mode = e->mode;
    uint32_t missing = e->native_missing;

    d->counts.n[COUNT_SYSTEM]++;
    dbt_count_site(&d->counts, e->v->cpu.rip);
    d->why = "system instruction";
    if (!interp_system(e, in)) {
        return dbt_fault(d);
    }
    if (calls_wanted(e)) {
        return NULL;
    }
    if (e->v->cpu.rip != next || e->tlb != tlb || e->break_block || e->mode != mode ||
        e->native_missing != missing) {
        return dbt_go(d);
    }
    dbt_refresh(d); /* what comes behind makes its own check of the stack */
    return dbt_next(d, rec);
}
