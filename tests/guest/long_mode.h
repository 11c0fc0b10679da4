/* SPDX-License-Identifier: MIT */
/*
 * From 32-bit mode without paging into 64-bit mode: by the page tables at l4 and the GDT that gdt_pointer
 * tells of, whose selectors 8 and 16 are flat 64-bit code and data.
 */
    .macro long_mode
    movl $l4, %eax
    movl %eax, %cr3
    movl $0x20, %eax /* PAE */
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    movl $0x100, %eax /* LME */
    xorl %edx, %edx
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $99f
    .code64
99:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    .endm
