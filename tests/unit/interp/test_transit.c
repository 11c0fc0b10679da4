/* SPDX-License-Identifier: MIT */
/*
 * The short ways of transit.c against cpu/x86: from random states both must do the same, or the
 * short way must have changed nothing.
 */
#include "cpu/interp/engine.h"

#include "guest.h"

enum { ROUNDS = 4000, KEPT_START = G_IDT, KEPT_BYTES = 0x4000, STACK_BYTES = 0x2000 };

struct state {
    struct cpu_x86 cpu;
    uint8_t tables[KEPT_BYTES], stack[STACK_BYTES];
};

struct test {
    struct guest *g;
    struct interp *e;
    GRand *rand;
    struct cpu_model *model;
    struct state before, fast, general;
    unsigned done, refused;
};

static bool test_chance(struct test *t, unsigned one_in)
{
    return g_rand_int_range(t->rand, 0, (gint32)one_in) == 0;
}

static uint64_t test_random64(struct test *t)
{
    return (uint64_t)g_rand_int(t->rand) << 32 | g_rand_int(t->rand);
}

/* Mostly canonical, of the kernel's or the program's half. */
static uint64_t test_address(struct test *t)
{
    uint64_t val = test_random64(t) >> 17;

    if (test_chance(t, 8)) {
        return test_random64(t);
    }
    return test_chance(t, 2) ? val : ~val;
}

static void test_save(const struct test *t, struct state *s)
{
    s->cpu = *t->g->cpu;
    memcpy(s->tables, t->g->ram + KEPT_START, KEPT_BYTES);
    memcpy(s->stack, t->g->ram + G_STACK - STACK_BYTES / 2, STACK_BYTES);
}

static void test_restore(struct test *t)
{
    *t->g->cpu = t->before.cpu;
    memcpy(t->g->ram + KEPT_START, t->before.tables, KEPT_BYTES);
    memcpy(t->g->ram + G_STACK - STACK_BYTES / 2, t->before.stack, STACK_BYTES);
}

static void test_descriptors(struct test *t)
{
    struct guest *g = t->g;

    guest_write64(g, G_GDT + G_SEL_CODE, 0x00af9b000000ffff);
    guest_write64(g, G_GDT + G_SEL_DATA, 0x00cf93000000ffff);
    guest_write64(g, G_GDT + 0x18, 0x00cff3000000ffff);
    guest_write64(g, G_GDT + 0x20, 0x00affb000000ffff);
    if (test_chance(t, 6)) { /* not accessed, another DPL, 32-bit, not present ... */
        unsigned bit = 40 + (unsigned)g_rand_int_range(t->rand, 0, 16);
        uint64_t at = G_GDT + 8 * (uint64_t)g_rand_int_range(t->rand, 1, 5);

        guest_write64(g, at, guest_read64(g, at) ^ 1ull << bit);
    }
}

static void test_gate(struct test *t, unsigned vector)
{
    uint64_t offset = test_address(t);
    uint64_t access = test_chance(t, 2) ? 0x8e : 0xef, ist = test_chance(t, 8);
    uint64_t selector = test_chance(t, 8) ? 0x20 : G_SEL_CODE + (test_chance(t, 8) ? 3 : 0);

    if (test_chance(t, 12)) {
        access ^= 1u << g_rand_int_range(t->rand, 0, 8);
    }
    guest_write64(t->g, G_IDT + vector * 16,
                  (offset & 0xffff) | selector << 16 | ist << 32 | access << 40 |
                      (offset >> 16 & 0xffff) << 48);
    guest_write64(t->g, G_IDT + vector * 16 + 8, offset >> 32);
}

static void test_frame(struct test *t)
{
    static const uint16_t cs[] = {0x23, 0x23, 0x08, 0x08, 0x1b, 0x0b, 0, 0x33, 0xfffb};
    static const uint16_t ss[] = {0x1b, 0x1b, 0x10, 0, 0x13, 0x18, 3, 0x0c};
    uint64_t at = t->g->cpu->gpr[CPU_RSP] & 0x3ffff8;
    bool usual = !test_chance(t, 3), user = test_chance(t, 2);

    guest_write64(t->g, at, test_address(t));
    guest_write64(t->g, at + 8,
                  usual ? (user ? 0x23 : G_SEL_CODE)
                        : cs[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(cs))]);
    guest_write64(t->g, at + 16,
                  test_random64(t) & (test_chance(t, 4) ? UINT64_MAX : 0x2d5 | CPU_RF));
    guest_write64(t->g, at + 24, test_address(t));
    guest_write64(t->g, at + 32,
                  usual ? (user ? 0x1b : G_SEL_DATA)
                        : ss[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(ss))]);
}

static void test_segments(struct test *t)
{
    struct cpu_x86 *cpu = t->g->cpu;
    bool user = test_chance(t, 2);

    cpu->cpl = user ? 3 : 0;
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){
            .selector = user ? 0x1b : G_SEL_DATA, .attr = user ? 0xc0f3 : 0xc093,
            .limit = UINT32_MAX, .base = i < CPU_FS ? 0 : test_address(t)};
        if (i != CPU_SS && i != CPU_CS && !test_chance(t, 6)) {
            cpu->seg[i].unusable = true;
        }
    }
    cpu->seg[CPU_CS].selector = user ? 0x23 : G_SEL_CODE;
    cpu->seg[CPU_CS].attr = user ? 0xa0fb : 0xa09b;
    cpu->seg[CPU_CS].base = 0;
}

static void test_randomise(struct test *t)
{
    static const uint32_t msrs[] = {0xc0000100, 0xc0000101, 0xc0000102, 0x10, 0xc0000081};
    struct cpu_x86 *cpu = t->g->cpu;

    test_segments(t);
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        cpu->gpr[i] = test_address(t);
    }
    cpu->gpr[CPU_RSP] = G_STACK - (uint64_t)g_rand_int_range(t->rand, -20, 520) * 8;
    if (test_chance(t, 2)) {
        cpu->gpr[CPU_RCX] = msrs[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(msrs))];
        cpu->gpr[CPU_RDX] &= 0xffffffff00007fff;
    }
    cpu->rip = G_CODE;
    cpu->rflags = (test_random64(t) & (CPU_STATUS_FLAGS | CPU_IF | CPU_DF | CPU_ID)) | 2;
    if (test_chance(t, 4)) {
        cpu->rflags |= test_random64(t) & (CPU_IOPL | CPU_NT | CPU_AC);
    }
    cpu->cr0 ^= test_random64(t) & CPU_CR0_AM;
    cpu->cr4 = (cpu->cr4 & ~(uint64_t)(CPU_CR4_SMAP | CPU_CR4_TSD)) | CPU_CR4_FSGSBASE |
               (test_chance(t, 4) ? CPU_CR4_TSD : 0);
    cpu->efer = (cpu->efer & ~(uint64_t)CPU_EFER_SCE) | !test_chance(t, 8);
    cpu->star = test_random64(t);
    cpu->lstar = test_address(t);
    cpu->fmask = g_rand_int(t->rand) | CPU_TF;
    cpu->kernel_gs_base = test_address(t);
    cpu->tsc_aux = g_rand_int(t->rand);
    cpu->tr.limit = test_chance(t, 8) ? 10 : 0x67;
    cpu->nmi_blocked = test_chance(t, 2);
    cpu->irq_shadow = false;
    guest_write64(t->g, G_TSS + 4, G_STACK - (uint64_t)g_rand_int_range(t->rand, 0, 512) * 8);
    test_descriptors(t);
    test_frame(t);
    t->g->v->model = test_chance(t, 2) ? t->model : NULL;
    t->e->amd = t->g->v->model != NULL && cpu_model_is_amd(t->model);
    interp_flags_fetch(t->e);
    interp_mode_changed(t->e);
    t->e->sti_rip = 0;
}

/* What the short way left in the engine is what interp_mode_changed() makes of the state. */
static void test_engine(struct test *t)
{
    struct interp *e = t->e;
    struct tlb *tlb = e->tlb;
    uint64_t key = e->jump_key, global = e->jump_key_global;
    uint32_t mask = e->request_mask, missing = e->native_missing;
    uint8_t mode = e->mode;

    interp_mode_changed(e);
    g_assert_true(tlb == e->tlb);
    g_assert_cmphex(key, ==, e->jump_key);
    g_assert_cmphex(global, ==, e->jump_key_global);
    g_assert_cmphex(mask, ==, e->request_mask);
    g_assert_cmphex(missing, ==, e->native_missing);
    g_assert_cmphex(mode, ==, e->mode);
}

static void test_compare(struct test *t, const struct state *a, const struct state *b)
{
    const struct cpu_x86 *x = &a->cpu, *y = &b->cpu;

    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        g_assert_cmphex(x->gpr[i], ==, y->gpr[i]);
    }
    g_assert_cmphex(x->rip, ==, y->rip);
    g_assert_cmphex(x->rflags, ==, y->rflags);
    guest_same_segments(x, y);
    g_assert_cmphex(x->cr0, ==, y->cr0);
    g_assert_cmphex(x->cr2, ==, y->cr2);
    g_assert_cmphex(x->cr4, ==, y->cr4);
    g_assert_cmphex(x->kernel_gs_base, ==, y->kernel_gs_base);
    g_assert_cmpint(x->cpl, ==, y->cpl);
    g_assert_true(x->irq_shadow == y->irq_shadow && x->nmi_blocked == y->nmi_blocked);
    g_assert_true(x->halted == y->halted);
    g_assert_cmpmem(a->stack, STACK_BYTES, b->stack, STACK_BYTES);
    g_assert_cmpmem(a->tables, KEPT_BYTES, b->tables, KEPT_BYTES);
}

static void test_fast_done(struct test *t, bool ok)
{
    interp_flags_home(t->e);
    if (ok) {
        test_engine(t);
        if (t->e->sti_rip != 0) {
            g_assert_cmphex(t->e->sti_rip, ==, t->g->cpu->rip);
            t->g->cpu->irq_shadow = true;
        }
        t->done++;
    } else {
        t->refused++;
    }
    test_save(t, &t->fast);
    if (!ok) {
        test_compare(t, &t->before, &t->fast);
    }
}

static void test_instruction(struct test *t, const uint8_t *code, size_t len)
{
    struct x86_fault fault;
    struct insn in;

    g_assert_cmpint(insn_decode(&in, INSN_MODE_64, code, len), ==, INSN_OK);
    for (unsigned i = 0; i < ROUNDS; i++) {
        bool ok;

        test_randomise(t);
        test_save(t, &t->before);
        ok = interp_fast_system(t->e, &in);
        test_fast_done(t, ok);
        if (!ok) {
            continue;
        }
        test_restore(t);
        g_assert_true(x86_system_insn(t->g->v, &in, &fault));
        if (in.id == INSN_IRET) {
            t->g->cpu->rflags &= ~(uint64_t)CPU_RF; /* no breakpoints: see transit.c */
        }
        if (in.id == INSN_RDTSC || in.id == INSN_RDTSCP) {
            t->g->cpu->gpr[CPU_RAX] = t->fast.cpu.gpr[CPU_RAX];
            t->g->cpu->gpr[CPU_RDX] = t->fast.cpu.gpr[CPU_RDX];
        }
        test_save(t, &t->general);
        test_compare(t, &t->general, &t->fast);
    }
    g_assert_cmpuint(t->done, >, ROUNDS / 20); /* the usual case is among them */
}

static struct test *test_new(void)
{
    struct test *t = g_new0(struct test, 1);

    t->g = guest_new();
    t->e = t->g->v->engine;
    t->rand = g_rand_new_with_seed(1);
    t->model = cpu_model_new_host(NULL);
    g_assert_nonnull(t->model);
    return t;
}

static void test_free(struct test *t)
{
    t->g->v->model = NULL;
    guest_free(t->g);
    cpu_model_free(t->model);
    g_rand_free(t->rand);
    g_free(t);
}

static const struct {
    const char *name;
    uint8_t len, code[4];
} instructions[] = {
    {"syscall", 2, {0x0f, 0x05}},          {"sysretq", 3, {0x48, 0x0f, 0x07}},
    {"iretq", 2, {0x48, 0xcf}},            {"swapgs", 3, {0x0f, 0x01, 0xf8}},
    {"cli", 1, {0xfa}},                    {"sti", 1, {0xfb}},
    {"pushfq", 1, {0x9c}},                 {"popfq", 1, {0x9d}},
    {"rdtsc", 2, {0x0f, 0x31}},            {"rdtscp", 3, {0x0f, 0x01, 0xf9}},
    {"rdmsr", 2, {0x0f, 0x32}},            {"wrmsr", 2, {0x0f, 0x30}},
    {"rdfsbase", 4, {0xf3, 0x0f, 0xae, 0xc0}}, {"wrgsbase", 4, {0xf3, 0x0f, 0xae, 0xd9}},
    {"mov-cr2", 3, {0x0f, 0x20, 0xd0}},    {"mov-cr3", 3, {0x0f, 0x20, 0xdb}},
};

static void test_one(const void *data)
{
    unsigned i = GPOINTER_TO_UINT(data);
    struct test *t = test_new();

    test_instruction(t, instructions[i].code, instructions[i].len);
    test_free(t);
}

static void test_delivery(void)
{
    static const uint8_t vectors[] = {CPU_PAGE_FAULT, CPU_GP, CPU_UD, CPU_NM, 0x41, 0xf3};
    struct test *t = test_new();

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint8_t vector = vectors[g_rand_int_range(t->rand, 0, G_N_ELEMENTS(vectors))];
        struct x86_fault fault = {.vector = vector, .cr2 = test_random64(t)};
        bool ok;

        if (vector == CPU_PAGE_FAULT || vector == CPU_GP) {
            fault.has_error = true;
            fault.error = g_rand_int(t->rand) & 0xffff;
        }
        test_randomise(t);
        test_gate(t, vector);
        test_save(t, &t->before);
        ok = vector < 32 ? interp_fast_fault(t->e, &fault)
                         : interp_fast_interrupt(t->e, vector);
        test_fast_done(t, ok);
        if (!ok) {
            continue;
        }
        test_restore(t);
        ok = vector < 32 ? x86_raise(t->g->v, &fault) : x86_interrupt(t->g->v, vector);
        g_assert_true(ok);
        test_save(t, &t->general);
        test_compare(t, &t->general, &t->fast);
    }
    g_assert_cmpuint(t->done, >, ROUNDS / 20);
    test_free(t);
}

/* Stacks and tables that are not there, or not to be written, are left to the general way. */
static void test_unmapped(void)
{
    static const struct {
        uint64_t page, bit;
    } cases[] = {
        {G_STACK - 8, G_P}, {G_STACK - 8, G_RW}, {G_GDT, G_P}, {G_IDT, G_P}, {G_TSS, G_P},
    };
    const struct x86_fault fault = {.vector = CPU_UD};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct test *t = test_new();
        uint64_t *pte = guest_pte(t->g, cases[i].page);

        t->g->cpu->cpl = 3;
        guest_write64(t->g, G_TSS + 4, G_STACK);
        *pte &= ~cases[i].bit;
        guest_flush(t->g);
        interp_mode_changed(t->e);
        test_save(t, &t->before);
        g_assert_false(interp_fast_fault(t->e, &fault));
        test_save(t, &t->fast);
        test_compare(t, &t->before, &t->fast);
        *pte |= cases[i].bit;
        g_assert_true(interp_fast_fault(t->e, &fault));
        test_free(t);
    }
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return 0;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(instructions); i++) {
        g_autofree char *path = g_strdup_printf("/interp/transit/%s", instructions[i].name);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_one);
    }
    g_test_add_func("/interp/transit/delivery", test_delivery);
    g_test_add_func("/interp/transit/unmapped", test_unmapped);
    return g_test_run();
}
