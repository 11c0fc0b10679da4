/* SPDX-License-Identifier: MIT */
/* Reboots by the ACPI reset register for ever: for -on reboot=reset with -timeout. */
#include "guest.h"
main:
    SAY "boot"
    movw $0x602, %dx
    movb $1, %al
    outb %al, %dx
1:  pause
    jmp 1b
