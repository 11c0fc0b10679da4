/* SPDX-License-Identifier: MIT */
/* The composed command line. */
#include <glib.h>

#include "boot/cmdline.h"

static void test_table(void)
{
    static const struct {
        struct cmdline_request req;
        const char *want;
    } cases[] = {
        {{.console = "hvc0", .root = "/dev/xvda"}, "console=hvc0 root=/dev/xvda rw"},
        {{.console = "hvc0", .root = "/dev/xvda1", .read_only = true, .unattended = true},
         "console=hvc0 root=/dev/xvda1 ro panic=-1"},
        {{.console = "hvc0", .root = "/dev/xvda", .root_type = "ext4", .append = "quiet"},
         "console=hvc0 root=/dev/xvda rootfstype=ext4 rw quiet"},
        {{.console = "hvc0",
          .root = "/dev/xvda",
          .unattended = true,
          .append = "console=ttyS0 root=LABEL=x ro panic=5"},
         "console=ttyS0 root=LABEL=x ro panic=5"},
        {{.console = "hvc0", .root = "/dev/xvda", .append = "myroot=1 row"},
         "console=hvc0 root=/dev/xvda rw myroot=1 row"},
        {{.console = "hvc0", .append = ""}, "console=hvc0"},
        {{.console = "hvc0", .root = "/dev/xvda", .replace = "just this", .append = "x"},
         "just this"},
        {{.console = "hvc0", .root = "/dev/xvda", .append = "x=\"a ro b\" -- rw"},
         "console=hvc0 root=/dev/xvda rw x=\"a ro b\" -- rw"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = boot_cmdline(&cases[i].req);

        g_assert_cmpstr(got, ==, cases[i].want);
    }
}

static void test_value(void)
{
    static const char line[] = "x=\"a root=no b\" root=/dev/xvda root=LABEL=y quiet -- root=z";
    g_autofree char *value = boot_cmdline_value(line, "root=");

    g_assert_cmpstr(value, ==, "LABEL=y"); /* the last one counts */
    g_assert_null(boot_cmdline_value("noroot=1 root", "root="));
    g_assert_null(boot_cmdline_value(NULL, "root="));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/boot/cmdline/table", test_table);
    g_test_add_func("/boot/cmdline/value", test_value);
    return g_test_run();
}
