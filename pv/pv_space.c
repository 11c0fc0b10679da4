/* SPDX-License-Identifier: MIT */
/*
 * Address spaces of paravirtual guests, of which an engine may keep translations while the guest
 * is in another one. To load a page-table base is to drop what is cached, and a guest counts on
 * it: it changes tables that no processor uses without a flush. But its tables change only by us
 * (pv_page.c), so we know whether anything was: pv_guest.changes counts entries that went or
 * allow less than before. A space is entered under the number it had if there was no such change
 * since it was entered last, else under a new one, of which nothing can have been kept.
 *
 * A space is a base for the kernel and one for user mode, which come one after the other. The
 * pair counts when user mode is entered.
 */
#include "pv/pv_guest.h"

/* Above every PCID. */
#define SPACE_FIRST (1ull << 16)

static void space_go(struct pv_domain *d, struct vcpu *v, struct pv_space *s)
{
    struct pv_guest *g = d->guest;
    const struct pv_cpu *pc = pv_cpu_of(d, v);

    if (s->number == 0 || s->changes != g->changes) {
        s->number = SPACE_FIRST + (++g->spaces << 8) + (uint64_t)(s - pc->space);
        s->changes = g->changes;
        s->user_root = pc->user_root;
    }
    vcpu_tlb_flush(v, VCPU_FLUSH_SPACE, s->number);
}

void pv_space_enter(struct pv_domain *d, struct vcpu *v)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);

    if (pc->space[pc->space_now].kernel_root != pc->kernel_root) {
        unsigned i = 0;

        while (i < PV_SPACES && pc->space[i].kernel_root != pc->kernel_root) {
            i++;
        }
        if (i == PV_SPACES) {
            i = (pc->space_next + (pc->space_next == pc->space_now ? 1 : 0)) % PV_SPACES;
            pc->space_next = (i + 1) % PV_SPACES;
            pc->space[i] = (struct pv_space){.kernel_root = pc->kernel_root};
        }
        pc->space_now = i;
    }
    space_go(d, v, &pc->space[pc->space_now]);
}

void pv_space_user(struct pv_domain *d, struct vcpu *v)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);
    struct pv_space *s = &pc->space[pc->space_now];

    if (s->number != 0 && s->user_root != pc->user_root) {
        s->number = 0; /* another pair */
        space_go(d, v, s);
    }
}

void pv_flush(struct pv_domain *d, struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);

    vcpu_tlb_flush(v, kind, gva);
    if (kind == VCPU_FLUSH_ALL) {
        pc->space[pc->space_now].changes = d->guest->changes;
    }
}
