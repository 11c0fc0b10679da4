/* SPDX-License-Identifier: MIT */
/*
 * A block of the interpreter to host code. First the instructions are decoded again and the
 * liveness of flags found, from the last to the first; then each is copied, with its memory
 * operand behind a TLB check. Whatever can go wrong goes to a stub that has the interpreter
 * execute that instruction, before anything has changed.
 */
#include "translate.h"

#include <string.h>

/* ---- ends of a block ---- */

void tr_fixup(struct tr *t, uint32_t at, enum fix_kind kind, uint64_t to)
{
    struct fixup *f = &t->fix[t->nr_fix++];

    g_assert(t->nr_fix <= G_N_ELEMENTS(t->fix));
    *f = (struct fixup){.at = at, .kind = kind, .loop = false, .rec = t->rec, .loc = t->loc,
                         .live = t->live, .sp = t->sp, .redo = t->redo, .to = to};
}

/* When the condition holds the interpreter does it. Flags are saved or dead. */
void tr_slow_if(struct tr *t, unsigned cond)
{
    tr_fixup(t, emit_jcc(&t->c, cond), FIX_SLOW, 0);
}

/* The same for a TLB check that began at `retry`; want: 0, DBT_REC_WRITE or _LOAD. */
void tr_miss_if(struct tr *t, unsigned cond, uint32_t retry, uint32_t want)
{
    tr_fixup(t, emit_jcc(&t->c, cond), FIX_MISS, retry | (uint64_t)want << 32);
}

/* Changes no flags. */
void tr_guest_address(struct tr *t, unsigned reg, int64_t offset)
{
    emit_op_gs(&t->c, EMIT_LOAD, reg, TR_GS(page));
    tr_lea_word(t, reg, reg, (int32_t)offset);
}

struct emit_mem tr_jumps(const struct tr *t, size_t field)
{
    return (struct emit_mem){
        .base = EMIT_NO_REG, .index = HOST_R11, .scale = 8,
        .disp = (int32_t)(TR_GS(jumps) + t->index * sizeof(struct dbt_jumps) + field)};
}

void tr_jump_salt(struct tr *t)
{
    dbt_jump_salt_emit(&t->c, t->index, HOST_R10, tr_is32(t));
}

/* r10: rip; compares it with the one in the table. */
static void jump_compare(struct tr *t, struct emit_mem *code)
{
    struct emit_mem tag = tr_jumps(t, offsetof(struct dbt_jumps, tag));

    tr_jump_salt(t);
    dbt_jump_slot_emit(&t->c);
    emit_op_gs_mem(&t->c, EMIT_CMP_LOAD, HOST_R10, &tag);
    *code = tr_jumps(t, offsetof(struct dbt_jumps, code));
}

void tr_jump_code(struct tr *t, struct emit_mem *code)
{
    uint32_t retry = emit_offset(&t->c);

    jump_compare(t, code);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_JUMP, retry);
}

void tr_jump(struct tr *t, bool leave)
{
    uint32_t retry = emit_offset(&t->c);
    struct emit_mem code;

    jump_compare(t, &code);
    tr_fixup(t, emit_jcc(&t->c, 5), leave ? FIX_EXIT : FIX_JUMP, retry);
    tr_jump_salt(t);
    tr_go(t, &code);
}

void tr_go(struct tr *t, const struct emit_mem *code)
{
    emit_jmp_gs_mem(&t->c, code);
}

void tr_poll(struct tr *t)
{
    if (t->polled) {
        return;
    }
    t->polled = t->uses_r10 = true;
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(interp.poll));
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x8b, 0x12}, 3); /* mov (%r10),%r10d */
}

static bool tr_near(int64_t to)
{
    return to >= 0 && to < MEM_PAGE_SIZE;
}

/* To another page. */
static void tr_far(struct tr *t, int64_t to, bool leave)
{
    bool guess = tr_guesses(t);

    t->may_redo = guess && tr_guess_redo(t);
    tr_clobber(t);
    if (guess) {
        tr_guess_far(t, to, leave);
    } else {
        tr_guest_address(t, HOST_R10, to);
        tr_jump(t, leave);
    }
    t->may_redo = false;
}

/* Goes to a direct target, an offset from the page; t->live is what matters there. */
void tr_direct(struct tr *t, int64_t to)
{
    if (tr_near(to)) {
        tr_fixup(t, emit_jmp(&t->c), FIX_LINK, (uint64_t)to);
    } else {
        tr_far(t, to, false);
    }
}

void tr_exit(struct tr *t)
{
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x31, 0xdb}, 3); /* xor %r11d,%r11d */
    emit_jmp_to(&t->c, t->d->common_exit);
}

/* The same at an offset from the page. */
static void tr_leave(struct tr *t, int64_t to)
{
    tr_clobber(t);
    tr_guest_address(t, HOST_R10, to);
    tr_exit(t);
}

static void stub_link(struct tr *t, const struct fixup *f)
{
    struct dbt *d = t->d;
    struct link *l = &d->links[d->nr_links];

    *l = (struct link){.tb = t->t, .sibling = t->t->links,
                       .patch = f->at, .stub = emit_offset(&t->c),
                       .to = (uint16_t)f->to, .index = (uint8_t)t->index,
                       .host = f->loc == LOC_HOST,
                       .loop = f->loop,
                       .vector = f->kind == FIX_BACK ? 0 : t->t->need};
    if (f->kind == FIX_LINK && f->sp != TR_SP_UNKNOWN && t->low != t->high) {
        l->low = t->low - f->sp;
        l->high = t->high - f->sp;
    }
    if (f->loc == LOC_HOST && f->live != 0) {
        tr_flags_save(t);
    }
    tr_guest_address(t, HOST_R10, (int64_t)f->to);
    t->t->links = d->nr_links++;
    emit_mov_imm32(&t->c, HOST_R11, t->t->links);
    emit_jmp_to(&t->c, d->common_exit);
}

/* Has a function find what was missing and tries once more. */
static void stub_retry(struct tr *t, const struct fixup *f, uint32_t function)
{
    emit_store32_gs(&t->c, TR_GS(rec), f->rec | (uint32_t)(f->to >> 32));
    emit_call_to(&t->c, function);
    emit_jmp_to(&t->c, (uint32_t)f->to);
}

static void stub_emit(struct tr *t, const struct fixup *f)
{
    uint32_t start = emit_offset(&t->c);

    emit_patch(t->c.start, f->at, emit_offset(&t->c));
    t->rec = f->rec;
    t->loc = f->loc;
    t->live = f->live;
    t->redo = f->redo;
    if (t->loc == LOC_REDO) {
        tr_flags_stub(t);
    }
    switch (f->kind) {
    case FIX_SLOW:
        emit_mov_imm32(&t->c, HOST_R10, f->rec);
        emit_jmp_to(&t->c, t->d->common_slow);
        break;
    case FIX_MISS:
        stub_retry(t, f, t->d->common_miss);
        break;
    case FIX_JUMP:
        tr_jump_salt(t);
        stub_retry(t, f, t->d->common_jump);
        break;
    case FIX_EXIT:
        tr_jump_salt(t);
        tr_exit(t);
        break;
    case FIX_GUESS:
        tr_guess_stub(t, (unsigned)f->to, start);
        break;
    case FIX_STACK:
        tr_stack_stub(t, (uint32_t)f->to);
        break;
    case FIX_NEAR:
        tr_near_stub(t, (unsigned)f->to);
        break;
    case FIX_REGION:
        tr_region_stub(t, f->to);
        break;
    case FIX_OTHER:
        tr_other_stub(t, (unsigned)f->to);
        break;
    case FIX_FPU:
        emit_mov_imm32(&t->c, HOST_R10, f->rec);
        emit_jmp_to(&t->c, t->d->common_fpu);
        break;
    case FIX_LINK:
    case FIX_BACK:
        stub_link(t, f);
        break;
    case FIX_FAR:
        t->sp = f->sp;
        t->ip = t->d->recs[f->rec].ip;
        tr_direct(t, (int64_t)f->to);
        break;
    default:
        tr_leave(t, (int64_t)f->to);
        break;
    }
}

/* ---- one instruction ---- */

/* The interpreter executes it, here. */
void tr_interpret(struct tr *t)
{
    t->may_redo = false;
    t->lent = INSN_NO_REG;
    tr_stack_settle(t);
    tr_clobber(t);
    emit_mov_imm32(&t->c, HOST_R10, t->rec);
    emit_jmp_to(&t->c, t->d->common_slow);
    t->loc = t->status.writes ? LOC_MEM : t->loc;
}

void tr_call_c(struct tr *t, tr_c_fn fn)
{
    t->may_redo = false;
    tr_clobber(t);
    emit_mov_imm32(&t->c, HOST_R10, t->rec);
    emit_mov_imm64(&t->c, HOST_R11, (uint64_t)(uintptr_t)fn);
    emit_jmp_to(&t->c, t->d->common_c);
    t->loc = t->status.writes ? LOC_MEM : t->loc;
}

void tr_transit(struct tr *t, const struct insn *in, uint32_t common)
{
    t->may_redo = false;
    tr_clobber(t);
    tr_guest_address(t, HOST_R11, t->ip + in->len);
    emit_mov_imm32(&t->c, HOST_R10, t->rec);
    emit_jmp_to(&t->c, common);
}

static void tr_jcc(struct tr *t, const struct insn *in, uint8_t live_taken)
{
    int64_t to = (int64_t)t->ip + in->len + (int64_t)in->imm;
    bool loop = t->loop != NULL && !t->in_loop && t->number + 1 == t->loop_nr;

    if (to != (int32_t)to) {
        tr_interpret(t);
        return;
    }
    if (tr_turns(t, to) && !(loop && t->d->lockstep != NULL)) {
        tr_poll(t); /* in lockstep, which it would end, the loop does it */
    }
    tr_flags_host(t);
    t->live = live_taken;
    t->loop_fix = loop ? t->nr_fix : t->loop_fix;
    tr_fixup(t, emit_jcc(&t->c, in->cond), tr_near(to) ? FIX_LINK : FIX_FAR, (uint64_t)to);
}

/* Returns false when the block ends here for good. */
static bool tr_insn(struct tr *t, const struct insn *in, uint8_t live_taken)
{
    if (((in->flags & (INSN_F_SYSTEM | INSN_F_BRANCH)) != 0 && in->id != INSN_JCC) ||
        (in->id >= INSN_MOVS && in->id <= INSN_SCAS)) {
        t->lent = INSN_NO_REG;
    }
    switch (in->id) {
    case INSN_NOP:
        t->keeps_r11 = true;
        return true;
    case INSN_JCC:
        tr_jcc(t, in, live_taken);
        t->keeps_r11 = true;
        t->lent = t->uses_r10 ? INSN_NO_REG : t->lent;
        return true;
    case INSN_JMP:
    case INSN_CALL:
    case INSN_RET:
        tr_flow(t, in);
        return false;
    default:
        if ((in->flags & INSN_F_SYSTEM) != 0) {
            tr_system(t, in);
            return (in->flags & INSN_F_BRANCH) == 0;
        }
        if (in->id >= INSN_MOVS && in->id <= INSN_SCAS ? !tr_string(t, in) : !tr_copy(t, in)) {
            tr_interpret(t);
        }
        return true;
    }
}

bool tr_foreign(const struct dbt *d, const struct insn *in)
{
    const struct cpu_model *model = d->interp.v->model;

    if (in->id == INSN_INVALID || in->id == INSN_UD || !interp_mode_has(in)) {
        return true;
    }
    if ((in->flags & INSN_F_SYSTEM) != 0) {
        return d->lockstep != NULL && !dbt_lockstep_knows(in);
    }
    if (in->feature != INSN_FEAT_BASE && model != NULL && !cpu_model_has(model, in->feature)) {
        return true;
    }
    if ((in->flags & INSN_F_BRANCH) == 0) {
        return false;
    }
    return in->opsize != insn_word(in) ||
           (in->id != INSN_JCC && in->id != INSN_JMP && in->id != INSN_CALL &&
            in->id != INSN_RET);
}

bool tr_add(struct tr *t, unsigned at)
{
    const struct insn *in = &t->insn[t->nr];

    t->at[t->nr++] = (uint16_t)at;
    t->end = at + in->len;
    t->t->need |= in->id == INSN_NATIVE ? in->flags & NATIVE_CLASSES : 0;
    t->sp = tr_stack_after(in, t->sp);
    return t->sp != TR_SP_UNKNOWN &&
           ((in->flags & INSN_F_BRANCH) == 0 || (in->flags & INSN_F_COND) != 0);
}

static void tr_decode(struct tr *t)
{
    const struct block *b = t->b;
    unsigned at = 0;
    bool more = true;

    t->nr = 0;
    t->sp = 0;
    t->end = b->offset;
    t->foreign = false;
    while (more && at < b->bytes && t->nr < BLOCK_MAX_OPS) {
        struct insn *in = &t->insn[t->nr];

        t->foreign =
            !tr_fetch(t, in, b->source + at, b->bytes - at) || tr_foreign(t->d, in);
        if (t->foreign) {
            break;
        }
        more = tr_add(t, b->offset + at);
        at += in->len;
    }
    t->bytes = (uint16_t)at;
    tr_follow(t);
}

/* A store to the stack as it was checked: the page has a write tag, so it holds no code. */
static bool tr_store_covered(const struct tr *t, unsigned number)
{
    const struct insn *in = &t->insn[number];
    unsigned span = tr_stack_span(t, number);

    if (in->id == INSN_PUSH) {
        return in->opsize == t->word && tr_stack_covers(t, -(int)t->word, t->word);
    }
    if (in->id == INSN_CALL || in->id == INSN_POP ||
        (in->id >= INSN_BT && in->id <= INSN_BTC && in->op[1].kind == OPK_GPR)) {
        return false; /* a near call polls, and before a far one all flags matter anyway */
    }
    return span != 0 && (in->prefixes & INSN_P_LOCK) == 0 && in->id != INSN_XCHG &&
           in->id != INSN_PUSHF && in->id != INSN_MOVS && in->id != INSN_STOS &&
           tr_stack_covers(t, in->disp, span);
}

static void tr_liveness(struct tr *t)
{
    uint8_t live = FLAG_ALL, entry;

    if (t->nr > 0 && (t->insn[t->nr - 1].flags & INSN_F_BRANCH) == 0) {
        live = tr_peek(t, t->end, FLAG_ALL);
    }
    t->live_before[t->nr] = entry = live;
    for (unsigned i = t->nr; i-- > 0;) {
        const struct insn *in = &t->insn[i];
        struct insn_status s = insn_status_flags(in);
        uint8_t looks = tr_looks(in, t->at[i]);

        t->sp = t->sps[i];
        t->live_taken[i] = FLAG_ALL;
        if ((in->flags & INSN_F_BRANCH) != 0) {
            if (in->op[0].kind == OPK_REL) {
                t->live_taken[i] = tr_peek(t, tr_target(t, i), FLAG_ALL);
            }
            live = t->live_taken[i] | (in->id == INSN_JCC ? live : 0);
            entry = t->live_taken[i] | (in->id == INSN_JCC ? entry : 0);
            s.kills = 0;
        }
        live = (uint8_t)((live & ~s.kills) | s.reads);
        entry = (uint8_t)((entry & ~s.kills) | s.reads | looks);
        live |= tr_store_covered(t, i) ? 0 : looks;
        t->live_before[i] = live;
    }
    t->live_entry = entry;
}

/* ---- entries ---- */

static void entry_vector(struct tr *t)
{
    emit_bytes(&t->c, (const uint8_t[]){0x65, 0xf7, 0x04, 0x25}, 4); /* testl $.., gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(interp.native_missing));
    emit_u32(&t->c, t->t->need);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->b->offset);
    emit_bytes(&t->c, (const uint8_t[]){0x65, 0x80, 0x3c, 0x25}, 4); /* cmpb $0, gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(interp.fpu_resident));
    emit_byte(&t->c, 0);
    tr_fixup(t, emit_jcc(&t->c, 4), FIX_FPU, 0);
}

/* Would the first instruction that has to do with flags, or overwrites them by its check, only
 * save them again? */
static bool tr_checks_first(const struct tr *t)
{
    for (unsigned i = 0; i < t->nr && !t->b->crosses; i++) {
        const struct insn *in = &t->insn[i];
        struct insn_status s = insn_status_flags(in);
        bool access = tr_accesses(in) && in->base != CPU_RSP;

        if (s.reads != 0 || access || s.writes || (in->flags & INSN_F_BRANCH) != 0) {
            return s.reads == 0 && (access || in->id == INSN_CALL);
        }
    }
    return t->b->crosses;
}

void tr_entry(struct tr *t, struct tb_code *code)
{
    struct dbt *d = t->d;
    struct rec *rec = &d->recs[d->nr_recs];

    t->rec = d->nr_recs++;
    t->live = t->live_entry;
    t->loc = t->live != 0 ? LOC_MEM : LOC_DEAD;
    *code = (struct tb_code){.far = emit_offset(&t->c), .jump = DBT_JUMP_NONE};
    *rec = (struct rec){.tb = t->t, .start = code->far, .ip = t->b->offset};
    emit_lea(&t->c, HOST_R10, HOST_R10, -(int32_t)t->b->offset);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(page));
    memcpy(code->far_bytes, d->rw + code->far, sizeof(code->far_bytes));
    tr_poll(t);
    t->polled = false; /* those who come by links have not seen it */
    rec->end = code->mem[0] = code->mem[1] = code->mem[2] = emit_offset(&t->c);
    if (t->t->need != 0) {
        entry_vector(t);
        rec->resume = code->mem[1] = code->mem[2] = emit_offset(&t->c);
    }
    if (t->low != t->high) {
        tr_stack_check(t);
        code->mem[2] = emit_offset(&t->c);
    }
    code->low = t->low;
    code->high = t->high;
    t->live = t->live_before[0];
    if (!tr_checks_first(t)) {
        tr_flags_host(t);
        code->host[2] = emit_offset(&t->c);
    }
}

/* Entries with the flags in EFLAGS where checks would overwrite them; and a dead end. */
void tr_entry_stubs(struct tr *t, struct tb_code *code)
{
    for (unsigned i = 3; i-- > 0;) {
        uint8_t live = i == 2 ? t->live_before[0] : t->live_entry;

        if (code->host[i] != 0) {
            continue;
        }
        if (i < 2 && code->mem[i] == code->mem[2]) {
            code->host[i] = code->host[2];
        } else if (live == 0) {
            code->host[i] = code->mem[i];
        } else {
            code->host[i] = emit_offset(&t->c);
            tr_flags_save(t);
            emit_jmp_to(&t->c, code->mem[i]);
        }
    }
    code->stale = emit_offset(&t->c);
    emit_jmp_to(&t->c, t->d->common_again);
}

static struct rec *body_begin(struct tr *t, unsigned i)
{
    struct dbt *d = t->d;
    const struct insn *in = &t->insn[i];
    struct rec *rec = &d->recs[d->nr_recs];

    t->rec = d->nr_recs++;
    t->number = i;
    t->alone = t->keeps_r11 = t->uses_r10 = t->lags = false;
    t->ip = t->at[i];
    t->sp = t->sps[i];
    t->live = t->live_before[i];
    t->live_after = t->live_before[i + 1];
    t->status = insn_status_flags(in);
    tr_flags_before(t, in);
    t->fault_host = t->loc == LOC_HOST;
    *rec = (struct rec){.tb = t->t, .start = emit_offset(&t->c), .ip = t->ip,
                        .poll_flags = t->loc == LOC_HOST};
    return rec;
}

bool tr_loop_insn(struct tr *t, unsigned i)
{
    const struct insn *in = &t->insn[i];
    struct rec *rec = body_begin(t, i);
    bool ok = true;

    if (in->id == INSN_JCC) {
        tr_jcc(t, in, t->live_taken[i]);
        t->lent = INSN_NO_REG;
    } else {
        ok = in->id == INSN_NOP || tr_copy(t, in);
    }
    rec->end = emit_offset(&t->c);
    rec->host_flags = t->fault_host;
    tr_flags_after(t, in);
    return ok;
}

/* Its bytes may be others, or its block be decoded anew from them, while the translation stays: what
 * it stands for is kept. */
static void tr_keep_insn(struct tr *t, struct rec *rec)
{
    struct dbt *d = t->d;

    g_assert(d->nr_insns < DBT_MAX_INSNS); /* dbt_cache_room() */
    d->insns[d->nr_insns] = t->insn[t->number];
    rec->insn = d->nr_insns++;
}

static void tr_body(struct tr *t)
{
    bool open = true;

    for (unsigned i = 0; i < t->nr && open; i++) {
        const struct insn *in = &t->insn[i];
        struct rec *rec = body_begin(t, i);

        if (t->b->crosses || i >= t->own) {
            tr_keep_insn(t, rec);
        }
        if (t->b->crosses) {
            tr_across(t);
        }
        t->lags = tr_stack_lags(t, in);
        if (!t->lags) {
            tr_stack_settle(t);
        }
        open = tr_insn(t, in, t->live_taken[i]);
        rec->end = emit_offset(&t->c);
        rec->host_flags = t->fault_host;
        rec->group = t->alone;
        rec->resume = open && (in->flags & INSN_F_BRANCH) == 0 && !rec->group && t->lag == 0 &&
                              t->lent == INSN_NO_REG
                          ? emit_offset(&t->c) : 0;
        tr_group_after(t, in);
        tr_region_after(t, in);
        tr_flags_after(t, in);
    }
    t->may_redo = false;
    tr_stack_settle(t);
    if (open) {
        unsigned next = t->end;

        t->live = t->live_before[t->nr];
        t->sp = t->sps[t->nr];
        if (next >= MEM_PAGE_SIZE && !t->foreign) {
            tr_far(t, next, true);
            return;
        }
        tr_flags_settle(t);
        if (t->foreign) {
            tr_leave(t, next);
        } else {
            tr_direct(t, next);
        }
    }
}

static bool tr_peek_kept(const struct tr *t, const struct peek *p)
{
    for (unsigned i = 0; i < t->t->nr_peeks; i++) {
        const struct peek *kept = &t->d->peeks[t->t->peek + i];

        if (kept->at == p->at && kept->len == p->len) {
            return true;
        }
    }
    return false;
}

/* What it was made from, besides the block; other translations of it may have looked elsewhere. */
static void tr_keep_peeks(struct tr *t)
{
    struct dbt *d = t->d;
    struct tb *tb = t->t;
    unsigned nr = tb->nr_peeks;

    memcpy(&d->peeks[d->nr_peeks], &d->peeks[tb->peek], nr * sizeof(struct peek));
    for (unsigned i = 0; i < t->nr_peeks; i++) {
        if (!tr_peek_kept(t, &t->peeks[i])) {
            d->peeks[d->nr_peeks + nr++] = t->peeks[i];
        }
    }
    if (nr == tb->nr_peeks) {
        return;
    }
    G_STATIC_ASSERT(DBT_TB_PEEKS <= UINT8_MAX);
    tb->peek = d->nr_peeks;
    tb->nr_peeks = (uint8_t)nr;
    tb->follows |= t->nr > t->own;
    d->nr_peeks += nr;
    tb->peek_hash = dbt_peek_hash(d, tb);
}

void tr_begin(struct tr *t, struct dbt *d, struct tb *tb, unsigned index)
{
    t->d = d;
    t->b = tb->block;
    t->t = tb;
    t->index = index;
    t->word = t->b->mode == MODE_64 ? 8 : 4;
    t->nr_fix = t->nr_slots = t->nr_others = t->nr_nears = t->nr_peeks = 0;
    t->nr_groups = t->nr_addends = t->nr_guesses = 0;
    t->redo = t->kept = NULL;
    t->lent = INSN_NO_REG;
    t->polled = t->lags = false;
    t->lag = 0;
    t->may_redo = t->in_loop = false;
    t->loop = NULL;
    t->loop_nr = t->loop_fix = 0;
    tr_region_begin(t);
    t->c = (struct emit){.start = d->rw, .p = d->rw + d->used, .low = d->low};
}

void tr_stubs(struct tr *t)
{
    for (unsigned i = 0; i < t->nr_fix; i++) {
        struct fixup f = t->fix[i];

        stub_emit(t, &f);
    }
}

static void translate_loop(struct tr *t, struct tb_code *code)
{
    struct dbt *d = t->d;

    if (t->loop != NULL && tr_loop(t, code, &d->loops[d->nr_loops])) {
        t->fix[t->loop_fix].loop = true;
        code->loop = (uint16_t)d->nr_loops++;
    }
    tr_loop_free(t);
}

bool dbt_translate(struct dbt *d, struct tb *tb, unsigned index)
{
    struct tr *t = g_new(struct tr, 1);
    struct tb_code code;
    uint32_t start = d->used;
    bool ok;

    tr_begin(t, d, tb, index);
    tr_decode(t);
    ok = t->nr > 0;
    if (ok) {
        t->plain = false;
        tr_stack_scan(t);
        tr_liveness(t);
        tr_keep_peeks(t);
        tr_loop_scan(t);
        tr_entry(t, &code);
        tr_body(t);
        translate_loop(t, &code);
        tr_stubs(t);
        tr_entry_stubs(t, &code);
        d->used = (emit_offset(&t->c) + 15) & ~15u;
        code.straddle = t->straddle;
        tb->code[index] = code;
        tb->room = 0;
        dbt_trace_translation(d, tb, start, t->nr, t->bytes);
    }
    g_free(t);
    return ok;
}

void dbt_translate_plain(struct dbt *d, struct tb *tb, unsigned index)
{
    struct tr *t = g_new(struct tr, 1);
    uint32_t start = d->used;

    tr_begin(t, d, tb, index);
    tr_decode(t);
    t->plain = true;
    tr_stack_scan(t);
    t->low = t->high = 0;
    tr_liveness(t);
    tr_keep_peeks(t);
    t->live = t->live_before[0];
    t->loc = t->live != 0 ? LOC_MEM : LOC_DEAD;
    tb->code[index].plain = emit_offset(&t->c);
    emit_patch(d->rw, tb->code[index].straddle, tb->code[index].plain);
    tr_body(t);
    tr_stubs(t);
    d->used = (emit_offset(&t->c) + 15) & ~15u;
    dbt_trace_translation(d, tb, start, t->nr, t->bytes);
    g_free(t);
}
