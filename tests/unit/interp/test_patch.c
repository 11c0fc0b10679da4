/* SPDX-License-Identifier: MIT */
/*
 * Text that one vCPU patches, as Linux does (text_poke_bp()), while the other runs it all the
 * time: an INT3 over the first byte, everybody serializes, the other bytes, everybody
 * serializes, the first byte. Who runs it may see the old instruction, the new one, or #BP, and
 * each only as long as the protocol allows it.
 */
#include "guest.h"

enum { ROUNDS = 300 };
enum {
    P_PAGE = G_CODE + 0x3000, /* the runner and what it calls; the next page, too */
    P_BP = G_CODE + 0x8000,   /* handler of #BP */
    P_ALIAS = 0x3f0000,       /* the patcher's view of P_PAGE */
    P_SHARED = G_DATA,        /* struct patch_shared */
    P_INSNS = G_DATA + 0x4000,    /* by round, 8 bytes each */
    P_ALLOWED = G_DATA + 0x10000, /* by phase, a byte each: which outcomes */
};
enum { OUT_NOP, OUT_FIRST, OUT_SECOND, OUT_BP, NR_OUT };

/* What the assembly below knows by offset. */
struct patch_shared {
    uint64_t request, ack;          /* 0, 8: of a serializing instruction */
    uint64_t phase, done;           /* 16, 24 */
    uint64_t bp_rip;                /* 32: the right one */
    uint64_t count[NR_OUT];         /* 40 */
    uint64_t wrong, phase1, phase2; /* 72, 80, 88: what failed */
};

/* rsi: shared, rdi: what is patched, r10: what is allowed. Behind two bytes: a JMP to rdi. */
GUEST_CODE(runner, "jmp 2f\n"
                   "1: .byte 0xe9, 0, 0, 0, 0\n"
                   "2: mov 16(%rsi), %r8d\n"
                   "call 1b\n"
                   "mov 16(%rsi), %r9d\n"
                   "call 6f\n"
                   "mov 16(%rsi), %r8d\n"
                   "call *%rdi\n"
                   "mov 16(%rsi), %r9d\n"
                   "call 6f\n"
                   "mov (%rsi), %r13\n"
                   "cmp 8(%rsi), %r13\n"
                   "je 3f\n"
                   "xor %eax, %eax\n"
                   "cpuid\n"
                   "mov %r13, 8(%rsi)\n"
                   "3: pause\n" /* the patcher may wait for this CPU */
                   "cmpl $0, 24(%rsi)\n"
                   "je 2b\n"
                   "hlt\n"
                   "6: cmp $3, %eax\n"
                   "ja 9f\n"
                   "incq 40(%rsi,%rax,8)\n"
                   "mov %r8d, %ecx\n"
                   "xor %edx, %edx\n"
                   "7: or (%r10,%rcx), %dl\n"
                   "inc %ecx\n"
                   "cmp %r9d, %ecx\n"
                   "jbe 7b\n"
                   "bt %eax, %edx\n"
                   "jnc 9f\n"
                   "ret\n"
                   "9: mov %rax, 72(%rsi)\n"
                   "mov %r8, 80(%rsi)\n"
                   "mov %r9, 88(%rsi)\n"
                   "movq $-1, 8(%rsi)\n" /* the patcher waits no longer */
                   "hlt");
/* rsi: shared, rdi: where to patch, r10: instructions. */
GUEST_CODE(patcher, "mov $1, %ecx\n"
                    "1: lea -3(,%rcx,4), %r8d\n"
                    "mov %r8, 16(%rsi)\n"
                    "movb $0xcc, (%rdi)\n"
                    "call 7f\n"
                    "mov (%r10,%rcx,8), %rdx\n"
                    "mov %rdx, %rbx\n"
                    "shr $8, %rbx\n"
                    "mov %ebx, 1(%rdi)\n"
                    "call 8f\n"
                    "inc %r8d\n"
                    "mov %r8, 16(%rsi)\n"
                    "mov %dl, (%rdi)\n"
                    "call 7f\n"
                    "call 8f\n" /* it is run at least once as it is now */
                    "mov %ecx, %ebx\n"
                    "and $63, %ebx\n"
                    "2: pause\n"
                    "dec %ebx\n"
                    "jns 2b\n"
                    "inc %ecx\n"
                    "cmp $300, %ecx\n"
                    "jbe 1b\n"
                    "movl $1, 24(%rsi)\n"
                    "hlt\n"
                    "7: call 8f\n" /* all have serialized: the next phase */
                    "inc %r8d\n"
                    "mov %r8, 16(%rsi)\n"
                    "ret\n"
                    "8: incq (%rsi)\n"
                    "mov (%rsi), %rax\n"
                    "9: pause\n"
                    "cmp %rax, 8(%rsi)\n"
                    "jb 9b\n"
                    "ret");
/* #BP of the runner: what was called returns OUT_BP. */
GUEST_CODE(on_bp, "push %rax\n"
                  "mov 8(%rsp), %rax\n"
                  "cmp %rax, 32(%rsi)\n"
                  "jne 2f\n"
                  "lea 1f(%rip), %rax\n"
                  "mov %rax, 8(%rsp)\n"
                  "pop %rax\n"
                  "iretq\n"
                  "1: mov $3, %eax\n"
                  "ret\n"
                  "2: mov %rax, 72(%rsi)\n"
                  "movq $-1, 8(%rsi)\n"
                  "hlt");
/* Any other exception: the patcher waits no longer. */
GUEST_CODE(on_other, "movq $-1, 8(%rsi)\n"
                     "hlt");

static gpointer patch_thread(gpointer opaque)
{
    struct vcpu *v = opaque;
    struct exit exit;

    interp_accel_ops.run(v, &exit);
    g_assert_cmpint(exit.kind, ==, EXIT_HALT);
    return NULL;
}

static void patch_handlers(struct guest *g)
{
    guest_load(g, P_BP, on_bp, (size_t)(on_bp_end - on_bp));
    for (unsigned i = 0; i < 32; i++) {
        guest_load(g, G_HANDLERS + i * 16, on_other, (size_t)(on_other_end - on_other));
    }
    guest_write64(g, G_IDT + CPU_BP * 16,
                  (P_BP & 0xffff) | (uint64_t)G_SEL_CODE << 16 | 0xeeull << 40 |
                      (uint64_t)(P_BP >> 16) << 48);
}

/* mov $value, %eax; ret */
static void patch_value(struct guest *g, uint64_t at, uint8_t value)
{
    const uint8_t code[] = {0xb8, value, 0, 0, 0, 0xc3};

    g_assert_true(mem_write(g->fb->board.mem, at, code, sizeof(code)));
}

/* Which instruction a round leaves there, and what may be seen when. */
static void patch_rounds(struct guest *g, uint64_t site)
{
    static const uint64_t insns[3] = {0x0000441f0f, 0x00000110e9, 0x00000221e9};
    uint8_t *allowed = g->ram + P_ALLOWED;

    patch_value(g, site + 5, OUT_NOP);
    patch_value(g, site + 5 + 0x110, OUT_FIRST);
    patch_value(g, site + 5 + 0x221, OUT_SECOND);
    g_assert_true(mem_write(g->fb->board.mem, site, &insns[0], 5));
    allowed[0] = 1 << OUT_NOP;
    for (unsigned r = 1; r <= ROUNDS; r++) {
        unsigned old = (r - 1) % 3, new = r % 3; /* OUT_NOP, OUT_FIRST, OUT_SECOND */

        guest_write64(g, P_INSNS + r * 8, insns[new]);
        allowed[4 * r - 3] = (uint8_t)(1 << old | 1 << OUT_BP);
        allowed[4 * r - 2] = 1 << OUT_BP;
        allowed[4 * r - 1] = (uint8_t)(1 << OUT_BP | 1 << new);
        allowed[4 * r] = (uint8_t)(1 << new);
    }
}

/* `offset`: of the instruction that is patched, in P_PAGE. */
static void patch_run(unsigned offset)
{
    struct guest *g = guest_new();
    uint64_t site = P_PAGE + offset;
    uint32_t rel = (uint32_t)(site - (P_PAGE + 7));
    const struct patch_shared *shared = (const void *)(g->ram + P_SHARED);
    struct vcpu *second;
    GThread *thread;

    G_STATIC_ASSERT(P_INSNS + 8 * (ROUNDS + 1) <= P_ALLOWED);
    patch_handlers(g);
    patch_rounds(g, site);
    guest_write64(g, P_SHARED + G_STRUCT_OFFSET(struct patch_shared, bp_rip), site + 1);
    *guest_pte(g, P_ALIAS) = P_PAGE | G_P | G_RW;
    *guest_pte(g, P_ALIAS + 0x1000) = (P_PAGE + 0x1000) | G_P | G_RW;
    guest_load(g, P_PAGE, runner, (size_t)(runner_end - runner));
    g_assert_true(mem_write(g->fb->board.mem, P_PAGE + 3, &rel, 4));
    g->cpu->gpr[CPU_RSI] = P_SHARED;
    g->cpu->gpr[CPU_RDI] = site;
    g->cpu->gpr[CPU_R10] = P_ALLOWED;
    second = guest_second(g);
    second->cpu.gpr[CPU_RSP] = G_STACK - 0x4000;
    GUEST_LOAD(g, patcher);
    g->cpu->gpr[CPU_RDI] = P_ALIAS + offset;
    g->cpu->gpr[CPU_R10] = P_INSNS;
    thread = g_thread_new("runner", patch_thread, second);
    guest_run(g, EXIT_HALT);
    g_thread_join(thread);
    g_test_message("outcome %" G_GUINT64_FORMAT " in phases %" G_GUINT64_FORMAT
                   " to %" G_GUINT64_FORMAT ", rip 0x%" G_GINT64_MODIFIER "x",
                   shared->wrong, shared->phase1, shared->phase2, second->cpu.rip);
    g_assert_cmpuint(shared->ack, !=, UINT64_MAX);
    g_assert_cmpuint(shared->phase, ==, 4 * ROUNDS);
    g_assert_cmpuint(shared->count[OUT_BP], >=, ROUNDS);
    for (unsigned i = 0; i < OUT_BP; i++) {
        g_assert_cmpuint(shared->count[i], >=, ROUNDS / 3);
    }
    guest_free(g);
}

static void test_in_page(void)
{
    patch_run(0x800);
}

/* The bytes behind the first two, or the first, are in the next page. */
static void test_over_page(void)
{
    patch_run(0xffe);
}

static void test_first_byte(void)
{
    patch_run(0xfff);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/patch/in-page", test_in_page);
    g_test_add_func("/interp/patch/over-page", test_over_page);
    g_test_add_func("/interp/patch/first-byte", test_first_byte);
    return g_test_run();
}
