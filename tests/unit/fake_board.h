/* SPDX-License-Identifier: MIT */
/* A board for unit tests: stepped clock, recorded interrupts, work and timers run on demand. */
#ifndef PVEMU_TESTS_FAKE_BOARD_H
#define PVEMU_TESTS_FAKE_BOARD_H

#include "core/board.h"
#include "core/vcpu.h"

enum { FAKE_MAX_VCPUS = 4, FAKE_MAX_GSI = 32 };

struct fake_board {
    struct board board; /* first */
    uint64_t now_ns;
    struct timer *timers;
    struct work *works;
    struct vcpu *vcpus[FAKE_MAX_VCPUS]; /* zeroed vCPUs (no engine), owned */
    unsigned nr_vcpus;
    bool irq_level[FAKE_MAX_GSI];
    unsigned irq_raised[FAKE_MAX_GSI];     /* rising edges */
    uint32_t requested[FAKE_MAX_VCPUS];    /* bits given to vcpu_request */
    uint8_t last_apic_vector[FAKE_MAX_VCPUS];
    unsigned apic_irqs[FAKE_MAX_VCPUS];
    bool stopped;
    enum stop_reason stop_reason;
    int stop_code;
};

/* ram_bytes may be 0: no memory. extra as in mem_new. The board lock is NOT held afterwards. */
struct fake_board *fake_board_new(unsigned nr_vcpus, uint64_t ram_bytes, uint32_t extra);
void fake_board_free(struct fake_board *fb);
/* Moves the clock and fires due timers in order. Takes the lock itself. */
void fake_board_advance(struct fake_board *fb, uint64_t ns);
/* Runs posted work until there is none (bounded). Takes the lock itself. Returns how many ran. */
unsigned fake_board_run(struct fake_board *fb);

#endif
