/* SPDX-License-Identifier: MIT */
/*
 * INT n, INT3, INTO, INT1 and IRET in every mode (Intel SDM vol. 2, IRET; vol. 3 6.12 and
 * 20.2). Left out: IRET with NT set, a hardware task return: #GP(0), also outside long mode.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

bool x86_sys_int(struct x86_system *s)
{
    struct x86_fault event = {.vector = CPU_BP};
    enum x86_event_kind kind = X86_EVENT_SOFTWARE;

    switch (s->in->id) {
    case INSN_INT:
        if (x86_is_v86(s->cpu) && x86_iopl(s->cpu) < 3) {
            return x86_fault_gp(s->fault, 0);
        }
        event.vector = (uint8_t)s->in->imm;
        break;
    case INSN_INTO:
        if ((s->cpu->rflags & CPU_OF) == 0) {
            return true;
        }
        event.vector = CPU_OVERFLOW;
        break;
    case INSN_INT1:
        event.vector = CPU_DB;
        kind = X86_EVENT_ICEBP;
        break;
    default:
        break;
    }
    s->jumped = true;
    return x86_deliver(s->v, kind, &event, s->next_rip, s->fault);
}

/* ---- IRET ---- */

struct iret_frame {
    uint64_t rip, cs, flags, rsp, ss;
};

static void iret_set_flags(struct cpu_x86 *cpu, uint64_t value, unsigned opsize, unsigned cpl)
{
    uint64_t mask = CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT;

    if (opsize > 2) {
        mask |= CPU_RF | CPU_AC | CPU_ID;
    }
    if (cpl <= x86_iopl(cpu)) {
        mask |= CPU_IF;
    }
    if (cpl == 0) {
        mask |= CPU_IOPL;
    }
    cpu->rflags = (cpu->rflags & ~mask) | (value & mask) | 2;
}

static bool iret_pop3(struct x86_system *s, struct x86_stack *st, struct iret_frame *f)
{
    unsigned size = s->in->opsize;

    return x86_stack_pop(s->v, st, size, &f->rip, s->fault) &&
           x86_stack_pop(s->v, st, size, &f->cs, s->fault) &&
           x86_stack_pop(s->v, st, size, &f->flags, s->fault);
}

static bool iret_real(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);
    struct cpu_segment cs = cpu->seg[CPU_CS];
    struct iret_frame f;

    if (x86_is_v86(cpu) && x86_iopl(cpu) < 3) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!iret_pop3(s, &st, &f)) {
        return false;
    }
    if (f.rip > cs.limit) {
        return x86_fault_gp(s->fault, 0);
    }
    iret_set_flags(cpu, f.flags, s->in->opsize, cpu->cpl);
    x86_stack_commit(cpu, &st);
    cpu->seg[CPU_CS].selector = (uint16_t)f.cs;
    cpu->seg[CPU_CS].base = (f.cs & 0xffff) << 4;
    cpu->rip = f.rip;
    return true;
}

static bool iret_to_v86(struct x86_system *s, struct x86_stack *st, const struct iret_frame *f)
{
    static const uint8_t order[] = {CPU_SS, CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    struct cpu_x86 *cpu = s->cpu;
    uint64_t values[6];

    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) { /* ESP SS ES DS FS GS */
        if (!x86_stack_pop(s->v, st, 4, &values[i], s->fault)) {
            return false;
        }
    }
    if ((f->rip & 0xffffffff) > 0xffff) {
        return x86_fault_gp(s->fault, 0);
    }
    iret_set_flags(cpu, f->flags, 4, 0);
    cpu->rflags |= CPU_VM;
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        x86_segment_set_v86(&cpu->seg[order[i]], (uint16_t)values[i + 1]);
    }
    x86_segment_set_v86(&cpu->seg[CPU_CS], (uint16_t)f->cs);
    cpu->gpr[CPU_RSP] = values[0];
    cpu->rip = f->rip & 0xffff;
    cpu->cpl = 3;
    return true;
}

/* The stack segment of an outer (or 64-bit) return. */
static bool iret_check_ss(struct x86_system *s, const struct iret_frame *f,
                          const struct x86_desc *cs, struct cpu_segment *ss)
{
    uint16_t selector = (uint16_t)f->ss;
    unsigned rpl = (unsigned)f->cs & 3;
    struct x86_desc desc;

    if (x86_selector_is_null(selector)) {
        if (!cpu_is_long_mode(s->cpu) || (cs->seg.attr & CPU_SEG_L) == 0 || rpl == 3 ||
            (selector & 3u) != rpl) {
            return x86_fault_gp(s->fault, 0);
        }
        x86_segment_set_null(ss, selector);
        ss->attr = (uint16_t)(rpl << CPU_SEG_DPL_SHIFT);
        return true;
    }
    if (!x86_stack_segment(s->v, selector, rpl, CPU_GP, 0, &desc, s->fault)) {
        return false;
    }
    *ss = desc.seg;
    return true;
}

static void iret_load_outer_stack(struct cpu_x86 *cpu, const struct cpu_segment *cs,
                                  const struct cpu_segment *ss, uint64_t rsp, uint64_t old_sp)
{
    bool to64 = cpu_is_long_mode(cpu) && (cs->attr & CPU_SEG_L) != 0;

    cpu->seg[CPU_SS] = *ss;
    if (!to64 && (ss->attr & CPU_SEG_DB) == 0) {
        rsp = (old_sp & 0xffff0000) | (rsp & 0xffff); /* upper half is not loaded */
    }
    cpu->gpr[CPU_RSP] = rsp;
}

static bool iret_protected(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);
    unsigned size = s->in->opsize;
    unsigned old_cpl = cpu->cpl;
    struct cpu_segment ss;
    struct iret_frame f;
    struct x86_desc cs;
    unsigned cpl;
    bool with_stack;

    if ((cpu->rflags & CPU_NT) != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!iret_pop3(s, &st, &f)) {
        return false;
    }
    if (!cpu_is_long_mode(cpu) && size == 4 && (f.flags & CPU_VM) != 0 && old_cpl == 0) {
        return iret_to_v86(s, &st, &f);
    }
    cpl = (unsigned)f.cs & 3;
    with_stack = cpu_is_code64(cpu) || cpl != old_cpl;
    if (with_stack && (!x86_stack_pop(s->v, &st, size, &f.rsp, s->fault) ||
                       !x86_stack_pop(s->v, &st, size, &f.ss, s->fault))) {
        return false;
    }
    if (!x86_code_segment_return(s->v, (uint16_t)f.cs, &cs, s->fault) ||
        !x86_check_target(cpu, &cs.seg, f.rip, s->fault) ||
        (with_stack && !iret_check_ss(s, &f, &cs, &ss))) {
        return false;
    }
    if (with_stack) {
        iret_load_outer_stack(cpu, &cs.seg, &ss, f.rsp, st.sp);
    } else {
        x86_stack_commit(cpu, &st);
    }
    iret_set_flags(cpu, f.flags, size, old_cpl);
    x86_set_cs(cpu, &cs.seg, (uint16_t)f.cs, cpl, f.rip);
    if (cpl != old_cpl) {
        x86_segments_outer(cpu, cpl);
    }
    return true;
}

bool x86_sys_iret(struct x86_system *s)
{
    bool ok = x86_is_real_style(s->cpu) ? iret_real(s) : iret_protected(s);

    if (ok) {
        s->cpu->nmi_blocked = false;
        s->jumped = true;
    }
    return ok;
}
