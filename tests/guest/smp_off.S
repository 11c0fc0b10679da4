/* SPDX-License-Identifier: MIT */
/* The others run into HLT with interrupts off; CPU 0 goes on, starts them again, ends with 7. */
#include "guest.h"
#include "smp.h"
#define CPUS 4
main:
    movl $CPUS, %ebp
    call smp_start
    movl $0, ap_count
    movl $1, ap_next
    call smp_start
    EXIT 7
ap_main:
    cli
    hlt
    jmp ap_main
