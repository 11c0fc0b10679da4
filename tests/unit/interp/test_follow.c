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
static void follow_sum(const uint8_t *code, size_t len)
{
    struct guest *g = guest_new();
    unsigned sum = 0;

    guest_load(g, G_CODE, code, len);
    guest_run(g, EXIT_HALT);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        sum += i & 0x7f;
    }
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, sum);
    guest_free(g);
}

static void test_self(void)
{
    follow_sum(self, (size_t)(self_end - self));
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
    follow_sum(ahead, (size_t)(ahead_end - ahead));
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

/* A fault behind the jump, where a branch leads from there to the block's start: no loop of its own. */
GUEST_CODE(divide, "jmp 2f\n"
                   "9: hlt\n"
                   "1: mov $100, %eax\n"
                   "xor %edx, %edx\n"
                   ".globl divide_at\n"
                   "divide_at: divl (%rsi)\n"
                   "add $4, %rsi\n"
                   "dec %ecx\n"
                   "jnz 2f\n"
                   "hlt\n"
                   ".skip 16, 0x90\n"
                   "2: test %ecx, %ecx\n"
                   "js 9b\n"
                   "jmp 1b\n");
extern const uint8_t divide_at[];
static void test_divide(void)
{
    enum { ZERO = 900 };
    struct guest *g = guest_new();

    GUEST_LOAD(g, divide);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint32_t by = i == ZERO ? 0 : 7;

        memcpy(g->ram + G_DATA + i * 4, &by, 4);
    }
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RCX] = ROUNDS;
    g_assert_cmpint(guest_vector(g), ==, CPU_DE);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + (uint64_t)(divide_at - divide));
    g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, G_DATA + ZERO * 4);
    follow_check(g);
    guest_free(g);
}

/*
 * What the jump leads to is not to be followed at first (JRCXZ), and becomes so. Then the stack lies
 * over the end of a page, for which there is another translation. Before: what gives vector registers
 * a value, and a store for the stack's page.
 */
GUEST_CODE(later, "movq (%rsi), %xmm0\n"
                  "mov %r8, (%r8)\n"
                  "8: xor %eax, %eax\n"
                  "hlt\n"
                  ".skip 200, 0x90\n"
                  ".globl later_code\n"
                  "later_code: jrcxz 3f\n"
                  "nop\nnop\nnop\n"
                  "3: mov %rax, (%rdi)\n"
                  "hlt\n"
                  ".skip 200, 0x90\n"
                  ".globl later_start\n"
                  "later_start: push %rdx\n"
                  "pop %rdx\n"
                  "test %edx, %edx\n"
                  "js 8b\n"
                  "jmp later_code\n");
extern const uint8_t later_code[], later_start[];

static struct guest *later_new(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, later);
    guest_write64(g, G_DATA, 0x1122334455667788);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 64;
    g->cpu->gpr[CPU_R8] = G_STACK - 0x808;
    guest_run(g, EXIT_HALT);
    return g;
}

static void later_run(struct guest *g, uint64_t rsp, uint64_t expected)
{
    for (unsigned i = 0; i < 20; i++) {
        __asm__ volatile("movq %0, %%xmm0" : : "r"(0xdeadbeefcafef00d) : "xmm0");
        g->cpu->rip = G_CODE + (uint64_t)(later_start - later);
        g->cpu->gpr[CPU_RSP] = rsp;
        g->cpu->gpr[CPU_RAX] = 0;
        g->cpu->gpr[CPU_RCX] = g->cpu->gpr[CPU_RDX] = 1;
        guest_run(g, EXIT_HALT);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, expected);
    }
}

static void later_write(struct guest *g, const uint8_t code[5])
{
    g_assert_true(
        mem_write(g->fb->board.mem, G_CODE + (uint64_t)(later_code - later), code, 5));
}

/* No vector register of the host's is seen. */
static void test_later_vector(void)
{
    static const uint8_t movq[] = {0x66, 0x48, 0x0f, 0x7e, 0xc0}; /* movq %xmm0,%rax */
    struct guest *g = later_new();

    later_run(g, G_STACK - 0x800, 0);
    later_write(g, movq);
    later_run(g, G_STACK - 0x800, 0x1122334455667788);
    later_run(g, G_STACK - 0x1000, 0x1122334455667788);
    guest_free(g);
}

/* What the other translation was made from is compared, too. */
static void test_later_changed(void)
{
    static const uint8_t one[] = {0xb8, 1, 0, 0, 0}, two[] = {0xb8, 2, 0, 0, 0}; /* mov $..,%eax */
    struct guest *g = later_new();

    later_run(g, G_STACK - 0x800, 0);
    later_write(g, one);
    later_run(g, G_STACK - 0x800, 1);
    later_run(g, G_STACK - 0x1000, 1);
    later_write(g, two);
    later_run(g, G_STACK - 0x1000, 2);
    later_run(g, G_STACK - 0x800, 2);
    guest_free(g);
}

#ifdef interp_accel_ops
/* In lockstep the branch of the loop inside does not look what others want. */
GUEST_CODE(inner, "jmp 2f\n"
                  "1: lea -4(%rsi), %rsi\n"
                  "mov $1, %ecx\n"
                  "inc %edx\n"
                  "jmp 2f\n"
                  ".skip 16, 0x90\n"
                  "2: add $1, %eax\n"
                  "mov %edx, (%rsi)\n"
                  "add $4, %rsi\n"
                  "dec %ecx\n"
                  "jnz 2b\n"
                  "jmp 1b\n");
static void test_stop_lockstep(void)
{
    const struct dbt_options options = {.hot = 1, .lockstep = 1000};
    struct guest *g = guest_new();
    GThread *thread;

    dbt_configure(g->v, &options);
    GUEST_LOAD(g, inner);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDX] = 0;
    g->cpu->gpr[CPU_RCX] = 1;
    thread = g_thread_new("stop", follow_stop, g);
    guest_run(g, EXIT_KICK);
    g_thread_join(thread);
    guest_free(g);
}
#endif

#ifdef interp_accel_ops
/* Where the host has a shadow stack, calls and returns are jumps: what a function uses below what its caller has
 * checked is in another page, which is elsewhere on the host. */
GUEST_CODE(calls, "mov $100, %ecx\n"
                  "1: push %rax\n"
                  "call 5f\n"
                  "pop %rax\n"
                  "dec %ecx\n"
                  "jnz 1b\n"
                  "hlt\n"
                  "5: push %rbx\n"
                  "inc %rbx\n"
                  "pop %rbx\n"
                  "inc %rbx\n"
                  "ret");
static void test_no_returns(void)
{
    struct guest *g = guest_new();

    dbt_of(g->v->engine)->no_returns = true;
    *guest_pte(g, G_DATA) = (G_DATA + 4 * PAGE) | G_P | G_RW | G_US;
    guest_flush(g);
    GUEST_LOAD(g, calls);
    g->cpu->gpr[CPU_RBX] = 7;
    g->cpu->gpr[CPU_RSP] = G_DATA + PAGE + 16;
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 107);
    g_assert_cmpuint(guest_read64(g, G_DATA + 5 * PAGE - 8), ==, 106);
    g_assert_cmpuint(guest_read64(g, G_DATA + PAGE - 8), ==, 0);
    guest_free(g);
}
#endif

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
    g_test_add_func("/interp/follow/divide", test_divide);
    g_test_add_func("/interp/follow/later-vector", test_later_vector);
    g_test_add_func("/interp/follow/later-changed", test_later_changed);
#ifdef interp_accel_ops
    g_test_add_func("/interp/follow/stop-lockstep", test_stop_lockstep);
    g_test_add_func("/interp/follow/no-returns", test_no_returns);
#endif
    return g_test_run();
}
