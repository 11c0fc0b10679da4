/* SPDX-License-Identifier: MIT */
/*
 * A board for a 64-bit Xen PV guest: RAM, event channels and back ends. There is no interrupt
 * controller, no firmware table and no chip but the debug ports; the kernel is entered in
 * 64-bit mode at CPL 3 on page tables made by the domain builder.
 */
#include "machine/machine_private.h"

#include <sched.h>

#include "base/error.h"
#include "boot/boot_image.h"
#include "boot/pv_build.h"
#include "cpu/kvm/kvm.h"
#include "pv/pv_guest.h"

static struct machine *pv_machine(const struct vcpu *v)
{
    return ((const struct vcpu_thread *)v)->machine;
}

/* --- what an engine asks of a board ----------------------------------------------------- */

static uint64_t board_pio_read(struct vcpu *v, uint16_t port, unsigned size)
{
    return bus_read(pv_machine(v)->pio, port, size);
}

static void board_pio_write(struct vcpu *v, uint16_t port, unsigned size, uint64_t value)
{
    bus_write(pv_machine(v)->pio, port, size, value);
}

/* Frames that the guest gave back and still has mapped. */
static uint64_t board_mmio_read(struct vcpu *v, uint64_t gpa, unsigned size)
{
    (void)v, (void)gpa, (void)size;
    return UINT64_MAX;
}

static void board_mmio_write(struct vcpu *v, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)v, (void)gpa, (void)size, (void)value;
}

static int board_irq_ack(struct vcpu *v)
{
    (void)v;
    return -1;
}

static bool board_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    (void)v, (void)index, (void)value;
    return false;
}

static bool board_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    (void)v, (void)index, (void)value;
    return false;
}

/* No hypercall instruction but SYSCALL, and no CR8. */
static const struct vcpu_board_ops pv_board_ops = {
    .pio_read = board_pio_read,
    .pio_write = board_pio_write,
    .mmio_read = board_mmio_read,
    .mmio_write = board_mmio_write,
    .irq_ack = board_irq_ack,
    .rdmsr = board_rdmsr,
    .wrmsr = board_wrmsr,
};

/* --- what a processor asks of the hypervisor: pv/ with the board lock ------------------- */

static void pv_enter(struct vcpu *v)
{
    atomic_store(&((struct vcpu_thread *)v)->in_pv, true);
    g_mutex_lock(&pv_machine(v)->board.lock);
}

/* Whether vCPU i may still use a translation that it was asked to drop. */
static bool pv_flush_due(const struct machine *m, unsigned i)
{
    const struct vcpu_thread *vt = m->vcpus[i];

    return (atomic_load(&vt->vcpu.request) & VCPU_REQ_PV_FLUSH) != 0 &&
           !atomic_load(&vt->in_pv) && !atomic_load(&vt->sleeping);
}

/* A flush of other vCPUs is over when the call that asked for it returns. */
static void pv_wait_flushed(struct vcpu *v, uint64_t vcpus)
{
    const struct machine *m = pv_machine(v);

    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        for (unsigned spins = 0; (vcpus >> i & 1) != 0 && pv_flush_due(m, i) &&
                                 (atomic_load(&v->request) & VCPU_REQ_STOP) == 0;
             spins++) {
            if (spins < 200) {
                __builtin_ia32_pause();
            } else {
                sched_yield();
            }
        }
    }
}

static void pv_leave(struct vcpu *v)
{
    struct pv_guest *g = pv_machine(v)->pv->guest;
    uint64_t flushed = g->flushed;

    g->flushed = 0;
    g_mutex_unlock(&pv_machine(v)->board.lock);
    if (flushed != 0) {
        pv_wait_flushed(v, flushed);
    }
    atomic_store(&((struct vcpu_thread *)v)->in_pv, false);
}

#define PV_LOCKED(v, call)                                                                     \
    do {                                                                                       \
        pv_enter(v);                                                                           \
        call;                                                                                  \
        pv_leave(v);                                                                           \
    } while (0)

static void guest_trap(struct vcpu *v, const struct vcpu_trap *trap)
{
    PV_LOCKED(v, pv_trap(pv_machine(v)->pv, v, trap));
}

static bool guest_software_int(struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
    bool ok;

    PV_LOCKED(v, ok = pv_software_int(pv_machine(v)->pv, v, vector, next_rip));
    return ok;
}

static bool guest_syscall(struct vcpu *v)
{
    struct pv_domain *d = pv_machine(v)->pv;
    bool ok, yield;

    pv_enter(v);
    ok = pv_syscall(d, v);
    yield = d->vcpu[v->id].yield;
    d->vcpu[v->id].yield = false;
    pv_leave(v);
    if (yield) {
        sched_yield();
    }
    return ok;
}

static bool guest_sysenter(struct vcpu *v)
{
    bool ok;

    PV_LOCKED(v, ok = pv_sysenter(pv_machine(v)->pv, v));
    return ok;
}

static void guest_event(struct vcpu *v)
{
    PV_LOCKED(v, pv_event(pv_machine(v)->pv, v));
}

static void guest_flush(struct vcpu *v)
{
    PV_LOCKED(v, pv_flush(pv_machine(v)->pv, v, VCPU_FLUSH_ALL, 0));
}

static bool guest_descriptor(struct vcpu *v, uint16_t selector, uint64_t *raw)
{
    bool ok;

    PV_LOCKED(v, ok = pv_descriptor(pv_machine(v)->pv, v, selector, raw));
    return ok;
}

/* Only the vCPU's own calls change it. */
static void guest_gdt(struct vcpu *v, uint64_t *mfns)
{
    const struct pv_cpu *pc = pv_cpu_of(pv_machine(v)->pv, v);

    for (unsigned i = 0; i < PV_GDT_FRAMES; i++) {
        mfns[i] = i * 512u < pc->gdt_entries ? pc->gdt_mfn[i] : 0;
    }
}

static void guest_entry(struct vcpu *v, struct vcpu_pv_entry *entry)
{
    pv_entry(pv_machine(v)->pv, v, entry);
}

static bool guest_io_allowed(struct vcpu *v, uint16_t port, unsigned size)
{
    bool ok;

    PV_LOCKED(v, ok = pv_io_allowed(pv_machine(v)->pv, v, port, size));
    return ok;
}

static bool guest_read_cr(struct vcpu *v, unsigned nr, uint64_t *value)
{
    bool ok;

    PV_LOCKED(v, ok = pv_read_cr(pv_machine(v)->pv, v, nr, value));
    return ok;
}

static bool guest_write_cr(struct vcpu *v, unsigned nr, uint64_t value)
{
    bool ok;

    PV_LOCKED(v, ok = pv_write_cr(pv_machine(v)->pv, v, nr, value));
    return ok;
}

static bool guest_read_dr(struct vcpu *v, unsigned nr, uint64_t *value)
{
    return pv_read_dr(pv_machine(v)->pv, v, nr, value);
}

static bool guest_write_dr(struct vcpu *v, unsigned nr, uint64_t value)
{
    return pv_write_dr(pv_machine(v)->pv, v, nr, value) == 0;
}

static bool guest_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
    return pv_rdmsr(pv_machine(v)->pv, v, index, value);
}

static bool guest_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
    return pv_wrmsr(pv_machine(v)->pv, v, index, value);
}

static bool guest_table_page(struct vcpu *v, uint64_t gva, uint64_t *gpa)
{
    bool ok;

    PV_LOCKED(v, ok = pv_table_page(pv_machine(v)->pv, v, gva, gpa));
    return ok;
}

static enum vcpu_pv_write guest_table_write(struct vcpu *v, uint64_t gpa, unsigned size,
                                            uint64_t *old, uint64_t value)
{
    enum vcpu_pv_write result;

    PV_LOCKED(v, result = pv_table_write(pv_machine(v)->pv, v, gpa, size, old, value));
    return result;
}

static const struct vcpu_pv_ops pv_guest_ops = {
    .trap = guest_trap,
    .software_int = guest_software_int,
    .syscall = guest_syscall,
    .sysenter = guest_sysenter,
    .event = guest_event,
    .flush = guest_flush,
    .descriptor = guest_descriptor,
    .gdt = guest_gdt,
    .entry = guest_entry,
    .io_allowed = guest_io_allowed,
    .read_cr = guest_read_cr,
    .write_cr = guest_write_cr,
    .read_dr = guest_read_dr,
    .write_dr = guest_write_dr,
    .rdmsr = guest_rdmsr,
    .wrmsr = guest_wrmsr,
    .table_page = guest_table_page,
    .table_write = guest_table_write,
};

/* --- the processor's profile ------------------------------------------------------------ */

/* Features of privileged code, which the hypervisor keeps or does not emulate (xen-abi 3.9). */
static const struct {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
} pv_hidden[] = {
    /* DTES64 MONITOR DS-CPL VMX SMX EST TM2 PDCM PCID x2APIC TSC-deadline;
     * VME PSE MTRR PGE PSE36 DS ACPI TM */
    {1, 0, 0, 0, 0x012281fcu, 0x2062300au},
    /* TSC_ADJUST SMEP INVPCID SMAP; UMIP PKU OSPKE WAITPKG LA57; IBT, CET-SS */
    {7, 0, 0, 0x00100482u, 0x000100bcu, 0x00100000u},
    {0xd, 1, 8, 0, 0, 0},                            /* XSAVES */
    /* SVM ExtAPIC; VME PSE MTRR PGE PSE36 1G */
    {0x80000001, 0, 0, 0, 0x0000000cu, 0x0402300au},
    {0x80000007, 0, 0, 0, 0, 0},
};

static void pv_limit_model(struct machine *m)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(pv_hidden); i++) {
        const struct cpuid_leaf *shown =
            cpu_model_get(m->model, pv_hidden[i].leaf, pv_hidden[i].subleaf);
        struct cpuid_leaf leaf;

        if (shown == NULL) {
            continue;
        }
        leaf = *shown;
        leaf.eax &= ~pv_hidden[i].eax;
        leaf.ebx &= ~pv_hidden[i].ebx;
        leaf.ecx &= ~pv_hidden[i].ecx;
        leaf.edx &= ~pv_hidden[i].edx;
        if (leaf.leaf == 1) {
            leaf.ecx |= 1u << 31; /* hypervisor */
        }
        cpu_model_set(m->model, &leaf);
    }
}

static uint64_t pv_cr4_settable(const struct machine *m)
{
    uint64_t bits = CPU_CR4_TSD | CPU_CR4_DE;

    if (cpu_model_has(m->model, INSN_FEAT_FSGSBASE)) {
        bits |= CPU_CR4_FSGSBASE;
    }
    if (cpu_model_has(m->model, INSN_FEAT_XSAVE)) {
        bits |= CPU_CR4_OSXSAVE;
    }
    return bits;
}

/* --- together --------------------------------------------------------------------------- */

bool pv_create(struct machine *m, GError **err)
{
    pv_limit_model(m);
    m->map_len = 1;
    m->map = g_new0(struct pv_memory_range, 1);
    m->map[0] = (struct pv_memory_range){.len = m->config->memory_max_bytes, .type = 1};
    if (!machine_make_domain(m, PV_KIND_PV, err)) {
        return false;
    }
    m->pv->guest->cr4_settable = pv_cr4_settable(m);
    m->pv->guest->engine_entry = m->accel == &kvm_accel_ops ? KVM_PV_L4_ENTRY : 0;
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        m->vcpus[i]->vcpu.board_ops = &pv_board_ops;
        m->vcpus[i]->vcpu.pv = &pv_guest_ops;
    }
    return true;
}

static bool pv_fill_hypercall_page(struct machine *m, const struct pv_layout *layout)
{
    uint8_t page[MEM_PAGE_SIZE];

    if (!layout->has_hypercall_page) {
        return true;
    }
    pv_hypercall_page(page);
    return mem_write(m->board.mem, layout->hypercall_page, page, sizeof(page));
}

static bool pv_start_vcpu(struct machine *m, const struct pv_layout *layout)
{
    struct vcpu *v = &m->vcpus[0]->vcpu;
    struct pv_boot boot = {
        .root_mfn = layout->root_mfn,
        .store_mfn = layout->store_mfn,
        .console_mfn = layout->console_mfn,
        .stack_gva = layout->stack,
    };

    if (!pv_fill_hypercall_page(m, layout) || !pv_guest_boot(m->pv, &boot)) {
        return false;
    }
    v->cpu.rip = layout->entry;
    v->cpu.gpr[CPU_RSP] = layout->stack;
    v->cpu.gpr[CPU_RSI] = layout->start_info;
    return true;
}

bool pv_load(struct machine *m, GError **err)
{
    struct pv_params params = {
        .cmdline = m->cmdline,
        .initrd = m->initrd,
        .initrd_len = m->initrd_len,
        .nr_pages = m->config->memory_bytes >> MEM_PAGE_SHIFT,
        .shared_info = pv_extra_mfn(m->pv, PV_FRAME_SHARED_INFO) << MEM_PAGE_SHIFT,
        .store_port = m->pv->store_port,
        .console_port = m->pv->console_port,
    };
    struct pv_layout layout;

    pv_guest_begin(m->pv, params.nr_pages);
    if (!pv_build(m->image, m->board.mem, &params, &layout, err)) {
        return false;
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        run_reset_vcpu(m->vcpus[i], i > 0);
    }
    if (!pv_start_vcpu(m, &layout)) {
        return error_set(err, PVEMU_ERROR_IMAGE, "'%s' cannot be laid out in memory",
                         m->image->name);
    }
    for (unsigned i = 0; i < m->nr_vcpus; i++) {
        struct vcpu *v = &m->vcpus[i]->vcpu;

        if (v->accel->state_changed != NULL) {
            v->accel->state_changed(v);
        }
    }
    board_clock_start(m);
    return true;
}
