/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables and selectors: LGDT LIDT SGDT SIDT, LLDT LTR SLDT STR, VERR VERW LAR LSL,
 * ARPL (Intel SDM vol. 2). SGDT and friends heed CR4.UMIP.
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

static bool table_umip(const struct x86_system *s)
{
    return (s->cpu->cr4 & CPU_CR4_UMIP) != 0 && s->cpu->cpl != 0;
}

bool x86_sys_sgdt_sidt(struct x86_system *s)
{
    const struct cpu_table *t = s->in->id == INSN_SGDT ? &s->cpu->gdtr : &s->cpu->idtr;
    uint8_t buf[10];

    if (table_umip(s)) {
        return x86_fault_gp(s->fault, 0);
    }
    memcpy(buf, &t->limit, 2);
    memcpy(buf + 2, &t->base, 8);
    return x86_insn_write_mem(s->v, s->in, 0, buf, s->in->mode == INSN_MODE_64 ? 10 : 6,
                              s->fault);
}

bool x86_sys_lgdt_lidt(struct x86_system *s)
{
    struct cpu_table *t = s->in->id == INSN_LGDT ? &s->cpu->gdtr : &s->cpu->idtr;
    bool wide = s->in->mode == INSN_MODE_64;
    uint8_t buf[10] = {0};
    uint64_t base;

    if (!x86_insn_read_mem(s->v, s->in, 0, buf, wide ? 10 : 6, s->fault)) {
        return false;
    }
    memcpy(&base, buf + 2, 8);
    if (!wide && s->in->opsize == 2) {
        base &= 0xffffff;
    }
    if (!x86_is_canonical(base)) {
        return x86_fault_gp(s->fault, 0);
    }
    memcpy(&t->limit, buf, 2);
    t->base = base;
    return true;
}

bool x86_sys_sldt_str(struct x86_system *s)
{
    const struct cpu_segment *seg = s->in->id == INSN_SLDT ? &s->cpu->ldtr : &s->cpu->tr;

    if (table_umip(s)) {
        return x86_fault_gp(s->fault, 0);
    }
    return x86_insn_write_rm(s->v, s->in, s->in->opsize, 2, seg->selector, s->fault);
}

/* Reads a system descriptor from the GDT for LLDT and LTR. */
static bool table_read_system(struct x86_system *s, uint16_t selector, struct x86_desc *desc)
{
    if ((selector & 4) != 0) {
        return x86_fault_gp(s->fault, selector & ~3u);
    }
    return x86_desc_read(s->v, selector, CPU_GP, 0, desc, s->fault);
}

static bool table_extend_base(struct x86_system *s, uint16_t selector, struct x86_desc *desc)
{
    uint64_t high;

    if (!cpu_is_long_mode(s->cpu)) {
        return true;
    }
    if (!x86_desc_read_high(s->v, selector, desc, &high, s->fault)) {
        return false;
    }
    desc->seg.base |= high << 32;
    if (((high >> 40) & 0x1f) != 0 || !x86_is_canonical(desc->seg.base)) {
        return x86_fault_gp(s->fault, selector & ~3u);
    }
    return true;
}

bool x86_sys_lldt(struct x86_system *s)
{
    struct x86_desc desc;
    uint64_t value;
    uint16_t selector;

    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault)) {
        return false;
    }
    selector = (uint16_t)value;
    if (x86_selector_is_null(selector)) {
        x86_segment_set_null(&s->cpu->ldtr, selector);
        return true;
    }
    if (!table_read_system(s, selector, &desc)) {
        return false;
    }
    if ((desc.seg.attr & 0x1f) != DESC_SYS_LDT) {
        return x86_fault_gp(s->fault, selector & ~3u);
    }
    if ((desc.seg.attr & CPU_SEG_P) == 0) {
        return x86_fault_code(s->fault, CPU_NP, selector & ~3u);
    }
    if (!table_extend_base(s, selector, &desc)) {
        return false;
    }
    s->cpu->ldtr = desc.seg;
    return true;
}

bool x86_sys_ltr(struct x86_system *s)
{
    struct x86_desc desc;
    uint64_t value;
    uint16_t selector;
    unsigned type;
    uint8_t busy;

    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault)) {
        return false;
    }
    selector = (uint16_t)value;
    if (x86_selector_is_null(selector)) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!table_read_system(s, selector, &desc)) {
        return false;
    }
    type = desc.seg.attr & 0x1f;
    if (type != DESC_SYS_TSS && (type != DESC_SYS_TSS16 || cpu_is_long_mode(s->cpu))) {
        return x86_fault_gp(s->fault, selector & ~3u);
    }
    if ((desc.seg.attr & CPU_SEG_P) == 0) {
        return x86_fault_code(s->fault, CPU_NP, selector & ~3u);
    }
    if (!table_extend_base(s, selector, &desc)) {
        return false;
    }
    desc.seg.attr |= 2;
    busy = (uint8_t)desc.seg.attr;
    if (!x86_write_linear(s->v, desc.gva + 5, &busy, 1, X86_WRITE | X86_IMPLICIT, s->fault)) {
        return false;
    }
    s->cpu->tr = desc.seg;
    return true;
}

static void table_set_zf(struct cpu_x86 *cpu, bool zf)
{
    cpu->rflags = zf ? cpu->rflags | CPU_ZF : cpu->rflags & ~(uint64_t)CPU_ZF;
}

/* Whether a selector at CPL/RPL may see the descriptor (conforming code always). */
static bool table_visible(const struct cpu_x86 *cpu, uint16_t selector,
                          const struct cpu_segment *seg)
{
    unsigned dpl = x86_desc_dpl(seg);

    return x86_desc_is_conforming(seg) || (cpu->cpl <= dpl && (selector & 3u) <= dpl);
}

bool x86_sys_verr_verw(struct x86_system *s)
{
    struct x86_desc desc;
    uint64_t value;
    bool ok = false;

    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault)) {
        return false;
    }
    if (!x86_selector_is_null((uint16_t)value)) {
        if (!x86_desc_peek(s->v, (uint16_t)value, &ok, &desc, s->fault)) {
            return false;
        }
        ok = ok && (desc.seg.attr & CPU_SEG_S) != 0 &&
             table_visible(s->cpu, (uint16_t)value, &desc.seg) &&
             (s->in->id == INSN_VERR ? x86_desc_is_readable(&desc.seg)
                                     : x86_desc_is_writable_data(&desc.seg));
    }
    table_set_zf(s->cpu, ok);
    return true;
}

static bool table_type_ok(const struct x86_system *s, const struct cpu_segment *seg)
{
    /* Bit n: system type n may be asked about. */
    const uint32_t lar_legacy = 0x1a3e, lar_long = 0x1a04;
    const uint32_t lsl_legacy = 0x0a0e, lsl_long = 0x0a04;
    bool long_mode = cpu_is_long_mode(s->cpu);
    uint32_t types = s->in->id == INSN_LAR ? (long_mode ? lar_long : lar_legacy)
                                           : (long_mode ? lsl_long : lsl_legacy);

    return (seg->attr & CPU_SEG_S) != 0 || ((types >> x86_desc_type(seg)) & 1) != 0;
}

bool x86_sys_lar_lsl(struct x86_system *s)
{
    struct x86_desc desc;
    uint64_t value;
    uint16_t selector;
    bool ok = false;

    if (!x86_insn_read_rm(s->v, s->in, 2, &value, s->fault)) {
        return false;
    }
    selector = (uint16_t)value;
    if (!x86_selector_is_null(selector)) {
        if (!x86_desc_peek(s->v, selector, &ok, &desc, s->fault)) {
            return false;
        }
        ok = ok && table_type_ok(s, &desc.seg) && table_visible(s->cpu, selector, &desc.seg);
    }
    if (ok) {
        uint64_t result = s->in->id == INSN_LAR ? (desc.raw >> 32) & 0x00ffff00
                                                : desc.seg.limit;

        x86_gpr_write(s->cpu, x86_modrm_reg(s->in), s->in->opsize, result);
    }
    table_set_zf(s->cpu, ok);
    return true;
}

bool x86_sys_arpl(struct x86_system *s)
{
    uint64_t dest;
    unsigned rpl = (unsigned)s->cpu->gpr[x86_modrm_reg(s->in)] & 3;
    bool raise;

    if (!x86_insn_read_rm(s->v, s->in, 2, &dest, s->fault)) {
        return false;
    }
    raise = (dest & 3) < rpl;
    if (raise && !x86_insn_write_rm(s->v, s->in, 2, 2, (dest & ~3ull) | rpl, s->fault)) {
        return false;
    }
    table_set_zf(s->cpu, raise);
    return true;
}
