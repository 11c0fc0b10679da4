/* SPDX-License-Identifier: MIT */
/* SCHEDOP_shutdown(suspend). */
#define SUSPEND_CANCEL
#include "guest.h"
main:
    HYPERCALL 29, 2, reason /* sched_op, SCHEDOP_shutdown */
1:  pause
    jmp 1b
    .section .rodata
    .align 4
reason:
    .long 2
