/* SPDX-License-Identifier: MIT */
/*
 * The processor that a paravirtual kernel sees (xen-abi 3.8, 3.9): control and debug registers,
 * MSRs, I/O privilege, and the state a vCPU starts with.
 */
#include <errno.h>
#include "pv/guest_access.h"
#include "pv/hypercall.h"
#include "pv/pv_guest.h"
#include "pv/xen_abi.h"

#define CPU_PV_CR0                                                                             \
    ((uint64_t)CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM |   \
     CPU_CR0_PG)
#define CPU_PV_CR4       ((uint64_t)CPU_CR4_PAE | CPU_CR4_MCE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT)
#define CPU_PV_EFER      ((uint64_t)CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE)
#define CPU_PV_PAT       0x0000050100070406ull
#define CPU_DR6_FIXED    0xffff0ff0ull
#define CPU_DR6_WRITABLE 0x0000e00full
#define CPU_DR7_FIXED    0x400ull
#define CPU_DR7_WRITABLE 0xffff2bffull
#define CPU_DR7_GD       (1ull << 13)
#define CPU_DR7_ENABLED  0xffull /* L0, G0 to L3, G3 */

enum { CPU_IO_PORTS = 65536, DR7_IO = 2 };

enum cpu_msr {
    MSR_APIC_BASE = 0x1b,
    MSR_PAT = 0x277,
    MSR_MISC_ENABLE = 0x1a0,
};
#define MSR_EFER           0xc0000080u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

/* --- I/O -------------------------------------------------------------------------------- */

/* A port is allowed when its bits in the guest's bitmap are clear. */
static bool cpu_io_bitmap(struct pv_domain *d, struct vcpu *v, uint16_t port, unsigned size)
{
    const struct pv_cpu *pc = pv_cpu_of(d, v);

    for (unsigned i = port; i < port + size; i++) {
        uint8_t bits;

        if (i >= pc->io_bitmap_ports ||
            !pv_kernel_copy(d, v, pc->io_bitmap_gva + i / 8, &bits, 1, false) ||
            (bits >> i % 8 & 1) != 0) {
            return false;
        }
    }
    return true;
}

/* CLI and STI (size 0) are harmless: they change nothing. */
bool pv_io_allowed(struct pv_domain *d, struct vcpu *v, uint16_t port, unsigned size)
{
    if (pv_cpu_of(d, v)->iopl >= (v->cpu.pv_kernel ? 1 : 3)) {
        return true;
    }
    return size != 0 && cpu_io_bitmap(d, v, port, size);
}

static int64_t cpu_set_iopl(struct hypercall *h)
{
    struct physdev_set_iopl op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.iopl > 3) {
        return -EINVAL;
    }
    pv_cpu_of(h->d, h->v)->iopl = op.iopl;
    return 0;
}

static int64_t cpu_set_io_bitmap(struct hypercall *h)
{
    struct pv_cpu *pc = pv_cpu_of(h->d, h->v);
    struct physdev_set_iobitmap op;

    if (!guest_read(h->v, h->arg[1], &op, sizeof(op))) {
        return -EFAULT;
    }
    if (op.nr_ports > CPU_IO_PORTS || !pv_guest_address((uint64_t)(uintptr_t)op.bitmap.p)) {
        return -EINVAL;
    }
    pc->io_bitmap_gva = (uint64_t)(uintptr_t)op.bitmap.p;
    pc->io_bitmap_ports = op.nr_ports;
    return 0;
}

int64_t pv_op_physdev(struct hypercall *h)
{
    switch ((uint32_t)h->arg[0]) {
    case PHYSDEVOP_set_iopl:
        return cpu_set_iopl(h);
    case PHYSDEVOP_set_iobitmap:
        return cpu_set_io_bitmap(h);
    case PHYSDEVOP_apic_read:
    case PHYSDEVOP_apic_write:
    case PHYSDEVOP_map_pirq:
        return -EPERM;
    case PHYSDEVOP_irq_status_query:
    case PHYSDEVOP_eoi:
    case PHYSDEVOP_unmap_pirq:
        return -EINVAL; /* there is no physical interrupt */
    default:
        return -ENOSYS;
    }
}

/* --- Control registers ------------------------------------------------------------------ */

bool pv_read_cr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t *value)
{
    switch (nr) {
    case 0:
        *value = v->cpu.cr0;
        return true;
    case 2:
        *value = __atomic_load_n(&pv_vcpu_info(d, v->id)->arch.cr2, __ATOMIC_RELAXED);
        return true;
    case 3:
        *value = pv_cpu_of(d, v)->kernel_root << MEM_PAGE_SHIFT;
        return true;
    case 4:
        *value = v->cpu.cr4;
        return true;
    default:
        return false;
    }
}

static void cpu_set_ts(struct vcpu *v, bool set)
{
    v->cpu.cr0 = set ? v->cpu.cr0 | CPU_CR0_TS : v->cpu.cr0 & ~(uint64_t)CPU_CR0_TS;
}

bool pv_write_cr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t value)
{
    const uint64_t settable = d->guest->cr4_settable;
    bool ok;

    switch (nr) {
    case 0:
        if (((value ^ v->cpu.cr0) & ~(uint64_t)CPU_CR0_TS) != 0) {
            return false;
        }
        cpu_set_ts(v, (value & CPU_CR0_TS) != 0);
        return true;
    case 2:
        __atomic_store_n(&pv_vcpu_info(d, v->id)->arch.cr2, value, __ATOMIC_RELAXED);
        pv_vcpu_info_written(d, v->id);
        return true;
    case 3:
        ok = pv_new_root(d, v, value >> MEM_PAGE_SHIFT, false) == 0;
        pv_guest_return_flush(d, v); /* pages that were writable may be tables now */
        return ok;
    case 4: /* the rest stays as it is, silently */
        v->cpu.cr4 = (v->cpu.cr4 & ~settable) | (value & settable);
        return true;
    default:
        return false;
    }
}

int64_t pv_op_fpu_taskswitch(struct hypercall *h)
{
    cpu_set_ts(h->v, h->arg[0] != 0);
    return 0;
}

/* --- Debug registers -------------------------------------------------------------------- */

/* DR4 and DR5 are other names of DR6 and DR7 unless CR4.DE is set. */
static bool cpu_dr_number(const struct vcpu *v, unsigned *nr)
{
    if (*nr == 4 || *nr == 5) {
        if ((v->cpu.cr4 & CPU_CR4_DE) != 0) {
            return false;
        }
        *nr += 2;
    }
    return *nr < 8;
}

bool pv_read_dr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t *value)
{
    if (!cpu_dr_number(v, &nr)) {
        return false;
    }
    *value = nr == 6   ? (v->cpu.dr[6] & CPU_DR6_WRITABLE) | CPU_DR6_FIXED
             : nr == 7 ? (v->cpu.dr[7] & CPU_DR7_WRITABLE) | CPU_DR7_FIXED
                       : v->cpu.dr[nr];
    return true;
}

/* As long as one is enabled, whichever, none may be for I/O without CR4.DE. */
static int cpu_write_dr7(struct vcpu *v, uint64_t value)
{
    if ((value & CPU_DR7_GD) != 0) {
        return -EPERM;
    }
    for (unsigned i = 0; i < 4 && (value & CPU_DR7_ENABLED) != 0; i++) {
        if ((value >> (16 + 4 * i) & 3) == DR7_IO && (v->cpu.cr4 & CPU_CR4_DE) == 0) {
            return -EPERM;
        }
    }
    v->cpu.dr[7] = (value & CPU_DR7_WRITABLE) | CPU_DR7_FIXED;
    return 0;
}

int pv_write_dr(struct pv_domain *d, struct vcpu *v, unsigned nr, uint64_t value)
{
    if (!cpu_dr_number(v, &nr)) {
        return -ENODEV;
    }
    if (nr < 4) {
        if (!pv_guest_address(value)) {
            return -EPERM;
        }
        v->cpu.dr[nr] = value;
    } else if (value > UINT32_MAX) {
        return -EINVAL;
    } else if (nr == 6) {
        v->cpu.dr[6] = (value & CPU_DR6_WRITABLE) | CPU_DR6_FIXED;
    } else {
        return cpu_write_dr7(v, value);
    }
    return 0;
}

int64_t pv_op_set_debugreg(struct hypercall *h)
{
    return h->arg[0] > 7 ? -ENODEV : pv_write_dr(h->d, h->v, (unsigned)h->arg[0], h->arg[1]);
}

int64_t pv_op_get_debugreg(struct hypercall *h)
{
    uint64_t value;

    if (h->arg[0] > 7 || !pv_read_dr(h->d, h->v, (unsigned)h->arg[0], &value)) {
        return -ENODEV;
    }
    return (int64_t)value;
}

/* --- MSRs ------------------------------------------------------------------------------- */

bool pv_rdmsr(struct pv_domain *d, struct vcpu *v, uint32_t index, uint64_t *value)
{
    switch (index) {
    case MSR_APIC_BASE:
        *value = 0xfee00800u | (v->id == 0 ? 0x100 : 0);
        return true;
    case MSR_PAT:
        *value = CPU_PV_PAT;
        return true;
    case MSR_EFER:
        *value = v->cpu.efer;
        return true;
    case MSR_FS_BASE:
        *value = v->cpu.seg[CPU_FS].base;
        return true;
    case MSR_GS_BASE:
        *value = v->cpu.seg[CPU_GS].base;
        return true;
    case MSR_KERNEL_GS_BASE:
        *value = v->cpu.kernel_gs_base;
        return true;
    case MSR_TSC_AUX:
        *value = v->cpu.tsc_aux;
        return true;
    default: /* nothing, as long as the kernel could not handle #GP */
        *value = 0;
        return pv_cpu_of(d, v)->gate[CPU_GP].address == 0;
    }
}

bool pv_wrmsr(struct pv_domain *d, struct vcpu *v, uint32_t index, uint64_t value)
{
    const bool address =
        index == MSR_FS_BASE || index == MSR_GS_BASE || index == MSR_KERNEL_GS_BASE;

    if (address && !pv_canonical(value)) {
        return false;
    }
    switch (index) {
    case MSR_FS_BASE:
        v->cpu.seg[CPU_FS].base = value;
        return true;
    case MSR_GS_BASE:
        v->cpu.seg[CPU_GS].base = value;
        return true;
    case MSR_KERNEL_GS_BASE:
        v->cpu.kernel_gs_base = value;
        return true;
    case MSR_EFER:
        return value == v->cpu.efer;
    case MSR_PAT:
        return value == CPU_PV_PAT;
    case MSR_TSC_AUX:
        v->cpu.tsc_aux = (uint32_t)value;
        return value >> 32 == 0;
    case MSR_MISC_ENABLE:
        return true;
    default:
        return pv_cpu_of(d, v)->gate[CPU_GP].address == 0;
    }
}

/* --- Starting --------------------------------------------------------------------------- */

void pv_cpu_init(struct cpu_x86 *cpu, bool xsave)
{
    cpu->rflags = CPU_IF | 2;
    cpu->cr0 = CPU_PV_CR0;
    cpu->cr4 = CPU_PV_CR4 | (xsave ? CPU_CR4_OSXSAVE : 0);
    cpu->efer = CPU_PV_EFER;
    cpu->pat = CPU_PV_PAT;
    cpu->xcr0 = 1;
    cpu->cpl = 3;
    cpu->pv_kernel = true;
    cpu->halted = false;
    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = (struct cpu_segment){.unusable = true};
    }
    pv_load_flat(cpu);
    cpu->ldtr = cpu->tr = (struct cpu_segment){.unusable = true};
    cpu->gdtr = cpu->idtr = (struct cpu_table){0, 0};
    cpu->kernel_gs_base = 0;
    cpu->dr[6] = CPU_DR6_FIXED;
    cpu->dr[7] = CPU_DR7_FIXED;
}
