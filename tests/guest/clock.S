/* SPDX-License-Identifier: MIT */
/* Answers every byte on COM1 with its time stamp counter in hex and a new line; 'q' ends it. */
#include "guest.h"
#define COM1 0x3f8
main:
    movb $'\n', %al
    call put
1:  movw $(COM1 + 5), %dx
    inb %dx, %al
    testb $1, %al
    jz 1b
    movw $COM1, %dx
    inb %dx, %al
    cmpb $'q', %al
    je 2f
    rdtsc
    movl %eax, %esi
    movl %edx, %ebx
    call put_hex
    movl %esi, %ebx
    call put_hex
    movb $'\n', %al
    call put
    jmp 1b
2:  EXIT 0

/* EBX as eight digits. */
put_hex:
    movl $8, %ecx
1:  roll $4, %ebx
    movl %ebx, %edi
    andl $15, %edi
    movb digits(%edi), %al
    call put
    loop 1b
    ret

/* AL to COM1, once it takes it. */
put:
    movb %al, %ah
    movw $(COM1 + 5), %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movw $COM1, %dx
    movb %ah, %al
    outb %al, %dx
    ret

    .section .rodata
digits:
    .ascii "0123456789abcdef"
