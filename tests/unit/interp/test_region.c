/* SPDX-License-Identifier: MIT */
/*
 * A kernel's loads from global large pages that follow each other in memory, which the engine may
 * take for one region; then something about them changes. Each is run until it is warm.
 */
#include "cpu/interp/engine.h"
#include "guest.h"
#ifdef interp_accel_ops
#include "cpu/dbt/engine.h"
#endif

enum {
    H_PDPT = 0x6000,
    H_PD = 0x7000,
    H_PT = 0xd000,
    H_FRAME = 0x800000, /* where the first large page is; others follow */
    H_OTHER = 0x600000,
    LARGE = 2 << 20,
    PAGE = 4096,
};
#define HIGH 0xffffff8000000000ull
#define ALONE (HIGH + 2 * LARGE) /* a page of 4 KiB, not global */
#define LARGE_BITS (uint64_t)(G_P | G_RW | G_PS | G_G)

/* Two fields of what RSI points to, and one that a pointer in the first leads to. */
GUEST_CODE(fields, "mov (%rsi), %rax\n"
                   "mov 8(%rsi), %rbx\n"
                   "mov (%rax), %rcx\n"
                   "hlt");
GUEST_CODE(by_segment, "mov %gs:0x10, %rax\n"
                       "add %gs:0x18, %rax\n"
                       "hlt");

static void large(struct guest *g, unsigned i, uint64_t gpa, uint64_t bits)
{
    guest_write64(g, H_PD + i * 8, gpa | bits);
}

static struct guest *region_guest(void)
{
    struct guest *g = guest_new();

    guest_write64(g, G_PML4 + 511 * 8, H_PDPT | G_P | G_RW);
    guest_write64(g, H_PDPT, H_PD | G_P | G_RW);
    large(g, 0, H_FRAME, LARGE_BITS);
    large(g, 1, H_FRAME + LARGE, LARGE_BITS);
    guest_write64(g, H_PD + 16, H_PT | G_P | G_RW);
    guest_write64(g, H_PT, H_OTHER | G_P | G_RW);
    guest_flush(g);
    return g;
}

GUEST_CODE(learn, "movabs 0xffffff8000000000, %rax\n"
                  "hlt");

/* Code that is translated from here on knows of the region. */
static void region_learn(struct guest *g)
{
    guest_load(g, G_CODE + 0x1000, learn, (size_t)(learn_end - learn));
    g_assert_cmpint(guest_vector(g), ==, -1);
}

/* `at` holds a pointer to `to` and 8 bytes more. */
static void put(struct guest *g, uint64_t gpa, uint64_t to, uint64_t field)
{
    guest_write64(g, gpa, to);
    guest_write64(g, gpa + 8, field);
}

/* The vector it ends with, or -1. */
static int run(struct guest *g, uint64_t rsi)
{
    int vector = 0;

    for (unsigned i = 0; i < 4; i++) {
        g->cpu->rip = G_CODE;
        g->cpu->gpr[CPU_RSP] = G_STACK;
        g->cpu->gpr[CPU_RSI] = rsi;
        vector = guest_vector(g);
    }
    return vector;
}

static void expect(struct guest *g, uint64_t rsi, uint64_t rax, uint64_t rbx, uint64_t rcx)
{
    g_assert_cmpint(run(g, rsi), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, rax);
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, rbx);
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, rcx);
}

static uint64_t region_len(const struct guest *g)
{
    const struct interp *e = g->v->engine;
    uint64_t longest = 0;

    for (unsigned i = 0; i < INTERP_REGIONS; i++) {
        longest = MAX(longest, e->region[i].len);
    }
    return longest;
}

static void invlpg(struct guest *g, uint64_t va)
{
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, va);
}

/* Over both pages. */
static struct guest *region_warm(void)
{
    struct guest *g = region_guest();

    region_learn(g);
    GUEST_LOAD(g, fields);
    put(g, H_FRAME + 0x100, HIGH + LARGE + 0x200, 2);
    put(g, H_FRAME + LARGE + 0x200, 3, 4);
    expect(g, HIGH + 0x100, HIGH + LARGE + 0x200, 2, 3);
    g_assert_cmphex(region_len(g), ==, 2 * LARGE);
    return g;
}

static void test_learned(void)
{
    struct guest *g = region_warm();

    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_NONGLOBAL, 0);
    g_assert_cmphex(region_len(g), ==, 2 * LARGE);
    invlpg(g, ALONE);
    g_assert_cmphex(region_len(g), ==, 2 * LARGE);
    g_assert_cmphex(guest_read64(g, H_PD) & G_A, !=, 0);
    g_assert_cmphex(guest_read64(g, H_PD + 8) & G_A, !=, 0);
    guest_flush(g);
    g_assert_cmphex(region_len(g), ==, 0);
    guest_free(g);
}

/* The same instructions elsewhere: beside the region, over its ends, and back. */
static void test_beside(void)
{
    struct guest *g = region_warm();

    put(g, H_OTHER + 0x300, ALONE + 0x310, 5);
    guest_write64(g, H_OTHER + 0x310, 6);
    expect(g, ALONE + 0x300, ALONE + 0x310, 5, 6);
    put(g, H_FRAME + 0x100, ALONE + 0x310, 7);
    expect(g, HIGH + 0x100, ALONE + 0x310, 7, 6);
    /* The second field, and then the first one, lie over the end. */
    guest_write64(g, H_FRAME + 2 * LARGE - 12, HIGH + 0x100);
    memcpy(g->ram + H_FRAME + 2 * LARGE - 4, "abcd", 4);
    memcpy(g->ram + H_OTHER, "efghijkl", 8);
    g_assert_cmpint(run(g, ALONE - 12), ==, -1);
    g_assert_cmpmem(&g->cpu->gpr[CPU_RBX], 8, "abcdefgh", 8);
    memcpy(g->ram + H_OTHER, "\xff\xff\xff\xff", 4);
    guest_write64(g, H_FRAME + 2 * LARGE - 4, HIGH + 0x100);
    memcpy(g->ram + H_OTHER, (const char[]){(char)0x80, -1, -1, -1}, 4);
    g_assert_cmpint(run(g, ALONE - 4), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, HIGH + 0x100);
    g_assert_cmpint(run(g, ALONE + PAGE - 12), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, ALONE + PAGE);
    g_assert_cmpint(run(g, HIGH - 4), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, HIGH - 4);
    g_assert_cmpint(run(g, 0xffff7ffffffff000), ==, CPU_GP);
    guest_free(g);
}

/* The second page becomes another, or none, or the user's; INVLPG of any address in it tells. */
static void test_changed(void)
{
    struct guest *g = region_warm();

    put(g, H_OTHER + 0x200, 8, 9);
    large(g, 1, H_OTHER, LARGE_BITS);
    invlpg(g, HIGH + 2 * LARGE - 1);
    expect(g, HIGH + 0x100, HIGH + LARGE + 0x200, 2, 8);
    g_assert_cmphex(region_len(g), ==, LARGE);
    large(g, 1, 0, 0);
    invlpg(g, HIGH + LARGE + 0x5000);
    g_assert_cmpint(run(g, HIGH + 0x100), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, HIGH + LARGE + 0x200);
    large(g, 1, H_FRAME + LARGE, LARGE_BITS | G_US);
    guest_write64(g, H_PDPT, H_PD | G_P | G_RW | G_US);
    guest_write64(g, G_PML4 + 511 * 8, H_PDPT | G_P | G_RW | G_US);
    guest_flush(g);
    expect(g, HIGH + 0x100, HIGH + LARGE + 0x200, 2, 3);
    g_assert_cmphex(region_len(g), ==, LARGE);
    guest_free(g);
}

/* What lies between two pages that are good decides whether they are one region. */
static void test_between(void)
{
    static const struct {
        uint64_t gpa, bits;
        bool one;
    } cases[] = {
        {H_FRAME + LARGE, LARGE_BITS, true},
        {H_FRAME + LARGE, LARGE_BITS & ~(uint64_t)G_RW, true},
        {H_FRAME + LARGE, LARGE_BITS | G_US, false},
        {H_FRAME + LARGE, LARGE_BITS & ~(uint64_t)G_G, false},
        {H_FRAME, LARGE_BITS, false},
        {H_FRAME + LARGE, 0, false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct guest *g = region_guest();

        guest_write64(g, G_PML4 + 511 * 8, H_PDPT | G_P | G_RW | G_US);
        guest_write64(g, H_PDPT, H_PD | G_P | G_RW | G_US);
        large(g, 1, cases[i].gpa, cases[i].bits);
        large(g, 2, H_FRAME + 2 * LARGE, LARGE_BITS);
        guest_flush(g);
        region_learn(g);
        GUEST_LOAD(g, fields);
        put(g, H_FRAME + 0x100, HIGH + 2 * LARGE + 0x200, 15);
        put(g, H_FRAME + 2 * LARGE + 0x200, 16, 17);
        expect(g, HIGH + 0x100, HIGH + 2 * LARGE + 0x200, 15, 16);
        g_assert_cmphex(region_len(g), ==, (cases[i].one ? 3u : 1u) * (uint64_t)LARGE);
        guest_free(g);
    }
}

/* A large page that is not memory all over, or not global, is in none. */
static void test_not_memory(void)
{
    struct guest *g = region_guest();

    GUEST_LOAD(g, fields);
    guest_mmio.read_value = HIGH + LARGE;
    large(g, 0, G_MMIO, LARGE_BITS);
    large(g, 1, H_FRAME, LARGE_BITS & ~(uint64_t)G_G);
    put(g, H_FRAME, 10, 11);
    expect(g, HIGH + 0x100, HIGH + LARGE, HIGH + LARGE, 10);
    g_assert_cmphex(region_len(g), ==, 0);
    guest_free(g);
}

/* A hole in it, made while it is known. */
static void test_hole(void)
{
    struct guest *g = region_guest();

    large(g, 1, 0, 0);
    guest_flush(g);
    region_learn(g);
    GUEST_LOAD(g, fields);
    put(g, H_FRAME + 0x100, HIGH + 0x3000, 12);
    guest_write64(g, H_FRAME + 0x3000, 13);
    expect(g, HIGH + 0x100, HIGH + 0x3000, 12, 13);
    g_assert_cmphex(region_len(g), ==, LARGE);
    g_assert_true(mem_set_gfn(g->fb->board.mem, (H_FRAME + 0x3000) / PAGE, MEM_HOLE));
    guest_flush(g);
    guest_mmio.read_value = 14;
    expect(g, HIGH + 0x100, HIGH + 0x3000, 12, 14);
    g_assert_cmphex(region_len(g), ==, 0);
    guest_free(g);
}

GUEST_CODE(store_alone, "mov %rbx, 8(%rsi)\n"
                        "hlt");
GUEST_CODE(store_group, "mov (%rsi), %rax\n"
                        "mov %rbx, 8(%rsi)\n"
                        "hlt");
GUEST_CODE(bit, "bt %rcx, (%rsi)\n"
                "sbb %rax, %rax\n"
                "hlt");

/* What is in a region may be read; whether it may be written its page says. */
static void test_store(void)
{
    for (unsigned group = 0; group < 2; group++) {
        struct guest *g = region_guest();

        g->cpu->cr0 |= CPU_CR0_WP;
        interp_accel_ops.state_changed(g->v);
        large(g, 1, H_FRAME + LARGE, LARGE_BITS & ~(uint64_t)G_RW);
        guest_flush(g);
        region_learn(g);
        guest_load(g, G_CODE, group ? store_group : store_alone,
                   group ? (size_t)(store_group_end - store_group)
                         : (size_t)(store_alone_end - store_alone));
        g->cpu->gpr[CPU_RBX] = 77;
        g_assert_cmpint(run(g, HIGH + 0x100), ==, -1);
        g_assert_cmpuint(guest_read64(g, H_FRAME + 0x108), ==, 77);
        guest_write64(g, H_FRAME + LARGE + 0x108, 1);
        g_assert_cmpint(run(g, HIGH + LARGE + 0x100), ==, CPU_PAGE_FAULT);
        g_assert_cmphex(g->cpu->cr2, ==, HIGH + LARGE + 0x108);
        g_assert_cmpuint(guest_read64(g, H_FRAME + LARGE + 0x108), ==, 1);
        guest_free(g);
    }
}

/* A bit by a register is far from where the operand is. */
static void test_bit(void)
{
    struct guest *g = region_guest();

    region_learn(g);
    GUEST_LOAD(g, bit);
    guest_write64(g, H_OTHER + 0x10, 4);
    g->cpu->gpr[CPU_RCX] = (2 * (uint64_t)LARGE + 0x10) * 8 + 2;
    g_assert_cmpint(run(g, HIGH), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, UINT64_MAX);
    guest_free(g);
}

/* The last page of a large one is no memory. */
static void test_last_page(void)
{
    struct guest *g = region_guest();

    g_assert_true(mem_set_gfn(g->fb->board.mem, (H_FRAME + LARGE - PAGE) / PAGE, MEM_HOLE));
    guest_flush(g);
    region_learn(g);
    g_assert_cmphex(region_len(g), ==, 0);
    guest_free(g);
}

/* By a segment's base, as data of each CPU are. */
static void test_segment(void)
{
    struct guest *g = region_guest();

    region_learn(g);
    GUEST_LOAD(g, by_segment);
    g->cpu->seg[CPU_GS].base = HIGH + 0x400;
    interp_accel_ops.state_changed(g->v);
    put(g, H_FRAME + 0x410, 20, 3);
    put(g, H_OTHER + 0x410, 30, 5);
    g_assert_cmpint(run(g, 0), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 23);
    g->cpu->seg[CPU_GS].base = ALONE + 0x400;
    g_assert_cmpint(run(g, 0), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 35);
    guest_free(g);
}

#ifdef interp_accel_ops
static uint64_t region_misses(const struct guest *g)
{
    return dbt_of(g->v->engine)->counts.n[COUNT_REGION_MISSES];
}

/* Two regions, which are met in the other order behind a flush of all. Loads that the translation
 * compares with one are in it afterwards, too. */
static void test_order(void)
{
    struct guest *g = region_guest();
    uint64_t misses;

    large(g, 1, H_OTHER, LARGE_BITS);
    guest_flush(g);
    region_learn(g); /* region 0: HIGH */
    GUEST_LOAD(g, fields);
    put(g, H_FRAME + 0x100, HIGH + 0x200, 2);
    guest_write64(g, H_FRAME + 0x200, 3);
    put(g, H_OTHER + 0x100, HIGH + LARGE + 0x200, 4);
    guest_write64(g, H_OTHER + 0x200, 5);
    expect(g, HIGH + 0x100, HIGH + 0x200, 2, 3);
    g_assert_cmphex(region_len(g), ==, LARGE);
    misses = region_misses(g);
    expect(g, HIGH + 0x100, HIGH + 0x200, 2, 3);
    g_assert_cmpuint(region_misses(g), ==, misses);
    expect(g, HIGH + LARGE + 0x100, HIGH + LARGE + 0x200, 4, 5); /* region 1 */
    g_assert_cmpuint(region_misses(g), >, misses); /* the path is there */
    expect(g, HIGH + 0x100, HIGH + 0x200, 2, 3);
    guest_flush(g);
    expect(g, HIGH + LARGE + 0x100, HIGH + LARGE + 0x200, 4, 5); /* region 0 now */
    expect(g, HIGH + 0x100, HIGH + 0x200, 2, 3);                 /* region 1 */
    misses = region_misses(g);
    for (unsigned i = 0; i < 100; i++) {
        expect(g, HIGH + 0x100, HIGH + 0x200, 2, 3);
    }
    g_assert_cmpuint(region_misses(g), ==, misses);
    guest_free(g);
}
#endif

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return g_test_run();
    }
    g_test_add_func("/interp/region/learned", test_learned);
    g_test_add_func("/interp/region/beside", test_beside);
    g_test_add_func("/interp/region/changed", test_changed);
    g_test_add_func("/interp/region/between", test_between);
    g_test_add_func("/interp/region/not-memory", test_not_memory);
    g_test_add_func("/interp/region/hole", test_hole);
    g_test_add_func("/interp/region/segment", test_segment);
    g_test_add_func("/interp/region/store", test_store);
    g_test_add_func("/interp/region/bit", test_bit);
    g_test_add_func("/interp/region/last-page", test_last_page);
#ifdef interp_accel_ops
    g_test_add_func("/interp/region/order", test_order);
#endif
    return g_test_run();
}
