/* SPDX-License-Identifier: MIT */
/*
 * The board: what device models and pv/ may ask of the machine they sit in. A unit test passes
 * a fake one (tests/unit/fake_board.h) with a clock that it steps.
 *
 * `lock` is the machine lock: device callbacks, hypercalls, timers and posted work all run with
 * it held, so models need no locks of their own. Other threads (I/O completions) take it first.
 */
#ifndef PVEMU_CORE_BOARD_H
#define PVEMU_CORE_BOARD_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct board;
struct mem;
struct vcpu;

/* A one-shot timer, embedded in its owner. `fn` runs on the main loop with the lock held. */
struct timer {
    void (*fn)(void *opaque);
    void *opaque;
    bool armed;           /* kept by the board */
    uint64_t deadline_ns; /* kept by the board: board time */
    struct timer *next;   /* kept by the board */
};

/* Work to run soon on the main loop with the lock held. Posting twice before it ran runs it
 * once. */
struct work {
    void (*fn)(void *opaque);
    void *opaque;
    bool posted;       /* kept by the board */
    struct work *next; /* kept by the board */
};

/* Why a guest ends or asks for a change of life. */
enum stop_reason {
    STOP_POWEROFF,
    STOP_REBOOT,
    STOP_CRASH, /* the guest said so (Xen SHUTDOWN_crash, pvpanic) */
    STOP_SUSPEND,
    STOP_WATCHDOG,
    STOP_SOFT_RESET,
    STOP_TRIPLE_FAULT,
    STOP_EXIT_CODE, /* debug-exit port; code is the guest's */
    STOP_ENGINE_ERROR,
};

struct board_ops {
    /* ns since the guest was started; stands still while it is paused. Any thread. */
    uint64_t (*now_ns)(struct board *b);
    /* Arms (or re-arms) t for board time deadline_ns; in the past: as soon as possible. Lock
     * held. */
    void (*timer_arm)(struct board *b, struct timer *t, uint64_t deadline_ns);
    void (*timer_cancel)(struct board *b, struct timer *t);
    /* Any thread. */
    void (*post)(struct board *b, struct work *w);
    /* Level of a global system interrupt (IOAPIC input). Lock held. */
    void (*set_irq)(struct board *b, unsigned gsi, bool level);
    /* A fixed edge interrupt to the local APIC of a vCPU. Lock held. */
    void (*apic_irq)(struct board *b, unsigned vcpu, uint8_t vector);
    /* Sets request bits on a vCPU and wakes it if it is halted. Any thread. */
    void (*vcpu_request)(struct board *b, unsigned vcpu, uint32_t bits);
    /* The vCPU (NULL when there is none with that id). */
    struct vcpu *(*vcpu)(struct board *b, unsigned id);
    unsigned (*nr_vcpus)(struct board *b);
    /* The guest ends or wants reset; the main loop acts on it, vCPUs stop soon. The first one
     * wins. Any thread. */
    void (*stop)(struct board *b, enum stop_reason reason, int code);
    /* Optional: the host's TSC, so that tests can step it. NULL: RDTSC. Any thread. */
    uint64_t (*host_tsc)(struct board *b);
    /* Optional: VCPUOP_up. The state of a parked vCPU was filled in by pv/: let it run. Lock
     * held. NULL: not offered. */
    void (*vcpu_start)(struct board *b, unsigned vcpu);
    /* Optional: another vCPU asks what this one does, which an engine with local APICs may not have
     * told. pv/ will hear soon that it is down, if it is. Lock held. */
    void (*vcpu_look)(struct board *b, unsigned vcpu);
};

struct board {
    const struct board_ops *ops;
    GMutex lock;
    struct mem *mem;
    /* The vCPU that runs guest code while no other one does, for an instruction (cpu/interp/smp.c). */
    _Atomic(const struct vcpu *) alone;
    _Atomic uint64_t ticket, turn; /* of the next one to want that; whose turn it is */
};

static inline uint64_t board_now_ns(struct board *b)
{
    return b->ops->now_ns(b);
}

#endif
