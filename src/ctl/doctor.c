/* SPDX-License-Identifier: MIT */
/* `pvemu doctor`: what of this host pvemu can use, and what to do about the rest. */
#include "ctl/doctor.h"

#include <errno.h>
#include <stdio.h>

#include "base/error.h"
#include "base/exit_status.h"
#include "base/report.h"
#include "machine/machine.h"

static void doctor_engine(GString *s, const char *name, bool usable, const GError *err)
{
    g_autofree char *hint = NULL;
    g_autofree char *why = usable ? NULL : error_split_hint(err, &hint);

    g_string_append_printf(s, "%-8s%s%s\n", name, usable ? "usable" : "not usable: ",
                           usable ? "" : why);
    if (hint != NULL) {
        g_string_append_printf(s, "%-8shint: %s\n", "", hint);
    }
}

int doctor_run(int argc, char *const *argv)
{
    g_autoptr(GString) s = g_string_new("Engines (-accel):\n");
    const char *name;
    bool usable;

    if (argc > 2) {
        report_error("doctor: '%s' is too much; it takes nothing", argv[2]);
        return EXIT_STATUS_CANNOT_RUN;
    }
    for (unsigned i = 0;; i++) {
        g_autoptr(GError) err = NULL;

        name = machine_engine(i, &usable, &err);
        if (name == NULL) {
            break;
        }
        doctor_engine(s, name, usable, err);
    }
    if (fputs(s->str, stdout) < 0 || fflush(stdout) != 0) {
        report_error("cannot write: %s", g_strerror(errno));
        return EXIT_STATUS_CANNOT_RUN;
    }
    return EXIT_STATUS_OK;
}
