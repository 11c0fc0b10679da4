/* SPDX-License-Identifier: MIT */
/*
 * A program that makes hypercalls: -EPERM in RAX, as under Xen (docs/xen.md 2.1), whatever carries
 * it out. By this vendor's instruction, and by the port with IOPL 3. The kernel's own call works
 * before that. The exit code says which check failed.
 */
#include "guest.h"

#define XEN_VERSION 17
#define EPERM_RESULT -1
#define IOPL_3 0x3002
#define HYPERCALL_PORT 0x7e

.macro CHECK wanted, code
    cmpl $\wanted, %eax
    movb $\code, %al
    jne failed
.endm

.macro VERSION how:vararg
    movl $XEN_VERSION, %eax
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    \how
.endm

main:
    VERSION call hypercall
    shrl $16, %eax
    CHECK 4, 1
    xorl %eax, %eax
    cpuid
    movl %ebx, vendor
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movl $0x10, %eax
    movl %eax, %ss
    pushl $0x23
    pushl $user_stack_top
    pushl $IOPL_3
    pushl $0x1b
    pushl $user
    iret

user:
    movl $0x23, %eax
    movl %eax, %ds
    movl %eax, %es
    cmpl $0x68747541, vendor /* "Auth": AMD */
    jne 1f
    VERSION .byte 0x0f, 0x01, 0xd9 /* vmmcall */
    jmp 2f
1:  VERSION .byte 0x0f, 0x01, 0xc1 /* vmcall */
2:  CHECK EPERM_RESULT, 2
    VERSION outb %al, $HYPERCALL_PORT
    CHECK EPERM_RESULT, 3
    xorl %eax, %eax
failed:
    outb %al, $DEBUG_EXIT
1:  jmp 1b

    .data
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
gdt_pointer:
    .word 39
    .long gdt
vendor:
    .long 0

    .bss
    .balign 16
    .space 1024
user_stack_top:
    .text
