/* SPDX-License-Identifier: MIT */
/*
 * Memory order (SDM vol. 3 8.2, APM vol. 2 7.2): CPUs run two or three accesses each on the same
 * two words, in many slots, and what came out is looked at. Outcomes that the order of x86 forbids
 * must not be among it; those that it allows are counted and told. Plain loops over the slots, which
 * the translator checks once for many (its fast bodies), and loops that jump about in them and wait
 * for an instant before each, so that CPUs meet. Then LOCKed
 * counters over the ends of lines and pages, arrays that are handed over by a flag, and code that
 * another CPU changes by INT3 and serializing instructions, as Linux does.
 */
#include "ops.h"

enum { CPUS = 4, SLOTS = 512, ROUNDS = 150, LEAST_ROUNDS = 4, SPINS = 100 };
/* Of the TSC: for one shape, about, where rounds take long; before a round; for a slot. */
#define TICKS (1ull << 29)
enum { AHEAD = 3000, PACE = 1000 };

/* Far enough apart to be on lines of their own. */
struct word {
    volatile uint32_t v;
    uint32_t pad[15];
};
static struct word xs[SLOTS], ys[SLOTS] __attribute__((aligned(64)));
static volatile uint32_t seen[CPUS][SLOTS][2]; /* what each CPU loaded */
static volatile uint64_t start;                /* of a round */

static void wait_for(uint64_t tsc)
{
    while (__builtin_ia32_rdtsc() < tsc) {
    }
}

/* ---- CPUs ---- */

static context_type context;
static uint8_t stacks[CPUS][4096] __attribute__((aligned(16)));
static volatile uint32_t arrived, phase;
static unsigned up = 1; /* CPUs that run */
static void (*volatile job)(unsigned cpu);

static void wait_a_bit(unsigned *spins)
{
    __asm__ volatile("pause");
    if (++*spins % SPINS == 0) { /* hosts may have fewer processors than we */
        HC2(sched_op, SCHEDOP_yield, 0);
    }
}

static void barrier(void)
{
    uint32_t before = phase;
    unsigned spins = 0;

    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == up) {
        arrived = 0;
        __atomic_store_n(&phase, before + 1, __ATOMIC_SEQ_CST);
    }
    while (phase == before) {
        wait_a_bit(&spins);
    }
}

static void together(void (*what)(unsigned cpu))
{
    job = what;
    barrier();
    what(0);
    barrier();
}

static void use_idt(void);
static volatile uint32_t numbers;

static void other(void)
{
    unsigned cpu = __atomic_add_fetch(&numbers, 1, __ATOMIC_SEQ_CST);

    use_idt();
    for (;;) {
        barrier();
        job(cpu);
        barrier();
    }
}

static void nothing(unsigned cpu)
{
}

static void start_up_to(unsigned cpus)
{
    for (unsigned cpu = up; cpu < cpus; cpu++) {
        second_context(&context, other, stacks[cpu] + sizeof(stacks[cpu]));
        CHECK(HC3(vcpu_op, VCPUOP_initialise, cpu, &context), 0);
    }
    for (unsigned cpu = up; cpu < cpus; cpu++) {
        up++;
    }
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        if (HC3(vcpu_op, VCPUOP_is_up, cpu, 0) == 0) {
            CHECK(HC3(vcpu_op, VCPUOP_up, cpu, 0), 0);
        }
    }
    together(nothing);
}

/* ---- shapes ---- */

#define MFENCE       __asm__ volatile("mfence" ::: "memory")
#define LOCKED       __asm__ volatile("lock; orl $0, (%%rsp)" ::: "memory", "cc")
#define EXCHANGE(w, value)                                                                     \
    do {                                                                                       \
        uint32_t value_ = value;                                                               \
        __asm__ volatile("xchgl %0, %1" : "+r"(value_), "+m"(*w) : : "memory");                \
    } while (0)

/* What a CPU does with the words *x and *y of a slot; what it loads goes to r[0] and r[1]. */
#define BODY(name, ...)                                                                        \
    static void name##_line(unsigned cpu)                                                      \
    {                                                                                          \
        for (unsigned i = 0; i < SLOTS; i++) {                                                 \
            volatile uint32_t *x = &xs[i].v, *y = &ys[i].v, *r = seen[cpu][i];                 \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }                                                                                          \
    static void name##_mixed(unsigned cpu)                                                     \
    {                                                                                          \
        for (unsigned n = 0; n < SLOTS; n++) {                                                 \
            unsigned i = n * 97 % SLOTS;                                                       \
            volatile uint32_t *x = &xs[i].v, *y = &ys[i].v, *r = seen[cpu][i];                 \
                                                                                               \
            (void)*x; /* both CPUs have the lines then: stores wait, and loads do not */       \
            (void)*y;                                                                          \
            wait_for(start + n * PACE);                                                        \
            __VA_ARGS__                                                                        \
        }                                                                                      \
    }

BODY(set_x, *x = 1;)
BODY(set_y, *y = 1;)
BODY(set_both, *x = 1; *y = 1;)
BODY(set_both_2, *x = 2; *y = 1;)
BODY(set_1_2, *x = 1; *y = 2;)
BODY(set_2_1, *y = 1; *x = 2;)
BODY(get_x_y, r[0] = *x; r[1] = *y;)
BODY(get_y_x, r[0] = *y; r[1] = *x;)
BODY(get_x_twice, r[0] = *x; r[1] = *x;)
BODY(x_then_set_y, r[0] = *x; *y = 1;)
BODY(y_then_set_x, r[0] = *y; *x = 1;)
BODY(sb_x, *x = 1; r[0] = *y;)
BODY(sb_y, *y = 1; r[0] = *x;)
BODY(sb_x_mfence, *x = 1; MFENCE; r[0] = *y;)
BODY(sb_y_mfence, *y = 1; MFENCE; r[0] = *x;)
BODY(sb_x_locked, *x = 1; LOCKED; r[0] = *y;)
BODY(sb_y_locked, *y = 1; LOCKED; r[0] = *x;)
BODY(sb_x_exchange, EXCHANGE(x, 1); r[0] = *y;)
BODY(sb_y_exchange, EXCHANGE(y, 1); r[0] = *x;)
BODY(r_y_mfence, *y = 2; MFENCE; r[0] = *x;)

#define SEEN(cpu, n) seen[cpu][i][n]
#define OUTCOME(name, expression)                                                              \
    static bool name(unsigned i)                                                               \
    {                                                                                          \
        return expression;                                                                     \
    }
OUTCOME(mp_bad, SEEN(1, 0) == 1 && SEEN(1, 1) == 0)
OUTCOME(lb_bad, SEEN(0, 0) == 1 && SEEN(1, 0) == 1)
OUTCOME(s_bad, SEEN(1, 0) == 1 && xs[i].v == 2)
OUTCOME(r_bad, ys[i].v == 2 && SEEN(1, 0) == 0)
OUTCOME(w_bad, xs[i].v == 1 && ys[i].v == 1)
OUTCOME(sb_bad, SEEN(0, 0) == 0 && SEEN(1, 0) == 0)
OUTCOME(corr_bad, SEEN(1, 0) == 1 && SEEN(1, 1) == 0)
OUTCOME(wrc_bad, SEEN(1, 0) == 1 && SEEN(2, 0) == 1 && SEEN(2, 1) == 0)
OUTCOME(iriw_bad, SEEN(2, 0) == 1 && SEEN(2, 1) == 0 && SEEN(3, 0) == 1 && SEEN(3, 1) == 0)

struct shape {
    const char *name;
    bool (*outcome)(unsigned slot);
    bool allowed;
    void (*line[CPUS])(unsigned cpu);
    void (*mixed[CPUS])(unsigned cpu);
};
#define TWO(a, b)        {a##_line, b##_line}, {a##_mixed, b##_mixed}
#define THREE(a, b, c)   {a##_line, b##_line, c##_line}, {a##_mixed, b##_mixed, c##_mixed}
#define FOUR(a, b, c, d)                                                                       \
    {a##_line, b##_line, c##_line, d##_line}, {a##_mixed, b##_mixed, c##_mixed, d##_mixed}
static const struct shape twos[] = {
    {"MP", mp_bad, false, TWO(set_both, get_y_x)},
    {"LB", lb_bad, false, TWO(x_then_set_y, y_then_set_x)},
    {"S", s_bad, false, TWO(set_both_2, y_then_set_x)},
    {"2+2W", w_bad, false, TWO(set_1_2, set_2_1)},
    {"CoRR", corr_bad, false, TWO(set_x, get_x_twice)},
    {"SB", sb_bad, true, TWO(sb_x, sb_y)},
    {"SB with MFENCE", sb_bad, false, TWO(sb_x_mfence, sb_y_mfence)},
    {"SB with LOCK", sb_bad, false, TWO(sb_x_locked, sb_y_locked)},
    {"SB with XCHG", sb_bad, false, TWO(sb_x_exchange, sb_y_exchange)},
    {"R", r_bad, true, TWO(set_both, sb_y)},
    {"R with MFENCE", r_bad, false, TWO(set_both, r_y_mfence)},
};
static const struct shape fours[] = {
    {"WRC", wrc_bad, false, THREE(set_x, x_then_set_y, get_y_x)},
    {"IRIW", iriw_bad, false, FOUR(set_x, set_y, get_x_y, get_y_x)},
};

static const struct shape *volatile shape;
static volatile bool mixed;
static volatile uint32_t ready, players;

/* All of them begin at once: whoever waits here keeps its processor for a while. */
static void set_out(unsigned cpu)
{
    unsigned spins = 0;

    if (cpu != 0) {
        __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    }
    while (cpu == 0 ? ready != players - 1 : start == 0) {
        if (++spins % (SPINS * SPINS * 10) == 0) {
            HC2(sched_op, SCHEDOP_yield, 0);
        }
    }
    if (cpu == 0) {
        start = __builtin_ia32_rdtsc() + AHEAD;
    }
    wait_for(start);
}

static void run_shape(unsigned cpu)
{
    void (*what)(unsigned) = mixed ? shape->mixed[cpu] : shape->line[cpu];

    if (what != NULL) {
        set_out(cpu);
        what(cpu);
    }
}

static void clear_slots(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        xs[i].v = ys[i].v = 0;
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            seen[cpu][i][0] = seen[cpu][i][1] = 0;
        }
    }
}

static void try_shape(const struct shape *s)
{
    uint64_t begin = __builtin_ia32_rdtsc(), rounds = 0, found = 0;

    for (players = 0; players < CPUS && s->line[players] != NULL; players++) {
    }
    for (shape = s; rounds < ROUNDS; rounds++) {
        mixed = rounds % 2 != 0;
        clear_slots();
        start = ready = 0;
        together(run_shape);
        for (unsigned i = 0; i < SLOTS; i++) {
            found += s->outcome(i);
        }
        if (rounds >= LEAST_ROUNDS && __builtin_ia32_rdtsc() - begin > TICKS) {
            break;
        }
    }
    say(s->name);
    say(s->allowed ? ", allowed: " : ", forbidden: ");
    say_hex(found);
    say(" of ");
    say_hex(rounds * SLOTS);
    say("\n");
    check(s->allowed || found == 0, s->name, found);
}

/* ---- LOCKed counters ---- */

enum { COUNTS = 3000, PAGE = 4096 };
static uint8_t counters[3 * PAGE] __attribute__((aligned(PAGE)));
static uint8_t *volatile counter;
static uint8_t *apart; /* two pages that follow each other, but not in memory */

static void count_xadd(unsigned cpu)
{
    for (unsigned i = 0; i < COUNTS; i++) {
        uint64_t one = 1;

        __asm__ volatile("lock; xaddq %0, %1"
                         : "+r"(one), "+m"(*(uint64_t *)counter) : : "memory", "cc");
    }
}

static void count_inc(unsigned cpu)
{
    for (unsigned i = 0; i < COUNTS; i++) {
        __asm__ volatile("lock; incq %0" : "+m"(*(uint64_t *)counter) : : "memory", "cc");
    }
}

static void count_cmpxchg(unsigned cpu)
{
    for (unsigned i = 0; i < COUNTS; i++) {
        uint64_t old = *(volatile uint64_t *)counter; /* perhaps of two halves: then it does not fit */

        __asm__ volatile("1: leaq 1(%%rax), %%rdx\n\tlock; cmpxchgq %%rdx, %1\n\tjne 1b"
                         : "+a"(old), "+m"(*(uint64_t *)counter) : : "rdx", "memory", "cc");
    }
}

/* The upper half is the lower one's complement. */
static void count_cmpxchg16(unsigned cpu)
{
    for (unsigned i = 0; i < COUNTS; i++) {
        uint64_t low = 0, high = ~0ull;

        __asm__ volatile("1: leaq 1(%%rax), %%rbx\n\tmovq %%rbx, %%rcx\n\tnotq %%rcx\n\t"
                         "lock; cmpxchg16b %2\n\tjne 1b"
                         : "+a"(low), "+d"(high), "+m"(*(unsigned __int128 *)counter)
                         : : "rbx", "rcx", "memory", "cc");
    }
}

/* BTS is the lock, of a plain counter behind it. */
static void count_bts(unsigned cpu)
{
    volatile uint32_t *plain = (volatile uint32_t *)(counter + 64);

    for (unsigned i = 0, spins = 0; i < COUNTS; i++) {
        bool held;

        for (;;) {
            __asm__ volatile("lock; btsl $31, %1"
                             : "=@ccc"(held), "+m"(*(uint32_t *)counter) : : "memory");
            if (!held) {
                break;
            }
            wait_a_bit(&spins);
        }
        *plain += 1;
        __asm__ volatile("lock; btrl $31, %0" : "+m"(*(uint32_t *)counter) : : "memory", "cc");
    }
}

/* CPU 0 adds to the third byte and the ones above it; the others store to a byte each, and have to find
 * there what they stored. */
static volatile uint64_t lost;
static volatile bool added;

static void count_beside(unsigned cpu)
{
    static const uint8_t bytes[CPUS] = {0, 0, 1, 2};
    volatile uint8_t *mine = counter + bytes[cpu];

    if (cpu == 0) {
        for (unsigned i = 0; i < COUNTS; i++) {
            __asm__ volatile("lock; addq %1, %0"
                             : "+m"(*(uint64_t *)counter) : "r"(1ull << 24) : "memory", "cc");
        }
        added = true;
        return;
    }
    for (uint8_t value = 0; !added; value++) {
        *mine = value;
        for (unsigned i = 0; i < 40; i++) {
            __asm__ volatile("" : : : "memory");
        }
        if (*mine != value) {
            __atomic_add_fetch(&lost, 1, __ATOMIC_SEQ_CST);
        }
    }
}

static void put64(uint8_t *at, uint64_t low, uint64_t high)
{
    __builtin_memcpy(at, &low, 8);
    if (high != 0) {
        __builtin_memcpy(at + 8, &high, 8);
    }
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    __builtin_memcpy(&value, at, 8);
    return value;
}

static void count_at(uint8_t *at)
{
    counter = at;
    put64(at, 0, 0);
    together(count_xadd);
    CHECK(get64(at), up * COUNTS);
    together(count_inc);
    CHECK(get64(at), 2 * up * COUNTS);
    together(count_cmpxchg);
    CHECK(get64(at), 3 * up * COUNTS);
    if ((uintptr_t)at % 16 == 0) {
        put64(at, 0, ~0ull);
        together(count_cmpxchg16);
        CHECK(get64(at), up * COUNTS);
        CHECK(get64(at + 8), ~(uint64_t)(up * COUNTS));
    }
    put64(at, 0, 0);
    *(volatile uint32_t *)(at + 64) = 0;
    together(count_bts);
    CHECK(get64(at), 0);
    CHECK(*(uint32_t *)(at + 64), up * COUNTS);
    put64(at, 0, 0);
    added = false;
    together(count_beside);
    CHECK(get64(at) >> 24, COUNTS);
    CHECK(lost, 0);
}

/* The first and the third page of some, at an address where nothing is. */
static void map_apart(void)
{
    enum { AT = 0x3fe00000 };
    uint8_t *pages[] = {page_alloc(), page_alloc(), page_alloc()};
    uint64_t *l1 = page_alloc(), cr3, *table;

    __asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
    table = (uint64_t *)(*(uint64_t *)cr3 & ~0xfffull);
    table = (uint64_t *)(*table & ~0xfffull);
    for (unsigned i = 0; i < 2; i++) {
        l1[i] = (uint64_t)pages[2 * i] | P | RW | A | D;
    }
    table[AT >> 21] = (uint64_t)l1 | P | RW | A;
    apart = (uint8_t *)AT;
    __asm__ volatile("invlpg (%0)" : : "r"(apart) : "memory");
}

static void try_counters(void)
{
    count_at(counters);
    count_at(counters + 16);
    count_at(counters + 60);             /* over the end of a line */
    count_at(counters + PAGE - 4);       /* of a page */
    count_at(apart + PAGE - 3);          /* of one that is somewhere else */
    say("counters\n");
}

/* ---- arrays that are handed over ---- */

enum { WORDS = 3000, HANDOVERS = 200 };
static volatile uint32_t array[2][WORDS], flag, taken;
static volatile uint64_t torn; /* words that were not what the flag promised */
enum fill { FILL_LOOP, FILL_STOS, FILL_MOVS };

static void fill_array(volatile uint32_t *to, uint32_t value, enum fill how)
{
    volatile uint32_t *from = array[1];
    size_t n = WORDS;

    if (how == FILL_STOS) {
        __asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(value) : "memory");
        return;
    }
    for (unsigned i = 0; i < WORDS; i++) {
        (how == FILL_LOOP ? to : from)[i] = value;
    }
    if (how == FILL_MOVS) {
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    }
}

static void hand_over(unsigned cpu)
{
    unsigned spins = 0;

    for (uint32_t value = 1; value <= HANDOVERS; value++) {
        if (cpu == 0) {
            fill_array(array[0], value, value % 3);
            flag = value;
            while (taken != value) {
                wait_a_bit(&spins);
            }
        } else if (cpu == 1) {
            uint64_t wrong = 0;

            while (flag != value) {
                wait_a_bit(&spins);
            }
            for (unsigned i = 0; i < WORDS; i++) {
                wrong += array[0][i] != value;
            }
            torn += wrong;
            taken = value;
        }
    }
}

/* ---- code that another CPU changes ---- */

enum { BP = 3, CHANGES = 100, INT3 = 0xcc, MOV_EAX = 0xb8 };
extern uint8_t site_line[], site_page[], site_inside[], bp_entry[];
/* Functions that return what their instruction says, which lies in one line, in two, in two pages.
 * One that meets the INT3 returns ~0. */
__asm__(".text\n.balign 64\nsite_inside: movl $0, %eax\nret\n"
        ".balign 64\n.skip 62, 0x90\nsite_line: movl $0, %eax\nret\n"
        ".balign 4096\n.skip 4094, 0x90\nsite_page: movl $0, %eax\nret\n"
        "bp_entry: lock; incl traps_met\naddq $4, (%rsp)\nmovl $-1, %eax\niretq\n");
volatile uint32_t traps_met;
static uint8_t *site;
static volatile uint32_t asked, answered, settled, target, known;
static volatile bool changes_over;
static volatile uint64_t stale; /* calls that returned what was neither the old nor the new value */

static uint32_t value_of(uint32_t number)
{
    return (number & 0x7f) * 0x01010101;
}

static void serialize(void)
{
    uint32_t a = 0, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void ask_all(void)
{
    unsigned spins = 0;

    for (asked++; answered != asked;) {
        wait_a_bit(&spins);
    }
}

static void change_code(void)
{
    for (uint32_t number = 1; number <= CHANGES; number++) {
        uint32_t value = value_of(number);

        target = number;
        *(volatile uint8_t *)site = INT3;
        ask_all();
        for (unsigned i = 0; i < 4; i++) {
            ((volatile uint8_t *)site)[1 + i] = (uint8_t)(value >> 8 * i);
        }
        ask_all();
        *(volatile uint8_t *)site = MOV_EAX;
        settled = number;
        ask_all();
    }
    changes_over = true;
}

static void run_code(void)
{
    uint32_t (*function)(void) = (uint32_t(*)(void))site;

    while (!changes_over) {
        uint32_t got = function(), last = target;
        bool good = got == ~0u;

        for (uint32_t number = known; number <= last; number++) {
            good |= got == value_of(number);
        }
        stale += !good;
        if (asked != answered) {
            known = settled;
            serialize();
            answered = asked;
        }
    }
}

static void change_and_run(unsigned cpu)
{
    if (cpu == 0) {
        change_code();
    } else if (cpu == 1) {
        run_code();
    }
}

static void try_changes(uint8_t *at, const char *what)
{
    site = at;
    traps_met = settled = target = known = asked = answered = 0;
    changes_over = false;
    together(change_and_run);
    say(what);
    say(", INT3 met ");
    say_hex(traps_met);
    say("\n");
    CHECK(stale, 0);
    CHECK(((uint32_t(*)(void))at)(), value_of(CHANGES));
}

static uint64_t idt[2 * (BP + 1)];

static void use_idt(void)
{
    const uint64_t at = (uintptr_t)bp_entry;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (uint64_t)idt};

    idt[2 * BP] = (at & 0xffff) | 8u << 16 | 0x8eull << 40 | (at & 0xffff0000) << 32;
    idt[2 * BP + 1] = at >> 32;
    __asm__ volatile("lgdt gdt_pointer\n\tpushq $8\n\tpushq $1f\n\tlretq\n1:\tlidt %0"
                     : : "m"(pointer) : "memory");
}

void test(void)
{
    use_idt();
    map_apart();
    start_up_to(2);
    for (unsigned i = 0; i < sizeof(twos) / sizeof(twos[0]); i++) {
        try_shape(&twos[i]);
    }
    together(hand_over);
    CHECK(torn, 0);
    try_changes(site_inside, "code in one line");
    try_changes(site_line, "code in two lines");
    try_changes(site_page, "code in two pages");
    try_counters();
    start_up_to(CPUS);
    for (unsigned i = 0; i < sizeof(fours) / sizeof(fours[0]); i++) {
        try_shape(&fours[i]);
    }
    try_counters();
}
