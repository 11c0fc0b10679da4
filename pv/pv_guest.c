/* SPDX-License-Identifier: MIT */
/*
 * A paravirtual domain's life: made, reset, booted from what the domain builder laid out
 * (xen-abi 1.4), and its further vCPUs by VCPUOP_initialise (xen-abi 2.6).
 */
#include <errno.h>
#include <string.h>

#include "pv/gnttab.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/memory.h"
#include "pv/pv_guest.h"
#include "pv/toolstack.h"
#include "pv/xen_abi.h"

enum { STUB_SIZE = 32, STUBS = MEM_PAGE_SIZE / STUB_SIZE };
/* The state of FXSAVE in an XSAVE area (SDM vol. 1, 10.5.1 and 13.4). */
enum {
    FXSAVE_MXCSR = 24,
    FXSAVE_MXCSR_MASK = 0xffff,
    XSAVE_COMPONENTS = 512,
    XSAVE_X87 = 1,
    XSAVE_SSE = 2,
};

struct pv_guest *pv_guest_new(struct pv_domain *d)
{
    const uint64_t ram = mem_ram_bytes(d->mem);
    const uint32_t extra = PV_EXTRA_FRAMES + pv_guest_extra_frames(ram);
    struct pv_guest *g = g_new0(struct pv_guest, 1);

    g->window_mfn = pv_m2p_window(ram);
    g->m2p_mfns = pv_m2p_entries(ram);
    g->nr_frames = (uint32_t)d->ram_pages + extra;
    g->pages = g_new0(struct pv_page, g->nr_frames);
    mem_set_window(d->mem, g->window_mfn, 0, extra);
    return g;
}

void pv_guest_free(struct pv_guest *g)
{
    if (g != NULL) {
        g_free(g->pages);
        g_free(g);
    }
}

void pv_cpu_clear(struct pv_cpu *pc)
{
    memset(pc, 0, sizeof(*pc));
    pc->kernel_root = pc->user_root = PV_MFN_NONE;
    pc->kernel_half[0] = UINT64_MAX;
}

void pv_guest_reset(struct pv_domain *d)
{
    struct pv_guest *g = d->guest;

    memset(g->pages, 0, g->nr_frames * sizeof(g->pages[0]));
    g->store_mfn = g->console_mfn = PV_MFN_NONE;
    g->flush = false;
    g->crash[0] = '\0';
    for (unsigned i = 0; i < PV_MAX_VCPUS; i++) {
        pv_cpu_clear(&g->cpu[i]);
    }
    pv_m2p_init(d);
}

/* The rings of xenstore and console lie in the guest's RAM, where the builder left room. They
 * are mapped by who serves them: never page tables. */
static bool guest_place_rings(struct pv_domain *d, const struct pv_boot *boot)
{
    d->guest->store_mfn = d->store_gfn = boot->store_mfn;
    d->hvm_params[HVM_PARAM_STORE_PFN] = boot->store_mfn;
    gnttab_set_reserved(d, GNTTAB_RESERVED_XENSTORE, boot->store_mfn);
    if (!pv_memory_place(d, PV_FRAME_STORE, boot->store_mfn) ||
        !pv_frame_hold(d, mem_extra_frame(d->mem, PV_FRAME_STORE))) {
        return false;
    }
    if (d->has_console) {
        d->guest->console_mfn = d->console_gfn = boot->console_mfn;
        d->hvm_params[HVM_PARAM_CONSOLE_PFN] = boot->console_mfn;
        gnttab_set_reserved(d, GNTTAB_RESERVED_CONSOLE, boot->console_mfn);
        if (!pv_memory_place(d, PV_FRAME_CONSOLE, boot->console_mfn) ||
            !pv_frame_hold(d, mem_extra_frame(d->mem, PV_FRAME_CONSOLE))) {
            return false;
        }
    }
    toolstack_publish_rings(d);
    return true;
}

void pv_hypercall_page(uint8_t *page)
{
    /* push %rcx; push %r11; mov $nr, %eax; syscall; pop %r11; pop %rcx; ret */
    static const uint8_t stub[] = {0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b,
                                   0x59, 0xc3};
    /* push %rcx; push %r11; push %rax; mov $23, %eax; syscall */
    static const uint8_t iret[] = {0x51, 0x41, 0x53, 0x50, 0xb8, __HYPERVISOR_iret, 0, 0, 0,
                                   0x0f, 0x05};

    memset(page, 0xcc, MEM_PAGE_SIZE);
    for (unsigned nr = 0; nr < STUBS; nr++) {
        uint8_t *to = page + (size_t)nr * STUB_SIZE;

        if (nr == __HYPERVISOR_iret) {
            memcpy(to, iret, sizeof(iret));
        } else {
            memcpy(to, stub, sizeof(stub));
            to[4] = (uint8_t)nr;
        }
    }
}

void pv_guest_begin(struct pv_domain *d, uint64_t nr_pages)
{
    pv_memory_begin(d, nr_pages);
    for (uint64_t pfn = nr_pages; pfn < d->ram_pages; pfn++) {
        pv_m2p_set(d, pv_pfn_to_mfn(d, pfn), UINT64_MAX);
    }
}

bool pv_guest_boot(struct pv_domain *d, const struct pv_boot *boot)
{
    struct vcpu *v = pv_vcpu_cpu(d, 0);
    struct pv_cpu *pc = &d->guest->cpu[0];
    uint32_t root = pv_page_own(d, boot->root_mfn);

    if (!guest_place_rings(d, boot) || root == MEM_HOLE ||
        pv_page_pin(d, root, PV_PAGE_L4) != 0 || pv_page_get(d, root, PV_PAGE_L4) != 0) {
        return false;
    }
    pc->kernel_root = boot->root_mfn;
    pv_page_show_m2p(d, boot->root_mfn, false);
    pc->kernel_sp = boot->stack_gva;
    pc->kernel_ss = PV_SEL_DS;
    pv_cpu_init(&v->cpu, (d->guest->cr4_settable & CPU_CR4_OSXSAVE) != 0);
    v->cpu.cr3 = boot->root_mfn << MEM_PAGE_SHIFT;
    return true;
}

static void guest_drop_root(struct pv_domain *d, uint64_t mfn)
{
    uint32_t frame = mfn == PV_MFN_NONE ? MEM_HOLE : pv_page_own(d, mfn);

    if (frame != MEM_HOLE && d->guest->pages[frame].type == PV_PAGE_L4) {
        pv_page_put(d, frame);
    }
}

void pv_guest_forget_vcpu(struct pv_domain *d, unsigned vcpu)
{
    struct pv_cpu *pc = &d->guest->cpu[vcpu];

    pv_set_gdt(d, pc, NULL, 0);
    pv_ldt_drop(d, pc);
    guest_drop_root(d, pc->kernel_root);
    guest_drop_root(d, pc->user_root);
    pv_cpu_clear(pc);
}

/* A selector and address of VCPUOP_initialise's context. */
static bool guest_context_ok(const struct vcpu_guest_context *c)
{
    const uint64_t address[] = {c->event_callback_eip, c->failsafe_callback_eip,
                                c->syscall_callback_eip, c->fs_base,
                                c->gs_base_kernel,       c->gs_base_user,
                                c->user_regs.rip,        c->user_regs.rsp,
                                c->kernel_sp,            c->ldt_ents != 0 ? c->ldt_base : 0};

    for (unsigned i = 0; i < G_N_ELEMENTS(address); i++) {
        if (!pv_canonical(address[i])) {
            return false;
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(c->trap_ctxt); i++) {
        if (!pv_canonical(c->trap_ctxt[i].address)) {
            return false;
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        if (!pv_guest_address(c->debugreg[i])) {
            return false;
        }
    }
    return (c->flags & VGCF_in_kernel) != 0 && !pv_hv_address(c->ldt_base) && c->gdt_ents <= PV_GDT_ENTRIES &&
           c->ldt_ents <= PV_LDT_ENTRIES && (c->ldt_base & (MEM_PAGE_SIZE - 1)) == 0;
}

static void guest_context_fpu(struct cpu_x86 *cpu, const struct vcpu_guest_context *c)
{
    uint64_t components;
    uint32_t mxcsr;

    memcpy(cpu->xsave, &c->fpu_ctxt, sizeof(c->fpu_ctxt));
    memcpy(&mxcsr, cpu->xsave + FXSAVE_MXCSR, sizeof(mxcsr));
    mxcsr &= FXSAVE_MXCSR_MASK; /* the others are not there: loading them would fault */
    memcpy(cpu->xsave + FXSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
    memcpy(&components, cpu->xsave + XSAVE_COMPONENTS, sizeof(components));
    components |= XSAVE_X87 | XSAVE_SSE;
    memcpy(cpu->xsave + XSAVE_COMPONENTS, &components, sizeof(components));
}

/* -errno: what breakpoints may not be. */
static int guest_context_debug(struct pv_domain *d, struct vcpu *v,
                               const struct vcpu_guest_context *c)
{
    int rc = 0;

    for (unsigned i = 0; i < 8 && rc == 0; i++) {
        rc = i == 4 || i == 5 ? 0 : pv_write_dr(d, v, i, c->debugreg[i]);
    }
    return rc;
}

static void guest_context_registers(struct cpu_x86 *cpu, const struct vcpu_guest_context *c)
{
    const struct cpu_user_regs *r = &c->user_regs;
    const uint64_t gpr[CPU_NR_GPR] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp,
                                      r->rsi, r->rdi, r->r8,  r->r9,  r->r10, r->r11,
                                      r->r12, r->r13, r->r14, r->r15};

    memcpy(cpu->gpr, gpr, sizeof(gpr));
    cpu->rip = r->rip;
    cpu->rflags = (r->rflags & (CPU_STATUS_FLAGS | CPU_DF | CPU_AC | CPU_ID)) | CPU_IF | 2;
    cpu->seg[CPU_FS].base = c->fs_base;
    cpu->seg[CPU_GS].base = c->gs_base_kernel;
    cpu->kernel_gs_base = c->gs_base_user;
    if ((c->ctrlreg[0] & CPU_CR0_TS) != 0) {
        cpu->cr0 |= CPU_CR0_TS;
    }
    if ((c->flags & VGCF_i387_valid) != 0) {
        guest_context_fpu(cpu, c);
    }
}

static int guest_context_load(struct pv_domain *d, struct vcpu *v,
                            const struct vcpu_guest_context *c)
{
    struct pv_cpu *pc = pv_cpu_of(d, v);
    const uint64_t root = c->ctrlreg[3] >> MEM_PAGE_SHIFT;
    const uint64_t user = c->ctrlreg[1] >> MEM_PAGE_SHIFT;
    int rc;

    pv_cpu_init(&v->cpu, (d->guest->cr4_settable & CPU_CR4_OSXSAVE) != 0);
    guest_context_registers(&v->cpu, c);
    if (c->ctrlreg[4] != 0) { /* else it is the hypervisor's choice */
        pv_write_cr(d, v, 4, c->ctrlreg[4]);
    }
    rc = guest_context_debug(d, v, c);
    if (rc == 0) {
        rc = (int)pv_new_root(d, v, root, false);
    }
    if (rc == 0 && user != 0) {
        rc = (int)pv_new_root(d, v, user, true);
    }
    if (rc == 0) {
        rc = pv_set_gdt(d, pc, c->gdt_frames, c->gdt_ents);
    }
    if (rc != 0) {
        pv_guest_forget_vcpu(d, v->id);
        return rc;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(c->trap_ctxt); i++) {
        pc->gate[i] = (struct pv_gate){.address = c->trap_ctxt[i].address,
                                       .selector = c->trap_ctxt[i].cs | 3,
                                       .flags = c->trap_ctxt[i].flags};
    }
    pc->event = (struct pv_callback){c->event_callback_eip, true};
    pc->failsafe = (struct pv_callback){c->failsafe_callback_eip,
                                        (c->flags & VGCF_failsafe_disables_events) != 0};
    pc->syscall = (struct pv_callback){c->syscall_callback_eip,
                                       (c->flags & VGCF_syscall_disables_events) != 0};
    pc->fresh = true;
    pc->selector[0] = c->user_regs.ds;
    pc->selector[1] = c->user_regs.es;
    pc->selector[2] = c->user_regs.fs;
    pc->selector[3] = c->user_regs.gs;
    pc->kernel_ss = (uint16_t)c->kernel_ss | 3;
    pc->kernel_sp = c->kernel_sp;
    pc->iopl = c->user_regs.rflags >> 12 & 3;
    pv_set_ldt(d, pc, c->ldt_base, (unsigned)c->ldt_ents);
    return 0;
}

int64_t pv_op_initialise(struct hypercall *h, unsigned id, bool *online)
{
    struct vcpu *v = pv_vcpu_cpu(h->d, id);
    struct vcpu_guest_context *c;
    int64_t rc = -EINVAL;

    if (v == NULL) {
        return -ENOENT;
    }
    if (h->d->vcpu[id].initialised || h->d->vcpu[id].up) {
        return -EEXIST;
    }
    c = g_new(struct vcpu_guest_context, 1);
    if (!guest_read(h->v, h->arg[2], c, sizeof(*c))) {
        rc = -EFAULT;
    } else if (guest_context_ok(c)) {
        rc = guest_context_load(h->d, v, c);
        if (rc == 0) {
            v->cpu.halted = true; /* off: its thread leaves the state alone */
            h->d->vcpu[id].initialised = true;
            *online = (c->flags & VGCF_online) != 0;
        }
    }
    g_free(c);
    return rc;
}
