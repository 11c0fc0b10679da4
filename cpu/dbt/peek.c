/* SPDX-License-Identifier: MIT */
/*
 * Which flags matter where a block ends: a look at the code its branches lead to, as far as it
 * is in the same page. The bytes looked at are remembered by a hash: when the page has changed
 * the translation is good only if they are still the same (links.c).
 *
 * A flag is dead when everything behind overwrites it before it is looked at. Where the code may
 * change before it is run, all are looked at: at stores and polls (tr_looks()). A load in between
 * that faults does not bring it back.
 */
#include "translate.h"

enum { PEEK_INSNS = 12, PEEK_DEPTH = 3 };

uint8_t tr_looks(const struct insn *in, unsigned ip)
{
    int64_t to = (int64_t)ip + in->len + (int64_t)in->imm;

    if (insn_stores(in)) {
        return (in->flags & INSN_F_BRANCH) != 0
                   ? FLAG_ALL
                   : (uint8_t)(FLAG_ALL & ~insn_status_flags(in).kills);
    }
    return (in->id == INSN_JMP || in->id == INSN_JCC) && in->op[0].kind == OPK_REL &&
                   to <= (int64_t)ip
               ? FLAG_ALL
               : 0;
}

/* Decodes from the page itself, which is marked: a change kills the translation. */
static bool peek_decode(const struct tr *t, struct insn *in, unsigned at)
{
    const uint8_t *page = mem_frame_hva(t->d->interp.v->mem, t->b->frame);
    unsigned avail = MIN(MEM_PAGE_SIZE - at, INSN_MAX_LEN);

    (void)interp_code_mark(&t->d->interp, t->b->frame, at, avail);
    return insn_decode(in, (enum insn_mode)(t->b->mode & MODE_CODE), page + at, avail) == INSN_OK;
}

static bool peek_known(const struct insn *in)
{
    return (in->flags & INSN_F_SYSTEM) == 0 && in->id != INSN_INVALID && in->id != INSN_UD &&
           ((in->flags & INSN_F_BRANCH) == 0 ||
            ((in->id == INSN_JCC || in->id == INSN_JMP || in->id == INSN_CALL) &&
             in->opsize == insn_word(in) && in->op[0].kind == OPK_REL));
}

static bool peek_note(struct tr *t, unsigned at, unsigned len)
{
    if (t->nr_peeks == DBT_PEEKS) {
        return false;
    }
    t->peeks[t->nr_peeks++] = (struct peek){(uint16_t)at, (uint16_t)len};
    return true;
}

/* Of `pending`, the flags that may be looked at by the code at `at`. */
static uint8_t peek_at(struct tr *t, int64_t at, uint8_t pending, unsigned depth)
{
    unsigned start = (unsigned)at, end = start;
    uint8_t live = 0;
    int64_t follow[2] = {-1, -1};
    struct insn in;

    if (at < 0 || at >= MEM_PAGE_SIZE || depth == 0) {
        return pending;
    }
    for (unsigned i = 0; i < PEEK_INSNS && pending != 0 && end < MEM_PAGE_SIZE; i++) {
        struct insn_status s;

        if (!peek_decode(t, &in, end) || !peek_known(&in)) {
            break;
        }
        s = insn_status_flags(&in);
        s.reads |= tr_looks(&in, end);
        end += in.len;
        live |= s.reads & pending;
        pending &= (uint8_t)~(s.kills | s.reads);
        if ((in.flags & INSN_F_BRANCH) != 0) {
            follow[0] = (int64_t)end + (int64_t)in.imm;
            follow[1] = in.id == INSN_JCC ? (int64_t)end : -1;
            break;
        }
    }
    if (!peek_note(t, start, end - start)) {
        return live | pending;
    }
    if (pending == 0 || follow[0] == -1) {
        return live | pending;
    }
    live |= peek_at(t, follow[0], pending, depth - 1);
    if (follow[1] != -1) {
        live |= peek_at(t, follow[1], pending, depth - 1);
    }
    return live;
}

uint8_t tr_peek(struct tr *t, int64_t at, uint8_t pending)
{
    unsigned nr = t->nr_peeks;
    uint8_t live = pending == 0 ? 0 : peek_at(t, at, pending, PEEK_DEPTH);

    if (live == pending) {
        t->nr_peeks = nr; /* nothing was learnt */
    }
    return live;
}
