/* SPDX-License-Identifier: MIT */
/*
 * The probe around its guest: the device, the version, the capabilities pvemu needs, a process
 * that can be ended when KVM does not come back, and the words for a person.
 */
#include "probe.h"

#include <cpuid.h>
#include <errno.h>
#include <grp.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

enum { PROBE_DEADLINE_MS = 3000, PROBE_GROUP_BUFFER = 4096, PROBE_REAPS = 200, PROBE_REAP_US = 5000 };

/* What the engine cannot do without, with the Linux version that brought it. */
static const struct {
    int cap;
    int at_least;
    const char *name;
    const char *since;
} probe_caps[] = {
    {KVM_CAP_USER_MEMORY, 1, "USER_MEMORY", "2.6.25"},
    {KVM_CAP_SET_TSS_ADDR, 1, "SET_TSS_ADDR", "2.6.25"},
    {KVM_CAP_EXT_CPUID, 1, "EXT_CPUID", "2.6.26"},
    {KVM_CAP_VCPU_EVENTS, 1, "VCPU_EVENTS", "2.6.34"},
    {KVM_CAP_DEBUGREGS, 1, "DEBUGREGS", "2.6.35"},
    {KVM_CAP_XSAVE, 1, "XSAVE", "2.6.36"},
    {KVM_CAP_IMMEDIATE_EXIT, 1, "IMMEDIATE_EXIT", "4.12"},
    {KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS, "SYNC_REGS", "4.17"},
    {KVM_CAP_X86_USER_SPACE_MSR, 1, "X86_USER_SPACE_MSR", "5.10"},
    {KVM_CAP_X86_MSR_FILTER, 1, "X86_MSR_FILTER", "5.10"},
};

static void probe_open_failed(struct kvm_probe *p, int error)
{
    p->error = error;
    switch (error) {
    case EACCES:
    case EPERM:
        p->result = KVM_PROBE_NO_PERMISSION;
        break;
    case EBUSY:
        p->result = KVM_PROBE_BUSY;
        break;
    case ENODEV: /* a node without its module */
    case ENXIO:
    case ENOENT:
        p->result = KVM_PROBE_NO_DEVICE;
        break;
    default:
        p->result = KVM_PROBE_FAILED;
        p->detail = 0;
        break;
    }
}

static bool probe_caps_there(const struct kvm_sys *sys, int dev, struct kvm_probe *p)
{
    int ret = sys->ioctl(dev, KVM_GET_API_VERSION, 0);

    if (ret != KVM_API_VERSION) {
        p->result = ret < 0 ? KVM_PROBE_FAILED : KVM_PROBE_OLD;
        p->error = ret < 0 ? -ret : 0;
        p->detail = ret < 0 ? KVM_GET_API_VERSION : G_N_ELEMENTS(probe_caps);
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(probe_caps); i++) {
        ret = sys->ioctl(dev, KVM_CHECK_EXTENSION, (uintptr_t)probe_caps[i].cap);
        if (ret < 0 || (ret & probe_caps[i].at_least) != probe_caps[i].at_least) {
            p->result = KVM_PROBE_OLD;
            p->detail = i;
            return false;
        }
    }
    return true;
}

void kvm_probe_here(const struct kvm_sys *sys, struct kvm_probe *p)
{
    int dev = sys->open(KVM_DEVICE);

    memset(p, 0, sizeof(*p));
    if (dev < 0) {
        probe_open_failed(p, -dev);
        return;
    }
    if (probe_caps_there(sys, dev, p)) {
        kvm_probe_guest_run(sys, dev, p);
    }
    sys->close(dev);
}

/* --- the watchdog --- */

G_NORETURN static void probe_child(const struct kvm_sys *sys, pid_t parent, int out)
{
    struct rlimit none = {0, 0};
    struct kvm_probe p;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* nor one by a pipe, which knows no limit */
    kvm_probe_here(sys, &p);
    _exit(write(out, &p, sizeof(p)) == (ssize_t)sizeof(p) ? 0 : 1);
}

/* The child's answer. */
static void probe_wait(int in, int deadline_ms, struct kvm_probe *p)
{
    gint64 end = g_get_monotonic_time() + (gint64)deadline_ms * 1000;
    struct pollfd fd = {.fd = in, .events = POLLIN};
    int ret;

    do {
        gint64 left = (end - g_get_monotonic_time() + 999) / 1000;

        ret = poll(&fd, 1, (int)MAX(left, 0));
    } while (ret < 0 && errno == EINTR);
    if (ret <= 0) {
        *p = (struct kvm_probe){.result = KVM_PROBE_HANG};
    } else if (read(in, p, sizeof(*p)) != (ssize_t)sizeof(*p)) {
        *p = (struct kvm_probe){.result = KVM_PROBE_DIED};
    }
}

void kvm_probe_run(const struct kvm_sys *sys, int deadline_ms, struct kvm_probe *p)
{
    int ret = sys->look(KVM_DEVICE);
    pid_t self = getpid(), child;
    int fds[2];

    memset(p, 0, sizeof(*p));
    if (ret == -ENOENT || ret == -EACCES) { /* most hosts without KVM: no process needed; what else it says, open() may not */
        probe_open_failed(p, -ret);
        return;
    }
    if (pipe(fds) != 0) {
        *p = (struct kvm_probe){.result = KVM_PROBE_DIED, .error = errno};
        return;
    }
    child = fork();
    if (child == 0) {
        close(fds[0]);
        probe_child(sys, self, fds[1]);
    }
    close(fds[1]);
    if (child < 0) {
        *p = (struct kvm_probe){.result = KVM_PROBE_DIED, .error = errno};
    } else {
        probe_wait(fds[0], deadline_ms, p);
        kill(child, SIGKILL);
        for (unsigned i = 0; i < PROBE_REAPS && waitpid(child, NULL, WNOHANG) == 0; i++) {
            g_usleep(PROBE_REAP_US); /* one that a faulty KVM does not let die stays behind */
        }
    }
    close(fds[0]);
}

/* --- words --- */

static const char *const probe_stages[] = {
    [KVM_STAGE_ENTRY] = "64-bit code does not start",
    [KVM_STAGE_STUB] = "a port write of the guest does not come out as it should",
    [KVM_STAGE_USER] = "IRET to user mode goes wrong",
    [KVM_STAGE_SYSCALL] = "SYSCALL does not reach the guest's kernel",
    [KVM_STAGE_SYSRET] = "SYSRET does not come back to user mode",
    [KVM_STAGE_INT] = "INT n does not reach the guest's kernel",
    [KVM_STAGE_IRET] = "IRET does not come back to user mode",
    [KVM_STAGE_SYSCALL_AGAIN] = "a second SYSCALL does not reach the guest's kernel",
    [KVM_STAGE_SPEED] = "a loop in the guest's kernel goes wrong",
    [KVM_STAGE_HALT] = "HLT does not stop the guest",
};

static const char *probe_module(bool *has_hardware)
{
    unsigned a, b, c, d;
    bool amd;

    *has_hardware = true;
    if (!__get_cpuid(0, &a, &b, &c, &d)) {
        return "kvm";
    }
    amd = b == 0x68747541 || b == 0x6f677948; /* AuthenticAMD, HygonGenuine */
    if (amd) {
        *has_hardware = __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1u << 2) != 0;
    } else {
        *has_hardware = __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 5) != 0;
    }
    return amd ? "kvm_amd" : "kvm_intel";
}

static void probe_no_device(const struct kvm_probe *p, GError **err)
{
    const char *what = p->error == ENOENT ? "there is no " KVM_DEVICE
                                          : "there is a " KVM_DEVICE ", but no KVM behind it";
    bool hardware;
    const char *module = probe_module(&hardware);

    if (hardware) {
        error_set(err, PVEMU_ERROR_HOST, "%s", what);
        error_hint(err, "sudo modprobe %s; if that fails, switch virtualisation on in the "
                        "firmware's setup",
                   module);
    } else {
        error_set(err, PVEMU_ERROR_HOST,
                  "%s, and this processor offers no VT-x or AMD-V", what);
        error_hint(err, "switch it on in the firmware's setup; in a virtual machine or a "
                        "container its host has to pass it on");
    }
}

/* Whether this process is of the group. */
static bool probe_is_member(gid_t gid)
{
    int count = getgroups(0, NULL);
    g_autofree gid_t *groups = g_new0(gid_t, (gsize)MAX(count, 0) + 1);
    bool is = gid == getegid();

    count = count > 0 ? getgroups(count, groups) : 0;
    for (int i = 0; i < count && !is; i++) {
        is = groups[i] == gid;
    }
    return is;
}

/* By owner and mode of the node; what a container or a mount allows is not in them. */
static bool probe_mode_allows(const struct stat *st)
{
    mode_t bits = st->st_mode;

    if (geteuid() == 0) {
        return true;
    }
    bits = st->st_uid == geteuid() ? bits >> 6 : probe_is_member(st->st_gid) ? bits >> 3 : bits;
    return (bits & 06) == 06;
}

void kvm_probe_permission_hint(bool may, const char *group, GError **err)
{
    if (may) {
        error_hint(err, "this user may: the container (its list of devices) or the mount "
                        "(nodev) has to let it through");
    } else if (group != NULL) {
        error_hint(err, "sudo usermod -aG %s %s, then log in again", group, g_get_user_name());
    } else {
        error_hint(err, "give it to the group kvm: a file /etc/udev/rules.d/65-kvm.rules with "
                        "KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"");
    }
}

static void probe_no_permission(GError **err)
{
    char buffer[PROBE_GROUP_BUFFER];
    struct group entry, *group = NULL;
    struct stat st;
    bool may = false;

    error_set(err, PVEMU_ERROR_HOST, "no permission to open %s", KVM_DEVICE);
    if (stat(KVM_DEVICE, &st) == 0) {
        may = probe_mode_allows(&st);
        if ((st.st_mode & 0060) == 0060 && st.st_gid != 0) {
            getgrgid_r(st.st_gid, &entry, buffer, sizeof(buffer), &group);
        }
    }
    kvm_probe_permission_hint(may, group != NULL ? group->gr_name : NULL, err);
}

static void probe_old(const struct kvm_probe *p, GError **err)
{
    if (p->detail >= G_N_ELEMENTS(probe_caps)) {
        error_set(err, PVEMU_ERROR_HOST, "%s of this kernel has another interface version", KVM_DEVICE);
    } else {
        error_set(err, PVEMU_ERROR_HOST, "%s of this kernel is too old: it lacks %s (Linux %s)",
                  KVM_DEVICE, probe_caps[p->detail].name, probe_caps[p->detail].since);
    }
    error_hint(err, "a kernel of version 5.10 or later has all that is needed");
}

#define PROBE_CALL(name) {name, #name}

static void probe_call_failed(const struct kvm_probe *p, GError **err)
{
    static const struct {
        unsigned long request;
        const char *name;
    } calls[] = {
        PROBE_CALL(KVM_GET_API_VERSION), PROBE_CALL(KVM_CREATE_VM),
        PROBE_CALL(KVM_SET_TSS_ADDR), PROBE_CALL(KVM_SET_IDENTITY_MAP_ADDR),
        PROBE_CALL(KVM_SET_USER_MEMORY_REGION), PROBE_CALL(KVM_CREATE_VCPU),
        PROBE_CALL(KVM_GET_VCPU_MMAP_SIZE), PROBE_CALL(KVM_GET_SUPPORTED_CPUID),
        PROBE_CALL(KVM_SET_CPUID2), PROBE_CALL(KVM_GET_SREGS), PROBE_CALL(KVM_SET_SREGS),
        PROBE_CALL(KVM_SET_MSRS), PROBE_CALL(KVM_GET_REGS), PROBE_CALL(KVM_SET_REGS),
        PROBE_CALL(KVM_RUN),
    };
    const char *name = "a call";

    if (p->detail == 0) {
        error_set(err, PVEMU_ERROR_HOST, "cannot open %s: %s", KVM_DEVICE, g_strerror(p->error));
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
        name = calls[i].request == p->detail ? calls[i].name : name;
    }
    error_set(err, PVEMU_ERROR_HOST, "%s: %s failed: %s", KVM_DEVICE, name, g_strerror(p->error));
}

/* What the probe's guest, or its process, came to. */
static void probe_went_wrong(const struct kvm_probe *p, GError **err)
{
    switch (p->result) {
    case KVM_PROBE_UNFAITHFUL:
        error_set(err, PVEMU_ERROR_HOST, "%s is not faithful to the processor: %s", KVM_DEVICE,
                  probe_stages[MIN(p->stage, KVM_STAGE_HALT)]);
        break;
    case KVM_PROBE_SLOW:
        error_set(err, PVEMU_ERROR_HOST,
                  "%s runs a guest's kernel too slowly: %" G_GUINT64_FORMAT
                  " ns for each instruction",
                  KVM_DEVICE, p->ns / 1000);
        break;
    case KVM_PROBE_HANG:
        error_set(err, PVEMU_ERROR_HOST, "%s did not answer a small test in time", KVM_DEVICE);
        break;
    default:
        if (p->error != 0) {
            error_set(err, PVEMU_ERROR_HOST, "the test of %s could not be started: %s", KVM_DEVICE,
                      g_strerror(p->error));
        } else {
            error_set(err, PVEMU_ERROR_HOST, "the test of %s could not be run to its end",
                      KVM_DEVICE);
        }
        break;
    }
}

bool kvm_probe_judge(const struct kvm_probe *p, GError **err)
{
    switch (p->result) {
    case KVM_PROBE_OK:
        return true;
    case KVM_PROBE_NO_DEVICE:
        probe_no_device(p, err);
        break;
    case KVM_PROBE_NO_PERMISSION:
        probe_no_permission(err);
        break;
    case KVM_PROBE_BUSY:
        error_set(err, PVEMU_ERROR_HOST,
                  "%s: the processor's virtualisation is in use by another hypervisor",
                  KVM_DEVICE);
        error_hint(err, "end its guests and unload its module (VirtualBox: vboxdrv, VMware: "
                        "vmmon)");
        break;
    case KVM_PROBE_OLD:
        probe_old(p, err);
        break;
    case KVM_PROBE_FAILED:
        probe_call_failed(p, err);
        break;
    default:
        probe_went_wrong(p, err);
        break;
    }
    return false;
}

bool kvm_probe_host(GError **err)
{
    struct kvm_probe p;

    kvm_probe_run(&kvm_sys_host, PROBE_DEADLINE_MS, &p);
    return kvm_probe_judge(&p, err);
}
