/* SPDX-License-Identifier: MIT */
/* What code that is rewritten (rewrite.c) needs once: forms of instructions, and frames around
 * bodies that are filled in by others. */
#include "translate.h"

#include <string.h>

/* ---- forms ---- */

/* Copied as it is, it does the same: it has nothing to do with memory, nor with registers that
 * are elsewhere, and cannot fault. */
static bool form_copies(const struct insn *in)
{
    if (!insn_plain(in) || in->id == INSN_DIV || in->id == INSN_IDIV) {
        return false;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (op->kind != OPK_IMM &&
            (op->kind != OPK_GPR || ((op->reg & INSN_HIGH_BYTE) == 0 && tr_displaced(op->reg)))) {
            return false;
        }
    }
    return true;
}

static enum dbt_form_kind form_kind(const struct insn *in)
{
    if (in->feature != INSN_FEAT_BASE || in->encoding != INSN_ENC_LEGACY) {
        return DBT_FORM_OTHER;
    }
    if (in->opcode == 0xc3 && in->id == INSN_RET) {
        return DBT_FORM_RET;
    }
    if (in->id == INSN_JCC || in->id == INSN_JMP) {
        return in->op[0].kind != OPK_REL || in->opsize != 8 ? DBT_FORM_OTHER
               : in->id == INSN_JCC                         ? DBT_FORM_JCC
                                                            : DBT_FORM_JMP;
    }
    return form_copies(in) ? DBT_FORM_COPY : DBT_FORM_OTHER;
}

void dbt_form_learn(struct dbt_form *f, uint32_t head, const uint8_t *bytes)
{
    struct insn in;
    struct insn_status s;

    *f = (struct dbt_form){.head = head};
    if (insn_decode(&in, INSN_MODE_64, bytes, INSN_MAX_LEN) != INSN_OK) {
        return;
    }
    s = insn_status_flags(&in);
    f->kind = (uint8_t)form_kind(&in);
    f->len = in.len;
    f->cond = in.cond;
    f->wide = in.imm_len == 4;
    f->reads = s.reads;
    f->kills = in.id >= INSN_ROL && in.id <= INSN_SHRD ? 0 : s.kills; /* by nothing: none */
}

void dbt_forms_init(struct dbt *d)
{
    uint8_t bytes[8] = {0};

    memset(d->forms, 0, sizeof(d->forms)); /* add %al,(%rax), which is none of these */
    for (unsigned i = 0; i < 256; i++) {
        bytes[0] = (uint8_t)i;
        bytes[1] = 0xc0;
        d->head[i] = i == 0x0f || i == 0x66 || (i & 0xf0) == 0x40
                         ? 0
                         : (uint8_t)(insn_form_head(bytes) >> 56);
        bytes[0] = 0x0f;
        bytes[1] = (uint8_t)i;
        bytes[2] = 0xc0;
        d->head_0f[i] = (uint8_t)(insn_form_head(bytes) >> 56);
    }
}

/* ---- frames ---- */

/* Where the next line of the host's cache begins: nothing else is to be in those of the body. */
static uint32_t make_body(struct emit *c)
{
    uint32_t body = (emit_offset(c) + DBT_BODY_UNIT - 1) & ~(DBT_BODY_UNIT - 1u);

    if (body - emit_offset(c) >= 2) {
        emit_byte(c, 0xeb); /* jmp */
        emit_byte(c, body - (emit_offset(c) + 1));
    }
    while (emit_offset(c) != body) {
        emit_byte(c, 0x90); /* nop */
    }
    return body;
}

struct tb *dbt_rewrite_make(struct dbt *d, struct block *b, unsigned index,
                            const struct dbt_body *body)
{
    struct tb *tb = &d->tbs[d->nr_tbs++];
    struct tr *t = g_new(struct tr, 1);
    struct tb_code code;

    *tb = (struct tb){.block = b, .all_flags = body->all_flags, .dead = true};
    tr_begin(t, d, tb, index);
    t->plain = false;
    t->nr = 0;
    t->sp = t->low = 0;
    t->high = body->stack ? 8 : 0;
    t->live_entry = t->live_before[0] = body->all_flags ? FLAG_ALL : 0;
    tr_entry(t, &code);
    tb->body = make_body(&t->c);
    tb->room = (uint16_t)((body->size + body->size / 8 + DBT_BODY_UNIT) & ~(DBT_BODY_UNIT - 1u));
    tb->body_recs = d->nr_recs;
    for (unsigned i = 0; i < DBT_BODY_RECS; i++) {
        d->recs[d->nr_recs++] = (struct rec){
            .tb = tb, .start = tb->body + tb->room, .end = tb->body + tb->room};
    }
    t->c.p += tb->room;
    tr_stubs(t);
    tr_entry_stubs(t, &code);
    d->used = (emit_offset(&t->c) + 15) & ~15u;
    code.straddle = t->straddle;
    tb->code[index] = code;
    g_free(t);
    return tb;
}
