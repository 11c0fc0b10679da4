/* SPDX-License-Identifier: MIT */
/*
 * Changes of privilege as code that all translations share: SYSCALL from 64-bit user code, SYSRETQ
 * and IRETQ (SDM vol. 2), and faults and interrupts through gates of the IDT (vol. 3 chapter 6).
 * Each does what the function of that name in cpu/interp/transit.c does, which is the reference,
 * and goes on through the table of jumps. Before anything is changed it
 * looks for all that is unusual, and has that function do it: so it need not know what is to be
 * done then. MSRs and the guest's tables are read every time; they may have been written by
 * anybody. Only what the bytes of a descriptor mean is remembered (interp.known): others than
 * those are left to that function, which takes note of them.
 *
 * Nothing here may fault: memory is accessed where a tag of the TLB, or the cached page of the
 * stack, allows it, and by no other address.
 *
 * On the way in guest registers and flags are as at a call of C (common.c): flags are in e->fl.
 *     r10d: rec    r11: the rip behind the instruction
 * Inside, r11 is the vcpu, and rax, rcx, rdx and r10 are scratch; the guest's are put aside.
 */
#include "transit_emit.h"

enum { ATTR_CODE64 = 0xa09b, ATTR_DATA = 0xc093, ATTR_DPL3 = 3 << CPU_SEG_DPL_SHIFT };
#define SYSRET_FLAGS 0x3c7fd7u

/* ---- system calls ---- */

/* From user code. Refused: flags that would leave AC set, which is another TLB under SMAP. */
static void transit_syscall(struct transit *t)
{
    struct emit *c = t->c;

    t->d->common_syscall = emit_offset(c);
    transit_begin(t, UINT32_MAX);
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
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, GS(interp.stack.minus));
    transit_switch(t, TLB_USER, TLB_SUPERVISOR);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(transit_next));
    emit_op_gs(c, EMIT_STORE, RAX, GS(transit_rcx));
    transit_vcpu(t, EMIT_LOAD, HOST_R10, VCPU(cpu.lstar));
    transit_go(t, TLB_SUPERVISOR);
    transit_refused(t, false);
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
    transit_begin(t, UINT32_MAX);
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
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, GS(interp.stack.minus));
    transit_switch(t, TLB_SUPERVISOR, TLB_USER);
    emit_mov(c, HOST_R10, RCX);
    transit_go(t, TLB_USER);
    transit_refused(t, false);
}

/* ---- IRETQ ---- */

enum { FRAME_RIP = 0, FRAME_CS = 8, FRAME_FLAGS = 16, FRAME_RSP = 24, FRAME_SS = 32, FRAME = 40 };

/*
 * Refuses a frame that is not in the cached page of the stack: there it may be read. Where no page
 * is cached, its address is not canonical, and so is what is in reach of it.
 */
static void transit_frame(struct transit *t)
{
    struct emit *c = t->c;

    emit_mov(c, RAX, HOST_STACK);
    emit_op_gs(c, EMIT_SUB_LOAD, RAX, GS(interp.stack.base));
    emit_imm_reg(c, EMIT_CMP, RAX, MEM_PAGE_SIZE - FRAME);
    transit_refuse_if(t, JA);
    emit_op_reg(c, EMIT_TEST, HOST_STACK, HOST_STACK);
    transit_refuse_if(t, JS);
}

/* A word of it to a register: each is read once. */
static void transit_word(struct transit *t, unsigned reg, unsigned at)
{
    struct emit_mem m = transit_at(HOST_STACK, at);

    emit_op_mem(t->c, EMIT_LOAD, reg, &m);
}

/* Where rip and flags are put until all is known to be good. Changes rax and rdx. */
static void transit_iret_words(struct transit *t)
{
    struct emit *c = t->c;

    transit_word(t, RDX, FRAME_RIP);
    transit_canonical(t, RDX);
    emit_op_gs(c, EMIT_STORE, RDX, GS(keep));
    transit_word(t, RDX, FRAME_FLAGS);
    emit_test_reg(c, RDX, CPU_TF | CPU_AC);
    transit_refuse_if(t, JNE);
    emit_op_gs(c, EMIT_STORE, RDX, GS(transit_next));
}

/* Is the selector in rax the one that has this role? */
static void transit_is(struct transit *t, enum interp_role role)
{
    emit_op32_gs(t->c, EMIT_CMP_LOAD, RAX,
                 transit_role(role, offsetof(struct interp_descriptor, selector)));
}

/* The stack segment of the frame, which has to be the one of this role. Changes rax, rcx and
 * r10. */
static void transit_iret_ss(struct transit *t, enum interp_role role)
{
    transit_is(t, role);
    transit_refuse_if(t, JNE);
    transit_descriptor(t, role);
}

/* Flags from gs:[transit_next], RSP from the frame; on at gs:[keep]. */
static void transit_iret_done(struct transit *t, unsigned to)
{
    const uint32_t mask = CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT | CPU_AC | CPU_ID | CPU_IF |
                          CPU_IOPL;
    struct emit *c = t->c;

    transit_count(t, COUNT_SYSTEM);
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(cpu.rflags));
    emit_imm_reg(c, EMIT_AND, RAX, ~(mask | CPU_RF));
    emit_op_gs(c, EMIT_LOAD, RCX, GS(transit_next));
    emit_imm_reg(c, EMIT_AND, RCX, mask);
    emit_op_reg(c, EMIT_OR_LOAD, RAX, RCX);
    transit_set_flags(t);
    transit_vcpu_imm(t, EMIT_SET, 1, VCPU(cpu.nmi_blocked), 0);
    transit_word(t, HOST_STACK, FRAME_RSP);
    if (to == TLB_USER) {
        transit_switch(t, TLB_SUPERVISOR, TLB_USER);
    }
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    transit_go(t, to);
}

/* To user code. Refused: data segments that are in use, which might have to be cleared. */
static void transit_iret_user(struct transit *t)
{
    static const uint8_t data[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
    struct emit_mem ss = transit_at(HOST_STACK, FRAME_SS);

    for (unsigned i = 0; i < sizeof(data); i++) {
        transit_vcpu_imm(t, EMIT_CMP, 1, SEG(data[i], unusable), 0);
        transit_refuse_if(t, JE);
    }
    transit_descriptor(t, ROLE_USER_CODE);
    emit_movzx16(t->c, RAX, &ss);
    transit_iret_ss(t, ROLE_USER_STACK);
    transit_load(t, CPU_CS, ROLE_USER_CODE);
    transit_load(t, CPU_SS, ROLE_USER_STACK);
    transit_iret_done(t, TLB_USER);
}

/* To the kernel itself. The stack segment may be null, as after an interrupt of user code. */
static void transit_iret_kernel(struct transit *t)
{
    struct emit_mem ss = transit_at(HOST_STACK, FRAME_SS);
    struct emit *c = t->c;
    uint32_t null, over;

    transit_descriptor(t, ROLE_KERNEL_CODE);
    emit_movzx16(c, RAX, &ss);
    emit_test_reg(c, RAX, UINT16_MAX);
    null = emit_jcc(c, JE);
    transit_iret_ss(t, ROLE_KERNEL_STACK);
    transit_load(t, CPU_SS, ROLE_KERNEL_STACK);
    over = emit_jmp(c);
    transit_patch(t, &null, 1);
    transit_null(t, CPU_SS);
    transit_patch(t, &over, 1);
    transit_load(t, CPU_CS, ROLE_KERNEL_CODE);
    transit_iret_done(t, TLB_SUPERVISOR);
}

/* Refused: CPL 1 and 2, NT, and other code segments than those that were met last. */
static void transit_iret(struct transit *t)
{
    struct emit_mem cs = transit_at(HOST_STACK, FRAME_CS);
    struct emit *c = t->c;
    uint32_t user;

    t->d->common_iret = emit_offset(c);
    transit_begin(t, UINT32_MAX);
    transit_vcpu_imm(t, EMIT_CMP, 1, VCPU(cpu.cpl), 0);
    transit_refuse_if(t, JNE);
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(cpu.rflags));
    emit_test_reg(c, RAX, CPU_NT);
    transit_refuse_if(t, JNE);
    transit_frame(t);
    transit_iret_words(t);
    emit_movzx16(c, RAX, &cs);
    transit_is(t, ROLE_USER_CODE);
    user = emit_jcc(c, JE);
    transit_is(t, ROLE_KERNEL_CODE);
    transit_refuse_if(t, JNE);
    transit_iret_kernel(t);
    transit_patch(t, &user, 1);
    transit_iret_user(t);
    transit_refused(t, false);
}

/* ---- faults ---- */

static size_t transit_gate_field(size_t field)
{
    return GS(interp.known.gate) + field;
}

/* Is the event's gate what it was when C found it good? (What is all 0 may be one that C has never
 * seen; but no code segment has such a selector.) Its place in interp.known.gate to rdx, its
 * first word to rax. Changes rcx and r10. */
static void transit_gate(struct transit *t)
{
    struct emit_mem limit = transit_at(HOST_R11, VCPU(cpu.idtr.limit));
    struct emit_mem low = transit_at(HOST_R10, 0), high = transit_at(HOST_R10, 8);
    struct emit *c = t->c;

    emit_movzx16(c, RCX, &limit);
    emit_op_gs(c, EMIT_LOAD, RDX, GS(event.gate));
    emit_lea(c, HOST_R10, RDX, DBT_GATE - 1);
    emit_op_reg(c, EMIT_CMP_LOAD, HOST_R10, RCX);
    transit_refuse_if(t, JA);
    transit_vcpu(t, EMIT_LOAD, HOST_R10, VCPU(cpu.idtr.base));
    emit_op_reg(c, EMIT_ADD_LOAD, HOST_R10, RDX);
    transit_table(t, DBT_GATE);
    emit_op_gs(c, EMIT_LOAD, RDX, GS(event.known));
    emit_op_mem(c, EMIT_LOAD, RCX, &high);
    emit_op_gs_index(c, EMIT_CMP_LOAD, RCX, RDX,
                     transit_gate_field(offsetof(struct interp_gate, raw[1])));
    transit_refuse_if(t, JNE);
    emit_op_mem(c, EMIT_LOAD, RAX, &low);
    emit_op_gs_index(c, EMIT_CMP_LOAD, RAX, RDX,
                     transit_gate_field(offsetof(struct interp_gate, raw[0])));
    transit_refuse_if(t, JNE);
}

/* Where interrupts stay enabled, a request for one matters. Changes rcx. */
static void transit_gate_keeps(struct transit *t)
{
    struct emit *c = t->c;
    uint32_t off;

    emit_op_gs_index(c, EMIT_LOAD, RCX, RDX,
                     transit_gate_field(offsetof(struct interp_gate, keeps)));
    emit_test_reg(c, RCX, CPU_IF);
    off = emit_short(c, JE);
    transit_vcpu_imm(t, EMIT_CMP, 4, VCPU(request), 0);
    transit_refuse_if(t, JNE);
    emit_short_here(c, off);
}

/* Where the frame's end is, to rdx: on the kernel's stack, which for user code is in the TSS.
 * Changes rax, rcx and r10. */
static void transit_frame_end(struct transit *t, unsigned from)
{
    enum { TSS_RSP0 = 4 };
    struct emit_mem word = transit_at(HOST_R10, 0);
    struct emit *c = t->c;

    if (from == TLB_USER) {
        transit_vcpu_imm(t, EMIT_CMP, 1, VCPU(cpu.tr.unusable), 0);
        transit_refuse_if(t, JNE);
        transit_vcpu_imm(t, EMIT_CMP, 4, VCPU(cpu.tr.limit), TSS_RSP0 + 7);
        transit_refuse_if(t, JB);
        transit_vcpu(t, EMIT_LOAD, HOST_R10, VCPU(cpu.tr.base));
        emit_lea(c, HOST_R10, HOST_R10, TSS_RSP0);
        transit_table(t, 8);
        emit_op_mem(c, EMIT_LOAD, RDX, &word);
    } else {
        emit_mov(c, RDX, HOST_STACK);
        emit_op_gs(c, EMIT_ADD_LOAD, RDX, GS(interp.stack.minus));
    }
    emit_imm_reg(c, EMIT_AND, RDX, ~15u);
}

/* A word of the frame, whose end is at r10 on the host, from rax. */
static void transit_push(struct transit *t, int at)
{
    struct emit_mem m = transit_at(HOST_R10, 0);

    m.disp = at;
    emit_op_mem(t->c, EMIT_STORE, RAX, &m);
}

/* The frame that ends at guest address rdx, which becomes where it begins. Flags are in
 * gs:[transit_next]. Behind the check nothing is refused. Changes rax, rcx and r10. */
static void transit_write_frame(struct transit *t)
{
    struct emit_mem ss = transit_at(HOST_R11, SEG(CPU_SS, selector));
    struct emit_mem cs = transit_at(HOST_R11, SEG(CPU_CS, selector));
    struct emit *c = t->c;
    uint32_t none;

    emit_lea(c, RCX, RDX, -1);
    emit_op_gs(c, EMIT_SUB_LOAD, RDX, GS(event.bytes));
    emit_mov(c, HOST_R10, RDX);
    transit_host(t, offsetof(struct tlb_entry, write));
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_R10, GS(event.bytes));
    emit_movzx16(c, RAX, &ss);
    transit_push(t, -8);
    emit_mov(c, RAX, HOST_STACK);
    emit_op_gs(c, EMIT_ADD_LOAD, RAX, GS(interp.stack.minus));
    transit_push(t, -16);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(transit_next));
    emit_op_gs(c, EMIT_OR_LOAD, RAX, GS(event.raises));
    transit_push(t, -24);
    emit_movzx16(c, RAX, &cs);
    transit_push(t, -32);
    transit_vcpu(t, EMIT_LOAD, RAX, VCPU(cpu.rip));
    transit_push(t, -40);
    emit_imm_gs(c, EMIT_CMP, 4, GS(event.bytes), FRAME);
    none = emit_short(c, JE);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(event.error));
    transit_push(t, -48);
    emit_short_here(c, none);
}

/* All is good, and the frame written: the state that the handler begins with. */
static void transit_delivered(struct transit *t, unsigned from)
{
    struct emit *c = t->c;

    emit_mov(c, HOST_STACK, RDX);
    emit_op_gs(c, EMIT_LOAD, RDX, GS(event.known));
    emit_op_gs(c, EMIT_LOAD, RAX, GS(transit_next));
    emit_op_gs_index(c, EMIT_AND_LOAD, RAX, RDX,
                     transit_gate_field(offsetof(struct interp_gate, keeps)));
    transit_set_rflags(t);
    emit_op_gs(c, EMIT_LOAD, RAX, GS(event.cr2));
    transit_vcpu(t, EMIT_STORE, RAX, VCPU(cpu.cr2));
    transit_vcpu_imm(t, EMIT_SET, 1, VCPU(cpu.halted), 0);
    transit_vcpu_imm(t, EMIT_SET, 1, VCPU(cpu.irq_shadow), 0);
    transit_load(t, CPU_CS, ROLE_KERNEL_CODE);
    if (from == TLB_USER) {
        transit_null(t, CPU_SS);
        transit_switch(t, TLB_USER, TLB_SUPERVISOR);
    }
    emit_op_gs_index(c, EMIT_LOAD, HOST_R10, RDX,
                     transit_gate_field(offsetof(struct interp_gate, offset)));
    transit_go(t, TLB_SUPERVISOR);
}

/* d->event, at cpu.rip, as transit_deliver(). Comes from C. Refused: CPL 1 and 2, AC, which is
 * another TLB under SMAP, and gates and code segments that are not those that were met last. */
static void transit_deliver(struct transit *t, unsigned from)
{
    struct emit *c = t->c;

    t->d->common_deliver[from] = emit_offset(c);
    transit_begin(t, ~(uint32_t)VCPU_REQ_IRQ);
    if (from != TLB_USER) {
        transit_vcpu_imm(t, EMIT_CMP, 1, VCPU(cpu.cpl), 0);
        transit_refuse_if(t, JNE);
    }
    transit_gate(t);
    transit_gate_keeps(t);
    emit_shift(c, EMIT_SHR, RAX, 16);
    emit_imm_reg(c, EMIT_AND, RAX, 0xfffc);
    transit_is(t, ROLE_KERNEL_CODE);
    transit_refuse_if(t, JNE);
    transit_descriptor(t, ROLE_KERNEL_CODE);
    transit_flags(t);
    emit_test_reg(c, RAX, CPU_AC);
    transit_refuse_if(t, JNE);
    emit_op_gs(c, EMIT_STORE, RAX, GS(transit_next));
    transit_frame_end(t, from);
    transit_write_frame(t);
    transit_delivered(t, from);
    transit_refused(t, true);
}

void dbt_transit_emit(struct dbt *d, struct emit *c)
{
    struct transit t = {.d = d, .c = c};

    transit_syscall(&t);
    transit_sysret(&t);
    transit_iret(&t);
    transit_deliver(&t, TLB_USER);
    transit_deliver(&t, TLB_SUPERVISOR);
}
