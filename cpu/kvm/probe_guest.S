/* SPDX-License-Identifier: MIT */
/*
 * What the probe's throw-away guest does, entered in long mode at CPL 0 (probe_vm.c lays out its
 * memory). R15 is the stage, so that a fault anywhere tells what failed; the stages are those of
 * enum kvm_probe_stage. A report to pvemu is the hypercall stub's own port write.
 *
 * The code is position independent but for the two addresses given in RSI (user stack top) and
 * R14 (its own start).
 */
#define REPORT_PORT 0x7e /* VCPU_HYPERCALL_PORT */
#define KERNEL_CS 0x08
#define USER_SS 0x23
#define USER_CS 0x2b
#define FLAG_IF 0x200
#define LOOP_TURNS 333 /* of three instructions each */

    .section .rodata.kvm_probe_guest, "a", @progbits
    .code64
    .balign 16
    .globl kvm_probe_guest, kvm_probe_guest_end
    .globl kvm_probe_guest_syscall, kvm_probe_guest_int80, kvm_probe_guest_fault
    .hidden kvm_probe_guest, kvm_probe_guest_end
    .hidden kvm_probe_guest_syscall, kvm_probe_guest_int80, kvm_probe_guest_fault

kvm_probe_guest:
    /* The hypercall stub: the answer comes back in RAX. */
    mov $1, %r15d
    mov $0x1234, %eax
    out %al, $REPORT_PORT
    nop
    cmp $0x5678, %rax
    jne failed

    /* IRET to user mode, interrupts on. */
    mov $2, %r15d
    push $USER_SS
    push %rsi
    push $(FLAG_IF | 2)
    push $USER_CS
    lea (user - kvm_probe_guest)(%r14), %rax
    push %rax
    iretq

user:
    mov %cs, %eax
    cmp $USER_CS, %eax
    jne failed
    mov $3, %r15d
    syscall
    /* SYSRET comes back to here. */
    mov %cs, %eax
    cmp $USER_CS, %eax
    jne failed
    mov $5, %r15d
    int $0x80
    mov %cs, %eax
    cmp $USER_CS, %eax
    jne failed
    mov $7, %r15d
    syscall
    jmp failed

kvm_probe_guest_syscall:
    mov %cr0, %rdx /* #GP unless at CPL 0 */
    mov %cs, %eax
    cmp $KERNEL_CS, %eax
    jne failed
    test $FLAG_IF, %r11d
    jz failed
    cmp $7, %r15d
    je measure
    out %al, $REPORT_PORT
    mov $4, %r15d
    sysretq

kvm_probe_guest_int80:
    mov %cr0, %rdx
    mov %cs, %eax
    cmp $KERNEL_CS, %eax
    jne failed
    cmpq $USER_CS, 8(%rsp)
    jne failed
    testq $FLAG_IF, 16(%rsp)
    jz failed
    out %al, $REPORT_PORT
    mov $6, %r15d
    iretq

    /* Reports without end: pvemu takes the time from one to the next. */
measure:
    mov $8, %r15d
    xor %ebx, %ebx
    mov $9, %r12d
1:  mov $LOOP_TURNS, %ecx
2:  add $1, %rbx
    dec %ecx
    jnz 2b
    out %al, $REPORT_PORT
    dec %r12d
    jnz 1b
    mov $9, %r15d
    hlt
    jmp failed

    /* Every exception, and every check that failed. */
kvm_probe_guest_fault:
failed:
    mov $0xdead, %ebx
    out %al, $REPORT_PORT
    hlt
    jmp failed
kvm_probe_guest_end:
    .section .note.GNU-stack, "", @progbits
