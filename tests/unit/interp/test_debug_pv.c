/* SPDX-License-Identifier: MIT */
/*
 * A debugger's stops in a paravirtual guest, under a hypervisor that notes what it is asked. The
 * same for every engine; on KVM (tests/kvm) points may be refused, in words.
 */
#include "cpu/kvm/kvm.h"
#include "debug_test.h"

enum {
    SEL_CODE = 0xe033, /* Xen's flat segments */
    SEL_DATA = 0xe02b,
    HANDLER = G_CODE + 0x800, /* where every trap goes on */
    CALLBACK = G_CODE + 0x900, /* and a program's SYSCALL */
    INFO_FRAME = 0x300,
    INFO_MASK = INFO_FRAME * MEM_PAGE_SIZE + 0x41, /* evtchn_upcall_mask */
    SHIM_SLOT = 257, /* of the L4 table */
    OP_HLT = 0xf4,
    XEN_IRET = 23,
};

static struct vcpu_trap last_trap;
static unsigned traps, syscalls;
static uint64_t trap_rip, trap_rflags;
static struct vcpu_pv_entry entry;

/* --- the hypervisor --- */

static void pv_trap(struct vcpu *v, const struct vcpu_trap *trap)
{
    uint8_t byte = 0;

    mem_read(v->mem, v->cpu.rip, &byte, 1);
    if (trap->vector == CPU_GP && byte == OP_HLT) {
        v->cpu.rip++;
        v->cpu.halted = true;
        return;
    }
    last_trap = *trap;
    traps++;
    trap_rip = v->cpu.rip;
    trap_rflags = v->cpu.rflags;
    v->cpu.rflags &= ~(uint64_t)CPU_TF;
    v->cpu.rip = HANDLER;
}

/* A hypercall, or a program's call. */
static bool pv_syscall(struct vcpu *v)
{
    syscalls++;
    trap_rflags = v->cpu.rflags;
    if (!v->cpu.pv_kernel) {
        v->cpu.pv_kernel = true;
        v->cpu.rip = CALLBACK;
        v->cpu.rflags &= ~(uint64_t)CPU_TF;
    } else if (v->cpu.gpr[CPU_RAX] == XEN_IRET) {
        v->cpu.pv_kernel = false;
        v->cpu.rip = G_CODE + v->cpu.gpr[CPU_RDI];
    } else {
        v->cpu.gpr[CPU_RAX] += 1000;
    }
    return true;
}

static bool pv_software_int(struct vcpu *v, uint8_t vector, uint64_t next_rip)
{
    const struct vcpu_trap trap = {.vector = vector};

    v->cpu.rip = next_rip;
    pv_trap(v, &trap);
    return true;
}

static bool pv_descriptor(struct vcpu *v, uint16_t selector, uint64_t *raw)
{
    (void)v;
    *raw = selector == SEL_CODE ? 0x00affb000000ffff : 0x00cff3000000ffff;
    return selector != 0;
}

static void pv_gdt(struct vcpu *v, uint64_t *mfns)
{
    (void)v;
    memset(mfns, 0, VCPU_PV_GDT_FRAMES * sizeof(*mfns));
}

static void pv_entry(struct vcpu *v, struct vcpu_pv_entry *e)
{
    (void)v;
    *e = entry;
}

static bool pv_io_allowed(struct vcpu *v, uint16_t port, unsigned size)
{
    (void)v, (void)port, (void)size;
    return true;
}

static const struct vcpu_pv_ops pv_ops = {
    .trap = pv_trap, .syscall = pv_syscall, .software_int = pv_software_int,
    .descriptor = pv_descriptor, .gdt = pv_gdt, .entry = pv_entry, .io_allowed = pv_io_allowed,
};

/* --- arrange --- */

/* In the guest's kernel. */
static struct guest *pv_new(void)
{
    const struct cpu_segment code = {SEL_CODE, 0xa0fb, false, UINT32_MAX, 0};
    const struct cpu_segment data = {SEL_DATA, 0xc0f3, false, UINT32_MAX, 0};
    struct guest *g = guest_new();

    for (unsigned i = 0; i < CPU_NR_SEG; i++) {
        g->cpu->seg[i] = i == CPU_CS ? code : data;
    }
    guest_write64(g, G_PML4 + SHIM_SLOT * 8, KVM_PV_L4_ENTRY);
    g->cpu->cr4 &= ~(uint64_t)CPU_CR4_PGE;
    g->cpu->cpl = 3;
    g->cpu->pv_kernel = true;
    g->cpu->rflags |= CPU_IF;
    g->cpu->dr[6] = 0xffff0ff0;
    g->cpu->dr[7] = 0x400;
    entry = (struct vcpu_pv_entry){.kernel_root = G_PML4, .user_root = G_PML4,
                                   .info_frame = MEM_HOLE};
    traps = syscalls = 0;
    last_trap = (struct vcpu_trap){0};
    g->v->pv = &pv_ops;
    interp_accel_ops.state_changed(g->v);
    return g;
}

static void pv_steps(struct guest *g, const uint16_t *at, unsigned n)
{
    const struct vcpu_debug step = {.step = true};

    g_assert_true(debug_set(g, &step));
    for (unsigned i = 0; i < n; i++) {
        debug_step(g, at[i]);
        g_assert_cmphex(g->cpu->rflags & CPU_TF, ==, 0);
    }
}

/* --- steps --- */

GUEST_CODE(step_code, "movl $1, %eax\n"       /* 0 */
                      "addl $2, %eax\n"       /* 5 */
                      "movl %eax, 0x200000\n" /* 8 */
                      "outb %al, $0x80\n"     /* 15: carried out by the hypervisor */
                      "1: loop 1b\n"          /* 17 */
                      "syscall\n"             /* 19 */
                      "pushq $0x202\n"        /* 21 */
                      "popfq\n"               /* 26 */
                      "ud2\n"                 /* 27 */
                      "hlt");
static void test_step(void)
{
    static const uint16_t at[] = {5, 8, 15, 17, 17, 17, 19, 21, 26, 27, HANDLER - G_CODE};
    struct guest *g = pv_new();

    g->cpu->gpr[CPU_RCX] = 3;
    g->ram[HANDLER] = OP_HLT;
    GUEST_LOAD(g, step_code);
    pv_steps(g, at, G_N_ELEMENTS(at));
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1003);
    g_assert_cmpuint(guest_read64(g, G_DATA), ==, 3);
    g_assert_cmpuint(syscalls, ==, 1);
    g_assert_cmpint(last_trap.vector, ==, CPU_UD);
    g_assert_cmphex(trap_rip, ==, G_CODE + 27);
    g_assert_cmphex(trap_rflags & CPU_TF, ==, 0);
    g_assert_true(debug_set(g, NULL));
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(traps, ==, 1);
    g->cpu->rip = G_CODE;
    g->cpu->gpr[CPU_RCX] = 1000;
    guest_run(g, EXIT_HALT); /* runs through */
    g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, 1003);
    guest_free(g);
}

GUEST_CODE(program_code, "syscall\n"        /* 0: the kernel's iret */
                         "nop\nnop\nnop\n"
                         "syscall\n"        /* 5: the program's call */
                         "nop");
/* From the kernel to a program and back, where the engine might do it by itself. */
static void test_step_program(void)
{
    static const uint16_t at[] = {4, 5, CALLBACK - G_CODE, CALLBACK - G_CODE + 1};
    struct guest *g = pv_new();

    entry.syscall = CALLBACK;
    entry.stack = G_STACK;
    entry.plain_iret = true;
    entry.info_frame = INFO_FRAME;
    entry.info_offset = 0x40;
    g->ram[CALLBACK] = 0x90;
    g->cpu->gpr[CPU_RAX] = XEN_IRET;
    g->cpu->gpr[CPU_RDI] = 4;
    GUEST_LOAD(g, program_code);
    pv_steps(g, at, 1);
    g_assert_false(g->cpu->pv_kernel);
    pv_steps(g, at + 1, 2);
    g_assert_true(g->cpu->pv_kernel);
    g_assert_cmphex(trap_rflags & CPU_TF, ==, 0);
    g_assert_cmphex(g->cpu->gpr[CPU_R11] & CPU_TF, ==, 0);
    pv_steps(g, at + 3, 1);
    g_assert_cmpuint(syscalls, ==, 2);
    guest_free(g);
}

GUEST_CODE(flag_code, "pushq $0x302\n" /* 0 */
                      "popfq\n"        /* 5 */
                      "nop\n"          /* 6 */
                      "nop\n"          /* 7 */
                      "hlt");          /* 8 */
/* The guest steps itself: it gets its own #DB, and sees none of the debugger's. */
static void test_own_step(void)
{
    const struct vcpu_debug step = {.step = true};
    struct guest *g = pv_new();

    g->ram[HANDLER] = OP_HLT;
    GUEST_LOAD(g, flag_code);
    g_assert_true(debug_set(g, &step));
    debug_step(g, 5);
    debug_step(g, 6);
    g_assert_cmphex(g->cpu->rflags & CPU_TF, ==, CPU_TF);
    g_assert_cmpuint(traps, ==, 0);
    debug_step(g, HANDLER - G_CODE);
    g_assert_cmpuint(traps, ==, 1);
    g_assert_cmpint(last_trap.vector, ==, CPU_DB);
    g_assert_cmphex(last_trap.dr6, ==, 0x4000);
    g_assert_cmphex(trap_rip, ==, G_CODE + 7);
    g_assert_cmphex(trap_rflags & CPU_TF, ==, CPU_TF);
    g_assert_true(debug_set(g, NULL));
    guest_run(g, EXIT_HALT);
    g->cpu->rip = G_CODE; /* without a debugger the same */
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(traps, ==, 2);
    g_assert_cmphex(trap_rip, ==, G_CODE + 7);
    guest_free(g);
}

/* --- breakpoints --- */

GUEST_CODE(int3_code, "nop\nint3\nnop\nhlt");
static void test_int3(void)
{
    const struct vcpu_debug int3 = {.int3 = true};
    struct guest *g = pv_new();

    g->ram[HANDLER] = OP_HLT;
    GUEST_LOAD(g, int3_code);
    guest_run(g, EXIT_HALT); /* QEMU's AMD-V spoils the first one (docs/kvm.md) */
    traps = 0;
    g->cpu->rip = G_CODE;
    g_assert_true(debug_set(g, &int3)); /* everywhere */
    debug_run(g, VCPU_STOP_INT3, 1);
    debug_run(g, VCPU_STOP_INT3, 1); /* as long as it is there */
    g->cpu->rip++;
    interp_accel_ops.state_changed(g->v);
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(traps, ==, 0);
    g_assert_true(debug_set(g, NULL));
    g->cpu->rip = G_CODE;
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(traps, ==, 1); /* the guest's own again */
    g_assert_cmpint(last_trap.vector, ==, CPU_BP);
    guest_free(g);
}

GUEST_CODE(point_code, "movl $5, %ecx\n"          /* 0 */
                       "1: incl %eax\n"           /* 5 */
                       "loop 1b\n"                /* 7 */
                       "movl 0x200000, %eax\n"    /* 9 */
                       "movw %ax, 0x200004\n"     /* 16 */
                       "hlt");                    /* 24 */
static void test_points(void)
{
    const struct vcpu_debug points = {.nr_points = 3,
                                      .points = {{VCPU_POINT_EXEC, 0, G_CODE + 7},
                                                 {VCPU_POINT_ACCESS, 4, G_DATA},
                                                 {VCPU_POINT_WRITE, 2, G_DATA + 4}}};
    struct guest *g = pv_new();

    g->cpu->gpr[CPU_RAX] = 0;
    GUEST_LOAD(g, point_code);
    if (!debug_set(g, &points)) {
        guest_run(g, EXIT_HALT);
        guest_free(g);
        return;
    }
    for (unsigned i = 1; i <= 5; i++) {
        const uint16_t next = i < 5 ? 5 : 9;

        g->cpu->rflags |= CPU_RF; /* of an earlier fault: it hits in spite of it */
        interp_accel_ops.state_changed(g->v);
        g_assert_true(debug_set(g, &points));
        debug_run(g, VCPU_STOP_POINT, 7);
        g_assert_cmpuint(g->cpu->gpr[CPU_RAX], ==, i);
        pv_steps(g, &next, 1); /* over it */
    }
    g_assert_true(debug_set(g, &points));
    debug_run(g, VCPU_STOP_POINT << 1, 16);
    debug_run(g, VCPU_STOP_POINT << 2, 24);
    guest_run(g, EXIT_HALT);
    g_assert_cmpuint(traps, ==, 0);
    guest_free(g);
}

/* --- written pages --- */

GUEST_CODE(dirty_code, "movb $1, 0x203000\n" /* 0 */
                       "syscall\n"           /* 8: iret to 10 */
                       "movb $1, 0x205000\n" /* 10: the program */
                       "syscall");           /* 18: to the callback */

static bool is_dirty(struct guest *g, uint64_t gpa)
{
    struct mem *mem = g->fb->board.mem;
    _Atomic uint8_t *flags = (_Atomic uint8_t *)&mem_frame_info(mem, mem_gfn_frame(mem, gpa >> 12))->flags;
    const bool dirty = (*flags & MEM_DIRTY) != 0;

    *flags &= (uint8_t)~MEM_DIRTY;
    return dirty;
}

/* Also what the engine itself writes to the guest's memory for it: struct vcpu_info. */
static void test_dirty(void)
{
    static const uint64_t written[] = {0x203000, 0x205000, INFO_MASK};
    struct guest *g = pv_new();

    if (interp_accel_ops.dirty_log == NULL) {
        g_test_skip("the engine sets MEM_DIRTY itself");
        guest_free(g);
        return;
    }
    entry.syscall = CALLBACK;
    entry.stack = G_STACK;
    entry.plain_iret = entry.syscall_masks = true;
    entry.info_frame = INFO_FRAME;
    entry.info_offset = 0x40;
    g->ram[CALLBACK] = OP_HLT;
    g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_START, NULL));
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t gpa = 0; gpa < G_RAM; gpa += MEM_PAGE_SIZE) {
            is_dirty(g, gpa);
        }
        g->ram[INFO_MASK] = 0;
        g->cpu->gpr[CPU_RAX] = XEN_IRET;
        g->cpu->gpr[CPU_RDI] = 10;
        g->cpu->rflags = 2 | CPU_IF;
        GUEST_LOAD(g, dirty_code);
        interp_accel_ops.state_changed(g->v);
        entry.plain_iret = false; /* the iret is this file's */
        guest_run(g, EXIT_HALT);
        g_assert_cmpint(g->ram[INFO_MASK], ==, 1); /* done by the shim */
        g_assert_cmpuint(syscalls, ==, round + 1);
        g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_READ, NULL));
        for (unsigned i = 0; i < G_N_ELEMENTS(written); i++) {
            g_assert_true(is_dirty(g, written[i]));
        }
        g_assert_false(is_dirty(g, 0x210000));
    }
    g_assert_true(interp_accel_ops.dirty_log(g->v, VCPU_DIRTY_STOP, NULL));
    guest_free(g);
}

int main(int argc, char **argv)
{
    if (!guest_tests(&argc, &argv)) {
        return g_test_run();
    }
    g_test_add_func("/debug-pv/step", test_step);
    g_test_add_func("/debug-pv/step-program", test_step_program);
    g_test_add_func("/debug-pv/own-step", test_own_step);
    g_test_add_func("/debug-pv/int3", test_int3);
    g_test_add_func("/debug-pv/points", test_points);
    g_test_add_func("/debug-pv/dirty", test_dirty);
    return g_test_run();
}
