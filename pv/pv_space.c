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
 *
 * The kernel's half, above the hypervisor's addresses, is the same in all spaces as long as the
 * L4 tables have the same entries for it, which is looked at when a space is entered anew. So
 * what an engine keeps of it, for the kernel alone, outlives spaces, and changes there count for
 * themselves. Most of them take the right to write to one frame, which is about to become a page
 * table: of the last few we know the frames, and only these are flushed.
 */
#include "pv/pv_guest.h"

/* Above every PCID. */
#define SPACE_FIRST (1ull << 16)

void pv_kernel_changed(struct pv_guest *g, uint32_t frame)
{
    g->kernel_log[g->kernel_changes++ % PV_KERNEL_LOG] = frame;
}

/* The kernel's half, as a vCPU's engine may have it, becomes what the tables say. */
static void space_catch_up(struct pv_domain *d, struct vcpu *v)
{
    const struct pv_guest *g = d->guest;
    struct pv_cpu *pc = pv_cpu_of(d, v);
    bool all = g->kernel_changes - pc->kernel_seen > PV_KERNEL_LOG;

    for (uint64_t i = pc->kernel_seen; !all && i < g->kernel_changes; i++) {
        all = g->kernel_log[i % PV_KERNEL_LOG] == MEM_HOLE;
    }
    for (uint64_t i = pc->kernel_seen; !all && i < g->kernel_changes; i++) {
        vcpu_tlb_flush(v, VCPU_FLUSH_FRAME, g->kernel_log[i % PV_KERNEL_LOG]);
    }
    if (all) {
        vcpu_tlb_flush(v, VCPU_FLUSH_ALL, 0);
    }
    pc->kernel_seen = g->kernel_changes;
}

/* The vCPU goes to an L4 table: whose kernel's half is the one that its engine has? */
static void space_kernel_half(struct pv_domain *d, struct vcpu *v)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);
    const uint64_t *table = mem_frame_hva(d->mem, pv_page_own(d, pc->kernel_root));
    uint64_t differ = 0;

    for (unsigned i = 0; i < PV_L4_KERNELS; i++) {
        const uint64_t entry = __atomic_load_n(&table[PV_L4_HV_LAST + 1 + i], __ATOMIC_RELAXED) &
                               ~(uint64_t)(PV_PTE_A | PV_PTE_D);

        differ |= entry ^ pc->kernel_half[i];
        pc->kernel_half[i] = entry;
    }
    if (differ != 0) {
        pc->half++;
        vcpu_tlb_flush(v, VCPU_FLUSH_ALL, 0);
    }
}

void pv_kernel_half_changed(struct pv_guest *g)
{
    g->changes++;
    pv_kernel_changed(g, MEM_HOLE);
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        g->cpu[i].kernel_half[0] = UINT64_MAX; /* it may be on that table */
    }
}

static void space_go(struct pv_domain *d, struct vcpu *v, struct pv_space *s)
{
    struct pv_guest *g = d->guest;
    const struct pv_cpu *pc = pv_cpu_of(d, v);

    if (s->number == 0 || s->changes != g->changes) {
        s->number = SPACE_FIRST + (++g->spaces << 8) + (uint64_t)(s - pc->space);
        s->changes = g->changes;
        s->user_root = pc->user_root;
        space_kernel_half(d, v);
    } else if (s->half != pc->half) {
        space_kernel_half(d, v);
    }
    s->half = pc->half;
    vcpu_tlb_flush(v, VCPU_FLUSH_SPACE, s->number);
    space_catch_up(d, v);
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
    struct pv_space *s = &pc->space[pc->space_now];

    if (kind != VCPU_FLUSH_ALL) {
        vcpu_tlb_flush(v, kind, gva);
        return;
    }
    if (s->changes != d->guest->changes) {
        vcpu_tlb_flush(v, VCPU_FLUSH_NONGLOBAL, 0);
        s->changes = d->guest->changes;
    }
    space_catch_up(d, v);
}
