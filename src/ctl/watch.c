/* SPDX-License-Identifier: MIT */
/*
 * Console text to events. Memory is bounded: a line longer than LINE_MAX_BYTES is matched in
 * pieces. Escape sequences (ECMA-48 CSI, OSC, two-byte) are dropped, carriage returns restart nothing: they are dropped too.
 */
#include "ctl/watch.h"

#include <string.h>

#include "base/error.h"

enum { LINE_MAX_BYTES = 4096 };
enum escape_state { ESC_NONE, ESC_START, ESC_CSI, ESC_OSC, ESC_OSC_END };

struct watch_send {
    GRegex *when; /* NULL: at the first output */
    char *text;
    size_t len;
};

struct watch {
    struct watch_handlers handlers;
    void *opaque;
    GRegex *expect, *fail;
    GArray *sends; /* struct watch_send, in order */
    unsigned next_send;
    char line[LINE_MAX_BYTES + 1];
    size_t len;
    size_t matched; /* bytes of the line that were looked at already */
    enum escape_state escape;
    bool panic_seen, fail_seen, expect_seen;
    uint64_t line_number, expect_line; /* once -expect was met, -fail counts on that line only */
    uint64_t bytes;
};

/* C-like escapes: \n \r \t \e \\ \xHH. */
static char *unescape(const char *text, size_t *len)
{
    GString *s = g_string_new(NULL);

    for (; *text != '\0'; text++) {
        if (*text != '\\' || text[1] == '\0') {
            g_string_append_c(s, *text);
            continue;
        }
        text++;
        switch (*text) {
        case 'n': g_string_append_c(s, '\n'); break;
        case 'r': g_string_append_c(s, '\r'); break;
        case 't': g_string_append_c(s, '\t'); break;
        case 'e': g_string_append_c(s, '\033'); break;
        case 'x':
            if (g_ascii_isxdigit(text[1]) && g_ascii_isxdigit(text[2])) {
                g_string_append_c(s, (char)(g_ascii_xdigit_value(text[1]) * 16 +
                                            g_ascii_xdigit_value(text[2])));
                text += 2;
                break;
            }
            g_string_append(s, "\\x");
            break;
        default: g_string_append_c(s, *text); break;
        }
    }
    *len = s->len;
    return g_string_free(s, FALSE);
}

static GRegex *watch_regex(const char *pattern, GError **err)
{
    g_autoptr(GError) why = NULL;
    GRegex *regex = g_regex_new(pattern, G_REGEX_RAW, 0, &why);

    if (regex == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "'%s': %s", pattern, why->message);
    }
    return regex;
}

static bool watch_add_send(struct watch *w, const char *argument, GError **err)
{
    const char *arrow = strstr(argument, "=>");
    struct watch_send send = {0};

    if (arrow != NULL) {
        g_autofree char *pattern = g_strndup(argument, (gsize)(arrow - argument));

        send.when = watch_regex(pattern, err);
        if (send.when == NULL) {
            return false;
        }
    }
    send.text = unescape(arrow != NULL ? arrow + 2 : argument, &send.len);
    g_array_append_val(w->sends, send);
    return true;
}

struct watch *watch_new(const char *expect, const char *fail, const GPtrArray *sends,
                        const struct watch_handlers *handlers, void *opaque, GError **err)
{
    struct watch *w = g_new0(struct watch, 1);
    bool ok = true;

    w->handlers = *handlers;
    w->opaque = opaque;
    w->sends = g_array_new(FALSE, FALSE, sizeof(struct watch_send));
    if (expect != NULL) {
        w->expect = watch_regex(expect, err);
        ok = w->expect != NULL;
    }
    if (ok && fail != NULL) {
        w->fail = watch_regex(fail, err);
        ok = w->fail != NULL;
    }
    for (guint i = 0; ok && sends != NULL && i < sends->len; i++) {
        ok = watch_add_send(w, g_ptr_array_index(sends, i), err);
    }
    if (!ok) {
        watch_free(w);
        return NULL;
    }
    return w;
}

void watch_free(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    for (guint i = 0; i < w->sends->len; i++) {
        struct watch_send *send = &g_array_index(w->sends, struct watch_send, i);

        g_clear_pointer(&send->when, g_regex_unref);
        g_free(send->text);
    }
    g_array_unref(w->sends);
    g_clear_pointer(&w->expect, g_regex_unref);
    g_clear_pointer(&w->fail, g_regex_unref);
    g_free(w);
}

uint64_t watch_bytes(const struct watch *w)
{
    return w->bytes;
}

static bool watch_matches(const struct watch *w, const GRegex *regex)
{
    return regex != NULL && g_regex_match_full(regex, w->line, (gssize)w->len, 0, 0, NULL, NULL);
}

static void watch_emit(struct watch *w, enum watch_event event, const char *text)
{
    w->handlers.event(w->opaque, event, text, strlen(text));
}

/* Looks at the line as far as it goes. -fail wins over -expect on one line, so it is asked first. */
static void watch_look(struct watch *w, bool complete)
{
    const char *panic;

    if (w->matched == w->len && !complete) {
        return;
    }
    w->matched = w->len;
    w->line[w->len] = '\0';
    panic = strstr(w->line, "Kernel panic - not syncing");
    if (panic != NULL && complete && !w->panic_seen) {
        w->panic_seen = true;
        watch_emit(w, WATCH_PANIC, panic);
    }
    if (!w->fail_seen && (!w->expect_seen || w->expect_line == w->line_number) &&
        watch_matches(w, w->fail)) {
        w->fail_seen = true;
        watch_emit(w, WATCH_FAIL, w->line);
        return;
    }
    if (!w->expect_seen && !w->fail_seen && watch_matches(w, w->expect)) {
        w->expect_seen = true;
        w->expect_line = w->line_number;
        watch_emit(w, WATCH_EXPECT, w->line);
    }
    while (w->next_send < w->sends->len) {
        const struct watch_send *send = &g_array_index(w->sends, struct watch_send, w->next_send);

        if (send->when != NULL && !watch_matches(w, send->when)) {
            break;
        }
        w->next_send++;
        w->handlers.event(w->opaque, WATCH_SEND, send->text, send->len);
        if (send->when != NULL) {
            break; /* one line answers one -send: the next prompt is a later line */
        }
    }
}

static void watch_line_end(struct watch *w)
{
    watch_look(w, true);
    w->len = w->matched = 0;
    w->line_number++;
}

/* true when the byte is part of an escape sequence. */
static bool watch_escape(struct watch *w, uint8_t byte)
{
    switch (w->escape) {
    case ESC_NONE:
        if (byte == 0x1b) {
            w->escape = ESC_START;
            return true;
        }
        return false;
    case ESC_START:
        w->escape = byte == '[' ? ESC_CSI : byte == ']' ? ESC_OSC : ESC_NONE;
        return true;
    case ESC_CSI:
        if (byte >= 0x40 && byte <= 0x7e) {
            w->escape = ESC_NONE;
        }
        return true;
    case ESC_OSC:
        w->escape = byte == 0x1b ? ESC_OSC_END : byte == 7 ? ESC_NONE : ESC_OSC;
        return true;
    case ESC_OSC_END:
    default:
        w->escape = ESC_NONE;
        return true;
    }
}

void watch_feed(struct watch *w, const uint8_t *buf, size_t len)
{
    w->bytes += len;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = buf[i];

        if (byte == '\n') {
            w->escape = ESC_NONE; /* a sequence never spans lines: text cannot be hidden by half of one */
            watch_line_end(w);
        } else if (!watch_escape(w, byte) && byte != '\r' && byte != '\0') {
            w->line[w->len++] = (char)byte;
            if (w->len == LINE_MAX_BYTES) {
                watch_line_end(w);
            }
        }
    }
    watch_look(w, false);
}
