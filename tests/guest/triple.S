/* SPDX-License-Identifier: MIT */
/* A triple fault: no IDT, then an exception. */
#include "guest.h"
main:
    SAY "triple"
    lidt empty
    ud2
    .section .rodata
empty:
    .word 0
    .long 0
