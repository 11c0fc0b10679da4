/* SPDX-License-Identifier: MIT */
/*
 * Time on two CPUs, by their own pages (xen/xen.h, vcpu_time_info): no clock goes back, not on a
 * CPU and not from one to the other, and system time goes as the TSC does. Where that is looked
 * at while a guest changes its engine or is paused (tests/kvm/suite.py) the command line says how
 * often time must have begun anew before this ends, and with "busy " in front that CPU 0 does not
 * sleep in between. How far a clock went without a reading is only told: a host may have other
 * things to do.
 */
#include "ops.h"

enum {
    CPUS = 2,
    READS = 64,
    ROUNDS = 8, /* of reads and a sleep, after time has begun anew for the last time */
    SLEEP_NS = 5000000,
    PAUSE_NS = 1000000, /* a pause may count as time up to this (pv/time.c) */
    WALL_NS = 2000000,  /* the wall clock is the host's, which may be set right */
};

struct reading {
    uint64_t tsc, system, wall;
    uint32_t version;
};

static struct shared_info *si;
static const volatile struct vcpu_time_info *page[CPUS];
static struct reading own[CPUS], latest;
static uint32_t first_version[CPUS];
static volatile unsigned rounds[CPUS];
static volatile bool over;
static bool busy;
static volatile int lock;
static unsigned wanted;
static uint64_t system_leap, wall_leap;
static context_type context;
static uint8_t stack[4096] __attribute__((aligned(16)));

static uint64_t scaled(const volatile struct vcpu_time_info *t, uint64_t ticks)
{
    ticks = t->tsc_shift < 0 ? ticks >> -t->tsc_shift : ticks << t->tsc_shift;
    return (ticks >> 32) * t->tsc_to_system_mul +
           ((ticks & UINT32_MAX) * t->tsc_to_system_mul >> 32);
}

/* All of one instant, or at least between two changes of the pages. */
static struct reading read_clocks(unsigned cpu)
{
    const volatile struct vcpu_time_info *t = page[cpu];
    const volatile struct shared_info *wall = si;
    uint32_t wall_version;
    struct reading r;

    do {
        r.version = t->version;
        wall_version = wall->wc_version;
        __asm__ volatile("lfence" ::: "memory"); /* RDTSC does not wait for what is before it */
        r.tsc = __builtin_ia32_rdtsc();
        __asm__ volatile("lfence" ::: "memory");
        r.system = t->system_time + scaled(t, r.tsc - t->tsc_timestamp);
        r.wall = wall->wc_sec * 1000000000ull + wall->wc_nsec + r.system;
    } while (((r.version | wall_version) & 1) != 0 || r.version != t->version ||
             wall_version != wall->wc_version);
    return r;
}

static void good_or_over(bool good, const char *what, uint64_t got)
{
    if (!good) {
        check(false, what, got);
        over = true;
    }
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Since this CPU's last reading. */
static void compare(unsigned cpu, const struct reading *r)
{
    const struct reading *l = &own[cpu];
    const uint64_t by_tsc = scaled(page[cpu], r->tsc - l->tsc), by_page = r->system - l->system;

    good_or_over(r->tsc >= l->tsc, "the TSC does not go back", l->tsc - r->tsc);
    good_or_over(r->system >= l->system, "system time does not go back", l->system - r->system);
    good_or_over(r->wall + WALL_NS >= l->wall, "the wall clock does not go back", l->wall - r->wall);
    good_or_over(distance(by_page, by_tsc) <= 10 + (r->version - l->version) / 2 * (uint64_t)PAUSE_NS,
                 "system time goes as the TSC", by_page - by_tsc);
    if (r->version != l->version) {
        rounds[cpu] = 0;
    }
    system_leap = r->system > l->system && by_page > system_leap ? by_page : system_leap;
    wall_leap = r->wall > l->wall && r->wall - l->wall > wall_leap ? r->wall - l->wall : wall_leap;
}

/* Since anybody's last reading: promised where the TSC is said to be stable. */
static void compare_all(unsigned cpu, const struct reading *r)
{
    if ((page[cpu]->flags & XEN_PVCLOCK_TSC_STABLE_BIT) != 0) {
        good_or_over(r->tsc >= latest.tsc, "the TSC is not behind another CPU's", latest.tsc - r->tsc);
        good_or_over(r->system >= latest.system, "system time is not behind another CPU's",
                     latest.system - r->system);
    }
}

static void read_once(unsigned cpu)
{
    struct reading r;

    while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) != 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    r = read_clocks(cpu);
    if (own[cpu].version == 0) {
        first_version[cpu] = r.version;
    } else {
        compare(cpu, &r);
    }
    compare_all(cpu, &r);
    own[cpu] = latest = r;
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
}

static bool seen_enough(unsigned cpu)
{
    return rounds[cpu] >= ROUNDS && (own[cpu].version - first_version[cpu]) / 2 >= wanted;
}

static void rest(unsigned cpu)
{
    struct sched_poll sleep = {.nr_ports = 0, .timeout = own[cpu].system + SLEEP_NS};

    if (cpu == 0 && busy) {
        HC2(sched_op, SCHEDOP_yield, 0);
    } else {
        good_or_over(HC2(sched_op, SCHEDOP_poll, &sleep) == 0, "SCHEDOP_poll", 0);
    }
}

static void run(unsigned cpu)
{
    while (!over) {
        for (unsigned i = 0; i < READS && !over; i++) {
            read_once(cpu);
        }
        rest(cpu);
        rounds[cpu]++;
        if (cpu == 0 && seen_enough(0) && seen_enough(1)) {
            over = true;
        }
    }
}

static void second(void)
{
    run(1);
    HC3(vcpu_op, VCPUOP_down, 1, 0);
}

/* With a page of its own for what is the vCPU's, as Linux has it. */
static void start_second(void)
{
    uint8_t *info = page_alloc();
    struct vcpu_register_vcpu_info op = {.mfn = va_mfn(info), .offset = 64};

    second_context(&context, second, stack + sizeof(stack));
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &context), 0);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &op), 0);
    ((struct vcpu_info *)(info + 64))->evtchn_upcall_mask = 1; /* nobody takes them here */
    page[1] = &((struct vcpu_info *)(info + 64))->time;
    CHECK(HC3(vcpu_op, VCPUOP_up, 1, 0), 0);
}

static void tell(const char *what, uint64_t value)
{
    say(what);
    say_hex(value);
    say("\n");
}

void test(void)
{
    const char *line = command_line();

    busy = *line == 'b';
    for (line += busy ? sizeof("busy ") - 1 : 0; *line >= '0' && *line <= '9'; line++) {
        wanted = wanted * 10 + (unsigned)(*line - '0');
    }
    si = map_shared_info();
    page[0] = &si->vcpu_info[0].time;
    start_second();
    read_once(0);
    while (rounds[1] == 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    say("READY\n");
    run(0);
    while (HC3(vcpu_op, VCPUOP_is_up, 1, 0) != 0) {
        HC2(sched_op, SCHEDOP_yield, 0);
    }
    CHECK((own[0].version - first_version[0]) / 2, wanted);
    CHECK((own[1].version - first_version[1]) / 2, wanted);
    tell("system time without a reading, at most ", system_leap);
    tell("wall clock without a reading, at most ", wall_leap);
}
