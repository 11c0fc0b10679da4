/* SPDX-License-Identifier: MIT */
/*
 * The control socket's server. A client can do what its owner could do with signals, so the
 * protection is the folder (0700), the socket (0600) and the peer's user id. Everything a client can grow is bounded:
 * number of clients, line length, output not yet read.
 */
#include "ctl/control.h"

#include <errno.h>
#include <glib-unix.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/report.h"
#include "ctl/runtime_dir.h"
#include "ctl/session.h"

enum { MAX_CLIENTS = 16, MAX_LINE = 64 << 10, MAX_OUTPUT = 256 << 10, NAME_MAX_LEN = 40, NAME_TRIES = 1000 };

struct client {
    struct control *control;
    int fd;
    GString *in, *out;
    GSource *in_source, *out_source;
    bool capable; /* qmp_capabilities was done */
    bool closing; /* to be freed once out is sent */
};

struct control {
    struct session *session;
    const struct config *config;
    GMainContext *context;
    char *name, *path;
    int fd;
    GSource *source;
    GPtrArray *clients;
};

/* --- sending --- */

static void control_unwatch(GSource **source)
{
    if (*source != NULL) {
        g_source_destroy(*source);
        g_source_unref(*source);
        *source = NULL;
    }
}

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

static gboolean client_writable(gint fd, GIOCondition condition, gpointer data);

/* Sends what it can; false when the client is gone (and not yet freed). */
static bool client_flush(struct client *c)
{
    while (c->out->len > 0) {
        ssize_t n = send(c->fd, c->out->str, c->out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            return false;
        }
        if (n < 0) {
            if (c->out_source == NULL) {
                c->out_source = g_unix_fd_source_new(c->fd, G_IO_OUT | G_IO_HUP | G_IO_ERR);
                g_source_set_callback(c->out_source, G_SOURCE_FUNC(client_writable), c, NULL);
                g_source_attach(c->out_source, c->control->context);
            }
            return c->out->len <= MAX_OUTPUT;
        }
        g_string_erase(c->out, 0, n);
    }
    return !c->closing;
}

static gboolean client_writable(gint fd, GIOCondition condition, gpointer data)
{
    struct client *c = data;

    (void)fd, (void)condition;
    control_unwatch(&c->out_source);
    if (!client_flush(c)) {
        g_ptr_array_remove(c->control->clients, c);
    }
    return G_SOURCE_REMOVE;
}

static void client_send(struct client *c, JsonNode *node)
{
    g_autofree char *text = json_to_string(node, FALSE);

    g_string_append(c->out, text);
    g_string_append(c->out, "\r\n");
}

/* {"KEY": value} with the request's id. Takes value and id (may be NULL). */
static void client_answer(struct client *c, const char *key, JsonNode *value, JsonNode *id)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_object_set_member(object, key, value);
    if (id != NULL) {
        json_object_set_member(object, "id", id);
    }
    json_node_take_object(root, object);
    client_send(c, root);
}

static JsonNode *empty_object(void)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, json_object_new());
    return node;
}

static void client_error(struct client *c, const char *class, const char *text, JsonNode *id)
{
    JsonNode *node = empty_object();

    json_object_set_string_member(json_node_get_object(node), "class", class);
    json_object_set_string_member(json_node_get_object(node), "desc", text);
    client_answer(c, "error", node, id);
}

static void client_greet(struct client *c)
{
    g_autoptr(JsonNode) node = json_from_string(
        "{\"QMP\":{\"version\":{\"qemu\":{\"major\":0,\"minor\":0,\"micro\":0},"
        "\"package\":\"pvemu\"},\"capabilities\":[]}}", NULL);

    client_send(c, node);
}

void control_event(struct control *c, const char *event)
{
    gint64 now = g_get_real_time();
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) node = NULL;

    if (c == NULL) {
        return;
    }
    text = g_strdup_printf("{\"event\":\"%s\",\"timestamp\":{\"seconds\":%" G_GINT64_FORMAT
                           ",\"microseconds\":%" G_GINT64_FORMAT "}}",
                           event, now / G_USEC_PER_SEC, now % G_USEC_PER_SEC);
    node = json_from_string(text, NULL);
    for (guint i = c->clients->len; i-- > 0;) {
        struct client *client = g_ptr_array_index(c->clients, i);

        if (client->capable) {
            client_send(client, node);
            if (!client_flush(client)) {
                g_ptr_array_remove_index(c->clients, i);
            }
        }
    }
}

void control_state_changed(struct control *c, enum machine_run_state state)
{
    if (state == MACHINE_RUNNING) {
        control_event(c, "RESUME");
    } else if (state == MACHINE_PAUSED) {
        control_event(c, "STOP");
    }
}

/* --- commands --- */

static struct machine *client_machine(const struct client *c)
{
    return session_machine(c->control->session);
}

static const char *status_word(enum machine_run_state state)
{
    switch (state) {
    case MACHINE_CREATED: return "prelaunch";
    case MACHINE_RUNNING: return "running";
    case MACHINE_PAUSED: return "paused";
    case MACHINE_ENDED:
    default: return "shutdown";
    }
}

static JsonNode *command_status(struct client *c)
{
    JsonNode *node = empty_object();
    JsonObject *o = json_node_get_object(node);
    enum machine_run_state state = machine_state(client_machine(c));

    json_object_set_boolean_member(o, "running", state == MACHINE_RUNNING);
    json_object_set_string_member(o, "status", status_word(state));
    return node;
}

static JsonNode *command_name(struct client *c)
{
    JsonNode *node = empty_object();

    json_object_set_string_member(json_node_get_object(node), "name", c->control->name);
    return node;
}

/* What `pvemu list` shows. */
static JsonNode *command_info(struct client *c)
{
    const struct config *config = c->control->config;
    g_autofree char *what = machine_describe(client_machine(c));
    JsonNode *node = command_status(c);
    JsonObject *o = json_node_get_object(node);

    json_object_set_string_member(o, "name", c->control->name);
    json_object_set_int_member(o, "pid", getpid());
    json_object_set_int_member(o, "memory", (gint64)config->memory_bytes);
    json_object_set_int_member(o, "cpus", config->smp);
    json_object_set_int_member(o, "uptime-ns", (gint64)machine_uptime_ns(client_machine(c)));
    json_object_set_string_member(o, "kernel", config->kernel);
    json_object_set_string_member(o, "accel", machine_accel_name(client_machine(c)));
    json_object_set_string_member(o, "description", what);
    return node;
}

static JsonNode *command_stop(struct client *c)
{
    machine_pause(client_machine(c));
    return empty_object();
}

static JsonNode *command_cont(struct client *c)
{
    machine_resume(client_machine(c));
    return empty_object();
}

static JsonNode *command_powerdown(struct client *c)
{
    machine_request_shutdown(client_machine(c), "poweroff");
    return empty_object();
}

static JsonNode *command_quit(struct client *c)
{
    session_quit(c->control->session);
    return empty_object();
}

static JsonNode *command_capabilities(struct client *c)
{
    c->capable = true;
    return empty_object();
}

static JsonNode *command_list(struct client *c);

static const struct {
    const char *name;
    JsonNode *(*run)(struct client *c);
} commands[] = {
    {"qmp_capabilities", command_capabilities}, {"query-commands", command_list},
    {"query-status", command_status},           {"query-name", command_name},
    {"query-pvemu", command_info},              {"stop", command_stop},
    {"cont", command_cont},                     {"system_powerdown", command_powerdown},
    {"quit", command_quit},
};

static JsonNode *command_list(struct client *c)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *array = json_array_new();

    (void)c;
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", commands[i].name);
        json_array_add_object_element(array, o);
    }
    json_node_take_array(node, array);
    return node;
}

static void client_command(struct client *c, const char *name, JsonNode *id)
{
    if (!c->capable && strcmp(name, "qmp_capabilities") != 0) {
        client_error(c, "CommandNotFound", "expecting capabilities negotiation with 'qmp_capabilities'", id);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            client_answer(c, "return", commands[i].run(c), id);
            return;
        }
    }
    client_error(c, "CommandNotFound", "no such command; query-commands lists them", id);
}

static void client_line(struct client *c, const char *line)
{
    g_autoptr(JsonNode) node = json_from_string(line, NULL);
    JsonNode *execute = NULL, *id = NULL;

    if (node != NULL && JSON_NODE_HOLDS_OBJECT(node)) {
        execute = json_object_get_member(json_node_get_object(node), "execute");
        id = json_object_get_member(json_node_get_object(node), "id");
    }
    if (execute == NULL || json_node_get_value_type(execute) != G_TYPE_STRING) {
        client_error(c, "GenericError", "a request is one line of JSON: {\"execute\": \"COMMAND\"}",
                     id != NULL ? json_node_copy(id) : NULL);
        return;
    }
    client_command(c, json_node_get_string(execute), id != NULL ? json_node_copy(id) : NULL);
}

/* --- clients --- */

static bool client_lines(struct client *c)
{
    char *end;

    while ((end = memchr(c->in->str, '\n', c->in->len)) != NULL) {
        g_autofree char *line = g_strndup(c->in->str, (gsize)(end - c->in->str));

        g_string_erase(c->in, 0, end - c->in->str + 1);
        g_strstrip(line);
        if (*line != '\0' && g_utf8_validate(line, -1, NULL)) {
            client_line(c, line);
        }
    }
    return c->in->len <= MAX_LINE;
}

static gboolean client_readable(gint fd, GIOCondition condition, gpointer data)
{
    struct client *c = data;
    char buf[4096];
    ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

    (void)condition;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return G_SOURCE_CONTINUE;
    }
    if (n > 0) {
        g_string_append_len(c->in, buf, n);
    }
    if (n <= 0 || !client_lines(c) || !client_flush(c)) {
        g_ptr_array_remove(c->control->clients, c); /* frees, and destroys this source */
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
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
    if (c->clients->len >= MAX_CLIENTS || !peer_is_owner(client_fd)) {
        close(client_fd);
        return G_SOURCE_CONTINUE;
    }
    client = g_new0(struct client, 1);
    client->control = c;
    client->fd = client_fd;
    client->in = g_string_new(NULL);
    client->out = g_string_new(NULL);
    client->in_source = g_unix_fd_source_new(client_fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(client->in_source, G_SOURCE_FUNC(client_readable), client, NULL);
    g_source_attach(client->in_source, c->context);
    g_ptr_array_add(c->clients, client);
    client_greet(client);
    if (!client_flush(client)) {
        g_ptr_array_remove(c->clients, client);
    }
    return G_SOURCE_CONTINUE;
}

/* --- the socket --- */

/* -1 and errno; EADDRINUSE when a living guest has the name. */
static int control_bind(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    auto_fd other = -1;

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    other = runtime_connect(path); /* removes a dead one */
    if (other >= 0) {
        errno = EADDRINUSE;
        return -1;
    }
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        chmod(path, 0600) != 0 || listen(fd, MAX_CLIENTS) != 0) {
        return -1;
    }
    return auto_fd_steal(&fd);
}

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

static bool control_listen(struct control *c, GError **err)
{
    g_autofree char *base = c->config->name != NULL ? g_strdup(c->config->name) : control_base_name(c->config);

    for (unsigned i = 1; i <= NAME_TRIES; i++) {
        g_free(c->name);
        g_free(c->path);
        c->name = c->config->name != NULL ? g_strdup(base) : g_strdup_printf("%s-%u", base, i);
        c->path = runtime_socket_path(c->name);
        c->fd = control_bind(c->path);
        if (c->fd >= 0) {
            return true;
        }
        if (errno != EADDRINUSE) {
            report_note("no control socket: cannot make '%s': %s", c->path, g_strerror(errno));
            g_clear_pointer(&c->path, g_free);
            return true;
        }
        if (c->config->name != NULL) {
            g_clear_pointer(&c->path, g_free);
            return error_set(err, PVEMU_ERROR_HOST, "a guest named '%s' is running already", base);
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
    c->config = config;
    c->context = context;
    c->fd = -1;
    c->clients = g_ptr_array_new_with_free_func(client_free);
    if (!runtime_dir_make(dir, &why)) {
        report_note("no control socket: %s", why->message);
        c->name = config->name != NULL ? g_strdup(config->name) : control_base_name(config);
        return c;
    }
    if (!control_listen(c, err)) {
        control_free(c);
        return NULL;
    }
    if (c->fd >= 0) {
        c->source = g_unix_fd_source_new(c->fd, G_IO_IN);
        g_source_set_callback(c->source, G_SOURCE_FUNC(control_accept), c, NULL);
        g_source_attach(c->source, context);
    }
    return c;
}

void control_free(struct control *c)
{
    if (c == NULL) {
        return;
    }
    control_event(c, "SHUTDOWN");
    control_unwatch(&c->source);
    g_ptr_array_unref(c->clients);
    if (c->fd >= 0) {
        close(c->fd);
        unlink(c->path);
    }
    g_free(c->name);
    g_free(c->path);
    g_free(c);
}

const char *control_name(const struct control *c)
{
    return c->name;
}
