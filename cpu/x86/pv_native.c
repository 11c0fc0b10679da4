/* SPDX-License-Identifier: MIT */
/*
 * Paravirtual guests on an engine whose instructions run by themselves: the processor has raised
 * #GP for one that the hypervisor may have to carry out. What raises #GP for another reason
 * (an address, an operand of a vector instruction) is not looked at.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

enum { NATIVE_PAGE = 4096 };

/* As many bytes at rip as there are. */
static size_t native_fetch(struct vcpu *v, uint8_t *bytes, size_t len)
{
    const struct cpu_x86 *cpu = &v->cpu;
    uint64_t at = cpu->rip;
    size_t first;
    struct x86_fault fault;

    if (!cpu_is_code64(cpu)) {
        at = (uint32_t)(at + cpu->seg[CPU_CS].base);
    }
    if (!x86_is_canonical(at) || !x86_is_canonical(at + len)) {
        return 0;
    }
    if (x86_read_linear(v, at, bytes, len, X86_READ | X86_USER, &fault)) {
        return len;
    }
    first = NATIVE_PAGE - (at & (NATIVE_PAGE - 1)); /* the next page is not there */
    return first < len && x86_read_linear(v, at, bytes, first, X86_READ | X86_USER, &fault)
               ? first
               : 0;
}

/* State of vector registers is not home: their instructions ran by themselves and meant it. */
static bool native_emulated(const struct insn *in)
{
    switch (in->id) {
    case INSN_FXSAVE:
    case INSN_FXRSTOR:
    case INSN_XSAVE:
    case INSN_XSAVEOPT:
    case INSN_XSAVEC:
    case INSN_XSAVES:
    case INSN_XRSTOR:
    case INSN_XRSTORS:
        return false;
    default:
        return (in->flags & INSN_F_SYSTEM) != 0;
    }
}

void x86_pv_protection(struct vcpu *v, const struct x86_fault *fault)
{
    uint8_t bytes[INSN_MAX_LEN];
    struct x86_fault own;
    struct insn in;
    size_t len = native_fetch(v, bytes, sizeof(bytes));
    const uint64_t rflags = v->cpu.rflags;

    if (len == 0 || insn_decode(&in, x86_insn_mode(&v->cpu), bytes, len) != INSN_OK ||
        !native_emulated(&in)) {
        x86_raise(v, fault);
        return;
    }
    v->cpu.rflags &= ~(uint64_t)CPU_RF; /* of the processor's #GP */
    if (x86_system_insn(v, &in, &own)) {
        x86_pv_stepped(v, rflags);
    } else {
        v->cpu.rflags = rflags;
        x86_raise(v, &own);
    }
}
