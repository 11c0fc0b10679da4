/* SPDX-License-Identifier: MIT */
/* 4097 times 'x' and a new line on COM1, then the end: more than a pipe of two pages takes. */
#include "guest.h"
#define COM1 0x3f8
main:
    movl $4097, %ecx
1:  movb $'x', %ah
    call put
    loop 1b
    movb $'\n', %ah
    call put
    EXIT 0

/* AH to COM1, once it takes it. */
put:
    movw $(COM1 + 5), %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movw $COM1, %dx
    movb %ah, %al
    outb %al, %dx
    ret
