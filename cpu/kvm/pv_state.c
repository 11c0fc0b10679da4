/* SPDX-License-Identifier: MIT */
/*
 * State of a PV guest's vCPU both ways between struct cpu_x86 and KVM.
 *
 * struct cpu_x86 has what the guest sees: CPL 3, no descriptor tables, its own bases. KVM has the
 * shim's tables besides. In between exits KVM mostly stays at CPL 0, and entering costs no more
 * than the general registers: the shim's IRET does the rest. Only a code or stack segment of the
 * LDT cannot be reached so, nor a state that IRET refuses; those are put into KVM as they are.
 */
#include "pv.h"

#include <errno.h>
#include <string.h>

#include "cpu/x86/x86.h"

enum { STATE_SELECTOR_LOCAL = 4 };
#define STATE_PRED_CMD 0x49u
#define STATE_SYSCALL_MASK 0x47700ull /* AC, NT, IOPL, DF, IF, TF */
#define STATE_CR4_PV                                                                           \
    ((uint64_t)CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PAE | CPU_CR4_MCE | CPU_CR4_OSFXSR |          \
     CPU_CR4_OSXMMEXCPT | CPU_CR4_FSGSBASE | CPU_CR4_OSXSAVE)

/* --- what is loaded when it changes --- */

static int state_load_msrs(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    struct cpu_x86 *cpu = &k->v->cpu;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[KVM_MSRS_MAX];
    } list;
    const struct kvm_msr_entry want[] = {
        {.index = 0x174, .data = KVM_PV_CS0},
        {.index = 0x175, .data = pv->linear + (KVM_PV_PAGE_STACK + 1) * 4096ull},
        {.index = 0x176, .data = kvm_pv_code(pv, kvm_pv_shim_sysenter)},
        {.index = 0x277, .data = cpu->pat},
        {.index = 0xc0000081, .data = (uint64_t)KVM_PV_CS0 << 32 | (uint64_t)KVM_PV_CS32 << 48},
        {.index = 0xc0000082, .data = kvm_pv_code(pv, kvm_pv_shim_syscall)},
        {.index = 0xc0000083, .data = kvm_pv_code(pv, kvm_pv_shim_syscall32)},
        {.index = 0xc0000084, .data = STATE_SYSCALL_MASK},
        {.index = 0xc0000103, .data = cpu->tsc_aux},
        {.index = 0x48, .data = cpu->spec_ctrl},
    };

    /* One by one: some KVM has not all of them, and those the guest has not either. */
    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        int ret;

        memset(&list, 0, sizeof(list));
        list.head.nmsrs = 1;
        list.entries[0] = want[i];
        ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_MSRS, &list);
        if (ret < 0) {
            return ret;
        }
        if (ret != 1 && want[i].index != 0xc0000103 && want[i].index != 0x48) {
            return -EINVAL;
        }
    }
    pv->tsc_aux = cpu->tsc_aux;
    pv->spec_ctrl = cpu->spec_ctrl;
    return 0;
}

/* KVM writes it to the processor at once; where that has none it says so, and nothing is lost. */
void kvm_pv_barrier(struct vcpu *v)
{
    struct kvm_engine *k = v->engine;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = {.head = {.nmsrs = 1}, .entry = {.index = STATE_PRED_CMD, .data = 1}};

    kvm_ioctl(k->vm->sys, k->fd, KVM_SET_MSRS, &one);
}

static int state_load_xcr0(struct kvm_engine *k)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1,
                            .xcrs = {{.xcr = 0, .value = k->v->cpu.xcr0}}};

    k->pv->xcr0 = k->v->cpu.xcr0;
    return k->vm->has_xcrs ? kvm_ioctl(k->vm->sys, k->fd, KVM_SET_XCRS, &xcrs) : 0;
}

static int state_load_debug(struct kvm_engine *k)
{
    uint64_t own[G_N_ELEMENTS(k->pv->dr)];

    memcpy(k->pv->dr, kvm_pv_debug_regs(k, own), sizeof(own));
    return kvm_put_debug(k, k->pv->dr);
}

static int state_load_seldom(struct kvm_engine *k)
{
    const struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    uint64_t own[G_N_ELEMENTS(pv->dr)];
    int ret = 0;

    if (cpu->tsc_offset != k->tsc_offset) {
        ret = kvm_load_tsc(k);
    }
    if (ret >= 0 && cpu->xcr0 != pv->xcr0) {
        ret = state_load_xcr0(k);
    }
    if (ret >= 0 && (cpu->tsc_aux != pv->tsc_aux || cpu->spec_ctrl != pv->spec_ctrl)) {
        ret = state_load_msrs(k);
    }
    if (ret >= 0 && memcmp(kvm_pv_debug_regs(k, own), pv->dr, sizeof(own)) != 0) {
        ret = state_load_debug(k);
    }
    return ret;
}

/* --- system registers --- */

static bool state_same_segment(const struct cpu_segment *a, const struct cpu_segment *b)
{
    return a->selector == b->selector && a->attr == b->attr && a->unusable == b->unusable &&
           a->limit == b->limit;
}

static void state_ring0(struct kvm_sregs *s)
{
    s->cs = (struct kvm_segment){.selector = KVM_PV_CS0, .limit = UINT32_MAX, .type = 0xb,
                                 .present = 1, .s = 1, .l = 1, .g = 1};
    s->ss = (struct kvm_segment){.selector = KVM_PV_SS0, .limit = UINT32_MAX, .type = 3,
                                 .present = 1, .s = 1, .db = 1, .g = 1};
}

static void state_shim_tables(const struct kvm_pv_cpu *pv, struct kvm_sregs *s)
{
    s->gdt.base = pv->linear;
    s->gdt.limit = (KVM_PV_PAGE_XEN_GDT + 1) * 4096 - 1;
    s->idt.base = pv->linear + KVM_PV_PAGE_IDT * 4096ull;
    s->idt.limit = 4095;
    s->tr = (struct kvm_segment){.selector = KVM_PV_TR, .limit = 0x67, .type = 0xb,
                                 .present = 1,
                                 .base = pv->linear + KVM_PV_PAGE_TSS * 4096ull};
    s->ldt = (struct kvm_segment){.unusable = 1};
}

/* The shim at CPL 0, and all that is not loaded by it. */
static void state_sregs(struct kvm_engine *k, struct kvm_sregs *s)
{
    struct kvm_pv_cpu *pv = k->pv;

    kvm_sregs_of(k, s);
    s->cr4 &= STATE_CR4_PV;
    s->cr8 = 0;
    state_shim_tables(pv, s);
    state_ring0(s);
    memcpy(pv->seg, k->v->cpu.seg, sizeof(pv->seg));
    pv->cr0 = k->v->cpu.cr0;
    pv->cr4 = k->v->cpu.cr4;
    pv->pge = false;
    pv->at_shim = true;
    pv->flush = true;
}

static int state_no_events(struct kvm_engine *k)
{
    struct kvm_vcpu_events none = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
    };

    return kvm_ioctl(k->vm->sys, k->fd, KVM_SET_VCPU_EVENTS, &none);
}

int kvm_pv_load_all(struct kvm_engine *k)
{
    static int (*const load[])(struct kvm_engine *k) = {
        kvm_load_xsave, state_load_xcr0, state_load_msrs,
        state_load_debug, state_no_events, kvm_load_tsc,
    };
    struct kvm_sregs s;
    int ret;

    kvm_pv_map_gdt(k);
    state_sregs(k, &s);
    ret = kvm_ioctl(k->vm->sys, k->fd, KVM_SET_SREGS, &s);
    for (unsigned i = 0; i < G_N_ELEMENTS(load) && ret >= 0; i++) {
        ret = load[i](k);
    }
    k->run->s.regs.sregs = s;
    k->run->kvm_dirty_regs = 0;
    k->load_all = false;
    return ret;
}

/* --- entering --- */

/* Data segments, CR0 and CR4 that KVM has not: in what it takes. */
static void state_load_changed(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_sregs *s = &k->run->s.regs.sregs;
    struct kvm_segment *const to[CPU_NR_SEG] = {
        [CPU_ES] = &s->es, [CPU_DS] = &s->ds, [CPU_FS] = &s->fs, [CPU_GS] = &s->gs,
    };
    bool changed = false;

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        if (to[i] != NULL && !state_same_segment(&cpu->seg[i], &pv->seg[i])) {
            *to[i] = kvm_segment_of(&cpu->seg[i]);
            pv->seg[i] = cpu->seg[i];
            changed = true;
        }
    }
    if (cpu->cr0 != pv->cr0 || cpu->cr4 != pv->cr4) {
        s->cr0 = pv->cr0 = cpu->cr0;
        pv->cr4 = cpu->cr4;
        s->cr4 = (cpu->cr4 & STATE_CR4_PV) | (pv->pge ? CPU_CR4_PGE : 0);
        changed = true;
    }
    if (changed) {
        k->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    }
}

/* RIP and RFLAGS as the guest is to go on with them. */
static void state_put_regs(struct kvm_engine *k)
{
    kvm_put_regs(k);
    k->run->s.regs.regs.rflags = kvm_pv_debug_flags(k) | 2;
}

static void state_enter_direct(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_sregs *s = &k->run->s.regs.sregs;

    s->cs = kvm_segment_of(&cpu->seg[CPU_CS]);
    s->ss = kvm_segment_of(&cpu->seg[CPU_SS]);
    s->fs.base = cpu->seg[CPU_FS].base;
    s->gs.base = cpu->seg[CPU_GS].base;
    s->cr3 = cpu->cr3;
    pv->pge = !pv->pge; /* drops all translations */
    s->cr4 = (cpu->cr4 & STATE_CR4_PV) | (pv->pge ? CPU_CR4_PGE : 0);
    k->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    state_put_regs(k);
}

static bool state_as_loaded(const struct kvm_engine *k)
{
    const struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;

    return !pv->flush && cpu->cr3 == k->run->s.regs.sregs.cr3 &&
           cpu->seg[CPU_FS].base == pv->seg[CPU_FS].base &&
           cpu->seg[CPU_GS].base == pv->seg[CPU_GS].base;
}

/* By the shim's IRET. */
static void state_enter_shim(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    const bool plain = state_as_loaded(k);
    struct {
        uint64_t rax, rcx, rdx, rip, cs, rflags, rsp, ss;
    } frame = {
        cpu->gpr[CPU_RAX], cpu->gpr[CPU_RCX], cpu->gpr[CPU_RDX], cpu->rip,
        cpu->seg[CPU_CS].selector, kvm_pv_debug_flags(k) | 2, cpu->gpr[CPU_RSP],
        cpu->seg[CPU_SS].selector,
    };
    struct kvm_regs *r = &k->run->s.regs.regs;

    if (!pv->at_shim) {
        state_ring0(&k->run->s.regs.sregs);
        k->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
        pv->at_shim = true;
    }
    pv->data->cr3 = cpu->cr3;
    pv->data->fs_base = cpu->seg[CPU_FS].base;
    pv->data->gs_base = cpu->seg[CPU_GS].base;
    memcpy(pv->stack + 4096 - sizeof(frame), &frame, sizeof(frame));
    kvm_put_regs(k);
    r->rflags = 2;
    r->rsp = pv->linear + (KVM_PV_PAGE_STACK + 1) * 4096ull - (plain ? 40 : sizeof(frame));
    r->rip = kvm_pv_code(pv, plain ? kvm_pv_shim_iret : kvm_pv_shim_resume);
}

int kvm_pv_load(struct kvm_engine *k)
{
    struct kvm_pv_cpu *pv = k->pv;
    const struct cpu_x86 *cpu = &k->v->cpu;
    const uint16_t cs = cpu->seg[CPU_CS].selector, ss = cpu->seg[CPU_SS].selector;
    int ret = state_load_seldom(k);

    if (ret < 0) {
        return ret;
    }
    kvm_pv_debug_begin(k);
    kvm_pv_map_gdt(k);
    kvm_pv_fast_load(k);
    state_load_changed(k);
    if (pv->direct || ((cs | ss) & STATE_SELECTOR_LOCAL) != 0) {
        state_enter_direct(k);
        return 0;
    }
    if (!pv->at_shim && cs == pv->seg[CPU_CS].selector && ss == pv->seg[CPU_SS].selector &&
        state_as_loaded(k)) {
        state_put_regs(k);
        return 0;
    }
    state_enter_shim(k);
    return 0;
}

/* --- leaving --- */

void kvm_pv_fetch_data(struct kvm_engine *k)
{
    const struct kvm_sregs *s = &k->run->s.regs.sregs;
    struct cpu_x86 *cpu = &k->v->cpu;
    struct kvm_pv_cpu *pv = k->pv;

    kvm_fetch_gprs(k);
    cpu->seg[CPU_DS] = kvm_segment_home(&s->ds);
    cpu->seg[CPU_ES] = kvm_segment_home(&s->es);
    cpu->seg[CPU_FS] = kvm_segment_home(&s->fs);
    cpu->seg[CPU_GS] = kvm_segment_home(&s->gs);
    memcpy(pv->seg, cpu->seg, sizeof(pv->seg));
    kvm_pv_fast_home(k);
}

void kvm_pv_fetch(struct kvm_engine *k)
{
    const struct kvm_sregs *s = &k->run->s.regs.sregs;

    kvm_pv_fetch_data(k);
    k->v->cpu.seg[CPU_CS] = k->pv->seg[CPU_CS] = kvm_segment_home(&s->cs);
    k->v->cpu.seg[CPU_SS] = k->pv->seg[CPU_SS] = kvm_segment_home(&s->ss);
    k->v->cpu.rflags = kvm_pv_debug_home(k, k->v->cpu.rflags);
}

static void state_fetch_selector(struct kvm_engine *k, enum cpu_segreg reg, uint16_t selector)
{
    struct cpu_segment *seg = &k->v->cpu.seg[reg];
    uint64_t raw;
    uint32_t limit;

    if (seg->selector == selector) {
        return; /* its hidden part has not changed either */
    }
    seg->selector = selector;
    if (!k->v->pv->descriptor(k->v, selector, &raw)) {
        return;
    }
    limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
    seg->attr = (uint16_t)((raw >> 40 & 0xf0ff) | 1);
    seg->limit = (seg->attr & CPU_SEG_G) != 0 ? limit << 12 | 0xfff : limit;
    seg->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    seg->unusable = false;
}

void kvm_pv_fetch_code(struct kvm_engine *k, uint16_t cs, uint16_t ss)
{
    state_fetch_selector(k, CPU_CS, cs);
    state_fetch_selector(k, CPU_SS, ss);
}
