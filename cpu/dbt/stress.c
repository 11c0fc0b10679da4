/* SPDX-License-Identifier: MIT */
/*
 * -accel bt,shake=N and relink=N: things that a translator must survive at any moment, at random
 * moments. Nothing here changes what the guest sees. The same seed gives the same choices, but devices
 * and clocks give no guest the same run twice.
 */
#include "engine.h"

enum shake {
    SHAKE_DROP,       /* all blocks and translations go */
    SHAKE_TRANSLATION, /* the block's dies, until its bytes were compared again */
    SHAKE_FLUSH,
    SHAKE_FLUSH_NONGLOBAL,
    SHAKE_FLUSH_CODE, /* the page that runs */
    SHAKE_FLUSH_STACK,
    SHAKE_PROTECT,    /* no page may be written without a look */
    SHAKE_WRITTEN,    /* as if the guest had stored the same bytes to the code */
    SHAKE_DEVICE,     /* as if a device had */
    SHAKE_JUMPS,
    SHAKE_KICK,
    SHAKE_NR
};

static uint64_t shake_random(struct dbt *d)
{
    uint64_t z = (d->shake_state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void shake_one(struct dbt *d, struct block *b, enum shake what)
{
    struct interp *e = &d->interp;
    struct tb *t = b->translation;

    switch (what) {
    case SHAKE_DROP:
        interp_attend(e, ATTENTION_DROP, true);
        break;
    case SHAKE_TRANSLATION:
        if (t != NULL && !t->dead) {
            dbt_tb_kill(d, t);
        }
        break;
    case SHAKE_FLUSH:
        interp_tlb_flush(e, VCPU_FLUSH_ALL, 0);
        break;
    case SHAKE_FLUSH_NONGLOBAL:
        interp_tlb_flush(e, VCPU_FLUSH_NONGLOBAL, 0);
        break;
    case SHAKE_FLUSH_CODE:
        interp_tlb_flush(e, VCPU_FLUSH_PAGE, e->v->cpu.rip);
        break;
    case SHAKE_FLUSH_STACK:
        interp_tlb_flush(e, VCPU_FLUSH_PAGE, e->v->cpu.gpr[CPU_RSP]);
        break;
    case SHAKE_PROTECT:
        interp_tlb_protect_all(e);
        break;
    case SHAKE_WRITTEN:
        interp_code_written(e, mem_frame_hva(e->v->mem, b->frame), MEM_PAGE_SIZE);
        break;
    case SHAKE_DEVICE:
        interp_fpu_home(e);
        mem_written(e->v->mem, b->frame);
        break;
    case SHAKE_JUMPS:
        interp_jumps_drop(e, false);
        break;
    default:
        interp_attend(e, ATTENTION_KICK, true);
        break;
    }
}

static void shake(struct dbt *d, struct block *b)
{
    uint64_t r = shake_random(d);
    enum shake what = (enum shake)((r >> 32) % SHAKE_NR);

    if (r % d->options.shake != 0) {
        return;
    }
    if (what == SHAKE_DROP && (r >> 48) % 16 != 0) {
        what = SHAKE_TRANSLATION;
    }
    shake_one(d, b, what);
    d->link = 0;
}

void dbt_stress(struct dbt *d, struct block *b)
{
    struct tb *t = b->translation;

    if (d->options.relink != 0 && shake_random(d) % d->options.relink == 0 && t != NULL &&
        !t->dead) {
        dbt_relink(d, t);
    }
    if (d->options.shake != 0) {
        shake(d, b);
    }
}
