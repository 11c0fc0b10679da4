/* SPDX-License-Identifier: MIT */
/* Local APICs among each other: destinations, shorthands, INIT and SIPI, x2APIC; and their state to
 * another one and back. */
#include <string.h>

#include "hw/apic.h"
#include "fake_board.h"

enum { NR = 4, ICR_LOW = 0x300, ICR_HIGH = 0x310, EOI = 0xb0, SVR = 0xf0, LDR = 0xd0, DFR = 0xe0 };
enum { MSR_BASE = 0x1b, MSR_ICR = 0x830, MSR_ID = 0x802, MSR_LDR = 0x80d, MSR_SELF = 0x83f };
enum { VECTOR = 0x40, MODE_INIT = 0x4500, MODE_SIPI = 0x4600, MODE_NMI = 0x4400 };
#define LOGICAL (1u << 11)

struct fabric {
    struct fake_board *fb;
    struct apic_bus bus;
    unsigned inits[NR], sipis[NR];
    uint8_t vector;
};

static void note_init_sipi(void *opaque, unsigned vcpu, bool sipi, uint8_t vector)
{
    struct fabric *f = opaque;

    if (sipi) {
        f->sipis[vcpu]++;
        f->vector = vector;
    } else {
        f->inits[vcpu]++;
    }
}

static void fabric_init(struct fabric *f)
{
    memset(f, 0, sizeof(*f));
    f->fb = fake_board_new(NR, 0, 0);
    for (unsigned i = 0; i < NR; i++) {
        lapic_new(&f->bus, &f->fb->board, i, 2 * i, 1000000000);
        lapic_write(f->bus.lapic[i], SVR, 0x1ff);
    }
    f->bus.init_sipi = note_init_sipi;
    f->bus.opaque = f;
}

static void fabric_fini(struct fabric *f)
{
    for (unsigned i = 0; i < NR; i++) {
        lapic_free(f->bus.lapic[i]);
    }
    fake_board_free(f->fb);
}

/* CPU 1 sends. */
static void send(struct fabric *f, uint32_t high, uint32_t low)
{
    lapic_write(f->bus.lapic[1], ICR_HIGH, high);
    lapic_write(f->bus.lapic[1], ICR_LOW, low);
}

/* Who has the vector, as bits; takes it. */
static unsigned receivers(struct fabric *f)
{
    unsigned who = 0;

    for (unsigned i = 0; i < NR; i++) {
        if (lapic_ack(f->bus.lapic[i]) == VECTOR) {
            who |= 1u << i;
            lapic_write(f->bus.lapic[i], EOI, 0);
        }
        g_assert_cmpint(lapic_ack(f->bus.lapic[i]), ==, -1);
    }
    return who;
}

static void test_destinations(void)
{
    struct fabric f;

    fabric_init(&f);
    send(&f, 4u << 24, VECTOR); /* physical: APIC id 4 is CPU 2 */
    g_assert_cmphex(f.fb->requested[2] & VCPU_REQ_IRQ, ==, VCPU_REQ_IRQ);
    g_assert_cmphex(receivers(&f), ==, 1 << 2);
    send(&f, 5u << 24, VECTOR); /* nobody's */
    g_assert_cmphex(receivers(&f), ==, 0);
    send(&f, 0xffu << 24, VECTOR);
    g_assert_cmphex(receivers(&f), ==, 0xf);
    send(&f, 0, VECTOR | 1 << 18); /* self, all, all others */
    g_assert_cmphex(receivers(&f), ==, 1 << 1);
    send(&f, 0, VECTOR | 2 << 18);
    g_assert_cmphex(receivers(&f), ==, 0xf);
    send(&f, 0, VECTOR | 3 << 18);
    g_assert_cmphex(receivers(&f), ==, 0xd);
    send(&f, 4u << 24, 5); /* an illegal vector goes nowhere */
    g_assert_cmphex(receivers(&f), ==, 0);
    fabric_fini(&f);
}

static void test_logical(void)
{
    struct fabric f;

    fabric_init(&f);
    for (unsigned i = 0; i < NR; i++) {
        lapic_write(f.bus.lapic[i], DFR, UINT32_MAX);
        lapic_write(f.bus.lapic[i], LDR, 1u << (24 + i));
    }
    send(&f, 0x5u << 24, VECTOR | LOGICAL);
    g_assert_cmphex(receivers(&f), ==, 0x5);
    for (unsigned i = 0; i < NR; i++) { /* clusters 0 and 1 of two */
        lapic_write(f.bus.lapic[i], DFR, 0x0fffffff);
        lapic_write(f.bus.lapic[i], LDR, (i / 2) << 28 | 1u << (24 + i % 2));
    }
    send(&f, 0x12u << 24, VECTOR | LOGICAL);
    g_assert_cmphex(receivers(&f), ==, 1 << 3);
    fabric_fini(&f);
}

static void test_x2apic(void)
{
    struct fabric f;
    uint64_t value;

    fabric_init(&f);
    for (unsigned i = 0; i < NR; i++) {
        g_assert_true(lapic_rdmsr(f.bus.lapic[i], MSR_BASE, &value));
        g_assert_cmphex(value, ==, LAPIC_GPA | 0x800 | (i == 0 ? 0x100 : 0));
        g_assert_false(lapic_rdmsr(f.bus.lapic[i], MSR_ID, &value));
        g_assert_true(lapic_wrmsr(f.bus.lapic[i], MSR_BASE, LAPIC_GPA | 0xc00));
        g_assert_true(lapic_rdmsr(f.bus.lapic[i], MSR_ID, &value));
        g_assert_cmphex(value, ==, 2 * i);
        g_assert_true(lapic_rdmsr(f.bus.lapic[i], MSR_LDR, &value));
        g_assert_cmphex(value, ==, 1u << (2 * i));
    }
    g_assert_true(lapic_wrmsr(f.bus.lapic[1], MSR_ICR, 6ull << 32 | VECTOR));
    g_assert_cmphex(receivers(&f), ==, 1 << 3);
    g_assert_true(lapic_wrmsr(f.bus.lapic[1], MSR_ICR, 0x11ull << 32 | LOGICAL | VECTOR));
    g_assert_cmphex(receivers(&f), ==, 0x5);
    g_assert_true(lapic_wrmsr(f.bus.lapic[1], MSR_ICR, 0xffffffffull << 32 | VECTOR));
    g_assert_cmphex(receivers(&f), ==, 0xf);
    g_assert_true(lapic_wrmsr(f.bus.lapic[2], MSR_SELF, VECTOR));
    g_assert_cmphex(receivers(&f), ==, 1 << 2);
    /* Back to xAPIC only by way of off. */
    g_assert_false(lapic_wrmsr(f.bus.lapic[2], MSR_BASE, LAPIC_GPA | 0x800));
    fabric_fini(&f);
}

static void test_start(void)
{
    struct fabric f;
    uint64_t value;

    fabric_init(&f);
    g_assert_true(lapic_wrmsr(f.bus.lapic[2], MSR_BASE, LAPIC_GPA | 0xc00));
    lapic_accept(f.bus.lapic[2], VECTOR, false);
    send(&f, 0, MODE_INIT | 3 << 18);
    send(&f, 4u << 24, MODE_SIPI | 0x9a);
    for (unsigned i = 0; i < NR; i++) {
        g_assert_cmpuint(f.inits[i], ==, i != 1);
        g_assert_cmpuint(f.sipis[i], ==, i == 2);
    }
    g_assert_cmphex(f.vector, ==, 0x9a);
    /* INIT forgets what was pending and switches off, but leaves IA32_APIC_BASE. */
    g_assert_false(lapic_enabled(f.bus.lapic[2]));
    g_assert_true(lapic_enabled(f.bus.lapic[1]));
    g_assert_true(lapic_rdmsr(f.bus.lapic[2], MSR_BASE, &value));
    g_assert_cmphex(value, ==, LAPIC_GPA | 0xc00);
    lapic_write(f.bus.lapic[2], SVR, 0x1ff);
    g_assert_cmpint(lapic_ack(f.bus.lapic[2]), ==, -1);
    send(&f, 0, 0x8500 | 3 << 18); /* INIT level de-assert */
    g_assert_cmpuint(f.inits[0], ==, 1);
    send(&f, 6u << 24, MODE_NMI);
    g_assert_cmphex(f.fb->requested[3] & VCPU_REQ_NMI, ==, VCPU_REQ_NMI);
    g_assert_cmphex(f.fb->requested[0] & VCPU_REQ_NMI, ==, 0);
    fabric_fini(&f);
}

/* --- to another APIC and back --- */

enum { LVT_TIMER = 0x320, COUNT = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0, MSR_DEADLINE = 0x6e0 };
enum { BY_1 = 0xb, PERIODIC = 1 << 17, BY_TSC = 2 << 17, IN_SERVICE = 0x55 };

/* What the CPU's APIC is by then is of no use any more: it gets another's. */
static void give_and_take(struct fabric *f, struct lapic *l, struct vcpu_apic *page)
{
    lapic_give(l, page);
    g_assert_false(lapic_pending(l));
    fake_board_advance(f->fb, 1000000);
    g_assert_cmpint(lapic_ack(l), ==, -1); /* its timer does not run there any more */
    lapic_write(l, SVR, 0xff);
    lapic_take(l, page);
}

static void test_give(void)
{
    struct vcpu_apic page;
    struct fabric f;
    struct lapic *l;

    fabric_init(&f);
    l = f.bus.lapic[2];
    lapic_accept(l, IN_SERVICE, false);
    g_assert_cmpint(lapic_ack(l), ==, IN_SERVICE);
    lapic_accept(l, VECTOR, true); /* below it: waits */
    lapic_write(l, LDR, 0x04000000);
    give_and_take(&f, l, &page);
    g_assert_cmphex(page.reg[2], ==, 4u << 24);
    g_assert_cmphex(page.reg[0x10 + IN_SERVICE / 32], ==, 1u << IN_SERVICE % 32);
    g_assert_cmphex(page.reg[0x18 + VECTOR / 32], ==, 1u << VECTOR % 32);
    g_assert_cmphex(page.reg[0x20 + VECTOR / 32], ==, 1u << VECTOR % 32);
    g_assert_cmphex(page.reg[LDR / 16], ==, 0x04000000);
    g_assert_true(lapic_enabled(l));
    g_assert_cmpint(lapic_ack(l), ==, -1);
    lapic_write(l, EOI, 0);
    g_assert_cmpint(lapic_ack(l), ==, VECTOR);
    /* x2APIC stays so, with its own ids. */
    g_assert_true(lapic_wrmsr(l, MSR_BASE, LAPIC_GPA | 0xc00));
    lapic_give(l, &page);
    g_assert_cmphex(page.base, ==, LAPIC_GPA | 0xc00);
    page.base |= 0x7000; /* another place: not here */
    lapic_take(f.bus.lapic[3], &page);
    g_assert_cmphex(lapic_read(f.bus.lapic[3], LDR), ==, 1 << 6);
    fabric_fini(&f);
}

/* A timer goes on with what is left of it. */
static void test_give_timer(void)
{
    struct vcpu_apic page;
    struct fabric f;
    struct lapic *l;

    fabric_init(&f);
    l = f.bus.lapic[0];
    lapic_write(l, DIVIDE, BY_1);
    for (unsigned mode = 0; mode <= PERIODIC; mode += PERIODIC) {
        lapic_write(l, LVT_TIMER, VECTOR | mode);
        lapic_write(l, COUNT, 50000);
        fake_board_advance(f.fb, 20000);
        give_and_take(&f, l, &page);
        g_assert_cmpuint(page.reg[COUNT / 16], ==, 50000);
        g_assert_cmpuint(page.reg[CURRENT / 16], ==, 30000);
        fake_board_advance(f.fb, 29999);
        g_assert_cmpint(lapic_ack(l), ==, -1);
        fake_board_advance(f.fb, 1);
        g_assert_cmpint(lapic_ack(l), ==, VECTOR);
        lapic_write(l, EOI, 0);
        fake_board_advance(f.fb, 50000);
        g_assert_cmpint(lapic_ack(l), ==, mode == PERIODIC ? VECTOR : -1);
        lapic_write(l, EOI, 0);
    }
    fabric_fini(&f);
}

/* One that has run down is not started again; whether it came is not told, so that it comes. */
static void test_give_timer_over(void)
{
    struct vcpu_apic page;
    struct fabric f;
    struct lapic *l;

    fabric_init(&f);
    l = f.bus.lapic[0];
    lapic_write(l, DIVIDE, BY_1);
    lapic_write(l, LVT_TIMER, VECTOR);
    lapic_write(l, COUNT, 50000);
    fake_board_advance(f.fb, 60000);
    g_assert_cmpint(lapic_ack(l), ==, VECTOR);
    lapic_write(l, EOI, 0);
    give_and_take(&f, l, &page);
    g_assert_cmpuint(page.reg[COUNT / 16], ==, 0);
    fake_board_advance(f.fb, 1000000);
    g_assert_cmpint(lapic_ack(l), ==, -1);
    page.reg[COUNT / 16] = 50000;
    lapic_take(l, &page);
    fake_board_advance(f.fb, 1);
    g_assert_cmpint(lapic_ack(l), ==, VECTOR);
    fabric_fini(&f);
}

static void test_give_deadline(void)
{
    struct vcpu_apic page;
    struct fabric f;
    struct lapic *l;
    uint64_t value;

    fabric_init(&f);
    l = f.bus.lapic[0];
    lapic_write(l, LVT_TIMER, VECTOR | BY_TSC);
    g_assert_true(lapic_wrmsr(l, MSR_DEADLINE, UINT64_MAX / 2));
    give_and_take(&f, l, &page);
    g_assert_cmphex(page.deadline, ==, UINT64_MAX / 2);
    g_assert_true(lapic_rdmsr(l, MSR_DEADLINE, &value));
    g_assert_cmphex(value, ==, UINT64_MAX / 2);
    page.deadline = 1; /* long ago */
    lapic_take(l, &page);
    fake_board_advance(f.fb, 1);
    g_assert_cmpint(lapic_ack(l), ==, VECTOR);
    fabric_fini(&f);
}

static uint32_t away_address, away_data;
static unsigned nr_away;

static void note_away(void *opaque, uint32_t address, uint32_t data)
{
    (void)opaque;
    away_address = address;
    away_data = data;
    nr_away++;
}

static void ioapic_pin_4(struct ioapic *io, uint32_t low)
{
    ioapic_write(io, 0, 0x10 + 2 * 4 + 1);
    ioapic_write(io, 0x10, 4u << 24);
    ioapic_write(io, 0, 0x10 + 2 * 4);
    ioapic_write(io, 0x10, low);
}

/* Messages of the I/O APIC as they are written, and those whose end has not come once more. */
static void test_away(void)
{
    struct ioapic *io;
    struct fabric f;

    fabric_init(&f);
    io = ioapic_new(&f.bus);
    f.bus.away = note_away;
    ioapic_pin_4(io, VECTOR | 1 << 11);
    ioapic_set_pin(io, 4, true);
    g_assert_cmphex(away_address, ==, 0xfee04004);
    g_assert_cmphex(away_data, ==, VECTOR);
    ioapic_resend(io);
    g_assert_cmpuint(nr_away, ==, 1);
    ioapic_pin_4(io, VECTOR | 1 << 15);
    g_assert_cmpuint(nr_away, ==, 2);
    g_assert_cmphex(away_address, ==, 0xfee04000);
    g_assert_cmphex(away_data, ==, 0xc000 | VECTOR);
    ioapic_resend(io);
    g_assert_cmpuint(nr_away, ==, 3);
    ioapic_set_pin(io, 4, false);
    ioapic_eoi(io, VECTOR);
    ioapic_resend(io);
    g_assert_cmpuint(nr_away, ==, 3);
    g_assert_cmphex(receivers(&f), ==, 0);
    ioapic_free(io);
    fabric_fini(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hw/lapic/destinations", test_destinations);
    g_test_add_func("/hw/lapic/logical", test_logical);
    g_test_add_func("/hw/lapic/x2apic", test_x2apic);
    g_test_add_func("/hw/lapic/start", test_start);
    g_test_add_func("/hw/lapic/give", test_give);
    g_test_add_func("/hw/lapic/give-timer", test_give_timer);
    g_test_add_func("/hw/lapic/give-timer-over", test_give_timer_over);
    g_test_add_func("/hw/lapic/give-deadline", test_give_deadline);
    g_test_add_func("/hw/lapic/away", test_away);
    return g_test_run();
}
