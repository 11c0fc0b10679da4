/* SPDX-License-Identifier: MIT */
/* The interpreter and events: interrupts, shadows, single step, breakpoints, FPU exceptions,
 * exits. */
#include "guest.h"

enum { DR6_BS = 1 << 14 };

/* A handler that counts in memory and returns. */
GUEST_CODE(count_handler, "incl 0x200000\niretq");

static void guest_handler(struct guest *g, unsigned vector, const uint8_t *code, size_t len)
{
    uint64_t at = 0x180000 + vector * 64;

    g_assert(mem_write(g->fb->board.mem, at, code, len));
    guest_write64(g, G_IDT + vector * 16,
                  (at & 0xffff) | (uint64_t)G_SEL_CODE << 16 | 0xeeull << 40 |
                      (at >> 16) << 48);
}

static uint32_t guest_counted(struct guest *g)
{
    return *(uint32_t *)(void *)(g->ram + G_DATA);
}

GUEST_CODE(irq_code, "outb %al, $0x99\n" /* raises the line: IF is 0 */
                     "nop\n"
                     "sti\n"
                     "inc %ebx\n" /* the shadow */
                     "inc %ebx\n"
                     "hlt");
static void test_irq_shadow(void)
{
    struct guest *g = guest_new();

    guest_irqs[0] = 0x40;
    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, irq_code);
    g_assert_cmpint(guest_vector(g), ==, 0x40);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], >=, 1);
    g_assert_cmphex(guest_frame(g, 0), >, G_CODE + 4);
    guest_free(g);
}

GUEST_CODE(irq_hlt, "outb %al, $0x99\nsti\nhlt\nmov $5, %ebx\nhlt");
/* STI; HLT with an interrupt waiting: HLT is reached, and the board finds the request still
 * there. */
static void test_sti_hlt(void)
{
    struct guest *g = guest_new();

    guest_irqs[0] = 0x41;
    guest_handler(g, 0x41, count_handler, (size_t)(count_handler_end - count_handler));
    GUEST_LOAD(g, irq_hlt);
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 4);
    g_assert_cmphex(atomic_load(&g->v->request) & VCPU_REQ_IRQ, !=, 0);
    guest_run(g, EXIT_HALT); /* halted was cleared: the interrupt comes first */
    g_assert_cmpuint(guest_counted(g), ==, 1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 5);
    guest_free(g);
}

GUEST_CODE(irq_two, "outb %al, $0x99\nsti\nnop\nnop\nnop\nhlt");
static void test_irq_twice(void)
{
    struct guest *g = guest_new();

    guest_irqs[0] = 0x41;
    guest_irqs[1] = 0x42;
    guest_handler(g, 0x41, count_handler, (size_t)(count_handler_end - count_handler));
    guest_handler(g, 0x42, count_handler, (size_t)(count_handler_end - count_handler));
    GUEST_LOAD(g, irq_two);
    g_assert_cmpint(guest_vector(g), ==, -1);
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(guest_counted(g), ==, 2);
    guest_free(g);
}

GUEST_CODE(nmi_code, "outb %al, $0x97\nnop\nhlt");
static void test_nmi(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, nmi_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_NMI);
    g_assert_true(g->cpu->nmi_blocked);
    /* A second one waits until IRET. */
    GUEST_LOAD(g, nmi_code);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_true(g->cpu->nmi_pending);
    guest_free(g);
}

GUEST_CODE(stop_code, "1: inc %ebx\noutb %al, $0x98\njmp 1b");
static void test_stop(void)
{
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, stop_code);
    guest_run(g, EXIT_KICK);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 1);
    atomic_store(&g->v->request, 0);
    guest_run(g, EXIT_KICK);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 2);
    guest_free(g);
}

GUEST_CODE(triple, "lidt (%rsi)\nud2");
static void test_triple_fault(void)
{
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RSI] = G_DATA; /* limit 0 */
    GUEST_LOAD(g, triple);
    guest_run(g, EXIT_SHUTDOWN);
    g_assert_nonnull(strstr(g->exit.message, "rip 0x100003"));
    guest_free(g);
}

/* Counts #DB with the single-step bit set, and remembers the last rip. */
GUEST_CODE(step_handler, "push %rax\n"
                         "mov %db6, %rax\n"
                         "bt $14, %eax\n"
                         "jnc 1f\n"
                         "incl 0x200000\n"
                         "1: mov 8(%rsp), %rax\n"
                         "mov %rax, 0x200008\n"
                         "xor %eax, %eax\n"
                         "mov %rax, %db6\n"
                         "pop %rax\n"
                         "iretq");
GUEST_CODE(step_code, "pushfq\n"
                      "orl $0x100, (%rsp)\n"
                      "popfq\n"
                      "inc %ebx\n"             /* 1 */
                      "mov %ss, %eax\n"        /* 2 */
                      "mov %eax, %ss\n"        /* no trap here ... */
                      "inc %ebx\n"             /* 3: ... but after this */
                      "pushfq\n"               /* 4 */
                      "andl $~0x100, (%rsp)\n" /* 5 */
                      "popfq\n"                /* 6: TF was set when it began */
                      "hlt");
static void test_single_step(void)
{
    struct guest *g = guest_new();

    guest_handler(g, CPU_DB, step_handler, (size_t)(step_handler_end - step_handler));
    GUEST_LOAD(g, step_code);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(guest_counted(g), ==, 6);
    g_assert_cmphex(guest_read64(g, G_DATA + 8), ==, g->cpu->rip - 1);
    guest_free(g);
}

GUEST_CODE(int_handler, "nop\niretq");
GUEST_CODE(step_int_code, "pushfq\n"
                          "orl $0x100, (%rsp)\n"
                          "popfq\n"
                          "nop\n"                 /* 1 */
                          "int $0x41\n"           /* no trap where it goes ... */
                          "nop\n"                 /* 2: ... nor behind it */
                          "pushfq\n"              /* 3 */
                          "andl $~0x100, (%rsp)\n" /* 4 */
                          "popfq\n"               /* 5 */
                          "hlt");
static void test_step_int(void)
{
    struct guest *g = guest_new();

    guest_handler(g, CPU_DB, step_handler, (size_t)(step_handler_end - step_handler));
    guest_handler(g, 0x41, int_handler, (size_t)(int_handler_end - int_handler));
    GUEST_LOAD(g, step_int_code);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(guest_counted(g), ==, 5);
    g_assert_cmphex(guest_read64(g, G_DATA + 8), ==, g->cpu->rip - 1);
    guest_free(g);
}

GUEST_CODE(bp_code, "nop\nnop\ninc %ebx\nnop\nhlt");
GUEST_CODE(bp_handler, "incl 0x200000\n"
                       "orl $0x10000, 16(%rsp)\n" /* RF: go on over it */
                       "iretq");
static void test_code_breakpoint(void)
{
    struct guest *g = guest_new();

    guest_handler(g, CPU_DB, bp_handler, (size_t)(bp_handler_end - bp_handler));
    g->cpu->dr[0] = G_CODE + 2;
    g->cpu->dr[7] = 0x402;
    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, bp_code);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(guest_counted(g), ==, 1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 1);
    g_assert_cmphex(g->cpu->dr[6] & 15, ==, 1);
    guest_free(g);
}

GUEST_CODE(watch_code, "mov 0x200100, %eax\n"
                       "movl $1, 0x200104\n"
                       "movl $1, 0x200100\n"
                       "1: hlt");
static void test_data_breakpoint(void)
{
    struct guest *g = guest_new();

    g->cpu->dr[1] = G_DATA + 0x100;
    g->cpu->dr[7] = 0x400 | 8 | 0xdull << 20; /* DR1: writes, 4 bytes */
    GUEST_LOAD(g, watch_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_DB);
    g_assert_cmphex(g->cpu->dr[6] & 15, ==, 2);
    g_assert_cmphex(guest_frame(g, 0), ==,
                    G_CODE + (uint64_t)(watch_code_end - watch_code) - 1);
    guest_free(g);
}

GUEST_CODE(align_code, "movl $1, 0x200001\nhlt");
/* #AC: CPL 3, CR0.AM and EFLAGS.AC. */
static void test_alignment_check(void)
{
    struct guest *g = guest_new();

    guest_user(g);
    g->cpu->rflags |= CPU_AC;
    GUEST_LOAD(g, align_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_ALIGN);
    guest_free(g);
}

GUEST_CODE(simd_code, "mov $0x1f00, %eax\n" /* invalid operations unmasked */
                      "mov %eax, -8(%rsp)\n"
                      "ldmxcsr -8(%rsp)\n"
                      "xorps %xmm0, %xmm0\n"
                      "1: divss %xmm0, %xmm0\n"
                      "hlt");
static void test_simd_exception(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, simd_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_XM);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + (uint64_t)(simd_code_end - simd_code) - 5);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_OSXMMEXCPT;
    interp_accel_ops.state_changed(g->v);
    GUEST_LOAD(g, simd_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_UD);
    guest_free(g);
}

GUEST_CODE(x87_code, "fninit\n"
                     "pushq $0x37b\n" /* divide by zero unmasked */
                     "fldcw (%rsp)\n"
                     "fld1\n"
                     "fldz\n"
                     "fdivrp\n" /* pending ... */
                     "mov $1, %ebx\n"
                     "fnstsw %ax\n" /* ... not reported by this */
                     "fwait\n"      /* but here */
                     "hlt");
static void test_x87_exception(void)
{
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, x87_code);
    g_assert_cmpint(guest_vector(g), ==, CPU_MF);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX] & 0x84, ==, 0x84);
    g_assert_cmphex(guest_frame(g, 0), ==, G_CODE + (uint64_t)(x87_code_end - x87_code) - 2);
    guest_free(g);
}

GUEST_CODE(sse_code, "movq %rax, %xmm3\nmovdqa %xmm3, %xmm4\nhlt");
/* The vector state is in v->cpu after run(); TS makes the next use fault. */
static void test_fpu_home(void)
{
    struct guest *g = guest_new();
    uint64_t low;

    g->cpu->gpr[CPU_RAX] = 0x123456789abcdef0;
    GUEST_LOAD(g, sse_code);
    g_assert_cmpint(guest_vector(g), ==, -1);
    memcpy(&low, g->cpu->xsave + 160 + 4 * 16, 8);
    g_assert_cmphex(low, ==, 0x123456789abcdef0);
    g->cpu->cr0 |= CPU_CR0_TS;
    interp_accel_ops.state_changed(g->v);
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, CPU_NM);
    guest_free(g);
}

GUEST_CODE(user_hlt, "hlt");
static void test_privilege(void)
{
    struct guest *g = guest_new();

    guest_user(g);
    GUEST_LOAD(g, user_hlt);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    guest_free(g);
}

GUEST_CODE(flags_code, "stc\npushf\npop %rax\n"
                       "sti\npushf\npop %rbx\n"
                       "cli\npushf\npop %rcx\n"
                       "mov $0x7fffffff, %edx\nadd $1, %edx\n"
                       "swapgs\n"
                       "pushf\npop %rdx\n"
                       "mov %gs:0, %esi\nhlt");
/* Flags on the stack, the interrupt flag and SWAPGS, in the middle of code. */
static void test_flags(void)
{
    struct guest *g = guest_new();

    for (unsigned i = 0; i < 3; i++) {
        g->cpu->kernel_gs_base = G_DATA + 0x100 * i;
        *(uint32_t *)(void *)(g->ram + G_DATA + 0x100 * i) = 100 + i;
        g->cpu->seg[CPU_GS].base = 0x1234;
        g->cpu->rflags = CPU_ID | 2;
        GUEST_LOAD(g, flags_code);
        /* The last time over the end of a page. */
        g->cpu->gpr[CPU_RSP] = i == 2 ? 0x400000 + MEM_PAGE_SIZE + 4 : G_STACK;
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, CPU_ID | CPU_CF | 2);
        g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, CPU_ID | CPU_CF | CPU_IF | 2);
        g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, CPU_ID | CPU_CF | 2);
        g_assert_cmphex(g->cpu->gpr[CPU_RDX], ==,
                        CPU_ID | CPU_OF | CPU_SF | CPU_AF | CPU_PF | 2);
        g_assert_cmpuint(g->cpu->gpr[CPU_RSI], ==, 100 + i);
        g_assert_cmphex(g->cpu->kernel_gs_base, ==, 0x1234);
    }
    guest_free(g);
}

GUEST_CODE(user_cli, "cli\nhlt");
static void test_user_cli(void)
{
    struct guest *g = guest_new();

    guest_user(g);
    GUEST_LOAD(g, user_cli);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    guest_free(g);
}

GUEST_CODE(tss_flush, "mov %rdx, (%rdi)\n" /* a PTE, without a flush of its own */
                      "outb %al, $0x96\n"
                      "mov (%rsi), %eax\n"
                      "hlt");
/* VCPU_REQ_TLB_FLUSH from outside. */
static void test_flush_request(void)
{
    struct guest *g = guest_new();

    *(uint32_t *)(void *)(g->ram + G_DATA) = 1;
    *(uint32_t *)(void *)(g->ram + G_DATA + 0x1000) = 2;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x2000;
    GUEST_LOAD(g, tss_flush);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1);
    g_assert(mem_set_gfn(g->fb->board.mem, G_DATA >> 12,
                         mem_gfn_frame(g->fb->board.mem, (G_DATA >> 12) + 1)));
    vcpu_request(g->v, VCPU_REQ_TLB_FLUSH);
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2);
    guest_free(g);
}

GUEST_CODE(space_code, "mov (%rsi), %eax\nhlt");

static uint64_t space_reads(struct guest *g)
{
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, -1);
    return g->cpu->gpr[CPU_RAX];
}

/* Another engine ran the guest in other spaces: the one from before is another one now. */
static void test_space_after_change(void)
{
    enum { SPACE = 5 << 16 };
    struct guest *g = guest_new();
    const uint64_t gfn = G_DATA >> 12;
    const uint32_t frame = mem_gfn_frame(g->v->mem, gfn);

    *(uint32_t *)(void *)(g->ram + G_DATA) = 1;
    *(uint32_t *)(void *)(g->ram + G_DATA + 0x1000) = 2;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    GUEST_LOAD(g, space_code);
    g->v->accel->tlb_flush(g->v, VCPU_FLUSH_SPACE, SPACE);
    g_assert_cmpuint(space_reads(g), ==, 1);
    g_assert(mem_set_gfn(g->v->mem, gfn, mem_gfn_frame(g->v->mem, gfn + 1)));
    g->v->accel->state_changed(g->v);
    g_assert_cmpuint(space_reads(g), ==, 2);
    g_assert(mem_set_gfn(g->v->mem, gfn, frame));
    g->v->accel->tlb_flush(g->v, VCPU_FLUSH_SPACE, SPACE);
    g_assert_cmpuint(space_reads(g), ==, 1);
    guest_free(g);
}

GUEST_CODE(pv_code, "inc %ebx\nud2");
static unsigned pv_flushes, pv_late;

static void pv_trap_stop(struct vcpu *v, const struct vcpu_trap *trap)
{
    vcpu_request(v, VCPU_REQ_STOP);
}

/* While it is at it, the next one comes. */
static void pv_flush_asked(struct vcpu *v)
{
    pv_late += v->cpu.rip != G_CODE;
    if (++pv_flushes < 3) {
        vcpu_request(v, VCPU_REQ_PV_FLUSH);
    }
}

/* A paravirtual guest runs nothing while a flush of another vCPU waits for it. */
static void test_pv_flush_request(void)
{
    static const struct vcpu_pv_ops ops = {.flush = pv_flush_asked, .trap = pv_trap_stop};
    struct guest *g = guest_new();

    GUEST_LOAD(g, pv_code);
    g->v->pv = &ops;
    vcpu_request(g->v, VCPU_REQ_PV_FLUSH);
    g->v->accel->run(g->v, &g->exit);
    g_assert_cmpint((int)g->exit.kind, ==, (int)EXIT_KICK);
    g_assert_cmpuint(g->cpu->rip, ==, G_CODE + 2);
    g_assert_cmpuint(pv_flushes, ==, 3);
    g_assert_cmpuint(pv_late, ==, 0);
    atomic_store(&g->v->request, 0);
    g->v->pv = NULL;
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/trap/irq-shadow", test_irq_shadow);
    g_test_add_func("/interp/trap/pv-flush-request", test_pv_flush_request);
    g_test_add_func("/interp/trap/space-after-change", test_space_after_change);
    g_test_add_func("/interp/trap/sti-hlt", test_sti_hlt);
    g_test_add_func("/interp/trap/irq-twice", test_irq_twice);
    g_test_add_func("/interp/trap/nmi", test_nmi);
    g_test_add_func("/interp/trap/stop", test_stop);
    g_test_add_func("/interp/trap/triple-fault", test_triple_fault);
    g_test_add_func("/interp/trap/single-step", test_single_step);
    g_test_add_func("/interp/trap/step-int", test_step_int);
    g_test_add_func("/interp/trap/code-breakpoint", test_code_breakpoint);
    g_test_add_func("/interp/trap/data-breakpoint", test_data_breakpoint);
    g_test_add_func("/interp/trap/alignment-check", test_alignment_check);
    g_test_add_func("/interp/trap/simd-exception", test_simd_exception);
    g_test_add_func("/interp/trap/x87-exception", test_x87_exception);
    g_test_add_func("/interp/trap/fpu-home", test_fpu_home);
    g_test_add_func("/interp/trap/privilege", test_privilege);
    g_test_add_func("/interp/trap/flags", test_flags);
    g_test_add_func("/interp/trap/user-cli", test_user_cli);
    g_test_add_func("/interp/trap/flush-request", test_flush_request);
    return g_test_run();
}
