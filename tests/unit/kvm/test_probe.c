/* SPDX-License-Identifier: MIT */
/* The probe against a fake /dev/kvm: every way to be unusable, its words, and what is left open. */
#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

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
    g_assert_nonnull(strstr(message, "/dev/kvm"));
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
        {ENODEV, KVM_PROBE_NO_DEVICE, "there is a /dev/kvm, but no KVM behind it", true},
        {ENXIO, KVM_PROBE_NO_DEVICE, "there is a /dev/kvm, but no KVM behind it", true},
        {EACCES, KVM_PROBE_NO_PERMISSION, "no permission to open /dev/kvm", true},
        {EPERM, KVM_PROBE_NO_PERMISSION, "no permission to open /dev/kvm", true},
        {EBUSY, KVM_PROBE_BUSY, "in use by another hypervisor", true},
        {EMFILE, KVM_PROBE_FAILED, "cannot open /dev/kvm: Too many open files", false},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct kvm_probe p;

        fake_kvm_reset();
        fake_kvm.open_error = rows[i].error;
        assert_refused(rows[i].want, rows[i].text, rows[i].hint);
        kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
        g_assert_cmpint(p.result, ==, rows[i].want);
        g_assert_cmpint(p.error, ==, rows[i].error);
        fake_kvm.look_error = rows[i].error;
        fake_kvm.open_hangs = rows[i].error == ENOENT || rows[i].error == EACCES; /* no process for that */
        kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
        g_assert_cmpint(p.result, ==, rows[i].want);
        g_assert_cmpint(p.error, ==, rows[i].error);
    }
}

/* Who may by the mode is not told to join a group. */
static void test_permission(void)
{
    static const struct {
        bool may;
        const char *group, *hint;
    } rows[] = {
        {true, "kvm", "the container"},
        {true, NULL, "the container"},
        {false, "kvm", "usermod -aG kvm "},
        {false, NULL, "udev"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *err = NULL;
        g_autofree char *message = NULL, *hint = NULL;

        error_set(&err, PVEMU_ERROR_HOST, "no");
        kvm_probe_permission_hint(rows[i].may, rows[i].group, &err);
        message = error_split_hint(err, &hint);
        g_assert_nonnull(strstr(hint, rows[i].hint));
        g_error_free(err);
    }
    fake_kvm_reset();
    fake_kvm.open_error = EPERM;
    if (geteuid() == 0 && g_file_test("/dev/kvm", G_FILE_TEST_EXISTS)) {
        struct kvm_probe p = probe_here();
        g_autoptr(GError) err = NULL;

        g_assert_false(kvm_probe_judge(&p, &err));
        g_assert_nonnull(strstr(err->message, "the container"));
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
    static const struct {
        unsigned long request;
        const char *text;
    } rows[] = {
#define ROW(name) {name, "/dev/kvm: " #name " failed: Cannot allocate memory"}
        ROW(KVM_GET_API_VERSION), ROW(KVM_CREATE_VM), ROW(KVM_SET_TSS_ADDR),
        ROW(KVM_SET_IDENTITY_MAP_ADDR), ROW(KVM_SET_USER_MEMORY_REGION), ROW(KVM_CREATE_VCPU),
        ROW(KVM_GET_VCPU_MMAP_SIZE), ROW(KVM_GET_SUPPORTED_CPUID), ROW(KVM_SET_CPUID2),
        ROW(KVM_GET_SREGS), ROW(KVM_SET_SREGS), ROW(KVM_SET_MSRS), ROW(KVM_SET_REGS),
        ROW(KVM_RUN), ROW(KVM_GET_REGS),
#undef ROW
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        fake_kvm_reset();
        fake_kvm_play_probe();
        fake_kvm.fail_request = rows[i].request;
        fake_kvm.fail_error = ENOMEM;
        assert_refused(KVM_PROBE_FAILED, rows[i].text, false);
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
}

static volatile sig_atomic_t child_code;

static void child_ended(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    child_code = info->si_code;
}

/* A signal ends it, without a core dump, though they are wanted. */
static void test_killed(void)
{
    struct sigaction before, sa = {.sa_sigaction = child_ended, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct rlimit old, limit;
    struct kvm_probe p;

    g_assert_cmpint(getrlimit(RLIMIT_CORE, &old), ==, 0);
    limit = old;
    limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_max == 0) {
        g_test_message("no core dumps here, so none can be seen");
    }
    g_assert_cmpint(setrlimit(RLIMIT_CORE, &limit), ==, 0);
    sigaction(SIGCHLD, &sa, &before);
    fake_kvm_reset();
    fake_kvm.die = true;
    fake_kvm.die_signal = SIGABRT;
    kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_DIED);
    g_assert_cmpint(child_code, ==, CLD_KILLED); /* and not CLD_DUMPED */
    sigaction(SIGCHLD, &before, NULL);
    setrlimit(RLIMIT_CORE, &old);
}

/* No process can be made, or no pipe to it. */
static void test_not_started(void)
{
    struct rlimit old, limit;
    struct kvm_probe p;
    g_autoptr(GError) err = NULL;

    getrlimit(RLIMIT_NOFILE, &old);
    limit = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
    fake_kvm_reset();
    kvm_probe_run(&fake_kvm_sys, DEADLINE_MS, &p);
    setrlimit(RLIMIT_NOFILE, &old);
    g_assert_cmpint(p.result, ==, KVM_PROBE_DIED);
    g_assert_false(kvm_probe_judge(&p, &err));
    g_assert_cmpstr(err->message, ==,
                    "the test of /dev/kvm could not be started: Too many open files");
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
    fake_kvm.open_hangs = true;
    kvm_probe_run(&fake_kvm_sys, SHORT_MS, &p);
    g_assert_cmpint(p.result, ==, KVM_PROBE_HANG);
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
    g_test_add_func("/kvm/probe/permission", test_permission);
    g_test_add_func("/kvm/probe/busy", test_busy);
    g_test_add_func("/kvm/probe/too-old", test_old);
    g_test_add_func("/kvm/probe/each-call-fails", test_calls);
    g_test_add_func("/kvm/probe/unfaithful", test_unfaithful);
    g_test_add_func("/kvm/probe/stub", test_stub);
    g_test_add_func("/kvm/probe/slow", test_slow);
    g_test_add_func("/kvm/probe/watchdog", test_watchdog);
    g_test_add_func("/kvm/probe/died", test_died);
    g_test_add_func("/kvm/probe/killed", test_killed);
    g_test_add_func("/kvm/probe/not-started", test_not_started);
    return g_test_run();
}
