/* SPDX-License-Identifier: MIT */
/*
 * The interrupt fabric of a board: local APICs (SDM vol. 3 chapter 11) and one I/O APIC
 * (82093AA), joined by a bus that delivers messages. Everything with the board lock held.
 */
#ifndef PVEMU_HW_APIC_H
#define PVEMU_HW_APIC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/board.h"
#include "core/state.h"

enum { APIC_MAX_VCPUS = 64, IOAPIC_PINS = 24 };
#define LAPIC_GPA  0xfee00000ull
#define IOAPIC_GPA 0xfec00000ull

enum apic_delivery {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_SIPI = 6,
    APIC_EXTINT = 7,
};

struct lapic;
struct ioapic;
struct vcpu_apic; /* core/vcpu.h */

struct apic_bus {
    struct lapic *lapic[APIC_MAX_VCPUS]; /* by vCPU */
    unsigned nr;
    struct ioapic *ioapic;
    /* INIT and start-up messages: the board resets or starts the vCPU. May be NULL (one CPU).
     */
    void (*init_sipi)(void *opaque, unsigned vcpu, bool sipi, uint8_t vector);
    /* While the local APICs are somebody else's: where messages go, as a device writes them. */
    void (*away)(void *opaque, uint32_t address, uint32_t data);
    void *opaque;
};

/* Sends a message; logical or physical destination. */
void apic_bus_deliver(struct apic_bus *bus, uint32_t dest, bool logical,
                      enum apic_delivery mode, uint8_t vector, bool level);
/* A message-signalled interrupt (address and data as the guest wrote them). */
void apic_bus_msi(struct apic_bus *bus, uint64_t address, uint32_t data);

/* tsc_hz is the guest's TSC frequency, for the TSC-deadline timer. The first is the boot CPU's.
 */
struct lapic *lapic_new(struct apic_bus *bus, struct board *board, unsigned vcpu,
                        uint32_t apic_id, uint64_t tsc_hz);
void lapic_free(struct lapic *l);
void lapic_reset(struct lapic *l);
void lapic_state(struct lapic *l, struct state *s);
uint32_t lapic_id(const struct lapic *l);

/* Its state as another local APIC takes it; nothing is pending here any more, no timer runs. */
void lapic_give(struct lapic *l, struct vcpu_apic *to);
/* And back. The base stays at LAPIC_GPA. */
void lapic_take(struct lapic *l, const struct vcpu_apic *from);

/* The page at LAPIC_GPA as this vCPU sees it; offset 0..0xfff. */
uint32_t lapic_read(struct lapic *l, uint32_t offset);
void lapic_write(struct lapic *l, uint32_t offset, uint32_t value);
/* IA32_APIC_BASE, x2APIC registers 0x800..0x8ff, IA32_TSC_DEADLINE. false: #GP. */
bool lapic_rdmsr(struct lapic *l, uint32_t index, uint64_t *value);
bool lapic_wrmsr(struct lapic *l, uint32_t index, uint64_t value);
uint64_t lapic_read_cr8(const struct lapic *l);
void lapic_write_cr8(struct lapic *l, uint64_t value);

/* Accepts a fixed interrupt. */
void lapic_accept(struct lapic *l, uint8_t vector, bool level);
/* True when an interrupt beats the processor priority. */
bool lapic_pending(const struct lapic *l);
/* Takes the interrupt to deliver now (IRR to ISR); -1 when none. */
int lapic_ack(struct lapic *l);
/* Software-enabled. */
bool lapic_enabled(const struct lapic *l);

struct ioapic *ioapic_new(struct apic_bus *bus);
void ioapic_free(struct ioapic *io);
void ioapic_reset(struct ioapic *io);
void ioapic_state(struct ioapic *io, struct state *s);
void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level);
/* Level interrupts that have been sent and not finished are sent again. */
void ioapic_resend(struct ioapic *io);
/* A level interrupt was finished somewhere. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
uint32_t ioapic_read(struct ioapic *io, uint32_t offset);
void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t value);

#endif
