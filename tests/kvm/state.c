/* SPDX-License-Identifier: MIT */
/*
 * On a true KVM: AVX registers over exits, home, and to another engine and back; and which pages the
 * guest has written to.
 */
#include "../unit/interp/guest.h"

/* The interpreter itself; guest.h's name for it means KVM here. */
#undef interp_accel_ops
extern const struct accel_ops interp_accel_ops;
#define interp_accel_ops guest_kvm_ops
static const struct accel_ops *other_engine(void);

enum { XMM0 = 160, YMM_HIGH = 576, XSTATE_BV = 512, YMM_BYTES = 32 };

/* ymm0..15 from G_DATA on. */
#define YMM_LOAD(i) "vmovdqu 0x200000 + " #i " * 32, %ymm" #i "\n"
#define YMM_STORE(i) "vmovdqu %ymm" #i ", 0x200400 + " #i " * 32\n"
#define YMM_ADD(i) "vpaddd %ymm" #i ", %ymm" #i ", %ymm" #i "\n"
#define YMM_ALL(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)

GUEST_CODE(avx_load, YMM_ALL(YMM_LOAD) "outb %al, $0x80\ninb $0x80, %al\nhlt");
GUEST_CODE(avx_add, YMM_ALL(YMM_ADD) "outb %al, $0x80\nhlt");
GUEST_CODE(avx_store, "outb %al, $0x80\n" YMM_ALL(YMM_STORE) "hlt");

static uint32_t word(unsigned i)
{
    return 0x01010101u * (i & 0xff) + i * 0x10001;
}

static void run_code(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    guest_load(g, G_CODE, code, (size_t)(end - code));
    guest_run(g, EXIT_HALT);
    g_assert_cmphex(g->cpu->rip, ==, G_CODE + (uint64_t)(end - code));
}

/* Every 32-bit word of ymm0..15 in v->cpu is its first value times `factor`. */
static void assert_home(struct guest *g, uint32_t factor)
{
    const uint8_t *x = g->cpu->xsave;

    g_assert_cmphex(x[XSTATE_BV] & 6, ==, 6);
    for (unsigned i = 0; i < 16 * 8; i++) {
        unsigned reg = i / 8, at = i % 8;
        uint32_t now;

        memcpy(&now, at < 4 ? x + XMM0 + reg * 16 + at * 4 : x + YMM_HIGH + reg * 16 + (at - 4) * 4,
               sizeof(now));
        g_assert_cmphex(now, ==, word(i) * factor);
    }
}

/* The guest goes on with another engine until the next exit, and comes back. */
static void run_elsewhere(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    const struct accel_ops *kvm = g->v->accel, *other = other_engine();
    void *engine = g->v->engine;
    uint64_t words[4];

    memcpy(words, g->v->engine_words, sizeof(words));
    g->v->accel = other;
    g->v->engine = NULL;
    g_assert_true(other->vcpu_init(g->v, NULL));
    guest_load(g, G_CODE, code, (size_t)(end - code));
    g->cpu->halted = false;
    other->run(g->v, &g->exit);
    g_assert_cmpint(g->exit.kind, ==, EXIT_HALT);
    other->vcpu_fini(g->v);
    memcpy(g->v->engine_words, words, sizeof(words));
    g->v->engine = engine;
    g->v->accel = kvm;
    kvm->state_changed(g->v);
}

static void test_avx(void)
{
    struct guest *g = guest_new();

    if (!cpu_model_has(g->v->model, INSN_FEAT_AVX2)) {
        g_test_skip("no AVX2 here");
        guest_free(g);
        return;
    }
    for (unsigned i = 0; i < 16 * 8; i++) {
        uint32_t value = word(i);

        memcpy(g->ram + G_DATA + i * 4, &value, sizeof(value));
    }
    run_code(g, avx_load, avx_load_end);
    assert_home(g, 1);
    run_code(g, avx_add, avx_add_end); /* not loaded again: KVM had them */
    assert_home(g, 2);
    run_elsewhere(g, avx_add, avx_add_end);
    assert_home(g, 4);
    run_code(g, avx_add, avx_add_end);
    run_code(g, avx_store, avx_store_end);
    assert_home(g, 8);
    for (unsigned i = 0; i < 16 * 8; i++) {
        uint32_t now;

        memcpy(&now, g->ram + G_DATA + 0x400 + i * 4, sizeof(now));
        g_assert_cmphex(now, ==, word(i) * 8);
    }
    g_assert_cmphex(g->cpu->xcr0, ==, 7);
    guest_free(g);
}

/* --- written pages --- */

GUEST_CODE(write_pages, "movb $1, 0x203000\n"
                        "incl 0x23fffe\n" /* two pages */
                        "movl 0x210000, %eax\n"
                        "hlt");

static uint8_t *dirty_flags(struct guest *g, uint64_t gpa)
{
    struct mem *mem = g->fb->board.mem;

    return (uint8_t *)&mem_frame_info(mem, mem_gfn_frame(mem, gpa >> 12))->flags;
}

static void assert_dirty(struct guest *g, bool want)
{
    static const uint64_t written[] = {0x203000, 0x23f000, 0x240000};

    g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_READ, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(written); i++) {
        g_assert_cmpint((*dirty_flags(g, written[i]) & MEM_DIRTY) != 0, ==, want);
    }
    g_assert_cmpint(*dirty_flags(g, 0x210000) & MEM_DIRTY, ==, 0); /* only read */
    for (uint64_t gpa = 0; gpa < G_RAM; gpa += MEM_PAGE_SIZE) {
        *dirty_flags(g, gpa) &= (uint8_t)~MEM_DIRTY;
    }
}

static void test_dirty(void)
{
    struct guest *g = guest_new();

    run_code(g, write_pages, write_pages_end); /* before it starts: not seen */
    g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_START, NULL));
    for (uint64_t gpa = 0; gpa < G_RAM; gpa += MEM_PAGE_SIZE) {
        *dirty_flags(g, gpa) &= (uint8_t)~MEM_DIRTY;
    }
    assert_dirty(g, false);
    run_code(g, write_pages, write_pages_end);
    assert_dirty(g, true);
    assert_dirty(g, false);
    run_code(g, write_pages, write_pages_end); /* again, after reading */
    assert_dirty(g, true);
    g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_STOP, NULL));
    run_code(g, write_pages, write_pages_end);
    guest_free(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kvm/state/avx", test_avx);
    g_test_add_func("/kvm/state/dirty", test_dirty);
    return g_test_run();
}

#undef interp_accel_ops
static const struct accel_ops *other_engine(void)
{
    return &interp_accel_ops;
}
