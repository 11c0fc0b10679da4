/* SPDX-License-Identifier: MIT */
/* The interpreter and its code: self-modification, page crossing, caches, modes. */
#include "guest.h"

GUEST_CODE(smc_next, "movb $0x42, 1f+1(%rip)\n"
                     "1: mov $0x11, %al\n"
                     "hlt");
/* A store changes an instruction further on in the same block. */
static void test_smc_next(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, smc_next);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX] & 0xff, ==, 0x42);
    guest_free(g);
}

GUEST_CODE(smc_loop, "mov $100, %ecx\n"
                     "1: incl 2f+1(%rip)\n"
                     "2: mov $0, %eax\n"
                     "add %eax, %ebx\n"
                     "loop 1b\n"
                     "hlt");
/* Every round patches the block that runs: 1 + 2 + ... + 100. */
static void test_smc_loop(void)
{
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, smc_loop);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 5050);
    guest_free(g);
}

GUEST_CODE(smc_wide, "mov $0x9090909090909090, %rax\n"
                     "mov %rax, 1f(%rip)\n"
                     "1: .rept 8\nhlt\n.endr\n"
                     "mov $7, %ebx\n"
                     "hlt");
static void test_smc_wide(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, smc_wide);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 7);
    guest_free(g);
}

GUEST_CODE(smc_string, "lea 1f(%rip), %rdi\n"
                       "mov $0x90, %al\n"
                       "mov $4, %ecx\n"
                       "rep stosb\n"
                       "1: .rept 4\nhlt\n.endr\n"
                       "mov $8, %ebx\n"
                       "hlt");
static void test_smc_string(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, smc_string);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 8);
    guest_free(g);
}

GUEST_CODE(smc_vector, "movdqu 2f(%rip), %xmm0\n"
                       "movdqu %xmm0, 1f(%rip)\n"
                       "1: .rept 16\nhlt\n.endr\n"
                       "mov $9, %ebx\n"
                       "hlt\n"
                       "2: .rept 16\nnop\n.endr");
static void test_smc_vector(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, smc_vector);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 9);
    guest_free(g);
}

GUEST_CODE(load_one, "mov $1, %eax\nhlt");
GUEST_CODE(load_two, "mov $2, %eax\nhlt");
/* A device (or another thread) writes code between two runs. */
static void test_outside_write(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, load_one);
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1);
    GUEST_LOAD(g, load_two);
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2);
    guest_free(g);
}

GUEST_CODE(data_beside, "mov $100000, %ecx\n"
                        "1: incl 1000(%rsi)\n"
                        "dec %ecx\n"
                        "jnz 1b\n"
                        "hlt");
/* Data on the page of the loop itself: right, and no flood of decoding. */
static void test_data_beside_code(void)
{
    struct guest *g = guest_new();

    g->cpu->gpr[CPU_RSI] = G_CODE;
    GUEST_LOAD(g, data_beside);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(*(uint32_t *)(void *)(g->ram + G_CODE + 1000), ==, 100000);
    guest_free(g);
}

/* Stores beside the code's lines void nothing, those to them do, by guest and device. */
static void test_lines(void)
{
    struct guest *g = guest_new();
    struct mem_frame_info *info = mem_frame_info(g->v->mem, G_CODE >> 12);
    uint32_t before;
    uint8_t byte = 0x90;

    g->cpu->gpr[CPU_RSI] = G_CODE;
    GUEST_LOAD(g, data_beside);
    before = atomic_load(&info->code_generation);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before);
    g_assert_cmphex(atomic_load(&info->code_lines), ==, 1);
    g_assert_true(mem_write(g->fb->board.mem, G_CODE + 64, &byte, 1));
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before);
    g_assert_true(mem_write(g->fb->board.mem, G_CODE + 63, &byte, 1));
    g_assert_cmpuint(atomic_load(&info->code_generation), ==, before + 1);
    guest_load(g, G_CODE + 60, data_beside, (size_t)(data_beside_end - data_beside));
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(atomic_load(&info->code_lines), ==, 3);
    guest_free(g);
}

GUEST_CODE(call_elsewhere, "mov $50, %ebp\n"
                           "1: mov $0x200000, %ebx\n"
                           "call *%rbx\n"
                           "mov $40, %ecx\n"
                           "2: incl 64(%rbx)\n" /* 40 > what it takes to become data */
                           "dec %ecx\n"
                           "jnz 2b\n"
                           "incb 1(%rbx)\n" /* the immediate */
                           "dec %ebp\n"
                           "jnz 1b\n"
                           "hlt");
GUEST_CODE(elsewhere, "mov $1, %al\nadd %al, %dl\nret");
/* A page that is code, then data for a while, then code that was patched as data. */
static void test_code_data_code(void)
{
    struct guest *g = guest_new();
    uint8_t want = 0;

    for (unsigned i = 1; i <= 50; i++) {
        want = (uint8_t)(want + i);
    }
    g->cpu->gpr[CPU_RDX] = 0;
    guest_load(g, G_DATA, elsewhere, (size_t)(elsewhere_end - elsewhere));
    GUEST_LOAD(g, call_elsewhere);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RDX] & 0xff, ==, want);
    g_assert_cmpuint(*(uint32_t *)(void *)(g->ram + G_DATA + 64), ==, 50 * 40);
    guest_free(g);
}

GUEST_CODE(fresh, "mov $1, %ebp\n"
                  "xor %ebx, %ebx\n"
                  "1: mov %ebp, %eax\n" /* 61 places, 33 bytes apart, over and over */
                  "xor %edx, %edx\n"
                  "mov $61, %ecx\n"
                  "div %ecx\n"
                  "imul $33, %edx, %edi\n"
                  "add $0x200000, %edi\n"
                  "mov %edi, %edx\n"
                  "lea 3f(%rip), %rsi\n"
                  "mov $(4f-3f), %ecx\n"
                  "rep movsb\n"
                  "mov %ebp, 7(%rdx)\n"
                  "call *%rdx\n"
                  "add %eax, %ebx\n"
                  "inc %ebp\n"
                  "cmp $5000, %ebp\n"
                  "jbe 1b\n"
                  "hlt\n"
                  "3: xor %eax, %eax\n"
                  "push $3\n"
                  "pop %rcx\n"
                  "nop\n"
                  "5: add $0x12345678, %eax\n"
                  "nop\n"
                  "crc32l %ecx, %esi\n"
                  "dec %ecx\n"
                  "jnz 5b\n"
                  "ret\n"
                  "4:");
/* Code that is written, run once and written over: its loop begins within its first block. */
static void test_fresh_code(void)
{
    struct guest *g = guest_new();
    uint32_t want = 0;

    for (uint32_t i = 1; i <= 5000; i++) {
        want += 3 * i;
    }
    GUEST_LOAD(g, fresh);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint((uint32_t)g->cpu->gpr[CPU_RBX], ==, want);
    guest_free(g);
}

/*
 * Flags that are overwritten before anybody looks at them, until a store puts LAHF in the place
 * of what overwrites them. 100 rounds store elsewhere, so the loop is translated by then.
 */
#define KILLED(name, before, store)                                                            \
    GUEST_CODE(name, "mov $100, %ebp\n"                                                        \
                     "lea 0x1000(%rsi), %rdi\n"                                                \
                     "1: mov %rsp, %rbx\n"                                                     \
                     "lea 8(%rdi), %rsp\n" /* of what pushes */                                \
                     "mov $0x9f, %ecx\n"   /* lahf, nops */                                    \
                     "xor %eax, %eax\n"                                                        \
                     "movabs $0x909090909090909f, %rcx\n"                                      \
                     "jmp 5f\n"                                                                \
                     "5: mov (%rsi), %r8\n"                                                    \
                     "mov $0x80, %dl\n"                                                        \
                     "add %dl, %dl\n" /* carry, zero, overflow, parity */                      \
                     before "mov (%rsi), %r8\n" store                                          \
                     "4: xor %eax, %eax\n"                                                     \
                     ".rept 6\nnop\n.endr\n"                                                   \
                     "mov %rbx, %rsp\n"                                                        \
                     "cmp $1, %ebp\n"                                                          \
                     "lea 4b(%rip), %r9\n"                                                     \
                     "cmove %r9, %rdi\n"                                                       \
                     "dec %ebp\n"                                                              \
                     "jns 1b\n"                                                                \
                     "hlt")
KILLED(killed_here, "", "mov %rcx, (%rdi)\n");
KILLED(killed_behind, "", "mov %rcx, (%rdi)\njmp 4f\nnop\n");
KILLED(killed_before, "jmp 2f\nnop\n2:", "mov %rcx, (%rdi)\n");
KILLED(killed_branch, "js 4f\n", "mov %rcx, (%rdi)\njs 1b\n");
KILLED(killed_push, "", "push %rcx\n");
KILLED(killed_push_before, "jmp 2f\nnop\n2:", "push %rcx\n");
KILLED(killed_string, "", "mov %rcx, %rax\nstosq\nlea -8(%rdi), %rdi\n");
static void test_killer_goes(void)
{
    static const struct {
        const uint8_t *start, *end;
    } codes[] = {
        {killed_here, killed_here_end},     {killed_behind, killed_behind_end},
        {killed_before, killed_before_end}, {killed_branch, killed_branch_end},
        {killed_push, killed_push_end},     {killed_push_before, killed_push_before_end},
        {killed_string, killed_string_end},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        struct guest *g = guest_new();

        g->cpu->gpr[CPU_RSI] = G_DATA;
        guest_load(g, G_CODE, codes[i].start, (size_t)(codes[i].end - codes[i].start));
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_test_message("case %u", i);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX] & 0xff00, ==, 0x4700);
        guest_free(g);
    }
}

GUEST_CODE(mov_imm32, "mov $0x11223344, %eax\nhlt");
/* An instruction over a page boundary, whose second page changes under it. */
static void test_page_crossing(void)
{
    struct guest *g = guest_new();
    const uint64_t at = G_CODE + 0xffe;

    guest_load(g, at, mov_imm32, (size_t)(mov_imm32_end - mov_imm32));
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x11223344);
    /* By mapping another page there. */
    memcpy(g->ram + G_DATA, g->ram + G_CODE + 0x1000, 16);
    g->ram[G_DATA] = 0x55;
    *guest_pte(g, G_CODE + 0x1000) = G_DATA | G_P | G_RW;
    guest_flush(g);
    g->cpu->rip = at;
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x11225544);
    /* By writing to it. */
    mem_write(g->fb->board.mem, G_DATA, "\x66", 1);
    g->cpu->rip = at;
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x11226644);
    /* By unmapping it: the fault names the second page. */
    *guest_pte(g, G_CODE + 0x1000) = 0;
    guest_flush(g);
    g->cpu->rip = at;
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->cr2, ==, G_CODE + 0x1000);
    g_assert_cmphex(guest_frame(g, 0), ==, CPU_PFEC_I);
    g_assert_cmphex(guest_frame(g, 1), ==, at);
    /* Another page comes there, then the one before. */
    for (unsigned i = 0; i < 2; i++) {
        *guest_pte(g, G_CODE + 0x1000) = (i == 0 ? G_CODE + 0x1000 : G_DATA) | G_P | G_RW;
        guest_flush(g);
        g->cpu->rip = at;
        g->cpu->gpr[CPU_RSP] = G_STACK;
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, i == 0 ? 0x11223344 : 0x11226644);
    }
    guest_free(g);
}

/* ebx: a function that returns what is stored to (%rdi) first, in AL; 100 rounds. */
GUEST_CODE(cross_loop, "mov $100, %ebp\n"
                       "1: mov %ebp, %ecx\n"
                       "mov %cl, (%rdi)\n"
                       "call *%rbx\n"
                       "movzbl %al, %eax\n"
                       "add %eax, %edx\n"
                       "dec %ebp\n"
                       "jnz 1b\n"
                       "hlt");
GUEST_CODE(cross_from, "mov $0, %eax\nret");
GUEST_CODE(cross_by, "movb %cl, 1f+1(%rip)\n1: mov $0, %eax\nret");
GUEST_CODE(cross_self, "1: addb $0, 1b+6(%rip)\nmovb 1b+6(%rip), %al\nret");
/* A page boundary at every byte of code that is changed from elsewhere, by the instruction
 * before, and by the very one that is run. */
static void test_page_crossing_stores(void)
{
    static const struct {
        const uint8_t *start, *end;
        unsigned patch; /* what the loop stores to */
        unsigned sum;
    } cases[] = {
        {cross_from, cross_from_end, 1, 5050},
        {cross_by, cross_by_end, 0x800, 5050},
        {cross_self, cross_self_end, 6, 10100},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        unsigned len = (unsigned)(cases[i].end - cases[i].start);

        for (unsigned k = 0; k <= len; k++) {
            struct guest *g = guest_new();
            uint64_t at = G_DATA + 0x3000 - k;

            guest_load(g, at, cases[i].start, len);
            GUEST_LOAD(g, cross_loop);
            g->cpu->gpr[CPU_RBX] = at;
            g->cpu->gpr[CPU_RDI] = at + cases[i].patch;
            g->cpu->gpr[CPU_RDX] = 0;
            g_assert_cmpint(guest_vector(g), ==, -1);
            g_test_message("case %u, %u bytes before the boundary", i, k);
            g_assert_cmpuint((uint32_t)g->cpu->gpr[CPU_RDX], ==, cases[i].sum);
            guest_free(g);
        }
    }
}

/* rdi: the entry of the second page, which is another one each time. */
GUEST_CODE(cross_remap, "mov $100, %ebp\n"
                        "1: xor %r12, (%rdi)\n"
                        "invlpg (%r13)\n"
                        "call *%rbx\n"
                        "add %eax, %edx\n"
                        "dec %ebp\n"
                        "jnz 1b\n"
                        "hlt");
static void test_page_crossing_remap(void)
{
    struct guest *g = guest_new();
    const uint64_t first = G_DATA + 0x3000, second = G_DATA + 0x8000;

    guest_load(g, first - 2, cross_from, (size_t)(cross_from_end - cross_from));
    memcpy(g->ram + second, g->ram + first, 16);
    g->ram[first] = 1; /* the second byte of the immediate */
    g->ram[second] = 3;
    GUEST_LOAD(g, cross_remap);
    g->cpu->gpr[CPU_RBX] = first - 2;
    g->cpu->gpr[CPU_RDI] = G_PT0 + (first >> 12) * 8;
    g->cpu->gpr[CPU_R12] = first ^ second;
    g->cpu->gpr[CPU_R13] = first;
    g->cpu->gpr[CPU_RDX] = 0;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint((uint32_t)g->cpu->gpr[CPU_RDX], ==, 50 * 0x300 + 50 * 0x100);
    guest_free(g);
}

/* rbx: the last byte of a page, RET, which becomes one that pops what the next page says. */
GUEST_CODE(cross_become, "mov $20, %ebp\n"
                         "mov %rsp, %r8\n"
                         "1: movb $0xc3, (%rbx)\n"
                         "call *%rbx\n"
                         "movb $0xc2, (%rbx)\n"
                         "call *%rbx\n"
                         "sub %r8, %rsp\n"
                         "add %rsp, %rcx\n"
                         "mov %r8, %rsp\n"
                         "xor %r12, (%rdi)\n"
                         "invlpg (%r13)\n"
                         "call *%rbx\n"
                         "sub %r8, %rsp\n"
                         "add %rsp, %rdx\n"
                         "mov %r8, %rsp\n"
                         "xor %r12, (%rdi)\n"
                         "invlpg (%r13)\n"
                         "dec %ebp\n"
                         "jnz 1b\n"
                         "hlt");
/* What leads to a block was made when the next page did not matter to it. */
static void test_page_crossing_late(void)
{
    struct guest *g = guest_new();
    const uint64_t first = G_DATA + 0x3000, second = G_DATA + 0x8000;

    g->ram[first] = 8;
    g->ram[second] = 24;
    GUEST_LOAD(g, cross_become);
    g->cpu->gpr[CPU_RBX] = first - 1;
    g->cpu->gpr[CPU_RDI] = G_PT0 + (first >> 12) * 8;
    g->cpu->gpr[CPU_R12] = first ^ second;
    g->cpu->gpr[CPU_R13] = first;
    g->cpu->gpr[CPU_RCX] = g->cpu->gpr[CPU_RDX] = 0;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 20 * 8);
    g_assert_cmpuint(g->cpu->gpr[CPU_RDX], ==, 20 * 24);
    guest_free(g);
}

GUEST_CODE(run_into, "inc %eax\ninc %eax\n"); /* and no end before the page's */
/* Straight code runs into an unmapped page: what came before has happened. */
static void test_fall_into_hole(void)
{
    struct guest *g = guest_new();
    const uint64_t at = G_CODE + 0x1000 - 4;

    *guest_pte(g, G_CODE + 0x1000) = 0;
    guest_load(g, at, run_into, 4);
    g->cpu->gpr[CPU_RAX] = 0;
    g_assert_cmpint(guest_vector(g), ==, CPU_PAGE_FAULT);
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 2);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 0x1000);
    guest_free(g);
}

/* More code than the cache holds: 1 Mi instructions, twice, with patches between. */
static void test_cache_overflow(void)
{
    struct guest *g = guest_new();
    const unsigned bytes = 3 << 20;
    uint64_t want = 0;

    for (unsigned i = 0; i < bytes;
         i += 2) { /* jmp +0 ends a block each; inc %eax in between */
        static const uint8_t pair[2] = {0xff, 0xc0}, jump[2] = {0xeb, 0x00};
        bool inc = i % 4 == 0;

        memcpy(g->ram + 0x400000 + i % 0x1f0000, inc ? pair : jump, 2);
    }
    g->ram[0x400000 + 0x1f0000] = 0xf4;
    for (unsigned round = 0; round < 6; round++) {
        g->cpu->gpr[CPU_RAX] = 0;
        g->cpu->rip = 0x400000;
        for (uint32_t f = 0x400; f < 0x600; f++) {
            g->ram[(f << 12) + 1] = round % 2 == 0 ? 0xc0 : 0xc3; /* inc %ebx instead */
            mem_written(g->fb->board.mem, f);
        }
        guest_run(g, EXIT_HALT);
        want = 0x1f0000 / 4 - (round % 2 == 0 ? 0 : 0x1f0);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, want);
    }
    guest_free(g);
}

GUEST_CODE16(real_code, "mov $0x1234, %ax\n"
                        "mov %ax, %ds\n"
                        "mov %ax, 0x10\n"
                        "push %ax\n"
                        "pop %bx\n"
                        "hlt");
static void test_real_mode(void)
{
    struct guest *g = guest_new();

    guest_mode16(g);
    guest_load(g, 0x7000, real_code, (size_t)(real_code_end - real_code));
    g->cpu->gpr[CPU_RSP] = 0xfff0;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RBX] & 0xffff, ==, 0x1234);
    g_assert_cmphex(guest_read64(g, 0x12350) & 0xffff, ==, 0x1234);
    guest_free(g);
}

GUEST_CODE16(real_limit, "movl $1, %ds:0xfffd");
static void test_real_limit(void)
{
    struct guest *g = guest_new();

    guest_mode16(g);
    guest_load(g, 0x7000, real_limit, (size_t)(real_limit_end - real_limit));
    g->cpu->gpr[CPU_RSP] = 0xfff0;
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    guest_free(g);
}

GUEST_CODE16(real_wrap, "jmp .+0x10\n");
/* 16-bit jumps wrap at 64 KiB. */
static void test_real_wrap(void)
{
    struct guest *g = guest_new();

    guest_mode16(g);
    guest_load(g, 0xfff8, real_wrap, (size_t)(real_wrap_end - real_wrap));
    g->ram[0x8] = 0xf4;
    g->cpu->gpr[CPU_RSP] = 0xfff0;
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->rip, ==, 9);
    guest_free(g);
}

GUEST_CODE32(flat32, "mov $0x200000, %esi\n"
                     "movl $0x80000001, (%esi)\n"
                     "mov $0xffffffff, %eax\n"
                     "add 1(%eax,%esi), %ebx\n" /* wraps */
                     "push %ebx\n"
                     "call 1f\n"
                     "hlt\n"
                     "1: pop %ecx\n"
                     "pop %edx\n"
                     "inc %edx\n"
                     "hlt");
static void test_flat32(void)
{
    struct guest *g = guest_new();

    guest_mode32(g);
    g->cpu->gpr[CPU_RBX] = 0;
    GUEST_LOAD(g, flat32);
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->gpr[CPU_RDX], ==, 0x80000002);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK);
    guest_free(g);
}

GUEST_CODE32(limit32, "mov $1, %ebx\n"
                      "mov 0x1000, %eax\n"
                      "hlt");
static void test_limit32(void)
{
    struct guest *g = guest_new();

    guest_mode32(g);
    g->cpu->seg[CPU_DS].limit = 0x1002;
    g->cpu->gpr[CPU_RBX] = 0;
    guest_load(g, 0x30000, limit32, (size_t)(limit32_end - limit32));
    g->cpu->idtr.limit = 0; /* the fault cannot be delivered: shutdown tells */
    guest_run(g, EXIT_SHUTDOWN);
    g_assert_cmpuint(g->cpu->gpr[CPU_RBX], ==, 1);
    guest_free(g);
}

GUEST_CODE(count, "mov $10, %ecx\n1: dec %ecx\njnz 1b\nhlt");
static void test_insn_count(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, count);
    guest_run(g, EXIT_HALT);
    if (g->v->accel->kick == NULL) { /* the translator does not count */
        g_assert_cmpuint(g->v->insn_count, ==, 22);
    }
    guest_free(g);
}

GUEST_CODE(recursion, "mov $20000, %edi\n"
                      "call 1f\n"
                      "hlt\n"
                      "1: push %rbx\n"
                      "mov %edi, %ebx\n"
                      "test %edi, %edi\n"
                      "je 2f\n"
                      "dec %edi\n"
                      "call 1b\n"
                      "2: add %rbx, %rax\n"
                      "pop %rbx\n"
                      "ret");
/* More returns than any predictor keeps, on a stack of many pages. */
static void test_recursion(void)
{
    struct guest *g = guest_new();

    for (unsigned i = 0; i < 3; i++) {
        g->cpu->gpr[CPU_RAX] = 0;
        g->cpu->gpr[CPU_RSP] = G_DATA + 0x180008 + i;
        GUEST_LOAD(g, recursion);
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 200010000);
        g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_DATA + 0x180008 + i);
    }
    guest_free(g);
}

GUEST_CODE(unwound, "mov $1000, %ebp\n"
                    "1: mov %rsp, %rbx\n"
                    "call 2f\n"
                    "hlt\n"
                    "2: call 3f\n"
                    "hlt\n"
                    "3: mov %rbx, %rsp\n" /* as longjmp() does */
                    "lea 4f(%rip), %rax\n"
                    "push %rax\n"
                    "cmp %eax, %eax\n"
                    "ret\n"
                    "hlt\n"
                    "4: jne 5f\n"
                    "dec %ebp\n"
                    "jnz 1b\n"
                    "mov $77, %ecx\n"
                    "5: hlt");
/* Returns to elsewhere, with the flags intact. */
static void test_unwound(void)
{
    struct guest *g = guest_new();

    GUEST_LOAD(g, unwound);
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 77);
    guest_free(g);
}

GUEST_CODE(ret_nowhere, "movabs $0x8000000000000000, %rax\n"
                        "push %rax\n"
                        "ret $16");
/* A return to a non-canonical address faults before anything happens. */
static void test_ret_nowhere(void)
{
    struct guest *g = guest_new();
    uint64_t rsp = g->cpu->gpr[CPU_RSP];

    GUEST_LOAD(g, ret_nowhere);
    g_assert_cmpint(guest_vector(g), ==, CPU_GP);
    g_assert_cmphex(guest_frame(g, 1), ==, G_CODE + 11);
    g_assert_cmphex(guest_frame(g, 4), ==, rsp - 8);
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/code/smc-next-instruction", test_smc_next);
    g_test_add_func("/interp/code/smc-in-a-loop", test_smc_loop);
    g_test_add_func("/interp/code/smc-wide-store", test_smc_wide);
    g_test_add_func("/interp/code/smc-by-string", test_smc_string);
    g_test_add_func("/interp/code/smc-by-vector-store", test_smc_vector);
    g_test_add_func("/interp/code/written-from-outside", test_outside_write);
    g_test_add_func("/interp/code/data-beside-code", test_data_beside_code);
    g_test_add_func("/interp/code/lines", test_lines);
    g_test_add_func("/interp/code/recursion", test_recursion);
    g_test_add_func("/interp/code/unwound", test_unwound);
    g_test_add_func("/interp/code/ret-nowhere", test_ret_nowhere);
    g_test_add_func("/interp/code/code-data-code", test_code_data_code);
    g_test_add_func("/interp/code/fresh-code", test_fresh_code);
    g_test_add_func("/interp/code/killer-of-flags-goes", test_killer_goes);
    g_test_add_func("/interp/code/page-crossing", test_page_crossing);
    g_test_add_func("/interp/code/page-crossing-stores", test_page_crossing_stores);
    g_test_add_func("/interp/code/page-crossing-remap", test_page_crossing_remap);
    g_test_add_func("/interp/code/page-crossing-late", test_page_crossing_late);
    g_test_add_func("/interp/code/fall-into-hole", test_fall_into_hole);
    g_test_add_func("/interp/code/cache-overflow", test_cache_overflow);
    g_test_add_func("/interp/code/real-mode", test_real_mode);
    g_test_add_func("/interp/code/real-mode-limit", test_real_limit);
    g_test_add_func("/interp/code/real-mode-wrap", test_real_wrap);
    g_test_add_func("/interp/code/flat-32", test_flat32);
    g_test_add_func("/interp/code/limit-32", test_limit32);
    g_test_add_func("/interp/code/instruction-count", test_insn_count);
    return g_test_run();
}
