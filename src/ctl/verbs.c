/* SPDX-License-Identifier: MIT */
/* list, pause, suspend, shutdown, destroy and others: thin clients of the control socket. */
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
#include "base/options.h"
#include "base/report.h"
#include "ctl/runtime_dir.h"

enum { LINE_MAX_BYTES = 256 << 10, DESTROY_SECONDS = 20,
       SUSPEND_SECONDS = 90 /* of silence; the guest's pvemu gives up before */ };

/* --- talking to a guest --- */

/* The next line from the socket (caller frees), or NULL at the end, on an error, or after the
 * socket's limit of silence. */
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

/* The object in member `name` of an answer; NULL: it has none. Borrowed. */
static JsonObject *answer_object(JsonObject *answer, const char *name)
{
    JsonNode *node = json_object_get_member(answer, name);

    return node != NULL && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

/* Sends a command and returns its "return" object (caller unrefs); events are skipped. NULL and
 * in *why what the guest says against it, or NULL when it says nothing (caller frees). */
static JsonObject *ask(int fd, const char *command, const char *arguments, char **why)
{
    g_autofree char *request =
        g_strdup_printf("{\"execute\":\"%s\",\"arguments\":%s}\n", command,
                        arguments != NULL ? arguments : "{}");

    *why = NULL;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) {
        return NULL;
    }
    for (;;) {
        g_autofree char *line = read_line(fd);
        g_autoptr(JsonNode) node = line == NULL ? NULL : json_from_string(line, NULL);
        JsonObject *value, *error;

        if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node)) {
            return NULL;
        }
        value = answer_object(json_node_get_object(node), "return");
        error = answer_object(json_node_get_object(node), "error");
        if (value != NULL) {
            return json_object_ref(value);
        }
        if (error != NULL) {
            *why = g_strdup(json_object_get_string_member_with_default(error, "desc", ""));
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
    g_autofree char *why = NULL;
    g_autoptr(JsonObject) ready = greeting == NULL ? NULL : ask(fd, "qmp_capabilities", NULL, &why);

    return ready == NULL ? -1 : auto_fd_steal(&fd);
}

/* The guest meant by `word` (a name or an unambiguous beginning of one; NULL: the only one).
 * Caller frees. */
static char *guest_choose(const char *word, GError **err)
{
    g_auto(GStrv) names = runtime_names();
    g_autoptr(GString) found = g_string_new(NULL);
    g_autofree char *choice = NULL;
    unsigned matches = 0;

    for (size_t i = 0; names[i] != NULL; i++) {
        if (g_strcmp0(names[i], word) == 0) {
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
        return g_steal_pointer(&choice);
    }
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

/* --- list --- */

static char *uptime_text(gint64 ns)
{
    int s = (int)MIN(ns / 1000000000, G_MAXINT);

    if (s < 60) {
        return g_strdup_printf("%ds", s);
    }
    if (s < 3600) {
        return g_strdup_printf("%dm%02ds", s / 60, s % 60);
    }
    return g_strdup_printf("%dh%02dm", s / 3600, s / 60 % 60);
}

static const char *text_of(JsonObject *o, const char *member)
{
    return json_object_get_string_member_with_default(o, member, "-");
}

static gint64 number_of(JsonObject *o, const char *member)
{
    return json_object_get_int_member_with_default(o, member, 0);
}

static void print_guest(const char *name, JsonObject *o)
{
    g_autofree char *uptime = uptime_text(number_of(o, "uptime-ns"));
    g_autofree char *memory =
        g_strdup_printf("%" G_GINT64_FORMAT "M", number_of(o, "memory") >> 20);

    printf("%-20s %-8d %-14s %-8s %-5d %-8s %-8s %s\n", name, (int)number_of(o, "pid"),
           text_of(o, "status"), memory, (int)number_of(o, "cpus"), uptime, text_of(o, "accel"),
           text_of(o, "kernel"));
}

static int verb_list(void)
{
    g_auto(GStrv) names = runtime_names();

    printf("%-20s %-8s %-14s %-8s %-5s %-8s %-8s %s\n", "NAME", "PID", "STATE", "MEM", "CPUS",
           "UPTIME", "ACCEL", "KERNEL");
    for (size_t i = 0; names[i] != NULL; i++) {
        auto_fd fd = guest_open(names[i]);
        g_autofree char *why = NULL;
        g_autoptr(JsonObject) o = fd < 0 ? NULL : ask(fd, "query-pvemu", NULL, &why);

        if (o != NULL) { /* else it ended meanwhile, or does not answer */
            print_guest(names[i], o);
        }
    }
    return EXIT_STATUS_OK;
}

/* --- pause, unpause, shutdown, destroy --- */

struct verb_command {
    const char *verb, *command;
    bool may_wait;  /* takes -w */
    int wait;       /* seconds to wait for the guest's end in any case */
    const char *arguments; /* of the command, as JSON; NULL: none */
};

static const struct verb_command verb_commands[] = {
    {"pause", "stop", false, 0, NULL},
    {"stats", "query-stats", false, 0, NULL},
    {"unpause", "cont", false, 0, NULL},
    {"shutdown", "system_powerdown", true, 0, NULL},
    {"destroy", "quit", false, DESTROY_SECONDS, NULL},
};

/* Until the guest's socket closes: its process is gone or on its way. seconds 0: for ever. */
static void wait_for_end(int fd, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    char *line;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while ((line = read_line(fd)) != NULL) {
        g_free(line);
    }
}

static int verb_fail(GError *err)
{
    report_gerror(err);
    g_error_free(err);
    return EXIT_STATUS_CANNOT_RUN;
}

static int verb_refused(const char *verb, const char *name, const char *why)
{
    GError *err = NULL;

    error_set(&err, PVEMU_ERROR_HOST, "cannot %s guest '%s': %s", verb, name,
              why != NULL ? why : "it does not answer");
    return verb_fail(err);
}

static int verb_command(const struct verb_command *v, const char *word, bool wait)
{
    GError *err = NULL;
    g_autofree char *name = guest_choose(word, &err);
    g_autofree char *why = NULL;
    g_autoptr(JsonObject) answer = NULL;
    auto_fd fd = -1;

    if (name == NULL) {
        return verb_fail(err);
    }
    fd = guest_open(name);
    answer = fd < 0 ? NULL : ask(fd, v->command, v->arguments, &why);
    if (answer == NULL) {
        return verb_refused(v->verb, name, why);
    }
    if (json_object_has_member(answer, "text")) {
        fputs(text_of(answer, "text"), stdout);
    }
    if (wait || v->wait > 0) {
        wait_for_end(fd, v->wait);
    }
    return EXIT_STATUS_OK;
}

static int verb_parse(const struct verb_command *v, int argc, char *const *argv)
{
    const char *word = NULL;
    bool wait = false;

    for (int a = 2; a < argc; a++) {
        if (v->may_wait && strcmp(argv[a], "-w") == 0) {
            wait = true;
        } else if (argv[a][0] == '-') {
            report_error("%s: unknown option '%s'", v->verb, argv[a]);
            return EXIT_STATUS_CANNOT_RUN;
        } else if (word != NULL) {
            report_error("%s: '%s' is too much; it takes one guest", v->verb, argv[a]);
            return EXIT_STATUS_CANNOT_RUN;
        } else {
            word = argv[a];
        }
    }
    return verb_command(v, word, wait);
}

/* --- suspend, resume --- */

/* What the guest made of the request: NULL, or why it is not suspended (caller frees). */
static char *wait_for_suspend(int fd)
{
    struct timeval limit = {.tv_sec = SUSPEND_SECONDS};
    char *line;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    while ((line = read_line(fd)) != NULL) {
        g_autofree char *owned = line;
        g_autoptr(JsonNode) node = json_from_string(owned, NULL);
        const bool good = node != NULL && JSON_NODE_HOLDS_OBJECT(node);
        JsonObject *o = good ? json_node_get_object(node) : NULL;
        JsonObject *data = good ? answer_object(o, "data") : NULL;
        const char *event = good ? text_of(o, "event") : "";

        if (strcmp(event, "SUSPEND") == 0) {
            return NULL;
        }
        if (strcmp(event, "SUSPEND_FAILED") == 0) {
            return g_strdup(data != NULL ? text_of(data, "reason") : "it did not");
        }
        if (strcmp(event, "SHUTDOWN") == 0) {
            break;
        }
    }
    return g_strdup("it has ended, or does not answer");
}

/* suspend [VM] */
static int verb_suspend(const char *word)
{
    GError *err = NULL;
    g_autofree char *name = guest_choose(word, &err);
    g_autofree char *why = NULL;
    g_autoptr(JsonObject) answer = NULL;
    auto_fd fd = -1;

    if (name == NULL) {
        return verb_fail(err);
    }
    fd = guest_open(name);
    answer = fd < 0 ? NULL : ask(fd, "suspend", NULL, &why);
    if (answer != NULL) {
        why = wait_for_suspend(fd);
        if (why == NULL) {
            return EXIT_STATUS_OK;
        }
    }
    return verb_refused("suspend", name, why);
}

/* suspend [VM]; resume [-cancel] [VM] */
static int verb_sleep(int argc, char *const *argv)
{
    const bool resume = strcmp(argv[1], "resume") == 0;
    struct verb_command v = {"resume", "system_wakeup", false, 0, NULL};
    const char *word = NULL;

    for (int a = 2; a < argc; a++) {
        if (resume && strcmp(argv[a], "-cancel") == 0) {
            v.arguments = "{\"cancel\":true}";
        } else if (argv[a][0] == '-') {
            report_error("%s: unknown option '%s'", argv[1], argv[a]);
            return EXIT_STATUS_CANNOT_RUN;
        } else if (word != NULL) {
            report_error("%s: '%s' is too much; it takes one guest", argv[1], argv[a]);
            return EXIT_STATUS_CANNOT_RUN;
        } else {
            word = argv[a];
        }
    }
    return resume ? verb_command(&v, word, false) : verb_suspend(word);
}

/* accel [VM] ENGINE */
static int verb_accel(int argc, char *const *argv)
{
    g_autofree char *command = NULL;
    struct verb_command v = {"change the engine of", NULL, false, 0, NULL};
    const char *word = argc > 2 ? argv[argc - 1] : "";

    if (argc > 4 || (strcmp(word, "kvm") != 0 && strcmp(word, "bt") != 0 &&
                     strcmp(word, "interp") != 0)) {
        report_error("accel: it takes a guest and one of: kvm bt interp");
        report_hint("`pvemu accel bt`; with several guests `pvemu accel GUEST bt`");
        return EXIT_STATUS_CANNOT_RUN;
    }
    v.command = command = g_strdup_printf("accel-%s", word);
    return verb_command(&v, argc == 4 ? argv[2] : NULL, false);
}

/* vcpu-set [VM] N */
static int verb_vcpu_set(int argc, char *const *argv)
{
    g_autofree char *arguments = NULL;
    struct verb_command v = {"change the CPUs of", "vcpu-set", false, 0, NULL};
    guint64 n;

    if (argc < 3 || argc > 4 ||
        !g_ascii_string_to_unsigned(argv[argc - 1], 10, 1, G_MAXINT, &n, NULL)) {
        report_error("vcpu-set: it takes a guest and a number of CPUs");
        return EXIT_STATUS_CANNOT_RUN;
    }
    v.arguments = arguments = g_strdup_printf("{\"cpus\":%u}", (unsigned)n);
    return verb_command(&v, argc == 4 ? argv[2] : NULL, false);
}

/* mem-set [VM] SIZE */
static int verb_mem_set(int argc, char *const *argv)
{
    g_autofree char *arguments = NULL;
    struct verb_command v = {"change the memory of", "balloon", false, 0, NULL};
    uint64_t bytes;

    if (argc < 3 || argc > 4 || !options_parse_size(argv[argc - 1], &bytes) ||
        bytes > G_MAXINT64) {
        report_error("mem-set: it takes a guest and a size like 512M");
        return EXIT_STATUS_CANNOT_RUN;
    }
    v.arguments = arguments = g_strdup_printf("{\"value\":%" G_GUINT64_FORMAT "}", bytes);
    return verb_command(&v, argc == 4 ? argv[2] : NULL, false);
}

bool verbs_run(int argc, char *const *argv, int *status)
{
    if (strcmp(argv[1], "suspend") == 0 || strcmp(argv[1], "resume") == 0) {
        *status = verb_sleep(argc, argv);
        return true;
    }
    if (strcmp(argv[1], "mem-set") == 0) {
        *status = verb_mem_set(argc, argv);
        return true;
    }
    if (strcmp(argv[1], "vcpu-set") == 0) {
        *status = verb_vcpu_set(argc, argv);
        return true;
    }
    if (strcmp(argv[1], "accel") == 0) {
        *status = verb_accel(argc, argv);
        return true;
    }
    if (strcmp(argv[1], "list") == 0) {
        if (argc > 2) {
            report_error("list: '%s' is too much; it takes nothing", argv[2]);
        }
        *status = argc > 2 ? EXIT_STATUS_CANNOT_RUN : verb_list();
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(verb_commands); i++) {
        if (strcmp(argv[1], verb_commands[i].verb) == 0) {
            *status = verb_parse(&verb_commands[i], argc, argv);
            return true;
        }
    }
    return false;
}
