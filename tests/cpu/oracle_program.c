/* SPDX-License-Identifier: MIT */
/*
 * oracle_program [-n PROGRAMS] [-insns N] [-seed S] [-seconds N] [-one] [-nohost] [-runs]
 * [-larges] [-views] [-lookups] [-loops] [-32]: random programs (program_gen.c; loop_gen.c;
 * program_gen32.c: 32-bit code) on the interpreter, on the translator (every block translated
 * at its first run) and on this machine's CPU. All of the state, the data and the code must be
 * the same at the end. A program that differs is reduced: instructions become NOPs
 * as long as the difference stays.
 *
 * Programs may return to what they are themselves, and so never end (a PUSH, and the RET of a
 * callee to it). What runs for a whole tick is stopped. A program that is so on every side is left
 * out, and its seed printed; on one side only it is a difference.
 *
 * Not compared: translator against the others, the status flags where a program ends in a fault
 * (docs/translator.md: it does not keep flags that the rest of the block overwrites);
 * processor against interpreter, what compare_explained() lists.
 */
#include <glib.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/cpu.h"
#include "cpu/dbt/dbt.h"
#include "cpu/dbt/disassemble.h"
#include "cpu/interp/interp.h"
#include "cpu/x86/x86.h"
#include "program.h"

/* oracle_guest.c once more, with other names. */
void oracle_second_init(const struct accel_ops *accel, const struct cpu_model *model);
uint8_t *oracle_second_data(void);
void oracle_second_mirror(void);
uint8_t *oracle_second_code(void);
void oracle_second_program(const struct oracle_case *c, const uint8_t *code, unsigned len,
                           struct oracle_state *end);
void oracle_second_stop(void);
void oracle_second_fini(void);

enum side { INTERP, BT, HOST, NR_SIDES };
static const char *const side_names[NR_SIDES] = {"interp", "bt", "cpu"};

struct run {
    struct program p;
    struct oracle_case c;
    unsigned times;
    struct oracle_state end[NR_SIDES];
    enum side other; /* differs from the interpreter */
    bool endless;    /* no side ended it: not compared */
};

static bool use_host, use_loops;
static enum insn_mode mode = INSN_MODE_64;
static uint64_t explained;    /* differences, so far */
static uint64_t current_seed; /* for the word before an end that should not be */
static uint64_t endless_insns; /* what the interpreter had executed of programs left out */
static volatile sig_atomic_t begun;   /* runs of a side, so far */
static volatile sig_atomic_t running; /* which one: enum side */

static uint8_t *side_data(enum side s)
{
    return s == INTERP ? oracle_guest_data()
           : s == BT   ? oracle_second_data()
                       : oracle_host_data();
}

static uint8_t *side_code(enum side s)
{
    return s == INTERP ? oracle_guest_code()
           : s == BT   ? oracle_second_code()
                       : oracle_host_code();
}

/* Below the handlers of the engines and of the oracle: a signal that none of them knows. */
static void unknown_signal(int sig, siginfo_t *info, void *context)
{
    const greg_t *regs = ((const ucontext_t *)context)->uc_mcontext.gregs;
    char text[200];
    int n =
        g_snprintf(text, sizeof(text),
                   "signal %d at 0x%llx, address %p, rsp 0x%llx: program seed 0x%" PRIx64 "\n",
                   sig, (unsigned long long)regs[REG_RIP], info->si_addr,
                   (unsigned long long)regs[REG_RSP], current_seed);

    _exit(write(STDOUT_FILENO, text, (size_t)n) == n ? 3 : 4);
}

static void catch_unknown(void)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction sa = {.sa_sigaction = unknown_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        sigaction(signals[i], &sa, NULL);
    }
}

/* Each ORACLE_TICK_MS. */
static void watch_tick(void)
{
    static sig_atomic_t last;

    if (begun == last) { /* a whole tick of one program on one side */
        switch ((enum side)running) {
        case INTERP:
            oracle_guest_stop();
            break;
        case BT:
            oracle_second_stop();
            break;
        default:
            oracle_host_stop(); /* the others' memory may be hidden */
        }
    }
    last = begun;
}

static void begin(enum side s)
{
    running = s;
    begun++;
}

/* ---- comparing ---- */

static bool unmapped(uint64_t va)
{
    return va - ORACLE_DATA >= ORACLE_DATA_SIZE && va - ORACLE_CODE >= ORACLE_CODE_SIZE;
}

static bool same_error(const struct oracle_state *a, const struct oracle_state *b, bool host)
{
    uint64_t mask = UINT64_MAX;

    if (host && a->vector == CPU_BP) {
        return true;
    }
    if (host && a->vector == CPU_PAGE_FAULT && unmapped(a->cr2)) {
        mask = ~(uint64_t)CPU_PFEC_P; /* what else the host has mapped shows there */
    }
    return ((a->error ^ b->error) & mask) == 0 &&
           (a->vector != CPU_PAGE_FAULT || a->cr2 == b->cr2);
}

/* SGDT SIDT SLDT STR SMSW, which programs make by storing to themselves: #GP in these guests, by
 * CR4.UMIP. The host tells of its own tables, or Linux makes something up where UMIP is on. */
static bool compare_umip(const struct insn *in)
{
    unsigned which = in->modrm >> 3 & 7u;

    return in->map == INSN_MAP_0F &&
           ((in->opcode == 0 && which < 2) || (in->opcode == 1 && (which < 2 || which == 4)));
}

/* A far RET to a selector that is none, made in the same way: some processors look at the stack
 * beyond its operand first. */
static bool compare_far(const struct insn *in, const struct oracle_state *a,
                        const struct oracle_state *h)
{
    return in->id == INSN_RET_FAR && h->vector == CPU_PAGE_FAULT && h->rip == a->rip;
}

/* #AC of operands of more than 8 bytes that are not aligned: the interpreter knows none, SDM 3 6.15
 * (interrupt 17) leaves some to the processor. Programs end there on one side only. */
static bool compare_align(const struct oracle_state *h)
{
    uint64_t at = h->rip - ORACLE_CODE;
    const struct insn_operand *mem;
    struct insn in;

    if (h->vector != CPU_ALIGN || at > ORACLE_CODE_SIZE - INSN_MAX_LEN ||
        insn_decode(&in, mode, side_code(HOST) + at, INSN_MAX_LEN) != INSN_OK) {
        return false;
    }
    mem = insn_mem_operand(&in);
    return mem != NULL && mem->size > 8;
}

/* INT1 with prefixes, made in the same way, is a trap; a machine that is virtual itself was seen to name where it
 * stands, not what is behind it. */
static bool compare_int1(const struct oracle_state *a, const struct oracle_state *h)
{
    uint64_t at = h->rip - ORACLE_CODE;
    struct insn in;

    return a->vector == CPU_DB && h->vector == CPU_DB && at <= ORACLE_CODE_SIZE - INSN_MAX_LEN &&
           insn_decode(&in, mode, side_code(HOST) + at, INSN_MAX_LEN) == INSN_OK &&
           in.id == INSN_INT1 && a->rip == h->rip + in.len;
}

/* Linux emulates the vsyscall page, and what UMIP forbids; of a CMPS with both operands
 * faulting either is named. */
static bool compare_explained(const struct oracle_state *a, const struct oracle_state *h)
{
    uint64_t at = a->rip - ORACLE_CODE;
    struct insn in;
    bool known =
        at <= ORACLE_CODE_SIZE - INSN_MAX_LEN &&
        insn_decode(&in, mode, side_code(INTERP) + at, INSN_MAX_LEN) == INSN_OK;
    bool cmps = known && in.id == INSN_CMPS && h->vector == CPU_PAGE_FAULT && h->rip == a->rip;

    if (compare_align(h) || compare_int1(a, h)) {
        return true;
    }
    if (a->vector == CPU_GP) {
        return known && (compare_umip(&in) || compare_far(&in, a, h) || cmps); /* as those, too */
    }
    if (a->vector != CPU_PAGE_FAULT) {
        return false;
    }
    if (a->cr2 >> 12 == 0xffffffffff600) {
        return true;
    }
    return known && (oracle_half_operand(&in, a) || cmps);
}

/* This machine's CPU has R8 to R15 and upper halves for itself while it runs 32-bit code. */
static unsigned compared_gpr(enum side s)
{
    return s == HOST && mode == INSN_MODE_32 ? 8 : 16;
}

static bool same_gpr(const struct oracle_state *a, const struct oracle_state *b, enum side s)
{
    unsigned n = compared_gpr(s);
    uint64_t mask = n == 8 ? UINT32_MAX : UINT64_MAX;

    for (unsigned i = 0; i < n; i++) {
        if (((a->gpr[i] ^ b->gpr[i]) & mask) != 0) {
            return false;
        }
    }
    return true;
}

static bool equal(const struct run *run, enum side s)
{
    const struct oracle_state *a = &run->end[INTERP], *b = &run->end[s];
    uint64_t flags = CPU_DF | (a->vector == CPU_BP || s == HOST ? CPU_STATUS_FLAGS : 0);

    return a->vector == b->vector && a->rip == b->rip && same_error(a, b, s == HOST) &&
           same_gpr(a, b, s) &&
           ((a->rflags ^ b->rflags) & flags) == 0 &&
           memcmp(a->xsave, b->xsave, ORACLE_XSAVE) == 0 &&
           memcmp(side_data(INTERP), side_data(s), ORACLE_DATA_SIZE) == 0 &&
           memcmp(side_code(INTERP), side_code(s), ORACLE_CODE_SIZE) == 0;
}

static bool same(const struct run *run, enum side s)
{
    if (equal(run, s)) {
        return true;
    }
    if (s != HOST || !compare_explained(&run->end[INTERP], &run->end[HOST])) {
        return false;
    }
    explained++;
    memcpy(side_data(s), side_data(INTERP), ORACLE_DATA_SIZE);
    memcpy(side_code(s), side_code(INTERP), ORACLE_CODE_SIZE);
    return true;
}

static void print_state(const struct run *run, enum side s)
{
    const struct oracle_state *e = &run->end[s];

    printf("  %-6s vector %u rip 0x%" PRIx64 " rflags 0x%" PRIx64 " error 0x%" PRIx64
           " cr2 0x%" PRIx64 "\n",
           side_names[s], e->vector, e->rip, e->rflags, e->error,
           e->vector == CPU_PAGE_FAULT ? e->cr2 : 0);
}

static void print_bytes(const char *what, const uint8_t *a, const uint8_t *b, unsigned len)
{
    for (unsigned i = 0, n = 0; i < len && n < 12; i++) {
        if (a[i] != b[i]) {
            printf("  %s byte 0x%x: %02x, %02x\n", what, i, a[i], b[i]);
            n++;
        }
    }
}

static void print_difference(const struct run *run)
{
    const struct oracle_state *a = &run->end[INTERP], *b = &run->end[run->other];

    print_state(run, INTERP);
    print_state(run, run->other);
    for (unsigned i = 0; i < compared_gpr(run->other); i++) {
        if (a->gpr[i] != b->gpr[i]) {
            printf("  r%u: before 0x%" PRIx64 ", interp 0x%" PRIx64 ", %s 0x%" PRIx64 "\n", i,
                   run->c.start.gpr[i], a->gpr[i], side_names[run->other], b->gpr[i]);
        }
    }
    print_bytes("xsave", a->xsave, b->xsave, ORACLE_XSAVE);
    print_bytes("data", side_data(INTERP), side_data(run->other), ORACLE_DATA_SIZE);
    print_bytes("code", side_code(INTERP), side_code(run->other), ORACLE_CODE_SIZE);
}

/* ---- running ---- */

/* Everything there is from the seed. */
static void make(struct run *run, uint64_t seed, const struct cpu_model *model)
{
    struct oracle_rng r = {seed};

    run->c.mode = mode;
    if (use_loops) {
        program_state(&r, &run->c);
        program_loop(&r, &run->p, &run->c);
    } else {
        program_make(&r, model, &run->p, &run->c);
    }
    run->times = 1 + oracle_below(&r, 3);
}

static void fill_data(uint64_t seed)
{
    struct oracle_rng r = {~seed};

    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i += 8) {
        uint64_t v = oracle_rand(&r) >> (oracle_rand(&r) & 63);

        memcpy(oracle_guest_data() + i, &v, 8);
    }
    for (unsigned s = BT; s < (use_host ? NR_SIDES : HOST); s++) {
        memcpy(side_data((enum side)s), oracle_guest_data(), ORACLE_DATA_SIZE);
    }
}

/* Equal again, for the next one. */
static void level_code(const struct run *run)
{
    unsigned at = (unsigned)(run->c.rip - ORACLE_CODE);

    for (unsigned s = INTERP; s < (use_host ? NR_SIDES : HOST); s++) {
        memset(side_code((enum side)s), 0xcc, s == HOST ? ORACLE_CODE_SIZE : at);
        memset(side_code((enum side)s) + at, 0xcc, ORACLE_CODE_SIZE - at);
    }
}

static void execute_on(struct run *run, enum side s)
{
    uint64_t before = oracle_guest_insns();

    begin(s);
    (s == INTERP ? oracle_guest_program
     : s == BT   ? oracle_second_program
                 : oracle_host_program)(&run->c, run->p.code, run->p.len, &run->end[s]);
    if (run->end[s].vector == ORACLE_STOPPED) {
        endless_insns += oracle_guest_insns() - before;
    } else {
        x86_xsave_normalise(run->end[s].xsave);
    }
}

/* The interpreter does not end it; nor does anybody else? */
static bool execute_endless(struct run *run)
{
    for (run->other = BT; run->other < (use_host ? NR_SIDES : HOST); run->other++) {
        execute_on(run, run->other);
        if (run->end[run->other].vector != ORACLE_STOPPED) {
            return false;
        }
    }
    run->endless = true;
    return true;
}

/* true: no difference. */
static bool execute(struct run *run, uint64_t seed)
{
    current_seed = seed;
    fill_data(seed);
    memset(run->end, 0, sizeof(run->end));
    run->endless = false;
    for (unsigned i = 0; i < run->times; i++) {
        execute_on(run, INTERP);
        if (run->end[INTERP].vector == ORACLE_STOPPED) {
            return execute_endless(run);
        }
        execute_on(run, BT);
        run->other = BT;
        if (!same(run, BT)) {
            return false;
        }
        if (use_host) {
            execute_on(run, HOST);
            run->other = HOST;
            if (!same(run, HOST)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- a difference ---- */

static void reduce(struct run *run, uint64_t seed)
{
    uint8_t kept[MAX_CODE];
    enum side other = run->other;

    for (unsigned i = run->p.nr; i-- > 0;) {
        unsigned at = run->p.at[i], len = run->p.at[i + 1] - at;

        memcpy(kept, run->p.code + at, len);
        memset(run->p.code + at, 0x90, len);
        level_code(run);
        if (execute(run, seed) || run->other != other) {
            memcpy(run->p.code + at, kept, len);
        }
    }
    level_code(run);
    (void)execute(run, seed);
}

static void show(const struct run *run)
{
    for (unsigned i = 0; i < run->p.len;) {
        struct insn in;
        unsigned len = 1;
        g_autofree char *text = NULL;

        if (insn_decode(&in, mode, run->p.code + i, run->p.len - i) == INSN_OK) {
            len = in.len;
        }
        if (run->p.code[i] != 0x90) {
            text = dbt_disassemble(mode, run->p.code + i, len, run->c.rip + i, 1);
            printf("%s\n", text);
        }
        i += len;
    }
}

static void report(struct run *run, uint64_t seed)
{
    printf("program seed 0x%" PRIx64 ", run up to %u times: %s differs\n", seed, run->times,
           side_names[run->other]);
    print_difference(run);
    level_code(run);
    if (execute(run, seed)) {
        printf("  not again by itself: it takes what ran before it\n");
        show(run);
        return;
    }
    reduce(run, seed);
    printf("  reduced (NOPs left out):\n");
    show(run);
    print_difference(run);
}

static struct accel_ops eager_ops;
static struct dbt_options eager_options = {.hot = 1, .cache = 1 << 20};

static bool eager_init(struct vcpu *v, GError **err)
{
    if (!dbt_accel_ops.vcpu_init(v, err)) {
        return false;
    }
    dbt_configure(v, &eager_options);
    oracle_host_hide(v->engine, dbt_state_size());
    return true;
}

static uint64_t compared_insns(void)
{
    return oracle_guest_insns() - endless_insns;
}

struct options {
    uint64_t seed, programs, insns;
    gint64 seconds;
    bool host, runs, larges, views, lookups;
};

static bool parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.seed = 1, .programs = UINT64_MAX, .insns = UINT64_MAX, .host = true};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-one") == 0) {
            o->programs = 1;
        } else if (strcmp(argv[i], "-runs") == 0) {
            o->runs = true;
        } else if (strcmp(argv[i], "-larges") == 0) {
            o->larges = true;
        } else if (strcmp(argv[i], "-lookups") == 0) {
            o->lookups = true;
        } else if (strcmp(argv[i], "-views") == 0) {
            o->views = true;
            oracle_second_mirror();
        } else if (strcmp(argv[i], "-loops") == 0) {
            use_loops = true;
        } else if (strcmp(argv[i], "-32") == 0) {
            mode = INSN_MODE_32;
        } else if (strcmp(argv[i], "-nohost") == 0) {
            o->host = false;
        } else if (i + 1 < argc && strcmp(argv[i], "-n") == 0) {
            o->programs = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-insns") == 0) {
            o->insns = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-seed") == 0) {
            o->seed = strtoull(argv[++i], NULL, 0);
        } else if (i + 1 < argc && strcmp(argv[i], "-seconds") == 0) {
            o->seconds = strtoll(argv[++i], NULL, 0);
        } else {
            return false;
        }
    }
    return !use_loops || mode == INSN_MODE_64; /* loop_gen.c knows no other */
}

int main(int argc, char **argv)
{
    static struct run run;
    uint64_t bad = 0, endless = 0, done;
    gint64 start = g_get_monotonic_time();
    struct cpu_model *model;
    struct options o;

    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: oracle_program [-n PROGRAMS] [-insns N] [-seed S] [-seconds N] "
                        "[-one] [-nohost] [-runs] [-larges] [-views] [-lookups] [-loops] [-32]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    catch_unknown();
    if (!dbt_accel_ops.probe(NULL)) {
        printf("skipped: this host cannot run the translator\n");
        return 77;
    }
    model = cpu_model_new_host(NULL);
    eager_ops = dbt_accel_ops;
    eager_ops.vcpu_init = eager_init;
    eager_options.runs = o.runs;
    eager_options.larges = o.larges;
    eager_options.views = o.views;
    eager_options.lookups = o.lookups;
    eager_options.loops = use_loops;
    if (o.host) {
        oracle_host_reserve();
    }
    oracle_guest_init(&interp_accel_ops, model);
    oracle_second_init(&eager_ops, model);
    if (o.host) {
        oracle_host_init();
        use_host = oracle_host_writable_code() && (mode == INSN_MODE_64 || oracle_host_compat());
    }
    oracle_host_watch(watch_tick);
    printf("seed 0x%" PRIx64 "%s\n", o.seed, use_host ? "" : ", without this machine's CPU");
    for (done = 0; done < o.programs && bad < 5 && compared_insns() < o.insns; done++) {
        uint64_t seed = o.seed + done * 0x632be59bd9b4e019ull;

        if ((done & 255) == 0 && o.seconds != 0 &&
            g_get_monotonic_time() - start > o.seconds * G_USEC_PER_SEC) {
            break;
        }
        make(&run, seed, model);
        level_code(&run);
        if (!execute(&run, seed)) {
            bad++;
            report(&run, seed);
        } else if (run.endless) {
            endless++;
            printf("program seed 0x%" PRIx64 " does not end\n", seed);
        }
    }
    oracle_host_watch(NULL);
    printf("%" PRIu64 " programs, %" PRIu64 " instructions compared, %" PRIu64
           " differences, %" PRIu64 " more explained, %" PRIu64 " without end left out, seed 0x%" PRIx64
           ", %.1f s\n",
           done, compared_insns(), bad, explained, endless, o.seed,
           (double)(g_get_monotonic_time() - start) / 1e6);
    oracle_guest_fini();
    oracle_second_fini();
    cpu_model_free(model);
    return bad != 0 || endless > 2 + done / 1000000 ? 1 : 0; /* more would be a bug of all sides */
}
