/* SPDX-License-Identifier: MIT */
/*
 * The decoder against Zydis: structured random instructions (every opcode of every map, random
 * prefixes, ModRM, SIB, displacements, immediates) in 16-, 32- and 64-bit mode. Validity,
 * length, operands, accesses and flags must agree; the differences we want are in
 * decode_zydis_allow.c with their reasons.
 *
 *   decode_zydis [cases [seed]]
 *
 * A failure prints the bytes, the mode and what Zydis makes of it, once per kind of difference.
 */
#include "tests/cpu/decode_zydis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CASES = 6000000, BUF = 32, MAX_KINDS = 400 };

struct rng {
    uint64_t s;
};

static uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static unsigned rng_below(struct rng *r, unsigned n)
{
    return (unsigned)((rng_next(r) >> 32) % n);
}

/* ---- generating ---- */

static unsigned gen_prefixes(struct rng *r, uint8_t *b)
{
    static const uint8_t list[] = {0x66, 0xf2, 0xf3, 0x66, 0xf2, 0xf3, 0x67,
                                   0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const uint8_t counts[16] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    unsigned n = counts[rng_below(r, 16)], i;

    if (rng_below(r, 200) == 0) {
        n = 5 + rng_below(r, 11);
    }
    for (i = 0; i < n; i++) {
        b[i] = list[rng_below(r, sizeof(list))];
    }
    return n;
}

/* The vector escapes: mostly well-formed, so that operands get compared too. */
static unsigned gen_vector(struct rng *r, uint8_t *b, unsigned kind, uint64_t x)
{
    static const uint8_t fixed[4] = {0xc5, 0xc4, 0x62, 0x8f};
    bool tame = rng_below(r, 8) != 0;

    b[0] = fixed[kind];
    b[1] = (uint8_t)x;
    b[2] = (uint8_t)(x >> 8);
    b[3] = (uint8_t)(x >> 16);
    if (tame && rng_below(r, 2)) {
        b[kind == 0 ? 1 : 2] |= 0x78; /* vvvv unused */
    }
    switch (kind) {
    case 0:
        return 2;
    case 1:
        if (tame) {
            b[1] = (uint8_t)((b[1] & 0xe0) | (1 + (x >> 24) % 3));
        }
        return 3;
    case 2:
        if (tame) {
            b[1] = (uint8_t)((b[1] & 0xf0) | (1 + (x >> 24) % 3));
            b[2] |= 4;
        }
        return 4;
    default:
        if (tame) {
            b[1] = (uint8_t)((b[1] & 0xe0) | (8 + (x >> 24) % 3));
            b[2] &= 0xf8;
        }
        return 3;
    }
}

static void gen_case(struct rng *r, enum insn_mode mode, uint8_t b[BUF])
{
    unsigned kind = rng_below(r, 16), n = 0, i;
    uint64_t x;

    for (i = 0; i < BUF; i += 8) {
        x = rng_next(r);
        memcpy(b + i, &x, 8);
    }
    if (kind == 15) {
        return; /* noise */
    }
    if (kind < 9 || rng_below(r, 16) == 0) {
        n = gen_prefixes(r, b);
        if (mode == INSN_MODE_64 && rng_below(r, 2)) {
            b[n++] = 0x40 | rng_below(r, 16);
        }
    } else if (rng_below(r, 4) == 0) {
        b[n++] = rng_below(r, 2) ? 0x67 : 0x64;
    }
    if (kind >= 9) {
        static const uint8_t which[6] = {0, 0, 1, 1, 2, 3};

        (void)gen_vector(r, b + n, which[kind - 9], rng_next(r));
    } else if (kind >= 3) {
        b[n++] = 0x0f;
        if (kind == 7) {
            b[n++] = 0x38;
        } else if (kind == 8) {
            b[n++] = 0x3a;
        }
    }
}

/* ---- counting kinds of difference ---- */

struct kind {
    ZydisMnemonic mnemonic;
    const char *what;
    uint64_t count;
};

struct report {
    struct kind kinds[MAX_KINDS];
    unsigned nr;
    uint64_t allowed, failed;
};

static bool report_first(struct report *rep, ZydisMnemonic m, const char *what)
{
    unsigned i;

    for (i = 0; i < rep->nr; i++) {
        if (rep->kinds[i].mnemonic == m && strcmp(rep->kinds[i].what, what) == 0) {
            rep->kinds[i].count++;
            return false;
        }
    }
    if (rep->nr < MAX_KINDS) {
        rep->kinds[rep->nr++] = (struct kind){m, what, 1};
        return true;
    }
    return false;
}

static void report_case(const struct zcase *c, const char *what)
{
    static const int bits[3] = {16, 32, 64};
    char text[200] = "(invalid)";
    ZydisFormatter f;
    unsigned i, n = c->zok ? c->z.length : 15;

    if (c->zok) {
        ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
        ZydisFormatterFormatInstruction(&f, &c->z, c->zop, c->z.operand_count_visible, text,
                                        sizeof(text), 0, NULL);
    }
    printf("# %d-bit", bits[c->mode]);
    for (i = 0; i < n; i++) {
        printf(" %02x", c->bytes[i]);
    }
    printf("  %s\n#   zydis: %s\n#   ours:  %s len %u", what, text,
           c->ok ? insn_name(c->in.id) : "(invalid)", c->in.len);
    for (i = 0; i < c->in.nr_operands; i++) {
        printf(" {kind %u reg 0x%x size %u access %u}", c->in.op[i].kind, c->in.op[i].reg,
               c->in.op[i].size, c->in.op[i].access);
    }
    printf(" seg %u base 0x%x index 0x%x scale %u disp 0x%" PRIx64 " imm 0x%" PRIx64 "\n",
           c->in.seg, c->in.base, c->in.index, c->in.scale, (uint64_t)c->in.disp, c->in.imm);
}

static void case_run(struct zcase *c, const ZydisDecoder *dec, struct report *rep)
{
    const char *what;

    c->ok = insn_decode(&c->in, c->mode, c->bytes, BUF) == INSN_OK && c->in.id != INSN_INVALID;
    c->zok = ZYAN_SUCCESS(ZydisDecoderDecodeFull(dec, c->bytes, BUF, &c->z, c->zop));
    what = zcompare(c);
    if (!what) {
        return;
    }
    if (zallowed(c, what)) {
        rep->allowed++;
        return;
    }
    rep->failed++;
    if (report_first(rep, c->zok ? c->z.mnemonic : ZYDIS_MNEMONIC_INVALID, what)) {
        report_case(c, what);
    }
}

int main(int argc, char **argv)
{
    static const ZydisMachineMode zmode[3] = {
        ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth zstack[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
                                              ZYDIS_STACK_WIDTH_64};
    uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_CASES, i, both = 0;
    struct rng rng = {argc > 2 ? strtoull(argv[2], NULL, 0) : 1};
    struct report rep = {0};
    ZydisDecoder dec[3];
    struct zcase c;
    unsigned k;

    printf("# seed %" PRIu64 ", %" PRIu64 " cases\n", rng.s, cases);
    for (k = 0; k < 3; k++) {
        ZydisDecoderInit(&dec[k], zmode[k], zstack[k]);
        ZydisDecoderEnableMode(&dec[k], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&dec[k], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&dec[k], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
    for (i = 0; i < cases; i++) {
        c.mode = (enum insn_mode)(i % 3);
        gen_case(&rng, c.mode, c.bytes);
        case_run(&c, &dec[c.mode], &rep);
        both += c.ok && c.zok;
    }
    for (k = 0; k < rep.nr; k++) {
        printf("# %8" PRIu64 " %-14s %s\n", rep.kinds[k].count,
               ZydisMnemonicGetString(rep.kinds[k].mnemonic), rep.kinds[k].what);
    }
    printf("# valid in both: %" PRIu64 ", allowed differences: %" PRIu64 "\n", both,
           rep.allowed);
    printf("1..1\n%sok 1 - decoder and zydis agree (%" PRIu64 " differences of %u kinds)\n",
           rep.failed ? "not " : "", rep.failed, rep.nr);
    return rep.failed != 0;
}
