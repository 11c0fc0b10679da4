/* SPDX-License-Identifier: MIT */
/* Framing of the control socket. */
#include <glib.h>
#include <string.h>

#include "ctl/qmp.h"

static void check_good(const char *line, const char *command, const char *id)
{
    struct qmp_request request;
    const char *error;
    g_autofree char *id_text = NULL;

    g_assert_true(qmp_parse(line, strlen(line), &request, &error));
    g_assert_cmpstr(request.command, ==, command);
    id_text = request.id == NULL ? NULL : json_to_string(request.id, FALSE);
    g_assert_cmpstr(id_text, ==, id);
    qmp_request_clear(&request);
}

static void test_good(void)
{
    check_good("{\"execute\":\"stop\"}", "stop", NULL);
    check_good("{ \"execute\" : \"stop\", \"arguments\": {\"a\": [1, {}]}, \"id\": 7 }\r",
               "stop", "7");
    check_good("{\"id\":{\"a\":[\"}{][\\\"\"]},\"execute\":\"x\"}", "x",
               "{\"a\":[\"}{][\\\"\"]}");
    check_good("{\"execute\":\"\"}", "", NULL);
    check_good("{\"execute\":\"x\",\"arguments\":[1]}", "x", NULL);
    check_good("{\"execute\":\"stop\",\"id\":null}", "stop", "null");
}

static void check_bad(const char *line, size_t len)
{
    struct qmp_request request;
    const char *error = NULL;

    g_test_message("%zu bytes", len);
    g_assert_false(qmp_parse(line, len, &request, &error));
    g_assert_nonnull(error);
    g_assert_null(request.command);
    qmp_request_clear(&request);
}

static void test_bad(void)
{
    static const char *const lines[] = {
        "", "x", "{", "}", "[]", "null", "7", "\"execute\"", "{\"execute\"}", "{\"execute\":7}",
        "{\"execute\":null}", "{\"execute\":{}}", "{\"execute\":[\"stop\"]}", "{}",
        "{\"execute\":\"stop\"", "{\"execute\":\"stop\"}}", "{'execute':'stop'}",
        "/* */ {\"execute\":\"stop\"}", "var x = {\"execute\":\"stop\"};",
        "{\"execute\":\"a\xff\"}", "{\"execute\":\"stop", "{\"execute\":\"stop\\",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        check_bad(lines[i], strlen(lines[i]));
    }
    check_bad("{\"execute\":\"stop\"}\0{", 20);
}

/* Deeper than the stack would hold, behind every disguise. */
static void test_deep(void)
{
    static const char *const starts[] = {"", "{\"a\":", "/*\"*/", "\"\\\"\"", "'\"'", "#\"\n"};

    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        g_autofree char *brackets = g_strnfill(4000000, i % 2 == 0 ? '[' : '{');
        g_autofree char *line = g_strconcat(starts[i], brackets, NULL);

        check_bad(line, strlen(line));
    }
}

static void check_json(const GString *out, const char *member)
{
    g_autoptr(JsonNode) node = json_from_string(out->str, NULL);

    g_assert_true(g_str_has_suffix(out->str, "}\r\n"));
    g_assert_null(memchr(out->str, '\n', out->len - 1));
    g_assert_nonnull(node);
    g_assert_true(json_object_has_member(json_node_get_object(node), member));
}

static void test_output(void)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(JsonNode) id = json_from_string("\"a\\n\\\"b\"", NULL);

    qmp_put_greeting(out);
    check_json(out, "QMP");
    g_string_truncate(out, 0);
    qmp_put_return(out, qmp_object(), id);
    g_assert_cmpstr(out->str, ==, "{\"return\":{},\"id\":\"a\\n\\\"b\"}\r\n");
    g_string_truncate(out, 0);
    qmp_put_error(out, "GenericError", "why", NULL);
    g_assert_cmpstr(out->str, ==,
                    "{\"error\":{\"class\":\"GenericError\",\"desc\":\"why\"}}\r\n");
    g_string_truncate(out, 0);
    qmp_put_event(out, "STOP", NULL);
    check_json(out, "timestamp");
    g_string_truncate(out, 0);
    qmp_put_event(out, "RESET", "{\"guest\":true}");
    check_json(out, "data");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ctl/qmp/good", test_good);
    g_test_add_func("/ctl/qmp/bad", test_bad);
    g_test_add_func("/ctl/qmp/deep", test_deep);
    g_test_add_func("/ctl/qmp/output", test_output);
    return g_test_run();
}
