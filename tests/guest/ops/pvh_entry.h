/* SPDX-License-Identifier: MIT */
/* How a PVH test kernel begins, in 32-bit code: `start`, which goes on behind this. */
#include <xen/elfnote.h>

    .section .note.Xen, "a", @note
    .align 4
    .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    movl $stack_top, %esp
    movl %ebx, start_info_at
