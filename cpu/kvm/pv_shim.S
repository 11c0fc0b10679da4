/* SPDX-License-Identifier: MIT */
/*
 * The code at CPL 0 of a PV guest's virtual machine (pv.h): entries that stop, the way back, and
 * what is done without stopping: a program's SYSCALL and the kernel's iret to a program.
 * Position independent; its data is a page further on.
 *
 * An entry that stops changes no register. The two ways that do not stop can be left between any
 * two instructions (pv_fast.c): until KVM_PV_DATA_USER changes nothing has happened that the data
 * page does not undo, and from then on the rest can be done from outside.
 */
#include "cpu/kvm/pv.h"

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define DATA(at) (kvm_pv_shim + KVM_PV_DATA + (at))(%rip)
#define FRAME(at) DATA(KVM_PV_DATA_FRAME + (at)) /* IRET's */
#define IRET_IN_SYSCALL_BYTE 0x19 /* bit 0: of its flags, bit 8 */
#define FLAG_IF 0x200
#define FLAGS_SETTABLE 0x254dd5 /* by iret: pv/pv_trap.c */
#define FLAGS_HIDDEN 0x13200    /* IF, IOPL, RF: not shown as they are */
#define FLAG_RF_BIT 16
#define USER_CS_LINUX 0x33
#define USER_SS_LINUX 0x2b

    .section .rodata.kvm_pv_shim, "a", @progbits
    .code64
    .balign 4096
    .globl kvm_pv_shim, kvm_pv_shim_end
    .globl kvm_pv_shim_syscall, kvm_pv_shim_syscall32, kvm_pv_shim_sysenter
    .globl kvm_pv_shim_resume, kvm_pv_shim_iret
    .globl kvm_pv_shim_call, kvm_pv_shim_call_saved, kvm_pv_shim_call_gs
    .globl kvm_pv_shim_back, kvm_pv_shim_back_saved, kvm_pv_shim_back_gs
    .globl kvm_pv_shim_back_refused, kvm_pv_shim_fast_end
    .hidden kvm_pv_shim, kvm_pv_shim_end
    .hidden kvm_pv_shim_syscall, kvm_pv_shim_syscall32, kvm_pv_shim_sysenter
    .hidden kvm_pv_shim_resume, kvm_pv_shim_iret
    .hidden kvm_pv_shim_call, kvm_pv_shim_call_saved, kvm_pv_shim_call_gs
    .hidden kvm_pv_shim_back, kvm_pv_shim_back_saved, kvm_pv_shim_back_gs
    .hidden kvm_pv_shim_back_refused, kvm_pv_shim_fast_end

kvm_pv_shim:
    .rept 256
    hlt
    nop
    .endr

kvm_pv_shim_syscall32:
    hlt
    nop
kvm_pv_shim_sysenter:
    hlt
    nop

    /* RSP: RAX, RCX, RDX, and IRET's five. All translations go with the load of CR3: none is
       global. */
kvm_pv_shim_resume:
    mov DATA(KVM_PV_DATA_CR3), %rax
    mov %rax, %cr3
    mov DATA(KVM_PV_DATA_FS), %eax
    mov DATA(KVM_PV_DATA_FS + 4), %edx
    mov $MSR_FS_BASE, %ecx
    wrmsr
    mov DATA(KVM_PV_DATA_GS), %eax
    mov DATA(KVM_PV_DATA_GS + 4), %edx
    mov $MSR_GS_BASE, %ecx
    wrmsr
    pop %rax
    pop %rcx
    pop %rdx
kvm_pv_shim_iret:
    iretq

kvm_pv_shim_syscall:
    cmpb $0, DATA(KVM_PV_DATA_USER)
    jne 1f
    cmp $KVM_PV_HYPERCALL_IRET, %rax
    jne 2f
    cmpb $0, DATA(KVM_PV_DATA_FAST_BACK)
    jne kvm_pv_shim_back
2:  hlt
    nop
1:  cmpb $0, DATA(KVM_PV_DATA_FAST_CALL)
    je 2b

    /* A program's system call. RCX: its RIP, R11: its flags; R11 stays until the end. */
kvm_pv_shim_call:
    mov %rax, DATA(KVM_PV_DATA_RAX)
    mov %rcx, DATA(KVM_PV_DATA_RCX)
    mov %rdx, DATA(KVM_PV_DATA_RDX)
    mov %rsp, DATA(KVM_PV_DATA_RSP)
kvm_pv_shim_call_saved:
    mov $MSR_GS_BASE, %ecx
    rdmsr
    mov %eax, DATA(KVM_PV_DATA_USER_GS)
    mov %edx, DATA(KVM_PV_DATA_USER_GS + 4)
kvm_pv_shim_call_gs:
    mov DATA(KVM_PV_DATA_KERNEL_GS), %eax
    mov DATA(KVM_PV_DATA_KERNEL_GS + 4), %edx
    wrmsr
    mov DATA(KVM_PV_DATA_KERNEL_ROOT), %rax
    mov %rax, %cr3
    mov DATA(KVM_PV_DATA_STACK), %rsp
    mov DATA(KVM_PV_DATA_INFO), %rcx
    xor %eax, %eax
    cmpb $0, 1(%rcx) /* evtchn_upcall_mask */
    setne %al
    mov %r11, %rdx
    and $~FLAGS_HIDDEN, %rdx
    test %eax, %eax
    jne 3f
    or $FLAG_IF, %rdx
3:  shl $32, %rax
    or $KVM_PV_CS64, %rax
    pushq $KVM_PV_DS
    pushq DATA(KVM_PV_DATA_RSP)
    push %rdx
    push %rax
    pushq DATA(KVM_PV_DATA_RCX)
    mov %r11, %rdx
    btr $FLAG_RF_BIT, %rdx
    push %rdx
    pushq DATA(KVM_PV_DATA_RCX)
    movb $0, DATA(KVM_PV_DATA_USER)
    cmpb $0, DATA(KVM_PV_DATA_CALL_MASKS)
    je 4f
    movb $1, 1(%rcx)
4:  and $~KVM_PV_CALL_FLAGS, %r11
    mov DATA(KVM_PV_DATA_RAX), %rax
    mov DATA(KVM_PV_DATA_RDX), %rdx
    mov DATA(KVM_PV_DATA_CALL), %rcx
    sysretq

    /* iret to a program in 64-bit mode, events unmasked. RSP: struct iret_context. */
kvm_pv_shim_back:
    mov %rcx, DATA(KVM_PV_DATA_RCX)
    mov %rdx, DATA(KVM_PV_DATA_RDX)
    mov %rsp, DATA(KVM_PV_DATA_RSP)
kvm_pv_shim_back_saved:
    movzwl 0x28(%rsp), %edx
    mov %rdx, FRAME(8)
    cmp $KVM_PV_CS64, %edx
    je 5f
    cmp $USER_CS_LINUX, %edx
    jne 9f
5:  movzwl 0x40(%rsp), %edx
    mov %rdx, FRAME(32)
    cmp $KVM_PV_DS, %edx
    je 6f
    cmp $USER_SS_LINUX, %edx
    jne 9f
6:  mov DATA(KVM_PV_DATA_INFO), %rax
    cmpb $0, (%rax) /* evtchn_upcall_pending */
    jne 9f
    mov 0x20(%rsp), %rcx
    mov %rcx, FRAME(0)
    mov %rcx, %rdx
    shr $47, %rdx
    jne 9f
    mov 0x30(%rsp), %rdx
    test $FLAG_IF, %edx
    je 9f
    and $FLAGS_SETTABLE, %edx
    or $(FLAG_IF | 2), %edx
    mov %rdx, FRAME(16)
    mov 0x38(%rsp), %rax
    mov %rax, FRAME(24)
    testb $1, IRET_IN_SYSCALL_BYTE(%rsp)
    jne 7f
    mov 0x10(%rsp), %rcx
    mov 8(%rsp), %rdx
7:  mov %rcx, DATA(KVM_PV_DATA_NEW_RCX)
    mov %rdx, DATA(KVM_PV_DATA_NEW_R11)
    mov (%rsp), %rax
    mov %rax, DATA(KVM_PV_DATA_RAX)
    lea FRAME(0), %rsp
    mov $MSR_GS_BASE, %ecx
    rdmsr
    mov %eax, DATA(KVM_PV_DATA_KERNEL_GS)
    mov %edx, DATA(KVM_PV_DATA_KERNEL_GS + 4)
kvm_pv_shim_back_gs:
    mov DATA(KVM_PV_DATA_USER_GS), %eax
    mov DATA(KVM_PV_DATA_USER_GS + 4), %edx
    wrmsr
    mov DATA(KVM_PV_DATA_USER_ROOT), %rax
    mov %rax, %cr3
    mov DATA(KVM_PV_DATA_INFO), %rax
    movb $1, DATA(KVM_PV_DATA_USER)
    movb $0, 1(%rax)
    mov DATA(KVM_PV_DATA_RAX), %rax
    mov DATA(KVM_PV_DATA_NEW_RCX), %rcx
    mov DATA(KVM_PV_DATA_NEW_R11), %r11
    mov DATA(KVM_PV_DATA_RDX), %rdx
    iretq
kvm_pv_shim_back_refused:
9:  mov $KVM_PV_HYPERCALL_IRET, %eax
    mov DATA(KVM_PV_DATA_RCX), %rcx
    mov DATA(KVM_PV_DATA_RDX), %rdx
    jmp 2b
kvm_pv_shim_fast_end:
kvm_pv_shim_end:

    .section .note.GNU-stack, "", @progbits
