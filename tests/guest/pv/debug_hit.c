/* SPDX-License-Identifier: MIT */
/* Breakpoints in the debug registers that hit, what does not, and what #DB says of it. INT1. */
#include "pv.h"

#define RF 0x10000u
#define NO_HITS 0xffff0ff0u /* DR6 */
enum kind { EXECUTE = 0, WRITE = 1, ACCESS = 3 };
enum length { ONE = 0, TWO = 1, EIGHT = 2, FOUR = 3 };

uint64_t ran;
void run_here(void);
void store_byte(void *to, uint64_t value);
void store(void *to, uint64_t value);
void load(const void *from);
void add(void *to, uint64_t value);
void emulated(uint64_t *entry, uint64_t value);
void trap_one(void);
extern uint8_t byte_stored[], stored[], loaded[], added[], behind_dr7[], behind_cpuid[],
    behind_entry[], behind_int1[];

__asm__("    .text\n"
        "run_here:    incq ran(%rip)\n"
        "             ret\n"
        "store_byte:  movb %sil, (%rdi)\n"
        "byte_stored: ret\n"
        "store:       movq %rsi, (%rdi)\n"
        "stored:      ret\n"
        "load:        movq (%rdi), %rax\n"
        "loaded:      ret\n"
        "add:         addq %rsi, (%rdi)\n"
        "added:       ret\n"
        "emulated:    pushq %rbx\n"
        "             movq %dr7, %rax\n"
        "behind_dr7:  nop\n"
        "             ud2a\n"
        "             .ascii \"xen\"\n"
        "             cpuid\n"
        "behind_cpuid: nop\n"
        "             movq %rsi, (%rdi)\n"
        "behind_entry: popq %rbx\n"
        "             ret\n"
        "trap_one:    .byte 0xf1\n"
        "behind_int1: ret\n");

static unsigned hits;
static bool drop_rf;
static uint64_t at, flags, dr6;
static uint64_t cells[8] __attribute__((aligned(64)));

static bool take_hit(struct frame *f)
{
    if (f->vector != 1) {
        return false;
    }
    hits++;
    at = f->rip;
    flags = f->flags;
    dr6 = HC1(get_debugreg, 6);
    CHECK(HC2(set_debugreg, 6, NO_HITS), 0);
    if (hits == 10) { /* it would never end */
        CHECK(HC2(set_debugreg, 7, 0), 0);
    }
    if (drop_rf) {
        f->flags &= ~(uint64_t)RF;
        drop_rf = false;
    }
    return true;
}

/* DR7's bits of a breakpoint, by its G bit. */
static uint64_t bits(unsigned i, enum kind kind, enum length length)
{
    return 2ull << (2 * i) | (uint64_t)(kind | length << 2) << (16 + 4 * i);
}

static void watch(unsigned i, const volatile void *address, enum kind kind, enum length length)
{
    CHECK(HC2(set_debugreg, i, address), 0);
    CHECK(HC2(set_debugreg, 7, bits(i, kind, length)), 0);
}

#define HIT(call, nr, where)                                                                   \
    do {                                                                                       \
        hits = 0;                                                                              \
        call;                                                                                  \
        CHECK(hits, 1);                                                                        \
        CHECK(at, (uint64_t)(where));                                                          \
        CHECK(dr6, NO_HITS | 1u << (nr));                                                      \
    } while (0)
#define MISS(call)                                                                             \
    do {                                                                                       \
        hits = 0;                                                                              \
        call;                                                                                  \
        CHECK(hits, 0);                                                                        \
    } while (0)

/* Before the instruction, once: RF lets it run. In code that has run before, too. */
static void check_execute(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        MISS(run_here());
    }
    for (unsigned i = 0; i < 4; i++) {
        watch(i, run_here, EXECUTE, ONE);
        HIT(run_here(), i, run_here);
        CHECK(flags & RF, RF);
        HIT(run_here(), i, run_here);
    }
    CHECK(ran, 1008);
    drop_rf = true;
    hits = 0;
    run_here();
    CHECK(hits, 2);
    CHECK(ran, 1009);
    MISS(load((void *)run_here));
    CHECK(HC2(set_debugreg, 7, 0), 0);
    MISS(run_here());
    __asm__ volatile("movq %0, %%dr7" : : "r"(1ul)); /* L0, and by the instruction */
    HIT(run_here(), 0, run_here);
    CHECK(HC2(set_debugreg, 0, run_here + 1), 0);
    MISS(run_here());
}

/* After the instruction, which is done. */
static void check_write(void)
{
    uint8_t *bytes = (uint8_t *)&cells[2];

    for (unsigned i = 0; i < 1000; i++) {
        MISS(store(&cells[2], i));
    }
    for (unsigned i = 0; i < 4; i++) {
        watch(i, &cells[2], WRITE, EIGHT);
        HIT(store(&cells[2], 5 + i), i, stored);
        CHECK(cells[2], 5 + i);
        CHECK(flags & RF, 0);
        HIT(add(&cells[2], 7), i, added);
        CHECK(cells[2], 12 + i);
    }
    HIT(store_byte(bytes + 7, 1), 3, byte_stored);
    HIT(store(bytes - 7, 1), 3, stored); /* the first byte alone */
    MISS(store_byte(bytes - 1, 1));
    MISS(store_byte(bytes + 8, 1));
    MISS(store(bytes - 8, 1));
    MISS(load(bytes));
    watch(1, bytes + 4, WRITE, FOUR);
    MISS(store_byte(bytes + 3, 1));
    HIT(store_byte(bytes + 4, 1), 1, byte_stored);
    MISS(store_byte(bytes + 8, 1));
    watch(1, bytes + 4, WRITE, TWO);
    HIT(store_byte(bytes + 5, 1), 1, byte_stored);
    MISS(store_byte(bytes + 6, 1));
    watch(1, bytes + 4, WRITE, ONE);
    HIT(store_byte(bytes + 4, 1), 1, byte_stored);
    MISS(store_byte(bytes + 5, 1));
    CHECK(HC2(set_debugreg, 7, 0), 0);
    MISS(store(bytes, 1));
}

static void check_access(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        MISS(load(&cells[4]));
    }
    watch(2, &cells[4], ACCESS, EIGHT);
    HIT(load(&cells[4]), 2, loaded);
    HIT(store(&cells[4], 1), 2, stored);
    HIT(add(&cells[4], 1), 2, added);
    MISS(load(&cells[3]));
    MISS(load(&cells[5]));
    /* Two at once: one #DB, both bits. */
    CHECK(HC2(set_debugreg, 0, &cells[4]), 0);
    CHECK(HC2(set_debugreg, 7, bits(2, ACCESS, EIGHT) | bits(0, WRITE, ONE)), 0);
    hits = 0;
    store(&cells[4], 3);
    CHECK(hits, 1);
    CHECK(dr6, NO_HITS | 1 | 4);
    HIT(load(&cells[4]), 2, loaded);
    CHECK(HC2(set_debugreg, 7, 0), 0);
    MISS(load(&cells[4]));
}

/* Behind an instruction that the hypervisor carries out: the fault that told it had RF set. */
static void check_behind(void)
{
    const uint8_t *const places[] = {behind_dr7, behind_cpuid, behind_entry};
    uint64_t *entry = l1e_of(page_alloc());

    CHECK(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    for (unsigned i = 0; i < 3; i++) {
        watch(i, places[i], EXECUTE, ONE);
        HIT(emulated(entry, *entry), i, places[i]);
    }
    CHECK(HC2(set_debugreg, 7, 0), 0);
}

/* #DB that DR6 says nothing of. */
static void check_int1(void)
{
    CHECK(HC2(set_debugreg, 6, NO_HITS), 0);
    hits = 0;
    trap_one();
    CHECK(hits, 1);
    CHECK(at, (uint64_t)behind_int1);
    CHECK(dr6, NO_HITS);
}

void test(void)
{
    traps_init();
    hook = take_hit;
    check_int1();
    check_behind();
    check_execute();
    check_write();
    check_access();
}
