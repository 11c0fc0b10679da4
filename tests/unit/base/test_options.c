/* SPDX-License-Identifier: MIT */
/* The command line: values, words that are nearly right, and what the table is used for. */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "base/options.h"

static void check_size(const char *text, uint64_t want)
{
    uint64_t bytes = 0;

    g_assert_true(options_parse_size(text, &bytes));
    g_assert_cmphex(bytes, ==, want);
}

static void test_size(void)
{
    static const char *const wrong[] = {
        "", "M", "-1", "+1", " 1", "0x10", "1.5G", "512B", "512iB", "512Mi", "512MM", "512 M",
        "17592186044416", "18446744073709551615", "18446744073709551616", "16777216T", "1P",
    };

    check_size("0", 0);
    check_size("1", 1 << 20);
    check_size("512", 512ull << 20);
    check_size("512M", 512ull << 20);
    check_size("512m", 512ull << 20);
    check_size("512MB", 512ull << 20);
    check_size("512MiB", 512ull << 20);
    check_size("4k", 4096);
    check_size("2G", 2ull << 30);
    check_size("1T", 1ull << 40);
    check_size("17592186044415", 0xfffffffffffull << 20);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t bytes = 7;

        g_test_message("%s", wrong[i]);
        g_assert_false(options_parse_size(wrong[i], &bytes));
        g_assert_cmpuint(bytes, ==, 7);
    }
}

static void check_time(const char *text, uint64_t want)
{
    uint64_t ns = 0;

    g_assert_true(options_parse_time(text, &ns));
    g_assert_cmpuint(ns, ==, want);
}

static void test_time(void)
{
    static const char *const wrong[] = {
        "", "s", "-1", "+1", " 1", "0x10", "1e3", "inf", "nan", "1..5", ".", "5 s", "5S", "5d",
        "1000000001", "999999999h", "1,5",
    };

    check_time("90", 90000000000);
    check_time("90s", 90000000000);
    check_time("500ms", 500000000);
    check_time("1.5", 1500000000);
    check_time(".5s", 500000000);
    check_time("5m", 300000000000);
    check_time("5min", 300000000000);
    check_time("1h", 3600000000000);
    check_time("1000000000", 1000000000000000000);
    check_time("0", 0);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        uint64_t ns = 7;

        g_test_message("%s", wrong[i]);
        g_assert_false(options_parse_time(wrong[i], &ns));
        g_assert_cmpuint(ns, ==, 7);
    }
}

static void test_nearest(void)
{
    static const char *const names[] = {"append", "disk", "m", "kernel", "snapshot", "on"};
    g_autofree char *long_word = g_strnfill(300, 'a');
    static const struct {
        const char *word, *nearest;
    } rows[] = {
        {"apend", "append"}, {"append", "append"},     {"dsik", "disk"},  {"disks", "disk"},
        {"kernle", "kernel"}, {"snapshto", "snapshot"}, {"xyzzy", NULL},   {"", NULL},
        {"qq", NULL},         {"krnel", "kernel"},      {"of", "on"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("%s", rows[i].word);
        g_assert_cmpstr(options_nearest(rows[i].word, names, G_N_ELEMENTS(names)), ==,
                        rows[i].nearest);
    }
    g_assert_null(options_nearest(long_word, names, G_N_ELEMENTS(names)));
}

/* Parses words separated by spaces; NULL: well, else the error's text. */
static char *parse(struct config *c, struct option_request *request, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    g_autoptr(GError) err = NULL;
    struct option_request none = {0};

    if (options_parse(c, (int)g_strv_length(words), words, 0, request != NULL ? request : &none,
                      &err)) {
        g_assert_no_error(err);
        return NULL;
    }
    g_assert_nonnull(err);
    return g_strdup(err->message);
}

static void test_forms(void)
{
    struct config *c = config_new();

    g_assert_null(parse(c, NULL, "-kernel k --append a=1 -append=b -m=64,max=1G --disk=x,,y,ro "
                                 "-disk z -p 0:22 -p 1:2 -on panic=pause -on=reboot=reset "
                                 "-S -q -n -send a -send b=>c -timeout 1m -name w-1.x "
                                 "-smp 2,max=3"));
    g_assert_cmpstr(c->kernel, ==, "k");
    g_assert_cmpstr(c->append, ==, "a=1 b");
    g_assert_cmpuint(c->memory_bytes, ==, 64 << 20);
    g_assert_cmpuint(c->disks->len, ==, 2);
    g_assert_cmpstr(((struct config_disk *)c->disks->pdata[0])->path, ==, "x,y");
    g_assert_true(((struct config_disk *)c->disks->pdata[0])->read_only);
    g_assert_false(((struct config_disk *)c->disks->pdata[0])->snapshot);
    g_assert_false(((struct config_disk *)c->disks->pdata[1])->read_only);
    g_assert_cmpuint(c->forwards->len, ==, 2);
    g_assert_cmpuint(c->sends->len, ==, 2);
    g_assert_cmpint(c->on_panic, ==, ACTION_PAUSE);
    g_assert_cmpint(c->on_reboot, ==, ACTION_RESET);
    g_assert_cmpint(c->on_poweroff, ==, ACTION_DEFAULT);
    g_assert_true(c->paused && c->quiet && c->dry_run);
    g_assert_cmpuint(c->timeout_ns, ==, 60000000000);
    g_assert_cmpuint(c->memory_max_bytes, ==, 1 << 30);
    g_assert_cmpuint(c->smp, ==, 2);
    g_assert_cmpuint(c->smp_max, ==, 3);
    config_free(c);
}

static void test_requests(void)
{
    struct config *c = config_new();
    struct option_request request = {0};

    g_assert_null(parse(c, &request, "-version"));
    g_assert_true(request.version && !request.help && !request.full_help);
    g_assert_null(parse(c, &request, "--help -h"));
    g_assert_true(request.help && request.full_help);
    config_free(c);
}

static void test_errors(void)
{
    static const struct {
        const char *line, *error;
    } rows[] = {
        {"-kernel", "-kernel needs a value: -kernel FILE"},
        {"-q=1", "-q takes no value"},
        {"-h=1", "-h takes no value"},
        {"-apend x", "unknown option '-apend'; did you mean '-append'?"},
        {"--apend=x", "unknown option '--apend'; did you mean '-append'?"},
        {"-xyzzy", "unknown option '-xyzzy'\nhint: `pvemu -h` lists the options"},
        {"-kernel k -net none -p 1:2", "-p 1:2: there is no network with -net none"},
        {"-kernel k -smp -1", "-smp: '-1' is not a number of CPUs"},
        {"-kernel k -smp 33", "-smp: a guest has at most 32 CPUs"},
        {"-kernel k -smp 2,max=40", "-smp: a guest has at most 32 CPUs"},
        {"-kernel k -smp 4,max=2", "-smp: max=2 is less than 4"},
        {"-kernel k -smp 4,2", "-smp: '4,2' is not N or N,max=M"},
        {"-on panic", "-on: 'panic' is not panic, reboot or poweroff = exit, reset or pause, or suspend "
                     "= exit or pause"},
        {"-on panic=", "-on: 'panic=' is not panic, reboot or poweroff = exit, reset or pause, or suspend "
                     "= exit or pause"},
        {"-on suspend=reset", "-on: 'suspend=reset' is not panic, reboot or poweroff = exit, reset "
                              "or pause, or suspend = exit or pause"},
        {"-disk ,ro", "-disk: the file name is missing in ',ro'"},
        {"-disk a,format=qcow2", "-disk: format 'qcow2' is not supported; raw is"},
        {"-disk a,rw", "-disk: 'rw' is not one of: ro snapshot format=raw"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct config *c = config_new();
        g_autofree char *error = parse(c, NULL, rows[i].line);

        g_assert_cmpstr(error, ==, rows[i].error);
        config_free(c);
    }
}

/* Every option is in every text made from the table. */
static void test_table(void)
{
    g_autofree char *all = options_help_all();
    g_autofree char *man = options_man_page("1");
    g_autofree char *bash = options_completion_bash();
    g_autofree char *zsh = options_completion_zsh();
    g_autofree char *fish = options_completion_fish();
    g_auto(GStrv) lines = g_strsplit(all, "\n", -1);

    for (unsigned i = 0; i < nr_options; i++) {
        g_autofree char *in_all = g_strdup_printf("\n-%s", options[i].name);
        g_autofree char *in_man = g_strdup_printf("\\fB\\-%s\\fR", options[i].name);
        g_autofree char *in_bash = g_strdup_printf("-%s", options[i].name);
        g_autofree char *in_zsh = g_strdup_printf("-%s[", options[i].name);
        g_autofree char *in_fish = g_strdup_printf("-o %s -d", options[i].name);

        g_assert_nonnull(strstr(all, in_all));
        g_assert_nonnull(strstr(man, in_man));
        g_assert_nonnull(strstr(bash, in_bash));
        g_assert_nonnull(strstr(zsh, in_zsh));
        g_assert_nonnull(strstr(fish, in_fish));
        g_assert_true((options[i].completion == COMPLETE_WORDS) == (options[i].words != NULL));
        g_assert_false(g_str_has_suffix(options[i].help, "."));
    }
    for (size_t i = 0; lines[i] != NULL; i++) {
        g_assert_cmpuint(strlen(lines[i]), <=, 90);
    }
}

static void test_topics(void)
{
    g_auto(GStrv) topics = g_strsplit(options_help_topics, ", ", -1);

    for (size_t i = 0; topics[i] != NULL; i++) {
        g_autofree char *text = options_help_topic(topics[i], "1");

        g_assert_nonnull(text);
    }
    g_assert_null(options_help_topic("nothing", "1"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/options/size", test_size);
    g_test_add_func("/base/options/time", test_time);
    g_test_add_func("/base/options/nearest", test_nearest);
    g_test_add_func("/base/options/forms", test_forms);
    g_test_add_func("/base/options/requests", test_requests);
    g_test_add_func("/base/options/errors", test_errors);
    g_test_add_func("/base/options/table", test_table);
    g_test_add_func("/base/options/topics", test_topics);
    return g_test_run();
}
