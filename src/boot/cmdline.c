/* SPDX-License-Identifier: MIT */
/* Composes the kernel command line (Documentation/admin-guide/kernel-parameters.rst of Linux).
 */
#include "boot/cmdline.h"

#include <glib.h>
#include <string.h>

/* The last place where a word (or key, when it ends in '=') stands; what is behind "--" is for
 * init. */
static const char *cmdline_find(const char *cmdline, const char *word)
{
    size_t len = strlen(word);
    bool is_key = len > 0 && word[len - 1] == '=';
    bool quoted = false, at_start = true;
    const char *found = NULL;

    for (const char *p = cmdline; p != NULL && *p != '\0'; p++) {
        if (at_start && strncmp(p, "-- ", 3) == 0) {
            break;
        }
        if (at_start && strncmp(p, word, len) == 0 &&
            (is_key || p[len] == '\0' || p[len] == ' ')) {
            found = p;
        }
        quoted = *p == '"' ? !quoted : quoted;
        at_start = !quoted && *p == ' ';
    }
    return found;
}

bool boot_cmdline_has(const char *cmdline, const char *word)
{
    return cmdline_find(cmdline, word) != NULL;
}

char *boot_cmdline_value(const char *cmdline, const char *key)
{
    const char *at = cmdline_find(cmdline, key);

    return at != NULL ? g_strndup(at + strlen(key), strcspn(at + strlen(key), " ")) : NULL;
}

static void cmdline_add(GString *line, const char *key, const char *value)
{
    g_string_append_printf(line, "%s%s%s", line->len > 0 ? " " : "", key, value);
}

char *boot_cmdline(const struct cmdline_request *req)
{
    GString *line = g_string_new(NULL);
    const char *user = req->append;

    if (req->replace != NULL) {
        g_string_append(line, req->replace);
        return g_string_free(line, FALSE);
    }
    if (req->console != NULL && !boot_cmdline_has(user, "console=")) {
        cmdline_add(line, "console=", req->console);
    }
    if (req->root != NULL && !boot_cmdline_has(user, "root=")) {
        cmdline_add(line, "root=", req->root);
        if (req->root_type != NULL && !boot_cmdline_has(user, "rootfstype=")) {
            cmdline_add(line, "rootfstype=", req->root_type);
        }
    }
    if (req->root != NULL && !boot_cmdline_has(user, "ro") && !boot_cmdline_has(user, "rw")) {
        cmdline_add(line, req->read_only ? "ro" : "rw", "");
    }
    if (req->unattended && !boot_cmdline_has(user, "panic=")) {
        cmdline_add(line, "panic=-1", "");
    }
    if (user != NULL && user[0] != '\0') {
        cmdline_add(line, user, "");
    }
    return g_string_free(line, FALSE);
}
