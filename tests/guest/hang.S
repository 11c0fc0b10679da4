/* SPDX-License-Identifier: MIT */
/* Spins for ever without a word. */
#include "guest.h"
main:
1:  pause
    jmp 1b
