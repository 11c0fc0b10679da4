/* SPDX-License-Identifier: MIT */
/*
 * The hardware oracle: one instruction on a random state, once by an engine in a small 64-bit
 * guest at CPL 3 and once by this machine's CPU at the same addresses; everything visible is
 * compared.
 *
 * The address space is the same on both sides:
 *     ORACLE_CODE  two pages of code, INT3 all over but for the instruction
 *     ORACLE_DATA  two pages read-write, one read-only; the pages around are not mapped
 */
#ifndef PVEMU_TESTS_ORACLE_H
#define PVEMU_TESTS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/x86.h"

#define ORACLE_CODE    0x20000000ull
#define ORACLE_DATA    0x30000000ull
#define ORACLE_GS_BASE 0x2fffff00ull
enum { ORACLE_CODE_SIZE = 8192, ORACLE_DATA_SIZE = 12288, ORACLE_RW_SIZE = 8192 };
enum { ORACLE_XSAVE = 832 };
/* Vectors of programs that did not end by themselves: ORACLE_STOPPED, or, from ORACLE_EXIT on,
 * what the engine said. */
enum { ORACLE_STOPPED = 999, ORACLE_EXIT = 1000, ORACLE_TICK_MS = 200 };

/* What an instruction starts from and ends in. */
struct oracle_state {
    _Alignas(64) uint8_t xsave[ORACLE_XSAVE];
    uint64_t gpr[16];
    uint64_t rip, rflags;
    unsigned vector; /* 3: ran to the INT3 behind it */
    uint64_t error, cr2;
};

/* FS or GS of 32-bit code. */
struct oracle_segment {
    uint32_t base, limit; /* limit: the last byte; above 1 MiB it ends a page */
    bool read_only;
};
enum { ORACLE_SEL_FS = 0x63, ORACLE_SEL_GS = 0x6b }; /* where Linux has thread-local ones */

struct oracle_case {
    enum insn_mode mode; /* 64 or 32 (compatibility mode) */
    bool segments;       /* 32: FS and GS are fs and gs, else nobody uses them */
    struct oracle_segment fs, gs;
    struct insn in;
    uint8_t bytes[16];
    unsigned len;
    uint64_t rip;
    struct oracle_state start;
};

struct oracle_rng {
    uint64_t s;
};

static inline uint64_t oracle_rand(struct oracle_rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static inline unsigned oracle_below(struct oracle_rng *r, unsigned n)
{
    return (unsigned)(oracle_rand(r) % n);
}

/* oracle_gen.c: a new case; false: nothing usable, try again. data is the current data area. */
bool oracle_generate(struct oracle_rng *r, const struct cpu_model *model, struct oracle_case *c,
                     uint8_t *data);
/* Registers and memory for an instruction that is given (a regression). */
bool oracle_prepare(struct oracle_rng *r, struct oracle_case *c, const uint8_t *bytes,
                    unsigned len, uint8_t *data);

/* For comparisons: the instruction that ended in this page fault needs half of its operand only. With
 * AMD's MXCSR.MM that operand may lie over two pages, and the processor does not look at the other
 * half: SDM and APM leave that open (UNPCKL, PUNPCKL, counts of shifts). */
bool oracle_half_operand(const struct insn *in, const struct oracle_state *fault);

/* oracle_host.c */
/* First of all, before an engine's state, which lies anywhere below 2 GiB, is where these are. */
void oracle_host_reserve(void);
void oracle_host_init(void);
uint8_t *oracle_host_data(void); /* the data area, writable throughout */
/* These pages are not there while programs run: wild ones would find them. */
void oracle_host_hide(void *at, size_t size);
void oracle_host_run(const struct oracle_case *c, struct oracle_state *end);
/* With len bytes of code at c->rip, which stay. */
void oracle_host_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                         struct oracle_state *end);
/* From here on tick() runs each ORACLE_TICK_MS of processor time, in a signal handler, whatever
 * runs then; oracle_host_stop() from there ends this processor's program, if it is in its code, in
 * ORACLE_STOPPED. NULL: no more ticks. */
void oracle_host_watch(void (*tick)(void));
void oracle_host_stop(void);
uint8_t *oracle_host_code(void);
/* 32-bit code can run here, with segments of its own. */
bool oracle_host_compat(void);
/* Programs may store into themselves. false: this host does not allow that. */
bool oracle_host_writable_code(void);

/* oracle_guest.c */
void oracle_guest_init(const struct accel_ops *accel, const struct cpu_model *model);
uint8_t *oracle_guest_code(void);
/* Before _init(): the pages of the data lie in memory the other way round. */
void oracle_guest_mirror(void);
uint8_t *oracle_guest_data(void);
/* As oracle_guest_run(), with len bytes of code at c->rip, which stay. */
void oracle_guest_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                          struct oracle_state *end);
void oracle_guest_run(const struct oracle_case *c, struct oracle_state *end);
/* The program that runs ends in ORACLE_STOPPED. Async-signal-safe. */
void oracle_guest_stop(void);
uint64_t oracle_guest_insns(void); /* executed so far, as the engine counts */
/* Runs compiled code: text copied to ORACLE_CODE, entered at `entry` with rdi = ORACLE_DATA
 * (zeroed) and rsi = n. */
uint64_t oracle_guest_call(const uint8_t *text, size_t len, size_t entry, uint64_t n,
                           uint64_t *insns);
void oracle_guest_fini(void);

#endif
