/* SPDX-License-Identifier: MIT */
/* Help, man page and shell completion, all from the option table. */
#include "base/options.h"

#include <string.h>

static const struct {
    const char *status, *meaning;
} exit_statuses[] = {
    {"0", "the guest powered off, or -expect was met"},
    {"1-111", "the guest's own code, from the exit port (larger ones are clamped to 111)"},
    {"112", "kernel panic"},
    {"113", "-fail matched"},
    {"114", "the guest ended before -expect was met"},
    {"115", "the guest rebooted or triple-faulted with -on reboot=exit"},
    {"116", "the guest suspended itself"},
    {"124", "-timeout was reached"},
    {"125", "pvemu or the host could not run it: usage, image, memory, disk"},
    {"128+n", "ended by signal n: 143 after SIGTERM, 134 is a bug in pvemu"},
};

static const char help_intro[] =
    "Usage: pvemu [run] -kernel FILE [-disk FILE] [options]     start a guest\n"
    "       pvemu VERB [VM]                                     manage running guests\n";

static const char help_end[] =
    "Examples  pvemu -kernel vmlinuz -disk root.img\n"
    "          pvemu -kernel vmlinuz -disk root.img,snapshot -p 2222:22\n"
    "          git bisect run pvemu -kernel bzImage -initrd t.cpio -timeout 60s -expect PASS\n"
    "Quit a console guest with Ctrl-A then X. `pvemu help exit-codes` lists what the status means;\n"
    "`pvemu help all` explains every option.\n";

static void append_wrapped(GString *s, unsigned indent, unsigned *column, const char *text)
{
    if (*column > indent && *column + strlen(text) + 3 > 88) {
        g_string_append_printf(s, "\n%*s", (int)indent, "");
        *column = indent;
    }
    g_string_append(s, text);
    g_string_append(s, "   ");
    *column += (unsigned)strlen(text) + 3;
}

char *options_help(void)
{
    GString *s = g_string_new(help_intro);

    g_string_append_c(s, '\n');
    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        unsigned column = 12;

        g_string_append_printf(s, "%-12s", option_group_names[g]);
        for (unsigned i = 0; i < nr_options; i++) {
            g_autofree char *text = NULL;

            if (options[i].group != g) {
                continue;
            }
            text = options[i].argument != NULL
                       ? g_strdup_printf("-%s %s", options[i].name, options[i].argument)
                       : g_strdup_printf("-%s", options[i].name);
            append_wrapped(s, 12, &column, text);
        }
        while (s->len > 0 && s->str[s->len - 1] == ' ') {
            g_string_truncate(s, s->len - 1);
        }
        g_string_append_c(s, '\n');
    }
    g_string_append(s, "\nVerbs     ");
    for (unsigned i = 0; i < nr_verbs; i++) {
        g_string_append_printf(s, " %s", verbs[i].name);
    }
    g_string_append_printf(s, "\n%s", help_end);
    return g_string_free(s, FALSE);
}

char *options_help_all(void)
{
    GString *s = g_string_new(help_intro);

    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        g_string_append_printf(s, "\n%s:\n", option_group_names[g]);
        for (unsigned i = 0; i < nr_options; i++) {
            g_autofree char *left = NULL;

            if (options[i].group != g) {
                continue;
            }
            left = g_strdup_printf("-%s %s", options[i].name,
                                   options[i].argument != NULL ? options[i].argument : "");
            g_string_append_printf(s, "%-28s %s\n", left, options[i].help);
        }
    }
    g_string_append(s, "\nVerbs (VM is a guest's name or an unambiguous beginning of it; with one guest it may be left out):\n");
    for (unsigned i = 0; i < nr_verbs; i++) {
        g_autofree char *left = g_strdup_printf("%s %s", verbs[i].name, verbs[i].arguments);

        g_string_append_printf(s, "%-28s %s\n", left, verbs[i].help);
    }
    g_string_append_printf(s, "\n%s", help_end);
    return g_string_free(s, FALSE);
}

char *options_help_exit_codes(void)
{
    GString *s = g_string_new("Exit status of pvemu:\n");

    for (size_t i = 0; i < G_N_ELEMENTS(exit_statuses); i++) {
        g_string_append_printf(s, "  %-7s %s\n", exit_statuses[i].status, exit_statuses[i].meaning);
    }
    g_string_append(s,
        "\nA run is unattended when standard input is not a terminal, or -timeout, -expect or -fail\n"
        "is given. Then a panic, a reboot and a power-off end it, `panic=-1` is added to the kernel\n"
        "command line, and the last line on stderr says the verdict. Otherwise a panic holds the\n"
        "guest for inspection, a reboot boots it again, and a power-off ends it. -on changes each.\n");
    return g_string_free(s, FALSE);
}

/* roff: backslashes, and lines that begin with a control character. */
static void man_text(GString *s, const char *text)
{
    if (*text == '.' || *text == '\'') {
        g_string_append(s, "\\&");
    }
    for (; *text != '\0'; text++) {
        if (*text == '\\') {
            g_string_append(s, "\\e");
        } else if (*text == '-') {
            g_string_append(s, "\\-");
        } else {
            g_string_append_c(s, *text);
        }
    }
}

static void man_item(GString *s, const char *dash, const char *name, const char *argument, const char *text)
{
    g_string_append(s, ".TP\n\\fB");
    man_text(s, dash);
    man_text(s, name);
    g_string_append(s, "\\fR");
    if (argument != NULL && *argument != '\0') {
        g_string_append(s, " \\fI");
        man_text(s, argument);
        g_string_append(s, "\\fR");
    }
    g_string_append_c(s, '\n');
    man_text(s, text);
    g_string_append(s, "\n");
}

char *options_man_page(const char *version)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, ".TH PVEMU 1 \"\" \"pvemu %s\" \"User Commands\"\n", version);
    g_string_append(s,
        ".SH NAME\npvemu \\- boot kernels in a virtual machine that is its own Xen hypervisor\n"
        ".SH SYNOPSIS\n\\fBpvemu\\fR [\\fBrun\\fR] \\fB\\-kernel\\fR \\fIFILE\\fR [\\fB\\-disk\\fR \\fIFILE\\fR] [\\fIOPTIONS\\fR]\n.br\n"
        "\\fBpvemu\\fR \\fIVERB\\fR [\\fIVM\\fR]\n"
        ".SH DESCRIPTION\nBoots a Xen\\-aware kernel as it is, on any Linux machine, without KVM, root or Xen. "
        "The guest finds paravirtual disk, network and console devices. Options take one or two dashes, and "
        "their value as the next argument or after an equals sign.\n");
    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        g_string_append_printf(s, ".SS %s\n", option_group_names[g]);
        for (unsigned i = 0; i < nr_options; i++) {
            if (options[i].group == g) {
                man_item(s, "-", options[i].name, options[i].argument, options[i].help);
            }
        }
    }
    g_string_append(s, ".SH VERBS\n");
    for (unsigned i = 0; i < nr_verbs; i++) {
        man_item(s, "", verbs[i].name, verbs[i].arguments, verbs[i].help);
    }
    g_string_append(s, ".SH CONSOLE KEYS\nCtrl\\-A is the menu key: x quits, h shows help, Ctrl\\-A sends a Ctrl\\-A.\n");
    g_string_append(s, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < G_N_ELEMENTS(exit_statuses); i++) {
        man_item(s, "", exit_statuses[i].status, NULL, exit_statuses[i].meaning);
    }
    g_string_append(s,
        ".SH FILES\n.TP\n\\fI$XDG_RUNTIME_DIR/pvemu/NAME.sock\\fR\ncontrol socket of a running guest\n"
        ".TP\n\\fI$XDG_CACHE_HOME/pvemu/modules\\fR\nkernel modules remembered from earlier boots of a disk image\n");
    return g_string_free(s, FALSE);
}

char *options_completion_bash(void)
{
    GString *s = g_string_new("# bash completion for pvemu, generated from its option table\n"
                              "_pvemu()\n{\n    local cur prev\n    cur=${COMP_WORDS[COMP_CWORD]}\n"
                              "    prev=${COMP_WORDS[COMP_CWORD-1]}\n    case $prev in\n");

    for (unsigned i = 0; i < nr_options; i++) {
        if (options[i].completion == COMPLETE_FILE) {
            g_string_append_printf(s, "    -%s|--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n",
                                   options[i].name, options[i].name);
        } else if (options[i].completion == COMPLETE_WORDS) {
            g_string_append_printf(s, "    -%s|--%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n",
                                   options[i].name, options[i].name, options[i].words);
        } else if (options[i].argument != NULL) {
            g_string_append_printf(s, "    -%s|--%s) return ;;\n", options[i].name, options[i].name);
        }
    }
    g_string_append(s, "    esac\n    if [[ $COMP_CWORD -eq 1 && $cur != -* ]]; then\n        COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; i < nr_verbs; i++) {
        g_string_append_printf(s, "%s%s", i > 0 ? " " : "", verbs[i].name);
    }
    g_string_append(s, "' -- \"$cur\"))\n    else\n        COMPREPLY=($(compgen -W '");
    for (unsigned i = 0; i < nr_options; i++) {
        g_string_append_printf(s, "%s-%s", i > 0 ? " " : "", options[i].name);
    }
    g_string_append(s, "' -- \"$cur\"))\n    fi\n}\ncomplete -o filenames -F _pvemu pvemu\n");
    return g_string_free(s, FALSE);
}

/* In single quotes for a shell. */
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

char *options_completion_zsh(void)
{
    GString *s = g_string_new("#compdef pvemu\n# generated from pvemu's option table\n_arguments \\\n");

    for (unsigned i = 0; i < nr_options; i++) {
        g_autofree char *help = shell_plain(options[i].help);

        g_string_append_printf(s, "  '-%s[%s]", options[i].name, help);
        if (options[i].completion == COMPLETE_FILE) {
            g_string_append(s, ":file:_files");
        } else if (options[i].completion == COMPLETE_WORDS) {
            g_string_append_printf(s, ":word:(%s)", options[i].words);
        } else if (options[i].argument != NULL) {
            g_string_append(s, ":value:");
        }
        g_string_append(s, "' \\\n");
    }
    g_string_append(s, "  '1:verb:(");
    for (unsigned i = 0; i < nr_verbs; i++) {
        g_string_append_printf(s, "%s%s", i > 0 ? " " : "", verbs[i].name);
    }
    g_string_append(s, ")'\n");
    return g_string_free(s, FALSE);
}

char *options_completion_fish(void)
{
    GString *s = g_string_new("# fish completion for pvemu, generated from its option table\n");

    for (unsigned i = 0; i < nr_verbs; i++) {
        g_autofree char *help = shell_plain(verbs[i].help);

        g_string_append_printf(s, "complete -c pvemu -n __fish_use_subcommand -a %s -d '%s'\n", verbs[i].name, help);
    }
    for (unsigned i = 0; i < nr_options; i++) {
        g_autofree char *help = shell_plain(options[i].help);

        g_string_append_printf(s, "complete -c pvemu -o %s -d '%s'", options[i].name, help);
        if (options[i].completion == COMPLETE_FILE) {
            g_string_append(s, " -r -F");
        } else if (options[i].completion == COMPLETE_WORDS) {
            g_string_append_printf(s, " -x -a '%s'", options[i].words);
        } else if (options[i].argument != NULL) {
            g_string_append(s, " -x");
        }
        g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}
