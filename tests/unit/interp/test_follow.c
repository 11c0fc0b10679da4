/* SPDX-License-Identifier: MIT */
/*
 * Loops with several ways through them, whose jumps back the translator follows
 * (cpu/dbt/tr_follow.c): what they compute, faults and changes of code behind such a jump, and
 * stopping them.
 */
#include <sched.h>

#include "cpu/interp/engine.h"
#include "guest.h"
#ifdef interp_accel_ops
#include "cpu/dbt/engine.h"
#endif

enum { ROUNDS = 1000, PAGE = 4096 };

/* rsi: an array. The block at 2 ends with a jump back to 1. */
GUEST_CODE(ways, "mov $1000, %ecx\n"
                 "xor %eax, %eax\n"
                 "xor %ebx, %ebx\n"
                 "xor %edx, %edx\n"
                 "jmp 2f\n"
                 "1: .globl ways_add\n"
                 "ways_add: add $3, %rax\n"
                 ".globl ways_store\n"
                 "ways_store: mov %rax, (%rsi)\n"
                 "add $8, %rsi\n"
                 "dec %ecx\n"
                 "jz 9f\n"
                 "2: inc %edx\n"
                 "test $3, %dl\n"
                 "jnz 1b\n"
                 "add $5, %rbx\n"
                 "jmp 1b\n"
                 "9: hlt");
extern const uint8_t ways_add[], ways_store[];

static void follow_check(const struct guest *g)
{
#ifdef interp_accel_ops
    g_assert_cmpuint(dbt_of(g->v->engine)->counts.n[COUNT_FOLLOWED], >, 0);
#endif
}

static struct guest *follow_new(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, ways);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    return g;
}

static void follow_again(struct guest *g)
{
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    guest_run(g, EXIT_HALT);
}

static void follow_result(struct guest *g, unsigned by)
{
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, ROUNDS * by);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, ROUNDS / 4 * 5);
    g_assert_cmpuint(g->cpu->gpr[CPU_RDX], ==, ROUNDS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        g_assert_cmpuint(guest_read64(g, G_DATA + i * 8), ==, (i + 1) * by);
    }
}

static void test_ways(void)
{
    struct guest *g = follow_new();

    guest_run(g, EXIT_HALT);
    follow_result(g, 3);
    follow_check(g);
    guest_free(g);
}

/* The array ends within the loop: at each place of the way round in turn. */
static void test_fault(void)
{
    for (unsigned at = 1; at <= 8; at++) {
        struct guest *g = follow_new();

        *guest_pte(g, G_DATA + PAGE) &= ~(uint64_t)G_P;
        guest_flush(g);
        g->cpu->gpr[CPU_RSI] = G_DATA + PAGE - at * 8;
        g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
        g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + (uint64_t)(ways_store - ways));
        g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 3 * (at + 1));
        g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, (at + 1) / 4 * 5);
        g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, ROUNDS - at);
        g_assert_cmpuint(g->cpu->gpr[CPU_RDX], ==, at + 1);
        guest_free(g);
    }
}

/* What stands behind the jump changes between runs, and changes back. */
static void test_changed(void)
{
    const uint64_t imm = G_CODE + (uint64_t)(ways_add - ways) + 3;
    struct guest *g = follow_new();

    guest_run(g, EXIT_HALT);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t by = (uint8_t)(i % 3 + 3);

        g_assert_true(mem_write(g->fb->board.mem, imm, &by, 1));
        follow_again(g);
        follow_result(g, by);
        follow_again(g);
        follow_result(g, by);
    }
    guest_free(g);
}

/* The same where nothing but the jump leads there, and no line has other code. */
GUEST_CODE(only, "mov $1000, %ecx\n"
                 "xor %eax, %eax\n"
                 "xor %edx, %edx\n"
                 "jmp 2f\n"
                 "0: hlt\n"
                 ".skip 100, 0x90\n"
                 ".globl only_add\n"
                 "only_add: add $3, %rax\n"
                 "dec %ecx\n"
                 "jz 9f\n"
                 "jmp 2f\n"
                 ".skip 100, 0x90\n"
                 "2: inc %edx\n"
                 "test %edx, %edx\n"
                 "js 0b\n"
                 "nop\n"
                 "jmp only_add\n"
                 "9: hlt");
extern const uint8_t only_add[];
static void test_only(void)
{
    const uint64_t imm = G_CODE + (uint64_t)(only_add - only) + 3;
    struct guest *g = guest_new();

    GUEST_LOAD(g, only);
    guest_run(g, EXIT_HALT);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t by = (uint8_t)(i % 3 + 3);

        g_assert_true(mem_write(g->fb->board.mem, imm, &by, 1));
        for (unsigned k = 0; k < 2; k++) {
            follow_again(g);
            g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, ROUNDS * by);
        }
    }
    follow_check(g);
    guest_free(g);
}

/* Each round adds what it has written into the code behind the jump before. */
GUEST_CODE(self, "mov $1000, %ecx\n"
                 "xor %eax, %eax\n"
                 "xor %edx, %edx\n"
                 "jmp 2f\n"
                 "1: add $0, %eax\n"
                 "4: dec %ecx\n"
                 "jz 9f\n"
                 "2: inc %edx\n"
                 "mov %edx, %ebx\n"
                 "and $0x7f, %ebx\n"
                 "mov %bl, 4b-1(%rip)\n"
                 "test $1, %dl\n"
                 "jnz 1b\n"
                 "nop\n"
                 "jmp 1b\n"
                 "9: hlt");
static void test_self(void)
{
    struct guest *g = guest_new();
    unsigned sum = 0;

    GUEST_LOAD(g, self);
    guest_run(g, EXIT_HALT);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        sum += i & 0x7f;
    }
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, sum);
    guest_free(g);
}

/* The same where the store itself stands behind the jump, and what it changes behind that. */
GUEST_CODE(ahead, "mov $1000, %ecx\n"
                  "xor %eax, %eax\n"
                  "xor %edx, %edx\n"
                  "jmp 2f\n"
                  "1: mov %edx, %ebx\n"
                  "and $0x7f, %ebx\n"
                  "mov %bl, 4f-1(%rip)\n"
                  "add $0, %eax\n"
                  "4: dec %ecx\n"
                  "jz 9f\n"
                  "2: inc %edx\n"
                  "test $1, %dl\n"
                  "jnz 1b\n"
                  "nop\n"
                  "jmp 1b\n"
                  "9: hlt");
static void test_ahead(void)
{
    struct guest *g = guest_new();
    unsigned sum = 0;

    GUEST_LOAD(g, ahead);
    guest_run(g, EXIT_HALT);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        sum += i & 0x7f;
    }
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, sum);
    guest_free(g);
}

/* What an instruction behind the jump needs the interpreter for is done as it was translated. */
GUEST_CODE(device, "mov $100, %ecx\n"
                   "xor %edx, %edx\n"
                   "jmp 2f\n"
                   "1: mov %rdx, (%rsi)\n"
                   "dec %ecx\n"
                   "jz 9f\n"
                   "2: inc %edx\n"
                   "test $1, %dl\n"
                   "jnz 1b\n"
                   "nop\n"
                   "jmp 1b\n"
                   "9: hlt");
static void test_device(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, device);
    g->cpu->gpr[CPU_RSI] = G_MMIO + 0x40;
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(guest_mmio.writes, ==, 100);
    g_assert_cmpuint(guest_mmio.last_value, ==, 100);
    g_assert_cmphex(guest_mmio.last_gpa, ==, G_MMIO + 0x40);
    follow_check(g);
    guest_free(g);
}

/* No way round goes without a look at what others want. */
GUEST_CODE(endless, "1: inc %edx\n"
                    "mov %edx, (%rsi)\n"
                    "jmp 2f\n"
                    "2: test $1, %dl\n"
                    "js 1b\n"
                    "jmp 1b");
/* The same with nothing before the jump that looks: it is not followed. */
GUEST_CODE(unseen, "1: inc %edx\n"
                   "mov %edx, (%rsi)\n"
                   "jmp 2f\n"
                   "2: test $1, %dl\n"
                   "js 3f\n"
                   "jmp 1b\n"
                   "3: hlt");
static gpointer follow_stop(gpointer opaque)
{
    struct guest *g = opaque;

    while (*(volatile uint32_t *)(void *)(g->ram + G_DATA) < 100000) {
        sched_yield();
    }
    atomic_fetch_or(&g->v->request, VCPU_REQ_STOP);
    if (g->v->accel->kick != NULL) {
        g->v->accel->kick(g->v);
    }
    return NULL;
}

static void follow_until_stopped(const uint8_t *code, size_t len, bool follows)
{
    struct guest *g = guest_new();
    GThread *thread;

    guest_load(g, G_CODE, code, len);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDX] = 0;
    thread = g_thread_new("stop", follow_stop, g);
    guest_run(g, EXIT_KICK);
    g_thread_join(thread);
    if (follows) {
        follow_check(g);
    }
    guest_free(g);
}

static void test_stop(void)
{
    follow_until_stopped(endless, (size_t)(endless_end - endless), true);
    follow_until_stopped(unseen, (size_t)(unseen_end - unseen), false);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/follow/ways", test_ways);
    g_test_add_func("/interp/follow/fault", test_fault);
    g_test_add_func("/interp/follow/changed", test_changed);
    g_test_add_func("/interp/follow/only", test_only);
    g_test_add_func("/interp/follow/self", test_self);
    g_test_add_func("/interp/follow/ahead", test_ahead);
    g_test_add_func("/interp/follow/device", test_device);
    g_test_add_func("/interp/follow/stop", test_stop);
    return g_test_run();
}
