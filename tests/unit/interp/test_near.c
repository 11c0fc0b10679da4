/* SPDX-License-Identifier: MIT */
/*
 * Loops of user code that go over many pages, again and again, so that what the translator
 * knows of them is warm; then a page behind it changes. And accesses by one register a little
 * way off each other, which it checks together.
 */
#include "guest.h"

#include <stdio.h>
#include <sys/resource.h>

#define PAGE 0x1000ull

enum { LARGE = 0x400000, LARGE_PAGE = 2 << 20, STEP = 512 };

static void near_user(struct guest *g, uint64_t rip)
{
    guest_user(g);
    g->cpu->rip = rip;
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
}

/* From here on as a program, to the exception that ends it. */
static int near_run(struct guest *g, uint64_t rip)
{
    near_user(g, rip);
    return guest_vector(g);
}

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

/* Loops over one page, and over many of which one changes. */
struct near_case {
    uint64_t at;
    unsigned pages, odd;
    bool scattered; /* they do not follow each other in memory */
};
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

/* Of a case's pages, where in memory number i lies. */
static uint64_t near_place(const struct near_case *c, unsigned i)
{
    return c->at + (c->scattered ? i * 5 % c->pages : i) * PAGE;
}

static struct guest *near_guest(const struct near_case *c)
{
    struct guest *g = guest_new();

    for (unsigned i = 0; c->scattered && i < c->pages; i++) {
        *guest_pte(g, c->at + i * PAGE) = near_place(c, i) | G_P | G_RW | G_US;
    }
    return g;
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

static void near_pte(struct guest *g, uint64_t va, uint64_t pte)
{
    *guest_pte(g, va) = pte;
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, va);
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

/* MOV $value, %eax; INT3; INT3: code as a store of the loops has it. */
static uint64_t near_code(uint8_t value)
{
    return 0xcccc00000000b8 | (uint64_t)value << 8;
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

/* ---- accesses that are checked together ---- */

GUEST_CODE(fields, "mov (%rsi), %rax\n"
                   "lea 1(%rdi), %rdi\n"
                   "add -8(%rsi), %rax\n"
                   "mov 24(%rsi), %rbx\n"
                   "mov %rbx, 40(%rsi)\n"
                   "movl $7, 48(%rsi)\n"
                   "mov 16(%rsi), %rsi\n"
                   "mov 8(%rsi), %rcx\n"
                   "int3");

static void fields_set(struct guest *g, uint64_t gpa, uint64_t base)
{
    for (unsigned i = 0; i < 8; i++) {
        guest_write64(g, gpa - 8 + i * 8, base + i);
    }
}

/* In the kernel the TLB is asked, and no slot. */
static int fields_vector(struct guest *g, uint64_t at, bool user)
{
    g->cpu->gpr[CPU_RSI] = at;
    g->cpu->gpr[CPU_RDI] = 0;
    if (user) {
        return near_run(g, G_CODE);
    }
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rip = G_CODE;
    return guest_vector(g);
}

static void fields_run(struct guest *g, uint64_t at, bool user)
{
    g_assert_cmpint(fields_vector(g, at, user), ==, CPU_BP);
    g_assert_cmpuint(g->cpu->gpr[CPU_RDI], ==, 1);
}

/* At every distance from the end of a page, whose successor is elsewhere. */
static void near_fields(bool user)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + PAGE) = (G_DATA + 9 * PAGE) | G_P | G_RW | G_US;
    *guest_pte(g, G_DATA + 2 * PAGE) = (G_DATA + 4 * PAGE) | G_P | G_RW | G_US;
    guest_flush(g);
    GUEST_LOAD(g, fields);
    for (uint64_t at = PAGE - 128; at < PAGE + 64; at += 8) {
        for (unsigned i = 0; i < 8; i++) {
            uint64_t va = at - 8 + i * 8;

            guest_write64(g, G_DATA + (va < PAGE ? va : va + 8 * PAGE),
                          i == 3 ? G_DATA + 2 * PAGE : i + at);
        }
        guest_write64(g, G_DATA + 4 * PAGE + 8, 99);
        fields_run(g, G_DATA + at, user);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2 * at + 1);
        g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, at + 4);
        g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 99);
        g_assert_cmpuint(guest_read64(g, G_DATA + at + 40 + (at + 40 < PAGE ? 0 : 8 * PAGE)),
                         ==, at + 4);
    }
    guest_free(g);
}

static void test_fields(void)
{
    near_fields(true);
    near_fields(false);
}

GUEST_CODE(wide, "mov (%rsi), %rax\n"
                 "add 700(%rsi), %rax\n"
                 "mov %rax, 2500(%rsi)\n"
                 "addl $1, 5000(%rsi)\n"
                 "add 5000(%rsi), %eax\n"
                 "int3");

/* Fields far from each other, over pages that do not follow each other in memory, up to one that
 * may not be written, and to one that is not there. */
static void test_fields_wide(void)
{
    const struct near_case *c = &near_cases[6];
    const unsigned whole = c->pages - 2;
    struct guest *g = near_guest(c);

    GUEST_LOAD(g, wide);
    *guest_pte(g, c->at + whole * PAGE) &= ~(uint64_t)G_RW;
    *guest_pte(g, c->at + (whole + 1) * PAGE) = 0;
    guest_flush(g);
    for (unsigned turn = 0; turn < 3; turn++) {
        for (uint64_t at = c->at; at < c->at + (whole + 1) * PAGE - 64; at += 248) {
            const uint64_t off[] = {0, 700, 2500, 5000};
            uint64_t gpa[4], bad = 0, pages[4];

            for (unsigned i = 0; i < 4; i++) {
                uint64_t rel = at + off[i] - c->at;

                pages[i] = rel / PAGE;
                gpa[i] = near_place(c, (unsigned)(rel / PAGE)) + rel % PAGE;
                if (rel % PAGE <= PAGE - 8 && pages[i] <= whole) {
                    guest_write64(g, gpa[i], 1ull << (8 * i));
                }
                bad |= rel % PAGE > PAGE - 8;
            }
            g->cpu->gpr[CPU_RSI] = at;
            if (bad != 0) {
                continue; /* the bytes are in two places */
            }
            if (pages[1] > whole || pages[2] >= whole || pages[3] >= whole) {
                g_assert_cmpint(near_run(g, G_CODE), ==, CPU_PAGE_FAULT);
                g_assert_cmphex(g->cpu->cr2, ==,
                                at + (pages[1] > whole    ? off[1]
                                      : pages[2] >= whole ? off[2]
                                                          : off[3]));
                continue;
            }
            g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
            g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1000102);
            g_assert_cmphex(guest_read64(g, gpa[2]), ==, 0x101);
            g_assert_cmphex(guest_read64(g, gpa[3]), ==, 0x1000001);
        }
    }
    guest_free(g);
}

GUEST_CODE(two_apart, "mov (%rsi), %rax\n"
                      "add 5000(%rsi), %rax\n"
                      "int3");
GUEST_CODE(crowd, ".rept 300\n"
                  "mov (%rdi), %rcx\n"
                  "jmp 1f\n"
                  "1:\n"
                  ".endr\n"
                  "int3");

/* So many other blocks go to one page that one of them shares what is remembered with the first
 * one, which wants more than that page. */
static void test_crowd(void)
{
    const struct near_case *c = &near_cases[6];
    const uint64_t crowd_at = G_CODE + 4 * PAGE;
    struct guest *g = near_guest(c);

    GUEST_LOAD(g, two_apart);
    guest_load(g, crowd_at, crowd, (size_t)(crowd_end - crowd));
    guest_write64(g, near_place(c, 0), 1);
    guest_write64(g, near_place(c, 1) + 5000 - PAGE, 2);
    for (unsigned turn = 0; turn < 5; turn++) {
        g->cpu->gpr[CPU_RSI] = c->at;
        g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 3);
        g->cpu->gpr[CPU_RDI] = c->at;
        g_assert_cmpint(near_run(g, crowd_at), ==, CPU_BP);
    }
    guest_free(g);
}

/* Later ones fault by themselves, when those before them are done, and A and D are only of
 * pages that were touched. */
static void fields_fault(bool user)
{
    struct guest *g = guest_new();

    fields_set(g, G_DATA + 64, 0);
    guest_write64(g, G_DATA + 64 + 16, G_DATA);
    GUEST_LOAD(g, fields);
    for (unsigned i = 0; i < 3; i++) {
        fields_run(g, G_DATA + 64, user);
    }
    *guest_pte(g, G_DATA + PAGE) = 0;
    guest_flush(g);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(fields_vector(g, G_DATA + PAGE - 16, user), ==, CPU_PAGE_FAULT);
        g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE + 8);
        g_assert_cmpuint(g->cpu->gpr[CPU_RDI], ==, 1);
        g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 11);
    }
    *guest_pte(g, G_DATA + PAGE) = (G_DATA + PAGE) | G_P | G_US;
    guest_flush(g);
    g_assert_cmpint(fields_vector(g, G_DATA + PAGE - 40, user), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE);
    g_assert_cmphex(*guest_pte(g, G_DATA + PAGE) & (G_A | G_D), ==, 0);
    guest_free(g);
}

static void test_fields_fault(void)
{
    fields_fault(true);
    fields_fault(false);
}

GUEST_CODE(maybe, "mov (%rsi), %rax\n"
                  "test %rdi, %rdi\n"
                  "jz 1f\n"
                  "mov %rax, 8(%rsi)\n"
                  "1: int3");
static int maybe_run(struct guest *g, uint64_t store, bool user)
{
    g->cpu->gpr[CPU_RDI] = store;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    if (user) {
        return near_run(g, G_CODE);
    }
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rip = G_CODE;
    return guest_vector(g);
}

/* A store that is not done asks for nothing, and one that is gets what it needs. */
static void fields_maybe(bool user)
{
    struct guest *g = guest_new();
    uint64_t *pte = guest_pte(g, G_DATA);

    guest_write64(g, G_DATA, 5);
    GUEST_LOAD(g, maybe);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_cmpint(maybe_run(g, 0, user), ==, CPU_BP);
        g_assert_cmphex(*pte & (G_A | G_D), ==, G_A);
    }
    g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_BP);
    g_assert_cmphex(*pte & (G_A | G_D), ==, G_A | G_D);
    g_assert_cmpuint(guest_read64(g, G_DATA + 8), ==, 5);
    for (unsigned i = 0; i < 3; i++) {
        g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_BP);
    }
    near_pte(g, G_DATA, *pte & ~(uint64_t)G_RW);
    g_assert_cmpint(maybe_run(g, 0, user), ==, CPU_BP);
    g_assert_cmpint(maybe_run(g, 1, user), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 8);
    guest_free(g);
}

static void test_fields_maybe(void)
{
    fields_maybe(true);
    fields_maybe(false);
}

/* Over two pages of the stack; the place is 8 bytes further behind the PUSH. */
GUEST_CODE(stack_array, "xor %eax, %eax\n"
                        "1: mov -4096(%rsp,%rcx,8), %rdx\n"
                        "add %rdx, %rax\n"
                        "mov %rcx, -4096(%rsp,%rcx,8)\n"
                        "push %rcx\n"
                        "add %rcx, -4088(%rsp,%rcx,8)\n"
                        "pop %rcx\n"
                        "add -4096(%rsp,%rcx,8), %rax\n"
                        "dec %rcx\n"
                        "jns 1b\n"
                        "int3");

/* An array on the stack, which the code reads, writes and adds to. */
static void test_stack_array(void)
{
    enum { COUNT = 500 };
    struct guest *g = guest_new();

    GUEST_LOAD(g, stack_array);
    for (unsigned turn = 0; turn < 40; turn++) {
        uint64_t want = 0;

        for (uint64_t i = 0; i < COUNT; i++) {
            want += (turn != 0 ? 2 * i : 0) + 2 * i;
        }
        near_user(g, G_CODE);
        g->cpu->gpr[CPU_RCX] = COUNT - 1;
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, want);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        g_assert_cmpuint(guest_read64(g, G_STACK - 0x800 - 4096 + i * 8), ==, 2 * i);
    }
    guest_free(g);
}

/* An index that is small by what wrote it last, at every place about the end of a page: AND, a
 * byte, a shift, and one of which only the lowest byte was written. R8 is the value, R10 goes where
 * it is. */
GUEST_CODE(small_and, "mov %ecx, %edx\n"
                      "and $7, %edx\n"
                      "mov %r8, -72(%rsp,%rdx,8)\n"
                      "add -72(%rsp,%rdx,8), %r10\n"
                      "int3");
GUEST_CODE(small_byte, "movzbl %cl, %edx\n"
                       "movb $5, -80(%rsp)\n"
                       "mov %r8b, (%rsp,%rdx)\n"
                       "movzbl (%rsp,%rdx), %r11d\n"
                       "add %r11, %r10\n"
                       "int3");
GUEST_CODE(small_shift, "mov %ecx, %r9d\n"
                        "shl $24, %r9d\n"
                        "shr $24, %r9d\n"
                        "mov %r8d, -128(%rsp,%r9,4)\n"
                        "add -128(%rsp,%r9,4), %r10d\n"
                        "int3");
GUEST_CODE(small_spoilt, "mov %ecx, %edx\n"
                         "and $7, %edx\n"
                         "mov %cl, %dl\n"
                         "mov %r8, -72(%rsp,%rdx,8)\n"
                         "add -72(%rsp,%rdx,8), %r10\n"
                         "int3");

struct small {
    const uint8_t *code, *end;
    unsigned mask, scale, size;
    int disp;
};

static void small_index(const struct small *c)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + 2 * PAGE) = (G_DATA + 9 * PAGE) | G_P | G_RW | G_US;
    guest_flush(g);
    guest_load(g, G_CODE, c->code, (size_t)(c->end - c->code));
    for (unsigned n = 0; n < 600; n++) {
        const uint64_t sp = G_DATA + 2 * PAGE - 300 + n % 75 * 8, index = n * 37 & c->mask;
        const uint64_t va = sp + (uint64_t)(int64_t)c->disp + index * c->scale;
        const uint64_t value = c->size == 1 ? n & 0xff : n + 1;

        near_user(g, G_CODE);
        g->cpu->gpr[CPU_RSP] = sp;
        g->cpu->gpr[CPU_RCX] = n * 37;
        g->cpu->gpr[CPU_R8] = value;
        g->cpu->gpr[CPU_R10] = 5;
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_R10], ==, value + 5);
        if ((va & (PAGE - 1)) <= PAGE - c->size) {
            uint64_t gpa = va < G_DATA + 2 * PAGE ? va : va + 7 * PAGE;
            uint64_t mask = UINT64_MAX >> (64 - 8 * c->size);

            g_assert_cmphex(guest_read64(g, gpa) & mask, ==, value);
        }
    }
    guest_free(g);
}

static void test_small_index(void)
{
    static const struct small cases[] = {
        {small_and, small_and_end, 7, 8, 8, -72},
        {small_byte, small_byte_end, 0xff, 1, 1, 0},
        {small_shift, small_shift_end, 0xff, 4, 4, -128},
        {small_spoilt, small_spoilt_end, 0xff, 8, 8, -72},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        small_index(&cases[i]);
    }
}

GUEST_CODE(high_byte, "or %ah, 0x58(%rcx)\n"
                      "int3");

/* AH with memory, at addresses that are not canonical: nothing has changed when it faults. */
static void test_high_byte(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, high_byte);
    for (unsigned n = 0; n < 8; n++) {
        for (unsigned i = 0; i < 3; i++) {
            g->cpu->gpr[CPU_RAX] = 0x1234;
            g->cpu->gpr[CPU_RCX] = G_DATA + n;
            g_assert_cmpint(near_run(g, G_CODE), ==, CPU_BP);
            g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234);
            g_assert_cmphex(guest_read64(g, G_DATA + 0x58 + n) & 0xff, ==, 0x12);
        }
        guest_flush(g);
        g->cpu->gpr[CPU_RCX] = (1ull << 63) - 0x58 + n * 512;
        g_assert_cmpint(near_run(g, G_CODE), ==, CPU_GP);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234);
    }
    guest_free(g);
}

/* Lines apart: the first store does not change the code. */
GUEST_CODE(device_far, "mov %rdx, -1024(%rsi)\n" /* too far for one check */
                       "mov (%rdi), %eax\n"
                       "mov %rdx, 72(%rsi)\n"
                       "int3");
GUEST_CODE(device_near, "mov %rdx, (%rsi)\n"
                        "mov (%rdi), %eax\n"
                        "mov %rdx, 72(%rsi)\n"
                        "int3");

struct device {
    struct vcpu_board_ops ops;
    struct guest *g;
    struct vcpu *other;
    uint64_t rax;
};

static void *device_thread(void *opaque)
{
    struct device *dev = opaque;
    struct exit exit;

    dev->other->cpu.rip = G_DATA + 0x848;
    dev->other->cpu.halted = false;
    interp_accel_ops.run(dev->other, &exit);
    dev->rax = dev->other->cpu.gpr[CPU_RAX];
    return NULL;
}

static struct device *device_now; /* board_ops have no pointer of their own */

/* While the device is read another vCPU runs code on the page of the two stores. */
static uint64_t device_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v, (void)gpa, (void)size;
    g_thread_join(g_thread_new("other", device_thread, device_now));
    return 0;
}

static void device_run(const uint8_t *code, size_t len, bool user)
{
    struct guest *g = guest_new();
    struct device dev = {.ops = *g->v->board_ops, .g = g};

    dev.ops.mmio_read = device_read;
    dev.other = guest_second(g);
    device_now = &dev;
    guest_load(g, G_CODE, code, len);
    for (uint8_t i = 1; i < 10; i++) {
        g->v->board_ops = &dev.ops;
        g->cpu->gpr[CPU_RSI] = G_DATA + 0x800;
        g->cpu->gpr[CPU_RDI] = G_MMIO;
        g->cpu->gpr[CPU_RDX] = near_code(i);
        if (i == 1) {
            guest_write64(g, G_DATA + 0x848, near_code(0));
        }
        g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
        g->cpu->rip = G_CODE;
        if (user) {
            near_user(g, G_CODE);
        }
        g_assert_cmpint(guest_vector(g), ==, CPU_BP);
        g_assert_cmphex(dev.rax, ==, i - 1u);
        (void)device_thread(&dev); /* sees the second store */
        g_assert_cmphex(dev.rax, ==, i);
    }
    guest_free(g);
}

/* What was checked before the device was read is not good behind it. */
static void test_fields_device(void)
{
    for (unsigned user = 0; user < 2; user++) {
        device_run(device_far, (size_t)(device_far_end - device_far), user != 0);
        device_run(device_near, (size_t)(device_near_end - device_near), user != 0);
    }
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
    g_test_add_func("/interp/near/fields", test_fields);
    g_test_add_func("/interp/near/fields-wide", test_fields_wide);
    g_test_add_func("/interp/near/crowd", test_crowd);
    g_test_add_func("/interp/near/fields-fault", test_fields_fault);
    g_test_add_func("/interp/near/fields-maybe", test_fields_maybe);
    g_test_add_func("/interp/near/fields-device", test_fields_device);
    g_test_add_func("/interp/near/stack-array", test_stack_array);
    g_test_add_func("/interp/near/small-index", test_small_index);
    g_test_add_func("/interp/near/high-byte", test_high_byte);
    g_test_add_func("/interp/near/vector", test_vector);
    return g_test_run();
}
