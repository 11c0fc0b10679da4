/* SPDX-License-Identifier: MIT */
/*
 * What leaving the guest costs: TSC ticks for each of 100 port writes that nobody listens to, and
 * of 100 hypercalls (xen_version), the best of 20 times each: the host does other things in
 * between. Prints both.
 */
#include "guest.h"
#define ROUNDS 100
#define TIMES 20

.macro BEST what
    movl $-1, best
    movl $TIMES, times
1:  call \what
    cmpl %eax, best
    jbe 2f
    movl %eax, best
2:  decl times
    jnz 1b
.endm

main:
    BEST ports
    SAY_PART "port "
    movl best, %eax
    call print
    BEST calls
    SAY_PART "hypercall "
    movl best, %eax
    call print
    EXIT 0

/* EAX: ticks for each */
.macro MEASURE body:vararg
    rdtsc
    movl %eax, %esi
    movl $ROUNDS, %edi
1:  \body
    decl %edi
    jnz 1b
    rdtsc
    subl %esi, %eax
    xorl %edx, %edx
    movl $ROUNDS, %ecx
    divl %ecx
.endm

ports:
    MEASURE outb %al, $0x80
    ret
calls:
    xorl %eax, %eax
    cpuid
    movl $hypercall_intel, target
    cmpl $0x68747541, %ebx /* "Auth": AMD */
    jne 1f
    movl $hypercall_amd, target
1:  rdtsc
    pushl %eax
    movl $ROUNDS, %ebp
1:  movl $17, %eax /* xen_version */
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    call *target
    decl %ebp
    jnz 1b
    rdtsc
    popl %esi
    subl %esi, %eax
    xorl %edx, %edx
    movl $ROUNDS, %ecx
    divl %ecx
    ret

/* print: EAX in decimal, and a new line. */
print:
    movl $digits_end, %esi
    movl $10, %ecx
1:  xorl %edx, %edx
    divl %ecx
    addb $'0', %dl
    decl %esi
    movb %dl, (%esi)
    testl %eax, %eax
    jnz 1b
    call say
    movb $10, %al
    outb %al, $DEBUG_TEXT
    ret

    .data
digits:
    .space 12
digits_end:
    .byte 0
    .balign 4
target:
    .long 0
best:
    .long 0
times:
    .long 0
    .text
