/* SPDX-License-Identifier: MIT */
/*
 * Loops over memory that the translator may check once for many iterations: over the ends of
 * pages, by steps of all kinds, into pages that go away, with pointers that are loaded anew in
 * each iteration and change.
 */
#include "guest.h"

#define PAGE 0x1000ull

enum { PAGES = 4, TIMES = 3 };

static int loop_run(struct guest *g)
{
    guest_user(g);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rflags = 2;
    return guest_vector(g);
}

static void loop_pte(struct guest *g, uint64_t va, uint64_t pte)
{
    *guest_pte(g, va) = pte;
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, va);
}

static void loop_data(struct guest *g)
{
    for (uint64_t at = 0; at < PAGES * PAGE; at += 8) {
        guest_write64(g, G_DATA + at, at * 0x9e3779b97f4a7c15ull >> 7);
    }
}

/* RAX: sum of RBX quadwords from RSI on, RDX bytes apart; the index begins at RCX. */
GUEST_CODE(sum_up, "xor %eax, %eax\n"
                   "1: add (%rsi,%rcx), %rax\n"
                   "add $24, %rcx\n"
                   "sub $1, %rbx\n"
                   "jnz 1b\n"
                   "int3");
GUEST_CODE(sum_down, "xor %eax, %eax\n"
                     "1: add (%rsi,%rcx), %rax\n"
                     "sub $24, %rcx\n"
                     "sub $1, %rbx\n"
                     "jnz 1b\n"
                     "int3");
GUEST_CODE(sum_scaled, "xor %eax, %eax\n"
                       "1: add (%rsi,%rcx,8), %rax\n"
                       "add $3, %rcx\n"
                       "sub $1, %rbx\n"
                       "jnz 1b\n"
                       "int3");
GUEST_CODE(sum_step, "xor %eax, %eax\n"
                     "1: add (%rsi,%rcx), %rax\n"
                     "add %rdx, %rcx\n"
                     "sub $1, %rbx\n"
                     "jnz 1b\n"
                     "int3");
/* The same by a sum of registers that is computed in the loop, and by registers that are not the
 * host's own. */
GUEST_CODE(sum_lea, "xor %eax, %eax\n"
                    "mov %rcx, %r10\n"
                    "mov %rsi, %r9\n"
                    "1: lea (%r9,%r10), %r11\n"
                    "add $24, %r10\n"
                    "add (%r11), %rax\n"
                    "sub $1, %rbx\n"
                    "jnz 1b\n"
                    "mov %r10, %rcx\n"
                    "int3");

struct loop_case {
    const uint8_t *code, *end;
    int64_t step;
    int64_t unit; /* of the index */
};

/* Wherever the index begins: the address is the same. */
static void sums_from(const struct loop_case *c, uint64_t from, int64_t index)
{
    enum { COUNT = 400 };
    struct guest *g = guest_new();
    int64_t step = c->step;
    uint64_t sum = 0;

    loop_data(g);
    guest_load(g, G_CODE, c->code, (size_t)(c->end - c->code));
    for (unsigned i = 0; i < COUNT; i++) {
        sum += guest_read64(g, from + (uint64_t)(step * (int64_t)i));
    }
    for (unsigned i = 0; i < TIMES; i++) {
        g->cpu->gpr[CPU_RSI] = from - (uint64_t)index * (uint64_t)c->unit;
        g->cpu->gpr[CPU_RCX] = (uint64_t)index;
        g->cpu->gpr[CPU_RDX] = (uint64_t)step;
        g->cpu->gpr[CPU_RBX] = COUNT;
        g_assert_cmpint(loop_run(g), ==, CPU_BP);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, sum);
        g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==,
                        (uint64_t)index + (uint64_t)(step * COUNT / c->unit));
    }
    guest_free(g);
}

static void test_sums(void)
{
    const struct loop_case cases[] = {
        {sum_up, sum_up_end, 24, 1},         {sum_down, sum_down_end, -24, 1},
        {sum_scaled, sum_scaled_end, 24, 8}, {sum_step, sum_step_end, 24, 1},
        {sum_step, sum_step_end, 8, 1},      {sum_step, sum_step_end, -16, 1},
        {sum_step, sum_step_end, 0, 1},      {sum_lea, sum_lea_end, 24, 1},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t from = G_DATA + (cases[i].step < 0 ? 3 * PAGE - 8 : 16);

        sums_from(&cases[i], from, 0);
        sums_from(&cases[i], from + 4, -3 * 24);
        sums_from(&cases[i], from, -400 * 24);
        if (cases[i].unit == 1) { /* non-negative and negative meet, and the largest */
            sums_from(&cases[i], from, INT64_MAX - 9000);
            sums_from(&cases[i], from, INT64_MIN + 9000);
        }
    }
}

/* The loop stops in the iteration that finds its page gone, with all before it done. */
GUEST_CODE(copy, "1: movzbl (%rsi,%rcx), %eax\n"
                 "mov %al, (%rdi,%rcx)\n"
                 "add $1, %rcx\n"
                 "cmp %rbx, %rcx\n"
                 "jne 1b\n"
                 "int3");

static int copy_run(struct guest *g)
{
    g->cpu->gpr[CPU_RSI] = G_DATA + 100;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x100000 + 300;
    g->cpu->gpr[CPU_RCX] = 0;
    g->cpu->gpr[CPU_RBX] = 2 * PAGE;
    return loop_run(g);
}

static void test_faults(void)
{
    struct guest *g = guest_new();
    const uint64_t second = G_DATA + 0x100000 + PAGE;
    uint64_t pte;

    loop_data(g);
    GUEST_LOAD(g, copy);
    for (unsigned i = 0; i < TIMES; i++) {
        g_assert_cmpint(copy_run(g), ==, CPU_BP);
        g_assert_cmpint(memcmp(g->ram + G_DATA + 100, g->ram + G_DATA + 0x100000 + 300, 2 * PAGE),
                        ==, 0);
    }
    memset(g->ram + second, 0x55, PAGE);
    pte = *guest_pte(g, second);
    loop_pte(g, second, pte & ~(uint64_t)G_RW);
    g_assert_cmpint(copy_run(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, second);
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, PAGE - 300);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, g->ram[G_DATA + 100 + PAGE - 300]);
    g_assert_cmphex(g->ram[second], ==, 0x55);
    loop_pte(g, second, pte);
    loop_pte(g, G_DATA + PAGE, 0);
    g_assert_cmpint(copy_run(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE);
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, PAGE - 100);
    guest_free(g);
}

/* The pointer is in memory, and one of the loop's own stores changes it. */
GUEST_CODE(through, "1: mov (%rdi), %rdx\n"
                    "mov %rax, (%rdx,%rcx)\n"
                    "add $8, %rcx\n"
                    "cmp %rbx, %rcx\n"
                    "jb 1b\n"
                    "int3");

static void test_pointer_changes(void)
{
    enum { CELL = G_DATA + 0x800, OTHER = G_DATA + 0x2000 };
    struct guest *g = guest_new();

    GUEST_LOAD(g, through);
    for (unsigned i = 0; i < TIMES; i++) {
        memset(g->ram + G_DATA, 0, PAGES * PAGE);
        guest_write64(g, CELL, G_DATA);
        g->cpu->gpr[CPU_RDI] = CELL;
        g->cpu->gpr[CPU_RAX] = OTHER;
        g->cpu->gpr[CPU_RCX] = 0;
        g->cpu->gpr[CPU_RBX] = 0x1800;
        g_assert_cmpint(loop_run(g), ==, CPU_BP);
        g_assert_cmphex(g->cpu->gpr[CPU_RDX], ==, OTHER);
        for (uint64_t at = 0; at < 0x1800; at += 8) {
            g_assert_cmphex(guest_read64(g, G_DATA + at), ==, at <= 0x800 ? OTHER : 0);
            g_assert_cmphex(guest_read64(g, OTHER + at), ==, at <= 0x800 ? 0 : OTHER);
        }
    }
    guest_free(g);
}

/* A store that walks into the page of its own loop, and there into the next instruction. */
GUEST_CODE(into_itself, "1: movb $0x29, (%rdi)\n" /* the ADD below becomes a SUB */
                        "add %rdx, %rax\n"
                        "add $256, %rdi\n"
                        "sub $1, %rbx\n"
                        "jnz 1b\n"
                        "int3");

static void test_changes_itself(void)
{
    enum { OPCODE = G_CODE + 4, BEFORE = 10, BEHIND = 3 };
    struct guest *g = guest_new();

    for (unsigned i = 0; i < TIMES; i++) {
        GUEST_LOAD(g, into_itself);
        g_assert_cmphex(g->ram[OPCODE], ==, 0x01);
        g->cpu->gpr[CPU_RAX] = 0;
        g->cpu->gpr[CPU_RDX] = 1;
        g->cpu->gpr[CPU_RDI] = OPCODE - BEFORE * 256;
        g->cpu->gpr[CPU_RBX] = BEFORE + BEHIND;
        g_assert_cmpint(loop_run(g), ==, CPU_BP);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, BEFORE - BEHIND);
    }
    guest_free(g);
}

/* AH with memory takes registers of the host that else keep what addresses consist of. */
GUEST_CODE(high_byte, "1: add %ah, (%rsi,%rcx)\n"
                      "mov (%rsi,%rcx), %dl\n"
                      "add $8, %rcx\n"
                      "sub $1, %rbx\n"
                      "jnz 1b\n"
                      "int3");
GUEST_CODE(high_bytes, "1: mov (%rsi,%rcx), %ah\n"
                       "xor %ah, (%rdi,%rcx)\n"
                       "add $8, %rcx\n"
                       "sub $1, %rbx\n"
                       "jnz 1b\n"
                       "int3");

static void high_run(struct guest *g)
{
    g->cpu->gpr[CPU_RAX] = 0x500;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x100000;
    g->cpu->gpr[CPU_RCX] = 0;
    g->cpu->gpr[CPU_RBX] = PAGES * PAGE / 8;
    g_assert_cmpint(loop_run(g), ==, CPU_BP);
}

static void test_high_byte(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, high_byte);
    for (unsigned i = 0; i < TIMES; i++) {
        high_run(g);
    }
    for (uint64_t at = 0; at < PAGES * PAGE; at += 8) {
        g_assert_cmphex(guest_read64(g, G_DATA + at), ==, 5 * TIMES);
    }
    GUEST_LOAD(g, high_bytes);
    for (unsigned i = 0; i < TIMES; i++) {
        high_run(g);
    }
    for (uint64_t at = 0; at < PAGES * PAGE; at += 8) {
        g_assert_cmphex(guest_read64(g, G_DATA + 0x100000 + at), ==, 5 * TIMES);
    }
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/loop/sums", test_sums);
    g_test_add_func("/interp/loop/faults", test_faults);
    g_test_add_func("/interp/loop/pointer-changes", test_pointer_changes);
    g_test_add_func("/interp/loop/changes-itself", test_changes_itself);
    g_test_add_func("/interp/loop/high-byte", test_high_byte);
    return g_test_run();
}
