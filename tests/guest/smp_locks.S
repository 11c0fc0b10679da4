/* SPDX-License-Identifier: MIT */
/*
 * Four CPUs count with every kind of locked instruction at once; no count may be lost. Ends
 * with 0, or with the number of the counter that is wrong.
 */
#include "guest.h"
#include "smp.h"
#define CPUS   4
#define ROUNDS 30000
main:
    movl $CPUS, %ebp
    call smp_start
    movl $1, go
    call work
1:  pause
    cmpl $CPUS, done
    jb 1b
    movl $1, %ebx
    movl $counters, %esi
2:  cmpl $(CPUS * ROUNDS), (%esi)
    jne 3f
    addl $64, %esi
    incl %ebx
    cmpl $9, %ebx
    jb 2b
    SAY "every count is right"
    EXIT 0
3:  movb %bl, %al
    outb %al, $DEBUG_EXIT
4:  hlt
    jmp 4b

ap_main:
    pause
    cmpl $0, go
    je ap_main
    call work
1:  cli
    hlt
    jmp 1b

work:
    movl $ROUNDS, %ebp
    movl $counters, %esi
1:  lock incl (%esi)                /* 1 */
    lock addl $1, 64(%esi)          /* 2 */
    movl $1, %eax
    lock xaddl %eax, 128(%esi)      /* 3 */
    movl 192(%esi), %eax            /* 4 */
2:  leal 1(%eax), %edx
    lock cmpxchgl %edx, 192(%esi)
    jne 2b
    movl $1, %eax                   /* 5: a lock of XCHG, whose LOCK is implied */
3:  xchgl %eax, spin
    testl %eax, %eax
    jz 4f
    pause
    movl $1, %eax
    jmp 3b
4:  incl 256(%esi)
    movl $0, spin
5:  lock btsl $0, spin2             /* 6: of BTS */
    jnc 6f
    pause
    jmp 5b
6:  incl 320(%esi)
    lock btrl $0, spin2
    movl 384(%esi), %eax            /* 7: CMPXCHG8B */
    movl 388(%esi), %edx
7:  movl %eax, %ebx
    movl %edx, %ecx
    addl $1, %ebx
    adcl $0, %ecx
    lock cmpxchg8b 384(%esi)
    jne 7b
    lock subl $-1, 448(%esi)        /* 8 */
    decl %ebp
    jnz 1b
    lock incl done
    ret

    .bss
    .align 64
counters:
    .space 512
spin:
    .space 64
spin2:
    .space 64
go: .space 64
done:
    .space 64
