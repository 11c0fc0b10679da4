/* SPDX-License-Identifier: MIT */
/*
 * Delivery of exceptions, interrupts and software interrupts in real, protected and long mode
 * (Intel SDM vol. 3 chapter 6, AMD APM vol. 2 chapter 8).
 *
 * A delivery that meets a fault of its own changes nothing (beyond accessed bits), so the
 * nested fault is delivered with the original frame. Rules of table 6-5 make it #DF or a triple
 * fault. Left out: task gates (hardware task switches do not exist here: #GP with the gate's
 * IDT error code, which turns a #DF through a task gate into a triple fault), VME interrupt
 * redirection (the profile hides VME).
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "base/log.h"
#include "cpu/x86/internal.h"

enum { ERR_EXT = 1, ERR_IDT = 2 };
#define DR6_BD (1ull << 13)
#define DR7_GD (1ull << 13)

struct gate {
    unsigned type;
    unsigned ist;
    uint16_t selector;
    uint64_t offset;
};

struct delivery {
    struct vcpu *v;
    enum x86_event_kind kind;
    const struct x86_fault *event;
    uint64_t return_rip;
    unsigned ext;
    struct gate gate;
    struct x86_desc cs;
    unsigned cpl; /* of the handler */
    struct x86_fault *fault;
};

/* ---- reading the gate ---- */

static bool except_gate_checks(struct delivery *d, uint8_t access)
{
    uint32_t error = (uint32_t)d->event->vector * 8 | ERR_IDT | d->ext;
    bool long_mode = cpu_is_long_mode(&d->v->cpu);
    unsigned type = access & 0x1f;

    if (type != DESC_SYS_INT && type != DESC_SYS_TRAP &&
        (long_mode || (type != DESC_SYS_INT16 && type != DESC_SYS_TRAP16))) {
        return x86_fault_gp(d->fault, error);
    }
    if (d->kind == X86_EVENT_SOFTWARE && ((access >> 5) & 3u) < d->v->cpu.cpl) {
        return x86_fault_gp(d->fault, error);
    }
    if ((access & 0x80) == 0) {
        return x86_fault_code(d->fault, CPU_NP, error);
    }
    d->gate.type = type;
    return true;
}

static bool except_read_gate(struct delivery *d)
{
    const struct cpu_x86 *cpu = &d->v->cpu;
    bool long_mode = cpu_is_long_mode(cpu);
    unsigned size = long_mode ? 16 : 8;
    uint32_t offset = (uint32_t)d->event->vector * size;
    uint64_t raw[2] = {0, 0};
    uint64_t gva = cpu->idtr.base + offset;

    if (offset + size - 1 > cpu->idtr.limit) {
        return x86_fault_gp(d->fault, (uint32_t)d->event->vector * 8 | ERR_IDT | d->ext);
    }
    if (!long_mode) {
        gva = (uint32_t)gva;
    }
    if (!x86_read_linear(d->v, gva, raw, size, X86_READ | X86_IMPLICIT, d->fault) ||
        !except_gate_checks(d, (uint8_t)(raw[0] >> 40))) {
        return false;
    }
    d->gate.selector = (uint16_t)(raw[0] >> 16);
    d->gate.offset = (raw[0] & 0xffff);
    if (d->gate.type >= DESC_SYS_INT) {
        d->gate.offset |= (raw[0] >> 32) & 0xffff0000;
    }
    if (long_mode) {
        d->gate.offset |= raw[1] << 32;
        d->gate.ist = (raw[0] >> 32) & 7;
    }
    return true;
}

static bool except_read_code(struct delivery *d)
{
    const struct cpu_x86 *cpu = &d->v->cpu;
    uint32_t error = (d->gate.selector & ~3u) | d->ext;
    const struct cpu_segment *cs = &d->cs.seg;
    unsigned dpl;

    if (x86_selector_is_null(d->gate.selector)) {
        return x86_fault_gp(d->fault, d->ext);
    }
    if (!x86_desc_read(d->v, d->gate.selector, CPU_GP, d->ext, &d->cs, d->fault)) {
        return false;
    }
    dpl = x86_desc_dpl(cs);
    if (!x86_desc_is_code(cs) || dpl > cpu->cpl) {
        return x86_fault_gp(d->fault, error);
    }
    if (cpu_is_long_mode(cpu) && (cs->attr & (CPU_SEG_L | CPU_SEG_DB)) != CPU_SEG_L) {
        return x86_fault_gp(d->fault, error);
    }
    if ((cs->attr & CPU_SEG_P) == 0) {
        return x86_fault_code(d->fault, CPU_NP, error);
    }
    d->cpl = x86_desc_is_conforming(cs) ? cpu->cpl : dpl;
    if (x86_is_v86(cpu) && d->cpl != 0) {
        return x86_fault_gp(d->fault, error);
    }
    return x86_desc_set_accessed(d->v, &d->cs, d->fault);
}

/* ---- stacks from the TSS ---- */

static bool except_tss_read(struct vcpu *v, uint32_t offset, void *buf, unsigned size,
                            unsigned ext, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint64_t gva = cpu->tr.base + offset;

    if (cpu->tr.unusable || offset + size - 1 > cpu->tr.limit) {
        return x86_fault_code(fault, CPU_TS, (cpu->tr.selector & ~3u) | ext);
    }
    if (!cpu_is_long_mode(cpu)) {
        gva = (uint32_t)gva;
    }
    return x86_read_linear(v, gva, buf, size, X86_READ | X86_IMPLICIT, fault);
}

bool x86_tss_stack(struct vcpu *v, unsigned cpl, unsigned ext, uint16_t *ss, uint64_t *sp,
                   struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    unsigned type = x86_desc_type(&cpu->tr) | 2;

    *sp = 0;
    *ss = 0;
    if (cpu_is_long_mode(cpu)) {
        *ss = (uint16_t)cpl;
        return except_tss_read(v, 4 + cpl * 8, sp, 8, ext, fault);
    }
    if (type == DESC_SYS_TSS16_BUSY) {
        return except_tss_read(v, 2 + cpl * 4, sp, 2, ext, fault) &&
               except_tss_read(v, 4 + cpl * 4, ss, 2, ext, fault);
    }
    return except_tss_read(v, 4 + cpl * 8, sp, 4, ext, fault) &&
           except_tss_read(v, 8 + cpl * 8, ss, 2, ext, fault);
}

/* ---- flags ---- */

static uint64_t except_saved_flags(const struct delivery *d)
{
    uint64_t flags = d->v->cpu.rflags;
    uint8_t vector = d->event->vector;

    if (d->kind == X86_EVENT_EXCEPTION && vector != CPU_BP && vector != CPU_OVERFLOW &&
        vector != CPU_DOUBLE_FAULT && vector != CPU_MC &&
        (vector != CPU_DB || (d->event->dr6 & DR6_BD) != 0)) {
        flags |= CPU_RF; /* a fault: the instruction will run again */
    }
    return flags;
}

static void except_new_flags(struct delivery *d)
{
    uint64_t clear = CPU_TF | CPU_NT | CPU_RF | CPU_VM;

    if (d->gate.type == DESC_SYS_INT || d->gate.type == DESC_SYS_INT16) {
        clear |= CPU_IF;
    }
    d->v->cpu.rflags &= ~clear;
}

static void except_enter(struct delivery *d)
{
    struct cpu_x86 *cpu = &d->v->cpu;

    except_new_flags(d);
    x86_set_cs(cpu, &d->cs.seg, (uint16_t)((d->gate.selector & ~3u) | d->cpl), d->cpl,
               d->gate.offset);
}

/* ---- long mode ---- */

static bool except_long_stack(struct delivery *d, uint64_t *rsp)
{
    const struct cpu_x86 *cpu = &d->v->cpu;
    uint16_t unused;

    if (d->gate.ist != 0) {
        if (!except_tss_read(d->v, 0x24 + (d->gate.ist - 1) * 8, rsp, 8, d->ext, d->fault)) {
            return false;
        }
    } else if (d->cpl != cpu->cpl) {
        if (!x86_tss_stack(d->v, d->cpl, d->ext, &unused, rsp, d->fault)) {
            return false;
        }
    } else {
        *rsp = cpu->gpr[CPU_RSP];
    }
    *rsp &= ~15ull;
    return true;
}

static bool except_deliver_long(struct delivery *d)
{
    struct cpu_x86 *cpu = &d->v->cpu;
    unsigned count = d->event->has_error ? 6 : 5;
    uint64_t frame[6] = {
        d->event->error, d->return_rip, cpu->seg[CPU_CS].selector, except_saved_flags(d),
        cpu->gpr[CPU_RSP], cpu->seg[CPU_SS].selector,
    };
    uint64_t rsp;

    if (!except_read_gate(d) || !except_read_code(d) || !except_long_stack(d, &rsp)) {
        return false;
    }
    rsp -= count * 8;
    if (!x86_is_canonical(rsp) || !x86_is_canonical(rsp + count * 8 - 1)) {
        return x86_fault_code(d->fault, CPU_STACK_FAULT, d->ext);
    }
    if (!x86_is_canonical(d->gate.offset)) {
        return x86_fault_gp(d->fault, d->ext);
    }
    if (!x86_write_linear(d->v, rsp, &frame[6 - count], count * 8,
                          X86_WRITE | (d->cpl == 3 ? X86_USER : 0), d->fault)) {
        return false;
    }
    if (d->cpl != cpu->cpl) {
        x86_segment_set_null(&cpu->seg[CPU_SS], (uint16_t)d->cpl);
        cpu->seg[CPU_SS].attr = (uint16_t)(d->cpl << CPU_SEG_DPL_SHIFT);
    }
    cpu->gpr[CPU_RSP] = rsp;
    except_enter(d);
    return true;
}

/* ---- protected mode ---- */

static bool except_push_legacy(struct delivery *d, struct x86_stack *st, bool outer)
{
    static const uint8_t v86_order[] = {CPU_GS, CPU_FS, CPU_DS, CPU_ES};
    struct vcpu *v = d->v;
    const struct cpu_x86 *cpu = &v->cpu;
    unsigned size = d->gate.type >= DESC_SYS_INT ? 4 : 2;
    uint64_t values[10];
    unsigned n = 0;

    if (x86_is_v86(cpu)) {
        for (unsigned i = 0; i < G_N_ELEMENTS(v86_order); i++) {
            values[n++] = cpu->seg[v86_order[i]].selector;
        }
    }
    if (outer) {
        values[n++] = cpu->seg[CPU_SS].selector;
        values[n++] = cpu->gpr[CPU_RSP];
    }
    values[n++] = except_saved_flags(d);
    values[n++] = cpu->seg[CPU_CS].selector;
    values[n++] = d->return_rip;
    if (d->event->has_error) {
        values[n++] = d->event->error;
    }
    for (unsigned i = 0; i < n; i++) {
        if (!x86_stack_push(v, st, size, values[i], d->fault)) {
            return false;
        }
    }
    return true;
}

static bool except_deliver_protected(struct delivery *d)
{
    struct cpu_x86 *cpu = &d->v->cpu;
    struct x86_stack st = x86_stack_current(d->v);
    bool v86 = x86_is_v86(cpu);
    bool outer;
    struct x86_desc ss;

    if (!except_read_gate(d) || !except_read_code(d)) {
        return false;
    }
    outer = d->cpl != cpu->cpl;
    if (outer) {
        uint16_t selector;

        if (!x86_tss_stack(d->v, d->cpl, d->ext, &selector, &st.sp, d->fault) ||
            !x86_stack_segment(d->v, selector, d->cpl, CPU_TS, d->ext, &ss, d->fault)) {
            return false;
        }
        st.ss = &ss.seg;
        st.mask = (ss.seg.attr & CPU_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;
        st.access = d->cpl == 3 ? X86_USER : 0;
    }
    st.error = d->ext;
    st.event = true;
    if (d->gate.offset > d->cs.seg.limit) {
        return x86_fault_gp(d->fault, d->ext);
    }
    if (!except_push_legacy(d, &st, outer)) {
        return false;
    }
    if (outer) {
        cpu->seg[CPU_SS] = ss.seg;
    }
    x86_stack_commit(cpu, &st);
    if (v86) {
        x86_segment_set_null(&cpu->seg[CPU_ES], 0);
        x86_segment_set_null(&cpu->seg[CPU_DS], 0);
        x86_segment_set_null(&cpu->seg[CPU_FS], 0);
        x86_segment_set_null(&cpu->seg[CPU_GS], 0);
    }
    except_enter(d);
    return true;
}

/* ---- real mode ---- */

static bool except_deliver_real(struct delivery *d)
{
    struct vcpu *v = d->v;
    struct cpu_x86 *cpu = &v->cpu;
    struct x86_stack st = x86_stack_current(v);
    uint32_t offset = (uint32_t)d->event->vector * 4;
    uint16_t vector[2];

    if (offset + 3 > cpu->idtr.limit) {
        return x86_fault_plain(d->fault, CPU_GP);
    }
    if (!x86_read_linear(v, (uint32_t)(cpu->idtr.base + offset), vector, 4, X86_READ,
                         d->fault) ||
        !x86_stack_push(v, &st, 2, cpu->rflags, d->fault) ||
        !x86_stack_push(v, &st, 2, cpu->seg[CPU_CS].selector, d->fault) ||
        !x86_stack_push(v, &st, 2, d->return_rip, d->fault)) {
        d->fault->has_error = false;
        return false;
    }
    x86_stack_commit(cpu, &st);
    cpu->rflags &= ~(uint64_t)(CPU_IF | CPU_TF | CPU_AC | CPU_RF);
    cpu->seg[CPU_CS].selector = vector[1];
    cpu->seg[CPU_CS].base = (uint64_t)vector[1] << 4;
    cpu->rip = vector[0];
    return true;
}

/* ---- entry points ---- */

bool x86_deliver(struct vcpu *v, enum x86_event_kind kind, const struct x86_fault *event,
                 uint64_t return_rip, struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &v->cpu;
    struct delivery d = {
        .v = v, .kind = kind, .event = event, .return_rip = return_rip,
        .ext = kind == X86_EVENT_SOFTWARE ? 0 : ERR_EXT, .fault = fault,
    };
    bool ok;

    log_debug(LOG_INT, "cpu%u: vector %u kind %d error 0x%x rip 0x%" G_GINT64_MODIFIER
              "x cr2 0x%" G_GINT64_MODIFIER "x", v->id, event->vector, (int)kind, event->error,
              return_rip, event->cr2);
    if ((cpu->cr0 & CPU_CR0_PE) == 0) {
        ok = except_deliver_real(&d);
    } else if (cpu_is_long_mode(cpu)) {
        ok = except_deliver_long(&d);
    } else {
        ok = except_deliver_protected(&d);
    }
    if (ok) {
        cpu->irq_shadow = false;
        cpu->halted = false;
    }
    return ok;
}

static bool except_is_contributory(uint8_t vector)
{
    return vector == CPU_DE || (vector >= CPU_TS && vector <= CPU_GP);
}

/* The event that replaces `first` when delivering it met `second`; false: shutdown. */
static bool except_combine(enum x86_event_kind *kind, struct x86_fault *first,
                           const struct x86_fault *second)
{
    bool exception = *kind == X86_EVENT_EXCEPTION;

    if (exception && first->vector == CPU_DOUBLE_FAULT) {
        return false;
    }
    *kind = X86_EVENT_EXCEPTION;
    if (exception && ((except_is_contributory(first->vector) &&
                       except_is_contributory(second->vector)) ||
                      (first->vector == CPU_PAGE_FAULT &&
                       (except_is_contributory(second->vector) ||
                        second->vector == CPU_PAGE_FAULT)))) {
        *first = (struct x86_fault){
            .vector = CPU_DOUBLE_FAULT, .has_error = true, .error = 0,
        };
        return true;
    }
    *first = *second;
    return true;
}

/* What the processor records before it delivers. */
static void except_record(struct cpu_x86 *cpu, const struct x86_fault *event)
{
    if (event->vector == CPU_PAGE_FAULT) {
        cpu->cr2 = event->cr2;
    } else if (event->vector == CPU_DB) {
        cpu->dr[6] = (cpu->dr[6] & ~0xfull) | event->dr6;
        cpu->dr[7] &= ~DR7_GD;
    }
}

static bool except_deliver_all(struct vcpu *v, enum x86_event_kind kind, struct x86_fault event)
{
    for (;;) {
        struct x86_fault nested;

        if (kind == X86_EVENT_EXCEPTION) {
            except_record(&v->cpu, &event);
            if ((v->cpu.cr0 & CPU_CR0_PE) == 0) {
                event.has_error = false;
            }
        }
        if (x86_deliver(v, kind, &event, v->cpu.rip, &nested)) {
            return true;
        }
        if (nested.vector == CPU_PAGE_FAULT) {
            v->cpu.cr2 = nested.cr2;
        }
        if (!except_combine(&kind, &event, &nested)) {
            return false;
        }
    }
}

bool x86_raise(struct vcpu *v, const struct x86_fault *fault)
{
    if (v->pv != NULL) {
        x86_pv_raise(v, fault);
        return true;
    }
    return except_deliver_all(v, X86_EVENT_EXCEPTION, *fault);
}

bool x86_interrupt(struct vcpu *v, uint8_t vector)
{
    return except_deliver_all(v, X86_EVENT_EXTERNAL, (struct x86_fault){.vector = vector});
}

bool x86_nmi(struct vcpu *v)
{
    v->cpu.nmi_blocked = true;
    if (v->pv != NULL) {
        v->pv->trap(v, &(struct vcpu_trap){.vector = CPU_NMI});
        return true;
    }
    return except_deliver_all(v, X86_EVENT_EXTERNAL, (struct x86_fault){.vector = CPU_NMI});
}
