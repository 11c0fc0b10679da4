/* SPDX-License-Identifier: MIT */
/* The guest kernel's command line: sensible defaults, the user's words, no contradictions. */
#ifndef PVEMU_BOOT_CMDLINE_H
#define PVEMU_BOOT_CMDLINE_H

#include <stdbool.h>

struct cmdline_request {
    const char *console;   /* "hvc0"; NULL: none */
    const char *root;      /* "/dev/xvda1"; NULL: no root= */
    const char *root_type; /* for rootfstype=; NULL: let the guest find out */
    bool read_only;        /* the disk is: ro instead of rw */
    bool unattended;       /* adds panic=-1 */
    const char *append;    /* -append; NULL: nothing */
    const char *replace;   /* -cmdline: taken as it is, nothing else counts; NULL: not given */
};

/* The caller frees. A default that the user also gives (console=, root=, ro or rw, panic=) is
 * left out. */
char *boot_cmdline(const struct cmdline_request *req);
/* Whether a word (or key, when it ends in '=') is in a command line. */
bool boot_cmdline_has(const char *cmdline, const char *word);
/* What the kernel takes for a key ("root="), up to the next blank; NULL when it is not there. The
 * caller frees. */
char *boot_cmdline_value(const char *cmdline, const char *key);

#endif
