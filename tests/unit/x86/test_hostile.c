/* SPDX-License-Identifier: MIT */
/*
 * A guest that does anything: random system instructions on random registers, tables and modes.
 * Nothing may crash, a reported fault must leave the CPU as it was, and every fault must be
 * deliverable or a triple fault. Run under the sanitizers this is the room's cheap fuzzer.
 */
#include <string.h>

#include "x86_guest.h"

enum { ROUNDS = 15000, STEPS = 8 };

static uint64_t random_raw(GRand *rand)
{
    return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
}

static uint64_t random_value(GRand *rand)
{
    uint64_t wide = random_raw(rand);

    switch (g_rand_int_range(rand, 0, 6)) {
    case 0:
        return wide;
    case 1:
        return g_rand_int_range(rand, 0, 0x200); /* selectors, counts */
    case 2:
        return g_rand_int_range(rand, 0, G_RAM);
    case 3:
        return 0xffff800000000000ull | (wide & 0xffffffff);
    case 4:
        return (uint64_t)g_rand_int_range(rand, 0, 0x20) << 12;
    default:
        return G_DATA + (uint64_t)g_rand_int_range(rand, 0, 0x1000) * 8;
    }
}

/* Two- and one-byte opcodes where system instructions live, with random prefixes and ModRM. */
static size_t random_insn(GRand *rand, uint8_t bytes[INSN_MAX_LEN])
{
    static const uint8_t one[] = {
        0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x63, 0x6c, 0x6d, 0x6e, 0x6f, 0x8c, 0x8e,
        0x9a, 0x9c, 0x9d, 0xc4, 0xc5, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xe4, 0xe7, 0xea,
        0xec, 0xef, 0xf1, 0xf4, 0xfa, 0xfb, 0xff,
    };
    static const uint8_t two[] = {
        0x00, 0x00, 0x01, 0x01, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x09, 0x20, 0x21,
        0x22, 0x23, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa,
        0xae, 0xae, 0xae, 0xb2, 0xb4, 0xb5, 0xc7, 0xc7,
    };
    size_t n = 0;

    if (g_rand_int_range(rand, 0, 3) == 0) {
        static const uint8_t prefixes[] = {0x66, 0x67, 0xf3, 0xf2, 0x64, 0x36};

        bytes[n++] = prefixes[g_rand_int_range(rand, 0, G_N_ELEMENTS(prefixes))];
    }
    if (g_rand_boolean(rand)) {
        bytes[n++] = 0x48;
    }
    if (g_rand_int_range(rand, 0, 3) == 0) {
        bytes[n++] = one[g_rand_int_range(rand, 0, G_N_ELEMENTS(one))];
    } else {
        bytes[n++] = 0x0f;
        bytes[n++] = two[g_rand_int_range(rand, 0, G_N_ELEMENTS(two))];
    }
    while (n < INSN_MAX_LEN) {
        bytes[n++] = (uint8_t)g_rand_int(rand);
    }
    return n;
}

static void scramble(struct guest *g, GRand *rand)
{
    struct cpu_x86 *cpu = g->cpu;

    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        cpu->gpr[i] = random_value(rand);
    }
    cpu->rflags = (cpu->rflags & CPU_VM) | 2 | (g_rand_int(rand) & 0x247ed5);
    if (g_rand_int_range(rand, 0, 3) == 0) {
        /* Descriptors, gates and tables of nonsense. */
        unsigned at = (unsigned)g_rand_int_range(rand, 0, 0x4000) & ~7u;

        guest_put(g, G_PML4 + at, random_value(rand), 8);
        guest_put(g, G_GDT + (at & 0xf8), random_raw(rand), 8);
        guest_put(g, G_IDT + (at & 0xff8), random_raw(rand), 8);
        guest_put(g, G_TSS + (at & 0x78), random_value(rand), 8);
    }
}

/* false: the guest is dead (triple fault). */
static bool hostile_step(struct guest *g, GRand *rand, unsigned *done)
{
    uint8_t bytes[INSN_MAX_LEN];
    struct cpu_x86 before;
    struct x86_fault fault = {0};
    struct insn in;
    bool ok = false;

    scramble(g, rand);
    random_insn(rand, bytes);
    if (insn_decode(&in, x86_insn_mode(g->cpu), bytes, sizeof(bytes)) != INSN_OK ||
        (in.flags & INSN_F_SYSTEM) == 0) {
        return true;
    }
    memcpy(&before, g->cpu, sizeof(before));
    ok = x86_system_insn(g->v, &in, &fault);
    if (!ok && in.id != INSN_INS && in.id != INSN_OUTS) {
        g_assert_cmpmem(&before, sizeof(before), g->cpu, sizeof(before));
    }
    if (!ok) {
        g_assert_cmpuint(fault.vector, <, 32);
        return x86_raise(g->v, &fault);
    }
    done[in.id]++;
    g_assert_cmpuint(g->cpu->cpl, <, 4);
    g_assert_true((g->cpu->rflags & 2) != 0);
    g_assert_true(!cpu_is_long_mode(g->cpu) || (g->cpu->cr0 & CPU_CR0_PG) != 0);
    return x86_interrupt(g->v, (uint8_t)g_rand_int(rand));
}

static void test_hostile(gconstpointer data)
{
    GRand *rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data) + 77);
    enum guest_mode mode = (enum guest_mode)GPOINTER_TO_INT(data);
    struct guest *g = guest_new(mode);
    unsigned done[INSN_NR] = {0}, ids = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        guest_reset(g, mode);
        for (unsigned v = 0; v < 32; v++) {
            guest_gate(g, v, cpu_is_long_mode(g->cpu) ? SEL_CODE64 : SEL_CODE32, 0x31000,
                       DESC_SYS_INT, 3, 0);
        }
        if (!x86_is_real_style(g->cpu) && g_rand_boolean(rand)) {
            guest_to_user(g);
        }
        for (unsigned s = 0; s < STEPS && hostile_step(g, rand, done); s++) {
        }
    }
    for (unsigned id = 0; id < INSN_NR; id++) {
        ids += done[id] != 0;
    }
    g_test_message("%u different instructions were carried out", ids);
    g_assert_cmpuint(ids, >, 30); /* or it tests nothing */
    guest_free(g);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/x86/hostile/real", GINT_TO_POINTER(GUEST_REAL), test_hostile);
    g_test_add_data_func("/x86/hostile/protected", GINT_TO_POINTER(GUEST_PROT), test_hostile);
    g_test_add_data_func("/x86/hostile/pae", GINT_TO_POINTER(GUEST_PAE), test_hostile);
    g_test_add_data_func("/x86/hostile/long", GINT_TO_POINTER(GUEST_LONG), test_hostile);
    g_test_add_data_func("/x86/hostile/compatibility", GINT_TO_POINTER(GUEST_COMPAT),
                         test_hostile);
    g_test_add_data_func("/x86/hostile/v86", GINT_TO_POINTER(GUEST_V86), test_hostile);
    return g_test_run();
}
