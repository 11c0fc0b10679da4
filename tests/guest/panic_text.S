/* SPDX-License-Identifier: MIT */
/* A panic that is only text: the kernel then spins, as with panic=0. */
#include "guest.h"
main:
    SAY "Kernel panic - not syncing: only text"
1:  pause
    jmp 1b
