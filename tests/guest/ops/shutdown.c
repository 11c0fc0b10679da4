/* SPDX-License-Identifier: MIT */
/*
 * Ends as its command line says: "s N" by SCHEDOP_shutdown with reason N, "c N" by that of
 * sched_op_compat, "d" by switching off the only vCPU, "w" by a watchdog that nobody feeds.
 */
#include "ops.h"

void test(void)
{
    const char *line = command_line();
    unsigned reason = line[0] != '\0' && line[1] == ' ' ? line[2] - '0' : 99;
    struct sched_shutdown op = {.reason = reason};
    struct sched_watchdog dog = {.timeout = 1};

    if (line[0] == 's') {
        say("by sched_op\n");
        HC2(sched_op, SCHEDOP_shutdown, &op);
    } else if (line[0] == 'c') {
        say("by sched_op_compat\n");
        HC2(sched_op_compat, SCHEDOP_shutdown, reason);
    } else if (line[0] == 'd') {
        say("by vcpu_op\n");
        HC3(vcpu_op, VCPUOP_down, 0, 0);
    } else if (line[0] == 'w') {
        CHECK(HC2(sched_op, SCHEDOP_watchdog, &dog), 1);
        say("by the watchdog\n");
        for (;;) {
            HC2(sched_op, SCHEDOP_yield, 0);
        }
    }
    say("it came back\n");
    for (;;) { /* finish() ends like one of these */
    }
}
