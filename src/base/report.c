/* SPDX-License-Identifier: MIT */
/* pvemu's own words on stderr. Each line is one write(2), so that threads do not mix lines. */
#include "base/report.h"
#include "base/error.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool quiet;
    bool raw_tty;
} report;

void report_set_quiet(bool quiet)
{
    report.quiet = quiet;
}

void report_set_raw_tty(bool raw)
{
    report.raw_tty = raw;
}

static void report_line(const char *kind, const char *fmt, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    const char *end = report.raw_tty ? "\r\n" : "\n";
    g_autofree char *line = g_strconcat("pvemu: ", kind, text, end, NULL);
    size_t len = strlen(line);

    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line + strlen(line) - len, len);
        if (n <= 0) {
            return; /* nobody is left to tell */
        }
        len -= (size_t)n;
    }
}

#define REPORT_FUNCTION(name, kind, even_quiet)                                                \
    void name(const char *fmt, ...)                                                            \
    {                                                                                          \
        va_list ap;                                                                            \
                                                                                               \
        if (report.quiet && !(even_quiet)) {                                                   \
            return;                                                                            \
        }                                                                                      \
        va_start(ap, fmt);                                                                     \
        report_line(kind, fmt, ap);                                                            \
        va_end(ap);                                                                            \
    }

REPORT_FUNCTION(report_error, "error: ", true)
REPORT_FUNCTION(report_warn, "warning: ", false)
REPORT_FUNCTION(report_note, "note: ", false)
REPORT_FUNCTION(report_hint, "hint: ", true)
REPORT_FUNCTION(report_info, "", false)
REPORT_FUNCTION(report_verdict, "", true)

void report_gerror(const GError *err)
{
    g_autofree char *hint = NULL;
    g_autofree char *text = error_split_hint(err, &hint);

    report_error("%s", text);
    if (hint != NULL) {
        report_hint("%s", hint);
    }
}

bool report_warn_limited(struct report_gate *gate, const char *fmt, ...)
{
    int64_t now = g_get_monotonic_time();
    va_list ap;

    if (gate->last_us != 0 && now - gate->last_us < 60 * G_USEC_PER_SEC) {
        gate->suppressed++;
        return false;
    }
    if (gate->suppressed > 0) {
        report_warn("(%u similar warnings were left out)", gate->suppressed);
    }
    gate->last_us = now;
    gate->suppressed = 0;
    if (report.quiet) {
        return false;
    }
    va_start(ap, fmt);
    report_line("warning: ", fmt, ap);
    va_end(ap);
    return true;
}
