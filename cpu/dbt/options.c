/* SPDX-License-Identifier: MIT */
/* The words behind `-accel bt,`: for those who test or tune the translator. */
#include <string.h>

#include "base/error.h"
#include "base/options.h"

#include "dbt.h"

static bool option_number(const char *word, const char *value, uint64_t max, unsigned *field,
                          GError **err)
{
    guint64 n;

    if (value == NULL || !g_ascii_string_to_unsigned(value, 10, 1, max, &n, NULL)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-accel bt: '%s' wants a number from 1 to %u",
                         word, (unsigned)max);
    }
    *field = (unsigned)n;
    return true;
}

static bool option_seed(const char *word, const char *value, uint64_t *field, GError **err)
{
    guint64 n;

    if (value == NULL || !g_ascii_string_to_unsigned(value, 10, 0, G_MAXUINT64, &n, NULL)) {
        return error_set(err, PVEMU_ERROR_USAGE, "-accel bt: '%s' wants a number", word);
    }
    *field = n;
    return true;
}

static bool option_cache(const char *word, const char *value, uint32_t *field, GError **err)
{
    uint64_t bytes;

    if (value == NULL || !options_parse_size(value, &bytes) || bytes == 0 ||
        bytes > UINT32_MAX) {
        return error_set(err, PVEMU_ERROR_USAGE, "-accel bt: '%s' wants a size, as in %s=1M",
                         word, word);
    }
    *field = (uint32_t)bytes;
    return true;
}

static bool option_one(struct dbt_options *o, const char *word, const char *value, GError **err)
{
    if (strcmp(word, "lockstep") == 0 && value == NULL) {
        o->lockstep = 1;
        return true;
    }
    if (strcmp(word, "lockstep") == 0) {
        return option_number(word, value, 1000000, &o->lockstep, err);
    }
    if (strcmp(word, "nolink") == 0 && value == NULL) {
        o->no_jumps = true;
        return true;
    }
    if (strcmp(word, "larges") == 0 && value == NULL) {
        o->larges = true;
        return true;
    }
    if (strcmp(word, "lookups") == 0 && value == NULL) {
        o->lookups = true;
        return true;
    }
    if (strcmp(word, "views") == 0 && value == NULL) {
        o->views = true;
        return true;
    }
    if (strcmp(word, "runs") == 0 && value == NULL) {
        o->runs = true;
        return true;
    }
    if (strcmp(word, "loops") == 0 && value == NULL) {
        o->loops = true;
        return true;
    }
    if (strcmp(word, "perf") == 0 && value == NULL) {
        o->perf = true;
        return true;
    }
    if (strcmp(word, "hot") == 0) {
        return option_number(word, value, 1000000, &o->hot, err);
    }
    if (strcmp(word, "insns") == 0) {
        return option_number(word, value, 64, &o->insns, err);
    }
    if (strcmp(word, "tlb") == 0) {
        return option_number(word, value, 64, &o->tlb, err);
    }
    if (strcmp(word, "shake") == 0) {
        return option_number(word, value, 1000000, &o->shake, err);
    }
    if (strcmp(word, "relink") == 0) {
        return option_number(word, value, 1000000, &o->relink, err);
    }
    if (strcmp(word, "seed") == 0) {
        return option_seed(word, value, &o->seed, err);
    }
    if (strcmp(word, "cache") == 0) {
        return option_cache(word, value, &o->cache, err);
    }
    return error_set(err, PVEMU_ERROR_USAGE,
                     "-accel bt: '%s' is not one of: lockstep[=N] nolink hot=N cache=SIZE "
                     "tlb=N insns=N lookups runs views larges loops shake=N relink=N seed=N perf", word);
}

bool dbt_options_parse(struct dbt_options *o, const char *text, GError **err)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);

    if (words[0] == NULL) {
        return option_one(o, "", NULL, err);
    }
    for (size_t i = 0; words[i] != NULL; i++) {
        char *value = strchr(words[i], '=');

        if (value != NULL) {
            *value++ = '\0';
        }
        if (!option_one(o, words[i], value, err)) {
            return false;
        }
    }
    if (o->lockstep != 0 && o->hot == 0) {
        o->hot = 1;
    }
    return true;
}
