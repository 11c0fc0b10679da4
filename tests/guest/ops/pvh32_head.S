/* SPDX-License-Identifier: MIT */
/* The entry of a 32-bit PVH test kernel: flat, without paging, and calls from C's stack. */
#include "pvh_entry.h"
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    call hypercall_init
    call test
    call finish
    ud2

/* (nr, a1, a2, a3, a4): to the hypercall's registers. */
.macro CALL_BEGIN
    pushl %ebx
    pushl %esi
    pushl %edi
    pushl %ebp
    movl 20(%esp), %eax
    movl 24(%esp), %ebx
    movl 28(%esp), %ecx
    movl 32(%esp), %edx
    movl 36(%esp), %esi
.endm

.macro CALL_END
    popl %ebp
    popl %edi
    popl %esi
    popl %ebx
    ret
.endm

    .globl hypercall_inline
hypercall_inline:
    CALL_BEGIN
    cmpb $0, amd
    jne 1f
    call hypercall_intel
    CALL_END
1:  call hypercall_amd
    CALL_END
    /* Where and how Linux has them: an engine that cannot catch them looks for the pair. */
    .balign 16
hypercall_amd:
    .byte 0x0f, 0x01, 0xd9 /* vmmcall */
    ret
hypercall_intel:
    .byte 0x0f, 0x01, 0xc1 /* vmcall */
    ret

    .globl hypercall_by_page
hypercall_by_page:
    CALL_BEGIN
    shll $5, %eax
    addl $hypercall_page, %eax
    call *%eax
    CALL_END

    .data
    .align 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
    .globl gdt_pointer
gdt_pointer:
    .word 23
    .long gdt

    .bss
    .align 4096
    .globl hypercall_page
hypercall_page:
    .space 4096
    .space 16384
stack_top:
    .section .note.GNU-stack, "", @progbits
