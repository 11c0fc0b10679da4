/* SPDX-License-Identifier: MIT */
/*
 * The emulated side of the oracle: a guest in 64-bit mode at CPL 3 whose every exception ends
 * in a HLT at an address that tells the vector.
 *
 * Its own structures lie at GUEST_HIGH, where a host has its kernel:
 *     0x1000 PML4, 0x2000 PDPT, 0x3000 PD (low 1 GiB), 0x4000.. page tables, 0x7000 PD of
 * GUEST_HIGH 0x8000 IDT   0x9000 GDT   0xa000 TSS   0xb000.. handlers   0x10000 kernel stack
 * top 0x20000 code pages   0x30000 data pages
 */
#include "oracle.h"

#include <string.h>
#include <sys/mman.h>

#include "core/memory.h"
#include "fake_board.h"

enum {
    G_PML4 = 0x1000,
    G_PDPT = 0x2000,
    G_PD = 0x3000,
    G_PT_LOW = 0x4000,
    G_PT_CODE = 0x5000,
    G_PT_DATA = 0x6000,
    G_PD_HIGH = 0x7000,
    G_IDT = 0x8000,
    G_GDT = 0x9000,
    G_TSS = 0xa000,
    G_HANDLERS = 0xb000,
    G_STACK = 0x10000,
    G_CODE = 0x20000,
    G_DATA = 0x30000,
    G_RAM = 1 << 20,
};
#define GUEST_HIGH 0xffffffffc0000000ull
enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40 };
#define NX (1ull << 63)
#ifndef GUEST_CODE_FLAGS
#define GUEST_CODE_FLAGS 0 /* RW: programs that change themselves */
#endif
/* As in Linux: programs may push or load them. */
enum {
    SEL_CODE0 = 0x10,
    SEL_DATA0 = 0x18,
    SEL_CODE32 = 0x23,
    SEL_DATA3 = 0x2b,
    SEL_CODE3 = 0x33,
    SEL_TSS = 0x40,
};

static struct fake_board *guest_board;
static struct vcpu *guest_vcpu;
static uint8_t *guest_ram, *guest_data;
static bool guest_mirrored;
static const struct accel_ops *guest_accel;

static void put64(unsigned at, uint64_t val)
{
    memcpy(guest_ram + at, &val, 8);
}

/* Of page i of the data. */
static uint64_t guest_data_gpa(unsigned i)
{
    return G_DATA + ((guest_mirrored ? ORACLE_DATA_SIZE / 4096 - 1 - i : i) << 12);
}

/* The pages once more, in the guest's order. */
static void guest_data_map(void)
{
    int fd = mem_fd(guest_board->board.mem);

    guest_data = mmap(NULL, ORACLE_DATA_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(guest_data != MAP_FAILED);
    for (unsigned i = 0; i < ORACLE_DATA_SIZE / 4096; i++) {
        g_assert(mmap(guest_data + (i << 12), 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED, fd, (off_t)guest_data_gpa(i)) != MAP_FAILED);
    }
}

void oracle_guest_mirror(void)
{
    guest_mirrored = true;
}

static void guest_tables(void)
{
    put64(G_PML4, G_PDPT | P | RW | US | A);
    put64(G_PDPT, G_PD | P | RW | US | A);
    put64(G_PML4 + 511 * 8, G_PDPT | P | RW | US | A);
    put64(G_PDPT + 511 * 8, G_PD_HIGH | P | RW | A);
    put64(G_PD_HIGH, G_PT_LOW | P | RW | A);
    put64(G_PD + (ORACLE_CODE >> 21) * 8, G_PT_CODE | P | RW | US | A);
    put64(G_PD + (ORACLE_DATA >> 21) * 8, G_PT_DATA | P | RW | US | A);
    for (unsigned i = 0; i < 256; i++) {
        put64(G_PT_LOW + i * 8, i << 12 | P | RW | A | D);
    }
    for (unsigned i = 0; i < ORACLE_CODE_SIZE / 4096; i++) {
        put64(G_PT_CODE + i * 8, (G_CODE + (i << 12)) | P | US | A | GUEST_CODE_FLAGS);
    }
    for (unsigned i = 0; i < ORACLE_DATA_SIZE / 4096; i++) {
        bool rw = i < ORACLE_RW_SIZE / 4096;

        put64(G_PT_DATA + i * 8, guest_data_gpa(i) | P | US | NX | (rw ? RW : 0));
    }
}

static void guest_idt(void)
{
    for (unsigned i = 0; i < 32; i++) {
        uint64_t handler = GUEST_HIGH + G_HANDLERS + i * 16;

        put64(G_IDT + i * 16, (handler & 0xffff) | (uint64_t)SEL_CODE0 << 16 | 0xeeull << 40 |
                                  (handler >> 16) << 48);
        put64(G_IDT + i * 16 + 8, handler >> 32);
        guest_ram[G_HANDLERS + i * 16] = 0xf4; /* hlt */
    }
}

static void guest_gdt(void)
{
    put64(G_GDT + SEL_CODE0, 0x00af9b000000ffff);
    put64(G_GDT + SEL_DATA0, 0x00cf93000000ffff);
    put64(G_GDT + (SEL_CODE32 & ~7), 0x00cffb000000ffff);
    put64(G_GDT + (SEL_DATA3 & ~7), 0x00cff3000000ffff);
    put64(G_GDT + (SEL_CODE3 & ~7), 0x00affb000000ffff);
    put64(G_TSS + 4, GUEST_HIGH + G_STACK);
    put64(G_TSS + 0x60, 0xffffull << 48); /* no port is allowed, as in Linux */
}

static int guest_irq_ack(struct vcpu *v)
{
    (void)v;
    return -1;
}

static uint64_t guest_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v, (void)gpa, (void)size;
    return UINT64_MAX;
}

static void guest_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)v, (void)gpa, (void)size, (void)value;
}

static const struct vcpu_board_ops guest_ops = {
    .irq_ack = guest_irq_ack,
    .mmio_read = guest_mmio_read,
    .mmio_write = guest_mmio_write,
};

static void guest_control(struct cpu_x86 *cpu)
{
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM |
               CPU_CR0_PG;
    cpu->cr3 = G_PML4;
    /* UMIP: what SGDT and its like would store is not the host's in any case (oracle_program.c) */
    cpu->cr4 = CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT |
               CPU_CR4_OSXSAVE | CPU_CR4_UMIP;
    cpu->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE;
    cpu->xcr0 = 7;
    cpu->gdtr = (struct cpu_table){.base = GUEST_HIGH + G_GDT, .limit = 0x7f};
    cpu->idtr = (struct cpu_table){.base = GUEST_HIGH + G_IDT, .limit = 0x1ff};
    cpu->tr = (struct cpu_segment){
        .selector = SEL_TSS, .attr = 0x8b, .limit = 0x67, .base = GUEST_HIGH + G_TSS};
    cpu->ldtr = (struct cpu_segment){.unusable = true}; /* as processes have it */
}

/* Into the register and into the table, from where programs may load it again. */
static void guest_segment(struct cpu_segment *to, uint16_t selector, const struct oracle_segment *s)
{
    bool pages = s->limit > 0xfffff;
    uint16_t attr = (uint16_t)((pages ? 0xc0f0 : 0x40f0) | (s->read_only ? 1 : 3));
    uint64_t limit = pages ? s->limit >> 12 : s->limit;

    *to = (struct cpu_segment){
        .selector = selector, .attr = attr, .limit = s->limit, .base = s->base};
    put64(G_GDT + (selector & ~7u), (limit & 0xffff) | (limit >> 16) << 48 |
                                        (uint64_t)attr << 40 | (s->base & 0xffffffull) << 16 |
                                        (uint64_t)(s->base >> 24) << 56);
}

static void guest_user_segments(struct cpu_x86 *cpu, enum insn_mode mode)
{
    struct cpu_segment data = {.selector = SEL_DATA3, .attr = 0xc0f3, .limit = UINT32_MAX};

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = data;
    }
    cpu->seg[CPU_CS].selector = mode == INSN_MODE_32 ? SEL_CODE32 : SEL_CODE3;
    cpu->seg[CPU_CS].attr = mode == INSN_MODE_32 ? 0xc0fb : 0xa0fb;
    cpu->seg[CPU_GS].base = ORACLE_GS_BASE;
    cpu->cpl = 3;
}

void oracle_guest_init(const struct accel_ops *accel, const struct cpu_model *model)
{
    GError *err = NULL;

    guest_board = fake_board_new(1, G_RAM, 0);
    guest_vcpu = guest_board->vcpus[0];
    guest_vcpu->accel = guest_accel = accel;
    guest_vcpu->model = model;
    guest_vcpu->board_ops = &guest_ops;
    guest_ram = mem_page(guest_board->board.mem, 0);
    guest_tables();
    guest_data_map();
    guest_idt();
    guest_gdt();
    memset(guest_ram + G_CODE, 0xcc, ORACLE_CODE_SIZE);
    guest_control(&guest_vcpu->cpu);
    if (!accel->vcpu_init(guest_vcpu, &err)) {
        g_error("%s", err->message);
    }
}

void oracle_guest_fini(void)
{
    guest_accel->vcpu_fini(guest_vcpu);
    munmap(guest_data, ORACLE_DATA_SIZE);
    fake_board_free(guest_board);
}

uint8_t *oracle_guest_code(void)
{
    return guest_ram + G_CODE;
}

uint8_t *oracle_guest_data(void)
{
    return guest_data;
}

/* The exception frame on the kernel stack: [error] rip cs rflags rsp ss. */
static void guest_frame(struct oracle_state *end)
{
    const struct cpu_x86 *cpu = &guest_vcpu->cpu;
    uint64_t frame[6];
    bool has_error;

    end->vector = (unsigned)((cpu->rip - 1 - GUEST_HIGH - G_HANDLERS) / 16);
    has_error = GUEST_HIGH + G_STACK - cpu->gpr[CPU_RSP] == 48;
    memset(frame, 0, sizeof(frame));
    memcpy(frame + !has_error, guest_ram + (cpu->gpr[CPU_RSP] - GUEST_HIGH),
           has_error ? 48 : 40);
    end->error = frame[0];
    end->rip = frame[1];
    end->rflags = frame[3];
    memcpy(end->gpr, cpu->gpr, sizeof(end->gpr));
    end->gpr[CPU_RSP] = frame[4];
    end->cr2 = cpu->cr2;
    memcpy(end->xsave, cpu->xsave, ORACLE_XSAVE);
}

void oracle_guest_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                          struct oracle_state *end)
{
    struct cpu_x86 *cpu = &guest_vcpu->cpu;
    struct exit exit;

    mem_write(guest_board->board.mem, G_CODE + (c->rip - ORACLE_CODE), code, len);
    memcpy(cpu->gpr, c->start.gpr, sizeof(cpu->gpr));
    memcpy(cpu->xsave, c->start.xsave, ORACLE_XSAVE);
    cpu->rip = c->rip;
    cpu->rflags = c->start.rflags;
    cpu->halted = false;
    guest_user_segments(cpu, c->mode);
    if (c->segments) {
        guest_segment(&cpu->seg[CPU_FS], ORACLE_SEL_FS, &c->fs);
        guest_segment(&cpu->seg[CPU_GS], ORACLE_SEL_GS, &c->gs);
    }
    atomic_fetch_and(&guest_vcpu->request, ~(uint32_t)VCPU_REQ_STOP); /* meant for the one before */
    guest_accel->run(guest_vcpu, &exit);
    if (exit.kind == EXIT_KICK && (atomic_load(&guest_vcpu->request) & VCPU_REQ_STOP) != 0) {
        end->vector = ORACLE_STOPPED;
    } else if (exit.kind != EXIT_HALT) {
        end->vector = ORACLE_EXIT + exit.kind;
        g_printerr("engine exit %d: %s\n", exit.kind, exit.message);
    } else {
        guest_frame(end);
    }
}

void oracle_guest_run(const struct oracle_case *c, struct oracle_state *end)
{
    static const uint8_t fill[16] = {0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
                                     0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc};

    oracle_guest_program(c, c->bytes, c->len, end);
    mem_write(guest_board->board.mem, G_CODE + (c->rip - ORACLE_CODE), fill, c->len);
}

void oracle_guest_stop(void)
{
    vcpu_request(guest_vcpu, VCPU_REQ_STOP);
}

uint64_t oracle_guest_insns(void)
{
    return guest_vcpu->insn_count;
}

uint64_t oracle_guest_call(const uint8_t *text, size_t len, size_t entry, uint64_t n,
                           uint64_t *insns)
{
    struct cpu_x86 *cpu = &guest_vcpu->cpu;
    uint64_t ret = ORACLE_CODE + len, before = guest_vcpu->insn_count;
    struct exit exit;

    g_assert(len < ORACLE_CODE_SIZE - 1);
    memset(guest_ram + G_DATA, 0, ORACLE_DATA_SIZE);
    mem_write(guest_board->board.mem, G_CODE, text, len);
    mem_write(guest_board->board.mem, G_CODE + len, "\xcc", 1);
    cpu->gpr[CPU_RDI] = ORACLE_DATA;
    cpu->gpr[CPU_RSI] = n;
    cpu->gpr[CPU_RSP] = ORACLE_DATA + ORACLE_RW_SIZE - 8;
    memcpy(guest_ram + G_DATA + ORACLE_RW_SIZE - 8, &ret, 8);
    cpu->rip = ORACLE_CODE + entry;
    cpu->rflags = 0x202;
    cpu->halted = false;
    memset(cpu->xsave, 0, sizeof(cpu->xsave));
    cpu->xsave[0] = 0x7f, cpu->xsave[1] = 3, cpu->xsave[24] = 0x80, cpu->xsave[25] = 0x1f;
    guest_user_segments(cpu, INSN_MODE_64);
    guest_accel->run(guest_vcpu, &exit);
    g_assert_cmpint(exit.kind, ==, EXIT_HALT);
    g_assert_cmphex(cpu->rip, ==, GUEST_HIGH + G_HANDLERS + 3 * 16 + 1);
    *insns = guest_vcpu->insn_count - before;
    return cpu->gpr[CPU_RAX];
}
