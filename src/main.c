/* SPDX-License-Identifier: MIT */
/*
 * pvemu: from the command line to the exit status. The only file that may exit.
 *
 * Order matters: the terminal's guardian and the network's processes are forked before there is
 * guest memory, a disk or a second thread.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/exit_status.h"
#include "base/log.h"
#include "base/options.h"
#include "base/report.h"
#include "ctl/session.h"
#include "ctl/verbs.h"
#include "io/stdio_mux.h"
#include "io/terminal.h"

#define PVEMU_VERSION_TEXT "pvemu " PVEMU_VERSION

struct console {
    struct session *session;
};

static void console_command(void *opaque, enum stdio_command command)
{
    struct console *c = opaque;

    if (command == STDIO_QUIT) {
        session_quit(c->session);
    } else {
        report_info("Ctrl-A then: X quit, H this help, Ctrl-A send a Ctrl-A");
    }
}

static int print_text(char *text)
{
    fputs(text, stdout);
    g_free(text);
    return EXIT_STATUS_OK;
}

static int fail(GError *err)
{
    report_gerror(err);
    g_error_free(err);
    return EXIT_STATUS_CANNOT_RUN;
}

static int show_plan(struct session *s)
{
    g_autofree char *what = machine_describe(session_machine(s));
    const char *note = machine_initrd_note(session_machine(s));

    printf("%s\ncommand line: %s\ninitrd: %s\n", what, machine_cmdline(session_machine(s)),
           note != NULL ? note : "none");
    return EXIT_STATUS_OK;
}

static int run_guest(const struct config *config, GMainContext *context, struct console *c,
                     struct chardev *chr, struct terminal *term)
{
    g_autofree char *what = NULL;
    GError *err = NULL;
    int status;

    c->session = session_new(config, context, chr, &err);
    if (c->session == NULL) {
        return fail(err);
    }
    if (config->dry_run) {
        return show_plan(c->session);
    }
    what = machine_describe(session_machine(c->session));
    if (machine_initrd_note(session_machine(c->session)) != NULL) {
        report_info("%s", machine_initrd_note(session_machine(c->session)));
    }
    report_info("%s%s", what, term != NULL ? " | quit: Ctrl-A X, help: Ctrl-A H" : "");
    stdio_mux_set_lock(chr, session_board_lock(c->session));
    if (term != NULL) {
        terminal_enter_raw(term);
    }
    session_confine(c->session);
    stdio_mux_start(chr);
    status = session_run(c->session, &err);
    terminal_restore(term);
    if (err != NULL) {
        return fail(err);
    }
    if (config->unattended || status != EXIT_STATUS_OK) {
        report_verdict("%s", session_verdict(c->session));
    }
    return status;
}

static int run(const struct config *config)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    struct console c = {0};
    GError *err = NULL;
    struct terminal *term = terminal_new(config->sandbox, &err);
    struct stdio_mux_options mux = {
        .context = context, .menu = term != NULL, .log_path = config->log_path,
        .command = console_command, .opaque = &c,
    };
    struct chardev *chr;
    int status;

    if (err != NULL) {
        return fail(err);
    }
    chr = stdio_mux_new(&mux, &err);
    status = chr == NULL ? fail(err) : run_guest(config, context, &c, chr, term);
    session_free(c.session);
    if (chr != NULL) {
        chr->ops->close(chr);
    }
    terminal_free(term);
    return status;
}

static int help(int argc, char *const *argv)
{
    const char *topic = argc > 2 ? argv[2] : "";

    if (strcmp(topic, "all") == 0) {
        return print_text(options_help_all());
    }
    if (strcmp(topic, "exit-codes") == 0) {
        return print_text(options_help_exit_codes());
    }
    if (strcmp(topic, "man") == 0) {
        return print_text(options_man_page(PVEMU_VERSION));
    }
    if (strcmp(topic, "bash") == 0) {
        return print_text(options_completion_bash());
    }
    if (strcmp(topic, "zsh") == 0) {
        return print_text(options_completion_zsh());
    }
    if (strcmp(topic, "fish") == 0) {
        return print_text(options_completion_fish());
    }
    if (*topic == '\0') {
        return print_text(options_help());
    }
    report_error("no help on '%s'; there is: all, exit-codes, man, bash, zsh, fish", topic);
    return EXIT_STATUS_CANNOT_RUN;
}

static int start(int argc, char *const *argv, int first)
{
    struct config *config = config_new();
    struct option_request request = {0};
    GError *err = NULL;
    int status;

    if (!options_parse(config, argc, argv, first, &request, &err) ||
        (config->debug != NULL && !log_set(config->debug, &err))) {
        status = fail(err);
    } else if (request.version) {
        status = print_text(g_strdup(PVEMU_VERSION_TEXT "\n"));
    } else if (request.help || request.full_help) {
        status = print_text(request.full_help ? options_help_all() : options_help());
    } else {
        config->unattended = !isatty(STDIN_FILENO) || config->timeout_ns > 0 ||
                             config->expect != NULL || config->fail != NULL;
        report_set_quiet(config->quiet);
        status = run(config);
    }
    config_free(config);
    return status;
}

static int verb(int argc, char *const *argv)
{
    const char *names[32];
    int status;

    if (strcmp(argv[1], "run") == 0) {
        return start(argc, argv, 2);
    }
    if (strcmp(argv[1], "help") == 0) {
        return help(argc, argv);
    }
    if (verbs_run(argc, argv, &status)) {
        return status;
    }
    for (unsigned i = 0; i < nr_verbs; i++) {
        names[i] = verbs[i].name;
    }
    if (options_nearest(argv[1], names, nr_verbs) != NULL) {
        report_error("unknown verb '%s'; did you mean '%s'?", argv[1],
                     options_nearest(argv[1], names, nr_verbs));
    } else {
        report_error("unknown verb '%s'", argv[1]);
        report_hint("`pvemu -h` lists the verbs; a kernel is given with -kernel");
    }
    return EXIT_STATUS_CANNOT_RUN;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && argv[1][0] != '-') {
        return verb(argc, argv);
    }
    if (argc == 1) {
        print_text(options_help());
        return EXIT_STATUS_CANNOT_RUN;
    }
    return start(argc, argv, 1);
}
