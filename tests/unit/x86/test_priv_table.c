/* SPDX-License-Identifier: MIT */
/*
 * Every privileged or mode-bound system instruction, at every CPL and in every mode, against a
 * table of what must happen: the same bytes go through the decoder and x86_system_insn(), so a
 * missing flag in the decoder or a missing check in a handler shows here. "Runs" means: no
 * #GP(0) and no #UD.
 */
#include <string.h>

#include "x86_guest.h"

/* What an instruction asks for. */
enum need {
    NEED_NOTHING,
    NEED_CPL0,        /* #GP(0) at CPL 1..3 and in V86 */
    NEED_CPL0_PROT,   /* the same, and #UD in real and V86 mode */
    NEED_PROT,        /* #UD in real and V86 mode */
    NEED_IOPL,        /* #GP(0) when CPL > IOPL (V86: IOPL < 3) */
    NEED_IOPL_V86,    /* only V86 looks at IOPL */
    NEED_CODE64_CPL0, /* #UD outside 64-bit mode, else CPL 0 */
    NEED_CODE64,
    NEED_NEVER,       /* always #UD */
    NEED_CPL0_ELSE_UD,
};

struct row {
    const char *name;
    enum need need;
    bool not64; /* another instruction in 64-bit mode */
    uint8_t len;
    uint8_t bytes[6];
};

static const struct row rows[] = {
    {"mov cr0", NEED_CPL0, false, 3, {0x0f, 0x20, 0xc0}},
    {"mov to cr2", NEED_CPL0, false, 3, {0x0f, 0x22, 0xd0}},
    {"mov from dr0", NEED_CPL0, false, 3, {0x0f, 0x21, 0xc0}},
    {"mov to dr0", NEED_CPL0, false, 3, {0x0f, 0x23, 0xc0}},
    {"clts", NEED_CPL0, false, 2, {0x0f, 0x06}},
    {"lmsw", NEED_CPL0, false, 3, {0x0f, 0x01, 0xf1}},
    {"smsw", NEED_NOTHING, false, 3, {0x0f, 0x01, 0xe2}},
    {"lgdt", NEED_CPL0, false, 3, {0x0f, 0x01, 0x17}},
    {"lidt", NEED_CPL0, false, 3, {0x0f, 0x01, 0x1f}},
    {"sgdt", NEED_NOTHING, false, 3, {0x0f, 0x01, 0x07}},
    {"lldt", NEED_CPL0_PROT, false, 3, {0x0f, 0x00, 0xd1}},
    {"sldt", NEED_PROT, false, 3, {0x0f, 0x00, 0xc2}},
    {"str", NEED_PROT, false, 3, {0x0f, 0x00, 0xca}},
    {"verr", NEED_PROT, false, 3, {0x0f, 0x00, 0xe1}},
    {"verw", NEED_PROT, false, 3, {0x0f, 0x00, 0xe9}},
    {"lar", NEED_PROT, false, 3, {0x0f, 0x02, 0xd1}},
    {"lsl", NEED_PROT, false, 3, {0x0f, 0x03, 0xd1}},
    {"arpl", NEED_PROT, true, 2, {0x63, 0xc9}},
    {"invlpg", NEED_CPL0, false, 3, {0x0f, 0x01, 0x3f}},
    {"invd", NEED_CPL0, false, 2, {0x0f, 0x08}},
    {"wbinvd", NEED_CPL0, false, 2, {0x0f, 0x09}},
    {"hlt", NEED_CPL0, false, 1, {0xf4}},
    {"rdmsr", NEED_CPL0, false, 2, {0x0f, 0x32}},
    {"wrmsr", NEED_CPL0, false, 2, {0x0f, 0x30}},
    {"rdtsc", NEED_NOTHING, false, 2, {0x0f, 0x31}},
    {"rdtscp", NEED_NOTHING, false, 3, {0x0f, 0x01, 0xf9}},
    {"cpuid", NEED_NOTHING, false, 2, {0x0f, 0xa2}},
    {"cli", NEED_IOPL, false, 1, {0xfa}},
    {"sti", NEED_IOPL, false, 1, {0xfb}},
    {"pushf", NEED_IOPL_V86, false, 1, {0x9c}},
    {"popf", NEED_IOPL_V86, false, 1, {0x9d}},
    {"in", NEED_IOPL, false, 2, {0xe4, 0xf0}},
    {"out", NEED_IOPL, false, 1, {0xee}},
    {"ins", NEED_IOPL, false, 1, {0x6c}},
    {"outs", NEED_IOPL, false, 1, {0x6f}},
    {"swapgs", NEED_CODE64_CPL0, false, 3, {0x0f, 0x01, 0xf8}},
    {"rdfsbase", NEED_CODE64, false, 4, {0xf3, 0x0f, 0xae, 0xc2}},
    {"wrgsbase", NEED_CODE64, false, 4, {0xf3, 0x0f, 0xae, 0xd9}},
    {"xgetbv", NEED_NOTHING, false, 3, {0x0f, 0x01, 0xd0}},
    {"xsetbv", NEED_CPL0, false, 3, {0x0f, 0x01, 0xd1}},
    {"clac", NEED_CPL0_ELSE_UD, false, 3, {0x0f, 0x01, 0xca}},
    {"stac", NEED_CPL0_ELSE_UD, false, 3, {0x0f, 0x01, 0xcb}},
    {"vmxoff", NEED_NEVER, false, 3, {0x0f, 0x01, 0xc4}},
    {"vmlaunch", NEED_NEVER, false, 3, {0x0f, 0x01, 0xc2}},
    {"vmrun", NEED_NEVER, false, 3, {0x0f, 0x01, 0xd8}},
    {"clgi", NEED_NEVER, false, 3, {0x0f, 0x01, 0xdd}},
    {"skinit", NEED_NEVER, false, 3, {0x0f, 0x01, 0xde}},
    {"rsm", NEED_NEVER, false, 2, {0x0f, 0xaa}},
    {"sysenter", NEED_NOTHING, false, 0, {0}}, /* has a test of its own */
};

static void prepare(struct guest *g, unsigned cpl)
{
    struct cpu_x86 *cpu = g->cpu;

    if (cpl != 0) {
        guest_to_user(g);
        cpu->cpl = (uint8_t)cpl;
        cpu->seg[CPU_SS].attr = (uint16_t)(0xc093 | cpl << CPU_SEG_DPL_SHIFT);
    }
    cpu->cr4 |= CPU_CR4_FSGSBASE | CPU_CR4_OSXSAVE;
    memset(g->ram + G_TSS + 0x68, 0xff, 0x2000); /* no port is open through the bitmap */
    /* Operands that make the instruction itself succeed. */
    cpu->gpr[CPU_RDI] = cpu->gpr[CPU_RSI] = x86_is_real_style(cpu) ? 0x100 : G_DATA;
    guest_put(g, G_DATA, 0, 8);
    cpu->gpr[CPU_RAX] = 7;
    cpu->gpr[CPU_RCX] = 0;
    cpu->gpr[CPU_RDX] = 0;
    if (!x86_is_v86(cpu)) {
        cpu->gpr[CPU_RSP] = 0x8000;
    }
}

enum outcome { RUNS, GP0, UD };

static enum outcome expected(const struct row *r, enum guest_mode mode, unsigned cpl,
                             unsigned iopl)
{
    bool real_style = mode == GUEST_REAL || mode == GUEST_V86;
    bool cpl0_ok = cpl == 0;

    switch (r->need) {
    case NEED_CPL0:
        return cpl0_ok ? RUNS : GP0;
    case NEED_CPL0_PROT:
        return real_style ? UD : cpl0_ok ? RUNS : GP0;
    case NEED_PROT:
        return real_style ? UD : RUNS;
    case NEED_IOPL:
        if (mode == GUEST_V86 && r->bytes[0] != 0xfa && r->bytes[0] != 0xfb) {
            return GP0; /* ports in V86: only the bitmap counts, and it is closed */
        }
        return cpl <= iopl ? RUNS : GP0;
    case NEED_IOPL_V86:
        return mode == GUEST_V86 && iopl < 3 ? GP0 : RUNS;
    case NEED_CODE64_CPL0:
        return mode != GUEST_LONG ? UD : cpl0_ok ? RUNS : GP0;
    case NEED_CODE64:
        return mode == GUEST_LONG ? RUNS : UD;
    case NEED_NEVER:
        return UD;
    case NEED_CPL0_ELSE_UD:
        return cpl0_ok ? RUNS : UD;
    default:
        return RUNS;
    }
}

static void check(const struct row *r, enum guest_mode mode, unsigned cpl, unsigned iopl)
{
    struct guest *g = guest_new(mode);
    enum outcome want = expected(r, mode, cpl, iopl), got;
    struct cpu_x86 before;
    bool ok;

    prepare(g, mode == GUEST_V86 ? 0 : cpl);
    g->cpu->rflags |= (uint64_t)iopl << 12;
    if (r->bytes[1] == 0x32 || r->bytes[1] == 0x30) {
        g->cpu->gpr[CPU_RCX] = 0xc0000081;
    }
    memcpy(&before, g->cpu, sizeof(before));
    ok = guest_run_bytes(g, r->bytes, r->len);
    got = ok                                                                ? RUNS
          : g->fault.vector == CPU_UD                                       ? UD
          : g->fault.vector == CPU_GP && g->fault.has_error && !g->fault.error ? GP0
                                                                            : RUNS;
    if (got != want) {
        g_test_message("%s mode %d cpl %u iopl %u: want %d got %d (vector %u)", r->name,
                       (int)mode, cpl, iopl, (int)want, (int)got, g->fault.vector);
        g_test_fail();
    }
    if (!ok) {
        g_assert_cmpmem(&before, sizeof(before), g->cpu, sizeof(before)); /* nothing changed */
    }
    guest_free(g);
}

static void test_mode(gconstpointer data)
{
    enum guest_mode mode = (enum guest_mode)GPOINTER_TO_INT(data);

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (unsigned cpl = 0; cpl < 4 && rows[i].len != 0; cpl++) {
            if ((mode == GUEST_LONG && rows[i].not64) || (mode == GUEST_REAL && cpl != 0) ||
                (mode == GUEST_V86 && cpl != 3)) {
                continue;
            }
            for (unsigned iopl = 0; iopl < 4; iopl++) {
                check(&rows[i], mode, cpl, iopl);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/x86/priv/real", GINT_TO_POINTER(GUEST_REAL), test_mode);
    g_test_add_data_func("/x86/priv/protected", GINT_TO_POINTER(GUEST_PROT), test_mode);
    g_test_add_data_func("/x86/priv/long", GINT_TO_POINTER(GUEST_LONG), test_mode);
    g_test_add_data_func("/x86/priv/compatibility", GINT_TO_POINTER(GUEST_COMPAT), test_mode);
    g_test_add_data_func("/x86/priv/v86", GINT_TO_POINTER(GUEST_V86), test_mode);
    return g_test_run();
}
