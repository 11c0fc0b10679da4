/* SPDX-License-Identifier: MIT */
/*
 * IN, OUT, INS and OUTS with the IOPL and I/O bitmap checks (Intel SDM vol. 1 chapter 19). REP
 * forms run at most IO_BATCH iterations at a time and stay at the instruction while some
 * remain, so that interrupts come in between.
 */
#include "cpu/x86/x86.h"

#include "cpu/x86/internal.h"

enum { IO_BATCH = 256, TSS_IO_MAP_OFFSET = 0x66 };

static bool io_bitmap_allows(struct x86_system *s, uint16_t port, unsigned size)
{
    const struct cpu_segment *tr = &s->cpu->tr;
    unsigned type = x86_desc_type(tr) | 2;
    uint16_t map = 0, bits = 0;
    uint32_t offset;

    if (tr->unusable || type != DESC_SYS_TSS_BUSY || tr->limit < TSS_IO_MAP_OFFSET + 1) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_read_linear(s->v, tr->base + TSS_IO_MAP_OFFSET, &map, 2, X86_READ | X86_IMPLICIT,
                         s->fault)) {
        return false;
    }
    offset = (uint32_t)map + port / 8;
    if (offset + 1 > tr->limit) {
        return x86_fault_gp(s->fault, 0);
    }
    if (!x86_read_linear(s->v, tr->base + offset, &bits, 2, X86_READ | X86_IMPLICIT,
                         s->fault)) {
        return false;
    }
    if (((bits >> (port & 7)) & ((1u << size) - 1)) != 0) {
        return x86_fault_gp(s->fault, 0);
    }
    return true;
}

static bool io_allowed(struct x86_system *s, uint16_t port, unsigned size)
{
    const struct cpu_x86 *cpu = s->cpu;

    if (s->v->pv != NULL) {
        return s->v->pv->io_allowed(s->v, port, size) || x86_fault_gp(s->fault, 0);
    }
    if ((cpu->cr0 & CPU_CR0_PE) == 0 || (!x86_is_v86(cpu) && cpu->cpl <= x86_iopl(cpu))) {
        return true;
    }
    return io_bitmap_allows(s, port, size);
}

static uint64_t io_read(struct vcpu *v, uint16_t port, unsigned size)
{
    return v->board_ops != NULL ? v->board_ops->pio_read(v, port, size) : UINT64_MAX;
}

static void io_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    if (v->board_ops != NULL) {
        v->board_ops->pio_write(v, port, size, value);
    }
}

static unsigned io_size(const struct insn *in)
{
    return (in->opcode & 1) == 0 ? 1 : in->opsize == 2 ? 2 : 4;
}

static bool io_is_hypercall(const struct x86_system *s, bool immediate, uint16_t port,
                            unsigned size)
{
    return port == VCPU_HYPERCALL_PORT && immediate && size == 1 && s->in->id != INSN_IN &&
           s->v->board_ops != NULL && s->v->board_ops->hypercall != NULL;
}

bool x86_sys_in_out(struct x86_system *s)
{
    bool immediate = (s->in->opcode & 8) == 0; /* E4..E7, EC..EF */
    uint16_t port = (uint16_t)(immediate ? s->in->imm & 0xff : s->cpu->gpr[CPU_RDX]);
    unsigned size = io_size(s->in);

    if (!io_allowed(s, port, size)) {
        return false;
    }
    /* The board may stop the guest here for a long time: show it the next instruction. */
    s->jumped = true;
    s->cpu->rip = s->next_rip;
    if (io_is_hypercall(s, immediate, port, size)) {
        s->v->board_ops->hypercall(s->v);
        return true;
    }
    if (s->in->id == INSN_IN) {
        x86_gpr_write(s->cpu, CPU_RAX, size, io_read(s->v, port, size));
    } else {
        io_write(s->v, port, size, x86_gpr_read(s->cpu, CPU_RAX, size));
    }
    return true;
}

static void io_advance(struct x86_system *s, unsigned reg, unsigned size)
{
    uint64_t step = (s->cpu->rflags & CPU_DF) != 0 ? -(uint64_t)size : size;

    x86_gpr_write(s->cpu, reg, s->in->addrsize, s->cpu->gpr[reg] + step);
}

static bool io_string_once(struct x86_system *s, uint16_t port, unsigned size)
{
    struct cpu_x86 *cpu = s->cpu;
    bool input = s->in->id == INSN_INS;
    unsigned reg = input ? CPU_RDI : CPU_RSI;
    unsigned access = input ? X86_WRITE : X86_READ;
    uint64_t offset = x86_gpr_read(cpu, reg, s->in->addrsize);
    uint64_t value = 0, gva;

    if (!x86_linear(s->v, input ? CPU_ES : (enum cpu_segreg)s->in->seg, offset, size, access,
                    &gva, s->fault)) {
        return false;
    }
    access |= x86_cpl_access(s->v);
    if (input) {
        /* The port is read only when its value has a place to go. */
        if (!x86_check_linear(s->v, gva, size, access, s->fault)) {
            return false;
        }
        value = io_read(s->v, port, size);
        if (!x86_write_linear(s->v, gva, &value, size, access, s->fault)) {
            return false;
        }
    } else {
        if (!x86_read_linear(s->v, gva, &value, size, access, s->fault)) {
            return false;
        }
        io_write(s->v, port, size, value);
    }
    io_advance(s, reg, size);
    return true;
}

bool x86_sys_ins_outs(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    bool rep = (s->in->prefixes & (INSN_P_REP | INSN_P_REPNE)) != 0;
    uint16_t port = (uint16_t)cpu->gpr[CPU_RDX];
    unsigned size = io_size(s->in);
    unsigned asize = s->in->addrsize;

    if (!io_allowed(s, port, size)) {
        return false;
    }
    if (!rep) {
        return io_string_once(s, port, size);
    }
    for (unsigned i = 0; i < IO_BATCH; i++) {
        uint64_t count = x86_gpr_read(cpu, CPU_RCX, asize);

        if (count == 0) {
            return true;
        }
        if (!io_string_once(s, port, size)) {
            return false;
        }
        x86_gpr_write(cpu, CPU_RCX, asize, count - 1);
        if (atomic_load_explicit(&s->v->request, memory_order_relaxed) != 0) {
            break;
        }
    }
    if (x86_gpr_read(cpu, CPU_RCX, asize) != 0) {
        s->jumped = true; /* rip stays: some iterations remain */
    }
    return true;
}
