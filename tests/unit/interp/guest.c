/* SPDX-License-Identifier: MIT */
/* See guest.h. */
#include "guest.h"

int guest_irqs[4] = {-1, -1, -1, -1};
struct guest_mmio guest_mmio;

static int guest_irq_ack(struct vcpu *v)
{
    int vector = guest_irqs[0];

    (void)v;
    memmove(guest_irqs, guest_irqs + 1, sizeof(guest_irqs) - sizeof(guest_irqs[0]));
    guest_irqs[3] = -1;
    return vector;
}

static uint64_t guest_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v;
    guest_mmio.reads++;
    guest_mmio.last_gpa = gpa;
    guest_mmio.last_size = size;
    return guest_mmio.read_value;
}

static void guest_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)v;
    guest_mmio.writes++;
    guest_mmio.last_gpa = gpa;
    guest_mmio.last_size = size;
    guest_mmio.last_value = value;
}

static uint64_t guest_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    (void)v, (void)size;
    return port;
}

static void guest_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    (void)size, (void)value;
    if (port == 0x99) {
        vcpu_request(v, VCPU_REQ_IRQ); /* the test's interrupt line */
    } else if (port == 0x98) {
        vcpu_request(v, VCPU_REQ_STOP);
    } else if (port == 0x97) {
        vcpu_request(v, VCPU_REQ_NMI);
    }
}

static void guest_hypercall(struct vcpu *v)
{
    v->cpu.gpr[CPU_RAX] += 1000;
}

static const struct vcpu_board_ops guest_ops = {
    .hypercall = guest_hypercall,
    .irq_ack = guest_irq_ack,
    .mmio_read = guest_mmio_read,
    .mmio_write = guest_mmio_write,
    .pio_read = guest_pio_read,
    .pio_write = guest_pio_write,
};

uint64_t guest_read64(struct guest *g, uint64_t at)
{
    uint64_t val;

    memcpy(&val, g->ram + at, 8);
    return val;
}

void guest_write64(struct guest *g, uint64_t at, uint64_t val)
{
    g_assert(mem_write(g->fb->board.mem, at, &val, 8));
}

static void guest_tables(struct guest *g)
{
    guest_write64(g, G_PML4, G_PDPT | G_P | G_RW | G_US);
    guest_write64(g, G_PDPT, G_PD | G_P | G_RW | G_US);
    guest_write64(g, G_PD, G_PT0 | G_P | G_RW | G_US);
    guest_write64(g, G_PD + 8, G_PT1 | G_P | G_RW | G_US);
    guest_write64(g, G_PD + 16, 0x400000 | G_P | G_RW | G_US | G_PS); /* a 2 MiB page */
    guest_write64(g, G_PD + 64, G_MMIO | G_P | G_RW | G_US | G_PS);
    for (unsigned i = 0; i < 1024; i++) {
        guest_write64(g, G_PT0 + i * 8, (uint64_t)i << 12 | G_P | G_RW | G_US);
    }
}

static void guest_idt(struct guest *g)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t at = G_HANDLERS + i * 16;

        guest_write64(g, G_IDT + i * 16,
                      (at & 0xffff) | (uint64_t)G_SEL_CODE << 16 | 0xeeull << 40 |
                          (at >> 16) << 48);
        guest_write64(g, G_IDT + i * 16 + 8, 0);
        g->ram[at] = 0xf4;
    }
    guest_write64(g, G_GDT + G_SEL_CODE, 0x00af9b000000ffff);
    guest_write64(g, G_GDT + G_SEL_DATA, 0x00cf93000000ffff);
    guest_write64(g, G_GDT + 0x18, 0x00cff3000000ffff);
    guest_write64(g, G_GDT + 0x20, 0x00affb000000ffff);
    guest_write64(g, G_TSS + 4, G_STACK);
}

static void guest_segments(struct guest *g, uint16_t code, uint16_t data, uint32_t limit)
{
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        g->cpu->seg[i] =
            (struct cpu_segment){.selector = G_SEL_DATA, .attr = data, .limit = limit};
    }
    g->cpu->seg[CPU_CS].selector = G_SEL_CODE;
    g->cpu->seg[CPU_CS].attr = code;
}

static void guest_mode64(struct guest *g)
{
    struct cpu_x86 *cpu = g->cpu;

    cpu->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM |
               CPU_CR0_PG;
    cpu->cr3 = G_PML4;
    cpu->cr4 =
        CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE;
    cpu->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE;
    cpu->xcr0 = 7;
    cpu->gdtr = (struct cpu_table){.base = G_GDT, .limit = 0x7f};
    cpu->idtr = (struct cpu_table){.base = G_IDT, .limit = 0xfff};
    cpu->tr =
        (struct cpu_segment){.selector = G_SEL_TSS, .attr = 0x8b, .limit = 0x67, .base = G_TSS};
    guest_segments(g, 0xa09b, 0xc093, UINT32_MAX);
}

bool guest_tests(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    if (!interp_accel_ops.probe(NULL)) {
        g_test_skip("the host lacks what the interpreter needs");
        return false;
    }
    return true;
}

struct guest *guest_new(void)
{
    struct guest *g = g_new0(struct guest, 1);

    g->fb = fake_board_new(2, G_RAM, 0);
    g->v = g->fb->vcpus[0];
    g->cpu = &g->v->cpu;
    g->v->accel = &interp_accel_ops;
    g->v->board_ops = &guest_ops;
    g->ram = mem_page(g->fb->board.mem, 0);
    for (unsigned i = 0; i < 4; i++) {
        guest_irqs[i] = -1;
    }
    guest_mmio = (struct guest_mmio){0};
    guest_tables(g);
    guest_idt(g);
    guest_mode64(g);
    g->cpu->rflags = 2;
    g->cpu->gpr[CPU_RSP] = G_STACK;
    g_assert(interp_accel_ops.vcpu_init(g->v, NULL));
    return g;
}

struct vcpu *guest_second(struct guest *g)
{
    struct vcpu *v = g->fb->vcpus[1];

    v->cpu = *g->cpu;
    v->accel = &interp_accel_ops;
    v->board_ops = &guest_ops;
    g_assert(interp_accel_ops.vcpu_init(v, NULL));
    return v;
}

void guest_free(struct guest *g)
{
    if (g->fb->vcpus[1]->engine != NULL) {
        interp_accel_ops.vcpu_fini(g->fb->vcpus[1]);
    }
    interp_accel_ops.vcpu_fini(g->v);
    fake_board_free(g->fb);
    g_free(g);
}

void guest_mode32(struct guest *g)
{
    g->cpu->cr0 &= ~(uint64_t)CPU_CR0_PG;
    g->cpu->efer = 0;
    guest_segments(g, 0xc09b, 0xc093, UINT32_MAX);
    interp_accel_ops.state_changed(g->v);
}

void guest_mode16(struct guest *g)
{
    g->cpu->cr0 = CPU_CR0_ET | CPU_CR0_NE;
    g->cpu->efer = 0;
    g->cpu->idtr = (struct cpu_table){.base = 0x600, .limit = 0x3ff};
    guest_segments(g, 0x93, 0x93, 0xffff);
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        g->cpu->seg[i].selector = 0;
    }
    for (unsigned i = 0; i < 256; i++) { /* handlers are at a segment boundary */
        uint32_t vector = (G_HANDLERS >> 4) << 16 | i * 16;

        memcpy(g->ram + 0x600 + i * 4, &vector, 4);
    }
    interp_accel_ops.state_changed(g->v);
}

void guest_load(struct guest *g, uint64_t at, const uint8_t *code, size_t len)
{
    g_assert(mem_write(g->fb->board.mem, at, code, len));
    g->cpu->rip = at;
}

void guest_user(struct guest *g)
{
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        struct cpu_segment *s = &g->cpu->seg[i];

        s->selector = i == CPU_CS ? 0x23 : 0x1b;
        s->attr = (uint16_t)(s->attr | 3 << CPU_SEG_DPL_SHIFT);
    }
    g->cpu->cpl = 3;
}

void guest_run(struct guest *g, enum exit_kind kind)
{
    g->cpu->halted = false;
    interp_accel_ops.run(g->v, &g->exit);
    if (g->exit.kind == EXIT_ERROR) {
        g_test_message("%s", g->exit.message);
    }
    g_assert_cmpint(g->exit.kind, ==, kind);
}

int guest_vector(struct guest *g)
{
    uint64_t linear;

    guest_run(g, EXIT_HALT);
    linear = g->cpu->rip + g->cpu->seg[CPU_CS].base - 1;
    if (linear < G_HANDLERS || linear >= G_HANDLERS + 4096) {
        return -1;
    }
    return (int)(linear - G_HANDLERS) / 16;
}

uint64_t guest_frame(struct guest *g, unsigned i)
{
    return guest_read64(g, g->cpu->gpr[CPU_RSP] + i * 8);
}

uint64_t *guest_pte(struct guest *g, uint64_t va)
{
    g_assert(va < 4 << 20);
    return (uint64_t *)(void *)(g->ram + G_PT0 + (va >> 12) * 8);
}

void guest_flush(struct guest *g)
{
    interp_accel_ops.tlb_flush(g->v, VCPU_FLUSH_ALL, 0);
}

void guest_same_segments(const struct cpu_x86 *x, const struct cpu_x86 *y)
{
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        g_assert_cmphex(x->seg[i].selector, ==, y->seg[i].selector);
        g_assert_cmphex(x->seg[i].attr, ==, y->seg[i].attr);
        g_assert_cmphex(x->seg[i].limit, ==, y->seg[i].limit);
        g_assert_cmphex(x->seg[i].base, ==, y->seg[i].base);
        g_assert_true(x->seg[i].unusable == y->seg[i].unusable);
    }
}
