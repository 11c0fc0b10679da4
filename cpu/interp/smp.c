/* SPDX-License-Identifier: MIT */
/*
 * Several vCPUs, one memory. Blocks, TLBs and thunks are each vCPU's own, so there is one thing
 * to agree on: when a vCPU is about to decode from a frame that was plain data so far, no other
 * may go on writing to it through a write tag it got before. The marker (MEM_CODE is set
 * already) asks the others to forget their write tags and waits until each has, or is not
 * running guest code and will before it does again.
 *
 * Nobody waits while holding a lock, and who waits serves the requests of others meanwhile.
 */
#include "engine.h"

#include <sched.h>

#include "core/board.h"
#include "interp.h"

enum { PAUSES_PER_YIELD = 64 };

void interp_smp_serve(struct interp *e)
{
    interp_tlb_protect_all(e);
    interp_attend(e, ATTENTION_PROTECT, false);
}

void interp_smp_resume(struct interp *e)
{
    atomic_store(&e->running, true);
    if ((atomic_load(&e->attention) & ATTENTION_PROTECT) != 0) {
        interp_smp_serve(e);
    }
}

void interp_smp_pause(struct interp *e)
{
    atomic_store_explicit(&e->running, false, memory_order_release);
}

void interp_smp_relax(struct interp *e)
{
    struct board *b = e->v->board;

    if (++e->pauses % PAUSES_PER_YIELD != 0 || b == NULL || b->ops->nr_vcpus(b) < 2) {
        return;
    }
    interp_smp_pause(e); /* nobody waits for a thread that may sleep */
    sched_yield();
    interp_smp_resume(e);
}

/* What others ask for is done while this one waits. */
static void smp_spin(struct interp *e, unsigned spins)
{
    if ((atomic_load(&e->attention) & ATTENTION_PROTECT) != 0) {
        interp_smp_serve(e);
    }
    if (spins < 200) {
        __builtin_ia32_pause();
    } else {
        sched_yield();
    }
}

static void smp_wait(struct interp *e, const struct interp *other)
{
    for (unsigned spins = 0; (atomic_load(&other->attention) & ATTENTION_PROTECT) != 0 &&
                             atomic_load(&other->running);
         spins++) {
        smp_spin(e, spins);
    }
}

void interp_smp_settle(struct interp *e, const struct mem_frame_info *info)
{
    for (unsigned spins = 0; (atomic_load(&info->flags) & MEM_SETTLING) != 0; spins++) {
        smp_spin(e, spins);
    }
}

void interp_smp_protect(struct interp *e)
{
    struct board *b = e->v->board;
    unsigned nr = b != NULL ? b->ops->nr_vcpus(b) : 1;

    if (nr < 2) {
        return;
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < nr; i++) {
            struct vcpu *v = b->ops->vcpu(b, i);

            if (v == NULL || v == e->v || v->accel == NULL || v->engine == NULL ||
                v->accel->tlb_flush != interp_accel_flush) {
                continue;
            }
            if (pass == 0) {
                interp_attend(v->engine, ATTENTION_PROTECT, true);
            } else {
                smp_wait(e, v->engine);
            }
        }
    }
}
