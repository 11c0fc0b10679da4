/* SPDX-License-Identifier: MIT */
/*
 * Flushes that name vCPUs: mmuext_op and update_va_mapping. Both vCPUs look at a page whose
 * entry is changed without a flush. What they find then is their own affair (said at the end:
 * on engines whose TLB is pvemu's both still find the old page); behind the flush, those that
 * it names must find the new one, at once.
 */
#include "pv.h"

enum { PATIENCE = 300000, BOTH = 3, FIRST = 1, SECOND = 2 };

static struct vcpu_guest_context context;
static uint8_t stack[4096] __attribute__((aligned(16)));
static volatile uint64_t question, answer; /* the number, and above it what was found there */
static volatile uint32_t *spot;            /* what is looked at */
static uint64_t spot_entry;                /* its entry's machine address */
static uint32_t *page[2];                  /* i + 1 is in page[i] */
static unsigned now;                       /* which of them is at spot */
static unsigned looks, old, spares, spared;
static uint64_t kind;                      /* further bits of that entry */
static const char *what;

/* CPU 1: no hypercall, so nothing but a flush makes its translations go. */
static void second(void)
{
    for (;;) {
        const uint64_t number = question;

        answer = (uint64_t)*spot << 32 | number;
        __asm__ volatile("pause");
    }
}

static uint32_t second_finds(void)
{
    question++;
    for (unsigned i = 0; i < PATIENCE; i++) {
        const uint64_t got = answer;

        if ((uint32_t)got == question) {
            return got >> 32;
        }
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    check(false, "CPU 1 answers", question);
    finish();
}

/* The new page is at spot for the CPUs of `vcpus`. */
static void check_new(unsigned vcpus)
{
    if ((vcpus & FIRST) != 0) {
        check(*spot == now + 1, what, FIRST);
    }
    if ((vcpus & SECOND) != 0) {
        check(second_finds() == now + 1, what, SECOND);
    }
}

static uint64_t other_entry(void)
{
    now ^= 1;
    return va_mfn(page[now]) << 12 | P | RW | A | D | kind;
}

/* The other page is there, and nobody has been told. */
static void exchange(void)
{
    CHECK(mmu_update1(spot_entry, other_entry()), 0);
    looks += 2;
    old += *spot != now + 1;
    old += second_finds() != now + 1;
}

/* Those that were not named may find either; then everybody starts anew. */
static void forget(unsigned vcpus)
{
    if ((vcpus & FIRST) == 0) {
        spares++;
        spared += *spot != now + 1;
    }
    if ((vcpus & SECOND) == 0) {
        spares++;
        spared += second_finds() != now + 1;
    }
    what = "all are told";
    CHECK(mmuext1(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    check_new(BOTH);
}

/* mask: NULL for a flush of all. */
static void check_mmuext(const char *name, unsigned cmd, const uint64_t *mask, unsigned vcpus)
{
    const bool one = cmd == MMUEXT_INVLPG_MULTI || cmd == MMUEXT_INVLPG_ALL;

    exchange();
    what = name;
    CHECK(mmuext1(cmd, one ? (uint64_t)spot : 0, (uint64_t)mask), 0);
    check_new(vcpus);
    forget(vcpus);
}

static void check_va(const char *name, uint64_t flags, unsigned vcpus)
{
    what = name;
    CHECK(update_va((void *)spot, other_entry(), flags), 0);
    check_new(vcpus);
    forget(vcpus);
}

static void start_second(void)
{
    kernel_context(&context, second, stack + sizeof(stack));
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &context), 0);
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
}

static void place_pages(void)
{
    uint64_t *entry;

    spot = page_alloc();
    for (unsigned i = 0; i < 2; i++) {
        page[i] = page_alloc();
        page[i][0] = i + 1;
    }
    entry = l1e_of((void *)spot);
    spot_entry = (va_mfn(entry) << 12) + ((uint64_t)entry & 4095);
    CHECK(update_va((void *)spot, other_entry(), UVMF_INVLPG), 0);
}

static void check_flushes(void)
{
    static const uint64_t first = FIRST, other = SECOND, both = BOTH, nobody = 0;
    static const uint64_t none_such = 0xff; /* only two of these exist */

    CHECK(update_va((void *)spot, other_entry(), UVMF_TLB_FLUSH | UVMF_ALL), 0);
    what = "both find the page";
    check_new(BOTH);
    check_mmuext("TLB_FLUSH_MULTI, CPU 1", MMUEXT_TLB_FLUSH_MULTI, &other, SECOND);
    check_mmuext("TLB_FLUSH_MULTI, CPU 0", MMUEXT_TLB_FLUSH_MULTI, &first, FIRST);
    check_mmuext("TLB_FLUSH_MULTI, both", MMUEXT_TLB_FLUSH_MULTI, &both, BOTH);
    check_mmuext("TLB_FLUSH_MULTI, nobody", MMUEXT_TLB_FLUSH_MULTI, &nobody, 0);
    check_mmuext("TLB_FLUSH_MULTI, eight", MMUEXT_TLB_FLUSH_MULTI, &none_such, BOTH);
    check_mmuext("TLB_FLUSH_ALL", MMUEXT_TLB_FLUSH_ALL, NULL, BOTH);
    check_mmuext("TLB_FLUSH_LOCAL", MMUEXT_TLB_FLUSH_LOCAL, NULL, FIRST);
    check_mmuext("INVLPG_MULTI, CPU 1", MMUEXT_INVLPG_MULTI, &other, SECOND);
    check_mmuext("INVLPG_MULTI, CPU 0", MMUEXT_INVLPG_MULTI, &first, FIRST);
    check_mmuext("INVLPG_MULTI, both", MMUEXT_INVLPG_MULTI, &both, BOTH);
    check_mmuext("INVLPG_ALL", MMUEXT_INVLPG_ALL, NULL, BOTH);
    check_va("update, TLB_FLUSH of CPU 1", UVMF_TLB_FLUSH | (uint64_t)&other, SECOND);
    check_va("update, TLB_FLUSH of CPU 0", UVMF_TLB_FLUSH | (uint64_t)&first, FIRST);
    check_va("update, TLB_FLUSH of all", UVMF_TLB_FLUSH | UVMF_ALL, BOTH);
    check_va("update, TLB_FLUSH", UVMF_TLB_FLUSH, FIRST);
    check_va("update, INVLPG of CPU 1", UVMF_INVLPG | (uint64_t)&other, SECOND);
    check_va("update, INVLPG of CPU 0", UVMF_INVLPG | (uint64_t)&first, FIRST);
    check_va("update, INVLPG of all", UVMF_INVLPG | UVMF_ALL, BOTH);
    check_va("update, INVLPG", UVMF_INVLPG, FIRST);
    check_va("update, no flush", 0, 0);
}

/* A page as programs may have it, and data and code of the kernel alone. */
void test(void)
{
    static const uint64_t kinds[] = {US, NX, 0};

    map_shared_info()->vcpu_info[1].evtchn_upcall_mask = 1;
    place_pages();
    start_second();
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        kind = kinds[i];
        check_flushes();
    }
    say("old before the flush ");
    say_hex(old);
    say(" of ");
    say_hex(looks);
    say(", where not named ");
    say_hex(spared);
    say(" of ");
    say_hex(spares);
    say(old == looks && spared == spares ? ": all old\n" : "\n");
    CHECK(HC3(vcpu_op, VCPUOP_down, 1, 0), 0);
}
