/* SPDX-License-Identifier: MIT */
/* Prints on COM1, reads a line from it and ends with the first byte as the code. */
#include "guest.h"
#define COM1 0x3f8
main:
    movl $text, %esi
1:  lodsb
    testb %al, %al
    jz 2f
    movw $COM1, %dx
    outb %al, %dx
    jmp 1b
2:  movw $(COM1 + 5), %dx
    inb %dx, %al
    testb $1, %al
    jz 2b
    movw $COM1, %dx
    inb %dx, %al
    outb %al, $DEBUG_EXIT
3:  pause
    jmp 3b
    .section .rodata
text:
    .asciz "type: "
