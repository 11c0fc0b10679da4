/* SPDX-License-Identifier: MIT */
/*
 * Programs of oracle_program. Random instructions come from the generator of single ones, as
 * long as they leave the registers alone that others need; the rest is written here.
 */
#include "program.h"

#include <glib.h>
#include <string.h>

#include "core/cpu.h"

static const struct program_roles roles64 = {
    .pointers = {CPU_RSP, CPU_RBP, CPU_RSI, CPU_R9, CPU_R12},
    .nr_pointers = 5,
    .data = {CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX, CPU_R8, CPU_R10, CPU_R14},
    .nr_data = 7,
    .index = CPU_R11,
    .counter = CPU_R15,
};

void program_put(struct program *p, const uint8_t *bytes, unsigned len)
{
    memcpy(p->code + p->len, bytes, len);
    p->len += len;
}

static void put(struct program *p, const uint8_t *bytes, unsigned len)
{
    program_put(p, bytes, len);
}

/* 32-bit code has none, nor registers that need one. */
static void put_rex(struct program *p, uint8_t rex)
{
    if (p->mode == INSN_MODE_64) {
        put(p, &rex, 1);
    }
}

static uint8_t data_reg(struct oracle_rng *r, const struct program *p)
{
    return p->roles->data[oracle_below(r, p->roles->nr_data)];
}

/* Mostly the stack. */
static uint8_t base_reg(struct oracle_rng *r, const struct program *p)
{
    static const uint8_t bases[] = {CPU_RSP, CPU_RSP, CPU_RSI, CPU_R9, CPU_R12};
    unsigned n = oracle_below(r, 5);

    if (p->mode == INSN_MODE_64) {
        return bases[n];
    }
    return n < 2 ? CPU_RSP : p->roles->pointers[n % p->roles->nr_pointers];
}

bool program_is_pointer(const struct program *p, unsigned reg)
{
    return memchr(p->roles->pointers, (int)reg, p->roles->nr_pointers) != NULL;
}

/* Registers that hold addresses, or what else must not be overwritten at random. */
static bool reserved(const struct program *p, unsigned reg)
{
    return program_is_pointer(p, reg) || reg == p->roles->index || reg == p->roles->counter;
}

/* A random instruction that leaves the reserved registers alone. */
static bool usable(struct oracle_rng *r, const struct program *p, struct oracle_case *c)
{
    const struct insn *in = &c->in;
    const struct insn_operand *mem = insn_mem_operand(in);

    if ((in->flags & (INSN_F_BRANCH | INSN_F_VSIB | INSN_F_MEM_IMPLICIT)) != 0 ||
        (in->id >= INSN_PUSH && in->id <= INSN_LEAVE) ||
        (in->id >= INSN_MOVS && in->id <= INSN_SCAS) || in->id == INSN_XLAT ||
        in->id == INSN_UD) {
        return false;
    }
    for (unsigned i = 0; i < in->nr_operands; i++) {
        const struct insn_operand *op = &in->op[i];

        if (op->kind == OPK_GPR && (op->access & OPA_WRITE) != 0 &&
            reserved(p, (op->reg & INSN_HIGH_BYTE) != 0 ? op->reg & 3u : op->reg)) {
            return false;
        }
    }
    if ((in->flags & INSN_F_X87) != 0 && mem != NULL && mem->size > 10) {
        return false; /* FOP, FIP and FDP are in the image */
    }
    if (mem == NULL || in->id == INSN_LEA || in->id == INSN_NOP) {
        return true;
    }
    if (oracle_below(r, 200) == 0) {
        return true; /* will most likely fault */
    }
    if (p->mode == INSN_MODE_32) {
        return program_aim32(r, p, c);
    }
    return program_is_pointer(p, in->base) && in->disp_len < 4 &&
           (in->index == INSN_NO_REG || in->index == CPU_R11) && in->seg != CPU_GS;
}

static void add_random(struct oracle_rng *r, const struct cpu_model *model, struct program *p)
{
    static uint8_t scratch[ORACLE_DATA_SIZE];
    struct oracle_case c;

    do {
        c.mode = p->mode;
        c.segments = p->mode == INSN_MODE_32;
    } while (!oracle_generate(r, model, &c, scratch) || !usable(r, p, &c));
    put(p, c.bytes, c.len);
}

static void add_stack(struct oracle_rng *r, struct program *p)
{
    static const uint8_t choice[][8] = {
        {1, 0x50},                                  /* push %rax */
        {1, 0x58},                                  /* pop %rax */
        {2, 0x41, 0x51},                            /* push %r9 */
        {2, 0x41, 0x5a},                            /* pop %r10 */
        {1, 0x53},                                  /* push %rbx */
        {2, 0x41, 0x52},                            /* push %r10 */
        {2, 0x6a, 0x55},                            /* push $0x55 */
        {2, 0x41, 0x58},                            /* pop %r8 */
        {1, 0x54},                                  /* push %rsp */
        {3, 0xff, 0x75, 0x08},                      /* push 8(%rbp) */
        {3, 0x8f, 0x45, 0x10},                      /* pop 16(%rbp) */
        {4, 0xff, 0x74, 0x24, 0x08},                /* push 8(%rsp) */
        {4, 0x8f, 0x44, 0x24, 0xf8},                /* pop -8(%rsp) */
        {4, 0x48, 0x83, 0xec, 0x18},                /* sub $24,%rsp */
        {4, 0x48, 0x83, 0xc4, 0x10},                /* add $16,%rsp */
        {5, 0x48, 0x8d, 0x64, 0x24, 0xd8},          /* lea -40(%rsp),%rsp */
        {5, 0x48, 0x89, 0x44, 0x24, 0x08},          /* mov %rax,8(%rsp) */
        {5, 0x4c, 0x8b, 0x54, 0x24, 0xf0},          /* mov -16(%rsp),%r10 */
        {5, 0x55, 0x48, 0x89, 0xe5, 0xc9},          /* push %rbp; mov %rsp,%rbp; leave */
        {2, 0x9c, 0x9d},                            /* pushf; popf */
        {4, 0x48, 0x83, 0xe4, 0xf0},                /* and $-16,%rsp */
        {3, 0x48, 0x89, 0xe3},                      /* mov %rsp,%rbx */
        {6, 0x48, 0x89, 0xe0, 0x48, 0x94, 0x90},    /* mov %rsp,%rax; xchg %rax,%rsp */
        {2, 0x66, 0x50},                            /* push %ax */
        {4, 0x66, 0x58, 0x66, 0x50},                /* pop %ax; push %ax */
    };
    const uint8_t *c = choice[oracle_below(r, sizeof(choice) / sizeof(choice[0]))];

    put(p, c + 1, c[0]);
}

/* mov $n,%ecx; lea d(%r12),%rdi; a string instruction, mostly with REP or REPNE */
static void add_string(struct oracle_rng *r, struct program *p)
{
    static const uint8_t opcodes[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
    uint8_t code[16] = {0xb9, 0, 0, 0, 0, 0x49, 0x8d, 0xbc, 0x24};
    int32_t disp = (int32_t)oracle_below(r, 400) - 200;
    uint32_t count = oracle_below(r, oracle_below(r, 8) == 0 ? 2000 : 40);
    unsigned n = 13, rep = oracle_below(r, 5);

    memcpy(code + 1, &count, 4);
    memcpy(code + 9, &disp, 4);
    if (rep != 0) {
        code[n++] = rep == 1 ? 0xf2 : 0xf3;
    }
    if (oracle_below(r, 3) == 0) {
        code[n++] = 0x48;
    }
    code[n++] = (uint8_t)(opcodes[oracle_below(r, 5)] + oracle_below(r, 2));
    put(p, code, n);
}

void program_branch(struct program *p, unsigned to)
{
    p->to[p->nr] = to;
    p->rel[p->nr] = p->len;
    put(p, (const uint8_t[]){0, 0, 0, 0}, 4);
}

static void add_loop(struct oracle_rng *r, struct program *p)
{
    static const uint8_t loop[] = {0x41, 0xd1, 0xef, 0x0f, 0x85}; /* shr %r15d; jnz */
    /* 1: shr %r15d; jz 2f; test $1,%r15b; jnz 1b; jmp; 2: */
    static const uint8_t ways[] = {0x41, 0xd1, 0xef, 0x74, 0x0b, 0x41, 0xf6, 0xc7, 1, 0x75, 0xf5, 0xe9};
    uint8_t c = p->roles->counter & 7;
    const uint8_t loop32[] = {0xd1, 0xe8 | c, 0x0f, 0x85};
    const uint8_t ways32[] = {0xd1, 0xe8 | c, 0x74, 13,   0xf7, 0xc0 | c, 1,
                              0,    0,        0,    0x75, 0xf4, 0xe9};
    bool first = oracle_below(r, 2) == 0;

    if (p->mode == INSN_MODE_32) {
        put(p, first ? loop32 : ways32, first ? sizeof(loop32) : sizeof(ways32));
    } else {
        put(p, first ? loop : ways, first ? sizeof(loop) : sizeof(ways));
    }
    program_branch(p, 1 + oracle_below(r, p->nr - 1));
}

static void add_branch(struct oracle_rng *r, struct program *p)
{
    uint8_t jcc[] = {0x0f, (uint8_t)(0x80 | oracle_below(r, 16))};
    unsigned n = p->nr, kind = oracle_below(r, 6);

    if (kind == 0 && n > 2 && p->roles->counter != INSN_NO_REG) {
        add_loop(r, p);
    } else if (kind == 1) {
        put(p, (const uint8_t[]){0xe8}, 1); /* call forward; the return address stays */
        program_branch(p, n + 1 + oracle_below(r, 3));
    } else if (kind == 2) {
        put(p, (const uint8_t[]){0xe9}, 1);
        program_branch(p, n + 1 + oracle_below(r, 3));
    } else {
        put(p, jcc, sizeof(jcc));
        program_branch(p, n + 1 + oracle_below(r, 6));
    }
}

/* Indirectly to the next instruction: push it and return, or jump through a register. */
static void add_indirect(struct oracle_rng *r, struct program *p)
{
    static const uint8_t ret[] = {0x48, 0x8d, 0x05, 2, 0, 0, 0, 0x50, 0xc3};
    static const uint8_t jmp[] = {0x48, 0x8d, 0x05, 2, 0, 0, 0, 0xff, 0xe0};
    static const uint8_t call[] = {0x4c, 0x8d, 0x15, 3, 0, 0, 0, 0x41, 0xff, 0xd2};
    static const uint8_t callret[] = {0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3}; /* a function: ret */
    /* lea 4(%rip),%rax; push %rax; jmp *(%rsp) */
    static const uint8_t jmpmem[] = {0x48, 0x8d, 0x05, 4, 0, 0, 0, 0x50, 0xff, 0x24, 0x24};
    /* a function: pop %r8; push %r8; ret; and one that drops an argument: push; call; ret $8 */
    static const uint8_t again[] = {0xe8, 2, 0, 0, 0, 0xeb, 5, 0x41, 0x58, 0x41, 0x50, 0xc3};
    static const uint8_t retn[] = {0x50, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, 8, 0};
    /* f: call g; ret; g: ret */
    static const uint8_t nested[] = {0xe8, 2, 0, 0, 0, 0xeb, 7, 0xe8, 1, 0, 0, 0, 0xc3, 0xc3};

    switch (oracle_below(r, 8)) {
    case 4:
        put(p, jmpmem, sizeof(jmpmem));
        break;
    case 5:
        put(p, again, sizeof(again));
        break;
    case 6:
        put(p, retn, sizeof(retn));
        break;
    case 7:
        put(p, nested, sizeof(nested));
        break;
    case 0:
        put(p, ret, sizeof(ret));
        break;
    case 1:
        put(p, jmp, sizeof(jmp));
        break;
    case 2:
        put(p, call, sizeof(call));
        break;
    default:
        put(p, callret, sizeof(callret));
        break;
    }
}

/* An immediate that some store changes, or such a store. */
static void add_self(struct oracle_rng *r, struct program *p)
{
    if (p->nr_patches == 0 || (p->nr_patches < MAX_PATCHES && oracle_below(r, 2) == 0)) {
        put(p, (const uint8_t[]){0xbb, 1, 2, 3, 4}, 5); /* mov $.., %ebx */
        p->patches[p->nr_patches++] = p->len - 1 - oracle_below(r, 4);
    } else {
        unsigned to = p->patches[oracle_below(r, p->nr_patches)];
        int32_t disp = (int32_t)to - (int32_t)(p->len + 6);

        put(p, (const uint8_t[]){0x00, 0x05}, 2); /* add %al, disp(%rip) */
        put(p, (const uint8_t *)&disp, 4);
    }
}

/* A load or store by one of two bases and perhaps the index, a little way off. */
static void add_field(struct oracle_rng *r, struct program *p, const uint8_t base[2], bool index,
                      uint8_t reg)
{
    static const uint8_t opcodes[] = {0x8b, 0x8b, 0x89, 0x89, 0x11, 0x8a, 0x88, 0x10};
    uint8_t from = base[oracle_below(r, 4) == 0];
    uint8_t rex = (uint8_t)(0x40 | (oracle_below(r, 2) != 0 ? 8 : 0) | (reg >= 8 ? 4 : 0) |
                            (index ? 2 : 0) | (from >= 8));

    put_rex(p, rex);
    put(p,
        (const uint8_t[]){opcodes[oracle_below(r, sizeof(opcodes))],
                          (uint8_t)(0x44 | (reg & 7) << 3),
                          (uint8_t)((index ? p->roles->index & 7 : 4) << 3 | (from & 7)),
                          (uint8_t)(4 * oracle_below(r, 3))},
        4);
}

/* A shift, whose flags somebody may want behind what follows: fields of a struct, or the same word
 * of an array several times. */
static void add_shift(struct oracle_rng *r, struct program *p)
{
    static const uint8_t kinds[] = {4, 5, 7};
    uint8_t to = data_reg(r, p), wide = oracle_below(r, 2) != 0 ? 8 : 0;
    const uint8_t base[2] = {base_reg(r, p), base_reg(r, p)};
    bool index = oracle_below(r, 4) != 0 && p->roles->index != INSN_NO_REG;

    put_rex(p, (uint8_t)(0x40 | wide | (to >= 8)));
    put(p,
        (const uint8_t[]){0xc1, (uint8_t)(0xc0 | kinds[oracle_below(r, 3)] << 3 | (to & 7)),
                          (uint8_t)oracle_below(r, 64)},
        3);
    for (unsigned n = 2 + oracle_below(r, 3); n > 0; n--) {
        add_field(r, p, base, index, data_reg(r, p));
    }
}

/* A register that is small from here on, but for what may be written to its lowest byte. */
static void add_small(struct oracle_rng *r, struct program *p, uint8_t reg)
{
    const uint8_t rex = (uint8_t)(0x40 | (reg >= 8));

    switch (oracle_below(r, 3)) {
    case 0: /* and $..,%reg */
        put_rex(p, rex);
        put(p,
            (const uint8_t[]){0x83, (uint8_t)(0xe0 | (reg & 7)),
                              (uint8_t)((8u << oracle_below(r, 4)) - 1)},
            3);
        break;
    case 1: /* movzbl %dl,%reg */
        put_rex(p, (uint8_t)(0x40 | (reg >= 8 ? 4 : 0)));
        put(p, (const uint8_t[]){0x0f, 0xb6, (uint8_t)(0xc0 | (reg & 7) << 3 | CPU_RDX)}, 3);
        break;
    default: /* shr $..,%reg */
        put_rex(p, rex);
        put(p,
            (const uint8_t[]){0xc1, (uint8_t)(0xe8 | (reg & 7)),
                              (uint8_t)(24 + oracle_below(r, 8))},
            3);
        break;
    }
    if (oracle_below(r, 4) == 0) { /* mov $..,%regl */
        put_rex(p, rex);
        put(p, (const uint8_t[]){(uint8_t)(0xb0 | (reg & 7)), (uint8_t)oracle_below(r, 256)}, 2);
    }
}

/* Arrays whose index was masked, beside fields by the same base. */
static void add_masked(struct oracle_rng *r, struct program *p)
{
    static const uint8_t opcodes[] = {0x8b, 0x89, 0x8a, 0x88, 0x03, 0x01, 0x39};
    uint8_t base = base_reg(r, p), index = data_reg(r, p);

    add_small(r, p, index);
    for (unsigned n = 1 + oracle_below(r, 4); n > 0; n--) {
        bool field = oracle_below(r, 3) == 0;
        uint8_t reg = data_reg(r, p);
        uint8_t rex = (uint8_t)(0x40 | (oracle_below(r, 2) != 0 ? 8 : 0) | (reg >= 8 ? 4 : 0) |
                                (!field && index >= 8 ? 2 : 0) | (base >= 8));
        uint8_t sib = (uint8_t)(oracle_below(r, 4) << 6 | (field ? 4 : index & 7) << 3 | (base & 7));

        put_rex(p, rex);
        put(p,
            (const uint8_t[]){opcodes[oracle_below(r, sizeof(opcodes))],
                              (uint8_t)(0x44 | (reg & 7) << 3), sib, (uint8_t)oracle_below(r, 256)},
            4);
    }
}

/* What the two modes have in common, or say differently. */
static void add_some(struct oracle_rng *r, const struct cpu_model *model, struct program *p,
                     unsigned self)
{
    bool mode32 = p->mode == INSN_MODE_32;
    unsigned kind = oracle_below(r, 40);

    if (kind < 7) {
        add_branch(r, p);
    } else if (kind < 10) {
        (mode32 ? program_indirect32 : add_indirect)(r, p);
    } else if (kind < 15) {
        (mode32 ? program_stack32 : add_stack)(r, p);
    } else if (kind == 39) {
        (mode32 ? program_string32 : add_string)(r, p);
    } else if (kind == 38) {
        add_shift(r, p);
    } else if (kind == 37) {
        add_masked(r, p);
    } else if (kind < 15 + self) {
        (mode32 ? program_self32 : add_self)(r, p);
    } else if (mode32 && kind > 32) {
        program_other32(r, p);
    } else {
        add_random(r, model, p);
    }
}

static void build(struct oracle_rng *r, const struct cpu_model *model, struct program *p)
{
    unsigned wanted = 5 + oracle_below(r, MAX_INSNS - 4);
    unsigned self = oracle_below(r, 4) == 0 ? 8 : 0;

    for (p->nr = 0; p->nr < wanted; p->nr++) {
        p->at[p->nr] = p->len;
        add_some(r, model, p, self);
    }
    p->at[p->nr] = p->len;
    for (unsigned i = 0; i < p->nr; i++) {
        if (p->rel[i] != 0) {
            int32_t rel = (int32_t)(p->at[MIN(p->to[i], p->nr)] - (p->rel[i] + 4));

            memcpy(p->code + p->rel[i], &rel, 4);
        }
    }
    p->code[p->len++] = 0xcc;
}

static uint64_t pointer(struct oracle_rng *r)
{
    uint64_t at = ORACLE_DATA + 256 + oracle_below(r, ORACLE_RW_SIZE - 512);

    switch (oracle_below(r, 8)) {
    case 0:
        return ORACLE_DATA + 4096 - oracle_below(r, 160);
    case 1:
        return at;
    default:
        return at & ~63ull;
    }
}

static void state(struct oracle_rng *r, const struct program_roles *roles, struct oracle_case *c)
{
    static const uint8_t nop[] = {0x90};
    static uint8_t scratch[ORACLE_DATA_SIZE];

    while (!oracle_prepare(r, c, nop, 1, scratch)) {
    }
    for (unsigned i = 0; i < 16; i++) {
        if (memchr(roles->pointers, (int)i, roles->nr_pointers) != NULL) {
            c->start.gpr[i] = pointer(r);
        }
    }
    if (roles->index != INSN_NO_REG) {
        c->start.gpr[roles->index] = oracle_below(r, 24);
    }
    if (roles->counter != INSN_NO_REG) {
        c->start.gpr[roles->counter] = oracle_below(r, 64);
    }
    c->rip = ORACLE_CODE + 64 + oracle_below(r, 1500);
    if (oracle_below(r, 4) == 0) {
        c->rip = ORACLE_CODE + 4096 - oracle_below(r, 600);
    }
}

void program_state(struct oracle_rng *r, struct oracle_case *c)
{
    state(r, &roles64, c);
}

void program_make(struct oracle_rng *r, const struct cpu_model *model, struct program *p,
                  struct oracle_case *c)
{
    memset(p, 0, sizeof(*p));
    p->mode = c->mode;
    p->roles = &roles64;
    if (c->mode == INSN_MODE_64) {
        build(r, model, p);
        program_state(r, c);
        return;
    }
    program_roles32(r, p, c);
    state(r, p->roles, c);
    for (unsigned i = 8; i < 16; i++) {
        c->start.gpr[i] = oracle_rand(r); /* nobody's, but they stay */
    }
    p->rip = (uint32_t)c->rip;
    p->esp = (uint32_t)c->start.gpr[CPU_RSP];
    build(r, model, p);
}
