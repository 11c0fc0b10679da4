/* SPDX-License-Identifier: MIT */
/* The folder of control sockets. */
#include "ctl/runtime_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"

enum { PATIENCE_SECONDS = 5 };

static const char SUFFIX[] = ".sock";

char *runtime_dir(void)
{
    const char *xdg = g_getenv("XDG_RUNTIME_DIR");

    if (xdg != NULL && *xdg == '/') {
        return g_build_filename(xdg, "pvemu", NULL);
    }
    return g_strdup_printf("%s/pvemu-%u", g_get_tmp_dir(), (unsigned)getuid());
}

bool runtime_dir_make(const char *path, GError **err)
{
    struct stat st;

    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot make folder '%s': %s", path,
                         g_strerror(errno));
    }
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
        (st.st_mode & 077) != 0) {
        return error_set(err, PVEMU_ERROR_HOST, "'%s' is not a folder of yours alone", path);
    }
    return true;
}

char *runtime_socket_path(const char *name)
{
    g_autofree char *dir = runtime_dir();

    return g_strconcat(dir, "/", name, SUFFIX, NULL);
}

/* The folder's lock, released by closing it; -1: there is none, go on without. */
static int runtime_lock(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    auto_fd fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (fd >= 0 && flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            return -1;
        }
    }
    return auto_fd_steal(&fd);
}

static bool runtime_address(const char *path, struct sockaddr_un *address)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(address->sun_path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    g_strlcpy(address->sun_path, path, sizeof(address->sun_path));
    return true;
}

static int runtime_try_connect(const char *path)
{
    struct sockaddr_un address;
    struct timeval limit = {.tv_sec = PATIENCE_SECONDS};
    auto_fd fd = -1;

    if (!runtime_address(path, &address)) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return -1;
    }
    return auto_fd_steal(&fd);
}

/* Connects, or removes what nobody listens on. The folder is locked. */
static int runtime_connect_locked(const char *path)
{
    int fd = runtime_try_connect(path);

    if (fd < 0 && errno == ECONNREFUSED) {
        unlink(path);
        errno = ECONNREFUSED;
    }
    return fd;
}

int runtime_connect(const char *path)
{
    int fd = runtime_try_connect(path);

    if (fd < 0 && errno == ECONNREFUSED) { /* dead, or its guest is just about to listen */
        auto_fd lock = runtime_lock(path);

        fd = runtime_connect_locked(path);
    }
    return fd;
}

int runtime_listen(const char *path, int backlog)
{
    struct sockaddr_un address;
    auto_fd lock = runtime_lock(path);
    auto_fd fd = -1, other = -1;

    if (!runtime_address(path, &address)) {
        return -1;
    }
    other = runtime_connect_locked(path);
    if (other >= 0) {
        errno = EADDRINUSE;
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        chmod(path, 0600) != 0 || listen(fd, backlog) != 0) {
        return -1;
    }
    return auto_fd_steal(&fd);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **runtime_names(void)
{
    g_autofree char *path = runtime_dir();
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    GPtrArray *names = g_ptr_array_new();
    const char *entry;

    while (dir != NULL && (entry = g_dir_read_name(dir)) != NULL) {
        g_autofree char *socket_path = g_build_filename(path, entry, NULL);
        auto_fd fd = -1;

        if (!g_str_has_suffix(entry, SUFFIX)) {
            continue;
        }
        fd = runtime_connect(socket_path);
        if (fd >= 0) {
            g_ptr_array_add(names, g_strndup(entry, strlen(entry) - strlen(SUFFIX)));
        }
    }
    if (names->len > 1) {
        qsort(names->pdata, names->len, sizeof(char *), compare_names);
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
