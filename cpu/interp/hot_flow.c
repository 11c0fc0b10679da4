/* SPDX-License-Identifier: MIT */
/*
 * Fast handlers: near branches and the stack. A direct branch within its page remembers its
 * target block (op->link); all others go by rip through the jump cache (run.c).
 */
#include "hot.h"

/* Leaves the block for a direct target; e->link_slot asks the main loop to fill in the link. */
static inline struct block *hot_go(struct vcpu *v, struct op *op, struct interp *e)
{
    v->cpu.rip = (v->engine_words[1] + (uint64_t)(int64_t)op->disp) & e->address_mask;
    v->insn_count += op->number;
    if (unlikely(op->link == NULL)) {
        e->link_slot = op;
        e->link_rip = v->cpu.rip;
    }
    return op->link;
}

/* The same for a target in another page. */
static inline struct block *hot_go_far(struct vcpu *v, struct op *op, struct interp *e)
{
    v->cpu.rip = (v->engine_words[1] + (uint64_t)(int64_t)op->disp) & e->address_mask;
    v->insn_count += op->number;
    return NULL;
}

static inline struct block *hot_go_to(struct vcpu *v, const struct op *op, uint64_t rip)
{
    v->cpu.rip = rip;
    v->insn_count += op->number;
    return NULL;
}

HOT_FN(hot_jmp_near)
{
    return hot_go(v, op, e);
}

HOT_FN(hot_jmp_far)
{
    return hot_go_far(v, op, e);
}

/* ccXX: flags to a condition, by the host's own idea of it. */
#define JCC(cc)                                                                                \
    HOT_FN(hot_j##cc##_near)                                                                   \
    {                                                                                          \
        uint32_t f = e->fl;                                                                    \
        bool taken;                                                                            \
                                                                                               \
        __asm__(ALU_LOAD : "+a"(f), "=@cc" #cc(taken));                                        \
        if (taken) {                                                                           \
            return hot_go(v, op, e);                                                           \
        }                                                                                      \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_j##cc##_far)                                                                    \
    {                                                                                          \
        uint32_t f = e->fl;                                                                    \
        bool taken;                                                                            \
                                                                                               \
        __asm__(ALU_LOAD : "+a"(f), "=@cc" #cc(taken));                                        \
        if (taken) {                                                                           \
            return hot_go_far(v, op, e);                                                       \
        }                                                                                      \
        HOT_NEXT;                                                                              \
    }

JCC(o)
JCC(no)
JCC(b)
JCC(ae)
JCC(e)
JCC(ne)
JCC(be)
JCC(a)
JCC(s)
JCC(ns)
JCC(p)
JCC(np)
JCC(l)
JCC(ge)
JCC(le)
JCC(g)

static const op_fn hot_jcc_table[16][2] = {
    {hot_jo_near, hot_jo_far},   {hot_jno_near, hot_jno_far}, {hot_jb_near, hot_jb_far},
    {hot_jae_near, hot_jae_far}, {hot_je_near, hot_je_far},   {hot_jne_near, hot_jne_far},
    {hot_jbe_near, hot_jbe_far}, {hot_ja_near, hot_ja_far},   {hot_js_near, hot_js_far},
    {hot_jns_near, hot_jns_far}, {hot_jp_near, hot_jp_far},   {hot_jnp_near, hot_jnp_far},
    {hot_jl_near, hot_jl_far},   {hot_jge_near, hot_jge_far}, {hot_jle_near, hot_jle_far},
    {hot_jg_near, hot_jg_far},
};

/* The stack, 64 and 32 bits wide. */
#define STACK(n, type)                                                                         \
    HOT_FN(hot_push##n##_r)                                                                    \
    {                                                                                          \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        HOT_STORE(p, HOT_REG(op->src, type));                                                  \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_push##n##_i)                                                                    \
    {                                                                                          \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        HOT_STORE(p, (type)op->imm);                                                           \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_push##n##_m)                                                                    \
    {                                                                                          \
        uint64_t from = hot_address_b(v, op, e);                                               \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        HOT_READ(q, from, type);                                                               \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        HOT_STORE(p, HOT_LOAD(q));                                                             \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_pop##n##_r)                                                                     \
    {                                                                                          \
        uint64_t va = (type)v->cpu.gpr[CPU_RSP];                                               \
        HOT_READ(p, va, type);                                                                 \
        type val = HOT_LOAD(p);                                                                \
                                                                                               \
        v->cpu.gpr[CPU_RSP] = (type)(va + sizeof(type));                                       \
        HOT_REG(op->dst, uint64_t) = val;                                                      \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_leave##n)                                                                       \
    {                                                                                          \
        uint64_t va = (type)v->cpu.gpr[CPU_RBP];                                               \
        HOT_READ(p, va, type);                                                                 \
                                                                                               \
        v->cpu.gpr[CPU_RBP] = HOT_LOAD(p);                                                     \
        v->cpu.gpr[CPU_RSP] = (type)(va + sizeof(type));                                       \
        HOT_NEXT;                                                                              \
    }                                                                                          \
    HOT_FN(hot_call##n##_near)                                                                 \
    {                                                                                          \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        HOT_STORE(p, (type)(v->engine_words[1] + op->ip + op->len));                           \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        return hot_go(v, op, e);                                                               \
    }                                                                                          \
    HOT_FN(hot_call##n##_far)                                                                  \
    {                                                                                          \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        uint64_t to = (v->engine_words[1] + (uint64_t)(int64_t)op->disp) & e->address_mask;    \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        if (unlikely(!interp_canonical(to))) {                                                 \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        HOT_STORE(p, (type)(v->engine_words[1] + op->ip + op->len));                           \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        return hot_go_to(v, op, to);                                                           \
    }                                                                                          \
    CALL_TO(call##n##_r, type, , HOT_REG(op->src, type))                                       \
    CALL_TO(call##n##_m, type, uint64_t from = hot_address_b(v, op, e);                        \
            HOT_READ(q, from, type);, HOT_LOAD(q))                                             \
    HOT_FN(hot_ret##n)                                                                         \
    {                                                                                          \
        uint64_t va = (type)v->cpu.gpr[CPU_RSP];                                               \
        HOT_READ(p, va, type);                                                                 \
        type to = HOT_LOAD(p);                                                                 \
                                                                                               \
        if (unlikely(!interp_canonical(to))) {                                                 \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        v->cpu.gpr[CPU_RSP] = (type)(va + sizeof(type) + op->imm);                             \
        return hot_go_to(v, op, to);                                                           \
    }                                                                                          \
    HOT_FN(hot_jmp##n##_r)                                                                     \
    {                                                                                          \
        type to = HOT_REG(op->src, type);                                                      \
                                                                                               \
        if (unlikely(!interp_canonical(to))) {                                                 \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        return hot_go_to(v, op, to);                                                           \
    }                                                                                          \
    HOT_FN(hot_jmp##n##_m)                                                                     \
    {                                                                                          \
        uint64_t from = hot_address_b(v, op, e);                                               \
        HOT_READ(q, from, type);                                                               \
        type to = HOT_LOAD(q);                                                                 \
                                                                                               \
        if (unlikely(!interp_canonical(to))) {                                                 \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        return hot_go_to(v, op, to);                                                           \
    }
#define CALL_TO(name, type, prepare, target)                                                   \
    HOT_FN(hot_##name)                                                                         \
    {                                                                                          \
        uint64_t va = (type)(v->cpu.gpr[CPU_RSP] - sizeof(type));                              \
        prepare type to = target;                                                              \
        HOT_WRITE(p, va, type);                                                                \
                                                                                               \
        if (unlikely(!interp_canonical(to))) {                                                 \
            HOT_BAIL;                                                                          \
        }                                                                                      \
        HOT_STORE(p, (type)(v->engine_words[1] + op->ip + op->len));                           \
        v->cpu.gpr[CPU_RSP] = va;                                                              \
        return hot_go_to(v, op, to);                                                           \
    }

STACK(64, uint64_t)
STACK(32, uint32_t)

/* Target of a direct branch as an offset from the page; false when it does not fit. */
static bool hot_direct(struct interp *e, struct op *op, const struct insn *in, bool *near)
{
    int64_t to = (int64_t)op->ip + in->len + (int64_t)in->imm;

    if (to != (int32_t)to) {
        return false;
    }
    op->disp = (int32_t)to;
    op->link = NULL;
    *near = to >= 0 && to < MEM_PAGE_SIZE;
    /* Outside 64-bit mode the offset in the segment wraps and has a limit: flat ones only. */
    return (e->mode & MODE_CODE) == MODE_64 || (e->mode & MODE_FLAT) != 0;
}

static op_fn hot_branch(struct interp *e, struct op *op, const struct insn *in, bool is64)
{
    bool near;

    if (!hot_direct(e, op, in, &near)) {
        return NULL;
    }
    switch (in->id) {
    case INSN_JCC:
        return hot_jcc_table[in->cond][!near];
    case INSN_JMP:
        return near ? hot_jmp_near : hot_jmp_far;
    default:
        if (is64) {
            return near ? hot_call64_near : hot_call64_far;
        }
        return near ? hot_call32_near : hot_call32_far;
    }
}

op_fn hot_flow_handler(struct interp *e, struct op *op, const struct insn *in)
{
    bool is64 = (e->mode & MODE_CODE) == MODE_64;
    unsigned kind = in->nr_operands > 0 ? in->op[0].kind : OPK_NONE;

    if (in->opsize != (is64 ? 8 : 4)) {
        return NULL;
    }
    switch (in->id) {
    case INSN_JCC:
        return hot_branch(e, op, in, is64);
    case INSN_JMP:
        if (kind == OPK_REL) {
            return hot_branch(e, op, in, is64);
        }
        if (kind == OPK_GPR) {
            return is64 ? hot_jmp64_r : hot_jmp32_r;
        }
        return is64 ? hot_jmp64_m : hot_jmp32_m;
    case INSN_CALL:
        if (kind == OPK_REL) {
            return hot_branch(e, op, in, is64);
        }
        if (kind == OPK_GPR) {
            return is64 ? hot_call64_r : hot_call32_r;
        }
        return is64 ? hot_call64_m : hot_call32_m;
    case INSN_RET:
        op->imm = kind == OPK_IMM ? in->imm : 0;
        return is64 ? hot_ret64 : hot_ret32;
    case INSN_PUSH:
        if (kind == OPK_GPR) {
            return is64 ? hot_push64_r : hot_push32_r;
        }
        if (kind == OPK_IMM) {
            op->imm = in->imm;
            return is64 ? hot_push64_i : hot_push32_i;
        }
        return is64 ? hot_push64_m : hot_push32_m;
    case INSN_POP:
        return kind != OPK_GPR ? NULL : is64 ? hot_pop64_r : hot_pop32_r;
    case INSN_LEAVE:
        return is64 ? hot_leave64 : hot_leave32;
    default:
        return NULL;
    }
}
