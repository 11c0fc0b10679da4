/* SPDX-License-Identifier: MIT */
/*
 * What changes of privilege (transit_emit.c) consist of: the way in, and to C; the guest's tables;
 * flags, segments, TLB, stacks; and on through the table of jumps.
 */
#include "transit_emit.h"

#include "cpu/interp/alu.h"

enum { KEY_USER = MODE_64 | 16 }; /* of interp.key_modes */

/* ---- words ---- */

struct emit_mem transit_at(unsigned base, size_t offset)
{
    return (struct emit_mem){
        .base = (uint8_t)base, .index = EMIT_NO_REG, .scale = 1, .disp = (int32_t)offset};
}

void transit_vcpu(struct transit *t, unsigned op, unsigned reg, size_t field)
{
    struct emit_mem m = transit_at(HOST_R11, field);

    emit_op_mem(t->c, op, reg, &m);
}

void transit_vcpu_imm(struct transit *t, enum emit_imm op, unsigned size, size_t field,
                      uint32_t imm)
{
    struct emit_mem m = transit_at(HOST_R11, field);

    emit_imm_mem(t->c, op, size, &m, imm);
}

/* Jumps that lead here. */
void transit_patch(struct transit *t, const uint32_t *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        emit_patch(t->c->start, at[i], emit_offset(t->c));
    }
}

/* Left to C under this condition. */
void transit_refuse_if(struct transit *t, unsigned cond)
{
    g_assert(t->nr_refused < G_N_ELEMENTS(t->refused));
    t->refused[t->nr_refused++] = emit_jcc(t->c, cond);
}

/* Refuses an address that is not. Changes rax. */
void transit_canonical(struct transit *t, unsigned reg)
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
 * none of the requests `wanted`, whether they matter now or not. Who comes to want something
 * behind this is met by the poll of the translation that is gone to.
 */
void transit_begin(struct transit *t, uint32_t wanted)
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
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(request));
    emit_test_reg(c, RAX, wanted);
    transit_refuse_if(t, JNE);
}

static void transit_registers(struct transit *t)
{
    emit_op_gs(t->c, EMIT_LOAD, RAX, GS(transit_rax));
    emit_op_gs(t->c, EMIT_LOAD, RCX, GS(transit_rcx));
    emit_op_gs(t->c, EMIT_LOAD, RDX, GS(transit_rdx));
}

/* Where all that were refused arrive: nothing has changed. An event says itself who does it. */
void transit_refused(struct transit *t, bool event)
{
    transit_patch(t, t->refused, t->nr_refused);
    transit_registers(t);
    emit_op32_gs(t->c, EMIT_LOAD, HOST_R10, GS(rec));
    if (event) {
        emit_op_gs(t->c, EMIT_LOAD, HOST_R11, GS(event.refused));
    } else {
        emit_mov_imm64(t->c, HOST_R11, (uint64_t)(uintptr_t)dbt_system);
    }
    emit_jmp_to(t->c, t->d->common_c);
}

/* ---- the guest's memory ---- */

/*
 * r10: a guest address and, in rcx, that of its last byte, both by the rights of the kernel: to the
 * host address of the first one. Refuses where the TLB has no tag, for reads or writes, that allows
 * that: it is the one of the page of the last byte where the one of the first would be, so both lie
 * in the same page. Changes rax and rcx.
 */
void transit_host(struct transit *t, size_t tag)
{
    size_t entry = GS(interp.tlbs) + TLB_SUPERVISOR * sizeof(struct tlb);
    struct emit *c = t->c;

    emit_imm_reg(c, EMIT_AND, RCX, ~(uint32_t)(MEM_PAGE_SIZE - 1));
    emit_mov(c, RAX, HOST_R10);
    emit_shift(c, EMIT_SHR, RAX, MEM_PAGE_SHIFT - TLB_ENTRY_SHIFT);
    emit_imm_reg(c, EMIT_AND, RAX, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
    emit_op_gs_index(c, EMIT_CMP_LOAD, RCX, RAX, entry + tag);
    transit_refuse_if(t, JNE);
    emit_op_gs_index(c, EMIT_ADD_LOAD, HOST_R10, RAX,
                     entry + offsetof(struct tlb_entry, addend));
}

/* The same for `len` bytes of the processor's own tables. */
void transit_table(struct transit *t, unsigned len)
{
    emit_lea(t->c, RCX, HOST_R10, (int32_t)len - 1);
    transit_host(t, offsetof(struct tlb_entry, read));
}

size_t transit_role(enum interp_role role, size_t field)
{
    return GS(interp.known.role) + role * sizeof(struct interp_descriptor) + field;
}

/*
 * The selector that has this role is in rax; does the GDT still hold what it was when C found it
 * good? Then its meaning need not be found out again. Changes rax, rcx and r10.
 */
void transit_descriptor(struct transit *t, enum interp_role role)
{
    struct emit_mem limit = transit_at(HOST_R11, VCPU(cpu.gdtr.limit));
    struct emit_mem word = transit_at(HOST_R10, 0);
    struct emit *c = t->c;

    emit_movzx16(c, RCX, &limit);
    emit_mov(c, HOST_R10, RAX);
    emit_imm_reg(c, EMIT_OR, HOST_R10, 7);
    emit_op_reg(c, EMIT_CMP_LOAD, HOST_R10, RCX);
    transit_refuse_if(t, JA);
    emit_imm_reg(c, EMIT_AND, HOST_R10, ~7u);
    transit_vcpu(t, EMIT_ADD_LOAD, HOST_R10, VCPU(cpu.gdtr.base));
    transit_table(t, 8);
    emit_op_mem(c, EMIT_LOAD, RAX, &word);
    emit_op_gs(c, EMIT_CMP_LOAD, RAX, transit_role(role, offsetof(struct interp_descriptor, raw)));
    transit_refuse_if(t, JNE);
}

/* The segment register becomes what that is. Changes rax. */
void transit_load(struct transit *t, unsigned which, enum interp_role role)
{
    G_STATIC_ASSERT(sizeof(struct cpu_segment) % sizeof(uint64_t) == 0);
    for (unsigned i = 0; i < sizeof(struct cpu_segment); i += 8) {
        emit_op_gs(t->c, EMIT_LOAD, RAX,
                   transit_role(role, offsetof(struct interp_descriptor, seg) + i));
        transit_vcpu(t, EMIT_STORE, RAX, SEG(which, selector) + i);
    }
}

/* As after a null selector; `unusable` is all that is not 0. Changes rax. */
void transit_null(struct transit *t, unsigned which)
{
    emit_mov_imm64(t->c, RAX, 1ull << (8 * offsetof(struct cpu_segment, unusable)));
    transit_vcpu(t, EMIT_STORE, RAX, SEG(which, selector));
    transit_vcpu_imm(t, EMIT_SET, 8, SEG(which, limit), 0);
    transit_vcpu_imm(t, EMIT_SET, 8, SEG(which, base), 0);
}

/* ---- parts of the state ---- */

/* The guest's flags, all of them, to rax. Changes r10. As transit_flags(). */
void transit_flags(struct transit *t)
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

/* rax becomes the guest's flags, and decides whether interrupts matter. Changes r10. The status
 * flags in e->fl are another matter. */
void transit_set_rflags(struct transit *t)
{
    struct emit *c = t->c;

    G_STATIC_ASSERT(CPU_IF >> 8 == VCPU_REQ_IRQ);
    transit_vcpu(t, EMIT_STORE, RAX, VCPU(cpu.rflags));
    emit_mov(c, HOST_R10, RAX);
    emit_shift(c, EMIT_SHR, HOST_R10, 8);
    emit_imm_reg(c, EMIT_AND, HOST_R10, VCPU_REQ_IRQ);
    emit_imm_gs(c, EMIT_AND, 4, GS(interp.request_mask), ~(uint32_t)VCPU_REQ_IRQ);
    emit_op32_gs(c, EMIT_OR_STORE, HOST_R10, GS(interp.request_mask));
}

/* Both. Changes rax and r10. As transit_set_flags(). */
void transit_set_flags(struct transit *t)
{
    struct emit *c = t->c;

    emit_imm_reg(c, EMIT_OR, RAX, 2);
    transit_set_rflags(t);
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
void transit_flat(struct transit *t, unsigned which, unsigned attr)
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

/* The cached page of the stack, as dbt_stack_switch() does it. R9 is RSP, before and afterwards.
 * Changes rax and r10. */
static void transit_stack(struct transit *t, unsigned from, unsigned to)
{
    static const size_t words[] = {offsetof(struct interp_stack, base),
                                   offsetof(struct interp_stack, addend),
                                   offsetof(struct interp_stack, minus)};
    size_t old = GS(interp.stacks) + from * sizeof(struct interp_stack);
    size_t new = GS(interp.stacks) + to * sizeof(struct interp_stack);
    struct emit *c = t->c;

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

/* To another privilege: TLB, keys, the stacks of returns and the page of the stack. R9 is RSP.
 * Changes rax and r10. */
void transit_switch(struct transit *t, unsigned from, unsigned to)
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
    emit_mov_imm64(c, RAX, (uint64_t)(uintptr_t)(t->d->rx + t->d->common_bottom[0]));
    emit_op_mem(c, EMIT_STORE, RAX, &top);
}

/* All is done: to the rip in r10 with this TLB. R9 is RSP. What is put aside becomes the
 * registers. */
void transit_go(struct transit *t, unsigned to)
{
    size_t jumps = GS(jumps) + to * sizeof(struct dbt_jumps);
    struct emit_mem m = {.base = EMIT_NO_REG, .index = HOST_R11, .scale = 8};
    struct emit *c = t->c;
    uint32_t changed[2], missing[2], on;

    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(keep));
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, GS(interp.stack.addend));
    emit_imm_gs(c, EMIT_CMP, 1, GS(mode) + to, MODE_64); /* dbt_stack_mode() */
    missing[1] = emit_jcc(c, JNE);
    transit_epochs(t, to, changed);
    on = emit_offset(c);
    dbt_jump_salt_emit(c, to, HOST_R10, false);
    dbt_jump_slot_emit(c);
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, tag));
    emit_op_gs_mem(c, EMIT_CMP_LOAD, HOST_R10, &m);
    missing[0] = emit_jcc(c, JNE);
    transit_registers(t);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, code));
    emit_jmp_gs_mem(c, &m);
    transit_patch(t, changed, 2);
    if (interp_keyed(to)) { /* the table need not be cleared */
        transit_returns(t, to);
        emit_jmp_to(c, on);
    }
    transit_patch(t, missing, 2);
    transit_registers(t);
    emit_jmp_to(c, t->d->common_arrive);
}

void transit_count(struct transit *t, enum dbt_count which)
{
    emit_imm_gs(t->c, EMIT_ADD, 8, GS(counts.n) + which * sizeof(uint64_t), 1);
}
