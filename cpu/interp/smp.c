/* SPDX-License-Identifier: MIT */
/*
 * Several vCPUs, one memory. Blocks, TLBs and thunks are each vCPU's own, so there are two things
 * to agree on. When a vCPU is about to decode from a frame that was plain data so far, no other
 * may go on writing to it through a write tag it got before. The marker (MEM_CODE is set
 * already) asks the others to forget their write tags and waits until each has, or is not
 * running guest code and will before it does again.
 *
 * And a LOCKed instruction over the end of a cache line, for which the host's lock prefix is not
 * used (gen_atomic.c), is alone: its vCPU asks the others for the same, and who serves it stands
 * still until it is done.
 *
 * Nobody waits while holding a lock, and who waits serves the requests of others meanwhile.
 */
#include "engine.h"

#include <sched.h>

#include "core/board.h"
#include "interp.h"

enum { PAUSES_PER_YIELD = 64 };

static bool smp_asked(const struct interp *e)
{
    return (atomic_load(&e->attention) & ATTENTION_PROTECT) != 0;
}

static void smp_answer(struct interp *e)
{
    interp_tlb_protect_all(e);
    interp_attend(e, ATTENTION_PROTECT, false);
}

static void smp_rest(unsigned spins)
{
    if (spins < 200) {
        __builtin_ia32_pause();
    } else {
        sched_yield();
    }
}

/* Of another one than e. */
static bool smp_turn_lasts(const struct interp *e, uint64_t turn)
{
    struct board *b = e->v->board;
    const struct vcpu *alone = atomic_load(&b->alone);

    return alone != NULL && alone != e->v && atomic_load(&b->turn) == turn;
}

/*
 * Whose turn it was is the one that was answered, or a later one, which asks again. Who is next
 * waits until this one has got on for a block: it could not be stopped otherwise.
 */
void interp_smp_serve(struct interp *e)
{
    struct board *b = e->v->board;
    uint64_t turn;

    smp_answer(e);
    if (b == NULL) {
        return;
    }
    turn = atomic_load(&b->turn);
    for (unsigned spins = 0; smp_turn_lasts(e, turn); spins++) {
        smp_rest(spins);
        if (smp_asked(e) && atomic_load(&b->turn) == turn) { /* by one that marks code */
            smp_answer(e);
            turn = atomic_load(&b->turn);
        }
    }
}

void interp_smp_resume(struct interp *e)
{
    atomic_store(&e->running, true);
    if (smp_asked(e)) {
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
    if (smp_asked(e)) {
        interp_smp_serve(e);
    }
    smp_rest(spins);
}

static void smp_wait(struct interp *e, const struct interp *other)
{
    for (unsigned spins = 0; smp_asked(other) && atomic_load(&other->running); spins++) {
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

bool interp_smp_alone(struct interp *e)
{
    struct board *b = e->v->board;
    uint64_t mine;

    if (b == NULL || b->ops->nr_vcpus(b) < 2 || atomic_load(&b->alone) == e->v) {
        return false;
    }
    mine = atomic_fetch_add(&b->ticket, 1);
    for (unsigned spins = 0; atomic_load(&b->turn) != mine; spins++) {
        smp_spin(e, spins);
    }
    atomic_store(&b->alone, e->v);
    interp_smp_protect(e);
    return true;
}

void interp_smp_together(struct interp *e)
{
    struct board *b = e->v->board;

    atomic_store(&b->alone, NULL);
    atomic_fetch_add(&b->turn, 1);
}
