/* SPDX-License-Identifier: MIT */
/*
 * The control socket's server. A client can do what its owner could do with signals, so the
 * protection is the folder (0700), the socket (0600) and the peer's user id. Everything a
 * client can grow is bounded: number of clients, line length, output not yet read.
 *
 * A client that is done is only marked (`closing`) and freed by control_reap() at the end of a
 * callback: a command of one client may send events to all, itself included.
 */
#include "ctl/control.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"
#include "ctl/control_commands.h"
#include "ctl/qmp.h"
#include "ctl/runtime_dir.h"

enum {
    MAX_CLIENTS = 32, MAX_LINE = 64 << 10, MAX_OUTPUT = 256 << 10, READ_CHUNK = 4096,
    NAME_MAX_LEN = 40, NAME_TRIES = 1000,
};

struct client {
    struct control *control;
    int fd;
    GString *in, *out;
    GSource *in_source, *out_source;
    bool capable; /* qmp_capabilities was done */
    bool closing;
};

struct control {
    struct session *session;
    GMainContext *context;
    char *name, *path;
    int fd;
    GSource *source;
    GPtrArray *clients;
};

static GSource *control_watch(struct control *c, int fd, GIOCondition condition,
                              GUnixFDSourceFunc fn, gpointer data)
{
    GSource *source = g_unix_fd_source_new(fd, condition);

    g_source_set_callback(source, G_SOURCE_FUNC(fn), data, NULL);
    g_source_attach(source, c->context);
    return source;
}

static void control_unwatch(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_clear_pointer(source, g_source_unref);
    }
}

/* --- clients --- */

static void client_free(gpointer data)
{
    struct client *c = data;

    control_unwatch(&c->in_source);
    control_unwatch(&c->out_source);
    close(c->fd);
    g_string_free(c->in, TRUE);
    g_string_free(c->out, TRUE);
    g_free(c);
}

static void client_close(struct client *c)
{
    c->closing = true;
    control_unwatch(&c->in_source);
    control_unwatch(&c->out_source);
}

static void control_reap(struct control *c)
{
    for (guint i = c->clients->len; i-- > 0;) {
        const struct client *client = g_ptr_array_index(c->clients, i);

        if (client->closing) {
            g_ptr_array_remove_index(c->clients, i);
        }
    }
}

/* --- output --- */

static gboolean client_writable(gint fd, GIOCondition condition, gpointer data);

/* Sends what the socket takes; the rest goes when there is room. */
static void client_flush(struct client *c)
{
    while (c->out->len > 0 && !c->closing) {
        ssize_t n = send(c->fd, c->out->str, c->out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0) {
            g_string_erase(c->out, 0, n);
        } else if (errno != EINTR) {
            break;
        }
    }
    if (c->out->len == 0 || c->closing) {
        control_unwatch(&c->out_source);
    } else if ((errno != EAGAIN && errno != EWOULDBLOCK) || c->out->len > MAX_OUTPUT) {
        client_close(c);
    } else if (c->out_source == NULL) {
        c->out_source = control_watch(c->control, c->fd, G_IO_OUT | G_IO_HUP | G_IO_ERR,
                                      client_writable, c);
    }
}

static gboolean client_writable(gint fd, GIOCondition condition, gpointer data)
{
    struct client *c = data;
    struct control *control = c->control;

    (void)fd, (void)condition;
    client_flush(c);
    control_reap(control);
    return G_SOURCE_CONTINUE; /* destroyed when all was sent */
}

void control_event(struct control *c, const char *event, const char *data)
{
    for (guint i = 0; c != NULL && i < c->clients->len; i++) {
        struct client *client = g_ptr_array_index(c->clients, i);

        if (client->capable && !client->closing) {
            qmp_put_event(client->out, event, data);
            client_flush(client);
        }
    }
}

void control_state_changed(struct control *c, enum machine_run_state state)
{
    if (state == MACHINE_RUNNING) {
        control_event(c, "RESUME", NULL);
    } else if (state == MACHINE_PAUSED) {
        control_event(c, "STOP", NULL);
    }
}

/* --- input --- */

static void client_negotiate(struct client *c, const JsonNode *id)
{
    if (c->capable) {
        qmp_put_error(c->out, "CommandNotFound", "the capabilities are negotiated already", id);
        return;
    }
    c->capable = true;
    qmp_put_return(c->out, qmp_object(), id);
}

static void client_command(struct client *c, const struct qmp_request *request)
{
    const struct control_target target = {c->control->session, c->control->name,
                                          request->arguments};
    const char *class = NULL, *why = NULL;
    JsonNode *value;

    if (strcmp(request->command, "qmp_capabilities") == 0) {
        client_negotiate(c, request->id);
        return;
    }
    if (!c->capable) {
        qmp_put_error(c->out, "CommandNotFound",
                      "expecting capabilities negotiation with 'qmp_capabilities'",
                      request->id);
        return;
    }
    value = control_command(&target, request->command, &class, &why);
    if (value != NULL) {
        qmp_put_return(c->out, value, request->id);
    } else {
        qmp_put_error(c->out, class, why, request->id);
    }
}

static void client_line(struct client *c, const char *line, size_t len)
{
    struct qmp_request request;
    const char *error;

    if (qmp_parse(line, len, &request, &error)) {
        client_command(c, &request);
    } else {
        qmp_put_error(c->out, "GenericError", error, request.id);
    }
    qmp_request_clear(&request);
}

static bool is_blank(const char *line, size_t len)
{
    return strspn(line, " \t\r") >= len;
}

/* Answers the complete lines in c->in. */
static void client_lines(struct client *c)
{
    size_t start = 0;
    const char *end;

    while (!c->closing &&
           (end = memchr(c->in->str + start, '\n', c->in->len - start)) != NULL) {
        size_t len = (size_t)(end - c->in->str) - start;

        if (!is_blank(c->in->str + start, len)) {
            client_line(c, c->in->str + start, len);
            client_flush(c);
        }
        start += len + 1;
    }
    g_string_erase(c->in, 0, (gssize)start);
    if (c->in->len > MAX_LINE && !c->closing) {
        qmp_put_error(c->out, "GenericError", "the line is too long", NULL);
        client_flush(c);
        client_close(c);
    }
}

static gboolean client_readable(gint fd, GIOCondition condition, gpointer data)
{
    struct client *c = data;
    struct control *control = c->control;
    char buf[READ_CHUNK];
    ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    (void)condition;
    if (n > 0) {
        g_string_append_len(c->in, buf, n);
        client_lines(c);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        client_close(c);
    }
    control_reap(control);
    return G_SOURCE_CONTINUE; /* destroyed with the client */
}

static bool peer_is_owner(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == getuid() || peer.uid == 0);
}

static gboolean control_accept(gint fd, GIOCondition condition, gpointer data)
{
    struct control *c = data;
    int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client;

    (void)condition;
    if (client_fd < 0) {
        return G_SOURCE_CONTINUE;
    }
    control_reap(c);
    if (c->clients->len >= MAX_CLIENTS || !peer_is_owner(client_fd)) {
        close(client_fd);
        return G_SOURCE_CONTINUE;
    }
    client = g_new0(struct client, 1);
    client->control = c;
    client->fd = client_fd;
    client->in = g_string_new(NULL);
    client->out = g_string_new(NULL);
    client->in_source = control_watch(c, client_fd, G_IO_IN | G_IO_HUP | G_IO_ERR,
                                      client_readable, client);
    g_ptr_array_add(c->clients, client);
    qmp_put_greeting(client->out);
    client_flush(client);
    return G_SOURCE_CONTINUE;
}

/* --- the socket --- */

/* A name from the kernel's file: letters, digits and a few marks. */
static char *control_base_name(const struct config *config)
{
    g_autofree char *base = g_path_get_basename(config->kernel);
    char *name = g_strndup(base, NAME_MAX_LEN);

    g_strcanon(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", '-');
    if (*name == '\0' || *name == '.' || *name == '-') {
        g_free(name);
        name = g_strdup("guest");
    }
    return name;
}

/* 0, or errno. */
static int control_listen(struct control *c, char *name)
{
    g_free(c->name);
    c->name = name;
    c->path = runtime_socket_path(name);
    c->fd = runtime_listen(c->path, MAX_CLIENTS);
    if (c->fd < 0) {
        int why = errno;

        if (why != EADDRINUSE) {
            report_note("no control socket: cannot make '%s': %s", c->path, g_strerror(why));
        }
        g_clear_pointer(&c->path, g_free);
        return why;
    }
    c->source = control_watch(c, c->fd, G_IO_IN, control_accept, c);
    return 0;
}

/* false: the name that was asked for is taken. Without a socket it is true too. */
static bool control_take_name(struct control *c, const struct config *config, GError **err)
{
    g_autofree char *base = NULL;

    if (config->name != NULL) {
        if (control_listen(c, g_strdup(config->name)) == EADDRINUSE) {
            error_set(err, PVEMU_ERROR_HOST, "a guest named '%s' is running already",
                      config->name);
            error_hint(err, "choose another -name; `pvemu list` shows the running guests");
            return false;
        }
        return true;
    }
    base = control_base_name(config);
    for (unsigned i = 1; i <= NAME_TRIES; i++) {
        if (control_listen(c, g_strdup_printf("%s-%u", base, i)) != EADDRINUSE) {
            break;
        }
    }
    return true;
}

struct control *control_new(struct session *session, const struct config *config,
                            GMainContext *context, GError **err)
{
    struct control *c = g_new0(struct control, 1);
    g_autofree char *dir = runtime_dir();
    g_autoptr(GError) why = NULL;

    c->session = session;
    c->context = context;
    c->fd = -1;
    c->clients = g_ptr_array_new_with_free_func(client_free);
    if (!runtime_dir_make(dir, &why)) {
        report_note("no control socket: %s", why->message);
        return c;
    }
    if (!control_take_name(c, config, err)) {
        control_free(c);
        return NULL;
    }
    return c;
}

void control_free(struct control *c)
{
    if (c == NULL) {
        return;
    }
    control_unwatch(&c->source);
    g_ptr_array_unref(c->clients);
    if (c->fd >= 0) {
        unlink(c->path); /* while we listen: the name cannot be another guest's yet */
        close(c->fd);
    }
    g_free(c->name);
    g_free(c->path);
    g_free(c);
}
