/* SPDX-License-Identifier: MIT */
/*
 * PV guests on KVM (docs/kvm.md): what the pv_*.c files share.
 *
 * The guest's kernel and programs run at CPL 3 on the guest's own page tables. In L4 slot 257
 * each table has the shim: IDT, GDT, TSS, stacks and a page of code for CPL 0, per vCPU, outside
 * guest memory. Whatever would enter CPL 0 on a real machine gets to a HLT there, and so here.
 * The guest goes on by the shim's IRET, which also loads CR3 and the bases.
 *
 * The guest cannot map the shim. If it got to its frames in spite of that it would be at CPL 0 of
 * its own virtual machine: what is read from the shim is not trusted.
 */
#ifndef PVEMU_CPU_KVM_PV_H
#define PVEMU_CPU_KVM_PV_H

#define KVM_PV_BASE 0xffff808000000000 /* linear: the first vCPU's pages */
#define KVM_PV_STRIDE 0x200000         /* to the next one's: an L1 table */

/* Pages of a vCPU, by L1 index. The code finds its data by RIP. */
#define KVM_PV_PAGE_XEN_GDT 14 /* behind the guest's */
#define KVM_PV_PAGE_IDT 16
#define KVM_PV_PAGE_TSS 17
#define KVM_PV_PAGE_STACK 18   /* IST 1: all vectors but those of 19 */
#define KVM_PV_PAGE_STACK2 19  /* IST 2: #DB, its lower half; IST 3: NMI, #DF, #MC */
#define KVM_PV_PAGE_CODE 20
#define KVM_PV_PAGE_DATA 21
#define KVM_PV_PAGE_INFO 22    /* the guest's own, with its struct vcpu_info */

#define KVM_PV_VECTOR_BYTES 2 /* of a vector's entry in the code */
#define KVM_PV_DATA 0x1000    /* from the code */
/* In the data page. */
#define KVM_PV_DATA_CR3 0
#define KVM_PV_DATA_FS 8
#define KVM_PV_DATA_GS 16
#define KVM_PV_DATA_USER 24 /* bytes: a program runs; SYSCALL and iret without stopping */
#define KVM_PV_DATA_FAST_CALL 25
#define KVM_PV_DATA_FAST_BACK 26
#define KVM_PV_DATA_CALL_MASKS 27
#define KVM_PV_DATA_KERNEL_ROOT 32
#define KVM_PV_DATA_USER_ROOT 40
#define KVM_PV_DATA_STACK 48
#define KVM_PV_DATA_CALL 56
#define KVM_PV_DATA_USER_GS 64 /* of the mode that does not run */
#define KVM_PV_DATA_KERNEL_GS 72
#define KVM_PV_DATA_INFO 80
#define KVM_PV_DATA_RAX 88
#define KVM_PV_DATA_RCX 96
#define KVM_PV_DATA_RDX 104
#define KVM_PV_DATA_RSP 112
#define KVM_PV_DATA_NEW_RCX 120
#define KVM_PV_DATA_NEW_R11 128
#define KVM_PV_DATA_FRAME 136

#define KVM_PV_HYPERCALL_IRET 23
#define KVM_PV_CALL_FLAGS 0x74500 /* AC, VM, RF, NT, DF, TF: clear in the kernel's entry */

#define KVM_PV_CS0 0xe008
#define KVM_PV_SS0 0xe010
#define KVM_PV_TR 0xe040
#define KVM_PV_CS32 0xe023
#define KVM_PV_DS 0xe02b
#define KVM_PV_CS64 0xe033

#ifndef __ASSEMBLER__

#include "cpu/kvm/engine.h"
#include "cpu/x86/x86.h"

/* pv_shim.S */
extern const uint8_t kvm_pv_shim[], kvm_pv_shim_end[];
extern const uint8_t kvm_pv_shim_syscall[], kvm_pv_shim_syscall32[], kvm_pv_shim_sysenter[];
extern const uint8_t kvm_pv_shim_resume[], kvm_pv_shim_iret[];
extern const uint8_t kvm_pv_shim_call[], kvm_pv_shim_call_saved[], kvm_pv_shim_call_gs[];
extern const uint8_t kvm_pv_shim_back[], kvm_pv_shim_back_saved[], kvm_pv_shim_back_gs[];
extern const uint8_t kvm_pv_shim_back_refused[], kvm_pv_shim_fast_end[];

enum { KVM_PV_VECTORS = 256 };

struct kvm_pv_data {
    uint64_t cr3, fs_base, gs_base;
    uint8_t user, fast_call, fast_back, call_masks;
    uint64_t kernel_root, user_root, stack, call;
    uint64_t user_gs, kernel_gs, info;
    uint64_t rax, rcx, rdx, rsp, new_rcx, new_r11, frame[5];
};
G_STATIC_ASSERT(offsetof(struct kvm_pv_data, user) == KVM_PV_DATA_USER);
G_STATIC_ASSERT(offsetof(struct kvm_pv_data, kernel_root) == KVM_PV_DATA_KERNEL_ROOT);
G_STATIC_ASSERT(offsetof(struct kvm_pv_data, info) == KVM_PV_DATA_INFO);
G_STATIC_ASSERT(offsetof(struct kvm_pv_data, frame) == KVM_PV_DATA_FRAME);

/* What an exception leaves at the top of its stack, seen from below. */
struct kvm_pv_frame {
    uint64_t error; /* when the vector has one */
    uint64_t rip, cs, rflags, rsp, ss;
};

/* A debugger's step: where it began. */
struct kvm_pv_debug {
    bool step;       /* TF is the debugger's, */
    bool sets_flags; /* unless this instruction loads it */
    bool kernel;
    uint64_t rip, trap_flag, gpr[CPU_NR_GPR];
};

/* Of a vCPU. What KVM has of it, as far as it is compared before entering. */
struct kvm_pv_cpu {
    uint64_t linear;  /* of its pages */
    uint64_t *l1;
    uint8_t *stack, *stack2;
    struct kvm_pv_data *data;
    uint8_t *info;       /* the page that the shim sees as KVM_PV_PAGE_INFO: */
    uint32_t info_frame;
    struct vcpu_pv_entry entry; /* as the shim was told */
    uint64_t gdt[VCPU_PV_GDT_FRAMES]; /* as mapped */
    struct cpu_segment seg[CPU_NR_SEG];
    uint64_t cr0, cr4, xcr0, tsc_aux, spec_ctrl;
    uint64_t dr[8];
    bool at_shim;  /* KVM is at CPL 0 */
    bool direct;   /* without the shim's IRET: it has just failed */
    bool flush;    /* CR3 has to be loaded */
    bool pge;      /* CR4.PGE that KVM has: changed to have it drop translations */
    struct kvm_pv_debug debug;
};

/* --- pv_memory.c --- */

/* The shim and the guest's window in KVM, and this vCPU's pages: k->pv. 0 or a negated errno. */
int kvm_pv_prepare(struct kvm_engine *k);
/* The guest's descriptors where the processor looks for them; its translations are to be
 * dropped when that changes something. */
void kvm_pv_map_gdt(struct kvm_engine *k);
/* A place in the shim, in this vCPU's addresses. */
static inline uint64_t kvm_pv_code(const struct kvm_pv_cpu *pv, const uint8_t *at)
{
    return pv->linear + KVM_PV_PAGE_CODE * 4096ull + (uint64_t)(at - kvm_pv_shim);
}

/* --- pv_state.c: 0 or a negated errno --- */

/* All of v->cpu. */
int kvm_pv_load_all(struct kvm_engine *k);
/* What has changed, and where to go on. */
int kvm_pv_load(struct kvm_engine *k);
/* From an exit at CPL 3. */
void kvm_pv_fetch(struct kvm_engine *k);
/* From an exit in the shim: general and data segment registers. */
void kvm_pv_fetch_data(struct kvm_engine *k);
/* CS and SS by their selectors. */
void kvm_pv_fetch_code(struct kvm_engine *k, uint16_t cs, uint16_t ss);

/* --- pv_debug.c: what k->debug asks for --- */

/* Before the vCPU is entered. */
void kvm_pv_debug_begin(struct kvm_engine *k);
/* RFLAGS to enter it with. */
uint64_t kvm_pv_debug_flags(const struct kvm_engine *k);
/* RFLAGS as the guest has them, of those that it was left with; rip is home. */
uint64_t kvm_pv_debug_home(const struct kvm_engine *k, uint64_t rflags);
/* Debug registers to enter it with, 8 of them: the guest's, or others, in dr[8]. */
const uint64_t *kvm_pv_debug_regs(const struct kvm_engine *k, uint64_t *dr);
/* A fault of the guest's, its state home. true: it is all the debugger's, and *exit tells; else
 * what is left of it is the guest's. */
bool kvm_pv_debug_fault(struct kvm_engine *k, struct x86_fault *fault, struct exit *exit);
/* Behind each exit: whether it ends a step, and *exit tells. */
bool kvm_pv_debug_done(const struct kvm_engine *k, struct exit *exit);

/* --- pv_fast.c --- */

/* Tells the shim what it may do and with what. */
void kvm_pv_fast_load(struct kvm_engine *k);
/* What it has done: which mode runs, its CR3, the other one's GS base. */
void kvm_pv_fast_home(struct kvm_engine *k);

enum kvm_pv_fast { KVM_PV_ELSEWHERE, KVM_PV_AT_ENTRY, KVM_PV_DONE };
/* KVM stopped at rip in the shim; its registers are home. AT_ENTRY: v->cpu is as right after the
 * SYSCALL instruction. DONE: as behind the call, in the other mode. */
enum kvm_pv_fast kvm_pv_fast_stopped(struct kvm_engine *k, uint64_t rip);

#endif
#endif
