/* SPDX-License-Identifier: MIT */
/*
 * Loops of oracle_program -loops: a few instructions whose operands go through memory by
 * constant or variable strides, across pages, into pages that are read-only, hold code or are
 * not there; pointers that are loaded anew each time; stores to the loop itself; ways out in the
 * middle; 1 to 3000 iterations, some several times.
 */
#include <glib.h>
#include <string.h>

#include "cpu/dbt/emit.h"
#include "program.h"

enum { LOOP_POINTERS = 3, LOOP_DATA = 3 };

struct shape {
    struct oracle_rng *r;
    struct emit c;
    struct program *p;
    uint8_t pointer[LOOP_POINTERS], data[LOOP_DATA], index, stride, count, loaded, outer;
    struct emit_mem source; /* of `loaded` */
    unsigned patch;         /* where a byte of an immediate is; 0: nowhere */
    bool vectors, exits, loads, self, again;
};

static bool one_in(struct shape *s, unsigned n)
{
    return oracle_below(s->r, n) == 0;
}

static void begin(struct shape *s)
{
    s->p->at[s->p->nr++] = emit_offset(&s->c);
}

static unsigned data_reg(struct shape *s)
{
    return s->data[oracle_below(s->r, LOOP_DATA)];
}

static struct emit_mem operand(struct shape *s)
{
    static const int32_t disps[] = {0, 0, 8, -8, 64, -128, 1000, 4096, 1, 16};
    struct emit_mem m = {.base = s->pointer[oracle_below(s->r, LOOP_POINTERS)],
                         .index = EMIT_NO_REG,
                         .scale = 1,
                         .disp = disps[oracle_below(s->r, 10)]};

    if (s->loads && one_in(s, 3)) {
        m.base = s->loaded;
    }
    if (one_in(s, 4)) {
        m.index = one_in(s, 2) ? s->index : s->pointer[oracle_below(s->r, LOOP_POINTERS)];
        if (m.index == s->index) {
            m.scale = (uint8_t)(1u << oracle_below(s->r, 4));
        } else {
            m.index = s->index;
        }
    } else if (one_in(s, 12)) {
        m = (struct emit_mem){.base = EMIT_NO_REG, .index = s->index, .scale = 8,
                              .disp = 0x30000000 + (int32_t)oracle_below(s->r, 9000)};
    } else if (one_in(s, 10)) {
        m = (struct emit_mem){.base = CPU_RSP, .index = EMIT_NO_REG, .scale = 1,
                              .disp = (int32_t)oracle_below(s->r, 8) * 8};
    }
    return m;
}

/* prefix: 0: none; escapes: 0 to 2 bytes before the opcode, as a number */
static void insn_mem(struct shape *s, unsigned prefix, bool wide, unsigned escapes,
                     unsigned opcode, unsigned reg, bool byte)
{
    struct emit_mem m = operand(s);
    unsigned rex = (wide ? 8u : 0u) | emit_rex_mem(reg, &m);

    if (prefix != 0) {
        emit_byte(&s->c, prefix);
    }
    if (rex != 0 || byte) {
        emit_byte(&s->c, 0x40 | rex);
    }
    if (escapes > 0xff) {
        emit_byte(&s->c, escapes >> 8);
    }
    if (escapes != 0) {
        emit_byte(&s->c, escapes & 0xff);
    }
    emit_byte(&s->c, opcode);
    emit_modrm_mem(&s->c, reg, &m);
}

static void memory(struct shape *s)
{
    static const uint8_t alu[] = {0x01, 0x03, 0x29, 0x31, 0x33, 0x3b, 0x39, 0x23, 0x85, 0x13};
    unsigned x = oracle_below(s->r, s->vectors ? 19 : 12), vector = oracle_below(s->r, 16);

    if (x < 3) {
        insn_mem(s, one_in(s, 4) ? 0x66 : 0, one_in(s, 2), 0, 0x8b, data_reg(s), false);
    } else if (x < 6) {
        insn_mem(s, one_in(s, 4) ? 0x66 : 0, one_in(s, 2), 0, 0x89, data_reg(s), false);
    } else if (x == 6) {
        insn_mem(s, 0, false, 0, one_in(s, 2) ? 0x88 : 0x02, data_reg(s),
                 one_in(s, 2)); /* without a REX prefix it may be CH */
    } else if (x == 7) {
        insn_mem(s, 0, one_in(s, 2), 0x0f, one_in(s, 2) ? 0xb6 : 0xbf, data_reg(s), false);
    } else if (x < 10) {
        insn_mem(s, 0, one_in(s, 2), 0, alu[oracle_below(s->r, 10)], data_reg(s), false);
    } else if (x == 10) {
        insn_mem(s, 0, false, 0, 0xc6, 0, false);
        emit_byte(&s->c, oracle_below(s->r, 256));
    } else if (x == 11) {
        insn_mem(s, 0, one_in(s, 2), 0, 0x83, oracle_below(s->r, 8), false);
        emit_byte(&s->c, oracle_below(s->r, 256));
    } else if (x < 14) {
        insn_mem(s, 0xf3, false, 0x0f, one_in(s, 2) ? 0x6f : 0x7f, vector, false);
    } else if (x == 14) {
        insn_mem(s, 0x66, false, 0x0f, one_in(s, 2) ? 0x6f : 0x7f, vector, false);
    } else if (x < 18) {
        insn_mem(s, one_in(s, 2) ? 0xf2 : 0xf3, false, 0x0f,
                 one_in(s, 2) ? 0x58 : one_in(s, 2) ? 0x59 : 0x5e, vector, false);
    } else {
        insn_mem(s, 0xf2, false, 0x0f, 0x11, vector, false);
    }
}

static void plain(struct shape *s)
{
    unsigned a = data_reg(s), b = one_in(s, 4) ? s->index : data_reg(s);
    struct emit_mem m = {.base = (uint8_t)b, .index = s->index, .scale = 2, .disp = 5};

    switch (oracle_below(s->r, 6)) {
    case 0:
        emit_op_mem(&s->c, EMIT_LEA, a, &m);
        break;
    case 1:
        emit_op_reg(&s->c, EMIT_ADD_LOAD, a, b);
        break;
    case 2:
        emit_op_reg(&s->c, EMIT_XOR_LOAD, a, b);
        break;
    case 3: /* cmovcc or setcc */
        emit_byte(&s->c, 0x48 | (a >= 8 ? 4 : 0) | (b >= 8 ? 1 : 0));
        emit_byte(&s->c, 0x0f);
        emit_byte(&s->c, 0x40 + oracle_below(s->r, 16));
        emit_byte(&s->c, 0xc0 | (a & 7) << 3 | (b & 7));
        break;
    case 4:
        emit_byte(&s->c, 0x40 | (a >= 8 ? 1 : 0));
        emit_bytes(&s->c, (uint8_t[]){0xc1, (uint8_t)(0xc0 | (a & 7)), 3}, 3); /* rol */
        break;
    default:
        emit_mov(&s->c, a, b);
        break;
    }
}

static void step(struct shape *s, unsigned reg)
{
    static const int steps[] = {1, 1, 2, 4, 8, 8, 16, 16, 32, 3, 7, 64, 100, 0, 300};
    int by = steps[oracle_below(s->r, 15)] * (one_in(s, 3) ? -1 : 1);

    if (one_in(s, 6)) {
        emit_op_reg(&s->c, EMIT_ADD_LOAD, reg, s->stride);
    } else if (one_in(s, 4)) {
        emit_lea(&s->c, reg, reg, by);
    } else if (one_in(s, 6)) {
        emit_byte(&s->c, 0x48 | (reg >= 8 ? 1 : 0));
        emit_bytes(&s->c, (uint8_t[]){0xff, (uint8_t)(0xc0 | oracle_below(s->r, 2) << 3 |
                                                      (reg & 7))}, 2);
    } else {
        emit_byte(&s->c, (one_in(s, 30) ? 0x40 : 0x48) | (reg >= 8 ? 1 : 0));
        emit_bytes(&s->c, (uint8_t[]){0x81, (uint8_t)(0xc0 | (one_in(s, 3) ? 5 : 0) << 3 |
                                                      (reg & 7))}, 2);
        emit_u32(&s->c, (uint32_t)by);
    }
}

/* An immediate that a store in the loop changes, or that store. */
static void self(struct shape *s)
{
    if (s->patch == 0) {
        emit_mov_imm32(&s->c, data_reg(s), 0x01020304);
        s->patch = emit_offset(&s->c) - 1 - oracle_below(s->r, 4);
    } else {
        emit_bytes(&s->c, (uint8_t[]){0x00, 0x05}, 2); /* add %al, disp(%rip) */
        emit_u32(&s->c, s->patch - (emit_offset(&s->c) + 4));
    }
}

/* The register that each iteration loads has an address, which is where it is loaded from. */
static void shape_loaded(struct shape *s)
{
    s->source = one_in(s, 2)
                    ? (struct emit_mem){.base = CPU_RSP, .index = EMIT_NO_REG, .scale = 1,
                                        .disp = (int32_t)oracle_below(s->r, 8) * 8}
                    : (struct emit_mem){.base = s->pointer[LOOP_POINTERS - 1],
                                        .index = EMIT_NO_REG, .scale = 1, .disp = 8};
    begin(s);
    emit_op_mem(&s->c, EMIT_STORE, s->loaded, &s->source);
}

static void shape_registers(struct shape *s, struct oracle_case *c)
{
    uint8_t regs[15];
    unsigned nr = 0, most = 3000;

    for (unsigned i = 0; i < 16; i++) {
        if (i != CPU_RSP) {
            regs[nr++] = (uint8_t)i;
        }
    }
    for (unsigned i = nr; i-- > 1;) {
        unsigned k = oracle_below(s->r, i + 1);
        uint8_t t = regs[i];

        regs[i] = regs[k];
        regs[k] = t;
    }
    for (unsigned i = 0; i < LOOP_POINTERS; i++) {
        uint64_t at = ORACLE_DATA + oracle_below(s->r, ORACLE_DATA_SIZE);

        if (c->rip < ORACLE_CODE + 2048 && one_in(s, 30)) { /* too far to reach the loop */
            at = ORACLE_CODE + 6144 + oracle_below(s->r, 2048);
            most = 10;
        } else if (one_in(s, 2)) {
            at = ORACLE_DATA + oracle_below(s->r, 4096);
        }
        s->pointer[i] = regs[--nr];
        c->start.gpr[s->pointer[i]] = one_in(s, 3) ? at : at & ~15ull;
    }
    for (unsigned i = 0; i < LOOP_DATA; i++) {
        s->data[i] = regs[--nr];
    }
    s->index = regs[--nr];
    c->start.gpr[s->index] = oracle_below(s->r, 2) * oracle_below(s->r, 600);
    s->stride = regs[--nr];
    c->start.gpr[s->stride] = one_in(s, 8) ? (uint64_t)-(int64_t)oracle_below(s->r, 20)
                                           : oracle_below(s->r, one_in(s, 8)   ? 5000
                                                                : one_in(s, 4) ? 600
                                                                               : 40);
    s->outer = regs[--nr];
    c->start.gpr[s->outer] = 1 + oracle_below(s->r, 4);
    s->loaded = regs[--nr];
    c->start.gpr[s->loaded] = ORACLE_DATA + oracle_below(s->r, ORACLE_DATA_SIZE);
    s->count = regs[--nr];
    c->start.gpr[s->count] = oracle_below(s->r, MIN(most, one_in(s, 3) ? 3000u : one_in(s, 2) ? 300u : 20u)) + 1;
    c->start.gpr[CPU_RSP] = ORACLE_DATA + 2048 + oracle_below(s->r, 600) * 8;
    if (!one_in(s, 3)) { /* exceptions masked, as is usual */
        c->start.xsave[24] = 0x80;
        c->start.xsave[25] = 0x1f;
    }
}

/* A store that walks into the loop's own page and there makes a MOV of its ADD, so that the
 * flags of the iteration before are what a CMOV looks at. */
static void shape_flags(struct shape *s, struct oracle_case *c)
{
    enum { STRIDE = 256, MOST = 15, MOV = 0x89 };
    unsigned to = s->pointer[0], turns = 2 + oracle_below(s->r, MOST - 1);
    uint64_t opcode;

    c->rip = ORACLE_CODE + 4096 + oracle_below(s->r, 64);
    begin(s);
    emit_byte(&s->c, 0x40 | (to >= 8 ? 1 : 0));
    emit_bytes(&s->c, (uint8_t[]){0xc6, (uint8_t)(0x80 | (to & 7))}, 2); /* movb $.., (to) */
    if ((to & 7) == 4) {
        emit_byte(&s->c, 0x24);
    }
    emit_u32(&s->c, 0);
    emit_byte(&s->c, MOV);
    begin(s);
    opcode = c->rip + emit_offset(&s->c) + 1;
    emit_op_reg(&s->c, 0x01, s->data[0], s->data[1]);
    begin(s);
    emit_byte(&s->c, 0x48 | (s->data[2] >= 8 ? 4 : 0) | (s->data[0] >= 8 ? 1 : 0));
    emit_bytes(&s->c, (uint8_t[]){0x0f, (uint8_t)(0x40 + oracle_below(s->r, 16)),
                                  (uint8_t)(0xc0 | (s->data[2] & 7) << 3 | (s->data[0] & 7))},
               3); /* cmovcc */
    begin(s);
    emit_lea(&s->c, to, to, STRIDE);
    begin(s);
    emit_byte(&s->c, 0x48 | (s->count >= 8 ? 1 : 0)); /* sub $1 */
    emit_bytes(&s->c, (uint8_t[]){0x83, (uint8_t)(0xe8 | (s->count & 7)), 1}, 3);
    emit_patch(s->p->code, emit_jcc(&s->c, 15), 0);
    c->start.gpr[to] = opcode - (uint64_t)turns * STRIDE;
    c->start.gpr[s->count] = turns + 1 + oracle_below(s->r, 3);
    s->p->at[s->p->nr] = emit_offset(&s->c);
    emit_byte(&s->c, 0xcc);
    s->p->len = emit_offset(&s->c);
}

void program_loop(struct oracle_rng *r, struct program *p, struct oracle_case *c)
{
    struct shape s = {.r = r, .c = {.start = p->code, .p = p->code}, .p = p};
    unsigned nr = 1 + oracle_below(r, 9), steps = 0;
    uint32_t exits[16], top;
    unsigned nr_exits = 0;

    memset(p, 0, sizeof(*p));
    s.vectors = one_in(&s, 2);
    s.exits = one_in(&s, 3);
    s.loads = one_in(&s, 3);
    s.self = one_in(&s, 8);
    s.again = one_in(&s, 3);
    shape_registers(&s, c);
    if (one_in(&s, 16)) {
        shape_flags(&s, c);
        return;
    }
    if (s.loads) {
        shape_loaded(&s);
    }
    top = emit_offset(&s.c);
    if (s.loads) {
        begin(&s);
        emit_op_mem(&s.c, EMIT_LOAD, s.loaded, &s.source);
    }
    for (unsigned i = 0; i < nr; i++) {
        begin(&s);
        if (s.self && one_in(&s, 4)) {
            self(&s);
        } else if (s.exits && one_in(&s, 4)) {
            emit_op_reg(&s.c, EMIT_CMP_LOAD, data_reg(&s), data_reg(&s));
            exits[nr_exits++] = emit_jcc(&s.c, oracle_below(r, 16));
        } else if (steps < 4 && one_in(&s, 3)) {
            step(&s, steps < LOOP_POINTERS ? s.pointer[steps] : s.index);
            steps++;
        } else if (one_in(&s, 3)) {
            plain(&s);
        } else {
            memory(&s);
        }
    }
    for (; steps < 4; steps++) {
        if (!one_in(&s, 4)) {
            begin(&s);
            step(&s, steps < LOOP_POINTERS ? s.pointer[steps] : s.index);
        }
    }
    begin(&s);
    if (one_in(&s, 2)) {
        emit_byte(&s.c, 0x48 | (s.count >= 8 ? 1 : 0)); /* dec */
        emit_bytes(&s.c, (uint8_t[]){0xff, (uint8_t)(0xc8 | (s.count & 7))}, 2);
        emit_patch(p->code, emit_jcc(&s.c, 5), top);
    } else {
        emit_byte(&s.c, 0x48 | (s.count >= 8 ? 1 : 0)); /* sub $1 */
        emit_bytes(&s.c, (uint8_t[]){0x83, (uint8_t)(0xe8 | (s.count & 7)), 1}, 3);
        emit_patch(p->code, emit_jcc(&s.c, one_in(&s, 2) ? 15 : 13), top);
    }
    if (s.again) {
        begin(&s);
        emit_mov_imm32(&s.c, s.count, 1 + oracle_below(r, 40));
        begin(&s);
        emit_byte(&s.c, 0x48 | (s.outer >= 8 ? 1 : 0)); /* dec */
        emit_bytes(&s.c, (uint8_t[]){0xff, (uint8_t)(0xc8 | (s.outer & 7))}, 2);
        emit_patch(p->code, emit_jcc(&s.c, 5), top);
    }
    begin(&s);
    plain(&s);
    for (unsigned i = 0; i < nr_exits; i++) {
        emit_patch(p->code, exits[i], emit_offset(&s.c));
    }
    p->at[p->nr] = emit_offset(&s.c);
    emit_byte(&s.c, 0xcc);
    p->len = emit_offset(&s.c);
}
