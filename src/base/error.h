/* SPDX-License-Identifier: MIT */
/*
 * Errors a person reads. Functions that can fail for such a reason return bool (or NULL)
 * and take a GError **; the code says whose fault it is, and main maps it to the exit status.
 * The message names action, object and cause; an optional second line is a hint.
 */
#ifndef PVEMU_BASE_ERROR_H
#define PVEMU_BASE_ERROR_H

#include <glib.h>
#include <stdbool.h>

enum pvemu_error_code {
    PVEMU_ERROR_USAGE, /* the command line is wrong */
    PVEMU_ERROR_HOST,  /* the host cannot do it: files, memory, ports, permissions */
    PVEMU_ERROR_IMAGE, /* a kernel, initrd or disk image is wrong */
    PVEMU_ERROR_GUEST, /* the guest did something that cannot go on */
    PVEMU_ERROR_LIMIT, /* a limit of pvemu's own */
};

#define PVEMU_ERROR (pvemu_error_quark())
GQuark pvemu_error_quark(void);

/* Sets *err (if err is not NULL) with a printf-style message; returns false so that callers can
 * write `return error_set(err, ...)`. */
bool error_set(GError **err, enum pvemu_error_code code, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* Adds (or replaces) the hint line of *err. No effect when err or *err is NULL. */
void error_hint(GError **err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Splits err->message: the message without hint (caller frees), and in *hint the hint or NULL
 * (caller frees). */
char *error_split_hint(const GError *err, char **hint);

#endif
