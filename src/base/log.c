/* SPDX-License-Identifier: MIT */
/* Debug lines per room. The names here are the words of `-d`. */
#include "base/log.h"
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

unsigned log_mask;
static FILE *log_file; /* NULL: stderr; set once at start-up, like the mask */

static const struct {
    const char *name;
    enum log_room room;
} log_rooms[] = {
    {"boot", LOG_BOOT}, {"cpu", LOG_CPU}, {"hw", LOG_HW}, {"pv", LOG_PV}, {"io", LOG_IO},
    {"machine", LOG_MACHINE}, {"ctl", LOG_CTL}, {"xenstore", LOG_XENSTORE},
    {"hypercall", LOG_HYPERCALL}, {"int", LOG_INT},
    {"in_asm", LOG_IN_ASM}, {"out_asm", LOG_OUT_ASM}, {"exits", LOG_EXITS},
    {"stats", LOG_STATS},
};

bool log_set(const char *rooms, GError **err)
{
    g_auto(GStrv) words = g_strsplit(rooms, ",", -1);

    for (size_t w = 0; words[w] != NULL; w++) {
        size_t i;

        for (i = 0; i < G_N_ELEMENTS(log_rooms); i++) {
            if (strcmp(words[w], log_rooms[i].name) == 0) {
                log_mask |= (unsigned)log_rooms[i].room;
                break;
            }
        }
        if (i == G_N_ELEMENTS(log_rooms)) {
            return error_set(err, PVEMU_ERROR_USAGE, "-d: unknown word '%s'", words[w]);
        }
    }
    return true;
}

bool log_open(const char *path, GError **err)
{
    log_file = fopen(path, "we");
    if (log_file == NULL) {
        return error_set(err, PVEMU_ERROR_HOST, "cannot write '%s': %s", path,
                         g_strerror(errno));
    }
    setvbuf(log_file, NULL, _IOLBF, 0);
    return true;
}

void log_write(const char *fmt, ...)
{
    va_list ap;
    char line[1024];
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    if (n > 0 && log_file != NULL) {
        fprintf(log_file, "%s\n", line);
    } else if (n > 0) {
        fprintf(stderr, "pvemu: debug: %s\n", line);
    }
}
