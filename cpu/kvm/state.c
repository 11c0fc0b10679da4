/* SPDX-License-Identifier: MIT */
/*
 * State both ways between struct cpu_x86 and KVM.
 *
 * An interrupt or exception that KVM has accepted and not yet delivered has no place in struct
 * cpu_x86: cpu/x86 delivers it there and then, so what comes home is always between instructions
 * and complete. INT n and its relatives half done are dropped: RIP is still at them.
 */
#include "engine.h"

#include <errno.h>
#include <string.h>
#include <x86intrin.h>

#include "cpu/x86/x86.h"

enum { STATE_XSTATE_BV = 512 };
#define STATE_EFER (CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE)
#define MSR_TSC 0x10u

/* --- general registers --- */

static inline void state_fill_regs(const struct cpu_x86 *cpu, struct kvm_regs *to)
{
    const uint64_t *g = cpu->gpr;

    *to = (struct kvm_regs){
        .rax = g[CPU_RAX], .rbx = g[CPU_RBX], .rcx = g[CPU_RCX], .rdx = g[CPU_RDX],
        .rsi = g[CPU_RSI], .rdi = g[CPU_RDI], .rsp = g[CPU_RSP], .rbp = g[CPU_RBP],
        .r8 = g[CPU_R8],   .r9 = g[CPU_R9],   .r10 = g[CPU_R10], .r11 = g[CPU_R11],
        .r12 = g[CPU_R12], .r13 = g[CPU_R13], .r14 = g[CPU_R14], .r15 = g[CPU_R15],
        .rip = cpu->rip,   .rflags = cpu->rflags | 2,
    };
}

struct kvm_regs kvm_regs_of(const struct cpu_x86 *cpu)
{
    struct kvm_regs regs;

    state_fill_regs(cpu, &regs);
    return regs;
}

void kvm_put_regs(struct kvm_engine *k)
{
    state_fill_regs(&k->v->cpu, &k->run->s.regs.regs);
    k->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    k->regs_dirty = false;
}

void kvm_fetch_gprs(struct kvm_engine *k)
{
    const struct kvm_regs *r = &k->run->s.regs.regs;
    struct cpu_x86 *cpu = &k->v->cpu;
    uint64_t *g = cpu->gpr;

    g[CPU_RAX] = r->rax, g[CPU_RBX] = r->rbx, g[CPU_RCX] = r->rcx, g[CPU_RDX] = r->rdx;
    g[CPU_RSI] = r->rsi, g[CPU_RDI] = r->rdi, g[CPU_RSP] = r->rsp, g[CPU_RBP] = r->rbp;
    g[CPU_R8] = r->r8, g[CPU_R9] = r->r9, g[CPU_R10] = r->r10, g[CPU_R11] = r->r11;
    g[CPU_R12] = r->r12, g[CPU_R13] = r->r13, g[CPU_R14] = r->r14, g[CPU_R15] = r->r15;
    cpu->rip = r->rip;
    cpu->rflags = r->rflags | 2;
}

int kvm_fetch_regs(struct kvm_engine *k)
{
    int ret = 0;

    if (!k->regs_away) {
        return 0;
    }
    if ((k->run->kvm_valid_regs & KVM_SYNC_X86_REGS) == 0) {
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_REGS, &k->run->s.regs.regs);
    }
    if (ret >= 0) {
        kvm_fetch_gprs(k);
        k->regs_away = false;
    }
    return ret;
}

/* --- segments and control registers --- */

struct kvm_segment kvm_segment_of(const struct cpu_segment *s)
{
    return (struct kvm_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector,
        .type = s->attr & CPU_SEG_TYPE, .s = (s->attr & CPU_SEG_S) != 0,
        .dpl = (s->attr >> CPU_SEG_DPL_SHIFT) & 3, .present = (s->attr & CPU_SEG_P) != 0,
        .avl = (s->attr & CPU_SEG_AVL) != 0, .l = (s->attr & CPU_SEG_L) != 0,
        .db = (s->attr & CPU_SEG_DB) != 0, .g = (s->attr & CPU_SEG_G) != 0,
        .unusable = s->unusable,
    };
}

struct cpu_segment kvm_segment_home(const struct kvm_segment *s)
{
    return (struct cpu_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector,
        .attr = (uint16_t)(s->type | s->s << 4 | s->dpl << CPU_SEG_DPL_SHIFT | s->present << 7 |
                           s->avl << 12 | s->l << 13 | s->db << 14 | s->g << 15),
        .unusable = s->unusable != 0,
    };
}

void kvm_sregs_of(const struct kvm_engine *k, struct kvm_sregs *s)
{
    const struct cpu_x86 *cpu = &k->v->cpu;

    memset(s, 0, sizeof(*s));
    s->cs = kvm_segment_of(&cpu->seg[CPU_CS]);
    s->ds = kvm_segment_of(&cpu->seg[CPU_DS]);
    s->es = kvm_segment_of(&cpu->seg[CPU_ES]);
    s->fs = kvm_segment_of(&cpu->seg[CPU_FS]);
    s->gs = kvm_segment_of(&cpu->seg[CPU_GS]);
    s->ss = kvm_segment_of(&cpu->seg[CPU_SS]);
    s->tr = kvm_segment_of(&cpu->tr);
    s->ldt = kvm_segment_of(&cpu->ldtr);
    s->gdt.base = cpu->gdtr.base;
    s->gdt.limit = cpu->gdtr.limit;
    s->idt.base = cpu->idtr.base;
    s->idt.limit = cpu->idtr.limit;
    s->cr0 = cpu->cr0;
    s->cr2 = cpu->cr2;
    s->cr3 = cpu->cr3;
    s->cr4 = cpu->cr4;
    s->cr8 = k->cr8;
    s->efer = cpu->efer & STATE_EFER;
    s->apic_base = k->apic_base;
}

static int state_load_sregs(struct kvm_engine *k)
{
    kvm_sregs_of(k, &k->sregs);
    return kvm_ioctl(k->vm->sys, k->fd, KVM_SET_SREGS, &k->sregs);
}

/* KVM's are in the shared page. */
static int state_get_sregs(struct kvm_engine *k)
{
    int ret = 0;

    if ((k->run->kvm_valid_regs & KVM_SYNC_X86_SREGS) == 0) {
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_SREGS, &k->run->s.regs.sregs);
    }
    return ret;
}

static void state_fetch_control(struct kvm_engine *k)
{
    const struct kvm_sregs *s = &k->run->s.regs.sregs;
    struct cpu_x86 *cpu = &k->v->cpu;

    cpu->cr0 = s->cr0;
    cpu->cr2 = s->cr2;
    cpu->cr3 = s->cr3;
    cpu->cr4 = s->cr4;
    cpu->efer = s->efer;
    cpu->seg[CPU_CS] = kvm_segment_home(&s->cs);
    cpu->seg[CPU_SS] = kvm_segment_home(&s->ss);
    cpu->cpl = s->ss.dpl;
    if ((s->cr0 & CPU_CR0_PE) == 0) {
        cpu->cpl = 0;
    }
}

int kvm_fetch_for_call(struct kvm_engine *k)
{
    int ret = kvm_fetch_regs(k);

    if (ret >= 0 && k->sregs_away) {
        ret = state_get_sregs(k);
    }
    if (ret >= 0 && k->sregs_away) {
        state_fetch_control(k);
        k->near = KVM_NEAR;
    }
    return ret;
}

static int state_fetch_sregs(struct kvm_engine *k)
{
    const struct kvm_sregs *s = &k->run->s.regs.sregs;
    struct cpu_x86 *cpu = &k->v->cpu;
    int ret = state_get_sregs(k);

    if (ret < 0) {
        return ret;
    }
    state_fetch_control(k);
    cpu->seg[CPU_DS] = kvm_segment_home(&s->ds);
    cpu->seg[CPU_ES] = kvm_segment_home(&s->es);
    cpu->seg[CPU_FS] = kvm_segment_home(&s->fs);
    cpu->seg[CPU_GS] = kvm_segment_home(&s->gs);
    cpu->tr = kvm_segment_home(&s->tr);
    cpu->ldtr = kvm_segment_home(&s->ldt);
    cpu->gdtr = (struct cpu_table){s->gdt.base, s->gdt.limit};
    cpu->idtr = (struct cpu_table){s->idt.base, s->idt.limit};
    kvm_sregs_of(k, &k->sregs);
    k->sregs_away = false;
    return 0;
}

/* --- MSRs --- */

struct state_msr_list {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[KVM_MSRS_MAX];
};

static const struct {
    uint32_t index;
    size_t home;
} state_msrs[] = {
    {0x174, offsetof(struct cpu_x86, sysenter_cs)},
    {0x175, offsetof(struct cpu_x86, sysenter_esp)},
    {0x176, offsetof(struct cpu_x86, sysenter_eip)},
    {0x277, offsetof(struct cpu_x86, pat)},
    {0xc0000081, offsetof(struct cpu_x86, star)},
    {0xc0000082, offsetof(struct cpu_x86, lstar)},
    {0xc0000083, offsetof(struct cpu_x86, cstar)},
    {0xc0000084, offsetof(struct cpu_x86, fmask)},
    {0xc0000102, offsetof(struct cpu_x86, kernel_gs_base)},
    {0xc0000103, offsetof(struct cpu_x86, tsc_aux)},
    {0x48, offsetof(struct cpu_x86, spec_ctrl)},
};
G_STATIC_ASSERT(G_N_ELEMENTS(state_msrs) <= KVM_MSRS_MAX);

static uint64_t *state_msr_home(struct cpu_x86 *cpu, uint32_t index)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(state_msrs); i++) {
        if (state_msrs[i].index == index) {
            return (uint64_t *)(void *)((uint8_t *)cpu + state_msrs[i].home);
        }
    }
    return NULL;
}

/* KVM stops at the first MSR it has not: those are asked one by one, once. */
static void state_find_msrs(struct kvm_engine *k)
{
    struct kvm_vm *vm = k->vm;

    for (unsigned i = 0; i < G_N_ELEMENTS(state_msrs); i++) {
        struct state_msr_list one = {.head = {.nmsrs = 1}};

        one.entries[0].index = state_msrs[i].index;
        if (kvm_ioctl(vm->sys, k->fd, KVM_GET_MSRS, &one) == 1) {
            vm->msrs[vm->nr_msrs++] = state_msrs[i].index;
        }
    }
}

static int state_load_msrs(struct kvm_engine *k)
{
    struct kvm_vm *vm = k->vm;
    struct state_msr_list list;
    int ret;

    if (vm->nr_msrs == 0) {
        state_find_msrs(k);
    }
    memset(&list, 0, sizeof(list));
    list.head.nmsrs = vm->nr_msrs;
    for (unsigned i = 0; i < vm->nr_msrs; i++) {
        list.entries[i].index = vm->msrs[i];
        list.entries[i].data = *state_msr_home(&k->v->cpu, vm->msrs[i]);
    }
    ret = kvm_ioctl(vm->sys, k->fd, KVM_SET_MSRS, &list);
    return ret < 0 ? ret : ret == (int)vm->nr_msrs ? 0 : -EINVAL;
}

static int state_fetch_msrs(struct kvm_engine *k)
{
    struct kvm_vm *vm = k->vm;
    struct state_msr_list list;
    int ret;

    memset(&list, 0, sizeof(list));
    list.head.nmsrs = vm->nr_msrs;
    for (unsigned i = 0; i < vm->nr_msrs; i++) {
        list.entries[i].index = vm->msrs[i];
    }
    ret = kvm_ioctl(vm->sys, k->fd, KVM_GET_MSRS, &list);
    if (ret != (int)vm->nr_msrs) {
        return ret < 0 ? ret : -EINVAL;
    }
    for (unsigned i = 0; i < vm->nr_msrs; i++) {
        *state_msr_home(&k->v->cpu, vm->msrs[i]) = list.entries[i].data;
    }
    return 0;
}

int kvm_load_tsc(struct kvm_engine *k)
{
    struct kvm_vm *vm = k->vm;
    uint64_t offset = (uint64_t)k->v->cpu.tsc_offset;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
    };
    struct state_msr_list one = {.head = {.nmsrs = 1}};
    int ret;

    if (vm->has_tsc_offset) {
        ret = kvm_ioctl(vm->sys, k->fd, KVM_SET_DEVICE_ATTR, &attr);
    } else {
        one.entries[0] = (struct kvm_msr_entry){.index = MSR_TSC, .data = __rdtsc() + offset};
        ret = kvm_ioctl(vm->sys, k->fd, KVM_SET_MSRS, &one);
    }
    if (ret >= 0) {
        k->tsc_offset = k->v->cpu.tsc_offset;
    }
    return ret;
}

/* --- vector registers --- */

int kvm_load_xsave(struct kvm_engine *k)
{
    const struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = cpu->xcr0}}};
    struct kvm_xsave area;
    int ret = 0;

    memset(&area, 0, sizeof(area));
    memcpy(area.region, cpu->xsave, sizeof(cpu->xsave));
    if (k->vm->has_xcrs) {
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_XCRS, &xcrs);
    }
    return ret < 0 ? ret : kvm_ioctl(k->vm->sys, k->fd, KVM_SET_XSAVE, &area);
}

int kvm_fetch_xsave(struct kvm_engine *k)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_xcrs xcrs;
    struct kvm_xsave area;
    uint64_t bv;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_XSAVE, &area);

    if (ret < 0) {
        return ret;
    }
    memcpy(cpu->xsave, area.region, sizeof(cpu->xsave));
    memcpy(&bv, cpu->xsave + STATE_XSTATE_BV, sizeof(bv));
    bv &= CPU_XCR0_MASK;
    memset(cpu->xsave + STATE_XSTATE_BV, 0, 64);
    memcpy(cpu->xsave + STATE_XSTATE_BV, &bv, sizeof(bv));
    if (k->vm->has_xcrs) {
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_XCRS, &xcrs);
        if (ret >= 0 && xcrs.nr_xcrs > 0) {
            cpu->xcr0 = xcrs.xcrs[0].value;
        }
    }
    return ret;
}

/* --- debug registers and events --- */

int kvm_put_debug(struct kvm_engine *k, const uint64_t *dr)
{
    struct kvm_debugregs d = {
        .db = {dr[0], dr[1], dr[2], dr[3]}, .dr6 = dr[6], .dr7 = dr[7],
    };

    return kvm_ioctl(k->vm->sys, k->fd, KVM_SET_DEBUGREGS, &d);
}

static int state_load_debug(struct kvm_engine *k)
{
    return kvm_put_debug(k, k->v->cpu.dr);
}

static int state_fetch_debug(struct kvm_engine *k)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_debugregs d;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_DEBUGREGS, &d);

    if (ret >= 0) {
        memcpy(cpu->dr, d.db, sizeof(d.db));
        cpu->dr[6] = d.dr6;
        cpu->dr[7] = d.dr7;
    }
    return ret;
}

static int state_load_events(struct kvm_engine *k)
{
    const struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_vcpu_events e = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .interrupt.shadow = cpu->irq_shadow ? KVM_X86_SHADOW_INT_STI : 0,
        .nmi.masked = cpu->nmi_blocked,
    };

    return kvm_ioctl(k->vm->sys, k->fd, KVM_SET_VCPU_EVENTS, &e);
}

/* Delivers in v->cpu what KVM was about to deliver. false: a triple fault. */
static bool state_deliver(struct kvm_engine *k, const struct kvm_vcpu_events *e)
{
    struct vcpu *v = k->v;
    struct x86_fault fault = {
        .vector = e->exception.nr, .has_error = e->exception.has_error_code != 0,
        .error = e->exception.error_code, .cr2 = v->cpu.cr2,
    };
    bool ok = true;

    k->load_all = true;
    if (e->exception.injected != 0 || e->exception.pending != 0) {
        if (fault.vector != CPU_BP && fault.vector != CPU_OVERFLOW) {
            ok = x86_raise(v, &fault);
        }
    } else if (e->nmi.injected != 0) {
        v->cpu.nmi_blocked = false; /* KVM has set it for the NMI in flight */
        ok = x86_nmi(v);
    } else if (e->interrupt.injected != 0 && e->interrupt.soft == 0) {
        ok = x86_interrupt(v, e->interrupt.nr);
    }
    return ok;
}

static int state_fetch_events(struct kvm_engine *k)
{
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_vcpu_events e;
    int ret = kvm_ioctl(k->vm->sys, k->fd, KVM_GET_VCPU_EVENTS, &e);

    if (ret < 0) {
        return ret;
    }
    cpu->irq_shadow = e.interrupt.shadow != 0;
    cpu->nmi_blocked = e.nmi.masked != 0;
    if (e.nmi.pending != 0) {
        cpu->nmi_pending = true;
        k->load_all = true;
    }
    if (e.exception.injected != 0 || e.exception.pending != 0 || e.nmi.injected != 0 ||
        e.interrupt.injected != 0) {
        k->triple = !state_deliver(k, &e);
    }
    return 0;
}

/* --- together --- */

int kvm_load_all(struct kvm_engine *k)
{
    static int (*const load[])(struct kvm_engine *k) = {
        state_load_sregs, kvm_load_xsave,  state_load_msrs,
        state_load_debug, state_load_events, kvm_load_tsc,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(load); i++) {
        int ret = load[i](k);

        if (ret < 0) {
            return ret;
        }
    }
    k->load_all = false;
    return 0;
}

int kvm_load_changed(struct kvm_engine *k)
{
    struct kvm_sregs now;

    if (k->v->cpu.tsc_offset != k->tsc_offset) {
        int ret = kvm_load_tsc(k);

        if (ret < 0) {
            return ret;
        }
    }
    if (k->sregs_away) {
        return 0; /* nobody could change them */
    }
    kvm_sregs_of(k, &now);
    return memcmp(&now, &k->sregs, sizeof(now)) == 0 ? 0 : state_load_sregs(k);
}

static int state_fetch_deep(struct kvm_engine *k)
{
    static int (*const fetch[])(struct kvm_engine *k) = {
        kvm_fetch_xsave, state_fetch_msrs, state_fetch_debug, state_fetch_events,
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(fetch); i++) {
        int ret = fetch[i](k);

        if (ret < 0) {
            return ret;
        }
    }
    k->deep_away = false;
    return 0;
}

int kvm_fetch_all(struct kvm_engine *k)
{
    int ret = kvm_fetch_regs(k);

    if (ret >= 0 && k->sregs_away) {
        ret = state_fetch_sregs(k);
    }
    return ret >= 0 && k->deep_away ? state_fetch_deep(k) : ret;
}
