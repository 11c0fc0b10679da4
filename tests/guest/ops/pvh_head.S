/* SPDX-License-Identifier: MIT */
/* The entry of a 64-bit PVH test kernel: into long mode with 1 GiB mapped as it is, and into C. */
#include "../pv/call.h"
#include "../long_mode.h"
#include "pvh_entry.h"
    movl $l3, %eax
    orl $3, %eax
    movl %eax, l4
    movl $l2, %eax
    orl $3, %eax
    movl %eax, l3
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax
    movl %eax, l2(, %ecx, 8)
    incl %ecx
    cmpl $512, %ecx
    jb 1b
    long_mode
    call hypercall_init
    call test
    call finish
    ud2

    .globl hypercall_inline
hypercall_inline: /* (nr, a1, a2, a3, a4) */
    movq %rdi, %rax
    CALL_ARGUMENTS
    cmpb $0, amd(%rip)
    jne hypercall_amd
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

    .data
    .align 8
gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
    .globl gdt_pointer
gdt_pointer:
    .word 23
    .quad gdt

    .bss
    .align 4096
l4: .space 4096
l3: .space 4096
l2: .space 4096
    .globl hypercall_page
hypercall_page:
    .space 4096
    .space 16384
stack_top:
