/* SPDX-License-Identifier: MIT */
/*
 * Segmentation (Intel SDM vol. 3 chapters 3 and 5): logical to linear addresses, descriptors
 * and their checks, loading of data and stack segments, stacks.
 *
 * Choices where processors differ: loading a null selector clears base and limit (as Intel and
 * Zen 2 and later do); a segment load in real mode changes base and selector only, so "unreal"
 * segments keep their limits. An access that wraps around the end of a flat 4 GiB segment
 * faults.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

enum { SEG_ATTR_V86 = 0xf3 }; /* present, DPL 3, read/write data, accessed */

static bool segment_refuse(bool is_ss, uint32_t error, struct x86_fault *fault)
{
    return x86_fault_code(fault, is_ss ? CPU_STACK_FAULT : CPU_GP, error);
}

static bool segment_in_limit(const struct cpu_segment *s, uint64_t offset, size_t len)
{
    uint64_t last = offset + (len > 0 ? len - 1 : 0);

    if ((s->attr & (CPU_SEG_S | DESC_TYPE_CODE | DESC_TYPE_DOWN)) ==
        (CPU_SEG_S | DESC_TYPE_DOWN)) {
        uint64_t top = (s->attr & CPU_SEG_DB) != 0 ? UINT32_MAX : UINT16_MAX;

        return offset > s->limit && last <= top;
    }
    return last <= s->limit;
}

bool x86_segment_linear(const struct cpu_x86 *cpu, const struct cpu_segment *s, bool is_ss,
                        uint64_t offset, size_t len, unsigned access, uint32_t error,
                        uint64_t *gva, struct x86_fault *fault)
{
    if (!x86_is_real_style(cpu)) {
        if (s->unusable) {
            return segment_refuse(is_ss, error, fault);
        }
        if ((access & X86_WRITE) != 0 && !x86_desc_is_writable_data(s)) {
            return segment_refuse(is_ss, error, fault);
        }
        if ((access & X86_READ) != 0 && !x86_desc_is_readable(s)) {
            return segment_refuse(is_ss, error, fault);
        }
    }
    if (!segment_in_limit(s, offset, len)) {
        return segment_refuse(is_ss, error, fault);
    }
    *gva = (uint32_t)(s->base + offset);
    return true;
}

bool x86_linear(struct vcpu *v, enum cpu_segreg seg, uint64_t offset, size_t len,
                unsigned access, uint64_t *gva, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint64_t addr = offset;

    if (!cpu_is_code64(cpu)) {
        return x86_segment_linear(cpu, &cpu->seg[seg], seg == CPU_SS, offset, len, access, 0,
                                  gva, fault);
    }
    if (seg == CPU_FS || seg == CPU_GS) {
        addr += cpu->seg[seg].base;
    }
    if (!x86_is_canonical(addr) || (len > 1 && !x86_is_canonical(addr + len - 1))) {
        return segment_refuse(seg == CPU_SS, 0, fault);
    }
    *gva = addr;
    return true;
}

uint64_t x86_effective_address(const struct cpu_x86 *cpu, const struct insn *in,
                               uint64_t next_rip)
{
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == INSN_REG_RIP) {
        ea += next_rip;
    } else if (in->base != INSN_NO_REG) {
        ea += cpu->gpr[in->base & 15];
    }
    if (in->index != INSN_NO_REG && (in->flags & INSN_F_VSIB) == 0) {
        ea += cpu->gpr[in->index & 15] * in->scale;
    }
    return in->addrsize == 2 ? (uint16_t)ea : in->addrsize == 4 ? (uint32_t)ea : ea;
}

enum insn_mode x86_insn_mode(const struct cpu_x86 *cpu)
{
    if (cpu_is_code64(cpu)) {
        return INSN_MODE_64;
    }
    return (cpu->seg[CPU_CS].attr & CPU_SEG_DB) != 0 ? INSN_MODE_32 : INSN_MODE_16;
}

/* ---- descriptors ---- */

static void desc_unpack(struct x86_desc *desc, uint16_t selector)
{
    uint64_t raw = desc->raw;
    uint32_t limit = (uint32_t)((raw & 0xffff) | ((raw >> 32) & 0xf0000));
    uint16_t attr = (uint16_t)(raw >> 40) & 0xf0ff;

    desc->seg = (struct cpu_segment){
        .selector = selector,
        .attr = attr,
        .limit = (attr & CPU_SEG_G) != 0 ? limit << 12 | 0xfff : limit,
        .base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & 0xff000000),
    };
}

bool x86_desc_peek(struct vcpu *v, uint16_t selector, bool *found, struct x86_desc *desc,
                   struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool local = (selector & 4) != 0;
    uint64_t base = local ? cpu->ldtr.base : cpu->gdtr.base;
    uint32_t limit = local ? cpu->ldtr.limit : cpu->gdtr.limit;

    *found = false;
    if (v->pv != NULL) {
        if (v->pv->descriptor(v, selector, &desc->raw)) {
            desc_unpack(desc, selector);
            desc->gva = 0;
            *found = true;
        }
        return true;
    }
    if ((local && cpu->ldtr.unusable) || (selector | 7u) > limit) {
        return true;
    }
    desc->gva = base + (selector & ~7u);
    if (!cpu_is_long_mode(cpu)) {
        desc->gva = (uint32_t)desc->gva;
    }
    if (!x86_read_linear(v, desc->gva, &desc->raw, 8, X86_READ | X86_IMPLICIT, fault)) {
        return false;
    }
    desc_unpack(desc, selector);
    *found = true;
    return true;
}

bool x86_desc_read(struct vcpu *v, uint16_t selector, uint8_t vector, unsigned ext,
                   struct x86_desc *desc, struct x86_fault *fault)
{
    bool found;

    if (!x86_desc_peek(v, selector, &found, desc, fault)) {
        return false;
    }
    if (!found) {
        return x86_fault_code(fault, vector, (selector & ~3u) | ext);
    }
    return true;
}

bool x86_desc_read_high(struct vcpu *v, uint16_t selector, const struct x86_desc *desc,
                        uint64_t *high, struct x86_fault *fault)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint32_t limit = (selector & 4) != 0 ? cpu->ldtr.limit : cpu->gdtr.limit;

    if ((selector | 7u) + 8u > limit) {
        return x86_fault_gp(fault, selector & ~3u);
    }
    return x86_read_linear(v, desc->gva + 8, high, 8, X86_READ | X86_IMPLICIT, fault);
}

bool x86_desc_set_accessed(struct vcpu *v, struct x86_desc *desc, struct x86_fault *fault)
{
    uint8_t type;

    if ((desc->seg.attr & DESC_TYPE_ACCESSED) != 0) {
        return true;
    }
    desc->seg.attr |= DESC_TYPE_ACCESSED;
    type = (uint8_t)desc->seg.attr;
    if (v->pv != NULL) {
        return true; /* the guest may find the bit clear in its table; docs/pv.md */
    }
    return x86_write_linear(v, desc->gva + 5, &type, 1, X86_WRITE | X86_IMPLICIT, fault);
}

void x86_segment_set_v86(struct cpu_segment *s, uint16_t selector)
{
    *s = (struct cpu_segment){
        .selector = selector, .attr = SEG_ATTR_V86, .limit = 0xffff,
        .base = (uint64_t)selector << 4,
    };
}

void x86_segment_set_null(struct cpu_segment *s, uint16_t selector)
{
    *s = (struct cpu_segment){.selector = selector, .unusable = true};
}

/* ---- loading segment registers ---- */

bool x86_stack_segment(struct vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector,
                       unsigned ext, struct x86_desc *desc, struct x86_fault *fault)
{
    uint32_t error = (selector & ~3u) | ext;

    if (x86_selector_is_null(selector)) {
        return x86_fault_code(fault, vector, ext);
    }
    if (!x86_desc_read(v, selector, vector, ext, desc, fault)) {
        return false;
    }
    if ((selector & 3u) != cpl || x86_desc_dpl(&desc->seg) != cpl ||
        !x86_desc_is_writable_data(&desc->seg)) {
        return x86_fault_code(fault, vector, error);
    }
    if ((desc->seg.attr & CPU_SEG_P) == 0) {
        return x86_fault_code(fault, CPU_STACK_FAULT, error);
    }
    return x86_desc_set_accessed(v, desc, fault);
}

static bool segment_load_ss(struct vcpu *v, uint16_t selector, struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &v->cpu;
    struct x86_desc desc;

    if (x86_selector_is_null(selector) && cpu_is_code64(cpu) && cpu->cpl < 3 &&
        (selector & 3) == cpu->cpl) {
        x86_segment_set_null(&cpu->seg[CPU_SS], selector);
        cpu->seg[CPU_SS].attr = (uint16_t)(cpu->cpl << CPU_SEG_DPL_SHIFT);
        return true;
    }
    if (!x86_stack_segment(v, selector, cpu->cpl, CPU_GP, 0, &desc, fault)) {
        return false;
    }
    cpu->seg[CPU_SS] = desc.seg;
    return true;
}

static bool segment_load_data(struct vcpu *v, enum cpu_segreg seg, uint16_t selector,
                              struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &v->cpu;
    struct x86_desc desc;

    if (x86_selector_is_null(selector)) {
        x86_segment_set_null(&cpu->seg[seg], selector);
        return true;
    }
    if (!x86_desc_read(v, selector, CPU_GP, 0, &desc, fault)) {
        return false;
    }
    if (!x86_desc_is_readable(&desc.seg)) {
        return x86_fault_gp(fault, selector & ~3u);
    }
    if (!x86_desc_is_conforming(&desc.seg)) {
        unsigned dpl = x86_desc_dpl(&desc.seg);

        if ((selector & 3u) > dpl || cpu->cpl > dpl) {
            return x86_fault_gp(fault, selector & ~3u);
        }
    }
    if ((desc.seg.attr & CPU_SEG_P) == 0) {
        return x86_fault_code(fault, CPU_NP, selector & ~3u);
    }
    if (!x86_desc_set_accessed(v, &desc, fault)) {
        return false;
    }
    cpu->seg[seg] = desc.seg;
    return true;
}

bool x86_load_segment(struct vcpu *v, enum cpu_segreg seg, uint16_t selector,
                      struct x86_fault *fault)
{
    struct cpu_x86 *cpu = &v->cpu;
    struct cpu_segment *s = &cpu->seg[seg];

    if (x86_is_v86(cpu)) {
        x86_segment_set_v86(s, selector);
        return true;
    }
    if ((cpu->cr0 & CPU_CR0_PE) == 0) {
        if (s->unusable) {
            s->unusable = false;
            s->limit = 0xffff;
            s->attr = SEG_ATTR_V86 & ~(3u << CPU_SEG_DPL_SHIFT);
        }
        s->selector = selector;
        s->base = (uint64_t)selector << 4;
        return true;
    }
    return seg == CPU_SS ? segment_load_ss(v, selector, fault)
                         : segment_load_data(v, seg, selector, fault);
}

void x86_segments_outer(struct cpu_x86 *cpu, unsigned cpl)
{
    static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};

    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
        struct cpu_segment *s = &cpu->seg[data[i]];

        if (!s->unusable && x86_desc_dpl(s) < cpl && !x86_desc_is_conforming(s)) {
            x86_segment_set_null(s, 0);
        }
    }
}

/* ---- stacks ---- */

struct x86_stack x86_stack_current(const struct vcpu *v)
{
    const struct cpu_x86 *cpu = &v->cpu;
    bool flat = cpu_is_code64(cpu);
    bool wide = (cpu->seg[CPU_SS].attr & CPU_SEG_DB) != 0;

    return (struct x86_stack){
        .ss = &cpu->seg[CPU_SS],
        .sp = cpu->gpr[CPU_RSP],
        .mask = flat ? UINT64_MAX : wide ? UINT32_MAX : UINT16_MAX,
        .flat = flat,
        .access = x86_cpl_access(v),
    };
}

static bool stack_linear(struct vcpu *v, const struct x86_stack *st, uint64_t sp, unsigned size,
                         unsigned access, uint64_t *gva, struct x86_fault *fault)
{
    if (!st->flat) {
        return x86_segment_linear(&v->cpu, st->ss, true, sp & st->mask, size, access, st->error,
                                  gva, fault);
    }
    if (!x86_is_canonical(sp) || !x86_is_canonical(sp + size - 1)) {
        return x86_fault_code(fault, CPU_STACK_FAULT, st->error);
    }
    *gva = sp;
    return true;
}

bool x86_stack_push(struct vcpu *v, struct x86_stack *st, unsigned size, uint64_t value,
                    struct x86_fault *fault)
{
    uint64_t sp = (st->sp - size) & st->mask;
    uint64_t gva;

    if (!stack_linear(v, st, sp, size, X86_WRITE, &gva, fault) ||
        (!st->event && !x86_aligned(v, gva, size, st->access, fault)) ||
        !x86_write_linear(v, gva, &value, size, X86_WRITE | st->access, fault)) {
        return false;
    }
    st->sp = sp;
    return true;
}

bool x86_stack_pop(struct vcpu *v, struct x86_stack *st, unsigned size, uint64_t *value,
                   struct x86_fault *fault)
{
    uint64_t gva;

    *value = 0;
    if (!stack_linear(v, st, st->sp, size, X86_READ, &gva, fault) ||
        (!st->event && !x86_aligned(v, gva, size, st->access, fault)) ||
        !x86_read_linear(v, gva, value, size, X86_READ | st->access, fault)) {
        return false;
    }
    st->sp = (st->sp + size) & st->mask;
    return true;
}

void x86_stack_commit(struct cpu_x86 *cpu, const struct x86_stack *st)
{
    if (st->mask == UINT16_MAX) {
        cpu->gpr[CPU_RSP] = (cpu->gpr[CPU_RSP] & ~0xffffull) | (st->sp & 0xffff);
    } else {
        cpu->gpr[CPU_RSP] = st->sp & st->mask;
    }
}
