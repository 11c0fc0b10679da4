/* SPDX-License-Identifier: MIT */
/* What the tests of accesses near each other share, for each engine interp_accel_ops may be. */
#include "near_test.h"

void near_user(struct guest *g, uint64_t rip)
{
    guest_user(g);
    g->cpu->rip = rip;
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
}

int near_run(struct guest *g, uint64_t rip)
{
    near_user(g, rip);
    return guest_vector(g);
}

uint64_t near_place(const struct near_case *c, unsigned i)
{
    return c->at + (c->scattered ? i * 5 % c->pages : i) * PAGE;
}

struct guest *near_guest(const struct near_case *c)
{
    struct guest *g = guest_new();

    for (unsigned i = 0; c->scattered && i < c->pages; i++) {
        *guest_pte(g, c->at + i * PAGE) = near_place(c, i) | G_P | G_RW | G_US;
    }
    return g;
}

void near_pte(struct guest *g, uint64_t va, uint64_t pte)
{
    *guest_pte(g, va) = pte;
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, va);
}

uint64_t near_code(uint8_t value)
{
    return 0xcccc00000000b8 | (uint64_t)value << 8;
}
