/* SPDX-License-Identifier: MIT */
/* Entry of the guest's init: hands the kernel's stack (argc, argv, envp) to init_main(). */
    .globl _start
    .type _start, @function
_start:
    xor %ebp, %ebp
    mov %rsp, %rdi
    and $-16, %rsp
    call init_main
    .size _start, . - _start
    .section .note.GNU-stack, "", @progbits
