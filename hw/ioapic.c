/* SPDX-License-Identifier: MIT */
/* I/O APIC, 82093AA with version 0x20 (an EOI register). 24 pins. */
#include "hw/apic.h"

#include <string.h>

enum { SELECT = 0x00, WINDOW = 0x10, EOI = 0x40 };
enum { INDEX_ID = 0, INDEX_VERSION = 1, INDEX_ARBITRATION = 2, INDEX_REDIRECTION = 0x10 };
#define RED_MASKED     (1ull << 16)
#define RED_LEVEL      (1ull << 15)
#define RED_REMOTE_IRR (1ull << 14)
#define RED_POLARITY   (1ull << 13)
#define RED_STATUS     (1ull << 12)
#define RED_LOGICAL    (1ull << 11)

struct ioapic {
    struct apic_bus *bus;
    uint32_t select, id;
    uint32_t
        level; /* line level by pin, as asserted (polarity already applied by the boards) */
    uint64_t red[IOAPIC_PINS];
};

static void ioapic_fire(struct ioapic *io, unsigned pin)
{
    uint64_t red = io->red[pin];
    bool level = (red & RED_LEVEL) != 0;

    if ((red & RED_MASKED) != 0 || (level && (red & RED_REMOTE_IRR) != 0)) {
        return;
    }
    if (level) {
        io->red[pin] |= RED_REMOTE_IRR;
    }
    apic_bus_deliver(io->bus, (uint32_t)(red >> 56), (red & RED_LOGICAL) != 0,
                     (enum apic_delivery)((red >> 8) & 7), (uint8_t)red, level);
}

void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level)
{
    bool was;

    if (pin >= IOAPIC_PINS) {
        return;
    }
    was = ((io->level >> pin) & 1) != 0;
    io->level = level ? io->level | (1u << pin) : io->level & ~(1u << pin);
    if (level && (!was || (io->red[pin] & RED_LEVEL) != 0)) {
        ioapic_fire(io, pin);
    }
}

void ioapic_resend(struct ioapic *io)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((io->red[pin] & RED_LEVEL) != 0 && (io->red[pin] & RED_REMOTE_IRR) != 0) {
            io->red[pin] &= ~RED_REMOTE_IRR;
            ioapic_fire(io, pin);
        }
    }
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((uint8_t)io->red[pin] != vector || (io->red[pin] & RED_LEVEL) == 0) {
            continue;
        }
        io->red[pin] &= ~RED_REMOTE_IRR;
        if ((io->level >> pin) & 1) {
            ioapic_fire(io, pin);
        }
    }
}

uint32_t ioapic_read(struct ioapic *io, uint32_t offset)
{
    uint32_t index = io->select & 0xff;

    if (offset == SELECT) {
        return io->select;
    }
    if (offset != WINDOW) {
        return 0;
    }
    switch (index) {
    case INDEX_ID:
    case INDEX_ARBITRATION:
        return io->id;
    case INDEX_VERSION:
        return 0x20 | ((IOAPIC_PINS - 1) << 16);
    default:
        index -= INDEX_REDIRECTION;
        if (index < 2 * IOAPIC_PINS) {
            return (uint32_t)(io->red[index / 2] >> (index % 2 ? 32 : 0));
        }
        return 0;
    }
}

static void ioapic_write_redirection(struct ioapic *io, unsigned index, uint32_t value)
{
    unsigned pin = index / 2;
    const uint64_t read_only = RED_REMOTE_IRR | RED_STATUS;
    uint64_t old = io->red[pin];
    uint64_t red;

    if (index % 2 == 1) {
        red = (old & 0xffffffff) | ((uint64_t)(value & 0xff000000) << 32);
    } else {
        red = (old & 0xffffffff00000000) | (value & 0x1ffff & ~read_only) | (old & read_only);
        if ((red & RED_LEVEL) == 0) {
            red &= ~RED_REMOTE_IRR;
        }
    }
    io->red[pin] = red;
    if ((red & RED_LEVEL) != 0 && ((io->level >> pin) & 1) != 0) {
        ioapic_fire(io, pin);
    }
}

void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t value)
{
    uint32_t index = io->select & 0xff;

    if (offset == SELECT) {
        io->select = value & 0xff;
    } else if (offset == EOI) {
        ioapic_eoi(io, (uint8_t)value);
    } else if (offset == WINDOW && index == INDEX_ID) {
        io->id = value & 0x0f000000;
    } else if (offset == WINDOW && index >= INDEX_REDIRECTION &&
               index < INDEX_REDIRECTION + 2 * IOAPIC_PINS) {
        ioapic_write_redirection(io, index - INDEX_REDIRECTION, value);
    }
}

void ioapic_reset(struct ioapic *io)
{
    io->select = io->id = io->level = 0;
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        io->red[i] = RED_MASKED;
    }
}

struct ioapic *ioapic_new(struct apic_bus *bus)
{
    struct ioapic *io = g_new0(struct ioapic, 1);

    io->bus = bus;
    bus->ioapic = io;
    ioapic_reset(io);
    return io;
}

void ioapic_free(struct ioapic *io)
{
    if (io != NULL) {
        io->bus->ioapic = NULL;
        g_free(io);
    }
}

void ioapic_state(struct ioapic *io, struct state *s)
{
    state_u32(s, "ioapic.select", &io->select);
    state_u32(s, "ioapic.id", &io->id);
    state_u32(s, "ioapic.level", &io->level);
    state_bytes(s, "ioapic.redirection", io->red, sizeof(io->red));
}
