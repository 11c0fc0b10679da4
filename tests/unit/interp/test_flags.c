/* SPDX-License-Identifier: MIT */
/*
 * Flags over a memory access: checks that the translator makes overwrite EFLAGS, and what an
 * instruction left there has to be found again by what is behind the access, by the handler of
 * a fault of the access, and where a store has changed what comes next.
 */
#include <inttypes.h>

#include "guest.h"

enum { STATUS = 0x8d5 };

static const uint64_t values[] = {0,
                                  1,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  0x8000000000000000,
                                  0x7fffffffffffffff,
                                  0xffffffffffffffff,
                                  0x0f0f,
                                  0x10};

/* Alone, and with a load behind it. */
#define CASE(name, text)                                                                       \
    GUEST_CODE(name##_alone, text "\npushfq\npop %r13\nint3");                                 \
    GUEST_CODE(name##_load, text "\nmov (%rsi), %r12\npushfq\npop %r13\nint3");                \
    GUEST_CODE(name##_vector, text "\nmovsd (%rsi), %xmm1\npushfq\npop %r13\nint3");           \
    GUEST_CODE(name##_aligned, text "\nmovaps (%rsi), %xmm1\npushfq\npop %r13\nint3");         \
    GUEST_CODE(name##_store,                                                                   \
               text "\nmov %r8, (%rdi)\njmp 1f\n1: xor %ecx, %ecx\nint3\nint3\nint3\n"         \
                    "int3")

CASE(cmp8, "cmp %bl, %ah");
CASE(cmp64, "cmp %r10, %r9");
CASE(cmp_imm, "cmpw $0x7fff, %r11w");
CASE(test32, "test %ebx, %eax");
CASE(test_one, "test %r10, %r10");
CASE(add64, "add %rbx, %rax");
CASE(add32, "add %r11d, %r10d");
CASE(add_imm, "add $-0x80, %r9");
CASE(add_large, "add $0x7fffffff, %eax");
CASE(sub64, "sub %rbx, %rax");
CASE(sub32, "sub %ebx, %r9d");
CASE(sub_imm, "sub $1, %r15d");
CASE(and64, "and %rbx, %rax");
CASE(or32, "or %r10d, %eax");
CASE(xor64, "xor %rax, %r11");
CASE(xor_same, "xor %eax, %eax");
CASE(neg64, "neg %r10");
CASE(neg32, "neg %eax");
CASE(double, "add %eax, %eax");
CASE(shift, "cmp %rbx, %rax\nshl $3, %rax");
CASE(rotate, "cmp %rbx, %rax\nrol $3, %rax");
CASE(multiply, "cmp %rbx, %rax\nimul %rbx, %rax");
CASE(count, "cmp %rbx, %rax\ninc %rax");
CASE(moved, "cmp %rbx, %rax\nmov %rcx, %rax");
CASE(loaded, "cmp %rbx, %rax\nmov (%rsi), %rbx");

struct flags_code {
    const uint8_t *start, *end;
};
#define CODE(name)                                                                             \
    {                                                                                          \
        name, name##_end                                                                       \
    }
#define CODES(name)                                                                            \
    {                                                                                          \
        CODE(name##_alone), CODE(name##_load), CODE(name##_vector), CODE(name##_aligned),      \
            CODE(name##_store)                                                                 \
    }
enum { ALONE, LOAD, VECTOR, ALIGNED, STORE, NR_CODES };
static const struct flags_code codes[][NR_CODES] = {
    CODES(cmp8),     CODES(cmp64),    CODES(cmp_imm), CODES(test32),    CODES(test_one),
    CODES(add64),    CODES(add32),    CODES(add_imm), CODES(add_large), CODES(sub64),
    CODES(sub32),    CODES(sub_imm),  CODES(and64),   CODES(or32),      CODES(xor64),
    CODES(xor_same), CODES(neg64),    CODES(neg32),   CODES(double),    CODES(shift),
    CODES(rotate),   CODES(multiply), CODES(count),   CODES(moved),     CODES(loaded),
};

static int flags_run(struct guest *g, bool user, uint64_t a, uint64_t b)
{
    uint64_t *gpr = g->cpu->gpr;

    if (user) {
        guest_user(g);
    }
    gpr[CPU_RAX] = gpr[CPU_R9] = gpr[CPU_R11] = gpr[CPU_R15] = a;
    gpr[CPU_RBX] = gpr[CPU_R10] = b;
    gpr[CPU_RCX] = 77;
    gpr[CPU_RSI] = G_DATA;
    gpr[CPU_RSP] = G_STACK - 0x800;
    g->cpu->rip = G_CODE;
    g->cpu->rflags |= STATUS;
    return guest_vector(g);
}

static void flags_load(struct guest *g, const struct flags_code *code)
{
    guest_load(g, G_CODE, code->start, (size_t)(code->end - code->start));
}

/* R13 of the code alone. */
static uint64_t flags_alone(struct guest *g, const struct flags_code *code, bool user,
                            uint64_t a, uint64_t b)
{
    flags_load(g, &code[ALONE]);
    g_assert_cmpint(flags_run(g, user, a, b), ==, CPU_BP);
    return g->cpu->gpr[CPU_R13] & STATUS;
}

/* The same behind a load, and on the stack of its fault. */
static void over_load(struct guest *g, unsigned number, unsigned kind, bool user)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
        for (unsigned k = 0; k < G_N_ELEMENTS(values); k++) {
            uint64_t a = values[i], b = values[k], want;
            bool faults = codes[number][LOAD].start != loaded_load;

            g_test_message("case %u, user %d, %#" PRIx64 " %#" PRIx64, number, user, a, b);
            want = flags_alone(g, codes[number], user, a, b);
            flags_load(g, &codes[number][kind]);
            for (unsigned n = 0; n < 2; n++) {
                g_assert_cmpint(flags_run(g, user, a, b), ==, CPU_BP);
                g_assert_cmphex(g->cpu->gpr[CPU_R13] & STATUS, ==, want);
            }
            *guest_pte(g, G_DATA) &= ~(uint64_t)G_P;
            guest_flush(g);
            g_assert_cmpint(flags_run(g, user, a, b), ==, CPU_PAGE_FAULT);
            if (faults) {
                g_assert_cmphex(guest_frame(g, 3) & STATUS, ==, want);
            }
            *guest_pte(g, G_DATA) |= G_P;
            guest_flush(g);
        }
    }
}

static void test_load(void)
{
    struct guest *g = guest_new();

    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        for (unsigned kind = LOAD; kind <= ALIGNED; kind++) {
            over_load(g, i, kind, false);
            over_load(g, i, kind, true);
        }
    }
    guest_free(g);
}

/* PUSHFQ; POP %R13; INT3: over the XOR that would have overwritten them. */
#define LOOK UINT64_C(0xcc5d419c)

static void over_store(struct guest *g, unsigned number, bool user, uint64_t a, uint64_t b)
{
    const struct flags_code *code = &codes[number][STORE];
    uint64_t want = flags_alone(g, codes[number], user, a, b), old;
    uint64_t at = G_CODE + (uint64_t)(code->end - code->start) - 6;

    g_test_message("case %u, user %d, %#" PRIx64 " %#" PRIx64, number, user, a, b);
    flags_load(g, code);
    old = guest_read64(g, at);
    for (unsigned n = 0; n < 3; n++) {
        g->cpu->gpr[CPU_RDI] = G_DATA; /* elsewhere */
        g_assert_cmpint(flags_run(g, user, a, b), ==, CPU_BP);
    }
    g->cpu->gpr[CPU_RDI] = at;
    g->cpu->gpr[CPU_R8] = (old & ~UINT64_C(0xffffffff)) | LOOK;
    g->cpu->gpr[CPU_R13] = ~want;
    g_assert_cmpint(flags_run(g, user, a, b), ==, CPU_BP);
    g_assert_cmphex(g->cpu->gpr[CPU_R13] & STATUS, ==, want);
}

static void test_store(void)
{
    struct guest *g = guest_new();

    for (unsigned n = 0; n < G_N_ELEMENTS(codes); n++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(values); i += 3) {
            for (unsigned k = 0; k < G_N_ELEMENTS(values); k += 2) {
                over_store(g, n, false, values[i], values[k]);
                over_store(g, n, true, values[i], values[k]);
            }
        }
    }
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    g_test_add_func("/interp/flags/over-a-load", test_load);
    g_test_add_func("/interp/flags/over-a-store", test_store);
    return g_test_run();
}
