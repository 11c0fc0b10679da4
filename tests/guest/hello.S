/* SPDX-License-Identifier: MIT */
/* Prints what a test waits for, then spins. */
#include "guest.h"
main:
    SAY "hello from the guest"
    SAY_PART "prompt: "
1:  pause
    jmp 1b
