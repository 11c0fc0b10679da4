/* SPDX-License-Identifier: MIT */
/* x86-64: entry of the guest's init, which hands the kernel's stack (argc, argv, envp) to init_main(); system calls. */
    .globl _start, sys_call
    .type _start, @function
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call init_main
    .size _start, . - _start

    .type sys_call, @function
sys_call:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    syscall
    ret
    .size sys_call, . - sys_call
    .section .note.GNU-stack, "", @progbits
