/* SPDX-License-Identifier: MIT */
/* The probe against a fake /dev/kvm: every way to be unusable, its words, and what is left open. */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "cpu/kvm/probe.h"
#include "fake_kvm.h"

enum { DEADLINE_MS = 20000, SHORT_MS = 100 };

static struct kvm_probe probe_here(void)
{
    struct kvm_probe p;

    kvm_probe_here(&fake_kvm_sys, &p);
    g_assert_cmpuint(fake_kvm.open_fds, ==, 0);
    g_assert_null(fake_kvm.run);
    return p;
}

/* The probe says `want`, as an error with the text in it, and a hint when there shall be one. */
static void assert_refused(enum kvm_probe_result want, const char *text, bool has_hint)
{
    struct kvm_probe p = probe_here();
    g_autoptr(GError) err = NULL;
    g_autofree char *message = NULL, *hint = NULL;

    g_assert_cmpint(p.result, ==, want);
    g_assert_false(kvm_probe_judge(&p, &err));
    g_assert_error(err, PVEMU_ERROR, PVEMU_ERROR_HOST);
    message = error_split_hint(err, &hint);
    g_assert_nonnull(strstr(message, text));
    g_assert_null(strchr(message, '\n'));
    g_assert_cmpint(hint != NULL, ==, has_hint);
}

static void test_good(void)
{
    struct kvm_probe p;

    fake_kvm_reset();
    fake_kvm_play_probe();
    p = probe_here();
    g_assert_cmpint(p.result, ==, KVM_PROBE_OK);
    g_assert_true(kvm_probe_judge(&p, NULL));
    g_assert_cmpuint(fake_kvm.next_exit, ==, fake_kvm.nr_exits);
}

static void test_interrupted(void)
{
    fake_kvm_reset();
    fake_kvm.exits[0] = (struct fake_exit){.ret = -EINTR};
    fake_kvm.exits[1] = (struct fake_exit){.ret = -EAGAIN};
    fake_kvm.nr_exits = 2;
    fake_kvm_play_probe();
    g_assert_cmpint(probe_here().result, ==, KVM_PROBE_OK);
}

static void test_open(void)
{
    static const struct {
        int error;
        enum kvm_probe_result want;
        const char *text;
        bool hint;
    } rows[] = {
        {ENOENT, KVM_PROBE_NO_DEVICE, "there is no /dev/kvm", true},
        {ENODEV, KVM_PROBE_NO_DEVICE, "there is no /dev/kvm", true},
        {ENXIO, KVM_PROBE_NO_DEVICE, "there is no /dev/kvm", true},
        {EACCES, KVM_PROBE_NO_PERMISSION, "no permission to open /dev/kvm", true},
        {EPERM, KVM_PROBE_NO_PERMISSION, "no permission to open /dev/kvm", true},
        {EBUSY, KVM_PROBE_BUSY, "in use by another hypervisor", true},
        {EMFILE, KVM_PROBE_FAILED, "failed", false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct kvm_probe p;

        fake_kvm_reset();
        fake_kvm.open_error = rows[i].error;
        assert_refused(rows[i].want, rows[i].text, rows[i].hint);
        kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p); /* no process for that */
        g_assert_cmpint(p.result, ==, rows[i].want);
    }
}

static void test_busy(void)
{
    static const unsigned long requests[] = {KVM_CREATE_VM, KVM_CREATE_VCPU};

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        fake_kvm_reset();
        fake_kvm.fail_request = requests[i];
        fake_kvm.fail_error = EBUSY;
        assert_refused(KVM_PROBE_BUSY, "in use by another hypervisor", true);
    }
}

static void test_old(void)
{
    static const int caps[] = {KVM_CAP_SYNC_REGS, KVM_CAP_IMMEDIATE_EXIT,
                               KVM_CAP_X86_USER_SPACE_MSR, KVM_CAP_X86_MSR_FILTER};

    for (unsigned i = 0; i < G_N_ELEMENTS(caps); i++) {
        fake_kvm_reset();
        fake_kvm.missing_cap = caps[i];
        assert_refused(KVM_PROBE_OLD, "too old", true);
    }
    fake_kvm_reset();
    fake_kvm.api_version = 11;
    assert_refused(KVM_PROBE_OLD, "another interface version", true);
}

/* Every call on the way may fail. */
static void test_calls(void)
{
    static const unsigned long requests[] = {
        KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR,
        KVM_SET_USER_MEMORY_REGION, KVM_CREATE_VCPU, KVM_GET_VCPU_MMAP_SIZE,
        KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2, KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_MSRS,
        KVM_SET_REGS, KVM_RUN, KVM_GET_REGS,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        fake_kvm_reset();
        fake_kvm_play_probe();
        fake_kvm.fail_request = requests[i];
        fake_kvm.fail_error = ENOMEM;
        assert_refused(KVM_PROBE_FAILED, "failed: Cannot allocate memory", false);
    }
}

/* A guest that sees something else: which report is wrong, and what is said. */
static void test_unfaithful(void)
{
    static const struct {
        unsigned at;
        uint64_t stage;
        const char *text;
    } rows[] = {
        {1, 2, "IRET to user mode"}, {1, 3, "SYSCALL does not reach"},
        {2, 4, "SYSRET"},            {2, 5, "INT n"},
        {3, 6, "IRET does not come"}, {3, 7, "second SYSCALL"},
        {5, 8, "loop"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        fake_kvm_reset();
        fake_kvm_play_probe();
        fake_kvm.exits[rows[i].at].r15 = rows[i].stage;
        fake_kvm.exits[rows[i].at].rbx = 0xdead;
        assert_refused(KVM_PROBE_UNFAITHFUL, rows[i].text, false);
    }
}

static void test_stub(void)
{
    fake_kvm_reset(); /* RIP still at the instruction */
    fake_kvm_play_probe();
    fake_kvm.exits[0].rip -= 2;
    assert_refused(KVM_PROBE_UNFAITHFUL, "port write", false);
    fake_kvm_reset(); /* RAX lost */
    fake_kvm_play_probe();
    fake_kvm.exits[0].rax = 0;
    assert_refused(KVM_PROBE_UNFAITHFUL, "port write", false);
    fake_kvm_reset(); /* a triple fault */
    fake_kvm_play_probe();
    fake_kvm.exits[0] = (struct fake_exit){.reason = KVM_EXIT_SHUTDOWN, .r15 = 1};
    assert_refused(KVM_PROBE_UNFAITHFUL, "port write", false);
    fake_kvm_reset(); /* a program that goes backwards */
    fake_kvm_play_probe();
    fake_kvm.exits[2].r15 = 1;
    assert_refused(KVM_PROBE_UNFAITHFUL, "SYSCALL", false);
    fake_kvm_reset(); /* HLT too early */
    fake_kvm_play_probe();
    fake_kvm.exits[2] = (struct fake_exit){.reason = KVM_EXIT_HLT, .r15 = 5};
    assert_refused(KVM_PROBE_UNFAITHFUL, "INT n", false);
}

/* One slow try is luck, all slow is the host. */
static void test_slow(void)
{
    fake_kvm_reset();
    fake_kvm_play_probe();
    for (unsigned i = 3; i < 12; i++) {
        fake_kvm.exits[i].burn_ns = i == 7 ? 0 : 1000000;
    }
    g_assert_cmpint(probe_here().result, ==, KVM_PROBE_OK);
    fake_kvm_reset();
    fake_kvm_play_probe();
    for (unsigned i = 3; i < 12; i++) {
        fake_kvm.exits[i].burn_ns = 1000000;
    }
    assert_refused(KVM_PROBE_SLOW, "too slowly", false);
}

/* The probe's process ends by itself: a bug of the host, but never pvemu's end. */
static void test_died(void)
{
    struct kvm_probe p;
    g_autoptr(GError) err = NULL;

    fake_kvm_reset();
    fake_kvm.die = true;
    kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_DIED);
    g_assert_false(kvm_probe_judge(&p, &err));
    g_assert_nonnull(strstr(err->message, "could not be run to its end"));
    fake_kvm_reset(); /* or a signal ends it, without a core dump */
    fake_kvm.die = true;
    fake_kvm.die_signal = SIGABRT;
    kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_DIED);
    g_assert_false(g_file_test("core", G_FILE_TEST_EXISTS));
}

/* The watchdog: a KVM_RUN that never comes back, and a child that works. */
static void test_watchdog(void)
{
    struct kvm_probe p;
    g_autoptr(GError) err = NULL;

    fake_kvm_reset();
    fake_kvm.exits[0].hang = true;
    fake_kvm.nr_exits = 1;
    kvm_probe_run(&fake_kvm_sys, SHORT_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_HANG);
    g_assert_false(kvm_probe_judge(&p, &err));
    g_assert_nonnull(strstr(err->message, "did not answer"));
    fake_kvm_reset();
    fake_kvm_play_probe();
    kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_OK);
}

int main(int argc, char **argv)
{
    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kvm/probe/good", test_good);
    g_test_add_func("/kvm/probe/interrupted", test_interrupted);
    g_test_add_func("/kvm/probe/open-errors", test_open);
    g_test_add_func("/kvm/probe/busy", test_busy);
    g_test_add_func("/kvm/probe/too-old", test_old);
    g_test_add_func("/kvm/probe/each-call-fails", test_calls);
    g_test_add_func("/kvm/probe/unfaithful", test_unfaithful);
    g_test_add_func("/kvm/probe/stub", test_stub);
    g_test_add_func("/kvm/probe/slow", test_slow);
    g_test_add_func("/kvm/probe/watchdog", test_watchdog);
    g_test_add_func("/kvm/probe/died", test_died);
    return g_test_run();
}
