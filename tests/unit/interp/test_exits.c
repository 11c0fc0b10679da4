/* SPDX-License-Identifier: MIT */
/*
 * From one page of code to another: what was found there last must not be met again when the
 * page tables say something else. Calls and jumps, direct and by a register, often enough for all
 * that the translator does about them.
 */
#include "cpu/interp/engine.h"
#include "guest.h"

enum { AWAY = G_CODE + 0x80000, OTHER = G_CODE + 0x90000, ROUND = 400, SPACE = 0x30000 };

/* A jump that comes back by RET. */
#define EXITS_VIA(jump)                                                                        \
    "lea 3f(%rip), %rdx\n"                                                                     \
    "push %rdx\n" jump "\n"                                                                    \
    "3:\n"

/*
 * Goes ROUND times many ways to AWAY, RBX, where EAX is added to: calls; jumps; past the end of the
 * page before; with flags that are looked at there.
 */
#define EXITS_ROUND(name)                                                                      \
    "lea 16(%rbx), %rsi\n"                                                                     \
    "1: mov $400, %ecx\n"                                                                      \
    "2: call " #name " + 0x80000\n"                                                            \
    "call *%rbx\n"                                                                             \
    EXITS_VIA("jmp " #name " + 0x80000")                                                       \
    EXITS_VIA("jmp *%rbx")                                                                     \
    EXITS_VIA("test %ecx, %ecx\njnz " #name " + 0x80000")                                      \
    EXITS_VIA("jmp " #name " + 0x80000 - 8")                                                   \
    EXITS_VIA("stc\njmp " #name " + 0x80010")                                                  \
    EXITS_VIA("cmp $-1, %ecx\njmp *%rsi")                                                      \
    EXITS_VIA("stc\njc " #name " + 0x80010")                                                   \
    "stc\n"                                                                                    \
    "call *%rsi\n"                                                                             \
    "dec %ecx\n"                                                                               \
    "jnz 2b\n"
enum { WAYS = 10 };

GUEST_CODE(exits_user, EXITS_ROUND(exits_user) "hlt");

/* RDI: the entry of AWAY, which R12 makes lead elsewhere; R8D: how that is told. */
GUEST_CODE(exits_remap, EXITS_ROUND(exits_remap) "xor %r12, (%rdi)\n"
                                                 "test %r8d, %r8d\n"
                                                 "jnz 5f\n"
                                                 "invlpg (%rbx)\n"
                                                 "jmp 6f\n"
                                                 "5: mov %cr3, %rdx\n"
                                                 "mov %rdx, %cr3\n"
                                                 "6: dec %ebp\n"
                                                 "jnz 1b\n"
                                                 "hlt");

/* R14, R15: CR3, which takes turns. */
GUEST_CODE(exits_spaces, EXITS_ROUND(exits_spaces) "xchg %r14, %r15\n"
                                                   "mov %r14, %cr3\n"
                                                   "dec %ebp\n"
                                                   "jnz 1b\n"
                                                   "hlt");

GUEST_CODE(exits_one, "lea 1(%rax), %eax\n"
                      "ret\n"
                      ".fill 12, 1, 0x90\n"
                      "adc $0, %eax\n"
                      "ret");
GUEST_CODE(exits_many, "add $0x10000, %eax\n"
                       "ret\n"
                       ".fill 10, 1, 0x90\n"
                       "lea 0xffff(%rax), %eax\n"
                       "adc $0, %eax\n"
                       "ret");
/* The end of the page before; the next one does not look at the flags. */
GUEST_CODE(exits_end, "cmp %rax, %rbx\n"
                      "mov %ecx, %edx\n"
                      "add %edx, %edx\n"
                      ".fill 1, 1, 0x90");

static struct guest *exits_new(const uint8_t *code, size_t len)
{
    struct guest *g = guest_new();

    g_assert_cmpuint((size_t)(exits_end_end - exits_end), ==, 8);
    guest_load(g, AWAY, exits_one, (size_t)(exits_one_end - exits_one));
    guest_load(g, OTHER, exits_many, (size_t)(exits_many_end - exits_many));
    guest_load(g, AWAY - 8, exits_end, (size_t)(exits_end_end - exits_end));
    guest_load(g, G_CODE, code, len);
    g->cpu->gpr[CPU_RBX] = AWAY;
    g->cpu->gpr[CPU_RAX] = 0;
    return g;
}

/* The page is another one each round, by INVLPG, by MOV CR3, and for global pages. */
static void test_remapped(void)
{
    for (unsigned how = 0; how < 3; how++) {
        struct guest *g = exits_new(exits_remap, (size_t)(exits_remap_end - exits_remap));

        if (how == 2) {
            g->cpu->cr4 |= CPU_CR4_PGE;
            *guest_pte(g, AWAY) |= G_G;
        }
        guest_flush(g);
        g->cpu->gpr[CPU_RDI] = G_PT0 + (AWAY >> 12) * 8;
        g->cpu->gpr[CPU_R12] = AWAY ^ OTHER;
        g->cpu->gpr[CPU_R8] = how == 1;
        g->cpu->gpr[CPU_RBP] = 4;
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 2 * WAYS * ROUND * 0x10001);
        guest_free(g);
    }
}

/* A second set of tables, where AWAY is OTHER; its CR3. */
static uint64_t exits_space(struct guest *g)
{
    static const uint64_t levels[] = {G_PML4, G_PDPT, G_PD, G_PT0};
    enum { NR = G_N_ELEMENTS(levels) };

    for (unsigned i = 0; i < NR; i++) {
        memcpy(g->ram + SPACE + i * MEM_PAGE_SIZE, g->ram + levels[i], MEM_PAGE_SIZE);
    }
    for (unsigned i = 0; i + 1 < NR; i++) {
        uint64_t flags = guest_read64(g, levels[i]) & (MEM_PAGE_SIZE - 1);

        guest_write64(g, SPACE + i * MEM_PAGE_SIZE, (SPACE + (i + 1) * MEM_PAGE_SIZE) | flags);
    }
    *(uint64_t *)(void *)(g->ram + SPACE + 3 * MEM_PAGE_SIZE + (AWAY >> 12) * 8) ^=
        AWAY ^ OTHER;
    return SPACE;
}

/* Two address spaces take turns, with PCIDs, whose translations stay, and without. */
static void test_spaces(void)
{
    for (unsigned pcid = 0; pcid < 2; pcid++) {
        struct guest *g = exits_new(exits_spaces, (size_t)(exits_spaces_end - exits_spaces));
        uint64_t keep = pcid != 0 ? 1ull << 63 : 0;

        g->cpu->cr4 |= pcid != 0 ? CPU_CR4_PCIDE : 0;
        g->cpu->gpr[CPU_R14] = G_PML4 | keep;
        g->cpu->gpr[CPU_R15] = exits_space(g) | pcid | keep;
        g->cpu->gpr[CPU_RBP] = 6;
        guest_flush(g);
        g_assert_cmpint(guest_vector(g), ==, -1);
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 3 * WAYS * ROUND * 0x10001);
        guest_free(g);
    }
}

/* The same of user code, between whose rounds the page or the space is changed. */
static void test_user(void)
{
    for (unsigned pcid = 0; pcid < 3; pcid++) {
        struct guest *g = exits_new(exits_user, (size_t)(exits_user_end - exits_user));
        uint64_t space = exits_space(g);

        g->cpu->cr4 |= pcid == 1 ? CPU_CR4_PCIDE : 0;
        guest_flush(g);
        for (unsigned i = 0; i < 6; i++) {
            guest_user(g);
            g->cpu->rip = G_CODE;
            g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
            g_assert_cmpint(guest_vector(g), ==, CPU_GP);
            if (pcid < 2) {
                g->cpu->cr3 = (g->cpu->cr3 ^ G_PML4 ^ space) ^ pcid;
                interp_accel_ops.tlb_flush(
                    g->v, pcid != 0 ? VCPU_FLUSH_NOTHING : VCPU_FLUSH_NONGLOBAL, 0);
            } else {
                *guest_pte(g, AWAY) ^= AWAY ^ OTHER;
                interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_PAGE, AWAY);
            }
        }
        g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 3 * WAYS * ROUND * 0x10001);
        guest_free(g);
    }
}

GUEST_CODE(exits_zero, "xor %ebx, %ebx\n"
                       "mov $400, %ecx\n"
                       "1: invlpg (%rbx)\n"
                       "call *%rbx\n"
                       "xor $0x1000, %ebx\n"
                       "call *%rbx\n"
                       "xor $0x1000, %ebx\n"
                       "dec %ecx\n"
                       "jnz 1b\n"
                       "hlt");
/* Code at the addresses that empty entries of the table of jumps stand for. */
static void test_zero(void)
{
    struct guest *g = exits_new(exits_zero, (size_t)(exits_zero_end - exits_zero));

    guest_load(g, AWAY + 0x1000, exits_many, (size_t)(exits_many_end - exits_many));
    *guest_pte(g, 0) = AWAY | (*guest_pte(g, 0) & (MEM_PAGE_SIZE - 1));
    *guest_pte(g, 0x1000) = (AWAY + 0x1000) | (*guest_pte(g, 0x1000) & (MEM_PAGE_SIZE - 1));
    guest_flush(g);
    g->cpu->rip = G_CODE;
    g_assert_cmpint(guest_vector(g), ==, -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, ROUND * 0x10001);
    guest_free(g);
}

/* One of eight places in turn, of which some look at the flags that the jump comes with. */
#define EXITS_CASE(text) "3: " text "\njmp 9f\n.org 3b + 16, 0x90\n"
#define EXITS_CASES                                                                            \
    EXITS_CASE("add $0x10000, %eax")                                                           \
    EXITS_CASE("adc $0, %eax")                                                                 \
    EXITS_CASE("lea 0x10000(%rax), %eax\nadc $0, %eax")                                        \
    EXITS_CASE("add $0x10000, %eax")                                                           \
    EXITS_CASE("test %eax, %eax\nlea 0x10000(%rax), %eax")                                     \
    EXITS_CASE("adc $0, %eax")                                                                 \
    EXITS_CASE("add $0x10000, %eax")                                                           \
    EXITS_CASE("jnc 9f\ninc %eax")
GUEST_CODE(exits_switch, "lea 2f(%rip), %rbx\n"
                         "xor %ecx, %ecx\n"
                         "1: inc %ecx\n"
                         "and $7, %ecx\n"
                         "mov %ecx, %edx\n"
                         "shl $4, %edx\n"
                         "add %rbx, %rdx\n"
                         "cmp %ebp, %esi\n"
                         "jmp *%rdx\n"
                         "2:\n" EXITS_CASES "9: dec %ebp\n"
                         "jnz 1b\n"
                         "hlt");

static void exits_switched(bool user)
{
    enum { CARRY = 1000, TURNS = 4000 };
    static const uint32_t adds[] = {0x10000, 0, 0x10000, 0x10000, 0x10000, 0, 0x10000, 0};
    static const uint32_t carries[] = {0, 1, 1, 0, 0, 1, 0, 1};
    struct guest *g = guest_new();
    uint32_t want = 0;

    GUEST_LOAD(g, exits_switch);
    if (user) {
        guest_user(g);
        g->cpu->gpr[CPU_RSP] = G_STACK - 0x800;
    }
    g->cpu->gpr[CPU_RAX] = 0;
    g->cpu->gpr[CPU_RBP] = TURNS;
    g->cpu->gpr[CPU_RSI] = CARRY;
    for (uint32_t turn = 1, left = TURNS; left > 0; turn++, left--) {
        want += adds[turn % 8] + (CARRY < left ? carries[turn % 8] : 0);
    }
    g_assert_cmpint(guest_vector(g), ==, user ? CPU_GP : -1);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, want);
    guest_free(g);
}

static void test_switched(void)
{
    exits_switched(false);
    exits_switched(true);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/exits/remapped", test_remapped);
    g_test_add_func("/interp/exits/spaces", test_spaces);
    g_test_add_func("/interp/exits/user", test_user);
    g_test_add_func("/interp/exits/address-zero", test_zero);
    g_test_add_func("/interp/exits/switched", test_switched);
    return g_test_run();
}
