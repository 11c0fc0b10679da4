/* SPDX-License-Identifier: MIT */
/*
 * pvemu: from the command line to the exit status. The only file that may exit.
 *
 * Order matters: the terminal's guardian and the network's processes are forked before there is
 * guest memory, a disk or a second thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/exit_status.h"
#include "base/log.h"
#include "base/options.h"
#include "base/report.h"
#include "ctl/doctor.h"
#include "ctl/session.h"
#include "ctl/verbs.h"
#include "io/stdio_mux.h"
#include "io/terminal.h"
#include "version.h"

struct console {
    struct session *session;
    struct chardev *chr;
    bool was_running; /* before a SIGTSTP */
};

static void console_key(void *opaque, enum console_key key)
{
    const struct console *c = opaque;

    switch (key) {
    case CONSOLE_KEY_QUIT:
        session_quit(c->session);
        break;
    case CONSOLE_KEY_HELP:
        report_info("Ctrl-A then: X quit, H this help, Ctrl-A send a Ctrl-A");
        break;
    case CONSOLE_KEY_CTRL_C_HINT:
        report_hint("Ctrl-C goes to the guest; Ctrl-A X quits pvemu");
        break;
    }
}

/* SIGTSTP: the guest's time stands still as long as this process does. */
static void console_stop(void *opaque)
{
    struct console *c = opaque;

    c->was_running = machine_state(session_machine(c->session)) == MACHINE_RUNNING;
    if (c->was_running) {
        machine_pause(session_machine(c->session));
    }
}

static void console_continue(void *opaque)
{
    struct console *c = opaque;

    if (c->was_running) {
        c->was_running = false;
        machine_resume(session_machine(c->session));
    }
    stdio_mux_check_size(c->chr);
}

static int print_text(FILE *to, char *text)
{
    bool ok = fputs(text, to) >= 0 && fflush(to) == 0;

    g_free(text);
    if (!ok) {
        report_error("cannot write: %s", g_strerror(errno));
    }
    return ok ? EXIT_STATUS_OK : EXIT_STATUS_CANNOT_RUN;
}

static int fail(GError *err)
{
    report_gerror(err);
    g_error_free(err);
    return EXIT_STATUS_CANNOT_RUN;
}

/* -n */
static int show_plan(struct session *s)
{
    g_autofree char *what = machine_describe(session_machine(s));
    const char *note = machine_initrd_note(session_machine(s));

    return print_text(stdout, g_strdup_printf("%s\ncommand line: %s\ninitrd: %s\n", what,
                                              machine_cmdline(session_machine(s)),
                                              note != NULL ? note : "none"));
}

static void show_banner(struct session *s, bool menu)
{
    g_autofree char *what = machine_describe(session_machine(s));
    const char *note = machine_initrd_note(session_machine(s));

    if (note != NULL) {
        report_info("initramfs: %s", note);
    }
    if (machine_accel_note(session_machine(s)) != NULL) {
        report_info("%s", machine_accel_note(session_machine(s)));
    }
    report_info("%s%s", what, menu ? " | quit: Ctrl-A X, help: Ctrl-A H" : "");
}

/* Hands the terminal to the guest until its run is over. */
static int run_guest(struct console *c, GMainContext *context, struct terminal *term,
                     GError **err)
{
    const struct terminal_job job = {console_stop, console_continue, c};
    struct session *s = c->session;
    struct chardev *chr = c->chr;
    int status;

    stdio_mux_set_lock(chr, session_board_lock(s));
    if (term != NULL) {
        terminal_enter_raw(term);
        terminal_watch_job(term, context, &job);
    }
    session_confine(s);
    stdio_mux_start(chr);
    status = session_run(s, err);
    stdio_mux_finish(chr);
    machine_flush_console(session_machine(s));
    terminal_restore(term);
    return status;
}

static int run_session(const struct config *config, GMainContext *context, struct console *c,
                       struct terminal *term)
{
    struct chardev *chr = c->chr;
    GError *err = NULL;
    int status;

    c->session = session_new(config, context, chr, &err);
    if (c->session == NULL) {
        return fail(err);
    }
    if (config->dry_run) {
        return show_plan(c->session);
    }
    show_banner(c->session, term != NULL);
    status = run_guest(c, context, term, &err);
    if (err != NULL) {
        return fail(err);
    }
    if (config->unattended || status != EXIT_STATUS_OK) {
        if (stdio_mux_mid_line(chr)) {
            fputc('\n', stderr);
        }
        report_verdict("%s", session_verdict(c->session));
    }
    return status;
}

static int run(const struct config *config)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    struct console c = {0};
    GError *err = NULL;
    struct terminal *term = config->dry_run ? NULL : terminal_new(config->sandbox, &err);
    struct stdio_mux_options mux = {
        .context = context, .menu = term != NULL, .key = console_key, .opaque = &c,
        .log_path = config->dry_run ? NULL : config->log_path,
    };
    int status;

    if (err != NULL) {
        return fail(err);
    }
    c.chr = stdio_mux_new(&mux, &err);
    status = c.chr == NULL ? fail(err) : run_session(config, context, &c, term);
    session_free(c.session);
    if (c.chr != NULL) {
        c.chr->ops->close(c.chr);
    }
    terminal_free(term);
    return status;
}

static int help(int argc, char *const *argv)
{
    const char *topic = argc > 2 ? argv[2] : "";
    char *text = options_help_topic(topic, PVEMU_VERSION);

    if (text != NULL) {
        return print_text(stdout, text);
    }
    report_error("no help on '%s'; there is: %s", topic, options_help_topics);
    return EXIT_STATUS_CANNOT_RUN;
}

static int start(int argc, char *const *argv, int first)
{
    struct config *config = config_new();
    struct option_request request = {0};
    GError *err = NULL;
    int status;

    if (!options_parse(config, argc, argv, first, &request, &err) ||
        (config->debug != NULL && !log_set(config->debug, &err)) ||
        (config->debug_file != NULL && !log_open(config->debug_file, &err))) {
        status = fail(err);
    } else if (request.version) {
        status = print_text(stdout, version_text());
    } else if (request.help || request.full_help) {
        status = print_text(stdout, request.full_help ? options_help_all() : options_help());
    } else {
        config->unattended = !isatty(STDIN_FILENO) || config->timeout_ns > 0 ||
                             config->expect != NULL || config->fail != NULL;
        report_set_quiet(config->quiet);
        status = run(config);
    }
    config_free(config);
    return status;
}

static int unknown_verb(const char *word)
{
    g_autofree const char **names = g_new0(const char *, nr_verbs);
    const char *nearest;

    for (unsigned i = 0; i < nr_verbs; i++) {
        names[i] = verbs[i].name;
    }
    nearest = options_nearest(word, names, nr_verbs);
    if (nearest != NULL) {
        report_error("unknown verb '%s'; did you mean '%s'?", word, nearest);
    } else {
        report_error("unknown verb '%s'", word);
        report_hint("`pvemu -h` lists the verbs; a kernel is given with -kernel");
    }
    return EXIT_STATUS_CANNOT_RUN;
}

static int verb(int argc, char *const *argv)
{
    int status;

    if (strcmp(argv[1], "run") == 0) {
        return start(argc, argv, 2);
    }
    if (strcmp(argv[1], "help") == 0) {
        return help(argc, argv);
    }
    if (strcmp(argv[1], "doctor") == 0) {
        return doctor_run(argc, argv);
    }
    return verbs_run(argc, argv, &status) ? status : unknown_verb(argv[1]);
}

/* A file opened later must not become stdout or stderr: text would go into it. */
static void fill_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
            _exit(EXIT_STATUS_CANNOT_RUN);
        }
    }
}

int main(int argc, char **argv)
{
    fill_standard_files();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow further is an error like a full disk */
    if (argc > 1 && argv[1][0] != '-') {
        return verb(argc, argv);
    }
    if (argc <= 1) {
        print_text(stderr, options_help());
        return EXIT_STATUS_CANNOT_RUN;
    }
    return start(argc, argv, 1);
}
