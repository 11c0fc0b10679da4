/* SPDX-License-Identifier: MIT */
/*
 * Flat 32-bit code in long mode, beside 64-bit code: at the same addresses and on the same stack, where
 * one mode must not take what the other left behind for its own; and what wraps at 4 GiB.
 */
#include <sched.h>

#include "cpu/interp/engine.h"
#include "guest.h"
#ifdef interp_accel_ops
#include "cpu/dbt/engine.h"
#endif

enum {
    ROUNDS = 500,
    SEL_CODE32 = 0x40, /* DPL 0, and the next one 3 */
    SEL_ODD = 0x50,    /* data with a base, and a limit that tests change */
    PD_HIGH = 0x6000,  /* page tables for the last page below 4 GiB and the first one above */
    PT_LAST = 0x7000,
    PD_ABOVE = 0x210000,
    PT_ABOVE = 0x211000,
    BEFORE = 0x217000, /* the frames of the page before the last one, of that, and of the other */
    LAST = 0x218000,
    ABOVE = 0x219000,
    FIRST = 0, /* and of the first page, and the second one */
    SECOND = 0x21a000,
    BASE = 0x220040,
};
static const uint64_t canary = 0x1122334455667788;

/* Every test runs in the kernel, and as a program, whose accesses go by slots. */
static const void *const kernel = GINT_TO_POINTER(0), *const program = GINT_TO_POINTER(1);

static struct guest *code32_new(const void *who)
{
    struct guest *g = guest_new();

    if (who == program) {
        guest_user(g);
    }
    guest_write64(g, G_GDT + SEL_CODE32, 0x00cf9b000000ffff);
    guest_write64(g, G_GDT + SEL_CODE32 + 8, 0x00cffb000000ffff);
    guest_write64(g, G_GDT + SEL_ODD, 0x00cff3220040ffff);
    guest_write64(g, G_PDPT + 3 * 8, PD_HIGH | G_P | G_RW | G_US);
    guest_write64(g, PD_HIGH + 511 * 8, PT_LAST | G_P | G_RW | G_US);
    guest_write64(g, PT_LAST + 510 * 8, BEFORE | G_P | G_RW | G_US);
    guest_write64(g, PT_LAST + 511 * 8, LAST | G_P | G_RW | G_US);
    guest_write64(g, G_PDPT + 4 * 8, PD_ABOVE | G_P | G_RW | G_US);
    *guest_pte(g, 4096) = SECOND | G_P | G_RW | G_US; /* there are tables */
    guest_write64(g, PD_ABOVE, PT_ABOVE | G_P | G_RW | G_US);
    guest_write64(g, PT_ABOVE, ABOVE | G_P | G_RW | G_US);
    for (unsigned i = 0; i < 4096; i += 8) {
        guest_write64(g, ABOVE + i, canary);
    }
    return g;
}

/* Nothing has stored above 4 GiB. */
static void code32_free(struct guest *g)
{
    for (unsigned i = 0; i < 4096; i += 8) {
        g_assert_cmphex(guest_read64(g, ABOVE + i), ==, canary);
    }
    guest_free(g);
}

static void to_mode32(struct guest *g)
{
    unsigned cpl = g->cpu->cpl;

    g->cpu->seg[CPU_CS].selector = (uint16_t)(cpl == 0 ? SEL_CODE32 : (SEL_CODE32 + 8) | 3);
    g->cpu->seg[CPU_CS].attr = (uint16_t)(0xc09b | cpl << CPU_SEG_DPL_SHIFT);
    interp_accel_ops.state_changed(g->v);
}

/* To the HLT, which is a #GP for programs. */
static void to_the_end(struct guest *g, uint64_t rsp)
{
    bool user = g->cpu->cpl == 3;

    g_assert_cmpint(guest_vector(g), ==, user ? CPU_GP : -1);
    g_assert_cmphex(user ? guest_frame(g, 4) : g->cpu->gpr[CPU_RSP], ==, rsp);
}

static void code32_load(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    guest_load(g, G_CODE, code, (size_t)(end - code));
    to_mode32(g);
}
#define LOAD32(g, name) code32_load(g, name, name##_end)

/* To the other mode: with the selectors of the kernel, or of programs. Changes RAX. */
#define TO_32(sel) "push $" sel "\n lea 7f(%rip), %rax\n push %rax\n lretq\n 7: .code32\n"
#define TO_64(name, sel) "ljmp $" sel ", $(0x100000 + (8f - " name "))\n .code64\n 8:\n"
#define BOTH_MODES(name, text)                                                                 \
    GUEST_CODE(name, text(#name, "0x40", "0x08"));                                             \
    GUEST_CODE(name##_user, text(#name "_user", "0x4b", "0x23"))
#define LOAD_BOTH(g, name)                                                                     \
    do {                                                                                       \
        if ((g)->cpu->cpl == 0) {                                                              \
            GUEST_LOAD(g, name);                                                               \
        } else {                                                                               \
            GUEST_LOAD(g, name##_user);                                                        \
        }                                                                                      \
    } while (0)

/* f adds 1 in 64-bit code; in 32-bit code its first byte is an INC. */
#define MODES(self, s32, s64) \
    "mov $500, %ebx\n" \
    "xor %esi, %esi\n" \
    "1: mov %esi, %eax\n" \
    "call 5f\n" \
    "mov %eax, %esi\n" TO_32(s32) "mov %esi, %eax\n" \
    "call 5f\n" \
    "mov %eax, %esi\n" TO_64(self, s64) "dec %ebx\n" \
    "jnz 1b\n" \
    "hlt\n" \
    "5: .byte 0x40\n" \
    "add $1, %eax\n" \
    "ret"
BOTH_MODES(modes, MODES);
static void test_modes(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, modes);
    to_the_end(g, G_STACK);
    g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, 3 * ROUNDS);
    code32_free(g);
}

/*
 * What a call of one mode has pushed is returned to by the other, when it was returned to by its own before:
 * what is behind the CALL runs in the mode of the RET. 2 and 3 add 1 to ESI, and in 32-bit code, where
 * the first byte is an INC, to EAX.
 */
#define RETURNS(self, s32, s64) \
    "mov $500, %ebx\n" \
    "xor %esi, %esi\n" \
    "1: call 5f\n" \
    "2: .byte 0x40\n" \
    "add $1, %esi\n" \
    "jmp *%rdi\n" \
    "5: xor %eax, %eax\n" \
    "lea 9f(%rip), %rdi\n" \
    "test $1, %bl\n" \
    "jnz 4f\n" \
    "ret\n" \
    "4: mov (%rsp), %ecx\n" \
    "add $8, %rsp\n" TO_32(s32) "push %ecx\n" \
    "mov $(0x100000 + (6f - " self ")), %edi\n" \
    "xor %eax, %eax\n" \
    "ret\n" \
    "6: add %eax, %esi\n" \
    "call 4f\n" \
    "3: .byte 0x40\n" \
    "add $1, %esi\n" \
    "jmp *%edi\n" \
    "4: xor %eax, %eax\n" \
    "mov $(0x100000 + (5f - " self ")), %edi\n" \
    "test $2, %bl\n" \
    "jnz 4f\n" \
    "ret\n" \
    "5:" TO_64(self, s64) "jmp 9f\n" \
    ".code32\n" \
    "4: mov (%esp), %ecx\n" \
    "add $4, %esp\n" TO_64(self, s64) "push %rcx\n" \
    "lea 9f(%rip), %rdi\n" \
    "ret\n" \
    "9: add %eax, %esi\n" \
    "dec %ebx\n" \
    "jnz 1b\n" \
    "hlt"
BOTH_MODES(returns, RETURNS);
static void test_returns(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, returns);
    to_the_end(g, G_STACK);
    /* even: 1; odd: 2, and then 2 or, where 64-bit code returns, 1 */
    g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, ROUNDS / 2 + ROUNDS / 2 * 2 + ROUNDS / 4 * 2 + ROUNDS / 4);
    code32_free(g);
}

/* A rip that is not canonical, and would do for 32-bit code if the two had keys that differ by one bit. */
#define CANONICAL(self, s32, s64) \
    "mov $20, %ebx\n" \
    "1:" TO_32(s32) "call 5f\n" TO_64(self, s64) "dec %ebx\n" \
    "jnz 1b\n" \
    "movabs $0x4000000000000000, %rax\n" \
    "lea 5f(%rip), %rcx\n" \
    "or %rcx, %rax\n" \
    "jmp *%rax\n" \
    "hlt\n" \
    "5: inc %esi\n" \
    "ret"
BOTH_MODES(canonical, CANONICAL);
static void test_canonical(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, canonical);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + (uint64_t)(canonical_end - canonical) - 6);
    g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, 20);
    code32_free(g);
}

/* The same from 32-bit code, which inherits such an RSP, to T of 64 bits: 48 ff c0 ff e3 is DEC, INC. */
#define INHERITED(self, s32, s64) \
    "xor %eax, %eax\n" \
    "lea 9f(%rip), %rbx\n" \
    "5: .byte 0x48, 0xff, 0xc0, 0xff, 0xe3\n" /* T */ \
    "9: cmp $20, %eax\n" \
    "jne 5b\n" \
    "movl $(0x100000 + (6f - " self ")), 0x200000\n" \
    "movw $" s32 ", 0x200004\n" \
    "movabs $0x4000000000000000, %rsp\n" \
    "lea 5b(%rip), %rcx\n" \
    "or %rcx, %rsp\n" \
    "ljmpl *0x200000\n" \
    "6: .code32\n" \
    "mov $(0x100000 + (7f - " self ")), %ebx\n" \
    "jmp *%esp\n" \
    "7: hlt\n" \
    ".code64"
BOTH_MODES(inherited, INHERITED);
static void test_inherited(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, inherited);
    g_assert_cmpint(guest_vector(g), ==, who == program ? CPU_GP : -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 20);
    code32_free(g);
}

/* A loop of jumps forward, round the 4 GiB. */
GUEST_CODE32(forward, "1: incl (%esi)\n"
                      "jmp 2f + 0x40000000\n"
                      "2: jmp 3f + 0x40000000\n"
                      "3: test %esi, %esi\n"
                      "jnz 4f + 0x40000000\n"
                      "4: jmp 1b + 0x40000000");
static void *forward_stop(void *opaque)
{
    struct guest *g = opaque;

    while (*(volatile uint32_t *)(void *)(g->ram + G_DATA) < 100000) {
        sched_yield();
    }
    vcpu_request(g->v, VCPU_REQ_STOP);
    return NULL;
}

static void test_forward(const void *who)
{
    struct guest *g = code32_new(who);
    GThread *thread;

    for (unsigned i = 1; i < 4; i++) { /* what is mapped at 0 is at 1, 2 and 3 GiB, too */
        guest_write64(g, G_PDPT + i * 8, G_PD | G_P | G_RW | G_US);
    }
    guest_flush(g);
    LOAD32(g, forward);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    thread = g_thread_new("stop", forward_stop, g);
    guest_run(g, EXIT_KICK);
    g_thread_join(thread);
    code32_free(g);
}

/* ESP goes over 4 GiB and back, in blocks that use the stack and in some that do not. */
GUEST_CODE32(wraps, "mov $500, %ecx\n"
                    "1: mov $8, %esp\n"
                    "push %ecx\n"            /* 4 */
                    "push $0x1234\n"         /* 0 */
                    "push %ecx\n"            /* -4 */
                    "push $0x5678\n"         /* -8 */
                    "jmp 2f\n"
                    "2: pop %eax\n"
                    "cmp $0x5678, %eax\n"
                    "jne 9f\n"
                    "pop %eax\n"
                    "pop %edx\n"             /* from 0 */
                    "cmp $0x1234, %edx\n"
                    "jne 9f\n"
                    "jmp 3f\n"
                    "3: sub $0x100, %esp\n"  /* nothing else in this block */
                    "jmp 4f\n"
                    "4: mov %esp, %esi\n"
                    "cmp $0xffffff04, %esi\n"
                    "jne 9f\n"
                    "call 5f\n"
                    "add $0x200, %esp\n"
                    "jmp 6f\n"
                    "5: enter $0x20, $0\n"
                    "mov %ecx, -4(%ebp)\n"
                    "add $0x300, %esp\n"
                    "movl $7, -0x300(%esp)\n"
                    "sub $0x300, %esp\n"
                    "leave\n"
                    "ret $0x100\n"           /* over the end */
                    "6: cmp $0x204, %esp\n"
                    "jne 9f\n"
                    "sub $0x100204, %esp\n"  /* far */
                    "add $0x100000, %esp\n"
                    "test %esp, %esp\n"
                    "jnz 9f\n"
                    "pusha\n"
                    "popa\n"
                    "dec %ecx\n"
                    "jnz 1b\n"
                    "sub $4, %esp\n"
                    "9: hlt");
static void test_wraps(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD32(g, wraps);
    to_the_end(g, 0xfffffffc);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(guest_read64(g, LAST + 0xff8) & UINT32_MAX, ==, 1); /* by PUSHA */
    g_assert_cmphex(guest_read64(g, FIRST), ==, 0x0000000100001234);
    code32_free(g);
}

/* Blocks that use the first or the last page that may be checked, and move ESP out of it: at once, by many small
 * steps, after an access far from it, by a RET. */
GUEST_CODE32(steps, "mov $100, %ecx\n"
                    "1: mov $0x1008, %esp\n"
                    "jmp 2f\n"
                    "2: push %ecx\n"
                    "sub $1000, %esp\n"
                    "sub $1000, %esp\n"
                    "sub $1000, %esp\n"
                    "sub $1000, %esp\n"
                    "sub $1000, %esp\n"
                    "dec %ecx\n"
                    "jnz 1b\n"
                    "hlt");
GUEST_CODE32(away, "mov $100, %ecx\n"
                   "1: mov $0xffffff00, %esp\n"
                   "jmp 2f\n"
                   "2: mov %ecx, -0xfff(%esp)\n"
                   "add $0x200, %esp\n"
                   "dec %ecx\n"
                   "jnz 1b\n"
                   "hlt");
GUEST_CODE32(ret_far, "mov $100, %ecx\n"
                      "1: mov $0xffffef10, %esp\n"
                      "call 5f\n"
                      "dec %ecx\n"
                      "jnz 1b\n"
                      "hlt\n"
                      "5: ret $0x2000");
static void test_bounds(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD32(g, steps);
    to_the_end(g, (uint32_t)(0x1004 - 5000));
    code32_free(g);
    g = code32_new(who);
    LOAD32(g, away);
    to_the_end(g, 0x100);
    code32_free(g);
    g = code32_new(who);
    LOAD32(g, ret_far);
    to_the_end(g, 0xf10);
    code32_free(g);
}

/* 64-bit code goes on above 4 GiB, where the frames do, too; 32-bit code does not. */
#define BEYOND(self, s32, s64) \
    "mov $500, %ebp\n" \
    "1: movabs $0x100000000, %rbx\n" \
    "mov (%rbx), %rax\n" \
    "mov %rax, (%rbx)\n" \
    "mov -8(%rbx), %rax\n" \
    "mov %rax, -8(%rbx)\n" TO_32(s32) "mov $0xfffffff8, %ebx\n" \
    "jmp 2f\n" \
    "2: mov %ebp, 4(%ebx)\n" \
    "mov %ebp, 8(%ebx)\n" \
    "mov 8(%ebx), %ecx\n" \
    "dec %ebp\n" TO_64(self, s64) "test %ebp, %ebp\n" \
    "jnz 1b\n" \
    "hlt"
BOTH_MODES(beyond, BEYOND);
static void test_beyond(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, beyond);
    to_the_end(g, G_STACK);
    g_assert_cmphex(guest_read64(g, LAST + 0xff8), ==, 1ull << 32);
    g_assert_cmphex(guest_read64(g, FIRST), ==, 1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 1);
    code32_free(g);
}

/* The page of the stack that 64-bit code has used is the last one; then 32-bit code leaves it. */
#define LAST(self, s32, s64) \
    "mov $500, %ebx\n" \
    "1: mov $0xfffff800, %esp\n" \
    "push %rbx\n" \
    "pop %rdx\n" TO_32(s32) "mov $0xfffffff8, %esp\n" \
    "jmp 2f\n" \
    "2: push %ebx\n" \
    "pop %eax\n" \
    "pop %eax\n" \
    "pop %eax\n" /* ESP is 0 */ \
    "push %ebx\n" \
    "cmp $0xfffffffc, %esp\n" \
    "jne 9f\n" \
    "pop %eax\n" \
    "pop %eax\n" /* from 0 */ \
    "cmp %ebx, %eax\n" \
    "jne 9f\n" \
    "sub $1, %ebx\n" \
    "mov %ebx, (%esp)\n" /* 4 */ \
    "sub $4, %esp\n" \
    "mov %ebx, (%esp)\n" /* 0 */ \
    "test %ebx, %ebx\n" \
    "jz 9f\n" \
    "mov $0x20000, %esp\n" TO_64(self, s64) "jmp 1b\n" \
    ".code32\n" \
    "9: mov $0xfffffff8, %esp\n" \
    "jmp 2f\n" \
    "2: pop %eax\n" \
    "pop %eax\n" \
    "hlt\n" \
    ".code64"
BOTH_MODES(last, LAST);
static void test_last(const void *who)
{
    struct guest *g = code32_new(who);

    guest_write64(g, FIRST, ROUNDS);
    LOAD_BOTH(g, last);
    to_the_end(g, 0);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 0);
    g_assert_cmpuint(guest_read64(g, FIRST), ==, 0);
    code32_free(g);
}

/* 64-bit code leaves numbers in the upper halves; R8 keeps its own. */
#define HALVES(self, s32, s64) \
    "mov $500, %ebp\n" \
    "movabs $0x123456789abcdef0, %r8\n" \
    "1: movabs $0xdead000000200000, %rsi\n" \
    "movabs $0xbeef000000200100, %rdi\n" \
    "movabs $0xcafe000000000004, %rcx\n" \
    "movabs $0xf00d000000000001, %rbx\n" \
    "movabs $0x7777000000100000, %rdx\n" \
    "add $(2f - " self "), %rdx\n" TO_32(s32) "mov (%esi,%ebx,4), %eax\n" \
    "add %eax, (%esi,%ebx,8)\n" \
    "addl $3, 4(%esi)\n" \
    "lea -4(%esi,%ecx), %eax\n" \
    "xchg %eax, 0x40(%esi)\n" \
    "mov 0x20(%esi), %eax\n" \
    "cmp %eax, 0x60(%edi)\n" \
    "mov %eax, 0x24(%esi)\n" \
    "cld\n" \
    "rep movsl\n" \
    "jmp *%edx\n" \
    "ud2\n" \
    "2: dec %ebp\n" TO_64(self, s64) "test %ebp, %ebp\n" \
    "jnz 1b\n" \
    "hlt"
BOTH_MODES(halves, HALVES);
static void test_halves(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD_BOTH(g, halves);
    to_the_end(g, G_STACK);
    g_assert_cmphex(guest_read64(g, G_DATA), ==, (uint64_t)(3 * ROUNDS) << 32);
    g_assert_cmphex(guest_read64(g, G_DATA + 8), ==, 3 * ROUNDS * (ROUNDS - 1) / 2);
    g_assert_cmphex(guest_read64(g, G_DATA + 0x40), ==, G_DATA);
    g_assert_cmphex(guest_read64(g, G_DATA + 0x100), ==, guest_read64(g, G_DATA));
    g_assert_cmphex(g->cpu->gpr[CPU_RSI], ==, G_DATA + 16);
    g_assert_cmphex(g->cpu->gpr[CPU_RDI], ==, G_DATA + 0x110);
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(g->cpu->gpr[CPU_R8], ==, 0x123456789abcdef0);
#ifdef interp_accel_ops
    g_assert_cmpuint(dbt_of(g->v->engine)->counts.n[COUNT_SLOW], <, ROUNDS * 3 / 2); /* the CLD */
#endif
    code32_free(g);
}

/* Accesses by registers that go on at 0: alone and in groups; and strings that end there. */
GUEST_CODE32(memory, "mov $500, %ecx\n"
                     "1: mov $0xffffffe0, %ebx\n"
                     "mov $8, %edx\n"
                     "2: mov %edx, (%ebx)\n" /* 8 words before the end, then 8 at 0 */
                     "mov %ecx, 4(%ebx)\n"
                     "mov 4(%ebx), %eax\n"
                     "cmp %eax, %ecx\n"
                     "jne 9f\n"
                     "add $8, %ebx\n"
                     "dec %edx\n"
                     "jnz 2b\n"
                     "mov %ecx, -4(%ebx)\n"
                     "mov $0xfffffffe, %ebx\n"
                     "mov $0x200000, %esi\n"
                     "lea -6(%ebx), %edx\n"
                     "mov %ecx, 0x10(%edx)\n"
                     "mov %ecx, 0x14(%edx)\n"
                     "mov %ecx, 0xfffffff0(%esi,%ebx)\n"
                     "push %ecx\n"
                     "mov $16, %ecx\n"
                     "mov $0xfffffff0, %edi\n"
                     "mov %edi, %eax\n"
                     "rep stosb\n"
                     "test %edi, %edi\n"
                     "jnz 9f\n"
                     "mov $0xfffffffc, %esi\n"
                     "mov $0x200100, %edi\n"
                     "movsl\n"
                     "test %esi, %esi\n"
                     "jnz 9f\n"
                     "movsl\n"
                     "pop %ecx\n"
                     "dec %ecx\n"
                     "jnz 1b\n"
                     "9: hlt");
static void test_memory(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD32(g, memory);
    to_the_end(g, G_STACK);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(guest_read64(g, LAST + 0xff8), ==, 0xf0f0f0f0f0f0f0f0);
    g_assert_cmphex(guest_read64(g, FIRST), ==, 0x0000000100000004);
    g_assert_cmphex(guest_read64(g, FIRST + 8), ==, 0x0000000100000001);
    g_assert_cmphex(guest_read64(g, G_DATA - 18) & UINT32_MAX, ==, 1);
    g_assert_cmphex(guest_read64(g, G_DATA + 0x100), ==, 0x00000004f0f0f0f0);
    code32_free(g);
}

/* FS has a base. What lies below it is reached by offsets that wrap, but an access may not. */
GUEST_CODE32(segment, "mov $0x53, %eax\n"
                      "mov %eax, %fs\n"
                      "mov $500, %ecx\n"
                      "1: mov $0xfffffff8, %ebx\n"
                      "mov %ecx, %fs:4(%ebx)\n"
                      "mov %ecx, %fs:0xfffffffc\n"
                      "mov %ecx, %fs:0\n"
                      "mov %fs:(%ebx), %edx\n"
                      "incl %fs:8(%ebx)\n"
                      "dec %ecx\n"
                      "jnz 1b\n"
                      "mov %fs:5(%ebx), %eax\n" /* #GP */
                      "dec %ecx\n"
                      "hlt");
GUEST_CODE32(constant, "mov $0x53, %eax\n"
                       "mov %eax, %fs\n"
                       "mov $1, %ecx\n"
                       "mov %ecx, %fs:0xfffffffc\n"
                       "dec %ecx\n"
                       "mov %ecx, %fs:0xfffffffd\n" /* #GP */
                       "dec %ecx\n"
                       "hlt");
static void test_segment(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD32(g, segment);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(guest_read64(g, BASE - 4), ==, 2ull << 32 | 1);
    code32_free(g);
    g = code32_new(who);
    LOAD32(g, constant);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(guest_read64(g, BASE - 4), ==, 1);
    code32_free(g);
}

/* The same code, when the segment has become another one: too short, or not to be written to. */
GUEST_CODE32(odd, "mov $500, %ecx\n"
                  "1: mov %eax, %fs\n"
                  "mov %fs:(%ebx), %edx\n"
                  "mov %ecx, %fs:(%ebx)\n"
                  "dec %ecx\n"
                  "jnz 1b\n"
                  "hlt");
static void odd_run(struct guest *g, uint64_t descriptor, uint32_t offset, int vector, bool stored)
{
    bool user = g->cpu->seg[CPU_SS].selector != G_SEL_DATA;

    guest_write64(g, G_GDT + SEL_ODD, descriptor);
    guest_write64(g, BASE + offset, 77);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK;
    g->cpu->gpr[CPU_RAX] = SEL_ODD | 3;
    g->cpu->gpr[CPU_RBX] = offset;
    if (user) {
        g->cpu->seg[CPU_SS] = g->cpu->seg[CPU_DS];
        guest_user(g);
    }
    to_mode32(g);
    g_assert_cmpint(guest_vector(g), ==, user ? CPU_GP : vector);
    g_assert_cmpuint(guest_read64(g, BASE + offset), ==, stored ? 1 : 77);
}

static void test_odd(const void *who)
{
    struct guest *g = code32_new(who);

    LOAD32(g, odd);
    for (unsigned i = 0; i < 3; i++) {
        odd_run(g, 0x00cff3220040ffff, 0x1000, -1, true);
        odd_run(g, 0x0040f32200400fff, 0xffc, -1, true); /* 4 KiB */
        odd_run(g, 0x0040f32200400fff, 0xffd, CPU_GP, false);
        odd_run(g, 0x00cff1220040ffff, 0x1000, CPU_GP, false); /* read only */
    }
    code32_free(g);
}

static void test_add(const char *name, void (*fn)(const void *))
{
    g_autofree char *one = g_strdup_printf("/interp/code32/%s/kernel", name);
    g_autofree char *other = g_strdup_printf("/interp/code32/%s/program", name);

    g_test_add_data_func(one, kernel, fn);
    g_test_add_data_func(other, program, fn);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 77;
    }
    test_add("modes", test_modes);
    test_add("returns", test_returns);
    test_add("canonical", test_canonical);
    test_add("inherited", test_inherited);
    test_add("forward", test_forward);
    test_add("wraps", test_wraps);
    test_add("bounds", test_bounds);
    test_add("beyond", test_beyond);
    test_add("last", test_last);
    test_add("halves", test_halves);
    test_add("memory", test_memory);
    test_add("segment", test_segment);
    test_add("odd", test_odd);
    return g_test_run();
}
