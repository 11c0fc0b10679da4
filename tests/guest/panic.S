/* SPDX-License-Identifier: MIT */
/* A Linux panic as its console shows it, then the crash notice. */
#include "guest.h"
main:
    SAY "Kernel panic - not syncing: test of the verdict"
    SAY "CPU: 0 PID: 1 Comm: swapper"
    SHUTDOWN 3
