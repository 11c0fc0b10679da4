/* SPDX-License-Identifier: MIT */
/*
 * For test kernels: a PVH entry in 32-bit mode with a stack, and the ways to talk to pvemu.
 * A kernel includes this and defines `main`.
 */
#include <xen/elfnote.h>

#define DEBUG_EXIT 0x5c
#define DEBUG_TEXT 0xe9

    .section .note.Xen, "a", @note
    .align 4
    .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start
#ifdef SUSPEND_CANCEL
    .long 4, 4, XEN_ELFNOTE_SUSPEND_CANCEL
    .asciz "Xen"
    .long 1
#endif

    .text
    .code32
    .globl start
start:
    movl $stack_top, %esp
    jmp main

/* say: prints the string at ESI on the debug port. */
say:
    lodsb
    testb %al, %al
    jz 1f
    outb %al, $DEBUG_TEXT
    jmp say
1:  ret

/* A line of text; SAY_PART leaves the line open. */
.macro SAY text
    .section .rodata
99: .ascii "\text"
    .byte 10, 0
    .text
    movl $99b, %esi
    call say
.endm

.macro SAY_PART text
    .section .rodata
99: .asciz "\text"
    .text
    movl $99b, %esi
    call say
.endm

.macro EXIT code
    movb $\code, %al
    outb %al, $DEBUG_EXIT
1:  hlt
    jmp 1b
.endm

/* sched_op, SCHEDOP_shutdown. */
.macro SHUTDOWN reason
    HYPERCALL 29, 2, 99f
1:  pause
    jmp 1b
    .section .rodata
    .align 4
99: .long \reason
    .text
.endm

/* A hypercall with up to two arguments; the instruction is the one of this CPU's vendor. */
.macro HYPERCALL nr, arg1, arg2
    movl $\nr, %eax
    movl $\arg1, %ebx
    movl $\arg2, %ecx
    call hypercall
.endm
hypercall:
    pushl %eax
    pushl %ebx
    pushl %ecx
    xorl %eax, %eax
    cpuid
    cmpl $0x68747541, %ebx /* "Auth": AMD */
    popl %ecx
    popl %ebx
    popl %eax
    je hypercall_amd
    jmp hypercall_intel
    /* Where and how Linux has them: an engine that cannot catch them looks for the pair. */
    .balign 16
hypercall_amd:
    .byte 0x0f, 0x01, 0xd9 /* vmmcall */
    ret
    .balign 16
hypercall_intel:
    .byte 0x0f, 0x01, 0xc1 /* vmcall */
    ret

    .bss
    .align 16
    .space 4096
stack_top:
    .text
