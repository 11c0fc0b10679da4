/* SPDX-License-Identifier: MIT */
/* HLT with interrupts off: the guest powers off. */
#include "guest.h"
main:
    SAY "poweroff"
    cli
    hlt
    EXIT 99
