/* SPDX-License-Identifier: MIT */
/* The interpreter and memory: faults in the middle of things, TLB, A and D bits, MMIO, locks.
 */
#include "guest.h"

#define PAGE 0x1000ull

GUEST_CODE(rmw, "add %eax, (%rsi)\nhlt");
/* A read-modify-write of a read-only page faults as a write and changes nothing. */
static void test_fault_in_rmw(void)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA) &= ~(uint64_t)G_RW;
    g->cpu->gpr[CPU_RAX] = UINT32_MAX;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->rflags = 2;
    GUEST_LOAD(g, rmw);
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 0), ==, CPU_PFEC_P | CPU_PFEC_W);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE);
    g_assert_cmphex(guest_frame(g, 3) & CPU_STATUS_FLAGS, ==, 0);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA);
    g_assert_cmphex(guest_read64(g, G_DATA), ==, 0);
    guest_free(g);
}

GUEST_CODE(pair, "mov $20, %ecx\n"
                 "1: cmpxchg16b (%rsi)\n"
                 "dec %ecx\n"
                 "jnz 1b\n"
                 "cmpxchg16b 8(%rsi)\n" /* not aligned */
                 "hlt");
/* CMPXCHG16B, without LOCK too, looks at its address before the page; and a base that DS has from elsewhere is none. */
static void test_pair(void)
{
    struct guest *g = guest_new();

    g->cpu->seg[CPU_DS].base = 8;
    g->cpu->gpr[CPU_RSI] = G_DATA - 16;
    GUEST_LOAD(g, pair);
    guest_write64(g, G_DATA - 16, 5);
    *guest_pte(g, G_DATA) &= ~(uint64_t)(G_A | G_D);
    guest_flush(g);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + (uint64_t)(pair_end - pair) - 6);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(*guest_pte(g, G_DATA) & (G_A | G_D), ==, 0);
    guest_free(g);
}

GUEST_CODE(store8, "mov %rax, (%rsi)\nhlt");
/* A store over a page boundary is not half done. */
static void test_store_not_torn(void)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + PAGE) = 0;
    g->cpu->gpr[CPU_RAX] = UINT64_MAX;
    g->cpu->gpr[CPU_RSI] = G_DATA + PAGE - 3;
    GUEST_LOAD(g, store8);
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE);
    g_assert_cmphex(guest_read64(g, G_DATA + PAGE - 8), ==, 0);
    guest_free(g);
}

/* The two halves land in the pages that the tables say. */
static void test_store_split(void)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA + PAGE) = (G_DATA + 5 * PAGE) | G_P | G_RW;
    g->cpu->gpr[CPU_RAX] = 0x1122334455667788;
    g->cpu->gpr[CPU_RSI] = G_DATA + PAGE - 3;
    GUEST_LOAD(g, store8);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(guest_read64(g, G_DATA + PAGE - 8), ==, 0x6677880000000000);
    g_assert_cmphex(guest_read64(g, G_DATA + 5 * PAGE), ==, 0x1122334455);
    guest_free(g);
}

GUEST_CODE(copy, "rep movsb\nhlt");
/* A string stops at the fault with its registers at the place, and goes on from there. */
static void test_string_restart(void)
{
    struct guest *g = guest_new();

    memset(g->ram + G_DATA, 0xab, 2 * PAGE);
    *guest_pte(g, G_DATA + 9 * PAGE) = 0;
    g->cpu->gpr[CPU_RSI] = G_DATA + 7;
    g->cpu->gpr[CPU_RDI] = G_DATA + 8 * PAGE + 100;
    g->cpu->gpr[CPU_RCX] = 6000;
    GUEST_LOAD(g, copy);
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + 9 * PAGE);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE);
    g_assert_cmphex(g->cpu->gpr[CPU_RDI], ==, G_DATA + 9 * PAGE);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 6000 - (PAGE - 100));
    g_assert_cmphex(g->cpu->gpr[CPU_RSI], ==, G_DATA + 7 + PAGE - 100);
    *guest_pte(g, G_DATA + 9 * PAGE) = (G_DATA + 9 * PAGE) | G_P | G_RW;
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    for (unsigned i = 0; i < 6000; i++) {
        g_assert_cmphex(g->ram[G_DATA + 8 * PAGE + 100 + i], ==, 0xab);
    }
    g_assert_cmphex(g->ram[G_DATA + 8 * PAGE + 100 + 6000], ==, 0);
    guest_free(g);
}

/* Overlapping forward copies repeat a pattern, byte by byte. */
static void test_string_overlap(void)
{
    struct guest *g = guest_new();

    memcpy(g->ram + G_DATA, "abc", 3);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + 3;
    g->cpu->gpr[CPU_RCX] = 6000;
    GUEST_LOAD(g, copy);
    g_assert_cmpint(guest_vector(g), ==, -1);
    for (unsigned i = 0; i < 6003; i++) {
        g_assert_cmpint(g->ram[G_DATA + i], ==, "abc"[i % 3]);
    }
    guest_free(g);
}

GUEST_CODE(load_store, "mov (%rsi), %eax\nmov %eax, (%rdi)\nhlt");
static void test_accessed_dirty(void)
{
    struct guest *g = guest_new();
    uint64_t *from = guest_pte(g, G_DATA), *to = guest_pte(g, G_DATA + PAGE);

    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_DATA + PAGE;
    GUEST_LOAD(g, load_store);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(*from & (G_A | G_D), ==, G_A);
    g_assert_cmphex(*to & (G_A | G_D), ==, G_A | G_D);
    /* Cleared bits come back after a flush. */
    *to &= ~(uint64_t)(G_A | G_D);
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, G_DATA + PAGE);
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(*to & (G_A | G_D), ==, G_A | G_D);
    guest_free(g);
}

GUEST_CODE(remap, "mov (%rsi), %eax\n"
                  "mov %rdx, (%rdi)\n" /* the PTE */
                  "mov %cr3, %rbx\n"
                  "mov %rbx, %cr3\n"
                  "mov (%rsi), %ebx\n"
                  "invlpg (%rsi)\n"
                  "mov (%rsi), %ecx\n"
                  "hlt");
static void remap_run(uint64_t flags, uint32_t after_cr3)
{
    struct guest *g = guest_new();

    *(uint32_t *)(void *)(g->ram + G_DATA) = 1;
    *(uint32_t *)(void *)(g->ram + G_DATA + PAGE) = 2;
    *guest_pte(g, G_DATA) |= flags;
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RDI] = G_PT0 + (G_DATA >> 12) * 8;
    g->cpu->gpr[CPU_RDX] = (G_DATA + PAGE) | G_P | G_RW | flags;
    GUEST_LOAD(g, remap);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, after_cr3);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 2);
    guest_free(g);
}

/* MOV CR3 drops ordinary entries and keeps global ones; INVLPG drops both. */
static void test_flush(void)
{
    remap_run(0, 2);
    remap_run(G_G, 1);
}

GUEST_CODE(large, "mov 0x401000, %eax\n"
                  "mov %rdx, (%rdi)\n"
                  "invlpg 0x5ff000\n" /* another address of the same 2 MiB page */
                  "mov 0x401000, %ebx\n"
                  "hlt");
static void test_flush_large(void)
{
    struct guest *g = guest_new();

    *(uint32_t *)(void *)(g->ram + 0x401000) = 1;
    *(uint32_t *)(void *)(g->ram + 0x801000) = 2;
    g->cpu->gpr[CPU_RDI] = G_PD + 16;
    g->cpu->gpr[CPU_RDX] = 0x800000 | G_P | G_RW | G_PS;
    GUEST_LOAD(g, large);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 2);
    guest_free(g);
}

GUEST_CODE(mmio_all, "mov $0x1000010, %esi\n"
                     "movb $1, (%rsi)\n"
                     "movw $2, (%rsi)\n"
                     "movl $3, (%rsi)\n"
                     "movq $4, (%rsi)\n"
                     "hlt\n");
GUEST_CODE(mmio_rmw, "mov $0x1000010, %esi\n"
                     "lock orl $0x10, (%rsi)\n"
                     "mov (%rsi), %bl\n"
                     "hlt\n");
static void test_mmio(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, mmio_all);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(guest_mmio.writes, ==, 4);
    g_assert_cmpuint(guest_mmio.reads, ==, 0);
    g_assert_cmpuint(guest_mmio.last_size, ==, 8);
    g_assert_cmpuint(guest_mmio.last_value, ==, 4);
    g_assert_cmphex(guest_mmio.last_gpa, ==, G_MMIO + 0x10);
    guest_mmio.read_value = 0x103;
    GUEST_LOAD(g, mmio_rmw);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(guest_mmio.writes, ==, 5);
    g_assert_cmpuint(guest_mmio.reads, ==, 2);
    g_assert_cmphex(guest_mmio.last_value, ==, 0x113);
    g_assert_cmphex(g->cpu->gpr[CPU_RBX] & 0xff, ==, 3);
    guest_free(g);
}

GUEST_CODE(mmio_vector, "mov $0x1000010, %esi\n"
                        "movdqu (%rsi), %xmm0\n"
                        "movq %xmm0, %rax\n"
                        "movsd %xmm0, (%rsi)\n"
                        "hlt\n");
/* Native instructions reach devices through a buffer. */
static void test_mmio_vector(void)
{
    struct guest *g = guest_new();

    guest_mmio.read_value = 0x1234567890;
    GUEST_LOAD(g, mmio_vector);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234567890);
    g_assert_cmpuint(guest_mmio.reads, ==, 2);
    g_assert_cmpuint(guest_mmio.writes, ==, 1);
    g_assert_cmphex(guest_mmio.last_value, ==, 0x1234567890);
    guest_free(g);
}

GUEST_CODE(locked, "lock addl $1, (%rsi)\n"
                   "mov $5, %eax\n"
                   "lock xadd %eax, (%rsi)\n"
                   "mov $2, %ebx\n"
                   "xchg %ebx, (%rsi)\n"
                   "mov $2, %eax\n"
                   "mov $9, %ecx\n"
                   "lock cmpxchg %ecx, (%rsi)\n"
                   "lock btsl $31, (%rsi)\n"
                   "hlt");
/* The same results wherever the operand lies: aligned, over a cache line, over a page. */
static void test_locked(void)
{
    static const uint64_t at[] = {G_DATA, G_DATA + 62, G_DATA + 0xffe};

    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        struct guest *g = guest_new();

        g->cpu->gpr[CPU_RSI] = at[i];
        GUEST_LOAD(g, locked);
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmphex((uint32_t)guest_read64(g, at[i]), ==, 0x80000009);
        g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 6);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2);
        guest_free(g);
    }
}

GUEST_CODE(non_canonical, "mov $0x8000000000000000, %rax\n"
                          "mov (%rax), %ebx\n"
                          "hlt");
GUEST_CODE(non_canonical_stack, "mov $0x8000000000000000, %rbp\n"
                                "mov (%rbp), %ebx\n"
                                "hlt");
GUEST_CODE(canonical_edge, "mov $0x00007fffffffffff, %rax\n"
                           "mov (%rax), %ebx\n"
                           "hlt");
static void test_canonical(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, non_canonical);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    GUEST_LOAD(g, non_canonical_stack);
    g_assert_cmpint(guest_vector(g), ==, CPU_STACK_FAULT);
    GUEST_LOAD(g, canonical_edge);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    guest_free(g);
}

GUEST_CODE(smap, "mov (%rsi), %eax\n"
                 "stac\n"
                 "mov (%rsi), %ebx\n"
                 "clac\n"
                 "mov (%rsi), %ecx\n"
                 "hlt");
/* SMAP: the same page is reachable with AC set and not without. */
static void test_smap(void)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA) |= G_US;
    for (uint64_t va = 0; va < 4 << 20; va += PAGE) {
        if (va != G_DATA) {
            *guest_pte(g, va) &= ~(uint64_t)G_US;
        }
    }
    *(uint32_t *)(void *)(g->ram + G_DATA) = 7;
    g->cpu->cr4 |= CPU_CR4_SMAP;
    interp_accel_ops.state_changed(g->v);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    GUEST_LOAD(g, smap);
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE);
    g->cpu->rip = G_CODE + 2; /* after the first load */
    g->cpu->gpr[CPU_RCX] = g->cpu->gpr[CPU_RBX] = 0;
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 7);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    guest_free(g);
}

static void set_user(struct guest *g, bool user)
{
    unsigned dpl = user ? 3 : 0;

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        struct cpu_segment *s = &g->cpu->seg[i];

        s->selector = i == CPU_CS ? (user ? 0x23 : G_SEL_CODE) : (user ? 0x1b : G_SEL_DATA);
        s->attr = (uint16_t)((s->attr & ~(3 << CPU_SEG_DPL_SHIFT)) | dpl << CPU_SEG_DPL_SHIFT);
    }
    g->cpu->cpl = (uint8_t)dpl;
}

GUEST_CODE(jump_there, "mov $0x200000, %eax\njmp *%rax");
GUEST_CODE(there, "nop\nint3");
/* Code that ran at one privilege is still checked at the other. */
static void test_privilege_of_code(void)
{
    struct guest *g = guest_new();

    *guest_pte(g, G_DATA) &= ~(uint64_t)G_US; /* "there" is the kernel's */
    guest_load(g, G_DATA, there, (size_t)(there_end - there));
    GUEST_LOAD(g, jump_there);
    g_assert_cmpint(guest_vector(g), ==, CPU_BP);
    g->cpu->rip = G_CODE;
    set_user(g, true);
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 0), ==, CPU_PFEC_P | CPU_PFEC_U | CPU_PFEC_I);
    g_assert_cmphex(guest_frame(g, 1), ==, G_DATA);
    /* And the other way round, with SMEP. */
    *guest_pte(g, G_DATA) |= G_US;
    *guest_pte(g, G_CODE) &= ~(uint64_t)G_US;
    for (uint64_t at = G_HANDLERS & ~0xfffull; at < G_STACK; at += PAGE) {
        *guest_pte(g, at) &= ~(uint64_t)G_US;
    }
    g->cpu->cr4 |= CPU_CR4_SMEP;
    interp_accel_ops.state_changed(g->v);
    g->cpu->rip = G_DATA;
    set_user(g, true);
    g_assert_cmpint(guest_vector(g), ==, CPU_BP);
    set_user(g, false);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK;
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(guest_frame(g, 1), ==, G_DATA);
    guest_free(g);
}

GUEST_CODE(masked, "vmovdqu (%rdx), %ymm1\n"
                   "vpmaskmovd (%rsi), %ymm1, %ymm0\n"
                   "vpmaskmovd %ymm0, %ymm1, (%rdi)\n"
                   "hlt");
/* Elements masked off do not fault, the others do. */
static void test_masked(void)
{
    struct guest *g = guest_new();
    uint32_t *mask = (uint32_t *)(void *)(g->ram + G_DATA + 0x100);

    for (unsigned i = 0; i < 8; i++) {
        *(uint32_t *)(void *)(g->ram + G_DATA + PAGE - 16 + i * 4) = 100 + i;
        mask[i] = i < 4 ? 0x80000000 : 0;
    }
    *guest_pte(g, G_DATA + PAGE) = 0;
    g->cpu->gpr[CPU_RDX] = G_DATA + 0x100;
    g->cpu->gpr[CPU_RSI] = g->cpu->gpr[CPU_RDI] = G_DATA + PAGE - 16;
    g->cpu->gpr[CPU_RDI] = G_DATA + 0x200;
    GUEST_LOAD(g, masked);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(*(uint32_t *)(void *)(g->ram + G_DATA + 0x200 + 12), ==, 103);
    g_assert_cmpuint(*(uint32_t *)(void *)(g->ram + G_DATA + 0x200 + 16), ==, 0);
    mask[5] = 0x80000000;
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_DATA + PAGE + 4);
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/memory/fault-in-rmw", test_fault_in_rmw);
    g_test_add_func("/interp/memory/store-not-torn", test_store_not_torn);
    g_test_add_func("/interp/memory/store-split", test_store_split);
    g_test_add_func("/interp/memory/string-restart", test_string_restart);
    g_test_add_func("/interp/memory/string-overlap", test_string_overlap);
    g_test_add_func("/interp/memory/accessed-dirty", test_accessed_dirty);
    g_test_add_func("/interp/memory/flush", test_flush);
    g_test_add_func("/interp/memory/flush-large-page", test_flush_large);
    g_test_add_func("/interp/memory/mmio", test_mmio);
    g_test_add_func("/interp/memory/mmio-vector", test_mmio_vector);
    g_test_add_func("/interp/memory/locked", test_locked);
    g_test_add_func("/interp/memory/canonical", test_canonical);
    g_test_add_func("/interp/memory/pair", test_pair);
    g_test_add_func("/interp/memory/smap", test_smap);
    g_test_add_func("/interp/memory/privilege-of-code", test_privilege_of_code);
    if (__builtin_cpu_supports("avx2")) {
        g_test_add_func("/interp/memory/masked", test_masked);
    }
    return g_test_run();
}
