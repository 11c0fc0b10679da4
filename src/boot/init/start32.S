/* SPDX-License-Identifier: MIT */
/* i386: the same as start.S for 32-bit kernels. */
    .globl _start, sys_call
    .type _start, @function
_start:
    xor %ebp, %ebp
    mov %esp, %eax
    and $-16, %esp
    sub $12, %esp
    push %eax
    call init_main
    .size _start, . - _start

    .type sys_call, @function
sys_call:
    push %ebx
    push %esi
    push %edi
    mov 16(%esp), %eax
    mov 20(%esp), %ebx
    mov 24(%esp), %ecx
    mov 28(%esp), %edx
    mov 32(%esp), %esi
    mov 36(%esp), %edi
    int $0x80
    pop %edi
    pop %esi
    pop %ebx
    ret
    .size sys_call, . - sys_call
    .section .note.GNU-stack, "", @progbits
