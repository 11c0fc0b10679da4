/* SPDX-License-Identifier: MIT */
/*
 * Landlock: by default nothing can be opened, made, renamed or removed by path, no TCP port be
 * bound or connected to, no abstract socket outside be reached and no process outside be
 * signalled. What a class still needs is in the table below.
 *
 * The interface is the kernel's (Documentation/userspace-api/landlock.rst). Constants are our
 * own: Debian 12's header knows version 2 only. Looking at metadata (stat) is not covered by
 * Landlock.
 */
#include "base/sandbox_landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto_fd.h"

enum {
    NR_LANDLOCK_CREATE_RULESET = 444,
    NR_LANDLOCK_ADD_RULE = 445,
    NR_LANDLOCK_RESTRICT_SELF = 446,
    CREATE_RULESET_VERSION = 1, RULE_PATH_BENEATH = 1,
    ACCESS_READ_FILE = 1 << 2, ACCESS_REMOVE_FILE = 1 << 5,
    ACCESS_NET_TCP = 3, /* bind and connect */
    SCOPE_ABSTRACT_UNIX = 1, SCOPE_SIGNAL = 2,
};

struct ruleset_attr {
    uint64_t handled_fs, handled_net, scoped;
};

struct path_rule {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

static const char RESOLVER[] = "/etc/resolv.conf", RANDOM[] = "/dev/urandom";

int sandbox_landlock_abi(void)
{
    long abi = syscall(NR_LANDLOCK_CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);

    return abi > 0 ? (int)abi : 0;
}

/* All rights that this version knows: 13 in version 1, then REFER, TRUNCATE and IOCTL_DEV. */
static uint64_t handled_fs(int abi)
{
    unsigned nr = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5);

    return (UINT64_C(1) << nr) - 1;
}

static bool add_path(int ruleset, const char *path, uint64_t allowed)
{
    auto_fd fd = open(path, O_PATH | O_CLOEXEC);
    struct path_rule rule = {.allowed = allowed, .fd = fd};

    if (fd < 0) {
        return true; /* not there, or out of reach anyway */
    }
    return syscall(NR_LANDLOCK_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0;
}

/*
 * libslirp reads the list of name servers again when it changes. Most hosts replace that file:
 * where it is a link into a folder of its own (/run/systemd/resolve), that folder is readable.
 * Elsewhere the network process gets the file alone, and has to be started again after a
 * change; so its supervisor, whom no frame of the guest reaches, may read the folder (/etc).
 */
static bool add_resolver(int ruleset, enum sandbox_class cls)
{
    g_autofree char *dir = NULL;
    char *real = realpath(RESOLVER, NULL);
    bool whole, ok;

    if (real == NULL) {
        return true;
    }
    dir = g_path_get_dirname(real);
    whole = cls == SANDBOX_CLASS_NET_SUPERVISOR || g_str_has_prefix(dir, "/run/");
    ok = add_path(ruleset, whole ? dir : real, ACCESS_READ_FILE);
    free(real);
    return ok;
}

static bool add_paths(int ruleset, enum sandbox_class cls,
                      const struct sandbox_options *options)
{
    switch (cls) {
    case SANDBOX_CLASS_MAIN:
        return options->unlink_dir == NULL ||
               add_path(ruleset, options->unlink_dir, ACCESS_REMOVE_FILE);
    case SANDBOX_CLASS_NET_SUPERVISOR: /* libslirp seeds its numbers at every start */
        return add_path(ruleset, RANDOM, ACCESS_READ_FILE) && add_resolver(ruleset, cls);
    case SANDBOX_CLASS_NET:
        return add_resolver(ruleset, cls);
    default:
        return true;
    }
}

bool sandbox_landlock_apply(int abi, enum sandbox_class cls,
                            const struct sandbox_options *options)
{
    bool tcp = cls == SANDBOX_CLASS_NET || cls == SANDBOX_CLASS_NET_SUPERVISOR;
    bool signals = cls == SANDBOX_CLASS_MAIN && options->killable > 0;
    struct ruleset_attr attr = {.handled_fs = handled_fs(abi)};
    auto_fd ruleset = -1;

    if (abi >= 4 && !tcp) {
        attr.handled_net = ACCESS_NET_TCP;
    }
    if (abi >= 6) {
        /* The process that main may end is not below it: its signals are up to seccomp. */
        attr.scoped = SCOPE_ABSTRACT_UNIX | (signals ? 0 : SCOPE_SIGNAL);
    }
    ruleset = (int)syscall(NR_LANDLOCK_CREATE_RULESET, &attr, sizeof(attr), 0);
    if (ruleset < 0) {
        return false;
    }
    if (!add_paths(ruleset, cls, options)) {
        return false;
    }
    return syscall(NR_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0;
}
