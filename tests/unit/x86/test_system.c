/* SPDX-License-Identifier: MIT */
/* Control registers, flags, far transfers, fast calls, I/O and the small instructions. */
#include "x86_guest.h"

static bool mov_cr(struct guest *g, unsigned n, uint64_t value) /* MOV CRn, RAX */
{
    g->cpu->gpr[CPU_RAX] = value;
    return n == 8 ? guest_run(g, 0x44, 0x0f, 0x22, 0xc0)
                  : guest_run(g, 0x0f, 0x22, (uint8_t)(0xc0 | n << 3));
}

static void test_enter_long_mode(void)
{
    struct guest *g = guest_new(GUEST_REAL);
    struct cpu_x86 *cpu = g->cpu;

    /* The way a PVH kernel goes: flat 32-bit protected mode, then PAE, CR3, LME, PG, far
     * jump. */
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_ET;
    cpu->seg[CPU_CS] = (struct cpu_segment){.attr = 0xc09b, .limit = UINT32_MAX};
    cpu->seg[CPU_DS] = (struct cpu_segment){.attr = 0xc093, .limit = UINT32_MAX};
    cpu->seg[CPU_SS] = cpu->seg[CPU_DS];
    guest_put(g, G_DATA, GDT_BYTES - 1, 2);
    guest_put(g, G_DATA + 2, G_GDT, 4);
    g_assert_true(guest_run(g, 0x0f, 0x01, 0x15, 0x00, 0x00, 0x02, 0x00)); /* LGDT */
    g_assert_cmphex(cpu->gdtr.base, ==, G_GDT);
    g_assert_true(mov_cr(g, 4, CPU_CR4_PAE));
    guest_put(g, G_PML4, G_PDPT | 7, 8);
    guest_put(g, G_PDPT, 0x87, 8);
    g_assert_true(mov_cr(g, 3, G_PML4));
    cpu->gpr[CPU_RCX] = 0xc0000080;
    cpu->gpr[CPU_RAX] = CPU_EFER_LME | CPU_EFER_NXE | CPU_EFER_SCE;
    cpu->gpr[CPU_RDX] = 0;
    g_assert_true(guest_run(g, 0x0f, 0x30)); /* WRMSR */
    g_assert_false(cpu_is_long_mode(cpu));
    g_assert_true(mov_cr(g, 0, CPU_CR0_PE | CPU_CR0_PG));
    g_assert_true(cpu_is_long_mode(cpu));
    g_assert_cmpint(x86_insn_mode(cpu), ==, INSN_MODE_32);
    g_assert_true(guest_run(g, 0xea, 0x00, 0x00, 0x01, 0x00, SEL_CODE64, 0x00)); /* LJMP */
    g_assert_true(cpu_is_code64(cpu));
    g_assert_cmphex(cpu->rip, ==, 0x10000);
    g_assert_cmpuint(guest_log(g)->flush_all, >=, 1);
    /* And the ways out that are closed. */
    g_assert_false(mov_cr(g, 0, CPU_CR0_PE));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(mov_cr(g, 4, 0));
    g_assert_fault(g, CPU_GP, 0);
    cpu->gpr[CPU_RAX] = 0;
    g_assert_false(guest_run(g, 0x0f, 0x30)); /* LME off while paging */
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_cr0(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t cr0 = g->cpu->cr0;

    g_assert_false(mov_cr(g, 0, cr0 | CPU_CR0_NW)); /* NW without CD */
    g_assert_false(mov_cr(g, 0, cr0 & ~(uint64_t)CPU_CR0_PE));
    g_assert_false(mov_cr(g, 0, cr0 | 1ull << 40));
    g_assert_cmphex(g->cpu->cr0, ==, cr0);
    g_assert_true(mov_cr(g, 0, (cr0 | CPU_CR0_TS) & ~(uint64_t)CPU_CR0_ET));
    g_assert_cmphex(g->cpu->cr0, ==, cr0 | CPU_CR0_TS); /* ET stays */
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 0);
    g_assert_true(guest_run(g, 0x0f, 0x06)); /* CLTS */
    g_assert_cmphex(g->cpu->cr0, ==, cr0);
    g_assert_true(mov_cr(g, 0, cr0 & ~(uint64_t)CPU_CR0_WP));
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 1);
    g->cpu->gpr[CPU_RAX] = 0xa; /* LMSW cannot clear PE */
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xf0));
    g_assert_cmphex(g->cpu->cr0 & 0xf, ==, 0xb);
    guest_free(g);
}

static void test_cr3_cr4(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t cr4 = g->cpu->cr4;

    g_assert_false(mov_cr(g, 3, 1ull << 40 | G_PML4));
    g_assert_false(mov_cr(g, 3, 1ull << 63 | G_PML4)); /* no PCIDE */
    g_assert_true(mov_cr(g, 3, G_PML4 | 0x18));
    g_assert_cmpuint(guest_log(g)->flush_nonglobal, ==, 1);
    g_assert_false(mov_cr(g, 4, cr4 | CPU_CR4_PCIDE)); /* CR3[11:0] is not 0 */
    g_assert_true(mov_cr(g, 3, G_PML4));
    g_assert_true(mov_cr(g, 4, cr4 | CPU_CR4_PCIDE));
    g_assert_true(mov_cr(g, 3, 1ull << 63 | G_PML4 | 5));
    g_assert_cmphex(g->cpu->cr3, ==, G_PML4 | 5); /* bit 63 is not kept */
    g_assert_cmpuint(guest_log(g)->flush_nonglobal, ==, 2);
    g_assert_cmpuint(guest_log(g)->flush_nothing, ==, 1);
    g_assert_false(mov_cr(g, 4, cr4 | CPU_CR4_VME));
    g_assert_false(mov_cr(g, 4, cr4 | CPU_CR4_LA57));
    g_assert_false(mov_cr(g, 4, cr4 | 1ull << 33));
    guest_log(g)->flush_all = 0;
    g_assert_true(mov_cr(g, 4, g->cpu->cr4 ^ CPU_CR4_PGE));
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 1);
    g_assert_true(mov_cr(g, 4, g->cpu->cr4 | CPU_CR4_TSD));
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 1);
    guest_free(g);

    g = guest_new(GUEST_PAE); /* PDPTEs are checked at MOV CR3 */
    guest_put(g, 0xd000, 7, 8);
    g_assert_false(mov_cr(g, 3, 0xd000));
    g_assert_fault(g, CPU_GP, 0);
    g_assert_true(mov_cr(g, 3, G_PDPT));
    guest_free(g);

    g = guest_new(GUEST_PROT);
    g_assert_false(mov_cr(g, 4, g->cpu->cr4 | CPU_CR4_PCIDE)); /* long mode only */
    guest_free(g);
}

static void test_cr8_and_missing(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g_assert_true(mov_cr(g, 8, 9));
    g_assert_cmphex(guest_log(g)->cr8, ==, 9);
    g_assert_false(mov_cr(g, 8, 16));
    g_assert_true(guest_run(g, 0x44, 0x0f, 0x20, 0xc3)); /* MOV RBX, CR8 */
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, 9);
    g_assert_false(mov_cr(g, 1, 0));
    g_assert_fault_plain(g, CPU_UD);
    guest_free(g);
}

static void test_debug_registers(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RAX] = 0xffffffff;
    g_assert_true(guest_run(g, 0x0f, 0x23, 0xf8)); /* MOV DR7, RAX */
    g_assert_cmphex(g->cpu->dr[7], ==, 0xffff2fff);
    g_assert_false(guest_run(g, 0x0f, 0x21, 0xc0)); /* GD is set: #DB with BD */
    g_assert_fault_plain(g, CPU_DB);
    g_assert_cmphex(g->fault.dr6, ==, 1 << 13);
    g->cpu->dr[7] = 0x400;
    g_assert_true(guest_run(g, 0x0f, 0x23, 0xf0)); /* DR6 */
    g_assert_cmphex(g->cpu->dr[6], ==, 0xffffefff);
    g_assert_true(guest_run(g, 0x0f, 0x21, 0xe3)); /* MOV RBX, DR4: an alias of DR6 */
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, 0xffffefff);
    g->cpu->cr4 |= CPU_CR4_DE;
    g_assert_false(guest_run(g, 0x0f, 0x21, 0xe3));
    g_assert_fault_plain(g, CPU_UD);
    g->cpu->gpr[CPU_RAX] = 1ull << 32;
    g_assert_false(guest_run(g, 0x0f, 0x23, 0xf8));
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_invalidate(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RBX] = 0xffff888000001234ull;
    g_assert_true(guest_run(g, 0x0f, 0x01, 0x3b)); /* INVLPG [RBX] */
    g_assert_cmpuint(guest_log(g)->flush_page, ==, 1);
    g_assert_cmphex(guest_log(g)->flush_gva, ==, 0xffff888000001234ull);
    g->cpu->gpr[CPU_RBX] = 0x8888000000000000ull;
    g_assert_true(guest_run(g, 0x0f, 0x01, 0x3b)); /* not canonical: nothing */
    g_assert_cmpuint(guest_log(g)->flush_page, ==, 1);
    g->cpu->gpr[CPU_RBX] = G_DATA;
    guest_put(g, G_DATA, 7, 8);
    guest_put(g, G_DATA + 8, 0x5123, 8);
    g->cpu->gpr[CPU_RAX] = 0;
    g_assert_false(guest_run(g, 0x66, 0x0f, 0x38, 0x82, 0x03)); /* INVPCID RAX, [RBX] */
    g_assert_fault(g, CPU_GP, 0); /* a PCID without CR4.PCIDE */
    g->cpu->cr4 |= CPU_CR4_PCIDE;
    for (unsigned type = 0; type < 4; type++) {
        g->cpu->gpr[CPU_RAX] = type;
        g_assert_true(guest_run(g, 0x66, 0x0f, 0x38, 0x82, 0x03));
        if (type == 0) {
            g_assert_cmphex(guest_log(g)->flush_gva, ==, 0x5007);
        } else if (type == 1) {
            g_assert_cmphex(guest_log(g)->flush_gva, ==, 7);
        }
    }
    g_assert_cmpuint(guest_log(g)->flush_pcid_page, ==, 1);
    g_assert_cmpuint(guest_log(g)->flush_pcid, ==, 1);
    g_assert_cmpuint(guest_log(g)->flush_all, ==, 1);
    g_assert_cmpuint(guest_log(g)->flush_pcids, ==, 1);
    g->cpu->gpr[CPU_RAX] = 4;
    g_assert_false(guest_run(g, 0x66, 0x0f, 0x38, 0x82, 0x03));
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_xcr0(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RCX] = g->cpu->gpr[CPU_RDX] = 0;
    g->cpu->gpr[CPU_RAX] = 3;
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xd1));
    g_assert_cmphex(g->cpu->xcr0, ==, 3);
    for (unsigned bad = 0; bad < 4; bad++) {
        static const uint64_t values[] = {0, 2, 5, 0xff};

        g->cpu->gpr[CPU_RAX] = values[bad];
        g_assert_false(guest_run(g, 0x0f, 0x01, 0xd1));
        g_assert_fault(g, CPU_GP, 0);
    }
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xd0));
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 3);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_OSXSAVE;
    g_assert_false(guest_run(g, 0x0f, 0x01, 0xd0));
    g_assert_fault_plain(g, CPU_UD);
    guest_free(g);
}

static void test_flags(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->rflags = 2 | CPU_IF | CPU_RF | CPU_CF;
    g_assert_true(guest_run(g, 0x9c));
    g_assert_cmphex(guest_get(g, G_STACK0 - 8, 8), ==, 2 | CPU_IF | CPU_CF);
    guest_put(g, G_STACK0 - 8, UINT64_MAX, 8);
    g_assert_true(guest_run(g, 0x9d));
    g_assert_cmphex(g->cpu->rflags, ==, 0x247fd7); /* all but RF, VM, VIF, VIP */
    g->cpu->rflags = 2;
    g_assert_true(guest_run(g, 0xfb));
    g_assert_true(g->cpu->irq_shadow);
    g_assert_true(guest_run(g, 0xfb)); /* STI again: no new shadow */
    g_assert_false(g->cpu->irq_shadow);
    guest_to_user(g);
    guest_put(g, G_STACK3, 0, 8);
    g_assert_true(guest_run(g, 0x9d)); /* POPF at CPL 3 keeps IF */
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IF);
    g_assert_false(guest_run(g, 0xfa));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->rflags |= CPU_IOPL;
    g_assert_true(guest_run(g, 0xfa));
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IOPL);
    guest_free(g);

    g = guest_new(GUEST_V86);
    g_assert_false(guest_run(g, 0x9c));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->rflags |= CPU_IOPL;
    g_assert_true(guest_run(g, 0x9c));
    g_assert_true(guest_run(g, 0xfb));
    guest_free(g);
}

static void test_far_direct(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g->cpu->gpr[CPU_RBX] = G_DATA;
    guest_put(g, G_DATA, 0x4000, 4);
    guest_put(g, G_DATA + 4, SEL_CODE32, 2);
    g_assert_true(guest_run(g, 0xff, 0x1b)); /* CALL FAR [RBX]: 32-bit frame */
    g_assert_cmphex(g->cpu->rip, ==, 0x4000);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 8);
    g_assert_cmphex(guest_get(g, G_STACK0 - 8, 4), ==, G_CODE + 2);
    g_assert_cmphex(guest_get(g, G_STACK0 - 4, 4), ==, SEL_CODE64);
    g_assert_cmpint(x86_insn_mode(g->cpu), ==, INSN_MODE_32);
    g_assert_true(guest_run(g, 0xcb)); /* RETF, back to 64-bit code */
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 2);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0);
    g_assert_true(cpu_is_code64(g->cpu));
    guest_put(g, G_DATA + 4, SEL_UCODE64, 2);
    g_assert_false(guest_run(g, 0xff, 0x2b)); /* JMP FAR to DPL 3 from CPL 0 */
    g_assert_fault(g, CPU_GP, SEL_UCODE64);
    guest_put(g, G_DATA + 4, SEL_TSS, 2);
    g_assert_false(guest_run(g, 0xff, 0x2b));
    g_assert_fault(g, CPU_GP, SEL_TSS);
    guest_put(g, G_DATA + 4, 0, 2);
    g_assert_false(guest_run(g, 0xff, 0x2b));
    g_assert_fault(g, CPU_GP, 0);
    guest_to_user(g);
    guest_put(g, G_DATA + 4, SEL_CONFORMING, 2);
    g_assert_true(guest_run(g, 0xff, 0x2b)); /* conforming: CPL and RPL stay 3 */
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_cmphex(g->cpu->seg[CPU_CS].selector, ==, SEL_CONFORMING | 3);
    guest_free(g);
}

static void set_gate(struct guest *g, uint16_t selector, uint64_t offset, unsigned type,
                     unsigned dpl, unsigned params)
{
    guest_set_desc(g, SEL_GATE,
                   (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)params << 32 |
                       (uint64_t)(0x80 | dpl << 5 | type) << 40 | (offset & 0xffff0000) << 32);
    guest_put(g, G_GDT + SEL_GATE + 8, offset >> 32, 8);
}

static void test_call_gate_long(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    set_gate(g, SEL_CODE64, 0xffff800000005000ull, DESC_SYS_CALL, 3, 0);
    guest_to_user(g);
    g->cpu->gpr[CPU_RBX] = G_DATA;
    guest_put(g, G_DATA + 4, SEL_GATE | 3, 2);
    g_assert_true(guest_run(g, 0xff, 0x1b));
    g_assert_cmphex(g->cpu->rip, ==, 0xffff800000005000ull);
    g_assert_cmpuint(g->cpu->cpl, ==, 0);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 32);
    g_assert_cmphex(guest_get(g, G_STACK0 - 32, 8), ==, G_CODE + 2);
    g_assert_cmphex(guest_get(g, G_STACK0 - 24, 8), ==, SEL_UCODE64 | 3);
    g_assert_cmphex(guest_get(g, G_STACK0 - 16, 8), ==, G_STACK3);
    g_assert_cmphex(guest_get(g, G_STACK0 - 8, 8), ==, SEL_UDATA | 3);
    g_assert_true(guest_run(g, 0x48, 0xcb)); /* RETFQ */
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 2);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK3);
    set_gate(g, SEL_CODE64, 0x5000, DESC_SYS_CALL, 0, 0);
    g_assert_false(guest_run(g, 0xff, 0x1b));
    g_assert_fault(g, CPU_GP, SEL_GATE);
    set_gate(g, SEL_CODE64, 0x5000, DESC_SYS_CALL, 3, 0);
    g_assert_false(guest_run(g, 0xff, 0x2b)); /* JMP may not go inward */
    g_assert_fault(g, CPU_GP, SEL_CODE64);
    guest_free(g);
}

static void test_call_gate_params(void)
{
    struct guest *g = guest_new(GUEST_PROT);

    set_gate(g, SEL_CODE32, 0x5000, DESC_SYS_CALL, 3, 2);
    guest_to_user(g);
    g->cpu->gpr[CPU_RSP] = G_STACK3 - 8;
    guest_put(g, G_STACK3 - 8, 0x1111, 4);
    guest_put(g, G_STACK3 - 4, 0x2222, 4);
    g_assert_true(guest_run(g, 0x9a, 0, 0, 0, 0, SEL_GATE | 3, 0));
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 - 24);
    g_assert_cmphex(guest_get(g, G_STACK0 - 24, 4), ==, G_CODE + 7);
    g_assert_cmphex(guest_get(g, G_STACK0 - 16, 4), ==, 0x1111);
    g_assert_cmphex(guest_get(g, G_STACK0 - 12, 4), ==, 0x2222);
    g_assert_cmphex(guest_get(g, G_STACK0 - 8, 4), ==, G_STACK3 - 8);
    g_assert_true(guest_run(g, 0xca, 8, 0)); /* RETF 8: releases both stacks */
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK3);
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    guest_free(g);
}

static void test_far_real(void)
{
    struct guest *g = guest_new(GUEST_REAL);

    g_assert_true(guest_run(g, 0x9a, 0x34, 0x12, 0x00, 0x20)); /* CALL 2000:1234 */
    g_assert_cmphex(g->cpu->rip, ==, 0x1234);
    g_assert_cmphex(g->cpu->seg[CPU_CS].base, ==, 0x20000);
    g_assert_true(guest_run(g, 0xca, 4, 0));
    g_assert_cmphex(g->cpu->rip, ==, 5);
    g_assert_cmphex(g->cpu->seg[CPU_CS].base, ==, 0x10000);
    g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, G_STACK0 + 4);
    guest_free(g);
}

static void test_syscall(gconstpointer data)
{
    struct cpu_model model = cpu_model_default;
    struct guest *g = guest_new(GUEST_LONG);
    bool amd = data != NULL;

    model.amd = amd;
    for (unsigned i = 0; i < INSN_FEAT_NR; i++) {
        model.features[i] = true;
    }
    model.leaves = g_array_new(FALSE, TRUE, sizeof(struct cpuid_leaf));
    g->v->model = &model;
    g->cpu->star = (uint64_t)(SEL_UDATA - 8) << 48 | (uint64_t)SEL_CODE64 << 32;
    g->cpu->lstar = 0xffffffff81000000ull;
    g->cpu->cstar = 0xffffffff82000000ull;
    g->cpu->fmask = CPU_IF | CPU_TF;
    guest_to_user(g);
    g->cpu->rflags = 2 | CPU_IF | CPU_CF;
    g_assert_true(guest_run(g, 0x0f, 0x05));
    g_assert_cmphex(g->cpu->rip, ==, 0xffffffff81000000ull);
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, G_CODE + 2);
    g_assert_cmphex(g->cpu->gpr[CPU_R11], ==, 2 | CPU_IF | CPU_CF);
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_CF);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, SEL_CODE64 + 8);
    g_assert_cmpuint(g->cpu->cpl, ==, 0);
    x86_segment_set_null(&g->cpu->seg[CPU_SS], 0); /* as after an interrupt */
    g_assert_true(guest_run(g, 0x48, 0x0f, 0x07)); /* SYSRETQ */
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 2);
    g_assert_cmphex(g->cpu->seg[CPU_CS].selector, ==, (SEL_UDATA + 8) | 3);
    g_assert_cmphex(g->cpu->seg[CPU_SS].selector, ==, SEL_UDATA | 3);
    g_assert_cmpint(g->cpu->seg[CPU_SS].unusable, ==, amd); /* AMD leaves the hidden part */
    g_assert_cmphex(g->cpu->rflags, ==, 2 | CPU_IF | CPU_CF);
    g_assert_cmpuint(g->cpu->cpl, ==, 3);
    g_assert_false(guest_run(g, 0x48, 0x0f, 0x07));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->cpl = 0;
    g->cpu->gpr[CPU_RCX] = 0x800000000000ull; /* Intel refuses, AMD faults at CPL 3 later */
    g_assert_cmpint(guest_run(g, 0x48, 0x0f, 0x07), ==, amd);
    /* Compatibility mode: CSTAR on AMD, #UD on Intel. */
    g->cpu->seg[CPU_CS].attr = 0xc0fb;
    g->cpu->rip = 0x5000;
    g_assert_cmpint(guest_run(g, 0x0f, 0x05), ==, amd);
    if (amd) {
        g_assert_cmphex(g->cpu->rip, ==, 0xffffffff82000000ull);
    } else {
        g_assert_fault_plain(g, CPU_UD);
    }
    g->cpu->sysenter_cs = SEL_CODE64;
    g->cpu->sysenter_eip = 0xffffffff83000000ull;
    g_assert_cmpint(guest_run(g, 0x0f, 0x34), ==, !amd);
    if (!amd) {
        g_assert_cmphex(g->cpu->rip, ==, 0xffffffff83000000ull);
        g->cpu->gpr[CPU_RDX] = 0x1000;
        g->cpu->gpr[CPU_RCX] = 0x2000;
        g_assert_true(guest_run(g, 0x48, 0x0f, 0x35)); /* SYSEXITQ */
        g_assert_cmphex(g->cpu->seg[CPU_CS].selector, ==, (SEL_CODE64 + 32) | 3);
        g_assert_cmphex(g->cpu->gpr[CPU_RSP], ==, 0x2000);
    }
    g_array_unref(model.leaves);
    guest_free(g);
}

static void test_io(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct guest_log *log = guest_log(g);

    log->pio_value = 0x12345678;
    g->cpu->gpr[CPU_RAX] = UINT64_MAX;
    g->cpu->gpr[CPU_RDX] = 0xffff0060;
    g_assert_true(guest_run(g, 0xec)); /* IN AL, DX */
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0xffffffffffffff78ull);
    g_assert_cmphex(log->pio_port, ==, 0x60);
    g_assert_true(guest_run(g, 0xed)); /* IN EAX, DX */
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x12345678);
    g_assert_true(guest_run(g, 0xe6, 0x80)); /* OUT 0x80, AL */
    g_assert_cmphex(log->pio_port, ==, 0x80);
    g_assert_cmphex(log->pio_value, ==, 0x78);
    guest_to_user(g);
    g_assert_true(guest_run(g, 0xe6, 0x80)); /* the bitmap allows it */
    guest_put(g, G_TSS + 0x68 + 0x80 / 8, 2, 1); /* port 0x81 refused */
    g_assert_true(guest_run(g, 0xe6, 0x80));
    g_assert_false(guest_run(g, 0x66, 0xe7, 0x80)); /* a word covers both */
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->rflags |= CPU_IOPL;
    g_assert_true(guest_run(g, 0x66, 0xe7, 0x80));
    g->cpu->rflags = 2;
    g->cpu->tr.limit = 0x68 + 0x80 / 8; /* the second byte of the bitmap is outside */
    g_assert_false(guest_run(g, 0xe6, 0x80));
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

static void test_string_io(void)
{
    struct guest *g = guest_new(GUEST_LONG);
    struct guest_log *log = guest_log(g);

    guest_put(g, G_DATA, 0x44434241, 4);
    g->cpu->gpr[CPU_RSI] = G_DATA;
    g->cpu->gpr[CPU_RCX] = 4;
    g_assert_true(guest_run(g, 0xf3, 0x6e)); /* REP OUTSB */
    g_assert_cmpuint(log->pio_writes, ==, 4);
    g_assert_cmphex(log->pio_value, ==, 0x44);
    g_assert_cmphex(g->cpu->gpr[CPU_RSI], ==, G_DATA + 4);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 2);
    /* A long one comes in batches, rip stays until it is done. */
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RCX] = 1000;
    g->cpu->gpr[CPU_RDI] = G_DATA;
    log->pio_value = 0x5a;
    g_assert_true(guest_run(g, 0xf3, 0x6c)); /* REP INSB */
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], <, 1000);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    while (g->cpu->rip == G_CODE) {
        g_assert_true(guest_run(g, 0xf3, 0x6c));
    }
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 0);
    g_assert_cmphex(guest_get(g, G_DATA + 999, 1), ==, 0x5a);
    g_assert_cmpuint(log->pio_reads, ==, 1000);
    /* A fault in the middle: registers show what was done, the port is not read for nothing. */
    guest_put(g, G_PT + 0x101 * 8, 0, 8);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RDI] = 0x100ffe;
    g->cpu->gpr[CPU_RCX] = 5;
    log->pio_reads = 0;
    g_assert_false(guest_run(g, 0xf3, 0x6c));
    g_assert_fault(g, CPU_PAGE_FAULT, 2);
    g_assert_cmpuint(g->cpu->gpr[CPU_RCX], ==, 3);
    g_assert_cmphex(g->cpu->gpr[CPU_RDI], ==, 0x101000);
    g_assert_cmpuint(log->pio_reads, ==, 2);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    guest_free(g);
}

static void test_misc(void)
{
    struct guest *g = guest_new(GUEST_LONG);

    g_assert_true(guest_run(g, 0xf4));
    g_assert_true(g->cpu->halted);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 1);
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xc1)); /* VMCALL */
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xd9)); /* VMMCALL */
    g_assert_cmpuint(guest_log(g)->hypercalls, ==, 2);
    g_assert_cmphex(g->cpu->gpr[CPU_RAX], ==, 0x1234);
    g->cpu->tsc_aux = 0x77;
    g_assert_true(guest_run(g, 0x0f, 0x01, 0xf9)); /* RDTSCP */
    g_assert_cmphex(g->cpu->gpr[CPU_RCX], ==, 0x77);
    g_assert_true(guest_run(g, 0xf3, 0x0f, 0xc7, 0xfb)); /* RDPID RBX */
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, 0x77);
    g_assert_false(guest_run(g, 0x0f, 0x33)); /* RDPMC: no counters */
    g_assert_fault(g, CPU_GP, 0);
    guest_to_user(g);
    g_assert_true(guest_run(g, 0x0f, 0x31));
    g->cpu->cr4 |= CPU_CR4_TSD;
    g_assert_false(guest_run(g, 0x0f, 0x31));
    g_assert_fault(g, CPU_GP, 0);
    g->cpu->cr4 |= CPU_CR4_UMIP;
    g_assert_false(guest_run(g, 0x0f, 0x01, 0xe0)); /* SMSW EAX */
    g_assert_fault(g, CPU_GP, 0);
    g_assert_false(guest_run(g, 0x0f, 0x01, 0x00)); /* SGDT */
    g_assert_fault(g, CPU_GP, 0);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/system/enter-long-mode", test_enter_long_mode);
    g_test_add_func("/x86/system/cr0", test_cr0);
    g_test_add_func("/x86/system/cr3-cr4", test_cr3_cr4);
    g_test_add_func("/x86/system/cr8", test_cr8_and_missing);
    g_test_add_func("/x86/system/debug-registers", test_debug_registers);
    g_test_add_func("/x86/system/invalidate", test_invalidate);
    g_test_add_func("/x86/system/xcr0", test_xcr0);
    g_test_add_func("/x86/system/flags", test_flags);
    g_test_add_func("/x86/system/far-direct", test_far_direct);
    g_test_add_func("/x86/system/call-gate-long", test_call_gate_long);
    g_test_add_func("/x86/system/call-gate-parameters", test_call_gate_params);
    g_test_add_func("/x86/system/far-real", test_far_real);
    g_test_add_data_func("/x86/system/syscall-intel", NULL, test_syscall);
    g_test_add_data_func("/x86/system/syscall-amd", "amd", test_syscall);
    g_test_add_func("/x86/system/io", test_io);
    g_test_add_func("/x86/system/string-io", test_string_io);
    g_test_add_func("/x86/system/misc", test_misc);
    return g_test_run();
}
