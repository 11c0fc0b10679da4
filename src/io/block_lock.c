/* SPDX-License-Identifier: MIT */
/*
 * Image locks: open file description locks (fcntl(2)), which belong to the open file, so that
 * they also work between two disks of one process and die with it.
 *
 * Who holds such a lock is told by neither F_OFD_GETLK nor /proc/locks (the pid is -1), but
 * /proc/PID/fdinfo/FD lists the locks of that open file; a guest's name is that of its control
 * socket, found the same way. The search is for the error message only.
 */
#include "io/block_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"

/* Whether open file `fd` of process `pid` is the inode of *st, with a lock on it. */
static bool block_lock_held_by(const char *pid, const char *fd, const struct stat *st)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fd/%s", pid, fd);
    g_autofree char *info_path = g_strdup_printf("/proc/%s/fdinfo/%s", pid, fd);
    g_autofree char *info = NULL;
    struct stat other;

    if (stat(path, &other) < 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino ||
        !g_file_get_contents(info_path, &info, NULL, NULL)) {
        return false;
    }
    return strstr(info, "lock:") != NULL;
}

static bool block_lock_process_holds(const char *pid, const struct stat *st)
{
    g_autofree char *dir_path = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(dir_path, 0, NULL);
    const char *fd;

    while (dir != NULL && (fd = g_dir_read_name(dir)) != NULL) {
        if (block_lock_held_by(pid, fd, st)) {
            return true;
        }
    }
    return false;
}

/* The word after -name in a command line of NUL-terminated words; NULL when there is none. */
static const char *block_lock_guest_name(const char *cmdline, size_t len)
{
    const char *end = cmdline + len;

    for (const char *word = cmdline; word < end; word += strlen(word) + 1) {
        const char *option = word + strspn(word, "-");

        if (option == word || !g_str_has_prefix(option, "name")) {
            continue;
        }
        if (option[4] == '=') {
            return option + 5;
        }
        if (option[4] == '\0' && option + 5 < end) {
            return option + 5;
        }
    }
    return NULL;
}

/* The inode of a bound socket ".../NAME.sock" in a folder of pvemu's, and NAME (caller frees);
 * NULL: a line of /proc/net/unix that is about something else. */
static char *block_lock_socket_name(const char *line, unsigned long *inode)
{
    const char *path = strrchr(line, ' ');
    const char *slash = strrchr(line, '/');
    char *end;

    if (path == NULL || slash == NULL || slash < path || strstr(path, "/pvemu") == NULL ||
        !g_str_has_suffix(slash, ".sock")) {
        return NULL;
    }
    while (path > line && path[-1] != ' ') {
        path--; /* the word before the path */
    }
    *inode = strtoul(path, &end, 10);
    return end != path ? g_strndup(slash + 1, strlen(slash) - strlen("/.sock")) : NULL;
}

static bool block_lock_has_socket(const char *pid, unsigned long inode)
{
    g_autofree char *dir_path = g_strdup_printf("/proc/%s/fd", pid);
    g_autofree char *want = g_strdup_printf("socket:[%lu]", inode);
    g_autoptr(GDir) dir = g_dir_open(dir_path, 0, NULL);
    const char *fd;

    while (dir != NULL && (fd = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(dir_path, fd, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        if (g_strcmp0(target, want) == 0) {
            return true;
        }
    }
    return false;
}

/* The name of a guest by its control socket; NULL when it has none. Caller frees. */
static char *block_lock_guest_by_socket(const char *pid)
{
    g_autofree char *sockets = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/net/unix", &sockets, NULL, NULL)) {
        return NULL;
    }
    lines = g_strsplit(sockets, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        unsigned long inode;
        g_autofree char *name = block_lock_socket_name(*line, &inode);

        if (name != NULL && block_lock_has_socket(pid, inode)) {
            return g_steal_pointer(&name);
        }
    }
    return NULL;
}

/* "pvemu 'web' (pid 12)" or "process 12 (dd)". */
static char *block_lock_describe(const char *pid)
{
    g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", pid);
    g_autofree char *cmdline_path = g_strdup_printf("/proc/%s/cmdline", pid);
    g_autofree char *comm = NULL;
    g_autofree char *cmdline = NULL;
    g_autofree char *name = NULL;
    gsize len = 0;

    if (!g_file_get_contents(comm_path, &comm, NULL, NULL)) {
        return g_strdup_printf("process %s", pid);
    }
    g_strchomp(comm);
    if (strcmp(comm, "pvemu") == 0) {
        name = block_lock_guest_by_socket(pid);
        if (name == NULL && g_file_get_contents(cmdline_path, &cmdline, &len, NULL)) {
            name = g_strdup(block_lock_guest_name(cmdline, len));
        }
    }
    if (name != NULL) {
        return g_strdup_printf("pvemu '%s' (pid %s)", name, pid);
    }
    return g_strdup_printf("process %s (%s)", pid, comm);
}

/* Who has it, in words; NULL when /proc does not say (another user's process, no /proc). */
static char *block_lock_holder(int fd)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *pid;
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return NULL;
    }
    while (proc != NULL && (pid = g_dir_read_name(proc)) != NULL) {
        if (g_ascii_isdigit(pid[0]) && strtol(pid, NULL, 10) != getpid() &&
            block_lock_process_holds(pid, &st)) {
            return block_lock_describe(pid);
        }
    }
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());

    /* Our own descriptor holds no lock, so this is another disk of this process. */
    return block_lock_process_holds(self, &st) ? g_strdup("this pvemu, as another disk") : NULL;
}

/* Whether the lock in the way is a writer's. */
static bool block_lock_writer_in_way(int fd, struct flock lock)
{
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK;
}

static bool block_lock_conflict(int fd, const char *name, bool exclusive,
                                const struct flock *lock, GError **err)
{
    g_autofree char *holder = block_lock_holder(fd);
    bool writer = block_lock_writer_in_way(fd, *lock);

    error_set(err, PVEMU_ERROR_HOST, "disk '%s' is open for %s in %s", name,
              writer ? "writing" : "reading", holder != NULL ? holder : "another process");
    if (writer && exclusive) {
        error_hint(err, "add ,snapshot or ,ro to both to use it at the same time");
    } else if (writer) {
        error_hint(err, "add ,snapshot or ,ro there too to use it at the same time");
    } else {
        error_hint(err, "add ,snapshot or ,ro to use it at the same time");
    }
    return false;
}

bool block_lock(int fd, const char *name, bool exclusive, GError **err)
{
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return true;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return block_lock_conflict(fd, name, exclusive, &lock, err);
    }
    if (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS) {
        report_warn("disk '%s' cannot be locked (%s); do not use it twice at a time", name,
                    g_strerror(errno));
        return true;
    }
    return error_set(err, PVEMU_ERROR_HOST, "cannot lock disk '%s': %s", name,
                     g_strerror(errno));
}
