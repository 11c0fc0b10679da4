/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_vcpu_op (xen/vcpu.h; xen-abi 2.4): memory areas, timers, and bringing vCPUs up the
 * Xen way. Linux starts the other vCPUs of a PVH guest by INIT-SIPI-SIPI; VCPUOP_initialise and
 * VCPUOP_up (hvm/hvm_vcpu.h) are for guests that prefer them and need board_ops.vcpu_start.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/sched.h"
#include "pv/time.h"
#include "pv/xen_abi.h"

enum { VCPU_MIN_PERIOD_NS = 1000000 };

/* What a vCPU may be started with; features that depend on the CPU model it turns on itself. */
#define VCPU_CR0_OK                                                                            \
    (CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS | CPU_CR0_ET | CPU_CR0_NE |             \
     CPU_CR0_WP | CPU_CR0_AM | CPU_CR0_PG)
#define VCPU_CR4_OK                                                                            \
    (CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_MCE | CPU_CR4_PGE |        \
     CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT)

/* --- Memory areas ----------------------------------------------------------------------- */

/* All of it in the page, aligned as in the layout that the guest has. */
static bool vcpu_info_fits(const struct pv_domain *d, uint32_t offset)
{
    const size_t align =
        d->shared_32bit ? _Alignof(struct vcpu_info_x86_32) : _Alignof(struct vcpu_info);

    return offset <= MEM_PAGE_SIZE - sizeof(struct vcpu_info) && offset % align == 0;
}

static int64_t vcpu_register_info(struct hypercall *h, unsigned id)
{
    struct pv_domain *d = h->d;
    struct pv_vcpu *pv = &d->vcpu[id];
    struct vcpu_register_vcpu_info op;
    uint32_t frame;

    if (!guest_read(h->v, h->arg[2], &op, sizeof(op))) {
        return -EFAULT;
    }
    /* Once, and not for another one that may be using the old place now. */
    if (!vcpu_info_fits(d, op.offset) || pv->vcpu_info_frame != MEM_HOLE ||
        (id != h->v->id && pv->up) || pv_frame_get(d, op.mfn, true, &frame) != 0) {
        return -EINVAL;
    }
    memcpy((uint8_t *)mem_frame_hva(d->mem, frame) + op.offset, pv_vcpu_info_32(d, id),
           sizeof(struct vcpu_info));
    pv->vcpu_info_frame = frame;
    pv->vcpu_info_offset = (uint16_t)op.offset;
    evtchn_mark_all(d, id);
    pv_time_write_vcpu(d, id);
    return 0;
}

/* The address union of the register calls: one 64-bit field, or a 32-bit handle. false: it cannot
 * be read, or the address is not a PV guest's, whatever is mapped there. */
static bool vcpu_read_address(struct hypercall *h, uint64_t *gva)
{
    *gva = 0;
    return guest_read(h->v, h->arg[2], gva, h->compat ? sizeof(uint32_t) : sizeof(*gva)) &&
           (h->d->guest == NULL || pv_guest_address(*gva));
}

static int64_t vcpu_register_runstate(struct hypercall *h, unsigned id)
{
    uint64_t gva;

    if (!vcpu_read_address(h, &gva)) {
        return -EFAULT;
    }
    h->d->vcpu[id].runstate_gva = gva;
    h->d->vcpu[id].runstate_32bit = h->compat;
    if (id == h->v->id) {
        pv_time_write_runstate(h->d, id);
    } else if (gva != 0) {
        struct vcpu_runstate_info info;

        pv_time_get_runstate(h->d, id, &info);
        pv_time_put_runstate(h->d, h->v, gva, h->compat, &info);
    }
    return 0;
}

static int64_t vcpu_get_runstate(struct hypercall *h, unsigned id)
{
    struct vcpu_runstate_info info;

    pv_time_get_runstate(h->d, id, &info);
    return pv_time_put_runstate(h->d, h->v, h->arg[2], h->compat, &info) ? 0 : -EFAULT;
}

static int64_t vcpu_register_time(struct hypercall *h, unsigned id)
{
    uint64_t gva;

    if (!vcpu_read_address(h, &gva)) {
        return -EFAULT;
    }
    h->d->vcpu[id].time_gva = gva;
    /* Another vCPU's copy is written when that vCPU's time is updated next. */
    if (id == h->v->id && !pv_time_write_area(h->d, id)) {
        h->d->vcpu[id].time_gva = 0;
        return -EFAULT;
    }
    return 0;
}

/* --- Timers ----------------------------------------------------------------------------- */

static int64_t vcpu_set_periodic(struct hypercall *h, unsigned id)
{
    struct vcpu_set_periodic_timer op;

    if (!guest_read(h->v, h->arg[2], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.period_ns < VCPU_MIN_PERIOD_NS || op.period_ns > INT64_MAX) {
        return -EINVAL;
    }
    pv_time_set_periodic(h->d, id, op.period_ns);
    return 0;
}

static int64_t vcpu_set_singleshot(struct hypercall *h, unsigned id)
{
    struct vcpu_set_singleshot_timer op;

    if (id != h->v->id) {
        return -EINVAL;
    }
    /* 12 bytes in 32-bit mode; the tail is padding. */
    if (!guest_read(h->v, h->arg[2], &op,
                    offsetof(struct vcpu_set_singleshot_timer, flags) + 4)) {
        return -EFAULT;
    }
    if ((op.flags & VCPU_SSHOTTMR_future) != 0 && op.timeout_abs_ns < pv_time_now(h->d)) {
        return -ETIME;
    }
    /* 0 is a time that has passed, not "stop". */
    pv_time_set_singleshot(h->d, id, MAX(op.timeout_abs_ns, 1u));
    return 0;
}

/* --- Up and down ------------------------------------------------------------------------ */

static void vcpu_segment(struct cpu_segment *seg, uint64_t base, uint32_t limit, uint16_t attr)
{
    *seg = (struct cpu_segment){.attr = attr, .limit = limit, .base = base};
    if ((attr & CPU_SEG_G) != 0) {
        seg->limit = limit << 12 | 0xfff;
    }
    seg->unusable = (attr & CPU_SEG_P) == 0;
}

/* Present code or data of the expected kind; attr in the layout of hvm_vcpu.h. */
static bool vcpu_segment_ok(uint16_t ar, bool code)
{
    if ((ar & 0xf000) != 0) {
        return false;
    }
    return (ar & 0x80) != 0 && (ar & 0x10) != 0 && ((ar & 8) != 0) == code;
}

/* hvm_vcpu.h keeps AVL, L, D/B, G in bits 8..11; cpu_segment has them in 12..15. */
static uint16_t vcpu_segment_attr(uint16_t ar)
{
    return (uint16_t)((ar & 0xff) | (ar & 0xf00) << 4);
}

static bool vcpu_context_32(struct cpu_x86 *cpu, const struct vcpu_hvm_x86_32 *r)
{
    const uint32_t gpr[8] = {r->eax, r->ecx, r->edx, r->ebx, r->esp, r->ebp, r->esi, r->edi};
    const bool paging = (r->cr0 & CPU_CR0_PG) != 0;

    if ((r->cr0 & ~VCPU_CR0_OK) != 0 || (r->cr4 & ~VCPU_CR4_OK) != 0 ||
        (paging && (r->efer & CPU_EFER_LME) != 0 && (r->cr4 & CPU_CR4_PAE) == 0)) {
        return false;
    }
    if (!vcpu_segment_ok(r->cs_ar, true) || !vcpu_segment_ok(r->ds_ar, false) ||
        !vcpu_segment_ok(r->ss_ar, false) || !vcpu_segment_ok(r->es_ar, false) ||
        (r->tr_ar & 0xf000) != 0 || (r->cs_ar & 0x200) != 0 || (r->ss_ar >> 5 & 3) != 0 ||
        (r->cs_ar >> 5 & 3) != 0 || (r->cr0 & CPU_CR0_PE) == 0 || (r->eflags & CPU_VM) != 0 ||
        (r->efer & ~(uint64_t)(CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE | CPU_EFER_SCE)) !=
            0) {
        return false;
    }
    for (unsigned i = 0; i < 8; i++) {
        cpu->gpr[i] = gpr[i];
    }
    cpu->rip = r->eip;
    cpu->rflags = (r->eflags & 0x3f7fd5) | 2;
    cpu->cr0 = r->cr0 | CPU_CR0_ET;
    cpu->cr3 = r->cr3;
    cpu->cr4 = r->cr4;
    cpu->efer = r->efer & ~(uint64_t)CPU_EFER_LMA;
    if (paging && (cpu->efer & CPU_EFER_LME) != 0) {
        cpu->efer |= CPU_EFER_LMA;
    }
    vcpu_segment(&cpu->seg[CPU_CS], r->cs_base, r->cs_limit, vcpu_segment_attr(r->cs_ar));
    vcpu_segment(&cpu->seg[CPU_DS], r->ds_base, r->ds_limit, vcpu_segment_attr(r->ds_ar));
    vcpu_segment(&cpu->seg[CPU_SS], r->ss_base, r->ss_limit, vcpu_segment_attr(r->ss_ar));
    vcpu_segment(&cpu->seg[CPU_ES], r->es_base, r->es_limit, vcpu_segment_attr(r->es_ar));
    vcpu_segment(&cpu->tr, r->tr_base, r->tr_limit, vcpu_segment_attr(r->tr_ar));
    return true;
}

static bool vcpu_context_64(struct cpu_x86 *cpu, const struct vcpu_hvm_x86_64 *r)
{
    const uint64_t gpr[8] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi};
    const uint64_t need = CPU_EFER_LME | CPU_EFER_LMA;
    const uint16_t flat = CPU_SEG_P | CPU_SEG_S | CPU_SEG_G;

    if ((r->cr0 & (CPU_CR0_PE | CPU_CR0_PG)) != (CPU_CR0_PE | CPU_CR0_PG) ||
        (r->cr0 & ~(uint64_t)VCPU_CR0_OK) != 0 || (r->cr4 & CPU_CR4_PAE) == 0 ||
        (r->cr4 & ~(uint64_t)VCPU_CR4_OK) != 0 || (r->efer & need) != need ||
        (r->rflags & CPU_VM) != 0 || (r->efer & ~(need | CPU_EFER_NXE | CPU_EFER_SCE)) != 0 ||
        (uint64_t)((int64_t)(r->rip << 16) >> 16) != r->rip) {
        return false;
    }
    memcpy(cpu->gpr, gpr, sizeof(gpr));
    cpu->rip = r->rip;
    cpu->rflags = (r->rflags & 0x3f7fd5) | 2;
    cpu->cr0 = r->cr0 | CPU_CR0_ET;
    cpu->cr3 = r->cr3 & 0xffffffffff000ull;
    cpu->cr4 = r->cr4;
    cpu->efer = r->efer;
    vcpu_segment(&cpu->seg[CPU_CS], 0, 0xfffff, (uint16_t)(flat | CPU_SEG_L | 0xb));
    vcpu_segment(&cpu->seg[CPU_DS], 0, 0xfffff, (uint16_t)(flat | CPU_SEG_DB | 3));
    cpu->seg[CPU_SS] = cpu->seg[CPU_ES] = cpu->seg[CPU_DS];
    vcpu_segment(&cpu->tr, 0, 0x67, CPU_SEG_P | 0xb);
    return true;
}

static int64_t vcpu_up(struct hypercall *h, unsigned id);

static int64_t vcpu_initialise_pv(struct hypercall *h, unsigned id)
{
    bool online = false;
    int64_t rc = pv_op_initialise(h, id, &online);

    return rc == 0 && online ? vcpu_up(h, id) : rc;
}

static int64_t vcpu_initialise(struct hypercall *h, unsigned id)
{
    struct pv_domain *d = h->d;
    struct pv_vcpu *pv = &d->vcpu[id];
    struct vcpu *v = pv_vcpu_cpu(d, id);
    struct vcpu_hvm_context op;
    struct cpu_x86 *cpu;
    int64_t rc = -EINVAL;

    if (d->guest != NULL) {
        return vcpu_initialise_pv(h, id);
    }
    if (d->board->ops->vcpu_start == NULL) {
        return -EOPNOTSUPP;
    }
    if (v == NULL) {
        return -ENOENT;
    }
    if (pv->initialised || pv->up) {
        return -EEXIST;
    }
    if (!guest_read(h->v, h->arg[2], &op, sizeof(op))) {
        return -EFAULT;
    }
    cpu = g_aligned_alloc0(1, sizeof(*cpu), _Alignof(struct cpu_x86));
    cpu_reset(cpu);
    cpu->apic_base = v->cpu.apic_base;
    cpu->tsc_offset = v->cpu.tsc_offset;
    cpu->tsc_adjust = v->cpu.tsc_adjust;
    if ((op.mode == VCPU_HVM_MODE_32B && vcpu_context_32(cpu, &op.cpu_regs.x86_32)) ||
        (op.mode == VCPU_HVM_MODE_64B && vcpu_context_64(cpu, &op.cpu_regs.x86_64))) {
        v->cpu = *cpu; /* off: its thread leaves the state alone */
        v->cpu.halted = true;
        pv->initialised = true;
        rc = 0;
    }
    g_aligned_free(cpu);
    return rc;
}

static int64_t vcpu_up(struct hypercall *h, unsigned id)
{
    struct pv_domain *d = h->d;
    struct pv_vcpu *pv = &d->vcpu[id];

    if (!pv->initialised && id != 0) {
        return -EINVAL;
    }
    if (pv->up) {
        return 0;
    }
    pv->up = true;
    if (d->guest != NULL && pv_vcpu_cpu(d, id) != NULL) {
        pv_guest_up(d, pv_vcpu_cpu(d, id));
    }
    if (pv->held) {
        pv->held = false;
        d->board->ops->vcpu_request(d->board, id, VCPU_REQ_IRQ);
    } else if (pv->sleep == PV_SLEEP_DOWN) {
        pv_sched_up(d, id);
    } else if (d->board->ops->vcpu_start != NULL) {
        d->board->ops->vcpu_start(d->board, id);
    }
    return 0;
}

static int64_t vcpu_down(struct hypercall *h, unsigned id)
{
    struct pv_domain *d = h->d;
    unsigned nr_up = 0;

    for (unsigned i = 0; i < d->max_vcpus; i++) {
        nr_up += d->vcpu[i].up;
    }
    if (!d->vcpu[id].up) {
        return 0;
    }
    if (nr_up == 1) {
        pv_sched_shutdown(d, h->v,
                          SHUTDOWN_poweroff); /* nobody is left who could bring it up */
        return 0;
    }
    d->vcpu[id].up = false;
    d->vcpu[id].initialised = true;
    if (id == h->v->id) {
        pv_sched_sleep(d, h->v, PV_SLEEP_DOWN);
    } else { /* it stops soon, wherever it is: Linux does it to those that wait for a resume */
        d->vcpu[id].held = true;
        d->board->ops->vcpu_request(d->board, id, VCPU_REQ_STOP);
    }
    return 0;
}

static int64_t vcpu_send_nmi(struct hypercall *h, unsigned id)
{
    if (h->arg[2] != 0) {
        return -EINVAL;
    }
    h->d->board->ops->vcpu_request(h->d->board, id, VCPU_REQ_NMI);
    return 0;
}

/* The answer depends on what another vCPU does: the next one will be right. */
static void vcpu_look(struct hypercall *h, uint32_t cmd, unsigned id)
{
    const struct board_ops *ops = h->d->board->ops;

    if ((cmd == VCPUOP_is_up || cmd == VCPUOP_up || cmd == VCPUOP_get_runstate_info) &&
        id != h->v->id && ops->vcpu_look != NULL) {
        ops->vcpu_look(h->d->board, id);
    }
}

int64_t vcpu_op(struct hypercall *h)
{
    const uint32_t cmd = (uint32_t)h->arg[0];
    const uint32_t id = (uint32_t)h->arg[1];

    if (id >= h->d->max_vcpus) {
        return -ENOENT;
    }
    vcpu_look(h, cmd, id);
    switch (cmd) {
    case VCPUOP_initialise:
        return vcpu_initialise(h, id);
    case VCPUOP_up:
        return vcpu_up(h, id);
    case VCPUOP_down:
        return vcpu_down(h, id);
    case VCPUOP_is_up:
        return h->d->vcpu[id].up;
    case VCPUOP_get_runstate_info:
        return vcpu_get_runstate(h, id);
    case VCPUOP_register_runstate_memory_area:
        return vcpu_register_runstate(h, id);
    case VCPUOP_set_periodic_timer:
        return vcpu_set_periodic(h, id);
    case VCPUOP_stop_periodic_timer:
        pv_time_set_periodic(h->d, id, 0);
        return 0;
    case VCPUOP_set_singleshot_timer:
        return vcpu_set_singleshot(h, id);
    case VCPUOP_stop_singleshot_timer:
        if (id != h->v->id) {
            return -EINVAL;
        }
        pv_time_set_singleshot(h->d, id, 0);
        return 0;
    case VCPUOP_register_vcpu_info:
        return vcpu_register_info(h, id);
    case VCPUOP_send_nmi:
        return vcpu_send_nmi(h, id);
    case VCPUOP_get_physid:
        return -EINVAL; /* only for pinned vCPUs */
    case VCPUOP_register_vcpu_time_memory_area:
        return vcpu_register_time(h, id);
    default:
        return -ENOSYS; /* the areas by physical address (14, 15) came after 4.17 */
    }
}
