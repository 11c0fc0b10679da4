/* SPDX-License-Identifier: MIT */
/*
 * The commands of the control socket: a subset of QMP under its own names, and query-pvemu for
 * `pvemu list`. Arguments that a command does not have are ignored.
 */
#include "ctl/control_commands.h"

#include <string.h>
#include <unistd.h>

#include "ctl/qmp.h"
#include "ctl/session.h"

static void put_status(JsonObject *o, struct session *s)
{
    bool running = machine_state(session_machine(s)) == MACHINE_RUNNING;

    json_object_set_boolean_member(o, "running", running);
    json_object_set_string_member(o, "status", session_status(s));
}

static JsonNode *command_status(const struct control_target *t, const char **why)
{
    JsonNode *node = qmp_object();

    (void)why;
    put_status(json_node_get_object(node), t->session);
    return node;
}

static JsonNode *command_name(const struct control_target *t, const char **why)
{
    JsonNode *node = qmp_object();

    (void)why;
    json_object_set_string_member(json_node_get_object(node), "name", t->name);
    return node;
}

static JsonNode *command_pvemu(const struct control_target *t, const char **why)
{
    struct machine *m = session_machine(t->session);
    const struct config *config = session_config(t->session);
    g_autofree char *what = machine_describe(m);
    g_autofree char *kernel = g_utf8_make_valid(config->kernel, -1);
    g_autofree char *described = g_utf8_make_valid(what, -1);
    JsonNode *node = qmp_object();
    JsonObject *o = json_node_get_object(node);
    uint64_t target, actual;

    (void)why;
    put_status(o, t->session);
    json_object_set_string_member(o, "name", t->name);
    json_object_set_int_member(o, "pid", getpid());
    machine_memory(m, &target, &actual);
    json_object_set_int_member(o, "memory", (gint64)target);
    json_object_set_int_member(o, "memory-actual", (gint64)actual);
    json_object_set_int_member(o, "memory-max", (gint64)config->memory_max_bytes);
    json_object_set_int_member(o, "cpus", machine_vcpus(m));
    json_object_set_int_member(o, "cpus-max", config->smp_max);
    json_object_set_int_member(o, "uptime-ns", (gint64)machine_uptime_ns(m));
    json_object_set_string_member(o, "kernel", kernel);
    json_object_set_string_member(o, "accel", machine_accel_name(m));
    json_object_set_string_member(o, "description", described);
    return node;
}

static JsonNode *command_stats(const struct control_target *t, const char **why)
{
    g_autofree char *text = machine_stats(session_machine(t->session));
    JsonNode *node;

    if (text == NULL) {
        *why = "its engine counts nothing";
        return NULL;
    }
    node = qmp_object();
    json_object_set_string_member(json_node_get_object(node), "text", text);
    return node;
}

static JsonNode *command_stop(const struct control_target *t, const char **why)
{
    (void)why;
    machine_pause(session_machine(t->session));
    return qmp_object();
}

static JsonNode *command_cont(const struct control_target *t, const char **why)
{
    *why = session_resume(t->session);
    return *why == NULL ? qmp_object() : NULL;
}

static JsonNode *command_powerdown(const struct control_target *t, const char **why)
{
    *why = session_power_down(t->session);
    return *why == NULL ? qmp_object() : NULL;
}

static JsonNode *command_suspend(const struct control_target *t, const char **why)
{
    *why = session_suspend(t->session);
    return *why == NULL ? qmp_object() : NULL;
}

static bool argument_true(const struct control_target *t, const char *name)
{
    JsonNode *node = t->arguments != NULL ? json_object_get_member(t->arguments, name) : NULL;

    return node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
           json_node_get_value_type(node) == G_TYPE_BOOLEAN && json_node_get_boolean(node);
}

/* QEMU's name for it; the argument is ours. */
static JsonNode *command_wakeup(const struct control_target *t, const char **why)
{
    g_autoptr(GError) err = NULL;

    if (session_wake(t->session, argument_true(t, "cancel"), &err)) {
        return qmp_object();
    }
    *why = g_intern_string(err->message); /* there are few of them */
    return NULL;
}

static JsonNode *command_quit(const struct control_target *t, const char **why)
{
    (void)why;
    session_quit(t->session);
    return qmp_object();
}

static JsonNode *change_engine(const struct control_target *t, const char *word,
                               const char **why)
{
    g_autoptr(GError) err = NULL;

    if (machine_set_accel(session_machine(t->session), word, &err)) {
        return qmp_object();
    }
    *why = g_intern_string(err->message); /* there are few of them */
    return NULL;
}

static JsonNode *command_kvm(const struct control_target *t, const char **why)
{
    return change_engine(t, "kvm", why);
}

static JsonNode *command_bt(const struct control_target *t, const char **why)
{
    return change_engine(t, "bt", why);
}

static JsonNode *command_interp(const struct control_target *t, const char **why)
{
    return change_engine(t, "interp", why);
}

/* An integer argument; -1: there is none. */
static gint64 argument_int(const struct control_target *t, const char *name)
{
    JsonNode *node = t->arguments != NULL ? json_object_get_member(t->arguments, name) : NULL;

    return node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
                   json_node_get_value_type(node) == G_TYPE_INT64
               ? json_node_get_int(node)
               : -1;
}

static JsonNode *command_vcpu_set(const struct control_target *t, const char **why)
{
    gint64 cpus = argument_int(t, "cpus");

    *why = machine_set_vcpus(session_machine(t->session),
                             cpus > 0 && cpus <= G_MAXINT ? (unsigned)cpus : 0);
    return *why == NULL ? qmp_object() : NULL;
}

/* QEMU's name and arguments. */
static JsonNode *command_balloon(const struct control_target *t, const char **why)
{
    gint64 value = argument_int(t, "value");

    *why = machine_set_memory(session_machine(t->session), value > 0 ? (uint64_t)value : 0);
    return *why == NULL ? qmp_object() : NULL;
}

static JsonNode *command_query_balloon(const struct control_target *t, const char **why)
{
    JsonNode *node = qmp_object();
    uint64_t target, actual;

    (void)why;
    machine_memory(session_machine(t->session), &target, &actual);
    json_object_set_int_member(json_node_get_object(node), "actual", (gint64)actual);
    return node;
}

static JsonNode *command_list(const struct control_target *t, const char **why);

static const struct {
    const char *name;
    JsonNode *(*run)(const struct control_target *t, const char **why);
} commands[] = {
    {"query-commands", command_list},
    {"query-status", command_status},
    {"query-name", command_name},
    {"query-pvemu", command_pvemu},
    {"query-stats", command_stats},
    {"stop", command_stop},
    {"cont", command_cont},
    {"system_powerdown", command_powerdown},
    {"suspend", command_suspend},
    {"system_wakeup", command_wakeup},
    {"quit", command_quit},
    {"vcpu-set", command_vcpu_set},
    {"balloon", command_balloon},
    {"query-balloon", command_query_balloon},
    {"accel-kvm", command_kvm},
    {"accel-bt", command_bt},
    {"accel-interp", command_interp},
};

static JsonNode *command_list(const struct control_target *t, const char **why)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *array = json_array_new();

    (void)t, (void)why;
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "name", commands[i].name);
        json_array_add_object_element(array, o);
    }
    json_node_take_array(node, array);
    return node;
}

JsonNode *control_command(const struct control_target *target, const char *command,
                          const char **class, const char **why)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, command) == 0) {
            *class = "GenericError";
            return commands[i].run(target, why);
        }
    }
    *class = "CommandNotFound";
    *why = "no such command; query-commands lists them";
    return NULL;
}
