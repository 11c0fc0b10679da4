/* SPDX-License-Identifier: MIT */
/* For the entries of 64-bit test kernels: what calls begin with, and calls by the page. */

/* From C's registers (nr, a1, a2, a3, a4) to the hypercall's; nr must have left RDI. */
.macro CALL_ARGUMENTS
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %r10
    movq %r9, %r8
.endm

    .text
    .globl hypercall_by_page
hypercall_by_page:
    movl %edi, %eax
    shll $5, %eax
    CALL_ARGUMENTS
    addq $hypercall_page, %rax
    jmp *%rax
