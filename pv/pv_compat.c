/* SPDX-License-Identifier: MIT */
/*
 * Calls of the first PV interface (xen-abi 2.4): their arguments in another order or in one
 * structure. Mini-OS and old kernels make them; the work is done by the calls that replaced
 * them. And what a PV hypercall does differently: it is a SYSCALL.
 */
#include <errno.h>

#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/evtchn.h"
#include "pv/pv_guest.h"
#include "pv/sched.h"
#include "pv/xen_abi.h"

/* sched_op_compat(cmd, arg): yield, block, shutdown with the reason as a number. */
int64_t pv_op_sched_compat(struct hypercall *h)
{
    switch ((uint32_t)h->arg[0]) {
    case SCHEDOP_yield:
    case SCHEDOP_block:
        return sched_op(h);
    case SCHEDOP_shutdown:
        if (h->arg[1] > SHUTDOWN_soft_reset) {
            return -EINVAL;
        }
        pv_sched_set_start_info(h->d, h->arg[2]);
        pv_sched_shutdown(h->d, h->v, (unsigned)h->arg[1]);
        return 0;
    default:
        return -ENOSYS;
    }
}

/*
 * event_channel_op_compat(op) and physdev_op_compat(op): the command, then a union of their
 * structures, all of which must be there.
 */
int64_t pv_op_evtchn_compat(struct hypercall *h)
{
    const uint64_t gva = h->arg[0];
    struct evtchn_op op;

    if (!guest_read(h->v, gva, &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.cmd > EVTCHNOP_unmask) {
        return -ENOSYS; /* later ones are not in the union */
    }
    return evtchn_op(h->d, h->v, op.cmd, gva + offsetof(struct evtchn_op, u));
}

int64_t pv_op_physdev_compat(struct hypercall *h)
{
    const uint64_t gva = h->arg[0];
    struct physdev_op op;

    if (!guest_read(h->v, gva, &op, sizeof(op))) {
        return -EFAULT;
    }
    h->arg[0] = op.cmd;
    h->arg[1] = gva + offsetof(struct physdev_op, u);
    return pv_op_physdev(h);
}

bool pv_rewind(struct hypercall *h)
{
    struct cpu_x86 *cpu = &h->v->cpu;
    static const uint8_t regs[6] = {CPU_RDI, CPU_RSI, CPU_RDX, CPU_R10, CPU_R8, CPU_R9};
    uint8_t insn[2];

    if (!guest_read(h->v, cpu->rip - sizeof(insn), insn, sizeof(insn)) || insn[0] != 0x0f ||
        insn[1] != 0x05) {
        return false;
    }
    cpu->rip -= sizeof(insn);
    for (unsigned i = 0; i < 6; i++) {
        cpu->gpr[regs[i]] = h->arg[i];
    }
    return true; /* RAX still holds the number */
}
