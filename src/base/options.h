/* SPDX-License-Identifier: MIT */
/*
 * The option table: parser, help, man page and shell completion all come from the one array in
 * option_table.c. An option is a word after one or two dashes; its value is the next argument
 * or follows '='.
 */
#ifndef PVEMU_BASE_OPTIONS_H
#define PVEMU_BASE_OPTIONS_H

#include <glib.h>
#include <stdbool.h>

#include "base/config.h"

enum option_group {
    OPTION_BOOT, OPTION_MACHINE, OPTION_NETWORK, OPTION_CONSOLE, OPTION_UNATTENDED,
    OPTION_OTHER, OPTION_NR_GROUPS
};

enum option_completion { COMPLETE_NOTHING, COMPLETE_FILE, COMPLETE_WORDS };

struct option {
    const char *name;      /* without dash */
    const char *argument;  /* "FILE", or NULL for a switch */
    enum option_group group;
    enum option_completion completion;
    const char *words;     /* COMPLETE_WORDS: "auto pvh pv" */
    bool (*apply)(struct config *c, const char *value, GError **err); /* NULL: shows a text */
    const char *help;      /* one line, no full stop */
};

extern const struct option options[];
extern const unsigned nr_options;
extern const char *const option_group_names[OPTION_NR_GROUPS];

struct verb {
    const char *name;
    const char *arguments; /* "[VM]" */
    const char *help;
};

extern const struct verb verbs[];
extern const unsigned nr_verbs;

/* What was asked for instead of a run. */
struct option_request {
    bool help, full_help, version;
};

/* Parses argv[first..] of `pvemu [run]`. With a request nothing else is checked as a whole. */
bool options_parse(struct config *c, int argc, char *const *argv, int first,
                   struct option_request *request, GError **err);
/* The name nearest to `word`, or NULL when nothing is near. */
const char *options_nearest(const char *word, const char *const *names, unsigned count);

/* Text for the person; the caller frees. */
char *options_help(void);        /* one screen: pvemu -h */
char *options_help_all(void);    /* every option on a line: pvemu help all */
char *options_help_exit_codes(void);
char *options_man_page(const char *version);
char *options_completion_bash(void);
char *options_completion_zsh(void);
char *options_completion_fish(void);
/* `pvemu help TOPIC`; NULL when there is no such topic, "" is options_help(). */
char *options_help_topic(const char *topic, const char *version);
/* "all, exit-codes, ..." */
extern const char options_help_topics[];

/* "512M", "2G", "2GiB", "1024" (MiB): bytes. "90", "90s", "1.5m", "1h", "500ms": ns, at most
 * some thirty years. false, and nothing stored, for anything else. */
bool options_parse_size(const char *text, uint64_t *bytes);
bool options_parse_time(const char *text, uint64_t *ns);

#endif
