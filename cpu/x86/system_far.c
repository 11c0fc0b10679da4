/* SPDX-License-Identifier: MIT */
/*
 * Far CALL, JMP and RET: real mode, code segments, 16/32/64-bit call gates (Intel SDM vol. 2
 * and vol. 3 5.8). Left out: TSS and task gate targets (hardware task switches): #GP(selector).
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

struct far_target {
    uint16_t selector;
    uint64_t offset;
};

bool x86_check_target(const struct cpu_x86 *cpu, const struct cpu_segment *cs, uint64_t rip,
                      struct x86_fault *fault)
{
    bool to64 = cpu_is_long_mode(cpu) && (cs->attr & CPU_SEG_L) != 0;

    if (to64 ? !x86_is_canonical(rip) : rip > cs->limit) {
        return x86_fault_gp(fault, 0);
    }
    return true;
}

void x86_set_cs(struct cpu_x86 *cpu, const struct cpu_segment *cs, uint16_t selector,
                unsigned cpl, uint64_t rip)
{
    cpu->seg[CPU_CS] = *cs;
    cpu->seg[CPU_CS].selector = selector;
    cpu->cpl = (uint8_t)cpl;
    cpu->rip = rip;
}

/* What every code segment must be, whatever the privilege rule. */
static bool far_check_code(struct vcpu *v, uint16_t selector, const struct x86_desc *desc,
                           struct x86_fault *fault)
{
    const uint16_t both = CPU_SEG_L | CPU_SEG_DB;

    if (!x86_desc_is_code(&desc->seg) ||
        (cpu_is_long_mode(&v->cpu) && (desc->seg.attr & both) == both)) {
        return x86_fault_gp(fault, selector & ~3u);
    }
    return true;
}

static bool far_check_present(uint16_t selector, const struct x86_desc *desc,
                              struct x86_fault *fault)
{
    if ((desc->seg.attr & CPU_SEG_P) == 0) {
        return x86_fault_code(fault, CPU_NP, selector & ~3u);
    }
    return true;
}

bool x86_code_segment_return(struct vcpu *v, uint16_t selector, struct x86_desc *desc,
                             struct x86_fault *fault)
{
    unsigned rpl = selector & 3u;
    unsigned dpl;

    if (x86_selector_is_null(selector)) {
        return x86_fault_gp(fault, 0);
    }
    if (!x86_desc_read(v, selector, CPU_GP, 0, desc, fault) ||
        !far_check_code(v, selector, desc, fault)) {
        return false;
    }
    dpl = x86_desc_dpl(&desc->seg);
    if (rpl < v->cpu.cpl || (x86_desc_is_conforming(&desc->seg) ? dpl > rpl : dpl != rpl)) {
        return x86_fault_gp(fault, selector & ~3u);
    }
    return far_check_present(selector, desc, fault) && x86_desc_set_accessed(v, desc, fault);
}

static bool far_read_target(struct x86_system *s, struct far_target *t)
{
    unsigned size = s->in->opsize;
    const struct insn_operand *op = x86_insn_operand(s->in, OPK_FAR);
    uint8_t buf[10] = {0};

    t->offset = 0;
    if (op != NULL) {
        t->offset = s->in->imm;
        t->selector = (uint16_t)s->in->imm2;
    } else if (s->in->modrm >= 0xc0) {
        return x86_fault_ud(s->fault);
    } else {
        if (!x86_insn_read_mem(s->v, s->in, 0, buf, size + 2, s->fault)) {
            return false;
        }
        memcpy(&t->offset, buf, size);
        memcpy(&t->selector, buf + size, 2);
    }
    if (size < 8) {
        t->offset &= (1ull << (size * 8)) - 1;
    }
    return true;
}

static bool far_push_return(struct x86_system *s, struct x86_stack *st, unsigned size)
{
    return x86_stack_push(s->v, st, size, s->cpu->seg[CPU_CS].selector, s->fault) &&
           x86_stack_push(s->v, st, size, s->next_rip, s->fault);
}

static bool far_real(struct x86_system *s, const struct far_target *t)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);

    if (t->offset > cpu->seg[CPU_CS].limit) {
        return x86_fault_gp(s->fault, 0);
    }
    if (s->in->id == INSN_CALL_FAR) {
        if (!far_push_return(s, &st, s->in->opsize)) {
            return false;
        }
        x86_stack_commit(cpu, &st);
    }
    cpu->seg[CPU_CS].selector = t->selector;
    cpu->seg[CPU_CS].base = (uint64_t)t->selector << 4;
    cpu->rip = t->offset;
    return true;
}

static bool far_direct(struct x86_system *s, const struct far_target *t, struct x86_desc *cs)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);
    unsigned dpl = x86_desc_dpl(&cs->seg);

    if (!far_check_code(s->v, t->selector, cs, s->fault)) {
        return false;
    }
    if (x86_desc_is_conforming(&cs->seg) ? dpl > cpu->cpl
                                         : (t->selector & 3u) > cpu->cpl || dpl != cpu->cpl) {
        return x86_fault_gp(s->fault, t->selector & ~3u);
    }
    if (!far_check_present(t->selector, cs, s->fault) ||
        !x86_check_target(cpu, &cs->seg, t->offset, s->fault) ||
        !x86_desc_set_accessed(s->v, cs, s->fault)) {
        return false;
    }
    if (s->in->id == INSN_CALL_FAR) {
        if (!far_push_return(s, &st, s->in->opsize)) {
            return false;
        }
        x86_stack_commit(cpu, &st);
    }
    x86_set_cs(cpu, &cs->seg, (uint16_t)((t->selector & ~3u) | cpu->cpl), cpu->cpl, t->offset);
    return true;
}

/* ---- call gates ---- */

struct call_gate {
    uint16_t selector;
    uint64_t offset;
    unsigned params;
    unsigned size; /* of a pushed item: 2, 4 or 8 */
};

static bool far_read_gate(struct x86_system *s, const struct far_target *t,
                          const struct x86_desc *desc, struct call_gate *gate)
{
    bool long_mode = cpu_is_long_mode(s->cpu);
    unsigned dpl = x86_desc_dpl(&desc->seg);
    unsigned type = x86_desc_type(&desc->seg);
    uint64_t high = 0;

    if ((type != DESC_SYS_CALL && (type != DESC_SYS_CALL16 || long_mode)) ||
        dpl < s->cpu->cpl || dpl < (t->selector & 3u)) {
        return x86_fault_gp(s->fault, t->selector & ~3u);
    }
    if (long_mode) {
        if (!x86_desc_read_high(s->v, t->selector, desc, &high, s->fault)) {
            return false;
        }
        if (((high >> 40) & 0x1f) != 0) {
            return x86_fault_gp(s->fault, t->selector & ~3u);
        }
    }
    if (!far_check_present(t->selector, desc, s->fault)) {
        return false;
    }
    gate->selector = (uint16_t)(desc->raw >> 16);
    gate->offset = (desc->raw & 0xffff) | high << 32;
    if (type == DESC_SYS_CALL) {
        gate->offset |= (desc->raw >> 32) & 0xffff0000;
    }
    gate->params = long_mode ? 0 : (desc->raw >> 32) & 31;
    gate->size = long_mode ? 8 : type == DESC_SYS_CALL ? 4 : 2;
    return true;
}

static bool far_gate_code(struct x86_system *s, const struct call_gate *gate,
                          struct x86_desc *cs)
{
    const struct cpu_x86 *cpu = s->cpu;
    unsigned dpl;

    if (x86_selector_is_null(gate->selector)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_desc_read(s->v, gate->selector, CPU_GP, 0, cs, s->fault)) {
        return false;
    }
    dpl = x86_desc_dpl(&cs->seg);
    if (!x86_desc_is_code(&cs->seg) || dpl > cpu->cpl ||
        (cpu_is_long_mode(cpu) &&
         (cs->seg.attr & (CPU_SEG_L | CPU_SEG_DB)) != CPU_SEG_L) ||
        (s->in->id == INSN_JMP_FAR && !x86_desc_is_conforming(&cs->seg) && dpl != cpu->cpl)) {
        return x86_fault_gp(s->fault, gate->selector & ~3u);
    }
    return far_check_present(gate->selector, cs, s->fault) &&
           x86_check_target(cpu, &cs->seg, gate->offset, s->fault) &&
           x86_desc_set_accessed(s->v, cs, s->fault);
}

/* A call to an inner level: new stack from the TSS, old stack pointer and parameters copied. */
static bool far_gate_inner(struct x86_system *s, const struct call_gate *gate,
                           const struct x86_desc *cs)
{
    struct vcpu *v = s->v;
    struct cpu_x86 *cpu = s->cpu;
    unsigned cpl = x86_desc_dpl(&cs->seg);
    struct x86_stack old = x86_stack_current(v);
    struct x86_stack st = old;
    uint64_t params[31];
    struct x86_desc ss;
    uint16_t selector;

    if (!x86_tss_stack(v, cpl, 0, &selector, &st.sp, s->fault)) {
        return false;
    }
    if (cpu_is_long_mode(cpu)) {
        x86_segment_set_null(&ss.seg, (uint16_t)cpl);
        ss.seg.attr = (uint16_t)(cpl << CPU_SEG_DPL_SHIFT);
        st.flat = true;
        st.mask = UINT64_MAX;
    } else {
        if (!x86_stack_segment(v, selector, cpl, CPU_TS, 0, &ss, s->fault)) {
            return false;
        }
        st.mask = (ss.seg.attr & CPU_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;
    }
    st.ss = &ss.seg;
    st.access = cpl == 3 ? X86_USER : 0;
    for (unsigned i = 0; i < gate->params; i++) {
        if (!x86_stack_pop(v, &old, gate->size, &params[i], s->fault)) {
            return false;
        }
    }
    if (!x86_stack_push(v, &st, gate->size, cpu->seg[CPU_SS].selector, s->fault) ||
        !x86_stack_push(v, &st, gate->size, cpu->gpr[CPU_RSP], s->fault)) {
        return false;
    }
    for (unsigned i = gate->params; i > 0; i--) {
        if (!x86_stack_push(v, &st, gate->size, params[i - 1], s->fault)) {
            return false;
        }
    }
    if (!far_push_return(s, &st, gate->size)) {
        return false;
    }
    cpu->seg[CPU_SS] = ss.seg;
    x86_stack_commit(cpu, &st);
    x86_set_cs(cpu, &cs->seg, (uint16_t)((gate->selector & ~3u) | cpl), cpl, gate->offset);
    return true;
}

static bool far_gate(struct x86_system *s, const struct far_target *t,
                     const struct x86_desc *desc)
{
    struct cpu_x86 *cpu = s->cpu;
    struct call_gate gate;
    struct x86_desc cs;

    if (!far_read_gate(s, t, desc, &gate) || !far_gate_code(s, &gate, &cs)) {
        return false;
    }
    if (s->in->id == INSN_CALL_FAR) {
        struct x86_stack st = x86_stack_current(s->v);

        if (!x86_desc_is_conforming(&cs.seg) && x86_desc_dpl(&cs.seg) < cpu->cpl) {
            return far_gate_inner(s, &gate, &cs);
        }
        if (cpu_is_long_mode(cpu)) { /* a 64-bit frame, also from compatibility mode */
            st.flat = true;
            st.mask = UINT64_MAX;
        }
        if (!far_push_return(s, &st, gate.size)) {
            return false;
        }
        x86_stack_commit(cpu, &st);
    }
    x86_set_cs(cpu, &cs.seg, (uint16_t)((gate.selector & ~3u) | cpu->cpl), cpu->cpl,
               gate.offset);
    return true;
}

bool x86_sys_call_jmp_far(struct x86_system *s)
{
    struct far_target t;
    struct x86_desc desc;

    if (!far_read_target(s, &t)) {
        return false;
    }
    s->jumped = true;
    if (x86_is_real_style(s->cpu)) {
        return far_real(s, &t);
    }
    if (x86_selector_is_null(t.selector)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_desc_read(s->v, t.selector, CPU_GP, 0, &desc, s->fault)) {
        return false;
    }
    return (desc.seg.attr & CPU_SEG_S) != 0 ? far_direct(s, &t, &desc) : far_gate(s, &t, &desc);
}

/* ---- RET far ---- */

static bool ret_far_real(struct x86_system *s, struct x86_stack *st, uint64_t rip, uint64_t cs)
{
    struct cpu_x86 *cpu = s->cpu;

    if (rip > cpu->seg[CPU_CS].limit) {
        return x86_fault_gp(s->fault, 0);
    }
    st->sp += s->in->imm;
    x86_stack_commit(cpu, st);
    cpu->seg[CPU_CS].selector = (uint16_t)cs;
    cpu->seg[CPU_CS].base = (cs & 0xffff) << 4;
    cpu->rip = rip;
    return true;
}

/* Pops and checks the outer stack; *ss and *rsp are what to load. */
static bool ret_far_outer_stack(struct x86_system *s, struct x86_stack *st,
                                const struct x86_desc *cs, unsigned cpl, struct cpu_segment *ss,
                                uint64_t *rsp)
{
    unsigned size = s->in->opsize;
    struct x86_desc desc;
    uint64_t selector;

    st->sp = (st->sp + s->in->imm) & st->mask;
    if (!x86_stack_pop(s->v, st, size, rsp, s->fault) ||
        !x86_stack_pop(s->v, st, size, &selector, s->fault)) {
        return false;
    }
    selector &= 0xffff;
    if (x86_selector_is_null((uint16_t)selector)) {
        if (!cpu_is_long_mode(s->cpu) || (cs->seg.attr & CPU_SEG_L) == 0 || cpl == 3 ||
            (selector & 3) != cpl) {
            return x86_fault_gp(s->fault, 0);
        }
        x86_segment_set_null(ss, (uint16_t)selector);
        ss->attr = (uint16_t)(cpl << CPU_SEG_DPL_SHIFT);
        return true;
    }
    if (!x86_stack_segment(s->v, (uint16_t)selector, cpl, CPU_GP, 0, &desc, s->fault)) {
        return false;
    }
    *ss = desc.seg;
    return true;
}

bool x86_sys_ret_far(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    struct x86_stack st = x86_stack_current(s->v);
    unsigned size = s->in->opsize;
    uint64_t rip, selector, rsp;
    struct cpu_segment ss;
    struct x86_desc cs;
    unsigned cpl;

    s->jumped = true;
    if (!x86_stack_pop(s->v, &st, size, &rip, s->fault) ||
        !x86_stack_pop(s->v, &st, size, &selector, s->fault)) {
        return false;
    }
    if (x86_is_real_style(cpu)) {
        return ret_far_real(s, &st, rip, selector);
    }
    cpl = (unsigned)selector & 3;
    if (!x86_code_segment_return(s->v, (uint16_t)selector, &cs, s->fault) ||
        !x86_check_target(cpu, &cs.seg, rip, s->fault)) {
        return false;
    }
    if (cpl == cpu->cpl) {
        st.sp += s->in->imm;
        x86_stack_commit(cpu, &st);
        x86_set_cs(cpu, &cs.seg, (uint16_t)selector, cpl, rip);
        return true;
    }
    if (!ret_far_outer_stack(s, &st, &cs, cpl, &ss, &rsp)) {
        return false;
    }
    cpu->seg[CPU_SS] = ss;
    x86_set_cs(cpu, &cs.seg, (uint16_t)selector, cpl, rip);
    st = x86_stack_current(s->v);
    st.sp = rsp + s->in->imm;
    x86_stack_commit(cpu, &st);
    x86_segments_outer(cpu, cpl);
    return true;
}
