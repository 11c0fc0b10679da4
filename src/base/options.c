/* SPDX-License-Identifier: MIT */
/*
 * The parser of the command line. glib's own does not know long options with one dash, so
 * `-kernel` needs this one. The options themselves are in option_table.c.
 */
#include "base/options.h"

#include <string.h>

#include "base/error.h"

enum { MAX_WORD = 63, MAX_SECONDS = 1000000000 };

/* --- values --- */

bool options_parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    guint64 n = g_ascii_strtoull(text, &end, 10);
    unsigned shift = 20;

    if (!g_ascii_isdigit(text[0])) {
        return false;
    }
    if (*end != '\0') {
        const char *unit = strchr(units, g_ascii_toupper(*end));

        if (unit == NULL) {
            return false;
        }
        shift = 10 * ((unsigned)(unit - units) + 1);
        end++;
        end += strcmp(end, "iB") == 0 ? 2 : strcmp(end, "B") == 0 ? 1 : 0;
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
    size_t len = strspn(text, "0123456789.");
    g_autofree char *number = g_strndup(text, len);
    char *end;
    double n = g_ascii_strtod(number, &end);

    if (len == 0 || end == number || *end != '\0') {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(units); i++) {
        if (strcmp(text + len, units[i].unit) == 0 && n * units[i].seconds <= MAX_SECONDS) {
            *ns = (uint64_t)(n * units[i].seconds * 1e9);
            return true;
        }
    }
    return false;
}

/* --- words that are not known --- */

/* Edit distance where a swap of neighbours counts as one change: -apend, -dsik. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[3][MAX_WORD + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > MAX_WORD || lb > MAX_WORD) {
        return MAX_WORD + 1;
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
    size_t len = strlen(word);
    unsigned best = len > MAX_WORD ? 1 : (unsigned)MAX(len / 3, (size_t)1) + 1;
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
    g_autofree const char **names = g_new0(const char *, nr_options);
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
    return error_set(err, PVEMU_ERROR_USAGE, "unknown option '%s'; did you mean '-%s'?",
                     argument, nearest);
}

static bool not_an_option(const char *argument, GError **err)
{
    if (strcmp(argument, "--") == 0) {
        error_set(err, PVEMU_ERROR_USAGE, "'--' COMMAND for the guest is not supported yet");
        error_hint(err, "-append 'init=...' and -send can start something");
    } else {
        error_set(err, PVEMU_ERROR_USAGE, "'%s' is not an option", argument);
        error_hint(err, "a disk image is given with -disk, a kernel with -kernel");
    }
    return false;
}

/* --- the parser --- */

static const struct option *option_find(const char *name)
{
    for (unsigned i = 0; i < nr_options; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* Options that ask for a text: they have no value and no effect on the configuration. */
static void option_ask(struct option_request *request, const char *name)
{
    request->help |= strcmp(name, "h") == 0;
    request->full_help |= strcmp(name, "help") == 0;
    request->version |= strcmp(name, "version") == 0;
}

/* One option at argv[*i]; moves *i on to its value when that is the next argument. */
static bool option_parse(struct config *c, int argc, char *const *argv, int *i,
                         struct option_request *request, GError **err)
{
    const char *word = argv[*i] + (g_str_has_prefix(argv[*i], "--") ? 2 : 1);
    const char *equals = strchr(word, '=');
    size_t len = equals == NULL ? strlen(word) : (size_t)(equals - word);
    g_autofree char *name = g_strndup(word, len);
    g_autofree char *shown = g_strndup(argv[*i], (gsize)(word - argv[*i]) + len);
    const struct option *option = option_find(name);

    if (option == NULL) {
        return unknown_option(shown, err);
    }
    if (option->argument == NULL && equals != NULL) {
        return error_set(err, PVEMU_ERROR_USAGE, "-%s takes no value", name);
    }
    if (option->apply == NULL) {
        option_ask(request, name);
        return true;
    }
    if (option->argument == NULL) {
        return option->apply(c, NULL, err);
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

/* What only the options together can get wrong. */
static bool options_agree(const struct config *c, GError **err)
{
    if (c->kernel == NULL) {
        error_set(err, PVEMU_ERROR_USAGE, "no kernel given");
        error_hint(err, "pvemu -kernel vmlinuz -disk root.img; `pvemu -h` shows more");
        return false;
    }
    if (c->forwards->len > 0 && g_strcmp0(c->net, "none") == 0) {
        return error_set(err, PVEMU_ERROR_USAGE, "-p %s: there is no network with -net none",
                         (const char *)g_ptr_array_index(c->forwards, 0));
    }
    return true;
}

bool options_parse(struct config *c, int argc, char *const *argv, int first,
                   struct option_request *request, GError **err)
{
    for (int i = first; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0' || strcmp(argv[i], "--") == 0) {
            return not_an_option(argv[i], err);
        }
        if (!option_parse(c, argc, argv, &i, request, err)) {
            return false;
        }
    }
    return request->help || request->full_help || request->version || options_agree(c, err);
}
