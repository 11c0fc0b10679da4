/* SPDX-License-Identifier: MIT */
/*
 * Console text to events. Memory is bounded: a line longer than LINE_MAX_BYTES is matched in
 * pieces. Escape sequences (ECMA-35 and 48) are dropped, and so are carriage returns: they
 * start no new line.
 */
#include "ctl/watch.h"

#include <string.h>

#include "base/error.h"

enum { LINE_MAX_BYTES = 4096, ESCAPE = 0x1b, BELL = 7 };
/* After ESC, in a control sequence, in a control string (OSC, DCS, ...). */
enum escape_state { ESC_NONE, ESC_START, ESC_CSI, ESC_STRING };

static const char PANIC_TEXT[] = "Kernel panic - not syncing";

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
    char *init_words; /* first complaint of pvemu's own init; NULL: none */
    unsigned next_send;
    char line[LINE_MAX_BYTES + 1];
    size_t len;
    size_t matched; /* bytes of the line that were looked at already */
    enum escape_state escape;
    bool panic_seen, fail_seen, expect_seen;
    uint64_t line_number; /* from 1 */
    uint64_t expect_line; /* once -expect was met, -fail counts on that line only */
    uint64_t send_line;   /* answered the last -send that has a pattern */
    uint64_t bytes;
};

/* One escape after the backslash; returns how many characters it has. */
static size_t unescape_one(GString *s, const char *text)
{
    static const char letters[] = "nrte", meanings[] = "\n\r\t\033";
    const char *letter = strchr(letters, *text);

    if (*text == 'x' && g_ascii_isxdigit(text[1]) && g_ascii_isxdigit(text[2])) {
        g_string_append_c(s, (char)(g_ascii_xdigit_value(text[1]) * 16 +
                                    g_ascii_xdigit_value(text[2])));
        return 3;
    }
    if (*text == 'x') {
        g_string_append_c(s, '\\');
    }
    g_string_append_c(s, letter != NULL ? meanings[letter - letters] : *text);
    return 1;
}

/* C-like escapes: \n \r \t \e \\ \xHH. */
static char *unescape(const char *text, size_t *len)
{
    GString *s = g_string_new(NULL);

    while (*text != '\0') {
        if (*text == '\\' && text[1] != '\0') {
            text += 1 + unescape_one(s, text + 1);
        } else {
            g_string_append_c(s, *text++);
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
    w->line_number = 1;
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
    g_free(w->init_words);
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
    return regex != NULL &&
           g_regex_match_full(regex, w->line, (gssize)w->len, 0, 0, NULL, NULL);
}

static void watch_emit(struct watch *w, enum watch_event event, const char *text)
{
    w->handlers.event(w->opaque, event, text, strlen(text));
}

/*
 * Where the kernel's own panic line begins; NULL elsewhere. It is at the start of a line or
 * behind a time stamp, which may itself follow a prompt. Somebody who merely writes about
 * panics is not meant, nor is "---[ end Kernel panic".
 */
static const char *watch_panic(const char *line)
{
    const char *found = line;

    while ((found = strstr(found, PANIC_TEXT)) != NULL) {
        const char *before = found;

        while (before > line && before[-1] == ' ') {
            before--;
        }
        if (before == line || before[-1] == ']' || before[-1] == '>') {
            return found;
        }
        found += strlen(PANIC_TEXT);
    }
    return NULL;
}

/* What the initramfs that pvemu makes says before it gives up: the cause of the panic that
 * follows, whose own text only says that init is gone. */
static void watch_look_init(struct watch *w)
{
    static const char INIT_TEXT[] = "pvemu-init: ";
    const char *found = w->init_words == NULL ? strstr(w->line, INIT_TEXT) : NULL;

    if (found != NULL) {
        w->init_words = g_strdup(found + strlen(INIT_TEXT));
    }
}

static void watch_look_panic(struct watch *w)
{
    const char *panic = w->panic_seen ? NULL : watch_panic(w->line);

    if (panic != NULL) {
        g_autofree char *text = w->init_words == NULL
                                    ? g_strdup(panic)
                                    : g_strdup_printf("%s: %s", PANIC_TEXT, w->init_words);

        w->panic_seen = true;
        watch_emit(w, WATCH_PANIC, text);
    }
}

/* -fail wins over -expect on one line, so it is asked first. */
static void watch_look_patterns(struct watch *w)
{
    if (w->fail_seen) {
        return;
    }
    if ((!w->expect_seen || w->expect_line == w->line_number) && watch_matches(w, w->fail)) {
        w->fail_seen = true;
        watch_emit(w, WATCH_FAIL, w->line);
    } else if (!w->expect_seen && watch_matches(w, w->expect)) {
        w->expect_seen = true;
        w->expect_line = w->line_number;
        watch_emit(w, WATCH_EXPECT, w->line);
    }
}

/* A line answers one -send: the echo of what is typed is on it and must not answer the next. */
static void watch_look_sends(struct watch *w)
{
    while (w->next_send < w->sends->len) {
        const struct watch_send *send =
            &g_array_index(w->sends, struct watch_send, w->next_send);

        if (send->when != NULL &&
            (w->send_line == w->line_number || !watch_matches(w, send->when))) {
            return;
        }
        if (send->when != NULL) {
            w->send_line = w->line_number;
        }
        w->next_send++;
        w->handlers.event(w->opaque, WATCH_SEND, send->text, send->len);
    }
}

/* Looks at the line as far as it goes. */
static void watch_look(struct watch *w, bool complete)
{
    if (w->matched == w->len && !complete) {
        return;
    }
    w->matched = w->len;
    w->line[w->len] = '\0';
    if (complete) {
        watch_look_init(w);
        watch_look_panic(w);
    }
    watch_look_patterns(w);
    watch_look_sends(w);
}

static void watch_line_end(struct watch *w)
{
    watch_look(w, true);
    w->len = w->matched = 0;
    w->line_number++;
}

static enum escape_state escape_begin(uint8_t byte)
{
    if (byte == '[') {
        return ESC_CSI;
    }
    if (byte == ']' || byte == 'P' || byte == 'X' || byte == '^' || byte == '_') {
        return ESC_STRING;
    }
    return byte >= 0x20 && byte <= 0x2f ? ESC_START : ESC_NONE; /* intermediates, a final */
}

/* true when the byte is part of an escape sequence. */
static bool watch_escape(struct watch *w, uint8_t byte)
{
    if (byte == ESCAPE) { /* begins one, or the end of a string, even inside another */
        w->escape = ESC_START;
        return true;
    }
    switch (w->escape) {
    case ESC_NONE:
        return false;
    case ESC_START:
        w->escape = escape_begin(byte);
        return true;
    case ESC_CSI:
        w->escape = byte >= 0x40 && byte <= 0x7e ? ESC_NONE : ESC_CSI;
        return true;
    case ESC_STRING:
    default:
        w->escape = byte == BELL ? ESC_NONE : ESC_STRING;
        return true;
    }
}

void watch_reset(struct watch *w)
{
    w->len = w->matched = 0;
    w->line_number++;
    w->escape = ESC_NONE;
    w->panic_seen = false;
    g_clear_pointer(&w->init_words, g_free);
}

void watch_feed(struct watch *w, const uint8_t *buf, size_t len)
{
    w->bytes += len;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = buf[i];

        if (byte == '\n') {
            w->escape = ESC_NONE; /* never spans lines: half of one cannot hide text */
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
