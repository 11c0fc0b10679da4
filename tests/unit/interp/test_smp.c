/* SPDX-License-Identifier: MIT */
/* The interpreter with two vCPUs: code written by one and run by the other, and locked
 * counters. */
#include "guest.h"

enum { ROUNDS = 20000 };

static gpointer smp_thread(gpointer opaque)
{
    struct vcpu *v = opaque;
    struct exit exit;

    interp_accel_ops.run(v, &exit);
    g_assert_cmpint(exit.kind, ==, EXIT_HALT);
    return NULL;
}

/* Runs the second vCPU beside the first, both from where they are, until both halt. */
static void smp_run_both(struct guest *g, struct vcpu *v)
{
    GThread *thread;

    v->cpu.gpr[CPU_RSP] = G_STACK - 0x4000;
    thread = g_thread_new("vcpu1", smp_thread, v);
    guest_run(g, EXIT_HALT);
    g_thread_join(thread);
}

/* The second one with code of its own, both with RSI where the data are. */
static struct vcpu *smp_second(struct guest *g, const uint8_t *code, size_t len)
{
    const uint64_t first = g->cpu->rip;
    struct vcpu *second;

    g->cpu->gpr[CPU_RSI] = G_DATA;
    guest_load(g, G_CODE + 0x1000, code, len);
    second = guest_second(g);
    g->cpu->rip = first;
    return second;
}

/* The second one at `at`. */
static void smp_run(struct guest *g, uint64_t at)
{
    struct vcpu *v = guest_second(g);

    v->cpu.rip = at;
    smp_run_both(g, v);
}

/* rsi: ready at 0, done at 8; rdi: the immediate of the function. */
GUEST_CODE(writer, "mov $1, %ecx\n"
                   "1: mov %ecx, (%rdi)\n"
                   "mov %rcx, (%rsi)\n"
                   "2: pause\n"
                   "cmp %rcx, 8(%rsi)\n"
                   "jb 2b\n"
                   "inc %ecx\n"
                   "cmp $20000, %ecx\n"
                   "jbe 1b\n"
                   "hlt");
GUEST_CODE(runner, "mov $1, %ecx\n"
                   "lea -1(%rdi), %rbx\n"
                   "1: pause\n"
                   "cmp %rcx, (%rsi)\n"
                   "jb 1b\n"
                   "call *%rbx\n"
                   "cmp %ecx, %eax\n"
                   "jne 3f\n"
                   "mov %rcx, 8(%rsi)\n"
                   "inc %ecx\n"
                   "cmp $20000, %ecx\n"
                   "jbe 1b\n"
                   "hlt\n"
                   "3: mov %rax, 16(%rsi)\n" /* what it saw instead */
                   "mov %rcx, 24(%rsi)\n"
                   "movq $-1, 8(%rsi)\n"
                   "hlt");
GUEST_CODE(function, "mov $0, %eax\nret");

/*
 * A page that one writes as data and the other runs: it becomes code and data again and again,
 * and no write may slip by while the other decodes.
 */
static void test_cross_modify(void)
{
    struct guest *g = guest_new();

    guest_load(g, G_DATA + 0x3000, function, (size_t)(function_end - function));
    guest_load(g, G_CODE + 0x2000, runner, (size_t)(runner_end - runner));
    GUEST_LOAD(g, writer);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x3001;
    smp_run(g, G_CODE + 0x2000);
    g_assert_cmpuint(guest_read64(g, G_DATA + 16), ==, 0);
    g_assert_cmpuint(guest_read64(g, G_DATA + 8), ==, ROUNDS);
    guest_free(g);
}

/* rdi: a function of its own in a page that both have; ebx: a step. */
GUEST_CODE(compiler, "mov $1, %ecx\n"
                     "1: mov %ecx, %eax\n"
                     "imul %ebx, %eax\n"
                     "movb $0xb8, (%rdi)\n"
                     "mov %eax, 1(%rdi)\n"
                     "movb $0xc3, 5(%rdi)\n"
                     "mov %eax, %edx\n"
                     "call *%rdi\n"
                     "cmp %eax, %edx\n"
                     "jne 2f\n"
                     "inc %ecx\n"
                     "cmp $20000, %ecx\n"
                     "jbe 1b\n"
                     "mov %rcx, 8(%rsi)\n"
                     "2: hlt");

/* Both write code to one page and run it at once: each closes what the other has opened. */
static void test_two_compilers(void)
{
    struct guest *g = guest_new();
    struct vcpu *second;

    GUEST_LOAD(g, compiler);
    second = guest_second(g);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x3010;
    g->cpu->gpr[CPU_RBX] = 3;
    second->cpu.gpr[CPU_RSI] = G_DATA + 0x1000;
    second->cpu.gpr[CPU_RDI] = G_DATA + 0x3f00;
    second->cpu.gpr[CPU_RBX] = 0x10001;
    smp_run_both(g, second);
    g_assert_cmpuint(guest_read64(g, G_DATA + 8), ==, ROUNDS + 1);
    g_assert_cmpuint(guest_read64(g, G_DATA + 0x1008), ==, ROUNDS + 1);
    guest_free(g);
}

GUEST_CODE(counter, "mov $20000, %ecx\n"
                    "1: lock incl (%rsi)\n"
                    "mov $1, %eax\n"
                    "lock xadd %eax, 4(%rsi)\n"
                    "mov 8(%rsi), %rax\n"
                    "2: lea 1(%rax), %rdx\n"
                    "lock cmpxchg %rdx, 8(%rsi)\n"
                    "jne 2b\n"
                    "lock addl $1, 62(%rsi)\n" /* over a cache line */
                    "dec %ecx\n"
                    "jnz 1b\n"
                    "hlt");
static void test_locked_counters(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, counter);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    smp_run(g, G_CODE);
    g_assert_cmpuint((uint32_t)guest_read64(g, G_DATA), ==, 2 * ROUNDS);
    g_assert_cmpuint((uint32_t)guest_read64(g, G_DATA + 4), ==, 2 * ROUNDS);
    g_assert_cmpuint(guest_read64(g, G_DATA + 8), ==, 2 * ROUNDS);
    g_assert_cmpuint((uint32_t)guest_read64(g, G_DATA + 62), ==, 2 * ROUNDS);
    guest_free(g);
}

/* One adds to the upper half of a word that lies over the end of a line, the other stores to the
 * lower half, and has to find there what it stored. */
GUEST_CODE(adder, "0: pause\n"
                  "cmpl $0, 60(%rsi)\n"
                  "je 0b\n"
                  "mov $20000, %ecx\n"
                  "mov $0x100000000, %rax\n"
                  "1: lock add %rax, 60(%rsi)\n"
                  "mov $500, %edx\n"
                  "2: dec %edx\n"
                  "jnz 2b\n"
                  "dec %ecx\n"
                  "jnz 1b\n"
                  "incl (%rsi)\n"
                  "hlt");
GUEST_CODE(storer, "xor %eax, %eax\n"
                   "xor %ebx, %ebx\n"
                   "1: inc %eax\n"
                   "mov %eax, 60(%rsi)\n"
                   "mov $40, %ecx\n"
                   "2: dec %ecx\n"
                   "jnz 2b\n"
                   "cmp %eax, 60(%rsi)\n"
                   "je 3f\n"
                   "inc %ebx\n"
                   "3: cmpl $0, (%rsi)\n"
                   "je 1b\n"
                   "hlt");
static void test_split_lock(void)
{
    struct guest *g = guest_new();
    struct vcpu *second;

    GUEST_LOAD(g, adder);
    second = smp_second(g, storer, (size_t)(storer_end - storer));
    smp_run_both(g, second);
    g_assert_cmpuint(guest_read64(g, G_DATA + 64) & UINT32_MAX, ==, ROUNDS);
    g_assert_cmpuint((uint32_t)guest_read64(g, G_DATA + 60), ==,
                     (uint32_t)second->cpu.gpr[CPU_RAX]);
    g_test_message("%u stores", (unsigned)second->cpu.gpr[CPU_RAX]);
    g_assert_cmpuint(second->cpu.gpr[CPU_RBX], ==, 0);
    guest_free(g);
}

/* Who does nothing else lets the other one get on, which counts meanwhile: each time for a block. */
GUEST_CODE(hog, "0: pause\n"
                "cmpl $0, 512(%rsi)\n"
                "je 0b\n"
                "1: lock addl $1, 62(%rsi)\n"
                "dec %ecx\n"
                "jnz 1b\n"
                "incl 256(%rsi)\n"
                "hlt");
GUEST_CODE(victim, "1: inc %rax\n"
                   "mov %rax, 512(%rsi)\n"
                   "cmpl $0, 256(%rsi)\n"
                   "je 1b\n"
                   "hlt");
static void test_split_turns(void)
{
    struct guest *g = guest_new();
    struct vcpu *second;

    GUEST_LOAD(g, victim);
    second = smp_second(g, hog, (size_t)(hog_end - hog));
    g->cpu->gpr[CPU_RAX] = 0;
    second->cpu.gpr[CPU_RCX] = ROUNDS;
    smp_run_both(g, second);
    g_test_message("%u rounds", (unsigned)g->cpu->gpr[CPU_RAX]);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], >, ROUNDS / 2);
    guest_free(g);
}

/* Two that both do nothing else take turns. */
GUEST_CODE(counting_hog, "1: lock addl $1, 126(%rsi)\n"
                         "incl 512(%rsi)\n"
                         "cmpl $0, 256(%rsi)\n"
                         "je 1b\n"
                         "hlt");
static void test_split_fair(void)
{
    enum { LOCKS = 10000 };
    struct guest *g = guest_new();
    struct vcpu *second;

    GUEST_LOAD(g, hog);
    second = smp_second(g, counting_hog, (size_t)(counting_hog_end - counting_hog));
    g->cpu->gpr[CPU_RCX] = LOCKS;
    smp_run_both(g, second);
    g_assert_cmpuint(guest_read64(g, G_DATA + 512) & UINT32_MAX, >, LOCKS / 4);
    guest_free(g);
}

/* A LOCK over a line changes the next instruction, while another vCPU stores to that page. */
GUEST_CODE(smc_function, "lock addl $1, 1f+1(%rip)\n1: mov $0, %eax\nret");
GUEST_CODE(smc_runner, "mov $1, %ecx\n"
                       "xor %ebx, %ebx\n"
                       "1: call *%rdi\n"
                       "cmp %ecx, %eax\n"
                       "je 2f\n"
                       "inc %ebx\n"
                       "2: inc %ecx\n"
                       "cmp %r8d, %ecx\n"
                       "jbe 1b\n"
                       "incl (%rsi)\n"
                       "hlt");
GUEST_CODE(smc_storer, "1: mov %eax, (%rdi)\n"
                       "inc %eax\n"
                       "cmpl $0, (%rsi)\n"
                       "je 1b\n"
                       "hlt");
static void smp_change_next(uint64_t at)
{
    struct guest *g = guest_new();
    struct vcpu *second;

    guest_load(g, at, smc_function, (size_t)(smc_function_end - smc_function));
    GUEST_LOAD(g, smc_runner);
    second = smp_second(g, smc_storer, (size_t)(smc_storer_end - smc_storer));
    g->cpu->gpr[CPU_RDI] = at;
    g->cpu->gpr[CPU_R8] = g_get_num_processors() > 1 ? ROUNDS / 2 : 100; /* one has to switch */
    second->cpu.gpr[CPU_RDI] = G_DATA + 0x3800;
    smp_run_both(g, second);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 0);
    guest_free(g);
}

static void test_change_next(void)
{
    smp_change_next(G_DATA + 0x3035); /* over the end of a line */
    smp_change_next(G_DATA + 0x3005); /* within one */
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/smp/cross-modifying-code", test_cross_modify);
    g_test_add_func("/interp/smp/two-compilers", test_two_compilers);
    g_test_add_func("/interp/smp/locked-counters", test_locked_counters);
    g_test_add_func("/interp/smp/split-lock", test_split_lock);
    g_test_add_func("/interp/smp/split-turns", test_split_turns);
    g_test_add_func("/interp/smp/split-fair", test_split_fair);
    g_test_add_func("/interp/smp/change-next", test_change_next);
    return g_test_run();
}
