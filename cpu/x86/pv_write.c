/* SPDX-License-Identifier: MIT */
/*
 * Writable page tables: a paravirtual kernel may write to a page table through a read-only
 * mapping, and the hypervisor carries the instruction out as an update of the entry. The
 * instructions are those that kernels use on page tables: moves, exchanges, and arithmetic and
 * bit operations on memory of up to 8 aligned bytes, with or without LOCK. All of them are done
 * as compare-and-exchange, so a processor that sets A or D meanwhile is not overwritten.
 */
#include "cpu/x86/x86.h"

#include "core/memory.h"
#include "cpu/x86/internal.h"

enum { WRITE_MAX_TRIES = 100 };

struct table_write {
    struct vcpu *v;
    struct insn in;
    unsigned size;
    uint64_t mask;
    uint64_t operand;  /* the other operand */
    uint64_t old, new; /* memory */
    uint64_t flags;    /* status flags after it */
};

/* The flags of old -> new by an addition, a subtraction or (no_carry) a logical operation. */
static void write_flags(struct table_write *w, bool carry, uint64_t overflow, bool no_carry)
{
    const uint64_t top = 1ull << (w->size * 8 - 1);

    w->new &= w->mask;
    w->flags = (w->new == 0 ? CPU_ZF : 0) | ((w->new & top) != 0 ? CPU_SF : 0) |
               (__builtin_parityll(w->new & 0xff) ? 0 : CPU_PF);
    if (!no_carry) {
        w->flags |= (carry ? CPU_CF : 0) | ((overflow & top) != 0 ? CPU_OF : 0) |
                    ((w->old ^ w->operand ^ w->new) & CPU_AF);
    }
}

static void write_add(struct table_write *w)
{
    w->new = (w->old + w->operand) & w->mask;
    write_flags(w, w->new < w->old, (w->old ^ w->new) & (w->operand ^ w->new), false);
}

static void write_sub(struct table_write *w)
{
    w->new = (w->old - w->operand) & w->mask;
    write_flags(w, w->old < w->operand, (w->old ^ w->operand) & (w->old ^ w->new), false);
}

static void write_keep_carry(struct table_write *w)
{
    w->flags = (w->flags & ~(uint64_t)CPU_CF) | (w->v->cpu.rflags & CPU_CF);
}

static bool write_alu(struct table_write *w)
{
    switch (w->in.id) {
    case INSN_ADD:
    case INSN_XADD:
        write_add(w);
        return true;
    case INSN_INC:
        write_add(w);
        write_keep_carry(w);
        return true;
    case INSN_SUB:
        write_sub(w);
        return true;
    case INSN_DEC:
        write_sub(w);
        write_keep_carry(w);
        return true;
    case INSN_AND:
        w->new = w->old & w->operand;
        break;
    case INSN_OR:
        w->new = w->old | w->operand;
        break;
    case INSN_XOR:
        w->new = w->old ^ w->operand;
        break;
    default:
        return false;
    }
    write_flags(w, false, 0, true);
    return true;
}

static void write_bit(struct table_write *w)
{
    uint64_t bit = 1ull << (w->operand & (w->size * 8 - 1));

    w->new = w->in.id == INSN_BTS   ? w->old | bit
             : w->in.id == INSN_BTR ? w->old & ~bit
                                    : w->old ^ bit;
    w->flags = (w->v->cpu.rflags & CPU_STATUS_FLAGS & ~(uint64_t)CPU_CF) |
               ((w->old & bit) != 0 ? CPU_CF : 0);
}

/* What memory becomes. false: not emulated. */
static bool write_compute(struct table_write *w)
{
    w->flags = w->v->cpu.rflags & CPU_STATUS_FLAGS;
    switch (w->in.id) {
    case INSN_MOV:
    case INSN_MOVNTI:
    case INSN_XCHG:
        w->new = w->operand;
        return true;
    case INSN_NOT:
        w->new = ~w->old & w->mask;
        return true;
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        write_bit(w);
        return true;
    default:
        return write_alu(w);
    }
}

/* The register or immediate operand. */
static void write_operand(struct table_write *w)
{
    const struct cpu_x86 *cpu = &w->v->cpu;
    const struct insn_operand *reg = x86_insn_operand(&w->in, OPK_GPR);

    if (w->in.id == INSN_INC || w->in.id == INSN_DEC) {
        w->operand = 1;
    } else if (w->in.id == INSN_CMPXCHG) {
        w->operand = x86_gpr_read(cpu, x86_modrm_reg(&w->in), w->size);
    } else if (reg != NULL) {
        w->operand = x86_gpr_read(cpu, reg->reg, w->size);
    } else {
        w->operand = w->in.imm & w->mask;
    }
}

static enum vcpu_pv_write write_cmpxchg(struct table_write *w, uint64_t gpa)
{
    struct cpu_x86 *cpu = &w->v->cpu;
    uint64_t wanted = x86_gpr_read(cpu, CPU_RAX, w->size);
    uint64_t found = w->old;
    enum vcpu_pv_write result = VCPU_PV_WRITE_DONE;

    if (found == wanted) {
        result = w->v->pv->table_write(w->v, gpa, w->size, &w->old, w->operand);
        if (result != VCPU_PV_WRITE_DONE) {
            return result;
        }
    } else {
        x86_gpr_write(cpu, CPU_RAX, w->size, found);
    }
    w->old = wanted; /* the flags of comparing the accumulator with memory */
    w->operand = found;
    write_sub(w);
    return result;
}

/* The register that gets the old value. */
static void write_register(struct table_write *w)
{
    if (w->in.id == INSN_XCHG || w->in.id == INSN_XADD) {
        x86_gpr_write(&w->v->cpu, x86_insn_operand(&w->in, OPK_GPR)->reg, w->size, w->old);
    }
}

static bool write_decode(struct table_write *w)
{
    struct cpu_x86 *cpu = &w->v->cpu;
    struct x86_fault fault;
    uint8_t bytes[INSN_MAX_LEN];
    size_t len = sizeof(bytes);

    if (!cpu_is_code64(cpu) || !x86_is_canonical(cpu->rip + sizeof(bytes))) {
        return false;
    }
    if (!x86_read_linear(w->v, cpu->rip, bytes, len, X86_READ | X86_USER, &fault)) {
        len = 4096 - (cpu->rip & 4095); /* the next page is not there */
        if (len >= sizeof(bytes) ||
            !x86_read_linear(w->v, cpu->rip, bytes, len, X86_READ | X86_USER, &fault)) {
            return false;
        }
    }
    return insn_decode(&w->in, INSN_MODE_64, bytes, len) == INSN_OK;
}

static bool write_loop(struct table_write *w, uint64_t gpa)
{
    enum vcpu_pv_write result = VCPU_PV_WRITE_CHANGED;
    uint64_t now = 0;

    if (!mem_read(w->v->mem, gpa, &now, w->size)) {
        return false;
    }
    for (unsigned tries = 0; tries < WRITE_MAX_TRIES && result == VCPU_PV_WRITE_CHANGED;
         tries++) {
        w->old = now;
        if (w->in.id == INSN_CMPXCHG) {
            result = write_cmpxchg(w, gpa);
            now = w->old;
            continue;
        }
        if (!write_compute(w)) {
            return false;
        }
        result = w->v->pv->table_write(w->v, gpa, w->size, &now, w->new);
    }
    return result == VCPU_PV_WRITE_DONE;
}

bool x86_pv_table_write(struct vcpu *v, uint64_t gva, uint64_t gpa)
{
    struct table_write w = {.v = v};
    const struct insn_operand *mem;
    struct x86_fault fault;
    uint64_t at;

    if (!write_decode(&w)) {
        return false;
    }
    mem = insn_mem_operand(&w.in);
    if (mem == NULL || (mem->access & OPA_WRITE) == 0 || mem->size == 0 || mem->size > 8 ||
        (mem->size & (mem->size - 1)) != 0 ||
        !x86_insn_linear(v, &w.in, 0, mem->size, X86_WRITE, &at, &fault)) {
        return false;
    }
    w.size = mem->size;
    w.mask = w.size == 8 ? UINT64_MAX : (1ull << (w.size * 8)) - 1;
    write_operand(&w);
    if (w.in.id == INSN_BTS || w.in.id == INSN_BTR || w.in.id == INSN_BTC) {
        const struct insn_operand *reg = x86_insn_operand(&w.in, OPK_GPR);

        if (reg != NULL) { /* a register offset reaches beyond the operand */
            int64_t bit = (int64_t)x86_gpr_read(&v->cpu, reg->reg, 8);

            bit = w.size == 4 ? (int32_t)bit : w.size == 2 ? (int16_t)bit : bit;
            at += (uint64_t)((bit >> (w.size == 8 ? 6 : w.size == 4 ? 5 : 4)) * w.size);
        }
    }
    if (at != gva || at % w.size != 0 || !write_loop(&w, gpa)) {
        return false;
    }
    write_register(&w);
    v->cpu.rflags = (v->cpu.rflags & ~(uint64_t)CPU_STATUS_FLAGS) | w.flags;
    v->cpu.rip += w.in.len;
    return true;
}
