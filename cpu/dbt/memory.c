/* SPDX-License-Identifier: MIT */
/*
 * The TLB check before a memory operand. The page of the first byte picks the entry and that of
 * the last byte is compared with its tag, so an operand over a page boundary, like everything
 * else that is not plain, goes to the interpreter. What is left is host address minus guest
 * address in R11, to which the parts of the operand's address are added.
 */
#include "translate.h"

bool tr_operand_of(const struct tr *t, const struct insn *in, struct tr_operand *op)
{
    const struct insn_operand *mem = insn_mem_operand(in);

    if (in->addrsize != t->word || (in->flags & INSN_F_VSIB) != 0 ||
        (in->flags & INSN_F_MODRM) == 0 || (tr_is32(t) && in->seg == CPU_CS)) {
        return false;
    }
    *op = (struct tr_operand){
        .base = in->base,
        .index = in->index,
        .scale = in->scale,
        .seg = in->seg,
        .disp = in->disp,
        .size = mem->size,
        .write = (mem->access & OPA_WRITE) != 0,
        .locked = (in->prefixes & INSN_P_LOCK) != 0 || in->id == INSN_XCHG ||
                  in->id == INSN_CMPXCHG16B, /* must be aligned, too */
    };
    if (in->id >= INSN_BT && in->id <= INSN_BTC && in->op[1].kind == OPK_GPR) {
        op->bits = true;
        op->bit = in->op[1].reg;
        if (in->opsize < 4 || tr_is32(t)) { /* where it wraps, too */
            return false;
        }
    }
    if (in->base == INSN_REG_RIP) {
        op->disp += t->ip + in->len;
    }
    if (tr_is32(t) && in->id != INSN_LEA && !tr_within32(op)) {
        return false;
    }
    return op->disp == (int32_t)op->disp && op->disp + 4096 == (int32_t)(op->disp + 4096);
}

static const struct emit_mem memory_sum = {
    .base = HOST_STACK, .index = HOST_R11, .scale = 1, .disp = 0};

void tr_get(struct tr *t, unsigned to, unsigned gpr)
{
    struct emit_mem sum = memory_sum;

    if (gpr == CPU_RSP) {
        sum.index = (uint8_t)to;
        emit_op_gs(&t->c, EMIT_LOAD, to, TR_GS(interp.stack.minus));
        emit_op_mem(&t->c, EMIT_LEA, to, &sum);
    } else if (tr_displaced(gpr)) {
        emit_op_gs(&t->c, EMIT_LOAD, to, TR_GS(slot[0]) + 8 * (gpr - CPU_R9));
    } else {
        emit_mov(&t->c, to, gpr);
    }
}

void tr_set(struct tr *t, unsigned gpr, unsigned from)
{
    struct emit_mem sum = memory_sum;

    if (gpr == CPU_RSP) {
        sum.index = (uint8_t)from;
        emit_op_gs(&t->c, EMIT_LOAD, HOST_STACK, TR_GS(interp.stack.addend));
        emit_op_mem(&t->c, EMIT_LEA, HOST_STACK, &sum);
    } else if (tr_displaced(gpr)) {
        emit_op_gs(&t->c, EMIT_STORE, from, TR_GS(slot[0]) + 8 * (gpr - CPU_R9));
    } else {
        emit_mov(&t->c, gpr, from);
    }
}

static bool operand_plain(const struct tr_operand *op)
{
    return !op->bits && op->base != INSN_REG_RIP && op->base != INSN_NO_REG && !tr_displaced(op->base) &&
           (op->index == INSN_NO_REG || !tr_displaced(op->index)) && !tr_based(op);
}

/* From the address in r10 to that of the word the bit is in. The host's instruction does the
 * same for itself. */
static void check_bits(struct tr *t, const struct tr_operand *op)
{
    struct emit_mem m = {.base = HOST_R10, .index = HOST_R11, .scale = (uint8_t)op->size};

    tr_get(t, HOST_R11, op->bit);
    if (op->size == 4) {
        emit_op_reg(&t->c, 0x63, HOST_R11, HOST_R11); /* movslq %r11d,%r11 */
    }
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0xc1, 0xfb}, 3); /* sar $..,%r11 */
    emit_byte(&t->c, op->size == 4 ? 5 : 6);
    emit_op_mem(&t->c, EMIT_LEA, HOST_R10, &m);
}

/* The guest's linear address of the first byte to r10, of the last one to r11. */
static void check_addresses(struct tr *t, const struct tr_operand *op, unsigned size)
{
    struct emit_mem m = {.base = EMIT_NO_REG, .index = EMIT_NO_REG, .scale = op->scale,
                         .disp = (int32_t)op->disp};

    if (op->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
        m.base = HOST_R10;
    } else if (op->base != INSN_NO_REG) {
        m.base = op->base;
        if (tr_displaced(op->base)) {
            tr_get(t, HOST_R10, op->base);
            m.base = HOST_R10;
        }
    }
    if (op->index != INSN_NO_REG) {
        m.index = op->index;
        if (tr_displaced(op->index)) {
            tr_get(t, HOST_R11, op->index);
            m.index = HOST_R11;
        }
    }
    if (m.scale == 0) {
        m.scale = 1;
    }
    if (operand_plain(op)) {
        if (size > 1) {
            m.disp += (int32_t)size - 1;
            emit_op_mem(&t->c, EMIT_LEA, HOST_R11, &m);
            m.disp -= (int32_t)size - 1;
        }
        emit_op_mem(&t->c, EMIT_LEA, HOST_R10, &m);
    } else {
        emit_op_mem(&t->c, EMIT_LEA, HOST_R10, &m);
        if (tr_based(op)) {
            emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R10,
                       TR_GS(seg_base) + (op->seg == CPU_GS ? 8 : 0));
        }
        if (op->bits) {
            check_bits(t, op);
        }
        if (size > 1) {
            emit_lea(&t->c, HOST_R11, HOST_R10, (int32_t)size - 1);
        }
    }
    if (size == 1) {
        emit_mov(&t->c, HOST_R11, HOST_R10);
    }
}

/* r11 is the addend: the rest of the address. */
static void check_host(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    *m = (struct emit_mem){.base = HOST_R11, .index = EMIT_NO_REG, .scale = 1,
                           .disp = (int32_t)op->disp};
    if (tr_based(op)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11,
                   TR_GS(seg_base) + (op->seg == CPU_GS ? 8 : 0));
    }
    if (op->base == INSN_REG_RIP) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(page));
    } else if (op->base == CPU_RSP) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(interp.stack.minus));
        emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, HOST_STACK);
    } else if (op->base != INSN_NO_REG && tr_displaced(op->base)) {
        emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(slot[0]) + 8 * (op->base - CPU_R9));
    } else if (op->base != INSN_NO_REG && op->index == INSN_NO_REG) {
        m->index = op->base;
    } else if (op->base != INSN_NO_REG && !tr_displaced(op->index)) {
        /* The sum does not wait for the addend, as an addition to that would. */
        m->base = op->base, m->index = op->index, m->scale = op->scale;
        emit_op_mem(&t->c, EMIT_LEA, HOST_R10, m);
        *m = (struct emit_mem){.base = HOST_R11, .index = HOST_R10, .scale = 1};
        return;
    } else if (op->base != INSN_NO_REG) {
        emit_op_reg(&t->c, EMIT_ADD_LOAD, HOST_R11, op->base);
    }
    if (op->index != INSN_NO_REG) {
        m->scale = op->scale;
        m->index = op->index;
        if (tr_displaced(op->index)) {
            tr_get(t, HOST_R10, op->index);
            m->index = HOST_R10;
        }
    }
}

static size_t lookup_tag(struct tr *t, size_t tag)
{
    size_t entry = TR_GS(interp.tlbs) + t->index * sizeof(struct tlb);

    emit_bytes(&t->c, (const uint8_t[]){0x49, 0xc1, 0xea, 12 - TLB_ENTRY_SHIFT}, 4); /* shr r10 */
    emit_bytes(&t->c, (const uint8_t[]){0x41, 0x81, 0xe2}, 3);                       /* and r10d */
    emit_u32(&t->c, (TLB_SIZE - 1) << TLB_ENTRY_SHIFT);
    emit_bytes(&t->c, (const uint8_t[]){0x49, 0x81, 0xe3, 0, 0xf0, 0xff, 0xff}, 7);
    emit_op_gs_index(&t->c, EMIT_CMP_LOAD, HOST_R11, HOST_R10, entry + tag);
    return entry + offsetof(struct tlb_entry, addend);
}

static size_t lookup_compare(struct tr *t, bool write)
{
    return lookup_tag(t, write ? offsetof(struct tlb_entry, write)
                               : offsetof(struct tlb_entry, read));
}

static void lookup_as(struct tr *t, uint32_t retry, uint32_t want, unsigned to)
{
    size_t addend = lookup_compare(t, want != 0);

    tr_miss_if(t, 5, retry, want);
    emit_op_gs_index(&t->c, EMIT_LOAD, to, HOST_R10, addend);
}

void tr_lookup(struct tr *t, uint32_t retry, bool write, unsigned to)
{
    lookup_as(t, retry, write ? DBT_REC_WRITE : 0, to);
}

uint32_t tr_lookup_or(struct tr *t, bool write, unsigned to)
{
    size_t addend = lookup_compare(t, write);
    uint32_t miss = emit_jcc(&t->c, 5);

    emit_op_gs_index(&t->c, EMIT_LOAD, to, HOST_R10, addend);
    return miss;
}

void tr_check_tlb(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    uint32_t retry = emit_offset(&t->c);

    check_addresses(t, op, op->size);
    if (op->locked && op->size > 1) {
        emit_bytes(&t->c, (const uint8_t[]){0x41, 0xf6, 0xc2}, 3); /* test $.., %r10b */
        emit_byte(&t->c, op->size - 1);
        tr_slow_if(t, 5);
    }
    tr_lookup(t, retry, op->write, HOST_R11);
    check_host(t, op, m);
}

/* The same for what this access stands for, too. The addend is kept for those. */
static bool check_group(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    uint32_t retry = emit_offset(&t->c);
    struct tr_operand low = *op;
    struct tr_group g;

    if (op->locked || op->bits || op->size > 64 || !tr_group_scan(t, op, GROUP_TLB, &g)) {
        return false;
    }
    low.disp = g.low;
    if (g.write || !tr_region(t, &low, (unsigned)(g.high - g.low))) {
        check_addresses(t, &low, (unsigned)(g.high - g.low));
        lookup_as(t, retry, op->write ? DBT_REC_WRITE : g.write ? DBT_REC_LOAD : 0, HOST_R11);
    }
    if (op->index != INSN_NO_REG || !operand_plain(op)) {
        check_host(t, op, m);
        tr_group_host(t, op, &g, m);
        return true;
    }
    if (!g.brief) {
        g.addend = TR_GS(addends[t->nr_addends++]);
        emit_op_gs(&t->c, EMIT_STORE, HOST_R11, g.addend);
    }
    check_host(t, op, m);
    tr_group_add(t, &g);
    tr_group_hold(t, op, m);
    return true;
}

/* In what was checked of the stack? An index is one that cannot lead out of it. */
static bool check_stack(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    unsigned most = 0;

    if (op->base != CPU_RSP || op->bits || op->locked || tr_based(op) ||
        (op->index != INSN_NO_REG && !tr_bounded(t, t->number, op->index, &most)) ||
        !tr_stack_covers(t, op->disp, op->size + most * op->scale)) {
        return false;
    }
    *m = (struct emit_mem){.base = HOST_STACK, .index = EMIT_NO_REG, .scale = 1,
                           .disp = (int32_t)op->disp + t->lag};
    if (op->index != INSN_NO_REG) {
        m->index = op->index;
        m->scale = op->scale;
        if (tr_displaced(op->index)) {
            t->uses_r10 = true;
            tr_get(t, HOST_R10, op->index);
            m->index = HOST_R10;
        }
    }
    t->keeps_r11 = true;
    return true;
}

void tr_check(struct tr *t, const struct tr_operand *op, struct emit_mem *m)
{
    if (check_stack(t, op, m)) {
        return;
    }
    if (t->in_loop) {
        tr_loop_operand(t, op, m);
        return;
    }
    if (tr_group_use(t, op, m)) {
        return;
    }
    tr_group_drop(t);
    tr_clobber(t);
    t->keeps_r11 = true; /* from here on */
    if (!tr_check_near(t, op, m)) {
        t->uses_r10 = true;
        if (tr_is32(t)) {
            tr_check32(t, op, m);
            return;
        }
        if (check_group(t, op, m)) {
            return;
        }
        if (tr_region(t, op, op->size)) {
            check_host(t, op, m);
        } else {
            tr_check_tlb(t, op, m);
        }
    }
}

/* cmp $bytes[at], at(%r11) of size 1, 2 or 4; else leaves. */
static void across_compare(struct tr *t, const uint8_t *bytes, unsigned at, unsigned size)
{
    const struct emit_mem m = {
        .base = HOST_R11, .index = EMIT_NO_REG, .scale = 1, .disp = (int32_t)(MEM_PAGE_SIZE + at)};

    emit_cmp_mem_imm(&t->c, &m, size, bytes + at);
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->ip);
}

void tr_across(struct tr *t)
{
    const unsigned first = MEM_PAGE_SIZE - t->b->offset;
    const uint8_t *bytes = t->b->source + first;
    unsigned left = t->b->bytes - first, at = 0;
    size_t addend;

    tr_clobber(t);
    emit_op_gs(&t->c, EMIT_LOAD, HOST_R10, TR_GS(page));
    emit_lea(&t->c, HOST_R10, HOST_R10, MEM_PAGE_SIZE);
    if (tr_is32(t)) { /* the page behind the last one is the first one */
        emit_bytes(&t->c, (const uint8_t[]){0x49, 0x0f, 0xba, 0xe2, 32}, 5); /* bt $32,%r10 */
        tr_fixup(t, emit_jcc(&t->c, JB), FIX_LEAVE, t->ip);
    }
    emit_mov(&t->c, HOST_R11, HOST_R10);
    addend = lookup_tag(t, offsetof(struct tlb_entry, exec));
    tr_fixup(t, emit_jcc(&t->c, 5), FIX_LEAVE, t->ip);
    emit_op_gs_index(&t->c, EMIT_LOAD, HOST_R11, HOST_R10, addend);
    emit_op_gs(&t->c, EMIT_ADD_LOAD, HOST_R11, TR_GS(page));
    for (unsigned size = 4; size > 0; size /= 2) {
        for (; left >= size; left -= size, at += size) {
            across_compare(t, bytes, at, size);
        }
    }
}
