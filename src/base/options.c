/* SPDX-License-Identifier: MIT */
/*
 * The one option table and its parser. glib's own parser does not know long options with one
 * dash, so `-kernel` needs this one.
 */
#include "base/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { MIN_MEMORY_MIB = 16, MAX_MEMORY_MIB = 1 << 20 };

static bool set_text(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
    return true;
}

static bool bad_word(GError **err, const char *option, const char *value, const char *words)
{
    return error_set(err, PVEMU_ERROR_USAGE, "-%s: '%s' is not one of: %s", option, value, words);
}

static bool apply_kernel(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->kernel, value);
}

static bool apply_initrd(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->initrd, value);
}

/* Several -append add up. */
static bool apply_append(struct config *c, const char *value, GError **err)
{
    char *joined = c->append == NULL ? g_strdup(value) : g_strjoin(" ", c->append, value, NULL);

    (void)err;
    g_free(c->append);
    c->append = joined;
    return true;
}

static bool apply_cmdline(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->cmdline, value);
}

static bool apply_machine(struct config *c, const char *value, GError **err)
{
    if (strcmp(value, "pv") == 0 || strcmp(value, "pc") == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-machine %s is not supported yet", value);
    }
    if (strcmp(value, "auto") != 0 && strcmp(value, "pvh") != 0) {
        return bad_word(err, "machine", value, "auto pvh");
    }
    return set_text(&c->machine, value);
}

/* PATH[,ro][,snapshot][,format=F]; a comma in the path is written twice. */
static bool apply_disk(struct config *c, const char *value, GError **err)
{
    struct config_disk *disk = g_new0(struct config_disk, 1);
    g_autoptr(GString) path = g_string_new(NULL);
    g_auto(GStrv) words = NULL;
    const char *p = value;

    while (*p != '\0' && (*p != ',' || p[1] == ',')) {
        g_string_append_c(path, *p);
        p += *p == ',' ? 2 : 1;
    }
    disk->path = g_strdup(path->str);
    g_ptr_array_add(c->disks, disk);
    if (path->len == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-disk: the file name is missing in '%s'", value);
    }
    words = g_strsplit(*p == ',' ? p + 1 : p, ",", -1);
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], "ro") == 0) {
            disk->read_only = true;
        } else if (strcmp(words[i], "snapshot") == 0) {
            disk->snapshot = true;
        } else if (strcmp(words[i], "format=raw") == 0) {
            set_text(&disk->format, "raw");
        } else if (g_str_has_prefix(words[i], "format=")) {
            return error_set(err, PVEMU_ERROR_USAGE,
                             "-disk: format '%s' is not supported; raw is", words[i] + 7);
        } else {
            return bad_word(err, "disk", words[i], "ro snapshot format=raw");
        }
    }
    return true;
}

static bool apply_snapshot(struct config *c, const char *value, GError **err)
{
    (void)value, (void)err;
    c->snapshot = true;
    return true;
}

bool options_parse_size(const char *text, uint64_t *bytes)
{
    char *end;
    guint64 n = g_ascii_strtoull(text, &end, 10);
    unsigned shift = 20;

    if (end == text || !g_ascii_isdigit(text[0])) {
        return false;
    }
    switch (g_ascii_toupper(*end)) {
    case 'K': shift = 10; end++; break;
    case 'M': shift = 20; end++; break;
    case 'G': shift = 30; end++; break;
    default: break;
    }
    if (*end == 'i') {
        end++;
    }
    if (*end == 'B') {
        end++;
    }
    if (*end != '\0' || n > (UINT64_MAX >> shift)) {
        return false;
    }
    *bytes = n << shift;
    return true;
}

bool options_parse_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"m", 60}, {"min", 60}, {"h", 3600}};
    char *end;
    double n = g_ascii_strtod(text, &end);

    if (end == text || !(n >= 0) || n > 1e9) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (strcmp(end, units[i].unit) == 0) {
            *ns = (uint64_t)(n * units[i].seconds * 1e9);
            return true;
        }
    }
    return false;
}

static bool apply_memory(struct config *c, const char *value, GError **err)
{
    uint64_t bytes;

    if (!options_parse_size(value, &bytes)) {
        error_set(err, PVEMU_ERROR_USAGE, "-m: '%s' is not a size", value);
        error_hint(err, "write 512M, 2G, or a number of MiB");
        return false;
    }
    bytes &= ~(uint64_t)0xfff;
    if (bytes >> 20 < MIN_MEMORY_MIB || bytes >> 20 > MAX_MEMORY_MIB) {
        return error_set(err, PVEMU_ERROR_USAGE, "-m: %s is outside 16M to 1024G", value);
    }
    c->memory_bytes = bytes;
    return true;
}

static bool apply_smp(struct config *c, const char *value, GError **err)
{
    char *end;
    guint64 n = g_ascii_strtoull(value, &end, 10);

    if (end == value || *end != '\0' || n == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-smp: '%s' is not a number of CPUs", value);
    }
    if (n > 1) {
        return error_set(err, PVEMU_ERROR_USAGE,
                         "-smp %s: guests have one CPU in this version", value);
    }
    c->smp = (unsigned)n;
    return true;
}

static bool apply_accel(struct config *c, const char *value, GError **err)
{
    if (strcmp(value, "kvm") == 0 || strcmp(value, "bt") == 0 || strcmp(value, "tcg") == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-accel %s is not supported yet; interp is",
                         value);
    }
    if (strcmp(value, "auto") != 0 && strcmp(value, "interp") != 0) {
        return bad_word(err, "accel", value, "auto interp");
    }
    return set_text(&c->accel, value);
}

static bool apply_name(struct config *c, const char *value, GError **err)
{
    size_t len = strlen(value);

    if (len == 0 || len > 64 || value[0] == '-' || value[0] == '.' ||
        strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != len) {
        return error_set(err, PVEMU_ERROR_USAGE,
                         "-name: '%s' is not a name: letters, digits, '-', '_' and '.', at most 64",
                         value);
    }
    return set_text(&c->name, value);
}

static bool apply_net(struct config *c, const char *value, GError **err)
{
    if (strcmp(value, "user") != 0 && strcmp(value, "none") != 0) {
        return bad_word(err, "net", value, "user none");
    }
    return set_text(&c->net, value);
}

static bool apply_forward(struct config *c, const char *value, GError **err)
{
    (void)err;
    g_ptr_array_add(c->forwards, g_strdup(value));
    return true;
}

static bool apply_log(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->log_path, value);
}

static bool apply_timeout(struct config *c, const char *value, GError **err)
{
    if (!options_parse_time(value, &c->timeout_ns) || c->timeout_ns == 0) {
        error_set(err, PVEMU_ERROR_USAGE, "-timeout: '%s' is not a time", value);
        error_hint(err, "write 90, 90s, 5m, 1h or 500ms");
        return false;
    }
    return true;
}

static bool apply_regex(char **field, const char *option, const char *value, GError **err)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GRegex) regex = g_regex_new(value, G_REGEX_RAW, 0, &why);

    if (regex == NULL) {
        return error_set(err, PVEMU_ERROR_USAGE, "-%s: %s", option, why->message);
    }
    return set_text(field, value);
}

static bool apply_expect(struct config *c, const char *value, GError **err)
{
    return apply_regex(&c->expect, "expect", value, err);
}

static bool apply_fail(struct config *c, const char *value, GError **err)
{
    return apply_regex(&c->fail, "fail", value, err);
}

static bool apply_send(struct config *c, const char *value, GError **err)
{
    (void)err;
    g_ptr_array_add(c->sends, g_strdup(value));
    return true;
}

static bool apply_on(struct config *c, const char *value, GError **err)
{
    static const char *const action_names[] = {"", "exit", "reset", "pause"};
    const char *equals = strchr(value, '=');
    g_autofree char *event = equals == NULL ? NULL : g_strndup(value, (gsize)(equals - value));
    enum config_action action = ACTION_DEFAULT;
    enum config_action *field = NULL;

    if (event != NULL) {
        field = strcmp(event, "panic") == 0      ? &c->on_panic
                : strcmp(event, "reboot") == 0   ? &c->on_reboot
                : strcmp(event, "poweroff") == 0 ? &c->on_poweroff
                                                 : NULL;
        for (unsigned i = ACTION_EXIT; i < G_N_ELEMENTS(action_names); i++) {
            if (strcmp(equals + 1, action_names[i]) == 0) {
                action = (enum config_action)i;
            }
        }
    }
    if (field == NULL || action == ACTION_DEFAULT) {
        return error_set(err, PVEMU_ERROR_USAGE,
                         "-on: '%s' is not panic, reboot or poweroff = exit, reset or pause", value);
    }
    *field = action;
    return true;
}

static bool apply_quiet(struct config *c, const char *value, GError **err)
{
    (void)value, (void)err;
    c->quiet = true;
    return true;
}

static bool apply_dry_run(struct config *c, const char *value, GError **err)
{
    (void)value, (void)err;
    c->dry_run = true;
    return true;
}

static bool apply_paused(struct config *c, const char *value, GError **err)
{
    (void)value, (void)err;
    c->paused = true;
    return true;
}

static bool apply_sandbox(struct config *c, const char *value, GError **err)
{
    if (strcmp(value, "on") == 0) {
        c->sandbox = SANDBOX_ON;
    } else if (strcmp(value, "off") == 0) {
        c->sandbox = SANDBOX_OFF;
    } else if (strcmp(value, "log") == 0) {
        c->sandbox = SANDBOX_LOG;
    } else {
        return bad_word(err, "sandbox", value, "on off log");
    }
    return true;
}

static bool apply_debug(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->debug, value);
}

const char *const option_group_names[OPTION_NR_GROUPS] = {
    "Boot", "Machine", "Network", "Console", "Unattended", "Other",
};

const struct option options[] = {
    {"kernel", "FILE", OPTION_BOOT, "kernel to boot: bzImage or vmlinux, any compression",
     COMPLETE_FILE, NULL, apply_kernel},
    {"initrd", "FILE", OPTION_BOOT, "initial RAM disk, used as it is; without it one is made when the kernel needs it",
     COMPLETE_FILE, NULL, apply_initrd},
    {"append", "TEXT", OPTION_BOOT, "add to the kernel command line", COMPLETE_NOTHING, NULL, apply_append},
    {"cmdline", "TEXT", OPTION_BOOT, "replace the kernel command line", COMPLETE_NOTHING, NULL, apply_cmdline},
    {"disk", "FILE[,ro][,snapshot]", OPTION_BOOT, "raw image or block device: xvda, xvdb, ...; snapshot throws writes away",
     COMPLETE_FILE, NULL, apply_disk},
    {"snapshot", NULL, OPTION_BOOT, "throw the writes to all disks away at the end", COMPLETE_NOTHING, NULL, apply_snapshot},
    {"machine", "auto|pvh", OPTION_MACHINE, "how the guest is entered and what it finds", COMPLETE_WORDS, "auto pvh", apply_machine},
    {"accel", "auto|interp", OPTION_MACHINE, "what executes its instructions", COMPLETE_WORDS, "auto interp", apply_accel},
    {"m", "SIZE", OPTION_MACHINE, "memory: 512M, 2G, or MiB (default 512M)", COMPLETE_NOTHING, NULL, apply_memory},
    {"smp", "N", OPTION_MACHINE, "number of CPUs (1 in this version)", COMPLETE_NOTHING, NULL, apply_smp},
    {"name", "NAME", OPTION_MACHINE, "what `pvemu list` calls the guest", COMPLETE_NOTHING, NULL, apply_name},
    {"net", "user|none", OPTION_NETWORK, "user network (default) or none", COMPLETE_WORDS, "user none", apply_net},
    {"p", "[ADDR:]HOST:GUEST[/udp]", OPTION_NETWORK, "forward a host port to the guest; HOST 0 picks a free one",
     COMPLETE_NOTHING, NULL, apply_forward},
    {"log", "FILE", OPTION_CONSOLE, "copy everything the guest prints to a file", COMPLETE_FILE, NULL, apply_log},
    {"timeout", "TIME", OPTION_UNATTENDED, "end the run after 90s, 5m, ... (status 124)", COMPLETE_NOTHING, NULL, apply_timeout},
    {"expect", "REGEX", OPTION_UNATTENDED, "end with success when a line matches", COMPLETE_NOTHING, NULL, apply_expect},
    {"fail", "REGEX", OPTION_UNATTENDED, "end with failure when a line matches (status 113)", COMPLETE_NOTHING, NULL, apply_fail},
    {"send", "[REGEX=>]TEXT", OPTION_UNATTENDED, "type text once a line matches (at the start without REGEX); \\n is Enter",
     COMPLETE_NOTHING, NULL, apply_send},
    {"on", "EVENT=ACTION", OPTION_UNATTENDED, "panic, reboot or poweroff = exit, reset or pause", COMPLETE_WORDS,
     "panic=exit panic=reset panic=pause reboot=exit reboot=reset reboot=pause poweroff=exit poweroff=reset poweroff=pause", apply_on},
    {"n", NULL, OPTION_OTHER, "show what would run, then stop", COMPLETE_NOTHING, NULL, apply_dry_run},
    {"paused", NULL, OPTION_OTHER, "wait for `pvemu unpause` before the first instruction", COMPLETE_NOTHING, NULL, apply_paused},
    {"S", NULL, OPTION_OTHER, "the same as -paused", COMPLETE_NOTHING, NULL, apply_paused},
    {"q", NULL, OPTION_OTHER, "say nothing but errors and the verdict", COMPLETE_NOTHING, NULL, apply_quiet},
    {"sandbox", "on|off|log", OPTION_OTHER, "confine pvemu itself (default on)", COMPLETE_WORDS, "on off log", apply_sandbox},
    {"d", "ROOM[,ROOM...]", OPTION_OTHER, "debug lines of boot, cpu, hw, pv, io, machine, ctl, xenstore, hypercall, int",
     COMPLETE_WORDS, "boot cpu hw pv io machine ctl xenstore hypercall int", apply_debug},
    {"version", NULL, OPTION_OTHER, "show the version and those of the libraries", COMPLETE_NOTHING, NULL, NULL},
    {"h", NULL, OPTION_OTHER, "show the short help", COMPLETE_NOTHING, NULL, NULL},
    {"help", NULL, OPTION_OTHER, "show every option", COMPLETE_NOTHING, NULL, NULL},
};
const unsigned nr_options = G_N_ELEMENTS(options);

const struct verb verbs[] = {
    {"run", "[OPTIONS]", "start a guest (may be left out)"},
    {"list", "", "show running guests"},
    {"pause", "[VM]", "stop a guest's CPUs and its clock"},
    {"unpause", "[VM]", "let it go on"},
    {"shutdown", "[-w] [VM]", "ask a guest to power off; -w waits until it has"},
    {"destroy", "[VM]", "end a guest at once"},
    {"help", "[TOPIC]", "all, exit-codes, or man, bash, zsh, fish for packagers"},
};
const unsigned nr_verbs = G_N_ELEMENTS(verbs);

/* Edit distance where a swap of neighbours counts as one change; -apend, -dsik. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[3][64];
    size_t la = strlen(a), lb = strlen(b);

    if (la >= 63 || lb >= 63) {
        return 64;
    }
    for (size_t j = 0; j <= lb; j++) {
        row[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= la; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *older = row[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned change = before[j - 1] + (a[i - 1] != b[j - 1]);

            now[j] = MIN(change, MIN(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = MIN(now[j], older[j - 2] + 1);
            }
        }
    }
    return row[la % 3][lb];
}

const char *options_nearest(const char *word, const char *const *names, unsigned count)
{
    unsigned best = (unsigned)MAX(strlen(word) / 3, (size_t)1) + 1;
    const char *nearest = NULL;

    for (unsigned i = 0; i < count; i++) {
        unsigned distance = edit_distance(word, names[i]);

        if (distance < best && strlen(names[i]) > 1) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

static bool unknown_option(const char *argument, GError **err)
{
    const char *names[G_N_ELEMENTS(options)];
    const char *nearest;

    for (unsigned i = 0; i < nr_options; i++) {
        names[i] = options[i].name;
    }
    nearest = options_nearest(argument + strspn(argument, "-"), names, nr_options);
    if (nearest == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "unknown option '%s'", argument);
        error_hint(err, "`pvemu -h` lists the options");
        return false;
    }
    return error_set(err, PVEMU_ERROR_USAGE, "unknown option '%s'; did you mean '-%s'?", argument,
                     nearest);
}

static const struct option *option_find(const char *name)
{
    for (unsigned i = 0; i < nr_options; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* One option at argv[*i]; moves *i on to its value when that is the next argument. */
static bool option_parse(struct config *c, int argc, char *const *argv, int *i,
                         struct option_request *request, GError **err)
{
    const char *argument = argv[*i];
    const char *word = argument + (g_str_has_prefix(argument, "--") ? 2 : 1);
    const char *equals = strchr(word, '=');
    g_autofree char *name = equals == NULL ? g_strdup(word) : g_strndup(word, (gsize)(equals - word));
    const struct option *option = option_find(name);

    if (option == NULL) {
        g_autofree char *shown = g_strndup(argument, (gsize)(word - argument) + strlen(name));

        return unknown_option(shown, err);
    }
    request->help |= strcmp(name, "h") == 0;
    request->full_help |= strcmp(name, "help") == 0;
    request->version |= strcmp(name, "version") == 0;
    if (option->apply == NULL) {
        return true;
    }
    if (option->argument == NULL) {
        return equals == NULL ? option->apply(c, NULL, err)
                              : error_set(err, PVEMU_ERROR_USAGE, "-%s takes no value", name);
    }
    if (equals != NULL) {
        return option->apply(c, equals + 1, err);
    }
    if (*i + 1 >= argc) {
        return error_set(err, PVEMU_ERROR_USAGE, "-%s needs a value: -%s %s", name, name,
                         option->argument);
    }
    return option->apply(c, argv[++*i], err);
}

bool options_parse(struct config *c, int argc, char *const *argv, int first,
                   struct option_request *request, GError **err)
{
    for (int i = first; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            error_set(err, PVEMU_ERROR_USAGE, "'%s' is not an option", argv[i]);
            error_hint(err, "a disk image is given with -disk, a kernel with -kernel");
            return false;
        }
        if (!option_parse(c, argc, argv, &i, request, err)) {
            return false;
        }
    }
    if (request->help || request->full_help || request->version) {
        return true;
    }
    if (c->kernel == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "no kernel given");
        error_hint(err, "pvemu -kernel vmlinuz -disk root.img; `pvemu -h` shows more");
        return false;
    }
    return true;
}
