/* SPDX-License-Identifier: MIT */
/*
 * A block that ends with a jump back within its page goes on with what stands there, as loops with
 * several ways through them do: the jump is a NOP then, the stack is not checked again, and flags
 * that matter only in rare cases are not saved for a block of its own (tr_flags.c). What is met
 * there is part of what the translation was made from, like code that was peeked at (peek.c).
 *
 * Not followed are jumps back into the block itself, those without a poll before them (each way
 * round has to pass one), and those forward: zlib was 1 to 3 % slower with them, nothing faster.
 */
#include "translate.h"

enum { FOLLOW_BYTES = 128 };

/* Does a branch back poll, whichever way it goes (tr_jcc())? In lockstep a loop may not. */
static bool follow_polled(const struct tr *t)
{
    const int64_t start = t->d->lockstep != NULL ? t->b->offset : -1;

    for (unsigned i = 0; i < t->nr; i++) {
        const struct insn *in = &t->insn[i];
        int64_t to = tr_target(t, i);

        if (in->id == INSN_JCC && to >= 0 && to <= t->at[i] && to != start) {
            return true;
        }
    }
    return false;
}

/* Was it translated before, for another TLB or another stack, and that was not followed? What an entry
 * has checked holds for all translations, and so does what they are compared with. */
static bool follow_never(const struct tr *t)
{
    bool made = false;

    for (unsigned i = 0; i < TLB_NR; i++) {
        made |= t->t->code[i].far != 0;
    }
    return made && !t->t->follows;
}

/* Where the block's last instruction leads; -1: that is not to be followed. */
static int64_t follow_target(const struct tr *t)
{
    const struct insn *in = t->nr > 0 ? &t->insn[t->nr - 1] : NULL;
    int64_t to;

    if (in == NULL || in->id != INSN_JMP || in->op[0].kind != OPK_REL || t->b->crosses ||
        t->d->interp.stress.block_insns != 0 || !follow_polled(t) || follow_never(t)) {
        return -1;
    }
    to = tr_target(t, t->nr - 1);
    return to < t->b->offset ? to : -1;
}

/* Instructions from there on; how many bytes. */
static unsigned follow_decode(struct tr *t, unsigned from)
{
    const uint8_t *page = mem_frame_hva(t->d->interp.v->mem, t->b->frame);
    unsigned at = from;
    bool more = true;

    while (more && at < from + FOLLOW_BYTES && t->nr < BLOCK_MAX_OPS) {
        struct insn *in = &t->insn[t->nr];
        unsigned avail = MIN(MEM_PAGE_SIZE - at, INSN_MAX_LEN);

        (void)interp_code_mark(&t->d->interp, t->b->frame, at, avail);
        if (!tr_fetch(t, in, page + at, avail) || tr_foreign(t->d, in)) {
            break;
        }
        more = tr_add(t, at);
        at += in->len;
    }
    return at - from;
}

void tr_follow(struct tr *t)
{
    int64_t to = follow_target(t);
    struct insn *jump;
    unsigned bytes;

    t->own = t->nr;
    if (to < 0) {
        return;
    }
    jump = &t->insn[t->nr - 1];
    bytes = follow_decode(t, (unsigned)to);
    if (bytes != 0) {
        *jump = (struct insn){
            .id = INSN_NOP, .mode = jump->mode, .len = jump->len, .base = INSN_NO_REG, .index = INSN_NO_REG};
        t->peeks[t->nr_peeks++] = (struct peek){(uint16_t)to, (uint16_t)bytes};
        t->d->counts.n[COUNT_FOLLOWED]++;
    }
}
