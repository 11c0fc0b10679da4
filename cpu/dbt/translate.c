/* SPDX-License-Identifier: MIT */
/*
 * A block of the interpreter to host code. First the instructions are decoded again and the
 * liveness of flags found, from the last to the first; then each is copied, with its memory
 * operand behind a TLB check. Whatever can go wrong goes to a stub that has the interpreter
 * execute that instruction, before anything has changed.
 */
#include "translate.h"

#include <string.h>

/* ---- flags ---- */

static void flags_save(struct tr *t)
{
    emit_mov(&t->c, HOST_R10, CPU_RAX);
    emit_byte(&t->c, 0x9f);                                         /* lahf */
    emit_bytes(&t->c, (const uint8_t[]){0x0f, 0x90, 0xc0}, 3);      /* seto %al */
    emit_op32_gs(&t->c, EMIT_STORE, CPU_RAX, TR_GS(interp.fl));
    emit_mov(&t->c, CPU_RAX, HOST_R10);
}

/* EFLAGS are about to be overwritten by the translation itself. */
void tr_clobber(struct tr *t)
{
    if (t->loc == LOC_HOST) {
        if (t->live != 0) {
            flags_save(t);
        }
        t->loc = t->live != 0 ? LOC_MEM : LOC_DEAD;
    }
}

/* The guest's flags that are alive have to be in EFLAGS. Changes r10. */
void tr_flags_host(struct tr *t)
{
    if (t->loc == LOC_MEM && t->live != 0) {
        emit_mov(&t->c, HOST_R10, CPU_RAX);
        emit_op32_gs(&t->c, EMIT_LOAD, CPU_RAX, TR_GS(interp.fl));
        emit_bytes(&t->c, (const uint8_t[]){0x04, 0x7f, 0x9e}, 3); /* add $0x7f,%al; sahf */
        emit_mov(&t->c, CPU_RAX, HOST_R10);
        t->loc = LOC_HOST;
    }
}

/* ---- ends of a block ---- */

static void tr_fixup(struct tr *t, uint32_t at, enum fix_kind kind, uint64_t to)
{
    struct fixup *f = &t->fix[t->nr_fix++];

    g_assert(t->nr_fix <= G_N_ELEMENTS(t->fix));
    *f = (struct fixup){.at = at, .kind = kind, .rec = t->rec, .loc = t->loc, .to = to};
}

/* When the condition holds the interpreter does it. Flags are saved or dead. */
void tr_slow_if(struct tr *t, unsigned cond)
{
    tr_fixup(t, emit_jcc(&t->c, cond), FIX_SLOW, 0);
}

/* The same for a TLB check that began at `retry`. */
void tr_miss_if(struct tr *t, unsigned cond, uint32_t retry, bool write)
{
    tr_fixup(t, emit_jcc(&t->c, cond), FIX_MISS, retry | (uint64_t)write << 32);
}

/* Changes no flags. */
void tr_guest_address(struct tr *t, unsigned reg, int64_t offset)
{
    emit_op_gs(&t->c, EMIT_LOAD, reg, TR_GS(page));
    emit_lea(&t->c, reg, reg, (int32_t)offset);
}

static size_t tr_jumps(const struct tr *t)
{
    return TR_GS(jumps) + t->index * sizeof(struct dbt_jump) * DBT_JUMPS;
}

/* r10: rip. r11: its place in the table of jumps. Flags are saved or dead. */
void tr_jump_index(struct tr *t)
{
    emit_mov(&t->c, HOST_R11, HOST_R10);
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0xc1, 0xeb, 12}, 4); /* shr $12,%r11 */
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x31, 0xd3}, 3);     /* xor %r10d,%r11d */
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x81, 0xe3}, 3); /* and $..,%r11d */
    emit_u32(&t->c, DBT_JUMPS - 1);
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0xc1, 0xe3, 4}, 4); /* shl $4,%r11d */
}

/* r10: rip, r11: index. Goes slow when it has no code. */
void tr_jump_check(struct tr *t)
{
    emit_op_gs_index(&t->c, EMIT_CMP_LOAD, HOST_R10, HOST_R11, tr_jumps(t));
    tr_slow_if(t, 5);
}

static void tr_new_page(struct tr *t)
{
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xe2, 0, 0xf0, 0xff, 0xff}, 7);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(page)); /* and $-4096,%r10 */
}

/* r10: rip, r11: index. */
void tr_go(struct tr *t)
{
    tr_new_page(t);
    emit_bytes(&t->c, (const uint8_t[]){0x65, 0x41, 0xff, 0xa3}, 4); /* jmp *gs:..(%r11) */
    emit_u32(&t->c, (uint32_t)(tr_jumps(t) + offsetof(struct dbt_jump, code)));
}

/* Goes to a direct target, an offset from the page. */
void tr_direct(struct tr *t, int64_t to)
{
    if (to >= 0 && to < MEM_PAGE_SIZE) {
        tr_fixup(t, emit_jmp(&t->c), FIX_LINK, (uint64_t)to);
        return;
    }
    tr_clobber(t);
    tr_guest_address(t, HOST_R10, to);
    tr_jump_index(t);
    tr_jump_check(t);
    tr_go(t);
}

/* Leaves for the interpreter at an offset from the page. */
static void tr_leave(struct tr *t, int64_t to)
{
    tr_clobber(t);
    tr_guest_address(t, HOST_R10, to);
    emit_bytes(&t->c, (const uint8_t[]){0x45, 0x31, 0xdb}, 3); /* xor %r11d,%r11d */
    emit_jmp_to(&t->c, t->d->common_exit);
}

static void stub_link(struct tr *t, const struct fixup *f)
{
    struct dbt *d = t->d;
    struct link *l = &d->links[d->nr_links];

    *l = (struct link){.tb = t->t, .patch = f->at, .to = (uint16_t)f->to,
                       .index = (uint8_t)t->index, .host = f->loc == LOC_HOST};
    if (f->loc == LOC_HOST) {
        flags_save(t);
    }
    tr_guest_address(t, HOST_R10, (int64_t)f->to);
    emit_mov_imm32(&t->c, HOST_R11, d->nr_links++);
    emit_jmp_to(&t->c, d->common_exit);
}

static void stub_emit(struct tr *t, const struct fixup *f)
{
    emit_patch(t->c.start, f->at, emit_offset(&t->c));
    t->rec = f->rec;
    switch (f->kind) {
    case FIX_SLOW:
        emit_mov_imm32(&t->c, HOST_R10, f->rec);
        emit_jmp_to(&t->c, t->d->common_slow);
        break;
    case FIX_MISS:
        emit_bytes(&t->c, (const uint8_t[]){0x65, 0xc7, 0x04, 0x25}, 4); /* movl $.., gs:.. */
        emit_u32(&t->c, (uint32_t)TR_GS(rec));
        emit_u32(&t->c, f->rec | (f->to >> 32 != 0 ? DBT_REC_WRITE : 0));
        emit_call_to(&t->c, t->d->common_miss);
        emit_jmp_to(&t->c, (uint32_t)f->to);
        break;
    case FIX_FPU:
        emit_mov_imm32(&t->c, HOST_R10, f->rec);
        emit_jmp_to(&t->c, t->d->common_fpu);
        break;
    case FIX_LINK:
        stub_link(t, f);
        break;
    case FIX_FAR:
        t->loc = f->loc;
        t->live = FLAG_ALL;
        tr_direct(t, (int64_t)f->to);
        break;
    default:
        t->loc = f->loc;
        tr_leave(t, (int64_t)f->to);
        break;
    }
}

/* ---- one instruction ---- */

/* The interpreter executes it, here. */
void tr_interpret(struct tr *t)
{
    tr_clobber(t);
    emit_mov_imm32(&t->c, HOST_R10, t->rec);
    emit_jmp_to(&t->c, t->d->common_slow);
    t->loc = t->status.writes ? LOC_MEM : t->loc;
}

void tr_call_c(struct tr *t, tr_c_fn fn)
{
    tr_clobber(t);
    emit_mov_imm32(&t->c, HOST_R10, t->rec);
    emit_mov_imm64(&t->c, HOST_R11, (uint64_t)(uintptr_t)fn);
    emit_jmp_to(&t->c, t->d->common_c);
    t->loc = t->status.writes ? LOC_MEM : t->loc;
}

static void tr_jcc(struct tr *t, const struct insn *in)
{
    int64_t to = (int64_t)t->ip + in->len + (int64_t)in->imm;

    if (to != (int32_t)to) {
        tr_interpret(t);
        return;
    }
    tr_flags_host(t);
    tr_fixup(t, emit_jcc(&t->c, in->cond),
             to >= 0 && to < MEM_PAGE_SIZE ? FIX_LINK : FIX_FAR, (uint64_t)to);
}

/* Returns false when the block ends here for good. */
static bool tr_insn(struct tr *t, const struct insn *in)
{
    switch (in->id) {
    case INSN_NOP:
        return true;
    case INSN_JCC:
        tr_jcc(t, in);
        return true;
    case INSN_JMP:
    case INSN_CALL:
    case INSN_RET:
        tr_flow(t, in);
        return false;
    default:
        if (!tr_copy(t, in)) {
            tr_interpret(t);
        }
        return true;
    }
}

/* Instructions that the interpreter has to do at the head of a block of its own. */
static bool tr_foreign(const struct dbt *d, const struct insn *in)
{
    const struct cpu_model *model = d->interp.v->model;

    if ((in->flags & INSN_F_SYSTEM) != 0 || in->id == INSN_INVALID || in->id == INSN_UD) {
        return true;
    }
    if (in->feature != INSN_FEAT_BASE && model != NULL && !cpu_model_has(model, in->feature)) {
        return true;
    }
    if ((in->flags & INSN_F_BRANCH) == 0) {
        return false;
    }
    return in->opsize != 8 ||
           (in->id != INSN_JCC && in->id != INSN_JMP && in->id != INSN_CALL &&
            in->id != INSN_RET);
}

static void tr_decode(struct tr *t)
{
    const struct block *b = t->b;
    unsigned at = 0;

    t->nr = 0;
    while (at < b->bytes && t->nr < BLOCK_MAX_OPS) {
        struct insn *in = &t->insn[t->nr];

        if (insn_decode(in, INSN_MODE_64, b->source + at, b->bytes - at) != INSN_OK ||
            tr_foreign(t->d, in)) {
            break;
        }
        t->at[t->nr++] = (uint16_t)at;
        at += in->len;
        if ((in->flags & INSN_F_BRANCH) != 0 && (in->flags & INSN_F_COND) == 0) {
            break;
        }
        t->t->need |= in->id == INSN_NATIVE ? in->flags & NATIVE_CLASSES : 0;
    }
    t->bytes = (uint16_t)at;
}

static void tr_liveness(struct tr *t)
{
    uint8_t live = FLAG_ALL;

    for (unsigned i = t->nr; i-- > 0;) {
        struct insn_status s = insn_status_flags(&t->insn[i]);

        if ((t->insn[i].flags & INSN_F_BRANCH) != 0) {
            live = FLAG_ALL;
        }
        live = (uint8_t)((live & ~s.kills) | s.reads);
        t->live_before[i] = live;
    }
}

static void tr_entry(struct tr *t, struct tb_code *code)
{
    struct dbt *d = t->d;

    code->host = emit_offset(&t->c);
    t->live = t->live_before[0];
    t->loc = t->live != 0 ? LOC_MEM : LOC_DEAD;
    if (t->live != 0) {
        flags_save(t);
    }
    code->mem = emit_offset(&t->c);
    emit_mov_imm64(&t->c, HOST_R10, (uint64_t)(uintptr_t)t->b->generation_now);
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x81, 0x3a}, 3); /* cmpl $.., (%r10) */
    code->generation = emit_offset(&t->c);
    emit_u32(&t->c, t->b->generation);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->b->offset);
    emit_bytes(&t->c, (const uint8_t[]){0x65, 0x83, 0x3c, 0x25}, 4); /* cmpl $0, gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(interp.attention));
    emit_byte(&t->c, 0);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->b->offset);
    if (t->t->need != 0) {
        emit_bytes(&t->c, (const uint8_t[]){0x65, 0xf7, 0x04, 0x25}, 4); /* testl $.., gs:.. */
        emit_u32(&t->c, (uint32_t)TR_GS(interp.native_missing));
        emit_u32(&t->c, t->t->need);
        tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->b->offset);
        emit_bytes(&t->c, (const uint8_t[]){0x65, 0x80, 0x3c, 0x25}, 4); /* cmpb $0, gs:.. */
        emit_u32(&t->c, (uint32_t)TR_GS(interp.fpu_resident));
        emit_byte(&t->c, 0);
        t->rec = d->nr_recs;
        tr_fixup(t, emit_jcc(&t->c, 4), FIX_FPU, 0);
    }
}

static void tr_body(struct tr *t)
{
    struct dbt *d = t->d;
    bool open = true;

    for (unsigned i = 0; i < t->nr && open; i++) {
        const struct insn *in = &t->insn[i];
        struct rec *rec = &d->recs[d->nr_recs];

        t->rec = d->nr_recs++;
        t->ip = (uint16_t)(t->b->offset + t->at[i]);
        t->live = t->live_before[i];
        t->live_after = i + 1 < t->nr ? t->live_before[i + 1] : FLAG_ALL;
        t->status = insn_status_flags(in);
        *rec = (struct rec){.tb = t->t, .start = emit_offset(&t->c), .ip = t->ip,
                            .host_flags = t->loc == LOC_HOST && insn_mem_operand(in) == NULL};
        open = tr_insn(t, in);
        rec->end = emit_offset(&t->c);
        rec->resume = open && (in->flags & INSN_F_BRANCH) == 0 ? emit_offset(&t->c) : 0;
    }
    if (open) {
        unsigned next = t->b->offset + t->bytes;

        t->live = FLAG_ALL;
        if (next < MEM_PAGE_SIZE && t->bytes == t->b->bytes) {
            tr_direct(t, next);
        } else {
            tr_leave(t, next);
        }
    }
}

bool dbt_translate(struct dbt *d, struct block *b, struct tb *tb, unsigned index)
{
    struct tr *t = g_new(struct tr, 1);
    struct tb_code code;
    bool ok;

    t->d = d;
    t->b = b;
    t->t = tb;
    t->index = index;
    t->nr_fix = 0;
    t->c = (struct emit){.start = d->rw, .p = d->rw + d->used};
    tr_decode(t);
    ok = t->nr > 0;
    if (ok) {
        tr_liveness(t);
        tr_entry(t, &code);
        tr_body(t);
        for (unsigned i = 0; i < t->nr_fix; i++) {
            struct fixup f = t->fix[i];

            stub_emit(t, &f);
        }
        d->used = (emit_offset(&t->c) + 15) & ~15u;
        tb->code[index] = code;
    }
    g_free(t);
    return ok;
}
