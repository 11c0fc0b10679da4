/* SPDX-License-Identifier: MIT */
/*
 * oracle_program [-n programs] [-seed S] [-seconds N] [-one]: random programs of 5 to 60
 * instructions, with loops, calls, faults and stores into themselves, on the interpreter and on
 * the translator (every block translated at its first run, or at its second or third). All of
 * the state, the data and the code must be the same at the end.
 *
 * Not compared: the status flags where a program ends in a fault. The translator does not keep
 * flags that the rest of the program overwrites (docs/translator.md 3.6).
 */
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "oracle.h"

/* oracle_guest.c once more, with other names. */
void oracle_second_init(const struct accel_ops *accel, const struct cpu_model *model);
uint8_t *oracle_second_data(void);
uint8_t *oracle_second_code(void);
void oracle_second_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                           struct oracle_state *end);
void oracle_second_fini(void);

enum { MAX_INSNS = 60, MAX_CODE = 2048, MAX_PATCHES = 4 };

/* Registers that hold addresses, or what else must not be overwritten at random. */
#define POINTERS (1u << CPU_RSP | 1u << CPU_RBP | 1u << CPU_RSI | 1u << CPU_R9 | 1u << CPU_R12)
#define RESERVED (POINTERS | 1u << CPU_R15 /* loop counter */ | 1u << CPU_R11 /* an index */)

struct program {
    uint8_t code[MAX_CODE + 64];
    unsigned len, nr;
    unsigned at[MAX_INSNS + 1];   /* where instructions start */
    unsigned to[MAX_INSNS];       /* branches: index of the target, 0: none */
    unsigned rel[MAX_INSNS];      /* and where its 32-bit displacement is */
    unsigned patches[MAX_PATCHES]; /* bytes of immediates that programs change */
    unsigned nr_patches;
};

static void put(struct program *p, const uint8_t *bytes, unsigned len)
{
    memcpy(p->code + p->len, bytes, len);
    p->len += len;
}

/* A random instruction that leaves the reserved registers alone. */
static bool usable(struct oracle_rng *r, const struct insn *in)
{
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
            (op->reg & INSN_HIGH_BYTE) == 0 && (RESERVED >> op->reg & 1) != 0) {
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
    return in->base < 16 && (POINTERS >> in->base & 1) != 0 && in->disp_len < 4 &&
           (in->index == INSN_NO_REG || in->index == CPU_R11) && in->seg != CPU_GS;
}

static void add_random(struct oracle_rng *r, const struct cpu_model *model, struct program *p)
{
    static uint8_t scratch[ORACLE_DATA_SIZE];
    struct oracle_case c = {.mode = INSN_MODE_64};

    do {
        c.mode = INSN_MODE_64;
    } while (!oracle_generate(r, model, &c, scratch) || !usable(r, &c.in));
    put(p, c.bytes, c.len);
}

static void add_stack(struct oracle_rng *r, struct program *p)
{
    static const uint8_t choice[][4] = {
        {1, 0x50}, {1, 0x58}, {2, 0x41, 0x51}, {2, 0x41, 0x5a}, {1, 0x53},
        {2, 0x41, 0x52}, {2, 0x6a, 0x55}, {2, 0x41, 0x58}, {1, 0x54}, {3, 0xff, 0x75, 0x08}};
    const uint8_t *c = choice[oracle_below(r, sizeof(choice) / sizeof(choice[0]))];

    put(p, c + 1, c[0]);
}

static void add_branch(struct oracle_rng *r, struct program *p)
{
    static const uint8_t loop[] = {0x41, 0xd1, 0xef, 0x0f, 0x85}; /* shr %r15d; jnz */
    uint8_t jcc[] = {0x0f, (uint8_t)(0x80 | oracle_below(r, 16))};
    unsigned n = p->nr, kind = oracle_below(r, 6);

    if (kind == 0 && n > 2) {
        put(p, loop, sizeof(loop));
        p->to[n] = 1 + oracle_below(r, n - 1);
    } else if (kind == 1) {
        put(p, (const uint8_t[]){0xe8}, 1); /* call forward; the return address stays */
        p->to[n] = n + 1 + oracle_below(r, 3);
    } else if (kind == 2) {
        put(p, (const uint8_t[]){0xe9}, 1);
        p->to[n] = n + 1 + oracle_below(r, 3);
    } else {
        put(p, jcc, sizeof(jcc));
        p->to[n] = n + 1 + oracle_below(r, 6);
    }
    p->rel[n] = p->len;
    put(p, (const uint8_t[]){0, 0, 0, 0}, 4);
}

/* Indirectly to the next instruction: push it and return, or jump through a register. */
static void add_indirect(struct oracle_rng *r, struct program *p)
{
    static const uint8_t ret[] = {0x48, 0x8d, 0x05, 2, 0, 0, 0, 0x50, 0xc3};
    static const uint8_t jmp[] = {0x48, 0x8d, 0x05, 2, 0, 0, 0, 0xff, 0xe0};
    static const uint8_t call[] = {0x4c, 0x8d, 0x15, 3, 0, 0, 0, 0x41, 0xff, 0xd2};
    static const uint8_t callret[] = {0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3}; /* a function: ret */

    switch (oracle_below(r, 4)) {
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

static void build(struct oracle_rng *r, const struct cpu_model *model, struct program *p)
{
    unsigned wanted = 5 + oracle_below(r, MAX_INSNS - 5);
    unsigned self = oracle_below(r, 4) == 0 ? 8 : 0;

    memset(p, 0, sizeof(*p));
    for (p->nr = 0; p->nr < wanted; p->nr++) {
        unsigned kind = oracle_below(r, 40);

        p->at[p->nr] = p->len;
        if (kind < 7) {
            add_branch(r, p);
        } else if (kind < 10) {
            add_indirect(r, p);
        } else if (kind < 15) {
            add_stack(r, p);
        } else if (kind < 15 + self) {
            add_self(r, p);
        } else {
            add_random(r, model, p);
        }
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

static void state(struct oracle_rng *r, struct oracle_case *c)
{
    static const uint8_t nop[] = {0x90};
    static uint8_t scratch[ORACLE_DATA_SIZE];

    while (!oracle_prepare(r, c, nop, 1, scratch)) {
    }
    for (unsigned i = 0; i < 16; i++) {
        if ((POINTERS >> i & 1) != 0) {
            c->start.gpr[i] = pointer(r);
        }
    }
    c->start.gpr[CPU_R11] = oracle_below(r, 24);
    c->start.gpr[CPU_R15] = oracle_below(r, 64);
    c->rip = ORACLE_CODE + 64 + oracle_below(r, 1500);
    if (oracle_below(r, 4) == 0) {
        c->rip = ORACLE_CODE + 4096 - oracle_below(r, 600);
    }
}

/* XSTATE_BV 0 means initial values whatever the bytes say; FOP FIP FDP are not compared. */
static void normalise(uint8_t *x)
{
    uint64_t bv;

    memcpy(&bv, x + 512, 8);
    if ((bv & 1) == 0) {
        memset(x, 0, 24);
        memset(x + 32, 0, 128);
        x[0] = 0x7f;
        x[1] = 3;
    }
    if ((bv & 2) == 0) {
        memset(x + 160, 0, 256);
    }
    if ((bv & 4) == 0) {
        memset(x + 576, 0, 256);
    }
    memset(x + 6, 0, 18);
    memset(x + 28, 0, 4);
    memset(x + 416, 0, 160);
    for (unsigned i = 0; i < 8; i++) {
        memset(x + 32 + 16 * i + 10, 0, 6);
    }
}

static bool same(struct oracle_state *a, struct oracle_state *b, bool print)
{
    uint64_t flags = a->vector == CPU_BP ? CPU_STATUS_FLAGS | CPU_DF : CPU_DF;
    bool ok = a->vector == b->vector && a->rip == b->rip && a->error == b->error;

    normalise(a->xsave);
    normalise(b->xsave);
    ok = ok && memcmp(a->gpr, b->gpr, sizeof(a->gpr)) == 0;
    ok = ok && (a->vector != CPU_PAGE_FAULT || a->cr2 == b->cr2);
    ok = ok && ((a->rflags ^ b->rflags) & flags) == 0;
    ok = ok && memcmp(a->xsave, b->xsave, ORACLE_XSAVE) == 0;
    ok = ok && memcmp(oracle_guest_data(), oracle_second_data(), ORACLE_DATA_SIZE) == 0;
    ok = ok && memcmp(oracle_guest_code(), oracle_second_code(), ORACLE_CODE_SIZE) == 0;
    if (!ok && print) {
        printf("  interp vector %u rip 0x%" PRIx64 " rflags 0x%" PRIx64 " error 0x%" PRIx64
               "\n  bt     vector %u rip 0x%" PRIx64 " rflags 0x%" PRIx64 " error 0x%" PRIx64
               "\n",
               a->vector, a->rip, a->rflags, a->error, b->vector, b->rip, b->rflags, b->error);
        for (unsigned i = 0; i < 16; i++) {
            if (a->gpr[i] != b->gpr[i]) {
                printf("  r%u interp 0x%" PRIx64 " bt 0x%" PRIx64 "\n", i, a->gpr[i],
                       b->gpr[i]);
            }
        }
        for (unsigned i = 0; i < ORACLE_XSAVE; i++) {
            if (a->xsave[i] != b->xsave[i]) {
                printf("  xsave byte %u interp %02x bt %02x\n", i, a->xsave[i], b->xsave[i]);
            }
        }
        for (unsigned i = 0; i < ORACLE_DATA_SIZE; i++) {
            if (oracle_guest_data()[i] != oracle_second_data()[i]) {
                printf("  data byte 0x%x\n", i);
            }
        }
    }
    return ok;
}

static void show(const struct oracle_case *c, const struct program *p)
{
    printf("  code at 0x%" PRIx64 ":", c->rip);
    for (unsigned i = 0, n = 0; i < p->len; i++) {
        if (n < p->nr && p->at[n] == i) {
            printf("\n   %2u:", n++);
        }
        printf(" %02x", p->code[i]);
    }
    printf("\n");
}

static bool run(uint64_t seed, const struct cpu_model *model, bool print)
{
    static struct oracle_state a, b;
    static struct program p;
    static struct oracle_case c;
    struct oracle_rng r = {seed};

    c.mode = INSN_MODE_64;
    build(&r, model, &p);
    state(&r, &c);
    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i += 8) {
        uint64_t v = oracle_rand(&r) >> (oracle_rand(&r) & 63);

        memcpy(oracle_guest_data() + i, &v, 8);
    }
    memcpy(oracle_second_data(), oracle_guest_data(), ORACLE_DATA_SIZE);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    for (unsigned i = 0; i < 1 + oracle_below(&r, 3); i++) {
        oracle_guest_program(&c, p.code, p.len, &a);
        oracle_second_program(&c, p.code, p.len, &b);
        if (!same(&a, &b, false)) {
            break;
        }
    }
    if (same(&a, &b, false)) {
        return true;
    }
    if (print) {
        printf("program seed 0x%" PRIx64 "\n", seed);
        same(&a, &b, true);
        show(&c, &p);
    }
    /* Equal again for the next one. */
    memcpy(oracle_second_code(), oracle_guest_code(), ORACLE_CODE_SIZE);
    return false;
}

static struct accel_ops eager_ops;

static bool eager_init(struct vcpu *v, GError **err)
{
    static const struct dbt_options options = {.hot = 1, .cache = 1 << 20};

    if (!dbt_accel_ops.vcpu_init(v, err)) {
        return false;
    }
    dbt_configure(v, &options);
    return true;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, n = 100000000, bad = 0, done;
    gint64 seconds = 0, start = g_get_monotonic_time();
    struct cpu_model *model;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-one") == 0) {
            n = 1;
        } else if (i + 1 < argc && strcmp(argv[i], "-n") == 0) {
            n = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-seed") == 0) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-seconds") == 0) {
            seconds = strtoll(argv[++i], NULL, 0);
        } else {
            fprintf(stderr, "usage: oracle_program [-n N] [-seed S] [-seconds N] [-one]\n");
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!dbt_accel_ops.probe(NULL)) {
        printf("skipped: this host cannot run the translator\n");
        return 77;
    }
    model = cpu_model_new_host(NULL);
    eager_ops = dbt_accel_ops;
    eager_ops.vcpu_init = eager_init;
    oracle_guest_init(&interp_accel_ops, model);
    oracle_second_init(&eager_ops, model);
    printf("seed 0x%" PRIx64 "\n", seed);
    for (done = 0; done < n && bad < 5; done++) {
        if ((done & 255) == 0 && seconds != 0 &&
            g_get_monotonic_time() - start > seconds * G_USEC_PER_SEC) {
            break;
        }
        bad += !run(seed + done * 0x632be59bd9b4e019ull, model, true);
    }
    printf("%" PRIu64 " programs, %" PRIu64 " differences\n", done, bad);
    oracle_guest_fini();
    oracle_second_fini();
    cpu_model_free(model);
    return bad != 0 ? 1 : 0;
}
