/* SPDX-License-Identifier: MIT */
/*
 * 32-bit code of oracle_program -32: what program_gen.c cannot say for both modes. Fewer
 * registers, so programs differ in what they use them for; absolute addresses; FS and GS with
 * bases, sometimes limits; instructions that 64-bit code does not have.
 */
#include <glib.h>
#include <string.h>

#include "program.h"

/* EBP points somewhere in each; only EAX ECX EDX are data in each. */
static const struct program_roles roles32[] = {
    {.pointers = {CPU_RSP, CPU_RBP, CPU_RSI}, .nr_pointers = 3,
     .data = {CPU_RAX, CPU_RCX, CPU_RDX}, .nr_data = 3, .index = CPU_RDI, .counter = CPU_RBX},
    {.pointers = {CPU_RSP, CPU_RBP, CPU_RSI, CPU_RDI}, .nr_pointers = 4,
     .data = {CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX}, .nr_data = 4, .index = INSN_NO_REG,
     .counter = INSN_NO_REG},
    {.pointers = {CPU_RSP, CPU_RBP, CPU_RBX}, .nr_pointers = 3,
     .data = {CPU_RAX, CPU_RCX, CPU_RDX}, .nr_data = 3, .index = CPU_RSI, .counter = CPU_RDI},
};

enum { PREFIX_FS = 0x64, PREFIX_GS = 0x65 };

static bool one_in(struct oracle_rng *r, unsigned n)
{
    return oracle_below(r, n) == 0;
}

static void put8(struct program *p, unsigned byte)
{
    program_put(p, (const uint8_t[]){(uint8_t)byte}, 1);
}

static void put32(struct program *p, uint32_t word)
{
    program_put(p, (const uint8_t *)&word, 4);
}

#define PUT(p, ...) \
    program_put(p, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Where the code will be, `ahead` bytes on. */
static uint32_t here(const struct program *p, unsigned ahead)
{
    return p->rip + p->len + ahead;
}

/* ---- segments ---- */

static void segment(struct oracle_rng *r, struct oracle_segment *s)
{
    const uint32_t bases[] = {0,
                              0x40,
                              0xffffffc0,
                              (uint32_t)ORACLE_DATA - 0x100,
                              (uint32_t)ORACLE_DATA + 0x800,
                              (uint32_t)oracle_rand(r)};

    *s = (struct oracle_segment){.base = bases[oracle_below(r, 6)], .limit = UINT32_MAX};
}

/* One that gives faults. */
static void segment_limit(struct oracle_rng *r, struct oracle_segment *s)
{
    uint32_t last = (uint32_t)ORACLE_DATA + oracle_below(r, ORACLE_RW_SIZE) - s->base;

    if (one_in(r, 3)) {
        s->read_only = true;
    } else {
        s->limit = last > 0xfffff ? last | 0xfff : last;
    }
}

/* Where DS:at is in the segment of a prefix. */
static uint32_t in_segment(const struct program *p, unsigned prefix, uint32_t at)
{
    return at - (prefix == PREFIX_FS ? p->bases[0] : prefix == PREFIX_GS ? p->bases[1] : 0);
}

/* A prefix that leaves addresses near where they are, or none (0). */
static unsigned near_prefix(struct oracle_rng *r, const struct program *p)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, PREFIX_FS, PREFIX_GS};
    unsigned prefix = prefixes[oracle_below(r, 6)];
    uint32_t off = in_segment(p, prefix, 0);

    return one_in(r, 2) || (off + 0x100 > 0x200 && !one_in(r, 20)) ? 0 : prefix;
}

void program_roles32(struct oracle_rng *r, struct program *p, struct oracle_case *c)
{
    p->roles = &roles32[oracle_below(r, G_N_ELEMENTS(roles32))];
    c->segments = true;
    segment(r, &c->fs);
    segment(r, &c->gs);
    if (one_in(r, 8)) {
        segment_limit(r, one_in(r, 2) ? &c->fs : &c->gs);
    }
    p->bases[0] = c->fs.base;
    p->bases[1] = c->gs.base;
}

/* ---- addresses ---- */

/* Of up to 64 bytes that can be written; now and then over the end of a page, or read-only. */
static uint32_t address(struct oracle_rng *r)
{
    uint32_t at = (uint32_t)ORACLE_DATA;

    switch (oracle_below(r, 12)) {
    case 0:
        return at + 4096 - oracle_below(r, 32);
    case 1:
        return at + oracle_below(r, one_in(r, 4) ? ORACLE_DATA_SIZE : ORACLE_RW_SIZE - 64);
    case 2:
    case 3:
        return (at + oracle_below(r, ORACLE_RW_SIZE - 64)) & ~3u;
    default:
        return (at + oracle_below(r, ORACLE_RW_SIZE - 64)) & ~31u;
    }
}

/* How much a register adds to an address: 0 little, 1 one of the data area, -1: who knows. */
static int weight(const struct program *p, unsigned reg, unsigned scale)
{
    if (reg == INSN_NO_REG || reg == p->roles->index || reg == p->roles->counter) {
        return 0;
    }
    return program_is_pointer(p, reg) && scale == 1 ? 1 : -1;
}

bool program_aim32(struct oracle_rng *r, const struct program *p, struct oracle_case *c)
{
    const struct insn *in = &c->in;
    uint32_t base = in->seg == CPU_FS ? p->bases[0] : in->seg == CPU_GS ? p->bases[1] : 0;
    int a = weight(p, in->base, 1), b = weight(p, in->index, in->scale);
    uint32_t disp;

    if ((in->seg == CPU_CS && (insn_mem_operand(in)->access & OPA_WRITE) != 0 && !one_in(r, 16)) ||
        a < 0 || b < 0) {
        return false;
    }
    disp = a + b == 0 ? address(r) : oracle_below(r, 512) - 256;
    disp -= base + (a + b > 1 ? (uint32_t)ORACLE_DATA : 0);
    if (in->addrsize == 2) {
        if (in->base != INSN_NO_REG || in->index != INSN_NO_REG) {
            return one_in(r, 50);
        }
        memcpy(c->bytes + in->disp_off, &disp, 2);
        return disp <= UINT16_MAX;
    }
    if (in->disp_len == 4) {
        memcpy(c->bytes + in->disp_off, &disp, 4);
        return true;
    }
    return a + b == 1 && base + 0x100 <= 0x200;
}

/* ---- the stack ---- */

/* Far, and back again. */
static void stack_far(struct oracle_rng *r, struct program *p)
{
    uint32_t by = one_in(r, 2) ? 0x1000 : 0x400 + oracle_below(r, 0x1000);
    bool up = p->esp < ORACLE_DATA + 4096;

    switch (oracle_below(r, 3)) {
    case 0: /* lea; mov; lea */
        PUT(p, 0x8d, 0xa4, 0x24);
        put32(p, up ? by : 0 - by);
        PUT(p, 0x89, 0x44, 0x24, 0x08, 0x8d, 0xa4, 0x24);
        put32(p, up ? 0 - by : by);
        break;
    case 1: /* mov %esp,%eax; sub or add; push; mov %eax,%esp */
        PUT(p, 0x89, 0xe0, 0x81, up ? 0xc4 : 0xec);
        put32(p, by);
        PUT(p, 0x51, 0x8b, 0x54, 0x24, 0x04, 0x89, 0xc4);
        break;
    default:
        PUT(p, 0x81, up ? 0xc4 : 0xec);
        put32(p, by);
        PUT(p, 0x50, 0x5a, 0x81, up ? 0xec : 0xc4);
        put32(p, by);
        break;
    }
}

/* PUSH or POP of memory at an absolute address, perhaps through FS or GS. */
static void stack_memory(struct oracle_rng *r, struct program *p)
{
    static const uint8_t prefixes[] = {PREFIX_FS, PREFIX_GS, 0x36, 0x66};
    unsigned prefix = prefixes[oracle_below(r, 4)];

    if (one_in(r, 2)) {
        prefix = 0;
    } else {
        put8(p, prefix);
    }
    if (one_in(r, 2)) {
        PUT(p, 0xff, 0x35);
    } else {
        PUT(p, 0x8f, 0x05);
    }
    put32(p, in_segment(p, prefix, address(r)));
}

void program_stack32(struct oracle_rng *r, struct program *p)
{
    static const uint8_t choice[][20] = {
        {1, 0x50},                               /* push %eax */
        {1, 0x58},                               /* pop %eax */
        {1, 0x51},                               /* push %ecx */
        {1, 0x5a},                               /* pop %edx */
        {1, 0x53},                               /* push %ebx */
        {1, 0x55},                               /* push %ebp */
        {1, 0x57},                               /* push %edi */
        {2, 0x6a, 0x85},                         /* push $-0x7b */
        {5, 0x68, 1, 2, 3, 0x84},                /* push $0x84030201 */
        {3, 0x66, 0x6a, 0x85},                   /* pushw $-0x7b */
        {4, 0x66, 0x68, 1, 0x82},                /* pushw $0x8201 */
        {1, 0x54},                               /* push %esp */
        {2, 0x54, 0x5c},                         /* push %esp; pop %esp */
        {3, 0xff, 0x75, 0x08},                   /* push 8(%ebp) */
        {3, 0x8f, 0x45, 0x10},                   /* pop 16(%ebp) */
        {4, 0xff, 0x74, 0x24, 0x08},             /* push 8(%esp) */
        {4, 0x8f, 0x44, 0x24, 0xf8},             /* pop -8(%esp) */
        {3, 0x8f, 0x04, 0x24},                   /* pop (%esp) */
        {4, 0x66, 0xff, 0x75, 0x08},             /* pushw 8(%ebp) */
        {5, 0x66, 0x8f, 0x44, 0x24, 0x06},       /* popw 6(%esp) */
        {3, 0x83, 0xec, 0x18},                   /* sub $24,%esp */
        {3, 0x83, 0xc4, 0x10},                   /* add $16,%esp */
        {4, 0x8d, 0x64, 0x24, 0xd8},             /* lea -40(%esp),%esp */
        {4, 0x89, 0x44, 0x24, 0x08},             /* mov %eax,8(%esp) */
        {4, 0x8b, 0x54, 0x24, 0xf0},             /* mov -16(%esp),%edx */
        {4, 0x55, 0x89, 0xe5, 0xc9},             /* push %ebp; mov %esp,%ebp; leave */
        /* leave, which may pop a return address: not to store by; lea 64(%esp),%ebp */
        {5, 0xc9, 0x8d, 0x6c, 0x24, 0x40},
        {5, 0xc8, 0x10, 0, 0, 0xc9},             /* enter $16,$0; leave */
        {6, 0xc8, 0x20, 0, 1, 0x50, 0xc9},       /* enter $32,$1; push %eax; leave */
        {5, 0xc8, 0x08, 0, 3, 0xc9},             /* enter $8,$3; leave */
        {4, 0xc8, 0x04, 0, 0},                   /* enter $4,$0 */
        {7, 0x66, 0xc8, 0x10, 0, 2, 0x66, 0xc9}, /* enterw; leavew */
        {2, 0x9c, 0x9d},                         /* pushf; popf */
        {2, 0x9c, 0x58},                         /* pushf; pop %eax */
        {4, 0x66, 0x9c, 0x66, 0x9d},             /* pushfw; popfw */
        {3, 0x83, 0xe4, 0xf0},                   /* and $-16,%esp */
        {2, 0x89, 0xe2},                         /* mov %esp,%edx */
        {3, 0x89, 0xe0, 0x94},                   /* mov %esp,%eax; xchg %eax,%esp */
        {2, 0x66, 0x50},                         /* push %ax */
        {4, 0x66, 0x58, 0x66, 0x50},             /* pop %ax; push %ax */
        {2, 0x66, 0x59},                         /* pop %cx */
        {2, 0x60, 0x61},                         /* pusha; popa */
        {1, 0x60},                               /* pusha */
        {2, 0x66, 0x60},                         /* pushaw */
        {4, 0x66, 0x60, 0x66, 0x61},             /* pushaw; popaw */
        /* mov %edi,(%esp); %esi, 4; %ebp, 8; %ebx, 16; popa */
        {16, 0x89, 0x3c, 0x24, 0x89, 0x74, 0x24, 0x04, 0x89, 0x6c, 0x24, 0x08, 0x89, 0x5c, 0x24,
         0x10, 0x61},
    };
    const uint8_t *c = choice[oracle_below(r, G_N_ELEMENTS(choice))];

    if (one_in(r, 8)) {
        stack_far(r, p);
    } else if (one_in(r, 8)) {
        stack_memory(r, p);
    } else {
        program_put(p, c + 1, c[0]);
    }
}

/* ---- strings ---- */

/* Prefixes and opcode; LODS only where EDI is not to be had. */
static void string_insn(struct oracle_rng *r, struct program *p, bool edi)
{
    static const uint8_t opcodes[] = {0xac, 0xac, 0xa4, 0xa6, 0xaa, 0xae};
    uint8_t opcode = opcodes[oracle_below(r, edi ? 6 : 2)];
    bool source = opcode < 0xaa || opcode == 0xac;
    unsigned rep = oracle_below(r, 5), prefix = source ? near_prefix(r, p) : 0;

    if (rep != 0) {
        put8(p, rep == 1 ? 0xf2 : 0xf3);
    }
    if (one_in(r, 4)) {
        put8(p, 0x66);
    }
    if (prefix != 0) {
        put8(p, prefix);
    }
    if (one_in(r, 40)) {
        put8(p, 0x67);
    }
    put8(p, opcode + oracle_below(r, 2));
}

void program_string32(struct oracle_rng *r, struct program *p)
{
    bool edi = p->roles->counter != CPU_RDI;
    uint8_t set = p->roles->index == INSN_NO_REG ? (uint8_t)CPU_RDI : p->roles->index;
    bool down = one_in(r, 6);

    put8(p, 0xb9); /* mov $..,%ecx */
    put32(p, one_in(r, 8) ? oracle_below(r, 2000) : oracle_below(r, 40));
    PUT(p, 0x8d, (uint8_t)(0x85 | set << 3)); /* lea ..(%ebp),%edi or %esi */
    put32(p, oracle_below(r, 400) - 200);
    if (down) {
        put8(p, 0xfd);
    }
    string_insn(r, p, edi);
    if (down || one_in(r, 4)) {
        put8(p, 0xfc);
    }
    if (p->roles->index != INSN_NO_REG) {
        put8(p, 0xb8 | set);
        put32(p, oracle_below(r, 24));
    }
}

/* ---- branches ---- */

/* Through memory: to what comes behind. */
static void indirect_memory(struct oracle_rng *r, struct program *p)
{
    uint32_t at = address(r) & ~3u;
    uint8_t sib = (uint8_t)(0x85 | p->roles->index << 3), jump = one_in(r, 2) ? 0x20 : 0x10;
    unsigned prefix = one_in(r, 2) ? PREFIX_FS : PREFIX_GS;

    switch (oracle_below(r, 4)) {
    case 0: /* movl $..,(at); jmp or call *(at) */
        PUT(p, 0xc7, 0x05);
        put32(p, at);
        put32(p, here(p, 10));
        PUT(p, 0xff, 0x05 | jump);
        put32(p, at);
        break;
    case 1: /* movl $..,12(%ebp); jmp or call */
        PUT(p, 0xc7, 0x45, 0x0c);
        put32(p, here(p, 7));
        PUT(p, 0xff, 0x45 | jump, 0x0c);
        break;
    case 2: /* push $..; pop %fs:(at); jmp or call */
        put8(p, 0x68);
        put32(p, here(p, 18));
        PUT(p, (uint8_t)prefix, 0x8f, 0x05);
        put32(p, in_segment(p, prefix, at));
        PUT(p, (uint8_t)prefix, 0xff, 0x05 | jump);
        put32(p, in_segment(p, prefix, at));
        break;
    default: /* movl $..,at(,index,4); jmp or call: a table */
        if (p->roles->index == INSN_NO_REG) {
            break;
        }
        PUT(p, 0xc7, 0x04, sib);
        put32(p, at);
        put32(p, here(p, 11));
        PUT(p, 0xff, 0x04 | jump, sib);
        put32(p, at);
        break;
    }
}

/* With the address of what comes behind as an immediate. */
static void indirect_immediate(struct oracle_rng *r, struct program *p)
{
    /* Bytes before the immediate, immediate, bytes behind. */
    static const uint8_t choice[][6] = {
        {0x68, 1, 0xc3},             /* push; ret */
        {0xb8, 2, 0xff, 0xe0},       /* mov %eax; jmp *%eax */
        {0xb9, 2, 0xff, 0xd1},       /* mov %ecx; call *%ecx */
        {0x68, 3, 0xff, 0x24, 0x24}, /* push; jmp *(%esp) */
        {0x68, 3, 0xff, 0x14, 0x24}, /* push; call *(%esp) */
        {0x68, 3, 0xc2, 0x08, 0x00}, /* push; ret $8 */
    };
    const uint8_t *c = choice[oracle_below(r, G_N_ELEMENTS(choice))];

    put8(p, c[0]);
    put32(p, here(p, 4u + c[1]));
    program_put(p, c + 2, c[1]);
}

void program_indirect32(struct oracle_rng *r, struct program *p)
{
    static const uint8_t choice[][16] = {
        {12, 0xe8, 0, 0, 0, 0, 0x58, 0x83, 0xc0, 0x07, 0xff, 0xe0, 0x90}, /* call; pop; add; jmp */
        {8, 0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3},                             /* a function: ret */
        {10, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0x58, 0x50, 0xc3},                /* pop; push; ret */
        {11, 0x50, 0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, 4, 0},                /* ret $4 */
        {14, 0xe8, 2, 0, 0, 0, 0xeb, 7, 0xe8, 1, 0, 0, 0, 0xc3, 0xc3},    /* nested */
        {11, 0xe8, 2, 0, 0, 0, 0xeb, 4, 0x8b, 0x04, 0x24, 0xc3},          /* where am I */
        {9, 0xe8, 2, 0, 0, 0, 0xeb, 2, 0xf3, 0xc3},                       /* rep ret */
    };
    const uint8_t *c = choice[oracle_below(r, G_N_ELEMENTS(choice))];

    switch (oracle_below(r, 8)) {
    case 0:
    case 1:
        indirect_memory(r, p);
        break;
    case 2:
    case 3:
        indirect_immediate(r, p);
        break;
    case 4: /* short, over an instruction */
        PUT(p, (uint8_t)(0x70 | oracle_below(r, 16)), 3, 0x83, 0xc0, 0x05);
        break;
    default:
        if (one_in(r, 60)) {
            PUT(p, 0x66, one_in(r, 2) ? 0xc3 : 0xe8, 0, 0); /* EIP becomes 16 bits */
        } else {
            program_put(p, c + 1, c[0]);
        }
        break;
    }
}

/* LOOP and its family: back a few times with a small ECX, or forward. */
static void other_loop(struct oracle_rng *r, struct program *p)
{
    static const uint8_t bodies[][6] = {
        {1, 0x40},                   /* inc %eax */
        {2, 0x01, 0xc2},             /* add %eax,%edx */
        {3, 0x13, 0x45, 0x04},       /* adc 4(%ebp),%eax */
        {4, 0x11, 0x54, 0x8d, 0x00}, /* adc %edx,(%ebp,%ecx,4) */
        {3, 0x39, 0x45, 0x08},       /* cmp %eax,8(%ebp) */
    };
    const uint8_t *body = bodies[oracle_below(r, G_N_ELEMENTS(bodies))];

    if (one_in(r, 2)) {
        put8(p, 0xb9);
        put32(p, 1 + oracle_below(r, 20));
        program_put(p, body + 1, body[0]);
        PUT(p, (uint8_t)(0xe0 + oracle_below(r, 3)), (uint8_t)(0 - body[0] - 2));
        return;
    }
    if (one_in(r, 2)) {
        put8(p, 0xb9);
        put32(p, oracle_below(r, 3));
    }
    if (one_in(r, 8)) {
        put8(p, 0x67); /* CX */
    }
    PUT(p, (uint8_t)(0xe0 + oracle_below(r, 4)), 2, 0xeb, 5, 0xe9);
    program_branch(p, p->nr + 1 + oracle_below(r, 4));
}

/* ---- stores into the program ---- */

static void self_make(struct oracle_rng *r, struct program *p)
{
    if (p->nr_toggles < MAX_PATCHES && one_in(r, 3)) {
        p->toggles[p->nr_toggles++] = p->len;
        put8(p, 0x40 + oracle_below(r, 3)); /* inc */
        return;
    }
    if (one_in(r, 2)) {
        put8(p, 0xb9); /* mov $..,%ecx */
    } else {
        PUT(p, 0x81, 0xc2); /* add $..,%edx */
    }
    put32(p, 0x04030201);
    p->patches[p->nr_patches++] = p->len - 1 - oracle_below(r, 4);
}

void program_self32(struct oracle_rng *r, struct program *p)
{
    unsigned prefix = one_in(r, 4) ? (one_in(r, 2) ? PREFIX_FS : PREFIX_GS) : 0;
    uint32_t at;

    if (p->nr_patches == 0 || (p->nr_patches < MAX_PATCHES && one_in(r, 2))) {
        self_make(r, p);
        return;
    }
    if (p->nr_toggles != 0 && one_in(r, 3)) { /* xorb $8: dec of inc */
        PUT(p, 0x80, 0x35);
        put32(p, p->rip + p->toggles[oracle_below(r, p->nr_toggles)]);
        put8(p, 8);
        return;
    }
    at = p->rip + p->patches[oracle_below(r, p->nr_patches)];
    if (one_in(r, 4)) { /* mov $..,%ecx; add %dl,(%ecx) */
        put8(p, 0xb9);
        put32(p, at);
        PUT(p, 0x00, 0x11);
        return;
    }
    if (prefix != 0) {
        put8(p, prefix);
    }
    at = in_segment(p, prefix, at);
    if (one_in(r, 4)) {
        put8(p, 0xa2); /* mov %al,(at) */
        put32(p, at);
    } else {
        PUT(p, 0x00, 0x05); /* add %al,(at) */
        put32(p, at);
    }
}

/* ---- the rest ---- */

/* Addresses whose sum goes over 4 GiB; rarely one that is next to it or to 0. */
static void other_wrap(struct oracle_rng *r, struct program *p)
{
    static const uint8_t opcodes[] = {0x8b, 0x03, 0x39, 0x89, 0x11, 0x8a, 0x88, 0x8d};
    uint8_t opcode = opcodes[oracle_below(r, 8)];
    uint32_t x = one_in(r, 3) ? (uint32_t)oracle_rand(r) : oracle_below(r, 64) - 32;

    put8(p, 0xba); /* mov $..,%edx */
    switch (oracle_below(r, 4)) {
    case 0: /* (%ebp,%edx,4) or 8 */
        put32(p, oracle_below(r, 8) << 29 | oracle_below(r, 16));
        PUT(p, opcode, 0x44, one_in(r, 2) ? 0x95 : 0xd5, 0x04);
        break;
    case 1: /* ..(%edx,%edx), ..(,%edx,8) */
        put32(p, x);
        if (one_in(r, 2)) {
            PUT(p, opcode, 0x84, 0x12);
            put32(p, address(r) - 2 * x);
        } else {
            PUT(p, opcode, 0x04, 0xd5);
            put32(p, address(r) - 8 * x);
        }
        break;
    case 2:
        if (one_in(r, 10)) {
            put32(p, oracle_below(r, 64) - 32); /* where nothing is, or over the end */
            PUT(p, opcode, 0x42, (uint8_t)(oracle_below(r, 16) - 8));
            break;
        }
        /* fall through */
    default: /* ..(%edx) */
        put32(p, x);
        PUT(p, opcode, 0x82);
        put32(p, address(r) - x);
        break;
    }
}

/* MOV with A0-A3; or a word at an absolute address, through any segment. */
static void other_absolute(struct oracle_rng *r, struct program *p)
{
    static const uint8_t opcodes[] = {0x8b, 0x8b, 0x89, 0x03, 0x33, 0x39, 0x8a, 0x88};
    static const uint8_t prefixes[] = {PREFIX_FS, PREFIX_GS, PREFIX_FS, PREFIX_GS, 0x26, 0x36};
    unsigned prefix = one_in(r, 3) ? 0 : prefixes[oracle_below(r, 6)];
    uint32_t at = in_segment(p, prefix, address(r));
    bool word = at <= UINT16_MAX && one_in(r, 3), moffs = one_in(r, 2);

    if (prefix != 0) {
        put8(p, prefix);
    }
    if (one_in(r, 6)) {
        put8(p, 0x66);
    }
    if (word) {
        put8(p, 0x67);
    }
    if (moffs) {
        put8(p, 0xa0 + oracle_below(r, 4));
    } else {
        PUT(p, opcodes[oracle_below(r, 8)], (uint8_t)((word ? 6 : 5) | oracle_below(r, 3) << 3));
    }
    program_put(p, (const uint8_t *)&at, word ? 2 : 4);
}

/* BOUND, INTO, XLAT. */
static void other_check(struct oracle_rng *r, struct program *p)
{
    unsigned prefix = near_prefix(r, p);

    switch (oracle_below(r, 4)) {
    case 0: /* movl -8(%esp), -4(%esp); bound %eax,-8(%esp) */
        PUT(p, 0xc7, 0x44, 0x24, 0xf8);
        put32(p, one_in(r, 8) ? (uint32_t)oracle_rand(r) : 0x80000000);
        PUT(p, 0xc7, 0x44, 0x24, 0xfc);
        put32(p, one_in(r, 8) ? (uint32_t)oracle_rand(r) : 0x7fffffff);
        PUT(p, 0x62, 0x44, 0x24, 0xf8);
        break;
    case 1: /* test %eax,%eax; into */
        PUT(p, 0x85, 0xc0, 0xce);
        break;
    case 2:
        if (one_in(r, 4)) {
            put8(p, 0xce);
        }
        break;
    default: /* lea 4(%ebp),%ebx; xlat */
        if (p->roles->counter == CPU_RBX) {
            break;
        }
        PUT(p, 0x8d, 0x5d, 0x04);
        if (prefix != 0) {
            put8(p, prefix);
        }
        put8(p, 0xd7);
        break;
    }
}

/* Selectors are the same here and there (oracle_guest.c); loading others ends flat segments. */
static void other_segment(struct oracle_rng *r, struct program *p)
{
    static const uint8_t choice[][14] = {
        {2, 0x1e, 0x07},                                     /* push %ds; pop %es */
        {2, 0x16, 0x1f},                                     /* push %ss; pop %ds */
        {1, 0x0e},                                           /* push %cs */
        {4, 0x8c, 0xd8, 0x8e, 0xc0},                         /* mov %ds,%eax; mov %eax,%es */
        {4, 0x0f, 0xa0, 0x0f, 0xa1},                         /* push %fs; pop %fs */
        {4, 0x0f, 0xa8, 0x0f, 0xa9},                         /* push %gs; pop %gs */
        {3, 0x66, 0x0f, 0xa0},                               /* pushw %fs */
        {4, 0x8c, 0xd0, 0x8e, 0xd0},                         /* mov %ss,%eax; mov %eax,%ss */
        {3, 0x8c, 0x65, 0x04},                               /* mov %fs,4(%ebp) */
        {3, 0x6a, ORACLE_SEL_FS, 0x07},                      /* push; pop %es: not flat */
        {3, 0x6a, 0, 0x07},                                  /* a null selector */
        {4, 0x6a, ORACLE_SEL_GS, 0x0f, 0xa1},                /* push; pop %fs */
        {3, 0x6a, ORACLE_SEL_FS, 0x1f},                      /* push; pop %ds: not flat */
        /* push; push $4; les (%esp),%eax; pop; pop, and with lfs */
        {9, 0x6a, ORACLE_SEL_FS, 0x6a, 4, 0xc4, 0x04, 0x24, 0x58, 0x59},
        {10, 0x6a, ORACLE_SEL_GS, 0x6a, 4, 0x0f, 0xb4, 0x04, 0x24, 0x58, 0x59},
    };
    const uint8_t *c = choice[oracle_below(r, one_in(r, 4) ? G_N_ELEMENTS(choice) : 9)];

    program_put(p, c + 1, c[0]);
}

/* push $..; popf, with flags that are seldom set: AC NT DF ID. */
static void other_flags(struct oracle_rng *r, struct program *p)
{
    static const uint32_t flags[] = {1u << 18, 1u << 14, 1u << 10, 1u << 21, 0, 0};

    put8(p, 0x68);
    put32(p, 0x202 | flags[oracle_below(r, 6)] | (uint32_t)(oracle_rand(r) & CPU_STATUS_FLAGS));
    put8(p, 0x9d);
    if (!one_in(r, 4)) {
        PUT(p, 0x68, 0x02, 0x02, 0, 0, 0x9d);
    }
}

void program_other32(struct oracle_rng *r, struct program *p)
{
    static const uint8_t short_ones[] = {0x27, 0x2f, 0x37, 0x3f, 0xd6, 0x9e, 0x9f, 0x98, 0x99,
                                         0x40, 0x41, 0x42, 0x48, 0x49, 0x4a, 0x91, 0x92, 0xf5};

    switch (oracle_below(r, 12)) {
    case 0:
    case 1:
        other_wrap(r, p);
        break;
    case 2:
    case 3:
        other_absolute(r, p);
        break;
    case 4:
        other_check(r, p);
        break;
    case 5:
        if (one_in(r, 3)) {
            other_segment(r, p);
        } else {
            other_flags(r, p);
        }
        break;
    case 6:
        PUT(p, one_in(r, 2) ? 0xd4 : 0xd5, one_in(r, 20) ? 0 : 10); /* AAM, AAD */
        break;
    case 7:
    case 8:
        other_loop(r, p);
        break;
    default:
        for (unsigned n = 1 + oracle_below(r, 4); n > 0; n--) {
            put8(p, short_ones[oracle_below(r, sizeof(short_ones))]);
        }
        break;
    }
}
