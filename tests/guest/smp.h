/* SPDX-License-Identifier: MIT */
/*
 * For test kernels with several CPUs: smp_start brings up all others, which get a number
 * (1, 2, ...) in EBX, a stack, flat segments, the IDT at `idt`, and jump to `ap_main` with
 * interrupts off. The number of CPUs is what -smp said: smp_start waits for EBP of them.
 */
#define LAPIC      0xfee00000
#define LAPIC_ID   (LAPIC + 0x20)
#define LAPIC_EOI  (LAPIC + 0xb0)
#define LAPIC_SVR  (LAPIC + 0xf0)
#define LAPIC_ICR  (LAPIC + 0x300)
#define LAPIC_ICR2 (LAPIC + 0x310)
#define ICR_FIXED  0x4000
#define ICR_NMI    0x4400
#define ICR_INIT   0x4500
#define ICR_SIPI   0x4600
#define ICR_OTHERS 0xc0000
#define TRAMPOLINE 0x8000
#define AP_STACK   4096

    .section .rodata
    .align 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 8: code */
    .quad 0x00cf93000000ffff /* 16: data */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt_pointer:
    .word 256 * 8 - 1
    .long idt

    .text
/* Real mode, copied to TRAMPOLINE: only what is relative to it may be named. */
    .code16
trampoline:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt - trampoline
    movl %cr0, %eax
    andl $0x9fffffff, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $ap_entry
trampoline_gdt:
    .word 23
    .long gdt
trampoline_end:

    .code32
ap_entry:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %ebx
    lock xaddl %ebx, ap_next
    movl %ebx, %eax
    imull $AP_STACK, %eax
    leal ap_stacks(%eax), %esp /* 1: ends where the first one ends */
    lidt idt_pointer
    movl $0x1ff, LAPIC_SVR
    lock incl ap_count
    jmp ap_main

/* Starts the others and waits until there are EBP CPUs in all. Uses EAX, ECX, ESI, EDI. */
smp_start:
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    lidt idt_pointer
    movl $trampoline, %esi
    movl $TRAMPOLINE, %edi
    movl $(trampoline_end - trampoline), %ecx
    rep movsb
    movl $0x1ff, LAPIC_SVR
    movl $(ICR_OTHERS | ICR_INIT), LAPIC_ICR
    movl $(ICR_OTHERS | ICR_SIPI | (TRAMPOLINE >> 12)), LAPIC_ICR
    movl $(ICR_OTHERS | ICR_SIPI | (TRAMPOLINE >> 12)), LAPIC_ICR
1:  pause
    movl ap_count, %eax
    incl %eax
    cmpl %ebp, %eax
    jb 1b
    ret

/* Puts the handler ESI at vector EDI. Uses EAX. */
set_gate:
    movl %esi, %eax
    andl $0xffff, %eax
    orl $0x80000, %eax
    movl %eax, idt(, %edi, 8)
    movl %esi, %eax
    andl $0xffff0000, %eax
    orl $0x8e00, %eax
    movl %eax, idt + 4(, %edi, 8)
    ret

    .data
    .align 4
ap_next:
    .long 1
ap_count:
    .long 0

    .bss
    .align 16
idt:
    .space 256 * 8
ap_stacks:
    .space AP_STACK * 32
    .text
