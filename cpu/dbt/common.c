/* SPDX-License-Identifier: MIT */
/*
 * Code that all translations share:
 *     enter(rdi: struct dbt, rsi: code)  from C, with the flags in e->fl
 *     exit      r10: rip, r11d: link     back to the caller of enter
 *     slow      r10d: rec                has dbt_slow() execute that instruction
 *     fpu       r10d: rec                has dbt_fpu() bring the vector state
 *     c       r10d: rec, r11: function   has a C function of the translation's choice called
 *     stack   r10d: number               has dbt_stack() look for the page of the stack
 *     miss    r10: TLB entry, r11: page  is called when a check found no tag
 *     jump    r10: rip                   is called when the table of jumps has no entry
 *     guess   r10: rip, d->guess         is called when that link missed many times
 *     far     r10: tag, d->guess, d->rec by the table of jumps, where that link does not lead
 *     go      r10: canonical rip         by the table of jumps, flags in EFLAGS
 *     arrive  d->keep: rip               has dbt_arrive() find its code
 *     again   r10: rip                   has dbt_again() look for its code, which has changed
 *     region  r11: address, r10: bytes   is called when a load is not in its region: the TLB's
 *             behind the first           addend to r11
 *     near    r10: dbt_near_word(),      is called when an access is not where its slot is,
 *             r11: address less start    which is to go there
 */
#include "engine.h"

#include "emit.h"

#define GS(field)  offsetof(struct dbt, field)
#define GPR(n)     (offsetof(struct vcpu, cpu.gpr) + 8 * (n))
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

static void common_vcpu(struct emit *c, unsigned op, unsigned reg, size_t offset)
{
    struct emit_mem m = {
        .base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = (int32_t)offset};

    emit_op_mem(c, op, reg, &m);
}

/* Guest registers to v->cpu. Changes r10 and r11. */
static void common_save(struct emit *c)
{
    struct emit_mem sum = {.base = HOST_STACK, .index = HOST_R10, .scale = 1};

    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(interp.v));
    for (unsigned i = 0; i < 16; i++) {
        if (i == CPU_RSP) {
            emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(interp.stack.minus));
            emit_op_mem(c, EMIT_LEA, HOST_R10, &sum);
            common_vcpu(c, EMIT_STORE, HOST_R10, GPR(i));
        } else if (i < CPU_R9 || i > CPU_R11) {
            common_vcpu(c, EMIT_STORE, i, GPR(i));
        } else {
            emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(slot[i - CPU_R9]));
            common_vcpu(c, EMIT_STORE, HOST_R10, GPR(i));
        }
    }
}

/* The other way. No flags change. */
static void common_load(struct emit *c)
{
    struct emit_mem sum = {.base = HOST_STACK, .index = HOST_R10, .scale = 1};

    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(interp.v));
    for (unsigned i = 0; i < 16; i++) {
        if (i == CPU_RSP) {
            common_vcpu(c, EMIT_LOAD, HOST_STACK, GPR(i));
            emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(interp.stack.addend));
            emit_op_mem(c, EMIT_LEA, HOST_STACK, &sum);
        } else if (i < CPU_R9 || i > CPU_R11) {
            common_vcpu(c, EMIT_LOAD, i, GPR(i));
        } else {
            common_vcpu(c, EMIT_LOAD, HOST_R10, GPR(i));
            emit_op_gs(c, EMIT_STORE, HOST_R10, GS(slot[i - CPU_R9]));
        }
    }
    emit_op_gs(c, EMIT_LOAD, RSP, GS(sp));
    emit_jmp_gs(c, GS(target));
}

/* From the stack of returns to C's. */
static void common_c_stack(struct emit *c)
{
    emit_op_gs(c, EMIT_STORE, RSP, GS(sp));
    emit_op_gs(c, EMIT_LOAD, RSP, GS(c_sp));
}

static void common_leave(struct emit *c)
{
    static const uint8_t code[] = {0x48, 0x83, 0xc4, 8,    0x41, 0x5f, 0x41, 0x5e, 0x41,
                                   0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3};

    emit_bytes(c, code, sizeof(code)); /* add $8,%rsp; pop r15 r14 r13 r12 rbp rbx; ret */
}

/* fn(d, rec), or d->helper(d, rec), then on. */
static void common_call(struct emit *c, const void *fn)
{
    uint32_t leave;

    emit_op32_gs(c, EMIT_STORE, HOST_R10, GS(rec));
    common_save(c);
    common_c_stack(c);
    emit_op_gs(c, EMIT_LOAD, RDI, GS(self));
    emit_op32_gs(c, EMIT_LOAD, RSI, GS(rec));
    if (fn != NULL) {
        emit_mov_imm64(c, RAX, (uint64_t)(uintptr_t)fn);
    } else {
        emit_op_gs(c, EMIT_LOAD, RAX, GS(helper));
    }
    emit_bytes(c, (const uint8_t[]){0xff, 0xd0}, 2); /* call *%rax */
    emit_bytes(c, (const uint8_t[]){0x48, 0x85, 0xc0}, 3); /* test %rax,%rax */
    leave = emit_jcc(c, 4);
    emit_op_gs(c, EMIT_STORE, RAX, GS(target));
    emit_op32_gs(c, EMIT_LOAD, RAX, GS(interp.fl));
    emit_bytes(c, (const uint8_t[]){0x04, 0x7f, 0x9e}, 3); /* add $0x7f,%al; sahf */
    common_load(c);
    emit_patch(c->start, leave, emit_offset(c));
    common_leave(c);
}

/* Has the interpreter execute d->rec. */
static void common_interpret(const struct dbt *d, struct emit *c)
{
    emit_op32_gs(c, EMIT_LOAD, HOST_R10, GS(rec));
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe2}, 3); /* and $..,%r10d */
    emit_u32(c, DBT_REC_NUMBER);
    emit_jmp_to(c, d->common_slow);
}

/* What C functions may change and translated code keeps there. */
static void common_push(struct emit *c)
{
    static const uint8_t push[] = {0x50, 0x51, 0x52, 0x56, 0x57, 0x41, 0x50, 0x41, 0x51, 0x50};

    emit_bytes(c, push, sizeof(push)); /* rax rcx rdx rsi rdi r8 r9, and one more */
}

static void common_pop(struct emit *c)
{
    static const uint8_t pop[] = {0x41, 0x59, 0x41, 0x59, 0x41, 0x58, 0x5f,
                                  0x5e, 0x5a, 0x59, 0x58};

    emit_bytes(c, pop, sizeof(pop));
}

/* Calls fn(d, r11 or r10, r10), whose answer is the host's zero flag then: set, it was no. r10
 * is in d->keep. */
static void common_ask(struct emit *c, const void *fn, unsigned arg)
{
    common_c_stack(c);
    common_push(c);
    emit_op_gs(c, EMIT_LOAD, RDI, GS(self));
    emit_mov(c, RSI, arg);
    emit_mov(c, RDX, HOST_R10);
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(keep));
    emit_mov_imm64(c, RAX, (uint64_t)(uintptr_t)fn);
    emit_bytes(c, (const uint8_t[]){0xff, 0xd0, 0x84, 0xc0}, 4); /* call *%rax; test %al,%al */
    common_pop(c);
    emit_op_gs(c, EMIT_LOAD, RSP, GS(sp));
}

/* fn finds what was missing, and this comes back; where that was in vain the interpreter executes
 * d->rec. */
static void common_miss(struct dbt *d, struct emit *c, const void *fn, unsigned arg)
{
    uint32_t slow;

    common_ask(c, fn, arg);
    slow = emit_jcc(c, 4);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    emit_byte(c, 0xc3);
    emit_patch(c->start, slow, emit_offset(c));
    emit_lea(c, RSP, RSP, 8);
    common_interpret(d, c);
}

/*
 * As tr_lookup(), for loads that are not in a region; d->rec is set. What is missing dbt_miss()
 * finds, or the interpreter executes d->rec.
 */
static void common_region(struct dbt *d, struct emit *c, unsigned index)
{
    size_t entry = GS(interp.tlbs) + index * sizeof(struct tlb);
    uint32_t retry, missing, slow;

    d->common_region[index] = emit_offset(c);
    emit_bytes(c, (const uint8_t[]){0x65, 0x48, 0xff, 0x04, 0x25}, 5); /* incq gs:.. */
    emit_u32(c, (uint32_t)GS(counts.n[COUNT_REGION_MISSES]));
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(region_at));
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(region_span));
    retry = emit_offset(c);
    emit_op_reg(c, EMIT_ADD_LOAD, HOST_R10, HOST_R11);
    emit_bytes(c, (const uint8_t[]){0x49, 0x81, 0xe2, 0, 0xf0, 0xff, 0xff}, 7); /* and r10 */
    emit_bytes(c, (const uint8_t[]){0x49, 0xc1, 0xeb, 12 - TLB_ENTRY_SHIFT}, 4); /* shr r11 */
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3);                       /* and r11d */
    emit_u32(c, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
    emit_op_gs_index(c, EMIT_CMP_LOAD, HOST_R10, HOST_R11,
                     entry + offsetof(struct tlb_entry, read));
    missing = emit_jcc(c, 5);
    emit_op_gs_index(c, EMIT_LOAD, HOST_R11, HOST_R11,
                     entry + offsetof(struct tlb_entry, addend));
    emit_byte(c, 0xc3);
    emit_patch(c->start, missing, emit_offset(c));
    emit_bytes(c, (const uint8_t[]){0x4d, 0x87, 0xda}, 3); /* xchg %r11,%r10 */
    common_ask(c, (const void *)(uintptr_t)dbt_miss, HOST_R11);
    slow = emit_jcc(c, 4);
    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(region_at));
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(region_span));
    emit_jmp_to(c, retry);
    emit_patch(c->start, slow, emit_offset(c));
    emit_lea(c, RSP, RSP, 8);
    common_interpret(d, c);
}

/* The slot is to be emptied when tags go. r10: its place. Changes r9. */
static void common_near_used(struct emit *c)
{
    struct emit_mem used = {.base = EMIT_NO_REG, .index = HOST_R9, .scale = 4,
                            .disp = (int32_t)GS(interp.near.used)};
    size_t nr = GS(interp.near.nr_used);

    emit_op32_gs(c, EMIT_LOAD, HOST_R9, nr);
    emit_byte(c, 0x65); /* mov %r10d, gs:.. */
    emit_byte(c, 0x40 | emit_rex_mem(HOST_R10, &used));
    emit_byte(c, EMIT_STORE);
    emit_modrm_mem(c, HOST_R10, &used);
    emit_bytes(c, (const uint8_t[]){0x65, 0xff, 0x04, 0x25}, 4); /* incl gs:.. */
    emit_u32(c, (uint32_t)nr);
    emit_bytes(c, (const uint8_t[]){0x65, 0x41, 0xff, 0x42}, 4); /* incl gs:..(%r10) */
    emit_byte(c, offsetof(struct interp_near, used));
    emit_bytes(c, (const uint8_t[]){0x65, 0xc6, 0x04, 0x25}, 4); /* movb $1, gs:.. */
    emit_u32(c, (uint32_t)GS(interp.near.kept));
    emit_byte(c, 1);
}

/*
 * As dbt_near(), for a slot of one page; d->rec is set too. Takes the page into the slot if the
 * TLB has it, and has the check made again. Where that has not helped, dbt_near() looks.
 */
static void common_near(struct dbt *d, struct emit *c, bool write)
{
    size_t entry = GS(interp.tlbs) + TLB_USER * sizeof(struct tlb);
    size_t tag = write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read);
    uint32_t straddle, missing, often, known;

    d->common_near[write] = emit_offset(c);
    emit_op_gs(c, EMIT_STORE, HOST_R9, GS(near_keep));
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(near_what));
    emit_bytes(c, (const uint8_t[]){0x45, 0x89, 0xd2}, 3); /* mov %r10d,%r10d: the place */
    emit_op_gs_index(c, EMIT_ADD_LOAD, HOST_R11, HOST_R10, 0);
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(near_first));
    emit_mov(c, HOST_R9, HOST_R11);
    emit_bytes(c, (const uint8_t[]){0x49, 0x81, 0xe1, 0, 0xf0, 0xff, 0xff}, 7); /* and r9 */
    emit_op_gs_index(c, EMIT_CMP_LOAD, HOST_R9, HOST_R10, 0);
    straddle = emit_jcc(c, 4);
    emit_bytes(c, (const uint8_t[]){0x49, 0xc1, 0xeb, 12 - TLB_ENTRY_SHIFT}, 4); /* shr r11 */
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3);                       /* and r11d */
    emit_u32(c, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
    emit_op_gs_index(c, EMIT_CMP_LOAD, HOST_R9, HOST_R11, entry + tag);
    missing = emit_jcc(c, 5);
    emit_op_gs_index(c, EMIT_LOAD, HOST_R11, HOST_R11,
                     entry + offsetof(struct tlb_entry, addend));
    emit_op_gs_index(c, EMIT_STORE, HOST_R9, HOST_R10, offsetof(struct interp_near, start));
    emit_op_gs_index(c, EMIT_STORE, HOST_R11, HOST_R10, offsetof(struct interp_near, addend));
    emit_op_reg(c, EMIT_ADD_LOAD, HOST_R9, HOST_R11);
    emit_op_gs_index(c, EMIT_STORE, HOST_R9, HOST_R10, offsetof(struct interp_near, host));
    emit_bytes(c, (const uint8_t[]){0x65, 0x41, 0x83, 0x7a}, 4); /* cmpl $0, gs:..(%r10) */
    emit_byte(c, offsetof(struct interp_near, used));
    emit_byte(c, 0);
    known = emit_jcc(c, 5);
    common_near_used(c);
    emit_patch(c->start, known, emit_offset(c));
    emit_op_gs(c, EMIT_LOAD, HOST_R9, GS(near_keep));
    emit_bytes(c, (const uint8_t[]){0x65, 0x41, 0xff, 0x42}, 4); /* incl gs:..(%r10) */
    emit_byte(c, offsetof(struct interp_near, misses));
    often = emit_jcc(c, 4);
    emit_byte(c, 0xc3);
    emit_patch(c->start, often, emit_offset(c));
    emit_jmp_to(c, d->common_often);
    emit_patch(c->start, straddle, emit_offset(c));
    emit_patch(c->start, missing, emit_offset(c));
    emit_op_gs(c, EMIT_LOAD, HOST_R9, GS(near_keep));
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(near_what));
    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(near_first));
    emit_jmp_to(c, d->common_near_c);
}

/* For a slot that is a run of pages. */
static void common_near_run(struct dbt *d, struct emit *c)
{
    d->common_near_run = emit_offset(c);
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(near_what));
    emit_bytes(c, (const uint8_t[]){0x45, 0x89, 0xd2}, 3); /* mov %r10d,%r10d */
    emit_op_gs_index(c, EMIT_ADD_LOAD, HOST_R11, HOST_R10, 0);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(near_what));
    emit_jmp_to(c, d->common_near_c);
}

/* Caches another page of the stack if the TLB has it. r10: a host address in it by the old
 * addend, d->rec: for dbt_stack(). */
static void common_page(struct dbt *d, struct emit *c, unsigned index, bool code32)
{
    size_t entry = GS(interp.tlbs) + index * sizeof(struct tlb);
    uint32_t missing, refused = 0;

    d->common_page[index][code32] = emit_offset(c);
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_R10, GS(interp.stack.minus));
    if (code32) { /* stack_allowed() */
        emit_mov(c, HOST_R11, HOST_R10);
        emit_shift(c, EMIT_SHR, HOST_R11, 12);
        emit_lea(c, HOST_R11, HOST_R11, -1);
        emit_imm_reg(c, EMIT_CMP, HOST_R11, DBT_LAST_PAGE32 - 1);
        refused = emit_jcc(c, 3); /* jae */
    }
    emit_mov(c, HOST_R11, HOST_R10);
    emit_bytes(c, (const uint8_t[]){0x49, 0xc1, 0xeb, 12 - TLB_ENTRY_SHIFT}, 4); /* shr r11 */
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3);                       /* and r11d */
    emit_u32(c, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
    emit_bytes(c, (const uint8_t[]){0x49, 0x81, 0xe2, 0, 0xf0, 0xff, 0xff}, 7);
    emit_op_gs_index(c, EMIT_CMP_LOAD, HOST_R10, HOST_R11,
                     entry + offsetof(struct tlb_entry, write));
    missing = emit_jcc(c, 5);
    emit_op_gs_index(c, EMIT_LOAD, HOST_R11, HOST_R11,
                     entry + offsetof(struct tlb_entry, addend));
    emit_op_reg(c, EMIT_ADD_LOAD, HOST_R10, HOST_R11);
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(interp.stack.base));
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(stack_base));
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_STACK, GS(interp.stack.minus));
    emit_op_reg(c, EMIT_ADD_LOAD, HOST_STACK, HOST_R11);
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(interp.stack.addend));
    emit_bytes(c, (const uint8_t[]){0x49, 0xf7, 0xdb}, 3); /* neg %r11 */
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(interp.stack.minus));
    emit_byte(c, 0xc3);
    emit_patch(c->start, missing, emit_offset(c));
    if (code32) {
        emit_patch(c->start, refused, emit_offset(c));
    }
    emit_lea(c, RSP, RSP, 8);
    emit_op32_gs(c, EMIT_LOAD, HOST_R10, GS(rec));
    emit_jmp_to(c, d->common_stack);
}

void dbt_jump_slot_emit(struct emit *c)
{
    emit_bytes(c, (const uint8_t[]){0x45, 0x69, 0xda}, 3); /* imul $..,%r10d,%r11d */
    emit_u32(c, DBT_JUMP_HASH);
    emit_bytes(c, (const uint8_t[]){0x41, 0xc1, 0xeb, 16}, 4); /* shr $16,%r11d */
}

/* Calls dbt_again(d, r10), which finds where the code for that rip is now; r10 stays. */
static void common_again(struct dbt *d, struct emit *c)
{
    uint32_t leave;

    d->common_again = emit_offset(c);
    common_ask(c, (const void *)(uintptr_t)dbt_again, HOST_R10);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    leave = emit_jcc(c, 4);
    emit_jmp_gs(c, GS(target));
    emit_patch(c->start, leave, emit_offset(c));
    emit_bytes(c, (const uint8_t[]){0x45, 0x31, 0xdb}, 3); /* xor %r11d,%r11d */
    emit_jmp_to(c, d->common_exit);
}

/*
 * A RET that leads elsewhere than was predicted. return: r10: rip, r11: RCX, flags in EFLAGS,
 * d->rec. bottom: nothing was predicted. go: nobody is to be blamed.
 */
static void common_return(struct dbt *d, struct emit *c, bool code32)
{
    static const uint8_t flags[] = {0x49, 0x89, 0xc3, 0x9f, 0x0f, 0x90, 0xc0};
    struct emit_mem eight = {.base = EMIT_NO_REG, .index = HOST_R11, .scale = 8, .disp = 0};
    uint32_t over, missing;

    d->common_return[code32] = emit_offset(c);
    emit_mov(c, RCX, HOST_R11);
    over = emit_jmp(c);
    d->common_bottom[code32] = emit_offset(c);
    emit_lea(c, RSP, RSP, -8);
    emit_patch(c->start, over, emit_offset(c));
    if (!code32) { /* for bodies that are rewritten */
        d->common_go = emit_offset(c);
    }
    emit_bytes(c, flags, sizeof(flags)); /* mov %rax,%r11; lahf; seto %al */
    emit_op32_gs(c, EMIT_STORE, RAX, GS(interp.fl));
    emit_mov(c, RAX, HOST_R11);
    emit_op_gs(c, EMIT_STORE, HOST_R10, GS(keep));
    G_STATIC_ASSERT(sizeof(struct dbt_jumps) == sizeof(uint64_t) << 17);
    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(jump_at));
    emit_bytes(c, (const uint8_t[]){0x49, 0xc1, 0xeb, 17}, 4); /* shr $17,%r11 */
    emit_op_gs_index(c, EMIT_XOR_LOAD, HOST_R10, HOST_R11,
                     code32 ? GS(interp.key32) : GS(interp.key64));
    dbt_jump_slot_emit(c);
    emit_op_mem(c, EMIT_LEA, HOST_R11, &eight);
    emit_op_gs(c, EMIT_ADD_LOAD, HOST_R11, GS(jump_at));
    emit_op_gs_index(c, EMIT_CMP_LOAD, HOST_R10, HOST_R11, GS(jumps));
    missing = emit_jcc(c, 5);
    emit_op_gs(c, EMIT_LOAD, HOST_R10, GS(keep));
    eight = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1,
                              .disp = (int32_t)(GS(jumps) + offsetof(struct dbt_jumps, code))};
    emit_jmp_gs_mem(c, &eight);
    emit_patch(c->start, missing, emit_offset(c));
    emit_op32_gs(c, EMIT_LOAD, HOST_R10, GS(rec));
    common_call(c, (const void *)(uintptr_t)dbt_return);
}

void dbt_jump_salt_emit(struct emit *c, unsigned index, unsigned reg, bool code32)
{
    if (code32) {
        emit_op_gs(c, EMIT_XOR_LOAD, reg, GS(interp.key32) + index * sizeof(uint64_t));
    } else if (interp_keyed(index)) {
        emit_op_gs(c, EMIT_XOR_LOAD, reg, GS(interp.key64) + index * sizeof(uint64_t));
    }
}

/*
 * A jump that does not lead to where was guessed. r10: the tag, flags in e->fl or dead;
 * d->guess, d->rec. leave: to the interpreter at the rip, if that has no code.
 */
static void common_far(struct dbt *d, struct emit *c, unsigned index, bool code32, bool leave)
{
    size_t jumps = GS(jumps) + index * sizeof(struct dbt_jumps);
    struct emit_mem m = {.base = EMIT_NO_REG, .index = HOST_R11, .scale = 8};
    uint32_t often, retry, missing;

    d->common_far[index][code32][leave] = emit_offset(c);
    emit_op32_gs(c, EMIT_LOAD, HOST_R11, GS(guess));
    emit_bytes(c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3); /* and $..,%r11d */
    emit_u32(c, DBT_GUESS_COUNTS - 1);
    emit_bytes(c, (const uint8_t[]){0x65, 0x42, 0xff, 0x0c, 0x9d}, 5); /* decl gs:..(,%r11,4) */
    emit_u32(c, (uint32_t)GS(guess_left));
    often = emit_jcc(c, 8); /* js */
    retry = emit_offset(c);
    dbt_jump_slot_emit(c);
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, tag));
    emit_op_gs_mem(c, EMIT_CMP_LOAD, HOST_R10, &m);
    missing = emit_jcc(c, 5);
    dbt_jump_salt_emit(c, index, HOST_R10, code32);
    m.disp = (int32_t)(jumps + offsetof(struct dbt_jumps, code));
    emit_jmp_gs_mem(c, &m);
    emit_patch(c->start, often, emit_offset(c));
    dbt_jump_salt_emit(c, index, HOST_R10, code32);
    emit_call_to(c, d->common_guess);
    dbt_jump_salt_emit(c, index, HOST_R10, code32);
    emit_jmp_to(c, retry);
    emit_patch(c->start, missing, emit_offset(c));
    dbt_jump_salt_emit(c, index, HOST_R10, code32);
    if (leave) {
        emit_bytes(c, (const uint8_t[]){0x45, 0x31, 0xdb}, 3); /* xor %r11d,%r11d */
        emit_jmp_to(c, d->common_exit);
        return;
    }
    emit_call_to(c, d->common_jump);
    dbt_jump_salt_emit(c, index, HOST_R10, code32);
    emit_jmp_to(c, retry);
}

void dbt_common_emit(struct dbt *d)
{
    static const uint8_t push[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41,
                                   0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 8};
    struct emit code = {.start = d->rw, .p = d->rw + 16, .low = d->low}, *c = &code;

    d->common_enter = emit_offset(c);
    emit_bytes(c, push, sizeof(push)); /* push rbx rbp r12 r13 r14 r15; sub $8,%rsp */
    emit_op_gs(c, EMIT_STORE, RSP, GS(c_sp));
    emit_op_gs(c, EMIT_STORE, RSI, GS(target));
    common_load(c);
    d->common_exit = emit_offset(c);
    emit_op32_gs(c, EMIT_STORE, HOST_R11, GS(link));
    emit_op_gs(c, EMIT_LOAD, HOST_R11, GS(interp.v));
    common_vcpu(c, EMIT_STORE, HOST_R10, offsetof(struct vcpu, cpu.rip));
    common_save(c);
    common_c_stack(c);
    common_leave(c);
    d->common_slow = emit_offset(c);
    common_call(c, (const void *)(uintptr_t)dbt_slow);
    d->common_fpu = emit_offset(c);
    common_call(c, (const void *)(uintptr_t)dbt_fpu);
    d->common_c = emit_offset(c);
    emit_op_gs(c, EMIT_STORE, HOST_R11, GS(helper));
    common_call(c, NULL);
    d->common_stack = emit_offset(c);
    common_call(c, (const void *)(uintptr_t)dbt_stack);
    d->common_miss = emit_offset(c);
    common_miss(d, c, (const void *)(uintptr_t)dbt_miss, HOST_R11);
    d->common_jump = emit_offset(c);
    common_miss(d, c, (const void *)(uintptr_t)dbt_jump, HOST_R10);
    d->common_guess = emit_offset(c);
    common_miss(d, c, (const void *)(uintptr_t)dbt_guess, HOST_R10);
    d->common_often = emit_offset(c);
    common_miss(d, c, (const void *)(uintptr_t)dbt_near_often, HOST_R11);
    d->common_near_c = emit_offset(c);
    common_miss(d, c, (const void *)(uintptr_t)dbt_near, HOST_R11);
    common_near(d, c, false);
    common_near(d, c, true);
    common_near_run(d, c);
    common_return(d, c, false);
    common_return(d, c, true);
    common_again(d, c);
    for (unsigned i = 0; i < TLB_NR; i++) {
        common_region(d, c, i);
        for (unsigned code32 = 0; code32 < 2; code32++) {
            common_page(d, c, i, code32 != 0);
            common_far(d, c, i, code32 != 0, false);
            common_far(d, c, i, code32 != 0, true);
        }
    }
    d->common_arrive = emit_offset(c);
    common_call(c, (const void *)(uintptr_t)dbt_arrive);
    dbt_transit_emit(d, c);
    d->common_end = (emit_offset(c) + 63) & ~63u;
}
