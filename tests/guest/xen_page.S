/* SPDX-License-Identifier: MIT */
/* Hypercalls by the page that the MSR of CPUID leaf 0x40000002 asks for. Ends by SCHEDOP_shutdown. */
#include "guest.h"
main:
    movl $0x40000000, %eax
    cpuid
    cmpl $0x566e6558, %ebx /* "XenV" */
    jne bad_leaf
    movl $0x40000002, %eax
    xorl %ecx, %ecx
    cpuid
    cmpl $1, %eax /* pages */
    jne bad_leaf
    movl %ebx, %ecx
    movl $page, %eax
    xorl %edx, %edx
    wrmsr
    xorl %ebx, %ebx /* XENVER_version */
    xorl %ecx, %ecx
    call page + 32 * 17
    testl %eax, %eax
    jle bad_version
    movl $77, %ebx /* a command that there is not */
    call page + 32 * 17
    cmpl $-38, %eax
    jne bad_error
    movl $2, %ebx /* SCHEDOP_shutdown */
    movl $reason, %ecx
    call page + 32 * 29
    EXIT 4
bad_leaf:
    EXIT 1
bad_version:
    EXIT 2
bad_error:
    EXIT 3

    .data
    .align 4
reason:
    .long 0 /* poweroff */
    .balign 4096
page:
    .fill 4096, 1, 0xcc
