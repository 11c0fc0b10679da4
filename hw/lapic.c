/* SPDX-License-Identifier: MIT */
/*
 * Local APIC: SDM vol. 3 chapter 11, xAPIC and x2APIC, with one-shot, periodic and TSC-deadline
 * timer. Left out: SMI, error interrupts beyond illegal vectors, performance and thermal LVTs
 * (they are stored). The timer counts a 1 GHz bus clock of board time.
 */
#include "hw/apic.h"

#include <string.h>
#include <x86intrin.h>

#include "base/log.h"
#include "core/vcpu.h"

enum {
    REG_ID = 0x20,
    REG_VERSION = 0x30,
    REG_TPR = 0x80,
    REG_APR = 0x90,
    REG_PPR = 0xa0,
    REG_EOI = 0xb0,
    REG_LDR = 0xd0,
    REG_DFR = 0xe0,
    REG_SVR = 0xf0,
    REG_ISR = 0x100,
    REG_TMR = 0x180,
    REG_IRR = 0x200,
    REG_ESR = 0x280,
    REG_CMCI = 0x2f0,
    REG_ICR_LOW = 0x300,
    REG_ICR_HIGH = 0x310,
    REG_LVT_TIMER = 0x320,
    REG_LVT_THERMAL = 0x330,
    REG_LVT_PERF = 0x340,
    REG_LVT_LINT0 = 0x350,
    REG_LVT_LINT1 = 0x360,
    REG_LVT_ERROR = 0x370,
    REG_TIMER_INITIAL = 0x380,
    REG_TIMER_CURRENT = 0x390,
    REG_TIMER_DIVIDE = 0x3e0,
    REG_SELF_IPI = 0x3f0,
};
enum { LVT_MASKED = 1 << 16, LVT_MODE_SHIFT = 17, SVR_ENABLED = 1 << 8 };
enum { TIMER_ONESHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };
enum { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLED = 1 << 11 };
enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECEIVE_ILLEGAL = 1 << 6, ESR_REGISTER = 1 << 7 };
enum { LVT_COUNT = 6 }; /* 0x320 .. 0x370 */
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };
enum { TIMER_MIN_PERIOD_NS = 20000 }; /* a guest may not make the main loop spin */

struct lapic {
    struct apic_bus *bus;
    struct board *board;
    unsigned vcpu;
    uint32_t id;
    uint64_t tsc_hz;
    uint64_t base;
    uint32_t irr[8], isr[8], tmr[8];
    uint32_t tpr, ldr, dfr, svr, esr, esr_latched, icr_high, icr_low;
    uint32_t lvt[LVT_COUNT];
    uint32_t timer_initial, timer_divide;
    uint64_t timer_start_ns;
    uint64_t tsc_deadline;
    struct timer timer;
};

static bool lapic_x2apic(const struct lapic *l)
{
    return (l->base & BASE_X2APIC) != 0;
}

static void bit_set(uint32_t *map, uint8_t vector)
{
    map[vector / 32] |= 1u << (vector % 32);
}

static void bit_clear(uint32_t *map, uint8_t vector)
{
    map[vector / 32] &= ~(1u << (vector % 32));
}

static bool bit_test(const uint32_t *map, uint8_t vector)
{
    return (map[vector / 32] >> (vector % 32)) & 1;
}

static int bit_highest(const uint32_t *map)
{
    for (int i = 7; i >= 0; i--) {
        if (map[i] != 0) {
            return i * 32 + 31 - __builtin_clz(map[i]);
        }
    }
    return -1;
}

uint32_t lapic_id(const struct lapic *l)
{
    return l->id;
}

bool lapic_enabled(const struct lapic *l)
{
    return (l->base & BASE_ENABLED) != 0 && (l->svr & SVR_ENABLED) != 0;
}

static uint32_t lapic_ppr(const struct lapic *l)
{
    int isr = bit_highest(l->isr);
    uint32_t isr_class = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

    return (l->tpr & 0xf0) >= isr_class ? l->tpr : isr_class;
}

bool lapic_pending(const struct lapic *l)
{
    int irr = bit_highest(l->irr);

    return irr >= 0 && lapic_enabled(l) && ((uint32_t)irr & 0xf0) > (lapic_ppr(l) & 0xf0);
}

static void lapic_update(struct lapic *l)
{
    if (lapic_pending(l)) {
        l->board->ops->vcpu_request(l->board, l->vcpu, VCPU_REQ_IRQ);
    }
}

void lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (vector < 16) {
        l->esr_latched |= ESR_RECEIVE_ILLEGAL;
        return;
    }
    if (!lapic_enabled(l)) {
        return;
    }
    bit_set(l->irr, vector);
    if (level) {
        bit_set(l->tmr, vector);
    } else {
        bit_clear(l->tmr, vector);
    }
    lapic_update(l);
}

int lapic_ack(struct lapic *l)
{
    int vector;

    if (!lapic_pending(l)) {
        return -1;
    }
    vector = bit_highest(l->irr);
    bit_clear(l->irr, (uint8_t)vector);
    bit_set(l->isr, (uint8_t)vector);
    return vector;
}

static void lapic_eoi(struct lapic *l)
{
    int vector = bit_highest(l->isr);

    if (vector < 0) {
        return;
    }
    bit_clear(l->isr, (uint8_t)vector);
    if (bit_test(l->tmr, (uint8_t)vector) && l->bus->ioapic != NULL) {
        ioapic_eoi(l->bus->ioapic, (uint8_t)vector);
    }
    lapic_update(l);
}

/* --- timer --- */

static unsigned lapic_timer_mode(const struct lapic *l)
{
    return (l->lvt[0] >> LVT_MODE_SHIFT) & 3;
}

static unsigned lapic_timer_shift(const struct lapic *l)
{
    unsigned code = (l->timer_divide & 3) | ((l->timer_divide >> 1) & 4);

    return (code + 1) & 7; /* 0b111 divides by 1 */
}

static uint64_t lapic_timer_period_ns(const struct lapic *l)
{
    return (uint64_t)l->timer_initial << lapic_timer_shift(l);
}

static void lapic_timer_fire(void *opaque)
{
    struct lapic *l = opaque;
    uint64_t period;

    if (lapic_timer_mode(l) == TIMER_DEADLINE) {
        l->tsc_deadline = 0;
    }
    if ((l->lvt[0] & LVT_MASKED) == 0) {
        lapic_accept(l, (uint8_t)l->lvt[0], false);
    }
    if (lapic_timer_mode(l) == TIMER_PERIODIC && l->timer_initial != 0) {
        period = MAX(lapic_timer_period_ns(l), TIMER_MIN_PERIOD_NS);
        l->timer_start_ns += period;
        if (board_now_ns(l->board) > l->timer_start_ns + period) {
            l->timer_start_ns =
                board_now_ns(l->board); /* late: ticks are lost, as on hardware */
        }
        l->board->ops->timer_arm(l->board, &l->timer, l->timer_start_ns + period);
    }
}

static void lapic_timer_start(struct lapic *l)
{
    if (lapic_timer_mode(l) == TIMER_DEADLINE) {
        return;
    }
    l->timer_start_ns = board_now_ns(l->board);
    if (l->timer_initial == 0) {
        l->board->ops->timer_cancel(l->board, &l->timer);
        return;
    }
    l->board->ops->timer_arm(l->board, &l->timer, l->timer_start_ns + lapic_timer_period_ns(l));
}

static uint32_t lapic_timer_current(struct lapic *l)
{
    uint64_t elapsed;

    if (lapic_timer_mode(l) == TIMER_DEADLINE || l->timer_initial == 0) {
        return 0;
    }
    elapsed = (board_now_ns(l->board) - l->timer_start_ns) >> lapic_timer_shift(l);
    if (lapic_timer_mode(l) == TIMER_PERIODIC) {
        elapsed %= l->timer_initial;
    }
    return elapsed >= l->timer_initial ? 0 : l->timer_initial - (uint32_t)elapsed;
}

/* ns for a TSC distance; far away is as good as never, so it is capped at about 146 years. */
static uint64_t lapic_tsc_to_ns(const struct lapic *l, uint64_t ticks)
{
    const uint64_t far = 1ull << 62;
    uint64_t seconds = ticks / l->tsc_hz;

    if (seconds >= far / 1000000000) {
        return far;
    }
    return seconds * 1000000000 + (ticks % l->tsc_hz) * 1000000000 / l->tsc_hz;
}

static void lapic_deadline_write(struct lapic *l, uint64_t deadline)
{
    uint64_t now_tsc, delta;

    if (lapic_timer_mode(l) != TIMER_DEADLINE) {
        return;
    }
    l->tsc_deadline = deadline;
    if (deadline == 0) {
        l->board->ops->timer_cancel(l->board, &l->timer);
        return;
    }
    now_tsc = __rdtsc() + (uint64_t)l->board->ops->vcpu(l->board, l->vcpu)->cpu.tsc_offset;
    delta = deadline > now_tsc ? deadline - now_tsc : 0;
    delta = lapic_tsc_to_ns(l, delta);
    l->board->ops->timer_arm(l->board, &l->timer, board_now_ns(l->board) + delta);
}

/* --- messages --- */

static bool lapic_matches(const struct lapic *l, uint32_t dest, bool logical)
{
    if (!logical) {
        return dest == l->id || dest == (lapic_x2apic(l) ? UINT32_MAX : 0xff);
    }
    if (lapic_x2apic(l)) {
        return dest == UINT32_MAX ||
               ((dest >> 16) == (l->id >> 4) && (dest & (1u << (l->id & 15))) != 0);
    }
    if ((l->dfr >> 28) == 0xf) { /* flat */
        return (dest & (l->ldr >> 24)) != 0;
    }
    return (dest >> 4) == (l->ldr >> 28) && (dest & (l->ldr >> 24) & 0xf) != 0;
}

/* INIT resets everything but the id and IA32_APIC_BASE (SDM vol. 3 11.4.7.3). */
static void lapic_init(struct lapic *l)
{
    const uint64_t base = l->base;

    lapic_reset(l);
    l->base = base;
}

static void lapic_message(struct lapic *l, enum apic_delivery mode, uint8_t vector, bool level)
{
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        lapic_accept(l, vector, level);
        break;
    case APIC_NMI:
        l->board->ops->vcpu_request(l->board, l->vcpu, VCPU_REQ_NMI);
        break;
    case APIC_INIT:
    case APIC_SIPI:
        if (mode == APIC_INIT) {
            lapic_init(l);
        }
        if (l->bus->init_sipi != NULL) {
            l->bus->init_sipi(l->bus->opaque, l->vcpu, mode == APIC_SIPI, vector);
        }
        break;
    default:
        break; /* SMI and ExtINT have no source on these boards */
    }
}

void apic_bus_deliver(struct apic_bus *bus, uint32_t dest, bool logical,
                      enum apic_delivery mode, uint8_t vector, bool level)
{
    if (bus->away != NULL) {
        bus->away(bus->opaque, (uint32_t)LAPIC_GPA | (dest & 0xff) << 12 | (logical ? 4u : 0),
                  (level ? 0xc000u : 0) | (uint32_t)mode << 8 | vector);
        return;
    }
    for (unsigned i = 0; i < bus->nr; i++) {
        if (bus->lapic[i] != NULL && lapic_matches(bus->lapic[i], dest, logical)) {
            lapic_message(bus->lapic[i], mode, vector, level);
            if (mode == APIC_LOWEST) {
                return;
            }
        }
    }
}

void apic_bus_msi(struct apic_bus *bus, uint64_t address, uint32_t data)
{
    apic_bus_deliver(bus, (uint32_t)(address >> 12) & 0xff, (address & 4) != 0,
                     (enum apic_delivery)((data >> 8) & 7), (uint8_t)data,
                     (data & 0x8000) != 0);
}

static void lapic_send(struct lapic *l)
{
    uint32_t low = l->icr_low;
    enum apic_delivery mode = (enum apic_delivery)((low >> 8) & 7);
    unsigned shorthand = (low >> 18) & 3;
    uint8_t vector = (uint8_t)low;

    if (vector < 16 && (mode == APIC_FIXED || mode == APIC_LOWEST)) {
        l->esr_latched |= ESR_SEND_ILLEGAL;
        return;
    }
    if (mode == APIC_INIT && (low & (1 << 14)) == 0) {
        return; /* INIT level de-assert: nothing on anything since the Pentium 4 */
    }
    if (shorthand == 0) {
        apic_bus_deliver(l->bus, lapic_x2apic(l) ? l->icr_high : l->icr_high >> 24,
                         (low & (1 << 11)) != 0, mode, vector, false);
        return;
    }
    for (unsigned i = 0; i < l->bus->nr; i++) {
        struct lapic *to = l->bus->lapic[i];

        if (to != NULL && (shorthand == 1 ? to == l : shorthand == 2 || to != l)) {
            lapic_message(to, mode, vector, false);
        }
    }
}

/* --- registers --- */

uint32_t lapic_read(struct lapic *l, uint32_t offset)
{
    offset &= 0xff0;
    switch (offset) {
    case REG_ID:
        return lapic_x2apic(l) ? l->id : l->id << 24;
    case REG_VERSION:
        return 0x14 | ((LVT_COUNT - 1) << 16);
    case REG_TPR:
        return l->tpr;
    case REG_PPR:
        return lapic_ppr(l);
    case REG_LDR:
        return lapic_x2apic(l) ? ((l->id >> 4) << 16) | (1u << (l->id & 15)) : l->ldr;
    case REG_DFR:
        return l->dfr;
    case REG_SVR:
        return l->svr;
    case REG_ESR:
        return l->esr;
    case REG_ICR_LOW:
        return l->icr_low;
    case REG_ICR_HIGH:
        return l->icr_high;
    case REG_TIMER_INITIAL:
        return l->timer_initial;
    case REG_TIMER_CURRENT:
        return lapic_timer_current(l);
    case REG_TIMER_DIVIDE:
        return l->timer_divide;
    default:
        break;
    }
    if (offset >= REG_ISR && offset < REG_ISR + 0x80) {
        return l->isr[(offset - REG_ISR) / 16];
    }
    if (offset >= REG_TMR && offset < REG_TMR + 0x80) {
        return l->tmr[(offset - REG_TMR) / 16];
    }
    if (offset >= REG_IRR && offset < REG_IRR + 0x80) {
        return l->irr[(offset - REG_IRR) / 16];
    }
    if (offset >= REG_LVT_TIMER && offset <= REG_LVT_ERROR) {
        return l->lvt[(offset - REG_LVT_TIMER) / 16];
    }
    return 0;
}

static void lapic_write_svr(struct lapic *l, uint32_t value)
{
    l->svr = value & 0x3ff;
    if ((l->svr & SVR_ENABLED) == 0) {
        for (int i = 0; i < LVT_COUNT; i++) {
            l->lvt[i] |= LVT_MASKED;
        }
    }
    lapic_update(l);
}

static void lapic_write_lvt(struct lapic *l, unsigned index, uint32_t value)
{
    unsigned old_mode = lapic_timer_mode(l);

    l->lvt[index] = value & (index == 0 ? 0x700ff : 0x1f7ff);
    if ((l->svr & SVR_ENABLED) == 0) {
        l->lvt[index] |= LVT_MASKED;
    }
    if (index == 0 && lapic_timer_mode(l) != old_mode &&
        (old_mode == TIMER_DEADLINE || lapic_timer_mode(l) == TIMER_DEADLINE)) {
        l->board->ops->timer_cancel(l->board, &l->timer);
        l->timer_initial = 0;
        l->tsc_deadline = 0;
    }
}

void lapic_write(struct lapic *l, uint32_t offset, uint32_t value)
{
    offset &= 0xff0;
    switch (offset) {
    case REG_TPR:
        l->tpr = value & 0xff;
        lapic_update(l);
        break;
    case REG_EOI:
        lapic_eoi(l);
        break;
    case REG_LDR:
        l->ldr = value & 0xff000000;
        break;
    case REG_DFR:
        l->dfr = value | 0x0fffffff;
        break;
    case REG_SVR:
        lapic_write_svr(l, value);
        break;
    case REG_ESR:
        l->esr = l->esr_latched;
        l->esr_latched = 0;
        break;
    case REG_ICR_LOW:
        l->icr_low = value & ~(1u << 12);
        lapic_send(l);
        break;
    case REG_ICR_HIGH:
        l->icr_high = value;
        break;
    case REG_TIMER_INITIAL:
        l->timer_initial = value;
        lapic_timer_start(l);
        break;
    case REG_TIMER_DIVIDE:
        l->timer_divide = value & 0xb;
        break;
    default:
        if (offset >= REG_LVT_TIMER && offset <= REG_LVT_ERROR) {
            lapic_write_lvt(l, (offset - REG_LVT_TIMER) / 16, value);
        }
        break;
    }
}

static bool lapic_x2apic_register(uint32_t offset, bool write)
{
    switch (offset) {
    case REG_ID:
    case REG_VERSION:
    case REG_PPR:
    case REG_LDR:
    case REG_TIMER_CURRENT:
        return !write;
    case REG_EOI:
    case REG_SELF_IPI:
        return write;
    case REG_TPR:
    case REG_SVR:
    case REG_ESR:
    case REG_ICR_LOW:
    case REG_TIMER_INITIAL:
    case REG_TIMER_DIVIDE:
        return true;
    default:
        if (offset >= REG_ISR && offset < REG_ESR) {
            return !write;
        }
        return offset >= REG_LVT_TIMER && offset <= REG_LVT_ERROR;
    }
}

bool lapic_rdmsr(struct lapic *l, uint32_t index, uint64_t *value)
{
    uint32_t offset = (index - MSR_X2APIC) << 4;

    if (index == MSR_APIC_BASE) {
        *value = l->base;
        return true;
    }
    if (index == MSR_TSC_DEADLINE) {
        *value = l->tsc_deadline;
        return true;
    }
    if (!lapic_x2apic(l) || index < MSR_X2APIC || index > MSR_X2APIC + 0xff ||
        !lapic_x2apic_register(offset, false)) {
        return false;
    }
    *value = lapic_read(l, offset);
    if (offset == REG_ICR_LOW) {
        *value |= (uint64_t)l->icr_high << 32;
    }
    return true;
}

static bool lapic_write_base(struct lapic *l, uint64_t value)
{
    bool enabled = (value & BASE_ENABLED) != 0;
    bool x2apic = (value & BASE_X2APIC) != 0;

    if ((value & ~0xffffffd00ull) != 0 || (x2apic && !enabled) ||
        (lapic_x2apic(l) && enabled && !x2apic) || ((l->base & BASE_ENABLED) == 0 && x2apic)) {
        return false;
    }
    l->base = (value & ~(uint64_t)BASE_BSP) | (l->base & BASE_BSP);
    return true;
}

bool lapic_wrmsr(struct lapic *l, uint32_t index, uint64_t value)
{
    uint32_t offset = (index - MSR_X2APIC) << 4;

    if (index == MSR_APIC_BASE) {
        return lapic_write_base(l, value);
    }
    if (index == MSR_TSC_DEADLINE) {
        lapic_deadline_write(l, value);
        return true;
    }
    if (!lapic_x2apic(l) || index < MSR_X2APIC || index > MSR_X2APIC + 0xff ||
        !lapic_x2apic_register(offset, true)) {
        return false;
    }
    if (offset == REG_ICR_LOW) {
        l->icr_high = (uint32_t)(value >> 32);
    } else if ((value >> 32) != 0 || ((offset == REG_EOI || offset == REG_ESR) && value != 0)) {
        return false;
    }
    if (offset == REG_SELF_IPI) {
        lapic_accept(l, (uint8_t)value, false);
        return true;
    }
    lapic_write(l, offset, (uint32_t)value);
    return true;
}

uint64_t lapic_read_cr8(const struct lapic *l)
{
    return l->tpr >> 4;
}

void lapic_write_cr8(struct lapic *l, uint64_t value)
{
    l->tpr = (uint32_t)(value & 0xf) << 4;
    lapic_update(l);
}

/* --- to another one and back --- */

static uint32_t *page_reg(struct vcpu_apic *page, uint32_t offset)
{
    return &page->reg[offset / 16];
}

static void lapic_give_timer(struct lapic *l, struct vcpu_apic *to)
{
    const uint32_t left = lapic_timer_current(l);

    to->deadline = lapic_timer_mode(l) == TIMER_DEADLINE ? l->tsc_deadline : 0;
    *page_reg(to, REG_TIMER_DIVIDE) = l->timer_divide;
    *page_reg(to, REG_TIMER_CURRENT) = left;
    /* A count that has run down must not be started again: it reads as 0. */
    *page_reg(to, REG_TIMER_INITIAL) =
        left == 0 && lapic_timer_mode(l) == TIMER_ONESHOT ? 0 : l->timer_initial;
}

void lapic_give(struct lapic *l, struct vcpu_apic *to)
{
    memset(to, 0, sizeof(*to));
    to->base = l->base;
    *page_reg(to, REG_ID) = l->id << 24; /* in either mode: 32-bit ids have to be asked for */
    *page_reg(to, REG_VERSION) = lapic_read(l, REG_VERSION);
    *page_reg(to, REG_TPR) = l->tpr;
    *page_reg(to, REG_PPR) = lapic_ppr(l);
    *page_reg(to, REG_LDR) = lapic_read(l, REG_LDR);
    *page_reg(to, REG_DFR) = l->dfr;
    *page_reg(to, REG_SVR) = l->svr;
    *page_reg(to, REG_ESR) = l->esr;
    *page_reg(to, REG_ICR_LOW) = l->icr_low;
    *page_reg(to, REG_ICR_HIGH) = l->icr_high;
    for (unsigned i = 0; i < 8; i++) {
        *page_reg(to, REG_ISR + 16 * i) = l->isr[i];
        *page_reg(to, REG_TMR + 16 * i) = l->tmr[i];
        *page_reg(to, REG_IRR + 16 * i) = l->irr[i];
        l->isr[i] = l->tmr[i] = l->irr[i] = 0;
    }
    for (unsigned i = 0; i < LVT_COUNT; i++) {
        *page_reg(to, REG_LVT_TIMER + 16 * i) = l->lvt[i];
    }
    lapic_give_timer(l, to);
    l->board->ops->timer_cancel(l->board, &l->timer);
}

static void lapic_take_timer(struct lapic *l, const struct vcpu_apic *from)
{
    const uint32_t left = from->reg[REG_TIMER_CURRENT / 16];

    l->board->ops->timer_cancel(l->board, &l->timer);
    l->timer_divide = from->reg[REG_TIMER_DIVIDE / 16] & 0xb;
    l->timer_initial = from->reg[REG_TIMER_INITIAL / 16];
    l->tsc_deadline = 0;
    if (lapic_timer_mode(l) == TIMER_DEADLINE) {
        lapic_deadline_write(l, from->deadline);
        return;
    }
    l->timer_start_ns = board_now_ns(l->board) -
                        ((uint64_t)(l->timer_initial - MIN(left, l->timer_initial))
                         << lapic_timer_shift(l));
    /* A single shot that has run down fires, perhaps once more: whether it has is not told. */
    if (left != 0 || (l->timer_initial != 0 && (l->lvt[0] & LVT_MASKED) == 0)) {
        l->board->ops->timer_arm(l->board, &l->timer,
                                 l->timer_start_ns + lapic_timer_period_ns(l));
    }
}

void lapic_take(struct lapic *l, const struct vcpu_apic *from)
{
    const uint32_t *reg = from->reg;

    l->base = LAPIC_GPA | (from->base & (BASE_ENABLED | BASE_X2APIC)) | (l->base & BASE_BSP);
    l->tpr = reg[REG_TPR / 16] & 0xff;
    l->ldr = lapic_x2apic(l) ? 0 : reg[REG_LDR / 16] & 0xff000000;
    l->dfr = reg[REG_DFR / 16] | 0x0fffffff;
    l->svr = reg[REG_SVR / 16] & 0x3ff;
    l->esr = reg[REG_ESR / 16];
    l->esr_latched = 0;
    l->icr_low = reg[REG_ICR_LOW / 16] & ~(1u << 12);
    l->icr_high = reg[REG_ICR_HIGH / 16];
    for (unsigned i = 0; i < 8; i++) {
        l->isr[i] = reg[REG_ISR / 16 + i];
        l->tmr[i] = reg[REG_TMR / 16 + i];
        l->irr[i] = reg[REG_IRR / 16 + i];
    }
    for (unsigned i = 0; i < LVT_COUNT; i++) {
        l->lvt[i] = reg[REG_LVT_TIMER / 16 + i] & (i == 0 ? 0x700ff : 0x1f7ff);
    }
    lapic_take_timer(l, from);
    lapic_update(l);
}

/* --- life --- */

void lapic_reset(struct lapic *l)
{
    l->board->ops->timer_cancel(l->board, &l->timer);
    memset(l->irr, 0, sizeof(l->irr));
    memset(l->isr, 0, sizeof(l->isr));
    memset(l->tmr, 0, sizeof(l->tmr));
    l->base = LAPIC_GPA | BASE_ENABLED | (l->vcpu == 0 ? BASE_BSP : 0);
    l->tpr = l->ldr = l->esr = l->esr_latched = l->icr_high = l->icr_low = 0;
    l->dfr = UINT32_MAX;
    l->svr = 0xff;
    for (int i = 0; i < LVT_COUNT; i++) {
        l->lvt[i] = LVT_MASKED;
    }
    l->timer_initial = l->timer_divide = 0;
    l->tsc_deadline = 0;
}

struct lapic *lapic_new(struct apic_bus *bus, struct board *board, unsigned vcpu,
                        uint32_t apic_id, uint64_t tsc_hz)
{
    struct lapic *l = g_new0(struct lapic, 1);

    g_assert(vcpu < APIC_MAX_VCPUS);
    l->bus = bus;
    l->board = board;
    l->vcpu = vcpu;
    l->id = apic_id;
    l->tsc_hz = tsc_hz;
    l->timer.fn = lapic_timer_fire;
    l->timer.opaque = l;
    bus->lapic[vcpu] = l;
    bus->nr = MAX(bus->nr, vcpu + 1);
    lapic_reset(l);
    return l;
}

void lapic_free(struct lapic *l)
{
    if (l != NULL) {
        l->board->ops->timer_cancel(l->board, &l->timer);
        l->bus->lapic[l->vcpu] = NULL;
        g_free(l);
    }
}

void lapic_state(struct lapic *l, struct state *s)
{
    uint64_t remaining = l->timer.armed ? l->timer.deadline_ns - l->timer_start_ns : 0;
    bool armed = l->timer.armed;

    state_u64(s, "lapic.base", &l->base);
    state_bytes(s, "lapic.irr", l->irr, sizeof(l->irr));
    state_bytes(s, "lapic.isr", l->isr, sizeof(l->isr));
    state_bytes(s, "lapic.tmr", l->tmr, sizeof(l->tmr));
    state_u32(s, "lapic.tpr", &l->tpr);
    state_u32(s, "lapic.ldr", &l->ldr);
    state_u32(s, "lapic.dfr", &l->dfr);
    state_u32(s, "lapic.svr", &l->svr);
    state_u32(s, "lapic.esr", &l->esr);
    state_u32(s, "lapic.icr_low", &l->icr_low);
    state_u32(s, "lapic.icr_high", &l->icr_high);
    state_bytes(s, "lapic.lvt", l->lvt, sizeof(l->lvt));
    state_u32(s, "lapic.timer_initial", &l->timer_initial);
    state_u32(s, "lapic.timer_divide", &l->timer_divide);
    state_u64(s, "lapic.timer_start", &l->timer_start_ns);
    state_u64(s, "lapic.tsc_deadline", &l->tsc_deadline);
    state_bool(s, "lapic.timer_armed", &armed);
    state_u64(s, "lapic.timer_remaining", &remaining);
    if (state_loading(s) && state_ok(s)) {
        l->board->ops->timer_cancel(l->board, &l->timer);
        if (armed) {
            l->board->ops->timer_arm(l->board, &l->timer, l->timer_start_ns + remaining);
        }
        lapic_update(l);
    }
}
