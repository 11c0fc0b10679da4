/* SPDX-License-Identifier: MIT */
/* Completion for bash, zsh and fish, from the option table. */
#include "base/options.h"

#include <string.h>

/* What a shell runs for the names of running guests. */
#define RUNNING_GUESTS "pvemu list 2>/dev/null | awk 'NR > 1 { print $1 }'"

static bool option_repeats(const struct option *o)
{
    static const char *const names[] = {"append", "disk", "p", "send", "on"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(o->name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool verb_takes_guest(const struct verb *v)
{
    return strstr(v->arguments, "[VM]") != NULL;
}

/* The names of verbs, or of those that take a guest, with `between` between them. */
static void append_verbs(GString *s, const char *between, bool with_guest)
{
    bool first = true;

    for (unsigned i = 0; i < nr_verbs; i++) {
        if (!with_guest || verb_takes_guest(&verbs[i])) {
            g_string_append_printf(s, "%s%s", first ? "" : between, verbs[i].name);
            first = false;
        }
    }
}

/* Text without what would end a quoted word of a shell or of zsh's _arguments. */
static char *shell_plain(const char *text)
{
    GString *s = g_string_new(NULL);

    for (; *text != '\0'; text++) {
        if (strchr("'[]:\\", *text) == NULL) {
            g_string_append_c(s, *text);
        }
    }
    return g_string_free(s, FALSE);
}

/* --- bash --- */

static void bash_value(GString *s, const struct option *o)
{
    g_string_append_printf(s, "    -%s|--%s) ", o->name, o->name);
    if (o->completion == COMPLETE_FILE) {
        g_string_append(s, "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); ");
    } else if (o->completion == COMPLETE_WORDS) {
        g_string_append_printf(s, "mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\"); ",
                               o->words);
    }
    g_string_append(s, "return ;;\n");
}

static void bash_words(GString *s, const char *words)
{
    g_string_append_printf(s, "mapfile -t COMPREPLY < <(compgen -W \"%s\" -- \"$cur\")\n",
                           words);
}

char *options_completion_bash(void)
{
    GString *s = g_string_new("# bash completion for pvemu, generated from its option table\n"
                              "_pvemu()\n{\n"
                              "    local cur=${COMP_WORDS[COMP_CWORD]}\n"
                              "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n\n"
                              "    COMPREPLY=()\n    case $prev in\n");
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned i = 0; i < nr_options; i++) {
        if (options[i].argument != NULL) {
            bash_value(s, &options[i]);
        }
        g_string_append_printf(names, "%s-%s", i > 0 ? " " : "", options[i].name);
    }
    g_string_append(s, "    ");
    append_verbs(s, "|", true);
    g_string_append(s, ") ");
    bash_words(s, "$(" RUNNING_GUESTS ")");
    g_string_append(s, "        return ;;\n    esac\n"
                       "    if [[ $COMP_CWORD -eq 1 && $cur != -* ]]; then\n        ");
    g_string_append(s, "mapfile -t COMPREPLY < <(compgen -W '");
    append_verbs(s, " ", false);
    g_string_append(s, "' -- \"$cur\")\n    else\n        ");
    bash_words(s, names->str);
    g_string_append(s, "    fi\n}\ncomplete -o filenames -F _pvemu pvemu\n");
    return g_string_free(s, FALSE);
}

/* --- zsh --- */

static void zsh_option(GString *s, const struct option *o)
{
    g_autofree char *help = shell_plain(o->help);

    g_string_append_printf(s, "  '%s-%s[%s]", option_repeats(o) ? "*" : "", o->name, help);
    if (o->completion == COMPLETE_FILE) {
        g_string_append(s, ":file:_files");
    } else if (o->completion == COMPLETE_WORDS) {
        g_string_append_printf(s, ":word:(%s)", o->words);
    } else if (o->argument != NULL) {
        g_string_append(s, ":value:");
    }
    g_string_append(s, "' \\\n");
}

char *options_completion_zsh(void)
{
    GString *s = g_string_new("#compdef pvemu\n# generated from pvemu's option table\n"
                              "_pvemu_guests() {\n"
                              "  compadd -- ${(f)\"$(" RUNNING_GUESTS ")\"}\n}\n"
                              "_arguments \\\n");

    for (unsigned i = 0; i < nr_options; i++) {
        zsh_option(s, &options[i]);
    }
    g_string_append(s, "  '1:verb:(");
    append_verbs(s, " ", false);
    g_string_append(s, ")' \\\n  '2:guest:_pvemu_guests'\n");
    return g_string_free(s, FALSE);
}

/* --- fish --- */

static void fish_option(GString *s, const struct option *o)
{
    g_autofree char *help = shell_plain(o->help);

    g_string_append_printf(s, "complete -c pvemu -o %s -d '%s'", o->name, help);
    if (o->completion == COMPLETE_FILE) {
        g_string_append(s, " -r -F");
    } else if (o->completion == COMPLETE_WORDS) {
        g_string_append_printf(s, " -x -a '%s'", o->words);
    } else if (o->argument != NULL) {
        g_string_append(s, " -x");
    }
    g_string_append_c(s, '\n');
}

char *options_completion_fish(void)
{
    GString *s = g_string_new("# fish completion for pvemu, generated from its option table\n"
                              "complete -c pvemu -f\n");

    for (unsigned i = 0; i < nr_verbs; i++) {
        g_autofree char *help = shell_plain(verbs[i].help);

        g_string_append_printf(s, "complete -c pvemu -n __fish_use_subcommand -a %s -d '%s'\n",
                               verbs[i].name, help);
    }
    g_string_append(s, "complete -c pvemu -n '__fish_seen_subcommand_from ");
    append_verbs(s, " ", true);
    g_string_append(s, "' -a \"(" RUNNING_GUESTS ")\"\n");
    for (unsigned i = 0; i < nr_options; i++) {
        fish_option(s, &options[i]);
    }
    return g_string_free(s, FALSE);
}
