/* SPDX-License-Identifier: MIT */
/*
 * Port forwards: parser, trial bind, and the name of whoever holds a busy port (from
 * /proc/net/tcp and friends, then the descriptors of every process we may look at).
 */
#include "io/net_forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"

enum { TCP_STATE_LISTEN = 0x0a, UDP_STATE_BOUND = 0x07 };

static bool forward_port(const char *text, unsigned low, uint16_t *port)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(text, 10, low, 65535, &value, NULL)) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

/* "1.2.3.4", "[::1]", "localhost", or "*" for all IPv4 addresses of the host. */
static bool forward_address(const char *text, struct net_forward *f)
{
    g_autofree char *inner = NULL;
    size_t len = strlen(text);

    if (strcmp(text, "*") == 0) {
        f->address.s_addr = htonl(INADDR_ANY);
        return true;
    }
    if (strcmp(text, "localhost") == 0) {
        return true;
    }
    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        inner = g_strndup(text + 1, len - 2);
        f->ip6 = true;
        return inet_pton(AF_INET6, inner, &f->address6) == 1;
    }
    return inet_pton(AF_INET, text, &f->address) == 1;
}

/* Cuts "/udp" or "/tcp" off copy. */
static bool forward_protocol(const char *text, char *copy, struct net_forward *f, GError **err)
{
    char *slash = strrchr(copy, '/');

    if (slash == NULL) {
        return true;
    }
    *slash = '\0';
    f->udp = strcmp(slash + 1, "udp") == 0;
    if (!f->udp && strcmp(slash + 1, "tcp") != 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-p %s: '%s' is neither tcp nor udp", text,
                         slash + 1);
    }
    return true;
}

bool net_forward_parse(const char *text, struct net_forward *f, GError **err)
{
    g_autofree char *copy = g_strdup(text);
    char *guest, *host;

    memset(f, 0, sizeof(*f));
    f->address.s_addr = htonl(INADDR_LOOPBACK);
    if (!forward_protocol(text, copy, f, err)) {
        return false;
    }
    guest = strrchr(copy, ':');
    if (guest == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "-p %s: expected [ADDR:]HOST:GUEST[/udp]", text);
        error_hint(err, "-p 2222:22 leads port 2222 of this machine to port 22 of the guest");
        return false;
    }
    *guest++ = '\0';
    host = strrchr(copy, ':');
    if (host != NULL) {
        *host++ = '\0';
        if (!forward_address(copy, f)) {
            error_set(err, PVEMU_ERROR_USAGE, "-p %s: '%s' is not an IP address", text, copy);
            error_hint(err, "an IPv6 address stands in brackets: -p [::1]:2222:22");
            return false;
        }
    } else {
        host = copy;
    }
    if (!forward_port(host, 0, &f->host_port)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-p %s: '%s' is not a port of this machine "
                         "(0 to 65535, 0 picks one)", text, host);
    }
    if (!forward_port(guest, 1, &f->guest_port)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-p %s: '%s' is not a port of the guest "
                         "(1 to 65535)", text, guest);
    }
    return true;
}

char *net_forward_text(const struct net_forward *f)
{
    char address[INET6_ADDRSTRLEN];
    const char *proto = f->udp ? "/udp" : "";

    if (f->ip6) {
        inet_ntop(AF_INET6, &f->address6, address, sizeof(address));
        return g_strdup_printf("[%s]:%u:%u%s", address, f->host_port, f->guest_port, proto);
    }
    if (f->address.s_addr == htonl(INADDR_LOOPBACK)) {
        return g_strdup_printf("%u:%u%s", f->host_port, f->guest_port, proto);
    }
    inet_ntop(AF_INET, &f->address, address, sizeof(address));
    return g_strdup_printf("%s:%u:%u%s", address, f->host_port, f->guest_port, proto);
}

socklen_t net_forward_sockaddr(const struct net_forward *f, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof(*ss));
    if (f->ip6) {
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

        sin6->sin6_family = AF_INET6;
        sin6->sin6_addr = f->address6;
        sin6->sin6_port = htons(f->host_port);
        return sizeof(*sin6);
    }
    ((struct sockaddr_in *)ss)->sin_family = AF_INET;
    ((struct sockaddr_in *)ss)->sin_addr = f->address;
    ((struct sockaddr_in *)ss)->sin_port = htons(f->host_port);
    return sizeof(struct sockaddr_in);
}

/* The inode of a socket that holds the port, from one table of /proc/net; 0 when there is
 * none. */
static unsigned long forward_inode(const char *table, unsigned port, unsigned wanted_state)
{
    char line[512];
    unsigned long inode = 0;
    FILE *file = fopen(table, "re");

    if (file == NULL) {
        return 0;
    }
    while (inode == 0 && fgets(line, sizeof(line), file) != NULL) {
        unsigned local, state;
        unsigned long found;

        if (sscanf(line, "%*s %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local, &state,
                   &found) == 3 && local == port && state == wanted_state) {
            inode = found;
        }
    }
    fclose(file);
    return inode;
}

static bool forward_process_has(const char *pid, const char *link)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *fd = g_strdup_printf("%s/%s", path, name);
        char target[64];
        ssize_t n = readlink(fd, target, sizeof(target) - 1);

        if (n > 0) {
            target[n] = '\0';
            if (strcmp(target, link) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* "process 4711 (nginx)", or NULL when we may not know. */
static char *forward_owner(const struct net_forward *f)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp",
                                         "/proc/net/udp6"};
    g_autofree char *link = NULL;
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    unsigned long inode = 0;
    const char *pid;

    for (unsigned i = 0; i < 2 && inode == 0; i++) {
        inode = forward_inode(tables[i + (f->udp ? 2 : 0)], f->host_port,
                              f->udp ? UDP_STATE_BOUND : TCP_STATE_LISTEN);
    }
    if (inode == 0 || proc == NULL) {
        return NULL;
    }
    link = g_strdup_printf("socket:[%lu]", inode);
    while ((pid = g_dir_read_name(proc)) != NULL) {
        if (g_ascii_isdigit(pid[0]) && forward_process_has(pid, link)) {
            g_autofree char *path = g_strdup_printf("/proc/%s/comm", pid);
            g_autofree char *comm = NULL;

            if (!g_file_get_contents(path, &comm, NULL, NULL)) {
                return g_strdup_printf("process %s", pid);
            }
            return g_strdup_printf("process %s (%s)", pid, g_strchomp(comm));
        }
    }
    return NULL;
}

bool net_forward_error(const struct net_forward *f, int error, GError **err)
{
    g_autofree char *text = net_forward_text(f);

    if (error == EADDRINUSE) {
        g_autofree char *owner = forward_owner(f);

        error_set(err, PVEMU_ERROR_HOST, "-p %s: port %u is in use by %s", text, f->host_port,
                  owner != NULL ? owner : "another process");
        error_hint(err, "-p 0:%u%s picks a free port", f->guest_port, f->udp ? "/udp" : "");
    } else if (error == EACCES && f->host_port < 1024) {
        error_set(err, PVEMU_ERROR_HOST, "-p %s: port %u needs privileges", text, f->host_port);
        error_hint(err, "ports from 1024 on are free for all, for example -p %u:%u%s",
                   8000u + f->host_port, f->guest_port, f->udp ? "/udp" : "");
    } else {
        error_set(err, PVEMU_ERROR_HOST, "-p %s: cannot listen: %s", text, g_strerror(error));
    }
    return false;
}

/* A socket bound to where f says; -1 and *error otherwise. */
static int forward_bind(struct net_forward *f, int *error)
{
    struct sockaddr_storage ss;
    socklen_t len = net_forward_sockaddr(f, &ss);
    const int one = 1;
    auto_fd fd = socket(ss.ss_family, (f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        *error = errno;
        return -1;
    }
    if (!f->udp) {
        /* Connections of an earlier listener may linger. */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    if (f->ip6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    /* Two TCP sockets may both bind with SO_REUSEADDR; only listen() tells. */
    if (bind(fd, (struct sockaddr *)&ss, len) < 0 || (!f->udp && listen(fd, 1) < 0) ||
        getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
        *error = errno;
        return -1;
    }
    f->host_port = ntohs(f->ip6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                : ((struct sockaddr_in *)&ss)->sin_port);
    return auto_fd_steal(&fd);
}

bool net_forward_probe(struct net_forward *f, unsigned count, GError **err)
{
    int fds[NET_FORWARD_MAX];
    unsigned held = 0;
    bool ok = true;

    g_assert(count <= NET_FORWARD_MAX);
    /* All are held until the end, or two picked ports could be the same. */
    while (ok && held < count) {
        int error = 0;

        fds[held] = forward_bind(&f[held], &error);
        if (fds[held] < 0) {
            ok = net_forward_error(&f[held], error, err);
        } else {
            held++;
        }
    }
    while (held > 0) {
        close(fds[--held]);
    }
    return ok;
}
