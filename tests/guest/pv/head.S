/* SPDX-License-Identifier: MIT */
/* The entry of a PV test kernel: its notes, a hypercall page, the way into C, and trap stubs. */
#include <xen/elfnote.h>
#include "call.h"

/* The iret hypercall, its frame on the stack from the flags on: the page saves RCX, R11 and RAX
 * above them as they are. */
.macro HYPERCALL_IRET
#ifdef BY_PAGE
    jmp hypercall_page + 23 * 32
#else
    pushq %rcx
    pushq %r11
    pushq %rax
    movl $23, %eax
    syscall
    ud2
#endif
.endm

.macro NOTE type, value:vararg
    .align 4
    .long 4, 9f - 8f, \type
    .asciz "Xen"
8:  \value
9:  .align 4
.endm

    .section .note.Xen, "a", @note
    NOTE XEN_ELFNOTE_ENTRY, .quad start
    NOTE XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page
    NOTE XEN_ELFNOTE_VIRT_BASE, .quad 0xffffffff80000000
    NOTE XEN_ELFNOTE_PADDR_OFFSET, .quad 0
    NOTE XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    NOTE XEN_ELFNOTE_GUEST_OS, .asciz "test"
    NOTE XEN_ELFNOTE_LOADER, .asciz "generic"
    NOTE XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    NOTE XEN_ELFNOTE_MOD_START_PFN, .quad 1
    NOTE XEN_ELFNOTE_SUSPEND_CANCEL, .quad 1
#ifdef PV_SYMBOLS
    NOTE XEN_ELFNOTE_BSD_SYMTAB, .asciz "yes"
#endif
#ifdef PV_INIT_P2M
    NOTE XEN_ELFNOTE_INIT_P2M, .quad 0x8000000000
#endif

    .text
    .globl start
start:
    movq %rsi, start_info(%rip)
    movq %rsp, boot_stack(%rip)
    call test
    call finish
    ud2

/* Inline: the instruction itself. */
    .globl hypercall_inline
hypercall_inline: /* (nr, a1, a2, a3, a4) */
    movq %rdi, %rax
    CALL_ARGUMENTS
    syscall
    ret

/*
 * The stubs of all vectors and callbacks: a frame of one form for trap_handler(), which may
 * change it, and back by the iret hypercall.
 */
.macro STUB code
    .align 16
    popq %rcx
    popq %r11
    .if \code == 0
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
.endm

    .align 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 261 /* 256 event, 257 syscall, 258 sysenter, 259 syscall32, 260 failsafe */
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17
    STUB 1
    .else
    STUB 0
    .endif
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call trap_handler
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    pushq iret_flags(%rip)
    HYPERCALL_IRET

/* Runs an instruction that may fault: try(code) calls it; a fault comes back as its vector. */
    .globl try_call
try_call: /* (code, argument) -> 0, or vector + 1 in rax; try_error has the error code */
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, try_stack(%rip)
    movq $1f, try_landing(%rip)
    movq %rdi, %r15
    movq %rsi, %rax
    movq %rsi, %rdi
    call *%r15
    movq %rax, try_result(%rip)
    xorl %eax, %eax
1:  movq $0, try_landing(%rip)
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* Leaves for user mode: user_enter(rip, rsp, flags); comes back through user_leave(). */
    .globl user_enter
user_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, user_saved(%rip)
    pushq $0xe02b
    pushq %rsi
    pushq %rdx
    pushq $0xe033
    pushq %rdi
    pushq $0
    HYPERCALL_IRET
    .globl user_left
user_left:
    movq user_saved(%rip), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

    .bss
    .balign 8
    .globl try_stack, try_landing, try_result, user_saved, iret_flags, start_info, boot_stack
try_stack: .quad 0
try_landing: .quad 0
try_result: .quad 0
user_saved: .quad 0
iret_flags: .quad 0
start_info: .quad 0
boot_stack: .quad 0
    .balign 4096
    .globl hypercall_page
hypercall_page: .space 4096
    .section .note.GNU-stack, "", @progbits
