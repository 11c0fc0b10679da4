/* SPDX-License-Identifier: MIT */
/* Logical addresses, descriptor loads and selector instructions. */
#include "x86_guest.h"

static bool linear(struct guest *g, enum cpu_segreg seg, uint64_t offset, size_t len,
                   unsigned access, uint64_t *gva)
{
    return x86_linear(g->v, seg, offset, len, access, gva, &g->fault);
}

static void test_linear_64(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t gva;

    g->cpu->seg[CPU_DS].base = 0x1000; /* ignored */
    g->cpu->seg[CPU_DS].unusable = true;
    g->cpu->seg[CPU_GS].base = 0xffff888000000000ull;
    g_assert_true(linear(g, CPU_DS, 0x42, 8, X86_WRITE, &gva));
    g_assert_cmphex(gva, ==, 0x42);
    g_assert_true(linear(g, CPU_GS, 0x42, 8, X86_READ, &gva));
    g_assert_cmphex(gva, ==, 0xffff888000000042ull);
    g_assert_false(linear(g, CPU_DS, 0x800000000000ull, 1, X86_READ, &gva));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(linear(g, CPU_SS, 0x7ffffffffffcull, 8, X86_READ, &gva)); /* its end */
    g_assert_fault(g, CPU_STACK_FAULT, 0);
    guest_free(g);
}

static void test_linear_limits(void)
{
    struct guest *g = guest_new(GUEST_PROT);
    struct cpu_segment *ds = &g->cpu->seg[CPU_DS];
    uint64_t gva;

    ds->base = 0xfffff000;
    ds->limit = 0x1fff;
    g_assert_true(linear(g, CPU_DS, 0x1ffc, 4, X86_READ, &gva));
    g_assert_cmphex(gva, ==, 0xffc); /* wraps at 4 GiB */
    g_assert_false(linear(g, CPU_DS, 0x1ffd, 4, X86_READ, &gva));
    g_assert_fault(g, CPU_GP, 0);
    ds->attr = 0xc097; /* expand-down: valid above the limit */
    g_assert_false(linear(g, CPU_DS, 0x1fff, 1, X86_READ, &gva));
    g_assert_true(linear(g, CPU_DS, 0x2000, 1, X86_WRITE, &gva));
    g_assert_true(linear(g, CPU_DS, 0xfffffffc, 4, X86_WRITE, &gva));
    g_assert_false(linear(g, CPU_DS, 0xfffffffd, 4, X86_WRITE, &gva));
    ds->attr = 0x8097; /* 16-bit: up to 0xffff */
    g_assert_true(linear(g, CPU_DS, 0xfffe, 2, X86_WRITE, &gva));
    g_assert_false(linear(g, CPU_DS, 0xffff, 2, X86_WRITE, &gva));
    ds->attr = 0xc091; /* read-only */
    ds->limit = UINT32_MAX;
    g_assert_true(linear(g, CPU_DS, 0, 4, X86_READ, &gva));
    g_assert_false(linear(g, CPU_DS, 0, 4, X86_WRITE, &gva));
    ds->attr = 0xc099; /* execute-only */
    g_assert_false(linear(g, CPU_DS, 0, 4, X86_READ, &gva));
    ds->unusable = true;
    g_assert_false(linear(g, CPU_DS, 0, 1, X86_READ, &gva));
    g->cpu->seg[CPU_SS].limit = 0xff;
    g_assert_false(linear(g, CPU_SS, 0x100, 1, X86_READ, &gva));
    g_assert_fault(g, CPU_STACK_FAULT, 0);
    guest_free(g);
}

static void test_linear_real(void)
{
    struct guest *g = guest_new(GUEST_REAL);
    uint64_t gva;

    g_assert_true(x86_load_segment(g->v, CPU_ES, 0x1234, &g->fault));
    g_assert_true(linear(g, CPU_ES, 0xfffe, 2, X86_WRITE, &gva));
    g_assert_cmphex(gva, ==, 0x12340 + 0xfffe);
    g_assert_false(linear(g, CPU_ES, 0xffff, 2, X86_WRITE, &gva));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->seg[CPU_ES].limit = UINT32_MAX; /* "unreal" survives a load */
    g_assert_true(x86_load_segment(g->v, CPU_ES, 0, &g->fault));
    g_assert_true(linear(g, CPU_ES, 0x12345678, 4, X86_WRITE, &gva));
    g_assert_true(linear(g, CPU_CS, 0, 1, X86_WRITE, &gva)); /* real-mode code is writable */
    guest_free(g);
}

static bool load(struct guest *g, enum cpu_segreg seg, uint16_t selector)
{
    return x86_load_segment(g->v, seg, selector, &g->fault);
}

static void test_load_data(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    g_assert_true(load(g, CPU_DS, SEL_UDATA | 3));
    g_assert_cmphex(g->cpu->seg[CPU_DS].attr, ==, 0xc0f3);
    g_assert_cmphex(guest_get(g, G_GDT + SEL_UDATA + 5, 1), ==, 0xf3); /* accessed */
    g_assert_true(load(g, CPU_DS, 3));
    g_assert_true(g->cpu->seg[CPU_DS].unusable);
    g_assert_cmphex(g->cpu->seg[CPU_DS].selector, ==, 3);
    g_assert_false(load(g, CPU_DS, SEL_DATA | 3)); /* RPL > DPL */
    g_assert_fault(g, CPU_GP, SEL_DATA);
    g_assert_false(load(g, CPU_DS, SEL_XONLY));
    g_assert_fault(g, CPU_GP, SEL_XONLY);
    g_assert_false(load(g, CPU_DS, SEL_TSS));
    g_assert_fault(g, CPU_GP, SEL_TSS);
    g_assert_false(load(g, CPU_DS, SEL_ABSENT));
    g_assert_fault(g, CPU_NP, SEL_ABSENT);
    g_assert_false(load(g, CPU_DS, GDT_BYTES));
    g_assert_fault(g, CPU_GP, GDT_BYTES);
    g_assert_false(load(g, CPU_DS, 0x0c)); /* no LDT */
    g_assert_fault(g, CPU_GP, 0x0c);
    g_assert_true(load(g, CPU_DS, SEL_RO));
    g_assert_true(load(g, CPU_DS, SEL_CODE32));
    g_assert_true(load(g, CPU_ES, SEL_DOWN));
    g_assert_cmphex(g->cpu->seg[CPU_ES].limit, ==, 0x1fff);
    guest_to_user(g);
    g_assert_false(load(g, CPU_DS, SEL_DATA)); /* CPL > DPL */
    g_assert_fault(g, CPU_GP, SEL_DATA);
    g_assert_true(load(g, CPU_DS, SEL_CONF32)); /* conforming code: any level */
    guest_free(g);
}

static void test_load_stack(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    g_assert_false(load(g, CPU_SS, 0));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(load(g, CPU_SS, SEL_RO));
    g_assert_fault(g, CPU_GP, SEL_RO);
    g_assert_false(load(g, CPU_SS, SEL_UDATA));
    g_assert_fault(g, CPU_GP, SEL_UDATA);
    guest_set_desc(g, SEL_ABSENT, guest_desc(0, UINT32_MAX, 0xc012));
    g_assert_false(load(g, CPU_SS, SEL_ABSENT));
    g_assert_fault(g, CPU_STACK_FAULT, SEL_ABSENT);
    g_assert_true(load(g, CPU_SS, SEL_DOWN));
    guest_free(g);

    g = guest_new(GUEST_LONG);
    g_assert_true(load(g, CPU_SS, 0));
    g_assert_true(g->cpu->seg[CPU_SS].unusable);
    g_assert_false(load(g, CPU_SS, 1)); /* RPL must be CPL */
    guest_to_user(g);
    g_assert_false(load(g, CPU_SS, 3));
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_ldt_and_tr(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RAX] = SEL_LDT;
    guest_put(g, G_GDT + SEL_LDT + 8, 0xffff8000, 8);
    g_assert_true(guest_run(g, 0x0f, 0x00, 0xd0)); /* LLDT AX */
    g_assert_cmphex(g->cpu->ldtr.base, ==, 0xffff800000000000ull | G_LDT);
    guest_put(g, G_GDT + SEL_LDT + 8, 0x8000, 8); /* not canonical */
    g_assert_false(guest_run(g, 0x0f, 0x00, 0xd0));
    g_assert_fault(g, CPU_GP, SEL_LDT);
    g->cpu->gpr[CPU_RAX] = SEL_TSS;
    g_assert_true(guest_run(g, 0x0f, 0x00, 0xd8)); /* LTR AX */
    g_assert_cmphex(g->cpu->tr.attr & 0xf, ==, DESC_SYS_TSS_BUSY);
    g_assert_cmphex(guest_get(g, G_GDT + SEL_TSS + 5, 1), ==, 0x8b);
    g_assert_false(guest_run(g, 0x0f, 0x00, 0xd8)); /* busy now */
    g_assert_fault(g, CPU_GP, SEL_TSS);
    g->cpu->gpr[CPU_RAX] = SEL_TSS16;
    g_assert_false(guest_run(g, 0x0f, 0x00, 0xd8)); /* no 16-bit TSS in long mode */
    g_assert_fault(g, CPU_GP, SEL_TSS16);
    g->cpu->gpr[CPU_RAX] = 0;
    g_assert_false(guest_run(g, 0x0f, 0x00, 0xd8));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_true(guest_run(g, 0x0f, 0x00, 0xd0));
    g_assert_true(g->cpu->ldtr.unusable);
    g_assert_true(guest_run(g, 0x0f, 0x00, 0xc8)); /* STR EAX */
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, SEL_TSS);
    guest_free(g);
}

static void test_ldt_selector(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    g->cpu->ldtr = (struct cpu_segment){.attr = 0x82, .limit = 0xf, .base = G_LDT};
    guest_put(g, G_LDT + 8, guest_desc(0x5000, 0xfff, 0x40f2), 8);
    g_assert_true(load(g, CPU_FS, 0x0f));
    g_assert_cmphex(g->cpu->seg[CPU_FS].base, ==, 0x5000);
    g_assert_cmphex(g->cpu->seg[CPU_FS].limit, ==, 0xfff);
    g_assert_false(load(g, CPU_FS, 0x17));
    g_assert_fault(g, CPU_GP, 0x14);
    guest_free(g);
}

static bool zf(struct guest *g)
{
    return (g->cpu->rflags & CPU_ZF) != 0;
}

static void test_verr_lar(void)
{
    struct guest *g = guest_new(GUEST_PROT);
    static const struct {
        uint16_t selector;
        bool r, w, lar, lsl;
    } rows[] = {
        {0, false, false, false, false}, {SEL_UDATA | 3, true, true, true, true},
        {SEL_DATA | 3, false, false, false, false}, {SEL_RO, true, false, true, true},
        {SEL_XONLY, false, false, true, true}, {SEL_CODE32, true, false, true, true},
        {SEL_TSS, false, false, true, true}, {SEL_LDT, false, false, true, true},
        {0x4444, false, false, false, false}, {SEL_CONF32 | 3, true, false, true, true},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g->cpu->gpr[CPU_RAX] = rows[i].selector;
        g_assert_true(guest_run(g, 0x0f, 0x00, 0xe0)); /* VERR AX */
        g_assert_cmpint(zf(g), ==, rows[i].r);
        g_assert_true(guest_run(g, 0x0f, 0x00, 0xe8)); /* VERW AX */
        g_assert_cmpint(zf(g), ==, rows[i].w);
        g->cpu->gpr[CPU_RCX] = 0x77777777;
        g_assert_true(guest_run(g, 0x0f, 0x02, 0xc8)); /* LAR ECX, EAX */
        g_assert_cmpint(zf(g), ==, rows[i].lar);
        g_assert_cmpint(g->cpu->gpr[CPU_RCX] == 0x77777777, ==, !rows[i].lar);
        g_assert_true(guest_run(g, 0x0f, 0x03, 0xc8)); /* LSL ECX, EAX */
        g_assert_cmpint(zf(g), ==, rows[i].lsl);
    }
    g->cpu->gpr[CPU_RAX] = SEL_DOWN;
    g_assert_true(guest_run(g, 0x0f, 0x02, 0xc8));
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, 0x00c09600);
    g_assert_true(guest_run(g, 0x0f, 0x03, 0xc8));
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, 0x1fff);
    g->cpu->gpr[CPU_RAX] = 0x10;
    g->cpu->gpr[CPU_RCX] = 3;
    g_assert_true(guest_run(g, 0x63, 0xc8)); /* ARPL AX, CX */
    g_assert_true(zf(g));
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x13);
    guest_free(g);
}

static void test_moves(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RAX] = SEL_UDATA | 3;
    g_assert_true(guest_run(g, 0x8e, 0xd8)); /* MOV DS, EAX */
    g_assert_cmphex(g->cpu->seg[CPU_DS].selector, ==, SEL_UDATA | 3);
    g_assert_false(g->cpu->irq_shadow);
    g->cpu->gpr[CPU_RAX] = SEL_DATA;
    g_assert_true(guest_run(g, 0x8e, 0xd0)); /* MOV SS, EAX */
    g_assert_true(g->cpu->irq_shadow);
    g_assert_true(guest_run(g, 0x0f, 0xa0)); /* PUSH FS */
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 8);
    g_assert_cmphex(guest_get(g, G_STACK0 - 8, 8), ==, SEL_DATA);
    g_assert_false(g->cpu->irq_shadow);
    guest_put(g, G_STACK0 - 8, 0, 8);
    g_assert_true(guest_run(g, 0x0f, 0xa1)); /* POP FS */
    g_assert_true(g->cpu->seg[CPU_FS].unusable);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0);
    g->cpu->gpr[CPU_RBX] = UINT64_MAX;
    g_assert_true(guest_run(g, 0x8c, 0xd3)); /* MOV EBX, SS */
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, SEL_DATA);
    g_assert_false(guest_run(g, 0x8e, 0xc8)); /* MOV CS is #UD */
    g_assert_fault_plain(g, CPU_UD);
    /* A page fault on POP leaves everything. */
    g->cpu->gpr[CPU_RSP] = 0x7f0000000000;
    g_assert_false(guest_run(g, 0x0f, 0xa1));
    g_assert_cmpuint(g->fault.vector, ==, CPU_PAGE_FAULT);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, 0x7f0000000000);
    guest_free(g);

    g = guest_new(GUEST_PROT);
    guest_put(g, G_DATA, 0x11223344, 4);
    guest_put(g, G_DATA + 4, SEL_DATA, 2);
    g->cpu->gpr[CPU_RBX] = G_DATA;
    g_assert_true(guest_run(g, 0x0f, 0xb2, 0x03)); /* LSS EAX, [EBX] */
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x11223344);
    guest_put(g, G_DATA + 4, SEL_ABSENT, 2);
    guest_put(g, G_DATA, 0, 4);
    g_assert_false(guest_run(g, 0xc5, 0x03)); /* LDS EAX, [EBX] */
    g_assert_fault(g, CPU_NP, SEL_ABSENT);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x11223344);
    guest_free(g);
}

static void test_bases(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g_assert_false(guest_run(g, 0xf3, 0x0f, 0xae, 0xc0)); /* RDFSBASE EAX: CR4 bit is off */
    g_assert_fault_plain(g, CPU_UD);
    g->cpu->cr4 |= CPU_CR4_FSGSBASE;
    g->cpu->gpr[CPU_RAX] = 0xffff888012345678ull;
    g_assert_true(guest_run(g, 0xf3, 0x48, 0x0f, 0xae, 0xd8)); /* WRGSBASE RAX */
    g_assert_cmphex(g->cpu->seg[CPU_GS].base, ==, 0xffff888012345678ull);
    g_assert_true(guest_run(g, 0xf3, 0x0f, 0xae, 0xcb)); /* RDGSBASE EBX */
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, 0x12345678);
    g->cpu->gpr[CPU_RAX] = 0x800000000000ull;
    g_assert_false(guest_run(g, 0xf3, 0x48, 0x0f, 0xae, 0xd0)); /* WRFSBASE RAX */
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->kernel_gs_base = 0x42;
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xf8)); /* SWAPGS */
    g_assert_cmphex(g->cpu->seg[CPU_GS].base, ==, 0x42);
    g_assert_cmphex(g->cpu->kernel_gs_base, ==, 0xffff888012345678ull);
    guest_free(g);
}

static void test_effective_address(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct insn in = {.base = CPU_RBX, .index = CPU_R12, .scale = 4, .disp = -8, .addrsize = 8};

    g->cpu->gpr[CPU_RBX] = 0xffffffff00000000ull;
    g->cpu->gpr[CPU_R12] = 3;
    g_assert_cmphex(x86_effective_address(g->cpu, &in, 0), ==, 0xffffffff00000004ull);
    in.addrsize = 4;
    g_assert_cmphex(x86_effective_address(g->cpu, &in, 0), ==, 4);
    in.base = INSN_REG_RIP;
    in.index = INSN_NO_REG;
    in.addrsize = 8;
    g_assert_cmphex(x86_effective_address(g->cpu, &in, 0x1008), ==, 0x1000);
    in.base = INSN_NO_REG;
    in.addrsize = 2;
    g_assert_cmphex(x86_effective_address(g->cpu, &in, 0), ==, 0xfff8);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/segment/linear-64", test_linear_64);
    g_test_add_func("/x86/segment/limits", test_linear_limits);
    g_test_add_func("/x86/segment/real", test_linear_real);
    g_test_add_func("/x86/segment/load-data", test_load_data);
    g_test_add_func("/x86/segment/load-stack", test_load_stack);
    g_test_add_func("/x86/segment/ldt-and-tr", test_ldt_and_tr);
    g_test_add_func("/x86/segment/ldt-selector", test_ldt_selector);
    g_test_add_func("/x86/segment/verr-lar", test_verr_lar);
    g_test_add_func("/x86/segment/moves", test_moves);
    g_test_add_func("/x86/segment/bases", test_bases);
    g_test_add_func("/x86/segment/effective-address", test_effective_address);
    return g_test_run();
}
