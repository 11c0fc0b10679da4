/* SPDX-License-Identifier: MIT */
/* The third of four CPUs has no exception handlers and meets an exception; the others spin. */
#include "guest.h"
#include "smp.h"
main:
    movl $4, %ebp
    call smp_start
1:  jmp 1b
ap_main:
    cmpl $3, %ebx
    jne ap_main
    SAY "CPU 3 goes down"
    ud2
