/* SPDX-License-Identifier: MIT */
/*
 * Paravirtual guests: what their processor does where a real one would enter CPL 0. The
 * instructions that a hypervisor has to emulate for a kernel at CPL 3 are carried out here,
 * with v->pv deciding about values; everything else keeps its behaviour at CPL 3, which for
 * privileged instructions is #GP(0).
 */
#include "cpu/x86/x86.h"

#include <string.h>

#include "cpu/x86/internal.h"

#define DR6_BS (1ull << 14)

static enum x86_pv_result pv_gp(struct x86_system *s, uint32_t error)
{
    x86_fault_gp(s->fault, error);
    return X86_PV_FAULT;
}

static enum x86_pv_result pv_done_or_gp(struct x86_system *s, bool ok)
{
    return ok ? X86_PV_DONE : pv_gp(s, 0);
}

static void pv_set_edx_eax(struct cpu_x86 *cpu, uint64_t value)
{
    cpu->gpr[CPU_RAX] = (uint32_t)value;
    cpu->gpr[CPU_RDX] = value >> 32;
}

static uint64_t pv_edx_eax(const struct cpu_x86 *cpu)
{
    return cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];
}

/* MOV to and from CRn and DRn. */
static enum x86_pv_result pv_control(struct x86_system *s)
{
    const struct vcpu_pv_ops *ops = s->v->pv;
    unsigned nr = x86_modrm_reg(s->in), rm = x86_modrm_rm(s->in);
    unsigned size = s->in->mode == INSN_MODE_64 ? 8 : 4;
    uint64_t value = x86_gpr_read(s->cpu, rm, size);
    bool debug = s->in->id == INSN_MOV_FROM_DR || s->in->id == INSN_MOV_TO_DR;

    if (s->in->id == INSN_MOV_TO_CR || s->in->id == INSN_MOV_TO_DR) {
        return pv_done_or_gp(s, debug ? ops->write_dr(s->v, nr, value)
                                      : ops->write_cr(s->v, nr, value));
    }
    if (!(debug ? ops->read_dr(s->v, nr, &value) : ops->read_cr(s->v, nr, &value))) {
        return pv_gp(s, 0);
    }
    x86_gpr_write(s->cpu, rm, size, value);
    return X86_PV_DONE;
}

static enum x86_pv_result pv_xsetbv(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t value = pv_edx_eax(cpu);

    if ((cpu->cr4 & CPU_CR4_OSXSAVE) == 0) {
        x86_fault_ud(s->fault);
        return X86_PV_FAULT;
    }
    if ((uint32_t)cpu->gpr[CPU_RCX] != 0 || (value & 1) == 0 ||
        (value & ~cpu_model_of(s->v)->xcr0_mask) != 0 || (value & 6) == 4) {
        return pv_gp(s, 0);
    }
    cpu->xcr0 = value;
    return X86_PV_DONE;
}

/* Intel says to write 0 to the microcode revision before it is read; on AMD's that is #GP. */
static bool pv_msr_forgotten(const struct x86_system *s, uint32_t index, uint64_t value)
{
    return index == MSR_UCODE_REV && value == 0 && !cpu_model_of(s->v)->amd;
}

/* Registers whose native values are what a PV kernel may see. */
static bool pv_msr_native(const struct x86_system *s, uint32_t index)
{
    switch (index) {
    case 0x10:  /* TSC */
    case 0x48:  /* SPEC_CTRL */
    case MSR_UCODE_REV:
    case 0xce:  /* platform info */
    case 0x10a: /* ARCH_CAPABILITIES */
    case 0x140: /* misc. features */
    case 0x179: /* MCG_CAP */
    case 0x17a:
    case 0x1a0: /* MISC_ENABLE */
        return true;
    default:
        return index >= 0xc0010000u && index <= 0xc001ffffu && cpu_model_of(s->v)->amd;
    }
}

enum { PRED_CMD_IBPB = 1 };

/* Those that CPUID offers and a kernel writes to. */
static bool pv_msr_speculation(uint32_t index)
{
    return index == MSR_SPEC_CTRL || index == MSR_PRED_CMD;
}

static enum x86_pv_result pv_write_speculation(struct x86_system *s, uint32_t index,
                                               uint64_t value)
{
    const struct accel_ops *accel = s->v->accel;
    bool ok = x86_wrmsr(s->v, index, value);

    if (ok && index == MSR_PRED_CMD && (value & PRED_CMD_IBPB) != 0 && accel != NULL &&
        accel->branch_barrier != NULL) {
        accel->branch_barrier(s->v);
    }
    return pv_done_or_gp(s, ok);
}

/* Privileged, and emulated for the kernel only. */
static enum x86_pv_result pv_privileged(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t value = 0;

    switch (s->in->id) {
    case INSN_MOV_FROM_CR:
    case INSN_MOV_TO_CR:
    case INSN_MOV_FROM_DR:
    case INSN_MOV_TO_DR:
        return pv_control(s);
    case INSN_CLTS:
        cpu->cr0 &= ~(uint64_t)CPU_CR0_TS;
        return X86_PV_DONE;
    case INSN_WBINVD:
    case INSN_WBNOINVD:
        return X86_PV_DONE;
    case INSN_RDMSR:
        if (!(pv_msr_native(s, (uint32_t)cpu->gpr[CPU_RCX]) &&
              x86_rdmsr(s->v, (uint32_t)cpu->gpr[CPU_RCX], &value)) &&
            !s->v->pv->rdmsr(s->v, (uint32_t)cpu->gpr[CPU_RCX], &value)) {
            return pv_gp(s, 0);
        }
        pv_set_edx_eax(cpu, value);
        return X86_PV_DONE;
    case INSN_WRMSR:
        value = pv_edx_eax(cpu);
        if (pv_msr_speculation((uint32_t)cpu->gpr[CPU_RCX])) {
            return pv_write_speculation(s, (uint32_t)cpu->gpr[CPU_RCX], value);
        }
        if (pv_msr_forgotten(s, (uint32_t)cpu->gpr[CPU_RCX], value)) {
            return X86_PV_DONE;
        }
        return pv_done_or_gp(s, s->v->pv->wrmsr(s->v, (uint32_t)cpu->gpr[CPU_RCX], value));
    case INSN_XSETBV:
        return pv_xsetbv(s);
    default:
        return X86_PV_NATIVE;
    }
}

static enum x86_pv_result pv_software_int(struct x86_system *s)
{
    uint8_t vector = s->in->id == INSN_INT    ? (uint8_t)s->in->imm
                     : s->in->id == INSN_INT3 ? CPU_BP
                                              : CPU_OVERFLOW;

    if (s->in->id == INSN_INTO && (s->cpu->rflags & CPU_OF) == 0) {
        return X86_PV_DONE;
    }
    if (!s->v->pv->software_int(s->v, vector, s->next_rip)) {
        return pv_gp(s, (uint32_t)vector * 8 + 2);
    }
    s->jumped = true;
    return X86_PV_DONE;
}

static enum x86_pv_result pv_syscall(struct x86_system *s)
{
    struct cpu_x86 *cpu = s->cpu;
    uint64_t rip = cpu->rip;

    if (!cpu_is_code64(cpu) && !cpu_model_of(s->v)->amd) {
        x86_fault_ud(s->fault);
        return X86_PV_FAULT;
    }
    cpu->rip = s->next_rip;
    s->jumped = true;
    if (!s->v->pv->syscall(s->v)) {
        cpu->rip = rip;
        x86_fault_ud(s->fault);
        return X86_PV_FAULT;
    }
    return X86_PV_DONE;
}

static enum x86_pv_result pv_sysenter(struct x86_system *s)
{
    if (cpu_model_of(s->v)->amd) {
        x86_fault_ud(s->fault);
        return X86_PV_FAULT;
    }
    s->jumped = true;
    return pv_done_or_gp(s, s->v->pv->sysenter(s->v));
}

enum x86_pv_result x86_pv_system_insn(struct x86_system *s)
{
    switch (s->in->id) {
    case INSN_SYSCALL:
        return pv_syscall(s);
    case INSN_SYSENTER:
        return pv_sysenter(s);
    case INSN_INT:
    case INSN_INT3:
    case INSN_INTO:
        return pv_software_int(s);
    case INSN_INT1:
        s->jumped = true;
        s->cpu->rip = s->next_rip;
        s->v->pv->trap(s->v, &(struct vcpu_trap){.vector = CPU_DB});
        return X86_PV_DONE;
    case INSN_CLI:
    case INSN_STI:
        return pv_done_or_gp(s, s->v->pv->io_allowed(s->v, 0, 0));
    case INSN_RDTSC:
    case INSN_RDTSCP:
        if ((s->cpu->cr4 & CPU_CR4_TSD) != 0 && s->cpu->pv_kernel) {
            pv_set_edx_eax(s->cpu, x86_tsc(s->v));
            if (s->in->id == INSN_RDTSCP) {
                s->cpu->gpr[CPU_RCX] = (uint32_t)s->cpu->tsc_aux;
            }
            return X86_PV_DONE;
        }
        return X86_PV_NATIVE;
    case INSN_VMCALL: /* no hardware virtual machine: as on a processor that runs none */
    case INSN_VMMCALL:
        x86_fault_ud(s->fault);
        return X86_PV_FAULT;
    default:
        return s->cpu->pv_kernel ? pv_privileged(s) : X86_PV_NATIVE;
    }
}

/* ud2a; .ascii "xen"; cpuid: the profile, where the bare instruction could show another. */
static bool pv_forced_cpuid(struct vcpu *v)
{
    static const uint8_t want[7] = {0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2};
    struct cpu_x86 *cpu = &v->cpu;
    struct x86_fault fault;
    uint8_t bytes[sizeof(want)];
    uint32_t out[4];

    if (!cpu_is_code64(cpu) || !x86_is_canonical(cpu->rip) ||
        !x86_is_canonical(cpu->rip + sizeof(bytes)) ||
        !x86_read_linear(v, cpu->rip, bytes, sizeof(bytes), X86_READ | X86_USER, &fault) ||
        memcmp(bytes, want, sizeof(want)) != 0) {
        return false;
    }
    x86_cpuid(v, (uint32_t)cpu->gpr[CPU_RAX], (uint32_t)cpu->gpr[CPU_RCX], out);
    cpu->gpr[CPU_RAX] = out[0];
    cpu->gpr[CPU_RBX] = out[1];
    cpu->gpr[CPU_RCX] = out[2];
    cpu->gpr[CPU_RDX] = out[3];
    cpu->rip += sizeof(bytes);
    return true;
}

static bool pv_write_fault(const struct vcpu *v, const struct x86_fault *fault)
{
    const uint32_t want = CPU_PFEC_P | CPU_PFEC_W;

    return fault->vector == CPU_PAGE_FAULT && v->cpu.pv_kernel &&
           (fault->error & (want | CPU_PFEC_RSVD | CPU_PFEC_I)) == want;
}

void x86_pv_stepped(struct vcpu *v, uint64_t rflags)
{
    if ((rflags & v->cpu.rflags & CPU_TF) != 0 && !v->cpu.halted) {
        v->pv->trap(v, &(struct vcpu_trap){.vector = CPU_DB, .dr6 = DR6_BS});
    }
}

/* false: the exception is the guest's. */
static bool pv_emulated(struct vcpu *v, const struct x86_fault *fault)
{
    uint64_t gpa;

    if (fault->vector == CPU_UD) {
        return pv_forced_cpuid(v);
    }
    return pv_write_fault(v, fault) && v->pv->table_page(v, fault->cr2, &gpa) &&
           x86_pv_table_write(v, fault->cr2, gpa);
}

void x86_pv_raise(struct vcpu *v, const struct x86_fault *fault)
{
    struct vcpu_trap trap = {.vector = fault->vector,
                             .has_error = fault->has_error,
                             .error = fault->error,
                             .cr2 = fault->cr2,
                             .dr6 = fault->dr6};

    if (pv_emulated(v, fault)) {
        v->cpu.rflags &= ~(uint64_t)CPU_RF; /* a fault's */
        x86_pv_stepped(v, v->cpu.rflags);
        return;
    }
    v->pv->trap(v, &trap);
}
