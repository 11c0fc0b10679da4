/* SPDX-License-Identifier: MIT */
/*
 * Near branches that end a block. Nothing is committed before the target is known to have code:
 * if it has not, the interpreter executes the branch.
 */
#include "translate.h"

/* The target of an indirect branch, if it is in memory, to r10. */
static bool flow_fetch(struct tr *t, const struct insn *in)
{
    struct tr_operand op;
    struct emit_mem m;

    if (in->op[0].kind != OPK_MEM) {
        return true;
    }
    if (!tr_operand_of(t, in, &op)) {
        return false;
    }
    tr_clobber(t);
    tr_check(t, &op, &m);
    tr_load_word(t, HOST_R10, &m);
    return true;
}

/* A RET may take more than is known of the stack. */
static bool flow_wraps(const struct tr *t, int32_t pop)
{
    return !tr_stack_exact(t) || (tr_is32(t) && pop > TR_STACK32_NEAR);
}

/* RSP behind it. Changes r11 if it wraps. */
static void flow_pop(struct tr *t, int32_t pop)
{
    if (flow_wraps(t, pop)) {
        tr_stack_settle(t);
        tr_stack_wrap(t, CPU_RSP, pop);
    } else {
        tr_stack_move(t, pop);
        tr_stack_settle(t);
    }
}

/* Nothing is predicted. */
static void flow_ret_jump(struct tr *t, const struct tr_operand *slot, int32_t pop)
{
    struct emit_mem m, code;

    tr_clobber(t);
    tr_check(t, slot, &m);
    tr_load_word(t, HOST_R10, &m);
    tr_jump_code(t, &code);
    tr_jump_salt(t);
    if (!flow_wraps(t, pop)) {
        flow_pop(t, pop);
        tr_go(t, &code);
        return;
    }
    emit_op_gs_mem(&t->c, EMIT_LOAD, HOST_R11, &code);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(target));
    flow_pop(t, pop);
    emit_jmp_gs(&t->c, TR_GS(target));
}

static void flow_ret(struct tr *t, const struct insn *in)
{
    int32_t extra = in->nr_operands > 0 && in->op[0].kind == OPK_IMM ? (int32_t)in->imm : 0;
    struct tr_operand slot = {.base = CPU_RSP, .index = INSN_NO_REG, .scale = 1, .seg = CPU_SS,
                              .size = t->word};
    struct emit_mem m;

    if (t->d->no_returns) {
        flow_ret_jump(t, &slot, (int32_t)t->word + extra);
        return;
    }
    tr_check(t, &slot, &m);
    tr_flags_host(t);
    tr_load_word(t, HOST_R10, &m);
    flow_pop(t, (int32_t)t->word + extra);
    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    emit_byte(&t->c, 0xc3);
}

/* Both ways, when rare things are to be frequent. */
static bool flow_loop(const struct tr *t)
{
    return t->d->quick_loop != (t->d->options.shake != 0 && t->d->nr_recs % 2 != 0);
}

/* Behind the host's CALL. r10: where the RET that came here leads to; flags in EFLAGS. A LOOP
 * that is not taken leaves no trace in the history by which the host predicts branches; a JRCXZ
 * would have to be taken. */
static void flow_landing(struct tr *t, int64_t back)
{
    bool loop = flow_loop(t);
    const uint32_t elsewhere = t->d->common_return[tr_is32(t)];
    const uint8_t compare[] = {
        0x48, 0xf7, 0xd1,                              /* not %rcx */
        0x4a, 0x8d, 0x4c, 0x11, loop ? 2 : 1,          /* lea ..(%rcx,%r10),%rcx */
        loop ? 0xe2 : 0xe3, 0x05};                     /* loop or jrcxz; the jump has 5 bytes */
    uint32_t from = 0;

    t->loc = LOC_HOST;
    t->live = FLAG_ALL;
    emit_mov(&t->c, HOST_R11, CPU_RCX);
    emit_byte(&t->c, 0x59); /* pop %rcx */
    if (back >= MEM_PAGE_SIZE) { /* in another page */
        emit_jmp_to(&t->c, elsewhere);
        return;
    }
    emit_bytes(&t->c, compare, sizeof(compare));
    if (loop) {
        from = emit_offset(&t->c);
    } else {
        emit_jmp_to(&t->c, elsewhere);
    }
    emit_mov(&t->c, CPU_RCX, HOST_R11);
    emit_lea(&t->c, HOST_R10, HOST_R10, -(int32_t)back);
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(page));
    tr_fixup(t, emit_jmp(&t->c), FIX_BACK, (uint64_t)back);
    if (loop) {
        t->c.start[from - 1] = (uint8_t)(emit_offset(&t->c) - from);
        emit_jmp_to(&t->c, elsewhere);
    }
}

/* An indirect one. */
static void flow_jmp(struct tr *t, const struct insn *in)
{
    bool guess = tr_guesses(t);

    if (guess) {
        tr_poll(t);
        t->may_redo = tr_guess_redo(t);
    }
    if (!flow_fetch(t, in)) {
        tr_interpret(t);
        return;
    }
    tr_clobber(t);
    if (in->op[0].kind == OPK_GPR) {
        tr_get_word(t, HOST_R10, in->op[0].reg);
    }
    if (guess) {
        tr_guess_jump(t, false);
    } else {
        tr_jump(t, false);
    }
}

/* Target of a call to another page, to r10; from memory it is in gs:[tmp]. */
static void flow_call_to(struct tr *t, const struct insn *in, int64_t to)
{
    if (in->op[0].kind == OPK_REL) {
        tr_guest_address(t, HOST_R10, to);
    } else if (in->op[0].kind == OPK_GPR && in->op[0].reg != CPU_RSP) {
        tr_get_word(t, HOST_R10, in->op[0].reg);
    } else {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(tmp));
    }
}

/* The target of a call, to r10, and where flow_call_to() finds it again. */
static void flow_call_target(struct tr *t, const struct insn *in, int64_t to)
{
    bool rsp = in->op[0].kind == OPK_GPR && in->op[0].reg == CPU_RSP;

    if (rsp) {
        tr_get(t, HOST_R10, CPU_RSP);
    }
    if (rsp || in->op[0].kind == OPK_MEM) {
        emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(tmp));
    } else {
        flow_call_to(t, in, to);
    }
}

/* Its code to r11, or to gs:[target] where r11 is `wanted`. */
static void flow_call_code(struct tr *t, const struct insn *in, int64_t to, bool wanted)
{
    struct emit_mem code;

    tr_clobber(t);
    flow_call_target(t, in, to);
    tr_jump_code(t, &code);
    emit_op_gs_mem(&t->c, EMIT_LOAD, HOST_R11, &code);
    if (wanted) {
        emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(target));
    }
}

/* r10, where it is the page, or not yet, to `back` from there; and that to both stacks. */
static void flow_push(struct tr *t, int64_t back, bool page)
{
    const int32_t word = (int32_t)t->word;
    struct emit_mem m = {.base = HOST_STACK, .index = EMIT_NO_REG, .scale = 1, .disp = -word};

    if (page) {
        tr_lea_word(t, HOST_R10, HOST_R10, (int32_t)back);
    } else {
        tr_guest_address(t, HOST_R10, back);
    }
    tr_store_word(t, HOST_R10, &m);
    emit_lea(&t->c, HOST_STACK, HOST_STACK, -word);
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x52}, 2); /* push %r10 */
}

static bool flow_site(const struct tr *t, const uint64_t *set)
{
    unsigned bit = dbt_site_bit(t->b->frame, t->ip);

    return (set[bit / 64] >> (bit % 64) & 1) != 0;
}

bool tr_guesses(const struct tr *t)
{
    return !flow_site(t, t->d->guess_never);
}

bool tr_turns(const struct tr *t, int64_t to)
{
    bool near = to >= 0 && to < MEM_PAGE_SIZE;

    return (to <= t->ip || (tr_is32(t) && !near)) && (near || tr_guesses(t));
}

bool tr_guess_redo(const struct tr *t)
{
    return t->redo != NULL && !flow_site(t, t->d->guess_flags);
}

/*
 * r10 is compared with one tag. direct: that is the page, and the tag becomes that of the page: where
 * the branch leads from there is certain. sp: RSP behind the branch.
 */
static struct tr_guess *flow_compare(struct tr *t, int32_t sp, bool direct)
{
    struct tr_guess *g = &t->guess[t->nr_guesses];
    struct link *l = &t->d->links[t->d->nr_links];
    bool salted = direct && (interp_keyed(t->index) || tr_is32(t));

    g_assert(t->nr_guesses < G_N_ELEMENTS(t->guess));
    if (salted) {
        emit_mov(&t->c, HOST_R11, HOST_R10);
        dbt_jump_salt_emit(&t->c, t->index, HOST_R11, tr_is32(t));
    }
    *l = (struct link){.tb = t->t, .sibling = t->t->links, .index = (uint8_t)t->index, .vector = t->t->need,
                       .to = t->ip, .flagless = t->loc == LOC_REDO,
                       .compare = salted ? 0x1d : 0x15, .site = emit_offset(&t->c)};
    if (sp != TR_SP_UNKNOWN && t->low != t->high) {
        l->low = t->low - sp;
        l->high = t->high - sp;
    }
    t->t->links = t->d->nr_links++;
    *g = (struct tr_guess){.link = t->t->links, .direct = direct};
    emit_bytes(&t->c, (const uint8_t[]){0x4c, 0x3b, l->compare, 0, 0, 0, 0}, 7);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_GUESS, t->nr_guesses++);
    return g;
}

/* The page it leads to. */
static void flow_page(struct tr *t, struct link *l)
{
    emit_mov_imm64(&t->c, HOST_R10, 0);
    l->page = emit_offset(&t->c) - 8;
    emit_op_gs(&t->c, EMIT_STORE, HOST_R10, TR_GS(page));
}

/* The same, of a direct branch. r10 is its own page; r11 becomes the other. */
static void flow_page_direct(struct tr *t, struct link *l, int64_t to)
{
    l->by = (int32_t)to;
    tr_lea_word(t, HOST_R11, HOST_R10, (int32_t)(to & ~(int64_t)(MEM_PAGE_SIZE - 1)));
    emit_op_gs(&t->c, EMIT_STORE, HOST_R11, TR_GS(page));
}

/*
 * A call that is compared with one target (guess.c). Nothing behind the comparison fails. Flags
 * that can be had again are saved only by the stub: most functions do not look at them.
 */
static void flow_guess(struct tr *t, const struct insn *in, int64_t to, int64_t back)
{
    bool direct = in->op[0].kind == OPK_REL;
    struct tr_guess *g;
    struct link *l;

    tr_clobber(t);
    if (direct) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
    } else {
        flow_call_target(t, in, to);
        tr_jump_salt(t);
    }
    g = flow_compare(t, t->sp - (int32_t)t->word, direct);
    l = &t->d->links[g->link];
    g->in = in;
    g->to = to;
    g->back = back;
    if (direct) {
        flow_page_direct(t, l, to);
    }
    flow_push(t, back, direct);
    if (!direct) {
        flow_page(t, l);
    }
    t->sp -= (int32_t)t->word;
    l->patch = emit_call(&t->c);
    g->landing = emit_offset(&t->c);
    flow_landing(t, back);
}

void tr_guess_jump(struct tr *t, bool leave)
{
    struct tr_guess *g;
    struct link *l;

    tr_jump_salt(t);
    g = flow_compare(t, t->sp, false);
    l = &t->d->links[g->link];
    g->leave = leave;
    flow_page(t, l);
    l->patch = emit_jmp(&t->c);
}

void tr_guess_far(struct tr *t, int64_t to, bool leave)
{
    struct tr_guess *g;
    struct link *l;

    emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
    g = flow_compare(t, t->sp, true);
    l = &t->d->links[g->link];
    g->leave = leave;
    g->to = to;
    flow_page_direct(t, l, to);
    l->patch = emit_jmp(&t->c);
}

/* A call that leads elsewhere. */
static void flow_call_stub(struct tr *t, const struct tr_guess *g)
{
    struct emit_mem tag = tr_jumps(t, offsetof(struct dbt_jumps, tag));
    struct emit_mem code = tr_jumps(t, offsetof(struct dbt_jumps, code));
    uint32_t often, missing, retry;

    emit_bytes(&t->c, (const uint8_t[]){0x65, 0xff, 0x0c, 0x25}, 4); /* decl gs:.. */
    emit_u32(&t->c, (uint32_t)TR_GS(guess_left[g->link % DBT_GUESS_COUNTS]));
    often = emit_jcc(&t->c, 8); /* js */
    retry = emit_offset(&t->c);
    dbt_jump_slot_emit(&t->c);
    emit_op_gs_mem(&t->c, EMIT_CMP_LOAD, HOST_R10, &tag);
    missing = emit_jcc(&t->c, 5);
    emit_op_gs_mem(&t->c, EMIT_LOAD, HOST_R11, &code);
    flow_push(t, g->back, false);
    flow_call_to(t, g->in, g->to);
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0xff, 0xd3}, 3); /* call *%r11 */
    emit_jmp_to(&t->c, g->landing);
    emit_patch(t->c.start, often, emit_offset(&t->c));
    tr_jump_salt(t);
    emit_store32_gs(&t->c, TR_GS(guess), g->link);
    emit_call_to(&t->c, t->d->common_guess);
    tr_jump_salt(t);
    emit_jmp_to(&t->c, retry);
    emit_patch(t->c.start, missing, emit_offset(&t->c));
    tr_jump_salt(t);
    emit_store32_gs(&t->c, TR_GS(rec), t->rec);
    emit_call_to(&t->c, t->d->common_jump);
    tr_jump_salt(t);
    emit_jmp_to(&t->c, retry);
}

/* Where the tag is. */
static void flow_tag(struct tr *t, struct link *l)
{
    while (emit_offset(&t->c) % sizeof(uint64_t) != 0) {
        emit_byte(&t->c, 0xcc);
    }
    l->tag = emit_offset(&t->c);
    emit_u64(&t->c, 0);
}

/* r10: dbt_jump_tag(), or, where it is direct, anything. */
void tr_guess_stub(struct tr *t, unsigned number, uint32_t stub)
{
    const struct tr_guess *g = &t->guess[number];
    struct link *l = &t->d->links[g->link];

    l->stub = stub;
    if (g->direct) {
        tr_guest_address(t, HOST_R10, g->to);
        tr_jump_salt(t);
    }
    if (g->in != NULL) {
        flow_call_stub(t, g);
    } else {
        emit_store32_gs(&t->c, TR_GS(guess), g->link);
        emit_store32_gs(&t->c, TR_GS(rec), t->rec);
        emit_jmp_to(&t->c, t->d->common_far[t->index][tr_is32(t)][g->leave]);
    }
    flow_tag(t, l);
    dbt_guess_undo(t->d, l);
}

static void flow_call(struct tr *t, const struct insn *in)
{
    const int32_t word = (int32_t)t->word;
    struct tr_operand slot = {.base = CPU_RSP, .index = INSN_NO_REG, .scale = 1, .seg = CPU_SS,
                              .disp = -word, .size = t->word, .write = true};
    int64_t back = (int64_t)t->ip + in->len, to = back + (int64_t)in->imm;
    bool near = in->op[0].kind == OPK_REL && to >= 0 && to < MEM_PAGE_SIZE;
    bool covered = tr_stack_covers(t, -word, t->word); /* r11 lasts until the call */
    struct emit_mem m;

    if (near) {
        tr_poll(t);
    } else if (covered && !t->d->no_returns && tr_guesses(t)) {
        tr_poll(t);
        t->may_redo = tr_guess_redo(t);
        if (flow_fetch(t, in)) {
            flow_guess(t, in, to, back);
        } else {
            tr_interpret(t);
        }
        return;
    } else if (!flow_fetch(t, in)) {
        tr_interpret(t);
        return;
    } else {
        flow_call_code(t, in, to, !covered);
    }
    tr_check(t, &slot, &m);
    tr_guest_address(t, HOST_R10, back);
    tr_store_word(t, HOST_R10, &m);
    tr_stack_move(t, -word);
    if (!t->d->no_returns) {
        emit_bytes(&t->c, (const uint8_t[]){0x41, 0x52}, 2); /* push %r10 */
    }
    if (!near) {
        flow_call_to(t, in, to);
    }
    if (t->d->no_returns) {
        t->sp -= word;
        if (near) {
            tr_direct(t, to);
        } else if (covered) {
            emit_bytes(&t->c, (const uint8_t[]){0x41, 0xff, 0xe3}, 3); /* jmp *%r11 */
        } else {
            emit_jmp_gs(&t->c, TR_GS(target));
        }
        return;
    }
    t->sp -= word;
    if (near) {
        tr_fixup(t, emit_call(&t->c), FIX_LINK, (uint64_t)to);
    } else if (covered) {
        emit_bytes(&t->c, (const uint8_t[]){0x41, 0xff, 0xd3}, 3); /* call *%r11 */
    } else {
        emit_call_gs(&t->c, TR_GS(target));
    }
    flow_landing(t, back);
}

void tr_flow(struct tr *t, const struct insn *in)
{
    int64_t to = (int64_t)t->ip + in->len + (int64_t)in->imm;

    if (to != (int32_t)to && in->op[0].kind == OPK_REL) {
        tr_interpret(t);
    } else if (in->id == INSN_RET) {
        flow_ret(t, in);
    } else if (in->id == INSN_CALL) {
        flow_call(t, in);
    } else if (in->op[0].kind == OPK_REL) {
        if (tr_turns(t, to)) {
            tr_poll(t);
        }
        tr_direct(t, to);
    } else {
        flow_jmp(t, in);
    }
}
