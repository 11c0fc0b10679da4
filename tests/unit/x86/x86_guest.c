/* SPDX-License-Identifier: MIT */
/* See x86_guest.h. */
#include "x86_guest.h"

#include <string.h>

#include "core/memory.h"

struct guest_log *guest_log(struct guest *g)
{
    return g->v->engine;
}

static struct guest_log *log_of(struct vcpu *v)
{
    return v->engine;
}

static void guest_flush(struct vcpu *v, enum vcpu_flush kind, uint64_t gva)
{
    struct guest_log *l = log_of(v);

    l->flush_all += kind == VCPU_FLUSH_ALL;
    l->flush_nonglobal += kind == VCPU_FLUSH_NONGLOBAL;
    l->flush_nothing += kind == VCPU_FLUSH_NOTHING;
    l->flush_page += kind == VCPU_FLUSH_PAGE;
    l->flush_pcid_page += kind == VCPU_FLUSH_PCID_PAGE;
    l->flush_pcid += kind == VCPU_FLUSH_PCID;
    l->flush_pcids += kind == VCPU_FLUSH_PCIDS;
    l->flush_gva = gva;
}

static uint64_t guest_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    log_of(v)->pio_reads++;
    log_of(v)->pio_port = port;
    log_of(v)->pio_size = size;
    return log_of(v)->pio_value;
}

static void guest_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    log_of(v)->pio_writes++;
    log_of(v)->pio_port = port;
    log_of(v)->pio_size = size;
    log_of(v)->pio_value = value;
}

static uint64_t guest_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    log_of(v)->mmio_reads++;
    log_of(v)->mmio_gpa = gpa;
    log_of(v)->mmio_size = size;
    return log_of(v)->mmio_value;
}

static void guest_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    log_of(v)->mmio_writes++;
    log_of(v)->mmio_gpa = gpa;
    log_of(v)->mmio_size = size;
    log_of(v)->mmio_value = value;
}

static void guest_hypercall(struct vcpu *v)
{
    log_of(v)->hypercalls++;
    v->cpu.gpr[CPU_RAX] = 0x1234;
}

static bool guest_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    log_of(v)->msr = index;
    *value = 0x5555;
    return index == 0x1b || (index & ~0xffu) == 0x800;
}

static bool guest_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    (void)value;
    log_of(v)->msr = index;
    return index == 0x1b || (index & ~0xffu) == 0x800;
}

static uint64_t guest_read_cr8(struct vcpu *v)
{
    return log_of(v)->cr8;
}

static void guest_write_cr8(struct vcpu *v, uint64_t value)
{
    log_of(v)->cr8 = value;
}

void guest_put(struct guest *g, uint64_t gpa, uint64_t value, unsigned size)
{
    g_assert_cmpuint(gpa + size, <=, G_RAM);
    memcpy(g->ram + gpa, &value, size);
}

uint64_t guest_get(struct guest *g, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    g_assert_cmpuint(gpa + size, <=, G_RAM);
    memcpy(&value, g->ram + gpa, size);
    return value;
}

uint64_t guest_desc(uint32_t base, uint32_t limit, uint16_t attr)
{
    uint64_t l = (attr & CPU_SEG_G) != 0 ? limit >> 12 : limit;

    return (l & 0xffff) | (l & 0xf0000) << 32 | ((uint64_t)base & 0xffffff) << 16 |
           ((uint64_t)base & 0xff000000) << 32 | (uint64_t)attr << 40;
}

void guest_set_desc(struct guest *g, unsigned selector, uint64_t raw)
{
    guest_put(g, G_GDT + (selector & ~7u), raw, 8);
}

static void guest_make_gdt(struct guest *g)
{
    const struct {
        unsigned selector;
        uint16_t attr;
        uint32_t limit;
        uint32_t base;
    } rows[] = {
        {SEL_CODE64, 0xa09a, UINT32_MAX, 0}, {SEL_DATA, 0xc092, UINT32_MAX, 0},
        {SEL_CODE32, 0xc09a, UINT32_MAX, 0}, {SEL_UDATA, 0xc0f2, UINT32_MAX, 0},
        {SEL_UCODE64, 0xa0fa, UINT32_MAX, 0}, {SEL_UCODE32, 0xc0fa, UINT32_MAX, 0},
        {SEL_TSS, 0x0089, 0x2067, G_TSS}, {SEL_LDT, 0x0082, 0xff, G_LDT},
        {SEL_CONFORMING, 0xa09e, UINT32_MAX, 0}, {SEL_DOWN, 0xc096, 0x1fff, 0},
        {SEL_ABSENT, 0xc012, UINT32_MAX, 0}, {SEL_XONLY, 0xc098, UINT32_MAX, 0},
        {SEL_RO, 0xc090, UINT32_MAX, 0}, {SEL_DATA16, 0x0092, 0xffff, 0},
        {SEL_CODE16, 0x009a, 0xffff, 0}, {SEL_TSS16, 0x0081, 0x67, G_TSS},
        {SEL_BADLD, 0xe09a, UINT32_MAX, 0}, {SEL_DATA2, 0xc0d2, UINT32_MAX, 0},
        {SEL_CODE2, 0xc0da, UINT32_MAX, 0}, {SEL_UCONF32, 0xc0fe, UINT32_MAX, 0},
        {SEL_CONF32, 0xc09e, UINT32_MAX, 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        guest_set_desc(g, rows[i].selector,
                       guest_desc(rows[i].base, rows[i].limit, rows[i].attr));
    }
}

/* Identity-maps 1 GiB (4 MiB in 32-bit mode): the first 2 MiB by 4 KiB pages, all user, all
 * R/W. */
static void guest_make_tables(struct guest *g, enum guest_mode mode)
{
    bool wide = mode != GUEST_PROT && mode != GUEST_V86;

    guest_put(g, G_PML4, G_PDPT | 7, 8);
    guest_put(g, G_PDPT, G_PD | (mode == GUEST_PAE ? 1 : 7), 8);
    for (unsigned i = 0; i < (wide ? 512u : 1024u); i++) {
        guest_put(g, G_PT + i * (wide ? 8 : 4), (uint64_t)i << 12 | 7, wide ? 8 : 4);
        guest_put(g, G_PD + i * (wide ? 8 : 4),
                  i == 0 ? G_PT | 7u : (uint64_t)i << (wide ? 21 : 22) | 0x87, wide ? 8 : 4);
    }
}

static struct cpu_segment guest_segment(uint16_t selector, uint16_t attr)
{
    return (struct cpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

static void guest_set_segments(struct guest *g, uint16_t cs, uint16_t cs_attr, uint16_t data,
                               uint16_t data_attr)
{
    struct cpu_x86 *cpu = g->cpu;

    for (int i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = guest_segment(data, data_attr);
    }
    cpu->seg[CPU_CS] = guest_segment(cs, cs_attr);
}

static void guest_enter_protected(struct guest *g, enum guest_mode mode)
{
    struct cpu_x86 *cpu = g->cpu;
    bool long_mode = mode == GUEST_LONG || mode == GUEST_COMPAT;

    guest_make_tables(g, mode);
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_PG | CPU_CR0_WP | CPU_CR0_ET | CPU_CR0_NE;
    cpu->cr4 = CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXSAVE | CPU_CR4_PSE;
    cpu->xcr0 = 7;
    if (mode != GUEST_PROT && mode != GUEST_V86) {
        cpu->cr4 |= CPU_CR4_PAE;
    }
    cpu->cr3 = long_mode ? G_PML4 : mode == GUEST_PAE ? G_PDPT : G_PD;
    if (long_mode) {
        cpu->efer = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    }
    cpu->gdtr = (struct cpu_table){G_GDT, GDT_BYTES - 1};
    cpu->idtr = (struct cpu_table){G_IDT, 0xfff};
    cpu->tr = (struct cpu_segment){
        .selector = SEL_TSS, .attr = 0x8b, .limit = 0x2067, .base = G_TSS};
    cpu->ldtr.unusable = true;
    if (mode == GUEST_LONG) {
        guest_set_segments(g, SEL_CODE64, 0xa09b, SEL_DATA, 0xc093);
    } else {
        guest_set_segments(g, SEL_CODE32, 0xc09b, SEL_DATA, 0xc093);
    }
    if (long_mode) {
        guest_put(g, G_TSS + 4, G_STACK0, 8);
        guest_put(g, G_TSS + 4 + 16, G_STACK2, 8);
        guest_put(g, G_TSS + 0x24, G_IST1, 8);
    } else {
        guest_put(g, G_TSS + 4, G_STACK0, 4);
        guest_put(g, G_TSS + 8, SEL_DATA, 2);
        guest_put(g, G_TSS + 4 + 16, G_STACK2, 4);
        guest_put(g, G_TSS + 8 + 16, SEL_DATA2 | 2, 2);
    }
    guest_put(g, G_TSS + 0x66, 0x68, 2); /* I/O bitmap right after the TSS: all zero */
}

static void guest_enter_v86(struct guest *g)
{
    struct cpu_x86 *cpu = g->cpu;

    for (int i = 0; i < CPU_NR_SEG; i++) {
        x86_segment_set_v86(&cpu->seg[i], 0x1000);
    }
    cpu->rflags |= CPU_VM;
    cpu->cpl = 3;
    cpu->rip = 0;
    cpu->gpr[CPU_RSP] = 0x8000;
}

struct guest *guest_new(enum guest_mode mode)
{
    struct guest *g = g_new0(struct guest, 1);

    g->fb = fake_board_new(1, G_RAM, 0);
    g->v = g->fb->vcpus[0];
    g->cpu = &g->v->cpu;
    g->ram = mem_page(g->v->mem, 0);
    g->v->engine = g_new0(struct guest_log, 1);
    g->accel.tlb_flush = guest_flush;
    g->v->accel = &g->accel;
    g->ops = (struct vcpu_board_ops){
        .pio_read = guest_pio_read, .pio_write = guest_pio_write, .mmio_read = guest_mmio_read,
        .mmio_write = guest_mmio_write, .hypercall = guest_hypercall, .rdmsr = guest_rdmsr,
        .wrmsr = guest_wrmsr, .read_cr8 = guest_read_cr8, .write_cr8 = guest_write_cr8,
    };
    g->v->board_ops = &g->ops;
    guest_reset(g, mode);
    return g;
}

void guest_reset(struct guest *g, enum guest_mode mode)
{
    cpu_reset(g->cpu);
    guest_make_gdt(g);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RSP] = G_STACK0;
    if (mode == GUEST_REAL) {
        g->cpu->seg[CPU_CS] = (struct cpu_segment){
            .selector = 0x1000, .attr = 0x9b, .limit = 0xffff, .base = 0x10000};
        g->cpu->rip = 0;
    } else {
        guest_enter_protected(g, mode);
    }
    if (mode == GUEST_V86) {
        guest_enter_v86(g);
    }
}

void guest_free(struct guest *g)
{
    g_free(g->v->engine);
    fake_board_free(g->fb);
    g_free(g);
}

void guest_to_user(struct guest *g)
{
    if (cpu_is_code64(g->cpu)) {
        guest_set_segments(g, SEL_UCODE64 | 3, 0xa0fb, SEL_UDATA | 3, 0xc0f3);
    } else {
        guest_set_segments(g, SEL_UCODE32 | 3, 0xc0fb, SEL_UDATA | 3, 0xc0f3);
    }
    g->cpu->cpl = 3;
    g->cpu->gpr[CPU_RSP] = G_STACK3;
}

void guest_gate(struct guest *g, unsigned vector, uint16_t selector, uint64_t offset,
                unsigned type, unsigned dpl, unsigned ist)
{
    uint64_t raw = (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                   (uint64_t)(0x80 | dpl << 5 | type) << 40 |
                   (offset & 0xffff0000) << 32;

    if (cpu_is_long_mode(g->cpu)) {
        guest_put(g, G_IDT + vector * 16, raw, 8);
        guest_put(g, G_IDT + vector * 16 + 8, offset >> 32, 8);
    } else {
        guest_put(g, G_IDT + vector * 8, raw, 8);
    }
}

bool guest_run_bytes(struct guest *g, const uint8_t *bytes, size_t len)
{
    struct insn in;

    memset(&g->fault, 0, sizeof(g->fault));
    g_assert_cmpint(insn_decode(&in, x86_insn_mode(g->cpu), bytes, len), ==, INSN_OK);
    if (in.id == INSN_INVALID || in.id == INSN_UD) {
        return x86_fault_ud(&g->fault);
    }
    if ((in.flags & INSN_F_SYSTEM) == 0) {
        g_error("%s is no system instruction", insn_name((enum insn_id)in.id));
    }
    g_assert_cmpuint(in.len, ==, len);
    return x86_system_insn(g->v, &in, &g->fault);
}
