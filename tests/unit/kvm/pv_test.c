/* SPDX-License-Identifier: MIT */
/* See pv_test.h. */
#include "pv_test.h"

#include <errno.h>
#include <string.h>

struct pvt_call pvt_calls[PVT_CALLS];
unsigned pvt_nr_calls;
bool pvt_refuse;
struct vcpu_pv_entry pvt_entry;
struct kvm_engine *pvt_k;

/* --- the hypervisor --- */

static struct pvt_call *pvt_note(struct vcpu *cpu, char what)
{
    struct pvt_call *call = &pvt_calls[pvt_nr_calls++];

    g_assert_cmpuint(pvt_nr_calls, <=, PVT_CALLS);
    *call = (struct pvt_call){.what = what, .cpu = cpu->cpu};
    return call;
}

static void pvt_trap(struct vcpu *cpu, const struct vcpu_trap *trap)
{
    pvt_note(cpu, 't')->trap = *trap;
    cpu->cpu.rip = PVT_HANDLER;
}

static bool pvt_syscall(struct vcpu *cpu)
{
    pvt_note(cpu, 's');
    cpu->cpu.halted = hypercall_sleeps;
    return !pvt_refuse;
}

static bool pvt_sysenter(struct vcpu *cpu)
{
    pvt_note(cpu, 'S');
    return !pvt_refuse;
}

static void pvt_event(struct vcpu *cpu)
{
    pvt_note(cpu, 'e');
}

static bool pvt_descriptor(struct vcpu *cpu, uint16_t selector, uint64_t *raw)
{
    *raw = selector == KVM_PV_CS64 ? 0x00affb000000ffff : 0x00cff3000000ffff;
    return selector != 0;
}

static void pvt_gdt(struct vcpu *cpu, uint64_t *mfns)
{
    memset(mfns, 0, VCPU_PV_GDT_FRAMES * sizeof(*mfns));
    mfns[0] = 5;
}

static void pvt_get_entry(struct vcpu *cpu, struct vcpu_pv_entry *entry)
{
    *entry = pvt_entry;
}

static const struct vcpu_pv_ops pvt_ops = {
    .trap = pvt_trap, .syscall = pvt_syscall, .sysenter = pvt_sysenter, .event = pvt_event,
    .descriptor = pvt_descriptor, .gdt = pvt_gdt, .entry = pvt_get_entry,
};

/* --- arrange --- */

static void pvt_kernel(struct cpu_x86 *cpu)
{
    const struct cpu_segment code = {KVM_PV_CS64, 0xa0fb, false, UINT32_MAX, 0};
    const struct cpu_segment data = {KVM_PV_DS, 0xc0f3, false, UINT32_MAX, 0};

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        cpu->seg[i] = i == CPU_CS ? code : data;
    }
    cpu->cr0 = CPU_CR0_PG | CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP;
    cpu->cr3 = pvt_entry.kernel_root;
    cpu->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    cpu->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_SCE | CPU_EFER_NXE;
    cpu->rip = PVT_RIP;
    cpu->rflags = 2 | CPU_IF;
    cpu->gpr[CPU_RSP] = 0x9000;
    cpu->cpl = 3;
    cpu->pv_kernel = true;
    cpu->xcr0 = 3;
}

void pvt_setup_new(void)
{
    kt_setup();
    memset(pvt_calls, 0, sizeof(pvt_calls));
    pvt_nr_calls = 0;
    pvt_refuse = false;
    pvt_entry = (struct vcpu_pv_entry){
        .kernel_root = 0x1000, .user_root = 0x2000, .stack = 0x80000,
        .syscall = 0xffffffff81000000, .plain_iret = true, .info_frame = 3, .info_offset = 0x40,
    };
    v->pv = &pvt_ops;
    pvt_k = v->engine;
    pvt_kernel(&v->cpu);
}

void pvt_setup(void)
{
    pvt_setup_new();
    pvt_run_to_kick();
    atomic_store(&v->request, 0);
    fake_kvm.nr_exits = fake_kvm.next_exit = 0;
}

void pvt_teardown(void)
{
    v->pv = NULL;
    kt_teardown();
}

/* --- act --- */

void pvt_at_shim(const uint8_t *at)
{
    fake_kvm.regs.rip = kvm_pv_code(pvt_k->pv, at);
    fake_kvm.sregs.cs.selector = KVM_PV_CS0;
    fake_kvm.sregs.ss.dpl = 0;
}

void pvt_at_guest(uint64_t rip)
{
    fake_kvm.regs.rip = rip;
    fake_kvm.sregs.cs = kvm_segment_of(&v->cpu.seg[CPU_CS]);
    fake_kvm.sregs.ss = kvm_segment_of(&v->cpu.seg[CPU_SS]);
}

void pvt_vector(unsigned vector, const struct kvm_pv_frame *frame)
{
    const struct kvm_pv_cpu *pv = pvt_k->pv;
    uint8_t *top = vector == CPU_DB ? pv->stack2 + PAGE / 2
                   : vector == CPU_NMI || vector == CPU_DOUBLE_FAULT || vector == CPU_MC
                       ? pv->stack2 + PAGE
                       : pv->stack + PAGE;

    memcpy(top - sizeof(*frame), frame, sizeof(*frame));
    pvt_at_shim(kvm_pv_shim + (size_t)vector * KVM_PV_VECTOR_BYTES + 1); /* behind the HLT */
}

void pvt_fill_stop(struct kvm_run *run)
{
    pvt_at_shim(kvm_pv_shim_iret);
    vcpu_request(v, VCPU_REQ_STOP);
}

void pvt_run_to_kick(void)
{
    kt_add(0, pvt_fill_stop)->ret = -EINTR;
    kvm_run_guest(v, &last);
    g_assert_cmpstr(last.message, ==, "");
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_cmpuint(fake_kvm.next_exit, ==, fake_kvm.nr_exits);
}
