/* SPDX-License-Identifier: MIT */
/* Help texts and the man page, from the option table. */
#include "base/options.h"

#include <string.h>

enum { SCREEN = 88, LIST_INDENT = 28, GROUP_INDENT = 12 };

static const struct {
    const char *status, *meaning;
} exit_statuses[] = {
    {"0", "the guest powered off, -expect was met, or the user quit"},
    {"1-111", "the guest's own code, from the exit port (larger ones are clamped to 111)"},
    {"112", "kernel panic, or the guest's watchdog fired"},
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
    "Quit a console guest with Ctrl-A then X. `pvemu help exit-codes` lists what the status\n"
    "means; `pvemu help all` explains every option.\n";

static const char help_unattended[] =
    "A run is unattended when standard input is not a terminal, or -timeout, -expect or\n"
    "-fail is given. Then a panic, a reboot and a power-off end it, `panic=-1` is added to\n"
    "the kernel command line, and the last line on stderr says the verdict. Otherwise a panic\n"
    "holds the guest for inspection, a reboot boots it again, and a power-off ends it. -on\n"
    "changes each.\n";

const char options_help_topics[] = "all, exit-codes, man, bash, zsh, fish";

static char *option_usage(const struct option *o)
{
    return o->argument != NULL ? g_strdup_printf("-%s %s", o->name, o->argument)
                               : g_strdup_printf("-%s", o->name);
}

/* Adds `text` to the line that ends at *column, on a new one when it would be too long. */
static void append_item(GString *s, size_t *column, const char *text)
{
    if (*column > GROUP_INDENT && *column + 3 + strlen(text) > SCREEN) {
        g_string_append_printf(s, "\n%*s", GROUP_INDENT, "");
        *column = GROUP_INDENT;
    }
    if (*column > GROUP_INDENT) {
        g_string_append(s, "   ");
        *column += 3;
    }
    g_string_append(s, text);
    *column += strlen(text);
}

char *options_help(void)
{
    GString *s = g_string_new(help_intro);
    size_t column = GROUP_INDENT;

    g_string_append_c(s, '\n');
    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        g_string_append_printf(s, "%-*s", GROUP_INDENT, option_group_names[g]);
        column = GROUP_INDENT;
        for (unsigned i = 0; i < nr_options; i++) {
            if (options[i].group == g) {
                g_autofree char *text = option_usage(&options[i]);

                append_item(s, &column, text);
            }
        }
        g_string_append_c(s, '\n');
    }
    g_string_append_printf(s, "\n%-*s", GROUP_INDENT, "Verbs");
    column = GROUP_INDENT;
    for (unsigned i = 0; i < nr_verbs; i++) {
        append_item(s, &column, verbs[i].name);
    }
    g_string_append_printf(s, "\n%s", help_end);
    return g_string_free(s, FALSE);
}

/* "-name ARGUMENT     what it does", the right side wrapped at words. */
static void append_row(GString *s, const char *left, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    size_t column = strlen(left);

    g_string_append(s, left);
    if (column >= LIST_INDENT) {
        g_string_append_c(s, '\n');
        column = 0;
    }
    g_string_append_printf(s, "%*s", (int)(LIST_INDENT - column), "");
    column = LIST_INDENT;
    for (size_t i = 0; words[i] != NULL; i++) {
        if (column > LIST_INDENT && column + 1 + strlen(words[i]) > SCREEN) {
            g_string_append_printf(s, "\n%*s", LIST_INDENT, "");
            column = LIST_INDENT;
        }
        g_string_append_printf(s, "%s%s", column > LIST_INDENT ? " " : "", words[i]);
        column += strlen(words[i]) + (column > LIST_INDENT);
    }
    g_string_append_c(s, '\n');
}

char *options_help_all(void)
{
    GString *s = g_string_new(help_intro);

    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        g_string_append_printf(s, "\n%s:\n", option_group_names[g]);
        for (unsigned i = 0; i < nr_options; i++) {
            if (options[i].group == g) {
                g_autofree char *left = option_usage(&options[i]);

                append_row(s, left, options[i].help);
            }
        }
    }
    g_string_append(s, "\nVerbs (VM is a guest's name or an unambiguous beginning of it; with\n"
                       "one guest it may be left out):\n");
    for (unsigned i = 0; i < nr_verbs; i++) {
        g_autofree char *left = g_strchomp(
            g_strdup_printf("%s %s", verbs[i].name, verbs[i].arguments));

        append_row(s, left, verbs[i].help);
    }
    g_string_append_printf(s, "\n%s", help_end);
    return g_string_free(s, FALSE);
}

char *options_help_exit_codes(void)
{
    GString *s = g_string_new("Exit status of pvemu:\n");

    for (size_t i = 0; i < G_N_ELEMENTS(exit_statuses); i++) {
        g_string_append_printf(s, "  %-7s %s\n", exit_statuses[i].status,
                               exit_statuses[i].meaning);
    }
    g_string_append_printf(s, "\n%s", help_unattended);
    return g_string_free(s, FALSE);
}

/* --- the man page --- */

static const char man_head[] =
    ".SH NAME\npvemu \\- boot kernels in a virtual machine that is its own Xen hypervisor\n"
    ".SH SYNOPSIS\n"
    "\\fBpvemu\\fR [\\fBrun\\fR] \\fB\\-kernel\\fR \\fIFILE\\fR\n"
    "[\\fB\\-disk\\fR \\fIFILE\\fR] [\\fIOPTIONS\\fR]\n.br\n"
    "\\fBpvemu\\fR \\fIVERB\\fR [\\fIVM\\fR]\n"
    ".SH DESCRIPTION\n"
    "Boots a Xen\\-aware kernel as it is, on any Linux machine, without KVM, root or Xen.\n"
    "The guest finds paravirtual disk, network and console devices.\n"
    ".SH OPTIONS\n"
    "Options take one or two dashes, and their value as the next argument or after an equals\n"
    "sign.\n";

static const char man_console[] =
    ".SH CONSOLE KEYS\n"
    "The guest has the terminal to itself, Ctrl\\-C included. Ctrl\\-A is the menu key:\n"
    ".TP\n\\fBCtrl\\-A x\\fR\nend the guest and pvemu\n"
    ".TP\n\\fBCtrl\\-A h\\fR\nshow the keys\n"
    ".TP\n\\fBCtrl\\-A Ctrl\\-A\\fR\nsend one Ctrl\\-A to the guest\n";

static const char man_files[] =
    ".SH FILES\n"
    ".TP\n\\fI$XDG_RUNTIME_DIR/pvemu/NAME.sock\\fR\ncontrol socket of a running guest\n"
    ".TP\n\\fI$XDG_CACHE_HOME/pvemu/modules\\fR\n"
    "kernel modules remembered from earlier boots of a disk image\n";

/* roff: backslashes, and lines that begin with a control character. */
static void man_text(GString *s, const char *text)
{
    for (bool line_start = true; *text != '\0'; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            g_string_append(s, "\\&");
        }
        line_start = *text == '\n';
        if (*text == '\\') {
            g_string_append(s, "\\e");
        } else if (*text == '-') {
            g_string_append(s, "\\-");
        } else {
            g_string_append_c(s, *text);
        }
    }
}

static void man_item(GString *s, const char *dash, const char *name, const char *argument,
                     const char *text)
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
    g_string_append_c(s, '\n');
}

char *options_man_page(const char *version)
{
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, ".TH PVEMU 1 \"\" \"pvemu %s\" \"User Commands\"\n", version);
    g_string_append(s, man_head);
    for (unsigned g = 0; g < OPTION_NR_GROUPS; g++) {
        g_string_append_printf(s, ".SS %s\n", option_group_names[g]);
        for (unsigned i = 0; i < nr_options; i++) {
            if (options[i].group == g) {
                man_item(s, "-", options[i].name, options[i].argument, options[i].help);
            }
        }
    }
    g_string_append(s, ".SH VERBS\nVM is a guest's name or an unambiguous beginning of it;\n"
                       "with one guest it may be left out.\n");
    for (unsigned i = 0; i < nr_verbs; i++) {
        man_item(s, "", verbs[i].name, verbs[i].arguments, verbs[i].help);
    }
    g_string_append(s, man_console);
    g_string_append(s, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < G_N_ELEMENTS(exit_statuses); i++) {
        man_item(s, "", exit_statuses[i].status, NULL, exit_statuses[i].meaning);
    }
    g_string_append(s, ".PP\n");
    man_text(s, help_unattended);
    g_string_append(s, man_files);
    return g_string_free(s, FALSE);
}

/* --- topics --- */

char *options_help_topic(const char *topic, const char *version)
{
    static const struct {
        const char *topic;
        char *(*text)(void);
    } topics[] = {
        {"", options_help},
        {"all", options_help_all},
        {"exit-codes", options_help_exit_codes},
        {"bash", options_completion_bash},
        {"zsh", options_completion_zsh},
        {"fish", options_completion_fish},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(topics); i++) {
        if (strcmp(topic, topics[i].topic) == 0) {
            return topics[i].text();
        }
    }
    return strcmp(topic, "man") == 0 ? options_man_page(version) : NULL;
}
