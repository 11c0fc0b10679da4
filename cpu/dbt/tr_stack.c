/* SPDX-License-Identifier: MIT */
/* What a translation uses of the stack, and the check for it (stack.c). */
#include "translate.h"

enum {
    STACK_MOST = 1024, /* covered by one check: a larger part is not in one page as often */
    STACK_ARRAY = 256
};

/* Is RSP an operand by its number, or one that is written? */
static bool stack_names(const struct insn *in, bool written)
{
    for (unsigned i = 0; i < in->nr_operands; i++) {
        if (in->op[i].kind == OPK_GPR && in->op[i].reg == CPU_RSP &&
            (!written || (in->op[i].access & OPA_WRITE) != 0)) {
            return true;
        }
    }
    return false;
}

/* An operand [RSP + disp]? */
static bool stack_operand(const struct insn *in)
{
    return in->base == CPU_RSP && in->index == INSN_NO_REG && in->addrsize == insn_word(in) &&
           (in->flags & (INSN_F_VSIB | INSN_F_MODRM)) == INSN_F_MODRM && in->seg != CPU_FS &&
           in->seg != CPU_GS && in->seg != CPU_CS;
}

unsigned tr_stack_span(const struct tr *t, unsigned number)
{
    const struct insn *in = &t->insn[number];
    const struct insn_operand *mem = insn_mem_operand(in);
    struct insn first = *in;
    unsigned most;

    if (!tr_accesses(in) || mem->size == 0 || mem->size > 512) {
        return 0;
    }
    if (stack_operand(in)) {
        return mem->size;
    }
    first.index = INSN_NO_REG;
    if (!stack_operand(&first) || !tr_bounded(t, number, in->index, &most) ||
        most * in->scale + mem->size > STACK_ARRAY) {
        return 0;
    }
    return most * in->scale + mem->size;
}

bool tr_stack_delta(const struct insn *in, int32_t *delta)
{
    const int32_t word = (int32_t)insn_word(in), most = word == 8 ? 1 << 24 : TR_STACK32_NEAR + 1;
    bool constant = in->opsize == word && in->op[0].kind == OPK_GPR && in->op[0].reg == CPU_RSP;
    int64_t imm = word == 8 ? (int64_t)in->imm : (int32_t)in->imm;

    *delta = 0;
    if ((in->flags & INSN_F_SYSTEM) != 0) {
        return false; /* nor is anything known about the cached page */
    }
    switch (in->id) {
    case INSN_PUSH:
        *delta = -word;
        return in->opsize == word;
    case INSN_POP:
        *delta = word;
        return in->opsize == word && (in->op[0].kind != OPK_GPR || in->op[0].reg != CPU_RSP);
    case INSN_PUSHA:
    case INSN_POPA:
    case INSN_ENTER:
    case INSN_LEAVE:
        return false;
    case INSN_ADD:
    case INSN_SUB:
        if (constant && in->op[1].kind == OPK_IMM && imm > -most && imm < most) {
            *delta = (int32_t)(in->id == INSN_ADD ? imm : -imm);
            return true;
        }
        break;
    case INSN_LEA:
        if (constant && stack_operand(in) && in->disp > -most && in->disp < most) {
            *delta = (int32_t)in->disp;
            return true;
        }
        break;
    default:
        break;
    }
    return !stack_names(in, true);
}

int32_t tr_stack_after(const struct insn *in, int32_t sp)
{
    int32_t delta;

    if (sp == TR_SP_UNKNOWN || !tr_stack_delta(in, &delta) ||
        (insn_word(in) == 4 && ABS(sp + delta) > TR_STACK32_NEAR)) {
        return TR_SP_UNKNOWN;
    }
    return sp + delta;
}

/* [low, high) from RSP at the start is used; more than can be covered is left out. */
static void stack_use(struct tr *t, int64_t low, unsigned size)
{
    int64_t high = low + size;

    if (t->low != t->high) {
        low = MIN(low, t->low);
        high = MAX(high, t->high);
    }
    if (tr_is32(t) && (low < -2 * TR_STACK32_NEAR || high > 2 * TR_STACK32_NEAR)) {
        return;
    }
    if (high - low <= STACK_MOST) {
        t->low = (int32_t)low;
        t->high = (int32_t)high;
    }
}

/* Does the branch lead to nothing but a RET, as the code there is now? */
static bool stack_returns(const struct tr *t, unsigned i)
{
    const struct insn *in = &t->insn[i];
    const uint8_t *page = mem_frame_hva(t->d->interp.v->mem, t->b->frame);
    int64_t to = tr_target(t, i);

    return in->id == INSN_RET ||
           (in->id == INSN_JCC && to >= 0 && to < MEM_PAGE_SIZE && page[to] == 0xc3);
}

/* Does it lead to other code of its function? */
static bool stack_goes_on(const struct tr *t)
{
    for (unsigned i = 0; i < t->nr; i++) {
        if ((t->insn[i].flags & INSN_F_BRANCH) != 0 && !stack_returns(t, i)) {
            return true;
        }
    }
    return t->nr == 0 || t->insn[t->nr - 1].id != INSN_RET;
}

/*
 * What the code that follows is likely to use: its frame and the way back; or what a CALL pushes,
 * whose check would have to save the flags.
 */
static void stack_widen(struct tr *t)
{
    enum { FRAME = 256 };

    if (t->low == t->high) {
        return;
    }
    if (t->low >= 0) {
        if (stack_goes_on(t)) {
            stack_use(t, -(int32_t)t->word, t->word);
        }
        return;
    }
    stack_use(t, 0, t->word);
    if (t->sp != TR_SP_UNKNOWN && t->sp < t->low && t->high - t->sp <= FRAME) {
        t->low = t->sp;
    }
}

void tr_stack_scan(struct tr *t)
{
    const int32_t word = (int32_t)t->word;

    t->sp = t->low = t->high = 0;
    for (unsigned i = 0; i < t->nr; i++) {
        const struct insn *in = &t->insn[i];
        unsigned span = tr_stack_span(t, i);

        t->sps[i] = t->sp;
        if (span != 0 && in->disp == (int32_t)in->disp) {
            stack_use(t, t->sp + (int64_t)in->disp, span);
        }
        if (in->id == INSN_PUSH || in->id == INSN_CALL || in->id == INSN_PUSHF) {
            stack_use(t, (int64_t)t->sp - word, t->word);
        } else if (in->id == INSN_POP || in->id == INSN_RET) {
            stack_use(t, t->sp, t->word);
        }
        t->sp = tr_stack_after(in, t->sp);
    }
    t->sps[t->nr] = t->sp;
    stack_widen(t);
}

bool tr_stack_covers(const struct tr *t, int64_t disp, unsigned size)
{
    return !t->plain && t->low != t->high && t->sp + disp >= t->low &&
           t->sp + disp + size <= t->high;
}

/* Operands that say RSP by its number, and what a PUSH or POP moves. */
static bool stack_named(const struct insn *in)
{
    return stack_names(in, false) ||
           (in->id == INSN_LEA && (in->base == CPU_RSP || in->index == CPU_RSP));
}

static bool stack_plain(const struct tr *t, const struct insn *in)
{
    const struct insn_operand *mem = insn_mem_operand(in);
    int32_t delta;

    if (in->id == INSN_PUSH || in->id == INSN_POP) {
        bool push = in->id == INSN_PUSH;

        return in->opsize == t->word && !stack_named(in) &&
               (in->op[0].kind == OPK_GPR || (push && in->op[0].kind == OPK_IMM)) &&
               tr_stack_covers(t, push ? -(int)t->word : 0, t->word);
    }
    if (stack_named(in)) {
        return tr_stack_delta(in, &delta) && delta != 0 &&
               (!t->status.writes || t->live_after == 0);
    }
    return !tr_accesses(in) ||
           (stack_operand(in) && in->disp == (int32_t)in->disp &&
            (in->prefixes & INSN_P_LOCK) == 0 && in->id != INSN_XCHG &&
            (in->id < INSN_BT || in->id > INSN_BTC) && tr_stack_covers(t, in->disp, mem->size));
}

bool tr_stack_lags(const struct tr *t, const struct insn *in)
{
    if (t->plain || t->b->crosses || !tr_stack_exact(t)) {
        return false;
    }
    if (in->id == INSN_RET) {
        return in->opsize == t->word && !t->d->no_returns && tr_stack_covers(t, 0, t->word);
    }
    return (in->flags & (INSN_F_SYSTEM | INSN_F_BRANCH)) == 0 && in->id != INSN_NATIVE &&
           in->id != INSN_DIV && in->id != INSN_IDIV &&
           tr_keeps(in, INSN_NO_REG, INSN_NO_REG) && stack_plain(t, in);
}

void tr_stack_settle(struct tr *t)
{
    if (t->lag != 0) {
        emit_lea(&t->c, HOST_STACK, HOST_STACK, t->lag);
        t->lag = 0;
    }
}

void tr_stack_move(struct tr *t, int32_t delta)
{
    if (!tr_stack_exact(t)) {
        t->keeps_r11 = false;
        tr_stack_wrap(t, CPU_RSP, delta);
        return;
    }
    t->lag += delta;
    if (!t->lags) {
        tr_stack_settle(t);
    }
}

void tr_stack_check(struct tr *t)
{
    uint32_t check = emit_offset(&t->c);

    emit_lea(&t->c, HOST_R10, HOST_STACK, t->low);
    emit_op_gs(&t->c, EMIT_SUB_LOAD, HOST_R10, TR_GS(interp.stack.base));
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xfa}, 3);   /* cmp $..,%r10 */
    emit_u32(&t->c, (uint32_t)(MEM_PAGE_SIZE - (t->high - t->low)));
    tr_fixup(t, emit_jcc(&t->c, 7), FIX_STACK, check);
}

/* Over the end of a page: the plain translation, when there is one. Else another page. */
void tr_stack_stub(struct tr *t, uint32_t check)
{
    uint32_t number = (uint32_t)(t->t - t->d->tbs) * TLB_NR + t->index;

    emit_lea(&t->c, HOST_R10, HOST_STACK, t->low);
    emit_lea(&t->c, HOST_R11, HOST_STACK, t->high - 1);
    emit_op_reg(&t->c, EMIT_XOR_LOAD, HOST_R11, HOST_R10);
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xe3, 0, 0xf0, 0xff, 0xff}, 7);
    t->straddle = emit_jcc(&t->c, 5);
    emit_store32_gs(&t->c, TR_GS(rec), number);
    emit_call_to(&t->c, t->d->common_page[t->index][tr_is32(t)]);
    emit_jmp_to(&t->c, check);
    emit_patch(t->c.start, t->straddle, emit_offset(&t->c));
    emit_mov_imm32(&t->c, HOST_R10, number);
    emit_jmp_to(&t->c, t->d->common_stack);
}
