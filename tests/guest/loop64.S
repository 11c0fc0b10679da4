/* SPDX-License-Identifier: MIT */
/*
 * A loop of 64-bit code that nothing else looks like, for those who look into the translator
 * (tests/cli/translator.py): it runs often, then there is a line of text, and it goes on for ever, with
 * a port write in between.
 */
#include "guest.h"
#include "long_mode.h"
#define TURNS 200
main:
    movl $l3 + 3, l4
    movl $l2 + 3, l3
    movl $0x83, l2
    long_mode
    movl $TURNS, %ebp
2:  movl $100, %ecx
    movl $words, %esi
3:  addq $0x12345678, %rdx
    xorq %rdx, (%rsi)
    addq $8, %rsi
    decl %ecx
    jnz 3b
    outb %al, $0x80
    decl %ebp
    jnz 2b
    movl $text, %esi
4:  lodsb
    outb %al, $DEBUG_TEXT
    cmpb $10, %al
    jne 4b
    jmp 2b

    .data
    .align 8
gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word 23
    .long gdt
text:
    .ascii "READY\n"

    .bss
    .align 4096
l4: .space 4096
l3: .space 4096
l2: .space 4096
words:
    .space 800
