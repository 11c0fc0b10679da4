/* SPDX-License-Identifier: MIT */
/* Errors a person reads: a GError domain, and the hint line kept at the end of the message. */
#include "base/error.h"

#include <string.h>

static const char HINT_MARK[] = "\nhint: ";

G_DEFINE_QUARK(pvemu-error-quark, pvemu_error)

bool error_set(GError **err, enum pvemu_error_code code, const char *fmt, ...)
{
    va_list ap;

    if (err != NULL) {
        va_start(ap, fmt);
        *err = g_error_new_valist(PVEMU_ERROR, (gint)code, fmt, ap);
        va_end(ap);
    }
    return false;
}

void error_hint(GError **err, const char *fmt, ...)
{
    g_autofree char *bare = NULL;
    g_autofree char *old_hint = NULL;
    g_autofree char *hint = NULL;
    va_list ap;

    if (err == NULL || *err == NULL) {
        return;
    }
    va_start(ap, fmt);
    hint = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    bare = error_split_hint(*err, &old_hint);
    g_free((*err)->message);
    (*err)->message = g_strconcat(bare, HINT_MARK, hint, NULL);
}

char *error_split_hint(const GError *err, char **hint)
{
    const char *mark = strstr(err->message, HINT_MARK);

    *hint = NULL;
    if (mark == NULL) {
        return g_strdup(err->message);
    }
    *hint = g_strdup(mark + strlen(HINT_MARK));
    return g_strndup(err->message, (gsize)(mark - err->message));
}
