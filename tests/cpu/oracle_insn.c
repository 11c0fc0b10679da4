/* SPDX-License-Identifier: MIT */
/*
 * oracle_insn [-n cases] [-seed S] [-seconds N] [-keep] [-one] [-32] [-strings] [-bt] [-runs] [-views]:
 * random instructions on the interpreter and on this machine's CPU. Any difference that is not listed below, with its
 * reason, is a failure; the first ones are printed with bytes, text and what differs. Skips
 * (77) where the host lacks what the interpreter needs.
 *
 * Not compared: FOP, FIP and FDP of the x87 (docs: native.c), RF and reserved bits of RFLAGS,
 * the P bit of error codes outside the test's own pages.
 */
#include "oracle.h"
#include "oracle_regressions.h"

#include <capstone/capstone.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu.h"
#include "cpu/dbt/dbt.h"
#include "cpu/interp/interp.h"
#include "cpu/x86/x86.h"

enum {
    FLAGS_COMPARED = CPU_STATUS_FLAGS | CPU_DF | CPU_IF | CPU_AC | CPU_NT,
    MAX_SHOWN = 10,
    REGRESSION_STATES = 300
};

static uint64_t cases_run, cases_explained; /* so far */

static void compare_print(GString *out, const char *what, uint64_t host, uint64_t guest)
{
    if (host != guest) {
        g_string_append_printf(out, "  %-8s host %016" PRIx64 "  engine %016" PRIx64 "\n", what,
                               host, guest);
    }
}

static void compare_vectors(GString *out, struct oracle_state *h, struct oracle_state *g)
{
    x86_xsave_normalise(h->xsave);
    x86_xsave_normalise(g->xsave);
    for (unsigned i = 0; i < ORACLE_XSAVE; i += 8) {
        uint64_t a, b;
        char name[16];

        memcpy(&a, h->xsave + i, 8);
        memcpy(&b, g->xsave + i, 8);
        if (a != b) {
            if (i >= 576) {
                g_snprintf(name, sizeof(name), "ymm%u[%u]", (i - 576) / 16, 2 + (i / 8 & 1));
            } else if (i >= 160) {
                g_snprintf(name, sizeof(name), "xmm%u[%u]", (i - 160) / 16, i / 8 & 1);
            } else if (i >= 32) {
                g_snprintf(name, sizeof(name), "st%u+%u", (i - 32) / 16, i & 8);
            } else {
                g_snprintf(name, sizeof(name), i == 0 ? "fcw/sw/t" : "mxcsr");
            }
            compare_print(out, name, a, b);
        }
    }
}

static void compare_memory(GString *out)
{
    const uint8_t *h = oracle_host_data();
    uint8_t *g = oracle_guest_data();

    if (memcmp(h, g, ORACLE_DATA_SIZE) == 0) {
        return;
    }
    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i++) {
        if (h[i] != g[i]) {
            g_string_append_printf(out, "  memory 0x%x: host %02x engine %02x\n",
                                   (unsigned)ORACLE_DATA + i, h[i], g[i]);
            break;
        }
    }
    memcpy(g, h, ORACLE_DATA_SIZE);
}

static bool compare_unmapped(uint64_t va)
{
    return va - ORACLE_DATA >= ORACLE_DATA_SIZE && va - ORACLE_CODE >= ORACLE_CODE_SIZE;
}

/*
 * Differences that are nobody's fault:
 *  - an x87 image (FSAVE, FLDENV ...) over a page boundary: CR2 is that of any of its parts, by
 * microcode;
 *  - MASKMOVQ, MASKMOVDQU: SDM and APM leave open whether bytes masked off fault, and which
 * byte is named.
 *  - the vsyscall page, where Linux emulates;
 *  - CMPS with both operands faulting: either may be named;
 *  - half an operand, misaligned: oracle_half_operand().
 */
static bool compare_explained(const struct oracle_case *c, const struct oracle_state *h,
                              const struct oracle_state *g)
{
    const struct insn_operand *mem = insn_mem_operand(&c->in);

    if (g->vector == CPU_PAGE_FAULT && g->cr2 >> 12 == 0xffffffffff600) {
        return true;
    }
    if (oracle_half_operand(&c->in, g)) {
        return true;
    }
    if (h->vector == CPU_GP && c->in.seg == CPU_CS && c->mode == INSN_MODE_32) { /* not writable, even with no byte to write */
        return (c->in.flags & INSN_F_MEM_IMPLICIT) != 0 && g->vector == CPU_BP;
    }
    if (h->vector != CPU_PAGE_FAULT) {
        return false;
    }
    if ((c->in.flags & INSN_F_MEM_IMPLICIT) != 0) {
        return g->vector == CPU_BP || g->vector == CPU_PAGE_FAULT;
    }
    if (c->in.id == INSN_CMPS) {
        return g->vector == CPU_PAGE_FAULT && compare_unmapped(h->cr2) &&
               compare_unmapped(g->cr2);
    }
    if ((c->in.flags & INSN_F_X87) == 0 || mem == NULL || mem->size <= 10) {
        return false;
    }
    return (g->vector == CPU_PAGE_FAULT && h->cr2 >> 12 == g->cr2 >> 12) ||
           ((g->vector == CPU_GP || g->vector == CPU_STACK_FAULT) && c->mode == INSN_MODE_32 &&
            h->cr2 + mem->size > UINT32_MAX);
}

static void compare_fault(GString *out, const struct oracle_state *h,
                          const struct oracle_state *g)
{
    compare_print(out, "vector", h->vector, g->vector);
    if (h->vector != g->vector) {
        g_string_append_printf(out,
                               "  host error 0x%" PRIx64 " cr2 0x%" PRIx64
                               ", engine error 0x%" PRIx64 " cr2 0x%" PRIx64 "\n",
                               h->error, h->cr2, g->error, g->cr2);
    }
    if (h->vector == g->vector && h->vector == CPU_PAGE_FAULT) {
        uint64_t mask = compare_unmapped(h->cr2) ? ~(uint64_t)CPU_PFEC_P : UINT64_MAX;

        compare_print(out, "error", h->error & mask, g->error & mask);
        compare_print(out, "cr2", h->cr2, g->cr2);
    } else if (h->vector != CPU_BP && h->vector == g->vector) {
        compare_print(out, "error", h->error, g->error);
    }
}

static char *compare(const struct oracle_case *c, struct oracle_state *h,
                     struct oracle_state *g, bool *explained)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    GString *out = g_string_new(NULL);

    *explained = false;
    compare_fault(out, h, g);
    for (unsigned i = 0; i < (c->mode == INSN_MODE_32 ? 8 : 16); i++) {
        uint64_t mask = c->mode == INSN_MODE_32 ? UINT32_MAX : UINT64_MAX;

        compare_print(out, names[i], h->gpr[i] & mask, g->gpr[i] & mask);
    }
    compare_print(out, "rip", h->rip, g->rip);
    compare_print(out, "rflags", h->rflags & FLAGS_COMPARED, g->rflags & FLAGS_COMPARED);
    compare_vectors(out, h, g);
    compare_memory(out);
    *explained = out->len != 0 && compare_explained(c, h, g);
    return g_string_free(out, out->len == 0 || *explained);
}

static void show(const struct oracle_case *c, uint64_t seed, unsigned vector, const char *diff)
{
    csh cs;
    cs_insn *text = NULL;
    size_t n = 0;

    printf("case seed 0x%" PRIx64 " bytes", seed);
    for (unsigned i = 0; i < c->len; i++) {
        printf(" %02x", c->bytes[i]);
    }
    if (cs_open(CS_ARCH_X86, c->mode == INSN_MODE_32 ? CS_MODE_32 : CS_MODE_64, &cs) ==
        CS_ERR_OK) {
        n = cs_disasm(cs, c->bytes, c->len, c->rip, 1, &text);
        if (n > 0) {
            printf("  %s %s", text->mnemonic, text->op_str);
            cs_free(text, n);
        }
        cs_close(&cs);
    }
    printf("\n  rip 0x%" PRIx64 " rflags 0x%" PRIx64 " rax 0x%" PRIx64 " rcx 0x%" PRIx64
           " rdx 0x%" PRIx64 " (%s) vector %u\n%s",
           c->rip, c->start.rflags, c->start.gpr[0], c->start.gpr[1], c->start.gpr[2],
           insn_name(c->in.id), vector, diff);
}

static bool run_case(const struct oracle_case *c, uint64_t seed, bool print)
{
    static struct oracle_state h, g;
    bool explained;
    char *diff;

    memset(&h, 0, sizeof(h));
    memset(&g, 0, sizeof(g));
    oracle_host_run(c, &h);
    oracle_guest_run(c, &g);
    diff = compare(c, &h, &g, &explained);
    cases_run++;
    cases_explained += explained;
    if (diff == NULL) {
        return true;
    }
    if (print) {
        show(c, seed, h.vector, diff);
    }
    g_free(diff);
    return false;
}

struct options {
    uint64_t cases, seed;
    unsigned seconds;
    bool one; /* only the case with this seed */
    bool mode32;
    bool strings; /* string instructions only */
    bool bt;   /* the translator, which translates everything at once */
    bool runs, views; /* with -accel bt,runs and so on */
    bool keep; /* go on after differences, counting */
};

/* MOVS CMPS STOS LODS SCAS with any prefixes. */
static bool generate_string(struct oracle_rng *r, struct oracle_case *c)
{
    static const uint8_t opcodes[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    static const uint8_t repeats[] = {0xf3, 0xf3, 0xf2};
    uint8_t b[8];
    unsigned n = 0;

    if (oracle_below(r, 4) != 0) {
        b[n++] = repeats[oracle_below(r, G_N_ELEMENTS(repeats))];
    }
    if (oracle_below(r, 6) == 0) {
        b[n++] = 0x66;
    }
    if (oracle_below(r, 6) == 0) {
        b[n++] = 0x67;
    }
    if (c->mode == INSN_MODE_64 && oracle_below(r, 6) == 0) {
        b[n++] = 0x65;
    }
    if (c->mode == INSN_MODE_64 && oracle_below(r, 3) == 0) {
        b[n++] = 0x48 | (uint8_t)oracle_below(r, 8);
    }
    b[n++] = opcodes[oracle_below(r, G_N_ELEMENTS(opcodes))];
    return oracle_prepare(r, c, b, n, oracle_host_data());
}

/* Returns the number of differences. */
static unsigned run_regressions(const struct options *o)
{
    static struct oracle_case c;
    unsigned bad = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(oracle_regressions); i++) {
        const struct oracle_regression *reg = &oracle_regressions[i];

        for (unsigned k = 0; k < REGRESSION_STATES; k++) {
            struct oracle_rng r = {o->seed ^ (i << 16 | k)};

            c.mode = reg->mode;
            if (reg->mode != (o->mode32 ? INSN_MODE_32 : INSN_MODE_64) ||
                !oracle_prepare(&r, &c, reg->bytes, reg->len, oracle_host_data())) {
                continue;
            }
            memcpy(oracle_guest_data(), oracle_host_data(), ORACLE_DATA_SIZE);
            bad += !run_case(&c, r.s, bad < MAX_SHOWN);
        }
    }
    return bad;
}

static bool parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.cases = 10000000, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-runs") == 0) {
            o->bt = o->runs = true;
        } else if (strcmp(argv[i], "-views") == 0) {
            o->bt = o->views = true;
            oracle_guest_mirror();
        } else if (strcmp(argv[i], "-bt") == 0) {
            o->bt = true;
        } else if (strcmp(argv[i], "-keep") == 0) {
            o->keep = true;
        } else if (strcmp(argv[i], "-32") == 0) {
            o->mode32 = true;
        } else if (strcmp(argv[i], "-strings") == 0) {
            o->strings = true;
        } else if (strcmp(argv[i], "-one") == 0) {
            o->one = true;
            o->cases = 1;
        } else if (i + 1 >= argc) {
            return false;
        } else if (strcmp(argv[i], "-n") == 0) {
            o->cases = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "-seed") == 0) {
            o->seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "-seconds") == 0) {
            o->seconds = (unsigned)strtoul(argv[++i], NULL, 0);
        } else {
            return false;
        }
    }
    return true;
}

static struct accel_ops eager_ops;
static struct dbt_options eager_options = {.hot = 1};

static bool eager_init(struct vcpu *v, GError **err)
{
    if (!dbt_accel_ops.vcpu_init(v, err)) {
        return false;
    }
    dbt_configure(v, &eager_options);
    oracle_host_hide(v->engine, dbt_state_size());
    return true;
}

int main(int argc, char **argv)
{
    struct options o;
    struct cpu_model *model;
    uint64_t done = 0, bad = 0, i;
    gint64 start = g_get_monotonic_time();
    static struct oracle_case c;

    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: oracle_insn [-n cases] [-seed S] [-seconds N] [-keep] [-one] [-32] [-bt] "
                "[-strings] [-runs] [-views]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!interp_accel_ops.probe(NULL)) {
        printf("skipped: this host cannot run the interpreter\n");
        return 77;
    }
    eager_ops = dbt_accel_ops;
    eager_ops.vcpu_init = eager_init;
    eager_options.runs = o.runs;
    eager_options.views = o.views;
    model = cpu_model_new_host(NULL);
    oracle_host_reserve();
    oracle_guest_init(o.bt ? &eager_ops : &interp_accel_ops, model);
    oracle_host_init();
    printf("seed 0x%" PRIx64 "\n", o.seed);
    bad = o.one ? 0 : run_regressions(&o);
    for (i = 0; done < o.cases; i++) {
        uint64_t seed = o.seed + i * 0x632be59bd9b4e019ull;
        struct oracle_rng r = {seed};

        if ((i & 1023) == 0 && o.seconds != 0 &&
            g_get_monotonic_time() - start > (gint64)o.seconds * 1000000) {
            break;
        }
        c.mode = o.mode32 ? INSN_MODE_32 : INSN_MODE_64;
        if (o.strings ? !generate_string(&r, &c)
                      : !oracle_generate(&r, model, &c, oracle_host_data())) {
            continue;
        }
        memcpy(oracle_guest_data(), oracle_host_data(), ORACLE_DATA_SIZE);
        done++;
        if (!run_case(&c, seed, bad < MAX_SHOWN || o.keep)) {
            bad++;
            if (bad >= MAX_SHOWN && !o.keep) {
                break;
            }
        }
    }
    printf("%" PRIu64 " instructions compared, %" PRIu64 " differences, %" PRIu64
           " more explained, seed 0x%" PRIx64 ", %.1f s\n",
           cases_run, bad, cases_explained, o.seed,
           (double)(g_get_monotonic_time() - start) / 1e6);
    oracle_guest_fini();
    cpu_model_free(model);
    return bad != 0 ? 1 : 0;
}
