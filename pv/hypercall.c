/* SPDX-License-Identifier: MIT */
/*
 * The hypercall table (xen/xen.h; xen-abi 2.1): numbers, conventions, privilege, multicall, and
 * the calls that are one line long.
 *
 * Callers in 32-bit code (CS.L clear) have structures of their own where pointers or longs are
 * in them; the handlers convert those. The layout of shared info is another matter: shared.h.
 */
#include "pv/hypercall.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "pv/domain.h"
#include "pv/evtchn.h"
#include "pv/gnttab.h"
#include "pv/guest_access.h"
#include "pv/pv_guest.h"
#include "pv/shared.h"
#include "pv/xen_abi.h"

enum {
    HYPERCALL_INSN_SIZE = 3, /* VMCALL and VMMCALL */
    HYPERCALL_OUT = 0xe6,    /* OUT imm8, AL: where an engine cannot catch those */
    HYPERCALL_OUT_SIZE = 2,
    HYPERCALL_ROUNDS = 64,   /* budgets spent at once where the call cannot be re-executed */
    CONSOLE_CHUNK = 256,     /* bytes copied at once */
    CONSOLE_UNIT = 4,        /* work units for a chunk: the sink may be slow */
    HYPERCALL_PAGE_STUBS = 128,
    HYPERCALL_STUB_SIZE = 32,
};

bool hypercall_domid_self(const struct pv_domain *d, uint16_t domid, int64_t *error)
{
    if (domid == DOMID_SELF || domid == d->domid) {
        return true;
    }
    *error = domid == 0 ? -EPERM : -ESRCH; /* domain 0 is the only other one */
    return false;
}

/* --- Small calls ------------------------------------------------------------------------ */

static int64_t hypercall_denied(struct hypercall *h)
{
    return -EPERM;
}

static int64_t hypercall_unsupported(struct hypercall *h)
{
    return -EOPNOTSUPP;
}

static int64_t hypercall_evtchn(struct hypercall *h)
{
    return evtchn_op(h->d, h->v, (uint32_t)h->arg[0], h->arg[1]);
}

static int64_t console_io(struct hypercall *h)
{
    char chunk[CONSOLE_CHUNK];

    if ((uint32_t)h->arg[0] == CONSOLEIO_read) {
        return 0;
    }
    if ((uint32_t)h->arg[0] != CONSOLEIO_write) {
        return -ENOSYS;
    }
    for (uint32_t left = (uint32_t)h->arg[1]; left > 0;) {
        size_t n = MIN(left, sizeof(chunk));

        if (!hypercall_spend(h, CONSOLE_UNIT)) {
            h->again = true;
            return 0;
        }
        if (!guest_read(h->v, h->arg[2], chunk, n)) {
            return -EFAULT;
        }
        if (h->d->debug_out != NULL) {
            h->d->debug_out(h->d->debug_opaque, chunk, n);
        }
        left -= (uint32_t)n;
        h->arg[1] = left;
        h->arg[2] += n;
    }
    return 0;
}

static int64_t vm_assist(struct hypercall *h)
{
    /* Translated guests have only this one; PV ones manage segments and page tables too. */
    const uint64_t valid =
        h->d->kind != PV_KIND_PV
            ? 1ull << VMASST_TYPE_runstate_update_flag
            : 1ull << VMASST_TYPE_4gb_segments | 1ull << VMASST_TYPE_4gb_segments_notify |
                  1ull << VMASST_TYPE_writable_pagetables | 1ull << VMASST_TYPE_pae_extended_cr3 |
                  1ull << VMASST_TYPE_architectural_iopl |
                  1ull << VMASST_TYPE_runstate_update_flag | 1ull << VMASST_TYPE_m2p_strict;
    const uint32_t type = (uint32_t)h->arg[1];

    if (type >= 64 || (valid >> type & 1) == 0) {
        return -EINVAL;
    }
    switch ((uint32_t)h->arg[0]) {
    case VMASST_CMD_enable:
        h->d->vm_assist |= 1ull << type;
        return 0;
    case VMASST_CMD_disable:
        h->d->vm_assist &= ~(1ull << type);
        return 0;
    default:
        return -ENOSYS;
    }
}

static int64_t physdev_op(struct hypercall *h)
{
    if (h->d->guest != NULL) {
        return pv_op_physdev(h);
    }
    return -ENOSYS; /* translated guests have no physical interrupts */
}

static int64_t mmuext_op(struct hypercall *h)
{
    if (h->d->guest != NULL) {
        return pv_op_mmuext(h);
    }
    /* A translated guest owns its page tables: there is nothing to ask. */
    return (uint32_t)h->arg[1] == 0 ? 0 : -EOPNOTSUPP;
}

/* --- Multicall -------------------------------------------------------------------------- */

/* struct multicall_entry as 32-bit code has it. */
struct multicall_entry_32 {
    uint32_t op, result, args[6];
};

static size_t multicall_entry_size(const struct hypercall *h)
{
    return h->compat ? sizeof(struct multicall_entry_32) : sizeof(struct multicall_entry);
}

static bool multicall_read(struct hypercall *h, struct multicall_entry *entry)
{
    struct multicall_entry_32 entry32;

    if (!h->compat) {
        return guest_read(h->v, h->arg[0], entry, sizeof(*entry));
    }
    if (!guest_read(h->v, h->arg[0], &entry32, sizeof(entry32))) {
        return false;
    }
    entry->op = entry32.op;
    for (unsigned i = 0; i < 6; i++) {
        entry->args[i] = entry32.args[i];
    }
    return true;
}

static bool multicall_write(struct hypercall *h, const struct multicall_entry *entry)
{
    struct multicall_entry_32 entry32 = {(uint32_t)entry->op, (uint32_t)entry->result, {0}};

    if (!h->compat) {
        return guest_write(h->v, h->arg[0], entry, sizeof(*entry));
    }
    for (unsigned i = 0; i < 6; i++) {
        entry32.args[i] = (uint32_t)entry->args[i];
    }
    return guest_write(h->v, h->arg[0], &entry32, sizeof(entry32));
}

static int64_t multicall(struct hypercall *h)
{
    while ((uint32_t)h->arg[1] > 0) {
        struct multicall_entry entry;
        struct hypercall sub = {
            .d = h->d, .v = h->v, .compat = h->compat, .nested = true};

        if (!hypercall_spend(h, 1)) {
            h->again = true;
            return 0;
        }
        if (!multicall_read(h, &entry)) {
            return -EFAULT;
        }
        sub.nr = entry.op > UINT32_MAX ? UINT32_MAX : (uint32_t)entry.op;
        for (unsigned i = 0; i < 6; i++) {
            sub.arg[i] = entry.args[i];
        }
        sub.work = h->work;
        entry.result = (xen_ulong_t)hypercall_dispatch(&sub);
        h->work = sub.work;
        if (sub.no_result) { /* iret: where it leads nothing is known of the list */
            h->no_result = true;
            return 0;
        }
        if (sub.again) {
            /* The entry goes on where it stopped when the list is executed again. */
            for (unsigned i = 0; i < 6; i++) {
                entry.args[i] = sub.arg[i];
            }
            h->again = true;
        }
        if (!multicall_write(h, &entry)) {
            h->again = false;
            return -EFAULT;
        }
        if (h->again) {
            return 0;
        }
        h->arg[0] += multicall_entry_size(h);
        h->arg[1]--;
        if (h->v->cpu.halted) {
            /* It sleeps (block, poll, shutdown): the rest of the list when it runs again. */
            h->again = (uint32_t)h->arg[1] > 0;
            return 0;
        }
    }
    return 0;
}

/* --- The table -------------------------------------------------------------------------- */

enum hypercall_flags {
    FOR_HVM = 1, /* PVH and PVHVM */
    FOR_PV = 2,
    FOR_ALL = 3,
    NOT_NESTED = 4, /* not from a multicall */
};

struct hypercall_entry {
    const char *name;
    hypercall_fn fn; /* NULL: -ENOSYS */
    unsigned flags;
};

static const struct hypercall_entry hypercall_table[] = {
    [__HYPERVISOR_set_trap_table] = {"set_trap_table", pv_op_set_trap_table, FOR_PV},
    [__HYPERVISOR_mmu_update] = {"mmu_update", pv_op_mmu_update, FOR_PV},
    [__HYPERVISOR_set_gdt] = {"set_gdt", pv_op_set_gdt, FOR_PV},
    [__HYPERVISOR_stack_switch] = {"stack_switch", pv_op_stack_switch, FOR_PV},
    [__HYPERVISOR_set_callbacks] = {"set_callbacks", pv_op_set_callbacks, FOR_PV},
    [__HYPERVISOR_fpu_taskswitch] = {"fpu_taskswitch", pv_op_fpu_taskswitch, FOR_PV},
    [__HYPERVISOR_sched_op_compat] = {"sched_op_compat", pv_op_sched_compat, FOR_PV},
    [__HYPERVISOR_platform_op] = {"platform_op", hypercall_denied, FOR_ALL},
    [__HYPERVISOR_set_debugreg] = {"set_debugreg", pv_op_set_debugreg, FOR_PV},
    [__HYPERVISOR_get_debugreg] = {"get_debugreg", pv_op_get_debugreg, FOR_PV},
    [__HYPERVISOR_update_descriptor] = {"update_descriptor", pv_op_update_descriptor, FOR_PV},
    [__HYPERVISOR_memory_op] = {"memory_op", memory_op, FOR_ALL},
    [__HYPERVISOR_multicall] = {"multicall", multicall, FOR_ALL | NOT_NESTED},
    [__HYPERVISOR_update_va_mapping] = {"update_va_mapping", pv_op_update_va_mapping, FOR_PV},
    [__HYPERVISOR_set_timer_op] = {"set_timer_op", set_timer_op, FOR_ALL},
    [__HYPERVISOR_event_channel_op_compat] = {"event_channel_op_compat", pv_op_evtchn_compat,
                                              FOR_PV},
    [__HYPERVISOR_xen_version] = {"xen_version", version_op, FOR_ALL},
    [__HYPERVISOR_console_io] = {"console_io", console_io, FOR_ALL},
    [__HYPERVISOR_physdev_op_compat] = {"physdev_op_compat", pv_op_physdev_compat, FOR_PV},
    [__HYPERVISOR_grant_table_op] = {"grant_table_op", gnttab_op, FOR_ALL},
    [__HYPERVISOR_vm_assist] = {"vm_assist", vm_assist, FOR_ALL},
    [__HYPERVISOR_update_va_mapping_otherdomain] = {"update_va_mapping_otherdomain",
                                                    pv_op_update_va_mapping_otherdomain,
                                                    FOR_PV},
    [__HYPERVISOR_iret] = {"iret", pv_op_iret, FOR_PV},
    [__HYPERVISOR_vcpu_op] = {"vcpu_op", vcpu_op, FOR_ALL},
    [__HYPERVISOR_set_segment_base] = {"set_segment_base", pv_op_set_segment_base, FOR_PV},
    [__HYPERVISOR_mmuext_op] = {"mmuext_op", mmuext_op, FOR_ALL},
    [__HYPERVISOR_xsm_op] = {"xsm_op", NULL, FOR_ALL},
    [__HYPERVISOR_nmi_op] = {"nmi_op", pv_op_nmi, FOR_PV},
    [__HYPERVISOR_sched_op] = {"sched_op", sched_op, FOR_ALL},
    [__HYPERVISOR_callback_op] = {"callback_op", pv_op_callback, FOR_PV},
    [__HYPERVISOR_xenoprof_op] = {"xenoprof_op", NULL, FOR_PV},
    [__HYPERVISOR_event_channel_op] = {"event_channel_op", hypercall_evtchn,
                                       FOR_ALL},
    [__HYPERVISOR_physdev_op] = {"physdev_op", physdev_op, FOR_ALL},
    [__HYPERVISOR_hvm_op] = {"hvm_op", hvm_op, FOR_HVM},
    [__HYPERVISOR_sysctl] = {"sysctl", hypercall_denied, FOR_ALL},
    [__HYPERVISOR_domctl] = {"domctl", hypercall_denied, FOR_ALL},
    [__HYPERVISOR_kexec_op] = {"kexec_op", hypercall_denied, FOR_PV},
    [__HYPERVISOR_tmem_op] = {"tmem_op", NULL, FOR_PV},
    [__HYPERVISOR_argo_op] = {"argo_op", hypercall_unsupported, FOR_ALL},
    [__HYPERVISOR_xenpmu_op] = {"xenpmu_op", NULL, FOR_ALL},
    [__HYPERVISOR_dm_op] = {"dm_op", hypercall_denied, FOR_ALL},
    [__HYPERVISOR_hypfs_op] = {"hypfs_op", hypercall_denied, FOR_ALL},
    [__HYPERVISOR_arch_0] = {"mca", NULL, FOR_PV},
};

int64_t hypercall_dispatch(struct hypercall *h)
{
    const struct hypercall_entry *e =
        h->nr < G_N_ELEMENTS(hypercall_table) ? &hypercall_table[h->nr] : NULL;
    const unsigned kind = h->d->kind == PV_KIND_PV ? FOR_PV : FOR_HVM;

    if (e == NULL || e->fn == NULL || (e->flags & kind) == 0 ||
        (h->compat && kind == FOR_PV)) { /* there are no 32-bit PV guests */
        return -ENOSYS;
    }
    if (h->nested && (e->flags & NOT_NESTED) != 0) {
        return -EINVAL;
    }
    return e->fn(h);
}

/* --- Registers -------------------------------------------------------------------------- */

static const uint8_t hypercall_regs64[6] = {CPU_RDI, CPU_RSI, CPU_RDX, CPU_R10, CPU_R8, CPU_R9};
static const uint8_t hypercall_regs32[6] = {CPU_RBX, CPU_RCX, CPU_RDX,
                                            CPU_RSI, CPU_RDI, CPU_RBP};

static void hypercall_fetch(struct hypercall *h)
{
    const struct cpu_x86 *cpu = &h->v->cpu;

    h->compat = !cpu_is_code64(cpu);
    h->nr = (uint32_t)cpu->gpr[CPU_RAX];
    for (unsigned i = 0; i < 6; i++) {
        h->arg[i] =
            h->compat ? (uint32_t)cpu->gpr[hypercall_regs32[i]] : cpu->gpr[hypercall_regs64[i]];
    }
}

/* Bytes of the hypercall instruction before rip; 0: there is none. */
static unsigned hypercall_insn_size(const struct hypercall *h)
{
    const struct cpu_x86 *cpu = &h->v->cpu;
    uint64_t base = h->compat ? cpu->seg[CPU_CS].base : 0;
    uint64_t rip = cpu->rip - HYPERCALL_INSN_SIZE;
    uint64_t at = h->compat ? (uint32_t)(base + rip) : rip;
    uint8_t insn[HYPERCALL_INSN_SIZE];

    if (!guest_read(h->v, at, insn, sizeof(insn))) {
        return 0;
    }
    if (insn[0] == 0x0f && insn[1] == 0x01 && (insn[2] == 0xc1 || insn[2] == 0xd9)) {
        return HYPERCALL_INSN_SIZE;
    }
    return insn[1] == HYPERCALL_OUT && insn[2] == VCPU_HYPERCALL_PORT ? HYPERCALL_OUT_SIZE : 0;
}

/* Has the guest execute the instruction again with the changed arguments. false: rip is not
 * after one that is known, so it cannot. */
static bool hypercall_rewind(struct hypercall *h)
{
    struct cpu_x86 *cpu = &h->v->cpu;
    unsigned size = hypercall_insn_size(h);

    if (size == 0) {
        return false;
    }
    cpu->rip = h->compat ? (uint32_t)(cpu->rip - size) : cpu->rip - size;
    for (unsigned i = 0; i < 6; i++) {
        cpu->gpr[h->compat ? hypercall_regs32[i] : hypercall_regs64[i]] = h->arg[i];
    }
    return true; /* RAX still holds the number */
}

static void hypercall_trace(const struct hypercall *h, const uint64_t *arg, int64_t rc)
{
    const char *name =
        h->nr < G_N_ELEMENTS(hypercall_table) ? hypercall_table[h->nr].name : NULL;

    log_debug(LOG_HYPERCALL,
              "vcpu %u: %s(%u) 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " = %" PRId64 "%s",
              h->v->id, name != NULL ? name : "?", h->nr, arg[0], arg[1], arg[2], rc,
              h->again ? " (again)" : "");
}

void pv_hypercall(struct pv_domain *d, struct vcpu *v)
{
    struct hypercall h = {.d = d, .v = v};
    uint64_t arg[6];
    int64_t rc;

    if (!d->vcpu[v->id].held) { /* or VCPUOP_down came before this */
        d->vcpu[v->id].up = true; /* whoever started it: it runs */
    }
    hypercall_fetch(&h);
    memcpy(arg, h.arg, sizeof(arg));
    if (d->kind != PV_KIND_PV && v->cpu.cpl != 0) {
        rc = -EPERM;
    } else {
        rc = hypercall_dispatch(&h);
        for (unsigned round = 1; h.again && round < HYPERCALL_ROUNDS; round++) {
            if (d->guest != NULL ? pv_rewind(&h) : hypercall_rewind(&h)) {
                hypercall_trace(&h, arg, rc);
                return;
            }
            if (v->cpu.halted) {
                break;
            }
            h.again = false;
            h.work = 0;
            rc = hypercall_dispatch(&h);
        }
        if (h.again && rc == 0) {
            rc = -EBUSY;
        }
    }
    hypercall_trace(&h, arg, rc);
    if (h.no_result) {
        return;
    }
    v->cpu.gpr[CPU_RAX] = h.compat ? (uint32_t)rc : (uint64_t)rc;
}

bool pv_write_hypercall_msr(struct pv_domain *d, struct vcpu *v, uint64_t value)
{
    uint8_t page[MEM_PAGE_SIZE];

    if ((value & (MEM_PAGE_SIZE - 1)) != 0) {
        return false; /* there is one page, index 0 */
    }
    d->hypercall_page = value;
    if (v != NULL) {
        pv_shared_latch(d, v);
    }
    memset(page, 0xcc, sizeof(page));
    for (unsigned nr = 0; nr < HYPERCALL_PAGE_STUBS; nr++) {
        uint8_t *stub = page + (size_t)nr * HYPERCALL_STUB_SIZE;

        if (nr == __HYPERVISOR_iret) {
            stub[0] = 0x0f; /* ud2 */
            stub[1] = 0x0b;
            continue;
        }
        stub[0] = 0xb8; /* mov $nr, %eax */
        stub[1] = (uint8_t)nr;
        stub[2] = stub[3] = stub[4] = 0;
        memcpy(stub + 5, d->hypercall_insn, sizeof(d->hypercall_insn));
        stub[8] = 0xc3; /* ret */
    }
    return mem_write(d->mem, value, page, sizeof(page));
}
