/* SPDX-License-Identifier: MIT */
/*
 * System instructions. The few that kernels execute around every lock, entry and switch are
 * written here, changes of privilege are jumps to transit_emit.c; whatever is unusual about them
 * (another CPL, something waiting) and all others are dbt_system()'s.
 */
#include "translate.h"

#include "cpu/interp/alu.h"

#define VCPU(field) ((uint32_t)offsetof(struct vcpu, field))

/* insn $imm, field(%r11) with a 32-bit operand; op: 4 AND, 1 OR, 7 CMP. */
static void system_op_vcpu(struct emit *c, unsigned op, uint32_t field, uint32_t imm)
{
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, (uint8_t)(0x83 | op << 3)}, 3);
    emit_u32(c, field);
    emit_u32(c, imm);
}

static void system_op_gs(struct emit *c, unsigned op, size_t field, uint32_t imm)
{
    emit_bytes(c, (const uint8_t[]){0x65, 0x81, (uint8_t)(0x04 | op << 3), 0x25}, 4);
    emit_u32(c, (uint32_t)field);
    emit_u32(c, imm);
}

static void system_vcpu64(struct emit *c, unsigned op, unsigned reg, uint32_t field)
{
    struct emit_mem m = {.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1,
                         .disp = (int32_t)field};

    emit_op_mem(c, op, reg, &m);
}

/* v to r11; not at CPL 0: slowly. */
static void system_kernel(struct tr *t)
{
    tr_clobber(t);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(interp.v));
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x80, 0xbb}, 3); /* cmpb $0, cpl(%r11) */
    emit_u32(&t->c, VCPU(cpu.cpl));
    emit_byte(&t->c, 0);
    tr_slow_if(t, 5);
}

static void system_cli(struct tr *t)
{
    system_kernel(t);
    system_op_vcpu(&t->c, 4, VCPU(cpu.rflags), ~(uint32_t)CPU_IF);
    system_op_gs(&t->c, 4, TR_GS(interp.request_mask), ~(uint32_t)VCPU_REQ_IRQ);
}

/* What was asked for before is seen here, what is later by the poll. */
static void system_sti(struct tr *t, const struct insn *in)
{
    system_kernel(t);
    system_op_vcpu(&t->c, 7, VCPU(request), 0);
    tr_slow_if(t, 5);
    system_op_vcpu(&t->c, 1, VCPU(cpu.rflags), CPU_IF);
    system_op_gs(&t->c, 1, TR_GS(interp.request_mask), VCPU_REQ_IRQ);
    tr_guest_address(t, HOST_R10, t->ip + in->len);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(interp.sti_rip));
}

static void system_swapgs(struct tr *t)
{
    uint32_t base = VCPU(cpu.seg) + CPU_GS * sizeof(struct cpu_segment) +
                    offsetof(struct cpu_segment, base);
    struct emit *c = &t->c;

    system_kernel(t);
    emit_op_gs(c, EMIT_STORE, CPU_RAX, TR_GS(tmp));
    system_vcpu64(c, EMIT_LOAD, HOST_R10, VCPU(cpu.kernel_gs_base));
    system_vcpu64(c, EMIT_LOAD, CPU_RAX, base);
    system_vcpu64(c, EMIT_STORE, HOST_R10, base);
    system_vcpu64(c, EMIT_STORE, CPU_RAX, VCPU(cpu.kernel_gs_base));
    emit_op_gs(c, EMIT_STORE, HOST_R10, TR_GS(seg_base[1]));
    emit_op_gs(c, EMIT_LOAD, CPU_RAX, TR_GS(tmp));
}

static void system_pushf(struct tr *t)
{
    struct tr_operand slot = {.base = CPU_RSP, .index = INSN_NO_REG, .scale = 1, .seg = CPU_SS,
                              .disp = -8, .size = 8, .write = true};
    const uint32_t kept = ~(uint32_t)(CPU_STATUS_FLAGS | CPU_RF | CPU_VM);
    struct emit *c = &t->c;
    struct emit_mem m;

    tr_clobber(t);
    emit_op32_gs(c, EMIT_LOAD, HOST_R10, TR_GS(interp.fl)); /* as alu_unpack() */
    emit_mov(c, HOST_R11, HOST_R10);
    emit_bytes(c, (const uint8_t[]){0x41, 0xc1, 0xea, 8}, 4);    /* shr $8,%r10d */
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe2}, 3);       /* and $0xd5,%r10d */
    emit_u32(c, 0xd5);
    emit_bytes(c, (const uint8_t[]){0x41, 0x83, 0xe3, 1}, 4);    /* and $1,%r11d */
    emit_bytes(c, (const uint8_t[]){0x41, 0xc1, 0xe3, 11}, 4);   /* shl $11,%r11d */
    emit_bytes(c, (const uint8_t[]){0x45, 0x09, 0xda}, 3);       /* or %r11d,%r10d */
    emit_op_gs(c, EMIT_LOAD, HOST_R11, TR_GS(interp.v));
    system_vcpu64(c, EMIT_LOAD, HOST_R11, VCPU(cpu.rflags));
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3);       /* and $..,%r11d */
    emit_u32(c, kept | 2);
    emit_bytes(c, (const uint8_t[]){0x45, 0x09, 0xda}, 3);       /* or %r11d,%r10d */
    emit_op_gs(c, EMIT_STORE, HOST_R10, TR_GS(tmp));
    tr_check(t, &slot, &m);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, TR_GS(tmp));
    emit_op_mem(c, EMIT_STORE, HOST_R10, &m);
    emit_lea(c, HOST_STACK, HOST_STACK, -8);
}

/* ---- registers ---- */

/* test $bits, field(%r11): slowly under this condition. */
static void system_test(struct tr *t, uint32_t field, uint32_t bits, unsigned slow)
{
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0xf7, 0x83}, 3);
    emit_u32(&t->c, field);
    emit_u32(&t->c, bits);
    tr_slow_if(t, slow);
}

/* v to r11. */
static void system_vcpu(struct tr *t)
{
    t->may_redo = false; /* registers change that flags may come from */
    tr_clobber(t);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R11, TR_GS(interp.v));
}

static void system_rdtsc(struct tr *t)
{
    struct emit *c = &t->c;

    system_vcpu(t);
    system_test(t, VCPU(cpu.cr4), CPU_CR4_TSD, 5);
    emit_bytes(c, (const uint8_t[]){0x0f, 0x31}, 2); /* rdtsc */
    emit_shift(c, EMIT_SHL, CPU_RDX, 32);
    emit_op_reg(c, EMIT_OR_LOAD, CPU_RAX, CPU_RDX);
    system_vcpu64(c, EMIT_ADD_LOAD, CPU_RAX, VCPU(cpu.tsc_offset));
    emit_mov(c, CPU_RDX, CPU_RAX);
    emit_shift(c, EMIT_SHR, CPU_RDX, 32);
    emit_bytes(c, (const uint8_t[]){0x89, 0xc0}, 2); /* mov %eax,%eax */
}

/* Where AC is clear already, as whenever user memory is not being accessed: nothing. */
static void system_clac(struct tr *t)
{
    system_kernel(t);
    system_test(t, VCPU(cpu.rflags), CPU_AC, 5);
}

static unsigned system_rm(const struct insn *in)
{
    return (in->modrm & 7u) | ((in->rex & INSN_REX_B) != 0 ? 8u : 0u);
}

static void system_from_cr2(struct tr *t, const struct insn *in)
{
    t->may_redo = false;
    system_kernel(t);
    system_vcpu64(&t->c, EMIT_LOAD, HOST_R10, VCPU(cpu.cr2));
    tr_set(t, system_rm(in), HOST_R10);
}

/* Bases of FS and GS by their instructions, of 64 bits. */
static void system_base(struct tr *t, const struct insn *in)
{
    bool fs = in->id == INSN_RDFSBASE || in->id == INSN_WRFSBASE;
    uint32_t base = VCPU(cpu.seg) + (fs ? CPU_FS : CPU_GS) * sizeof(struct cpu_segment) +
                    offsetof(struct cpu_segment, base);
    struct emit *c = &t->c;

    system_vcpu(t);
    system_test(t, VCPU(cpu.cr4), CPU_CR4_FSGSBASE, 4);
    if (in->id == INSN_RDFSBASE || in->id == INSN_RDGSBASE) {
        system_vcpu64(c, EMIT_LOAD, HOST_R10, base);
        tr_set(t, system_rm(in), HOST_R10);
        return;
    }
    tr_get(t, HOST_R10, system_rm(in));
    emit_mov(c, HOST_R11, HOST_R10);
    emit_shift(c, EMIT_SHL, HOST_R11, 16);
    emit_shift(c, EMIT_SAR, HOST_R11, 16);
    emit_op_reg(c, EMIT_CMP_LOAD, HOST_R11, HOST_R10);
    tr_slow_if(t, 5); /* not canonical */
    emit_op_gs(c, EMIT_LOAD, HOST_R11, TR_GS(interp.v));
    system_vcpu64(c, EMIT_STORE, HOST_R10, base);
    emit_op_gs(c, EMIT_STORE, HOST_R10, TR_GS(seg_base[fs ? 0 : 1]));
}

/* Of those, whether it was written out. RSP is C's. */
static bool system_register(struct tr *t, const struct insn *in, bool kernel)
{
    unsigned cr = (in->modrm >> 3 & 7u) | ((in->rex & INSN_REX_R) != 0 ? 8u : 0u);

    if (in->id == INSN_RDTSC) {
        system_rdtsc(t);
    } else if (in->id == INSN_CLAC && kernel) {
        system_clac(t);
    } else if (in->id == INSN_MOV_FROM_CR && kernel && cr == 2 && system_rm(in) != CPU_RSP) {
        system_from_cr2(t, in);
    } else if (in->id >= INSN_RDFSBASE && in->id <= INSN_WRGSBASE && in->opsize == 8 &&
               system_rm(in) != CPU_RSP) {
        system_base(t, in);
    } else {
        return false;
    }
    return true;
}

/* Does the guest's processor have it? */
static bool system_known(const struct tr *t, const struct insn *in)
{
    const struct cpu_model *model = t->d->interp.v->model;

    return in->feature == INSN_FEAT_BASE || model == NULL || cpu_model_has(model, in->feature);
}

/* Shared code that may do it; 0: none. */
static uint32_t system_transit(const struct tr *t, const struct insn *in)
{
    const struct dbt *d = t->d;

    if (d->interp.v->pv != NULL || d->lockstep != NULL || !system_known(t, in)) {
        return 0;
    }
    if (in->id == INSN_SYSCALL && t->index == TLB_USER) {
        return d->common_syscall;
    }
    if (in->id == INSN_SYSRET && in->opsize == 8 && t->index == TLB_SUPERVISOR) {
        return d->common_sysret;
    }
    if (in->id == INSN_IRET && in->opsize == 8 && t->index == TLB_SUPERVISOR) {
        return d->common_iret;
    }
    return 0;
}

void tr_system(struct tr *t, const struct insn *in)
{
    bool kernel = t->index != TLB_USER && t->d->interp.v->pv == NULL;
    uint32_t transit = system_transit(t, in);

    if (tr_is32(t)) {
        tr_call_c(t, dbt_system);
    } else if (transit != 0) {
        tr_transit(t, in, transit);
    } else if (in->id == INSN_CLI && kernel) {
        system_cli(t);
    } else if (in->id == INSN_STI && kernel) {
        system_sti(t, in);
    } else if (in->id == INSN_SWAPGS && kernel) {
        system_swapgs(t);
    } else if (in->id == INSN_PUSHF && in->opsize == 8 && kernel) {
        system_pushf(t);
    } else if (!system_known(t, in) || !system_register(t, in, kernel)) {
        tr_call_c(t, dbt_system);
    }
}
