/* SPDX-License-Identifier: MIT */
/*
 * A guest CPU for unit tests of cpu/x86: 16 MiB of RAM with page tables, GDT, IDT and TSS at
 * fixed places, in real, protected or long mode, and one decoded instruction at a time. There
 * is no engine: tests call the architecture directly.
 */
#ifndef PVEMU_TESTS_X86_GUEST_H
#define PVEMU_TESTS_X86_GUEST_H

#include "cpu/x86/internal.h"
#include "fake_board.h"

enum {
    G_RAM = 16 << 20,
    G_PML4 = 0x1000, G_PDPT = 0x2000, G_PD = 0x3000, G_PT = 0x4000, /* PT: the first 2 MiB */
    G_GDT = 0x5000, G_IDT = 0x6000, G_TSS = 0x7000, G_LDT = 0x7800,
    G_STACK0 = 0x9000, G_IST1 = 0xa000, G_STACK3 = 0xb000, G_STACK2 = 0xc000, /* tops */
    G_CODE = 0x10000, G_DATA = 0x20000,
};

/* Selectors; user ones without RPL. */
enum {
    SEL_CODE64 = 0x08, SEL_DATA = 0x10, SEL_CODE32 = 0x18, SEL_UDATA = 0x20, SEL_UCODE64 = 0x28,
    SEL_UCODE32 = 0x30, SEL_TSS = 0x38 /* 16 bytes */, SEL_LDT = 0x48 /* 16 bytes */,
    SEL_CONFORMING = 0x58, SEL_DOWN = 0x60, SEL_ABSENT = 0x68, SEL_XONLY = 0x70, SEL_RO = 0x78,
    SEL_GATE = 0x80 /* 16 bytes */, SEL_DATA16 = 0x90, SEL_CODE16 = 0x98, SEL_TSS16 = 0xa0,
    SEL_BADLD = 0xa8, SEL_DATA2 = 0xb0 /* DPL 2 */, SEL_CODE2 = 0xb8, SEL_UCONF32 = 0xc0,
    SEL_CONF32 = 0xc8, GDT_BYTES = 0x100,
};

enum guest_mode { GUEST_REAL, GUEST_PROT, GUEST_PAE, GUEST_LONG, GUEST_COMPAT, GUEST_V86 };

struct guest {
    struct fake_board *fb;
    struct vcpu *v;
    struct cpu_x86 *cpu;
    uint8_t *ram;
    struct accel_ops accel;
    struct vcpu_board_ops ops;
    struct x86_fault fault; /* of the last guest_run */
};

/* What the fake board and engine saw, kept per vCPU (v->engine points here). */
struct guest_log {
    unsigned flush_all, flush_nonglobal, flush_nothing, flush_page;
    unsigned flush_pcid_page, flush_pcid, flush_pcids;
    uint64_t flush_gva;
    unsigned hypercalls;
    unsigned pio_reads, pio_writes;
    uint16_t pio_port;
    unsigned pio_size;
    uint64_t pio_value; /* written, or to be read */
    unsigned mmio_reads, mmio_writes;
    uint64_t mmio_gpa, mmio_value;
    unsigned mmio_size;
    uint32_t msr;
    uint64_t cr8;
};

struct guest *guest_new(enum guest_mode mode);
void guest_free(struct guest *g);
/* Puts CPU and tables back as guest_new() made them; the rest of RAM stays. */
void guest_reset(struct guest *g, enum guest_mode mode);
struct guest_log *guest_log(struct guest *g);
/* CPL 3 in the current mode: flat user segments and stack. */
void guest_to_user(struct guest *g);
/* Writes or reads guest RAM at a physical address. */
void guest_put(struct guest *g, uint64_t gpa, uint64_t value, unsigned size);
uint64_t guest_get(struct guest *g, uint64_t gpa, unsigned size);
/* A gate for `vector` to the code segment `selector`: long (16 bytes) or legacy by mode. */
void guest_gate(struct guest *g, unsigned vector, uint16_t selector, uint64_t offset,
                unsigned type, unsigned dpl, unsigned ist);
void guest_set_desc(struct guest *g, unsigned selector, uint64_t raw);
uint64_t guest_desc(uint32_t base, uint32_t limit, uint16_t attr);

/* Decodes the bytes at cpu.rip in the current mode and executes them as a system
 * instruction. */
bool guest_run_bytes(struct guest *g, const uint8_t *bytes, size_t len);
#define guest_run(g, ...)                                                                      \
    guest_run_bytes(g, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#define g_assert_fault(g, vec, code)                                                           \
    do {                                                                                       \
        g_assert_cmpuint((g)->fault.vector, ==, vec);                                          \
        g_assert_true((g)->fault.has_error);                                                   \
        g_assert_cmphex((g)->fault.error, ==, code);                                           \
    } while (0)
#define g_assert_fault_plain(g, vec)                                                           \
    do {                                                                                       \
        g_assert_cmpuint((g)->fault.vector, ==, vec);                                          \
        g_assert_false((g)->fault.has_error);                                                  \
    } while (0)

#endif
