/* SPDX-License-Identifier: MIT */
/*
 * The code at CPL 0 of a PV guest's virtual machine (pv.h): entries that stop, and the way back.
 * Position independent; its data is a page further on. An entry changes no register.
 */
#include "cpu/kvm/pv.h"

#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define DATA(at) (kvm_pv_shim + KVM_PV_DATA + (at))(%rip)

    .section .rodata.kvm_pv_shim, "a", @progbits
    .code64
    .balign 4096
    .globl kvm_pv_shim, kvm_pv_shim_end
    .globl kvm_pv_shim_syscall, kvm_pv_shim_syscall32, kvm_pv_shim_sysenter
    .globl kvm_pv_shim_resume, kvm_pv_shim_iret
    .hidden kvm_pv_shim, kvm_pv_shim_end
    .hidden kvm_pv_shim_syscall, kvm_pv_shim_syscall32, kvm_pv_shim_sysenter
    .hidden kvm_pv_shim_resume, kvm_pv_shim_iret

kvm_pv_shim:
    .rept 256
    hlt
    nop
    .endr

kvm_pv_shim_syscall:
    hlt
    nop
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
kvm_pv_shim_end:

    .section .note.GNU-stack, "", @progbits
