/* SPDX-License-Identifier: MIT */
/*
 * Loops of user code that go over many pages, again and again, so that what the translator
 * knows of them is warm; then a page behind it changes. Accesses that are checked together are
 * in test_near_fields.c.
 */
#include "near_test.h"

#include <stdio.h>
#include <sys/resource.h>

#ifdef interp_accel_ops
#include "cpu/dbt/engine.h"
#endif

enum { LARGE = 0x400000, LARGE_PAGE = 2 << 20, STEP = 512 };

/* Over RBX bytes. */
GUEST_CODE(sum, "xor %eax, %eax\n"
                "xor %ecx, %ecx\n"
                "1: add (%rsi,%rcx), %rax\n"
                "add $512, %rcx\n"
                "cmp %rbx, %rcx\n"
                "jb 1b\n"
                "int3");
GUEST_CODE(fill, "xor %ecx, %ecx\n"
                 "1: mov %rdx, (%rsi,%rcx)\n"
                 "add $512, %rcx\n"
                 "cmp %rbx, %rcx\n"
                 "jb 1b\n"
                 "int3");

static const struct near_case near_cases[] = {
    {G_DATA, 1, 0},   {G_DATA, 16, 0}, {G_DATA, 16, 5},
    {G_DATA, 16, 15}, {LARGE, 1, 0},   {LARGE, 16, 5},
    {G_DATA, 16, 5, true}, {G_DATA, 16, 0, true},
};
enum { SMALL_CASES = 6 }; /* but for those at LARGE */

static const struct near_case *near_small(unsigned i)
{
    return &near_cases[i < 4 ? i : i + 2];
}

/* Where the case's odd page lies. */
static uint64_t near_odd(const struct near_case *c)
{
    return near_place(c, c->odd);
}

static int near_loop(struct guest *g, const struct near_case *c, uint64_t value)
{
    g->cpu->gpr[CPU_RSI] = c->at;
    g->cpu->gpr[CPU_RBX] = c->pages * PAGE;
    g->cpu->gpr[CPU_RDX] = value;
    return near_run(g, G_CODE);
}

static uint64_t near_sum(struct guest *g, const struct near_case *c)
{
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(near_loop(g, c, 0), ==, CPU_BP);
    }
    return g->cpu->gpr[CPU_RAX];
}

static void near_fill(struct guest *g, const struct near_case *c, uint64_t value)
{
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(near_loop(g, c, value), ==, CPU_BP);
    }
}

/* value in every place the loops look at. */
static void near_set(struct guest *g, uint64_t gpa, unsigned pages, uint64_t value)
{
    for (uint64_t at = 0; at < pages * PAGE; at += STEP) {
        guest_write64(g, gpa + at, value);
    }
}

static uint64_t near_places(unsigned pages)
{
    return pages * PAGE / STEP;
}

/* One page is another now, for loads and for stores. */
static void remap(const struct near_case *c)
{
    const uint64_t flags = G_P | G_RW | G_US, other = G_DATA + 0x100000;
    struct guest *g = near_guest(c);
    uint64_t odd = c->at + c->odd * PAGE;

    near_set(g, c->at, c->pages, 1);
    near_set(g, other, 1, 1000);
    GUEST_LOAD(g, sum);
    g_assert_cmpuint(near_sum(g, c), ==, near_places(c->pages));
    near_pte(g, odd, other | flags);
    g_assert_cmpuint(near_sum(g, c), ==, near_places(c->pages - 1) + 1000 * near_places(1));
    GUEST_LOAD(g, fill);
    near_fill(g, c, 2);
    near_pte(g, odd, near_odd(c) | flags);
    near_fill(g, c, 3);
    g_assert_cmpuint(guest_read64(g, other + STEP), ==, 2);
    g_assert_cmpuint(guest_read64(g, near_odd(c) + STEP), ==, 3);
    guest_free(g);
}

static void test_remap(void)
{
    for (unsigned i = 0; i < SMALL_CASES; i++) {
        remap(near_small(i));
    }
}

/* It may no longer be written, or looked at: the loop stops just there. */
static void protect(const struct near_case *c)
{
    struct guest *g = near_guest(c);
    uint64_t odd = c->at + c->odd * PAGE;

    GUEST_LOAD(g, fill);
    near_fill(g, c, 2);
    near_pte(g, odd, *guest_pte(g, odd) & ~(uint64_t)G_RW);
    g_assert_cmpint(near_loop(g, c, 3), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, odd);
    g_assert_cmphex(guest_frame(g, 0), ==, CPU_PFEC_P | CPU_PFEC_W | CPU_PFEC_U);
    g_assert_cmpuint(guest_read64(g, near_odd(c)), ==, 2);
    GUEST_LOAD(g, sum);
    (void)near_sum(g, c);
    near_pte(g, odd, 0);
    g_assert_cmpint(near_loop(g, c, 0), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, odd);
    guest_free(g);
}

static void test_protect(void)
{
    for (unsigned i = 0; i < SMALL_CASES; i++) {
        protect(near_small(i));
    }
}

/* What was allowed for loads is not for stores; D is set when the store comes. */
static void test_loads_only(void)
{
    const struct near_case *c = &near_cases[2];
    uint64_t odd = c->at + c->odd * PAGE;
    struct guest *g = guest_new();

    GUEST_LOAD(g, sum);
    (void)near_sum(g, c);
    for (unsigned i = 0; i < c->pages; i++) {
        g_assert_cmphex(*guest_pte(g, G_DATA + i * PAGE) & (G_A | G_D), ==, G_A);
    }
    near_pte(g, odd, *guest_pte(g, odd) & ~(uint64_t)G_RW);
    (void)near_sum(g, c);
    GUEST_LOAD(g, fill);
    g_assert_cmpint(near_loop(g, c, 1), ==, CPU_PAGE_FAULT);
    for (unsigned i = 0; i < c->pages; i++) {
        g_assert_cmphex(*guest_pte(g, G_DATA + i * PAGE) & G_D, ==, i < c->odd ? G_D : 0);
    }
    guest_free(g);
}

/* A large page goes elsewhere, told by another address of it; then it is split, and one page of
 * it is another. */
static void test_large(void)
{
    for (unsigned n = 4; n < 6; n++) {
        const struct near_case *c = &near_cases[n];
        struct guest *g = guest_new();
        uint64_t table = G_DATA + 0x100000;

        near_set(g, LARGE, c->pages, 1);
        near_set(g, LARGE + LARGE_PAGE, c->pages, 10);
        near_set(g, G_DATA, 1, 1000);
        GUEST_LOAD(g, sum);
        g_assert_cmpuint(near_sum(g, c), ==, near_places(c->pages));
        guest_write64(g, G_PD + 16, (LARGE + LARGE_PAGE) | G_P | G_RW | G_US | G_PS);
        interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, LARGE + LARGE_PAGE - PAGE);
        g_assert_cmpuint(near_sum(g, c), ==, 10 * near_places(c->pages));
        for (unsigned i = 0; i < 512; i++) {
            guest_write64(g, table + i * 8,
                          (LARGE + LARGE_PAGE + i * PAGE) | G_P | G_RW | G_US);
        }
        guest_write64(g, table + c->odd * 8, G_DATA | G_P | G_RW | G_US);
        guest_write64(g, G_PD + 16, table | G_P | G_RW | G_US);
        interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, LARGE + c->odd * PAGE);
        g_assert_cmpuint(near_sum(g, c), ==,
                         10 * near_places(c->pages - 1) + 1000 * near_places(1));
        guest_free(g);
    }
}

/* It becomes read-only. */
static void test_large_protect(void)
{
    for (unsigned n = 4; n < 6; n++) {
        struct guest *g = guest_new();

        GUEST_LOAD(g, fill);
        near_fill(g, &near_cases[n], 2);
        guest_write64(g, G_PD + 16, LARGE | G_P | G_US | G_PS);
        interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, LARGE + LARGE_PAGE - PAGE);
        g_assert_cmpint(near_loop(g, &near_cases[n], 3), ==, CPU_PAGE_FAULT);
        g_assert_cmphex(g->cpu->cr2, ==, LARGE);
        g_assert_cmpuint(guest_read64(g, LARGE), ==, 2);
        guest_free(g);
    }
}

static void near_answers(struct guest *g, uint64_t at, uint8_t value)
{
    g_assert_cmpint(near_run(g, at), ==, CPU_BP);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, value);
}

/* A page that was written becomes code, and is written again, many times; so its frame is
 * opened and closed, with one write tag. often: three times in between, else the frame stays
 * code for some rounds and each store must be noticed. */
static void becomes_code(const struct near_case *c, bool often)
{
    struct guest *g = near_guest(c);
    uint64_t odd = c->at + c->odd * PAGE;

    GUEST_LOAD(g, fill);
    near_fill(g, c, near_code(0));
    for (uint8_t i = 1; i < 30; i++) {
        if (often) {
            near_fill(g, c, near_code(i));
        } else {
            g_assert_cmpint(near_loop(g, c, near_code(i)), ==, CPU_BP);
        }
        near_answers(g, odd + STEP, i);
        near_answers(g, odd + STEP, i);
    }
    guest_free(g);
}

static void test_becomes_code(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(near_cases); i++) {
        becomes_code(&near_cases[i], true);
        becomes_code(&near_cases[i], false);
    }
}

/* The other vCPU makes it code. */
static void code_of_other(const struct near_case *c)
{
    struct guest *g = near_guest(c);
    struct vcpu *other;
    struct exit exit;

    GUEST_LOAD(g, fill);
    near_fill(g, c, near_code(1));
    other = guest_second(g);
    for (uint8_t i = 1; i < 30; i++) {
        near_user(g, c->at + c->odd * PAGE);
        other->cpu = *g->cpu;
        other->cpu.halted = false;
        interp_accel_ops.run(other, &exit);
        g_assert_cmpint(exit.kind, ==, EXIT_HALT);
        g_assert_cmphex(other->cpu.gpr[CPU_RAX], ==, i);
        g_assert_cmpint(near_loop(g, c, near_code((uint8_t)(i + 1))), ==, CPU_BP);
    }
    guest_free(g);
}

static void test_code_of_other(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(near_cases); i++) {
        code_of_other(&near_cases[i]);
    }
}

/* RCX times at RSI, which goes on by RDX. */
GUEST_CODE(unaligned, "xor %eax, %eax\n"
                      "1: add (%rsi), %rax\n"
                      "add %rdx, %rsi\n"
                      "dec %ecx\n"
                      "jnz 1b\n"
                      "int3");

/* Bytes by what their address is; every offset at every end of a page, over and over. */
static void test_unaligned(void)
{
    const struct near_case *c = &near_cases[6];
    struct guest *g = near_guest(c);

    g_assert(c->scattered);
    GUEST_LOAD(g, unaligned);
    for (unsigned i = 0; i < c->pages * PAGE / 8; i++) {
        uint64_t va = c->at + i * 8;
        uint64_t gpa = near_place(c, (unsigned)(i * 8 / PAGE)) + va % PAGE;

        guest_write64(g, gpa, 0x0101010101010101ull * (i & 0x7f));
    }
    for (unsigned off = 0; off < 3 * 8; off++) {
        uint64_t at = c->at + PAGE - 8 + off, want = 0;

        for (unsigned n = 0; n < c->pages - 2; n++) {
            for (unsigned k = 0; k < 8; k++) {
                want += (uint64_t)((at + n * PAGE + k - c->at) / 8 & 0x7f) << 8 * k;
            }
        }
        for (unsigned turn = 0; turn < 3; turn++) {
            g->cpu->gpr[CPU_RSI] = at;
            g->cpu->gpr[CPU_RDX] = PAGE;
            g->cpu->gpr[CPU_RCX] = c->pages - 2;
            g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
            g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, want);
        }
    }
    guest_free(g);
}

/* A page that may be written becomes another one, read-only, and nobody is told: stores may still
 * go where they went, but never to the new one. */
static void test_not_told(void)
{
    const uint64_t other = G_DATA + 0x100000, evicts = 8 << 20;
    const struct near_case *c = &near_cases[6];
    struct guest *g = near_guest(c);
    uint64_t odd = c->at + c->odd * PAGE, flags = G_P | G_RW | G_US;
    struct near_case there = *c;

    there.at += evicts;
    guest_write64(g, G_PD + (there.at / LARGE_PAGE) * 8,
                  (there.at & ~(uint64_t)(LARGE_PAGE - 1)) | flags | G_PS);
    guest_flush(g);
    near_set(g, c->at, c->pages, 1);
    near_set(g, other, 1, 1000);
    GUEST_LOAD(g, fill);
    near_fill(g, c, 2);
    *guest_pte(g, odd) = other | G_P | G_US;
    GUEST_LOAD(g, sum);
    (void)near_sum(g, &there);
    (void)near_sum(g, c);
    GUEST_LOAD(g, fill);
    for (unsigned i = 0; i < 3; i++) {
        int vector = near_loop(g, c, 3);

        g_assert(vector == CPU_BP || vector == CPU_PAGE_FAULT);
    }
    for (uint64_t at = 0; at < PAGE; at += STEP) {
        g_assert_cmpuint(guest_read64(g, other + at), ==, 1000);
    }
    guest_free(g);
}

enum { FRAMES = 16, PROGRAM_PAGES = 8, TABLES = 4 };

static uint64_t program_frame(unsigned program, unsigned page)
{
    return (page * 5 + program) % FRAMES;
}

/* Page tables of its own, for what is at G_DATA; the rest is as in the guest. Returns CR3. */
static uint64_t program_new(struct guest *g, unsigned program)
{
    const uint64_t at = LARGE + program * TABLES * PAGE, flags = G_P | G_RW | G_US;
    const uint64_t pt = at + 3 * PAGE;

    guest_write64(g, at, (at + PAGE) | flags);
    guest_write64(g, at + PAGE, (at + 2 * PAGE) | flags);
    for (unsigned i = 0; i < 512; i++) {
        guest_write64(g, at + 2 * PAGE + i * 8, guest_read64(g, G_PD + i * 8));
    }
    guest_write64(g, at + 2 * PAGE + G_DATA / LARGE_PAGE * 8, pt | flags);
    for (unsigned i = 0; i < PROGRAM_PAGES; i++) {
        guest_write64(g, pt + i * 8, (G_DATA + program_frame(program, i) * PAGE) | flags);
    }
    return at;
}

/* Programs have other pages at the same addresses, and there are more than pvemu keeps in mind. */
static void test_programs(void)
{
    enum { PROGRAMS = 40 };
    const struct near_case c = {G_DATA, PROGRAM_PAGES, 0};
    struct guest *g = guest_new();
    uint64_t cr3[PROGRAMS];

    for (unsigned i = 0; i < FRAMES; i++) {
        near_set(g, G_DATA + i * PAGE, 1, 1ull << i);
    }
    for (unsigned n = 0; n < PROGRAMS; n++) {
        cr3[n] = program_new(g, n);
    }
    GUEST_LOAD(g, sum);
    for (unsigned turn = 0; turn < 3 * PROGRAMS; turn++) {
        unsigned program = turn * 7 % PROGRAMS;
        uint64_t want = 0;

        for (unsigned i = 0; i < PROGRAM_PAGES; i++) {
            want += near_places(1) << program_frame(program, i);
        }
        g->cpu->cr3 = cr3[program];
        guest_flush(g);
        g_assert_cmpuint(near_sum(g, &c), ==, want);
    }
    guest_free(g);
}

#ifdef interp_accel_ops
/* From one place to the next, ECX times. */
GUEST_CODE(ring, "1: mov (%rsi), %rsi\n"
                 "dec %ecx\n"
                 "jnz 1b\n"
                 "int3");

/* A ring through so many pages; what follows each other in it does not in the guest's addresses. */
static void ring_make(struct guest *g, const struct near_case *c, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++) {
        guest_write64(g, near_place(c, i * 7 % pages), c->at + (i + 1) % pages * 7 % pages * PAGE);
    }
}

static void ring_run(struct guest *g, const struct near_case *c, unsigned steps)
{
    g->cpu->gpr[CPU_RSI] = c->at;
    g->cpu->gpr[CPU_RCX] = steps;
    g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
    g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, c->at);
}

/* What went through many pages has no slot any more; when it goes through few, later, it has. */
static void test_again(void)
{
    enum { MANY = 384, FEW = 1, ROUNDS = 60 };
    const struct near_case c = {G_DATA, MANY, 0, true};
    struct guest *g = near_guest(&c);
    struct dbt *d = dbt_of(g->v->engine);

    if (d->options.lookups || d->options.runs || d->options.views || d->options.larges) {
        g_test_skip("all have the same");
        guest_free(g);
        return;
    }
    d->views.refused = true; /* one shows so many */
    GUEST_LOAD(g, ring);
    ring_make(g, &c, MANY);
    ring_run(g, &c, ROUNDS * MANY);
    g_assert_cmpint(dbt_near_how(d, G_CODE / PAGE, 0), ==, NEAR_NEVER);
    ring_make(g, &c, FEW);
    for (uint64_t i = 0; d->counts.n[COUNT_NEAR_AGAIN] == 0; i++) {
        g_assert_cmpuint(i, <, 10000000);
        ring_run(g, &c, FEW);
    }
    ring_run(g, &c, ROUNDS * MANY * FEW);
    g_assert_cmpint(dbt_near_how(d, G_CODE / PAGE, 0), !=, NEAR_NEVER);
    ring_make(g, &c, MANY);
    ring_run(g, &c, ROUNDS * MANY);
    g_assert_cmpint(dbt_near_how(d, G_CODE / PAGE, 0), ==, NEAR_NEVER);
    guest_free(g);
}
#endif

/* The host has no room to map anything once more. */
static void test_no_room(void)
{
    enum { ROOM = 64 << 20 };
    const struct near_case *c = &near_cases[6];
    struct guest *g = near_guest(c);
    struct rlimit old, tight;
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    g_assert(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    g_assert_cmpint(getrlimit(RLIMIT_AS, &old), ==, 0);
    tight = old;
    tight.rlim_cur = MIN(old.rlim_max, pages * PAGE + ROOM);
    near_set(g, c->at, c->pages, 1);
    GUEST_LOAD(g, sum);
    g_assert_cmpint(setrlimit(RLIMIT_AS, &tight), ==, 0);
    g_assert_cmpuint(near_sum(g, c), ==, near_places(c->pages));
    g_assert_cmpint(setrlimit(RLIMIT_AS, &old), ==, 0);
    guest_free(g);
}

/* Two pages by turns that share an entry of the TLB: the second level has the other one. */
GUEST_CODE(swing_load, "xor %eax, %eax\n"
                       "mov $64, %ecx\n"
                       "1: add (%rsi), %rax\n"
                       "xchg %rsi, %rdi\n"
                       "dec %ecx\n"
                       "jnz 1b\n"
                       "int3");
GUEST_CODE(swing_store, "mov $64, %ecx\n"
                        "1: mov %rdx, (%rsi)\n"
                        "xchg %rsi, %rdi\n"
                        "dec %ecx\n"
                        "jnz 1b\n"
                        "int3");
enum { SWING = G_DATA + (8 << 20) };

static int swing(struct guest *g, uint64_t value)
{
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = SWING;
    g->cpu->gpr[CPU_RDX] = value;
    return near_run(g, G_CODE);
}

static void swing_sum(struct guest *g, uint64_t want)
{
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(swing(g, 0), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 32 * want);
    }
}

static void test_second_level(void)
{
    const uint64_t other = G_DATA + 0x100000, flags = G_P | G_RW | G_US;
    struct guest *g = guest_new();

    guest_write64(g, G_PD + (SWING / LARGE_PAGE) * 8,
                  (SWING & ~(uint64_t)(LARGE_PAGE - 1)) | flags | G_PS);
    guest_flush(g);
    guest_write64(g, G_DATA, 1);
    guest_write64(g, other, 100);
    guest_write64(g, SWING, 10);
    GUEST_LOAD(g, swing_load);
    swing_sum(g, 11);
    near_pte(g, G_DATA, other | flags);
    swing_sum(g, 110);
    guest_write64(g, SWING - LARGE_PAGE, 1000);
    guest_write64(g, G_PD + (SWING / LARGE_PAGE) * 8,
                  ((SWING / LARGE_PAGE - 1) * LARGE_PAGE) | flags | G_PS);
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, SWING);
    swing_sum(g, 1100);
    GUEST_LOAD(g, swing_store);
    for (uint8_t i = 1; i < 30; i++) { /* the page is code by turns */
        g_assert_cmpint(swing(g, near_code(i)), ==, CPU_BP);
        g_assert_cmpint(swing(g, near_code(i)), ==, CPU_BP);
        near_answers(g, G_DATA, i);
        near_answers(g, G_DATA, i);
        near_answers(g, SWING, i);
    }
    near_pte(g, G_DATA, other | G_P | G_US);
    g_assert_cmpint(swing(g, 0), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA);
    GUEST_LOAD(g, swing_load);
    g_assert_cmpint(swing(g, 0), ==, CPU_BP);
    near_pte(g, G_DATA, 0);
    g_assert_cmpint(swing(g, 0), ==, CPU_PAGE_FAULT);
    guest_free(g);
}

/* The vector state stays in the registers while the translator makes room for what it looks up:
 * more pages, in another region, than a view may have (the variant with views). */
enum { VECTOR_AT = G_DATA + 0x100000, VECTOR_ELSEWHERE = (64 << 20) + G_DATA };
static const uint64_t vector_value = 0x0123456789abcdefull;

GUEST_CODE(vector_sum, "movups (%rdi), %xmm0\n"
                       "xor %ecx, %ecx\n"
                       "1: mov (%rsi,%rcx), %rax\n"
                       "add $4096, %rcx\n"
                       "cmp %rbx, %rcx\n"
                       "jb 1b\n"
                       "movups %xmm0, 16(%rdi)\n"
                       "int3");

static void vector_over(struct guest *g, uint64_t at, unsigned pages)
{
    g->cpu->gpr[CPU_RDI] = VECTOR_AT;
    g->cpu->gpr[CPU_RSI] = at;
    g->cpu->gpr[CPU_RBX] = pages * PAGE;
    guest_write64(g, VECTOR_AT + 16, 0);
    guest_write64(g, VECTOR_AT + 24, 0);
    g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
    g_assert_cmphex(guest_read64(g, VECTOR_AT + 16), ==, vector_value);
    g_assert_cmphex(guest_read64(g, VECTOR_AT + 24), ==, ~vector_value);
}

static void test_vector(void)
{
    struct guest *g = guest_new();

    guest_write64(g, G_PD + (VECTOR_ELSEWHERE / LARGE_PAGE) * 8,
                  guest_read64(g, G_PD + (G_DATA / LARGE_PAGE) * 8));
    guest_flush(g);
    guest_write64(g, VECTOR_AT, vector_value);
    guest_write64(g, VECTOR_AT + 8, ~vector_value);
    GUEST_LOAD(g, vector_sum);
    for (unsigned i = 0; i < 4; i++) {
        vector_over(g, G_DATA, 32);
        guest_flush(g);
        vector_over(g, VECTOR_ELSEWHERE, 64);
        guest_flush(g);
    }
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/near/remap", test_remap);
    g_test_add_func("/interp/near/protect", test_protect);
    g_test_add_func("/interp/near/loads-only", test_loads_only);
    g_test_add_func("/interp/near/large", test_large);
    g_test_add_func("/interp/near/large-protect", test_large_protect);
    g_test_add_func("/interp/near/becomes-code", test_becomes_code);
    g_test_add_func("/interp/near/code-of-other", test_code_of_other);
    g_test_add_func("/interp/near/second-level", test_second_level);
    g_test_add_func("/interp/near/unaligned", test_unaligned);
    g_test_add_func("/interp/near/not-told", test_not_told);
    g_test_add_func("/interp/near/programs", test_programs);
    g_test_add_func("/interp/near/no-room", test_no_room);
#ifdef interp_accel_ops
    g_test_add_func("/interp/near/again", test_again);
#endif
    g_test_add_func("/interp/near/vector", test_vector);
    return g_test_run();
}
