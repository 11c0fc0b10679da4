/* SPDX-License-Identifier: MIT */
/*
 * Interrupts between CPUs: CPU 0 sends each of the others a fixed interrupt, which wakes it
 * from HLT and is answered; then an NMI to each, with interrupts off. Ends with power-off by
 * HLT with interrupts off on all of them.
 */
#include "guest.h"
#include "smp.h"
#define CPUS   4
#define ROUNDS 500
#define PING   0x40
#define PONG   0x41
main:
    movl $ping, %esi
    movl $PING, %edi
    call set_gate
    movl $pong, %esi
    movl $PONG, %edi
    call set_gate
    movl $nmi, %esi
    movl $2, %edi
    call set_gate
    movl $CPUS, %ebp
    call smp_start
    movl $ROUNDS, %ebp
1:  movl $(CPUS - 1), %ebx
2:  movl %ebx, %eax /* APIC ids are even */
    shll $25, %eax
    movl %eax, LAPIC_ICR2
    movl $(ICR_FIXED | PING), LAPIC_ICR
    decl %ebx
    jnz 2b
3:  cli
    cmpl $(CPUS - 1), answers
    je 4f
    sti
    hlt
    jmp 3b
4:  movl $0, answers
    decl %ebp
    jnz 1b
    movl $(ICR_OTHERS | ICR_FIXED | PING), LAPIC_ICR /* all at once */
    sti
5:  pause
    cmpl $(CPUS - 1), answers
    jb 5b
    cli
    cmpl $((CPUS - 1) * (ROUNDS + 1)), pings
    jne 8f
    movl $1, quiet
    movl $(ICR_OTHERS | ICR_FIXED | PING), LAPIC_ICR
6:  pause
    cmpl $(CPUS - 1), off
    jb 6b
    movl $(ICR_OTHERS | ICR_NMI), LAPIC_ICR
7:  pause
    cmpl $(CPUS - 1), nmis
    jb 7b
    SAY "all answered"
    cli
    hlt
8:  EXIT 1

ap_main:
    sti
    hlt
    cli
    cmpl $0, quiet
    je ap_main
    lock incl off
1:  hlt /* only an NMI gets it out of here, once */
    lock incl nmis
2:  hlt
    jmp 2b

/* On the others. */
ping:
    pushl %eax
    lock incl pings
    lock incl answers
    movl $0, LAPIC_EOI
    movl $0, LAPIC_ICR2 /* CPU 0 */
    movl $(ICR_FIXED | PONG), LAPIC_ICR
    popl %eax
    iret
/* On CPU 0. */
pong:
    movl $0, LAPIC_EOI
    iret
nmi:
    iret

    .bss
    .align 64
pings:
    .space 64
answers:
    .space 64
nmis:
    .space 64
quiet:
    .space 64
off:
    .space 64
