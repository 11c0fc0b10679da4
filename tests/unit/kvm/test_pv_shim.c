/* SPDX-License-Identifier: MIT */
/*
 * The shim's own code, run by the interpreter on copies of its pages, and a kick after each of its
 * instructions: either nothing has happened yet, or all of it (cpu/kvm/pv_fast.c).
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "cpu/interp/interp.h"
#include "pv_test.h"

enum {
    L4_KERNEL = 0x1000, /* as pvt_entry has them */
    L4_USER = 0x2000,
    L3_LOW = 0x3000,
    L2_LOW = 0x4000,
    L3_SHIM = 0x5000,
    L2_SHIM = 0x6000,
    L1_SHIM = 0x7000,
    PAGES = 0x10000,    /* the shim's, by L1 index */
    CONTEXT = 0x70000,  /* struct iret_context */
    STACK = 0x80000,
    LOW_RAM = 1 << 20,
    STEPS = 200,
    TABLE = 3,
};
#define NX (1ull << 63)

static struct fake_board *steps_fb;
static struct vcpu *stepper;

/* --- the machine that steps --- */

static void put64(uint64_t at, uint64_t value)
{
    g_assert_true(mem_write(stepper->mem, at, &value, sizeof(value)));
}

static uint64_t get64(uint64_t at)
{
    uint64_t value;

    g_assert_true(mem_read(stepper->mem, at, &value, sizeof(value)));
    return value;
}

static void stepper_new(void)
{
    const struct vcpu_debug step = {.step = true};

    steps_fb = fake_board_new(1, LOW_RAM, 0);
    stepper = steps_fb->vcpus[0];
    stepper->model = model;
    stepper->accel = &interp_accel_ops;
    stepper->board_ops = v->board_ops;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t l4 = i == 0 ? L4_KERNEL : L4_USER;

        put64(l4, L3_LOW | TABLE);
        put64(l4 + 257 * 8, L3_SHIM | TABLE);
    }
    put64(L3_LOW, L2_LOW | TABLE);
    put64(L2_LOW, 0x83); /* 2 MiB as they are */
    put64(L3_SHIM, L2_SHIM | TABLE);
    put64(L2_SHIM, L1_SHIM | TABLE);
    g_assert_true(interp_accel_ops.vcpu_init(stepper, NULL));
    g_assert_true(interp_accel_ops.set_debug(stepper, &step, NULL));
}

static void stepper_free(void)
{
    interp_accel_ops.vcpu_fini(stepper);
    fake_board_free(steps_fb);
}

/* The page behind an L1 entry of the shim, as pvemu has it; NULL: none. */
static uint8_t *shim_page(unsigned index)
{
    uint64_t gpa = pvt_k->pv->l1[index] & 0xffffffffff000;

    return gpa < KVM_PV_SHIM_GPA ? NULL : pvt_k->vm->pv_shim + (gpa - KVM_PV_SHIM_GPA);
}

static void stepper_pages(bool back)
{
    for (unsigned i = 0; i <= KVM_PV_PAGE_INFO; i++) {
        uint8_t *page = shim_page(i);

        if (page == NULL) {
            continue;
        }
        if (back && i > KVM_PV_PAGE_CODE) {
            g_assert_true(mem_read(stepper->mem, PAGES + i * PAGE, page, PAGE));
        } else if (!back) {
            g_assert_true(mem_write(stepper->mem, PAGES + i * PAGE, page, PAGE));
            put64(L1_SHIM + i * 8, (PAGES + i * PAGE) | 0x63);
        }
    }
}

/* As the processor is after SYSCALL in the guest's present state. */
static void stepper_syscall(void)
{
    const struct cpu_x86 *guest = &v->cpu;
    struct cpu_x86 *cpu = &stepper->cpu;
    const struct kvm_pv_cpu *pv = pvt_k->pv;

    *cpu = *guest;
    cpu->gpr[CPU_RCX] = guest->rip;
    cpu->gpr[CPU_R11] = guest->rflags;
    cpu->rip = kvm_pv_code(pv, kvm_pv_shim_syscall);
    cpu->rflags = 2;
    cpu->cpl = 0;
    cpu->pv_kernel = false;
    cpu->seg[CPU_CS] = (struct cpu_segment){KVM_PV_CS0, 0xa09b, false, UINT32_MAX, 0};
    cpu->seg[CPU_SS] = (struct cpu_segment){KVM_PV_SS0, 0xc093, false, UINT32_MAX, 0};
    cpu->gdtr = (struct cpu_table){pv->linear, (KVM_PV_PAGE_XEN_GDT + 1) * PAGE - 1};
    cpu->star = (uint64_t)KVM_PV_CS0 << 32 | (uint64_t)KVM_PV_CS32 << 48;
    interp_accel_ops.state_changed(stepper);
}

static void stepper_to_kvm(void)
{
    const struct cpu_x86 *cpu = &stepper->cpu;
    const uint64_t *g = cpu->gpr;

    fake_kvm.regs = (struct kvm_regs){
        .rax = g[CPU_RAX], .rbx = g[CPU_RBX], .rcx = g[CPU_RCX], .rdx = g[CPU_RDX],
        .rsi = g[CPU_RSI], .rdi = g[CPU_RDI], .rsp = g[CPU_RSP], .rbp = g[CPU_RBP],
        .r8 = g[CPU_R8],   .r9 = g[CPU_R9],   .r10 = g[CPU_R10], .r11 = g[CPU_R11],
        .r12 = g[CPU_R12], .r13 = g[CPU_R13], .r14 = g[CPU_R14], .r15 = g[CPU_R15],
        .rip = cpu->rip,   .rflags = cpu->rflags,
    };
    fake_kvm.sregs.cs = kvm_segment_of(&cpu->seg[CPU_CS]);
    fake_kvm.sregs.ss = kvm_segment_of(&cpu->seg[CPU_SS]);
    fake_kvm.sregs.gs = kvm_segment_of(&cpu->seg[CPU_GS]);
    fake_kvm.sregs.cr3 = cpu->cr3;
}

/* --- one kick --- */

static unsigned steps_wanted, steps_made;

/* SYSCALL in the guest, and so many instructions of the shim; then somebody kicks. */
static void fill_steps(struct kvm_run *run)
{
    struct exit exit = {.kind = EXIT_DEBUG};

    stepper_pages(false);
    stepper_syscall();
    for (steps_made = 0; steps_made < steps_wanted && stepper->cpu.cpl == 0; steps_made++) {
        interp_accel_ops.run(stepper, &exit);
        g_assert_true(exit.kind == EXIT_DEBUG || exit.kind == EXIT_HALT);
        if (exit.kind == EXIT_HALT) {
            break; /* the entry stops */
        }
    }
    stepper_pages(true);
    stepper_to_kvm();
    vcpu_request(v, VCPU_REQ_STOP);
}

static void fill_gprs(struct cpu_x86 *cpu)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        cpu->gpr[i] = UINT64_C(0x1010101010101010) * (i + 1);
    }
}

static uint8_t *info(void)
{
    return (uint8_t *)mem_frame_hva(v->mem, pvt_entry.info_frame) + pvt_entry.info_offset;
}

struct outcome {
    bool called;          /* the hypervisor was asked */
    struct cpu_x86 cpu;   /* as it was then; as it is, when it was not */
    uint8_t mask;
};

/* The guest as `arrange` makes it, kicked after `steps` instructions. */
static struct outcome kick_after(unsigned steps, void (*arrange)(void))
{
    struct outcome got;

    pvt_setup();
    stepper_new();
    fill_gprs(&v->cpu);
    arrange();
    kvm_accel_ops.state_changed(v);
    steps_wanted = steps;
    kt_add(0, fill_steps)->ret = -EINTR;
    kvm_run_guest(v, &last);
    g_assert_cmpstr(last.message, ==, "");
    g_assert_cmpint(last.kind, ==, EXIT_KICK);
    g_assert_cmpuint(pvt_nr_calls, <=, 1);
    got.called = pvt_nr_calls == 1;
    if (got.called) {
        g_assert_cmpint(pvt_calls[0].what, ==, 's');
    }
    got.cpu = got.called ? pvt_calls[0].cpu : v->cpu;
    got.mask = info()[1];
    return got;
}

static void kick_done(void)
{
    stepper_free();
    pvt_teardown();
}

static void assert_gprs(const struct cpu_x86 *a, const struct cpu_x86 *b)
{
    for (unsigned i = 0; i < CPU_NR_GPR; i++) {
        g_assert_cmphex(a->gpr[i], ==, b->gpr[i]);
    }
    g_assert_cmphex(a->rip, ==, b->rip);
    g_assert_cmphex(a->rflags, ==, b->rflags);
}

/* Nothing has happened: as right after SYSCALL. */
static void assert_untouched(const struct outcome *got, void (*arrange)(void))
{
    struct cpu_x86 want = {.gpr = {0}};
    struct cpu_x86 saved = v->cpu;

    fill_gprs(&v->cpu);
    arrange();
    want = v->cpu;
    v->cpu = saved;
    want.gpr[CPU_RCX] = want.rip;
    want.gpr[CPU_R11] = want.rflags;
    assert_gprs(&got->cpu, &want);
    g_assert_cmpint(got->cpu.pv_kernel, ==, want.pv_kernel);
    g_assert_cmphex(got->cpu.seg[CPU_GS].base, ==, want.seg[CPU_GS].base);
    g_assert_cmphex(got->cpu.kernel_gs_base, ==, want.kernel_gs_base);
    g_assert_cmphex(got->cpu.cr3, ==, want.cr3);
    g_assert_cmphex(got->cpu.seg[CPU_CS].selector, ==, want.seg[CPU_CS].selector);
}

/* All of it: as behind it. */
static void assert_same(const struct outcome *got, const struct outcome *want)
{
    assert_gprs(&got->cpu, &want->cpu);
    g_assert_cmpint(got->cpu.pv_kernel, ==, want->cpu.pv_kernel);
    g_assert_cmphex(got->cpu.seg[CPU_GS].base, ==, want->cpu.seg[CPU_GS].base);
    g_assert_cmphex(got->cpu.kernel_gs_base, ==, want->cpu.kernel_gs_base);
    g_assert_cmphex(got->cpu.cr3, ==, want->cpu.cr3);
    g_assert_cmphex(got->cpu.seg[CPU_CS].selector, ==, want->cpu.seg[CPU_CS].selector);
    g_assert_cmphex(got->cpu.seg[CPU_SS].selector, ==, want->cpu.seg[CPU_SS].selector);
    g_assert_cmphex(got->mask, ==, want->mask);
}

/* A kick after each instruction. *way: as it ends without one, asserted by the caller. */
static unsigned kick_everywhere(void (*arrange)(void), const struct outcome *way)
{
    unsigned untouched = 0, done = 0;

    for (unsigned n = 0; n < STEPS; n++) {
        struct outcome got = kick_after(n, arrange);
        const bool end = steps_made < n;

        if (got.called) {
            assert_untouched(&got, arrange);
            untouched++;
        } else {
            assert_same(&got, way);
            done++;
        }
        kick_done();
        if (end) {
            g_assert_cmpuint(untouched, >, 10);
            return done;
        }
    }
    g_assert_not_reached();
}

/* --- a program's call --- */

static void arrange_call(void)
{
    v->cpu.pv_kernel = false;
    v->cpu.cr3 = pvt_entry.user_root;
    v->cpu.rip = 0x400002;
    v->cpu.rflags = 2 | CPU_IF | CPU_ZF | CPU_DF;
    v->cpu.seg[CPU_GS].base = 0x1111000;
    v->cpu.kernel_gs_base = 0x2222000;
    info()[0] = info()[1] = 0;
}

static void arrange_call_masks(void)
{
    arrange_call();
    pvt_entry.syscall_masks = true;
}

static void test_call(void)
{
    struct outcome way = kick_after(STEPS, arrange_call);
    static const struct cpu_x86 none;
    const struct cpu_x86 *cpu = &way.cpu;
    struct cpu_x86 before = none;

    fill_gprs(&before);
    g_assert_false(way.called);
    g_assert_true(cpu->pv_kernel);
    g_assert_cmphex(cpu->rip, ==, pvt_entry.syscall);
    g_assert_cmphex(cpu->cr3, ==, pvt_entry.kernel_root);
    g_assert_cmphex(cpu->seg[CPU_GS].base, ==, 0x2222000);
    g_assert_cmphex(cpu->kernel_gs_base, ==, 0x1111000);
    g_assert_cmphex(cpu->gpr[CPU_RAX], ==, before.gpr[CPU_RAX]);
    g_assert_cmphex(cpu->gpr[CPU_RDX], ==, before.gpr[CPU_RDX]);
    g_assert_cmphex(cpu->gpr[CPU_RSP], ==, STACK - 7 * 8);
    /* RCX, R11 and IRET's five, as Xen pushes them. */
    g_assert_cmphex(get64(STACK - 56), ==, 0x400002);
    g_assert_cmphex(get64(STACK - 48), ==, 2 | CPU_IF | CPU_ZF | CPU_DF);
    g_assert_cmphex(get64(STACK - 40), ==, 0x400002);
    g_assert_cmphex(get64(STACK - 32) & 0xffffffff, ==, KVM_PV_CS64);
    g_assert_cmphex(get64(STACK - 24), ==, 2 | CPU_IF | CPU_ZF | CPU_DF);
    g_assert_cmphex(get64(STACK - 16), ==, before.gpr[CPU_RSP]);
    g_assert_cmphex(get64(STACK - 8), ==, KVM_PV_DS);
    g_assert_cmpuint(way.mask, ==, 0);
    kick_done();
    g_assert_cmpuint(kick_everywhere(arrange_call, &way), >, 5);
    way = kick_after(STEPS, arrange_call_masks);
    g_assert_cmpuint(way.mask, ==, 1);
    kick_done();
    g_assert_cmpuint(kick_everywhere(arrange_call_masks, &way), >, 5);
}

/* --- the way back --- */

static void arrange_context(uint64_t flags)
{
    static const uint64_t frame[] = {0x400100, KVM_PV_CS64, 2 | CPU_IF | CPU_CF, 0x7ff000,
                                     KVM_PV_DS};

    v->cpu.rip = 0xffffffff81000100;
    v->cpu.rflags = 2 | CPU_ZF;
    v->cpu.gpr[CPU_RAX] = KVM_PV_HYPERCALL_IRET;
    v->cpu.gpr[CPU_RSP] = CONTEXT;
    v->cpu.seg[CPU_GS].base = 0x2222000;
    v->cpu.kernel_gs_base = 0x1111000;
    put64(CONTEXT, 0xa1);
    put64(CONTEXT + 8, 0xb1);
    put64(CONTEXT + 16, 0xc1);
    put64(CONTEXT + 24, flags);
    for (unsigned i = 0; i < G_N_ELEMENTS(frame); i++) {
        put64(CONTEXT + 32 + i * 8, frame[i]);
    }
    info()[0] = 0;
    info()[1] = 1;
}

static void arrange_back(void)
{
    arrange_context(0);
}

static void arrange_back_call(void) /* out of a system call: as by SYSRET */
{
    arrange_context(0x100);
}

static void arrange_back_event(void)
{
    arrange_context(0);
    info()[0] = 1;
}

static void arrange_back_masked(void)
{
    arrange_context(0);
    put64(CONTEXT + 48, 2);
}

static void check_back(void (*arrange)(void), uint64_t rcx, uint64_t r11)
{
    struct outcome way = kick_after(STEPS, arrange);
    const struct cpu_x86 *cpu = &way.cpu;

    g_assert_false(way.called);
    g_assert_false(cpu->pv_kernel);
    g_assert_cmphex(cpu->cr3, ==, pvt_entry.user_root);
    g_assert_cmphex(cpu->rip, ==, 0x400100);
    g_assert_cmphex(cpu->gpr[CPU_RSP], ==, 0x7ff000);
    g_assert_cmphex(cpu->gpr[CPU_RAX], ==, 0xa1);
    g_assert_cmphex(cpu->gpr[CPU_RCX], ==, rcx);
    g_assert_cmphex(cpu->gpr[CPU_R11], ==, r11);
    g_assert_cmphex(cpu->rflags, ==, 2 | CPU_IF | CPU_CF);
    g_assert_cmphex(cpu->seg[CPU_GS].base, ==, 0x1111000);
    g_assert_cmphex(cpu->kernel_gs_base, ==, 0x2222000);
    g_assert_cmpuint(way.mask, ==, 0);
    kick_done();
    g_assert_cmpuint(kick_everywhere(arrange, &way), >, 5);
}

static void test_back(void)
{
    check_back(arrange_back, 0xc1, 0xb1);
}

static void test_back_call(void)
{
    check_back(arrange_back_call, 0x400100, 2 | CPU_IF | CPU_CF);
}

/* What the shim leaves to the hypervisor: an event waits; events stay masked. */
static void test_back_refused(void)
{
    g_assert_cmpuint(kick_everywhere(arrange_back_event, NULL), ==, 0);
    g_assert_cmpuint(kick_everywhere(arrange_back_masked, NULL), ==, 0);
}

int main(int argc, char **argv)
{
    int ret;

    g_setenv("LC_ALL", "C", TRUE);
    g_test_init(&argc, &argv, NULL);
    model = cpu_model_new_host(NULL);
    g_test_add_func("/kvm/pv-shim/call", test_call);
    g_test_add_func("/kvm/pv-shim/back", test_back);
    g_test_add_func("/kvm/pv-shim/back-call", test_back_call);
    g_test_add_func("/kvm/pv-shim/back-refused", test_back_refused);
    ret = g_test_run();
    cpu_model_free(model);
    return ret;
}
