/* SPDX-License-Identifier: MIT */
/*
 * Near control flow and the stack (SDM vol. 2; vol. 1 6.2). Every function moves rip itself,
 * last, and changes RSP only when nothing can fail any more.
 */
#include "engine.h"

#include "alu.h"

/* Bytes of the stack pointer that count. */
static unsigned flow_stack_size(const struct interp *e)
{
    if (interp_is64(e)) {
        return 8;
    }
    return (e->v->cpu.seg[CPU_SS].attr & CPU_SEG_DB) != 0 ? 4 : 2;
}

static void flow_set_rsp(struct interp *e, uint64_t rsp)
{
    interp_set_gpr(e, CPU_RSP, flow_stack_size(e), rsp);
}

/* Opens a stack slot at rsp + delta. */
static bool flow_slot(struct interp *e, int64_t delta, unsigned size, unsigned access,
                      struct mref *m)
{
    uint64_t off = (e->v->cpu.gpr[CPU_RSP] + (uint64_t)delta) & interp_mask(flow_stack_size(e));
    uint64_t va;

    return interp_linear(e, CPU_SS, off, size, access, &va) &&
           interp_mref(e, va, size, access, m);
}

bool interp_push(struct interp *e, uint64_t val, unsigned size)
{
    struct mref m;

    if (!flow_slot(e, -(int64_t)size, size, X86_WRITE, &m)) {
        return false;
    }
    flow_set_rsp(e, e->v->cpu.gpr[CPU_RSP] - size);
    interp_mref_store(e, &m, val);
    return true;
}

static bool flow_peek(struct interp *e, int64_t delta, unsigned size, uint64_t *val)
{
    struct mref m;

    if (!flow_slot(e, delta, size, X86_READ, &m)) {
        return false;
    }
    *val = interp_mref_load(e, &m);
    return true;
}

static void flow_advance(struct interp *e, const struct insn *in)
{
    struct cpu_x86 *cpu = &e->v->cpu;

    cpu->rip += in->len;
    if (!interp_is64(e)) {
        cpu->rip &= (e->mode & MODE_CODE) == MODE_32 ? UINT32_MAX : 0xffff;
    }
}

static bool flow_target_ok(struct interp *e, uint64_t rip)
{
    if (interp_is64(e) ? interp_canonical(rip) : rip <= e->v->cpu.seg[CPU_CS].limit) {
        return true;
    }
    return interp_fault_code(e, CPU_GP, 0);
}

static uint64_t flow_relative(const struct interp *e, const struct insn *in)
{
    return (e->v->cpu.rip + in->len + in->imm) & interp_mask(in->opsize);
}

static bool flow_branch(struct interp *e, uint64_t rip)
{
    if (!flow_target_ok(e, rip)) {
        return false;
    }
    e->v->cpu.rip = rip;
    return true;
}

/* The target of JMP and CALL, relative or indirect. */
static bool flow_target(struct interp *e, const struct insn *in, uint64_t *rip)
{
    if (in->op[0].kind == OPK_REL) {
        *rip = flow_relative(e, in);
        return true;
    }
    if (!interp_operand(e, in, 0, X86_READ)) {
        return false;
    }
    *rip = interp_get(e, in, 0) & interp_mask(in->opsize);
    return true;
}

static bool flow_jmp(struct interp *e, const struct insn *in)
{
    uint64_t rip;

    return flow_target(e, in, &rip) && flow_branch(e, rip);
}

/* The stack is checked before the target is. */
static bool flow_call(struct interp *e, const struct insn *in)
{
    const unsigned size = in->opsize;
    uint64_t rip;
    struct mref m;

    if (!flow_target(e, in, &rip) || !flow_slot(e, -(int64_t)size, size, X86_WRITE, &m) ||
        !flow_target_ok(e, rip)) {
        return false;
    }
    flow_set_rsp(e, e->v->cpu.gpr[CPU_RSP] - size);
    interp_mref_store(e, &m, e->v->cpu.rip + in->len);
    e->v->cpu.rip = rip;
    return true;
}

static bool flow_ret(struct interp *e, const struct insn *in)
{
    uint64_t rip, extra = in->nr_operands > 0 && in->op[0].kind == OPK_IMM ? in->imm : 0;

    if (!flow_peek(e, 0, in->opsize, &rip) || !flow_branch(e, rip)) {
        return false;
    }
    flow_set_rsp(e, e->v->cpu.gpr[CPU_RSP] + in->opsize + extra);
    return true;
}

static bool flow_jcc(struct interp *e, const struct insn *in)
{
    if (alu_cond(e->fl, in->cond)) {
        return flow_branch(e, flow_relative(e, in));
    }
    flow_advance(e, in);
    return true;
}

/* On AMD a repeat prefix decides, not the opcode (seen on Zen 4; compilers emit none). */
static bool flow_loop_wants_zf(const struct interp *e, const struct insn *in)
{
    if (e->amd && (in->prefixes & (INSN_P_REP | INSN_P_REPNE)) != 0) {
        return (in->prefixes & INSN_P_REP) != 0;
    }
    return in->id == INSN_LOOPE;
}

static bool flow_loop(struct interp *e, const struct insn *in)
{
    uint64_t count = e->v->cpu.gpr[CPU_RCX], mask = interp_mask(in->addrsize);
    bool taken;

    if (in->id == INSN_JCXZ) {
        taken = (count & mask) == 0;
    } else {
        count--;
        taken = (count & mask) != 0;
        if (in->id != INSN_LOOP) {
            taken = taken && ((e->fl & 0x4000) != 0) == flow_loop_wants_zf(e, in);
        }
    }
    if (taken && !flow_target_ok(e, flow_relative(e, in))) {
        return false;
    }
    if (in->id != INSN_JCXZ) {
        interp_set_gpr(e, CPU_RCX, in->addrsize, count);
    }
    if (taken) {
        e->v->cpu.rip = flow_relative(e, in);
    } else {
        flow_advance(e, in);
    }
    return true;
}

static bool flow_push(struct interp *e, const struct insn *in)
{
    uint64_t val;

    if (!interp_operand(e, in, 0, X86_READ)) {
        return false;
    }
    val = in->op[0].kind == OPK_IMM ? in->imm : interp_get(e, in, 0);
    if (!interp_push(e, val, in->opsize)) {
        return false;
    }
    flow_advance(e, in);
    return true;
}

static bool flow_pop(struct interp *e, const struct insn *in)
{
    uint64_t val, rsp = e->v->cpu.gpr[CPU_RSP];

    if (!flow_peek(e, 0, in->opsize, &val)) {
        return false;
    }
    /* An address based on RSP uses its value after the increment. */
    flow_set_rsp(e, rsp + in->opsize);
    if (!interp_operand(e, in, 0, X86_WRITE)) {
        e->v->cpu.gpr[CPU_RSP] = rsp;
        return false;
    }
    interp_set(e, in, 0, val);
    flow_advance(e, in);
    return true;
}

/* As processors do it: what is pushed before a fault stays there. */
static bool flow_pusha(struct interp *e, const struct insn *in)
{
    const unsigned size = in->opsize;
    struct mref m;

    for (unsigned i = 0; i < 8; i++) {
        if (!flow_slot(e, -(int64_t)((i + 1) * size), size, X86_WRITE, &m)) {
            return false;
        }
        interp_mref_store(e, &m, interp_gpr(e, i, size));
    }
    flow_set_rsp(e, e->v->cpu.gpr[CPU_RSP] - 8 * size);
    flow_advance(e, in);
    return true;
}

/* Registers popped before a fault have changed, in the same way; RSP has not. */
static bool flow_popa(struct interp *e, const struct insn *in)
{
    uint64_t val;

    for (unsigned i = 0; i < 8; i++) {
        if (!flow_peek(e, i * in->opsize, in->opsize, &val)) {
            return false;
        }
        if (i != 3) { /* the saved stack pointer */
            interp_set_gpr(e, 7 - i, in->opsize, val);
        }
    }
    flow_set_rsp(e, e->v->cpu.gpr[CPU_RSP] + 8 * in->opsize);
    flow_advance(e, in);
    return true;
}

/* One push of ENTER, at slot i below RSP. */
static bool flow_enter_push(struct interp *e, unsigned i, unsigned size, uint64_t val)
{
    struct mref m;

    if (!flow_slot(e, -(int64_t)((i + 1) * size), size, X86_WRITE, &m)) {
        return false;
    }
    interp_mref_store(e, &m, val);
    return true;
}

/* As on hardware, what was pushed before a fault stays in memory, below RSP. */
static bool flow_enter(struct interp *e, const struct insn *in)
{
    const unsigned size = in->opsize, level = in->imm2 & 31;
    const int64_t delta = -(int64_t)((level + 1) * size) - (int64_t)(in->imm & 0xffff);
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t frame = gpr[CPU_RSP] - size, va;
    struct mref m;

    if (!flow_enter_push(e, 0, size, interp_gpr(e, CPU_RBP, size))) {
        return false;
    }
    for (unsigned i = 1; i < level; i++) {
        uint64_t at = (gpr[CPU_RBP] - i * size) & interp_mask(flow_stack_size(e));

        if (!interp_linear(e, CPU_SS, at, size, X86_READ, &va) ||
            !interp_mref(e, va, size, X86_READ, &m) ||
            !flow_enter_push(e, i, size, interp_mref_load(e, &m))) {
            return false;
        }
    }
    if (level > 0 && !flow_enter_push(e, level, size, frame)) {
        return false;
    }
    /* The new top of the stack must be writable too. */
    if (!flow_slot(e, delta, size, X86_WRITE, &m)) {
        return false;
    }
    flow_set_rsp(e, gpr[CPU_RSP] + (uint64_t)delta);
    interp_set_gpr(e, CPU_RBP, MIN(flow_stack_size(e), size), frame);
    flow_advance(e, in);
    return true;
}

static bool flow_leave(struct interp *e, const struct insn *in)
{
    const uint64_t mask = interp_mask(flow_stack_size(e));
    uint64_t *gpr = e->v->cpu.gpr;
    uint64_t rbp = gpr[CPU_RBP], val, va;
    struct mref m;

    if (!interp_linear(e, CPU_SS, rbp & mask, in->opsize, X86_READ, &va) ||
        !interp_mref(e, va, in->opsize, X86_READ, &m)) {
        return false;
    }
    val = interp_mref_load(e, &m);
    flow_set_rsp(e, rbp + in->opsize);
    interp_set_gpr(e, CPU_RBP, in->opsize, val);
    flow_advance(e, in);
    return true;
}

/* One of the two bounds, sign-extended. */
static bool flow_bound_read(struct interp *e, const struct insn *in, unsigned i, int64_t *bound)
{
    const unsigned size = in->opsize, shift = 64 - 8 * size;
    uint64_t off = (interp_offset(e, in) + i * size) & interp_mask(in->addrsize), va;
    struct mref m;

    if (!interp_linear(e, in->seg, off, size, X86_READ, &va) ||
        !interp_mref(e, va, size, X86_READ, &m)) {
        return false;
    }
    *bound = (int64_t)(interp_mref_load(e, &m) << shift) >> shift;
    return true;
}

static bool flow_bound(struct interp *e, const struct insn *in)
{
    const unsigned shift = 64 - 8 * in->opsize;
    int64_t low, high, val = (int64_t)(e->v->cpu.gpr[in->op[0].reg] << shift) >> shift;

    if (!flow_bound_read(e, in, 0, &low) || !flow_bound_read(e, in, 1, &high)) {
        return false;
    }
    if (val < low || val > high) {
        return interp_fault(e, CPU_BR);
    }
    flow_advance(e, in);
    return true;
}

const interp_insn_fn interp_flow_table[INSN_SYSTEM_FIRST] = {
    [INSN_JMP] = flow_jmp,     [INSN_JCC] = flow_jcc,     [INSN_CALL] = flow_call,
    [INSN_RET] = flow_ret,     [INSN_LOOP] = flow_loop,   [INSN_LOOPE] = flow_loop,
    [INSN_LOOPNE] = flow_loop, [INSN_JCXZ] = flow_loop,   [INSN_BOUND] = flow_bound,
    [INSN_PUSH] = flow_push,   [INSN_POP] = flow_pop,     [INSN_PUSHA] = flow_pusha,
    [INSN_POPA] = flow_popa,   [INSN_ENTER] = flow_enter, [INSN_LEAVE] = flow_leave,
};
