/* SPDX-License-Identifier: MIT */
/*
 * Lockstep finds what it is there to find: a translation is changed behind its back, by a byte
 * of an immediate or of a displacement in its code, and the difference must be reported.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cpu.h"
#include "cpu/dbt/engine.h"
#include "oracle.h"

static struct vcpu *vcpu;
static struct accel_ops ops;
static struct dbt_options options = {.hot = 1, .lockstep = 1};

static bool init(struct vcpu *v, GError **err)
{
    vcpu = v;
    if (!dbt_accel_ops.vcpu_init(v, err)) {
        return false;
    }
    dbt_configure(v, &options);
    return true;
}

/* Runs code, which ends in INT3, twice: before and after `from` in its translation became `to`. */
static uint64_t differences(const uint8_t *code, unsigned len, uint32_t from, uint32_t to)
{
    static struct oracle_state end;
    static struct oracle_case c;
    struct dbt *d;
    unsigned changed = 0;
    uint64_t n;

    memset(&c, 0, sizeof(c));
    c.mode = INSN_MODE_64;
    c.rip = ORACLE_CODE + 64;
    c.start.rflags = 2;
    c.start.gpr[CPU_RSI] = ORACLE_DATA + 64;
    c.start.gpr[CPU_RSP] = ORACLE_DATA + 2048;
    memcpy(c.start.xsave, (const uint8_t[]){0x7f, 3}, 2);
    memcpy(c.start.xsave + 24, (const uint8_t[]){0x80, 0x1f}, 2);
    oracle_guest_init(&ops, NULL);
    memset(oracle_guest_data(), 0, ORACLE_DATA_SIZE);
    oracle_guest_program(&c, code, len, &end);
    g_assert_cmpuint(end.vector, ==, CPU_BP);
    g_assert_cmpuint(dbt_lockstep_differences(vcpu), ==, 0);
    d = vcpu->engine;
    for (uint32_t at = d->common_end; at + 4 <= d->used; at++) {
        if (memcmp(d->rw + at, &from, 4) == 0) {
            memcpy(d->rw + at, &to, 4);
            changed++;
        }
    }
    g_assert_cmpuint(changed, ==, 1);
    oracle_guest_program(&c, code, len, &end);
    n = dbt_lockstep_differences(vcpu);
    oracle_guest_fini();
    return n;
}

static void test_equal(void)
{
    static const uint8_t code[] = {0xb8, 0x44, 0x33, 0x22, 0x11, /* mov $0x11223344,%eax */
                                   0x89, 0x06, 0xcc};            /* mov %eax,(%rsi) */

    g_assert_cmpuint(differences(code, sizeof(code), 0x11223344, 0x11223344), ==, 0);
}

static void test_register(void)
{
    static const uint8_t code[] = {0xb8, 0x44, 0x33, 0x22, 0x11, 0xcc};

    g_assert_cmpuint(differences(code, sizeof(code), 0x11223344, 0x11223345), ==, 1);
}

static void test_store(void)
{
    static const uint8_t code[] = {0xc7, 0x06, 0x44, 0x33, 0x22, 0x11, 0xcc}; /* movl $..,(%rsi) */

    g_assert_cmpuint(differences(code, sizeof(code), 0x11223344, 0x11223345), ==, 1);
}

/* The words behind -accel bt, */
static void test_words(void)
{
    static const char *const wrong[] = {"tlb=0", "tlb=65", "hot", "relink", "relink=0", "lockstep=x", "seed=-1",
                                        "cache=0", "nolink=1", "frobnicate", ""};
    struct dbt_options o = {0};
    GError *err = NULL;

    g_assert_true(dbt_options_parse(&o, "lockstep=5,tlb=4,shake=7,relink=8,seed=9,insns=2,cache=1M", &err));
    g_assert_no_error(err);
    g_assert_cmpuint(o.lockstep, ==, 5);
    g_assert_cmpuint(o.hot, ==, 1); /* lockstep wants everything translated */
    g_assert_cmpuint(o.tlb, ==, 4);
    g_assert_cmpuint(o.shake, ==, 7);
    g_assert_cmpuint(o.relink, ==, 8);
    g_assert_cmpuint(o.seed, ==, 9);
    g_assert_cmpuint(o.insns, ==, 2);
    g_assert_cmpuint(o.cache, ==, 1 << 20);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_assert_false(dbt_options_parse(&o, wrong[i], &err));
        g_assert_nonnull(strstr(err->message, "-accel bt: "));
        g_clear_error(&err);
    }
}

static void test_counters(void)
{
    static const uint8_t code[] = {0xb8, 0x44, 0x33, 0x22, 0x11, 0xcc};
    static struct oracle_state end;
    static struct oracle_case c;
    g_autofree char *text = NULL;

    c.mode = INSN_MODE_64;
    c.rip = ORACLE_CODE;
    c.start.rflags = 2;
    oracle_guest_init(&ops, NULL);
    oracle_guest_program(&c, code, sizeof(code), &end);
    text = dbt_accel_ops.stats(vcpu);
    g_assert_nonnull(strstr(text, "blocks-translated 1\n"));
    g_assert_nonnull(strstr(text, "entered-from-c 1\n"));
    oracle_guest_fini();
}

static uint64_t linked(const struct oracle_case *c, const uint8_t *code, unsigned len, unsigned relink,
                       uint64_t *undone)
{
    static struct oracle_state end;
    const struct dbt *d;
    uint64_t links;

    options = (struct dbt_options){.hot = 1, .relink = relink};
    oracle_guest_init(&ops, NULL);
    d = vcpu->engine;
    for (unsigned i = 0; i < 8; i++) {
        oracle_guest_program(c, code, len, &end);
        g_assert_cmpuint(end.vector, ==, CPU_BP);
        g_assert_cmpuint(end.gpr[CPU_RAX], ==, 300);
    }
    links = d->counts.n[COUNT_LINKS];
    *undone = d->counts.n[COUNT_RELINKS];
    oracle_guest_fini();
    options = (struct dbt_options){.hot = 1, .lockstep = 1};
    return links;
}

/* What relink=N undoes is linked anew, and the program does the same: 100 calls of a loop of 3. */
static void test_relink(void)
{
    static const uint8_t code[] = {
        0x31, 0xc0,                   /*    xor %eax,%eax */
        0xb9, 100, 0, 0, 0,           /*    mov $100,%ecx */
        0xe8, 5, 0, 0, 0,             /* 1: call 2f */
        0xff, 0xc9,                   /*    dec %ecx */
        0x75, 0xf7,                   /*    jnz 1b */
        0xcc,                         /*    int3 */
        0xba, 3, 0, 0, 0,             /* 2: mov $3,%edx */
        0xff, 0xc0, 0xff, 0xca,       /* 3: inc %eax; dec %edx */
        0x75, 0xfa, 0xc3,             /*    jnz 3b; ret */
    };
    static struct oracle_case c;
    uint64_t plain, often, undone;

    c.mode = INSN_MODE_64;
    c.rip = ORACLE_CODE + 64;
    c.start.rflags = 2;
    c.start.gpr[CPU_RSP] = ORACLE_DATA + 2048;
    plain = linked(&c, code, sizeof(code), 0, &undone);
    g_assert_cmpuint(plain, >=, 3);
    g_assert_cmpuint(undone, ==, 0);
    often = linked(&c, code, sizeof(code), 1, &undone);
    g_assert_cmpuint(undone, >=, 10);
    g_assert_cmpuint(often, >=, plain + 10);
}

/* What a forked process translates, its parent runs: all of that is in arenas. */
static void test_shared(void)
{
    static const uint8_t code[] = {0xb8, 0x44, 0x33, 0x22, 0x11, 0xcc};
    static struct oracle_state end;
    static struct oracle_case c;
    const struct dbt *d;
    pid_t child;
    int status;

    c.mode = INSN_MODE_64;
    c.rip = ORACLE_CODE;
    c.start.rflags = 2;
    oracle_guest_init(&ops, NULL);
    d = vcpu->engine;
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        oracle_guest_program(&c, code, sizeof(code), &end);
        _exit(end.vector == CPU_BP && end.gpr[CPU_RAX] == 0x11223344 ? 0 : 1);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
    g_assert_cmpuint(d->counts.n[COUNT_BLOCKS], ==, 1);
    g_assert_cmpuint(d->counts.n[COUNT_ENTERED], ==, 1);
    oracle_guest_program(&c, code, sizeof(code), &end);
    g_assert_cmpuint(end.gpr[CPU_RAX], ==, 0x11223344);
    g_assert_cmpuint(d->counts.n[COUNT_BLOCKS], ==, 1);
    g_assert_cmpuint(d->counts.n[COUNT_ENTERED], ==, 2);
    oracle_guest_fini();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!dbt_accel_ops.probe(NULL)) {
        g_test_message("this host cannot run the translator");
        return 77;
    }
    ops = dbt_accel_ops;
    ops.vcpu_init = init;
    g_test_add_func("/cpu/lockstep/equal", test_equal);
    g_test_add_func("/cpu/lockstep/register", test_register);
    g_test_add_func("/cpu/lockstep/store", test_store);
    g_test_add_func("/cpu/bt/words", test_words);
    g_test_add_func("/cpu/bt/counters", test_counters);
    g_test_add_func("/cpu/bt/relink", test_relink);
    g_test_add_func("/cpu/bt/shared", test_shared);
    return g_test_run();
}
