/* SPDX-License-Identifier: MIT */
/*
 * Changes of privilege as code that all translations share: SYSCALL from 64-bit user code and
 * SYSRETQ (SDM vol. 2). Each does what the function of that name in cpu/interp/transit.c does,
 * which is the reference, and goes on through the table of jumps. Before anything is changed it
 * looks for all that is unusual, and has that function do it: so it need not know what is to be
 * done then. MSRs and tables are read every time; they may have been written by anybody.
 *
 * On the way in guest registers and flags are as at a call of C (common.c): flags are in e->fl.
 *     r10d: rec    r11: the rip behind the instruction
 * Inside, r11 is the vcpu, and rax, rcx, rdx and r10 are scratch; the guest's are put aside.
 */
#include "engine.h"

#include "cpu/interp/alu.h"
#include "emit.h"

#define GS(field)   offsetof(struct dbt, field)
#define VCPU(field) offsetof(struct vcpu, field)
#define SEG(which, field)                                                                      \
    (VCPU(cpu.seg) + (which) * sizeof(struct cpu_segment) + offsetof(struct cpu_segment, field))
enum { RAX, RCX, RDX, RSP = 4 };
enum { JE = 4, JNE = 5 };
enum { ATTR_CODE64 = 0xa09b, ATTR_DATA = 0xc093, ATTR_DPL3 = 3 << CPU_SEG_DPL_SHIFT };
enum { KEY_USER = MODE_64 | 16 }; /* of interp.key_modes */
#define SYSRET_FLAGS 0x3c7fd7u

/* One in the making. */
struct transit {
    struct dbt *d;
    struct emit *c;
    uint32_t refused[24]; /* jumps to where it is left to C */
    unsigned nr_refused;
};

/* ---- words ---- */

static struct emit_mem transit_at(unsigned base, size_t offset)
{
    return (struct emit_mem){
        .base = (uint8_t)base, .index = EMIT_NO_REG, .scale = 1, .disp = (int32_t)offset};
}

static void transit_vcpu(struct transit *t, unsigned op, unsigned reg, size_t field)
{
    struct emit_mem m = transit_at(HOST_R11, field);

    emit_op_mem(t->c, op, reg, &m);
}

static void transit_vcpu_imm(struct transit *t, enum emit_imm op, unsigned size, size_t field,
                             uint32_t imm)
{
    struct emit_mem m = transit_at(HOST_R11, field);

    emit_imm_mem(t->c, op, size, &m, imm);
}

/* Jumps that lead here. */
static void transit_patch(struct transit *t, const uint32_t *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        emit_patch(t->c->start, at[i], emit_offset(t->c));
    }
}

/* Left to C under this condition. */
static void transit_refuse_if(struct transit *t, unsigned cond)
{
    g_assert(t->nr_refused < G_N_ELEMENTS(t->refused));
    t->refused[t->nr_refused++] = emit_jcc(t->c, cond);
}

/* Refuses an address that is not. Changes rax. */
static void transit_canonical(struct transit *t, unsigned reg)
{
    emit_mov(t->c, RAX, reg);
    emit_shift(t->c, EMIT_SHL, RAX, 16);
    emit_shift(t->c, EMIT_SAR, RAX, 16);
    emit_op_reg(t->c, EMIT_CMP_LOAD, RAX, reg);
    transit_refuse_if(t, JNE);
}

/* ---- the way in and out ---- */

/*
 * 64-bit code, and nobody wants anything: no trap, no breakpoint, no shadow of STI (attention),
 * no request, whether it matters now or not. Who comes to want something behind this is met by the
 * poll of the translation that is gone to.
 */
static void transit_begin(struct transit *t)
{
    struct emit *c = t->c;

    t->nr_refused = 0;
    emit_op32_gs(c, EMIT_STORE, HOST_R10, GS(rec));
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(transit_next));
    emit_op_gs(c, EMIT_STORE, RAX, GS(transit_rax));
    emit_op_gs(c, EMIT_STORE, RCX, GS(transit_rcx));
    emit_op_gs(c, EMIT_STORE, RDX, GS(transit_rdx));
    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(interp.v));
    emit_imm_gs(c, EMIT_CMP, 1, GS(interp.mode), MODE_64);
    transit_refuse_if(t, JNE);
    emit_imm_gs(c, EMIT_CMP, 4, GS(interp.attention), 0);
    transit_refuse_if(t, JNE);
    transit_vcpu_imm(t, EMIT_CMP, 4, VCPU(request), 0);
    transit_refuse_if(t, JNE);
}

static void transit_registers(struct transit *t)
{
    emit_op_gs(t->c, EMIT_LOAD, RAX, GS(transit_rax));
    emit_op_gs(t->c, EMIT_LOAD, RCX, GS(transit_rcx));
    emit_op_gs(t->c, EMIT_LOAD, RDX, GS(transit_rdx));
}

/* Where all that were refused arrive: nothing has changed. */
static void transit_refused(struct transit *t)
{
    transit_patch(t, t->refused, t->nr_refused);
    transit_registers(t);
    emit_op32_gs(t->c, EMIT_LOAD, HOST_R10, GS(rec));
    emit_mov_imm64(t->c, HOST_R11, (uint64_t)(uintptr_t)dbt_system);
    emit_jmp_to(t->c, t->d->common_c);
}

/* ---- parts of the state ---- */

/* The guest's flags, all of them, to rax. Changes r10. As transit_flags(). */
static void transit_flags(struct transit *t)
{
    struct emit *c = t->c;

    emit_op32_gs(c, EMIT_LOAD, RAX, GS(interp.fl)); /* alu_unpack() */
    emit_mov(c, HOST_R10, RAX);
    emit_shift(c, EMIT_SHR, RAX, 8);
    emit_imm_reg(c, EMIT_AND, RAX, 0xd5);
    emit_imm_reg(c, EMIT_AND, HOST_R10, 1);
    emit_shift(c, EMIT_SHL, HOST_R10, 11);
    emit_op_reg(c, EMIT_OR_LOAD, RAX, HOST_R10);
    transit_vcpu(t, EMIT_LOAD, HOST_R10, VCPU(cpu.rflags));
    emit_imm_reg(c, EMIT_AND, HOST_R10, ~(uint32_t)CPU_STATUS_FLAGS);
    emit_op_reg(c, EMIT_OR_LOAD, RAX, HOST_R10);
    emit_imm_reg(c, EMIT_OR, RAX, 2);
}

/* rax becomes the guest's flags, and decides whether interrupts matter. Changes rax and r10. As
 * transit_set_flags(), and the part of transit_settle() that depends on them. */
static void transit_set_flags(struct transit *t)
{
    struct emit *c = t->c;

    G_STATIC_ASSERT(CPU_IF >> 8 == VCPU_REQ_IRQ);
    emit_imm_reg(c, EMIT_OR, RAX, 2);
    transit_vcpu(t, EMIT_STORE, RAX, VCPU(cpu.rflags));
    emit_mov(c, HOST_R10, RAX);
    emit_shift(c, EMIT_SHR, HOST_R10, 8);
    emit_imm_reg(c, EMIT_AND, HOST_R10, VCPU_REQ_IRQ);
    emit_imm_gs(c, EMIT_AND, 4, GS(interp.request_mask), ~(uint32_t)VCPU_REQ_IRQ);
    emit_op32_gs(c, EMIT_OR_STORE, HOST_R10, GS(interp.request_mask));
    emit_mov(c, HOST_R10, RAX); /* alu_pack() */
    emit_shift(c, EMIT_SHR, HOST_R10, 11);
    emit_imm_reg(c, EMIT_AND, HOST_R10, 1);
    emit_imm_reg(c, EMIT_AND, RAX, 0xd5);
    emit_shift(c, EMIT_SHL, RAX, 8);
    emit_op_reg(c, EMIT_OR_LOAD, RAX, HOST_R10);
    emit_imm_reg(c, EMIT_OR, RAX, 0x200);
    emit_op32_gs(c, EMIT_STORE, RAX, GS(interp.fl));
}

/* A segment of 4 GiB from 0 on, with the selector in rax, which changes. As transit_flat(). */
static void transit_flat(struct transit *t, unsigned which, unsigned attr)
{
    struct emit *c = t->c;

    G_STATIC_ASSERT(offsetof(struct cpu_segment, attr) == 2);
    G_STATIC_ASSERT(offsetof(struct cpu_segment, unusable) == 4);
    emit_bytes(c, (const uint8_t[]){0x0f, 0xb7, 0xc0}, 3); /* movzwl %ax,%eax */
    emit_mov_imm32(c, HOST_R10, attr << 16);
    emit_op_reg(c, EMIT_OR_LOAD, RAX, HOST_R10);
    transit_vcpu(t, EMIT_STORE, RAX, SEG(which, selector));
    transit_vcpu_imm(t, EMIT_SET, 4, SEG(which, limit), UINT32_MAX);
    transit_vcpu_imm(t, EMIT_SET, 8, SEG(which, base), 0);
}

/* The keys of transit_settle(), for this privilege. Changes rax and r10. */
static void transit_keys(struct transit *t, bool user)
{
    struct emit *c = t->c;

    emit_op_gs(c, EMIT_LOAD, RAX,
               GS(interp.key_modes) + (user ? KEY_USER : MODE_64) * sizeof(uint64_t));
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(interp.key_global));
    emit_op_reg(c, EMIT_XOR_LOAD, HOST_R10, RAX);
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(interp.jump_key_global));
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(interp.key_local));
    emit_op_reg(c, EMIT_XOR_LOAD, RAX, HOST_R10);
    emit_op_gs(c, EMIT_STORE, RAX, GS(interp.jump_key));
    if (user) {
        emit_op32_gs(c, EMIT_STORE, HOST_R10, GS(interp.jump_salt));
    } else {
        emit_store32_gs(c, GS(interp.jump_salt), 0);
    }
}

/* The cached page of the stack, as dbt_stack_switch() does it. R9 is the host address of RSP, by
 * the new page, afterwards. Changes rax and r10. */
static void transit_stack(struct transit *t, unsigned from, unsigned to)
{
    static const size_t words[] = {offsetof(struct interp_stack, base),
                                   offsetof(struct interp_stack, addend),
                                   offsetof(struct interp_stack, minus)};
    size_t old = GS(interp.stacks) + from * sizeof(struct interp_stack);
    size_t new = GS(interp.stacks) + to * sizeof(struct interp_stack);
    struct emit *c = t->c;

    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, GS(interp.stack.minus));
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, new + offsetof(struct interp_stack, addend));
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        emit_op_gs(c, EMIT_LOAD, RAX, GS(interp.stack) + words[i]);
        emit_op_gs(c, EMIT_LOAD, HOST_R10, new + words[i]);
        emit_op_gs(c, EMIT_STORE, RAX, old + words[i]);
        emit_op_gs(c, EMIT_STORE, HOST_R10, GS(interp.stack) + words[i]);
        if (words[i] == 0) {
            emit_op_gs(c, EMIT_STORE, HOST_R10, GS(stack_base));
        }
    }
}

/* To another privilege: TLB, keys, the stacks of returns and the page of the stack. Changes rax and
 * r10. */
static void transit_switch(struct transit *t, unsigned from, unsigned to)
{
    struct emit *c = t->c;

    transit_vcpu_imm(t, EMIT_SET, 1, VCPU(cpu.cpl), to == TLB_USER ? 3 : 0);
    emit_mov_imm64(c, RAX, (uint64_t)(uintptr_t)&t->d->interp.tlbs[to]);
    emit_op_gs(c, EMIT_STORE, RAX, GS(interp.tlb));
    transit_keys(t, to == TLB_USER);
    transit_stack(t, from, to);
    emit_op_gs(c, EMIT_STORE, RSP, GS(sps) + from * sizeof(uint64_t));
    emit_op_gs(c, EMIT_LOAD, RSP, GS(sps) + to * sizeof(uint64_t));
    emit_imm_gs(c, EMIT_SET, 8, GS(jump_at), to * (uint32_t)sizeof(struct dbt_jumps));
    emit_imm_gs(c, EMIT_SET, 4, GS(index), to);
}

/* ---- on ---- */

/* Page tables have changed since somebody looked with this TLB (dbt_jumps_check()): two jumps to
 * where that is cared for. Changes rax. */
static void transit_epochs(struct transit *t, unsigned to, uint32_t changed[2])
{
    struct emit *c = t->c;

    emit_op_gs(c, EMIT_LOAD, RAX, GS(interp.epoch_local));
    emit_op_gs(c, EMIT_CMP_LOAD, RAX, GS(jump_epoch) + to * sizeof(uint64_t));
    changed[0] = emit_jcc(c, JNE);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(interp.epoch_global));
    emit_op_gs(c, EMIT_CMP_LOAD, RAX, GS(jump_epoch_global) + to * sizeof(uint64_t));
    changed[1] = emit_jcc(c, JNE);
}

/* As dbt_jumps_check() for a table whose entries are told apart by address space; wanted behind
 * every switch to another one. Changes rax. */
static void transit_returns(struct transit *t, unsigned to)
{
    struct emit_mem top = transit_at(RSP, 0);
    struct emit *c = t->c;

    emit_op_gs(c, EMIT_LOAD, RAX, GS(interp.epoch_local));
    emit_op_gs(c, EMIT_STORE, RAX, GS(jump_epoch) + to * sizeof(uint64_t));
    emit_op_gs(c, EMIT_LOAD, RAX, GS(interp.epoch_global));
    emit_op_gs(c, EMIT_STORE, RAX, GS(jump_epoch_global) + to * sizeof(uint64_t));
    emit_mov_imm64(c, RSP, dbt_returns_top(t->d, to));
    emit_mov_imm64(c, RAX, (uint64_t)(uintptr_t)(t->d->rx + t->d->common_bottom));
    emit_op_mem(c, EMIT_STORE, RAX, &top);
}

/* All is done: to the rip in r10 with this TLB. What is put aside becomes the registers. */
static void transit_go(struct transit *t, unsigned to)
{
    size_t jumps = GS(jumps) + to * sizeof(struct dbt_jumps);
    struct emit_mem m = {.base = EMIT_NO_REG, .index = HOST_R11, .scale = 8};
    struct emit *c = t->c;
    uint32_t changed[2], missing, on;

    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(keep));
    transit_epochs(t, to, changed);
    on = emit_offset(c);
    dbt_jump_salt_emit(c, to, HOST_R10);
    dbt_jump_slot_emit(c);
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, tag));
    emit_op_gs_mem(c, EMIT_CMP_LOAD, HOST_R10, &m);
    missing = emit_jcc(c, JNE);
    transit_registers(t);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, code));
    emit_jmp_gs_mem(c, &m);
    transit_patch(t, changed, 2);
    if (interp_keyed(to)) { /* the table need not be cleared */
        transit_returns(t, to);
        emit_jmp_to(c, on);
    }
    transit_patch(t, &missing, 1);
    transit_registers(t);
    emit_jmp_to(c, t->d->common_arrive);
}

static void transit_count(struct transit *t, enum dbt_count which)
{
    emit_imm_gs(t->c, EMIT_ADD, 8, GS(counts.n) + which * sizeof(uint64_t), 1);
}

/* ---- system calls ---- */

/* From user code. Refused: flags that would leave AC set, which is another TLB under SMAP. */
static void transit_syscall(struct transit *t)
{
    struct emit *c = t->c;

    t->d->common_syscall = emit_offset(c);
    transit_begin(t);
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(cpu.efer));
    emit_test_reg(c, RAX, CPU_EFER_SCE);
    transit_refuse_if(t, JE);
    transit_flags(t);
    transit_vcpu(t, EMIT_LOAD, RDX, VCPU(cpu.fmask));
    emit_imm_reg(c, EMIT_OR, RDX, CPU_RF);
    emit_not(c, RDX);
    emit_op_reg(c, EMIT_AND_LOAD, RDX, RAX);
    emit_test_reg(c, RDX, CPU_AC);
    transit_refuse_if(t, JNE);
    transit_count(t, COUNT_SYSTEM);
    emit_imm_reg(c, EMIT_AND, RAX, ~(uint32_t)CPU_RF);
    emit_op_gs(c, EMIT_STORE, RAX, GS(slot[CPU_R11 - CPU_R9]));
    emit_mov(c, RAX, RDX);
    transit_set_flags(t);
    transit_vcpu(t, EMIT_LOAD, RDX, VCPU(cpu.star));
    emit_shift(c, EMIT_SHR, RDX, 32);
    emit_imm_reg(c, EMIT_AND, RDX, 0xfffc);
    emit_mov(c, RAX, RDX);
    transit_flat(t, CPU_CS, ATTR_CODE64);
    emit_lea(c, RAX, RDX, 8);
    transit_flat(t, CPU_SS, ATTR_DATA);
    transit_switch(t, TLB_USER, TLB_SUPERVISOR);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(transit_next));
    emit_op_gs(c, EMIT_STORE, RAX, GS(transit_rcx));
    transit_vcpu(t, EMIT_LOAD, HOST_R10, VCPU(cpu.lstar));
    transit_go(t, TLB_SUPERVISOR);
    transit_refused(t);
}

/* The stack segment's selector is in rax. AMD's leaves all but the privilege as it is. */
static void transit_sysret_ss(struct transit *t)
{
    struct emit_mem selector = transit_at(HOST_R11, SEG(CPU_SS, selector));
    struct emit *c = t->c;
    uint32_t intel, over;

    emit_imm_gs(c, EMIT_CMP, 1, GS(interp.amd), 0);
    intel = emit_short(c, JE);
    emit_byte(c, 0x66); /* 16 bits */
    emit_byte(c, 0x40 | emit_rex_mem(RAX, &selector));
    emit_byte(c, EMIT_STORE);
    emit_modrm_mem(c, RAX, &selector);
    transit_vcpu_imm(t, EMIT_OR, 2, SEG(CPU_SS, attr), ATTR_DPL3);
    over = emit_jmp(c);
    emit_short_here(c, intel);
    transit_flat(t, CPU_SS, ATTR_DATA | ATTR_DPL3);
    emit_patch(c->start, over, emit_offset(c));
}

/* To 64-bit user code. Refused: SYSRET at CPL 1 and 2, and flags that the next block must know
 * of. */
static void transit_sysret(struct transit *t)
{
    struct emit *c = t->c;

    t->d->common_sysret = emit_offset(c);
    transit_begin(t);
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(cpu.efer));
    emit_test_reg(c, RAX, CPU_EFER_SCE);
    transit_refuse_if(t, JE);
    transit_vcpu_imm(t, EMIT_CMP, 1, VCPU(cpu.cpl), 0);
    transit_refuse_if(t, JNE);
    transit_canonical(t, RCX);
    emit_op_gs(c, EMIT_LOAD, RDX, GS(slot[CPU_R11 - CPU_R9]));
    emit_imm_reg(c, EMIT_AND, RDX, SYSRET_FLAGS);
    emit_test_reg(c, RDX, CPU_TF | CPU_AC);
    transit_refuse_if(t, JNE);
    transit_count(t, COUNT_SYSTEM);
    emit_mov(c, RAX, RDX);
    transit_set_flags(t);
    transit_vcpu(t, EMIT_LOAD, RDX, VCPU(cpu.star));
    emit_shift(c, EMIT_SHR, RDX, 48);
    emit_lea(c, RAX, RDX, 16);
    emit_imm_reg(c, EMIT_OR, RAX, 3);
    transit_flat(t, CPU_CS, ATTR_CODE64 | ATTR_DPL3);
    emit_lea(c, RAX, RDX, 8);
    emit_imm_reg(c, EMIT_OR, RAX, 3);
    transit_sysret_ss(t);
    transit_switch(t, TLB_SUPERVISOR, TLB_USER);
    emit_mov(c, HOST_R10, RCX);
    transit_go(t, TLB_USER);
    transit_refused(t);
}

void dbt_transit_emit(struct dbt *d, struct emit *c)
{
    struct transit t = {.d = d, .c = c};

    transit_syscall(&t);
    transit_sysret(&t);
}
