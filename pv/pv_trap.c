/* SPDX-License-Identifier: MIT */
/*
 * The ways into and out of a paravirtual kernel (xen-abi 3.1 to 3.5): exceptions, software
 * interrupts, system calls and event upcalls become a bounce frame on its stack; the iret
 * hypercall goes back. Kernel and user both run at CPL 3: cpu.pv_kernel, the page tables and
 * the GS base change together.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "pv/evtchn.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/sched.h"
#include "pv/xen_abi.h"

enum { GATE_DPL = 3, GATE_MASK_EVENTS = 4, SEL_RPL = 3, IRET_IN_SYSCALL = 1 << 8 };

/* Flags that a guest may set for itself; IF is always set, IOPL never. */
#define TRAP_FLAGS                                                                             \
    ((uint64_t)(CPU_STATUS_FLAGS | CPU_TF | CPU_DF | CPU_NT | CPU_RF | CPU_AC | CPU_ID))

struct bounce {
    struct pv_callback to;
    bool has_error;
    uint32_t error;
    const uint16_t *selectors; /* DS, ES, FS, GS: a frame of the failsafe callback */
};

void pv_guest_crash(struct pv_domain *d, struct vcpu *v, const char *format, ...)
{
    struct pv_guest *g = d->guest;
    va_list args;

    if (g->crash[0] == '\0') {
        va_start(args, format);
        g_vsnprintf(g->crash, sizeof(g->crash), format, args);
        va_end(args);
        log_debug(LOG_PV, "vCPU %u: %s", v->id, g->crash);
    }
    pv_sched_shutdown(d, v, SHUTDOWN_crash);
}

static uint8_t *trap_mask(struct pv_domain *d, const struct vcpu *v)
{
    return &pv_vcpu_info(d, v->id)->evtchn_upcall_mask;
}

static bool trap_masked(struct pv_domain *d, const struct vcpu *v)
{
    return __atomic_load_n(trap_mask(d, v), __ATOMIC_SEQ_CST) != 0;
}

static void trap_set_mask(struct pv_domain *d, const struct vcpu *v, bool masked)
{
    __atomic_store_n(trap_mask(d, v), masked ? 1 : 0, __ATOMIC_SEQ_CST);
    pv_vcpu_info_written(d, v->id);
}

void pv_toggle_mode(struct pv_domain *d, struct vcpu *v)
{
    struct cpu_x86 *cpu = &v->cpu;
    const struct pv_cpu *pc = pv_cpu_of(d, v);
    uint64_t base = cpu->seg[CPU_GS].base;

    cpu->pv_kernel = !cpu->pv_kernel;
    cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    cpu->cr3 = (cpu->pv_kernel ? pc->kernel_root : pc->user_root) << MEM_PAGE_SHIFT;
    if (!cpu->pv_kernel) {
        pv_space_user(d, v);
    }
}

/* --- Entering the kernel ---------------------------------------------------------------- */

/* The image of RFLAGS: IF is the event mask, IOPL is shown only to who asked for it. */
static uint64_t trap_flags(struct pv_domain *d, const struct vcpu *v, bool masked)
{
    uint64_t flags = v->cpu.rflags & ~(uint64_t)(CPU_IF | CPU_IOPL);

    if ((d->vm_assist & 1u << VMASST_TYPE_architectural_iopl) != 0) {
        flags |= (uint64_t)pv_cpu_of(d, v)->iopl << 12;
    }
    return flags | (masked ? 0 : CPU_IF);
}

static bool trap_stack_ok(uint64_t rsp, size_t len)
{
    return pv_canonical(rsp) && pv_canonical(rsp + len - 1) &&
           (rsp + len <= PV_HV_START || rsp >= PV_HV_END);
}

static void trap_bounce(struct pv_domain *d, struct vcpu *v, const struct bounce *b)
{
    struct cpu_x86 *cpu = &v->cpu;
    const bool from_kernel = cpu->pv_kernel;
    const bool masked = trap_masked(d, v);
    uint16_t cs = cpu->seg[CPU_CS].selector;
    uint64_t rsp = from_kernel ? cpu->gpr[CPU_RSP] : pv_cpu_of(d, v)->kernel_sp;
    uint64_t frame[12];
    unsigned n = 0;

    frame[n++] = cpu->gpr[CPU_RCX];
    frame[n++] = cpu->gpr[CPU_R11];
    if (b->has_error) {
        frame[n++] = b->error;
    }
    for (unsigned i = 0; b->selectors != NULL && i < 4; i++) {
        frame[n++] = b->selectors[i];
    }
    frame[n++] = cpu->rip;
    frame[n++] = (from_kernel ? cs & ~SEL_RPL : cs) | (uint64_t)masked << 32;
    frame[n++] = trap_flags(d, v, masked);
    frame[n++] = cpu->gpr[CPU_RSP];
    frame[n++] = cpu->seg[CPU_SS].selector;
    rsp = (rsp & ~15ull) - n * 8;
    if (!from_kernel) {
        pv_toggle_mode(d, v);
    }
    pv_load_flat(cpu);
    if (!trap_stack_ok(rsp, n * 8) || !guest_write(v, rsp, frame, n * 8)) {
        pv_guest_crash(d, v, "no stack at 0x%" G_GINT64_MODIFIER "x for a trap at rip 0x%"
                       G_GINT64_MODIFIER "x", rsp, cpu->rip);
        return;
    }
    cpu->gpr[CPU_RSP] = rsp;
    cpu->rip = b->to.address;
    cpu->rflags &= ~(uint64_t)(CPU_AC | CPU_VM | CPU_RF | CPU_NT | CPU_TF);
    if (b->to.mask_events) {
        trap_set_mask(d, v, true);
    }
}

static bool trap_upcall_wanted(struct pv_domain *d, const struct vcpu *v)
{
    return !v->cpu.halted && evtchn_upcall_pending(d, v->id) && !trap_masked(d, v);
}

void pv_event(struct pv_domain *d, struct vcpu *v)
{
    struct bounce b = {.to = pv_cpu_of(d, v)->event};

    if (!trap_upcall_wanted(d, v)) {
        return;
    }
    if (b.to.address == 0) {
        pv_guest_crash(d, v, "an event for a kernel without an event callback");
        return;
    }
    b.to.mask_events = true;
    trap_bounce(d, v, &b);
}

void pv_guest_up(struct pv_domain *d, struct vcpu *v)
{
    static const unsigned segments[4] = {CPU_DS, CPU_ES, CPU_FS, CPU_GS};
    struct pv_cpu *pc = pv_cpu_of(d, v);
    struct bounce b = {.to = pc->failsafe, .selectors = pc->selector};
    bool good = true;

    for (unsigned i = 0; pc->fresh && i < 4; i++) {
        const uint64_t base = v->cpu.seg[segments[i]].base;

        good = pv_load_data(d, v, segments[i], pc->selector[i]) && good;
        if (base != 0 || v->cpu.seg[segments[i]].unusable) {
            v->cpu.seg[segments[i]].base = base; /* of FS and GS: the context has a field */
        }
    }
    if (!good && b.to.address == 0) {
        pv_guest_crash(d, v, "a selector that cannot be loaded, without a failsafe callback");
    } else if (!good) {
        trap_bounce(d, v, &b);
    }
    pc->fresh = false;
}

void pv_guest_flush_other(struct pv_domain *d, unsigned vcpu)
{
    d->board->ops->vcpu_request(d->board, vcpu, VCPU_REQ_PV_FLUSH);
    d->guest->flushed |= 1ull << vcpu;
}

void pv_guest_return_flush(struct pv_domain *d, struct vcpu *v)
{
    struct pv_guest *g = d->guest;

    if (!g->flush) {
        return;
    }
    g->flush = false;
    g->flush_clock++;
    pv_flush(d, v, VCPU_FLUSH_ALL, 0);
    for (unsigned i = 0; i < d->board->ops->nr_vcpus(d->board); i++) {
        if (i != v->id) {
            pv_guest_flush_other(d, i);
        }
    }
}

void pv_guest_return(struct pv_domain *d, struct vcpu *v)
{
    pv_guest_return_flush(d, v);
    pv_event(d, v);
}

/* #PF: the address goes into vcpu_info; U says who it was, as the processor cannot. */
static uint32_t trap_page_fault(struct pv_domain *d, struct vcpu *v, const struct vcpu_trap *t)
{
    uint32_t error = t->error & ~(uint32_t)CPU_PFEC_U;

    v->cpu.cr2 = t->cr2;
    __atomic_store_n(&pv_vcpu_info(d, v->id)->arch.cr2, t->cr2, __ATOMIC_RELAXED);
    pv_vcpu_info_written(d, v->id);
    return error | (v->cpu.pv_kernel ? 0 : CPU_PFEC_U);
}

void pv_trap(struct pv_domain *d, struct vcpu *v, const struct vcpu_trap *t)
{
    const struct pv_gate *gate = &pv_cpu_of(d, v)->gate[t->vector];
    struct bounce b = {
        .to = {.address = gate->address, .mask_events = (gate->flags & GATE_MASK_EVENTS) != 0},
        .has_error = t->has_error,
        .error = t->error,
    };

    log_debug(LOG_INT, "vCPU %u: PV vector %u error 0x%x rip 0x%" G_GINT64_MODIFIER
              "x cr2 0x%" G_GINT64_MODIFIER "x %s", v->id, t->vector, t->error, v->cpu.rip,
              t->cr2, v->cpu.pv_kernel ? "kernel" : "user");
    if (t->vector == CPU_PAGE_FAULT) {
        b.error = trap_page_fault(d, v, t);
    } else if (t->vector == CPU_DB) {
        v->cpu.dr[6] = (v->cpu.dr[6] & ~0xfull) | t->dr6;
    }
    if (gate->address == 0 && t->vector == CPU_NMI) {
        v->cpu.nmi_blocked = false; /* nobody wants it */
        return;
    }
    if (gate->address == 0) {
        pv_guest_crash(d, v, "no handler for vector %u, error 0x%x, at rip 0x%"
                       G_GINT64_MODIFIER "x, address 0x%" G_GINT64_MODIFIER "x",
                       t->vector, b.error, v->cpu.rip, t->cr2);
        return;
    }
    trap_bounce(d, v, &b);
}

bool pv_software_int(struct pv_domain *d, struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
    const struct pv_gate *gate = &pv_cpu_of(d, v)->gate[vector];

    if (gate->address == 0 || (gate->flags & GATE_DPL) < (v->cpu.pv_kernel ? 1 : 3)) {
        return false;
    }
    v->cpu.rip = next_rip;
    pv_trap(d, v, &(struct vcpu_trap){.vector = vector});
    return true;
}

bool pv_syscall(struct pv_domain *d, struct vcpu *v)
{
    struct cpu_x86 *cpu = &v->cpu;
    const struct pv_cpu *pc = pv_cpu_of(d, v);
    const bool code64 = cpu_is_code64(cpu);
    struct bounce b = {.to = code64 ? pc->syscall : pc->syscall32};

    if (cpu->pv_kernel && code64) {
        cpu->gpr[CPU_RCX] = cpu->rip;
        cpu->gpr[CPU_R11] = cpu->rflags;
        pv_hypercall(d, v);
        pv_guest_return(d, v);
        return true;
    }
    if (cpu->pv_kernel || b.to.address == 0) {
        return false;
    }
    cpu->gpr[CPU_RCX] = cpu->rip;
    cpu->gpr[CPU_R11] = cpu->rflags & ~(uint64_t)CPU_RF;
    cpu->seg[CPU_CS].selector = code64 ? PV_SEL_CS64 : PV_SEL_CS32;
    cpu->seg[CPU_SS].selector = PV_SEL_DS;
    trap_bounce(d, v, &b);
    cpu->rflags &= ~(uint64_t)CPU_DF;
    return true;
}

bool pv_sysenter(struct pv_domain *d, struct vcpu *v)
{
    struct cpu_x86 *cpu = &v->cpu;
    struct bounce b = {.to = pv_cpu_of(d, v)->sysenter};

    if (cpu->pv_kernel || b.to.address == 0) {
        return false;
    }
    cpu->rip = 0; /* the kernel knows where its programs come from */
    cpu->gpr[CPU_RSP] = 0;
    cpu->seg[CPU_CS].selector = SEL_RPL;
    cpu->seg[CPU_SS].selector = PV_SEL_DS;
    cpu->rflags &= ~(uint64_t)CPU_NT;
    trap_bounce(d, v, &b);
    return true;
}

void pv_entry(struct pv_domain *d, struct vcpu *v, struct vcpu_pv_entry *entry)
{
    const struct pv_cpu *pc = pv_cpu_of(d, v);
    const uint64_t stack = pc->kernel_sp & ~15ull, frame = 7 * sizeof(uint64_t);
    const bool plain = (d->vm_assist & 1u << VMASST_TYPE_architectural_iopl) == 0;
    const uint8_t *info = (const uint8_t *)pv_vcpu_info(d, v->id);

    *entry = (struct vcpu_pv_entry){
        .kernel_root = pc->kernel_root << MEM_PAGE_SHIFT,
        .user_root = pc->user_root == PV_MFN_NONE ? 0 : pc->user_root << MEM_PAGE_SHIFT,
        .stack = stack,
        .syscall = plain && trap_stack_ok(stack - frame, frame) ? pc->syscall.address : 0,
        .syscall_masks = pc->syscall.mask_events,
        .plain_iret = plain,
        .info_frame = mem_hva_frame(d->mem, info),
        .info_offset = (uintptr_t)info & (MEM_PAGE_SIZE - 1),
    };
}

/* --- iret ------------------------------------------------------------------------------- */

struct iret_frame { /* struct iret_context, from RSP on */
    uint64_t rax, r11, rcx, flags, rip, cs, rflags, rsp, ss;
};

static void iret_load(struct pv_domain *d, struct vcpu *v, const struct iret_frame *f)
{
    struct cpu_x86 *cpu = &v->cpu;

    cpu->rip = f->rip;
    cpu->gpr[CPU_RSP] = f->rsp;
    cpu->gpr[CPU_RAX] = f->rax;
    cpu->rflags = (f->rflags & TRAP_FLAGS) | CPU_IF | 2;
    if ((f->flags & IRET_IN_SYSCALL) != 0) {
        cpu->gpr[CPU_RCX] = f->rip;
        cpu->gpr[CPU_R11] = cpu->rflags;
    } else {
        cpu->gpr[CPU_RCX] = f->rcx;
        cpu->gpr[CPU_R11] = f->r11;
    }
    if ((d->vm_assist & 1u << VMASST_TYPE_architectural_iopl) != 0) {
        pv_cpu_of(d, v)->iopl = f->rflags >> 12 & 3;
    }
    cpu->nmi_blocked = false;
    trap_set_mask(d, v, (f->rflags & CPU_IF) == 0);
}

int64_t pv_op_iret(struct hypercall *h)
{
    struct vcpu *v = h->v;
    struct iret_frame f;
    uint16_t selector;

    h->no_result = true;
    if (!guest_read(v, v->cpu.gpr[CPU_RSP], &f, sizeof(f))) {
        pv_guest_crash(h->d, v, "iret without a stack at 0x%" G_GINT64_MODIFIER "x",
                       v->cpu.gpr[CPU_RSP]);
        return 0;
    }
    if ((f.cs & SEL_RPL) == SEL_RPL) {
        if (pv_cpu_of(h->d, v)->user_root == PV_MFN_NONE) {
            pv_guest_crash(h->d, v, "iret to user mode without page tables for it");
            return 0;
        }
        pv_toggle_mode(h->d, v);
    }
    iret_load(h->d, v, &f);
    if (!pv_load_code(h->d, v, (uint16_t)f.cs, (uint16_t)f.ss, &selector)) {
        /* As when the processor's own IRET meets it: a fault where it was to go. */
        pv_load_flat(&v->cpu);
        v->cpu.seg[CPU_CS].selector = (uint16_t)f.cs | SEL_RPL;
        v->cpu.seg[CPU_SS].selector = (uint16_t)f.ss | SEL_RPL;
        pv_trap(h->d, v, &(struct vcpu_trap){.vector = CPU_GP, .has_error = true,
                                             .error = selector & ~(uint32_t)SEL_RPL});
    } else if (cpu_is_code64(&v->cpu) && !pv_canonical(f.rip)) {
        pv_trap(h->d, v, &(struct vcpu_trap){.vector = CPU_GP, .has_error = true});
    }
    return 0;
}

/* --- Telling where to go ---------------------------------------------------------------- */

int64_t pv_op_set_trap_table(struct hypercall *h)
{
    struct pv_cpu *pc = pv_cpu_of(h->d, h->v);

    if (h->arg[0] == 0) {
        memset(pc->gate, 0, sizeof(pc->gate));
        return 0;
    }
    for (;;) {
        struct trap_info info;

        if (!hypercall_spend(h, 1)) {
            h->again = true;
            return 0;
        }
        if (!guest_read(h->v, h->arg[0], &info, sizeof(info))) {
            return -EFAULT;
        }
        if (info.address == 0) {
            return 0;
        }
        if (!pv_canonical(info.address)) {
            return -EINVAL;
        }
        pc->gate[info.vector] = (struct pv_gate){.address = info.address,
                                                 .selector = info.cs | SEL_RPL,
                                                 .flags = info.flags};
        h->arg[0] += sizeof(info);
    }
}

int64_t pv_op_set_callbacks(struct hypercall *h)
{
    struct pv_cpu *pc = pv_cpu_of(h->d, h->v);
    struct pv_callback *const to[] = {&pc->event, &pc->failsafe, &pc->syscall};

    for (unsigned i = 0; i < G_N_ELEMENTS(to); i++) {
        if (pv_canonical(h->arg[i])) { /* one that is no address changes nothing, silently */
            *to[i] = (struct pv_callback){.address = h->arg[i]};
        }
    }
    return 0;
}

static int64_t trap_register(struct hypercall *h)
{
    struct pv_cpu *pc = pv_cpu_of(h->d, h->v);
    struct callback_register op;
    struct pv_callback cb;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (!pv_canonical(op.address)) {
        return -EINVAL;
    }
    cb = (struct pv_callback){op.address, (op.flags & CALLBACKF_mask_events) != 0};
    switch (op.type) {
    case CALLBACKTYPE_event:
        pc->event = cb;
        return 0;
    case CALLBACKTYPE_failsafe:
        pc->failsafe = cb;
        return 0;
    case CALLBACKTYPE_syscall:
        pc->syscall = cb;
        return 0;
    case CALLBACKTYPE_syscall32:
        pc->syscall32 = cb;
        return 0;
    case CALLBACKTYPE_sysenter_deprecated:
    case CALLBACKTYPE_sysenter:
        pc->sysenter = cb;
        return 0;
    case CALLBACKTYPE_nmi:
        pc->gate[CPU_NMI] = (struct pv_gate){.address = op.address, .flags = GATE_MASK_EVENTS};
        return 0;
    default:
        return -ENOSYS;
    }
}

static int64_t trap_unregister(struct hypercall *h)
{
    struct callback_unregister op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    switch (op.type) {
    case CALLBACKTYPE_event:
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_syscall32:
    case CALLBACKTYPE_sysenter_deprecated:
    case CALLBACKTYPE_sysenter:
        return -EINVAL;
    case CALLBACKTYPE_nmi:
        pv_cpu_of(h->d, h->v)->gate[CPU_NMI].address = 0;
        return 0;
    default:
        return -ENOSYS;
    }
}

int64_t pv_op_callback(struct hypercall *h)
{
    switch ((uint32_t)h->arg[0]) {
    case CALLBACKOP_register:
        return trap_register(h);
    case CALLBACKOP_unregister:
        return trap_unregister(h);
    default:
        return -ENOSYS;
    }
}

int64_t pv_op_nmi(struct hypercall *h)
{
    struct pv_gate *gate = &pv_cpu_of(h->d, h->v)->gate[CPU_NMI];
    struct xennmi_callback op;

    switch ((uint32_t)h->arg[0]) {
    case XENNMI_register_callback:
        if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
            return -EFAULT;
        }
        if (!pv_canonical(op.handler_address)) {
            return -EINVAL;
        }
        *gate = (struct pv_gate){.address = op.handler_address, .flags = GATE_MASK_EVENTS};
        return 0;
    case XENNMI_unregister_callback:
        gate->address = 0;
        return 0;
    default:
        return -ENOSYS;
    }
}

int64_t pv_op_stack_switch(struct hypercall *h)
{
    struct pv_cpu *pc = pv_cpu_of(h->d, h->v);

    pc->kernel_ss = (uint16_t)h->arg[0] | SEL_RPL;
    pc->kernel_sp = h->arg[1];
    return 0;
}
