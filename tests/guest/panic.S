/* SPDX-License-Identifier: MIT */
/* A Linux panic as its console shows it, then the crash notice. */
#include "guest.h"
main:
    SAY "Kernel panic - not syncing: test of the verdict"
    SAY "CPU: 0 PID: 1 Comm: swapper"
    HYPERCALL 29, 2, reason /* sched_op, SCHEDOP_shutdown */
1:  pause
    jmp 1b
    .section .rodata
    .align 4
reason:
    .long 3
