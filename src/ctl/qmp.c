/* SPDX-License-Identifier: MIT */
/* Framing of the control socket (QEMU docs/interop/qmp-spec.rst), over json-glib. */
#include "ctl/qmp.h"

#include <string.h>

enum { MAX_DEPTH = 16 };

/* What may stand outside strings. json-glib also takes comments and other quotes: not here. */
static bool qmp_is_plain(char c)
{
    return g_ascii_isalnum(c) || (c != '\0' && strchr(" \t\r{}[],:+-.\"", c) != NULL);
}

/*
 * json-glib reads nested values recursively and without a limit, so a line of brackets would
 * eat the stack. What is wrong otherwise is its own business.
 */
static bool qmp_is_flat(const char *line, size_t len)
{
    bool string = false;
    unsigned depth = 0;

    for (size_t i = 0; i < len; i++) {
        if (string) {
            string = line[i] != '"';
            i += line[i] == '\\';
            continue;
        }
        string = line[i] == '"';
        depth += line[i] == '{' || line[i] == '[';
        depth -= (line[i] == '}' || line[i] == ']') && depth > 0;
        if (depth > MAX_DEPTH || !qmp_is_plain(line[i])) {
            return false;
        }
    }
    return true;
}

static JsonNode *qmp_read_line(const char *line, size_t len, const char **error)
{
    g_autofree char *copy = g_strndup(line, len);
    JsonNode *node;

    *error = "a request is one line of JSON: {\"execute\": \"COMMAND\"}";
    if (memchr(line, '\0', len) != NULL || !g_utf8_validate(line, (gssize)len, NULL)) {
        *error = "the line is not UTF-8 text";
        return NULL;
    }
    if (!qmp_is_flat(line, len)) {
        *error = "the line is not JSON, or nested too deep";
        return NULL;
    }
    node = json_from_string(copy, NULL);
    if (node != NULL && !JSON_NODE_HOLDS_OBJECT(node)) {
        g_clear_pointer(&node, json_node_unref);
    }
    return node;
}

bool qmp_parse(const char *line, size_t len, struct qmp_request *request, const char **error)
{
    g_autoptr(JsonNode) node = qmp_read_line(line, len, error);
    JsonNode *execute, *arguments, *id;

    memset(request, 0, sizeof(*request));
    if (node == NULL) {
        return false;
    }
    id = json_object_get_member(json_node_get_object(node), "id");
    execute = json_object_get_member(json_node_get_object(node), "execute");
    arguments = json_object_get_member(json_node_get_object(node), "arguments");
    request->id = id != NULL ? json_node_copy(id) : NULL;
    if (execute == NULL || !JSON_NODE_HOLDS_VALUE(execute) ||
        json_node_get_value_type(execute) != G_TYPE_STRING) {
        return false;
    }
    request->command = g_strdup(json_node_get_string(execute));
    if (arguments != NULL && JSON_NODE_HOLDS_OBJECT(arguments)) {
        request->arguments = json_object_ref(json_node_get_object(arguments));
    }
    return true;
}

void qmp_request_clear(struct qmp_request *request)
{
    g_clear_pointer(&request->command, g_free);
    g_clear_pointer(&request->arguments, json_object_unref);
    g_clear_pointer(&request->id, json_node_unref);
}

JsonNode *qmp_object(void)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, json_object_new());
    return node;
}

static void qmp_put(GString *out, JsonNode *node)
{
    g_autofree char *text = json_to_string(node, FALSE);

    g_string_append(out, text);
    g_string_append(out, "\r\n");
}

/* {"KEY": value, "id": id}; takes value. */
static void qmp_put_answer(GString *out, const char *key, JsonNode *value, const JsonNode *id)
{
    g_autoptr(JsonNode) root = qmp_object();
    JsonObject *object = json_node_get_object(root);

    json_object_set_member(object, key, value);
    if (id != NULL) {
        json_object_set_member(object, "id", json_node_copy((JsonNode *)id));
    }
    qmp_put(out, root);
}

void qmp_put_return(GString *out, JsonNode *value, const JsonNode *id)
{
    qmp_put_answer(out, "return", value, id);
}

void qmp_put_error(GString *out, const char *class, const char *text, const JsonNode *id)
{
    JsonNode *node = qmp_object();

    json_object_set_string_member(json_node_get_object(node), "class", class);
    json_object_set_string_member(json_node_get_object(node), "desc", text);
    qmp_put_answer(out, "error", node, id);
}

void qmp_put_greeting(GString *out)
{
    g_string_append(out, "{\"QMP\":{\"version\":{"
                         "\"qemu\":{\"major\":0,\"minor\":0,\"micro\":0},"
                         "\"package\":\"pvemu\"},\"capabilities\":[]}}\r\n");
}

void qmp_put_event(GString *out, const char *event, const char *data)
{
    gint64 now = g_get_real_time();

    g_string_append_printf(out, "{\"event\":\"%s\",", event);
    if (data != NULL) {
        g_string_append_printf(out, "\"data\":%s,", data);
    }
    g_string_append_printf(out, "\"timestamp\":{\"seconds\":%" G_GINT64_FORMAT
                                ",\"microseconds\":%" G_GINT64_FORMAT "}}\r\n",
                           now / G_USEC_PER_SEC, now % G_USEC_PER_SEC);
}
