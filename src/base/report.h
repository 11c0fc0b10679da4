/* SPDX-License-Identifier: MIT */
/*
 * What pvemu says to the person who runs it, on stderr, prefixed "pvemu: ". stdout and the
 * terminal belong to the guest. Thread-safe. While the terminal is raw, lines end in CR LF.
 */
#ifndef PVEMU_BASE_REPORT_H
#define PVEMU_BASE_REPORT_H

#include <glib.h>
#include <stdbool.h>

void report_set_quiet(bool quiet);     /* -q: only errors */
void report_set_raw_tty(bool raw);     /* stderr is a terminal in raw mode: use CR LF */
void report_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2); /* "pvemu: error: ..." */
void report_warn(const char *fmt, ...) G_GNUC_PRINTF(1, 2);  /* "pvemu: warning: ..." */
void report_note(const char *fmt, ...) G_GNUC_PRINTF(1, 2);  /* "pvemu: note: ..." */
void report_hint(const char *fmt, ...) G_GNUC_PRINTF(1, 2);  /* "pvemu: hint: ..." */
void report_info(const char *fmt, ...) G_GNUC_PRINTF(1, 2);  /* "pvemu: ..." */
void report_verdict(const char *fmt, ...) G_GNUC_PRINTF(1, 2); /* "pvemu: ...", even with -q */
/* Error with its hint line, if any; does not free err. */
void report_gerror(const GError *err);

/* At most one warning per minute for the same `gate` (a static the caller owns, zero at start):
 * for anything a guest can provoke. Returns true when the line was printed. */
struct report_gate {
    int64_t last_us;      /* monotonic time of the last line printed */
    unsigned suppressed;  /* how many were swallowed since */
};
bool report_warn_limited(struct report_gate *gate, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#endif
