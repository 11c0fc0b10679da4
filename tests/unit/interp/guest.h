/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of the interpreter: 16 MiB, in 64-bit mode at CPL 0 unless the test changes
 * it, the low 4 MiB mapped one to one by 4 KiB pages, every exception ending in a HLT of its
 * own.
 *
 * Code is written as text in the test, with GUEST_CODE, and copied to G_CODE.
 */
#ifndef PVEMU_TESTS_INTERP_GUEST_H
#define PVEMU_TESTS_INTERP_GUEST_H

#include <glib.h>
#include <string.h>

#include "core/memory.h"
#include "cpu/interp/interp.h"
#include "cpu/x86/x86.h"
#include "fake_board.h"

enum {
    G_PML4 = 0x1000,
    G_PDPT = 0x2000,
    G_PD = 0x3000,
    G_PT0 = 0x4000,
    G_PT1 = 0x5000,
    G_IDT = 0x8000,
    G_GDT = 0x9000,
    G_TSS = 0xa000,
    G_HANDLERS = 0xb000,
    G_STACK = 0x20000,
    G_CODE = 0x100000,
    G_DATA = 0x200000,
    G_MMIO = 0x1000000,
    G_RAM = 16 << 20,
};
enum { G_SEL_CODE = 0x08, G_SEL_DATA = 0x10, G_SEL_TSS = 0x28 };
enum { G_P = 1, G_RW = 2, G_US = 4, G_A = 0x20, G_D = 0x40, G_PS = 0x80, G_G = 0x100 };

struct guest {
    struct fake_board *fb;
    struct vcpu *v;
    struct cpu_x86 *cpu;
    uint8_t *ram;
    struct exit exit;
    /* Hypercalls add 1000 to RAX. */
};

/* name and name_end: machine code from 64-bit assembly text. */
#define GUEST_CODE(name, text)                                                                 \
    extern const uint8_t name[], name##_end[];                                                 \
    __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n")
#define GUEST_CODE16(name, text) GUEST_CODE(name, ".code16\n" text "\n.code64")
#define GUEST_CODE32(name, text) GUEST_CODE(name, ".code32\n" text "\n.code64")
#define GUEST_LOAD(g, name)      guest_load(g, G_CODE, name, (size_t)(name##_end - name))

/* g_test_init(), if the host has what the engine needs; else the test is skipped. */
bool guest_tests(int *argc, char ***argv);
struct guest *guest_new(void);
/* A second vCPU in the same state as the first is now, not started. */
struct vcpu *guest_second(struct guest *g);
void guest_free(struct guest *g);
/* Copies code and points rip at it. */
void guest_load(struct guest *g, uint64_t at, const uint8_t *code, size_t len);
/* Switches to other modes, flat, paging off. */
void guest_mode32(struct guest *g);
void guest_mode16(struct guest *g); /* real mode, all segments 0 */
/* To CPL 3, with flat segments. */
void guest_user(struct guest *g);
/* Runs until the next exit, which must be of this kind. */
void guest_run(struct guest *g, enum exit_kind kind);
/* Runs until an exception's HLT and returns its vector; -1: a HLT of the code itself. */
int guest_vector(struct guest *g);
/* The exception frame: [0] error (if has_error), then rip cs rflags rsp ss. */
uint64_t guest_frame(struct guest *g, unsigned i);
/* The page-table entry of an address in the low 4 MiB; change it and flush. */
uint64_t *guest_pte(struct guest *g, uint64_t va);
void guest_flush(struct guest *g);
/* All of their segment registers are the same, hidden parts included. */
void guest_same_segments(const struct cpu_x86 *x, const struct cpu_x86 *y);
uint64_t guest_read64(struct guest *g, uint64_t at);
void guest_write64(struct guest *g, uint64_t at, uint64_t val);

/* Interrupt vectors that irq_ack gives out, in order; -1 ends. */
extern int guest_irqs[4];
/* Accesses to what is not RAM. */
struct guest_mmio {
    unsigned reads, writes;
    uint64_t last_gpa, last_value;
    unsigned last_size;
    uint64_t read_value;
};
extern struct guest_mmio guest_mmio;

#endif
