/* SPDX-License-Identifier: MIT */
/* A PV guest's instruction that raised #GP by itself: carried out, or the exception goes on. */
#include "x86_guest.h"

#include <string.h>

struct seen {
    unsigned traps, ints;
    struct vcpu_trap trap;
    uint8_t vector;
    uint64_t next;
    bool gate;
};

static struct seen seen; /* of the test that runs */

static void pv_trap(struct vcpu *v, const struct vcpu_trap *trap)
{
    (void)v;
    seen.traps++;
    seen.trap = *trap;
}

static bool pv_int(struct vcpu *v, uint8_t vector, uint64_t next)
{
    (void)v;
    seen.ints++;
    seen.vector = vector;
    seen.next = next;
    return seen.gate;
}

static bool pv_io(struct vcpu *v, uint16_t port, unsigned size)
{
    (void)v, (void)size;
    return port == 0xe9;
}

static bool pv_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    (void)v, (void)index, (void)value;
    return false;
}

static bool pv_read_cr(struct vcpu *v, unsigned nr, uint64_t *value)
{
    (void)v;
    *value = 0x1234;
    return nr == 0;
}

static const struct vcpu_pv_ops ops = {
    .trap = pv_trap, .software_int = pv_int, .io_allowed = pv_io, .read_cr = pv_read_cr,
    .wrmsr = pv_wrmsr,
};

/* The bytes at the end of a page whose successor is not there, if `last`. */
static uint64_t more_flags;

static struct guest *native_guest(const uint8_t *bytes, size_t len, bool last)
{
    struct guest *g = guest_new(GUEST_LONG);
    uint64_t at = last ? G_CODE + 0x1000 - len : G_CODE;

    memset(&seen, 0, sizeof(seen));
    guest_to_user(g);
    g->v->pv = &ops;
    g->cpu->pv_kernel = true;
    g->cpu->rip = at;
    g->cpu->rflags |= more_flags;
    memcpy(g->ram + at, bytes, len);
    if (last) {
        guest_put(g, G_PT + (G_CODE / 4096 + 1) * 8, 0, 8);
    }
    x86_pv_protection(g->v, &(struct x86_fault){.vector = CPU_GP, .has_error = true,
                                                .error = 0x77});
    return g;
}
#define NATIVE(last, ...)                                                                      \
    native_guest((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), last)

static void test_carried_out(void)
{
    struct guest *g = NATIVE(false, 0x0f, 0x20, 0xc3); /* mov %cr0, %rbx */

    g_assert_cmpuint(seen.traps, ==, 0);
    g_assert_cmphex(g->cpu->gpr[CPU_RBX], ==, 0x1234);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 3);
    guest_free(g);
}

/* Behind it: RF of the #GP's frame is off, and a single step is told. */
static void test_stepped(void)
{
    struct guest *g;

    more_flags = CPU_RF | CPU_TF;
    g = NATIVE(false, 0x0f, 0x20, 0xc3);
    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmpuint(seen.trap.vector, ==, CPU_DB);
    g_assert_cmphex(seen.trap.dr6, ==, 0x4000);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 3);
    g_assert_cmphex(g->cpu->rflags & (CPU_RF | CPU_TF), ==, CPU_TF);
    guest_free(g);
    g = NATIVE(false, 0xe6, 0x10); /* refused: not behind it */
    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmpuint(seen.trap.vector, ==, CPU_GP);
    g_assert_cmphex(g->cpu->rflags & (CPU_RF | CPU_TF), ==, CPU_RF | CPU_TF);
    guest_free(g);
    more_flags = CPU_RF;
    g = NATIVE(false, 0x0f, 0x20, 0xc3);
    g_assert_cmpuint(seen.traps, ==, 0);
    g_assert_cmphex(g->cpu->rflags & (CPU_RF | CPU_TF), ==, 0);
    guest_free(g);
    more_flags = 0;
}

static void test_page_end(void)
{
    struct guest *g = NATIVE(true, 0x0f, 0x20, 0xc3);

    g_assert_cmpuint(seen.traps, ==, 0);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + 0x1000);
    guest_free(g);
}

static void test_software_int(void)
{
    struct guest *g;

    g = NATIVE(false, 0xcd, 0x80); /* nobody handles it */
    g_assert_cmpuint(seen.ints, ==, 1);
    g_assert_cmpuint(seen.vector, ==, 0x80);
    g_assert_cmphex(seen.next, ==, G_CODE + 2);
    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmpuint(seen.trap.vector, ==, CPU_GP);
    g_assert_cmphex(seen.trap.error, ==, 0x80 * 8 + 2);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    guest_free(g);
}

static void test_refused(void)
{
    struct guest *g = NATIVE(false, 0xe6, 0x10); /* out %al, $0x10 */

    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmphex(seen.trap.error, ==, 0); /* the instruction's own */
    g_assert_cmphex(g->cpu->rip, ==, G_CODE);
    guest_free(g);
}

/* An address that is not canonical, or a misaligned operand: not the hypervisor's business. */
static void test_goes_on(void)
{
    struct guest *g = NATIVE(false, 0x48, 0x8b, 0x00); /* mov (%rax), %rax */

    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmpuint(seen.trap.vector, ==, CPU_GP);
    g_assert_true(seen.trap.has_error);
    g_assert_cmphex(seen.trap.error, ==, 0x77);
    guest_free(g);
    g = NATIVE(false, 0x0f, 0xae, 0x00); /* fxsave (%rax) */
    g_assert_cmpuint(seen.traps, ==, 1);
    g_assert_cmphex(seen.trap.error, ==, 0x77);
    guest_free(g);
}

static unsigned barriers;

static void count_barrier(struct vcpu *v)
{
    (void)v;
    barriers++;
}

/* WRMSR of PRED_CMD: the engine is told. AMD's profile has no such MSR. */
static void test_barrier(void)
{
    struct guest *g = NATIVE(false, 0x0f, 0x20, 0xc3);
    const bool has = x86_wrmsr(g->v, 0x49, 0);

    for (unsigned value = 0; value < 2; value++) {
        memcpy(g->ram + G_CODE, "\x0f\x30", 2);
        barriers = seen.traps = 0;
        g->accel.branch_barrier = count_barrier;
        g->cpu->rip = G_CODE;
        g->cpu->gpr[CPU_RCX] = 0x49;
        g->cpu->gpr[CPU_RAX] = value;
        g->cpu->gpr[CPU_RDX] = 0;
        x86_pv_protection(g->v, &(struct x86_fault){.vector = CPU_GP, .has_error = true});
        g_assert_cmpuint(barriers, ==, has ? value : 0);
        g_assert_cmpuint(seen.traps, ==, has ? 0 : 1);
    }
    guest_free(g);
}

/* The revision of the microcode: Intel's takes 0. */
static void test_microcode(void)
{
    struct guest *g = NATIVE(false, 0x0f, 0x20, 0xc3);
    struct cpu_model model = *cpu_model_of(g->v);

    g->v->model = &model;
    for (unsigned i = 0; i < 4; i++) {
        memcpy(g->ram + G_CODE, "\x0f\x30", 2);
        model.amd = (i & 1) != 0;
        seen.traps = 0;
        g->cpu->rip = G_CODE;
        g->cpu->gpr[CPU_RCX] = 0x8b;
        g->cpu->gpr[CPU_RAX] = i >> 1;
        g->cpu->gpr[CPU_RDX] = 0;
        x86_pv_protection(g->v, &(struct x86_fault){.vector = CPU_GP, .has_error = true});
        g_assert_cmpuint(seen.traps, ==, i == 0 ? 0 : 1);
        g_assert_cmphex(g->cpu->rip, ==, G_CODE + (i == 0 ? 2 : 0));
    }
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpu/x86/pv-native/carried-out", test_carried_out);
    g_test_add_func("/cpu/x86/pv-native/stepped", test_stepped);
    g_test_add_func("/cpu/x86/pv-native/page-end", test_page_end);
    g_test_add_func("/cpu/x86/pv-native/software-int", test_software_int);
    g_test_add_func("/cpu/x86/pv-native/refused", test_refused);
    g_test_add_func("/cpu/x86/pv-native/goes-on", test_goes_on);
    g_test_add_func("/cpu/x86/pv-native/barrier", test_barrier);
    g_test_add_func("/cpu/x86/pv-native/microcode", test_microcode);
    return g_test_run();
}
