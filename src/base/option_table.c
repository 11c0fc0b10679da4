/* SPDX-License-Identifier: MIT */
/*
 * The one table of options and verbs. Parser (options.c), help and man page (options_help.c)
 * and shell completion (options_completion.c) read it; a new option is a row here and a
 * function that checks its value and stores it.
 */
#include "base/options.h"

#include <string.h>

#include "base/error.h"

enum { MIN_MEMORY_MIB = 16, MAX_MEMORY_MIB = 1 << 20, MAX_NAME = 64, MAX_CPUS = 32 };

#define NAME_LETTERS \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

static bool set_text(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
    return true;
}

static bool bad_word(GError **err, const char *option, const char *value, const char *words)
{
    return error_set(err, PVEMU_ERROR_USAGE, "-%s: '%s' is not one of: %s", option, value,
                     words);
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
    if (strcmp(value, "pc") == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-machine %s is not supported yet", value);
    }
    if (strcmp(value, "auto") != 0 && strcmp(value, "pvh") != 0 && strcmp(value, "pv") != 0) {
        return bad_word(err, "machine", value, "auto pvh pv");
    }
    return set_text(&c->machine, value);
}

/* The file's name up to the first single comma; a comma in it is written twice. */
static char *disk_path(const char *value, const char **rest)
{
    GString *path = g_string_new(NULL);
    const char *p = value;

    while (*p != '\0' && (*p != ',' || p[1] == ',')) {
        g_string_append_c(path, *p);
        p += *p == ',' ? 2 : 1;
    }
    *rest = *p == ',' ? p + 1 : p;
    return g_string_free(path, FALSE);
}

static bool disk_word(struct config_disk *disk, const char *word, GError **err)
{
    if (strcmp(word, "ro") == 0) {
        disk->read_only = true;
    } else if (strcmp(word, "snapshot") == 0) {
        disk->snapshot = true;
    } else if (strcmp(word, "format=raw") == 0) {
        return set_text(&disk->format, "raw");
    } else if (g_str_has_prefix(word, "format=")) {
        return error_set(err, PVEMU_ERROR_USAGE, "-disk: format '%s' is not supported; raw is",
                         word + strlen("format="));
    } else {
        return bad_word(err, "disk", word, "ro snapshot format=raw");
    }
    return true;
}

/* PATH[,ro][,snapshot][,format=F] */
static bool apply_disk(struct config *c, const char *value, GError **err)
{
    struct config_disk *disk = g_new0(struct config_disk, 1);
    g_auto(GStrv) words = NULL;
    const char *rest;

    g_ptr_array_add(c->disks, disk);
    disk->path = disk_path(value, &rest);
    if (*disk->path == '\0') {
        return error_set(err, PVEMU_ERROR_USAGE, "-disk: the file name is missing in '%s'",
                         value);
    }
    words = g_strsplit(rest, ",", -1);
    for (size_t i = 0; words[i] != NULL; i++) {
        if (!disk_word(disk, words[i], err)) {
            return false;
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

/* A size of memory from text to `end`. */
static bool parse_memory(const char *text, const char *end, uint64_t *bytes, GError **err)
{
    g_autofree char *word = g_strndup(text, (gsize)(end - text));

    if (!options_parse_size(word, bytes)) {
        error_set(err, PVEMU_ERROR_USAGE, "-m: '%s' is not a size", word);
        error_hint(err, "write 512M, 2G, or a number of MiB");
        return false;
    }
    *bytes &= ~(uint64_t)0xfff;
    if (*bytes >> 20 < MIN_MEMORY_MIB || *bytes >> 20 > MAX_MEMORY_MIB) {
        return error_set(err, PVEMU_ERROR_USAGE, "-m: %s is outside 16M to 1024G", word);
    }
    return true;
}

/* SIZE or SIZE,max=SIZE */
static bool apply_memory(struct config *c, const char *value, GError **err)
{
    const char *comma = strchrnul(value, ',');
    uint64_t now, max;

    if (!parse_memory(value, comma, &now, err)) {
        return false;
    }
    max = now;
    if (*comma != '\0') {
        if (!g_str_has_prefix(comma, ",max=")) {
            return error_set(err, PVEMU_ERROR_USAGE, "-m: '%s' is not SIZE or SIZE,max=SIZE",
                             value);
        }
        if (!parse_memory(comma + 5, comma + strlen(comma), &max, err)) {
            return false;
        }
    }
    if (max < now) {
        return error_set(err, PVEMU_ERROR_USAGE, "-m: max= is less than the size before it");
    }
    c->memory_bytes = now;
    c->memory_max_bytes = max;
    return true;
}

/* A number of CPUs at *text, up to `end`. */
static bool parse_cpus(const char *text, const char *end, unsigned *cpus)
{
    g_autofree char *word = g_strndup(text, (gsize)(end - text));
    guint64 n;

    if (!g_ascii_string_to_unsigned(word, 10, 1, G_MAXUINT, &n, NULL)) {
        return false;
    }
    *cpus = (unsigned)n;
    return true;
}

/* N or N,max=M */
static bool apply_smp(struct config *c, const char *value, GError **err)
{
    const char *comma = strchrnul(value, ',');
    unsigned now, max;

    if (!parse_cpus(value, comma, &now)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-smp: '%s' is not a number of CPUs", value);
    }
    max = now;
    if (*comma != '\0' && (!g_str_has_prefix(comma, ",max=") ||
                           !parse_cpus(comma + 5, comma + strlen(comma), &max))) {
        error_set(err, PVEMU_ERROR_USAGE, "-smp: '%s' is not N or N,max=M", value);
        return false;
    }
    if (now > MAX_CPUS || max > MAX_CPUS) {
        return error_set(err, PVEMU_ERROR_USAGE, "-smp: a guest has at most %d CPUs", MAX_CPUS);
    }
    if (max < now) {
        return error_set(err, PVEMU_ERROR_USAGE, "-smp: max=%u is less than %u", max, now);
    }
    c->smp = now;
    c->smp_max = max;
    return true;
}

/* What follows kvm. */
static bool apply_irqchip(struct config *c, const char *word, GError **err)
{
    if (strcmp(word, "irqchip=user") != 0 && strcmp(word, "irqchip=split") != 0) {
        error_set(err, PVEMU_ERROR_USAGE, "-accel: 'kvm,%s': there is no such choice", word);
        error_hint(err, "kvm,irqchip=user or kvm,irqchip=split");
        return false;
    }
    c->kvm_split = strcmp(word, "irqchip=split") == 0;
    return true;
}

/* bt may be followed by words for developers, which the engine itself reads. */
static bool apply_accel(struct config *c, const char *value, GError **err)
{
    c->kvm_split = false;
    if (g_str_has_prefix(value, "kvm,")) {
        if (!apply_irqchip(c, value + strlen("kvm,"), err)) {
            return false;
        }
        value = "kvm";
    }
    if (g_str_has_prefix(value, "bt,")) {
        set_text(&c->accel_words, value + strlen("bt,"));
        value = "bt";
    }
    if (strcmp(value, "auto") != 0 && strcmp(value, "kvm") != 0 && strcmp(value, "bt") != 0 &&
        strcmp(value, "interp") != 0) {
        return bad_word(err, "accel", value, "auto kvm bt interp");
    }
    return set_text(&c->accel, value);
}

static bool apply_name(struct config *c, const char *value, GError **err)
{
    size_t len = strlen(value);

    if (len == 0 || len > MAX_NAME || value[0] == '-' || value[0] == '.' ||
        strspn(value, NAME_LETTERS) != len) {
        error_set(err, PVEMU_ERROR_USAGE, "-name: '%s' is not a name", value);
        error_hint(err, "letters, digits, '-', '_' and '.', at most %d; no '-' or '.' first",
                   MAX_NAME);
        return false;
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

static bool check_regex(const char *option, const char *value, GError **err)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GRegex) regex = g_regex_new(value, G_REGEX_RAW, 0, &why);

    const char *cause;

    if (regex != NULL) {
        return true;
    }
    cause = g_strrstr(why->message, ": "); /* before it stands the pattern again */
    return error_set(err, PVEMU_ERROR_USAGE, "-%s: '%s' is not a regular expression: %s",
                     option, value, cause != NULL ? cause + 2 : why->message);
}

static bool apply_regex(char **field, const char *option, const char *value, GError **err)
{
    return check_regex(option, value, err) && set_text(field, value);
}

static bool apply_expect(struct config *c, const char *value, GError **err)
{
    return apply_regex(&c->expect, "expect", value, err);
}

static bool apply_fail(struct config *c, const char *value, GError **err)
{
    return apply_regex(&c->fail, "fail", value, err);
}

/* [REGEX=>]TEXT */
static bool apply_send(struct config *c, const char *value, GError **err)
{
    const char *arrow = strstr(value, "=>");
    g_autofree char *pattern = arrow == NULL ? NULL : g_strndup(value, (gsize)(arrow - value));

    if (pattern != NULL && !check_regex("send", pattern, err)) {
        return false;
    }
    g_ptr_array_add(c->sends, g_strdup(value));
    return true;
}

static enum config_action *on_event(struct config *c, const char *event)
{
    if (strcmp(event, "panic") == 0) {
        return &c->on_panic;
    }
    if (strcmp(event, "reboot") == 0) {
        return &c->on_reboot;
    }
    if (strcmp(event, "suspend") == 0) {
        return &c->on_suspend;
    }
    return strcmp(event, "poweroff") == 0 ? &c->on_poweroff : NULL;
}

static bool apply_on(struct config *c, const char *value, GError **err)
{
    static const char *const action_names[] = {"", "exit", "reset", "pause"};
    g_auto(GStrv) words = g_strsplit(value, "=", 2);
    enum config_action *field = words[0] == NULL ? NULL : on_event(c, words[0]);

    for (unsigned i = ACTION_EXIT; field != NULL && i < G_N_ELEMENTS(action_names); i++) {
        if (g_strcmp0(words[1], action_names[i]) == 0 &&
            (field != &c->on_suspend || i != ACTION_RESET)) {
            *field = (enum config_action)i;
            return true;
        }
    }
    return error_set(err, PVEMU_ERROR_USAGE,
                     "-on: '%s' is not panic, reboot or poweroff = exit, reset or pause, or "
                     "suspend = exit or pause",
                     value);
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

static bool apply_debug_file(struct config *c, const char *value, GError **err)
{
    (void)err;
    return set_text(&c->debug_file, value);
}

const char *const option_group_names[OPTION_NR_GROUPS] = {
    "Boot", "Machine", "Network", "Console", "Unattended", "Other",
};

#define SWITCH(name, group, help, apply) \
    {name, NULL, group, COMPLETE_NOTHING, NULL, apply, help}
#define TEXT(name, argument, group, help, apply) \
    {name, argument, group, COMPLETE_NOTHING, NULL, apply, help}
#define PATH(name, argument, group, help, apply) \
    {name, argument, group, COMPLETE_FILE, NULL, apply, help}
#define WORDS(name, argument, group, words, help, apply) \
    {name, argument, group, COMPLETE_WORDS, words, apply, help}

const struct option options[] = {
    PATH("kernel", "FILE", OPTION_BOOT, "kernel to boot: bzImage or vmlinux, any compression",
         apply_kernel),
    PATH("initrd", "FILE", OPTION_BOOT,
         "initial RAM disk, used as it is; without it one is made when the kernel needs it",
         apply_initrd),
    TEXT("append", "TEXT", OPTION_BOOT, "add to the kernel command line", apply_append),
    TEXT("cmdline", "TEXT", OPTION_BOOT, "replace the kernel command line", apply_cmdline),
    PATH("disk", "FILE[,ro][,snapshot]", OPTION_BOOT,
         "raw image or block device: xvda, xvdb, ...; snapshot throws writes away", apply_disk),
    SWITCH("snapshot", OPTION_BOOT, "throw the writes to all disks away at the end",
           apply_snapshot),

    WORDS("machine", "auto|pvh|pv", OPTION_MACHINE, "auto pvh pv",
          "how the guest is entered and what it finds", apply_machine),
    WORDS("accel", "auto|kvm|bt|interp", OPTION_MACHINE, "auto kvm bt interp",
          "what executes its instructions; kvm,irqchip=split: with KVM's local APICs",
          apply_accel),
    TEXT("m", "SIZE[,max=SIZE]", OPTION_MACHINE,
         "memory: 512M, 2G, or MiB (default 512M), and how much later", apply_memory),
    TEXT("smp", "N[,max=M]", OPTION_MACHINE, "number of CPUs, and how many there may be later",
         apply_smp),
    TEXT("name", "NAME", OPTION_MACHINE, "what `pvemu list` calls the guest", apply_name),

    WORDS("net", "user|none", OPTION_NETWORK, "user none", "user network (default) or none",
          apply_net),
    TEXT("p", "[ADDR:]HOST:GUEST[/udp]", OPTION_NETWORK,
         "forward a host port to the guest; HOST 0 picks a free one", apply_forward),

    PATH("log", "FILE", OPTION_CONSOLE, "copy everything the guest prints to a file",
         apply_log),

    TEXT("timeout", "TIME", OPTION_UNATTENDED, "end the run after 90s, 5m, ... (status 124)",
         apply_timeout),
    TEXT("expect", "REGEX", OPTION_UNATTENDED, "end with success when a line matches",
         apply_expect),
    TEXT("fail", "REGEX", OPTION_UNATTENDED,
         "end with failure when a line matches (status 113)", apply_fail),
    TEXT("send", "[REGEX=>]TEXT", OPTION_UNATTENDED,
         "type text once a line matches (at the first output without REGEX); \\n is Enter",
         apply_send),
    WORDS("on", "EVENT=ACTION", OPTION_UNATTENDED,
          "panic=exit panic=reset panic=pause reboot=exit reboot=reset reboot=pause "
          "poweroff=exit poweroff=reset poweroff=pause suspend=exit suspend=pause",
          "panic, reboot or poweroff = exit, reset or pause; suspend = exit or pause",
          apply_on),

    SWITCH("n", OPTION_OTHER, "show what would run, then stop", apply_dry_run),
    SWITCH("paused", OPTION_OTHER, "wait for `pvemu unpause` before the first instruction",
           apply_paused),
    SWITCH("S", OPTION_OTHER, "the same as -paused", apply_paused),
    SWITCH("q", OPTION_OTHER, "say nothing but errors and the verdict", apply_quiet),
    WORDS("sandbox", "on|off|log", OPTION_OTHER, "on off log",
          "confine pvemu itself (default on)", apply_sandbox),
    WORDS("d", "ROOM[,ROOM...]", OPTION_OTHER,
          "boot cpu hw pv io machine ctl xenstore hypercall int in_asm out_asm exits stats",
          "debug lines of boot, cpu, hw, pv, io, machine, ctl, xenstore, hypercall, int; "
          "of the translator: in_asm, out_asm, exits, stats",
          apply_debug),
    PATH("D", "FILE", OPTION_OTHER, "write debug lines to a file", apply_debug_file),
    SWITCH("version", OPTION_OTHER, "show the version and those of the libraries", NULL),
    SWITCH("h", OPTION_OTHER, "show the short help", NULL),
    SWITCH("help", OPTION_OTHER, "show every option", NULL),
};
const unsigned nr_options = G_N_ELEMENTS(options);

const struct verb verbs[] = {
    {"run", "[OPTIONS]", "start a guest (may be left out)"},
    {"list", "", "show running guests"},
    {"stats", "[VM]", "what the translator has counted"},
    {"pause", "[VM]", "stop a guest's CPUs and its clock"},
    {"unpause", "[VM]", "let it go on"},
    {"suspend", "[VM]", "ask a guest to suspend, and wait until it has"},
    {"resume", "[-cancel] [VM]", "let it go on, devices connecting again; -cancel: as it was"},
    {"shutdown", "[-w] [VM]", "ask a guest to power off; -w waits until it has"},
    {"destroy", "[VM]", "end a guest at once"},
    {"mem-set", "[VM] SIZE", "have the guest use that much memory, up to max= of its -m"},
    {"vcpu-set", "[VM] N", "have the guest use N CPUs, up to max= of its -smp"},
    {"accel", "[VM] ENGINE", "go on with another engine: kvm, bt or interp"},
    {"doctor", "", "what of this host can be used, and how to get the rest"},
    {"help", "[TOPIC]", "all, exit-codes, or man, bash, zsh, fish for packagers"},
};
const unsigned nr_verbs = G_N_ELEMENTS(verbs);
