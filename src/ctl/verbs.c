/* SPDX-License-Identifier: MIT */
/* list, pause, unpause, shutdown, destroy. */
#include "ctl/verbs.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto_fd.h"
#include "base/error.h"
#include "base/exit_status.h"
#include "base/report.h"
#include "ctl/runtime_dir.h"

enum { LINE_MAX_BYTES = 256 << 10 };

/* The next line from the socket (caller frees), or NULL at the end, on an error or after 5 s of silence. */
static char *read_line(int fd)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char byte;

    while (line->len < LINE_MAX_BYTES) {
        ssize_t n = recv(fd, &byte, 1, 0);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return NULL;
        }
        if (byte == '\n') {
            return g_string_free(g_steal_pointer(&line), FALSE);
        }
        g_string_append_c(line, byte);
    }
    return NULL;
}

/* Sends a command and returns its "return" object (caller unrefs); events are skipped. */
static JsonObject *ask(int fd, const char *command)
{
    g_autofree char *request = g_strdup_printf("{\"execute\":\"%s\"}\n", command);

    if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) {
        return NULL;
    }
    for (;;) {
        g_autofree char *line = read_line(fd);
        g_autoptr(JsonNode) node = line == NULL ? NULL : json_from_string(line, NULL);
        JsonObject *object;

        if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node)) {
            return NULL;
        }
        object = json_node_get_object(node);
        if (json_object_has_member(object, "return")) {
            return json_object_ref(json_object_get_object_member(object, "return"));
        }
        if (json_object_has_member(object, "error")) {
            return NULL;
        }
    }
}

/* Connected and greeted; -1 otherwise. */
static int guest_open(const char *name)
{
    g_autofree char *path = runtime_socket_path(name);
    auto_fd fd = runtime_connect(path);
    g_autofree char *greeting = fd < 0 ? NULL : read_line(fd);
    g_autoptr(JsonObject) ready = greeting == NULL ? NULL : ask(fd, "qmp_capabilities");

    return ready == NULL ? -1 : auto_fd_steal(&fd);
}

/* The guest meant by `word` (a name or an unambiguous beginning; NULL: the only one). Caller frees. */
static char *guest_choose(const char *word, GError **err)
{
    g_auto(GStrv) names = runtime_names();
    g_autoptr(GString) found = g_string_new(NULL);
    unsigned matches = 0;
    char *choice = NULL;

    for (size_t i = 0; names[i] != NULL; i++) {
        if (word != NULL && strcmp(names[i], word) == 0) {
            g_free(choice);
            return g_strdup(names[i]);
        }
        if (word == NULL || g_str_has_prefix(names[i], word)) {
            matches++;
            g_string_append_printf(found, "%s%s", matches > 1 ? ", " : "", names[i]);
            g_free(choice);
            choice = g_strdup(names[i]);
        }
    }
    if (matches == 1) {
        return choice;
    }
    g_free(choice);
    if (matches > 1) {
        error_set(err, PVEMU_ERROR_USAGE, "which guest? %s", found->str);
    } else if (word != NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "no running guest is called '%s'", word);
        error_hint(err, "`pvemu list` shows the running ones");
    } else {
        error_set(err, PVEMU_ERROR_USAGE, "no guest is running");
    }
    return NULL;
}

static char *uptime_text(gint64 ns)
{
    gint64 s = ns / 1000000000;

    if (s < 60) {
        return g_strdup_printf("%" G_GINT64_FORMAT "s", s);
    }
    if (s < 3600) {
        return g_strdup_printf("%" G_GINT64_FORMAT "m%02" G_GINT64_FORMAT "s", s / 60, s % 60);
    }
    return g_strdup_printf("%" G_GINT64_FORMAT "h%02" G_GINT64_FORMAT "m", s / 3600, s / 60 % 60);
}

static int verb_list(void)
{
    g_auto(GStrv) names = runtime_names();

    printf("%-20s %-8s %-9s %-8s %-5s %-8s %-8s %s\n", "NAME", "PID", "STATE", "MEM", "CPUS", "UPTIME", "ACCEL",
           "KERNEL");
    for (size_t i = 0; names[i] != NULL; i++) {
        auto_fd fd = guest_open(names[i]);
        g_autoptr(JsonObject) o = fd < 0 ? NULL : ask(fd, "query-pvemu");
        g_autofree char *uptime = NULL;
        g_autofree char *memory = NULL;

        if (o == NULL) {
            continue; /* it ended meanwhile */
        }
        uptime = uptime_text(json_object_get_int_member(o, "uptime-ns"));
        memory = g_strdup_printf("%" G_GINT64_FORMAT "M", json_object_get_int_member(o, "memory") >> 20);
        printf("%-20s %-8" G_GINT64_FORMAT " %-9s %-8s %-5" G_GINT64_FORMAT " %-8s %-8s %s\n", names[i],
               json_object_get_int_member(o, "pid"), json_object_get_string_member(o, "status"), memory,
               json_object_get_int_member(o, "cpus"), uptime, json_object_get_string_member(o, "accel"),
               json_object_get_string_member(o, "kernel"));
    }
    return EXIT_STATUS_OK;
}

/* Until the guest's socket closes: its process is gone or on its way. */
static void wait_for_end(int fd)
{
    struct timeval forever = {0};
    char *line;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
    while ((line = read_line(fd)) != NULL) {
        g_free(line);
    }
}

static int verb_command(const char *verb, const char *command, const char *word, bool wait)
{
    GError *err = NULL;
    g_autofree char *name = guest_choose(word, &err);
    g_autoptr(JsonObject) answer = NULL;
    auto_fd fd = -1;

    if (name == NULL) {
        report_gerror(err);
        g_error_free(err);
        return EXIT_STATUS_CANNOT_RUN;
    }
    fd = guest_open(name);
    answer = fd < 0 ? NULL : ask(fd, command);
    if (answer == NULL) {
        report_error("%s: guest '%s' does not answer", verb, name);
        return EXIT_STATUS_CANNOT_RUN;
    }
    if (wait) {
        wait_for_end(fd);
    }
    return EXIT_STATUS_OK;
}

bool verbs_run(int argc, char *const *argv, int *status)
{
    static const struct {
        const char *verb, *command;
    } table[] = {{"pause", "stop"}, {"unpause", "cont"}, {"shutdown", "system_powerdown"}, {"destroy", "quit"}};
    const char *word = NULL;
    bool wait = false;

    if (strcmp(argv[1], "list") == 0) {
        *status = verb_list();
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (strcmp(argv[1], table[i].verb) != 0) {
            continue;
        }
        for (int a = 2; a < argc; a++) {
            if (strcmp(argv[a], "-w") == 0 && strcmp(argv[1], "shutdown") == 0) {
                wait = true;
            } else if (argv[a][0] == '-' || word != NULL) {
                report_error("%s: '%s' is too much; it takes one guest", argv[1], argv[a]);
                *status = EXIT_STATUS_CANNOT_RUN;
                return true;
            } else {
                word = argv[a];
            }
        }
        *status = verb_command(argv[1], table[i].command, word, wait);
        return true;
    }
    return false;
}
