/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_hvm_op (xen/hvm/hvm_op.h, params.h; xen-abi 1.3, 2.4): the parameters with their
 * access rules, the per-vCPU upcall vector, and the few questions a guest may ask about itself.
 */
#include <errno.h>
#include <glib.h>

#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/shared.h"
#include "pv/time.h"
#include "pv/xen_abi.h"

enum { HVM_MIN_VECTOR = 16 };

enum hvm_access { HVM_NONE = 0, HVM_GET = 1, HVM_SET = 2, HVM_BOTH = 3, HVM_GONE = 4 };

/* What the guest itself may do with each parameter; the others are the toolstack's (-EPERM). */
static const uint8_t hvm_param_access[PV_HVM_PARAMS] = {
    [HVM_PARAM_CALLBACK_IRQ] = HVM_BOTH,
    [HVM_PARAM_STORE_PFN] = HVM_GET,
    [HVM_PARAM_STORE_EVTCHN] = HVM_BOTH,
    [HVM_PARAM_VM86_TSS] = HVM_BOTH,
    [HVM_PARAM_CONSOLE_PFN] = HVM_GET,
    [HVM_PARAM_CONSOLE_EVTCHN] = HVM_BOTH,
    [HVM_PARAM_ACPI_IOPORTS_LOCATION] = HVM_BOTH,
    [HVM_PARAM_VM_GENERATION_ID_ADDR] = HVM_BOTH,
    [HVM_PARAM_ALTP2M] = HVM_BOTH, /* setting: -EEXIST, as it was decided at creation */
    [HVM_PARAM_X87_FIP_WIDTH] = HVM_BOTH,
    [HVM_PARAM_VM86_TSS_SIZED] = HVM_BOTH,
    [4] = HVM_GONE,
    [13] = HVM_GONE,
    [20] = HVM_GONE,
    [21] = HVM_GONE,
    [22] = HVM_GONE,
    [23] = HVM_GONE,
    [24] = HVM_GONE,
    [25] = HVM_GONE,
    [26] = HVM_GONE,
    [30] = HVM_GONE,
};

static int64_t hvm_param_check(const struct pv_domain *d, const struct xen_hvm_param *op,
                               enum hvm_access wanted)
{
    int64_t error;

    if (op->index >= PV_HVM_PARAMS) {
        return -EINVAL;
    }
    if (!hypercall_domid_self(d, op->domid, &error)) {
        return error;
    }
    if (hvm_param_access[op->index] == HVM_GONE) {
        return -EINVAL;
    }
    return (hvm_param_access[op->index] & wanted) != 0 ? 0 : -EPERM;
}

static int64_t hvm_set_param(struct hypercall *h)
{
    struct pv_domain *d = h->d;
    struct xen_hvm_param op;
    int64_t rc;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    rc = hvm_param_check(d, &op, HVM_SET);
    if (rc != 0) {
        return rc;
    }
    switch (op.index) {
    case HVM_PARAM_ALTP2M:
        return -EEXIST;
    case HVM_PARAM_X87_FIP_WIDTH:
        if (op.value != 0 && op.value != 4 && op.value != 8) {
            return -EINVAL;
        }
        break;
    case HVM_PARAM_ACPI_IOPORTS_LOCATION:
        if (op.value > 1) {
            return -EINVAL;
        }
        break;
    default:
        break;
    }
    d->hvm_params[op.index] = op.value;
    if (op.index == HVM_PARAM_CALLBACK_IRQ) {
        pv_shared_latch(d, h->v);
        for (unsigned i = 0; i < d->max_vcpus; i++) {
            if (pv_pending_vector(d, i) >= 0) {
                evtchn_inject(d, i);
            }
        }
    }
    return 0;
}

static int64_t hvm_get_param(struct hypercall *h)
{
    struct xen_hvm_param op;
    int64_t rc;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    rc = hvm_param_check(h->d, &op, HVM_GET);
    if (rc != 0) {
        return rc;
    }
    op.value = h->d->hvm_params[op.index];
    return guest_write(h->v, h->arg[1], &op, sizeof(op)) ? 0 : -EFAULT;
}

int pv_pending_vector(struct pv_domain *d, unsigned vcpu)
{
    const uint64_t via = d->hvm_params[HVM_PARAM_CALLBACK_IRQ];

    if (d->kind == PV_KIND_PV || via >> 56 != HVM_PARAM_CALLBACK_TYPE_VECTOR ||
        (via & 0xff) < HVM_MIN_VECTOR || d->vcpu[vcpu].upcall_vector != 0) {
        return -1;
    }
    return evtchn_upcall_pending(d, vcpu) ? (int)(via & 0xff) : -1;
}

static int64_t hvm_set_upcall_vector(struct hypercall *h)
{
    struct xen_hvm_evtchn_upcall_vector op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.vector < HVM_MIN_VECTOR) {
        return -EINVAL;
    }
    if (op.vcpu >= h->d->max_vcpus) {
        return -ENOENT;
    }
    h->d->vcpu[op.vcpu].upcall_vector = op.vector;
    evtchn_inject(h->d, op.vcpu); /* what came in before is not lost */
    return 0;
}

static int64_t hvm_flush_tlbs(struct hypercall *h)
{
    if (h->arg[1] != 0) {
        return -EINVAL;
    }
    pv_request_all(h->d, VCPU_REQ_TLB_FLUSH);
    return 0;
}

static int64_t hvm_get_mem_type(struct hypercall *h)
{
    struct xen_hvm_get_mem_type op;
    int64_t error;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (!hypercall_domid_self(h->d, op.domid, &error)) {
        return error;
    }
    op.mem_type = mem_gfn_frame(h->d->mem, op.pfn) == MEM_HOLE ? HVMMEM_mmio_dm : HVMMEM_ram_rw;
    return guest_write(h->v, h->arg[1], &op, sizeof(op)) ? 0 : -EFAULT;
}

static int64_t hvm_get_time(struct hypercall *h)
{
    struct xen_hvm_get_time op = {.now = pv_time_now(h->d)};

    return guest_write(h->v, h->arg[1], &op, sizeof(op)) ? 0 : -EFAULT;
}

int64_t hvm_op(struct hypercall *h)
{
    switch ((uint32_t)h->arg[0]) {
    case HVMOP_set_param:
        return hvm_set_param(h);
    case HVMOP_get_param:
        return hvm_get_param(h);
    case HVMOP_set_evtchn_upcall_vector:
        return hvm_set_upcall_vector(h);
    case HVMOP_flush_tlbs:
        return hvm_flush_tlbs(h);
    case HVMOP_get_mem_type:
        return hvm_get_mem_type(h);
    case HVMOP_get_time:
        return hvm_get_time(h);
    case HVMOP_pagetable_dying:
        return -EINVAL; /* nested paging needs no such hints */
    case HVMOP_guest_request_vm_event:
        return h->arg[1] == 0 ? 0 : -EINVAL; /* nobody monitors */
    case 2: /* set_pci_intx_level, set_isa_irq_level, set_pci_link_route: device models' */
    case 3:
    case 4:
        return -EPERM;
    case HVMOP_altp2m:
        return -EOPNOTSUPP;
    default:
        return -ENOSYS;
    }
}
