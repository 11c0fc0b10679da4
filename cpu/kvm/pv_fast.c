/* SPDX-License-Identifier: MIT */
/*
 * What the shim does without stopping: a program's SYSCALL and the kernel's iret to a program.
 * Here is what it needs for that, what it has done meanwhile, and the rest of it when the vCPU
 * was stopped in the middle.
 */
#include "pv.h"

#include <sys/mman.h>

/* --- before entering --- */

/* The page with the guest's struct vcpu_info, where the shim sees it. false: it cannot be. */
static bool fast_map_info(struct kvm_engine *k, uint32_t frame)
{
    struct kvm_pv_cpu *pv = k->pv;

    if (pv->info_frame == frame) {
        return true;
    }
    if (mmap(pv->info, MEM_PAGE_SIZE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_NORESERVE | MAP_FIXED, mem_fd(k->vm->mem),
             (off_t)frame << MEM_PAGE_SHIFT) == MAP_FAILED) {
        return false;
    }
    pv->info_frame = frame;
    kvm_dirty_info(k->vm, k->v->id, frame);
    return true;
}

void kvm_pv_fast_load(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    struct vcpu_pv_entry *e = &pv->entry;
    struct kvm_pv_data *data = pv->data;
    bool info;

    k->v->pv->entry(k->v, e);
    info = e->info_frame != MEM_HOLE && fast_map_info(k, e->info_frame);
    data->user = !cpu->pv_kernel;
    data->fast_call = info && e->syscall != 0 && !pv->debug.step;
    data->fast_back = info && e->plain_iret && e->user_root != 0 && !cpu->nmi_blocked &&
                      !pv->debug.step;
    data->call_masks = e->syscall_masks;
    data->kernel_root = e->kernel_root;
    data->user_root = e->user_root;
    data->stack = e->stack;
    data->call = e->syscall;
    *(cpu->pv_kernel ? &data->user_gs : &data->kernel_gs) = cpu->kernel_gs_base;
    data->info = pv->linear + KVM_PV_PAGE_INFO * 4096ull + e->info_offset;
}

/* --- after an exit --- */

void kvm_pv_fast_home(struct kvm_engine *k)
{
    const struct kvm_pv_cpu *pv = k->pv;
    struct cpu_x86 *cpu = &k->v->cpu;

    cpu->pv_kernel = pv->data->user == 0;
    cpu->kernel_gs_base = cpu->pv_kernel ? pv->data->user_gs : pv->data->kernel_gs;
    cpu->cr3 = cpu->pv_kernel ? pv->entry.kernel_root : pv->entry.user_root;
}

static bool fast_between(const struct kvm_engine *k, uint64_t rip, const uint8_t *first,
                         const uint8_t *end)
{
    return rip >= kvm_pv_code(k->pv, first) && rip < kvm_pv_code(k->pv, end);
}

/* The registers as they were at the entry. */
static void fast_undo(struct kvm_engine *k, bool rax)
{
    const struct kvm_pv_data *data = k->pv->data;
    struct cpu_x86 *cpu = &k->v->cpu;

    cpu->gpr[CPU_RAX] = rax ? data->rax : KVM_PV_HYPERCALL_IRET;
    cpu->gpr[CPU_RCX] = data->rcx;
    cpu->gpr[CPU_RDX] = data->rdx;
    cpu->gpr[CPU_RSP] = data->rsp;
}

/* A program's call. */
static bool fast_call(struct kvm_engine *k, uint64_t rip)
{
    const struct kvm_pv_cpu *pv = k->pv;
    struct cpu_x86 *cpu = &k->v->cpu;

    if (!cpu->pv_kernel) {
        if (rip > kvm_pv_code(pv, kvm_pv_shim_call_saved)) {
            fast_undo(k, true);
        }
        if (rip >= kvm_pv_code(pv, kvm_pv_shim_call_gs)) {
            cpu->seg[CPU_GS].base = pv->data->user_gs;
        }
        return true;
    }
    cpu->gpr[CPU_RAX] = pv->data->rax;
    cpu->gpr[CPU_RDX] = pv->data->rdx;
    cpu->gpr[CPU_RCX] = cpu->rip = pv->entry.syscall;
    cpu->rflags = cpu->gpr[CPU_R11] = (cpu->gpr[CPU_R11] & ~(uint64_t)KVM_PV_CALL_FLAGS) | 2;
    if (pv->entry.syscall_masks) {
        pv->info[(pv->entry.info_offset & (MEM_PAGE_SIZE - 1)) + 1] = 1;
    }
    kvm_pv_fetch_code(k, KVM_PV_CS64, KVM_PV_DS);
    return false;
}

/* The way back to one. */
static bool fast_back(struct kvm_engine *k, uint64_t rip)
{
    const struct kvm_pv_cpu *pv = k->pv;
    const uint64_t *frame = pv->data->frame; /* RIP, CS, RFLAGS, RSP, SS */
    struct cpu_x86 *cpu = &k->v->cpu;

    if (cpu->pv_kernel) {
        if (rip > kvm_pv_code(pv, kvm_pv_shim_back_saved)) {
            fast_undo(k, false);
        }
        if (fast_between(k, rip, kvm_pv_shim_back_gs, kvm_pv_shim_back_refused)) {
            cpu->seg[CPU_GS].base = pv->data->kernel_gs;
        }
        return true;
    }
    cpu->gpr[CPU_RAX] = pv->data->rax;
    cpu->gpr[CPU_RCX] = pv->data->new_rcx;
    cpu->gpr[CPU_RDX] = pv->data->rdx;
    cpu->gpr[CPU_R11] = pv->data->new_r11;
    cpu->rip = frame[0];
    cpu->rflags = frame[2] | 2;
    cpu->gpr[CPU_RSP] = frame[3];
    pv->info[(pv->entry.info_offset & (MEM_PAGE_SIZE - 1)) + 1] = 0;
    kvm_pv_fetch_code(k, (uint16_t)frame[1] | 3, (uint16_t)frame[4] | 3);
    return false;
}

enum kvm_pv_fast kvm_pv_fast_stopped(struct kvm_engine *k, uint64_t rip)
{
    bool stopped = true;

    if (!fast_between(k, rip, kvm_pv_shim_syscall, kvm_pv_shim_fast_end)) {
        return KVM_PV_ELSEWHERE;
    }
    if (fast_between(k, rip, kvm_pv_shim_call, kvm_pv_shim_back)) {
        stopped = fast_call(k, rip);
    } else if (rip >= kvm_pv_code(k->pv, kvm_pv_shim_back)) {
        stopped = fast_back(k, rip);
    }
    return stopped ? KVM_PV_AT_ENTRY : KVM_PV_DONE;
}
