/* SPDX-License-Identifier: MIT */
/* Putting the sandbox on, layer by layer. A layer the kernel lacks is noted and the others
 * go on. */
#include "base/sandbox.h"

#include <errno.h>
#include <glib.h>
#include <linux/capability.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/sandbox_landlock.h"
#include "base/sandbox_policy.h"

enum { SET_MDWE = 65, MDWE_REFUSE_EXEC_GAIN = 1 }; /* prctl, Linux 6.3 */
enum { MAX_ERRNO = 134, LAST_CAP = 63 };

enum missing { MISSING_LANDLOCK = 1, MISSING_SECCOMP = 2, MISSING_CAPS = 4, MISSING_NNP = 8 };

struct sandbox {
    struct sandbox_options options;
    char *unlink_dir;
    int landlock_abi;
    _Atomic int seccomp_errno;
    _Atomic unsigned missing;
    struct sock_fprog programs[SANDBOX_NR_CLASSES + 1];
};

static const char *const class_names[SANDBOX_NR_CLASSES + 1] = {
    [SANDBOX_CLASS_MAIN] = "main",
    [SANDBOX_CLASS_VCPU] = "vcpu",
    [SANDBOX_CLASS_IO] = "io",
    [SANDBOX_CLASS_NET] = "net",
    [SANDBOX_CLASS_NET_SUPERVISOR] = "supervisor",
    [SANDBOX_CLASS_GUARDIAN] = "guardian",
    [SANDBOX_PROCESS] = "process",
};

const char *sandbox_class_name(enum sandbox_class cls)
{
    return class_names[cls];
}

static bool sandbox_read_program(int fd, struct sock_fprog *program)
{
    struct stat st;
    size_t size;

    if (fstat(fd, &st) < 0) {
        return false;
    }
    size = (size_t)st.st_size;
    program->filter = g_malloc(size);
    program->len = (unsigned short)(size / sizeof(*program->filter));
    return lseek(fd, 0, SEEK_SET) == 0 && read(fd, program->filter, size) == (ssize_t)size;
}

/*
 * KVM_RUN is the one system call that is made a hundred thousand times a second: it is let through
 * before anything else is looked at, and vCPU threads have no filter but this one. (The kernel keeps its own list of calls that are always
 * allowed, but none whose arguments count. Of the request it takes 32 bits.)
 */
static void sandbox_kvm_run_first(struct sock_fprog *program)
{
    const struct sock_filter head[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_RUN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_filter *all = g_new(struct sock_filter, G_N_ELEMENTS(head) + program->len);

    memcpy(all, head, sizeof(head));
    memcpy(all + G_N_ELEMENTS(head), program->filter, program->len * sizeof(*all));
    g_free(program->filter);
    program->filter = all;
    program->len = (unsigned short)(program->len + G_N_ELEMENTS(head));
}

static void sandbox_compile(struct sandbox *s, enum sandbox_class cls)
{
    auto_fd fd = sandbox_policy_compile(&s->options, cls, s->landlock_abi > 0);

    if (fd < 0 || !sandbox_read_program(fd, &s->programs[cls])) {
        s->seccomp_errno = errno;
        atomic_fetch_or(&s->missing, MISSING_SECCOMP);
        g_clear_pointer(&s->programs[cls].filter, g_free);
    } else if (s->options.kvm && cls == SANDBOX_PROCESS) {
        sandbox_kvm_run_first(&s->programs[cls]);
    }
}

/* A sandbox for the classes in the mask. */
static struct sandbox *sandbox_new_for(const struct sandbox_options *options, unsigned classes)
{
    struct sandbox *s;

    if (options->mode == SANDBOX_OFF || SANDBOX_UNFIT_BUILD) {
        return NULL;
    }
    s = g_new0(struct sandbox, 1);
    s->options = *options;
    s->options.unlink_dir = s->unlink_dir = g_strdup(options->unlink_dir);
    s->landlock_abi = sandbox_landlock_abi();
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        if ((classes >> cls & 1) != 0) {
            sandbox_compile(s, (enum sandbox_class)cls);
        }
    }
    return s;
}

struct sandbox *sandbox_new(const struct sandbox_options *options)
{
    return sandbox_new_for(options, ~0u);
}

void sandbox_free(struct sandbox *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned cls = 0; cls <= SANDBOX_PROCESS; cls++) {
        g_free(s->programs[cls].filter);
    }
    g_free(s->unlink_dir);
    g_free(s);
}

const struct sock_fprog *sandbox_program(const struct sandbox *s, enum sandbox_class cls)
{
    return s != NULL && s->programs[cls].filter != NULL ? &s->programs[cls] : NULL;
}

/* What is loaded from files at the first use: the texts of errors, through iconv in some
 * locales. */
static void sandbox_warm_up(void)
{
    for (int i = 0; i < MAX_ERRNO; i++) {
        (void)g_strerror(i);
    }
}

/* All sets of the calling thread; `keep` is a mask of capabilities that stay if they are
 * there. */
static bool sandbox_drop_caps(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    for (int cap = 0; cap <= LAST_CAP; cap++) {
        if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) {
            break; /* no right to, or no such capability */
        }
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(keep >> 32 * i);
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) == 0;
}

void sandbox_restrict(struct sandbox *s, enum sandbox_class cls)
{
    uint64_t keep = 0;

    if (s == NULL) {
        return;
    }
    sandbox_warm_up();
    if (cls == SANDBOX_CLASS_NET_SUPERVISOR) {
        /* A network process that is started again binds its ports again. */
        keep = UINT64_C(1) << CAP_NET_BIND_SERVICE;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        atomic_fetch_or(&s->missing, MISSING_NNP);
    }
    if (s->options.mode == SANDBOX_LOG) {
        return;
    }
    if (!sandbox_drop_caps(keep)) {
        atomic_fetch_or(&s->missing, MISSING_CAPS);
    }
    /* For the whole process; on older kernels seccomp does it alone. */
    prctl(SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0);
    if (s->landlock_abi == 0 || !sandbox_landlock_apply(s->landlock_abi, cls, &s->options)) {
        atomic_fetch_or(&s->missing, MISSING_LANDLOCK);
    }
}

static void sandbox_load(struct sandbox *s, enum sandbox_class cls, unsigned flags)
{
    long ret;

    if (s == NULL || s->programs[cls].filter == NULL) {
        return;
    }
    ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &s->programs[cls]);
    if (ret != 0) {
        s->seccomp_errno = ret > 0 ? EBUSY : errno; /* > 0: a thread has filters of its own */
        atomic_fetch_or(&s->missing, MISSING_SECCOMP);
    }
}

void sandbox_filter_process(struct sandbox *s)
{
    sandbox_load(s, SANDBOX_PROCESS, SECCOMP_FILTER_FLAG_TSYNC);
}

void sandbox_filter_thread(struct sandbox *s, enum sandbox_class cls)
{
    sandbox_load(s, cls, 0);
}

void sandbox_enter(enum config_sandbox mode, enum sandbox_class cls)
{
    struct sandbox_options options = {.mode = mode};
    struct sandbox *s = sandbox_new_for(&options, 1u << cls);

    sandbox_restrict(s, cls);
    sandbox_filter_thread(s, cls);
    /* Not freed: a class that does next to nothing has no munmap either. */
}

char *sandbox_missing(const struct sandbox *s)
{
    unsigned missing = s != NULL ? atomic_load(&s->missing) : 0;
    g_autoptr(GString) text = g_string_new(NULL);

    if ((missing & MISSING_LANDLOCK) != 0) {
        g_string_append(text, "no Landlock (Linux 5.13), so only seccomp keeps files off; ");
    }
    if ((missing & MISSING_SECCOMP) != 0) {
        g_string_append_printf(text, "no seccomp filter (%s), so every system call is open; ",
                               g_strerror(s->seccomp_errno));
    }
    if ((missing & MISSING_CAPS) != 0) {
        g_string_append(text, "capabilities could not be dropped; ");
    }
    if ((missing & MISSING_NNP) != 0) {
        g_string_append(text, "no_new_privs could not be set; ");
    }
    if (text->len == 0) {
        return NULL;
    }
    g_string_truncate(text, text->len - 2);
    return g_string_free(g_steal_pointer(&text), FALSE);
}
