/* SPDX-License-Identifier: MIT */
/* The folder of control sockets. */
#include "ctl/runtime_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"

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
        return error_set(err, PVEMU_ERROR_HOST, "cannot make folder '%s': %s", path, g_strerror(errno));
    }
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077) != 0) {
        return error_set(err, PVEMU_ERROR_HOST, "'%s' is not a folder of yours alone", path);
    }
    return true;
}

char *runtime_socket_path(const char *name)
{
    g_autofree char *dir = runtime_dir();

    return g_strconcat(dir, "/", name, SUFFIX, NULL);
}

int runtime_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 5};
    auto_fd fd = -1;

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        if (errno == ECONNREFUSED) {
            unlink(path);
            errno = ECONNREFUSED;
        }
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
