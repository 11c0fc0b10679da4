/* SPDX-License-Identifier: MIT */
/*
 * stress_interp [-seed S] [-seconds N] [-accel bt]: guests of random bytes in every mode and privilege,
 * with random descriptor tables, page tables and handlers. Nothing is compared; nothing may
 * crash, hang, or make the engine report an error of its own. Run it under the sanitizers too.
 */
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "fake_board.h"
#include "oracle.h"

enum { RAM = 4 << 20, RUNS_PER_GUEST = 16 };

struct stress {
    struct fake_board *fb;
    struct vcpu *v;
    struct oracle_rng r;
    uint8_t *ram;
    _Atomic bool done;
    unsigned callbacks;
};

static uint64_t stress_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    (void)v, (void)size;
    return port * 0x9e3779b97f4a7c15ull;
}

static void stress_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    (void)v, (void)port, (void)size, (void)value;
}

static uint64_t stress_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v, (void)size;
    return gpa * 0x9e3779b97f4a7c15ull;
}

static void stress_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)v, (void)gpa, (void)size, (void)value;
}

static void stress_hypercall(struct vcpu *v)
{
    v->cpu.gpr[CPU_RAX] = 0;
}

static int stress_irq_ack(struct vcpu *v)
{
    return v->insn_count % 3 == 0 ? -1 : (int)(v->insn_count % 224 + 32);
}

static bool stress_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    (void)v;
    *value = index;
    return index % 3 != 0;
}

static bool stress_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    (void)v, (void)value;
    return index % 3 != 0;
}

static uint64_t stress_read_cr8(struct vcpu *v)
{
    return v->cpu.cr8;
}

static void stress_write_cr8(struct vcpu *v, uint64_t value)
{
    v->cpu.cr8 = value & 15;
}

static const struct vcpu_board_ops stress_ops = {
    .pio_read = stress_pio_read,
    .pio_write = stress_pio_write,
    .mmio_read = stress_mmio_read,
    .mmio_write = stress_mmio_write,
    .hypercall = stress_hypercall,
    .irq_ack = stress_irq_ack,
    .rdmsr = stress_rdmsr,
    .wrmsr = stress_wrmsr,
    .read_cr8 = stress_read_cr8,
    .write_cr8 = stress_write_cr8,
};

/* Stops the guest every now and then: it may loop for ever. */
static gpointer stress_kicker(gpointer opaque)
{
    struct stress *s = opaque;

    while (!atomic_load(&s->done)) {
        g_usleep(300);
        vcpu_request(s->v,
                     VCPU_REQ_STOP | (atomic_load(&s->v->request) == 0 ? VCPU_REQ_IRQ : 0));
    }
    return NULL;
}

static uint64_t rnd(struct stress *s)
{
    return oracle_rand(&s->r);
}

static void stress_fill(struct stress *s)
{
    uint64_t *words = (uint64_t *)(void *)s->ram;
    unsigned style = (unsigned)rnd(s) % 3;

    for (unsigned i = 0; i < RAM / 8; i += 1 + (style == 0 ? 0 : (unsigned)(rnd(s) & 7))) {
        words[i] = style == 2 ? rnd(s) & 0x00ff00ff00ff00ffull : rnd(s);
    }
}

/* Page tables that map much of the low 4 GiB onto the RAM, with random flags here and there. */
static void stress_tables(struct stress *s)
{
    uint64_t *w = (uint64_t *)(void *)s->ram;
    unsigned flags = rnd(s) % 4 == 0 ? 3 : 7;

    for (unsigned i = 0; i < 512; i++) {
        w[0x1000 / 8 + i] = rnd(s) % 8 == 0 ? rnd(s) : 0x2000 | flags;
        w[0x2000 / 8 + i] = rnd(s) % 8 == 0 ? rnd(s) : 0x3000 | flags;
        w[0x3000 / 8 + i] =
            rnd(s) % 4 == 0 ? (rnd(s) % (RAM >> 21) << 21) | 0x80 | flags : 0x4000 | flags;
        w[0x4000 / 8 + i] = (rnd(s) % (RAM >> 12) << 12) | flags |
                            (rnd(s) % 16 == 0 ? rnd(s) & 0x800000000000001f : 0);
    }
}

static void stress_segments(struct stress *s)
{
    struct cpu_x86 *cpu = &s->v->cpu;
    unsigned mode = (unsigned)rnd(s) % 4, cpl = rnd(s) % 2 == 0 ? 0 : 3;

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){.selector = (uint16_t)((i + 1) << 3 | cpl),
                                           .attr = (uint16_t)(0xc093 | cpl << 5),
                                           .limit = UINT32_MAX,
                                           .base = rnd(s) % 8 == 0 ? rnd(s) & 0xffffff : 0};
    }
    cpu->seg[CPU_CS].attr |= 8;
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_MP | (rnd(s) & CPU_CR0_AM);
    cpu->cr4 =
        (CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE) & (rnd(s) % 8 ? ~0ull : rnd(s));
    cpu->efer = 0;
    switch (mode) {
    case 0: /* long mode */
        cpu->cr0 |= CPU_CR0_PG | CPU_CR0_WP;
        cpu->cr4 |= CPU_CR4_PAE;
        cpu->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE;
        cpu->seg[CPU_CS].attr = (uint16_t)((cpu->seg[CPU_CS].attr & ~0x4000) | 0x2000);
        break;
    case 1: /* 32-bit, sometimes paged */
        if (rnd(s) % 2 == 0) {
            cpu->cr0 |= CPU_CR0_PG;
            cpu->cr4 |= CPU_CR4_PAE;
        }
        break;
    case 2: /* 16-bit protected */
        for (unsigned i = 0; i < CPU_NR_SEG; i++) {
            cpu->seg[i].attr &= (uint16_t)~0xc000;
            cpu->seg[i].limit = 0xffff;
        }
        break;
    default: /* real */
        cpu->cr0 &= ~(uint64_t)CPU_CR0_PE;
        for (unsigned i = 0; i < CPU_NR_SEG; i++) {
            cpu->seg[i] = (struct cpu_segment){
                .selector = (uint16_t)rnd(s), .attr = 0x93, .limit = 0xffff};
            cpu->seg[i].base = (uint64_t)cpu->seg[i].selector << 4;
        }
        cpl = 0;
        break;
    }
    cpu->cpl = (uint8_t)cpl;
}

static void stress_state(struct stress *s)
{
    struct cpu_x86 *cpu = &s->v->cpu;

    cpu_reset(cpu);
    stress_segments(s);
    for (unsigned i = 0; i < 16; i++) {
        cpu->gpr[i] = rnd(s) % 3 == 0 ? rnd(s) : rnd(s) % RAM;
    }
    cpu->rip = 0x10000 + rnd(s) % 0x4000;
    if (cpu->seg[CPU_CS].limit == 0xffff) {
        cpu->rip &= 0xffff;
    }
    cpu->rflags = (rnd(s) & 0x40ed5) | 2 | (rnd(s) % 16 == 0 ? CPU_TF : 0) | CPU_IF;
    cpu->cr3 = 0x1000;
    cpu->xcr0 = 7;
    cpu->gdtr = (struct cpu_table){.base = rnd(s) % RAM, .limit = 0xfff};
    cpu->idtr = (struct cpu_table){.base = rnd(s) % RAM, .limit = 0xfff};
    cpu->dr[7] = rnd(s) % 16 == 0 ? rnd(s) & 0xffff03ff : 0x400;
    cpu->dr[0] = cpu->rip + 3;
    for (unsigned i = 0; i < 160; i++) {
        cpu->xsave[i] = (uint8_t)rnd(s);
    }
    s->v->accel->state_changed(s->v);
}

static uint64_t stress_guest(struct stress *s)
{
    uint64_t before = s->v->insn_count;
    struct exit exit;

    stress_fill(s);
    stress_tables(s);
    for (uint32_t f = 0; f < RAM >> 12; f++) {
        mem_written(s->fb->board.mem, f);
    }
    for (unsigned i = 0; i < RUNS_PER_GUEST; i++) {
        stress_state(s);
        for (unsigned k = 0; k < 4; k++) {
            atomic_fetch_and(&s->v->request, ~(uint32_t)VCPU_REQ_STOP);
            s->v->accel->run(s->v, &exit);
            g_assert_cmpint(exit.kind, !=, EXIT_ERROR);
            if (exit.kind == EXIT_SHUTDOWN) {
                break;
            }
            if (exit.kind == EXIT_HALT) {
                s->v->cpu.halted = false;
            }
        }
    }
    return s->v->insn_count - before;
}

int main(int argc, char **argv)
{
    struct stress s = {.r = {.s = 1}};
    struct cpu_model *model;
    const struct accel_ops *accel = &interp_accel_ops;
    unsigned seconds = 5;
    uint64_t guests = 0, insns = 0, seed = 1;
    GThread *kicker;
    gint64 end;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "-seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "-seconds") == 0) {
            seconds = (unsigned)strtoul(argv[i + 1], NULL, 0);
        } else if (strcmp(argv[i], "-accel") == 0 && strcmp(argv[i + 1], "bt") == 0) {
            accel = &dbt_accel_ops;
        }
    }
    if (!accel->probe(NULL)) {
        return 77;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    model = cpu_model_new_host(NULL);
    s.fb = fake_board_new(1, RAM, 0);
    s.v = s.fb->vcpus[0];
    s.v->accel = accel;
    s.v->model = model;
    s.v->board_ops = &stress_ops;
    s.ram = mem_page(s.fb->board.mem, 0);
    g_assert(accel->vcpu_init(s.v, NULL));
    if (accel == &dbt_accel_ops) {
        dbt_configure(s.v, &(struct dbt_options){.hot = 1, .cache = 1 << 20});
    }
    kicker = g_thread_new("kicker", stress_kicker, &s);
    end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    while (g_get_monotonic_time() < end) {
        printf("guest seed 0x%" PRIx64 "\n", seed);
        s.r.s = seed;
        insns += stress_guest(&s);
        seed += 0x632be59bd9b4e019ull;
        guests++;
    }
    atomic_store(&s.done, true);
    g_thread_join(kicker);
    accel->vcpu_fini(s.v);
    fake_board_free(s.fb);
    cpu_model_free(model);
    printf("%" PRIu64 " guests, %" PRIu64 " instructions\n", guests, insns);
    return 0;
}
