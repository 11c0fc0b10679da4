/* SPDX-License-Identifier: MIT */
/*
 * What engines keep of a paravirtual guest's tables: a model of a TLB is filled and flushed as
 * an engine's is, while tables change at random. After a flush of everything, and after a base
 * was loaded, nothing in it may allow what the tables do not.
 */
#include <glib.h>

#include "pv/pv_guest.h"
#include "xen_guest.h"

/* Frames: L4 tables, the kernel's halves of two kinds and programs' tables below them, pages. */
enum { L4 = 40, ROOTS = 3, L3 = 44, L2 = 48, L1 = 52, TABLES = 3, PAGE = 64, PAGES = 8 };
enum { KERNEL_SLOT = 273, VAS = 4, STEPS = 300000, TLB = 64, CALLS = 128 };

struct translation {
    uint64_t gva, space; /* space 0: the kernel's half */
    uint32_t frame;
    bool writable, good;
};

static struct model {
    struct translation tlb[TLB];
    uint64_t space;
    enum vcpu_flush call[CALLS];
    uint64_t operand[CALLS];
    unsigned calls;
} model;

static void model_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    if (model.calls < CALLS) {
        model.call[model.calls] = kind;
        model.operand[model.calls++] = gva;
    }
    for (unsigned i = 0; i < TLB; i++) {
        struct translation *t = &model.tlb[i];

        if (kind == VCPU_FLUSH_ALL || (kind == VCPU_FLUSH_NONGLOBAL && t->space == model.space) ||
            (kind == VCPU_FLUSH_FRAME && t->frame == gva) ||
            (kind == VCPU_FLUSH_PAGE && t->gva == gva)) {
            t->good = false;
        }
    }
    if (kind == VCPU_FLUSH_SPACE) {
        model.space = gva;
    }
}

static const struct accel_ops model_ops = {.name = "model", .tlb_flush = model_flush};

static uint64_t entry_at(struct xen_guest *g, uint32_t frame, unsigned index)
{
    return ((const uint64_t *)mem_frame_hva(g->d->mem, frame))[index];
}

/* What the tables say of gva to the vCPU's kernel. */
static bool walk(struct xen_guest *g, uint64_t gva, struct translation *t)
{
    uint64_t entry = pv_cpu_of(g->d, g->fb->vcpus[0])->kernel_root << MEM_PAGE_SHIFT;

    *t = (struct translation){.gva = gva, .writable = true, .good = true};
    for (unsigned level = 4; level > 0; level--) {
        entry = entry_at(g, (uint32_t)((entry & PV_PTE_ADDR) >> MEM_PAGE_SHIFT),
                         gva >> (3 + 9 * level) & 511);
        if ((entry & PV_PTE_P) == 0) {
            return false;
        }
        t->writable = t->writable && (entry & PV_PTE_RW) != 0;
    }
    t->frame = (uint32_t)((entry & PV_PTE_ADDR) >> MEM_PAGE_SHIFT);
    t->space = (entry & VCPU_PV_PTE_KERNEL) != 0 && gva >= VCPU_PV_KERNEL_START ? 0 : model.space;
    return true;
}

static uint64_t some_gva(GRand *r)
{
    const uint64_t half = g_rand_boolean(r) ? 0 : 0xffffull << 48 | (uint64_t)KERNEL_SLOT << 39;

    return half | (uint64_t)g_rand_int_range(r, 0, 2) << 21 |
           (uint64_t)g_rand_int_range(r, 0, VAS) << 12;
}

static void check_model(struct xen_guest *g)
{
    for (unsigned i = 0; i < TLB; i++) {
        const struct translation *t = &model.tlb[i];
        struct translation now;

        if (!t->good || (t->space != 0 && t->space != model.space)) {
            continue;
        }
        g_assert_true(walk(g, t->gva, &now));
        g_assert_cmpuint(t->frame, ==, now.frame);
        g_assert_true(now.writable || !t->writable);
    }
}

/* An entry to something one level below, or nothing; now and then not to be written through. */
static uint64_t some_entry(GRand *r, uint32_t first, unsigned count)
{
    const uint64_t flags = g_rand_int_range(r, 0, 4) == 0 ? 0 : PV_PTE_RW;
    const uint64_t user = (g_rand_int_range(r, 0, 4) == 0 ? PV_PTE_U : 0) |
                          (g_rand_boolean(r) ? PV_PTE_NX : 0);

    return g_rand_int_range(r, 0, 5) == 0
               ? 0
               : (uint64_t)(first + (uint32_t)g_rand_int_range(r, 0, (gint32)count)) << MEM_PAGE_SHIFT |
                     flags | user | PV_PTE_P | PV_PTE_A;
}

/* Mostly L1 tables. */
static void change(struct xen_guest *g, GRand *r)
{
    const unsigned level = g_rand_int_range(r, 0, 8) != 0 ? 1 : (unsigned)g_rand_int_range(r, 2, 5);
    const uint32_t which = (uint32_t)g_rand_int_range(r, 0, 3);
    static const uint32_t first[] = {PAGE, L1, L2, L3, L4};
    const uint32_t frame = first[level] + which;
    unsigned index = level == 1   ? (unsigned)g_rand_int_range(r, 0, VAS)
                     : level == 2 ? (unsigned)g_rand_int_range(r, 0, 2)
                     : level == 3 ? 0
                     : g_rand_boolean(r) ? 0 : KERNEL_SLOT;

    if (pv_page_is_table(g->d, frame) && g->d->guest->pages[frame].type == level) {
        pv_page_update(g->d, frame, index,
                       some_entry(r, first[level - 1], level == 1 ? PAGES : TABLES),
                       g_rand_boolean(r), NULL);
    }
}

static struct xen_guest *guest_new(void)
{
    struct xen_guest *g = xen_guest_new(PV_KIND_PV, 1);
    const uint64_t flags = PV_PTE_P | PV_PTE_RW | PV_PTE_U;

    for (uint32_t i = 0; i < TABLES; i++) {
        uint64_t *l4 = mem_frame_hva(g->d->mem, L4 + i), *l3 = mem_frame_hva(g->d->mem, L3 + i);
        uint64_t *l2 = mem_frame_hva(g->d->mem, L2 + i), *l1 = mem_frame_hva(g->d->mem, L1 + i);

        /* Programs' tables are the last ones; two of three roots have the same kernel's. */
        l4[0] = (uint64_t)(L3 + 2) << MEM_PAGE_SHIFT | flags;
        l4[KERNEL_SLOT] = (uint64_t)(L3 + (i == 2)) << MEM_PAGE_SHIFT | flags;
        l3[0] = (uint64_t)(L2 + i) << MEM_PAGE_SHIFT | flags;
        l2[0] = (uint64_t)(L1 + i) << MEM_PAGE_SHIFT | flags;
        l1[0] = (uint64_t)PAGE << MEM_PAGE_SHIFT | PV_PTE_P | PV_PTE_RW | PV_PTE_A;
    }
    for (uint32_t i = 0; i < ROOTS; i++) {
        g_assert_cmpint(pv_page_pin(g->d, L4 + i, PV_PAGE_L4), ==, 0);
    }
    model = (struct model){.space = 1};
    g->fb->vcpus[0]->accel = &model_ops;
    g_assert_cmpint(pv_new_root(g->d, g->fb->vcpus[0], L4, false), ==, 0);
    model.calls = 0;
    return g;
}

static void guest_free(struct xen_guest *g)
{
    g->fb->vcpus[0]->accel = NULL;
    xen_guest_free(g);
}

static void test_storm(void)
{
    struct xen_guest *g = guest_new();
    struct vcpu *v = g->fb->vcpus[0];
    GRand *r = g_rand_new_with_seed(g_test_rand_int() & 0x7fffffff);
    unsigned fills = 0, kept = 0;

    for (unsigned step = 0; step < STEPS; step++) {
        struct translation *t = &model.tlb[g_rand_int_range(r, 0, TLB)];
        const int what = g_rand_int_range(r, 0, 16);

        if (what < 10) {
            struct translation now;

            if (walk(g, some_gva(r), &now)) {
                *t = now;
                fills++;
            }
        } else if (what < 13) {
            change(g, r);
        } else if (what == 13) {
            pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
            check_model(g);
        } else {
            pv_new_root(g->d, v, L4 + (uint32_t)g_rand_int_range(r, 0, ROOTS), false);
            check_model(g);
        }
        for (unsigned i = 0; what >= 13 && i < TLB; i++) {
            kept += model.tlb[i].good;
        }
    }
    g_assert_cmpuint(fills, >, STEPS / 10);
    g_assert_cmpuint(kept, >, STEPS / 10); /* it is not all flushed every time */
    g_rand_free(r);
    guest_free(g);
}

static void expect(unsigned calls, enum vcpu_flush last, uint64_t operand)
{
    g_assert_cmpuint(model.calls, ==, calls);
    if (calls > 0) {
        g_assert_cmpint(model.call[calls - 1], ==, last);
        g_assert_cmphex(model.operand[calls - 1], ==, operand);
    }
    model.calls = 0;
}

static void set(struct xen_guest *g, uint32_t table, unsigned index, uint64_t entry)
{
    g_assert_cmpint(pv_page_update(g->d, table, index, entry, false, NULL), ==, 0);
}

/* No more is flushed than has to be. */
static void test_kept(void)
{
    struct xen_guest *g = guest_new();
    struct vcpu *v = g->fb->vcpus[0];
    const uint64_t page = (uint64_t)(PAGE + 1) << MEM_PAGE_SHIFT | PV_PTE_P | PV_PTE_A;

    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(0, 0, 0); /* nothing changed */
    set(g, L1, 1, page | PV_PTE_RW);
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(0, 0, 0); /* more than before */
    set(g, L1, 1, page);
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(2, VCPU_FLUSH_FRAME, PAGE + 1); /* of the kernel's half that one page */
    set(g, L1 + 2, 1, page | PV_PTE_RW | PV_PTE_U);
    set(g, L1 + 2, 1, 0);
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(1, VCPU_FLUSH_NONGLOBAL, 0); /* a program's */
    set(g, L1, 1, 0);
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(2, VCPU_FLUSH_ALL, 0); /* it was code, perhaps */
    set(g, L1, 1, page | PV_PTE_NX);
    set(g, L1, 1, 0);
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(2, VCPU_FLUSH_FRAME, PAGE + 1);
    for (unsigned i = 0; i <= PV_KERNEL_LOG; i++) {
        set(g, L1, 1, page | PV_PTE_RW);
        set(g, L1, 1, page);
    }
    pv_flush(g->d, v, VCPU_FLUSH_ALL, 0);
    expect(2, VCPU_FLUSH_ALL, 0); /* too many to tell */
    g_assert_cmpint(pv_new_root(g->d, v, L4 + 1, false), ==, 0);
    expect(1, VCPU_FLUSH_SPACE, model.space); /* the same kernel's half */
    g_assert_cmpint(pv_new_root(g->d, v, L4 + 2, false), ==, 0);
    expect(2, VCPU_FLUSH_SPACE, model.space); /* another */
    g_assert_cmpint(pv_new_root(g->d, v, L4 + 1, false), ==, 0);
    expect(2, VCPU_FLUSH_SPACE, model.space);
    g_assert_cmpint(pv_new_root(g->d, v, L4, false), ==, 0);
    expect(1, VCPU_FLUSH_SPACE, model.space);
    set(g, L4, KERNEL_SLOT + 1, (uint64_t)(L3 + 1) << MEM_PAGE_SHIFT | PV_PTE_P | PV_PTE_U);
    g_assert_cmpint(pv_new_root(g->d, v, L4 + 1, false), ==, 0);
    g_assert_cmpint(model.call[0], ==, VCPU_FLUSH_ALL); /* where that slot is empty */
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pv/space/storm", test_storm);
    g_test_add_func("/pv/space/kept", test_kept);
    return g_test_run();
}
