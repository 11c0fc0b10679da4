/* SPDX-License-Identifier: MIT */
/*
 * The usual forms of what 64-bit kernels do all the time: SYSCALL, SYSRET, SWAPGS, IRETQ,
 * exceptions and interrupts through 64-bit gates, the interrupt flag, flags on the stack, the
 * TSC and segment bases. Each function does the whole of it or, having changed nothing, returns
 * false: cpu/x86 then finds out what it is. Compiled for general registers only, so the vector
 * state stays where it is.
 *
 * Gates, descriptors and the TSS are read from guest memory every time, as the processor does;
 * only the translation of their addresses is remembered, by the TLB; and what the last ones were
 * found to mean, for an engine above (e->known).
 *
 * One liberty: IRETQ drops RF while no breakpoint is enabled. Nothing but the frame of an
 * interrupt that comes before the next instruction would show it.
 */
#include "engine.h"

#include "alu.h"
#include "base/log.h"

enum {
    ATTR_CODE64 = 0xa09b, ATTR_DATA = 0xc093, ATTR_DPL3 = 3 << CPU_SEG_DPL_SHIFT,
    DESC_CODE0 = 0x9b, DESC_CODE3 = 0xfb, DESC_DATA0 = 0x93, DESC_DATA3 = 0xf3,
    GATE_INT = 0x8e, GATE_TRAP = 0x8f, /* present, any DPL */
    TSS_RSP0 = 4,
};
#define SYSRET_FLAGS 0x3c7fd7ull
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* Nothing unusual is going on: 64-bit code, no traps, no breakpoints, no #AC. */
static bool transit_plain(const struct interp *e)
{
    return e->mode == MODE_64 && !interp_special(e) && !e->v->cpu.irq_shadow;
}

/* Flags with which the next block is like any other one. */
static bool transit_flags_plain(const struct cpu_x86 *cpu, uint64_t flags, unsigned cpl)
{
    return (flags & CPU_TF) == 0 &&
           (cpl != 3 || (flags & CPU_AC) == 0 || (cpu->cr0 & CPU_CR0_AM) == 0);
}

static uint64_t transit_flags(const struct interp *e)
{
    return (e->v->cpu.rflags & ~(uint64_t)CPU_STATUS_FLAGS) | alu_unpack(e->fl) | 2;
}

static void transit_set_flags(struct interp *e, uint64_t flags)
{
    e->v->cpu.rflags = flags | 2;
    e->fl = alu_pack(flags) | 0x200;
}

/* What depends on CPL, AC and IF; the rest of interp_mode_changed() stays as it is. */
static void transit_settle(struct interp *e)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    e->tlb = &e->tlbs[interp_tlb_index(cpu)];
    e->request_mask = (e->request_mask & ~(uint32_t)VCPU_REQ_IRQ) |
                      ((cpu->rflags & CPU_IF) != 0 ? VCPU_REQ_IRQ : 0);
    interp_jump_keys(e);
}

/* ---- the guest's memory ---- */

/* Host address of an access within a page by the rules of table t; NULL: not that easy. */
static uint8_t *transit_host(struct interp *e, struct tlb *t, uint64_t va, unsigned len,
                             unsigned access)
{
    const struct tlb_entry *en = &t->entry[interp_tlb_slot(va)];
    const uint64_t *tag = (access & X86_WRITE) != 0 ? &en->write : &en->read;
    uint64_t page = PAGE_BASE(va + len - 1);

    if (unlikely(*tag != page)) {
        struct x86_fault before = e->fault;
        struct tlb *current = e->tlb;
        uint8_t cpl = e->v->cpu.cpl, *hva;
        uint64_t gpa;
        bool ok;

        if (PAGE_BASE(va) != page || !interp_canonical(va)) {
            return NULL;
        }
        e->tlb = t;
        if (t != current) {
            e->v->cpu.cpl = t == &e->tlbs[TLB_USER] ? 3 : 0;
        }
        ok = interp_resolve(e, va, access, &hva, &gpa);
        e->tlb = current;
        e->v->cpu.cpl = cpl;
        if (!ok || *tag != page) {
            e->fault = before;
            return NULL;
        }
    }
    return (uint8_t *)(uintptr_t)(va + en->addend);
}

/* The processor's own reads: of tables, by supervisor rights whatever AC says. */
static bool transit_table(struct interp *e, uint64_t va, uint64_t *val)
{
    const uint8_t *p =
        transit_host(e, &e->tlbs[TLB_SUPERVISOR], va, 8, X86_READ | X86_IMPLICIT);

    if (p == NULL) {
        return false;
    }
    *val = *(const volatile interp_uint64_t *)(const void *)p;
    return true;
}

/* A descriptor of the GDT whose access byte is this one, and its word. */
static bool transit_descriptor(struct interp *e, uint16_t selector, unsigned access,
                               struct cpu_segment *s, uint64_t *word)
{
    const struct cpu_table *gdt = &e->v->cpu.gdtr;
    uint32_t limit;
    uint64_t raw;

    if (selector < 4 || (selector & 4) != 0 || (selector | 7u) > gdt->limit ||
        !transit_table(e, gdt->base + (selector & ~7u), &raw) ||
        (raw >> 40 & 0xff) != access) {
        return false;
    }
    *word = raw;
    limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
    s->selector = selector;
    s->attr = (uint16_t)(raw >> 40) & 0xf0ff;
    s->unusable = false;
    s->limit = (s->attr & CPU_SEG_G) != 0 ? limit << 12 | 0xfff : limit;
    s->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    return true;
}

void interp_known_init(struct interp *e)
{
    for (unsigned i = 0; i < ROLE_NR; i++) {
        e->known.role[i].selector = UINT32_MAX;
    }
}

static void transit_know(struct interp *e, enum interp_role role, const struct cpu_segment *s,
                         uint64_t raw)
{
    e->known.role[role] = (struct interp_descriptor){s->selector, raw, *s};
}

static bool transit_code(struct interp *e, uint16_t selector, unsigned access,
                         struct cpu_segment *s)
{
    uint64_t raw;

    if (!transit_descriptor(e, selector, access, s, &raw) ||
        (s->attr & (CPU_SEG_L | CPU_SEG_DB)) != CPU_SEG_L) {
        return false;
    }
    transit_know(e, access == DESC_CODE3 ? ROLE_USER_CODE : ROLE_KERNEL_CODE, s, raw);
    return true;
}

static void transit_flat(struct cpu_segment *s, uint64_t selector, unsigned attr)
{
    s->selector = (uint16_t)selector;
    s->attr = (uint16_t)attr;
    s->unusable = false;
    s->limit = UINT32_MAX;
    s->base = 0;
}

/* ---- system calls ---- */

static bool transit_syscall(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t flags = transit_flags(e), selector = cpu->star >> 32 & 0xfffc;

    if ((cpu->efer & CPU_EFER_SCE) == 0) {
        return false;
    }
    cpu->gpr[CPU_RCX] = cpu->rip + in->len;
    cpu->gpr[CPU_R11] = flags & ~(uint64_t)CPU_RF;
    transit_set_flags(e, flags & ~(cpu->fmask | CPU_RF));
    transit_flat(&cpu->seg[CPU_CS], selector, ATTR_CODE64);
    transit_flat(&cpu->seg[CPU_SS], selector + 8, ATTR_DATA);
    cpu->cpl = 0;
    cpu->rip = cpu->lstar;
    transit_settle(e);
    return true;
}

static bool transit_sysret(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t flags = cpu->gpr[CPU_R11] & SYSRET_FLAGS, selector = cpu->star >> 48;
    uint64_t rip = cpu->gpr[CPU_RCX];

    if (in->opsize != 8 || (cpu->efer & CPU_EFER_SCE) == 0 || cpu->cpl != 0 ||
        !interp_canonical(rip) || !transit_flags_plain(cpu, flags, 3)) {
        return false;
    }
    transit_flat(&cpu->seg[CPU_CS], (selector + 16) | 3, ATTR_CODE64 | ATTR_DPL3);
    if (e->amd) {
        cpu->seg[CPU_SS].selector = (uint16_t)((selector + 8) | 3);
        cpu->seg[CPU_SS].attr |= ATTR_DPL3;
    } else {
        transit_flat(&cpu->seg[CPU_SS], (selector + 8) | 3, ATTR_DATA | ATTR_DPL3);
    }
    transit_set_flags(e, flags);
    cpu->cpl = 3;
    cpu->rip = rip;
    transit_settle(e);
    return true;
}

static void transit_swapgs(struct cpu_x86 *cpu)
{
    uint64_t base = cpu->seg[CPU_GS].base;

    cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
}

/* ---- IRETQ ---- */

/* Would a return to CPL 3 clear a data segment register? */
static bool transit_clears(const struct cpu_x86 *cpu)
{
    static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};

    for (unsigned i = 0; i < sizeof(data); i++) {
        const struct cpu_segment *s = &cpu->seg[data[i]];

        if (!s->unusable && (s->attr & ATTR_DPL3) != ATTR_DPL3) {
            return true;
        }
    }
    return false;
}

static bool transit_iret_ss(struct interp *e, uint16_t selector, unsigned cpl,
                            struct cpu_segment *ss)
{
    uint64_t raw;

    if ((selector & 3u) != cpl) {
        return false;
    }
    if (selector == 0) {
        *ss = (struct cpu_segment){.unusable = true};
        return true;
    }
    if (!transit_descriptor(e, selector, cpl == 3 ? DESC_DATA3 : DESC_DATA0, ss, &raw)) {
        return false;
    }
    transit_know(e, cpl == 3 ? ROLE_USER_STACK : ROLE_KERNEL_STACK, ss, raw);
    return true;
}

static bool transit_iret(struct interp *e, const struct insn *in)
{
    const uint64_t mask = CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT | CPU_RF | CPU_AC |
                          CPU_ID | CPU_IF | CPU_IOPL;
    struct cpu_x86 *cpu = &e->v->cpu;
    const uint8_t *p;
    uint64_t frame[5];
    struct cpu_segment cs, ss;
    unsigned cpl;

    if (in->opsize != 8 || cpu->cpl != 0 || (cpu->rflags & CPU_NT) != 0) {
        return false;
    }
    p = transit_host(e, e->tlb, cpu->gpr[CPU_RSP], sizeof(frame), X86_READ);
    if (p == NULL) {
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(frame); i++) {
        frame[i] = *(const volatile interp_uint64_t *)(const void *)(p + 8 * i);
    }
    cpl = (unsigned)frame[1] & 3;
    if ((cpl != 0 && (cpl != 3 || transit_clears(cpu))) || !interp_canonical(frame[0]) ||
        !transit_flags_plain(cpu, frame[2], cpl) ||
        !transit_code(e, (uint16_t)frame[1], cpl == 3 ? DESC_CODE3 : DESC_CODE0, &cs) ||
        !transit_iret_ss(e, (uint16_t)frame[4], cpl, &ss)) {
        return false;
    }
    cpu->seg[CPU_CS] = cs;
    cpu->seg[CPU_SS] = ss;
    cpu->gpr[CPU_RSP] = frame[3];
    transit_set_flags(e, (cpu->rflags & ~mask) | (frame[2] & mask & ~(uint64_t)CPU_RF));
    cpu->cpl = (uint8_t)cpl;
    cpu->rip = frame[0];
    cpu->nmi_blocked = false;
    transit_settle(e);
    return true;
}

/* ---- exceptions and interrupts ---- */

struct transit_gate {
    struct cpu_segment cs;
    uint64_t offset, rsp;
    bool clear_if;
};

/* Flags that a handler begins with. */
static uint64_t transit_keeps(const struct transit_gate *g)
{
    return ~(uint64_t)(CPU_TF | CPU_NT | CPU_RF | CPU_VM | (g->clear_if ? CPU_IF : 0));
}

static bool transit_read_gate(struct interp *e, unsigned vector, struct transit_gate *g)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t raw[2], va = cpu->idtr.base + 16 * vector;
    unsigned access;

    if (16 * vector + 15 > cpu->idtr.limit || !transit_table(e, va, &raw[0]) ||
        !transit_table(e, va + 8, &raw[1])) {
        return false;
    }
    access = raw[0] >> 40 & 0x9f;
    if ((access != GATE_INT && access != GATE_TRAP) || (raw[0] >> 32 & 7) != 0) {
        return false; /* not present, another type, or on a stack of its own */
    }
    g->clear_if = access == GATE_INT;
    g->offset = (raw[0] & 0xffff) | (raw[0] >> 32 & 0xffff0000) | raw[1] << 32;
    if (!interp_canonical(g->offset) ||
        !transit_code(e, (uint16_t)(raw[0] >> 16) & ~3u, DESC_CODE0, &g->cs)) {
        return false;
    }
    e->known.gate[vector] =
        (struct interp_gate){{raw[0], raw[1]}, g->offset, transit_keeps(g)};
    return true;
}

/* Where the frame's end is. */
static bool transit_stack(struct interp *e, struct transit_gate *g)
{
    const struct cpu_x86 *cpu = &e->v->cpu;

    g->rsp = cpu->gpr[CPU_RSP];
    if (cpu->cpl != 0 && (cpu->tr.unusable || TSS_RSP0 + 7 > cpu->tr.limit ||
                          !transit_table(e, cpu->tr.base + TSS_RSP0, &g->rsp))) {
        return false;
    }
    g->rsp &= ~15ull;
    return true;
}

/* The frame, of 5 or 6 words; flags as they are saved. */
static bool transit_push(struct interp *e, struct transit_gate *g, uint64_t flags,
                         const struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    unsigned count = fault != NULL && fault->has_error ? 6 : 5;
    const uint64_t frame[6] = {
        fault != NULL ? fault->error : 0, cpu->rip, cpu->seg[CPU_CS].selector, flags,
        cpu->gpr[CPU_RSP], cpu->seg[CPU_SS].selector,
    };
    uint8_t *p;

    g->rsp -= count * 8;
    p = transit_host(e, &e->tlbs[TLB_SUPERVISOR], g->rsp, count * 8,
                     X86_WRITE | X86_IMPLICIT);
    if (p == NULL) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        *(volatile interp_uint64_t *)(void *)(p + 8 * i) = frame[6 - count + i];
    }
    return true;
}

static bool transit_deliver(struct interp *e, unsigned vector, const struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t flags = transit_flags(e), rf = fault != NULL ? CPU_RF : 0;
    struct transit_gate g;

    if (e->mode != MODE_64 || interp_special(e) || (log_mask & LOG_INT) != 0 ||
        (cpu->cpl != 0 && cpu->cpl != 3) || !transit_read_gate(e, vector, &g) ||
        !transit_stack(e, &g) || !transit_push(e, &g, flags | rf, fault)) {
        return false;
    }
    if (cpu->cpl != 0) {
        cpu->seg[CPU_SS] = (struct cpu_segment){.unusable = true};
        cpu->cpl = 0;
    }
    cpu->gpr[CPU_RSP] = g.rsp;
    cpu->rflags = flags & transit_keeps(&g);
    cpu->seg[CPU_CS] = g.cs;
    cpu->rip = g.offset;
    cpu->halted = false;
    cpu->irq_shadow = false;
    transit_settle(e);
    return true;
}

bool interp_fast_vector(uint8_t vector)
{
    switch (vector) {
    case CPU_DE:
    case CPU_UD:
    case CPU_NM:
    case CPU_GP:
    case CPU_PAGE_FAULT:
    case CPU_MF:
    case CPU_XM:
        return true;
    default:
        return false;
    }
}

bool interp_fast_fault(struct interp *e, const struct x86_fault *fault)
{
    uint64_t cr2 = fault->cr2;

    if (e->v->pv != NULL || !interp_fast_vector(fault->vector) ||
        !transit_deliver(e, fault->vector, fault)) {
        return false;
    }
    if (fault->vector == CPU_PAGE_FAULT) {
        e->v->cpu.cr2 = cr2;
    }
    return true;
}

bool interp_fast_interrupt(struct interp *e, uint8_t vector)
{
    return vector >= 32 && transit_deliver(e, vector, NULL);
}

/* ---- flags ---- */

static bool transit_may_touch_if(const struct cpu_x86 *cpu)
{
    return cpu->cpl <= (cpu->rflags >> 12 & 3);
}

static bool transit_cli(struct interp *e)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    if (!transit_may_touch_if(cpu)) {
        return false;
    }
    cpu->rflags &= ~(uint64_t)CPU_IF;
    e->request_mask &= ~(uint32_t)VCPU_REQ_IRQ;
    return true;
}

/* The shadow is remembered as the address it covers (engine.h). */
static bool transit_sti(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    if (!transit_may_touch_if(cpu)) {
        return false;
    }
    if ((cpu->rflags & CPU_IF) == 0) {
        cpu->rflags |= CPU_IF;
        e->request_mask |= VCPU_REQ_IRQ;
        e->sti_rip = cpu->rip + in->len;
    }
    return true;
}

static bool transit_pushf(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t rsp = cpu->gpr[CPU_RSP] - 8;
    uint8_t *p;

    if (in->opsize != 8) {
        return false;
    }
    p = transit_host(e, e->tlb, rsp, 8, X86_WRITE);
    if (p == NULL) {
        return false;
    }
    *(volatile interp_uint64_t *)(void *)p =
        transit_flags(e) & ~(uint64_t)(CPU_RF | CPU_VM);
    cpu->gpr[CPU_RSP] = rsp;
    return true;
}

static bool transit_popf(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t mask = CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT | CPU_AC | CPU_ID, val;
    const uint8_t *p;

    if (in->opsize != 8) {
        return false;
    }
    p = transit_host(e, e->tlb, cpu->gpr[CPU_RSP], 8, X86_READ);
    if (p == NULL) {
        return false;
    }
    val = *(const volatile interp_uint64_t *)(const void *)p;
    if (!transit_flags_plain(cpu, val, cpu->cpl)) {
        return false;
    }
    if (transit_may_touch_if(cpu)) {
        mask |= CPU_IF;
    }
    if (cpu->cpl == 0) {
        mask |= CPU_IOPL;
    }
    transit_set_flags(e, (cpu->rflags & ~(mask | CPU_RF)) | (val & mask));
    cpu->gpr[CPU_RSP] += 8;
    transit_settle(e);
    return true;
}

static bool transit_ac(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    if (cpu->cpl != 0) {
        return false;
    }
    cpu->rflags = (cpu->rflags & ~(uint64_t)CPU_AC) | (in->id == INSN_STAC ? CPU_AC : 0);
    transit_settle(e);
    return true;
}

/* ---- registers ---- */

static void transit_edx_eax(struct cpu_x86 *cpu, uint64_t val)
{
    cpu->gpr[CPU_RAX] = (uint32_t)val;
    cpu->gpr[CPU_RDX] = val >> 32;
}

static bool transit_rdtsc(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint32_t low, high;

    if ((cpu->cr4 & CPU_CR4_TSD) != 0 && cpu->cpl != 0) {
        return false;
    }
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    transit_edx_eax(cpu, ((uint64_t)high << 32 | low) + (uint64_t)cpu->tsc_offset);
    if (in->id == INSN_RDTSCP) {
        cpu->gpr[CPU_RCX] = (uint32_t)cpu->tsc_aux;
    }
    return true;
}

static uint64_t *transit_base_msr(struct cpu_x86 *cpu)
{
    switch ((uint32_t)cpu->gpr[CPU_RCX]) {
    case MSR_FS_BASE:
        return &cpu->seg[CPU_FS].base;
    case MSR_GS_BASE:
        return &cpu->seg[CPU_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    default:
        return NULL;
    }
}

static bool transit_msr(struct interp *e, bool write)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    uint64_t *home = transit_base_msr(cpu);
    uint64_t val = cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];

    if (cpu->cpl != 0 || home == NULL || (write && !interp_canonical(val))) {
        return false;
    }
    if (write) {
        *home = val;
    } else {
        transit_edx_eax(cpu, *home);
    }
    return true;
}

static unsigned transit_rm(const struct insn *in)
{
    return (in->modrm & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
}

static bool transit_fsgsbase(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;
    bool fs = in->id == INSN_WRFSBASE || in->id == INSN_RDFSBASE;
    uint64_t *base = &cpu->seg[fs ? CPU_FS : CPU_GS].base;
    uint64_t val = interp_gpr(e, transit_rm(in), in->opsize);

    if ((cpu->cr4 & CPU_CR4_FSGSBASE) == 0) {
        return false;
    }
    if (in->id == INSN_RDFSBASE || in->id == INSN_RDGSBASE) {
        interp_set_gpr(e, transit_rm(in), in->opsize, *base);
    } else if (interp_canonical(val)) {
        *base = val;
    } else {
        return false;
    }
    return true;
}

static bool transit_from_cr(struct interp *e, const struct insn *in)
{
    const struct cpu_x86 *cpu = &e->v->cpu;
    unsigned cr = (in->modrm >> 3 & 7u) | ((in->rex & INSN_REX_R) != 0 ? 8u : 0u);

    if (cpu->cpl != 0 || (cr != 0 && cr != 2 && cr != 3 && cr != 4)) {
        return false;
    }
    e->v->cpu.gpr[transit_rm(in)] = cr == 0   ? cpu->cr0
                                    : cr == 2 ? cpu->cr2
                                    : cr == 3 ? cpu->cr3
                                              : cpu->cr4;
    return true;
}

/* ---- all of them ---- */

/* false: not done. *jumped: rip has been set. */
static bool transit_insn(struct interp *e, const struct insn *in, bool *jumped)
{
    switch (in->id) {
    case INSN_SYSCALL:
        return *jumped = transit_syscall(e, in);
    case INSN_SYSRET:
        return *jumped = transit_sysret(e, in);
    case INSN_IRET:
        return *jumped = transit_iret(e, in);
    case INSN_SWAPGS:
        if (e->v->cpu.cpl != 0) {
            return false;
        }
        transit_swapgs(&e->v->cpu);
        return true;
    case INSN_CLI:
        return transit_cli(e);
    case INSN_STI:
        return transit_sti(e, in);
    case INSN_PUSHF:
        return transit_pushf(e, in);
    case INSN_POPF:
        return transit_popf(e, in);
    case INSN_CLAC:
    case INSN_STAC:
        return transit_ac(e, in);
    case INSN_RDTSC:
    case INSN_RDTSCP:
        return transit_rdtsc(e, in);
    case INSN_RDMSR:
    case INSN_WRMSR:
        return transit_msr(e, in->id == INSN_WRMSR);
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE:
        return transit_fsgsbase(e, in);
    case INSN_MOV_FROM_CR:
        return transit_from_cr(e, in);
    default:
        return false;
    }
}

/* What a hypervisor has no say in. */
static bool transit_pv_native(const struct insn *in)
{
    return in->id == INSN_PUSHF || in->id == INSN_POPF || in->id == INSN_RDTSC ||
           in->id == INSN_RDTSCP || (in->id >= INSN_RDFSBASE && in->id <= INSN_WRGSBASE);
}

bool interp_fast_system(struct interp *e, const struct insn *in)
{
    bool jumped = false;

    if (unlikely(!transit_plain(e)) || (e->v->pv != NULL && !transit_pv_native(in)) ||
        (in->feature != INSN_FEAT_BASE && !cpu_model_has(e->v->model, in->feature)) ||
        !transit_insn(e, in, &jumped)) {
        return false;
    }
    if (!jumped) {
        e->v->cpu.rip += in->len;
    }
    return true;
}
