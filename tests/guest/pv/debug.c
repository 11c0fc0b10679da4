/* SPDX-License-Identifier: MIT */
/*
 * Debug registers by call and by instruction, breakpoints that must not hit, single steps over
 * what runs and over what the hypervisor carries out, INT3. None of it needs a processor that
 * hits breakpoints: debug_hit has those, and INT1.
 */
#include "pv.h"

#define NONE 0xffff0ff0u /* DR6 */
#define STEP (NONE | 0x4000)
enum { TRAIL = 16 };

uint64_t ran;
void run_here(void);
void walk(uint64_t *entry, uint64_t value);
void trap_three(void);
extern uint8_t walk_nop[], walk_dr7[], walk_cpuid[], walk_write[], walk_int[], walk_behind[],
    walk_last[], walk_end[], behind_int3[];

/* rdi: a page table's entry, rsi: its value. */
__asm__("    .text\n"
        "run_here:    incq ran(%rip)\n"
        "             ret\n"
        "walk:        pushq %rbx\n"
        "             pushfq\n"
        "             orq $0x100, (%rsp)\n"
        "             popfq\n"
        "walk_nop:    nop\n"
        "walk_dr7:    movq %dr7, %rax\n"
        "walk_cpuid:  ud2a\n"
        "             .ascii \"xen\"\n"
        "             cpuid\n"
        "walk_write:  movq %rsi, (%rdi)\n"
        "walk_int:    int $0x80\n"
        "walk_behind: nop\n"
        "walk_last:   nop\n"
        "walk_end:    popq %rbx\n"
        "             ret\n"
        "trap_three:  int3\n"
        "behind_int3: ret\n");

static uint64_t trail[TRAIL], trail_dr6[TRAIL], cell;
static unsigned steps, others;

/* Where each step was. */
static bool take_step(struct frame *f)
{
    if (f->vector != 1) {
        others++;
        trail[TRAIL - 1] = f->vector;
        return f->vector == 3 || f->vector == 0x80;
    }
    if (steps < TRAIL - 1) {
        trail[steps] = f->rip;
        trail_dr6[steps] = HC1(get_debugreg, 6);
    }
    steps++;
    CHECK(HC2(set_debugreg, 6, NONE), 0);
    if (f->rip == (uint64_t)walk_end || steps == TRAIL - 1) {
        f->flags &= ~0x100ull;
    }
    return true;
}

static uint64_t read_dr(unsigned nr)
{
    uint64_t value = 0;

    switch (nr) {
    case 0: __asm__ volatile("movq %%dr0, %0" : "=r"(value)); break;
    case 1: __asm__ volatile("movq %%dr1, %0" : "=r"(value)); break;
    case 2: __asm__ volatile("movq %%dr2, %0" : "=r"(value)); break;
    case 3: __asm__ volatile("movq %%dr3, %0" : "=r"(value)); break;
    case 6: __asm__ volatile("movq %%dr6, %0" : "=r"(value)); break;
    case 7: __asm__ volatile("movq %%dr7, %0" : "=r"(value)); break;
    }
    return value;
}

static long write_dr0(uint64_t value)
{
    __asm__ volatile("movq %0, %%dr0" : : "r"(value));
    return 0;
}

static long write_dr3(uint64_t value)
{
    __asm__ volatile("movq %0, %%dr3" : : "r"(value));
    return 0;
}

static long write_dr6(uint64_t value)
{
    __asm__ volatile("movq %0, %%dr6" : : "r"(value));
    return 0;
}

static long write_dr7(uint64_t value)
{
    __asm__ volatile("movq %0, %%dr7" : : "r"(value));
    return 0;
}

static void check_registers(void)
{
    for (unsigned i = 0; i < 4; i++) {
        CHECK(HC2(set_debugreg, i, KV + i), 0);
        CHECK(read_dr(i), KV + i);
    }
    CHECK(try_call(write_dr3, 0x1234), 0);
    CHECK(HC1(get_debugreg, 3), 0x1234);
    CHECK(try_call(write_dr0, HV), 13 + 1);
    CHECK(HC1(get_debugreg, 0), KV);
    CHECK(try_call(write_dr6, 0), 0);
    CHECK(HC1(get_debugreg, 6), NONE);
    CHECK(HC2(set_debugreg, 6, 0xf), 0);
    CHECK(read_dr(6), NONE | 0xf);
    CHECK(HC2(set_debugreg, 6, 0), 0);
    CHECK(try_call(write_dr7, 2 << 28), 0); /* nothing is enabled */
    CHECK(HC1(get_debugreg, 7), 2 << 28 | 0x400);
    CHECK(try_call(write_dr7, 1 << 13), 13 + 1); /* GD */
    CHECK(try_call(write_dr7, 0), 0);
    CHECK(read_dr(7), 0x400);
}

/* In code that has run before, too. */
static void check_misses(void)
{
    steps = others = 0;
    CHECK(HC2(set_debugreg, 0, run_here), 0);
    CHECK(HC2(set_debugreg, 1, &cell), 0);
    CHECK(HC2(set_debugreg, 7, 3 << 20), 0); /* set, not enabled */
    for (unsigned i = 0; i < 1000; i++) {
        run_here();
        *(volatile uint64_t *)&cell = i;
    }
    CHECK(HC2(set_debugreg, 0, run_here + 1), 0);
    CHECK(HC2(set_debugreg, 1, &cell + 1), 0);
    CHECK(HC2(set_debugreg, 7, 2 | 2 << 2 | 3 << 20 | 3 << 22), 0); /* beside it */
    run_here();
    *(volatile uint64_t *)&cell = 1;
    CHECK(HC2(set_debugreg, 7, 0), 0);
    CHECK(ran, 1001);
    CHECK(steps + others, 0);
    CHECK(HC1(get_debugreg, 6), NONE);
}

/* The hypervisor emulates three of these and sends the fourth to its gate, not as a step. */
static void check_steps(void)
{
    const uint8_t *const want[] = {walk_dr7, walk_cpuid, walk_write, walk_int, walk_last,
                                   walk_end};
    uint64_t *entry = l1e_of(page_alloc());

    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    steps = others = 0;
    walk(entry, *entry);
    CHECK(steps, sizeof(want) / sizeof(want[0]));
    for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        CHECK(trail[i] - (uint64_t)walk_nop, want[i] - walk_nop);
        CHECK(trail_dr6[i], STEP);
    }
    CHECK(others, 1);
    CHECK(trail[TRAIL - 1], 0x80);
}

static uint64_t at;

static bool take_three(struct frame *f)
{
    at = f->rip;
    return f->vector == 3;
}

static void check_int3(void)
{
    hook = take_three;
    CHECK(HC2(set_debugreg, 6, STEP), 0);
    trap_three();
    CHECK(at, (uint64_t)behind_int3);
    CHECK(HC1(get_debugreg, 6), STEP);
}

void test(void)
{
    traps_init();
    check_registers();
    hook = take_step;
    check_misses();
    check_steps();
    check_int3();
}
